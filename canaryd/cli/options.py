"""Options in people's words: what several commands read alike."""

from collections.abc import Callable
from typing import Any

import click

from canaryd.domain.policy.units import parse_duration, parse_rate, parse_share


class Said(click.ParamType):  # type: ignore[type-arg]  # generic in click's newest releases only
    """An option in people's words; what is wrong with it is told as wrong usage."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


RATE, SHARE = Said("rate", parse_rate), Said("share", parse_share)
DURATION = Said("duration", parse_duration)
