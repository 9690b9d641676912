"""One rollout: one canary of one service, from its first sight to its end, with its history.

Frozen: a change is `replace(rollout, ...)`; phase, stage and weight change in `lifecycle.py` alone. The
record describes the wanted world, not commands; what is there is compared with it on every look.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from canaryd.domain.counts import Counts
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import Verdict

# What is canaryd's of a route. The `route` list of each steered http route, by its key (the route's name, or
# "#0", "#1", ... among those without one); and each http route that canaryd has added, whole and alone in its
# list, by its name (`canaryd-...`, see added.py). One mapping holds both, so that whatever is kept, compared
# and written of the one is of the other.
RouteLists = Mapping[str, tuple[Mapping[str, Any], ...]]


class Phase(StrEnum):
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
        return self in (Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.SUPERSEDED)


class Held(StrEnum):
    """Why a rollout is held; a hold ends by what it is waiting for, or by a person's `resume`."""

    PERSON = "person"
    DRIFT = "drift"
    NO_DATA = "no data"
    UNDECIDED = "undecided"  # goes on when the evidence passes after all; a deadline never ends it
    ALARMS = "alarms"
    STABLE = "stable not ready"
    GATE = "gate closed"  # at its deadline; it goes on being asked, and the hold ends when it opens


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
class DesiredActions:
    """What people ask for, by the record's `spec`. A verb raises or sets one of these; canaryd never writes
    them."""

    hold: bool = False
    abort: bool = False
    promote: bool = False
    approved_stage: int = -1  # the highest stage index approved
    resumed: int = 0  # raised by `resume`: ends holds that no person began
    opened_gate: int = 0  # the number of the question whose gate a person opens
    attempt: int = 1  # raised by `retry`


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
        return together(f"{one.service} {one.stable} to {one.canary}" for one in own)

    @property
    def canaries(self) -> str:
        """`front-end v2`, of each service."""
        own = self.bracket or (self,)
        return together(f"{one.service} {one.canary}" for one in own)


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
class Member:
    """A further service of a rollout of several: what is its own, named as in `Rollout`. All else is
    shared."""

    namespace: str
    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    template: str
    stable_template: str
    canary_subset: str = ""
    origin: RouteLists = field(default_factory=dict)
    confirmed: RouteLists | None = None
    verdict: Verdict | None = None
    unready_since: float | None = None
    counted: Mapping[str, Counts] = field(default_factory=dict)
    scaled: bool = False
    tidied: bool = False
    unsteered: str = ""
    senders: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """See the module. Times are Unix seconds. `weight` is the canary's share as wanted now, in per cent.

    origin: the steered routes as they were at the beginning; confirmed: as last written and accepted (None:
    never written).
    clock: seconds of the present stage that count towards its deadline, up to `clock_from`, from which it
    runs on (None: it stands).
    resumed: how many resumes have been obeyed; approved: the highest stage index approved; promoted: whether
    that wish was obeyed.
    last_data: end of the last look that held data; unready_since: since when no replica of the canary is
    ready.
    stale: what was compared so far is void (stable changed), the next span begins anew. counted: per replica,
    what was counted since the beginning, up to `counted_to`. scaled: done with scaling after the end: scaled,
    or left since it still got traffic or was gone.
    tidied: what was made for versions that nothing leads to any more is gone, as far as it may go.
    unsteered: why calls from inside the mesh do not follow the weight, where the route does not apply to
    them; senders: whose requests do not, as last asked, while the traffic as a whole does not. asking: the
    last question to a gate; opened: gates, by their place among the policy's, that have opened for what comes
    next. retries: the attempt at a bracket that it is, also where newer versions took the place of those that
    were tried; "" for none.

    Of a bracket it is one rollout of several services: the fields are the first one's, `others` has what is
    their own of the further ones, in the order of the policy's bracket, and `verdict` is that of all, whose
    `own_verdict` is the first one's. What concerns each service looks at `parts`.
    """

    name: str
    namespace: str
    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    template: str
    stable_template: str
    policy: Policy
    began: float
    attempt: int = 1
    phase: Phase = Phase.WAITING
    phase_since: float = 0.0
    stage: int = -1
    weight: int = 0
    held: Held | None = None
    reason: str = ""
    canary_subset: str = ""
    origin: RouteLists = field(default_factory=dict)
    confirmed: RouteLists | None = None
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
    unready_since: float | None = None
    stale: bool = False
    decisions: tuple[Decision, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    counted: Mapping[str, Counts] = field(default_factory=dict)
    counted_to: int | None = None
    ended: float | None = None
    scaled: bool = False
    tidied: bool = False
    unsteered: str = ""
    senders: str = ""
    asking: AskedGate | None = None
    opened: tuple[int, ...] = ()
    retries: str = ""
    others: tuple[Member, ...] = ()
    own_verdict: Verdict | None = None

    @property
    def parts(self) -> tuple["Rollout", ...]:
        """The rollout as each of its services has it, callers first: of that one alone, by its own policy."""
        return tuple(self._part(place) for place in range(1 + len(self.others)))

    def _part(self, place: int) -> "Rollout":
        if not self.others:
            return self
        own = _own(self.others[place - 1]) if place else {"verdict": self.own_verdict}
        return replace(self, **own, policy=self.policy.parts[place], others=(), own_verdict=None)

    def with_part(self, place: int, part: "Rollout") -> "Rollout":
        """The rollout with what is one service's own as that part of it has it; what all share stays."""
        if not self.others:
            return part
        own = _own(part)
        if place == 0:
            return replace(self, **{**own, "verdict": self.verdict}, own_verdict=part.verdict)
        return replace(self, others=(*self.others[: place - 1], Member(**own), *self.others[place:]))

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of each of its services, callers first."""
        return (self.namespace, self.service), *((one.namespace, one.service) for one in self.others)

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its services alone."""
        return tuple(name for _, name in self.keys)

    def of(self, key: tuple[str, str]) -> "Rollout":
        """The part that is of a service."""
        return self._part(self.keys.index(key))

    @property
    def spoken(self) -> "Rollout":
        """The rollout as sentences name it: of several services, each version with its service's name."""
        if not self.others:
            return self
        own: tuple[Rollout | Member, ...] = (self, *self.others)
        return replace(
            self,
            service=together(one.service for one in own),
            stable=together(f"{one.service} {one.stable}" for one in own),
            canary=together(f"{one.service} {one.canary}" for one in own),
            others=(),
            stable_workload=together(one.stable_workload for one in own),
            canary_workload=together(one.canary_workload for one in own),
        )

    @property
    def share(self) -> str:
        """What the canary gets now, for a table's cell."""
        return self._share(self.phase, self.stage, self.weight)

    def share_in(self, then: "Decision | Verdict") -> str:
        """The same of a decision or a look of the rollout."""
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
        """The same after "in stage 2/4" or "held": `at 10%`, `dark`, `for cookie ~ .*logged_in.*`."""
        return (
            self.policy.stages[self.stage].how
            if self._is_more_than_a_weight(self.phase, self.stage)
            else f"at {self.share}"
        )

    @property
    def span(self) -> Span | None:
        return self.spans[-1] if self.spans else None

    def stage_clock(self, now: float) -> float:
        """Seconds that count towards the stage's deadline."""
        return self.clock + (now - self.clock_from if self.clock_from is not None else 0.0)


def _own(one: Member | Rollout) -> dict[str, Any]:
    """What is a service's own."""
    return {name: getattr(one, name) for name in Member.__dataclass_fields__}


def joined(policy: Policy, parts: Sequence[Rollout]) -> Rollout:
    """One rollout of these, which have not begun. policy: of their services alone, in this order."""
    first, *further = parts
    return replace(first, policy=policy, others=tuple(Member(**_own(one)) for one in further))


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

    def having(self, rollout: Rollout) -> "Record":
        return replace(self, rollout=rollout)


def name_of(service: str, version: str, template: str, attempt: int = 1) -> str:
    """A rollout's deterministic name, so that creating it twice is harmless; a valid Kubernetes name for any
    version label."""
    plain = "".join(c if c.isalnum() or c == "-" else "-" for c in f"{service}-{version}".lower()).strip("-")
    return f"{plain[:200]}-{template}" + (f"-{attempt}" if attempt > 1 else "")
