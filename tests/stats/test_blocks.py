"""Block lengths and the size of bursts from one version's own past."""

import numpy as np
import pytest

from canaryd.stats.blocks import (
    block_length,
    burst_size,
    correlation_time,
    lasting_changes,
    summed_autocorrelation,
)

LOOKS = 360
EVEN = np.full(LOOKS, 500.0)  # requests


def test_looks_before_a_version_was_there_do_not_make_chance_look_like_correlation():
    """60 looks of independent failures behind 300 without a request: seldom more than independent, as with
    the 60 alone."""
    rng = np.random.default_rng(11)
    longer = 0
    for _ in range(200):
        requests = np.concatenate((np.zeros(300), rng.poisson(100, 60))).astype(float)
        events = rng.binomial(requests.astype(int), 0.01).astype(float)
        longer += correlation_time(events, requests) >= 1.5
    assert longer <= 10  # 5%


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.8])
def test_what_is_a_share_of_the_look_before_has_the_correlation_time_of_that_share(rho):
    """Of AR(1) it is (1 + rho) / (1 - rho), the sum of a geometric series."""
    rng = np.random.default_rng(12)
    series = np.zeros(40_000)
    for look, news in enumerate(rng.standard_normal(len(series))):
        series[look] = rho * series[look - 1] + news
    assert summed_autocorrelation(series - series.mean()) == pytest.approx((1 + rho) / (1 - rho), rel=0.1)


def test_what_never_varies_and_what_turns_at_every_look_hang_together_no_longer_than_a_look():
    assert summed_autocorrelation(np.zeros(50)) == 1
    assert summed_autocorrelation(np.array([1.0, -1.0] * 25)) == 1


# ---------------------------------------------------------------- bursts


def test_a_burst_is_one_event_where_there_is_no_past():
    assert burst_size(np.zeros(0), np.zeros(0)) == burst_size(np.zeros(LOOKS), EVEN) == 1


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("bursts", [0.03, 0.25, 1.5, 12.0])
def test_bursts_have_about_their_size_however_often_they_come(size, bursts):
    """The median of 100 pasts, and nine of ten of them; bursts: a look. What is cut off of rare ones makes
    them a little smaller."""
    rng = np.random.default_rng(14)
    found = [burst_size(size * rng.poisson(bursts, LOOKS).astype(float), EVEN) for _ in range(100)]
    assert np.median(found) == pytest.approx(size, rel=0.2 if bursts < 1 else 0.08)
    assert sum(abs(one / size - 1) <= 0.3 for one in found) >= 90


@pytest.mark.parametrize("mean", [0.1, 0.5, 2.5, 25.0, 500.0])
def test_independent_events_come_one_by_one(mean):
    """Two standard errors are exceeded by one of 44, and there are two ways to exceed them."""
    rng = np.random.default_rng(15)
    found = [burst_size(rng.poisson(mean, LOOKS).astype(float), EVEN) for _ in range(200)]
    assert sum(one > 1 for one in found) <= 20
    assert max(found) < 2


@pytest.mark.parametrize("size", [1, 4])
def test_looks_in_which_a_replica_hangs_do_not_count_where_they_are_rare(size):
    """One look in fifty, with half of a third of 500 requests: the variance is nearly all theirs."""
    rng = np.random.default_rng(16)
    found, with_all = [], []
    for _ in range(100):
        events = size * rng.poisson(2.5 / size, LOOKS) + rng.binomial(167, 0.5, LOOKS) * (
            rng.random(LOOKS) < 0.02
        )
        found.append(burst_size(events.astype(float), EVEN))
        with_all.append(events.var() / events.mean())
    assert np.median(found) == pytest.approx(size, rel=0.4)
    assert np.median(with_all) > 20


def test_where_nine_of_ten_looks_are_without_an_event_nothing_is_cut_off():
    """By hand: one look of 12 with 16 events. What changes between looks is 2 * 16^2 in 24 looks, of 2 * 16
    events, half of it expected."""
    events = np.array([16.0, *[0] * 11] * 30)
    assert burst_size(events, EVEN) == pytest.approx(16, rel=0.1)
    assert burst_size(np.array([8.0, *[0] * 11, 24.0, *[0] * 11] * 15), EVEN) == pytest.approx(20, rel=0.1)


def test_neither_the_hour_nor_traffic_that_comes_and_goes_is_taken_for_bursts():
    rng = np.random.default_rng(17)
    swinging, coming = [], []
    for _ in range(100):
        hour = 2.5 * (1 + 0.8 * np.sin(2 * np.pi * np.arange(LOOKS) / LOOKS + rng.uniform(0, 6)))
        swinging.append(burst_size(rng.poisson(hour).astype(float), EVEN))
        requests = np.where(rng.random(LOOKS) < 0.2, 80.0, 0.0)
        # and an earlier time in which all of it failed more
        rate = np.where(np.arange(LOOKS) < 150, 0.04, 0.01)
        coming.append(burst_size(rng.poisson(requests * rate).astype(float), requests))
    assert np.median(swinging) == np.median(coming) == 1
    assert max(swinging + coming) < 2


# ---------------------------------------------------------------- lasting changes


def failures(rng: np.random.Generator, *levels: tuple[int, float]) -> np.ndarray:
    """Looks of failures at each level: how many looks, and the rate."""
    rates = np.concatenate([np.full(looks, rate) for looks, rate in levels])
    return rng.poisson(EVEN[: len(rates)] * rates).astype(float)


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param([(354, 0.005), (6, 0.05)], id="a minute before the rollout"),
        pytest.param([(300, 0.005), (60, 0.05)], id="ten minutes before"),
        pytest.param([(150, 0.005), (60, 0.05), (150, 0.005)], id="an incident that came and went"),
        pytest.param([(35, 0.005), (64, 0.05), (5, 0.005)], id="an incident of a young stable"),
    ],
)
def test_a_lasting_change_of_the_rate_strikes_both_versions_and_makes_no_blocks(levels):
    rng = np.random.default_rng(14)
    alone = 0
    for _ in range(50):
        events = failures(rng, *levels)
        edges = np.cumsum([looks for looks, _ in levels])[:-1]
        found = lasting_changes(events, EVEN[: len(events)])
        assert len(found) == len(edges)
        assert np.abs(np.array(found) - edges).max() <= 3
        alone += block_length(correlation_time(events, EVEN[: len(events)])) == 1
    assert alone >= 48


def test_what_only_chance_brings_is_no_change():
    rng = np.random.default_rng(15)
    assert not any(lasting_changes(failures(rng, (360, 0.005)), EVEN) for _ in range(200))
    assert lasting_changes(np.zeros(360), EVEN) == ()
    assert lasting_changes(np.ones(10), EVEN[:10]) == ()


@pytest.mark.parametrize(("spell", "most"), [(3, 0.1), (6, 0.05), (18, 0.2)])
def test_bad_spells_of_a_version_still_make_blocks(spell, most):
    """A tenth of the looks in spells, of so many looks on average."""
    rng = np.random.default_rng(16)
    alone = 0
    for _ in range(200):
        bad, is_bad = np.zeros(LOOKS, dtype=bool), rng.random() < 0.1
        for look in range(LOOKS):
            bad[look] = is_bad
            is_bad = rng.random() > 1 / spell if is_bad else rng.random() < 0.1 / 0.9 / spell
        events = rng.poisson(EVEN * np.where(bad, 0.05, 0.005)).astype(float)
        alone += block_length(correlation_time(events, EVEN)) == 1
    assert alone <= most * 200
