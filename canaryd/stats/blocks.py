"""How long failures hang together, and how large bursts are: from one version's own past."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INDEPENDENT = 1.5  # a correlation time below this is not told from noise in 360 looks
LONGEST = 30  # looks in a block
TREND = 61  # looks: slower swings act on both versions alike and cancel in the comparison, so they must not lengthen blocks


def correlation_time(events: Array, requests: Array) -> float:
    """tau = 1 + 2 * (sum of autocorrelations), in looks, of the surplus of events over their local average.

    events, requests: one value per look, shape (looks,). The local average is taken over TREND looks, centred. The sum runs to the
    first autocorrelation of at most 2/sqrt(looks). Looks without a request say nothing and are left out: of a version that is younger
    than its past is long, they would make chance look like correlation. With fewer than 20 looks, or nothing that varies, 1.
    """
    events, requests = events[requests > 0], requests[requests > 0]
    if len(events) < 20:
        return 1.0
    surplus, expected = surplus_over_trend(events, requests)
    scale = np.sqrt(np.maximum(expected, 1e-9))
    residual = surplus / np.maximum(scale, np.sqrt(max(float(events.mean()), 1e-9)))
    return summed_autocorrelation(residual - residual.mean())


def summed_autocorrelation(residual: Array) -> float:
    """1 + 2 * (sum of autocorrelations), in looks, to the first of at most 2/sqrt(looks); 1 if nothing varies.

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
    """Events beyond what the average over TREND looks, centred, says, and what it says; each of shape (looks,)."""
    window = np.ones(min(TREND, len(events)))
    local = np.convolve(events, window, "same") / np.maximum(np.convolve(requests, window, "same"), 1.0)
    return events - requests * local, requests * local


def block_length(tau: float) -> int:
    """Looks in a block: 1 if tau < 1.5, else three correlation times, at most 30."""
    return 1 if tau < INDEPENDENT else min(LONGEST, int(np.ceil(3.0 * tau)))


def burst_size(events: Array, least: float = 2.0) -> float:
    """Mean events per burst: variance over mean of the counts per look, at least `least`. events: shape (looks,).

    What cannot be told from independent events (within two standard errors) is taken for them.
    """
    mean = float(events.mean()) if len(events) else 0.0
    if mean <= 0:
        return least
    size = float(events.var()) / mean
    return max(least, size if size > 1.0 + 2.0 * np.sqrt(2.0 / len(events)) else 1.0)


def usual_burst_size(events: Array) -> float:
    """Mean events per burst, at least 1, of what is not rare: a hanging replica is for the chance of disturbed looks to explain.

    events: shape (looks,). The worst tenth is cut off at the largest of the others, or at four times their mean. Then the larger of
    `burst_size` and of what the looks without an event say: bursts that come alone at a rate of m / b leave exp(-m / b) of them. Cutting
    off hardly changes that, but the variance a good deal. Where nine of ten looks are without an event, the bursts are in the tenth, and
    nothing is cut off.
    """
    if not len(events):
        return 1.0
    most = float(np.quantile(events, 0.9, method="inverted_cdf"))
    usual = max(most, 4.0 * float(events[events <= most].mean()))
    events = np.minimum(events, usual) if usual > 0 else events
    return max(burst_size(events, least=1.0), _burst_by_silence(events))


def _burst_by_silence(events: Array) -> float:
    silent = float((events == 0).mean())
    if not 0 < silent < 1:
        return 1.0
    bursts = -np.log(silent)  # a look
    error = np.sqrt((1 - silent) / (silent * len(events))) / bursts
    size = float(events.mean()) / bursts
    return size if size > 1.0 + 2.0 * error else 1.0


def sibling_correlation_time(events: Array, requests: Array) -> float:
    """tau, in looks, of single replicas' surplus of events over their siblings at the same time; shapes (looks, replicas).

    A trouble that all replicas share leaves no surplus; a replica that hangs for a spell, or is sick for good, leaves one that lasts. The
    expected surplus is 0, so nothing is subtracted, and a few looks are enough. With fewer than two replicas, or two looks, 1.
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
