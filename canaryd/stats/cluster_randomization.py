"""What the luck of the draw of users brings, where each user stays on one version: lasting differences
between two equal versions.

A user's requests are alike: who has a broken cart fails again and again, who has much data always waits.
Counts of requests do not show whose they are, so how alike is an assumption, the intraclass correlation of
survey sampling (Kish, Survey Sampling, 1965, chapter 5): of a rate p the part `ALIKE` of the variance p (1 -
p) lies between users. Users differ in how much they send, too.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtr

from canaryd.stats.arrays import Array, Single

# A twentieth of the failures as from users who always fail. Usual values in surveys are 0.01 to 0.05. It and
# the number of users have one effect, ALIKE / users: whoever knows of less, or of more, says more users or
# fewer.
ALIKE = 0.05
BUSY = float(np.e)  # mean square of what a user sends over the square of the mean: lognormal, sd of the log 1
MILD = 10.0  # users who fail a tenth of the time are ten times as many as users who always do
NUMBERS, FEW = (
    40,
    15.0,
)  # of users who always fail: so many are looked at; up to so many expected ones their number is Poisson's
MOST_RATE = 0.999  # of a bad version: with a rate of 1 there is no luck
LATENCY_SPREAD = 2.0  # squared coefficient of variation of one request's latency


@dataclass(frozen=True, slots=True)
class UserLuck:
    """The luck in the log ratio of the rates of two equal versions, where all users differ: its variance, its
    mean (few users have a low rate as a rule, and a high one at times), and the largest chance of its being
    above 0 by a user's doing; each of shape (comparisons,).

    Where few users do all the failing: of some numbers of them on the canary the chance, shape (comparisons,
    numbers); and `whole`, how many of the canary's users, had each the same requests, would fail always at
    the true rate, shape (comparisons,). stages: in how many of a rollout users are drawn.
    """

    variance: Array
    mean: Array
    most: Array
    numbers: Array
    chances: Array
    whole: Array
    stages: int = 1

    def beyond_by_few(self, log_ratio: Array) -> Array:
        """The chance of more where few users do all the failing; log_ratio: shape (comparisons, points), as
        the result.

        So many users together send as a lognormal number does that has their mean and variance (Fenton and
        Wilkinson).
        """
        above = (np.exp(log_ratio) - (1.0 - ALIKE)) * self.whole[:, None]
        numbers = np.maximum(self.numbers, 1e-9)
        variance = np.log1p((BUSY - 1.0) / numbers)
        middle = np.log(numbers) - variance / 2.0
        deviates = (middle[:, :, None] - np.log(np.maximum(above, 1e-300))[:, None]) / np.sqrt(variance)[
            :, :, None
        ]
        chances = np.where(self.numbers[:, :, None] > 0.0, ndtr(deviates), 0.0)
        return np.where(above < 0.0, 1.0, (self.chances[:, :, None] * chances).sum(axis=1))


def user_luck(rate: Array, stable: float, canary: float, stages: int = 1) -> UserLuck:
    """The luck of the draw of users. rate: of both versions, shape (comparisons,), above 0 and below 1;
    stable, canary: how many users each has; stages: see there.

    Of how users differ only the variance is assumed, and two extremes have it. All differ: an arm's rate is
    lognormal around the true one; where few users are expected who fail at all, that has too much in its
    tail, for no more luck is possible than the chance that the canary has one (Markov). Or a few always fail,
    and the others alike: they come as a Poisson number, each with what he sends.
    """
    own = BUSY * ALIKE * (1.0 - rate) / rate
    of_stable, of_canary = np.log1p(own / stable), np.log1p(own / canary)
    most = np.minimum(1.0, MILD * ALIKE * rate * canary)
    numbers, chances = _failing_users(ALIKE * rate * canary)
    return UserLuck(
        of_stable + of_canary, (of_stable - of_canary) / 2.0, most, numbers, chances, rate * canary, stages
    )


def luck_below(theta: Array, rate: Array, worse: Array, added: Array, stable: float, canary: float) -> Single:
    """The log chances of the log ratios theta from a border down, rising to 0 at the border, where the
    canary's true rate is at it.

    A version may be as bad as must be ruled out and look better, for the users who fail happen to be
    stable's. theta: shape (L,); rate: stable's; the border is `worse` times what it is with `added`, each of
    shape (comparisons,). Shape (comparisons, L), exponentials summing to 1; the first takes all that is less,
    the last all that is no luck. Of the two extremes the one with more chance of it: all users differ, or a
    few fail always.
    """
    edges = np.repeat(((theta[:-1] + theta[1:]) / 2.0)[None, :], len(rate), axis=0)
    measure = rate + added
    bad = np.minimum(worse * measure, MOST_RATE)
    of_stable, of_canary = _log_variance(rate, measure, stable), _log_variance(bad, bad, canary)
    below = ndtr((edges - ((of_stable - of_canary) / 2.0)[:, None]) / np.sqrt(of_stable + of_canary)[:, None])
    of_stable_alone = (measure[:, None] * np.exp(-edges) - added[:, None]) / rate[:, None]
    below = np.maximum(below, user_luck(rate, canary, stable).beyond_by_few(np.log(of_stable_alone)))
    chances = np.diff(
        np.concatenate((np.zeros((len(rate), 1)), below, np.ones((len(rate), 1))), axis=1), axis=1
    )
    return np.asarray(np.log(np.maximum(chances, 1e-30)), dtype=np.float32)


def _log_variance(rate: Array, measure: Array, users: float) -> Array:
    """Of the log of a `measure` that one version's rate is part of, where all users differ."""
    return np.asarray(np.log1p(BUSY * ALIKE * rate * (1.0 - rate) / measure**2 / users))


def _failing_users(expected: Array) -> tuple[Array, Array]:
    """Numbers of users who always fail, and their chances, shape (comparisons, NUMBERS); expected: of them,
    shape (comparisons,)."""
    expected = expected[:, None]
    few, deviates = np.arange(float(NUMBERS)), np.linspace(-4.0, 4.0, NUMBERS)
    of_few = np.exp(few * np.log(expected) - expected - gammaln(few + 1.0))
    numbers = np.where(expected <= FEW, few, np.maximum(expected + np.sqrt(expected) * deviates, 0.0))
    chances = np.where(expected <= FEW, of_few, np.exp(-(deviates**2) / 2.0))
    return numbers, chances / chances.sum(axis=1, keepdims=True)


def mean_variance(stable: float, canary: float) -> float:
    """The variance of the log of the ratio of two equal versions' mean latencies. stable, canary: how many
    users each has."""
    return BUSY * ALIKE * LATENCY_SPREAD * (1.0 / stable + 1.0 / canary)


def share_sd(users: float, share: float) -> float:
    """Standard deviation of the share of the requests that a `share` of the users send."""
    return float(np.sqrt(share * (1.0 - share) * BUSY / users))
