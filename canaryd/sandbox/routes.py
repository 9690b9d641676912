"""Where Istio sends a service's requests: VirtualServices and DestinationRules, or HTTPRoutes, resolved to weights and pod labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from canaryd.sandbox import httproutes
from canaryd.sandbox.kubernetes_resources import DESTINATIONRULES, SERVICES, VIRTUALSERVICES, ApiError, Object
from canaryd.sandbox.kubernetes_store import Store


@dataclass(frozen=True)
class Share:
    """One destination of a route: its part of the requests (they sum to 1), its subset (or backend Service), and the labels of its pods.

    `labels` is None where the subset is unknown to every DestinationRule: Istio answers such requests with 503 (flag NC).
    """

    part: float
    subset: str | None
    labels: Mapping[str, str] | None


def full_host(host: str, namespace: str) -> str:
    """A host as Istio reads it in an object of `namespace`: a name without dots is a Service of that namespace."""
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"


def resolve(store: Store, service: str, namespace: str, inside: bool = False) -> list[Share]:
    """The shares of the requests to a service: the first route to its host without a match, of the oldest VirtualService with one.

    Without such a route all requests go to all pods of the Service. inside: of requests by sidecars, to which only a VirtualService applies
    that is bound to no gateway, or to `mesh`; otherwise of a gateway's, for which any will do.
    """
    host = full_host(service, namespace)
    with store.lock:
        if (found := httproutes.parts(store, service, namespace, inside)) is not None:
            return [Share(*one) for one in found]
        selector = _service_selector(store, service, namespace)
        subsets = _subsets(store, host)
        for virtualservice in sorted(store.list(VIRTUALSERVICES), key=lambda obj: obj["metadata"]["creationTimestamp"]):
            where = virtualservice["metadata"]["namespace"]
            if inside and "mesh" not in (virtualservice.get("spec", {}).get("gateways") or ["mesh"]):
                continue
            for route in virtualservice.get("spec", {}).get("http") or []:
                destinations = route.get("route") or []
                if route.get("match") or not any(full_host(d["destination"]["host"], where) == host for d in destinations):
                    continue
                return _shares(destinations, selector, subsets)
    return [Share(1.0, None, selector)]


def _shares(destinations: list[Object], selector: Mapping[str, str], subsets: Mapping[str, Mapping[str, str]]) -> list[Share]:
    alone = len(destinations) == 1  # a single destination takes all, whatever weight it has or has not
    weights = [100 if alone else int(d.get("weight", 0)) for d in destinations]
    total = sum(weights)
    shares = []
    for destination, weight in zip(destinations, weights, strict=True):
        subset = destination["destination"].get("subset")
        labels: Mapping[str, str] | None = selector
        if subset is not None:
            labels = {**selector, **subsets[subset]} if subset in subsets else None
        shares.append(Share(weight / total if total else 0.0, subset, labels))
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
