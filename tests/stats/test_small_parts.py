"""Histograms, blocks, limits and the noise floor."""

from math import erfc, exp, factorial, fsum, log, sqrt

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr

from canaryd.stats.between_replicas import between_replicas, chance_of_as_many, luck, ratio_by_luck, shrunk
from canaryd.stats.blocks import block_length, correlation_time, sibling_correlation_time
from canaryd.stats.detection_bound import fewest_requests
from canaryd.stats.histogram import share_slower_than, smoothed_shares


def _lognormal_survival(x, median, sigma):
    return 0.5 * erfc(log(x / median) / sigma / sqrt(2))


def test_share_between_bounds_is_exact_for_lognormal_latency():
    bounds = np.array([25.0, 50.0, 100.0, 250.0, 500.0])
    shares = np.array([_lognormal_survival(b, 60, 0.6) for b in bounds])
    points = np.array([23.0, 45.0, 91.0, 227.0, 300.0])
    assert share_slower_than(bounds, shares, points) == pytest.approx(
        [_lognormal_survival(x, 60, 0.6) for x in points], rel=1e-6
    )


def test_share_with_one_bound_is_that_bound_s():
    assert share_slower_than(np.array([100.0]), np.array([0.2]), np.array([90.0])) == pytest.approx([0.2])


def test_smoothed_shares_are_never_nought_or_one():
    assert smoothed_shares(np.array([10.0, 0.0]), 10.0) == pytest.approx([10.5 / 11, 0.5 / 11])


def test_independent_failures_have_blocks_of_one_look():
    rng = np.random.default_rng(1)
    long = [
        block_length(correlation_time(rng.poisson(2.5, 360).astype(float), np.full(360, 500.0)))
        for _ in range(100)
    ]
    assert sum(one > 1 for one in long) <= 3


def test_spells_of_six_looks_have_blocks_about_three_times_as_long():
    rng = np.random.default_rng(2)
    events = rng.poisson(2.0, 360).astype(float)
    for start in range(20, 340, 40):
        events[start : start + 6] += 50
    assert 12 <= block_length(correlation_time(events, np.full(360, 500.0))) <= 30


def test_a_swing_over_an_hour_is_no_reason_for_blocks():
    rng = np.random.default_rng(4)
    rate = 0.005 * (1 + 0.8 * np.sin(np.arange(360) / 360 * 2 * np.pi))
    assert block_length(correlation_time(rng.poisson(500 * rate).astype(float), np.full(360, 500.0))) == 1


def test_too_short_a_past_or_one_without_events_has_no_correlation():
    assert correlation_time(np.ones(5), np.ones(5)) == 1
    assert correlation_time(np.zeros(100), np.ones(100)) == 1


def test_one_replica_s_spell_is_told_from_trouble_that_all_replicas_share():
    rng = np.random.default_rng(5)
    requests = np.full((40, 3), 17.0)
    shared = rng.binomial(17, 0.02, (40, 3)).astype(float)
    shared[20:30] += 5
    alone = rng.binomial(17, 0.02, (40, 3)).astype(float)
    alone[20:26, 1] += 8
    assert sibling_correlation_time(shared, requests) < 1.5
    assert sibling_correlation_time(alone, requests) > 3
    assert sibling_correlation_time(alone[:, :1], requests[:, :1]) == 1


def test_fewest_requests_is_the_worked_example():
    """1% to 2%, nine stable requests to one of the canary, 1%: 1,345 requests, by hand from the
    divergences."""
    assert fewest_requests(0.01, 0.02, 9.0, 0.01) == pytest.approx(1345, abs=1)


