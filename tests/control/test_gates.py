"""Gates in the daemon: asked in the background while the rollout waits, and whatever else happens
meanwhile."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.rollout import Held, Phase, Rollout, Span
from canaryd.domain.verdict import Answer
from tests.builders import a_destination
from tests.control.daemon_on_fakes import BEAT, Daemon, healthy
from tests.fakes import Crash

SMOKE = "https://tests.example/smoke"
OPEN = GateReply(True, "HTTP 200: 14 of 14 passed", 0.0)
CLOSED = GateReply(False, "HTTP 503: 2 of 14 tests failed", 0.0)


def a_daemon(
    before: object, replies: Callable[[GateQuestion], GateReply | None], script: Any = healthy, **more: Any
) -> Daemon:
    hook = {"before": before, "gate": SMOKE, **more.pop("hook", {})}
    daemon = Daemon(
        script, hooks=[hook, {"on": ["held", "resumed", "rolled_back"], "notify": "oncall"}], **more
    )
    daemon.gates.script = replies
    daemon.run()
    daemon.deploy()
    return daemon


def asking(rollout: Rollout) -> bool:
    return rollout.phase is Phase.AWAITING_GATE


def at_gate(before: object = 25, **more: Any) -> Daemon:
    daemon = a_daemon(before, lambda question: CLOSED, **more)
    daemon.run_until(lambda r: asking(r) and r.gate_question is not None and r.gate_question.at is not None)
    return daemon


# ---------------------------------------------------------------- waiting


def test_a_closed_gate_before_the_start_keeps_the_route_as_it_is_and_an_open_one_lets_it_begin() -> None:
    daemon = at_gate("start")
    daemon.run(120)
    assert (daemon.rollout.phase, daemon.rollout.stage, daemon.world.weight("v2"), daemon.world.history) == (
        Phase.AWAITING_GATE,
        -1,
        0,
        [],
    )
    assert (
        daemon.rollout.reason
        == f"before the start, the gate {SMOKE} is closed: HTTP 503: 2 of 14 tests failed"
    )
    daemon.gates.script = lambda question: OPEN
    assert (
        daemon.ends_as(Phase.SUCCEEDED).decisions[1].reason
        == f"the gate {SMOKE} is open: HTTP 200: 14 of 14 passed"
    )


@pytest.mark.parametrize(("before", "weight"), [(25, 10), (100, 50), ("promotion", 100)])
def test_a_closed_gate_keeps_the_weight_and_an_open_one_lets_it_go_on(before: object, weight: int) -> None:
    daemon = at_gate(before)
    daemon.run(300)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.AWAITING_GATE, weight)
    daemon.gates.script = lambda question: OPEN
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_gate_that_has_not_answered_yet_is_waited_for() -> None:
    daemon = a_daemon(25, lambda question: None)
    daemon.run_until(asking)
    daemon.run(3000)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (
        Phase.AWAITING_GATE,
        10,
    )  # no answer, no deadline: an answer does come


def test_a_gate_is_asked_only_once_the_question_is_on_record() -> None:
    seen: list[bool] = []
    daemon = a_daemon(25, lambda question: CLOSED)
    daemon.gates.script = lambda question: seen.append(asking(daemon.rollout)) or CLOSED  # type: ignore[func-returns-value]
    daemon.run_until(lambda r: len(seen) > 2)
    assert all(seen)


def test_an_open_gate_lets_nothing_go_on_that_the_evidence_of_the_moment_does_not() -> None:
    at = {"answer": Answer.PASS}
    daemon = a_daemon(
        25,
        lambda question: CLOSED,
        lambda end, span: at["answer"] if end - span.start >= 60 else Answer.UNDECIDED,
    )
    daemon.run_until(asking)
    at["answer"] = Answer.UNDECIDED
    daemon.gates.script = lambda question: OPEN
    daemon.run(100)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.PROGRESSING, 10)
    at["answer"] = Answer.PASS
    asked = len(daemon.gates.asked)
    daemon.run(30)
    assert (daemon.world.weight("v2"), len(daemon.gates.asked)) == (
        25,
        asked,
    )  # it has opened, and is not asked again


def test_an_open_gate_does_not_go_on_without_telemetry() -> None:
    daemon = at_gate()
    daemon.world.down.add("telemetry")
    daemon.gates.script = lambda question: OPEN
    daemon.run(400)
    assert (daemon.rollout.phase, daemon.rollout.held, daemon.world.weight("v2")) == (
        Phase.HELD,
        Held.NO_DATA,
        10,
    )
    daemon.world.down.clear()
    daemon.ends_as(Phase.SUCCEEDED)


# ---------------------------------------------------------------- what else happens meanwhile


def test_harm_rolls_back_while_a_gate_is_asked_and_an_answer_that_comes_after_that_is_nobody_s() -> None:
    harm = {"answer": Answer.PASS}
    daemon = a_daemon(
        25,
        lambda question: CLOSED,
        lambda end, span: harm["answer"] if end - span.start >= 60 else Answer.UNDECIDED,
    )
    daemon.run_until(asking)
    harm["answer"] = Answer.FAIL
    daemon.run_until(lambda r: r.phase is Phase.ROLLED_BACK)
    asked = len(daemon.gates.asked)
    daemon.gates.script = lambda question: OPEN
    daemon.run(60)
    assert (daemon.rollout.phase, daemon.world.weight("v2"), len(daemon.gates.asked)) == (
        Phase.ROLLED_BACK,
        0,
        asked,
    )


def test_harm_in_the_look_in_which_the_gate_opens_wins() -> None:
    harm = {"answer": Answer.PASS}
    daemon = a_daemon(
        25,
        lambda question: CLOSED,
        lambda end, span: harm["answer"] if end - span.start >= 60 else Answer.UNDECIDED,
    )
    daemon.run_until(asking)
    harm["answer"] = Answer.FAIL
    daemon.gates.script = lambda question: OPEN
    daemon.run_until(lambda r: r.phase is Phase.ROLLED_BACK)
    assert all(lists["#0"][-1].get("weight", 0) <= 10 for lists in daemon.world.history[:-1])


@pytest.mark.parametrize("before", ["start", 25, "promotion"])
def test_an_abort_a_newer_version_and_a_canary_that_fails_end_the_wait(before: object) -> None:
    aborted = at_gate(before)
    aborted.wish(abort=True)
    aborted.run_until(lambda r: r.phase is Phase.ROLLED_BACK)
    failed = at_gate(before)
    failed.change("front-end-v2", failed="crash loop", available=False)
    failed.run_until(lambda r: r.phase is Phase.ROLLED_BACK)
    overtaken = at_gate(before)
    overtaken.deploy("v3")
    overtaken.run_until(lambda r: r.entrance.canary == "v3")
    for daemon in (aborted, failed, overtaken):
        assert daemon.world.weight("v2") == 0


def test_the_whole_rollout_s_deadline_ends_the_wait() -> None:
    daemon = at_gate(schedule={"deadline": "10m"}, hook={"deadline": "1h"})
    assert "not finished within the 10m" in daemon.ends_as(Phase.ROLLED_BACK).reason


def test_an_alarm_at_the_promotion_s_gate_steps_back() -> None:
    alarm = {"on": False}
    daemon = a_daemon(
        "promotion",
        lambda question: CLOSED,
        lambda end, span: Answer.ALARM if alarm["on"] and span.weight == 100 else healthy(end, span),
    )
    daemon.run_until(asking)
    alarm["on"] = True
    assert daemon.run_until(lambda r: r.weight < 100).weight == 50


def test_a_route_that_someone_else_changes_holds_and_nothing_is_asked_then() -> None:
    daemon = at_gate()
    daemon.world.edit({"#0": (a_destination("v1"),)})
    daemon.run_until(lambda r: r.held is Held.DRIFT)
    asked = len(daemon.gates.asked)
    daemon.run(60)
    assert len(daemon.gates.asked) == asked


def test_a_route_that_someone_changes_before_the_start_is_begun_from_as_it_is_then() -> None:
    daemon = at_gate("start")
    other = ({**a_destination("v1"), "headers": {"request": {"set": {"a": "b"}}}},)
    daemon.world.edit({"#0": other})
    daemon.run(30)
    daemon.gates.script = lambda question: OPEN
    daemon.run_until(lambda r: r.weight == 10)
    assert daemon.rollout.entrance.route.origin["#0"] == other


def test_in_a_pause_no_gate_is_asked_and_after_it_the_question_is_a_new_one() -> None:
    daemon = at_gate()
    daemon.rollouts.templates = _paused(daemon, True)
    daemon.run(10)
    before = len(daemon.gates.asked)
    daemon.run(1200)  # longer than the gate's deadline, which does not run either
    assert (len(daemon.gates.asked), daemon.rollout.phase) == (before, Phase.AWAITING_GATE)
    daemon.rollouts.templates = _paused(daemon, False)
    daemon.run(30)
    assert daemon.gates.asked[-1].id != daemon.gates.asked[before - 1].id
    assert daemon.rollout.phase is Phase.AWAITING_GATE


def _paused(daemon: Daemon, paused: bool) -> Any:
    return replace(daemon.rollouts.templates, paused=paused)


# ---------------------------------------------------------------- its deadline


def test_a_gate_closed_at_its_deadline_holds_is_told_once_and_goes_on_by_itself_when_it_opens() -> None:
    daemon = at_gate(hook={"deadline": "2m"})
    daemon.run_until(lambda r: r.held is Held.GATE)
    daemon.run(600)
    assert daemon.postman.events("oncall") == ["held"]
    assert (
        daemon.rollout.reason
        == f"before 25%, the gate {SMOKE} is closed, 2m after it was first asked: HTTP 503: 2 of 14 tests "
        "failed"
    )
    daemon.gates.script = lambda question: OPEN
    daemon.ends_as(Phase.SUCCEEDED)
    assert daemon.postman.events("oncall") == ["held", "resumed"]


def test_a_gate_closed_at_its_deadline_before_the_start_holds_and_goes_on_too() -> None:
    daemon = at_gate("start", hook={"deadline": "2m"})
    daemon.run_until(lambda r: r.held is Held.GATE)
    assert daemon.world.history == []
    daemon.gates.script = lambda question: OPEN
    daemon.ends_as(Phase.SUCCEEDED)


@pytest.mark.parametrize(("before", "stage"), [("start", -1), (25, 0), ("promotion", 3)])
def test_a_gate_closed_at_its_deadline_rolls_back_where_the_policy_says_so(
    before: object, stage: int
) -> None:
    daemon = at_gate(before, hook={"deadline": "2m", "closed": "rollback"})
    rolled_back = daemon.ends_as(Phase.ROLLED_BACK)
    assert (rolled_back.stage, daemon.world.weight("v2"), daemon.world.weight("v1")) == (stage, 0, 100)
    assert "is closed, 2m after it was first asked: HTTP 503" in rolled_back.reason


# ---------------------------------------------------------------- people


def test_a_person_opens_the_gate_that_is_waited_for_and_no_later_one() -> None:
    daemon = a_daemon(25, lambda question: CLOSED)
    daemon.policies[0] = daemon.policy.model_copy(
        update={"hooks": (daemon.policy.hooks[0], daemon.policy.hooks[0])}
    )
    daemon.run_until(lambda r: asking(r) and r.gate_question is not None and r.gate_question.at is not None)
    daemon.wish(opened_gate=1)
    daemon.run_until(lambda r: r.gate_question is not None and r.gate_question.number == 2 and asking(r))
    daemon.run(120)
    assert (daemon.rollout.phase, daemon.world.weight("v2")) == (Phase.AWAITING_GATE, 10)
    assert any(
        decision.reason == f"the gate {SMOKE} was opened by a person" for decision in daemon.rollout.decisions
    )
    daemon.wish(opened_gate=2)
    daemon.run_until(lambda r: r.weight == 25)


def test_a_person_opens_a_gate_that_is_held_for() -> None:
    daemon = at_gate(hook={"deadline": "2m"})
    daemon.run_until(lambda r: r.held is Held.GATE)
    daemon.wish(opened_gate=1)
    daemon.run_until(lambda r: r.weight == 25)


def test_a_person_s_opening_in_a_pause_counts_when_the_pause_ends() -> None:
    daemon = at_gate()
    daemon.rollouts.templates = _paused(daemon, True)
    daemon.run(10)
    number = daemon.rollout.gate_question
    assert number is not None
    daemon.wish(opened_gate=number.number)
    daemon.run(60)
    assert daemon.rollout.phase is Phase.AWAITING_GATE
    daemon.rollouts.templates = _paused(daemon, False)
    daemon.run_until(lambda r: r.weight == 25, within=60)


def test_a_hold_by_a_person_stops_the_asking_and_what_was_open_is_asked_anew_after_it() -> None:
    daemon = at_gate()
    daemon.wish(hold=True)
    daemon.run_until(lambda r: r.held is Held.PERSON)
    asked = len(daemon.gates.asked)
    daemon.gates.script = lambda question: OPEN
    daemon.run(60)
    assert (len(daemon.gates.asked), daemon.world.weight("v2")) == (asked, 10)
    daemon.wish(hold=False)
    daemon.run_until(lambda r: r.weight == 25)
    assert daemon.gates.asked[-1].id != daemon.gates.asked[asked - 1].id


def test_an_observed_rollout_asks_too_and_says_that_it_only_observes() -> None:
    daemon = at_gate("start", mode="observe")
    assert daemon.gates.asked[-1].mode == "observe"
    assert daemon.world.history == []


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize("before", ["start", 25, "promotion"])
@pytest.mark.parametrize("steps", range(1, 4))
def test_after_a_crash_the_same_question_is_asked_until_an_answer_is_on_record(
    before: object, steps: int
) -> None:
    daemon = at_gate(before)
    ids = {question.id for question in daemon.gates.asked}
    daemon.gates.script = lambda question: OPEN
    daemon.world.steps.clear()
    daemon.world.crash_after = steps
    try:
        daemon.run(60)
    except Crash:
        daemon.restart()
    assert {question.id for question in daemon.gates.asked} == ids
    daemon.ends_as(Phase.SUCCEEDED)
    assert {question.id for question in daemon.gates.asked} == ids


def test_an_answer_that_cannot_be_saved_is_taken_again() -> None:
    daemon = at_gate()
    daemon.gates.script = lambda question: OPEN
    daemon.world.down.add("api")
    daemon.run(60)
    daemon.world.down.clear()
    daemon.ends_as(Phase.SUCCEEDED)
    assert len({question.id for question in daemon.gates.asked}) == 1


def test_a_restart_long_after_the_deadline_asks_before_it_gives_up() -> None:
    daemon = at_gate(hook={"deadline": "2m", "closed": "rollback"})
    daemon.clock.at += 3600
    daemon.gates.script = lambda question: OPEN
    daemon.restart()
    daemon.ends_as(Phase.SUCCEEDED)


def test_a_rolled_back_version_s_next_attempt_asks_a_question_of_its_own() -> None:
    daemon = at_gate("start")
    daemon.wish(abort=True)
    daemon.run_until(lambda r: r.phase is Phase.ROLLED_BACK)
    first = daemon.gates.asked[-1].id
    daemon.clock.at += BEAT
    daemon.wish(attempt=2)
    daemon.run_until(lambda r: r.attempt == 2 and asking(r))
    daemon.run(10)
    assert daemon.gates.asked[-1].id != first


def test_a_step_back_and_a_new_advance_ask_again() -> None:
    def alarming(end: int, span: Span) -> Answer:
        return Answer.ALARM if span.weight == 100 else healthy(end, span)

    daemon = a_daemon(100, lambda question: OPEN, alarming)
    daemon.run_until(lambda r: r.step_backs == 2)
    assert len({question.id for question in daemon.gates.asked}) == 2
