"""At full weight there is nothing to compare with: an alarm, from the new version's looks against the
rollout's own record.

The record is what both versions did together before, and stable alone before that. Nothing cancels what the
hour does, so what is promised is about time: while the new version is no worse than the record's limits, the
average time to a false alarm is at least 1/alpha looks, ten times over (`stats/e_detectors.py`). And an alarm
only asks for a step back to where both versions can be compared.
"""

from collections.abc import Sequence

import numpy as np

from canaryd.domain.assessment import RecordComparison
from canaryd.domain.policy.metrics import Errors, Latency
from canaryd.domain.verdict import Answer
from canaryd.judge.guardrails import LEAST_LIMIT
from canaryd.judge.latency import LEAST_SHARE, MOST_SHARE, USUAL_WEIGHT
from canaryd.judge.metric_evidence import Excess
from canaryd.judge.replica_variation import rates_of
from canaryd.stats.arrays import Array
from canaryd.stats.between_replicas import chance_of_as_many
from canaryd.stats.e_detectors import RESTART, RateDetector
from canaryd.stats.histogram import share_slower_than

PLAIN_TIMES = (
    3.0  # a look worse than the worst on record by so much, and by chance hardly ever, needs no second
)
PLAIN_WEIGHT = 0.1  # of such a look in the alarm; the rest is shared by errors and latency
READ_AT_ONCE = 60  # looks; adding up costs as much for one
SPREAD = 2.0  # standard deviations between looks that are the hour's, not the version's
UNSURE = 2.0  # standard errors by which a mean of few looks may lie too low
INCREASE = 0.001  # of latency shares, as in latency.TINY
FEWEST_NEW = 12  # looks of the rollout from which it has a rate of its own
SURELY = 4.0  # standard errors beyond which that rate is another than the record's
MOST_AT_ONCE = 10.0  # looks of capital that a bet on a block begins with; more would look like suspicion
SPEAKS = 10.0  # odds of one rate, from which it has a part in an alarm, and below full weight stops a pass


class _Record:
    """Rates per look of a stretch of time, errors first and then each bound; all of shape (1 + bounds,)."""

    def __init__(self, count: int) -> None:
        self.sums = np.zeros((3, count))  # events, requests, and the sum of events^2 / requests
        self.looks = np.zeros(count)

    def add(self, events: Array, requests: Array) -> None:
        """Looks; shape (looks, 1 + bounds) each."""
        self.sums += np.array([events, requests, events**2 / np.maximum(requests, 1.0)]).sum(axis=1)
        self.looks += (requests > 0).sum(axis=0)

    def remember(self, other: "_Record", mine: Sequence[int], theirs: Sequence[int]) -> None:
        """Takes over the rates at `theirs` of another record, which are at `mine` here."""
        self.sums[:, list(mine)] = other.sums[:, list(theirs)]
        self.looks[list(mine)] = other.looks[list(theirs)]

    def __add__(self, other: "_Record") -> "_Record":
        both = _Record(len(self.looks))
        both.sums, both.looks = self.sums + other.sums, self.looks + other.looks
        return both

    @property
    def mean(self) -> Array:
        """The rates; 0 where nothing was served."""
        return np.asarray(self.sums[0] / np.maximum(self.sums[1], 1.0))

    @property
    def variance(self) -> Array:
        """Between looks, weighted by size."""
        return np.asarray(np.maximum(self.sums[2] / np.maximum(self.sums[1], 1.0) - self.mean**2, 0.0))

    @property
    def error(self) -> Array:
        """The standard error of the rates."""
        return np.asarray(np.sqrt(self.variance / np.maximum(self.looks, 1.0)))

    @property
    def chance(self) -> Array:
        """The variance between looks that counting alone brings."""
        return np.asarray(self.mean * (1 - self.mean) * self.looks / np.maximum(self.sums[1], 1.0))


