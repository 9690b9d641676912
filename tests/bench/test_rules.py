"""The rules of today on series made by hand, and Mann and Whitney's test by other routes."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from bench.rules import (
    PROMOTED,
    ROLLED_BACK,
    RULES,
    Expression,
    MannWhitney,
    Thresholds,
    is_high,
    quantile_ms,
    shift,
)
from canaryd.domain.counts import Counts

BOUNDS = (100.0, 500.0, 1000.0)


def a_minute(failures: int = 0, requests: int = 1000, slow: int = 0, mean: float = 60.0) -> Counts:
    """slow: requests between 500 and 1000 ms."""
    return Counts(requests, failures, requests, (requests - slow, requests - slow, requests), requests * mean)


def ends(rule: object, canary: list[Counts], stable: Counts | None = None) -> list[str | None]:
    return [rule.minute(stable or a_minute(), counts, BOUNDS) for counts in canary]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "bad",
    [a_minute(failures=11), a_minute(slow=11), a_minute(requests=0)],
    ids=["errors", "p99", "no requests"],
)
def test_the_fifth_failed_check_rolls_back_and_each_one_holds_the_weight(bad: Counts) -> None:
    rule = Thresholds()
    assert ends(rule, [bad] * 5) == [None] * 4 + [ROLLED_BACK]
    assert rule.weight == 10


def test_checks_that_hold_promote_in_five_minutes_and_failed_ones_are_not_forgotten() -> None:
    good, bad = a_minute(failures=10), a_minute(failures=11)
    rule = Thresholds()
    assert ends(rule, [good] * 5) == [None] * 4 + [PROMOTED]
    assert ends(Thresholds(), [bad, good] * 4 + [bad]) == [None] * 8 + [ROLLED_BACK]


def test_the_expression_fails_at_the_third_measurement_and_climbs_every_ten_minutes() -> None:
    good, bad = a_minute(failures=50), a_minute(failures=51)
    assert ends(Expression(), [bad, good, bad, good, bad]) == [None] * 4 + [ROLLED_BACK]
    rule, weights = Expression(), []
    for minute in range(40):
        weights.append(rule.weight)
        assert rule.minute(good, good, BOUNDS) == (PROMOTED if minute == 39 else None)
    assert [weights[minute] for minute in (0, 9, 10, 20, 30, 39)] == [20, 20, 40, 60, 80, 80]


def test_mann_whitney_judges_every_fifteen_minutes_and_promotes_after_three() -> None:
    noise = np.random.default_rng(3).permutation(45)
    same = [a_minute(failures=int(one)) for one in noise]
    rule = MannWhitney()
    assert [rule.minute(one, one, BOUNDS) for one in same] == [None] * 44 + [PROMOTED]


@pytest.mark.parametrize("worse", [{"failures": 30}, {"mean": 90.0}], ids=["errors", "latency"])
def test_mann_whitney_rolls_back_at_the_first_judgement_that_is_high(worse: dict) -> None:
    rng = np.random.default_rng(4)
    rule, found = MannWhitney(), []
    for _ in range(15):
        usual = a_minute(failures=int(rng.integers(0, 20)), mean=float(rng.normal(60, 5)))
        bad = a_minute(
            failures=worse.get("failures", 0) + int(rng.integers(0, 20)),
            mean=worse.get("mean", 60.0) + float(rng.normal(0, 5)),
        )
        found.append(rule.minute(usual, bad, BOUNDS))
    assert found == [None] * 14 + [ROLLED_BACK]


def test_a_shift_s_interval_ends_where_scipy_s_test_has_that_p_value() -> None:
    rng = np.random.default_rng(5)
    experiment, baseline = rng.normal(3, 1, 30), rng.normal(0, 2, 25)
    low = shift(experiment, baseline, float(norm.ppf(0.99)))
    p = [mannwhitneyu(experiment - low - off, baseline, method="asymptotic").pvalue for off in (-0.02, 0.02)]
    assert p[0] < 0.02 < p[1]


def test_the_estimated_shift_is_the_median_of_all_differences() -> None:
    """Hodges and Lehmann; 15 times 15 differences have one in the middle."""
    rng = np.random.default_rng(6)
    experiment, baseline = rng.normal(1, 1, 15), rng.normal(0, 1, 15)
    assert shift(experiment, baseline, 0.0) == pytest.approx(
        float(np.median(experiment[:, None] - baseline)), abs=1e-6
    )


def test_equal_distributions_are_seldom_high_also_where_most_points_are_the_same() -> None:
    """1% each, on this side; of 120, seven are chance once in ten thousand times."""
    rng = np.random.default_rng(7)
    for draw in (lambda: rng.normal(5, 1, 15), lambda: 16.0 * rng.poisson(0.1, 15)):
        assert sum(is_high(draw(), draw()) for _ in range(120)) <= 6


def test_no_points_and_equal_points_are_not_high() -> None:
    assert not is_high(np.array([]), np.ones(3))
    assert not is_high(np.ones(3), np.ones(3))


def test_quantiles_are_interpolated_as_prometheus_does() -> None:
    counts = Counts(100, 0, 100, (50, 90, 100), 0.0)
    assert quantile_ms(counts, BOUNDS, 0.25) == 50.0
    assert quantile_ms(counts, BOUNDS, 0.7) == 300.0
    assert quantile_ms(Counts(100, 0, 100, (0, 0, 50), 0.0), BOUNDS, 0.99) == 1000.0
    assert isnan(quantile_ms(Counts(), BOUNDS, 0.5))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_says_whose_documentation_it_is(rule: str) -> None:
    assert "documentation" in (RULES[rule].__doc__ or "")
