"""Healthy versions: how soon they have all the traffic."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.calibration import run as run
from bench.results import Entry
from bench.rollouts import Outcome
from bench.tables import Table, minutes, missed
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
    rows = [
        (
            name,
            f"{entry['runs']:,}",
            missed(minutes(entry["median"]), reached(name, entry)),
            minutes(CASES[name].goal),
            minutes(entry["by_90"]),
        )
        for name, entry in entries.items()
    ]
    return [
        Table(
            "Healthy versions until full weight, a minimum of 2 minutes a stage unless said",
            ("pace", "rollouts", "median", "to reach", "by 90%"),
            rows,
        )
    ]
