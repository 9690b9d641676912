"""What the evidence promises, measured: false rollbacks of healthy versions, time to catch harm, time to full
weight, speed.

    python -m bench.evidence [--quick] [--only "errors 1%"] [--runs N] [--fresh]

Every rollout runs through the real `Judge` and the real state machine with the whole default policy (errors
and latency, all risks), a ladder of 10, 25, 50 and 100 per cent, a minimum of 2 minutes and a deadline of 15,
in looks of 10 s, 3 and 3 replicas, Istio's 19 latency bounds, 50 requests/s with 0.5% errors, and 360 looks
of stable's past, unless a world's name says otherwise. Seeds are fixed: the same tree gives the same numbers
on any number of cores, but for the speed. What is done is kept in docs/measured.json; a run that was stopped
goes on from there.
"""

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from bench.machine import machine
from bench.results import MEASURED, ROOT, Results
from bench.rollouts import a_policy
from bench.running import Runner
from canaryd.domain.counts import HISTORY_LOOKS
from canaryd.domain.rollout import Span
from canaryd.judge.judge import Judge, observe_all
from canaryd.simulation.simulated_service import Scenario, SimulatedService

PARTS = (
    "pace",
    "power",
    "late",
    "early",
    "calibration",
    "false_alarms",
    "users",
    "comparison",
    "growthbook",
    "curve",
)
QUICK_RUNS = 50
QUICK = ROOT / "build" / "measured.json"  # of fewer rollouts, and in no README
SPEED_BOUNDS = (50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500)
LOOKS_PER_SECOND = 800
TOGETHER = 10  # rollouts judged at once


def measure_part(runner: Runner, part: str, most: int | None) -> bool:
    """One part, row by row to the error stream as it is measured, then its table. Whether all of it was
    reached."""
    module: ModuleType = import_module(f"bench.{part}")
    if hasattr(module, "missing") and (why := module.missing()):
        print(f"{part}: left out, since {why}\n", flush=True)
        return True
    runs = min(module.RUNS, most) if most else module.RUNS
    entries = {}
    for name, entry in runner.measure(part, runs):
        entries[name] = entry
        print(f"  {part}: {name} ({entry['took']:.0f} s)", file=sys.stderr, flush=True)
    for table in module.tables(entries) if entries else ():
        print(f"{table.text()}\n", flush=True)
    return all(module.reached(name, entry) for name, entry in entries.items())


def looks_per_second(looks: int) -> tuple[float, int]:
    """Errors and 12 joined latency bounds on one core, TOGETHER rollouts at once; and how many bounds had
    joined."""
    world = Scenario(requests=400.0, median=60.0, sigma=1.2, bounds=SPEED_BOUNDS)
    judges, looks_of_each = [], []
    for seed in range(TOGETHER):
        service = SimulatedService(world, np.random.default_rng(seed))
        judges.append(Judge(a_policy(world.interval), service.history(HISTORY_LOOKS)))
        judges[-1].open(Span(0, 10, service.now))
        looks_of_each.append(service.looks(10, looks // TOGETHER))
    began = time.process_time()  # of this process alone: what else runs on the machine is no part of it
    for simultaneous_looks in zip(*looks_of_each, strict=True):
        observe_all(list(zip(judges, simultaneous_looks, strict=True)))
    took = time.process_time() - began
    return looks / took, min(int(judge.latency.joined.sum()) if judge.latency else 0 for judge in judges)


def print_speed(results: Results, looks: int) -> bool:
    """Whether it was reached."""
    speed, joined = looks_per_second(looks)
    results.keep(
        "speed", "one core", looks, "", {"looks_per_second": speed, "joined": joined, "machine": machine()}
    )
    print(
        f"Speed: {speed:,.0f} looks/s on one core, errors and {joined} latency bounds (to reach: "
        f"{LOOKS_PER_SECOND})"
    )
    return speed >= LOOKS_PER_SECOND


def main(arguments: list[str]) -> int:
    """0, or 1 when a number was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.evidence", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_RUNS} rollouts of each world")
    parser.add_argument("--runs", type=int, default=None, help="at most so many rollouts of each world")
    parser.add_argument(
        "--only",
        default="",
        help=f"one of {', '.join(PARTS)}, speed, plots; or cases with this in their name",
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes; results do not depend on it",
    )
    parser.add_argument("--fresh", action="store_true", help="keep nothing of what was measured before")
    parser.add_argument(
        "--results",
        type=Path,
        default=None,
        help="what is measured (docs/measured.json; build/ for fewer runs)",
    )
    given = parser.parse_args(arguments)
    most = given.runs or (QUICK_RUNS if given.quick else None)
    results = Results(given.results or (QUICK if most else MEASURED), given.fresh)
    chosen = (given.only,) if given.only in PARTS else PARTS if given.only not in ("speed", "plots") else ()
    runner = Runner(results, given.cores, "" if given.only in PARTS else given.only)
    reached = [measure_part(runner, part, most) for part in chosen]
    if given.only in ("", "speed"):
        reached.append(print_speed(results, 200 if most else 1000))
    if given.only in ("", "plots"):
        # Imported when it draws: matplotlib is needed for nothing else.
        print(*(f"drawn: {path}" for path in import_module("bench.plots").draw(results)), sep="\n")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
