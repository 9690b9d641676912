"""What the evidence promises, measured: false rollbacks of healthy versions, time to catch harm, time to full weight, speed.

    python -m bench.evidence [--quick]

Every rollout runs through the real `Judge` with the whole default policy (errors and latency, all risks), a ladder of 10, 25, 50 and 100
per cent, a minimum of 2 minutes and a deadline of 15, in looks of 10 s, 3 and 3 replicas, Istio's 19 latency bounds, and 360 looks
of stable's past. Seeds are fixed: the same tree prints the same table, but for the speed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from canaryd.analysis.judge import Judge
from canaryd.analysis.simulated import Service, World, services
from canaryd.domain.lifecycle import DEADLINE_ODDS
from canaryd.domain.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.stats.limits import fewest_requests
from canaryd.stats.sampling import exact_interval

LADDER = (10, 25, 50, 100)
HISTORY = 360  # looks of stable before the rollout
SPEED_BOUNDS = (50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500)
LONGEST = 180  # looks of a rollout that is watched: half an hour
INDEPENDENT, FULL_WEIGHT_MINUTES = "independent errors", 9.0  # the healthy version whose time to full weight has a goal
LOOKS_PER_SECOND = 300
STEPS_BACK = 3  # alarms after which a rollout would be held


@dataclass(frozen=True)
class Outcome:
    """How a simulated rollout went. full: seconds until full weight began first (None: never); looks: until its end, or all."""

    end: str
    looks: int
    full: int | None
    steps_back: int
    odds: float


def a_policy(interval: int) -> Policy:
    return Policy.load(
        {
            "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
            "route": {"virtualService": "sockshop"},
            "stages": [{"weight": weight, "minimum": "2m", "deadline": "15m"} for weight in LADDER],
            "analysis": {"interval": f"{interval}s"},
        }
    )


def roll_out(service: Service, climbing: bool = True, longest: int = LONGEST) -> Outcome:
    """One rollout, as the daemon would take it: one look after each change of weight is not compared. climbing=False: it stays at 10."""
    policy = a_policy(service.world.interval)
    judge = Judge(policy, service.history(HISTORY))
    stage, steps_back, full, highest = 0, 0, None, 1.0
    began = service.now
    judge.open(span := Span(0, LADDER[0], service.now))
    for look in range(1, longest + 1):
        verdict = judge.hear(service.look(LADDER[stage]))
        highest = max(highest, verdict.odds if LADDER[stage] < 100 else 1.0)
        if verdict.answer is Answer.FAIL:
            return Outcome("rolled back", look, full, steps_back, highest)
        move = _move(policy, span, verdict) if climbing else 0
        if move and stage + move == len(LADDER):
            return Outcome("succeeded", look, full, steps_back, highest)
        if move:
            steps_back += move < 0
            if steps_back > STEPS_BACK:
                return Outcome("held", look, full, steps_back, highest)
            stage += move
            judge.hear(service.look(LADDER[stage]), compared=False)
            judge.open(span := Span(stage, LADDER[stage], service.now))
            if stage == len(LADDER) - 1 and full is None:
                full = service.now - began
    return Outcome("watched", longest, full, steps_back, highest)


def _move(policy: Policy, span: Span, verdict: Verdict) -> int:
    """Steps on the ladder that the verdict leads to."""
    stage, lasted = policy.stages[span.stage], verdict.at - span.start
    if verdict.answer is Answer.ALARM:
        return -1
    if lasted < stage.minimum:
        return 0
    if verdict.answer is Answer.PASS:
        return 1
    enough = verdict.canary_requests >= policy.analysis.minimum_requests and verdict.stage_odds < DEADLINE_ODDS
    return 1 if lasted >= stage.deadline and enough else 0


HEALTHY = {
    INDEPENDENT: World(),
    "errors in bursts of 4": World(burst=4),
    "errors in bursts of 16": World(burst=16),
    "base rate swings by 80% in an hour": World(swing=0.8),
    "no errors at all": World(errors=0.0),
    "1 request/s": World(requests=1.0),
    "replicas hang now and then": World(hanging=0.02),
    "replicas hang, in spells of 6 looks": World(hanging=0.02, spell=6),
    "each version's rate jitters, sd 0.5": World(jitter=0.5),
    "2,000 requests/s, bursts of 16": World(requests=2000.0, errors=0.01, burst=16),
    "2,000 requests/s, bursts of 64": World(requests=2000.0, errors=0.025, burst=64),
}
KEPT = ("2,000 requests/s, bursts of 16", "2,000 requests/s, bursts of 64")  # at weight 10: an approval may take hours
HARMFUL = {
    "errors 1% to 3%": (World(errors=0.01, canary_errors=3.0), 22),
    "errors 1% to 2%": (World(errors=0.01, canary_errors=2.0), None),
    "errors 0.5% to 3%, in bursts of 4": (World(canary_errors=6.0, burst=4), None),
    "latency 1.5 times": (World(canary_latency=1.5), 16),
    "3% of requests stuck for 3 s": (World(stuck=0.03), None),
}


Job = tuple[str, int, int]  # a world's name, how many rollouts, and their seed
CHUNK = 25  # rollouts in a job; seeds go by it, so results do not depend on the cores


def _healthy(job: Job) -> list[Outcome]:
    name, runs, seed = job
    return [roll_out(service, climbing=name not in KEPT) for service in services(HEALTHY[name], runs, seed)]


def _harmful(job: Job) -> list[Outcome]:
    name, runs, seed = job
    return [roll_out(service, climbing=False) for service in services(HARMFUL[name][0], runs, seed)]


def measure(
    run: Callable[[Job], list[Outcome]], worlds: list[str], runs: int, cores: int, only: str
) -> Iterator[tuple[str, list[Outcome], float]]:
    """Every world's outcomes, and the seconds they took."""
    with ProcessPoolExecutor(max_workers=cores) as pool:
        for number, name in enumerate(worlds, start=1):
            if only not in name:
                continue
            began = time.perf_counter()
            jobs = [(name, min(CHUNK, runs - first), 10_000 * number + first) for first in range(0, runs, CHUNK)]
            outcomes = [one for part in pool.map(run, jobs) for one in part]
            yield name, outcomes, time.perf_counter() - began


