"""A host is the Service that istiod takes it for, and every destination of a document is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.routing.documents import (
    ANY_DOMAIN,
    Host,
    Kind,
    backend,
    destinations,
    hosts_of,
    parent_services,
    services_in,
    subsets_of,
)
from tests.builders import HOST
from tests.routing.host_spellings import spellings

DOMAIN = "cluster.local"
SERVICE = ("production", "front-end")

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)


def a_host(written: str, domain: str = DOMAIN) -> Host:
    return Host.parse(written, "production", domain)


def a_document(namespace: str = "production", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shop", "namespace": namespace}, "spec": spec}


def to(host: str = HOST, subset: str = "", **more: Any) -> dict[str, Any]:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(("written", "is_service"), spellings("front-end", "production").items())
def test_only_the_short_name_and_the_full_one_are_the_service(written: str, is_service: bool) -> None:
    host = a_host(written)
    assert (host.service == SERVICE) is is_service
    assert host.written == written


@given(labels, labels, domains, domains)
def test_a_service_has_two_hosts_whatever_it_and_its_cluster_are_called(
    name: str, namespace: str, domain: str, other: str
) -> None:
    service = (namespace, name)
    full = Host.of_service(service, domain)
    assert Host.parse(full.name, "elsewhere", domain) == full
    assert Host.parse(name, namespace, domain).service == service
    assert Host.parse(name, "elsewhere", domain).service == ("elsewhere", name)
    assert Host.parse(f"{name}.{namespace}.svc.{other}", namespace, domain).service == (
        service if other == domain else None
    )
    assert Host.parse(f"{name}.{namespace}.svc.{other}", namespace, ANY_DOMAIN).service == service
    for wrong in (f"{full.name}.", f"{name}.", f"{name}.{namespace}", f"{name}.{namespace}.svc"):
        for known in (domain, ANY_DOMAIN):
            host = Host.parse(wrong, namespace, known)
            assert host.service is None
            assert host.is_mistaken_for(service)
    assert full.selects(service, domain)
    assert full.serves(service, domain)


@given(st.text(st.sampled_from("aA0-.*:/ é"), max_size=20), labels, domains)
def test_any_text_is_one_host_which_is_a_service_only_by_its_full_name(
    written: str, namespace: str, domain: str
) -> None:
    host = Host.parse(written, namespace, domain)
    if host.service is None:
        return
    assert host.name == Host.of_service(host.service, domain).name
    assert written in (host.name, host.service[1])
    assert host.meant == host.service


@pytest.mark.parametrize(
    ("written", "service"),
    [
        ("front-end", SERVICE),
        (HOST, SERVICE),
        ("front-end.production.svc.example.org", SERVICE),
        (HOST + ".", None),
        ("front-end.production.svc.", None),
        ("Front-End", None),
        ("front-end.production", None),
        ("front-end.staging.svc.cluster.local", ("staging", "front-end")),
        ("*", None),
        ("", None),
    ],
)
def test_where_the_domain_is_not_known_any_is_the_clusters(
    written: str, service: tuple[str, str] | None
) -> None:
    assert a_host(written, ANY_DOMAIN).service == service


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (HOST + ".", SERVICE),
        ("Front-End", SERVICE),
        ("front-end.staging", ("staging", "front-end")),
        ("front-end.production.svc.cluster", SERVICE),
        ("front-end.production.svc.other.domain", None),
        ("shop.example.com", None),
        ("10.0.3.4", None),
        ("*", None),
    ],
)
def test_what_a_host_may_be_meant_for_is_what_dns_would_find(
    written: str, meant: tuple[str, str] | None
) -> None:
    assert a_host(written).meant == meant


@pytest.mark.parametrize(
    ("written", "serves", "selects"),
    [
        ("front-end", True, True),
        ("Front-End", True, False),  # istiod puts only spec.hosts in lower case
        ("FRONT-END.production.svc.Cluster.local", True, False),
        ("*.production.svc.cluster.local", True, True),
        ("*.Production.svc.cluster.local", False, False),
        ("*.local", True, True),
        ("*", True, True),
        ("*.staging.svc.cluster.local", False, False),
        ("front-end.production", False, False),
        ("shop.example", False, False),
    ],
)
@pytest.mark.parametrize("domain", [DOMAIN, ANY_DOMAIN])
def test_a_wildcard_is_for_every_service_whose_name_ends_so(
    written: str, serves: bool, selects: bool, domain: str
) -> None:
    host = a_host(written, domain)
    assert host.serves(SERVICE, domain) is serves
    assert host.selects(SERVICE, domain) is selects


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "Shop.example", False),
        ("*.example", "shop.example", True),
        ("*.shop.example", "*.example", True),
        ("*.shop.example", "example", False),
        ("*", "shop.example", True),
        ("shop.example", "shop.example.", False),
    ],
)
def test_two_hosts_meet_where_a_name_is_of_both(one: str, other: str, meet: bool) -> None:
    assert a_host(one).meets(a_host(other)) is meet
    assert a_host(other).meets(a_host(one)) is meet


@pytest.mark.parametrize(
    ("written", "elsewhere"),
    [
        ("front-end.staging.svc.cluster.local", True),
        ("front-end.staging.svc.", True),
        ("front-end.staging", False),  # which may be a host outside the cluster
        ("carts.staging.svc.cluster.local", False),
        (HOST, False),
        ("front-end", False),
    ],
)
def test_a_host_may_be_of_the_service_of_this_name_in_another_namespace(
    written: str, elsewhere: bool
) -> None:
    assert a_host(written).is_of_another_namespace(SERVICE) is elsewhere


# ---------------------------------------------------------------- destinations


def test_every_destination_of_a_virtualservice_is_found() -> None:
    document = a_document(
        http=[
            {"name": "web", "match": [{}], "route": [to(subset="v1", weight=100), to(subset="v2", weight=0)]},
            {"route": [to("carts")], "mirror": {"host": HOST, "subset": "v3"}},
            {"route": [], "mirrors": [to(subset="v4")]},
            {"delegate": {"name": "other"}},
            {"redirect": {"uri": "/"}},
        ],
        tls=[{"match": [{"sniHosts": ["x"]}], "route": [to(subset="v5")]}],
        tcp=[{"route": [to(subset="v6", weight=30), to("feed")]}],
    )
    found = list(destinations(document, DOMAIN))
    assert [(one.where, one.path, one.subset or one.host.written, one.weight) for one in found] == [
        ("http route web", "spec.http[0]", "v1", 100),
        ("http route web", "spec.http[0]", "v2", 0),
        ("http route #1", "spec.http[1]", "carts", 100),
        ("mirror of http route #1", "spec.http[1]", "v3", 0),
        ("mirror of http route #2", "spec.http[2]", "v4", 0),
        ("tls route #0", "spec.tls[0]", "v5", 100),
        ("tcp route #0", "spec.tcp[0]", "v6", 30),
        ("tcp route #0", "spec.tcp[0]", "feed", 0),
    ]
    assert [one.by_default for one in found] == [False, False, True, True, True, False, True, True]
    assert {one.kind for one in found if one.where.startswith("mirror")} == {Kind.COPIES}


def test_every_backend_of_an_httproute_is_found_mirrors_too() -> None:
    def mirror(name: str) -> dict[str, Any]:
        return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name}}}

    document = a_document(
        rules=[
            {"backendRefs": [{"name": "v1"}, {"name": "v2", "weight": 3, "filters": [mirror("v4")]}]},
            {
                "name": "copied",
                "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
                "backendRefs": [{"name": "v3", "namespace": "staging"}],
                "filters": [mirror("v5"), {"type": "URLRewrite"}],
            },
            {"backendRefs": [{"name": "bucket", "group": "storage.example", "kind": "Bucket"}]},
            {"filters": []},
        ],
        parentRefs=[{"name": "web"}, {"group": "", "kind": "Service", "name": "front-end"}],
    )
    found = list(destinations(document, DOMAIN))
    assert [(one.where, one.host.service, one.weight, one.by_default) for one in found] == [
        ("rule #0", ("production", "v1"), 1, True),
        ("rule #0", ("production", "v2"), 3, True),
        ("mirror of rule #0", ("production", "v4"), 0, True),
        ("rule copied", ("staging", "v3"), 100, False),
        ("mirror of rule copied", ("production", "v5"), 0, False),
        ("rule #2", None, 100, True),
    ]
    assert services_in(found, "production") == ["v1", "v2", "v4", "v5"]
    assert parent_services(document, "production") == ["front-end"]
    assert parent_services(document, "staging") == []


def test_a_backend_alone_with_weight_0_gets_nothing() -> None:
    document = a_document(rules=[{"backendRefs": [{"name": "v1", "weight": 0}]}])
    assert [destination.weight for destination in destinations(document)] == [0]


def test_a_backends_full_host_is_the_services() -> None:
    assert backend({"name": "front-end"}, "production", DOMAIN).name == HOST
    assert backend({"name": "x", "kind": "ServiceImport"}, "production", DOMAIN).service is None


@pytest.mark.parametrize(
    "spec", [{}, {"http": None}, {"http": {"route": []}}, {"http": ["route"]}, {"http": [{"route": ["v1"]}]}]
)
def test_what_is_not_as_the_api_has_it_has_no_destinations(spec: dict[str, Any]) -> None:
    assert list(destinations(a_document(**spec))) == []
    assert list(destinations({"kind": "VirtualService", "spec": None})) == []


def test_short_hosts_are_of_the_documents_own_namespace() -> None:
    document = a_document("staging", hosts=["front-end"], http=[{"route": [to("front-end")]}])
    assert [destination.host.service for destination in destinations(document, DOMAIN)] == [
        ("staging", "front-end")
    ]
    assert [host.name for host in hosts_of(document, DOMAIN)] == ["front-end.staging.svc.cluster.local"]


def test_the_subsets_of_a_service_are_those_of_its_own_host_else_of_the_longest_wildcard() -> None:
    def a_rule(host: str, name: str) -> dict[str, Any]:
        return a_document(host=host, subsets=[{"name": name, "labels": {"version": name}}])

    wide, near = a_rule("*.local", "wide"), a_rule("*.production.svc.cluster.local", "near")
    assert subsets_of([wide, near, a_rule("carts", "other")], SERVICE) == {"near": {"version": "near"}}
    own, also = a_rule("front-end", "v1"), a_rule(HOST, "v2")
    assert subsets_of([wide, own, also], SERVICE).keys() == {"v1", "v2"}
    assert subsets_of([a_rule(HOST + ".", "v1")], SERVICE) == {}
