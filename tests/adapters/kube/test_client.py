"""The client's promises: a time limit on every call, and every failure told apart as the domain needs it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import certifi
import pytest
from kubernetes.config import incluster_config

from canaryd.adapters.kube import client
from canaryd.adapters.kube.client import JSON_PATCH, MERGE_PATCH, KubernetesApi, path_to
from canaryd.domain.ports import Conflict, Forbidden, Missing, Rejected, Unavailable
from canaryd_sandbox.kubernetes.api import KubernetesServer
from tests.adapters.kube.api_servers import REAL, Place

Sandbox = tuple[KubernetesServer, KubernetesApi]


def a_config_map(place: Place) -> str:
    place.put("v1", "configmaps", {"kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"key": "old"}})
    return path_to("v1", "configmaps", place.namespace, "one")


def test_what_is_not_there_is_missing_and_named(place: Place) -> None:
    with pytest.raises(Missing, match=r"GET /api/v1/namespaces/.+/configmaps/none: 404: .*none.* not found"):
        place.get("v1", "configmaps", "none")


def test_creating_twice_is_a_conflict(place: Place) -> None:
    a_config_map(place)
    with pytest.raises(Conflict, match="already exists"):
        a_config_map(place)


def test_a_patch_whose_test_fails_is_a_conflict_and_changes_nothing(place: Place) -> None:
    path = a_config_map(place)
    patch = [
        {"op": "test", "path": "/data/key", "value": "other"},
        {"op": "replace", "path": "/data/key", "value": "new"},
    ]
    with pytest.raises(Conflict):
        place.api.request("PATCH", path, patch, content_type=JSON_PATCH)
    assert place.get("v1", "configmaps", "one")["data"] == {"key": "old"}


def test_a_write_with_an_old_resource_version_is_a_conflict(place: Place) -> None:
    path = a_config_map(place)
    old = place.get("v1", "configmaps", "one")
    place.api.request("PATCH", path, {"data": {"key": "theirs"}}, content_type=MERGE_PATCH)
    with pytest.raises(Conflict):
        place.api.request("PUT", path, old)
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"key": "ours"}}
    with pytest.raises(Conflict):
        place.api.request("PATCH", path, patch, content_type=MERGE_PATCH)


@pytest.mark.parametrize("place", [REAL], indirect=True)  # the sandbox has no schemas
def test_a_patch_that_makes_an_object_invalid_is_rejected_and_no_conflict(place: Place) -> None:
    path = a_config_map(place)
    with pytest.raises(Rejected, match="a valid label") as caught:
        place.api.request(
            "PATCH",
            path,
            [{"op": "add", "path": "/metadata/labels", "value": {"a": "(no)"}}],
            content_type=JSON_PATCH,
        )
    assert not isinstance(caught.value, Conflict)


def test_the_server_says_its_version_and_the_versions_it_prefers(place: Place) -> None:
    assert place.api.version().startswith("v1.")
    assert place.api.preferred_version("networking.istio.io") == "v1"
    with pytest.raises(Missing, match=r"no API group example\.test"):
        place.api.preferred_version("example.test")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(500, Unavailable), (503, Unavailable), (429, Unavailable), (403, Forbidden), (409, Conflict)],
)
def test_each_status_is_told_apart(sandbox_api: Sandbox, code: int, kind: type[Exception]) -> None:
    server, api = sandbox_api
    server.faults.status(code)
    with pytest.raises(kind, match=str(code)) as caught:
        api.request("GET", "/api/v1/namespaces")
    assert type(caught.value) is kind


def test_a_server_that_is_down_is_unavailable_and_asked_once(sandbox_api: Sandbox) -> None:
    server, api = sandbox_api
    server.faults.down = True
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="did not answer"):
            api.version()
    finally:
        server.faults.clear()
    assert time.monotonic() - began < 1.0
    assert api.version().startswith("v1.")


def test_a_server_that_hangs_is_given_up_after_the_time_limit(sandbox_api: Sandbox, tmp_path: Path) -> None:
    server, _ = sandbox_api
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(server.kubeconfig()))
    api = KubernetesApi(str(kubeconfig), connect_seconds=0.3, read_seconds=0.3)
    server.faults.hang = True
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            api.version()
    finally:
        server.faults.clear()
    assert 0.25 < time.monotonic() - began < 1.5


def test_the_context_chooses_server_and_namespace(sandbox_api: Sandbox, tmp_path: Path) -> None:
    server, _ = sandbox_api
    config = server.kubeconfig()
    config["contexts"].append(
        {"name": "other", "context": {**config["contexts"][0]["context"], "namespace": "elsewhere"}}
    )
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    assert KubernetesApi(str(kubeconfig)).namespace == "production"
    assert KubernetesApi(str(kubeconfig), "other").namespace == "elsewhere"
    with pytest.raises(Rejected, match="nowhere"):
        KubernetesApi(str(kubeconfig), "nowhere")


def test_without_any_credentials_the_ways_to_give_them_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Rejected, match="wanted --kubeconfig, KUBECONFIG"):
        KubernetesApi()
    with pytest.raises(Rejected, match=r"absent"):
        KubernetesApi(str(tmp_path / "absent"))


def test_in_a_pod_its_own_account_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    account = {"token": "of-the-pod", "namespace": "canaryd-system", "ca.crt": certifi.contents()}
    for name, text in account.items():
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(client, "_SERVICE_ACCOUNT_NAMESPACE", tmp_path / "namespace")
    api = KubernetesApi()
    assert (api.server, api.namespace) == ("https://127.0.0.1:6443", "canaryd-system")
    sent = api.client.param_serialize("GET", "/version", header_params={}, auth_settings=["BearerToken"])
    assert sent[2]["authorization"] == "bearer of-the-pod"


def test_names_in_paths_are_quoted() -> None:
    assert (
        path_to("apps/v1", "deployments", "ns", "a/b", "scale")
        == "/apis/apps/v1/namespaces/ns/deployments/a%2Fb/scale"
    )
    assert path_to("v1", "configmaps") == "/api/v1/configmaps"


def test_an_object_s_age_is_by_the_server_s_clock_and_never_more_than_it_is(place: Place) -> None:
    a_config_map(place)
    fresh = place.get("v1", "configmaps", "one")
    assert place.api.age(fresh) <= 1
    fresh["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    place.api.said_at = "Thu, 01 Jan 2026 00:00:07 GMT"
    assert place.api.age(fresh) == 6, (
        "it may have been made at the end of the first second, and asked for at the beginning of the last"
    )
    place.api.said_at = "Wed, 31 Dec 2025 23:00:00 GMT"
    assert place.api.age(fresh) == 0
