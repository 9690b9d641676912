"""The outside, in memory: each fake implements one port as its adapter does, so tests look at the world and
not at calls.

`World` holds the cluster's state and its faults; the fakes read and write it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd.domain.counts import Counts, Look, Source, Target
from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import (
    Conflict,
    Forbidden,
    KnownTemplates,
    Missing,
    Presence,
    Rejected,
    Request,
    RouteView,
    TooNew,
    Unavailable,
    Workload,
)
from canaryd.domain.rollout import Announcement, DesiredActions, Record, RouteLists, Span
from canaryd.domain.series_values import SeriesValues
from canaryd.domain.verdict import Answer, Verdict
from canaryd.routing.managed_routes import steered
from tests.builders import NOW, ORIGIN, a_verdict, a_workload


class Crash(BaseException):
    """The process dies here: nothing below the call is done, and no handler runs."""


@dataclass
class FakeClock:
    at: float = NOW

    def now(self) -> float:
        return self.at


@dataclass
class FakeWorld:
    """workloads, lists and subsets are the cluster; `down` names ports that do not answer; crash_before: a
    step at which to die."""

    workloads: dict[str, Workload] = field(default_factory=lambda: {"front-end-v1": a_workload("v1")})
    lists: dict[str, tuple[Mapping[str, Any], ...]] = field(default_factory=lambda: dict(deepcopy(ORIGIN)))
    subsets: dict[str, str] = field(default_factory=lambda: {"v1": "v1"})
    made: set[str] = field(default_factory=set)  # those of them that canaryd made
    fair: set[str] = field(default_factory=set)  # Services made for matched users
    slow: bool = False  # proxies: what `add_subset` has made is too new to be routed to
    route_trouble: str = ""  # what a gateway's controller says against the route
    route_version: int = 1
    route_problem: str = ""
    route_raw: Mapping[str, Any] = field(default_factory=dict)  # the rest of the VirtualService
    # what the steered routes have besides their lists
    whole: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # "list", "read", "write", "subset", "fair", "tidy": what the API server says instead
    refuses: dict[str, str] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    steps: list[str] = field(default_factory=list)
    crash_after: int | None = None  # dies right after so many steps that change something
    history: list[dict[str, tuple[Mapping[str, Any], ...]]] = field(default_factory=list)

    def answer(self, port: str) -> None:
        if port in self.down:
            raise Unavailable(f"{port} does not answer")

    def permit(self, what: str) -> None:
        if what in self.refuses:
            raise Rejected(self.refuses[what])

    def did(self, step: str) -> None:
        self.steps.append(step)
        if self.crash_after is not None and len(self.steps) >= self.crash_after:
            self.crash_after = None
            raise Crash(step)

    def edit(self, lists: dict[str, tuple[Mapping[str, Any], ...]]) -> None:
        """Someone else's hand."""
        self.lists, self.route_version = lists, self.route_version + 1

    def weight(self, subset: str) -> int:
        """What the first route sends to a subset, as Istio reads it."""
        for destination in self.lists["#0"]:
            if destination["destination"]["subset"] == subset:
                return int(destination.get("weight", 100 if len(self.lists["#0"]) == 1 else 0))
        return 0


@dataclass
class FakeWorkloads:
    world: FakeWorld

    def list(self, policy: Policy) -> Sequence[Workload]:
        self.world.answer("api")
        self.world.answer("deployments")
        if "list" in self.world.refuses:
            raise Forbidden(self.world.refuses["list"])
        return list(self.world.workloads.values())

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        self.world.answer("api")
        if name not in self.world.workloads:
            raise Missing(name)
        self.world.workloads[name] = replace(
            self.world.workloads[name], desired=replicas, ready=replicas, available=replicas > 0
        )
        self.world.did(f"scale {name} {replicas}")


