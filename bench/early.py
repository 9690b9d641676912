"""Versions that are as bad as must be ruled out: how many get through a stage before its deadline."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.results import Entry
from bench.rollouts import DEADLINE, Outcome, Rolling, a_policy, rolling
from bench.tables import Table, how_many, missed, share
from bench.worlds import UNACCEPTABLE, Case
from canaryd.simulation.monte_carlo_error import exact_interval
from canaryd.simulation.simulated_service import SimulatedService

RUNS = 500
RISK = 0.05  # the policy's badAdvanceRisk
CASES = {case.name: case for case in UNACCEPTABLE}
HALF = (50, 100)


def run(case: Case, service: SimulatedService) -> Rolling:
    """From half of the traffic on: what that stage must rule out is what the policy says, no multiple of
    it."""
    policy = a_policy(case.world.interval, ladder=HALF)
    return rolling(service, longest=DEADLINE // case.world.interval, policy=policy)


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    early = sum(outcome.full is not None and outcome.full < DEADLINE for outcome in outcomes)
    low, high = exact_interval(early, len(outcomes))
    return {
        "early": early,
        "low": low,
        "high": high,
        "caught": float(np.mean([outcome.rolled_back for outcome in outcomes])),
    }


def reached(name: str, entry: Entry) -> bool:
    return bool(entry["low"] <= RISK)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    rows = [
        (
            name,
            f"{entry['runs']:,}",
            missed(how_many(entry["early"], entry), reached(name, entry)),
            share(entry["caught"]),
        )
        for name, entry in entries.items()
    ]
    heads = (
        "unacceptable versions at weight 50",
        "rollouts",
        "passed early (exact 95% interval)",
        "rolled back by the deadline",
    )
    return [
        Table(
            f"Versions as bad as a stage must rule out, until its deadline of {DEADLINE // 60} minutes; to "
            f"reach: at most {RISK:.0%} pass before it",
            heads,
            rows,
        )
    ]
