"""Tables and explanations on a terminal with colour, and the same plain and aligned when piped. rich is
imported for a terminal only."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from canaryd.domain import formatting
from canaryd.domain.formatting import aligned

if TYPE_CHECKING:
    from canaryd.report.explanation import Section

STYLES = {
    "Succeeded": "green",
    "Promoting": "green",
    "Progressing": "cyan",
    "Waiting": "dim",
    "AwaitingApproval": "yellow",
    "AwaitingGate": "yellow",
    "Held": "yellow",
    "RollingBack": "red",
    "RolledBack": "red",
    "GivingWay": "magenta",
    "Superseded": "magenta",
}
LEAST_PROSE = 30  # columns a sentence needs beside others; with fewer it has lines of its own


def is_terminal() -> bool:
    return sys.stdout.isatty()


def is_asking() -> bool:
    """Whether someone is there who can be asked."""
    return sys.stdin.isatty()


def table(head: Sequence[str], rows: Sequence[Sequence[str]], prose: bool = True) -> None:
    """Prints a table: a line for each row when piped, never cut; on a terminal the last column wraps, and
    stands below the others where there is no room beside them.

    prose: whether the last column is prose. Without prose, the cells of a row that is too wide are listed
    with their names.
    """
    if not is_terminal():
        for line in aligned([tuple(head), *map(tuple, rows)]):
            click.echo(line)
        return
    if not prose:
        head, rows = (*head, ""), [(*row, "") for row in rows]
    if _width_of_facts(head, rows) + (LEAST_PROSE if prose else 0) > terminal_columns():
        for line in narrow(head, rows, terminal_columns()):
            click.echo(line)
        return
    from rich.console import Console

    Console().print(rich_table(head, rows))


def narrow(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """The table for few columns: the last cell below the others; and these named one by one where a row of
    them has no room either."""
    if _width_of_facts(head, rows) <= columns:
        title, *facts = ([line] for line in aligned([tuple(head[:-1]), *(tuple(row[:-1]) for row in rows)]))
    else:
        title, facts = [], [_named(head, row, columns) for row in rows]
    lines = [click.style(line, bold=True) for line in title]
    for row, fact_lines in zip(rows, facts, strict=True):
        lines += [_coloured(line, row) for line in fact_lines]
        lines += wrap(row[-1], columns, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _named(head: Sequence[str], row: Sequence[str], columns: int) -> list[str]:
    """`SERVICE front-end  VERSIONS v1 → v2`, and so on, broken between the cells."""
    whole = "  ".join(
        f"{name} {cell}".replace(" ", "\N{NO-BREAK SPACE}")
        for name, cell in zip(head[:-1], row[:-1], strict=True)
    )
    return [
        line.replace("\N{NO-BREAK SPACE}", " ")
        for line in wrap(whole, columns, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _coloured(line: str, row: Sequence[str]) -> str:
    for cell in row:
        if cell in STYLES:
            style = STYLES[cell]
            line = line.replace(
                cell, click.style(cell, dim=True) if style == "dim" else click.style(cell, fg=style)
            )
    return line


def _width_of_facts(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of all but the last cell, two spaces apart."""
    return max(map(len, aligned([(*row[:-1], "") for row in (head, *rows)])))


def terminal_columns() -> int:
    return shutil.get_terminal_size().columns


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


def is_ascii() -> bool:
    """Whether the output takes nothing but ASCII, as under LC_ALL=C where Python does not make it UTF-8."""
    try:
        "▁→".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def encodable(line: str) -> str:
    """As it is, or as ASCII has it where the output takes nothing else."""
    return line.replace("→", "->").encode("ascii", "replace").decode() if is_ascii() else line


@contextmanager
def width_of_prose() -> Iterator[int]:
    """Within, sentences of an explanation are broken for the terminal that there is; for a pipe, and a wide
    one, as they are recorded. Yields the columns that a line of a section may have."""
    usual = formatting.WIDTH
    if is_terminal():
        formatting.WIDTH = max(LEAST_PROSE, min(usual, terminal_columns()))
    try:
        yield formatting.WIDTH - 2
    finally:
        formatting.WIDTH = usual


def explanation(sections: tuple[Section, ...]) -> None:
    """On a terminal with headings in bold, and what is wider than it broken between words."""
    if not is_terminal():
        from canaryd.report.explanation import text

        click.echo(encodable(text(sections)), nl=False)
        return
    for number, section in enumerate(sections):
        click.secho(encodable(f"{chr(10) if number else ''}{section.title}"), bold=True)
        for line in map(encodable, section.lines):
            for part in _broken(f"  {line}".rstrip(), terminal_columns()):
                click.echo(part)


def _broken(line: str, columns: int) -> list[str]:
    """The line, or its parts, which are set in deeper than it is."""
    margin = " " * (len(line) - len(line.lstrip()) + 2)
    return (
        wrap(line, columns, subsequent_indent=margin, break_on_hyphens=False)
        if len(line) > columns
        else [line]
    )


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def as_line(value: Any) -> None:
    """JSON on one line, at once: for readers of a stream."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
