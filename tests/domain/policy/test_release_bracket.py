"""A policy of several services: what is each one's own, what all share, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from tests.builders import a_bracket, a_member, a_policy

FRONT_END, CARTS, STOCK = ("production", "front-end"), ("production", "carts"), ("back", "stock")
ERRORS_ALONE = {"metrics": [{"errors": {}}]}
CHOSEN = (
    "must be left out in a bracket, since the services behind the entrance do not know which requests were "
    "chosen there, but is set"
)
PREVIEWED = a_member(route={"virtualService": "sockshop", "preview": {"headers": {"a": {"exact": "b"}}}})


def refusals(policy: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidPolicy) as refused:
        Policy.load(policy)
    return [str(problem) for problem in refused.value.problems]


def written(**changes: Any) -> dict[str, Any]:
    return {**a_policy().dump(), "bracket": {"members": [a_member()]}, **changes}


def test_each_part_is_a_plain_policy_with_its_share_of_the_risk() -> None:
    policy = a_bracket(
        a_member(analysis={**ERRORS_ALONE, "warmup": "5s"}),
        a_member("stock", "back"),
        hooks=[{"on": ["held"], "notify": "oncall"}],
    )
    assert policy.keys == (FRONT_END, CARTS, STOCK)
    parts = policy.parts
    assert [part.key for part in parts] == [FRONT_END, CARTS, STOCK]
    assert [part.bracket for part in parts] == [None] * 3
    assert [part.hooks for part in parts] == [()] * 3
    assert {part.analysis.false_rollback_risk for part in parts} == {0.01 / 3}
    assert {part.analysis.bad_advance_risk for part in parts} == {0.05}, (
        "all have to pass, so that nothing is to be divided"
    )
    assert [len(part.analysis.metrics) for part in parts] == [2, 1, 2]
    assert [part.analysis.warmup for part in parts] == [60, 5, 60]
    assert [part.route.destination_rule for part in parts] == ["front-end", "carts", "stock"]
    assert {part.stages for part in parts} == {policy.stages}


def test_a_policy_of_one_service_is_its_own_only_part() -> None:
    policy = a_policy()
    assert policy.parts == (policy,)
    assert policy.among({FRONT_END}) is policy


def test_some_services_of_a_bracket_have_the_policy_that_they_would_have_if_they_were_all() -> None:
    hooks = [{"on": ["held"], "notify": "oncall"}]
    policy = a_bracket(a_member(analysis=ERRORS_ALONE), a_member("stock", "back"), hooks=hooks)
    assert policy.among({FRONT_END}) == a_policy(hooks=hooks)
    assert policy.among(set(policy.keys)) == policy
    two = policy.among({CARTS, STOCK})
    assert two.keys == (CARTS, STOCK)
    assert two.hooks == policy.hooks
    assert {part.analysis.false_rollback_risk for part in two.parts} == {0.005}
    assert [len(part.analysis.metrics) for part in two.parts] == [1, 2], (
        "the policy's own metrics are not its first one's"
    )
    for one in (policy, two, policy.among({CARTS})):
        assert Policy.load(one.dump()) == one


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        (written(bracket={"members": []}), "bracket.members must have at least 1 entry, but has 0"),
        (
            written(bracket={"members": [a_member("front-end")]}),
            "bracket.members[0].service.name must be listed only once, but production/front-end is listed "
            "twice",
        ),
        (
            written(bracket={"members": [a_member(), a_member("stock"), a_member()]}),
            "bracket.members[2].service.name must be listed only once, but production/carts is listed twice",
        ),
        (
            written(
                stages=[{"match": {"headers": {"a": {"exact": "b"}}}, "minimum": "60s"}, {"weight": 100}]
            ),
            f"stages[0].match {CHOSEN}",
        ),
        (
            written(stages=[{"mirror": "10%", "minimum": "60s"}, {"weight": 100}]),
            f"stages[0].mirror {CHOSEN}",
        ),
        (
            written(bracket={"members": [a_member(analysis={"metrics": [{"errors": {}}, {"errors": {}}]})]}),
            "bracket.members[0].analysis.metrics[1] must be listed only once, but errors is listed twice",
        ),
        (
            written(mode="observe", bracket={"members": [PREVIEWED]}),
            "bracket.members[0].route.preview must be left out with mode: observe, where canaryd adds no "
            "route, but is set",
        ),
        (
            written(
                bracket={
                    "members": [
                        {
                            **a_member(),
                            "route": {"httpRoute": "shop", "preview": {"sourceLabels": {"app": "tests"}}},
                        }
                    ]
                }
            ),
            "bracket.members[0].route.preview must be without sourceLabels where route.httpRoute is set, "
            "since the Gateway API has no such condition, but has it",
        ),
        (
            written(
                bracket={"members": [{**a_member(), "route": {"virtualService": "sockshop", "affinity": {}}}]}
            ),
            "bracket.members[0].route.affinity must be left out behind the entrance, since requests between "
            "services carry no user's cookie, but is set",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_key(policy: dict[str, Any], refusal: str) -> None:
    assert refusals(policy) == [refusal]


def test_keys_that_all_share_are_refused_of_a_member() -> None:
    assert refusals(written(bracket={"members": [{**a_member(), "stages": []}]})) == [
        "bracket.members[0].stages is not known here, wanted one of service, route, analysis"
    ]
