"""Steering: which routes are ours, that only their lists change, and that no one's edit is overwritten."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import pytest

from canaryd.adapters.kube.virtualservice import IstioTraffic, subset_name
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, Missing, Rejected, RouteView, TooNew
from canaryd.domain.rollout import RouteLists
from canaryd.routing import route_lists
from tests.adapters.kube.api_servers import ISTIO, Place

ROUTE = {"virtualService": "sockshop", "destinationRule": "front-end"}
V1, V2 = ({"name": name, "labels": {"version": name}} for name in ("v1", "v2"))


def to(subset: str | None = "v1", host: str = "front-end", **more: Any) -> dict[str, Any]:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


def setup(
    place: Place, *http: dict[str, Any], subsets: Sequence[Any] = (V1,), version: str = ISTIO
) -> IstioTraffic:
    """A VirtualService with these http routes (default: the use case's one), and a DestinationRule."""
    spec = {"hosts": ["*"], "http": list(http) or [{"route": [to()]}]}
    place.put(
        version, "virtualservices", {"kind": "VirtualService", "metadata": {"name": "sockshop"}, "spec": spec}
    )
    rule = {"host": "front-end", **({"subsets": list(subsets)} if subsets else {})}
    place.put(
        version,
        "destinationrules",
        {"kind": "DestinationRule", "metadata": {"name": "front-end"}, "spec": rule},
    )
    return IstioTraffic(place.api, settle=0.0)


def spec_of(place: Place) -> dict[str, Any]:
    spec: dict[str, Any] = place.get(ISTIO, "virtualservices", "sockshop")["spec"]
    return spec


RICH = [
    {"name": "beta", "match": [{"headers": {"x-beta": {"exact": "1"}}}], "route": [to("v1")]},
    {
        "route": [to()],
        "timeout": "3s",
        "retries": {"attempts": 2, "perTryTimeout": "1s"},
        "headers": {"request": {"set": {"x-a": "b"}}},
        "mirror": {"host": "shadow"},
        "corsPolicy": {"allowMethods": ["GET"]},
    },
    {"match": [{"uri": {"prefix": "/carts"}}], "route": [to("v1", "carts")], "rewrite": {"uri": "/"}},
]


def test_routes_without_a_match_are_steered_by_default(place: Place) -> None:
    view = setup(place, *RICH).read(place.policy())
    assert dict(view.lists) == {"#0": (to(),)}
    assert dict(view.subsets) == {"v1": "v1"}


def test_named_routes_are_steered_with_their_match(place: Place) -> None:
    traffic = setup(place, *RICH)
    view = traffic.read(place.policy(route={**ROUTE, "http": ["beta"]}))
    assert dict(view.lists) == {"beta": (to(),)}


@pytest.mark.parametrize("host", ["front-end", "front-end.{}.svc.cluster.local"])
def test_short_and_long_hosts_are_the_same_service(place: Place, host: str) -> None:
    assert list(
        setup(place, {"route": [to("v1", host.format(place.namespace))]}).read(place.policy()).lists
    ) == ["#0"]


def test_hosts_may_end_in_another_domain_where_the_cluster_s_is_another(place: Place) -> None:
    host = f"front-end.{place.namespace}.svc.example.internal"
    setup(place, {"route": [to("v1", host)]})
    with pytest.raises(Rejected):
        IstioTraffic(place.api, settle=0.0).read(place.policy())
    view = IstioTraffic(place.api, "example.internal").read(place.policy())
    assert dict(view.lists) == {"#0": (to("v1", host),)}


def test_a_write_changes_the_lists_of_steered_routes_and_nothing_else(place: Place) -> None:
    traffic, policy = setup(place, *copy.deepcopy(RICH)), place.policy()
    before = spec_of(place)
    view = traffic.read(policy)
    origin = view.lists
    for weight in (10, 50, 100):
        lists = route_lists.split(origin, "v2", weight)
        view = traffic.write(policy, view, lists)
        assert route_lists.same(view.lists, lists)
        assert route_lists.same(traffic.read(policy).lists, lists)
        after = spec_of(place)
        assert after["http"][1]["route"] == [to(weight=100 - weight), to("v2", weight=weight)]
        after["http"][1]["route"] = before["http"][1]["route"]
        assert after == before
    traffic.write(policy, view, route_lists.split(origin, "v2", 0))
    assert spec_of(place) == before


def test_several_routes_are_steered_in_one_write(place: Place) -> None:
    traffic, policy = setup(place, {"name": "a", "route": [to()]}, {"route": [to()]}), place.policy()
    view = traffic.read(policy)
    assert list(view.lists) == ["a", "#1"]
    after = traffic.write(policy, view, route_lists.split(view.lists, "v2", 25))
    assert route_lists.described(after.lists) == "v1 75%, v2 25%"
    finished = traffic.write(policy, after, route_lists.only(view.lists, "v2"))
    assert dict(finished.lists) == {"a": (to("v2"),), "#1": (to("v2"),)}


def test_nothing_is_sent_when_nothing_changes(place: Place) -> None:
    traffic, policy = setup(place), place.policy()
    view = traffic.read(policy)
    assert traffic.write(policy, view, view.lists) is view
    assert traffic.read(policy).resource_version == view.resource_version


def test_a_write_after_someone_elses_is_a_conflict_and_leaves_theirs(place: Place) -> None:
    traffic, policy = setup(place), place.policy()
    view = traffic.read(policy)

    def edit(obj: dict[str, Any]) -> None:
        obj["spec"]["http"][0]["timeout"] = "9s"

    place.edit(ISTIO, "virtualservices", "sockshop", edit)
    theirs = spec_of(place)
    with pytest.raises(Conflict):
        traffic.write(policy, view, route_lists.split(view.lists, "v2", 10))
    assert spec_of(place) == theirs


def test_a_wanted_route_that_is_gone_is_named(place: Place) -> None:
    traffic, policy = setup(place), place.policy()
    with pytest.raises(Rejected, match=r"no steered route main any more \(it has #0\)"):
        traffic.write(policy, traffic.read(policy), {"main": (to(),)})


@pytest.mark.parametrize(
    ("http", "says"),
    [
        ([{"route": [to("v1", "carts")]}], r"no http route without a match to front-end\..*: none"),
        (
            [{"name": "beta", "match": [{"uri": {"prefix": "/"}}], "route": [to()]}],
            r"those to this host: beta",
        ),
        (
            [{"route": [to(weight=50), to("v1", "carts", weight=50)]}],
            r"http route #0: wanted .*but one has host 'carts'",
        ),
        ([{"route": [to(None)]}], "one has no subset; add the subset of the version that is stable now"),
        ([{"name": "a", "route": [to()]}, {"name": "a", "route": [to()]}], "two http routes 'a'"),
    ],
)
def test_routes_that_cannot_be_steered_are_refused_by_name(place: Place, http: list[Any], says: str) -> None:
    with pytest.raises(Rejected, match=says):
        setup(place, *http).read(place.policy())


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("none", "no http route 'none', .*it has: go, short, answer"),
        ("go", "http route go: .*but it has `redirect`; leave this route out"),
        ("answer", "but it has `directResponse`"),
        ("short", r"a name with a dot as it is: write front-end or front-end\."),
    ],
)
def test_named_routes_that_cannot_be_steered_are_refused_by_name(place: Place, named: str, says: str) -> None:
    traffic = setup(
        place,
        {"name": "go", "redirect": {"uri": "/"}},
        {"name": "short", "route": [to("v1", f"front-end.{place.namespace}")]},
        {"name": "answer", "directResponse": {"status": 503}},
    )
    with pytest.raises(Rejected, match=says):
        traffic.read(place.policy(route={**ROUTE, "http": [named]}))


