"""A rollout rehearsed: a simulated service, the real judge, and the real state machine, from the first stage
to the end.

Nothing decides here. What is added to judge and lifecycle is only what the daemon's world adds: a look is
read some seconds late, and a weight needs some seconds to be what all that is scraped was served at. How many
requests match, nobody knows beforehand: a match stage is rehearsed with so many as `ASSUMED_MATCHING` says,
no different from the others; previews are none. People are taken to approve at once and to do nothing else,
gates to be open, the policy's own queries to be within their limits, and telemetry to be there.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil

from canaryd.domain.counts import Look
from canaryd.domain.lifecycle import Detail, Signal, advance, stage_signal
from canaryd.domain.policy.alerts import ALERTS
from canaryd.domain.policy.metrics import Query
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.stages import Stage
from canaryd.domain.rollout import Held, Phase, Rollout, ServiceRollout
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import SplitStageJudge
from canaryd.simulation.simulated_service import SimulatedService

LONGEST = 2000  # looks of a rollout that is watched: with looks of 15 s more than eight hours
DECIDED_LATE = (
    Signal.LET_PASS,
    Signal.STUCK,
    Signal.TIMED_OUT,
)  # what a deadline without a decision leads to


ASSUMED_MATCHING = 10  # per cent of the requests; a plan says so


def served(stage: Stage) -> tuple[float, float | None]:
    """The parts of all requests that are compared in a stage, canary's and stable's, in per cent; None: the
    rest. Copies come on top."""
    if stage.mirror is not None:
        return 100 * stage.mirror, 100.0
    if stage.split:
        return ASSUMED_MATCHING / 2, ASSUMED_MATCHING / 2
    return (
        ASSUMED_MATCHING + (100 - ASSUMED_MATCHING) * stage.weight / 100 if stage.match else stage.weight
    ), None


class End(StrEnum):
    """How a rehearsed rollout ended."""

    PROMOTED = "promoted"
    CAUGHT = "caught"  # rolled back on evidence of harm, or held after alarms at full weight
    HELD = "held undecided"
    GIVEN_UP = "rolled back undecided"
    OVERDUE = "overdue"
    RUNNING = "still running"


@dataclass(frozen=True, slots=True)
class Lag:
    """Whole seconds. late: from a look's end until what it says is acted on; settle: from a new weight until
    its first look begins."""

    late: int
    settle: int

    @classmethod
    def of(cls, scrape_interval: float, ingestion_delay: float, beat: float) -> "Lag":
        """The lag by the daemon's settings, in seconds: half a beat passes until a look is read, and the mesh
        needs a second to follow a route."""
        return cls(ceil(ingestion_delay + beat / 2), ceil(scrape_interval + 1))


USUAL_LAG = Lag.of(scrape_interval=15.0, ingestion_delay=15.0, beat=5.0)  # the settings' defaults


@dataclass(frozen=True, slots=True)
class Visit:
    """One stretch at one weight. signal: what ended it; None: it was being watched still. seconds: the
    settling included."""

    stage: int
    signal: Signal | None
    seconds: int
    looks: int
    canary_requests: int


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
    """One rollout. seconds, canary_requests, canary_failures: until the last canary request was served."""

    end: End
    visits: tuple[Visit, ...]
    seconds: int
    looks: int
    canary_requests: int
    canary_failures: int

    @property
    def caught_in(self) -> int | None:
        """The stage whose looks told: of the first alarm or harm. None: it was not caught."""
        if self.end is not End.CAUGHT:
            return None
        return next(visit.stage for visit in self.visits if visit.signal in (Signal.HARM, Signal.ALARM))


def rehearse(
    policy: Policy,
    judge: Judge | SplitStageJudge,
    service: SimulatedService,
    lag: Lag = USUAL_LAG,
    longest: int = LONGEST,
) -> SimulatedOutcome:
    """One rollout of the service's canary, judged by this judge, which has observed nothing yet."""
    return _Rehearsal(policy, judge, service, lag, longest).run()


