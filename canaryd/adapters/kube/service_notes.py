"""What canaryd keeps about a service apart from its rollouts: a ConfigMap `canaryd-SERVICE` in the service's
namespace.

Known templates outlive the records, which are trimmed; `paused` is a person's wish, for daemon and verbs
alike; how the service's Deployments and routes are found is noted too, so that verbs need no policy files.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd.adapters.kube.canaryrollout_object import MANAGED_BY, SERVICE_LABEL, request_of
from canaryd.adapters.kube.client import MERGE_PATCH, Json, KubernetesApi, path_to
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, Gathering, KnownTemplates, Missing, Rejected
from canaryd.domain.rollout import NOBODY, ActionRequest


@dataclass(frozen=True, slots=True)
class ServiceNote:
    """One service as noted. selector, version_label: how its Deployments are found; problem: why no rollout
    can begin, or "".
    gathering: what waits for new versions of the other services of its bracket. pause_request: who paused it
    last, and why; says nothing where it is not paused.

    route: the policy's `route` and mode its `mode`; empty where an earlier release noted none. known:
    templates that are not new, empty where they cannot be read.
    """

    namespace: str
    service: str
    selector: Mapping[str, str]
    version_label: str
    paused: bool
    problem: str
    gathering: Gathering | None = None
    route: Mapping[str, Any] = field(default_factory=dict)
    mode: str = ""
    known: frozenset[str] = frozenset()
    resource_version: str = ""
    pause_request: ActionRequest = NOBODY

    def policy(self) -> Policy | None:
        """As much of the policy as says where the service's Deployments and routes are; None where no route
        is noted."""
        if not self.route:
            return None
        # which needs the ladder, and finds nothing
        route = {key: value for key, value in self.route.items() if key != "affinity"}
        service = {
            "name": self.service,
            "namespace": self.namespace,
            "selector": self.selector,
            "versionLabel": self.version_label,
        }
        return Policy.load(
            {"service": service, "route": route, "mode": self.mode or "steer", "stages": [{"weight": 100}]}
        )


class KubeServices:
    """The ConfigMaps, for daemon (`known`, `remember`) and verbs (`notes`, `pause`)."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def known(self, policy: Policy) -> KnownTemplates:
        """As noted; without resource_version when nothing is. Raises Rejected for a note that someone has
        made unreadable."""
        namespace, service = policy.service.namespace, policy.service.name
        try:
            note = self._api.request("GET", _path(namespace, service))
        except Missing:
            return KnownTemplates(frozenset())
        noted = note.get("data") or {}
        return replace(
            _known(note), outdated=any(noted.get(key) != value for key, value in _found(policy).items())
        )

    def remember(self, policy: Policy, known: KnownTemplates) -> KnownTemplates:
        """Writes it. Raises Conflict when it is no longer what was read: read again."""
        namespace, service = policy.service.namespace, policy.service.name
        data: dict[str, str | None] = {
            "known": json.dumps(sorted(known.templates)),
            "paused": "true" if known.paused else "false",
            "problem": known.problem,
            "gathering": _gathered(known.gathering),
            **_found(policy),
        }
        metadata: Json = {
            "name": _name(service),
            "namespace": namespace,
            "labels": {**MANAGED_BY, SERVICE_LABEL: service},
        }
        if not known.resource_version:
            entries = {key: text for key, text in data.items() if text is not None}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": entries}
            return _known(self._api.request("POST", path_to("v1", "configmaps", namespace), body))
        # A resourceVersion inside a merge patch is its precondition; keys and labels of others stay.
        patch = {"metadata": {**metadata, "resourceVersion": known.resource_version}, "data": data}
        try:
            return _known(
                self._api.request("PATCH", _path(namespace, service), patch, content_type=MERGE_PATCH)
            )
        except Missing as error:
            raise Conflict(
                f"the ConfigMap {namespace}/{_name(service)} was deleted in between ({error})"
            ) from error

    def notes(self, namespace: str | None = None) -> Sequence[ServiceNote]:
        """Every service canaryd has seen, by namespace and name. Raises Rejected for an unreadable one."""
        query = {
            "labelSelector": ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
            + f",{SERVICE_LABEL}"
        }
        found = (
            self._api.request("GET", path_to("v1", "configmaps", namespace), query=query).get("items") or []
        )
        return sorted((_note(note) for note in found), key=lambda note: (note.namespace, note.service))

    def renew(self, note: ServiceNote, templates: frozenset[str], dry: bool = False) -> None:
        """Keeps of the service only which templates are not new, and whether it is paused. dry: the server
        checks it and keeps nothing.

        Raises Conflict when the note is no longer what was read.
        """
        data = {"known": json.dumps(sorted(templates)), "problem": "", "gathering": None}
        patch = {"metadata": {"resourceVersion": note.resource_version}, "data": data}
        query = {"dryRun": "All"} if dry else None
        self._api.request(
            "PATCH", _path(note.namespace, note.service), patch, query, content_type=MERGE_PATCH
        )

    def pause(
        self,
        paused: bool,
        service: str | None = None,
        namespace: str | None = None,
        asked: ActionRequest = NOBODY,
    ) -> Sequence[ServiceNote]:
        """Pauses (or not) one service, or all; what was reached. asked: who pauses it, and why; kept while it
        is paused. Raises Missing when there is none of that name."""
        notes = self.notes(namespace)
        chosen = [note for note in notes if service in (None, note.service)]
        if not chosen:
            where = f"namespace {namespace}" if namespace else "any namespace"
            there = ", ".join(f"{note.namespace}/{note.service}" for note in notes) or "none"
            raise Missing(f"canaryd has seen no service {service or ''} in {where}; it has seen: {there}")
        request = json.dumps(request_of(asked)) if paused and asked != NOBODY else None
        patch = {"data": {"paused": "true" if paused else "false", "pauseRequest": request}}
        return [
            _note(
                self._api.request(
                    "PATCH", _path(note.namespace, note.service), patch, content_type=MERGE_PATCH
                )
            )
            for note in chosen
        ]


