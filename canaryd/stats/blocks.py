"""How long failures hang together, and how large bursts are: from one version's own past."""

from itertools import pairwise

import numpy as np

from canaryd.stats.arrays import Array, Indices

INDEPENDENT = 1.5  # a correlation time below this is not told from noise in 360 looks
LONGEST = 30  # looks in a block
STEP = 8.0  # log likelihood ratio from which the rate is taken to have changed for good
# Looks that a rate must last, so that bad spells of one version are not taken for a change that strikes
# both: those of 18 looks on average last so long one time in sixteen. The first rate may be younger, as
# stable may be, and the last one much younger, since it is what the rollout begins with.
LASTING, EARLIEST, LATEST = 50, LONGEST, 3
COARSE = 4  # looks between the cuts at which an incident is looked for at first
# looks: slower swings act on both versions alike and cancel in the comparison, so they must not lengthen
# blocks
TREND = 61


def correlation_time(events: Array, requests: Array, proven: bool = False) -> float:
    """tau = 1 + 2 * (sum of autocorrelations), in looks, of the surplus of events over their local average.

    events, requests: one value per look, shape (looks,). The local average is taken over TREND looks,
    centred, on each side of a lasting change of the rate (`lasting_changes`, which has `proven`) by itself:
    such a change strikes both versions from then on, and is no trouble that comes and goes. The sum runs to
    the first autocorrelation of at most 2/sqrt(looks). Looks without a request say nothing and are left out:
    of a version that is younger than its past is long, they would make chance look like correlation. With
    fewer than 20 looks, or nothing that varies, 1.
    """
    events, requests = events[requests > 0], requests[requests > 0]
    if len(events) < 20:
        return 1.0
    edges = [0, *lasting_changes(events, requests, proven), len(events)]
    parts = [surplus_over_trend(events[start:end], requests[start:end]) for start, end in pairwise(edges)]
    surplus, expected = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
    scale = np.sqrt(np.maximum(expected, 1e-9))
    residual = surplus / np.maximum(scale, np.sqrt(max(float(events.mean()), 1e-9)))
    return summed_autocorrelation(residual - residual.mean())


def lasting_changes(events: Array, requests: Array, proven: bool = False) -> tuple[int, ...]:
    """The looks with which the rate of events changed for good, at most two: one step, or an incident that
    came and went.

    events, requests: shape (looks,), every look with requests. A change is one where two rates are likelier
    than one by more than STEP in the log, each look's events taken as Poisson. Each rate must have lasted for
    LASTING looks, the first one for EARLIEST, the last one for LATEST: what is shorter may be a bad spell of
    the one version that the past is of, and the next may be the canary's alone. proven: a rise must have
    lasted for LASTING looks as well, since the last one may be a spell that is not over.
    """
    looks = len(events)
    if looks < EARLIEST + LATEST or not events.any():
        return ()
    cuts = _Cuts(events, requests, proven)
    step, at = cuts.likeliest(np.zeros(1, dtype=np.intp), np.arange(EARLIEST, looks - LATEST + 1))
    coarse = np.arange(EARLIEST, looks - LATEST + 1, COARSE)
    incident, near = cuts.likeliest(coarse, coarse)
    if incident > STEP / 2:
        around = (np.arange(place - COARSE + 1, place + COARSE) for place in near)
        inside = (places[(places >= EARLIEST) & (places <= looks - LATEST)] for places in around)
        incident, near = cuts.likeliest(*inside)
    if incident > max(step, 0.0) + STEP:
        return near
    return at[1:] if step > STEP else ()


class _Cuts:
    """How much likelier it is that looks from one cut to another have a rate of their own."""

    def __init__(self, events: Array, requests: Array, proven: bool) -> None:
        self._events, self._requests = (np.concatenate(([0.0], np.cumsum(of))) for of in (events, requests))
        self._whole = _log_likelihood(self._events[-1], self._requests[-1])
        self._proven = proven

    def likeliest(self, began: Indices, ended: Indices) -> tuple[float, tuple[int, int]]:
        """The gain in log likelihood of the likeliest pair of cuts, one of each, and that pair; minus
        infinity where no pair is long enough. began: 0 alone where there is one cut."""
        began, ended = (places.ravel() for places in np.meshgrid(began, ended, indexing="ij"))
        fits = (ended - began >= LASTING) | (began == 0)
        began, ended = began[fits], ended[fits]
        events, requests = (
            self._events[ended] - self._events[began],
            self._requests[ended] - self._requests[began],
        )
        if self._proven and len(ended):
            last, served = self._events[-1] - self._events[ended], self._requests[-1] - self._requests[ended]
            is_old = len(self._events) - 1 - ended >= LASTING
            fits = is_old | (last * requests <= events * served)
            began, ended, events, requests = began[fits], ended[fits], events[fits], requests[fits]
        if not len(ended):
            return -np.inf, (0, 0)
        gains = (
            _log_likelihood(events, requests)
            + _log_likelihood(self._events[-1] - events, self._requests[-1] - requests)
            - self._whole
        )
        place = int(gains.argmax())
        return float(gains[place]), (int(began[place]), int(ended[place]))


