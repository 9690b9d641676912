"""Each adapter against an API server over HTTP: the sandbox's, and the real one where its parts are installed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from canaryd.adapters.kube.client import Api, path_to
from canaryd.domain.policy import Policy
from canaryd.domain.ports import Conflict, Missing
from canaryd.sandbox import httproutes
from canaryd.sandbox.kubernetes import KubernetesServer
from canaryd.sandbox.kubernetes_resources import DEFINITIONS
from canaryd.sandbox.kubernetes_store import Store
from tests.builders import a_policy

REAL = pytest.param("real", marks=[pytest.mark.real, pytest.mark.xdist_group("real")])
CRD = Path(__file__).parents[3] / "charts" / "canaryd" / "crds" / "canaryrollouts.yaml"
ISTIO = "networking.istio.io/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Place:
    """An API server, and a namespace of this test's own on it."""

    api: Api
    namespace: str
    is_real: bool

    def policy(self, **changes: Any) -> Policy:
        data = a_policy(**changes).dump()
        return Policy.load({**data, "service": {**data["service"], "namespace": self.namespace}})

    def put(self, version: str, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
        return self.api.request("POST", path_to(version, plural, self.namespace), {"apiVersion": version, **obj})

    def get(self, version: str, plural: str, name: str) -> dict[str, Any]:
        return self.api.request("GET", path_to(version, plural, self.namespace, name))

    def edit(
        self, version: str, plural: str, name: str, change: Callable[[dict[str, Any]], None], part: str | None = None
    ) -> dict[str, Any]:
        """Reads, lets `change` edit it in place, writes, as a person would: again where a controller wrote the status in between."""
        while True:
            obj = self.get(version, plural, name)
            change(obj)
            with suppress(Conflict):
                return self.api.request("PUT", path_to(version, plural, self.namespace, name, part), obj)


@pytest.fixture(scope="session")
def sandbox_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KubernetesServer, Api]]:
    store = Store(time.time)
    store.create(DEFINITIONS, None, httproutes.DEFINITION)
    with KubernetesServer(store) as server:
        kubeconfig = tmp_path_factory.mktemp("sandbox") / "kubeconfig"
        kubeconfig.write_text(json.dumps(server.kubeconfig()))
        yield server, Api(str(kubeconfig), connect_seconds=1.0, read_seconds=2.0)


@pytest.fixture(params=["sandbox", REAL])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "sandbox":
        api = request.getfixturevalue("sandbox_api")[1]
    else:
        api = Api(str(request.getfixturevalue("real_cluster").kubeconfig))
        install_crd(api)
    name = f"kube-{uuid.uuid4().hex[:8]}"
    api.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield Place(api, name, request.param == "real")
    api.request("DELETE", f"/api/v1/namespaces/{name}")


def install_crd(api: Api) -> None:
    """As `kubectl apply` and `kubectl wait` would; once is enough."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    try:
        api.request("POST", path, YAML(typ="safe").load(CRD.read_text(encoding="utf-8")))
    except Conflict:
        return
    deadline = time.monotonic() + 10
    while True:
        try:
            api.request("GET", path_to("canaryd.dev/v1alpha1", "canaryrollouts"))
            return
        except Missing:
            assert time.monotonic() < deadline, "the CanaryRollout CRD was not served within 10 s"
            time.sleep(0.1)
