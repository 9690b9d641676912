"""The contract of the port `Traffic`, asked of both kinds of route: what is steered, that nothing else
changes, and that no one's edit is overwritten."""

from __future__ import annotations

import pytest

from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.domain.ports import Conflict, Missing, Rejected
from canaryd.routing import route_lists
from tests.adapters.kube.api_servers import Place
from tests.adapters.kube.route_kinds import Router

ALL_TO_V1 = ("", False, "front-end", {"v1": None})
BETA = ("beta", True, "front-end", {"v1": None})
CARTS = ("carts", True, "carts", {"v1": None})


def test_routes_without_a_match_are_steered_by_default(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, BETA, CARTS, ALL_TO_V1)
    view = traffic.read(router.policy(place))
    assert list(view.lists) == ["#0"]
    assert route_lists.stable_version(view) == "v1"
    assert view.subsets[router.named("v1")] == "v1"


def test_named_routes_are_steered_with_their_match(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, BETA, CARTS, ALL_TO_V1)
    assert list(traffic.read(router.policy(place, chosen=("beta",))).lists) == ["beta"]


def test_a_write_changes_the_lists_of_steered_routes_and_nothing_else(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, BETA, CARTS, ALL_TO_V1)
    policy, before = router.policy(place), router.get(place)["spec"]
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    origin = view.lists
    for weight in (10, 50, 100):
        wanted = route_lists.split(origin, canary, weight)
        view = traffic.write(policy, view, wanted)
        assert route_lists.same(view.lists, wanted)
        assert route_lists.same(traffic.read(policy).lists, wanted)
        after = router.get(place)["spec"]
        assert router.shares(router.routes(after)[2]) == {"v1": 100 - weight, "v2": weight}
        assert router.routes(after)[:2] == router.routes(before)[:2]
        assert router.without_lists(after) == router.without_lists(before)
    traffic.write(policy, view, route_lists.split(origin, canary, 0))
    assert router.get(place)["spec"] == before


