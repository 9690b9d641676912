"""Rollouts on the API server: created once, saved with a precondition, asked for, refused, and never lost to
a bad neighbour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollout_object import API_VERSION, PLURAL
from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import MERGE_PATCH, path_to
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.domain.counts import Counts
from canaryd.domain.ports import Conflict, Gathering, KnownTemplates, Missing, Rejected, Request, Unavailable
from canaryd.domain.rollout import ActionRequest, Announcement, Decision, DesiredActions, Phase, Record
from canaryd.domain.verdict import Answer, MetricFinding
from tests.adapters.kube.api_servers import REAL, Place
from tests.builders import a_rollout, a_verdict, with_entrance


def a_record(place: Place, name: str = "front-end-v2-abc", **changes: Any) -> Record:
    return Record(a_rollout(name=name, namespace=place.namespace, policy=place.policy(), **changes))


def a_rich_record(place: Place) -> Record:
    finding = MetricFinding(
        "errors",
        "errors",
        Answer.FAIL,
        1,
        900,
        30,
        100,
        27.0,
        9.5,
        80.25,
        1.1,
        2.0,
        1e300,
        100.0,
        0.1,
        says="0.1% ≪ 30%",
    )
    verdict = a_verdict(Answer.FAIL, odds=float("inf"), findings=(finding,))
    record = a_record(
        place,
        verdict=verdict,
        counted={"front-end-v2-1": Counts(5, 1, 4, (1, 2), 12.5)},
        counted_to=1_800_000_010,
    )
    rollout = record.rollout
    place_of = {
        "namespace": place.namespace,
        "service": "front-end",
        "rollout": rollout.name,
        "stable": "v1",
        "canary": "v2",
    }
    told = Announcement(
        "id-1",
        "started",
        1.8e9,
        **place_of,
        stage=0,
        weight=10,
        reason="why",
        verdict=verdict,
        delivered=("oncall",),
    )
    decided = Decision(1_800_000_000.123456, "fail", Phase.ROLLING_BACK, 0, 0, "harm", verdict)
    return record.with_rollout(
        replace(
            with_entrance(rollout, confirmed=rollout.entrance.route.origin),
            decisions=(decided,),
            announcements=(told,),
        )
    )


def listed(rollouts: KubeRollouts, place: Place) -> list[Record]:
    return [one for one in rollouts.list() if one.rollout.namespace == place.namespace]


def asked(rollouts: KubeRollouts, place: Place) -> list[Request]:
    rollouts.list()
    return [request for request in rollouts.requests() if request.namespace == place.namespace]


def wish(place: Place, spec: dict[str, Any], name: str = "front-end-v2-abc") -> None:
    place.api.request(
        "PATCH", path_to(API_VERSION, PLURAL, place.namespace, name), {"spec": spec}, content_type=MERGE_PATCH
    )


def test_a_record_is_stored_and_read_back_equal(place: Place) -> None:
    record = a_rich_record(place)
    created = KubeRollouts(place.api).create(record)
    assert created.rollout == record.rollout
    assert created.uid
    assert listed(KubeRollouts(place.api), place) == [created]


def test_creating_twice_returns_the_one_that_is_there(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    created = rollouts.create(a_record(place))
    assert rollouts.create(a_record(place, reason="another")) == created


def test_a_save_is_seen_by_the_next_list_and_by_others(place: Place) -> None:
    ours, theirs = KubeRollouts(place.api), KubeRollouts(place.api)
    record = ours.create(a_record(place))
    assert listed(theirs, place) == [record]
    saved = ours.save(record.with_rollout(replace(record.rollout, weight=25, stage=1)))
    assert saved.rollout.weight == 25
    assert listed(ours, place) == listed(theirs, place) == [saved]


def test_what_is_no_longer_there_is_gone_from_the_record(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    record = rollouts.create(a_record(place, counted={"a": Counts(1), "b": Counts(2)}, held=None))
    rollouts.save(record.with_rollout(with_entrance(record.rollout, counted={"b": Counts(3)})))
    assert listed(KubeRollouts(place.api), place)[0].rollout.entrance.counted == {"b": Counts(3)}


def test_a_verb_in_between_is_a_conflict_and_its_wish_is_seen(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    record = rollouts.create(a_record(place))
    rollouts.wish(place.namespace, record.rollout.name, hold=True, approved_stage=1)
    with pytest.raises(Conflict):
        rollouts.save(record)
    [again] = listed(rollouts, place)
    assert again.wishes == DesiredActions(hold=True, approved_stage=1)
    assert again.rollout == record.rollout
    rollouts.save(again)


def test_saving_leaves_what_people_wrote(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    rollouts.create(a_record(place))
    wish(place, {"resumed": 3})
    [record] = listed(rollouts, place)
    rollouts.save(record.with_rollout(replace(record.rollout, weight=50)))
    assert rollouts.get(place.namespace, record.rollout.name)["spec"]["resumed"] == 3


def test_a_wish_can_be_bound_to_what_was_read(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    record = rollouts.create(a_record(place))
    rollouts.wish(place.namespace, record.rollout.name, record.resource_version, resumed=1)
    with pytest.raises(Conflict):
        rollouts.wish(place.namespace, record.rollout.name, record.resource_version, resumed=2)
    with pytest.raises(ValueError, match="dance"):
        rollouts.wish(place.namespace, record.rollout.name, dance=True)


def test_who_asked_for_a_wish_is_kept_beside_it_until_someone_else_asks(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    name = rollouts.create(a_record(place)).rollout.name
    alice = ActionRequest("alice", 1_800_000_000.5, "the database is down")
    rollouts.wish(place.namespace, name, requests={"hold": alice}, hold=True)
    assert listed(rollouts, place)[0].wishes == DesiredActions(hold=True, requests={"hold": alice})
    rollouts.wish(place.namespace, name, requests={"hold": ActionRequest("bob"), "abort": None}, hold=True)
    [record] = listed(rollouts, place)
    assert record.wishes.requests == {"hold": ActionRequest("bob")}
    rollouts.save(record.with_rollout(replace(record.rollout, weight=50)))
    rollouts.wish(place.namespace, name, requests={"hold": None}, hold=False)
    assert rollouts.get(place.namespace, name)["spec"]["requests"] == {}
    assert listed(rollouts, place)[0].wishes == DesiredActions()


def test_who_asked_for_a_rollout_to_begin_is_kept_when_it_has_begun(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    alice = ActionRequest("alice", 1_800_000_000.0, "once more")
    rollouts.ask(Request(place.namespace, "front-end", "v2", "mine", asked=alice))
    [request] = asked(rollouts, place)
    assert request.asked == alice
    assert rollouts.create(a_record(place, "mine")).wishes.request("start") == alice


def test_a_service_note_says_who_paused_it_as_long_as_it_is_paused(place: Place) -> None:
    services = KubeServices(place.api)
    services.remember(place.policy(), KnownTemplates(frozenset()))
    alice = ActionRequest("alice", 1_800_000_000.0, "release freeze")
    [note] = services.pause(True, "front-end", place.namespace, alice)
    assert (note.paused, note.pause_request) == (True, alice)
    known = services.known(place.policy())
    services.remember(place.policy(), replace(known, templates=frozenset({"v1/a"})))
    [note] = services.notes(place.namespace)
    assert note.pause_request == alice
    [note] = services.pause(False, "front-end", place.namespace)
    assert (note.paused, note.pause_request) == (False, ActionRequest())


def test_an_object_without_status_is_a_request_until_it_is_begun(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    request = Request(place.namespace, "front-end", "v2", "mine")
    rollouts.ask(request)
    assert asked(rollouts, place) == [request]
    assert listed(rollouts, place) == []
    wish(place, {"hold": True}, "mine")
    begun = rollouts.create(a_record(place, name="mine"))
    assert begun.wishes.hold
    assert asked(rollouts, place) == []
    assert listed(KubeRollouts(place.api), place) == [begun]


def test_an_object_whose_making_was_cut_off_is_told_from_what_a_person_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts, record = KubeRollouts(place.api), a_record(place)

    def dies(record: Record) -> Record:
        raise Unavailable("the process died here")

    monkeypatch.setattr(rollouts, "save", dies)
    with pytest.raises(Unavailable):
        rollouts.create(record)
    after = KubeRollouts(place.api)
    [left] = asked(after, place)
    assert (left.name, left.version, left.begun) == (record.rollout.name, "v2", True)
    assert after.create(record).rollout == record.rollout
    assert asked(after, place) == []


def test_a_refused_request_is_answered_and_no_longer_asked(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    request = Request(place.namespace, "front-end", "v9", "mine")
    rollouts.ask(request)
    assert asked(rollouts, place) == [request]
    rollouts.refuse(request, "there is no Deployment of v9")
    assert asked(rollouts, place) == []
    assert listed(KubeRollouts(place.api), place) == []
    assert rollouts.get(place.namespace, "mine")["status"]["refused"] == "there is no Deployment of v9"


def test_a_record_that_cannot_be_understood_is_told_once_and_hides_no_other(place: Place) -> None:
    told: list[tuple[str, str]] = []
    rollouts = KubeRollouts(place.api, lambda name, why: told.append((name, why)))
    good, bad = rollouts.create(a_record(place)), rollouts.create(a_record(place, name="bad"))

    def edit(obj: dict[str, Any]) -> None:
        del obj["status"]["policy"]["stages"]

    place.edit(API_VERSION, PLURAL, "bad", edit, "status")
    for _ in range(3):
        assert listed(rollouts, place) == [good]
    [(name, why)] = [one for one in told if one[0].startswith(place.namespace)]
    assert name == f"{place.namespace}/bad"
    assert "stages" in why
    with pytest.raises(Rejected, match="cannot be understood"):
        rollouts.create(bad)


def test_many_changes_at_once_are_all_seen(place: Place) -> None:
    ours, theirs = KubeRollouts(place.api), KubeRollouts(place.api)
    ours.list()
    made = [theirs.create(a_record(place, name=f"r-{number}", began=float(number))) for number in range(8)]
    assert listed(ours, place) == made
    assert listed(ours, place) == made


def test_deleting_is_seen_and_may_be_repeated(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    record = rollouts.create(a_record(place))
    rollouts.delete(record)
    assert listed(rollouts, place) == []
    rollouts.delete(record)
    with pytest.raises(Missing):
        rollouts.save(record)


@pytest.mark.parametrize("place", [REAL], indirect=True)  # the sandbox has no schemas
@pytest.mark.parametrize("spec", [{"attempt": 0}, {"hold": "yes"}, {"version": "v3"}, {"approvedStage": -2}])
def test_nonsense_in_the_spec_is_refused_by_the_server(place: Place, spec: dict[str, Any]) -> None:
    KubeRollouts(place.api).create(a_record(place))
    with pytest.raises(
        Rejected, match=f"spec.*{next(iter(spec)) if 'version' not in spec else 'stay as they are'}"
    ):
        wish(place, spec)


# ---------------------------------------------------------------- what is kept about a service


def test_a_service_never_seen_is_told_from_one_without_templates(place: Place) -> None:
    rollouts, policy = KubeRollouts(place.api), place.policy()
    assert rollouts.known(policy) == KnownTemplates(frozenset())
    kept = rollouts.remember(policy, KnownTemplates(frozenset()))
    assert kept.resource_version
    assert rollouts.known(policy) == kept


def test_templates_are_remembered_with_a_precondition(place: Place) -> None:
    rollouts, policy = KubeRollouts(place.api), place.policy()
    first = rollouts.remember(policy, KnownTemplates(frozenset({"v1/abc"})))
    second = rollouts.remember(
        policy, replace(first, templates=first.templates | {"v2/def"}, problem="no subset")
    )
    assert rollouts.known(policy) == second
    assert (second.templates, second.problem) == (frozenset({"v1/abc", "v2/def"}), "no subset")
    with pytest.raises(Conflict):
        rollouts.remember(policy, first)
    with pytest.raises(Conflict):
        rollouts.remember(policy, KnownTemplates(frozenset()))
    place.api.request("DELETE", path_to("v1", "configmaps", place.namespace, "canaryd-front-end"))
    with pytest.raises(Conflict, match="deleted in between"):
        rollouts.remember(policy, second)


def test_what_gathers_is_kept_until_it_does_no_more(place: Place) -> None:
    rollouts, services, policy = KubeRollouts(place.api), KubeServices(place.api), place.policy()
    waits = Gathering(
        frozenset({"production/front-end v2/abc"}),
        1_800_000_000.25,
        "front-end-v2 waits up to 2m for new versions of carts",
    )
    first = rollouts.remember(policy, KnownTemplates(frozenset(), gathering=waits))
    assert rollouts.known(policy) == first
    [note] = services.notes(place.namespace)
    assert first.gathering == note.gathering == waits
    services.renew(note, frozenset())
    assert rollouts.known(policy).gathering is None
    again = rollouts.remember(policy, replace(rollouts.known(policy), gathering=waits))
    rollouts.remember(policy, replace(again, gathering=None))
    assert rollouts.known(policy).gathering is None
    assert (
        "gathering"
        not in place.api.request("GET", path_to("v1", "configmaps", place.namespace, "canaryd-front-end"))[
            "data"
        ]
    )


@pytest.mark.parametrize(
    "text",
    ["soon", "[]", '{"versions": 3, "since": 1, "says": ""}', '{"versions": [], "since": "now", "says": ""}'],
)
def test_what_gathers_and_someone_made_unreadable_is_gathered_anew(place: Place, text: str) -> None:
    rollouts, policy = KubeRollouts(place.api), place.policy()
    rollouts.remember(policy, KnownTemplates(frozenset({"v1/abc"})))
    place.edit("v1", "configmaps", "canaryd-front-end", lambda obj: obj["data"].update(gathering=text))
    assert (rollouts.known(policy).gathering, rollouts.known(policy).templates) == (None, {"v1/abc"})


def test_a_pause_is_seen_by_the_daemon_and_not_overwritten(place: Place) -> None:
    rollouts, services, policy = KubeRollouts(place.api), KubeServices(place.api), place.policy()
    before = rollouts.remember(policy, KnownTemplates(frozenset({"v1/abc"})))
    [note] = services.pause(True, "front-end", place.namespace)
    assert (note.service, note.paused, dict(note.selector), note.version_label) == (
        "front-end",
        True,
        {"app": "front-end"},
        "version",
    )
    with pytest.raises(Conflict):
        rollouts.remember(policy, before)
    assert rollouts.known(policy).paused
    assert rollouts.known(policy).templates == {"v1/abc"}
    services.pause(False, namespace=place.namespace)
    assert not rollouts.known(policy).paused


def test_pausing_an_unknown_service_names_the_known_ones(place: Place) -> None:
    KubeRollouts(place.api).remember(place.policy(), KnownTemplates(frozenset()))
    with pytest.raises(Missing, match=f"has seen: {place.namespace}/front-end"):
        KubeServices(place.api).pause(True, "carts", place.namespace)


def test_a_note_made_unreadable_is_named(place: Place) -> None:
    rollouts, policy = KubeRollouts(place.api), place.policy()
    rollouts.remember(policy, KnownTemplates(frozenset()))

    def edit(obj: dict[str, Any]) -> None:
        obj["data"]["known"] = "v1, v2"

    place.edit("v1", "configmaps", "canaryd-front-end", edit)
    with pytest.raises(Rejected, match=r"data\.known must be a JSON list, but is 'v1, v2'"):
        rollouts.known(policy)
