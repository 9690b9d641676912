"""Several services as one rollout: the same ladder, one verdict, one record, and an order in which routes are
safely written."""

from dataclasses import replace
from typing import Any

import pytest

from canaryd.domain.ports import Request, Unavailable
from canaryd.domain.rollout import Held, Phase, ServiceRollout
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination, a_policy
from tests.control.bracket_world import Bracket
from tests.control.daemon_on_fakes import always
from tests.fakes import Crash

UNDECIDED = {"front-end": always(Answer.UNDECIDED), "carts": always(Answer.UNDECIDED)}
HOOKS = [{"on": ["started", "advanced", "rolled_back", "succeeded", "superseded"], "notify": "oncall"}]


def test_good_versions_of_both_go_up_together_the_called_one_first() -> None:
    daemon = Bracket().begun()
    assert daemon.weights() == [10, 10]
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert [part.lists for part in daemon.parts.values()] == [{"#0": (a_destination("v2"),)}] * 2 + [ORIGIN]
    assert daemon.writes == ["carts", "front-end"] * 5
    assert len(daemon.rollouts.records) == 1
    assert (rollout.name, rollout.keys) == (
        "front-end-v2-hash-front-end-v2",
        (("production", "front-end"), ("production", "carts")),
    )
    events = [news.event for news in rollout.announcements]
    assert events == ["started", "advanced", "advanced", "advanced", "advanced", "succeeded"]
    assert {news.versions for news in rollout.announcements} == {"front-end v1 to v2 and carts v1 to v2"}
    assert [sorted(part.counted) for part in rollout.services] == [
        ["front-end-v1-a", "front-end-v2-a"],
        ["carts-v1-a", "carts-v2-a"],
    ]


@pytest.mark.parametrize("bad", ["front-end", "carts"])
def test_harm_of_either_sends_both_back_the_caller_first(bad: str) -> None:
    other = "carts" if bad == "front-end" else "front-end"
    daemon = Bracket(scripts={bad: always(Answer.FAIL), other: always(Answer.UNDECIDED)}).begun()
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.writes == ["carts", "front-end", "front-end", "carts"]
    assert daemon.rollout.reason == f"{bad}: the evidence says fail"
    assert daemon.weights("v1") == [100, 100]
    told = next(news for news in daemon.rollout.announcements if news.event == "rolled_back")
    assert (told.service, told.reason) == ("front-end", f"{bad}: the evidence says fail")


def test_a_stage_passes_when_every_service_has_passed_it() -> None:
    daemon = Bracket(
        scripts={"carts": lambda end, span: Answer.PASS if end - span.start >= 200 else Answer.UNDECIDED}
    ).begun()
    daemon.run(150)
    assert daemon.weights() == [10, 10]
    daemon.run(100)
    assert daemon.weights() == [25, 25]


def test_an_alarm_at_full_weight_steps_both_back_the_caller_first() -> None:
    daemon = Bracket().begun()
    daemon.run_until(lambda r: r.weight == 100 and r.span is not None and r.span.weight == 100)
    daemon.scripts["carts"] = always(Answer.ALARM)
    daemon.run_until(lambda r: r.weight == 50)
    assert daemon.writes[-2:] == ["front-end", "carts"]
    assert daemon.weights() == [50, 50]


# ---------------------------------------------------------------- which versions


def test_it_waits_for_the_others_and_begins_with_those_that_came() -> None:
    daemon = Bracket("carts", "stock", gather="60s").run()
    daemon.deploy("v2", "front-end")
    daemon.run(40)
    assert not daemon.rollouts.records
    says = "front-end-v2 waits up to 1m for new versions of carts and stock"
    assert {note.gathering.says for note in daemon.rollouts.notes.values() if note.gathering} == {says}
    daemon.deploy("v2", "stock")
    daemon.run(55)
    assert not daemon.rollouts.records, "from the youngest version on"
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert rollout.keys == (("production", "front-end"), ("back", "stock"))
    assert [note.gathering for note in daemon.rollouts.notes.values()] == [None] * 3
    assert daemon.weights() == [100, 0]
    assert daemon.parts["stock"].weight("v2") == 100


