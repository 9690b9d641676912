"""A verdict's findings and sentences: what a person reads of the evidence, always with its numbers. Nothing
here decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canaryd.domain.formatting import odds_text, percent_text, short
from canaryd.domain.verdict import Answer, MetricFinding
from canaryd.judge.count_vectors import FAILURES, REQUESTS, SLOWER, TIMED
from canaryd.judge.errors import ErrorEvidence
from canaryd.judge.guardrails import Limit
from canaryd.judge.latency import MEAN_WEIGHT, TINY, LatencyEvidence
from canaryd.judge.metric_evidence import MetricEvidence, odds_of
from canaryd.report import query_findings
from canaryd.stats.between_replicas import PRIOR_REPLICAS, PRIOR_SD, RARE, ratio_by_luck

if TYPE_CHECKING:
    from canaryd.judge.judge import Judge

TOP_BOUNDS = 3  # bounds shown beside the median's and the 95th percentile's
ALL_BOUNDS = "all bounds"
UNEVEN = 2.0  # odds that make a bound worth naming
MATCHED = (
    "matched users are compared with all others, who may differ anyway, so the stage passes by its minimum "
    "and guardrails alone"
)
SPLIT = (
    "half of the matched requests go to stable and half to the canary, by lot: these two halves are "
    "compared, and no others"
)


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: events of requests, stable's and the canary's."""

    stable_events: float
    stable_requests: float
    canary_events: float
    canary_requests: float

    @property
    def whole(self) -> tuple[int, int, int, int]:
        return (
            int(self.stable_events),
            int(self.stable_requests),
            int(self.canary_events),
            int(self.canary_requests),
        )

    @property
    def ratio(self) -> float | None:
        """Of the rates; None where stable had no event."""
        if not (self.stable_events and self.stable_requests and self.canary_requests):
            return None
        return float(self.canary_events / self.canary_requests / (self.stable_events / self.stable_requests))

    def shown(self, low: float, high: float) -> tuple[float | None, float | None]:
        """The interval of the ratio, if there is a ratio to put it round."""
        return (low, high) if self.ratio is not None else (None, None)

    def against(self, what: str, low: float, high: float, tolerated: str) -> str:
        """`errors 2.1% against 0.5% (ratio 4.2, 1.9 to 9.3; 10% more tolerated)`."""
        shares = [
            percent_text(events / requests) if requests else "nothing"
            for events, requests in (
                (self.canary_events, self.canary_requests),
                (self.stable_events, self.stable_requests),
            )
        ]
        upto = short(high) if np.isfinite(high) else "any"
        estimate = f"ratio {short(self.ratio)}, {short(low)} to {upto}; " if self.ratio is not None else ""
        return f"{what} {shares[0]} against {shares[1]} ({estimate}{tolerated})"


def findings(judge: "Judge") -> tuple[MetricFinding, ...]:
    """The useful ones: errors, latency and its bounds that matter, guardrails, queries."""
    found: list[MetricFinding] = []
    if judge.comparing:
        if judge.errors is not None:
            found.append(_errors(judge, judge.errors))
        if judge.latency is not None:
            found += _latency(judge, judge.latency)
    elif judge.at_full:
        found += _alarm(judge)
    found += _guardrails(judge)
    found += query_findings.findings(judge)
    return tuple(found)


def metric_bar(judge: "Judge", weight: float) -> float:
    """The odds at which a metric with this weight reaches the bar alone, the others being neutral."""
    return (judge.bar - (1.0 - weight)) / weight


def _metric_answer(judge: "Judge", odds: float, bar: float, cleared: float) -> Answer:
    if odds >= bar:
        return Answer.FAIL
    return Answer.PASS if cleared >= judge.clear_bar else Answer.UNDECIDED


def _errors(judge: "Judge", errors: ErrorEvidence) -> MetricFinding:
    stable, canary = judge.stage_stable, judge.stage_canary
    odds, bar = errors.odds, metric_bar(judge, errors.weight)
    counts = Sides(stable[FAILURES], stable[REQUESTS], canary[FAILURES], canary[REQUESTS])
    low, high = errors.interval()
    answer = _metric_answer(judge, odds, bar, errors.cleared)
    says = counts.against("errors", low, high, f"{percent_text(errors.tolerated - 1)} more tolerated")
    return MetricFinding(
        "errors",
        "errors",
        answer,
        *counts.whole,
        counts.ratio,
        *counts.shown(low, high),
        errors.tolerated,
        errors.unacceptable,
        odds,
        bar,
        errors.cleared,
        judge.clear_bar,
        says=f"{says}, {_odds(judge, odds, bar, errors.cleared)}",
    )


