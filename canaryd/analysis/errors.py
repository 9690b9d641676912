"""Errors: failed requests of the canary against stable's in the same seconds.

Two comparisons: "at most so many times stable's rate" and "at most so many percentage points more". The looser one is what is
tolerated, so the smaller evidence counts; and what is unacceptable lies beyond both, so evidence against either rules it out.
"""

from dataclasses import replace
from math import log

import numpy as np
from numpy.typing import NDArray

from canaryd.analysis.comparisons import Comparisons, Process, Unit
from canaryd.analysis.counting import FAILURES, REQUESTS, Replicas
from canaryd.analysis.evidence import Evidence, excess, odds_of
from canaryd.analysis.replay import Replays
from canaryd.domain.policy import Errors
from canaryd.stats.blocks import block_length, burst_size, correlation_time

Array = NDArray[np.float64]

RATIO = 0  # place of the first comparison; the second is by the increase
BOTH = np.ones(2, dtype=bool)


class ErrorEvidence(Evidence):
    """See the module. past: stable's vectors before the rollout, look by look, shape (looks, width)."""

    name = "errors"

    def __init__(self, wanted: Errors, weight: float, past: Array) -> None:
        requests, failures = past[:, REQUESTS], past[:, FAILURES]
        self.tau = correlation_time(failures, requests)
        super().__init__(weight, block_length(self.tau))
        self._wanted = wanted
        self.burst = burst_size(failures)
        self._tolerated = np.array([1.0 + wanted.tolerated_ratio, 1.0])
        self._pseudo = np.array([0.0, wanted.tolerated_increase])
        cap = self._largest(failures, requests)
        self._comparisons = Comparisons(2, cap=cap)
        self._replays = Replays(2, cap)
        self._served = self._failed = 0.0  # the canary's, of this stage
        self.stable_served = self.stable_failed = 0.0

    def _largest(self, failures: Array, requests: Array) -> Array:
        """The cap of the bet: the largest count of a block in stable's past."""
        if not len(failures):
            return np.zeros(2)
        starts = np.arange(0, len(failures), self.block)
        events = np.add.reduceat(failures[:, None] + requests[:, None] * self._pseudo, starts)
        return np.asarray(events.max(axis=0))

    @property
    def comparisons(self) -> Comparisons:
        return self._comparisons

    def begin(self, new_stage: bool, next_weight: int) -> None:
        super().begin(new_stage, next_weight)
        self._comparisons.expect(log(self.unacceptable))
        self._replays.begin(new_stage)
        if new_stage:
            self._served = self._failed = 0.0
            self.stable_served = self.stable_failed = 0.0

    def fold(self, stable: Array, canary: Replicas) -> None:
        both = self._summed(canary)
        self._served += both[REQUESTS]
        self._failed += both[FAILURES]
        unit = Unit(
            joined=BOTH,
            stable_events=np.full(2, stable[FAILURES]),
            stable_requests=float(stable[REQUESTS]),
            canary_events=np.full(2, both[FAILURES]),
            canary_requests=float(both[REQUESTS]),
            tolerated=self._tolerated,
            pseudo=self._pseudo,
        )
        self._comparisons.fold(unit)
        self._replays.add(unit, {name: vector[[REQUESTS, FAILURES, FAILURES]] for name, vector in canary.items()})
        increase = np.array([0.0, self.unacceptable_increase])
        self._comparisons.fold_clearing(replace(unit, tolerated=np.array([self.unacceptable, 1.0]), pseudo=increase))

    def harmful_odds(self) -> float:
        """What a rollback may rest on: the less of the odds as they are, and in blocks as long as single replicas' trouble lasts."""
        return self.lasting_odds(self._replays, RATIO)

    @property
    def tolerated(self) -> float:
        return 1.0 + self._wanted.tolerated_ratio

    @property
    def unacceptable(self) -> float:
        """The ratio this stage must rule out."""
        return 1.0 + excess(self._wanted.unacceptable_ratio, self.next_weight)

    @property
    def unacceptable_increase(self) -> float:
        return excess(self._wanted.unacceptable_increase, self.next_weight)

    def log_odds(self, process: Process) -> float:
        return float(process.log_odds.min())

    def clearing(self) -> float:
        """The average of both comparisons' evidence, or what a canary without any error has shown by serving."""
        gathered = float(np.logaddexp.reduce(self._comparisons.log_cleared)) - log(2.0)
        if self._failed == 0:
            # Bursts of `burst` failures come once in burst / rate requests: the chance that none came is exp(-served * rate / burst).
            gathered = max(gathered, self._served * self.unacceptable_increase / self.burst)
        return odds_of(gathered)

    def interval(self) -> tuple[float, float]:
        """Of the ratio of the error rates."""
        low, high = self._comparisons.intervals(np.array([RATIO]))
        return float(low[0] * self.tolerated), float(high[0] * self.tolerated)