def print_healthy(runs: int, cores: int, only: str) -> bool:
    """Whether all was reached; a rate is missed when its whole interval lies above 1%."""
    reached = True
    print(f"Healthy versions, {runs} rollouts each, up to {LONGEST} looks; to reach: at most 1% rolled back (exact 95% interval)")
    heads = f"{'rolled back':>24}{'full weight, median':>21}{'by 90%':>10}{'stepped back':>14}{'succeeded':>11}{'seconds':>9}"
    print(f"{'':38}{heads}")
    for name, outcomes, took in measure(_healthy, list(HEALTHY), runs, cores, only):
        back = sum(one.end == "rolled back" for one in outcomes)
        low, high = exact_interval(back, len(outcomes))
        full = np.array([one.full if one.full is not None else np.inf for one in outcomes]) / 60
        middle, most = np.quantile(full, [0.5, 0.9], method="inverted_cdf")
        stepped = float(np.mean([one.steps_back > 0 for one in outcomes]))
        done = float(np.mean([one.end == "succeeded" for one in outcomes]))
        reached &= low <= 0.01 and not (name == INDEPENDENT and middle > FULL_WEIGHT_MINUTES)
        rolled_back = f"{back} ({low:.2%} to {high:.2%})"
        pace = ("kept at 10%", "") if name in KEPT else (_minutes(middle), _minutes(most))
        paces = f"{pace[0]:>21}{pace[1]:>10}{stepped:>14.1%}{done:>11.1%}{took:>9.0f}"
        print(f"{name:38}{rolled_back:>24}{paces}", flush=True)
    return reached


def _minutes(value: float) -> str:
    return f"{value:.1f} min" if np.isfinite(value) else "never"


def print_harmful(runs: int, cores: int, only: str) -> bool:
    """Whether all was reached."""
    reached = True
    print(f"\nHarm at weight 10, 50 requests/s, {runs} rollouts each: looks of 10 s until rolled back")
    print(f"{'':38}{'median':>8}{'to reach':>10}{'by 90%':>9}{'never':>8}{'times the least possible':>26}")
    for name, outcomes, _ in measure(_harmful, list(HARMFUL), runs, cores, only):
        looks = np.array([one.looks if one.end == "rolled back" else np.inf for one in outcomes])
        middle, most = np.quantile(looks, [0.5, 0.9], method="inverted_cdf")
        world, goal = HARMFUL[name]
        reached &= goal is None or middle <= goal
        least = _times_the_least(world, float(middle))
        print(f"{name:38}{middle:>8.0f}{goal if goal else '':>10}{most:>9.0f}{np.mean(np.isinf(looks)):>8.1%}{least:>26}", flush=True)
    return reached


def _times_the_least(world: World, looks: float) -> str:
    """What was needed over what any test at 1% needs on average (independent errors only)."""
    if world.canary_errors == 1.0 or world.burst > 1:
        return ""
    weight = LADDER[0] / 100
    least = fewest_requests(world.errors, world.errors * world.canary_errors, (1 - weight) / weight, 0.01)
    return f"{looks * world.interval * world.requests * weight / least:.1f}"


def print_speed(looks: int) -> bool:
    """Whether it was reached: errors and 12 joined latency bounds through Judge.hear, on one core."""
    world = World(requests=400.0, median=60.0, sigma=1.2, bounds=SPEED_BOUNDS)
    service = Service(world, np.random.default_rng(7))
    judge = Judge(a_policy(world.interval), service.history(HISTORY))
    judge.open(Span(0, 10, service.now))
    heard = [service.look(10) for _ in range(looks)]
    began = time.process_time()  # of this process alone: what else runs on the machine is no part of it
    for look in heard:
        judge.hear(look)
    took = time.process_time() - began
    joined = int(judge.latency.joined.sum()) if judge.latency else 0
    print(f"\nSpeed: {looks / took:,.0f} looks/s on one core, errors and {joined} latency bounds (to reach: {LOOKS_PER_SECOND})")
    return looks / took >= LOOKS_PER_SECOND


def main(arguments: list[str]) -> int:
    """0, or 1 when a number was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.evidence", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="50 rollouts of each world in place of 1,000")
    parser.add_argument("--runs", type=int, default=None, help="rollouts of each healthy world")
    parser.add_argument("--cores", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="worlds whose name has this in it")
    given = parser.parse_args(arguments)
    runs = given.runs or (50 if given.quick else 1000)
    reached = print_healthy(runs, given.cores, given.only)
    reached &= print_harmful(min(runs, 200), given.cores, given.only)
    reached &= print_speed(200 if given.quick else 1000)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
