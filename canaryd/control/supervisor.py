"""Which rollouts exist: what is new begins one, what ended is scaled and retired, what is known stays in
peace.

Only a template that is not known begins a rollout by itself. Known is what was there when canaryd first saw
the service, what stable runs, and what was ever judged; it is kept apart from the rollouts' records, which
are trimmed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from canaryd.control.observation import Observation
from canaryd.control.promotion_watch import GRACE, is_alerted, watched_seconds
from canaryd.domain import announcements
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Gathering, Missing, Rejected, Request, Rollouts, Traffic, Workload, Workloads
from canaryd.domain.rollout import (
    MOST_ATTEMPTS,
    ActionRequest,
    Phase,
    Record,
    Rollout,
    ServiceRollout,
    name_of,
    together,
)
from canaryd.routing import route_lists

log = structlog.get_logger()

# seconds after an end until what served the version is removed or scaled: proxies still hold requests that
# they sent there
SETTLED = 15.0


def key_of(workload: Workload) -> str:
    """The name under which a Deployment's version and template are known: `v2/5d4f9c7b66`."""
    return f"{workload.version}/{workload.template}"


class CannotBegin(ValueError):
    """Why a version cannot be rolled out now, in words for whoever wants it."""


@dataclass
class Supervisor:
    """Begins rollouts of single services, and clears up after those that have ended.

    keep: records of ended rollouts that are kept for each service.
    """

    workloads: Workloads
    traffic: Traffic
    rollouts: Rollouts
    keep: int = 10
    # as last told, so that each is told once
    problems: dict[tuple[str, str], str] = field(default_factory=dict)

    def newer(self, observation: Observation) -> Workload | None:
        """The version that the rollout under way gives way to: the youngest of the unknown ones that could
        begin at all."""
        if observation.unreadable or observation.known.paused or not observation.in_force:
            return None
        versions = Counter(w.version for w in observation.workloads)
        return youngest(w for w in self.unknown(observation) if versions[w.version] == 1)

    def unknown(self, observation: Observation) -> list[Workload]:
        """The versions that are new."""
        stable = self.stable(observation)
        on_record = {(service.canary, service.template) for _, service in observation.rollouts}
        return [
            w
            for w in observation.workloads
            if key_of(w) not in observation.known.templates
            and not w.ignored
            and w.desired > 0
            and w.version != stable
            and (w.version, w.template) not in on_record
        ]

    # ------------------------------------------------------------ beginning

    def supervise(self, observation: Observation, requests: Sequence[Request], now: float) -> Observation:
        """Begins what is to begin. Returns what is seen after that. Raises Rejected when something of the
        service cannot be read."""
        if observation.unreadable:
            raise Rejected(observation.unreadable)
        if not observation.known.resource_version:
            return self.first_sight(observation)
        observation = self.remember_seen(observation)
        for request in requests:
            if (request.namespace, request.service) == observation.policy.key:
                observation = self.requested(observation, request, now, observation.active)
        if observation.active is not None or observation.known.paused:
            return self.tell_problem(observation, "")
        problem = observation.problem
        for begin in (
            self.retries,
            self._begin_newest,
            self._apart,
        ):  # what keeps one from beginning does not keep the other
            try:
                observation = begin(observation, now)
            except CannotBegin as error:
                problem = str(error)
        if (
            not problem
            and observation.view is not None
            and observation.active is None
            and observation.policy.mode != "observe"
        ):
            problem = route_lists.leftover_problem(observation.view, observation.policy.service.name)
        return self.tell_problem(observation, problem)

    def _begin_newest(self, observation: Observation, now: float) -> Observation:
        """Of several unknown versions the youngest begins; the others were overtaken, and are no news any
        more."""
        unknown = self.unknown(observation)
        newest = youngest(unknown)
        if newest is None or observation.active is not None:
            return observation
        service = self.planned(observation, newest)
        rollout = new_rollout(observation.policy, [service], now)
        return self.begin(self.without_overtaken(observation, newest), rollout, now)

    def without_overtaken(self, observation: Observation, newest: Workload) -> Observation:
        """Remembered before the newest begins: after a crash in between, none of them supersedes the one that
        overtook it."""
        overtaken = [w for w in self.unknown(observation) if w is not newest]
        if not overtaken:
            return observation
        log.info(
            "versions.overtaken",
            service=observation.policy.service.name,
            namespace=observation.policy.service.namespace,
            by=newest.version,
            versions=sorted(w.version for w in overtaken),
        )
        return self.remember(observation, {key_of(w) for w in overtaken})

    def first_sight(self, observation: Observation) -> Observation:
        """Notes the versions that exist when canaryd first sees a service: they are not rolled out, the next
        new one is."""
        # nothing of the service is here yet, or the selector is wrong: what comes first then is not new
        # either
        if not observation.workloads:
            chosen = ", ".join(
                f"{label}={value}" for label, value in observation.policy.service.selector.items()
            )
            self._tell(
                observation,
                f"no Deployment in {observation.policy.service.namespace} has pods labelled {chosen} "
                "(service.selector)",
            )
            return observation
        known = replace(observation.known, templates=frozenset(key_of(w) for w in observation.workloads))
        log.info(
            "service.first_seen",
            service=observation.policy.service.name,
            namespace=observation.policy.service.namespace,
            known=sorted(known.templates),
            hint="what is there now is not new; `canaryd start` rolls one of them out",
        )
        return replace(observation, known=self.rollouts.remember(observation.policy, known))

    def remember_seen(self, observation: Observation) -> Observation:
        """What stable runs is not new, also when it was changed in place; nor is what has a record, which may
        be deleted any time (and whose beginning may have ended in a crash before it was remembered)."""
        stable = self.stable(observation)
        there = {key_of(w) for w in observation.workloads if stable and w.version == stable}
        fresh = (
            there.union(*(_keys_of(*on_record) for on_record in observation.rollouts))
            - observation.known.templates
        )
        return self.remember(observation, fresh) if fresh or observation.known.outdated else observation

    def remember(self, observation: Observation, keys: set[str]) -> Observation:
        """With these templates and attempts among those that are known."""
        known = replace(observation.known, templates=observation.known.templates | keys)
        return replace(observation, known=self.rollouts.remember(observation.policy, known))

    def stable(self, observation: Observation) -> str:
        """The stable version's label, or "" where the route does not say (then nothing begins, and `_begin`
        says why)."""
        if observation.active is not None:
            return observation.active.rollout.service_of(observation.policy.key).stable
        if observation.view is None:
            return ""
        try:
            return route_lists.stable_version(observation.view)
        except route_lists.Refusal:
            return ""

    def planned(self, observation: Observation, canary: Workload) -> ServiceRollout:
        """The service with this version as its canary, for a rollout to begin with. Raises CannotBegin."""
        policy = observation.policy
        if observation.view is None:
            raise CannotBegin(observation.problem)
        try:
            stable_version = route_lists.stable_version(observation.view)
        except route_lists.Refusal as error:
            raise CannotBegin(str(error)) from error
        stable = _only(observation.workloads, stable_version, policy)
        if canary.version == stable_version:
            raise CannotBegin(f"{canary.version} is the stable version already")
        _only(observation.workloads, canary.version, policy)
        return ServiceRollout(
            namespace=policy.service.namespace,
            name=policy.service.name,
            stable=stable.version,
            canary=canary.version,
            stable_workload=stable.name,
            canary_workload=canary.name,
            template=canary.template,
            stable_template=stable.template,
        )

    def begin(
        self, observation: Observation, rollout: Rollout, now: float, asked_by: str = ""
    ) -> Observation:
        """Puts it on record; what is seen of its service after that. What is new of the others is remembered
        by `noted`. asked_by: who asked for it and why, as the announcement says it; "" where nobody did."""
        names = rollout.for_display
        reason = (
            f"{names.canary_workload} {'are' if rollout.is_bracket else 'is'} new beside "
            f"{names.stable_workload}: {rollout.reason}{f'; {asked_by}' if asked_by else ''}"
        )
        rollout = announcements.announced(rollout, "started", now, reason)
        record = self.rollouts.create(Record(rollout))
        log.info(
            "rollout.started",
            service=rollout.entrance.name,
            namespace=rollout.namespace,
            rollout=rollout.name,
            stable=names.stable,
            canary=names.canary,
            template=rollout.entrance.template,
            mode=rollout.policy.mode,
        )
        return self.noted(observation, record)

    def noted(self, observation: Observation, record: Record) -> Observation:
        """With a rollout that has begun among its service's."""
        observation = self.remember(
            observation, _keys_of(record.rollout, record.rollout.service_of(observation.policy.key))
        )
        return replace(observation, records=[*observation.records, record])

    def requested(
        self, observation: Observation, request: Request, now: float, active: Record | None
    ) -> Observation:
        """`canaryd start`: any version that is there, known or not, unless a rollout is under way
        (`active`)."""
        if observation.known.paused:
            return observation
        try:
            rollout = self._requested_rollout(observation, request, now, active)
        except CannotBegin as error:
            log.warning(
                "request.refused", service=request.service, version=request.version, reason=str(error)
            )
            self.rollouts.refuse(request, str(error))
            return observation
        return self.begin(observation, rollout, now, asked_by(request.asked, "started"))

    def _requested_rollout(
        self, observation: Observation, request: Request, now: float, active: Record | None
    ) -> Rollout:
        if active is not None:
            raise CannotBegin(f"{active.rollout.name} is under way: abort it first, or wait")
        canary = _only(observation.workloads, request.version, observation.policy)
        service, attempt = self.planned(observation, canary), _attempt_of(request, canary)
        return new_rollout(observation.policy, [service], now, attempt, request.name)

    def retries(self, observation: Observation, now: float) -> Observation:
        """`canaryd retry` raises an ended record's attempt: a new attempt is a new record. Raises
        CannotBegin."""
        for record in reversed(observation.records):
            rollout, attempt = record.rollout, record.wishes.attempt
            if rollout.is_bracket:
                continue  # several services are the bracket's to begin: see bracket_supervisor.py
            service = rollout.entrance
            name = name_of(service.name, service.canary, service.template, attempt)
            begun = (
                any(earlier.rollout.name == name for earlier in observation.records)
                or attempt_key(service, attempt) in observation.known.templates
            )
            overtaken = is_overtaken(rollout, observation)
            if attempt <= rollout.attempt or begun or overtaken or service.canary == self.stable(observation):
                continue
            canary = next(
                (
                    w
                    for w in observation.workloads
                    if (w.version, w.template) == (service.canary, service.template)
                ),
                None,
            )
            if canary is None:
                continue  # that template is gone; a changed one is a new version
            again = new_rollout(observation.policy, [self.planned(observation, canary)], now, attempt)
            return self.begin(
                observation, again, now, asked_by(record.wishes.request("retry"), "tried again")
            )
        return observation

    def _apart(self, observation: Observation, now: float) -> Observation:
        """Says why a bracket's rollout, if it is the latest, is not tried again: the service's policy is its
        own alone now. Raises CannotBegin."""
        for record in observation.records[-1:] if observation.active is None else ():
            rollout, attempt = record.rollout, record.wishes.attempt
            is_begun = (
                attempt_key(rollout.service_of(observation.policy.key), attempt)
                in observation.known.templates
            )
            if rollout.is_bracket and attempt > rollout.attempt and not is_begun:
                raise CannotBegin(cannot_retry(record, observation.policy, rollout.keys))
        return observation

    def _tell(self, observation: Observation, problem: str) -> None:
        """Once, when it begins or changes."""
        if problem != self.problems.get(observation.policy.key, ""):
            self.problems[observation.policy.key] = problem
            if problem:
                log.warning(
                    "rollout.refused",
                    service=observation.policy.service.name,
                    namespace=observation.policy.service.namespace,
                    reason=problem,
                )

    def tell_problem(
        self, observation: Observation, problem: str, gathering: Gathering | None = None
    ) -> Observation:
        """Notes why nothing can begin, and what does not begin yet."""
        self._tell(observation, problem)
        known = replace(observation.known, problem=problem, gathering=gathering)
        return (
            replace(observation, known=self.rollouts.remember(observation.policy, known))
            if known != observation.known
            else observation
        )

    # ------------------------------------------------------------ after the end

    def after_end(self, observation: Observation, record: Record, now: float) -> Record:
        """Scales what the policy wants scaled of the service after an end, once, and only while nothing is
        routed to it."""
        rollout, service = record.rollout, record.rollout.service_of(observation.policy.key)
        if not rollout.phase.ended or service.scaled or rollout.ended is None:
            return record
        name, version, replicas, after = to_scale(rollout, service)
        if name and (now - rollout.ended < max(after, _kept_seconds(rollout)) or observation.view is None):
            return record
        if name and is_alerted(rollout):
            # A person may want to go back to it: what an alert is about is for them to say.
            log.warning(
                "workload.kept",
                service=service.name,
                namespace=service.namespace,
                rollout=rollout.name,
                deployment=name,
                reason="an alert began to fire after the promotion",
            )
        elif name and self._is_idle(observation, version):
            try:
                self.workloads.scale(service.namespace, name, replicas)
                log.info(
                    "workload.scaled",
                    service=service.name,
                    namespace=service.namespace,
                    rollout=rollout.name,
                    deployment=name,
                    replicas=replicas,
                )
            except Missing:
                log.info(
                    "workload.gone",
                    service=service.name,
                    namespace=service.namespace,
                    rollout=rollout.name,
                    deployment=name,
                )
        return self._saved(record, replace(service, scaled=True))

    def clean_up(self, observation: Observation, record: Record, now: float) -> Record:
        """Removes what was made so that a version of the service could be routed to, once nothing is: after a
        rollback the canary's, after a success stable's. Noted only when done, so a crash or an outage in
        between tries it again."""
        rollout, service = record.rollout, record.rollout.service_of(observation.policy.key)
        policy = rollout.policy_of(service)
        if (
            not (policy.route.http_route or policy.fair_services)
            or service.cleaned_up
            or not _is_settled(rollout, now)
        ):
            return record
        # Of a later rollout, too, that is under way or has only just ended.
        keep = {
            version
            for other, own in observation.rollouts
            if not _is_settled(other, now)
            for version in (own.canary, own.stable)
        }
        if keep and policy.fair_services:
            # the later one may use what was made for matched users, and cleans up nothing where it does not
            return record
        for name in self.traffic.clean_up(policy, keep):
            log.info(
                "service.removed",
                service=service.name,
                namespace=service.namespace,
                rollout=rollout.name,
                name=name,
            )
        return self._saved(record, replace(service, cleaned_up=True))

    def _saved(self, record: Record, service: ServiceRollout) -> Record:
        return self.rollouts.save(record.with_rollout(record.rollout.with_service(service)))

    def _is_idle(self, observation: Observation, version: str) -> bool:
        """No route sends anything to the version, and no rollout is about it."""
        if observation.view is None or any(
            version in (service.canary, service.stable)
            for rollout, service in observation.rollouts
            if not rollout.phase.ended
        ):
            return False
        return version not in route_lists.versions(observation.view)

    def retire(self, observation: Observation, is_delivered: Callable[[Record], bool]) -> None:
        """Keeps the last records of a service; those whose announcements are still under way (not `told`)
        stay. A bracket's are its first service's."""
        ended = [
            r
            for r in observation.records
            if r.rollout.phase.ended and r.rollout.keys[0] == observation.policy.key
        ]
        for record in filter(is_delivered, ended[: max(0, len(ended) - self.keep)]):
            log.info(
                "rollout.retired",
                service=record.rollout.entrance.name,
                namespace=record.rollout.namespace,
                rollout=record.rollout.name,
            )
            self.rollouts.delete(record)


