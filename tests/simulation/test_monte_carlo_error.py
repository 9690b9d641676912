"""What a simulation leaves open: shares and quantiles, against values computed by another route."""

from __future__ import annotations

from math import comb, inf

import numpy as np
import pytest

from canaryd.simulation.monte_carlo_error import exact_interval, quantile, quantile_interval


@pytest.mark.parametrize(
    ("events", "runs", "low", "high"),
    [
        (0, 100, 0.0, 0.0362),  # the textbook's "rule of three" corrected: 1 - 0.025 ** (1 / 100)
        (5, 10, 0.1871, 0.8129),  # Clopper and Pearson (1934), and R's binom.test(5, 10)
        (10, 10, 0.6915, 1.0),
    ],
)
def test_an_exact_interval_is_clopper_and_pearsons(events: int, runs: int, low: float, high: float) -> None:
    assert exact_interval(events, runs) == pytest.approx((low, high), abs=1e-4)


def test_a_quantile_is_one_of_the_values_and_infinity_is_larger_than_any() -> None:
    assert quantile([3.0, 1.0, 2.0, inf], 0.5) == 2.0
    assert quantile([3.0, 1.0, inf, inf], 0.9) == inf
    assert quantile([1.0] * 9 + [2.0], 0.9) == 1.0
    assert quantile([], 0.5) == inf


def test_the_interval_of_a_median_is_two_order_statistics() -> None:
    """Of 10 values the 2nd and the 9th: 1 - 2 * (1 + 10) / 2^10 = 97.9%; the 3rd and 8th would hold 89.1%."""
    assert (
        1 - 2 * (comb(10, 0) + comb(10, 1)) / 2**10
        > 0.95
        > 1 - 2 * (comb(10, 0) + comb(10, 1) + comb(10, 2)) / 2**10
    )
    assert quantile_interval([float(series) for series in range(1, 11)], 0.5) == (2.0, 9.0)


def test_with_few_values_the_interval_is_everything() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.5) == (-inf, inf)
    assert quantile_interval([], 0.5) == (-inf, inf)


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    """The median of an exponential is ln 2; of 1,000 samples of 30, at least 95% less three standard errors
    (0.7%) hold it."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(1000):
        low, high = quantile_interval(rng.exponential(size=30).tolist(), 0.5)
        held += low <= np.log(2) <= high
    assert held / 1000 >= 0.95 - 3 * 0.007
