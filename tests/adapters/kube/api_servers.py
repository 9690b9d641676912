"""Where an adapter is tested: an API server, and a namespace of the test's own on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from canaryd.adapters.kube.client import KubernetesApi, path_to
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, Missing
from tests.builders import a_policy

REAL = pytest.param("real", marks=[pytest.mark.real, pytest.mark.xdist_group("real")])
CRD = Path(__file__).parents[3] / "charts" / "canaryd" / "crds" / "canaryrollouts.yaml"
ISTIO = "networking.istio.io/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Place:
    """An API server, and a namespace of this test's own on it."""

    api: KubernetesApi
    namespace: str
    is_real: bool

    def policy(self, **changes: Any) -> Policy:
        data = a_policy(**changes).dump()
        return Policy.load({**data, "service": {**data["service"], "namespace": self.namespace}})

    def put(self, version: str, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
        return self.api.request(
            "POST", path_to(version, plural, self.namespace), {"apiVersion": version, **obj}
        )

    def get(self, version: str, plural: str, name: str) -> dict[str, Any]:
        return self.api.request("GET", path_to(version, plural, self.namespace, name))

    def edit(
        self,
        version: str,
        plural: str,
        name: str,
        change: Callable[[dict[str, Any]], None],
        part: str | None = None,
    ) -> dict[str, Any]:
        """Reads, lets `change` edit it in place, writes, as a person would: again where a controller wrote
        the status in between."""
        while True:
            obj = self.get(version, plural, name)
            change(obj)
            with suppress(Conflict):
                return self.api.request("PUT", path_to(version, plural, self.namespace, name, part), obj)


def install_crd(api: KubernetesApi) -> None:
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
