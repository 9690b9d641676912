"""What was counted: requests, failures and latencies, for each replica and look, as exact integers.

A `Look` is one window of telemetry, left-open: (start, end]. Nothing here knows where counts come from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """What one replica served in one look.

    requests: all of them; failures: those that failed by the policy's set (5xx, its gRPC statuses).
    within: for each bound of the look (`Look.bounds`), how many of the `timed` requests took at most that long;
    timed: requests in the latency histogram (0 when the telemetry has none); duration_ms: the sum of their durations.
    """

    requests: int = 0
    failures: int = 0
    timed: int = 0
    within: tuple[int, ...] = ()
    duration_ms: float = 0.0

    def slower(self) -> tuple[int, ...]:
        """Requests slower than each bound."""
        return tuple(self.timed - count for count in self.within)

    def __add__(self, other: "Counts") -> "Counts":
        if self.within and other.within and len(self.within) != len(other.within):
            raise ValueError(f"counts over {len(self.within)} and over {len(other.within)} latency bounds cannot be added")
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
    for one in counts:
        result = result + one
    return result


@dataclass(frozen=True, slots=True)
class Look:
    """One window of telemetry, (start, end] in whole Unix seconds, replica by replica.

    bounds: latency bounds in ms, rising, without infinity. stable, canary: replica name -> its counts; a replica known
    and idle has zero counts. sampled: whether the telemetry held any sample in this window; False is "no data", told apart
    from no traffic. first_seen: when each replica was first seen at all (Unix seconds), for the warm-up.
    """

    start: int
    end: int
    bounds: tuple[float, ...] = ()
    stable: Mapping[str, Counts] = field(default_factory=dict)
    canary: Mapping[str, Counts] = field(default_factory=dict)
    sampled: bool = True
    first_seen: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Target:
    """Whose counts to read: two workloads (Deployments) of one namespace, by their names.

    since: the moment (whole Unix seconds) from which replicas are followed; what was counted before is the baseline, and what
    `Telemetry.read` answers depends on nothing earlier. grpc_failures: gRPC status names that count as failures.
    canary may be empty: stable alone (its history before a rollout).
    """

    namespace: str
    stable: str
    canary: str
    since: int
    reporter: str = "destination"
    service: str = ""
    grpc_failures: tuple[str, ...] = ()
