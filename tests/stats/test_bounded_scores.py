"""Bounded scores of two versions' values, and the bets on them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.stats.bounded_scores import FEWEST_PAST, STAKES, correlation_time, log_gains, score, spread, step

VALUES = st.floats(allow_nan=False)


@pytest.mark.parametrize(
    ("canary", "stable", "tolerated", "expected"),
    [
        (1.0, 1.0, 0.0, 0.0),
        (1.1, 1.0, 0.1, 0.0),
        (3.0, 1.0, 0.0, 0.5),  # tanh(log(3) / 2) = (3 - 1) / (3 + 1)
        (1.0, 3.0, 0.0, -0.5),
        (0.0, 0.0, 0.1, 0.0),
        (1.0, 0.0, 0.1, 1.0),
        (0.0, 1.0, 0.1, -1.0),
        (-0.9, -1.0, 0.1, 0.0),  # a tenth of its size above
        (1.0, -1.0, 0.1, 1.0),
        (math.inf, 1.0, 0.1, 1.0),
        (math.inf, math.inf, 0.1, 0.0),
        (math.inf, -math.inf, 0.1, 1.0),
        (1.0, math.inf, 0.1, -1.0),
        (1e308, 5e307, 0.0, 1 / 3),
    ],
)
def test_a_score_by_hand(canary: float, stable: float, tolerated: float, expected: float) -> None:
    assert score(canary, stable, tolerated) == pytest.approx(expected, abs=1e-12)


@given(VALUES, VALUES)
def test_exchanging_the_versions_turns_the_score_into_its_negative(one: float, other: float) -> None:
    assert score(one, other, 0.0) == -score(other, one, 0.0)
    assert -1 <= score(one, other, 0.0) <= 1


@given(VALUES, VALUES, st.floats(0, 10))
def test_a_tolerance_only_lowers_the_score(canary: float, stable: float, tolerated: float) -> None:
    assert -1 <= score(canary, stable, tolerated) <= score(canary, stable, 0.0) + 1e-12


@given(st.floats(-1, 1), st.floats(1e-6, 10))
def test_a_bet_is_fair_between_a_score_and_its_negative(surplus: float, scale: float) -> None:
    assert (np.exp(log_gains(surplus, scale)) + np.exp(log_gains(-surplus, scale))) / 2 == pytest.approx(
        np.ones(len(STAKES))
    )
    assert np.exp(log_gains(1e9, scale)).max() < 2


def autoregressive(rng: np.random.Generator, looks: int, correlation: float) -> np.ndarray:
    noise = rng.normal(size=looks) * np.sqrt(1 - correlation**2)
    values = np.empty(looks)
    values[0] = rng.normal()
    for i in range(1, looks):
        values[i] = correlation * values[i - 1] + noise[i]
    return values


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 1.0, 1.5), (0.5, 2.0, 4.5), (0.8, 5.0, 12.0)])
def test_the_correlation_time_is_that_of_an_autoregression(
    correlation: float, low: float, high: float
) -> None:
    """(1 + r) / (1 - r) is 1, 3 and 9; the trend that is taken off, and the end of the sum, leave somewhat
    less."""
    times = [
        correlation_time(np.exp(autoregressive(np.random.default_rng(seed), 360, correlation)))
        for seed in range(9)
    ]
    assert low <= float(np.median(times)) <= high


def test_what_does_not_vary_or_is_too_short_has_no_correlation_time() -> None:
    assert (
        correlation_time(np.ones(100))
        == correlation_time(np.arange(19.0))
        == correlation_time(np.full(50, np.nan))
        == 1.0
    )


def test_a_slow_swing_is_taken_off_and_asked_for_it_is_not() -> None:
    swing = 10 * np.sin(np.arange(720) / 115) + np.random.default_rng(1).normal(size=720)
    assert correlation_time(swing) < 3 < 30 < correlation_time(swing, trend=False)


def test_spread_and_step_are_those_of_pairs_half_the_past_apart() -> None:
    values = np.array([1.0, 1.0] * 30 + [3.0, 1.0] * 30)
    apart = spread(values)
    assert apart is not None
    assert (apart.distance, apart.step) == (
        pytest.approx(math.sqrt(0.125)),
        pytest.approx(0.5),
    )  # scores are -0.5, 0, -0.5, ...
    assert spread(np.array([math.nan] * 100 + [1.0] * (FEWEST_PAST - 1))) is None
    assert step([0.3]) == 0.0
    assert step([0.0] * 10 + [0.5] * 10) == pytest.approx(0.5 / 19)  # a level that changes once hardly counts
