"""One beat: see the cluster once, begin what is new, take every rollout one look further, hand over what people are to be told.

A beat never raises: what one service or rollout cannot do now is told once and tried again at the next beat, and delays no
other. Rollouts of services without a policy file any more go on with the policy they began with.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Protocol

import structlog

from canaryd.control.reconciler import Reconciler, World
from canaryd.control.supervisor import Seen, Supervisor
from canaryd.domain.policy import Policy
from canaryd.domain.ports import Clock, Conflict, Postman, Rejected, Unavailable
from canaryd.domain.rollout import Announcement, Phase, Record

log = structlog.get_logger()

EVENTS = "kubernetes"  # the notifier that every announcement goes to: Kubernetes Events

# What stands at an alerting system while a rollout is in this phase.
STANDING = {Phase.ROLLED_BACK: "rolled_back", Phase.HELD: "held", Phase.AWAITING_APPROVAL: "approval_needed"}


class Meter(Protocol):
    """What a beat tells canaryd's own metrics."""

    def beat(self, seconds: float, api_answers: bool) -> None: ...

    def look(self, record: Record, seconds: float) -> None: ...

    def telemetry(self, answers: bool) -> None: ...

    def ended(self, record: Record) -> None: ...

    def gone(self, record: Record) -> None:
        """Someone deleted the record of a rollout that was under way."""

    def delivered(self, notifier: str) -> None: ...

    def broken(self) -> None:
        """An error that nobody foresaw."""


