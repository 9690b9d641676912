"""`canaryd check` on the real parts: what is right is not complained of, and planted mistakes are found with
what mends them.

Pods here have no sidecars of their own (the mesh serves beside them), so the template names one as manual
injection does.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.check_objects import ACCOUNT, ISTIO, applications, as_manual_injection, role
from tests.real.daemon import command
from tests.real.world import Outage, World, eventually, front_end

POLICY = {
    "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
    "route": {"virtualService": "sockshop"},
    "stages": [{"weight": weight} for weight in (10, 100)],
    "analysis": {"interval": "5s"},
}
USUAL = {
    "routes.mesh",
    "workloads.replicas",
    "workloads.probes",
    "workloads.resources",
}  # warnings of the use case as it is


class Newcomer:
    """Runs `canaryd check` as a process, with a policy and settings of these parts."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.kubeconfig = world, folder, world.kubeconfig
        (folder / "front-end.yaml").write_text(yaml.safe_dump(POLICY))
        (folder / "canaryd.yaml").write_text(
            yaml.safe_dump({"prometheus": {"url": world.prometheus, "scrapeInterval": "1s"}})
        )

    def run(self, *arguments: object, code: int = 0) -> str:
        asked = [
            *command(),
            "check",
            "--policies",
            str(self.folder / "front-end.yaml"),
            "--config",
            str(self.folder / "canaryd.yaml"),
        ]
        done = subprocess.run(
            [*asked, *map(str, arguments)],
            text=True,
            capture_output=True,
            timeout=90,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def found(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """What is not ok."""
        data = json.loads(self.run(*arguments, "-o", "json", code=code))
        return [finding for finding in data["findings"] if finding["level"] != "ok"]

    def problems(self, *arguments: object) -> list[dict[str, Any]]:
        return [one for one in self.found(*arguments, code=1) if one["level"] == "problem"]


@pytest.fixture(scope="module")
def with_istio(real_cluster: World) -> Iterator[World]:
    """istiod and an ingress gateway as Deployments, and the account with the chart's rights; gone
    afterwards."""
    world = real_cluster
    for document in ISTIO:
        world.apply(document)
    for document in role(world):
        world.apply(document)
    eventually(
        "istiod is available",
        lambda: world.get("deployment", "istiod", "-n", "istio-system")["status"].get("availableReplicas"),
    )
    yield world
    for document in [*ISTIO, *role(world)]:
        if document["kind"] != "Namespace":
            where = document["metadata"].get("namespace", "production")
            world.kubectl(
                "delete", "-f", "-", "--ignore-not-found", f"--namespace={where}", stdin=json.dumps(document)
            )
    world.kubectl("label", "namespace", "production", "istio-injection-")


@pytest.fixture
def newcomer(world: World, with_istio: World, tmp_path: Path) -> Iterator[Newcomer]:
    """The use case with two replicas' worth of traffic under way."""
    world.kubectl("label", "namespace", "production", "istio-injection=enabled", "--overwrite")
    world.apply(as_manual_injection(front_end("v1")))
    eventually(
        "v1 has its sidecar",
        lambda: (
            len(world.get("pods", "-l", "app=front-end")["items"]) == 1
            and len(world.get("pods", "-l", "app=front-end")["items"][0]["spec"]["containers"]) == 2
            and world.serving().get("v1")
        ),
    )
    with world.load(20):
        counted = 'istio_requests_total{reporter="destination", destination_workload="front-end-v1"}[10s]'
        eventually(
            "Prometheus has counted for a while",
            lambda: sum(len(one["values"]) >= 5 for one in world.query(counted)),
        )
        yield Newcomer(world, tmp_path)


@contextmanager
def changed(world: World, kind: str, name: str, patch: object) -> Iterator[None]:
    """With a merge patch applied, and afterwards as it was."""
    before = world.get(kind, name)
    world.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch))
    try:
        yield
    finally:
        world.kubectl(
            "patch",
            kind,
            name,
            "--type=json",
            "-p",
            json.dumps([{"op": "replace", "path": "/spec", "value": before["spec"]}]),
        )


@pytest.mark.timeout(240)
def test_the_use_case_as_it_is_has_warnings_and_no_problem(newcomer: Newcomer) -> None:
    found = newcomer.found("--as", ACCOUNT)
    assert {one["check"] for one in found} == USUAL, found
    shown = newcomer.run("--as", ACCOUNT)
    print(shown)
    assert "scraped every 1 s, as prometheus.scrapeInterval says" in shown
    assert "has all 18 rights that the chart grants" in shown
    assert "ok       API server's clock: agrees" in shown
    assert "ok       Prometheus' clock: agrees" in shown
    assert "gateway.networking.k8s.io v1" in shown


@pytest.mark.timeout(240)
def test_a_wrong_subset_and_a_subset_without_pods_are_found(newcomer: Newcomer) -> None:
    route = [{"route": [{"destination": {"host": "front-end", "subset": "v7"}}]}]
    with changed(newcomer.world, "virtualservice", "sockshop", {"spec": {"http": route}}):
        assert [problem["check"] for problem in newcomer.problems()] == ["routes.steerable", "routes.subsets"]
    with changed(
        newcomer.world,
        "destinationrule",
        "front-end",
        {"spec": {"subsets": [{"name": "v1", "labels": {"version": "v01"}}]}},
    ):
        assert [problem["check"] for problem in newcomer.problems()] == ["routes.subsetLabels"]


