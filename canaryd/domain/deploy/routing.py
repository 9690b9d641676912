"""Whom a namespace's Istio routes send a service's requests to, as far as its VirtualServices and DestinationRules tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from canaryd.domain.deploy.objects import Deployed, Manifest, Place, name_of


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination of a route to the service. labels: of its subset, None for a host without one; known: whether a DestinationRule
    has the subset; weight: its share; by_default: its route has no match."""

    where: str
    subset: str
    labels: Mapping[str, str] | None
    known: bool
    weight: int
    by_default: bool


def destinations(place: Place, service: str) -> list[Destination]:
    """Every destination with this service's host, of all VirtualServices of the namespace."""
    subsets = _subsets(place, service)
    return [one for virtual_service in place.virtual_services for one in _of(virtual_service, service, place.namespace, subsets)]


def receivers(place: Place, service: str, found: list[Deployed]) -> list[Deployed]:
    """Those of the Deployments found that get the requests which no match sends elsewhere; all that the Service selects without routes."""
    selected = found
    if (own := place.service(service)) is not None:
        selector = (own.get("spec") or {}).get("selector") or {}
        selected = [one for one in found if selector.items() <= one.labels.items()]
    steered = [one for one in destinations(place, service) if one.by_default and one.weight]
    if not steered:
        return selected
    return [one for one in selected if any((to.labels or {}).items() <= one.labels.items() for to in steered if to.known)]


def exposed(place: Place, service: str, labels: Mapping[str, str]) -> str:
    """Why pods with these labels would get requests as soon as they are ready; "" where routes keep to other subsets."""
    if (why := place.unreadable.get("VirtualService") or place.unreadable.get("DestinationRule")) is not None:
        return f"whether a route keeps requests from the new pods cannot be told ({why})"
    found = destinations(place, service)
    if not found:
        return (f"no VirtualService of {place.namespace} routes to {service}, so its Service sends the new pods requests as soon as they "
                "are ready")
    for one in found:
        if one.weight and one.labels is None:
            return f"{one.where} sends to {service} without a subset, so the new pods get requests as soon as they are ready"
        if one.weight and one.known and (one.labels or {}).items() <= labels.items():
            share = f"{one.weight}% " if one.by_default else ""
            return f"{one.where} sends {share}to subset {one.subset}, which selects the new pods already"
    return ""


def _subsets(place: Place, service: str) -> dict[str, Mapping[str, str]]:
    rules = [one.get("spec") or {} for one in place.rules]
    return {
        str(subset.get("name")): subset.get("labels") or {}
        for spec in rules if is_host(str(spec.get("host") or ""), service, place.namespace)
        for subset in spec.get("subsets") or []
    }  # fmt: skip


def _of(obj: Manifest, service: str, namespace: str, subsets: Mapping[str, Mapping[str, str]]) -> Iterator[Destination]:
    spec = obj.get("spec") or {}
    for kind in ("http", "tcp", "tls"):
        for at, route in enumerate(spec.get(kind) or []):
            entries = route.get("route") or []
            where = f"VirtualService {name_of(obj)}, {kind} route {route.get('name') or f'#{at}'}"
            for entry in entries:
                to = entry.get("destination") or {}
                if is_host(str(to.get("host") or ""), service, namespace):
                    subset = str(to.get("subset") or "")
                    weight = 100 if len(entries) == 1 else int(entry.get("weight") or 0)
                    labels = subsets.get(subset, {}) if subset else None
                    yield Destination(where, subset, labels, subset in subsets, weight, not route.get("match"))


def is_host(host: str, service: str, namespace: str) -> bool:
    """Whether Istio takes a host, in an object of the namespace, for the service: its short name or the full one, of any domain."""
    return host == service or host.startswith(f"{service}.{namespace}.svc.")
