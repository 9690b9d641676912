"""One look of one rollout: wishes, workloads, telemetry -> signals; advance, save, apply.

The contract: the record is saved before anything is done, so a crash at any line below goes on from the
record; what is done is idempotent, so doing it twice is harmless. A pair (phase, signal) that has no meaning
is never sent: `apply_signal` asks the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, inf
from typing import NoReturn

import structlog

from canaryd.control import gate_check, readiness, route_sync
from canaryd.control.evidence_stream import EvidenceStream, JudgedLook, JudgeOf
from canaryd.control.evidence_streams import EvidenceStreams, JudgedLookOfAll
from canaryd.control.look_context import LookContext, with_load_warnings
from canaryd.control.observation import Observation
from canaryd.control.route_sync import LIVE, STEERED
from canaryd.control.signal_guard import apply_signal, with_reason
from canaryd.domain import gates as gate_rules
from canaryd.domain import lifecycle, signals
from canaryd.domain.counts import seconds_of_parts
from canaryd.domain.lifecycle import Detail, Signal
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
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
from canaryd.domain.rollout import Held, Phase, Record, Rollout, RouteLists, ServiceRollout
from canaryd.domain.verdict import Verdict
from canaryd.report import off_weight_callers
from canaryd.report.reporting_judge import reporting_judge_of
from canaryd.routing import route_lists

log = structlog.get_logger()

# seconds until the proxies follow a route; 0.11 s measured on one machine, more in a large mesh
MESH_DELAY = 1
# the verb by which a person gives each signal
VERBS = {
    Signal.HOLD: "hold",
    Signal.RESUME: "resume",
    Signal.APPROVE: "approve",
    Signal.GATE_OPEN: "openGate",
    Signal.PROMOTE: "promote",
    Signal.ABORT: "abort",
}
URGENT = (Signal.HARM, Signal.ALARM)  # what is acted on while later looks wait to be read


@dataclass
class Reconciler:
    """Takes rollouts one look further, and makes their routes what the records want.

    ingestion_delay: seconds after a look's end until its samples can be read; scrape_interval: seconds.
    shortest_part: seconds between two looks for plain harm at least, however often is scraped.
    """

    telemetry: Telemetry
    traffic: Traffic
    rollouts: Rollouts
    gates: Gates
    ingestion_delay: float
    scrape_interval: float
    clock: Clock  # for when a route was written; everything else goes by the look's `now`
    judge_of: JudgeOf = reporting_judge_of
    shortest_part: float = 5.0
    evidence: EvidenceStreams = field(init=False)
    # from when silence counts: this process was there, and up to date
    since: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.evidence = EvidenceStreams(self.telemetry, self.ingestion_delay, self.clock, self.judge_of)

    # ------------------------------------------------------------ one look

    def look(self, record: Record, context: LookContext, now: float, telemetry_is_up: bool = True) -> Record:
        """Takes a rollout one look further. Raises Conflict (someone wrote in between: look again),
        Unavailable, Rejected.

        telemetry_is_up: False skips reading, since another rollout has just waited for it in vain; the look
        is then one without data.
        """
        self.since.setdefault(_key(record.rollout), now)
        rollout = replace(record.rollout, reason=route_sync.unread(record.rollout.reason, ""))
        if not rollout.spans:  # later it would be another walk than the one its looks were judged by
            interval = rollout.policy.analysis.interval
            part = seconds_of_parts(interval, max(self.scrape_interval, self.shortest_part))
            rollout = replace(rollout, harm_check_interval=part)
        rollout = self._wishes(record.with_rollout(rollout), context, now)
        rollout = readiness.workloads(rollout, context, now, self.traffic)
        rollout = readiness.drift(rollout, context, now)
        rollout = self._gate(rollout, context, now)
        for service, observation in context.each(rollout):
            if observation.view is not None and not rollout.phase.ended:
                why = route_lists.unsteered(observation.view)
                rollout = rollout.with_service(service.with_route(unrouted_reason=why))
        if rollout.phase in LIVE:
            try:
                if not telemetry_is_up:
                    raise Unavailable("telemetry did not answer another rollout in this beat")
                rollout = self._evidence(rollout, context, now)
            except (Unavailable, Rejected) as error:
                context.outage, context.silent = str(error), isinstance(error, Unavailable)
                rollout = self._without_data(rollout, context, now, context.outage)
        return self._apply(self._saved(record, _unread(rollout, context)), context)

    def forget(self, record: Record) -> None:
        """Drops what is kept in memory of a rollout that has ended, or whose record was deleted."""
        self.evidence.forget(record.rollout)
        self.since.pop(_key(record.rollout), None)

    # ------------------------------------------------------------ what people wish

    def _wishes(self, record: Record, context: LookContext, now: float) -> Rollout:
        rollout, wishes, asked = record.rollout, record.wishes, partial(_asked_by, record)
        if wishes.abort:
            rollout = apply_signal(rollout, Signal.ABORT, now, Detail(asked(Signal.ABORT, "aborted")))
        if context.newer:
            reason = f"{context.newer} came while {rollout.for_display.canary} was being rolled out"
            rollout = apply_signal(rollout, Signal.NEWER, now, Detail(reason), context)
        if reason := signals.overdue(rollout, now):
            rollout = apply_signal(rollout, Signal.OVERDUE, now, Detail(reason), context)
        if wishes.approved_stage > rollout.approved:
            rollout = apply_signal(
                rollout,
                Signal.APPROVE,
                now,
                Detail(asked(Signal.APPROVE, "approved"), stage=wishes.approved_stage),
                context,
            )
        if (
            wishes.promote
            and not rollout.promoted
            and not any(
                route_sync.is_unnoted(rollout, service, observation.view)
                for service, observation in context.each(rollout)
            )
        ):
            rollout = apply_signal(
                rollout,
                Signal.PROMOTE,
                now,
                Detail(asked(Signal.PROMOTE, "promoted")),
                context,
            )
        if gate := gate_rules.opened_by(wishes, rollout):
            rollout = apply_signal(
                rollout,
                Signal.GATE_OPEN,
                now,
                Detail(asked(Signal.GATE_OPEN, f"the gate {gate} was opened")),
                context,
            )
        if wishes.hold and rollout.held is not Held.PERSON:
            rollout = apply_signal(rollout, Signal.HOLD, now, Detail(asked(Signal.HOLD, "held")))
        is_let_go = rollout.held is Held.PERSON and not wishes.hold
        if rollout.phase is Phase.HELD and (
            is_let_go or (wishes.resumed > rollout.resumed and not wishes.hold)
        ):
            rollout = self._resumed(record, rollout, context, now)
        if wishes.resumed > rollout.resumed and rollout.phase is not Phase.HELD:
            # said when nothing was held: not to be kept for the next hold
            rollout = replace(rollout, resumed=wishes.resumed)
        return rollout

    def _resumed(self, record: Record, rollout: Rollout, context: LookContext, now: float) -> Rollout:
        """After a drift, with the routes that are there now to steer from."""
        services = rollout.services
        if rollout.held is Held.DRIFT:
            if any(observation.is_route_unread for observation in context.services):
                return rollout  # the wish stands until it can be obeyed
            try:
                services = tuple(_adopted(rollout, *both) for both in context.each(rollout))
            except route_lists.Refusal as error:
                return with_reason(rollout, f"cannot be resumed: {error}")
        reason = _asked_by(record, Signal.RESUME, "resumed")
        detail = Detail(reason, services=services, resumed=record.wishes.resumed)
        return apply_signal(rollout, Signal.RESUME, now, detail)

    # ------------------------------------------------------------ what gates say

    def _gate(self, rollout: Rollout, context: LookContext, now: float) -> Rollout:
        """Before the looks, which decide whether a rollout whose gate has opened still goes on."""
        rollout, signal, reason = gate_check.check(
            rollout, self.gates, now, context.paused or context.drifted
        )
        if signal is None:
            return with_reason(rollout, reason)
        return apply_signal(rollout, signal, now, Detail(reason), context)

    # ------------------------------------------------------------ what telemetry says

    def _evidence(self, rollout: Rollout, context: LookContext, now: float) -> Rollout:
        # looks up to here were decided on; judged again after a restart, they only inform the judge
        known = rollout.counted_to or 0
        streams = self.evidence.of(rollout)
        for found in self.evidence.judged(streams, rollout, now):
            judged = found.whole
            if judged.compared:
                _log_look(rollout, judged.verdict)
            if judged.look.end <= known:
                continue
            stage, weight, was_off = (
                rollout.stage,
                rollout.weight,
                rollout.verdict is not None and rollout.verdict.off_weight,
            )
            if not found.failed:
                if judged.compared and judged.latest and (why := _absence(streams, rollout, found, now)):
                    judged = replace(judged, verdict=replace(judged.verdict, reason=why))
                rollout = lifecycle.judged(
                    rollout,
                    judged.verdict,
                    [(look.verdict, look.counted) for look in found.looks],
                    judged.look.end,
                    judged.had_data,
                )
                if not judged.compared:
                    continue
                if judged.latest:
                    rollout = self._off_weight_callers(rollout, streams, now, found)
                rollout = self._data(rollout, context, now, judged, was_off)
            signal = lifecycle.stage_signal(rollout, judged.verdict, now)
            # To advance, or to give up at a deadline, is for the latest look: those that wait may show harm.
            if signal is not None and (judged.latest or signal in URGENT):
                rollout = apply_signal(
                    rollout, signal, now, self._detail(rollout, signal, judged.verdict, context), context
                )
            if rollout.phase not in LIVE or (rollout.stage, rollout.weight) != (stage, weight):
                break  # what was served since then was served at a weight in change
        if any(stream.is_behind(rollout, now) for stream in streams):
            self.since[_key(rollout)] = now
        elif rollout.last_data is not None and now - rollout.last_data > signals.silence_is_late(
            rollout, self.ingestion_delay
        ):
            return self._without_data(rollout, context, now, "no samples")
        return rollout

    def _off_weight_callers(
        self, rollout: Rollout, streams: Sequence[EvidenceStream], now: float, found: JudgedLookOfAll
    ) -> Rollout:
        """Whose requests do not follow the weight, while the traffic as a whole does not: in the record, for
        people."""
        for service, stream, look in zip(rollout.services, streams, found.looks, strict=True):
            callers = ""
            if look.verdict.off_weight:
                sources = stream.sources(rollout, now)
                if sources is None:
                    continue
                callers = off_weight_callers.describe(
                    sources,
                    rollout.policy.stages[rollout.stage].promised,
                    service.canary,
                    service.name,
                    service.route.unrouted_reason,
                )
            else:
                stream.follows()
            rollout = rollout.with_service(replace(service, off_weight_callers=callers))
        return rollout

    def _data(
        self, rollout: Rollout, context: LookContext, now: float, judged: JudgedLook, was_off: bool
    ) -> Rollout:
        if judged.had_data:
            # What was counted before an outage and is read after it does not say that the outage is over.
            is_recent = now - judged.look.end <= signals.silence_is_late(rollout, self.ingestion_delay)
            waits = is_recent and signals.waits_for_data(rollout)
            why = "the traffic follows the weight again" if was_off else "telemetry is back"
            return apply_signal(rollout, Signal.DATA, now, Detail(why)) if waits else rollout
        why = judged.verdict.reason
        if judged.verdict.off_weight:
            callers = [service.off_weight_callers for service in rollout.services]
            why = "; ".join((why, *filter(None, callers)))
        return self._without_data(rollout, context, now, why) if judged.latest else rollout

    def _without_data(self, rollout: Rollout, context: LookContext, now: float, why: str) -> Rollout:
        watched = now - self.since[_key(rollout)]
        for signal, detail in signals.silence(rollout, now, self.ingestion_delay, why, watched):
            rollout = apply_signal(rollout, signal, now, detail, context)
        return rollout

    def _detail(self, rollout: Rollout, signal: Signal, verdict: Verdict, context: LookContext) -> Detail:
        reason = signals.reason_of(rollout, signal, verdict)
        if signal in (Signal.PASS, Signal.LET_PASS):
            reason = with_load_warnings(reason, rollout, context, rollout.stage + 1)
        return Detail(reason, verdict)

    # ------------------------------------------------------------ doing

    def _apply(self, record: Record, context: LookContext) -> Record:
        """Makes the routes what the record wants, and notes them as confirmed."""
        rollout = record.rollout
        if rollout.phase.ended or (rollout.stage < 0 and rollout.phase in (Phase.WAITING, *LIVE)):
            return record
        is_stopped = any(
            observation.is_route_unread for observation in context.services
        ) and not route_sync.is_taken_away(rollout)
        if rollout.phase in LIVE and is_stopped:
            return record
        steers = rollout.policy.mode == "steer" and bool(rollout.entrance.route.origin)
        if not steers or (context.drifted and rollout.phase in LIVE):
            return self._open(record, [service.route.last_left for service in rollout.services])
        for key in rollout.keys:
            record = self._restore_subset(record, context, key)
        lists = self._written(record, context)
        troubles = [
            f"{record.rollout.prefix(service)}{observation.view.trouble}"
            for service, observation in context.each(record.rollout)
            if observation.view is not None and observation.view.trouble
        ]
        return self._open(record, lists, "; ".join(troubles))

    def _written(self, record: Record, context: LookContext) -> Sequence[RouteLists]:
        """The lists that are due, of each service, as they stand in its route now.

        See `route_sync.write_order`. What is given waits for each before it; what is taken away does not, for
        no service has to stay with a version that was given up because another one's route cannot be written.
        """
        rollout = record.rollout
        observations = {service.key: observation for service, observation in context.each(rollout)}
        is_taken = route_sync.is_taken_away(rollout)
        lists: dict[NamespacedName, RouteLists] = {}
        failures: list[tuple[ServiceRollout, CannotWrite | Conflict | Unavailable]] = []
        for service in route_sync.write_order(rollout):
            try:
                lists[service.key] = self._route_written(rollout, service, observations[service.key])
            except (CannotWrite, Conflict, Unavailable) as error:
                failures.append((service, error))
                if not is_taken:
                    break
        for service, failure in failures:
            if not isinstance(failure, CannotWrite):
                raise failure
            for written in rollout.services:
                if written.key in lists:
                    rollout = rollout.with_service(written.with_route(confirmed=lists[written.key]))
            self._refuse_write(record.with_rollout(rollout), service, str(failure))
        return [lists[key] for key in rollout.keys]

    def _route_written(
        self, rollout: Rollout, service: ServiceRollout, observation: Observation
    ) -> RouteLists:
        """The lists that are due to one service's route, as they stand there now. Raises CannotWrite,
        Conflict, Unavailable."""
        view = observation.view
        if observation.is_route_unread:
            raise CannotWrite(
                f"it cannot be read: {observation.unreadable} (it is tried again at every beat)"
            )
        if view is None:
            raise CannotWrite(
                f"{observation.problem}: put it back, or delete this record to give the rollout up"
            )
        try:
            lists = route_sync.due(rollout, service, view)
            if view.displaced or not route_lists.same(view.lists, lists):
                policy = rollout.policy_of(service)
                observation.view = route_sync.write(self.traffic, policy, view, lists)
                log.info(
                    "route.written",
                    service=service.name,
                    namespace=service.namespace,
                    rollout=rollout.name,
                    weight=rollout.weight,
                    phase=rollout.phase.value,
                )
        except Conflict:
            raise
        except (Rejected, route_lists.Refusal) as error:
            raise CannotWrite(f"{error} (it is tried again at every beat)") from error
        return lists

    def _restore_subset(self, record: Record, context: LookContext, key: NamespacedName) -> Record:
        """The canary's subset (or Service), and what matched users are split by, put back where someone took
        it out (a tool that keeps the DestinationRule as its repository has it): requests sent to what is not
        there fail, and no replica counts them."""
        rollout = record.rollout
        service, view = rollout.service_of(key), context.services[rollout.keys.index(key)].view
        if view is None or rollout.phase not in STEERED or rollout.stage < 0:
            return record
        try:
            restored, why = self._restored(service, rollout.policy_of(service), view)
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            restored, why = (), f"what matched users are split by is gone: {error}"
        for name in restored:
            log.warning(
                "subset.restored",
                service=service.name,
                namespace=service.namespace,
                rollout=rollout.name,
                subset=name,
            )
        if not why:
            return record
        after = apply_signal(rollout, Signal.NOT_READY, self.clock.now(), Detail(why), context)
        return self._saved(record, after)

    def _restored(
        self, service: ServiceRollout, policy: Policy, view: RouteView
    ) -> tuple[Sequence[str], str]:
        """What was put back, and why the canary's subset cannot be. policy: the service's own."""
        subset = service.route.canary_subset
        if view.subsets.get(subset) == service.canary:
            return self.traffic.restore(policy, view, service.canary), ""
        try:
            name = self.traffic.add_subset(policy, service.canary)
            why = "" if name == subset else f"there is {name} instead"
        except TooNew:
            return (subset,), ""  # requests are on their way there already
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            why = str(error)
        kind = "Service" if policy.route.http_route else "subset"
        return ((), f"the {kind} {subset} of {service.canary} is gone: {why}") if why else ((subset,), "")

    def _refuse_write(self, record: Record, service: ServiceRollout, why: str) -> NoReturn:
        """The route cannot be made what it should be, which stands in the record and not in the log alone.
        Raises Rejected."""
        rollout = record.rollout
        reason = route_sync.troubled(rollout, service, f"{rollout.prefix(service)}{why}")
        self._saved(record, replace(rollout, reason=reason))
        raise Rejected(f"{rollout.name}: {reason}")

    def _open(self, record: Record, lists: Sequence[RouteLists], trouble: str = "") -> Record:
        """Looks begin, or the end is reached: the routes are as wanted, or someone else's, whose users
        deserve to be watched over too.

        trouble: why what is wanted is not in force although it is written, for the record.
        """
        rollout = record.rollout
        is_looking = rollout.span is not None and rollout.span.end is None
        confirmed = [service.route.confirmed for service in rollout.services]
        is_known = all(
            before is not None and route_lists.same(before, now)
            for before, now in zip(confirmed, lists, strict=True)
        )
        reason = (
            route_sync.troubled(rollout, rollout.entrance, trouble)
            if trouble
            else route_sync.untroubled(rollout)
        )
        if rollout.phase in LIVE and is_looking and is_known and reason == rollout.reason:
            return record
        services = tuple(
            service.with_route(confirmed=now) for service, now in zip(rollout.services, lists, strict=True)
        )
        now = self.clock.now()  # not the look's: its reading, or the write, may have taken long
        detail = Detail(reason, services=services, start=self._grid(now))
        return self._saved(record, apply_signal(replace(rollout, reason=reason), Signal.ROUTED, now, detail))

    def _saved(self, record: Record, after: Rollout) -> Record:
        if after == record.rollout:
            return record
        before, record = record.rollout, self.rollouts.save(record.with_rollout(after))
        _tell(before, after)
        return record

    def _grid(self, now: float) -> int:
        """The first whole second from which all that is scraped was served at the new weight."""
        return ceil(now + self.scrape_interval + MESH_DELAY)


class CannotWrite(Exception):
    """Why a route cannot be made what it should be."""


def _key(rollout: Rollout) -> tuple[str, str]:
    return rollout.namespace, rollout.name


def _asked_by(record: Record, signal: Signal, action: str) -> str:
    """`held by alice: the database is down`, as the record has it of this request and not of an earlier
    one."""
    obeyed = [decision.at for decision in record.rollout.decisions if decision.signal == signal.value]
    return record.wishes.request(VERBS[signal], max(obeyed, default=-inf)).sentence(action)


def _adopted(rollout: Rollout, service: ServiceRollout, observation: Observation) -> ServiceRollout:
    """The service with the routes that are there now to steer from. Raises route_lists.Refusal, which says
    whose they are."""
    if observation.view is None:
        return service
    lists, route = observation.view.lists, service.route
    try:
        origin = route_lists.adopted(lists, route.origin, route.canary_subset)
    except route_lists.Refusal as error:
        raise route_lists.Refusal(f"{rollout.prefix(service)}{error}") from error
    return service.with_route(confirmed=lists, origin=origin)


def _unread(rollout: Rollout, context: LookContext) -> Rollout:
    """With what could not be read of its services, since nothing advances then."""
    advances = rollout.phase in (Phase.WAITING, *LIVE)
    why = "; ".join(
        f"{rollout.prefix(service)}{observation.unreadable}"
        for service, observation in context.each(rollout)
        if observation.unreadable and advances
    )
    return replace(rollout, reason=route_sync.unread(rollout.reason, why))


def _absence(streams: Sequence[EvidenceStream], rollout: Rollout, found: JudgedLookOfAll, now: float) -> str:
    """Why nothing was counted in a look; "" where something was, or where that is not known."""
    absent = (
        (service, stream.absence(rollout, now))
        for service, stream, look in zip(rollout.services, streams, found.looks, strict=True)
        if not look.look.sampled
    )
    return "; ".join(f"{rollout.prefix(service)}{why}" for service, why in absent if why)


def _log_look(rollout: Rollout, verdict: Verdict) -> None:
    log.debug(
        "look.judged",
        service=rollout.entrance.name,
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
            service=after.entrance.name,
            namespace=after.namespace,
            rollout=after.name,
            stable=after.for_display.stable,
            canary=after.for_display.canary,
            stage=after.stage,
            weight=after.weight,
            reason=news.reason,
        )
    if after.phase is not before.phase and len(after.announcements) == len(before.announcements):
        log.info(
            "rollout.moved",
            service=after.entrance.name,
            namespace=after.namespace,
            rollout=after.name,
            phase=after.phase.value,
            stage=after.stage,
            weight=after.weight,
            reason=after.reason,
        )
