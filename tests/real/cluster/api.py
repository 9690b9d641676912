"""What the mesh and waiting tests ask the API server, over one kept connection: a listing three times a
second must cost little."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

Document = dict[str, Any]

PATHS = {  # of kinds that tests wait for, as kubectl calls them
    "deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "services": "/api/v1/namespaces/{namespace}/services",
    "events.events.k8s.io": "/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    "virtualservice": "/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices",
    "destinationrule": "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules",
    "httproutes.gateway.networking.k8s.io": "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",  # noqa: E501
    "canaryrollout": "/apis/canaryd.dev/v1alpha1/namespaces/{namespace}/canaryrollouts",
    "canaryrollouts": "/apis/canaryd.dev/v1alpha1/namespaces/{namespace}/canaryrollouts",
}


class Refused(OSError):
    """The API server answered, but not with success."""


class Api:
    """Reads a kubeconfig as up.py writes it (JSON, a token, one cluster). Every failure is an OSError; a call
    takes 5 s at most."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.address = urlsplit(cluster["server"])
        self.context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self.token = config["users"][0]["user"]["token"]
        self.namespace = namespace
        self.lock = threading.Lock()
        self.connection: http.client.HTTPSConnection | None = None

    def read(self, kind: str, *name: str) -> Document:
        """An object, or all of this kind; asked again where the kept connection is one of a server that has
        ended."""
        path = "/".join([PATHS[kind].format(namespace=self.namespace), *name])
        kept = self.connection is not None
        try:
            found = self.request("GET", path)
        except Refused:
            raise
        except OSError:
            if not kept:
                raise
            found = self.request("GET", path)
        found["metadata"].pop("managedFields", None)  # as kubectl does
        return found

    def request(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json"
    ) -> Document:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": content_type,
            "Accept": "application/json",
        }
        with self.lock:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    self.address.hostname or "", self.address.port, timeout=5, context=self.context
                )
            try:
                self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                answer = self.connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.connection.close()
                self.connection = None
                raise OSError(f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 400 and not (method == "DELETE" and answer.status == 404):
            raise Refused(f"{method} {path}: {answer.status} {text[:200].decode(errors='replace')}")
        return dict(json.loads(text))

    def pods(self, apps: str) -> list[Document]:
        """The pods whose label `app` is one of `apps` (commas between)."""
        selector = urlencode({"labelSelector": f"app in ({apps})"})
        return list(self.request("GET", f"/api/v1/namespaces/{self.namespace}/pods?{selector}")["items"])

    def entry(self, pod: str = "") -> str:
        return f"/apis/networking.istio.io/v1/namespaces/{self.namespace}/workloadentries" + (
            f"/{quote(pod)}" if pod else ""
        )

    def admit(self, pod: str, ip: str, labels: dict[str, str]) -> None:
        """The WorkloadEntry by which istiod knows the pod's address; written again it stays the same."""
        document = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": pod, "namespace": self.namespace, "labels": labels},
            "spec": {"address": ip, "ports": {"http": 8080}, "labels": labels},
        }
        self.request(
            "PATCH",
            self.entry(pod) + "?fieldManager=mesh&force=true",
            document,
            "application/apply-patch+yaml",
        )

    def dismiss(self, pod: str) -> None:
        self.request("DELETE", self.entry(pod))

    def dismiss_all(self) -> None:
        self.request("DELETE", self.entry())
