"""Simulated services are what they are said to be, and the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from canaryd.domain.counts import total
from canaryd.simulation.simulated_service import Scenario, SimulatedService, services

BOUNDS = (10.0, 50.0, 100.0, 500.0)


def a_service(seed: int = 3, **changes: object) -> SimulatedService:
    return SimulatedService(Scenario(**changes), np.random.default_rng(seed))  # type: ignore[arg-type]


def test_the_same_seed_is_the_same_service() -> None:
    one, other = (next(services(Scenario(burst=4, hanging=0.2), 1, 5)) for _ in range(2))
    assert [one.look(10) for _ in range(5)] == [other.look(10) for _ in range(5)]


def test_another_canary_meets_the_same_chance_and_leaves_the_service_as_it_was() -> None:
    service, untouched = a_service(bad=0.3, spell=3), a_service(bad=0.3, spell=3)
    service.history(20)
    untouched.history(20)
    worse = service.with_canary(replace(service.world, canary_errors=20.0))
    found = [worse.look(10) for _ in range(10)]
    usual = [service.look(10) for _ in range(10)]
    assert usual == [untouched.look(10) for _ in range(10)]
    assert found[0].stable == usual[0].stable
    failures = [sum(total(look.canary.values()).failures for look in looks) for looks in (found, usual)]
    assert failures[0] > 5 * failures[1]


def test_a_look_may_be_of_another_length() -> None:
    service = a_service(requests=1000.0)
    look = service.look(50, seconds=100)
    assert look.seconds == 100 == service.now - look.start
    served = total(look.stable.values()).requests + total(look.canary.values()).requests
    assert served == pytest.approx(100_000, rel=0.02)  # six standard deviations of a Poisson count


def test_a_known_histogram_is_drawn_from_as_it_is() -> None:
    slower = (0.9, 0.4, 0.05, 0.001)
    service = a_service(requests=100_000.0, bounds=BOUNDS, slower=slower, mean=60.0)
    counts = total(service.look(0).stable.values())
    assert np.array(counts.slower()) / counts.timed == pytest.approx(slower, abs=0.003)
    assert counts.duration_ms / counts.timed == pytest.approx(60.0, rel=0.01)


def test_a_slower_canary_has_the_known_histogram_stretched() -> None:
    """Twice as slow: as many are slower than 100 ms as are slower than 50 ms of stable's."""
    world = Scenario(bounds=(25.0, 50.0, 100.0), slower=(0.9, 0.4, 0.05), mean=60.0)
    assert world.share_slower(2.0)[2] == pytest.approx(0.4)
    assert list(world.share_slower(1.0)) == [0.9, 0.4, 0.05]


def test_more_errors_come_on_top_of_stables() -> None:
    service = a_service(requests=100_000.0, errors=0.0, more_errors=0.01)
    look = service.look(50)
    assert total(look.stable.values()).failures == 0
    canary = total(look.canary.values())
    assert canary.failures / canary.requests == pytest.approx(0.01, rel=0.05)


def test_a_service_without_a_histogram_has_looks_without_one() -> None:
    look = a_service(bounds=()).look(10)
    assert look.bounds == ()
    assert all(counts.within == () for counts in look.stable.values())


def shares(looks: list, side: str) -> np.ndarray:
    """Each look's share of failures, of one version."""
    each = [total(getattr(look, side).values()) for look in looks]
    return np.array([one.failures / one.requests for one in each])


