"""What a judge concludes of one look, in numbers: the answer, and all that its sentences are made of.

`report.findings` writes the sentences from an assessment alone, for whoever saves or shows a verdict. Counts
are those of the stage; an odds is gathered evidence, 1 being neutral; a bar is the odds at which its part
alone brings the total to where the canary is rolled back. Nothing here computes evidence, and nothing here is
text."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from canaryd.domain.policy.metrics import Query
from canaryd.domain.verdict import Answer, Verdict, is_plainly_unacceptable


@dataclass(frozen=True, slots=True)
class RateComparison:
    """Two rates side by side: events of requests, stable's and the canary's."""

    stable_events: float
    stable_requests: float
    canary_events: float
    canary_requests: float

    @property
    def ratio(self) -> float | None:
        """The canary's rate over stable's; None where stable had no event, or either had no request."""
        if not (self.stable_events and self.stable_requests and self.canary_requests):
            return None
        return self.canary_events / self.canary_requests / (self.stable_events / self.stable_requests)


@dataclass(frozen=True, slots=True)
class RateAssessment:
    """One compared rate: of errors, or of requests slower than a bound.

    bound_ms: the latency bound; None for errors. low, high: the anytime-valid 95% interval of the ratio.
    tolerated, unacceptable: ratios that are no harm, and that the stage must rule out. tolerated_increase,
    unacceptable_increase: the same of the share more of all requests: the looser one counts. cleared: odds
    gathered in this stage that nothing unacceptable is there."""

    bound_ms: float | None
    rates: RateComparison
    low: float
    high: float
    tolerated: float
    tolerated_increase: float
    unacceptable: float
    odds: float
    bar: float
    cleared: float
    answer: Answer
    unacceptable_increase: float | None = None

    @property
    def is_plainly_unacceptable(self) -> bool:
        """Whether the plain estimate lies beyond what the stage must rule out."""
        rates = self.rates
        return is_plainly_unacceptable(
            (rates.stable_events, rates.stable_requests),
            (rates.canary_events, rates.canary_requests),
            self.unacceptable,
            self.unacceptable_increase,
        )


@dataclass(frozen=True, slots=True)
class MeanAssessment:
    """The mean latency. ratio: the canary's over stable's; tolerated, unacceptable: the ratios that are no
    harm, and beyond which the stage does not pass."""

    ratio: float
    tolerated: float
    unacceptable: float
    odds: float
    bar: float
    answer: Answer

    @property
    def is_unacceptable(self) -> bool:
        """Whether the plain estimate lies beyond what the stage must rule out."""
        return self.ratio > self.unacceptable


@dataclass(frozen=True, slots=True)
class LatencyAssessment:
    """Latency as a whole, over all bounds and the mean.

    is_seen: whether one look of this stage had the latency of both versions; nothing else is known otherwise.
    tolerated: the ratio of the means that is no harm. joined, bounds_in_all: bounds that take part, and all
    there are. mean: where its own odds say something, or the ratio is unacceptable. bounds: those worth
    naming, the lowest first.
    """

    is_seen: bool
    odds: float
    bar: float
    answer: Answer
    stable_timed: float = 0.0
    canary_timed: float = 0.0
    mean_ratio: float | None = None
    tolerated: float | None = None
    joined: int = 0
    bounds_in_all: int = 0
    cleared: float = 1.0
    mean: MeanAssessment | None = None
    bounds: tuple[RateAssessment, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """At full weight: a rate of the canary against the rollout's record.

    metric: errors or latency; bound_ms: of latency. limit: the highest share that is usual; usual: the
    record's share. has_record: whether there is a record to compare with."""

    metric: str
    bound_ms: float | None
    events: float
    requests: float
    odds: float
    limit: float
    usual: float
    has_record: bool
    answer: Answer

    @property
    def share(self) -> float:
        """The canary's events over its requests."""
        return self.events / max(self.requests, 1.0)


@dataclass(frozen=True, slots=True)
class AlarmedRate:
    """A rate that was worse at full weight than the record, led back to this stage, and is not ruled out
    here. bound_ms: of latency; None for errors. share: the canary's at full weight; usual: the record's.
    unacceptable: the ratio to stable's that this stage must rule out."""

    bound_ms: float | None
    share: float
    usual: float
    unacceptable: float


