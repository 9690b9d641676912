"""The Helm chart, rendered by helm: what is in it, what it refuses, and that canaryd takes what it
renders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from canaryd.adapters.policies import policy_files
from canaryd.settings import load_settings

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "canaryd"
POLICY = {
    "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
    "route": {"virtualService": "sockshop"},
    "stages": [{"weight": 10}, {"weight": 100}],
}


@pytest.fixture(scope="module")
def helm() -> str:
    parts = Path(os.environ.get("CANARYD_PARTS") or Path.home() / ".cache" / "canaryd-parts")
    found = shutil.which("helm") or shutil.which("helm", path=parts / "bin")
    if found is None:
        reason = "no helm: on the PATH, or by make parts"
        if os.environ.get("CANARYD_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def run(helm: str, *args: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [helm, *args, str(CHART), "--namespace", "delivery", *(["--values", "-"] if values else [])]
    return subprocess.run(
        command,
        input=json.dumps(values) if values else "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rendered(
    helm: str, values: dict[str, Any] | None = None, release: str = "canaryd"
) -> dict[tuple[str, str], Any]:
    """The objects of a release, by kind and name."""
    done = run(helm, "template", release, values=values)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout) if one}


def refusal(helm: str, values: dict[str, Any]) -> str:
    done = run(helm, "template", "canaryd", values=values)
    assert done.returncode != 0, "the chart takes it"
    return done.stderr


def test_helm_finds_no_fault_with_it(helm: str) -> None:
    done = run(helm, "lint", "--strict")
    assert done.returncode == 0, done.stdout


def test_one_replica_is_replaced_and_never_doubled(helm: str) -> None:
    deployment = rendered(helm)["Deployment", "canaryd"]
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_it_runs_as_nobody_on_a_read_only_root(helm: str) -> None:
    pod = rendered(helm)["Deployment", "canaryd"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_ask_the_port_that_the_settings_listen_on(helm: str, tmp_path: Path) -> None:
    objects = rendered(helm, {"port": 9000})
    (container,) = objects["Deployment", "canaryd"]["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert objects["Service", "canaryd"]["spec"]["ports"] == [
        {"name": "http", "port": 9000, "targetPort": "http"}
    ]
    (tmp_path / "canaryd.yaml").write_text(objects["ConfigMap", "canaryd"]["data"]["canaryd.yaml"])
    settings = load_settings(tmp_path / "canaryd.yaml")
    assert (settings.http.listen, settings.http.port) == ("0.0.0.0", 9000)


def test_canaryd_takes_the_settings_it_is_given(helm: str, tmp_path: Path) -> None:
    notifiers = {
        "oncall": {"alertmanager": {"url": "http://alertmanager:9093", "labels": {"severity": "page"}}}
    }
    config = {
        "prometheus": {"url": "http://thanos:9090", "scrapeInterval": "30s"},
        "beat": "2s",
        "history": 5,
        "notifiers": notifiers,
        "gates": {"smoke": {"url": "https://tests.example/smoke"}},
    }
    objects = rendered(helm, {"config": config})
    (tmp_path / "canaryd.yaml").write_text(objects["ConfigMap", "canaryd"]["data"]["canaryd.yaml"])
    settings = load_settings(tmp_path / "canaryd.yaml")
    assert (settings.prometheus.url, settings.prometheus.scrape_interval, settings.history) == (
        "http://thanos:9090",
        30.0,
        5,
    )
    assert (set(settings.notifiers), set(settings.gates)) == ({"oncall"}, {"smoke"})


@pytest.mark.parametrize("policy", [POLICY, yaml.safe_dump(POLICY)], ids=["as a map", "as text"])
def test_canaryd_takes_the_policies_it_is_given(helm: str, tmp_path: Path, policy: object) -> None:
    data = rendered(helm, {"policies": {"front-end.yaml": policy}})["ConfigMap", "canaryd-policies"]["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    loaded = policy_files.load(tmp_path)
    assert [
        (policy.service.name, [stage.weight for stage in policy.stages]) for policy in loaded.policies
    ] == [("front-end", [10, 100])]


@pytest.mark.parametrize(
    "before", ["  # a comment that is indented\n", "\n   \n", '# "quoted": <é> {{ x }} \\ \n']
)
def test_a_policy_s_text_comes_as_it_was_written_whatever_its_first_line(helm: str, before: str) -> None:
    text = before + yaml.safe_dump(POLICY)
    assert (
        rendered(helm, {"policies": {"a.yaml": text}})["ConfigMap", "canaryd-policies"]["data"]["a.yaml"]
        == text
    )


def test_names_that_look_like_numbers_stay_text(helm: str) -> None:
    values = {
        "priorityClassName": "1000",
        "serviceAccount": {"name": "007"},
        "fullnameOverride": "12",
        "nameOverride": "34",
    }
    objects = rendered(helm, values, release="56")
    deployment = objects["Deployment", "12"]
    pod = deployment["spec"]["template"]["spec"]
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("1000", "007")
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "34",
        "app.kubernetes.io/instance": "56",
    }
    assert objects["ServiceAccount", "007"]
    assert objects["ClusterRoleBinding", "delivery-12"]["subjects"][0]["name"] == "007"
    mounted = rendered(helm, {"existingPoliciesConfigMap": "78"})["Deployment", "canaryd"]["spec"][
        "template"
    ]["spec"]["volumes"]
    assert {"name": "policies", "configMap": {"name": "78"}} in mounted


def test_labels_of_one_s_own_are_on_the_pod(helm: str) -> None:
    template = rendered(helm, {"podLabels": {"team": "delivery"}})["Deployment", "canaryd"]["spec"][
        "template"
    ]
    assert template["metadata"]["labels"]["team"] == "delivery"
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "canaryd"


def test_the_notes_command_shows_what_is_lacking_and_works_while_it_is_not_ready(
    helm: str, tmp_path: Path
) -> None:
    # `kubectl get --raw` prints no body of a 503. Notes are rendered by an installation only, so here they
    # stand in a ConfigMap.
    copy = shutil.copytree(CHART, tmp_path / "canaryd")
    notes = (copy / "templates" / "NOTES.txt").read_text()
    shown = 'kind: ConfigMap\nmetadata: {name: notes}\ndata: {notes: {{ include "notes" . | quote }}}\n'
    (copy / "templates" / "notes.yaml").write_text('{{- define "notes" }}' + notes + "{{- end }}\n" + shown)
    options = ["--namespace", "delivery", "--set", "port=9000", "--show-only", "templates/notes.yaml"]
    command = [helm, "template", "canaryd", str(copy), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = yaml.safe_load(done.stdout)["data"]["notes"]
    assert "kubectl -n delivery port-forward deployment/canaryd 9000\n" in told
    assert "curl -s http://127.0.0.1:9000/readyz\n" in told
    assert "--raw" not in told


def test_without_policies_the_configmap_is_there_and_empty(helm: str) -> None:
    assert rendered(helm)["ConfigMap", "canaryd-policies"]["data"] == {}


def test_a_configmap_of_one_s_own_is_mounted_instead(helm: str) -> None:
    objects = rendered(helm, {"existingPoliciesConfigMap": "ours"})
    assert ("ConfigMap", "canaryd-policies") not in objects
    volumes = objects["Deployment", "canaryd"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "policies", "configMap": {"name": "ours"}} in volumes


def test_changed_settings_make_a_new_pod_and_changed_policies_do_not(helm: str) -> None:
    def template(values: dict[str, Any] | None) -> Any:
        return rendered(helm, values)["Deployment", "canaryd"]["spec"]["template"]

    assert template({"policies": {"front-end.yaml": POLICY}}) == template(None)
    assert template({"config": {"beat": "2s"}}) != template(None)


def test_it_may_do_what_it_needs_and_no_more(helm: str) -> None:
    objects = rendered(helm)
    rules = objects["ClusterRole", "delivery-canaryd"]["rules"]
    may = {
        (group, resource): sorted(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert may == {  # tests/real/test_chart_rights.py compares it with what is really used
        ("canaryd.dev", "canaryrollouts"): ["create", "delete", "get", "list"],
        ("canaryd.dev", "canaryrollouts/status"): ["patch", "update"],
        ("networking.istio.io", "virtualservices"): ["get", "patch"],
        ("networking.istio.io", "destinationrules"): ["create", "delete", "get", "patch"],
        ("gateway.networking.k8s.io", "httproutes"): ["get", "list", "patch"],
        ("", "services"): ["create", "delete", "list"],
        ("apps", "deployments"): ["get", "list"],
        ("apps", "deployments/scale"): ["patch"],
        ("", "configmaps"): ["create", "get", "patch"],
        ("events.k8s.io", "events"): ["create"],
    }
    binding = objects["ClusterRoleBinding", "delivery-canaryd"]
    assert binding["roleRef"]["name"] == "delivery-canaryd"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "canaryd", "namespace": "delivery"}]
    assert objects["Deployment", "canaryd"]["spec"]["template"]["spec"]["serviceAccountName"] == "canaryd"


def test_two_releases_share_no_name(helm: str) -> None:
    assert not rendered(helm, release="canaryd").keys() & rendered(helm, release="other").keys()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 2}, "replicas"),
        ({"port": 80}, "port"),
        ({"config": {"prometheus": {"url": "prometheus:9090"}}}, "url"),
        ({"config": {"http": {"port": 1}}}, "http"),
        ({"policies": {"front-end.txt": {}}}, "front-end.txt"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        (
            {"policies": {"a.yaml": POLICY}, "existingPoliciesConfigMap": "ours"},
            "existingPoliciesConfigMap (ours), which is read instead",
        ),
        (
            {"podLabels": {"app.kubernetes.io/name": "mine"}},
            "podLabels must leave app.kubernetes.io/name to the chart",
        ),
        ({"podLabels": {"helm.sh/chart": "mine"}}, "podLabels must leave helm.sh/chart to the chart"),
    ],
)
def test_nonsense_is_refused_by_name(helm: str, values: dict[str, Any], named: str) -> None:
    assert named in refusal(helm, values)


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
