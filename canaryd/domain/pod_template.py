"""The identity of a pod template: a hash that does not depend on what the API server and restarts write into
it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
HASH_DIGITS = 10

# What the API server writes where the manifest says nothing. Left out of the hash, so that a template is the
# same template before and after it was stored, and after an upgrade of the cluster that fills in no more than
# these.
_DEFAULTS: Mapping[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "protocol": "TCP",
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30,
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
    "scheme": "HTTP",
    "defaultMode": 420,
}
# The author's own words, where an empty value says something; and selectors, where {} is "all" and nothing is
# "none".
_VERBATIM = ("labels", "annotations", "nodeSelector", "labelSelector", "namespaceSelector", "matchLabels")


def template_hash(template: Mapping[str, Any]) -> str:
    """The first ten hexadecimal digits of SHA-256 over a pod template's canonical JSON.

    Left out: the annotation that `kubectl rollout restart` writes, empty fields, and what the API server
    fills in.
    """
    plain = dict(template)
    metadata = dict(plain.get("metadata") or {})
    metadata.pop("creationTimestamp", None)
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key != RESTARTED_AT
    }
    plain["metadata"] = {**metadata, "annotations": annotations or None}
    canonical = json.dumps(_without_noise(plain), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_DIGITS]


def _without_noise(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {}
        for key, inner in value.items():
            # serviceAccount is the deprecated twin that the server writes beside serviceAccountName.
            if inner is None or (key == "serviceAccount" and value.get("serviceAccountName") == inner):
                continue
            if key in _VERBATIM:
                kept[key] = inner
            elif (
                inner not in ({}, [], "")
                and not (key in _DEFAULTS and _DEFAULTS[key] == inner)
                and not _is_own_default(key, inner, value)
            ):
                kept[key] = _without_noise(inner)
        return kept
    return [_without_noise(item) for item in value] if isinstance(value, list) else value


def _is_own_default(key: str, value: Any, container: Mapping[str, Any]) -> bool:
    """The defaults that depend on a neighbour: how an image is pulled depends on its tag."""
    if key == "apiVersion":
        return bool(value == "v1" and "fieldPath" in container)
    if key != "imagePullPolicy":
        return False
    image = str(container.get("image", ""))
    tag = image.rsplit("/", 1)[-1].partition("@")[0].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    return bool(value == ("Always" if latest else "IfNotPresent"))
