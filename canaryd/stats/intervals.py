"""Intervals that hold at every look at once: what people see beside an estimate."""

import numpy as np

from canaryd.stats.arrays import Array, Single
from canaryd.stats.betabinomial import Grid


def log_ratio_interval(
    grid: Grid, log_lik: Single, log_past: Single, risk: float = 0.05
) -> tuple[Array, Array]:
    """Anytime-valid interval of the log ratio over the border, each of shape (comparisons,).

    All log ratios that the mixture over the whole grid has not refuted at 1/risk, each given its best cell;
    so a true ratio on the grid is ever left out with a chance of at most risk. Between grid points the edge
    is interpolated; an edge that is not on the grid is infinite.
    log_lik: as in betabinomial, shape (comparisons, T, S * P); log_past: shape (comparisons, S * P).
    """
    likelihood = log_lik.astype(np.float64) + log_past[:, None]
    prior = grid.prior.copy()
    prior[grid.border] = prior[[grid.border - 1, grid.border + 1]].max()
    cells = grid.weights * np.exp(log_past)
    log_prior = np.log(prior / prior.sum())[:, None] + np.log(np.maximum(grid.weights, 1e-30))
    weighted = likelihood + log_prior - np.log(cells.sum(axis=1))[:, None, None]
    largest = weighted.max(axis=(1, 2))
    mixture = np.log(np.exp(weighted - largest[:, None, None]).sum(axis=(1, 2))) + largest
    room = np.log(1.0 / risk) - (mixture[:, None] - likelihood.max(axis=2))  # >= 0: not refuted
    best = np.arange(len(room)), room.argmax(axis=1)
    kept = room >= 0
    kept[best] = True  # rounding alone could refute every point of a coarse grid
    room[best] = np.maximum(room[best], 0.0)
    first, last = kept.argmax(axis=1), kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
    low = [
        -np.inf if f == 0 else _crossing(grid.theta, row, f - 1, f)
        for row, f in zip(room, first, strict=True)
    ]
    top = len(grid.theta) - 1
    high = [
        np.inf if f == top else _crossing(grid.theta, row, f + 1, f)
        for row, f in zip(room, last, strict=True)
    ]
    return np.array(low), np.array(high)


def _crossing(theta: Array, room: Array, outside: int, inside: int) -> float:
    """Where room crosses zero between a refuted grid point and its neighbour that is not."""
    part = room[inside] / (room[inside] - room[outside])
    return float(theta[inside] + part * (theta[outside] - theta[inside]))
