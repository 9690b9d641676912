"""One service's traffic, as given or as measured over a past window, and the simulated world that is like it.

What is kept of a measured window: rate, error share, how failures hang together (bursts within a look, bad
spells over looks), the latency histogram, the replicas; and the looks themselves, which the judge gets as
stable's past, as the daemon would give them. Pure: nothing here reads a Prometheus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from statistics import NormalDist

import numpy as np

from canaryd.domain.counts import HISTORY_LOOKS, Look, total
from canaryd.simulation.simulated_service import BAD, ISTIO_BOUNDS, Scenario
from canaryd.stats.arrays import Array
from canaryd.stats.blocks import INDEPENDENT, burst_size, correlation_time, surplus_over_trend
from canaryd.stats.histogram import share_slower_than

FEWEST = 20  # looks, below which nothing is known of how failures hang together
# of the log latency, where only the median is given: 99% of requests within four times the median
USUAL_SIGMA = 0.6
MOST_REQUESTS = 10_000_000  # per second; counts stay exact as floats
MOST_REPLICAS = 1000  # simulated one by one
# share of bad looks at which their number varies most: what varies more is burst, not spell
OFTEN_BAD = 1 / (1 + BAD)


@dataclass(frozen=True)
class TrafficProfile:
    """A service's traffic in a few numbers. rate: requests/s of all versions; errors: share that fails;
    median_ms, mean_ms: of the latency.

    burst: failures that come together within a look; bad: share of looks in which BAD times as many fail as
    usual, for `spell` looks.
    bounds: of the histogram, in ms, () where there is none; slower: share slower than each, () for a
    lognormal of this median and sigma.
    history: stable's looks, () to have them simulated; source: where all this is from, in words.
    """

    rate: float
    errors: float
    replicas: int
    median_ms: float
    mean_ms: float
    sigma: float = USUAL_SIGMA
    burst: int = 1
    bad: float = 0.0
    spell: int = 1
    bounds: tuple[float, ...] = ISTIO_BOUNDS
    slower: tuple[float, ...] = ()
    history: tuple[Look, ...] = ()
    source: str = "as given"

    def world(self, interval: int) -> Scenario:
        """With a healthy canary."""
        # so that the mean, bad looks included, is what it is
        usual = self.errors / (1 + (BAD - 1) * self.bad)
        return Scenario(
            requests=self.rate,
            errors=usual,
            burst=self.burst,
            bad=self.bad,
            spell=self.spell,
            median=self.median_ms,
            sigma=self.sigma,
            replicas=self.replicas,
            interval=interval,
            bounds=self.bounds,
            slower=self.slower,
            mean=self.mean_ms,
        )


@dataclass(frozen=True)
class Given:
    """What is said about a service; None: not said. Latency in ms."""

    rate: float | None = None
    errors: float | None = None
    median_ms: float | None = None
    p99_ms: float | None = None
    replicas: int | None = None


USUAL = Given(rate=50.0, errors=0.005, median_ms=60.0, replicas=3)


def as_given(given: Given) -> TrafficProfile:
    """With the usual for what is not said. Raises ValueError for what cannot be."""
    _check(given)
    median = _or(given.median_ms, USUAL.median_ms)
    sigma = USUAL_SIGMA if given.p99_ms is None else _sigma(median, given.p99_ms)
    names_given = [name for name, value in vars(given).items() if value is not None]
    source = "as given, the rest assumed" if names_given else "assumed"
    if {"rate", "errors", "median_ms", "replicas"} <= set(names_given):
        source = "as given"
    return TrafficProfile(
        _or(given.rate, USUAL.rate),
        _or(given.errors, USUAL.errors),
        int(_or(given.replicas, USUAL.replicas)),
        median,
        median * float(np.exp(sigma**2 / 2)),
        sigma,
        source=source,
    )


def changed(measured: TrafficProfile, given: Given) -> TrafficProfile:
    """What was measured, but for what is said. The measured looks are no longer this service's past then.
    Raises ValueError."""
    _check(given)
    if given == Given():
        return measured
    overrides: dict[str, float | int] = {}
    for name in ("rate", "errors", "replicas"):
        value = getattr(given, name)
        if value is not None:
            overrides[name] = value
    profile = replace(measured, history=(), source=f"{measured.source}, but for what is given", **overrides)  # type: ignore[arg-type]
    if given.median_ms is None and given.p99_ms is None:
        return profile
    median = _or(given.median_ms, measured.median_ms)
    sigma = USUAL_SIGMA if given.p99_ms is None else _sigma(median, given.p99_ms)
    bounds = measured.bounds or ISTIO_BOUNDS
    return replace(
        profile,
        median_ms=median,
        sigma=sigma,
        mean_ms=median * float(np.exp(sigma**2 / 2)),
        slower=(),
        bounds=bounds,
    )


def _or(value: float | None, other: float | None) -> float:
    """other: USUAL's, where everything is said."""
    return value if value is not None else other or 0.0


def _check(given: Given) -> None:
    """Raises ValueError: which, what was wanted, what came."""
    if given.rate is not None and not 0 < given.rate <= MOST_REQUESTS:
        why = ": without requests there is nothing to judge" if given.rate <= 0 else ""
        raise ValueError(
            f"the rate must be above 0 and at most {MOST_REQUESTS:,} requests/s, but is {given.rate:,g}{why}"
        )
    if given.errors is not None and not 0 <= given.errors < 1:
        raise ValueError(f"the share of errors must be at least 0% and below 100%, but is {given.errors:.0%}")
    if given.median_ms is not None and given.median_ms <= 0:
        raise ValueError(f"the median latency must be above 0 ms, but is {given.median_ms:g} ms")
    if given.replicas is not None and not 1 <= given.replicas <= MOST_REPLICAS:
        raise ValueError(f"each version must have 1 to {MOST_REPLICAS} replicas, but has {given.replicas:,}")


