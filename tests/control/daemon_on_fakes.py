"""A whole daemon on fakes: beats by hand, a clock by hand, and a judge that follows a script."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from canaryd.control.loop import ControlLoop
from canaryd.control.reconciler import Reconciler
from canaryd.control.supervisor import Supervisor
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Phase, Rollout, Span
from canaryd.domain.verdict import Answer
from tests.builders import a_policy, a_workload
from tests.fakes import (
    FakeClock,
    FakeGates,
    FakeMeter,
    FakePostman,
    FakeRollouts,
    FakeTelemetry,
    FakeTraffic,
    FakeWorkloads,
    FakeWorld,
    ScriptedJudge,
)

BEAT = 5.0
Script = Callable[[int, Span], Answer]


def healthy(end: int, span: Span) -> Answer:
    """Passes each stage after a minute."""
    return Answer.PASS if end - span.start >= 60 else Answer.UNDECIDED


def always(answer: Answer) -> Script:
    return lambda end, span: answer


class Daemon:
    """The fakes outlive it: `restart` is a new process on the same world."""

    def __init__(self, script: Script = healthy, policy: Policy | None = None, **policy_changes: Any) -> None:
        self.policy = policy or a_policy(**policy_changes)
        self.script = script
        self.world, self.clock = FakeWorld(), FakeClock()
        self.rollouts, self.postman = FakeRollouts(self.world), FakePostman()
        self.meter, self.gates = FakeMeter(), FakeGates()
        self.telemetry = FakeTelemetry(self.world)
        self.policies = [self.policy]
        self.restart()

    def restart(self) -> None:
        traffic = FakeTraffic(self.world)
        reconciler = Reconciler(
            self.telemetry,
            traffic,
            self.rollouts,
            self.gates,
            ingestion_delay=1.0,
            scrape_interval=1.0,
            clock=self.clock,
            judge_of=lambda policy, history: ScriptedJudge(lambda end, span: self.script(end, span)),
            shortest_part=3600.0,  # these looks are the same however long they are
        )
        supervisor = Supervisor(FakeWorkloads(self.world), traffic, self.rollouts)
        self.beat = ControlLoop(
            lambda: self.policies, supervisor, reconciler, self.postman, self.clock, self.meter
        )

    def run(self, seconds: float = BEAT) -> "Daemon":
        until = self.clock.at + seconds
        while self.clock.at < until:
            self.beat.run()
            self.clock.at += BEAT
        return self

    def run_until(self, what: Callable[[Rollout], bool], within: float = 3600) -> Rollout:
        until = self.clock.at + within
        while self.clock.at < until:
            self.run()
            if self.rollouts.records and what(self.rollout):
                return self.rollout
        raise AssertionError(
            f"not within {within} s; {self.rollout if self.rollouts.records else 'no rollout began'}"
        )

    def deploy(self, version: str = "v2", **changes: Any) -> None:
        workload = a_workload(version, **{"created": self.clock.at, **changes})
        self.world.workloads[workload.name] = workload

    def change(self, name: str, **changes: Any) -> None:
        self.world.workloads[name] = replace(self.world.workloads[name], **changes)

    def with_canary(self, at_weight: int = 10) -> "Daemon":
        """v2 came and serves at a weight, its looks begun."""
        self.run()
        self.deploy()
        self.run_until(
            lambda r: (
                r.weight == at_weight
                and r.span is not None
                and r.span.end is None
                and r.span.weight == at_weight
            )
        )
        return self

    @property
    def rollout(self) -> Rollout:
        return max((r.rollout for r in self.rollouts.records.values()), key=lambda r: (r.began, r.attempt))

    def wish(self, **wishes: Any) -> None:
        self.rollouts.wish(self.rollout.name, **wishes)

    def to_end(self, within: float = 3600) -> Rollout:
        return self.run_until(lambda r: r.phase.ended, within)

    def ends_as(self, phase: Phase) -> Rollout:
        rollout = self.to_end()
        assert rollout.phase is phase, rollout.reason
        return rollout
