"""Compared queries: that equal versions stay, that worse ones are caught, and what their values may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from canaryd.domain.policy.metrics import Query
from canaryd.domain.policy.policy import Analysis
from canaryd.judge.queries import QUERIES_SHARE, UNKNOWN_BLOCK, ComparedQueries, CompareEvidence, QueryWatch
from tests.stats.test_bounded_scores import autoregressive

BAR = 100.0
PAST = 240


def a_query(**changes: object) -> Query:
    return Query(
        **{"name": "cpu", "promql": 'max(x{pod=~"$canary_pods"})', "compare": "higher-is-worse", **changes}
    )  # type: ignore[arg-type]


def gauge(seed: int, looks: int, correlation: float, noise: float, lognormal: bool = False) -> np.ndarray:
    """Of mean 1: a plain one with this relative noise, or a lognormal one whose log has it as standard
    deviation."""
    values = noise * autoregressive(np.random.default_rng(seed), looks, correlation)
    return np.exp(values) if lognormal else 1 + values


def caught(stable: Sequence[float], canary: Sequence[float], past: Sequence[float], **changes: object) -> int:
    """The look in which the canary would be rolled back by this query alone; 0: never. A stage lasts 40
    looks."""
    evidence = CompareEvidence(a_query(**changes), QUERIES_SHARE, list(past))
    for number, (one, other) in enumerate(zip(canary, stable, strict=True)):
        if number % 40 == 0:
            evidence.begin()
        evidence.observe(one, other)
        if evidence.odds >= evidence.bar(BAR):
            return number + 1
    return 0


def runs(
    count: int, looks: int, change: Callable[[np.ndarray], np.ndarray], past: int = PAST, **of: object
) -> list[int]:
    found = []
    for seed in range(count):
        stable = gauge(2 * seed, past + looks, **of)  # type: ignore[arg-type]
        canary = gauge(2 * seed + 1, past + looks, **of)[past:]  # type: ignore[arg-type]
        found.append(caught(stable[past:].tolist(), change(canary).tolist(), stable[:past].tolist()))
    return found


@pytest.mark.parametrize("past", [0, PAST])
@pytest.mark.parametrize(
    ("correlation", "noise", "lognormal"),
    [
        (0.0, 0.05, False),
        (0.5, 0.2, False),
        (0.9, 0.05, False),
        (0.98, 0.1, False),
        (0.0, 1.0, True),
        (0.9, 0.5, True),
    ],
)
def test_equal_versions_stay(correlation: float, noise: float, lognormal: bool, past: int) -> None:
    """None of 30 in each of 12 settings, 360 in all: at a true risk of 1% each, 3.6 would be expected, and
    none has a chance of 3%."""
    assert not any(
        runs(30, 80, lambda canary: canary, past, correlation=correlation, noise=noise, lognormal=lognormal)
    )


@pytest.mark.parametrize(
    ("correlation", "noise", "factor", "median"),
    [
        (0.0, 0.05, 1.5, 18),
        (0.0, 0.05, 2.0, 15),
        (0.0, 0.2, 2.0, 20),
        (0.5, 0.05, 2.0, 18),
        (0.9, 0.05, 2.0, 18),
        (0.98, 0.05, 2.0, 18),
    ],
)
def test_a_worse_version_is_caught(correlation: float, noise: float, factor: float, median: int) -> None:
    found = runs(8, 60, lambda canary: canary * factor, correlation=correlation, noise=noise)
    assert all(found)
    assert np.median(found) <= median


def test_a_fault_that_begins_late_is_caught_as_soon() -> None:
    def late(canary: np.ndarray) -> np.ndarray:
        return np.concatenate([canary[:30], 2 * canary[30:]])

    found = runs(8, 60, late, correlation=0.5, noise=0.05)
    assert all(30 < one <= 54 for one in found)


def test_without_a_past_of_stable_what_lasts_is_caught_in_more_looks_and_never_at_once() -> None:
    found = runs(6, 120, lambda canary: canary * 2, past=0, correlation=0.0, noise=0.05)
    assert all(UNKNOWN_BLOCK * 9 < one <= 90 for one in found)


def test_what_is_tolerated_is_no_harm_however_long_it_lasts() -> None:
    assert not caught([1.0, 1.02] * 150, [1.09, 1.11] * 150, [1.0, 1.02] * 60)
    assert caught([1.0, 1.02] * 150, [1.09, 1.11] * 150, [1.0, 1.02] * 60, tolerated=0.02)


def test_lower_is_worse_is_the_same_the_other_way_round() -> None:
    stable, past = [5.0, 5.1] * 20, [5.0, 5.1] * 60
    assert caught(stable, [2.0, 2.1] * 20, past, compare="lower-is-worse")
    assert not caught(stable, [9.0, 9.1] * 20, past, compare="lower-is-worse")
    assert not caught(stable, [4.6, 4.7] * 20, past, compare="lower-is-worse")  # within 10% less
    assert not caught(stable, [2.0, 2.1] * 20, past)


@pytest.mark.parametrize(
    ("stable", "canary", "is_harm"),
    [
        (0.0, 0.0, False),
        (0.0, 1.0, True),
        (1.0, 0.0, False),
        (-2.0, -1.0, True),
        (-1.0, -2.0, False),
        (-1.0, 1.0, True),
        (1.0, math.inf, True),
        (math.inf, math.inf, False),
        (math.inf, 1.0, False),
    ],
)
def test_zeros_negative_values_and_infinities(stable: float, canary: float, is_harm: bool) -> None:
    assert bool(caught([stable] * 40, [canary] * 40, [stable] * 120)) is is_harm


def test_a_value_that_is_missing_on_either_side_is_no_evidence() -> None:
    evidence = CompareEvidence(a_query(), 1.0, [1.0] * 120)
    evidence.begin()
    for _ in range(100):
        evidence.observe(9.0, None)
        evidence.observe(None, 1.0)
    assert (evidence.odds, evidence.looks, evidence.means) == (1.0, 0, None)


def test_a_single_look_never_decides_and_what_was_gathered_is_kept_with_the_processes() -> None:
    evidence = CompareEvidence(a_query(), 1.0, [1.0] * 120)
    evidence.begin()
    before = evidence.odds
    evidence.observe(1e300, 1.0)
    assert before == 1.0 < evidence.odds < 2.0
    for _ in range(30):
        evidence.observe(2.0, 1.0)
    gathered = evidence.odds
    evidence.begin()
    # a process more is neutral until it has gathered
    assert evidence.odds == pytest.approx(gathered, rel=1e-9)
    assert evidence.stage_odds == 1.0


@pytest.mark.parametrize(
    ("compare", "worse", "equal"), [("higher-is-worse", 1.2, 1.05), ("lower-is-worse", 0.8, 0.95)]
)
def test_a_stage_worse_in_the_mean_than_tolerated_is_under_suspicion_and_the_next_one_is_asked_anew(
    compare: str, worse: float, equal: float
) -> None:
    query = a_query(compare=compare).model_dump(by_alias=True, exclude_none=True)
    deciding, dry = (
        ComparedQueries(
            Analysis.model_validate({"metrics": [{"errors": {}}, {"query": query | {"dryRun": is_dry}}]})
        )
        for is_dry in (False, True)
    )
    for value, suspected in ((worse, True), (equal, False)):
        for one in (deciding, dry):
            one.begin()
            for _ in range(3):
                one.all[0].observe(value, 1.0)
        assert deciding.all[0].stage_odds < 1.1
        assert deciding.suspected(3.0) is suspected
        assert not dry.suspected(3.0)


def test_the_weights_of_what_decides_are_fixed_by_the_policy_and_a_dry_run_takes_none() -> None:
    def shares(*queries: Query, others: bool = True) -> tuple[float, list[float]]:
        metrics = [
            *([{"errors": {}}] if others else []),
            *({"query": query.model_dump(by_alias=True, exclude_none=True)} for query in queries),
        ]
        compared = ComparedQueries(Analysis.model_validate({"metrics": metrics}))
        return compared.share, [one.weight for one in compared.all]

    plain, dry = a_query(), a_query(name="dry", dry_run=True)
    assert shares(a_query(compare=None, max=1.0)) == (0.0, [])
    assert shares(plain) == (QUERIES_SHARE, [QUERIES_SHARE])
    assert shares(plain, a_query(name="other")) == (QUERIES_SHARE, [QUERIES_SHARE / 2] * 2)
    assert shares(plain, dry) == (QUERIES_SHARE, [QUERIES_SHARE, QUERIES_SHARE / 2])
    assert shares(dry) == (0.0, [QUERIES_SHARE])
    assert shares(plain, others=False) == (1.0, [1.0])


@pytest.mark.parametrize(
    ("changes", "values", "comparing", "holds"),
    [
        ({}, (1.0, 1.0), True, True),
        ({}, (1.0, None), True, False),
        ({}, (None, 1.0), True, False),
        ({}, (math.nan, 1.0), True, False),
        ({}, (1.0, None), False, True),  # at full weight there is no stable version
        ({}, (None, None), False, True),  # and nothing that is asked of the canary alone
        ({"max": 2.0}, (None, None), False, False),
        ({"max": 2.0}, (3.0, 3.0), False, False),
        ({"dry_run": True}, (None, None), True, True),
    ],
)
def test_what_a_pass_needs_of_a_query(
    changes: dict[str, object], values: tuple[float | None, float | None], comparing: bool, holds: bool
) -> None:
    watch = QueryWatch(a_query(**changes))
    watch.observe({"cpu": values[0], watch.query.stable_name: values[1]})
    assert watch.holds(comparing) is holds
