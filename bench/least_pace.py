"""How soon any test could give a healthy version all the traffic: by a bound, and by a simulated test that is
told what canaryd has to learn. Of errors alone; nothing here judges a rollout."""

import zlib
from dataclasses import dataclass
from math import ceil, log

import numpy as np

from bench.rollouts import a_policy
from bench.worlds import Case
from canaryd.commands.plan.least_time import RuledOut, Troubles, least_at, ruled_out_at
from canaryd.domain.policy.policy import Policy
from canaryd.simulation.simulated_service import Scenario
from canaryd.simulation.traffic_profile import TrafficProfile
from canaryd.stats.arrays import Array

LADDERS = 4000  # simulated: medians are known to a per cent or two


@dataclass(frozen=True)
class ToldTest:
    """Wald's test as it takes a healthy version up the ladder, minutes each; told: the burst size and
    stable's rate. in_time: the share of ladders on which it passes each stage before the deadline; at the
    deadline the stage goes on, as by canaryd's default."""

    median: float
    by_90: float
    in_time: float


def least_minutes(case: Case) -> float:
    """Minutes until full weight, below which no test gets on average: each stage's minimum or the least time
    of any test, and what is not compared between them."""
    policy, world = _policy(case), case.world
    traffic = TrafficProfile(world.requests, world.errors, world.replicas, 0.0, 0.0)
    troubles = Troubles(float(world.burst), 1)
    stages = range(len(policy.stages) - 1)
    times = [
        max(policy.stages[stage].minimum, least_at(policy, traffic, troubles, stage)) for stage in stages
    ]
    return (sum(times) + _not_compared(policy, case)) / 60


def told_test(case: Case) -> ToldTest:
    """Simulated, with a seed of the case's name."""
    policy, world = _policy(case), case.world
    errors = policy.analysis.errors
    assert errors is not None
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    seconds, in_time = np.full(LADDERS, _not_compared(policy, case)), np.ones(LADDERS, dtype=bool)
    for place, stage in enumerate(policy.stages[:-1]):
        requests = world.requests * stage.weight / 100
        passed = passed_after(world, requests, ruled_out_at(policy, errors, place), stage.deadline, rng)
        in_time &= passed <= stage.deadline
        seconds += np.clip(passed, stage.minimum, stage.deadline)
    median, by_90 = np.quantile(seconds / 60, [0.5, 0.9])
    return ToldTest(float(median), float(by_90), float(in_time.mean()))


def passed_after(
    world: Scenario, requests: float, ruled_out: RuledOut, deadline: float, rng: np.random.Generator
) -> Array:
    """Seconds in each ladder after which the canary's bursts rule out the worse rate; inf: not by the
    deadline. Shape (LADDERS,).

    requests: the canary's per second. Bursts are Poisson, and their likelihood ratio, healthy over worse, has
    to reach 1/risk at the end of any look (Wald 1945; one-sided: a healthy version is never rolled back by
    it).
    """
    looks = ceil(deadline / world.interval)
    healthy = requests * world.errors * world.interval / world.burst
    worse = requests * ruled_out.canary_rate(world.errors) * world.interval / world.burst
    bursts = rng.poisson(healthy, (LADDERS, looks)).cumsum(axis=1)
    likelihood = (worse - healthy) * np.arange(1, looks + 1) - bursts * (
        log(worse / healthy) if healthy else 0.0
    )
    reached = likelihood >= log(1 / ruled_out.risk)
    return np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1.0) * world.interval, np.inf)


def _policy(case: Case) -> Policy:
    return a_policy(case.world.interval, case.minimum, case.last)


def _not_compared(policy: Policy, case: Case) -> float:
    """Seconds before full weight: a look after each change, or as live each stage's settling and lag."""
    stages = len(policy.stages) - 1
    if case.lag is None:
        return (stages - 1) * float(case.world.interval)
    return stages * float(case.lag.settle + case.lag.late)
