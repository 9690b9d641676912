"""What an API server does with its own kinds before it keeps them: defaults are filled in, what cannot work
is refused.

Only what is relied upon: the rest of their validation is the real server's.
"""

import base64
from collections.abc import Callable
from typing import Any

from canaryd_sandbox.kubernetes.resources import Object


def fitted(plural: str, obj: Object) -> tuple[Object, list[str]]:
    """The object with defaults, and what is wrong with it, each as the server words it."""
    made = _FITTED.get(plural)
    return made(obj) if made is not None else (obj, [])


def _deployment(obj: Object) -> tuple[Object, list[str]]:
    spec = obj.get("spec") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    wrong = []
    if not spec.get("selector"):
        wrong.append("spec.selector: Required value")
    elif not (spec["selector"].get("matchLabels") or {}).items() <= labels.items():
        wrong.append(
            f"spec.template.metadata.labels: Invalid value: {labels!r}: `selector` does not match template "
            "`labels`"
        )
    return {**obj, "spec": {"replicas": 1, **spec}}, wrong


def _autoscaler(obj: Object) -> tuple[Object, list[str]]:
    spec = obj.get("spec") or {}
    most: Any = spec.get("maxReplicas") or 0
    wrong = [] if most > 0 else ["spec.maxReplicas: Required value: must be set and greater than 0"]
    for key in ("kind", "name"):
        if not (spec.get("scaleTargetRef") or {}).get(key):
            wrong.append(f"spec.scaleTargetRef.{key}: Required value")
    return {**obj, "spec": {"minReplicas": 1, **spec}}, wrong


def _secret(obj: Object) -> tuple[Object, list[str]]:
    plain = {
        key: base64.b64encode(str(value).encode()).decode()
        for key, value in (obj.get("stringData") or {}).items()
    }
    kept = {key: value for key, value in obj.items() if key != "stringData"}
    return {"type": "Opaque", **kept, "data": {**(obj.get("data") or {}), **plain}}, []


_FITTED: dict[str, Callable[[Object], tuple[Object, list[str]]]] = {
    "deployments": _deployment,
    "horizontalpodautoscalers": _autoscaler,
    "secrets": _secret,
}
