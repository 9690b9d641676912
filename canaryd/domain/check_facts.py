"""The facts that `canaryd check` judges: objects of a cluster or of files, what Prometheus answered, and who
may do what.

Records only. What could not be seen says why, so that a check can tell "wrong" from "not known".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import RouteView

Object = Mapping[str, Any]
"""A Kubernetes object as JSON gives it."""
# Deployments by what they are, wherever they run: istiod's, and canaryd's own.
CONTROL_PLANE, DAEMON = "Deployment of Istio", "Deployment of canaryd"

# Kind -> the API group that it is meant of: other groups have kinds of these names too, such as the Gateway
# API's Gateway and Knative's Service.
GROUPS = {
    "Service": "",
    "Deployment": "apps",
    "VirtualService": "networking.istio.io",
    "DestinationRule": "networking.istio.io",
    "Gateway": "networking.istio.io",
    "HTTPRoute": "gateway.networking.k8s.io",
    "CanaryRollout": "canaryd.dev",
    "Telemetry": "telemetry.istio.io",
    "Application": "argoproj.io",
    "Rollout": "argoproj.io",
    "Canary": "flagger.app",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of one kind. problem: why they could not be read, or not all of them; served: whether the
    API server has the kind."""

    items: Sequence[Object] = ()
    problem: str = ""
    served: bool = True


@dataclass(frozen=True, slots=True)
class Right:
    """What RBAC is asked about. resource: with its subresource, as in `deployments/scale`; namespace "": in
    all of them. why: what it is for, which makes no other right of it."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do. who: its name, "" for the caller; problem: why it could not be asked."""

    who: str = ""
    may: Mapping[Right, bool] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ScrapedSeries:
    """One series of istio_requests_total: its labels, and the Unix seconds of its samples within the
    window."""

    labels: Mapping[str, str]
    times: Sequence[float]


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What Prometheus has of a policy's alerts. firing: those that fire now, by name and labels. rules: of
    each alerting rule its name (`alertname`) and the labels that it sets; None where that is not told.
    problem: why it is not known what fires."""

    firing: tuple[str, ...] = ()
    rules: tuple[Mapping[str, str], ...] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """What Prometheus has of one service.

    reporters: (reporter, workload) -> requests counted so far. series: those of the policy's reporter.
    bounds, sums: of the duration histogram: its buckets' `le`, and whether it has a sum. elsewhere: where
    there is nothing, the namespaces of which there is something. queries: name of a policy's query -> ""
    where it has a value, else why not. alerts: None where the policy has none. problem: what it said instead
    of an answer.
    """

    reporters: Mapping[tuple[str, str], float] = field(default_factory=dict)
    series: Sequence[ScrapedSeries] = ()
    bounds: frozenset[str] = frozenset()
    sums: bool = False
    elsewhere: Sequence[str] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    alerts: AlertFacts | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TelemetryFacts:
    """url: as shown to people; scrape_interval, window: s, the configured one and how far back was looked;
    clock: Prometheus' own, Unix seconds, where it says so, when it was `asked` by this machine's; problem:
    why it does not answer; refused: whether that was an answer, and no."""

    url: str
    version: str = ""
    scrape_interval: float = 15.0
    window: float = 60.0
    clock: float | None = None
    asked: float = 0.0
    services: Mapping[NamespacedName, ServiceCounts] = field(default_factory=dict)
    problem: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class ManifestMistake:
    """A mistake of a file's indentation. found: what stands there; mended: the whole document as it was
    probably meant, as YAML."""

    file: str
    line: int
    about: str
    found: str
    mended: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a check may look at.

    kinds: kind -> its objects, of the namespaces that matter; groups: API group -> its served versions;
    routes: each service's as the daemon reads them, or the daemon's words on why it cannot. pods_of_gateways:
    (namespace, name) of a Gateway -> its pods. left_out: VirtualServices in files of which no policy could be
    made, each with the reason. places: kind, namespace and name -> file and line. here, server_clock: Unix
    seconds, of this machine and of the API server at the same time.
    """

    policies: Sequence[Policy] = ()
    kinds: Mapping[str, Listing] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    routes: Mapping[NamespacedName, RouteView | str] = field(default_factory=dict)
    pods_of_gateways: Mapping[NamespacedName, Listing] = field(default_factory=dict)
    rights: Sequence[Rights] = ()
    telemetry: TelemetryFacts | None = None
    flaws: Sequence[ManifestMistake] = ()
    left_out: Sequence[tuple[Object, str]] = ()
    places: Mapping[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)
    domain: str = "cluster.local"
    server: str = ""
    server_version: str = ""
    here: float = 0.0
    server_clock: float | None = None

    @property
    def offline(self) -> bool:
        """Whether all there is comes from files."""
        return not self.server

    def of(self, kind: str) -> Listing:
        """The objects of a kind; marked as not served where the kind was not looked at."""
        return self.kinds.get(kind, Listing(served=False))

    def within(self, kind: str, namespace: str) -> list[Object]:
        """The objects of a kind in one namespace."""
        return [obj for obj in self.of(kind).items if namespace_of(obj) == namespace]

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object of this kind, namespace and name; None where it was not found."""
        return next((obj for obj in self.within(kind, namespace) if name_of(obj) == name), None)


def name_of(obj: Object) -> str:
    """The name of an object; "" where it has none."""
    return str((obj.get("metadata") or {}).get("name") or "")


def namespace_of(obj: Object) -> str:
    """The namespace of an object; "" where it is in none."""
    return str((obj.get("metadata") or {}).get("namespace") or "")


def labels_of(obj: Object) -> Mapping[str, str]:
    """The labels of an object."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    """The annotations of an object."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def spec_of(obj: Object) -> Mapping[str, Any]:
    """The `spec` of an object; empty where it has none."""
    return obj.get("spec") or {}


def template_of(deployment: Object) -> Object:
    """A Deployment's pod template, which has metadata and spec as a pod has."""
    return spec_of(deployment).get("template") or {}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One YAML document of a file. line: its first, from 1; data: what it says, None where it cannot be read;
    error: why, with its line."""

    file: str
    line: int
    text: str
    data: Any = None
    error: str = ""
    error_line: int = 0
