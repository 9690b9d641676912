"""What a person is told of a service whose requests nobody counts, by the daemon's own parts on the sandbox's
world."""

from __future__ import annotations

from pathlib import Path

import pytest

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi
from canaryd_sandbox.mesh.mesh import Behaviour
from canaryd_sandbox.world import World
from tests.builders import NOW
from tests.commands.conftest import Shell
from tests.one_process import Live, a_quick_policy


@pytest.mark.parametrize(
    ("ambient", "protocol", "says"),
    [
        (False, "tcp", "Istio counts TCP connections to these workloads and no requests"),
        (True, "http", "there are requests with reporter=waypoint, but the policy asks for destination"),
    ],
)
def test_status_says_at_the_first_look_why_nothing_is_counted(
    tmp_path: Path, ambient: bool, protocol: str, says: str
) -> None:
    world = World(
        rate=100.0,
        realtime=False,
        start=NOW,
        folder=tmp_path,
        replicas=1,
        stable=Behaviour(protocol=protocol),
    )  # type: ignore[arg-type]
    world.mesh.ambient = ambient
    with world:
        live = Live(world, a_quick_policy())
        live.run(10)
        world.deploy("v2", replicas=1, protocol=protocol)
        shell = Shell(world, KubeRollouts(KubernetesApi(str(world.kubeconfig))))
        for _ in range(40):
            live.run(1)
            [record] = live.rollouts.list() or [None]
            if (
                record is not None
                and record.rollout.verdict is not None
                and record.rollout.verdict.stage == 0
            ):
                break
        assert record is not None
        assert record.rollout.phase.value == "Progressing"
        assert says in shell.fine("status", "front-end")
        assert says in " ".join(shell.fine("explain", "front-end").split())
