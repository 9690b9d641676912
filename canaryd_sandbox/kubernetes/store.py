"""The objects of the sandbox's Kubernetes API: one counter of versions, one history, and the rules of
writing.

Thread-safe. A kept object is never changed in place: every write replaces it, so readers may keep what they
got, and must copy what they want to change. Nothing here knows HTTP.
"""

import copy
import datetime as dt
import random
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from canaryd_sandbox.kubernetes.builtin import fitted as builtin
from canaryd_sandbox.kubernetes.resources import (
    DEFINITIONS,
    NAMESPACES,
    RESOURCES,
    ApiError,
    Object,
    Resource,
)
from canaryd_sandbox.kubernetes.schema import crd_schema, fitted, problems

Subscriber = Callable[["Change"], None]
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, as Kubernetes chooses them: no vowels, no words


@dataclass(frozen=True)
class Change:
    """One event of the history. `before` is the object as it was, so that a selector can tell what came and
    what went."""

    version: int
    kind: str  # ADDED, MODIFIED or DELETED
    key: tuple[str, str]
    obj: Object
    before: Object | None


def timestamp(now: float) -> str:
    """A moment as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Every object there is, by resource, namespace and name.

    clock: the present in Unix seconds, for creationTimestamp; seed: of uids and generated names; history: how
    many changes a watch can go back (older ones are answered with 410).
    """

    def __init__(self, clock: Callable[[], float], seed: int = 1, history: int = 10_000) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self._clock = clock
        self._random = random.Random(seed)
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._oldest = 1  # the history is complete after this version
        self._subscribers: list[Subscriber] = []

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """The object, or ApiError 404."""
        with self.lock:
            found = self._objects.get(resource.key, {}).get((namespace or "", name))
        if found is None:
            raise ApiError(
                404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name)
            )
        return found

    def list(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """All objects of a resource, of one namespace or of all, by namespace and name."""
        with self.lock:
            kept = sorted(self._objects.get(resource.key, {}).items())
        return [obj for (where, _), obj in kept if namespace is None or where == namespace]

    def create(self, resource: Resource, namespace: str | None, obj: Object, dry_run: bool = False) -> Object:
        """Adds an object; ApiError 409 for a name that exists, 404 for a namespace that does not, 422 without
        a name."""
        with self.lock:
            obj = copy.deepcopy(obj)
            metadata = obj.setdefault("metadata", {})
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + self.suffix(5)
            self._check_new(resource, namespace, metadata)
            metadata |= {
                "uid": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
                "creationTimestamp": timestamp(self._clock()),
            }
            if resource.namespaced:
                metadata["namespace"] = namespace
            metadata.pop("deletionTimestamp", None)
            if resource.generation:
                metadata["generation"] = 1
            if resource.status:
                obj.pop("status", None)
            obj = self._fit(resource, obj)
            if dry_run:
                return obj
            return self._put(resource, "ADDED", obj, None)

    def _fit(self, resource: Resource, obj: Object) -> Object:
        """As the server keeps it: its own kinds by their rules, a custom resource by its
        CustomResourceDefinition where one was created; ApiError 422 for one that is refused."""
        if not resource.custom:
            obj, wrong = builtin(resource.plural, obj)
            if wrong:
                raise _invalid(
                    resource,
                    obj["metadata"]["name"],
                    wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]",
                )
        for crd in self.list(DEFINITIONS) if resource.custom else []:
            spec = crd.get("spec", {})
            if (spec.get("group"), spec.get("names", {}).get("plural")) == (resource.group, resource.plural):
                schema = crd_schema(crd)
                obj = fitted(obj, schema)
                if wrong := problems(obj, schema):
                    message = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
                    raise _invalid(resource, obj["metadata"]["name"], message)
        return obj

    def _check_new(self, resource: Resource, namespace: str | None, metadata: Object) -> None:
        name = metadata.get("name")
        if not name:
            raise _invalid(resource, "", "metadata.name: Required value: name or generateName is required")
        if not NAME.fullmatch(name) or len(name) > 253:
            raise _invalid(
                resource,
                name,
                f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain is wanted',
            )
        if metadata.get("resourceVersion"):
            raise ApiError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if metadata.get("namespace", namespace) != namespace:
            raise ApiError(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            )
        if resource.namespaced and (namespace or "") not in {
            key[1] for key in self._objects.get(("", "namespaces"), {})
        }:
            raise ApiError(
                404,
                "NotFound",
                f'namespaces "{namespace}" not found',
                {"name": namespace, "kind": "namespaces"},
            )
        if (namespace or "", name) in self._objects.get(resource.key, {}):
            raise ApiError(
                409,
                "AlreadyExists",
                f'{resource.qualified} "{name}" already exists',
                _details(resource, name),
            )

    def replace(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        obj: Object,
        subresource: str | None = None,
        dry_run: bool = False,
        checked: bool = True,
    ) -> Object:
        """Writes an object over the one that is there; ApiError 409 if its resourceVersion or uid is
        another's.

        subresource: None writes all but status (where status is one), "status" writes status alone. checked:
        False lets a custom resource be written without resourceVersion, as a patch does.
        """
        with self.lock:
            old = self.get(resource, namespace, name)
            obj = copy.deepcopy(obj)
            metadata = obj.setdefault("metadata", {})
            if metadata.get("name", name) != name:
                raise ApiError(
                    400,
                    "BadRequest",
                    f"the name of the object ({metadata['name']}) does not match the name on the URL "
                    f"({name})",
                )
            wanted = metadata.get("resourceVersion")
            if not wanted and checked and not resource.unconditional:
                raise _invalid(
                    resource,
                    name,
                    "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update",
                )
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise conflict(resource, name)
            if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                raise ApiError(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {resource.qualified} "{name}": '
                    "Precondition failed: UID",
                    _details(resource, name),
                )
            return self._write(resource, old, obj, subresource, dry_run)

    def _write(
        self, resource: Resource, old: Object, obj: Object, subresource: str | None, dry_run: bool
    ) -> Object:
        fixed = {
            key: old["metadata"][key]
            for key in (
                "name",
                "namespace",
                "uid",
                "creationTimestamp",
                "generation",
                "deletionTimestamp",
                "resourceVersion",
            )
            if key in old["metadata"]
        }
        obj = {**obj, "apiVersion": old["apiVersion"], "kind": old["kind"]}
        if subresource == "status":
            obj = (
                {**old, "status": obj["status"]}
                if "status" in obj
                else {key: old[key] for key in old if key != "status"}
            )
        elif resource.status:
            obj = {key: obj[key] for key in obj if key != "status"} | (
                {"status": old["status"]} if "status" in old else {}
            )
        obj["metadata"] = {
            **{k: v for k, v in obj["metadata"].items() if k not in ("generation", "deletionTimestamp")},
            **fixed,
        }
        obj = self._fit(resource, obj)
        if obj == old:
            return old  # nothing to write is no new version
        wanted = (obj.keys() | old.keys()) - {"metadata", "status"}
        if resource.generation and any(obj.get(key) != old.get(key) for key in wanted):
            obj["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if dry_run:
            return obj
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
            return self._remove(resource, obj)
        return self._put(resource, "MODIFIED", obj, old)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        dry_run: bool = False,
        preconditions: Object | None = None,
    ) -> Object:
        """Removes an object, or marks it while finalizers hold it; ApiError 404, and 409 for a precondition
        that does not hold."""
        with self.lock:
            obj = self.get(resource, namespace, name)
            for field, value in (preconditions or {}).items():
                if value and obj["metadata"].get(field) != value:
                    raise conflict(resource, name)
            if dry_run:
                return obj
            if not obj["metadata"].get("finalizers"):
                return self._remove(resource, obj)
            marked = {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": timestamp(self._clock())}}
            return (
                obj
                if obj["metadata"].get("deletionTimestamp")
                else self._put(resource, "MODIFIED", marked, obj)
            )

    def _remove(self, resource: Resource, obj: Object) -> Object:
        metadata = obj["metadata"]
        before = self._objects[resource.key].pop((metadata.get("namespace") or "", metadata["name"]))
        self.version += 1
        gone = {**obj, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        self._tell(Change(self.version, "DELETED", resource.key, gone, before))
        if resource is NAMESPACES:
            self._empty(metadata["name"])
        return gone

    def _empty(self, namespace: str) -> None:
        """Everything goes with its namespace; at once here, finalizers or not."""
        for resource in RESOURCES:
            for obj in self.list(resource, namespace) if resource.namespaced else []:
                self._remove(resource, obj)

    def _put(self, resource: Resource, kind: str, obj: Object, before: Object | None) -> Object:
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        obj = {
            **obj,
            "apiVersion": resource.api_version(resource.versions[0]),
            "kind": resource.kind,
            "metadata": metadata,
        }
        self._objects.setdefault(resource.key, {})[metadata.get("namespace") or "", metadata["name"]] = obj
        self._tell(Change(self.version, kind, resource.key, obj, before))
        return obj

    def _tell(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._oldest = self._history[0].version
        self._history.append(change)
        for subscriber in list(self._subscribers):
            subscriber(change)

    def forget_history(self) -> None:
        """Compacts, as etcd does: a watch from any version before the present one is too old now."""
        with self.lock:
            self._history.clear()
            self._oldest = self.version

    def subscribe(self, since: int, subscriber: Subscriber) -> Sequence[Change]:
        """All changes after a version; those to come go to `subscriber`, under the lock. ApiError 410 for a
        version too old."""
        with self.lock:
            if since < self._oldest:
                raise ApiError(410, "Expired", f"too old resource version: {since} ({self._oldest})")
            self._subscribers.append(subscriber)
            return [change for change in self._history if change.version > since]

    def unsubscribe(self, subscriber: Subscriber) -> None:
        with self.lock:
            self._subscribers.remove(subscriber)

    def suffix(self, length: int) -> str:
        """The random end of a generated name."""
        return "".join(self._random.choices(LETTERS, k=length))


def _details(resource: Resource, name: str) -> Object:
    return {"name": name, "kind": resource.plural} | ({"group": resource.group} if resource.group else {})


def _invalid(resource: Resource, name: str, what: str) -> ApiError:
    group = f".{resource.group}" if resource.group else ""
    return ApiError(
        422, "Invalid", f'{resource.kind}{group} "{name}" is invalid: {what}', _details(resource, name)
    )


def conflict(resource: Resource, name: str) -> ApiError:
    """The refusal of a write that was based on an older version."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
        _details(resource, name),
    )
