"""Whom a namespace's routes send a service's requests to, as far as its VirtualServices with their
DestinationRules, and its HTTPRoutes with the Services of single versions, tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from canaryd.domain.namespace_objects import Deployed, Manifest, Place, name_of
from canaryd.routing import httproute_weights
from canaryd.routing.route_lists import service_of

ISTIO = ("VirtualService", "DestinationRule")


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination of a route to the service. to: its subset, or its Service in an HTTPRoute, in words;
    labels: which that selects, None for a host without a subset; known: whether that is there; weight: its
    share; by_default: its route has no match."""

    where: str
    to: str
    labels: Mapping[str, str] | None
    known: bool
    weight: int
    by_default: bool


def destinations(place: Place, service: str) -> list[Destination]:
    """Every destination with this service's host, of all VirtualServices of the namespace, and with its pods,
    of all HTTPRoutes."""
    subsets = _subsets(place, service)
    found = [
        one
        for virtual_service in place.virtual_services
        for one in _of(virtual_service, service, place.namespace, subsets)
    ]
    return found + [one for route in place.http_routes for one in _of_http_route(route, service, place)]


def receivers(place: Place, service: str, found: list[Deployed]) -> list[Deployed]:
    """Those of the Deployments found that get the requests which no match sends elsewhere; all that the
    Service selects without routes."""
    selected = found
    if (own := place.service(service)) is not None:
        selector = (own.get("spec") or {}).get("selector") or {}
        selected = [one for one in found if selector.items() <= one.labels.items()]
    steered = [one for one in destinations(place, service) if one.by_default and one.weight]
    if not steered:
        return selected
    return [
        one
        for one in selected
        if any((to.labels or {}).items() <= one.labels.items() for to in steered if to.known)
    ]


def exposed(place: Place, service: str, labels: Mapping[str, str]) -> str:
    """Why pods with these labels would get requests as soon as they are ready; "" where routes keep to other
    subsets."""
    found = destinations(place, service)
    # Where VirtualServices steer a service, no HTTPRoute has to, and few may list those.
    unknown = (place.unreadable.get(kind) for kind in (ISTIO if found else (*ISTIO, "HTTPRoute")))
    if (why := next(filter(None, unknown), None)) is not None:
        return f"whether a route keeps requests from the new pods cannot be told ({why})"
    if not found:
        return (
            f"no VirtualService and no HTTPRoute of {place.namespace} routes to {service}, so its Service "
            "sends the new pods requests as soon as they are ready"
        )
    for one in found:
        if one.weight and one.labels is None:
            return (
                f"{one.where} sends to {service} without a subset, so the new pods get requests as soon as "
                "they are ready"
            )
        if one.weight and one.known and (one.labels or {}).items() <= labels.items():
            share = f"{one.weight}% " if one.by_default else ""
            return f"{one.where} sends {share}to {one.to}, which selects the new pods already"
    return ""


def _subsets(place: Place, service: str) -> dict[str, Mapping[str, str]]:
    rules = [one.get("spec") or {} for one in place.rules]
    return {
        str(subset.get("name")): subset.get("labels") or {}
        for spec in rules
        if service_of(str(spec.get("host") or ""), place.namespace) == service
        for subset in spec.get("subsets") or []
    }


def _of(
    obj: Manifest, service: str, namespace: str, subsets: Mapping[str, Mapping[str, str]]
) -> Iterator[Destination]:
    spec = obj.get("spec") or {}
    for kind in ("http", "tcp", "tls"):
        for at, route in enumerate(spec.get(kind) or []):
            entries = route.get("route") or []
            where = f"VirtualService {name_of(obj)}, {kind} route {route.get('name') or f'#{at}'}"
            for entry in entries:
                to = entry.get("destination") or {}
                if service_of(str(to.get("host") or ""), namespace) == service:
                    subset = str(to.get("subset") or "")
                    weight = 100 if len(entries) == 1 else int(entry.get("weight") or 0)
                    labels = subsets.get(subset, {}) if subset else None
                    yield Destination(
                        where, f"subset {subset}", labels, subset in subsets, weight, not route.get("match")
                    )


def _of_http_route(obj: Manifest, service: str, place: Place) -> Iterator[Destination]:
    """A Service of one version selects what the service's own does, and more."""
    whole = _selector(place, service)
    for at, rule in enumerate((obj.get("spec") or {}).get("rules") or []):
        refs, where = (
            rule.get("backendRefs") or [],
            f"HTTPRoute {name_of(obj)}, rule {rule.get('name') or f'#{at}'}",
        )
        for ref in refs:
            name, labels = str(ref.get("name")), _selector(place, str(ref.get("name")))
            is_here = (
                ref.get("kind", "Service") == "Service"
                and ref.get("namespace", place.namespace) == place.namespace
            )
            if is_here and whole and whole.items() <= labels.items():
                weight = 100 if len(refs) == 1 else ref.get("weight", httproute_weights.WEIGHT)
                yield Destination(
                    where, f"Service {name}", labels, True, weight, httproute_weights.has_no_match(rule)
                )


def _selector(place: Place, service: str) -> Mapping[str, str]:
    spec: Mapping[str, Mapping[str, str]] = (place.service(service) or {}).get("spec") or {}
    return spec.get("selector") or {}