def _is_settled(rollout: Rollout, now: float) -> bool:
    """Whether nothing may need any more what served its versions: requests under way, or whoever goes back
    for an alert that is watched for."""
    return rollout.phase.ended and rollout.ended is not None and now - rollout.ended >= _kept_seconds(rollout)


def _kept_seconds(rollout: Rollout) -> float:
    watched = watched_seconds(rollout)
    return max(SETTLED, watched + GRACE if watched else 0.0)


def new_rollout(
    policy: Policy, services: Sequence[ServiceRollout], now: float, attempt: int = 1, name: str = ""
) -> Rollout:
    """The rollout of these services, callers first, not yet on record. policy: of exactly these; name: ""
    for the usual one of the first service's canary and attempt."""
    entrance = services[0]
    rollout = Rollout(
        name=name or name_of(entrance.name, entrance.canary, entrance.template, attempt),
        policy=policy,
        services=tuple(services),
        began=now,
        attempt=attempt,
        phase_since=now,
    )
    are = "are" if rollout.is_bracket else "is"
    return replace(rollout, reason=f"waiting until {rollout.for_display.canary_workload} {are} available")


def is_overtaken(rollout: Rollout, observation: Observation) -> bool:
    """Whether a later rollout of the service has succeeded."""
    return any(
        other.phase is Phase.SUCCEEDED and other.began > rollout.began for other, _ in observation.rollouts
    )


