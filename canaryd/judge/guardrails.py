"""Limits on an error rate and on shares of slow requests. Those on queries are in `queries.py`.

Rates are tested by betting, so that they too hold at every look.

**A limit is held against the larger of itself and what stable has in the same seconds**, unless the policy
says `absolute: true`: where a dependency fails for both versions, a rollback would change nothing. It is
judged in blocks as long as the comparison's, since a version has bad spells of its own while stable has none:
of 40 healthy versions in spells of 18 looks 19 were rolled back by a limit of 5% as it stands, 10 by the same
seconds look by look, and 2 in blocks, as many as without a limit; bad versions as soon as before. Of stable's
k failures in n requests (k + 1) / (n + 1) is taken: the bet divides by it, and its inverse is on average no
more than that of the true rate, while k / n would roll back half of all healthy versions in an outage of both
where stable serves 30 requests a look. While the canary's last looks are over the limit, nothing passes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canaryd.domain.assessment import LimitAssessment, UnseenLimit
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import FEW_EVENTS, Answer
from canaryd.judge.count_vectors import FAILURES, REQUESTS, SLOWER, TIMED
from canaryd.judge.metric_evidence import LARGEST_LOG
from canaryd.stats.arrays import Array
from canaryd.stats.betting import full_look, log_gains_on_rate, log_total, purse, staked
from canaryd.stats.changepoint import AT_STAGE, hazard

LATELY = 10  # looks in which the canary's share is held against the limit as it stands
ALIKE = 1.2  # times stable's share, up to which the canary is said to be no worse
LEAST_LIMIT = 1e-6  # a limit of 0 is this: then a single event is odds enough


class RateLimits:
    """Bets on rates against limits; they know that a limit may be broken from any look on, and above all from
    a stage's first.

    A look counts by its size against that of a full look, known before it (`full_look`).
    """

    def __init__(self, count: int) -> None:
        self._cap = np.zeros(count)
        self._purse = purse(count)
        self._looks, self._turning = 0, 0.0
        self.odds = np.ones(count)  # against each limit being kept

    def new_stage(self) -> None:
        """A stage begins, with which a limit may well begin to be broken."""
        self._turning = AT_STAGE

    def remember(self, other: "RateLimits", mine: Sequence[int], theirs: Sequence[int]) -> None:
        """Takes over what another one gathered of the limits at `theirs`, which are at `mine` here."""
        for here, there in (
            (self._cap, other._cap),
            (self._purse, other._purse),
            (self.odds, other.odds),
        ):
            here[list(mine)] = there[list(theirs)]
        self._looks, self._turning = other._looks, other._turning

    def fold(self, events: Array, requests: Array, limits: Array) -> None:
        """One look; all of shape (count,). limits in (0, 1); without requests a look says nothing."""
        gains = log_gains_on_rate(events, requests, limits, self._cap)
        self._cap = full_look(self._cap, requests)
        self._purse = staked(self._purse, gains, np.full(len(gains), max(self._turning, hazard(self._looks))))
        self._turning, self._looks = 0.0, self._looks + 1
        self.odds = np.exp(np.minimum(log_total(self._purse), LARGEST_LOG))


@dataclass(frozen=True)
class Limit:
    """A share that must not be exceeded. events, requests: places in a look's vector; bound_ms: of a latency
    limit. is_absolute: whether it holds whatever stable does."""

    metric: str
    share: float
    events: int
    requests: int
    bound_ms: float | None = None
    is_absolute: bool = False

    @property
    def named(self) -> tuple[str, float, float | None]:
        """What it is, wherever its counts are."""
        return self.metric, self.share, self.bound_ms


class Guardrails:
    """The policy's limits on rates, folded look by look at any weight.

    blocks: looks in a block, by metric: those of the comparisons.
    """

    def __init__(self, policy: Policy, bounds: Sequence[float], blocks: Mapping[str, int] = {}) -> None:
        self.limits, self.unseen = limits_of(policy, bounds)
        count = len(self.limits)
        self._rates = RateLimits(count)
        self._shares = np.array([limit.share for limit in self.limits])
        self._events = np.array([limit.events for limit in self.limits], dtype=np.intp)
        self._requests = np.array([limit.requests for limit in self.limits], dtype=np.intp)
        self._absolute = np.array([limit.is_absolute for limit in self.limits], dtype=bool)
        self._blocks = np.array(
            [1 if limit.is_absolute else blocks.get(limit.metric, 1) for limit in self.limits], dtype=np.intp
        )
        self._open = np.zeros((4, count))  # of the block: events and requests, the canary's and then stable's
        self._open_looks = np.zeros(count, dtype=np.intp)
        self.counted = np.zeros((4, count))  # the same of this stage
        self._lately = np.zeros((LATELY, 2, count))  # the canary's of the last looks with requests

    def remember(self, other: "Guardrails") -> None:
        """Takes over what another one gathered, of the limits that both have."""
        theirs = {limit.named: place for place, limit in enumerate(other.limits)}
        mine = [place for place, limit in enumerate(self.limits) if limit.named in theirs]
        places = [theirs[self.limits[place].named] for place in mine]
        self._rates.remember(other._rates, mine, places)
        self.counted[:, mine], self._open[:, mine] = other.counted[:, places], other._open[:, places]
        self._open_looks[mine] = other._open_looks[places]

    def begin_stage(self) -> None:
        """A stage begins: what is shown as seen begins anew, what was gathered stays."""
        self._close(np.full(len(self.limits), True))
        self._rates.new_stage()
        self.counted = np.zeros_like(self.counted)

    def fold(self, canary: Array, stable: Array) -> None:
        """canary, stable: each version's vector of one look."""
        if not self.limits:
            return
        look = np.array(
            [side[places] for side in (canary, stable) for places in (self._events, self._requests)]
        )
        self.counted += look
        self._open += look
        self._open_looks += 1
        if look[1].any():
            self._lately = np.concatenate((self._lately[1:], look[None, :2]))
        # Without stable's requests there is the limit alone, and nothing to wait for.
        self._close((self._open_looks >= self._blocks) | (self._open[3] == 0))

    def _close(self, over: NDArray[np.bool_]) -> None:
        """Bets on the blocks that are over."""
        if not over.any():
            return
        events, requests, of_stable, stable_requests = np.where(over, self._open, 0.0)
        beside = np.where(
            (stable_requests > 0) & ~self._absolute, (of_stable + 1) / (stable_requests + 1), 0.0
        )
        self._rates.fold(events, requests, np.clip(beside, self._shares, 1.0 - LEAST_LIMIT))
        self._open[:, over], self._open_looks[over] = 0.0, 0

    @property
    def odds(self) -> Array:
        """The odds that each limit is broken, shape (limits,)."""
        return self._rates.odds

    @property
    def is_over(self) -> NDArray[np.bool_]:
        """Of each limit, whether the canary was over it in its last looks: nothing should pass, whatever
        stable does. Shape (limits,)."""
        events, requests = self._lately.sum(axis=0)
        return np.asarray((events >= FEW_EVENTS) & (events > self._shares * requests))

    def assessed(self, bar: float) -> tuple[LimitAssessment, ...]:
        """What was found of each limit in this stage."""
        return tuple(
            _assessed(limit, float(odds), counted, bool(is_over), bar)
            for limit, odds, counted, is_over in zip(
                self.limits, self.odds, self.counted.T, self.is_over, strict=True
            )
        )


