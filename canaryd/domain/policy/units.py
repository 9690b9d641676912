"""Durations, shares and rates as people write them (`1h30m`, `0.1%`, `50/s`), and the numbers they mean:
seconds, fractions and events per second.

Both directions are exact: `parse_...` reads what `format_...` writes back as the same float.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

_UNITS = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# Each unit at most once, the larger first; the lookahead refuses an empty text.
DURATION_PATTERN = (
    "^(?=[0-9])" + "".join(f"(?:{_NUMBER}{unit}{'(?!s)' if unit == 'm' else ''})?" for unit in _UNITS) + "$"
)
SHARE_PATTERN = f"^(?:{_NUMBER}%|0)$"
_COMPONENT = re.compile(rf"({_NUMBER})(ms|[dhms])")


def parse_duration(text: str, meant: Sequence[str] = ("s",)) -> float:
    """Parses a duration such as `90s`, `10m`, `1h30m`, `500ms` or `2d` into seconds.

    meant: the units that a number without a unit may have been meant in; the message lists them, and none is
    guessed. Raises ValueError for any other text, also for a number without a unit.
    """
    if not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise ValueError(
            f"must be a duration such as 90s, 10m or 1h30m, but is {text!r}{unit_hint(text, *meant)}"
        )
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in _COMPONENT.findall(text)))


def format_duration(seconds: float) -> str:
    """Writes seconds as people do: 5400.0 is `1h30m`, 0.5 is `500ms`, 0 is `0s`. Raises ValueError for a
    negative number."""
    rest = _exact(seconds)
    if rest < 0:
        raise ValueError(f"a duration must not be negative, but is {seconds}")
    parts = []
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count:f}{unit}")
    if rest:
        parts.append(f"{_plain(rest * 1000)}ms")
    return "".join(parts) or "0s"


def parse_share(text: str) -> float:
    """Parses a share into a fraction: `0.1%` is 0.001, `100%` is 1.0, `0` is 0. Raises ValueError for any
    other text: whether 5 means 5% or 500% is not guessed."""
    if not re.fullmatch(SHARE_PATTERN, text, re.ASCII):
        raise ValueError(f"must be a share such as 0.1% or 25%, but is {text!r}{unit_hint(text, '%')}")
    return float(Decimal(text.removesuffix("%")) / 100)


def format_share(share: float) -> str:
    """Writes a fraction as a percentage: 0.001 is `0.1%`."""
    return f"{_plain(_exact(share) * 100)}%"


def parse_rate(text: str) -> float:
    """Parses a rate such as `50/s`, `3000/m` or `200/h` into events per second. Raises ValueError for any
    other text, also for a number without a unit."""
    found = re.fullmatch(rf"({_NUMBER})/([smh])", text, re.ASCII)
    if found is None:
        raise ValueError(
            f"must be a rate such as 50/s, 3000/m or 200/h, but is {text!r}{unit_hint(text, '/s')}"
        )
    return float(Decimal(found[1]) / _UNITS[found[2]])


def _exact(number: float) -> Decimal:
    """The shortest decimal that is this float."""
    return Decimal(repr(float(number)))


def _plain(number: Decimal) -> str:
    """Writes a number without an exponent and without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def unit_hint(text: str, *meant: str) -> str:
    """Returns `: write 500ms or 500s, whichever is meant` for a number without a unit, and "" for any other
    text."""
    if not re.fullmatch(_NUMBER, text):
        return ""
    return (
        ": write "
        f"{' or '.join(text + unit for unit in meant)}{' if that' if len(meant) == 1 else ', whichever'} is "
        "meant"
    )