def test_a_restart_gathers_on_from_when_the_youngest_version_was_seen() -> None:
    daemon = Bracket("carts", "stock", gather="60s").run()
    daemon.deploy("v2", "stock")
    daemon.run(30)
    daemon.deploy("v2", "front-end")
    daemon.run(40)
    daemon.restart()
    daemon.run(15)
    assert not daemon.rollouts.records
    daemon.run(10)
    assert daemon.rollout.service_names == ("front-end", "stock")


def test_a_version_that_came_while_the_process_was_away_has_its_time_too() -> None:
    daemon = Bracket("carts", "stock", gather="60s").run()
    daemon.deploy("v2", "front-end")
    daemon.run(40)
    daemon.clock.at += 600
    daemon.deploy("v2", "stock")
    daemon.restart()
    daemon.run(50)
    assert not daemon.rollouts.records
    daemon.run(15)
    assert daemon.rollout.service_names == ("front-end", "stock")


def test_a_clock_that_is_set_back_does_not_gather_for_ever() -> None:
    daemon = Bracket(gather="60s").run()
    daemon.deploy("v2", "carts")
    daemon.run(20)
    daemon.clock.at -= 3600
    daemon.run(70)
    assert daemon.rollout.entrance.name == "carts"


def test_a_pause_does_not_gather_anew() -> None:
    daemon = Bracket(gather="60s").run()
    rollouts: Any = daemon.rollouts
    daemon.deploy("v2", "carts")
    daemon.run(20)
    rollouts.notes["carts"] = replace(rollouts.notes["carts"], paused=True)
    daemon.run(60)
    assert not rollouts.records
    rollouts.notes["carts"] = replace(rollouts.notes["carts"], paused=False)
    daemon.run(10)
    assert daemon.rollout.entrance.name == "carts"


def test_what_was_gathered_begins_at_once_when_what_kept_it_is_mended() -> None:
    daemon = Bracket(gather="60s").run()
    daemon.parts["carts"].edit({"#0": (a_destination("v1", 50), a_destination("v0", 50))})
    daemon.deploy("v2", "carts")
    daemon.run(90)
    assert "route #0 is split" in daemon.rollouts.notes["carts"].problem
    daemon.parts["carts"].edit({"#0": (a_destination("v1", 100),)})
    daemon.run(10)
    assert daemon.rollout.entrance.name == "carts"


def test_a_version_that_stays_alone_is_a_rollout_like_any_other() -> None:
    daemon = Bracket().run()
    daemon.deploy("v2", "carts")
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert (rollout.entrance.name, rollout.name, rollout.is_bracket, rollout.policy.bracket) == (
        "carts",
        "carts-v2-hash-carts-v2",
        False,
        None,
    )
    assert rollout.policy.analysis.false_rollback_risk == 0.01
    assert daemon.weights() == [0, 100]


def test_a_service_that_has_no_deployment_yet_keeps_the_others_from_nothing() -> None:
    daemon = Bracket("carts", "stock", gather="1h")
    daemon.parts["stock"].workloads.clear()
    daemon.run()
    daemon.deploy()
    daemon.run_until(lambda r: r.weight == 10)
    assert daemon.rollout.service_names == ("front-end", "carts")
    daemon.deploy("v1", "stock")
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.run(60)
    assert len(daemon.rollouts.records) == 1, "its first version is not new"
    daemon.deploy("v3", "front-end", "carts", "stock")
    assert daemon.run_until(lambda r: r.entrance.canary == "v3").service_names == (
        "front-end",
        "carts",
        "stock",
    )


def test_with_new_versions_of_all_it_begins_at_once() -> None:
    daemon = Bracket(gather="1h").run()
    daemon.deploy()
    daemon.run(10)
    assert daemon.rollout.entrance.canary == "v2"


def test_a_version_of_a_service_that_is_not_under_way_waits_for_the_end() -> None:
    daemon = Bracket().run()
    daemon.deploy("v2", "front-end")
    daemon.run_until(lambda r: r.weight == 10)
    daemon.deploy("v2", "carts")
    assert daemon.ends_as(Phase.SUCCEEDED).entrance.name == "front-end"
    daemon.run_until(lambda r: r.entrance.name == "carts" and r.phase is Phase.SUCCEEDED)
    assert daemon.weights() == [100, 100]


