"""Beta-binomial evidence on a ratio of two rates, with disturbed looks: the log-likelihood grid, and evidence over and below a border.

Of the K = k1 + k2 events of one look, k2 are arm 2's. At the ratio r of the rates its expected share of them is
rho = n2 r / (n1 + n2 r), whatever the common rate was in those seconds. Given K, k2 is beta-binomial with mean rho and a
concentration s (small: events come in bursts); with a chance pi the look is a disturbed one, almost all or nothing
(concentration 0.5). s and pi are not known: evidence is the mixture over what is claimed divided by the largest likelihood
of what is held against it ("universal inference", Wasserman, Ramdas and Balakrishnan, PNAS 2020), so until the data have
said how bursty events are, a burst proves nothing. Under any point of the null its expectation is at most 1 at any
stopping time. Evidence of different looks multiplies, so looks at different weights may follow each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

DISTURBED_CONCENTRATION = 0.5  # of a look in which a replica hung or a node died: nearly all its events are one arm's
# How bursty: from 3 (a handful of bursts a look) to 1e5 (independent events).
CONCENTRATIONS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e5)
DISTURBED_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3)
# Mixture weights of the same. They favour independent events and rare disturbance, which is what most services show (two looks sooner
# than with equal weights, and no later when errors do come in bursts of 4); a weight costs at most log(1/weight) of evidence, once,
# and no claim rests on it: the null takes its largest likelihood over all cells.
# Disturbance that is not rare is the null's alone. With it an alternative explains each look without an event of arm 2 as a disturbed
# one and the others by a higher ratio; where events come in large bursts neither side's model is the true one, and that misfit alone
# gathers evidence at every look (22 of 30 versions as good as stable were rolled back at 2,000 requests/s with bursts of 16).
CONCENTRATION_WEIGHTS = (0.02, 0.04, 0.08, 0.12, 0.17, 0.22, 0.35)
DISTURBED_WEIGHTS = (0.65, 0.23, 0.12, 0.0, 0.0)
# Log ratio over the border. 0 is the border itself: a border between grid points rolls tolerated canaries back. Finest near it, where
# the decision falls; coarser far off, where a posterior at the bar is wider than a step.
OVER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 3.0)
BELOW = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.1, 1.5, 2.0, 2.6)


@dataclass(frozen=True)
class Grid:
    """Log ratios, concentrations and disturbed shares; log_prior: of each log ratio (alternatives are mixed by it).

    theta: rising, 0 at index `border`. Shapes: theta (T,), concentration (S,), disturbed (P,), log_weights (S * P,).
    """

    theta: Array
    concentration: Array
    disturbed: Array
    log_prior: Array
    log_weights: Array
    border: int

    @property
    def each(self) -> Array:
        """The concentrations, and last that of a disturbed look."""
        return np.append(self.concentration, DISTURBED_CONCENTRATION)

    @property
    def cells(self) -> int:
        return len(self.concentration) * len(self.disturbed)


def a_grid(
    below: tuple[float, ...] = BELOW,
    over: tuple[float, ...] = OVER,
    concentrations: tuple[float, ...] = CONCENTRATIONS,
    disturbed: tuple[float, ...] = DISTURBED_SHARES,
) -> Grid:
    """A grid with the border at 0. below, over: distances from it, rising, > 0; the prior is a normal of sd 1 in log ratio.

    Concentrations and disturbed shares other than the default ones are weighted equally.
    """
    theta = np.array([*(-one for one in reversed(below)), 0.0, *over])
    density = np.exp(-0.5 * theta**2) * np.gradient(theta)
    s_weights = CONCENTRATION_WEIGHTS if concentrations == CONCENTRATIONS else _equal(concentrations)
    p_weights = DISTURBED_WEIGHTS if disturbed == DISTURBED_SHARES else _equal(disturbed)
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.outer(s_weights, p_weights)).ravel()  # -inf: the null's alone
    return Grid(theta, np.array(concentrations), np.array(disturbed), np.log(density), log_weights, len(below))


def _equal(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1.0 / len(values) for _ in values)


def log_likelihood(grid: Grid, events1: Array, events2: Array, requests1: Array, requests2: Array, ratio: Array) -> Array:
    """Log-likelihood of one look (or block) up to a constant of each comparison, shape (comparisons, T, S * P).

    events, requests: shape (comparisons,), >= 0; events1 may hold fractions (pseudo-events), requests must be > 0.
    ratio: the border, > 0: theta = 0 is this ratio. The binomial coefficient is the same in every cell and left out; the largest
    cell of each comparison is 0, so that long sums keep their precision.
    """
    log_odds = (np.log(requests2 / requests1) + np.log(ratio))[:, None] + grid.theta
    share = 1.0 / (1.0 + np.exp(-log_odds))
    each = _beta_binomial(events1, events2, share[:, :, None], grid.each)
    usual, disturbed = each[..., :-1], each[..., -1:]
    # Of the two, the likelier is taken out before exp: in a look of thousands of events they lie thousands apart.
    higher = np.maximum(usual, disturbed)
    usual, disturbed = np.exp(usual - higher), np.exp(disturbed - higher)
    pi = grid.disturbed
    mixed = np.empty((*higher.shape, len(pi)))
    np.multiply(disturbed[..., None], pi, out=mixed)
    mixed += usual[..., None] * (1.0 - pi)
    with np.errstate(divide="ignore"):
        np.log(mixed, out=mixed)  # -inf: all usual, and impossible so
    mixed += higher[..., None]
    mixed = mixed.reshape(len(share), len(grid.theta), grid.cells)
    mixed -= mixed.max(axis=(1, 2), keepdims=True)
    return mixed


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


def log_evidence_over(grid: Grid, log_lik: Array) -> Array:
    """Log evidence that the ratio is over the border, against "at most the border"; shape (comparisons,).

    log_lik: sums of `log_likelihood` over looks, shape (comparisons, T, S * P).
    """
    return _mixture_over_largest(grid, log_lik, slice(grid.border + 1, None), slice(None, grid.border + 1))


def log_evidence_below(grid: Grid, log_lik: Array) -> Array:
    """Log evidence that the ratio is below the border, against "at least the border"; shape (comparisons,)."""
    return _mixture_over_largest(grid, log_lik, slice(None, grid.border), slice(grid.border, None))


def _mixture_over_largest(grid: Grid, log_lik: Array, claimed: slice, null: slice) -> Array:
    prior = grid.log_prior[claimed]
    weights = (prior - np.logaddexp.reduce(prior))[:, None] + grid.log_weights
    weighted = log_lik[:, claimed] + weights
    largest = weighted.max(axis=(1, 2))
    weighted -= largest[:, None, None]
    mixture = np.log(np.exp(weighted, out=weighted).sum(axis=(1, 2))) + largest
    return np.asarray(mixture - log_lik[:, null].max(axis=(1, 2)))
