"""Evidence by betting on numbers without counts behind them: two versions' values of one query, look by look.

**The score.** `(c - b) / (|c| + |b|)`, where `b` is stable's value and what is tolerated on top of it: in
[-1, 1] whatever the unit, and above 0 where the canary is worse than tolerated (for positive values it is
`tanh(log(c / b) / 2)`). Scores of a block's looks are averaged.

**The null.** A block's score, put through an odd function that was fixed before the block (it is divided by a
scale, and cut off at -1 and 1), has an expectation of at most 0, given everything before the block. So it is
where the two versions could change places: exchanging them turns the score of `tolerated = 0` into its
negative, whatever the distribution (no variance, no tail is assumed), and a tolerance only lowers it. A
canary that is worse, but within the tolerance, is below 0 as well as long as its noise is symmetric (on a log
scale, for positive values). Then each stake's wealth is a supermartingale, and exceeds 1/alpha with chance at
most alpha, ever (Ville; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS-B 2024).

**What the null needs.** Gauges drift: given the last look, two equal versions of which one happens to be
higher are not exchangeable, and will not be for as long as the drift lasts. Hence blocks, several correlation
times long: what is left between blocks is small, not zero. A statistic that is not of the same kind on both
sides (the mean of one pod against the mean of ten, where noise is skewed) is not exchangeable either, nor is
what depends on how much traffic a version has.

**The scale** is the median size of the blocks' scores so far. So a difference of 20% counts in full where
looks differ by 5%, and hardly where they differ by 50%; and as no block can more than double the wealth, no
single look decides anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

import numpy as np

from canaryd.stats.arrays import Array
from canaryd.stats.blocks import TREND, summed_autocorrelation

# small ones for small harm that lasts, large ones for the plain kind
STAKES = np.array([0.05, 0.2, 0.5, 0.95])
FEWEST_PAST = 60  # values of one version from which its spread is told


def score(canary: float, stable: float, tolerated: float) -> float:
    """How much worse than tolerated the canary is, where higher is worse; in [-1, 1].

    tolerated: relative to stable's size, so `stable + tolerated * |stable|` is the border, also below zero.
    Both zero: 0, there is no difference; only one zero: -1 or 1. Infinities are larger than everything, and
    equal to themselves. No NaN.
    """
    border = stable + tolerated * abs(stable) if isfinite(stable) else stable
    if not (isfinite(canary) and isfinite(border)):
        return float((canary > border) - (canary < border))
    size = max(abs(canary), abs(border))  # first divided by it: a sum of two large values would be infinite
    return (canary / size - border / size) / (abs(canary / size) + abs(border / size)) if size > 0 else 0.0


def log_gains(block: float, scale: float) -> Array:
    """Log gain of each stake from one block's mean score. scale: of scores, > 0, known before the block."""
    return np.asarray(np.log1p(STAKES * min(1.0, max(-1.0, block / scale))))


def correlation_time(values: Array, trend: bool = True) -> float:
    """tau = 1 + 2 * (sum of autocorrelations), in looks, of a gauge's ranks; shape (looks,), NaN where there
    is none.

    Ranks, so that a few outliers do not hide what lasts. With `trend` the local average over TREND looks is
    taken off first: slower swings act on both versions alike. The sum runs to the first autocorrelation of at
    most 2/sqrt(looks). With fewer than 20 values, or nothing that varies, 1.
    """
    values = values[~np.isnan(values)]
    if len(values) < 20:
        return 1.0
    ranks = np.searchsorted(np.sort(values), values, "left") + np.searchsorted(
        np.sort(values), values, "right"
    )
    residual = ranks - ranks.mean()
    if trend:
        window = np.ones(min(TREND, len(values)))
        residual = ranks - np.convolve(ranks, window, "same") / np.convolve(
            np.ones(len(values)), window, "same"
        )
    return summed_autocorrelation(residual - residual.mean())


@dataclass(frozen=True, slots=True)
class Spread:
    """How far equal versions drift apart, in scores: the root mean square distance of two looks far apart in
    time; the mean step of that distance from one look to the next (what of it is noise of single looks); and
    how many independent looks it was told from."""

    distance: float
    step: float
    looks: float


def spread(values: Array) -> Spread | None:
    """From one version's own past: pairs of looks half of it apart. None from fewer than FEWEST_PAST values,
    in which slow drift would not show. values: shape (looks,), NaN where there is none."""
    values = values[~np.isnan(values)]
    half = len(values) // 2
    if len(values) < FEWEST_PAST:
        return None
    apart = [
        score(float(early), float(other), 0.0)
        for early, other in zip(values[:half], values[half:], strict=False)
    ]
    tau = correlation_time(values, trend=False)
    return Spread(sqrt(sum(distance * distance for distance in apart) / half), step(apart), len(values) / tau)


def step(scores: Sequence[float]) -> float:
    """Mean size of the steps from one look's score to the next: what single looks' noise makes of it,
    whatever the level or its drift. A level that changes once hardly counts. 0 for fewer than two."""
    return (
        sum(abs(after - before) for before, after in pairwise(scores)) / (len(scores) - 1)
        if len(scores) > 1
        else 0.0
    )
