"""What comes between: restarts that hear old looks again, writes that fail, people who act in the same
moment, things that are gone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Any

import pytest

from canaryd.domain import announcements
from canaryd.domain.counts import Look, Target
from canaryd.domain.ports import Conflict, KnownTemplates, Rejected, Request, Unavailable
from canaryd.domain.rollout import Held, Phase, Record, RouteLists
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination, a_policy, a_rollout, with_entrance
from tests.control.daemon_on_fakes import BEAT, Daemon, always, healthy


def dead_for(daemon: Daemon, seconds: float) -> None:
    daemon.clock.at += seconds
    daemon.restart()


# ---------------------------------------------------------------- old looks, heard again


def test_a_restart_after_a_step_back_does_not_act_on_the_old_alarm_again() -> None:
    daemon = Daemon(lambda end, span: Answer.ALARM if span.weight == 100 else healthy(end, span)).with_canary(
        100
    )
    daemon.run_until(
        lambda r: r.weight == 50 and r.span is not None and r.span.end is None and r.span.weight == 50
    )
    before = daemon.rollout
    daemon.restart()
    daemon.run()
    assert (daemon.rollout.weight, daemon.rollout.step_backs) == (50, 1)
    assert daemon.rollout.decisions == before.decisions


def test_a_look_without_data_long_ago_is_no_reason_to_roll_back_after_a_restart() -> None:
    daemon = Daemon(
        always(Answer.UNDECIDED),
        analysis={"interval": "10s", "noData": "rollback", "noDataFor": "1m"},
        stages=[{"weight": 10, "minimum": "60s", "deadline": "1h"}, {"weight": 100}],
    ).with_canary()
    usual, missed = daemon.telemetry.look, floor(daemon.clock.at) + 30
    daemon.telemetry.look = lambda start, end: replace(usual(start, end), sampled=not start <= missed < end)
    daemon.run(600)
    daemon.restart()
    daemon.run(60)
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_old_data_does_not_end_a_hold_for_want_of_data_after_a_restart() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary().run(60)
    since, usual = daemon.clock.at, daemon.telemetry.look
    daemon.telemetry.look = lambda start, end: (
        usual(start, end) if end < since else Look(start, end, sampled=False)
    )
    daemon.run_until(lambda r: r.held is Held.NO_DATA)
    decisions = daemon.rollout.decisions
    daemon.restart()
    daemon.run(60)
    assert daemon.rollout.decisions == decisions


def test_a_promotion_wished_while_a_weight_is_being_written_is_no_drift() -> None:
    daemon = Daemon(healthy).with_canary()
    save = daemon.rollouts.save

    def wished_in_between(record: Record) -> Record:
        if (record.rollout.weight, daemon.world.weight("v2"), record.wishes.promote) == (25, 25, False):
            daemon.wish(promote=True)  # as the write stands and is not on record
        return save(record)

    daemon.rollouts.save = wished_in_between  # type: ignore[method-assign]
    daemon.run_until(lambda r: r.weight == 100)
    daemon.run(20)
    assert [decision.signal for decision in daemon.rollout.decisions if decision.signal == "drift"] == []
    assert daemon.world.weight("v2") == 100


def test_harm_that_came_while_the_daemon_was_dead_is_seen_before_anything_advances() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    passed = daemon.clock.at + 120
    daemon.script = lambda end, span: Answer.PASS if end < passed else Answer.FAIL
    dead_for(daemon, 300)
    daemon.run()
    assert daemon.rollout.phase is Phase.ROLLED_BACK
    assert all(daemon_weight(lists) in (0, 10) for lists in daemon.world.history)


def daemon_weight(lists: RouteLists) -> int:
    return next((int(d["weight"]) for d in lists["#0"] if d["destination"]["subset"] == "v2"), 0)


def test_a_deadline_that_passed_while_the_daemon_was_dead_is_judged_by_the_latest_look() -> None:
    daemon = Daemon(
        always(Answer.UNDECIDED), analysis={"interval": "10s", "undecided": "rollback"}
    ).with_canary()
    back = daemon.clock.at + 1200
    daemon.script = lambda end, span: Answer.PASS if end > back - 60 else Answer.UNDECIDED
    dead_for(daemon, 1200)
    daemon.run()
    assert (daemon.rollout.phase, daemon.rollout.weight) == (Phase.PROGRESSING, 25)


def test_a_restart_that_finds_no_telemetry_yet_waits_as_long_as_the_policy_says() -> None:
    daemon = (
        Daemon(
            always(Answer.UNDECIDED), analysis={"interval": "10s", "noData": "rollback", "noDataFor": "5m"}
        )
        .with_canary()
        .run(60)
    )
    dead_for(daemon, 600)
    daemon.world.down.add("telemetry")
    daemon.run(240)
    assert daemon.rollout.phase is Phase.PROGRESSING
    daemon.run(120)
    assert daemon.rollout.phase is Phase.ROLLED_BACK


def test_a_restart_after_a_long_hold_judges_it_again_in_several_beats_and_decides_nothing_meanwhile() -> None:
    daemon = Daemon(
        always(Answer.UNDECIDED), analysis={"interval": "10s", "noData": "rollback", "noDataFor": "1m"}
    ).with_canary()
    daemon.wish(hold=True)
    daemon.run(2 * 3600)
    before, took, read = daemon.rollout.decisions, [], daemon.telemetry.read

    def slow(targets: Sequence[Target], start: int, end: int, step: int) -> Mapping[Target, Sequence[Look]]:
        daemon.clock.at += 6
        return read(targets, start, end, step)

    daemon.telemetry.read = slow  # type: ignore[method-assign]
    dead_for(daemon, 2 * 3600)
    for _ in range(10):
        began = daemon.clock.at
        daemon.run()
        took.append(daemon.clock.at - began - BEAT)
    assert 6 < max(took) <= 18, "s, whatever there is to read"
    assert daemon.rollout.decisions == before
    assert daemon.rollout.counted_to is not None
    assert daemon.rollout.counted_to > daemon.clock.at - 60, "it has caught up"


# ---------------------------------------------------------------- writes that fail


@pytest.mark.parametrize("error", [Conflict("a verb wrote in between"), Unavailable("500")])
def test_harm_whose_record_could_not_be_saved_is_acted_on_at_the_next_beat(error: Exception) -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary().run(60)
    daemon.script = always(Answer.FAIL)
    save, failed_at = daemon.rollouts.save, []

    def fails_once(record: Record) -> Record:
        if record.rollout.phase is Phase.ROLLING_BACK and not failed_at:
            failed_at.append(daemon.clock.at)
            raise error
        return save(record)

    daemon.rollouts.save = fails_once  # type: ignore[method-assign]
    daemon.run_until(lambda r: r.phase.ended)
    assert daemon.rollout.ended == failed_at[0] + BEAT, "a look is longer than a beat, and is not waited for"


def test_a_look_whose_record_was_changed_by_a_verb_before_it_was_saved_is_heard_as_the_record_has_it() -> (
    None
):
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary().run(60)
    save, failed = daemon.rollouts.save, []

    def fails_once(record: Record) -> Record:
        if record.rollout.counted_to != daemon.rollout.counted_to and not failed:
            failed.append(record.rollout.counted_to)
            daemon.wish(promote=True)
            raise Conflict("promoted in between")
        return save(record)

    daemon.rollouts.save = fails_once  # type: ignore[method-assign]
    daemon.run(60)
    assert failed
    assert daemon.rollout.weight == 100
    spans = daemon.rollout.spans
    assert spans[0].end is not None
    assert spans[0].end < failed[0], "the look that could not be saved lies between the spans now"
    between = (spans[0].end, spans[1].start, 10)
    assert between in daemon.telemetry.reads, "so it is read as between them, as a new process would"


def test_looks_at_a_new_weight_begin_after_the_write_however_long_it_took() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).run()
    write, written = type(daemon.beat.reconciler.traffic).write, []

    def slow(self: Any, *arguments: Any) -> Any:
        daemon.clock.at += 30
        written.append(daemon.clock.at)
        return write(self, *arguments)

    daemon.deploy()
    daemon.beat.reconciler.traffic.write = slow.__get__(daemon.beat.reconciler.traffic)  # type: ignore[method-assign]
    rollout = daemon.run_until(lambda r: bool(r.spans))
    assert rollout.span is not None
    assert rollout.span.start > written[0]


# ---------------------------------------------------------------- people


def test_an_approval_in_a_pause_advances_when_the_pause_ends() -> None:
    stages = [{"weight": 50, "minimum": "60s", "approval": "required"}, {"weight": 100, "minimum": "60s"}]
    daemon = Daemon(stages=stages).run()
    daemon.deploy()
    daemon.run_until(lambda r: r.phase is Phase.AWAITING_APPROVAL)
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=True)
    daemon.wish(approved_stage=0)
    daemon.run(60)
    assert daemon.world.weight("v2") == 50
    daemon.rollouts.templates = replace(daemon.rollouts.templates, paused=False)
    daemon.run()
    assert daemon.world.weight("v2") == 100


@pytest.mark.parametrize(
    "route",
    [(a_destination("v1", 70), a_destination("v0", 30)), (a_destination("v0"),), (a_destination("v2"),)],
)
def test_a_route_changed_while_the_canary_was_awaited_is_waited_for_in_words(route: Sequence[Any]) -> None:
    daemon = Daemon().run()
    daemon.world.subsets |= {"v0": "v0", "v2": "v2"}
    daemon.deploy(available=False, ready=0)
    daemon.run(30)
    daemon.world.edit({"#0": tuple(route)})
    daemon.change("front-end-v2", available=True, ready=3)
    daemon.run(60)
    assert daemon.meter.bugs == 0
    assert (daemon.rollout.phase, daemon.world.lists) == (Phase.WAITING, {"#0": tuple(route)})
    assert daemon.rollout.reason.startswith("waiting: ")
    daemon.world.edit(dict(ORIGIN))
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_retry_that_cannot_begin_is_told_once_and_begins_when_it_can() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.world.subsets["v0"] = "v0"
    daemon.world.edit({"#0": (a_destination("v1", 70), a_destination("v0", 30))})
    daemon.wish(attempt=2)
    daemon.run(60)
    told = daemon.world.steps.count("remember")
    daemon.run(60)
    assert daemon.world.steps.count("remember") == told
    assert "v1 70%, v0 30%" in daemon.rollouts.templates.problem
    daemon.script = healthy
    daemon.world.edit(dict(ORIGIN))
    assert daemon.run_until(lambda r: r.attempt == 2 and r.phase.ended).phase is Phase.SUCCEEDED


def test_a_version_started_again_by_hand_can_be_retried() -> None:
    daemon = Daemon(always(Answer.FAIL)).run()
    daemon.deploy()
    first = daemon.ends_as(Phase.ROLLED_BACK)
    daemon.rollouts.asked.append(Request("production", "front-end", "v2", f"{first.name}-2"))
    daemon.run_until(lambda r: r.attempt == 2 and r.phase.ended)
    daemon.wish(attempt=3)
    assert daemon.run_until(lambda r: r.attempt == 3).name == f"{first.name}-3"


# ---------------------------------------------------------------- what is gone, or cannot be read


def test_a_deleted_record_is_told_and_forgotten_and_the_same_name_begins_from_nothing() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary().run(60)
    name = daemon.rollout.name
    daemon.rollouts.records.clear()
    daemon.world.edit(dict(ORIGIN))
    daemon.run()
    assert daemon.meter.deleted == [name]
    daemon.telemetry.reads.clear()
    daemon.rollouts.asked.append(Request("production", "front-end", "v2", name))
    daemon.run(60)
    assert daemon.rollout.name == name
    began = floor(daemon.rollout.began)
    assert daemon.telemetry.reads[1][0] == began, "its looks begin with it, after its own history"


def test_a_deployment_deleted_after_its_rollback_keeps_nothing_else_from_being_tidied() -> None:
    daemon = Daemon(always(Answer.FAIL), rollback={"scaleCanaryTo": 0, "after": "1m"}).run()
    for number in range(2, 16):
        daemon.deploy(f"v{number}")
        daemon.run_until(lambda r, n=number: r.entrance.canary == f"v{n}" and r.phase.ended)  # type: ignore[misc]
        del daemon.world.workloads[f"front-end-v{number}"]
        daemon.run(10)
    daemon.run(120)
    assert all(record.rollout.entrance.scaled for record in daemon.rollouts.records.values())
    assert len(daemon.rollouts.records) == 10


def test_a_record_whose_rollback_someone_has_not_heard_of_is_kept() -> None:
    daemon = Daemon(always(Answer.FAIL), hooks=[{"on": ["rolled_back"], "notify": "oncall"}]).run()
    daemon.postman.dead.add("oncall")
    for number in range(2, 14):
        daemon.deploy(f"v{number}")
        daemon.run_until(lambda r, n=number: r.entrance.canary == f"v{n}" and r.phase.ended)  # type: ignore[misc]
        daemon.run(10)
    assert len(daemon.rollouts.records) == 12
    daemon.postman.dead.clear()
    daemon.run(30)
    assert len([event for event in daemon.postman.events("oncall") if event == "rolled_back"]) >= 12
    assert len(daemon.rollouts.records) == 10


def test_harm_is_acted_on_also_when_what_is_known_of_the_service_cannot_be_read() -> None:
    daemon = Daemon().with_canary()

    def unreadable(policy: object) -> KnownTemplates:
        raise Rejected("ConfigMap canaryd-front-end: data.known must be a JSON list")

    daemon.rollouts.known = unreadable  # type: ignore[method-assign]
    daemon.run(1200)
    assert daemon.world.weight("v2") == 10, "whether the service is paused is not known, so nothing advances"
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_a_rollback_is_told_when_the_policy_file_has_gone_meanwhile() -> None:
    daemon = Daemon(always(Answer.FAIL), hooks=[{"on": ["rolled_back"], "notify": "oncall"}]).run()
    daemon.postman.dead.add("oncall")
    daemon.deploy()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.policies = []
    daemon.restart()
    daemon.postman.dead.clear()
    daemon.run(30)
    assert daemon.postman.events("oncall") == ["rolled_back"]


def test_telemetry_that_refuses_one_of_two_rollouts_is_told_once(logs: list[dict[str, object]]) -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    cart = a_policy(service={"name": "cart", "namespace": "production", "selector": {"app": "front-end"}})
    daemon.rollouts.create(
        Record(with_entrance(replace(daemon.rollout, policy=cart, name="cart"), name="cart"))
    )
    daemon.policies.append(cart)
    read = daemon.telemetry.read

    def refused(
        targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        if targets[0].service == "cart":
            raise Rejected("422: too many samples")
        return read(targets, start, end, step)

    daemon.telemetry.read = refused  # type: ignore[method-assign]
    daemon.run(60)
    told = [line["event"] for line in logs if line.get("name") == "telemetry"]
    assert told == ["telemetry.unavailable"]


def test_no_announcement_of_a_long_life_has_the_id_of_another() -> None:
    rollout, ids = a_rollout(), []
    for number in range(300):
        rollout = announcements.announced(rollout, "held", rollout.began + number, "again")
        ids.append(rollout.announcements[-1].id)
        rollout = replace(rollout, announcements=rollout.announcements[-200:])  # as a record is bounded
    assert len(set(ids)) == 300
