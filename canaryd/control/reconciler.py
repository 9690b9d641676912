"""One look of one rollout: wishes, workloads, telemetry -> signals; advance, save, apply.

The contract: the record is saved before anything is done, so a crash at any line below goes on from the record; what is done is
idempotent, so doing it twice is harmless. A pair (phase, signal) that has no meaning is never sent: `_take` asks the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NoReturn

import structlog

from canaryd.analysis import senders
from canaryd.analysis.apart import judge_of as by_policy
from canaryd.control import asking, steering
from canaryd.control.case import Case, Heard, JudgeOf
from canaryd.control.steering import LIVE, STEERED
from canaryd.control.world import World, thin
from canaryd.domain import gating, lifecycle, meaning, routes
from canaryd.domain.added import steered
from canaryd.domain.lifecycle import TRANSITIONS, Detail, Signal
from canaryd.domain.ports import Clock, Conflict, Gates, Rejected, Rollouts, RouteView, Telemetry, Traffic, Unavailable, Workload
from canaryd.domain.rollout import Held, Phase, Record, Rollout, RouteLists
from canaryd.domain.verdict import Verdict

log = structlog.get_logger()

PATIENCE = 15.0  # seconds without any ready replica: longer than a node's hiccup, short for the users it fails
MESH_DELAY = 1  # seconds until the proxies follow a route; 0.11 s measured on one machine, more in a large mesh
ADVANCING = (Signal.AVAILABLE, Signal.PASS, Signal.LET_PASS, Signal.APPROVE, Signal.PROMOTE, Signal.GATE_OPEN)  # what a pause stops
# What sends traffic back to stable without a person's word. NOT_READY too, as long as the canary serves at all.
GIVING_BACK = (Signal.HARM, Signal.ALARM, Signal.TIMED_OUT, Signal.BLIND, Signal.OVERDUE, Signal.NEWER, Signal.NOT_READY,
               Signal.GATE_LOST)
CATCH_UP = 10.0  # seconds that one look may judge old looks for: the other rollouts wait meanwhile, and /livez does for 60 s
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
    judge_of: JudgeOf = by_policy
    cases: dict[tuple[str, str], Case] = field(default_factory=dict)
    since: dict[tuple[str, str], float] = field(default_factory=dict)  # from when silence counts: this process was there, and up to date

    # ------------------------------------------------------------ one look

    def look(self, record: Record, world: World, now: float, telemetry_is_up: bool = True) -> Record:
        """Takes a rollout one look further. Raises Conflict (someone wrote in between: look again), Unavailable, Rejected.

        telemetry_is_up: False skips reading, since another rollout has just waited for it in vain; the look is then one without data.
        """
        self.since.setdefault(_key(record.rollout), now)
        rollout = self._wishes(record, world, now)
        rollout = self._workloads(rollout, world, now)
        rollout = self._route(rollout, world, now)
        rollout = self._gate(rollout, world, now)
        if world.view is not None and not rollout.phase.ended:
            rollout = replace(rollout, unsteered=routes.unsteered(world.view))
        if rollout.phase in LIVE:
            try:
                if not telemetry_is_up:
                    raise Unavailable("telemetry did not answer another rollout in this beat")
                rollout = self._evidence(rollout, world, now)
            except (Unavailable, Rejected) as error:
                world.outage, world.silent = str(error), isinstance(error, Unavailable)
                rollout = self._without_data(rollout, world, now, world.outage)
        return self._apply(self._saved(record, rollout), world)

    def forget(self, record: Record) -> None:
        self.cases.pop(_key(record.rollout), None)
        self.since.pop(_key(record.rollout), None)

    # ------------------------------------------------------------ what people wish

    def _wishes(self, record: Record, world: World, now: float) -> Rollout:
        rollout, wishes = record.rollout, record.wishes
        if wishes.abort:
            rollout = self._take(rollout, Signal.ABORT, now, Detail("aborted by a person"))
        if world.newer:
            reason = f"{world.newer} came while {rollout.canary} was being rolled out"
            rollout = self._take(rollout, Signal.NEWER, now, Detail(reason), world)
        if reason := meaning.overdue(rollout, now):
            rollout = self._take(rollout, Signal.OVERDUE, now, Detail(reason), world)
        if wishes.approved_stage > rollout.approved:
            rollout = self._take(rollout, Signal.APPROVE, now, Detail("approved by a person", stage=wishes.approved_stage), world)
        if wishes.promote and not rollout.promoted:
            rollout = self._take(rollout, Signal.PROMOTE, now, Detail("promoted by a person"), world)
        if gate := gating.opened_by(wishes, rollout):
            rollout = self._take(rollout, Signal.GATE_OPEN, now, Detail(f"the gate {gate} was opened by a person"), world)
        if wishes.hold and rollout.held is not Held.PERSON:
            rollout = self._take(rollout, Signal.HOLD, now, Detail("held by a person"))
        is_let_go = rollout.held is Held.PERSON and not wishes.hold
        if rollout.phase is Phase.HELD and (is_let_go or (wishes.resumed > rollout.resumed and not wishes.hold)):
            rollout = self._resumed(record, rollout, world, now)
        if wishes.resumed > rollout.resumed and rollout.phase is not Phase.HELD:
            rollout = replace(rollout, resumed=wishes.resumed)  # said when nothing was held: not to be kept for the next hold
        return rollout

    def _resumed(self, record: Record, rollout: Rollout, world: World, now: float) -> Rollout:
        """After a drift, with the routes that are there now to steer from."""
        found, origin = world.view.lists if world.view is not None else None, None
        if rollout.held is Held.DRIFT and found is not None:
            try:
                origin = routes.adopted(found, rollout.origin, rollout.canary_subset)
            except routes.Refusal as error:
                return self._because(rollout, f"cannot be resumed: {error}")
        detail = Detail("resumed by a person", lists=found, origin=origin, resumed=record.wishes.resumed)
        return self._take(rollout, Signal.RESUME, now, detail)

    # ------------------------------------------------------------ what the cluster says

    def _workloads(self, rollout: Rollout, world: World, now: float) -> Rollout:
        canary, stable = world.workload(rollout.canary_workload), world.workload(rollout.stable_workload)
        if stable is not None and stable.template != rollout.stable_template:
            reason = f"the stable version's template changed, so {rollout.stable} is compared anew"
            before, rollout = rollout, self._take(rollout, Signal.STABLE_CHANGED, now, Detail(reason, template=stable.template))
            if rollout is not before:
                log.info("stable.changed", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name, reason=reason)
        if canary is None:
            reason = f"the Deployment {rollout.canary_workload} is gone"
            return self._take(rollout, Signal.NOT_READY, now, Detail(reason))
        if rollout.phase not in (Phase.WAITING, *LIVE):
            return rollout
        if canary.template != rollout.template:
            reason = f"{canary.name} runs another template than the one that is rolled out"
            return self._take(rollout, Signal.NOT_READY, now, Detail(reason), world if canary.ready else None)
        if rollout.phase is Phase.WAITING:
            return self._waiting(rollout, canary, world, now)
        if rollout.held is Held.STABLE and world.stable_serves(rollout):
            rollout = self._take(rollout, Signal.STABLE_UP, now, Detail(f"{rollout.stable_workload} is ready again"))
        elif rollout.stage >= 0 and rollout.weight < 100 and not world.stable_serves(rollout):
            reason = f"no replica of {rollout.stable_workload} is ready, so there is nothing to compare with and no way back"
            rollout = self._take(rollout, Signal.STABLE_DOWN, now, Detail(reason))
        if canary.failed:
            reason = f"{canary.name} is not available: {canary.failed}"
            return self._take(rollout, Signal.NOT_READY, now, Detail(reason), world if canary.ready else None)
        if canary.ready > 0 or rollout.stage < 0:
            return rollout if rollout.unready_since is None else replace(rollout, unready_since=None)
        since = rollout.unready_since if rollout.unready_since is not None else now
        if now - since >= PATIENCE:
            reason = f"no replica of {canary.name} has been ready for {now - since:.0f} s ({canary.desired} wanted)"
            return self._take(replace(rollout, unready_since=since), Signal.NOT_READY, now, Detail(reason))
        return replace(rollout, unready_since=since)

    def _waiting(self, rollout: Rollout, canary: Workload, world: World, now: float) -> Rollout:
        if canary.failed:
            return self._take(rollout, Signal.NOT_READY, now, Detail(f"{canary.name} did not become available: {canary.failed}"))
        if not canary.available or world.paused:
            return rollout
        if rollout.policy.mode == "observe":
            return self._take(rollout, Signal.AVAILABLE, now, Detail(f"{canary.name} is available; observing, the route stays as it is"))
        if world.view is None:
            return self._because(rollout, f"waiting: {world.problem}")
        try:
            found = routes.stable_version(world.view)
        except routes.Refusal as error:
            return self._because(rollout, f"waiting: {error}")
        if found != rollout.stable:
            why = f"the route went to {rollout.stable} when this rollout began, and goes to {found} now; put it back, or abort"
            return self._because(rollout, f"waiting: {why}")
        try:
            subset = self.traffic.add_subset(rollout.policy, rollout.canary)
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            return self._because(rollout, f"waiting: {error}")
        world.view = replace(world.view, subsets={**world.view.subsets, subset: rollout.canary})
        try:
            routes.check(rollout.policy, world.view, subset)
        except routes.Refusal as error:
            return self._because(rollout, f"waiting: {error}")
        origin = steered(world.view.lists)
        # Routes added by a rollout whose record was deleted are no one's edit, and go with the first write.
        left = None if origin.keys() == world.view.lists.keys() else world.view.lists
        rollout = replace(rollout, canary_subset=subset, origin=origin, confirmed=left)
        return self._take(rollout, Signal.AVAILABLE, now, Detail(thin(f"{canary.name} is available", rollout, world, 0)), world)

    def _because(self, rollout: Rollout, reason: str) -> Rollout:
        if reason != rollout.reason:
            log.warning("rollout.waits", rollout=rollout.name, reason=reason)
        return replace(rollout, reason=reason)

    def _route(self, rollout: Rollout, world: World, now: float) -> Rollout:
        """Drift: what is there was neither wanted nor confirmed, so someone else put it there."""
        if rollout.phase not in STEERED or rollout.stage < 0 or rollout.policy.mode == "observe" or not rollout.origin:
            return rollout
        what = steering.drift(rollout, world.view, world.problem)
        if not what:
            return self._take(rollout, Signal.DRIFT_OVER, now, Detail("the route is as canaryd left it again")) \
                if rollout.held is Held.DRIFT else rollout
        if steering.is_restorable(rollout, world.view):
            return rollout  # _apply puts it back
        world.drifted = True
        return self._take(rollout, Signal.DRIFT, now, Detail(f"someone else changed the route: {what}"))

    # ------------------------------------------------------------ what gates say

    def _gate(self, rollout: Rollout, world: World, now: float) -> Rollout:
        """Before the looks, which decide whether a rollout whose gate has opened still goes on."""
        rollout, signal, reason = asking.look(rollout, self.gates, now, world.paused or world.drifted)
        if signal is None:
            return self._because(rollout, reason)
        return self._take(rollout, signal, now, Detail(reason), world)

    # ------------------------------------------------------------ what telemetry says

    def _evidence(self, rollout: Rollout, world: World, now: float) -> Rollout:
        known = rollout.counted_to or 0  # looks up to here were decided on; heard again after a restart, they only inform the judge
        case = self._case(rollout)
        for heard in self._heard(case, rollout, now):
            if heard.compared:
                _log_look(rollout, heard.verdict)
            if heard.look.end <= known:
                continue
            if heard.compared and heard.latest and not heard.look.sampled and (why := case.absence(rollout, now)):
                heard = replace(heard, verdict=replace(heard.verdict, reason=why))
            stage, weight, was_off = rollout.stage, rollout.weight, rollout.verdict is not None and rollout.verdict.off_weight
            rollout = lifecycle.heard(rollout, heard.verdict, heard.counted, heard.look.end, heard.had_data)
            if not heard.compared:
                continue
            if heard.latest:
                rollout = self._senders(rollout, case, now, heard.verdict)
            rollout = self._data(rollout, world, now, heard, was_off)
            signal = lifecycle.stage_signal(rollout, heard.verdict, now)
            # To advance, or to give up at a deadline, is for the latest look: those that wait may show harm.
            if signal is not None and (heard.latest or signal in URGENT):
                rollout = self._take(rollout, signal, now, self._detail(rollout, signal, heard.verdict, world), world)
            if rollout.phase not in LIVE or (rollout.stage, rollout.weight) != (stage, weight):
                break  # what was served since then was served at a weight in change
        if case.is_behind(rollout, now):
            self.since[_key(rollout)] = now
        elif rollout.last_data is not None and now - rollout.last_data > meaning.silence_is_late(rollout, self.ingestion_delay):
            return self._without_data(rollout, world, now, "no samples")
        return rollout

    def _heard(self, case: Case, rollout: Rollout, now: float) -> Iterator[Heard]:
        """The looks that are due, as many as a beat has time for: what a long rollout has gathered takes minutes to judge again."""
        began = self.clock.now()
        for heard in case.next(rollout, now):
            yield heard
            if not heard.latest and self.clock.now() - began > CATCH_UP:
                log.info("rollout.catches_up", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name,
                         seconds_left=round(now - heard.look.end))
                return

    def _case(self, rollout: Rollout) -> Case:
        key = _key(rollout)
        case = self.cases.get(key)
        if case is None or not case.fits(rollout):
            case = self.cases[key] = Case(rollout, self.telemetry, self.ingestion_delay, self.judge_of)
        return case

    def _senders(self, rollout: Rollout, case: Case, now: float, verdict: Verdict) -> Rollout:
        """Whose requests do not follow the weight, while the traffic as a whole does not: in the record, for people."""
        if not verdict.off_weight:
            case.follows()
            return replace(rollout, senders="") if rollout.senders else rollout
        sources = case.sources(rollout, now)
        if sources is None:
            return rollout
        promised = rollout.policy.stages[rollout.stage].promised
        return replace(rollout, senders=senders.told(sources, promised, rollout.canary, rollout.service, rollout.unsteered))

    def _data(self, rollout: Rollout, world: World, now: float, heard: Heard, was_off: bool) -> Rollout:
        if heard.had_data:
            # What was counted before an outage and is read after it does not say that the outage is over.
            is_recent = now - heard.look.end <= meaning.silence_is_late(rollout, self.ingestion_delay)
            waits = is_recent and meaning.waits_for_data(rollout)
            why = "the traffic follows the weight again" if was_off else "telemetry is back"
            return self._take(rollout, Signal.DATA, now, Detail(why)) if waits else rollout
        why = f"{heard.verdict.reason}; {rollout.senders}" if heard.verdict.off_weight and rollout.senders else heard.verdict.reason
        return self._without_data(rollout, world, now, why) if heard.latest else rollout

    def _without_data(self, rollout: Rollout, world: World, now: float, why: str) -> Rollout:
        watched = now - self.since[_key(rollout)]
        for signal, detail in meaning.silence(rollout, now, self.ingestion_delay, why, watched):
            rollout = self._take(rollout, signal, now, detail, world)
        return rollout

    def _detail(self, rollout: Rollout, signal: Signal, verdict: Verdict, world: World) -> Detail:
        reason = meaning.reason_of(rollout, signal, verdict)
        if signal in (Signal.PASS, Signal.LET_PASS):
            reason = thin(reason, rollout, world, rollout.stage + 1)
        return Detail(reason, verdict)

    # ------------------------------------------------------------ doing

    def _apply(self, record: Record, world: World) -> Record:
        """Makes the route what the record wants, and notes it as confirmed."""
        rollout = record.rollout
        if rollout.phase.ended or (rollout.stage < 0 and rollout.phase in (Phase.WAITING, *LIVE)):
            return record
        steers = rollout.policy.mode == "steer" and bool(rollout.origin)
        lists = steering.left(rollout)
        if steers:
            if world.drifted and rollout.phase in LIVE:
                return self._open(record, lists)
            record = self._subset(record, world)
            rollout = record.rollout
            if world.view is None:
                self._cannot(record, f"{world.problem}: put it back, or delete this record to give the rollout up")
            lists = self._written(record, world, world.view)
            return self._open(record, lists, world.view.trouble)
        return self._open(record, lists)

    def _written(self, record: Record, world: World, view: RouteView) -> RouteLists:
        """The lists that are due, as they stand in the route now."""
        rollout = record.rollout
        try:
            lists = steering.due(rollout, view)
        except routes.Refusal as error:
            self._cannot(record, f"{error} (it is tried again at every beat)")
        if not routes.same(view.lists, lists):
            try:
                world.view = steering.write(self.traffic, rollout, view, lists)
            except Conflict:
                raise
            except Rejected as error:
                self._cannot(record, f"{error} (it is tried again at every beat)")
            log.info("route.written", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name, weight=rollout.weight,
                     phase=rollout.phase.value)
        return lists

    def _subset(self, record: Record, world: World) -> Record:
        """The canary's subset (or Service), put back where someone took it out (a tool that keeps the DestinationRule as its repository
        has it): requests sent to what is not there fail, and no replica counts them."""
        rollout, view = record.rollout, world.view
        if view is None or rollout.phase not in STEERED or rollout.stage < 0 or view.subsets.get(rollout.canary_subset) == rollout.canary:
            return record
        try:
            name = self.traffic.add_subset(rollout.policy, rollout.canary)
            why = "" if name == rollout.canary_subset else f"there is {name} instead"
        except (Unavailable, Conflict):
            raise
        except Rejected as error:
            why = str(error)
        if not why:
            log.warning("subset.restored", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name, subset=name)
            return record
        kind = "Service" if rollout.policy.route.http_route else "subset"
        detail = Detail(f"the {kind} {rollout.canary_subset} of {rollout.canary} is gone: {why}")
        return self._saved(record, self._take(rollout, Signal.NOT_READY, self.clock.now(), detail, world))

    def _cannot(self, record: Record, why: str) -> NoReturn:
        """The route cannot be made what it should be, which stands in the record and not in the log alone. Raises Rejected."""
        reason = steering.troubled(record.rollout, why)
        self._saved(record, replace(record.rollout, reason=reason))
        raise Rejected(f"{record.rollout.name}: {reason}")

    def _open(self, record: Record, lists: RouteLists, trouble: str = "") -> Record:
        """Looks begin, or the end is reached: the route is as wanted, or someone else's, whose users deserve to be watched over too.

        trouble: why what is wanted is not in force although it is written, for the record."""
        rollout = record.rollout
        is_looking = rollout.span is not None and rollout.span.end is None
        is_known = rollout.confirmed is not None and routes.same(rollout.confirmed, lists)
        reason = steering.troubled(rollout, trouble) if trouble else steering.untroubled(rollout)
        if rollout.phase in LIVE and is_looking and is_known and reason == rollout.reason:
            return record
        now = self.clock.now()  # not the look's: its reading, or the write, may have taken long
        detail = Detail(reason, lists=lists, start=self._grid(now))
        return self._saved(record, self._take(replace(rollout, reason=reason), Signal.ROUTED, now, detail))

    def _saved(self, record: Record, after: Rollout) -> Record:
        if after == record.rollout:
            return record
        before, record = record.rollout, self.rollouts.save(record.having(after))
        _tell(before, after)
        return record

    def _grid(self, now: float) -> int:
        """The first whole second from which all that is scraped was served at the new weight."""
        return ceil(now + self.scrape_interval + MESH_DELAY)

    def _take(self, rollout: Rollout, signal: Signal, now: float, detail: Detail, world: World | None = None) -> Rollout:
        """The rollout after a signal, if it means anything in its phase; what would advance it is stopped by a pause, and while the route
        is someone else's."""
        if (rollout.phase, signal) not in TRANSITIONS:
            return rollout
        if world is not None and (world.paused or world.drifted) and signal in ADVANCING:
            return rollout
        if world is not None and signal in GIVING_BACK and rollout.stage >= 0 and not world.stable_serves(rollout):
            return self._because(rollout, f"{detail.reason}; but no replica of {rollout.stable_workload} is ready to take the traffic back")
        return lifecycle.advance(rollout, signal, now, detail)


def _key(rollout: Rollout) -> tuple[str, str]:
    return rollout.namespace, rollout.name


def _log_look(rollout: Rollout, verdict: Verdict) -> None:
    log.debug("look.judged", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name, at=verdict.at,
              answer=verdict.answer.value, odds=verdict.odds, stage=verdict.stage, looks=verdict.looks, reason=verdict.reason)


def _tell(before: Rollout, after: Rollout) -> None:
    """Log lines for what changed, one fact each."""
    for news in after.announcements[len(before.announcements):]:
        log.info(f"rollout.{news.event}", service=after.service, namespace=after.namespace, rollout=after.name, stable=after.stable,
                 canary=after.canary, stage=after.stage, weight=after.weight, reason=news.reason)
    if after.phase is not before.phase and len(after.announcements) == len(before.announcements):
        log.info("rollout.moved", service=after.service, namespace=after.namespace, rollout=after.name, phase=after.phase.value,
                 stage=after.stage, weight=after.weight, reason=after.reason)


__all__ = ["Reconciler", "World"]
