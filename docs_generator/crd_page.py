"""reference/crd.md, from the custom resource definition of the chart."""

from collections.abc import Iterator, Mapping
from typing import Any

import ruamel.yaml

from docs_generator import ROOT
from docs_generator.markdown import code, page, plain, table

CRD = ROOT / "charts" / "canaryd" / "crds" / "canaryrollouts.yaml"


def crd_page() -> str:
    """The page, in Markdown."""
    definition = ruamel.yaml.YAML(typ="safe").load(CRD.read_text(encoding="utf-8"))
    spec = definition["spec"]
    [version] = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    names, properties = spec["names"], schema["properties"]
    columns = [
        (column["name"], code(column["jsonPath"]), "with `-o wide`" if column.get("priority") else "always")
        for column in version["additionalPrinterColumns"]
    ]
    return page(
        names["kind"],
        f"`{spec['group']}/{version['name']}`, {spec['scope'].lower()}; `kubectl get {names['plural']}`, or "
        f"{', '.join(code(name) for name in names['shortNames'])}. {plain(schema['description'])} The "
        "record is in the "
        "service's namespace (of a release bracket, in that of its first service). People write `spec`; "
        "canaryd writes "
        "`status`. Kubernetes is the only database that canaryd has.",
        "## What kubectl shows",
        table(("column", "from", "shown"), columns),
        "## spec",
        plain(properties["spec"]["description"]),
        _keys(properties["spec"]),
        "## status",
        plain(properties["status"]["description"]),
        _keys(properties["status"]),
    )


def _keys(schema: Mapping[str, Any]) -> str:
    return table(("key", "what", "meaning"), _rows(schema, ""))


def _rows(schema: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    for key, value in schema.get("properties", {}).items():
        listed = value.get("type") == "array"
        below = value.get("items", {}) if listed else value
        kind = (
            f"list of {below.get('type', 'object')}"
            if listed
            else value.get("format") or value.get("type", "")
        )
        required = " (required)" if key in schema.get("required", ()) else ""
        yield code(above + key) + required, str(kind), plain(" ".join(value.get("description", "").split()))
        yield from _rows(below, f"{above}{key}{'[]' if listed else ''}.")
