"""The simulated world with the real daemon beside it, in a process of its own; and waiting for either of them
as long as it makes progress."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import canaryd_sandbox
from canaryd.adapters.kube import crd_manifest
from canaryd.cli.cluster import Cluster, connect
from canaryd.cli.group import Failure
from canaryd_sandbox.receiver import Receiver
from canaryd_sandbox.scenarios import Scenario
from canaryd_sandbox.world import World

POLICY = Path(canaryd_sandbox.__file__).parent / "demo-policy.yaml"
SETTINGS, LOG = "canaryd.yaml", "canaryd.log"
STALLED = 60.0  # seconds without any progress after which something is given up
POLL = 0.1  # seconds between two looks at whether the daemon has begun


@dataclass(frozen=True)
class RunningWorld:
    """What a scenario is played in. folder: kubeconfig, settings, policies, the daemon's log."""

    world: World
    receiver: Receiver
    cluster: Cluster
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / LOG

    @property
    def settings(self) -> Path:
        return self.folder / SETTINGS

    def check(self) -> None:
        """Raises Failure when the daemon has ended, with the end of its log."""
        if self.process.poll() is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise Failure(
                f"the daemon ended with exit code {self.process.returncode}; the end of its log "
                f"{self.log}:\n{last}"
            )


class ProgressWatch:
    """Waits for `what` as long as there is progress, however slow the machine."""

    def __init__(self, what: str, running: RunningWorld, seconds: float = STALLED) -> None:
        self._what, self._running, self._seconds = what, running, seconds
        self._state: object = None
        self._since = time.monotonic()

    def observe(self, state: object) -> None:
        """Raises Failure when the state has been the same for too long, or the daemon has ended."""
        self._running.check()
        if state != self._state:
            self._state, self._since = state, time.monotonic()
        elif time.monotonic() - self._since > self._seconds:
            raise Failure(
                f"{self._what}, and nothing has moved for {self._seconds:.0f} s\n"
                f"the daemon's log: {self._running.log}"
            )


@contextmanager
def running_world(scenario: Scenario, folder: Path) -> Iterator[RunningWorld]:
    """The scenario's world with the daemon, from its beginning until it has seen the service. Raises Failure
    when that does not happen."""
    definitions = [crd_manifest.PATH]
    with (
        World(rate=scenario.rate, stable=scenario.stable, folder=folder, definitions=definitions) as world,
        Receiver() as receiver,
    ):
        world.disturb = scenario.disturb
        with _daemon(folder, world, receiver) as process:
            cluster = connect(str(world.kubeconfig), None, None)
            running = RunningWorld(world, receiver, cluster, process, folder)
            patience = ProgressWatch("the daemon has not seen the service yet", running)
            while not cluster.notes():
                patience.observe((running.log.stat().st_size, _cpu_ticks(process.pid)))
                time.sleep(POLL)
            yield running


@contextmanager
def _daemon(folder: Path, world: World, receiver: Receiver) -> Iterator[subprocess.Popen[bytes]]:
    """`canaryd run` with settings of its own, ended by SIGTERM."""
    policies, config, log = folder / "policies", folder / SETTINGS, folder / LOG
    policies.mkdir()
    copyfile(POLICY, policies / "front-end.yaml")
    config.write_text(
        f"""\
prometheus: {{url: '{world.prometheus_url}', scrapeInterval: {world.scrape:g}s}}
policies: '{policies}'
kubernetes: {{settle: 1s}}
http: {{port: 0}}
beat: 1s
log: {{level: debug, format: json}}
notifiers:
  demo: {{webhook: {{url: '{receiver.url}/events'}}}}
"""
    )
    arguments = ["--config", str(config), "--kubeconfig", str(world.kubeconfig)]
    # BLAS would start a thread for each core, for arrays of a few hundred numbers.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "canaryd", "run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpu_ticks(pid: int) -> list[str]:
    """The CPU time that a process has had, as Linux writes it; nothing elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return []
