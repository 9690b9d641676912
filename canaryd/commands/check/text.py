"""What `check` prints: findings in groups, each a short line, with what fixes it below; and the same as
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
    for title, group in groups([finding for finding in found if not quiet or finding.level is not Level.OK]):
        click.secho(f"{title}" if quiet else f"\n{title}", bold=True)
        for finding in group:
            for line in lines(finding):
                click.echo(output.encodable(line))
    click.echo(f"{'' if quiet else chr(10)}{summary(found)}")


def heading(facts: Facts) -> str:
    """The first line: which services were checked, and where."""
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
    for finding in found:
        title = TITLES[finding.check.partition(".")[0]]
        titles.setdefault(f"{finding.service}: {title.lower()}" if finding.service else title, []).append(
            finding
        )
    yield from titles.items()


def lines(finding: Finding) -> Iterator[str]:
    """A finding: its level, what it is about and what was found; then what was wanted, and what fixes it,
    indented."""
    place = f" ({finding.file}:{finding.line})" if finding.file else ""
    summary, _, below = finding.found.partition("\n")
    first, *rest = _wrapped(f"{finding.about}: {summary}{place}", MARGIN + 2)
    level = click.style(f"{finding.level:<{MARGIN - 2}}", fg=COLOURS[finding.level])
    yield f"  {level}  {first}"
    margin = " " * (MARGIN + 2)
    yield from (f"{margin}{line}" for line in rest)
    if finding.wanted:
        yield from (f"{margin}{line}" for line in _wrapped(f"wanted: {finding.wanted}", MARGIN + 2))
    for line in [*below.splitlines(), *finding.mend.splitlines()]:
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
    """The last line: how many findings there are of each level."""
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
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
        "counts": {level.value: sum(finding.level is level for finding in found) for level in Level},
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.value,
                "service": finding.service or None,
                "about": finding.about,
                "found": finding.found,
                "wanted": finding.wanted or None,
                "mend": finding.mend or None,
                "file": finding.file or None,
                "line": finding.line or None,
            }
            for finding in found
        ],
    }
