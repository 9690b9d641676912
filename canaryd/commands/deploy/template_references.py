"""What a pod template names of its namespace, and where it mentions another one."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from canaryd.domain.namespace_objects import Manifest, Reference

CONFIG_MAP, SECRET, CLAIM, ACCOUNT = "ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"
PRIORITY_CLASS, RUNTIME_CLASS = "PriorityClass", "RuntimeClass"
WITH_KEYS = (CONFIG_MAP, SECRET)
_SYSTEM_CLASSES = ("system-cluster-critical", "system-node-critical")  # in every cluster

# Volume source -> the path in it to a Secret's name.
_SECRETS_OF_VOLUMES = {
    "csi": ("nodePublishSecretRef", "name"),
    "azureFile": ("secretName",),
    "cephfs": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "scaleIO": ("secretRef", "name"),
    "storageos": ("secretRef", "name"),
}


def references(template: Manifest) -> list[Reference]:
    """Every object a pod template names, each once with all keys it needs, ordered by kind and name. One that
    is named both optionally and not is needed."""
    found: dict[tuple[str, str], Reference] = {}
    for reference in _all(template.get("spec") or {}):
        before = found.get((reference.kind, reference.name))
        if before is not None:
            # What is optional in one place may be missing without the other place's keys.
            keys = (before.keys if not before.optional or reference.optional else frozenset()) | (
                reference.keys if not reference.optional or before.optional else frozenset()
            )
            reference = Reference(
                reference.kind,
                reference.name,
                keys,
                before.optional and reference.optional,
                tuple(dict.fromkeys(before.used + reference.used)),
            )
        found[reference.kind, reference.name] = reference
    return [found[key] for key in sorted(found)]


def _all(spec: Mapping[str, Any]) -> Iterator[Reference]:
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        yield from _of_container(container)
    for volume in spec.get("volumes") or []:
        yield from _of_volume(volume)
    for secret in spec.get("imagePullSecrets") or []:
        if secret.get("name"):
            yield Reference(SECRET, secret["name"], used=("imagePullSecrets",))
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account and account != "default":  # every namespace has that one
        yield Reference(ACCOUNT, account, used=("serviceAccountName",))
    priority = spec.get("priorityClassName")
    if priority and priority not in _SYSTEM_CLASSES:
        yield Reference(PRIORITY_CLASS, priority, used=("priorityClassName",))
    if spec.get("runtimeClassName"):
        yield Reference(RUNTIME_CLASS, spec["runtimeClassName"], used=("runtimeClassName",))


def _of_container(container: Mapping[str, Any]) -> Iterator[Reference]:
    for variable in container.get("env") or []:
        used = (f"env {variable.get('name')} of {container['name']}",)
        for field, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
            if (named := (variable.get("valueFrom") or {}).get(field)) and named.get("name"):
                yield Reference(
                    kind, named["name"], frozenset([named["key"]]), bool(named.get("optional")), used
                )
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if (named := source.get(field)) and named.get("name"):
                yield Reference(
                    kind,
                    named["name"],
                    frozenset(),
                    bool(named.get("optional")),
                    (f"envFrom of {container['name']}",),
                )


def _of_volume(volume: Mapping[str, Any]) -> Iterator[Reference]:
    used = (f"volume {volume.get('name')}",)
    if named := volume.get("configMap"):
        yield _with_items(CONFIG_MAP, named.get("name"), named, used)
    if named := volume.get("secret"):
        yield _with_items(SECRET, named.get("secretName"), named, used)
    if named := volume.get("persistentVolumeClaim"):
        yield Reference(CLAIM, named["claimName"], used=used)
    for source in (volume.get("projected") or {}).get("sources") or []:
        for field, kind in (("configMap", CONFIG_MAP), ("secret", SECRET)):
            if named := source.get(field):
                yield _with_items(kind, named.get("name"), named, used)
    for field, path in _SECRETS_OF_VOLUMES.items():
        value: Any = volume.get(field)
        for step in path:
            value = (value or {}).get(step)
        if value:
            yield Reference(SECRET, value, used=used)


def _with_items(kind: str, name: Any, source: Mapping[str, Any], used: tuple[str, ...]) -> Reference:
    keys = frozenset(str(item["key"]) for item in source.get("items") or [])
    return Reference(kind, str(name), keys, bool(source.get("optional")), used)


def mentions(value: Any, word: str) -> list[str]:
    """Every text below a value that has a namespace's name as a word of its own:
    `containers[front-end].env[API]: http://api.staging.svc`."""
    pattern = re.compile(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", re.IGNORECASE)
    return [f"{path}: {text}" for path, text in _texts(value, "") if pattern.search(text)]


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # told by the path already
            if not (key == "name" and isinstance(inner, str) and path.endswith(f"[{inner}]")):
                yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            name = item.get("name") if isinstance(item, Mapping) else None
            yield from _texts(item, f"{path}[{name if name is not None else at}]")
    elif isinstance(value, str):
        for line in value.splitlines():
            yield path, line.strip()
