"""How good any test can be: the least number of requests (Wald's argument)."""

from math import log


def fewest_requests(rate1: float, rate2: float, requests_ratio: float, risk: float) -> float:
    """Arm 2's requests below which no test of level `risk` can tell rate2 from rate1 on average.

    requests_ratio: arm 1's requests per request of arm 2, > 0; rates in (0, 1) and unequal. log(1/risk) over the information
    per request of arm 2, I = KL(p2, q) + a KL(p1, q) at the pooled rate q (Bernoulli divergences).
    """
    if not (0 < rate1 < 1 and 0 < rate2 < 1) or rate1 == rate2:
        raise ValueError(f"rate1 and rate2 must differ and lie between 0 and 1, but are {rate1} and {rate2}")
    if requests_ratio <= 0 or not 0 < risk < 1:
        raise ValueError(f"requests_ratio must be above 0 and risk between 0 and 1, but are {requests_ratio} and {risk}")
    pooled = (requests_ratio * rate1 + rate2) / (1 + requests_ratio)
    return log(1 / risk) / (_divergence(rate2, pooled) + requests_ratio * _divergence(rate1, pooled))


def _divergence(p: float, q: float) -> float:
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))
