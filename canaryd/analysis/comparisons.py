"""Evidence of many comparisons at once, gathered look by look, begun anew with each stage, and weighed over the rollout.

Process j begins with the j-th stage (a long stage begins another every half hour) and gathers to the end of comparison; it has the
weight 1/(j(j+1)), and what has not begun counts as 1. The weights are fixed from the start and sum to 1, so the weighted sum is an evidence
process itself, and a fault that appears late is not drowned by an early good record. Nothing here knows what is compared.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from canaryd.stats.betabinomial import a_grid, log_evidence_below, log_evidence_over, log_likelihood
from canaryd.stats.betting import STAKES, log_gains_on_share, log_mean
from canaryd.stats.intervals import log_ratio_interval

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]

HARM = a_grid()
# Clearing asks about far smaller ratios than the border only; what lies over it is the null, and may be coarse.
CLEAR = a_grid(below=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.4), over=(0.1, 0.2, 0.4, 0.8, 1.4))
RATIO_WEIGHT = 0.75  # of the beta-binomial ratio in the average; the bet, slower and needing least, has the rest
EXPECTED_WEIGHT, EXPECTED_SD = 0.7, 0.3  # of the part of a clearing's mixture that lies where a good canary is expected
GATHERING = 4  # processes that go on gathering; older ones keep what they have, so a look's cost never grows


@dataclass(frozen=True, slots=True)
class Unit:
    """A look, or a closed block of looks: what was counted, and what is tolerated. Arrays of shape (comparisons,).

    joined: which comparisons take part. tolerated: the ratio at the border; pseudo: events per stable request that are added on
    stable's side (an absolute tolerance, made a ratio).
    """

    joined: Rows
    stable_events: Array
    stable_requests: float
    canary_events: Array
    canary_requests: float
    tolerated: Array
    pseudo: Array


@dataclass
class Process:
    """What one process has gathered. log_odds: of each comparison, as of the last unit."""

    weight: float
    log_likelihood: Array
    log_gains: Array
    log_odds: Array


@dataclass
class Comparisons:
    """The evidence of `count` comparisons. cap: largest number of events of a unit so far, stable's past included."""

    count: int
    cap: Array
    processes: list[Process] = field(default_factory=list)
    stage: Process | None = None
    begun: int = 0
    clear_likelihood: Array = field(init=False)
    log_cleared: Array = field(init=False)
    clear_prior: Array = field(default_factory=lambda: CLEAR.log_prior)

    def __post_init__(self) -> None:
        self._begin_clearing()

    def begin(self, new_stage: bool) -> None:
        """Another process; with new_stage the stage's own evidence, against harm and for clearing, begins anew as well."""
        self.begun += 1
        process = Process(
            weight=1.0 / (self.begun * (self.begun + 1)),
            log_likelihood=np.zeros((self.count, len(HARM.theta), HARM.cells)),
            log_gains=np.zeros((self.count, len(STAKES))),
            log_odds=np.zeros(self.count),
        )
        self.processes.append(process)
        if new_stage or self.stage is None:
            self.stage = process
            self._begin_clearing()
        self._retire()

    def _retire(self) -> None:
        """What gathers no more keeps its odds and gives back its memory."""
        going_on = self.gathering
        for process in self.processes:
            if not any(process is one for one in going_on):
                process.log_likelihood = process.log_gains = np.empty(0)

    def expect(self, distance: float) -> None:
        """How far below what must be ruled out a good canary is expected, in log ratio: there the stage's clearing looks most.

        A stage must rule out a fivefold rate, another a twofold one, and a good canary's is onefold: to mix evenly over all smaller
        ratios costs a healthy version a minute and a half on its way. The prior has to be set before the stage's first unit.
        """
        near = np.exp(-0.5 * ((CLEAR.theta + distance) / EXPECTED_SD) ** 2) * np.gradient(CLEAR.theta)
        far = np.exp(CLEAR.log_prior)
        self.clear_prior = np.log(EXPECTED_WEIGHT * near / near.sum() + (1 - EXPECTED_WEIGHT) * far / far.sum())

    def _begin_clearing(self) -> None:
        self.clear_likelihood = np.zeros((self.count, len(CLEAR.theta), CLEAR.cells))
        self.log_cleared = np.zeros(self.count)

    @property
    def gathering(self) -> list[Process]:
        """The newest, and always the stage's own."""
        newest = self.processes[-GATHERING:]
        return newest if self.stage is None or any(one is self.stage for one in newest) else [self.stage, *newest[1:]]

    def fold(self, unit: Unit) -> None:
        """Gathers one unit's evidence of harm. A comparison without an event, or without requests on either side, learns nothing."""
        stable_events, rows = _informative(unit)
        if len(rows):
            part = _part(unit, stable_events, rows)
            likelihood = log_likelihood(HARM, *part)
            gains = log_gains_on_share(*part, self.cap[rows])
            for process in self.gathering:
                process.log_likelihood[rows] += likelihood
                process.log_gains[rows] += gains
                ratio = log_evidence_over(HARM, process.log_likelihood[rows]) + np.log(RATIO_WEIGHT)
                process.log_odds[rows] = np.logaddexp(ratio, log_mean(process.log_gains[rows]) + np.log(1 - RATIO_WEIGHT))
        self.cap = np.maximum(self.cap, stable_events + unit.canary_events)

    def fold_clearing(self, unit: Unit) -> None:
        """The same for what must be ruled out: `tolerated` and `pseudo` are of that then."""
        stable_events, rows = _informative(unit)
        if len(rows):
            self.clear_likelihood[rows] += log_likelihood(CLEAR, *_part(unit, stable_events, rows))
            prior = replace(CLEAR, log_prior=self.clear_prior)
            self.log_cleared[rows] = log_evidence_below(prior, self.clear_likelihood[rows])

    def intervals(self, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Of the ratio over what is tolerated, from the stage's own units; anytime-valid at 95%."""
        if self.stage is None:
            return np.zeros(len(rows)), np.full(len(rows), np.inf)
        low, high = log_ratio_interval(HARM, self.stage.log_likelihood[rows])
        return np.exp(low), np.exp(high)


def _informative(unit: Unit) -> tuple[Array, NDArray[np.intp]]:
    """Stable's events with the pseudo-events, and the comparisons that learn something."""
    stable_events = unit.stable_events + unit.stable_requests * unit.pseudo
    if unit.stable_requests <= 0 or unit.canary_requests <= 0:
        return stable_events, np.empty(0, dtype=np.intp)
    return stable_events, np.flatnonzero(unit.joined & (stable_events + unit.canary_events > 0))


def _part(unit: Unit, stable_events: Array, rows: NDArray[np.intp]) -> tuple[Array, Array, Array, Array, Array]:
    count = len(rows)
    requests = np.full(count, unit.stable_requests), np.full(count, unit.canary_requests)
    return stable_events[rows], unit.canary_events[rows], *requests, unit.tolerated[rows]