def _latency(judge: "Judge", latency: LatencyEvidence) -> list[MetricFinding]:
    stable, canary = latency.stage_stable, latency.stage_canary
    odds, bar = latency.odds, metric_bar(judge, latency.weight)
    if canary[TIMED] == 0 or stable[TIMED] == 0:
        says = "no latency of both versions in one look of this stage yet"
        return [
            MetricFinding(
                "latency",
                ALL_BOUNDS,
                Answer.NO_DATA,
                odds=odds,
                bar=bar,
                clear_bar=judge.clear_bar,
                says=says,
            )
        ]
    answer = _metric_answer(judge, odds, bar, latency.cleared)
    mean = latency.mean_ratio
    body = f"mean {short(mean)} times stable's, " if mean is not None else ""
    joined, ruled_out = (
        f"{int(latency.joined.sum())} of {len(latency.bounds)} bounds",
        _odds(judge, odds, bar, latency.cleared),
    )
    whole = MetricFinding(
        "latency",
        ALL_BOUNDS,
        answer,
        stable_requests=int(stable[TIMED]),
        canary_requests=int(canary[TIMED]),
        ratio=mean,
        odds=odds,
        bar=bar,
        cleared=latency.cleared,
        clear_bar=judge.clear_bar,
        says=f"latency over {joined}: {body}{ruled_out}",
    )
    found, rows = [whole, *_mean(judge, latency)], _rows_that_matter(latency)
    if not len(rows):
        return found
    lows, highs = latency.interval(rows)
    borders = latency.borders(latency.replicas)
    return [
        *found,
        *(
            _bound(
                judge,
                latency,
                int(row),
                float(low),
                float(high),
                float(borders.tolerated[row]),
                float(borders.unacceptable[row]),
            )
            for row, low, high in zip(rows, lows, highs, strict=True)
        ),
    ]


def _mean(judge: "Judge", latency: LatencyEvidence) -> list[MetricFinding]:
    """The mean's own odds, where they say something."""
    odds = odds_of(latency.mean.log_odds)
    if odds < UNEVEN or latency.mean_ratio is None:
        return []
    bar, tolerated = metric_bar(judge, latency.weight * MEAN_WEIGHT), 1.0 + latency.tolerated
    says = (
        f"mean latency {short(latency.mean_ratio)} times stable's ({percent_text(tolerated - 1)} more "
        f"tolerated), odds {odds_text(odds)}"
    )
    found = MetricFinding(
        "latency",
        "mean latency",
        Answer.FAIL if odds >= bar else Answer.UNDECIDED,
        stable_requests=int(latency.stage_stable[TIMED]),
        canary_requests=int(latency.stage_canary[TIMED]),
        ratio=latency.mean_ratio,
        tolerated=tolerated,
        odds=odds,
        bar=bar,
        says=says,
    )
    return [found]


def _rows_that_matter(latency: LatencyEvidence) -> NDArray[np.intp]:
    """Of the bounds that joined: those with most odds against the canary, and those nearest to stable's
    median and p95."""
    joined = np.flatnonzero(latency.joined)
    stage = latency.comparisons.stage
    if not len(joined):
        return np.empty(0, dtype=np.intp)
    odds = stage.log_odds[joined]
    top = joined[np.argsort(-odds, kind="stable")[:TOP_BOUNDS]]
    top = top[stage.log_odds[top] > np.log(UNEVEN)]
    share = latency.stage_stable[SLOWER:][joined] / max(latency.stage_stable[TIMED], 1.0)
    usual = [int(joined[np.abs(share - one).argmin()]) for one in (0.5, 0.05)]
    return np.array(sorted({*map(int, top), *usual}), dtype=np.intp)


