"""HTTPRoutes as the arithmetic of routes sees them: what comes back is what was there, and a weight means
what the Gateway API says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain.ports import RouteView
from canaryd.routing import documents, httproute_weights, route_lists

SERVICE = {"group": "", "kind": "Service", "name": "front-end", "port": 80}
GATEWAY = {"name": "sockshop-gateway"}


def ref(version: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    """A reference as the API server stores it, or without a weight."""
    found: dict[str, Any] = {
        "group": "",
        "kind": "Service",
        "name": f"front-end-{version}",
        "port": 80,
        **more,
    }
    return found if weight is None else {**found, "weight": weight}


references = st.lists(
    st.builds(
        lambda name, weight, more: ref(name, weight, **more),
        st.sampled_from(["v1", "v2", "v3"]),
        st.integers(0, 1_000_000),
        st.sampled_from([{}, {"namespace": "production"}, {"filters": [{"type": "RequestHeaderModifier"}]}]),
    ),
    min_size=1,
    max_size=4,
)


@given(references)
def test_references_come_back_as_they_were_stored(refs: list[dict[str, Any]]) -> None:
    assert httproute_weights.refs(httproute_weights.entries(refs, "front-end")) == refs


@given(references)
def test_what_was_written_is_read_back_the_same_so_it_is_no_drift(refs: list[dict[str, Any]]) -> None:
    wanted = httproute_weights.entries(refs, "front-end")
    stored = json.loads(json.dumps(httproute_weights.refs(wanted)))
    assert route_lists.same({"#0": httproute_weights.entries(stored, "front-end")}, {"#0": wanted})


def test_a_reference_alone_takes_all_whatever_its_weight_and_a_missing_one_is_1() -> None:
    def lists(*refs: dict[str, Any]) -> dict[str, Any]:
        return {"#0": httproute_weights.entries(refs, "front-end")}

    assert (
        route_lists.described(lists(ref("v1")))
        == route_lists.described(lists(ref("v1", 7)))
        == "all to front-end-v1"
    )
    assert route_lists.described(lists(ref("v1"), ref("v2"))) == "front-end-v1 50%, front-end-v2 50%"
    assert (
        route_lists.described(lists(ref("v1", 2), ref("v2", 1))) == "front-end-v1 66.7%, front-end-v2 33.3%"
    )
    assert route_lists.described(lists(ref("v1"), ref("v2", 0))) == "front-end-v1 100%, front-end-v2 0%"
    assert route_lists.described(lists(ref("v1", 0), ref("v2", 0))) == "front-end-v1 0%, front-end-v2 0%"


@pytest.mark.parametrize("stable", [[ref("v1", 1)], [ref("v1", 40)], [ref("v1", 3), ref("v2", 0)]])
def test_a_rollout_there_and_back_leaves_what_it_found_and_one_to_the_end_a_single_reference(
    stable: list[dict[str, Any]],
) -> None:
    origin = {"#0": httproute_weights.entries(stable, "front-end")}
    split = httproute_weights.refs(route_lists.split(origin, "front-end-v2", 20)["#0"])
    assert [(one["name"], one["weight"]) for one in split] == [("front-end-v1", 80), ("front-end-v2", 20)]
    assert all(one["port"] == 80 for one in split)
    assert httproute_weights.refs(route_lists.split(origin, "front-end-v2", 0)["#0"]) == stable
    (finished,) = httproute_weights.refs(route_lists.only(origin, "front-end-v2")["#0"])
    assert finished == ref("v2", 1 if stable == [ref("v1", 1)] else 100)


def test_filters_and_whatever_else_a_reference_has_are_the_canary_s_too() -> None:
    marked = ref(
        "v1",
        1,
        filters=[
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}
        ],
    )
    origin = {"#0": httproute_weights.entries([marked], "front-end")}
    stable, canary = httproute_weights.refs(route_lists.split(origin, "front-end-v2", 10)["#0"])
    assert stable == {**marked, "weight": 90}
    assert canary == {**marked, "name": "front-end-v2", "weight": 10}


@pytest.mark.parametrize(
    ("rule", "takes_all"),
    [
        ({}, True),
        ({"matches": []}, True),
        ({"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}, True),
        ({"matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": []}]}, True),
        (
            {
                "matches": [
                    {"headers": [{"name": "x", "value": "y"}]},
                    {"path": {"type": "PathPrefix", "value": "/"}},
                ]
            },
            True,
        ),
        ({"matches": [{"path": {"type": "Exact", "value": "/"}}]}, False),
        ({"matches": [{"path": {"type": "PathPrefix", "value": "/cart"}}]}, False),
        (
            {
                "matches": [
                    {"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x", "value": "y"}]}
                ]
            },
            False,
        ),
        ({"matches": [{"method": "GET"}]}, False),
        ({"matches": [{"queryParams": [{"name": "x", "value": "y"}]}]}, False),
    ],
)
def test_a_rule_without_a_match_is_one_that_takes_every_request(
    rule: dict[str, Any], takes_all: bool
) -> None:
    assert documents.takes_every_request(rule) is takes_all


@pytest.mark.parametrize(
    ("parents", "says"),
    [
        ([GATEWAY, SERVICE], ""),
        (
            [GATEWAY],
            "HTTPRoute shop has Gateways alone as its parents (sockshop-gateway): calls from inside the mesh go to where the "  # noqa: E501
            "Service leads that they call, whatever the weight; to steer them too, add to its spec.parentRefs "  # noqa: E501
            '{group: "", kind: Service, name: front-end}',
        ),
        (
            [SERVICE],
            "HTTPRoute shop has Services alone as its parents (front-end): requests that come through a "
            "gateway go to where the gateway's own route leads, whatever the weight; to steer them too, add "
            "the Gateway to its spec.parentRefs",
        ),
        (
            [],
            "HTTPRoute shop has no Gateway and no Service as its parent, so it steers nothing; add one to "
            "its spec",
        ),
        (
            [{"kind": "Other", "group": "x.example", "name": "y"}],
            "HTTPRoute shop has no Gateway and no Service as its parent, so it steers "
            "nothing; add one to its spec",
        ),
    ],
)
def test_whose_requests_a_route_does_not_steer_is_told_by_its_parents(
    parents: list[dict[str, Any]], says: str
) -> None:
    assert httproute_weights.unsteered("shop", {"parentRefs": parents}, "front-end") == says
    assert route_lists.unsteered(RouteView({}, {}, "1", {}, unsteered=says)) == says


def condition(kind: str, status: str, generation: int = 2) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": "BackendNotFound",
        "message": "no front-end-v2",
    }


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ([], ""),
        ([condition("Accepted", "True"), condition("ResolvedRefs", "True")], ""),
        (
            [condition("ResolvedRefs", "False")],
            "its parent Service front-end says ResolvedRefs=False: BackendNotFound (no front-end-v2)",
        ),
        (
            [condition("Accepted", "False")],
            "its parent Service front-end says Accepted=False: BackendNotFound (no front-end-v2)",
        ),
        ([condition("ResolvedRefs", "False", generation=1)], ""),  # of the route as it was before
        ([condition("PartiallyInvalid", "False")], ""),
    ],
)
def test_what_a_parent_says_against_the_route_as_it_is_now_is_trouble(
    conditions: list[dict[str, Any]], says: str
) -> None:
    status = {
        "parents": [
            {"parentRef": GATEWAY, "conditions": []},
            {"parentRef": SERVICE, "conditions": conditions},
        ]
    }
    assert httproute_weights.parent_problem({"metadata": {"generation": 2}, "status": status}) == says
    assert httproute_weights.parent_problem({"metadata": {"generation": 2}}) == ""


def test_a_destination_that_is_known_to_stand_for_no_version_is_refused_with_why() -> None:
    lists = {"#0": httproute_weights.entries([ref("v1", 1)], "front-end")}
    with pytest.raises(
        route_lists.Refusal,
        match="route #0 sends all traffic to front-end-v1: there is no Service of this name",
    ):
        route_lists.stable_version(
            RouteView(lists, {}, "1", {}, problems={"front-end-v1": "there is no Service of this name"})
        )


def test_versions_that_other_rules_lead_to_get_traffic_too() -> None:
    lists = {"#0": httproute_weights.entries([ref("v1", 1)], "front-end")}
    view = RouteView(
        lists, {"front-end-v1": "v1", "front-end-v2": "v2"}, "1", {}, elsewhere=frozenset({"v2"})
    )
    assert route_lists.versions(view) == {"v1", "v2"}
