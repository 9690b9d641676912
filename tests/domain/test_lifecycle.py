"""Every phase times every signal, and what a verdict means in a stage."""

from dataclasses import replace
from typing import Any

import pytest

from canaryd.domain import lifecycle
from canaryd.domain.lifecycle import TRANSITIONS, Detail, RefusedSignal, Signal, advance, stage_signal
from canaryd.domain.rollout import Held, Phase, Rollout, Span
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from tests.builders import NOW, ORIGIN, a_policy, a_rollout, a_service, a_verdict, with_entrance

LIVE = (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.HELD)
SERVING_HARM = (Signal.HARM, Signal.ABORT, Signal.NOT_READY, Signal.OVERDUE)


ROUTED = (a_service(confirmed=ORIGIN),)  # with its route confirmed


def in_phase(phase: Phase, **changes: object) -> Rollout:
    fresh = (
        {"stage": -1, "weight": 0, "spans": (), "clock_from": None, "stage_began": None}
        if phase is Phase.WAITING
        else {}
    )
    away = {"weight": 0} if phase in (Phase.ROLLING_BACK, Phase.GIVING_WAY) else {}
    held = {"held": Held.PERSON} if phase is Phase.HELD else {}
    return a_rollout(**{"phase": phase, **fresh, **away, **held, **changes})


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("signal", list(Signal))
def test_every_pair_is_either_in_the_table_or_refused_by_name(phase: Phase, signal: Signal) -> None:
    rollout = in_phase(phase)
    if (phase, signal) not in TRANSITIONS:
        with pytest.raises(RefusedSignal, match=f"{phase.value}.*{signal.value}"):
            advance(rollout, signal, NOW + 400)
        return
    after = advance(
        rollout, signal, NOW + 400, Detail("because", services=ROUTED, start=int(NOW) + 410, stage=0)
    )
    assert 0 <= after.weight <= 100
    assert (after.held is None) == (after.phase is not Phase.HELD)
    assert (after.ended is not None) == after.phase.ended
    if after.phase in (Phase.ROLLING_BACK, Phase.GIVING_WAY, Phase.ROLLED_BACK, Phase.SUPERSEDED):
        assert after.weight == 0
    if after.phase is not phase:
        assert after.decisions[-1].signal == signal.value


@pytest.mark.parametrize("phase", [p for p in Phase if p.ended])
def test_an_ended_rollout_takes_no_signal(phase: Phase) -> None:
    assert not [s for s in Signal if (phase, s) in TRANSITIONS]


@pytest.mark.parametrize("phase", LIVE)
@pytest.mark.parametrize("signal", SERVING_HARM)
def test_whatever_serves_users_can_be_rolled_back(phase: Phase, signal: Signal) -> None:
    after = advance(in_phase(phase), signal, NOW + 400, Detail("harm"))
    assert (after.phase, after.weight, after.reason) == (Phase.ROLLING_BACK, 0, "harm")


def test_the_ladder_is_climbed_stage_by_stage_and_ends_in_promotion() -> None:
    rollout = in_phase(Phase.WAITING)
    rollout = advance(rollout, Signal.AVAILABLE, NOW)
    weights = [rollout.weight]
    now = NOW
    while rollout.phase is Phase.PROGRESSING:
        rollout = advance(rollout, Signal.ROUTED, now, Detail(services=ROUTED, start=int(now) + 5))
        now += 100
        rollout = advance(rollout, Signal.PASS, now, Detail("fine", a_verdict(Answer.PASS, at=int(now) - 5)))
        weights.append(rollout.weight)
    assert weights == [10, 25, 50, 100, 100]
    assert rollout.phase is Phase.PROMOTING
    done = advance(rollout, Signal.ROUTED, now)
    assert done.phase is Phase.SUCCEEDED
    assert [news.event for news in done.announcements] == ["advanced"] * 4 + ["succeeded"]
    assert len({news.id for news in done.announcements}) == 5


def test_spans_follow_one_another_and_end_at_the_last_judged_look() -> None:
    rollout = a_rollout(spans=(Span(0, 10, int(NOW)),))
    rollout = advance(
        rollout, Signal.PASS, NOW + 75, Detail("fine", a_verdict(Answer.PASS, at=int(NOW) + 60))
    )
    assert rollout.spans == (Span(0, 10, int(NOW), int(NOW) + 60),)
    rollout = advance(rollout, Signal.ROUTED, NOW + 76, Detail(services=ROUTED, start=int(NOW) + 92))
    assert rollout.spans[-1] == Span(1, 25, int(NOW) + 92)


