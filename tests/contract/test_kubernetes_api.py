"""What canaryd relies on of a Kubernetes API server, asked of the sandbox's and of a real one."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import pytest
from kubernetes import watch

from tests.contract.conftest import Answer, Kubernetes

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
CONFIGMAPS = "/api/v1/namespaces/{ns}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{ns}/deployments"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
ISTIO = "/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices"


def configmap(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"a": "1"},
    }


def virtualservice(name: str = "sockshop") -> dict[str, Any]:
    route = {"route": [{"destination": {"host": "front-end", "subset": "v1"}}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": ["*"], "http": [route]},
    }


def deployment(name: str = "front-end-v1", version: str = "v1") -> dict[str, Any]:
    labels = {"app": "front-end", "version": version}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {"name": "front-end", "image": "front-end:1", "env": [{"name": "A", "value": "1"}]}
                    ]
                },
            },
        },
    }


def version_of(obj: Any) -> int:
    return int(obj["metadata"]["resourceVersion"])


def eventually(api: Kubernetes, path: str, wanted: Any, seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while True:
        answer = api.ask("GET", path)
        if answer.code == 200 and wanted(answer.body):
            return answer.body
        assert time.monotonic() < until, answer
        time.sleep(0.1)


def test_creating_what_exists_is_a_conflict_named_already_exists(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(CONFIGMAPS, configmap("x"))
    again = kubernetes_api.ask("POST", CONFIGMAPS, configmap("x"))
    assert (again.code, again.reason) == (409, "AlreadyExists")
    assert again.body["kind"] == "Status"
    assert again.body["details"]["name"] == "x"


def test_a_created_object_has_a_uid_a_version_and_a_time(kubernetes_api: Kubernetes) -> None:
    metadata = kubernetes_api.made(CONFIGMAPS, configmap("x"))["metadata"]
    assert metadata["namespace"] == kubernetes_api.namespace
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"].isdigit()
    assert metadata["creationTimestamp"].endswith("Z")
    assert "generation" not in metadata


def test_a_generated_name_begins_as_asked(kubernetes_api: Kubernetes) -> None:
    obj = {**configmap("x"), "metadata": {"generateName": "some-"}}
    names = {kubernetes_api.made(CONFIGMAPS, obj)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("some-") and len(name) == 10 for name in names)


@pytest.mark.parametrize(
    ("obj", "code", "reason"),
    [
        ({**configmap("x"), "metadata": {}}, 422, "Invalid"),
        ({**configmap("x"), "metadata": {"name": "Not_A_Name"}}, 422, "Invalid"),
        ({**configmap("x"), "kind": "Secret"}, 400, "BadRequest"),
        ({**configmap("x"), "metadata": {"name": "x", "namespace": "another"}}, 400, "BadRequest"),
        ({**configmap("x"), "metadata": {"name": "x", "resourceVersion": "7"}}, 400, None),
    ],
    ids=["no name", "no valid name", "another kind", "another namespace", "a version before there is one"],
)
def test_a_malformed_object_is_refused(
    kubernetes_api: Kubernetes, obj: Any, code: int, reason: str | None
) -> None:
    answer = kubernetes_api.ask("POST", CONFIGMAPS, obj)
    assert answer.code == code or (reason is None and answer.code >= 400), answer
    assert reason is None or answer.reason == reason


def test_a_write_into_a_namespace_that_is_not_there_is_not_found(kubernetes_api: Kubernetes) -> None:
    answer = kubernetes_api.ask("POST", "/api/v1/namespaces/no-such-namespace/configmaps", configmap("x"))
    assert (answer.code, answer.reason) == (404, "NotFound")


def test_what_is_not_there_is_not_found_with_its_name(kubernetes_api: Kubernetes) -> None:
    for method in ("GET", "DELETE"):
        answer = kubernetes_api.ask(method, CONFIGMAPS + "/none")
        assert (answer.code, answer.reason) == (404, "NotFound")
        assert answer.body["details"]["name"] == "none"


def test_an_unknown_group_is_a_page_that_is_not_there(kubernetes_api: Kubernetes) -> None:
    answer = kubernetes_api.ask("GET", "/apis/nobody.example/v1/namespaces/{ns}/things")
    assert (answer.code, answer.body) == (404, "404 page not found\n")


@pytest.mark.parametrize("path", ["/api/v1/namespaces/{ns}/things", "/apis/apps/v1/namespaces/{ns}/things/x"])
def test_an_unknown_resource_of_a_known_group_is_not_found(kubernetes_api: Kubernetes, path: str) -> None:
    answer = kubernetes_api.ask("GET", path)
    assert (answer.code, answer.reason) == (404, "NotFound")


def test_a_stale_put_is_a_conflict_and_changes_nothing(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("x"))
    second = kubernetes_api.ask("PUT", CONFIGMAPS + "/x", {**first, "data": {"a": "2"}}).body
    assert version_of(second) > version_of(first)
    stale = kubernetes_api.ask("PUT", CONFIGMAPS + "/x", {**first, "data": {"a": "3"}})
    assert (stale.code, stale.reason) == (409, "Conflict")
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").body["data"] == {"a": "2"}


def test_a_put_without_a_version_overwrites_a_configmap_but_not_a_custom_resource(
    kubernetes_api: Kubernetes,
) -> None:
    kubernetes_api.made(CONFIGMAPS, configmap("x"))
    kubernetes_api.made(ISTIO, virtualservice())
    assert kubernetes_api.ask("PUT", CONFIGMAPS + "/x", configmap("x")).code == 200
    answer = kubernetes_api.ask("PUT", ISTIO + "/sockshop", virtualservice())
    assert (answer.code, answer.reason) == (422, "Invalid")


def test_writing_the_same_again_makes_no_new_version(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("x"))
    same = kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"data": {"a": "1"}}, MERGE).body
    assert version_of(same) == version_of(first)


def test_a_merge_patch_merges_objects_replaces_lists_and_deletes_by_null(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(ISTIO, virtualservice())
    patch = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"http": [{"route": [{"destination": {"host": "other"}}]}]},
    }
    patched = kubernetes_api.ask("PATCH", ISTIO + "/sockshop", patch, MERGE).body
    assert patched["spec"] == {"hosts": ["*"], "http": patch["spec"]["http"]}
    gone = kubernetes_api.ask("PATCH", ISTIO + "/sockshop", {"metadata": {"labels": {"a": None}}}, MERGE).body
    assert not gone["metadata"].get("labels")


def test_a_merge_patch_with_a_stale_version_is_a_conflict(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("x"))
    kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"data": {"a": "2"}}, MERGE)
    stale = kubernetes_api.ask(
        "PATCH",
        CONFIGMAPS + "/x",
        {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "3"}},
        MERGE,
    )
    assert (stale.code, stale.reason) == (409, "Conflict")


def test_a_list_sent_as_a_merge_patch_is_a_bad_request(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(CONFIGMAPS, configmap("x"))
    answer = kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", [{"op": "remove", "path": "/data"}], MERGE)
    assert (answer.code, answer.reason) == (400, "BadRequest")


def test_a_json_patch_whose_test_holds_is_applied_as_a_whole(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(ISTIO, virtualservice())
    route = [
        {"destination": {"host": "front-end", "subset": subset}, "weight": weight}
        for subset, weight in (("v1", 90), ("v2", 10))
    ]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "test", "path": "/spec/http/0/route", "value": made["spec"]["http"][0]["route"]},
        {"op": "replace", "path": "/spec/http/0/route", "value": route},
    ]
    answer = kubernetes_api.ask("PATCH", ISTIO + "/sockshop", operations, JSON_PATCH)
    assert answer.code == 200
    assert answer.body["spec"]["http"] == [{"route": route}]


@pytest.mark.parametrize(
    "failing",
    [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "test", "path": "/spec/http/0/route", "value": []},
        {"op": "replace", "path": "/spec/tcp/0", "value": {}},
        {"op": "remove", "path": "/spec/http/7"},
    ],
    ids=["another version", "another value", "no such path", "no such item"],
)
def test_a_json_patch_that_does_not_fit_is_invalid_and_changes_nothing(
    kubernetes_api: Kubernetes, failing: Any
) -> None:
    made = kubernetes_api.made(ISTIO, virtualservice())
    operations = [{"op": "replace", "path": "/spec/hosts", "value": ["changed"]}, failing]
    answer = kubernetes_api.ask("PATCH", ISTIO + "/sockshop", operations, JSON_PATCH)
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert kubernetes_api.ask("GET", ISTIO + "/sockshop").body["spec"] == made["spec"]


def test_a_strategic_patch_merges_containers_by_name_and_is_not_for_custom_resources(
    kubernetes_api: Kubernetes,
) -> None:
    kubernetes_api.made(DEPLOYMENTS, deployment())
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "front-end", "image": "front-end:2"}]}}}}
    template = kubernetes_api.ask("PATCH", DEPLOYMENTS + "/front-end-v1", patch, STRATEGIC).body["spec"][
        "template"
    ]
    (container,) = template["spec"]["containers"]
    assert (container["image"], container["env"]) == ("front-end:2", [{"name": "A", "value": "1"}])
    kubernetes_api.made(ISTIO, virtualservice())
    assert kubernetes_api.ask("PATCH", ISTIO + "/sockshop", {"spec": {"hosts": ["*"]}}, STRATEGIC).code == 415


def test_status_and_spec_are_written_apart(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(ISTIO, {**virtualservice(), "status": {"observedGeneration": 7}})
    assert "status" not in made
    told = kubernetes_api.ask(
        "PATCH",
        ISTIO + "/sockshop/status",
        {"spec": {"hosts": ["changed"]}, "status": {"observedGeneration": 1}},
        MERGE,
    ).body
    assert (told["spec"], told["status"]) == (made["spec"], {"observedGeneration": 1})
    changed = copy.deepcopy(told)
    changed["spec"]["hosts"], changed["status"] = ["changed"], {"observedGeneration": 9}
    written = kubernetes_api.ask("PUT", ISTIO + "/sockshop", changed).body
    assert (written["spec"]["hosts"], written["status"]) == (["changed"], {"observedGeneration": 1})


def test_the_generation_counts_changes_of_the_spec_alone(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(ISTIO, virtualservice())

    def patched(path: str, patch: Any) -> int:
        return int(kubernetes_api.ask("PATCH", ISTIO + path, patch, MERGE).body["metadata"]["generation"])

    assert made["metadata"]["generation"] == 1
    assert patched("/sockshop", {"metadata": {"labels": {"a": "b"}}}) == 1
    assert patched("/sockshop/status", {"status": {"observedGeneration": 1}}) == 1
    assert patched("/sockshop", {"spec": {"hosts": ["shop.example"]}}) == 2


def test_one_object_is_served_in_every_version_of_its_group(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(ISTIO, virtualservice())
    for version in ("v1", "v1beta1", "v1alpha3"):
        seen = kubernetes_api.ask("GET", ISTIO.replace("/v1/", f"/{version}/") + "/sockshop").body
        assert seen["apiVersion"] == f"networking.istio.io/{version}"
        assert (seen["metadata"]["uid"], seen["spec"]) == (made["metadata"]["uid"], made["spec"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a", "b", "c"]),
        ({"labelSelector": "app=x"}, ["a", "b"]),
        ({"labelSelector": "app==x,version!=v1"}, ["b"]),
        ({"labelSelector": "version in (v1, v2)"}, ["a", "b"]),
        ({"labelSelector": "version notin (v1)"}, ["b", "c"]),
        ({"labelSelector": "version"}, ["a", "b"]),
        ({"labelSelector": "!version"}, ["c"]),
        ({"fieldSelector": "metadata.name=b"}, ["b"]),
        ({"fieldSelector": "metadata.name!=b", "labelSelector": "app=x"}, ["a"]),
    ],
)
def test_a_list_selects_by_labels_and_by_name(
    kubernetes_api: Kubernetes, query: dict[str, str], found: list[str]
) -> None:
    for name, labels in (
        ("a", {"app": "x", "version": "v1"}),
        ("b", {"app": "x", "version": "v2"}),
        ("c", {"app": "y"}),
    ):
        kubernetes_api.made(CONFIGMAPS, configmap(name, **labels))
    listed = kubernetes_api.ask("GET", CONFIGMAPS, **query).body
    assert listed["kind"] == "ConfigMapList"
    assert [
        item["metadata"]["name"] for item in listed["items"] if item["metadata"]["name"] != "kube-root-ca.crt"
    ] == found


@pytest.mark.parametrize("query", [{"labelSelector": "a in b"}, {"fieldSelector": "data.a=1"}])
def test_a_selector_that_cannot_be_read_is_a_bad_request(
    kubernetes_api: Kubernetes, query: dict[str, str]
) -> None:
    answer = kubernetes_api.ask("GET", CONFIGMAPS, **query)
    assert (answer.code, answer.reason) == (400, "BadRequest")


def test_a_list_over_all_namespaces_holds_this_one(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(CONFIGMAPS, configmap("x", contract=kubernetes_api.namespace))
    listed = kubernetes_api.ask(
        "GET", "/api/v1/configmaps", labelSelector=f"contract={kubernetes_api.namespace}"
    ).body
    assert [item["metadata"]["uid"] for item in listed["items"]] == [made["metadata"]["uid"]]
    assert int(listed["metadata"]["resourceVersion"]) >= version_of(made)


def test_a_dry_run_answers_and_writes_nothing(kubernetes_api: Kubernetes) -> None:
    assert kubernetes_api.ask("POST", CONFIGMAPS, configmap("x"), dryRun="All").code == 201
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").code == 404
    kubernetes_api.made(CONFIGMAPS, configmap("x"))
    assert kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"data": {"a": "2"}}, MERGE, dryRun="All").body[
        "data"
    ] == {"a": "2"}
    assert kubernetes_api.ask("DELETE", CONFIGMAPS + "/x", dryRun="All").code == 200
    options = {"kind": "DeleteOptions", "apiVersion": "v1"}
    assert kubernetes_api.ask("DELETE", CONFIGMAPS + "/x", {**options, "dryRun": ["All"]}).code == 200
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").body["data"] == {"a": "1"}
    # A deletion with a body is a dry run by its body alone.
    assert kubernetes_api.ask("DELETE", CONFIGMAPS + "/x", options, dryRun="All").code == 200
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").code == 404


def test_server_side_apply_creates_and_then_merges(kubernetes_api: Kubernetes) -> None:
    def applied(data: dict[str, str]) -> Answer:
        wanted = {**configmap("x"), "data": data}
        return kubernetes_api.ask(
            "PATCH", CONFIGMAPS + "/x", wanted, APPLY, fieldManager="contract", force="true"
        )

    assert applied({"a": "1"}).code == 201
    again = applied({"a": "2"})
    assert (again.code, again.body["data"]) == (200, {"a": "2"})
    nameless = kubernetes_api.ask(
        "PATCH", CONFIGMAPS + "/y", {"apiVersion": "v1", "kind": "ConfigMap"}, APPLY, fieldManager="contract"
    )
    assert (nameless.code, nameless.reason) == (400, "BadRequest")


def test_a_deletion_with_another_uid_is_a_conflict(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(CONFIGMAPS, configmap("x"))
    other = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    assert kubernetes_api.ask("DELETE", CONFIGMAPS + "/x", other).reason == "Conflict"
    answer = kubernetes_api.ask(
        "DELETE", CONFIGMAPS + "/x", {"preconditions": {"uid": made["metadata"]["uid"]}}
    )
    assert (answer.code, answer.body["status"]) == (200, "Success")
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").code == 404


def test_a_finalizer_holds_an_object_until_it_is_taken_off(kubernetes_api: Kubernetes) -> None:
    obj = configmap("x")
    obj["metadata"]["finalizers"] = ["canaryd.dev/contract"]
    kubernetes_api.made(CONFIGMAPS, obj)
    kubernetes_api.ask("DELETE", CONFIGMAPS + "/x")
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").body["metadata"]["deletionTimestamp"]
    kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"metadata": {"finalizers": None}}, MERGE)
    assert kubernetes_api.ask("GET", CONFIGMAPS + "/x").code == 404


def test_a_watch_tells_what_happened_since_a_version_in_order(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("before"))
    kubernetes_api.made(CONFIGMAPS, configmap("x"))
    kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"data": {"a": "2"}}, MERGE)
    kubernetes_api.ask("DELETE", CONFIGMAPS + "/x")
    seen = watched(kubernetes_api, str(version_of(first)), seconds=2, fieldSelector="metadata.name=x")
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [version_of(obj) for _, obj in seen]
    assert versions == sorted(set(versions))


def test_a_watch_tells_live_changes_and_ends_in_time(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("before"))
    timer = threading.Timer(0.5, lambda: Kubernetes.made(kubernetes_api, CONFIGMAPS, configmap("x")))
    timer.start()
    begun = time.monotonic()
    seen = watched(kubernetes_api, str(version_of(first)), seconds=2)
    timer.join()
    assert [(kind, obj["metadata"]["name"]) for kind, obj in seen] == [("ADDED", "x")]
    assert 1.5 < time.monotonic() - begun < 6


def test_an_object_that_leaves_the_selection_is_deleted_to_the_watcher(kubernetes_api: Kubernetes) -> None:
    first = kubernetes_api.made(CONFIGMAPS, configmap("x", app="a"))
    kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"metadata": {"labels": {"app": "b"}}}, MERGE)
    kubernetes_api.ask("PATCH", CONFIGMAPS + "/x", {"metadata": {"labels": {"app": "a"}}}, MERGE)
    seen = watched(kubernetes_api, str(version_of(first)), seconds=1, labelSelector="app=a")
    assert [kind for kind, _ in seen] == ["DELETED", "ADDED"]


def test_a_watch_without_a_version_begins_with_what_is_there(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(ISTIO, virtualservice())
    assert [(kind, obj["metadata"]["name"]) for kind, obj in watched(kubernetes_api, "", 1, ISTIO)] == [
        ("ADDED", "sockshop")
    ]


def watched(
    api: Kubernetes, since: str, seconds: int, path: str = CONFIGMAPS, **query: str
) -> list[tuple[str, Any]]:
    """What the official client's own watch yields until the server ends it."""

    def listing(**parameters: Any) -> Any:
        """Lists a resource for the watch; it reads the kind from here. :return: object"""
        asked = api.client.param_serialize(
            "GET",
            path.replace("{ns}", api.namespace),
            auth_settings=["BearerToken"],
            header_params={"Accept": "application/json"},
            query_params=[
                ("watch", "true"),
                ("timeoutSeconds", str(seconds)),
                *query.items(),
                *([("resourceVersion", since)] if since else []),
            ],
        )
        return api.client.rest_client.pool_manager.request(
            asked[0], asked[1], headers=asked[2], preload_content=False, timeout=10.0
        )

    response = listing()
    lines = b"".join(response.stream()).splitlines()
    unmarshalled = [watch.Watch(return_type=object).unmarshal_event(line.decode(), object) for line in lines]
    return [(event["type"], event["raw_object"]) for event in unmarshalled if event["type"] != "BOOKMARK"]


