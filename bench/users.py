"""Users who are not alike, with the policies that are made for them: `route.affinity`, where each user stays
on one version, and `split`, where matched users are compared with each other. The same is promised, and
measured, as of all others."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench import calibration, early
from bench.results import Entry
from bench.rollouts import DEADLINE, KEPT, LONGEST, Outcome, Rolling, a_policy, rolling
from bench.tables import Table, how_many, minutes, missed, share
from bench.unlike_users import Crowd, Mixed, People
from bench.worlds import BAD_USERS, HEALTHY_USERS, HOUR, UNACCEPTABLE_USERS, Kind, Users
from canaryd.domain.policy.policy import Policy
from canaryd.simulation.monte_carlo_error import exact_interval, quantile
from canaryd.simulation.simulated_service import SimulatedService

CASES = {case.name: case for case in (*HEALTHY_USERS, *UNACCEPTABLE_USERS, *BAD_USERS)}
RUNS = max(case.runs for case in CASES.values())
NOTES = (
    "Of users who stay a few always fail, who make a twentieth of the failures; where some often fail, half "
    "of the failures is of users who fail a tenth of the time; where all differ, their rates are lognormal, "
    "and a twentieth of the variance lies between them. How much each sends is lognormal, too (sd of the log "
    "1).",
    "Matched users are a tenth of 200 requests/s, counted by callers. Those who fare worse have ten times "
    "the errors of all users, and half as much latency again.",
)
LOGGED_IN = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}


def runs(case: Users) -> int:
    return case.runs


def service(case: Users, rng: np.random.Generator) -> SimulatedService:
    return (
        Crowd(case.world, case.who, rng) if isinstance(case.who, People) else Mixed(case.world, case.who, rng)
    )


def policy_for(case: Users) -> Policy:
    """What is unacceptable is sent to full weight by one stage, which then has to rule out just that; as in
    `early`. Harm to matched users is looked for where they are split, which for that is never passed."""
    unacceptable = case.kind is Kind.UNACCEPTABLE
    usual = (
        a_policy(case.world.interval, ladder=early.HALF) if unacceptable else a_policy(case.world.interval)
    )
    data = usual.dump()
    if isinstance(case.who, People):
        data["route"] |= {"affinity": {"users": case.who.count}} if case.allowed else {}
        return Policy.load(data)
    times = (
        {"minimum": KEPT, "deadline": KEPT}
        if case.kind is Kind.BAD
        else {"minimum": "2m", "deadline": f"{DEADLINE}s"}
    )
    split = {"match": LOGGED_IN, "split": "half", **times}
    data["stages"] = [split, *(data["stages"][-1:] if unacceptable else data["stages"])]
    data["analysis"]["reporter"] = "source"
    return Policy.load(data)


def run(case: Users, service: SimulatedService) -> Rolling:
    longest = {Kind.HEALTHY: LONGEST, Kind.UNACCEPTABLE: DEADLINE // case.world.interval, Kind.BAD: HOUR}
    return rolling(service, longest=longest[case.kind], policy=policy_for(case))


def summary(case: Users, outcomes: Sequence[Outcome]) -> Entry:
    """Times in minutes; events, low, high: what the promise is about, or for bad versions is to be hoped
    for."""
    full = [outcome.full / 60 if outcome.full is not None else np.inf for outcome in outcomes]
    back = [outcome.rolled_back for outcome in outcomes]
    events = (
        sum(outcome.full is not None and outcome.full < DEADLINE for outcome in outcomes)
        if case.kind is Kind.UNACCEPTABLE
        else sum(back)
    )
    low, high = exact_interval(events, len(outcomes))
    return {
        "events": events,
        "low": low,
        "high": high,
        "full": quantile(full, 0.5),
        "full_90": quantile(full, 0.9),
        "rolled_back": float(np.mean(back)),
        "after": quantile([outcome.delay / 60 for outcome in outcomes], 0.5),
        "at_full": float(np.mean([outcome.full is not None for outcome in outcomes])),
        "undecided": float(np.mean([outcome.end in ("watched", "held") for outcome in outcomes])),
    }


def reached(name: str, entry: Entry) -> bool:
    """As in `calibration` and `early`; nothing is promised where the policy does not say that users stay, nor
    of bad versions."""
    case = CASES[name]
    risk = {Kind.HEALTHY: calibration.RISK, Kind.UNACCEPTABLE: early.RISK, Kind.BAD: 1.0}[case.kind]
    return not case.allowed or bool(entry["low"] <= risk)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    found = []
    for kind, title, heads in (
        (
            Kind.HEALTHY,
            "Healthy versions whose users are not alike, up to half an hour; to reach: at most "
            f"{calibration.RISK:.0%} rolled back",
            (
                "healthy versions",
                "rollouts",
                "rolled back (exact 95% interval)",
                "full weight, median",
                "by 90%",
                "undecided",
            ),
        ),
        (
            Kind.UNACCEPTABLE,
            "Unacceptable versions whose users are not alike, half of them or of the matched on each "
            f"version, until the deadline of {DEADLINE // 60} minutes; to reach: at most {early.RISK:.0%} "
            "pass before it",
            (
                "unacceptable versions",
                "rollouts",
                "passed early (exact 95% interval)",
                "rolled back by the deadline",
                "let pass at it",
            ),
        ),
        (
            Kind.BAD,
            "Bad versions whose users are not alike, on the whole ladder or kept at half of the matched, "
            "watched for an hour",
            (
                "bad versions",
                "rollouts",
                "rolled back (exact 95% interval)",
                "after, median",
                "came to full weight",
                "undecided",
            ),
        ),
    ):
        rows = [_row(name, entry) for name, entry in entries.items() if CASES[name].kind is kind]
        if rows:
            found.append(Table(title, heads, rows, () if found else NOTES))
    return found


def _row(name: str, entry: Entry) -> tuple[str, ...]:
    kind = CASES[name].kind
    first = name, f"{entry['runs']:,}", missed(how_many(entry["events"], entry), reached(name, entry))
    if kind is Kind.HEALTHY:
        return *first, minutes(entry["full"]), minutes(entry["full_90"]), share(entry["undecided"])
    if kind is Kind.UNACCEPTABLE:
        return *first, share(entry["rolled_back"]), share(entry["at_full"] - entry["events"] / entry["runs"])
    return *first, minutes(entry["after"]), share(entry["at_full"]), share(entry["undecided"])