def test_approval_is_asked_after_the_stage_has_passed_and_goes_on_when_given() -> None:
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "60s", "deadline": "10m", "approval": "required"}, {"weight": 100}]
    )
    asked = advance(
        a_rollout(policy=policy, weight=50), Signal.PASS, NOW + 100, Detail("fine", a_verdict(Answer.PASS))
    )
    assert (asked.phase, asked.weight, asked.announcements[-1].event) == (
        Phase.AWAITING_APPROVAL,
        50,
        "approval_needed",
    )
    given = advance(asked, Signal.APPROVE, NOW + 200, Detail("approved", stage=0))
    assert (given.phase, given.weight) == (Phase.PROGRESSING, 100)


def test_a_deadline_does_not_go_round_an_approval() -> None:
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "60s", "deadline": "10m", "approval": "required"}, {"weight": 100}]
    )
    assert advance(a_rollout(policy=policy, weight=50), Signal.LET_PASS, NOW).phase is Phase.AWAITING_APPROVAL


def test_approval_given_before_it_is_asked_is_kept() -> None:
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "60s", "deadline": "10m", "approval": "required"}, {"weight": 100}]
    )
    early = advance(a_rollout(policy=policy, weight=50), Signal.APPROVE, NOW, Detail(stage=0))
    assert advance(early, Signal.PASS, NOW + 100).weight == 100


def test_an_alarm_at_full_weight_steps_back_to_the_weight_before() -> None:
    back = advance(a_rollout(stage=3, weight=100), Signal.ALARM, NOW + 100, Detail("errors rose"))
    assert (back.phase, back.stage, back.weight, back.announcements[-1].event) == (
        Phase.PROGRESSING,
        2,
        50,
        "stepped_back",
    )


def test_a_version_that_keeps_alarming_is_left_to_a_person() -> None:
    back = advance(a_rollout(stage=3, weight=100, step_backs=lifecycle.MAX_STEP_BACKS - 1), Signal.ALARM, NOW)
    assert (back.phase, back.held, back.weight) == (Phase.HELD, Held.ALARMS, 50)


def test_a_step_back_into_a_hold_is_told_as_both() -> None:
    back = advance(a_rollout(stage=3, weight=100, step_backs=lifecycle.MAX_STEP_BACKS - 1), Signal.ALARM, NOW)
    assert [news.event for news in back.announcements] == ["stepped_back", "held"]


def test_with_a_ladder_of_one_rung_an_alarm_rolls_back() -> None:
    only = a_policy(stages=[{"weight": 100}])
    assert advance(a_rollout(policy=only, stage=0, weight=100), Signal.ALARM, NOW).phase is Phase.ROLLING_BACK


def test_the_deadline_stands_still_while_held_and_without_data() -> None:
    rollout = a_rollout(clock_from=NOW)
    held = advance(rollout, Signal.HOLD, NOW + 100)
    assert held.stage_clock(NOW + 5000) == 100
    resumed = advance(held, Signal.RESUME, NOW + 5000)
    assert resumed.stage_clock(NOW + 5050) == 150
    lost = advance(resumed, Signal.DATA_LOST, NOW + 5050)
    assert lost.stage_clock(NOW + 9999) == 150
    assert advance(lost, Signal.DATA, NOW + 6000).stage_clock(NOW + 6010) == 160


def test_a_hold_for_want_of_data_ends_with_data_and_a_person_s_does_not() -> None:
    blind = advance(a_rollout(), Signal.NO_DATA, NOW)
    assert advance(blind, Signal.DATA, NOW + 1).phase is Phase.PROGRESSING
    held = advance(a_rollout(), Signal.HOLD, NOW)
    assert advance(held, Signal.DATA, NOW + 1).held is Held.PERSON


def test_promote_goes_to_full_weight_and_is_obeyed_once() -> None:
    up = advance(a_rollout(), Signal.PROMOTE, NOW)
    assert (up.weight, up.stage, up.promoted) == (100, 3, True)


def test_a_changed_stable_voids_what_was_compared() -> None:
    changed = advance(
        a_rollout(), Signal.STABLE_CHANGED, NOW + 100, Detail(services=(a_service(stable_template="other"),))
    )
    assert (changed.entrance.stable_template, changed.weight, changed.phase) == (
        "other",
        10,
        Phase.PROGRESSING,
    )
    reopened = advance(changed, Signal.ROUTED, NOW + 100, Detail(services=ROUTED, start=int(NOW) + 116))
    assert reopened.spans[-1] == Span(0, 10, int(NOW) + 116, fresh=True)
    later = advance(
        advance(reopened, Signal.PASS, NOW + 200), Signal.ROUTED, NOW + 201, Detail(start=int(NOW) + 216)
    )
    assert later.spans[-1].fresh is False


