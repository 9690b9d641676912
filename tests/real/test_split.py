"""A VirtualService bound to a gateway alone, and a caller inside the mesh: the split is not what was set, and
canaryd says whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.real.cluster.proxies import CLIENTS
from tests.real.daemon import Canaryd
from tests.real.test_releases import HEALTHY, RATE, explained, phase_of, start
from tests.real.world import World, eventually

HOST = "front-end.production.svc.cluster.local"


def split_of(world: World, client: str, version: str) -> tuple[int, int]:
    """Requests of a client that a version served in the last seconds, and of all, by Prometheus' own
    arithmetic."""
    namespace, workload = CLIENTS[client].split("/")
    which = f'source_workload="{workload}", source_workload_namespace="{namespace}"'
    found = world.query(f"sum by (destination_workload) (increase(istio_requests_total{{{which}}}[6s]))")
    by_version = {one["metric"]["destination_workload"]: round(float(one["value"][1])) for one in found}
    return by_version.get(f"front-end-{version}", 0), sum(by_version.values())


def record_of(world: World) -> dict[str, Any]:
    """The rollout's status, as the API server has it: a CLI call takes a second."""
    (record,) = world.get("canaryrollouts")["items"]
    return dict(record["status"])


@pytest.mark.timeout(300)
def test_calls_from_inside_the_mesh_that_the_route_does_not_steer_are_told_by_name_and_hold(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2"):
        world.behaviour(version, **HEALTHY)
    stages = [{"weight": 10, "minimum": "200s", "deadline": "300s"}, {"weight": 100}]
    hooks = [{"on": ["held", "resumed"], "notify": "audit"}]
    analysis = {"interval": "1s", "warmup": "2s", "minimumRequests": 30, "noDataFor": "4s"}
    daemon = start(world, canaryd, stages=stages, hooks=hooks, analysis=analysis)
    with world.load(RATE, host=HOST), world.load(RATE, host=HOST, url=world.sidecar):
        world.deploy("v2")
        eventually("it is held", lambda: phase_of(world, "v2") == "Held", 90)
        served, of = split_of(world, "sidecar", "v2")
        assert served / of == pytest.approx(0.5, abs=0.12), (
            "the real parts do not show what this test is about"
        )
        served, of = split_of(world, "ingress", "v2")
        assert served / of == pytest.approx(0.1, abs=0.08)

        reason = record_of(world)["reason"]
        assert "traffic does not follow the weight" in reason
        assert "where 10% were due; requests of istio-ingressgateway in istio-system (" in reason
        assert ") follow the weight, those of client in production (" in reason
        assert "VirtualService sockshop is bound to sockshop-gateway alone" in reason
        assert "add `mesh` to its spec.gateways (and name its hosts, for the mesh takes no `*`)" in reason
        assert "client in production" in explained(daemon, "v2")
        eventually(
            "an Event says so",
            lambda: [
                item
                for item in world.get("events.events.k8s.io")["items"]
                if item["reason"] == "Held" and "client in production" in item["note"]
            ],
        )
        assert world.weights() == {"v1": 90, "v2": 10}

        route = world.get("virtualservice", "sockshop")
        route["spec"] |= {"hosts": [HOST], "gateways": ["sockshop-gateway", "mesh"]}
        world.apply(route)
        eventually("it goes on by itself", lambda: phase_of(world, "v2") == "Progressing", 60)
        eventually(
            "the webhook heard it",
            lambda: any(b"follows the weight again" in one.body for one in world.receiver.at("/audit")),
        )
    after = record_of(world)
    assert (after["unsteered"], after["senders"]) == ("", "")
    assert [announcement["event"] for announcement in after["announcements"]].count("held") == 1
