"""How often a worse version is rolled back before full weight: what a policy can catch with so many requests,
and with so many users.

An approximation that needs no rehearsal, for it is asked of many numbers of users and rates in a row. Counts
are drawn look by look, and at a few moments of each stage judged by the evidence that the judge has of
independent errors: the same grid, the same mixture over sizes, the same bet, the same luck of replicas and
users, the same rules for passing and at a deadline. Left out are latency, which is taken to pass in time,
bursts, and what full weight may still find. Users are as `stats/cluster_randomization.py` assumes them: a few
always fail, who make `ALIKE` of the failures, and how much each sends is lognormal. Seeded: the same question
has the same answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, log

import numpy as np

from canaryd.domain.lifecycle import DEADLINE_ODDS
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import FEW_EVENTS
from canaryd.judge.comparisons import CLEAR, HARM, RATIO_WEIGHT, Comparisons
from canaryd.judge.errors import LEAST_BURST
from canaryd.judge.judge import ERRORS_SHARE, SUSPICION
from canaryd.judge.metric_evidence import bar_alone, excess
from canaryd.judge.queries import ComparedQueries
from canaryd.judge.user_clusters import Drawn, lucky
from canaryd.simulation.simulated_rollout import served
from canaryd.stats.arrays import Array
from canaryd.stats.betting import log_gains_on_share, log_total, purse, staked
from canaryd.stats.between_replicas import PRIOR_SD, luck, shrunk
from canaryd.stats.changepoint import AT_ONCE, hazard
from canaryd.stats.cluster_randomization import ALIKE, BUSY

DRAWS = 120  # rollouts: a share of one half is known to 9 points
MOMENTS = (
    24  # of each stage at which its evidence is asked: harm shows by chance at one look and not the next
)
MOST_LOOKS = 40  # of a stage; in longer ones several are taken for one
WANTED = 0.9  # of worse versions, for a policy that is said to catch them
MOST_USERS, MOST_RATE, MOST_TIMES = 1e6, 1e4, 100.0


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage that compares. canary, stable: the parts of all requests that each serves, 0 to 1; weight: per
    cent, by which users are drawn, 0 where requests are; minimum, deadline: s."""

    canary: float
    stable: float
    weight: int
    next_weight: int
    minimum: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """What of a policy decides what it catches of errors: its stages that compare, what is tolerated and
    unacceptable, how long a look is (s), the odds at which errors alone roll back, and the rules of passing.
    users: by the policy, who come in an hour; None where requests are drawn."""

    steps: tuple[_Step, ...]
    users: int | None
    tolerated: tuple[float, float]  # the ratio, and the increase of the share
    unacceptable: tuple[float, float]  # the same, as an excess
    interval: int
    bar: float
    clear_bar: float
    advances: bool
    least_requests: int


@dataclass(frozen=True, slots=True)
class ServiceTraffic:
    """rate: requests/s of all versions; errors: stable's share of failures, above 0; replicas: of each."""

    rate: float
    errors: float
    replicas: int = 3


@dataclass(frozen=True, slots=True)
class Power:
    """What becomes of a worse version, shares of rollouts, together 1. caught: rolled back on its errors
    before full weight; let_through: given all traffic; undecided: held, or taken back undecided."""

    caught: float
    let_through: float
    undecided: float


def ladder_of(policy: Policy) -> Ladder | None:
    """None where nothing can be caught before full weight: errors are not judged, or no stage compares."""
    analysis, errors = policy.analysis, policy.analysis.errors
    steps = []
    for place, stage in enumerate(policy.stages):
        if stage.kind not in ("weight", "mirror") or stage.weight >= 100:
            continue
        canary, stable = served(stage)
        following = (later.weight for later in policy.stages[place + 1 :] if later.weight)
        steps.append(
            _Step(
                canary / 100,
                (100 - canary if stable is None else stable) / 100,
                stage.weight if policy.by_user(place) else 0,
                next(following, 100),
                stage.minimum,
                stage.deadline,
            )
        )
    if errors is None or not steps:
        return None
    weight = (1.0 - ComparedQueries(analysis).share) * (ERRORS_SHARE if analysis.latency else 1.0)
    return Ladder(
        tuple(steps),
        policy.route.affinity.users if policy.route.affinity else None,
        (1.0 + errors.tolerated_ratio, errors.tolerated_increase),
        (errors.unacceptable_ratio, errors.unacceptable_increase),
        analysis.interval,
        bar_alone(1.0 / analysis.false_rollback_risk, weight),
        1.0 / analysis.bad_advance_risk,
        analysis.undecided == "advance",
        analysis.minimum_requests,
    )


