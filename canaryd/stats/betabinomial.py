"""Beta-binomial likelihood of a ratio of two rates, with disturbed looks, on a grid.

Of the K = k1 + k2 events of one look, k2 are arm 2's. At the ratio r of the rates its expected share of them
is rho = n2 r / (n1 + n2 r), whatever the common rate was in those seconds. Given K, k2 is beta-binomial with
mean rho and a concentration s (small: events come in bursts); with a chance pi the look is a disturbed one: a
replica of one version hung, or a node died. Such a look has more events than usual, and says nothing of the
ratio: either version's replicas hang as often, however little of the traffic is theirs, so its events are
split in any way, most often nearly all or nothing. s and pi are not known, so each pair of them is a cell of
the grid; what is made of the cells is in `changepoint.py`. Looks multiply, so looks at different weights may
follow each other.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, gammaln

from canaryd.stats.arrays import Array, Single

DISTURBED = 0.5  # both parameters of the beta-binomial split of a disturbed look: the arcsine law
# How bursty: from 1.5 (one or two bursts a look) to independent events (infinite: binomial). With 3 as the
# least, 14 of 200 versions as good as stable were rolled back at 6% errors in bursts of 16, where a look has
# two bursts: an even split is then the rarest. With 1.5 none of 300 were; a fault in bursts of 4 takes 5.5
# minutes instead of 4.7 (with 0.7 it takes 6.2). Steps of two to five change nothing that could be measured
# against steps of three; what twice the cells cost was half of the speed.
CONCENTRATIONS = (1.5, 3.0, 12.0, 50.0, 300.0, np.inf)
DISTURBED_SHARES = (0.0, 0.01, 0.04, 0.2)
# Mixture weights of the same, where the past says nothing. They favour independent events and rare
# disturbance, which is what most services show; a weight costs at most log(1/weight) of evidence, once, and
# no claim rests on it: the null takes its largest likelihood over all cells. Disturbance that is not rare is
# the null's alone. With it an alternative explains each look without an event of arm 2 as a disturbed one and
# the others by a higher ratio; where events come in large bursts neither side's model is the true one, and
# that misfit alone gathers evidence at every look (22 of 30 versions as good as stable were rolled back at
# 2,000 requests/s with bursts of 16).
CONCENTRATION_WEIGHTS = (0.03, 0.04, 0.10, 0.16, 0.24, 0.43)
DISTURBED_WEIGHTS = (0.75, 0.15, 0.1, 0.0)
# Log ratio over the border. 0 is the border itself: a border between grid points rolls tolerated canaries
# back. Finest near it, where the decision falls; coarser far off, where a posterior at the bar is wider than
# a step.
OVER = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5, 3.1)
BELOW = (0.2, 0.5, 1.0, 2.0)  # by monotony nothing but the interval needs them finer


@dataclass(frozen=True)
class Grid:
    """Log ratios over the border, and the cells of what is not known.

    theta: rising, 0 at index `border`, shape (T,); prior: of each, shape (T,), on either side of the border
    summing to 1; concentration (S,), the last may be infinite; disturbed (P,), the first is 0; weights: of
    the cells in a mixture, shape (S * P,), summing to 1.
    """

    theta: Array
    prior: Array
    concentration: Array
    disturbed: Array
    weights: Array
    border: int

    @property
    def cells(self) -> int:
        """How many cells the past is asked about: combinations of concentration and disturbance."""
        return len(self.weights)


def a_grid(
    below: tuple[float, ...] = BELOW,
    over: tuple[float, ...] = OVER,
    concentrations: tuple[float, ...] = CONCENTRATIONS,
    disturbed: tuple[float, ...] = DISTURBED_SHARES,
) -> Grid:
    """A grid with the border at 0. below, over: distances from it, rising, > 0; the prior on either side is a
    normal of sd 1 in log ratio, with a tenth spread evenly over the grid so that the plainest harm is not the
    least expected.

    Concentrations and disturbed shares other than the default ones are weighted equally.
    """
    theta = np.array([*(-distance for distance in reversed(below)), 0.0, *over])
    density = np.exp(-0.5 * theta**2) * np.gradient(theta)
    prior = np.zeros(len(theta))
    for side in (theta < 0, theta > 0):
        prior[side] = 0.9 * density[side] / density[side].sum() + 0.1 / side.sum()
    s_weights = CONCENTRATION_WEIGHTS if concentrations == CONCENTRATIONS else _equal(concentrations)
    p_weights = DISTURBED_WEIGHTS if disturbed == DISTURBED_SHARES else _equal(disturbed)
    weights = np.outer(s_weights, p_weights).ravel()
    return Grid(theta, prior, np.array(concentrations), np.array(disturbed), weights, len(below))


def _equal(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1.0 / len(values) for _ in values)


def log_likelihood(
    grid: Grid,
    theta: Array,
    events1: Array,
    events2: Array,
    requests1: Array,
    requests2: Array,
    ratio: Array,
    usual: Array,
) -> Single:
    """Log-likelihood of one look (or block) up to a constant of each comparison, shape (comparisons, T, S *
    P).

    theta: log ratios over the border, shape (T,), or (comparisons, T) where comparisons differ. events,
    requests: shape (comparisons,), >= 0; events1 may hold fractions (pseudo-events), requests must be > 0.
    ratio: the border, > 0: theta = 0 is this ratio. usual: the largest number of events of a look that is not
    disturbed for sure, shape (comparisons,); 0 where that is not known. The binomial coefficient is the same
    in every cell and left out; the largest cell of each comparison is 0, so that long sums keep their
    precision (in single precision: what it costs is a hundred-thousandth of a nat a look).
    """
    log_odds = np.log(requests2 * ratio / requests1)[:, None] + theta
    log_share = -np.logaddexp(0.0, -log_odds)  # of arm 2
    plain = np.empty((*log_odds.shape, len(grid.concentration)))
    finite = grid.concentration[np.isfinite(grid.concentration)]
    plain[..., : len(finite)] = _beta_binomial(events1, events2, np.exp(log_share)[:, :, None], finite)
    if len(finite) < len(grid.concentration):
        plain[..., -1] = events2[:, None] * log_share + events1[:, None] * (log_share - log_odds)
    # One scale for all cells, so that what is left for single precision is what a reader could care about.
    largest = plain.max(axis=(1, 2))
    plain -= largest[:, None, None]
    mixed = np.asarray(plain[..., None] + np.log1p(-grid.disturbed), dtype=np.float32)
    rows = np.flatnonzero(events1 + events2 > usual)
    if len(rows):
        k1, k2 = events1[rows], events2[rows]
        split = betaln(k2 + DISTURBED, k1 + DISTURBED) - betaln(DISTURBED, DISTURBED) - largest[rows]
        with np.errstate(divide="ignore"):
            disturbed = (split[:, None] + np.log(grid.disturbed)).astype(np.float32)
        mixed[rows] = np.logaddexp(mixed[rows], disturbed[:, None, None, :])
    result = mixed.reshape(*log_odds.shape, grid.cells)
    return np.asarray(result - result.max(axis=(1, 2), keepdims=True))


def _beta_binomial(events1: Array, events2: Array, share: Array, concentration: Array) -> Array:
    """log B(k2 + rho s, k1 + (1 - rho) s) - log B(rho s, (1 - rho) s), shape (comparisons, T, S)."""
    a2 = share * concentration
    a1 = concentration - a2
    k1, k2 = events1[:, None, None], events2[:, None, None]
    rising = gammaln(a2 + k2)
    rising -= gammaln(a2)
    rising += gammaln(a1 + k1)
    rising -= gammaln(a1)
    rising -= gammaln(concentration + k1 + k2) - gammaln(concentration)
    return np.asarray(rising)


# Nats at most by which the past speaks against a cell: rare trouble may not have come in it, and a version
# may be burstier than the one before it (the healthy worlds "independent ones before" are such). A fault
# after ten minutes is found a look of 15 s sooner than at 3.
PAST_LIMIT = 6.0
# The same for concentrations below BURSTY: a look that holds one burst or two is so unlike independent events
# that a past of an hour without them says more.
BURSTIEST_LIMIT, BURSTY = 12.0, 2.0


def usual_size(events: Array) -> Array:
    """The largest number of events of a look that is not disturbed for sure; events: of a past, shape (looks,
    comparisons). 0 of none.

    Hardly more than usual: what one replica of the smaller version adds when it hangs is not much.
    """
    if not len(events):
        return np.zeros(events.shape[1])
    usual = np.quantile(events, 0.75, axis=0)
    return np.asarray(usual + 1.5 * np.sqrt(usual) + 1.0)


def log_past(grid: Grid, events: Array, requests: Array) -> Single:
    """What one version's own past says of each cell, at most 0 and at least -PAST_LIMIT (-BURSTIEST_LIMIT
    where the concentration is below BURSTY), shape (comparisons, S * P); 0 where it says nothing.

    events: per look (or block), shape (looks, comparisons); requests: shape (looks,). Of two looks that
    follow each other the second's share of their events is as random as that of a second version that is as
    good, or more: what changes from look to look is the version's own trouble and the hour's, of which only
    the first remains in a comparison. A pair holds the events of two looks and a comparison those of one;
    events in bursts have a concentration in proportion to their number, hence the 2.
    """
    pairs = len(requests) // 2
    first, second = events[: 2 * pairs : 2], events[1 : 2 * pairs : 2]
    n1, n2 = requests[: 2 * pairs : 2], requests[1 : 2 * pairs : 2]
    total = np.zeros((events.shape[1], grid.cells))
    at, of = np.nonzero((first + second > 0) & ((n1 > 0) & (n2 > 0))[:, None])
    if len(at):
        twice = Grid(
            grid.theta, grid.prior, 2.0 * grid.concentration, grid.disturbed, grid.weights, grid.border
        )
        ratio, usual = np.ones(len(at)), 2.0 * usual_size(events)[of]
        log_likelihoods = log_likelihood(
            twice, np.zeros(1), first[at, of], second[at, of], n1[at], n2[at], ratio, usual
        )[:, 0]
        np.add.at(total, of, log_likelihoods)
    total -= total.max(axis=1, keepdims=True)
    limits = np.where(grid.concentration < BURSTY, BURSTIEST_LIMIT, PAST_LIMIT)
    return np.asarray(np.maximum(total, -np.repeat(limits, len(grid.disturbed))), dtype=np.float32)
