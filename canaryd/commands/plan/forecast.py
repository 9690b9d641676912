"""What a policy means for a service's traffic, before any rollout: how long a healthy version takes, and what
is caught where.

Every number comes from rehearsals (`simulation/simulated_rollout.py`), seeded: the same policy, traffic, seed
and number of rollouts give the same plan, whatever runs them. A rehearsal of each regression goes on from the
same past, with the same chance, as the healthy one. In words and as data: `text.py`; what to mind:
`policy_warnings.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from canaryd.commands.plan.least_time import least_at, troubles_of
from canaryd.domain.counts import HISTORY_LOOKS
from canaryd.domain.formatting import percent_text
from canaryd.domain.lifecycle import Signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.units import parse_share
from canaryd.judge.matched_users import judge_of
from canaryd.simulation.monte_carlo_error import exact_interval, quantile, quantile_interval
from canaryd.simulation.simulated_rollout import (
    DECIDED_LATE,
    LONGEST,
    USUAL_LAG,
    End,
    Lag,
    SimulatedOutcome,
    Visit,
    rehearse,
    served,
)
from canaryd.simulation.simulated_service import Scenario, SimulatedService
from canaryd.simulation.traffic_profile import TrafficProfile

ROLLOUTS = 100  # of each version: a share of one half is known to about 10 points
# after which no further rollouts are begun, unless a number was asked for: half a minute or so on two cores
LOOKS = 12_000
ROUND = 10  # rollouts of each version that are begun at once, and the fewest there are
ONWARD = (Signal.PASS, Signal.LET_PASS)
ERROR_TIMES, ERROR_SHARES, LATENCY_TIMES = (1.5, 2.0, 3.0, 5.0), (0.005, 0.01, 0.02, 0.05), (1.25, 1.5, 2.0)
MOST_TIMES = 1000.0


@dataclass(frozen=True)
class Regression:
    """A worse canary. metric: errors or latency; times: of stable's; share: or the canary's own error
    share."""

    metric: str
    times: float = 1.0
    share: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.times:g}x"
            if self.share is None
            else f"{self.metric} {percent_text(self.share)}"
        )

    def world(self, traffic: TrafficProfile, healthy: Scenario) -> Scenario:
        """The healthy service with this canary. Raises ValueError where it would be no regression of this
        traffic, or cannot be."""
        if self.metric == "latency":
            if not traffic.bounds:
                raise ValueError(
                    f"{self} cannot be simulated: no latency histogram was found of this service"
                )
            return replace(healthy, canary_latency=self.times)
        share = traffic.errors * self.times if self.share is None else self.share
        if not traffic.errors < share <= 1:
            raise ValueError(
                f"{self} must be more than the {percent_text(traffic.errors)} errors that stable has, and at "
                "most 100%, but is "
                f"{percent_text(share)}{'; say it as errors=1%' if not traffic.errors else ''}"
            )
        if self.share is None:
            return replace(healthy, canary_errors=self.times)
        return replace(healthy, more_errors=share - traffic.errors)


def regression_of(text: str) -> Regression:
    """`errors=3x`, `errors=2%` (the canary's own share), `latency=1.5x`. Raises ValueError for anything
    else."""
    wanted = f"must be errors=3x, errors=2% (the canary's own share) or latency=1.5x, but is {text!r}"
    metric, _, size = text.partition("=")
    if metric == "errors" and size.endswith("%"):
        return Regression(metric, share=parse_share(size))
    if metric not in ("errors", "latency") or re.fullmatch(r"[0-9]+(\.[0-9]+)?x", size, re.ASCII) is None:
        raise ValueError(wanted)
    if not 1 < float(size[:-1]) <= MOST_TIMES:
        raise ValueError(f"must be more than 1x and at most {MOST_TIMES:g}x, but is {text!r}")
    return Regression(metric, float(size[:-1]))


def usual_regressions(policy: Policy, traffic: TrafficProfile) -> tuple[Regression, ...]:
    """The regressions that a plan tries, of what the policy judges: error ratios (shares where stable has no
    errors at all) and latency ratios."""
    errors = [Regression("errors", times) for times in ERROR_TIMES if times * traffic.errors <= 1]
    if not traffic.errors:
        errors = [Regression("errors", share=share) for share in ERROR_SHARES]
    latency = [Regression("latency", times) for times in LATENCY_TIMES] if traffic.bounds else []
    return (*(errors if policy.analysis.errors else ()), *(latency if policy.analysis.latency else ()))


# ---------------------------------------------------------------- rehearsals


@dataclass(frozen=True)
class Job:
    """One rollout of each version. worlds: the healthy one first."""

    policy: Policy
    traffic: TrafficProfile
    worlds: tuple[Scenario, ...]
    lag: Lag
    seed: tuple[int, int]
    longest: int = LONGEST


Run = Callable[
    [Callable[[Job], tuple[SimulatedOutcome, ...]], Iterable[Job]], Iterable[tuple[SimulatedOutcome, ...]]
]
"""`map`, or a pool's: answers in the order of the jobs."""


def rehearse_each(job: Job) -> tuple[SimulatedOutcome, ...]:
    """The job's outcomes, by world."""
    service = SimulatedService(job.worlds[0], np.random.default_rng(np.random.SeedSequence(job.seed)))
    history = list(job.traffic.history) or service.history(HISTORY_LOOKS)
    judge = judge_of(job.policy, history)
    # A judge that has observed nothing is the same for each version, and costs as much as thirty looks; the
    # past is only ever read.
    judges = (deepcopy(judge, {id(history): history}) for _ in job.worlds)
    return tuple(
        rehearse(job.policy, own_judge, service.with_canary(world), job.lag, job.longest)
        for own_judge, world in zip(judges, job.worlds, strict=True)
    )


def rehearsals(
    policy: Policy,
    traffic: TrafficProfile,
    regressions: Sequence[Regression],
    seed: int,
    rollouts: int | None = None,
    lag: Lag = USUAL_LAG,
    run: Run = map,
    done: Callable[[int, int], None] = lambda number, of: None,
) -> list[tuple[SimulatedOutcome, ...]]:
    """Rollouts of each version, healthy first. rollouts None: ROLLOUTS, fewer where they are long (LOOKS).
    done: is told of progress.

    Raises ValueError for a regression that this traffic cannot have.
    """
    healthy = traffic.world(policy.analysis.interval)
    if policy.analysis.reporter != "destination":
        # the callers' and waypoints' telemetry has no replicas to tell apart
        healthy = replace(healthy, replicas=1)
    worlds = (healthy, *(regression.world(traffic, healthy) for regression in regressions))
    wanted = ROLLOUTS if rollouts is None else rollouts
    results: list[tuple[SimulatedOutcome, ...]] = []
    while len(results) < wanted:
        numbers = range(len(results), min(wanted, len(results) + ROUND))
        for outcomes in run(
            rehearse_each, [Job(policy, traffic, worlds, lag, (seed, number)) for number in numbers]
        ):
            results.append(outcomes)
            done(len(results), wanted)
        if rollouts is None and sum(outcome.looks for result in results for outcome in result) >= LOOKS:
            break
    return results


# ---------------------------------------------------------------- what they show


@dataclass(frozen=True)
class Share:
    """A share of the runs. low, high: the exact interval at 95%, which is the simulation's own error."""

    events: int
    runs: int

    @property
    def value(self) -> float:
        return self.events / self.runs if self.runs else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.events, self.runs) if self.runs else (0.0, 1.0)


