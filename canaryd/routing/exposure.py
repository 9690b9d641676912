"""Which pods of a service get its requests, by the routes of its namespace: VirtualServices with their
DestinationRules, and HTTPRoutes with the Services of single versions. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from canaryd.domain.namespace_objects import Deployed, Manifest, NamespaceObjects, name_of
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.routing import documents

ISTIO = ("VirtualService", "DestinationRule")


@dataclass(frozen=True, slots=True)
class Exposure:
    """One destination of a route to a service, and the pods that get its requests.

    where: object and route, for people. to: the destination's subset, or its Service in an HTTPRoute, for
    people. labels: of the pods that it selects; None for a host without a subset, which selects all pods of
    the service. known: whether the subset is there. weight: its share among the route's destinations, 100 for
    the only one. by_default: the route has no match.
    """

    where: str
    to: str
    labels: Mapping[str, str] | None
    known: bool
    weight: int
    by_default: bool


def exposures(place: NamespaceObjects, service: str) -> list[Exposure]:
    """Every destination of a namespace's VirtualServices that has the service's host, and of its HTTPRoutes
    that leads to the service's pods. Mirrors are none: nobody waits for the answer to a copy."""
    key = (place.namespace, service)
    subsets = documents.subsets_of(place.rules, key)
    found = [
        exposure
        for document in place.virtual_services
        for exposure in _of_virtual_service(document, key, subsets)
    ]
    return found + [
        exposure for document in place.http_routes for exposure in _of_http_route(document, service, place)
    ]


def receivers(place: NamespaceObjects, service: str, found: list[Deployed]) -> list[Deployed]:
    """Those of the Deployments found that get the requests which no match sends elsewhere; all that the
    Service selects without routes."""
    selected = found
    if (own := place.service(service)) is not None:
        selector = (own.get("spec") or {}).get("selector") or {}
        selected = [deployment for deployment in found if selector.items() <= deployment.labels.items()]
    steered = [exposure for exposure in exposures(place, service) if exposure.by_default and exposure.weight]
    if not steered:
        return selected
    return [
        deployment
        for deployment in selected
        if any((to.labels or {}).items() <= deployment.labels.items() for to in steered if to.known)
    ]


def exposed(place: NamespaceObjects, service: str, labels: Mapping[str, str]) -> str:
    """Why pods with these labels would get requests as soon as they are ready; "" where routes keep to other
    subsets."""
    found = exposures(place, service)
    # Where VirtualServices steer a service, no HTTPRoute has to, and few may list those.
    unknown = (place.unreadable.get(kind) for kind in (ISTIO if found else (*ISTIO, "HTTPRoute")))
    if (why := next(filter(None, unknown), None)) is not None:
        return f"it is not known whether a route keeps requests from the new pods ({why})"
    if not found:
        return (
            f"no VirtualService and no HTTPRoute of {place.namespace} routes to {service}, so its Service "
            "sends the new pods requests as soon as they are ready"
        )
    for exposure in found:
        if exposure.weight and exposure.labels is None:
            return (
                f"{exposure.where} sends to {service} without a subset, so the new pods get requests as soon "
                "as they are ready"
            )
        if exposure.weight and exposure.known and (exposure.labels or {}).items() <= labels.items():
            share = f"{exposure.weight}% " if exposure.by_default else ""
            return f"{exposure.where} sends {share}to {exposure.to}, which selects the new pods already"
    return ""


def _of_virtual_service(
    document: Manifest, service: NamespacedName, subsets: Mapping[str, Mapping[str, str]]
) -> Iterator[Exposure]:
    for to in documents.destinations(document):
        if to.host.service == service and to.kind is documents.Kind.SHARE:
            yield Exposure(
                where=f"VirtualService {name_of(document)}, {to.where}",
                to=f"subset {to.subset}",
                labels=subsets.get(to.subset, {}) if to.subset else None,
                known=to.subset in subsets,
                weight=to.weight,
                by_default=to.by_default,
            )


def _of_http_route(document: Manifest, service: str, place: NamespaceObjects) -> Iterator[Exposure]:
    """A Service of one version selects what the service's own does, and more."""
    whole = _selector(place, service)
    for to in documents.destinations(document):
        if to.host.service is None or to.kind is not documents.Kind.SHARE:
            continue
        namespace, name = to.host.service
        labels = _selector(place, name)
        if namespace == place.namespace and whole and whole.items() <= labels.items():
            yield Exposure(
                where=f"HTTPRoute {name_of(document)}, {to.where}",
                to=f"Service {name}",
                labels=labels,
                known=True,
                weight=to.weight,
                by_default=to.by_default,
            )


def _selector(place: NamespaceObjects, service: str) -> Mapping[str, str]:
    spec: Mapping[str, Mapping[str, str]] = (place.service(service) or {}).get("spec") or {}
    return spec.get("selector") or {}
