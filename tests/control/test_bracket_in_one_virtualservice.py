"""Two services of a bracket whose routes are in one VirtualService, the first one's by user: on the sandbox,
whole."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from canaryd.domain.rollout import Phase, Rollout
from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, DESTINATIONRULES, SERVICES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Behaviour, Mesh
from canaryd_sandbox.world import HOST, World
from tests.builders import NOW, a_member
from tests.one_process import Live, a_quick_policy
from tests.scenarios.test_two_services import NAME, Both

NAMESPACE = "production"
OWN = ["canaryd-front-end-canary-users", "canaryd-front-end-stable-users"]


class Shop(Live):
    def deploy(self, version: str, errors: float = 0.0) -> None:
        """Of carts."""
        self.mesh.behaviours[version] = Behaviour(errors=errors)
        labels = {"app": NAME, "version": version}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": NAME, "image": f"{NAME}:{version}"}]},
        }
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        self.world.store.create(
            DEPLOYMENTS, NAMESPACE, {"metadata": {"name": f"{NAME}-{version}"}, "spec": spec}
        )

    def with_carts(self) -> Shop:
        store = self.world.store
        self.mesh = Mesh(store, NAME, NAMESPACE, rate=100.0, seed=2, drain=2.5)
        for resource, spec in (
            (SERVICES, {"selector": {"app": NAME}, "ports": [{"port": 80}]}),
            (DESTINATIONRULES, {"host": NAME, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
        ):
            store.create(resource, NAMESPACE, {"metadata": {"name": NAME}, "spec": spec})
        sockshop = deepcopy(store.get(VIRTUALSERVICES, NAMESPACE, "sockshop"))
        sockshop["spec"]["http"].insert(0, {"name": NAME, "timeout": "3s", "route": carts_at("v1")})
        store.replace(VIRTUALSERVICES, NAMESPACE, "sockshop", sockshop)
        self.deploy("v1")
        self.world.prometheus._mesh = Both(self.world.mesh, self.mesh)  # type: ignore[assignment]
        self.world.disturb = lambda world, now: self.mesh.advance(now)
        self.run(20)
        return self

    def http(self) -> list[dict[str, Any]]:
        return list(self.world.store.get(VIRTUALSERVICES, NAMESPACE, "sockshop")["spec"]["http"])

    def rollout(self, version: str) -> Rollout:
        return next(one.rollout for one in self.rollouts.list() if one.rollout.entrance.canary == version)

    def until(self, version: str, *phases: Phase) -> Rollout:
        for _ in range(400):
            self.run(1)
            if any(
                one.rollout.entrance.canary == version and one.rollout.phase in phases
                for one in self.rollouts.list()
            ):
                return self.rollout(version)
        raise AssertionError(self.rollout(version))


def carts_at(version: str) -> list[dict[str, Any]]:
    return [{"destination": {"host": NAME, "subset": version}}]


def as_a_person_would_write(version: str) -> list[dict[str, Any]]:
    return [
        {"name": NAME, "timeout": "3s", "route": carts_at(version)},
        {"route": [{"destination": {"host": HOST, "subset": version}}]},
    ]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    policy = a_quick_policy().dump()
    policy["analysis"]["metrics"] = policy["analysis"]["metrics"][:1]
    member = a_member(NAME, NAMESPACE, route={"virtualService": "sockshop", "http": [NAME]})
    policy |= {
        "bracket": {"gather": "1m", "members": [member]},
        "route": {"virtualService": "sockshop", "affinity": {"users": 100_000}},
    }
    with World(rate=100.0, realtime=False, start=NOW, folder=tmp_path, replicas=2) as world:
        yield Shop(world, a_quick_policy().load(policy)).with_carts()


def test_users_stay_at_the_entrance_alone_and_the_object_ends_as_a_person_would_have_written_it(
    shop: Shop,
) -> None:
    shop.world.deploy("v2", replicas=2)
    shop.deploy("v2")
    shop.until("v2", Phase.PROGRESSING)
    shop.run(2)
    named = {one.get("name", ""): one for one in shop.http()}
    assert list(named) == [NAME, *OWN, ""]
    assert [one.get("weight") for one in named[NAME]["route"]] == [80, 20]
    assert "set-cookie" not in str(named[NAME])
    assert "set-cookie" in str(named[""])
    assert shop.until("v2", Phase.SUCCEEDED, Phase.ROLLED_BACK).phase is Phase.SUCCEEDED
    assert shop.http() == as_a_person_would_write("v2")

    shop.world.deploy("v3", replicas=2)
    shop.deploy("v3", errors=0.5)
    bad = shop.until("v3", Phase.SUCCEEDED, Phase.ROLLED_BACK)
    assert (bad.phase, bad.reason.partition(":")[0]) == (Phase.ROLLED_BACK, NAME)
    assert shop.http() == as_a_person_would_write("v2")
    assert [decision.signal for decision in bad.decisions if decision.signal == "drift"] == []
