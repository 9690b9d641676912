"""What one look sees besides telemetry: Deployments, the route, and what people and other rollouts want of
this one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from canaryd.domain.ports import RouteView, Workload
from canaryd.domain.rollout import Held, Rollout

MOST_LOAD = 1.5  # times what a replica of stable served: above it people are warned


@dataclass
class LookContext:
    """See the module. Of a bracket it is the first service's, with what the whole is told and wants; `others`
    has what is seen of the further ones."""

    workloads: Sequence[Workload]
    view: RouteView | None  # None: it could not be read as this policy's route
    problem: str = ""  # why not
    paused: bool = False
    newer: str = ""  # a newer version that waits for this one to end
    drifted: bool = False  # set by the look: the route is someone else's, hands off
    outage: str = ""  # set by the look: why telemetry gave nothing
    # set by the look: it did not even answer, so the next rollout would wait in vain as well
    silent: bool = False
    others: tuple["LookContext", ...] = ()
    unreadable: str = ""  # why not all of this is known: nothing advances then
    is_listed: bool = True  # the Deployments; False: they are not known

    @property
    def is_route_unread(self) -> bool:
        """Whether nothing is known of the route, be it canaryd's or someone else's."""
        return self.view is None and not self.problem

    def workload(self, name: str) -> Workload | None:
        return next((w for w in self.workloads if w.name == name), None)

    def not_serving(self, rollout: Rollout) -> str:
        """The stable version that could not take traffic back, or "": a bad canary serves more users than no
        replica at all. Of one that is not known, what was known last."""
        for part, seen in each(rollout, self):
            stable = seen.workload(part.stable_workload)
            is_down = (stable is None or not stable.ready) if seen.is_listed else rollout.held is Held.STABLE
            if is_down:
                return part.stable_workload
        return ""


def each(rollout: Rollout, world: LookContext) -> Iterator[tuple[Rollout, LookContext]]:
    """Each service's part of the rollout, with what is seen of it; callers first."""
    return zip(rollout.parts, (world, *world.others), strict=True)


def thin(reason: str, rollout: Rollout, world: LookContext, stage: int) -> str:
    """The reason, and a warning for each service whose canary has too few replicas for the weight to come."""
    for part, seen in each(rollout, world):
        if warning := _thin(part, seen, stage):
            reason = f"{reason}; {f'{part.service}: ' if rollout.others else ''}{warning}"
    return reason


def _thin(rollout: Rollout, world: LookContext, stage: int) -> str:
    canary, stable = world.workload(rollout.canary_workload), world.workload(rollout.stable_workload)
    if canary is None or stable is None or stage >= len(rollout.policy.stages) or not stable.ready:
        return ""
    to_come = rollout.policy.stages[stage]
    weight = round(100 * to_come.mirror) if to_come.mirror is not None else to_come.weight
    load = weight / 100 * stable.ready / max(1, canary.ready)
    if load <= MOST_LOAD:
        return ""
    return (
        f"mind that {canary.ready} ready replicas of {rollout.canary} will serve {weight}% of what "
        f"{stable.ready} of {rollout.stable} served, {load:.1f} times the load on each"
    )