@dataclass
class Beat:
    policies: Callable[[], Sequence[Policy]]
    supervisor: Supervisor
    reconciler: Reconciler
    postman: Postman
    clock: Clock
    meter: Meter
    namespaces: frozenset[str] = frozenset()  # only rollouts in these are this daemon's; empty: all
    troubles: dict[str, str] = field(default_factory=dict)  # what does not work now, as told
    known_ended: set[str] = field(default_factory=set)
    active: dict[str, Record] = field(default_factory=dict)  # under way at the last beat
    blind: set[str] = field(default_factory=set)  # rollouts whose telemetry did not answer: they are read last

    def run(self) -> None:
        began = perf_counter()
        answers = False
        with self._trouble("api server", "rollouts.unreadable"):
            records = [r for r in self.supervisor.rollouts.list() if not self.namespaces or r.rollout.namespace in self.namespaces]
            answers = True
            self._missed(records)
            self._services(records)
        self.meter.beat(perf_counter() - began, answers)

    def _missed(self, records: Sequence[Record]) -> None:
        """Forgets rollouts whose record someone deleted, and says so: nothing judges them any more."""
        there = {_life(record) for record in records}
        for name, record in self.active.items():
            if name not in there:
                rollout = record.rollout
                log.warning("rollout.deleted", service=rollout.service, namespace=rollout.namespace, rollout=rollout.name,
                            weight=rollout.weight, note="its record was deleted while it was under way; the route stays as it is")
                self.reconciler.forget(record)
                self.meter.gone(record)
        self.active = {_life(record): record for record in records if not record.rollout.phase.ended}

    # ------------------------------------------------------------ services

    def _services(self, records: Sequence[Record]) -> None:
        policies = {policy.key: policy for policy in self.policies()}
        in_force = frozenset(policies)
        for record in records:  # a rollout under way goes on with the policy it began with, whatever the file says now
            if not record.rollout.phase.ended:
                policies[record.rollout.namespace, record.rollout.service] = record.rollout.policy
        seen: list[Seen] = []
        for policy in policies.values():
            name = f"{policy.service.namespace}/{policy.service.name}"
            with self._trouble(name, "service.unreadable"):
                one = self.supervisor.see(policy, records, policy.key in in_force)
                seen.append(one)  # looked at also when nothing can begin
                seen[-1] = self.supervisor.supervise(one, self.supervisor.rollouts.requests(), self.clock.now())
        self._looks(seen, records)
        with self._trouble("alerts", "alerts.failed"):
            self._alerts(records, policies)
        for one in seen:
            for at, record in enumerate(one.records):
                if _life(record) in self.active:
                    continue  # it ended in this very beat: the routes as seen are older than its end
                name = f"{record.rollout.namespace}/{record.rollout.name}"
                with self._trouble(f"{name} services", "tidying.failed"):
                    record = one.records[at] = self.supervisor.tidy(one, record, self.clock.now())
                with self._trouble(f"{name} replicas", "scaling.failed"):
                    one.records[at] = self.supervisor.after_end(one, record, self.clock.now())
            with self._trouble(f"{one.policy.service.namespace}/{one.policy.service.name} records", "records.untidy"):
                self.supervisor.retire(one, lambda record: not any(self._untold(news, record) for news in record.rollout.announcements))

    def _looks(self, seen: Sequence[Seen], records: Sequence[Record]) -> None:
        collected = {(told, notifier): delivered for told, notifier, delivered in self.postman.collect()}
        telemetry_is_up = True
        outages: list[str] = []  # of each rollout that was read, "" for none
        # Who waited in vain last time comes last, so that one slow query cannot keep the others blind.
        turns = [(one, i) for one in seen for i in range(len(one.records))]
        turns.sort(key=lambda turn: _life(turn[0].records[turn[1]]) in self.blind)
        for one, i in turns:
            record, name = one.records[i], f"{one.records[i].rollout.namespace}/{one.records[i].rollout.name}"
            with self._trouble(name, "look.failed"):
                if not record.rollout.phase.ended:
                    record, telemetry_is_up = self._look(one, record, telemetry_is_up, outages)
                    one.records[i] = record
            with self._trouble(f"{name} announcements", "announcing.failed"):
                record = one.records[i] = self._announce(one.records[i], collected)
            if record.rollout.phase.ended and _life(record) not in self.known_ended:
                self.known_ended.add(_life(record))
                self.reconciler.forget(record)
                self.meter.ended(record)
        if outages:
            self._note("telemetry", "telemetry.unavailable", next(filter(None, outages), ""))
        services = {one.policy.key for one in seen}
        for record in records:  # whose service has no policy any more, or cannot be read now: people are told nevertheless
            if (record.rollout.namespace, record.rollout.service) not in services:
                with self._trouble(f"{record.rollout.namespace}/{record.rollout.name} announcements", "announcing.failed"):
                    self._announce(record, collected)

    def _look(self, seen: Seen, record: Record, telemetry_is_up: bool, outages: list[str]) -> tuple[Record, bool]:
        newer = self.supervisor.newer(seen)
        world = World(seen.workloads, seen.view, seen.problem, seen.known.paused, f"{newer.name} ({newer.version})" if newer else "")
        began = perf_counter()
        try:
            record = self.reconciler.look(record, world, self.clock.now(), telemetry_is_up)
        finally:
            if telemetry_is_up:
                outages.append(world.outage)
                self.meter.telemetry(not world.outage)
                self.blind = self.blind | {_life(record)} if world.silent else self.blind - {_life(record)}
            self.meter.look(record, perf_counter() - began)
        return record, telemetry_is_up and not world.silent

    # ------------------------------------------------------------ telling

    def _announce(self, record: Record, collected: dict[tuple[str, str], bool]) -> Record:
        """Hands over what has not been delivered, and notes on the record what has."""
        rollout = record.rollout
        noted = tuple(self._noted(news, record, collected) for news in rollout.announcements)
        if noted != rollout.announcements:
            record = self.supervisor.rollouts.save(record.having(replace(rollout, announcements=noted)))
            for before, after in zip(rollout.announcements, noted, strict=True):
                for notifier in after.delivered[len(before.delivered):]:
                    self.meter.delivered(notifier)
        for news in noted:
            if missing := self._untold(news, record):
                self.postman.offer(news, missing)
        return record

    def _untold(self, news: Announcement, record: Record) -> list[str]:
        """Who has not got it, and is still to be tried."""
        return [notifier for notifier in self._receivers(news, record) if notifier not in (*news.delivered, *news.given_up)]

    def _noted(self, news: Announcement, record: Record, collected: dict[tuple[str, str], bool]) -> Announcement:
        for notifier in self._receivers(news, record):
            if notifier in (*news.delivered, *news.given_up) or (news.id, notifier) not in collected:
                continue
            if collected[news.id, notifier]:
                news = replace(news, delivered=(*news.delivered, notifier))
            else:
                news = replace(news, given_up=(*news.given_up, notifier))
        return news

    def _receivers(self, news: Announcement, record: Record) -> tuple[str, ...]:
        return (EVENTS, *record.rollout.policy.told(news.event))

    def _alerts(self, records: Sequence[Record], policies: dict[tuple[str, str], Policy]) -> None:
        """What should be firing: of each service the last rollback, until a later rollout of it succeeds (or its record is deleted,
        which acknowledges it); and what a rollout waits for people with, for as long as it does."""
        firing: dict[str, list[Announcement]] = {}
        latest: dict[tuple[str, str], Record] = {}
        for record in sorted(records, key=lambda r: r.rollout.ended or 0.0):
            if record.rollout.phase in (Phase.ROLLED_BACK, Phase.SUCCEEDED):
                latest[record.rollout.namespace, record.rollout.service] = record
        notifiers = {name for policy in policies.values() for name in policy.notifiers}
        for record in (*latest.values(), *(r for r in records if not r.rollout.phase.ended)):
            notifiers |= {*record.rollout.policy.notifiers}
            standing = STANDING.get(record.rollout.phase)
            news = next((one for one in reversed(record.rollout.announcements) if one.event == standing), None)
            if news is not None:
                for notifier in self._receivers(news, record):
                    firing.setdefault(notifier, []).append(news)
        for notifier in sorted(notifiers):
            self.postman.keep_firing(notifier, firing.get(notifier, []))

    # ------------------------------------------------------------ trouble

    @contextmanager
    def _trouble(self, name: str, event: str) -> Iterator[None]:
        """Tells what does not work when it begins, changes and ends; never at every beat."""
        try:
            yield
        except Conflict as error:
            log.info("write.outdated", name=name, reason=str(error))  # someone wrote in between: the next beat reads it
            return
        except (Unavailable, Rejected) as error:
            self._note(name, event, str(error))
            return
        except Exception:
            self.meter.broken()
            log.exception("beat.broken", name=name)  # a bug in one rollout must not stop the looks of the others
            return
        self._note(name, event, "")

    def _note(self, name: str, event: str, reason: str) -> None:
        before = self.troubles.get(name, "")
        if bool(reason) != bool(before):
            if reason:
                log.warning(event, name=name, reason=reason)
            else:
                log.info("trouble.over", name=name, was=before)
        if reason:
            self.troubles[name] = reason
        else:
            self.troubles.pop(name, None)


def _life(record: Record) -> str:
    """One rollout, told apart from an earlier one of the same name whose record was deleted."""
    return f"{record.rollout.namespace}/{record.rollout.name}/{record.rollout.began}"