def test_a_newer_version_supersedes_the_whole_which_begins_again_with_it() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.deploy("v3", "carts")
    rollout = daemon.run_until(lambda r: r.is_bracket and r.services[1].canary == "v3")
    assert (rollout.entrance.canary, rollout.attempt, rollout.name) == (
        "v2",
        2,
        "front-end-v2-hash-front-end-v2-2",
    )
    first = min((record.rollout for record in daemon.rollouts.records.values()), key=lambda one: one.began)
    assert (first.phase, first.reason) == (
        Phase.SUPERSEDED,
        "carts-v3 (v3) came while front-end v2 and carts v2 was being rolled out",
    )
    daemon.scripts.clear()
    daemon.ends_as(Phase.SUCCEEDED)
    assert (daemon.parts["front-end"].weight("v2"), daemon.parts["carts"].weight("v3")) == (100, 100)
    daemon.run(300)
    assert len(daemon.rollouts.records) == 2


def test_newer_versions_of_all_that_come_one_after_the_other_are_one_rollout() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.deploy("v3", "front-end")
    daemon.run(20)
    assert daemon.rollout.phase is Phase.SUPERSEDED
    daemon.deploy("v3", "carts")
    daemon.scripts.clear()
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert (rollout.entrance.canary, rollout.services[1].canary) == ("v3", "v3")
    assert len(daemon.rollouts.records) == 2, "v3 of one was never beside v2 of the other"


def test_what_was_rolled_back_stays_so_until_someone_retries_it_with_what_came_since() -> None:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}).begun()
    name = daemon.ends_as(Phase.ROLLED_BACK).name
    daemon.run(300)
    assert len(daemon.rollouts.records) == 1
    daemon.scripts.clear()
    daemon.deploy("v3", "carts")
    daemon.rollouts.wish(name, attempt=2)
    rollout = daemon.run_until(lambda r: r.attempt == 2 and r.phase is Phase.SUCCEEDED)
    assert (rollout.entrance.canary, rollout.services[1].canary) == ("v2", "v3")


def test_a_retry_is_begun_once_also_where_a_newer_version_of_the_first_service_took_its_place() -> None:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}).begun()
    name = daemon.ends_as(Phase.ROLLED_BACK).name
    daemon.deploy("v3", "front-end")
    daemon.rollouts.wish(name, attempt=2)
    rollout = daemon.run_until(lambda r: r.entrance.canary == "v3" and r.phase is Phase.ROLLED_BACK)
    assert (rollout.services[1].canary, rollout.attempt) == ("v2", 2)
    daemon.run(600)
    assert len(daemon.rollouts.records) == 2


def test_a_retry_leaves_a_service_that_was_promoted_since_where_it_is() -> None:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}).begun()
    name = daemon.ends_as(Phase.ROLLED_BACK).name
    daemon.scripts.clear()
    daemon.deploy("v3", "carts")
    daemon.run_until(lambda r: r.entrance.canary == "v3" and r.phase is Phase.SUCCEEDED)
    daemon.rollouts.wish(name, attempt=2)
    rollout = daemon.run_until(lambda r: r.attempt == 2 and r.phase is Phase.SUCCEEDED)
    assert (rollout.service_names, rollout.entrance.canary) == (("front-end",), "v2")
    assert daemon.parts["carts"].weight("v3") == 100


def test_a_retry_that_cannot_be_says_why() -> None:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}).begun()
    name = daemon.ends_as(Phase.ROLLED_BACK).name
    gone = daemon.parts["carts"].workloads.pop("carts-v2")
    daemon.rollouts.wish(name, attempt=2)
    daemon.run(20)
    problems = {service: note.problem for service, note in daemon.rollouts.notes.items()}
    assert set(problems.values()) == {
        "",
        f"{name} is not tried again as attempt 2: carts v2 is not there as then (gone, changed or "
        "scaled to 0); put back what was tried, or deploy newer versions",
    }
    bracket, daemon.policies = daemon.policies, [a_policy()]
    daemon.run(20)
    assert daemon.rollouts.notes["front-end"].problem == (
        f"{name} is not tried again as attempt 2: production/carts is in no bracket with front-end any more; "
        "put the bracket back into the policy, or begin each version by itself: canaryd start front-end v2"
    )
    daemon.policies = bracket
    daemon.parts["carts"].workloads["carts-v2"] = gone
    daemon.run_until(lambda r: r.attempt == 2)
    daemon.run(10)
    assert {note.problem for note in daemon.rollouts.notes.values()} == {""}


