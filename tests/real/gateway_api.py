"""The use case moved to the Gateway API: an HTTPRoute whose parents are the Service, which the callers'
sidecars follow, and a Gateway."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.real.world import World, eventually

HOST = "front-end.production.svc.cluster.local"
PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]
API = "gateway.networking.k8s.io/v1"


@contextmanager
def gateway(world: World) -> Iterator[dict[str, str]]:
    """A Gateway of the Gateway API in front of the ingress' Envoy, as a parent for routes; gone
    afterwards."""
    name, where = "istio-ingressgateway", "istio-system"
    world.kubectl("delete", "gateways.networking.istio.io", "--all", "--wait=true")
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": where},
            "spec": {"selector": {"istio": "ingressgateway"}, "ports": [{"name": "http", "port": 80}]},
        }
    )
    world.apply(
        {
            "apiVersion": API,
            "kind": "Gateway",
            "metadata": {"name": "shop", "namespace": where},
            "spec": {
                "gatewayClassName": "istio",
                "addresses": [{"type": "Hostname", "value": f"{name}.{where}.svc.cluster.local"}],
                "listeners": [
                    {
                        "name": "http",
                        "port": 80,
                        "protocol": "HTTP",
                        "allowedRoutes": {"namespaces": {"from": "All"}},
                    }
                ],
            },
        }
    )
    try:
        yield {"kind": "Gateway", "name": "shop", "namespace": where}
    finally:
        world.kubectl(
            "delete", "gateways.gateway.networking.k8s.io/shop", f"service/{name}", f"--namespace={where}"
        )


def move(world: World, version: str = "v1", *parents: dict[str, str]) -> None:
    """Istio's own objects go, an HTTPRoute to a Service of this version comes, and istiod and the sidecar
    have taken it up.

    parents: of the route, besides the Service."""
    world.kubectl(
        "delete",
        "virtualservices.networking.istio.io,destinationrules.networking.istio.io",
        "--all",
        "--wait=true",
    )
    labels, name = {"app": "front-end", "version": version}, f"front-end-{version}"
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": PORTS},
        }
    )
    parent = {"group": "", "kind": "Service", "name": "front-end", "port": 80}
    world.apply(
        {
            "apiVersion": API,
            "kind": "HTTPRoute",
            "metadata": {"name": "sockshop"},
            "spec": {
                "parentRefs": [parent, *parents],
                "rules": [{"backendRefs": [{"name": name, "port": 80}], "timeouts": {"request": "10s"}}],
            },
        }
    )
    eventually("istiod takes the route", lambda: conditions(world).get("ResolvedRefs") == "True")
    for _ in range(5):
        eventually(f"calls inside the mesh are answered by {version}", lambda: answered_by(world) == version)


def route(world: World) -> dict[str, Any]:
    """The HTTPRoute's spec."""
    return dict(world.get("httproutes.gateway.networking.k8s.io", "sockshop")["spec"])


def conditions(world: World) -> dict[str, str]:
    """What istiod says of the route, by the parent's conditions."""
    parents = (
        world.get("httproutes.gateway.networking.k8s.io", "sockshop").get("status", {}).get("parents", [])
    )
    return {
        condition["type"]: condition["status"] for parent in parents for condition in parent["conditions"]
    }


def services(world: World) -> set[str]:
    return {item["metadata"]["name"] for item in world.get("services")["items"]}


def answered_by(world: World, path: str = "/", **headers: str) -> str:
    """The version that answers one call from inside the mesh with these headers (user_agent: user-agent), ""
    where none does."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(
        urllib.request.Request(world.sidecar + path, headers={"Host": HOST, **named}), timeout=5
    ) as answer:
        return str(answer.headers.get("x-version") or "")
