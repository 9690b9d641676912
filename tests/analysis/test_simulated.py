"""Simulated services are what they are said to be, and the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from canaryd.analysis.simulated import Service, World, services
from canaryd.domain.counts import total

BOUNDS = (10.0, 50.0, 100.0, 500.0)


def a_service(seed: int = 3, **changes: object) -> Service:
    return Service(World(**changes), np.random.default_rng(seed))  # type: ignore[arg-type]


def test_the_same_seed_is_the_same_service() -> None:
    one, other = (next(services(World(burst=4, hanging=0.2), 1, 5)) for _ in range(2))
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
    world = World(bounds=(25.0, 50.0, 100.0), slower=(0.9, 0.4, 0.05), mean=60.0)
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
