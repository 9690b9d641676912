"""The application behind the replicas fails and dawdles as it is told. Needs no real parts."""

from __future__ import annotations

from itertools import groupby

import pytest

from tests.real.cluster.application import Application, Behaviour

REQUESTS = 200_000


@pytest.mark.parametrize("burst", [1, 4, 16])
def test_bursts_change_how_failures_cluster_and_not_how_many_there_are(burst: int) -> None:
    application, behaviour = Application(), Behaviour(errors=0.05, burst=burst)
    failed = [application.fails("v2", behaviour) for _ in range(REQUESTS)]
    spells = [len(list(run)) for bad, run in groupby(failed) if bad]
    # Standard deviation of the share: sqrt(0.05 * 0.95 * (2 * 16 - 1) / 200000) = 0.0027 at a burst of 16.
    assert sum(failed) / REQUESTS == pytest.approx(0.05, abs=0.011)
    # A spell may follow the one before at once, which lengthens it by a twentieth.
    assert sum(spells) / len(spells) == pytest.approx(burst / 0.95, rel=0.15)


def test_a_tail_slows_its_share_of_the_requests_and_no_others() -> None:
    application, behaviour = Application(), Behaviour.parse({"latency_ms": 20, "sigma": 0.1, "tail": {"share": 0.02, "ms": 400}})
    delays = [application.delay(behaviour) for _ in range(20_000)]
    slow = [delay for delay in delays if delay > 0.2]
    assert len(slow) / len(delays) == pytest.approx(0.02, abs=0.004)  # four standard deviations
    assert min(slow) > 0.4
    assert sorted(delays)[10_000] == pytest.approx(0.020, rel=0.02)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"error_rate": 0.1}, "unknown: error_rate; wanted errors, burst, latency_ms, sigma or tail"),
        ({"errors": 1.5}, "errors: wanted a share from 0 to 1, but got 1.5"),
        ({"latency_ms": "20ms"}, "latency_ms: wanted a number of at least 0, but got '20ms'"),
        ({"tail": 0.1}, "tail: wanted"),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused_by_name(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Behaviour.parse(given)