class Alarm:
    """The record gathers below weight 100, the bets are made at it.

    errors, latency: what the policy asks of them (None: not judged). past: stable's vectors before the
    rollout, shape (looks, width). risk: alpha; it alarms at odds of 1/alpha. blocks: looks in which trouble
    that lasts is over, of errors and of latency: bets are made on so many together.
    """

    def __init__(
        self,
        errors: Errors | None,
        latency: Latency | None,
        bounds: Sequence[float],
        past: Array,
        risk: float = 0.01,
        blocks: tuple[int, int] = (1, 1),
    ) -> None:
        self._blocks = blocks
        self._errors, self._latency = errors, latency
        # Enough for an alarm by itself; and what makes it a bet that gains nothing on average, though each
        # look is asked about twice: while it is under way, and when it is over.
        self._plain_odds = 1.01 / (PLAIN_WEIGHT * risk)
        self._plain_chance = RESTART / self._plain_odds / 2
        self._bounds = np.array(bounds, dtype=np.float64)
        count = 1 + len(bounds)
        self._before, self._during = _Record(count), _Record(count)
        self._worst = 0.0  # error rate of a look
        self.limits = np.full(count, 0.5)
        self.judged = np.zeros(count, dtype=bool)  # of which there is a record to hold full weight against
        self._bound_weights = np.zeros(len(bounds))  # in the average
        self._unread: list[Array] = []
        self._watch_anew()
        self._read(past, self._before)

    def _watch_anew(self) -> None:
        self._rates = RateDetector(1), RateDetector(len(self._bounds))
        self._open = np.zeros((2, 1)), np.zeros((2, len(self._bounds)))  # events and requests, of open blocks
        self._open_looks = 0
        self._look = np.zeros(2)  # failures and requests of the look under way
        self._is_plain, self._plain_look = False, self._look

    def record(self, both: Array) -> None:
        """A look below full weight: both versions' vector."""
        self._unread.append(both)
        if len(self._unread) >= READ_AT_ONCE:
            self._read_all()

    def _read_all(self) -> None:
        if self._unread:
            self._read(np.array(self._unread), self._during)
            self._unread = []

    def _read(self, looks: Array, record: _Record) -> None:
        """Shape (looks, width)."""
        events, requests = rates_of(looks)
        record.add(events, requests)
        # One failure more than there were, since the next worst look is a little worse; and none of the looks
        # with hardly any traffic, by the record's own mean: a batch may be one look.
        full = requests[:, 0] > 0.25 * self._full_look
        self._worst = max(self._worst, float(((events[full, 0] + 1.0) / requests[full, 0]).max(initial=0.0)))

    @property
    def _record(self) -> _Record:
        return self._before + self._during

    @property
    def _full_look(self) -> float:
        """Requests of a look on record, on average."""
        record = self._record
        return float(record.sums[1, 0] / max(record.looks[0], 1.0))

    def remember(self, other: "Alarm") -> None:
        """Takes over another one's record, of what both have: errors, and the bounds of both."""
        other._read_all()
        theirs = [0, *(1 + place for place, bound in enumerate(other._bounds) if bound in self._bounds)]
        mine = [0, *(1 + place for place, bound in enumerate(self._bounds) if bound in other._bounds)]
        self._before.remember(other._before, mine, theirs)
        self._during.remember(other._during, mine, theirs)
        self._worst = other._worst

    def begin(self) -> None:
        """Full weight begins, or begins again: what is tolerated is fixed from the record so far."""
        self._read_all()
        self._watch_anew()
        whole, new = self._record, self._during
        limits = self._limits_by(whole)
        # Where the rate of both has risen since the record began, for certain, the rollout's own looks say
        # so. One that has fallen is none to be held against: these looks may be too few to have met the
        # trouble that comes now and then.
        certain = SURELY * np.sqrt(self._before.error**2 + new.error**2)
        has_risen = (new.looks >= FEWEST_NEW) & (new.mean > self._before.mean + certain)
        risen = np.where(has_risen, self._limits_by(new), 0.0)
        self.limits = np.clip(np.maximum(limits, risen), LEAST_LIMIT, 0.999)
        self.judged = (whole.sums[1] > 0) & (whole.mean <= MOST_SHARE) & np.isfinite(limits)
        weights = self.judged[1:] * np.where(whole.mean[1:] >= LEAST_SHARE, USUAL_WEIGHT, 1.0)
        self._bound_weights = weights / max(float(weights.sum()), 1.0)

    def _limits_by(self, record: _Record) -> Array:
        """The highest usual rates by a record: what the policy tolerates beyond its mean, or what looks
        differ by, whichever is more; infinite for what the policy does not judge."""
        events, requests, _ = record.sums
        share = (events + 0.5) / (requests + 1.0)
        # The mean of few looks may be low by chance.
        mean = record.mean + UNSURE * record.error
        tolerated = np.full(len(share), np.inf)
        if self._errors is not None:
            tolerated[0] = max(
                mean[0] * (1 + self._errors.tolerated_ratio), mean[0] + self._errors.tolerated_increase
            )
        if self._latency is not None and len(self._bounds):
            slower = share_slower_than(self._bounds, share[1:], self._bounds / (1 + self._latency.tolerated))
            tolerated[1:] = np.maximum(slower, mean[1:]) + INCREASE
        # In excess of what counting alone brings: with that left in, a version with a tenfold rate at 1
        # request/s was never seen to be worse.
        between = np.sqrt(np.maximum(record.variance - record.chance, 0.0))
        return np.asarray(np.maximum(tolerated, record.mean + SPREAD * between))

    def watch(self, failures: float, requests: float, share: float) -> None:
        """Errors of a look at full weight, or of a part of one. share: of a whole look's length, in
        (0, 1]."""
        served = requests if self.judged[0] else 0.0
        self._open[0][:] += np.array([[failures], [served]])
        if self._blocks[0] == 1:
            self._bet(0, share)
        self._look += failures, served
        # Within seconds a burst makes any rate, so of a part as much is asked as of a whole look.
        self._find_plain(max(self._look[1], self._full_look if share < 1.0 else 0.0))

    def fold(self, canary: Array) -> None:
        """A whole look at full weight, whose errors were watched: its latency. canary: its vector."""
        events, requests = rates_of(canary)
        self._open[1][:] += np.array([events[1:], np.where(self.judged[1:], requests[1:], 0.0)])
        self._open_looks += 1
        for metric, block in enumerate(self._blocks):
            if self._open_looks % block == 0:
                self._bet(metric, float(block))
        self._find_plain(self._look[1])
        self._look = np.zeros(2)

    def _bet(self, metric: int, looks: float) -> None:
        """On what is open of errors (0), or of latency (1): so many looks, or a part of one."""
        events, requests = self._open[metric]
        limits = self.limits[:1] if metric == 0 else self.limits[1:]
        self._rates[metric].fold(events, requests, limits, min(looks, MOST_AT_ONCE))
        self._open[metric][:] = 0.0

    def _find_plain(self, requests: float) -> None:
        """Whether the look by itself has a rate never seen before. A bet on a rate cannot gain as much in one
        look, since all that it knows of the record is its limit; the record's worst look shows what bursts
        and hanging replicas do. requests: in which it is held to have failed so often."""
        failures, served = self._look
        worst = max(self._worst, float(self.limits[0])) * requests
        self._is_plain = bool(
            served > 0
            and failures >= max(PLAIN_TIMES * worst, 1.0)
            and chance_of_as_many(failures, worst) <= self._plain_chance
        )
        if self._is_plain:
            self._plain_look = self._look.copy()

    @property
    def blind(self) -> bool:
        """Whether full weight is to be held against a record, and not one request is on it."""
        return (self._errors is not None or self._latency is not None) and not self._record.sums[1, 0]

    @property
    def _plain(self) -> float:
        return self._plain_odds if self._is_plain else 0.0

    @property
    def each(self) -> Array:
        """Odds of errors, and of each bound; at least 1."""
        errors = max(float(self._rates[0].odds[0]), self._plain)
        return np.maximum(1.0, np.concatenate(([errors], self._rates[1].odds)))

    @property
    def odds(self) -> float:
        """The odds that something is worse than the record, at least 1: the average over errors, the bounds
        of latency, and looks that are plain by themselves, which makes of them one e-detector."""
        parts = [float(self._rates[0].odds[0])] if self._errors is not None else []
        parts += [float(self._rates[1].odds @ self._bound_weights)] if self._bound_weights.any() else []
        if not parts:
            return 1.0
        plain = PLAIN_WEIGHT if self._errors is not None else 0.0
        return max(1.0, (1.0 - plain) * sum(parts) / len(parts) + plain * self._plain)

    @property
    def excess(self) -> Excess:
        """What speaks for an alarm, and how much worse it was than the record."""
        odds = self.each
        events, requests = np.concatenate([rates.since for rates in self._rates], axis=1)
        if self._is_plain:
            events[0], requests[0] = self._plain_look
        share = np.where(requests > 0, events / np.maximum(requests, 1.0), 0.0)
        return Excess((odds >= min(SPEAKS, float(odds.max()))) & (odds > 1.0), share, self.usual)

    def assessed(
        self, place: int, bound_ms: float | None, events: float, requests: float, alarms: bool, blind: bool
    ) -> RecordComparison:
        """What was found at one place: errors are at 0, each bound follows. events of requests: the stage's;
        alarms: whether the odds together do; blind: nothing is known to hold them against."""
        quiet = Answer.NO_DATA if blind else Answer.UNDECIDED
        return RecordComparison(
            metric="errors" if bound_ms is None else "latency",
            bound_ms=bound_ms,
            events=events,
            requests=requests,
            odds=float(self.each[place]),
            limit=float(self.limits[place]),
            usual=float(self.usual[place]),
            has_record=bool(self.judged[place]),
            answer=Answer.ALARM if alarms and self.excess.places[place] else quiet,
        )

    @property
    def usual(self) -> Array:
        """The record's shares, errors first."""
        return self._record.mean
