"""Reference values come from plain sums with math.lgamma; the martingale property from enumerating every outcome of small looks."""

from itertools import product
from math import comb, exp, lgamma, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canaryd.stats.betabinomial import a_grid, log_evidence_below, log_evidence_over, log_likelihood
from canaryd.stats.intervals import log_ratio_interval

SMALL = a_grid(below=(0.5, 1.0), over=(0.5, 1.0), concentrations=(3.0, 100.0), disturbed=(0.0, 0.2))


def _likelihood(grid, events, requests1, requests2, ratio):
    """One look of one comparison; events = (stable's, canary's)."""
    one = [np.array([float(value)]) for value in (*events, requests1, requests2, ratio)]
    return log_likelihood(grid, *one)[0]


def _beta(a, b):
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _probability(k1, k2, share, concentration, disturbed):
    """Of k2 canary events among k1 + k2, by the definition of the mixture."""

    def beta_binomial(s):
        return comb(k1 + k2, k2) * exp(_beta(k2 + share * s, k1 + (1 - share) * s) - _beta(share * s, (1 - share) * s))

    return (1 - disturbed) * beta_binomial(concentration) + disturbed * beta_binomial(0.5)


LOOKS = [((3, 2), (90, 10)), ((0, 7), (450, 50)), ((40, 1), (100, 100)), ((900, 120), (5000, 500))]


@pytest.mark.parametrize(("events", "requests"), LOOKS)
def test_log_likelihood_is_that_of_the_definition(events, requests):
    grid = a_grid()
    got = _likelihood(grid, events, *requests, 1.1).reshape(len(grid.theta), len(grid.concentration), len(grid.disturbed))
    wanted = np.empty_like(got)
    for (i, theta), (j, s), (k, pi) in product(enumerate(grid.theta), enumerate(grid.concentration), enumerate(grid.disturbed)):
        rate = 1.1 * exp(theta)
        share = requests[1] * rate / (requests[0] + requests[1] * rate)
        wanted[i, j, k] = log(max(_probability(*events, share, s, pi), 1e-300))
    wanted -= wanted.max()
    seen = wanted > -200
    assert got[seen] == pytest.approx(wanted[seen], abs=1e-6)


def test_shares_of_all_outcomes_sum_to_one_in_the_reference():
    assert sum(_probability(6 - k2, k2, 0.3, 3.0, 0.2) for k2 in range(7)) == pytest.approx(1)


@pytest.mark.parametrize("theta", [0.0, -0.5, -1.0])
@pytest.mark.parametrize(("concentration", "disturbed"), list(product((3.0, 100.0), (0.0, 0.2))))
def test_expectation_of_evidence_of_harm_is_at_most_one_under_every_tolerated_truth(theta, concentration, disturbed):
    """Three looks, every outcome, weighted by its probability."""
    requests, ratio, totals = (60, 20), 1.2, (3, 1, 4)
    share = requests[1] * ratio * exp(theta) / (requests[0] + requests[1] * ratio * exp(theta))
    expectation = 0.0
    for outcome in product(*(range(total + 1) for total in totals)):
        chance, gathered = 1.0, np.zeros((1, len(SMALL.theta), SMALL.cells))
        for k2, total in zip(outcome, totals, strict=True):
            chance *= _probability(total - k2, k2, share, concentration, disturbed)
            gathered = gathered + _likelihood(SMALL, (total - k2, k2), *requests, ratio)
        expectation += chance * exp(log_evidence_over(SMALL, gathered)[0])
    assert 0 < expectation <= 1 + 1e-9


