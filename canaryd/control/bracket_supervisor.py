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
def _of(observation: Observation) -> Iterator[None]:
    """Says whose it is that cannot begin."""
    try:
        yield
    except CannotBegin as error:
        raise _Cannot(observation.policy.key, str(error)) from error


def _noted(observations: Sequence[Observation]) -> Gathering | None:
    """The latest, where a crash came between the notes of two services."""
    return max(
        (
            observation.known.gathering
            for observation in observations
            if observation.known.gathering is not None
        ),
        key=lambda gathering: gathering.since,
        default=None,
    )


def _active(observations: Sequence[Observation]) -> Record | None:
    return next((observation.active for observation in observations if observation.active is not None), None)


@dataclass
class BracketSupervisor:
    """Since when new versions are gathered is noted of each service, so a restart gathers on. By a
    Deployment's age it could not be told, since one that is changed in place is old."""

    supervisor: Supervisor

    def supervise(
        self, policy: Policy, observations: Sequence[Observation], requests: Sequence[Request], now: float
    ) -> list[Observation]:
        """Begins what is to begin of a bracket's services, seen in its order. Returns what is seen after
        that. Raises Rejected when something of one cannot be read."""
        supervisor = self.supervisor
        if unreadable := "; ".join(
            f"{observation.policy.service.name}: {observation.unreadable}"
            for observation in observations
            if observation.unreadable
        ):
            for observation in observations if _active(observations) is None else ():
                if (
                    observation.known.resource_version
                    and not observation.unreadable
                    and supervisor.unknown(observation)
                ):
                    supervisor.tell_problem(observation, unreadable, observation.known.gathering)
            raise Rejected(unreadable)
        unseen = [
            observation.policy.key for observation in observations if not observation.known.resource_version
        ]
        if unseen:
            observations = [
                supervisor.first_sight(observation) if observation.policy.key in unseen else observation
                for observation in observations
            ]
            there = [observation for observation in observations if observation.known.resource_version]
            if not there or any(observation.policy.key in unseen for observation in there):
                return observations  # what is there now is known from the next beat on
            # What comes first of a service is not new either, so the others do not wait for one that has no
            # Deployment yet.
            done = {
                observation.policy.key: observation
                for observation in self.supervise(policy, there, requests, now)
            }
            return [done.get(observation.policy.key, observation) for observation in observations]
        observations = [supervisor.remember_seen(observation) for observation in observations]
        observations = self._requested(
            observations, [request for request in requests if not request.begun], now
        )
        problems: dict[NamespacedName, str] = {}
        gathering = None
        if _active(observations) is None and any(observation.known.paused for observation in observations):
            gathering = _noted(observations)  # goes on meanwhile
        elif _active(observations) is None:
            problems = {observation.policy.key: observation.problem for observation in observations}
            gathering = self._gathering(policy, observations, now)
            is_stopped = gathering is not None and bool(gathering.says)
            for begin in (self._retries,) if is_stopped else (self._retries, self._gathered):
                try:
                    observations = begin(policy, observations, now)
                except _Cannot as error:
                    problems[error.key], is_stopped = str(error), True
            if _active(observations) is not None:
                gathering = None
            # What a crash left of a beginning names the first service alone: it is for the whole to begin
            # again, if that still can.
            elif not is_stopped:
                observations = self._requested(
                    observations, [request for request in requests if request.begun], now
                )
        return [
            supervisor.tell_problem(observation, problems.get(observation.policy.key, ""), gathering)
            for observation in observations
        ]

    def _requested(
        self, observations: list[Observation], requests: Sequence[Request], now: float
    ) -> list[Observation]:
        for request in requests:
            for place, observation in enumerate(observations):
                if (request.namespace, request.service) == observation.policy.key:
                    observations[place] = self.supervisor.requested(
                        observation, request, now, _active(observations)
                    )
        return observations

    def _retries(self, policy: Policy, observations: list[Observation], now: float) -> list[Observation]:
        """Each service's own alone, and those of the bracket. Of a bracket a version that came since goes in
        the place of the one that it has overtaken, and a service that was promoted since stays where it
        is."""
        for place, observation in enumerate(observations):
            with _of(observation):
                observations[place] = (
                    self.supervisor.retries(observation, now)
                    if _active(observations) is None
                    else observation
                )
        if _active(observations) is not None:
            return observations
        records = {
            record.rollout.name: record
            for observation in observations
            for record in observation.records
            if record.rollout.is_bracket
        }
        known = {observation.policy.key: observation.known.templates for observation in observations}
        refused: _Cannot | None = None
        for record in sorted(records.values(), key=lambda record: -record.rollout.began):
            rollout, attempt = record.rollout, record.wishes.attempt
            entrance = rollout.entrance
            name = name_of(entrance.name, entrance.canary, entrance.template, attempt)
            retry = attempt_key(entrance, attempt)
            is_begun = name in records or any(retry in known.get(key, ()) for key in rollout.keys)
            if attempt <= rollout.attempt or is_begun:
                continue
            overtaken = {
                observation.policy.key for observation in observations if is_overtaken(rollout, observation)
            }
            wanted = [key for key in rollout.keys if key not in overtaken]
            there = {
                key: workload for key, workload in self._there(observations, rollout).items() if key in wanted
            }
            versions = there | self._newest(observations)
            if wanted and versions.keys() >= set(wanted):
                asked = asked_by(record.wishes.request("retry"), "tried again")
                return self._begin(policy, observations, versions, now, attempt, retry, asked)
            of = next(
                (
                    observation
                    for observation in observations
                    if observation.records and observation.records[-1] is record
                ),
                None,
            )
            if wanted and of is not None:
                refused = _Cannot(
                    of.policy.key,
                    cannot_retry(record, policy, [key for key in wanted if key not in versions]),
                )
        if refused is not None:
            raise refused
        return observations

    def _gathering(self, policy: Policy, observations: Sequence[Observation], now: float) -> Gathering | None:
        """What waits for what; None where nothing is new. Kept when it is over too, since what keeps it from
        beginning may last."""
        newest = self._newest(observations)
        if not newest:
            return None
        # Of those that were superseded as well: their next versions may belong to the newer one, and the old
        # ones not go with it.
        awaited = [
            observation.policy.service.name
            for observation in observations
            if observation.policy.key not in newest
        ]
        gather = policy.bracket.gather if policy.bracket is not None else 0.0
        versions = frozenset(f"{'/'.join(key)} {key_of(workload)}" for key, workload in newest.items())
        noted = _noted(observations)
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

    def _gathered(self, policy: Policy, observations: list[Observation], now: float) -> list[Observation]:
        newest = self._newest(observations)
        if not newest or _active(observations) is not None:
            return observations
        return self._begin(policy, observations, self._taken_along(observations) | newest, now)

    def _newest(self, observations: Sequence[Observation]) -> dict[NamespacedName, Workload]:
        found = (
            (observation.policy.key, youngest(self.supervisor.unknown(observation)))
            for observation in observations
        )
        return {key: workload for key, workload in found if workload is not None}

    def _taken_along(self, observations: Sequence[Observation]) -> dict[NamespacedName, Workload]:
        """What was superseded last, where nothing has begun since."""
        records = [record for observation in observations for record in observation.records]
        last = max(records, key=lambda record: record.rollout.began, default=None)
        if last is None or last.rollout.phase is not Phase.SUPERSEDED or not last.rollout.is_bracket:
            return {}
        return self._there(observations, last.rollout)

    def _there(self, observations: Sequence[Observation], rollout: Rollout) -> dict[NamespacedName, Workload]:
        """The versions of a rollout that are still there as they were, and not promoted since."""
        canaries = {service.key: (service.canary, service.template) for service in rollout.services}
        return {
            observation.policy.key: workload
            for observation in observations
            for workload in observation.workloads
            if (workload.version, workload.template) == canaries.get(observation.policy.key)
            and not workload.ignored
            and workload.desired > 0
            and workload.version != self.supervisor.stable(observation)
        }

    def _begin(
        self,
        policy: Policy,
        observations: list[Observation],
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
        chosen = [observation for observation in observations if observation.policy.key in versions]
        services = []
        for observation in chosen:
            with _of(observation):
                services.append(self.supervisor.planned(observation, versions[observation.policy.key]))
        taken = {record.rollout.name for record in chosen[0].records}
        rollouts = (
            new_rollout(policy.among(versions), services, now, number)
            for number in range(attempt or 1, MOST_ATTEMPTS + 1)
        )
        rollout = next(rollout for rollout in rollouts if rollout.name not in taken)
        rollout = replace(rollout, retries=retries)
        for place, observation in enumerate(observations):
            if observation.policy.key in versions:
                observations[place] = self.supervisor.without_overtaken(
                    observation, versions[observation.policy.key]
                )
        first = next(
            place
            for place, observation in enumerate(observations)
            if observation.policy.key == rollout.keys[0]
        )
        observations[first] = self.supervisor.begin(observations[first], rollout, now, asked)
        record = observations[first].records[-1]
        return [
            self.supervisor.noted(observation, record)
            if place != first and observation.policy.key in versions
            else observation
            for place, observation in enumerate(observations)
        ]