def test_a_missing_virtualservice_or_destinationrule_is_named(place: Place) -> None:
    traffic = IstioTraffic(place.api, settle=0.0)
    with pytest.raises(Missing, match=rf"no VirtualService {place.namespace}/sockshop"):
        traffic.read(place.policy())
    setup(place)
    with pytest.raises(Missing, match=rf"no DestinationRule {place.namespace}/other"):
        traffic.read(place.policy(route={**ROUTE, "destinationRule": "other"}))


def test_a_destinationrule_of_another_host_is_refused(place: Place) -> None:
    traffic = setup(place)
    place.put(
        ISTIO,
        "destinationrules",
        {"kind": "DestinationRule", "metadata": {"name": "carts"}, "spec": {"host": "carts"}},
    )
    with pytest.raises(Rejected, match=r"must be for host front-end\..*, but is for 'carts'"):
        traffic.read(place.policy(route={**ROUTE, "destinationRule": "carts"}))


def test_only_subsets_of_this_service_and_version_are_told(place: Place) -> None:
    other = {"name": "other", "labels": {"app": "carts", "version": "v3"}}
    narrow = {"name": "narrow", "labels": {"version": "v1", "zone": "a"}}
    view = setup(place, subsets=[narrow, V1, other, {"name": "all"}, V2]).read(place.policy())
    assert dict(view.subsets) == {"v1": "v1", "v2": "v2", "narrow": "v1"}


