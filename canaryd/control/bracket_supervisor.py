"""When a bracket begins, and with which versions: those that are new at the same time.

A new version of any of its services begins the gathering; so long as the policy's `gather` says, new versions
of the others may come. Then it begins with those that have one; the others stay as they are, and are no part
of it. A newer version of a service under way supersedes the whole, and the versions that it takes along are
those that were superseded with it, since they belong together; unless newer ones of these come as well while
it gathers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from canaryd.control.observation import Observation
from canaryd.control.supervisor import (
    CannotBegin,
    Supervisor,
    asked_by,
    attempt_key,
    cannot_retry,
    is_overtaken,
    key_of,
    new_rollout,
    youngest,
)
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.units import format_duration
from canaryd.domain.ports import Gathering, Rejected, Request, Workload
from canaryd.domain.rollout import MOST_ATTEMPTS, Phase, Record, Rollout, name_of, together

log = structlog.get_logger()


class _Cannot(Exception):
    """Why a version of one service cannot be rolled out now."""

    def __init__(self, key: NamespacedName, why: str) -> None:
        super().__init__(why)
        self.key = key


@contextmanager
def _of(seen: Observation) -> Iterator[None]:
    """Says whose it is that cannot begin."""
    try:
        yield
    except CannotBegin as error:
        raise _Cannot(seen.policy.key, str(error)) from error


def _noted(every: Sequence[Observation]) -> Gathering | None:
    """The latest, where a crash came between the notes of two services."""
    return max(
        (seen.known.gathering for seen in every if seen.known.gathering is not None),
        key=lambda one: one.since,
        default=None,
    )


def _active(every: Sequence[Observation]) -> Record | None:
    return next((seen.active for seen in every if seen.active is not None), None)


@dataclass
class BracketSupervisor:
    """Since when new versions are gathered is noted of each service, so a restart gathers on. By a
    Deployment's age it could not be told, since one that is changed in place is old."""

    supervisor: Supervisor

    def supervise(
        self, policy: Policy, every: Sequence[Observation], requests: Sequence[Request], now: float
    ) -> list[Observation]:
        """Begins what is to begin of a bracket's services, seen in its order. Returns what is seen after
        that. Raises Rejected when something of one cannot be read."""
        supervisor = self.supervisor
        if unreadable := "; ".join(
            f"{seen.policy.service.name}: {seen.unreadable}" for seen in every if seen.unreadable
        ):
            for seen in every if _active(every) is None else ():
                if seen.known.resource_version and not seen.unreadable and supervisor.unknown(seen):
                    supervisor.tell_problem(seen, unreadable, seen.known.gathering)
            raise Rejected(unreadable)
        unseen = [seen.policy.key for seen in every if not seen.known.resource_version]
        if unseen:
            every = [supervisor.first_sight(seen) if seen.policy.key in unseen else seen for seen in every]
            there = [seen for seen in every if seen.known.resource_version]
            if not there or any(seen.policy.key in unseen for seen in there):
                return every  # what is there now is known from the next beat on
            # What comes first of a service is not new either, so the others do not wait for one that has no
            # Deployment yet.
            done = {seen.policy.key: seen for seen in self.supervise(policy, there, requests, now)}
            return [done.get(seen.policy.key, seen) for seen in every]
        every = [supervisor.remember_seen(seen) for seen in every]
        every = self._requested(every, [request for request in requests if not request.begun], now)
        problems: dict[NamespacedName, str] = {}
        gathering = None
        if _active(every) is None and any(seen.known.paused for seen in every):
            gathering = _noted(every)  # goes on meanwhile
        elif _active(every) is None:
            problems = {seen.policy.key: seen.problem for seen in every}
            gathering = self._gathering(policy, every, now)
            is_stopped = gathering is not None and bool(gathering.says)
            for begin in (self._retries,) if is_stopped else (self._retries, self._gathered):
                try:
                    every = begin(policy, every, now)
                except _Cannot as error:
                    problems[error.key], is_stopped = str(error), True
            if _active(every) is not None:
                gathering = None
            # What a crash left of a beginning names the first service alone: it is for the whole to begin
            # again, if that still can.
            elif not is_stopped:
                every = self._requested(every, [request for request in requests if request.begun], now)
        return [supervisor.tell_problem(seen, problems.get(seen.policy.key, ""), gathering) for seen in every]

    def _requested(
        self, every: list[Observation], requests: Sequence[Request], now: float
    ) -> list[Observation]:
        for request in requests:
            for place, seen in enumerate(every):
                if (request.namespace, request.service) == seen.policy.key:
                    every[place] = self.supervisor.requested(seen, request, now, _active(every))
        return every

    def _retries(self, policy: Policy, every: list[Observation], now: float) -> list[Observation]:
        """Each service's own alone, and those of the bracket. Of a bracket a version that came since goes in
        the place of the one that it has overtaken, and a service that was promoted since stays where it
        is."""
        for place, seen in enumerate(every):
            with _of(seen):
                every[place] = self.supervisor.retries(seen, now) if _active(every) is None else seen
        if _active(every) is not None:
            return every
        records = {
            record.rollout.name: record
            for seen in every
            for record in seen.records
            if record.rollout.is_bracket
        }
        known = {seen.policy.key: seen.known.templates for seen in every}
        refused: _Cannot | None = None
        for record in sorted(records.values(), key=lambda one: -one.rollout.began):
            rollout, attempt = record.rollout, record.wishes.attempt
            entrance = rollout.entrance
            name = name_of(entrance.name, entrance.canary, entrance.template, attempt)
            retry = attempt_key(entrance, attempt)
            is_begun = name in records or any(retry in known.get(key, ()) for key in rollout.keys)
            if attempt <= rollout.attempt or is_begun:
                continue
            overtaken = {seen.policy.key for seen in every if is_overtaken(rollout, seen)}
            wanted = [key for key in rollout.keys if key not in overtaken]
            there = {key: workload for key, workload in self._there(every, rollout).items() if key in wanted}
            versions = there | self._newest(every)
            if wanted and versions.keys() >= set(wanted):
                asked = asked_by(record.wishes.request("retry"), "tried again")
                return self._begin(policy, every, versions, now, attempt, retry, asked)
            of = next((seen for seen in every if seen.records and seen.records[-1] is record), None)
            if wanted and of is not None:
                refused = _Cannot(
                    of.policy.key,
                    cannot_retry(record, policy, [key for key in wanted if key not in versions]),
                )
        if refused is not None:
            raise refused
        return every

    def _gathering(self, policy: Policy, every: Sequence[Observation], now: float) -> Gathering | None:
        """What waits for what; None where nothing is new. Kept when it is over too, since what keeps it from
        beginning may last."""
        newest = self._newest(every)
        if not newest:
            return None
        # Of those that were superseded as well: their next versions may belong to the newer one, and the old
        # ones not go with it.
        awaited = [seen.policy.service.name for seen in every if seen.policy.key not in newest]
        gather = policy.bracket.gather if policy.bracket is not None else 0.0
        versions = frozenset(f"{'/'.join(key)} {key_of(workload)}" for key, workload in newest.items())
        noted = _noted(every)
        is_known = noted is not None and noted.versions == versions
        # now: the clock was set back
        since = min(noted.since, now) if noted is not None and is_known else now
        if not awaited or now - since >= gather:
            return Gathering(versions, since, "")
        names = sorted(workload.name for workload in newest.values())
        if not is_known:
            log.info(
                "bracket.gathers",
                service=policy.service.name,
                namespace=policy.service.namespace,
                versions=names,
                awaited=awaited,
            )
        wait = f"wait{'s' * (len(names) == 1)} up to {format_duration(gather)}"
        return Gathering(versions, since, f"{together(names)} {wait} for new versions of {together(awaited)}")

    def _gathered(self, policy: Policy, every: list[Observation], now: float) -> list[Observation]:
        newest = self._newest(every)
        if not newest or _active(every) is not None:
            return every
        return self._begin(policy, every, self._taken_along(every) | newest, now)

    def _newest(self, every: Sequence[Observation]) -> dict[NamespacedName, Workload]:
        found = ((seen.policy.key, youngest(self.supervisor.unknown(seen))) for seen in every)
        return {key: workload for key, workload in found if workload is not None}

    def _taken_along(self, every: Sequence[Observation]) -> dict[NamespacedName, Workload]:
        """What was superseded last, where nothing has begun since."""
        records = [record for seen in every for record in seen.records]
        last = max(records, key=lambda record: record.rollout.began, default=None)
        if last is None or last.rollout.phase is not Phase.SUPERSEDED or not last.rollout.is_bracket:
            return {}
        return self._there(every, last.rollout)

    def _there(self, every: Sequence[Observation], rollout: Rollout) -> dict[NamespacedName, Workload]:
        """The versions of a rollout that are still there as they were, and not promoted since."""
        canaries = {service.key: (service.canary, service.template) for service in rollout.services}
        return {
            seen.policy.key: workload
            for seen in every
            for workload in seen.workloads
            if (workload.version, workload.template) == canaries.get(seen.policy.key)
            and not workload.ignored
            and workload.desired > 0
            and workload.version != self.supervisor.stable(seen)
        }

    def _begin(
        self,
        policy: Policy,
        every: list[Observation],
        versions: Mapping[NamespacedName, Workload],
        now: float,
        attempt: int = 0,
        retries: str = "",
        asked: str = "",
    ) -> list[Observation]:
        """Begins with these versions; of one, as the rollout of a single service that it is. attempt: 0 takes
        the first that is free.
        retries: as of a Rollout, so that it is begun once, be the process to die before it is remembered.
        asked: who asked for it and why, as the announcement says it."""
        chosen = [seen for seen in every if seen.policy.key in versions]
        services = []
        for seen in chosen:
            with _of(seen):
                services.append(self.supervisor.planned(seen, versions[seen.policy.key]))
        taken = {record.rollout.name for record in chosen[0].records}
        rollouts = (
            new_rollout(policy.among(versions), services, now, number)
            for number in range(attempt or 1, MOST_ATTEMPTS + 1)
        )
        rollout = next(rollout for rollout in rollouts if rollout.name not in taken)
        rollout = replace(rollout, retries=retries)
        for place, seen in enumerate(every):
            if seen.policy.key in versions:
                every[place] = self.supervisor.without_overtaken(seen, versions[seen.policy.key])
        first = next(place for place, seen in enumerate(every) if seen.policy.key == rollout.keys[0])
        every[first] = self.supervisor.begin(every[first], rollout, now, asked)
        record = every[first].records[-1]
        return [
            self.supervisor.noted(seen, record) if place != first and seen.policy.key in versions else seen
            for place, seen in enumerate(every)
        ]
