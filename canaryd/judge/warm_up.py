"""Which replicas are warming up: what they do at first is held to limits and to what is plain, and is not
compared.

Caches, compilers and connection pools make a replica's first requests fail and wait more than those that
follow, whatever its version, and a canary's replicas are all new while stable's are not. So requests of a
replica that was first seen less than `warmup` ago are compared with nobody's: neither its errors nor its
latency, of neither version. To compare them as well and to ask, before a rollback, for as much evidence
without them would catch nothing sooner, since the evidence without them comes last; to ask for less of it
would roll back, by what the cold ones showed, each healthy version that has a little bad luck afterwards.

What is left out must not hide harm:

- **Only starts are left out.** A container that is started again in its pod is no new replica. Pods that are
  replaced again and again are new each time, so starts are counted: STARTS for each replica that a version
  ever had at once (it starts, and may be moved once, as when a node is drained), and one more for each hour
  that a replica served. Replicas beyond that are compared at once: a version that starts all the time is to
  its users what its starts are.
- **What no cold start explains counts at once.** Where the canary's young replicas failed a quarter of their
  requests and at least FEWEST_FAILURES, in one look or since they started, errors of its replicas are left
  out no more, for the rest of the rollout. A single new pod that fails everything, of which no rule for plain
  harm can speak, is so seen as soon as an old one.

Nothing is kept that looks do not say, so a replay comes to the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from canaryd.domain.counts import Counts, Look, total
from canaryd.judge.plain_harm import BAD_SHARE

STARTS = 2  # of each replica that a version had at once
SECONDS_OF_ANOTHER = 3600.0  # that replicas served, together, until one more start is left out
FEWEST_FAILURES = 5  # of the young canary's requests


def _sum(replicas: Iterable[Counts]) -> Counts:
    """Requests and failures together."""
    return total(counts.without_latency for counts in replicas)


def _is_plain(counts: Counts) -> bool:
    """Whether more failed than a cold start explains."""
    return counts.failures >= max(FEWEST_FAILURES, BAD_SHARE * counts.requests)


@dataclass(slots=True)
class _Starts:
    """One version's replicas: who was seen, and whose start is left out."""

    known: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    most: int = 0  # that served in one look
    seconds: float = 0.0  # that replicas served, together

    def observe(self, look: Look, replicas: Mapping[str, Counts]) -> None:
        """One look of the version."""
        serving = sum(counts.requests > 0 for counts in replicas.values())
        self.most = max(self.most, serving)
        self.seconds += serving * look.seconds
        for name in self._newcomers(look, replicas):
            self.known.add(name)
            if self._is_another_due():
                self.excused.add(name)

    def left_out(self, look: Look, replicas: Mapping[str, Counts]) -> set[str]:
        """Replicas of the look whose start is left out, newcomers included."""
        return {name for name in replicas if name in self.excused or name not in self.known}

    def _newcomers(self, look: Look, replicas: Mapping[str, Counts]) -> list[str]:
        """The oldest first, so that what is counted does not hang on the order of names alone."""
        new = [name for name in replicas if name not in self.known]
        return sorted(new, key=lambda name: (look.first_seen.get(name, 0.0), name))

    def _is_another_due(self) -> bool:
        return len(self.excused) < STARTS * self.most + self.seconds // SECONDS_OF_ANOTHER


class Warmth:
    """Who is warming up, look by look. warmup: seconds of a replica's life that are left out.

    Stable's replicas of the first look, which is of its past where there is one, were there before: what they
    do is their usual."""

    def __init__(self, warmup: float) -> None:
        self.seconds = warmup
        self._stable, self._canary = _Starts(), _Starts()
        self._began = False
        self._failed = Counts()  # requests and failures of the canary's young replicas
        self.is_harm_plain = False  # they failed more than a cold start explains

    def observe(self, look: Look) -> None:
        """Takes note of one whole look, before it is asked who is cold in it."""
        if not self._began and look.stable:
            self._began = True
            self._stable.known.update(look.stable)
        self._stable.observe(look, look.stable)
        self._canary.observe(look, look.canary)
        self._ask_what_is_plain(look)

    def _ask_what_is_plain(self, look: Look) -> None:
        stable = _sum(look.stable.values())
        if _is_plain(stable):
            return  # what strikes both versions says nothing of starts
        young = _sum(look.canary[name] for name in self._young(look, self._canary, look.canary))
        self._failed = self._failed + young
        self.is_harm_plain = self.is_harm_plain or _is_plain(young) or _is_plain(self._failed)

    def past(self, looks: Sequence[Look]) -> list[Look]:
        """Stable's looks before the rollout, in order, without what its replicas did while they warmed up;
        looks in which all of them did are left out."""
        warm = []
        for look in looks:
            self.observe(look)
            cold = self.cold(look)
            if cold:
                stable = {name: counts for name, counts in look.stable.items() if name not in cold}
                look = replace(look, stable=stable)
            if look.stable or not cold:
                warm.append(look)
        return warm

    def cold(self, look: Look) -> set[str]:
        """Replicas of the look, or of a part of it, that are not compared: those first seen less than
        `warmup` seconds before it began."""
        stable = self._young(look, self._stable, look.stable) if self._began else set()
        return stable | self._young(look, self._canary, look.canary)

    def cold_in_errors(self, look: Look) -> set[str]:
        """Replicas of the look whose errors are not compared."""
        cold = self.cold(look)
        return cold.difference(look.canary) if self.is_harm_plain else cold

    def _young(self, look: Look, starts: _Starts, replicas: Mapping[str, Counts]) -> set[str]:
        since = look.start - self.seconds
        return {name for name in starts.left_out(look, replicas) if look.first_seen.get(name, since) > since}
