"""Users who are drawn once for a rollout: what the routes become, who goes where, and that nothing of it is
left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.rollout import RouteLists
from canaryd.routing import managed_routes, route_lists, user_cookies
from canaryd.routing.restored_routes import at_one
from tests.builders import ORIGIN, a_destination, a_policy
from tests.routing.test_route_lists import a_view, origins, whole

MARK = user_cookies.token("78a05bb520", 2)
LADDER = (10, 25, 50, 100)


def kept(*weights: int, **affinity: Any) -> Policy:
    return a_policy(
        route={"virtualService": "sockshop", "affinity": affinity},
        stages=[{"weight": weight} for weight in weights],
    )


def staged(
    stage: int, policy: Policy | None = None, origin: RouteLists = ORIGIN, route: Mapping[str, Any] = {}
) -> RouteLists:
    view = whole(a_view(origin), **{key: {"route": entries, **route} for key, entries in origin.items()})
    return route_lists.staged(policy or kept(*LADDER), stage, view, origin, "v2", MARK)


def cookie(entry: Mapping[str, Any]) -> str:
    return str(entry["headers"]["response"]["add"]["set-cookie"])


def test_a_stage_draws_from_which_weight_on_a_user_gets_the_canary() -> None:
    drawn = staged(1)["#0"]
    assert [
        (one["destination"]["subset"], one["weight"], cookie(one).partition(";")[0]) for one in drawn
    ] == [
        ("v1", 25, "canaryd-front-end=canaryd.78a05bb520-2.from-50"),
        ("v1", 50, "canaryd-front-end=canaryd.78a05bb520-2.from-100"),
        ("v2", 10, "canaryd-front-end=canaryd.78a05bb520-2.from-10"),
        ("v2", 15, "canaryd-front-end=canaryd.78a05bb520-2.from-25"),
    ]
    assert cookie(drawn[0]).partition("; ")[2] == "Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"
    lists = staged(1, origin={"main": ORIGIN["#0"]}, route={"name": "main", "timeout": "3s"})
    [canary], [stable] = (
        lists["canaryd-front-end-canary-users.main"],
        lists["canaryd-front-end-stable-users.main"],
    )
    assert (canary["route"], canary["timeout"]) == ([a_destination("v2")], "3s")
    assert (stable["route"], stable["timeout"]) == ([a_destination("v1")], "3s")


def goes(lists: RouteLists, header: str) -> str:
    """Where a request with this Cookie header goes: the canary, stable, or by a new draw."""
    for kind in (user_cookies.CANARY, user_cookies.STABLE):
        [route] = lists.get(managed_routes.name_of("front-end", kind, "#0"), ({"match": []},))
        if any(re.fullmatch(one["headers"]["cookie"]["regex"], header) for one in route["match"]):
            return str(route["route"][0]["destination"]["subset"])
    return "drawn"


@pytest.mark.parametrize(
    ("since", "versions"),
    [
        (10, ["v2", "v2", "v2", "drawn"]),
        (25, ["v1", "v2", "v2", "drawn"]),
        (50, ["v1", "v1", "v2", "drawn"]),
        (100, ["v1", "v1", "v1", "drawn"]),
    ],
)
def test_a_user_goes_from_stable_to_the_canary_once_and_a_step_back_leaves_each_with_the_cookie(
    since: int, versions: list[str]
) -> None:
    header = f"canaryd-front-end=canaryd.{MARK}.from-{since}"
    assert [goes(staged(stage), header) for stage in range(4)] == versions
    assert staged(3) == route_lists.split(ORIGIN, "v2", 100), (
        "at full weight nobody is asked for a cookie, nor given one"
    )


@pytest.mark.parametrize(
    ("header", "where"),
    [
        ("{0}", "v2"),
        ("theme=dark; {0}", "v2"),
        ("theme=dark;{0};b=1", "v2"),
        ("{0}; b=1", "v2"),
        ("{0} ; b=1", "v2"),
        ("", "drawn"),
        ("theme=dark", "drawn"),
        ("x{0}", "drawn"),
        ("a=b {0}", "drawn"),
        ("{0}1", "drawn"),
        ("a={0}", "drawn"),
        ("canaryd-front-end=canaryd.78a05bb520-1.from-10", "drawn"),
        ("canaryd-front-end=canaryd_78a05bb520-2.from-10", "drawn"),
        ("canaryd-front-end=canaryd.78a05bb520-2.from-1", "drawn"),
        ("canaryd-front-endx=canaryd.78a05bb520-2.from-10", "drawn"),
    ],
)
def test_a_cookie_is_found_whole_and_among_others_and_only_this_rollout_s(header: str, where: str) -> None:
    assert goes(staged(0), header.format(f"canaryd-front-end=canaryd.{MARK}.from-10")) == where


def with_real_headers(origin: RouteLists) -> RouteLists:
    headers = {"request": {"set": {"x-a": "1"}}}
    return {
        key: tuple({**entry, "headers": headers} if "headers" in entry else entry for entry in entries)
        for key, entries in origin.items()
    }


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6), st.data())
def test_the_draws_of_a_stage_are_its_weights_and_plain_again_they_are_what_a_person_would_have_written(
    weights: set[int], data: st.DataObject
) -> None:
    ladder, origin = (*sorted(weights), 100), data.draw(origins().map(with_real_headers))
    policy = kept(*ladder)
    before: dict[str, int] = {}
    for stage, weight in enumerate(ladder):
        lists = route_lists.staged(policy, stage, None, origin, "v2", MARK)
        assert route_lists.same(
            route_lists.without_own_cookies(lists), route_lists.split(origin, "v2", weight)
        )
        for entries in managed_routes.steered(lists).values():
            assert sum(entry.get("weight", 0) for entry in entries) == 100
            drawn = {
                cookie(entry): entry["weight"] for entry in entries if entry.get("weight") and weight < 100
            }
            assert not before or not drawn or drawn == before, "the same lots in every stage"
            before = drawn or before
        for found in (lists, {f"x{key}": entries for key, entries in managed_routes.steered(lists).items()}):
            for back in (route_lists.without(found, origin, "v2"), route_lists.adopted(found, origin, "v2")):
                assert "canaryd." not in str(back)
        assert route_lists.same(route_lists.without(lists, origin, "v2"), origin)
        assert "canaryd." not in str(at_one(a_view(lists), "v1"))


def test_what_a_person_has_in_a_destination_stays_beside_the_cookie_and_after_it() -> None:
    rich = {
        **a_destination("v1"),
        "headers": {"response": {"add": {"x-a": "1"}, "remove": ["x-b"]}, "request": {"set": {"x-c": "2"}}},
    }
    lists = staged(0, origin={"#0": (rich,)})
    assert {one["headers"]["response"]["add"]["x-a"] for one in lists["#0"]} == {"1"}
    assert route_lists.same(
        route_lists.without_own_cookies(lists), route_lists.split({"#0": (rich,)}, "v2", 10)
    )
    [left] = route_lists.without({"new": lists["#0"]}, {"#0": (rich,)}, "v2")["new"]
    assert left == {**rich, "weight": 100}


@pytest.mark.parametrize(
    ("route", "entry", "says"),
    [
        (
            {"headers": {"response": {"remove": ["Set-Cookie"]}}},
            {},
            "route #0 cannot be kept on one version: it has headers.response.remove",
        ),
        (
            {"headers": {"response": {"set": {"set-cookie": "a=1"}}}},
            {},
            "it has headers.response.set for set-cookie",
        ),
        (
            {},
            {"headers": {"response": {"add": {"Set-Cookie": "a=1"}}}},
            "a destination has headers.response.add for set-cookie",
        ),
        (
            {"match": [{"headers": {"cookie": {"exact": "x"}}}]},
            {},
            "route #0 has a condition on headers cookie of its own",
        ),
    ],
)
def test_a_route_on_which_no_cookie_can_be_set_or_asked_for_is_refused_before_it_begins(
    route: Any, entry: Any, says: str
) -> None:
    origin = {"#0": ({**a_destination("v1"), **entry},)}
    view = whole(a_view(origin), **{"#0": {"route": origin["#0"], **route}})
    with pytest.raises(route_lists.Refusal, match=re.escape(says)):
        route_lists.check(kept(*LADDER), view, "v2")


def test_routes_by_user_are_said_with_whom_they_are_for() -> None:
    assert (
        route_lists.described(staged(1)) == "users of the canary to v2; of stable to v1; else v1 75%, v2 25%"
    )
    left = {key: entries for key, entries in staged(1).items() if "canary-users" not in key}
    assert route_lists.described(left) == "of stable to v1; else v1 75%, v2 25%"


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"mode": "observe"}, ("route", "affinity"), "must be left out with mode: observe"),
        (
            {"stages": [{"weight": 0}, {"weight": 100}]},
            ("route", "affinity"),
            "must be left out where no stage has a weight between",
        ),
        (
            {"strategy": "blue-green", "stages": [{"weight": 0}, {"weight": 100}]},
            ("route", "affinity"),
            "must be left out where no stage",
        ),
        (
            {"stages": [{"match": {"headers": {"x-a": {"exact": "1"}}}}, {"weight": 10}, {"weight": 100}]},
            ("stages", 0, "match"),
            "must be left out where route.affinity is set",
        ),
        (
            {"schedule": {"deadline": "8d"}},
            ("route", "affinity", "maxAge"),
            "must be at least schedule.deadline (192h)",
        ),
        (
            {"route": {"httpRoute": "sockshop", "affinity": {}}},
            ("route", "affinity"),
            "must be left out where httpRoute is set",
        ),
        (
            {"route": {"virtualService": "sockshop", "affinity": {"cookie": "a;b"}}},
            ("route", "affinity", "cookie"),
            "must be a cookie's name",
        ),
        ({"route": {"virtualService": "sockshop", "affinity": True}}, ("route", "affinity"), "must be a map"),
        (
            {"route": {"virtualService": "sockshop", "affinity": {"users": 3}}},
            ("route", "affinity", "users"),
            "must be at least 10",
        ),
    ],
)
def test_affinity_is_refused_where_it_cannot_be_kept(
    changes: dict[str, Any], key: tuple[Any, ...], says: str
) -> None:
    data = {
        "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
        "route": {"virtualService": "sockshop", "affinity": {}},
        "stages": [{"weight": 10}, {"weight": 100}],
    }
    with pytest.raises(InvalidPolicy) as refused:
        Policy.read({**data, **changes})
    [problem] = [problem for problem in refused.value.problems if problem.key == key]
    assert says in problem.message


def test_a_policy_with_affinity_means_the_same_when_it_is_read_back() -> None:
    policy = kept(10, 100)
    assert policy.route.affinity is not None
    assert policy.route.affinity.cookie == "canaryd-front-end"
    assert Policy.load(policy.dump()) == policy