def _found(policy: Policy) -> dict[str, str]:
    """How the service's Deployments and routes are found, as it is noted."""
    finding = {"selector": dict(policy.service.selector), "versionLabel": policy.service.version_label}
    route = policy.dump()["route"]
    return {
        "service": json.dumps(finding, sort_keys=True),
        "route": json.dumps(route, sort_keys=True),
        "mode": policy.mode,
    }


def _gathered(gathering: Gathering | None) -> str | None:
    """As it is noted; None: not at all, which in a patch takes it out."""
    if gathering is None:
        return None
    return json.dumps(
        {"versions": sorted(gathering.versions), "since": gathering.since, "says": gathering.says}
    )


def _gathering(note: Json) -> Gathering | None:
    """None too for what someone has made unreadable: it is gathered anew then."""
    with suppress(Rejected, KeyError, TypeError, ValueError):
        found = _read(note, "gathering", dict)
        return Gathering(frozenset(map(str, found["versions"])), float(found["since"]), str(found["says"]))
    return None


def _known(note: Json) -> KnownTemplates:
    templates = _read(note, "known", list)
    data = note.get("data") or {}
    return KnownTemplates(
        frozenset(str(template) for template in templates),
        data.get("paused") == "true",
        data.get("problem", ""),
        note["metadata"]["resourceVersion"],
        _gathering(note),
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
        gathering=_gathering(note),
        route=_read(note, "route", dict),
        mode=data.get("mode", ""),
        known=_templates(note),
        resource_version=metadata["resourceVersion"],
        pause_request=_pause_request(note),
    )


def _pause_request(note: Json) -> ActionRequest:
    """Says nothing too for what someone has made unreadable: it is only for people to read."""
    if (note.get("data") or {}).get("paused") == "true":
        with suppress(Rejected, TypeError, ValueError):
            found = _read(note, "pauseRequest", dict)
            at = float(found["at"]) if "at" in found else None
            return ActionRequest(str(found.get("by", "")), at, str(found.get("reason", "")))
    return NOBODY


def _templates(note: Json) -> frozenset[str]:
    with suppress(Rejected):
        return frozenset(str(template) for template in _read(note, "known", list))
    return frozenset()


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
        raise Rejected(
            f"{place}: data.{key} must be {wanted}, but is {text[:60]!r}; mend it, or delete it: canaryd "
            "then begins anew"
        )
    return value


def _name(service: str) -> str:
    return f"canaryd-{service}"


def _path(namespace: str, service: str) -> str:
    return path_to("v1", "configmaps", namespace, _name(service))
