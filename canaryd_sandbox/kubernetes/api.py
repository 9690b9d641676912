"""A small Kubernetes API over HTTP: good enough for the official client, its watch, and kubectl.

Served are the resources of `kubernetes_resources.RESOURCES`, with resourceVersion and its conflicts, status
and scale subresources, generation, selectors, dry run, all patch types, server-side apply as create-or-merge,
and watches with bookmarks and 410. A custom resource is held to its CustomResourceDefinition's schema once
that was created. Not served: authentication, admission, field ownership, tables. Whatever is refused is
refused with the code and `reason` of the real server; the same contract tests run on both.
"""

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from canaryd_sandbox.kubernetes.access import Access
from canaryd_sandbox.kubernetes.openapi import openapi
from canaryd_sandbox.kubernetes.patch import (
    Selector,
    field_selector,
    json_patch,
    label_selector,
    merge_patch,
    strategic_merge,
)
from canaryd_sandbox.kubernetes.resources import (
    ApiError,
    Object,
    Target,
    discovery,
    kept,
    locate,
    served,
    shown,
)
from canaryd_sandbox.kubernetes.store import Store
from canaryd_sandbox.kubernetes.watch import watch
from canaryd_sandbox.server import Faults, Receive, Scope, Send, Server

JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH = (
    f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch")
)
APPLY_PATCH = "application/apply-patch+yaml"
SELECTABLE = {
    "pods": frozenset({"status.phase", "spec.nodeName"}),
    "events": frozenset(
        {
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "reason",
            "type",
            "regarding.name",
            "regarding.kind",
        }
    ),
}


