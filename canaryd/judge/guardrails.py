"""Limits of the canary's own, whatever stable does: an error rate, and shares of slow requests. Those on
queries are in `queries.py`.

Rates are tested by betting, so that they too hold at every look; they also end what is too plain to wait for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from canaryd.domain.assessment import LimitAssessment, UnseenLimit
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import Answer
from canaryd.judge.count_vectors import FAILURES, REQUESTS, SLOWER, TIMED
from canaryd.judge.metric_evidence import LARGEST_LOG
from canaryd.stats.arrays import Array
from canaryd.stats.betting import STAKES, log_gains_on_rate, log_total, purse, staked
from canaryd.stats.changepoint import AT_STAGE, hazard

LEAST_LIMIT = 1e-6  # a limit of 0 is this: then a single event is odds enough
CAP_KEPT, CAP_GROWTH = 0.95, 2.0  # of the measure of a full look, from one look to the next: see `RateLimits`


class RateLimits:
    """Bets on rates against limits; they know that a limit may be broken from any look on, and above all from
    a stage's first.

    A look counts by its size against that of a full look, known before it. The largest ever would not do: the
    first look after an outage may hold an hour's requests, and every usual look after it would weigh next to
    nothing. So the measure at most doubles from one look to the next, and fades.

    forgetful: good looks are forgotten (Page's CUSUM), so that what begins late is seen as fast as what was
    there at once, and the stake that gained most counts. Nothing is promised of false alarms then.
    """

    def __init__(self, count: int, forgetful: bool = False) -> None:
        self._forgetful = forgetful
        self._cap = np.zeros(count)
        self._gains = np.zeros((count, len(STAKES)))
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
            (self._gains, other._gains),
            (self._purse, other._purse),
            (self.odds, other.odds),
        ):
            here[list(mine)] = there[list(theirs)]
        self._looks, self._turning = other._looks, other._turning

    def fold(self, events: Array, requests: Array, limits: Array) -> None:
        """One look; all of shape (count,). limits in (0, 1)."""
        gains = log_gains_on_rate(events, requests, limits, self._cap)
        grown = np.minimum(np.maximum(CAP_KEPT * self._cap, requests), CAP_GROWTH * self._cap)
        self._cap = np.where(self._cap > 0, grown, requests)
        if self._forgetful:
            self._gains = np.maximum(self._gains, 0.0) + gains
            log_odds = self._gains.max(axis=1)
        else:
            self._purse = staked(
                self._purse, gains, np.full(len(gains), max(self._turning, hazard(self._looks)))
            )
            log_odds = log_total(self._purse)
        self._turning, self._looks = 0.0, self._looks + 1
        self.odds = np.exp(np.minimum(log_odds, LARGEST_LOG))


@dataclass(frozen=True)
class Limit:
    """A share that must not be exceeded. events, requests: places in a look's vector; bound_ms: of a latency
    limit."""

    metric: str
    share: float
    events: int
    requests: int
    bound_ms: float | None = None

    @property
    def named(self) -> tuple[str, float, float | None]:
        """What it is, wherever its counts are."""
        return self.metric, self.share, self.bound_ms


class Guardrails:
    """The policy's limits on rates, folded look by look at any weight."""

    def __init__(self, policy: Policy, bounds: Sequence[float]) -> None:
        self.limits, self.unseen = limits_of(policy, bounds)
        self._rates = RateLimits(len(self.limits))
        self._shares = np.array([limit.share for limit in self.limits])
        self._events = np.array([limit.events for limit in self.limits], dtype=np.intp)
        self._requests = np.array([limit.requests for limit in self.limits], dtype=np.intp)
        self.counted = np.zeros((2, len(self.limits)))  # events and requests of this stage

    def remember(self, other: "Guardrails") -> None:
        """Takes over what another one gathered, of the limits that both have."""
        theirs = {limit.named: place for place, limit in enumerate(other.limits)}
        mine = [place for place, limit in enumerate(self.limits) if limit.named in theirs]
        places = [theirs[self.limits[place].named] for place in mine]
        self._rates.remember(other._rates, mine, places)
        self.counted[:, mine] = other.counted[:, places]

    def begin_stage(self) -> None:
        """A stage begins: what is shown as seen begins anew, what was gathered stays."""
        self._rates.new_stage()
        self.counted = np.zeros_like(self.counted)

    def fold(self, canary: Array) -> None:
        """canary: the version's vector of one look."""
        if self.limits:
            self._rates.fold(canary[self._events], canary[self._requests], self._shares)
            self.counted += canary[self._events], canary[self._requests]

    @property
    def odds(self) -> Array:
        """The odds that each limit is broken, shape (limits,)."""
        return self._rates.odds

    def assessed(self, bar: float, stable: Array) -> tuple[LimitAssessment, ...]:
        """What was found of each limit. stable: its vector over all that was counted, shape (width,)."""
        return tuple(
            _assessed(limit, float(odds), float(events), float(requests), bar, stable)
            for limit, odds, events, requests in zip(self.limits, self.odds, *self.counted, strict=True)
        )


def _assessed(
    limit: Limit, odds: float, events: float, requests: float, bar: float, stable: Array
) -> LimitAssessment:
    if odds >= bar:
        answer = Answer.FAIL
    elif not requests:
        answer = Answer.NO_DATA
    else:
        answer = Answer.PASS if events / requests <= limit.share else Answer.UNDECIDED
    served = stable[limit.requests]
    return LimitAssessment(
        metric=limit.metric,
        bound_ms=limit.bound_ms,
        limit=limit.share,
        events=events,
        requests=requests,
        odds=odds,
        stable_share=float(stable[limit.events] / served) if served else None,
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
        limits.append(Limit("errors", max(analysis.errors.max, LEAST_LIMIT), FAILURES, REQUESTS))
    for quantile, seconds in sorted(analysis.latency.slo.items()) if analysis.latency else ():
        share = 1.0 - float(quantile.removeprefix("p")) / 100.0
        place = next((i for i, bound in enumerate(bounds) if bound >= seconds * 1000 * (1 - 1e-9)), None)
        if place is None:
            if bounds:
                unseen.append(UnseenLimit(quantile, seconds * 1000, bounds[-1]))
            continue
        limits.append(Limit("latency", max(share, LEAST_LIMIT), SLOWER + place, TIMED, bounds[place]))
    return tuple(limits), tuple(unseen)
