"""The worlds in which the documentation's examples were run: simulated, with fixed seeds and a fixed begin,
so that a command prints the same each time, to the digit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.cli import main
from canaryd.commands.deploy import command as deploy_command
from canaryd.domain.ports import KnownTemplates
from canaryd_sandbox.kubernetes.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    RESOURCES,
    VIRTUALSERVICES,
    Resource,
)
from canaryd_sandbox.world import World
from tests.builders import HOST, a_policy
from tests.commands.deploy.two_namespaces import a_deployment, a_service, an_autoscaler
from tests.one_process import Live

BEGAN = 1_796_000_000.0  # 30 November 2026
WIDTH = "120"  # columns
KIND = {one.kind: one for one in RESOURCES if not one.kept_as}


def printed(world: World | None, arguments: list[str], answer: str | None = None) -> list[str]:
    """What a command prints in a terminal of WIDTH columns, on both of its streams."""
    environment = {"COLUMNS": WIDTH, **({"KUBECONFIG": str(world.kubeconfig)} if world is not None else {})}
    result = CliRunner().invoke(main, arguments, env=environment, input=answer, prog_name="canaryd")
    assert "Traceback" not in result.output, result.output
    return result.output.splitlines()


def settings_file(world: World, folder: Path) -> None:
    """Writes config/canaryd.yaml, as an example names it."""
    (folder / "config").mkdir()
    (folder / "config" / "canaryd.yaml").write_text(
        f"prometheus: {{url: '{world.prometheus_url}', scrapeInterval: 1s}}\n"
    )


def a_rolled_back_release(folder: Path) -> World:
    """v2 was good and has all traffic; v3 failed 5% of its requests and was rolled back. The caller closes
    it."""
    stages = [{"weight": weight, "minimum": "6s", "deadline": "30s"} for weight in (10, 25, 50, 100)]
    policy = a_policy(stages=stages, analysis={"interval": "2s", "warmup": "0s", "minimumRequests": 50})
    world = World(realtime=False, start=BEGAN, folder=folder, rate=100.0, replicas=2)
    world.__enter__()
    live = Live(world, policy)
    live.run(60)
    good = live.release("v2", within=600)
    assert good.phase.value == "Succeeded", good.reason
    live.run(30)
    bad = live.release("v3", errors=0.05)
    assert bad.phase.value == "RolledBack", bad.reason
    live.run(20)
    return world


def _changed(
    world: World, resource: Resource, namespace: str, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    after = json.loads(json.dumps(world.store.get(resource, namespace, name)))
    change(after)
    after["metadata"].pop("resourceVersion")
    world.store.replace(resource, namespace, name, after, checked=False)


def a_service_with_three_mistakes(folder: Path) -> World:
    """A pod without a sidecar, a route to a subset that no DestinationRule has, and a condition that lost its
    indentation. The caller closes it."""
    world = World(realtime=False, start=time.time() - 90, folder=folder, istio=True, replicas=2)
    world.__enter__()
    world.advance(time.time())

    def route(service: dict[str, Any]) -> None:
        match = [{"headers": {"cookie": {}, "regex": ".*logged_in.*"}}]
        service["spec"]["http"].insert(
            0, {"match": match, "route": [{"destination": {"host": HOST, "subset": "v2"}}]}
        )

    def without_sidecar(pod: dict[str, Any]) -> None:
        spec = pod["spec"]
        for key in ("containers", "initContainers"):
            if key in spec:
                spec[key] = [one for one in spec[key] if one["name"] != "istio-proxy"]

    _changed(world, VIRTUALSERVICES, "production", "sockshop", route)
    first = sorted(pod["metadata"]["name"] for pod in world.store.list(PODS, "production"))[0]
    _changed(world, PODS, "production", first, without_sidecar)
    (folder / "policies").mkdir()
    (folder / "policies" / "front-end.yaml").write_text(
        yaml.safe_dump(a_policy(analysis={"interval": "10s"}).dump())
    )
    settings_file(world, folder)
    return world


def a_shop_with_a_newer_version_in_staging(folder: Path) -> World:
    """front-end 0.5.0 in production, with an autoscaler; 0.6.0, of another colour, in staging. The caller
    closes it."""
    world = World(realtime=False, start=BEGAN, folder=folder, replicas=3, rate=1.0)
    world.__enter__()
    session = {"name": "SESSION_KEY", "valueFrom": {"secretKeyRef": {"name": "front-end", "key": "session"}}}
    image = "registry.example/sockshop/front-end:"

    def as_released(deployment: dict[str, Any]) -> None:
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        container.update(image=f"{image}0.5.0", env=[session])

    def put(obj: Any, namespace: str) -> None:
        world.store.create(
            KIND[obj["kind"]], namespace, {**obj, "metadata": {"name": obj["metadata"]["name"]}}
        )

    world.store.create(NAMESPACES, None, {"metadata": {"name": "staging"}})
    _changed(world, DEPLOYMENTS, "production", "front-end-v1", as_released)
    put(
        {"kind": "Secret", "metadata": {"name": "front-end"}, "stringData": {"session": "of-production"}},
        "production",
    )
    put(an_autoscaler(), "production")
    put(a_service(selector={"app": "front-end"}), "staging")
    made = a_deployment(image=f"{image}0.6.0", replicas=1, labels={"app": "front-end"})
    [container] = made["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "HEADER_COLOUR", "value": "blue"}, session]
    put(made, "staging")
    world.advance(world.now + 5)
    # The daemon has seen the service, and begins the rollout by itself.
    KubeServices(KubernetesApi(str(world.kubeconfig))).remember(a_policy(), KnownTemplates(frozenset()))
    return world


def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sits at the terminal."""
    monkeypatch.setattr(deploy_command.output, "is_asking", lambda: True)
