"""Latency: at every bound of the histogram, the share of requests slower than it, the canary's against stable's in the same seconds.

Evidence is the average over bounds with weights fixed at the start, so a shifted body, a fat tail and a second mode are seen alike
and nothing is assumed about the distribution. What "10% slower is tolerated" means at a bound is read from stable's own distribution so
far. Before a rollback, one slow pod must not be the whole of it, and neither a single bound that the mean contradicts.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np
from numpy.typing import NDArray

from canaryd.analysis.comparisons import Comparisons, Process, Unit
from canaryd.analysis.counting import DURATION, SLOWER, TIMED, Replicas
from canaryd.analysis.evidence import LARGEST_LOG, Evidence, excess, odds_of, weighted
from canaryd.analysis.replay import Replays
from canaryd.domain.policy import Latency
from canaryd.stats.blocks import block_length, correlation_time
from canaryd.stats.histogram import share_slower_than, smoothed_shares
from canaryd.stats.noise import prior_ratio_floor

Array = NDArray[np.float64]

LEAST_SHARE, MOST_SHARE = 0.0005, 0.60  # slower than a bound, of both versions' past: there a comparison says something
FEW_SLOWER = 5  # pooled requests slower: joins as well, so that a fault stable never showed is looked at
TINY = 0.001  # percentage points that are no harm where stable has next to none (0.1)
USUAL_WEIGHT = 4.0  # of bounds that stable's past shows to be informative, against the others
CORROBORATED = 10.0  # odds of a second bound, at which a rollback no longer rests on one
SUSPECTS = 4  # replicas that are left out in turn: if leaving out none of the slowest saves the canary, no other will
QUIET_BURST = 2.0  # slow requests that come together, where none was seen


class LatencyEvidence(Evidence):
    """See the module. bounds: in ms, rising; past: stable's vectors before the rollout, look by look, shape (looks, width)."""

    name = "latency"

    def __init__(self, wanted: Latency, weight: float, risk: float, bounds: Sequence[float], past: Array) -> None:
        self._wanted, self._risk = wanted, risk
        self.bounds = np.array(bounds, dtype=np.float64)
        count = len(self.bounds)
        timed, slower = past[:, TIMED], past[:, SLOWER:]
        self.tau = _correlation_time(timed, slower)
        super().__init__(weight, block_length(self.tau))
        self._stable_timed, self._stable_slower = float(timed.sum()), slower.sum(axis=0)
        self._pooled_timed, self._pooled_slower = self._stable_timed, self._stable_slower.copy()
        self._rollout_slower = np.zeros(count)
        self.joined = np.zeros(count, dtype=bool)
        self._join()
        usual = np.where(self.joined, USUAL_WEIGHT, 1.0)
        self.bound_weights = usual / usual.sum()
        self._known_borders: tuple[tuple[int, int, int], tuple[Array, Array]] | None = None
        self._pseudo = np.full(count, TINY)
        cap = self._largest(timed, slower)
        self._comparisons = Comparisons(count, cap=cap)
        self._replays = Replays(count, cap)
        self._begin_stage()

    def _largest(self, timed: Array, slower: Array) -> Array:
        if not len(timed):
            return np.zeros(len(self.bounds))
        starts = np.arange(0, len(timed), self.block)
        return np.asarray(np.add.reduceat(slower + timed[:, None] * TINY, starts).max(axis=0))

    def _begin_stage(self) -> None:
        self.stage_stable = np.zeros(SLOWER + len(self.bounds))
        self.stage_canary = np.zeros(SLOWER + len(self.bounds))
        self._stage_replicas: dict[str, Array] = {}

    @property
    def comparisons(self) -> Comparisons:
        return self._comparisons

    def begin(self, new_stage: bool, next_weight: int) -> None:
        super().begin(new_stage, next_weight)
        self._replays.begin(new_stage)
        if new_stage:
            self._begin_stage()

    def hear(self, stable: Array, canary: Replicas) -> bool:
        """As for every metric; the stage's plain counts are known at once, also while a block is open."""
        if stable[TIMED] > 0 and (timed := _timed(canary)):
            self._remember_stage(stable, self._summed(canary), timed)
        return super().hear(stable, canary)

    def fold(self, stable: Array, canary: Replicas) -> None:
        self._join()
        both, timed = self._summed(canary), _timed(canary)
        if stable[TIMED] > 0 and timed:
            unit = self._unit(stable, both, replicas=len(timed))
            self._comparisons.fold(unit)
            self._replays.add(unit, timed)
            self._comparisons.fold_clearing(replace(unit, tolerated=self.borders(len(timed))[1]))
        self._remember(stable, both)

    def _unit(self, stable: Array, canary: Array, replicas: int) -> Unit:
        return Unit(
            joined=self.joined.copy(),
            stable_events=stable[SLOWER:],
            stable_requests=float(stable[TIMED]),
            canary_events=canary[SLOWER:],
            canary_requests=float(canary[TIMED]),
            tolerated=self.borders(replicas)[0],
            pseudo=self._pseudo,
        )

    def _remember_stage(self, stable: Array, canary: Array, timed: dict[str, Array]) -> None:
        """Of both versions, in the same seconds."""
        self.stage_stable += stable
        self.stage_canary += canary
        for name, vector in timed.items():
            before = self._stage_replicas.get(name)
            self._stage_replicas[name] = vector if before is None else before + vector

    def _remember(self, stable: Array, canary: Array) -> None:
        self._known_borders = None
        self._stable_timed += stable[TIMED]
        self._stable_slower = self._stable_slower + stable[SLOWER:]
        self._pooled_timed += stable[TIMED] + canary[TIMED]
        both = stable[SLOWER:] + canary[SLOWER:]
        self._pooled_slower = self._pooled_slower + both
        self._rollout_slower += both

    def _join(self) -> None:
        """Who takes part from now on, by what was seen before this unit; for good."""
        if self._pooled_timed > 0:
            share = self._pooled_slower / self._pooled_timed
            self.joined |= (share <= MOST_SHARE) & ((share >= LEAST_SHARE) | (self._rollout_slower >= FEW_SLOWER))

    def borders(self, replicas: int) -> tuple[Array, Array]:
        """As `_borders`, once for each state of stable's counts."""
        if self._known_borders is None or self._known_borders[0] != (replicas, self.stable_replicas, self.next_weight):
            self._known_borders = (replicas, self.stable_replicas, self.next_weight), self._borders(replicas)
        return self._known_borders[1]

    def _borders(self, replicas: int) -> tuple[Array, Array]:
        """Ratios of the share slower than each bound that are tolerated, and that this stage must rule out.

        If all of stable's requests took 10% longer, those slower than b would be those that are slower than b / 1.1 now. Both
        shares have the pseudo-events of TINY added, as the counts have. replicas: of the canary; one alone gets the prior's floor.
        """
        share = smoothed_shares(self._stable_slower, self._stable_timed)
        factors = 1.0 + self._wanted.tolerated, 1.0 + excess(self._wanted.unacceptable, self.next_weight)
        tolerated, unacceptable = (
            (np.maximum(share, share_slower_than(self.bounds, share, self.bounds / factor)) + TINY) / (share + TINY) for factor in factors
        )
        if replicas == 1:
            floor = prior_ratio_floor(max(1, self.stable_replicas), 1, self._risk)
            tolerated = np.maximum(tolerated, np.minimum(floor, 1.0 / share))
            unacceptable = np.maximum(unacceptable, 1.25 * tolerated)
        return tolerated, unacceptable

    def log_odds(self, process: Process) -> float:
        return self._average(process.log_odds)

    def _average(self, log_odds: Array) -> float:
        """Log of the weighted average over bounds; nothing is said where there are none."""
        return float(np.log(np.exp(np.minimum(log_odds, LARGEST_LOG)) @ self.bound_weights)) if len(self.bounds) else 0.0

    def clearing(self) -> float:
        gathered = odds_of(self._average(self._comparisons.log_cleared))
        if len(self.bounds) and not self.joined.any() and self.stage_canary[SLOWER] == 0:
            # Everything is faster than the lowest bound, where no histogram sees; nothing unacceptable is slower than it.
            gathered = max(gathered, odds_of(self.stage_canary[TIMED] * 5 * TINY / QUIET_BURST))
        return gathered

    @property
    def replicas(self) -> int:
        """Canary replicas with latency in this stage."""
        return len(self._stage_replicas)

    @property
    def mean_ratio(self) -> float | None:
        """Canary's mean latency over stable's, in this stage; None where a duration is missing."""
        stable, canary = self.stage_stable, self.stage_canary
        if stable[TIMED] == 0 or canary[TIMED] == 0 or stable[DURATION] <= 0 or canary[DURATION] <= 0:
            return None
        return float(canary[DURATION] / canary[TIMED] / (stable[DURATION] / stable[TIMED]))

    def harmful_odds(self) -> float:
        """What a rollback may rest on: the least of the odds as they are, without the replica that speaks most against the canary,
        and in blocks as long as single replicas' trouble lasts. At most 1 for each process if one bound alone speaks and the
        mean does not agree."""
        if not self._corroborated():
            return sum(process.weight * min(1.0, odds_of(self.log_odds(process))) for process in self._comparisons.processes)
        if self.replicas < 2:
            return self.odds
        loudest = int(self._comparisons.processes[-1].log_odds.argmax())
        return min(
            self.lasting_odds(self._replays, loudest),
            *(weighted(self._replays.without(name), self.log_odds) for name in self._suspects()),
        )

    def _corroborated(self) -> bool:
        mean = self.mean_ratio
        if mean is not None and mean > 1.0 + self._wanted.tolerated:
            return True
        return any((process.log_odds >= log(CORROBORATED)).sum() >= 2 for process in self._comparisons.processes)

    def _suspects(self) -> list[str]:
        """The replicas with most slow requests over their share, summed over bounds that joined."""
        share = self.stage_stable[SLOWER:] / max(self.stage_stable[TIMED], 1.0)
        surplus = {name: float(((one[1:] - one[0] * share) * self.joined).sum()) for name, one in self._stage_replicas.items()}
        return sorted(surplus, key=lambda name: (-surplus[name], name))[:SUSPECTS]

    def interval(self, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Of the ratio of the shares slower than each bound of `rows`."""
        low, high = self._comparisons.intervals(rows)
        tolerated, _ = self.borders(self.replicas)
        share = smoothed_shares(self._stable_slower, self._stable_timed)
        scale = tolerated * (share + TINY) / share
        return low * scale[rows], high * scale[rows]


def _timed(canary: Replicas) -> dict[str, Array]:
    """Of each replica with latency: timed requests, then those slower than each bound."""
    return {name: np.concatenate(([vector[TIMED]], vector[SLOWER:])) for name, vector in canary.items() if vector[TIMED] > 0}


def _correlation_time(timed: Array, slower: Array) -> float:
    """The longest of three: at the first bounds with at most half, a tenth and a hundredth of stable's requests slower."""
    if not len(timed) or not slower.shape[1] or not timed.sum():
        return 1.0
    share = slower.sum(axis=0) / timed.sum()
    chosen = {int(np.argmax(share <= most)) for most in (0.5, 0.1, 0.01) if (share <= most).any()}
    return max((correlation_time(slower[:, one], timed) for one in chosen if slower[:, one].any()), default=1.0)
