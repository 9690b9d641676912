"""A policy on a past, as a pure fold: the same judge and the same lifecycle as live, on weights that were
what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from canaryd.commands.backtest.backtest import imagined, is_own, retold, step, unfit
from canaryd.domain.counts import Counts, Look
from canaryd.domain.lifecycle import Signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Decision, Held, Phase, Rollout, Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.sample_ratio import SETTLE_LOOKS, SHORT
from canaryd.report.reporting_judge import ReportingJudge
from tests.builders import NOW, a_policy, a_rollout, a_verdict
from tests.judge.looks import START, Sampled, a_ladder, a_look, some_counts


def a_past(policy: Policy, **changes: Any) -> Past:
    values = {
        "namespace": "production",
        "service": "front-end",
        "stable": "v1",
        "canary": "v2",
        "stable_workload": "front-end-v1",
        "canary_workload": "front-end-v2",
        "interval": 10,
        "since": START - 100,
        "start": START,
        "end": START + 3600,
        "policy": policy,
        "grpc_failures": policy.analysis.errors.grpc_failures if policy.analysis.errors else (),
    }
    return Past(**{**values, **changes})


def course(policy: Policy, looks: Iterator[Look], by_weight: bool = False) -> tuple[Rollout, list[Verdict]]:
    """The fold alone, as control does it with a case."""
    rollout, judge, verdicts = (
        imagined(a_past(policy), policy),
        ReportingJudge(Judge(policy, (), by_weight)),
        [],
    )
    opened = 0
    for look in looks:
        for span in rollout.spans[opened:]:
            judge.open(span)
        opened = len(rollout.spans)
        verdicts.append(judge.observe(look))
        rollout = step(rollout, verdicts[-1], {}, look.sampled)
        if rollout.phase.ended:
            break
    return rollout, verdicts


def many(look: Callable[[int], Look], number: int = 360) -> Iterator[Look]:
    return (look(i) for i in range(number))


def signals(rollout: Rollout) -> list[str]:
    return [decision.signal for decision in rollout.decisions]


def test_a_good_version_goes_through_every_stage_whatever_the_split_was() -> None:
    service = Sampled(1)
    rollout, _ = course(a_ladder(), many(lambda i: service.look(50)))
    assert rollout.phase is Phase.SUCCEEDED, rollout.reason
    assert [(span.stage, span.weight) for span in rollout.spans] == [(0, 10), (1, 25), (2, 50), (3, 100)]
    assert [before.end for before in rollout.spans[:-1]] == [after.start for after in rollout.spans[1:]]


def test_harm_is_decided_at_the_look_that_shows_it() -> None:
    service = Sampled(2, errors=0.01, more_errors=4.0)
    rollout, verdicts = course(a_ladder(), many(lambda i: service.look(10)))
    assert rollout.phase is Phase.ROLLED_BACK
    assert [verdict.answer for verdict in verdicts].index(Answer.FAIL) == len(verdicts) - 1
    assert rollout.decisions[-2].verdict == verdicts[-1]
    assert rollout.ended == verdicts[-1].at


def test_an_imagined_weight_that_the_traffic_did_not_follow_is_not_held_against_it() -> None:
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "10m", "deadline": "20m"}, {"weight": 100, "minimum": "10m"}]
    )
    live, past = Sampled(3), Sampled(3)
    _, told = course(policy, many(lambda i: live.look(5), 20), by_weight=True)
    _, verdicts = course(policy, many(lambda i: past.look(5), 20))
    assert "traffic does not follow the weight" in told[SETTLE_LOOKS + SHORT.looks].reason
    assert Answer.NO_DATA not in {verdict.answer for verdict in verdicts}


def test_looks_without_traffic_of_the_canary_are_no_data_and_hold() -> None:
    policy = a_policy(analysis={"interval": "10s", "noDataFor": "2m"})
    rollout, verdicts = course(policy, many(lambda i: a_look(i, {"s": some_counts(500)}, {}), 30))
    assert {verdict.answer for verdict in verdicts} == {Answer.NO_DATA}
    assert (rollout.phase, rollout.held) == (Phase.HELD, Held.NO_DATA)
    assert "no request of the canary" in rollout.reason


def test_data_that_come_back_let_it_go_on_and_the_deadline_stood_still_meanwhile() -> None:
    policy, service = a_policy(analysis={"interval": "10s", "noDataFor": "2m"}), Sampled(4)
    rollout, _ = course(
        policy, many(lambda i: replace(service.look(10), sampled=False) if i < 100 else service.look(10), 130)
    )
    assert [Signal.NO_DATA.value, Signal.DATA.value] == signals(rollout)[1:3]
    assert Signal.STUCK.value not in signals(rollout)
    assert rollout.decisions[2].at == START + 1010


def test_an_approval_is_taken_as_given_and_said_to_be() -> None:
    policy = a_policy(
        stages=[{"weight": 25, "minimum": "60s", "approval": "required"}, {"weight": 100, "minimum": "60s"}]
    )
    service = Sampled(5)
    rollout, _ = course(policy, many(lambda i: service.look(50)))
    assert rollout.phase is Phase.SUCCEEDED
    asked = next(decision for decision in rollout.decisions if decision.signal == Signal.APPROVE.value)
    assert "taken as approved" in asked.reason
    assert asked.at == rollout.spans[0].end == rollout.spans[1].start


def test_a_rollout_that_takes_too_long_is_rolled_back() -> None:
    policy = a_policy(
        schedule={"deadline": "5m"},
        stages=[{"weight": 10, "minimum": "2m"}, {"weight": 100, "minimum": "3m"}],
    )
    rollout, verdicts = course(
        policy, many(lambda i: a_look(i, {"s": some_counts(50)}, {"c": some_counts(1)}))
    )
    assert signals(rollout)[-2:] == [Signal.OVERDUE.value, Signal.ROUTED.value]
    assert "not finished within the 5m" in rollout.reason
    assert verdicts[-1].at == START + 300


def test_an_undecided_stage_is_held_at_its_deadline_and_passes_late() -> None:
    policy, service = a_policy(analysis={"interval": "10s", "undecided": "hold"}), Sampled(6, requests=4)
    rollout, _ = course(policy, many(lambda i: service.look(50), 300))
    assert Signal.STUCK.value in signals(rollout)
    assert rollout.phase is not Phase.ROLLED_BACK
    assert (
        "still undecided at the stage's deadline of 10m"
        in next(decision for decision in rollout.decisions if decision.signal == Signal.STUCK).reason
    )


def test_an_alarm_at_full_weight_steps_back() -> None:
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "60s"}, {"weight": 100, "minimum": "30m", "deadline": "1h"}]
    )
    good, bad = Sampled(7), Sampled(7, more_errors=20.0)
    bad.number = 40
    rollout, _ = course(policy, (good.look(50) if i < 40 else bad.look(50) for i in range(120)))
    assert Signal.ALARM.value in signals(rollout)
    assert rollout.phase is Phase.ROLLED_BACK


# ---------------------------------------------------------------- which policies fit


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"service": {"name": "cart", "namespace": "production", "selector": {"app": "cart"}}},
            "is the policy of production/cart, and",
        ),
        (
            {"analysis": {"interval": "15s"}},
            "looks of 15 s (analysis.interval), which looks of 10 s do not make up",
        ),
        (
            {"analysis": {"interval": "10s", "reporter": "source"}},
            "wants counts of the source (analysis.reporter), and the looks are the dest",
        ),
        (
            {"analysis": {"interval": "10s", "metrics": [{"errors": {"grpcFailures": ["ABORTED"]}}]}},
            "counts ABORTED as failures",
        ),
        (
            {
                "analysis": {
                    "interval": "10s",
                    "metrics": [{"query": {"name": "cpu", "promql": "up", "max": 1}}],
                }
            },
            "asks the query cpu (up)",
        ),
        (
            {
                "analysis": {
                    "interval": "20s",
                    "metrics": [{"query": {"name": "w", "promql": "f[$window]", "max": 1}}],
                }
            },
            "over a $window of 20 s",
        ),
    ],
)
def test_a_policy_that_does_not_fit_the_past_says_what_was_wanted_and_what_came(
    changes: dict[str, Any], says: str
) -> None:
    past = a_past(a_policy(), queries=("f[$window]",))
    (why,) = unfit(past, a_policy(**changes))
    assert says in why


@pytest.mark.parametrize(
    "changes",
    [{}, {"analysis": {"interval": "30s"}}, {"analysis": {"interval": "10s", "metrics": [{"latency": {}}]}}],
)
def test_a_policy_of_longer_looks_or_fewer_metrics_fits(changes: dict[str, Any]) -> None:
    assert unfit(a_past(a_policy()), a_policy(**changes)) == ()


def test_a_policy_is_the_rollout_s_own_whoever_is_told() -> None:
    past = a_past(a_policy(), rollout=a_rollout())
    assert is_own(past, Policy.load(a_policy().dump()))
    assert is_own(past, a_policy(hooks=[{"on": ["held"], "notify": "oncall"}]))
    assert not is_own(past, a_policy(analysis={"interval": "20s"}))
    assert not is_own(replace(past, rollout=None), a_policy())


# ---------------------------------------------------------------- what was decided, told again

SPANS = (Span(0, 10, int(NOW), int(NOW) + 300),)


def a_record(signal: Signal, verdict: Verdict, phase: Phase) -> Past:
    decision = Decision(
        NOW + 302, signal.value, phase, verdict.stage, verdict.weight, verdict.reason, verdict
    )
    return a_past(a_policy(), rollout=a_rollout(phase=phase, spans=SPANS, decisions=(decision,)))


def test_decisions_that_are_had_again_differ_in_nothing() -> None:
    for answer, signal, phase in (
        (Answer.PASS, Signal.PASS, Phase.PROGRESSING),
        (Answer.FAIL, Signal.HARM, Phase.ROLLED_BACK),
        (Answer.UNDECIDED, Signal.LET_PASS, Phase.PROGRESSING),
    ):
        verdict = a_verdict(answer)
        again = retold(a_record(signal, verdict, phase), [verdict], {"a": Counts(1)})
        assert (again.differences, again.recorded, again.rollout.phase) == ((), True, phase)
        assert again.rollout.decisions[0].verdict == verdict


@pytest.mark.parametrize(
    ("again", "says"),
    [
        ([a_verdict(Answer.PASS, odds=2.0)], "pass at 2.0 to 1 now, and pass at 1.0 to 1 on record"),
        ([a_verdict(Answer.UNDECIDED, reason="other")], "the same verdict means to go on looking now"),
        ([], "is not among those that were read again"),
        (
            [a_verdict(Answer.FAIL, at=int(NOW) + 100), a_verdict(Answer.PASS)],
            "nothing was decided on it then",
        ),
    ],
)
def test_what_differs_from_the_record_is_told(again: list[Verdict], says: str) -> None:
    told = retold(a_record(Signal.PASS, a_verdict(Answer.PASS), Phase.PROGRESSING), again, {})
    assert any(says in difference for difference in told.differences), told.differences
