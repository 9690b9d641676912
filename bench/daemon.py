"""The daemon's own promises, on `canaryd run` as a process: memory with ten rollouts, and the way from a
verdict to the route.

    python -m bench.daemon [--quick]

In the sandbox: ten services of 50 requests/s and 3 + 3 replicas, each in its own namespace; looks of 1 s,
errors and latency, and 360 looks of past for each, which is all that canaryd ever reads. All ten rollouts are
under way at once. Then all ten turn bad at once, twice: who is last in the row waits for nine others. The
sandbox runs on the same cores. Chance is seeded; the machine's speed is not.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from bench.fleet import Fleet
from bench.machine import machine
from bench.results import MEASURED, Results
from canaryd_sandbox.mesh.mesh import Behaviour
from tests.real.daemon import Canaryd, free_port

SERVICES = 10
MEMORY = 130.0  # MB (10^6 bytes) to stay under
DELAY = 1.0  # s to stay under, from the verdict to the write
BAD = Behaviour(errors=0.3)
WIDTH = 66  # of a row's name


def until(what: str, seconds: float, daemon: Canaryd, probe: Callable[[], bool]) -> None:
    """Waits for `probe()`; SystemExit with the end of the daemon's log after `seconds`, or when the daemon
    has ended."""
    end = time.monotonic() + seconds
    while not probe():
        if not daemon.alive or time.monotonic() > end:
            raise SystemExit(
                f"{what}: not within {seconds:.0f} s; the end of the daemon's log:\n{daemon.log[-3000:]}"
            )
        time.sleep(0.2)


def peak(daemon: Canaryd) -> float:
    """The most it ever had resident, in MB."""
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def look_milliseconds(daemon: Canaryd) -> float:
    """How long a look of one rollout took in the mean, by the daemon's own metrics."""
    with urlopen(f"{daemon.url}/metrics", timeout=5) as answer:
        values = {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in answer.read().decode().splitlines())
            if name in ("canaryd_look_duration_seconds_sum", "canaryd_look_duration_seconds_count")
        }
    return 1000 * values["canaryd_look_duration_seconds_sum"] / values["canaryd_look_duration_seconds_count"]


def print_memory(daemon: Canaryd, fleet: Fleet, seconds: float) -> float:
    """Ten healthy rollouts at weight 10; then a new start, which reads everything again. The most it was in
    MB."""
    print(f"Memory of the daemon, resident, with {SERVICES} services; to reach: under {MEMORY:.0f} MB")
    print(f"{'':{WIDTH}}{'now':>9}{'peak':>9}{'looks':>8}")
    highest = 0.0

    def row(what: str, looks: int) -> None:
        nonlocal highest
        now, most = daemon.memory(), peak(daemon)
        highest = max(highest, most)
        print(
            f"{what:{WIDTH}}{now:>6.0f} MB{most:>6.0f} MB{looks:>8}{'' if most < MEMORY else '  too much'}",
            flush=True,
        )

    def looks() -> int:
        return daemon.log.count('"look.judged"')

    until("every service is known", 60, daemon, lambda: len(daemon.logged("service.first_seen")) == SERVICES)
    time.sleep(2)
    row("no rollout", 0)
    for service in fleet.services:
        fleet.deploy(service, "v2")
    until(
        "every rollout was judged",
        60,
        daemon,
        lambda: len({line["service"] for line in daemon.logged("look.judged")}) == SERVICES,
    )
    row(f"{SERVICES} rollouts, after the first look of each", looks())
    for part in (1, 2):
        time.sleep(seconds / 2)
        row(f"{part * seconds / 2:.0f} s later", looks())
    took = look_milliseconds(daemon)
    before = looks()
    daemon.kill9()
    daemon.start()
    until("every rollout goes on after a restart", 60, daemon, lambda: looks() > 2 * before)
    time.sleep(3)
    row("killed and started anew: everything read and judged again", looks() - before)
    print(
        f"A look of one rollout takes {took:.1f} ms in the mean, its queries to the sandbox and its record "
        "included."
    )
    return highest


def print_delay(daemon: Canaryd, fleet: Fleet, rounds: int) -> list[float]:
    """Ten rollbacks at once, `rounds` times: seconds from the verdict's line in the log to the write in the
    API server."""
    written: dict[tuple[str, str], float] = {}
    version = "v2"

    def tell(service: str, weights: dict[str, int], at: float) -> None:
        if weights.get("v1") == 100:
            written.setdefault((service, version), at)

    fleet.on_route(tell)
    for turn in range(1, rounds + 1):
        if turn > 1:
            version = f"v{turn + 1}"
        for service in fleet.services:
            if turn == 1:
                fleet.behave(service, version, BAD)
            else:
                fleet.deploy(service, version, BAD)

        def are_rolled_back(wanted: int = turn * SERVICES) -> bool:
            return daemon.log.count('"rollout.rolled_back"') >= wanted

        until(f"{turn * SERVICES} rollbacks", 120, daemon, are_rolled_back)
    verdicts = {
        (line["service"], line["rollout"]): line
        for line in daemon.logged("look.judged")
        if line["answer"] == "fail"
    }
    delays, ages = [], []
    for line in daemon.logged("rollout.rolled_back"):
        at, verdict = written[line["service"], line["canary"]], verdicts[line["service"], line["rollout"]]
        delays.append(at - datetime.fromisoformat(verdict["time"]).timestamp())
        ages.append(at - verdict["at"])
    print(
        f"\nFrom verdict to route, in the sandbox's API server: {len(delays)} rollbacks, {SERVICES} at a time"
    )
    print(f"{'':{WIDTH}}{'median':>10}{'most':>10}{'to reach':>10}")
    late = "" if max(delays) < DELAY else "  too late"
    print(
        f"{'verdict in the log to all weight on stable':{WIDTH}}{_ms(np.median(delays)):>10}"
        f"{_ms(max(delays)):>10}{_ms(DELAY):>10}{late}"
    )
    print(
        f"{'end of the look to all weight on stable (1 s is scrape delay)':{WIDTH}}"
        f"{_ms(np.median(ages)):>10}{_ms(max(ages)):>10}"
    )
    return delays


def _ms(seconds: Any) -> str:
    return f"{1000 * float(seconds):.0f} ms"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.daemon", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="20 s in place of 60, 10 rollbacks in place of 20"
    )
    given = parser.parse_args(arguments)
    print(f"The daemon, on {machine()}")
    with tempfile.TemporaryDirectory(prefix="canaryd-bench-") as name, Fleet(Path(name), SERVICES) as fleet:
        config = {
            "prometheus": {"url": fleet.prometheus.url, "scrapeInterval": f"{fleet.scrape:g}s"},
            "beat": "1s",
            "http": {"port": free_port()},
            "log": {"format": "json", "level": "debug"},
        }
        daemon = Canaryd(
            Path(name), fleet.kubeconfig, config=config, policies=fleet.policies(interval="1s", warmup="0s")
        )
        daemon.start()
        try:
            memory = print_memory(daemon, fleet, 20 if given.quick else 60)
            delays = print_delay(daemon, fleet, 1 if given.quick else 2)
        finally:
            daemon.close()
    if not given.quick:
        results = Results(MEASURED)
        results.keep("daemon", "memory", SERVICES, "", {"highest": memory})
        results.keep(
            "daemon", "delay", len(delays), "", {"median": float(np.median(delays)), "most": max(delays)}
        )
    return 0 if memory < MEMORY and max(delays) < DELAY else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