class KubernetesApi:
    """The API as an ASGI application over a store."""

    def __init__(self, store: Store, access: Access) -> None:
        self.store, self.access = store, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ApiError as error:
            response = JSONResponse(error.status(), error.code)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path, method, query = request.url.path, request.method, dict(request.query_params)
        if path.rstrip("/") in ("/livez", "/readyz", "/healthz"):
            return PlainTextResponse("ok")
        document = discovery(path) or openapi(path)
        if document is not None:
            return JSONResponse(document)
        target = locate(path)
        if target is None:
            if served(path):  # a resource it has not, of a group that it has
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            return PlainTextResponse("404 page not found\n", 404)
        if query.get("dryRun") not in (None, "All"):
            raise ApiError(
                400, "BadRequest", f'dryRun: Unsupported value: {query["dryRun"]!r}: supported values: "All"'
            )
        if method == "GET" and query.get("watch") in ("1", "true") and not target.subresource:
            return self._watch(target, query)
        body = parse(await request.body(), request.headers.get("content-type", "application/json"))
        if target.resource.asked:
            return JSONResponse(self._ask(target, method, body, request.headers.get("impersonate-user")), 201)
        # A thread's turn at the store's lock may last as long as a write in the world's thread; the loop
        # shall not wait for it.
        code, obj = await asyncio.to_thread(
            self._answer, method, target, query, body, request.headers.get("content-type", "")
        )
        return JSONResponse(obj, code)

    def _ask(self, target: Target, method: str, body: Any, caller: str | None) -> Object:
        if method != "POST" or target.name:
            raise ApiError(
                405,
                "MethodNotAllowed",
                f"the server does not allow this method on the requested resource: {method}",
            )
        check_kind(target, body)
        return self.access.review(target.resource, body, caller)

    def _watch(self, target: Target, query: Mapping[str, str]) -> Response:
        if target.name:
            query = {**query, "fieldSelector": f"metadata.name={target.name}"}
        if query.get("resourceVersion", "0") and not query.get("resourceVersion", "0").isdigit():
            raise ApiError(400, "BadRequest", f"invalid resource version {query['resourceVersion']!r}")
        return StreamingResponse(
            watch(self.store, target, query, selector(target, query)), media_type="application/json"
        )

    def _answer(
        self, method: str, target: Target, query: Mapping[str, str], body: Any, kind: str
    ) -> tuple[int, Object]:
        dry = query.get("dryRun") == "All"
        handlers: dict[tuple[str, bool], Callable[[], tuple[int, Object]]] = {
            ("GET", False): lambda: (200, self._list(target, query)),
            ("GET", True): lambda: (
                200,
                self._view(target, self.store.get(target.resource, target.namespace, target.name or "")),
            ),
            ("POST", False): lambda: (201, self._create(target, body, dry)),
            ("PUT", True): lambda: (200, self._put(target, body, dry)),
            ("PATCH", True): lambda: self._patch(target, body, kind, dry),
            ("DELETE", True): lambda: (200, self._delete(target, body, dry)),
            ("DELETE", False): lambda: (200, self._delete_collection(target, query, dry)),
        }
        handler = handlers.get((method, target.name is not None))
        if handler is None or (target.subresource and method not in ("GET", "PUT", "PATCH")):
            raise ApiError(
                405,
                "MethodNotAllowed",
                f"the server does not allow this method on the requested resource: {method}",
            )
        return handler()

    def _view(self, target: Target, obj: Object) -> Object:
        return scale_of(obj) if target.subresource == "scale" else shown(obj, target.resource, target.version)

    def _list(self, target: Target, query: Mapping[str, str]) -> Object:
        selects = selector(target, query)
        with self.store.lock:
            found, version = self.store.list(target.resource, target.namespace), self.store.version
        items = [shown(obj, target.resource, target.version) for obj in found if selects(obj)]
        if not target.resource.custom:  # the list says what its items are
            items = [
                {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
                for item in items
            ]
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version(target.version),
            "metadata": {"resourceVersion": str(version)},
            "items": items,
        }

    def _create(self, target: Target, body: Any, dry: bool) -> Object:
        if target.resource.namespaced and target.namespace is None:
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        check_kind(target, body)
        obj = self.store.create(target.resource, target.namespace, kept(body, target.resource), dry)
        return shown(obj, target.resource, target.version)

    def _put(self, target: Target, body: Any, dry: bool) -> Object:
        if target.subresource == "scale":
            with self.store.lock:
                return self._scale(target, body, dry)
        check_kind(target, body)
        obj = self.store.replace(
            target.resource,
            target.namespace,
            target.name or "",
            kept(body, target.resource),
            target.subresource,
            dry,
        )
        return shown(obj, target.resource, target.version)

    def _scale(self, target: Target, scale: Any, dry: bool) -> Object:
        replicas = scale.get("spec", {}).get("replicas", 0) if isinstance(scale, dict) else None
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise ApiError(
                422,
                "Invalid",
                f'Scale.autoscaling "{target.name}" is invalid: spec.replicas: Invalid value: {replicas!r}',
            )
        old = self.store.get(target.resource, target.namespace, target.name or "")
        metadata = {**old["metadata"], "resourceVersion": scale.get("metadata", {}).get("resourceVersion")}
        new = {**old, "metadata": metadata, "spec": {**old["spec"], "replicas": replicas}}
        return scale_of(
            self.store.replace(target.resource, target.namespace, target.name or "", new, None, dry)
        )

    def _patch(self, target: Target, body: Any, kind: str, dry: bool) -> tuple[int, Object]:
        kind = kind.split(";")[0].strip()
        accepted = {JSON_PATCH, MERGE_PATCH, APPLY_PATCH} | (
            set() if target.resource.custom else {STRATEGIC_PATCH}
        )
        if kind not in accepted:
            raise ApiError(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(sorted(accepted)),
            )
        if kind != JSON_PATCH and not isinstance(body, dict):
            raise ApiError(400, "BadRequest", "error decoding patch: an object is wanted, not a list")
        with self.store.lock:
            try:
                old = self._view(target, self.store.get(target.resource, target.namespace, target.name or ""))
            except ApiError:
                if kind != APPLY_PATCH or target.subresource:
                    raise
                if body.get("metadata", {}).get("name") != target.name:
                    raise ApiError(
                        400,
                        "BadRequest",
                        f"the name of the object ({target.name} based on URL) was undeterminable: "
                        "name must be provided",
                    ) from None
                return 201, self._create(target, merge_patch({}, body), dry)
            patched = {JSON_PATCH: json_patch, MERGE_PATCH: merge_patch}.get(kind, strategic_merge)
            new = patched(old, body)
            if target.subresource == "scale":
                return 200, self._scale(target, new, dry)
            check_kind(target, new)
            obj = self.store.replace(
                target.resource,
                target.namespace,
                target.name or "",
                kept(new, target.resource),
                target.subresource,
                dry,
                checked=False,
            )
            return 200, shown(obj, target.resource, target.version)

    def _delete(self, target: Target, body: Any, dry: bool) -> Object:
        options = body if isinstance(body, dict) else {}
        dry = options.get("dryRun") == ["All"] if options else dry  # with a body nobody looks at the query
        obj = self.store.delete(
            target.resource, target.namespace, target.name or "", dry, options.get("preconditions")
        )
        if obj["metadata"].get("finalizers") or target.resource.plural == "pods":
            return shown(obj, target.resource, target.version)
        details = {"name": target.name, "kind": target.resource.plural, "uid": obj["metadata"]["uid"]}
        details |= {"group": target.resource.group} if target.resource.group else {}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _delete_collection(self, target: Target, query: Mapping[str, str], dry: bool) -> Object:
        with self.store.lock:
            listed = self._list(target, query)
            for obj in listed["items"]:
                self.store.delete(
                    target.resource, obj["metadata"].get("namespace"), obj["metadata"]["name"], dry
                )
        return listed


