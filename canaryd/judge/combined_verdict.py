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


def verdict_of(verdicts_by_service: Mapping[str, Verdict]) -> Verdict:
    """The verdict of all, of the same look. verdicts_by_service: by the service, in the bracket's order."""
    verdicts = verdicts_by_service.values()
    answer = next(grave for grave in _GRAVEST if any(grave is verdict.answer for verdict in verdicts))
    gravest = {
        service: verdict for service, verdict in verdicts_by_service.items() if verdict.answer is answer
    }
    worst = max(gravest.values(), key=lambda verdict: verdict.odds)
    return replace(
        worst,
        answer=answer,
        at=max(verdict.at for verdict in verdicts),
        looks=min(verdict.looks for verdict in verdicts),
        odds=max(verdict.odds for verdict in verdicts),
        stage_odds=max(verdict.stage_odds for verdict in verdicts),
        canary_requests=min(verdict.canary_requests for verdict in verdicts),
        reason="; ".join(f"{service}: {verdict.reason}" for service, verdict in gravest.items()),
        few_blocks=any(verdict.few_blocks for verdict in verdicts),
        off_weight=any(verdict.off_weight for verdict in verdicts),
        contested=any(verdict.contested for verdict in verdicts),
        traffic_fell=any(verdict.traffic_fell for verdict in verdicts),
        findings=tuple(
            replace(finding, service=service)
            for service, verdict in verdicts_by_service.items()
            for finding in verdict.findings
        ),
        notes=tuple(
            f"{service}: {note}" for service, verdict in verdicts_by_service.items() for note in verdict.notes
        ),
    )
