"""The sandbox as one thing: a Kubernetes API, a mesh with traffic, and a Prometheus API, seeded with the
worked example.

    with World() as world:                       # in real time, as the demo runs it
        world.deploy("v2", errors=0.05)          # a person applies a Deployment; all else is up to canaryd
        ...                             # KUBECONFIG=world.kubeconfig, Prometheus at world.prometheus_url

    with World(realtime=False, start=0.0) as world:
        world.advance(60.0)                      # a test moves the time

The world only does what a cluster, its users and its operators do. It never decides about a rollout.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ruamel.yaml import YAML

from canaryd_sandbox.kubernetes.api import KubernetesServer
from canaryd_sandbox.kubernetes.deployment_controller import AFTER, MODE, DeploymentController
from canaryd_sandbox.kubernetes.resources import (
    DEFINITIONS,
    DEPLOYMENTS,
    DESTINATIONRULES,
    GATEWAYS,
    NAMESPACES,
    PODS,
    SERVICES,
    VIRTUALSERVICES,
    Object,
)
from canaryd_sandbox.kubernetes.store import Store
from canaryd_sandbox.mesh.istio_objects import install
from canaryd_sandbox.mesh.mesh import Behaviour, Mesh, Tally
from canaryd_sandbox.mesh.routing import resolve
from canaryd_sandbox.prometheus.api import PrometheusServer

SERVICE, NAMESPACE = "front-end", "production"
HOST = f"{SERVICE}.{NAMESPACE}.svc.cluster.local"
TICK = 0.1  # seconds between two looks of the simulation: shorter than any scrape or look
HEAD_START = 1.0  # seconds before the present where a world begins, so that the seeded pods are ready now
SLOWEST_START = 60.0  # simulated seconds that a seeded Deployment may take to become ready

CRDS = Path(__file__).parents[1] / "charts/canaryd/crds"  # of a checkout


def deployment(
    version: str,
    replicas: int = 1,
    pod: str | None = None,
    annotations: Mapping[str, str] = {},
    progress_deadline: int = 600,
) -> Object:
    """The Deployment of a version of the worked example's service, as a person applies it.

    pod: how its pods live (see `deployment_controller`); annotations: of the pods; `canaryd.test/behaviour`
    says in JSON how they answer, in the fields of `Behaviour`.
    """
    template: Object = {
        "metadata": {"labels": {"app": SERVICE, "version": version} | ({MODE: pod} if pod else {})},
        "spec": {
            "containers": [
                {
                    "name": SERVICE,
                    "image": f"sockshop/{SERVICE}:{version}",
                    "ports": [{"containerPort": 8080}],
                }
            ]
        },
    }
    if annotations:
        template["metadata"]["annotations"] = dict(annotations)
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": progress_deadline,
        "template": template,
        "selector": {"matchLabels": {"app": SERVICE, "version": version}},
    }
    return {"metadata": {"name": f"{SERVICE}-{version}"}, "spec": spec}


Disturbance = Callable[["World", float], None]
"""Called on every tick with the world and the present: what goes wrong, and when."""


class World:
    """Everything canaryd meets, between `with` and its end.

    rate: requests per second; replicas: of the stable version v1; scrape: seconds between two scrapes; seed:
    random seed; realtime: whether a thread moves the time; start: the first moment in Unix seconds (default:
    a second ago); folder: where the kubeconfig is written (default: a temporary one); istio: whether istiod,
    a gateway and sidecars are there as objects; definitions: YAML files of CustomResourceDefinitions to
    install (default: the checkout's; objects of resources without one are served too, but not validated).
    """

    def __init__(
        self,
        *,
        rate: float = 50.0,
        replicas: int = 3,
        scrape: float = 1.0,
        seed: int = 1,
        realtime: bool = True,
        start: float | None = None,
        folder: Path | None = None,
        stable: Behaviour | None = None,
        istio: bool = False,
        definitions: Sequence[Path] | None = None,
    ) -> None:
        self.now = time.time() - HEAD_START if start is None else start
        self.scrape = scrape
        self.disturb: Disturbance | None = None
        self._begun = self._scraped = self.now
        self._realtime, self._replicas, self._istio = realtime, replicas, istio
        self._definitions = sorted(CRDS.glob("*.yaml")) if definitions is None else definitions
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="canaryd-sandbox-") if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else Path(str(folder))
        self.store = Store(lambda: self.now, seed)
        self.mesh = Mesh(self.store, SERVICE, NAMESPACE, rate, seed, drain=2.5 * scrape)
        self.mesh.behaviours["v1"] = stable or Behaviour()
        self.kubernetes = KubernetesServer(self.store)
        self.prometheus = PrometheusServer(self.mesh, lambda: self.now)
        self._controller = DeploymentController(self.store)
        self._thread = threading.Thread(target=self._run, name="sandbox-world", daemon=True)

    @property
    def prometheus_url(self) -> str:
        return self.prometheus.url

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def __enter__(self) -> Self:
        self.kubernetes.__enter__()
        self.prometheus.__enter__()
        self.kubeconfig.write_text(json.dumps(self.kubernetes.kubeconfig()))
        self._seed()
        if self._realtime:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.prometheus.__exit__(kind, error, trace)
        self.kubernetes.__exit__(kind, error, trace)
        if self._temporary:
            self._temporary.cleanup()
        if self._failure is not None and error is None:
            raise RuntimeError("the sandbox's world stopped moving") from self._failure

    def advance(self, now: float) -> None:
        """Moves the time on to `now`, in ticks, with a scrape at every whole interval. Earlier than the
        present: nothing happens."""
        with self._lock:
            while self.now < now:
                due = self._scraped + self.scrape
                self.now = min(self.now + TICK, due, now)
                if self.disturb is not None:
                    self.disturb(self, self.now)
                self._controller.advance(self.now)
                self.mesh.advance(self.now)
                if self.now >= due:
                    self.prometheus.scrape(self.now)
                    self._scraped = due

    def _run(self) -> None:
        try:
            while not self._stopped.wait(TICK):
                self.advance(time.time())
        except BaseException as error:
            self._failure = error  # told at the end of `with`, since nobody waits for this thread before
            raise

    def _seed(self) -> None:
        """The objects of the worked example, with stable's pods ready and the first scrape taken."""
        for namespace in ("default", "kube-system", "istio-system", NAMESPACE):
            labels = {"istio-injection": "enabled"} if namespace == NAMESPACE else {}
            self.store.create(
                NAMESPACES,
                None,
                {"metadata": {"name": namespace, "labels": labels}, "status": {"phase": "Active"}},
            )
        if self._istio:
            install(self.store)
        for resource, name, spec in (
            (
                SERVICES,
                SERVICE,
                {"selector": {"app": SERVICE}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            ),
            (
                GATEWAYS,
                "sockshop-gateway",
                {
                    "selector": {"istio": "ingressgateway"},
                    "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
                },
            ),
            (
                DESTINATIONRULES,
                SERVICE,
                {"host": HOST, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
            ),
            (
                VIRTUALSERVICES,
                "sockshop",
                {
                    "hosts": ["*"],
                    "gateways": ["sockshop-gateway"],
                    "http": [{"route": [{"destination": {"host": HOST, "subset": "v1"}}]}],
                },
            ),
        ):
            self.store.create(resource, NAMESPACE, {"metadata": {"name": name}, "spec": spec})
        for path in self._definitions:
            self.store.create(DEFINITIONS, None, YAML(typ="safe").load(path))
        self.deploy("v1", replicas=self._replicas)
        rate, self.mesh.rate = self.mesh.rate, 0.0  # nobody asks before anybody answers
        while len(self.pods("v1")) < self._replicas and self.now < self._begun + SLOWEST_START:
            self._controller.advance(self.now)
            self.mesh.advance(self.now)
            self.now += TICK
        self.mesh.rate = rate
        self._scraped = self.now
        self.prometheus.scrape(self.now)

    # What people do -------------------------------------------------------------------------------

    def deploy(
        self,
        version: str,
        *,
        replicas: int = 1,
        pod: str | None = None,
        after: str | None = None,
        progress_deadline: int = 600,
        **behaviour: Any,
    ) -> Object:
        """Applies the Deployment front-end-VERSION; one that exists gets the new template.

        pod, after: how its pods live (see `deployment_controller`); behaviour: how they answer, as the fields
        of `Behaviour`.
        """
        if behaviour or version not in self.mesh.behaviours:
            self.set_behaviour(version, **behaviour)
        made = deployment(version, replicas, pod, {AFTER: after} if after else {}, progress_deadline)
        name, spec = made["metadata"]["name"], made["spec"]
        with self.store.lock:
            known = {
                deployment["metadata"]["name"]: deployment
                for deployment in self.store.list(DEPLOYMENTS, NAMESPACE)
            }
            if name in known:
                return self.store.replace(DEPLOYMENTS, NAMESPACE, name, {**known[name], "spec": spec})
            return self.store.create(DEPLOYMENTS, NAMESPACE, made)

    def scale(self, version: str, replicas: int) -> None:
        """Sets how many pods a version has. Those that go drain first."""
        with self.store.lock:
            deployment = self.store.get(DEPLOYMENTS, NAMESPACE, f"{SERVICE}-{version}")
            self.store.replace(
                DEPLOYMENTS,
                NAMESPACE,
                deployment["metadata"]["name"],
                {**deployment, "spec": {**deployment["spec"], "replicas": replicas}},
            )

    def delete(self, version: str) -> None:
        """Deletes a version's Deployment, and with it its pods."""
        self.store.delete(DEPLOYMENTS, NAMESPACE, f"{SERVICE}-{version}")

    def restart(self, pod: str, drained: bool = True) -> None:
        """Restarts a pod's container: its counters begin again at zero. See `Mesh.restart` for `drained`."""
        self.mesh.restart(pod, drained)

    def set_behaviour(self, version: str, **behaviour: Any) -> None:
        """How a version answers from now on: the fields of `Behaviour`, unnamed ones at their default."""
        self.mesh.behaviours[version] = Behaviour(**behaviour)

    @property
    def rate(self) -> float:
        """Requests per second, of all versions together."""
        return self.mesh.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.mesh.rate = value

    # What can be seen -----------------------------------------------------------------------------

    def pods(self, version: str) -> list[str]:
        """The names of a version's pods that get requests now."""
        return sorted(name for name, of in self.mesh.replicas().items() if of == version)

    def all_pods(self) -> list[Object]:
        """Every Pod object of the namespace, ready or not."""
        return self.store.list(PODS, NAMESPACE)

    def weights(self) -> dict[str, float]:
        """The share of requests of each subset as Istio would route them now, in per cent."""
        found: dict[str, float] = {}
        # one subset may have several, each with a cookie of its own
        for share in resolve(self.store, SERVICE, NAMESPACE):
            found[share.subset or ""] = found.get(share.subset or "", 0.0) + 100 * share.part
        return found

    def virtualservice(self) -> Object:
        """The VirtualService sockshop as it is now."""
        return self.store.get(VIRTUALSERVICES, NAMESPACE, "sockshop")

    def tally(self) -> dict[str, Tally]:
        """The truth: what each pod served, pods that are gone included."""
        return self.mesh.tally()