@pytest.mark.parametrize(
    ("answer", "after", "canary_requests", "stage_odds", "undecided", "signal"),
    [
        (Answer.FAIL, 10, 5, 200.0, "advance", Signal.HARM),
        (Answer.ALARM, 10, 5, 1.0, "advance", Signal.ALARM),
        (Answer.PASS, 50, 1000, 1.0, "advance", None),  # before the minimum
        (Answer.PASS, 60, 1000, 1.0, "advance", Signal.PASS),
        (Answer.UNDECIDED, 300, 1000, 1.0, "advance", None),
        (Answer.UNDECIDED, 600, 1000, 1.0, "advance", Signal.LET_PASS),
        (Answer.UNDECIDED, 600, 99, 1.0, "advance", Signal.STUCK),  # a quiet night promotes nothing
        (Answer.UNDECIDED, 600, 1000, 3.0, "advance", Signal.STUCK),
        (Answer.UNDECIDED, 600, 1000, 1.0, "hold", Signal.STUCK),
        (Answer.UNDECIDED, 600, 1000, 1.0, "rollback", Signal.TIMED_OUT),
        (Answer.NO_DATA, 600, 99, 1.0, "advance", Signal.STUCK),
    ],
)
def test_what_a_verdict_means_in_a_stage(
    answer: Answer, after: int, canary_requests: int, stage_odds: float, undecided: str, signal: Signal | None
) -> None:
    rollout = a_rollout(policy=a_policy(analysis={"interval": "10s", "undecided": undecided}))
    verdict = a_verdict(answer, at=int(NOW) + after, canary_requests=canary_requests, stage_odds=stage_odds)
    assert stage_signal(rollout, verdict, NOW + after) is signal


@pytest.mark.parametrize(
    ("finding", "signal"),
    [
        (
            MetricFinding(
                "errors", "errors", Answer.UNDECIDED, 13, 1000, 9, 100, ratio=6.9, unacceptable=5.0
            ),
            Signal.STUCK,
        ),
        (
            MetricFinding(
                "errors", "errors", Answer.UNDECIDED, 13, 1000, 4, 100, ratio=6.9, unacceptable=5.0
            ),
            Signal.LET_PASS,
        ),  # chance
        (
            MetricFinding(
                "errors", "errors", Answer.UNDECIDED, 13, 1000, 5, 100, ratio=3.9, unacceptable=5.0
            ),
            Signal.LET_PASS,
        ),
        (
            MetricFinding(
                "errors", "errors", Answer.UNDECIDED, 0, 1000, 9, 100, ratio=None, unacceptable=5.0
            ),
            Signal.STUCK,
        ),
        (
            MetricFinding(
                "errors", "errors", Answer.UNDECIDED, 0, 9000, 9, 2000, ratio=None, unacceptable=5.0
            ),
            Signal.LET_PASS,
        ),
        (MetricFinding("latency", "all bounds", Answer.NO_DATA), Signal.STUCK),  # no block has closed
        (
            MetricFinding("cpu", "at most 1", Answer.NO_DATA, limit=1.0),
            Signal.STUCK,
        ),  # a limit that was never seen
        (MetricFinding("cpu", "at most 1", Answer.PASS, value=0.3, limit=1.0), Signal.LET_PASS),
    ],
)
def test_what_looks_unacceptable_is_not_let_pass_at_a_deadline(
    finding: MetricFinding, signal: Signal
) -> None:
    query = {"query": {"name": "cpu", "promql": "up", "max": 1}}
    rollout = a_rollout(policy=a_policy(analysis={"interval": "10s", "metrics": [{"errors": {}}, query]}))
    verdict = a_verdict(
        Answer.UNDECIDED, at=int(NOW) + 600, canary_requests=1000, findings=(finding,), few_blocks=True
    )
    assert stage_signal(rollout, verdict, NOW + 600) is signal


