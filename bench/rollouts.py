"""One simulated rollout: a service, the real judge and the real state machine, look by look.

As the daemon would take it, but that nothing is late, unless a lag is given: one look after each change of
weight is not compared. With a lag, looks are acted on late, weights settle for as long as live ones, and the
canary's replicas warm up.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import Any

import numpy as np

from canaryd.domain.assessment import Assessment
from canaryd.domain.counts import HISTORY_LOOKS, Look
from canaryd.domain.lifecycle import Detail, Signal, advance, stage_signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Held, Phase
from canaryd.judge.judge import Judge, observe_all
from canaryd.judge.matched_users import SplitStageJudge, judge_of
from canaryd.simulation.simulated_rollout import Lag, a_rollout, served
from canaryd.simulation.simulated_service import Scenario, SimulatedService

LADDER = (10, 25, 50, 100)
DEADLINE = 900  # s, of a stage
LONGEST = 180  # looks of a rollout that is watched: half an hour of looks of 10 s
KEPT = "24h"  # minimum of the first stage, where a rollout is kept at 10%
MOST_DRAWN = 30  # looks at once
FINE = tuple(np.geomspace(1.0, 20_000.0, 400).tolist())  # ms; what users feel has no buckets


@dataclass(frozen=True)
class Outcome:
    """How a simulated rollout went; times in seconds since it began, None: it never came to that.

    end: rolled back, succeeded, held (after alarms) or watched; looks, seconds: until then; full: full weight
    was set first; stepped: the first step back from it; fault, fault_weight: when the canary's fault showed
    first, and at which weight. odds: the highest against the canary. canary_requests: it served; hurt: those
    of them that failed or were slow and would not have been with stable. outside: whether this rollout was
    outside of what the promise assumes (`breaks`). path: seconds, weight and odds after each look, if asked
    for.
    """

    end: str
    looks: int
    seconds: int
    full: int | None = None
    stepped: int | None = None
    steps_back: int = 0
    fault: int | None = None
    fault_weight: int = 0
    odds: float = 1.0
    canary_requests: int = 0
    hurt: float = 0.0
    outside: bool = False
    path: tuple[tuple[int, int, float], ...] = ()

    @property
    def rolled_back(self) -> bool:
        return self.end == "rolled back"

    @property
    def delay(self) -> float:
        """Seconds from the fault's beginning until the rollback; inf: it was missed."""
        return self.seconds - (self.fault or 0) if self.rolled_back else float("inf")


@cache
def a_policy(
    interval: int = 10,
    minimum: str = "2m",
    last: str = "2m",
    climbing: bool = True,
    ladder: tuple[int, ...] = LADDER,
    limit: str | None = None,
    warmup: str | None = None,
) -> Policy:
    """The whole default policy. minimum: of each stage, last: of the one at 100; climbing=False: it stays at
    10%. limit: `max` of errors; warmup: where it is not the default."""
    stages = [{"weight": weight, "minimum": minimum, "deadline": f"{DEADLINE}s"} for weight in ladder]
    stages[-1] |= {"minimum": last, "deadline": "2h"}
    if not climbing:
        stages[0] = {"weight": LADDER[0], "minimum": KEPT, "deadline": KEPT}
    return Policy.load(
        {
            "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
            "route": {"virtualService": "sockshop"},
            "stages": stages,
            "analysis": {
                "interval": f"{interval}s",
                **({"warmup": warmup} if warmup else {}),
                **({"metrics": [{"errors": {"max": limit}}, {"latency": {}}]} if limit else {}),
            },
        }
    )


Rolling = Generator[tuple[Judge | SplitStageJudge, Look], Assessment, Outcome]
"""A rollout under way: it gives a look and its judge, and goes on when it is told the assessment."""


