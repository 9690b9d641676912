"""The life of a rollout through the whole loop, on fakes: what the cluster looks like afterwards, and who
heard of it."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from canaryd.control.evidence_stream import ASK_AGAIN, EMPTY_LOOKS
from canaryd.domain.counts import Counts, Look, Source
from canaryd.domain.ports import Presence, Rejected, Request
from canaryd.domain.rollout import ActionRequest, Held, Phase, Span
from canaryd.domain.verdict import Answer
from canaryd.report.explanation import explain, text
from canaryd.report.reporting_judge import reporting_judge_of
from tests.builders import HOST, ORIGIN, a_destination, a_policy, a_workload
from tests.control.daemon_on_fakes import Daemon, always, healthy
from tests.fakes import FakeTelemetry


def test_a_good_version_climbs_the_ladder_and_ends_as_the_only_destination() -> None:
    daemon = Daemon().run()
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
    weights = [
        next((d["weight"] for d in lists["#0"] if d["destination"]["subset"] == "v2" and "weight" in d), 100)
        for lists in daemon.world.history
    ]
    assert weights == [10, 25, 50, 100, 100]
    assert daemon.world.lists == {"#0": (a_destination("v2"),)}


def test_a_bad_version_is_rolled_back_and_the_route_is_as_it_began() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    rollout = daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN
    assert rollout.reason == "the evidence says fail"


def test_harm_is_acted_on_in_the_beat_that_finds_it() -> None:
    daemon = Daemon(lambda end, span: Answer.FAIL if span.weight == 25 else healthy(end, span)).with_canary(
        25
    )
    before = len(daemon.world.steps)
    daemon.run_until(lambda r: r.phase is not Phase.PROGRESSING)
    assert daemon.world.steps[before:].count("write route") == 1
    assert daemon.rollout.phase is Phase.ROLLED_BACK


def test_what_was_there_at_first_sight_never_begins_by_itself() -> None:
    daemon = Daemon()
    daemon.deploy("v0")
    daemon.run(600)
    assert not daemon.rollouts.records


def test_an_old_stable_left_running_never_becomes_a_canary() -> None:
    daemon = Daemon().run()
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.rollouts.records.clear()  # trimmed
    daemon.restart()
    daemon.run(600)
    assert not daemon.rollouts.records
    assert daemon.world.lists == {"#0": (a_destination("v2"),)}


def test_a_rolled_back_template_is_not_tried_again_until_someone_says_retry() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(600)
    assert len(daemon.rollouts.records) == 1
    daemon.script = healthy
    daemon.wish(attempt=2)
    daemon.run()
    assert daemon.rollout.name.endswith("-2")
    assert daemon.ends_as(Phase.SUCCEEDED).attempt == 2


def test_a_version_that_is_not_available_yet_stays_dark() -> None:
    daemon = Daemon().run()
    daemon.deploy(available=False, ready=0)
    daemon.run(600)
    assert daemon.rollout.phase is Phase.WAITING
    assert daemon.world.lists == ORIGIN


def test_a_version_that_misses_its_progress_deadline_ends_as_rolled_back_and_says_so() -> None:
    daemon = Daemon().run()
    daemon.deploy(available=False, ready=0)
    daemon.run(60)
    daemon.change("front-end-v2", failed="has timed out progressing")
    rollout = daemon.ends_as(Phase.ROLLED_BACK)
    assert "has timed out progressing" in rollout.reason
    assert daemon.postman.events("kubernetes") == ["started", "rolled_back"]


def test_a_canary_that_loses_its_last_replica_is_rolled_back() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.change("front-end-v2", ready=0, available=False)
    assert "no replica" in daemon.ends_as(Phase.ROLLED_BACK).reason


def test_a_canary_whose_deployment_is_deleted_is_rolled_back() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    del daemon.world.workloads["front-end-v2"]
    assert "gone" in daemon.ends_as(Phase.ROLLED_BACK).reason
    assert daemon.world.lists == ORIGIN


def test_traffic_is_not_given_back_to_a_stable_without_a_ready_replica() -> None:
    daemon = Daemon().with_canary()
    daemon.change("front-end-v1", ready=0, available=False)
    daemon.run(10)
    assert daemon.rollout.held is Held.STABLE_NOT_READY
    daemon.script = always(Answer.FAIL)
    daemon.run(120)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.HELD, 10)
    assert "ready to take the traffic back" in daemon.rollout.reason
    daemon.change("front-end-v1", ready=3, available=True)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_a_hold_for_stable_s_sake_ends_when_it_is_ready_again() -> None:
    daemon = Daemon().with_canary()
    daemon.change("front-end-v1", ready=0, available=False)
    daemon.run(60)
    daemon.change("front-end-v1", ready=3, available=True)
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_newer_version_supersedes_after_the_traffic_is_back_on_stable() -> None:
    daemon = Daemon().with_canary()
    daemon.deploy("v3")
    daemon.run()
    old = next(r.rollout for r in daemon.rollouts.records.values() if r.rollout.entrance.canary == "v2")
    assert old.phase is Phase.SUPERSEDED
    assert ORIGIN in daemon.world.history
    daemon.run_until(lambda r: r.entrance.canary == "v3" and r.phase.ended)
    assert daemon.world.lists == {"#0": (a_destination("v3"),)}


def test_the_canary_s_own_changed_template_is_a_newer_version() -> None:
    daemon = Daemon().with_canary()
    daemon.change("front-end-v2", template="other")
    daemon.run_until(lambda r: r.entrance.template == "other" and r.phase.ended)
    assert daemon.rollout.phase is Phase.SUCCEEDED


def test_stable_changed_in_place_is_no_new_version_and_restarts_the_evidence() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.change("front-end-v1", template="patched")
    daemon.run(60)
    assert len(daemon.rollouts.records) == 1
    assert daemon.rollout.spans[-1].fresh
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_of_two_new_versions_the_youngest_begins_and_the_other_is_no_news() -> None:
    daemon = Daemon().run()
    daemon.deploy("v2")
    daemon.deploy("v3", created=daemon.clock.at + 1)
    daemon.run_until(lambda r: r.phase.ended)
    daemon.run(60)
    assert [r.rollout.entrance.canary for r in daemon.rollouts.records.values()] == ["v3"]
    assert daemon.world.lists == {"#0": (a_destination("v3"),)}


def test_a_second_deployment_of_the_canary_s_version_does_not_end_its_rollout() -> None:
    daemon = Daemon().with_canary()
    daemon.world.workloads["debug"] = a_workload(
        "v2", name="debug", template="debug", created=daemon.clock.at
    )
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_pause_keeps_a_newer_version_from_superseding() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=True)
    daemon.deploy("v3")
    daemon.run(60)
    assert (daemon.rollout.entrance.canary, daemon.world.weight("v2")) == ("v2", 10)


def test_a_newer_version_does_not_send_traffic_to_a_dead_stable() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary(10)
    daemon.wish(promote=True)
    daemon.run(30)
    daemon.change("front-end-v1", ready=0, desired=0, available=False)
    daemon.deploy("v3", ready=0, available=False)
    daemon.run(60)
    assert daemon.world.weight("v2") == 100


def test_a_canary_changed_to_a_template_that_was_judged_before_is_rolled_back() -> None:
    daemon = Daemon().with_canary()
    daemon.change("front-end-v2", template="other")
    daemon.run_until(lambda r: r.entrance.template == "other" and r.weight == 10)
    daemon.change("front-end-v2", template="hash-v2")
    assert "another template" in daemon.ends_as(Phase.ROLLED_BACK).reason


def test_a_template_that_was_judged_before_is_not_served_when_it_comes_while_another_one_is_awaited() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.world.history.clear()
    daemon.change("front-end-v2", template="fixed", available=False, ready=0)
    daemon.run(20)
    assert daemon.rollout.phase is Phase.WAITING
    daemon.change("front-end-v2", template="hash-v2", available=True, ready=3)  # someone undid the change
    assert "another template" in daemon.ends_as(Phase.ROLLED_BACK).reason
    assert not daemon.world.history


def test_without_its_policy_file_a_rollout_is_not_superseded_by_a_version_that_could_not_begin() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.policies = []
    daemon.run(10)
    daemon.deploy("v3")
    daemon.run(60)
    assert (daemon.rollout.entrance.canary, daemon.rollout.phase, daemon.world.weight("v2")) == (
        "v2",
        Phase.PROGRESSING,
        10,
    )
    daemon.policies = [daemon.policy]
    daemon.run_until(lambda r: r.entrance.canary == "v3" and r.weight == 10)


def test_an_edit_of_the_policy_does_not_touch_the_rollout_under_way() -> None:
    daemon = Daemon().with_canary()
    seen: list[str] = []
    listed = daemon.beat.supervisor.workloads.list

    def list_(policy: object) -> object:
        seen.append(policy.service.selector["app"])  # type: ignore[attr-defined]
        return listed(policy)  # type: ignore[arg-type]

    daemon.beat.supervisor.workloads.list = list_  # type: ignore[method-assign,assignment]
    daemon.policies = [
        a_policy(service={"name": "front-end", "namespace": "production", "selector": {"app": "renamed"}})
    ]
    daemon.run(60)
    assert set(seen) == {"front-end"}
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.run()
    assert seen[-1] == "renamed"


def test_nothing_is_noted_of_a_service_that_is_not_there_yet() -> None:
    daemon = Daemon()
    daemon.world.workloads.clear()
    daemon.run(30)
    daemon.world.workloads = {w.name: w for w in (a_workload("v1"), a_workload("v0"))}
    daemon.run(60)
    assert not daemon.rollouts.records


def test_harm_is_acted_on_while_a_query_of_the_policy_is_refused() -> None:
    query = {"query": {"name": "cpu", "promql": "up", "max": 1}}
    daemon = Daemon(
        always(Answer.UNDECIDED), analysis={"interval": "10s", "metrics": [{"errors": {}}, query]}
    ).with_canary()

    def refused(*arguments: object) -> list[float]:
        raise Rejected("400: 2 series where one was wanted")

    daemon.telemetry.measure = refused  # type: ignore[method-assign,assignment]
    daemon.run(30)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_rollouts_of_namespaces_that_are_not_this_daemon_s_are_left_alone() -> None:
    daemon = Daemon().with_canary()
    daemon.beat.namespaces = frozenset({"staging"})
    daemon.policies = []
    steps = len(daemon.world.steps)
    daemon.run(600)
    assert len(daemon.world.steps) == steps


def test_a_promotion_said_before_the_canary_serves_is_obeyed_once_it_does() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).run()
    daemon.deploy(available=False, ready=0)
    daemon.run(10)
    daemon.wish(hold=True)
    daemon.run(10)
    daemon.wish(promote=True)
    daemon.run(30)
    assert (daemon.rollout.weight, daemon.rollout.phase) == (0, Phase.HELD)
    daemon.change("front-end-v2", ready=3, available=True)
    daemon.wish(hold=False)
    daemon.run(60)
    assert daemon.world.weight("v2") == 100


def test_a_retry_is_not_begun_again_by_deleting_its_record_nor_after_a_later_success() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.wish(attempt=2)
    daemon.run_until(lambda r: r.attempt == 2 and r.phase.ended)
    del daemon.rollouts.records[daemon.rollout.name]
    daemon.run(60)
    assert [r.rollout.attempt for r in daemon.rollouts.records.values()] == [1]


def test_an_unrelated_edit_of_the_virtualservice_does_not_delay_a_rollback() -> None:
    daemon = Daemon().with_canary()
    read = daemon.beat.supervisor.traffic.read

    def read_then_edited(policy: object) -> object:
        view = read(policy)  # type: ignore[arg-type]
        daemon.world.route_version += 1  # someone changes a timeout right after
        daemon.beat.supervisor.traffic.read = read  # type: ignore[method-assign]
        return view

    daemon.script = always(Answer.FAIL)
    daemon.beat.supervisor.traffic.read = read_then_edited  # type: ignore[method-assign,assignment]
    daemon.run_until(lambda r: r.phase is not Phase.PROGRESSING)
    assert daemon.rollout.phase is Phase.ROLLED_BACK


def test_an_ignored_deployment_is_left_alone() -> None:
    daemon = Daemon().run()
    daemon.deploy(ignored=True)
    daemon.run(60)
    assert not daemon.rollouts.records


# ---------------------------------------------------------------- people


def test_hold_keeps_the_weight_and_resume_goes_on() -> None:
    daemon = Daemon().with_canary()
    daemon.wish(hold=True)
    daemon.run(1200)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.HELD, 10)
    daemon.wish(hold=False)
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_held_rollout_still_rolls_back_on_harm() -> None:
    daemon = Daemon().with_canary()
    daemon.wish(hold=True)
    daemon.run(60)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_abort_brings_all_traffic_back() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.wish(abort=True)
    assert daemon.ends_as(Phase.ROLLED_BACK).reason == "aborted by a person"
    assert daemon.world.lists == ORIGIN


def test_promote_goes_to_full_weight_which_is_still_judged() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.wish(promote=True)
    daemon.run(30)
    assert daemon.world.weight("v2") == 100
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_approval_is_waited_for() -> None:
    stages = [{"weight": 50, "minimum": "60s", "approval": "required"}, {"weight": 100, "minimum": "60s"}]
    daemon = Daemon(stages=stages).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.phase is Phase.AWAITING_APPROVAL)
    daemon.run(1200)
    assert daemon.world.weight("v2") == 50
    daemon.wish(approved_stage=0)
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_pause_stops_beginnings_and_advances_and_no_rollback() -> None:
    daemon = Daemon().with_canary()
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=True)
    daemon.run(1200)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.PROGRESSING, 10)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.deploy("v3")
    daemon.run(60)
    assert len(daemon.rollouts.records) == 1


def test_start_begins_a_known_version_by_hand() -> None:
    daemon = Daemon()
    daemon.deploy("v0")
    daemon.run()
    daemon.rollouts.asked.append(Request("production", "front-end", "v0", "by-hand"))
    daemon.run()
    assert (daemon.rollout.name, daemon.rollout.entrance.canary) == ("by-hand", "v0")


@pytest.mark.parametrize(
    ("version", "words"),
    [("v1", "the stable version already"), ("v9", "no Deployment of front-end has the pod label version=v9")],
)
def test_a_start_that_makes_no_sense_is_refused_in_words(version: str, words: str) -> None:
    daemon = Daemon().run()
    daemon.rollouts.asked.append(Request("production", "front-end", version, "by-hand"))
    daemon.run()
    assert words in daemon.rollouts.refused["by-hand"]


# ---------------------------------------------------------------- deadlines


def test_undecided_at_the_deadline_goes_on_where_the_policy_lets_it() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.weight == 25, 900)
    assert daemon.rollout.decisions[-1].signal == "deadline, let pass"


def test_undecided_at_the_deadline_holds_where_the_policy_says_so_and_resume_gives_another() -> None:
    daemon = Daemon(always(Answer.UNDECIDED), analysis={"interval": "10s", "undecided": "hold"}).with_canary()
    daemon.run_until(lambda r: r.phase is Phase.HELD)
    assert daemon.rollout.held is Held.UNDECIDED
    daemon.wish(resumed=1)
    daemon.run(300)
    assert daemon.rollout.phase is Phase.PROGRESSING
    daemon.run_until(lambda r: r.phase is Phase.HELD)


def held_undecided(**policy: Any) -> Daemon:
    """At its first stage, past the deadline."""
    daemon = Daemon(
        always(Answer.UNDECIDED), analysis={"interval": "10s", "undecided": "hold"}, **policy
    ).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.held is Held.UNDECIDED)
    return daemon


def test_a_rollout_held_undecided_goes_on_by_itself_once_its_evidence_passes_also_after_a_restart() -> None:
    daemon = held_undecided().run(600)
    daemon.restart()
    daemon.script = healthy
    daemon.ends_as(Phase.SUCCEEDED)
    assert [d.signal for d in daemon.rollout.decisions].count("resume") == 0


def test_a_rollout_held_undecided_at_the_last_stage_ends_promoted() -> None:
    daemon = held_undecided(stages=[{"weight": 100, "minimum": "60s", "deadline": "10m"}])
    daemon.script = always(Answer.PASS)
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert rollout.held is None
    assert daemon.world.lists == {"#0": (a_destination("v2"),)}


def test_a_person_s_hold_over_an_undecided_one_is_not_ended_by_evidence() -> None:
    daemon = held_undecided()
    daemon.wish(hold=True)
    daemon.run(10)
    daemon.script = always(Answer.PASS)
    daemon.run(600)
    assert (daemon.rollout.held, daemon.world.weight("v2")) == (Held.PERSON, 10)


def test_approval_is_still_asked_after_an_undecided_hold() -> None:
    daemon = held_undecided(
        stages=[{"weight": 50, "minimum": "60s", "deadline": "10m", "approval": "required"}, {"weight": 100}]
    )
    daemon.script = always(Answer.PASS)
    daemon.run(60)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.AWAITING_APPROVAL, 50)


def test_a_pause_keeps_an_undecided_hold_where_it_is() -> None:
    daemon = held_undecided()
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=True)
    daemon.script = always(Answer.PASS)
    daemon.run(300)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.HELD, 10)
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=False)
    daemon.run_until(lambda r: r.weight == 25)


def test_a_late_pass_does_not_advance_while_the_route_is_someone_else_s() -> None:
    daemon = held_undecided()
    edited = {"#0": (a_destination("v1", 70), a_destination("v2", 30))}
    daemon.world.edit(edited)
    daemon.script = always(Answer.PASS)
    daemon.run(60)
    assert (daemon.rollout.stage, daemon.world.lists) == (0, edited)


def test_a_resume_after_a_person_s_hold_over_an_undecided_one_gives_another_deadline() -> None:
    daemon = held_undecided()
    daemon.wish(hold=True)
    daemon.run(20)
    daemon.wish(hold=False, resumed=1)
    daemon.run(300)
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_the_whole_rollout_has_a_deadline() -> None:
    daemon = Daemon(always(Answer.UNDECIDED), schedule={"deadline": "20m"}).with_canary()
    assert "within the 20m that" in daemon.ends_as(Phase.ROLLED_BACK).reason


# ---------------------------------------------------------------- telemetry


def test_an_outage_of_telemetry_holds_the_weight_and_the_rollout_goes_on_after_it() -> None:
    daemon = Daemon().with_canary()
    daemon.world.down.add("telemetry")
    daemon.run(1200)
    assert (daemon.rollout.held, daemon.world.weight("v2")) == (Held.NO_DATA, 10)
    daemon.world.down.clear()
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_short_outage_is_no_hold_and_stops_the_deadline_s_clock() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.world.down.add("telemetry")
    daemon.run(120)
    clock = daemon.rollout.stage_clock(daemon.clock.at)
    assert daemon.rollout.phase is Phase.PROGRESSING
    assert clock < 60
    daemon.world.down.clear()
    daemon.run(60)
    assert daemon.rollout.clock_from is not None


def test_no_data_rolls_back_where_the_policy_says_so() -> None:
    daemon = Daemon(analysis={"interval": "10s", "noData": "rollback", "noDataFor": "2m"}).with_canary()
    daemon.world.down.add("telemetry")
    assert "no data" in daemon.ends_as(Phase.ROLLED_BACK).reason


def test_looks_without_a_sample_are_no_data() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.telemetry.look = lambda start, end: Look(start, end, sampled=False)
    daemon.run(1200)
    assert daemon.rollout.held is Held.NO_DATA


def test_a_canary_that_gets_none_of_its_traffic_is_no_data() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.telemetry.look = lambda start, end: Look(
        start, end, (), {"v1-a": Counts(900, 9)}, {"v2-a": Counts()}
    )
    daemon.run(10 * EMPTY_LOOKS + 360)
    assert daemon.rollout.held is Held.NO_DATA


def test_traffic_that_does_not_follow_the_weight_is_no_data() -> None:
    daemon = Daemon(always(Answer.NO_DATA)).with_canary()
    daemon.telemetry.look = lambda start, end: Look(
        start, end, (), {"v1-a": Counts(900, 9)}, {"v2-a": Counts(3)}
    )
    daemon.run(400)
    assert daemon.rollout.held is Held.NO_DATA


OFF = {"v1-a": Counts(700, 7)}, {"v2-a": Counts(300, 3)}  # where 10% are due, as the fake has it by default
SENDERS = (
    Source("istio-ingressgateway", "istio-system", 4500, 500),
    Source("orders", "production", 1500, 1500),
)
BOUND = {"metadata": {"name": "sockshop"}, "spec": {"hosts": ["*"], "gateways": ["shop"]}}


def off_the_weight(**changes: Any) -> Daemon:
    """A rollout at 10% with the judge of the live daemon; the canary is served 30%, by callers that are
    known."""
    daemon = Daemon(
        policy=a_policy(
            analysis={"interval": "10s", "metrics": [{"errors": {}}], "noDataFor": "2m"}, **changes
        )
    )
    daemon.beat.reconciler.evidence.judge_of = reporting_judge_of
    daemon.with_canary()
    daemon.telemetry.senders = SENDERS
    daemon.telemetry.look = lambda start, end: Look(start, end, (), *OFF)
    return daemon


def test_a_hold_for_the_split_says_whose_requests_do_not_follow_and_what_to_do_once() -> None:
    daemon = off_the_weight()
    daemon.world.route_raw = BOUND
    daemon.run(900)
    assert (daemon.rollout.held, daemon.world.weight("v2")) == (Held.NO_DATA, 10)
    [told] = [news for to, news in daemon.postman.got if to == "kubernetes" and news.event == "held"]
    assert told.reason == daemon.rollout.reason
    assert (
        "(30%) in 6 looks where 10% were due; requests of istio-ingressgateway in istio-system (10% of 5,000 "
        "went to v2)" in told.reason
    )
    assert (
        "those of orders in production (50% of 3,000 went to v2) do not. VirtualService sockshop is bound to "
        "shop alone" in told.reason
    )
    assert "add `mesh` to its spec.gateways (and name its hosts" in told.reason
    notes = " ".join(
        line.strip()
        for one in explain(daemon.rollout, daemon.clock.at)
        if one.title == "To know"
        for line in one.lines
    )
    assert "orders in production" in notes
    assert "when the traffic follows the weight" in text(explain(daemon.rollout, daemon.clock.at))


def test_it_is_asked_rarely_who_sends() -> None:
    daemon = off_the_weight()
    daemon.run(900)
    assert 5 <= daemon.telemetry.asked <= 1 + 900 / ASK_AGAIN


def test_a_hold_for_the_split_ends_by_itself_when_the_traffic_follows() -> None:
    daemon = off_the_weight()
    daemon.run(400)
    assert daemon.rollout.held is Held.NO_DATA
    daemon.telemetry.look = FakeTelemetry(daemon.world).look
    daemon.run_until(lambda r: r.phase is Phase.PROGRESSING)
    assert [
        announcement.reason
        for announcement in daemon.rollout.announcements
        if announcement.event == "resumed"
    ] == ["the traffic follows the weight again"]
    assert daemon.rollout.entrance.off_weight_callers == ""


def test_traffic_off_the_weight_passes_no_stage_before_it_is_held() -> None:
    daemon = off_the_weight()
    daemon.run_until(lambda r: r.phase is Phase.HELD)
    assert [decision.signal for decision in daemon.rollout.decisions] == ["canary available", "no data"]


def test_harm_rolls_back_a_rollout_that_is_held_for_the_split() -> None:
    daemon = off_the_weight()
    daemon.run(400)
    daemon.telemetry.look = lambda start, end: Look(start, end, (), OFF[0], {"v2-a": Counts(300, 60)})
    assert "errors" in daemon.ends_as(Phase.ROLLED_BACK).reason


def test_a_rollout_off_the_weight_is_held_also_where_nobody_can_say_who_sends() -> None:
    daemon = off_the_weight()
    daemon.telemetry.sources = lambda target, start, end: daemon.world.permit("senders") or ()  # type: ignore[method-assign]
    daemon.world.refuses["senders"] = "many-to-many matching"
    daemon.run(400)
    assert daemon.rollout.held is Held.NO_DATA
    assert daemon.rollout.reason.endswith("where 10% were due")
    assert daemon.meter.bugs == 0


def uncounted(**present: Any) -> Daemon:
    """A rollout whose workloads have no request counted; what telemetry has instead."""
    daemon = Daemon(
        policy=a_policy(analysis={"interval": "10s", "metrics": [{"errors": {}}], "noDataFor": "2m"})
    )
    daemon.beat.reconciler.evidence.judge_of = reporting_judge_of
    daemon.with_canary()
    daemon.telemetry.present = Presence(**present)
    daemon.telemetry.look = lambda start, end: Look(start, end, sampled=False)
    return daemon


def test_a_tcp_service_is_told_as_that_at_the_first_look_and_in_the_hold_with_what_to_do() -> None:
    daemon = uncounted(connections=True)
    daemon.run_until(lambda r: r.verdict is not None and r.verdict.stage == 0)
    assert daemon.rollout.phase is Phase.PROGRESSING
    assert daemon.rollout.verdict is not None
    assert daemon.rollout.verdict.reason.startswith(
        "Istio counts TCP connections to these workloads and no requests"
    )
    daemon.run_until(lambda r: r.phase is Phase.HELD)
    assert daemon.rollout.held is Held.NO_DATA
    assert ": Istio counts TCP connections" in daemon.rollout.reason
    assert "appProtocol: http, http2 or grpc" in daemon.rollout.reason
    assert [
        news.reason for to, news in daemon.postman.got if to == "kubernetes" and news.event == "held"
    ] == [daemon.rollout.reason]


def test_a_reporter_that_counts_nothing_is_told_with_the_one_that_does_and_asked_rarely() -> None:
    daemon = uncounted(reporters=frozenset({"waypoint"}))
    daemon.run(900)
    assert (
        "there are requests with reporter=waypoint, but the policy asks for destination"
        in daemon.rollout.reason
    )
    assert "set its analysis.reporter to waypoint" in daemon.rollout.reason
    assert 5 <= daemon.telemetry.asked <= 1 + 900 / ASK_AGAIN


def test_silence_that_nobody_can_explain_is_told_as_no_data() -> None:
    for present in ({}, {"reporters": frozenset({"destination", "source"})}):
        daemon = uncounted(**present)
        daemon.run(400)
        assert daemon.rollout.held is Held.NO_DATA
        assert "reporter" not in daemon.rollout.reason
        assert "TCP" not in daemon.rollout.reason
    daemon.telemetry.presence = lambda target, start, end: daemon.world.permit("presence") or Presence()  # type: ignore[method-assign]
    daemon.world.refuses["presence"] = "too many series"
    daemon.run(400)
    assert daemon.meter.bugs == 0


def test_a_rollout_goes_on_by_itself_when_the_requests_are_counted_after_all() -> None:
    daemon = uncounted(connections=True)
    daemon.run_until(lambda r: r.phase is Phase.HELD)
    daemon.telemetry.look = FakeTelemetry(daemon.world).look
    daemon.run_until(lambda r: r.phase is Phase.PROGRESSING)
    assert "TCP" not in daemon.rollout.reason


def test_a_hold_says_who_asked_for_it_and_why() -> None:
    daemon = Daemon().with_canary()
    asked = ActionRequest("alice", daemon.clock.at, "the database\n is down")
    daemon.wish(hold=True, requests={"hold": asked})
    daemon.run(2)
    assert daemon.rollout.reason == "held by alice: the database is down"
    assert daemon.rollout.announcements[-1].reason == "held by alice: the database is down"
    daemon.wish(hold=False, requests={"hold": asked, "resume": ActionRequest("bob", daemon.clock.at)})
    daemon.run(2)
    assert daemon.rollout.decisions[-1].reason == "resumed by bob"
    daemon.wish(hold=True)  # written by hand, with nothing said of who or why
    daemon.run(2)
    assert daemon.rollout.reason == "held by a person"


@pytest.mark.parametrize(
    ("wish", "verb", "says"),
    [
        ({"abort": True}, "abort", "aborted by alice: wrong version"),
        ({"promote": True}, "promote", "promoted by alice: wrong version"),
    ],
)
def test_each_verb_says_who_asked_for_it_and_why(wish: dict[str, Any], verb: str, says: str) -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.wish(**wish, requests={verb: ActionRequest("alice", daemon.clock.at, "wrong version")})
    daemon.run(1)
    assert says in [decision.reason for decision in daemon.rollout.decisions]


def test_a_retry_says_who_asked_for_it_and_why() -> None:
    daemon = Daemon(always(Answer.FAIL)).with_canary()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.wish(attempt=2, requests={"retry": ActionRequest("alice", daemon.clock.at, "it was the network")})
    daemon.run(2)
    assert daemon.rollout.attempt == 2
    assert daemon.rollout.announcements[0].reason.endswith("; tried again by alice: it was the network")


def test_a_route_of_gateways_alone_is_noted_from_the_beginning_and_is_no_error() -> None:
    daemon = Daemon().run()
    daemon.world.route_raw = BOUND
    daemon.deploy()
    daemon.run()
    assert "bound to shop alone" in daemon.rollout.entrance.route.unrouted_reason
    assert "bound to shop alone" in text(explain(daemon.rollout, daemon.clock.at)).replace("\n  ", " ")
    daemon.world.route_raw = {**BOUND, "spec": {"gateways": ["shop", "mesh"]}}
    assert daemon.ends_as(Phase.SUCCEEDED).entrance.route.unrouted_reason == ""


def test_a_quiet_service_is_undecided_and_not_without_data() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.telemetry.look = lambda start, end: Look(start, end, (), {"v1-a": Counts()}, {"v2-a": Counts()})
    daemon.run(500)
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_windows_are_contiguous_so_that_every_request_is_read_once() -> None:
    daemon = Daemon().run()
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
    reads = daemon.telemetry.reads
    assert all(one[1] == other[0] for one, other in pairwise(reads))


def test_an_alarm_at_full_weight_steps_back_and_the_evidence_decides_there() -> None:
    def script(end: int, span: Span) -> Answer:
        return Answer.ALARM if span.weight == 100 else healthy(end, span)

    daemon = Daemon(script).with_canary(100)
    daemon.run_until(lambda r: r.weight == 50)
    assert daemon.rollout.step_backs == 1
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


# ---------------------------------------------------------------- the route


def test_a_hand_edit_holds_and_is_not_overwritten() -> None:
    daemon = Daemon().with_canary()
    edited = {"#0": (a_destination("v1", 70), a_destination("v2", 30))}
    daemon.world.edit(edited)
    daemon.run(600)
    assert daemon.rollout.held is Held.DRIFT
    assert daemon.world.lists == edited
    assert "v1 70%, v2 30%" in daemon.rollout.reason


def test_a_person_s_resume_after_an_edit_takes_the_route_back() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v2", 30))})
    daemon.run(60)
    daemon.wish(resumed=1)
    daemon.run(60)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.PROGRESSING, 10)


def test_an_edit_that_is_undone_ends_the_hold_by_itself() -> None:
    daemon = Daemon().with_canary()
    before = dict(daemon.world.lists)
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v2", 30))})
    daemon.run(60)
    daemon.world.edit(before)
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_hand_edit_is_put_back_where_the_policy_says_so() -> None:
    daemon = Daemon(always(Answer.UNDECIDED), drift="restore").with_canary()
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v2", 30))})
    daemon.run(10)
    assert daemon.world.weight("v2") == 10


def test_an_edit_while_a_person_holds_is_not_overwritten() -> None:
    daemon = Daemon().with_canary()
    daemon.wish(hold=True)
    daemon.run(10)
    edited = {"#0": (a_destination("v1", 70), a_destination("v2", 30))}
    daemon.world.edit(edited)
    daemon.run(60)
    assert daemon.world.lists == edited


def test_harm_brings_the_route_back_whoever_edited_it() -> None:
    daemon = Daemon().with_canary()
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v2", 30))})
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN


def test_a_route_already_split_begins_nothing_and_says_what_to_do() -> None:
    daemon = Daemon().run()
    daemon.world.subsets["v0"] = "v0"
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v0", 30))})
    daemon.deploy()
    daemon.run(60)
    assert not daemon.rollouts.records
    assert "v1 70%, v0 30%" in daemon.rollouts.templates.problem


def test_observe_judges_and_tells_and_touches_no_route() -> None:
    daemon = Daemon(mode="observe").run()
    daemon.deploy()
    rollout = daemon.ends_as(Phase.SUCCEEDED)
    assert daemon.world.history == []
    assert rollout.announcements[-1].event == "succeeded"
    assert HOST in str(daemon.world.lists)


def test_observing_a_canary_whom_nobody_sends_traffic_is_no_rollback() -> None:
    daemon = Daemon(
        always(Answer.NO_DATA),
        mode="observe",
        analysis={"interval": "10s", "noData": "rollback", "noDataFor": "2m"},
    ).run()
    daemon.telemetry.look = lambda start, end: Look(start, end, (), {"v1-a": Counts(900, 9)})
    daemon.deploy()
    daemon.run(600)
    assert daemon.rollout.held is Held.NO_DATA


# ---------------------------------------------------------------- telling


def test_each_rollback_is_told_once_to_each_receiver_also_across_a_restart() -> None:
    daemon = Daemon(always(Answer.FAIL), hooks=[{"on": ["rolled_back"], "notify": "oncall"}]).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.restart()
    daemon.run(300)
    assert daemon.postman.events("oncall") == ["rolled_back"]
    assert daemon.postman.events("kubernetes") == ["started", "advanced", "rolled_back"]


def test_a_dead_receiver_delays_no_rollback_and_is_tried_after_a_restart() -> None:
    daemon = Daemon(always(Answer.FAIL), hooks=[{"on": ["rolled_back"], "notify": "oncall"}]).run()
    daemon.postman.dead.add("oncall")
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.restart()
    daemon.postman.dead.clear()
    daemon.run(30)
    assert daemon.postman.events("oncall") == ["rolled_back"]


def test_an_alert_fires_until_a_later_rollout_succeeds() -> None:
    daemon = Daemon(always(Answer.FAIL), hooks=[{"on": ["rolled_back"], "notify": "alerts"}]).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(60)
    assert [news.event for news in daemon.postman.firing["alerts"]] == ["rolled_back"]
    daemon.script = healthy
    daemon.deploy("v3")
    daemon.run_until(lambda r: r.entrance.canary == "v3" and r.phase.ended)
    daemon.run()
    assert daemon.postman.firing["alerts"] == []


def test_an_alert_of_a_hold_stands_while_it_is_held() -> None:
    daemon = Daemon(hooks=[{"on": ["held"], "notify": "alerts"}]).with_canary()
    daemon.wish(hold=True)
    daemon.run(30)
    assert [news.event for news in daemon.postman.firing["alerts"]] == ["held"]
    daemon.wish(hold=False)
    daemon.run(30)
    assert daemon.postman.firing["alerts"] == []


def test_a_hold_after_repeated_alarms_reaches_those_who_wait_for_holds() -> None:
    daemon = Daemon(
        lambda end, span: Answer.ALARM if span.weight == 100 else healthy(end, span),
        hooks=[{"on": ["held"], "notify": "oncall"}],
    ).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.held is Held.ALARMS)
    daemon.run()
    assert daemon.postman.events("oncall") == ["held"]
    assert [news.event for news in daemon.postman.firing["oncall"]] == ["held"]


def test_too_few_replicas_for_the_weight_to_come_is_said() -> None:
    daemon = Daemon().run()
    daemon.deploy(ready=1, desired=1)
    daemon.run_until(lambda r: r.weight == 100)
    assert "times the load" in daemon.rollout.reason


# ---------------------------------------------------------------- after the end


def test_a_rolled_back_canary_is_scaled_down_after_the_pause_the_policy_sets() -> None:
    daemon = Daemon(always(Answer.FAIL), rollback={"scaleCanaryTo": 0, "after": "5m"}).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(200)
    assert daemon.world.workloads["front-end-v2"].desired == 3
    daemon.run(200)
    assert daemon.world.workloads["front-end-v2"].desired == 0


def test_the_old_stable_is_retired_when_the_policy_says_so() -> None:
    daemon = Daemon(promotion={"retireStable": {"scaleTo": 0, "after": "1m"}}).run()
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.run(120)
    assert daemon.world.workloads["front-end-v1"].desired == 0
    assert daemon.world.workloads["front-end-v2"].desired == 3


def test_without_a_pause_scaling_comes_when_no_proxy_sends_requests_there_any_more() -> None:
    daemon = Daemon(always(Answer.FAIL), rollback={"scaleCanaryTo": 0}).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(10)
    assert daemon.world.workloads["front-end-v2"].desired == 3
    daemon.run(10)
    assert daemon.world.workloads["front-end-v2"].desired == 0


def test_nothing_is_scaled_that_still_gets_traffic() -> None:
    daemon = Daemon(promotion={"retireStable": {"scaleTo": 0, "after": "1m"}}).run()
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
    daemon.world.edit(dict(ORIGIN))  # someone went back by hand
    daemon.run(300)
    assert daemon.world.workloads["front-end-v1"].desired == 3


def test_the_last_ten_records_of_a_service_are_kept() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    for i in range(2, 15):
        daemon.deploy(f"v{i}")
        daemon.run_until(lambda r, i=i: r.entrance.canary == f"v{i}" and r.phase.ended)  # type: ignore[misc]
        del daemon.world.workloads[f"front-end-v{i}"]
    daemon.run()
    assert sorted(r.rollout.entrance.canary for r in daemon.rollouts.records.values()) == sorted(
        f"v{i}" for i in range(5, 15)
    )


# ---------------------------------------------------------------- outages and policies


def test_an_api_server_that_is_away_changes_nothing_and_the_rollout_goes_on() -> None:
    daemon = Daemon().with_canary()
    daemon.world.down.add("api")
    daemon.run(600)
    assert daemon.world.weight("v2") == 10
    daemon.world.down.clear()
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_rollout_goes_on_with_the_policy_it_began_with() -> None:
    daemon = Daemon().with_canary()
    daemon.policies = []
    daemon.ends_as(Phase.SUCCEEDED)


def test_two_deployments_of_one_version_are_refused_by_name() -> None:
    daemon = Daemon().run()
    daemon.deploy()
    daemon.world.workloads["twin"] = a_workload("v2", name="twin", template="t")
    daemon.run()
    assert "front-end-v2 and twin" in daemon.rollouts.templates.problem


def test_a_rollout_of_one_service_is_not_stopped_by_trouble_with_another() -> None:
    daemon = Daemon().run()
    other = a_policy(
        service={"name": "cart", "namespace": "production", "selector": {"app": "cart"}},
        route={"virtualService": "cart", "destinationRule": "cart"},
    )
    listed = daemon.beat.supervisor.workloads.list

    def list_(policy: object) -> object:
        if policy is other:
            raise RuntimeError("a bug")
        return listed(policy)  # type: ignore[arg-type]

    daemon.beat.supervisor.workloads.list = list_  # type: ignore[method-assign,assignment]
    daemon.policies = [other, daemon.policy]
    daemon.deploy()
    daemon.ends_as(Phase.SUCCEEDED)
