"""At full weight there is nothing to compare with: an alarm, from the new version's looks against the
rollout's own record.

The record is what both versions did together before, and stable alone before that. Nothing cancels what the
hour does, so no promise about false alarms holds here, and an alarm only asks for a step back to where both
versions can be compared.
"""

from collections.abc import Sequence

import numpy as np

from canaryd.domain.assessment import RecordComparison
from canaryd.domain.policy.metrics import Errors, Latency
from canaryd.domain.verdict import Answer
from canaryd.judge.guardrails import LEAST_LIMIT, RateLimits
from canaryd.judge.latency import MOST_SHARE
from canaryd.judge.replica_variation import rates_of
from canaryd.stats.arrays import Array
from canaryd.stats.between_replicas import chance_of_as_many
from canaryd.stats.histogram import share_slower_than

PLAIN_TIMES, PLAIN_CHANCE = (
    3.0,
    1e-4,
)  # a look worse than the worst on record by so much, and by chance hardly ever, needs no second
READ_AT_ONCE = 60  # looks; adding up costs as much for one
SPREAD = 2.0  # standard deviations between looks that are the hour's, not the version's
INCREASE = 0.001  # of latency shares, as in latency.TINY


class Alarm:
    """Rates per look, errors first and then each bound: the record gathers below weight 100, the bets at it.

    errors, latency: what the policy asks of them (None: not judged). past: stable's vectors before the
    rollout, shape (looks, width).
    """

    def __init__(
        self, errors: Errors | None, latency: Latency | None, bounds: Sequence[float], past: Array
    ) -> None:
        self._errors, self._latency = errors, latency
        self._bounds = np.array(bounds, dtype=np.float64)
        count = 1 + len(bounds)
        self._sums = np.zeros((3, count))  # events, requests, and the sum of events^2 / requests
        self._looks = np.zeros(count)
        self._worst = 0.0  # error rate of a look
        self._rates, self._plain = RateLimits(count, forgetful=True), 1.0
        self.limits = np.full(count, 0.5)
        self.judged = np.zeros(count, dtype=bool)  # of which there is a record to hold full weight against
        self._unread: list[Array] = []
        self._read(past)

    def record(self, both: Array) -> None:
        """A look below full weight: both versions' vector."""
        self._unread.append(both)
        if len(self._unread) >= READ_AT_ONCE:
            self._read_all()

    def _read_all(self) -> None:
        if self._unread:
            self._read(np.array(self._unread))
            self._unread = []

    def _read(self, looks: Array) -> None:
        """Shape (looks, width)."""
        events, requests = rates_of(looks)
        self._sums += np.array([events, requests, events**2 / np.maximum(requests, 1.0)]).sum(axis=1)
        self._looks += (requests > 0).sum(axis=0)
        # One failure more than there were, since the next worst look is a little worse; and none of the looks
        # with hardly any traffic, by the record's own mean: a batch may be one look.
        full = requests[:, 0] > 0.25 * self._sums[1, 0] / max(self._looks[0], 1.0)
        self._worst = max(self._worst, float(((events[full, 0] + 1.0) / requests[full, 0]).max(initial=0.0)))

    def remember(self, other: "Alarm") -> None:
        """Takes over another one's record, of what both have: errors, and the bounds of both."""
        other._read_all()
        theirs = [0, *(1 + place for place, bound in enumerate(other._bounds) if bound in self._bounds)]
        mine = [0, *(1 + place for place, bound in enumerate(self._bounds) if bound in other._bounds)]
        self._sums[:, mine], self._looks[mine] = other._sums[:, theirs], other._looks[theirs]
        self._worst = other._worst

    def begin(self) -> None:
        """Full weight begins, or begins again: what is tolerated is fixed from the record so far."""
        self._read_all()
        self._rates, self._plain = RateLimits(len(self.limits), forgetful=True), 1.0
        events, requests, squares = self._sums
        share = (events + 0.5) / (requests + 1.0)
        mean = np.where(requests > 0, events / np.maximum(requests, 1.0), 0.0)
        # Between looks, weighted by size, in excess of what counting alone brings: with that left in, a
        # version with a tenfold rate at 1 request/s was never seen to be worse.
        chance = mean * (1 - mean) * self._looks / np.maximum(requests, 1.0)
        variance = np.maximum(squares / np.maximum(requests, 1.0) - mean**2 - chance, 0.0)
        tolerated = np.full(len(share), np.inf)
        if self._errors is not None:
            tolerated[0] = max(
                mean[0] * (1 + self._errors.tolerated_ratio), mean[0] + self._errors.tolerated_increase
            )
        if self._latency is not None and len(self._bounds):
            slower = share_slower_than(self._bounds, share[1:], self._bounds / (1 + self._latency.tolerated))
            tolerated[1:] = np.maximum(slower, mean[1:]) + INCREASE
        self.limits = np.clip(np.maximum(tolerated, mean + SPREAD * np.sqrt(variance)), LEAST_LIMIT, 0.999)
        self.judged = (requests > 0) & (mean <= MOST_SHARE) & np.isfinite(tolerated)

    def fold(self, canary: Array) -> None:
        """One look at full weight."""
        events, requests = rates_of(canary)
        self._rates.fold(events, np.where(self.judged, requests, 0.0), self.limits)
        self._plain = self._plainly_worse(float(events[0]), float(requests[0])) if self.judged[0] else 1.0

    def _plainly_worse(self, failures: float, requests: float) -> float:
        """Odds from one look by itself: of a rate never seen before. A bet on a rate cannot gain as much in
        one look, since all that it knows of the record is its limit; the record's worst look shows what
        bursts and hanging replicas do."""
        worst = max(self._worst, float(self.limits[0])) * requests
        if failures < PLAIN_TIMES * worst or failures <= 0:
            return 1.0
        chance = chance_of_as_many(failures, worst)
        return 1.0 / chance if chance <= PLAIN_CHANCE else 1.0

    @property
    def blind(self) -> bool:
        """Whether full weight is to be held against a record, and not one request is on it."""
        return (self._errors is not None or self._latency is not None) and not self._sums[1, 0]

    @property
    def each(self) -> Array:
        """Odds of errors, and of each bound."""
        odds = self._rates.odds.copy()
        odds[0] = max(odds[0], self._plain)
        return odds

    @property
    def odds(self) -> float:
        """The odds that something is worse than the record: the louder of errors and of the average over
        bounds. What it costs in false alarms is a step back; what a slow alarm costs is borne by all
        users."""
        odds = self.each
        return max(float(odds[0]), float(odds[1:].mean()) if len(odds) > 1 else 1.0)

    def assessed(
        self, place: int, bound_ms: float | None, events: float, requests: float, bar: float, blind: bool
    ) -> RecordComparison:
        """What was found at one place: errors are at 0, each bound follows. events of requests: the stage's;
        blind: nothing is known to hold them against."""
        odds = float(self.each[place])
        quiet = Answer.NO_DATA if blind else Answer.UNDECIDED
        return RecordComparison(
            metric="errors" if bound_ms is None else "latency",
            bound_ms=bound_ms,
            events=events,
            requests=requests,
            odds=odds,
            limit=float(self.limits[place]),
            usual=float(self.usual[place]),
            has_record=bool(self.judged[place]),
            answer=Answer.ALARM if odds >= bar else quiet,
        )

    @property
    def usual(self) -> Array:
        """The record's shares, errors first."""
        return np.asarray(self._sums[0] / np.maximum(self._sums[1], 1.0))
