"""Records as JSON-able data: camelCase keys, words for enumerations, a policy as its file would have it."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import copysign, isfinite, isnan
from sys import float_info
from typing import Any

from canaryd.domain.policy.policy import Policy


def plain(value: Any) -> Any:
    """Records as plain data."""
    if isinstance(value, Policy):
        return value.dump()
    if is_dataclass(value) and not isinstance(value, type):
        return {_camel(field.name): plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def finite(number: float) -> float | None:
    """The number as JSON can have it, which has no infinity: it becomes the largest float, so that a reader's
    comparisons still hold; no number becomes None."""
    if isnan(number):
        return None
    return number if isfinite(number) else copysign(float_info.max, number)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
