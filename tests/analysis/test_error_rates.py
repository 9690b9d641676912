"""The promise about error rates, broken on purpose and in small: `make bench` does the same with a thousand rollouts of each world.

Every look of every rollout is judged, with the whole default policy. Seeds are fixed.
"""

import numpy as np
import pytest

from bench.evidence import HARMFUL, HEALTHY, roll_out
from canaryd.analysis.simulated import services
from canaryd.stats.sampling import exact_interval

HEALTHY_RUNS = 12
HARMFUL_RUNS = 9


@pytest.mark.parametrize("world", HEALTHY)
def test_a_healthy_version_is_not_rolled_back(world):
    """At a risk of 1% two of 12 are rolled back once in 160 times."""
    outcomes = [roll_out(service, longest=120) for service in services(HEALTHY[world], HEALTHY_RUNS, 31)]
    assert sum(one.end == "rolled back" for one in outcomes) <= 1


def test_a_healthy_version_is_at_full_weight_in_about_nine_minutes():
    outcomes = [roll_out(service, longest=120) for service in services(HEALTHY["independent errors"], 24, 32)]
    assert np.median([one.full for one in outcomes if one.full]) <= 1.25 * 9 * 60  # 24 rollouts: a quarter more for chance
    assert sum(one.end == "succeeded" for one in outcomes) >= 22


@pytest.mark.parametrize("harm", HARMFUL)
def test_harm_is_caught(harm):
    world, goal = HARMFUL[harm]
    outcomes = [roll_out(service, climbing=False, longest=150) for service in services(world, HARMFUL_RUNS, 33)]
    caught = [one.looks for one in outcomes if one.end == "rolled back"]
    assert len(caught) >= HARMFUL_RUNS - 1
    assert np.median(caught) <= 1.5 * (goal or 60)  # nine rollouts: half more for chance


def test_exact_interval_is_clopper_and_pearson_s():
    """0 of 1,000: 1 - 0.025^(1/1000); 10 of 1,000 as printed in tables."""
    assert exact_interval(0, 1000) == pytest.approx((0.0, 1 - 0.025 ** (1 / 1000)))
    assert exact_interval(10, 1000) == pytest.approx((0.0048, 0.0183), abs=1e-4)
