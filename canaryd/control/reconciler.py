"""One look of one rollout: wishes, workloads, telemetry -> signals; advance, save, apply.

The contract: the record is saved before anything is done, so a crash at any line below goes on from the
record; what is done is idempotent, so doing it twice is harmless. A pair (phase, signal) that has no meaning
is never sent: `take` asks the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NoReturn

import structlog

from canaryd.control import gate_check, readiness, route_sync
from canaryd.control.evidence_stream import EvidenceStream, JudgedLook, JudgeOf
from canaryd.control.rollout_state import LookContext, each, thin
from canaryd.control.route_sync import LIVE, STEERED
from canaryd.control.signal_guard import because, take
from canaryd.control.synchronized_streams import EvidenceStreams, JudgedLookOfAll
from canaryd.domain import gates as gate_rules
from canaryd.domain import lifecycle, signals
from canaryd.domain.lifecycle import Detail, Signal
from canaryd.domain.ports import (
    Clock,
    Conflict,
    Gates,
    Rejected,
    Rollouts,
    RouteView,
    Telemetry,
    TooNew,
    Traffic,
    Unavailable,
)
from canaryd.domain.rollout import Held, Phase, Record, Rollout, RouteLists
from canaryd.domain.verdict import Verdict
from canaryd.report import off_weight_callers
from canaryd.report.reporting_judge import reporting_judge_of
from canaryd.routing import route_lists

log = structlog.get_logger()

# seconds until the proxies follow a route; 0.11 s measured on one machine, more in a large mesh
MESH_DELAY = 1
URGENT = (Signal.HARM, Signal.ALARM)  # what is acted on while later looks wait to be read


@dataclass
class Reconciler:
    telemetry: Telemetry
    traffic: Traffic
    rollouts: Rollouts
    gates: Gates
    ingestion_delay: float
    scrape_interval: float
    clock: Clock  # for when a route was written; everything else goes by the look's `now`
    judge_of: JudgeOf = reporting_judge_of
    evidence: EvidenceStreams = field(init=False)
    # from when silence counts: this process was there, and up to date
    since: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.evidence = EvidenceStreams(self.telemetry, self.ingestion_delay, self.clock, self.judge_of)

    # ------------------------------------------------------------ one look

    def look(self, record: Record, world: LookContext, now: float, telemetry_is_up: bool = True) -> Record:
        """Takes a rollout one look further. Raises Conflict (someone wrote in between: look again),
        Unavailable, Rejected.

        telemetry_is_up: False skips reading, since another rollout has just waited for it in vain; the look
        is then one without data.
        """
        self.since.setdefault(_key(record.rollout), now)
        reason = route_sync.unread(record.rollout.reason, "")
        rollout = self._wishes(record.having(replace(record.rollout, reason=reason)), world, now)
        rollout = readiness.workloads(rollout, world, now, self.traffic)
        rollout = readiness.drift(rollout, world, now)
        rollout = self._gate(rollout, world, now)
        for place, (part, seen) in enumerate(each(rollout, world)):
            if seen.view is not None and not rollout.phase.ended:
                rollout = rollout.with_part(place, replace(part, unsteered=route_lists.unsteered(seen.view)))
        if rollout.phase in LIVE:
            try:
                if not telemetry_is_up:
                    raise Unavailable("telemetry did not answer another rollout in this beat")
                rollout = self._evidence(rollout, world, now)
            except (Unavailable, Rejected) as error:
                world.outage, world.silent = str(error), isinstance(error, Unavailable)
                rollout = self._without_data(rollout, world, now, world.outage)
        return self._apply(self._saved(record, _unread(rollout, world)), world)

    def forget(self, record: Record) -> None:
        self.evidence.forget(record.rollout)
        self.since.pop(_key(record.rollout), None)

    # ------------------------------------------------------------ what people wish

    def _wishes(self, record: Record, world: LookContext, now: float) -> Rollout:
        rollout, wishes = record.rollout, record.wishes
        if wishes.abort:
            rollout = take(rollout, Signal.ABORT, now, Detail("aborted by a person"))
        if world.newer:
            reason = f"{world.newer} came while {rollout.spoken.canary} was being rolled out"
            rollout = take(rollout, Signal.NEWER, now, Detail(reason), world)
        if reason := signals.overdue(rollout, now):
            rollout = take(rollout, Signal.OVERDUE, now, Detail(reason), world)
        if wishes.approved_stage > rollout.approved:
            rollout = take(
                rollout,
                Signal.APPROVE,
                now,
                Detail("approved by a person", stage=wishes.approved_stage),
                world,
            )
        if (
            wishes.promote
            and not rollout.promoted
            and not any(route_sync.is_unnoted(part, seen.view) for part, seen in each(rollout, world))
        ):
            rollout = take(rollout, Signal.PROMOTE, now, Detail("promoted by a person"), world)
        if gate := gate_rules.opened_by(wishes, rollout):
            rollout = take(
                rollout, Signal.GATE_OPEN, now, Detail(f"the gate {gate} was opened by a person"), world
            )
        if wishes.hold and rollout.held is not Held.PERSON:
            rollout = take(rollout, Signal.HOLD, now, Detail("held by a person"))
        is_let_go = rollout.held is Held.PERSON and not wishes.hold
        if rollout.phase is Phase.HELD and (
            is_let_go or (wishes.resumed > rollout.resumed and not wishes.hold)
        ):
            rollout = self._resumed(record, rollout, world, now)
        if wishes.resumed > rollout.resumed and rollout.phase is not Phase.HELD:
            # said when nothing was held: not to be kept for the next hold
            rollout = replace(rollout, resumed=wishes.resumed)
        return rollout

    def _resumed(self, record: Record, rollout: Rollout, world: LookContext, now: float) -> Rollout:
        """After a drift, with the routes that are there now to steer from."""
        if rollout.held is Held.DRIFT and any(seen.is_route_unread for _, seen in each(rollout, world)):
            return rollout  # the wish stands until it can be obeyed
        found, origins = (
            [seen.view.lists if seen.view is not None else None for _, seen in each(rollout, world)],
            {},
        )
        for place, (part, lists) in enumerate(
            zip(rollout.parts, found, strict=True) if rollout.held is Held.DRIFT else ()
        ):
            if lists is not None:
                try:
                    origins[place] = route_lists.adopted(lists, part.origin, part.canary_subset)
                except route_lists.Refusal as error:
                    return because(rollout, f"cannot be resumed: {_of(rollout, part)}{error}")
                if place:
                    rollout = rollout.with_part(place, replace(part, confirmed=lists, origin=origins[place]))
        detail = Detail(
            "resumed by a person", lists=found[0], origin=origins.get(0), resumed=record.wishes.resumed
        )
        return take(rollout, Signal.RESUME, now, detail)

    # ------------------------------------------------------------ what gates say

    def _gate(self, rollout: Rollout, world: LookContext, now: float) -> Rollout:
        """Before the looks, which decide whether a rollout whose gate has opened still goes on."""
        rollout, signal, reason = gate_check.look(rollout, self.gates, now, world.paused or world.drifted)
        if signal is None:
            return because(rollout, reason)
        return take(rollout, signal, now, Detail(reason), world)

    # ------------------------------------------------------------ what telemetry says

    def _evidence(self, rollout: Rollout, world: LookContext, now: float) -> Rollout:
        # looks up to here were decided on; heard again after a restart, they only inform the judge
        known = rollout.counted_to or 0
        cases = self.evidence.of(rollout)
        for found in self.evidence.heard(cases, rollout, now):
            heard = found.whole
            if heard.compared:
                _log_look(rollout, heard.verdict)
            if heard.look.end <= known:
                continue
            stage, weight, was_off = (
                rollout.stage,
                rollout.weight,
                rollout.verdict is not None and rollout.verdict.off_weight,
            )
            if not found.failed:
                if heard.compared and heard.latest and (why := _absence(cases, rollout, found, now)):
                    heard = replace(heard, verdict=replace(heard.verdict, reason=why))
                rollout = _kept(rollout, heard, found)
                if not heard.compared:
                    continue
                if heard.latest:
                    rollout = self._senders(rollout, cases, now, found)
                rollout = self._data(rollout, world, now, heard, was_off)
            signal = lifecycle.stage_signal(rollout, heard.verdict, now)
            # To advance, or to give up at a deadline, is for the latest look: those that wait may show harm.
            if signal is not None and (heard.latest or signal in URGENT):
                rollout = take(
                    rollout, signal, now, self._detail(rollout, signal, heard.verdict, world), world
                )
            if rollout.phase not in LIVE or (rollout.stage, rollout.weight) != (stage, weight):
                break  # what was served since then was served at a weight in change
        if any(case.is_behind(part, now) for case, part in zip(cases, rollout.parts, strict=True)):
            self.since[_key(rollout)] = now
        elif rollout.last_data is not None and now - rollout.last_data > signals.silence_is_late(
            rollout, self.ingestion_delay
        ):
            return self._without_data(rollout, world, now, "no samples")
        return rollout

    def _senders(
        self, rollout: Rollout, cases: Sequence[EvidenceStream], now: float, found: JudgedLookOfAll
    ) -> Rollout:
        """Whose requests do not follow the weight, while the traffic as a whole does not: in the record, for
        people."""
        for place, (part, case, heard) in enumerate(zip(rollout.parts, cases, found.each, strict=True)):
            told = ""
            if heard.verdict.off_weight:
                sources = case.sources(part, now)
                if sources is None:
                    continue
                told = off_weight_callers.told(
                    sources,
                    rollout.policy.stages[rollout.stage].promised,
                    part.canary,
                    part.service,
                    part.unsteered,
                )
            else:
                case.follows()
            if told != part.senders:
                rollout = rollout.with_part(place, replace(part, senders=told))
        return rollout

    def _data(
        self, rollout: Rollout, world: LookContext, now: float, heard: JudgedLook, was_off: bool
    ) -> Rollout:
        if heard.had_data:
            # What was counted before an outage and is read after it does not say that the outage is over.
            is_recent = now - heard.look.end <= signals.silence_is_late(rollout, self.ingestion_delay)
            waits = is_recent and signals.waits_for_data(rollout)
            why = "the traffic follows the weight again" if was_off else "telemetry is back"
            return take(rollout, Signal.DATA, now, Detail(why)) if waits else rollout
        why = heard.verdict.reason
        if heard.verdict.off_weight:
            why = "; ".join((why, *(part.senders for part in rollout.parts if part.senders)))
        return self._without_data(rollout, world, now, why) if heard.latest else rollout

    def _without_data(self, rollout: Rollout, world: LookContext, now: float, why: str) -> Rollout:
        watched = now - self.since[_key(rollout)]
        for signal, detail in signals.silence(rollout, now, self.ingestion_delay, why, watched):
            rollout = take(rollout, signal, now, detail, world)
        return rollout

    def _detail(self, rollout: Rollout, signal: Signal, verdict: Verdict, world: LookContext) -> Detail:
        reason = signals.reason_of(rollout, signal, verdict)
        if signal in (Signal.PASS, Signal.LET_PASS):
            reason = thin(reason, rollout, world, rollout.stage + 1)
        return Detail(reason, verdict)

    # ------------------------------------------------------------ doing

    def _apply(self, record: Record, world: LookContext) -> Record:
        """Makes the routes what the record wants, and notes them as confirmed."""
        rollout = record.rollout
        if rollout.phase.ended or (rollout.stage < 0 and rollout.phase in (Phase.WAITING, *LIVE)):
            return record
        is_stopped = any(
            seen.is_route_unread for _, seen in each(rollout, world)
        ) and not route_sync.is_taken_away(rollout)
        if rollout.phase in LIVE and is_stopped:
            return record
        steers = rollout.policy.mode == "steer" and bool(rollout.origin)
        if not steers or (world.drifted and rollout.phase in LIVE):
            return self._open(record, [route_sync.left(part) for part in rollout.parts])
        for place in range(len(rollout.parts)):
            record = self._subset(record, world, place)
        lists = self._written(record, world)
        troubles = [
            f"{_of(record.rollout, part)}{seen.view.trouble}"
            for part, seen in each(record.rollout, world)
            if seen.view is not None and seen.view.trouble
        ]
        return self._open(record, lists, "; ".join(troubles))

    def _written(self, record: Record, world: LookContext) -> Sequence[RouteLists]:
        """The lists that are due, of each service, as they stand in its route now.

        See `steering.order`. What is given waits for each before it; what is taken away does not, for no
        service has to stay with a version that was given up because another one's route cannot be written.
        """
        rollout = record.rollout
        each_part = list(each(rollout, world))
        is_taken = route_sync.is_taken_away(rollout)
        lists: dict[int, RouteLists] = {}
        failures: list[tuple[Rollout, CannotWrite | Conflict | Unavailable]] = []
        for place in route_sync.order(rollout):
            part, seen = each_part[place]
            try:
                lists[place] = self._route_written(part, seen)
            except (CannotWrite, Conflict, Unavailable) as error:
                failures.append((part, error))
                if not is_taken:
                    break
        for part, failure in failures:
            if not isinstance(failure, CannotWrite):
                raise failure
            for place, confirmed in lists.items() if rollout.others else ():
                rollout = rollout.with_part(place, replace(rollout.parts[place], confirmed=confirmed))
            self._cannot(record.having(rollout), part, str(failure))
        return [lists[place] for place in range(len(lists))]

    def _route_written(self, part: Rollout, seen: LookContext) -> RouteLists:
        """The lists that are due to one route, as they stand there now. Raises CannotWrite, Conflict,
        Unavailable."""
        if seen.is_route_unread:
            raise CannotWrite(f"it cannot be read: {seen.unreadable} (it is tried again at every beat)")
        if seen.view is None:
            raise CannotWrite(f"{seen.problem}: put it back, or delete this record to give the rollout up")
        try:
            lists = route_sync.due(part, seen.view)
            if seen.view.displaced or not route_lists.same(seen.view.lists, lists):
                seen.view = route_sync.write(self.traffic, part, seen.view, lists)
                log.info(
                    "route.written",
                    service=part.service,
                    namespace=part.namespace,
                    rollout=part.name,
                    weight=part.weight,
                    phase=part.phase.value,
                )
        except Conflict:
            raise
        except (Rejected, route_lists.Refusal) as error:
            raise CannotWrite(f"{error} (it is tried again at every beat)") from error
        return lists

    def _subset(self, record: Record, world: LookContext, place: int) -> Record:
        """The canary's subset (or Service), and what matched users are split by, put back where someone took
        it out (a tool that keeps the DestinationRule as its repository has it): requests sent to what is not
        there fail, and no replica counts them."""
        rollout, (part, seen) = record.rollout, list(each(record.rollout, world))[place]
        if seen.view is None or part.phase not in STEERED or part.stage < 0:
            return record
        try:
            restored, why = self._upheld(part, seen.view)
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            restored, why = (), f"what matched users are split by is gone: {error}"
        for name in restored:
            log.warning(
                "subset.restored",
                service=part.service,
                namespace=part.namespace,
                rollout=part.name,
                subset=name,
            )
        return (
            self._saved(record, take(rollout, Signal.NOT_READY, self.clock.now(), Detail(why), world))
            if why
            else record
        )

    def _upheld(self, part: Rollout, view: RouteView) -> tuple[Sequence[str], str]:
        """What was put back, and why the canary's subset cannot be."""
        if view.subsets.get(part.canary_subset) == part.canary:
            return self.traffic.uphold(part.policy, view, part.canary), ""
        try:
            name = self.traffic.add_subset(part.policy, part.canary)
            why = "" if name == part.canary_subset else f"there is {name} instead"
        except TooNew:
            return (part.canary_subset,), ""  # requests are on their way there already
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            why = str(error)
        kind = "Service" if part.policy.route.http_route else "subset"
        return (
            ((part.canary_subset,), "")
            if not why
            else ((), f"the {kind} {part.canary_subset} of {part.canary} is gone: {why}")
        )

    def _cannot(self, record: Record, part: Rollout, why: str) -> NoReturn:
        """The route cannot be made what it should be, which stands in the record and not in the log alone.
        Raises Rejected."""
        reason = route_sync.troubled(part, f"{_of(record.rollout, part)}{why}")
        self._saved(record, replace(record.rollout, reason=reason))
        raise Rejected(f"{part.name}: {reason}")

    def _open(self, record: Record, lists: Sequence[RouteLists], trouble: str = "") -> Record:
        """Looks begin, or the end is reached: the routes are as wanted, or someone else's, whose users
        deserve to be watched over too.

        trouble: why what is wanted is not in force although it is written, for the record."""
        rollout, parts = record.rollout, record.rollout.parts
        is_looking = rollout.span is not None and rollout.span.end is None
        confirmed = [part.confirmed for part in parts]
        is_known = all(
            before is not None and route_lists.same(before, now)
            for before, now in zip(confirmed, lists, strict=True)
        )
        reason = route_sync.troubled(parts[0], trouble) if trouble else route_sync.untroubled(rollout)
        if rollout.phase in LIVE and is_looking and is_known and reason == rollout.reason:
            return record
        for place in range(1, len(parts)):
            rollout = rollout.with_part(place, replace(parts[place], confirmed=lists[place]))
        now = self.clock.now()  # not the look's: its reading, or the write, may have taken long
        detail = Detail(reason, lists=lists[0], start=self._grid(now))
        return self._saved(record, take(replace(rollout, reason=reason), Signal.ROUTED, now, detail))

    def _saved(self, record: Record, after: Rollout) -> Record:
        if after == record.rollout:
            return record
        before, record = record.rollout, self.rollouts.save(record.having(after))
        _tell(before, after)
        return record

    def _grid(self, now: float) -> int:
        """The first whole second from which all that is scraped was served at the new weight."""
        return ceil(now + self.scrape_interval + MESH_DELAY)


