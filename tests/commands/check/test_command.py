"""`canaryd check` on a sandbox as an operator has it: what is printed, as text and as data, and how it
ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.cli import main
from canaryd_sandbox.kubernetes.resources import (
    DEPLOYMENTS,
    DESTINATIONRULES,
    NAMESPACES,
    RESOURCES,
    SERVICES,
    VIRTUALSERVICES,
    Resource,
)
from canaryd_sandbox.world import World
from tests.builders import HOST, a_bracket, a_member, a_policy

TELEMETRIES = next(one for one in RESOURCES if one.plural == "telemetries")
FOLDER = Path(__file__).parents[3] / "tests/real/objects"


@dataclass
class Newcomer:
    """Someone with a kubeconfig, settings and a policy, in front of a cluster with Istio that no one has told
    of canaryd."""

    world: World
    folder: Path

    def run(self, *arguments: object, code: int = 0) -> Result:
        self.world.advance(time.time())  # telemetry goes on, however long a test takes
        result = CliRunner().invoke(
            main, ["check", *map(str, arguments)], env={"KUBECONFIG": str(self.world.kubeconfig)}
        )
        assert "Traceback" not in result.output
        assert result.exit_code == code, result.output
        return result

    def here(self, *arguments: object, code: int = 0) -> Result:
        """With the policy and the settings."""
        return self.run(
            *arguments,
            "--policies",
            self.folder / "front-end.yaml",
            "--config",
            self.folder / "canaryd.yaml",
            code=code,
        )

    def findings(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """What is not ok."""
        data = json.loads(self.here(*arguments, "-o", "json", code=code).stdout)
        return [finding for finding in data["findings"] if finding["level"] != "ok"]

    @contextmanager
    def changed(
        self,
        resource: Resource,
        name: str,
        change: Callable[[dict[str, Any]], object],
        namespace: str | None = "production",
    ) -> Iterator[None]:
        """With an object as someone has changed it, and afterwards as it was."""
        store = self.world.store
        before = store.get(resource, namespace, name)
        after = json.loads(json.dumps(before))
        change(after)
        after["metadata"].pop("resourceVersion")
        store.replace(resource, namespace, name, after, checked=False)
        try:
            yield
        finally:
            again = {
                **before,
                "metadata": {
                    key: value for key, value in before["metadata"].items() if key != "resourceVersion"
                },
            }
            store.replace(resource, namespace, name, again, checked=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        realtime=False,
        start=time.time() - 90,
        folder=tmp_path_factory.mktemp("world"),
        istio=True,
        replicas=2,
    ) as made:
        made.advance(time.time())
        yield made


@pytest.fixture
def newcomer(world: World, tmp_path: Path) -> Newcomer:
    """Its policy's only metrics are errors and latency."""
    policy = a_policy(analysis={"interval": "10s"})
    (tmp_path / "front-end.yaml").write_text(yaml.safe_dump(policy.dump()))
    (tmp_path / "canaryd.yaml").write_text(
        f"prometheus: {{url: '{world.prometheus_url}', scrapeInterval: 1s}}\n"
    )
    return Newcomer(world, tmp_path)


USUAL = ["rights.account", "routes.mesh", "workloads.probes", "workloads.resources"]  # of the worked example


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["check"] for one in found]


# ---------------------------------------------------------------- as it is


def test_the_worked_example_has_warnings_and_no_problem(newcomer: Newcomer) -> None:
    found = newcomer.findings()
    assert names(found) == USUAL
    assert {one["level"] for one in found} == {"unknown", "warning"}


def test_strict_fails_by_its_warnings(newcomer: Newcomer) -> None:
    newcomer.here("--strict", code=1)


def test_the_text_is_in_groups_and_says_what_was_looked_at(newcomer: Newcomer) -> None:
    shown = newcomer.here("--as", "canaryd/canaryd").stdout
    assert shown.startswith(
        f"production/front-end on {newcomer.world.kubernetes.url} (v1.36.0-sandbox)\n\nIstio\n  ok       "
        "istiod in istio-system: "
    )
    assert (
        "  ok       namespace production: istio-injection=enabled\n  ok       pods of front-end: all 2 have "
        "a sidecar\n" in shown
    )
    assert "account system:serviceaccount:canaryd:canaryd: has all 18 rights that the chart grants" in shown
    assert "scraped every 1 s, as prometheus.scrapeInterval says" in shown
    assert shown.rstrip().splitlines()[-1].startswith("0 problems, 3 warnings, 0 not known, ")
    assert all(len(line) <= 120 and line == line.rstrip() for line in shown.splitlines())


