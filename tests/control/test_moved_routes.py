"""Routes that canaryd added and someone moves: told as that, put where they belong, and gone at the end,
wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canaryd.cli import main
from canaryd.domain.rollout import Held, Phase, Rollout
from canaryd_sandbox.kubernetes.resources import HTTPROUTES, SERVICES, VIRTUALSERVICES
from canaryd_sandbox.mesh import httproute
from canaryd_sandbox.world import World
from tests.builders import NOW, a_policy
from tests.one_process import Live

STAGES = [
    {"match": {"headers": {"cookie": {"regex": ".*logged_in.*"}}}, "minimum": "60s", "deadline": "90s"},
    {"weight": 100},
]
MATCH = "canaryd-front-end-match"
Rules = list[dict[str, Any]]


class Place:
    """A rollout of v2 in its first stage, for matched users, and hands on the route."""

    def __init__(self, world: World, kind: str, **policy: Any) -> None:
        self.world, self.resource, self.key = world, VIRTUALSERVICES, "http"
        if kind == "httpRoute":
            httproute.take_over(world.store, "front-end", "production")
            self.resource, self.key = HTTPROUTES, "rules"
        self.before = self.rules()
        analysis = {"interval": "2s", "warmup": "0s", "metrics": [{"errors": {}}]}
        self.live = Live(
            world, a_policy(stages=STAGES, route={kind: "sockshop"}, analysis=analysis, **policy)
        )
        self.live.run(5)
        world.deploy("v2", replicas=2)
        for _ in range(30):
            self.live.run(1)
            if len(self.rules()) > len(self.before):
                break
        self.live.run(2)

    def rules(self) -> Rules:
        return deepcopy(list(self.world.store.get(self.resource, "production", "sockshop")["spec"][self.key]))

    def names(self) -> list[str]:
        return [str(rule.get("name") or "") for rule in self.rules()]

    def edit(self, change: Callable[[Rules], Rules]) -> None:
        found = deepcopy(self.world.store.get(self.resource, "production", "sockshop"))
        found["spec"][self.key] = change(found["spec"][self.key])
        self.world.store.replace(self.resource, "production", "sockshop", found)
        self.live.run(3)

    @property
    def rollout(self) -> Rollout:
        return self.live.rollouts.list()[-1].rollout

    @property
    def problem(self) -> str:
        """Why no rollout can begin, as the service's note has it."""
        return self.live.rollouts.known(self.live.policy).problem

    def wish(self, **wishes: bool | int) -> None:
        self.live.rollouts.wish("production", self.rollout.name, **wishes)
        self.live.run(3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(realtime=False, start=NOW, folder=tmp_path, replicas=2) as made:
        yield made


@pytest.mark.parametrize("kind", ["virtualService", "httpRoute"])
def test_one_that_stands_after_its_route_is_told_and_gone_after_an_abort(world: World, kind: str) -> None:
    place = Place(world, kind)
    assert place.names() == [MATCH, ""]
    place.edit(lambda rules: rules[::-1])
    assert (place.rollout.phase, place.rollout.held) == (Phase.HELD, Held.DRIFT)
    assert place.rollout.reason == (
        f"someone else changed the route: {MATCH}, which canaryd added, stands no longer just before the "
        "route whose requests it takes"
    )
    place.wish(abort=True)
    place.live.run(20)
    assert place.rollout.phase is Phase.ROLLED_BACK
    assert place.rules() == place.before
    assert {one["metadata"]["name"] for one in world.store.list(SERVICES, "production")} <= {
        "front-end",
        "front-end-v1",
    }


@pytest.mark.parametrize("kind", ["virtualService", "httpRoute"])
def test_after_a_route_in_between_it_stands_just_before_its_own_again(world: World, kind: str) -> None:
    place = Place(world, kind)
    place.edit(lambda rules: [rules[0], {**rules[1], "name": "between", **narrow(kind)}, rules[1]])
    assert MATCH in place.rollout.reason
    place.wish(resumed=1)
    assert place.rollout.phase is Phase.PROGRESSING
    assert place.names() == ["between", MATCH, ""]


@pytest.mark.parametrize("kind", ["virtualService", "httpRoute"])
def test_with_drift_restore_it_is_put_back_at_once(world: World, kind: str) -> None:
    place = Place(world, kind, drift="restore")
    place.edit(lambda rules: rules[::-1])
    assert (place.rollout.phase, place.names()) == (Phase.PROGRESSING, [MATCH, ""])


def test_what_a_drift_is_about_is_said_as_it_is_now(world: World) -> None:
    place = Place(world, "virtualService")
    whole = deepcopy(world.virtualservice())
    world.store.delete(VIRTUALSERVICES, "production", "sockshop")
    place.live.run(3)
    assert "there is no VirtualService production/sockshop" in place.rollout.reason
    world.store.create(
        VIRTUALSERVICES,
        "production",
        {"metadata": {"name": "sockshop"}, "spec": {**whole["spec"], "http": place.before}},
    )
    place.live.run(3)
    assert place.rollout.reason == (
        "someone else changed the route: the route is all to v1, and canaryd had left it cookie ~ "
        ".*logged_in.* to v2; else all to v1"
    )


def narrow(kind: str) -> dict[str, Any]:
    if kind == "httpRoute":
        return {"matches": [{"path": {"type": "PathPrefix", "value": "/x"}}]}
    return {"match": [{"uri": {"prefix": "/x"}}]}


@pytest.mark.parametrize("kind", ["virtualService", "httpRoute"])
def test_what_a_rollout_leaves_whose_record_is_deleted_is_told_until_it_is_taken_back(
    world: World, kind: str
) -> None:
    place = Place(world, kind)
    (record,) = place.live.rollouts.list()
    place.live.rollouts.delete(record)
    place.live.run(2)
    stable, canary = ("front-end-v1", "front-end-v2") if kind == "httpRoute" else ("v1", "v2")
    assert place.problem == (
        f"a rollout's routes are left (cookie ~ .*logged_in.* to {canary}; else all to {stable}), and its "
        "record is gone: canaryd reset front-end --to VERSION takes them back"
    )
    status = CliRunner().invoke(main, ["status"], env={"KUBECONFIG": str(world.kubeconfig)}).stdout
    assert f"production/front-end: {place.problem}\n" in status, (
        "a new version's rollout would begin, and take them out"
    )
    place.edit(lambda rules: rules[::-1])
    assert place.problem.startswith(f"a rollout's routes are left (all to {stable}; {MATCH})"), (
        "wherever they stand"
    )
    place.edit(lambda rules: rules[:1])
    assert place.problem == ""


def test_a_split_without_a_record_is_told_before_a_new_version_needs_the_route_and_with_mode_observe_it_is_someone_else_s(  # noqa: E501
    world: World,
) -> None:
    place = Place(world, "virtualService")
    (record,) = place.live.rollouts.list()
    place.live.rollouts.delete(record)
    to = place.before[0]["route"][0]
    other = {**to, "destination": {**to["destination"], "subset": "v2"}}
    place.edit(lambda rules: [{**rules[-1], "route": [{**to, "weight": 70}, {**other, "weight": 30}]}])
    assert place.problem.startswith("route #0 is split (v1 70%, v2 30%) and no rollout is on record")
    place.live.policy = a_policy(mode="observe")
    place.live.run(2)
    assert place.problem == ""