def test_a_service_is_started_by_itself_and_not_while_another_of_the_bracket_is_under_way() -> None:
    daemon = Bracket(scripts=UNDECIDED)
    daemon.deploy("v2", "carts")
    daemon.run()  # known from the beginning
    daemon.rollouts.asked.append(Request("production", "carts", "v2", "carts-v2-hash-carts-v2"))
    daemon.run(10)
    assert (daemon.rollout.entrance.name, daemon.rollout.is_bracket, daemon.weights()) == (
        "carts",
        False,
        [0, 10],
    )
    daemon.rollouts.asked.append(Request("production", "front-end", "v1", "front-end-v1-hash"))
    daemon.run(10)
    assert daemon.rollouts.refused == {
        "front-end-v1-hash": "carts-v2-hash-carts-v2 is under way: abort it first, or wait"
    }


def test_a_beginning_that_a_crash_cut_off_is_begun_again_with_all_services() -> None:
    daemon = Bracket(gather="30s", scripts=UNDECIDED).run()
    daemon.deploy("v2", "front-end")
    daemon.rollouts.asked.append(
        Request("production", "front-end", "v2", "front-end-v2-hash-front-end-v2", begun=True)
    )
    daemon.run(20)
    assert not daemon.rollouts.records, "it gathers anew"
    daemon.deploy("v2", "carts")
    daemon.run_until(lambda r: r.weight == 10)
    assert daemon.rollout.service_names == ("front-end", "carts")
    assert not daemon.rollouts.asked
    assert not daemon.rollouts.refused


def test_what_a_crash_left_of_a_beginning_whose_version_is_gone_is_refused() -> None:
    daemon = Bracket().run()
    daemon.rollouts.asked.append(
        Request("production", "front-end", "v2", "front-end-v2-hash-front-end-v2", begun=True)
    )
    daemon.run(10)
    assert (
        "no Deployment of front-end has the pod label version=v2"
        in daemon.rollouts.refused["front-end-v2-hash-front-end-v2"]
    )


def test_a_route_that_nothing_can_be_begun_on_is_told_of_its_service_and_nothing_begins() -> None:
    daemon = Bracket().run()
    daemon.parts["carts"].edit({"#0": (a_destination("v1", 50), a_destination("v0", 50))})
    daemon.deploy()
    daemon.run(60)
    assert not daemon.rollouts.records
    assert "route #0 is split" in daemon.rollouts.notes["carts"].problem
    assert not daemon.rollouts.notes["front-end"].problem


def test_a_rollout_goes_on_with_its_services_when_the_policy_is_about_others_or_gone() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.policies = [a_policy()]
    daemon.run(30)
    daemon.policies = []
    daemon.scripts["carts"] = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.weights("v1") == [100, 100]


# ---------------------------------------------------------------- the cluster


def test_it_waits_until_all_are_available() -> None:
    daemon = Bracket().run()
    daemon.deploy(available=False)
    daemon.run(20)
    daemon.change_of("front-end", "v2", available=True)
    daemon.run(20)
    assert daemon.rollout.phase is Phase.WAITING
    assert daemon.rollout.reason == "waiting until front-end-v2 and carts-v2 are available"
    daemon.change_of("carts", "v2", available=True)
    daemon.run(10)
    assert daemon.weights() == [10, 10]


def test_one_that_is_not_ready_sends_both_back() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.change_of("carts", "v2", ready=0)
    assert "no replica of carts-v2 has been ready" in daemon.ends_as(Phase.ROLLED_BACK).reason
    assert daemon.weights("v1") == [100, 100]


