"""What canaryd keeps about a service apart from its rollouts: a ConfigMap `canaryd-SERVICE` in the service's namespace.

Known templates outlive the records, which are trimmed; `paused` is a person's wish, for daemon and verbs alike; how the service's
Deployments are found is noted too, so that verbs need no policy files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canaryd.adapters.kube.client import MERGE_PATCH, Api, Json, path_to
from canaryd.adapters.kube.records import MANAGED_BY, SERVICE_LABEL
from canaryd.domain.policy import Policy
from canaryd.domain.ports import Conflict, KnownTemplates, Missing, Rejected


@dataclass(frozen=True, slots=True)
class ServiceNote:
    """One service as noted. selector, version_label: how its Deployments are found; problem: why no rollout can begin, or ""."""

    namespace: str
    service: str
    selector: Mapping[str, str]
    version_label: str
    paused: bool
    problem: str


class KubeServices:
    """The ConfigMaps, for daemon (`known`, `remember`) and verbs (`notes`, `pause`)."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def known(self, policy: Policy) -> KnownTemplates:
        """As noted; without resource_version when nothing is. Raises Rejected for a note that someone has made unreadable."""
        namespace, service = policy.service.namespace, policy.service.name
        try:
            note = self._api.request("GET", _path(namespace, service))
        except Missing:
            return KnownTemplates(frozenset())
        return _known(note)

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates:
        """Writes it. Raises Conflict when it is no longer what was read: read again."""
        namespace, service = policy.service.namespace, policy.service.name
        finding = {"selector": dict(policy.service.selector), "versionLabel": policy.service.version_label}
        data = {
            "known": json.dumps(sorted(known.templates)),
            "paused": "true" if known.paused else "false",
            "problem": known.problem,
            "service": json.dumps(finding, sort_keys=True),
        }
        metadata: Json = {"name": _name(service), "namespace": namespace, "labels": {**MANAGED_BY, SERVICE_LABEL: service}}
        if not known.resource_version:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            return _known(self._api.request("POST", path_to("v1", "configmaps", namespace), body))
        # A resourceVersion inside a merge patch is its precondition; keys and labels of others stay.
        patch = {"metadata": {**metadata, "resourceVersion": known.resource_version}, "data": data}
        try:
            return _known(self._api.request("PATCH", _path(namespace, service), patch, content_type=MERGE_PATCH))
        except Missing as error:
            raise Conflict(f"the ConfigMap {namespace}/{_name(service)} was deleted in between ({error})") from error

    def notes(self, namespace: str | None = None) -> Sequence[ServiceNote]:
        """Every service canaryd has seen, by namespace and name. Raises Rejected for an unreadable one."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in MANAGED_BY.items()) + f",{SERVICE_LABEL}"}
        found = self._api.request("GET", path_to("v1", "configmaps", namespace), query=query).get("items") or []
        return sorted((_note(one) for one in found), key=lambda one: (one.namespace, one.service))

    def pause(self, paused: bool, service: str | None = None, namespace: str | None = None) -> Sequence[ServiceNote]:
        """Pauses (or not) one service, or all; what was reached. Raises Missing when there is none of that name."""
        seen = self.notes(namespace)
        chosen = [one for one in seen if service in (None, one.service)]
        if not chosen:
            where = f"namespace {namespace}" if namespace else "any namespace"
            there = ", ".join(f"{one.namespace}/{one.service}" for one in seen) or "none"
            raise Missing(f"canaryd has seen no service {service or ''} in {where}; it has seen: {there}")
        patch = {"data": {"paused": "true" if paused else "false"}}
        return [
            _note(self._api.request("PATCH", _path(one.namespace, one.service), patch, content_type=MERGE_PATCH)) for one in chosen
        ]  # fmt: skip


def _known(note: Json) -> KnownTemplates:
    templates = _read(note, "known", list)
    data = note.get("data") or {}
    return KnownTemplates(
        frozenset(str(one) for one in templates), data.get("paused") == "true", data.get("problem", ""), note["metadata"]["resourceVersion"]
    )


def _note(note: Json) -> ServiceNote:
    found, data, metadata = _read(note, "service", dict), note.get("data") or {}, note["metadata"]
    return ServiceNote(
        namespace=metadata["namespace"],
        service=metadata["labels"][SERVICE_LABEL],
        selector=found.get("selector") or {},
        version_label=found.get("versionLabel", "version"),
        paused=data.get("paused") == "true",
        problem=data.get("problem", ""),
    )


def _read(note: Json, key: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """One key's JSON. Raises Rejected naming ConfigMap and key; a missing key is empty."""
    text = (note.get("data") or {}).get(key)
    if text is None:
        return kind()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        place = f"ConfigMap {note['metadata']['namespace']}/{note['metadata']['name']}"
        wanted = "a JSON list" if kind is list else "a JSON object"
        raise Rejected(f"{place}: data.{key} must be {wanted}, but is {text[:60]!r}; mend it, or delete it: canaryd then begins anew")
    return value


def _name(service: str) -> str:
    return f"canaryd-{service}"


def _path(namespace: str, service: str) -> str:
    return path_to("v1", "configmaps", namespace, _name(service))
