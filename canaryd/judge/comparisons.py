"""Evidence of many comparisons at once, gathered look by look: against harm over the rollout and in this
stage, and for passing it.

What is gathered over the rollout knows that harm may begin at any look, and above all with a stage
(`stats/changepoint.py`). What a stage shows by itself begins anew with it. Nothing here knows what is
compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from canaryd.stats.arrays import Array, Indices, Rows, Single
from canaryd.stats.betabinomial import a_grid, log_likelihood
from canaryd.stats.betting import log_gains_on_share, log_total, purse, staked
from canaryd.stats.changepoint import AT_STAGE, hazard, initial, log_evidence_below, log_null, step
from canaryd.stats.intervals import log_ratio_interval

HARM = a_grid()
# Clearing asks about far smaller ratios than the border only; what lies over it is the null, and may be
# coarse. As many points as HARM has, so that both are one call.
CLEAR = a_grid(
    below=(0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.4, 1.75, 2.1, 2.5), over=(0.2, 0.5, 1.0, 2.0)
)
GRIDS = np.array([HARM.theta, CLEAR.theta])
LUCKY = 7  # log ratios from the border on that replicas' luck may reach
# of the beta-binomial ratio in the average; the bet, slower and needing least, has the rest
RATIO_WEIGHT = 0.95
EXPECTED_WEIGHT, EXPECTED_SD = (
    0.9,
    0.15,
)  # of the part of a clearing's mixture that lies where a good canary is expected


@dataclass(frozen=True, slots=True)
class Unit:
    """A look, or a closed block of looks: what was counted, and what is tolerated. Arrays of shape
    (comparisons,).

    joined: which comparisons take part. tolerated: the ratio at the border; pseudo: events per stable request
    that are added on stable's side (an absolute tolerance, made a ratio); unacceptable, unacceptable_pseudo:
    the same for what the stage must rule out.
    log_luck: of the log ratios over the border that luck brings, shape (comparisons, LUCKY or more); lucky:
    the ratio over the border that luck hardly ever exceeds, at least 1, for the bet, which knows no
    distributions. hidden: where users are drawn, of the log ratios from what must be ruled out down, how
    likely luck makes it look so (`cluster_randomization.luck_below`).
    """

    joined: Rows
    stable_events: Array
    stable_requests: float
    canary_events: Array
    canary_requests: float
    tolerated: Array
    pseudo: Array
    unacceptable: Array
    unacceptable_pseudo: Array
    log_luck: Single
    lucky: Array
    hidden: Single | None = None


class Gathered:
    """What one stretch of looks has shown. log_odds: against the canary, of each comparison, as of the last
    unit; the rest is as `stats/changepoint.py` and `stats/betting.py` have it."""

    def __init__(self, log_past: Single, carried: Array | None = None) -> None:
        """carried: log odds that are there already, shape (comparisons,); none if it is None."""
        count = len(log_past)
        carried = np.zeros(count) if carried is None else carried
        self._units, self._turning = 0, 0.0
        self._kept = np.ones(count)  # of what was healthy when a comparison last learned something
        self.mass = initial(HARM, log_past)
        self.scale = carried.copy()
        self.purse = purse(count) + carried[:, None]
        self.log_likelihood = np.zeros((count, len(HARM.theta), HARM.cells), dtype=np.float32)
        self.log_odds = carried.copy()

    def new_stage(self) -> None:
        """Harm may well begin here."""
        self._turning = max(self._turning, AT_STAGE)

    def turning(self, rows: Indices) -> Array:
        """The share of what is healthy that turned in each of these comparisons since it last learned
        something, this unit included."""
        self._kept *= 1.0 - max(self._turning, hazard(self._units))
        self._turning, self._units = 0.0, self._units + 1
        turned = 1.0 - self._kept[rows]
        self._kept[rows] = 1.0
        return turned


class Comparisons:
    """The evidence of some comparisons. cap: largest number of events of a unit so far, stable's past
    included; log_past: what that past says of the cells, shape (comparisons, cells), and usual: which number
    of events is usual. clearing=False: nothing is gathered for passing."""

    def __init__(self, cap: Array, log_past: Single, usual: Array, clearing: bool = True) -> None:
        self.cap, self.log_past, self.usual, self.clearing = cap, log_past, usual, clearing
        self.burst, self.clear_past, self.clear_usual = np.ones(len(cap)), log_past, usual
        self.clear_prior = np.tile(CLEAR.prior[: CLEAR.border], (len(cap), 1))
        self.whole = self.stage = Gathered(log_past)
        self._has_evidence = False
        self._begin_clearing()

    def in_bursts(self, burst: Array, log_past: Single, usual: Array) -> None:
        """Counts so many events as one for passing. burst: >= 1, shape (comparisons,); log_past, usual: of
        the past when it is so counted.

        No beta-binomial split is as wide as that of one large burst, which falls on one version whole.
        Against harm that is the null's excuse; what must be ruled out to pass has none, and one of twelve
        twofold rates in bursts of 16 passed early.
        """
        self.burst, self.clear_past, self.clear_usual = burst, log_past, usual

    def begin_stage(self, alarmed: bool = False) -> None:
        """The stage's own evidence, against harm and for clearing, begins anew. alarmed: an alarm led back to
        it. Then what the good record before has cost is given back: the alarm raises the odds of the rollout
        to neutral at most, from where they begin anew."""
        if self._has_evidence:
            self.stage = Gathered(self.log_past)
            if alarmed:
                self.whole = Gathered(self.log_past, np.maximum(self.whole.log_odds, 0.0))
            else:
                self.whole.new_stage()
            self._begin_clearing()

    def expect(self, distance: Array) -> None:
        """How far below what must be ruled out a good canary is expected, in log ratio, shape (comparisons,):
        there the stage's clearing looks most.

        A stage must rule out a fivefold rate, another a twofold one, and a good canary's is onefold: to mix
        evenly over all smaller ratios costs a healthy version a minute and a half on its way. The prior has
        to be set before the stage's first unit.
        """
        theta = CLEAR.theta[: CLEAR.border]
        # The grid point next to a distance beyond the grid is near enough.
        near = np.exp(
            -0.5 * ((theta + np.minimum(distance, -theta[0])[:, None]) / EXPECTED_SD) ** 2
        ) * np.gradient(theta)
        near /= near.sum(axis=1, keepdims=True)
        self.clear_prior = EXPECTED_WEIGHT * near + (1 - EXPECTED_WEIGHT) * CLEAR.prior[: CLEAR.border]

    def _begin_clearing(self) -> None:
        self.clear_likelihood = np.zeros((len(self.cap), len(CLEAR.theta), CLEAR.cells), dtype=np.float32)
        self.log_cleared = np.zeros(len(self.cap))

    @property
    def has_evidence(self) -> bool:
        """Whether any unit was folded."""
        return self._has_evidence

    @property
    def gathering(self) -> tuple[Gathered, ...]:
        """What gathers now: the whole rollout's evidence, and the stage's where that is another."""
        return (self.whole,) if self.stage is self.whole else (self.whole, self.stage)

    def fold(self, unit: Unit) -> None:
        """Gathers one unit's evidence."""
        fold_all([(self, unit)])

    def intervals(self, rows: Indices) -> tuple[Array, Array]:
        """Anytime-valid 95% intervals of the ratio over what is tolerated, from the stage's own units: low
        and high, shape (rows,) each."""
        low, high = log_ratio_interval(HARM, self.stage.log_likelihood[rows], self.log_past[rows])
        return np.exp(low), np.exp(high)

    def _take(self, unit: Unit) -> "_Part | None":
        self._has_evidence = True
        n1, n2 = unit.stable_requests, unit.canary_requests
        if n1 <= 0 or n2 <= 0:
            return None
        with_pseudo = unit.stable_events + n1 * unit.pseudo
        rows = np.flatnonzero(unit.joined & (with_pseudo + unit.canary_events > 0))
        cleared, clear_rows = with_pseudo[:0], rows[:0]
        if self.clearing:
            cleared = unit.stable_events + n1 * unit.unacceptable_pseudo
            clear_rows = np.flatnonzero(unit.joined & (cleared + unit.canary_events > 0))
        cap = self.cap[rows]
        self.cap = np.maximum(self.cap, with_pseudo + unit.canary_events)
        if len(rows) + len(clear_rows) == 0:
            return None
        return _Part(self, unit, rows, clear_rows, with_pseudo[rows], cleared[clear_rows], cap)


