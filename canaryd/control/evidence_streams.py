"""The evidence streams of a rollout's services in step: the same look of each, and one verdict of all.

All services of a bracket share the spans, and so the grid of looks. Where one of them could not be read, the
others' looks are not lost: a stream hands out again what the record does not have.
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
    """One look of every service. whole: the first one's, with the verdict of all. looks: in the order of the
    rollout's services; only those that could be read and found harm where others could not be (`failed`)."""

    whole: JudgedLook
    looks: tuple[JudgedLook, ...]
    failed: bool = False


@dataclass
class EvidenceStreams:
    """The evidence streams of all rollouts under way, made anew where a record no longer fits.

    ingestion_delay: seconds after a look's end until its samples can be read.
    """

    telemetry: Telemetry
    ingestion_delay: float
    clock: Clock
    judge_of: JudgeOf = reporting_judge_of
    # by the rollout's namespace and name, one stream for each of its services
    streams: dict[tuple[str, str], tuple[EvidenceStream, ...]] = field(default_factory=dict)

    def of(self, rollout: Rollout) -> tuple[EvidenceStream, ...]:
        """The stream of each service. What one has to begin again, all do."""
        key = rollout.namespace, rollout.name
        streams = self.streams.get(key, ())
        if len(streams) != len(rollout.services) or not all(stream.fits(rollout) for stream in streams):
            streams = self.streams[key] = tuple(
                EvidenceStream(rollout, service, self.telemetry, self.ingestion_delay, self.judge_of)
                for service in rollout.services
            )
        return streams

    def forget(self, rollout: Rollout) -> None:
        """Drops what was read of a rollout."""
        self.streams.pop((rollout.namespace, rollout.name), None)

    def judged(
        self, streams: Sequence[EvidenceStream], rollout: Rollout, now: float
    ) -> Iterator[JudgedLookOfAll]:
        """The looks that are due, as many as a beat has time for: what a long rollout has gathered takes
        minutes to judge again. Raises Unavailable, Rejected, after the harm that was found in the looks that
        could be read."""
        began, services = self.clock.now(), names_of(rollout)
        for step in in_step([stream.next(rollout, now) for stream in streams]):
            if step.failure is not None or step.is_alone:
                if harm := _harm(dict(zip(services, step.looks, strict=True)), rollout.counted_to or 0):
                    yield JudgedLookOfAll(_whole(harm), tuple(harm.values()), failed=True)
                if step.failure is not None:
                    raise step.failure
                return
            looks = [look for look in step.looks if look is not None]
            whole = _whole(dict(zip(services, looks, strict=True))) if rollout.is_bracket else looks[0]
            yield JudgedLookOfAll(whole, tuple(looks))
            if not whole.latest and self.clock.now() - began > CATCH_UP:
                log.info(
                    "rollout.catches_up",
                    service=rollout.entrance.name,
                    namespace=rollout.namespace,
                    rollout=rollout.name,
                    seconds_left=round(now - whole.look.end),
                )
                return


@dataclass(frozen=True, slots=True)
class SameLook:
    """The same look of each walk, or why one of them ended; None: of a walk that did. is_alone: plain harm
    has ended the look of some, and no look of the others ends with it."""

    looks: Sequence[JudgedLook | None]
    failure: Unavailable | Rejected | None = None
    is_alone: bool = False


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
            return
        ends = [head.look.end for head in heads if head is not None]
        if (is_over or min(ends) < max(ends)) and any(map(_is_harm, heads)):
            yield SameLook(heads, is_alone=True)
            return
        if is_over:
            return
        if min(ends) == max(ends):
            yield SameLook(heads)
            heads = [None] * len(walks)
        else:
            heads = [head if head is not None and head.look.end == max(ends) else None for head in heads]


def _whole(looks_by_service: Mapping[str, JudgedLook]) -> JudgedLook:
    """The first one's look, with the verdict of all. looks_by_service: by the service's name as sentences
    have it."""
    looks = [*looks_by_service.values()]
    return replace(
        looks[0],
        verdict=verdict_of({name: look.verdict for name, look in looks_by_service.items()}),
        had_data=all(look.had_data for look in looks),
        latest=all(look.latest for look in looks),
    )


def _harm(looks_by_service: Mapping[str, JudgedLook | None], known: int) -> dict[str, JudgedLook]:
    """What does not wait for the services that could not be read. known: looks up to there were decided
    on."""
    return {
        name: look
        for name, look in looks_by_service.items()
        if look is not None and _is_harm(look) and look.look.end > known
    }


def _is_harm(look: JudgedLook | None) -> bool:
    return look is not None and look.compared and look.verdict.answer in (Answer.FAIL, Answer.ALARM)


def names_of(rollout: Rollout) -> list[str]:
    """The name of each of a rollout's services, with its namespace where two have one name."""
    services = rollout.services
    alike = len(set(rollout.service_names)) < len(services)
    return ["/".join(service.key) if alike else service.name for service in services]
