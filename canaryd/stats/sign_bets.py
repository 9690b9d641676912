"""Bets on a number per look that is as likely to lie above as below its border: for averages, which have no
events to count.

The number is scaled by how far it usually lies from the border, clipped to [-1, 1], and staked on
(`betting.py`). If the clipped number's expectation, given what came before, is at most 0, the purse has
expectation at most 1 at any stopping time. Of a number whose noise is symmetric around a value at or below
the border that holds; a rare large one is clipped and cannot decide alone.
"""

import numpy as np

from canaryd.stats.arrays import Array
from canaryd.stats.betting import STAKES, log_total, purse, staked
from canaryd.stats.changepoint import AT_STAGE, hazard

CLIPPED_AT = 3.0  # usual distances
SCALE_FROM = 6  # numbers before the first bet
FORGETS = 0.97  # of the usual distance, from one number to the next


class ScoreBets:
    """Bets on several series, one number of each at a time. Nothing is staked on one until SCALE_FROM
    numbers have said how much it varies. log_odds: of each."""

    def __init__(self, count: int = 1) -> None:
        self._purse = purse(count)
        self._observed, self._turning = 0, 0.0
        self._sums = np.zeros((3, count))  # of 1, the numbers and their squares, the older the less
        self.log_odds = np.zeros(count)

    def new_stage(self) -> None:
        """The series may well rise here."""
        self._turning = AT_STAGE

    def split(self, series: int) -> None:
        """One more series, until now the same as another."""
        self._purse = np.concatenate((self._purse, self._purse[[series]]))
        self._sums = np.concatenate((self._sums, self._sums[:, [series]]), axis=1)
        self.log_odds = np.append(self.log_odds, self.log_odds[series])

    @property
    def averages(self) -> Array:
        """The averages of the latest numbers of each series, shape (series,)."""
        return np.asarray(self._sums[1] / np.maximum(self._sums[0], 1e-9))

    def observe(self, numbers: Array) -> None:
        """The next number of each, measured from the border (above 0 is worse), shape (series,); NaN for
        none."""
        known = np.isfinite(numbers)
        weight, total, squares = self._sums
        if self._observed >= SCALE_FROM:
            # Around its own average, not around the border: the effect itself is no noise.
            average = total / np.maximum(weight, 1e-9)
            spread = np.sqrt(
                np.maximum(squares / np.maximum(weight, 1e-9) - average**2, 0.0)
                * self._observed
                / (self._observed - 1.0)
            )
            usable = known & (spread > 0)
            scores = np.where(
                usable, np.clip(numbers / (CLIPPED_AT * np.where(usable, spread, 1.0)), -1.0, 1.0), 0.0
            )
            turning = np.full(len(scores), max(self._turning, hazard(self._observed - SCALE_FROM)))
            self._purse = staked(self._purse, np.log1p(STAKES * scores[:, None]), turning)
            self._turning = 0.0
            self.log_odds = log_total(self._purse)
        self._observed += 1
        with_it = FORGETS * self._sums + np.where(known, numbers, 0.0) ** np.arange(3)[:, None]
        self._sums = np.where(known, with_it, self._sums)
