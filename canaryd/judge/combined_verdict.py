"""One verdict of several: what the services of a bracket, each judged by itself, say of the whole.

Harm of any is harm of all; to pass, every one has to. The numbers are of the one that is worst off, so that
what the lifecycle asks of a verdict (odds at a deadline, requests seen) holds for each service; every finding
keeps its own, and says whose it is.
"""

from collections.abc import Mapping
from dataclasses import replace

from canaryd.domain.verdict import Answer, Verdict

# The first of these that a service says is what all say.
_GRAVEST = (Answer.FAIL, Answer.ALARM, Answer.NO_DATA, Answer.UNDECIDED, Answer.PASS)


def verdict_of(each: Mapping[str, Verdict]) -> Verdict:
    """The verdict of all, of the same look. each: by the service, in the bracket's order."""
    verdicts = each.values()
    answer = next(one for one in _GRAVEST if any(one is verdict.answer for verdict in verdicts))
    gravest = {service: one for service, one in each.items() if one.answer is answer}
    worst = max(gravest.values(), key=lambda one: one.odds)
    return replace(
        worst,
        answer=answer,
        at=max(one.at for one in verdicts),
        looks=min(one.looks for one in verdicts),
        odds=max(one.odds for one in verdicts),
        stage_odds=max(one.stage_odds for one in verdicts),
        canary_requests=min(one.canary_requests for one in verdicts),
        reason="; ".join(f"{service}: {one.reason}" for service, one in gravest.items()),
        few_blocks=any(one.few_blocks for one in verdicts),
        off_weight=any(one.off_weight for one in verdicts),
        findings=tuple(
            replace(finding, service=service) for service, one in each.items() for finding in one.findings
        ),
        notes=tuple(f"{service}: {note}" for service, one in each.items() for note in one.notes),
    )
