"""A rollout as a `CanaryRollout` object, and back: what is written is read back equal.

`status` holds the whole rollout, camelCase, with what a person or a printer column wants to see under
`shown`. `spec` holds which version of which service it is about, and what people wish; canaryd reads the
wishes and never writes them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from canaryd.adapters.kube.client import Json
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import ActionRequest, Announcement, Decision, DesiredActions, Record, Rollout
from canaryd.domain.stored_rollout import StoredRollout, restored, stored
from canaryd.domain.verdict import Verdict

GROUP, VERSION, PLURAL, KIND = "canaryd.dev", "v1alpha1", "canaryrollouts", "CanaryRollout"
API_VERSION = f"{GROUP}/{VERSION}"
SERVICE_LABEL = "canaryd.dev/service"
MANAGED_BY = {"app.kubernetes.io/managed-by": "canaryd"}

# a rollout has a dozen, one that is held and resumed all night some more; the domain bounds decisions
KEPT_ANNOUNCEMENTS = 200
MOST_BYTES = 800_000  # etcd takes 1.5 MiB in one request, and the server adds managed fields

# Odds grow without bound, and JSON has no infinity: it travels as text.
_SHAPE = ConfigDict(alias_generator=to_camel, ser_json_inf_nan="strings")
# A list of them, since a TypeAdapter takes a shape for plain dataclasses only where they are part of
# something.
_ROLLOUT = TypeAdapter(list[StoredRollout], config=_SHAPE)
_WISHES = TypeAdapter(list[DesiredActions], config=_SHAPE)
_WISH_FIELDS = tuple(to_camel(name) for name in DesiredActions.__dataclass_fields__)


def spec_of(record: Record) -> Json:
    """The `spec` of a new object: what it is about, and the wishes that are not the usual ones."""
    rollout = record.rollout
    [wishes] = json.loads(_WISHES.dump_json([record.wishes], by_alias=True, exclude_defaults=True))
    if not record.wishes.requests:
        wishes.pop("requests", None)
    about = {
        "service": rollout.entrance.name,
        "version": rollout.entrance.canary,
        "stable": rollout.entrance.stable,
        "templateHash": rollout.entrance.template,
    }
    return {**about, **wishes}


def status_of(rollout: Rollout) -> Json:
    """The `status`. What has no value is left out, since the API server holds null for wrong where a type is
    declared."""
    status: Json
    [status] = json.loads(
        _ROLLOUT.dump_json([stored(rollout)], by_alias=True, exclude_none=True, exclude={0: {"policy"}})
    )
    if not rollout.is_bracket:
        del status["others"]
    status["policy"] = rollout.policy.dump()
    status["shown"] = _shown(rollout)
    return status


def record_of(obj: Json) -> Record:
    """The record that an object holds. Raises ValueError (of which pydantic's are) when it cannot be
    understood."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, dict(obj.get("status") or {})
    status.pop("shown", None)
    policy = status.pop("policy", None)
    if policy is None:
        raise ValueError("status.policy is missing")
    [form] = _ROLLOUT.validate_python([{**status, "policy": Policy.load(policy)}])
    rollout = restored(form)
    if (rollout.namespace, rollout.name) != (metadata["namespace"], metadata["name"]):
        there, own = f"{metadata['namespace']}/{metadata['name']}", f"{rollout.namespace}/{rollout.name}"
        raise ValueError(f"its status is of {own}, and the object is {there}: was it copied?")
    return Record(rollout, wishes_of(spec), metadata["resourceVersion"], metadata.get("uid", ""))


def wishes_of(spec: Mapping[str, Any]) -> DesiredActions:
    """What people wish; what is left out is not wished. Raises ValueError."""
    return _WISHES.validate_python([{key: spec[key] for key in _WISH_FIELDS if spec.get(key) is not None}])[0]


def request_of(request: ActionRequest) -> Json:
    """Who asked for an action, as `spec.requests` has it; what is not known is left out."""
    return {key: value for key, value in asdict(request).items() if value not in ("", None)}


def bounded(rollout: Rollout) -> Rollout:
    """The rollout as it fits into an object: the last announcements, and the findings of the latest of these
    and of the decisions.

    The sentence and the numbers of each verdict stay; of the oldest its single findings go first.
    """
    rollout = replace(rollout, announcements=rollout.announcements[-KEPT_ANNOUNCEMENTS:])
    whole = len(rollout.decisions)
    while whole and len(json.dumps(status_of(rollout))) > MOST_BYTES:
        whole //= 2
        rollout = replace(
            rollout,
            decisions=_shortened(rollout.decisions, whole),
            announcements=_shortened(rollout.announcements, whole),
        )
    return rollout


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shortened(entries: tuple[Any, ...], whole: int) -> tuple[Any, ...]:
    """The entries with the findings of all but the last `whole` left out."""
    first = len(entries) - whole
    return tuple(_without_findings(entry) if at < first else entry for at, entry in enumerate(entries))


def _without_findings(entry: Decision | Announcement) -> Decision | Announcement:
    verdict: Verdict | None = entry.verdict
    return entry if verdict is None else replace(entry, verdict=replace(verdict, findings=()))


def _shown(rollout: Rollout) -> Json:
    """What `kubectl get` prints, and the times as people read them."""
    stages = len(rollout.policy.stages)
    verdict = rollout.verdict
    shown = {
        "stage": f"{rollout.stage + 1}/{stages}" if rollout.stage >= 0 else f"-/{stages}",
        "weight": rollout.share,
        "verdict": verdict.answer.value if verdict else "-",
        "began": timestamp(rollout.began),
    }
    return shown | ({"ended": timestamp(rollout.ended)} if rollout.ended is not None else {})
