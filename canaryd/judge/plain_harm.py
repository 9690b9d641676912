"""Failures so plain that nobody would wait for odds: a version that is down, and a replica that is.

These are rules and not evidence. Odds that hold at any moment need a long record before they may speak of one
outage: where an outage comes to a version at a rate of l per look, the chance that one hits the canary in T
looks, and none came to stable in N, is at most T / (e N), which is 6% for ten minutes against an hour. So the
rules rest on an assumption that is said here: an outage of the kind that stable's record does not show is no
healthy version's. In return they act within two looks. They stand beside the odds and replace nothing.

- **A version is down** in a look when at least DOWN_REPLICAS of its replicas fail at least BAD_SHARE of their
  requests, and the version at least DOWN_SHARE of all of them, while less than STABLE_REPLICAS of stable's
  replicas do in the same look: what strikes both versions alike is none's fault. It is rolled back when that
  lasts for two looks and MINIMUM_SECONDS, for longer than RECORD_TIMES the longest such time of stable's
  record, with more failures than LEAST_FAILURES and than stable ever had at once. Of a version with one
  replica this would be a rule about a pod that hangs, so it needs two.
- **A replica is down** when it fails at least REPLICA_SHARE of its requests, for REPLICA_SECONDS (the kubelet
  needs so long to restart a container that hangs) and longer than RECORD_TIMES what any replica of stable
  did.

Replicas that are warming up, and users who were not drawn request by request, may fail many requests without
any fault of the version: then a version is down at SURE_SHARE alone, or after YOUNG_SECONDS.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from canaryd.domain.assessment import PlainHarm
from canaryd.domain.counts import Counts, Look

BAD_SHARE = 0.25  # of a replica's requests that fail, where it counts as failing
DOWN_REPLICAS = 2 / 3
DOWN_SHARE = 0.4
STABLE_REPLICAS = 1 / 3
SURE_SHARE = 0.9
LEAST_FAILURES = 40.0  # in the whole run; with 10, bursts of 16 over all replicas are 1 to 3% false
LEAST_LOOKS = 2
MINIMUM_SECONDS = 10.0
YOUNG_SECONDS = (
    30.0  # of 50% of cold requests failing, off in a minute, 28% are rolled back after 10 s, 1% so
)
RECORD_TIMES = 3.0
REPLICA_SHARE = 0.9
REPLICA_SECONDS = 120.0
REPLICA_FAILURES = 20.0
FEWEST_REQUESTS = 2  # of a replica in a look, below which nothing is said of it
ENOUGH_REQUESTS = 5  # for each serving replica: looks are added up until there are so many ...
LONGEST_SUM = 60.0  # ... or so many seconds have passed, which then say nothing


def _requests(replicas: Mapping[str, Counts]) -> int:
    return sum(counts.requests for counts in replicas.values())


def _failures(replicas: Mapping[str, Counts]) -> int:
    return sum(counts.failures for counts in replicas.values())


def _share(counts: Counts) -> float:
    return counts.failures / counts.requests


def _serving(replicas: Mapping[str, Counts]) -> list[Counts]:
    """The counts of the replicas of which something can be said."""
    return [counts for counts in replicas.values() if counts.requests >= FEWEST_REQUESTS]


def _failing(replicas: Mapping[str, Counts]) -> int:
    """How many replicas fail a good part of their requests."""
    return sum(_share(counts) >= BAD_SHARE for counts in _serving(replicas))


def _is_down(replicas: Mapping[str, Counts]) -> bool:
    """Whether a version fails by itself: most of its replicas, and a good part of all requests."""
    serving = _serving(replicas)
    return (
        bool(serving)
        and _failing(replicas) >= DOWN_REPLICAS * len(serving)
        and _failures(replicas) >= DOWN_SHARE * _requests(replicas)
    )


@dataclass(slots=True)
class _Run:
    """Looks on end in which something was down."""

    seconds: int = 0
    looks: int = 0
    failures: int = 0
    requests: int = 0

    def goes_on(self, replicas: Mapping[str, Counts]) -> bool:
        """Whether a look in which the version does not seem down is chance, and no end of the run: of 25
        requests of a version that fails half of them, fewer than DOWN_SHARE fail one time in nine."""
        failures, requests = _failures(replicas), _requests(replicas)
        return (
            self.looks > 0
            and failures >= BAD_SHARE * requests
            and self.failures + failures >= DOWN_SHARE * (self.requests + requests)
        )

    def extend(self, seconds: int, failures: int, requests: int) -> None:
        """One look more."""
        self.looks += 1
        self.seconds += seconds
        self.failures += failures
        self.requests += requests


@dataclass(slots=True)
class _Sum:
    """Looks of one version, or of one replica, added up until they hold requests enough."""

    seconds: int = 0
    canary: dict[str, Counts] = field(default_factory=dict)
    stable: dict[str, Counts] = field(default_factory=dict)

    def add(self, look: Look, canary: Mapping[str, Counts]) -> None:
        """One look more. canary: of it, the replicas that are asked about."""
        self.seconds += look.seconds
        for mine, theirs in ((self.canary, canary), (self.stable, look.stable)):
            for name, counts in theirs.items():
                mine[name] = mine.get(name, Counts()) + counts.without_latency


class _StableRecord:
    """What stable has shown of outages: how long it, and any of its replicas, was down, and how many failures
    came at once. Runs under way count."""

    def __init__(self) -> None:
        self.seconds = 0  # looked back in all
        self.longest = 0.0  # s for which the version was down
        self.longest_of_replica = 0.0
        self.most_failures = 0.0  # in one look, beyond the usual rate
        self.most_of_replica = 0
        self._run = 0.0
        self._replica_runs: dict[str, float] = {}
        self._requests = self._failures = 0

    def observe(self, look: Look) -> None:
        """Stable's part of one look."""
        if not _requests(look.stable):
            return
        self.seconds += look.seconds
        self._run = self._run + look.seconds if _is_down(look.stable) else 0.0
        self.longest = max(self.longest, self._run)
        for name, counts in look.stable.items():
            if counts.requests < FEWEST_REQUESTS:
                continue
            is_bad = _share(counts) >= REPLICA_SHARE
            run = self._replica_runs.get(name, 0.0) + look.seconds if is_bad else 0.0
            self._replica_runs[name] = run
            self.longest_of_replica = max(self.longest_of_replica, run)
            self.most_of_replica = max(self.most_of_replica, counts.failures)
        usual = self._failures / self._requests if self._requests else 0.0
        surplus = _failures(look.stable) - usual * _requests(look.stable)
        if self._requests:  # one look alone is no measure of a usual rate
            self.most_failures = max(self.most_failures, surplus)
        self._requests += _requests(look.stable)
        self._failures += _failures(look.stable)


