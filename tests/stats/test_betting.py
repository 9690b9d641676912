from math import comb, exp, log

import numpy as np
import pytest

from canaryd.stats.betting import STAKES, log_gains_on_rate, log_gains_on_share, log_total, purse, staked
from canaryd.stats.changepoint import AT_ONCE


def _gains(events1, events2, requests1, requests2, ratio, cap):
    return log_gains_on_share(
        *(np.array([float(one)]) for one in (events1, events2, requests1, requests2, ratio, cap))
    )[0]


def test_gains_are_those_of_the_formula():
    got = _gains(6, 4, 450, 50, 1.1, 20)
    share = 50 * 1.1 / (450 + 50 * 1.1)
    assert got == pytest.approx([log(1 + stake * 10 / 20 * (0.4 / share - 1)) for stake in STAKES])


def test_a_look_larger_than_the_cap_counts_as_the_cap():
    assert _gains(60, 40, 450, 50, 1.1, 20) == pytest.approx(_gains(12, 8, 450, 50, 1.1, 20))


def test_without_a_cap_or_without_events_nothing_is_staked():
    assert _gains(6, 4, 450, 50, 1.1, 0) == pytest.approx(0)
    assert _gains(0, 0, 450, 50, 1.1, 5) == pytest.approx(0)


def test_expected_gain_at_the_border_is_one_for_independent_events_and_for_bursts():
    """Poisson means m1, m2 at the border, events in bursts of 1 or 5 on either side; the sum over all
    outcomes below the cap."""
    requests1, requests2, ratio, rate = 90.0, 10.0, 1.5, 0.01
    for burst in (1, 5):
        means = requests1 * rate / burst, requests2 * rate * ratio / burst
        expected = np.zeros(len(STAKES))
        for bursts1 in range(18):
            for bursts2 in range(12):
                chance = np.prod(
                    [
                        exp(-m) * m**b / np.prod(range(1, b + 1))
                        for m, b in zip(means, (bursts1, bursts2), strict=True)
                    ]
                )
                expected += chance * np.exp(
                    _gains(burst * bursts1, burst * bursts2, requests1, requests2, ratio, 1000)
                )
        assert expected == pytest.approx(np.ones(len(STAKES)), abs=1e-9)


def test_expected_gain_on_a_rate_at_its_limit_is_one():
    limit, requests = 0.2, 12
    expected = np.zeros(len(STAKES))
    for events in range(requests + 1):
        one = log_gains_on_rate(
            np.array([float(events)]), np.array([float(requests)]), np.array([limit]), np.array([30.0])
        )[0]
        expected += comb(requests, events) * limit**events * (1 - limit) ** (requests - events) * np.exp(one)
    assert expected == pytest.approx(np.ones(len(STAKES)))


def test_total_failure_breaks_a_limit_of_five_per_cent_within_three_looks():
    kept = purse(1)
    for _ in range(3):
        gains = log_gains_on_rate(np.array([50.0]), np.array([50.0]), np.array([0.05]), np.array([50.0]))
        kept = staked(kept, gains, np.array([0.01]))
    assert log_total(kept)[0] > log(200)


def test_a_purse_is_one_at_first_and_loses_nothing_where_nothing_is_won():
    kept = purse(2)
    for turning in (0.5, 0.01, 0.3):
        kept = staked(kept, np.zeros((2, len(STAKES))), np.full(2, turning))
    assert log_total(kept) == pytest.approx([0.0, 0.0])


def test_what_was_kept_back_is_staked_when_it_turns():
    """By hand: the staked part loses all but a fifth in a bad look, then the kept part's share gains
    tenfold."""
    lost, won = np.full((1, len(STAKES)), log(0.2)), np.full((1, len(STAKES)), log(10.0))
    kept = staked(staked(purse(1), lost, np.array([0.1])), won, np.array([0.5]))
    back = (1 - AT_ONCE) * 0.9
    on = (AT_ONCE + (1 - AT_ONCE) * 0.1) * 0.2
    assert exp(log_total(kept)[0]) == pytest.approx(back * 0.5 + (on + back * 0.5) * 10)


def test_log_total_is_the_log_of_the_sum():
    values = np.array([[0.0, 1.0, -3.0], [900.0, 900.0, 900.0]])
    assert log_total(values) == pytest.approx([log(1 + exp(1) + exp(-3)), 900.0 + log(3)])
