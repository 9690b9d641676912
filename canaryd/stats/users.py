"""What the luck of the draw of users brings, where each user stays on one version: lasting differences between two equal versions.

A user's requests are alike: who has a broken cart fails again and again, who has much data always waits. Counts of requests do not show
whose they are, so how alike is an assumption, the intraclass correlation of survey sampling (Kish, Survey Sampling, 1965, chapter 5): of a
rate p the part `ALIKE` of the variance p (1 - p) lies between users. Users differ in how much they send, too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr

Array = NDArray[np.float64]

# A twentieth of the failures as from users who always fail. Usual values in surveys are 0.01 to 0.05. It and the number of users have one
# effect, ALIKE / users: whoever knows of less, or of more, says more users or fewer.
ALIKE = 0.05
BUSY = float(np.e)  # mean square of what a user sends over the square of the mean: lognormal, sd of the log 1
MILD = 10.0  # users who fail a tenth of the time are ten times as many as users who always do
NUMBERS, FEW = 40, 15.0  # of users who always fail: so many are looked at; up to so many expected ones their number is Poisson's
LATENCY_SPREAD = 2.0  # squared coefficient of variation of one request's latency


@dataclass(frozen=True, slots=True)
class UserLuck:
    """Of the log ratio of the rates of two equal versions, where all users differ: its variance, its mean (few users have a low rate as a
    rule, and a high one at times), and the largest chance of its being above 0 by a user's doing; each of shape (comparisons,).

    Where few users do all the failing: of some numbers of them on the canary the chance, shape (comparisons, numbers); and `whole`, how
    many of the canary's users, had each the same requests, would fail always at the true rate, shape (comparisons,).
    """

    variance: Array
    mean: Array
    most: Array
    numbers: Array
    chances: Array
    whole: Array

    def beyond_by_few(self, log_ratio: Array) -> Array:
        """The chance of more where few users do all the failing; log_ratio: shape (comparisons, points), as the result.

        So many users together send as a lognormal number does that has their mean and variance (Fenton and Wilkinson).
        """
        above = (np.exp(log_ratio) - (1.0 - ALIKE)) * self.whole[:, None]
        numbers = np.maximum(self.numbers, 1e-9)
        variance = np.log1p((BUSY - 1.0) / numbers)
        middle = np.log(numbers) - variance / 2.0
        deviates = (middle[:, :, None] - np.log(np.maximum(above, 1e-300))[:, None]) / np.sqrt(variance)[:, :, None]
        chances = np.where(self.numbers[:, :, None] > 0.0, ndtr(deviates), 0.0)
        return np.where(above < 0.0, 1.0, (self.chances[:, :, None] * chances).sum(axis=1))


def user_luck(rate: Array, stable: float, canary: float) -> UserLuck:
    """rate: of both versions, shape (comparisons,), above 0 and below 1; stable, canary: how many users each has.

    Of how users differ only the variance is assumed, and two extremes have it. All differ: an arm's rate is lognormal around the true one;
    where few users are expected who fail at all, that has too much in its tail, for no more luck is possible than the chance that the
    canary has one (Markov). Or a few always fail, and the others alike: they come as a Poisson number, each with what he sends.
    """
    own = BUSY * ALIKE * (1.0 - rate) / rate
    of_stable, of_canary = np.log1p(own / stable), np.log1p(own / canary)
    most = np.minimum(1.0, MILD * ALIKE * rate * canary)
    numbers, chances = _failing_users(ALIKE * rate * canary)
    return UserLuck(of_stable + of_canary, (of_stable - of_canary) / 2.0, most, numbers, chances, rate * canary)


def _failing_users(expected: Array) -> tuple[Array, Array]:
    """Numbers of users who always fail, and their chances, shape (comparisons, NUMBERS); expected: of them, shape (comparisons,)."""
    expected = expected[:, None]
    few, deviates = np.arange(float(NUMBERS)), np.linspace(-4.0, 4.0, NUMBERS)
    of_few = np.exp(few * np.log(expected) - expected - gammaln(few + 1.0))
    numbers = np.where(expected <= FEW, few, np.maximum(expected + np.sqrt(expected) * deviates, 0.0))
    chances = np.where(expected <= FEW, of_few, np.exp(-(deviates**2) / 2.0))
    return numbers, chances / chances.sum(axis=1, keepdims=True)


def mean_variance(stable: float, canary: float) -> float:
    """Of the log of the ratio of two equal versions' mean latencies."""
    return BUSY * ALIKE * LATENCY_SPREAD * (1.0 / stable + 1.0 / canary)


def share_sd(users: float, share: float) -> float:
    """Standard deviation of the share of the requests that a `share` of the users send."""
    return float(np.sqrt(share * (1.0 - share) * BUSY / users))