class PlainHarmWatch:
    """Folds looks, as short as telemetry can give them, into a harm that is plain.

    version, replica: whether each of both rules is in force. history: stable's looks before the rollout.
    has_replicas: whether telemetry tells replicas apart.
    """

    def __init__(self, version: bool, replica: bool, history: Sequence[Look], has_replicas: bool) -> None:
        self._version, self._replica = version and has_replicas, replica
        self._has_replicas = has_replicas
        self._record = _StableRecord()
        for look in history:
            if look.sampled:
                self._record.observe(look)
        self._forget()
        self.found: PlainHarm | None = None

    def _forget(self) -> None:
        """Nothing is known to be down."""
        self._blind = 0  # seconds without telemetry
        self._sum, self._run = _Sum(), _Run()
        self._replica_sums: dict[str, _Sum] = {}
        self._replica_runs: dict[str, _Run] = {}

    def observe(self, look: Look, young: Set[str] = frozenset(), drawn_alike: bool = True) -> None:
        """One look further. young: replicas that are warming up. drawn_alike: whether requests were drawn,
        each by itself, so that both versions' are alike; not so of matched users, or of users who stay on
        their version."""
        if not look.sampled:
            # Where scrapes are rarer than the settings say, every other look has none.
            self._blind += look.seconds
            if self._blind >= LONGEST_SUM:
                self._forget()
            return
        self._blind = 0
        self._record.observe(look)
        if self.found is None and _requests(look.canary) and self._version:
            self._observe_version(look, not young.isdisjoint(look.canary), drawn_alike)
        if self.found is None and self._replica:
            for name, counts in look.canary.items():
                self._observe_replica(look, name, counts)

    def _observe_version(self, look: Look, is_young: bool, drawn_alike: bool) -> None:
        total = self._sum
        total.add(look, look.canary)
        serving = len(_serving(total.canary))
        if serving < 2 or _requests(total.canary) < ENOUGH_REQUESTS * serving:
            if total.seconds >= LONGEST_SUM:
                self._sum, self._run = _Sum(), _Run()
            return
        self._sum = _Sum()
        stable = _serving(total.stable)
        is_alone = bool(stable) and _failing(total.stable) < STABLE_REPLICAS * len(stable)
        is_down, run = is_alone and _is_down(total.canary), self._run
        # What falls off while replicas warm up looks like chance as well.
        if not is_down and not (is_alone and not is_young and run.goes_on(total.canary)):
            self._run = _Run()
            return
        run.extend(total.seconds, _failures(total.canary), _requests(total.canary))
        if not is_down:
            return
        is_sure = run.failures >= SURE_SHARE * run.requests
        least = max(MINIMUM_SECONDS, RECORD_TIMES * self._record.longest)
        if not is_sure and not drawn_alike:
            return
        if not is_sure and is_young:
            least = max(least, YOUNG_SECONDS)
        if (
            run.looks >= LEAST_LOOKS
            and run.seconds >= least
            and run.failures >= max(LEAST_FAILURES, self._record.most_failures)
        ):
            self.found = self._harm(run, total, None, _failing(total.canary), serving)

    def _observe_replica(self, look: Look, name: str, counts: Counts) -> None:
        total = self._replica_sums.setdefault(name, _Sum())
        total.add(look, {name: counts})
        own = total.canary[name]
        if own.requests < ENOUGH_REQUESTS:
            if total.seconds >= LONGEST_SUM:
                del self._replica_sums[name]
                self._replica_runs.pop(name, None)
            return
        del self._replica_sums[name]
        if _share(own) < REPLICA_SHARE or not _serving(total.stable) or _is_down(total.stable):
            self._replica_runs.pop(name, None)
            return
        run = self._replica_runs.setdefault(name, _Run())
        run.extend(total.seconds, own.failures, own.requests)
        record = self._record
        if run.seconds >= max(REPLICA_SECONDS, RECORD_TIMES * record.longest_of_replica) and (
            run.failures >= max(REPLICA_FAILURES, record.most_of_replica)
        ):
            replica = name if self._has_replicas else ""
            self.found = self._harm(run, total, replica, 1, len(_serving(look.canary)))

    def _harm(self, run: _Run, last: _Sum, replica: str | None, failing: int, replicas: int) -> PlainHarm:
        """What was found, with how stable did in the last look of it. replica: None for the version."""
        return PlainHarm(
            is_version=replica is None,
            replica=replica or "",
            seconds=run.seconds,
            failures=run.failures,
            requests=run.requests,
            failing_replicas=failing,
            replicas=replicas,
            stable_failing=_failing(last.stable),
            stable_replicas=len(_serving(last.stable)),
            stable_failures=_failures(last.stable),
            stable_requests=_requests(last.stable),
            record_seconds=self._record.seconds,
        )