def to_scale(rollout: Rollout, service: ServiceRollout) -> tuple[str, str, int, float]:
    """Of a service after the end: Deployment, version, replicas, and seconds after the end; the Deployment is
    "" where nothing is scaled."""
    policy = rollout.policy
    if policy.mode == "observe":
        return "", "", 0, 0.0
    if rollout.phase is Phase.SUCCEEDED and policy.promotion.retire_stable is not None:
        retire = policy.promotion.retire_stable
        return service.stable_workload, service.stable, retire.scale_to, retire.after
    if rollout.phase is Phase.ROLLED_BACK and policy.rollback.scale_canary_to is not None:
        return service.canary_workload, service.canary, policy.rollback.scale_canary_to, policy.rollback.after
    return "", "", 0, 0.0


def asked_by(request: ActionRequest, action: str) -> str:
    """`tried again by alice: the database is back`; "" where it is not known who asked or why."""
    return request.sentence(action) if request.by or request.reason else ""


def _attempt_of(request: Request, canary: Workload) -> int:
    """Which attempt the request's name stands for: `canaryd start` takes the first name of a template that is
    free."""
    names = (
        name_of(request.service, canary.version, canary.template, attempt)
        for attempt in range(1, MOST_ATTEMPTS + 1)
    )
    return next((attempt for attempt, name in enumerate(names, start=1) if name == request.name), 1)


