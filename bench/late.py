"""Faults that begin ten minutes after the rollout, at whatever weight it then is."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.calibration import run as run
from bench.results import Entry
from bench.rollouts import Outcome
from bench.tables import Table, missed, seconds, share
from bench.worlds import LATE, Case
from canaryd.simulation.monte_carlo_error import quantile

RUNS = 200
CASES = {case.name: case for case in LATE}
COMPARED = 60.0  # s, the median below full weight
STEPPED, ROLLED_BACK = 45.0, 120.0  # s, of all at full weight


def counts(case: Case, outcome: Outcome) -> bool:
    """Whether the fault began at the weight that the case is about."""
    return outcome.fault is not None and outcome.fault_weight == case.goal


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    there = [outcome for outcome in outcomes if counts(case, outcome)]
    delays = [outcome.delay for outcome in there]
    steps = [
        outcome.stepped - (outcome.fault or 0) if outcome.stepped is not None else np.inf for outcome in there
    ]
    in_time = [delay <= (ROLLED_BACK if case.goal == 100 else COMPARED) for delay in delays]
    return {
        "there": len(there),
        "of": len(outcomes),
        "median": quantile(delays, 0.5),
        "most": max(delays, default=np.inf),
        "in_time": float(np.mean(in_time)) if there else None,
        "stepped_median": quantile(steps, 0.5),
        "stepped_most": max(steps, default=np.inf),
        "stepped_in_time": float(np.mean(np.array(steps) <= STEPPED)) if there else None,
        "hurt": float(np.mean([outcome.hurt for outcome in there])) if there else None,
        "before": sum(outcome.rolled_back for outcome in outcomes if outcome.fault is None),
    }


def reached(name: str, entry: Entry) -> bool:
    if CASES[name].goal == 100:
        return bool(entry["in_time"] == 1.0 and entry["stepped_in_time"] == 1.0)
    return entry["median"] is not None and entry["median"] <= COMPARED


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    rows = []
    for name, entry in entries.items():
        step: tuple[str, ...] = ("", "", "")
        if CASES[name].goal == 100:
            step = (
                seconds(entry["stepped_median"]),
                seconds(entry["stepped_most"]),
                share(entry["stepped_in_time"] or 0.0),
            )
        back = (
            missed(seconds(entry["median"]), reached(name, entry)),
            seconds(entry["most"]),
            share(entry["in_time"] or 0.0),
        )
        rows.append((name, f"{entry['there']} of {entry['of']}", *step, *back, f"{entry['hurt'] or 0:,.0f}"))
    heads = (
        "late faults",
        "rollouts there",
        "stepped back, median",
        "most",
        f"within {STEPPED:.0f} s",
        "rolled back, median",
        "most",
        "in time",
        "users hurt",
    )
    title = (
        "From 0.2% to 5% errors ten minutes after the beginning, 50 requests/s, looks of 15 s; to reach: "
        f"rolled back within {COMPARED:.0f} s in the median; from weight 100 stepped back within "
        f"{STEPPED:.0f} s and rolled back within {ROLLED_BACK:.0f} s, all of them"
    )
    return [Table(title, heads, rows)]
