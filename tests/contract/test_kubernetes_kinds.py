"""What a deploy relies on of the kinds that it reads and creates, asked of the sandbox's API server and of a
real one."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.contract.conftest import Kubernetes
from tests.contract.test_kubernetes_api import DEPLOYMENTS, deployment

SECRETS = "/api/v1/namespaces/{ns}/secrets"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers"
BUDGETS = "/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets"


def autoscaler(**spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front-end-v1"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "front-end-v1"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, **spec},
    }


def budget() -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "front-end"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "front-end"}}},
    }


@pytest.mark.parametrize(
    ("path", "obj"),
    [
        (DEPLOYMENTS, deployment()),
        (AUTOSCALERS, autoscaler()),
        (BUDGETS, budget()),
        (
            "/api/v1/namespaces/{ns}/services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "front-end"},
                "spec": {"selector": {"app": "front-end"}, "ports": [{"port": 80}]},
            },
        ),
    ],
    ids=["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"],
)
def test_a_dry_run_of_a_creation_answers_with_the_whole_object_and_keeps_none(
    kubernetes_api: Kubernetes, path: str, obj: Any
) -> None:
    answer = kubernetes_api.ask(
        "POST", path, obj, dryRun="All", fieldManager="contract", fieldValidation="Strict"
    )
    assert answer.code == 201, answer
    assert answer.body["kind"] == obj["kind"]
    assert len(answer.body["metadata"]["uid"]) == 36
    assert kubernetes_api.ask("GET", f"{path}/{obj['metadata']['name']}").code == 404


def test_a_dry_run_is_refused_as_the_creation_would_be(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(DEPLOYMENTS, deployment())
    again = kubernetes_api.ask("POST", DEPLOYMENTS, deployment(), dryRun="All")
    assert (again.code, again.reason) == (409, "AlreadyExists")


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ({"matchLabels": {"app": "other"}}, "`selector` does not match template `labels`"),
        (None, "spec.selector: Required value"),
    ],
)
def test_a_deployment_that_does_not_select_its_own_pods_is_invalid(
    kubernetes_api: Kubernetes, selector: Any, said: str
) -> None:
    broken = deployment()
    broken["spec"]["selector"] = selector
    answer = kubernetes_api.ask("POST", DEPLOYMENTS, broken, dryRun="All")
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert said in answer.body["message"]


def test_a_deployment_has_one_replica_unless_it_says_otherwise(kubernetes_api: Kubernetes) -> None:
    silent = deployment()
    del silent["spec"]["replicas"]
    assert kubernetes_api.made(DEPLOYMENTS, silent)["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"maxReplicas": 0}, "spec.maxReplicas: Required value: must be set and greater than 0"),
        (
            {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": ""}},
            "spec.scaleTargetRef.name: Required value",
        ),
    ],
)
def test_an_autoscaler_without_a_target_or_a_limit_is_invalid(
    kubernetes_api: Kubernetes, spec: Any, said: str
) -> None:
    answer = kubernetes_api.ask("POST", AUTOSCALERS, autoscaler(**spec))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert said in answer.body["message"]


def test_an_autoscaler_scales_down_to_one_unless_it_says_otherwise(kubernetes_api: Kubernetes) -> None:
    assert kubernetes_api.made(AUTOSCALERS, autoscaler())["spec"]["minReplicas"] == 1


def test_a_secret_s_plain_text_is_kept_as_base64(kubernetes_api: Kubernetes) -> None:
    made = kubernetes_api.made(
        SECRETS,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "value"}},
    )
    assert (made["type"], made["data"]) == ("Opaque", {"key": base64.b64encode(b"value").decode()})
    assert "stringData" not in made


def test_items_of_a_list_have_no_kind_of_their_own(kubernetes_api: Kubernetes) -> None:
    kubernetes_api.made(DEPLOYMENTS, deployment())
    (one,) = kubernetes_api.ask("GET", DEPLOYMENTS).body["items"]
    assert "kind" not in one
    assert "apiVersion" not in one


def test_discovery_names_the_kinds_that_a_deploy_reads(kubernetes_api: Kubernetes) -> None:
    for path, names in (
        ("/api/v1", {"secrets", "serviceaccounts", "persistentvolumeclaims"}),
        ("/apis/autoscaling/v2", {"horizontalpodautoscalers"}),
        ("/apis/policy/v1", {"poddisruptionbudgets"}),
        ("/apis/scheduling.k8s.io/v1", {"priorityclasses"}),
        ("/apis/node.k8s.io/v1", {"runtimeclasses"}),
    ):
        listed = {
            resource["name"]: resource for resource in kubernetes_api.ask("GET", path).body["resources"]
        }
        assert names <= listed.keys()
        assert all("create" in listed[name]["verbs"] for name in names)