def test_one_stable_version_that_is_down_holds_both_and_lets_them_go_on() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.change_of("carts", "v1", ready=0)
    daemon.run(10)
    assert daemon.rollout.held is Held.STABLE_NOT_READY
    assert "carts-v1" in daemon.rollout.reason
    daemon.change_of("carts", "v1", ready=3)
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING


@pytest.mark.parametrize("service", ["front-end", "carts"])
def test_a_changed_stable_version_of_one_begins_the_evidence_of_both_anew(service: str) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun().run(100)
    daemon.change_of(service, "v1", template="another")
    daemon.run(20)
    assert daemon.rollout.service_of(("production", service)).stable_template == "another"
    assert [span.fresh for span in daemon.rollout.spans] == [False, True]


@pytest.mark.parametrize("service", ["front-end", "carts"])
def test_someone_else_s_edit_of_one_route_holds_both_until_it_is_undone(service: str) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    before = daemon.parts[service].lists
    daemon.parts[service].edit({"#0": (a_destination("v1", 50), a_destination("v2", 50))})
    daemon.run(10)
    assert daemon.rollout.held is Held.DRIFT
    assert f"changed the route of {service}" in daemon.rollout.reason
    daemon.parts[service].edit(before)
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING


@pytest.mark.parametrize("service", ["front-end", "carts"])
def test_a_resume_after_an_edit_steers_on_from_what_is_there(service: str) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    renamed = {"web": daemon.parts[service].lists["#0"]}
    daemon.parts[service].edit(renamed)
    daemon.run(10)
    assert daemon.rollout.held is Held.DRIFT
    daemon.wish(resumed=1)
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING
    assert daemon.rollout.service_of(("production", service)).route.origin == {
        "web": (a_destination("v1", 100),)
    }
    daemon.wish(abort=True)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.parts[service].lists == {"web": (a_destination("v1", 100),)}


def test_a_route_that_cannot_be_written_gets_the_others_no_further_and_keeps_none_on_the_new_version() -> (
    None
):
    daemon = Bracket().begun()
    daemon.parts["front-end"].refuses["write"] = "denied by policy"
    daemon.run_until(lambda r: r.weight == 25)
    assert daemon.weights() == [10, 25]
    daemon.run(100)
    assert daemon.rollout.spans[-1].weight == 10, "no look of a stage whose routes are not all as wanted"
    assert "front-end: denied by policy" in daemon.rollout.reason
    daemon.wish(abort=True)
    daemon.run(10)
    assert (daemon.weights(), daemon.rollout.phase) == ([10, 0], Phase.ROLLING_BACK)
    assert "front-end: denied by policy" in daemon.rollout.reason
    daemon.parts["front-end"].refuses.clear()
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.weights("v1") == [100, 100]


def test_what_was_given_before_another_route_was_refused_is_no_drift() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.parts["front-end"].refuses["write"] = "denied by policy"
    daemon.scripts.clear()
    daemon.run_until(lambda r: r.weight == 25)
    daemon.run(10)
    daemon.wish(promote=True)
    daemon.parts["front-end"].refuses.clear()
    daemon.run(10)
    assert daemon.rollout.held is None
    assert daemon.weights() == [100, 100]


def test_what_was_given_before_another_route_could_not_be_reached_is_no_drift_when_it_is_promoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = Bracket().begun()

    def away(what: str) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(daemon.parts["front-end"], "permit", away)
    daemon.run_until(lambda r: r.weight == 25)
    daemon.run(10)
    assert daemon.weights() == [10, 25]
    daemon.wish(promote=True)
    daemon.run(10)
    monkeypatch.undo()
    daemon.run(10)
    assert [decision.signal for decision in daemon.rollout.decisions if decision.signal == "drift"] == []
    assert daemon.weights() == [100, 100]


# ---------------------------------------------------------------- telemetry