@dataclass
class FakeTraffic:
    world: FakeWorld

    def read(self, policy: Policy) -> RouteView:
        self.world.answer("api")
        self.world.answer("routes")
        if "read" in self.world.refuses:
            raise Forbidden(self.world.refuses["read"])
        if self.world.route_problem:
            raise Rejected(self.world.route_problem)
        world = self.world
        return RouteView(
            deepcopy(world.lists),
            dict(world.subsets),
            str(world.route_version),
            world.route_raw,
            deepcopy(world.whole),
            trouble=world.route_trouble,
        )

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        self.world.answer("api")
        if view.resource_version != str(self.world.route_version):
            raise Conflict("the VirtualService was changed in between")
        self.world.permit("write")
        if unknown := sorted(set(steered(lists)) - set(self.world.lists)):
            raise Rejected(f"there is no steered route {unknown} any more")
        for route in steered(lists).values():
            weights = [destination.get("weight") for destination in route]
            assert weights in ([None], [100]) or sum(weights) == 100, f"weights {weights} do not sum to 100"
        self.world.lists = {
            **steered(self.world.lists),
            **{key: tuple(deepcopy(route)) for key, route in lists.items()},
        }
        self.world.history.append(self.world.lists)
        self.world.route_version += 1
        self.world.did("write route")
        return self.read(policy)

    def add_subset(self, policy: Policy, version: str) -> str:
        self.world.answer("api")
        is_new = version not in self.world.subsets
        if is_new:
            self.world.permit("subset")
            self.world.subsets[version] = version
            if policy.route.http_route:
                self.world.made.add(version)
                self.world.did(f"make {version}")
        is_new = bool(self.restore(policy, self.read(policy), version)) or is_new
        if is_new and self.world.slow:
            raise TooNew(f"{version} was made just now")
        return version

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        self.world.answer("api")
        missing = sorted(set(policy.fair_services) - self.world.fair)
        if missing:
            self.world.permit("fair")
            self.world.fair |= {*missing}
            self.world.did(f"make {missing}")
        return missing

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        self.world.answer("api")
        self.world.permit("tidy")
        used = {
            destination["destination"]["subset"]
            for route in self.world.lists.values()
            for destination in route
        }
        idle = sorted(self.world.made - used - set(keep))
        for version in idle:
            self.world.made.remove(version)
            del self.world.subsets[version]
            self.world.did(f"remove {version}")
        gone = sorted(self.world.fair if not keep else ())
        self.world.fair -= set(gone)
        return [*idle, *gone]


@dataclass
class FakeRollouts:
    world: FakeWorld
    records: dict[str, Record] = field(default_factory=dict)
    templates: KnownTemplates = field(default_factory=lambda: KnownTemplates(frozenset()))
    asked: list[Request] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    version: int = 0

    def list(self) -> Sequence[Record]:
        self.world.answer("api")
        return list(self.records.values())

    def requests(self) -> Sequence[Request]:
        return list(self.asked)

    def create(self, record: Record) -> Record:
        self.world.answer("api")
        name = record.rollout.name
        self.asked = [request for request in self.asked if request.name != name]
        if name not in self.records:
            self._store(record)
            self.world.did("create record")
        return self.records[name]

    def refuse(self, request: Request, reason: str) -> None:
        self.asked.remove(request)
        self.refused[request.name] = reason

    def save(self, record: Record) -> Record:
        self.world.answer("api")
        there = self.records.get(record.rollout.name)
        if there is None:
            raise Missing(record.rollout.name)
        if there.resource_version != record.resource_version:
            raise Conflict(f"{record.rollout.name} was changed in between")
        self._store(replace(record, wishes=there.wishes))
        self.world.did("save record")
        return self.records[record.rollout.name]

    def delete(self, record: Record) -> None:
        del self.records[record.rollout.name]

    def known(self, policy: Policy) -> KnownTemplates:
        self.world.answer("api")
        return self.templates

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates:
        self.world.answer("api")
        self.version += 1
        self.templates = replace(known, resource_version=str(self.version))
        self.world.did("remember")
        return self.templates

    def wish(self, name: str, **wishes: Any) -> None:
        """A verb: someone else's write."""
        record = self.records[name]
        self._store(replace(record, wishes=replace(record.wishes, **wishes)))

    def _store(self, record: Record) -> None:
        self.version += 1
        self.records[record.rollout.name] = replace(
            record, resource_version=str(self.version), uid=record.uid or "uid"
        )