def test_the_scale_subresource_changes_the_number_of_replicas_alone(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(DEPLOYMENTS, deployment())
    scale = kubernetes_api.ask("GET", DEPLOYMENTS + "/front-end-v1/scale").body
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 1})
    patched = kubernetes_api.ask(
        "PATCH", DEPLOYMENTS + "/front-end-v1/scale", {"spec": {"replicas": 2}}, MERGE
    )
    assert (patched.code, patched.body["spec"]) == (200, {"replicas": 2})
    now = kubernetes_api.ask("GET", DEPLOYMENTS + "/front-end-v1").body
    assert now["spec"] == {**made["spec"], "replicas": 2}
    assert now["metadata"]["generation"] == 2


def test_a_lease_keeps_its_microseconds_and_refuses_a_second_holder(kubernetes_api: Kubernetes) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "canaryd"},
        "spec": {
            "holderIdentity": "one",
            "leaseDurationSeconds": 15,
            "renewTime": "2026-01-02T03:04:05.000006Z",
        },
    }
    made = kubernetes_api.made(LEASES, lease)
    assert made["spec"]["renewTime"] == "2026-01-02T03:04:05.000006Z"
    mine, theirs = (copy.deepcopy(made) for _ in range(2))
    mine["spec"]["holderIdentity"], theirs["spec"]["holderIdentity"] = "two", "three"
    assert kubernetes_api.ask("PUT", LEASES + "/canaryd", mine).code == 200
    assert kubernetes_api.ask("PUT", LEASES + "/canaryd", theirs).reason == "Conflict"


