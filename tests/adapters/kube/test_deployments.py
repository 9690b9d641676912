"""Which Deployments are a service's, when they count as available, and when two templates are the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from canaryd.adapters.kube.deployments import KubeWorkloads, workload
from canaryd.domain.pod_template import template_hash
from canaryd.domain.ports import Missing
from tests.adapters.kube.api_servers import Place


def a_template(version: str = "v2", **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "front-end", "version": version}},
        "spec": {
            "containers": [
                {"name": "front-end", "image": "front-end:2", "ports": [{"containerPort": 8080}], **container}
            ]
        },
    }


def a_deployment(desired: int = 2, **changes: Any) -> dict[str, Any]:
    """Available, with two replicas of the present template. changes: of its status; `conditions` as type ->
    (status, reason, message)."""
    conditions = {
        "Available": ("True", "", ""),
        "Progressing": ("True", "NewReplicaSetAvailable", ""),
        **changes.pop("conditions", {}),
    }
    counts = {
        "observedGeneration": 3,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        **changes,
    }
    return {
        "metadata": {"name": "front-end-v2", "generation": 3, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"replicas": desired, "template": a_template()},
        "status": {
            **counts,
            "conditions": [
                {"type": kind, "status": s, "reason": r, "message": m}
                for kind, (s, r, m) in conditions.items()
            ],
        },
    }


def available(**changes: Any) -> bool:
    return workload(a_deployment(**changes), "version").available


def test_a_deployment_is_read_whole() -> None:
    found = workload(a_deployment(), "version")
    assert (found.name, found.version, found.desired, found.ready, found.available, found.failed) == (
        "front-end-v2",
        "v2",
        2,
        2,
        True,
        "",
    )
    assert found.created == 1767323045.0
    assert found.selector == {"app": "front-end", "version": "v2"}
    assert found.template == template_hash(a_template())


def test_it_is_not_available_before_its_controller_has_seen_the_present_template() -> None:
    assert not available(observedGeneration=2)


def test_it_is_not_available_in_the_middle_of_a_rolling_update() -> None:
    assert not available(replicas=3, updatedReplicas=1)
    assert not available(updatedReplicas=0)


def test_it_is_not_available_when_its_own_condition_says_so() -> None:
    crashed = workload(
        a_deployment(readyReplicas=0, availableReplicas=0, conditions={"Available": ("False", "", "")}),
        "version",
    )
    assert (crashed.available, crashed.failed, crashed.ready, crashed.desired) == (False, "", 0, 2)


def test_scaled_to_zero_it_is_neither_available_nor_failed() -> None:
    none = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 0)
    found = workload(
        a_deployment(0, **none, conditions={"Progressing": ("False", "ProgressDeadlineExceeded", "late")}),
        "version",
    )
    assert (found.available, found.failed, found.desired) == (False, "", 0)


def test_a_missed_progress_deadline_is_a_failure_with_its_cause() -> None:
    late = {
        "Available": ("False", "", ""),
        "Progressing": ("False", "ProgressDeadlineExceeded", "has timed out progressing."),
    }
    assert workload(a_deployment(conditions=late), "version").failed == "has timed out progressing."
    refused = {**late, "ReplicaFailure": ("True", "FailedCreate", "exceeded quota")}
    assert (
        workload(a_deployment(conditions=refused), "version").failed
        == "has timed out progressing. (exceeded quota)"
    )


def test_pods_that_cannot_be_created_yet_are_no_failure_before_the_deadline() -> None:
    refused = {"Available": ("False", "", ""), "ReplicaFailure": ("True", "FailedCreate", "webhook is down")}
    assert workload(a_deployment(conditions=refused), "version").failed == ""


def test_the_annotation_keeps_a_deployment_out() -> None:
    deployment = a_deployment()
    deployment["metadata"]["annotations"] = {"canaryd.dev/ignore": "true"}
    assert workload(deployment, "version").ignored


def test_a_restart_does_not_make_a_new_template() -> None:
    restarted = a_template()
    restarted["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    assert template_hash(restarted) == template_hash(a_template())


@pytest.mark.parametrize(
    "change",
    [
        {"image": "front-end:3"},
        {"env": [{"name": "A", "value": "1"}]},
        {"imagePullPolicy": "Always"},
        {"ports": [{"containerPort": 8080, "protocol": "UDP"}]},
        {"args": [""]},
        {"readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 5}},
    ],
)
def test_whatever_changes_the_pods_makes_a_new_template(change: dict[str, Any]) -> None:
    assert template_hash(a_template(**change)) != template_hash(a_template())


def test_labels_and_annotations_count_even_when_empty() -> None:
    labelled = a_template()
    labelled["metadata"]["labels"]["marked"] = ""
    assert template_hash(labelled) != template_hash(a_template())


def test_an_empty_selector_is_told_from_none() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    one, other = a_template(), a_template()
    one["spec"]["topologySpreadConstraints"] = [spread]
    other["spec"]["topologySpreadConstraints"] = [{**spread, "labelSelector": {}}]
    assert template_hash(one) != template_hash(other)


def manifest(name: str, template: dict[str, Any]) -> dict[str, Any]:
    spec = {"replicas": 1, "selector": {"matchLabels": template["metadata"]["labels"]}, "template": template}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_deployments_are_found_by_the_labels_of_their_pods(place: Place) -> None:
    other = a_template()
    other["metadata"]["labels"]["app"] = "carts"
    unversioned = a_template()
    del unversioned["metadata"]["labels"]["version"]
    for name, template in {
        "front-end-v2": a_template(),
        "carts": other,
        "front-end-old": unversioned,
    }.items():
        place.put("apps/v1", "deployments", manifest(name, template))
    assert [one.name for one in KubeWorkloads(place.api).list(place.policy())] == ["front-end-v2"]


def test_what_the_server_fills_in_does_not_make_a_new_template(place: Place) -> None:
    probe = {"httpGet": {"path": "/health", "port": 8080}}
    field = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    template = a_template(
        readinessProbe=probe, env=[field], resources={"limits": {"cpu": "1"}}, image="registry:5000/front-end"
    )
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}]
    template["spec"] |= {"serviceAccountName": "front-end", "volumes": volumes}
    sent = copy.deepcopy(template)
    place.put("apps/v1", "deployments", manifest("front-end-v2", template))
    stored = place.get("apps/v1", "deployments", "front-end-v2")["spec"]["template"]
    assert not place.is_real or stored != sent
    [found] = KubeWorkloads(place.api).list(place.policy())
    assert found.template == template_hash(sent)


def test_scaling_changes_the_replica_count_and_nothing_else(place: Place) -> None:
    before = place.put("apps/v1", "deployments", manifest("front-end-v2", a_template()))
    KubeWorkloads(place.api).scale(place.namespace, "front-end-v2", 0)
    after = place.get("apps/v1", "deployments", "front-end-v2")
    assert after["spec"] == {**before["spec"], "replicas": 0}
    with pytest.raises(Missing):
        KubeWorkloads(place.api).scale(place.namespace, "none", 0)
