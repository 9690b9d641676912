"""Tables, for a terminal and for Markdown, and how numbers are said in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Table:
    """title: what it shows, in a sentence; notes: lines below it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def columns(self, *heads: str) -> "Table":
        """The same with these columns alone."""
        places = [self.heads.index(head) for head in heads]
        return Table(self.title, heads, [[row[place] for place in places] for row in self.rows], self.notes)

    def text(self) -> str:
        """In columns: the first to the left, the others to the right."""
        lines = [self.heads, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heads))]
        shown = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *shown, *self.notes])

    def markdown(self) -> str:
        rows = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            for line in (self.heads, *self.rows)
        ]
        rule = "|" + "---|" * len(self.heads)
        return "\n".join(
            [f"{self.title}.", "", rows[0], rule, *rows[1:], *(f"\n{note}" for note in self.notes)]
        )


def minutes(value: float | None) -> str:
    """None, inf: never."""
    return f"{value:.1f} min" if value is not None and isfinite(value) else "never"


def seconds(value: float | None) -> str:
    return f"{value:,.0f} s" if value is not None and isfinite(value) else "never"


def number(value: float | None, digits: int = 0) -> str:
    """None, inf: it cannot be said."""
    return f"{value:,.{digits}f}" if value is not None and isfinite(value) else "-"


def share(value: float) -> str:
    """0 and 100% only where they are exact."""
    text = f"{value:.1%}"
    return text if value in (0.0, 1.0) or text not in ("0.0%", "100.0%") else f"{value:.2%}"


def how_many(count: int, interval: Mapping[str, float]) -> str:
    """With the interval of its share, from "low" to "high"."""
    return f"{count} ({share(interval['low'])} to {share(interval['high'])})"


def missed(value: str, reached: bool) -> str:
    """The number, marked where it is not what it should be."""
    return value if reached else f"{value} (missed)"