def test_what_stands_after_a_success_is_what_a_person_would_have_written(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    policy, before = router.policy(place), router.get(place)["spec"]
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    split = traffic.write(policy, view, route_lists.split(view.lists, canary, 100))
    finished = traffic.write(policy, split, route_lists.only(view.lists, canary))
    after = router.get(place)["spec"]
    assert router.shares(router.routes(after)[0]) == {"v2": None}
    assert router.without_lists(after) == router.without_lists(before)
    assert route_lists.stable_version(finished) == route_lists.stable_version(traffic.read(policy)) == "v2"


def test_several_routes_are_steered_in_one_write(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ("a", False, "front-end", {"v1": None}), ALL_TO_V1)
    policy = router.policy(place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    assert list(view.lists) == ["a", "#1"]
    after = traffic.write(policy, view, route_lists.split(view.lists, canary, 25))
    assert route_lists.described(after.lists) == f"{router.named('v1')} 75%, {router.named('v2')} 25%"
    assert [router.shares(route) for route in router.routes(router.get(place)["spec"])] == [
        {"v1": 75, "v2": 25}
    ] * 2


def test_nothing_is_sent_when_nothing_changes(place: Place, router: Router, traffic: TrafficByKind) -> None:
    router.put(place, ALL_TO_V1)
    policy = router.policy(place)
    view = traffic.read(policy)
    assert traffic.write(policy, view, view.lists) is view
    after = traffic.read(policy)
    # Where there are controllers, its version changes with the status that they write.
    assert place.is_real or after.resource_version == view.resource_version
    assert after.lists == view.lists


@pytest.mark.parametrize("edit", ["beside the list", "of the list"])
def test_a_write_after_someone_elses_is_a_conflict_and_leaves_theirs(
    place: Place, router: Router, traffic: TrafficByKind, edit: str
) -> None:
    router.put(place, ALL_TO_V1)
    policy = router.policy(place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    router.edit(
        place,
        **({"timeout": "9s"} if edit == "beside the list" else router.split(place, {"v1": 60, "v2": 40})),
    )
    theirs = router.get(place)["spec"]
    with pytest.raises(Conflict):
        traffic.write(policy, view, route_lists.split(view.lists, canary, 10))
    assert router.get(place)["spec"] == theirs


def test_an_object_that_was_made_anew_in_between_is_a_conflict(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    policy = router.policy(place)
    view = traffic.read(policy)
    old = router.get(place)
    path = f"/apis/{old['apiVersion']}/namespaces/{place.namespace}/{router.kind.lower()}s"
    place.api.request("DELETE", f"{path}/sockshop")
    place.api.request("POST", path, {**old, "metadata": {"name": "sockshop"}})
    with pytest.raises(Conflict):
        traffic.write(policy, view, route_lists.split(view.lists, router.named("v2"), 10))
    assert router.get(place)["spec"] == old["spec"]


def test_a_split_by_hand_is_read_as_it_is_and_refused_by_name(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    traffic.add_subset(router.policy(place), "v2")
    router.edit(place, **router.split(place, {"v1": 60, "v2": 40}))
    view = traffic.read(router.policy(place))
    with pytest.raises(
        route_lists.Refusal,
        match=rf"route #0 is split \({router.named('v1')} 60%, {router.named('v2')} 40%\)",
    ):
        route_lists.stable_version(view)
    assert route_lists.versions(view) == {"v1", "v2"}


def test_a_wanted_route_that_is_gone_is_named(place: Place, router: Router, traffic: TrafficByKind) -> None:
    router.put(place, ALL_TO_V1)
    policy = router.policy(place)
    view = traffic.read(policy)
    with pytest.raises(Rejected, match=r"main any more \(it has #0\)"):
        traffic.write(policy, view, {"main": view.lists["#0"]})


def test_a_route_that_cannot_be_steered_is_refused_by_name(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, BETA, CARTS)
    with pytest.raises(Rejected, match=r"has no .*without a match to .*front-end.*those to this \w+: beta\)"):
        traffic.read(router.policy(place))
    with pytest.raises(
        Rejected, match=r"has no .* 'main', which the policy's route\.\w+ names; it has: beta, carts"
    ):
        traffic.read(router.policy(place, chosen=("main",)))
    with pytest.raises(Rejected, match=r"carts: wanted .*, but .*carts"):
        traffic.read(router.policy(place, chosen=("carts",)))


def test_two_routes_of_one_name_are_refused(place: Place, router: Router, traffic: TrafficByKind) -> None:
    router.put(place, ("a", False, "front-end", {"v1": None}), ("a", False, "front-end", {"v1": None}))
    with pytest.raises(Rejected, match=r"two .* 'a'; give each a name of its own"):
        traffic.read(router.policy(place))
    with pytest.raises(Rejected, match=r"more than one .* 'a'"):
        traffic.read(router.policy(place, chosen=("a",)))


def test_a_missing_object_is_named(place: Place, router: Router, traffic: TrafficByKind) -> None:
    with pytest.raises(Missing, match=rf"no {router.kind} {place.namespace}/sockshop"):
        traffic.read(router.policy(place))


def test_a_missing_destination_of_a_version_is_made_once(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    policy, before = router.policy(place), router.known(place)
    assert traffic.add_subset(policy, "v1") == router.named("v1")
    assert router.known(place) == before
    name = traffic.add_subset(policy, "v2")
    assert name == router.named("v2")
    assert traffic.add_subset(policy, "v2") == name
    known = router.known(place)
    assert known.keys() == {*before, name}
    assert known[name]["version"] == "v2"


def test_a_destination_of_another_name_is_used(place: Place, router: Router, traffic: TrafficByKind) -> None:
    router.put(place, ALL_TO_V1)
    router.know(place, "green", {"version": "v2"})
    assert traffic.add_subset(router.policy(place), "v2") == "green"


def test_a_destination_of_only_some_of_the_versions_pods_is_not_used(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    router.know(place, router.named("v2"), {"version": "v2", "zone": "a"})
    own = f"{router.named('v2')}-2"
    assert traffic.add_subset(router.policy(place), "v2") == own
    assert traffic.add_subset(router.policy(place), "v2") == own
    assert router.known(place)[router.named("v2")]["zone"] == "a"


def test_a_forbidden_destination_is_answered_with_what_to_apply(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    router.put(place, ALL_TO_V1)
    before = router.known(place)
    with pytest.raises(Rejected, match=r"is false; (?s:.*)version: V2\.1"):
        traffic.add_subset(router.policy(place, may_add=False), "V2.1")
    assert router.known(place) == before


def test_tidying_leaves_what_someone_else_made(place: Place, router: Router, traffic: TrafficByKind) -> None:
    router.put(place, ALL_TO_V1)
    router.know(place, "green", {"version": "v2"})
    before = router.known(place)
    assert list(traffic.clean_up(router.policy(place), ())) == []
    assert router.known(place) == before
