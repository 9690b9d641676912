"""Healthy versions: how soon they have all the traffic, and how soon any test could give it to them."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.calibration import run as run
from bench.least_pace import least_minutes, told_test
from bench.results import Entry
from bench.rollouts import Outcome
from bench.tables import Table, minutes, missed, number, share
from bench.worlds import PACE, Case
from canaryd.simulation.monte_carlo_error import quantile

RUNS = 200
CASES = {case.name: case for case in PACE}


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    full = [outcome.full / 60 if outcome.full is not None else np.inf for outcome in outcomes]
    return {"median": quantile(full, 0.5), "by_90": quantile(full, 0.9)}


def reached(name: str, entry: Entry) -> bool:
    goal = CASES[name].goal
    return goal is None or (entry["median"] is not None and entry["median"] <= goal + 1e-5)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    rows = []
    for name, entry in entries.items():
        case, told = CASES[name], told_test(CASES[name])
        rows.append(
            (
                name,
                f"{entry['runs']:,}",
                missed(minutes(entry["median"]), reached(name, entry)),
                minutes(case.goal) if case.goal is not None else "-",
                minutes(entry["by_90"]),
                minutes(told.median),
                minutes(told.by_90),
                number(entry["median"] / told.median if entry["median"] is not None else None, 2),
                share(told.in_time),
                minutes(least_minutes(case)),
            )
        )
    heads = (
        "pace",
        "rollouts",
        "median",
        "to reach",
        "by 90%",
        "a test that is told all: median",
        "its 90%",
        "times its median",
        "it decides in time",
        "least of any test that compares, mean",
    )
    notes = (
        "The test that is told all knows how large bursts are and what stable's error rate is, which canaryd "
        "has to learn, and judges errors alone (Wald's sequential test, simulated with the same minimums and "
        "deadlines of 15 minutes; it decides in time where it passes every stage before its deadline, and "
        "where it seldom does the deadlines make both times). The "
        "least of any test that compares is a bound on the mean, without deadlines, of all tests that have "
        "to learn stable's rate from the same requests; they may know how large bursts are.",
    )
    return [
        Table(
            "Healthy versions until full weight, a minimum of 2 minutes a stage unless said",
            heads,
            rows,
            notes,
        )
    ]
