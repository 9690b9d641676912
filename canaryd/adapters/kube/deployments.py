"""The Deployments of a service: which version each runs, whether it serves, and why it will not.

Reads whole Deployments and writes nothing but a replica count, through the scale subresource.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from canaryd.adapters.kube.client import MERGE_PATCH, Json, KubernetesApi, path_to
from canaryd.domain.pod_template import template_hash
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Workload

IGNORE = "canaryd.dev/ignore"


class KubeWorkloads:
    """Implements the port `Workloads` on the API server."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def list(self, policy: Policy) -> Sequence[Workload]:
        """The Deployments whose pod template has the policy's selector and a version label, oldest first."""
        service = policy.service
        return self.select(service.namespace, service.selector, service.version_label)

    def select(self, namespace: str, selector: Mapping[str, str], version_label: str) -> Sequence[Workload]:
        """The same without a policy, for verbs that have none at hand. Raises Unavailable, Rejected."""
        # No label selector for the server: it would ask for the Deployment's own labels, and only the
        # template's are sure.
        found = self._api.request("GET", path_to("apps/v1", "deployments", namespace)).get("items") or []
        workloads = [
            workload(deployment, version_label)
            for deployment in found
            if _is_one(deployment, selector, version_label)
        ]
        return sorted(workloads, key=lambda found: (found.created, found.name))

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        """Sets the replica count. Raises Missing when the Deployment is gone."""
        path = path_to("apps/v1", "deployments", namespace, name, "scale")
        self._api.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE_PATCH)


def workload(deployment: Json, version_label: str) -> Workload:
    """One Deployment, as the API server gives it, in the domain's words. See `Workload`.

    Available is only what is available with the template as it now is: in the middle of a rolling update old
    pods may well serve, and prove nothing about the new ones.
    """
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    labels = _labels(deployment)
    desired = int(spec.get("replicas", 1))
    observed = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    updated, replicas = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    ready = int(status.get("readyReplicas") or 0)
    serves = _holds(conditions, "Available") and int(status.get("availableReplicas") or 0) > 0
    available = desired > 0 and observed and serves and 0 < updated == replicas
    return Workload(
        name=metadata["name"],
        version=labels.get(version_label, ""),
        template=template_hash(spec["template"]),
        desired=desired,
        ready=ready,
        available=available,
        failed="" if available or not desired or not observed else _failure(conditions),
        ignored=(metadata.get("annotations") or {}).get(IGNORE) == "true",
        created=_seconds(metadata.get("creationTimestamp")),
        selector=labels,
    )


def _failure(conditions: Mapping[str, Json]) -> str:
    """Why it will not become available by itself, or "".

    Only a missed progress deadline says so. A ReplicaFailure alone (a quota, an admission webhook that is
    down) may pass: the controller goes on trying, and the deadline ends that too; then its message is the
    better explanation.
    """
    progressing = conditions.get("Progressing", {})
    if progressing.get("status") != "False" or progressing.get("reason") != "ProgressDeadlineExceeded":
        return ""
    cause = conditions["ReplicaFailure"].get("message", "") if _holds(conditions, "ReplicaFailure") else ""
    reason = str(progressing.get("message") or "its progress deadline is exceeded")
    return f"{reason} ({cause})" if cause else reason


def _holds(conditions: Mapping[str, Json], kind: str) -> bool:
    return bool(conditions.get(kind, {}).get("status") == "True")


def _is_one(deployment: Json, selector: Mapping[str, str], version_label: str) -> bool:
    labels = _labels(deployment)
    return selector.items() <= labels.items() and bool(labels.get(version_label))


def _labels(deployment: Json) -> dict[str, str]:
    return dict((deployment["spec"]["template"].get("metadata") or {}).get("labels") or {})


def _seconds(timestamp: str | None) -> float:
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
