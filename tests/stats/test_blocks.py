"""Block lengths and the size of bursts from one version's own past."""

from math import log

import numpy as np
import pytest

from canaryd.stats.blocks import burst_size, correlation_time, summed_autocorrelation, usual_burst_size

LOOKS = 360


def test_looks_before_a_version_was_there_do_not_make_chance_look_like_correlation():
    """60 looks of independent failures behind 300 without a request: seldom more than independent, as with the 60 alone."""
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


def test_events_within_two_standard_errors_of_independent_are_taken_for_independent():
    """The two errors by simulation: so many of 4,000 independent pasts lie within them. Looks with 0 and v events have the ratio v / 2."""
    rng = np.random.default_rng(13)
    pasts = rng.poisson(5.0, (4000, 200))
    error = float((pasts.var(axis=1) / pasts.mean(axis=1)).std())
    for errors, size in ((1.8, 1.0), (2.2, 1 + 2.2 * error)):
        events = np.tile([0.0, 2 * (1 + errors * error)], 100)
        assert burst_size(events, least=1.0) == pytest.approx(size)


def test_a_burst_has_the_least_size_where_there_is_no_past():
    assert burst_size(np.zeros(0)) == 2
    assert burst_size(np.zeros(0), least=1.0) == 1
    assert usual_burst_size(np.zeros(0)) == usual_burst_size(np.zeros(LOOKS)) == 1


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("bursts", [0.03, 0.25, 1.5, 12.0])
def test_bursts_have_about_their_size_however_often_they_come(size, bursts):
    """The median of 100 pasts, and nine of ten of them; bursts: a look. What is cut off of rare ones makes them a little smaller."""
    rng = np.random.default_rng(14)
    found = [usual_burst_size(size * rng.poisson(bursts, LOOKS).astype(float)) for _ in range(100)]
    assert np.median(found) == pytest.approx(size, rel=0.2 if bursts < 1 else 0.08)
    assert sum(abs(one / size - 1) <= 0.3 for one in found) >= 90


@pytest.mark.parametrize("mean", [0.1, 0.5, 2.5, 25.0, 500.0])
def test_independent_events_come_one_by_one(mean):
    """Two standard errors are exceeded by one of 44, and there are two ways to exceed them."""
    rng = np.random.default_rng(15)
    found = [usual_burst_size(rng.poisson(mean, LOOKS).astype(float)) for _ in range(200)]
    assert sum(one > 1 for one in found) <= 20
    assert max(found) < 2


@pytest.mark.parametrize("size", [1, 4])
def test_looks_in_which_a_replica_hangs_do_not_count_where_they_are_rare(size):
    """One look in fifty, with half of a third of 500 requests: the variance is nearly all theirs."""
    rng = np.random.default_rng(16)
    found, with_all = [], []
    for _ in range(100):
        events = size * rng.poisson(2.5 / size, LOOKS) + rng.binomial(167, 0.5, LOOKS) * (rng.random(LOOKS) < 0.02)
        found.append(usual_burst_size(events.astype(float)))
        with_all.append(burst_size(events.astype(float)))
    assert np.median(found) == pytest.approx(size, rel=0.4)
    assert np.median(with_all) > 20


def test_where_nine_of_ten_looks_are_without_an_event_the_bursts_are_in_the_others():
    """By hand. One look of 12 with 8 or 24 events: the variance is 320 / 12 - (16 / 12)^2, the mean 16 / 12. With 16 in each of them the
    looks without an event say more: 16 / 12 events a look, and bursts enough to leave 11 of 12 looks without one."""
    assert usual_burst_size(np.array([8.0, *[0] * 11, 24.0, *[0] * 11] * 15)) == pytest.approx(20 - 16 / 12)
    assert usual_burst_size(np.array([16.0, *[0] * 11] * 30)) == pytest.approx(16 / 12 / log(12 / 11))
