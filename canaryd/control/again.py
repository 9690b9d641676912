"""A rollout on record read again from telemetry, by the walk of a live one: the same windows, the same judge, the same verdicts.

Nothing is written, and nothing is decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import floor

from canaryd.analysis.hearing import Hearing, Scribe
from canaryd.control.case import HISTORY_LOOKS, Case
from canaryd.domain.counts import Counts, Look, Source, Target
from canaryd.domain.ports import Presence, Rejected, Telemetry, Unavailable
from canaryd.domain.rollout import Rollout


@dataclass
class _Told:
    """Telemetry that tells how much has been read. A query that is refused has no value, as live; an outage ends the reading, since what
    is read without its values would be another past."""

    telemetry: Telemetry
    told: Callable[[int], None]
    failure: Unavailable | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def read(self, targets: Sequence[Target], start: int, end: int, step: int) -> Mapping[Target, Sequence[Look]]:
        self.raise_failure()
        answers = self.telemetry.read(targets, start, end, step)
        self.told((end - start) // step)
        return answers

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        try:
            return self.telemetry.measure(target, promql, start, end, step)
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
    """hearing: every look, with the verdict had again. counted: by replica, up to `counted_to`. problems: why a query has no value."""

    hearing: Hearing
    counted: Mapping[str, Counts]
    counted_to: int | None
    problems: Mapping[str, str]


def reread(
    rollout: Rollout, telemetry: Telemetry, now: float, delay: float = 0.0, read: Callable[[int], None] = lambda looks: None
) -> Reread:
    """Every look of the rollout up to now, judged again. now: Unix seconds; delay: seconds after a look until its samples are there.
    read: told how many looks were read since it was told last. Raises Unavailable, Rejected."""
    bare = replace(rollout, counted={}, counted_to=None)
    hearing, asked = Hearing(), _Told(telemetry, read)
    case = Case(bare, asked, delay, partial(Scribe, hearing))
    last = None
    for heard in case.next(bare, now):
        last = heard
    asked.raise_failure()
    return Reread(hearing, last.counted if last else {}, last.look.end if last else None, asked.problems)


def looks_to_reread(rollout: Rollout, now: float) -> int:
    """About how many looks `reread` reads."""
    span = rollout.span
    until = now if span is None or span.end is None else span.end
    return HISTORY_LOOKS + max(0, floor(until) - floor(rollout.began)) // rollout.policy.analysis.interval
