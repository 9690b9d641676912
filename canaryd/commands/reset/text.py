"""A reset as text: the diff of each object, what is deleted, and what stays and why."""

import difflib
import io
from collections.abc import Sequence
from typing import Any

import click
from ruamel.yaml import YAML

from canaryd.adapters.kube.cleanup import MARK, Change
from canaryd.cli import output
from canaryd.commands.reset.steps import ResetPlan

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def shown(plan: ResetPlan, changes: Sequence[Change]) -> None:
    """Prints what is due to a service."""
    click.echo(f"{plan.name}: {_headline(plan)}")
    for kept in plan.under_way:
        click.echo(
            f"  abort {kept.name} first" if kept.phase else f"  take back {kept.name}, which has not begun"
        )
    for change in changes:
        click.echo(diff_of(change))
    if plan.renewed is not None:
        note, templates = plan.renewed
        click.echo(
            f"  ConfigMap {plan.namespace}/canaryd-{plan.service}: {len(note.known)} known templates become "
            f"those that run now: {', '.join(sorted(templates)) or 'none'}"
        )
    for line in plan.messages:
        click.echo(f"  {line}")


def _headline(plan: ResetPlan) -> str:
    if not plan.anything:
        return "nothing to do"
    return f"all traffic to {plan.version}" if plan.version else "its routes stay"


def without_shown(swept: Sequence[Change], shown_before: Sequence[Change]) -> list[Change]:
    """What is swept away besides: not what was shown before as deleted, nor as left without a mark."""
    clean = {
        _key(change)
        for change in shown_before
        if change.after is None or not _plain(change.after)["metadata"]
    }
    return [change for change in swept if _key(change) not in clean]


def _key(change: Change) -> tuple[str, str, str]:
    return change.kind, change.namespace, change.name


def diff_of(change: Change) -> str:
    """A unified diff of what a person would have written, or one line for a deletion."""
    name = f"{change.kind} {change.namespace}/{change.name}"
    if change.after is None:
        return f"  delete {name}"
    before, after = (_yaml(_plain(obj)) for obj in (change.before, change.after))
    lines = list(difflib.unified_diff(before, after, name, name, lineterm=""))
    if not output.is_terminal():
        return "\n".join(f"  {line}" for line in lines)
    return "\n".join(
        f"  {click.style(line, fg=_COLOURS[line[0]]) if line[0] in _COLOURS else line}" for line in lines
    )


def _plain(obj: Any) -> dict[str, Any]:
    """What is shown of an object: its spec, and canaryd's marks."""
    metadata = obj.get("metadata") or {}
    marks = {
        kind: {key: value for key, value in (metadata.get(kind) or {}).items() if key.startswith(MARK)}
        for kind in ("annotations", "labels")
    }
    return {"metadata": {kind: own for kind, own in marks.items() if own}, "spec": obj.get("spec") or {}}


def _yaml(value: dict[str, Any]) -> list[str]:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096  # one value, one line of the difference
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().splitlines()