@dataclass
class FakeTelemetry:
    """Looks made up when asked, always the same for the same window: a replay reads what was read live."""

    world: FakeWorld
    look: Callable[[int, int], Look] = lambda start, end: Look(
        start, end, (), {"v1-a": Counts(900, 9)}, {"v2-a": Counts(100, 1)}, True, {}
    )
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    senders: Sequence[Source] = ()
    present: Presence = field(default_factory=Presence)
    asked: int = 0  # how often who sends
    firing: Callable[[int], SeriesValues] = lambda at: {}  # the alerts that fire at a moment
    # by the stretch that was read last of it
    targets: dict[tuple[int, int], Target] = field(default_factory=dict)

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        self.world.answer("telemetry")
        self.reads.append((start, end, step))
        self.targets |= dict.fromkeys([(start, end)], targets[0])
        return {target: [self.look(at, at + step) for at in range(start, end, step)] for target in targets}

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        self.world.answer("telemetry")
        return [0.0 for _ in range(start, end, step)]

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues | None]:
        self.world.answer("telemetry")
        self.world.answer("alerts")
        return [self.firing(at) for at in range(start + step, end + 1, step)]

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        self.world.answer("telemetry")
        self.asked += 1
        return self.senders

    def presence(self, target: Target, start: int, end: int) -> Presence:
        self.world.answer("telemetry")
        self.asked += 1
        return self.present


@dataclass
class ScriptedJudge:
    """Says what the script says for the end of a look; by default, undecided."""

    script: Callable[[int, Span], Answer]
    span: Span | None = None

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        pass

    def open(self, span: Span) -> None:
        self.span = span

    def watch(self, look: Look, compared: bool) -> bool:
        return False

    def observe(self, look: Look, values: Mapping[str, float | None], compared: bool) -> Verdict:
        if not compared or self.span is None:
            return a_verdict(at=look.end, stage=-1)
        answer = self.script(look.end, self.span) if look.sampled else Answer.NO_DATA
        return a_verdict(answer, at=look.end, stage=self.span.stage, weight=self.span.weight)


@dataclass
class FakePostman:
    """Delivers at once, but for notifiers that are dead."""

    dead: set[str] = field(default_factory=set)
    got: list[tuple[str, Announcement]] = field(default_factory=list)
    ended: list[tuple[str, str, bool]] = field(default_factory=list)
    firing: dict[str, list[Announcement]] = field(default_factory=dict)

    def offer(self, announcement: Announcement, notifiers: Sequence[str]) -> None:
        for notifier in notifiers:
            if notifier not in self.dead:
                self.got.append((notifier, announcement))
                self.ended.append((announcement.id, notifier, True))

    def collect(self) -> Sequence[tuple[str, str, bool]]:
        ended, self.ended = self.ended, []
        return ended

    def keep_firing(self, notifier: str, announcements: Sequence[Announcement]) -> None:
        self.firing[notifier] = list(announcements)

    def events(self, notifier: str) -> list[str]:
        return [news.event for to, news in self.got if to == notifier]


@dataclass
class FakeGates:
    """Replies at once, as the script says for a question; None: it has not replied yet."""

    script: Callable[[GateQuestion], GateReply | None] = lambda question: GateReply(True, "HTTP 200: ok", NOW)
    asked: list[GateQuestion] = field(default_factory=list)

    def ask(self, question: GateQuestion) -> GateReply | None:
        self.asked.append(question)
        return self.script(question)


@dataclass
class FakeMeter:
    bugs: int = 0
    deleted: list[str] = field(default_factory=list)

    def beat(self, seconds: float, api_answers: bool) -> None: ...

    def look(self, record: Record, seconds: float) -> None: ...

    def telemetry(self, answers: bool) -> None: ...

    def ended(self, record: Record) -> None: ...

    def gone(self, record: Record) -> None:
        self.deleted.append(record.rollout.name)

    def delivered(self, notifier: str) -> None: ...

    def broken(self) -> None:
        self.bugs += 1


__all__ = [
    "Crash",
    "DesiredActions",
    "FakeClock",
    "FakeGates",
    "FakeMeter",
    "FakePostman",
    "FakeRollouts",
    "FakeTelemetry",
    "FakeTraffic",
    "FakeWorkloads",
    "FakeWorld",
    "ScriptedJudge",
]
