"""A namespace's objects for a deploy: read whole, created by the server's own rules, never overwritten.

What cannot be read by the way (no right to, not installed) is noted and left out. Of Secrets only the names
of their keys leave this file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from canaryd.adapters.kube.canaryrollout_object import API_VERSION, KIND, PLURAL
from canaryd.adapters.kube.client import Json, KubernetesApi, path_to
from canaryd.adapters.kube.deployments import workload
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.adapters.kube.virtualservice import GROUP
from canaryd.domain.namespace_objects import (
    VERSION_LABEL,
    Deployed,
    DeploymentSelector,
    Manifest,
    NamespaceObjects,
    RecordedRollout,
)
from canaryd.domain.ports import Forbidden, Missing, Rejected, Workload
from canaryd.domain.rollout import Phase
from canaryd.routing.documents import GATEWAY_API

# Kind -> apiVersion and plural. All of them are in a namespace but those in _OF_THE_CLUSTER.
_KINDS = {
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Deployment": ("apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "PriorityClass": ("scheduling.k8s.io/v1", "priorityclasses"),
    "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses"),
}
_OF_THE_CLUSTER = ("PriorityClass", "RuntimeClass")
_STEERING = {
    "VirtualService": (GROUP, "virtualservices"),
    "DestinationRule": (GROUP, "destinationrules"),
    "HTTPRoute": (GATEWAY_API, "httproutes"),
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")
_HASH = "pod-template-hash"


class KubeObjects:
    """Implements the port `Objects` on one namespace of an API server."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    def read(self) -> NamespaceObjects:
        """See `Objects.read`."""
        self._check_namespace()
        unreadable: dict[str, str] = {}
        listed = {
            kind: self._optional(kind, *_KINDS[kind], unreadable)
            for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget")
        }
        listed |= {
            kind: self._steering(kind, group, plural, unreadable)
            for kind, (group, plural) in _STEERING.items()
        }
        notes, paused = self._notes()
        return NamespaceObjects(
            namespace=self.namespace,
            deployments=[
                Deployed(deployment, workload(deployment, VERSION_LABEL))
                for deployment in self._list("Deployment", *_KINDS["Deployment"])
            ],
            services=self._list("Service", *_KINDS["Service"]),
            autoscalers=listed["HorizontalPodAutoscaler"],
            budgets=listed["PodDisruptionBudget"],
            virtual_services=listed["VirtualService"],
            rules=listed["DestinationRule"],
            http_routes=listed["HTTPRoute"],
            rollouts=self._rollouts(unreadable),
            notes=notes,
            paused=paused,
            unreadable=unreadable,
        )

    def state(self, deployment: str) -> Workload:
        """See `Objects.state`."""
        return workload(self._api.request("GET", self._path("Deployment", deployment)), VERSION_LABEL)

    def keys(self, kind: str, name: str) -> frozenset[str] | None:
        """See `Objects.keys`."""
        try:
            found = self._api.request("GET", self._path(kind, name))
        except Forbidden:
            return None
        return (
            frozenset([*(found.get("data") or {}), *(found.get("binaryData") or {})])
            if kind in ("ConfigMap", "Secret")
            else frozenset()
        )

    def config_map(self, name: str) -> Manifest:
        """See `Objects.config_map`."""
        return self._api.request("GET", self._path("ConfigMap", name))

    def digests(self, deployment: Deployed) -> Mapping[str, frozenset[str]]:
        """See `Objects.digests`."""
        selector = (deployment.manifest["spec"].get("selector") or {}).get("matchLabels") or {}
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())}
        pods = self._api.request("GET", path_to("v1", "pods", self.namespace), query=query).get("items") or []
        found: dict[str, set[str]] = {}
        for pod in pods:
            # In a rolling update, or with a wider selector, there are pods of other templates.
            specified = {
                container["name"]: container.get("image")
                for part in ("initContainers", "containers")
                for container in pod["spec"].get(part) or []
            }
            if any(specified.get(name) != image for name, image in deployment.images.items()):
                continue
            status = pod.get("status") or {}
            for container in [
                *(status.get("initContainerStatuses") or []),
                *(status.get("containerStatuses") or []),
            ]:
                if match := _DIGEST.search(str(container.get("imageID") or "")):
                    found.setdefault(container["name"], set()).add(match[0])
        return {name: frozenset(digests) for name, digests in found.items() if name in deployment.images}

    def create(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """See `Objects.create`. Raises Forbidden, and what the port raises."""
        version, plural = _KINDS[manifest["kind"]]
        query = {"fieldManager": "canaryd-deploy", "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        try:
            return self._api.request("POST", path_to(version, plural, self.namespace), manifest, query=query)
        except Forbidden as error:
            raise Forbidden(
                f"this user may not create {plural} in {self.namespace}, which a deploy has to: {error}"
            ) from error

    def _check_namespace(self) -> None:
        try:
            self._api.request("GET", path_to("v1", "namespaces", name=self.namespace))
        except Forbidden:
            return  # a right on the whole cluster that few have; what is missing shows in what follows
        except Missing as error:
            raise Missing(
                f"there is no namespace {self.namespace} at {self._api.server} ({error})"
            ) from error

    def _path(self, kind: str, name: str) -> str:
        version, plural = _KINDS[kind]
        return path_to(version, plural, None if kind in _OF_THE_CLUSTER else self.namespace, name)

    def _list(self, kind: str, version: str, plural: str) -> list[Json]:
        """All objects of a kind; items of a list have no kind of their own."""
        items = self._api.request("GET", path_to(version, plural, self.namespace)).get("items") or []
        return [{**item, "apiVersion": version, "kind": kind} for item in items]

    def _optional(self, kind: str, version: str, plural: str, unreadable: dict[str, str]) -> list[Json]:
        try:
            return self._list(kind, version, plural)
        except Forbidden as error:
            unreadable[kind] = str(error)
        except Missing:  # an API that this cluster has not: there can be none
            pass
        return []

    def _steering(self, kind: str, group: str, plural: str, unreadable: dict[str, str]) -> list[Json]:
        try:
            version = self._api.preferred_version(group)
        except Missing:
            return []  # no Istio, or no Gateway API: no routes
        return self._optional(kind, f"{group}/{version}", plural, unreadable)

    def _notes(self) -> tuple[Mapping[str, DeploymentSelector], frozenset[str]]:
        """How canaryd finds each service it has seen here, and those that are paused; nothing where that may
        not be read."""
        try:
            notes = KubeServices(self._api).notes(self.namespace)
        except Rejected:
            return {}, frozenset()
        return (
            {
                note.service: DeploymentSelector(note.selector, note.version_label)
                for note in notes
                if note.selector
            },
            frozenset(note.service for note in notes if note.paused),
        )

    def _rollouts(self, unreadable: dict[str, str]) -> Sequence[RecordedRollout]:
        """Those of this namespace's services, oldest first; refused requests are none. A bracket's record may
        be in another namespace."""
        found = self._optional(KIND, API_VERSION, PLURAL, unreadable)
        with suppress(Forbidden, Missing):
            everywhere = self._api.request("GET", path_to(API_VERSION, PLURAL)).get("items") or []
            found += [record for record in everywhere if record["metadata"]["namespace"] != self.namespace]
        found.sort(key=lambda obj: str(obj["metadata"].get("creationTimestamp")))
        return [
            part
            for record in found
            if not (record.get("status") or {}).get("refused")
            for part in _on_record(record, self.namespace)
        ]


def _on_record(obj: Json, namespace: str) -> Iterator[RecordedRollout]:
    """Of each service of the rollout that is in a namespace."""
    name, spec, status = obj["metadata"]["name"], obj.get("spec") or {}, obj.get("status") or {}
    phase = next((known for known in Phase if known.value == status.get("phase")), None)
    if obj["metadata"]["namespace"] == namespace:
        yield RecordedRollout(
            name,
            str(spec.get("service", "")),
            str(spec.get("version", "")),
            str(status.get("stableWorkload") or ""),
            phase,
        )
    for part in status.get("others") or []:
        if part.get("namespace") == namespace:
            yield RecordedRollout(
                name,
                str(part.get("service", "")),
                str(part.get("canary", "")),
                str(part.get("stableWorkload") or ""),
                phase,
            )
