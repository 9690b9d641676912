"""One rollout: the canaries of one or more services, from their first sight to the end, with its history.

Frozen: a change is `replace(rollout, ...)`; phase, stage and weight change in `lifecycle.py` alone. The
record describes the wanted world, not commands; what is there is compared with it on every look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import Any

from canaryd.domain.counts import Counts
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import Verdict

# What is canaryd's of a route. The `route` list of each steered http route, by its key (the route's name, or
# "#0", "#1", ... among those without one); and each http route that canaryd has added, whole and alone in its
# list, by its name (`canaryd-...`, see managed_routes.py). One mapping holds both, so that whatever is kept,
# compared and written of the one is of the other.
RouteLists = Mapping[str, tuple[Mapping[str, Any], ...]]


class Phase(StrEnum):
    """Where a rollout stands; `lifecycle.TRANSITIONS` has the ways from one phase to the next."""

    WAITING = "Waiting"  # until the canary is available
    PROGRESSING = "Progressing"  # in a stage
    AWAITING_APPROVAL = "AwaitingApproval"  # the stage has passed; a person is asked
    AWAITING_GATE = "AwaitingGate"  # a gate before what comes next is asked
    HELD = "Held"
    ROLLING_BACK = "RollingBack"  # decided; the route is not yet confirmed
    GIVING_WAY = "GivingWay"  # the same, to a newer version
    PROMOTING = "Promoting"  # passed; the final route is not yet confirmed
    SUCCEEDED = "Succeeded"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"

    @property
    def serves(self) -> bool:
        """Whether the canary has what its stage gives it."""
        return self in (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.AWAITING_GATE, Phase.HELD)

    @property
    def ended(self) -> bool:
        """Whether the rollout is over, so that no signal means anything any more."""
        return self in (Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.SUPERSEDED)


class Held(StrEnum):
    """Why a rollout is held; a hold ends by what it is waiting for, or by a person's `resume`."""

    PERSON = "person"
    DRIFT = "drift"
    NO_DATA = "no data"
    UNDECIDED = "undecided"  # goes on when the evidence passes after all; a deadline never ends it
    ALARMS = "alarms"
    STABLE_NOT_READY = "stable not ready"
    GATE = "gate closed"  # at its deadline; it goes on being asked, and the hold ends when it opens
    ALERT = "alert firing"  # ends when the alert has resolved


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a rollout in one stage; by what the canary gets its requests there, the policy's stage
    says. Looks lie on a grid from `start` (whole Unix seconds). What lies between two spans was served while
    the route changed: it is counted and not compared. fresh: evidence gathered before is void (stable
    changed)."""

    stage: int
    weight: int
    start: int
    end: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """Who asked for an action, when (Unix seconds), and why, as their client wrote it; "" and None where it
    did not say. Who it really was is in the API server's audit log."""

    by: str = ""
    at: float | None = None
    reason: str = ""

    def sentence(self, action: str) -> str:
        """`held by alice: the database is down`, of the action `held`; `held by a person` where nothing is
        known."""
        reason = " ".join(self.reason.split())
        return f"{action} by {self.by or 'a person'}{f': {reason}' if reason else ''}"


NOBODY = ActionRequest()  # it is not known who asked


@dataclass(frozen=True, slots=True)
class DesiredActions:
    """What people ask for, by the record's `spec`. A verb raises or sets one of these; canaryd never writes
    them.

    requests: who asked last, by the verb: hold, resume, approve, openGate (`approve --gate`), promote, abort,
    retry, start.
    """

    hold: bool = False
    abort: bool = False
    promote: bool = False
    approved_stage: int = -1  # the highest stage index approved
    resumed: int = 0  # raised by `resume`: ends holds that no person began
    opened_gate: int = 0  # the number of the question whose gate a person opens
    attempt: int = 1  # raised by `retry`
    requests: Mapping[str, ActionRequest] = field(default_factory=dict)

    def request(self, verb: str, after: float = -inf) -> ActionRequest:
        """Who asked for what a verb asks for. after: when such a request was last obeyed (Unix seconds); one
        that is no younger is not what is asked for now, and says nothing."""
        found = self.requests.get(verb, NOBODY)
        return NOBODY if found.at is not None and found.at <= after else found


