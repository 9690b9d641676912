"""Traffic that fell so far that a stage would not see what it must rule out.

At a stage's deadline `undecided: advance` trusts that a harmful version would have brought the odds up. That
holds as far as there are requests. What counts is the stage's last looks, not all of them: to go on is to
send more users to a version that did not pass, under the traffic that there is now, and what an hour of full
traffic did not show before is no sign of what would be seen from here on. A stage that passed is another
matter: it ruled out what it must by what it counted, and a fall takes nothing away from that.

Only a fall is asked about. A service that always has as little is not helped by waiting: no more will come.
What was usual is everything before the last looks, stable's past included.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from canaryd.domain.assessment import FallenTraffic
from canaryd.domain.counts import Look
from canaryd.domain.lifecycle import DEADLINE_ODDS
from canaryd.judge.errors import ErrorEvidence
from canaryd.judge.latency import LatencyEvidence
from canaryd.judge.metric_evidence import bar_alone
from canaryd.stats.arrays import Array
from canaryd.stats.detection_bound import fewest_requests

LATELY = 20  # looks of the stage that are its last: five minutes of the default ones
FEWEST_LOOKS = 6  # below which a rate is chance
FALLEN = 0.5  # of the usual rate, below which traffic has fallen
# requests with which the odds reach DEADLINE_ODDS about every second time, over the least that any test needs
# on average: of 60 versions with twice the errors at weight 50 they did for 26, with half as many requests
# for 23, with a quarter for 5; at weight 25 for 26 with 0.6 times as many, at weight 10 for 38 with 1.8 times
TIMES_THE_LEAST = 2.0


class TrafficWatch:
    """Requests per second, before and lately. history: stable's looks before the rollout."""

    def __init__(self, history: Sequence[Look]) -> None:
        self._seconds, self._requests = 0, 0  # before the last looks
        self._last: deque[tuple[int, int, int]] = deque()  # seconds, and requests of stable and the canary
        for look in history:
            if look.sampled:
                self._keep(*_counted(look))

    def _keep(self, seconds: int, stable: int, canary: int) -> None:
        self._seconds += seconds
        self._requests += stable + canary

    def begin_stage(self) -> None:
        """Another weight: what was lately is so no more."""
        while self._last:
            self._keep(*self._last.popleft())

    def observe(self, look: Look) -> None:
        """A look of the stage; one without any request is one as well."""
        self._last.append(_counted(look))
        if len(self._last) > LATELY:
            self._keep(*self._last.popleft())

    def fallen(self, deadline: float) -> FallenTraffic | None:
        """What a stage of `deadline` seconds serves at the last looks' rate; None where that is not far below
        the usual one, or one of both is not known."""
        if len(self._last) < FEWEST_LOOKS or not self._seconds:
            return None
        seconds, stable, canary = (sum(column) for column in zip(*self._last, strict=True))
        usual, lately = self._requests / self._seconds, (stable + canary) / seconds
        if lately >= FALLEN * usual:
            return None
        return FallenTraffic(
            usual=usual,
            lately=lately,
            seconds=seconds,
            deadline=deadline,
            canary_requests=canary / seconds * deadline,
            stable_per_canary=stable / canary if stable and canary else 1.0,
        )


def _counted(look: Look) -> tuple[int, int, int]:
    stable, canary = (sum(counts.requests for counts in side.values()) for side in (look.stable, look.canary))
    return look.seconds, stable, canary


def requests_to_tell(
    errors: ErrorEvidence | None,
    latency: LatencyEvidence | None,
    usual: Array,
    stable_per_canary: float,
    replicas: int,
) -> float:
    """About as many canary requests as give an even chance that what the stage must rule out brings the odds
    to where no deadline lets it pass, on the metric that needs most of them; 0 where none is judged or known.

    usual: the service's shares, errors first and then each bound. replicas: of the canary, at least 1.
    """
    wanted = 0.0
    if errors is not None:
        wanted = max(wanted, _for_errors(errors, float(usual[0]), stable_per_canary))
    if latency is not None and latency.joined.any():
        wanted = max(wanted, _for_latency(latency, usual[1:], stable_per_canary, replicas))
    return TIMES_THE_LEAST * wanted


def _for_errors(errors: ErrorEvidence, rate: float, ratio: float) -> float:
    harmful = min(max(errors.unacceptable * rate, rate + errors.unacceptable_increase), 1.0)
    risk = 1.0 / bar_alone(DEADLINE_ODDS, errors.weight)
    return _fewest(rate, harmful, ratio, risk, errors.tolerated, errors.tolerated_increase)


def _for_latency(latency: LatencyEvidence, shares: Array, ratio: float, replicas: int) -> float:
    """By the bound that tells it soonest."""
    borders, bar = latency.borders(replicas), bar_alone(DEADLINE_ODDS, latency.weight)
    found = [
        _fewest(
            float(shares[row]),
            min(float(borders.unacceptable[row] * shares[row]), 1.0),
            ratio,
            1.0 / bar_alone(bar, float(latency.bound_weights[row])),
            float(borders.tolerated[row]),
        )
        for row in np.flatnonzero(latency.joined)
    ]
    return min((requests for requests in found if requests), default=0.0)


def _fewest(
    rate: float, harmful: float, ratio: float, risk: float, tolerated: float, increase: float = 0.0
) -> float:
    """As `fewest_requests`; 0 where what must be ruled out is tolerated as well, so that nothing tells it."""
    if rate >= 1.0 or harmful <= max(tolerated * rate, rate + increase):
        return 0.0
    return fewest_requests(rate, harmful, ratio, risk, tolerated, increase)