@dataclass(frozen=True, slots=True)
class LimitAssessment:
    """A limit of the policy on a rate of the canary's own.

    metric: errors or latency; bound_ms: of latency. limit: the highest allowed share. events, requests: the
    canary's; stable_share: stable's own in the same looks, None where it had no request. is_over: the
    canary's last looks are over the limit, whatever stable does; is_shared: so is stable, so that a rollback
    would not help."""

    metric: str
    bound_ms: float | None
    limit: float
    events: float
    requests: float
    odds: float
    stable_share: float | None
    is_over: bool
    is_shared: bool
    answer: Answer

    @property
    def share(self) -> float | None:
        """The canary's share in this stage; None without a request."""
        return self.events / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class PlainHarm:
    """Failures of the canary so plain that nobody would wait for odds.

    is_version: whether the version is down as a whole, and not one replica. replica: the one that fails
    nearly everything; "" where replicas are not told apart. seconds, failures, requests: of the looks in
    which it failed, one after another. failing_replicas of replicas: the canary's, of those that served.
    stable_failing of stable_replicas, stable_failures of stable_requests: stable's in the last of these
    looks. record_seconds: for how long stable was watched, in which nothing of the kind lasted as long."""

    is_version: bool
    replica: str
    seconds: int
    failures: int
    requests: int
    failing_replicas: int
    replicas: int
    stable_failing: int
    stable_replicas: int
    stable_failures: int
    stable_requests: int
    record_seconds: int


@dataclass(frozen=True, slots=True)
class UnseenLimit:
    """A latency limit that the histogram cannot see. quantile: as the policy names it; limit_ms: its latency;
    last_bound_ms: the histogram's largest bound, which lies below it."""

    quantile: str
    limit_ms: float
    last_bound_ms: float


@dataclass(frozen=True, slots=True)
class QueryComparison:
    """A query of the policy, the canary's values against stable's.

    looks: of this stage, with a value of both. means: stable's mean and the canary's over them, None for
    none. is_worse: whether the canary is worse than tolerated in the mean. has_past: whether stable's values
    before the rollout tell how far the query drifts by itself. block: looks judged together. reached: when
    the bar was first reached (Unix seconds)."""

    odds: float
    bar: float
    looks: int
    means: tuple[float, float] | None
    is_worse: bool
    has_past: bool
    block: int
    reached: int | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class QueryAssessment:
    """A query of the policy: its last values, and what was found of its limits and of its comparison.

    streak: looks in a row in which the value was out of its limits; reached: when that was first long enough
    (Unix seconds). limit_answer: None for a query without limits; comparison: None for one that is not
    compared."""

    query: Query
    value: float | None
    stable_value: float | None
    streak: int
    is_out: bool
    reached: int | None
    limit_answer: Answer | None
    comparison: QueryComparison | None


@dataclass(frozen=True, slots=True)
class AlertPlace:
    """Where in a rollout an alert began: the kind of the stage and what it gives the canary (see `Stage`),
    and seconds since its first look began; below 0 before the first look of all."""

    kind: str
    said: str
    seconds: int


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """One alert that fires. labels: those that tell which one; since: Unix seconds.

    counts: it began after the rollout did. place: None before any stage, and where it does not count.
    fired_before: when it had last fired within the hour before (Unix seconds); None: it had not, as far as is
    known. known_seconds: how long before `since` that is. answer: what it means for the canary."""

    name: str
    labels: tuple[tuple[str, str], ...]
    since: int
    counts: bool
    place: AlertPlace | None
    fired_before: int | None
    known_seconds: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class AlertsAssessment:
    """The policy's alerts. is_answered: whether the last look has which of them fire; firing: those that were
    last known to, the one that began last first."""

    is_answered: bool
    firing: tuple[FiringAlert, ...]


@dataclass(frozen=True, slots=True)
class BlockLength:
    """How many looks of a metric are judged together, and for how many looks trouble on stable lasts.

    looks_if_spell: as many as there would be if a rise of stable's rate just before the rollout was no
    lasting change; what a rollback needs as well.
    """

    metric: str
    looks: int
    trouble_lasts: float
    looks_if_spell: int


@dataclass(frozen=True, slots=True)
class ReplicaLuck:
    """What the draw of replicas may bring to one metric's ratio.

    bound_ms: the latency bound at which stable's replicas differ most; None for errors. replicas_seen: of
    stable, from which the difference is known; raw_sd: their standard deviation of the log rate. ratio: what
    luck hardly ever exceeds. assumed_sd, assumed_replicas: what is assumed beforehand, and how many replicas
    that weighs."""

    metric: str
    bound_ms: float | None
    replicas_seen: int
    raw_sd: float
    stable_replicas: int
    canary_replicas: int
    ratio: float
    assumed_sd: float
    assumed_replicas: int


