"""A service's traffic, as given and as measured, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from canaryd.domain.counts import HISTORY_LOOKS, Look
from canaryd.simulation.simulated_service import Scenario, SimulatedService
from canaryd.simulation.traffic_profile import (
    USUAL,
    Given,
    as_given,
    busiest,
    changed,
    measured,
    troubles,
    workload_of,
)


def past(looks: int = 240, seed: int = 3, **changes: object) -> list[Look]:
    return SimulatedService(Scenario(**changes), np.random.default_rng(seed)).history(looks)  # type: ignore[arg-type]


def counted(**changes: object) -> tuple[np.ndarray, np.ndarray]:
    """Failures and requests of stable, look by look."""
    looks = past(700, **changes)
    each = [
        [sum(getattr(counts, name) for counts in look.stable.values()) for look in looks]
        for name in ("failures", "requests")
    ]
    return np.array(each[0], dtype=float), np.array(each[1], dtype=float)


def test_what_is_not_said_is_assumed_and_told_as_assumed() -> None:
    assert as_given(Given()).source == "assumed"
    assert as_given(Given(rate=2.0)).source == "as given, the rest assumed"
    assert as_given(USUAL).source == "as given"
    assert as_given(Given(rate=2.0)).errors == USUAL.errors


def test_no_errors_at_all_may_be_said() -> None:
    assert as_given(Given(errors=0.0)).errors == 0.0


def test_the_tail_is_as_wide_as_p99_says() -> None:
    """A lognormal with 99% within 1 s has 1% slower than 1 s."""
    traffic = as_given(Given(median_ms=100.0, p99_ms=1000.0))
    world = traffic.world(10)
    assert world.share_slower(1.0)[world.bounds.index(1000)] == pytest.approx(0.01)
    assert world.share_slower(1.0)[world.bounds.index(100)] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Given(rate=0.0), "rate must be above 0 and at most 10,000,000 requests/s, but is 0"),
        (Given(rate=1e9), "at most 10,000,000"),
        (Given(errors=1.0), "below 100%, but is 100%"),
        (Given(median_ms=0.0), "median latency must be above 0 ms, but is 0 ms"),
        (Given(p99_ms=50.0), "above the median (60 ms), but is 50 ms"),
        (Given(replicas=0), "1 to 1000 replicas, but has 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: Given, said: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        as_given(given)
    assert said in str(refused.value)


def test_measured_traffic_is_the_services_own() -> None:
    looks = past(400, requests=80.0, errors=0.02, median=90.0, replicas=4)
    traffic = measured({"front-end-v1": looks}, "front-end-v1", "measured")
    assert traffic.rate == pytest.approx(80.0, rel=0.01)
    assert traffic.errors == pytest.approx(0.02, rel=0.05)
    assert traffic.median_ms == pytest.approx(90.0, rel=0.05)
    assert traffic.replicas == 4
    assert (traffic.burst, traffic.bad) == (1, 0.0)
    assert list(traffic.history) == looks[-HISTORY_LOOKS:]
    world = traffic.world(10)
    assert world.share_slower(1.0)[world.bounds.index(100)] == pytest.approx(
        Scenario(median=90.0).share_slower(1.0)[6], abs=0.01
    )


def test_the_rate_is_that_of_all_versions_and_the_errors_are_stables() -> None:
    looks = {"a-v1": past(requests=30.0, errors=0.01), "a-v2": past(requests=10.0, errors=0.5)}
    traffic = measured(looks, busiest(looks), "measured")
    assert traffic.rate == pytest.approx(40.0, rel=0.02)
    assert traffic.errors == pytest.approx(0.01, rel=0.1)


def test_too_little_of_a_past_is_refused() -> None:
    with pytest.raises(
        ValueError, match="at least 20 looks with data of v1 are needed, but there are 19 of 19"
    ):
        measured({"v1": past(19)}, "v1", "measured")
    empty = [replace(look, stable={}) for look in past(30)]
    with pytest.raises(ValueError, match="v1 has served no request"):
        measured({"v1": empty}, "v1", "measured")


def test_without_a_histogram_there_is_none() -> None:
    traffic = measured({"v1": past(bounds=())}, "v1", "measured")
    assert (traffic.bounds, traffic.slower) == ((), ())


def test_what_is_given_replaces_what_was_measured_and_its_past() -> None:
    traffic = measured({"v1": past()}, "v1", "measured on v1")
    assert changed(traffic, Given()) is traffic
    other = changed(traffic, Given(errors=0.03))
    assert (other.errors, other.rate, other.history) == (0.03, traffic.rate, ())
    assert other.slower == traffic.slower
    assert other.source == "measured on v1, but for what is given"
    assert changed(traffic, Given(median_ms=200.0)).slower == ()


def test_independent_failures_are_neither_bursts_nor_spells() -> None:
    assert troubles(*counted(errors=0.02)) == (1, 0.0, 1)


@pytest.mark.parametrize("burst", [4, 16])
def test_bursts_are_found(burst: int) -> None:
    found, bad, spell = troubles(*counted(errors=0.02, burst=burst))
    assert found == pytest.approx(burst, rel=0.25)
    assert (bad, spell) == (0.0, 1)


def test_bad_spells_are_found() -> None:
    """Ten times the failures in 5% of looks, six at a time."""
    found, bad, spell = troubles(*counted(errors=0.01, bad=0.05, spell=6, requests=200.0))
    assert bad == pytest.approx(0.05, rel=0.5)
    assert 4 <= spell <= 9
    assert found <= 4


def test_a_service_without_failures_has_no_troubles() -> None:
    assert troubles(*counted(errors=0.0)) == (1, 0.0, 1)


def test_a_simulated_spell_keeps_the_mean_that_was_measured() -> None:
    looks = past(800, errors=0.01, bad=0.05, spell=6, requests=200.0)
    traffic = measured({"v1": looks}, "v1", "measured")
    again = SimulatedService(traffic.world(10), np.random.default_rng(8)).history(800)
    rates = [
        sum(c.failures for look in some for c in look.stable.values())
        / sum(c.requests for look in some for c in look.stable.values())
        for some in (looks, again)
    ]
    assert rates[1] == pytest.approx(rates[0], rel=0.25)


@pytest.mark.parametrize(("wanted", "found"), [("front-end-v1", "front-end-v1"), ("v2", "front-end-v2")])
def test_a_workload_is_found_by_its_name_or_how_it_ends(wanted: str, found: str) -> None:
    assert workload_of(["front-end-v1", "front-end-v2"], wanted) == found


@pytest.mark.parametrize(
    ("wanted", "said"), [("v3", r"none is there \(there: a-v1, b-v1\)"), ("v1", "several are")]
)
def test_a_workload_that_is_not_the_only_one_is_refused(wanted: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        workload_of(["a-v1", "b-v1"], wanted)
