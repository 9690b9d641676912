"""What an API server does with a custom resource's schema: unknown fields are dropped, defaults filled in,
wrong values refused.

The part of OpenAPI v3 that structural schemas of small CRDs use. Not evaluated are CEL rules
(x-kubernetes-validations), formats, and oneOf and its like.
"""

import re
from typing import Any

from canaryd_sandbox.kubernetes.resources import Object

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def crd_schema(crd: Object) -> Object:
    """The schema of a CustomResourceDefinition's stored version."""
    stored: Object = next((version for version in crd["spec"]["versions"] if version.get("storage")), {})
    schema: Object = stored.get("schema", {}).get("openAPIV3Schema", {})
    return schema


def fitted(value: Any, schema: Object, root: bool = True) -> Any:
    """The value without fields that the schema does not know, with its defaults. root: of an object with kind
    and metadata."""
    if isinstance(value, list) and "items" in schema:
        return [fitted(item, schema["items"], root=False) for item in value]
    if not isinstance(value, dict):
        return value
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    result: Object = {}
    for key, item in value.items():
        if root and key in ("apiVersion", "kind", "metadata"):
            result[key] = item
        elif key in known:
            if item is None and not known[key].get("nullable"):
                continue  # null is no value where the schema does not allow it
            result[key] = fitted(item, known[key], root=False)
        elif isinstance(more, dict):
            result[key] = fitted(item, more, root=False)
        elif more or schema.get("x-kubernetes-preserve-unknown-fields"):
            result[key] = item
    for key, of in known.items():
        if "default" in of and key not in result:
            result[key] = of["default"]
    return result


def problems(value: Any, schema: Object, path: str = "") -> list[str]:
    """What is wrong with a value, each as the server words it: `spec.service: Required value`."""
    where = path or "<root>"
    if value is None and schema.get("nullable"):
        return []
    wanted = "integer or string" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    types = (int, str) if schema.get("x-kubernetes-int-or-string") else TYPES.get(wanted, (object,))
    if not isinstance(value, types) or (
        isinstance(value, bool) and bool not in types and object not in types
    ):
        return [f"{where}: Invalid value: {value!r}: {where} in body must be of type {wanted}"]
    found = [f"{where}: {problem}" for problem in _limits(value, schema)]
    if isinstance(value, dict):
        found += [
            f"{_below(path, key)}: Required value" for key in schema.get("required", []) if key not in value
        ]
        known, more = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            of = known.get(key, more if isinstance(more, dict) else {})
            found += problems(item, of, _below(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += problems(item, schema.get("items", {}), f"{path}[{index}]")
    return found


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _limits(value: Any, schema: Object) -> list[str]:
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(
            f"Unsupported value: {value!r}: supported values: {', '.join(map(repr, schema['enum']))}"
        )
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"Invalid value: {value!r}: should be greater than or equal to {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"Invalid value: {value!r}: should be less than or equal to {schema['maximum']}")
    if isinstance(value, str | list):
        unit = "Length" if isinstance(value, str) else "Items"
        if len(value) < schema.get(f"min{unit}", 0):
            found.append(f"Invalid value: {value!r}: should have at least {schema[f'min{unit}']}")
        if len(value) > schema.get(f"max{unit}", len(value)):
            found.append(f"Too long: should have at most {schema[f'max{unit}']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"Invalid value: {value!r}: should match '{schema['pattern']}'")
    return found
