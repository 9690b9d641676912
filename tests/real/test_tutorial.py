"""The tutorial as its reader follows it, on real parts: every command is typed, and shows what the page
says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.check_objects import ISTIO, as_manual_injection
from tests.real.test_deploy import of_staging
from tests.real.walkthrough import follow
from tests.real.world import CRDS, PARTS, ROOT, World, eventually

TUTORIAL = ROOT / "docs" / "getting-started" / "first-release.md"
KINDS = (
    "deployments,services,configmaps,events,virtualservices.networking.istio.io,destinationrules.networking.istio.io,"
    "gateways.networking.istio.io,canaryrollouts.canaryd.dev"
)
USERS = 100.0  # requests/s; a quarter of them are of users who are logged in
HEALTHY = {"latency_ms": 20, "sigma": 0.4}


@pytest.fixture
def sock_shop(real_cluster: World) -> Iterator[World]:
    """Istio, as it is installed, a production namespace without anything, and the front-end of the sock shop
    in staging."""
    world = real_cluster
    world.kubectl("delete", KINDS, "--all", "--wait=true")
    for version in world.ask_control("GET", "/behaviour"):
        world.behaviour(version)
    for document in (*ISTIO, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "staging"}}):
        world.apply(document)
    world.kubectl("label", "namespace", "production", "istio-injection=enabled", "--overwrite")
    deployment, service = of_staging("front-end", "10.11.249.13:5000/library/sockshop/front-end-0.5.0")
    for document in (as_manual_injection(deployment), service):
        world.apply(document)
    world.kubectl(
        "wait", "--namespace=staging", "--for=condition=Available", "deployment/front-end", "--timeout=60s"
    )
    host, _, port = world.ingress.removeprefix("http://").partition(":")
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": "http2", "port": int(port.rstrip("/")), "targetPort": 8080}],
            },
        }
    )
    world.kubectl(
        "patch",
        "service",
        "istio-ingressgateway",
        "--namespace=istio-system",
        "--subresource=status",
        "--type=merge",
        "--patch",
        f'{{"status": {{"loadBalancer": {{"ingress": [{{"ip": "{host}"}}]}}}}}}',
    )
    yield world
    world.kubectl("delete", KINDS, "--all", "--wait=true")
    world.kubectl("delete", "namespace", "staging", "--wait=true")
    world.kubectl("delete", "service", "istio-ingressgateway", "--namespace=istio-system")
    for document in ISTIO:
        if document["kind"] != "Namespace":
            where = document["metadata"].get("namespace", "production")
            world.kubectl(
                "delete",
                document["kind"],
                document["metadata"]["name"],
                f"--namespace={where}",
                "--ignore-not-found",
            )
    world.kubectl("label", "namespace", "production", "istio-injection-")


@pytest.mark.timeout(900)
def test_the_tutorial_can_be_followed(sock_shop: World, tmp_path: Path) -> None:
    world, folder = sock_shop, tmp_path / "reader"
    (folder / "charts" / "canaryd").mkdir(parents=True)
    (folder / "charts" / "canaryd" / "crds").symlink_to(CRDS)
    for version in ("v1", "v2"):
        world.behaviour(version, **HEALTHY)
    world.behaviour("v3", **{**HEALTHY, "errors": 0.2})
    path = os.pathsep.join([str(Path(sys.executable).parent), str(PARTS / "bin"), os.environ["PATH"]])
    env = {
        **os.environ,
        "PATH": path,
        "KUBECONFIG": str(world.kubeconfig),
        "PROMETHEUS": world.prometheus,
        "COLUMNS": "120",
    }
    with world.load(USERS, header="cookie: logged_in=1", share=0.25):
        took = follow(TUTORIAL, folder, env)
    print(*took, sep="\n")
    eventually("production is left with one version", lambda: len(world.route()) == 1)
