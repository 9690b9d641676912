"""Reference values come from plain sums with math.lgamma over every path; the martingale property from
enumerating every outcome."""

from itertools import product
from math import comb, exp, lgamma, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canaryd.stats.betabinomial import PAST_LIMIT, a_grid, log_likelihood, log_past
from canaryd.stats.changepoint import AT_ONCE, hazard, initial, log_evidence_below, log_null, step
from canaryd.stats.intervals import log_ratio_interval

SMALL = a_grid(below=(0.5, 1.0), over=(0.5, 1.0), concentrations=(3.0, np.inf), disturbed=(0.0, 0.2))
NO_LUCK = np.array([[0.0]], dtype=np.float32)


def no_past(grid):
    return np.zeros((1, grid.cells), dtype=np.float32)


def _likelihood(grid, events, requests1, requests2, ratio):
    """One look of one comparison; events = (stable's, canary's)."""
    one = [np.array([float(value)]) for value in (*events, requests1, requests2, ratio)]
    return log_likelihood(grid, grid.theta, *one, np.zeros(1))


def _evidence(grid, looks, requests, ratio, past=None, luck=NO_LUCK):
    """Log evidence of harm after the looks."""
    past = no_past(grid) if past is None else past
    mass, scale, gathered = (
        initial(grid, past),
        0.0,
        np.zeros((1, len(grid.theta), grid.cells), dtype=np.float32),
    )
    for number, events in enumerate(looks):
        one = _likelihood(grid, events, *requests, ratio)
        mass, gained = step(grid, mass, one, np.array([hazard(number)]))
        scale, gathered = scale + gained[0], gathered + one
    return scale - log_null(grid, gathered, past, luck)[0]


def _below(grid, gathered):
    return log_evidence_below(
        grid, grid.prior[None, : grid.border], gathered.astype(np.float32), no_past(grid)
    )[0]


def _beta(a, b):
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _probability(k1, k2, share, concentration, disturbed):
    """Of k2 canary events among k1 + k2, by the definition of the mixture."""

    def beta_binomial(s):
        if s == np.inf:
            return comb(k1 + k2, k2) * share**k2 * (1 - share) ** k1
        return comb(k1 + k2, k2) * exp(
            _beta(k2 + share * s, k1 + (1 - share) * s) - _beta(share * s, (1 - share) * s)
        )

    anyhow = comb(k1 + k2, k2) * exp(_beta(k2 + 0.5, k1 + 0.5) - _beta(0.5, 0.5))
    return (1 - disturbed) * beta_binomial(concentration) + disturbed * anyhow


LOOKS = [((3, 2), (90, 10)), ((0, 7), (450, 50)), ((40, 1), (100, 100)), ((900, 120), (5000, 500))]


@pytest.mark.parametrize(("events", "requests"), LOOKS)
def test_log_likelihood_is_that_of_the_definition(events, requests):
    grid = a_grid()
    got = _likelihood(grid, events, *requests, 1.1)[0].reshape(
        len(grid.theta), len(grid.concentration), len(grid.disturbed)
    )
    wanted = np.full(got.shape, -np.inf)
    for (i, theta), (j, s), (k, pi) in product(
        enumerate(grid.theta), enumerate(grid.concentration), enumerate(grid.disturbed)
    ):
        rate = 1.1 * exp(theta)
        share = requests[1] * rate / (requests[0] + requests[1] * rate)
        chance = _probability(*events, share, s, pi) if sum(events) < 500 or s != np.inf else 0.0
        wanted[i, j, k] = log(chance) if chance > 0 else -np.inf
    seen = wanted > wanted.max() - 60
    assert seen.sum() > 100
    assert (got - got[seen].max())[seen] == pytest.approx((wanted - wanted.max())[seen], abs=2e-4)


def test_shares_of_all_outcomes_sum_to_one_in_the_reference():
    assert sum(_probability(6 - k2, k2, 0.3, 3.0, 0.2) for k2 in range(7)) == pytest.approx(1)


def _outcomes(totals, requests, ratio_of_rates, concentration, disturbed):
    """Every outcome of looks with so many events each: its chance, and its looks."""
    share = requests[1] * ratio_of_rates / (requests[0] + requests[1] * ratio_of_rates)
    for outcome in product(*(range(total + 1) for total in totals)):
        looks = [(total - k2, k2) for k2, total in zip(outcome, totals, strict=True)]
        yield float(np.prod([_probability(*look, share, concentration, disturbed) for look in looks])), looks


