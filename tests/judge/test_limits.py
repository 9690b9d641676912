"""The policy's limits: held against the larger of themselves and what stable has in the same seconds."""

import numpy as np
import pytest

from canaryd.domain.counts import Counts
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.guardrails import Guardrails
from canaryd.judge.judge import Judge
from canaryd.report.findings import verdict_from
from tests.judge.looks import START, a_ladder, a_look, last_verdict

LIMIT = {"errors": {"max": "5%", "versionDown": False, "replicaDown": False}}
ABSOLUTE = {"errors": {"max": "5%", "absolute": True, "versionDown": False, "replicaDown": False}}


def judged(
    stable: float,
    canary: float,
    metric: dict[str, dict[str, object]] = LIMIT,
    looks: int = 30,
    weight: int = 10,
) -> tuple[Verdict, int]:
    """The last verdict, or the first that fails, and after how many looks: rates of failures of 450 and 50
    requests a look, drawn."""
    judge, rng = Judge(a_ladder(metric)), np.random.default_rng(3)
    judge.open(Span(0, weight, START))
    for number in range(looks):
        served = (450, 50) if weight < 100 else (0, 500)
        sides = (
            {
                f"{name}{replica}": Counts(count // 3, int(rng.binomial(count // 3, rate)))
                for replica in range(3)
            }
            for name, count, rate in zip("sc", served, (stable, canary), strict=True)
        )
        assessment = judge.observe(a_look(number, *sides, bounds=()))
        if assessment.answer is Answer.FAIL:
            return verdict_from(assessment), number + 1
    return last_verdict(judge), looks


def test_what_only_the_canary_does_breaks_the_limit() -> None:
    verdict, looks = judged(0.005, 0.15)
    assert (verdict.answer, looks <= 6) == (Answer.FAIL, True)
    found = next(finding for finding in verdict.findings if finding.limit is not None)
    assert "where at most 5.0% is allowed; stable has 0.4% in the same looks, odds" in found.says


def test_what_stable_does_as_well_is_no_reason_to_go_back_nor_to_pass() -> None:
    verdict, _ = judged(0.10, 0.10)
    assert verdict.answer is Answer.UNDECIDED
    assert "so a rollback would not help" in verdict.reason
    assert verdict.is_over_a_limit  # at a deadline it is held


def test_once_it_is_over_the_stage_passes() -> None:
    """Both fail 10% for five minutes, and then no more."""
    judge = Judge(a_ladder(LIMIT))
    judge.open(Span(0, 10, START))
    rng, answers = np.random.default_rng(4), []
    for number in range(90):
        rate = 0.10 if 10 <= number < 40 else 0.002
        sides = (
            {f"{name}{replica}": Counts(served, int(rng.binomial(served, rate))) for replica in range(3)}
            for name, served in (("s", 150), ("c", 17))
        )
        answers.append(judge.observe(a_look(number, *sides, bounds=())).answer)
    assert Answer.FAIL not in answers
    assert Answer.PASS not in answers[15:40]
    assert answers[-1] is Answer.PASS


def test_absolute_is_whatever_stable_does() -> None:
    verdict, _ = judged(0.10, 0.10, ABSOLUTE)
    assert verdict.answer is Answer.FAIL


def test_at_full_weight_there_is_no_stable_to_hold_it_against_and_no_block_to_wait_for() -> None:
    verdict, _ = judged(0.0, 0.15, weight=100)
    assert verdict.answer is Answer.FAIL
    guardrails = Guardrails(a_ladder(LIMIT), (), {"errors": 30})
    for _ in range(8):
        guardrails.fold(np.array([500.0, 75.0, 0, 0]), np.zeros(4))
    assert guardrails.odds[0] >= 100


def test_beside_stable_a_limit_is_judged_in_blocks() -> None:
    guardrails = Guardrails(a_ladder(LIMIT), (), {"errors": 3})
    odds = []
    for _ in range(6):
        guardrails.fold(np.array([500.0, 75.0, 0, 0]), np.array([4500.0, 20.0, 0, 0]))
        odds.append(float(guardrails.odds[0]))
    assert odds[0] == odds[1] == 1.0 < odds[2] == odds[4] < odds[5]
    assert guardrails.is_over.all()


@pytest.mark.parametrize("metric", [LIMIT, ABSOLUTE])
def test_a_limit_that_is_kept_is_said_to_be(metric: dict[str, dict[str, object]]) -> None:
    verdict, _ = judged(0.005, 0.005, metric)
    found = next(finding for finding in verdict.findings if finding.limit is not None)
    assert (found.answer, found.is_over) == (Answer.PASS, False)


@pytest.mark.parametrize("requests", [15, 30, 75])
def test_an_outage_of_both_rolls_no_healthy_version_back_however_little_stable_serves(requests: int) -> None:
    """Both fail 10% for 120 looks; requests: stable's of a look."""
    rng, broken = np.random.default_rng(5), 0
    for _ in range(150):
        guardrails = Guardrails(a_ladder(LIMIT), ())
        for _ in range(120):
            canary, stable = (np.array([n, rng.binomial(n, 0.1), 0.0, 0.0]) for n in (requests, requests))
            guardrails.fold(canary, stable)
        broken += bool((guardrails.odds >= 100).any())
    assert broken <= 1


def test_after_an_outage_a_limit_holds_nothing_up_for_long() -> None:
    guardrails = Guardrails(a_ladder(LIMIT), ())
    for _ in range(20):
        guardrails.fold(np.array([500.0, 500.0, 0, 0]), np.array([4500.0, 4500.0, 0, 0]))
    assert guardrails.is_over.all()
    for _ in range(10):
        guardrails.fold(np.array([500.0, 5.0, 0, 0]), np.array([4500.0, 45.0, 0, 0]))
    assert not guardrails.is_over.any()


@pytest.mark.parametrize(
    ("canary", "stable", "metric", "says"),
    [(0.10, 0.10, LIMIT, True), (0.30, 0.08, LIMIT, False), (0.10, 0.10, ABSOLUTE, False)],
)
def test_that_a_rollback_would_not_help_is_said_where_both_are_alike(
    canary: float, stable: float, metric: dict[str, dict[str, object]], says: bool
) -> None:
    verdict, _ = judged(stable, canary, metric)
    found = next(finding for finding in verdict.findings if finding.limit is not None)
    assert ("a rollback would not help" in found.says) == says


def test_stragglers_of_stable_are_no_measure_at_full_weight() -> None:
    judge = Judge(a_ladder(LIMIT))
    judge.open(Span(0, 100, START))
    answers = []
    for number in range(10):
        sides = {"s0": Counts(1, number % 2)}, {f"c{replica}": Counts(150, 45) for replica in range(3)}
        answers.append(judge.observe(a_look(number, *sides, bounds=())).answer)
    assert Answer.FAIL in answers
