"""How much replicas of one version differ from each other, so that such a difference is not held against another version."""

import numpy as np
from scipy.special import stdtrit

PRIOR_SD = 0.1  # of the log rate between replicas of one version
PRIOR_REPLICAS = 4  # what the prior weighs, in replicas


def prior_ratio_floor(replicas1: int, replicas2: int, risk: float) -> float:
    """The least ratio that two versions' rates may differ by, from the prior alone: what their replicas' luck explains.

    exp(t * 0.1 * sqrt(1/m1 + 1/m2)), t the one-sided Student quantile for half of risk at m1 + 3 degrees of freedom.
    """
    if replicas1 < 1 or replicas2 < 1:
        raise ValueError(f"both versions must have a replica, but have {replicas1} and {replicas2}")
    quantile = float(stdtrit(replicas1 + PRIOR_REPLICAS - 1, 1.0 - risk / 2.0))
    return float(np.exp(quantile * PRIOR_SD * np.sqrt(1.0 / replicas1 + 1.0 / replicas2)))