@pytest.mark.parametrize("theta", [0.0, -0.5, -1.0])
@pytest.mark.parametrize(("concentration", "disturbed"), list(product((3.0, np.inf), (0.0, 0.2))))
def test_expectation_of_evidence_of_harm_is_at_most_one_under_every_tolerated_truth(
    theta, concentration, disturbed
):
    """Three looks, every outcome, weighted by its probability."""
    requests, ratio = (60, 20), 1.2
    outcomes = _outcomes((3, 1, 4), requests, ratio * exp(theta), concentration, disturbed)
    expectation = sum(chance * exp(_evidence(SMALL, looks, requests, ratio)) for chance, looks in outcomes)
    assert 0 < expectation <= 1 + 1e-5


def test_expectation_of_evidence_is_at_most_one_where_luck_draws_the_ratio():
    """Replicas' luck puts the ratio on the border, or at half a nat or a nat over it, by known chances."""
    requests, chances = (40, 20), (0.6, 0.3, 0.1)
    luck = np.log(np.array([chances])).astype(np.float32)
    expectation = 0.0
    for drawn, theta in zip(chances, (0.0, 0.5, 1.0), strict=True):
        for chance, looks in _outcomes((4, 4, 3), requests, exp(theta), np.inf, 0.0):
            expectation += drawn * chance * exp(_evidence(SMALL, looks, requests, 1.0, luck=luck))
    assert 0 < expectation <= 1 + 1e-5


def test_expectation_of_evidence_is_at_most_one_with_a_past_that_had_the_same_trouble():
    """The past is drawn as the looks are: six looks in three pairs; trust in full would be exact, half of it
    claims less."""
    past_looks, requests = [(6.0, 2.0), (5.0, 4.0)], (30, 30)
    for disturbed in (0.0, 0.2):
        expectation = 0.0
        for chance, looks in _outcomes((3, 3), requests, 1.0, np.inf, disturbed):
            past = log_past(
                SMALL, np.array([[one] for pair in past_looks for one in pair]), np.full(4, 100.0)
            )
            expectation += chance * exp(_evidence(SMALL, looks, requests, 1.0, past=past) + float(past.min()))
        assert 0 < expectation <= 1 + 1e-5


@pytest.mark.parametrize("theta", [0.0, 0.5, 1.0])
def test_expectation_of_clearing_evidence_is_at_most_one_under_every_unacceptable_truth(theta):
    requests, expectation = (30, 30), 0.0
    for chance, looks in _outcomes((4, 5), requests, exp(theta), np.inf, 0.2):
        expectation += chance * exp(
            _below(SMALL, sum(_likelihood(SMALL, look, *requests, 1.0) for look in looks))
        )
    assert 0 < expectation <= 1 + 1e-5


def test_the_mixture_is_the_sum_over_every_look_at_which_harm_may_begin():
    """By hand: for each look, each size and each cell, the product of likelihoods, with the share that turns
    there."""
    requests, looks = (50, 50), [(3, 2), (2, 2), (1, 6)]
    likelihoods = [np.exp(_likelihood(SMALL, look, *requests, 1.0)[0].astype(float)) for look in looks]
    sizes = SMALL.prior[SMALL.border + 1 :]
    total, healthy = 0.0, 1.0 - AT_ONCE
    turned = [AT_ONCE + healthy * hazard(0)]
    for number in range(len(looks)):
        healthy *= 1 - hazard(number)
        turned.append(healthy * hazard(number + 1))
    for cell, weight in enumerate(SMALL.weights):
        good = [likelihood[SMALL.border, cell] for likelihood in likelihoods]
        total += weight * healthy * np.prod(good)
        for begins, (share, size) in product(range(len(looks)), enumerate(sizes)):
            bad = [likelihood[SMALL.border + 1 + share, cell] for likelihood in likelihoods[begins:]]
            total += weight * turned[begins] * size * np.prod(good[:begins]) * np.prod(bad)
    mass, scale = initial(SMALL, no_past(SMALL)), 0.0
    for number, look in enumerate(looks):
        mass, gained = step(SMALL, mass, _likelihood(SMALL, look, *requests, 1.0), np.array([hazard(number)]))
        scale += gained[0]
    assert scale == pytest.approx(log(total), abs=1e-5)


def test_many_events_on_the_canary_s_side_are_evidence_of_harm_and_on_stable_s_side_of_none():
    grid = a_grid()
    harm, good = [(5, 6)] * 10, [(45, 1)] * 10
    assert _evidence(grid, harm, (450, 50), 1.1) > log(1000)
    assert _evidence(grid, good, (450, 50), 2.0) < 0
    assert _below(grid, sum(_likelihood(grid, look, 450, 50, 1.1) for look in harm)) < 0
    assert _below(grid, sum(_likelihood(grid, look, 450, 50, 2.0) for look in good)) > log(20)


