"""The counter ledger: turns scraped cumulative counters into whole counts for each replica and look.

Pure: no clock, no I/O; the same points give the same looks, whatever stretches they are handed over in. A
point is what was last scraped of each replica at one time. The rules, and what each is there for:

- **Growth** of a series is the difference between two points at which its replica is there, so it adds up to
  what was served whatever the grid: no rate, no extrapolation. A replica absent from a point is carried: when
  it comes back (a gap), it is compared with what was last known of it; when it does not (it vanished), all it
  served up to its last scrape has been counted.
- **A series born at a known replica** (the first error of a pod) counts from zero.
- **A replica born** after others were already seen counts from zero: its first scrape holds requests that
  nobody else reports. What is there when anything is first seen is the baseline and is not counted; replicas
  are scraped at different moments, so the baseline stays open for `settle` seconds.
- **A restart**: when any series of a replica drops, its process began anew and *all* of its series began at
  zero, those too which passed their old value (2 errors before, 2 after). A drop of a series that the
  replica's last point did not hold says nothing about the others: whatever reset it lies before that point.
  What no counter can tell is a process that has outgrown its predecessor in each series within one scrape.
- **A histogram counts when it is whole**: all bounds known of the replica, +Inf, none above the next. A
  scrape is atomic, yet a store may hold part of it; such a histogram is a gap, made good at the next whole
  one, and never a negative count of slow requests. If two whole ones differ in a way no process can grow
  (more under 5 ms than under 10 ms), that growth is unknown: it is not counted, and the second one becomes
  the baseline. It is not taken for a restart, which would count a lifetime of requests again on the word of
  mixed samples.
- **Sums of durations** are floats, whose last digits wobble: a sum never tells a restart, and never counts
  below zero.

Bounds of a look are those which every replica with a histogram has had so far: versions with other buckets
can only be compared where both have counted. They can become fewer when such a replica appears, and never
more.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from canaryd.domain.counts import Counts, Look, Target
from canaryd.domain.policy.metrics import GRPC_STATUSES

Replica = tuple[str, str]  # workload, pod
Code = tuple[str, str]  # response_code, grpc_response_status, as Istio labels them

# A status' number is its place in the list, OK being 0:
# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
GRPC_NUMBERS = {name: str(number) for number, name in enumerate(GRPC_STATUSES, 1)}

# after a workload's name: its one replica, where servers cannot be told apart (reporter: source, waypoint)
ALL = "(all)"


@dataclass(frozen=True, slots=True)
class Sample:
    """One replica's counters at one point, cumulative as its process reports them.

    requests: by response code and gRPC status. within: by bound in ms, infinity included, requests that took
    at most that long.
    duration_ms: the sum of all durations, None where it was not scraped.
    """

    requests: Mapping[Code, int] = field(default_factory=dict)
    within: Mapping[float, int] = field(default_factory=dict)
    duration_ms: float | None = None


Point = Mapping[Replica, Sample]


@dataclass(frozen=True, slots=True)
class Growth:
    """What one replica served between two points: by code, by bound (infinity included; empty: no histogram),
    and ms in all."""

    requests: Mapping[Code, int] = field(default_factory=dict)
    within: Mapping[float, int] = field(default_factory=dict)
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a replica. requests: the last value of each series since its process began; held:
    those of its last point.
    within: its last whole histogram; timed: whether its last point had one; blurred: there was none whole
    yet, but some of one in the baseline, so that the first whole one still belongs to the baseline."""

    first_seen: float
    requests: Mapping[Code, int] = field(default_factory=dict)
    held: frozenset[Code] = frozenset()
    within: Mapping[float, int] = field(default_factory=dict)
    timed: bool = False
    blurred: bool = False
    duration_ms: float | None = None


def failing_statuses(names: Iterable[str]) -> frozenset[str]:
    """The `grpc_response_status` labels that count as failures, for gRPC status names as policies write them.
    Raises ValueError for an unknown name."""
    wanted = [name.upper() for name in names]
    if unknown := [name for name in wanted if name not in GRPC_NUMBERS]:
        raise ValueError(
            f"gRPC status {', '.join(unknown)} is not known; it is one of {', '.join(GRPC_NUMBERS)}"
        )
    return frozenset(wanted) | {GRPC_NUMBERS[name] for name in wanted}


