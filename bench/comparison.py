"""canaryd and the rules that people use today, in the same worlds with the same seeds: who rolls back what,
how soon, at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.results import Entry
from bench.rollouts import Outcome, Rolling, a_policy, excess, rolling
from bench.rules import PROMOTED, RULES
from bench.tables import Table, minutes, number, share
from bench.worlds import BAD, HEALTHY, HOUR, LATE_WORLD
from canaryd.domain.counts import HISTORY_LOOKS, total
from canaryd.simulation.monte_carlo_error import quantile
from canaryd.simulation.simulated_service import Scenario, SimulatedService

RUNS = 200
HORIZON = 3600  # s that are watched; what a promoted version then does to users counts until here
MINUTE = 60
LAST = "10m"  # minimum of canaryd's stage at 100%, as in the README's policy

WELL = (
    "independent errors",
    "errors in bursts of 16",
    "bad spells of 6 looks",
    "replicas hang, in spells of 6 looks",
    "base rate swings by 80% in an hour",
    "replicas' error rates differ, sd 30%",
    "one canary replica on a node half as fast",
    "retry storms: clients fail 16 times in 4 looks",
    "1 request/s",
    "no errors at all",
    "5% errors",
)
ILL = (
    "errors 1% to 3%",
    "errors 1% to 2%",
    "errors 0.5% to 3%, in bursts of 4",
    "errors 0 to 1%",
    "errors 5% to 10%",
    "one of three replicas fails every request",
    "errors 1% to 3% from weight 50 on",
    "latency 1.25 times",
    "latency 1.5 times",
    "latency 2 times",
    "3% of requests stuck for 3 s",
)
LATE_NAME = "errors 0.2% to 5% after ten minutes"
OURS = "canaryd"


@dataclass(frozen=True)
class Match:
    """A world, and who judges it. name: the world's, by which seeds go."""

    name: str
    world: Scenario
    rule: str
    ill: bool


def _matches() -> dict[str, Match]:
    worlds = {case.name: case.world for case in (*HEALTHY, *BAD)}
    worlds[LATE_NAME] = LATE_WORLD
    found = [
        Match(name, worlds[name], rule, ill)
        for names, ill in ((WELL, False), ((*ILL, LATE_NAME), True))
        for name in names
        for rule in (OURS, *RULES)
    ]
    return {f"{match.name} | {match.rule}": match for match in found}


CASES = _matches()


def run(match: Match, service: SimulatedService) -> Rolling:
    """Until the horizon, also of what was promoted before it."""
    outcome = (yield from _ours(match, service)) if match.rule == OURS else _theirs(match, service)
    if outcome.end != PROMOTED or not match.ill:
        return outcome
    left = max(HORIZON - outcome.seconds, 0)
    faulty = service.faulty(100, service.now + np.arange(1, left + 1), 1).sum() if left else 0.0
    return replace(outcome, hurt=outcome.hurt + float(faulty) * match.world.requests * excess(match.world))


def _ours(match: Match, service: SimulatedService) -> Rolling:
    return rolling(
        service, longest=HOUR * 10 // match.world.interval, policy=a_policy(match.world.interval, last=LAST)
    )


def _theirs(match: Match, service: SimulatedService) -> Outcome:
    """Minute by minute, in the looks that canaryd would have: what lasts for a look lasts as long for all."""
    service.history(HISTORY_LOOKS)
    world, rule, began = match.world, RULES[match.rule](), service.now
    requests, hurt, fault, end = 0, 0.0, None, None
    while end is None and service.now - began < HORIZON:
        start, weight = service.now, rule.weight
        looks = service.looks(weight, MINUTE // world.interval, stable_weight=weight if rule.paired else None)
        faulty = service.faulty(weight, np.array([look.end for look in looks]), world.interval)
        served = [total(look.canary.values()) for look in looks]
        requests += sum(counts.requests for counts in served)
        hurt += sum(
            counts.requests * part for counts, part in zip(served, faulty.tolist(), strict=True)
        ) * excess(world)
        if faulty.any() and fault is None:
            fault = start - began + int((faulty == 0).sum()) * world.interval
        end = rule.minute(
            total(counts for look in looks for counts in look.stable.values()), total(served), world.bounds
        )
    passed = service.now - began
    return Outcome(
        end or "watched",
        0,
        passed,
        full=passed if end == PROMOTED else None,
        fault=fault,
        canary_requests=requests,
        hurt=hurt,
    )


def summary(match: Match, outcomes: Sequence[Outcome]) -> Entry:
    full = [outcome.full / MINUTE if outcome.full is not None else np.inf for outcome in outcomes]
    delays = [outcome.delay / MINUTE for outcome in outcomes]
    return {
        "rolled_back": float(np.mean([outcome.rolled_back for outcome in outcomes])),
        "caught": quantile(delays, 0.5),
        "caught_mean": float(np.mean([delay for delay in delays if np.isfinite(delay)] or [np.inf])),
        "hurt": float(np.mean([outcome.hurt for outcome in outcomes])),
        "full": quantile(full, 0.5),
    }


def reached(name: str, entry: Entry) -> bool:
    """Nothing is promised here; what canaryd promises is in the other tables."""
    return True


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    """Healthy worlds and bad ones: one row for a world, of each rule what it did there."""
    rules = (OURS, *RULES)
    found = []
    for ill, title, head in (
        (
            False,
            "Healthy versions: how many are rolled back, and the median time to full weight",
            "healthy versions",
        ),
        (
            True,
            "Bad versions: how many are caught, after how long (median), and how many users are hurt within "
            "the hour",
            "bad versions",
        ),
    ):
        names = dict.fromkeys(CASES[key].name for key in entries if CASES[key].ill is ill)
        rows = [(name, *(_cell(entries.get(f"{name} | {rule}"), ill) for rule in rules)) for name in names]
        if rows:
            found.append(
                Table(
                    f"{title}; the same seeded services for canaryd and the rules of today",
                    (head, *rules),
                    rows,
                )
            )
    return found


def _cell(entry: Entry | None, ill: bool) -> str:
    if entry is None:
        return "-"
    if not ill:
        return f"{share(entry['rolled_back'])}, {minutes(entry['full'])}"
    return f"{share(entry['rolled_back'])}, {minutes(entry['caught'])}, {number(entry['hurt'])} hurt"
