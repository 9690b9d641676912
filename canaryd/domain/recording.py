"""A past: whose looks, of what time, and what is known of the rollout they were taken in. The looks
themselves are elsewhere.

Its looks lie on a regular grid of `interval` seconds from `since` to `end`, so that any policy can be tried
on them; those of a rollout on its own grid as well, as they were read live, so that its verdicts can be had
again.
"""

from dataclasses import dataclass

from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Past:
    """See the module. Times are whole Unix seconds.

    since: where the looks begin, stable's history; start: where a rollout is imagined to begin; end: of the
    last look.
    stable, canary: version labels; stable_workload, canary_workload: their Deployments. grpc_failures,
    http_failures: statuses and codes counted as failures.
    queries: PromQL whose values are known at the end of each look. policy: the one it was read for, the
    rollout's own if there is one.
    rollout: as it was on record, without what people were told.
    """

    namespace: str
    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    interval: int
    since: int
    start: int
    end: int
    policy: Policy
    reporter: str = "destination"
    grpc_failures: tuple[str, ...] = ()
    http_failures: tuple[str, ...] = ("5xx",)
    queries: tuple[str, ...] = ()
    rollout: Rollout | None = None

    @property
    def until(self) -> int:
        """The end of the last look of all: a rollout's own may reach beyond the grid."""
        ends = (
            [span.end for span in self.rollout.spans if span.end is not None]
            if self.rollout is not None
            else []
        )
        return max([self.end, *ends])

    @property
    def looks(self) -> int:
        """Looks of the grid in which a rollout can be imagined."""
        return (self.end - self.start) // self.interval