def failing_codes(codes: Iterable[str]) -> re.Pattern[str]:
    """What matches the `response_code` labels that count as failures, for codes and classes (`5xx`) as
    policies write them."""
    return re.compile("|".join(re.escape(code).replace("x", r"\d") for code in codes))


def failed(code: Code, statuses: frozenset[str], responses: re.Pattern[str]) -> bool:
    """Whether requests under this code failed: by one of these gRPC statuses, or by their HTTP code.

    Code "0" is a client that went away before the answer: nothing was answered wrongly, so by default it is
    no failure of the version.
    """
    response, grpc = code
    return responses.fullmatch(response) is not None or grpc in statuses


class Ledger:
    """Follows replicas from point to point. settle: seconds for which the baseline stays open (see the
    module)."""

    def __init__(self, settle: float) -> None:
        self.settle = settle
        self.at = -math.inf  # of the last point
        self.began: float | None = None  # when anything was first seen
        self._bounds: tuple[float, ...] | None = None  # None: no histogram yet
        self._known: dict[Replica, _Known] = {}

    def copy(self) -> "Ledger":
        """One that can be taken further by itself; costs one dictionary, what is known of replicas is shared
        and never changed."""
        twin = Ledger(self.settle)
        twin.at, twin.began, twin._bounds, twin._known = self.at, self.began, self._bounds, dict(self._known)
        return twin

    @property
    def bounds(self) -> tuple[float, ...]:
        """The bounds, finite, rising, in ms, that every replica with a histogram has had so far."""
        return self._bounds or ()

    def first_seen(self, replica: Replica) -> float:
        """The time of the point at which a replica was first seen. KeyError: it never was."""
        return self._known[replica].first_seen

    def fold(self, at: float, point: Point) -> dict[Replica, Growth]:
        """Growth since the last point, for each replica at this one. Raises ValueError when time does not
        rise."""
        if at <= self.at:
            raise ValueError(f"a point at {at} cannot follow one at {self.at}: points rise in time")
        self.at = at
        if point and self.began is None:
            self.began = at
        growths = {}
        for replica, sample in point.items():
            self._known[replica], growths[replica] = self._take(self._known.get(replica), at, sample)
        return growths

    def _take(self, known: _Known | None, at: float, sample: Sample) -> tuple[_Known, Growth]:
        baseline = False
        if known is None:
            known = _Known(first_seen=at)
            baseline = self.began is None or at <= self.began + self.settle
        if _restarted(known, sample):
            known = _Known(first_seen=known.first_seen)
        requests = {
            code: _risen(value, known.requests.get(code, 0)) for code, value in sample.requests.items()
        }
        within, duration, last = self._histogram(known, sample)
        after = _Known(
            first_seen=known.first_seen,
            requests={**known.requests, **sample.requests},
            held=frozenset(sample.requests),
            within=last,
            timed=last is sample.within,
            blurred=not last and (known.blurred or (baseline and bool(sample.within))),
            duration_ms=sample.duration_ms
            if last is sample.within and sample.duration_ms is not None
            else known.duration_ms,
        )
        return after, Growth() if baseline else Growth(requests, within, duration)

    def _histogram(
        self, known: _Known, sample: Sample
    ) -> tuple[Mapping[float, int], float, Mapping[float, int]]:
        """Growth by bound, growth of the sum, and the histogram to go on from: the sample's if that is whole,
        else the known one."""
        now, last = sample.within, known.within
        if not _whole(now, last):
            return {}, 0.0, last
        self._restrict(now)
        if not known.timed and any(now[bound] < last[bound] for bound in last):
            last = {}  # reset while it was away
        if known.blurred:
            return {}, 0.0, now
        if not last:
            return now, sample.duration_ms or 0.0, now
        grown = {bound: now[bound] - last[bound] for bound in last}
        if not _rising(grown):
            return {}, 0.0, now
        before = known.duration_ms
        duration = 0.0 if sample.duration_ms is None or before is None else _fresh(sample.duration_ms, before)
        return grown, duration, now

    def _restrict(self, histogram: Mapping[float, int]) -> None:
        """Keeps the bounds that this histogram has too, before anything is counted from it."""
        if self._bounds is None:
            self._bounds = tuple(sorted(bound for bound in histogram if bound != math.inf))
        elif any(bound not in histogram for bound in self._bounds):
            self._bounds = tuple(bound for bound in self._bounds if bound in histogram)


