"""The least time of any test: by other routes, and never more than a test that there is needs."""

from __future__ import annotations

from dataclasses import replace
from math import inf, log

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from canaryd.commands.plan.least_time import RuledOut, Troubles, least_at, least_seconds, troubles_of
from canaryd.domain.policy.metrics import Errors
from canaryd.simulation.simulated_service import Scenario, SimulatedService
from canaryd.simulation.traffic_profile import Given, as_given, measured
from tests.builders import a_policy

LADDER = a_policy(stages=[{"weight": weight} for weight in (10, 25, 50, 100)])
USUAL = as_given(Given(rate=50.0, errors=0.005, median_ms=60.0, replicas=3))


def test_a_stage_rules_out_what_would_hurt_as_many_users_at_the_next_weight() -> None:
    """Twice the errors, or half a point more, at full weight: three times as many at half of it."""
    assert RuledOut.before(100, Errors(), 0.05) == RuledOut(2.0, 0.005, 0.05)
    assert RuledOut.before(50, Errors(), 0.05) == RuledOut(3.0, 0.01, 0.05)
    assert RuledOut(3.0, 0.01, 0.05).canary_rate(0.001) == pytest.approx(0.011)
    assert RuledOut(3.0, 0.01, 0.05).canary_rate(0.02) == pytest.approx(0.06)
    assert RuledOut(3.0, 0.01, 0.05).canary_rate(0.5) == 1.0


def test_a_ratio_alone_takes_log_20_over_what_each_failure_tells() -> None:
    """For rare failures KL(w, w r / (w r + 1 - w)) per failure, the canary's share of them being what tells:
    with 0.25 failures a second 1.14, 1.5 and 3.4 minutes of the ladder's three stages."""
    found = []
    for weight, ratio in ((0.1, 5.0), (0.25, 3.0), (0.5, 2.0)):
        share = weight * ratio / (weight * ratio + 1 - weight)
        per_failure = weight * log(weight / share) + (1 - weight) * log((1 - weight) / (1 - share))
        exact = log(20) / (per_failure * 0.25)
        least = least_seconds(1e-6, 1, 250_000 * (1 - weight), 250_000 * weight, RuledOut(ratio, 0.0, 0.05))
        assert least == pytest.approx(exact, rel=1e-3)
        found.append(least / 60)
    assert found == pytest.approx([1.14, 1.52, 3.39], abs=0.01)


@pytest.mark.parametrize("rate", [0.0005, 0.005, 0.05])
def test_the_nearest_pair_that_must_be_ruled_out_is_found_as_scipy_finds_it(rate: float) -> None:
    ruled_out = RuledOut(3.0, 0.01, 0.05)

    def divergence(p: float, q: float) -> float:
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    def information(other: float) -> float:
        worse = max(3 * other, other + 0.01, rate)
        return 30 * divergence(rate, other) + 20 * divergence(rate, worse)

    least = minimize_scalar(
        information, bounds=(rate * 1e-6, rate), method="bounded", options={"xatol": 1e-12}
    )
    assert least_seconds(rate, 1, 30, 20, ruled_out) == pytest.approx(log(20) / least.fun, rel=1e-4)


def test_without_errors_the_canary_alone_tells_by_its_silence() -> None:
    """No failure in n requests rules out a rate d where (1 - d)^n is 1 in 20."""
    least = least_seconds(0.0, 1, 10.0, 10.0, RuledOut(2.0, 0.005, 0.05))
    assert least == pytest.approx(log(0.05) / log(0.995) / 10, rel=1e-6)


def test_bursts_take_as_many_times_as_long_as_they_are_large_and_no_traffic_for_ever() -> None:
    ruled_out = RuledOut(2.0, 0.005, 0.05)
    alone = least_seconds(0.005, 1, 25, 25, ruled_out)
    assert least_seconds(0.005, 16, 25, 25, ruled_out) == pytest.approx(16 * alone)
    assert least_seconds(0.005, 1, 100, 100, ruled_out) == pytest.approx(alone / 4)
    assert least_seconds(0.005, 1, 50, 0, ruled_out) == inf
    with pytest.raises(ValueError, match="burst at least 1"):
        least_seconds(0.005, 0.5, 25, 25, ruled_out)


def test_a_ladder_s_stages_each_have_their_own_least_time_and_the_last_has_none() -> None:
    found = [least_at(LADDER, USUAL, Troubles(1.0, 1), stage) for stage in range(4)]
    assert found[0] < found[1] < found[2]
    assert found[3] == 0.0
    assert least_at(LADDER, replace(USUAL, rate=100.0), Troubles(2.0, 1), 1) == pytest.approx(
        found[1], rel=1e-6
    )


def test_a_block_of_looks_is_the_least_in_which_anything_can_be_decided() -> None:
    assert (
        least_at(LADDER, replace(USUAL, rate=50_000.0), Troubles(1.0, 20), 0) == 20 * LADDER.analysis.interval
    )


def test_a_test_that_knows_everything_needs_no_less_than_the_bound() -> None:
    """Wald's test of 4% against 2%, told stable's rate: on average at least the bound of a test of both arms
    that is told so too, which is a stable of boundless traffic."""
    rng, per_look = np.random.default_rng(8), 20
    failures = rng.binomial(per_look, 0.02, (2000, 1000)).cumsum(axis=1)
    served = per_look * np.arange(1, 1001)
    for_healthy = failures * log(0.02 / 0.04) + (served - failures) * log(0.98 / 0.96)
    looks = (for_healthy >= log(20)).argmax(axis=1) + 1
    least = least_seconds(0.02, 1, 1e9, per_look, RuledOut(2.0, 0.0, 0.05))
    assert least <= looks.mean() <= 1.2 * least


def test_a_measured_past_tells_its_own_bursts_and_blocks() -> None:
    bursts, spells = (
        SimulatedService(world, np.random.default_rng(4)).history(300)
        for world in (
            Scenario(requests=200.0, errors=0.01, burst=16),
            Scenario(requests=200.0, errors=0.01, bad=0.05, spell=6),
        )
    )
    policy = a_policy(analysis={"interval": "10s"})
    of_bursts = troubles_of(policy, measured({"v1": bursts}, "v1", "measured"))
    assert of_bursts.burst == pytest.approx(16, rel=0.25)
    assert of_bursts.block == 1
    assert troubles_of(policy, measured({"v1": spells}, "v1", "measured")).block > 6
    assert troubles_of(policy, replace(USUAL, burst=7)) == Troubles(7, 1)