def test_an_event_of_one_api_is_seen_in_the_other(kubernetes_api: Kubernetes) -> None:
    about = {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "name": "front-end-v2",
        "namespace": kubernetes_api.namespace,
    }
    kubernetes_api.made(
        "/apis/events.k8s.io/v1/namespaces/{ns}/events",
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "e"},
            "regarding": about,
            "note": "to 10%",
            "type": "Normal",
            "reason": "Advanced",
            "action": "Advance",
            "eventTime": "2026-01-02T03:04:05.000006Z",
            "reportingController": "canaryd.dev/canaryd",
            "reportingInstance": "canaryd-0",
        },
    )
    seen = kubernetes_api.ask(
        "GET", "/api/v1/namespaces/{ns}/events", fieldSelector="involvedObject.name=front-end-v2"
    ).body["items"]
    assert [(e["message"], e["involvedObject"]["name"], e["reason"]) for e in seen] == [
        ("to 10%", "front-end-v2", "Advanced")
    ]


def test_discovery_names_the_resources_that_canaryd_uses(kubernetes_api: Kubernetes) -> None:
    assert kubernetes_api.ask("GET", "/version").body["major"] == "1"
    assert "v1" in kubernetes_api.ask("GET", "/api").body["versions"]
    groups = {group["name"]: group for group in kubernetes_api.ask("GET", "/apis").body["groups"]}
    assert {
        "apps",
        "networking.istio.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "apiextensions.k8s.io",
    } <= groups.keys()
    assert groups["networking.istio.io"]["preferredVersion"]["version"] == "v1"
    for path, name, subresource in (
        ("/apis/apps/v1", "deployments", "deployments/scale"),
        ("/api/v1", "events", "namespaces/status"),
        ("/apis/networking.istio.io/v1beta1", "virtualservices", "virtualservices/status"),
    ):
        listed = {
            resource["name"]: resource for resource in kubernetes_api.ask("GET", path).body["resources"]
        }
        assert {name, subresource} <= listed.keys()
        assert {"create", "get", "list", "patch", "update", "watch"} <= set(listed[name]["verbs"])


