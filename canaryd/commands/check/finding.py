"""One finding: what was looked at, what was found, what was wanted, and what fixes it."""

import io
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

# Text that YAML 1.1 has as a boolean, an octal or a sexagesimal number, and YAML 1.2, which is written here,
# does not.
_AMBIGUOUS = re.compile(r"(?i:y|n|yes|no|on|off)|[-+]?0[0-7_]+|[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?")


class Level(StrEnum):
    """Worst last, but for unknown, which is worse than ok and better than nothing."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """check: a name that stays, for CI, such as `routes.subsets`; its first part is the group it is shown in.

    service: namespace/name, "" for what is about the whole cluster. mend: what fixes it: commands, or YAML
    with a comment that says where it goes.
    """

    check: str
    level: Level
    about: str
    found: str
    wanted: str = ""
    mend: str = ""
    service: str = ""
    file: str = ""
    line: int = 0


def ok(check: str, about: str, found: str) -> Finding:
    """A finding that all is as wanted."""
    return Finding(check, Level.OK, about, found)


def unknown(check: str, about: str, found: str, wanted: str = "", mend: str = "") -> Finding:
    """A finding that something could not be looked at."""
    return Finding(check, Level.UNKNOWN, about, found, wanted, mend)


def warning(check: str, about: str, found: str, wanted: str, mend: str = "") -> Finding:
    """A finding that does not keep canaryd from working."""
    return Finding(check, Level.WARNING, about, found, wanted, mend)


def problem(check: str, about: str, found: str, wanted: str, mend: str = "") -> Finding:
    """A finding that keeps canaryd from working."""
    return Finding(check, Level.PROBLEM, about, found, wanted, mend)


def as_yaml(data: Any, where: str = "") -> str:
    """Plain data as YAML in kubectl's style. where: a comment above it, which says what it is part of."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096  # a line is a line: it is copied
    text = io.StringIO()
    yaml.dump(_quoted(data), text)
    return (f"# {where}\n" if where else "") + text.getvalue().rstrip("\n")


def _quoted(data: Any) -> Any:
    """The same, with quotes around text that YAML 1.1, which kubectl reads, takes for something else."""
    if isinstance(data, dict):
        return {key: _quoted(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_quoted(value) for value in data]
    return DoubleQuotedScalarString(data) if isinstance(data, str) and _AMBIGUOUS.fullmatch(data) else data


def some(names: list[str], most: int = 3) -> str:
    """`a, b, c and 4 more`; "none" for none."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names) or "none"


def many(number: int, noun: str) -> str:
    """A number with its noun: `1 pod`, `2 pods`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
