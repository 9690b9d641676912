"""Evidence that a ratio is over its border, now or from some look on: one mixture over when it began, how
large it is, and the unknown.

A version may be worse from the start, with the next stage's load, or after an hour. So what is set against
"never over the border" is a mixture over the look at which the ratio rises, over how far it rises, and over
the cells of the grid; at each look a fixed share of what is still healthy turns (the "fixed share" of
Herbster and Warmuth, Machine Learning 32, 1998). Divided by the largest likelihood of the null ("universal
inference", Wasserman, Ramdas and Balakrishnan, PNAS 2020) its expectation under any point of the null is at
most 1 at any stopping time, so it exceeds 1/alpha with chance at most alpha, ever (Ville). A fault after an
hour costs log(1/share of that look), about five nats, however good the hour was; processes begun anew every
so often would cost as much and be old already when it begins.

**The null** is the ratio at or below the border; and beside it, where replicas of one version differ from
each other, the same version once more, its replicas drawn anew: a ratio that luck alone brings, by its
distribution (`between_replicas.luck`). A fixed tolerance as wide as luck's quantile would make harm beyond it
hardly cheaper to find (1% to 2% would need three times the requests, with three replicas each); the
distribution gives luck its due and no more.

**The past** of stable says which cells are likely (`betabinomial.log_past`); it enters both sides, as data
that came before, so the null may leave it only at the price of what the past says against it, and the
alternative need not be spread over what the past refutes.
"""

import numpy as np

from canaryd.stats.arrays import Array, Single
from canaryd.stats.betabinomial import Grid

AT_ONCE = 0.75  # of the mixture: worse from the first look on
AT_STAGE = 0.15  # of what is healthy turns when a stage begins: some faults show only under load
HAZARD, HAZARD_LOOKS = (
    1.0,
    60.0,
)  # and HAZARD / (looks + HAZARD_LOOKS) at each look: half of it in the first 60, and never all of it
LEAST_MASS = np.float32(1e-30)  # what single precision would lose for ever


def hazard(units: int) -> float:
    """The share of what is healthy that turns at the look after `units` looks."""
    return HAZARD / (units + HAZARD_LOOKS)


def initial(grid: Grid, log_past: Single) -> Single:
    """The mixture before the first look: what is healthy, then what is worse by each log ratio over the
    border.

    log_past: shape (comparisons, cells). Shape (comparisons, 1 + log ratios over the border, cells), each
    comparison summing to 1.
    """
    cells = grid.weights * np.exp(log_past.astype(np.float64))
    cells /= cells.sum(axis=1, keepdims=True)
    sizes = np.concatenate(([1.0 - AT_ONCE], AT_ONCE * grid.prior[grid.border + 1 :]))
    return np.asarray(sizes[:, None] * cells[:, None, :], dtype=np.float32)


def step(grid: Grid, mass: Single, log_lik: Single, turning: Array) -> tuple[Single, Array]:
    """One look further: the mixture after it, summing to 1, and the log of what it gained, shape
    (comparisons,).

    mass: shape (comparisons, 1 + O, cells); log_lik: of the look, shape (comparisons, T, cells); turning: the
    share of what is healthy that turns before it, shape (comparisons,). mass is changed.
    """
    mass[:, 1:] += (turning[:, None] * grid.prior[grid.border + 1 :]).astype(np.float32)[:, :, None] * mass[
        :, :1
    ]
    mass[:, 0] *= (1.0 - turning).astype(np.float32)[:, None]
    np.maximum(mass, LEAST_MASS, out=mass)
    likelihood = log_lik[:, grid.border :]
    largest = likelihood.max(axis=(1, 2))
    mass *= np.exp(likelihood - largest[:, None, None])
    total = mass.sum(axis=(1, 2), dtype=np.float64)
    mass /= total.astype(np.float32)[:, None, None]
    return mass, np.log(total) + largest


def log_null(grid: Grid, log_lik: Single, log_past: Single, log_luck: Single) -> Array:
    """Log of the null's largest likelihood, shape (comparisons,).

    log_lik: sums over looks, shape (comparisons, T, cells). log_luck: of the border and the log ratios next
    over it, shape (comparisons, L), each comparison's exponentials summing to at most 1. Of each cell the
    larger counts: the best ratio at or below the border, or the average over luck.
    """
    border = grid.border
    kept = log_lik[:, : border + 1].max(axis=1)
    lucky = log_lik[:, border : border + log_luck.shape[1]] + log_luck[:, :, None]
    largest = lucky.max(axis=1)
    average = np.log(np.exp(lucky - largest[:, None]).sum(axis=1)) + largest
    return np.asarray((np.maximum(kept, average) + log_past).max(axis=1), dtype=np.float64)


def log_evidence_below(
    grid: Grid, prior: Array, log_lik: Single, log_past: Single, log_luck: Single | None = None
) -> Array:
    """Log evidence that the ratio is below the border, against "at least the border"; shape (comparisons,).

    prior: of the log ratios below it, shape (comparisons, border), each summing to 1. log_lik, log_past: as
    above. log_luck: of the log ratios up to the border, it included, shape (comparisons, border + 1): how
    likely luck makes a ratio at the border look so. Of each cell the larger counts then, as for harm: the
    best ratio at the border or above, or the average over luck.
    """
    cells = np.log(np.maximum(grid.weights, 1e-30)).astype(np.float32) + log_past
    cells -= np.log(np.exp(cells).sum(axis=1, keepdims=True))
    claimed = log_lik[:, : grid.border] + cells[:, None] + np.log(prior).astype(np.float32)[:, :, None]
    largest = claimed.max(axis=(1, 2))
    mixture = np.log(np.exp(claimed - largest[:, None, None]).sum(axis=(1, 2), dtype=np.float64)) + largest
    null = log_lik[:, grid.border :].max(axis=1)
    if log_luck is not None:
        hidden = np.concatenate((log_lik[:, : grid.border], null[:, None]), axis=1) + log_luck[:, :, None]
        null = np.maximum(null, np.logaddexp.reduce(hidden, axis=1))
    return np.asarray(mixture - (null + log_past).max(axis=1))
