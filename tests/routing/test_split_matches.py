"""Matched requests that are split between both versions; and what an HTTPRoute can say of matches."""

from typing import Any

import pytest

from canaryd.domain.policy.match_conditions import Match
from canaryd.domain.policy.policy import Policy
from canaryd.routing import httproute_rules, managed_routes
from tests.domain.policy.test_policy import refusals

SEED = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
SPLIT = {"match": SEED, "split": "half"}
FAIR: dict[str, Any] = {
    "stages": [SPLIT, {"weight": 10}, {"weight": 100}],
    "analysis": {"reporter": "source"},
}


def data(**changes: Any) -> dict[str, Any]:
    service = {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}}
    return {"service": service, "route": {"virtualService": "sockshop"}, **FAIR, **changes}


def test_a_stage_of_split_matches_is_compared_like_a_draw_of_half() -> None:
    policy = Policy.load(data())
    stage = policy.stages[0]
    assert (stage.kind, stage.weight, stage.promised, stage.rules_out) == ("split", 0, 50, True)
    assert (stage.said, stage.short, stage.how) == (
        "half of cookie ~ .*logged_in.*",
        "half of match",
        "for half of cookie ~ .*logged_in.*",
    )
    assert Policy.load(policy.dump()) == policy


def test_the_services_that_matched_users_call_are_canaryds_own() -> None:
    by_istio, by_gateway_api = Policy.load(data()), Policy.load(data(route={"httpRoute": "sockshop"}))
    assert by_istio.fair_services == by_istio.called(0) == ("front-end-canaryd-match",)
    assert by_gateway_api.fair_services == ("front-end-canaryd-stable", "front-end-canaryd-canary")
    assert by_istio.called(1) == ()
    assert Policy.load(data(stages=[{"match": SEED}, {"weight": 100}])).fair_services == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"analysis": {"reporter": "destination"}},
            "stages[0].split must be set only with analysis.reporter: source. Stable's matched users are "
            "distinguished from its other users by the Service that they called, and only callers report it "
            "(a pod's sidecar and a waypoint report the same Service for all), but the reporter is "
            "destination",
        ),
        (
            {"analysis": {"reporter": "waypoint"}},
            "report the same Service for all), but the reporter is waypoint",
        ),
        (
            {"stages": [{"weight": 0, "split": "half"}, {"weight": 100}]},
            "stages[0].split must be set only together with match, whose requests it splits, but "
            "match is missing",
        ),
        ({"stages": [{"match": SEED, "split": 50}, {"weight": 100}]}, "stages[0].split must be"),
        ({"stages": [SPLIT, SPLIT, {"weight": 100}]}, "stages[1] must differ from the stages before it"),
        ({"mode": "observe"}, "stages[0].match must be left out with mode: observe"),
        (
            {"service": {"name": "a" * 50, "namespace": "p", "selector": {"app": "a"}}},
            "a name may have 63 characters, but one would have 64",
        ),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    assert any(says in refusal for refusal in refusals(data(**changes))), refusals(data(**changes))


def test_split_and_whole_matches_may_follow_each_other() -> None:
    assert len(Policy.load(data(stages=[{"match": SEED}, SPLIT, {"weight": 100}])).stages) == 3


@pytest.mark.parametrize("where", ["match", "preview"])
@pytest.mark.parametrize(
    ("match", "kinds"),
    [
        ({"withoutHeaders": {"x": {"exact": "a"}}}, "withoutHeaders"),
        ([SEED, {"sourceLabels": {"app": "orders"}}], "sourceLabels"),
    ],
)
def test_conditions_that_the_gateway_api_does_not_have_are_refused(
    where: str, match: Any, kinds: str
) -> None:
    route: dict[str, Any] = {"httpRoute": "sockshop"} | ({"preview": match} if where == "preview" else {})
    stages = [{"match": match}, {"weight": 100}] if where == "match" else [{"weight": 100}]
    key = "stages[0].match" if where == "match" else "route.preview"
    assert refusals(data(route=route, stages=stages)) == [
        f"{key} must be without {kinds} where route.httpRoute is set, since the Gateway API has no such "
        "condition, but has it"
    ]


def test_a_preview_that_is_matched_as_well_goes_by_no_lot_behind_an_httproute() -> None:
    """There more conditions win: previews have one, the match two."""
    match = {"headers": {"cookie": {"regex": ".*logged_in.*"}, "x-team": {"exact": "a"}}}
    route = {"httpRoute": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}
    policy = Policy.load(data(route=route, stages=[{"match": match, "split": "half"}, {"weight": 100}]))
    entry = {"destination": {"host": "front-end", "subset": "front-end-v1"}, "port": 80}
    whole = {"#0": {"matches": [PATH], "route": [entry]}}
    to_canary = {"#0": ({**entry, "destination": {"host": "front-end", "subset": "front-end-v2"}},)}
    found = managed_routes.wanted(policy, 0, whole, to_canary, httproute_rules.SHAPE)
    names = [
        sorted(header["name"] for header in match["headers"])
        for match in found["canaryd-front-end-preview"][0]["matches"]
    ]
    assert names == [["x-canary"], ["cookie", "x-canary", "x-team"]]
    assert [backend_ref["name"] for backend_ref in found["canaryd-front-end-preview"][0]["backendRefs"]] == [
        "front-end-v2"
    ]
    one, other = (Match.model_validate({"headers": {"x": {"exact": value}}}) for value in "ab")
    assert one.merged(other) is None, "no request fits both"


def test_a_prefix_is_quoted_as_re2_has_it() -> None:
    assert httproute_rules.quoted("a.b+c-d e/{1}") == r"a\.b\+c-d e/\{1\}"


# ---------------------------------------------------------------- whose requests an added rule takes

PATH = {"path": {"type": "PathPrefix", "value": "/"}}
STEERED = {"matches": [PATH]}
OURS = {
    "name": "canaryd-front-end-match",
    "matches": [{**PATH, "headers": [{"type": "Exact", "name": "x-team", "value": "a"}]}],
}


def rule(*, path: str = "/", method: str = "", **headers: str) -> dict[str, Any]:
    match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": path}} | (
        {"method": method} if method else {}
    )
    return {
        "name": "other",
        "matches": [
            {
                **match,
                "headers": [
                    {"name": name.replace("_", "-"), "value": value} for name, value in headers.items()
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("there", "place", "is_lost"),
    [
        ([rule(x_beta="1"), STEERED], 1, False),  # of equals the first, as before
        ([STEERED, rule(x_beta="1")], 0, True),  # it won over the steered one, and loses to ours
        ([STEERED, rule(x_team="b")], 0, False),  # no request fits both
        ([STEERED, rule(x_beta="1", x_gamma="2")], 0, False),
        ([STEERED, rule(path="/cart")], 0, False),  # a longer path is always first
        ([STEERED, rule(method="POST")], 0, False),  # so is a method
        ([STEERED, rule()], 0, False),  # it had nothing to lose
    ],
    ids=["before", "behind", "another value", "more conditions", "longer path", "method", "alike"],
)
def test_a_rule_loses_no_request_unseen(there: list[dict[str, Any]], place: int, is_lost: bool) -> None:
    def check() -> None:
        httproute_rules.check("front-end", there, {"#0": place}, {"canaryd-front-end-match": (OURS,)})

    if is_lost:
        with pytest.raises(httproute_rules.CannotAdd, match="would take requests from the rule other"):
            check()
    else:
        check()
