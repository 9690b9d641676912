"""Which metric a verdict rests on, and when each metric had ruled out what a stage must. From verdicts
alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from canaryd.domain.formatting import odds_text, percent_text
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.findings import ALL_BOUNDS
from canaryd.report.query_findings import COMPARED


def whole(verdict: Verdict) -> tuple[MetricFinding, ...]:
    """The findings that are about a metric as a whole: neither a single bound of latency, nor a limit."""
    return tuple(
        finding
        for finding in verdict.findings
        if finding.what in (finding.metric, ALL_BOUNDS)
        and finding.limit is None
        and finding.answer is not Answer.ALARM
    )


def broken(verdict: Verdict) -> MetricFinding | None:
    """The limit of the policy's own that a rollback rests on; None where it rests on the comparison."""
    return next(
        (
            finding
            for finding in verdict.findings
            if finding.answer is Answer.FAIL and finding.limit is not None
        ),
        None,
    )


def shares(verdict: Verdict) -> dict[str, float]:
    """Each metric's share of the odds against the canary: its odds times its weight in the total, over their
    sum.

    The weight is told from the bar that the metric reaches alone: bar = (total bar - (1 - weight)) / weight.
    {} where nothing is compared.
    """
    queries = [finding for finding in verdict.findings if finding.what == COMPARED and not finding.dry_run]
    found = {
        finding.named: _weight(verdict, finding) * finding.odds for finding in (*whole(verdict), *queries)
    }
    largest = max(found.values(), default=0.0)
    if not largest:
        return {}
    if not isfinite(largest):
        found = {metric: float(not isfinite(odds)) for metric, odds in found.items()}
        largest = 1.0
    # sums of the largest floats would be infinite
    scaled = {metric: odds / largest for metric, odds in found.items()}
    total = sum(scaled.values())
    return {metric: odds / total for metric, odds in scaled.items()}


def _weight(verdict: Verdict, finding: MetricFinding) -> float:
    return min(1.0, (verdict.bar - 1.0) / (finding.bar - 1.0)) if finding.bar > 1.0 else 1.0


def decided_by(verdict: Verdict) -> str:
    """Which metric decided, in words; empty where no metric was compared."""
    limit = broken(verdict)
    if limit is not None:
        return f"the policy's own limit, {limit.named}: {limit.what}"
    found = sorted(shares(verdict).items(), key=lambda part: -part[1])
    if not found:
        return ""
    (loudest, share), *others = found
    rest = "".join(f"; {metric} {_part(other)}" for metric, other in others)
    return f"{loudest} ({_part(share)} of the odds{rest})"


def _part(share: float) -> str:
    """A share that is not all of it is never said to be."""
    return "over 99%" if 0.99 < share < 1.0 else "under 1%" if 0.0 < share < 0.01 else percent_text(share)


# ---------------------------------------------------------------- passing


@dataclass(frozen=True, slots=True)
class Passing:
    """When one metric had ruled out what the stage must.

    at: end of the first look (Unix seconds) at which it had; None: it had not by then. cleared: the odds
    gathered for it at the decision, bar: what they must reach; at_minimum: those at the first look that the
    stage's minimum allows to pass, None where none was before.
    """

    metric: str
    at: int | None
    cleared: float
    bar: float
    at_minimum: float | None


def passings(stage: Sequence[Verdict], span: Span, minimum: float) -> tuple[Passing, ...]:
    """stage: the verdicts of the stage up to the decision's. () at full weight, where nothing is compared."""
    found = []
    for last in whole(stage[-1]) if stage else ():
        if last.unacceptable is None and last.what != ALL_BOUNDS:
            continue
        findings = [
            (verdict.at, finding)
            for verdict in stage
            for finding in whole(verdict)
            if finding.named == last.named
        ]
        first = next((at for at, finding in findings if finding.cleared >= finding.clear_bar), None)
        late = next((finding.cleared for at, finding in findings if at - span.start >= minimum), None)
        found.append(Passing(last.named, first, last.cleared, last.clear_bar, late))
    return tuple(found)


def part_text(odds: float, bar: float) -> str:
    """`6.5 to 1 of 20 to 1`, and never as if it were all of it."""
    reached, wanted = odds_text(max(odds, 1.0)), odds_text(bar)
    return f"{reached} of {wanted}" if reached != wanted else f"just below {wanted}"


def lacked(verdict: Verdict) -> list[str]:
    """What a stage has not ruled out, metric by metric."""
    sentences = []
    for finding in whole(verdict):
        if finding.answer is Answer.NO_DATA:
            sentences.append(f"{finding.named} has nothing to be compared by")
        elif finding.cleared < finding.clear_bar:
            sentences.append(f"{finding.named} is at {part_text(finding.cleared, finding.clear_bar)}")
        elif finding.answer is Answer.UNDECIDED:
            sentences.append(f"{finding.named} is beyond it by its plain counts")
    sentences += [
        f"{limit.named} ({limit.what}) is "
        + ("without a value" if limit.answer is Answer.NO_DATA else "at its limit")
        for limit in verdict.findings
        if limit.limit is not None and limit.answer is not Answer.PASS and limit.odds == 1.0
    ]
    return sentences
