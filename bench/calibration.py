"""Healthy versions in every kind of trouble: how many are rolled back, and how long the others take."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.results import Entry
from bench.rollouts import Outcome, Rolling, a_policy, rolling
from bench.tables import Table, how_many, minutes, missed, share
from bench.worlds import HEALTHY, Case
from canaryd.simulation.monte_carlo_error import exact_interval, quantile
from canaryd.simulation.simulated_service import SimulatedService

RUNS = 2000
RISK = 0.01  # the policy's falseRollbackRisk
CASES = {case.name: case for case in HEALTHY}


def run(case: Case, service: SimulatedService) -> Rolling:
    policy = a_policy(
        case.world.interval, case.minimum, case.last, case.climbing, limit=case.limit, warmup=case.warmup
    )
    return rolling(
        service,
        longest=case.longest,
        policy=policy,
        past=case.past,
        before=case.before,
        since=case.since,
        lag=case.lag,
    )


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    full = [outcome.full / 60 if outcome.full is not None else np.inf for outcome in outcomes]
    back = [outcome for outcome in outcomes if outcome.rolled_back]
    outside = [outcome for outcome in outcomes if outcome.outside]
    inside_back = sum(outcome.rolled_back and not outcome.outside for outcome in outcomes)
    low, high = exact_interval(len(back), len(outcomes))
    inside = (
        exact_interval(inside_back, len(outcomes) - len(outside))
        if len(outside) < len(outcomes)
        else (0.0, 1.0)
    )
    return {
        "rolled_back": len(back),
        "low": low,
        "high": high,
        "full": quantile(full, 0.5),
        "full_90": quantile(full, 0.9),
        "promoted": float(np.mean([outcome.end == "succeeded" for outcome in outcomes])),
        "undecided": float(np.mean([outcome.end in ("watched", "held") for outcome in outcomes])),
        "stepped_back": float(np.mean([outcome.steps_back > 0 for outcome in outcomes])),
        "outside": len(outside),
        "outside_rolled_back": len(back) - inside_back,
        "inside_low": inside[0],
    }


def reached(name: str, entry: Entry) -> bool:
    """A rate is missed when its whole interval, of the rollouts that keep to the assumptions, lies above the
    risk."""
    return bool(entry["inside_low"] <= RISK)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    notes, rows = [], []
    for name, entry in entries.items():
        case = CASES[name]
        mark = ""
        if case.note:
            mark = f"[{len(notes) + 1}]"
            notes.append(
                f"{mark} {name}: {case.note}. In {entry['outside']:,} of {entry['runs']:,} rollouts it is "
                f"not so; {entry['outside_rolled_back']} of the {entry['rolled_back']} rolled back are of "
                "those."
            )
        rolled = missed(how_many(entry["rolled_back"], entry), reached(name, entry))
        pace = (minutes(entry["full"]), minutes(entry["full_90"])) if case.climbing else ("kept at 10%", "")
        rows.append(
            (
                f"{name} {mark}".rstrip(),
                f"{entry['runs']:,}",
                rolled,
                *pace,
                share(entry["promoted"]),
                share(entry["undecided"]),
                share(entry["stepped_back"]),
            )
        )
    heads = (
        "healthy versions",
        "rollouts",
        "rolled back (exact 95% interval)",
        "full weight, median",
        "by 90%",
        "promoted",
        "undecided",
        "stepped back",
    )
    return [
        Table(
            f"Healthy versions, up to half an hour; to reach: at most {RISK:.0%} rolled back",
            heads,
            rows,
            notes,
        )
    ]
