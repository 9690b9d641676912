"""Users with cookie jars on real parts: istiod translates what canaryd adds, Envoy draws and sets cookies,
answers say who served."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.real.daemon import Canaryd
from tests.real.test_releases import BY_ERRORS, HEALTHY, RATE, ends_as, start
from tests.real.test_routes_of_the_use_case import approve, waits_in
from tests.real.world import World, eventually

WAITS = {"minimum": "3s", "deadline": "4s", "approval": "required"}
STAGES = [
    {"weight": 20, **WAITS},
    {"weight": 60, **WAITS},
    {"weight": 100, "minimum": "3s", "deadline": "4s"},
]
ROUTE = {"virtualService": "sockshop", "affinity": {"users": 200}}


COUNT = 150


class Users:
    """Browsers that ask one after another, round and round. seen: of each, the versions that answered, each
    once until it changes."""

    def __init__(self, world: World, count: int = COUNT) -> None:
        self._address = urlsplit(world.ingress)
        self._jars: list[dict[str, str]] = [{"theme": "dark"} for _ in range(count)]
        self.seen: list[list[str]] = [[] for _ in range(count)]
        self.rounds = 0
        self.given = 0  # cookies set by canaryd's routes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._browse, daemon=True)

    def __enter__(self) -> Users:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _browse(self) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=5)
        while not self._over.is_set():
            for jar, seen in zip(self._jars, self.seen, strict=True):
                connection.request(
                    "GET",
                    "/",
                    headers={"cookie": "; ".join(f"{name}={value}" for name, value in jar.items())},
                )
                answer = connection.getresponse()
                body = answer.read().decode()
                for cookie in answer.headers.get_all("set-cookie") or []:
                    name, _, value = cookie.partition(";")[0].partition("=")
                    jar[name] = value
                    self.given += "canaryd." in value
                # then Envoy says why
                version = answer.headers["x-version"] or f"nobody: {answer.status} {body}"
                if seen[-1:] != [version]:
                    seen.append(version)
            self.rounds += 1

    def settle(self) -> None:
        """Until each has asked again."""
        first = self.rounds
        eventually("everyone has asked again", lambda: self.rounds >= first + 2)

    def on(self, version: str) -> set[int]:
        return {user for user, seen in enumerate(self.seen) if seen[-1:] == [version]}


def spec(world: World) -> dict[str, Any]:
    return dict(world.get("virtualservice", "sockshop")["spec"])


def share(world: World, version: str, requests: int = 150) -> float:
    """Of requests without cookies."""
    return [world.version_for() for _ in range(requests)].count(version) / requests


@pytest.mark.timeout(300)
def test_a_user_who_saw_the_new_version_stays_on_it_until_the_end(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2", "v3"):
        world.behaviour(version, **{**HEALTHY, "latency_ms": 1})  # so many users ask one after another
    before = spec(world)
    daemon = start(world, canaryd, stages=STAGES, route=ROUTE, analysis=BY_ERRORS)
    with world.load(RATE), Users(world) as users:
        eventually("everyone has asked", lambda: users.rounds)
        world.deploy("v2")
        waits_in(world, daemon, 0)
        users.settle()
        first = users.on("v2")
        assert len(first) / COUNT == pytest.approx(0.2, abs=0.13)
        assert share(world, "v2") == pytest.approx(0.2, abs=0.13), "who keeps no cookie is drawn each time"
        approve(daemon)
        waits_in(world, daemon, 1)
        users.settle()
        assert len(users.on("v2")) / COUNT == pytest.approx(0.6, abs=0.15)
        assert first <= users.on("v2")
        assert share(world, "v2") == pytest.approx(0.6, abs=0.15)
        approve(daemon)
        ends_as(world, daemon, "v2", "Succeeded")
        eventually("everyone is on v2", lambda: len(users.on("v2")) == COUNT)
        assert {tuple(seen) for seen in users.seen} == {("v1", "v2")}, (
            "all began on v1, changed once, and none went back"
        )
        assert users.given == COUNT, "each was drawn once"
        by_hand = deepcopy(before)
        by_hand["http"][0]["route"][0]["destination"]["subset"] = "v2"
        assert spec(world) == by_hand

        world.deploy("v3")
        waits_in(world, daemon, 0)
        users.settle()
        assert len(users.on("v3")) / COUNT == pytest.approx(0.2, abs=0.13)
        assert users.given == 2 * COUNT, "no cookie of another rollout counts"
        daemon.cli("abort", "front-end", "--namespace", "production")
        ends_as(world, daemon, "v3", "RolledBack")
        eventually("everyone is back", lambda: not users.on("v3"))
        users.settle()
        assert users.given == 2 * COUNT
    assert spec(world) == by_hand