def test_quiet_shows_only_what_is_not_ok(newcomer: Newcomer) -> None:
    shown = newcomer.here("-q").stdout
    assert "  ok  " not in shown
    assert "readinessProbe:" in shown


def test_the_data_has_keys_that_stay(newcomer: Newcomer) -> None:
    data = json.loads(newcomer.here("-o", "json").stdout)
    assert set(data) == {"server", "services", "exitCode", "counts", "findings"}
    assert data["services"] == ["production/front-end"]
    assert data["exitCode"] == 0
    assert sum(data["counts"].values()) == len(data["findings"])
    assert {"check", "level", "service", "about", "found", "wanted", "mend", "file", "line"} == set(
        data["findings"][0]
    )


def test_without_policies_the_cluster_is_checked_and_services_are_named(
    newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(newcomer.folder)
    shown = newcomer.run().stdout
    assert "production/front-end: could have a policy: versions v1, by VirtualService sockshop" in shown
    policy = yaml.safe_load(shown.partition("by VirtualService sockshop\n")[2].partition("\n\n")[0])
    assert policy["service"]["selector"] == {"app": "front-end"}
    assert "not asked: its address is not known" in shown


# ---------------------------------------------------------------- usage


def test_a_service_without_a_policy_is_refused_with_those_that_have_one(newcomer: Newcomer) -> None:
    assert (
        "no policy is of the service carts (there are policies of: front-end)"
        in newcomer.here("carts", code=1).stderr
    )
    assert names(newcomer.findings("front-end")) == USUAL


def test_of_a_bracket_every_service_is_checked_by_the_name_of_any(newcomer: Newcomer, tmp_path: Path) -> None:
    policy = tmp_path / "bracket.yaml"
    policy.write_text(yaml.safe_dump(a_bracket(a_member("carts")).dump()))
    for name in ("front-end", "carts"):
        said = newcomer.run(name, "--policies", policy, "-o", "json", code=1).stdout
        wrong = {
            finding["about"] for finding in json.loads(said)["findings"] if finding["level"] == "problem"
        }
        assert "Deployments of carts" in wrong, wrong
    assert (
        "stock (there are policies of: front-end, carts)"
        in newcomer.run("stock", "--policies", policy, code=1).output
    )


def test_a_broken_policy_is_refused_with_its_line(newcomer: Newcomer) -> None:
    (newcomer.folder / "front-end.yaml").write_text("service: {}\n")
    assert "front-end.yaml:1:" in newcomer.here(code=1).stderr


def test_settings_that_were_asked_for_and_are_not_there_are_refused(newcomer: Newcomer) -> None:
    assert "cannot be read" in newcomer.run("--config", newcomer.folder / "nowhere.yaml", code=1).stderr


def test_an_api_server_that_does_not_answer_is_exit_code_3(newcomer: Newcomer) -> None:
    newcomer.world.kubernetes.faults.down = True
    try:
        assert "did not answer" in newcomer.here(code=3).stderr
    finally:
        newcomer.world.kubernetes.faults.clear()


# ---------------------------------------------------------------- what does not answer, or may not be asked


def test_a_prometheus_that_is_down_is_not_known_and_the_rest_is_checked(newcomer: Newcomer) -> None:
    newcomer.world.prometheus.faults.down = True
    try:
        assert names(newcomer.findings()) == ["telemetry.prometheus", *USUAL]
    finally:
        newcomer.world.prometheus.faults.clear()


def test_a_prometheus_that_wants_to_know_who_asks_is_a_problem(newcomer: Newcomer) -> None:
    newcomer.world.prometheus.faults.bearer = "secret"
    try:
        found = newcomer.findings(code=1)
    finally:
        newcomer.world.prometheus.faults.clear()
    assert found[0]["check"] == "telemetry.prometheus"
    assert "bearer_token_file" in found[0]["found"]


@pytest.mark.parametrize(
    "plural",
    [
        "namespaces/production",
        "pods",
        "services",
        "deployments",
        "virtualservices",
        "destinationrules",
        "gateways",
        "mutatingwebhookconfigurations",
        "canaryrollouts",
        "telemetries",
        "selfsubjectaccessreviews",
    ],
)
def test_what_is_forbidden_is_not_known_and_never_a_traceback(newcomer: Newcomer, plural: str) -> None:
    faults = newcomer.world.kubernetes.faults
    faults.status(403, 40, lambda method, path: path.endswith(f"/{plural}"))
    try:
        found = newcomer.findings()
    finally:
        faults.clear()
    assert {one["level"] for one in found} <= {"unknown", "warning"}


def test_a_route_that_may_be_read_and_not_listed_is_checked_all_the_same(newcomer: Newcomer) -> None:
    """As with the rights of the daemon's account."""
    newcomer.world.kubernetes.faults.status(403, 9, lambda method, path: path.endswith("/virtualservices"))
    try:
        data = json.loads(newcomer.here("-o", "json").stdout)
    finally:
        newcomer.world.kubernetes.faults.clear()
    levels = {finding["check"]: finding["level"] for finding in data["findings"]}
    assert (levels["routes.others"], levels["routes.steerable"], levels["gateways.proxy"]) == (
        "unknown",
        "ok",
        "ok",
    )


def test_rights_of_the_account_are_asked_by_review_and_where_that_is_not_allowed_by_impersonation(
    newcomer: Newcomer,
) -> None:
    access, faults = newcomer.world.kubernetes.access, newcomer.world.kubernetes.faults
    who = "system:serviceaccount:canaryd:canaryd"
    access.denied = {
        (who, "patch", "virtualservices.networking.istio.io"),
        (who, "patch", "deployments/scale.apps"),
    }
    try:
        by_review = newcomer.findings("--as", "canaryd/canaryd", code=1)
        faults.status(403, 1, lambda method, path: path.endswith("/subjectaccessreviews"))
        by_impersonation = newcomer.findings("--as", "canaryd/canaryd", code=1)
        faults.status(403, 60, lambda method, path: "subjectaccessreviews" in path)
        neither = newcomer.findings("--as", "canaryd/canaryd")
    finally:
        access.denied = set()
        faults.clear()
    told = [
        next(one for one in found if one["check"] == "rights.account")
        for found in (by_review, by_impersonation)
    ]
    assert told[0] == told[1]
    assert "patch virtualservices.networking.istio.io in production" in told[0]["found"]
    assert [one["level"] for one in neither if one["check"] == "rights.account"] == ["unknown"]
    assert f"--as {who}" in next(one["mend"] for one in neither if one["check"] == "rights.account")


def test_what_deploy_takes_from_is_staging_where_that_is_there_or_what_is_said(newcomer: Newcomer) -> None:
    access, store = newcomer.world.kubernetes.access, newcomer.world.store
    access.denied = {
        ("sandbox", "list", "pods"),
        ("sandbox", "create", "horizontalpodautoscalers.autoscaling"),
    }
    try:
        told = [newcomer.findings(*arguments) for arguments in ((), ("--deploy-from", "test"))]
        store.create(NAMESPACES, None, {"metadata": {"name": "staging"}})
        told.append(newcomer.findings())
    finally:
        access.denied = set()
        store.delete(NAMESPACES, None, "staging")
    copies = "you may not create horizontalpodautoscalers.autoscaling in production"
    pods = "you may not list pods in"
    assert [[one["found"] for one in found if one["check"] == "rights.caller"] for found in told] == [
        [copies],
        [copies, f"{pods} test"],
        [copies, f"{pods} staging"],
    ]


def test_the_account_is_that_of_canaryd_s_own_deployment(newcomer: Newcomer) -> None:
    labels = {"app.kubernetes.io/name": "canaryd"}
    template = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "releaser", "containers": []}}
    newcomer.world.store.create(
        DEPLOYMENTS,
        "default",
        {
            "metadata": {"name": "canaryd", "labels": labels},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        },
    )
    try:
        assert "account system:serviceaccount:default:releaser: has all" in newcomer.here().stdout
    finally:
        newcomer.world.store.delete(DEPLOYMENTS, "default", "canaryd")


