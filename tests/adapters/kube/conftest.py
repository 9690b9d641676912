"""Each adapter against an API server over HTTP: the sandbox's, and the real one where its parts are
installed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd_sandbox.kubernetes.api import KubernetesServer
from canaryd_sandbox.kubernetes.resources import DEFINITIONS
from canaryd_sandbox.kubernetes.store import Store
from canaryd_sandbox.mesh import httproute
from tests.adapters.kube.api_servers import REAL, Place, install_crd
from tests.adapters.kube.route_kinds import ROUTERS, Router


@pytest.fixture(scope="session")
def sandbox_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KubernetesServer, KubernetesApi]]:
    store = Store(time.time)
    store.create(DEFINITIONS, None, httproute.DEFINITION)
    with KubernetesServer(store) as server:
        kubeconfig = tmp_path_factory.mktemp("sandbox") / "kubeconfig"
        kubeconfig.write_text(json.dumps(server.kubeconfig()))
        yield server, KubernetesApi(str(kubeconfig), connect_seconds=1.0, read_seconds=2.0)


@pytest.fixture(params=["sandbox", REAL])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "sandbox":
        api = request.getfixturevalue("sandbox_api")[1]
    else:
        api = KubernetesApi(str(request.getfixturevalue("real_cluster").kubeconfig))
        install_crd(api)
    name = f"kube-{uuid.uuid4().hex[:8]}"
    api.request(
        "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    yield Place(api, name, request.param == "real")
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(params=ROUTERS, ids=lambda one: one.kind)
def router(request: pytest.FixtureRequest) -> Router:
    """Each kind of route in turn."""
    chosen: Router = request.param
    return chosen


@pytest.fixture
def traffic(place: Place) -> TrafficByKind:
    """The port, by which what was made is routed to at once."""
    return TrafficByKind(place.api, settle=0.0)
