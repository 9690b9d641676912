"""`canaryd demo`: the real daemon, as a process of its own, on the simulated world; and what it does, shown
as it happens.

Nothing is staged but the world: this module applies Deployments as a person would, and otherwise only reads.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shutil import copyfile

import click

from canaryd.cli import output
from canaryd.cli.cluster import Cluster, connect
from canaryd.cli.group import Failure
from canaryd.commands.demo.live_view import Frame, Plain, Speedometer, Terminal, View
from canaryd.domain.rollout import Phase, Record
from canaryd.report.explanation import explain
from canaryd.report.phase_summary import describe
from canaryd.version import DISTRIBUTION

try:
    import canaryd_sandbox
    from canaryd_sandbox.receiver import Receiver
    from canaryd_sandbox.scenarios import DEFAULT, SCENARIOS, Release, Scenario
    from canaryd_sandbox.world import NAMESPACE, SERVICE, World
except ModuleNotFoundError as error:
    if error.name != "canaryd_sandbox":
        raise
    raise Failure(
        "this installation has no simulated cluster (the package canaryd_sandbox), as the container image: "
        f"install {DISTRIBUTION} with pip"
    ) from error

POLICY = Path(canaryd_sandbox.__file__).parent / "demo-policy.yaml"
FRAME = 0.5  # seconds between two frames
READY_WITHIN = 30.0  # seconds for the daemon to start and to see the service for the first time
ENDED_WITHIN = 180.0  # seconds for a release; the longest takes about a minute
# seconds after the end for the last announcement: the beat after it notes what was delivered
TOLD_WITHIN = 5.0
ENDINGS = {"succeeded": Phase.SUCCEEDED, "rolled back": Phase.ROLLED_BACK, "held": Phase.HELD}


@click.command(
    epilog="\b\nExamples:\n  canaryd demo\n  canaryd demo --scenario tail\n  canaryd demo --plain > demo.txt"
)
@click.option(
    "--scenario",
    "name",
    type=click.Choice(list(SCENARIOS)),
    default=DEFAULT,
    show_default=True,
    help="What is played.",
)
@click.option("--list", "listing", is_flag=True, help="List the scenarios and what happens in them.")
@click.option("--plain", is_flag=True, help="Lines instead of a live picture; as when piped.")
def demo(name: str, listing: bool, plain: bool) -> None:
    """Watch canaryd work, without a cluster: a simulated service gets a new version, and canaryd does the
    rest.

    The daemon is the real one, in a process of its own; Kubernetes API, mesh, traffic and Prometheus are
    simulated, and everything listens on 127.0.0.1 only. Exit code 0 only if each release ended as its
    scenario says.
    """
    if listing:
        output.table(("SCENARIO", "WHAT HAPPENS"), [(one.name, one.says) for one in SCENARIOS.values()])
        return
    # so that the daemon is ended too
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = (
        "127.0.0.1"  # everything is on this machine, whatever proxy its network has
    )
    view = Plain() if plain or not output.is_terminal() else Terminal()
    folder = Path(tempfile.mkdtemp(prefix="canaryd-demo-"))
    scenario = SCENARIOS[name]
    view.say(f"canaryd demo, {scenario.name}: {scenario.says}")
    with World(rate=scenario.rate, stable=scenario.stable, folder=folder) as world, Receiver() as receiver:
        world.disturb = scenario.disturb
        with daemon(folder, world, receiver) as stage:
            view.say(f"the daemon runs as process {stage.process.pid}; its log: {stage.log}")
            play(scenario, stage, view)


@dataclass(frozen=True)
class RunningDaemon:
    """Where a scenario is played."""

    world: World
    receiver: Receiver
    cluster: Cluster
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Failure when the daemon has ended, with its last words."""
        if self.process.poll() is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise Failure(
                f"the daemon ended with exit code {self.process.returncode}; the end of {self.log}:\n{last}"
            )