# ---------------------------------------------------------------- planted mistakes


def test_a_wrong_subset_is_found_in_the_words_of_the_daemon(newcomer: Newcomer) -> None:
    def wrong(route: dict[str, Any]) -> None:
        route["spec"]["http"][0]["route"][0]["destination"]["subset"] = "v9"

    with newcomer.changed(VIRTUALSERVICES, "sockshop", wrong):
        found = newcomer.findings(code=1)
    assert [one["check"] for one in found if one["level"] == "problem"] == [
        "routes.steerable",
        "routes.subsets",
    ]


def test_a_mis_indented_condition_is_found_on_the_server(newcomer: Newcomer) -> None:
    def lost(route: dict[str, Any]) -> None:
        match = [{"headers": {"cookie": {}, "regex": ".*logged_in.*"}}]
        route["spec"]["http"].insert(
            0, {"match": match, "route": [{"destination": {"host": HOST, "subset": "v1"}}]}
        )

    with newcomer.changed(VIRTUALSERVICES, "sockshop", lost):
        (found,) = [finding for finding in newcomer.findings(code=1) if finding["level"] == "problem"]
    assert found["check"] == "matches.indent"
    assert yaml.safe_load(found["mend"]) == {"match": [{"headers": {"cookie": {"regex": ".*logged_in.*"}}}]}