@pytest.mark.parametrize(("dry_run", "signal"), [(False, Signal.STUCK), (True, Signal.LET_PASS)])
@pytest.mark.parametrize("metric", ["errors", "latency", "cpu"])
def test_what_was_never_seen_is_not_let_pass_at_a_deadline_unless_it_decides_nothing(
    metric: str, dry_run: bool, signal: Signal
) -> None:
    finding = MetricFinding(metric, "all bounds", Answer.NO_DATA, dry_run=dry_run)
    verdict = a_verdict(Answer.UNDECIDED, at=int(NOW) + 600, canary_requests=1000, findings=(finding,))
    assert stage_signal(a_rollout(), verdict, NOW + 600) is signal


@pytest.mark.parametrize("fell", [True, False])
@pytest.mark.parametrize("undecided", ["advance", "rollback"])
def test_a_stage_whose_traffic_fell_is_not_let_pass_at_its_deadline(fell: bool, undecided: str) -> None:
    rollout = a_rollout(policy=a_policy(analysis={"interval": "10s", "undecided": undecided}))
    verdict = a_verdict(at=int(NOW) + 600, canary_requests=1000, traffic_fell=fell)
    let_pass = Signal.STUCK if fell else Signal.LET_PASS
    assert stage_signal(rollout, verdict, NOW + 600) is (
        let_pass if undecided == "advance" else Signal.TIMED_OUT
    )
    # What was ruled out is ruled out, whatever the traffic is now.
    assert stage_signal(rollout, replace(verdict, answer=Answer.PASS), NOW + 600) is Signal.PASS


@pytest.mark.parametrize("is_over", [True, False])
def test_what_is_over_a_limit_lately_is_not_let_pass_at_a_deadline(is_over: bool) -> None:
    """Whatever stable does: where both are over it, neither a pass nor a rollback is right."""
    finding = MetricFinding(
        "errors", "at most 5.0% errors", Answer.UNDECIDED, value=0.15, limit=0.05, is_over=is_over
    )
    verdict = a_verdict(Answer.UNDECIDED, at=int(NOW) + 600, canary_requests=1000, findings=(finding,))
    assert stage_signal(a_rollout(), verdict, NOW + 600) is (Signal.STUCK if is_over else Signal.LET_PASS)


def test_where_the_odds_can_speak_a_plain_estimate_does_not_hold_a_stage() -> None:
    """A burst of errors looks unacceptable and is not: the odds know."""
    finding = MetricFinding(
        "errors", "errors", Answer.UNDECIDED, 13, 1000, 9, 100, ratio=6.9, unacceptable=5.0
    )
    verdict = a_verdict(Answer.UNDECIDED, at=int(NOW) + 600, canary_requests=1000, findings=(finding,))
    assert stage_signal(a_rollout(), verdict, NOW + 600) is Signal.LET_PASS


@pytest.mark.parametrize("phase", [Phase.HELD, Phase.AWAITING_APPROVAL])
def test_a_rollout_that_waits_still_rolls_back_on_harm_and_does_not_advance(phase: Phase) -> None:
    waiting = in_phase(phase)
    assert stage_signal(waiting, a_verdict(Answer.FAIL), NOW) is Signal.HARM
    assert stage_signal(waiting, a_verdict(Answer.PASS, at=int(NOW) + 900), NOW + 900) is None


def test_a_hold_for_want_of_evidence_goes_on_when_the_evidence_passes_and_not_at_a_deadline() -> None:
    held = in_phase(Phase.HELD, held=Held.UNDECIDED, clock=600.0, clock_from=None)
    late = a_verdict(Answer.PASS, at=int(NOW) + 900)
    assert stage_signal(held, late, NOW + 900) is Signal.PASS
    assert stage_signal(held, replace(late, answer=Answer.UNDECIDED), NOW + 9000) is None
    assert stage_signal(held, replace(late, at=int(NOW) + 59), NOW + 900) is None, "a minimum stays one"
    on = advance(held, Signal.PASS, NOW + 900, Detail("fine", late))
    assert (on.phase, on.held, on.weight, on.announcements[-1].event) == (
        Phase.PROGRESSING,
        None,
        25,
        "advanced",
    )


@pytest.mark.parametrize("why", [why for why in Held if why not in (Held.UNDECIDED, Held.ALERT)])
def test_no_other_hold_ends_with_evidence(why: Held) -> None:
    held = in_phase(Phase.HELD, held=why)
    assert stage_signal(held, a_verdict(Answer.PASS, at=int(NOW) + 900), NOW + 900) is None
    assert advance(held, Signal.PASS, NOW + 900) == held