@dataclass(slots=True)
class _Part:
    """What one unit brings to one set of comparisons: rows that learn of harm, and for clearing; stable's
    events in each; their caps."""

    comparisons: Comparisons
    unit: Unit
    rows: Indices
    clear_rows: Indices
    events: Array
    clear_events: Array
    cap: Array


def fold_all(units: Iterable[tuple[Comparisons, Unit]]) -> None:
    """Each set of comparisons gathers its unit's evidence, all of them in one go. A comparison without an
    event, or without requests on either side, learns nothing. A set must not come twice.

    What a look costs is for the most part the calls, not the numbers: a metric alone costs nearly as much as
    ten rollouts together.
    """
    parts = [part for comparisons, unit in units if (part := comparisons._take(unit)) is not None]
    if not parts:
        return
    harm, clear = [len(part.rows) for part in parts], [len(part.clear_rows) for part in parts]
    total = sum(harm)
    taken = [part.rows for part in parts], [part.clear_rows for part in parts]
    k1 = np.concatenate([part.events for part in parts] + [part.clear_events for part in parts])
    k2 = np.concatenate(
        [
            part.unit.canary_events[rows]
            for rows_of_parts in taken
            for part, rows in zip(parts, rows_of_parts, strict=True)
        ]
    )
    n1, n2 = (
        np.repeat([getattr(part.unit, side) for part in parts] * 2, harm + clear)
        for side in ("stable_requests", "canary_requests")
    )
    ratio = np.concatenate(
        [part.unit.tolerated[part.rows] for part in parts]
        + [part.unit.unacceptable[part.clear_rows] for part in parts]
    )
    theta = np.repeat(GRIDS, [total, sum(clear)], axis=0)
    usual = np.concatenate(
        [part.comparisons.usual[part.rows] for part in parts]
        + [part.comparisons.clear_usual[part.clear_rows] for part in parts]
    )
    burst = np.concatenate([np.ones(total)] + [part.comparisons.burst[part.clear_rows] for part in parts])
    log_lik = log_likelihood(HARM, theta, k1 / burst, k2 / burst, n1, n2, ratio, usual)
    if total:
        cap = np.concatenate([part.cap for part in parts])
        border = ratio[:total] * np.concatenate([part.unit.lucky[part.rows] for part in parts])
        gains = log_gains_on_share(k1[:total], k2[:total], n1[:total], n2[:total], border, cap)
        _gather(parts, harm, log_lik[:total], gains)
    if sum(clear):
        _clear(parts, clear, log_lik[total:])


