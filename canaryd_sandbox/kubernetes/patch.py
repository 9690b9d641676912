"""Patches and selectors as Kubernetes has them: pure functions over JSON values.

JSON Patch is RFC 6902, JSON Merge Patch RFC 7386. Nothing here changes its arguments.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from canaryd_sandbox.kubernetes.resources import ApiError, Object

# By which key strategic merge matches the items of a list, by the list's field name; every other list is
# replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "conditions": "type",
    "ownerReferences": "uid",
}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge(target: Any, patch: Any) -> Any:
    """Merge patch that also merges the lists of `MERGE_KEYS` item by item; of the directives `$patch: delete`
    and `replace`."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue  # element order and retained keys: hints that change nothing here
        if value is None:
            merged.pop(key, None)
        elif key in MERGE_KEYS and isinstance(value, list) and all(isinstance(item, dict) for item in value):
            merged[key] = _merge_items(merged.get(key) or [], value, MERGE_KEYS[key])
        else:
            merged[key] = strategic_merge(merged.get(key), value)
    return merged


def _merge_items(old: list[Object], new: list[Object], key: str) -> list[Object]:
    items = list(old)
    for item in new:
        if item.get("$patch") == "replace":
            items = []
            continue
        place = next(
            (i for i, known in enumerate(items) if key in item and known.get(key) == item[key]), None
        )
        if item.get("$patch") == "delete":
            if place is not None:
                del items[place]
        elif place is None:
            items.append(strategic_merge({}, item))
        else:
            items[place] = strategic_merge(items[place], item)
    return items


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902, all operations or none.

    ApiError 400 for what is no patch, 422 for one that does not fit the object: a missing path or a failed
    `test`.
    """
    if not isinstance(operations, list) or not all(
        isinstance(op, dict) and "op" in op and "path" in op for op in operations
    ):
        raise ApiError(400, "BadRequest", "json: a JSON patch is a list of operations, each with op and path")
    document = {"": copy.deepcopy(target)}
    try:
        for operation in operations:
            _operate(document, operation)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ApiError(
            422, "Invalid", "the server rejected our request due to an error in our request"
        ) from error
    return document[""]


def _operate(document: Any, operation: Object) -> None:
    op, path = operation["op"], operation["path"]
    if op == "test":
        if not equal(_get(document, path), operation["value"]):
            raise ValueError(f"testing value {path} failed")
    elif op == "remove":
        _remove(document, path)
    elif op == "add":
        _add(document, path, operation["value"])
    elif op == "replace":
        _get(document, path)
        _remove(document, path)
        _add(document, path, operation["value"])
    elif op in ("copy", "move"):
        value = copy.deepcopy(_get(document, operation["from"]))
        if op == "move":
            _remove(document, operation["from"])
        _add(document, path, value)
    else:
        raise ApiError(400, "BadRequest", f"json: unexpected kind of operation: {op!r}")


def equal(left: Any, right: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"a JSON pointer starts with /, but is {path!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]


def _get(document: Any, path: str) -> Any:
    for step in _steps(path):
        document = document[_index(step, len(document))] if isinstance(document, list) else document[step]
    return document


def _index(step: str, length: int) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]*", step) or int(step) >= length:
        raise IndexError(step)
    return int(step)


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *above, last = _steps(path)
    for step in above:
        document = document[_index(step, len(document))] if isinstance(document, list) else document[step]
    return document, last


def _add(document: Any, path: str, value: Any) -> None:
    parent, last = _parent(document, path)
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), copy.deepcopy(value))
    elif isinstance(parent, dict):
        parent[last] = copy.deepcopy(value)
    else:
        raise TypeError(f"{path}: its parent is neither an object nor a list")


def _remove(document: Any, path: str) -> None:
    parent, last = _parent(document, path)
    del parent[_index(last, len(parent)) if isinstance(parent, list) else last]


Selector = Callable[[Object], bool]
_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*")
_EQUALITY = re.compile(r"\s*([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")


def label_selector(text: str) -> Selector:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k` as a predicate on objects. ApiError 400 for anything else."""
    terms = [_label_term(term) for term in re.split(r",(?![^(]*\))", text) if term.strip()]

    def matches(obj: Object) -> bool:
        labels = obj.get("metadata", {}).get("labels") or {}
        return all(term(labels) for term in terms)

    return matches


def _label_term(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(term):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALITY.fullmatch(term):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.fullmatch(term):
        absent, key = found.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise ApiError(400, "BadRequest", f"unable to parse requirement: {term!r} is no label selector")


def field_selector(text: str, resource_fields: frozenset[str] = frozenset()) -> Selector:
    """`metadata.name=x,metadata.namespace!=y` and the fields named as a predicate. ApiError 400 for any other
    field."""
    terms: list[tuple[str, bool, str]] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUALITY.fullmatch(term)
        if not found or found.group(1) not in {"metadata.name", "metadata.namespace"} | resource_fields:
            raise ApiError(400, "BadRequest", f"field label not supported: {term}")
        terms.append((found.group(1), found.group(2) != "!=", found.group(3)))

    def value(obj: Any, path: str) -> str:
        for step in path.split("."):
            obj = obj.get(step, "") if isinstance(obj, dict) else ""
        return str(obj)

    return lambda obj: all((value(obj, path) == wanted) == same for path, same, wanted in terms)
