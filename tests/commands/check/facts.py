"""A world in which canaryd works, as facts, so that a test names only what it breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from canaryd.adapters.kube.virtualservice import view_of
from canaryd.commands.check.all_checks import findings
from canaryd.commands.check.daemon_rbac import of_daemon
from canaryd.commands.check.finding import Finding, Level
from canaryd.commands.check.user_rbac import of_people
from canaryd.domain.check_facts import (
    CONTROL_PLANE,
    Facts,
    Listing,
    Rights,
    ScrapedSeries,
    ServiceCounts,
    TelemetryFacts,
)
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected
from tests.builders import HOST, NOW, a_policy

Object = dict[str, Any]
KEY = ("production", "front-end")
ACCOUNT = "system:serviceaccount:canaryd:canaryd"
LABELS = {
    "reporter": "destination",
    "destination_workload": "front-end-v1",
    "destination_workload_namespace": "production",
    "response_code": "200",
    "request_protocol": "http",
    "pod": "front-end-v1-a",
    "job": "istio",
    "instance": "10.0.0.1:15020",
}


def an_object(kind: str, name: str, spec: Object, namespace: str = "production", **metadata: Any) -> Object:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}


def a_deployment(version: str = "v1", **template: Any) -> Object:
    """front-end-VERSION with nothing amiss. template: keys of its pod template's metadata."""
    container = {
        "name": "front-end",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {},
        "resources": {"requests": {"cpu": "1"}},
    }
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}}
    metadata = {"labels": {"app": "front-end", "version": version}, **template}
    return an_object(
        "Deployment",
        f"front-end-{version}",
        {"replicas": 3, "template": {"metadata": metadata, "spec": {"containers": [container]}}},
    )


def a_pod(name: str = "front-end-v1-a", sidecar: str = "initContainers", **metadata: Any) -> Object:
    spec: Object = {"containers": [{"name": "front-end"}]}
    if sidecar:
        spec[sidecar] = [*spec.get(sidecar, []), {"name": "istio-proxy"}]
    return an_object("Pod", name, spec, labels={"app": "front-end", "version": "v1"}, **metadata)


def an_istiod(version: str = "1.31.0", rev: str = "default") -> Object:
    container = {"name": "discovery", "image": f"docker.io/istio/pilot:{version}"}
    made = an_object(
        "Deployment",
        "istiod",
        {"template": {"spec": {"containers": [container]}}},
        "istio-system",
        labels={"app": "istiod", "istio.io/rev": rev},
    )
    return {**made, "status": {"availableReplicas": 1}}


def a_route(*http: Object, **spec: Any) -> Object:
    """The VirtualService sockshop; without routes as the use case has it."""
    only = {"route": [{"destination": {"host": HOST, "subset": "v1"}}]}
    return an_object(
        "VirtualService",
        "sockshop",
        {
            "hosts": ["shop.example", HOST],
            "gateways": ["sockshop-gateway", "mesh"],
            "http": list(http) or [only],
            **spec,
        },
    )


def a_rule(
    *subsets: Object, host: str = HOST, name: str = "front-end", namespace: str = "production"
) -> Object:
    return an_object(
        "DestinationRule", name, {"host": host, "subsets": list(subsets) or [a_subset("v1")]}, namespace
    )


def a_subset(name: str, **labels: str) -> Object:
    return {"name": name, "labels": labels or {"version": name}}


def a_gateway(**server: Any) -> Object:
    return an_object(
        "Gateway",
        "sockshop-gateway",
        {
            "selector": {"istio": "ingressgateway"},
            "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"], **server}
            ],
        },
    )


def a_service(*ports: Object, **spec: Any) -> Object:
    return an_object(
        "Service",
        "front-end",
        {"selector": {"app": "front-end"}, "ports": list(ports) or [{"name": "http", "port": 80}], **spec},
    )


def a_namespace(**labels: str) -> Object:
    return {"kind": "Namespace", "metadata": {"name": "production", "labels": labels}}