@pytest.mark.timeout(240)
def test_a_missing_namespace_label_and_missing_sidecars_are_found_with_their_commands(
    newcomer: Newcomer,
) -> None:
    world = newcomer.world
    world.kubectl("label", "namespace", "production", "istio-injection-")
    (label,) = newcomer.problems()
    assert (label["check"], label["mend"]) == (
        "injection.label",
        "kubectl label namespace production istio-injection=enabled",
    )
    world.kubectl(*label["mend"].split()[1:])
    assert {one["check"] for one in newcomer.found("--as", ACCOUNT)} == USUAL

    world.deploy("v2")
    eventually("v2 serves", lambda: world.serving().get("v2"))
    (bare,) = newcomer.problems()
    assert bare["check"] == "injection.pods"
    assert bare["mend"] == "kubectl -n production rollout restart deployment front-end-v2"


@pytest.mark.timeout(240)
def test_a_deployment_without_a_version_label_is_found(newcomer: Newcomer) -> None:
    manifest = as_manual_injection(front_end("v2"))
    for labels in (
        manifest["spec"]["selector"]["matchLabels"],
        manifest["spec"]["template"]["metadata"]["labels"],
    ):
        labels["release"] = labels.pop("version")
    newcomer.world.apply(manifest)
    eventually("its pod is there", lambda: newcomer.world.get("pods", "-l", "release=v2")["items"])
    (found,) = newcomer.problems()
    assert (found["check"], found["about"]) == ("workloads.versions", "Deployment front-end-v2")


@pytest.mark.timeout(240)
def test_an_account_that_lacks_a_right_is_found_and_the_printed_role_mends_it(newcomer: Newcomer) -> None:
    who = "system:serviceaccount:canaryd-check:restricted"
    newcomer.world.kubectl("-n", "canaryd-check", "create", "serviceaccount", "restricted")
    (found,) = newcomer.problems("--as", who)
    assert found["check"] == "rights.account"
    made = found["mend"]
    asking = made.splitlines()[0].removeprefix("# kubectl ").split()
    with pytest.raises(Outage):  # it says no, with exit code 1
        newcomer.world.kubectl(*asking)
    newcomer.world.kubectl("apply", "-f", "-", stdin=made)
    try:
        assert "has all 18 rights" in newcomer.run("--as", who)
        assert newcomer.world.kubectl(*asking).strip() == "yes"
    finally:
        newcomer.world.kubectl("delete", "-f", "-", stdin=made)


@pytest.mark.timeout(240)
def test_a_restricted_user_sees_what_it_may_and_no_traceback(newcomer: Newcomer, tmp_path: Path) -> None:
    token = newcomer.world.kubectl("-n", "canaryd-check", "create", "token", "canaryd").strip()
    config = json.loads(newcomer.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    newcomer.kubeconfig = tmp_path / "restricted"
    newcomer.kubeconfig.write_text(json.dumps(config))
    found = newcomer.found("--as", ACCOUNT)
    assert not [one for one in found if one["level"] == "problem"]
    assert {"injection.pods", "rights.account"} <= {
        one["check"] for one in found if one["level"] == "unknown"
    }
    assert "rights.caller" in {one["check"] for one in found if one["level"] == "warning"}


LOST = {
    "match": [{"headers": {"cookie": None, "regex": ".*logged_in.*"}}],
    "route": [{"destination": {"host": "front-end", "subset": "v1"}}],
}
LAST = {"route": [{"destination": {"host": "front-end.production.svc.cluster.local", "subset": "v1"}}]}


@pytest.mark.timeout(240)
def test_what_the_api_server_makes_of_a_mis_indented_condition_is_found(newcomer: Newcomer) -> None:
    world = newcomer.world
    # text where an object must be: it is refused, before anyone could check it
    with pytest.raises(Outage, match="regex"):
        world.apply(
            {
                **json.loads(json.dumps(world.get("virtualservice", "sockshop"))),
                "spec": {"hosts": ["*"], "gateways": ["sockshop-gateway"], "http": [LOST, LAST]},
            }
        )
    kept = {**LOST, "match": [{"headers": {"cookie": {}}}]}
    with changed(world, "virtualservice", "sockshop", {"spec": {"http": [kept, LAST]}}):
        found = [one for one in newcomer.found() if one["check"] == "matches.empty"]
    assert len(found) == 1
    assert "takes every request that has the header at all" in found[0]["found"]


@pytest.mark.timeout(240)
def test_argo_cd_that_heals_itself_is_found_and_what_is_printed_mends_it(newcomer: Newcomer) -> None:
    world = newcomer.world
    with applications(world) as apply_application:
        apply_application({"syncPolicy": {"automated": {"selfHeal": True}}})
        world.kubectl(
            "annotate",
            "virtualservice",
            "sockshop",
            "argocd.argoproj.io/tracking-id=shop:networking.istio.io/VirtualService:production/sockshop",
        )
        (found,) = newcomer.problems()
        assert found["check"] == "rivals.gitops"
        apply_application(yaml.safe_load(found["mend"]))
        assert not [one for one in newcomer.found() if one["check"].startswith("rivals")]
