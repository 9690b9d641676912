"""The Service and its Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.check.finding import Level
from canaryd.commands.check.workloads import protocol
from tests.commands.check.facts import a_deployment, a_rule, a_service, a_subset, a_world, bad, only

Object = dict[str, Any]


@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        ({"name": "http"}, "http"),
        ({"name": "http-web"}, "http"),
        ({"name": "http2-x"}, "http2"),
        ({"name": "grpc"}, "grpc"),
        ({"name": "grpc-web"}, "grpc-web"),
        ({"name": "grpc-web-x"}, "grpc-web"),
        ({"name": "tcp-db"}, "tcp"),
        ({"name": "mysql"}, "mysql"),
        ({"name": "https"}, "https"),
        ({"name": "web"}, ""),
        ({}, ""),
        ({"name": "httpx"}, ""),
        ({"name": "tcp", "appProtocol": "http"}, "http"),
        ({"name": "http", "appProtocol": "tcp"}, "tcp"),
        ({"name": "web", "protocol": "UDP"}, "udp"),
        ({"appProtocol": "kubernetes.io/h2c"}, "kubernetes.io/h2c"),
    ],
)
def test_a_port_s_protocol_is_what_istio_takes_it_for(port: Object, wanted: str) -> None:
    assert protocol(port) == wanted


@pytest.mark.parametrize(
    ("ports", "level"),
    [
        ([{"name": "http-web", "port": 80}], None),
        ([{"name": "tcp-admin", "port": 9}, {"name": "grpc", "port": 80}], None),
        ([{"name": "web", "port": 80}], Level.WARNING),
        ([{"port": 80}], Level.WARNING),
        ([{"name": "tcp", "port": 3306}], Level.PROBLEM),
        ([{"name": "mongo", "port": 27017}], Level.PROBLEM),
        ([{"name": "https", "port": 443}], Level.PROBLEM),
    ],
)
def test_a_service_has_to_have_requests_to_count(ports: list[Object], level: Level | None) -> None:
    found = [
        one for one in bad(a_world({"Service": [a_service(*ports)]})) if one.check == "workloads.protocol"
    ]
    assert [one.level for one in found] == ([level] if level else [])
    if level is Level.PROBLEM:
        assert "cannot judge this service" in found[0].found
        assert "appProtocol: http" in found[0].mend


def test_a_service_that_is_not_there_is_printed() -> None:
    found = only(a_world({"Service": []}), "workloads.service")
    assert "kind: Service" in found.mend
    assert only(a_world(unread={"Service": "403"}), "workloads.service").level is Level.UNKNOWN


def test_a_selector_with_a_version_sends_nothing_to_another_one() -> None:
    found = only(
        a_world({"Service": [a_service(selector={"app": "front-end", "version": "v1"})]}),
        "workloads.selector",
    )
    assert found.level is Level.PROBLEM
    assert '"path": "/spec/selector/version"' in found.mend


def test_a_selector_that_leaves_pods_out_is_told() -> None:
    found = only(
        a_world({"Service": [a_service(selector={"app": "front-end", "tier": "web"})]}), "workloads.selector"
    )
    assert "leaves out the pods of front-end-v1" in found.found


def test_no_deployment_with_the_selector_is_a_problem() -> None:
    other = a_deployment()
    other["spec"]["template"]["metadata"]["labels"] = {"app": "frontend", "version": "v1"}
    found = [one for one in bad(a_world({"Deployment": [other]})) if one.check == "workloads.versions"]
    assert len(found) == 1
    assert (
        "no pod template in production has the policy's selector app=front-end (there: front-end-v1)"
        in found[0].found
    )


def test_a_template_without_the_version_label_is_told_with_a_word_for_it() -> None:
    lacking = a_deployment("v2", labels={"app": "front-end"})
    found = only(a_world({"Deployment": [a_deployment(), lacking]}), "workloads.versions")
    assert found.about == "Deployment front-end-v2"
    assert found.mend.endswith("version: v2")


def test_two_deployments_of_one_version_are_a_problem() -> None:
    twin = a_deployment("v2", labels={"app": "front-end", "version": "v1"})
    found = only(a_world({"Deployment": [a_deployment(), twin]}), "workloads.versions")
    assert "front-end-v1 and front-end-v2 both have version=v1" in found.found


def test_one_replica_no_probe_and_no_resources_are_warnings_each() -> None:
    thin = a_deployment()
    thin["spec"]["replicas"] = 1
    (container,) = thin["spec"]["template"]["spec"]["containers"]
    del container["readinessProbe"], container["resources"]
    found = bad(a_world({"Deployment": [thin]}))
    assert [(one.check, one.level) for one in found] == [
        (f"workloads.{what}", Level.WARNING) for what in ("replicas", "probes", "resources")
    ]
    assert found[0].mend == "kubectl -n production scale deployment front-end-v1 --replicas=2"
    assert "port: 8080" in found[1].mend


def test_a_sidecar_in_the_template_needs_no_probe_of_its_own() -> None:
    by_hand = a_deployment()
    by_hand["spec"]["template"]["spec"]["containers"].append({"name": "istio-proxy"})
    assert bad(a_world({"Deployment": [by_hand]})) == []


def test_a_template_that_istio_cannot_name_is_told() -> None:
    from tests.builders import a_policy

    nameless = a_deployment(labels={"role": "front-end", "version": "v1"})
    policy = a_policy(
        service={"name": "front-end", "namespace": "production", "selector": {"role": "front-end"}},
        analysis={},
    )
    world = a_world(
        {"Deployment": [nameless], "Service": [a_service(selector={"role": "front-end"})]}, policy=policy
    )
    assert "workloads.app" in [one.check for one in bad(world)]


def test_an_ignored_deployment_is_left_alone() -> None:
    ignored = a_deployment("v2")
    ignored["metadata"]["annotations"] = {"canaryd.dev/ignore": "true"}
    ignored["spec"]["replicas"] = 1
    assert (
        bad(
            a_world(
                {
                    "Deployment": [a_deployment(), ignored],
                    "DestinationRule": [a_rule(a_subset("v1"), a_subset("v2"))],
                }
            )
        )
        == []
    )


def test_deployments_that_cannot_be_listed_are_not_known() -> None:
    assert only(a_world(unread={"Deployment": "403"}), "workloads.versions").level is Level.UNKNOWN
