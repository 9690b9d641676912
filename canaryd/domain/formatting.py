"""Numbers, times and tables as people read them. Nothing here knows what they are about."""

from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import wrap

from canaryd.domain.policy.units import format_duration

WIDTH = 118  # columns of prose; a table may be as wide as its names need
SAID_FULLY = 1e6  # odds beyond this are said as "more than": the digits mean nothing to anyone


def odds_text(odds: float) -> str:
    """`140 to 1`; below even `1 to 5.0`; what is nearly even is called so: `1.0 to 1`."""
    if odds >= SAID_FULLY:
        return f"more than {SAID_FULLY:,.0f} to 1"
    if odds <= 1 / SAID_FULLY:
        return f"less than 1 to {SAID_FULLY:,.0f}"
    if odds < 1 / 1.05:
        return f"1 to {short(1 / odds)}"
    return f"{short(max(odds, 1.0))} to 1"


def share_text(events: int, requests: int) -> str:
    """`12 of 2,300 (0.52%)`."""
    return f"{events:,} of {requests:,}" + (f" ({percent_text(events / requests)})" if requests else "")


def percent_text(share: float) -> str:
    """Two significant digits, never in exponents: `0.52%`, `5.1%`, `12%`, `100%`."""
    percent = 100 * share
    if 0 < percent < 0.01:
        return "<0.01%"
    if percent >= 9.95 or percent == 0:
        return f"{percent:.0f}%"
    return f"{percent:.1f}%" if percent >= 0.995 else f"{percent:.2g}%"


def points_text(share: float) -> str:
    """A difference of two shares: `0.5 percentage points`."""
    return f"{100 * share:.2g} percentage points"


def time_text(at: float, day: bool = False) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC" if day else "%H:%M:%S")


def lasting(seconds: float) -> str:
    """`1m30s`: whole seconds below an hour, whole minutes below two days, hours above."""
    grain = 1 if seconds < 3600 else 60 if seconds < 2 * 86400 else 3600
    return format_duration(max(0, grain * round(seconds / grain)))


def short(number: float) -> str:
    """Two or three digits that matter."""
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.1f}" if number >= 0.995 else f"{number:.2g}"


def wrapped(sentence: str, indent: str = "") -> list[str]:
    """The lines of a sentence, none wider than `WIDTH` less the two columns of a section. indent: before
    each."""
    return wrap(
        sentence, WIDTH - 2, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ) or [""]


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Columns of equal width, two spaces apart. right: columns that are set flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
