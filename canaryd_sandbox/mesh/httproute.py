"""The Gateway API in the sandbox: what an API server makes of an HTTPRoute, where it sends a service's
requests, and the example's own."""

import re
from collections.abc import Mapping

from canaryd_sandbox.kubernetes.resources import (
    DEFINITIONS,
    DESTINATIONRULES,
    GATEWAY_API,
    HTTPROUTES,
    SERVICES,
    VIRTUALSERVICES,
    ApiError,
    Object,
)
from canaryd_sandbox.kubernetes.store import Store

Part = tuple[float, str, Mapping[str, str] | None]
"""The share of the requests, the backend Service, and the labels of its pods; None where there is no such
Service (Envoy answers 500)."""


def _object(**properties: Object) -> Object:
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": properties}


def _list(items: Object, **more: object) -> Object:
    return {"type": "array", "items": items, **more}


def _text(default: str) -> Object:
    return {"type": "string", "default": default}


_PATH: Object = {
    **_object(type=_text("PathPrefix"), value=_text("/")),
    "default": {"type": "PathPrefix", "value": "/"},
}
_BACKEND = _object(
    group=_text(""),
    kind=_text("Service"),
    name={"type": "string"},
    port={"type": "integer"},
    weight={"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 1},
)
_CONDITIONS = _list(_object(type=_text("Exact")))
_MIRROR = _object(
    backendRef=_object(group=_text(""), kind=_text("Service")),
    fraction=_object(denominator={"type": "integer", "default": 100}),
)
_MATCH = _object(path=_PATH, headers=_CONDITIONS, queryParams=_CONDITIONS)
_RULE = _object(
    matches=_list(_MATCH, default=[{"path": {"type": "PathPrefix", "value": "/"}}]),
    filters=_list(_object(requestMirror=_MIRROR)),
    backendRefs=_list(_BACKEND, maxItems=16),
)
_PARENT = _object(group=_text(GATEWAY_API), kind=_text("Gateway"))
_SPEC = _object(parentRefs=_list(_PARENT), rules=_list(_RULE, maxItems=16))

# As much of the CustomResourceDefinition as changes or refuses what canaryd reads and writes; all else is
# taken as it comes.
DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": HTTPROUTES.qualified},
    "spec": {
        "group": GATEWAY_API,
        "scope": "Namespaced",
        "names": {"plural": "httproutes", "singular": "httproute", "kind": "HTTPRoute"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": _object(spec=_SPEC)},
            }
        ],
    },
}


def parts(
    store: Store,
    service: str,
    namespace: str,
    inside: bool,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> tuple[list[Part], Part | None] | None:
    """The parts of the requests to a service by the oldest HTTPRoute that steers them, and the part that is
    copied; None where none does.

    inside: of requests by sidecars, which follow a route whose parent is the Service; otherwise of a
    gateway's, whose parent is a Gateway and which leads to the service's pods. headers, query: of the
    requests, which have no path. Of the rules that take them the one with most conditions counts, and the
    first of those.
    """
    with store.lock:
        services = {
            service["metadata"]["name"]: service["spec"].get("selector") or {}
            for service in store.list(SERVICES, namespace)
        }
        pods = services.get(service, {"app": service})
        for route in sorted(
            store.list(HTTPROUTES, namespace), key=lambda obj: str(obj["metadata"]["creationTimestamp"])
        ):
            parents = {
                (parent["kind"], parent["name"] if parent["kind"] == "Service" else "")
                for parent in route["spec"].get("parentRefs") or []
            }
            if (("Service", service) if inside else ("Gateway", "")) not in parents:
                continue
            best: tuple[tuple[int, int], Object] | None = None
            for rule in route["spec"].get("rules") or []:
                if not any(
                    services.get(backend["name"], {}).items() >= pods.items()
                    for backend in rule.get("backendRefs") or []
                ):
                    continue
                ranks = [
                    rank
                    for match in rule["matches"]
                    if (rank := _rank(match, headers or {}, query or {})) is not None
                ]
                if ranks and (best is None or max(ranks) > best[0]):
                    best = max(ranks), rule
            if best is not None:
                refs = best[1]["backendRefs"]
                total = sum(ref["weight"] for ref in refs) or 1
                return [
                    (ref["weight"] / total, ref["name"], services.get(ref["name"])) for ref in refs
                ], _copied(best[1], services)
    return None


def _rank(match: Object, headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[int, int] | None:
    """How many conditions a match has, None where it does not take the requests."""
    wanted = match.get("headers") or [], match.get("queryParams") or []
    fits = all(
        _fits(condition, there)
        for ones, there in zip(wanted, (headers, query), strict=True)
        for condition in ones
    )
    return (
        (len(wanted[0]), len(wanted[1]))
        if fits and match["path"]["value"] == "/" and not match.get("method")
        else None
    )


def _fits(condition: Object, there: Mapping[str, str]) -> bool:
    value = there.get(condition["name"])
    if value is None or condition.get("type", "Exact") == "Exact":
        return bool(value == condition["value"])
    return re.fullmatch(condition["value"], value) is not None


def _copied(rule: Object, services: Mapping[str, Mapping[str, str]]) -> Part | None:
    for mirror in (
        filter_["requestMirror"] for filter_ in rule.get("filters") or [] if filter_.get("requestMirror")
    ):
        part = mirror.get("fraction") or {"numerator": mirror.get("percent", 100)}
        name = mirror["backendRef"]["name"]
        return part["numerator"] / part.get("denominator", 100), name, services.get(name)
    return None


def take_over(store: Store, service: str, namespace: str, version: str = "v1") -> Object:
    """What a person does who moves the worked example to the Gateway API; the HTTPRoute, which leads to a
    Service of one version."""
    for resource, name in ((VIRTUALSERVICES, "sockshop"), (DESTINATIONRULES, service)):
        store.delete(resource, namespace, name)
    try:
        store.create(DEFINITIONS, None, DEFINITION)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    labels, name = {"app": service, "version": version}, f"{service}-{version}"
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]
    store.create(
        SERVICES,
        namespace,
        {"metadata": {"name": name, "labels": labels}, "spec": {"selector": labels, "ports": ports}},
    )
    parents: list[Object] = [
        {"name": "sockshop-gateway"},
        {"group": "", "kind": "Service", "name": service, "port": 80},
    ]
    spec = {
        "parentRefs": parents,
        "rules": [{"backendRefs": [{"name": name, "port": 80}], "timeouts": {"request": "7s"}}],
    }
    return store.create(HTTPROUTES, namespace, {"metadata": {"name": "sockshop"}, "spec": spec})
