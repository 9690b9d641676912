"""A namespace is read whole, of Secrets only the names of their keys, and nothing that is there is
overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi, path_to
from canaryd.adapters.kube.namespace_reader import KubeObjects
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.domain.namespace_objects import Deployed, DeploymentSelector
from canaryd.domain.ports import Conflict, Forbidden, KnownTemplates, Missing, Rejected, Request
from canaryd.domain.rollout import Phase, Record
from canaryd_sandbox.kubernetes.api import KubernetesServer
from tests.adapters.kube.api_servers import ISTIO, Place
from tests.builders import a_bracket_rollout, a_rollout, of_carts, with_entrance
from tests.commands.deploy.two_namespaces import (
    a_budget,
    a_deployment,
    a_rule,
    a_service,
    a_virtual_service,
    an_autoscaler,
    deployed,
)

PINNED = f"registry.example/front-end@sha256:{'a' * 64}"


def sent(obj: Any, place: Place) -> dict[str, Any]:
    """An object of the builders, as someone would create it here."""
    metadata = {"name": obj["metadata"]["name"], "namespace": place.namespace}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def full(place: Place) -> KubeObjects:
    place.put("apps/v1", "deployments", sent(a_deployment(), place))
    place.put("v1", "services", sent(a_service(), place))
    place.put("autoscaling/v2", "horizontalpodautoscalers", sent(an_autoscaler(), place))
    place.put("policy/v1", "poddisruptionbudgets", sent(a_budget(), place))
    place.put(
        ISTIO, "virtualservices", {**sent(a_virtual_service(("v1", 100)), place), "kind": "VirtualService"}
    )
    place.put(ISTIO, "destinationrules", {**sent(a_rule("v1"), place), "kind": "DestinationRule"})
    return KubeObjects(place.api, place.namespace)


def test_a_namespace_is_read_whole_with_the_kind_of_each_object(place: Place) -> None:
    found = full(place).read()
    (one,) = found.deployments
    assert (one.name, one.labels, one.namespace) == ("front-end", {"app": "front-end"}, place.namespace)
    for objects, kind in (
        (found.services, "Service"),
        (found.autoscalers, "HorizontalPodAutoscaler"),
        (found.budgets, "PodDisruptionBudget"),
        (found.virtual_services, "VirtualService"),
        (found.rules, "DestinationRule"),
    ):
        assert [each["kind"] for each in objects] == [kind]
        assert "/" in objects[0]["apiVersion"] or objects[0]["apiVersion"] == "v1"
    assert (found.rollouts, found.notes, found.unreadable) == ([], {}, {})


def test_what_canaryd_noted_and_has_on_record_is_read(place: Place) -> None:
    policy = place.policy()
    KubeServices(place.api).remember(policy, KnownTemplates(frozenset(), paused=True))
    rollouts = KubeRollouts(place.api)
    rollouts.create(Record(a_rollout(namespace=place.namespace, policy=policy, phase=Phase.HELD)))
    for name in ("asked", "refused"):
        rollouts.ask(Request(place.namespace, "carts", "v3", name), 1)
    rollouts.refuse(Request(place.namespace, "carts", "v3", "refused"), "no")
    found = KubeObjects(place.api, place.namespace).read()
    assert found.notes == {"front-end": DeploymentSelector({"app": "front-end"}, "version")}
    assert found.paused == {"front-end"}
    told = {
        rollout.name: (rollout.service, rollout.canary, rollout.stable_workload, rollout.phase, rollout.ended)
        for rollout in found.rollouts
    }
    assert told == {
        "front-end-v2-hash-v2": ("front-end", "v2", "front-end-v1", Phase.HELD, False),
        "asked": ("carts", "v3", "", None, False),
    }


def test_a_service_of_a_bracket_is_on_record_in_whichever_namespace_the_record_is(place: Place) -> None:
    rollout = a_bracket_rollout(of_carts(namespace=place.namespace), namespace=place.namespace)
    KubeRollouts(place.api).create(Record(rollout))
    found = [
        (rollout.service, rollout.canary, rollout.stable_workload, rollout.ended)
        for rollout in KubeObjects(place.api, place.namespace).read().rollouts
    ]
    assert found == [("front-end", "v2", "front-end-v1", False), ("carts", "v8", "carts-v7", False)]
    elsewhere = f"{place.namespace}-other"
    place.api.request(
        "POST",
        path_to("v1", "namespaces"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}},
    )
    record = KubeRollouts(place.api).create(
        Record(with_entrance(replace(rollout, name="elsewhere"), namespace=elsewhere))
    )
    there = {
        (rollout.service, rollout.name) for rollout in KubeObjects(place.api, place.namespace).read().rollouts
    }
    KubeRollouts(place.api).delete(record)
    place.api.request("DELETE", path_to("v1", "namespaces", name=elsewhere))
    assert there == {("carts", "elsewhere"), ("carts", rollout.name), ("front-end", rollout.name)}


def test_a_namespace_that_is_not_there_is_missing_by_name(place: Place) -> None:
    with pytest.raises(Missing, match="there is no namespace nowhere"):
        KubeObjects(place.api, "nowhere").read()


def test_keys_of_a_secret_and_of_a_config_map_are_told_and_no_values(place: Place) -> None:
    place.put(
        "v1",
        "secrets",
        {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"user": "u", "pass": "p"}},
    )
    place.put(
        "v1",
        "configmaps",
        {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}, "binaryData": {"b": "AQ=="}},
    )
    objects = KubeObjects(place.api, place.namespace)
    assert objects.keys("Secret", "s") == {"user", "pass"}
    assert objects.keys("ConfigMap", "c") == {"a", "b"}
    assert objects.config_map("c")["data"] == {"a": "1"}


@pytest.mark.parametrize(
    "kind",
    ["ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount", "PriorityClass", "RuntimeClass"],
)
def test_what_pods_may_name_is_missing_where_it_is_not(place: Place, kind: str) -> None:
    with pytest.raises(Missing):
        KubeObjects(place.api, place.namespace).keys(kind, "none-such")


def test_what_has_no_keys_is_there_without_any(place: Place) -> None:
    place.put("v1", "serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "shop"}})
    assert KubeObjects(place.api, place.namespace).keys("ServiceAccount", "shop") == frozenset()


def test_a_dry_run_is_the_server_s_answer_and_is_not_kept(place: Place) -> None:
    objects = KubeObjects(place.api, place.namespace)
    answer = objects.create(sent(a_deployment(), place), dry_run=True)
    assert answer["metadata"]["uid"]
    assert objects.read().deployments == []
    objects.create(sent(a_deployment(), place))
    assert [deployment.name for deployment in objects.read().deployments] == ["front-end"]


def test_what_is_there_is_not_overwritten(place: Place) -> None:
    objects = full(place)
    with pytest.raises(Conflict, match="already exists"):
        objects.create(sent(a_deployment(image="other"), place))
    assert objects.read().deployments[0].images == a_images()


def a_images() -> dict[str, str]:
    return dict(deployed(a_deployment()).images)


def test_what_cannot_work_is_refused_in_the_server_s_words(place: Place) -> None:
    broken = sent(a_deployment(spec={"selector": {"matchLabels": {"app": "other"}}}), place)
    with pytest.raises(Rejected, match="does not match template"):
        KubeObjects(place.api, place.namespace).create(broken, dry_run=True)


def test_a_deployment_s_state_is_told_and_its_absence(place: Place) -> None:
    objects = full(place)
    assert objects.state("front-end").desired == 2
    with pytest.raises(Missing):
        objects.state("none")


def a_pod(name: str, image: str, image_id: str, place: Place) -> None:
    spec = {
        "containers": [{"name": "front-end", "image": image}, {"name": "istio-proxy", "image": "proxy"}],
        "schedulerName": "nobody",
    }  # so that no node has a say in its status
    place.put(
        "v1",
        "pods",
        {"kind": "Pod", "metadata": {"name": name, "labels": {"app": "front-end"}}, "spec": spec},
    )
    statuses = [
        {"name": "front-end", "image": image, "imageID": image_id, "ready": True, "restartCount": 0},
        {
            "name": "istio-proxy",
            "image": "proxy",
            "imageID": f"proxy@sha256:{'c' * 64}",
            "ready": True,
            "restartCount": 0,
        },
    ]

    def live(pod: dict[str, Any]) -> None:
        pod["status"] = {"phase": "Running", "containerStatuses": statuses}

    place.edit("v1", "pods", name, live, "status")


@pytest.fixture
def chosen(place: Place) -> Deployed:
    return deployed(a_deployment(image="front-end:1", namespace=place.namespace))


@pytest.mark.parametrize(
    ("image_id", "digest"),
    [
        (f"docker-pullable://registry.example/front-end@sha256:{'a' * 64}", f"sha256:{'a' * 64}"),
        (PINNED, f"sha256:{'a' * 64}"),
        (f"sha256:{'b' * 64}", f"sha256:{'b' * 64}"),
        ("", None),
        ("front-end:1", None),
    ],
)
def test_the_digest_is_the_one_that_pods_of_the_present_template_run(
    place: Place, chosen: Deployed, image_id: str, digest: str | None
) -> None:
    a_pod("new", "front-end:1", image_id, place)
    a_pod("old", "front-end:0", f"front-end@sha256:{'d' * 64}", place)
    assert KubeObjects(place.api, place.namespace).digests(chosen) == (
        {"front-end": frozenset([digest])} if digest else {}
    )


def test_pods_that_differ_are_told_as_several(place: Place, chosen: Deployed) -> None:
    for name, letter in (("one", "a"), ("two", "b")):
        a_pod(name, "front-end:1", f"front-end@sha256:{letter * 64}", place)
    assert KubeObjects(place.api, place.namespace).digests(chosen) == {
        "front-end": {f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"}
    }


# ---------------------------------------------------------------- rights that are missing


@pytest.fixture
def refusing(
    sandbox_api: tuple[KubernetesServer, KubernetesApi],
) -> Iterator[tuple[KubernetesServer, KubeObjects]]:
    server, api = sandbox_api
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "few-rights"}})
    yield server, KubeObjects(api, "few-rights")
    server.faults.clear()
    api.request("DELETE", "/api/v1/namespaces/few-rights")


@pytest.mark.parametrize(
    ("plural", "kind"),
    [
        ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        ("poddisruptionbudgets", "PodDisruptionBudget"),
        ("virtualservices", "VirtualService"),
        ("destinationrules", "DestinationRule"),
        ("canaryrollouts", "CanaryRollout"),
    ],
)
def test_what_may_not_be_listed_is_told_and_left_out(
    refusing: tuple[KubernetesServer, KubeObjects], plural: str, kind: str
) -> None:
    server, objects = refusing
    server.faults.status(403, match=lambda method, path: plural in path)
    found = objects.read()
    assert list(found.unreadable) == [kind]
    assert "403" in found.unreadable[kind]


@pytest.mark.parametrize("path", ["/api/v1/namespaces/few-rights", "configmaps"])
def test_the_namespace_itself_and_notes_may_be_hidden_too(
    refusing: tuple[KubernetesServer, KubeObjects], path: str
) -> None:
    server, objects = refusing
    server.faults.status(403, match=lambda method, asked: asked.endswith(path))
    assert objects.read().unreadable == {}


def test_deployments_that_may_not_be_listed_are_an_error(
    refusing: tuple[KubernetesServer, KubeObjects],
) -> None:
    server, objects = refusing
    server.faults.status(403, match=lambda method, path: "deployments" in path)
    with pytest.raises(Forbidden):
        objects.read()


def test_a_secret_that_may_not_be_read_is_neither_there_nor_missing(
    refusing: tuple[KubernetesServer, KubeObjects],
) -> None:
    server, objects = refusing
    server.faults.status(403, match=lambda method, path: "secrets" in path)
    assert objects.keys("Secret", "s") is None


def test_a_creation_that_is_forbidden_says_what_right_is_missing(
    refusing: tuple[KubernetesServer, KubeObjects],
) -> None:
    server, objects = refusing
    server.faults.status(403, match=lambda method, path: method == "POST")
    with pytest.raises(
        Forbidden, match=r"this user may not create deployments in few-rights, which a deploy has to: .*403"
    ):
        objects.create({**a_deployment(namespace="few-rights")}, dry_run=True)


def test_a_cluster_without_istio_has_no_routes(refusing: tuple[KubernetesServer, KubeObjects]) -> None:
    server, objects = refusing
    objects._api._preferred.clear()  # as in a process that has not asked yet
    server.faults.status(404, match=lambda method, path: path == "/apis/networking.istio.io")
    found = objects.read()
    assert (found.virtual_services, found.unreadable) == ([], {})


def test_paths_of_the_cluster_s_own_kinds_have_no_namespace(place: Place) -> None:
    name = f"shop-{place.namespace}"
    place.api.request(
        "POST",
        path_to("scheduling.k8s.io/v1", "priorityclasses"),
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 10,
        },
    )
    try:
        assert KubeObjects(place.api, place.namespace).keys("PriorityClass", name) == frozenset()
    finally:
        place.api.request("DELETE", path_to("scheduling.k8s.io/v1", "priorityclasses", name=name))