def rolling(
    service: SimulatedService,
    climbing: bool = True,
    longest: int = LONGEST,
    policy: Policy | None = None,
    past: int = HISTORY_LOOKS,
    path: bool = False,
    before: Scenario | None = None,
    since: int = 0,
    lag: Lag | None = None,
) -> Rolling:
    """One rollout. climbing=False: at 10% all the time; longest: looks that are watched; past: looks of
    stable before it, which was as in `before`, if that is given, until `since` looks before the rollout. lag:
    as live, see the module; None: nothing is late."""
    policy = policy or a_policy(service.world.interval, climbing=climbing)
    world = service.world
    service = service.with_canary(before) if before else service
    history = service.history(past - since)
    service = service.with_canary(world) if before else service
    history += service.history(since)
    judge = judge_of(policy, history)
    return (yield from _Course(service, policy, judge, path, lag).run(longest))


def roll_out(many: Iterable[Rolling]) -> list[Outcome]:
    """Each to its end. All that have one judge are judged together, look by look, which is faster and changes
    no verdict."""
    under_way = list(many)
    outcomes: dict[int, Outcome] = {}
    asked: dict[int, tuple[Judge | SplitStageJudge, Look]] = {}

    def go_on(place: int, verdict: Any) -> None:
        try:
            asked[place] = under_way[place].send(verdict)
        except StopIteration as end:
            outcomes[place] = end.value
            asked.pop(place, None)

    for place in range(len(under_way)):
        go_on(place, None)
    while asked:
        of_one = {place: (judge, look) for place, (judge, look) in asked.items() if isinstance(judge, Judge)}
        verdicts = dict(zip(of_one, observe_all(list(of_one.values())), strict=True))
        verdicts |= {
            place: judge.observe(look) for place, (judge, look) in asked.items() if place not in of_one
        }
        for place, verdict in verdicts.items():
            go_on(place, verdict)
    return [outcomes[place] for place in range(len(under_way))]


