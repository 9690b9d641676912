"""The e-detector: the average time to a false alarm, and how soon a true one comes."""

import numpy as np
import pytest

from canaryd.stats.e_detectors import RESTART, RateDetector

BAR = 20.0
LIMIT = np.array([0.02])


def looks_until_alarm(
    rng: np.random.Generator, rate: float, requests: int, looks: float, burst: int = 1
) -> float:
    """looks: of which each fold is."""
    detector, folds = RateDetector(1), 0
    while detector.odds[0] < BAR:
        events = min(burst * rng.poisson(requests * rate / burst), requests)
        detector.fold(np.array([float(events)]), np.array([float(requests)]), LIMIT, looks)
        folds += 1
    return folds * looks


@pytest.mark.parametrize(
    ("requests", "looks", "burst"), [(300, 1.0, 1), (100, 1 / 3, 1), (300, 1.0, 16), (900, 3.0, 1)]
)
def test_a_false_alarm_takes_as_long_on_average_as_is_promised(requests, looks, burst):
    """At the limit itself, the worst case of the null: 20 / RESTART looks, with failures alone and in bursts,
    in looks, parts of looks and blocks. 40 runs leave a standard error of 16% of an exponential time."""
    rng = np.random.default_rng([requests, burst])
    waited = [looks_until_alarm(rng, 0.02, requests, looks, burst) for _ in range(40)]
    assert np.mean(waited) > 0.7 * BAR / RESTART


def test_a_rate_far_above_the_limit_alarms_within_a_few_looks_however_long_it_was_good():
    rng = np.random.default_rng(1)
    assert looks_until_alarm(rng, 0.2, 300, 1.0) <= 4
    detector = RateDetector(1)
    for _ in range(500):
        detector.fold(np.array([1.0]), np.array([300.0]), LIMIT)
    assert detector.odds[0] <= RESTART
    for _ in range(4):
        detector.fold(np.array([60.0]), np.array([300.0]), LIMIT)
    assert detector.odds[0] > BAR
    assert detector.since[:, 0].tolist() == [240.0, 1200.0]


def test_what_is_without_requests_says_nothing():
    detector = RateDetector(2)
    detector.fold(np.array([60.0, 0.0]), np.array([300.0, 0.0]), np.array([0.02, 0.02]))
    before = detector.odds.copy()
    detector.fold(np.zeros(2), np.zeros(2), np.array([0.02, 0.02]))
    assert detector.odds.tolist() == before.tolist()
