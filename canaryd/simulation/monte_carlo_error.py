"""How far numbers from a simulation may be off, since only so many runs were made."""

from collections.abc import Sequence
from math import inf

from scipy.special import bdtr, betaincinv


def exact_interval(events: int, runs: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    low = float(betaincinv(events, runs - events + 1, 0.025)) if events else 0.0
    high = float(betaincinv(events + 1, runs - events, 0.975)) if events < runs else 1.0
    return low, high


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of the values do not exceed; infinite ones count as larger than
    any. inf of none."""
    ranked = sorted(values)
    return next(
        (value for place, value in enumerate(ranked, start=1) if place >= share * len(ranked) - 1e-9), inf
    )


def quantile_interval(values: Sequence[float], share: float) -> tuple[float, float]:
    """The interval of the quantile of what the values were drawn from, at 95% at least: two of the values, or
    -inf and inf where there are too few.

    So many of n values lie below the quantile as a binomial(n, share) says, whatever the distribution (David
    and Nagaraja, Order Statistics, section 7.1).
    """
    ranked, count = sorted(values), len(values)
    low = max((place for place in range(1, count + 1) if bdtr(place - 1, count, share) <= 0.025), default=0)
    high = min(
        (place for place in range(1, count + 1) if bdtr(place - 1, count, share) >= 0.975), default=count + 1
    )
    return ranked[low - 1] if low else -inf, ranked[high - 1] if high <= count else inf