def _bound(
    judge: "Judge",
    latency: LatencyEvidence,
    row: int,
    low: float,
    high: float,
    tolerated: float,
    unacceptable: float,
) -> MetricFinding:
    stable, canary = latency.stage_stable, latency.stage_canary
    stage = latency.comparisons.stage
    odds = odds_of(float(stage.log_odds[row]))
    counts = Sides(stable[SLOWER + row], stable[TIMED], canary[SLOWER + row], canary[TIMED])
    what = f"slower than {latency.bounds[row]:g} ms"
    share = latency.weight * float(latency.bound_weights[row])
    cleared = odds_of(float(latency.comparisons.log_cleared[row]))
    bar = metric_bar(judge, share)
    # Where stable has next to none, a ratio says little, and the tolerance is the increase.
    border = f"{tolerated:.3g} times stable's" if counts.ratio is not None else f"{percent_text(TINY)} more"
    says = counts.against(what, low, high, f"{border} tolerated")
    return MetricFinding(
        "latency",
        what,
        _metric_answer(judge, odds, bar, cleared),
        *counts.whole,
        counts.ratio,
        *counts.shown(low, high),
        tolerated,
        unacceptable,
        odds,
        bar,
        cleared,
        judge.clear_bar,
        says=f"{says}, odds {odds_text(odds)}",
    )


def _odds(judge: "Judge", odds: float, bar: float, cleared: float) -> str:
    """What decides: harm where there is some, what is still to rule out where there is none, and where that
    lets a stage pass."""
    if odds >= UNEVEN or judge.kind == "match":
        return f"odds {odds_text(odds)} against the canary (alone it is rolled back at {short(bar)})"
    if cleared >= judge.clear_bar:
        return f"what this stage must rule out is ruled out at {odds_text(cleared)}"
    return (
        f"what this stage must rule out is at {odds_text(max(cleared, 1.0))} of {short(judge.clear_bar)} to 1"
    )


def _alarm(judge: "Judge") -> list[MetricFinding]:
    """At full weight: errors against what the record tolerates, and of latency the bound that speaks
    loudest."""
    canary, found = judge.stage_canary, []
    if judge.errors is not None:
        found.append(_against_record(judge, 0, "errors", "errors", canary[FAILURES], canary[REQUESTS]))
    joined = np.flatnonzero(judge.latency.joined) if judge.latency is not None else np.empty(0, dtype=np.intp)
    if judge.latency is not None and len(joined) and canary[TIMED]:
        row = int(joined[judge.alarm.each[1 + joined].argmax()])
        what = f"slower than {judge.latency.bounds[row]:g} ms"
        found.append(_against_record(judge, 1 + row, "latency", what, canary[SLOWER + row], canary[TIMED]))
    if judge.latency is not None and not judge.timed:
        found.append(
            MetricFinding(
                "latency", ALL_BOUNDS, Answer.NO_DATA, says="no latency of the canary at full weight yet"
            )
        )
    return found


def _against_record(
    judge: "Judge", place: int, metric: str, what: str, events: float, requests: float
) -> MetricFinding:
    odds, limit, usual = (
        float(judge.alarm.each[place]),
        float(judge.alarm.limits[place]),
        float(judge.alarm.usual[place]),
    )
    share = float(events / max(requests, 1.0))
    says = f"{what} {percent_text(share)} at full weight, and no record to hold it against"
    answer = Answer.ALARM if odds >= judge.bar else Answer.NO_DATA if judge.blind else Answer.UNDECIDED
    if judge.alarm.judged[place]:
        compared = (
            f"{percent_text(share)} at full weight against {percent_text(usual)} in the rollout's record"
        )
        says = f"{what} {compared} (up to {percent_text(limit)} is usual), odds {odds_text(odds)}"
    return MetricFinding(
        metric,
        f"{what}, against the record",
        answer,
        canary_events=int(events),
        canary_requests=int(requests),
        odds=odds,
        bar=judge.bar,
        value=share,
        limit=limit,
        says=says,
    )


def _guardrails(judge: "Judge") -> list[MetricFinding]:
    each = judge.guardrails.odds
    return [
        _guardrail(judge, limit, float(odds), *map(float, judge.guardrails.seen[:, i]))
        for i, (limit, odds) in enumerate(zip(judge.guardrails.limits, each, strict=True))
    ]


