"""Istio as an operator finds it in a cluster: istiod, an ingress gateway, the injector's webhook, and the
sidecars that this injects.

Objects only: who routes and counts is `mesh.py`, which does so without any of them.
"""

from typing import Any

from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, NAMESPACES, WEBHOOKS, Object
from canaryd_sandbox.kubernetes.store import Store

ROOT, VERSION, PROXY = "istio-system", "1.31.0", "istio-proxy"


def install(store: Store, version: str = VERSION) -> None:
    """As `istioctl install` leaves it: the default revision."""
    for name, labels, container in (
        ("istiod", {"app": "istiod", "istio.io/rev": "default"}, "discovery"),
        ("istio-ingressgateway", {"app": "istio-ingressgateway", "istio": "ingressgateway"}, PROXY),
    ):
        image = f"docker.io/istio/{'pilot' if container == 'discovery' else 'proxyv2'}:{version}"
        store.create(
            DEPLOYMENTS,
            ROOT,
            {
                "metadata": {"name": name, "labels": labels},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": container, "image": image}]},
                    },
                },
            },
        )
    store.create(
        WEBHOOKS,
        None,
        {
            "metadata": {
                "name": "istio-sidecar-injector",
                "labels": {"app": "sidecar-injector", "istio.io/rev": "default"},
            },
            "webhooks": [],
        },
    )


def injected(store: Store, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A pod's spec with a native sidecar, where Istio is installed and the namespace asks for it; else as it
    is."""
    if not any(
        hook["metadata"].get("labels", {}).get("app") == "sidecar-injector" for hook in store.list(WEBHOOKS)
    ):
        return spec
    labels: Object = store.get(NAMESPACES, None, namespace)["metadata"].get("labels") or {}
    if labels.get("istio-injection") != "enabled":
        return spec
    sidecar = {"name": PROXY, "image": f"docker.io/istio/proxyv2:{VERSION}", "restartPolicy": "Always"}
    return {**spec, "initContainers": [*spec.get("initContainers", []), sidecar]}