@lru_cache(maxsize=4096)
def power(ladder: Ladder, traffic: ServiceTraffic, times: float, draws: int = DRAWS) -> Power:
    """What becomes of versions that fail `times` as many requests as stable, at most all."""
    return _Rollouts(ladder, traffic, min(times * traffic.errors, 0.999), draws).run()


def with_users(ladder: Ladder, users: float) -> Ladder:
    """The same with another number of users."""
    return replace(ladder, users=round(users))


def users_needed(ladder: Ladder, traffic: ServiceTraffic, times: float) -> int | None:
    """With which `WANTED` of such versions are caught; None where no number is enough."""
    found = _least(
        lambda users: power(with_users(ladder, users), traffic, times).caught, ladder.users or 10, MOST_USERS
    )
    return None if found is None else round(found)


def rate_needed(ladder: Ladder, traffic: ServiceTraffic, times: float) -> float | None:
    """The requests/s, at least those that there are, with which `WANTED` of such versions are caught; None
    where no rate is enough."""
    return _least(
        lambda rate: power(ladder, replace(traffic, rate=rate), times).caught, traffic.rate, MOST_RATE
    )


def times_caught(ladder: Ladder, traffic: ServiceTraffic) -> float | None:
    """How many times stable's errors a version has to have for `WANTED` of such to be caught; None where not
    even one that fails nearly everything is."""
    return _least(
        lambda times: power(ladder, traffic, times).caught, 1.05, min(MOST_TIMES, 0.999 / traffic.errors)
    )


def _least(caught: Callable[[float], float], low: float, high: float) -> float | None:
    """About the least number from low to high at which enough are caught, by halving the logs."""
    if low >= high or caught(high) < WANTED:
        return None
    if caught(low) >= WANTED:
        return low
    below, above = log(low), log(high)
    while above - below > 0.1:
        middle = (below + above) / 2
        below, above = (below, middle) if caught(exp(middle)) >= WANTED else (middle, above)
    return float(f"{exp(above):.1e}")


class _Rollouts:
    """Many rollouts of one worse version at once. Arrays of shape (draws,), unless said."""

    def __init__(self, ladder: Ladder, traffic: ServiceTraffic, share: float, draws: int) -> None:
        self._ladder, self._traffic, self._share, self._draws = ladder, traffic, share, draws
        self._rng = np.random.default_rng(16)
        self._there = np.ones(draws, dtype=bool)  # still going on
        self._caught = np.zeros(draws, dtype=bool)
        # log likelihoods of the stages before, shape (draws, comparisons, log ratios)
        self._before = np.zeros((draws, 2, len(HARM.theta)))
        self._purses = purse(2 * draws)  # of both comparisons
        self._earlier: list[Array] = []  # the odds of the stages before
        self._people = _People(ladder, traffic.errors, share, draws, self._rng) if ladder.users else None

    def run(self) -> Power:
        for step in self._ladder.steps:
            self._climb(step)
        caught, through = float(self._caught.mean()), float(self._there.mean())
        return Power(caught, through, 1.0 - caught - through)

    def _climb(self, step: _Step) -> None:
        """One stage: who is caught there, passes it, or is held."""
        traffic, ladder, draws = self._traffic, self._ladder, self._draws
        users, rates, part = None, (np.full(draws, traffic.errors), np.full(draws, self._share)), step.canary
        share_of_canary = np.full(draws, part)
        if self._people is not None and step.weight:
            users = self._people.drawn(step.weight)
            rates, share_of_canary = self._people.rates(step.weight)
        stable_part = 1 - share_of_canary if step.stable + part <= 1.0 + 1e-9 else np.full(draws, step.stable)
        length = max(ladder.interval, step.deadline / MOST_LOOKS)
        judged = _StageEvidence(ladder, traffic, step, users, length)
        purses = self._purses if users is None else purse(2 * draws)
        looks = max(1, round(step.deadline / length))
        first = min(looks, max(1, round(step.minimum / length)))
        moments = {first, *np.geomspace(1, looks, MOMENTS).round().astype(int).tolist()}
        requests = traffic.rate * length * np.array([stable_part, share_of_canary])
        counts = np.zeros((4, draws))  # events and requests, stable's and then the canary's
        passing, cleared, stage_odds = np.zeros(draws, dtype=bool), np.ones(draws), np.ones(draws)
        likelihood = self._before
        for look in range(1, looks + 1):
            failed = self._rng.poisson(requests[0] * rates[0]), self._rng.poisson(requests[1] * rates[1])
            seen = np.array([failed[0], requests[0], failed[1], requests[1]])
            counts += seen
            purses = staked(purses, judged.gains(seen), np.full(2 * draws, hazard(look)))
            if look not in moments:
                continue
            going, bets = self._there & ~passing, log_total(purses).reshape(draws, 2)
            if not going.any():
                break
            likelihood = self._before + judged.likelihood(counts)
            stage_odds = judged.odds(likelihood - self._before, bets)
            odds = (
                judged.odds(likelihood, bets)
                if users is None
                else _together(users, self._earlier, stage_odds)
            )
            harmed = going & (odds >= ladder.bar)
            self._caught |= harmed
            self._there &= ~harmed
            if look < first:
                continue
            cleared = np.maximum(cleared, judged.cleared(counts))
            passing |= (
                (going & ~harmed)
                & (cleared >= ladder.clear_bar)
                & (stage_odds < SUSPICION)
                & np.logical_not(judged.is_beyond(counts))
            )
        may_pass = (stage_odds < DEADLINE_ODDS) & (counts[3] >= ladder.least_requests) & ladder.advances
        self._there &= passing | may_pass
        self._before, self._purses = likelihood, purses
        if users is not None:
            self._earlier.append(stage_odds)