@dataclass(frozen=True, slots=True)
class DrawnUsers:
    """What the draw of users may bring. users, canary_users: by the policy. ratio: of error rates, that luck
    hardly ever exceeds; None where errors are not judged."""

    users: float
    canary_users: float
    ratio: float | None


class Lacking(Enum):
    """What a look lacks, so that it says nothing."""

    TELEMETRY = auto()
    CANARY_REQUESTS = auto()
    STABLE_REQUESTS = auto()
    MATCHED_REQUESTS = auto()


@dataclass(frozen=True, slots=True)
class MissingData:
    """What a look of so many seconds lacks. end: of the look (Unix seconds); others: requests that the other
    version served in it."""

    what: Lacking
    seconds: int
    end: int
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class ServedShare:
    """What the last looks counted: of both versions' requests, those that the canary served."""

    served: int
    of: int
    looks: int

    @property
    def share(self) -> float:
        """The canary's part of the requests, 0 to 1."""
        return self.served / self.of


@dataclass(frozen=True, slots=True)
class TrafficShare:
    """Whether the traffic follows the weight.

    due: the canary's share that was set, in per cent; due_by: what set it, where that is not the weight.
    observes: someone else splits the traffic. off: the share that certainly does not follow; doubtful: one
    that may not, on which no stage should pass yet."""

    due: float
    due_by: str
    observes: bool
    off: ServedShare | None
    doubtful: ServedShare | None

    @property
    def is_off(self) -> bool:
        """Whether nothing is learnt from this traffic. Where someone else splits it, more of it than the
        weight is no reason to learn nothing."""
        return self.off is not None and not self._is_excused(self.off)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the share lets no stage pass yet."""
        return self.off is None and self.doubtful is not None and not self._is_excused(self.doubtful)

    def _is_excused(self, served_share: ServedShare) -> bool:
        return self.observes and served_share.share > self.due / 100


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How old the replicas are that served in the last look, and who is left out of what is compared.

    seconds: the policy's warm-up. replicas: the canary's; cold: those of them that are left out; youngest,
    oldest: their ages (s) at the look's end, since they were first seen, None where none is known.
    stable_replicas, stable_cold: the same of stable."""

    seconds: float
    replicas: int
    cold: int
    youngest: float | None
    oldest: float | None
    stable_replicas: int
    stable_cold: int


@dataclass(frozen=True, slots=True)
class FallenTraffic:
    """Traffic that has become so little that a stage would not see what it must rule out.

    usual, lately: both versions' requests/s, before and in the last `seconds` of the stage. canary_requests:
    as many as the canary would serve at this rate from the stage's beginning to its deadline (`deadline`, s);
    wanted: as many as give an even chance of seeing it. stable_per_canary: stable's requests for each of the
    canary's."""

    usual: float
    lately: float
    seconds: int
    deadline: float
    canary_requests: float
    stable_per_canary: float
    wanted: float = 0.0


