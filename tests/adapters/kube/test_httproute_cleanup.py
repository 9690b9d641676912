"""What `reset` takes back of an HTTPRoute: weights, canaryd's own rules, and the Services that it made;
nothing that is not its own."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.adapters.kube.cleanup import KubeCleanup, Patch
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict
from canaryd.routing import route_lists
from canaryd.routing.managed_routes import steered
from tests.adapters.kube.api_servers import GATEWAY_API, Place
from tests.adapters.kube.route_kinds import GatewayApi, Object

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
STAGES = [{"match": COOKIE, "split": "half"}, {"weight": 10}, {"weight": 100}]
ROUTER = GatewayApi()


def spec(place: Place) -> Object:
    return dict(ROUTER.get(place)["spec"])


def services(place: Place) -> set[str]:
    return {
        item["metadata"]["name"]
        for item in place.api.request("GET", f"/api/v1/namespaces/{place.namespace}/services")["items"]
    }


def under_way(place: Place, stage: int, *put: Any) -> tuple[Policy, Object, set[str]]:
    """A rollout whose daemon is gone, in this stage; and how it was before."""
    ROUTER.put(
        place, *(put or (("beta", True, "front-end", {"v1": None}), ("", False, "front-end", {"v1": None})))
    )
    before, there = spec(place), services(place)
    policy, traffic = (
        ROUTER.policy(place, stages=STAGES, analysis={"reporter": "source"}),
        TrafficByKind(place.api, settle=0.0),
    )
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.staged(policy, stage, view, steered(view.lists), canary))
    return policy, before, there


def due(place: Place, policy: Policy, version: str) -> list[Patch]:
    cleaner = KubeCleanup(place.api)
    patches = cleaner.routes(policy, cleaner.view(policy), version)
    return [*patches, *cleaner.subsets(policy, cleaner.uses(policy, patches))[0]]


@pytest.mark.parametrize("stage", [0, 1])
def test_all_is_as_before_and_the_services_that_were_made_are_gone(place: Place, stage: int) -> None:
    policy, before, there = under_way(place, stage)
    tried = [KubeCleanup(place.api).write(patch, dry=True) for patch in due(place, policy, "v1")]
    assert [one.kind for one in tried] == ["HTTPRoute", "Service", "Service", "Service"]
    assert spec(place) != before, "a dry run keeps nothing"
    for patch in due(place, policy, "v1"):
        KubeCleanup(place.api).write(patch)
    assert (spec(place), services(place)) == (before, there)
    assert due(place, policy, "v1") == []


def test_to_the_new_version_its_service_stays_and_that_is_said(place: Place) -> None:
    policy, before, there = under_way(place, 1)
    cleaner = KubeCleanup(place.api)
    for patch in due(place, policy, "v2"):
        cleaner.write(patch)
    assert [ROUTER.shares(route) for route in ROUTER.routes(spec(place))] == [{"v1": None}, {"v2": None}]
    assert ROUTER.routes(spec(place))[0] == ROUTER.routes(before)[0]
    assert services(place) == {*there, "front-end-v2"}
    _, said = cleaner.subsets(policy, cleaner.uses(policy, []))
    assert said == [f"Service front-end-v2 stays: HTTPRoute {place.namespace}/sockshop leads to it"]


def test_a_service_that_another_route_names_stays(place: Place) -> None:
    policy, _, there = under_way(place, 1)
    place.put(
        GATEWAY_API,
        "httproutes",
        {
            "kind": "HTTPRoute",
            "metadata": {"name": "other"},
            "spec": {
                "parentRefs": [{"name": "gateway"}],
                "rules": [{"backendRefs": [{"name": "front-end-v2", "port": 80}]}],
            },
        },
    )
    for patch in due(place, policy, "v1"):
        KubeCleanup(place.api).write(patch)
    assert services(place) == {*there, "front-end-v2"}


def test_an_edit_in_between_is_a_conflict_and_stays(place: Place) -> None:
    policy, _, _ = under_way(place, 1)
    patch = due(place, policy, "v1")[0]
    ROUTER.edit(place, timeout="9s")
    theirs = spec(place)
    with pytest.raises(Conflict):
        KubeCleanup(place.api).write(patch)
    assert spec(place) == theirs


def test_without_a_version_only_what_canaryd_added_goes(place: Place) -> None:
    policy, _, _ = under_way(place, 1)
    assert [one for one in due(place, policy, "") if one.kind == "HTTPRoute"] == [], (
        "a weight is left to whoever says where to"
    )
