"""An e-detector: an alarm whose average time to a false one is bounded, however long it watches.

A bettor begins anew at every look with RESTART of capital, unless what she has is more (the CUSUM e-detector
of Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New
England Journal of Statistics in Data Science 2, 2024). What she has never exceeds the sum over all looks of
what was begun there (the Shiryaev-Roberts e-detector). That sum, less RESTART for each look, is a
supermartingale while no expected rate, given what came before, is above its limit. So by optional stopping an
alarm at A comes on average after A / RESTART looks or more: with A of 1/alpha, not before 10/alpha looks. A
part of a look brings its part of RESTART, and a block of looks as many of them, so the bound is one on time,
however looks are cut or joined. Averages of e-detectors, over stakes and over limits, are e-detectors,
however their rates depend on each other.

RESTART is less than neutral odds of 1 because an alarm at full weight moves all traffic: at 1, a false one
would be allowed every 25 minutes of looks of 15 s. A tenth costs a plain fault a look at most.
"""

import numpy as np

from canaryd.stats.arrays import Array
from canaryd.stats.betting import STAKES, full_look, log_gains_on_rate

RESTART = 0.1  # capital with which a bet begins, at each whole look
# Of each stake in the average. Full weight has all traffic, so chance is small beside the harm that matters
# there, and small stakes would only share what large ones gain.
STAKE_WEIGHTS = np.array([0.0, 0.0, 0.1, 0.15, 0.25, 0.25, 0.25])


class RateDetector:
    """Bets at each look that rates are above their limits, and forgets the looks in which they were not.

    odds: of each limit, shape (limits,); RESTART or less while nothing speaks against it. since: events and
    requests of the present run of bad looks, shape (2, limits).
    """

    def __init__(self, count: int) -> None:
        self._full = np.zeros(count)  # requests of a full look
        self._log_capital = np.full((count, len(STAKES)), -np.inf)
        self.since = np.zeros((2, count))  # events and requests since the present run of bad looks began
        self.odds = np.zeros(count)

    def fold(self, events: Array, requests: Array, limits: Array, looks: float = 1.0) -> None:
        """A look, or a part of one, or some together; all of shape (limits,), limits in (0, 1). looks: how
        many these are, less than 1 for a part. Where there are no requests it says nothing."""
        served = requests > 0
        gains = log_gains_on_rate(events, requests, limits, self._full)
        self._full = full_look(self._full, requests)
        begins = np.log(RESTART * looks)
        anew = served & (self._log_capital[:, -1] <= begins)
        self.since = np.where(anew, 0.0, self.since) + np.where(served, np.array([events, requests]), 0.0)
        capital = np.maximum(self._log_capital, begins) + gains
        self._log_capital = np.where(served[:, None], capital, self._log_capital)
        self.odds = np.exp(np.minimum(self._log_capital, 690.0)) @ STAKE_WEIGHTS
