"""The rules that people use today, written anew from their documentation, to be measured in the same worlds
as canaryd.

Each takes the counts of one minute of both versions at a time, has its own ladder, and says when it ends.
Where a document leaves a choice, the one that is kinder to the rule is taken. None of this is their code.
"""

from dataclasses import dataclass, field
from math import isnan, nan
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from canaryd.domain.counts import Counts
from canaryd.stats.arrays import Array

ROLLED_BACK, PROMOTED = "rolled back", "succeeded"


class Rule(Protocol):
    """weight: the canary's share of the traffic in the next minute, in per cent. paired: whether stable's
    counts are those of a baseline of the canary's size, beside production."""

    weight: int
    paired: bool

    def minute(self, stable: Counts, canary: Counts, bounds: tuple[float, ...]) -> str | None:
        """One minute at `weight`: ROLLED_BACK, PROMOTED or None, to go on."""


def success_rate(counts: Counts) -> float:
    """nan without a request, as Prometheus divides."""
    return 1 - counts.failures / counts.requests if counts.requests else nan


def mean_ms(counts: Counts) -> float:
    return counts.duration_ms / counts.timed if counts.timed else nan


def quantile_ms(counts: Counts, bounds: tuple[float, ...], share: float) -> float:
    """Prometheus' histogram_quantile: linear within the bucket, its lower end being 0 for the first; the last
    bound beyond it."""
    if not counts.timed:
        return nan
    rank = share * counts.timed
    for place, (bound, within) in enumerate(zip(bounds, counts.within, strict=True)):
        if within >= rank:
            below, lower = (counts.within[place - 1], bounds[place - 1]) if place else (0, 0.0)
            return lower + (bound - lower) * ((rank - below) / (within - below) if within > below else 1.0)
    return bounds[-1]


@dataclass
class Thresholds:
    """As Flagger's documentation has it (Metrics Analysis, and the canary of its Istio tutorial).

    interval 1m; request-success-rate at least 99%; request-duration, the 99th percentile, at most 500 ms;
    threshold 5: the fifth failed check rolls back; stepWeight 10 after each check that holds, up to maxWeight
    50, and then promotion. A minute without a request is a failed check; a failed check holds the weight.
    """

    weight: int = 10
    paired: bool = False
    failed: int = 0

    def minute(self, stable: Counts, canary: Counts, bounds: tuple[float, ...]) -> str | None:
        slow = quantile_ms(canary, bounds, 0.99) if bounds else 0.0
        if success_rate(canary) >= 0.99 and slow <= 500.0:  # nan is neither
            if self.weight >= 50:
                return PROMOTED
            self.weight += 10
            return None
        self.failed += 1
        return ROLLED_BACK if self.failed >= 5 else None


@dataclass
class Expression:
    """As Argo Rollouts' documentation has it (Analysis & Progressive Delivery, background analysis).

    successCondition: success rate at least 0.95; failureLimit 3: three such measurements fail the analysis,
    as the page says, which aborts; measured each minute (the example's interval is 5m, which is slower);
    setWeight 20 and 20 more every 10 minutes, until 100. A minute without a request is no success.
    """

    weight: int = 20
    paired: bool = False
    failed: int = 0
    passed: int = 0  # minutes

    def minute(self, stable: Counts, canary: Counts, bounds: tuple[float, ...]) -> str | None:
        self.passed += 1
        self.failed += not success_rate(canary) >= 0.95  # nan is not
        if self.failed >= 3:
            return ROLLED_BACK
        self.weight = 20 + 20 * (self.passed // 10)
        return PROMOTED if self.weight >= 100 else None


@dataclass
class MannWhitney:
    """As Spinnaker's documentation has Kayenta's default judge (How canary judgment works; Best practices;
    Add a canary stage).

    A baseline of the canary's size beside it, 10% of the traffic each; one-minute points of error share and
    mean latency; Mann-Whitney U at 98% confidence with a tolerance of 0.25 of the estimated shift; three
    judgements 15 minutes apart over all points so far (the lookback grows); marginal 75, pass 95 of 100: of
    two metrics one that is High leaves 50, which fails.
    """

    weight: int = 10
    paired: bool = True
    # of each metric: baseline, canary
    points: list[tuple[tuple[float, float], tuple[float, float]]] = field(default_factory=list)

    def minute(self, stable: Counts, canary: Counts, bounds: tuple[float, ...]) -> str | None:
        self.points.append(
            ((1 - success_rate(stable), 1 - success_rate(canary)), (mean_ms(stable), mean_ms(canary)))
        )
        if len(self.points) % 15:
            return None
        for metric in (0, 1):
            baseline, experiment = (
                np.array([point[metric][arm] for point in self.points if not isnan(point[metric][arm])])
                for arm in (0, 1)
            )
            if is_high(experiment, baseline):
                return ROLLED_BACK
        return PROMOTED if len(self.points) >= 45 else None


def is_high(experiment: Array, baseline: Array, confidence: float = 0.98, tolerance: float = 0.25) -> bool:
    """Whether the shift's confidence interval lies above `tolerance` times its estimate."""
    if not len(experiment) or not len(baseline) or len({*experiment, *baseline}) == 1:
        return False
    low, estimate = (shift(experiment, baseline, z) for z in (ndtri(0.5 + confidence / 2), 0.0))
    # Where most points are the same, both are 0 but for the search's last digits.
    return low - tolerance * abs(estimate) > 1e-9 * float(np.ptp(np.concatenate((experiment, baseline))))


def shift(experiment: Array, baseline: Array, z: float) -> float:
    """How far experiment lies above baseline at least, so that Mann and Whitney's statistic is z: the lower
    end of an interval, or for z = 0 Hodges and Lehmann's estimate. Normal approximation, corrected for ties
    and, but for the estimate, for continuity."""
    low, high = experiment.min() - baseline.max(), experiment.max() - baseline.min()
    continuity = 0.5 if z else 0.0
    if _statistic(experiment, baseline, low, continuity) <= z:
        return float(low)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _statistic(experiment, baseline, middle, continuity) > z else (low, middle)
        )
    return float((low + high) / 2)


def _statistic(experiment: Array, baseline: Array, shifted: float, continuity: float) -> float:
    m, n = len(experiment), len(baseline)
    moved = experiment - shifted
    ahead = np.sign(moved[:, None] - baseline)
    off = float(ahead.sum()) / 2  # U less its mean
    ties = np.unique(np.concatenate((moved, baseline)), return_counts=True)[1].astype(float)
    variance = m * n / 12 * (m + n + 1 - float((ties**3 - ties).sum()) / ((m + n) * (m + n - 1)))
    return (off - continuity * np.sign(off)) / np.sqrt(variance) if variance > 0 else 0.0


RULES: dict[str, type[Rule]] = {
    "success-rate threshold": Thresholds,
    "expression": Expression,
    "Mann-Whitney": MannWhitney,
}
