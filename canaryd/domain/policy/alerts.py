"""Prometheus' own alerts as limits: which alerts are about the service, and what happens when one of them
begins to fire.

People write label matchers as in PromQL. They are parsed here and written anew, each value in quotes of its
own, so that no text in a policy can become another part of the query that canaryd sends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from canaryd.domain.policy.fields import PositiveSeconds, without_default
from canaryd.domain.policy.re2 import refused
from canaryd.domain.policy.validation import StrictModel, refusal, refuse_at, shown

ALERTS = "ALERTS"
"""The name of Prometheus' metric, and of its value among the values of a look."""
# Filled in where the query is sent: names of the service and its namespace, and regular expressions of pods.
ALERT_VARIABLES = ("service", "namespace", "canary_pods", "stable_pods")
_PODS = ("canary_pods", "stable_pods")
# What Prometheus itself writes into ALERTS, and canaryd asks for.
_RESERVED = {
    "__name__": "canaryd asks for the metric ALERTS alone",
    "alertstate": "canaryd asks for alerts that fire, not for pending ones",
}
# Labels that tell copies of one alert apart, which the halves of a pair of Prometheus have each written.
_COPIES = ("alertstate", "prometheus_replica", "replica")

_MATCHER = re.compile(
    r"""\s*(?P<label>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<operator>=~|!~|!=|=)\s*"""
    r"""(?P<quoted>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)\s*"""
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_EXAMPLE = 'severity="page",team="shop"'


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """One condition on an alert's labels. operator: `=`, `!=`, `=~` or `!~`; value: without quotes."""

    label: str
    operator: str
    value: str

    @property
    def promql(self) -> str:
        """The matcher as PromQL has it."""
        value = self.value.replace("\\", "\\\\").replace('"', '\\"')
        for letter, escaped in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
            value = value.replace(letter, escaped)
        return f'{self.label}{self.operator}"{value}"'


def matchers_of(text: str) -> tuple[LabelMatcher, ...]:
    """The label matchers of a text such as `severity="page",team="shop"`. Raises a refusal
    (PydanticCustomError) that says which part is wrong."""
    found: list[LabelMatcher] = []
    at = 0
    while at < len(text) and (text[at:].strip() or not found):
        match = _MATCHER.match(text, at)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            wrong = text[at:].strip() if match is None else text[match.end() :].strip()
            raise refusal(
                f"must be label matchers as in PromQL, such as {_EXAMPLE}, separated by commas, but is "
                f"{shown(text)}, which cannot be read from {shown(wrong)} on{_hint(wrong)}"
            )
        found.append(_matcher(match))
        at = match.end() + 1
    if not found:
        raise refusal(f"must be label matchers as in PromQL, such as {_EXAMPLE}, but is empty")
    return tuple(found)


def _hint(wrong: str) -> str:
    if re.match(r"\{|ALERTS\b", wrong):
        return ": write the matchers alone, without ALERTS and braces"
    if re.match(r"[A-Za-z_]\w*\s*(=~|!~|!=|=)\s*[^\s\"'`]", wrong):
        return ": its value needs quotes"
    return ""


def _matcher(match: re.Match[str]) -> LabelMatcher:
    label, operator, quoted = match["label"], match["operator"], match["quoted"]
    if label in _RESERVED:
        raise refusal(f"must be without {label}, since {_RESERVED[label]}, but has {match[0].strip()}")
    value = quoted[1:-1] if quoted[0] == "`" else _unescaped(quoted[1:-1])
    for name in re.findall(r"\$(\w+|\{)", value):
        if name not in ALERT_VARIABLES:
            variables = ", ".join(f"${known}" for known in ALERT_VARIABLES)
            raise refusal(f"may have $ only in {variables}, but has ${name} in {match[0].strip()}")
        if name in _PODS and "~" not in operator:
            raise refusal(
                f"must have ${name}, which is a regular expression, after =~ or !~, but has it after "
                f"{operator} in {match[0].strip()}"
            )
    if "~" in operator and (why := refused(re.sub(r"\$(\w+)", "x", value))):
        raise refusal(
            f"must have a regular expression of RE2 after {operator}, but {match[0].strip()} has none: {why}"
        )
    return LabelMatcher(label, operator, value)


def _unescaped(text: str) -> str:
    """The value between quotes. Raises a refusal for an escape that PromQL does not have here."""

    def character(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise refusal(
                f"must have \\ doubled where it stands for itself ({chr(92) * 2}{found[1]}), or the value in "
                f"backticks, but has {found[0]} in {shown(text)}"
            )
        return _ESCAPES[found[1]]

    return _ESCAPE.sub(character, text)


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _are_matchers(texts: tuple[str, ...]) -> tuple[str, ...]:
    for position, text in enumerate(texts):
        try:
            matchers_of(text)
        except PydanticCustomError as error:
            if len(texts) == 1:
                raise
            refuse_at(((position,), str(error)))
    return texts


Matching = Annotated[
    tuple[str, ...],
    BeforeValidator(_several),
    Field(min_length=1),
    AfterValidator(_are_matchers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ],
            "examples": [_EXAMPLE],
        }
    ),
]


