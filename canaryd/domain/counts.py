"""What was counted: requests, failures and latencies, for each replica and look, as exact integers.

A `Look` is one window of telemetry, left-open: (start, end]. Nothing here knows where counts come from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

# Looks of stable before a rollout: block length and burst size are estimated from them, and the judge is
# given no more. docs/concepts/evidence.md says why so many.
HISTORY_LOOKS = 360


@dataclass(frozen=True, slots=True)
class Counts:
    """What one replica served in one look.

    requests: all of them; failures: those that failed by the policy's set (its HTTP codes, its gRPC
    statuses).
    within: for each bound of the look (`Look.bounds`), how many of the `timed` requests took at most that
    long; timed: requests in the latency histogram (0 when the telemetry has none); duration_ms: the sum of
    their durations.
    """

    requests: int = 0
    failures: int = 0
    timed: int = 0
    within: tuple[int, ...] = ()
    duration_ms: float = 0.0

    @property
    def without_latency(self) -> "Counts":
        """The requests and failures alone."""
        return Counts(self.requests, self.failures)

    def slower(self) -> tuple[int, ...]:
        """Requests slower than each bound."""
        return tuple(self.timed - count for count in self.within)

    def __add__(self, other: "Counts") -> "Counts":
        if self.within and other.within and len(self.within) != len(other.within):
            raise ValueError(
                f"counts over {len(self.within)} and over {len(other.within)} latency bounds cannot be added"
            )
        width = max(len(self.within), len(other.within))
        left, right = self.within or (0,) * width, other.within or (0,) * width
        return Counts(
            self.requests + other.requests,
            self.failures + other.failures,
            self.timed + other.timed,
            tuple(a + b for a, b in zip(left, right, strict=True)),
            self.duration_ms + other.duration_ms,
        )


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over replicas, or over looks."""
    result = Counts()
    for count in counts:
        result = result + count
    return result


@dataclass(frozen=True, slots=True)
class Source:
    """Who sent requests, and how many of them each version served. workload, namespace: the caller's, as
    telemetry has them; `unknown` or empty where it cannot tell, as of a pod without a sidecar."""

    workload: str
    namespace: str
    stable: int
    canary: int


@dataclass(frozen=True, slots=True)
class Look:
    """One window of telemetry, (start, end] in whole Unix seconds, replica by replica.

    bounds: latency bounds in ms, rising, without infinity. stable, canary: replica name -> its counts; a
    replica known and idle has zero counts. sampled: whether the telemetry held any sample in this window;
    False is "no data", told apart from no traffic. first_seen: when each replica was first seen at all (Unix
    seconds), for the warm-up. parts: the shorter looks that it was read in, from which plain harm is told;
    empty for one that was read as it is.
    """

    start: int
    end: int
    bounds: tuple[float, ...] = ()
    stable: Mapping[str, Counts] = field(default_factory=dict)
    canary: Mapping[str, Counts] = field(default_factory=dict)
    sampled: bool = True
    first_seen: Mapping[str, float] = field(default_factory=dict)
    parts: tuple["Look", ...] = ()

    @property
    def seconds(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Target:
    """Whose counts to read: the workloads of two versions in one namespace, by their names. A version has one
    Deployment today.

    stable, canary: workloads; canary may be empty, for stable alone (its history before a rollout).
    since: the moment (whole Unix seconds) from which replicas are followed; what was counted before is the
    baseline, and what `Telemetry.read` answers depends on nothing earlier. grpc_failures: gRPC status names
    that count as failures; http_failures: the response codes that do, and classes of them.
    called: only requests of these Services
    are read, all if empty; with reporter: source, for a server's own sidecar names one Service for all.
    """

    namespace: str
    stable: tuple[str, ...]
    canary: tuple[str, ...]
    since: int
    reporter: str = "destination"
    service: str = ""
    grpc_failures: tuple[str, ...] = ()
    http_failures: tuple[str, ...] = ("5xx",)
    called: tuple[str, ...] = ()

    @property
    def workloads(self) -> tuple[str, ...]:
        """Of both versions, stable's first."""
        return *self.stable, *self.canary

    @property
    def has_replicas(self) -> bool:
        """Whether the counts tell the pods that served apart: a caller's and a waypoint's `pod` label is
        their own."""
        return self.reporter == "destination"


def seconds_of_parts(interval: int, shortest: float) -> int:
    """The length of the parts that a look of `interval` s is read in: at least `shortest` s, and so many of
    them are one look."""
    return next((size for size in range(1, interval) if interval % size == 0 and size >= shortest), interval)


def joined(looks: Sequence[Look]) -> Look:
    """Looks that follow each other without a gap, as the one longer look that they are.

    Raises ValueError for no look at all, and for a gap.
    Bounds are the last one's, since they only ever become fewer; a look before the first histogram has no
    latency to add.
    """
    if not looks:
        raise ValueError("at least one look is wanted, but none came")
    for before, after in pairwise(looks):
        if before.end != after.start:
            raise ValueError(
                f"looks must follow each other, but one ends at {before.end} and the next begins at "
                f"{after.start}"
            )
    if len(looks) == 1:
        return looks[0]
    bounds = looks[-1].bounds
    bounds_of_looks = [look.bounds for look in looks]
    stable, canary = (
        _side(replicas_of_looks, bounds_of_looks, bounds)
        for replicas_of_looks in ([look.stable for look in looks], [look.canary for look in looks])
    )
    earliest: dict[str, float] = {}
    for look in looks:
        for name, first in look.first_seen.items():
            earliest[name] = min(first, earliest.get(name, first))
    return Look(
        looks[0].start, looks[-1].end, bounds, stable, canary, any(look.sampled for look in looks), earliest
    )


def _side(
    replicas_of_looks: Sequence[Mapping[str, Counts]],
    bounds_of_looks: Sequence[tuple[float, ...]],
    bounds: tuple[float, ...],
) -> dict[str, Counts]:
    """One version's replicas over several looks, each with bounds of its own."""
    found: dict[str, Counts] = {}
    for replicas, own in zip(replicas_of_looks, bounds_of_looks, strict=True):
        places = [own.index(bound) for bound in bounds if bound in own]
        for name, counts in replicas.items():
            within = (
                tuple(counts.within[place] for place in places)
                if len(places) == len(bounds) and counts.within
                else ()
            )
            found[name] = found.get(name, Counts()) + replace(counts, within=within)
    return dict(sorted(found.items()))
