"""What one beat reads of one service: its Deployments, its route, what is kept of it, and its rollouts.

What cannot be read is left out and said, and nothing is made of its absence: a rollout under way is judged,
and rolled back if need be, whatever is not known of its services.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from canaryd.domain.rollout import Record, Rollout


@dataclass
class Observation:
    """What one beat knows of one service. policy: its own alone, be it part of a bracket; records: those that
    are about it too."""

    policy: Policy
    workloads: Sequence[Workload]
    known: KnownTemplates
    view: RouteView | None
    problem: str
    records: list[Record]
    # the policy; False: its file is gone, and only the rollout under way goes on with it
    in_force: bool = True
    # why not all of it is known; nothing begins or advances then, and harm still ends what is under way
    unreadable: str = ""
    is_listed: bool = True  # the Deployments; False: they are not known

    @property
    def active(self) -> Record | None:
        return next((record for record in self.records if not record.rollout.phase.ended), None)

    @property
    def mine(self) -> list[Rollout]:
        """The rollouts on record, as this service's."""
        return [record.rollout.of(self.policy.key) for record in self.records]


@dataclass(frozen=True)
class ClusterReader:
    """Reads it."""

    workloads: Workloads
    traffic: Traffic
    rollouts: Rollouts

    def of(self, policy: Policy, records: Sequence[Record], in_force: bool = True) -> Observation:
        """What there is of a service now."""
        mine = sorted((r for r in records if policy.key in r.rollout.keys), key=lambda r: r.rollout.began)
        seen = Observation(policy, (), KnownTemplates(frozenset()), None, "", mine, in_force, is_listed=False)
        failures = []
        for read in (self._workloads, self._known, self._route):
            try:
                read(seen)
            except Unavailable as error:
                failures.append(str(error))
                if seen.active is None:
                    break  # the next answer may be waited for in vain as well, and nothing is at stake
            except Rejected as error:
                failures.append(str(error))
        if failures:  # whether the service is paused may not be known either
            seen.unreadable, seen.known = "; ".join(failures), replace(seen.known, paused=True)
        return seen

    def _workloads(self, seen: Observation) -> None:
        seen.workloads = self.workloads.list(seen.policy)
        seen.is_listed = True

    def _known(self, seen: Observation) -> None:
        seen.known = self.rollouts.known(seen.policy)

    def _route(self, seen: Observation) -> None:
        try:
            seen.view = self.traffic.read(seen.policy)
        except (Unavailable, Forbidden):
            raise
        except Rejected as error:
            seen.problem = str(error)  # what is there is known, and is no route to steer
