"""reference/rbac.md, from the chart's ClusterRole."""

import re

import ruamel.yaml

from docs_generator import ROOT
from docs_generator.markdown import code, page, table

CHART = ROOT / "charts" / "canaryd" / "templates" / "rbac.yaml"

PEOPLE = (ROOT / "docs_generator" / "texts" / "rights_of_people.md").read_text(encoding="utf-8")


def rules() -> list[tuple[str, list[str], list[str], list[str]]]:
    """Reason, API groups, resources and verbs of each rule of the ClusterRole, in its order."""
    text = CHART.read_text(encoding="utf-8")
    block = text.partition("\nrules:\n")[2].partition("\n---")[0]
    found = []
    reason: list[str] = []
    for part in re.split(r"\n(?=  (?:#|- ))", "\n" + block):
        part = part.strip("\n")
        if part.lstrip().startswith("#"):
            reason.append(part.strip().lstrip("# "))
            continue
        for rule in ruamel.yaml.YAML(typ="safe").load(part) or ():
            found.append((" ".join(reason), rule["apiGroups"], rule["resources"], rule["verbs"]))
        reason = []
    return found


def rbac_page() -> str:
    """The page, in Markdown."""
    rows = []
    for reason, groups, resources, verbs in rules():
        group = ", ".join(code(group) if group else "core" for group in groups)
        rows.append((group, ", ".join(map(code, resources)), ", ".join(map(code, verbs)), reason))
    return page(
        "Rights",
        "## The rights of the daemon",
        "The chart's ClusterRole has exactly what the daemon does, and no more: a test compares it with "
        "the API server's audit log. "
        "It may create no Deployment, and it changes no Deployment but for the number of replicas, where a "
        "policy asks for that.",
        table(("API group", "resources", "verbs", "what for"), rows),
        PEOPLE,
    )
