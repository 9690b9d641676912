"""Matched users on real parts: half of them kept on stable as a fair control, and all kinds of stages by the
Gateway API.

istiod translates what canaryd adds, Envoy follows it and counts by the Service that it called, and the
answers say which version served.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.real.daemon import Canaryd
from tests.real.gateway_api import HOST, answered_by, move, route, services
from tests.real.test_httproute import leading_to
from tests.real.test_releases import ANALYSIS, HEALTHY, RATE, ends_as, start
from tests.real.test_routes_of_the_use_case import approve, served, waits_in
from tests.real.world import World, eventually

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
LOGGED_IN = "cookie: theme=dark; logged_in=1"
WAITS = {"approval": "required", "minimum": "3s", "deadline": "60s"}
LAST = {"weight": 100, "minimum": "3s", "deadline": "12s"}
SPLIT = [{"match": COOKIE, "split": "half", **WAITS}, LAST]
# so that seconds are enough to rule it out
LENIENT = {"errors": {"unacceptableRatio": "900%", "unacceptableIncrease": "20%"}}
BY_CALLERS = {**ANALYSIS, "reporter": "source", "metrics": [LENIENT]}


def well(world: World) -> None:
    for version in ("v1", "v2"):
        world.behaviour(version, latency_ms=HEALTHY["latency_ms"])


def share_of(world: World, ask: Callable[[], str], times: int = 200) -> float:
    return sum(ask() == "v2" for _ in range(times)) / times


def verdict(world: World) -> dict[str, Any]:
    return dict(world.get("canaryrollouts")["items"][-1]["status"]["verdict"])


def are_alike(world: World) -> None:
    """The verdict holds the matched on stable against the matched on the canary, and nobody else."""
    (errors,) = [finding for finding in verdict(world)["findings"] if finding["metric"] == "errors"]
    stable, canary = errors["stableRequests"], errors["canaryRequests"]
    assert stable + canary >= 50
    assert stable / (stable + canary) == pytest.approx(0.5, abs=0.15), "each drawn by lot"
    assert verdict(world)["answer"] == "pass"


def test_half_of_the_logged_in_users_stay_on_stable_and_are_what_the_others_are_held_against(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    well(world)
    before = dict(world.get("virtualservice", "sockshop")["spec"])
    daemon = start(world, canaryd, stages=SPLIT, analysis=BY_CALLERS)
    with world.load(RATE, header=LOGGED_IN, share=0.3) as requests:
        world.deploy("v2")
        waits_in(world, daemon, 0)
        assert share_of(world, lambda: world.version_for(cookie="logged_in=1")) == pytest.approx(
            0.5, abs=0.15
        )
        assert {world.version_for() for _ in range(20)} == {"v1"}, "nobody else"
        are_alike(world)
        (own,) = [
            cluster
            for cluster in clusters(world)
            if cluster["name"].startswith("outbound|80|v2|front-end-canaryd-match.")
        ]
        assert (
            own["metadata"]["filter_metadata"]["istio"]["services"][0]["name"] == "front-end-canaryd-match"
        ), "what Istio's metrics name"
        approve(daemon)
        ends_as(world, daemon, "v2", "Succeeded")
    by_hand = deepcopy(before)
    by_hand["http"][0]["route"][0]["destination"]["subset"] = "v2"
    assert world.get("virtualservice", "sockshop")["spec"] == by_hand
    assert requests.result["unanswered"] == 0
    assert set(requests.result["status"]) == {"200"}, "an Envoy had no way"


def clusters(world: World) -> list[dict[str, Any]]:
    """As the gateway's Envoy has them from istiod."""
    with urllib.request.urlopen(
        f"{world.mesh.facts['ingress_admin']}/config_dump?resource=dynamic_active_clusters", timeout=5
    ) as answer:
        return [config["cluster"] for config in json.load(answer)["configs"]]


def test_half_of_them_by_the_gateway_api(world: World, canaryd: Callable[..., Canaryd]) -> None:
    well(world)
    move(world)
    began = route(world)
    daemon = start(world, canaryd, route={"httpRoute": "sockshop"}, stages=SPLIT, analysis=BY_CALLERS)
    with world.load(RATE, host=HOST, url=world.sidecar, header=LOGGED_IN, share=0.3) as requests:
        world.deploy("v2")
        waits_in(world, daemon, 0)
        assert share_of(world, lambda: answered_by(world, cookie="logged_in=1")) == pytest.approx(
            0.5, abs=0.15
        )
        assert {answered_by(world) for _ in range(20)} == {"v1"}
        are_alike(world)
        approve(daemon)
        ends_as(world, daemon, "v2", "Succeeded")
        eventually(
            "nothing is left", lambda: services(world) == {"front-end", "front-end-v1", "front-end-v2"}
        )
    assert route(world) == leading_to(began, "v2")
    assert set(requests.result["status"]) == {"200"}, "an Envoy had no way"


TEAM = {"headers": {"x-team": {"prefix": "a.b"}}, "queryParams": {"beta": {"exact": "yes"}}}
STAGES = [{"match": [COOKIE, TEAM], **WAITS}, {"mirror": "50%", **WAITS, "deadline": "8s"}, LAST]
ROUTE = {"httpRoute": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}
WHO: dict[str, dict[str, str]] = {
    "nobody in particular": {},
    "preview": {"x_canary": "always"},
    "logged in": {"cookie": "theme=dark; logged_in=1"},
    "on a team": {"x_team": "a.b-berlin", "path": "/?beta=yes"},
    "half on it": {"x_team": "a.b-berlin"},
    "not quoted": {"x_team": "aXb", "path": "/?beta=yes"},
}


def test_every_kind_of_stage_by_the_gateway_api_sends_whom_it_should(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    well(world)
    move(world)
    began = route(world)

    def to_v2() -> set[str]:
        return {who for who, how in WHO.items() if {answered_by(world, **how) for _ in range(4)} == {"v2"}}

    daemon = start(world, canaryd, route=ROUTE, stages=STAGES, analysis={**ANALYSIS, "metrics": [LENIENT]})
    with world.load(RATE, host=HOST, url=world.sidecar, header=LOGGED_IN, share=0.3) as requests:
        world.deploy("v2")
        waits_in(world, daemon, 0)
        assert to_v2() == {"preview", "logged in", "on a team"}
        approve(daemon)
        eventually(
            "copies come",
            lambda: len(route(world)["rules"]) == 3 and "mirror" in route(world)["rules"][1]["name"],
        )
        waits_in(world, daemon, 1)
        assert to_v2() == {"preview"}
        first = served(world)
        eventually("300 requests", lambda: served(world)["v1"] - first["v1"] >= 300, 30)
        then = served(world)
        assert (then["v2"] - first["v2"]) / (then["v1"] - first["v1"]) == pytest.approx(0.5, abs=0.12), (
            "v2 served the copies"
        )
        approve(daemon)
        ends_as(world, daemon, "v2", "Succeeded")
    assert route(world) == leading_to(began, "v2")
    assert set(requests.result["status"]) == {"200"}, "an Envoy had no way"
