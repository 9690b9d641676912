"""VirtualService, DestinationRule and Gateway agree, and nobody else routes the service's requests."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.check.finding import Level
from canaryd.domain.check_facts import Listing
from tests.builders import HOST, a_policy
from tests.commands.check.facts import (
    a_deployment,
    a_gateway,
    a_route,
    a_rule,
    a_subset,
    a_world,
    an_object,
    bad,
    only,
)

Object = dict[str, Any]


def to(subset: str | None = "v1", host: str = HOST, **more: Any) -> Object:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


# ---------------------------------------------------------------- what the daemon would refuse, in its words


@pytest.mark.parametrize(
    ("http", "says"),
    [
        ([{"route": [to(None)]}], "but one has no subset; add the subset of the version that is stable now"),
        (
            [{"route": [to(host="front-end.production")]}],
            "has no http route without a match to front-end.production.svc.cluster.local",
        ),
        (
            [{"route": [to(), to(host="front-end.production", subset="v2")]}],
            "(Istio takes a name with a dot as it is: write front-end or",
        ),
        ([{"match": [{"uri": {"exact": "/"}}], "route": [to()]}], "has no http route without a match"),
        (
            [{"route": [to(weight=50), to("v2", weight=50)]}],
            "is split (v1 50%, v2 50%) and no rollout is on record",
        ),
        (
            [{"route": [to("v9")]}],
            "sends all traffic to subset 'v9', which the DestinationRule does not map to a version",
        ),
    ],
)
def test_a_route_that_the_daemon_refuses_is_a_problem_in_its_words(http: list[Object], says: str) -> None:
    found = [
        one for one in bad(a_world({"VirtualService": [a_route(*http)]})) if one.check == "routes.steerable"
    ]
    assert len(found) == 1
    assert found[0].level is Level.PROBLEM
    assert says in found[0].found


def test_a_split_route_is_fine_while_a_rollout_is_under_way() -> None:
    split = a_route({"route": [to(weight=90), to("v2", weight=10)]})
    rollout = {
        **an_object("CanaryRollout", "front-end-v2-x", {"service": "front-end"}),
        "status": {"phase": "Progressing"},
    }
    world = {
        "VirtualService": [split],
        "DestinationRule": [a_rule(a_subset("v1"), a_subset("v2"))],
        "Deployment": [a_deployment(), a_deployment("v2")],
    }
    assert bad(a_world({**world, "CanaryRollout": [rollout]})) == []
    ended = {**rollout, "status": {"phase": "RolledBack"}}
    found = only(a_world({**world, "CanaryRollout": [ended]}), "routes.steerable")
    assert found.mend.splitlines()[1:] == ["route:", "- destination:", f"    host: {HOST}", "    subset: v1"]


def test_without_a_virtualservice_or_a_rule_the_least_that_is_needed_is_printed() -> None:
    found = only(a_world({"VirtualService": []}), "routes.steerable")
    assert "kind: VirtualService" in found.mend
    assert "kind: DestinationRule" not in found.mend
    (found,) = [one for one in bad(a_world({"DestinationRule": []})) if one.check == "routes.steerable"]
    assert "- name: v1\n    labels:\n      version: v1" in found.mend


def test_a_route_bound_to_gateways_alone_is_told_with_what_adds_the_mesh() -> None:
    found = only(
        a_world({"VirtualService": [a_route(hosts=["*"], gateways=["sockshop-gateway"])]}), "routes.mesh"
    )
    assert found.level is Level.WARNING
    assert found.mend.splitlines()[1:] == ["hosts:", f"- {HOST}", "gateways:", "- sockshop-gateway", "- mesh"]


def test_a_route_of_the_mesh_without_the_services_host_is_told_with_what_adds_it() -> None:
    found = only(a_world({"VirtualService": [a_route(hosts=["shop.example"])]}), "routes.mesh")
    assert "does not have front-end among its spec.hosts" in found.found
    assert found.mend.splitlines()[1:] == [
        "hosts:",
        "- shop.example",
        f"- {HOST}",
        "gateways:",
        "- sockshop-gateway",
        "- mesh",
    ]


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize("host", ["front-end", HOST])
def test_the_short_name_and_the_full_one_are_the_service(host: str) -> None:
    assert (
        bad(
            a_world(
                {
                    "VirtualService": [a_route({"route": [to(host=host)]})],
                    "DestinationRule": [a_rule(host=host)],
                }
            )
        )
        == []
    )


@pytest.mark.parametrize(
    "host",
    [
        "front-end.production",
        "front-end.production.svc",
        HOST + ".",
        "front-end.production.svc.cluster",
        "Front-End",
    ],
)
@pytest.mark.parametrize("where", ["route", "rule"])
def test_a_shortened_host_and_one_with_a_closing_dot_are_told_where_they_stand(host: str, where: str) -> None:
    changed = (
        {"VirtualService": [a_route({"route": [to(host=host)]})]}
        if where == "route"
        else {"DestinationRule": [a_rule(host=host)]}
    )
    found = [one for one in bad(a_world(changed)) if one.check == "routes.host"]
    assert len(found) == 1
    assert ("spec.http[0]" if where == "route" else "spec.host") in found[0].found
    assert found[0].mend.endswith(f"host: {HOST}")


def test_a_route_to_the_service_of_another_namespace_is_told_as_that() -> None:
    world = a_world(
        {"VirtualService": [a_route({"route": [to(host="front-end.staging.svc.cluster.local")]})]}
    )
    (found,) = [one for one in bad(world) if one.check == "routes.host"]
    assert "the Service of another namespace" in found.found


# ---------------------------------------------------------------- the order of routes, weights


@pytest.mark.parametrize(
    "first",
    [
        {"name": "all", "route": [to()]},
        {"name": "all", "match": [{"uri": {"prefix": "/"}}], "route": [to()]},
        {"name": "all", "match": [{"headers": {"a": {"exact": "b"}}}, {}], "route": [to()]},
    ],
)
def test_a_route_after_one_that_takes_all_is_never_reached(first: Object) -> None:
    world = a_world({"VirtualService": [a_route(first, {"name": "late", "route": [to()]})]})
    (found,) = [one for one in bad(world) if one.check == "routes.order"]
    assert "http route all takes every request, so late is never reached" in found.found


def test_a_route_with_a_match_before_the_default_is_in_order() -> None:
    http = [{"match": [{"uri": {"prefix": "/api"}}], "route": [to()]}, {"route": [to()]}]
    assert bad(a_world({"VirtualService": [a_route(*http)]})) == []


def test_weights_that_do_not_sum_to_100_are_told() -> None:
    http = [{"match": [{"uri": {"exact": "/a"}}], "route": [to(weight=50), to(weight=20)]}, {"route": [to()]}]
    assert "sum to 70" in only(a_world({"VirtualService": [a_route(*http)]}), "routes.weights").found


# ---------------------------------------------------------------- subsets


def test_a_subset_that_no_rule_has_is_a_problem_with_the_yaml_that_adds_it() -> None:
    http = [{"match": [{"uri": {"exact": "/a"}}], "route": [to("v2")]}, {"route": [to()]}]
    found = only(
        a_world({"VirtualService": [a_route(*http)], "Deployment": [a_deployment(), a_deployment("v2")]}),
        "routes.subsets",
    )
    assert found.level is Level.PROBLEM
    assert found.mend.splitlines()[1:] == ["- name: v2", "  labels:", "    version: v2"]


def test_a_subset_whose_labels_select_no_pods_is_a_problem_where_it_is_used_and_left_over_where_not() -> None:
    used = a_world({"DestinationRule": [a_rule(a_subset("v1", version="v01"))]})
    assert [(one.check, one.level) for one in bad(used)] == [("routes.subsetLabels", Level.PROBLEM)]
    unused = only(a_world({"DestinationRule": [a_rule(a_subset("v1"), a_subset("v7"))]}), "routes.leftover")
    assert (unused.level, "subset v7 selects version=v7" in unused.found) == (Level.WARNING, True)


def test_a_route_that_a_rollout_left_is_told() -> None:
    http = [
        {
            "name": "canaryd-preview",
            "match": [{"headers": {"x-canary": {"exact": "always"}}}],
            "route": [to()],
        },
        {"route": [to()]},
    ]
    assert "canaryd-preview" in only(a_world({"VirtualService": [a_route(*http)]}), "routes.leftover").found


# ---------------------------------------------------------------- others


def test_another_virtualservice_for_the_same_host_is_told_with_what_istio_does() -> None:
    other = an_object(
        "VirtualService",
        "second",
        {"hosts": ["shop.example"], "gateways": ["production/sockshop-gateway"], "http": []},
        "other",
    )
    assert "Istio merges both" in only(a_world({"VirtualService": [a_route(), other]}), "routes.others").found
    inside = an_object("VirtualService", "second", {"hosts": [HOST], "http": []}, "other")
    assert (
        "applies the older one alone"
        in only(a_world({"VirtualService": [a_route(), inside]}), "routes.others").found
    )


def test_another_route_to_the_service_is_not_steered() -> None:
    other = an_object(
        "VirtualService", "second", {"hosts": ["x.example"], "gateways": ["g"], "http": [{"route": [to()]}]}
    )
    assert (
        "which canaryd does not steer"
        in only(a_world({"VirtualService": [a_route(), other]}), "routes.others").found
    )


def test_another_rule_for_the_host_is_told() -> None:
    other = a_rule(name="second", namespace="istio-system")
    assert (
        only(a_world({"DestinationRule": [a_rule(), other]}), "routes.otherRules").about
        == "DestinationRule istio-system/second"
    )


def test_what_may_not_be_listed_everywhere_is_not_known() -> None:
    listing = Listing((a_route(),), "403: forbidden")
    world = a_world()
    found = bad(a_world(kinds={**world.kinds, "VirtualService": listing}))
    assert [(one.check, one.level) for one in found] == [("routes.others", Level.UNKNOWN)]


# ---------------------------------------------------------------- gateways


@pytest.mark.parametrize(
    ("gateway", "check", "level"),
    [
        ([], "gateways.there", Level.PROBLEM),
        ([a_gateway(hosts=["other.example"])], "gateways.hosts", Level.PROBLEM),
        ([a_gateway(hosts=["staging/*"])], "gateways.hosts", Level.PROBLEM),
        ([a_gateway(port={"number": 3306, "protocol": "TCP"})], "gateways.hosts", Level.PROBLEM),
    ],
)
def test_a_gateway_has_to_be_there_and_take_the_hosts(
    gateway: list[Object], check: str, level: Level
) -> None:
    assert only(a_world({"Gateway": gateway}), check).level is level


@pytest.mark.parametrize(
    "hosts",
    [
        ["*"],
        ["*.example"],
        ["shop.example"],
        ["production/shop.example"],
        ["./shop.example"],
        ["*/*.example"],
    ],
)
def test_hosts_of_a_gateway_may_be_wild_and_of_a_namespace(hosts: list[str]) -> None:
    assert bad(a_world({"Gateway": [a_gateway(hosts=hosts)]})) == []


def test_a_gateway_whose_selector_selects_nothing_is_told_and_one_that_is_not_seen_is_not_known() -> None:
    key = ("production", "sockshop-gateway")
    assert (
        only(a_world(pods_of_gateways={key: Listing()}), "gateways.proxy").mend
        == "kubectl get pods -A -l istio=ingressgateway"
    )
    assert (
        only(a_world(pods_of_gateways={key: Listing(problem="403")}), "gateways.proxy").level is Level.UNKNOWN
    )


def test_another_cluster_domain_is_taken_into_account() -> None:
    host = "front-end.production.svc.corp.local"
    route, rule = a_route({"route": [to(host="front-end")]}, hosts=["front-end"]), a_rule(host=host)
    assert [
        one.check
        for one in bad(a_world({"VirtualService": [route], "DestinationRule": [rule]}, domain="corp.local"))
    ] == []
    assert "routes.steerable" in [
        one.check for one in bad(a_world({"VirtualService": [route], "DestinationRule": [rule]}))
    ]


def test_a_route_on_which_a_stage_of_the_policy_cannot_be_made_is_told_before_the_first_release() -> None:
    route = a_route({"route": [to(headers={"response": {"add": {"set-cookie": "a=1"}}})]})
    policy = a_policy(route={"virtualService": "sockshop", "affinity": {}}, analysis={})
    found = only(a_world({"VirtualService": [route]}, policy=policy), "routes.stages")
    assert found.level is Level.PROBLEM
    assert "a destination has headers.response.add for set-cookie" in found.found
    assert bad(a_world(policy=policy)) == []