def _assessed(limit: Limit, odds: float, counted: Array, is_over: bool, bar: float) -> LimitAssessment:
    events, requests, of_stable, stable_requests = (float(count) for count in counted)
    if odds >= bar:
        answer = Answer.FAIL
    elif not requests:
        answer = Answer.NO_DATA
    else:
        answer = Answer.PASS if events / requests <= limit.share and not is_over else Answer.UNDECIDED
    stable_share = of_stable / stable_requests if stable_requests else None
    beside = 0.0 if stable_share is None or limit.is_absolute else stable_share
    return LimitAssessment(
        metric=limit.metric,
        bound_ms=limit.bound_ms,
        limit=limit.share,
        events=events,
        requests=requests,
        odds=odds,
        stable_share=stable_share,
        is_over=is_over,
        is_shared=bool(
            is_over
            and answer is not Answer.FAIL
            and beside > limit.share
            and events <= ALIKE * beside * requests
        ),
        answer=answer,
    )


def limits_of(policy: Policy, bounds: Sequence[float]) -> tuple[tuple[Limit, ...], tuple[UnseenLimit, ...]]:
    """The rate limits, and those that the histogram cannot see.

    An SLO between two bounds is held at the next bound above: fewer requests are slower than that, so none is
    broken wrongly.
    """
    analysis = policy.analysis
    limits, unseen = [], []
    if analysis.errors and analysis.errors.max is not None and analysis.errors.max < 1:
        share = max(analysis.errors.max, LEAST_LIMIT)
        limits.append(Limit("errors", share, FAILURES, REQUESTS, is_absolute=analysis.errors.absolute))
    if analysis.latency is None:
        return tuple(limits), ()
    for quantile, seconds in sorted(analysis.latency.slo.items()):
        share = 1.0 - float(quantile.removeprefix("p")) / 100.0
        place = next((i for i, bound in enumerate(bounds) if bound >= seconds * 1000 * (1 - 1e-9)), None)
        if place is None:
            if bounds:
                unseen.append(UnseenLimit(quantile, seconds * 1000, bounds[-1]))
            continue
        at_most, is_absolute = max(share, LEAST_LIMIT), analysis.latency.absolute
        limits.append(Limit("latency", at_most, SLOWER + place, TIMED, bounds[place], is_absolute))
    return tuple(limits), tuple(unseen)