def _guardrail(judge: "Judge", limit: Limit, odds: float, events: float, requests: float) -> MetricFinding:
    share = events / requests if requests else None
    what = "errors" if limit.bound_ms is None else f"slower than {limit.bound_ms:g} ms"
    if odds >= judge.bar:
        answer = Answer.FAIL
    elif share is None:
        answer = Answer.NO_DATA
    else:
        answer = Answer.PASS if share <= limit.share else Answer.UNDECIDED
    seen = (
        f"{percent_text(share)} ({events:,.0f} of {requests:,.0f})" if share is not None else "nothing seen"
    )
    usual = judge.siblings.total
    of_stable = (
        f"; stable has {percent_text(usual[limit.events] / usual[limit.requests])}"
        if usual[limit.requests]
        else ""
    )
    return MetricFinding(
        limit.metric,
        f"at most {percent_text(limit.share)} {what}",
        answer,
        canary_events=int(events),
        canary_requests=int(requests),
        odds=odds,
        bar=judge.bar,
        value=share,
        limit=limit.share,
        says=f"{what} {seen} where at most {percent_text(limit.share)} is allowed{of_stable}, odds "
        f"{odds_text(odds)} that it is broken",
    )


def notes(judge: "Judge") -> tuple[str, ...]:
    """What a reader must know to read the numbers right."""
    said = [SPLIT] if judge.kind == "split" else []
    for metric in judge.metrics:
        if metric.block > 1:
            lasts = f"trouble on stable lasts about {short(metric.tau)} looks at a time"
            said.append(f"{metric.name}: {lasts}, so looks are judged in blocks of {metric.block}")
    if judge.latency is not None and judge.comparing and judge.timed and judge.latency.replicas == 1:
        by = {"source": "callers", "waypoint": "waypoints"}.get(judge.policy.analysis.reporter)
        one = f"counted by the {by}, replicas are one" if by else "latency of one canary replica"
        less = "" if judge.kind == "split" else ", and less has to be ruled out"
        said.append(f"{one}: a slow node cannot be told from a slow version: luck may bring more{less}")
    if judge.dropped:
        left_out = ", ".join(f"{bound:g}" for bound in judge.dropped)
        said.append(
            f"not every replica's histogram has the bounds {left_out} ms: latency was begun anew without them"
        )
    if judge.withheld:
        said.append(
            "the odds are over the bar, yet they rest on one replica, or on one histogram bound that the "
            "mean does not bear out: that is not held against the version, and someone should look at it"
        )
    said += judge.guardrails.blind
    said += _luck(judge)
    said += _drawn(judge)
    said += query_findings.notes(judge)
    return tuple(said)


def _luck(judge: "Judge") -> list[str]:
    """How far stable's replicas differ, and what luck may so bring: of errors, and of latency at the bound
    where they differ most."""
    if not judge.comparing or judge.siblings.seen == 0:
        return []
    said, seen = [], judge.siblings.seen
    few = (
        f", of which so few say little: {PRIOR_SD:.0%} weighs in as {PRIOR_REPLICAS} more would"
        if seen < 2 * PRIOR_REPLICAS
        else ""
    )
    canary = max(1, judge.canary_replicas)
    for metric, place, what in _noisiest(judge):
        raw, sd = float(judge.siblings.raw[place]), float(judge.siblings.sd[place])
        ratio = float(ratio_by_luck(np.array(sd), seen, max(1, metric.stable_replicas), canary, RARE))
        by = percent_text(raw) if raw >= 0.005 else "no more than chance"
        known = f"{seen} replicas of stable differ by {by} in {what}{few}"
        if seen == 1:
            known = (
                f"how far replicas differ in {what} is not known from one of stable, {PRIOR_SD:.0%} is "
                "assumed"
            )
        said.append(
            f"{metric.name}: {known}; a ratio of up to {ratio:.2g} may be the luck of the draw of "
            f"{max(1, metric.stable_replicas)} and {canary}, and is not held against the canary"
        )
    return said


