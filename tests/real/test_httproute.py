"""An HTTPRoute on real parts: istiod programs it, the caller's Envoy follows, and the answers say which
version served them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.real.daemon import Canaryd
from tests.real.gateway_api import HOST, conditions, gateway, move, route, services
from tests.real.test_releases import BY_ERRORS, HEALTHY, RATE, ends_as, phase_of, start
from tests.real.world import World, eventually

STAGE = {"minimum": "4s", "deadline": "12s"}


def leading_to(spec: dict[str, Any], version: str) -> dict[str, Any]:
    """As a person would have written it: one reference, to this version's Service."""
    (rule,) = spec["rules"]
    (ref,) = rule["backendRefs"]
    return {**spec, "rules": [{**rule, "backendRefs": [{**ref, "name": f"front-end-{version}"}]}]}


def reason_of(world: World, version: str) -> str:
    (found,) = [item for item in world.get("canaryrollouts")["items"] if item["spec"]["version"] == version]
    return str(found["status"]["reason"])


def patched(world: World, *operations: dict[str, Any]) -> None:
    """Someone edits the route."""
    world.kubectl(
        "patch",
        "httproutes.gateway.networking.k8s.io",
        "sockshop",
        "--type=json",
        "--patch",
        json.dumps(operations),
    )


@pytest.fixture
def entrance(world: World) -> Iterator[dict[str, str]]:
    with gateway(world) as parent:
        yield parent


@pytest.mark.timeout(1500)
def test_releases_by_the_gateway_api_go_through_real_envoys_and_leave_what_a_person_would_have_written(
    world: World, entrance: dict[str, str], canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2", "v4"):
        world.behaviour(version, **HEALTHY)
    world.behaviour("v3", **{**HEALTHY, "errors": 0.3})
    move(world, "v1", entrance)
    began = route(world)
    stages = [
        {"weight": 20, **STAGE, "approval": "required"},
        {"weight": 60, **STAGE},
        {"weight": 100, **STAGE},
    ]
    daemon = start(world, canaryd, route={"httpRoute": "sockshop"}, stages=stages, analysis=BY_ERRORS)
    with world.load(RATE, host=HOST, url=world.sidecar) as requests:
        world.deploy("v2", replicas=2)
        eventually("20% on v2 are approved", lambda: phase_of(world, "v2") == "AwaitingApproval", 420)
        with world.load(100, host=HOST, url=world.sidecar) as inside, world.load(100) as outside:
            time.sleep(6)
        for measured in (inside, outside):  # by the Service and by the Gateway
            served = measured.result["version"]
            assert served["v2"] / measured.result["sent"] == pytest.approx(0.2, abs=0.08)
            assert served.keys() == {"v1", "v2"}, "some requests reached no version"

        lost = {
            "matches": [{"path": {"type": "Exact", "value": "/lost"}}],
            "backendRefs": [{"name": "nobody", "port": 80}],
        }
        patched(world, {"op": "add", "path": "/spec/rules/-", "value": lost})
        eventually("istiod says so", lambda: conditions(world).get("ResolvedRefs") == "False")
        eventually("and so does the record", lambda: "says ResolvedRefs=False" in reason_of(world, "v2"))
        assert phase_of(world, "v2") == "AwaitingApproval", "an edit of another rule is no drift"
        patched(world, {"op": "remove", "path": "/spec/rules/1"})
        eventually("it is over", lambda: "ResolvedRefs" not in reason_of(world, "v2"))

        daemon.cli("approve", "front-end", seconds=120)
        ends_as(world, daemon, "v2", "Succeeded")
        assert route(world) == leading_to(began, "v2")
        assert services(world) == {"front-end", "front-end-v1", "front-end-v2"}, "v1's is not canaryd's"

        world.deploy("v3", replicas=2)
        ends_as(world, daemon, "v3", "RolledBack")
        assert route(world) == leading_to(began, "v2")

        world.deploy("v4", replicas=2)
        eventually("v4 is in its stage", lambda: phase_of(world, "v4") in ("Progressing", "AwaitingApproval"))
        eventually(
            "v3's Service is gone",
            lambda: services(world) == {"front-end", "front-end-v1", "front-end-v2", "front-end-v4"},
        )
        daemon.cli("promote", "front-end", seconds=120)
        ends_as(world, daemon, "v4", "Succeeded")
        eventually(
            "v2's Service is gone with it",
            lambda: services(world) == {"front-end", "front-end-v1", "front-end-v4"},
        )
        assert route(world) == leading_to(began, "v4")
    assert requests.result["unanswered"] == 0
    assert "none" not in requests.result["version"], "an Envoy answered in a version's place"
    assert not daemon.logged("beat.broken")
