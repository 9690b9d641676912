"""Simulated services: looks of two versions, replica by replica, with the troubles that real ones have.

Everything is drawn from the generator that is passed in. Latency is lognormal, or distributed as some service's was; failures come alone
or in bursts, the base rate may swing with the hour, a replica may hang for a spell (half of its requests then fail, and take 3 s).
Nothing here judges: `canaryd plan` and the benchmark show these looks to the judge.
"""

from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass
from math import pi, sin

import numpy as np
from numpy.typing import NDArray

from canaryd.domain.counts import Counts, Look
from canaryd.stats.histogram import lognormal_share_slower, share_slower_than

Array = NDArray[np.float64]

ISTIO_BOUNDS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000)
HANGING_MS = 3000.0  # of a request to a hanging replica that is stuck
HANGING_SHARE = 0.5  # of its requests
BAD = 10.0  # times the usual error rate, in a version's bad spell


@dataclass(frozen=True)
class World:
    """One service. requests: per second, of both versions; errors: stable's rate; canary_*: the canary's over stable's; more_errors: what
    the canary's error rate has on top of that.

    burst: failures that come together within a look; swing: amplitude of the base rate over an hour; hanging: share of a version's
    looks in which one of its replicas hangs, for `spell` looks; bad: share of a version's looks in which all of it fails ten times as
    often, for `spell` looks; jitter: sd of the log of each version's own error rate from look to look; median, sigma: of stable's
    latency (ms, log); stuck: share of the canary's requests that take 3 s; slower, mean: stable's share slower than each bound, and its
    mean latency (ms), where they are known and no lognormal is needed.
    """

    requests: float = 50.0
    errors: float = 0.005
    canary_errors: float = 1.0
    canary_latency: float = 1.0
    more_errors: float = 0.0
    burst: int = 1
    swing: float = 0.0
    hanging: float = 0.0
    bad: float = 0.0
    spell: int = 1
    jitter: float = 0.0
    median: float = 60.0
    sigma: float = 0.6
    stuck: float = 0.0
    replicas: int = 3
    interval: int = 10
    bounds: tuple[float, ...] = ISTIO_BOUNDS
    slower: tuple[float, ...] = ()
    mean: float = 0.0

    def share_slower(self, times: float) -> Array:
        """Of a version `times` as slow as stable: its share slower than each bound, nothing being stuck."""
        if not self.bounds:
            return np.zeros(0)
        if self.slower:
            bounds, known = np.array(self.bounds), np.array(self.slower)
            return known if times == 1.0 else share_slower_than(bounds, known, bounds / times)
        return lognormal_share_slower(np.array(self.bounds), self.median * times, self.sigma)

    @property
    def mean_ms(self) -> float:
        """Of stable's latency."""
        return self.mean if self.slower else float(self.median * np.exp(self.sigma**2 / 2))


class Service:
    """A running world: one look after another at the weight that is asked for."""

    def __init__(self, world: World, rng: np.random.Generator, start: int = 1_700_000_000) -> None:
        self.world, self.now, self._rng = world, start, rng
        self._phase = rng.uniform(0, 2 * pi)
        self._hung = {"stable": (0, 0), "canary": (0, 0)}  # which replica, for how many looks more
        self._bad = {"stable": 0, "canary": 0}  # for how many looks more
        self._slower = _shares_slower(world)

    def with_canary(self, world: World) -> "Service":
        """The same service from here on, with the chance that it would have had, and with another canary."""
        other = copy(self)
        other.world, other._rng = world, deepcopy(self._rng)
        other._hung, other._bad = dict(self._hung), dict(self._bad)
        other._slower = _shares_slower(world)
        return other

    def look(self, weight: float, seconds: int | None = None) -> Look:
        """The next look, with weight per cent of the traffic on the canary. seconds: its length, where it is not the world's interval."""
        world = self.world
        length = world.interval if seconds is None else seconds
        start, self.now = self.now, self.now + length
        base = world.errors * (1 + world.swing * sin(2 * pi * self.now / 3600 + self._phase))
        served = world.requests * length
        stable = self._version("stable", served * (1 - weight / 100), base)
        canary = self._version("canary", served * weight / 100, base * world.canary_errors + world.more_errors)
        return Look(start, self.now, world.bounds, stable if weight < 100 else {}, canary if weight > 0 else {})

    def _version(self, version: str, expected: float, rate: float) -> dict[str, Counts]:
        world, rng = self.world, self._rng
        count = world.replicas
        requests = rng.poisson(expected / count, count)
        if world.jitter:
            rate *= float(rng.lognormal(-(world.jitter**2) / 2, world.jitter))
        if world.bad:
            rate *= BAD if self._is_bad(version) else 1.0
        rate = min(rate, 1.0)
        if world.burst > 1:
            failures = np.minimum(world.burst * rng.poisson(requests * rate / world.burst), requests)
        else:
            failures = rng.binomial(requests, rate)
        survival = self._slower[version]
        shares = -np.diff(np.concatenate(([1.0], survival, [0.0])))
        inside = rng.multinomial(requests, np.maximum(shares, 0) / np.maximum(shares, 0).sum())
        hung = self._hangs(version)
        if hung is not None:
            stuck = rng.binomial(requests[hung], HANGING_SHARE)
            failures[hung] = max(failures[hung], stuck)
            kept = rng.multivariate_hypergeometric(inside[hung], int(requests[hung] - stuck)) if requests[hung] else inside[hung]
            kept[int(np.searchsorted(world.bounds, HANGING_MS))] += stuck
            inside[hung] = kept
        within = np.cumsum(inside[:, :-1], axis=1)
        mean = world.mean_ms
        if version == "canary":
            mean = mean * world.canary_latency * (1 - world.stuck) + HANGING_MS * world.stuck
        duration = np.maximum(requests * mean + np.sqrt(requests) * mean * rng.standard_normal(count), 0.0)
        return {
            f"{version}-{i}": Counts(n, k, n, tuple(w), d)
            for i, (n, k, w, d) in enumerate(zip(requests.tolist(), failures.tolist(), within.tolist(), duration.tolist(), strict=True))
        }

    def _is_bad(self, version: str) -> bool:
        world, left = self.world, self._bad[version]
        if left == 0 and self._rng.random() < world.bad / world.spell:
            left = world.spell
        self._bad[version] = max(0, left - 1)
        return left > 0

    def _hangs(self, version: str) -> int | None:
        world = self.world
        if not world.hanging:
            return None
        replica, left = self._hung[version]
        if left == 0 and self._rng.random() < world.hanging / world.spell:
            replica, left = int(self._rng.integers(world.replicas)), world.spell
        self._hung[version] = replica, max(0, left - 1)
        return replica if left else None

    def history(self, looks: int) -> list[Look]:
        """Stable alone, before the rollout."""
        return [self.look(0) for _ in range(looks)]


def _shares_slower(world: World) -> dict[str, Array]:
    """By version: the share slower than each bound."""
    stuck = world.stuck * (np.array(world.bounds) < HANGING_MS)
    return {"stable": world.share_slower(1.0), "canary": (1 - world.stuck) * world.share_slower(world.canary_latency) + stuck}


def services(world: World, count: int, seed: int) -> Iterator[Service]:
    """Independent runs; the same seed gives the same services, whatever is asked of them."""
    for child in np.random.SeedSequence(seed).spawn(count):
        yield Service(world, np.random.default_rng(child))

