"""The contract of added routes, asked of both kinds of object: they stand before their steered route, and
nothing is left of them."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, Rejected, RouteView
from canaryd.routing import route_lists
from canaryd.routing.managed_routes import steered
from tests.adapters.kube.api_servers import GATEWAY_API, Place
from tests.adapters.kube.route_kinds import GatewayApi, Object, Router

ALL_TO_V1 = ("", False, "front-end", {"v1": None})
BETA = ("beta", True, "front-end", {"v1": None})
CARTS = ("carts", True, "carts", {"v1": None})
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
EITHER = [
    {"headers": {"x-team": {"prefix": "a+b"}}},
    {"queryParams": {"preview": {"exact": "yes"}}, "headers": {"x-beta": {"exact": "1"}}},
]
STAGES = [
    {"weight": 0},
    {"match": COOKIE},
    {"match": EITHER},
    {"mirror": "20%"},
    {"mirror": "0.5%"},
    {"weight": 10},
    {"weight": 100},
]
PREVIEW = {"headers": {"x-canary": {"exact": "always"}}}
MATCH, MIRROR, FIRST = (f"canaryd-front-end-{kind}" for kind in ("match", "mirror", "preview"))


def ready(
    place: Place, router: Router, traffic: TrafficByKind, *put: Any, **policy: Any
) -> tuple[Policy, RouteView, str]:
    router.put(place, *(put or (BETA, CARTS, ALL_TO_V1)))
    wanted = router.policy(place, stages=STAGES, **policy)
    canary = traffic.add_subset(wanted, "v2")
    return wanted, traffic.read(wanted), canary


def names(router: Router, place: Place) -> list[str]:
    return [str(route.get("name") or "") for route in router.routes(router.get(place)["spec"])]


def test_every_stage_puts_its_routes_before_the_steered_one_and_the_end_takes_them_out(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy, view, canary = ready(place, router, traffic, preview=PREVIEW)
    before, origin = router.get(place)["spec"], steered(view.lists)
    for stage, kinds in enumerate(([], [MATCH], [MATCH], [MIRROR], [MIRROR], [], [])):
        wanted = route_lists.staged(policy, stage, view, origin, canary)
        view = traffic.write(policy, view, wanted)
        assert names(router, place) == ["beta", "carts", FIRST, *kinds, ""]
        assert route_lists.same(view.lists, wanted), (
            "what stands there is what was wanted, the server's defaults included"
        )
        assert route_lists.same(traffic.read(policy).lists, wanted)
        assert router.routes(router.get(place)["spec"])[:2] == router.routes(before)[:2]
        assert traffic.write(policy, view, route_lists.staged(policy, stage, view, origin, canary)) is view, (
            "nothing is written twice"
        )
    view = traffic.write(policy, view, route_lists.without(view.lists, origin, canary))
    assert router.get(place)["spec"] == before
    assert route_lists.same(view.lists, origin)


def test_an_added_route_has_all_else_that_the_steered_one_has(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy, view, canary = ready(
        place, router, traffic, ("shop", True, "front-end", {"v1": None}), chosen=("shop",)
    )
    view = traffic.write(policy, view, route_lists.staged(policy, 1, view, steered(view.lists), canary))
    added, own = router.routes(router.get(place)["spec"])
    kept = ("timeout", "timeouts")
    assert {key: added.get(key) for key in kept} == {key: own.get(key) for key in kept}
    assert router.shares(added) == {"v2": None}
    assert "/cart" in str(added)
    assert "logged_in" in str(added)


def test_routes_are_told_in_the_same_words(place: Place, router: Router, traffic: TrafficByKind) -> None:
    policy, view, canary = ready(place, router, traffic, ALL_TO_V1)
    origin, v1, v2 = steered(view.lists), router.named("v1"), router.named("v2")
    assert (
        route_lists.described(route_lists.staged(policy, 1, view, origin, canary))
        == f"cookie ~ .*logged_in.* to {v2}; else all to {v1}"
    )
    assert (
        route_lists.described(route_lists.staged(policy, 3, view, origin, canary))
        == f"all to {v1}, 20% mirrored to {v2}"
    )
    assert (
        route_lists.described(route_lists.staged(policy, 4, view, origin, canary))
        == f"all to {v1}, 0.5% mirrored to {v2}"
    )


def test_an_edit_of_an_added_route_is_seen_and_a_write_after_it_is_a_conflict(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy, view, canary = ready(place, router, traffic, ALL_TO_V1)
    view = traffic.write(policy, view, route_lists.staged(policy, 1, view, steered(view.lists), canary))
    router.edit(place, timeout="9s")
    with pytest.raises(Conflict):
        traffic.write(policy, view, route_lists.without(view.lists, steered(view.lists), canary))
    assert MATCH in traffic.read(policy).lists


def test_what_is_left_is_seen_where_the_steered_route_was_taken_out(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy, view, canary = ready(place, router, traffic, CARTS, ALL_TO_V1)
    origin = steered(view.lists)
    traffic.write(policy, view, route_lists.staged(policy, 1, view, origin, canary))
    path = f"/apis/{router.get(place)['apiVersion']}/namespaces/{place.namespace}/{router.kind.lower()}s/sockshop"  # noqa: E501
    where = "rules" if router.kind == "HTTPRoute" else "http"
    place.api.request(
        "PATCH",
        path,
        [{"op": "remove", "path": f"/spec/{where}/2"}],
        content_type="application/json-patch+json",
    )
    view = traffic.read(policy)
    assert list(view.lists) == [MATCH]
    # so that someone is told; yet nothing of canaryd's is left
    with pytest.raises(Rejected, match="without a match"):
        traffic.write(policy, view, route_lists.without(view.lists, origin, canary))
    assert names(router, place) == ["carts"]


# ---------------------------------------------------------------- the Gateway API alone

BY_HEADER: Object = {
    "name": "beta",
    "matches": [{"headers": [{"name": "x-beta", "value": "1"}]}],
    "backendRefs": [{"name": "front-end-v1", "port": 80}],
}


def with_rule(place: Place, at: int, rule: Object) -> None:
    place.edit(GATEWAY_API, "httproutes", "sockshop", lambda obj: obj["spec"]["rules"].insert(at, rule))


@pytest.mark.parametrize(
    ("at", "stage", "refused"),
    [(0, 1, False), (1, 1, True), (0, 2, True)],
    ids=["before it", "behind it", "with fewer conditions"],
)
def test_a_rule_that_would_lose_requests_to_an_added_one_is_named(
    place: Place, traffic: TrafficByKind, at: int, stage: int, refused: bool
) -> None:
    router = GatewayApi()
    policy, _, canary = ready(place, router, traffic, ALL_TO_V1)
    with_rule(place, at, BY_HEADER)
    view = traffic.read(policy)
    if refused:
        with pytest.raises(
            route_lists.Refusal,
            match=r"canaryd-front-end-match, added for rule #0, would take requests from the rule beta",
        ):
            route_lists.staged(policy, stage, view, steered(view.lists), canary)
    else:
        route_lists.staged(policy, stage, view, steered(view.lists), canary)


def test_the_name_of_a_persons_rule_must_not_be_one_of_canaryds(place: Place, traffic: TrafficByKind) -> None:
    router = GatewayApi()
    router.put(place, ("canaryd-x", False, "front-end", {"v1": None}))
    with pytest.raises(Rejected, match="rule canaryd-x must have another name"):
        traffic.read(router.policy(place))


def test_where_the_server_keeps_no_names_of_rules_nothing_is_added(
    place: Place, traffic: TrafficByKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Gateway API before 1.4 from its standard channel: it drops the field and says nothing."""
    policy, view, canary = ready(place, GatewayApi(), traffic, ALL_TO_V1)
    before, request = GatewayApi().get(place)["spec"], place.api.request

    def forgetful(method: str, path: str, body: Any = None, *more: Any, **named: Any) -> Any:
        if method == "PATCH" and path.endswith("/httproutes/sockshop"):
            for one in body:
                if one["op"] == "add":
                    one["value"].pop("name", None)
        return request(method, path, body, *more, **named)

    monkeypatch.setattr(place.api, "request", forgetful)
    with pytest.raises(
        Rejected, match=r"known by rules\[\].name, which this cluster's HTTPRoute does not keep"
    ):
        traffic.write(policy, view, route_lists.staged(policy, 1, view, steered(view.lists), canary))
    assert GatewayApi().get(place)["spec"] == before