def _restarted(known: _Known, sample: Sample) -> bool:
    dropped = any(
        value < known.requests[code] for code, value in sample.requests.items() if code in known.held
    )
    return dropped or (
        known.timed and any(value < known.within.get(bound, 0) for bound, value in sample.within.items())
    )


def _risen(value: int, before: int) -> int:
    # Below what was known, and yet no restart: the series was reset while it was away, and counts from zero
    # by itself.
    return value - before if value >= before else value


def _fresh(value: float, before: float) -> float:
    return max(value - before, 0.0)


def _whole(histogram: Mapping[float, int], known: Mapping[float, int]) -> bool:
    return math.inf in histogram and known.keys() <= histogram.keys() and _rising(histogram)


def _rising(histogram: Mapping[float, int]) -> bool:
    return all(histogram[low] <= histogram[high] for low, high in pairwise(sorted(histogram)))


class Reading:
    """Takes a ledger further over one stretch of time, and keeps the books of its looks.

    The looks are (start, start + step], ... as far as they fit before `end`, all in Unix seconds. Points up
    to `start` only take the ledger there. Raises ValueError for a step under 1 s or an end before the start.
    """

    def __init__(self, target: Target, ledger: Ledger, start: int, end: int, step: int) -> None:
        if step < 1 or end < start:
            raise ValueError(
                f"looks need a step of at least 1 s and an end not before their start; step {step}, from "
                f"{start} to {end}"
            )
        self.target, self.ledger = target, ledger
        self._start, self._step, self._wanted = start, step, (end - start) // step
        self._workloads = {*target.workloads}
        self._failing = failing_statuses(target.grpc_failures), failing_codes(target.http_failures)
        self._looks: list[Look] = []
        self._open: dict[Replica, list[Growth]] = {}

    def fold(self, at: float, point: Point) -> None:
        """The next point; replicas of other workloads are left out. Raises ValueError when time does not rise
        or runs past the end."""
        index = math.ceil((at - self._start) / self._step) - 1
        if index >= self._wanted:
            raise ValueError(
                f"a point at {at} lies past the last look, which ends at "
                f"{self._start + self._wanted * self._step}"
            )
        while len(self._looks) < index:
            self._close()
        mine = {replica: sample for replica, sample in point.items() if replica[0] in self._workloads}
        growths = self.ledger.fold(at, mine)
        if index >= 0:
            for replica, growth in growths.items():
                self._open.setdefault(replica, []).append(growth)

    def looks(self) -> list[Look]:
        """All of them; those after the last point are without samples."""
        while len(self._looks) < self._wanted:
            self._close()
        return list(self._looks)

    def _close(self) -> None:
        start = self._start + len(self._looks) * self._step
        bounds = self.ledger.bounds
        stable: dict[str, Counts] = {}
        canary: dict[str, Counts] = {}
        last_seen: dict[str, float] = {}
        for (workload, pod), growths in sorted(self._open.items()):
            name = pod if self.target.has_replicas else f"{workload} {ALL}"
            counts = self._counts(growths, bounds)
            side = canary if workload in self.target.canary else stable
            side[name] = side[name] + counts if name in side else counts
            first = self.ledger.first_seen((workload, pod))
            last_seen[name] = min(first, last_seen.get(name, first))
        self._looks.append(
            Look(start, start + self._step, bounds, stable, canary, bool(self._open), last_seen)
        )
        self._open = {}

    def _counts(self, growths: list[Growth], bounds: tuple[float, ...]) -> Counts:
        requests = sum(sum(growth.requests.values()) for growth in growths)
        failures = sum(
            count
            for growth in growths
            for code, count in growth.requests.items()
            if failed(code, *self._failing)
        )
        histograms = [growth.within for growth in growths if growth.within]
        # each has them: see _restrict
        within = tuple(sum(histogram[bound] for histogram in histograms) for bound in bounds)
        timed = sum(histogram[math.inf] for histogram in histograms)
        return Counts(requests, failures, timed, within, math.fsum(growth.duration_ms for growth in growths))