@dataclass(frozen=True, slots=True)
class Details:
    """What the sentences of an assessment are made of, beside its answer and its odds.

    kind: by what the canary gets its requests, see `Stage.kind`. clear_bar: odds that a stage must reach to
    pass. is_full_weight: the canary has all traffic, and is held against the record. reporter: who counts
    requests, as the policy names it. is_withheld: the odds ask for a rollback that is not made.
    can_step_back: whether an alarm leads to a stage that compares both versions. lacks_latency: latency is
    judged, and none of the canary was seen in this stage. is_one_replica: latency is that of one canary
    replica. alerts: None where the policy has none. dropped_bounds_ms: bounds that not every replica has.
    plain_harm: why nothing was waited for. alarmed: what led back here from full weight, and is not ruled
    out. warm_up: None where no replica's age is known."""

    kind: str
    is_full_weight: bool
    clear_bar: float
    reporter: str
    is_withheld: bool
    can_step_back: bool
    is_one_replica: bool
    errors: RateAssessment | None = None
    latency: LatencyAssessment | None = None
    records: tuple[RecordComparison, ...] = ()
    lacks_latency: bool = False
    limits: tuple[LimitAssessment, ...] = ()
    unseen_limits: tuple[UnseenLimit, ...] = ()
    queries: tuple[QueryAssessment, ...] = ()
    alerts: AlertsAssessment | None = None
    blocks: tuple[BlockLength, ...] = ()
    dropped_bounds_ms: tuple[float, ...] = ()
    replica_luck: tuple[ReplicaLuck, ...] = ()
    drawn_users: DrawnUsers | None = None
    plain_harm: PlainHarm | None = None
    alarmed: tuple[AlarmedRate, ...] = ()
    warm_up: WarmUp | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a judge concludes of a look, in numbers.

    answer to contested: as in `Verdict`. is_compared: False for traffic at a weight in change. is_comparing:
    whether there are two versions to compare. is_ruled_out: all that the stage must rule out is. missing: why
    the look says nothing. traffic: where it is asked whether it follows the weight. fallen_traffic: None
    where there is enough of it, or always was as little. details: None where nobody asked for them, and
    nothing needs them."""

    answer: Answer
    at: int
    stage: int
    weight: int
    bar: float
    looks: int = 0
    odds: float = 1.0
    stage_odds: float = 1.0
    canary_requests: int = 0
    few_blocks: bool = False
    off_weight: bool = False
    contested: bool = False
    is_compared: bool = True
    is_comparing: bool = False
    is_ruled_out: bool = False
    missing: MissingData | None = None
    traffic: TrafficShare | None = None
    fallen_traffic: FallenTraffic | None = None
    details: Details | None = None

    @property
    def lacks_data(self) -> bool:
        """Whether a part that decides has nothing to be judged by."""
        return any(answer is Answer.NO_DATA for answer in self._answers())

    @property
    def looks_unacceptable(self) -> bool:
        """Whether a plain estimate lies beyond what the stage must rule out."""
        return any(rate.is_plainly_unacceptable for rate in self._rates())

    @property
    def is_over_a_limit(self) -> bool:
        """Whether the canary's last looks are over a limit of the policy, or its mean latency is beyond what
        the stage must rule out, whatever the odds."""
        if self.details is None:
            return False
        latency, limits = self.details.latency, self.details.limits
        mean = latency.mean if latency is not None and self.details.kind != "match" else None
        return (mean is not None and mean.is_unacceptable) or any(limit.is_over for limit in limits)

    @property
    def alert_since(self) -> int | None:
        """When the last of the alerts began that fire and count; None where none does."""
        alerts = self.details.alerts if self.details is not None else None
        since = [alert.since for alert in alerts.firing if alert.counts] if alerts is not None else []
        return max(since, default=None)

    @property
    def lacks_alerts(self) -> bool:
        """Whether it is not known which alerts fire."""
        alerts = self.details.alerts if self.details is not None else None
        return alerts is not None and not alerts.is_answered

    @property
    def traffic_fell(self) -> bool:
        """Whether traffic has become so little that the stage would not see harm."""
        return self.fallen_traffic is not None

    def _rates(self) -> Iterator[RateAssessment]:
        if self.details is None:
            return
        if self.details.errors is not None:
            yield self.details.errors
        if self.details.latency is not None:
            yield from self.details.latency.bounds

    def _answers(self) -> Iterator[Answer]:
        """Of every part that decides: a dry run does not."""
        if self.details is None:
            return
        yield from (rate.answer for rate in self._rates())
        yield from (record.answer for record in self.details.records)
        yield from (limit.answer for limit in self.details.limits)
        if self.details.latency is not None:
            yield self.details.latency.answer
        if self.details.lacks_latency and self.details.is_full_weight:
            yield Answer.NO_DATA
        if self.lacks_alerts:
            yield Answer.NO_DATA
        for query in self.details.queries:
            if not query.query.dry_run and query.limit_answer is not None:
                yield query.limit_answer
            if not query.query.dry_run and query.comparison is not None and self.is_comparing:
                yield query.comparison.answer

    @property
    def verdict(self) -> Verdict:
        """The verdict without its sentences, for a rollout that nobody reads of."""
        return Verdict(
            self.answer,
            at=self.at,
            stage=self.stage,
            weight=self.weight,
            looks=self.looks,
            odds=self.odds,
            stage_odds=self.stage_odds,
            bar=self.bar,
            canary_requests=self.canary_requests,
            few_blocks=self.few_blocks,
            off_weight=self.off_weight,
            contested=self.contested,
            traffic_fell=self.traffic_fell,
        )