@pytest.mark.parametrize("subsets", [[], [V1]])
def test_a_missing_subset_is_added_and_the_rest_of_the_rule_stays(place: Place, subsets: list[Any]) -> None:
    traffic, policy = setup(place, subsets=subsets), place.policy()
    before = place.get(ISTIO, "destinationrules", "front-end")["spec"]
    assert traffic.add_subset(policy, "v2") == "v2"
    assert traffic.add_subset(policy, "v2") == "v2"
    assert place.get(ISTIO, "destinationrules", "front-end")["spec"] == {**before, "subsets": [*subsets, V2]}


def test_a_new_subset_is_routed_to_when_proxies_know_it(place: Place) -> None:
    setup(place)
    traffic, policy = IstioTraffic(place.api, settle=0.4), place.policy()
    for _ in range(2):
        with pytest.raises(
            TooNew,
            match=r"^the subset v2 of the DestinationRule front-end is new, and is routed to after 0\.4 s",
        ):
            traffic.add_subset(policy, "v2")
    time.sleep(0.4)
    assert traffic.add_subset(policy, "v2") == "v2"


def test_a_subset_that_was_seen_before_is_routed_to_at_once_and_one_that_came_back_is_new(
    place: Place,
) -> None:
    setup(place, subsets=[V1, V2])
    traffic, policy = IstioTraffic(place.api, settle=0.4), place.policy()
    traffic.read(policy)
    time.sleep(0.4)
    assert traffic.add_subset(policy, "v2") == "v2"
    for subsets in ([V1], [V1, V2]):
        place.edit(
            ISTIO,
            "destinationrules",
            "front-end",
            lambda obj, subsets=subsets: obj["spec"].update(subsets=subsets),
        )
        traffic.read(policy)
    with pytest.raises(TooNew):
        traffic.add_subset(policy, "v2")


def test_a_subset_of_another_name_is_used(place: Place) -> None:
    assert (
        setup(place, subsets=[V1, {"name": "green", "labels": {"version": "v2"}}]).add_subset(
            place.policy(), "v2"
        )
        == "green"
    )


@pytest.mark.parametrize("further", [{"zone": "a"}, {"app": "front-end", "canary": "yes"}])
def test_a_subset_of_only_some_of_the_versions_pods_is_not_used(
    place: Place, further: dict[str, str]
) -> None:
    narrow = {"name": "v2", "labels": {"version": "v2", **further}}
    traffic = setup(place, subsets=[V1, narrow])
    assert traffic.add_subset(place.policy(), "v2") == "v2-2"
    assert traffic.add_subset(place.policy(), "v2") == "v2-2"
    own = {"name": "v2-2", "labels": {"version": "v2"}}
    assert place.get(ISTIO, "destinationrules", "front-end")["spec"]["subsets"] == [V1, narrow, own]


def test_a_subset_with_the_services_own_labels_is_used(place: Place) -> None:
    own = {"name": "green", "labels": {"app": "front-end", "version": "v2"}}
    assert setup(place, subsets=[V1, own]).add_subset(place.policy(), "v2") == "green"


def test_a_forbidden_subset_is_answered_with_what_to_add(place: Place) -> None:
    traffic = setup(place)
    with pytest.raises(Rejected, match=r"- name: v2-1\n  labels:\n    version: V2\.1"):
        traffic.add_subset(place.policy(route={**ROUTE, "addSubset": False}), "V2.1")
    assert place.get(ISTIO, "destinationrules", "front-end")["spec"]["subsets"] == [V1]


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_objects_of_every_api_version_are_steered(place: Place, version: str) -> None:
    traffic, policy = setup(place, version=f"networking.istio.io/{version}"), place.policy()
    view = traffic.read(policy)
    assert (
        route_lists.described(traffic.write(policy, view, route_lists.split(view.lists, "v2", 5)).lists)
        == "v1 95%, v2 5%"
    )


