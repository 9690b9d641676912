"""Odds over time as a few lines of text: a column for each look, or for several where there is no room. Pure
text.

Below them, in one line, how much of what a stage must rule out is ruled out; full is all of it.

The scale is logarithmic, from what clears a version (1 to 20) to what rolls it back (100 to 1): evidence
multiplies, so even steps are even evidence. Only a look that reached the bar fills the topmost cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, log

from canaryd.domain.formatting import odds_text

ROWS = 4
FEWEST_COLUMNS = 8  # of the plot itself, however narrow the terminal
MOST_COLUMNS = 100
WIDE = 4  # columns that a look has where there are few: a line of dots is no picture


@dataclass(frozen=True, slots=True)
class Signs:
    """What a plot is drawn with. levels: from the lowest part of a cell to a full one."""

    levels: str
    axis: str
    corner: str
    line: str
    none: str


BLOCKS = Signs("▁▂▃▄▅▆▇█", "┤", "└", "─", "·")
ASCII = Signs(".:-=+*%#", "|", "+", "-", "?")


@dataclass(frozen=True, slots=True)
class Series:
    """odds: of each look, None where it had no data. stages: where a stretch at one weight begins, with names
    for it, the longest first.
    marks: one sign for what was decided at a look. low, bar: the odds at the ends of the scale. cleared: odds
    that nothing unacceptable is there, None where nothing is ruled out (at full weight); full at 1 / low."""

    odds: Sequence[float | None]
    cleared: Sequence[float | None]
    stages: Mapping[int, Sequence[str]]
    marks: Mapping[int, str]
    low: float
    bar: float


def looks_a_column(series: Series, width: int) -> int:
    """How many looks a column stands for, in `width` columns of text."""
    return max(1, ceil(len(series.odds) / _room(series, width)))


def _room(series: Series, width: int) -> int:
    return max(FEWEST_COLUMNS, min(MOST_COLUMNS, width - _label_width(series) - 2))


def _borders(series: Series) -> list[str]:
    """The odds at the borders of the rows, the lowest first."""
    return [
        odds_text(exp(log(series.low) + row / ROWS * (log(series.bar) - log(series.low))))
        for row in range(ROWS + 1)
    ]


def _label_width(series: Series) -> int:
    return max(map(len, ("ruled out", *_borders(series))))


def plot(series: Series, width: int, plain: bool = False) -> list[str]:
    """Lines of at most `width` columns (or of FEWEST_COLUMNS and their labels). plain: ASCII alone. [] where
    there are no looks."""
    looks = len(series.odds)
    if not looks:
        return []
    signs, looks_per_column, room, label = (
        ASCII if plain else BLOCKS,
        looks_a_column(series, width),
        _room(series, width),
        _label_width(series),
    )
    wide = max(1, min(WIDE, room // looks))
    begins, borders = range(0, looks, looks_per_column), _borders(series)
    levels = [_level(series, _known(series.odds[at : at + looks_per_column])) for at in begins]
    lines = [
        f"{borders[row + 1]:>{label}} {signs.axis}"
        + "".join(_cell(level, row, signs) * wide for level in levels)
        for row in reversed(range(ROWS))
    ]
    lines.append(f"{borders[0]:>{label}} {signs.corner}{signs.line * wide * len(levels)}")
    ruled_out = "".join(
        _ruled_out(series, _known(series.cleared[at : at + looks_per_column]), signs) * wide for at in begins
    )
    lines.append(f"{'ruled out':>{label}}  {ruled_out}")
    lines.append(
        f"{'stage':>{label}}  "
        + _named({at // looks_per_column * wide: names for at, names in series.stages.items()}, room)
    )
    if series.marks:
        # of several in one column the last
        marked = {at // looks_per_column: sign for at, sign in sorted(series.marks.items())}
        lines.append(
            f"{'decided':>{label}}  "
            + "".join(marked.get(column, " ").rjust(wide) for column in range(len(levels)))
        )
    return [line.rstrip() for line in lines]


def _known(odds: Sequence[float | None]) -> list[float]:
    return [known for known in odds if known is not None]


def _level(series: Series, odds: Sequence[float]) -> int | None:
    """How high a column is, in parts of cells: by the highest odds in it; None where no look had data."""
    if not odds:
        return None
    parts, highest = ROWS * len(BLOCKS.levels), max(odds)
    if highest >= series.bar:
        return parts
    height = log(max(highest, series.low) / series.low) / log(series.bar / series.low)
    return max(1, min(parts - 1, round(height * parts)))


def _ruled_out(series: Series, cleared: Sequence[float], signs: Signs) -> str:
    """One cell: by the last of a column's looks, so that a stage that begins is seen to begin anew."""
    if not cleared:
        return " "
    full = len(signs.levels)
    part = round(log(max(cleared[-1], 1.0)) / -log(series.low) * full)
    return signs.levels[(full if cleared[-1] >= 1.0 / series.low else max(1, min(full - 1, part))) - 1]


def _cell(level: int | None, row: int, signs: Signs) -> str:
    if level is None:
        return signs.none if row == 0 else " "
    part = level - row * len(signs.levels)
    return " " if part <= 0 else signs.levels[min(part, len(signs.levels)) - 1]


def _named(stages: Mapping[int, Sequence[str]], room: int) -> str:
    """Each stretch's name in the column where it begins, the longest that there is room for; none of a
    stretch too short for any."""
    begins = sorted(stages.items())
    line = ""
    for (column, names), (until, _) in zip(begins, [*begins[1:], (room + 1, ())], strict=True):
        name = next((fitting for fitting in names if len(fitting) < until - column), "")
        line = line.ljust(column) + name
    return line
