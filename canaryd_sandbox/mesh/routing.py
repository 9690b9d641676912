"""Where Istio sends a service's requests: VirtualServices and DestinationRules, or HTTPRoutes, resolved to
weights and pod labels."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd_sandbox.kubernetes.resources import DESTINATIONRULES, SERVICES, VIRTUALSERVICES, ApiError, Object
from canaryd_sandbox.kubernetes.store import Store
from canaryd_sandbox.mesh import httproute


@dataclass(frozen=True)
class Share:
    """One destination of a route: its part of the requests (they sum to 1), its subset (or backend Service),
    and the labels of its pods.

    `labels` is None where the subset is unknown to every DestinationRule: Istio answers such requests with
    503 (flag NC). service: the Service called, by which the callers count it; "" where it is the one asked
    for. harder: see `Audience`.
    cookie: what its answers have in `set-cookie` by the route.
    """

    part: float
    subset: str | None
    labels: Mapping[str, str] | None
    service: str = ""
    harder: float = 1.0
    cookie: str = ""


@dataclass(frozen=True)
class Audience:
    """A part of the requests that are alike: what routes may match them by. part: of all, among the parts of
    all audiences; harder: so many times as many of them fail, on any version."""

    part: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)  # of the calling pod
    harder: float = 1.0


EVERYONE = Audience()


@dataclass(frozen=True)
class Way:
    """Where requests go: one share each; and where so much of them (`copies.part`) is copied to, whose
    answers nobody sees."""

    shares: list[Share]
    copies: Share | None = None


def full_host(host: str, namespace: str) -> str:
    """A host as Istio reads it in an object of `namespace`: a name without dots is a Service of that
    namespace."""
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"


def resolve(store: Store, service: str, namespace: str, inside: bool = False) -> list[Share]:
    """The shares of the requests to a service that no condition of a route is about; see `way`."""
    return way(store, service, namespace, inside).shares


def way(
    store: Store, service: str, namespace: str, inside: bool = False, audience: Audience = EVERYONE
) -> Way:
    """The way of an audience's requests: the first route to the service's host that takes them, of the oldest
    VirtualService with one.

    Without such a route all requests go to all pods of the Service. inside: of requests by sidecars, to which
    only a VirtualService applies that is bound to no gateway, or to `mesh`; otherwise of a gateway's, for
    which any will do. Requests have no path here: what a route wants of it is never so.
    """
    host = full_host(service, namespace)
    with store.lock:
        if (
            found := httproute.parts(store, service, namespace, inside, audience.headers, audience.query)
        ) is not None:
            parts, copied = found
            return Way(
                [Share(*part, part[1], audience.harder) for part in parts],
                Share(*copied, copied[1]) if copied else None,
            )
        selector = _service_selector(store, service, namespace)
        # Of Services that lead to the same pods, too: what matched users call while they are split.
        hosts = {
            full_host(service["metadata"]["name"], namespace): service["metadata"]["name"]
            for service in store.list(SERVICES, namespace)
            if (service["spec"].get("selector") or {}) == selector
        } | {host: ""}
        subsets = {host: _subsets(store, host) for host in hosts}
        for virtualservice in sorted(
            store.list(VIRTUALSERVICES), key=lambda obj: obj["metadata"]["creationTimestamp"]
        ):
            where = virtualservice["metadata"]["namespace"]
            if inside and "mesh" not in (virtualservice.get("spec", {}).get("gateways") or ["mesh"]):
                continue
            for route in virtualservice.get("spec", {}).get("http") or []:
                destinations = route.get("route") or []
                led = {full_host(d["destination"]["host"], where) for d in destinations} & hosts.keys()
                if not led or not takes_requests(route, audience):
                    continue
                called = host if host in led else next(iter(led))
                there = _shares(destinations, selector, subsets[called])
                shares = [replace(share, service=hosts[called], harder=audience.harder) for share in there]
                return Way(shares, _copies(route, selector, subsets[host]))
    return Way([Share(1.0, None, selector, harder=audience.harder)])


def takes_requests(route: Object, audience: Audience) -> bool:
    """Whether a route takes the requests: one of its matches is theirs, or it has none."""
    return not route.get("match") or any(_fits(match, audience) for match in route["match"])


def _fits(match: Mapping[str, Any], audience: Audience) -> bool:
    kinds: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "name": lambda _: True,
        "headers": lambda wanted: _all(wanted, audience.headers),
        "withoutHeaders": lambda wanted: (
            not any(_all({name: how}, audience.headers) for name, how in wanted.items())
        ),
        "queryParams": lambda wanted: _all(wanted, audience.query),
        "sourceLabels": lambda wanted: wanted.items() <= audience.labels.items(),
    }
    return all(kind in kinds and kinds[kind](wanted) for kind, wanted in match.items())


def _all(wanted: Mapping[str, Any], there: Mapping[str, str]) -> bool:
    return all(name in there and _is(how or {}, there[name]) for name, how in wanted.items())


def _is(how: Mapping[str, str], value: str) -> bool:
    if "exact" in how:
        return value == how["exact"]
    if "prefix" in how:
        return value.startswith(how["prefix"])
    return "regex" not in how or re.fullmatch(how["regex"], value) is not None


def _copies(
    route: Object, selector: Mapping[str, str], subsets: Mapping[str, Mapping[str, str]]
) -> Share | None:
    """Where a route's requests are copied to; its part is all of them where the route does not say how
    many."""
    mirror = route.get("mirror")
    if not mirror:
        return None
    [copied] = _shares([{"destination": mirror}], selector, subsets)
    return Share(
        float((route.get("mirrorPercentage") or {}).get("value", 100.0)) / 100, copied.subset, copied.labels
    )


def _shares(
    destinations: list[Object], selector: Mapping[str, str], subsets: Mapping[str, Mapping[str, str]]
) -> list[Share]:
    alone = len(destinations) == 1  # a single destination takes all, whatever weight it has or has not
    weights = [100 if alone else int(d.get("weight", 0)) for d in destinations]
    total = sum(weights)
    shares = []
    for destination, weight in zip(destinations, weights, strict=True):
        subset = destination["destination"].get("subset")
        labels: Mapping[str, str] | None = selector
        if subset is not None:
            labels = {**selector, **subsets[subset]} if subset in subsets else None
        added = ((destination.get("headers") or {}).get("response") or {}).get("add") or {}
        shares.append(
            Share(weight / total if total else 0.0, subset, labels, cookie=str(added.get("set-cookie", "")))
        )
    return shares


def _service_selector(store: Store, service: str, namespace: str) -> Mapping[str, str]:
    try:
        selector: Mapping[str, str] = store.get(SERVICES, namespace, service)["spec"].get("selector") or {}
    except ApiError:
        return {"app": service}  # a world without the Service object still has its pods
    return selector


def _subsets(store: Store, host: str) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for rule in store.list(DESTINATIONRULES):
        if full_host(rule.get("spec", {}).get("host", ""), rule["metadata"]["namespace"]) == host:
            for subset in rule["spec"].get("subsets") or []:
                found.setdefault(subset["name"], subset.get("labels") or {})
    return found