def _sigma(median: float, p99: float) -> float:
    if p99 <= median:
        raise ValueError(
            f"the latency that 99% keep to must be above the median ({median:g} ms), but is {p99:g} ms"
        )
    return log(p99 / median) / NormalDist().inv_cdf(0.99)


# ---------------------------------------------------------------- measured


def workload_of(workloads: Sequence[str], wanted: str) -> str:
    """The workload of that name, or the one whose name ends with it (`v1`: front-end-v1). Raises ValueError,
    naming what there is."""
    found = [workload for workload in workloads if workload == wanted] or [
        workload for workload in workloads if workload.endswith(f"-{wanted}")
    ]
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"one workload named {wanted}, or ending in -{wanted}, is needed, but "
        f"{'several are' if found else 'none is'} there (there: {', '.join(found or workloads)})"
    )


def busiest(looks: Mapping[str, Sequence[Look]]) -> str:
    """The workload that served most."""
    return max(
        sorted(looks), key=lambda name: sum(total(look.stable.values()).requests for look in looks[name])
    )


def measured(looks: Mapping[str, Sequence[Look]], stable: str, source: str) -> TrafficProfile:
    """The profile by the looks of every workload of a service over the same window, each as the `stable` of
    its looks; `stable`: whose latency and errors are meant. Raises ValueError where there is too little of
    it."""
    own = [look for look in looks[stable] if look.sampled]
    if len(own) < FEWEST:
        raise ValueError(
            f"at least {FEWEST} looks with data of {stable} are needed, but there are {len(own)} of "
            f"{len(looks[stable])}"
        )
    sums = [total(look.stable.values()) for look in own]
    requests, failures = (
        np.array([getattr(counts, name) for counts in sums], dtype=np.float64)
        for name in ("requests", "failures")
    )
    if not requests.sum():
        raise ValueError(f"{stable} has served no request in this time: choose a longer one, or say the rate")
    seconds = sum(look.seconds for look in looks[stable])
    served = sum(
        total(look.stable.values()).requests for workload_looks in looks.values() for look in workload_looks
    )
    burst, bad, spell = troubles(failures, requests)
    replicas = max(1, sum(counts.requests > 0 for counts in own[-1].stable.values()))
    profile = TrafficProfile(
        served / seconds,
        float(failures.sum() / requests.sum()),
        replicas,
        0.0,
        0.0,
        burst=burst,
        bad=bad,
        spell=spell,
        bounds=(),
        history=tuple(looks[stable][-HISTORY_LOOKS:]),
        source=source,
    )
    return _with_latency(profile, own)


def _with_latency(profile: TrafficProfile, own: Sequence[Look]) -> TrafficProfile:
    """With the histogram of the looks, at the bounds that the last one has; as it is, where there is none."""
    bounds = own[-1].bounds
    counts = total(counts for look in own if look.bounds == bounds for counts in look.stable.values())
    if not bounds or not counts.timed:
        return profile
    shares = np.array(counts.slower(), dtype=np.float64) / counts.timed
    mean = counts.duration_ms / counts.timed
    return replace(
        profile,
        bounds=bounds,
        slower=tuple(shares.tolist()),
        mean_ms=mean,
        median_ms=_median(np.array(bounds), shares),
    )


def _median(bounds: Array, shares: Array) -> float:
    """Interpolated as the judge does, to a tenth of a per cent or so."""
    points = np.geomspace(bounds[0] / 10, bounds[-1], 20_000)
    return float(points[int(np.argmax(share_slower_than(bounds, shares, points) <= 0.5))])


def troubles(failures: Array, requests: Array) -> tuple[int, float, int]:
    """How failures hang together: their burst within a look, the share of bad looks, and how many looks a bad
    spell lasts.

    failures, requests: one value per look, shape (looks,), at least 20. Spells of a fixed length L have the
    correlation time L, and their covariance from one look to the next is (1 - 1/L) of their variance; that
    variance says how many looks are bad if a bad one has BAD times the usual rate.
    """
    mean = float(failures.mean())
    if mean <= 0:
        return 1, 0.0, 1
    tau = correlation_time(failures, requests)
    bad, spell = 0.0, 1
    if tau >= INDEPENDENT:
        spell = max(2, round(tau))
        surplus, _ = surplus_over_trend(failures, requests)
        covariance = float(np.mean(surplus[:-1] * surplus[1:])) / (1 - 1 / spell)
        bad = _share_bad(max(0.0, covariance) / mean**2)
    return round(burst_size(failures, requests)), bad, spell if bad else 1


def _share_bad(spread: float) -> float:
    """The share f of looks with BAD times the rate, from variance over squared mean of the rate: (BAD-1)^2 f
    (1-f) / (1 + (BAD-1) f)^2."""
    if spread <= 0:
        return 0.0
    more = (BAD - 1) ** 2
    # more (1 + spread) f^2 + (2 (BAD - 1) spread - more) f + spread = 0; the smaller root: bad looks are the
    # exception
    a, b = more * (1 + spread), 2 * (BAD - 1) * spread - more
    inside = b * b - 4 * a * spread
    return OFTEN_BAD if inside < 0 else min(OFTEN_BAD, (-b - sqrt(inside)) / (2 * a))
