"""What a cumulative latency histogram says between its bounds."""

import numpy as np
from scipy.special import ndtr, ndtri

from canaryd.stats.arrays import Array


def share_slower_than(bounds: Array, shares: Array, points: Array) -> Array:
    """Share of requests slower than each point, interpolated between bounds; shape of points.

    bounds: rising, > 0, shape (B,); shares: slower than each bound, falling, in (0, 1), shape (B,). Linear in
    the normal quantile over log latency: exact where latency is lognormal within a bucket. A chord of the
    plain share would run well above a convex tail (2% slower than b, 20% than b/2: it says 4.5% at b/1.1, a
    lognormal 2.9%), and a tolerance read from it would let a tail grow by half more than meant. Beyond the
    outer bounds the nearest bucket's slope goes on.
    """
    if len(bounds) < 2:
        return np.full(np.shape(points), shares[0] if len(shares) else 0.0)
    x, z = np.log(bounds), ndtri(np.clip(shares, 1e-12, 1 - 1e-12))
    at = np.clip(np.searchsorted(x, np.log(points)), 1, len(x) - 1)
    slope = (z[at] - z[at - 1]) / (x[at] - x[at - 1])
    return np.asarray(ndtr(z[at - 1] + slope * (np.log(points) - x[at - 1])))


def smoothed_shares(slower: Array, timed: float) -> Array:
    """Shares slower than each bound, kept off 0 and 1: half a request is added on either side. slower:
    counts, shape (B,)."""
    return np.asarray((slower + 0.5) / (timed + 1.0))


def lognormal_share_slower(bounds: Array, median: float, sigma: float) -> Array:
    """Share of requests slower than each bound where latency is lognormal; shape of bounds. median in ms,
    sigma of the log, > 0."""
    return np.asarray(ndtr((np.log(median) - np.log(bounds)) / sigma))