@dataclass(frozen=True)
class Quantiles:
    """Median and 90% of some numbers; infinite: not reached by so many. interval: of the median, at 95%."""

    count: int
    median: float
    most: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quantiles":
        return cls(len(values), quantile(values, 0.5), quantile(values, 0.9), quantile_interval(values, 0.5))


@dataclass(frozen=True)
class HealthyStage:
    """A stage of a healthy version. time: s at this weight until it goes on; undecided, held: of those that
    reached the stage; least: s that any test of the errors needs there on average, 0 where none is needed."""

    weight: int
    canary_rate: float
    reached: Share
    time: Quantiles
    undecided: Share
    held: Share
    least: float = 0.0


@dataclass(frozen=True)
class Healthy:
    """full, promoted: s from the beginning; ends: of all rollouts; stepped_back: on an alarm at full weight,
    at least once."""

    stages: tuple[HealthyStage, ...]
    full: Quantiles
    promoted: Quantiles
    ends: Mapping[End, Share]
    stepped_back: Share


@dataclass(frozen=True)
class CaughtIn:
    """What one stage catches. chance: of all rollouts; time: s since the stage began, of those caught
    there."""

    chance: Share
    time: Quantiles


@dataclass(frozen=True)
class Caught:
    """How often one regression is caught, and what it costs. seconds, requests, failures: from the beginning
    until all traffic is back, of those that are caught."""

    regression: Regression
    stages: tuple[CaughtIn, ...]
    ends: Mapping[End, Share]
    seconds: Quantiles
    requests: Quantiles
    failures: Quantiles