def a_webhook(rev: str) -> Object:
    return {
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": f"injector-{rev}", "labels": {"app": "sidecar-injector", "istio.io/rev": rev}},
    }


def scraped(every: float = 15.0, number: int = 5, **labels: str) -> ScrapedSeries:
    known = {key: value for key, value in {**LABELS, **labels}.items() if value}
    return ScrapedSeries(known, tuple(NOW - every * (number - 1 - at) for at in range(number)))


def counted(**changes: Any) -> ServiceCounts:
    values: Object = {
        "reporters": {("destination", "front-end-v1"): 100.0},
        "series": (scraped(),),
        "bounds": frozenset({"10", "+Inf"}),
        "sums": True,
    }
    return ServiceCounts(**{**values, **changes})


def telemetry(count: ServiceCounts | None = None, **changes: Any) -> TelemetryFacts:
    values: Object = {
        "url": "http://prometheus:9090",
        "version": "3.0.0",
        "window": 120.0,
        "clock": NOW,
        "asked": NOW,
        "services": {KEY: count or counted()},
    }
    return TelemetryFacts(**{**values, **changes})


def kinds() -> dict[str, list[Object]]:
    return {
        "Namespace": [a_namespace(**{"istio-injection": "enabled"})],
        "Service": [a_service()],
        "Pod": [a_pod()],
        "Deployment": [a_deployment()],
        CONTROL_PLANE: [an_istiod()],
        "VirtualService": [a_route()],
        "DestinationRule": [a_rule()],
        "Gateway": [a_gateway()],
        "MutatingWebhookConfiguration": [a_webhook("default")],
        "CanaryRollout": [],
        "Telemetry": [],
    }


def a_world(
    changed: Mapping[str, Sequence[Object]] | None = None,
    *,
    policy: Policy | None = None,
    unread: Mapping[str, str] | None = None,
    **facts: Any,
) -> Facts:
    """changed: kind -> its objects instead of the good ones; unread: kind -> why it could not be read; facts:
    fields of `Facts`."""
    policy = policy or a_policy(analysis={})
    objects: dict[str, Sequence[Object]] = {**kinds(), **(changed or {})}
    listings = {kind: Listing(tuple(deepcopy(list(found)))) for kind, found in objects.items()}
    listings |= {kind: Listing(problem=why) for kind, why in (unread or {}).items()}
    groups = {
        "networking.istio.io": ("v1", "v1beta1"),
        "canaryd.dev": ("v1alpha1",),
        "telemetry.istio.io": ("v1",),
    }
    rights = [
        Rights("", dict.fromkeys(of_people([policy]), True)),
        Rights(ACCOUNT, dict.fromkeys(of_daemon(["production"]), True)),
    ]
    world = Facts(
        (policy,),
        listings,
        groups,
        rights=rights,
        telemetry=telemetry(),
        server="https://api.example",
        here=NOW,
        server_clock=NOW,
        pods_of_gateways={("production", "sockshop-gateway"): Listing((a_pod("gateway"),))},
    )
    world = replace(world, **facts)
    return world if "routes" in facts else replace(world, routes=routes(world, policy))


def routes(world: Facts, policy: Policy) -> dict[tuple[str, str], Any]:
    """As the daemon reads them."""
    route = world.find("VirtualService", "production", policy.route.virtual_service)
    rule = world.find("DestinationRule", "production", policy.route.destination_rule)
    if route is None or rule is None:
        return (
            {policy.key: "there is no VirtualService production/sockshop"}
            if route is None
            else {policy.key: "there is no DestinationRule"}
        )
    try:
        return {policy.key: view_of(policy, dict(route), dict(rule), world.domain)}
    except Rejected as refusal:
        return {policy.key: str(refusal)}


def bad(world: Facts) -> list[Finding]:
    """What is not ok."""
    return [finding for finding in findings(world) if finding.level is not Level.OK]


def only(world: Facts, check: str) -> Finding:
    """The one finding that is not ok, which must be of this check."""
    found = bad(world)
    assert [one.check for one in found] == [check], [(one.check, one.found) for one in found]
    return found[0]
