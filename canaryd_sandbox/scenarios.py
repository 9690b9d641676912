"""What `canaryd demo --scenario` plays: each a few releases of the worked example, and how each must end.

Data, not scripts: whoever plays a scenario starts `World(rate=s.rate, stable=s.stable)`, sets `world.disturb
= s.disturb`, and for each release calls `release.apply(world)` and waits for its rollout to come to
`release.ending`.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from canaryd_sandbox.kubernetes.resources import Object
from canaryd_sandbox.mesh.mesh import BEHAVIOUR, Behaviour
from canaryd_sandbox.world import Disturbance, World, deployment

Ending = Literal["succeeded", "rolled back", "held"]
HEALTHY = Behaviour(errors=0.005, latency_ms=20.0, sigma=0.5)


@dataclass(frozen=True)
class Release:
    """One new version: what a person applies, how it answers, and how its rollout must end."""

    version: str
    ending: Ending
    says: str
    # fields of `Behaviour`; what is not named is as stable's
    behaviour: dict[str, Any] = field(default_factory=dict)
    pod: str | None = None  # how its pods live; see `deployments`
    replicas: int = 2
    progress_deadline: int = 600  # seconds

    def apply(self, world: World) -> None:
        """Does what the person does: applies the Deployment, and nothing else."""
        world.deploy(
            self.version,
            replicas=self.replicas,
            pod=self.pod,
            progress_deadline=self.progress_deadline,
            **{**_fields(HEALTHY), **self.behaviour},
        )


def _fields(behaviour: Behaviour) -> dict[str, Any]:
    return {name: getattr(behaviour, name) for name in behaviour.__dataclass_fields__}


@dataclass(frozen=True)
class Scenario:
    """One story. rate: requests per second; disturb: what goes wrong around the releases, None: nothing."""

    name: str
    says: str
    releases: tuple[Release, ...]
    rate: float = 200.0
    stable: Behaviour = HEALTHY
    disturb: Disturbance | None = None


@dataclass(frozen=True)
class PrometheusOutage:
    """Prometheus goes away `after` seconds into the first split of traffic, and comes back `lasts` seconds
    later."""

    after: float
    lasts: float

    def __call__(self, world: World, now: float) -> None:
        since = world.mesh.split_since
        down = since is not None and self.after <= now - since < self.after + self.lasts
        if world.prometheus.faults.down != down:
            world.prometheus.faults.down = down


GOOD = Release("v2", "succeeded", "a healthy v2")
BAD = Release("v3", "rolled back", "v3 fails 5% of its requests", {"errors": 0.05})

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("story", "a good v2 goes to 100%, then a bad v3 goes back to 0%", (GOOD, BAD)),
        Scenario("good", "a healthy v2 is promoted", (GOOD,)),
        Scenario("none", "nothing is released: with --keep, every release is yours", ()),
        Scenario(
            "errors",
            "v2 fails 5% of its requests where stable fails 0.5%",
            (Release("v2", "rolled back", "v2 fails 5% of its requests", {"errors": 0.05}),),
        ),
        Scenario(
            "slower",
            "v2 takes three times as long",
            (Release("v2", "rolled back", "v2 is three times slower", {"latency_ms": 60.0}),),
        ),
        Scenario(
            "tail",
            "3% of v2's requests hang for 3 s; its median is as good as stable's",
            (
                Release(
                    "v2", "rolled back", "3% of v2's requests hang for 3 s", {"tail": 0.03, "tail_ms": 3000.0}
                ),
            ),
        ),
        Scenario(
            "crash-loop",
            "v2 never becomes ready; no user ever meets it",
            (
                Release(
                    "v2", "rolled back", "v2 crashes at its start", pod="crash-loop", progress_deadline=10
                ),
            ),
        ),
        Scenario(
            "quiet",
            "one request a second: too few to judge, so v2 is held rather than promoted",
            (Release("v2", "held", "a healthy v2 that nobody asks"),),
            rate=1.0,
        ),
        Scenario(
            "outage",
            "Prometheus goes away in mid-rollout: the weight holds, then the rollout goes on",
            (GOOD,),
            disturb=PrometheusOutage(after=5.0, lasts=10.0),
        ),
    )
}
DEFAULT = "story"

# How the next version answers that `canaryd demo release` applies to a world that is kept.
BY_HAND: dict[str, dict[str, float]] = {"good": {"errors": 0.005}, "bad": {"errors": 0.05}}


def release_by_hand(kind: str, version: str) -> Object:
    """The Deployment of a good or a bad version, which says itself how its pods answer."""
    return deployment(version, replicas=2, annotations={BEHAVIOUR: json.dumps(BY_HAND[kind])})
