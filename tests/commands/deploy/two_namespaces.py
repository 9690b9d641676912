"""Two namespaces as a deploy meets them, whole by default, and the port to them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd.adapters.kube.deployments import workload
from canaryd.domain.namespace_objects import Deployed, Manifest, NamespaceObjects
from canaryd.domain.ports import Conflict, Missing, Workload
from tests.builders import HOST

IMAGE = "registry.example/sockshop/front-end:0.6.0"


def a_deployment(
    name: str = "front-end",
    namespace: str = "staging",
    image: str = IMAGE,
    replicas: int = 2,
    available: bool = True,
    labels: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **pod: Any,
) -> dict[str, Any]:
    """As the API server has it. metadata: more of the Deployment's; spec: more of its; pod: of its pod
    template's spec."""
    labels = {"app": "front-end"} if labels is None else labels
    up = replicas if available else 0
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": "u",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{}],
            **(metadata or {}),
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            **(spec or {}),
            "template": {
                "metadata": {"creationTimestamp": None, "labels": dict(labels)},
                "spec": {
                    "containers": [{"name": "front-end", "image": image, "ports": [{"containerPort": 8080}]}],
                    **pod,
                },
            },
        },
        "status": {
            "observedGeneration": 2,
            "replicas": up,
            "updatedReplicas": up,
            "readyReplicas": up,
            "availableReplicas": up,
            "conditions": [{"type": "Available", "status": "True" if available else "False"}],
        },
    }


def deployed(manifest: Manifest) -> Deployed:
    return Deployed(manifest, workload(dict(manifest), "version"))


def running(*args: Any, **kwargs: Any) -> Deployed:
    return deployed(a_deployment(*args, **kwargs))


def of_production(
    version: str = "v1", image: str = "registry.example/sockshop/front-end:0.5.0", **more: Any
) -> Deployed:
    labels = {"app": "front-end", "version": version}
    return running(f"front-end-{version}", "production", image, **{"replicas": 3, "labels": labels, **more})


def a_service(
    name: str = "front-end",
    namespace: str = "production",
    selector: Mapping[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": dict(selector or {"app": "front-end"}),
            "ports": [{"port": 80, "targetPort": 8080}],
            **spec,
        },
    }


def a_virtual_service(
    *weights: tuple[str, int], match: Any = None, namespace: str = "production"
) -> Manifest:
    """One http route to front-end. weights: subset ("" for none) and share."""
    host = HOST.replace("production", namespace)
    entries = [
        {"destination": {"host": host, **({"subset": subset} if subset else {})}, "weight": weight}
        for subset, weight in weights
    ]
    http = [{"match": match, "route": entries}] if match else [{"route": entries}]
    return {"metadata": {"name": "sockshop", "namespace": namespace}, "spec": {"hosts": ["*"], "http": http}}


def a_rule(*versions: str, namespace: str = "production") -> Manifest:
    return {
        "metadata": {"name": "front-end", "namespace": namespace},
        "spec": {
            "host": "front-end",
            "subsets": [{"name": version, "labels": {"version": version}} for version in versions],
        },
    }


def an_http_route(*weights: tuple[str, int], namespace: str = "production") -> Manifest:
    """weights: Service and weight."""
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in weights]
    return {
        "metadata": {"name": "sockshop", "namespace": namespace},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "front-end"}],
            "rules": [{"backendRefs": refs}],
        },
    }


def staging(*deployments: Deployed, **more: Any) -> NamespaceObjects:
    values: dict[str, Any] = {"services": [a_service(namespace="staging")]}
    return NamespaceObjects("staging", deployments or (running(),), **{**values, **more})


def production(*deployments: Deployed, **more: Any) -> NamespaceObjects:
    """front-end-v1 with all traffic, by subset."""
    values: dict[str, Any] = {
        "services": [a_service()],
        "virtual_services": [a_virtual_service(("v1", 100))],
        "rules": [a_rule("v1")],
    }
    return NamespaceObjects("production", deployments or (of_production(),), **{**values, **more})


def empty(**more: Any) -> NamespaceObjects:
    return NamespaceObjects("production", **more)


def an_autoscaler(name: str = "front-end-v1", target: str = "front-end-v1", **spec: Any) -> Manifest:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "production", "uid": "u"},
        "spec": {"scaleTargetRef": reference, "minReplicas": 3, "maxReplicas": 10, **spec},
        "status": {"currentReplicas": 3},
    }


def a_budget(name: str = "front-end-v1", **labels: str) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "production"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "front-end", **labels}}},
        "status": {},
    }


@dataclass
class FakeObjects:
    """A namespace in memory. holds: (kind, name) -> keys, of what pods may name; hidden: kinds that may not
    be read; refuses: kinds that the server refuses, with its words."""

    place: NamespaceObjects
    holds: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    refuses: dict[str, Exception] = field(default_factory=dict)
    told: dict[str, frozenset[str]] = field(default_factory=dict)
    created: list[Manifest] = field(default_factory=list)
    tried: list[Manifest] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.place.namespace

    def read(self) -> NamespaceObjects:
        return self.place

    def state(self, deployment: str) -> Workload:
        found = self.place.deployment(deployment)
        if found is None:
            raise Missing(deployment)
        return found.state

    def keys(self, kind: str, name: str) -> frozenset[str] | None:
        if kind in self.hidden:
            return None
        if (kind, name) not in self.holds:
            raise Missing(f"{kind} {name}")
        return frozenset(self.holds[kind, name])

    def config_map(self, name: str) -> Manifest:
        if ("ConfigMap", name) not in self.holds:
            raise Missing(name)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace, "uid": "u"},
            "data": self.holds["ConfigMap", name],
        }

    def digests(self, deployment: Deployed) -> Mapping[str, frozenset[str]]:
        return self.told

    def create(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        if manifest["kind"] in self.refuses:
            raise self.refuses[manifest["kind"]]
        key = manifest["kind"], manifest["metadata"]["name"]
        if key in {(one["kind"], one["metadata"]["name"]) for one in self.created} or key in self.holds:
            raise Conflict(f"{key} is there already")
        (self.tried if dry_run else self.created).append(deepcopy(dict(manifest)))
        if not dry_run and manifest["kind"] == "Deployment":
            more = deployed({**manifest, "status": {}})
            self.place = replace(self.place, deployments=(*self.place.deployments, more))
        return manifest