class _StageEvidence:
    """The judge's evidence of independent errors in one stage; users: who are drawn, None where requests
    are."""

    def __init__(
        self, ladder: Ladder, traffic: ServiceTraffic, step: _Step, users: Drawn | None, length: float
    ) -> None:
        """length: of a look, s."""
        rate, (times, increase) = np.full(2, traffic.errors), ladder.tolerated
        self._ratio, self._added = np.array([times, 1.0]), np.array([0.0, increase])
        worse, more = (excess(one, step.next_weight) for one in ladder.unacceptable)
        self._worse, self._more = np.array([1.0 + worse, 1.0]), np.array([0.0, more])
        centre = -np.log(np.array([times, 1.0 + increase / traffic.errors]))
        replicas = max(traffic.replicas, 1)
        by_luck = luck(
            lucky(users),
            centre,
            shrunk(np.full(2, PRIOR_SD), replicas),
            replicas,
            replicas,
            replicas,
            users.luck(rate) if users is not None else None,
        )
        self._luck, self._border = by_luck.log_chances.astype(np.float64), self._ratio * by_luck.hardly_more
        # the largest look of stable's past, which is a measure for the bet
        usual = traffic.rate * length * (rate + self._added)
        self._cap = usual + 3.0 * np.sqrt(usual) + 1.0
        hidden = users.hides(rate, self._worse, self._more) if users is not None else None
        self._hidden = hidden.astype(np.float64) if hidden is not None else None
        comparisons = Comparisons(np.zeros(2), np.zeros((2, HARM.cells), dtype=np.float32), np.zeros(2))
        comparisons.expect(np.log(np.array([1.0 + worse, 1.0 + more / traffic.errors])))
        self._prior = np.log(comparisons.clear_prior)

    def likelihood(self, counts: Array) -> Array:
        """Log likelihoods of the log ratios over what is tolerated, shape (draws, comparisons, T)."""
        return _likelihood(counts, HARM.theta, self._ratio, self._added)

    def gains(self, look: Array) -> Array:
        """What each stake gains in a look (`log_gains_on_share`), shape (draws * comparisons, stakes)."""
        stable, stable_requests, canary, canary_requests = (np.repeat(count, 2) for count in look)
        draws = look.shape[1]
        added, border, cap = (np.tile(one, draws) for one in (self._added, self._border, self._cap))
        with_added = stable + stable_requests * added
        return np.asarray(
            log_gains_on_share(with_added, canary, stable_requests, canary_requests, border, cap)
        )

    def odds(self, likelihood: Array, bets: Array) -> Array:
        """Of harm: the less of both comparisons', as a rollback needs both. bets: logs of what they have
        grown to, shape (draws, comparisons)."""
        border = HARM.border
        over = likelihood[..., border + 1 :] + np.log(HARM.prior[border + 1 :])
        lucky_part = likelihood[..., border : border + self._luck.shape[1]] + self._luck
        null = np.maximum(likelihood[..., : border + 1].max(axis=-1), _log_sum(lucky_part))
        ratio = _log_sum(over) - null + log(AT_ONCE)
        found = np.logaddexp(ratio + log(RATIO_WEIGHT), bets + log(1.0 - RATIO_WEIGHT))
        return np.asarray(np.exp(np.minimum(found.min(axis=1), 600.0)))

    def cleared(self, counts: Array) -> Array:
        """The odds that nothing unacceptable is there: the average of both comparisons', or what a canary
        without an error has shown by serving."""
        likelihood, border = _likelihood(counts, CLEAR.theta, self._worse, self._more), CLEAR.border
        null = likelihood[..., border:].max(axis=-1)
        if self._hidden is not None:
            hidden = np.concatenate((likelihood[..., :border], null[..., None]), axis=-1) + self._hidden
            null = np.maximum(null, _log_sum(hidden))
        found = _log_sum(likelihood[..., :border] + self._prior) - null
        averaged = _log_sum(found) + log(0.5)
        if self._hidden is None:
            by_none = np.where(counts[2] == 0, counts[3] * self._more[1] / LEAST_BURST, 0.0)
            averaged = np.maximum(averaged, by_none)
        return np.asarray(np.exp(np.minimum(averaged, 600.0)))

    def is_beyond(self, counts: Array) -> Array:
        """Whether the plain counts are beyond what the stage must rule out."""
        stable, canary = counts[0] / counts[1], counts[2] / np.maximum(counts[3], 1e-9)
        beyond = (canary > self._worse[0] * stable) & (canary - stable > self._more[1])
        return np.asarray(beyond & (counts[2] >= FEW_EVENTS))


