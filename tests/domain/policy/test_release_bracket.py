"""A policy of several services, and the rollout of them: what is each one's own, what all share, and what is
refused."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from canaryd.domain import announcements
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.rollout import Member, Rollout, joined, together
from tests.builders import NOW, a_bracket, a_bracket_rollout, a_member, a_policy, a_rollout, a_verdict

FRONT_END, CARTS, STOCK = ("production", "front-end"), ("production", "carts"), ("back", "stock")
ERRORS_ALONE = {"metrics": [{"errors": {}}]}
CHOSEN = (
    "must be left out in a bracket: who is chosen at the entrance is not known to the services behind it, "
    "but is there"
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
            "bracket.members[0].service.name must be each service once, but production/front-end is there "
            "twice",
        ),
        (
            written(bracket={"members": [a_member(), a_member("stock"), a_member()]}),
            "bracket.members[2].service.name must be each service once, but production/carts is there twice",
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
            "bracket.members[0].analysis.metrics[1] must not be there twice, but errors is",
        ),
        (
            written(mode="observe", bracket={"members": [PREVIEWED]}),
            "bracket.members[0].route.preview must be left out with mode: observe, where canaryd adds no "
            "route, but is there",
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
            "bracket.members[0].route.preview must be without sourceLabels with route.httpRoute, since the "
            "Gateway API has no such condition, but has it",
        ),
        (
            written(
                bracket={"members": [{**a_member(), "route": {"virtualService": "sockshop", "affinity": {}}}]}
            ),
            "bracket.members[0].route.affinity must be left out behind the entrance, since what services ask "
            "of each other carries no user's cookie, but is there",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_key(policy: dict[str, Any], refusal: str) -> None:
    assert refusals(policy) == [refusal]


def test_keys_that_all_share_are_refused_of_a_member() -> None:
    assert refusals(written(bracket={"members": [{**a_member(), "stages": []}]})) == [
        "bracket.members[0].stages is not known here, wanted one of service, route, analysis"
    ]


# ---------------------------------------------------------------- the rollout


def test_a_member_has_only_what_a_rollout_has_under_the_same_name() -> None:
    assert {field.name for field in fields(Member)} <= {field.name for field in fields(Rollout)}


def test_a_rollout_of_one_service_is_its_own_only_part() -> None:
    rollout = a_rollout()
    assert rollout.parts == (rollout,)
    assert rollout.with_part(0, replace(rollout, canary="v9")).canary == "v9"
    assert rollout.spoken is rollout
    assert rollout.keys == (FRONT_END,)
    assert announcements.versions(rollout) is None


def test_the_parts_have_what_is_their_own_and_what_all_share() -> None:
    whole, own, theirs = (
        a_verdict(reason="of all"),
        a_verdict(reason="of front-end"),
        a_verdict(reason="of carts"),
    )
    rollout = a_bracket_rollout(verdict=whole, own_verdict=own, weight=25)
    rollout = rollout.with_part(1, replace(rollout.parts[1], verdict=theirs))
    first, second = rollout.parts
    assert [
        (part.service, part.canary, part.weight, part.spans, part.others) for part in (first, second)
    ] == [("front-end", "v2", 25, rollout.spans, ()), ("carts", "v8", 25, rollout.spans, ())]
    assert (first.verdict, second.verdict, rollout.verdict) == (own, theirs, whole)
    assert (first.policy, second.policy) == rollout.policy.parts
    assert rollout.of(CARTS) == second
    assert rollout.keys == (FRONT_END, CARTS)


@pytest.mark.parametrize("place", [0, 1])
def test_putting_a_part_back_changes_what_is_its_own_and_nothing_that_all_share(place: int) -> None:
    rollout = a_bracket_rollout(verdict=a_verdict())
    assert rollout.with_part(place, rollout.parts[place]) == rollout
    changed = replace(rollout.parts[place], unready_since=NOW, weight=99, verdict=a_verdict(reason="its own"))
    after = rollout.with_part(place, changed)
    assert (after.weight, after.verdict) == (rollout.weight, rollout.verdict)
    assert [part.unready_since for part in after.parts] == [NOW if at == place else None for at in (0, 1)]
    assert after.parts[place].verdict == changed.verdict
    assert after.parts[1 - place] == rollout.parts[1 - place]


def test_sentences_name_every_version_with_its_service() -> None:
    spoken = a_bracket_rollout().spoken
    assert (spoken.stable, spoken.canary) == ("front-end v1 and carts v7", "front-end v2 and carts v8")
    assert spoken.canary_workload == "front-end-v2 and carts-v8"
    assert together(["a", "b", "c"]) == "a, b and c"


def test_rollouts_that_have_not_begun_are_joined_into_one() -> None:
    whole = a_bracket_rollout(verdict=None)
    parts = [replace(part, policy=alone) for part, alone in zip(whole.parts, whole.policy.parts, strict=True)]
    assert joined(whole.policy, parts) == whole


def test_an_announcement_is_of_all_versions() -> None:
    told = announcements.announced(a_bracket_rollout(), "started", NOW, "new").announcements[-1]
    assert told.versions == "front-end v1 to v2 and carts v7 to v8"
    assert told.canaries == "front-end v2 and carts v8"
    alone = announcements.announced(a_rollout(), "started", NOW, "new").announcements[-1]
    assert (alone.versions, alone.canaries, alone.bracket) == ("front-end v1 to v2", "front-end v2", None)
