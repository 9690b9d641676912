"""What canaryd takes back of a cluster, on the sandbox's API server and on a real one: nothing that is not
its own."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.cleanup import KubeCleanup, Patch
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.adapters.kube.virtualservice import IstioTraffic
from canaryd.domain.ports import Conflict, KnownTemplates
from canaryd.domain.rollout import Phase, Record
from canaryd.routing import route_lists
from tests.adapters.kube.api_servers import ISTIO, Place
from tests.adapters.kube.test_virtualservice import ROUTE, V1, setup, spec_of, to
from tests.builders import NOW, a_rollout

SUBSETS = "canaryd.dev/subsets"


def rule(place: Place) -> dict[str, Any]:
    return place.get(ISTIO, "destinationrules", "front-end")


def steered(place: Place, weight: int = 10) -> KubeCleanup:
    """The use case's routes, with v2 at a weight and a subset that canaryd added."""
    traffic, policy = setup(place), place.policy()
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.split(view.lists, traffic.add_subset(policy, "v2"), weight))
    return KubeCleanup(place.api)


def due(place: Place, cleaner: KubeCleanup, version: str = "v1") -> list[Patch]:
    policy = place.policy()
    patches = cleaner.routes(policy, cleaner.view(policy), version)
    return [*patches, *cleaner.subsets(policy, cleaner.uses(policy, patches))[0]]


def test_a_subset_that_canaryd_adds_is_noted_in_the_same_write_and_a_persons_annotations_stay(
    place: Place,
) -> None:
    traffic, policy = setup(place), place.policy()
    place.edit(
        ISTIO,
        "destinationrules",
        "front-end",
        lambda obj: obj["metadata"].update(annotations={"team": "shop"}),
    )
    before = int(rule(place)["metadata"]["generation"])
    traffic.add_subset(policy, "v2")
    assert rule(place)["metadata"]["annotations"] == {"team": "shop", SUBSETS: "v2"}
    assert int(rule(place)["metadata"]["generation"]) == before + 1
    traffic.add_subset(policy, "v3")
    assert rule(place)["metadata"]["annotations"][SUBSETS] == "v2,v3"


def test_a_subset_that_is_used_as_it_is_there_is_not_noted(place: Place) -> None:
    setup(place).add_subset(place.policy(), "v1")
    assert SUBSETS not in (rule(place)["metadata"].get("annotations") or {})


def test_routes_and_rule_end_as_they_began(place: Place) -> None:
    cleaner = steered(place)
    for patch in due(place, cleaner):
        cleaner.write(patch)
    assert spec_of(place) == {"hosts": ["*"], "http": [{"route": [to()]}]}
    assert rule(place)["spec"] == {"host": "front-end", "subsets": [V1]}
    assert not rule(place)["metadata"].get("annotations")
    assert due(place, cleaner) == []


def test_a_dry_run_answers_with_what_would_be_and_keeps_nothing(place: Place) -> None:
    cleaner = steered(place)
    before = spec_of(place), rule(place)
    changes = [cleaner.write(patch, dry=True) for patch in due(place, cleaner)]
    assert [change.kind for change in changes] == ["VirtualService", "DestinationRule"]
    after = [change.after for change in changes]
    assert after[0] is not None
    assert after[0]["spec"]["http"] == [{"route": [to()]}]
    assert (spec_of(place), rule(place)) == before


def test_what_was_made_for_split_users_goes_with_their_route(place: Place) -> None:
    traffic, policy = (
        IstioTraffic(place.api, settle=0.0),
        place.policy(
            stages=[{"match": {"headers": {"x": {"exact": "a"}}}, "split": "half"}, {"weight": 100}],
            analysis={"reporter": "source"},
        ),
    )
    setup(place)
    place.put(
        "v1",
        "services",
        {
            "kind": "Service",
            "metadata": {"name": "front-end"},
            "spec": {"selector": {"app": "front-end"}, "ports": [{"port": 80}]},
        },
    )
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.staged(policy, 0, view, view.lists, canary))
    cleaner = KubeCleanup(place.api)
    assert {mark.obj["metadata"]["name"] for mark in cleaner.marks(place.namespace)} == {"front-end"}, (
        "what is deleted is not unmarked"
    )
    found = [*due(place, cleaner), *cleaner.split(policy)]
    assert [(one.kind, one.obj["metadata"]["name"]) for one in found if one.operations is None] == [
        ("Service", "front-end-canaryd-match"),
        ("DestinationRule", "front-end-canaryd-match"),
    ]
    for patch in found:
        cleaner.write(patch)
    assert spec_of(place) == {"hosts": ["*"], "http": [{"route": [to()]}]}
    assert cleaner.split(policy) == cleaner.split(namespace=place.namespace) == []


@pytest.mark.parametrize("plural", ["virtualservices", "destinationrules"])
def test_an_edit_in_between_is_a_conflict_and_stays(place: Place, plural: str) -> None:
    cleaner = steered(place)
    kind, name = {
        "virtualservices": ("VirtualService", "sockshop"),
        "destinationrules": ("DestinationRule", "front-end"),
    }[plural]
    (patch,) = (one for one in due(place, cleaner) if one.kind == kind)
    place.edit(ISTIO, plural, name, lambda obj: obj["metadata"].update(labels={"edited": "yes"}))
    theirs = place.get(ISTIO, plural, name)
    with pytest.raises(Conflict):
        cleaner.write(patch)
    assert place.get(ISTIO, plural, name) == theirs


