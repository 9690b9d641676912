"""A rollout on record read again from telemetry, by the walk of a live one: the same windows, the same judge,
the same verdicts.

Nothing is written, and nothing is decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import floor

from canaryd.commands.explain.transcript import TranscribingJudge, Transcript
from canaryd.control.evidence_stream import EvidenceStream
from canaryd.control.evidence_streams import in_step, names_of
from canaryd.domain.counts import HISTORY_LOOKS, Counts, Look, Source, Target
from canaryd.domain.ports import Presence, Rejected, Telemetry, Unavailable
from canaryd.domain.rollout import Rollout
from canaryd.domain.series_values import SeriesValues
from canaryd.judge.combined_verdict import verdict_of


@dataclass
class _ProgressTelemetry:
    """Telemetry that tells how much has been read. A query that is refused has no value, as live; an outage
    ends the reading, since what is read without its values would be another past."""

    telemetry: Telemetry
    progress: Callable[[int], None]
    failure: Unavailable | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        self.raise_failure()
        answers = self.telemetry.read(targets, start, end, step)
        self.progress((end - start) // step)
        return answers

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        try:
            return self.telemetry.measure(target, promql, start, end, step)
        except Rejected as error:
            self.problems.setdefault(promql, str(error))
        except Unavailable as error:
            self.failure = error
        return [None] * ((end - start) // step)

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues | None]:
        try:
            return self.telemetry.measure_each(target, promql, start, end, step)
        except Rejected as error:
            self.problems.setdefault(promql, str(error))
        except Unavailable as error:
            self.failure = error
        return [None] * ((end - start) // step)

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        return self.telemetry.sources(target, start, end)

    def presence(self, target: Target, start: int, end: int) -> Presence:
        return self.telemetry.presence(target, start, end)

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True)
class Reread:
    """transcript: every look, with the verdict had again; of several services the verdict of all. counted: by
    replica, up to `counted_to`.
    problems: why a query has no value."""

    transcript: Transcript
    counted: Mapping[str, Counts]
    counted_to: int | None
    problems: Mapping[str, str]


def reread(
    rollout: Rollout,
    telemetry: Telemetry,
    now: float,
    delay: float = 0.0,
    read: Callable[[int], None] = lambda looks: None,
) -> Reread:
    """Every look of the rollout up to now, judged again. now: Unix seconds; delay: seconds after a look until
    its samples are there.
    read: told how many looks were read since it was told last. Raises Unavailable, Rejected."""
    bare = replace(rollout, counted_to=None)
    asked, transcripts = _ProgressTelemetry(telemetry, read), [Transcript() for _ in bare.services]
    streams = [
        EvidenceStream(bare, service, asked, delay, partial(TranscribingJudge, transcript))
        for service, transcript in zip(bare.services, transcripts, strict=True)
    ]
    names, whole, last = names_of(bare), Transcript(), None
    for step in in_step([stream.next(bare, now) for stream in streams]):
        if step.failure is not None:
            raise step.failure
        looks = {name: look for name, look in zip(names, step.looks, strict=True) if look is not None}
        last = max(look.look.end for look in looks.values())
        if bare.is_bracket:
            both = _both([look.look for look in looks.values()])
            whole.steps.append(replace(transcripts[0].steps[-1], look=both))
            whole.verdicts.append(verdict_of({name: look.verdict for name, look in looks.items()}))
    asked.raise_failure()
    counted = {replica: counts for stream in streams for replica, counts in stream.counted.items()}
    return Reread(whole if bare.is_bracket else transcripts[0], counted, last, asked.problems)


def _both(looks: Sequence[Look]) -> Look:
    """The looks of several services as one, for what was counted in it."""
    stable: dict[str, Counts] = {}
    canary: dict[str, Counts] = {}
    for look in looks:
        stable.update(look.stable)
        canary.update(look.canary)
    return replace(looks[0], stable=stable, canary=canary, sampled=any(look.sampled for look in looks))


def looks_to_reread(rollout: Rollout, now: float) -> int:
    """About how many looks `reread` reads."""
    span = rollout.span
    until = now if span is None or span.end is None else span.end
    part = rollout.harm_check_interval or rollout.policy.analysis.interval
    looks = HISTORY_LOOKS + max(0, floor(until) - floor(rollout.began)) // part
    return len(rollout.keys) * looks
