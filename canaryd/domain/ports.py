"""The ports: what the middle asks of the outside, and the two ways in which the outside may fail.

Each port is implemented by one adapter, and by the fakes of the tests. Adapters raise `Unavailable` (try
again) or `Rejected` (tell someone), `from` the original; nothing else is expected to come out of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from canaryd.domain.counts import Look, Source, Target
from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import NOBODY, ActionRequest, Announcement, DesiredActions, Record, RouteLists
from canaryd.domain.series_values import SeriesValues


class Unavailable(Exception):
    """The other side did not answer, or not in time, or only in part: the same call may succeed later."""


class Rejected(Exception):
    """The other side understood and refused: trying again changes nothing, someone has to be told."""


class Conflict(Rejected):
    """Someone else wrote in between: read again, then decide again."""


class Missing(Rejected):
    """The object is not there."""


class Forbidden(Rejected):
    """canaryd, or whoever calls it, may not do that: nothing is known of what could not be read."""


class TooNew(Rejected):
    """What requests are to be sent to was made just now, and nothing should be sent there yet."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment of a service. `available`: its own Available condition, for the template as it now is,
    and at least one replica ready. `failed`: why it will not become available by itself (progress deadline
    missed), or "". `created`: Unix seconds."""

    name: str
    version: str
    template: str  # hash of the pod template, restarts left out
    desired: int
    ready: int
    available: bool
    failed: str = ""
    ignored: bool = False
    created: float = 0.0
    selector: Mapping[str, str] | None = None  # the pod template's labels


@dataclass(frozen=True, slots=True)
class RouteView:
    """The steered routes of one VirtualService or HTTPRoute, as last read.

    lists: for each steered http route its key and its `route` list as it stands there; and each route that
    canaryd added, where it should stand, by its name. routes: the steered http routes whole, by key. subsets:
    subset name -> version, of the DestinationRule.
    resource_version: the precondition of a write. Of an HTTPRoute a backend Service stands for a subset:
    `httproute_weights.py`.

    problems: destination -> why it stands for no version, where more is known than that. elsewhere: versions
    that other routes of the object may send something to. unsteered: whose requests the object does not
    steer, and what to do. trouble: why what it says is not in force. chosen_by: the policy's key that names
    the routes to steer. displaced: names of routes that canaryd added and that stand elsewhere than just
    before the route whose requests they take.
    """

    lists: RouteLists
    subsets: Mapping[str, str]
    resource_version: str
    raw: Mapping[str, Any]  # the whole VirtualService as read, for the adapter's own use
    routes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    unsteered: str = ""
    trouble: str = ""
    chosen_by: str = "route.http"
    all_routes: Sequence[Mapping[str, Any]] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    displaced: Sequence[str] = ()
    domain: str = ""  # the cluster's, of which hosts are part; "": any


@dataclass(frozen=True, slots=True)
class Gathering:
    """New versions that wait for new ones of the other services of their bracket. versions:
    "NAMESPACE/SERVICE VERSION/HASH"; since: Unix seconds, from when on all of them were there; says: what
    waits for what, in a sentence, or "" when that is over."""

    versions: frozenset[str]
    since: float
    says: str


@dataclass(frozen=True, slots=True)
class KnownTemplates:
    """What canaryd keeps about a service apart from its rollouts: templates that are not new, and whether it
    is paused."""

    templates: frozenset[str]  # "VERSION/HASH"
    paused: bool = False
    problem: str = ""  # why no rollout can begin, for whoever wonders why nothing happens
    resource_version: str = ""  # empty: nothing is stored yet, canaryd sees the service for the first time
    gathering: Gathering | None = None  # of the bracket that it is part of
    # the policy says otherwise than is noted how the service is found or routed: remember it anew
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A rollout that a person asked for (`canaryd start`): a record that has no status yet.

    begun: canaryd itself made it, and died before it could say which rollout it is. asked: who asked, and
    why.
    """

    namespace: str
    service: str
    version: str
    name: str
    begun: bool = False
    asked: ActionRequest = NOBODY


@dataclass(frozen=True, slots=True)
class Presence:
    """What telemetry has of two workloads at all. reporters: those that counted requests; connections:
    whether any counted TCP connections. Nothing of both where it was not asked, or is not known."""

    reporters: frozenset[str] = frozenset()
    connections: bool = False


