"""What is made so that matched users can be split between both versions, and told apart: on both kinds of
route."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from canaryd.adapters.kube.client import path_to
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.adapters.kube.version_services import MADE_FOR
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Missing, Rejected, TooNew
from canaryd.routing import route_lists
from canaryd.routing.managed_routes import steered
from tests.adapters.kube.api_servers import ISTIO, Place
from tests.adapters.kube.route_kinds import PORTS, GatewayApi, Istio, Object, Router

ALL_TO_V1 = ("", False, "front-end", {"v1": None})
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
STAGES = [{"match": COOKIE, "split": "half"}, {"weight": 100}]
OWN, STABLE, CANARY = (f"front-end-canaryd-{kind}" for kind in ("match", "stable", "canary"))
POLICY = {
    "trafficPolicy": {
        "connectionPool": {"http": {"http1MaxPendingRequests": 7}},
        "outlierDetection": {"consecutive5xxErrors": 3},
    }
}


def a_policy(router: Router, place: Place) -> Policy:
    return router.policy(place, stages=STAGES, analysis={"reporter": "source"})


def put(router: Router, place: Place) -> Policy:
    """With the Service of all versions, as Istio's routes have it too."""
    router.put(place, ALL_TO_V1)
    if router.kind == "VirtualService":
        GatewayApi().service(place, "front-end", {"app": "front-end"})
    return a_policy(router, place)


def service(place: Place, name: str) -> Object:
    return place.get("v1", "services", name)


def rule(place: Place) -> Object:
    return place.get(ISTIO, "destinationrules", OWN)