def test_a_namespace_without_its_label_a_tcp_port_and_disabled_metrics_are_found(newcomer: Newcomer) -> None:
    newcomer.world.store.create(
        TELEMETRIES,
        "production",
        {
            "metadata": {"name": "quiet"},
            "spec": {"metrics": [{"overrides": [{"match": {"metric": "REQUEST_COUNT"}, "disabled": True}]}]},
        },
    )
    try:
        with (
            newcomer.changed(NAMESPACES, "production", lambda one: one["metadata"].pop("labels"), None),
            newcomer.changed(
                SERVICES, "front-end", lambda one: one["spec"]["ports"][0].update(name="tcp-web")
            ),
        ):
            found = newcomer.findings(code=1)
    finally:
        newcomer.world.store.delete(TELEMETRIES, "production", "quiet")
    problems = [one["check"] for one in found if one["level"] == "problem"]
    assert problems == ["injection.label", "workloads.protocol", "telemetry.disabled"]


def test_a_second_rule_for_the_host_is_found_in_another_namespace(newcomer: Newcomer) -> None:
    newcomer.world.store.create(
        DESTINATIONRULES, "istio-system", {"metadata": {"name": "mtls"}, "spec": {"host": HOST}}
    )
    try:
        found = newcomer.findings()
    finally:
        newcomer.world.store.delete(DESTINATIONRULES, "istio-system", "mtls")
    assert "DestinationRule istio-system/mtls" in [one["about"] for one in found]


def test_a_reporter_that_counts_nothing_and_another_scrape_interval_are_found(newcomer: Newcomer) -> None:
    (newcomer.folder / "canaryd.yaml").write_text(
        f"prometheus: {{url: '{newcomer.world.prometheus_url}', scrapeInterval: 5s}}\n"
    )
    (found,) = [finding for finding in newcomer.findings(code=1) if finding["level"] == "problem"]
    assert found["check"] == "telemetry.interval"
    assert "scraped every 1 s, but prometheus.scrapeInterval is 5s" in found["found"]


def test_queries_are_asked_and_those_without_an_answer_told(newcomer: Newcomer) -> None:
    metrics = [
        {"query": {"name": "cpu", "promql": 'max(sandbox_cpu{pod=~"$canary_pods"})', "max": 0.9}},
        {"query": {"name": "none", "promql": 'max(nothing{pod=~"$canary_pods"})', "max": 0.9}},
        {"errors": {}},
    ]
    (newcomer.folder / "front-end.yaml").write_text(
        yaml.safe_dump(a_policy(analysis={"interval": "10s", "metrics": metrics}).dump())
    )
    found = newcomer.findings()
    assert [one["about"] for one in found if one["check"] == "telemetry.queries"] == ["query none"]


