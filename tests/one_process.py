"""A rollout as it happens, whole and in one process: canaryd's own parts on the sandbox's world, whose time a
test moves.

What is heard live is kept look by look, so that it can be compared with what is had again later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.deployments import KubeWorkloads
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.control.loop import ControlLoop
from canaryd.control.reconciler import Reconciler
from canaryd.control.supervisor import Supervisor
from canaryd.domain.counts import Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Rollout
from canaryd.domain.verdict import Verdict
from canaryd.judge.judge import Judge
from canaryd.report.reporting_judge import ReportingJudge
from canaryd_sandbox.world import World
from tests.builders import a_policy
from tests.fakes import FakeGates, FakeMeter, FakePostman

BEAT = 1.0


@dataclass
class WorldClock:
    world: World

    def now(self) -> float:
        return self.world.now


class Listened(ReportingJudge):
    """The judge, with all that it says of compared looks taken down."""

    def __init__(self, policy: Policy, history: Sequence[Look], said: list[Verdict]) -> None:
        super().__init__(Judge(policy, history))
        self._said = said

    def observe(self, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True) -> Verdict:
        verdict = super().observe(look, values, compared)
        if compared:
            self._said.append(verdict)
        return verdict


@dataclass
class Live:
    """canaryd on a world: a beat each second."""

    world: World
    policy: Policy
    said: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: it knows what is on record."""
        api, clock = KubernetesApi(str(self.world.kubeconfig)), WorldClock(self.world)
        self.rollouts, traffic = KubeRollouts(api), TrafficByKind(api, settle=0.0)
        telemetry = PrometheusTelemetry(PrometheusAccess(self.world.prometheus_url, scrape_interval=1.0))
        reconciler = Reconciler(
            telemetry,
            traffic,
            self.rollouts,
            FakeGates(),
            ingestion_delay=1.0,
            scrape_interval=1.0,
            clock=clock,
            judge_of=lambda policy, history: Listened(policy, history, self.said),
        )
        supervisor = Supervisor(KubeWorkloads(api), traffic, self.rollouts)
        self.beat = ControlLoop(
            lambda: [self.policy], supervisor, reconciler, FakePostman(), clock, FakeMeter()
        )

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / BEAT)):
            self.world.advance(self.world.now + BEAT)
            self.beat.run()

    def release(self, version: str, within: float = 300, **behaviour: float) -> Rollout:
        """Someone applies a version; its rollout as it ended."""
        self.world.deploy(version, replicas=2, **behaviour)
        for _ in range(round(within / BEAT)):
            self.run(BEAT)
            mine = [
                record.rollout for record in self.rollouts.list() if record.rollout.entrance.canary == version
            ]
            if mine and mine[-1].phase.ended:
                return mine[-1]
        raise AssertionError(
            f"{version} has not ended within {within} s: "
            f"{[record.rollout for record in self.rollouts.list()]}"
        )


def a_quick_policy(minimum: str = "6s", **analysis: object) -> Policy:
    """Seconds where a service has minutes: looks of 2 s, stages of 6 to 30."""
    stages = [{"weight": weight, "minimum": minimum, "deadline": "30s"} for weight in (20, 50, 100)]
    query = {
        "query": {
            "name": "cpu",
            "promql": 'max(sandbox_cpu{pod=~"$canary_pods"})',
            "max": 0.9,
            "compare": "higher-is-worse",
        }
    }
    coarse = {"errors": {"unacceptableRatio": "400%", "unacceptableIncrease": "3%"}}
    return a_policy(
        stages=stages,
        analysis={"interval": "2s", "warmup": "0s", "metrics": [coarse, {"latency": {}}, query], **analysis},
    )


@dataclass
class Released:
    """A world in which v2 was good and got all traffic, v3 was bad and was rolled back, and time stands
    still. It ended just now."""

    live: Live
    good: Rollout
    bad: Rollout
    said_of_good: list[Verdict]
    said_of_bad: list[Verdict]

    @property
    def world(self) -> World:
        return self.live.world


def a_released_world(world: World) -> Released:
    live = Live(world, a_quick_policy())
    live.run(20)
    good = live.release("v2")
    heard = len(live.said)
    bad = live.release("v3", errors=0.05)
    live.run(20)
    return Released(live, good, bad, live.said[:heard], live.said[heard:])
