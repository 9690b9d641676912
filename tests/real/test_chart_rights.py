"""The Helm chart on a real API server: it installs, canaryd runs with what it grants, and what it grants is
what is used.

The chart's pod is a simulated one, so the daemon runs beside it: with the settings and policies of the
chart's ConfigMaps and with a token of its ServiceAccount. What it asked for stands in the API server's audit
log.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.daemon import Canaryd, free_port, settings
from tests.real.gateway_api import HOST, move, services
from tests.real.world import PARTS, ROOT, World, eventually

RELEASE, NAMESPACE = "canaryd", "delivery"
USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
HEALTHY: dict[str, Any] = {"latency_ms": 20, "sigma": 0.4}
POLICY: dict[str, Any] = {
    "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
    "route": {"virtualService": "sockshop"},
    "stages": [
        {"weight": 50, "minimum": "3s", "deadline": "6s"},
        {"weight": 100, "minimum": "3s", "deadline": "6s"},
    ],
    "analysis": {
        "interval": "1s",
        "warmup": "0s",
        "minimumRequests": 30,
        "metrics": [{"errors": {}}],
    },  # not how busy this machine is
    "rollback": {"scaleCanaryTo": 0},
    "promotion": {"retireStable": {"scaleTo": 1, "after": "2s"}},
}

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


@pytest.fixture(scope="module")
def installed(real_cluster: World) -> Iterator[World]:
    """The chart's release, with a policy and settings of these parts; gone afterwards. The tests here leave
    it as it is."""
    world = real_cluster
    helm = shutil.which("helm", path=PARTS / "bin") or shutil.which("helm")
    assert helm, "helm is one of the parts"

    def run(*args: str, values: dict[str, Any] | None = None) -> None:
        command = [helm, "--kubeconfig", str(world.kubeconfig), "--namespace", NAMESPACE, *args]
        done = subprocess.run(
            command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{' '.join(args)}: {done.stderr}"

    config = {"prometheus": {"url": world.prometheus, "scrapeInterval": "1s"}, "beat": "1s", "history": 1}
    run(
        "install",
        RELEASE,
        str(ROOT / "charts/canaryd"),
        "--create-namespace",
        "--wait",
        "--timeout",
        "60s",
        "--values",
        "-",
        values={"config": config, "policies": {"front-end.yaml": POLICY}},
    )
    yield world
    run("uninstall", RELEASE, "--wait")
    world.kubectl("delete", "namespace", NAMESPACE)


def credentials(world: World, folder: Path) -> Path:
    """A kubeconfig with a token of the chart's ServiceAccount."""
    token = world.kubectl("--namespace", NAMESPACE, "create", "token", RELEASE).strip()
    config = json.loads(world.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def mounted(world: World, name: str) -> dict[str, str]:
    """The files that this ConfigMap becomes in the pod."""
    return dict(
        json.loads(world.kubectl("--namespace", NAMESPACE, "get", "configmap", name, "-o", "json"))["data"]
    )


def granted(world: World, namespace: str) -> set[Right]:
    """What the API server itself says that the ServiceAccount may do there, but for what everyone may ask
    about himself."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    where = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = json.loads(
        world.kubectl("create", "--raw", where, "-f", "-", "--as", USER, stdin=json.dumps(review))
    )
    found: set[Right] = set()
    for rule in answer["status"]["resourceRules"]:
        found |= {
            (group, resource, verb)
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    return {right for right in found if right[0] not in ("authorization.k8s.io", "authentication.k8s.io")}


def audited(world: World) -> list[dict[str, Any]]:
    """Every request of the ServiceAccount for a resource."""
    entries = [json.loads(line) for line in world.audit_log.read_text().splitlines() if f'"{USER}"' in line]
    return [
        entry
        for entry in entries
        if entry["user"]["username"] == USER and "resource" in entry.get("objectRef", {})
    ]


def right(entry: dict[str, Any]) -> Right:
    ref = entry["objectRef"]
    return (
        ref.get("apiGroup", ""),
        "/".join(filter(None, (ref["resource"], ref.get("subresource")))),
        entry["verb"],
    )


def phase(world: World, version: str) -> str:
    found = [item for item in world.get("canaryrollouts")["items"] if item["spec"]["version"] == version]
    return str(found[0].get("status", {}).get("phase", "")) if found else ""


def play(world: World, daemon: Canaryd) -> None:
    """All that a daemon has to do: a promotion, a rollback, both with their scaling, what split users need
    made and removed, an old record to remove, a request to refuse."""
    eventually("the service is known", lambda: daemon.logged("service.first_seen"))
    with world.load(100, header="x-team: a", share=0.5):
        world.behaviour("v2", **HEALTHY)
        world.deploy("v2", replicas=2)
        eventually("v2 is promoted", lambda: phase(world, "v2") == "Succeeded", 300)
        eventually(
            "v1 is scaled down", lambda: world.get("deployment", "front-end-v1")["spec"]["replicas"] == 1
        )
        split = {
            "match": {"headers": {"x-team": {"exact": "a"}}},
            "split": "half",
            "minimum": "3s",
            "deadline": "6s",
        }
        by_callers = {
            "stages": [split, *POLICY["stages"]],
            "analysis": {**POLICY["analysis"], "reporter": "source"},
        }
        daemon.policy("front-end", {**POLICY, **by_callers})
        eventually("the policy is taken up", lambda: daemon.logged("policy.changed"))
        world.behaviour("v3", **{**HEALTHY, "errors": 0.4})
        world.deploy("v3", replicas=2)
        eventually("v3 is rolled back", lambda: phase(world, "v3") == "RolledBack", 300)
        eventually(
            "v3 is scaled to nothing",
            lambda: world.get("deployment", "front-end-v3")["spec"]["replicas"] == 0,
        )
    eventually(
        "the record of v2 is gone",
        lambda: [item["spec"]["version"] for item in world.get("canaryrollouts")["items"]] == ["v3"],
    )
    world.apply(
        {
            "apiVersion": "canaryd.dev/v1alpha1",
            "kind": "CanaryRollout",
            "metadata": {"name": "front-end-v9"},
            "spec": {"service": "front-end", "version": "v9"},
        }
    )
    eventually(
        "the request for v9 is refused",
        lambda: world.get("canaryrollout", "front-end-v9").get("status", {}).get("refused"),
    )
    eventually(
        "what was made is gone",
        lambda: "canaryd" not in world.kubectl("get", "services,destinationrules", "-o", "name"),
    )
    told = {"Succeeded", "RolledBack"}
    eventually(
        "the Events are written",
        lambda: told <= {item["reason"] for item in world.get("events.events.k8s.io")["items"]},
    )


def play_by_the_gateway_api(world: World, daemon: Canaryd) -> None:
    """What it has to do there besides: a Service made, routed to, and removed."""
    move(world, "v2")
    daemon.policy("front-end", {**POLICY, "route": {"httpRoute": "sockshop"}})
    eventually("the policy is taken up", lambda: len(daemon.logged("policy.changed")) == 2)
    with world.load(100, host=HOST, url=world.sidecar):
        world.behaviour("v4", **{**HEALTHY, "errors": 0.4})
        world.deploy("v4", replicas=2)
        eventually("v4 is rolled back", lambda: phase(world, "v4") == "RolledBack", 300)
    eventually("its Service is gone", lambda: services(world) == {"front-end", "front-end-v2"})


@pytest.mark.timeout(900)
def test_canaryd_uses_every_right_that_the_chart_grants_and_lacks_none(
    world: World, installed: World, canaryd: Callable[..., Canaryd], tmp_path: Path
) -> None:
    world.behaviour("v1", **HEALTHY)
    world.kubectl("scale", "deployment/front-end-v1", "--replicas=2")
    kubeconfig = credentials(world, tmp_path)
    config = {
        **yaml.safe_load(mounted(world, RELEASE)["canaryd.yaml"]),
        "http": {"port": free_port()},
        "log": settings(world)["log"],
    }
    daemon = canaryd(
        config=config,
        policies=mounted(world, f"{RELEASE}-policies"),
        arguments=("--kubeconfig", str(kubeconfig)),
    ).start()

    play(world, daemon)
    play_by_the_gateway_api(world, daemon)

    asked = audited(world)
    assert [entry for entry in asked if entry["responseStatus"]["code"] in (401, 403)] == []
    assert "forbidden" not in daemon.log
    used, may = {right(entry) for entry in asked}, granted(world, "production")
    assert used - may == set(), "used but not granted"
    assert may - used == set(), "granted but not used"


@pytest.mark.timeout(120)
def test_the_release_is_ready_and_may_not_touch_pods_secrets_or_templates(installed: World) -> None:
    world = installed
    deployment = json.loads(
        world.kubectl("--namespace", NAMESPACE, "get", "deployment", RELEASE, "-o", "json")
    )
    assert deployment["status"]["readyReplicas"] == 1
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == RELEASE
    may = {f"{verb} {resource}.{group}" for group, resource, verb in granted(world, "production")}
    assert not {one for one in may if "secrets" in one or "pods" in one}
    assert not {one for one in may if one.endswith(" deployments.apps")} - {
        "get deployments.apps",
        "list deployments.apps",
    }
    assert not {one for one in may if "*" in one}
