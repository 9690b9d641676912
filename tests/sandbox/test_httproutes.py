"""HTTPRoutes in the sandbox: stored as a real API server stores them, followed as Envoys follow them, steered
by canaryd's own parts."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Phase
from canaryd_sandbox.kubernetes.resources import HTTPROUTES, SERVICES, ApiError, Object
from canaryd_sandbox.mesh import httproute
from canaryd_sandbox.mesh.routing import resolve
from canaryd_sandbox.world import NAMESPACE, SERVICE, World
from tests.one_process import Live, a_quick_policy
from tests.sandbox.test_mesh import served

TAKES_ALL = [{"path": {"type": "PathPrefix", "value": "/"}}]


@pytest.fixture
def moved(world: World) -> World:
    """The worked example, moved to the Gateway API."""
    httproute.take_over(world.store, SERVICE, NAMESPACE)
    return world


def spec_of(world: World) -> Object:
    spec: Object = world.store.get(HTTPROUTES, NAMESPACE, "sockshop")["spec"]
    return spec


def change(world: World, **spec: Any) -> None:
    route = world.store.get(HTTPROUTES, NAMESPACE, "sockshop")
    world.store.replace(HTTPROUTES, NAMESPACE, "sockshop", {**route, "spec": {**route["spec"], **spec}})


def service_of(world: World, version: str) -> None:
    selector = {"app": SERVICE, "version": version}
    world.store.create(
        SERVICES,
        NAMESPACE,
        {"metadata": {"name": f"front-end-{version}"}, "spec": {"selector": selector, "ports": []}},
    )


def policy() -> Policy:
    return Policy.load({**a_quick_policy().dump(), "route": {"httpRoute": "sockshop"}})


# ---------------------------------------------------------------- the world


def test_what_a_person_leaves_out_is_filled_in_as_a_real_server_does(moved: World) -> None:
    (rule,) = spec_of(moved)["rules"]
    assert rule["matches"] == TAKES_ALL
    assert rule["backendRefs"] == [
        {"group": "", "kind": "Service", "name": "front-end-v1", "port": 80, "weight": 1}
    ]
    assert spec_of(moved)["parentRefs"][0] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "sockshop-gateway",
    }
    with pytest.raises(ApiError, match="should be greater than or equal to 0"):
        change(moved, rules=[{"backendRefs": [{"name": "front-end-v1", "weight": -1}]}])


def test_requests_follow_the_weights_of_references(moved: World) -> None:
    moved.deploy("v2")
    service_of(moved, "v2")
    moved.advance(moved.now + 5)
    before = served(moved)
    change(moved, rules=[{"backendRefs": [{"name": "front-end-v1", "weight": 3}, {"name": "front-end-v2"}]}])
    assert moved.weights() == {"front-end-v1": 75.0, "front-end-v2": 25.0}
    moved.advance(moved.now + 60)
    got = served(moved)
    got.subtract(before)
    assert got["v2"] / got.total() == pytest.approx(0.25, abs=0.03)
    assert moved.mesh.unserved == 0


def test_requests_to_a_service_that_is_not_there_reach_nobody(moved: World) -> None:
    change(moved, rules=[{"backendRefs": [{"name": "front-end-v1"}, {"name": "front-end-v7"}]}])
    moved.advance(moved.now + 10)
    assert moved.mesh.unserved > 300


@pytest.mark.parametrize(
    ("parents", "through_the_gateway", "inside"),
    [
        ([{"name": "sockshop-gateway"}, {"group": "", "kind": "Service", "name": SERVICE}], True, True),
        ([{"name": "sockshop-gateway"}], True, False),
        ([{"group": "", "kind": "Service", "name": SERVICE}], False, True),
        ([{"group": "", "kind": "Service", "name": "carts"}], False, False),
    ],
)
def test_a_route_steers_the_requests_that_its_parents_take(
    moved: World, parents: list[Object], through_the_gateway: bool, inside: bool
) -> None:
    change(moved, parentRefs=parents)
    found = [
        resolve(moved.store, SERVICE, NAMESPACE, inside=one)[0].subset == "front-end-v1"
        for one in (False, True)
    ]
    assert found == [through_the_gateway, inside]


def test_a_rule_with_a_match_does_not_count(moved: World) -> None:
    beta = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x", "value": "y"}]}],
        "backendRefs": [{"name": "front-end-v7"}],
    }
    change(moved, rules=[beta, *spec_of(moved)["rules"]])
    assert moved.weights() == {"front-end-v1": 100.0}


# ---------------------------------------------------------------- canaryd in it


@pytest.mark.timeout(240)
def test_versions_good_and_bad_leave_the_route_as_a_person_would_have_written_it(moved: World) -> None:
    began, live = spec_of(moved), Live(moved, policy())
    live.run(20)

    def to(version: str) -> Object:
        (rule,) = began["rules"]
        return {
            **began,
            "rules": [{**rule, "backendRefs": [{**rule["backendRefs"][0], "name": f"front-end-{version}"}]}],
        }

    for version, errors, stable in (("v2", 0.005, "v2"), ("v3", 0.2, "v2")):
        rollout = live.release(version, errors=errors)
        assert rollout.phase is (Phase.SUCCEEDED if stable == version else Phase.ROLLED_BACK), rollout.reason
        live.run(20)
        assert spec_of(moved) == to(stable)
        assert {one["metadata"]["name"] for one in moved.store.list(SERVICES, NAMESPACE)} == {
            "front-end",
            "front-end-v1",
            f"front-end-{stable}",
        }
    assert moved.mesh.unserved == 0
    assert live.beat.troubles == {}


def test_a_route_to_all_versions_is_refused_with_the_service_that_is_wanted(moved: World) -> None:
    change(moved, rules=[{"backendRefs": [{"name": SERVICE, "port": 80}]}])
    live = Live(moved, policy())
    live.run(5)
    moved.deploy("v2")
    live.run(20)
    assert live.rollouts.list() == []
    problem = live.rollouts.known(live.policy).problem
    assert (
        "route #0 sends all traffic to front-end: this Service selects the pods of every version" in problem
    )
    assert "kind: Service\nmetadata:\n  name: front-end-VERSION\n" in problem
    service_of(moved, "v0")  # the version of an earlier world is nobody's stable
    change(moved, rules=[{"backendRefs": [{"name": "front-end-v1", "port": 80}]}])
    live.run(10)
    assert [one.rollout.entrance.canary for one in live.rollouts.list()] == ["v2"]


def test_a_service_that_someone_deletes_in_mid_rollout_is_put_back(moved: World) -> None:
    live = Live(moved, policy())
    live.run(5)
    moved.deploy("v2", replicas=2)
    live.run(10)
    assert moved.weights()["front-end-v2"] == 20
    moved.store.delete(SERVICES, NAMESPACE, "front-end-v2")
    live.run(2)
    assert moved.store.get(SERVICES, NAMESPACE, "front-end-v2")["metadata"]["annotations"] == {
        "canaryd.dev/made-for": "front-end/v2"
    }
    (record,) = live.rollouts.list()
    assert record.rollout.phase is Phase.PROGRESSING


def test_a_hand_edit_of_the_weights_holds_the_rollout(moved: World) -> None:
    live = Live(moved, policy())
    live.run(5)
    moved.deploy("v2", replicas=2)
    live.run(10)
    rule, refs = spec_of(moved)["rules"][0], spec_of(moved)["rules"][0]["backendRefs"]
    change(moved, rules=[{**rule, "backendRefs": [{**refs[0], "weight": 60}, {**refs[1], "weight": 40}]}])
    live.run(3)
    (record,) = live.rollouts.list()
    assert record.rollout.phase is Phase.HELD
    assert (
        "front-end-v1 60%, front-end-v2 40%, and canaryd had left it front-end-v1 80%, front-end-v2 20%"
        in record.rollout.reason
    )
    assert moved.weights() == {"front-end-v1": 60.0, "front-end-v2": 40.0}