class CannotWrite(Exception):
    """Why a route cannot be made what it should be."""


def _key(rollout: Rollout) -> tuple[str, str]:
    return rollout.namespace, rollout.name


def _of(rollout: Rollout, part: Rollout) -> str:
    """Whose it is, where there are several."""
    return f"{part.service}: " if rollout.others else ""


def _unread(rollout: Rollout, world: LookContext) -> Rollout:
    """With what could not be read of its services, since nothing advances then."""
    advances = rollout.phase in (Phase.WAITING, *LIVE)
    why = "; ".join(
        f"{_of(rollout, part)}{seen.unreadable}"
        for part, seen in each(rollout, world)
        if seen.unreadable and advances
    )
    return replace(rollout, reason=route_sync.unread(rollout.reason, why))


def _kept(rollout: Rollout, heard: JudgedLook, found: JudgedLookOfAll) -> Rollout:
    """With what was heard; of several services, with what was heard of each."""
    rollout = lifecycle.heard(rollout, heard.verdict, heard.counted, heard.look.end, heard.had_data)
    for place, (part, one) in enumerate(
        zip(rollout.parts, found.each, strict=True) if rollout.others else ()
    ):
        rollout = rollout.with_part(place, replace(part, verdict=one.verdict, counted=one.counted))
    return rollout


