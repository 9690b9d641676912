"""How much stable's own replicas differ from each other, at every comparison, as far as its counts go
back."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from canaryd.judge.count_vectors import DURATION, FAILURES, REQUESTS, SLOWER, TIMED, Replicas
from canaryd.stats.arrays import Array
from canaryd.stats.between_replicas import between_replicas, chance_beyond, degrees, shrunk

REFRESHED = 10  # looks after which differences are estimated anew


@dataclass(frozen=True, slots=True)
class MeanLuck:
    """How luck distributes the log of a ratio of means: Student's distribution with this scale and these
    degrees of freedom."""

    scale: float
    degrees: float

    def beyond(self, log_ratio: float) -> float:
        """The chance of more."""
        return chance_beyond(log_ratio / self.scale, self.degrees)


class Siblings:
    """Counts of each replica of stable, those of earlier ReplicaSets included, and what they say. bounds: how
    many latency bounds."""

    def __init__(self, bounds: int) -> None:
        self._totals: dict[str, Array] = {}
        self._bounds = bounds
        self._open: list[tuple[Replicas, Array]] = []  # observed, and not counted yet
        # squared differences between neighbouring looks, and those that counting alone brings
        self._surprise = np.zeros((2, 1 + bounds))
        self._sd: Array | None = None
        self._mean_sd: float | None = None

    def observe_past(self, looks: Sequence[Replicas], both: Array) -> None:
        """Looks of stable that follow each other, replica by replica, and their sums, shape (looks,
        width)."""
        for stable in looks:
            for name, vector in stable.items():
                before = self._totals.get(name)
                if before is None:
                    self._totals[name] = vector.copy()
                else:
                    before += vector
        even = len(both) // 2 * 2
        (k1, n1), (k2, n2) = rates_of(both[:even:2]), rates_of(both[1:even:2])
        events, requests = k1 + k2, np.maximum(n1 + n2, 1.0)
        self._surprise[0] += ((k1 - events * n1 / requests) ** 2).sum(axis=0)
        self._surprise[1] += (events * n1 * n2 / requests**2).sum(axis=0)

    def observe(self, stable: Replicas, both: Array) -> None:
        """A look more; what it says counts with those that follow it."""
        self._open.append((stable, both))
        if len(self._open) == REFRESHED:
            self._count_open()
            self._sd = self._mean_sd = None

    def remember(self, other: "Siblings", places: Sequence[int]) -> None:
        """Takes over what another one observed, of the comparisons that both have; places: of its vectors'
        columns, in the order of these's first ones."""
        other._count_open()
        for name, vector in other._totals.items():
            mine = self._totals.setdefault(name, np.zeros(SLOWER + self._bounds))
            mine[: len(places)] = vector[list(places)]
        rates = [0, *(1 + place - SLOWER for place in places if place >= SLOWER)]
        self._surprise[:, : len(rates)] = other._surprise[:, rates]
        self._sd = self._mean_sd = None

    def _count_open(self) -> None:
        if self._open:
            self.observe_past(
                [replicas for replicas, _ in self._open], np.array([both for _, both in self._open])
            )
            self._open = []

    @property
    def total(self) -> Array:
        """Stable's vector, over all that was observed of it; shape (width,)."""
        vectors = [*self._totals.values(), *(both for _, both in self._open)]
        return np.sum(vectors, axis=0) if vectors else np.zeros(SLOWER + self._bounds)

    @property
    def replicas_seen(self) -> int:
        """Replicas with requests."""
        return sum(vector[REQUESTS] > 0 for vector in self._totals.values())

    @property
    def raw(self) -> Array:
        """Standard deviations between replicas of the log rate: of errors, then of the share slower than each
        bound. In excess of what counting, and the bursts seen between neighbouring looks, bring."""
        if self._sd is None:
            self._sd = self._estimated()
        return self._sd

    @property
    def sd(self) -> Array:
        """The standard deviations between replicas (`raw`) drawn towards the prior; shape (1 + bounds,)."""
        return shrunk(self.raw, self.replicas_seen)

    def _estimated(self) -> Array:
        if not self._totals:
            return np.zeros(1 + self._bounds)
        totals = np.array(list(self._totals.values()))
        differences, counting = self._surprise
        dispersion = np.maximum(1.0, np.where(counting > 0, differences / np.maximum(counting, 1e-9), 1.0))
        errors = between_replicas(totals[:, [FAILURES]], totals[:, REQUESTS], dispersion[:1])
        latency = between_replicas(totals[:, SLOWER:], totals[:, TIMED], dispersion[1:])
        return np.concatenate((errors, latency))

    def mean_luck(self, stable_replicas: int, canary_replicas: int) -> MeanLuck:
        """What the draw of replicas brings to the ratio of two equal versions' mean latencies."""
        if self._mean_sd is None:
            self._mean_sd = self._estimated_mean_sd()
        scale = float(shrunk(np.array(self._mean_sd), self.replicas_seen)) * sqrt(
            1 / max(1, stable_replicas) + 1 / max(1, canary_replicas)
        )
        return MeanLuck(scale, degrees(self.replicas_seen))

    def _estimated_mean_sd(self) -> float:
        """Between replicas, of the log of the mean duration; 0 for fewer than two replicas. Sampling noise is
        left in: it is small."""
        timed = np.array([vector[TIMED] for vector in self._totals.values()])
        spent = np.array([vector[DURATION] for vector in self._totals.values()])
        usable = (timed > 0) & (spent > 0)
        if usable.sum() < 2:
            return 0.0
        weights, logs = timed[usable] / timed[usable].sum(), np.log(spent[usable] / timed[usable])
        return float(np.sqrt((weights * (logs - weights @ logs) ** 2).sum() / (1.0 - (weights**2).sum())))


def rates_of(vectors: Array) -> tuple[Array, Array]:
    """Events and requests of versions' vectors, shape (..., width): of failures, then of each bound; shape
    (..., 1 + bounds) each."""
    events = np.concatenate((vectors[..., [FAILURES]], vectors[..., SLOWER:]), axis=-1)
    requests = np.repeat(vectors[..., [REQUESTS, TIMED]], [1, vectors.shape[-1] - SLOWER], axis=-1)
    return events, requests
