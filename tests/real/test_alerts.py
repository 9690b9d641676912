"""Prometheus' own alerts, evaluated by a real Prometheus: in a rollout, and after a promotion."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.real.daemon import Canaryd
from tests.real.test_releases import (
    ANALYSIS,
    HEALTHY,
    RATE,
    ends_as,
    had_again,
    heard,
    name_of,
    rollout_of,
    start,
)
from tests.real.world import World, eventually

PAGES = {"severity": "page", "namespace": "production"}


def slow(version: str) -> dict[str, object]:
    """Fires when the version's requests take long in the mean: harm that a policy without latency does not
    compare."""
    own = f'{{reporter="destination", destination_version="{version}"}}'
    mean = (
        f"sum(rate(istio_request_duration_milliseconds_sum{own}[5s])) "
        f"/ sum(rate(istio_request_duration_milliseconds_count{own}[5s]))"
    )
    return {"alert": "HighLatency", "expr": f"{mean} > 150", "for": "1s", "labels": PAGES}


# Fires all the time, also before the rollout.
OLD = {"alert": "DiskNearlyFull", "expr": "vector(1)", "labels": PAGES}
# Fires all the time, of another team's namespace.
ELSEWHERE = {"alert": "HighLatency", "expr": "vector(1)", "labels": {**PAGES, "namespace": "staging"}}


def by_alerts(**keys: object) -> dict[str, object]:
    return {**ANALYSIS, "metrics": [{"errors": {}}], "alerts": {"matching": 'severity="page"', **keys}}


@pytest.mark.timeout(900)
def test_an_alert_that_begins_to_fire_takes_the_version_back_and_an_old_one_does_not(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    world.behaviour("v1", **HEALTHY)
    world.behaviour("v2", **{**HEALTHY, "latency_ms": 400})
    with world.alerting(OLD, ELSEWHERE, slow("v2")), world.load(RATE):
        eventually("the old alert fires", lambda: world.query('ALERTS{alertname="DiskNearlyFull"}'))
        time.sleep(5)
        daemon = start(world, canaryd, analysis=by_alerts())
        said = daemon.cli("check", "front-end", *daemon.arguments, check=False)
        assert "alert DiskNearlyFull (namespace=production, severity=page) fires now" in said
        world.deploy("v2")
        ends_as(world, daemon, "v2", "RolledBack")
        rollout = rollout_of(daemon, "v2")
        print(rollout["reason"])
        assert rollout["reason"].startswith("alert HighLatency (severity=page) fires since ")
        assert " s after weight 10%; it did not fire in the " in rollout["reason"]
        assert rollout["reason"].endswith("before: rolled back")
        assert "alert DiskNearlyFull (severity=page) fired already when the rollout began" in json.dumps(
            rollout
        )
        assert "staging" not in json.dumps(rollout["reason"])
        assert world.weights() == {"v1": 100}
        had_again(daemon, "v2")


@pytest.mark.timeout(900)
def test_an_alert_after_a_promotion_is_announced_and_nothing_is_sent_back(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2"):
        world.behaviour(version, **HEALTHY)
    hooks = [{"on": ["succeeded", "alert_after_promotion"], "notify": "audit"}]
    with world.alerting(slow("v2")), world.load(RATE):
        time.sleep(5)
        daemon = start(
            world, canaryd, analysis=by_alerts(onFiring="hold", watchAfterPromotion="5m"), hooks=hooks
        )
        world.deploy("v2")
        ends_as(world, daemon, "v2", "Succeeded")
        world.behaviour("v2", **{**HEALTHY, "latency_ms": 400})
        (event,) = eventually("it is announced", lambda: heard(world, "alert_after_promotion"), 60)
        print(event["data"]["reason"])
        assert event["data"]["reason"].startswith("alert HighLatency (severity=page) fires since ")
        assert "the rollout is over and nothing was sent back" in event["data"]["reason"]
        assert "after the promotion" in rollout_of(daemon, "v2")["reason"]
        notes = [
            found["note"]
            for found in world.get("events.events.k8s.io")["items"]
            if found["reason"] == "AlertAfterPromotion"
        ]
        assert notes
        assert world.weights() == {"v2": 100}
        assert name_of(daemon, "v2")
