"""How much replicas of one version differ from each other, so that such a difference is not held against
another version."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc, stdtr, stdtrit

from canaryd.stats.arrays import Array, Single
from canaryd.stats.cluster_randomization import UserLuck

# Of the log rate between replicas of one version, where nothing is known. At 10% a doubled error rate needs
# 8% more requests to be found, and no more replicas' luck was told from harm (simulated, 3 and 3 replicas
# that differ by 10% and 30%).
PRIOR_SD = 0.07
PRIOR_REPLICAS = 4  # what the prior weighs, in replicas
RARE = 0.005
# beyond the last log ratio there is, where few users' luck may lie: up to a hundredfold
FARTHER = np.arange(0.25, 4.6, 0.25)
NODES = (np.arange(7) + 0.5) / 7  # quantiles at which replicas' luck is taken beside that of users


def between_replicas(events: Array, requests: Array, dispersion: Array) -> Array:
    """Standard deviation between replicas of the log rate, in excess of sampling noise; shape (comparisons,).

    The method of moments of DerSimonian and Laird (Controlled Clinical Trials 7, 1986). events: shape
    (replicas, comparisons); requests: shape (replicas,); dispersion: variance over mean of an event count, at
    least 1, shape (comparisons,): events in bursts make equal replicas look unequal. 0 for fewer than two
    replicas with requests, and for comparisons with less than five events in all.
    """
    served = requests > 0
    events, requests = events[served], requests[served]
    if len(requests) < 2:
        return np.zeros(events.shape[1])
    rate = (events + 0.5) / (requests[:, None] + 1.0)
    log_rate = np.log(rate)
    # Of one replica's count the expected one, not its own: few events would otherwise weigh as if they were
    # certain.
    pooled = (events.sum(axis=0) + 0.5) / (requests.sum() + 1.0)
    weight = 1.0 / (dispersion * (1.0 - pooled) / (pooled * requests[:, None] + 0.5))
    total = weight.sum(axis=0)
    mean = (weight * log_rate).sum(axis=0) / total
    spread = (weight * (log_rate - mean) ** 2).sum(axis=0)
    room = total - (weight**2).sum(axis=0) / total
    excess = np.maximum(0.0, spread - (len(requests) - 1)) / np.maximum(room, 1e-12)
    return np.asarray(np.where(events.sum(axis=0) >= 5, np.sqrt(excess), 0.0))


def shrunk(sd: Array, replicas: int) -> Array:
    """The estimate drawn towards PRIOR_SD, since few replicas say little: alone it is 0 in half of all draws.
    Shape as sd."""
    weight = max(replicas - 1, 0)
    return np.asarray(
        np.sqrt((PRIOR_REPLICAS * PRIOR_SD**2 + weight * np.asarray(sd) ** 2) / (PRIOR_REPLICAS + weight))
    )


def degrees(replicas_seen: int) -> int:
    """Degrees of freedom of an estimate from so many replicas that was drawn towards the prior."""
    return max(replicas_seen, 1) - 1 + PRIOR_REPLICAS


def ratio_by_luck(sd: Array, replicas_seen: int, replicas1: int, replicas2: int, risk: float) -> Array:
    """The ratio of two equal versions' rates that their replicas' luck exceeds with chance `risk`; shape of
    sd, which is a shrunk one.

    exp(t * sd * sqrt(1/m1 + 1/m2)), t the one-sided Student quantile. replicas_seen: those that sd was
    estimated from. Raises ValueError for a version without a replica.
    """
    if replicas1 < 1 or replicas2 < 1:
        raise ValueError(f"both versions must have a replica, but have {replicas1} and {replicas2}")
    quantile = float(stdtrit(degrees(replicas_seen), 1.0 - risk))
    return np.asarray(np.exp(quantile * np.asarray(sd) * np.sqrt(1.0 / replicas1 + 1.0 / replicas2)))


def chance_beyond(deviate: float, degrees: float) -> float:
    """The chance that a Student deviate is larger, at least 1e-300."""
    return max(float(stdtr(degrees, -deviate)), 1e-300)


def chance_of_as_many(events: float, expected: float) -> float:
    """The chance of so many independent events, > 0, or more, where `expected` are (Poisson); at least
    1e-300."""
    return max(float(gammainc(events, expected)), 1e-300)


@dataclass(frozen=True, slots=True)
class Luck:
    """What the luck of the draw of replicas brings at each comparison.

    log_chances: of some log ratios over a border, shape (comparisons, log ratios), their exponentials summing
    to 1. hardly_more: the ratio over the border that is exceeded with chance RARE in a rollout, at least 1,
    shape (comparisons,).
    """

    log_chances: Single
    hardly_more: Array


def luck(
    theta: Array,
    centre: Array,
    sd: Array,
    replicas_seen: int,
    replicas1: int,
    replicas2: int,
    users: UserLuck | None = None,
) -> Luck:
    """The luck of the draw of replicas, at the log ratios theta over a border: rising from 0, shape (L,); the
    first takes all that is less, the last all that is more.

    centre: where equal versions lie from the border, at most 0, shape (comparisons,); sd: between replicas
    (shrunk), shape (comparisons,), estimated from `replicas_seen` of them. Student's distribution,
    since those are a handful. users: what their draw brings besides, where users are drawn.
    """
    scale = np.maximum(sd, 1e-6) * np.sqrt(1.0 / max(replicas1, 1) + 1.0 / max(replicas2, 1))
    edges = (theta[:-1] + theta[1:]) / 2.0
    below = stdtr(degrees(replicas_seen), (edges - centre[:, None]) / scale[:, None])
    hardly_more = np.exp(np.maximum(centre + stdtrit(degrees(replicas_seen), 1.0 - RARE) * scale, 0.0))
    if users is not None:
        below, hardly_more = _with_users(users, edges, centre, scale, degrees(replicas_seen), hardly_more)
    chances = np.diff(
        np.concatenate((np.zeros((len(centre), 1)), below, np.ones((len(centre), 1))), axis=1), axis=1
    )
    log_chances = np.log(np.maximum(chances, 1e-30)).astype(np.float32)
    return Luck(log_chances, hardly_more)


def widened(scale: Array, degrees: float, variance: Array) -> tuple[Array, Array]:
    """Scale and degrees of freedom of the sum of a Student's deviate and a normal one, each of the shape of
    scale (Welch, Biometrika 34, 1947; Satterthwaite, Biometrics Bulletin 2, 1946).

    scale, degrees: of the Student's deviate, scale > 0; variance: of the normal one, shape as scale.
    """
    both = scale**2 + variance
    return np.sqrt(both), degrees * (both / scale**2) ** 2


def _with_users(
    users: UserLuck, edges: Array, centre: Array, scale: Array, degrees: float, hardly_more: Array
) -> tuple[Array, Array]:
    """Chances of less than each edge, and the ratio that is hardly exceeded, with users' luck besides
    replicas'.

    Replicas are drawn once, and users for each stage: so in one of several stages less often than RARE. (Of
    400 healthy versions with 300 users, of whom a few always fail, five were rolled back by the bet, which
    was allowed RARE in each of three stages.)
    """
    count = edges.size
    edges = np.concatenate((edges, edges[-1] + FARTHER))
    wide, freedom = widened(scale, degrees, users.variance)
    middle = centre + users.mean
    above = stdtr(freedom[:, None], (middle[:, None] - edges) / wide[:, None])
    rare = np.minimum(1.0, users.most / np.maximum(above[:, 0], 1e-30))[:, None]
    above = rare * above + (1.0 - rare) * stdtr(degrees, (centre[:, None] - edges) / scale[:, None])
    nodes = stdtrit(degrees, NODES)
    # what is left to users where replicas bring so much
    apart = edges[:, None] - centre[:, None, None] - scale[:, None, None] * nodes
    by_few = users.beyond_by_few(apart.reshape(len(centre), -1)).reshape(apart.shape).mean(axis=2)
    above = np.maximum(above, by_few)
    # The first edge that is hardly exceeded, or the last.
    rarely = above <= RARE / users.stages
    place = np.where(rarely.any(axis=1), rarely.argmax(axis=1), edges.size - 1)
    return 1.0 - above[:, :count], np.maximum(hardly_more, np.exp(edges[place]))
