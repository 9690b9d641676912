"""What one look at a rollout knows besides telemetry: its services as they are, and what people and other
rollouts want of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from canaryd.control.observation import Observation
from canaryd.domain.rollout import Held, Rollout, ServiceRollout

MOST_LOAD = 1.5  # times what a replica of stable served: above it people are warned


@dataclass
class LookContext:
    """services: what is there of each service of the rollout, in their order.

    paused: whether any of them is. newer: a newer version that waits for this rollout to end, or "".
    drifted, outage, silent are set by the look: the route is someone else's, so hands off; why telemetry gave
    nothing; whether it did not even answer, so that the next rollout would wait in vain as well.
    """

    services: tuple[Observation, ...]
    paused: bool = False
    newer: str = ""
    drifted: bool = False
    outage: str = ""
    silent: bool = False

    def each(self, rollout: Rollout) -> Iterator[tuple[ServiceRollout, Observation]]:
        """Each service of the rollout with its observation, callers first."""
        return zip(rollout.services, self.services, strict=True)

    def not_serving(self, rollout: Rollout) -> str:
        """The stable Deployment that could not take traffic back, or "": a bad canary serves more users than
        no replica at all. Of one that could not be read, what was known last."""
        for service, observation in self.each(rollout):
            stable = observation.workload(service.stable_workload)
            is_down = (
                (stable is None or not stable.ready)
                if observation.is_listed
                else rollout.held is Held.STABLE_NOT_READY
            )
            if is_down:
                return service.stable_workload
        return ""


def with_load_warnings(reason: str, rollout: Rollout, context: LookContext, stage: int) -> str:
    """The reason, and a warning for each service whose canary has too few replicas for that stage's
    weight."""
    for service, observation in context.each(rollout):
        if warning := _load_warning(rollout, service, observation, stage):
            reason = f"{reason}; {rollout.prefix(service)}{warning}"
    return reason


def _load_warning(rollout: Rollout, service: ServiceRollout, observation: Observation, stage: int) -> str:
    canary = observation.workload(service.canary_workload)
    stable = observation.workload(service.stable_workload)
    if canary is None or stable is None or stage >= len(rollout.policy.stages) or not stable.ready:
        return ""
    to_come = rollout.policy.stages[stage]
    weight = round(100 * to_come.mirror) if to_come.mirror is not None else to_come.weight
    load = weight / 100 * stable.ready / max(1, canary.ready)
    if load <= MOST_LOAD:
        return ""
    return (
        f"mind that {canary.ready} ready replicas of {service.canary} will serve {weight}% of what "
        f"{stable.ready} of {service.stable} served, {load:.1f} times the load on each"
    )
