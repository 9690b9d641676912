"""What the cluster says of a rollout: whether its versions are there and ready, and whether its routes are as
canaryd left them.

Of a bracket, each service is asked: it begins when all canaries are available and all routes can be steered;
one that is not ready sends all back, one stable version that is down, or one route that someone else changed,
holds all.
"""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from canaryd.control import route_sync
from canaryd.control.look_context import LookContext, with_load_warnings
from canaryd.control.observation import Observation
from canaryd.control.route_sync import LIVE, STEERED
from canaryd.control.signal_guard import apply_signal, with_reason
from canaryd.domain.lifecycle import Detail, Signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, Rejected, Traffic, Unavailable, Workload
from canaryd.domain.rollout import Held, Phase, Rollout, ServiceRollout
from canaryd.routing import route_lists

log = structlog.get_logger()

_CHANGED = "someone else changed"
# seconds without any ready replica: longer than a node's hiccup, short for the users it fails
PATIENCE = 15.0


class CannotSteer(ValueError):
    """Why a rollout has to wait, though its versions are available."""


def workloads(rollout: Rollout, context: LookContext, now: float, traffic: Traffic) -> Rollout:
    """The rollout after what its Deployments say. traffic: to prepare the routes by, once all are
    available."""
    for service, observation in context.each(rollout):
        rollout = _stable_changed(rollout, service, observation, now)
    canaries = [
        (service, observation.workload(service.canary_workload))
        for service, observation in context.each(rollout)
        if observation.is_listed
    ]
    for service, canary in canaries:
        if canary is None:
            return apply_signal(
                rollout, Signal.NOT_READY, now, Detail(f"the Deployment {service.canary_workload} is gone")
            )
    if rollout.phase not in (Phase.WAITING, *LIVE):
        return rollout
    there = [(service, canary) for service, canary in canaries if canary is not None]
    for service, canary in there:
        if canary.template != service.template:
            reason = f"{canary.name} runs another template than the one that is rolled out"
            return apply_signal(
                rollout, Signal.NOT_READY, now, Detail(reason), context if canary.ready else None
            )
    if rollout.phase is Phase.WAITING:
        return _waiting(rollout, [canary for _, canary in there], context, now, traffic)
    down = context.not_serving(rollout)
    if rollout.held is Held.STABLE_NOT_READY and not down:
        rollout = apply_signal(
            rollout, Signal.STABLE_UP, now, Detail(f"{rollout.for_display.stable_workload} is ready again")
        )
    elif rollout.stage >= 0 and rollout.weight < 100 and down:
        reason = f"no replica of {down} is ready, so there is nothing to compare with and no way back"
        rollout = apply_signal(rollout, Signal.STABLE_DOWN, now, Detail(reason))
    for _, canary in there:
        if canary.failed:
            reason = f"{canary.name} is not available: {canary.failed}"
            return apply_signal(
                rollout, Signal.NOT_READY, now, Detail(reason), context if canary.ready else None
            )
    return _unready(rollout, context, now)


def _stable_changed(
    rollout: Rollout, service: ServiceRollout, observation: Observation, now: float
) -> Rollout:
    stable = observation.workload(service.stable_workload)
    if stable is None or stable.template == service.stable_template:
        return rollout
    version = rollout.version_name(service, service.stable)
    reason = f"the stable version's template changed, so {version} is compared anew"
    services = rollout.with_service(replace(service, stable_template=stable.template)).services
    after = apply_signal(rollout, Signal.STABLE_CHANGED, now, Detail(reason, services=services))
    if after is not rollout:  # else the signal means nothing in this phase
        log.info(
            "stable.changed",
            service=service.name,
            namespace=service.namespace,
            rollout=rollout.name,
            reason=reason,
        )
    return after


def _unready(rollout: Rollout, context: LookContext, now: float) -> Rollout:
    """Without any ready replica for a while, a version is given up."""
    for service, observation in context.each(rollout):
        canary = observation.workload(service.canary_workload)
        if canary is None or canary.ready > 0 or rollout.stage < 0:
            rollout = rollout.with_service(replace(service, unready_since=None))
            continue
        since = service.unready_since if service.unready_since is not None else now
        rollout = rollout.with_service(replace(service, unready_since=since))
        if now - since >= PATIENCE:
            reason = (
                f"no replica of {canary.name} has been ready for {now - since:.0f} s ({canary.desired} "
                "wanted)"
            )
            return apply_signal(rollout, Signal.NOT_READY, now, Detail(reason))
    return rollout