def parse(body: bytes, kind: str) -> Any:
    """A request's body as JSON values. ApiError 415 for a binary format, 400 for what cannot be read."""
    if not body:
        return None
    if "protobuf" in kind or "cbor" in kind:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - {kind}; JSON and YAML are served",
        )
    try:
        if "yaml" in kind:
            return json.loads(json.dumps(YAML(typ="safe").load(io.BytesIO(body)), default=str))
        return json.loads(body)
    except (ValueError, YAMLError) as error:
        raise ApiError(400, "BadRequest", f"the object provided is unrecognized: {error}") from error


def check_kind(target: Target, body: Any) -> None:
    """ApiError 400 for a body that is not an object of the target's kind and version."""
    resource = target.resource
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise ApiError(400, "BadRequest", f"an object of kind {resource.kind} is wanted in the body")
    wanted = resource.api_version(target.version)
    if body.get("kind", resource.kind) != resource.kind or body.get("apiVersion", wanted) != wanted:
        raise ApiError(
            400,
            "BadRequest",
            f"the API version in the data ({body.get('apiVersion')}, Kind={body.get('kind')}) does not match "
            f"the expected API version ({wanted}, Kind={resource.kind})",
        )


def selector(target: Target, query: Mapping[str, str]) -> Selector:
    """What a list or a watch selects, of both selectors."""
    labels = label_selector(query.get("labelSelector", ""))
    fields = field_selector(
        query.get("fieldSelector", ""), SELECTABLE.get(target.resource.plural, frozenset())
    )
    return lambda obj: labels(obj) and fields(shown(obj, target.resource, target.version))


def scale_of(obj: Object) -> Object:
    """A Deployment's scale subresource."""
    metadata = {
        key: obj["metadata"][key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = obj["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": obj["spec"].get("replicas", 1)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{k}={v}" for k, v in labels.items()),
        },
    }


class KubernetesServer(Server):
    """The API over HTTP. `store` is the same world without HTTP, `access` who is denied what,
    `faults` what shall go wrong."""

    def __init__(self, store: Store) -> None:
        self.store, self.access = store, Access()
        super().__init__(KubernetesApi(store, self.access), Faults(), "Kubernetes API")

    def kubeconfig(self) -> Object:
        """For kubectl and the client, as JSON, which is YAML."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url}}],
            "users": [{"name": "sandbox", "user": {"token": "sandbox"}}],
            "contexts": [
                {
                    "name": "sandbox",
                    "context": {"cluster": "sandbox", "user": "sandbox", "namespace": "production"},
                }
            ],
        }
