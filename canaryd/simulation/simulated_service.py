"""Simulated services: looks of two versions, replica by replica, with the troubles that real ones have.

Everything is drawn from the generator that is passed in. Latency is lognormal, or distributed as some
service's was; failures come alone, in bursts, or from clients that try again and again; replicas differ, hang
for a spell (half of their requests then fail, and take 3 s), or live on a slow node. Nothing here judges:
`canaryd plan` and the benchmark show these looks to the judge.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from canaryd.domain.counts import Counts, Look
from canaryd.stats.arrays import Array
from canaryd.stats.histogram import lognormal_share_slower, share_slower_than

ISTIO_BOUNDS = (
    0.5,
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10000,
    30000,
    60000,
    300000,
    600000,
    1800000,
    3600000,
)
HANGING_MS = 3000.0  # of a request that is stuck
HANGING_SHARE = 0.5  # of a hanging replica's requests
BAD = 10.0  # times the usual error rate, in a version's bad spell
SECOND_MODE = 2.0  # times the usual latency, of the canary's requests on another path


@dataclass(frozen=True)
class Scenario:
    """One service, and what is wrong with its canary from the moment that it gets traffic, or later.

    requests: per second, of both versions; falls_to: so many from `falls_after` seconds of the canary's
    traffic on (0: they stay as they are); errors: stable's rate; burst: failures that come together within a
    look; retries: failing requests per look of a client that tries again and again, for `spell` looks on
    average (0: nobody does); swing: amplitude of the base rate over an hour; hanging: share of a version's
    looks in which one of its replicas hangs, for `spell` looks; bad: share of a version's looks in which all
    of it fails ten times as often, for `spell` looks; outages: share of looks in which both versions do, as
    where a dependency fails; jitter: sd of the log of each version's own error rate from look to look; noise,
    latency_noise: sd of the log of the replicas' own error rates and latencies; slow_node: how many times
    slower the node of the canary's first replica is. median, sigma: of stable's latency (ms, log); slower,
    mean: stable's share slower than each bound, and its mean latency (ms), where they are known and no
    lognormal is needed.

    The canary's fault: canary_errors, canary_latency: its over stable's; more_errors: what its error rate has
    on top of that; stuck: share of its requests that take 3 s; second_mode: share of them that take twice as
    long; broken: how many of its replicas fail every request. It shows at weights from `fault_weight` on, and
    not before `fault_begins` seconds of traffic for the canary.

    is_new: the canary's replicas are first seen with their first traffic, so that their warm-up is yet to
    come; otherwise nothing is said of their age. cold_errors: share of a replica's requests that fail at its
    first one on top of its usual rate, falling off evenly over `cold_seconds`; the canary's replicas are new
    then. scale_out: seconds of the canary's traffic after which it has as many replicas again; 0: never.
    """

    requests: float = 50.0
    errors: float = 0.005
    burst: int = 1
    retries: float = 0.0
    swing: float = 0.0
    hanging: float = 0.0
    bad: float = 0.0
    outages: float = 0.0
    spell: int = 1
    jitter: float = 0.0
    noise: float = 0.0
    latency_noise: float = 0.0
    slow_node: float = 1.0
    median: float = 60.0
    sigma: float = 0.6
    slower: tuple[float, ...] = ()
    mean: float = 0.0
    replicas: int = 3
    stable_replicas: int = 0  # 0: as many as the canary's
    interval: int = 10
    bounds: tuple[float, ...] = ISTIO_BOUNDS
    canary_errors: float = 1.0
    more_errors: float = 0.0
    canary_latency: float = 1.0
    stuck: float = 0.0
    second_mode: float = 0.0
    broken: int = 0
    fault_weight: float = 0.0
    fault_begins: float = 0.0
    is_new: bool = False
    cold_errors: float = 0.0
    cold_seconds: float = 120.0
    scale_out: float = 0.0
    falls_to: float = 0.0
    falls_after: float = 0.0

    @property
    def tells_age(self) -> bool:
        """Whether looks say when the canary's replicas were first seen."""
        return self.is_new or self.cold_errors > 0

    def share_slower(self, times: float) -> Array:
        """The share of requests slower than each bound of a version `times` as slow as stable, nothing being
        stuck; shape (bounds,)."""
        if not self.bounds:
            return np.zeros(0)
        if self.slower:
            bounds, known = np.array(self.bounds), np.array(self.slower)
            return known if times == 1.0 else share_slower_than(bounds, known, bounds / times)
        return lognormal_share_slower(np.array(self.bounds), self.median * times, self.sigma)

    @property
    def mean_ms(self) -> float:
        """The mean of stable's latency, in ms."""
        return self.mean if self.slower else float(self.median * np.exp(self.sigma**2 / 2))

    @property
    def spread_ms(self) -> float:
        """The standard deviation of stable's latency; of an unknown distribution: as large as its mean."""
        return self.mean_ms * (1.0 if self.slower else float(np.sqrt(np.expm1(self.sigma**2))))

    def canary_slower(self) -> Array:
        """The faulty canary's share slower than each bound."""
        body = (1 - self.second_mode) * self.share_slower(self.canary_latency)
        body = (
            body + self.second_mode * self.share_slower(self.canary_latency * SECOND_MODE)
            if self.second_mode
            else body
        )
        return np.asarray((1 - self.stuck) * body + self.stuck * (np.array(self.bounds) < HANGING_MS))


