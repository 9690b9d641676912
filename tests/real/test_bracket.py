"""Two services behind one VirtualService on real parts: one rollout takes both up, and the harm of one takes
both back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.real.daemon import Canaryd
from tests.real.test_releases import BY_ERRORS, HEALTHY, RATE, ends_as, rollout_of, start
from tests.real.world import World, eventually, front_end

HOST = "carts.production.svc.cluster.local"
STAGES = [{"weight": weight, "minimum": "3s", "deadline": "9s"} for weight in (20, 100)]


def carts(version: str) -> dict[str, Any]:
    """As front-end's, of another name."""
    return dict(json.loads(json.dumps(front_end(version)).replace('"front-end', '"carts')))


def spec_at(began: dict[str, Any], version: str) -> dict[str, Any]:
    """As a person would have written it: each route with one destination, of this version."""
    return dict(json.loads(json.dumps(began).replace('"subset": "v1"', f'"subset": "{version}"')))


@pytest.fixture
def shop(world: World) -> Iterator[World]:
    """The use case with carts behind /carts of the same VirtualService."""
    route = world.get("virtualservice", "sockshop")
    of_carts = {
        "name": "carts",
        "match": [{"uri": {"prefix": "/carts"}}],
        "timeout": "3s",
        "route": [{"destination": {"host": HOST, "subset": "v1"}}],
    }
    route["spec"]["http"] = [of_carts, *route["spec"]["http"]]
    service, rule = world.get("service", "front-end"), world.get("destinationrule", "front-end")
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "carts"},
            "spec": {"selector": {"app": "carts"}, "ports": [dict(service["spec"]["ports"][0])]},
        }
    )
    world.apply(
        {
            "apiVersion": rule["apiVersion"],
            "kind": rule["kind"],
            "metadata": {"name": "carts"},
            "spec": {**rule["spec"], "host": HOST},
        }
    )
    world.apply(carts("v1"))
    world.apply(route)
    eventually("carts serves", lambda: len(world.serving().get("v1", [])) == 2)
    yield world
    world.kubectl("delete", "service", "carts")


def writes(daemon: Canaryd, rollout: str) -> list[tuple[str, int]]:
    return [
        (line["service"], line["weight"])
        for line in daemon.logged("route.written")
        if line["rollout"] == rollout
    ]


@pytest.mark.timeout(600)
def test_versions_of_two_services_are_one_rollout_and_the_harm_of_one_takes_both_back(
    shop: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2", "v3"):
        shop.behaviour(version, **HEALTHY)
    shop.behaviour("carts/v3", **{**HEALTHY, "errors": 0.3})
    began = shop.get("virtualservice", "sockshop")["spec"]
    member = {
        "service": {"name": "carts", "namespace": "production", "selector": {"app": "carts"}},
        "route": {"virtualService": "sockshop", "http": ["carts"]},
    }
    daemon = start(
        shop, canaryd, stages=STAGES, analysis=BY_ERRORS, bracket={"gather": "30s", "members": [member]}
    )
    eventually("both are known", lambda: len(daemon.logged("service.first_seen")) == 2)
    with shop.load(RATE) as of_front_end, shop.load(RATE, url=f"{shop.ingress}/carts") as of_carts:
        shop.deploy("v2")
        shop.apply(carts("v2"))
        ends_as(shop, daemon, "v2", "Succeeded")
        assert shop.get("virtualservice", "sockshop")["spec"] == spec_at(began, "v2")
        done = rollout_of(daemon, "v2")
        assert writes(daemon, done["name"]) == [
            (name, weight) for weight in (20, 100, 100) for name in ("carts", "front-end")
        ]
        # A busy machine may make a stage of seconds undecided at its deadline, which is held and goes on.
        told = [announcement["event"] for announcement in done["announcements"]]
        assert [event for event in told if event not in ("held", "resumed")] == [
            "started",
            "advanced",
            "advanced",
            "succeeded",
        ]
        counted = {
            pod: one["requests"] for part in (done, *done["others"]) for pod, one in part["counted"].items()
        }
        assert {pod.partition("-v")[0] for pod, requests in counted.items() if requests} == {
            "front-end",
            "carts",
        }

        shop.deploy("v3")
        shop.apply(carts("v3"))
        ends_as(shop, daemon, "v3", "RolledBack")
        assert shop.get("virtualservice", "sockshop")["spec"] == spec_at(began, "v2")
        bad = rollout_of(daemon, "v3")
        assert bad["reason"].startswith("carts: errors"), bad["reason"]
        assert writes(daemon, bad["name"])[-2:] == [("front-end", 0), ("carts", 0)]
    for requests in (of_front_end, of_carts):
        assert requests.result["unanswered"] == 0
        assert "none" not in requests.result["version"], "an Envoy answered in a version's place"
    assert not daemon.logged("beat.broken")
