"""What would have decided otherwise is found by the judge itself, on the looks there were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canaryd.commands.explain.counterfactuals import (
    CounterfactualOutcome,
    Inquiry,
    WhatIf,
    questions,
    with_metric,
    without_limit,
    without_metric,
)
from canaryd.commands.explain.transcript import Transcript
from canaryd.domain.counts import Look
from canaryd.domain.lifecycle import Signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Decision, Phase, Rollout
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.attribution import decided_by
from tests.builders import a_policy
from tests.commands.explain.recorded_rollout import lived
from tests.judge.looks import Sampled, a_ladder


def decided(rollout: Rollout, signal: Signal) -> tuple[Decision, Verdict]:
    decision = next(decision for decision in rollout.decisions if decision.signal == signal.value)
    assert decision.verdict is not None
    return decision, decision.verdict


def asked(rollout: Rollout, transcript: Transcript, signal: Signal) -> dict[str, WhatIf]:
    """By what is supposed."""
    decision, verdict = decided(rollout, signal)
    inquiry = Inquiry()
    inquiry.add(0, decision, questions(rollout, transcript, decision, verdict))
    assert inquiry.skipped == []
    heard = 0

    def told(looks: int) -> None:
        nonlocal heard
        heard += looks

    (answers,) = inquiry.answers(told).values()
    assert 0 < heard <= inquiry.looks
    return {answer.change: answer for answer in answers}


def fails(transcript: Transcript, policy: Policy, until: int) -> bool:
    return any(verdict.answer is Answer.FAIL for _, verdict in transcript.again(policy, until))


@pytest.fixture(scope="module")
def failing() -> tuple[Rollout, Transcript]:
    """Four times stable's errors, on every replica."""
    service = Sampled(2, errors=0.01, more_errors=4.0)
    rollout, transcript = lived(a_ladder(), service.look)
    assert rollout.phase is Phase.ROLLED_BACK
    return rollout, transcript


@pytest.fixture(scope="module")
def answers(failing: tuple[Rollout, Transcript]) -> dict[str, WhatIf]:
    return asked(*failing, Signal.HARM)


@pytest.fixture(scope="module")
def good() -> tuple[Rollout, Transcript]:
    service = Sampled(1)
    rollout, transcript = lived(a_ladder(), service.look)
    assert rollout.phase is Phase.SUCCEEDED
    return rollout, transcript