class SimulatedService:
    """A running world: one look after another at the weight that is asked for."""

    def __init__(self, world: Scenario, rng: np.random.Generator, start: int = 1_700_000_000) -> None:
        self.world, self.now, self._rng = world, start, rng
        self._phase = rng.uniform(0, 2 * pi)
        self._began: int | None = None  # the canary's first traffic
        self._outage = _Spell()
        self.stable = _Version("stable", world, world.stable_replicas or world.replicas, rng)
        self.canary = _Version("canary", world, world.replicas * (2 if world.scale_out else 1), rng)

    def with_canary(self, world: Scenario) -> "SimulatedService":
        """The same service from here on, with the chance that it would have had, and with another canary."""
        other = deepcopy(self)
        other.world = other.stable.world = other.canary.world = world
        other.stable.read_latency()
        other.canary.read_latency()
        return other

    def look(self, weight: float, seconds: int | None = None) -> Look:
        """The next look, with weight per cent of the traffic on the canary. seconds: its length, where it is
        not the world's interval."""
        return self.looks(weight, 1, seconds)[0]

    def history(self, looks: int) -> list[Look]:
        """Stable alone, before the rollout."""
        return self.looks(0, looks)

    def looks(
        self, weight: float, count: int, seconds: int | None = None, stable_weight: float | None = None
    ) -> list[Look]:
        """The next `count` looks at one weight. stable_weight: stable's, where only a part of it is looked
        at."""
        world = self.world
        length = world.interval if seconds is None else seconds
        ends = self.now + length * np.arange(1, count + 1)
        if weight > 0 and self._began is None:
            self._began = self.now
        faulty = self.faulty(weight, ends, length)
        self.now = int(ends[-1]) if count else self.now
        rates = world.errors * (1 + world.swing * np.sin(2 * pi * ends / 3600 + self._phase))
        if world.outages:
            out = [self._outage.next(self._rng, world.outages, world.spell) for _ in range(count)]
            rates = rates * np.where(out, BAD, 1.0)
        served, share = self._rate(ends) * length, weight / 100
        rest = 1 - share if stable_weight is None else stable_weight / 100
        none: list[dict[str, Counts]] = [{} for _ in range(count)]
        stable = self.stable.serve(self._rng, served * rest, rates, np.zeros(count)) if rest > 0 else none
        canary = none
        if share > 0:
            canary = self.canary.serve(self._rng, served * share, rates, faulty, self._ages(ends, length))
        both = zip(ends.tolist(), stable, canary, strict=True)
        return [
            Look(end - length, end, world.bounds, old, new, first_seen=self._first_seen(new))
            for end, old, new in both
        ]

    def _rate(self, ends: NDArray[np.int64]) -> float | Array:
        """Requests per second in each look, or in all of them."""
        world = self.world
        if not world.falls_to or self._began is None:
            return world.requests
        return np.where(ends - self._began > world.falls_after, world.falls_to, world.requests)[:, None]

    def _births(self) -> Array:
        """When each of the canary's replicas serves first (Unix seconds), shape (replicas,)."""
        world, began = self.world, float(self._began or 0)
        births = np.full(self.canary.count, began)
        if world.scale_out:
            births[world.replicas :] += world.scale_out
        return births

    def _ages(self, ends: NDArray[np.int64], length: int) -> Array:
        """How old each of the canary's replicas is in the middle of each look, in seconds, shape (looks,
        replicas); below zero: it is not there yet."""
        return np.asarray(ends[:, None] - length / 2 - self._births())

    def _first_seen(self, canary: dict[str, Counts]) -> dict[str, float]:
        if not self.world.tells_age or not canary:
            return {}
        births = zip(self.canary.names, self._births().tolist(), strict=True)
        return {name: birth for name, birth in births if name in canary}

    def faulty(self, weight: float, ends: NDArray[np.int64], length: int) -> Array:
        """The part of each look in which the canary's fault shows."""
        world = self.world
        if weight < world.fault_weight or self._began is None:
            return np.zeros(len(ends))
        return (
            np.clip((ends - self._began - world.fault_begins) / length, 0.0, 1.0)
            if world.fault_begins
            else np.ones(len(ends))
        )


