"""Which requests: conditions on headers, query parameters and the caller's labels, as Istio's
HTTPMatchRequest has them.

In one match all conditions hold (and); of a list of matches any one does (or). What Istio would ignore or
refuse is refused here, with what was wanted: Envoy compares header names in lower case, reads RE2, and
matches the whole value.
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
    """How one value must be; exactly one of these."""

    exact: str | None = Field(default=None, description="The whole value.")
    prefix: str | None = Field(default=None, min_length=1, description="What it begins with.")
    regex: str | None = Field(
        default=None, min_length=1, description="RE2, of the whole value: .*logged_in.* is anywhere in it."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        came = [name for name in HOW if getattr(self, name) is not None]
        if len(came) != 1:
            raise refusal(f"must have one of {', '.join(HOW)}, but has {' and '.join(came) or 'none'}")
        if self.regex is not None and (why := refused(self.regex)):
            refuse_at((("regex",), f"must be RE2, as Envoy reads it, but has an error: {why}"))
        return self

    @property
    def said(self) -> str:
        """`~ .*logged_in.*`."""
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
    """`regex:` beside the header's name instead of below it is a header called regex: the most common mistake
    in such YAML."""
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
        *(((name, "exact"), "must not be empty") for name, one in conditions.items() if one.exact == "")
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
    """Requests for which all of this holds."""

    headers: _Headers = Field(
        default={}, description="By header: {cookie: {regex: .*logged_in.*}}. Names are lower case."
    )
    without_headers: _Headers = Field(default={}, description="Headers that are not so, or not there.")
    query_params: _Parameters = Field(default={}, description="By query parameter: {preview: {exact: yes}}.")
    source_labels: Mapping[LabelKey, LabelValue] = Field(
        default={}, description="Labels of the calling pod; inside the mesh only."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_is_the_stage_s(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "split" in data:
            refuse_at(
                (
                    ("split",),
                    "must stand beside match, for all of its conditions, not in it: {match: ..., split: "
                    "half}",
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
        """What fits both; None where they have different conditions of one value."""
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
        """As it stands in a VirtualService."""
        dumped = without_nones(self.model_dump(mode="json", by_alias=True))
        return {kind: conditions for kind, conditions in dumped.items() if conditions}


class _OneOrMore:
    """For the JSON Schema of a list that may be written as its only entry."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [schema["items"], {**schema, "minItems": 1}]}


def _listed(
    value: object, whole: Callable[[object], tuple[Match, ...]], info: ValidationInfo
) -> tuple[Match, ...]:
    """One match is a list of one; its mistakes are told at the key that people wrote."""
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
            wrong.append(((position,), "must not be there twice, but is the same as one before it"))
    refuse_at(*wrong)
    return found


Matches = Annotated[
    tuple[Match, ...],
    WrapValidator(_listed),
    PlainSerializer(lambda matches: [match.istio for match in matches] or None),
    _OneOrMore(),
]


def described(matches: Sequence[Mapping[str, Any]]) -> str:
    """Istio's `match` list in words: `cookie ~ .*logged_in.* and query debug = 1, or from app=orders`."""
    return ", or ".join(" and ".join(_conditions(match)) or "any" for match in matches)


def _conditions(match: Mapping[str, Any]) -> list[str]:
    said = []
    for kind, value in match.items():
        if kind == "sourceLabels":
            said += [f"from {label}={wanted}" for label, wanted in value.items()]
        elif kind in ("headers", "withoutHeaders", "queryParams"):
            before = {"headers": "", "withoutHeaders": "not ", "queryParams": "query "}[kind]
            said += [
                f"{before}{name} {_condition_text(condition or {})}".rstrip()
                for name, condition in value.items()
            ]
        elif kind != "name":
            said.append(
                f"{kind} {_condition_text(value)}" if isinstance(value, Mapping) else f"{kind} {value}"
            )
    return said


def _condition_text(condition: Mapping[str, Any]) -> str:
    return " ".join(f"{_SIGNS.get(how, how)} {wanted}" for how, wanted in condition.items())
