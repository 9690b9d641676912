"""Conditions that choose requests: on headers, query parameters and the caller's labels, as in Istio's
HTTPMatchRequest.

A request meets a match if it meets all of its conditions (and); it meets a list of matches if it meets any of
them (or). What Istio would ignore or refuse is refused here, with what was wanted: Envoy compares header
names in lower case, reads RE2, and matches the whole value.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import CoreSchema

from canaryd.domain.policy.fields import LabelKey, LabelValue, without_nones
from canaryd.domain.policy.re2 import refused
from canaryd.domain.policy.validation import Key, StrictModel, refusal, refuse_at, shown

HOW = ("exact", "prefix", "regex")
_SIGNS = {"exact": "=", "prefix": "^", "regex": "~"}
_NOT_HEADERS = (
    "uri",
    "scheme",
    "method",
    "authority",
)  # as keys of `headers` Istio ignores them, so all requests would match
_TOKEN = r"[a-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110, section 5.6.2, without upper case


def _condition(value: object) -> object:
    if isinstance(value, str | int | float):
        raise refusal(
            f"must be a map with one of {', '.join(HOW)}, but is {shown(value)}: write {{exact: {value}}}"
        )
    return value


class Condition(StrictModel):
    """The condition on one value; exactly one of the keys is set."""

    exact: str | None = Field(default=None, description="The whole value must equal this text.")
    prefix: str | None = Field(default=None, min_length=1, description="The value must begin with this text.")
    regex: str | None = Field(
        default=None,
        min_length=1,
        description="The whole value must match this RE2 expression; .*logged_in.* finds logged_in "
        "anywhere in it.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        came = [name for name in HOW if getattr(self, name) is not None]
        if len(came) != 1:
            raise refusal(f"must have one of {', '.join(HOW)}, but has {' and '.join(came) or 'none'}")
        if self.regex is not None and (why := refused(self.regex)):
            refuse_at((("regex",), f"must be an RE2 expression, as Envoy reads it, but has an error: {why}"))
        return self

    @property
    def said(self) -> str:
        """The condition in short: `~ .*logged_in.*`."""
        return _condition_text(self.model_dump(exclude_none=True))


def _header(name: str) -> str:
    if name in _NOT_HEADERS:
        raise refusal(
            f"must be a header: Istio ignores {', '.join(_NOT_HEADERS)} among headers, and every request "
            "would match"
        )
    if name != name.lower():
        raise refusal(
            f"must be lower case, as Istio compares header names, but is {shown(name)}: write {name.lower()}"
        )
    if not re.fullmatch(_TOKEN, name):
        raise refusal(f"must be a header's name, such as cookie or x-canary, but is {shown(name)}")
    return name


def _indented(value: object, info: ValidationInfo) -> object:
    """Refuses `regex:` beside the header's name instead of below it, which YAML reads as a header called
    regex: the most common mistake here."""
    if isinstance(value, Mapping):
        refuse_at(
            *(
                (
                    (name,),
                    "must stand below the name of what is matched, not beside it: indent it further, as "
                    f"{{NAME: {{{name}: {text}}}}}",
                )
                for name, text in value.items()
                if name in HOW and isinstance(text, str)
            )
        )
    return value


def _not_empty(conditions: Mapping[str, Condition]) -> Mapping[str, Condition]:
    refuse_at(
        *(
            ((name, "exact"), "must not be empty")
            for name, condition in conditions.items()
            if condition.exact == ""
        )
    )
    return conditions


_Condition = Annotated[Condition, BeforeValidator(_condition)]
_Headers = Annotated[
    Mapping[Annotated[str, AfterValidator(_header)], _Condition],
    BeforeValidator(_indented),
    AfterValidator(_not_empty),
]
_Parameters = Annotated[Mapping[Annotated[str, Field(min_length=1)], _Condition], BeforeValidator(_indented)]


class Match(StrictModel):
    """Requests that meet all of these conditions."""

    headers: _Headers = Field(
        default={},
        description="Conditions by header: {cookie: {regex: .*logged_in.*}}. Names are lower case.",
    )
    without_headers: _Headers = Field(
        default={},
        description="Conditions by header that must not be met; a header that is missing does not meet them.",
    )
    query_params: _Parameters = Field(
        default={}, description="Conditions by query parameter: {preview: {exact: yes}}."
    )
    source_labels: Mapping[LabelKey, LabelValue] = Field(
        default={}, description="Labels of the calling pod, which must be in the mesh."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_is_the_stage_s(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "split" in data:
            refuse_at(
                (
                    ("split",),
                    "must stand beside match and not in it, since it applies to all of its conditions: "
                    "{match: ..., split: half}",
                )
            )
        return data

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if not self.istio:
            wanted = "headers, withoutHeaders, queryParams or sourceLabels"
            raise refusal(f"must have a condition ({wanted}), but has none: every request would match")
        return self

    def merged(self, other: "Match") -> "Match | None":
        """A match that requires both; None if they have different conditions on the same value. other: the
        second match."""
        mine, theirs = self.istio, other.istio
        if any(
            mine.get(kind, {}).get(name, how) != how
            for kind, conditions in theirs.items()
            for name, how in conditions.items()
        ):
            return None
        return Match.model_validate(
            {kind: {**mine.get(kind, {}), **theirs.get(kind, {})} for kind in (*mine, *theirs)}
        )

    @property
    def istio(self) -> dict[str, Any]:
        """The match as in an Istio VirtualService."""
        dumped = without_nones(self.model_dump(mode="json", by_alias=True))
        return {kind: conditions for kind, conditions in dumped.items() if conditions}


class _OneOrMore:
    """The JSON Schema of a list whose only entry may be written without the list."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [schema["items"], {**schema, "minItems": 1}]}


