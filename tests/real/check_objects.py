"""What an operator has installed where `canaryd check` is tried: Istio's Deployments, canaryd's account, Argo
CD's Application."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from tests.real.world import ROOT, World, eventually

Object = dict[str, Any]
NAMESPACE = "canaryd-check"
ACCOUNT = f"{NAMESPACE}/canaryd"
VERSION = "1.31.0"  # of the istiod that runs here, as a process


def _deployment(name: str, labels: dict[str, str], container: str) -> Object:
    image = f"docker.io/istio/{'pilot' if container == 'discovery' else 'proxyv2'}:{VERSION}"
    metadata = {"name": name, "namespace": "istio-system", "labels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": container, "image": image}]},
            },
        },
    }


ISTIO = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}},
    _deployment("istiod", {"app": "istiod", "istio.io/rev": "default"}, "discovery"),
    _deployment(
        "istio-ingressgateway", {"app": "istio-ingressgateway", "istio": "ingressgateway"}, "istio-proxy"
    ),
]


def role(world: World) -> list[Object]:
    """The account, and what the chart's ClusterRole grants it."""
    text = (
        (ROOT / "charts/canaryd/templates/rbac.yaml")
        .read_text()
        .split("kind: ClusterRole\n")[1]
        .split("\n---")[0]
    )
    rules = yaml.safe_load("rules:" + text.split("rules:")[1])["rules"]
    api, name = "rbac.authorization.k8s.io/v1", NAMESPACE
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "canaryd", "namespace": NAMESPACE},
        },
        {"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": api,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "canaryd", "namespace": NAMESPACE}],
        },
    ]


def as_manual_injection(deployment: Object) -> Object:
    """With the sidecar in its template, as `istioctl kube-inject` writes it."""
    deployment["spec"]["template"]["spec"]["containers"].append(
        {"name": "istio-proxy", "image": f"docker.io/istio/proxyv2:{VERSION}"}
    )
    return deployment


@contextlib.contextmanager
def applications(world: World) -> Iterator[Callable[[Object], None]]:
    """Argo CD's CRD, and a way to have one Application `shop` of a spec; gone afterwards."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    metadata = {"name": "applications.argoproj.io"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": {"kind": "Application", "plural": "applications", "singular": "application"},
            "versions": [
                {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
    world.apply(crd)
    world.kubectl("wait", "--for=condition=Established", "crd/applications.argoproj.io", "--timeout=30s")

    def apply(spec: Object) -> None:
        metadata = {"name": "shop", "namespace": "production"}
        made = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": metadata,
            "spec": spec,
        }
        eventually(
            "the Application is taken", lambda: world.kubectl("apply", "-f", "-", stdin=json.dumps(made))
        )

    try:
        yield apply
    finally:
        world.kubectl("delete", "crd", "applications.argoproj.io")
