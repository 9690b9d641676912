"""What a person reads of a policy's own queries: findings and notes, with their numbers. Nothing here
decides."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from canaryd.domain.formatting import odds_text, percent_text, short, time_text
from canaryd.domain.verdict import Answer, MetricFinding
from canaryd.judge.queries import CompareEvidence, QueryWatch

if TYPE_CHECKING:
    from canaryd.judge.judge import Judge

COMPARED = "compared with stable"
UNEVEN = 2.0  # odds that make a difference worth calling undecided
DRY_RUN = "would roll back (dry run)"


def findings(judge: "Judge") -> list[MetricFinding]:
    """Of each query: of its limits, and of its comparison while there is a stable version to compare with."""
    compared = {one.query.name: one for one in judge.compared.all} if judge.comparing else {}
    found = []
    for watch in judge.queries:
        found += [_limits(watch)] if watch.limited else []
        one = compared.get(watch.query.name)
        found += [_compared(watch, one, judge.bar)] if one is not None else []
    return found


def _limits(watch: QueryWatch) -> MetricFinding:
    query, value = watch.query, watch.value
    limits = " and ".join(
        f"{word} {one:g}"
        for word, one in (("at most", query.max), ("at least", query.min))
        if one is not None
    )
    over = query.max is not None and value is not None and value > query.max
    limit = query.max if over or query.min is None else query.min
    if value is None:
        says = f"{query.name} has no value in this look ({limits})"
        return MetricFinding(
            query.name, limits, Answer.NO_DATA, limit=limit, says=says, dry_run=query.dry_run
        )
    answer = Answer.FAIL if watch.broken else Answer.UNDECIDED if watch.out else Answer.PASS
    row = f", {watch.streak} of {query.for_} looks in a row" if watch.out else ""
    says = f"{query.name} {value:g} ({limits}){row}"
    if query.dry_run and watch.streak >= query.for_:
        says += f": {DRY_RUN}"
    return MetricFinding(
        query.name, limits, answer, value=value, limit=limit, says=says, dry_run=query.dry_run
    )


def _compared(watch: QueryWatch, evidence: CompareEvidence, total: float) -> MetricFinding:
    query, bar, odds = watch.query, evidence.bar(total), evidence.odds
    missing = [
        side for side, value in (("the canary", watch.value), ("stable", watch.stable_value)) if value is None
    ]
    harmful = odds >= bar
    if missing and not harmful:
        says = f"{query.name} has no value of {' and of '.join(missing)} in this look to compare"
        return MetricFinding(
            query.name,
            COMPARED,
            Answer.NO_DATA,
            odds=odds,
            bar=bar,
            value=watch.value,
            says=says,
            dry_run=query.dry_run,
        )
    answer = Answer.UNDECIDED if odds >= UNEVEN or evidence.worse else Answer.PASS
    if harmful and not query.dry_run:
        answer = Answer.FAIL
    means = evidence.means
    ratio = means[1] / means[0] if means is not None and means[0] > 0 and means[1] >= 0 else None
    higher = query.compare == "higher-is-worse"
    tolerated = f"{percent_text(query.tolerated)} {'more' if higher else 'less'} tolerated"
    if means is None:
        compared = f"{query.name} of no look of this stage yet compared with stable's"
    else:
        estimate = f"ratio {short(ratio)}; " if ratio is not None else ""
        looks = f"{evidence.looks} look" + ("s" if evidence.looks != 1 else "")
        compared = (
            f"{query.name} {means[1]:.3g} against {means[0]:.3g} in the mean of {looks} "
            f"({estimate}{tolerated})"
        )
    says = f"{compared}, odds {odds_text(odds)} against the canary (alone it is rolled back at {short(bar)})"
    if evidence.worse and not (harmful or query.dry_run):
        says += "; worse than tolerated in the mean, so the stage does not pass"
    if query.dry_run and harmful:
        says += f": {DRY_RUN}"
    return MetricFinding(
        query.name,
        COMPARED,
        answer,
        ratio=ratio,
        tolerated=1.0 + query.tolerated if higher and ratio is not None else None,
        odds=odds,
        bar=bar,
        value=watch.value,
        says=says,
        dry_run=query.dry_run,
    )


def notes(judge: "Judge") -> list[str]:
    """When a dry run would have rolled back, and what a comparison cannot know."""
    said = []
    compared = {one.query.name: one for one in judge.compared.all}
    for watch in judge.queries:
        query, evidence = watch.query, compared.get(watch.query.name)
        reached = [at for at in (watch.reached, evidence.reached if evidence else None) if at is not None]
        if query.dry_run and reached:
            when = f"at {time_text(min(reached))} UTC"
            said.append(
                f"{query.name} would have rolled back the canary {when}; it is a dry run and decides nothing"
            )
    for evidence in judge.compared.all if judge.comparing else ():
        if evidence.spread is None:
            said.append(
                f"{evidence.query.name}: too few values of stable before the rollout to tell how far it "
                "drifts by itself, so only what outlasts long blocks of looks is held against the canary"
            )
        elif evidence.block > 1:
            said.append(
                f"{evidence.query.name}: differences last, so what is no larger than stable's own drift is "
                f"judged in blocks of {evidence.block} looks"
            )
    return said


def compared(found: Sequence[MetricFinding]) -> list[MetricFinding]:
    """Those of comparisons."""
    return [one for one in found if one.what == COMPARED]
