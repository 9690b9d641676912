"""What a route list becomes at a weight, at success and at rollback, and when it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain import routes
from canaryd.domain.ports import RouteView
from canaryd.domain.rollout import RouteLists
from canaryd.domain.routes import Destination
from tests.builders import HOST, ORIGIN, a_destination

SUBSETS = {"v1": "v1", "v2": "v2", "blue": "v1"}


def a_view(lists: RouteLists, **spec: Any) -> RouteView:
    return RouteView(lists, SUBSETS, "1", {"metadata": {"namespace": "production"}, "spec": spec})


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("front-end", HOST),
        (HOST, HOST),
        ("front-end.production", "front-end.production"),
        (HOST + ".", HOST + "."),
        ("*", "*"),
        ("", ""),
        ("::1", "::1"),
    ],
)
def test_hosts_are_read_as_istio_reads_them(host: str, full: str) -> None:
    assert routes.full_host(host, "production") == full


def test_short_hosts_follow_namespace_and_cluster_domain() -> None:
    assert routes.full_host("front-end", "staging", "example.org") == "front-end.staging.svc.example.org"


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
        ({"#0": (a_destination("v1", 50), a_destination("v2", 50))}, r"route #0 is split \(v1 50%, v2 50%\).*set one weight to 100"),
        ({"#0": (a_destination("v9"),)}, r"subset 'v9', which the DestinationRule does not map.*subsets that it does: blue, v1, v2"),
        ({"a": (a_destination("v1"),), "b": (a_destination("v2"),)}, r"a to v1, b to v2.*route\.http"),
    ],
)
def test_routes_that_name_no_stable_version_are_refused_with_what_to_do(lists: RouteLists, says: str) -> None:
    with pytest.raises(routes.Refusal, match=says):
        routes.stable_version(a_view(lists))


def test_subsets_of_one_version_may_have_different_names() -> None:
    assert routes.stable_version(a_view({"a": (a_destination("v1"),), "b": (a_destination("blue"),)})) == "v1"


def test_a_split_is_the_stable_destination_and_a_copy_of_it() -> None:
    entry = {"destination": {"host": HOST, "subset": "v1", "port": {"number": 8080}}, "headers": {"request": {"add": {"x": "1"}}}}
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


extra = st.dictionaries(st.sampled_from(["headers", "port", "note"]), st.integers() | st.text(max_size=3), max_size=2)


@st.composite
def origins(draw: st.DrawFn) -> RouteLists:
    """Any routes that send all traffic to v1, with idle destinations and unknown fields among them."""
    lists = {}
    for number in range(draw(st.integers(1, 3))):
        stable: dict[str, Any] = {**draw(extra), **a_destination("v1", draw(st.sampled_from([None, 100, 1])))}
        idle = [{**draw(extra), **a_destination(name, 0)} for name in draw(st.lists(st.sampled_from(["v2", "v3"]), unique=True))]
        if idle:
            stable["weight"] = 100
        lists[f"#{number}"] = tuple(draw(st.permutations([stable, *idle])))
    return lists


def sent(entries: Sequence[Destination]) -> dict[str, int]:
    """Per cent by subset, as Istio reads a list: a destination alone takes all, among several a missing weight is 0."""
    if len(entries) == 1:
        return {entries[0]["destination"]["subset"]: 100}
    return {entry["destination"]["subset"]: entry["weight"] for entry in entries if entry.get("weight")}


@given(origins(), st.integers(0, 100))
def test_every_split_has_the_weights_that_were_wanted_and_the_way_back_is_exact(origin: RouteLists, weight: int) -> None:
    lists = routes.split(origin, "v2", weight)
    wanted = {subset: share for subset, share in (("v1", 100 - weight), ("v2", weight)) if share}
    assert all(sent(entries) == wanted for entries in lists.values())
    assert routes.same(routes.split(origin, "v2", 0), origin)
    assert all(len(entries) == 1 and sent(entries) == {"v2": 100} for entries in routes.only(origin, "v2").values())


@given(origins(), st.integers(0, 100))
def test_the_way_back_from_what_canaryd_wrote_is_the_origin_by_whatever_weights(origin: RouteLists, weight: int) -> None:
    for found in (routes.split(origin, "v2", weight), routes.only(origin, "v2")):
        assert routes.same(routes.without(found, origin, "v2"), origin)
        added = routes.without({**found, "new": ORIGIN["#0"]}, origin, "v2")
        assert routes.same(added, {**origin, "new": ORIGIN["#0"]}), "so it is where there are other routes than before"


@pytest.mark.parametrize(
    ("found", "back"),
    [
        ((a_destination("v1", 90), a_destination("v2", 10)), (a_destination("v1", 100),)),
        ((a_destination("v1", 60), a_destination("v0", 30), a_destination("v2", 10)), (a_destination("v1", 70), a_destination("v0", 30))),
        ((a_destination("v0", 30), a_destination("v2", 70)), (a_destination("v0", 30), a_destination("v1", 70))),
        ((a_destination("v2"),), (a_destination("v1"),)),
        ((a_destination("v1"), a_destination("v2", 100)), (a_destination("v1"),)),  # a missing weight is 0 among several, 100 alone
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
    assert routes.described({"a": ORIGIN["#0"], "b": routes.split(ORIGIN, "v2", 10)["#0"]}) == "a: all to v1; b: v1 90%, v2 10%"
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
    assert routes.versions(a_view(ORIGIN, tcp=[{"route": [{"destination": elsewhere_named}]}])) == {"v1", "v2"}


# ---------------------------------------------------------------- calls from inside the mesh


@pytest.mark.parametrize(("spec", "said"), [
    ({}, ""),
    ({"hosts": ["front-end"]}, ""),  # without gateways it is bound to the mesh
    ({"gateways": ["shop", "mesh"]}, ""),
    ({"gateways": ["istio-system/shop"], "hosts": ["shop.example"]}, "bound to istio-system/shop alone"),
    ({"gateways": ["shop"], "hosts": ["*"]}, "the mesh takes no `*`"),
])  # fmt: skip
def test_a_virtualservice_of_gateways_alone_does_not_steer_calls_from_inside_the_mesh(spec: dict[str, Any], said: str) -> None:
    view = RouteView({}, {}, "1", {"metadata": {"name": "sockshop"}, "spec": spec})
    assert bool(routes.unsteered(view)) == bool(said)
    assert said in routes.unsteered(view)
    assert ("`*`" in routes.unsteered(view)) == ("*" in spec.get("hosts", ()))
