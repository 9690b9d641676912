"""Every sentence of many verdicts, of all the benchmark's worlds, held against the counts beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench import calibration, late, users
from bench.rollouts import Rolling, a_policy, rolling
from bench.running import seeded, service
from bench.worlds import (
    BAD,
    BAD_USERS,
    HEALTHY,
    HEALTHY_USERS,
    LATE,
    UNACCEPTABLE,
    UNACCEPTABLE_USERS,
    Case,
    Users,
)
from canaryd.domain.assessment import Assessment, Details, LimitAssessment, RecordComparison
from canaryd.domain.counts import Look
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.judge.judge import Judge, observe_all
from canaryd.report.explanation import explain
from canaryd.report.findings import ALL_BOUNDS, BEGAN_MEANWHILE, MEAN, verdict_from
from canaryd.simulation.simulated_service import ISTIO_BOUNDS, Scenario, SimulatedService
from tests.builders import NOW, a_rollout, a_verdict
from tests.judge.looks import a_look, some_counts
from tests.report.contradictions import contradictions

LOOKS = 40  # of each rollout: with stages of two minutes most worlds have been through all of them
EACH = 8  # looks of which one is read, beside each answer that is another than the last one


def verdicts(rollouts: Mapping[str, Rolling], each: int = EACH) -> Iterator[tuple[str, Verdict]]:
    """Those of some looks, and of all that change the answer; judged together, which is faster and changes
    nothing."""
    asked = {name: next(rollout) for name, rollout in rollouts.items()}
    last: dict[str, Answer] = {}
    number = 0
    while asked:
        number += 1
        judges = [(name, judge, look) for name, (judge, look) in asked.items() if isinstance(judge, Judge)]
        found = observe_all([(judge, look) for _, judge, look in judges])
        assessments = {name: one for (name, _, _), one in zip(judges, found, strict=True)}
        for name, (judge, look) in list(asked.items()):
            assessment = assessments[name] if isinstance(judge, Judge) else judge.observe(look)
            if assessment.answer is not last.get(name) or number % each == 0:
                last[name] = assessment.answer
                yield name, verdict_from(judge.conclude() if isinstance(judge, Judge) else assessment)
            try:
                asked[name] = rollouts[name].send(assessment)
            except StopIteration:
                del asked[name]


def of_a_case(case: Case, index: int) -> Rolling:
    run = late.run if case in LATE else calibration.run
    return run(replace(case, longest=LOOKS), service(case.world, case.name, index))


def of_users(case: Users, index: int) -> Rolling:
    policy = users.policy_for(case)
    return rolling(users.service(case, seeded(case.name, index)), longest=LOOKS, policy=policy)


def next_weights(case: Case | Users) -> list[int]:
    """The weight that follows each stage, in per cent."""
    stages = users.policy_for(case).stages if isinstance(case, Users) else a_policy().stages
    return [
        next((later.weight for later in stages[place + 1 :] if later.weight), 100)
        for place in range(len(stages))
    ]


GROUPS: dict[str, Sequence[Case | Users]] = {
    "healthy": HEALTHY,
    "unacceptable": UNACCEPTABLE,
    "bad": BAD,
    "late": LATE,
    "healthy, users who are not alike": HEALTHY_USERS,
    "unacceptable, users who are not alike": UNACCEPTABLE_USERS,
    "bad, users who are not alike": BAD_USERS,
}


def contradicted(cases: Sequence[Case | Users], index: int = 0, each: int = EACH) -> tuple[int, list[str]]:
    """How many verdicts were read, and what they say against their numbers, with the world."""
    rollouts = {
        case.name: of_users(case, index) if isinstance(case, Users) else of_a_case(case, index)
        for case in cases
    }
    weights = {case.name: next_weights(case) for case in cases}
    read, found = 0, []
    for name, verdict in verdicts(rollouts, each):
        read += 1
        found += [
            f"{name}, stage {verdict.stage}, {verdict.answer}: {what}"
            for what in contradictions(verdict, weights[name][verdict.stage])
        ]
    return read, found


@pytest.mark.parametrize("group", GROUPS)
def test_no_sentence_of_any_world_contradicts_its_numbers(group: str) -> None:
    read, found = contradicted(GROUPS[group])
    assert read >= 3 * len(GROUPS[group])
    assert found == []


# ---------------------------------------------------------------- each kind by itself


def with_a_tail(looks: Iterator[Look], times: float) -> Iterator[Look]:
    """The canary's requests in the histogram's last, open bucket take so much longer that its mean is `times`
    as large; no bound can see it."""
    for look in looks:
        canary = {
            name: replace(counts, duration_ms=counts.duration_ms * times)
            for name, counts in look.canary.items()
        }
        yield replace(look, canary=canary)


def in_stage(stage: int, looks: Iterator[Look], history: Sequence[Look]) -> Iterator[tuple[Verdict, Look]]:
    policy = a_policy()
    judge = Judge(policy, history)
    for number, look in enumerate(looks):
        if not number:
            judge.open(Span(stage, policy.stages[stage].weight, look.start))
        yield verdict_from(judge.observe(look)), look


def a_service(**changes: Any) -> SimulatedService:
    return SimulatedService(Scenario(**changes), np.random.default_rng(14))


def test_a_stage_does_not_pass_while_the_mean_is_plainly_worse_beyond_the_largest_bound() -> None:
    """The bounds alone rule out what a stage must at 20 to 1 within a minute, and the mean's own odds take
    longer: nothing passes meanwhile, also at a deadline, and the sentence says why."""
    service = a_service(bounds=tuple(bound for bound in ISTIO_BOUNDS if bound <= 100), requests=200.0)
    history = service.history(60)
    looks = with_a_tail((service.look(10) for _ in range(12)), 2.9)
    read = [verdict for verdict, _ in in_stage(0, looks, history)]
    assert Answer.PASS not in {verdict.answer for verdict in read}
    ruled_out = [verdict for verdict in read if verdict.findings[1].cleared >= verdict.findings[1].clear_bar]
    assert len(ruled_out) >= 5
    for verdict in ruled_out:
        whole, mean = verdict.findings[1:3]
        assert (whole.what, mean.what) == (ALL_BOUNDS, MEAN)
        assert whole.answer is not Answer.PASS
        assert mean.is_over
        assert "nothing passes while it is beyond 2 times" in mean.says
        assert verdict.is_over_a_limit  # so that no deadline lets it pass
        assert contradictions(verdict, 25) == []


def test_a_pass_with_a_mean_above_what_is_tolerated_does_not_say_that_nothing_is_against_it() -> None:
    service = a_service(requests=200.0)
    history = service.history(60)
    looks = with_a_tail((service.look(10) for _ in range(9)), 1.3)
    [passed, *_] = [verdict for verdict, _ in in_stage(0, looks, history) if verdict.answer is Answer.PASS]
    assert "nothing against" not in passed.reason
    assert passed.reason.startswith("nothing that must be ruled out in ")
    assert "but not nothing: see mean latency" in passed.reason
    assert "mean 1.3" in passed.reason


def test_what_was_ruled_out_does_not_pass_once_the_plain_errors_are_beyond_it() -> None:
    """Ruled out at a thousand to 1 by 3,000 requests without an error, and then one look with 40."""
    good = ({"s": some_counts(1000, 1)}, {"c": some_counts(1000)})
    bad = ({"s": some_counts(1000, 1)}, {"c": some_counts(1000, 40)})
    looks = [a_look(number, *(good if number < 3 else bad)) for number in range(4)]
    history = [a_look(number - 60, {"s": some_counts(2000, 2)}, {}) for number in range(60)]
    *_, last = [verdict for verdict, _ in in_stage(2, iter(looks), history)]
    errors = last.findings[0]
    assert errors.cleared >= 1000
    assert errors.is_plainly_unacceptable
    assert (last.answer, errors.answer) == (Answer.UNDECIDED, Answer.UNDECIDED)
    assert "ruled out at" not in last.reason
    assert contradictions(last, 100) == []


def test_a_ratio_within_the_tolerated_increase_is_not_plainly_unacceptable() -> None:
    """Fifty times stable's rate, and 0.05 percentage points more, where 0.5 must be ruled out."""
    finding = MetricFinding(
        "errors", "errors", Answer.PASS, 1, 100_000, 51, 100_000, ratio=51.0, low=20.0, high=90.0,
        tolerated=1.1, unacceptable=2.0, tolerated_increase=0.001, unacceptable_increase=0.005,
    )  # fmt: skip
    assert not finding.is_plainly_unacceptable
    assert not finding.is_above_tolerated
    assert replace(finding, canary_events=600).is_plainly_unacceptable
    assert replace(finding, low=102.0).is_above_tolerated