class _Rehearsal:
    """The rollout as it goes on, and what it has cost so far."""

    def __init__(
        self,
        policy: Policy,
        judge: Judge | SplitStageJudge,
        service: SimulatedService,
        lag: Lag,
        longest: int,
    ) -> None:
        self._judge, self._service, self._lag, self._longest = judge, service, lag, longest
        self._began = service.now
        self._rollout = a_rollout(policy, service.now)
        # At its limit a query is kept, and compared ones are equal; without a value nothing would ever pass.
        self._values = {name: _kept(query) for query in policy.analysis.queries for name in query.asked}
        if policy.analysis.alerts is not None:
            self._values[ALERTS] = 0.0  # none fires
        self._visits: list[Visit] = []
        self._looks = self._requests = self._failures = 0

    def run(self) -> SimulatedOutcome:
        self._rollout = advance(self._rollout, Signal.AVAILABLE, float(self._began))
        while self._rollout.phase is Phase.PROGRESSING and self._looks < self._longest:
            self._stay()
        end = self._end()
        return SimulatedOutcome(
            end,
            tuple(self._visits),
            self._service.now - self._began,
            self._looks,
            self._requests,
            self._failures,
        )

    def _stay(self) -> None:
        """One stretch at one weight, from its beginning to the signal that ends it."""
        stage, began = self._rollout.stage, self._service.now
        requests, looks = self._requests, self._looks
        self._judge.observe(self._look(stage, self._lag.settle), self._values, compared=False)
        routed = Detail(start=self._service.now)
        self._rollout = advance(self._rollout, Signal.ROUTED, float(began), routed)
        if self._rollout.span is not None:
            self._judge.open(self._rollout.span)
        signal = None
        while signal is None and self._looks < self._longest:
            signal = self._one_look(stage)
        if signal is not None:  # the weight is what it was until the decision is acted on
            self._judge.observe(self._look(stage, self._lag.late), self._values, compared=False)
        passed = self._service.now - began
        self._visits.append(Visit(stage, signal, passed, self._looks - looks, self._requests - requests))

    def _one_look(self, stage: int) -> Signal | None:
        """The signal that a look leads to, taken."""
        assessment = self._judge.observe(self._look(stage), self._values)
        self._looks += 1
        now = float(assessment.at + self._lag.late)
        deadline = self._rollout.policy.schedule.deadline
        signal = stage_signal(self._rollout, assessment, now)
        if deadline is not None and now - self._began >= deadline:
            signal = Signal.OVERDUE
        if signal is not None:
            self._rollout = advance(self._rollout, signal, now, Detail(verdict=assessment.verdict))
        return signal

    def _look(self, stage: int, seconds: int | None = None) -> Look:
        canary, stable = served(self._rollout.policy.stages[stage])
        [look] = self._service.looks(canary, 1, seconds, stable)
        if self._rollout.policy.stages[stage].mirror is None:  # nobody waits for the answer to a copy
            self._requests += sum(counts.requests for counts in look.canary.values())
            self._failures += sum(counts.failures for counts in look.canary.values())
        # the canary's replicas have to warm up
        return replace(look, first_seen=dict.fromkeys(look.canary, float(self._began)))

    def _end(self) -> End:
        phase, last = self._rollout.phase, self._visits[-1].signal
        if phase is Phase.PROMOTING:
            return End.PROMOTED
        if phase is Phase.HELD:
            return End.CAUGHT if self._rollout.held is Held.ALARMS else End.HELD
        if phase is Phase.ROLLING_BACK:
            return {Signal.TIMED_OUT: End.GIVEN_UP, Signal.OVERDUE: End.OVERDUE}.get(
                last or Signal.HARM, End.CAUGHT
            )
        return End.RUNNING


def _kept(query: Query) -> float:
    """A value that is within the query's limits."""
    return next((limit for limit in (query.max, query.min) if limit is not None), 1.0)


def a_rollout(policy: Policy, now: int) -> Rollout:
    """Waiting for its canary to be available; approved all the way, every gate open."""
    service = policy.service
    return Rollout(
        name=service.name,
        policy=policy.without_hooks(),
        services=(
            ServiceRollout(
                namespace=service.namespace,
                name=service.name,
                stable="stable",
                canary="canary",
                stable_workload="stable",
                canary_workload="canary",
                template="canary",
                stable_template="stable",
            ),
        ),
        began=float(now),
        approved=len(policy.stages),
    )