def test_own_routes_before_and_after_the_steered_ones_go_in_one_write(place: Place) -> None:
    own = [
        {"name": f"canaryd-{at}", "match": [{"uri": {"prefix": f"/{at}"}}], "route": [to("v2")]}
        for at in range(3)
    ]
    theirs = {"name": "beta", "match": [{"uri": {"prefix": "/b"}}], "route": [to()]}
    setup(place, own[0], theirs, own[1], {"route": [to(weight=90), to("v2", weight=10)]}, own[2])
    cleaner = KubeCleanup(place.api)
    (patch,) = cleaner.routes(place.policy(), cleaner.view(place.policy()), "v1")
    cleaner.write(patch)
    assert spec_of(place)["http"] == [theirs, {"route": [to()]}]


def test_named_routes_are_brought_to_one_version(place: Place) -> None:
    setup(
        place,
        {"name": "a", "match": [{"uri": {"prefix": "/a"}}], "route": [to(weight=50), to("v2", weight=50)]},
        {"route": [to()]},
        subsets=[V1, {"name": "v2", "labels": {"version": "v2"}}],
    )
    cleaner, policy = KubeCleanup(place.api), place.policy(route={**ROUTE, "http": ["a"]})
    (patch,) = cleaner.routes(policy, cleaner.view(policy), "v2")
    cleaner.write(patch)
    assert [one["route"] for one in spec_of(place)["http"]] == [[to("v2")], [to()]]


def test_every_mark_and_object_of_canaryds_is_found_and_nobody_elses(place: Place) -> None:
    cleaner = steered(place)
    rollouts, services = KubeRollouts(place.api), KubeServices(place.api)
    rollouts.create(Record(a_rollout(namespace=place.namespace, phase=Phase.ROLLED_BACK, ended=NOW)))
    services.remember(place.policy(), KnownTemplates(frozenset({"v1/a"})))
    place.put(
        "v1",
        "configmaps",
        {"metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "Helm"}}},
    )
    marked = {"name": "web", "labels": {"canaryd.dev/x": "y", "app": "web"}}
    place.put("v1", "services", {"metadata": marked, "spec": {"ports": [{"port": 80}]}})
    assert {leftover.kind for leftover in cleaner.leftovers(place.namespace)} == {
        "CanaryRollout",
        "ConfigMap",
    }
    assert {mark.kind for mark in cleaner.marks(place.namespace)} == {"Service", "DestinationRule"}
    for patch in [*cleaner.marks(place.namespace), *cleaner.leftovers(place.namespace)]:
        cleaner.write(patch)
    assert [*cleaner.marks(place.namespace), *cleaner.leftovers(place.namespace)] == []
    assert place.get("v1", "services", "web")["metadata"]["labels"] == {"app": "web"}
    assert place.get("v1", "configmaps", "theirs")
    assert cleaner.records(place.namespace) == []


def test_a_record_that_was_written_in_between_is_a_conflict_and_stays(place: Place) -> None:
    rollouts = KubeRollouts(place.api)
    record = rollouts.create(Record(a_rollout(namespace=place.namespace, phase=Phase.ROLLED_BACK, ended=NOW)))
    cleaner = KubeCleanup(place.api)
    (kept,) = cleaner.records(place.namespace)
    rollouts.wish(place.namespace, record.rollout.name, attempt=2)
    with pytest.raises(Conflict):
        cleaner.write(cleaner.record(kept))
    (kept,) = cleaner.records(place.namespace)
    cleaner.write(cleaner.record(kept))
    cleaner.write(cleaner.record(kept))  # gone already is no error
    assert cleaner.records(place.namespace) == []


def test_the_note_says_where_routes_are_and_is_outdated_when_the_policy_says_otherwise(place: Place) -> None:
    services, policy = KubeServices(place.api), place.policy(mode="observe")
    services.remember(policy, KnownTemplates(frozenset({"v1/a"})))
    (note,) = services.notes(place.namespace)
    noted = note.policy()
    assert noted is not None
    assert (noted.route, noted.mode, noted.service) == (policy.route, policy.mode, policy.service)
    assert not services.known(policy).outdated
    moved = place.policy(mode="observe", route={**ROUTE, "http": ["main"]})
    assert services.known(moved).outdated
    services.remember(moved, services.known(moved))
    assert not services.known(moved).outdated
    assert services.known(moved).templates == {"v1/a"}


def test_renewing_a_note_keeps_a_pause_and_is_a_conflict_when_it_was_written_in_between(place: Place) -> None:
    services, policy = KubeServices(place.api), place.policy()
    services.remember(policy, KnownTemplates(frozenset({"v1/a", "v2/b"}), problem="split"))
    services.pause(True, namespace=place.namespace)
    (note,) = services.notes(place.namespace)
    services.renew(note, frozenset({"v1/a"}), dry=True)
    assert services.known(policy).templates == {"v1/a", "v2/b"}
    services.renew(note, frozenset({"v1/a"}))
    kept = services.known(policy)
    assert (kept.templates, kept.paused, kept.problem) == ({"v1/a"}, True, "")
    with pytest.raises(Conflict):
        services.renew(note, frozenset())


def test_traffic_is_steered_as_before_after_a_reset(place: Place) -> None:
    cleaner = steered(place)
    for patch in due(place, cleaner):
        cleaner.write(patch)
    traffic, policy = IstioTraffic(place.api, settle=0.0), place.policy()
    view = traffic.read(policy)
    assert traffic.add_subset(policy, "v2") == "v2"
    assert (
        route_lists.described(traffic.write(policy, view, route_lists.split(view.lists, "v2", 10)).lists)
        == "v1 90%, v2 10%"
    )