def test_half_goes_to_each_version_by_a_service_of_its_own(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy = put(router, place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    assert view.subsets.keys() == {router.named("v1"), router.named("v2")}, (
        "what was made stands for no version's users"
    )
    wanted = route_lists.staged(policy, 0, view, steered(view.lists), canary)
    after = traffic.write(policy, view, wanted)
    assert route_lists.same(after.lists, wanted)
    added, own = router.routes(router.get(place)["spec"])
    if router.kind == "HTTPRoute":
        assert [(backend_ref["name"], backend_ref["weight"]) for backend_ref in added["backendRefs"]] == [
            (STABLE, 50),
            (CANARY, 50),
        ]
        assert [service(place, name)["spec"]["selector"]["version"] for name in (STABLE, CANARY)] == [
            "v1",
            "v2",
        ]
        assert (
            route_lists.described(after.lists)
            == f"cookie ~ .*logged_in.* to {STABLE} 50%, {CANARY} 50%; else all to front-end-v1"
        )
    else:
        assert [
            (one["destination"]["host"], one["destination"]["subset"], one["weight"])
            for one in added["route"]
        ] == [(OWN, "v1", 50), (OWN, "v2", 50)]
        assert service(place, OWN)["spec"]["selector"] == {"app": "front-end"}
        assert {subset["name"] for subset in rule(place)["spec"]["subsets"]} == {"v1", "v2"}
        assert (
            route_lists.described(after.lists) == "cookie ~ .*logged_in.* to v1 50%, v2 50%; else all to v1"
        )
    assert [added.get(key) for key in ("timeout", "timeouts")] == [
        own.get(key) for key in ("timeout", "timeouts")
    ]
    for name in policy.fair_services:
        assert service(place, name)["spec"]["ports"][0]["port"] == PORTS[0]["port"]
        assert service(place, name)["metadata"]["annotations"][MADE_FOR] == "front-end/(match)"
    assert traffic.add_subset(policy, "v2") == canary, "made once"


def test_at_the_end_nothing_of_it_is_left(place: Place, router: Router, traffic: TrafficByKind) -> None:
    policy = put(router, place)
    traffic.add_subset(policy, "v2")
    assert list(traffic.clean_up(policy, ("v1",))) == [
        *(["front-end-v2"] if router.kind == "HTTPRoute" else [])
    ], "a later rollout may use it"
    assert set(traffic.clean_up(policy, ())) >= set(policy.fair_services)
    for name in policy.fair_services:
        with pytest.raises(Missing):
            service(place, name)
    if router.kind == "VirtualService":
        with pytest.raises(Missing):
            rule(place)
        assert router.known(place).keys() == {"v1", "v2"}, "subsets stay"


def test_what_someone_else_made_under_the_name_is_refused_and_stays(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    policy = put(router, place)
    name = policy.fair_services[-1]
    GatewayApi().service(place, name, {"app": "front-end", "version": "v1"})
    with pytest.raises(Rejected, match=rf"there is a Service .*/{name} that canaryd did not make"):
        traffic.add_subset(policy, "v2")
    traffic.clean_up(policy, ())
    assert service(place, name)


def test_it_is_routed_to_when_proxies_know_it_also_by_a_process_that_did_not_make_it(
    place: Place, router: Router
) -> None:
    policy = put(router, place)
    TrafficByKind(place.api, settle=0.0).add_subset(policy, "v2")
    began, refusal = (
        time.monotonic(),
        "was made for its matched users just now" if router.kind == "VirtualService" else "was made just now",
    )
    with pytest.raises(TooNew, match=f"{refusal}, and is routed to after 1 s"):
        TrafficByKind(place.api, settle=1.0).add_subset(policy, "v2")
    traffic = TrafficByKind(place.api, settle=1.0)
    while True:
        with suppress(TooNew):
            assert traffic.add_subset(policy, "v2") == router.named("v2")
            break
        time.sleep(0.1)
    assert 0.9 < time.monotonic() - began < 5


def test_of_an_httproute_s_two_the_younger_counts(place: Place, traffic: TrafficByKind) -> None:
    router = GatewayApi()
    policy = put(router, place)
    traffic.add_subset(router.policy(place), "v2")
    time.sleep(3)
    with pytest.raises(TooNew, match=f"the Service {STABLE} was made for its matched users just now"):
        TrafficByKind(place.api, settle=1.0).add_subset(policy, "v2")


def test_the_destination_rule_says_what_the_services_own_says_also_after_an_edit(
    place: Place, traffic: TrafficByKind
) -> None:
    router = Istio()
    policy = put(router, place)
    place.edit(ISTIO, "destinationrules", "front-end", lambda obj: obj["spec"].update(POLICY))
    traffic.add_subset(policy, "v2")
    assert rule(place)["spec"] == {**place.get(ISTIO, "destinationrules", "front-end")["spec"], "host": OWN}
    place.edit(ISTIO, "destinationrules", "front-end", lambda obj: obj["spec"].pop("trafficPolicy"))
    assert list(traffic.restore(policy, traffic.read(policy), "v2")) == [], "it was edited, not made"
    assert rule(place)["spec"] == {**place.get(ISTIO, "destinationrules", "front-end")["spec"], "host": OWN}


def test_a_full_host_stays_one(place: Place, traffic: TrafficByKind) -> None:
    policy = put(Istio(), place)
    full = f"front-end.{place.namespace}.svc.cluster.local"
    place.edit(ISTIO, "destinationrules", "front-end", lambda obj: obj["spec"].update(host=full))
    traffic.add_subset(policy, "v2")
    assert rule(place)["spec"]["host"] == f"{OWN}.{place.namespace}.svc.cluster.local"


def test_a_destination_rule_of_someone_else_is_refused(place: Place, traffic: TrafficByKind) -> None:
    policy = put(Istio(), place)
    place.put(
        ISTIO,
        "destinationrules",
        {"kind": "DestinationRule", "metadata": {"name": OWN}, "spec": {"host": "x"}},
    )
    with pytest.raises(Rejected, match=rf"there is a DestinationRule .*/{OWN} that canaryd did not make"):
        traffic.add_subset(policy, "v2")


def test_without_a_service_of_all_versions_there_is_nothing_to_be_like(
    place: Place, traffic: TrafficByKind
) -> None:
    policy = put(Istio(), place)
    place.api.request("DELETE", path_to("v1", "services", place.namespace, "front-end"))
    with pytest.raises(Rejected, match=r"there is no Service .*/front-end, after which one could be made"):
        traffic.add_subset(policy, "v2")


def test_what_someone_deletes_while_it_is_used_is_made_again_like_its_own_version_s(
    place: Place, router: Router
) -> None:
    """Also where the canary stands first in the route and has a weight, and is routed to at once: requests
    are on their way there."""
    policy = router.policy(
        place, stages=[STAGES[0], {"weight": 60}, STAGES[-1]], analysis={"reporter": "source"}
    )
    put(router, place)
    TrafficByKind(place.api, settle=0.0).add_subset(policy, "v2")
    traffic = TrafficByKind(place.api, settle=60.0)
    view = traffic.read(policy)
    by_weight = {
        key: tuple(reversed(entries))
        for key, entries in route_lists.split(view.lists, router.named("v2"), 60).items()
    }
    view = traffic.write(policy, view, by_weight)
    before = {name: service(place, name)["spec"]["selector"] for name in policy.fair_services}
    assert list(traffic.restore(policy, traffic.read(policy), "v2")) == []
    for name in policy.fair_services:
        place.api.request("DELETE", path_to("v1", "services", place.namespace, name))
    if router.kind == "VirtualService":
        place.api.request("DELETE", path_to(ISTIO, "destinationrules", place.namespace, OWN))
    made = list(traffic.restore(policy, traffic.read(policy), "v2"))
    assert made == [
        *policy.fair_services,
        *([f"DestinationRule {OWN}"] if router.kind == "VirtualService" else []),
    ]
    assert {name: service(place, name)["spec"]["selector"] for name in policy.fair_services} == before


def test_once_all_traffic_is_the_canarys_nothing_more_is_needed(
    place: Place, router: Router, traffic: TrafficByKind
) -> None:
    """After a crash between the last write and its being noted."""
    policy = put(router, place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.only(view.lists, canary))
    assert list(traffic.restore(policy, traffic.read(policy), "v2")) == []


def test_after_another_version_s_rollout_the_halves_are_of_this_one_s_pods(
    place: Place, traffic: TrafficByKind
) -> None:
    """A newer version came, or the last rollout ended only just now, so what it had made is there still."""
    router = GatewayApi()
    policy = put(router, place)
    traffic.add_subset(policy, "v2")
    slow = TrafficByKind(place.api, settle=0.5)
    before = [service(place, name)["metadata"]["uid"] for name in (STABLE, CANARY)]
    with pytest.raises(TooNew, match="front-end-v3 was made just now"):
        slow.add_subset(policy, "v3")
    time.sleep(3)
    with pytest.raises(
        TooNew, match=rf"in the last rollout \({CANARY}\) is made anew after 0.5 s, when no proxy sends there"
    ):
        slow.add_subset(policy, "v3")
    assert [service(place, name)["metadata"]["uid"] for name in (STABLE, CANARY)] == before
    time.sleep(0.6)
    with pytest.raises(TooNew, match="was made for its matched users just now"):
        slow.add_subset(policy, "v3")
    assert traffic.add_subset(policy, "v3") == "front-end-v3"
    assert [service(place, name)["spec"]["selector"]["version"] for name in (STABLE, CANARY)] == ["v1", "v3"]
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.only(view.lists, "front-end-v3"))
    traffic.add_subset(policy, "v4")
    made = [service(place, name)["metadata"]["uid"] for name in (STABLE, CANARY)]
    assert [service(place, name)["spec"]["selector"]["version"] for name in (STABLE, CANARY)] == ["v3", "v4"]
    with pytest.raises(TooNew):
        TrafficByKind(place.api, settle=60.0).add_subset(policy, "v4")
    assert [service(place, name)["metadata"]["uid"] for name in (STABLE, CANARY)] == made, "made anew once"
