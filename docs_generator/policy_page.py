"""reference/policy.md, from the JSON schema of policies: what `canaryd schema` prints."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from canaryd.adapters.policies.policy_files import json_schema
from docs_generator import ROOT
from docs_generator.markdown import code, page, plain, table

Schema = Mapping[str, Any]
EXAMPLE = ROOT / "policies" / "front-end.yaml"
KINDS = {"integer": "whole number", "string": "text", "boolean": "true or false", "number": "number"}


def policy_page() -> str:
    """The page, in Markdown."""
    schema = json_schema()
    definitions = schema["$defs"]
    blocks = [
        "One file is the policy of one service. Every key is here, with its default; `canaryd schema` "
        "prints the same as a "
        "JSON Schema for editors, and `canaryd validate` reports every mistake of a file at once, with "
        "file, line and key.",
        "Durations need a unit (`90s`, `10m`, `1h30m`), and so do shares (`0.1%`). An edit applies to the "
        "next rollout: a "
        "rollout under way keeps the policy that it began with.",
        "## Top level",
        _keys(schema),
    ]
    for name in _in_order(schema):
        blocks += [
            f"## {name}",
            plain(" ".join(definitions[name].get("description", "").split())),
            _keys(definitions[name]),
        ]
    blocks += [
        "## A policy with every key",
        "This is `policies/front-end.yaml`. What it says is the default unless the comment says otherwise.",
        f"```yaml\n{EXAMPLE.read_text(encoding='utf-8').rstrip()}\n```",
    ]
    return page("The policy", *blocks)


def _in_order(schema: Schema) -> list[str]:
    """The definitions in the order in which a reader meets them."""
    found: list[str] = []
    unread = list(_references(schema["properties"]))
    while unread:
        name = unread.pop(0)
        if name not in found:
            found.append(name)
            unread += _references(schema["$defs"][name])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _keys(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (
            code(key) + (" (required)" if key in required else ""),
            _kind(value),
            _default(value),
            plain(value.get("description", "")),
        )
        for key, value in schema.get("properties", {}).items()
    ]
    return table(("key", "what", "default", "meaning"), rows) if rows else ""


def _kind(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return code(json.dumps(schema["const"]).strip('"'))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"] if value is not None)
    if "anyOf" in schema:
        kinds = dict.fromkeys(
            _kind(subschema) for subschema in schema["anyOf"] if subschema.get("type") != "null"
        )
        return " or ".join(kinds)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if schema.get("items") else "list"
    if schema.get("type") == "object" or "additionalProperties" in schema or "patternProperties" in schema:
        return "map"
    if "examples" in schema:
        return "such as " + code(str(schema["examples"][0]))
    pattern = str(schema.get("pattern", ""))
    if "%" in pattern:
        return "such as `5%`"
    return KINDS.get(str(schema.get("type", "")), "")


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    if isinstance(default, dict | list):
        shown = json.dumps(default)
        return code(shown) if len(shown) < 30 else "see there"
    return code(json.dumps(default).strip('"'))
