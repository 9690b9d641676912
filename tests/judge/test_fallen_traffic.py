"""Traffic that fell lets no stage pass undecided; what always was little, and what was ruled out, does."""

from math import floor

import pytest

from canaryd.domain.counts import Counts, Look
from canaryd.domain.lifecycle import Signal, stage_signal
from canaryd.domain.rollout import Phase, Span
from canaryd.domain.verdict import Answer
from canaryd.judge.fallen_traffic import LATELY, TrafficWatch, requests_to_tell
from canaryd.judge.judge import Judge
from tests.builders import NOW, a_rollout
from tests.commands.explain.recorded_rollout import lived
from tests.judge.looks import START, Sampled, a_ladder, a_look, some_counts, verdict_after


def at_the_deadline(judge: Judge) -> Signal | None:
    """What the latest look means, the stage's deadline being over."""
    assert judge.span is not None
    rollout = a_rollout(
        policy=judge.policy,
        phase=Phase.PROGRESSING,
        stage=judge.span.stage,
        weight=judge.span.weight,
        spans=(judge.span,),
        clock=1000.0,
    )
    return stage_signal(rollout, judge.assessment, NOW)


def a_judge(service: Sampled, *metrics: dict[str, object], stage: int = 2, weight: int = 50) -> Judge:
    judge = Judge(a_ladder(*metrics), service.history())
    judge.open(Span(stage, weight, service.now))
    return judge


def steady(number: int, requests: float, weight: int) -> Look:
    """A look at so many requests/s, of which stable fails 1% and the canary 1.35%: that is neither ruled out
    nor found within a quarter of an hour."""

    def counts(share: float, rate: float) -> Counts:
        served = requests * 10 * share
        failures = floor((number + 1) * served * rate) - floor(number * served * rate)
        return some_counts(round(served), failures)

    return a_look(number, {"s0": counts(1 - weight / 100, 0.01)}, {"c0": counts(weight / 100, 0.0135)})


def a_steady_judge(before: float, weight: int = 50) -> Judge:
    """After 60 looks of stable at so many requests/s."""
    judge = Judge(a_ladder({"errors": {}}), [steady(number, before, 0) for number in range(-60, 0)])
    judge.open(Span({10: 0, 25: 1, 50: 2}[weight], weight, START))
    return judge


def test_traffic_that_falls_in_mid_rollout_is_not_let_pass_to_all_users() -> None:
    service = Sampled(71)

    def look(weight: int) -> Look:
        service.requests = 2.0 if service.number >= 18 else 50.0
        return service.look(weight)

    rollout, _ = lived(a_ladder({"errors": {}}), look, 240)
    assert rollout.weight < 100
    assert Signal.LET_PASS.value not in {decision.signal for decision in rollout.decisions}
    held = next(decision for decision in rollout.decisions if decision.signal == Signal.STUCK.value)
    assert held.reason.startswith("still undecided at the stage's deadline of 15m with ")
    assert "; traffic fell from " in held.reason


def test_the_sentence_says_from_what_to_what_and_what_it_would_take() -> None:
    judge = a_steady_judge(50.0)
    for number in range(50):
        verdict = verdict_after(judge, steady(number, 50.0 if number < 5 else 2.0, 50))
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.traffic_fell
    assert verdict.canary_requests > judge.policy.analysis.minimum_requests
    assert verdict.reason.endswith(
        "; traffic fell from 37 to 2.0 requests/s in the last 3m20s: at that rate a stage of 15m sees "
        "900 requests of the canary, and would need about 1,723 for an even chance of seeing what it must "
        "rule out"
    )
    assert at_the_deadline(judge) is Signal.STUCK


@pytest.mark.parametrize(
    ("before", "lately", "weight", "signal"),
    [
        (50.0, 2.0, 50, Signal.STUCK),
        (50.0, 0.8, 25, Signal.STUCK),
        (2.0, 2.0, 50, Signal.LET_PASS),  # it always was as little: waiting brings no more
        (50.0, 20.0, 50, Signal.LET_PASS),  # it fell, and is enough
        (2.0, 20.0, 50, Signal.LET_PASS),
    ],
)
def test_what_the_last_looks_could_show_decides_at_the_deadline(
    before: float, lately: float, weight: int, signal: Signal
) -> None:
    judge = a_steady_judge(before, weight)
    for number in range(60):
        judge.observe(steady(number, before if number < 5 else lately, weight))
        if judge.assessment.answer is Answer.PASS:
            break
    assert judge.assessment.answer is Answer.UNDECIDED
    assert at_the_deadline(judge) is signal


def test_what_was_ruled_out_before_traffic_fell_stays_ruled_out() -> None:
    service = Sampled(74, errors=0.0, requests=200.0)
    judge = a_judge(service, {"errors": {}})
    while verdict_after(judge, service.look(50)).answer is not Answer.PASS:
        assert service.number < 300
    service.requests = 2.0
    for _ in range(2 * LATELY):
        verdict = verdict_after(judge, service.look(50))
        assert verdict.answer is Answer.PASS
        assert not verdict.traffic_fell


def test_a_stage_that_began_after_the_fall_is_asked_as_well() -> None:
    service = Sampled(75)
    judge = a_judge(service, {"errors": {}}, stage=1, weight=25)
    for _ in range(20):
        verdict_after(judge, service.look(25))
    service.requests = 2.0
    judge.open(Span(2, 50, service.now))
    told = [verdict_after(judge, service.look(50)).traffic_fell for _ in range(30)]
    assert told == [False] * 5 + [True] * 25  # of fewer looks a rate is chance


def test_latency_alone_is_asked_by_the_bound_that_tells_soonest() -> None:
    service = Sampled(76)
    judge = a_judge(service, {"latency": {}})
    service.requests = 0.2
    fell = [verdict_after(judge, service.look(50)).traffic_fell for _ in range(10)]
    assert judge.latency is not None
    wanted = requests_to_tell(None, judge.latency, judge.alarm.usual, 1.0, 3)
    assert 100 < wanted < 2000
    assert requests_to_tell(None, None, judge.alarm.usual, 1.0, 3) == 0.0
    assert any(fell)


def test_looks_without_a_request_are_part_of_the_rate_and_unread_ones_are_not() -> None:
    full = a_look(0, {"s0": some_counts(450)}, {})
    watch = TrafficWatch([full] * 10)
    for number in range(LATELY):
        watch.observe(a_look(number, {"s0": some_counts(9)}, {"c0": some_counts(1)} if number % 2 else {}))
    found = watch.fallen(900.0)
    assert found is not None
    assert (found.usual, found.lately, found.seconds) == (45.0, pytest.approx(0.95), 200)
    assert (found.canary_requests, found.stable_per_canary) == (pytest.approx(45.0), 18.0)
    assert TrafficWatch([]).fallen(900.0) is None
