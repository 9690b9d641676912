"""The cases of a rollout's services in step: the same look of each, and one verdict of all.

All services of a bracket share the spans, and so the grid of looks. Where one of them could not be read, the
others' looks are not lost: a case hands out again what the record does not have.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from canaryd.control.evidence_stream import EvidenceStream, JudgedLook, JudgeOf
from canaryd.domain.ports import Clock, Rejected, Telemetry, Unavailable
from canaryd.domain.rollout import Rollout
from canaryd.domain.verdict import Answer
from canaryd.judge.combined_verdict import verdict_of
from canaryd.report.reporting_judge import reporting_judge_of

log = structlog.get_logger()

# seconds that one look may judge old looks for: the other rollouts wait meanwhile, and /livez does for 60 s
CATCH_UP = 10.0


@dataclass(frozen=True, slots=True)
class JudgedLookOfAll:
    """One look of every service. whole: the first one's, with the verdict of all. each: in the order of the
    rollout's parts; only those that could be read and found harm where others could not be (`failed`)."""

    whole: JudgedLook
    each: tuple[JudgedLook, ...]
    failed: bool = False


@dataclass
class EvidenceStreams:
    telemetry: Telemetry
    ingestion_delay: float
    clock: Clock
    judge_of: JudgeOf = reporting_judge_of
    cases: dict[tuple[str, str], tuple[EvidenceStream, ...]] = field(default_factory=dict)

    def of(self, rollout: Rollout) -> tuple[EvidenceStream, ...]:
        """Of each service. What one has to begin again, all do."""
        key, parts = (rollout.namespace, rollout.name), rollout.parts
        cases = self.cases.get(key, ())
        if len(cases) != len(parts) or not all(
            case.fits(part) for case, part in zip(cases, parts, strict=True)
        ):
            cases = self.cases[key] = tuple(
                EvidenceStream(part, self.telemetry, self.ingestion_delay, self.judge_of) for part in parts
            )
        return cases

    def forget(self, rollout: Rollout) -> None:
        self.cases.pop((rollout.namespace, rollout.name), None)

    def heard(
        self, cases: Sequence[EvidenceStream], rollout: Rollout, now: float
    ) -> Iterator[JudgedLookOfAll]:
        """The looks that are due, as many as a beat has time for: what a long rollout has gathered takes
        minutes to judge again. Raises Unavailable, Rejected, after the harm that was found in the looks that
        could be read."""
        began, services = self.clock.now(), names_of(rollout)
        for step in in_step([case.next(part, now) for case, part in zip(cases, rollout.parts, strict=True)]):
            if step.failure is not None:
                if harm := _harm(dict(zip(services, step.heard, strict=True)), rollout.counted_to or 0):
                    yield JudgedLookOfAll(_whole(harm), tuple(harm.values()), failed=True)
                raise step.failure
            each = [one for one in step.heard if one is not None]
            whole = _whole(dict(zip(services, each, strict=True))) if rollout.others else each[0]
            yield JudgedLookOfAll(whole, tuple(each))
            if not whole.latest and self.clock.now() - began > CATCH_UP:
                log.info(
                    "rollout.catches_up",
                    service=rollout.service,
                    namespace=rollout.namespace,
                    rollout=rollout.name,
                    seconds_left=round(now - whole.look.end),
                )
                return


@dataclass(frozen=True, slots=True)
class SameLook:
    """The same look of each walk, or why one of them ended; None: of a walk that did."""

    heard: Sequence[JudgedLook | None]
    failure: Unavailable | Rejected | None = None


def in_step(walks: Sequence[Iterator[JudgedLook]]) -> Iterator[SameLook]:
    """The looks of several walks over one grid, until one of them has no more. A walk that is behind, since
    it could not be read before, catches up: the others' looks of that time are on record."""
    heads: list[JudgedLook | None] = [None] * len(walks)
    while True:
        failure, is_over = None, False
        for place, walk in enumerate(walks):
            if heads[place] is None:
                try:
                    heads[place] = next(walk)
                except StopIteration:
                    is_over = True
                except (Unavailable, Rejected) as error:
                    failure = failure or error
        if failure is not None:
            yield SameLook(heads, failure)
        if failure is not None or is_over:
            return
        ends = [head.look.end for head in heads if head is not None]
        if min(ends) == max(ends):
            yield SameLook(heads)
            heads = [None] * len(walks)
        else:
            heads = [head if head is not None and head.look.end == max(ends) else None for head in heads]


def _whole(each: Mapping[str, JudgedLook]) -> JudgedLook:
    """The first one's look, with the verdict of all."""
    heard = each.values()
    verdict = verdict_of({name: one.verdict for name, one in each.items()})
    return replace(
        next(iter(heard)),
        verdict=verdict,
        had_data=all(one.had_data for one in heard),
        latest=all(one.latest for one in heard),
    )


def _harm(each: Mapping[str, JudgedLook | None], known: int) -> dict[str, JudgedLook]:
    """What does not wait for the services that could not be read. known: looks up to there were decided
    on."""
    return {
        name: one
        for name, one in each.items()
        if one is not None
        and one.compared
        and one.look.end > known
        and one.verdict.answer in (Answer.FAIL, Answer.ALARM)
    }


def names_of(rollout: Rollout) -> list[str]:
    """Of its services, each with its namespace where two have one name."""
    parts = rollout.parts
    alike = len({part.service for part in parts}) < len(parts)
    return [f"{part.namespace}/{part.service}" if alike else part.service for part in parts]
