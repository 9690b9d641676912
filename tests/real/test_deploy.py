"""The use case's `k8s-deploy-production.update` on a real API server: staging's version beside production's,
and canaryd notices it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.real.daemon import Canaryd
from tests.real.test_releases import phase_of, start
from tests.real.world import OBJECTS, Outage, World, eventually, front_end

IMAGE = "10.11.249.13:5000/library/sockshop/front-end-0.6.0"
# what a reset of the world leaves
CLEARED = "horizontalpodautoscalers,poddisruptionbudgets,secrets,services,roles,rolebindings"


def of_staging(service: str, image: str, **container: Any) -> list[dict[str, Any]]:
    """A Deployment and its LoadBalancer, as staging of the use case has them: no version in names or
    labels."""
    made = front_end("v1", image=image)
    labels = {"app": service}
    made["metadata"] = {
        "name": service,
        "namespace": "staging",
        "labels": labels,
        "annotations": {"meta.helm.sh/release-name": "sockshop"},
    }
    made["spec"] |= {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }
    template = made["spec"]["template"]
    template["metadata"] = {
        "labels": labels,
        "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"},
    }
    template["spec"]["containers"][0] |= {"name": service, **container}
    balancer: dict[str, Any] = YAML(typ="safe").load(OBJECTS / "service.yaml")
    balancer["metadata"] |= {"name": service, "namespace": "staging"}
    balancer["spec"] |= {"type": "LoadBalancer", "selector": labels}
    return [made, balancer]


def of_stable() -> list[dict[str, Any]]:
    """What goes with front-end-v1 in production."""
    where = {"name": "front-end-v1", "namespace": "production"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front-end-v1"}
    cpu = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": where,
            "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 6, "metrics": [cpu]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": where,
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "front-end", "version": "v1"}}},
        },
    ]


@pytest.fixture(scope="module")
def staging(real_cluster: World) -> Iterator[None]:
    """The namespace alone: its end takes ten seconds."""
    real_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "staging"}})
    yield
    real_cluster.kubectl("delete", "namespace", "staging", "--wait=true")


@pytest.fixture
def stage(world: World, staging: None) -> Iterator[World]:
    """Two of front-end-v1 in production, front-end 0.6.0 in staging, which needs a Secret and a ConfigMap."""
    world.reset(replicas=2)
    env = [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "front-end", "key": "key"}}},
        {"name": "API", "value": "http://catalogue.staging.svc.cluster.local"},
    ]
    more = {
        "env": env,
        "envFrom": [{"configMapRef": {"name": "front-end"}}],
        "resources": {"requests": {"cpu": "100m"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}},
    }
    for obj in [*of_staging("front-end", IMAGE, **more), *of_stable()]:
        world.apply(obj)
    world.kubectl(
        "wait", "--namespace=staging", "--for=condition=Available", "deployment/front-end", "--timeout=60s"
    )
    yield world
    for namespace in ("production", "staging"):
        world.kubectl("delete", f"deployments,{CLEARED}", "--all", "--wait=true", f"--namespace={namespace}")


def gives_what_pods_need(world: World) -> None:
    for kind, data in (("Secret", {"key": "b2s="}), ("ConfigMap", {"COLOUR": "blue"})):
        world.apply(
            {
                "apiVersion": "v1",
                "kind": kind,
                "metadata": {"name": "front-end", "namespace": "production"},
                "data": data,
            }
        )


def names(world: World, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in world.get(kind)["items"]}


@pytest.mark.timeout(600)
def test_the_version_of_staging_is_deployed_beside_v1_and_canaryd_begins_its_rollout(
    stage: World, canaryd: Callable[..., Canaryd]
) -> None:
    daemon = start(stage, canaryd)
    stable, route = stage.get("deployment", "front-end-v1"), stage.get("virtualservice", "sockshop")
    missing = daemon.run("deploy", "front-end", "v2", "--yes", seconds=60)
    assert missing.returncode == 1
    assert "there is no ConfigMap front-end in production" in missing.stderr
    assert "there is no Secret front-end in production" in missing.stderr

    gives_what_pods_need(stage)
    shown = daemon.cli("deploy", "front-end", "v2", "--dry-run", seconds=60)
    assert f"+        image: {IMAGE}" in shown
    assert (
        "warning   mentions staging: containers[front-end].env[API].value: http://catalogue.staging.svc.cluster.local"
        in shown
    )
    assert daemon.run("deploy", "front-end", "v2", seconds=60).returncode == 4
    assert names(stage, "deployments") == {"front-end-v1"}

    said = daemon.cli("deploy", "front-end", "v2", "--yes", "--wait", seconds=120)
    assert "front-end-v2 is available" in said
    assert "canaryd begins its rollout automatically: canaryd status front-end --watch" in said
    made = stage.get("deployment", "front-end-v2")
    expect_as_it_was_shown(stage, made)
    assert (
        stage.get("deployment", "front-end-v1")["metadata"]["generation"] == stable["metadata"]["generation"]
    )
    eventually("canaryd begins", lambda: phase_of(stage, "v2"), 60)
    eventually("10% on v2", lambda: stage.weights().get("v2") == 10, 60)
    assert (
        stage.get("virtualservice", "sockshop")["metadata"]["generation"] > route["metadata"]["generation"]
    )  # by canaryd, not before

    again = daemon.cli("deploy", "front-end", "--yes", seconds=60)
    assert "nothing to do: front-end-v2 in production runs" in again
    assert names(stage, "deployments") == {"front-end-v1", "front-end-v2"}
    stage.kubectl(
        "set", "image", "--namespace=staging", "deployment/front-end", "front-end=sockshop/front-end-0.7.0"
    )
    stage.kubectl("rollout", "status", "--namespace=staging", "deployment/front-end", "--timeout=60s")
    under_way = daemon.run("deploy", "front-end", "--yes", seconds=60)
    assert under_way.returncode == 1
    assert "is under way" in under_way.stderr


def expect_as_it_was_shown(world: World, made: dict[str, Any]) -> None:
    own = {"app": "front-end", "version": "v2"}
    spec, template = made["spec"], made["spec"]["template"]
    assert (spec["replicas"], spec["selector"]["matchLabels"], template["metadata"]["labels"]) == (
        2,
        own,
        own,
    )
    assert "annotations" not in template["metadata"]
    assert made["metadata"]["annotations"]["canaryd.dev/deployed-from"] == "staging/front-end"
    assert "meta.helm.sh/release-name" not in made["metadata"]["annotations"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = template["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["resources"] == {"requests": {"cpu": "100m"}}
    scaler = world.get("horizontalpodautoscaler", "front-end-v2")["spec"]
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"], scaler["maxReplicas"]) == (
        "front-end-v2",
        2,
        6,
    )
    assert world.get("poddisruptionbudget", "front-end-v2")["spec"]["selector"]["matchLabels"] == own


@pytest.mark.timeout(300)
def test_all_of_staging_goes_to_production_in_the_same_versions(
    stage: World, canaryd: Callable[..., Canaryd]
) -> None:
    gives_what_pods_need(stage)
    for obj in of_staging("carts", "sockshop/carts-0.6.0"):
        stage.apply(obj)
    stage.kubectl(
        "wait", "--namespace=staging", "--for=condition=Available", "deployment/carts", "--timeout=60s"
    )
    person = canaryd()
    said = person.cli("deploy", "--all", "--yes", "--wait", seconds=120)
    assert "carts-v1 is available" in said
    assert "front-end-v2 is available" in said
    service = stage.get("service", "carts")["spec"]
    assert (service["type"], service["selector"]) == ("ClusterIP", {"app": "carts"})
    pods = {
        item["metadata"]["labels"]["app"]: item["spec"]["containers"][0]["image"]
        for item in stage.get("pods")["items"]
        if item["metadata"]["labels"]["version"] != "v1" or item["metadata"]["labels"]["app"] == "carts"
    }
    assert pods == {"carts": "sockshop/carts-0.6.0", "front-end": IMAGE}
    assert person.cli("deploy", "--all", seconds=60).count("nothing: it runs there already") == 2
    stage.kubectl("delete", "service/carts")


@pytest.mark.timeout(300)
def test_a_user_with_few_rights_is_told_what_is_missing_before_anything_is_created(
    stage: World, canaryd: Callable[..., Canaryd], tmp_path: Path
) -> None:
    gives_what_pods_need(stage)
    config = json.loads(stage.kubeconfig.read_text())
    for namespace in ("staging", "production"):
        stage.kubectl(
            "create",
            "role",
            "reader",
            f"--namespace={namespace}",
            "--verb=get,list",
            "--resource=deployments,services,configmaps,horizontalpodautoscalers,poddisruptionbudgets,"
            "virtualservices.networking.istio.io,destinationrules.networking.istio.io",
        )
        stage.kubectl(
            "create",
            "rolebinding",
            "reader",
            f"--namespace={namespace}",
            "--role=reader",
            "--serviceaccount=production:ci",
        )
    try:
        stage.kubectl("create", "serviceaccount", "ci")
        config["users"][0]["user"] = {"token": stage.kubectl("create", "token", "ci").strip()}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        person = canaryd()
        refused = person.run("deploy", "front-end", "--yes", "--kubeconfig", str(kubeconfig), seconds=60)
        assert refused.returncode == 1, refused.stdout
        assert "this user may not create deployments in production, which a deploy has to" in refused.stderr
        assert (
            'User "system:serviceaccount:production:ci" cannot create resource "deployments"'
            in refused.stderr
        )
        stage.kubectl(
            "create",
            "role",
            "writer",
            "--verb=create",
            "--resource=deployments,horizontalpodautoscalers,poddisruptionbudgets",
        )
        stage.kubectl("create", "rolebinding", "writer", "--role=writer", "--serviceaccount=production:ci")
        shown = eventually("the new right holds", lambda: told(person, kubeconfig), 30, every=1)
        assert (
            "Secret front-end (key): env KEY of front-end, which this user may not read: not checked"
            in shown.stdout
        )
        assert names(stage, "deployments") == {"front-end-v1"}
    finally:
        stage.kubectl("delete", "serviceaccount", "ci", "--ignore-not-found")


def told(person: Canaryd, kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    """What a dry run shows; Outage while the right to create has not reached the authorizer."""
    done = person.run("deploy", "front-end", "--dry-run", "--kubeconfig", str(kubeconfig), seconds=60)
    if done.returncode:
        raise Outage(done.stderr)
    return done
