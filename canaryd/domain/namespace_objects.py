"""The objects of a namespace as a deploy sees them, and the port that reads and creates them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from canaryd.domain.ports import Workload
from canaryd.domain.rollout import Phase

Manifest = Mapping[str, Any]
"""One Kubernetes object, as JSON has it. Never changed in place."""

DEPLOYED_FROM = "canaryd.dev/deployed-from"  # annotation: NAMESPACE/DEPLOYMENT that a Deployment was made of
USUAL_SOURCE, USUAL_TARGET = "staging", "production"  # namespaces
VERSION_LABEL = "version"  # where neither policy nor canaryd's own note says otherwise

# Written by the server, or by its controllers, for the object that it is on.
_OF_THE_SERVER = (
    "deployment.kubernetes.io/",
    "kubectl.kubernetes.io/",
    "autoscaling.alpha.kubernetes.io/",
    "control-plane.alpha.",
)
# By these a GitOps tool or a package manager knows its own objects; a copy that has them would be taken for
# one, and pruned or reverted.
_OF_OWNERS = (
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "helm.toolkit.fluxcd.io/",
    "kustomize.toolkit.fluxcd.io/",
    "fluxcd.io/",
    "objectset.rio.cattle.io/",
    "fleet.cattle.io/",
    "config.k8s.io/",
    "config.kubernetes.io/",
    "internal.config.kubernetes.io/",
    "kapp.k14s.io/",
    "configsync.gke.io/",
    "configmanagement.gke.io/",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "canaryd.dev/",
)


class CannotDeploy(ValueError):
    """Why a version is not deployed, and what to do; `problems` has a sentence for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Deployed:
    """A Deployment as read, and how it stands (`Workload.version` is not told here: which label has it
    differs by service)."""

    manifest: Manifest
    state: Workload

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def namespace(self) -> str:
        """The namespace that the Deployment is in."""
        return str(self.manifest["metadata"]["namespace"])

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod template's."""
        return self.state.selector or {}

    @property
    def template(self) -> Manifest:
        """The pod template."""
        template: Manifest = self.manifest["spec"]["template"]
        return template

    @property
    def images(self) -> Mapping[str, str]:
        """The image of each container, by the container's name."""
        return images(self.template)


@dataclass(frozen=True, slots=True)
class DeploymentSelector:
    """How a service's Deployments are found and told apart."""

    selector: Mapping[str, str]
    version_label: str = VERSION_LABEL


@dataclass(frozen=True, slots=True)
class RecordedRollout:
    """A rollout of one service's version. phase: None while it is only asked for (`canaryd start`), and
    stable_workload "" then."""

    name: str
    service: str
    canary: str
    stable_workload: str
    phase: Phase | None

    @property
    def ended(self) -> bool:
        """Whether the rollout has begun and ended."""
        return self.phase is not None and self.phase.ended


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to be created, and the one there that a reader compares it with."""

    manifest: Manifest
    beside: Manifest | None = None


@dataclass(frozen=True, slots=True)
class NamespaceObjects:
    """One namespace as read. unreadable: kind -> why it could not be listed (no right to, or not installed);
    its list is empty then.

    notes: service -> how canaryd finds it, where canaryd looks after it; paused: those of them that are.
    """

    namespace: str
    deployments: Sequence[Deployed] = ()
    services: Sequence[Manifest] = ()
    autoscalers: Sequence[Manifest] = ()
    budgets: Sequence[Manifest] = ()
    virtual_services: Sequence[Manifest] = ()
    rules: Sequence[Manifest] = ()
    http_routes: Sequence[Manifest] = ()
    rollouts: Sequence[RecordedRollout] = ()
    notes: Mapping[str, DeploymentSelector] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def deployment(self, name: str) -> Deployed | None:
        """The Deployment of this name."""
        return next((deployment for deployment in self.deployments if deployment.name == name), None)

    def service(self, name: str) -> Manifest | None:
        """The Service of this name."""
        return next((service for service in self.services if name_of(service) == name), None)

    def selected(self, selector: Mapping[str, str]) -> list[Deployed]:
        """The Deployments whose pods have all these labels; none for an empty selector, as with a Service."""
        return [
            deployment
            for deployment in self.deployments
            if selector and selector.items() <= deployment.labels.items()
        ]


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that pods name. keys: those that must be in it; optional: pods start without it; used: where,
    in words."""

    kind: str
    name: str
    keys: frozenset[str] = frozenset()
    optional: bool = False
    used: tuple[str, ...] = ()


class NamespaceClient(Protocol):
    """One namespace of one cluster, with the caller's own rights. All raise Unavailable, Rejected."""

    namespace: str

    def read(self) -> NamespaceObjects:
        """What is there. Raises Missing when the namespace is not."""

    def state(self, deployment: str) -> Workload:
        """How a Deployment stands now. Raises Missing."""

    def keys(self, kind: str, name: str) -> frozenset[str] | None:
        """The keys of a ConfigMap or Secret, no keys of anything else; None where it may not be read. Raises
        Missing. Values are never taken."""

    def config_map(self, name: str) -> Manifest:
        """A ConfigMap whole. Raises Missing."""

    def digests(self, deployment: Deployed) -> Mapping[str, frozenset[str]]:
        """Container -> the `sha256:...` digests that the pods of its present template run; empty where none
        is told."""

    def create(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Creates it and never overwrites; as the server has it then. dry_run: checked and filled in by the
        server, and not kept. Raises Conflict when there is one of this name."""


def name_of(obj: Manifest) -> str:
    """The name of an object. Raises KeyError where it has none."""
    return str(obj["metadata"]["name"])


def title_of(obj: Manifest) -> str:
    """`Deployment front-end-v2`."""
    return f"{obj['kind']} {name_of(obj)}"


def images(template: Manifest) -> Mapping[str, str]:
    """Container -> image, of init containers too; without a mesh's sidecars that were written into the
    template."""
    spec = template.get("spec") or {}
    found = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return {
        str(container["name"]): str(container.get("image", ""))
        for container in found
        if not str(container["name"]).startswith("istio-")
    }


def bare(obj: Manifest) -> dict[str, Any]:
    """The object as a person would write it: without status, and without what server, controllers and owners
    wrote into its metadata."""
    metadata = obj["metadata"]
    kept: dict[str, Any] = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    for part in ("labels", "annotations"):
        plain = {
            key: value
            for key, value in (metadata.get(part) or {}).items()
            if not key.startswith((*_OF_THE_SERVER, *_OF_OWNERS))
        }
        kept |= {part: plain} if plain else {}
    rest = {
        key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")
    }
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata": kept, **rest}


def owners(obj: Manifest) -> list[str]:
    """What says that someone keeps this object as it is: keys of labels and annotations, and owners by kind
    and name."""
    metadata = obj["metadata"]
    keys = [
        key
        for part in ("labels", "annotations")
        for key in metadata.get(part) or {}
        if key.startswith(_OF_OWNERS)
    ]
    return [key for key in keys if not key.startswith("canaryd.dev/")] + [
        f"{owner.get('kind')} {owner.get('name')}" for owner in metadata.get("ownerReferences") or []
    ]
