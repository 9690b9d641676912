"""What one beat reads of one service: its Deployments, its route, what is kept of it, and its rollouts.

What cannot be read is left out and said, and nothing is made of its absence: a rollout under way is judged,
and rolled back if need be, whatever is not known of its services.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import (
    Forbidden,
    KnownTemplates,
    Rejected,
    Rollouts,
    RouteView,
    Traffic,
    Unavailable,
    Workload,
    Workloads,
)
from canaryd.domain.rollout import Record, Rollout, ServiceRollout


@dataclass
class Observation:
    """What one beat knows of one service.

    policy: the service's own alone, be it part of a bracket. workloads: its Deployments. view: its route as
    it stands there (None: not known, or `problem` says why it is not this policy's route). records: every
    rollout that is about the service, oldest first.
    in_force: False where the policy's file is gone, and only the rollout under way goes on with it.
    unreadable: why not all of this is known; nothing begins or advances then, and harm still ends what is
    under way. is_listed: False where the Deployments are not known.
    """

    policy: Policy
    workloads: Sequence[Workload] = ()
    known: KnownTemplates = field(default_factory=lambda: KnownTemplates(frozenset()))
    view: RouteView | None = None
    problem: str = ""
    records: list[Record] = field(default_factory=list)
    in_force: bool = True
    unreadable: str = ""
    is_listed: bool = True

    @property
    def active(self) -> Record | None:
        """The rollout under way."""
        return next((record for record in self.records if not record.rollout.phase.ended), None)

    @property
    def rollouts(self) -> list[tuple[Rollout, ServiceRollout]]:
        """Each rollout on record, with what it has of this service."""
        return [(record.rollout, record.rollout.service_of(self.policy.key)) for record in self.records]

    @property
    def is_route_unread(self) -> bool:
        """Whether nothing is known of the route, be it canaryd's or someone else's."""
        return self.view is None and not self.problem

    def workload(self, name: str) -> Workload | None:
        """The Deployment of this name."""
        return next((workload for workload in self.workloads if workload.name == name), None)


@dataclass(frozen=True)
class ClusterReader:
    """Reads a service's Deployments, route and notes, and picks its rollouts."""

    workloads: Workloads
    traffic: Traffic
    rollouts: Rollouts

    def observe(self, policy: Policy, records: Sequence[Record], in_force: bool = True) -> Observation:
        """What there is of a service now. records: all rollouts on record."""
        own = sorted(
            (record for record in records if policy.key in record.rollout.keys),
            key=lambda record: record.rollout.began,
        )
        observation = Observation(policy, records=own, in_force=in_force, is_listed=False)
        failures = []
        for read in (self._workloads, self._known, self._route):
            try:
                read(observation)
            except Unavailable as error:
                failures.append(str(error))
                if observation.active is None:
                    break  # the next answer may be waited for in vain as well, and nothing is at stake
            except Rejected as error:
                failures.append(str(error))
        if failures:  # whether the service is paused may not be known either
            observation.unreadable = "; ".join(failures)
            observation.known = replace(observation.known, paused=True)
        return observation

    def _workloads(self, observation: Observation) -> None:
        observation.workloads = self.workloads.list(observation.policy)
        observation.is_listed = True

    def _known(self, observation: Observation) -> None:
        observation.known = self.rollouts.known(observation.policy)

    def _route(self, observation: Observation) -> None:
        try:
            observation.view = self.traffic.read(observation.policy)
        except (Unavailable, Forbidden):
            raise
        except Rejected as error:
            observation.problem = str(error)  # what is there is known, and is no route to steer
