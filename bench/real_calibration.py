"""The promises once on the real parts: healthy and bad releases through real Envoys, judged on what a real
Prometheus scraped.

    python -m bench.real_calibration [--quick] [--plan] [--healthy 20] [--bad 20] [--no-stories]
        [--services 4] [--rate 100] [--json FILE]

Several services take requests at the same time, each with its own everyday trouble (`WORLDS`), and release by
release get a new Deployment, now a healthy one and now one with a fault (`FAULTS`) on top of that trouble. A
healthy one that is promoted becomes stable. One more service has releases that are stories (`STORIES`): what
went wrong once, with what came before it. One `canaryd run` steers them all, by policies in seconds where
real ones have minutes; `real_releases.py` makes the releases.

Counts are compared twice. What canaryd counted of each release must be what Prometheus' raw samples of the
same seconds say, pod by pod; and at the end, when nothing is under way, Prometheus must have of every pod
what the application itself says it served.

Exit code 1 when a promise is broken: more healthy releases rolled back than a risk of 1% allows, a bad one
promoted, a count that is not exact, a release that was not made. 20 healthy and 20 bad ones take about 25
minutes; SIGINT and SIGTERM end it with the table so far.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from math import inf
from pathlib import Path

from bench.machine import machine
from bench.real_releases import (
    FAULTS,
    INTERVAL,
    RATE,
    STORIED,
    STORIED_WORLD,
    STORIES,
    WORLDS,
    Outcome,
    Release,
    Run,
    Stopped,
    a_policy,
    host_of,
    name_of,
    planned,
    rate_of,
    replicas_of,
    set_up,
    untold,
    world_of,
)
from canaryd.simulation.monte_carlo_error import exact_interval, quantile
from tests.real.daemon import Canaryd, settings
from tests.real.world import PartsMissing, World, check_parts

RISK = 0.01  # falseRollbackRisk's default
WARM_UP = 60.0  # s of stable's requests before the first release: some past to judge by


# ---------------------------------------------------------------- the report


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def of_share(events: int, runs: int) -> str:
    low, high = exact_interval(events, runs)
    return f"{events} ({low:.1%} to {high:.0%})"


def _seconds(value: float) -> str:
    return "-" if value == inf else f"{value:.0f} s"


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown, healthy releases by service and bad ones by fault."""
    healthy, bad = (
        [outcome for outcome in outcomes if not outcome.fault],
        [outcome for outcome in outcomes if outcome.fault],
    )
    parts = []
    if healthy:
        lines = _head(
            "healthy releases", "promoted", "rolled back (exact 95% interval)", "until promoted, median"
        )
        for service, (world, _) in {**WORLDS, STORIED: STORIED_WORLD}.items():
            lines += _row(
                world,
                [outcome for outcome in healthy if outcome.service == service],
                "promoted",
                "rolled back",
            )
        parts.append([*lines, *_row("all", healthy, "promoted", "rolled back")])
    if bad:
        lines = _head(
            "bad releases",
            "rolled back",
            "promoted (exact 95% interval)",
            "from the fault to the rollback, median",
        )
        of_stories = [story.fault for story in STORIES if story.fault]
        for fault in (*FAULTS, *of_stories):
            lines += _row(
                fault.name,
                [outcome for outcome in bad if outcome.fault == fault.name],
                "rolled back",
                "promoted",
            )
        parts.append([*lines, *_row("all", bad, "rolled back", "promoted")])
    return "\n\n".join("\n".join(lines) for lines in parts)


def _head(what: str, right: str, wrong: str, took: str) -> list[str]:
    heads = (what, "number", right, wrong, "undecided", took, "longest")
    return [row(*heads), row(*["---"] * len(heads))]


def _row(name: str, outcomes: Sequence[Outcome], right: str, wrong: str) -> list[str]:
    if not outcomes:
        return []
    ends = [outcome.end for outcome in outcomes]
    times = [outcome.seconds for outcome in outcomes if outcome.end == right]
    return [
        row(
            name,
            len(ends),
            ends.count(right),
            of_share(ends.count(wrong), len(ends)),
            ends.count("undecided"),
            _seconds(quantile(times, 0.5)),
            _seconds(max(times, default=inf)),
        )
    ]


def broken(outcomes: Sequence[Outcome], wanted: int, wrong: Mapping[str, str]) -> list[str]:
    """Promises that were not kept, each in a sentence. wrong: pods whose requests Prometheus does not
    have."""
    healthy, bad = [
        [outcome for outcome in outcomes if bool(outcome.fault) == is_bad] for is_bad in (False, True)
    ]
    back = sum(outcome.end == "rolled back" for outcome in healthy)
    broken_promises = []
    if healthy and exact_interval(back, len(healthy))[0] > RISK:
        broken_promises.append(
            f"{back} of {len(healthy)} healthy releases were rolled back: more than a risk of {RISK:.0%} "
            "allows"
        )
    broken_promises += [
        f"{outcome.service} {outcome.version} ({outcome.fault}) was promoted"
        for outcome in bad
        if outcome.end == "promoted"
    ]
    broken_promises += [
        f"{outcome.service} {outcome.version}: {pod}: {what}"
        for outcome in outcomes
        for pod, what in outcome.inexact.items()
    ]
    broken_promises += [f"{pod}: {what}" for pod, what in wrong.items()]
    if len(outcomes) < wanted:
        broken_promises.append(f"{wanted - len(outcomes)} of {wanted} releases were not made")
    return broken_promises


# ---------------------------------------------------------------- the run


