"""Errors: failed requests of the canary against stable's in the same seconds.

Two comparisons: "at most so many times stable's rate" and "at most so many percentage points more". The
looser one is what is tolerated, so the smaller evidence counts; and what is unacceptable lies beyond both, so
evidence against either rules it out.
"""

import numpy as np

from canaryd.domain.assessment import RateAssessment, RateComparison
from canaryd.domain.policy.metrics import Errors
from canaryd.domain.verdict import is_plainly_unacceptable
from canaryd.judge.comparisons import Comparisons, Gathered, Unit
from canaryd.judge.count_vectors import FAILURES, REQUESTS, Replicas
from canaryd.judge.leave_one_out import Replays
from canaryd.judge.metric_evidence import (
    LEAST_AFTER_ALARM,
    Excess,
    MetricEvidence,
    answer_by,
    bar_alone,
    excess,
    odds_of,
    past_says,
    past_units,
)
from canaryd.judge.replica_variation import Siblings
from canaryd.judge.user_clusters import Drawn, lucky, shown_by_none
from canaryd.stats.arrays import Array, Single
from canaryd.stats.betabinomial import usual_size
from canaryd.stats.between_replicas import Luck, luck
from canaryd.stats.blocks import burst_size, correlation_time

RATIO, INCREASE = 0, 1  # places of the comparisons
FAVOURED = 0.8  # of the weight in clearing
LEAST_BURST = 2.0  # failures that come together, of a canary that had none so far
BOTH = np.ones(2, dtype=bool)