def youngest(workloads: Iterable[Workload]) -> Workload | None:
    """The Deployment that was created last; None where there is none."""
    return max(workloads, key=lambda w: (w.created, w.name), default=None)


def _keys_of(rollout: Rollout, service: ServiceRollout) -> set[str]:
    return {
        f"{service.canary}/{service.template}",
        attempt_key(service, rollout.attempt),
        rollout.retries,
    } - {""}


def attempt_key(service: ServiceRollout, attempt: int) -> str:
    """The name under which a begun attempt at a service's canary is remembered, so that deleting its record
    does not begin it again."""
    return f"{service.canary}/{service.template}#{attempt}"


def cannot_retry(record: Record, policy: Policy, missing: Sequence[NamespacedName]) -> str:
    """Why a rollout of several services is not tried again under a policy: for want of these of them."""
    rollout = record.rollout
    not_tried = f"{rollout.name} is not tried again as attempt {record.wishes.attempt}"
    if apart := [service for service in missing if service not in policy.keys]:
        return (
            f"{not_tried}: {together('/'.join(service) for service in apart)} "
            f"{'is' if len(apart) == 1 else 'are'} in no bracket with {policy.service.name} any more; put "
            "the bracket back into the policy, or begin each version by itself: canaryd start "
            f"{policy.service.name} "
            f"{rollout.service_of(policy.key).canary if policy.key in rollout.keys else 'VERSION'}"
        )
    gone = [f"{service.name} {service.canary}" for service in map(rollout.service_of, missing)]
    return (
        f"{not_tried}: {together(gone)} {'is' if len(gone) == 1 else 'are'} not there as then (gone, changed "
        "or scaled to 0); put back what was tried, or deploy newer versions"
    )


def _only(workloads: Sequence[Workload], version: str, policy: Policy) -> Workload:
    """The one Deployment of a version."""
    found = [w for w in workloads if w.version == version]
    label = f"{policy.service.version_label}={version}"
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(sorted(w.name for w in found))
        raise CannotBegin(
            f"one Deployment with the pod label {label} was wanted, but {names} have it: give each version "
            "its own"
        )
    there = ", ".join(sorted(w.version for w in workloads)) or "none"
    raise CannotBegin(
        f"no Deployment of {policy.service.name} has the pod label {label} (there are: {there})"
    )