class _Version:
    """One version's replicas: what differs between them, and the spells they are in."""

    def __init__(self, name: str, world: Scenario, count: int, rng: np.random.Generator) -> None:
        self.name, self.world, self.count = name, world, count
        self.names = [f"{name}-{i}" for i in range(count)]
        self._spell = _Spell()
        self.error_rates = _around_one(world.noise, count, rng)  # over the service's
        self.latencies = _around_one(world.latency_noise, count, rng)
        if name == "canary":
            self.latencies[0] *= world.slow_node
        self._hung = 0  # the replica, in one
        self._clients = np.zeros(count, dtype=np.int64)  # that try again and again, by replica
        self.read_latency()

    @property
    def spells(self) -> int:
        """Bad spells that began so far."""
        return self._spell.began

    def read_latency(self) -> None:
        """The shares of requests in each bucket of each replica, without and with the fault, and mean and
        second moment of their latency."""
        world, latencies = (
            self.world,
            self.latencies if len(set(self.latencies.tolist())) > 1 else self.latencies[:1],
        )
        usual = np.array([world.share_slower(times) for times in latencies])
        mean, second = world.mean_ms * latencies, (world.mean_ms**2 + world.spread_ms**2) * latencies**2
        self._usual = _buckets(usual), mean, second
        if self.name != "canary":
            self._faulty = self._usual
            return
        # A replica's own latency is a matter of versions that are as fast as stable; in a slower or faster
        # one they are alike.
        slower = world.canary_slower()
        faulty = (
            self._usual[0] if slower.tolist() == world.share_slower(1.0).tolist() else _buckets(slower[None])
        )
        second_mode = world.second_mode
        of_mean = 1 + second_mode * (SECOND_MODE - 1)
        of_second = 1 + second_mode * (SECOND_MODE**2 - 1)
        stuck, times = world.stuck, world.canary_latency
        mean = (1 - stuck) * mean * times * of_mean + stuck * HANGING_MS
        second = (1 - stuck) * second * times**2 * of_second + stuck * HANGING_MS**2
        self._faulty = faulty, mean, second

    def serve(
        self,
        rng: np.random.Generator,
        expected: float | Array,
        rates: Array,
        faulty: Array,
        ages: Array | None = None,
    ) -> list[dict[str, Counts]]:
        """Counts of each look, by replica. expected: requests of a look, or of
        each, shape (looks, 1); rates: the service's error rate in
        each look, shape (looks,); faulty: the part of each look with the fault, the same shape; ages: the
        replicas' in seconds, shape (looks, replicas), where some may be young, or not there yet."""
        world, looks = self.world, len(rates)
        is_there = np.ones((looks, self.count), dtype=bool) if ages is None else ages >= 0
        requests = rng.poisson(expected * is_there / is_there.sum(axis=1, keepdims=True))
        failures = self._failures(rng, requests, rates, faulty)
        if ages is not None and world.cold_errors:
            cold = world.cold_errors * np.clip(1.0 - ages / world.cold_seconds, 0.0, 1.0)
            failures = failures + rng.binomial(requests - failures, cold)
        inside, duration = self._timed(rng, requests, faulty)
        if world.hanging:
            self._hang(rng, requests, failures, inside, duration)
        within = np.cumsum(inside[:, :, :-1], axis=2).tolist()
        rows = zip(
            is_there.tolist(), requests.tolist(), failures.tolist(), within, duration.tolist(), strict=True
        )
        return [
            {
                name: Counts(n, k, n, tuple(w), d)
                for name, there, n, k, w, d in zip(self.names, *row, strict=True)
                if there
            }
            for row in rows
        ]

    def _failures(
        self, rng: np.random.Generator, requests: NDArray[np.int64], rates: Array, faulty: Array
    ) -> NDArray[np.int64]:
        world, looks = self.world, len(rates)
        if self.name == "canary":
            rates = rates * (1 + faulty * (world.canary_errors - 1)) + faulty * world.more_errors
        if world.jitter:
            rates = rates * rng.lognormal(-(world.jitter**2) / 2, world.jitter, looks)
        if world.bad:
            rates = rates * np.where(
                [self._spell.next(rng, world.bad, world.spell) for _ in range(looks)], BAD, 1.0
            )
        failure_rates = np.minimum(rates[:, None] * self.error_rates, 1.0)
        if self.name == "canary" and world.broken:
            failure_rates[:, : world.broken] += faulty[:, None] * (1 - failure_rates[:, : world.broken])
        if world.retries:
            return np.array(
                [self._retried(rng, *look) for look in zip(requests, failure_rates, strict=True)]
            ).reshape(requests.shape)
        if world.burst > 1:
            return np.minimum(world.burst * rng.poisson(requests * failure_rates / world.burst), requests)
        return rng.binomial(requests, failure_rates)

    def _retried(
        self, rng: np.random.Generator, requests: NDArray[np.int64], rates: Array
    ) -> NDArray[np.int64]:
        """One look of clients whose requests fail at their replica, again and again: what a client has broken
        stays broken for a while."""
        world = self.world
        self._clients = rng.binomial(self._clients, 1 - 1 / world.spell) + rng.poisson(
            requests * rates / (world.retries * world.spell)
        )
        return np.minimum(rng.poisson(world.retries * self._clients), requests)

    def _timed(
        self, rng: np.random.Generator, requests: NDArray[np.int64], faulty: Array
    ) -> tuple[NDArray[np.int64], Array]:
        """Requests by replica and bucket, shape (looks, replicas, bounds + 1), and the sum of their
        durations, (looks, replicas)."""
        part: Array = faulty[:, None]
        if not faulty.any():
            shares, mean, second = self._usual
        elif faulty.all():
            shares, mean, second = self._faulty
        else:
            shares, mean, second = (
                (1 - _shaped(part, usual)) * usual + _shaped(part, usual) * other
                for usual, other in zip(self._usual, self._faulty, strict=True)
            )
        inside = rng.multinomial(requests, shares)
        spread = np.sqrt(np.maximum(second - mean**2, 0.0))
        duration = np.maximum(
            requests * mean + np.sqrt(requests) * spread * rng.standard_normal(requests.shape), 0.0
        )
        return inside, duration

    def _hang(
        self,
        rng: np.random.Generator,
        requests: NDArray[np.int64],
        failures: NDArray[np.int64],
        inside: NDArray[np.int64],
        duration: Array,
    ) -> None:
        """Half of the requests to a replica in a spell are stuck, and fail: written into the arrays."""
        bucket = int(np.searchsorted(self.world.bounds, HANGING_MS))
        for look in range(len(requests)):
            if not self._spell.next(rng, self.world.hanging, self.world.spell):
                continue
            self._hung = int(rng.integers(self.count)) if self._spell.is_fresh else self._hung
            at = look, self._hung
            stuck = int(rng.binomial(requests[at], HANGING_SHARE))
            if not stuck:
                continue
            kept = int(requests[at]) - stuck
            failures[at] = max(failures[at], stuck)
            inside[at] = rng.multivariate_hypergeometric(inside[at], kept)
            inside[at][bucket] += stuck
            duration[at] = duration[at] * kept / requests[at] + stuck * HANGING_MS


