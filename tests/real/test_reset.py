"""`canaryd reset` on a real API server, behind a real istiod and Envoy: the way out, and that it leaves
nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.real.daemon import Canaryd
from tests.real.world import CRDS, World, eventually

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
}
CRD = "canaryrollouts.canaryd.dev"
PATIENT = {
    **POLICY,
    "stages": [{"weight": 30, "minimum": "10m", "deadline": "20m"}, {"weight": 100, "minimum": "3s"}],
}


@pytest.fixture
def installed(world: World) -> Iterator[World]:
    """The CRD is there, and is there again afterwards, for the tests to come."""
    yield world
    world.kubectl("apply", "--server-side", f"--filename={CRDS}")
    world.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")


def phases(world: World) -> dict[str, str]:
    return {
        item["spec"]["version"]: item.get("status", {}).get("phase", "")
        for item in world.get("canaryrollouts")["items"]
    }


def released(world: World, daemon: Canaryd) -> None:
    """v2 was good and has all traffic, v3 was bad and has none."""
    world.behaviour("v1", **HEALTHY)
    eventually("the service is known", lambda: daemon.logged("service.first_seen"))
    with world.load(100):
        world.behaviour("v2", **HEALTHY)
        world.deploy("v2")
        eventually("v2 is promoted", lambda: phases(world).get("v2") == "Succeeded", 300)
        world.behaviour("v3", **{**HEALTHY, "errors": 0.4})
        world.deploy("v3")
        eventually("v3 is rolled back", lambda: phases(world).get("v3") == "RolledBack", 300)


def spec(world: World, kind: str, name: str) -> Any:
    return world.get(f"{kind}.networking.istio.io", name)["spec"]


def mentions(world: World) -> list[str]:
    """Every object of every kind that can be listed, and that has `canaryd.dev` anywhere."""
    kinds = ",".join(world.kubectl("api-resources", "--verbs=list", "--output=name").split())
    listed = json.loads(
        world.kubectl("get", kinds, "--all-namespaces", "--show-managed-fields", "-o", "json")
    )["items"]
    return sorted(
        {f"{one['kind']}/{one['metadata']['name']}" for one in listed if "canaryd.dev" in json.dumps(one)}
    )


@pytest.mark.timeout(900)
def test_a_reset_after_a_promotion_and_a_rollback_leaves_one_destination_and_no_subset_without_a_route(
    installed: World, canaryd: Callable[..., Canaryd]
) -> None:
    world = installed
    daemon = canaryd(policies={"front-end": POLICY}).start()
    released(world, daemon)
    before = spec(world, "virtualservice", "sockshop"), spec(world, "destinationrule", "front-end")
    assert [subset["name"] for subset in before[1]["subsets"]] == ["v1", "v2", "v3"]
    tried = daemon.cli("reset", "front-end", "--dry-run")
    assert "dry run: nothing was changed" in tried
    assert (spec(world, "virtualservice", "sockshop"), spec(world, "destinationrule", "front-end")) == before

    said = daemon.cli("reset", "front-end", "--yes")
    assert "kubectl -n production delete deployment front-end-v3" in said
    assert [subset["name"] for subset in spec(world, "destinationrule", "front-end")["subsets"]] == [
        "v1",
        "v2",
    ]
    assert phases(world) == {}
    assert "nothing to do" in daemon.cli("reset", "front-end", "--yes")

    back = daemon.cli("reset", "front-end", "--to", "v1", "--yes")
    assert "all traffic on v1" in back
    (route,) = spec(world, "virtualservice", "sockshop")["http"]
    assert [entry["destination"]["subset"] for entry in route["route"]] == ["v1"]
    assert [subset["name"] for subset in spec(world, "destinationrule", "front-end")["subsets"]] == ["v1"]
    eventually("the ingress sends to v1 alone", lambda: world.envoy_weights() == {"v1": 100})
    beats = len(daemon.logged())
    eventually("the daemon has looked again", lambda: daemon.run("status").returncode == 0)
    assert phases(world) == {}, daemon.log[-2000:]
    assert not [entry for entry in daemon.logged()[beats:] if entry["event"] == "rollout.started"]


@pytest.mark.timeout(900)
def test_abort_goes_back_before_the_reset_and_uninstalling_in_mid_rollout_leaves_nothing(
    installed: World, canaryd: Callable[..., Canaryd]
) -> None:
    world = installed
    original = spec(world, "virtualservice", "sockshop"), spec(world, "destinationrule", "front-end")
    daemon = canaryd(policies={"front-end": PATIENT}).start()
    eventually("the service is known", lambda: daemon.logged("service.first_seen"))
    with world.load(50):
        for version in ("v2", "v3"):
            world.behaviour(version, **HEALTHY)
            world.deploy(version)
            eventually(
                f"{version} is in its stage",
                lambda of=version: world.envoy_weights() == {"v1": 70, of: 30},
                120,
            )
            if version == "v2":
                assert "abort it with --abort" in daemon.run("reset", "front-end", "--yes").stderr
                daemon.cli("reset", "front-end", "--abort", "--yes", seconds=90)
                assert (
                    spec(world, "virtualservice", "sockshop"),
                    spec(world, "destinationrule", "front-end"),
                ) == original
    daemon.kill9()  # as `helm uninstall` in mid-rollout
    world.kubectl("annotate", "deployment/front-end-v1", "canaryd.dev/ignore=true")
    assert len(mentions(world)) > 4
    said = daemon.cli("reset", "--everything", "--abort", "--yes", seconds=200)
    assert "everything of canaryd is removed but its CRD" in said
    assert (
        spec(world, "virtualservice", "sockshop"),
        spec(world, "destinationrule", "front-end"),
    ) == original
    assert mentions(world) == [
        f"APIService/v1alpha1.{CRD.partition('.')[2]}",
        f"CustomResourceDefinition/{CRD}",
    ]
    world.kubectl("delete", "crd", CRD)
    eventually("nothing mentions it", lambda: mentions(world) == [])
    assert "nothing of canaryd is left" in daemon.cli("reset", "--everything", "--yes")


@pytest.mark.timeout(300)
def test_a_person_without_the_right_to_patch_is_told_so_before_anything_is_done(
    installed: World, canaryd: Callable[..., Canaryd], tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = installed
    daemon = canaryd(policies={"front-end": PATIENT}).start()
    eventually("the service is known", lambda: daemon.logged("service.first_seen"))
    daemon.term()
    rule = world.get("destinationrules.networking.istio.io", "front-end")
    rule["spec"]["subsets"].append({"name": "v2", "labels": {"version": "v2"}})
    rule["metadata"]["annotations"] = {"canaryd.dev/subsets": "v2"}
    world.apply(rule)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}],
    }
    world.apply(role)
    world.kubectl("create", "serviceaccount", "reader")  # nothing here makes one called default
    world.kubectl(
        "create", "clusterrolebinding", "reader", "--clusterrole=reader", "--serviceaccount=production:reader"
    )
    try:
        config = json.loads(world.kubeconfig.read_text())
        config["users"][0]["user"] = {
            "token": world.kubectl("-n", "production", "create", "token", "reader").strip()
        }
        path = tmp_path_factory.mktemp("reader") / "kubeconfig"
        path.write_text(json.dumps(config))
        done = daemon.run("reset", "front-end", "--yes", "--kubeconfig", str(path))
    finally:
        world.kubectl("delete", "clusterrolebinding/reader", "clusterrole/reader", "serviceaccount/reader")
    assert done.returncode == 1
    assert 'cannot patch resource "destinationrules"' in done.stderr
    assert "docs/guides/uninstall.md" in done.stderr
    assert world.get("destinationrules.networking.istio.io", "front-end")["spec"] == rule["spec"]
