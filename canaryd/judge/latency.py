"""Latency: at every bound of the histogram, the share of requests slower than it, the canary's against
stable's in the same seconds.

Evidence is the average over bounds with weights fixed at the start, so a shifted body, a fat tail and a
second mode are seen alike and nothing is assumed about the distribution. What "10% slower is tolerated" means
at a bound is read from stable's own distribution so far. Before a rollback, one slow pod must not be the
whole of it, and neither a single bound that the mean contradicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from canaryd.domain.assessment import LatencyAssessment, MeanAssessment, RateAssessment, RateComparison
from canaryd.domain.policy.metrics import Latency
from canaryd.domain.verdict import FEW_EVENTS, PLAIN_SHARE, Answer
from canaryd.judge.comparisons import Comparisons, Gathered, Unit
from canaryd.judge.count_vectors import DURATION, SLOWER, TIMED, Replicas
from canaryd.judge.leave_one_out import Replays
from canaryd.judge.mean_latency import MeanEvidence
from canaryd.judge.metric_evidence import (
    LARGEST_LOG,
    LEAST_AFTER_ALARM,
    SIBLINGS_AGREE,
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
from canaryd.stats.arrays import Array, Indices, Rows, Single
from canaryd.stats.betabinomial import usual_size
from canaryd.stats.between_replicas import Luck, luck, ratio_by_luck
from canaryd.stats.blocks import correlation_time
from canaryd.stats.histogram import share_slower_than, smoothed_shares

LEAST_SHARE, MOST_SHARE = (
    0.0005,
    0.60,
)  # slower than a bound, of both versions' past: there a comparison says something
FEW_SLOWER = 5  # pooled requests slower: joins as well, so that a fault stable never showed is looked at
TINY = 0.001  # percentage points that are no harm where stable has next to none (0.1)
USUAL_WEIGHT = 4.0  # of bounds that stable's past shows to be informative, against the others
MEAN_WEIGHT = 0.1  # of the mean in the average, against the bounds together
CORROBORATED = 10.0  # odds of a second bound, at which a rollback no longer rests on one
# replicas that are left out in turn: if leaving out none of the slowest saves the canary, no other will
SUSPECTS = 4
BORDERS_GROWTH = 0.02  # of stable's counts, before what is tolerated is read from them anew
TOP_BOUNDS = 3  # bounds named beside the median's and the 95th percentile's
UNEVEN = 2.0  # odds that make a bound, or the mean, worth naming
QUIET_BURST = 2.0  # slow requests that come together, where none was seen


@dataclass(frozen=True, slots=True)
class Borders:
    """Ratios of the shares slower than each bound that are tolerated, and that the stage must rule out, shape
    (bounds,); what luck brings; and where users are drawn, what it hides (see `Unit`)."""

    tolerated: Array
    unacceptable: Array
    luck: Luck
    hidden: Single | None


class LatencyEvidence(MetricEvidence):
    """The evidence on latency. bounds: in ms, rising; past: stable's vectors before the rollout, look by
    look, shape (looks, width)."""

    name = "latency"

    def __init__(
        self,
        wanted: Latency,
        weight: float,
        risk: float,
        bounds: Sequence[float],
        past: Array,
        siblings: Siblings,
    ) -> None:
        self._wanted, self._risk, self._siblings = wanted, risk, siblings
        self.bounds = np.array(bounds, dtype=np.float64)
        count = len(self.bounds)
        super().__init__(weight, past)
        timed, slower = past[:, TIMED], past[:, SLOWER:]
        self._stable_timed, self._stable_slower = float(timed.sum()), slower.sum(axis=0)
        self._pooled_timed, self._pooled_slower = self._stable_timed, self._stable_slower.copy()
        self._rollout_slower = np.zeros(count)
        self.joined = np.zeros(count, dtype=bool)
        self._join()
        usual = np.where(self.joined, USUAL_WEIGHT, 1.0)
        self.bound_weights = (1.0 - MEAN_WEIGHT) * usual / usual.sum()
        self._known_borders: tuple[tuple[int, int, int, Drawn | None], float, Borders] | None = None
        self._pseudo = np.full(count, TINY)
        units = past_units(past, self.block)
        cap = (units[:, SLOWER:] + units[:, [TIMED]] * TINY).max(axis=0) if len(units) else np.zeros(count)
        known = past_says(units[:, SLOWER:], units[:, TIMED], self.block)
        usual = usual_size(units[:, SLOWER:])
        self._comparisons = Comparisons(cap, known, usual)
        self._replays = Replays(cap, known, usual)
        self.mean = MeanEvidence(1.0 + wanted.tolerated)
        self._begin_stage()

    def _begin_stage(self) -> None:
        self.stage_stable = np.zeros(SLOWER + len(self.bounds))
        self.stage_canary = np.zeros(SLOWER + len(self.bounds))
        self._stage_replicas: dict[str, Array] = {}

    @property
    def comparisons(self) -> Comparisons:
        return self._comparisons

    @property
    def replays(self) -> Replays:
        return self._replays

    def trouble(self, stable: Array, proven: bool = False) -> float:
        """The longest of three: at the first bounds with at most half, a tenth and a hundredth of stable's
        requests slower."""
        timed, slower = stable[:, TIMED], stable[:, SLOWER:]
        if not len(timed) or not slower.shape[1] or not timed.sum():
            return 1.0
        share = slower.sum(axis=0) / timed.sum()
        chosen = {int(np.argmax(share <= most)) for most in (0.5, 0.1, 0.01) if (share <= most).any()}
        taus = (correlation_time(slower[:, row], timed, proven) for row in chosen if slower[:, row].any())
        return max(taus, default=1.0)

    def begin_stage(self, next_weight: int, alarm: Excess | None = None) -> None:
        super().begin_stage(next_weight, alarm)
        self._replays.begin_stage(alarm is not None)
        self.joined |= self._alarmed
        self._known_borders = None
        self.mean.begin_stage()
        self._begin_stage()

    def observe(self, stable: Array, canary: Replicas) -> list[tuple[Comparisons, Unit]]:
        """Adds a look, as for every metric; the stage's plain counts are known at once, also while a block is
        open."""
        if stable[TIMED] > 0 and (timed := _timed(canary)):
            self._remember_stage(stable, self._summed(canary), timed)
        return super().observe(stable, canary)

    def unit(self, stable: Array, canary: Replicas) -> Unit | None:
        self._join()
        both, timed = self._summed(canary), _timed(canary)
        unit = None
        if stable[TIMED] > 0 and timed:
            unit = self._unit(stable, both, replicas=len(timed))
            self._replays.add(unit, timed)
            self.mean.fold(stable, canary, self._siblings, self.stable_replicas, self.users)
        self._remember(stable, both)
        return unit

    def _unit(self, stable: Array, canary: Array, replicas: int) -> Unit:
        borders = self.borders(replicas)
        return Unit(
            joined=self.joined.copy(),
            stable_events=stable[SLOWER:],
            stable_requests=float(stable[TIMED]),
            canary_events=canary[SLOWER:],
            canary_requests=float(canary[TIMED]),
            tolerated=borders.tolerated,
            pseudo=self._pseudo,
            unacceptable=borders.unacceptable,
            unacceptable_pseudo=self._pseudo,
            log_luck=borders.luck.log_chances,
            lucky=borders.luck.hardly_more,
            hidden=borders.hidden,
        )

    def _remember_stage(self, stable: Array, canary: Array, timed: dict[str, Array]) -> None:
        """Adds a look to the stage's counts of both versions, which are of the same seconds."""
        self.stage_stable += stable
        self.stage_canary += canary
        for name, vector in timed.items():
            before = self._stage_replicas.get(name)
            self._stage_replicas[name] = vector if before is None else before + vector

    def _remember(self, stable: Array, canary: Array) -> None:
        self._stable_timed += stable[TIMED]
        self._stable_slower = self._stable_slower + stable[SLOWER:]
        self._pooled_timed += stable[TIMED] + canary[TIMED]
        both = stable[SLOWER:] + canary[SLOWER:]
        self._pooled_slower = self._pooled_slower + both
        self._rollout_slower += both

    def _join(self) -> None:
        """Who takes part from now on, by what was seen before this unit; for good."""
        if self._pooled_timed > 0:
            share = self._pooled_slower / self._pooled_timed
            self.joined |= (share <= MOST_SHARE) & (
                (share >= LEAST_SHARE) | (self._rollout_slower >= FEW_SLOWER)
            )

    def borders(self, replicas: int) -> "Borders":
        """What is tolerated at each bound (`_borders`), computed once for each state of stable's counts: a
        fiftieth more of them moves no border that anyone could see."""
        state, known = (replicas, self.stable_replicas, self.next_weight, self.users), self._known_borders
        if known is None or known[0] != state or self._stable_timed > known[1]:
            known = self._known_borders = (
                state,
                (1.0 + BORDERS_GROWTH) * self._stable_timed,
                self._borders(replicas),
            )
        return known[2]

    def _borders(self, replicas: int) -> "Borders":
        """What is tolerated at each bound, what this stage must rule out, and what luck brings.

        If all of stable's requests took 10% longer, those slower than b would be those that are slower than b
        / 1.1 now. Both shares have the pseudo-events of TINY added, as the counts have. replicas: of the
        canary; one alone may be on a slow node, so what its luck explains need not be ruled out either. Not
        so where matched requests are split: callers count them, to whom all replicas are one, and 18 of 20
        versions that were 25% slower passed early.
        """
        share = smoothed_shares(self._stable_slower, self._stable_timed)
        factors = np.array(
            [1.0 + self._wanted.tolerated, 1.0 + excess(self._wanted.unacceptable, self.next_weight)]
        )
        at = share_slower_than(self.bounds, share, self.bounds / factors[:, None])
        tolerated, unacceptable = (np.maximum(share, at) + TINY) / (share + TINY)
        sd, replicas_seen, of_stable = (
            self._siblings.sd[1:],
            self._siblings.replicas_seen,
            max(1, self.stable_replicas),
        )
        if replicas == 1 and not self.split:
            floor = np.minimum(ratio_by_luck(sd, replicas_seen, of_stable, 1, self._risk / 2.0), 1.0 / share)
            unacceptable = np.maximum(unacceptable, 1.25 * floor)
        if self.alarm is not None:
            seen = np.sqrt(self.alarm.shares[1:] / (self.alarm.usual[1:] + TINY))
            least = np.maximum(np.minimum(unacceptable, seen), LEAST_AFTER_ALARM * tolerated)
            unacceptable = np.where(self._alarmed, least, unacceptable)
        of_users = self.users.luck(share) if self.users is not None else None
        by_luck = luck(
            lucky(self.users), -np.log(tolerated), sd, replicas_seen, of_stable, max(1, replicas), of_users
        )
        hidden = self.users.hides(share, unacceptable, self._pseudo) if self.users is not None else None
        return Borders(tolerated, unacceptable, by_luck, hidden)

    def log_odds(self, gathered: Gathered) -> float:
        return self._with_mean(gathered, self.mean.log_odds)

    def _with_mean(self, gathered: Gathered, mean: float) -> float:
        """Log of the weighted average over bounds and the mean; nothing is said where there is no
        histogram."""
        if not len(self.bounds):
            return 0.0
        bounds = float(np.exp(np.minimum(gathered.log_odds, LARGEST_LOG)) @ self.bound_weights)
        return log(bounds + MEAN_WEIGHT * odds_of(mean))

    def replayed(self, comparisons: Comparisons, without: str = "") -> float:
        """The log evidence of a replay. In blocks the bounds speak alone: the mean is not replayed."""
        return self._with_mean(comparisons.whole, self.mean.without(without) if without else 0.0)

    def clearing(self) -> float:
        """The odds by the bounds alone: what lies within one of them, the mean may find and cannot rule
        out."""
        gathered = 1.0
        if len(self.bounds):
            gathered = float(
                np.exp(np.minimum(self._comparisons.log_cleared, LARGEST_LOG)) @ self.bound_weights
            ) / (1.0 - MEAN_WEIGHT)
        if len(self.bounds) and not self.joined.any() and self.stage_canary[SLOWER] == 0:
            # Everything is faster than the lowest bound, where no histogram sees; nothing unacceptable is
            # slower than it.
            hidden = (
                self.users.hides(np.array([TINY]), np.full(1, 5.0), np.zeros(1))[0]
                if self.users is not None
                else None
            )
            gathered = max(
                gathered, odds_of(shown_by_none(self.stage_canary[TIMED] * 5 * TINY / QUIET_BURST, hidden))
            )
        # What alarmed is ruled out where it did, each by itself: there a body that is faster says nothing.
        return min(gathered, odds_of(float(self._comparisons.log_cleared[self._alarmed].min(initial=np.inf))))

    @property
    def _alarmed(self) -> Rows:
        """The bounds at which full weight was worse than the record, and that led back to this stage."""
        if self.alarm is None:
            return np.zeros(len(self.bounds), dtype=bool)
        return self.alarm.places[1:]

    @property
    def loudest(self) -> float:
        """Of the bounds: a body that is faster does not outvote a tail that is slower."""
        log_odds = self._comparisons.stage.log_odds[self.joined]
        return odds_of(float(log_odds.max(initial=0.0)))

    @property
    def replicas(self) -> int:
        """Canary replicas with latency in this stage."""
        return len(self._stage_replicas)

    @property
    def tolerated(self) -> float:
        """The share that a canary may be slower without harm: 0.1 for 10%."""
        return self._wanted.tolerated

    @property
    def mean_ratio(self) -> float | None:
        """Canary's mean latency over stable's, in this stage; None where a duration is missing."""
        stable, canary = self.stage_stable, self.stage_canary
        if stable[TIMED] == 0 or canary[TIMED] == 0 or stable[DURATION] <= 0 or canary[DURATION] <= 0:
            return None
        return float(canary[DURATION] / canary[TIMED] / (stable[DURATION] / stable[TIMED]))

    @property
    def unacceptable_mean(self) -> float:
        """The ratio of the means that this stage must rule out."""
        return 1.0 + excess(self._wanted.unacceptable, self.next_weight)

    @property
    def is_beyond(self) -> bool:
        """Whether the stage's plain counts lie beyond what it must rule out: the mean, or the share slower
        than a bound. What the bounds rule out is a shift of them all; requests that hang for a minute, too
        few for any bound, make a mean of three times stable's beside it."""
        mean = self.mean_ratio
        return (mean is not None and mean > self.unacceptable_mean) or bool(self._beyond().any())

    def _beyond(self) -> Rows:
        """Of each bound that joined, as `is_plainly_unacceptable`; shape (bounds,)."""
        stable, canary = self.stage_stable, self.stage_canary
        if not (stable[TIMED] and canary[TIMED]):
            return np.zeros(len(self.bounds), dtype=bool)
        share, of_stable = canary[SLOWER:] / canary[TIMED], stable[SLOWER:] / stable[TIMED]
        unacceptable = self.borders(self.replicas).unacceptable * self._of_shares
        limit = np.where(of_stable > 0, unacceptable * of_stable, PLAIN_SHARE)
        return np.asarray(self.joined & (canary[SLOWER:] >= FEW_EVENTS) & (share > limit))

    @property
    def _of_shares(self) -> Array:
        """What makes ratios of shares with TINY added those of the shares as they are, shape (bounds,)."""
        share = smoothed_shares(self._stable_slower, self._stable_timed)
        return np.asarray((share + TINY) / share)

    def assessed(self, total_bar: float, clear_bar: float) -> LatencyAssessment:
        """What was found of latency. total_bar: of the weighted total."""
        odds, bar = self.odds, bar_alone(total_bar, self.weight)
        stable, canary = self.stage_stable, self.stage_canary
        if canary[TIMED] == 0 or stable[TIMED] == 0:
            return LatencyAssessment(is_seen=False, odds=odds, bar=bar, answer=Answer.NO_DATA)
        return LatencyAssessment(
            is_seen=True,
            odds=odds,
            bar=bar,
            answer=answer_by(odds, bar, self.cleared, clear_bar, self.is_beyond),
            tolerated=1.0 + self.tolerated,
            stable_timed=float(stable[TIMED]),
            canary_timed=float(canary[TIMED]),
            mean_ratio=self.mean_ratio,
            joined=int(self.joined.sum()),
            bounds_in_all=len(self.bounds),
            cleared=self.cleared,
            mean=self._assessed_mean(total_bar),
            bounds=self._assessed_bounds(total_bar, clear_bar),
        )

    def _assessed_mean(self, total_bar: float) -> MeanAssessment | None:
        """The mean's own odds, where they say something, or its ratio does."""
        odds, ratio = odds_of(self.mean.log_odds), self.mean_ratio
        if ratio is None or (odds < UNEVEN and ratio <= self.unacceptable_mean):
            return None
        bar = bar_alone(total_bar, self.weight * MEAN_WEIGHT)
        answer = Answer.FAIL if odds >= bar else Answer.UNDECIDED
        return MeanAssessment(ratio, 1.0 + self.tolerated, self.unacceptable_mean, odds, bar, answer)

    def _assessed_bounds(self, total_bar: float, clear_bar: float) -> tuple[RateAssessment, ...]:
        rows = self._rows_that_matter()
        if not len(rows):
            return ()
        lows, highs = self.interval(rows)
        borders, of_shares, beyond = self.borders(self.replicas), self._of_shares, self._beyond()
        stable, canary = self.stage_stable, self.stage_canary
        assessed = []
        for row, low, high in zip(rows.tolist(), lows.tolist(), highs.tolist(), strict=True):
            odds = odds_of(float(self._comparisons.stage.log_odds[row]))
            cleared = odds_of(float(self._comparisons.log_cleared[row]))
            bar = bar_alone(total_bar, self.weight * float(self.bound_weights[row]))
            counts = stable[SLOWER + row], stable[TIMED], canary[SLOWER + row], canary[TIMED]
            assessed.append(
                RateAssessment(
                    bound_ms=float(self.bounds[row]),
                    rates=RateComparison(*map(float, counts)),
                    low=low,
                    high=high,
                    tolerated=float(borders.tolerated[row] * of_shares[row]),
                    tolerated_increase=TINY,
                    unacceptable=float(borders.unacceptable[row] * of_shares[row]),
                    odds=odds,
                    bar=bar,
                    cleared=cleared,
                    answer=answer_by(odds, bar, cleared, clear_bar, bool(beyond[row])),
                )
            )
        return tuple(assessed)

    def _rows_that_matter(self) -> Indices:
        """The places of the bounds worth naming, of those that joined: those with most odds against the
        canary, the lowest beyond what must be ruled out, and those nearest to stable's median and 95th
        percentile; shape (rows,), rising."""
        joined = np.flatnonzero(self.joined)
        if not len(joined):
            return np.empty(0, dtype=np.intp)
        log_odds = self._comparisons.stage.log_odds
        top = joined[np.argsort(-log_odds[joined], kind="stable")[:TOP_BOUNDS]]
        top = top[log_odds[top] > np.log(UNEVEN)]
        share = self.stage_stable[SLOWER:][joined] / max(self.stage_stable[TIMED], 1.0)
        usual = [int(joined[np.abs(share - quantile).argmin()]) for quantile in (0.5, 0.05)]
        beyond = np.flatnonzero(self._beyond())[:1]
        return np.array(sorted({*map(int, top), *map(int, beyond), *usual}), dtype=np.intp)

    def harmful_odds(self) -> float:
        """What a rollback may rest on: the less of the odds as they are, and in blocks as long as single
        replicas' trouble lasts, where the others agree when any of the slowest replicas is left out. At most
        1 if one bound alone speaks and the mean does not agree.

        That the others carry the odds to the bar by themselves is not asked: it would take half as long again
        to tell what all replicas show, and spare no more of the versions with one slow node.
        """
        whole = self._comparisons.whole
        if not self._corroborated():
            return min(1.0, self.odds)
        if self.replicas < 2:
            return self.odds
        for name in self._suspects():
            others = odds_of(self.replayed(self.replays.without(name), name))
            if others < SIBLINGS_AGREE:
                return min(self.odds, others)  # saved, and each replay costs as much as a look
        return self.lasting_odds(int(whole.log_odds.argmax()))

    def _corroborated(self) -> bool:
        mean = self.mean_ratio
        if mean is not None and mean > 1.0 + self._wanted.tolerated:
            return True
        return bool((self._comparisons.whole.log_odds >= log(CORROBORATED)).sum() >= 2)

    def _suspects(self) -> list[str]:
        """The replicas with most slow requests over their share, summed over bounds that joined."""
        share = self.stage_stable[SLOWER:] / max(self.stage_stable[TIMED], 1.0)
        surplus = {
            name: float(((replica[1:] - replica[0] * share) * self.joined).sum())
            for name, replica in self._stage_replicas.items()
        }
        return sorted(surplus, key=lambda name: (-surplus[name], name))[:SUSPECTS]

    def interval(self, rows: Indices) -> tuple[Array, Array]:
        """The anytime-valid 95% intervals of the ratio of the shares slower than each bound of `rows`: low
        and high, shape (rows,) each."""
        low, high = self._comparisons.intervals(rows)
        scale = self.borders(self.replicas).tolerated * self._of_shares
        return low * scale[rows], high * scale[rows]


def _timed(canary: Replicas) -> dict[str, Array]:
    """Timed requests of each replica with latency, then those slower than each bound; shape (1 + bounds,)."""
    return {
        name: np.concatenate(([vector[TIMED]], vector[SLOWER:]))
        for name, vector in canary.items()
        if vector[TIMED] > 0
    }
