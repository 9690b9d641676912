"""What the cluster says of a rollout: whether its versions are there and ready, and whether its routes are as
canaryd left them.

Of a bracket, each service is asked: it begins when all canaries are available and all routes can be steered;
one that is not ready sends all back, one stable version that is down, or one route that someone else changed,
holds all.
"""

from dataclasses import replace

import structlog

from canaryd.control import route_sync
from canaryd.control.rollout_state import LookContext, each, thin
from canaryd.control.route_sync import LIVE, STEERED
from canaryd.control.signal_guard import because, take
from canaryd.domain.lifecycle import Detail, Signal
from canaryd.domain.ports import Conflict, Rejected, Traffic, Unavailable, Workload
from canaryd.domain.rollout import Held, Phase, Rollout
from canaryd.routing import route_lists

log = structlog.get_logger()

_CHANGED = "someone else changed"
# seconds without any ready replica: longer than a node's hiccup, short for the users it fails
PATIENCE = 15.0


class CannotSteer(ValueError):
    """Why a rollout has to wait, though its versions are available."""


def workloads(rollout: Rollout, world: LookContext, now: float, traffic: Traffic) -> Rollout:
    """The rollout after what its Deployments say. traffic: to prepare the routes by, once all are
    available."""
    for place, (part, seen) in enumerate(each(rollout, world)):
        rollout = _stable_changed(rollout, place, part, seen, now)
    canaries = [
        (part, seen.workload(part.canary_workload)) for part, seen in each(rollout, world) if seen.is_listed
    ]
    for part, canary in canaries:
        if canary is None:
            return take(
                rollout, Signal.NOT_READY, now, Detail(f"the Deployment {part.canary_workload} is gone")
            )
    if rollout.phase not in (Phase.WAITING, *LIVE):
        return rollout
    there = [(part, canary) for part, canary in canaries if canary is not None]
    for part, canary in there:
        if canary.template != part.template:
            reason = f"{canary.name} runs another template than the one that is rolled out"
            return take(rollout, Signal.NOT_READY, now, Detail(reason), world if canary.ready else None)
    if rollout.phase is Phase.WAITING:
        return _waiting(rollout, [canary for _, canary in there], world, now, traffic)
    down = world.not_serving(rollout)
    if rollout.held is Held.STABLE and not down:
        rollout = take(
            rollout, Signal.STABLE_UP, now, Detail(f"{rollout.spoken.stable_workload} is ready again")
        )
    elif rollout.stage >= 0 and rollout.weight < 100 and down:
        reason = f"no replica of {down} is ready, so there is nothing to compare with and no way back"
        rollout = take(rollout, Signal.STABLE_DOWN, now, Detail(reason))
    for _, canary in there:
        if canary.failed:
            reason = f"{canary.name} is not available: {canary.failed}"
            return take(rollout, Signal.NOT_READY, now, Detail(reason), world if canary.ready else None)
    return _unready(rollout, world, now)


def _stable_changed(rollout: Rollout, place: int, part: Rollout, seen: LookContext, now: float) -> Rollout:
    stable = seen.workload(part.stable_workload)
    if stable is None or stable.template == part.stable_template:
        return rollout
    reason = (
        f"the stable version's template changed, so {_named(rollout, part, part.stable)} is compared anew"
    )
    changed = rollout.with_part(place, replace(part, stable_template=stable.template)) if place else rollout
    template = rollout.stable_template if place else stable.template
    after = take(changed, Signal.STABLE_CHANGED, now, Detail(reason, template=template))
    if after is changed:
        return rollout  # it means nothing now
    log.info(
        "stable.changed", service=part.service, namespace=part.namespace, rollout=rollout.name, reason=reason
    )
    return after


def _named(rollout: Rollout, part: Rollout, version: str) -> str:
    return f"{part.service} {version}" if rollout.others else version


