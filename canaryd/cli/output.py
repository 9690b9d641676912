"""Tables and explanations on a terminal with colour, and the same plain and aligned when piped. rich is imported for a terminal only."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from canaryd.analysis.explain import Section, text
from canaryd.analysis.wording import aligned

STYLES = {
    "Succeeded": "green", "Promoting": "green", "Progressing": "cyan", "Waiting": "dim", "AwaitingApproval": "yellow", "Held": "yellow",
    "RollingBack": "red", "RolledBack": "red", "GivingWay": "magenta", "Superseded": "magenta",
}  # fmt: skip


def is_terminal() -> bool:
    return sys.stdout.isatty()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One line each when piped, never cut; on a terminal the last column wraps."""
    if not is_terminal():
        for line in aligned([tuple(head), *map(tuple, rows)]):
            click.echo(line)
        return
    from rich.console import Console

    Console().print(rich_table(head, rows))


def rich_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in head[:-1]:
        made.add_column(name, no_wrap=True)
    made.add_column(head[-1], overflow="fold")
    for row in rows:
        made.add_row(*(f"[{STYLES[cell]}]{cell}[/]" if cell in STYLES else escape(cell) for cell in row))
    return made


def explanation(sections: tuple[Section, ...]) -> None:
    """Headings in bold on a terminal."""
    if not is_terminal():
        click.echo(text(sections), nl=False)
        return
    for number, section in enumerate(sections):
        click.secho(f"{chr(10) if number else ''}{section.title}", bold=True)
        for line in section.lines:
            click.echo(f"  {line}".rstrip())


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def as_line(value: Any) -> None:
    """JSON on one line, at once: for readers of a stream."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
