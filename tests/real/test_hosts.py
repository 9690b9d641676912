"""A host is what istiod makes of it: each spelling is given to istiod in a DestinationRule, in a destination
and among a VirtualService's own hosts, and read back from the Envoys that it configures."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from canaryd.routing.documents import Host
from tests.real.world import World, eventually
from tests.routing.host_spellings import spellings

DOMAIN = "cluster.local"
WILDCARDS = ("*.{namespace}.svc.cluster.local", "*.{Namespace}.svc.cluster.local", "*.{namespace}.svc")
NOT_A_HOST = ("", "*")  # the API has no empty host; the other is of every Service at once

Object = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """One spelling, for a Service of its own: no two probes are about the same Service."""

    name: str
    namespace: str
    written: str

    @property
    def full(self) -> str:
        return f"{self.name}.{self.namespace}.svc.{DOMAIN}"

    @property
    def host(self) -> Host:
        return Host.parse(self.written, self.namespace, DOMAIN)

    def objects(self) -> Iterator[Object]:
        """`rule` is a subset of whatever Service istiod takes the host for; requests for NAME.example go
        there; and calls of whatever Service it is one of go to the subset `by-hosts`."""
        yield self.an_object(
            "Service", "", {"ports": [{"name": "http", "port": 80}], "selector": {"app": self.name}}, "v1"
        )
        subsets = [{"name": "rule", "labels": {"version": "v1"}}]
        yield self.an_object("DestinationRule", "", {"host": self.written, "subsets": subsets})
        to = {"destination": {"host": self.written, "subset": "to"}}
        gateway = "production/sockshop-gateway"
        yield self.an_object(
            "VirtualService",
            "-to",
            {"hosts": [f"{self.name}.example"], "gateways": [gateway], "http": [{"route": [to]}]},
        )
        by_hosts = {"destination": {"host": self.full, "subset": "by-hosts"}}
        yield self.an_object(
            "VirtualService", "-hosts", {"hosts": [self.written], "http": [{"route": [by_hosts]}]}
        )

    def an_object(
        self, kind: str, suffix: str, spec: Object, version: str = "networking.istio.io/v1"
    ) -> Object:
        metadata = {"name": self.name + suffix, "namespace": self.namespace}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def probes() -> list[Probe]:
    found = []
    for number in range(len(spellings("x", "production"))):
        name = f"probe-{number}"
        written = list(spellings(name, "production"))[number]
        if written not in NOT_A_HOST:
            found.append(Probe(name, "production", written))
    for number, wildcard in enumerate(WILDCARDS):
        namespace = f"wild-{number}"
        written = wildcard.format(namespace=namespace, Namespace=namespace.capitalize())
        found.append(Probe(f"probe-wild-{number}", namespace, written))
    return found


@contextmanager
def applied(world: World, objects: list[Object]) -> Iterator[None]:
    """There as long as the block runs; namespaces that they are in stay."""
    listings: dict[str, str] = {}
    for namespace in dict.fromkeys(one["metadata"]["namespace"] for one in objects):
        items = [one for one in objects if one["metadata"]["namespace"] == namespace]
        listings[namespace] = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        world.kubectl("apply", "-f", "-", f"--namespace={namespace}", stdin=listings[namespace])
    try:
        yield
    finally:
        for namespace, listing in listings.items():
            world.kubectl("delete", "-f", "-", "--wait=false", f"--namespace={namespace}", stdin=listing)


def configured(world: World, proxy: str, resource: str) -> list[Any]:
    url = f"{world.mesh.facts[f'{proxy}_admin']}/config_dump?resource={resource}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return list(json.load(answer).get("configs", []))


def clusters(world: World) -> set[str]:
    """`outbound|PORT|SUBSET|HOST` of every Service, and of each of its subsets, as the gateway has them."""
    return {one["cluster"]["name"] for one in configured(world, "ingress", "dynamic_active_clusters")}


def virtual_hosts(world: World, proxy: str) -> dict[str, str]:
    """Host -> its routes as text, without the port that istiod writes behind some."""
    (config,) = configured(world, proxy, "dynamic_route_configs")
    found = config["route_config"]["virtual_hosts"]
    return {one["name"].removesuffix(":80"): json.dumps(one["routes"]) for one in found}


@pytest.fixture
def asked(world: World) -> Iterator[list[Probe]]:
    """The probes, when both Envoys have what istiod made of the last ones, with all that came before."""
    found = probes()
    with applied(world, [one for probe in found for one in probe.objects()]):
        names = {f"{probe.name}.example" for probe in found}
        eventually("the gateway has every probe", lambda: names <= virtual_hosts(world, "ingress").keys())
        eventually(
            "the sidecar has every Service",
            lambda: {probe.full for probe in found} <= virtual_hosts(world, "sidecar").keys(),
        )
        last = Probe("probe-last", "production", "probe-last")
        with applied(world, list(last.objects())):
            eventually("a later rule is there", lambda: f"outbound|80|rule|{last.full}" in clusters(world))
            eventually(
                "a later VirtualService is there",
                lambda: "by-hosts" in virtual_hosts(world, "sidecar").get(last.full, ""),
            )
            yield found


def test_a_host_is_the_service_that_istiod_takes_it_for(world: World, asked: list[Probe]) -> None:
    there, routes, calls = clusters(world), virtual_hosts(world, "ingress"), virtual_hosts(world, "sidecar")
    for probe in asked:
        key = (probe.namespace, probe.name)
        assert f"outbound|80||{probe.full}" in there, "each Service is there"
        sent = f'"outbound|80|to|{probe.host.name}"'
        assert sent in routes[f"{probe.name}.example"], f"{probe.written!r} is sent to as it is"
        assert (probe.host.name == probe.full) is (probe.host.service == key), probe.written
        ruled = f"outbound|80|rule|{probe.full}" in there
        assert ruled is probe.host.selects(key, DOMAIN), f"a DestinationRule for {probe.written!r}"
        called = "outbound|80|by-hosts|" in calls[probe.full]
        assert called is probe.host.serves(key, DOMAIN), f"a VirtualService for {probe.written!r}"


def test_a_short_host_is_of_the_namespace_of_the_virtualservice_that_is_delegated_to(world: World) -> None:
    root = Probe("probe-root", "production", "probe-root")
    delegating = root.an_object(
        "VirtualService",
        "",
        {
            "hosts": ["delegating.example"],
            "gateways": ["sockshop-gateway"],
            "http": [{"delegate": {"name": "probe-leaf", "namespace": "wild-0"}}],
        },
    )
    leaf = Probe("probe-leaf", "wild-0", "front-end")
    delegated = leaf.an_object(
        "VirtualService", "", {"http": [{"route": [{"destination": {"host": leaf.written}}]}]}
    )
    with applied(world, [delegated, delegating]):
        eventually(
            "the gateway has the delegate's route",
            lambda: f"||{leaf.host.name}" in virtual_hosts(world, "ingress").get("delegating.example", ""),
        )


@pytest.mark.parametrize(
    ("offered", "written", "taken"),
    [
        ("probe-gate", "probe-gate", False),
        ("probe-gate.production.svc.cluster.local", "probe-gate", True),
        ("GATE.example", "gate.Example", False),
        ("*.gate.example", "shop.gate.example", True),
    ],
)
def test_a_gateway_takes_hosts_as_they_are_written(
    world: World, offered: str, written: str, taken: bool
) -> None:
    gate, port = (
        Probe("probe-gate", "production", written),
        {"number": 80, "name": "http", "protocol": "HTTP"},
    )
    gateway = gate.an_object(
        "Gateway",
        "",
        {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": [offered]}]},
    )
    spec = {"gateways": ["probe-gate"], "http": [{"route": [{"destination": {"host": "front-end"}}]}]}
    objects = [gateway, gate.an_object("VirtualService", "", {"hosts": [written], **spec})]
    after = gate.an_object(
        "VirtualService", "-after", {"hosts": ["after.example"], **spec, "gateways": ["sockshop-gateway"]}
    )
    with applied(world, objects), applied(world, [after]):
        eventually(
            "the gateway has what came later", lambda: "after.example" in virtual_hosts(world, "ingress")
        )
        found = {name.lower() for name in virtual_hosts(world, "ingress")}
        assert (gate.host.name.lower() in found) is taken
        assert Host(offered, offered, None, None).meets(gate.host) is taken
