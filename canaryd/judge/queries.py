"""A policy's own PromQL queries: held against limits, and compared between versions at the same moments.

A query is a plain number without a count behind it. A limit (max, min) needs several looks in a row out of
it. A comparison gathers odds by betting on bounded scores (see stats/bounded_scores.py), from two sides at
once, each with half of the query's weight:

- **beyond the drift**: look by look, against a border that lies as far beyond what is tolerated as equal
  versions drift apart: DRIFTS times the spread of stable's own past values, or more if the difference is
  noisier than those were. A plain difference is seen in a dozen looks, however slowly gauges drift. Without a
  past of stable nothing is known of its drift, and this side says nothing.
- **in blocks**: against the border itself, in blocks several correlation times long (of stable's past, and of
  the difference so far). It sees what is smaller than the drift, in many looks.

Process j begins with stage j and gathers on, with the weight 1/(j(j+1)); what has not begun counts as 1. So a
fault that shows late is not drowned by a good record. The compared queries that decide have QUERIES_SHARE of
the total's weight together, in equal parts, whatever their number; errors and latency keep the rest in their
old proportion. An own metric pays for that with two or three looks (a fifth of the weight needs five times
the odds), errors and latency with next to nothing. Where neither of these is judged, queries have all of it.

Not compared are looks in which a replica of the canary warms up (a query cannot leave it out), or in which a
version has no traffic. There is no unacceptable difference that would have to be ruled out: a stage passes
early when each query has a value (of both versions, where they are compared) and none is under suspicion. A
dry run is watched like any other, with the weight it would have, and decides nothing.

Simulated (a fifth of the weight, 10% tolerated, 360 looks of past, 240 looks in stages of 60; values are
first-order autoregressive with this relative noise and correlation from look to look): equal versions, 150 of
each kind, and 150 more with 1.7 times the noise in the canary, were rolled back in none but the last row (1
and 1 of 150); a canary exactly at the tolerance in none (with a past of 240 looks and correlation 0.98: 5%,
before drift told from few looks was given more room). Looks until caught, median of 20, with the share
caught:

| noise, correlation    | 1.5 times worse | twice      | twice from look 90 on | three times |
|-----------------------|-----------------|------------|-----------------------|-------------|
| 5%, none              | 16              | 14         | 16 later              | 14          |
| 5%, 0.9               | 24              | 15         | 16 later              | 15          |
| 5%, 0.98              | 20              | 15 (90%)   | 26 later              | 15          |
| 20%, none             | 27              | 16         | 121 later             | 16          |
| 20%, 0.9              | never           | (15%)      | never                 | 58 (90%)    |
| 20%, 0.98             | (5%)            | (25%)      | (5%)                  | 121 (65%)   |
| 5%, none, no past     | 65              | 65         | 64 later              | 64          |

So what is noisy and drifts is for a `max`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from canaryd.domain.assessment import QueryAssessment, QueryComparison
from canaryd.domain.policy.metrics import Query
from canaryd.domain.policy.policy import Analysis
from canaryd.domain.verdict import Answer
from canaryd.judge.metric_evidence import LARGEST_LOG, bar_alone
from canaryd.stats.arrays import Array
from canaryd.stats.blocks import block_length
from canaryd.stats.bounded_scores import STAKES, Spread, correlation_time, log_gains, score, spread, step

# of the total's weight, all compared queries together, where errors or latency are judged as well
QUERIES_SHARE = 0.2
DRIFTS = 3.0  # spreads within which equal versions are taken to drift apart
# spreads more, divided by how many independent looks of the past told it: a slow drift hardly showed in so
# short a past
FEW_TOLD = 6.0
# looks, while nothing is known of how long a difference lasts: too few blocks to decide until it is
UNKNOWN_BLOCK = 6
FEWEST_OWN = 20  # looks from which the difference itself tells how long it lasts ...
ENOUGH_OWN = 60  # ... and from which that is enough without a past
KEPT = 120  # scores that block lengths and scales are taken from, so that nothing grows with the looks
FOLLOWED = 4  # bets that must have been won together for the next one to be made

UNEVEN = 2.0  # odds that make a difference worth calling undecided
GATHERING = 4  # processes that go on gathering

BLOCKS, BEYOND = 0, 1  # the two sides


@dataclass
class QueryWatch:
    """One query: its last value and stable's (None: no data), and how many looks in a row it has been out of
    its limits.

    reached: when it was first out of them for long enough, which a dry run tells (Unix seconds).
    """

    query: Query
    streak: int = 0
    value: float | None = None
    stable_value: float | None = None
    reached: int | None = None

    def observe(self, values: Mapping[str, float | None], at: int = 0) -> None:
        """A look without a value neither breaks a streak nor adds to it: nothing is known of it."""
        self.value = _number(values.get(self.query.name))
        self.stable_value = _number(values.get(self.query.stable_name))
        if self.value is None:
            return
        self.streak = self.streak + 1 if self.out else 0
        if self.streak >= self.query.for_ and self.reached is None:
            self.reached = at

    @property
    def limited(self) -> bool:
        """Whether the policy sets a limit on its value."""
        return self.query.max is not None or self.query.min is not None

    @property
    def out(self) -> bool:
        """Whether the last value is out of its limits."""
        query, value = self.query, self.value
        return value is not None and (
            (query.max is not None and value > query.max) or (query.min is not None and value < query.min)
        )

    @property
    def broken(self) -> bool:
        """Whether the canary is rolled back for it."""
        return self.streak >= self.query.for_ and not self.query.dry_run

    def assessed(self, comparison: QueryComparison | None) -> QueryAssessment:
        """What was found of the query. comparison: of its values with stable's, where they are compared."""
        return QueryAssessment(
            query=self.query,
            value=self.value,
            stable_value=self.stable_value,
            streak=self.streak,
            is_out=self.out,
            reached=self.reached,
            limit_answer=self._limit_answer if self.limited else None,
            comparison=comparison,
        )

    @property
    def _limit_answer(self) -> Answer:
        if self.value is None:
            return Answer.NO_DATA
        return Answer.FAIL if self.broken else Answer.UNDECIDED if self.out else Answer.PASS

    def holds(self, comparing: bool) -> bool:
        """Whether it lets a stage pass: without a value nothing does. With `comparing` stable's value is
        wanted too, where it is asked; without a stable version a query that has no limit asks nothing."""
        if self.query.dry_run or not (comparing or self.limited):
            return True
        is_there = self.value is not None and (
            self.stable_value is not None or not (comparing and self.query.compare)
        )
        return is_there and not self.out


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value  # NaN: a division by nothing


