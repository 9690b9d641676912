"""A service whose users differ and stay: some send much, some always fail, some always wait; each is on one version by a lot of his own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from canaryd.analysis.simulated import Service, World
from canaryd.domain.counts import Counts, Look
from canaryd.stats.histogram import lognormal_share_slower


@dataclass(frozen=True)
class People:
    """count: users; busy: sd of the log of how much each sends; unlucky: the part of the failures that is of users who fail again and
    again, and often: how much of the time they do; waits: sd of the log of their latencies."""

    count: int = 1000
    busy: float = 1.0
    unlucky: float = 0.05
    often: float = 1.0
    waits: float = 0.1


class Crowd(Service):
    """The service of a world with such people. The canary's fault is the world's."""

    def __init__(self, world: World, people: People, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        busy = rng.lognormal(0.0, people.busy, people.count)
        self._busy, self._lots = busy / busy.sum(), rng.uniform(0, 100, people.count)
        self._failing = rng.random(people.count) < people.unlucky * world.errors / people.often
        self._rest, self._often = world.errors * (1 - people.unlucky), people.often
        slowness = rng.lognormal(-(people.waits**2) / 2, people.waits, people.count)
        bounds = np.array(world.bounds)
        self._slower = {times: np.array([lognormal_share_slower(bounds, world.median * times * one, world.sigma) for one in slowness])
                        for times in {1.0, world.canary_latency}}  # fmt: skip
        self._means = world.mean_ms * slowness
        self._draws = rng

    def looks(self, weight: float, count: int, seconds: int | None = None, stable_weight: float | None = None) -> list[Look]:
        world, length = self.world, seconds or self.world.interval
        on_canary = self._lots < weight
        stable = self._of(~on_canary, count, length, 1.0, 1.0)
        canary = self._of(on_canary, count, length, world.canary_errors, world.canary_latency) if on_canary.any() else [{}] * count
        found = []
        for old, new in zip(stable, canary, strict=True):
            found.append(Look(self.now, self.now + length, world.bounds, {f"stable-{i}": one for i, one in old.items()},
                              {f"canary-{i}": one for i, one in new.items()}))
            self.now += length
        return found

    def _of(self, those, count: int, length: int, errors: float, times: float) -> list[dict[int, Counts]]:
        """One version's counts, look by look and replica by replica."""
        world, rng, busy = self.world, self._draws, self._busy[those]
        if not busy.sum():
            return [{}] * count
        share, failing = busy.sum(), self._busy[those & self._failing].sum()
        slower = (busy @ self._slower[times][those]) / share
        inside = np.maximum(-np.diff(np.concatenate(([1.0], slower, [0.0]))), 0.0)
        mean = float(busy @ self._means[those] / share) * times
        each, whole = world.replicas, world.requests * length
        found = []
        for _ in range(count):
            failed, others = rng.poisson(whole * failing / each, each), rng.poisson(whole * (share - failing) / each, each)
            requests = failed + others
            failures = rng.binomial(failed, self._often) + rng.binomial(others, min(1.0, self._rest * errors))
            within = np.cumsum(rng.multinomial(requests, inside / inside.sum()), axis=1)[:, :-1]
            spread = mean * np.sqrt(np.expm1(world.sigma**2))
            duration = np.maximum(requests * mean + np.sqrt(requests) * spread * rng.standard_normal(each), 0.0)
            found.append({i: Counts(int(requests[i]), int(failures[i]), int(requests[i]), tuple(within[i].tolist()), float(duration[i]))
                          for i in range(each)})  # fmt: skip
        return found