def releases_of(given: argparse.Namespace) -> dict[str, list[Release]]:
    return planned(list(WORLDS)[: given.services], given.healthy, given.bad, given.stories)


def plan_text(releases: Mapping[str, Sequence[Release]], rate: float) -> str:
    """What is to be released, service by service, in its order."""
    lines = []
    for name, todo in releases.items():
        lines.append(
            f"{name} ({world_of(name)[0]}; {rate_of(name, rate):g} requests/s, {replicas_of(name)} replicas)"
        )
        lines += [f"  v{number}  {name_of(release)}" for number, release in enumerate(todo, start=2)]
    return "\n".join(lines)


def measure(given: argparse.Namespace, folder: Path, outcomes: list[Outcome]) -> dict[str, str]:
    """Makes the releases, each outcome handed over as it comes; pods whose requests Prometheus does not have.
    Raises Interrupted."""
    releases = releases_of(given)
    with ExitStack() as stack:
        world = stack.enter_context(World.start(folder / "world", apps=list(releases)))
        config = settings(world, notifiers={}, history=2)  # records are polled: few are kept
        daemon = Canaryd(
            folder, world.kubeconfig, config=config, policies={name: a_policy(name) for name in releases}
        )
        stack.callback(daemon.close)
        set_up(world, daemon, list(releases))
        run = Run(world, daemon)
        run.outcomes = outcomes
        with ExitStack() as traffic:
            requests = [
                traffic.enter_context(world.load(rate_of(name, given.rate), host=host_of(name)))
                for name in releases
            ]
            try:
                time.sleep(given.warm_up)
                with ThreadPoolExecutor(len(releases)) as pool:
                    try:
                        futures = [pool.submit(run.service, name, todo) for name, todo in releases.items()]
                        wait(futures, return_when=FIRST_EXCEPTION)
                    finally:
                        run.stopped.set()
                for future in futures:
                    if (error := future.exception()) and not isinstance(error, Stopped):
                        raise error
            finally:
                took = time.monotonic() - run.began
        sent, unanswered = (
            sum(request.result[key] for request in requests) for key in ("sent", "unanswered")
        )
        print(
            f"\n{sent:,} requests, {unanswered} unanswered, in {took:.0f} s to {len(releases)} services "
            f"({sent / took:.0f}/s); load {os.getloadavg()[0]:.1f}; the daemon {daemon.memory():.0f} MB",
            flush=True,
        )
        wrong = untold(world, 10)
        served = [counts["requests"] for counts in world.tally().values() if counts["requests"]]
        same = len(served) - len(wrong)
        print(
            f"{len(served)} pods served {sum(served):,} requests; of {same} Prometheus has the same counts",
            flush=True,
        )
        return wrong


class Interrupted(Exception):
    """By a signal, whose number it holds."""


def _interrupt(number: int, _frame: object) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)  # the end takes seconds: it must be whole
    raise Interrupted(number)


def main(arguments: list[str]) -> int:
    given = parsed(arguments)
    if given.plan:
        print(plan_text(releases_of(given), given.rate))
        return 0
    try:
        check_parts()
    except PartsMissing as missing:
        print(f"left out: {missing}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(
        f"On {machine()}; {given.services} services with {given.rate:g} requests/s each, {given.healthy} "
        f"healthy and {given.bad} bad releases{', and the stories' if given.stories else ''}, looks of "
        f"{INTERVAL} s",
        flush=True,
    )
    outcomes: list[Outcome] = []
    wrong: dict[str, str] = {}
    ended_by = 0
    with tempfile.TemporaryDirectory(prefix="canaryd-bench-") as folder:
        try:
            wrong = measure(given, Path(folder), outcomes)
        except Interrupted as interrupted:
            ended_by = interrupted.args[0]
            print(f"\nended by signal {ended_by}; so far:", flush=True)
    broken_promises = broken(outcomes, 0 if ended_by else sum(map(len, releases_of(given).values())), wrong)
    print(f"\n{table(outcomes)}\n")
    counted = sum(requests for outcome in outcomes for requests, _ in outcome.counted.values())
    exact = sum(not outcome.inexact for outcome in outcomes)
    print(
        f"canaryd counted {counted:,} requests; in {exact} of {len(outcomes)} releases exactly what "
        "Prometheus has, pod by pod"
    )
    print("\n".join(f"BROKEN: {promise}" for promise in broken_promises) or "every promise was kept")
    if given.json:
        document = {
            "machine": machine(),
            "broken": broken_promises,
            "releases": [asdict(outcome) for outcome in outcomes],
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 128 + ended_by if ended_by else int(bool(broken_promises))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.real_calibration", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="2 healthy and 2 bad releases on 2 services")
    parser.add_argument("--plan", action="store_true", help="only say what would be released")
    parser.add_argument(
        "--stories",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="one more service, with what once went wrong (about 15 minutes, beside the others)",
    )
    parser.add_argument("--healthy", type=int, default=20, help="how many releases")
    parser.add_argument("--bad", type=int, default=20, help="how many releases")
    parser.add_argument(
        "--services",
        type=int,
        choices=range(1, len(WORLDS) + 1),
        default=len(WORLDS),
        help="at the same time",
    )
    parser.add_argument("--rate", type=float, default=RATE, help="requests/s to each service")
    parser.add_argument("--warm-up", type=float, default=WARM_UP, help="seconds before the first releases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every release there too")
    given = parser.parse_args(arguments)
    if given.quick:
        given.healthy, given.bad, given.services, given.stories = 2, 2, 2, False
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