def test_fewest_requests_with_a_tolerance_is_at_the_nearest_tolerated_pair_of_rates():
    """The nearest pair by a search over all of them, in place of the root of its derivative."""

    def information(q, rate1, rate2, ratio, tolerated):
        stable, canary = (
            rel_entr(p, r) + rel_entr(1 - p, 1 - r) for p, r in ((rate1, q), (rate2, tolerated * q))
        )
        return canary + ratio * stable

    for rate1, rate2, ratio, tolerated in [
        (0.01, 0.02, 9.0, 1.1),
        (0.05, 0.1, 1.0, 1.3),
        (0.0, 0.01, 3.0, 1.1),
        (0.3, 0.9, 2.0, 2.0),
    ]:
        found = minimize_scalar(
            information,
            bounds=(1e-9, (1 - 1e-9) / tolerated),
            args=(rate1, rate2, ratio, tolerated),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert fewest_requests(rate1, rate2, ratio, 0.01, tolerated) == pytest.approx(
            log(100) / found.fun, rel=1e-5
        )


def test_fewest_requests_with_an_increase_is_at_the_nearest_pair_of_rates_that_either_tolerance_allows():
    def information(q, rate1, rate2, ratio, increase):
        stable, canary = (
            rel_entr(p, r) + rel_entr(1 - p, 1 - r) for p, r in ((rate1, q), (rate2, q + increase))
        )
        return canary + ratio * stable

    for rate1, rate2, ratio, increase in [
        (0.001, 0.01, 9.0, 0.001),
        (0.0, 0.01, 9.0, 0.001),
        (0.2, 0.5, 1.0, 0.1),
        (0.0, 1.0, 3.0, 0.3),
    ]:
        found = minimize_scalar(
            information,
            bounds=(1e-12, 1 - 1e-9 - increase),
            args=(rate1, rate2, ratio, increase),
            method="bounded",
            options={"xatol": 1e-12},
        )
        assert fewest_requests(rate1, rate2, ratio, 0.01, 1.0, increase) == pytest.approx(
            log(100) / found.fun, rel=1e-4
        )
    # Of 5% to 10% a tenth more is the looser one, of 0.1% to 1% a tenth of a point.
    assert fewest_requests(0.05, 0.1, 9.0, 0.01, 1.1, 0.001) == fewest_requests(0.05, 0.1, 9.0, 0.01, 1.1)
    assert fewest_requests(0.001, 0.01, 9.0, 0.01, 1.1, 0.001) == fewest_requests(
        0.001, 0.01, 9.0, 0.01, 1.0, 0.001
    )


def test_a_tolerance_costs_requests_and_a_version_that_always_fails_needs_few():
    assert fewest_requests(0.01, 0.02, 9.0, 0.01, 1.1) > 1.2 * fewest_requests(0.01, 0.02, 9.0, 0.01)
    assert fewest_requests(0.0, 1.0, 9.0, 0.01) == pytest.approx(log(100) / (log(10) + 9 * log(10 / 9)))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((0.1, 0.1, 1.0, 0.01), "rate2"),
        ((0.1, 0.109, 1.0, 0.01, 1.1), "rate2"),
        ((1.0, 1.0, 1.0, 0.01), "rate1"),
        ((0.1, 0.2, 1.0, 0.01, 0.9), "tolerated"),
        ((0.1, 0.2, 1.0, 0.01, 1.0, 0.1), "increase"),
        ((0.1, 0.2, 0.0, 0.01), "requests_ratio"),
    ],
)
def test_fewest_requests_refuses_what_has_no_answer(given, named):
    with pytest.raises(ValueError, match=named):
        fewest_requests(*given)


def test_what_luck_explains_is_by_student_s_quantile():
    """t of 0.995 at 6 degrees of freedom is 3.7074 (any printed table)."""
    assert ratio_by_luck(np.array(0.1), 3, 3, 3, 0.005) == pytest.approx(
        exp(3.7074 * 0.1 * sqrt(2 / 3)), rel=1e-4
    )
    with pytest.raises(ValueError, match="must have a replica"):
        ratio_by_luck(np.array(0.1), 1, 0, 1, 0.01)


def test_luck_s_chances_are_student_s_between_the_points_and_sum_to_one():
    """At 6 degrees of freedom 2.5% lie beyond 2.4469 (any printed table); the points' borders are put
    there."""
    scale = 0.2 * sqrt(2 / 3)
    theta = np.array([0.0, 2 * (2.4469 * scale - 0.05), 9.0])
    found = luck(theta, np.array([-0.05]), np.array([0.2]), 3, 3, 3)
    chances = np.exp(found.log_chances)[0]
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    assert chances[0] == pytest.approx(0.975, abs=1e-3)
    assert found.hardly_more[0] == pytest.approx(exp(-0.05) * ratio_by_luck(np.array(0.2), 3, 3, 3, 0.005))


@pytest.mark.parametrize(("events", "expected"), [(1, 0.5), (3, 3.0), (4, 9.0), (27, 9.0), (40, 2.5)])
def test_the_chance_of_as_many_is_the_sum_of_poisson_s_terms_from_there_on(events, expected):
    terms = [exp(-expected) * expected**count / factorial(count) for count in range(events, events + 60)]
    assert chance_of_as_many(events, expected) == pytest.approx(fsum(terms), rel=1e-9)


def test_a_chance_too_small_for_a_float_is_still_a_number_to_divide_by():
    assert chance_of_as_many(1000.0, 1.0) == 1e-300  # e^-1 / 1000! is 1e-2568
    assert chance_of_as_many(3.0, 0.0) == 1e-300


def test_replicas_that_differ_are_told_from_counting_and_from_bursts():
    """1,000 draws of 8 replicas: the mean of the squared estimate is near the truth, and near none where only
    counting or bursts differ."""
    rng = np.random.default_rng(5)
    requests = np.full(8, 20_000.0)
    found = {}
    for name, sd, burst in (("alike", 0.0, 1), ("differing", 0.3, 1), ("bursts", 0.0, 16)):
        estimates = []
        for _ in range(300):
            rate = 0.01 * rng.lognormal(0, sd, 8) if sd else np.full(8, 0.01)
            events = burst * rng.poisson(requests * rate / burst)
            estimates.append(
                between_replicas(events[:, None].astype(float), requests, np.array([float(burst)]))[0]
            )
        found[name] = np.sqrt(np.mean(np.square(estimates)))
    assert found["differing"] == pytest.approx(0.3, rel=0.1)
    assert found["alike"] < 0.05
    assert found["bursts"] < 0.25


def test_few_replicas_and_few_events_say_nothing_and_the_prior_speaks():
    assert between_replicas(np.array([[50.0]]), np.array([1000.0]), np.ones(1)) == 0
    assert between_replicas(np.array([[0.0], [4.0]]), np.array([1000.0, 1000.0]), np.ones(1)) == 0
    assert shrunk(np.zeros(1), 1) == pytest.approx(0.07)
    assert shrunk(np.array([0.3]), 3) == pytest.approx(sqrt((4 * 0.0049 + 2 * 0.09) / 6))
