"""`canaryd demo`: the real daemon, as a process of its own, on the simulated world; and what it does, shown
as it happens.

Nothing is staged but the world: this module applies Deployments as a person would, and otherwise only reads.
"""

import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from canaryd.cli import output
from canaryd.cli.group import Failure, examples
from canaryd.commands.demo.live_view import Frame, Plain, Terminal, View
from canaryd.commands.demo.release_command import release
from canaryd.commands.demo.running_world import STALLED, ProgressWatch, RunningWorld, running_world
from canaryd.commands.demo.served_traffic import Speedometer
from canaryd.commands.demo.text import ending, explained_where, explanation_file, kept
from canaryd.domain.rollout import Phase, Record, Rollout
from canaryd.report.explanation import explain, text
from canaryd.report.phase_summary import describe
from canaryd_sandbox.scenarios import DEFAULT, SCENARIOS, Release, Scenario
from canaryd_sandbox.world import SERVICE

FRAME = 0.5  # seconds between two frames
# Seconds after the end for the last announcement: the beat after it notes what was delivered.
ANNOUNCED_WITHIN = 5.0
ENDINGS = {"succeeded": Phase.SUCCEEDED, "rolled back": Phase.ROLLED_BACK, "held": Phase.HELD}


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "canaryd demo",
        "canaryd demo --scenario tail",
        "canaryd demo --keep    # then, in another terminal: canaryd demo release bad",
        "canaryd demo --plain > demo.txt",
    ),
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
@click.option("--keep", is_flag=True, help="Leave the world up afterwards, to be used from another terminal.")
@click.option("--plain", is_flag=True, help="Lines instead of a live picture; as when piped.")
@click.pass_context
def demo(context: click.Context, name: str, listing: bool, keep: bool, plain: bool) -> None:
    """Watch canaryd work, without a cluster: a simulated service gets a new version, and canaryd does the
    rest.

    The daemon is the real one, in a process of its own. Kubernetes API, mesh, traffic and Prometheus are
    simulated, and everything listens on 127.0.0.1 only. Exit code 0 only if each release ended as its
    scenario says.
    """
    if context.invoked_subcommand is not None:
        return
    if listing:
        rows = [(scenario.name, scenario.says) for scenario in SCENARIOS.values()]
        output.table(("SCENARIO", "WHAT HAPPENS"), rows)
        return
    # SIGTERM ends the daemon too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Everything is on this machine, whatever proxy its network has.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    view = Plain() if plain or not output.is_terminal() else Terminal()
    scenario = SCENARIOS[name]
    view.say(f"canaryd demo, {scenario.name}: {scenario.says}")
    view.say("starting the simulated cluster and the daemon")
    folder = Path(tempfile.mkdtemp(prefix="canaryd-demo-"))
    with running_world(scenario, folder) as running:
        view.say(f"daemon: process {running.process.pid}, log {running.log}")
        play(scenario, running, view, keep)
        if keep:
            keep_up(running, view)


demo.add_command(release)


def play(scenario: Scenario, running: RunningWorld, view: View, keep: bool) -> None:
    """Every release of a scenario, one after the other. Raises Failure when one ends otherwise than it
    must."""
    for number, planned in enumerate(scenario.releases):
        if number:
            time.sleep(1)
        view.say(f"\napplied: {SERVICE}-{planned.version}, {planned.says}")
        planned.apply(running.world)
        record = watch(planned.version, running, view, partial(_is_over, planned), STALLED)
        tell_ending(record, running, view, planned, keep)
        if record.rollout.phase is not ENDINGS[planned.ending]:
            raise Failure(
                f"{planned.version}: {describe(record.rollout)}, but the scenario expects: {planned.ending}\n"
                f"the daemon's log: {running.log}"
            )


def keep_up(running: RunningWorld, view: View) -> None:
    """Shows every release that someone makes, until Ctrl-C."""
    view.say("")
    for line in kept(running.world.kubeconfig, running.settings):
        view.say(line)
    known = {record.rollout.name for record in running.cluster.records()}
    try:
        while True:
            running.check()
            for record in running.cluster.records():
                if record.rollout.name not in known:
                    known.add(record.rollout.name)
                    view.say("")
                    last = watch(
                        record.rollout.entrance.canary,
                        running,
                        view,
                        lambda rollout: rollout.phase.ended,
                        math.inf,
                    )
                    tell_ending(last, running, view, keep=True)
            time.sleep(FRAME)
    except KeyboardInterrupt:
        view.say("\nthe world ends")


def watch(
    version: str, running: RunningWorld, view: View, is_over: Callable[[Rollout], bool], patience: float
) -> Record:
    """Shows the version's rollout until it is over and announced; its last record. Raises Failure after
    `patience` seconds without progress."""
    speedometer = Speedometer(running.world.tally)
    began = time.monotonic()
    over: float | None = None  # when it had ended
    awaited = ProgressWatch(f"the rollout of {version} has not ended", running, patience)
    with view:
        while True:
            record = next(
                (
                    record
                    for record in reversed(running.cluster.records())
                    if record.rollout.entrance.canary == version
                ),
                None,
            )
            waited = time.monotonic() - began
            rollout = record.rollout if record else None
            events = tuple(
                str(delivery.json["type"]).rpartition(".")[2]
                for delivery in running.receiver.deliveries
                if rollout is not None and delivery.json["subject"] == rollout.name
            )
            speeds = speedometer.read(time.monotonic())
            view.show(Frame(version, rollout, speeds, speedometer.served, events, waited, time.time()))
            if record is not None and is_over(record.rollout):
                over = over if over is not None else waited
                if _is_announced(record.rollout) or waited - over > ANNOUNCED_WITHIN:
                    return record
            awaited.observe(_progress(rollout))
            time.sleep(FRAME)


def tell_ending(
    record: Record, running: RunningWorld, view: View, planned: Release | None = None, keep: bool = True
) -> None:
    """Three lines on how a release ended, as planned or otherwise. The whole explanation is in a file, since
    a world that is not kept answers nobody."""
    rollout = record.rollout
    explanation = text(explain(rollout, time.time(), record.wishes))
    explanation_file(rollout, running.folder).write_text(explanation)
    why = explained_where(rollout, running.folder, keep)
    served = Speedometer(running.world.tally)
    served.read(time.monotonic())
    as_planned = planned is not None and rollout.phase is ENDINGS[planned.ending]
    for line in ending(rollout, time.time(), served.served, why, as_planned):
        view.say(line)


def _progress(rollout: Rollout | None) -> object:
    if rollout is None:
        return None
    return rollout.phase, len(rollout.decisions), rollout.verdict.at if rollout.verdict else None


def _is_announced(rollout: Rollout) -> bool:
    """Whether the record says of each announcement that its receivers confirmed it."""
    return all(
        notifier in (*announcement.delivered, *announcement.given_up)
        for announcement in rollout.announcements
        for notifier in rollout.policy.notifiers_of(announcement.event)
    )


def _has_ended(rollout: Rollout) -> bool:
    return rollout.phase.ended


def _is_over(release: Release, rollout: Rollout) -> bool:
    # A hold that ends by itself, as in an outage, is no ending.
    return rollout.phase.ended or (release.ending == "held" and rollout.phase is Phase.HELD)
