"""What a route list becomes at a weight, at success and at rollback, and when it is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain.ports import RouteView
from canaryd.domain.rollout import RouteLists
from canaryd.routing import managed_routes as added
from canaryd.routing import route_lists as routes
from canaryd.routing.documents import RouteEntry
from tests.builders import HOST, ORIGIN, a_destination, a_policy

SUBSETS = {"v1": "v1", "v2": "v2", "blue": "v1"}


def a_view(lists: RouteLists, **spec: Any) -> RouteView:
    return RouteView(lists, SUBSETS, "1", {"metadata": {"namespace": "production"}, "spec": spec})


PREVIEW = {"headers": {"x-canary": {"exact": "always"}}}
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
LADDER = a_policy(
    route={"virtualService": "sockshop", "preview": PREVIEW},
    stages=[
        {"weight": 0},
        {"match": COOKIE},
        {"mirror": "12.5%"},
        {"match": [COOKIE, {"queryParams": {"v": {"exact": "2"}}}], "weight": 10},
        {"weight": 100},
    ],
)


def whole(view: RouteView, **routes: Any) -> RouteView:
    """With what the steered routes have besides their lists."""
    return replace(view, routes=routes)


def in_stage(stage: int, route: dict[str, Any], key: str = "#0", **spec: Any) -> RouteLists:
    lists = {key: (a_destination("v1"),)}
    return routes.staged(LADDER, stage, whole(a_view(lists, **spec), **{key: route}), lists, "v2")


def test_a_stage_has_the_routes_that_a_person_would_have_written_for_it() -> None:
    rich = {
        "route": [a_destination("v1")],
        "timeout": "3s",
        "retries": {"attempts": 2},
        "rewrite": {"uri": "/x"},
    }
    preview = {
        "name": "canaryd-front-end-preview",
        "match": [PREVIEW],
        "route": [a_destination("v2")],
        **{name: rich[name] for name in ("timeout", "retries", "rewrite")},
    }
    assert in_stage(0, rich) == {**ORIGIN, "canaryd-front-end-preview": (preview,)}
    assert in_stage(1, rich)["canaryd-front-end-match"] == (
        {**preview, "name": "canaryd-front-end-match", "match": [COOKIE]},
    )
    copied = {"mirror": a_destination("v2")["destination"], "mirrorPercentage": {"value": 12.5}}
    assert in_stage(2, rich)["canaryd-front-end-mirror"] == (
        {**rich, "name": "canaryd-front-end-mirror", **copied},
    )
    assert in_stage(3, rich)["#0"] == (a_destination("v1", 90), a_destination("v2", 10))
    assert in_stage(4, rich) == {
        "#0": (a_destination("v1", 0), a_destination("v2", 100)),
        "canaryd-front-end-preview": (preview,),
    }


def test_the_matches_of_a_steered_route_and_of_a_stage_hold_both_each_with_each() -> None:
    own = [
        {"uri": {"prefix": "/a"}, "name": "a"},
        {"uri": {"prefix": "/b"}, "headers": {"x-b": {"exact": "1"}}},
    ]
    [route] = in_stage(3, {"name": "main", "match": own, "route": [a_destination("v1")]}, "main")[
        "canaryd-front-end-match.main"
    ]
    assert route["match"] == [
        {"uri": {"prefix": "/a"}, "name": "a", **COOKIE},
        {"uri": {"prefix": "/a"}, "name": "a", "queryParams": {"v": {"exact": "2"}}},
        {"uri": {"prefix": "/b"}, "headers": {"x-b": {"exact": "1"}, **COOKIE["headers"]}},
        {"uri": {"prefix": "/b"}, "headers": {"x-b": {"exact": "1"}}, "queryParams": {"v": {"exact": "2"}}},
    ]


@pytest.mark.parametrize(
    ("stage", "route", "spec", "says"),
    [
        (
            1,
            {"match": [{"headers": {"cookie": {"exact": "x"}}}]},
            {},
            "route #0 has a condition on headers cookie of its own, and Istio",
        ),
        (2, {"mirror": {"host": "shadow"}}, {}, "route #0 is mirrored already"),
        (2, {"mirrors": [{"destination": {"host": "shadow"}}]}, {}, "route #0 is mirrored already"),
    ],
)
def test_what_cannot_be_added_before_a_route_is_refused_by_its_name(
    stage: int, route: Any, spec: Any, says: str
) -> None:
    with pytest.raises(routes.Refusal, match=re.escape(says)):
        in_stage(stage, {"route": [a_destination("v1")], **route}, **spec)
    lists = {"#0": (a_destination("v1"),)}
    with pytest.raises(routes.Refusal, match=re.escape(says)):
        routes.check(LADDER, whole(a_view(lists, **spec), **{"#0": route}), "v2")


def test_labels_of_callers_are_refused_where_callers_are_not_steered() -> None:
    policy = a_policy(stages=[{"match": {"sourceLabels": {"app": "orders"}}}, {"weight": 100}])
    with pytest.raises(
        routes.Refusal, match="sourceLabels match callers inside the mesh, and VirtualService"
    ):
        routes.check(policy, a_view(ORIGIN, gateways=["shop"]), "v2")
    routes.check(policy, a_view(ORIGIN, gateways=["shop", "mesh"]), "v2")


def test_a_route_with_a_mirror_of_its_own_keeps_it_for_matched_users() -> None:
    [route] = in_stage(1, {"route": [a_destination("v1")], "mirror": {"host": "shadow"}})[
        "canaryd-front-end-match"
    ]
    assert route["mirror"] == {"host": "shadow"}


@pytest.mark.parametrize(
    ("name", "is_its"),
    [
        ("canaryd-front-end-match", True),
        ("canaryd-front-end-mirror.main", True),
        ("canaryd-front-end-preview.#1", True),
        ("canaryd-front-match", False),
        ("canaryd-front-end-admin-match", False),
        ("canaryd-front-end-matching", False),
        ("match", False),
        ("", False),
    ],
)
def test_an_added_route_is_known_by_its_name_as_this_service_s(name: str, is_its: bool) -> None:
    assert added.is_of("front-end", name) is is_its


@pytest.mark.parametrize("stage", range(5))
@given(data=st.data())
def test_what_a_stage_adds_goes_with_the_way_back_and_twice_is_as_once(
    stage: int, data: st.DataObject
) -> None:
    origin = data.draw(origins())
    wanted = routes.staged(LADDER, stage, None, origin, "v2")
    assert added.steered(wanted) == routes.split(origin, "v2", LADDER.stages[stage].weight)
    assert routes.same(wanted, routes.staged(LADDER, stage, a_view(wanted), origin, "v2"))
    assert routes.same(routes.without(wanted, origin, "v2"), origin)
    assert routes.same(routes.adopted(wanted, origin, "v2"), origin)
    moved = {f"x{key}": entries for key, entries in origin.items()}
    assert not [key for key in routes.without({**wanted, **moved}, origin, "v2") if added.is_added(key)]


def test_added_routes_are_said_before_what_is_left_for_the_others() -> None:
    plain = {"route": [a_destination("v1")]}
    assert (
        routes.described(in_stage(1, plain))
        == "x-canary = always to v2; cookie ~ .*logged_in.* to v2; else all to v1"
    )
    assert (
        routes.described(in_stage(2, plain))
        == "x-canary = always to v2; else all to v1, 12.5% mirrored to v2"
    )
    mirrored = a_policy(stages=[{"mirror": "10%"}, {"weight": 100}])
    assert routes.described(routes.staged(mirrored, 0, None, ORIGIN, "v2")) == "all to v1, 10% mirrored to v2"
    two = {"a": ORIGIN["#0"], "#1": ORIGIN["#0"]}
    assert routes.described(routes.staged(mirrored, 0, None, two, "v2")) == "all to v1, 10% mirrored to v2"
    assert routes.described({**routes.staged(mirrored, 0, None, two, "v2"), "a": (a_destination("v3"),)}) == (
        "a: all to v3, 10% mirrored to v2; #1: all to v1, 10% mirrored to v2"
    )


def test_the_stable_version_is_that_of_steered_routes_whatever_was_added() -> None:
    assert routes.stable_version(a_view(in_stage(1, {"route": [a_destination("v1")]}))) == "v1"


@pytest.mark.parametrize(
    "entries",
    [
        (a_destination("v1"),),
        (a_destination("v1", 0),),  # alone, it takes all whatever its weight
        (a_destination("v1", 100), a_destination("v2", 0)),
        (a_destination("v2"), a_destination("v1", 1)),
    ],
)
def test_the_stable_version_is_the_one_with_all_the_traffic(entries: tuple[Any, ...]) -> None:
    assert routes.stable_version(a_view({"#0": entries})) == "v1"


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({}, "no route to steer"),
        (
            {"#0": (a_destination("v1", 50), a_destination("v2", 50))},
            r"route #0 is split \(v1 50%, v2 50%\).*set one weight to 100",
        ),
        (
            {"#0": (a_destination("v9"),)},
            r"subset 'v9', which the DestinationRule does not map.*subsets that it does: blue, v1, v2",
        ),
        ({"a": (a_destination("v1"),), "b": (a_destination("v2"),)}, r"a to v1, b to v2.*route\.http"),
    ],
)
def test_routes_that_name_no_stable_version_are_refused_with_what_to_do(lists: RouteLists, says: str) -> None:
    with pytest.raises(routes.Refusal, match=says):
        routes.stable_version(a_view(lists))


def test_subsets_of_one_version_may_have_different_names() -> None:
    assert routes.stable_version(a_view({"a": (a_destination("v1"),), "b": (a_destination("blue"),)})) == "v1"


def test_a_split_is_the_stable_destination_and_a_copy_of_it() -> None:
    entry = {
        "destination": {"host": HOST, "subset": "v1", "port": {"number": 8080}},
        "headers": {"request": {"add": {"x": "1"}}},
    }
    [stable, canary] = routes.split({"#0": (entry,)}, "v2", 10)["#0"]
    assert stable == {**entry, "weight": 90}
    assert canary == {**entry, "destination": {**entry["destination"], "subset": "v2"}, "weight": 10}


def test_a_split_at_100_keeps_the_way_back() -> None:
    assert routes.split(ORIGIN, "v2", 100) == {"#0": (a_destination("v1", 0), a_destination("v2", 100))}


def test_an_idle_destination_of_the_canary_is_used_as_it_is() -> None:
    idle = {**a_destination("v2", 0), "headers": {"response": {"add": {"x": "canary"}}}}
    origin = {"#0": (a_destination("v1", 100), idle)}
    assert routes.split(origin, "v2", 25) == {"#0": (a_destination("v1", 75), {**idle, "weight": 25})}
    assert routes.only(origin, "v2") == {"#0": ({**idle, "weight": 100},)}


def test_a_success_leaves_one_destination_with_a_weight_only_where_one_was() -> None:
    assert routes.only(ORIGIN, "v2") == {"#0": (a_destination("v2"),)}
    assert routes.only({"#0": (a_destination("v1", 100),)}, "v2") == {"#0": (a_destination("v2", 100),)}


@pytest.mark.parametrize("weight", [-1, 101])
def test_a_weight_beyond_all_traffic_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match=str(weight)):
        routes.split(ORIGIN, "v2", weight)


def test_a_split_of_the_stable_subset_with_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="already sends all traffic to subset v1"):
        routes.split(ORIGIN, "v1", 10)


extra = st.dictionaries(
    st.sampled_from(["headers", "port", "note"]), st.integers() | st.text(max_size=3), max_size=2
)


@st.composite
def origins(draw: st.DrawFn) -> RouteLists:
    """Any routes that send all traffic to v1, with idle destinations and unknown fields among them."""
    lists = {}
    for number in range(draw(st.integers(1, 3))):
        stable: dict[str, Any] = {**draw(extra), **a_destination("v1", draw(st.sampled_from([None, 100, 1])))}
        idle = [
            {**draw(extra), **a_destination(name, 0)}
            for name in draw(st.lists(st.sampled_from(["v2", "v3"]), unique=True))
        ]
        if idle:
            stable["weight"] = 100
        lists[f"#{number}"] = tuple(draw(st.permutations([stable, *idle])))
    return lists


def sent(entries: Sequence[RouteEntry]) -> dict[str, int]:
    """Per cent by subset, as Istio reads a list: a destination alone takes all, among several a missing
    weight is 0."""
    if len(entries) == 1:
        return {entries[0]["destination"]["subset"]: 100}
    return {entry["destination"]["subset"]: entry["weight"] for entry in entries if entry.get("weight")}


@given(origins(), st.integers(0, 100))
def test_every_split_has_the_weights_that_were_wanted_and_the_way_back_is_exact(
    origin: RouteLists, weight: int
) -> None:
    lists = routes.split(origin, "v2", weight)
    wanted = {subset: share for subset, share in (("v1", 100 - weight), ("v2", weight)) if share}
    assert all(sent(entries) == wanted for entries in lists.values())
    assert routes.same(routes.split(origin, "v2", 0), origin)
    assert all(
        len(entries) == 1 and sent(entries) == {"v2": 100} for entries in routes.only(origin, "v2").values()
    )


@given(origins(), st.integers(0, 100))
def test_the_way_back_from_what_canaryd_wrote_is_the_origin_by_whatever_weights(
    origin: RouteLists, weight: int
) -> None:
    for found in (routes.split(origin, "v2", weight), routes.only(origin, "v2")):
        assert routes.same(routes.without(found, origin, "v2"), origin)
        added = routes.without({**found, "new": ORIGIN["#0"]}, origin, "v2")
        assert routes.same(added, {**origin, "new": ORIGIN["#0"]}), (
            "so it is where there are other routes than before"
        )


@pytest.mark.parametrize(
    ("found", "back"),
    [
        ((a_destination("v1", 90), a_destination("v2", 10)), (a_destination("v1", 100),)),
        (
            (a_destination("v1", 60), a_destination("v0", 30), a_destination("v2", 10)),
            (a_destination("v1", 70), a_destination("v0", 30)),
        ),
        (
            (a_destination("v0", 30), a_destination("v2", 70)),
            (a_destination("v0", 30), a_destination("v1", 70)),
        ),
        ((a_destination("v2"),), (a_destination("v1"),)),
        (
            (a_destination("v1"), a_destination("v2", 100)),
            (a_destination("v1"),),
        ),  # a missing weight is 0 among several, 100 alone
        ((a_destination("v0"),), (a_destination("v0"),)),
    ],
)
def test_a_list_that_canaryd_did_not_write_loses_the_canary_and_nothing_else(found: Any, back: Any) -> None:
    assert routes.without({"new": found}, ORIGIN, "v2") == {"new": back}


def test_other_routes_are_steered_from_what_they_are_without_the_canary() -> None:
    mixed = {"main": routes.split(ORIGIN, "v2", 10)["#0"], "b": ORIGIN["#0"]}
    assert routes.adopted(mixed, ORIGIN, "v2") == {"main": (a_destination("v1", 100),), "b": ORIGIN["#0"]}
    assert routes.adopted({"#0": (a_destination("v0"),)}, ORIGIN, "v2") == ORIGIN
    with pytest.raises(routes.Refusal, match=r"route b is split \(v1 50%, v0 50%\)"):
        routes.adopted({**ORIGIN, "b": (a_destination("v1", 50), a_destination("v0", 50))}, ORIGIN, "v2")


def test_equality_is_that_of_json() -> None:
    assert routes.same({"a": ({"weight": 1, "x": ["y"]},)}, {"a": [{"x": ("y",), "weight": 1.0}]})  # type: ignore[dict-item]
    assert not routes.same(ORIGIN, {"#0": (a_destination("v1", 100),)})
    assert not routes.same(ORIGIN, {"main": ORIGIN["#0"]})


def test_routes_are_described_in_one_line() -> None:
    assert routes.described(ORIGIN) == "all to v1"
    assert routes.described({"a": ORIGIN["#0"], "b": ORIGIN["#0"]}) == "all to v1"
    assert (
        routes.described({"a": ORIGIN["#0"], "b": routes.split(ORIGIN, "v2", 10)["#0"]})
        == "a: all to v1; b: v1 90%, v2 10%"
    )
    assert routes.described({}) == "not there"


def test_versions_count_wherever_the_virtualservice_may_send_requests() -> None:
    to_v1, to_v2 = a_destination("v1"), a_destination("v2")
    elsewhere = {"destination": {"host": "carts", "subset": "v2"}}
    assert routes.versions(a_view(ORIGIN)) == {"v1"}
    assert routes.versions(a_view(ORIGIN, http=[{"route": [to_v1]}, {"route": [elsewhere]}])) == {"v1"}
    assert routes.versions(a_view(ORIGIN, http=[{"match": [{}], "route": [to_v2]}])) == {"v1", "v2"}
    short = {"host": "front-end", "subset": "v2"}
    assert routes.versions(a_view(ORIGIN, http=[{"route": [to_v1], "mirror": short}])) == {"v1", "v2"}
    assert routes.versions(a_view(ORIGIN, tcp=[{"route": [{"destination": short}]}])) == {"v1", "v2"}
    elsewhere_named = {"host": "front-end.production.svc.example.internal", "subset": "v2"}
    assert routes.versions(a_view(ORIGIN, tcp=[{"route": [{"destination": elsewhere_named}]}])) == {
        "v1",
        "v2",
    }


# ---------------------------------------------------------------- calls from inside the mesh


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ""),
        ({"hosts": ["front-end"]}, ""),  # without gateways it is bound to the mesh
        ({"gateways": ["shop", "mesh"]}, ""),
        ({"gateways": ["istio-system/shop"], "hosts": ["shop.example"]}, "bound to istio-system/shop alone"),
        ({"gateways": ["shop"], "hosts": ["*"]}, "the mesh takes no `*`"),
    ],
)
def test_a_virtualservice_of_gateways_alone_does_not_steer_calls_from_inside_the_mesh(
    spec: dict[str, Any], said: str
) -> None:
    view = RouteView({}, {}, "1", {"metadata": {"name": "sockshop"}, "spec": spec})
    assert bool(routes.unsteered(view)) == bool(said)
    assert said in routes.unsteered(view)
    assert ("`*`" in routes.unsteered(view)) == ("*" in spec.get("hosts", ()))


@pytest.mark.parametrize(
    ("hosts", "gateways", "said"),
    [
        (["front-end"], ["shop", "mesh"], ""),
        ([HOST], None, ""),
        (["Front-End"], None, ""),
        (["*.production.svc.cluster.local"], None, ""),
        ([], None, ""),  # as of a VirtualService that another delegates to
        (["shop.example"], ["shop", "mesh"], "does not have front-end among its spec.hosts"),
        (["front-end.production"], None, "add `front-end` to its spec.hosts"),
        (["shop.example"], ["shop"], "add `mesh` to its spec.gateways and `front-end` to its spec.hosts"),
        (["*"], ["shop"], "add `mesh` to its spec.gateways (and name its hosts"),
    ],
)
def test_calls_inside_the_mesh_follow_a_virtualservice_for_the_services_own_host(
    hosts: list[str], gateways: list[str] | None, said: str
) -> None:
    view = a_view(ORIGIN, hosts=hosts, **({"gateways": gateways} if gateways else {}))
    assert bool(routes.unsteered(view)) == bool(said)
    assert said in routes.unsteered(view)