def test_looks_of_a_service_whose_telemetry_was_away_are_taken_later_with_the_others() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun().run(30)
    daemon.parts["carts"].down.add("telemetry")
    before = daemon.rollout.counted_to
    daemon.run(60)
    assert daemon.rollout.counted_to == before
    daemon.parts["carts"].down.clear()
    daemon.run(10)
    assert daemon.rollout.counted_to is not None
    assert before is not None
    assert daemon.rollout.counted_to > before + 50
    whole = daemon.rollout
    daemon.restart()
    daemon.run(10)
    assert [counted(service) for service in daemon.rollout.services] == [
        2 * [counted(service)[0]] for service in daemon.rollout.services
    ]
    assert counted(daemon.rollout.services[0])[0] >= counted(whole.services[0])[0]


def counted(service: ServiceRollout) -> list[int]:
    """Looks, by each side's requests."""
    requests = {replica: one.requests for replica, one in service.counted.items()}
    return [
        requests[f"{service.stable_workload}-a"] // 900,
        requests[f"{service.canary_workload}-a"] // 100,
    ]


def test_harm_of_one_does_not_wait_for_the_telemetry_of_another() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun().run(30)
    daemon.parts["carts"].down.add("telemetry")
    daemon.scripts["front-end"] = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.rollout.reason == "front-end: the evidence says fail"
    assert daemon.weights("v1") == [100, 100]


def test_one_without_telemetry_holds_both_in_the_end() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun().run(30)
    daemon.parts["carts"].down.add("telemetry")
    daemon.run(400)
    assert daemon.rollout.held is Held.NO_DATA
    daemon.parts["carts"].down.clear()
    daemon.run(60)
    assert daemon.rollout.phase is Phase.PROGRESSING


# ---------------------------------------------------------------- people


def test_a_pause_of_one_service_keeps_the_whole_where_it_is_and_harm_still_sends_it_back() -> None:
    daemon = Bracket().begun()
    rollouts: Any = daemon.rollouts
    rollouts.notes["carts"] = replace(rollouts.notes["carts"], paused=True)
    daemon.run(300)
    assert daemon.weights() == [10, 10]
    daemon.scripts["carts"] = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_an_abort_sends_both_back_and_a_promotion_takes_both_to_the_end() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.wish(abort=True)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.weights("v1") == [100, 100]
    daemon.deploy("v3")
    daemon.run_until(lambda r: r.entrance.canary == "v3" and r.weight == 10)
    daemon.wish(promote=True)
    daemon.run(10)
    assert daemon.weights("v3") == [100, 100]


def test_replicas_are_scaled_of_each_service() -> None:
    daemon = Bracket(promotion={"retireStable": {"scaleTo": 0}}).begun()
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.run(20)
    assert [daemon.parts[name].workloads[f"{name}-v1"].desired for name in ("front-end", "carts")] == [0, 0]
    assert daemon.rollout.entrance.scaled
    assert daemon.rollout.services[1].scaled


def test_services_that_were_made_for_versions_are_removed_of_each_service() -> None:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}, route={"httpRoute": "sockshop"}).begun()
    assert [daemon.parts[name].made for name in ("front-end", "carts")] == [{"v2"}, {"v2"}]
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(30)
    assert [daemon.parts[name].made for name in ("front-end", "carts")] == [set(), set()]
    assert [service.cleaned_up for service in daemon.rollout.services] == [True, True]


def test_a_dark_stage_sends_no_user_of_either_service_to_its_new_version() -> None:
    daemon = Bracket(stages=[{"weight": 0, "minimum": "60s"}, {"weight": 100, "minimum": "60s"}]).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.span is not None and r.span.weight == 0)
    assert daemon.weights() == [0, 0]
    daemon.ends_as(Phase.SUCCEEDED)
    assert daemon.weights() == [100, 100]


# ---------------------------------------------------------------- crashes


def run_to_end(daemon: Bracket, rollouts: int = 1) -> int:
    """Beats until the last of so many has ended and everyone knows; a crash starts a new process. Returns the
    steps that changed something."""
    for _ in range(400):
        try:
            daemon.run()
        except Crash:
            daemon.restart()
        there = len(daemon.rollouts.records) >= rollouts
        if (
            there
            and daemon.rollout.phase.ended
            and all("oncall" in news.delivered for news in daemon.rollout.announcements)
        ):
            return len(daemon.world.steps)
    raise AssertionError("the rollout did not end")