@pytest.mark.parametrize(
    ("version", "name"), [("v2", "v2"), ("V2.1_rc", "v2-1-rc"), ("1.0", "1-0"), ("_", "canary")]
)
def test_a_subsets_name_is_a_dns_label(version: str, name: str) -> None:
    assert subset_name(version, set()) == name
    assert subset_name(version, {name}) == f"{name}-2"


# ---------------------------------------------------------------- routes of canaryd's own

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
STAGES = [{"match": COOKIE}, {"mirror": "20%"}, {"weight": 10}, {"weight": 100}]
ADDED = {"stages": STAGES, "route": {**ROUTE, "preview": {"headers": {"x-canary": {"exact": "always"}}}}}
PLAIN = [
    one if at != 1 else {key: value for key, value in one.items() if key != "mirror"}
    for at, one in enumerate(RICH)
]


def staged(traffic: IstioTraffic, policy: Policy, origin: RouteLists, stage: int) -> RouteView:
    view = traffic.read(policy)
    return traffic.write(policy, view, route_lists.staged(policy, stage, view, origin, "v2"))


def names(place: Place) -> list[str]:
    return [one.get("name", "") for one in spec_of(place)["http"]]


def test_added_routes_stand_just_before_the_steered_one_and_go_without_a_trace(place: Place) -> None:
    traffic, policy = setup(place, *copy.deepcopy(PLAIN)), place.policy(**ADDED)
    before, origin = spec_of(place), traffic.read(policy).lists
    view = staged(traffic, policy, origin, 0)
    assert names(place) == ["beta", "canaryd-front-end-preview", "canaryd-front-end-match", "", ""]
    assert list(view.lists) == ["#0", "canaryd-front-end-preview", "canaryd-front-end-match"]
    assert route_lists.same(traffic.read(policy).lists, view.lists)
    http = spec_of(place)["http"]
    assert http[2] == {**PLAIN[1], "name": "canaryd-front-end-match", "match": [COOKIE], "route": [to("v2")]}
    assert [http[0], http[3], http[4]] == before["http"]
    staged(traffic, policy, origin, 1)
    assert names(place) == ["beta", "canaryd-front-end-preview", "canaryd-front-end-mirror", "", ""]
    copied = {"mirror": to("v2")["destination"], "mirrorPercentage": {"value": 20}}
    assert spec_of(place)["http"][2] == {**PLAIN[1], "name": "canaryd-front-end-mirror", **copied}
    view = staged(traffic, policy, origin, 2)
    assert names(place) == ["beta", "canaryd-front-end-preview", "", ""]
    traffic.write(policy, view, route_lists.without(view.lists, origin, "v2"))
    assert spec_of(place) == before


def test_users_who_are_kept_have_routes_and_cookies_that_go_without_a_trace(place: Place) -> None:
    kept = place.policy(
        route={**ROUTE, "affinity": {}}, stages=[{"weight": 10}, {"weight": 40}, {"weight": 100}]
    )
    traffic = setup(place, *copy.deepcopy(PLAIN))
    before, origin = spec_of(place), traffic.read(kept).lists
    for stage, weights in ((0, [30, 60, 10]), (1, [60, 10, 30]), (0, [30, 60, 10])):
        view = staged(traffic, kept, origin, stage)
        assert names(place) == [
            "beta",
            "canaryd-front-end-canary-users",
            "canaryd-front-end-stable-users",
            "",
            "",
        ]
        assert [one["weight"] for one in spec_of(place)["http"][3]["route"]] == weights
        assert traffic.write(kept, view, route_lists.staged(kept, stage, view, origin, "v2")) is view, (
            "what is as wanted is not written again"
        )
    staged(traffic, kept, origin, 2)
    assert names(place) == ["beta", "", ""]
    assert "set-cookie" not in str(spec_of(place))
    view = staged(traffic, kept, origin, 1)
    traffic.write(kept, view, route_lists.without(view.lists, origin, "v2"))
    assert spec_of(place) == before