def test_the_same_policy_gives_the_same_verdicts_again(failing: tuple[Rollout, Transcript]) -> None:
    rollout, transcript = failing
    assert [
        verdict for _, verdict in transcript.again(rollout.policy, transcript.verdicts[-1].at)
    ] == transcript.verdicts
    half = transcript.verdicts[len(transcript.verdicts) // 2].at
    assert transcript.until(half) == len(list(transcript.again(rollout.policy, half)))


def test_without_the_metric_that_decided_it_is_not_rolled_back_and_without_the_other_it_is(
    failing: tuple[Rollout, Transcript], answers: dict[str, WhatIf]
) -> None:
    assert answers["without errors"].outcome is CounterfactualOutcome.NOT_BY_THEN
    assert answers["without errors"].at is None
    assert answers["without latency"].outcome in (CounterfactualOutcome.SAME, CounterfactualOutcome.EARLIER)
    rollout, transcript = failing
    _, verdict = decided(rollout, Signal.HARM)
    assert not fails(transcript, without_metric(rollout.policy, "errors"), verdict.at)


def test_a_laxer_risk_is_never_later_and_a_stricter_one_has_its_own_bar(
    failing: tuple[Rollout, Transcript], answers: dict[str, WhatIf]
) -> None:
    lax, strict = answers["falseRollbackRisk 5%"], answers["falseRollbackRisk 0.1%"]
    _, verdict = decided(failing[0], Signal.HARM)
    assert lax.at is not None
    assert lax.at <= verdict.at
    assert (lax.bar, strict.bar) == (20.0, 1000.0)
    assert lax.odds >= 20.0
    assert (strict.at is None) == (strict.odds < 1000.0)


def test_the_tolerance_that_would_have_let_it_go_on_does_and_somewhat_less_does_not(
    failing: tuple[Rollout, Transcript], answers: dict[str, WhatIf]
) -> None:
    rollout, transcript = failing
    _, verdict = decided(rollout, Signal.HARM)
    change, answer = next((one, said) for one, said in answers.items() if one.startswith("errors of "))
    assert answer.outcome is CounterfactualOutcome.NOT_BY_THEN
    factor = float(change.split()[2])
    assert factor > 1.1
    own = rollout.policy
    assert fails(
        transcript,
        with_metric(own, "errors", tolerated_ratio=max(0.1, factor / 1.08 - 1), unacceptable_ratio=9.0),
        verdict.at,
    )
    assert not fails(
        transcript,
        with_metric(own, "errors", tolerated_ratio=factor + 0.005 - 1, unacceptable_ratio=9.0),
        verdict.at,
    )


def test_the_replica_that_alone_is_sick_is_named() -> None:
    service = Sampled(3, errors=0.01, more_errors=12.0, only=1)
    rollout, transcript = lived(a_ladder({"errors": {}}), service.look)
    answers = asked(rollout, transcript, Signal.HARM)
    assert answers["without c1"].outcome is CounterfactualOutcome.NOT_BY_THEN
    assert answers["without c1"].says.endswith("the evidence rests on it")
    assert all(answers[f"without {name}"].at is not None for name in ("c0", "c2"))
    assert next(name for name in answers if name.startswith("without c")) == "without c1"  # the loudest first


def test_latency_that_decided_has_a_tolerance_too() -> None:
    service = Sampled(4, slower=1.6)
    rollout, transcript = lived(a_ladder(), service.look)
    answers = asked(rollout, transcript, Signal.HARM)
    assert answers["without latency"].outcome is CounterfactualOutcome.NOT_BY_THEN
    (change,) = [answer for answer in answers if answer.startswith("latency of ")]
    assert 1.1 < float(change.split()[2]) < 2.5


def test_stable_without_any_failure_is_tolerated_in_percentage_points() -> None:
    service = Sampled(5, errors=0.0)

    def look(weight: float) -> Look:
        made = service.look(weight)
        return replace(
            made,
            canary={name: replace(one, failures=one.requests // 20) for name, one in made.canary.items()},
        )

    rollout, transcript = lived(a_ladder({"errors": {}}), look)
    changes = list(asked(rollout, transcript, Signal.HARM))
    assert [change for change in changes if change.endswith("more errors tolerated, not 0.1%")] != []


def test_a_limit_of_one_s_own_is_taken_away() -> None:
    service = Sampled(6, errors=0.03)
    rollout, transcript = lived(a_ladder({"errors": {"max": "1%", "absolute": True}}), service.look)
    answers = asked(rollout, transcript, Signal.HARM)
    assert answers["without the limit (at most 1.0% errors)"].outcome is CounterfactualOutcome.NOT_BY_THEN
    # no tolerance is asked for where none was exceeded
    assert not [answer for answer in answers if "tolerated" in answer]


COST = {"query": {"name": "cost", "promql": 'sum(x{pod=~"$canary_pods"})', "compare": "higher-is-worse"}}
HEAP = {"query": {"name": "heap", "promql": 'max(y{pod=~"$canary_pods"})', "max": 2}}
DRY = {"query": {**HEAP["query"], "dryRun": True}}


def costly(*metrics: dict[str, Any], more_errors: float = 1.0) -> tuple[Rollout, Transcript]:
    """The canary costs twice as much and its heap is too large; requests fare as well by both versions,
    unless more_errors says not."""

    def values(number: int) -> dict[str, float | None]:
        return {
            "cost": 2.0 + 0.1 * (number % 3),
            "cost of stable": 1.0 + 0.05 * ((number + 1) % 3),
            "heap": 5.0,
        }

    service = Sampled(8, errors=0.01, more_errors=more_errors)
    return lived(a_ladder(*metrics), service.look, 60, values, {"cost of stable": [1.0, 1.05, 0.95] * 40})


def left_out(answers: dict[str, WhatIf]) -> set[str]:
    """Metrics and limits; the replicas are c0 to c2."""
    return {answer for answer in answers if answer.startswith("without ")} - {
        f"without c{number}" for number in range(3)
    }


def test_a_compared_query_that_decided_is_named_and_left_out_in_its_turn() -> None:
    rollout, transcript = costly({"errors": {}}, COST, DRY)
    _, verdict = decided(rollout, Signal.HARM)
    assert decided_by(verdict) == "cost (over 99% of the odds; errors under 1%)"
    answers = asked(rollout, transcript, Signal.HARM)
    assert left_out(answers) == {"without errors", "without cost"}
    assert answers["without cost"].outcome is CounterfactualOutcome.NOT_BY_THEN
    # the query has all of the weight then
    assert answers["without errors"].outcome is CounterfactualOutcome.EARLIER


@pytest.mark.parametrize("metrics", [(COST,), (COST, DRY), (HEAP,), ({"errors": {}}, DRY)])
def test_the_only_metric_that_decides_is_never_left_out(metrics: tuple[dict[str, Any], ...]) -> None:
    rollout, transcript = costly(*metrics, more_errors=6.0)
    answers = asked(rollout, transcript, Signal.HARM)
    assert left_out(answers) == set()
    assert "falseRollbackRisk 0.1%" in answers


def test_the_limit_of_the_only_metric_that_decides_cannot_be_taken_away() -> None:
    limit = MetricFinding("heap", "at most 2", Answer.FAIL, limit=2.0)
    dry = {"query": {**COST["query"], "dryRun": True}}
    assert without_limit(a_ladder(HEAP), limit) is None
    assert without_limit(a_ladder(HEAP, dry), limit) is None
    without = without_limit(a_ladder(HEAP, dry, {"errors": {}}), limit)
    assert without is not None
    assert [metric.called for metric in without.analysis.metrics] == ["cost", "errors"]


def test_a_stage_passes_no_later_when_more_risk_is_taken(good: tuple[Rollout, Transcript]) -> None:
    bolder, without = asked(*good, Signal.PASS).values()
    assert bolder.change == "badAdvanceRisk 10%"
    assert without.change in ("without errors", "without latency")
    rollout, _ = good
    _, verdict = decided(rollout, Signal.PASS)
    for answer in (bolder, without):
        assert answer.at is not None
        assert rollout.spans[0].start + rollout.policy.stages[0].minimum <= answer.at <= verdict.at


def test_what_would_take_too_long_is_left_out_and_named(failing: tuple[Rollout, Transcript]) -> None:
    rollout, transcript = failing
    decision, verdict = decided(rollout, Signal.HARM)
    looks = transcript.until(verdict.at)
    inquiry = Inquiry(most=2 * looks)
    inquiry.add(0, decision, questions(rollout, transcript, decision, verdict))
    assert [one.change for _, one in inquiry.asked] == ["without errors", "without latency"]
    assert inquiry.looks == 2 * looks
    assert any(f"falseRollbackRisk 5% ({looks} looks)" in one for one in inquiry.skipped)
    assert len(inquiry.answers()[0]) == 2


def test_a_step_back_from_full_weight_is_asked_about_in_its_own_stretch() -> None:
    service = Sampled(7)
    policy = a_policy(
        stages=[{"weight": 50, "minimum": "60s"}, {"weight": 100, "minimum": "30m", "deadline": "1h"}]
    )

    def look(weight: float) -> Look:
        service.more_errors = 20.0 if weight == 100 else 1.0
        return service.look(weight)

    rollout, transcript = lived(policy, look, 150)
    alarms = [decision for decision in rollout.decisions if decision.signal == Signal.ALARM.value]
    assert len(alarms) > 1
    verdict = alarms[-1].verdict
    assert verdict is not None
    inquiry = Inquiry()
    inquiry.add(
        0,
        alarms[-1],
        [
            question
            for question in questions(rollout, transcript, alarms[-1], verdict)
            if question.change == "falseRollbackRisk 5%"
        ],
    )
    ((laxer,),) = inquiry.answers().values()
    begun = max(span.start for span in rollout.spans if span.weight == 100 and span.start < verdict.at)
    assert laxer.at is not None
    assert begun < laxer.at <= verdict.at
    assert "stepped back" in laxer.says


def test_of_a_version_that_is_down_the_rule_is_what_is_left_out_first() -> None:
    service = Sampled(3, errors=0.005, more_errors=200.0)
    rollout, transcript = lived(a_ladder(), service.look)
    _, verdict = decided(rollout, Signal.HARM)
    assert "too plain to wait for odds" in verdict.reason
    found = asked(rollout, transcript, Signal.HARM)
    without = found["without the rule on a version that is down"]
    assert without.outcome is CounterfactualOutcome.NOT_BY_THEN
    assert without.odds < without.bar
    assert not any("tolerated" in change for change in found)
    lenient = with_metric(rollout.policy, "errors", version_down=False)
    assert fails(transcript, lenient, verdict.at) == (without.at is not None)
    assert found["falseRollbackRisk 0.1%"].says == "rolled back at the same look: by errors: version down"
