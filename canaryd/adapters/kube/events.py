"""What happened, as Kubernetes Events: `kubectl describe` of the CanaryRollout and of the canary's Deployment
shows them.

An Event's name follows from the announcement's id, so that telling it again changes nothing.
"""

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from canaryd.adapters.kube.canaryrollout_object import API_VERSION, KIND, PLURAL
from canaryd.adapters.kube.client import Json, KubernetesApi, path_to
from canaryd.domain.ports import Conflict, Missing
from canaryd.domain.rollout import Announcement

CONTROLLER = "canaryd.dev/canaryd"
MOST_BYTES = 1024  # of a note: the API server refuses more
_CUT = " ..."


@dataclass(frozen=True, slots=True)
class _Kind:
    reason: str
    action: str
    warns: bool = False


_KINDS: Mapping[str, _Kind] = {
    "started": _Kind("RolloutStarted", "Start"),
    "advanced": _Kind("Advanced", "Advance"),
    "approval_needed": _Kind("ApprovalNeeded", "AskForApproval"),
    "held": _Kind("Held", "Hold", warns=True),
    "resumed": _Kind("Resumed", "Resume"),
    "stepped_back": _Kind("SteppedBack", "StepBack", warns=True),
    "rolled_back": _Kind("RolledBack", "RollBack", warns=True),
    "superseded": _Kind("Superseded", "Supersede"),
    "succeeded": _Kind("Succeeded", "Promote"),
    "alert_after_promotion": _Kind("AlertAfterPromotion", "Watch", warns=True),
}


class KubeEvents:
    """Writes announcements as Events (events.k8s.io/v1) in the rollout's namespace."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._instance = socket.gethostname()

    def tell(self, announcement: Announcement) -> None:
        """One Event about the CanaryRollout and one about the Deployment of each canary; an object that is
        gone gets none.

        Telling the same announcement again is no error and writes nothing. Raises Unavailable, Rejected.
        """
        namespace = announcement.namespace
        rollout = self._get(path_to(API_VERSION, PLURAL, namespace, announcement.rollout))
        if rollout is None:
            return
        about = _reference(API_VERSION, KIND, rollout)
        self._write(announcement, about, None)
        status = rollout.get("status") or {}
        for service_status in (status, *(status.get("others") or [])):
            name, place = service_status.get("canaryWorkload"), service_status.get("namespace") or namespace
            deployment = self._get(path_to("apps/v1", "deployments", place, name)) if name else None
            which = "" if service_status is status else f"{place}/{name}"
            if deployment is not None:
                self._write(announcement, _reference("apps/v1", "Deployment", deployment), about, which)

    def _get(self, path: str) -> Json | None:
        try:
            return self._api.request("GET", path)
        except Missing:
            return None

    def _write(
        self, announcement: Announcement, regarding: Json, related: Json | None, which: str = ""
    ) -> None:
        event = event_of(announcement, regarding, related, self._instance, which)
        try:
            self._api.request(
                "POST", path_to("events.k8s.io/v1", "events", event["metadata"]["namespace"]), event
            )
        except Conflict:
            return  # it is there from an earlier try


def event_of(
    announcement: Announcement, regarding: Json, related: Json | None, instance: str, which: str = ""
) -> Json:
    """The Event of an announcement about one object. instance: which canaryd says so; which: of several
    objects of this kind."""
    kind = _KINDS[announcement.event]
    digest = hashlib.sha256(f"{announcement.id}/{regarding['kind']}{which}".encode()).hexdigest()[:16]
    event: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{announcement.rollout[:200].rstrip('-.')}.{digest}",
            "namespace": regarding["namespace"],
        },
        "eventTime": datetime.fromtimestamp(announcement.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": kind.action,
        "reason": kind.reason,
        "type": "Warning" if kind.warns else "Normal",
        "regarding": regarding,
        "note": _note(announcement),
    }
    return event | ({"related": related} if related else {})


def _note(announcement: Announcement) -> str:
    of = announcement
    share = f"weight {of.weight}%" if of.share in ("", f"{of.weight}%") else of.share
    numbers = f"{of.versions}, {share}: {of.reason or of.event.replace('_', ' ')}"
    text = f"{of.summary}. {numbers}" if of.summary else numbers
    raw = text.encode()
    if len(raw) <= MOST_BYTES:
        return text
    return raw[: MOST_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def _reference(api_version: str, kind: str, obj: Json) -> Json:
    metadata = obj["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