def _likelihood(counts: Array, theta: Array, ratio: Array, added: Array) -> Array:
    """Binomial log likelihoods of the canary's share of the events, shape (draws, comparisons, T). ratio,
    added: the border, so many times stable's rate with so much added, shape (comparisons,)."""
    stable, stable_requests, canary, canary_requests = (count[:, None, None] for count in counts)
    odds = np.log(canary_requests / stable_requests) + np.log(ratio)[:, None] + theta
    share = -np.logaddexp(0.0, -odds)
    return np.asarray(canary * share + (stable + stable_requests * added[:, None]) * (share - odds))


def _log_sum(logs: Array) -> Array:
    """Log of the sum of the exponentials over the last axis."""
    largest = logs.max(axis=-1)
    return np.asarray(np.log(np.exp(logs - largest[..., None]).sum(axis=-1)) + largest)


def _together(users: Drawn, earlier: list[Array], now: Array) -> Array:
    """As `Drawn.together`, for all draws."""
    odds = [*earlier, now][-users.stages :]
    return np.asarray((sum(odds) + users.stages - len(odds)) / users.stages)


class _People:
    """The users of many rollouts, drawn once for each: those with a lot below the weight are the canary's."""

    def __init__(
        self, ladder: Ladder, errors: float, share: float, draws: int, rng: np.random.Generator
    ) -> None:
        self._users = float(ladder.users or 0)
        self._of = errors, share
        self._weights = [step.weight for step in ladder.steps if step.weight]
        edges = (
            np.diff([0, *self._weights, 100]) / 100
        )  # parts of the users, by the stage that they change in
        everyone = self._users * edges[:, None] * np.ones(draws)
        self._sent = _sent(everyone, rng)
        # a user who always fails with stable does so with the canary, which has more such users
        self._failing = [
            np.minimum(_sent(rng.poisson(ALIKE * rate * everyone).astype(float), rng), self._sent)
            for rate in (errors, share)
        ]

    def drawn(self, weight: int) -> Drawn:
        return Drawn(self._users * (1 - weight / 100), self._users * weight / 100, len(set(self._weights)))

    def rates(self, weight: int) -> tuple[tuple[Array, Array], Array]:
        """Stable's and the canary's error rates, and the canary's share of the requests; shape (draws,)."""
        place = self._weights.index(weight) + 1
        of_stable, of_canary = self._sent[place:].sum(axis=0), self._sent[:place].sum(axis=0)
        failing = self._failing[0][place:].sum(axis=0), self._failing[1][:place].sum(axis=0)
        stable = (1 - ALIKE) * self._of[0] + failing[0] / np.maximum(of_stable, 1e-9)
        canary = (1 - ALIKE) * self._of[1] + failing[1] / np.maximum(of_canary, 1e-9)
        share = of_canary / (of_canary + of_stable)
        return (np.minimum(stable, 1.0), np.minimum(canary, 1.0)), share


def _sent(users: Array, rng: np.random.Generator) -> Array:
    """What so many users send together, in the measure of a usual one: lognormal with the mean and variance
    of the sum (Fenton and Wilkinson); 0 of none."""
    variance = np.log1p((BUSY - 1.0) / np.maximum(users, 1e-9))
    middle = np.log(np.maximum(users, 1e-9)) - variance / 2
    return np.where(users > 0, np.exp(middle + np.sqrt(variance) * rng.standard_normal(users.shape)), 0.0)