@pytest.mark.parametrize("theta", [0.0, 0.5, 1.0])
def test_expectation_of_clearing_evidence_is_at_most_one_under_every_unacceptable_truth(theta):
    requests, totals = (30, 30), (4, 5)
    share = requests[1] * exp(theta) / (requests[0] + requests[1] * exp(theta))
    expectation = 0.0
    for outcome in product(*(range(total + 1) for total in totals)):
        chance, gathered = 1.0, np.zeros((1, len(SMALL.theta), SMALL.cells))
        for k2, total in zip(outcome, totals, strict=True):
            chance *= _probability(total - k2, k2, share, 100.0, 0.2)
            gathered = gathered + _likelihood(SMALL, (total - k2, k2), *requests, 1.0)
        expectation += chance * exp(log_evidence_below(SMALL, gathered)[0])
    assert 0 < expectation <= 1 + 1e-9


def test_many_events_on_the_canary_s_side_are_evidence_of_harm_and_on_stable_s_side_of_none():
    grid = a_grid()
    harm = sum(_likelihood(grid, (5, 6), 450, 50, 1.1) for _ in range(10))[None]
    good = sum(_likelihood(grid, (45, 1), 450, 50, 2.0) for _ in range(10))[None]
    assert log_evidence_over(grid, harm)[0] > log(1000)
    assert log_evidence_below(grid, harm)[0] < 0
    assert log_evidence_below(grid, good)[0] > log(20)
    assert log_evidence_over(grid, good)[0] < 0


def test_one_burst_is_not_held_against_the_canary():
    grid = a_grid()
    assert log_evidence_over(grid, _likelihood(grid, (0, 60), 450, 50, 1.1)[None])[0] < log(10)


@pytest.mark.parametrize(("burst", "events"), [(16, 200), (64, 500)])
def test_large_bursts_on_a_busy_service_gather_no_evidence_against_a_version_as_good_as_stable(burst, events):
    """A tenth of the requests, `events` a look, in bursts: what gathers is misfit alone, and must not grow with the looks."""
    rng, grid = np.random.default_rng(burst), a_grid()
    looks = [(burst * rng.poisson(0.9 * events / burst), burst * rng.poisson(0.1 * events / burst)) for _ in range(300)]
    gathered = sum(_likelihood(grid, look, 18_000, 2_000, 1.0) for look in looks if sum(look))
    assert log_evidence_over(grid, gathered[None])[0] < log(3)


def test_a_pi_of_zero_stays_finite_where_a_look_is_thousands_of_events_from_usual():
    grid = a_grid()
    gathered = sum(_likelihood(grid, (0, 4000), 45000, 5000, 1.1) for _ in range(2))[None]
    assert np.isfinite(log_evidence_over(grid, gathered)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6), st.randoms())
def test_order_of_looks_does_not_matter(looks, random):
    grid = a_grid()
    shuffled = random.sample(looks, len(looks))
    one, other = (sum(_likelihood(grid, look, 300, 100, 1.1) for look in order)[None] for order in (looks, shuffled))
    assert log_evidence_over(grid, one) == pytest.approx(log_evidence_over(grid, other), abs=1e-9)


def test_interval_holds_the_true_ratio_at_every_look_in_at_least_95_per_cent():
    """200 seeded runs of 60 looks, ratio 2 over a border of 1; the share of runs in which any look's interval misses it."""
    rng, grid, missed = np.random.default_rng(3), a_grid(), 0
    for _ in range(200):
        gathered = np.zeros((1, len(grid.theta), grid.cells))
        for _ in range(60):
            events = rng.poisson(4.0), rng.poisson(8.0 / 9.0)
            if sum(events):
                gathered = gathered + _likelihood(grid, events, 450, 50, 1.0)
            low, high = log_ratio_interval(grid, gathered)
            if not low[0] - 0.05 <= log(2) <= high[0] + 0.05:  # half a step of the grid
                missed += 1
                break
    assert missed <= 18  # 5% of 200 and three standard deviations


def test_interval_without_data_is_everything():
    grid = a_grid()
    low, high = log_ratio_interval(grid, np.zeros((1, len(grid.theta), grid.cells)))
    assert low[0] == -np.inf
    assert high[0] == np.inf