def _absence(cases: Sequence[EvidenceStream], rollout: Rollout, found: JudgedLookOfAll, now: float) -> str:
    """Why nothing was counted in a look; "" where something was, or where that is not known."""
    absent = (
        (part, case.absence(part, now))
        for part, case, heard in zip(rollout.parts, cases, found.each, strict=True)
        if not heard.look.sampled
    )
    return "; ".join(f"{_of(rollout, part)}{why}" for part, why in absent if why)


def _log_look(rollout: Rollout, verdict: Verdict) -> None:
    log.debug(
        "look.judged",
        service=rollout.service,
        namespace=rollout.namespace,
        rollout=rollout.name,
        at=verdict.at,
        answer=verdict.answer.value,
        odds=verdict.odds,
        stage=verdict.stage,
        looks=verdict.looks,
        reason=verdict.reason,
    )


def _tell(before: Rollout, after: Rollout) -> None:
    """Log lines for what changed, one fact each."""
    for news in after.announcements[len(before.announcements) :]:
        log.info(
            f"rollout.{news.event}",
            service=after.service,
            namespace=after.namespace,
            rollout=after.name,
            stable=after.spoken.stable,
            canary=after.spoken.canary,
            stage=after.stage,
            weight=after.weight,
            reason=news.reason,
        )
    if after.phase is not before.phase and len(after.announcements) == len(before.announcements):
        log.info(
            "rollout.moved",
            service=after.service,
            namespace=after.namespace,
            rollout=after.name,
            phase=after.phase.value,
            stage=after.stage,
            weight=after.weight,
            reason=after.reason,
        )