@dataclass(frozen=True)
class Forecast:
    policy: Policy
    traffic: TrafficProfile
    lag: Lag
    seed: int
    rollouts: int
    looks: int
    healthy: Healthy
    regressions: tuple[Caught, ...]


def plan_of(
    policy: Policy,
    traffic: TrafficProfile,
    regressions: Sequence[Regression],
    seed: int,
    results: Sequence[tuple[SimulatedOutcome, ...]],
    lag: Lag = USUAL_LAG,
) -> Forecast:
    """What the results of `rehearsals` say, of the same arguments."""
    versions = list(zip(*results, strict=True))
    worse = tuple(
        _caught(policy, regression, outcomes)
        for regression, outcomes in zip(regressions, versions[1:], strict=True)
    )
    looks = sum(outcome.looks for result in results for outcome in result)
    return Forecast(
        policy, traffic, lag, seed, len(results), looks, _healthy(policy, traffic, versions[0]), worse
    )


def _healthy(policy: Policy, traffic: TrafficProfile, outcomes: Sequence[SimulatedOutcome]) -> Healthy:
    troubles = troubles_of(policy, traffic)
    stages = tuple(
        _healthy_stage(policy, traffic, stage, outcomes, least_at(policy, traffic, troubles, stage))
        for stage in range(len(policy.stages))
    )
    last = len(policy.stages) - 1
    promoted = [outcome.seconds if outcome.end is End.PROMOTED else inf for outcome in outcomes]
    stepped = sum(any(visit.signal is Signal.ALARM for visit in outcome.visits) for outcome in outcomes)
    return Healthy(
        stages,
        Quantiles.of([_until(outcome, last) for outcome in outcomes]),
        Quantiles.of(promoted),
        _ends(outcomes),
        Share(stepped, len(outcomes)),
    )


def _until(outcome: SimulatedOutcome, stage: int) -> float:
    """Seconds until the stage began first."""
    passed = 0.0
    for visit in outcome.visits:
        if visit.stage == stage:
            return passed
        passed += visit.seconds
    return inf


def _healthy_stage(
    policy: Policy,
    traffic: TrafficProfile,
    stage: int,
    outcomes: Sequence[SimulatedOutcome],
    least: float,
) -> HealthyStage:
    """By the first visit of each: one after a step back is no healthy version's usual way."""
    visits = [visit for visit in (_first(outcome, stage) for outcome in outcomes) if visit is not None]
    return HealthyStage(
        policy.stages[stage].weight,
        traffic.rate * served(policy.stages[stage])[0] / 100,
        Share(len(visits), len(outcomes)),
        Quantiles.of([visit.seconds if visit.signal in ONWARD else inf for visit in visits]),
        Share(sum(visit.signal in DECIDED_LATE for visit in visits), len(visits)),
        Share(sum(visit.signal is Signal.STUCK for visit in visits), len(visits)),
        least,
    )


def _first(outcome: SimulatedOutcome, stage: int) -> Visit | None:
    return next((visit for visit in outcome.visits if visit.stage == stage), None)


def _ends(outcomes: Sequence[SimulatedOutcome]) -> Mapping[End, Share]:
    return {end: Share(sum(outcome.end is end for outcome in outcomes), len(outcomes)) for end in End}


def _caught(policy: Policy, regression: Regression, outcomes: Sequence[SimulatedOutcome]) -> Caught:
    caught = [outcome for outcome in outcomes if outcome.end is End.CAUGHT]
    stages = []
    for stage in range(len(policy.stages)):
        there = [outcome for outcome in caught if outcome.caught_in == stage]
        times = [
            next(v.seconds for v in outcome.visits if v.signal in (Signal.HARM, Signal.ALARM))
            for outcome in there
        ]
        stages.append(CaughtIn(Share(len(there), len(outcomes)), Quantiles.of(times)))
    return Caught(
        regression,
        tuple(stages),
        _ends(outcomes),
        Quantiles.of([outcome.seconds for outcome in caught]),
        Quantiles.of([outcome.canary_requests for outcome in caught]),
        Quantiles.of([outcome.canary_failures for outcome in caught]),
    )
