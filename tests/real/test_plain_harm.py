"""What is too plain to wait for, on real parts with scrapes of 5 s: users are back within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.real.daemon import Canaryd, settings
from tests.real.test_releases import HEALTHY, a_policy, ends_as, rollout_of
from tests.real.world import World

RATE = 50.0  # requests/s through the ingress
SCRAPE = 5.0


def start(world: World, canaryd: Callable[..., Canaryd]) -> Canaryd:
    """A daemon as it is used: looks of 15 s, read in parts of a scrape."""
    prometheus = {"url": world.prometheus, "scrapeInterval": f"{SCRAPE:g}s"}
    policy = a_policy(
        stages=[{"weight": weight, "minimum": "2m", "deadline": "15m"} for weight in (10, 25, 50, 100)],
        analysis={"interval": "15s", "metrics": [{"errors": {}}, {"latency": {}}]},
    )
    daemon = canaryd(config=settings(world, prometheus=prometheus), policies={"front-end": policy}).start()
    daemon.wait_for("service.first_seen")
    return daemon


def failures(world: World) -> int:
    """Of v2, since the world began."""
    return sum(one["failures"] for one in world.tally().values() if one["version"] == "v2")


def taken_back(world: World, daemon: Canaryd, seconds: float) -> tuple[float, dict[str, Any]]:
    """Seconds from the first weight to the decision, and what `explain` says."""
    ends_as(world, daemon, "v2", "RolledBack", seconds)
    rollout = rollout_of(daemon, "v2")
    at = {decision["signal"]: decision["at"] for decision in rollout["decisions"]}
    began = next(decision["at"] for decision in rollout["decisions"] if decision["weight"] == 10)
    return at["harm"] - began, rollout


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("errors", "within", "hurt"), [(1.0, 60.0, 300), (0.5, 150.0, 450)], ids=["everything", "half"]
)
def test_a_version_that_is_down_is_taken_back_within_two_scrapes_and_the_lag(
    world: World, canaryd: Callable[..., Canaryd], errors: float, within: float, hurt: int
) -> None:
    """A stable of a minute; users hurt are those who got an answer of v2 that failed. On two idle cores it
    takes 17 s and 77 users, and half of the requests 52 s and 144; by chance and on a busy machine three
    times as long. Without this rule it takes minutes."""
    world.behaviour("v1", **HEALTHY)
    world.behaviour("v2", **{**HEALTHY, "errors": errors})
    daemon = start(world, canaryd)
    before = failures(world)
    with world.load(RATE):
        time.sleep(60)
        world.deploy("v2", replicas=3)
        took, rollout = taken_back(world, daemon, 400)
    failed = failures(world) - before
    print(f"errors {errors:.0%}: back after {took:.0f} s, {failed} failed: {rollout['reason']}")
    assert "too plain to wait for odds, rolled back" in rollout["reason"]
    assert "replicas of the new version failed" in rollout["reason"]
    assert took <= within
    assert failed <= hurt
    assert world.weights() == {"v1": 100}