# ---------------------------------------------------------------- before the first stage


def _waiting(
    rollout: Rollout, canaries: Sequence[Workload], context: LookContext, now: float, traffic: Traffic
) -> Rollout:
    for canary in canaries:
        if canary.failed:
            return apply_signal(
                rollout,
                Signal.NOT_READY,
                now,
                Detail(f"{canary.name} did not become available: {canary.failed}"),
            )
    if not all(canary.available for canary in canaries) or context.paused:
        return rollout
    are = f"{rollout.for_display.canary_workload} {'are' if rollout.is_bracket else 'is'} available"
    if rollout.policy.mode == "observe":
        return apply_signal(
            rollout, Signal.AVAILABLE, now, Detail(f"{are}; observing, the route stays as it is")
        )
    for service, observation in context.each(rollout):
        try:
            rollout = rollout.with_service(
                _prepared(service, rollout.policy_of(service), observation, traffic)
            )
        except CannotSteer as error:
            return with_reason(rollout, f"waiting: {rollout.prefix(service)}{error}")
    reason = with_load_warnings(are, rollout, context, 0)
    return apply_signal(rollout, Signal.AVAILABLE, now, Detail(reason), context)


def _prepared(
    service: ServiceRollout, policy: Policy, observation: Observation, traffic: Traffic
) -> ServiceRollout:
    """The service with what its route is steered from. policy: its own.

    Raises CannotSteer where it cannot be steered, Unavailable and Conflict where it is tried again.
    """
    if observation.view is None:
        raise CannotSteer(observation.problem)
    try:
        found = route_lists.stable_version(observation.view)
        if found != service.stable:
            raise CannotSteer(
                f"the route went to {service.stable} when this rollout began, and goes to {found} now; put "
                "it back, or abort"
            )
        subset = traffic.add_subset(policy, service.canary)
        view = observation.view
        observation.view = replace(view, subsets={**view.subsets, subset: service.canary})
        route_lists.check(policy, observation.view, subset)
    except (Unavailable, Conflict):
        raise
    except (Rejected, route_lists.Refusal) as error:
        raise CannotSteer(str(error)) from error
    lists = observation.view.lists
    origin = route_lists.without_own_cookies(lists)
    # What was added by a rollout whose record was deleted is no one's edit, and goes with the first write.
    left = None if route_lists.same(origin, lists) else lists
    return service.with_route(canary_subset=subset, origin=origin, confirmed=left)


# ---------------------------------------------------------------- drift


def drift(rollout: Rollout, context: LookContext, now: float) -> Rollout:
    """What is there was neither wanted nor confirmed, so someone else put it there."""
    if (
        rollout.phase not in STEERED
        or rollout.stage < 0
        or rollout.policy.mode == "observe"
        or not rollout.entrance.route.origin
    ):
        return rollout
    known = [
        (service, observation)
        for service, observation in context.each(rollout)
        if not observation.is_route_unread
    ]
    changed = [
        (service, observation, what)
        for service, observation in known
        if (what := route_sync.drift(rollout, service, observation.view, observation.problem))
    ]
    if not changed and len(known) < len(rollout.services):
        context.drifted = rollout.held is Held.DRIFT  # whether that is undone is not known
        return rollout
    if not changed:
        return (
            apply_signal(rollout, Signal.DRIFT_OVER, now, Detail("the route is as canaryd left it again"))
            if rollout.held is Held.DRIFT
            else rollout
        )
    foreign = [
        (service, what)
        for service, observation, what in changed
        if not route_sync.is_restorable(rollout, service, observation.view)
    ]
    if not foreign:
        return rollout  # the edits are put back with what is due
    context.drifted = True
    service, what = foreign[0]
    route = f"the route of {service.name}" if rollout.is_bracket else "the route"
    reason = f"{_CHANGED} {route}: {what}"
    if rollout.held is Held.DRIFT and rollout.reason.startswith(_CHANGED):
        # what it is now: a route that was gone, say, is there again as a repository has it
        return with_reason(rollout, reason)
    return apply_signal(rollout, Signal.DRIFT, now, Detail(reason))
