"""Services whose users are not alike: a crowd that stays on its version, each user drawn once, and matched
users who fare otherwise.

As `canaryd/simulation/simulated_service.py`, of which these are, everything is drawn from the generator that
is passed in.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from canaryd.domain.counts import Counts, Look
from canaryd.simulation.simulated_service import Scenario, SimulatedService
from canaryd.stats.arrays import Array, Rows


@dataclass(frozen=True)
class People:
    """count: users; busy: sd of the log of how much each sends; unlucky: the part of the failures that is of
    users who fail again and again, and often: how much of the time they do; alike: the part of the variance
    of a failure that lies between all the others, whose rates then are lognormal (0: they have the same);
    waits: sd of the log of their latencies, by default a twentieth of all variance.

    A twentieth of all variance lies between users with unlucky 0.05 and often 1, with unlucky 0 and alike
    0.05, and, nearly, of few errors with unlucky 0.5 and often 0.1.
    """

    count: int = 1000
    busy: float = 1.0
    unlucky: float = 0.05
    often: float = 1.0
    alike: float = 0.0
    waits: float = 0.14


@dataclass(frozen=True)
class _Group:
    """The users of one version: their part of the requests, how many of these fail, in which bucket they are,
    their mean latency (ms)."""

    share: float
    failing: float
    inside: Array
    mean: float


class Crowd(SimulatedService):
    """The service of a world with such people. All are there from the beginning; a weight has those whose
    lots lie below it.

    The canary's fault, from its first request on: canary_errors makes it as many times more users who fail
    again and again, and the others' rates as many times higher; more_errors is on top of everyone's;
    canary_latency. Nothing else that is wrong with a world is known here.
    """

    def __init__(self, world: Scenario, people: People, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        count, errors = people.count, world.errors
        busy = rng.lognormal(0.0, people.busy, count)
        self._busy, self._lots = busy / busy.sum(), rng.uniform(0, 100, count)
        fate = rng.random(count)  # a user who fails again and again with stable does so with the canary
        sd = float(np.sqrt(np.log1p(people.alike * (1 - errors) / errors))) if people.alike else 0.0
        rates = errors * (1 - people.unlucky) * rng.lognormal(-(sd**2) / 2, sd, count)
        slowness = rng.lognormal(-(people.waits**2) / 2, people.waits, count)

        def failing(times: float, more: float) -> Array:
            unlucky = people.unlucky * errors * times / people.often
            return np.where(
                fate < unlucky, people.often, np.minimum(rates * times / (1 - unlucky) + more, 1.0)
            )

        def slower(times: float) -> Array:
            medians = np.log(world.median * times * slowness)
            return np.asarray(ndtr((medians[:, None] - np.log(world.bounds)) / world.sigma))

        means = world.mean_ms * slowness
        self._of_stable = failing(1.0, 0.0), slower(1.0), means
        same_latency = world.canary_latency == 1.0
        self._of_canary = (
            failing(world.canary_errors, world.more_errors),
            self._of_stable[1] if same_latency else slower(world.canary_latency),
            means * world.canary_latency,
        )
        self._groups: tuple[float, _Group | None, _Group | None] | None = None  # of the last weight

    def looks(
        self, weight: float, count: int, seconds: int | None = None, stable_weight: float | None = None
    ) -> list[Look]:
        length = self.world.interval if seconds is None else seconds
        if weight > 0 and self._began is None:
            self._began = self.now
        if self._groups is None or self._groups[0] != weight:
            on_canary = self._lots < weight
            self._groups = (
                weight,
                self._group(~on_canary, *self._of_stable),
                self._group(on_canary, *self._of_canary),
            )
        _, of_stable, of_canary = self._groups
        stable, canary = (
            self._serve("stable", of_stable, count, length),
            self._serve("canary", of_canary, count, length),
        )
        starts = [self.now + length * place for place in range(count)]
        self.now += length * count
        return [
            Look(start, start + length, self.world.bounds, old, new)
            for start, old, new in zip(starts, stable, canary, strict=True)
        ]

    def _group(self, those: Rows, failing: Array, slower: Array, means: Array) -> _Group | None:
        busy = self._busy[those]
        share = float(busy.sum())
        if not share:
            return None
        of_all = busy @ slower[those] / share
        inside = np.maximum(-np.diff(np.concatenate(([1.0], of_all, [0.0]))), 0.0)
        return _Group(
            share,
            float(busy @ failing[those] / share),
            inside / inside.sum(),
            float(busy @ means[those] / share),
        )

    def _serve(self, name: str, group: _Group | None, count: int, length: int) -> list[dict[str, Counts]]:
        """One version's counts, look by look and replica by replica."""
        if group is None:
            return [{} for _ in range(count)]
        world, rng, replicas = self.world, self._rng, self.world.replicas
        requests = rng.poisson(world.requests * length * group.share / replicas, (count, replicas))
        failures = rng.binomial(requests, group.failing)
        within = np.cumsum(rng.multinomial(requests, group.inside), axis=2)[:, :, :-1].tolist()
        spread = group.mean * world.spread_ms / world.mean_ms
        duration = np.maximum(
            requests * group.mean + np.sqrt(requests) * spread * rng.standard_normal(requests.shape), 0.0
        )
        names = [f"{name}-{i}" for i in range(replicas)]
        rows = zip(requests.tolist(), failures.tolist(), within, duration.tolist(), strict=True)
        return [
            {name: Counts(n, k, n, tuple(w), d) for name, n, k, w, d in zip(names, *row, strict=True)}
            for row in rows
        ]


@dataclass(frozen=True)
class Matched:
    """How matched users fare, always and whatever the version: errors, latency: times all users'. How many of
    them there are, a plan assumes (`rehearsal.ASSUMED_MATCHING`)."""

    errors: float = 1.0
    latency: float = 1.0


class Mixed(SimulatedService):
    """A service of a world, some of whose users are such: where stable serves no more than a part, it is of
    them. The canary's fault is all users', in the same measure."""

    def __init__(self, world: Scenario, matched: Matched, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        theirs = replace(world, errors=world.errors * matched.errors, median=world.median * matched.latency)
        self._matched = SimulatedService(theirs, rng)

    def looks(
        self, weight: float, count: int, seconds: int | None = None, stable_weight: float | None = None
    ) -> list[Look]:
        if stable_weight is None:
            return super().looks(weight, count, seconds)
        self._matched.now = self.now
        looks = self._matched.looks(weight, count, seconds, stable_weight)
        self.now, self._began = self._matched.now, self._matched._began
        return looks