def a_daemon(good: bool) -> Bracket:
    daemon = Bracket(scripts={} if good else {"carts": always(Answer.FAIL)}, hooks=HOOKS, stages=STAGES)
    daemon.run()
    daemon.deploy()
    return daemon


STAGES = [{"weight": weight, "minimum": "60s", "deadline": "10m"} for weight in (10, 100)]
STEPS = {good: run_to_end(a_daemon(good)) for good in (True, False)}


@pytest.mark.parametrize(
    ("good", "step"), [(good, step) for good, steps in STEPS.items() for step in range(3, steps + 1)]
)
def test_it_goes_on_from_the_record_whatever_step_the_process_died_after(good: bool, step: int) -> None:
    daemon = a_daemon(good)
    daemon.world.crash_after = step
    run_to_end(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert daemon.rollout.phase is (Phase.SUCCEEDED if good else Phase.ROLLED_BACK)
    assert daemon.weights("v2" if good else "v1") == [100, 100]
    assert len(daemon.rollouts.records) == 1
    told = {news.id: news.event for notifier, news in daemon.postman.got if notifier == "oncall"}
    assert sorted(told.values()) == (
        ["advanced", "advanced", "started", "succeeded"] if good else ["advanced", "rolled_back", "started"]
    )
    ups = [name for name in daemon.writes if good]
    assert ups == [name for _ in range(len(ups) // 2) for name in ("carts", "front-end")], (
        "a write is done once, in its turn"
    )
    daemon.run(120)
    assert len(daemon.rollouts.records) == 1


def a_superseded_daemon() -> Bracket:
    daemon = Bracket(scripts={"front-end": always(Answer.UNDECIDED)}, hooks=HOOKS, stages=STAGES).begun()
    daemon.scripts.clear()
    daemon.deploy("v3", "carts")
    return daemon


FIRST = len(a_superseded_daemon().world.steps) + 1
SUPERSEDED = run_to_end(a_superseded_daemon(), rollouts=2)


@pytest.mark.parametrize("step", range(FIRST, SUPERSEDED + 1))
def test_what_was_superseded_is_taken_along_whatever_step_the_process_died_after(step: int) -> None:
    daemon = a_superseded_daemon()
    daemon.world.crash_after = step
    run_to_end(daemon, rollouts=2)
    assert daemon.world.crash_after is None, "the crash never came"
    daemon.run(120)
    ends = [
        (record.rollout.phase, record.rollout.entrance.canary, record.rollout.services[1].canary)
        for record in daemon.rollouts.records.values()
    ]
    assert ends == [(Phase.SUPERSEDED, "v2", "v2"), (Phase.SUCCEEDED, "v2", "v3")]
    assert (daemon.parts["front-end"].weight("v2"), daemon.parts["carts"].weight("v3")) == (100, 100)


def a_retried_daemon(good: bool) -> Bracket:
    daemon = Bracket(scripts={"carts": always(Answer.FAIL)}, hooks=HOOKS, stages=STAGES).begun()
    name = daemon.ends_as(Phase.ROLLED_BACK).name
    if good:
        daemon.scripts.clear()
    daemon.deploy("v3", "front-end")
    daemon.rollouts.wish(name, attempt=2)
    return daemon


AGAIN = len(a_retried_daemon(True).world.steps) + 1
RETRIED = {good: run_to_end(a_retried_daemon(good), rollouts=2) for good in (True, False)}


@pytest.mark.parametrize(
    ("good", "step"), [(good, step) for good, steps in RETRIED.items() for step in range(AGAIN, steps + 1)]
)
def test_a_retry_is_begun_once_whatever_step_the_process_died_after(good: bool, step: int) -> None:
    daemon = a_retried_daemon(good)
    daemon.world.crash_after = step
    run_to_end(daemon, rollouts=2)
    assert daemon.world.crash_after is None, "the crash never came"
    daemon.run(300)
    ends = [
        (record.rollout.phase, record.rollout.entrance.canary, record.rollout.services[1].canary)
        for record in daemon.rollouts.records.values()
    ]
    assert ends == [
        (Phase.ROLLED_BACK, "v2", "v2"),
        (Phase.SUCCEEDED if good else Phase.ROLLED_BACK, "v3", "v2"),
    ]