def _listed(
    value: object, whole: Callable[[object], tuple[Match, ...]], info: ValidationInfo
) -> tuple[Match, ...]:
    """Reads one match as a list of one; its mistakes are reported at the key that people wrote."""
    if isinstance(value, Match):
        return (value,)
    if isinstance(value, Mapping):
        return (Match.model_validate(value, context=info.context, by_alias=True, by_name=not info.context),)
    found = whole(value)
    if not found and info.context:
        raise refusal("must have at least one match, but is an empty list")
    wrong: list[tuple[Key, str]] = []
    for position, match in enumerate(found):
        if match in found[:position]:
            wrong.append(((position,), "must be listed only once, but equals an earlier one"))
    refuse_at(*wrong)
    return found


Matches = Annotated[
    tuple[Match, ...],
    WrapValidator(_listed),
    PlainSerializer(lambda matches: [match.istio for match in matches] or None),
    _OneOrMore(),
]


def described(matches: Sequence[Mapping[str, Any]]) -> str:
    """An Istio `match` list in words: `cookie ~ .*logged_in.* and query debug = 1, or from app=orders`."""
    return ", or ".join(" and ".join(_conditions(match)) or "any" for match in matches)


def _conditions(match: Mapping[str, Any]) -> list[str]:
    conditions = []
    for kind, value in match.items():
        if kind == "sourceLabels":
            conditions += [f"from {label}={wanted}" for label, wanted in value.items()]
        elif kind in ("headers", "withoutHeaders", "queryParams"):
            before = {"headers": "", "withoutHeaders": "not ", "queryParams": "query "}[kind]
            conditions += [
                f"{before}{name} {_condition_text(condition or {})}".rstrip()
                for name, condition in value.items()
            ]
        elif kind != "name":
            conditions.append(
                f"{kind} {_condition_text(value)}" if isinstance(value, Mapping) else f"{kind} {value}"
            )
    return conditions


def _condition_text(condition: Mapping[str, Any]) -> str:
    return " ".join(f"{_SIGNS.get(how, how)} {wanted}" for how, wanted in condition.items())