@contextmanager
def daemon(folder: Path, world: World, receiver: Receiver) -> Iterator[RunningDaemon]:
    """`canaryd run` with a configuration of its own, ended by SIGTERM."""
    policies, config, log = folder / "policies", folder / "canaryd.yaml", folder / "canaryd.log"
    policies.mkdir()
    copyfile(POLICY, policies / "front-end.yaml")
    config.write_text(
        f"prometheus: {{url: '{world.prometheus_url}', scrapeInterval: {world.scrape:g}s}}\n"
        f"kubernetes: {{settle: 1s}}\nhttp: {{port: 0}}\nbeat: 1s\nlog: {{level: debug, format: json}}\n"
        f"notifiers:\n  demo: {{webhook: {{url: '{receiver.url}/events'}}}}\n"
    )
    arguments = ["--config", str(config), "--policies", str(policies), "--kubeconfig", str(world.kubeconfig)]
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
        yield RunningDaemon(world, receiver, connect(str(world.kubeconfig), None, None), process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def play(scenario: Scenario, stage: RunningDaemon, view: View) -> None:
    """Every release of a scenario, one after the other. Raises Failure when one ends otherwise than it
    must."""
    _until(lambda: bool(stage.cluster.notes()), stage, READY_WITHIN, "canaryd has not seen the service")
    for number, release in enumerate(scenario.releases):
        if number:
            time.sleep(1)
        view.say(f"applied: {SERVICE}-{release.version}, {release.says}")
        release.apply(stage.world)
        record = _watch(release, stage, view)
        view.say("")
        with output.width_of_prose():
            sections = explain(record.rollout, time.time(), record.wishes)
        output.explanation(sections)
        view.say("\nThe route now:")
        view.say(_route(stage.world))
        if record.rollout.phase is not ENDINGS[release.ending]:
            came = describe(record.rollout)
            raise Failure(
                f"{release.version}: {came}, but the scenario expects: {release.ending}; the daemon's log is "
                f"{stage.log}"
            )
        view.say(f"as expected: {release.version} {release.ending}\n")


def _watch(release: Release, stage: RunningDaemon, view: View) -> Record:
    """Shows the release's rollout until it has ended, or is held where the scenario ends so; its last
    record."""
    speedometer = Speedometer(stage.world.tally)
    began = time.monotonic()
    over: float | None = None  # when it had ended
    heard = len(stage.receiver.deliveries)
    with view:
        while True:
            stage.check()
            record = next(
                (
                    one
                    for one in reversed(stage.cluster.records())
                    if one.rollout.entrance.canary == release.version
                ),
                None,
            )
            events = tuple(
                str(one.json.get("type", "")).rpartition(".")[2] for one in stage.receiver.deliveries[heard:]
            )
            waited = time.monotonic() - began
            view.show(
                Frame(
                    release.version,
                    record.rollout if record else None,
                    speedometer.read(time.monotonic()),
                    events,
                    waited,
                )
            )
            if record is not None and _is_over(record, release):
                over = over if over is not None else waited
                if _is_told(record) or waited - over > TOLD_WITHIN:
                    return record
            if waited > ENDED_WITHIN:
                raise Failure(
                    f"{release.version} has not ended within {ENDED_WITHIN:.0f} s; the daemon's log is "
                    f"{stage.log}"
                )
            time.sleep(FRAME)


def _is_told(record: Record) -> bool:
    """Whether the record says of each announcement that its receivers confirmed it."""
    rollout = record.rollout
    return all(
        notifier in (*news.delivered, *news.given_up)
        for news in rollout.announcements
        for notifier in rollout.policy.told(news.event)
    )


def _is_over(record: Record, release: Release) -> bool:
    if record.rollout.phase.ended:
        return True
    # A hold that ends by itself, as in an outage, is no ending.
    return release.ending == "held" and record.rollout.phase is Phase.HELD


def _until(is_so: Callable[[], bool], stage: RunningDaemon, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        stage.check()
        if time.monotonic() > deadline:
            raise Failure(f"{what} within {seconds:.0f} s; the daemon's log is {stage.log}")
        time.sleep(0.1)


def _route(world: World) -> str:
    """The VirtualService as `kubectl get -o yaml` shows it, without what the server adds."""
    from ruamel.yaml import YAML

    found = world.virtualservice()
    metadata = {"name": found["metadata"]["name"], "namespace": NAMESPACE}
    shown = {"kind": "VirtualService", "metadata": metadata, "spec": {"http": found["spec"]["http"]}}
    yaml, text = YAML(), StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(shown, text)
    return "\n".join(f"  {line}" for line in text.getvalue().splitlines())