def test_a_late_pass_of_the_last_stage_is_a_promotion_and_no_hold() -> None:
    done = advance(in_phase(Phase.HELD, held=Held.UNDECIDED, stage=3, weight=100), Signal.PASS, NOW + 900)
    assert (done.phase, done.held) == (Phase.PROMOTING, None)


def test_the_record_of_decisions_is_bounded() -> None:
    rollout = a_rollout()
    for i in range(lifecycle.KEPT_DECISIONS + 10):
        rollout = advance(rollout, Signal.HOLD if i % 2 == 0 else Signal.RESUME, NOW + i)
    assert len(rollout.decisions) == lifecycle.KEPT_DECISIONS


def test_a_reason_survives_to_the_end() -> None:
    bad = advance(a_rollout(), Signal.HARM, NOW, Detail("errors 5% against 0.5%", a_verdict(Answer.FAIL)))
    done = advance(with_entrance(bad, confirmed=ORIGIN), Signal.ROUTED, NOW + 1, Detail(services=ROUTED))
    assert (done.phase, done.reason) == (Phase.ROLLED_BACK, "errors 5% against 0.5%")
    assert done.announcements[-1].reason == "errors 5% against 0.5%"
    assert done.announcements[-1].verdict is not None


# ---------------------------------------------------------------- alerts


def alerted(since: float = NOW + 400, answer: Answer = Answer.UNDECIDED, **changes: Any) -> Verdict:
    alert = MetricFinding("alerts", "alert Slow", Answer.UNDECIDED, since=int(since), says="alert Slow fires")
    return a_verdict(answer, at=int(NOW) + 900, findings=(alert,), **changes)


def unknown() -> Verdict:
    finding = MetricFinding("alerts", "alerts that fire", Answer.NO_DATA)
    return a_verdict(Answer.UNDECIDED, at=int(NOW) + 900, findings=(finding,))


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.AWAITING_GATE])
@pytest.mark.parametrize("answer", [Answer.UNDECIDED, Answer.PASS, Answer.NO_DATA])
def test_an_alert_holds_whatever_the_evidence_says(phase: Phase, answer: Answer) -> None:
    rollout = in_phase(phase)
    assert stage_signal(rollout, alerted(answer=answer), NOW + 900) is Signal.ALERT_FIRING
    held = advance(rollout, Signal.ALERT_FIRING, NOW + 900, Detail("alert Slow fires"))
    assert (held.phase, held.held, held.weight) == (Phase.HELD, Held.ALERT, rollout.weight)


def test_harm_comes_before_an_alert_that_holds() -> None:
    assert stage_signal(in_phase(Phase.HELD), alerted(answer=Answer.FAIL), NOW + 900) is Signal.HARM


def test_a_hold_for_an_alert_ends_when_it_has_resolved_and_not_when_that_is_not_known() -> None:
    held = in_phase(Phase.HELD, held=Held.ALERT)
    assert stage_signal(held, alerted(), NOW + 900) is None
    assert stage_signal(held, unknown(), NOW + 900) is None
    assert stage_signal(held, a_verdict(at=int(NOW) + 900), NOW + 900) is Signal.ALERT_RESOLVED
    assert advance(held, Signal.ALERT_RESOLVED, NOW + 900).phase is Phase.PROGRESSING
    assert advance(in_phase(Phase.HELD, held=Held.DRIFT), Signal.ALERT_RESOLVED, NOW).phase is Phase.HELD


def test_evidence_passes_no_other_hold_while_an_alert_fires() -> None:
    undecided = in_phase(Phase.HELD, held=Held.UNDECIDED)
    assert stage_signal(undecided, alerted(answer=Answer.PASS), NOW + 900) is None


@pytest.mark.parametrize("word", [Signal.RESUME, Signal.PROMOTE])
def test_a_persons_word_lets_it_go_on_with_an_alert_that_fired_by_then_and_with_no_later_one(
    word: Signal,
) -> None:
    held = in_phase(Phase.HELD, held=Held.ALERT)
    going_on = advance(held, word, NOW + 500, Detail(f"{word.value} by a person", resumed=1))
    assert going_on.phase is Phase.PROGRESSING
    assert stage_signal(going_on, alerted(NOW + 400), NOW + 900) is not Signal.ALERT_FIRING
    assert stage_signal(going_on, alerted(NOW + 600), NOW + 900) is Signal.ALERT_FIRING
    assert stage_signal(going_on, alerted(NOW + 400), NOW + 450) is Signal.ALERT_FIRING, "as it was then"
