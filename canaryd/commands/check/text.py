"""What `check` prints: findings in groups, each a short line, with what mends it below; and the same as
data."""

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

import click

from canaryd.cli import output
from canaryd.commands.check.finding import Finding, Level, many
from canaryd.domain import formatting
from canaryd.domain.check_facts import Facts

TITLES = {
    "files": "Files",
    "istio": "Istio",
    "telemetry": "Telemetry",
    "rights": "Rights",
    "candidates": "Services that could have a policy",
    "injection": "Mesh",
    "routes": "Routes",
    "gateways": "Routes",
    "matches": "Routes",
    "workloads": "Workloads",
    "rivals": "Others who write the route",
}
COLOURS = {Level.OK: "green", Level.UNKNOWN: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "red"}
MARGIN = 9  # columns of the widest level, and two spaces


def show(facts: Facts, found: Sequence[Finding], quiet: bool) -> None:
    """All of it, or (quiet) only what is not ok, and a last line that counts."""
    if not quiet:
        click.echo(heading(facts))
    for title, group in groups([one for one in found if not quiet or one.level is not Level.OK]):
        click.secho(f"{title}" if quiet else f"\n{title}", bold=True)
        for one in group:
            for line in lines(one):
                click.echo(output.encodable(line))
    click.echo(f"{'' if quiet else chr(10)}{summary(found)}")


def heading(facts: Facts) -> str:
    services = ", ".join("/".join(policy.key) for policy in facts.policies) or (
        "no service" if facts.offline else "no policy given"
    )
    return (
        f"{services}, from files"
        if facts.offline
        else f"{services} on {facts.server} ({facts.server_version})"
    )


def groups(found: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Findings under their titles, in their order; a service's are named with it."""
    titles: dict[str, list[Finding]] = {}
    for one in found:
        title = TITLES[one.check.partition(".")[0]]
        titles.setdefault(f"{one.service}: {title.lower()}" if one.service else title, []).append(one)
    yield from titles.items()


def lines(one: Finding) -> Iterator[str]:
    """A finding: its level, what it is about and what was found; then what was wanted, and what mends it, set
    in."""
    place = f" ({one.file}:{one.line})" if one.file else ""
    said, _, below = one.found.partition("\n")
    first, *rest = _wrapped(f"{one.about}: {said}{place}", MARGIN + 2)
    yield f"  {click.style(f'{one.level:<{MARGIN - 2}}', fg=COLOURS[one.level])}  {first}"
    margin = " " * (MARGIN + 2)
    yield from (f"{margin}{line}" for line in rest)
    if one.wanted:
        yield from (f"{margin}{line}" for line in _wrapped(f"wanted: {one.wanted}", MARGIN + 2))
    for line in [*below.splitlines(), *one.mend.splitlines()]:
        yield f"{margin}  {line}".rstrip()


def _wrapped(text: str, margin: int) -> list[str]:
    columns = output.terminal_columns() if output.is_terminal() else formatting.WIDTH
    return wrap(
        text,
        max(output.LEAST_PROSE, columns - margin),
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    ) or [""]


def summary(found: Sequence[Finding]) -> str:
    counts = {level: sum(one.level is level for one in found) for level in Level}
    parts = [
        many(counts[Level.PROBLEM], "problem"),
        many(counts[Level.WARNING], "warning"),
        f"{counts[Level.UNKNOWN]} not known",
        f"{counts[Level.OK]} ok",
    ]
    return ", ".join(parts)


def as_data(facts: Facts, found: Sequence[Finding], code: int) -> dict[str, Any]:
    """What `check -o json` prints. Keys are only ever added; a check's name stays."""
    return {
        "server": facts.server or None,
        "services": ["/".join(policy.key) for policy in facts.policies],
        "exitCode": code,
        "counts": {level.value: sum(one.level is level for one in found) for level in Level},
        "findings": [
            {
                "check": one.check,
                "level": one.level.value,
                "service": one.service or None,
                "about": one.about,
                "found": one.found,
                "wanted": one.wanted or None,
                "mend": one.mend or None,
                "file": one.file or None,
                "line": one.line or None,
            }
            for one in found
        ],
    }