@dataclass(frozen=True, slots=True)
class AskedGate:
    """A question to a gate, the one being asked or the last one. gate: its place among the policy's; number:
    of the question in this rollout, from 1. since: from when on it is asked (None: put off by a pause); at,
    says: the last reply (None, "": none yet)."""

    gate: int
    number: int
    since: float | None = None
    at: float | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Versions:
    """Of one service of a rollout."""

    namespace: str
    service: str
    stable: str
    canary: str


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something people are told, with the numbers of the moment. id: the idempotency key, the same on every
    try.

    event: started, advanced, approval_needed, held, resumed, stepped_back, rolled_back, superseded or
    succeeded.
    delivered: notifiers that confirmed; given_up: those tried until their time was over. bracket: of a
    rollout of several services, all of them, the first as `service` has it; None otherwise.
    """

    id: str
    event: str
    at: float
    namespace: str
    service: str
    rollout: str
    stable: str
    canary: str
    stage: int
    weight: int
    reason: str
    verdict: Verdict | None = None
    # the weight, or what its stage has besides or instead: `10%`, `dark`, `match`, `20% mirrored`
    share: str = ""
    delivered: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    bracket: tuple[Versions, ...] | None = None

    @property
    def versions(self) -> str:
        """`front-end v1 to v2`, of each service."""
        own = self.bracket or (self,)
        return together(f"{version.service} {version.stable} to {version.canary}" for version in own)

    @property
    def canaries(self) -> str:
        """`front-end v2`, of each service."""
        own = self.bracket or (self,)
        return together(f"{version.service} {version.canary}" for version in own)

    @property
    def services(self) -> str:
        """`front-end and carts`."""
        own = self.bracket or (self,)
        return together(named.service for named in own)

    @property
    def summary(self) -> str:
        """What happened in one line without statistics; empty until it is handed over."""
        return ""


@dataclass(frozen=True, slots=True)
class SummarizedAnnouncement(Announcement):
    """An announcement as it is handed over, with its summary, which no record has."""

    summary: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of a rollout's life, kept with the verdict of the moment so that `explain` has an answer for
    ever."""

    at: float
    signal: str
    phase: Phase
    stage: int
    weight: int
    reason: str
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class RouteState:
    """One route of a service: the steered http routes of one VirtualService or HTTPRoute.

    origin: these http routes as they were at the beginning, empty until the rollout steers; confirmed: as
    canaryd last wrote them and the API server accepted (None: never written).
    canary_subset: the subset that the canary's requests are sent to; of an HTTPRoute, the Service.
    unrouted_reason: why calls from inside the mesh do not follow the weight, where the route does not apply
    to them; "" where it does.
    """

    origin: RouteLists = field(default_factory=dict)
    confirmed: RouteLists | None = None
    canary_subset: str = ""
    unrouted_reason: str = ""

    @property
    def last_left(self) -> RouteLists:
        """The http routes as canaryd last left them."""
        return self.confirmed if self.confirmed is not None else self.origin


@dataclass(frozen=True, slots=True)
class ServiceRollout:
    """What a rollout has of each of its services: versions, Deployments, routes, and what was counted.

    template, stable_template: hashes of both versions' pod templates. verdict: of this service alone.
    unready_since: since when no replica of the canary is ready (Unix seconds; None: one is).
    counted: by replica, everything since the rollout's beginning, up to its `counted_to`.
    scaled: scaling after the end is done, or was left since the version still got traffic or was gone.
    cleaned_up: what was made for versions that nothing leads to any more is gone, as far as it may go.
    off_weight_callers: whose requests do not follow the weight, as last asked, while the traffic as a whole
    does not; "" while it does.
    """

    namespace: str
    name: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    template: str
    stable_template: str
    routes: tuple[RouteState, ...] = (RouteState(),)
    verdict: Verdict | None = None
    unready_since: float | None = None
    counted: Mapping[str, Counts] = field(default_factory=dict)
    scaled: bool = False
    cleaned_up: bool = False
    off_weight_callers: str = ""

    @property
    def key(self) -> NamespacedName:
        """The namespace and name of the service."""
        return self.namespace, self.name

    @property
    def route(self) -> RouteState:
        """The service's one route: a policy names one for each service today."""
        (route,) = self.routes
        return route

    def with_route(self, **changes: Any) -> "ServiceRollout":
        """The service with these fields of its one route changed."""
        return replace(self, routes=(replace(self.route, **changes),))