TROUBLES = [
    {},
    {"burst": 16},
    {"retries": 4.0, "spell": 4},
    {"swing": 0.8},
    {"jitter": 0.5},
    {"noise": 0.1, "replicas": 20},
    {"stable_replicas": 1},
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_whatever_the_trouble_the_error_rate_is_the_promised_one(trouble: dict) -> None:
    """Over 720 looks, two whole swings: 10% is more than five standard deviations of each."""
    looks = a_service(requests=2000.0, errors=0.02, **trouble).looks(50, 720)
    for side in ("stable", "canary"):
        assert shares(looks, side).mean() == pytest.approx(0.02, rel=0.1)


def test_one_look_after_another_is_as_many_at_once() -> None:
    world = {"requests": 500.0, "errors": 0.05, "retries": 2.0, "spell": 3, "hanging": 0.1}
    many, one = a_service(**world), a_service(seed=4, **world)
    at_once, singly = many.looks(30, 400), [one.look(30) for _ in range(400)]
    assert many.now == one.now
    for side in ("stable", "canary"):
        mean = shares(at_once, side).mean()
        assert mean == pytest.approx(shares(singly, side).mean(), rel=0.2)


def test_clients_that_retry_make_failures_last_over_looks() -> None:
    alone, retried = (
        shares(a_service(errors=0.02, **more).looks(50, 600), "stable")
        for more in ({}, {"retries": 4.0, "spell": 4})
    )
    correlations = [float(np.corrcoef(one[:-1], one[1:])[0, 1]) for one in (alone, retried)]
    assert abs(correlations[0]) < 0.2  # five standard deviations
    # three of four go on, less what is drawn anew each look
    assert correlations[1] == pytest.approx(0.6, abs=0.2)


def test_replicas_differ_as_much_as_is_said_and_stay_so() -> None:
    service = a_service(requests=200_000.0, errors=0.02, noise=0.3, replicas=400)
    first, second = (
        np.array([one.failures / one.requests for one in service.look(50).canary.values()]) for _ in range(2)
    )
    assert np.std(np.log(service.canary.error_rates)) == pytest.approx(0.3, rel=0.2)
    assert np.corrcoef(first, second)[0, 1] > 0.6


def test_a_slow_node_slows_the_one_replica_on_it() -> None:
    look = a_service(requests=10_000.0, slow_node=2.0).look(50)
    means = [one.duration_ms / one.timed for one in (*look.canary.values(), *look.stable.values())]
    usual = Scenario().mean_ms
    assert means == pytest.approx([2 * usual, *[usual] * 5], rel=0.05)
    # slower than 100 ms at 60 in the median
    assert look.canary["canary-0"].slower()[6] > 2 * look.canary["canary-1"].slower()[6]


def test_a_second_mode_and_stuck_requests_are_in_the_histogram_and_in_the_mean() -> None:
    usual = Scenario().mean_ms
    twice = total(a_service(requests=20_000.0, second_mode=0.2).look(50).canary.values())
    assert twice.duration_ms / twice.timed == pytest.approx(1.2 * usual, rel=0.02)
    stuck = total(a_service(requests=20_000.0, stuck=0.03).look(50).canary.values())
    assert stuck.duration_ms / stuck.timed == pytest.approx(0.97 * usual + 0.03 * 3000, rel=0.02)
    assert stuck.slower()[10] / stuck.timed == pytest.approx(0.03, rel=0.1)


def test_the_spread_of_the_mean_is_that_of_the_latency() -> None:
    """A lognormal's standard deviation is its mean times sqrt(exp(sigma^2) - 1)."""
    counts = [total(look.stable.values()) for look in a_service(requests=100.0).history(2000)]
    off = [(count.duration_ms - count.timed * Scenario().mean_ms) / np.sqrt(count.timed) for count in counts]
    assert np.std(off) == pytest.approx(Scenario().mean_ms * np.sqrt(np.expm1(0.36)), rel=0.1)


def test_broken_replicas_fail_every_request() -> None:
    canary = a_service(broken=1).look(50).canary
    assert [one.failures == one.requests > 0 for one in canary.values()] == [True, False, False]


def test_a_fault_begins_when_it_is_said_to_also_within_a_look() -> None:
    service = a_service(requests=10_000.0, errors=0.0, more_errors=0.1, fault_begins=25.0)
    service.history(5)
    rates = shares(service.looks(50, 4), "canary")
    assert rates == pytest.approx([0, 0, 0.05, 0.1], abs=0.01)


def test_a_fault_of_high_weights_is_not_seen_below() -> None:
    service = a_service(requests=10_000.0, errors=0.0, more_errors=0.1, fault_weight=50)
    assert shares([service.look(weight) for weight in (25, 50, 25)], "canary") == pytest.approx(
        [0, 0.1, 0], abs=0.02
    )


def test_a_baseline_beside_production_has_its_own_share() -> None:
    look = a_service(requests=10_000.0).looks(10, 1, stable_weight=10)[0]
    assert [total(side.values()).requests for side in (look.stable, look.canary)] == pytest.approx(
        [10_000, 10_000], rel=0.05
    )


def _error_rates(service: SimulatedService, looks: int) -> list[float]:
    """The canary's error rate in each look."""
    counts = [total(look.canary.values()) for look in service.looks(50, looks)]
    return [one.failures / one.requests for one in counts]


def test_a_cold_start_falls_off_evenly_and_its_replicas_say_when_they_came() -> None:
    service = a_service(requests=20_000.0, errors=0.0, cold_errors=0.05, cold_seconds=100.0)
    service.history(3)
    first = service.now
    look = service.look(50)
    assert look.first_seen == dict.fromkeys(look.canary, float(first))
    rates = _error_rates(service, 11)
    assert rates[:9] == pytest.approx([0.05 * (0.85 - 0.1 * place) for place in range(9)], abs=0.002)
    assert rates[9:] == [0.0, 0.0]
    assert a_service().look(50).first_seen == {}


def test_a_canary_that_scales_out_has_as_many_replicas_again_that_share_its_traffic() -> None:
    service = a_service(requests=6000.0, is_new=True, scale_out=50.0)
    looks = service.looks(50, 10)
    assert [len(look.canary) for look in looks] == [3] * 5 + [6] * 5
    assert [total(look.canary.values()).requests for look in looks] == pytest.approx([30_000] * 10, rel=0.04)
    births = sorted(set(looks[-1].first_seen.values()))
    assert births == [looks[0].start, looks[0].start + 50.0]


def test_traffic_falls_after_so_many_seconds_of_the_canary_s() -> None:
    service = a_service(requests=5000.0, falls_to=50.0, falls_after=30.0)
    assert total(service.history(1)[0].stable.values()).requests == pytest.approx(50_000, rel=0.04)
    served = [
        total(look.stable.values()).requests + total(look.canary.values()).requests
        for look in service.looks(10, 5)
    ]
    assert served == pytest.approx([50_000] * 3 + [500] * 2, rel=0.25)