@pytest.mark.timeout(90)
def test_a_deployment_becomes_available_and_one_in_crash_loop_misses_its_deadline(
    kubernetes_api: Kubernetes, request: pytest.FixtureRequest
) -> None:
    good, bad = deployment("front-end-v2", "v2"), deployment("front-end-v3", "v3")
    bad["spec"]["progressDeadlineSeconds"] = 2
    bad["spec"]["template"]["metadata"]["labels"]["canaryd.test/pod"] = "crash-loop"
    for obj in (good, bad):
        kubernetes_api.made(DEPLOYMENTS, obj)
    if "sandbox" in request.node.name:
        sandbox = request.getfixturevalue("sandbox")
        sandbox.advance(sandbox.now + 10)

    def condition(obj: Any, kind: str) -> tuple[str, str]:
        found = {c["type"]: (c["status"], c["reason"]) for c in obj.get("status", {}).get("conditions", [])}
        return found.get(kind, ("", ""))

    up = eventually(
        kubernetes_api, DEPLOYMENTS + "/front-end-v2", lambda obj: condition(obj, "Available")[0] == "True"
    )
    assert up["status"]["observedGeneration"] == up["metadata"]["generation"]
    assert (up["status"]["replicas"], up["status"]["readyReplicas"], up["status"]["availableReplicas"]) == (
        1,
        1,
        1,
    )
    down = eventually(
        kubernetes_api,
        DEPLOYMENTS + "/front-end-v3",
        lambda obj: condition(obj, "Progressing") == ("False", "ProgressDeadlineExceeded"),
    )
    assert condition(down, "Available") == ("False", "MinimumReplicasUnavailable")
    assert "availableReplicas" not in down["status"]
    pods = kubernetes_api.ask("GET", "/api/v1/namespaces/{ns}/pods", labelSelector="version=v2").body["items"]
    hashed = pods[0]["metadata"]["labels"]["pod-template-hash"]
    assert pods[0]["metadata"]["name"].startswith(f"front-end-v2-{hashed}-")
    assert pods[0]["metadata"]["ownerReferences"][0]["name"] == f"front-end-v2-{hashed}"


