"""Bad versions: how soon they are rolled back, what that costs users, and how near it is to the least that
any test needs."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.calibration import run as run  # the same rollout; what differs is the canary
from bench.results import Entry
from bench.rollouts import LADDER, Outcome
from bench.tables import Table, missed, number, seconds, share
from bench.worlds import BAD, HOUR, Case
from canaryd.simulation.monte_carlo_error import quantile
from canaryd.stats.detection_bound import fewest_requests

RUNS = 400
CASES = {case.name: case for case in BAD}
TOLERATED, INCREASE = 1.1, 0.001  # the policy's toleratedRatio and toleratedIncrease
TIMES_THE_LIMIT = 2.0  # at most, on independent failures


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    """Delays in seconds; requests_mean: the canary's until the rollback, or as far as was watched."""
    delays = [outcome.delay for outcome in outcomes]
    requests = float(np.mean([outcome.canary_requests for outcome in outcomes]))
    caught = [outcome.delay for outcome in outcomes if outcome.rolled_back]
    return {
        "median": quantile(delays, 0.5),
        "mean": float(np.mean(caught)) if caught else None,
        "by_90": quantile(delays, 0.9),
        "most": max(delays),
        "missed": float(np.mean([not outcome.rolled_back for outcome in outcomes])),
        "hurt": float(np.mean([outcome.hurt for outcome in outcomes])),
        "requests_mean": requests,
    }


def limits_of(case: Case) -> tuple[float | None, float | None]:
    """Of any test, and of one that tolerates as much as the policy does."""
    return limit_of(case), limit_of(case, TOLERATED, INCREASE)


def limit_of(case: Case, tolerated: float = 1.0, increase: float = 0.0) -> float | None:
    """The least canary requests that any test at 1% needs on average; of errors that are there from the
    beginning only. Of failures in bursts each burst tells as much as one that is alone."""
    world = case.world
    rate = world.errors * world.canary_errors + world.more_errors
    if rate == world.errors or world.fault_weight or world.fault_begins or world.is_new:
        return None
    weight = LADDER[0] / 100
    alone = fewest_requests(world.errors, min(rate, 1.0), (1 - weight) / weight, 0.01, tolerated, increase)
    return alone * world.burst


def reached(name: str, entry: Entry) -> bool:
    return _in_time(name, entry) and _near_the_limit(name, entry)


def _in_time(name: str, entry: Entry) -> bool:
    goal = CASES[name].goal
    return goal is None or (
        entry["median"] is not None and entry["median"] <= goal * CASES[name].world.interval
    )


def _near_the_limit(name: str, entry: Entry) -> bool:
    """The limit binds independent failures, where it is more than a look's requests: nobody decides within
    one. A lag is no test's."""
    case, limit = CASES[name], limit_of(CASES[name])
    look = case.world.requests * case.world.interval * LADDER[0] / 100
    binding = limit is not None and limit > look and case.world.burst == 1 and case.lag is None
    return not binding or entry["requests_mean"] <= TIMES_THE_LIMIT * limit


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    rows = []
    for name, entry in entries.items():
        looks = entry["median"] / CASES[name].world.interval if entry["median"] is not None else None
        limit, tolerant = limits_of(CASES[name])
        delays = (seconds(entry["mean"]), seconds(entry["by_90"]), seconds(entry["most"]))
        times = (
            missed(_times(entry, limit), _near_the_limit(name, entry)),
            _least_seconds(CASES[name], tolerant),
            _times(entry, tolerant),
        )
        costs = (number(entry["hurt"]), number(entry["requests_mean"]), number(limit), *times)
        median = missed(seconds(entry["median"]), _in_time(name, entry))
        rows.append(
            (name, f"{entry['runs']:,}", median, number(looks), *delays, share(entry["missed"]), *costs)
        )
    heads = (
        "bad versions",
        "rollouts",
        "median",
        "looks",
        "mean",
        "by 90%",
        "most",
        "missed",
        "users hurt",
        "canary requests, mean",
        "least of any test",
        "times that",
        "least mean time of a test that tolerates as much",
        "times that of a test that tolerates as much",
    )
    return [
        Table(
            f"Bad versions at weight 10, until rolled back, watched for {HOUR} looks; to reach: at most "
            f"{TIMES_THE_LIMIT:g} times the least of any test",
            heads,
            rows,
        )
    ]


def _least_seconds(case: Case, limit: float | None) -> str:
    """The time in which the canary serves so many."""
    return seconds(limit / (case.world.requests * LADDER[0] / 100)) if limit else "-"


def _times(entry: Entry, limit: float | None) -> str:
    """At least so many, where some were not rolled back as long as they were watched."""
    times = number(entry["requests_mean"] / limit if limit else None, 1)
    return f"over {times}" if entry["missed"] and limit else times
