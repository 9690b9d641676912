"""Many services in one sandbox: each in a namespace of its own, with traffic, and with as much past as
canaryd reads.

Made of the sandbox's own parts (its `World` has one service): one Kubernetes API, one mesh for each service,
one Prometheus.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ruamel.yaml import YAML

from canaryd_sandbox.kubernetes.api import KubernetesServer
from canaryd_sandbox.kubernetes.deployment_controller import DeploymentController
from canaryd_sandbox.kubernetes.resources import (
    DEFINITIONS,
    DEPLOYMENTS,
    DESTINATIONRULES,
    NAMESPACES,
    VIRTUALSERVICES,
    Object,
)
from canaryd_sandbox.kubernetes.store import Change, Store
from canaryd_sandbox.mesh.mesh import Behaviour, Mesh, Sample
from canaryd_sandbox.prometheus.api import PrometheusServer

ROUTE = "sockshop"
CRDS = Path(__file__).parents[1] / "charts/canaryd/crds"
TICK = 0.1  # s between two looks of the simulation


class _All(Mesh):
    """What one Prometheus scrapes of several meshes."""

    def __init__(self, store: Store, meshes: list[Mesh]) -> None:
        super().__init__(store, rate=0.0)
        self._meshes = meshes

    def samples(self) -> list[Sample]:
        return [sample for mesh in self._meshes for sample in mesh.samples()]


class Fleet:
    """count services between `with` and its end, in real time, each with v1 alone at first.

    rate: requests/s of each; replicas: of each version; scrape: s between two scrapes; past: s of telemetry
    that lie behind them; folder: for the kubeconfig. Chance is seeded; when things happen is not.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        *,
        rate: float = 50.0,
        replicas: int = 3,
        scrape: float = 1.0,
        past: float = 400.0,
        seed: int = 1,
    ) -> None:
        self.now = time.time() - past
        self.scrape, self.rate, self.replicas = scrape, rate, replicas
        self.store = Store(lambda: self.now, seed)
        # each in a namespace of its own name
        self.services = [f"shop-{number:02}" for number in range(count)]
        self.meshes = {
            name: Mesh(self.store, name, name, 0.0, seed + i, drain=2.5 * scrape)
            for i, name in enumerate(self.services)
        }
        self.kubernetes = KubernetesServer(self.store)
        self.prometheus = PrometheusServer(_All(self.store, list(self.meshes.values())), lambda: self.now)
        self.kubeconfig = folder / "kubeconfig"
        self._controller = DeploymentController(self.store)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def __enter__(self) -> Self:
        self.kubernetes.__enter__()
        self.prometheus.__enter__()
        self.kubeconfig.write_text(json.dumps(self.kubernetes.kubeconfig()))
        for path in sorted(CRDS.glob("*.yaml")):
            self.store.create(DEFINITIONS, None, YAML(typ="safe").load(path))
        for service in self.services:
            self._seed(service)
        while any(len(mesh.replicas()) < self.replicas for mesh in self.meshes.values()):
            self._move(self.now + TICK)
        for mesh in self.meshes.values():
            mesh.rate = self.rate
        while self.now + self.scrape < time.time():  # the past needs no small steps: nobody steers in it
            self._move(self.now + self.scrape)
            self.prometheus.scrape(self.now)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(5)
        self.prometheus.__exit__(kind, error, trace)
        self.kubernetes.__exit__(kind, error, trace)

    def _move(self, now: float) -> None:
        self.now = now
        self._controller.advance(now)
        for mesh in self.meshes.values():
            mesh.advance(now)

    def _run(self) -> None:
        due = self.now + self.scrape
        while not self._stopped.wait(TICK):
            self._move(time.time())
            if self.now >= due:
                self.prometheus.scrape(self.now)
                due += self.scrape

    def _seed(self, service: str) -> None:
        host = f"{service}.{service}.svc.cluster.local"
        self.store.create(NAMESPACES, None, {"metadata": {"name": service}, "status": {"phase": "Active"}})
        self.store.create(
            DESTINATIONRULES,
            service,
            {
                "metadata": {"name": service},
                "spec": {"host": host, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
            },
        )
        self.store.create(
            VIRTUALSERVICES,
            service,
            {
                "metadata": {"name": ROUTE},
                "spec": {
                    "hosts": ["*"],
                    "http": [{"route": [{"destination": {"host": host, "subset": "v1"}}]}],
                },
            },
        )
        self.deploy(service, "v1")

    def deploy(self, service: str, version: str, behaviour: Behaviour | None = None) -> Object:
        """Applies the Deployment SERVICE-VERSION, and nothing else."""
        self.behave(service, version, behaviour or Behaviour())
        labels = {"app": service, "version": version}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": f"shop/{service}:{version}"}]},
        }
        return self.store.create(
            DEPLOYMENTS,
            service,
            {
                "metadata": {"name": f"{service}-{version}"},
                "spec": {
                    "replicas": self.replicas,
                    "template": template,
                    "selector": {"matchLabels": labels},
                },
            },
        )

    def behave(self, service: str, version: str, behaviour: Behaviour) -> None:
        """How a version answers from now on."""
        self.meshes[service].behaviours[version] = behaviour

    def weights(self, service: str) -> dict[str, int]:
        """Subset to weight, as the VirtualService has it now."""
        return weights(self.store.get(VIRTUALSERVICES, service, ROUTE))

    def on_route(self, tell: Callable[[str, dict[str, int], float], None]) -> None:
        """Has `tell(service, weights, Unix seconds)` called at every write of a VirtualService, in the
        writing itself."""

        def on_change(change: Change) -> None:
            if change.key == VIRTUALSERVICES.key and change.kind == "MODIFIED":
                tell(change.obj["metadata"]["namespace"], weights(change.obj), time.time())

        self.store.subscribe(self.store.version, on_change)

    def policies(self, **analysis: Any) -> dict[str, dict[str, Any]]:
        """A policy file for each service, which keeps its canary at weight 10 for an hour. analysis: its
        keys."""
        return {
            f"{service}.yaml": {
                "service": {"name": service, "namespace": service, "selector": {"app": service}},
                "route": {"virtualService": ROUTE},
                "stages": [{"weight": 10, "minimum": "1h", "deadline": "2h"}, {"weight": 100}],
                "analysis": analysis,
            }
            for service in self.services
        }


def weights(route: Object) -> dict[str, int]:
    """Subset to weight of a VirtualService's first route; a single destination without a weight is 100."""
    found = route["spec"]["http"][0]["route"]
    return {
        route["destination"]["subset"]: route.get("weight", 100 if len(found) == 1 else 0) for route in found
    }