ROLLOUTS = "/apis/canaryd.dev/v1alpha1/namespaces/{ns}/canaryrollouts"


def rollout(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "canaryd.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "front-end-v2"},
        "spec": {"service": "front-end", "version": "v2", **spec},
    }


def test_a_record_loses_what_its_schema_does_not_know_and_keeps_what_it_may(
    kubernetes_api: Kubernetes,
) -> None:
    made = kubernetes_api.made(ROLLOUTS, rollout(hold=True, unheardOf=1))
    assert made["spec"] == {"service": "front-end", "version": "v2", "hold": True}
    status = {"phase": "Held", "free": {"form": [1]}}
    told = kubernetes_api.ask("PATCH", ROLLOUTS + "/front-end-v2/status", {"status": status}, MERGE)
    assert (told.code, told.body["status"]) == (200, status)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hold": "yes"}, "spec.hold"),
        ({"version": None}, "spec.version: Required value"),
        ({"attempt": 0}, "spec.attempt"),
        ({"service": ""}, "spec.service"),
        ({"version": "v" * 64}, "spec.version"),
        ({"attempt": 1.5}, "spec.attempt"),
    ],
)
def test_a_record_that_breaks_its_schema_is_invalid_and_says_where(
    kubernetes_api: Kubernetes, wrong: dict[str, Any], named: str
) -> None:
    answer = kubernetes_api.ask("POST", ROLLOUTS, rollout(**wrong))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert named in answer.body["message"]


