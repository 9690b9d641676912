"""What is an HTTPRoute's own: Services for versions, how they are made and go, and what the Gateway API says
of references."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from ruamel.yaml import YAML

from canaryd.adapters.kube.httproute import GatewayApiTraffic
from canaryd.adapters.kube.version_services import MADE_FOR, as_yaml, name_for
from canaryd.domain.ports import Rejected, TooNew
from canaryd.routing import route_lists
from tests.adapters.kube.api_servers import GATEWAY_API, Place
from tests.adapters.kube.route_kinds import PORTS, GatewayApi, Object
from tests.builders import a_policy

ROUTER = GatewayApi()
V1 = {"app": "front-end", "version": "v1"}
SERVICE_PARENT = {"group": "", "kind": "Service", "name": "front-end", "port": 80}


def ref(name: str, weight: int | None = None, **more: Any) -> Object:
    return {"name": name, "port": 80, **more} | ({} if weight is None else {"weight": weight})


def setup(
    place: Place, *rules: Object, name: str = "sockshop", parents: list[Object] | None = None
) -> GatewayApiTraffic:
    """An HTTPRoute with these rules (default: all to front-end-v1), and the Services front-end and
    front-end-v1."""
    ROUTER.service(place, "front-end", {"app": "front-end"})
    ROUTER.service(place, "front-end-v1", V1)
    route(place, *rules, name=name, parents=parents)
    return GatewayApiTraffic(place.api, settle=0.0)


def route(place: Place, *rules: Object, name: str = "sockshop", parents: list[Object] | None = None) -> None:
    spec = {
        "parentRefs": parents or [SERVICE_PARENT],
        "rules": list(rules) or [{"backendRefs": [ref("front-end-v1")]}],
    }
    place.put(GATEWAY_API, "httproutes", {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec})


def service(place: Place, name: str) -> Object:
    return place.get("v1", "services", name)


def services(place: Place) -> set[str]:
    found = place.api.request("GET", f"/api/v1/namespaces/{place.namespace}/services")["items"]
    return {one["metadata"]["name"] for one in found}


# ---------------------------------------------------------------- what cannot be steered


def test_a_service_of_every_version_is_refused_with_the_one_to_apply(place: Place) -> None:
    traffic = setup(place, {"backendRefs": [ref("front-end")]})
    view = traffic.read(ROUTER.policy(place))
    with pytest.raises(
        route_lists.Refusal,
        match="sends all traffic to front-end: this Service selects the pods of every version",
    ) as told:
        route_lists.stable_version(view)
    manifest = YAML(typ="safe").load(str(told.value).partition("lead to it:\n")[2].replace("VERSION", "v1"))
    assert manifest["metadata"] == {"name": "front-end-v1", "namespace": place.namespace}
    assert manifest["spec"]["selector"] == V1
    assert {key: manifest["spec"]["ports"][0][key] for key in PORTS[0]} == PORTS[0]
    place.api.request("DELETE", f"/api/v1/namespaces/{place.namespace}/services/front-end-v1")
    place.api.request("POST", f"/api/v1/namespaces/{place.namespace}/services", manifest)
    place.edit(
        GATEWAY_API,
        "httproutes",
        "sockshop",
        lambda obj: obj["spec"]["rules"][0].update(backendRefs=[ref("front-end-v1")]),
    )
    assert route_lists.stable_version(traffic.read(ROUTER.policy(place))) == "v1"


def test_a_service_that_is_not_there_is_told_and_does_not_hide_the_rule(place: Place) -> None:
    view = setup(place, {"backendRefs": [ref("front-end-v1", 0), ref("front-end-v7", 1)]}).read(
        ROUTER.policy(place)
    )
    with pytest.raises(
        route_lists.Refusal, match="all traffic to front-end-v7: there is no Service of this name; make it"
    ):
        route_lists.stable_version(view)


def test_services_of_another_namespace_need_a_grant_and_are_refused(place: Place) -> None:
    traffic = setup(place, {"backendRefs": [ref("front-end-v1"), ref("front-end-v2", namespace="other")]})
    with pytest.raises(
        Rejected,
        match=r"rule #0: wanted .*, but front-end-v2 is in other: over there a ReferenceGrant decides",
    ):
        traffic.read(ROUTER.policy(place))


@pytest.mark.parametrize(
    ("refs", "says"),
    [
        (
            [
                ref("front-end-v1"),
                {"group": "networking.istio.io", "kind": "Hostname", "name": "shop.example", "port": 80},
            ],
            r"but one is the Hostname\.networking\.istio\.io shop\.example; lead it to Services",
        ),
        (
            [ref("front-end-v1"), ref("carts")],
            "but carts selects app=carts; split the rules, and name those to steer in route.rules",
        ),
        ([ref("front-end-v1"), ref("none")], "but none selects nothing"),
        ([ref("front-end-v1", 0)], "but its only one, front-end-v1, has the weight 0, so it answers nobody"),
    ],
)
def test_references_to_something_else_are_refused_by_name(
    place: Place, refs: list[Object], says: str
) -> None:
    traffic = setup(place, {"backendRefs": refs})
    ROUTER.service(place, "carts", {"app": "carts"})
    place.put("v1", "services", {"kind": "Service", "metadata": {"name": "none"}, "spec": {"ports": PORTS}})
    with pytest.raises(Rejected, match=says):
        traffic.read(ROUTER.policy(place))


def test_a_named_rule_that_answers_by_itself_is_refused(place: Place) -> None:
    redirect = {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}
    traffic = setup(
        place, {"name": "away", "filters": [redirect]}, {"name": "main", "backendRefs": [ref("front-end-v1")]}
    )
    with pytest.raises(
        Rejected, match=r"rule away: wanted backendRefs .*, but it has none; leave this rule out"
    ):
        traffic.read(ROUTER.policy(place, chosen=("away",)))
    assert list(traffic.read(ROUTER.policy(place)).lists) == ["main"]


def test_a_rule_with_a_catch_all_among_its_matches_has_no_match(place: Place) -> None:
    header = {"headers": [{"name": "x-beta", "value": "1"}]}
    traffic = setup(
        place,
        {
            "matches": [header, {"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [ref("front-end-v1")],
        },
        {"matches": [header], "backendRefs": [ref("front-end-v1")]},
    )
    assert list(traffic.read(ROUTER.policy(place)).lists) == ["#0"]


# ---------------------------------------------------------------- what is written


def test_ports_filters_and_other_rules_stay_as_they_are(place: Place) -> None:
    mark = {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]},
    }
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": ref("front-end-v1")}}
    beta = {
        "matches": [{"headers": [{"name": "x-beta", "value": "1"}]}],
        "backendRefs": [ref("front-end-v1")],
    }
    traffic = setup(
        place, beta, {"backendRefs": [ref("front-end-v1", 1, filters=[mark])], "filters": [mirror]}
    )
    policy, before = ROUTER.policy(place), place.get(GATEWAY_API, "httproutes", "sockshop")["spec"]
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.split(view.lists, canary, 30))
    after = place.get(GATEWAY_API, "httproutes", "sockshop")["spec"]
    stable = before["rules"][1]["backendRefs"][0]
    assert after["rules"][1]["backendRefs"] == [
        {**stable, "weight": 70},
        {**stable, "name": canary, "weight": 30},
    ]
    after["rules"][1]["backendRefs"] = before["rules"][1]["backendRefs"]
    assert after == before


def test_what_a_controller_says_in_the_status_is_no_conflict_and_is_read(place: Place) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    assert view.trouble == ""
    generation = place.get(GATEWAY_API, "httproutes", "sockshop")["metadata"]["generation"]

    def say(obj: Object) -> None:
        said = {
            "type": "ResolvedRefs",
            "status": "False",
            "reason": "BackendNotFound",
            "message": "none",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
        parent = {
            "parentRef": SERVICE_PARENT,
            "controllerName": "example.net/of-a-test",
            "conditions": [said],
        }
        obj["status"] = {"parents": [parent]}

    place.edit(GATEWAY_API, "httproutes", "sockshop", say, part="status")
    assert (
        traffic.read(policy).trouble
        == "its parent Service front-end says ResolvedRefs=False: BackendNotFound (none)"
    )
    assert traffic.write(policy, view, route_lists.split(view.lists, canary, 10)).trouble == ""


def test_who_is_not_steered_is_told(place: Place) -> None:
    traffic = setup(place, parents=[{"name": "sockshop-gateway"}])
    assert "calls from inside the mesh" in traffic.read(ROUTER.policy(place)).unsteered


def test_versions_of_other_rules_and_of_mirrors_get_traffic(place: Place) -> None:
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": ref("front-end-v2")}}
    traffic = setup(
        place,
        {"backendRefs": [ref("front-end-v1")], "filters": [mirror]},
        {"matches": [{"path": {"type": "Exact", "value": "/x"}}], "backendRefs": [ref("front-end-v3")]},
    )
    for version in ("v2", "v3", "v4"):
        ROUTER.service(place, f"front-end-{version}", {**V1, "version": version})
    assert route_lists.versions(traffic.read(ROUTER.policy(place))) == {"v1", "v2", "v3"}


# ---------------------------------------------------------------- the Services


def test_a_version_s_service_is_like_stable_s_but_for_what_is_its_own(place: Place) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)

    def dress(obj: Object) -> None:
        obj["metadata"]["labels"] = {
            "app": "front-end",
            "version": "v1",
            "team": "shop",
            "app.kubernetes.io/version": "v1",
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/instance": "sockshop",
            "helm.sh/chart": "shop-1",
            "kustomize.toolkit.fluxcd.io/name": "shop",
        }
        obj["metadata"]["annotations"] = {"networking.istio.io/exportTo": "*", "example.net/note": "mine"}
        obj["spec"] |= {"type": "NodePort", "sessionAffinity": "ClientIP"}

    place.edit("v1", "services", "front-end-v1", dress)
    made = service(place, traffic.add_subset(policy, "v2"))
    assert made["metadata"]["labels"] == {
        "app": "front-end",
        "version": "v2",
        "team": "shop",
        "app.kubernetes.io/version": "v2",
        "app.kubernetes.io/managed-by": "canaryd",
    }
    assert made["metadata"]["annotations"] == {"networking.istio.io/exportTo": "*", MADE_FOR: "front-end/v2"}
    spec = made["spec"]
    assert (spec["selector"], spec.get("type", "ClusterIP"), spec["sessionAffinity"]) == (
        {**V1, "version": "v2"},
        "ClusterIP",
        "ClientIP",
    )
    (port,) = spec["ports"]
    assert {key: port.get(key) for key in PORTS[0]} == PORTS[0]
    assert "nodePort" not in port


def test_a_headless_service_is_copied_headless(place: Place) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)
    place.api.request("DELETE", f"/api/v1/namespaces/{place.namespace}/services/front-end-v1")
    place.put(
        "v1",
        "services",
        {
            "kind": "Service",
            "metadata": {"name": "front-end-v1"},
            "spec": {"selector": V1, "ports": PORTS, "clusterIP": "None"},
        },
    )
    assert service(place, traffic.add_subset(policy, "v2"))["spec"]["clusterIP"] == "None"


def test_a_service_is_routed_to_only_when_proxies_had_time_to_know_it_also_by_a_process_that_did_not_make_it(
    place: Place,
) -> None:
    setup(place)
    policy, began = ROUTER.policy(place), time.monotonic()
    for _ in range(2):
        with pytest.raises(
            Rejected, match=r"Service front-end-v2 was made just now, and is routed to after 0\.5 s"
        ):
            GatewayApiTraffic(place.api, settle=0.5).add_subset(policy, "v2")
    assert services(place) >= {"front-end-v2"}
    while True:
        with suppress(TooNew):
            assert GatewayApiTraffic(place.api, settle=0.5).add_subset(policy, "v2") == "front-end-v2"
            break
        time.sleep(0.1)
    assert 0.5 <= time.monotonic() - began < 5


def test_one_that_is_routed_to_already_is_put_back_at_once(place: Place) -> None:
    setup(place, {"backendRefs": [ref("front-end-v1", 90), ref("front-end-v2", 10)]})
    traffic, policy = GatewayApiTraffic(place.api, settle=60), ROUTER.policy(place)
    assert traffic.add_subset(policy, "v2") == "front-end-v2"
    assert traffic.read(policy).subsets["front-end-v2"] == "v2"


def test_without_a_service_to_copy_it_is_said(place: Place) -> None:
    traffic = setup(place, {"backendRefs": [ref("front-end")]})
    with pytest.raises(
        Rejected, match="leads to no Service of another version, after which one for v2 could be made"
    ):
        traffic.add_subset(ROUTER.policy(place), "v2")


def test_what_was_made_goes_when_nothing_leads_to_it_and_not_before(place: Place) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)
    canary = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    split = traffic.write(policy, view, route_lists.split(view.lists, canary, 10))
    assert list(traffic.clean_up(policy, ())) == []
    traffic.write(policy, split, view.lists)
    assert list(traffic.clean_up(policy, {"v2"})) == [], "a rollout of it is under way"
    assert list(traffic.clean_up(policy, {"v1"})) == [canary]
    assert services(place) == {"front-end", "front-end-v1"}
    assert list(traffic.clean_up(policy, ())) == []


@pytest.mark.parametrize("use", ["weight 0", "another route", "mirror", "parent"])
def test_what_any_route_names_stays(place: Place, use: str) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)
    canary = traffic.add_subset(policy, "v2")
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": ref(canary)}}
    rules: dict[str, Object] = {
        "weight 0": {"backendRefs": [ref("front-end-v1", 1), ref(canary, 0)]},
        "another route": {"backendRefs": [ref(canary)]},
        "mirror": {"backendRefs": [ref("front-end-v1")], "filters": [mirror]},
        "parent": {"backendRefs": [ref("front-end-v1")]},
    }
    route(
        place,
        rules[use],
        name="another",
        parents=[{**SERVICE_PARENT, "name": canary}] if use == "parent" else None,
    )
    assert list(traffic.clean_up(policy, ())) == []
    place.api.request("DELETE", f"/apis/{GATEWAY_API}/namespaces/{place.namespace}/httproutes/another")
    assert list(traffic.clean_up(policy, ())) == [canary]


@pytest.mark.parametrize(
    "edit",
    [
        lambda obj: obj["spec"]["selector"].update(version="v3"),
        lambda obj: obj["spec"]["selector"].update(zone="a"),
        lambda obj: obj["metadata"]["annotations"].pop(MADE_FOR),
        lambda obj: obj["metadata"]["annotations"].update({MADE_FOR: "carts/v2"}),
    ],
)
def test_what_someone_took_over_stays(place: Place, edit: Any) -> None:
    traffic, policy = setup(place), ROUTER.policy(place)
    canary = traffic.add_subset(policy, "v2")
    place.edit("v1", "services", canary, edit)
    assert list(traffic.clean_up(policy, ())) == []
    assert canary in services(place)


@pytest.mark.parametrize(
    ("version", "name"), [("v2", "front-end-v2"), ("V2.1_rc", "front-end-v2-1-rc"), ("_", "front-end-canary")]
)
def test_a_service_s_name_is_a_dns_label(version: str, name: str) -> None:
    policy = a_policy(route={"httpRoute": "sockshop"})
    assert name_for(policy, version, {}) == name
    assert name_for(policy, version, {name: {}}) == f"{name}-2"
    long = a_policy(
        route={"httpRoute": "s"},
        service={"name": "f" * 63, "namespace": "production", "selector": {"app": "f"}},
    )
    assert len(name_for(long, version * 30, {})) <= 63


@pytest.mark.parametrize(
    "data",
    [
        {
            "a": {"b": [1, "two", {"c": "true", "d": None}], "e": []},
            "f": {},
            "g": "x: y",
            "h": 80,
            "i": "80",
            "j": True,
        },
        {"apiVersion": "v1", "list": [{"name": "http", "targetPort": 8080, "deep": {"x": [{"y": "z"}]}}]},
    ],
)
def test_what_is_shown_as_yaml_is_what_was_meant(data: Object) -> None:
    assert YAML(typ="safe").load(as_yaml(data)) == data