@dataclass
class Bets:
    """One process: its weight, and the log gains of each side and stake, shape (2, stakes)."""

    weight: float
    log_gains: Array = field(default_factory=lambda: np.zeros((2, len(STAKES))))

    @property
    def odds(self) -> float:
        """Against the canary: the mean over sides and stakes."""
        return float(np.exp(np.minimum(self.log_gains, LARGEST_LOG)).mean())


class CompareEvidence:
    """One query's evidence against the canary. weight: its fixed share in the total, or what it would be if
    it were no dry run.

    past: stable's values before the rollout, look by look.
    """

    def __init__(self, query: Query, weight: float, past: Sequence[float | None] = ()) -> None:
        self.query, self.weight = query, weight
        before = np.array([np.nan if value is None else value for value in past], dtype=np.float64)
        self.spread = spread(before)
        self._past_block = block_length(correlation_time(before)) if self.spread is not None else None
        self.block = self._past_block or UNKNOWN_BLOCK
        self.reached: int | None = None  # when a dry run would first have rolled back, Unix seconds
        self._processes: list[Bets] = []
        self._open: list[float] = []
        self._scores: list[float] = []
        self._blocks_since = 0  # blocks since their length was asked for
        self._past_bets: tuple[list[float], list[float]] = ([], [])
        self.looks = 0  # of this stage, with a value of both
        self._surplus = 0.0  # sum of the stage's scores
        self.sums = (0.0, 0.0)  # of stable's and of the canary's values in them

    def begin(self) -> None:
        """A stage."""
        begun = len(self._processes) + 1
        self._processes.append(Bets(1.0 / (begun * (begun + 1))))
        self.looks, self.sums, self._surplus = 0, (0.0, 0.0), 0.0

    def observe(self, canary: float | None, stable: float | None) -> None:
        """One look's values. One that is missing on either side is no evidence for anyone."""
        if canary is None or stable is None:
            return
        self.looks += 1
        self.sums = self.sums[0] + stable, self.sums[1] + canary
        # Where lower is worse, the negated values are compared.
        sign = 1.0 if self.query.compare == "higher-is-worse" else -1.0
        here = score(sign * canary, sign * stable, self.query.tolerated)
        if self.spread is not None:
            self._bet(BEYOND, here - (DRIFTS + FEW_TOLD / self.spread.looks) * self._drift(self.spread))
        self._surplus += here
        self._open.append(here)
        self._scores = [*self._scores[1 - KEPT :], here]
        if len(self._open) >= self.block:
            self._bet(BLOCKS, sum(self._open) / len(self._open))
            self._open = []
            self._blocks_since += 1
            # often enough, and cheap where a block is a look
            if self._blocks_since * self.block >= UNKNOWN_BLOCK:
                self.block, self._blocks_since = self._next_block(), 0

    def _drift(self, usual: Spread) -> float:
        """How far equal versions drift apart. Where the difference steps about more than stable's past did,
        as a few pods do beside many, it drifts further by as much. Not its own spread: a fault that begins
        late would hide in it."""
        steps = step(self._scores)
        return usual.distance * max(1.0, steps / usual.step) if usual.step > 0 else usual.distance + steps

    def _bet(self, side: int, surplus: float) -> None:
        """Nothing is staked while the last ones spoke for the canary: so a fault that begins late is not
        drowned by what was lost before. The scale is the usual size of what was bet on. Both are known before
        the bet, so any rule would do."""
        before = self._past_bets[side]
        if sum(before[-FOLLOWED:]) >= 0:
            gains = log_gains(surplus, (median(map(abs, before)) if before else 0.0) or 1.0)
            for process in self._processes[-GATHERING:]:
                process.log_gains[side] += gains
        before.append(surplus)
        del before[:-KEPT]

    def _next_block(self) -> int:
        """Looks in the block that begins: as long as stable's past asks, or the difference itself if it lasts
        longer."""
        known = self._past_block or UNKNOWN_BLOCK
        if len(self._scores) < FEWEST_OWN:
            return known
        own = block_length(correlation_time(np.array(self._scores), trend=False))
        return own if self._past_block is None and len(self._scores) >= ENOUGH_OWN else max(known, own)

    @property
    def odds(self) -> float:
        """Over all processes begun, weighted; what has not begun counts as 1."""
        return sum(process.weight * process.odds for process in self._processes) + 1.0 / (
            len(self._processes) + 1
        )

    @property
    def worse(self) -> bool:
        """Whether the canary is worse than tolerated in the mean of this stage's looks."""
        return self._surplus > 0

    @property
    def stage_odds(self) -> float:
        """The odds against the canary from this stage's own looks."""
        return self._processes[-1].odds if self._processes else 1.0

    def bar(self, total: float) -> float:
        """The odds at which it alone brings the total there."""
        return bar_alone(total, self.weight)

    def assessed(self, total_bar: float, has_values: bool) -> QueryComparison:
        """What was found. has_values: whether the last look had a value of both versions."""
        bar, odds = self.bar(total_bar), self.odds
        if odds < bar and not has_values:
            answer = Answer.NO_DATA
        elif odds >= bar and not self.query.dry_run:
            answer = Answer.FAIL
        else:
            answer = Answer.UNDECIDED if odds >= UNEVEN or self.worse else Answer.PASS
        return QueryComparison(
            odds=odds,
            bar=bar,
            looks=self.looks,
            means=self.means,
            is_worse=self.worse,
            has_past=self.spread is not None,
            block=self.block,
            reached=self.reached,
            answer=answer,
        )

    @property
    def means(self) -> tuple[float, float] | None:
        """The means of stable's values and of the canary's in this stage's looks; None where there is
        none."""
        return (self.sums[0] / self.looks, self.sums[1] / self.looks) if self.looks else None