class ErrorEvidence(MetricEvidence):
    """The evidence on failed requests. past: stable's vectors before the rollout, look by look, shape (looks,
    width)."""

    name = "errors"

    def __init__(self, wanted: Errors, weight: float, past: Array, siblings: Siblings) -> None:
        super().__init__(weight, past)
        requests, failures = past[:, REQUESTS], past[:, FAILURES]
        self._wanted, self.siblings = wanted, siblings
        burst = burst_size(failures, requests)
        self.burst = max(LEAST_BURST, burst)
        self._tolerated = np.array([1.0 + wanted.tolerated_ratio, 1.0])
        self._pseudo = np.array([0.0, wanted.tolerated_increase])
        self._past_failed, self._past_served = float(failures.sum()), float(requests.sum())
        self._known_luck: tuple[tuple[int, int, Drawn | None], float, Luck] | None = None
        # how likely luck hides what the stage must rule out, where users are drawn
        self._hidden: Single | None = None
        units = past_units(past, self.block)
        events = units[:, [FAILURES]] + units[:, [REQUESTS]] * self._pseudo
        cap = events.max(axis=0) if len(units) else np.zeros(2)
        if self.block > 1:
            burst = burst_size(units[:, FAILURES], units[:, REQUESTS])
        known, usual = _known(units, 1.0, self.block)
        self._comparisons = Comparisons(cap, known, usual)
        self._comparisons.in_bursts(np.full(2, burst), *_known(units, burst, self.block))
        self._replays = Replays(cap, known, usual)
        self._served = self._failed = 0.0  # the canary's, of this stage
        self._clear_weights = np.full(2, 0.5)

    @property
    def comparisons(self) -> Comparisons:
        return self._comparisons

    @property
    def replays(self) -> Replays:
        return self._replays

    def trouble(self, stable: Array, proven: bool = False) -> float:
        return correlation_time(stable[:, FAILURES], stable[:, REQUESTS], proven)

    def as_noisy_as(self, other: MetricEvidence) -> None:
        super().as_noisy_as(other)
        if isinstance(other, ErrorEvidence):
            self.burst = other.burst

    def begin_stage(self, next_weight: int, alarm: Excess | None = None) -> None:
        super().begin_stage(next_weight, alarm)
        self._expect()
        self._replays.begin_stage(alarm is not None)
        self._served = self._failed = 0.0

    def _expect(self) -> None:
        """Sets where a canary as good as stable lies from what the stage must rule out, and which of both
        comparisons will say so sooner: that one has most of the weight, by stable's rate as it is known when
        the stage begins."""
        usual = (self._past_failed + 0.5) / (self._past_served + 1.0)
        distance = np.log(np.array([self.unacceptable, 1.0 + self.unacceptable_increase / usual]))
        self._comparisons.expect(distance)
        # As many events as there are at equal halves, and the divergence between what is expected and what
        # must be ruled out.
        border = 1.0 / (1.0 + np.exp(distance * np.array([-1.0, 0.0])))
        expected = 1.0 / (1.0 + np.exp(distance * np.array([0.0, 1.0])))
        events = usual * np.array([2.0, 1.0 + np.exp(distance[1])])
        speed = events * (
            expected * np.log(expected / border) + (1 - expected) * np.log((1 - expected) / (1 - border))
        )
        self._clear_weights = (
            np.where(speed >= speed.max(), FAVOURED, 1.0 - FAVOURED)
            if speed[0] != speed[1]
            else np.full(2, 0.5)
        )

    def unit(self, stable: Array, canary: Replicas) -> Unit:
        both = self._summed(canary)
        self._served += both[REQUESTS]
        self._failed += both[FAILURES]
        worse, added = self._unacceptable
        by_luck = self._luck(sum(vector[REQUESTS] > 0 for vector in canary.values()))
        unit = Unit(
            joined=BOTH,
            stable_events=np.full(2, stable[FAILURES]),
            stable_requests=float(stable[REQUESTS]),
            canary_events=np.full(2, both[FAILURES]),
            canary_requests=float(both[REQUESTS]),
            tolerated=self._tolerated,
            pseudo=self._pseudo,
            unacceptable=worse,
            unacceptable_pseudo=added,
            log_luck=by_luck.log_chances,
            lucky=by_luck.hardly_more,
            hidden=self._hidden,
        )
        self._replays.add(
            unit, {name: vector[[REQUESTS, FAILURES, FAILURES]] for name, vector in canary.items()}
        )
        self._past_failed += stable[FAILURES]
        self._past_served += stable[REQUESTS]
        return unit

    def _luck(self, replicas: int) -> Luck:
        """Replicas' and users' luck (`_estimated_luck`), estimated once for each state of stable's counts: a
        fiftieth more of them changes nothing that anyone could see."""
        state, known = (replicas, self.stable_replicas, self.users), self._known_luck
        if known is None or known[0] != state or self._past_served > known[1]:
            known = self._known_luck = state, 1.02 * self._past_served, self._estimated_luck(replicas)
        return known[2]

    def _estimated_luck(self, replicas: int) -> Luck:
        """The luck in both comparisons. Equal versions lie below the border by what is tolerated: an increase
        in the measure of stable's rate."""
        usual = (self._past_failed + 0.5) / (self._past_served + 1.0)
        centre = -np.log(np.array([self.tolerated, 1.0 + self._wanted.tolerated_increase / usual]))
        sd = np.full(2, self.siblings.sd[0])
        of_users = None
        if self.users is not None:
            of_users, (worse, added) = self.users.luck(np.full(2, usual)), self._unacceptable
            self._hidden = self.users.hides(np.full(2, usual), worse, added)
        return luck(
            lucky(self.users),
            centre,
            sd,
            self.siblings.replicas_seen,
            self.stable_replicas,
            replicas,
            of_users,
        )

    def ratio_by_luck(self, replicas: int) -> float:
        """The ratio of the error rates of two equal versions that luck hardly ever exceeds. replicas: of the
        canary, at least 1."""
        return float(self._luck(replicas).hardly_more[RATIO]) * self.tolerated

    def harmful_odds(self) -> float:
        """What a rollback may rest on: the less of the odds as they are, and in blocks as long as single
        replicas' trouble lasts."""
        return self.lasting_odds(RATIO)

    @property
    def tolerated(self) -> float:
        return 1.0 + self._wanted.tolerated_ratio

    @property
    def tolerated_increase(self) -> float:
        """The share more of all requests, 0 to 1, that is no harm."""
        return self._wanted.tolerated_increase

    @property
    def unacceptable(self) -> float:
        """The ratio this stage must rule out."""
        ratio = 1.0 + excess(self._wanted.unacceptable_ratio, self.next_weight)
        if self._alarmed is None:
            return ratio
        share, usual = self._alarmed
        # Halfway to what alarmed, so that as much is not let pass.
        seen = float(np.sqrt(share / usual)) if usual > 0 else ratio
        return max(min(ratio, seen), LEAST_AFTER_ALARM * self.tolerated)

    @property
    def unacceptable_increase(self) -> float:
        """The share more of all requests, 0 to 1, that this stage must rule out."""
        increase = excess(self._wanted.unacceptable_increase, self.next_weight)
        if self._alarmed is None:
            return increase
        share, usual = self._alarmed
        return max(min(increase, (share - usual) / 2.0), LEAST_AFTER_ALARM * self._wanted.tolerated_increase)

    @property
    def _alarmed(self) -> tuple[float, float] | None:
        """The share that failed at full weight, and the record's, where errors led back to this stage."""
        if self.alarm is None or not self.alarm.places[0]:
            return None
        return float(self.alarm.shares[0]), float(self.alarm.usual[0])

    @property
    def _unacceptable(self) -> tuple[Array, Array]:
        """What must be ruled out by each comparison: so many times stable's rate with so much added."""
        return np.array([self.unacceptable, 1.0]), np.array([0.0, self.unacceptable_increase])

    def log_odds(self, gathered: Gathered) -> float:
        return float(gathered.log_odds.min())

    def clearing(self) -> float:
        """The average of both comparisons' evidence, or what a canary without any error has shown by
        serving."""
        gathered = float(np.logaddexp.reduce(self._comparisons.log_cleared + np.log(self._clear_weights)))
        if self._failed == 0:
            # Bursts of `burst` failures come once in burst / rate requests: the chance that none came is
            # exp(-served * rate / burst).
            hidden = self._hidden[INCREASE] if self._hidden is not None else None
            gathered = max(
                gathered, shown_by_none(self._served * self.unacceptable_increase / self.burst, hidden)
            )
        return odds_of(gathered)

    def assessed(self, rates: RateComparison, total_bar: float, clear_bar: float) -> RateAssessment:
        """What was found of errors. rates: of this stage; total_bar: of the weighted total."""
        low, high = self.interval()
        bar = bar_alone(total_bar, self.weight)
        is_beyond = self.is_beyond(rates)
        return RateAssessment(
            bound_ms=None,
            rates=rates,
            low=low,
            high=high,
            tolerated=self.tolerated,
            tolerated_increase=self._wanted.tolerated_increase,
            unacceptable=self.unacceptable,
            unacceptable_increase=self.unacceptable_increase,
            odds=self.odds,
            bar=bar,
            cleared=self.cleared,
            answer=answer_by(self.odds, bar, self.cleared, clear_bar, is_beyond),
        )

    def is_beyond(self, rates: RateComparison) -> bool:
        """Whether the stage's plain counts lie beyond what it must rule out."""
        return is_plainly_unacceptable(
            (rates.stable_events, rates.stable_requests),
            (rates.canary_events, rates.canary_requests),
            self.unacceptable,
            self.unacceptable_increase,
        )

    def interval(self) -> tuple[float, float]:
        """The anytime-valid 95% interval of the ratio of the error rates, from this stage's own looks."""
        low, high = self._comparisons.intervals(np.array([RATIO]))
        return float(low[0] * self.tolerated), float(high[0] * self.tolerated)


def _known(units: Array, burst: float, block: int) -> tuple[Single, Array]:
    """What stable's past says of the cells, and which number of events is usual, both comparisons alike;
    `burst` failures count as one."""
    failures = units[:, [FAILURES]] / burst
    known = past_says(failures, units[:, REQUESTS], block)
    return np.repeat(known, 2, axis=0), np.repeat(usual_size(failures), 2)