class _Spell:
    """Looks in trouble, some of them on end."""

    def __init__(self) -> None:
        self.began = 0  # spells so far
        self.is_fresh = False  # whether the present look is the first of one
        self._left = 0  # looks of the present one

    def next(self, rng: np.random.Generator, share: float, looks: int) -> bool:
        """Whether the next look is in a spell of `looks`; `share` of all looks are, or nearly."""
        self.is_fresh = False
        if self._left == 0 and rng.random() < share / looks:
            self._left, self.began, self.is_fresh = looks, self.began + 1, True
        inside = self._left > 0
        self._left = max(0, self._left - 1)
        return inside


def _around_one(sd: float, count: int, rng: np.random.Generator) -> Array:
    """Lognormal factors with mean 1."""
    return rng.lognormal(-(sd**2) / 2, sd, count) if sd else np.ones(count)


def _buckets(slower: Array) -> Array:
    """Shares in each bucket, the last one open. slower: shares slower than each bound, shape (...,
    bounds)."""
    outer = np.ones((*slower.shape[:-1], 1))
    shares = np.maximum(-np.diff(np.concatenate((outer, slower, 0 * outer), axis=-1), axis=-1), 0.0)
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def _shaped(part: Array, like: Array) -> Array:
    """(looks, 1) to multiply (replicas,) or (replicas, buckets) with, look by look."""
    return part.reshape(len(part), *[1] * like.ndim)


def services(world: Scenario, count: int, seed: int) -> Iterator[SimulatedService]:
    """Independent runs; the same seed gives the same services, whatever is asked of them."""
    for child in np.random.SeedSequence(seed).spawn(count):
        yield SimulatedService(world, np.random.default_rng(child))
