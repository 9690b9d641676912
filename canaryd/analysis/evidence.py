"""What one metric has gathered: in blocks as long as its failures hang together, over stages, against harm and for passing.

`errors.py` and `latency.py` say what is compared; this file holds what they share.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import exp

import numpy as np
from numpy.typing import NDArray

from canaryd.analysis.comparisons import Comparisons, Process
from canaryd.analysis.counting import Replicas
from canaryd.analysis.replay import Replays, block_for

Array = NDArray[np.float64]

LogOdds = Callable[[Process], float]

SIBLINGS_AGREE = 3.0  # odds against the canary without its loudest replica
LARGEST_LOG = 690.0  # exp of it is still a float


def odds_of(log_odds: float) -> float:
    return exp(min(log_odds, LARGEST_LOG))


def excess(unacceptable: float, next_weight: int) -> float:
    """What must be ruled out before the weight goes to next_weight per cent: what would hurt as many users there as the
    unacceptable excess hurts at 100."""
    return unacceptable * 100.0 / next_weight


class Evidence(ABC):
    """One metric's evidence. weight: its fixed share in the total; block: looks that make one unit."""

    name: str
    tau: float  # how long trouble on stable lasts, in looks

    def __init__(self, weight: float, block: int) -> None:
        self.weight = weight
        self.block = block
        self.closed = 0  # blocks of this stage
        self._open_looks = 0
        self._open_stable: Array | None = None
        self._open_canary: dict[str, Array] = {}
        self.next_weight = 100
        self.stable_replicas = 1  # that served in the last look
        self.cleared = 1.0

    @property
    @abstractmethod
    def comparisons(self) -> Comparisons: ...

    @abstractmethod
    def fold(self, stable: Array, canary: Replicas) -> None:
        """One closed block: stable's vector, and each canary replica's."""

    @abstractmethod
    def log_odds(self, process: Process) -> float:
        """The metric's log evidence in one process, over its comparisons."""

    @abstractmethod
    def clearing(self) -> float:
        """The odds gathered in this stage that what it must rule out is not there."""

    def begin(self, new_stage: bool, next_weight: int) -> None:
        """A new process; with new_stage, what was cleared is cleared no more, since a fault may show only under this stage's load."""
        self.next_weight = next_weight
        self.comparisons.begin(new_stage)
        if new_stage:
            self.cleared = 1.0
            self.closed = 0

    def hear(self, stable: Array, canary: Replicas) -> bool:
        """Adds a look to the open block; True if that closed it."""
        self._open_stable = stable if self._open_stable is None else self._open_stable + stable
        for name, vector in canary.items():
            before = self._open_canary.get(name)
            self._open_canary[name] = vector if before is None else before + vector
        self._open_looks += 1
        return self.close() if self._open_looks >= self.block else False

    def close(self) -> bool:
        """Closes the open block, full or not; False if there was none."""
        if self._open_stable is None:
            return False
        self.fold(self._open_stable, self._open_canary)
        self.closed += 1
        self._open_looks, self._open_stable, self._open_canary = 0, None, {}
        # Evidence is valid whenever one looks, so what was ruled out once stays ruled out; later harm is the other side's matter.
        self.cleared = max(self.cleared, self.clearing())
        return True

    @property
    def odds(self) -> float:
        """Against the canary over all processes begun, weighted; what has not begun is for the judge to add."""
        return weighted(self.comparisons, self.log_odds)

    @abstractmethod
    def harmful_odds(self) -> float:
        """As `odds`, but what a single replica's bad spell shows is not taken for the version's doing."""

    def lasting_odds(self, replays: Replays, comparison: int) -> float:
        """The less of the odds as they are, and in blocks as long as a single replica's trouble lasts.

        Stable's past may well have been too short to show a spell that the canary is having now. Where the siblings speak against the
        canary too, it is no single replica's trouble, however replicas differ: with much traffic they always do, and lastingly.
        """
        tau, loudest = replays.lasting_trouble(comparison)
        units = block_for(tau, self.block)
        if units == 1:
            return self.odds
        siblings = replays.without(loudest)
        if any(odds_of(self.log_odds(process)) >= SIBLINGS_AGREE for process in siblings.processes):
            return self.odds
        return min(self.odds, weighted(replays.in_blocks(units), self.log_odds))

    @property
    def stage_odds(self) -> float:
        """Against the canary from this stage's own looks."""
        return odds_of(self.log_odds(self.comparisons.stage)) if self.comparisons.stage else 1.0

    @staticmethod
    def _summed(canary: Replicas) -> Array:
        return np.asarray(np.sum(list(canary.values()), axis=0))


def weighted(comparisons: Comparisons, log_odds: LogOdds) -> float:
    return sum(process.weight * odds_of(log_odds(process)) for process in comparisons.processes)
