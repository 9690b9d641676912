"""What users really met, from the world's own tally: not what canaryd counted."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

WINDOW = 5.0  # seconds over which rates are taken: a handful of looks
USUAL = 0.99  # share of stable's requests whose latency a user of stable is used to


class Tallied(Protocol):
    """What one pod served, and how many of these requests were slower than each bound in ms."""

    version: str
    requests: int
    failures: int
    slower: dict[float, int]


@dataclass(frozen=True)
class Served:
    """What all pods of a version served since the world began. slower: bound in ms -> requests slower."""

    requests: int = 0
    failures: int = 0
    slower: Mapping[float, int] = field(default_factory=dict)

    def __sub__(self, before: "Served") -> "Served":
        slower = {bound: count - before.slower.get(bound, 0) for bound, count in self.slower.items()}
        return Served(self.requests - before.requests, self.failures - before.failures, slower)

    @property
    def errors(self) -> float | None:
        """The share of requests that failed; None without requests."""
        return self.failures / self.requests if self.requests else None

    def within(self, share: float) -> float | None:
        """The least bound in ms that so many of the requests kept; None without requests."""
        if not self.requests:
            return None
        slow = (1 - share) * self.requests
        return next((bound for bound in sorted(self.slower) if self.slower[bound] <= slow), None)


def served_by_version(tally: Mapping[str, Tallied]) -> dict[str, Served]:
    """The sums over the pods of each version."""
    totals: dict[str, Served] = {}
    for pod in tally.values():
        mine = totals.get(pod.version, Served())
        slower = {bound: mine.slower.get(bound, 0) + count for bound, count in pod.slower.items()}
        totals[pod.version] = Served(mine.requests + pod.requests, mine.failures + pod.failures, slower)
    return dict(sorted(totals.items()))


@dataclass(frozen=True)
class Speed:
    """One version over the last seconds. rate: requests/s; errors: share; p95: the least histogram bound in
    ms that 95% kept to."""

    rate: float
    errors: float | None
    p95: float | None


class Speedometer:
    """What each version served so far, and how it did over the last seconds."""

    def __init__(self, tally: Callable[[], Mapping[str, Tallied]]) -> None:
        self._tally = tally
        self._past: deque[tuple[float, dict[str, Served]]] = deque()

    @property
    def served(self) -> dict[str, Served]:
        """By version, as it was last read."""
        return self._past[-1][1] if self._past else {}

    def read(self, now: float) -> dict[str, Speed]:
        """By version. now: monotonic seconds."""
        self._past.append((now, served_by_version(self._tally())))
        while self._past[0][0] < now - WINDOW:
            self._past.popleft()
        then, before = self._past[0]
        return {
            version: _speed(now - then, total - before.get(version, Served()))
            for version, total in self.served.items()
        }


def _speed(seconds: float, more: Served) -> Speed:
    if seconds <= 0 or not more.requests:
        return Speed(0.0, None, None)
    return Speed(more.requests / seconds, more.errors, more.within(0.95))


def hurt_text(canary: Served, stable: Served) -> tuple[str, str]:
    """How many of the canary's requests failed or were unusually slow, and about how many it would have been
    on stable: `21 of 412 requests failed, 9 over 100 ms` and `2 and 4`."""
    if not canary.requests:
        return "nobody, no request has met it", "0"
    phrases = [f"{canary.failures:,} of {canary.requests:,} requests failed"]
    usual = [(stable.errors or 0.0) * canary.requests]
    bound = stable.within(USUAL)
    if bound is not None:
        phrases.append(f"{canary.slower.get(bound, 0):,} over {bound:g} ms")
        usual.append(canary.requests * stable.slower[bound] / stable.requests)
    return ", ".join(phrases), " and ".join(f"{count:,.0f}" for count in usual)
