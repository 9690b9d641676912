"""What the evidence says: pass, fail, undecided, alarm or no data; always with its numbers."""

from dataclasses import dataclass
from enum import StrEnum

FEW_EVENTS = 5  # below which an estimate is chance
ALERTS_METRIC = "alerts"  # of the findings of Prometheus' alerts; no query of a policy is meant by it
PLAIN_SHARE = 0.01  # of the canary's requests, where stable had none to compare with, and no increase is said


class Answer(StrEnum):
    """What a judged look says of the canary."""

    PASS = "pass"  # what this stage must rule out is ruled out, on every metric
    FAIL = "fail"  # the canary is worse than tolerated: roll back
    ALARM = "alarm"  # at weight 100, where nothing can be compared: step back, so that it can
    UNDECIDED = "undecided"
    NO_DATA = "no data"


def is_plainly_unacceptable(
    stable: tuple[float, float],
    canary: tuple[float, float],
    unacceptable: float | None,
    unacceptable_increase: float | None = None,
) -> bool:
    """Whether a plain estimate lies beyond what a stage must rule out.

    stable, canary: events and requests of each. unacceptable: the ratio of the rates to rule out, None where
    nothing is; unacceptable_increase: the share more of all requests, which has to be exceeded as well. Less
    than FEW_EVENTS events are chance, and so is a ratio without requests of stable."""
    (stable_events, stable_requests), (canary_events, canary_requests) = stable, canary
    if unacceptable is None or canary_events < FEW_EVENTS or not (stable_requests and canary_requests):
        return False
    stable_share, share = stable_events / stable_requests, canary_events / canary_requests
    if not stable_events:
        return share >= (unacceptable_increase or PLAIN_SHARE)
    return share > unacceptable * stable_share and share - stable_share > (unacceptable_increase or 0.0)


def largest_tolerated(
    ratio: float, increase: float | None, stable_events: float, stable_requests: float
) -> float:
    """The ratio that is tolerated where `ratio` is, or an `increase` of the share, whichever is more."""
    if not (increase and stable_events):
        return ratio
    return max(ratio, 1.0 + increase * stable_requests / stable_events)


@dataclass(frozen=True, slots=True)
class MetricFinding:
    """One comparison, or one guardrail, in numbers.

    metric: the policy's metric ("errors", "latency", a query's name); what: the comparison in words
    ("errors", "slower than 250 ms", "mean latency", "at most 5% errors"). stable_events of stable_requests,
    canary_events of canary_requests: the counts of this stage. ratio, low, high: canary's rate over stable's,
    with its anytime-valid interval (None: not estimable, or a guardrail).
    tolerated, unacceptable: ratios this comparison was held against (None for a guardrail); of errors also
    the increase of the share that is tolerated, or unacceptable, whatever the ratio. odds: gathered
    against the canary (1 is neutral), bar: the odds at which it is rolled back; cleared: odds gathered that
    nothing unacceptable is there, clear_bar: what they must reach for the stage to pass. value, limit: of a
    guardrail or a query; a compared query has a ratio and odds, and no counts. since: when an alert that
    counts began to fire (Unix seconds). says: the finding as one sentence. service: whose it is, where the
    verdict is of several.
    """

    metric: str
    what: str
    answer: Answer
    stable_events: int = 0
    stable_requests: int = 0
    canary_events: int = 0
    canary_requests: int = 0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    tolerated: float | None = None
    unacceptable: float | None = None
    odds: float = 1.0
    bar: float = 100.0
    cleared: float = 1.0
    clear_bar: float = 20.0
    value: float | None = None
    limit: float | None = None
    says: str = ""
    # the last looks are over a limit, or the mean is beyond what the stage must rule out, whatever the odds
    is_over: bool = False
    dry_run: bool = False  # it is told, and decides nothing
    service: str | None = None
    since: int | None = None
    tolerated_increase: float | None = None
    unacceptable_increase: float | None = None

    @property
    def is_plainly_unacceptable(self) -> bool:
        """Whether the plain estimate lies beyond what the stage must rule out."""
        return is_plainly_unacceptable(
            (self.stable_events, self.stable_requests),
            (self.canary_events, self.canary_requests),
            self.unacceptable,
            self.unacceptable_increase,
        )

    @property
    def is_above_tolerated(self) -> bool:
        """Whether all that the interval leaves possible, or a mean without one, is more than is tolerated."""
        least = self.low if self.low is not None else self.ratio if not self.canary_events else None
        if least is None or self.tolerated is None:
            return False
        return least > largest_tolerated(
            self.tolerated, self.tolerated_increase, self.stable_events, self.stable_requests
        )

    @property
    def named(self) -> str:
        """The metric, and whose it is where that has to be said."""
        return f"{self.service}, {self.metric}" if self.service else self.metric


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer after a look.

    at: end of the last look it rests on (Unix seconds); stage: index, weight: of the canary in it; looks: how
    many of this stage were compared; odds: the weighted total against the canary over the whole rollout, bar:
    the odds at which it is rolled back.
    stage_odds: the same from this stage's own looks. canary_requests: of this stage. reason: why, in one
    sentence with numbers.
    off_weight: the traffic does not follow the weight, so nothing passes. contested: one comparison alone
    keeps the stage from passing, also at its deadline. traffic_fell: there is so little of it, other than
    before, that the stage would not see harm.
    """

    answer: Answer
    at: int
    stage: int
    weight: int
    looks: int = 0
    odds: float = 1.0
    stage_odds: float = 1.0
    bar: float = 100.0
    canary_requests: int = 0
    reason: str = ""
    # looks are judged in long blocks, and too few of this stage's have closed for its odds to say much
    few_blocks: bool = False
    findings: tuple[MetricFinding, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know: noise floor, blocks, a single replica
    off_weight: bool = False
    contested: bool = False
    traffic_fell: bool = False

    @property
    def lacks_data(self) -> bool:
        """Whether a part that decides has nothing to be judged by."""
        return any(finding.answer is Answer.NO_DATA and not finding.dry_run for finding in self.findings)

    @property
    def is_over_a_limit(self) -> bool:
        """Whether the canary's last looks are over a limit of the policy, or its mean latency is beyond what
        the stage must rule out, whatever the odds."""
        return any(finding.is_over for finding in self.findings)

    @property
    def alert_since(self) -> int | None:
        """When the last of the alerts began that fire and count (Unix seconds); None where none does."""
        return max((finding.since for finding in self.findings if finding.since is not None), default=None)

    @property
    def lacks_alerts(self) -> bool:
        """Whether it is not known which alerts fire."""
        return any(
            finding.metric == ALERTS_METRIC and finding.answer is Answer.NO_DATA for finding in self.findings
        )

    @property
    def looks_unacceptable(self) -> bool:
        """Whether a plain estimate lies beyond what the stage must rule out."""
        return any(finding.is_plainly_unacceptable and not finding.dry_run for finding in self.findings)
