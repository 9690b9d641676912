"""The types of values in policies and settings: durations, shares, Kubernetes names and labels.

Each is a pydantic type: its refusal says what is wanted, it is written as people write it, and it has a JSON
Schema. In files (`StrictModel.read`) a duration or a share needs its unit; in code both are plain numbers,
seconds and fractions.
"""

import re
from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

from canaryd.domain.policy.units import (
    DURATION_PATTERN,
    SHARE_PATTERN,
    format_duration,
    format_share,
    parse_duration,
    parse_share,
    unit_hint,
)
from canaryd.domain.policy.validation import Key, refusal, refuse_at, shown

_Names = TypeVar("_Names", bound=tuple[Any, ...])


def _seconds(value: object, info: ValidationInfo, meant: tuple[str, ...] = ("s",)) -> float:
    """Parses text. A bare number is seconds in code, and is refused in files; meant: the units that it may
    have been meant in."""
    if isinstance(value, str):
        return _parsed(lambda text: parse_duration(text, meant), value)
    if isinstance(value, bool) or not isinstance(value, int | float) or info.context or not isfinite(value):
        raise refusal(
            "must be a duration such as 90s, 10m or 1h30m, but is "
            f"{shown(value)}{unit_hint(str(value), *meant)}"
        )
    return value


def _response_time(value: object, info: ValidationInfo) -> float:
    # A bare 500 is nearly always milliseconds, and 0.5 seconds.
    return _seconds(value, info, ("ms", "s"))


def _share(value: object, info: ValidationInfo) -> float:
    """Parses a share, as `_seconds` does a duration; 0 needs no unit."""
    if isinstance(value, str):
        return _parsed(parse_share, value)
    if isinstance(value, bool) or not isinstance(value, int | float) or (info.context and value != 0):
        # A bare 0.01 may mean 1% (a fraction) or 0.01%: both are shown, neither is guessed.
        hint = ""
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            hint = f": write {format_share(abs(value))} or {value}%"
        raise refusal(f"must be a share such as 0.1% or 25%, but is {shown(value)}{hint}")
    return value


def _parsed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise refusal(str(error)) from None


def _whole(value: float) -> int:
    if value != int(value) or value < 1:
        raise refusal(f"must be at least one second, in whole seconds, but is {format_duration(value)}")
    return int(value)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise refusal(f"must be above 0s, but is {format_duration(seconds)}")
    return seconds


def _risk(share: float) -> float:
    if not 0 < share < 0.5:
        raise refusal(f"must be above 0% and below 50%, but is {format_share(share)}")
    return share


def _part(share: float) -> float:
    if share > 1:
        raise refusal(f"must be at most 100%, but is {format_share(share)}")
    return share


def is_label_name(value: str) -> bool:
    """Whether a text can be the name of a Kubernetes object, a notifier or a gate (RFC 1123 label, at most 63
    characters)."""
    return re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value) is not None


def url(value: str, example: str, instead: str) -> str:
    """For validators: checks an http(s) URL without user and password, and removes its trailing slashes.
    example: a right one, for the message. instead: what to do with user and password. Raises a refusal
    (PydanticCustomError)."""
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right, parts = False, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise refusal(f"must be without user and password: {instead}, but has them (not shown)")
    if not right or re.search(r"\s", value):
        came = "another text (not shown: it may hold a password)" if "@" in value else shown(value)
        raise refusal(f"must be a URL such as {example}, but is {came}")
    return value.rstrip("/")


def _dns_label(value: str) -> str:
    if not is_label_name(value):
        raise refusal(
            f"must be a Kubernetes name (lower-case letters, digits and -, at most 63), but is {shown(value)}"
        )
    return value


def _dns_name(value: str) -> str:
    if len(value) > 253 or not all(
        re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", part) for part in value.split(".")
    ):
        raise refusal(
            "must be a Kubernetes name (lower-case letters, digits, - and ., at most 253), but is "
            f"{shown(value)}"
        )
    return value


_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not re.fullmatch(_LABEL_NAME, name) or (
        slash and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", prefix)
    ):
        raise refusal(
            f"must be a label's name such as version or app.kubernetes.io/version, but is {shown(value)}"
        )
    return value


def _label_value(value: str) -> str:
    if value and not re.fullmatch(_LABEL_NAME, value):
        raise refusal(
            f"must be a label's value (letters, digits, -, _ and ., at most 63), but is {shown(value)}"
        )
    return value


_DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "10m", "1h30m"]}
_SHARE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": SHARE_PATTERN}, {"const": 0}],
    "examples": ["0.1%", "25%"],
}
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(format_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
WholeSeconds = Annotated[
    int,
    BeforeValidator(lambda value, info: _whole(_seconds(value, info))),
    PlainSerializer(format_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
Share = Annotated[
    float,
    BeforeValidator(_share),
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(format_share),
    WithJsonSchema(_SHARE_SCHEMA),
]
PositiveSeconds = Annotated[Seconds, AfterValidator(_positive)]
ResponseTime = Annotated[
    float,
    BeforeValidator(_response_time),
    Field(allow_inf_nan=False),
    AfterValidator(_positive),
    PlainSerializer(format_duration),
    WithJsonSchema({**_DURATION_SCHEMA, "examples": ["100ms", "500ms", "2s"]}),
]
Risk = Annotated[Share, AfterValidator(_risk)]
Part = Annotated[Share, AfterValidator(_part)]  # of a whole: at most 100%
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
LabelName = Annotated[str, AfterValidator(_dns_label)]
ObjectName = Annotated[str, AfterValidator(_dns_name)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]


def unique(names: _Names) -> _Names:
    """For validators of lists: refuses each entry that is listed before. Raises a refusal
    (ValidationError)."""
    twice = [position for position, name in enumerate(names) if name in names[:position]]
    refuse_at(
        *(
            ((position,), f"must be listed only once, but {names[position]} is listed twice")
            for position in twice
        )
    )
    return names


def above(key: str, value: float, other: str, least: float) -> list[tuple[Key, str]]:
    """The refusal if a share is not above another one; [] if it is. key, other: their names."""
    return (
        []
        if value > least
        else [((key,), f"must be above {other} ({format_share(least)}), but is {format_share(value)}")]
    )


def without_default(schema: dict[str, Any]) -> None:
    """For JSON Schemas: removes the default, of fields whose default in code is not what people would
    write."""
    schema.pop("default", None)


def without_nones(value: Any) -> Any:
    """Plain data without the keys whose value is None, on every level."""
    if isinstance(value, dict):
        return {key: without_nones(entry) for key, entry in value.items() if entry is not None}
    return [without_nones(entry) for entry in value] if isinstance(value, list) else value