class ComparedQueries:
    """All compared queries of a policy. past: stable's values before the rollout, by the names
    `Query.stable_name` gives."""

    def __init__(self, analysis: Analysis, past: Mapping[str, Sequence[float | None]] = {}) -> None:
        compared = [query for query in analysis.queries if query.compare]
        deciding = sum(not query.dry_run for query in compared)
        others = analysis.errors is not None or analysis.latency is not None
        whole = QUERIES_SHARE if others else 1.0
        self.share = whole if deciding else 0.0  # of the total's weight
        self.all = [
            CompareEvidence(query, whole / (deciding + query.dry_run), past.get(query.stable_name, ()))
            for query in compared
        ]
        self._deciding = [evidence for evidence in self.all if not evidence.query.dry_run]

    def begin(self) -> None:
        """A stage."""
        for evidence in self.all:
            evidence.begin()

    def observe(self, watches: Iterable[QueryWatch], at: int, bar: float) -> None:
        """One look, whose values the watches have. bar: of the total, which tells when a dry run would have
        rolled back."""
        values = {watch.query.name: (watch.value, watch.stable_value) for watch in watches}
        for evidence in self.all:
            evidence.observe(*values[evidence.query.name])
            if evidence.reached is None and evidence.odds >= evidence.bar(bar):
                evidence.reached = at

    def assessed(self, watches: Iterable[QueryWatch], bar: float) -> tuple[QueryAssessment, ...]:
        """What was found of every query of the policy. bar: of the weighted total."""
        compared = {comparison.query.name: comparison for comparison in self.all}
        assessed = []
        for watch in watches:
            evidence = compared.get(watch.query.name)
            has_values = watch.value is not None and watch.stable_value is not None
            assessed.append(watch.assessed(evidence.assessed(bar, has_values) if evidence else None))
        return tuple(assessed)

    @property
    def odds(self) -> float:
        """Their part of the total: weighted, with what has not begun."""
        return sum(evidence.weight * evidence.odds for evidence in self._deciding)

    @property
    def stage_odds(self) -> float:
        """Their part of the stage's odds: weighted, from this stage's own looks."""
        return sum(evidence.weight * evidence.stage_odds for evidence in self._deciding)

    def suspected(self, suspicion: float) -> bool:
        """Whether one of them has such odds against the canary in this stage, or is worse than tolerated in
        the stage's mean: where there is little past, odds alone would take longer than a stage lasts to say
        so."""
        return any(evidence.stage_odds >= suspicion or evidence.worse for evidence in self._deciding)