class Telemetry(Protocol):
    """What was counted of the workloads of a rollout, and what the policy's queries measured."""

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        """The looks (start, start + step], ... up to end, whole Unix seconds, for each target.

        What comes back depends only on the arguments and on the stored telemetry, so a replay reads what was
        read live. Raises Unavailable (no answer, or a partial one), Rejected (a query refused).
        """

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        """A policy's own query at the end of each of those looks; None where it has no value. Variables are
        filled in here."""

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues | None]:
        """As `measure`, for a query that may answer any number of series, none included: the value of each at
        the end of each look. None where it is on record that the query was not answered."""

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        """Who sent the requests of (start, end], most first; empty where that is not known. Raises as
        `read`."""

    def presence(self, target: Target, start: int, end: int) -> Presence:
        """What there is of the workloads in (start, end], whoever reports it: for whoever wonders why `read`
        has nothing. Raises as `read`."""


class Workloads(Protocol):
    """The Deployments of a service."""

    def list(self, policy: Policy) -> Sequence[Workload]:
        """The Deployments of a policy's service, chosen by their pod template's labels. Raises Unavailable,
        Rejected."""

    def scale(self, namespace: str, name: str, replicas: int) -> None: ...


class Traffic(Protocol):
    """The route of a service, and the subsets or Services that it leads to."""

    def read(self, policy: Policy) -> RouteView:
        """The steered routes. Raises Unavailable and Forbidden (nothing is known of them), Missing (no
        VirtualService, DestinationRule or HTTPRoute), Rejected (no route to this service)."""

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        """Replaces the `route` lists of the steered routes, adds the added ones that `lists` has and takes
        out those that it has not, and nothing else. Raises Conflict when `view` is no longer what is
        there."""

    def add_subset(self, policy: Policy, version: str) -> str:
        """Makes sure that the DestinationRule has a subset for the version, or that there is a Service for
        it; its name. What stages with `split` need is made, too. Raises TooNew where one is there that was
        made just now."""

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        """For a rollout under way: makes what stages with `split` need again where someone took it away, and
        brings it to what it is a copy of; names of what was made."""

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        """Removes what `add_subset` made for versions that no route leads to any more, but for those of
        `keep`; names of what is gone.

        Safe to repeat. What someone else made, edited or uses stays.
        """


class Rollouts(Protocol):
    """The records of all rollouts, and what is kept of each service apart from them."""

    def list(self) -> Sequence[Record]:
        """All rollouts on record, of every service; a record that cannot be understood is left out and told
        about in the log."""

    def requests(self) -> Sequence[Request]:
        """What people asked for and canaryd has not begun; as of the last `list`."""

    def create(self, record: Record) -> Record:
        """Creates it, or fills the request of this name, or returns the record that is already there under
        it."""

    def refuse(self, request: Request, reason: str) -> None:
        """Answers a request that cannot be begun, in its status, so that it is not asked again."""

    def save(self, record: Record) -> Record:
        """Writes the status. Raises Conflict when someone (a verb) wrote in between."""

    def delete(self, record: Record) -> None: ...

    def known(self, policy: Policy) -> KnownTemplates: ...

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates: ...


class Postman(Protocol):
    """Delivers announcements in the background; never blocks, never raises."""

    def offer(self, announcement: Announcement, notifiers: Sequence[str]) -> None:
        """Hands it over for delivery to each; what is already under way (same id, same notifier) is not
        handed over twice."""

    def collect(self) -> Sequence[tuple[str, str, bool]]:
        """What ended since the last call: (announcement id, notifier, delivered or given up)."""

    def keep_firing(self, notifier: str, announcements: Sequence[Announcement]) -> None:
        """What should be firing at an alerting system now; what is no longer named is resolved."""


class Gates(Protocol):
    """Asks gates in the background; never blocks, never raises."""

    def ask(self, question: GateQuestion) -> GateReply | None:
        """The latest reply to this question (by its id); None while there is none. To be called at every beat
        for as long as the answer is of interest: it is asked again so many seconds after a reply that keeps
        the gate closed, and no more after one that opens it."""


class Clock(Protocol):
    """The time, so that nothing else has to ask for it."""

    def now(self) -> float:
        """Unix seconds."""


__all__ = [
    "Clock",
    "Conflict",
    "DesiredActions",
    "Forbidden",
    "Gates",
    "Gathering",
    "KnownTemplates",
    "Missing",
    "Postman",
    "Presence",
    "Record",
    "Rejected",
    "Request",
    "Rollouts",
    "RouteView",
    "Telemetry",
    "TooNew",
    "Traffic",
    "Unavailable",
    "Workload",
    "Workloads",
]