def test_the_reader_finds_what_is_wrong() -> None:
    """So that it is no wonder that it finds nothing in the verdicts there are."""
    service = a_service()
    history = service.history(120)
    looks = (service.look(10) for _ in range(40))
    [passed, *_] = [verdict for verdict, _ in in_stage(0, looks, history) if verdict.answer is Answer.PASS]
    assert contradictions(passed, 25) == []
    errors, latency, *bounds = passed.findings
    for wrong in (
        replace(errors, canary_events=errors.canary_events + 50),
        replace(errors, low=50.0),
        replace(errors, cleared=1.0),
        replace(errors, answer=Answer.FAIL),
        replace(errors, odds=4.0),
        replace(latency, ratio=2.9),
        replace(latency, ratio=2.9, says=latency.says.replace("mean ", "mean 2.9 times stable's, not ")),
    ):
        findings = (wrong, latency, *bounds) if wrong.metric == "errors" else (errors, wrong, *bounds)
        assert contradictions(replace(passed, findings=findings), 25), wrong
    for reason in ("rolled back", f"nothing against the canary, {errors.says}, rolled back at 100"):
        assert contradictions(replace(passed, reason=reason), 25)
        assert contradictions(replace(passed, reason=reason, answer=Answer.UNDECIDED), 25) or (
            "nothing against" not in reason
        )
    assert contradictions(replace(passed, answer=Answer.FAIL), 25)