def _log_likelihood(events: Array, requests: Array) -> Array:
    """Of events at their own rate, Poisson, without what no rate changes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(events > 0, events * np.log(events / requests), 0.0)


def summed_autocorrelation(residual: Array) -> float:
    """1 + 2 * (sum of autocorrelations), in looks, to the first of at most 2/sqrt(looks); 1 if nothing
    varies.

    residual: of mean 0, shape (looks,).
    """
    variance = float(residual @ residual)
    if variance <= 0:
        return 1.0
    tau, floor = 1.0, 2.0 / np.sqrt(len(residual))
    for lag in range(1, len(residual) // 2):
        rho = float(residual[:-lag] @ residual[lag:]) / variance
        if rho <= floor:
            break
        tau += 2.0 * rho
    return tau


def surplus_over_trend(events: Array, requests: Array) -> tuple[Array, Array]:
    """Events beyond what the average over TREND looks, centred, says, and what it says; each of shape
    (looks,)."""
    window = np.ones(min(TREND, len(events)))
    local = np.convolve(events, window, "same") / np.maximum(np.convolve(requests, window, "same"), 1.0)
    return events - requests * local, requests * local


def block_length(tau: float) -> int:
    """Looks in a block: 1 if tau < 1.5, else three correlation times, at most 30."""
    return 1 if tau < INDEPENDENT else min(LONGEST, int(np.ceil(3.0 * tau)))


def burst_size(events: Array, requests: Array) -> float:
    """Mean events per burst, at least 1, of what is not rare: a hanging replica is for the chance of
    disturbed looks to explain.

    events, requests: shape (looks,); looks without a request say nothing. The worst tenth of the rates is cut
    off at the largest of the others, or at four times their mean. Then the larger of two: the variance over
    the mean of what changes from a look to the next (so neither the hour's swing nor that traffic comes and
    goes counts), and what the looks without an event say, since bursts that come alone at a rate of m / b
    leave exp(-m / b) of them. Cutting off hardly changes that, but the variance a good deal. Where nine of
    ten looks are without an event, the bursts are in the tenth, and nothing is cut off.
    """
    events, requests = events[requests > 0], requests[requests > 0]
    if len(events) < 2 or not events.any():
        return 1.0
    rates = events / requests
    most = float(np.quantile(rates, 0.9, method="inverted_cdf"))
    if most > 0:
        lower = rates <= most
        events = np.minimum(
            events, requests * max(most, 4.0 * float(events[lower].sum() / requests[lower].sum()))
        )
    return max(_burst_by_change(events, requests), _burst_by_silence(events, requests))


def _burst_by_change(events: Array, requests: Array) -> float:
    share = requests[:-1] / (requests[:-1] + requests[1:])
    both = events[:-1] + events[1:]
    size = float(((events[:-1] - both * share) ** 2).sum() / max((both * share * (1 - share)).sum(), 1e-12))
    error = np.sqrt((3.0 + 1.0 / events.mean()) / len(events))
    return size if size > 1.0 + 2.0 * error else 1.0


def _burst_by_silence(events: Array, requests: Array) -> float:
    silent = float((events == 0).mean())
    expected = surplus_over_trend(events, requests)[1]
    alone = float(np.exp(-expected).mean())
    if not 0 < silent < 1 or silent <= alone + 2.0 * np.sqrt(alone * (1.0 - alone) / len(events)):
        return 1.0
    low, high = 1e-3, 1e6
    for _ in range(60):  # the size at which so many looks are silent; bisection on its logarithm
        size = np.sqrt(low * high)
        low, high = (size, high) if float(np.exp(-expected / size).mean()) < silent else (low, size)
    return float(high)


def sibling_correlation_time(events: Array, requests: Array) -> float:
    """tau, in looks, of single replicas' surplus of events over their siblings at the same time; shapes
    (looks, replicas).

    A trouble that all replicas share leaves no surplus; a replica that hangs for a spell, or is sick for
    good, leaves one that lasts. The expected surplus is 0, so nothing is subtracted, and a few looks are
    enough. With fewer than two replicas, or two looks, 1.
    """
    looks, replicas = events.shape
    if replicas < 2 or looks < 2:
        return 1.0
    share = events.sum(axis=1) / np.maximum(requests.sum(axis=1), 1.0)
    surplus = events - requests * share[:, None]
    scale = float((surplus**2).sum())
    if scale <= 0:
        return 1.0
    tau, floor = 1.0, 2.0 / np.sqrt(looks * (replicas - 1))
    for lag in range(1, looks):
        rho = float((surplus[:-lag] * surplus[lag:]).sum()) / scale
        if rho <= floor:
            break
        tau += 2.0 * rho
    return tau
