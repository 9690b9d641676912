"""From verdict to route on the real parts: kube-apiserver, istiod, Envoy, Prometheus. Left out in one line
where they are not installed.

    python -m bench.real [--quick]

Each time a bad version (30% errors, 100 requests/s through the ingress, weight 50) is rolled back. The
verdict is its line in the daemon's log; the API server's moment is the first of reads every 20 ms that has
all weight on stable, Envoy's likewise from its own dump of routes, so both are up to 20 ms and one read late.
Everything runs on the same cores.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np

from bench.machine import machine
from bench.results import MEASURED, Results
from tests.real.cluster.api import Api
from tests.real.daemon import Canaryd, settings
from tests.real.world import PartsMissing, World, check_parts, eventually

IN_API, IN_ENVOY = 1.0, 1.5  # s to stay under
EVERY = 0.02  # s between two reads
BAD = {"errors": 0.3}
ROUTE = "/apis/networking.istio.io/v1/namespaces/production/virtualservices/sockshop"
POLICY = {
    "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
    "route": {"virtualService": "sockshop"},
    "stages": [{"weight": 50, "minimum": "1m"}, {"weight": 100}],
    "analysis": {"interval": "1s", "warmup": "0s", "minimumRequests": 30},
}


class Sentry:
    """Reads weights every 20 ms in a thread of its own, and keeps when they last became all stable's."""

    def __init__(self, read: Callable[[], dict[str, int]]) -> None:
        self._read = read
        self._was_split = False
        self.seen: list[float] = []  # Unix seconds, one for each return
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            try:
                canary = {subset for subset, weight in self._read().items() if subset != "v1" and weight}
            except OSError:
                continue  # the next read is 20 ms away
            if self._was_split and not canary:
                self.seen.append(time.time())
            self._was_split = bool(canary)

    @contextmanager
    def watching(self) -> Iterator["Sentry"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join(5)


def weights(api: Api) -> dict[str, int]:
    route = api.request("GET", ROUTE)["spec"]["http"][-1]["route"]
    return {
        destination["destination"]["subset"]: destination.get("weight", 100 if len(route) == 1 else 0)
        for destination in route
    }


def measure(world: World, daemon: Canaryd, times: int) -> tuple[list[float], list[float]]:
    """Seconds from each verdict until all weight was on stable: in the API server, in Envoy."""
    api = Api(world.kubeconfig, "production")
    in_api, in_envoy = [], []
    with (
        world.load(100),
        Sentry(lambda: weights(api)).watching() as server,
        Sentry(world.envoy_weights).watching() as envoy,
    ):
        for number in range(2, 2 + times):
            version = f"v{number}"
            world.behaviour(version, **BAD)
            world.deploy(version)
            turn = number - 1

            def is_rolled_back(turn: int = turn) -> bool:
                return len(daemon.logged("rollout.rolled_back")) >= turn

            def is_in_envoy(turn: int = turn) -> bool:
                return len(envoy.seen) >= turn and len(server.seen) >= turn

            eventually(f"{version} is rolled back", is_rolled_back, 90)
            eventually("Envoy has it too", is_in_envoy)
            world.kubectl("delete", "deployment", f"front-end-{version}")  # two replicas less to serve
            verdict = [line for line in daemon.logged("look.judged") if line["answer"] == "fail"][-1]
            judged = datetime.fromisoformat(verdict["time"]).timestamp()
            in_api.append(server.seen[-1] - judged)
            in_envoy.append(envoy.seen[-1] - judged)
    return in_api, in_envoy


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rollbacks in place of 5")
    given = parser.parse_args(arguments)
    try:
        check_parts()
    except PartsMissing as missing:
        print(f"left out: {missing}")
        return 0
    print(f"On {machine()}")
    with (
        tempfile.TemporaryDirectory(prefix="canaryd-bench-") as name,
        World.start(Path(name) / "world") as world,
    ):
        world.reset()
        config = settings(world, log={"format": "json", "level": "debug"})
        daemon = Canaryd(Path(name), world.kubeconfig, config=config, policies={"front-end": POLICY})
        daemon.start()
        try:
            daemon.wait_for("service.first_seen")
            in_api, in_envoy = measure(world, daemon, 2 if given.quick else 5)
            memory = daemon.memory()
        finally:
            daemon.close()
    print(
        f"{'From the verdict in the log to all weight on stable':60}"
        f"{'median':>10}{'most':>10}{'to reach':>10}"
    )
    for what, seconds, most in (("in the API server", in_api, IN_API), ("in Envoy", in_envoy, IN_ENVOY)):
        late = "" if max(seconds) < most else "  too late"
        print(
            f"{f'{what}, {len(seconds)} rollbacks':60}{_ms(np.median(seconds)):>10}"
            f"{_ms(max(seconds)):>10}{_ms(most):>10}{late}"
        )
    print(f"The daemon, one service, TLS to the API server: {memory:.0f} MB")
    if not given.quick:
        results = Results(MEASURED)
        for name, delays in (("api", in_api), ("envoy", in_envoy)):
            results.keep(
                "real", name, len(delays), "", {"median": float(np.median(delays)), "most": max(delays)}
            )
    return int(max(in_api) >= IN_API or max(in_envoy) >= IN_ENVOY)


def _ms(seconds: float | np.floating) -> str:
    return f"{1000 * float(seconds):.0f} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
