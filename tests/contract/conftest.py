"""The same contract, asked of the sandbox and of the real thing: whatever holds here may be relied upon by
every other test."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import new_client_from_config

from canaryd_sandbox.world import World

REAL = pytest.param("real", marks=[pytest.mark.real, pytest.mark.xdist_group("real")])


@dataclass(frozen=True)
class Answer:
    """What the API server said: the HTTP code and the JSON body."""

    code: int
    body: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


class Kubernetes:
    """An API server behind the official client, and a namespace of this test's own."""

    def __init__(self, kubeconfig: Path) -> None:
        self.client: ApiClient = new_client_from_config(config_file=str(kubeconfig))
        self.client.configuration.retries = False
        self.namespace = f"contract-{uuid.uuid4().hex[:8]}"

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str
    ) -> Answer:
        """One request; `{ns}` in the path is this test's namespace."""
        asked = self.client.param_serialize(
            method,
            path.replace("{ns}", self.namespace),
            query_params=list(query.items()),
            body=body,
            header_params={
                "Accept": "application/json",
                **({"Content-Type": kind} if body is not None else {}),
            },
            auth_settings=["BearerToken"],
        )
        try:
            response = self.client.call_api(*asked, _request_timeout=(3, 10))
            response.read()
            return Answer(response.status, _json(response.data))
        except ApiException as error:
            return Answer(error.status, _json(error.body))

    def made(self, path: str, obj: Any) -> Any:
        """The object, created."""
        answer = self.ask("POST", path, obj)
        assert answer.code == 201, answer
        return answer.body


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode() if isinstance(text, bytes) else text


@pytest.fixture(scope="session")
def sandbox() -> Iterator[World]:
    """A sandbox whose last minute has been simulated."""
    with World(realtime=False, start=time.time() - 60) as world:
        world.advance(time.time())
        yield world


@pytest.fixture(params=["sandbox", REAL])
def kubernetes_api(request: pytest.FixtureRequest) -> Iterator[Kubernetes]:
    if request.param == "sandbox":
        api = Kubernetes(request.getfixturevalue("sandbox").kubeconfig)
    else:
        api = Kubernetes(request.getfixturevalue("real_cluster").kubeconfig)
    api.made(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}}
    )
    yield api
    api.ask("DELETE", "/api/v1/namespaces/{ns}")
    api.client.close()


class Prometheus:
    """A Prometheus that scrapes the job `istio` every second, and a moment at which it had done so for a
    while."""

    def __init__(self, url: str, at: float) -> None:
        self.url, self.at = url, at

    def get(self, endpoint: str, **parameters: Any) -> tuple[int, Any]:
        answer = requests.get(f"{self.url}/api/v1/{endpoint}", params=parameters, timeout=5)
        return answer.status_code, answer.json()

    def post(self, endpoint: str, **parameters: Any) -> tuple[int, Any]:
        answer = requests.post(f"{self.url}/api/v1/{endpoint}", data=parameters, timeout=5)
        return answer.status_code, answer.json()

    def result(self, query: str, at: float | None = None) -> list[Any]:
        code, body = self.get("query", query=query, time=self.at if at is None else at)
        assert (code, body["status"]) == (200, "success"), body
        return list(body["data"]["result"])


@pytest.fixture(params=["sandbox", REAL])
def prometheus_api(request: pytest.FixtureRequest) -> Prometheus:
    if request.param == "sandbox":
        world: World = request.getfixturevalue("sandbox")
        return Prometheus(world.prometheus_url, world.now)
    api = Prometheus(request.getfixturevalue("real_cluster").prometheus, time.time())
    deadline = time.monotonic() + 30
    while (
        len(api.result("up[10s]", time.time()) or [{"values": []}])
        and sum(len(row["values"]) for row in api.result("up[10s]", time.time())) < 8
    ):
        assert time.monotonic() < deadline, "the real Prometheus has not scraped for 10 s"
        time.sleep(0.5)
    api.at = time.time()
    return api
