"""What the luck of the draw of users brings, where each user stays on one version: lasting differences between two equal versions.

A user's requests are alike: who has a broken cart fails again and again, who has much data always waits. Counts of requests do not show
whose they are, so how alike is an assumption, the intraclass correlation of survey sampling (Kish, Survey Sampling, 1965, chapter 5): of a
rate p the part `ALIKE` of the variance p (1 - p) lies between users. Users differ in how much they send, too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

# A twentieth of the failures as from users who always fail. Usual values in surveys are 0.01 to 0.05. It and the number of users have one
# effect, ALIKE / users: whoever knows of less, or of more, says more users or fewer.
ALIKE = 0.05
BUSY = float(np.e)  # mean square of what a user sends over the square of the mean: lognormal, sd of the log 1
MILD = 10.0  # users who fail a tenth of the time are ten times as many as users who always do
NUMBERS, FEW = 40, 15.0  # of users who always fail: so many are looked at; up to so many expected ones their number is Poisson's
SIZES = np.linspace(-2.5, 2.5, 7)  # normal deviates of what they send
LATENCY_SPREAD = 2.0  # squared coefficient of variation of one request's latency


@dataclass(frozen=True, slots=True)
class UserLuck:
    """Of the log ratio of the rates of two equal versions, where all users differ: its variance, its mean (few users have a low rate as a
    rule, and a high one at times), and the largest chance of its being above 0 by a user's doing; each of shape (comparisons,).

    Where few users do all the failing: log ratios that the canary's share of them brings, and the chance of each, shape (comparisons,
    atoms).
    """

    variance: Array
    mean: Array
    most: Array
    atoms: Array
    chances: Array


def user_luck(rate: Array, stable: float, canary: float) -> UserLuck:
    """rate: of both versions, shape (comparisons,), above 0 and below 1; stable, canary: how many users each has.

    Of how users differ only the variance is assumed, and two extremes have it. All differ: an arm's rate is lognormal around the true one;
    where few users are expected who fail at all, that has too much in its tail, for no more luck is possible than the chance that the
    canary has one (Markov). Or a few always fail, and the others alike: they come as a Poisson number, each with what he sends.
    """
    own = BUSY * ALIKE * (1.0 - rate) / rate
    of_stable, of_canary = np.log1p(own / stable), np.log1p(own / canary)
    most = np.minimum(1.0, MILD * ALIKE * rate * canary)
    return UserLuck(of_stable + of_canary, (of_stable - of_canary) / 2.0, most, *_failing_users(rate, canary))


def _failing_users(rate: Array, canary: float) -> tuple[Array, Array]:
    """Log ratios, and their chances."""
    expected = ALIKE * rate * canary
    few = np.arange(NUMBERS)
    by_number = expected[:, None] ** few * np.exp(-expected[:, None] - gammaln(few + 1.0))
    deviates = np.linspace(-4.0, 4.0, NUMBERS)
    numbers = np.where(expected[:, None] <= FEW, few, np.maximum(expected[:, None] + np.sqrt(expected[:, None]) * deviates, 0.0))
    chances = np.where(expected[:, None] <= FEW, by_number, np.exp(-(deviates**2) / 2.0))
    chances /= chances.sum(axis=1, keepdims=True)
    # So many users together send as a lognormal number does that has their mean and variance (Fenton and Wilkinson).
    variance = np.log1p((BUSY - 1.0) / np.maximum(numbers, 1.0))
    sent = numbers[..., None] * np.exp(np.sqrt(variance)[..., None] * SIZES - variance[..., None] / 2.0)
    atoms = np.log(1.0 - ALIKE + sent / (rate * canary)[:, None, None])
    of_sizes = np.exp(-(SIZES**2) / 2.0)
    weights = chances[..., None] * of_sizes / of_sizes.sum()
    return atoms.reshape(len(rate), -1), weights.reshape(len(rate), -1)


def mean_variance(stable: float, canary: float) -> float:
    """Of the log of the ratio of two equal versions' mean latencies."""
    return BUSY * ALIKE * LATENCY_SPREAD * (1.0 / stable + 1.0 / canary)


def share_sd(users: float, share: float) -> float:
    """Standard deviation of the share of the requests that a `share` of the users send."""
    return float(np.sqrt(share * (1.0 - share) * BUSY / users))
