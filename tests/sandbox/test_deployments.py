"""Deployments come up, fail, change and go as the real controllers have it."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd_sandbox.kubernetes.deployment_controller import after_seconds, is_ready
from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, PODS
from canaryd_sandbox.world import NAMESPACE, World


def status(world: World, version: str) -> Any:
    return world.store.get(DEPLOYMENTS, NAMESPACE, f"front-end-{version}").get("status", {})


def condition(world: World, version: str, kind: str) -> tuple[str, str]:
    found = {c["type"]: (c["status"], c["reason"]) for c in status(world, version).get("conditions", [])}
    return found[kind]


def pods(world: World, version: str) -> list[Any]:
    return [pod for pod in world.all_pods() if pod["metadata"]["labels"]["version"] == version]


def steps(world: World, duration: float) -> None:
    world.advance(world.now + duration)


def test_a_new_deployment_is_unavailable_for_a_moment_and_then_available(world: World) -> None:
    world.deploy("v2", replicas=2)
    steps(world, 0.2)
    assert condition(world, "v2", "Available") == ("False", "MinimumReplicasUnavailable")
    assert condition(world, "v2", "Progressing") == ("True", "ReplicaSetUpdated")
    assert status(world, "v2") == {
        **status(world, "v2"),
        "replicas": 2,
        "unavailableReplicas": 2,
        "observedGeneration": 1,
    }
    steps(world, 1)
    assert condition(world, "v2", "Available") == ("True", "MinimumReplicasAvailable")
    assert condition(world, "v2", "Progressing") == ("True", "NewReplicaSetAvailable")
    assert "unavailableReplicas" not in status(world, "v2")
    assert len(world.pods("v2")) == 2


@pytest.mark.parametrize("mode", ["crash-loop", "never-ready"])
def test_one_that_never_becomes_ready_misses_its_deadline(world: World, mode: str) -> None:
    world.deploy("v2", pod=mode, progress_deadline=10)
    steps(world, 9)
    assert condition(world, "v2", "Progressing") == ("True", "ReplicaSetUpdated")
    steps(world, 2)
    assert condition(world, "v2", "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert condition(world, "v2", "Available")[0] == "False"
    waiting = [
        c["state"].get("waiting", {}).get("reason")
        for pod in pods(world, "v2")
        for c in pod["status"]["containerStatuses"]
    ]
    assert waiting == (["CrashLoopBackOff"] if mode == "crash-loop" else [None])
    assert world.pods("v2") == []


def test_one_that_breaks_was_ready_before_and_keeps_its_progress(world: World) -> None:
    world.deploy("v2", pod="breaks", after="10s", progress_deadline=5)
    steps(world, 5)
    assert condition(world, "v2", "Available")[0] == "True"
    steps(world, 8)
    assert condition(world, "v2", "Available") == ("False", "MinimumReplicasUnavailable")
    assert condition(world, "v2", "Progressing") == ("True", "NewReplicaSetAvailable")
    assert pods(world, "v2")[0]["status"]["containerStatuses"][0]["restartCount"] == 5


def test_one_that_is_late_becomes_ready_late(world: World) -> None:
    world.deploy("v2", pod="late", after="5s")
    steps(world, 4)
    assert not any(map(is_ready, pods(world, "v2")))
    steps(world, 2)
    assert all(map(is_ready, pods(world, "v2")))


def test_a_quarter_of_four_may_be_missing(world: World) -> None:
    world.deploy("v2", replicas=4)
    steps(world, 2)
    pod = pods(world, "v2")[0]
    world.store.delete(PODS, NAMESPACE, pod["metadata"]["name"])
    steps(world, 0.1)
    assert condition(world, "v2", "Available")[0] == "True"
    assert status(world, "v2")["unavailableReplicas"] == 1
    steps(world, 1)
    assert len(world.pods("v2")) == 4


def test_scaling_keeps_the_oldest_pods_and_zero_is_available(world: World) -> None:
    names = {pod["metadata"]["name"] for pod in pods(world, "v1")}
    world.scale("v1", 5)
    steps(world, 2)
    world.scale("v1", 3)
    steps(world, 1)
    assert {pod["metadata"]["name"] for pod in pods(world, "v1")} == names
    world.scale("v1", 0)
    steps(world, 1)
    assert pods(world, "v1") == []
    assert condition(world, "v1", "Available")[0] == "True"


def test_a_restart_by_annotation_replaces_the_pods_without_a_gap(world: World) -> None:
    old = {pod["metadata"]["name"] for pod in pods(world, "v1")}
    deployment = world.store.get(DEPLOYMENTS, NAMESPACE, "front-end-v1")
    template = deployment["spec"]["template"]
    marked = {
        **template,
        "metadata": {**template["metadata"], "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
    }
    world.store.replace(
        DEPLOYMENTS,
        NAMESPACE,
        "front-end-v1",
        {**deployment, "spec": {**deployment["spec"], "template": marked}},
    )
    unserved = world.mesh.unserved
    steps(world, 3)
    assert not old & {pod["metadata"]["name"] for pod in pods(world, "v1")}
    assert (len(world.pods("v1")), world.mesh.unserved) == (3, unserved)
    now = world.store.get(DEPLOYMENTS, NAMESPACE, "front-end-v1")["metadata"]
    assert (now["generation"], now["annotations"]["deployment.kubernetes.io/revision"]) == (2, "2")


def test_a_deleted_deployment_takes_its_pods_along(world: World) -> None:
    world.deploy("v2")
    steps(world, 2)
    world.delete("v2")
    steps(world, 0.2)
    assert pods(world, "v2") == []


def test_a_settled_world_writes_nothing(world: World) -> None:
    steps(world, 2)
    before = world.store.version
    steps(world, 20)
    assert world.store.version == before


def test_durations_of_annotations_are_read_or_refused() -> None:
    assert (after_seconds("1m30s"), after_seconds("500ms")) == (90, 0.5)
    for wrong in ("20", "s", "20 s", ""):
        with pytest.raises(ValueError, match="a duration such as 20s is wanted"):
            after_seconds(wrong)