def test_one_burst_is_not_held_against_the_canary():
    assert _evidence(a_grid(), [(0, 60)], (450, 50), 1.1) < log(10)


@pytest.mark.parametrize(("burst", "events"), [(16, 200), (64, 500)])
def test_large_bursts_on_a_busy_service_gather_no_evidence_against_a_version_as_good_as_stable(burst, events):
    """A tenth of the requests, `events` a look, in bursts: what gathers is misfit alone, and must not grow
    with the looks."""
    rng, grid = np.random.default_rng(burst), a_grid()
    looks = [
        (burst * rng.poisson(0.9 * events / burst), burst * rng.poisson(0.1 * events / burst))
        for _ in range(300)
    ]
    history = burst * rng.poisson(events / burst, 360).astype(float)
    past = log_past(grid, history[:, None], np.full(360, 20_000.0))
    for known in (no_past(grid), past):
        assert _evidence(grid, [look for look in looks if sum(look)], (18_000, 2_000), 1.0, past=known) < log(
            5
        )


def test_looks_of_thousands_of_events_stay_finite_in_single_precision():
    grid = a_grid()
    for looks in ([(0, 4000)] * 2, [(40_000, 0)] * 3, [(40_000, 0), (0, 4000), (40_000, 4000)]):
        assert np.isfinite(_evidence(grid, looks, (45_000, 5_000), 1.1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=6))
def test_two_looks_in_one_go_are_as_one_by_one(looks):
    """Rows do not touch each other."""
    grid, past = a_grid(), no_past(a_grid())
    counts = np.array(looks, dtype=float)
    many = np.ones(len(looks))
    together = log_likelihood(
        grid, grid.theta, counts[:, 0], counts[:, 1], 300 * many, 100 * many, 1.1 * many, 0 * many
    )
    alone = np.concatenate([_likelihood(grid, look, 300, 100, 1.1) for look in looks])
    assert together == pytest.approx(alone, abs=1e-4)
    mass, gained = step(grid, initial(grid, np.repeat(past, len(looks), axis=0)), together, 0.1 * many)
    one, alone_gained = step(grid, initial(grid, past), alone[:1], np.array([0.1]))
    assert mass[0] == pytest.approx(one[0], abs=1e-5)
    assert gained[0] == pytest.approx(alone_gained[0], abs=1e-5)


def test_a_past_speaks_for_what_it_showed_and_never_beyond_its_limit():
    rng, grid = np.random.default_rng(8), a_grid()
    requests = np.full(360, 500.0)
    alone = log_past(grid, rng.poisson(2.5, (360, 1)).astype(float), requests)[0].reshape(
        -1, len(grid.disturbed)
    )
    bursts = log_past(grid, 16.0 * rng.poisson(2.5 / 16, (360, 1)), requests)[0].reshape(
        -1, len(grid.disturbed)
    )
    assert alone[-1, 0] > -0.1
    assert alone[0, 0] < -1
    assert bursts[-1, 0] == -PAST_LIMIT
    assert bursts[:2].max() == 0
    assert log_past(grid, np.zeros((360, 2)), requests) == pytest.approx(0)
    assert log_past(grid, np.zeros((0, 2)), np.zeros(0)) == pytest.approx(0)


def test_interval_holds_the_true_ratio_at_every_look_in_at_least_95_per_cent():
    """200 seeded runs of 60 looks, ratio 2 over a border of 1; the share of runs in which any look's interval
    misses it."""
    rng, grid, missed = np.random.default_rng(3), a_grid(), 0
    for _ in range(200):
        gathered = np.zeros((1, len(grid.theta), grid.cells), dtype=np.float32)
        for _ in range(60):
            events = rng.poisson(4.0), rng.poisson(8.0 / 9.0)
            if sum(events):
                gathered = gathered + _likelihood(grid, events, 450, 50, 1.0)
            low, high = log_ratio_interval(grid, gathered, no_past(grid))
            if not low[0] - 0.1 <= log(2) <= high[0] + 0.1:  # half a step of the grid
                missed += 1
                break
    assert missed <= 18  # 5% of 200 and three standard deviations


def test_interval_without_data_is_everything():
    grid = a_grid()
    low, high = log_ratio_interval(
        grid, np.zeros((1, len(grid.theta), grid.cells), dtype=np.float32), no_past(grid)
    )
    assert low[0] == -np.inf
    assert high[0] == np.inf
