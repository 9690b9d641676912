"""Where users are drawn, and not requests: how many each version has, and what that means for what is
compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.judge.comparisons import CLEAR, HARM, LUCKY
from canaryd.judge.replica_variation import MeanLuck
from canaryd.stats.arrays import Array, Single
from canaryd.stats.between_replicas import widened
from canaryd.stats.cluster_randomization import UserLuck, luck_below, mean_variance, share_sd, user_luck

SHARE_SDS = 4.0  # standard deviations: it is asked of each rollout once, and of all the time


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many users each version has: the policy's number, divided by the weight. stages: in which users are
    drawn."""

    stable: float
    canary: float
    stages: int

    @property
    def share_luck(self) -> float:
        """The difference that the canary's share of the requests may have from its share of the users, 0 to
        1."""
        both = self.stable + self.canary
        return SHARE_SDS * share_sd(both, self.canary / both)

    def luck(self, rate: Array) -> UserLuck:
        """What the draw of users may bring (`user_luck`). rate: stable's so far, shape (comparisons,)."""
        return user_luck(rate, self.stable, self.canary, self.stages)

    def hides(self, rate: Array, worse: Array, added: Array) -> Single:
        """How likely luck hides what a stage must rule out (`luck_below`), shape (comparisons, CLEAR.border +
        1). rate, worse, added: shape (comparisons,)."""
        return luck_below(CLEAR.theta[: CLEAR.border + 1], rate, worse, added, self.stable, self.canary)

    def together(self, earlier: Sequence[float], now: float) -> float:
        """The odds of the rollout: the mean of its stages', those to come being even.

        What few users have shown at 10% may have been their luck, and does not become proof when there are
        more at 50%, where less luck is possible; nor may the stages' odds be multiplied, for the unlucky ones
        stay. A mean of odds is as valid as each is, however they hang together. (Of 150 healthy versions with
        300 users three were rolled back at 50% for what had been seen before.)
        """
        odds = [*earlier, now][-self.stages :]  # after a step back a stage comes again
        return (sum(odds) + self.stages - len(odds)) / self.stages

    def with_mean(self, luck: MeanLuck) -> MeanLuck:
        """What replicas' luck and users' luck together bring to the ratio of mean latencies."""
        scale, freedom = widened(
            np.array(luck.scale), luck.degrees, np.array(mean_variance(self.stable, self.canary))
        )
        return MeanLuck(float(scale), float(freedom))


def drawn(policy: Policy, span: Span | None) -> Drawn | None:
    """None where requests are drawn."""
    if span is None or (wants := policy.by_user(span.stage)) is None or not 0 < span.weight < 100:
        return None
    return Drawn(
        wants.users * (1 - span.weight / 100),
        wants.users * span.weight / 100,
        sum(0 < weight < 100 for weight in policy.weights),
    )


def lucky(users: Drawn | None) -> Array:
    """The log ratios from the border on that luck may reach: users' luck all there are, for one of few may
    bring a tenfold rate."""
    over = HARM.theta[HARM.border :]
    return over[:LUCKY] if users is None else over


def shown_by_none(expected: float, hidden: Single | None) -> float:
    """The evidence (log) that a canary without any event has given by serving, where one as bad as must be
    ruled out would have had so many; hidden: how few of them luck may leave, as `Drawn.hides` has it, None
    where requests are drawn."""
    if hidden is None:
        return expected
    return -float(np.logaddexp.reduce(hidden - expected * np.exp(CLEAR.theta[: CLEAR.border + 1])))
