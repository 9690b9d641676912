"""The world as a whole: the worked example, real time, kubectl, and the demo's scenarios."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from canaryd_sandbox.kubernetes.resources import DESTINATIONRULES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Behaviour
from canaryd_sandbox.scenarios import DEFAULT, HEALTHY, SCENARIOS, PrometheusOutage, Scenario
from canaryd_sandbox.world import HOST, NAMESPACE, World


def split(world: World, canary: int) -> None:
    rule = world.store.get(DESTINATIONRULES, NAMESPACE, "front-end")
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    world.store.replace(
        DESTINATIONRULES, NAMESPACE, "front-end", {**rule, "spec": {**rule["spec"], "subsets": subsets}}
    )
    old = world.virtualservice()
    route = [
        {"destination": {"host": HOST, "subset": version}, "weight": weight}
        for version, weight in (("v1", 100 - canary), ("v2", canary))
    ]
    world.store.replace(
        VIRTUALSERVICES, NAMESPACE, "sockshop", {**old, "spec": {**old["spec"], "http": [{"route": route}]}}
    )


def test_it_begins_as_the_worked_example_does(world: World) -> None:
    assert world.virtualservice()["spec"] == {
        "hosts": ["*"],
        "gateways": ["sockshop-gateway"],
        "http": [{"route": [{"destination": {"host": HOST, "subset": "v1"}}]}],
    }
    assert len(world.pods("v1")) == 3
    assert world.weights() == {"v1": 100}
    assert world.mesh.unserved == 0


def test_in_real_time_the_world_moves_by_itself(tmp_path: Path) -> None:
    with World(rate=200, scrape=0.2, folder=tmp_path) as world:
        world.deploy("v2", errors=0.05)
        deadline = time.monotonic() + 10
        while not world.pods("v2") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert world.pods("v2")
        assert world.kubeconfig == tmp_path / "kubeconfig"
        assert sum(t.requests for t in world.tally().values()) > 0
        assert abs(world.now - time.time()) < 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_world_that_stopped_moving_says_so() -> None:
    def broken(world: World, now: float) -> None:
        raise ZeroDivisionError

    world = World().__enter__()
    world.disturb = broken
    time.sleep(0.5)
    with pytest.raises(RuntimeError, match="stopped moving"):
        world.__exit__(None, None, None)


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl: the sandbox is asked by the official client alone"
)
def test_kubectl_applies_lists_scales_restarts_and_deletes(world: World) -> None:
    def kubectl(*args: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(world.kubeconfig), *args],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    manifest = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "VirtualService",
        "metadata": {"name": "other"},
        "spec": {"hosts": ["other"], "http": []},
    }
    assert "created" in kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    manifest["spec"] = {"hosts": ["changed"], "http": []}
    assert "configured" in kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert json.loads(kubectl("get", "vs", "other", "-o", "json"))["spec"]["hosts"] == ["changed"]
    assert "deployment.apps/front-end-v1" in kubectl("get", "deploy,pods,dr,cro", "-o", "name")
    kubectl("scale", "deploy/front-end-v1", "--replicas=2")
    kubectl("rollout", "restart", "deploy/front-end-v1")
    world.advance(world.now + 5)
    kubectl("rollout", "status", "deploy/front-end-v1", "--timeout=5s")
    assert len(world.pods("v1")) == 2
    kubectl("delete", "vs", "other")
    assert "other" not in kubectl("get", "vs", "-o", "name")


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_can_be_set_up_and_its_bad_versions_are_worse_than_stable(name: str) -> None:
    scenario: Scenario = SCENARIOS[name]
    assert scenario.name == name
    assert scenario.says
    with World(realtime=False, start=0.0, rate=scenario.rate, stable=scenario.stable) as world:
        for release in scenario.releases:
            release.apply(world)
            world.advance(world.now + 15)
            answers = world.mesh.behaviours[release.version]
            worse = (
                answers.errors > HEALTHY.errors
                or answers.latency_ms > HEALTHY.latency_ms
                or answers.tail > HEALTHY.tail
            )
            assert (release.ending == "rolled back") == (worse or release.pod is not None)
            assert len(world.pods(release.version)) == (0 if release.pod else release.replicas)


def test_the_scenarios_are_those_that_are_promised() -> None:
    assert {"good", "errors", "slower", "tail", "crash-loop", "quiet", "outage", DEFAULT} <= SCENARIOS.keys()
    assert [release.ending for release in SCENARIOS[DEFAULT].releases] == ["succeeded", "rolled back"]


def test_the_outage_waits_for_the_first_split_and_ends() -> None:
    with World(realtime=False, start=0.0) as world:
        world.disturb = PrometheusOutage(after=5, lasts=10)
        world.deploy("v2")
        world.advance(20)
        assert not world.prometheus.faults.down
        split(world, 10)
        seen = []
        for second in range(21, 41):
            world.advance(second)
            seen.append(world.prometheus.faults.down)
        assert sum(seen) == 10
        assert seen.index(True) == 5
        assert not seen[-1]


def test_what_a_release_does_not_name_is_as_stables() -> None:
    release = SCENARIOS["tail"].releases[0]
    with World(realtime=False, start=0.0) as world:
        release.apply(world)
        assert world.mesh.behaviours["v2"] == Behaviour(
            errors=HEALTHY.errors,
            latency_ms=HEALTHY.latency_ms,
            sigma=HEALTHY.sigma,
            tail=0.03,
            tail_ms=3000.0,
        )
