"""The promise about error rates, broken on purpose and in small: `make bench` does the same with 2,000
rollouts of each world.

Every look of every rollout is judged, with the whole default policy. Seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pytest

from bench.calibration import CASES as HEALTHY
from bench.calibration import run
from bench.power import CASES as BAD
from bench.rollouts import roll_out
from bench.running import service
from canaryd.simulation.monte_carlo_error import exact_interval

HEALTHY_RUNS = 8
HARMFUL_RUNS = 9


# of the others some are rolled back, as the benchmark's table says
QUICK = [name for name, case in HEALTHY.items() if not case.note]
HARMFUL = (
    "errors 1% to 3%",
    "errors 1% to 2%",
    "errors 0.5% to 3%, in bursts of 4",
    "latency 1.5 times",
    "3% of requests stuck for 3 s",
)


def rollouts(case, runs, longest):
    return roll_out(
        run(replace(case, longest=longest), service(case.world, case.name, index)) for index in range(runs)
    )


@pytest.mark.parametrize("world", QUICK)
def test_a_healthy_version_is_not_rolled_back(world):
    """At a risk of 1% two of 8 are rolled back once in 370 times."""
    assert sum(rollout.rolled_back for rollout in rollouts(HEALTHY[world], HEALTHY_RUNS, 90)) <= 1


def test_a_healthy_version_is_at_full_weight_in_about_seven_minutes():
    outcomes = rollouts(HEALTHY["independent errors"], 24, 120)
    # 24 rollouts: a quarter more for chance
    assert np.median([outcome.full for outcome in outcomes if outcome.full]) <= 1.25 * 7 * 60
    assert sum(outcome.end == "succeeded" for outcome in outcomes) >= 22


@pytest.mark.parametrize("harm", HARMFUL)
def test_harm_is_caught(harm):
    caught = [rollout.looks for rollout in rollouts(BAD[harm], HARMFUL_RUNS, 150) if rollout.rolled_back]
    assert len(caught) >= HARMFUL_RUNS - 1
    assert np.median(caught) <= 1.5 * (BAD[harm].goal or 60)  # nine rollouts: half more for chance


def test_exact_interval_is_clopper_and_pearson_s():
    """0 of 1,000: 1 - 0.025^(1/1000); 10 of 1,000 as printed in tables."""
    assert exact_interval(0, 1000) == pytest.approx((0.0, 1 - 0.025 ** (1 / 1000)))
    assert exact_interval(10, 1000) == pytest.approx((0.0048, 0.0183), abs=1e-4)