def _drawn(judge: "Judge") -> list[str]:
    """That users were drawn, and what their luck may bring."""
    if judge.users is None:
        return []
    both = judge.users.stable + judge.users.canary
    said = (
        f"users were drawn, and not requests: of {both:,.0f} by the policy, {judge.users.canary:,.0f} are "
        "the canary's"
    )
    if judge.errors is None:
        return [f"{said}; what may be the luck of their draw is not held against it"]
    ratio = judge.errors.ratio_by_luck(max(1, judge.canary_replicas))
    return [
        f"{said}; a ratio of errors of up to {ratio:.2g} may be the luck of their draw, and is not held "
        "against it"
    ]


def _noisiest(judge: "Judge") -> Iterator[tuple[MetricEvidence, int, str]]:
    """Each metric, and the place of its comparison in what siblings say."""
    if judge.errors is not None:
        yield judge.errors, 0, "their error rates"
    if judge.latency is not None and judge.latency.joined.any():
        joined = np.flatnonzero(judge.latency.joined)
        row = int(joined[judge.siblings.raw[1 + joined].argmax()])
        yield judge.latency, 1 + row, f"their shares slower than {judge.latency.bounds[row]:g} ms"


def reason(judge: "Judge", answer: Answer, found: Sequence[MetricFinding], odds: float) -> str:
    """The verdict in one sentence; of matched requests, with that they are compared with others than
    themselves."""
    if judge.kind == "dark" and answer is not Answer.FAIL:
        return _dark(judge)
    said = _reason(judge, answer, found, odds)
    return f"{said}; {MATCHED}" if judge.kind == "match" else said


def _dark(judge: "Judge") -> str:
    """How far a stage is that no user is sent to."""
    previews = (
        f"{judge.stage_canary[REQUESTS]:,.0f} requests of previews"
        if judge.stage_canary[REQUESTS]
        else "no request"
    )
    return f"dark, with {previews} in {judge.looks} looks: it passes by its minimum"


def _reason(judge: "Judge", answer: Answer, found: Sequence[MetricFinding], odds: float) -> str:
    found = [one for one in found if not one.dry_run]  # they give no reasons
    total = f"odds {odds_text(odds)}, rolled back at {short(judge.bar)}"
    if answer is Answer.FAIL:
        broken = next(
            (one.says for one in found if one.answer is Answer.FAIL and one.limit is not None), None
        )
        if broken is not None:
            return f"{broken}, rolled back"
        loudest = _loudest(found)
        return f"{_without_odds(loudest)}, {total}" if loudest else total
    if answer is Answer.ALARM:
        loudest = max(
            (one for one in found if one.answer is Answer.ALARM), key=lambda one: one.odds, default=None
        )
        then = (
            "to be judged side by side again"
            if judge.leads_back
            else "rolled back, since no stage before it has users of both versions"
        )
        return (
            f"{loudest.says}: {then}"
            if loudest
            else f"{total.partition(',')[0]} against the rollout's record"
        )
    if answer is Answer.PASS:
        seen = (
            f"nothing against the canary in {judge.looks} looks and {judge.stage_canary[REQUESTS]:,.0f} of "
            "its requests"
        )
        return "; ".join((seen, *(one.says for one in found if not one.what.startswith("slower"))))
    open_ones = [
        one.says for one in found if one.answer is not Answer.PASS and not one.what.startswith("slower")
    ]
    return "; ".join(open_ones[:2]) or f"no evidence of harm so far ({total})"


def _loudest(found: Sequence[MetricFinding]) -> MetricFinding | None:
    """What decided a rollback on comparisons: the metric with most odds for its weight, and of latency the
    bound that speaks most. The bounds' odds are this stage's alone: where an earlier stage's evidence
    decided, all bounds together say it."""
    metrics = [
        one for one in found if one.stable_requests and one.what in ("errors", ALL_BOUNDS)
    ] + query_findings.compared(found)
    loudest = max(metrics, key=lambda one: one.odds / one.bar, default=None)
    if loudest is None or loudest.what != ALL_BOUNDS:
        return loudest
    bounds = [
        one
        for one in found
        if one.metric == loudest.metric and one.what.startswith("slower") and one.odds >= UNEVEN
    ]
    return max(bounds, key=lambda one: one.odds / one.bar, default=loudest)


def _without_odds(finding: MetricFinding) -> str:
    return finding.says.rpartition(", odds ")[0] or finding.says
