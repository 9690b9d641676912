"""How good any test can be: the least number of requests (Wald's argument)."""

from math import log, sqrt


def fewest_requests(
    rate1: float,
    rate2: float,
    requests_ratio: float,
    risk: float,
    tolerated: float = 1.0,
    increase: float = 0.0,
) -> float:
    """Arm 2's requests below which no test of level `risk` can tell on average that rate2 is more than what
    is tolerated over rate1.

    requests_ratio: arm 1's requests per request of arm 2, > 0; rates in [0, 1]. Tolerated is the looser of a
    ratio, `tolerated` >= 1, and of an `increase` >= 0; rate2 has to be above both. log(1/risk) over the
    information per request of arm 2, I = KL(p2, r q) + a KL(p1, q) (Bernoulli divergences): of all pairs of
    rates that are tolerated, (q, r q) or (q, q + d) is the one nearest to the true pair, the hardest to rule
    out. With r = 1, q is the pooled rate. Raises ValueError for numbers that have no answer.
    """
    if (
        not (0 <= rate1 < 1 and 0 < rate2 <= 1)
        or tolerated < 1
        or increase < 0
        or rate2 <= max(tolerated * rate1, rate1 + increase)
    ):
        raise ValueError(
            "rate1 and rate2 must lie between 0 and 1, and rate2 above tolerated (at least 1) times rate1 "
            f"and above rate1 + increase (at least 0), but are {rate1} and {rate2}, tolerated is {tolerated} "
            f"and increase {increase}"
        )
    if requests_ratio <= 0 or not 0 < risk < 1:
        raise ValueError(
            f"requests_ratio must be above 0 and risk between 0 and 1, but are {requests_ratio} and {risk}"
        )
    by_ratio = _nearest(rate1, rate2, requests_ratio, tolerated)
    pairs = [(by_ratio, tolerated * by_ratio)]
    if increase > 0:
        by_increase = _nearest_below(rate1, rate2, requests_ratio, increase)
        pairs.append((by_increase, by_increase + increase))
    return log(1 / risk) / min(
        _divergence(rate2, q2) + requests_ratio * _divergence(rate1, q1) for q1, q2 in pairs
    )


def _nearest(rate1: float, rate2: float, ratio: float, tolerated: float) -> float:
    """The q that minimises KL(p2, r q) + a KL(p1, q): its derivative times the denominators is a quadratic,
    whose lower root is below 1/r."""
    square = tolerated * (1 + ratio)
    linear = ratio * (1 + tolerated * rate1) + tolerated + rate2
    constant = ratio * rate1 + rate2
    # The lower root, without the difference of two large numbers.
    return 2 * constant / (linear + sqrt(max(linear**2 - 4 * square * constant, 0.0)))


def _nearest_below(rate1: float, rate2: float, ratio: float, increase: float) -> float:
    """The q that minimises KL(p2, q + d) + a KL(p1, q), which is convex: bisection on its derivative."""
    low, high = 0.0, 1.0 - increase
    for _ in range(100):
        q = (low + high) / 2
        slope = (q + increase - rate2) / ((q + increase) * (1 - q - increase)) + ratio * (q - rate1) / (
            q * (1 - q)
        )
        low, high = (q, high) if slope < 0 else (low, q)
    return high


def _divergence(p: float, q: float) -> float:
    return (p * log(p / q) if p else 0.0) + ((1 - p) * log((1 - p) / (1 - q)) if p < 1 else 0.0)