@dataclass(frozen=True, slots=True)
class DisplayNames:
    """How sentences name what a rollout is about: `v2` of one service, `front-end v2 and carts v8` of
    several."""

    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout of one service, or of the services of a release bracket. Times are Unix seconds.

    services: what is each service's own, callers first; at least one. policy: of all of them.
    weight: the canary's share as wanted now, in per cent.
    clock: seconds of the present stage that count towards its deadline, up to `clock_from`, from which it
    runs on (None: it stands).
    resumed: how many resumes have been obeyed; approved: the highest stage index approved; promoted: whether
    that wish was obeyed.
    verdict: of all services together. last_data: end of the last look that held data. counted_to: end of the
    last look that was decided on.
    evidence_void: what was compared so far is void (stable changed), the next span begins anew.
    gate_question: the last question to a gate; opened_gates: gates, by their place among the policy's, that
    have opened for what comes next.
    retries: which attempt at a bracket this is, also where newer versions took the place of those that were
    tried; "" for none. harm_check_interval: seconds between two looks for plain harm, a part of the policy's
    interval; None: in whole looks, as records from before have it.
    """

    name: str
    policy: Policy
    services: tuple[ServiceRollout, ...]
    began: float
    attempt: int = 1
    phase: Phase = Phase.WAITING
    phase_since: float = 0.0
    stage: int = -1
    weight: int = 0
    held: Held | None = None
    reason: str = ""
    spans: tuple[Span, ...] = ()
    stage_began: float | None = None
    clock: float = 0.0
    clock_from: float | None = None
    resumed: int = 0
    approved: int = -1
    promoted: bool = False
    step_backs: int = 0
    verdict: Verdict | None = None
    last_data: float | None = None
    evidence_void: bool = False
    decisions: tuple[Decision, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    counted_to: int | None = None
    ended: float | None = None
    gate_question: AskedGate | None = None
    opened_gates: tuple[int, ...] = ()
    retries: str = ""
    harm_check_interval: int | None = None

    @property
    def entrance(self) -> ServiceRollout:
        """The first service, which calls the others: the rollout has its name and its namespace."""
        return self.services[0]

    @property
    def namespace(self) -> str:
        """The namespace that the rollout's record is in."""
        return self.entrance.namespace

    @property
    def keys(self) -> tuple[NamespacedName, ...]:
        """Namespace and name of each service, callers first."""
        return tuple(service.key for service in self.services)

    @property
    def service_names(self) -> tuple[str, ...]:
        """The name of each service, callers first."""
        return tuple(service.name for service in self.services)

    @property
    def is_bracket(self) -> bool:
        """Whether several services are rolled out together, so that sentences say which one is meant."""
        return len(self.services) > 1

    def service_of(self, key: NamespacedName) -> ServiceRollout:
        """The service of this namespace and name. Raises ValueError where the rollout is not about it."""
        return self.services[self.keys.index(key)]

    def policy_of(self, service: ServiceRollout) -> Policy:
        """The policy by which one service is judged and steered."""
        return self.policy.parts[self.keys.index(service.key)]

    def with_service(self, service: ServiceRollout) -> "Rollout":
        """The rollout with this in the place of the service of the same namespace and name."""
        return replace(
            self, services=tuple(service if own.key == service.key else own for own in self.services)
        )

    def with_verdict(self, verdict: Verdict | None) -> "Rollout":
        """The rollout with a verdict of all its services; of one service it is that service's own too."""
        if self.is_bracket:
            return replace(self, verdict=verdict)
        return replace(self, verdict=verdict, services=(replace(self.entrance, verdict=verdict),))

    @property
    def for_display(self) -> DisplayNames:
        """How sentences name services, versions and Deployments."""
        services = self.services
        return DisplayNames(
            service=together(self.service_names),
            stable=together(self.version_name(service, service.stable) for service in services),
            canary=together(self.version_name(service, service.canary) for service in services),
            stable_workload=together(service.stable_workload for service in services),
            canary_workload=together(service.canary_workload for service in services),
        )

    def prefix(self, service: ServiceRollout) -> str:
        """`front-end: ` before a sentence about one service of several; "" for the only one."""
        return f"{service.name}: " if self.is_bracket else ""

    def version_name(self, service: ServiceRollout, version: str) -> str:
        """`front-end v2` of one service of several; `v2` of the only one."""
        return f"{service.name} {version}" if self.is_bracket else version

    @property
    def share(self) -> str:
        """What the canary gets now, for a table's cell."""
        return self._share(self.phase, self.stage, self.weight)

    def share_in(self, then: "Decision | Verdict") -> str:
        """What the canary got at a decision or a look of the rollout, for a table's cell."""
        return self._share(
            then.phase if isinstance(then, Decision) else Phase.PROGRESSING, then.stage, then.weight
        )

    def _share(self, phase: Phase, stage: int, weight: int) -> str:
        if self._is_more_than_a_weight(phase, stage):
            return self.policy.stages[stage].short
        return f"{weight}% of users" if phase.serves and self.policy.by_user(stage) else f"{weight}%"

    def _is_more_than_a_weight(self, phase: Phase, stage: int) -> bool:
        stages = self.policy.stages
        return phase.serves and 0 <= stage < len(stages) and stages[stage].kind != "weight"

    @property
    def how(self) -> str:
        """What the canary gets now, after "in stage 2/4" or "held": `at 10%`, `dark`, `for cookie ~
        .*logged_in.*`."""
        return (
            self.policy.stages[self.stage].how
            if self._is_more_than_a_weight(self.phase, self.stage)
            else f"at {self.share}"
        )

    @property
    def span(self) -> Span | None:
        """The last span; None before the first."""
        return self.spans[-1] if self.spans else None

    def stage_clock(self, now: float) -> float:
        """Seconds that count towards the stage's deadline."""
        return self.clock + (now - self.clock_from if self.clock_from is not None else 0.0)


def together(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True, slots=True)
class Record:
    """A rollout as stored: what people wish, what canaryd keeps, and the version of both."""

    rollout: Rollout
    wishes: DesiredActions = DesiredActions()
    resource_version: str = ""
    uid: str = ""

    def with_rollout(self, rollout: Rollout) -> "Record":
        """The record with another state of its rollout."""
        return replace(self, rollout=rollout)


MOST_ATTEMPTS = 99  # at one template, by hand


def name_of(service: str, version: str, template: str, attempt: int = 1) -> str:
    """A rollout's deterministic name, so that creating it twice is harmless; a valid Kubernetes name for any
    version label."""
    plain = "".join(c if c.isalnum() or c == "-" else "-" for c in f"{service}-{version}".lower()).strip("-")
    return f"{plain[:200]}-{template}" + (f"-{attempt}" if attempt > 1 else "")