@pytest.mark.parametrize("share", [0.004, 0.02])
def test_an_alarm_and_a_broken_limit_say_why_where_the_stage_s_share_is_within(share: float) -> None:
    """The bets forget, or know, when harm began; the share that is said is the whole stage's."""
    usual, limit = 0.003, 0.01
    record = RecordComparison("errors", None, share * 1e4, 1e4, 150.0, limit, usual, True, Answer.ALARM)
    broken = LimitAssessment("errors", None, limit, share * 1e4, 1e4, 150.0, usual, True, False, Answer.FAIL)
    details = Details(
        "weight", True, 20.0, "destination", False, True, False, records=(record,), limits=(broken,)
    )
    assessment = Assessment(Answer.ALARM, 1000, 3, 100, 100.0, looks=9, odds=150.0, details=details)
    says = [finding.says for finding in verdict_from(assessment).findings]
    assert [BEGAN_MEANWHILE in sentence for sentence in says] == [share < limit] * 2


def test_where_stable_had_no_failure_nothing_says_that_failures_are_less_plain() -> None:
    """A fifth of the requests fail, and none of stable's: there is no ratio, and nothing to explain away."""
    service = a_service(errors=0.0)

    def failing(look: Look) -> Look:
        canary = {
            name: replace(counts, failures=counts.requests // 5) for name, counts in look.canary.items()
        }
        return replace(look, canary=canary)

    looks = (failing(service.look(10)) for _ in range(20))
    verdict = next(verdict for verdict, _ in in_stage(0, looks, ()) if verdict.answer is Answer.FAIL)
    assert "against 0%" in verdict.reason
    assert BEGAN_MEANWHILE not in verdict.reason


def test_the_mean_has_requests_and_no_events() -> None:
    mean = MetricFinding("latency", MEAN, Answer.UNDECIDED, 0, 900, 0, 100, ratio=2.9, tolerated=1.1)
    verdict = a_verdict(Answer.UNDECIDED, findings=(mean,))
    [shown] = [section for section in explain(a_rollout(verdict=verdict), NOW) if "verdict" in section.title]
    assert any("900 requests" in line for line in shown.lines)
    assert not any("0 of 900" in line for line in shown.lines)