class Alerts(StrictModel):
    """Alerts of Prometheus that are about the service. One that begins to fire after the rollout began rolls
    it back or holds it; one that fired before does not count until it has resolved and fires anew."""

    matching: Matching = Field(
        description="Which alerts are about the service: label matchers as in PromQL, such as "
        'severity="page",team="shop", which must all hold; or a list of such texts, one of which must hold. '
        "Variables: $service, $namespace, $canary_pods, $stable_pods. Where no matcher is about a label "
        '`namespace`, canaryd adds namespace="$namespace"; where none is about `pod`, it leaves out alerts '
        "that name one of stable's pods."
    )
    # A rollback, although an alert names no version and may be about stable or a dependency: to go back for
    # nothing costs a release that is tried again later, and to stay for nothing leaves users with what may
    # have raised the alarm until a person is awake. In an incident nobody wants a release under way.
    on_firing: Literal["rollback", "hold"] = Field(
        default="rollback",
        description="What happens when an alert begins to fire after the rollout began. A hold ends when the "
        "alert has resolved, or by a person's resume.",
    )
    watch_after_promotion: PositiveSeconds | None = Field(
        default=None,
        description="How long after a promotion alerts are still watched. One that begins to fire then is "
        "announced (`alert_after_promotion`), and not rolled back: to roll back, give the last stage a "
        "longer minimum.",
        json_schema_extra=without_default,
    )

    @property
    def matchers(self) -> tuple[tuple[LabelMatcher, ...], ...]:
        """The matchers of each text, as they are sent: with those that canaryd adds."""
        return tuple((*own, *_narrowing(own)) for own in map(matchers_of, self.matching))

    @property
    def labels_asked(self) -> frozenset[str]:
        """The labels that the policy's own matchers are about."""
        return frozenset(matcher.label for text in self.matching for matcher in matchers_of(text))

    @property
    def promql(self) -> str:
        """The query of the alerts that fire: a series for each, whose value is when the rule was last
        evaluated (Unix seconds). Variables are to be filled in."""
        selectors = (
            "timestamp(ALERTS{"
            + ",".join(matcher.promql for matcher in (*own, LabelMatcher("alertstate", "=", "firing")))
            + "})"
            for own in self.matchers
        )
        return f"max without ({', '.join(_COPIES)}) ({' or '.join(dict.fromkeys(selectors))})"


def _narrowing(own: tuple[LabelMatcher, ...]) -> Iterator[LabelMatcher]:
    """What the matchers leave open. Without a namespace `severity="page"` would take in every team's alerts,
    and staging's. And an alert that names one of stable's pods is not about the new version: to send all
    users back to what it complains of would be worse than nothing."""
    if not any(matcher.label == "namespace" or matcher.label.endswith("_namespace") for matcher in own):
        yield LabelMatcher("namespace", "=", "$namespace")
    if not any(matcher.label == "pod" for matcher in own):
        yield LabelMatcher("pod", "!~", "$stable_pods")
