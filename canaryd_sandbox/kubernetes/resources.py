"""Which resources the sandbox's Kubernetes API serves, under which names, and how it tells that something is
wrong.

A table and its look-ups. Adding a resource is adding a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON gives it."""


class ApiError(Exception):
    """A refusal as a Kubernetes API server words it: HTTP code, `reason`, message and details of a Status
    object."""

    def __init__(
        self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, dict(details or {})

    def status(self) -> Object:
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        return (
            status
            | {"reason": self.reason, "code": self.code}
            | ({"details": self.details} if self.details else {})
        )


@dataclass(frozen=True)
class Resource:
    """One served resource. The first of `versions` is the one its objects are kept in; all others are views
    of the same objects."""

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    status: bool = False  # has a status subresource: the main one never writes status
    scale: bool = False  # has a scale subresource
    generation: bool = False  # metadata.generation counts changes of all but metadata and status
    unconditional: bool = True  # PUT without resourceVersion is allowed; never for custom resources
    asked: bool = False  # a question: it is POSTed, answered, and never kept
    kept_as: tuple[str, str] | None = None  # (group, plural) of the resource whose objects these are

    @property
    def custom(self) -> bool:
        """Defined by a CustomResourceDefinition: no strategic merge patch."""
        return self.group in (ISTIO[0], "telemetry.istio.io", GATEWAY_API, "canaryd.dev")

    @property
    def key(self) -> tuple[str, str]:
        return self.kept_as or (self.group, self.plural)

    @property
    def qualified(self) -> str:
        """As error messages name it: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version


def _custom(group: str, versions: tuple[str, ...], plural: str, kind: str, *short: str) -> Resource:
    return Resource(
        group, versions, plural, kind, short=short, status=True, generation=True, unconditional=False
    )


ISTIO = ("networking.istio.io", ("v1", "v1beta1", "v1alpha3"))
GATEWAY_API = "gateway.networking.k8s.io"
RESOURCES = (
    Resource("", ("v1",), "namespaces", "Namespace", namespaced=False, short=("ns",), status=True),
    Resource("", ("v1",), "configmaps", "ConfigMap", short=("cm",)),
    Resource("", ("v1",), "secrets", "Secret"),
    Resource("", ("v1",), "serviceaccounts", "ServiceAccount", short=("sa",)),
    Resource("", ("v1",), "persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",), status=True),
    Resource("", ("v1",), "events", "Event", short=("ev",)),
    Resource("", ("v1",), "pods", "Pod", short=("po",), status=True),
    Resource("", ("v1",), "services", "Service", short=("svc",), status=True),
    Resource(
        "apps",
        ("v1",),
        "deployments",
        "Deployment",
        short=("deploy",),
        status=True,
        scale=True,
        generation=True,
    ),
    Resource(
        "autoscaling",
        ("v2",),
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        short=("hpa",),
        status=True,
    ),
    Resource(
        "policy",
        ("v1",),
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short=("pdb",),
        status=True,
        generation=True,
    ),
    Resource(
        "scheduling.k8s.io", ("v1",), "priorityclasses", "PriorityClass", namespaced=False, short=("pc",)
    ),
    Resource("node.k8s.io", ("v1",), "runtimeclasses", "RuntimeClass", namespaced=False),
    Resource("events.k8s.io", ("v1",), "events", "Event", short=("ev",), kept_as=("", "events")),
    _custom(*ISTIO, "virtualservices", "VirtualService", "vs"),
    _custom(*ISTIO, "destinationrules", "DestinationRule", "dr"),
    _custom(*ISTIO, "gateways", "Gateway", "gw"),
    _custom(GATEWAY_API, ("v1", "v1beta1"), "httproutes", "HTTPRoute"),
    _custom("telemetry.istio.io", ("v1", "v1alpha1"), "telemetries", "Telemetry", "telemetry"),
    _custom("canaryd.dev", ("v1alpha1",), "canaryrollouts", "CanaryRollout", "cro"),
    Resource(
        "apiextensions.k8s.io",
        ("v1",),
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short=("crd", "crds"),
        status=True,
        generation=True,
        unconditional=False,
    ),
    Resource("coordination.k8s.io", ("v1",), "leases", "Lease", unconditional=False),
    Resource(
        "admissionregistration.k8s.io",
        ("v1",),
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        namespaced=False,
        generation=True,
    ),
    Resource(
        "authorization.k8s.io",
        ("v1",),
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        asked=True,
    ),
    Resource(
        "authorization.k8s.io",
        ("v1",),
        "subjectaccessreviews",
        "SubjectAccessReview",
        namespaced=False,
        asked=True,
    ),
    Resource(
        "authentication.k8s.io",
        ("v1",),
        "selfsubjectreviews",
        "SelfSubjectReview",
        namespaced=False,
        asked=True,
    ),
)
REVIEWS = [resource for resource in RESOURCES if resource.asked]
(
    PODS,
    SERVICES,
    DEPLOYMENTS,
    NAMESPACES,
    VIRTUALSERVICES,
    DESTINATIONRULES,
    GATEWAYS,
    HTTPROUTES,
    DEFINITIONS,
    WEBHOOKS,
) = (
    next(r for r in RESOURCES if r.plural == plural)
    for plural in (
        "pods",
        "services",
        "deployments",
        "namespaces",
        "virtualservices",
        "destinationrules",
        "gateways",
        "httproutes",
        "customresourcedefinitions",
        "mutatingwebhookconfigurations",
    )
)
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]

# The same event in both of its APIs: core/v1 name, events.k8s.io/v1 name.
EVENT_NAMES = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("reportingComponent", "reportingController"),
)


@dataclass(frozen=True)
class Target:
    """What one request is about."""

    resource: Resource
    version: str
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None


def locate(path: str) -> Target | None:
    """The target that a URL path names, None for one that this server does not have."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    for resource in RESOURCES:
        if (
            (resource.group, resource.plural) == (group, rest[0])
            and version in resource.versions
            and len(rest) <= 3
        ):
            break
    else:
        return None
    name = rest[1] if len(rest) > 1 else None
    subresource = rest[2] if len(rest) > 2 else None
    known = {"status": resource.status, "scale": resource.scale}
    if (subresource and not known.get(subresource)) or (name and resource.namespaced and namespace is None):
        return None
    if namespace is not None and not resource.namespaced:
        return None
    return Target(resource, version, namespace, name, subresource)


def served(path: str) -> bool:
    """Whether a path lies in a group and version that this server has."""
    parts = [part for part in path.split("/") if part]
    return parts[:2] == ["api", "v1"] or (
        parts[:1] == ["apis"] and len(parts) > 2 and parts[2] in group_versions().get(parts[1], [])
    )


def shown(obj: Object, resource: Resource, version: str) -> Object:
    """A kept object as this API group and version show it; the kept one is not changed."""
    view = {**obj, "apiVersion": resource.api_version(version), "kind": resource.kind}
    if resource.kept_as:
        for core, newer in EVENT_NAMES:
            if core in view:
                view[newer] = view.pop(core)
    return view


def kept(obj: Object, resource: Resource) -> Object:
    """An object as sent, in the shape it is kept in."""
    view = dict(obj)
    if resource.kept_as:
        for core, newer in EVENT_NAMES:
            if newer in view:
                view[core] = view.pop(newer)
    return view


def group_versions() -> dict[str, list[str]]:
    """The named API groups and their versions, preferred first."""
    groups: dict[str, list[str]] = {}
    for resource in RESOURCES:
        if resource.group:
            versions = groups.setdefault(resource.group, [])
            versions += [v for v in resource.versions if v not in versions]
    return groups


def _group(name: str, versions: list[str]) -> Object:
    offered = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": offered, "preferredVersion": offered[0]}


def discovery(path: str) -> Object | None:
    """The discovery document at a path, None where there is none."""
    parts = [part for part in path.split("/") if part]
    groups = group_versions()
    if parts == ["version"]:
        return {
            "major": "1",
            "minor": "36",
            "gitVersion": "v1.36.0-sandbox",
            "platform": "sandbox/any",
            "goVersion": "none",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "compiler": "none",
        }
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(name, versions) for name, versions in groups.items()],
        }
    if len(parts) == 2 and parts[0] == "apis" and parts[1] in groups:
        return {"kind": "APIGroup", "apiVersion": "v1"} | _group(parts[1], groups[parts[1]])
    if len(parts) == 2 and parts[0] == "api" and parts[1] == "v1":
        return _resource_list("", "v1")
    if len(parts) == 3 and parts[0] == "apis" and parts[2] in groups.get(parts[1], []):
        return _resource_list(parts[1], parts[2])
    return None


def _resource_list(group: str, version: str) -> Object:
    listed: list[Object] = []
    for r in RESOURCES:
        if r.group != group or version not in r.versions:
            continue
        row: Object = {
            "name": r.plural,
            "singularName": r.kind.lower(),
            "namespaced": r.namespaced,
            "kind": r.kind,
            "verbs": ["create"] if r.asked else VERBS,
        }
        listed.append(row | ({"shortNames": list(r.short)} if r.short else {}))
        if r.status:
            listed.append({**row, "name": f"{r.plural}/status", "verbs": ["get", "patch", "update"]})
        if r.scale:
            listed.append(
                {
                    **row,
                    "name": f"{r.plural}/scale",
                    "group": "autoscaling",
                    "version": "v1",
                    "kind": "Scale",
                    "verbs": ["get", "patch", "update"],
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }
