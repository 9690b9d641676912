"""What is left of routes and subsets when canaryd is taken out of them."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.domain.ports import RouteView
from canaryd.routing import restored_routes
from canaryd.routing.route_lists import Refusal
from tests.builders import HOST, a_destination

DOMAIN = "cluster.local"
SERVICE = ("production", "front-end")


def a_view(*entries: dict[str, Any], **subsets: str) -> RouteView:
    return RouteView(
        lists={"#0": entries}, subsets=subsets or {"v1": "v1", "v2": "v2"}, resource_version="1", raw={}
    )


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([a_destination("v1")], a_destination("v1")),
        ([a_destination("v1", 100)], a_destination("v1", 100)),
        ([a_destination("v1", 90), a_destination("v2", 10)], a_destination("v1")),
        ([a_destination("v1", 0), a_destination("v2", 100)], a_destination("v1")),
        ([a_destination("v2")], a_destination("v1")),
        ([a_destination("v2", 100)], a_destination("v1", 100)),
        ([a_destination("v3", 70), a_destination("v2", 30)], a_destination("v1")),
    ],
    ids=str,
)
def test_a_route_ends_with_one_destination_and_a_weight_only_where_it_was_alone_with_one(
    entries: list[Any], left: Any
) -> None:
    assert restored_routes.at_one(a_view(*entries), "v1") == {"#0": (left,)}


def test_a_route_of_canaryds_own_among_the_steered_ones_is_left_out() -> None:
    own = {"name": "canaryd-users", "match": [{"uri": {"prefix": "/"}}], "route": [a_destination("v2")]}
    view = RouteView(
        lists={"#0": (a_destination("v1"),), "canaryd-users": (own,)},
        subsets={"v1": "v1"},
        resource_version="1",
        raw={},
    )
    assert restored_routes.at_one(view, "v1") == {"#0": (a_destination("v1"),)}


def test_the_destination_is_copied_whole_from_the_one_that_is_there_else_from_the_heaviest() -> None:
    rich = {**a_destination("v2", 40), "headers": {"request": {"set": {"a": "b"}}}}
    assert (
        restored_routes.at_one(a_view(a_destination("v1", 60), rich), "v2")["#0"][0]["headers"]
        == rich["headers"]
    )
    port = {"destination": {"host": HOST, "subset": "v3", "port": {"number": 80}}, "weight": 60}
    (entry,) = restored_routes.at_one(a_view(a_destination("v2", 40), port), "v1")["#0"]
    assert entry == {"destination": {"host": HOST, "subset": "v1", "port": {"number": 80}}}


def test_a_subset_that_the_route_names_is_taken_before_another_of_the_same_version() -> None:
    view = a_view(a_destination("v2", 50), a_destination("green", 50), v1="v1", green="v1", v2="v2")
    assert restored_routes.at_one(view, "v1") == {"#0": (a_destination("green"),)}


@pytest.mark.parametrize(
    ("to", "stable", "kept"), [("", "", "v2"), ("v1", "", "v1"), ("", "v1", "v1"), ("v2", "v1", "v2")]
)
def test_the_version_asked_for_comes_before_a_rollouts_stable_and_that_before_the_one_that_serves(
    to: str, stable: str, kept: str
) -> None:
    assert restored_routes.kept_version(a_view(a_destination("v2")), to, stable) == kept


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("", "v1 50%, v2 50%; choose with --to v1 or --to v2"),
        ("v3", r"for version v3 \(there are: v1, v2"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_choice(to: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        restored_routes.kept_version(a_view(a_destination("v1", 50), a_destination("v2", 50)), to, "")


@pytest.mark.parametrize(
    ("route", "own"),
    [
        ({"name": "canaryd-users", "route": [a_destination("v2")]}, True),
        ({"name": "canaryd-users", "route": [{"destination": {"host": "front-end", "subset": "v2"}}]}, True),
        (
            {
                "name": "canaryd-users",
                "route": [{"destination": {"host": "carts"}}],
                "mirror": {"host": HOST},
            },
            True,
        ),
        ({"name": "canaryd-users", "route": [{"destination": {"host": "carts"}}]}, False),
        ({"name": "users-canaryd-", "route": [a_destination("v2")]}, False),
        ({"route": [a_destination("v2")]}, False),
    ],
)
def test_a_route_is_canaryds_own_by_its_name_and_the_service_it_leads_to(
    route: dict[str, Any], own: bool
) -> None:
    assert restored_routes.is_own(route, SERVICE, DOMAIN) is own


def test_every_use_of_a_subset_counts() -> None:
    spec = {
        "http": [
            {"name": "a", "route": [a_destination("v1", 100), a_destination("v2", 0)]},
            {
                "route": [{"destination": {"host": "carts", "subset": "v9"}}],
                "mirror": {"host": HOST, "subset": "v3"},
            },
            {"route": [], "mirrors": [a_destination("v4")]},
        ],
        "tls": [{"route": [a_destination("v5")]}],
        "tcp": [{"route": [a_destination("v6")]}],
    }
    used = restored_routes.uses(
        {"metadata": {"namespace": "production", "name": "x"}, "spec": spec}, SERVICE, DOMAIN
    )
    places = {subset: place.partition(", ")[2] for subset, place in used.items()}
    assert places == {
        "v1": "http route a",
        "v2": "http route a",
        "v3": "mirror of http route #1",
        "v4": "mirror of http route #2",
        "v5": "tls route #0",
        "v6": "tcp route #0",
    }


def test_only_unused_subsets_as_canaryd_added_them_are_removed() -> None:
    names = ("v1", "v2", "v3", "v4", "v5")
    rule: dict[str, Any] = {
        "spec": {"subsets": [{"name": name, "labels": {"version": name}} for name in names]}
    }
    rule["spec"]["subsets"][3]["labels"]["zone"] = "a"
    rule["spec"]["subsets"][4]["trafficPolicy"] = {}
    gone, said = restored_routes.removable(rule, ["v2", "v3", "v4", "v5"], {"v3": "route x"}, "version")
    assert gone == ["v2"]
    assert [line.split(":")[0] for line in said] == [
        f"subset {name} stays" for name in ("v1", "v3", "v4", "v5")
    ]
