"""A whole daemon on fakes for a bracket of three services: front-end, which calls carts, which calls stock in
another namespace."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd.control.loop import ControlLoop
from canaryd.control.reconciler import Reconciler
from canaryd.control.supervisor import Supervisor
from canaryd.domain.counts import Counts, Look, Target
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import KnownTemplates, RouteView, Workload
from canaryd.domain.rollout import RouteLists
from tests.builders import a_policy, a_workload
from tests.control.daemon_on_fakes import Daemon, Script, healthy
from tests.fakes import FakeRollouts, FakeTelemetry, FakeTraffic, FakeWorkloads, FakeWorld, ScriptedJudge

NAMESPACES = {"front-end": "production", "carts": "production", "stock": "back"}
NAMES = tuple(NAMESPACES)


def a_member(name: str, **more: Any) -> dict[str, Any]:
    service = {"name": name, "namespace": NAMESPACES[name], "selector": {"app": name}}
    return {"service": service, "route": {"virtualService": "sockshop"}} | more


def a_bracket(*names: str, gather: str = "30s", **changes: Any) -> Policy:
    """changes: as of `a_policy`; a route is every service's."""
    own = {"route": changes["route"]} if "route" in changes else {}
    return a_policy(
        bracket={"gather": gather, "members": [a_member(name, **own) for name in names]}, **changes
    )


def a_version(service: str, version: str, **changes: Any) -> Workload:
    return a_workload(
        version, **{"name": f"{service}-{version}", "template": f"hash-{service}-{version}", **changes}
    )


@dataclass
class Part(FakeWorld):
    """One service's. What it does is a step of the whole."""

    shared: FakeWorld = field(default_factory=FakeWorld)
    name: str = ""

    def did(self, step: str) -> None:
        self.shared.did(f"{step} of {self.name}")

    def answer(self, port: str) -> None:
        super().answer(port)
        self.shared.answer(port)


@dataclass
class Workloads:
    parts: Mapping[str, Part]

    def list(self, policy: Policy) -> Sequence[Workload]:
        return FakeWorkloads(self.parts[policy.service.name]).list(policy)

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        FakeWorkloads(self.parts[name.rpartition("-")[0]]).scale(namespace, name, replicas)


@dataclass
class Traffic:
    parts: Mapping[str, Part]

    def _of(self, policy: Policy) -> FakeTraffic:
        assert policy.service.namespace == NAMESPACES[policy.service.name]
        return FakeTraffic(self.parts[policy.service.name])

    def read(self, policy: Policy) -> RouteView:
        return self._of(policy).read(policy)

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        return self._of(policy).write(policy, view, lists)

    def add_subset(self, policy: Policy, version: str) -> str:
        return self._of(policy).add_subset(policy, version)

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        return self._of(policy).restore(policy, view, version)

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        return self._of(policy).clean_up(policy, keep)


@dataclass
class Rollouts(FakeRollouts):
    notes: dict[str, KnownTemplates] = field(default_factory=dict)

    def known(self, policy: Policy) -> KnownTemplates:
        self.world.answer("api")
        return self.notes.get(policy.service.name, KnownTemplates(frozenset()))

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates:
        self.notes[policy.service.name] = super().remember(policy, known)
        return self.notes[policy.service.name]


@dataclass
class Telemetry(FakeTelemetry):
    parts: Mapping[str, Part] = field(default_factory=dict)

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        self.parts[targets[0].service].answer("telemetry")
        self.reads.append((start, end, step))
        return {
            target: [
                Look(
                    at,
                    at + step,
                    (),
                    {f"{name}-a": Counts(900, 9) for name in target.stable},
                    {f"{name}-a": Counts(100, 1) for name in target.canary},
                    True,
                    {},
                )
                for at in range(start, end, step)
            ]
            for target in targets
        }


class Bracket(Daemon):
    """scripts: what is said of a service, where not the usual."""

    def __init__(self, *names: str, scripts: Mapping[str, Script] | None = None, **changes: Any) -> None:
        self.scripts = dict(scripts or {})
        world = FakeWorld()
        self.parts = {
            name: Part(shared=world, name=name, workloads={f"{name}-v1": a_version(name, "v1")})
            for name in NAMES
        }
        super().__init__(policy=a_bracket(*(names or ("carts",)), **changes))

    def restart(self) -> None:
        if not isinstance(self.rollouts, Rollouts):
            whole = next(iter(self.parts.values())).shared
            self.world, self.rollouts, self.telemetry = (
                whole,
                Rollouts(whole),
                Telemetry(whole, parts=self.parts),
            )
        traffic = Traffic(self.parts)

        def judge_of(policy: Policy, history: Sequence[Look]) -> ScriptedJudge:
            return ScriptedJudge(lambda end, span: self.scripts.get(policy.service.name, healthy)(end, span))

        reconciler = Reconciler(
            self.telemetry,
            traffic,
            self.rollouts,
            self.gates,
            ingestion_delay=1.0,
            scrape_interval=1.0,
            clock=self.clock,
            judge_of=judge_of,
            shortest_part=3600.0,  # these looks are the same however long they are
        )
        supervisor = Supervisor(Workloads(self.parts), traffic, self.rollouts)
        self.beat = ControlLoop(
            lambda: self.policies, supervisor, reconciler, self.postman, self.clock, self.meter
        )

    def deploy(self, version: str = "v2", *services: str, **changes: Any) -> None:  # type: ignore[override]
        for service in services or ("front-end", "carts"):
            new = a_version(service, version, created=self.clock.at, **changes)
            self.parts[service].workloads[new.name] = new

    def change_of(self, service: str, version: str, **changes: Any) -> None:
        there = self.parts[service].workloads
        there[f"{service}-{version}"] = replace(there[f"{service}-{version}"], **changes)

    def begun(self, *services: str) -> "Bracket":
        """v2 came of these services, and serves at 10% with looks begun."""
        self.run()
        self.deploy("v2", *services)
        self.run_until(lambda r: r.weight == 10 and r.span is not None and r.span.end is None)
        return self

    def weights(self, version: str = "v2") -> list[int]:
        """Of front-end and carts."""
        return [self.parts[name].weight(version) for name in ("front-end", "carts")]

    @property
    def writes(self) -> list[str]:
        """Whose routes were written, in this order."""
        return [
            step.removeprefix("write route of ")
            for step in self.world.steps
            if step.startswith("write route")
        ]
