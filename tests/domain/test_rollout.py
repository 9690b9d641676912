"""A rollout of one service and of several: what is each one's own, what all share, and how it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from canaryd.domain import announcements
from canaryd.domain.rollout import RouteState, together
from tests.builders import NOW, ORIGIN, a_bracket_rollout, a_rollout, a_verdict, of_carts

FRONT_END, CARTS = ("production", "front-end"), ("production", "carts")


def test_a_rollout_of_one_service_has_its_policy_and_its_verdict() -> None:
    verdict = a_verdict()
    rollout = a_rollout().with_verdict(verdict)
    assert rollout.services == (rollout.entrance,)
    assert (rollout.verdict, rollout.entrance.verdict) == (verdict, verdict)
    assert rollout.policy_of(rollout.entrance) == rollout.policy
    assert rollout.keys == (FRONT_END,)
    assert announcements.versions(rollout) is None


def test_each_service_of_several_has_its_own_policy_and_its_own_verdict() -> None:
    of_front_end, theirs, of_all = (a_verdict(reason=of) for of in ("front-end", "carts", "all"))
    rollout = a_bracket_rollout(of_carts(verdict=theirs))
    rollout = rollout.with_service(replace(rollout.entrance, verdict=of_front_end)).with_verdict(of_all)
    first, second = rollout.services
    assert (first.verdict, second.verdict, rollout.verdict) == (of_front_end, theirs, of_all)
    assert (rollout.policy_of(first), rollout.policy_of(second)) == rollout.policy.parts
    assert rollout.service_of(CARTS) == second
    assert (rollout.keys, rollout.service_names) == ((FRONT_END, CARTS), ("front-end", "carts"))
    assert (rollout.namespace, rollout.entrance) == ("production", first)


@pytest.mark.parametrize("place", [0, 1])
def test_a_service_that_is_put_back_changes_what_is_its_own_and_nothing_else(place: int) -> None:
    rollout = a_bracket_rollout(verdict=a_verdict())
    service = rollout.services[place]
    assert rollout.with_service(service) == rollout
    after = rollout.with_service(replace(service, unready_since=NOW))
    assert replace(after, services=rollout.services) == rollout
    assert after.services[place].unready_since == NOW
    assert after.services[1 - place] == rollout.services[1 - place]


def test_a_rollout_is_about_no_other_service() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        a_rollout().service_of(CARTS)


def test_a_route_was_last_left_as_it_was_written_or_else_as_it_was_found() -> None:
    written = {"#0": ({"weight": 100},)}
    assert RouteState(ORIGIN).last_left == ORIGIN
    assert RouteState(ORIGIN, written).last_left == written


def test_sentences_name_every_version_with_its_service() -> None:
    names = a_bracket_rollout().for_display
    assert (names.service, names.stable, names.canary, names.stable_workload, names.canary_workload) == (
        "front-end and carts",
        "front-end v1 and carts v7",
        "front-end v2 and carts v8",
        "front-end-v1 and carts-v7",
        "front-end-v2 and carts-v8",
    )
    assert together(["a", "b", "c"]) == "a, b and c"


def test_sentences_about_the_only_service_do_not_name_it() -> None:
    rollout = a_rollout()
    assert (rollout.for_display.canary, rollout.prefix(rollout.entrance)) == ("v2", "")
    assert rollout.version_name(rollout.entrance, "v2") == "v2"
    several = a_bracket_rollout()
    assert several.prefix(several.entrance) == "front-end: "


def test_an_announcement_is_of_all_versions() -> None:
    news = announcements.announced(a_bracket_rollout(), "started", NOW, "new").announcements[-1]
    assert news.versions == "front-end v1 to v2 and carts v7 to v8"
    assert news.canaries == "front-end v2 and carts v8"
    alone = announcements.announced(a_rollout(), "started", NOW, "new").announcements[-1]
    assert (alone.versions, alone.canaries, alone.bracket) == ("front-end v1 to v2", "front-end v2", None)
