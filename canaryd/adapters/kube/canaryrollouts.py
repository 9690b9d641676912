"""Rollouts as `CanaryRollout` objects: Kubernetes is canaryd's database.

The daemon writes `status`, people and verbs write `spec`, each with the version it has read. An object with a
spec and no status is a request: someone wants this rollout begun.
"""

from collections.abc import Callable, Mapping, Sequence

from pydantic.alias_generators import to_camel

from canaryd.adapters.kube.canaryrollout_object import (
    API_VERSION,
    KIND,
    MANAGED_BY,
    PLURAL,
    SERVICE_LABEL,
    bounded,
    record_of,
    request_of,
    spec_of,
    status_of,
    wishes_of,
)
from canaryd.adapters.kube.client import MERGE_PATCH, Json, KubernetesApi, path_to
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, KnownTemplates, Missing, Rejected, Request
from canaryd.domain.rollout import NOBODY, ActionRequest, DesiredActions, Record

# With these few changes since the last list, each is fetched by itself; with more, one list is cheaper.
_FEW = 5
_WHOLE = "application/json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_WISHES = tuple(name for name in DesiredActions.__dataclass_fields__ if name != "requests")


class KubeRollouts:
    """Implements the port `Rollouts` on the API server, and what the verbs need besides.

    problem: told of each object that cannot be understood: its namespace/name and why, once for each version
    of it. Remembers what it has read, so one instance belongs to one thread.
    """

    def __init__(
        self, api: KubernetesApi, problem: Callable[[str, str], None] = lambda name, why: None
    ) -> None:
        self._api = api
        self._problem = problem
        self._services = KubeServices(api)
        # key -> (resourceVersion, what it holds)
        self._seen: dict[NamespacedName, tuple[str, Record | Request | None]] = {}

    def list(self) -> Sequence[Record]:
        """All rollouts on record, of every namespace, oldest first.

        A record is tens of kilobytes, and most have ended: after the first time only the metadata are listed,
        and what has changed is fetched. What is listed is as new as the server has it, at every call.
        """
        items: Sequence[Json] = self._items(_METADATA_ONLY if self._seen else _WHOLE)
        changed: Sequence[Json] = [
            item for item in items if self._version(_key(item)) != item["metadata"]["resourceVersion"]
        ]
        if any("spec" not in item for item in changed):
            items, changed = self._fetched(items, changed)  # only their metadata came
        for item in changed:
            self._take(item)
        here = {_key(item) for item in items}
        self._seen = {key: entry for key, entry in self._seen.items() if key in here}
        records = [held for _, held in self._seen.values() if isinstance(held, Record)]
        return sorted(
            records, key=lambda record: (record.rollout.began, record.rollout.namespace, record.rollout.name)
        )

    def requests(self) -> Sequence[Request]:
        """What people asked for and canaryd has not begun, as of the last `list`."""
        return [held for _, (_, held) in sorted(self._seen.items()) if isinstance(held, Request)]

    def create(self, record: Record) -> Record:
        """Creates it, or fills the request of this name, or returns the record that is already there under
        it.

        Between the object and its status lies a moment in which a crash leaves a request, which the next
        start fills.
        """
        rollout = record.rollout
        labels = {**MANAGED_BY, SERVICE_LABEL: rollout.entrance.name}
        metadata = {"name": rollout.name, "namespace": rollout.namespace, "labels": labels}
        try:
            obj = self._api.request(
                "POST", _path(rollout.namespace), {**_head(), "metadata": metadata, "spec": spec_of(record)}
            )
        except Conflict:
            obj = self.get(rollout.namespace, rollout.name)
        if _is_begun(obj):
            return self._understood(obj)
        adopted = Record(
            rollout,
            wishes_of(obj.get("spec") or {}),
            obj["metadata"]["resourceVersion"],
            obj["metadata"].get("uid", ""),
        )
        return self.save(adopted)

    def refuse(self, request: Request, reason: str) -> None:
        """Answers a request in its status: it is no longer one. Raises Conflict, Missing."""
        path = _path(request.namespace, request.name)
        # A merge patch with nothing to merge into: there is no status yet, and canaryd alone writes it.
        status = {"refused": reason, "reason": reason, "shown": {"verdict": "refused"}}
        self._take(self._api.request("PATCH", f"{path}/status", {"status": status}, content_type=MERGE_PATCH))

    def save(self, record: Record) -> Record:
        """Writes the status, bounded in size; the record as it is now stored. Raises Conflict when someone
        wrote in between."""
        rollout = bounded(record.rollout)
        metadata = {
            "name": rollout.name,
            "namespace": rollout.namespace,
            "resourceVersion": record.resource_version,
        }
        if record.uid:
            metadata["uid"] = record.uid
        body = {**_head(), "metadata": metadata, "spec": spec_of(record), "status": status_of(rollout)}
        obj = self._api.request("PUT", f"{_path(rollout.namespace, rollout.name)}/status", body)
        saved = Record(
            rollout, record.wishes, obj["metadata"]["resourceVersion"], obj["metadata"].get("uid", "")
        )
        self._seen[rollout.namespace, rollout.name] = (saved.resource_version, saved)
        return saved

    def delete(self, record: Record) -> None:
        """Removes it; one that is gone already is no error."""
        body = {"preconditions": {"uid": record.uid}} if record.uid else None
        try:
            self._api.request("DELETE", _path(record.rollout.namespace, record.rollout.name), body)
        except Missing:
            return

    def known(self, policy: Policy) -> KnownTemplates:
        """See `KubeServices.known`."""
        return self._services.known(policy)

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates:
        """See `KubeServices.remember`."""
        return self._services.remember(policy, known)

    # ------------------------------------------------------------ for the verbs, with the caller's own rights

    def get(self, namespace: str, name: str) -> Json:
        """The object as it stands. Raises Missing."""
        return self._api.request("GET", _path(namespace, name))

    def wish(
        self,
        namespace: str,
        name: str,
        resource_version: str = "",
        requests: Mapping[str, ActionRequest | None] | None = None,
        **wishes: bool | int,
    ) -> None:
        """Sets fields of `spec`, named as in `DesiredActions` (`approved_stage=1`).

        requests: who asks, by the verb, in the place of who asked before; None takes that out. Raises
        Conflict where `resource_version` is given and is no longer the object's, ValueError for a field that
        `DesiredActions` has not.
        """
        unknown = sorted(set(wishes) - set(_WISHES))
        if unknown:
            raise ValueError(f"wishes are {', '.join(_WISHES)}, but {', '.join(unknown)} came")
        patch: Json = {"spec": {to_camel(key): value for key, value in wishes.items()}}
        if requests:
            patch["spec"]["requests"] = {verb: _replaced(request) for verb, request in requests.items()}
        if resource_version:
            patch["metadata"] = {"resourceVersion": resource_version}
        self._api.request("PATCH", _path(namespace, name), patch, content_type=MERGE_PATCH)

    def ask(self, request: Request, attempt: int = 1) -> None:
        """Asks for a rollout: an object with a spec alone, which the daemon begins. Raises Conflict when
        there is one of this name."""
        metadata = {
            "name": request.name,
            "namespace": request.namespace,
            "labels": {SERVICE_LABEL: request.service},
        }
        spec: Json = {"service": request.service, "version": request.version} | (
            {"attempt": attempt} if attempt > 1 else {}
        )
        if asked := request_of(request.asked):
            spec["requests"] = {"start": asked}
        self._api.request("POST", _path(request.namespace), {**_head(), "metadata": metadata, "spec": spec})

    # ------------------------------------------------------------ reading

    def _items(self, accept: str) -> Sequence[Json]:
        try:
            found = self._api.request("GET", path_to(API_VERSION, PLURAL), accept=accept)
        except Missing as error:
            raise Missing(
                "the API server has no CanaryRollouts: apply charts/canaryd/crds/canaryrollouts.yaml "
                f"({error})"
            ) from error
        return found.get("items") or []

    def _fetched(
        self, items: Sequence[Json], changed: Sequence[Json]
    ) -> tuple[Sequence[Json], Sequence[Json]]:
        """The items, and the changed ones whole."""
        if len(changed) > _FEW:
            whole = self._items(_WHOLE)
            return whole, whole
        found = []
        for item in changed:
            try:
                found.append(self.get(*_key(item)))
            except Missing:
                items = [other for other in items if other is not item]
        return items, found

    def _take(self, obj: Json) -> None:
        self._seen[_key(obj)] = (obj["metadata"]["resourceVersion"], self._held(obj))

    def _held(self, obj: Json) -> Record | Request | None:
        """What an object holds: a record, a request, or None for a refused request and for what cannot be
        understood."""
        namespace, name = _key(obj)
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        if not status:
            if spec.get("service") and spec.get("version"):
                begun = "templateHash" in spec  # what people ask for has none: see `ask`
                return Request(
                    namespace=namespace,
                    service=spec["service"],
                    version=spec["version"],
                    name=name,
                    begun=begun,
                    asked=self._start_request(namespace, name, spec),
                )
            self._problem(
                f"{namespace}/{name}", "it asks for a rollout and names no service or version in its spec"
            )
            return None
        if not _is_begun(obj):
            return None
        try:
            return record_of(obj)
        except (ValueError, KeyError, TypeError) as error:
            self._problem(f"{namespace}/{name}", str(error))
            return None

    def _start_request(self, namespace: str, name: str, spec: Json) -> ActionRequest:
        """Who asked for a rollout to begin; nobody where that cannot be understood, which keeps nothing from
        beginning."""
        try:
            return wishes_of(spec).request("start")
        except ValueError as error:
            self._problem(f"{namespace}/{name}", str(error))
            return NOBODY

    def _version(self, key: NamespacedName) -> str:
        return self._seen[key][0] if key in self._seen else ""

    def _understood(self, obj: Json) -> Record:
        try:
            return record_of(obj)
        except (ValueError, KeyError, TypeError) as error:
            name = "/".join(_key(obj))
            raise Rejected(
                f"there is a CanaryRollout {name} that cannot be understood: {error}; delete it to begin anew"
            ) from error


def _head() -> Json:
    return {"apiVersion": API_VERSION, "kind": KIND}


def _path(namespace: str, name: str | None = None) -> str:
    return path_to(API_VERSION, PLURAL, namespace, name)


def _key(obj: Json) -> NamespacedName:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _replaced(request: ActionRequest | None) -> Json | None:
    """A request for a merge patch, in which nothing of an earlier one is left."""
    return None if request is None else {"by": None, "at": None, "reason": None, **request_of(request)}


def _is_begun(obj: Json) -> bool:
    return bool((obj.get("status") or {}).get("phase"))