def _unready(rollout: Rollout, world: LookContext, now: float) -> Rollout:
    """Without any ready replica for a while, a version is given up."""
    for place, (part, seen) in enumerate(each(rollout, world)):
        canary = seen.workload(part.canary_workload)
        if canary is None or canary.ready > 0 or rollout.stage < 0:
            rollout = (
                rollout
                if part.unready_since is None
                else rollout.with_part(place, replace(part, unready_since=None))
            )
            continue
        since = part.unready_since if part.unready_since is not None else now
        rollout = rollout.with_part(place, replace(part, unready_since=since))
        if now - since >= PATIENCE:
            reason = (
                f"no replica of {canary.name} has been ready for {now - since:.0f} s ({canary.desired} "
                "wanted)"
            )
            return take(rollout, Signal.NOT_READY, now, Detail(reason))
    return rollout


# ---------------------------------------------------------------- before the first stage


def _waiting(
    rollout: Rollout, canaries: list[Workload], world: LookContext, now: float, traffic: Traffic
) -> Rollout:
    for canary in canaries:
        if canary.failed:
            return take(
                rollout,
                Signal.NOT_READY,
                now,
                Detail(f"{canary.name} did not become available: {canary.failed}"),
            )
    if not all(canary.available for canary in canaries) or world.paused:
        return rollout
    are = f"{rollout.spoken.canary_workload} {'are' if rollout.others else 'is'} available"
    if rollout.policy.mode == "observe":
        return take(rollout, Signal.AVAILABLE, now, Detail(f"{are}; observing, the route stays as it is"))
    for place, (part, seen) in enumerate(each(rollout, world)):
        try:
            rollout = rollout.with_part(place, _prepared(part, seen, traffic))
        except CannotSteer as error:
            return because(rollout, f"waiting: {f'{part.service}: ' if rollout.others else ''}{error}")
    return take(rollout, Signal.AVAILABLE, now, Detail(thin(are, rollout, world, 0)), world)


def _prepared(part: Rollout, seen: LookContext, traffic: Traffic) -> Rollout:
    """With what its route is steered from. Raises CannotSteer where it cannot be, Unavailable and Conflict
    where it is tried again."""
    if seen.view is None:
        raise CannotSteer(seen.problem)
    try:
        found = route_lists.stable_version(seen.view)
        if found != part.stable:
            raise CannotSteer(
                f"the route went to {part.stable} when this rollout began, and goes to {found} now; put it "
                "back, or abort"
            )
        subset = traffic.add_subset(part.policy, part.canary)
        seen.view = replace(seen.view, subsets={**seen.view.subsets, subset: part.canary})
        route_lists.check(part.policy, seen.view, subset)
    except (Unavailable, Conflict):
        raise
    except (Rejected, route_lists.Refusal) as error:
        raise CannotSteer(str(error)) from error
    origin = route_lists.own_less(seen.view.lists)
    # What was added by a rollout whose record was deleted is no one's edit, and goes with the first write.
    left = None if route_lists.same(origin, seen.view.lists) else seen.view.lists
    return replace(part, canary_subset=subset, origin=origin, confirmed=left)


# ---------------------------------------------------------------- drift


def drift(rollout: Rollout, world: LookContext, now: float) -> Rollout:
    """What is there was neither wanted nor confirmed, so someone else put it there."""
    if (
        rollout.phase not in STEERED
        or rollout.stage < 0
        or rollout.policy.mode == "observe"
        or not rollout.origin
    ):
        return rollout
    known = [(part, seen) for part, seen in each(rollout, world) if not seen.is_route_unread]
    changed = [
        (part, seen, what)
        for part, seen in known
        if (what := route_sync.drift(part, seen.view, seen.problem))
    ]
    if not changed and len(known) < len(rollout.parts):
        world.drifted = rollout.held is Held.DRIFT  # whether that is undone is not known
        return rollout
    if not changed:
        return (
            take(rollout, Signal.DRIFT_OVER, now, Detail("the route is as canaryd left it again"))
            if rollout.held is Held.DRIFT
            else rollout
        )
    others = [(part, what) for part, seen, what in changed if not route_sync.is_restorable(part, seen.view)]
    if not others:
        return rollout  # they are put back with what is due
    world.drifted = True
    part, what = others[0]
    route = f"the route of {part.service}" if rollout.others else "the route"
    reason = f"{_CHANGED} {route}: {what}"
    if rollout.held is Held.DRIFT and rollout.reason.startswith(_CHANGED):
        # what it is now: a route that was gone, say, is there again as a repository has it
        return because(rollout, reason)
    return take(rollout, Signal.DRIFT, now, Detail(reason))