class _Course:
    """The rollout as it goes on, and what it has cost so far."""

    def __init__(
        self,
        service: SimulatedService,
        policy: Policy,
        judge: Judge | SplitStageJudge,
        keeps_path: bool,
        lag: Lag | None,
    ) -> None:
        self._service, self._judge, self._keeps_path, self._lag = service, judge, keeps_path, lag
        self._began = self._now = service.now
        self._drawn: list[Look] = []
        self._outside = breaks(service, policy.analysis.warmup)
        self._excess = excess(service.world)
        self._rollout = advance(a_rollout(policy, service.now), Signal.AVAILABLE, float(service.now))
        self._looks = self._steps_back = self._requests = self._fault_weight = 0
        self._full: int | None = None
        self._stepped: int | None = None
        self._fault: int | None = None
        self._odds, self._hurt = 1.0, 0.0
        self._path: list[tuple[int, int, float]] = []
        if lag is not None:
            self._pass(self._rollout.stage, lag.settle)
        self._settled()

    def run(self, longest: int) -> Rolling:
        while self._looks < longest:
            stage = self._rollout.stage
            self._take((yield self._judge, self._look()))
            if self._lag is not None and self._is_decided:  # the weight is what it was until that is acted on
                self._pass(stage, self._lag.late)
            if self._rollout.phase is Phase.ROLLING_BACK:
                return self._outcome("rolled back")
            if self._rollout.phase is Phase.PROMOTING:
                return self._outcome("succeeded")
            if self._rollout.held is Held.ALARMS:
                return self._outcome("held")
            if self._is_decided:
                seconds = self._lag.settle if self._lag is not None else self._service.world.interval
                self._pass(self._rollout.stage, seconds)
                self._settled()
        return self._outcome("watched")

    @property
    def _is_decided(self) -> bool:
        """Whether the last look ended the stretch at its weight."""
        return self._rollout.span is None or self._rollout.span.end is not None

    def _pass(self, stage: int, seconds: int) -> None:
        """A look at a stage's weight that is not compared."""
        asked = self._rollout.policy.stages[stage]
        canary, stable = served(asked)
        [look] = self._service.looks(canary, 1, seconds, stable)
        self._judge.observe(self._counted(look, asked.weight), compared=False)

    def _take(self, assessment: Assessment) -> None:
        at = float(assessment.at + (self._lag.late if self._lag is not None else 0))
        weight, since = self._rollout.weight, round(at) - self._began
        self._looks += 1
        self._odds = max(self._odds, assessment.odds if weight < 100 else 1.0)
        if self._keeps_path:
            self._path.append((since, weight, assessment.odds))
        signal = stage_signal(self._rollout, assessment, at)
        if signal is None:
            return
        self._rollout = advance(self._rollout, signal, at, Detail(verdict=assessment.verdict))
        if self._rollout.weight == 100 and weight < 100 and self._full is None:
            self._full = since
        if signal is Signal.ALARM:
            self._steps_back += 1
            self._stepped = since if self._stepped is None else self._stepped

    def _settled(self) -> None:
        """The new weight is what all is served at from here on."""
        self._rollout = advance(
            self._rollout, Signal.ROUTED, float(self._service.now), Detail(start=self._service.now)
        )
        assert self._rollout.span is not None
        self._judge.open(self._rollout.span)

    def _look(self) -> Look:
        weight, span = self._rollout.weight, self._rollout.span
        if not self._drawn:
            # Below full weight nothing but the end can come before a stage's minimum: its looks are drawn at
            # once, which costs less.
            rest = 0.0
            if weight < 100 and span is not None and span.end is None and self._lag is None:
                rest = self._rollout.policy.stages[self._rollout.stage].minimum - (
                    self._service.now - span.start
                )
            many = max(1, min(MOST_DRAWN, ceil(rest / self._service.world.interval)))
            canary, stable = served(self._rollout.policy.stages[self._rollout.stage])
            self._drawn = self._service.looks(canary, many, stable_weight=stable)
        return self._counted(self._drawn.pop(0), weight)

    def _counted(self, look: Look, weight: int) -> Look:
        """The look, its costs being counted; as live, its canary's replicas are as young as the rollout."""
        start, self._now = look.start, look.end
        requests = sum(counts.requests for counts in look.canary.values())
        faulty = float(self._service.faulty(weight, np.array([look.end]), look.seconds)[0])
        self._requests += requests
        self._hurt += requests * faulty * self._excess
        if faulty and self._fault is None:
            self._fault, self._fault_weight = start - self._began + round((1 - faulty) * look.seconds), weight
        if self._lag is not None:
            return replace(look, first_seen=dict.fromkeys(look.canary, float(self._began)))
        return look

    def _outcome(self, end: str) -> Outcome:
        return Outcome(
            end,
            self._looks,
            self._now - self._began,
            self._full,
            self._stepped,
            self._steps_back,
            self._fault,
            self._fault_weight,
            self._odds,
            self._requests,
            self._hurt,
            self._outside,
            tuple(self._path),
        )


def excess(world: Scenario) -> float:
    """The share of a faulty canary's requests that are worse than stable's would have been: that fail, or are
    slower than the latency at which both versions differ most."""
    failing = min(world.errors * world.canary_errors + world.more_errors, 1.0)
    failing += world.broken / world.replicas * (1 - failing)
    fine = Scenario(
        median=world.median,
        sigma=world.sigma,
        canary_latency=world.canary_latency,
        stuck=world.stuck,
        second_mode=world.second_mode,
        bounds=FINE,
    )
    slower = float((fine.canary_slower() - fine.share_slower(1.0)).max())
    return max(failing - world.errors, slower, 0.0)


def breaks(service: SimulatedService, warmup: float) -> bool:
    """Whether a service, its past being over, is outside of what the promise assumes: its spells have not
    shown in stable's past, or its replicas start badly for longer than the policy's `warmup` (s). By chance
    worse replicas are within it: luck is part of what is held to be no harm."""
    world = service.world
    if world.cold_errors and world.cold_seconds > warmup:
        return True
    return bool((world.bad or world.hanging) and world.spell > 1 and service.stable.spells == 0)