def _gather(parts: list[_Part], lengths: list[int], log_lik: Single, gains: Array) -> None:
    """What was found about harm, to the whole rollout's and to the stage's own evidence."""
    starts = np.cumsum([0, *lengths])
    work = [
        (part, gathered, start, start + length)
        for part, start, length in zip(parts, starts, lengths, strict=False)
        if length
        for gathered in part.comparisons.gathering
    ]
    gathering_counts = [len(part.comparisons.gathering) for part in parts]
    if any(count > 1 for count in gathering_counts):
        at = np.concatenate([np.arange(start, end) for _, _, start, end in work])
        log_lik, gains = log_lik[at], gains[at]
    turning = np.concatenate([gathered.turning(part.rows) for part, gathered, _, _ in work])
    mass, gained = step(
        HARM, np.concatenate([gathered.mass[part.rows] for part, gathered, _, _ in work]), log_lik, turning
    )
    scale = np.concatenate([gathered.scale[part.rows] for part, gathered, _, _ in work]) + gained
    kept = staked(
        np.concatenate([gathered.purse[part.rows] for part, gathered, _, _ in work]), gains, turning
    )
    likelihood = (
        np.concatenate([gathered.log_likelihood[part.rows] for part, gathered, _, _ in work]) + log_lik
    )
    past = np.concatenate([part.comparisons.log_past[part.rows] for part, _, _, _ in work])
    luck = _as_wide([part.unit.log_luck[part.rows] for part, _, _, _ in work])
    ratio = scale - log_null(HARM, likelihood, past, luck)
    odds = np.logaddexp(ratio + np.log(RATIO_WEIGHT), log_total(kept) + np.log(1 - RATIO_WEIGHT))
    place = 0
    for part, gathered, start, end in work:
        here, rows = slice(place, place + end - start), part.rows
        gathered.mass[rows], gathered.scale[rows], gathered.purse[rows] = mass[here], scale[here], kept[here]
        gathered.log_likelihood[rows], gathered.log_odds[rows] = likelihood[here], odds[here]
        place += end - start


def _as_wide(arrays: list[Single]) -> Single:
    """One below the other. Where luck reaches less far than in others, there is no chance of more."""
    widest = max(array.shape[1] for array in arrays)
    return np.concatenate(
        [
            array
            if array.shape[1] == widest
            else np.pad(array, ((0, 0), (0, widest - array.shape[1])), constant_values=-np.inf)
            for array in arrays
        ]
    )


def _clear(parts: list[_Part], lengths: list[int], log_lik: Single) -> None:
    """What was found about what the stages must rule out."""
    likelihood = (
        np.concatenate([part.comparisons.clear_likelihood[part.clear_rows] for part in parts]) + log_lik
    )
    past = np.concatenate([part.comparisons.clear_past[part.clear_rows] for part in parts])
    prior = np.concatenate([part.comparisons.clear_prior[part.clear_rows] for part in parts])
    cleared = log_evidence_below(CLEAR, prior, likelihood, past, _hidden(parts))
    place = 0
    for part, length in zip(parts, lengths, strict=True):
        here, rows = slice(place, place + length), part.clear_rows
        part.comparisons.clear_likelihood[rows], part.comparisons.log_cleared[rows] = (
            likelihood[here],
            cleared[here],
        )
        place += length


def _hidden(parts: list[_Part]) -> Single | None:
    """What luck hides in all rows to be cleared, shape (rows, CLEAR.border + 1); None where requests are
    drawn: then luck hides nothing."""
    if all(part.unit.hidden is None for part in parts):
        return None
    none = np.where(np.arange(CLEAR.border + 1) == CLEAR.border, 0.0, -np.inf).astype(np.float32)
    return np.concatenate(
        [
            np.tile(none, (len(part.clear_rows), 1))
            if part.unit.hidden is None
            else part.unit.hidden[part.clear_rows]
            for part in parts
        ]
    )
