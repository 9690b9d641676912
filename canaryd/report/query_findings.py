"""Findings and notes of a policy's own queries, in sentences with their numbers. Nothing here decides."""

from collections.abc import Iterator, Sequence

from canaryd.domain.assessment import QueryAssessment, QueryComparison
from canaryd.domain.formatting import odds_text, percent_text, short, time_text
from canaryd.domain.verdict import Answer, MetricFinding

COMPARED = "compared with stable"
DRY_RUN = "would roll back (dry run)"


def findings(query: QueryAssessment, is_comparing: bool) -> Iterator[MetricFinding]:
    """The findings of a query: of its limits, and of its comparison while there is a stable version to
    compare with."""
    if query.limit_answer is not None:
        yield _limits(query, query.limit_answer)
    if query.comparison is not None and is_comparing:
        yield _compared(query, query.comparison)


def _limits(assessed: QueryAssessment, answer: Answer) -> MetricFinding:
    query, value = assessed.query, assessed.value
    limits = " and ".join(
        f"{word} {limit:g}"
        for word, limit in (("at most", query.max), ("at least", query.min))
        if limit is not None
    )
    is_over = query.max is not None and value is not None and value > query.max
    if value is None:
        says = f"{query.name} has no value in this look ({limits})"
    else:
        in_a_row = f", {assessed.streak} of {query.for_} looks in a row" if assessed.is_out else ""
        says = f"{query.name} {value:g} ({limits}){in_a_row}"
        if query.dry_run and assessed.streak >= query.for_:
            says += f": {DRY_RUN}"
    return MetricFinding(
        query.name,
        limits,
        answer,
        value=value,
        limit=query.max if is_over or query.min is None else query.min,
        says=says,
        dry_run=query.dry_run,
    )


def _compared(assessed: QueryAssessment, comparison: QueryComparison) -> MetricFinding:
    query, means = assessed.query, comparison.means
    if comparison.answer is Answer.NO_DATA:
        return MetricFinding(
            query.name,
            COMPARED,
            comparison.answer,
            odds=comparison.odds,
            bar=comparison.bar,
            value=assessed.value,
            says=f"{query.name} has no value of {_missing(assessed)} in this look to compare",
            dry_run=query.dry_run,
        )
    ratio = means[1] / means[0] if means is not None and means[0] > 0 and means[1] >= 0 else None
    is_higher_worse = query.compare == "higher-is-worse"
    return MetricFinding(
        query.name,
        COMPARED,
        comparison.answer,
        ratio=ratio,
        tolerated=1.0 + query.tolerated if is_higher_worse and ratio is not None else None,
        odds=comparison.odds,
        bar=comparison.bar,
        value=assessed.value,
        says=_comparison(assessed, comparison, ratio),
        dry_run=query.dry_run,
    )


def _missing(assessed: QueryAssessment) -> str:
    sides = (("the canary", assessed.value), ("stable", assessed.stable_value))
    return " and of ".join(side for side, value in sides if value is None)


def _comparison(assessed: QueryAssessment, comparison: QueryComparison, ratio: float | None) -> str:
    query, means, is_harmful = assessed.query, comparison.means, comparison.odds >= comparison.bar
    if means is None:
        compared = f"{query.name} of no look of this stage yet compared with stable's"
    else:
        estimate = f"ratio {short(ratio)}; " if ratio is not None else ""
        direction = "more" if query.compare == "higher-is-worse" else "less"
        looks = f"{comparison.looks} look" + ("s" if comparison.looks != 1 else "")
        compared = (
            f"{query.name} {means[1]:.3g} against {means[0]:.3g} in the mean of {looks} "
            f"({estimate}{percent_text(query.tolerated)} {direction} tolerated)"
        )
    alone = f"alone it is rolled back at {short(comparison.bar)}"
    says = f"{compared}, odds {odds_text(comparison.odds)} against the canary ({alone})"
    if comparison.is_worse and not (is_harmful or query.dry_run):
        says += "; worse than tolerated in the mean, so the stage does not pass"
    if query.dry_run and is_harmful:
        says += f": {DRY_RUN}"
    return says


def notes(queries: Sequence[QueryAssessment], is_comparing: bool) -> Iterator[str]:
    """Notes on queries: when a dry run would have rolled back, and what a comparison cannot know."""
    for assessed in queries:
        compared_at = assessed.comparison.reached if assessed.comparison is not None else None
        reached = [at for at in (assessed.reached, compared_at) if at is not None]
        if assessed.query.dry_run and reached:
            when = f"at {time_text(min(reached))} UTC"
            dry_run = f"{assessed.query.name} would have rolled back the canary {when}"
            yield f"{dry_run}; it is a dry run and decides nothing"
    for assessed in queries if is_comparing else ():
        if assessed.comparison is None:
            continue
        if not assessed.comparison.has_past:
            yield (
                f"{assessed.query.name}: too few values of stable before the rollout to tell how far it "
                "drifts by itself, so only what outlasts long blocks of looks is held against the canary"
            )
        elif assessed.comparison.block > 1:
            yield (
                f"{assessed.query.name}: differences last, so what is no larger than stable's own drift is "
                f"judged in blocks of {assessed.comparison.block} looks"
            )


def compared(findings: Sequence[MetricFinding]) -> list[MetricFinding]:
    """Those of comparisons."""
    return [finding for finding in findings if finding.what == COMPARED]