# ---------------------------------------------------------------- questions


REVIEWS = "/apis/authorization.k8s.io/v1"


def review(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}


def test_a_caller_is_told_who_they_are(kubernetes_api: Kubernetes) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    told = kubernetes_api.made("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    assert told["status"]["userInfo"]["username"]


def test_an_access_review_is_answered_and_not_kept(kubernetes_api: Kubernetes) -> None:
    attributes = {
        "group": "apps",
        "resource": "deployments",
        "subresource": "scale",
        "verb": "patch",
        "namespace": kubernetes_api.namespace,
    }
    own = kubernetes_api.made(
        f"{REVIEWS}/selfsubjectaccessreviews",
        review("SelfSubjectAccessReview", resourceAttributes=attributes),
    )
    assert own["status"]["allowed"] is True
    of_other = review(
        "SubjectAccessReview", user="someone", groups=["system:masters"], resourceAttributes=attributes
    )
    assert kubernetes_api.made(f"{REVIEWS}/subjectaccessreviews", of_other)["status"]["allowed"] is True
    assert kubernetes_api.ask("GET", f"{REVIEWS}/subjectaccessreviews").code == 405


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("SelfSubjectAccessReview", {}),
        ("SubjectAccessReview", {"user": "someone"}),
        ("SubjectAccessReview", {"resourceAttributes": {"resource": "pods", "verb": "get"}}),
    ],
)
def test_a_review_that_asks_nothing_or_of_nobody_is_invalid(
    kubernetes_api: Kubernetes, kind: str, spec: dict[str, Any]
) -> None:
    assert kubernetes_api.ask("POST", f"{REVIEWS}/{kind.lower()}s", review(kind, **spec)).code == 422


def test_groups_and_the_webhooks_of_injection_can_be_listed(kubernetes_api: Kubernetes) -> None:
    groups = {group["name"] for group in kubernetes_api.ask("GET", "/apis").body["groups"]}
    assert {
        "networking.istio.io",
        "authorization.k8s.io",
        "admissionregistration.k8s.io",
        "telemetry.istio.io",
    } <= groups
    webhooks = kubernetes_api.ask(
        "GET",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        labelSelector="app=sidecar-injector",
    )
    assert (webhooks.code, type(webhooks.body["items"])) == (200, list)
