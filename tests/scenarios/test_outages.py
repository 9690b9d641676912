"""API server and Prometheus away, slow, unwilling or only half there: the weight holds, nothing advances, and
it goes on after."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.real.daemon import ENDS_WITHIN
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-outages"), pytest.mark.timeout(480)]
HELD_AFTER = "5s"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    policy = a_policy(
        (20, 100),
        analysis={"noDataFor": HELD_AFTER},
        hooks=[{"on": ["held", "resumed", "succeeded"], "notify": "audit"}],
    )
    with a_stand(tmp_path_factory.mktemp("outages"), policy) as stand:
        yield stand


def test_it_starts_without_api_server_and_prometheus_and_waits_for_each_saying_so(stand: Stand) -> None:
    world = stand.world
    world.kubernetes.faults.down = world.prometheus.faults.down = True
    stand.canaryd.start()
    eventually(
        "both are missed",
        lambda: "API server: " in stand.page("/readyz")[1] and "Prometheus: " in stand.page("/readyz")[1],
    )
    # before that they are "not good yet"
    eventually("and tried", lambda: "cannot be reached" in stand.page("/readyz")[1])
    assert stand.page("/readyz")[0] == 503
    assert stand.page("/livez")[0] == 200
    eventually("the log tells", lambda: stand.canaryd.logged("rollouts.unreadable"))
    world.kubernetes.faults.down = False
    eventually("the API server is back", lambda: "API server" not in stand.page("/readyz")[1])
    assert "Prometheus: " in stand.page("/readyz")[1]
    world.prometheus.faults.down = False
    eventually("ready", lambda: stand.page("/readyz") == (200, "ready\n"))
    stand.canaryd.wait_for("service.first_seen")
    assert len(stand.canaryd.logged("rollouts.unreadable")) == 1, "told once, not at every beat"
    eventually(
        "Prometheus' absence and return are in the log", lambda: stand.canaryd.logged("prometheus.available")
    )
    assert len(stand.canaryd.logged("prometheus.unavailable")) == 1


def test_nothing_advances_while_prometheus_is_away_slow_unwilling_or_half_there(stand: Stand) -> None:
    faults = stand.world.prometheus.faults
    stand.deploy("v2")
    stand.until("v2", "the first stage", weight=20)
    # Without a moment between them, or the stage might pass: its minimum is 3 s.
    faults.down = True
    stand.until("v2", "held for want of data", held="no data")
    for kind in ("partial", "slow", "500"):
        failures = stand.failures()
        faults.partial, faults.seconds = kind == "partial", 3.0 if kind == "slow" else 0.0
        if kind == "500":
            faults.status(500, 1000)
        faults.down = False
        eventually(f"two looks in vain ({kind})", lambda before=failures: stand.failures() >= before + 2)
        assert (stand.status("v2")["phase"], stand.status("v2")["weight"], stand.weight("v2")) == (
            "Held",
            20,
            20.0,
        )
        faults.down = True
    assert stand.page("/livez")[0] == 200
    faults.clear()
    stand.until("v2", "promoted after it", phase="Succeeded")
    assert stand.default_route() == all_to("v2")
    eventually("told", lambda: all(stand.told(event, "v2") for event in ("held", "resumed", "succeeded")))
    assert [len(stand.told(event, "v2")) for event in ("held", "resumed")] == [1, 1]


def test_it_goes_on_after_an_api_server_that_hangs_conflicts_and_fails(stand: Stand) -> None:
    faults = stand.world.kubernetes.faults
    stand.deploy("v3")
    eventually("v3 is served", lambda: stand.weight("v3") == 20)  # the record says so before the route does
    faults.hang = True
    eventually("it is missed", lambda: "API server: " in stand.page("/readyz")[1])
    assert stand.page("/livez")[0] == 200
    assert stand.weight("v3") == 20
    faults.hang = False
    faults.conflict_next(4)
    faults.status(500, 6)
    faults.status(503, 4, lambda method, path: method in ("PUT", "PATCH"))
    stand.until("v3", "promoted after it", phase="Succeeded")
    assert stand.default_route() == all_to("v3")
    assert not stand.canaryd.logged("beat.broken")


@pytest.mark.parametrize("server", ["prometheus", "kubernetes"])
def test_sigterm_ends_it_in_time_while_a_server_hangs(stand: Stand, server: str) -> None:
    version = {"prometheus": "v4", "kubernetes": "v5"}[server]
    stand.deploy(version)
    stand.until(version, "the first stage", weight=20)
    faults = getattr(stand.world, server).faults
    faults.hang = True
    beats = stand.metric("canaryd_beats_total")
    time.sleep(1.2)  # there is nothing to see of a beat that hangs; one begins each second
    took = stand.canaryd.term()
    assert took < ENDS_WITHIN, f"{took:.1f} s with {server} hanging, after {beats:.0f} beats"
    faults.clear()
    stand.canaryd.start()
    stand.until(version, "promoted by the next process", phase="Succeeded")
    assert len([record for record in stand.records() if record["status"]["canary"] == version]) == 1
