"""One beat: see the cluster once, begin what is new, take every rollout one look further, hand over what
people are to be told.

A beat never raises: what one service or rollout cannot do now is told once and tried again at the next beat,
and delays no other. Rollouts of services without a policy file any more go on with the policy they began
with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Protocol

import structlog

from canaryd.control.bracket_supervisor import BracketSupervisor
from canaryd.control.look_context import LookContext
from canaryd.control.observation import ClusterReader, Observation
from canaryd.control.promotion_watch import PromotionWatch
from canaryd.control.reconciler import Reconciler
from canaryd.control.supervisor import Supervisor
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Clock, Conflict, Postman, Rejected, Unavailable
from canaryd.domain.rollout import Announcement, Phase, Record
from canaryd.report.summary import summarized

log = structlog.get_logger()

EVENTS = "kubernetes"  # the notifier that every announcement goes to: Kubernetes Events

# What stands at an alerting system while a rollout is in this phase.
STANDING = {Phase.ROLLED_BACK: "rolled_back", Phase.HELD: "held", Phase.AWAITING_APPROVAL: "approval_needed"}


class LoopMeter(Protocol):
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
class ControlLoop:
    """The daemon's loop: each `run` is one beat over all services and rollouts.

    policies: those in force, asked at every beat.
    """

    policies: Callable[[], Sequence[Policy]]
    supervisor: Supervisor
    reconciler: Reconciler
    postman: Postman
    clock: Clock
    meter: LoopMeter
    namespaces: frozenset[str] = frozenset()  # only rollouts in these are this daemon's; empty: all
    troubles: dict[str, str] = field(default_factory=dict)  # what does not work now, as told
    known_ended: set[str] = field(default_factory=set)
    active: dict[str, Record] = field(default_factory=dict)  # under way at the last beat
    # rollouts whose telemetry did not answer: they are read last
    blind: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.brackets = BracketSupervisor(self.supervisor)
        self.promotions = PromotionWatch(
            self.reconciler.telemetry, self.supervisor.rollouts, self.reconciler.ingestion_delay
        )
        self.reader = ClusterReader(
            self.supervisor.workloads, self.supervisor.traffic, self.supervisor.rollouts
        )

    def run(self) -> None:
        """One beat. Raises nothing: what fails is logged once, and tried again at the next beat."""
        began = perf_counter()
        answers = False
        with self._trouble("api server", "rollouts.unreadable"):
            records = [
                r
                for r in self.supervisor.rollouts.list()
                if not self.namespaces or r.rollout.namespace in self.namespaces
            ]
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
                log.warning(
                    "rollout.deleted",
                    service=rollout.entrance.name,
                    namespace=rollout.namespace,
                    rollout=rollout.name,
                    weight=rollout.weight,
                    note="its record was deleted while it was under way; the route stays as it is",
                )
                self.reconciler.forget(record)
                self.meter.gone(record)
        self.active = {_life(record): record for record in records if not record.rollout.phase.ended}

    # ------------------------------------------------------------ services

    def _services(self, records: Sequence[Record]) -> None:
        policies = {policy.key: policy for policy in self.policies()}
        alone = {key: policy.among({key}) for policy in policies.values() for key in policy.keys}
        in_force = frozenset(alone)
        # a rollout under way goes on with the policy it began with, whatever the file says now
        for record in records:
            if not record.rollout.phase.ended:
                own = record.rollout.policy
                alone.update((key, own.among({key})) for key in record.rollout.keys)
                if record.rollout.keys[0] not in in_force:
                    policies[record.rollout.keys[0]] = own
        observations: dict[
            NamespacedName, Observation
        ] = {}  # by service; looked at also when nothing can begin
        for key, policy in alone.items():
            name = "/".join(key)
            with self._trouble(name, "service.unreadable"):
                observations[key] = self.reader.observe(policy, records, key in in_force)
                bracket = next(
                    (
                        policy
                        for policy in policies.values()
                        if policy.bracket is not None and key in policy.keys
                    ),
                    None,
                )
                if bracket is None:
                    observations[key] = self.supervisor.supervise(
                        observations[key], self.supervisor.rollouts.requests(), self.clock.now()
                    )
        for policy in policies.values():
            if (
                policy.bracket is not None
                and in_force.issuperset(policy.keys)
                and observations.keys() >= set(policy.keys)
            ):
                with self._trouble(f"{'/'.join(policy.key)} bracket", "bracket.unreadable"):
                    every = [observations[key] for key in policy.keys]
                    every = self.brackets.supervise(
                        policy, every, self.supervisor.rollouts.requests(), self.clock.now()
                    )
                    observations.update((observation.policy.key, observation) for observation in every)
        self._looks(observations, records)
        with self._trouble("alerts", "alerts.failed"):
            self._alerts(records, policies.values())
        for observation in observations.values():
            for at in range(len(observation.records)):
                record = observation.records[at]
                if _life(record) in self.active:
                    continue  # it ended in this very beat: the routes as seen are older than its end
                service = f" {observation.policy.service.name}" if record.rollout.is_bracket else ""
                name = f"{record.rollout.namespace}/{record.rollout.name}{service}"
                with self._trouble(f"{name} services", "tidying.failed"):
                    _put(
                        observations,
                        self.supervisor.clean_up(observation, observation.records[at], self.clock.now()),
                    )
                with self._trouble(f"{name} replicas", "scaling.failed"):
                    _put(
                        observations,
                        self.supervisor.after_end(observation, observation.records[at], self.clock.now()),
                    )
            with self._trouble(
                f"{observation.policy.service.namespace}/{observation.policy.service.name} records",
                "records.untidy",
            ):
                self.supervisor.retire(
                    observation,
                    lambda record: (
                        not any(self._untold(news, record) for news in record.rollout.announcements)
                    ),
                )

    def _looks(self, observations: Mapping[NamespacedName, Observation], records: Sequence[Record]) -> None:
        collected = {
            (announcement, notifier): delivered
            for announcement, notifier, delivered in self.postman.collect()
        }
        telemetry_is_up = True
        outages: list[str] = []  # of each rollout that was read, "" for none
        # Who waited in vain last time comes last, so that one slow query cannot keep the others blind.
        turns = {
            _life(record): record for observation in observations.values() for record in observation.records
        }
        for life, record in sorted(turns.items(), key=lambda turn: turn[0] in self.blind):
            name = f"{record.rollout.namespace}/{record.rollout.name}"
            with self._trouble(name, "look.failed"):
                if not record.rollout.phase.ended and observations.keys() >= set(record.rollout.keys):
                    record, telemetry_is_up = self._look(observations, record, telemetry_is_up, outages)
                    _put(observations, record)
            if telemetry_is_up and not _is_followed(record, records):
                with self._trouble(f"{name} promotion", "promotion.unwatched"):
                    record = self.promotions.look(record, self.clock.now())
                    _put(observations, record)
            with self._trouble(f"{name} announcements", "announcing.failed"):
                record = self._announce(record, collected)
                _put(observations, record)
            if record.rollout.phase.ended and life not in self.known_ended:
                self.known_ended.add(life)
                self.reconciler.forget(record)
                self.meter.ended(record)
        if outages:
            self._note("telemetry", "telemetry.unavailable", next(filter(None, outages), ""))
        # whose service has no policy any more, or cannot be read now: people are told nevertheless
        for record in records:
            if not observations.keys() & set(record.rollout.keys):
                with self._trouble(
                    f"{record.rollout.namespace}/{record.rollout.name} announcements", "announcing.failed"
                ):
                    self._announce(record, collected)

    def _look(
        self,
        observations: Mapping[NamespacedName, Observation],
        record: Record,
        telemetry_is_up: bool,
        outages: list[str],
    ) -> tuple[Record, bool]:
        rollout_observations = [observations[key] for key in record.rollout.keys]
        newer = [
            workload for workload in map(self.supervisor.newer, rollout_observations) if workload is not None
        ]
        if any(observation.unreadable for observation in rollout_observations):
            newer = []  # it could not begin
        context = LookContext(
            # The look notes what it has written to a route: what the beat goes on with is what it has read.
            tuple(replace(observation) for observation in rollout_observations),
            paused=any(observation.known.paused for observation in rollout_observations),
            newer=f"{newer[0].name} ({newer[0].version})" if newer else "",
        )
        began = perf_counter()
        try:
            record = self.reconciler.look(record, context, self.clock.now(), telemetry_is_up)
        finally:
            if telemetry_is_up:
                outages.append(context.outage)
                self.meter.telemetry(not context.outage)
                self.blind = self.blind | {_life(record)} if context.silent else self.blind - {_life(record)}
            self.meter.look(record, perf_counter() - began)
        return record, telemetry_is_up and not context.silent

    # ------------------------------------------------------------ telling

    def _announce(self, record: Record, collected: dict[tuple[str, str], bool]) -> Record:
        """Hands over what has not been delivered, and notes on the record what has."""
        rollout = record.rollout
        noted = tuple(self._noted(news, record, collected) for news in rollout.announcements)
        if noted != rollout.announcements:
            record = self.supervisor.rollouts.save(record.with_rollout(replace(rollout, announcements=noted)))
            for before, after in zip(rollout.announcements, noted, strict=True):
                for notifier in after.delivered[len(before.delivered) :]:
                    self.meter.delivered(notifier)
        for news in noted:
            if missing := self._untold(news, record):
                self.postman.offer(summarized(rollout, news), missing)
        return record

    def _untold(self, news: Announcement, record: Record) -> list[str]:
        """Who has not got it, and is still to be tried."""
        return [
            notifier
            for notifier in self._receivers(news, record)
            if notifier not in (*news.delivered, *news.given_up)
        ]

    def _noted(
        self, news: Announcement, record: Record, collected: dict[tuple[str, str], bool]
    ) -> Announcement:
        for notifier in self._receivers(news, record):
            if notifier in (*news.delivered, *news.given_up) or (news.id, notifier) not in collected:
                continue
            if collected[news.id, notifier]:
                news = replace(news, delivered=(*news.delivered, notifier))
            else:
                news = replace(news, given_up=(*news.given_up, notifier))
        return news

    def _receivers(self, news: Announcement, record: Record) -> tuple[str, ...]:
        return (EVENTS, *record.rollout.policy.notifiers_of(news.event))

    def _alerts(self, records: Sequence[Record], policies: Iterable[Policy]) -> None:
        """What should be firing: of each service the last rollback, until a later rollout of it succeeds (or
        its record is deleted, which acknowledges it); and what a rollout waits for people with, for as long
        as it does."""
        firing: dict[str, list[Announcement]] = {}
        # by service; of a bracket's rollback one of them is enough to keep it firing
        latest: dict[NamespacedName, Record] = {}
        for record in sorted(records, key=lambda r: r.rollout.ended or 0.0):
            if record.rollout.phase in (Phase.ROLLED_BACK, Phase.SUCCEEDED):
                latest.update(dict.fromkeys(record.rollout.keys, record))
        notifiers = {name for policy in policies for name in policy.notifiers}
        for record in (
            *{_life(record): record for record in latest.values()}.values(),
            *(r for r in records if not r.rollout.phase.ended),
        ):
            notifiers |= {*record.rollout.policy.notifiers}
            standing = STANDING.get(record.rollout.phase)
            news = next(
                (
                    announcement
                    for announcement in reversed(record.rollout.announcements)
                    if announcement.event == standing
                ),
                None,
            )
            if news is not None:
                for notifier in self._receivers(news, record):
                    firing.setdefault(notifier, []).append(summarized(record.rollout, news))
        for notifier in sorted(notifiers):
            self.postman.keep_firing(notifier, firing.get(notifier, []))

    # ------------------------------------------------------------ trouble

    @contextmanager
    def _trouble(self, name: str, event: str) -> Iterator[None]:
        """Tells what does not work when it begins, changes and ends; never at every beat."""
        try:
            yield
        except Conflict as error:
            # someone wrote in between: the next beat reads it
            log.info("write.outdated", name=name, reason=str(error))
            return
        except (Unavailable, Rejected) as error:
            self._note(name, event, str(error))
            return
        except Exception:
            self.meter.broken()
            # a bug in one rollout must not stop the looks of the others
            log.exception("beat.broken", name=name)
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


def _put(observations: Mapping[NamespacedName, Observation], record: Record) -> None:
    """The record as it is now, for each service that it is about."""
    for key in record.rollout.keys:
        records = observations[key].records if key in observations else []
        for place, other in enumerate(records):
            if _life(other) == _life(record):
                records[place] = record


def _is_followed(record: Record, records: Sequence[Record]) -> bool:
    """Whether a later rollout of one of its services has begun: an alert may be about that one then, and it
    looks at alerts itself."""
    keys, began = set(record.rollout.keys), record.rollout.began
    return any(keys & set(other.rollout.keys) and other.rollout.began > began for other in records)


def _life(record: Record) -> str:
    """One rollout, told apart from an earlier one of the same name whose record was deleted."""
    return f"{record.rollout.namespace}/{record.rollout.name}/{record.rollout.began}"