def test_each_steered_route_has_added_ones_of_its_own(place: Place) -> None:
    traffic, policy = (
        setup(
            place,
            {"name": "a", "route": [to()]},
            {"name": "x", "match": [{"uri": {"prefix": "/x"}}], "route": [to()]},
            {"route": [to()]},
        ),
        place.policy(stages=STAGES),
    )
    before, origin = spec_of(place), traffic.read(policy).lists
    view = staged(traffic, policy, origin, 0)
    assert names(place) == ["canaryd-front-end-match.a", "a", "x", "canaryd-front-end-match.#1", ""]
    traffic.write(policy, view, origin)
    assert spec_of(place) == before


def test_one_patch_says_all_and_a_stale_one_changes_nothing(place: Place) -> None:
    traffic, policy = setup(place), place.policy(**ADDED)
    view = traffic.read(policy)
    lists = route_lists.staged(policy, 0, view, view.lists, "v2")
    place.edit(ISTIO, "virtualservices", "sockshop", lambda obj: obj["spec"].update(hosts=["shop.example"]))
    with pytest.raises(Conflict):
        traffic.write(policy, view, lists)
    assert names(place) == [""]
    after = traffic.write(policy, traffic.read(policy), lists)
    assert traffic.write(policy, after, lists) is after, "what is as wanted is not written again"


@pytest.mark.parametrize("hand", ["moved behind", "twice", "before another"])
def test_an_added_route_that_does_not_stand_where_it_should_is_not_there_and_a_write_mends_it(
    place: Place, hand: str
) -> None:
    traffic, policy = setup(place, {"route": [to()], "timeout": "3s"}), place.policy(stages=STAGES)
    origin = traffic.read(policy).lists
    view = staged(traffic, policy, origin, 0)
    wanted = spec_of(place)
    other = {"name": "other", "match": [{"uri": {"prefix": "/o"}}], "route": [to("v1", "carts")]}

    def change(obj: dict[str, Any]) -> None:
        matched, steered = obj["spec"]["http"]
        there = {
            "moved behind": [steered, matched],
            "twice": [matched, matched, steered],
            "before another": [matched, other, steered],
        }
        obj["spec"]["http"] = there[hand]

    place.edit(ISTIO, "virtualservices", "sockshop", change)
    found = traffic.read(policy)
    assert route_lists.same(found.lists, view.lists) is (hand == "twice")
    traffic.write(policy, found, route_lists.staged(policy, 0, found, origin, "v2"))
    left = [one for one in spec_of(place)["http"] if one.get("name") != "other"]
    assert left == wanted["http"]


def test_added_routes_are_found_and_removed_also_where_no_steered_route_is_left(place: Place) -> None:
    traffic, policy = setup(place), place.policy(stages=STAGES)
    origin = traffic.read(policy).lists
    staged(traffic, policy, origin, 0)
    place.edit(ISTIO, "virtualservices", "sockshop", lambda obj: obj["spec"]["http"].pop())
    view = traffic.read(policy)
    assert list(view.lists) == ["canaryd-front-end-match"]
    place.edit(
        ISTIO,
        "virtualservices",
        "sockshop",
        lambda obj: obj["spec"]["http"].append({"match": [{"uri": {"prefix": "/"}}], "route": [to()]}),
    )
    view = traffic.read(policy)
    # they are gone, and what is left cannot be steered
    with pytest.raises(Rejected, match="has no http route without a match"):
        traffic.write(policy, view, route_lists.without(view.lists, origin, "v2"))
    assert names(place) == [""]


def test_routes_of_another_service_s_rollout_are_left_alone(place: Place) -> None:
    theirs = {"name": "canaryd-carts-match", "match": [COOKIE], "route": [to("v2", "carts")]}
    traffic, policy = setup(place, theirs, {"route": [to()]}), place.policy(stages=STAGES)
    before, origin = spec_of(place), traffic.read(policy).lists
    view = staged(traffic, policy, origin, 0)
    assert names(place) == ["canaryd-carts-match", "canaryd-front-end-match", ""]
    traffic.write(policy, view, origin)
    assert spec_of(place) == before


def test_a_person_s_route_that_is_called_as_canaryd_s_are_is_refused(place: Place) -> None:
    with pytest.raises(
        Rejected,
        match="http route canaryd-mine must have another name: routes that canaryd adds begin with canaryd-",
    ):
        setup(place, {"name": "canaryd-mine", "route": [to()]}).read(place.policy())
