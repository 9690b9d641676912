"""The least time in which any test could let a stage pass. No mathematics gets below it, canaryd's own
included."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, log1p

from canaryd.domain.policy.metrics import Errors
from canaryd.domain.policy.policy import Policy
from canaryd.judge.judge import Judge
from canaryd.judge.metric_evidence import excess
from canaryd.simulation.simulated_rollout import served
from canaryd.simulation.traffic_profile import TrafficProfile


@dataclass(frozen=True)
class RuledOut:
    """What must be ruled out before a stage passes: that the canary's error rate is at least `ratio` times
    stable's and at least `increase` above it, the looser of both. risk: of ruling it out wrongly."""

    ratio: float
    increase: float
    risk: float

    @classmethod
    def before(cls, next_weight: int, errors: Errors, risk: float) -> "RuledOut":
        """By the policy, of a stage that leads to `next_weight` per cent."""
        return cls(
            1.0 + excess(errors.unacceptable_ratio, next_weight),
            excess(errors.unacceptable_increase, next_weight),
            risk,
        )

    def canary_rate(self, stable_rate: float) -> float:
        """The lowest error rate of a canary that must be ruled out beside a stable with this one; at most
        1."""
        return min(max(self.ratio * stable_rate, stable_rate + self.increase), 1.0)


def least_seconds(
    rate: float, burst: float, stable_requests: float, canary_requests: float, ruled_out: RuledOut
) -> float:
    """Seconds that any test needs on average before it can let a healthy canary pass; inf: it never can.

    rate: the error rate of both versions, in [0, 1); burst: failures that come together, at least 1;
    stable_requests, canary_requests: per second, at least 0. Wald's argument: log(1/risk) over the
    information per second that tells the healthy pair of rates from the nearest pair which must be ruled out
    (Bernoulli divergences), a burst telling as much as one failure. The test may know how bursty failures
    are, and need not know stable's rate.
    """
    if not 0 <= rate < 1 or burst < 1 or stable_requests < 0 or canary_requests < 0:
        raise ValueError(
            "rate must be at least 0 and below 1, burst at least 1 and requests at least 0, but are "
            f"{rate}, {burst}, {stable_requests} and {canary_requests}"
        )

    def information(other: float) -> float:
        """Per second, were stable's rate the other one; convex in it."""
        worse = max(ruled_out.canary_rate(other), rate)
        return stable_requests * _divergence(rate, other) + canary_requests * _divergence(rate, worse)

    # Beside a higher rate of stable than the true one, what must be ruled out would only be further away.
    least = _minimum(information, rate) / burst
    return log(1 / ruled_out.risk) / least if least > 0 else inf


def _minimum(convex: Callable[[float], float], high: float) -> float:
    """Of a convex function over [0, high], by thirds."""
    low = 0.0
    for _ in range(100):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if convex(left) < convex(right) else (left, high)
    return convex((low + high) / 2)


def _divergence(p: float, q: float) -> float:
    """KL(p, q) of Bernoulli trials."""
    if (p > 0 and q <= 0) or (p < 1 and q >= 1):
        return inf
    return (p * log(p / q) if p else 0.0) + ((1 - p) * (log1p(-p) - log1p(-q)) if p < 1 else 0.0)


# ---------------------------------------------------------------- of a policy's stages


@dataclass(frozen=True)
class Troubles:
    """How stable's failures hang together, as the judge takes them. burst: failures that come together within
    a block; block: looks that are one unit."""

    burst: float
    block: int


def troubles_of(policy: Policy, traffic: TrafficProfile) -> Troubles:
    """Of a measured past by the judge's own estimates, else as given."""
    errors = Judge(policy, traffic.history).errors if traffic.history else None
    if errors is None:
        return Troubles(traffic.burst, 1)
    return Troubles(max(1.0, float(errors.comparisons.burst[0])), errors.block)


def least_at(policy: Policy, traffic: TrafficProfile, troubles: Troubles, stage: int) -> float:
    """Seconds that any test of the errors needs on average before a healthy version can pass this stage; 0
    where the stage rules nothing out."""
    errors, asked = policy.analysis.errors, policy.stages[stage]
    if errors is None or not asked.rules_out:
        return 0.0
    canary, stable = served(asked)
    requests = (
        traffic.rate * (100 - canary if stable is None else stable) / 100,
        traffic.rate * canary / 100,
    )
    ruled_out = ruled_out_at(policy, errors, stage)
    least = least_seconds(traffic.errors, troubles.burst, *requests, ruled_out)
    return max(least, troubles.block * policy.analysis.interval if troubles.block > 1 else 0.0)


def ruled_out_at(policy: Policy, errors: Errors, stage: int) -> RuledOut:
    """What this stage must rule out of the errors, which depends on where it leads."""
    weights = [later.weight for later in policy.stages[stage + 1 :] if later.weight]
    return RuledOut.before(weights[0] if weights else 100, errors, policy.analysis.bad_advance_risk)
