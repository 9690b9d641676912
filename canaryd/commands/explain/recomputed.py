"""A rollout's decisions had again from telemetry, beside those on record: which are the same, what they rest
on, what would differ.

Pure: what was read again comes in (`commands/explain/reread.py` reads it). How it is said is in
`text.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from canaryd.commands.explain.counterfactuals import (
    USUAL_LOOKS,
    Inquiry,
    Progress,
    WhatIf,
    questions,
    span_of,
)
from canaryd.commands.explain.transcript import Transcript
from canaryd.domain.counts import Counts
from canaryd.domain.lifecycle import Signal
from canaryd.domain.rollout import Decision, Rollout
from canaryd.domain.verdict import Verdict
from canaryd.report.attribution import Passing, passings
from canaryd.report.decision_differences import BY_EVIDENCE, differences_of

BY_VERDICT = tuple(signal.value for signal in BY_EVIDENCE)


@dataclass(frozen=True, slots=True)
class RecomputedDecision:
    """One decision by evidence.

    verdict: had again at its look; None: telemetry has that look no more. same: whether answer, odds and
    reason are those on record, and mean the same decision. differences: where they are not, in words.
    passing: when each metric had ruled out what the stage must.
    """

    decision: Decision
    verdict: Verdict | None
    same: bool
    differences: tuple[str, ...] = ()
    passing: tuple[Passing, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the same answer is had again, be it on somewhat other numbers."""
        return (
            self.verdict is not None
            and self.decision.verdict is not None
            and self.verdict.answer is self.decision.verdict.answer
        )


@dataclass(frozen=True)
class Recomputed:
    """What was recomputed of a rollout. requests: of both versions as counted on record, and as telemetry has
    them up to the same moment; None where the record does not say. unsampled: looks, of all, in which there
    was no telemetry."""

    source: str
    transcript: Transcript
    decisions: tuple[RecomputedDecision, ...]
    requests: tuple[int, int] | None
    unsampled: int
    skipped: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every decision by evidence is had again as it is on record."""
        return all(decision.same for decision in self.decisions)

    @property
    def forgotten(self) -> bool:
        """Whether telemetry has nothing of the rollout's time any more."""
        return self.unsampled == len(self.transcript.steps)


def recomputed(rollout: Rollout, transcript: Transcript, source: str) -> Recomputed:
    """Each decision beside what is had again; without what would have decided otherwise."""
    by_look = {verdict.at: verdict for verdict in transcript.verdicts}
    found = []
    for decision, before in zip(rollout.decisions, (None, *rollout.decisions), strict=False):
        if decision.verdict is None or decision.signal not in BY_VERDICT:
            continue
        again = by_look.get(decision.verdict.at)
        differences = tuple(differences_of(rollout, decision, before, again))
        passing = (
            _passing(rollout, transcript, again)
            if again is not None and decision.signal != Signal.HARM.value
            else ()
        )
        found.append(RecomputedDecision(decision, again, not differences, differences, passing))
    unsampled = sum(not step.look.sampled for step in transcript.steps)
    return Recomputed(source, transcript, tuple(found), _requests(rollout, transcript), unsampled)


def _requests(rollout: Rollout, transcript: Transcript) -> tuple[int, int] | None:
    if not rollout.entrance.counted or rollout.counted_to is None:
        return None
    again = 0
    for step in transcript.steps:
        if step.look.end <= rollout.counted_to:
            again += sum(
                counts.requests for side in (step.look.stable, step.look.canary) for counts in side.values()
            )
    return sum(counts.requests for service in rollout.services for counts in service.counted.values()), again


def _passing(rollout: Rollout, transcript: Transcript, verdict: Verdict) -> tuple[Passing, ...]:
    span = span_of(rollout, verdict)
    if span is None:
        return ()
    return passings(stage_of(transcript, verdict), span, rollout.policy.stages[verdict.stage].minimum)


def stage_of(transcript: Transcript, verdict: Verdict) -> list[Verdict]:
    """The compared looks of a verdict's stage up to its own: evidence to pass is gathered from the stage's
    beginning, or from where stable changed."""
    found: list[Verdict] = []
    before = None
    for step, own in zip(transcript.steps, transcript.verdicts, strict=True):
        for span in step.opened:
            if span.fresh or before is None or (before.stage, before.weight) != (span.stage, span.weight):
                found = []
            before = span
        if step.compared:
            found.append(own)
        if step.look.end >= verdict.at:
            break
    return found


def inquiry(rollout: Rollout, found: Recomputed, most: float = USUAL_LOOKS) -> Inquiry:
    """What is to be asked of the decisions whose answer is had again; of others nothing is, since the looks
    that they rested on are not the ones there are now. A rollback first, as it is what people ask about."""
    asked = Inquiry(most)
    answers = [
        (place, answered.decision, answered.verdict)
        for place, answered in enumerate(found.decisions)
        if answered.agrees and answered.verdict is not None
    ]
    for place, decision, verdict in sorted(answers, key=lambda answer: answer[1].signal != Signal.HARM.value):
        asked.add(place, decision, questions(rollout, found.transcript, decision, verdict))
    return asked


def answered(found: Recomputed, asked: Inquiry, progress: Progress = lambda looks: None) -> Recomputed:
    """With what would have decided otherwise."""
    answers: Mapping[int, tuple[WhatIf, ...]] = asked.answers(progress)
    decisions = tuple(
        replace(decision, what_ifs=answers.get(place, ())) for place, decision in enumerate(found.decisions)
    )
    return replace(found, decisions=decisions, skipped=tuple(asked.skipped))


def completed(rollout: Rollout, found: Recomputed) -> Rollout:
    """The rollout of a recording, which has neither the last verdict nor what was counted: both as they are
    had again."""
    counted: dict[str, Counts] = {}
    for step in found.transcript.steps:
        for name, counts in (*step.look.stable.items(), *step.look.canary.items()):
            counted[name] = counted.get(name, Counts()) + Counts(counts.requests, counts.failures)
    verdicts = found.transcript.compared
    until = found.transcript.steps[-1].look.end if found.transcript.steps else None
    rollout = replace(rollout, counted_to=until).with_verdict(verdicts[-1] if verdicts else None)
    return rollout.with_service(replace(rollout.entrance, counted=counted))
