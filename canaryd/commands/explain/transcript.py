"""What a judge of one rollout observed, kept so that another judge can observe the same: by another policy,
or without one replica.

Pure, and exact: the same policy gives the same verdicts again. Nothing here says what a verdict means;
`counterfactuals.py` asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from canaryd.domain.counts import Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Verdict
from canaryd.report.reporting_judge import reporting_judge_of


@dataclass(frozen=True, slots=True)
class TranscribedLook:
    """One look as it was observed. opened: stretches at one weight that began with it. values: the policy's
    queries by name."""

    look: Look
    values: Mapping[str, float | None]
    compared: bool
    opened: tuple[Span, ...] = ()


@dataclass
class Transcript:
    """All that was observed, in order. history: stable's looks before the rollout."""

    history: Sequence[Look] = ()
    steps: list[TranscribedLook] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)  # of each step, by the rollout's own policy
    # stable's values of compared queries in the history
    past: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    def until(self, at: int) -> int:
        """Looks up to that moment, the one that ends there included: what judging them again costs."""
        return sum(step.look.end <= at for step in self.steps)

    def again(
        self, policy: Policy, until: int, without: str = ""
    ) -> Iterator[tuple[TranscribedLook, Verdict]]:
        """The looks up to `until` as a judge by this policy has them. without: a canary replica that is taken
        for not having been there; what traffic the weight promised is not asked then."""
        judge = reporting_judge_of(policy, self.history, by_weight=not without)
        judge.remember(self.past)
        for step in self.steps:
            if step.look.end > until:
                return
            for span in step.opened:
                judge.open(span)
            yield step, judge.observe(_without(step.look, without), step.values, step.compared)

    @property
    def compared(self) -> list[Verdict]:
        """The verdicts of looks that were held against the canary."""
        return [verdict for step, verdict in zip(self.steps, self.verdicts, strict=True) if step.compared]


def _without(look: Look, replica: str) -> Look:
    if not replica:
        return look
    return replace(
        look,
        canary={name: counts for name, counts in look.canary.items() if name != replica},
        parts=tuple(_without(part, replica) for part in look.parts),
    )


class TranscribingJudge:
    """The judge of a rollout, which keeps all that it observes: what `control` takes for a judge."""

    def __init__(self, transcript: Transcript, policy: Policy, history: Sequence[Look]) -> None:
        self._transcript, self._judge = transcript, reporting_judge_of(policy, history)
        self._opened: tuple[Span, ...] = ()
        transcript.history = history

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        self._judge.remember(past)
        self._transcript.past = past

    def open(self, span: Span) -> None:
        self._judge.open(span)
        self._opened = (*self._opened, span)

    def watch(self, look: Look, compared: bool) -> bool:
        return self._judge.watch(look, compared)

    def observe(self, look: Look, values: Mapping[str, float | None], compared: bool) -> Verdict:
        verdict = self._judge.observe(look, values, compared)
        self._transcript.steps.append(TranscribedLook(look, values, compared, self._opened))
        self._transcript.verdicts.append(verdict)
        self._opened = ()
        return verdict