def test_a_service_that_nobody_calls_is_told_with_what_there_is(newcomer: Newcomer) -> None:
    policy = a_policy(
        service={"name": "carts", "namespace": "production", "selector": {"app": "carts"}},
        route={"virtualService": "carts"},
    )
    (newcomer.folder / "front-end.yaml").write_text(yaml.safe_dump(policy.dump()))
    found = newcomer.findings(code=1)
    assert "there are counts of production/front-end-v1" in next(
        one["found"] for one in found if one["check"] == "telemetry.requests"
    )
    assert "there is no VirtualService production/carts" in next(
        one["found"] for one in found if one["check"] == "routes.steerable"
    )


# ---------------------------------------------------------------- files


PAGE = (FOLDER / "virtualservice.yaml").read_text().partition("\n")[2]


def test_files_alone_are_checked_without_a_cluster(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["check", "-f", str(FOLDER)], env={"KUBECONFIG": str(tmp_path / "nowhere")}
    )
    assert result.exit_code == 0, result.output
    assert "production/front-end, from files\n" in result.output
    assert f"all traffic on v1 ({FOLDER}/virtualservice.yaml:1)" in " ".join(result.output.split())
    assert "Prometheus" not in result.output


def test_a_shell_s_list_of_files_is_taken_for_files(tmp_path: Path) -> None:
    for name in ("virtualservice", "destinationrule", "gateway"):
        (tmp_path / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    files = [str(one) for one in sorted(tmp_path.glob("*.yaml"))]
    data = json.loads(CliRunner().invoke(main, ["check", "-o", "json", "-f", *files]).stdout)
    assert data["services"] == ["production/front-end"]
    assert data["exitCode"] == 0
    assert {finding["level"] for finding in data["findings"]} == {"ok", "warning", "unknown"}


def test_lost_indentation_in_a_file_is_told_with_its_line_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "virtualservice.yaml"
    path.write_text("\n".join(line.strip() for line in PAGE.splitlines()) + "\n")
    result = CliRunner().invoke(main, ["check", "-f", str(path), "-o", "json"])
    assert result.exit_code == 1
    (flaw,) = [finding for finding in json.loads(result.stdout)["findings"] if finding["level"] == "problem"]
    assert (flaw["check"], flaw["file"], flaw["line"]) == ("files.indent", str(path), 4)
    assert yaml.safe_load(flaw["mend"]) == yaml.safe_load(PAGE)


def test_the_mended_file_is_right(tmp_path: Path) -> None:
    path = tmp_path / "virtualservice.yaml"
    path.write_text("\n".join(line.strip() for line in PAGE.splitlines()) + "\n")
    data = json.loads(CliRunner().invoke(main, ["check", "-f", str(path), "-o", "json"]).stdout)
    path.write_text(
        next(finding["mend"] for finding in data["findings"] if finding["check"] == "files.indent")
    )
    again = CliRunner().invoke(main, ["check", "-f", str(path), "-f", str(FOLDER / "destinationrule.yaml")])
    assert again.exit_code == 0, again.output
    assert "Files" not in again.output


def test_a_file_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-f", str(tmp_path / "nowhere.yaml")])
    assert result.exit_code == 1
    assert result.stderr == f"canaryd: {tmp_path}/nowhere.yaml: cannot be read: No such file or directory\n"


def test_a_client_says_when_it_was_answered(newcomer: Newcomer) -> None:
    api = KubernetesApi(str(newcomer.world.kubeconfig))
    assert api.said_at is None
    api.version()
    assert api.said_at is not None
    assert api.said_at.endswith("GMT")


def test_clocks_are_told_by_the_nearest_moment_of_an_exchange(newcomer: Newcomer) -> None:
    """A slow answer is no skew."""
    newcomer.world.prometheus.faults.delay(3.0)
    try:
        assert "clock" not in " ".join(names(newcomer.findings()))
    finally:
        newcomer.world.prometheus.faults.clear()
