"""What counts as harm: failed requests and response times compared with stable's, and the policy's own PromQL
queries.

This module has the entries of a policy's `analysis.metrics` with their defaults; `judge/` compares the
versions by them.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from canaryd.domain.policy.fields import LabelName, Number, Part, ResponseTime, Share, Text, above, unique
from canaryd.domain.policy.units import format_share
from canaryd.domain.policy.validation import Key, StrictModel, refusal, refuse_at, shown

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html, without OK.
GRPC_STATUSES = (
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
# The server's own fault, as 5xx is, and as OpenTelemetry's conventions have it for servers: UNKNOWN is an
# exception that escaped a handler, DEADLINE_EXCEEDED is what 504 is to HTTP (callers of both versions are as
# patient), UNIMPLEMENTED a method the new version lost. Left out: what the caller caused (INVALID_ARGUMENT,
# NOT_FOUND, CANCELLED, ...), and RESOURCE_EXHAUSTED, where a quota decides, as 429.
GRPC_FAILURES = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
# 499 and 0 are no failures: the caller went away before the answer, which Istio counts under the code 0 (flag
# DC).
HTTP_FAILURES = ("5xx",)
QUERY_VARIABLES = ("canary_pods", "stable_pods", "namespace", "window")
_CANARY_PODS = re.compile(r"\$canary_pods\b")


def _http_failure(value: object) -> object:
    """A code as YAML has it, a number, is text from here on."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _http_code(code: str) -> str:
    if not re.fullmatch(r"0|[1-5](xx|\d\d)", code):
        raise refusal(
            f"must be an HTTP response code such as 429, a class such as 5xx, or 0, but is {shown(code)}"
        )
    return code


def _meant(name: str) -> str:
    """A hint of the status that was probably meant: by its number, as in Istio's label, or by a similar name;
    "" if there is none."""
    if name.isdecimal() and 0 < int(name) <= len(GRPC_STATUSES):
        return f": write {GRPC_STATUSES[int(name) - 1]}"
    close = get_close_matches(name.upper(), GRPC_STATUSES, n=1)
    return f": is {close[0]} meant?" if close else ""


HttpFailure = Annotated[
    str,
    BeforeValidator(_http_failure),
    AfterValidator(_http_code),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^(0|[1-5](xx|[0-9][0-9]))$"},
                {"type": "integer", "minimum": 0, "maximum": 599},
            ]
        }
    ),
]


class Errors(StrictModel):
    """Failed requests of the canary compared with stable's. Of ratio and increase, the looser limit
    applies."""

    tolerated_ratio: Share = Field(
        default=0.10,
        description="A failure rate that exceeds stable's by up to this share of it is tolerated: 10% "
        "means 1.1 times stable's rate.",
    )
    tolerated_increase: Share = Field(
        default=0.001,
        description="A failure rate that exceeds stable's by up to this many percentage points is tolerated.",
    )
    unacceptable_ratio: Share = Field(
        default=1.0,
        description="The excess over stable's rate that must be ruled out before a stage passes early; "
        "100% means twice stable's rate.",
    )
    unacceptable_increase: Share = Field(
        default=0.005,
        description="The excess in percentage points that must be ruled out before a stage passes early.",
    )
    max: Part | None = Field(
        default=None,
        description="The highest failure rate allowed; a canary above it, and above stable's rate in the "
        "same seconds, is rolled back.",
    )
    absolute: StrictBool = Field(
        default=False,
        description="Whether `max` holds whatever stable does. By default it is held against the larger of "
        "itself and stable's rate in the same seconds, and while stable does not keep it either nothing "
        "passes.",
    )
    version_down: StrictBool = Field(
        default=True,
        description="Rolls a version back at once, without waiting for odds, when at least two thirds of its "
        "replicas and 40% of its requests fail for 10 seconds while stable's do not.",
    )
    replica_down: StrictBool = Field(
        default=True,
        description="Rolls back a version of which one replica fails nearly every request for two minutes, "
        "whatever the cause.",
    )
    http_failures: tuple[HttpFailure, ...] = Field(
        default=HTTP_FAILURES,
        min_length=1,
        description="HTTP response codes that count as failures: a code (429), a class (5xx), or 0 (the "
        "caller went away before the answer).",
    )
    grpc_failures: tuple[Annotated[str, Field(json_schema_extra={"enum": list(GRPC_STATUSES)})], ...] = Field(
        default=GRPC_FAILURES,
        description="gRPC statuses that count as failures, whatever the HTTP code is (usually 200).",
    )

    @field_validator("http_failures")
    @classmethod
    def _are_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return unique(codes)

    @field_validator("grpc_failures")
    @classmethod
    def _are_statuses(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [
            (
                (position,),
                f"must be a gRPC status other than OK ({', '.join(GRPC_STATUSES)}), but is "
                f"{shown(name)}{_meant(name)}",
            )
            for position, name in enumerate(names)
            if name not in GRPC_STATUSES
        ]
        refuse_at(*wrong)
        return unique(names)

    @model_validator(mode="after")
    def _absolute_has_a_limit(self) -> Self:
        if self.absolute and self.max is None:
            refuse_at((("absolute",), "must be set with max, but is true without it"))
        return self

    @model_validator(mode="after")
    def _unacceptable_is_more(self) -> Self:
        refuse_at(
            *above("unacceptableRatio", self.unacceptable_ratio, "toleratedRatio", self.tolerated_ratio),
            *above(
                "unacceptableIncrease",
                self.unacceptable_increase,
                "toleratedIncrease",
                self.tolerated_increase,
            ),
        )
        return self


def _slo(slo: Mapping[str, float]) -> Mapping[str, float]:
    wrong = [name for name in slo if not re.fullmatch(r"p(0\.\d+|[1-9]\d?(\.\d+)?)", name)]
    refuse_at(
        *(
            ((name,), f"must be named after a quantile such as p50, p99 or p99.9, but is {shown(name)}")
            for name in wrong
        )
    )
    return slo


class Latency(StrictModel):
    """Response times of the canary compared with stable's, at every bound of the histogram."""

    tolerated: Share = Field(
        default=0.10, description="Response times that exceed stable's by up to this share are tolerated."
    )
    unacceptable: Share = Field(
        default=0.25, description="The slowdown that must be ruled out before a stage passes early."
    )
    slo: Annotated[Mapping[str, ResponseTime], AfterValidator(_slo)] = Field(
        default={},
        description="Limits on the canary's response times: {p99: 500ms} means that 99% of requests are "
        "answered within 500 ms.",
    )
    absolute: StrictBool = Field(
        default=False,
        description="Whether `slo` holds whatever stable does. By default each limit is held against the "
        "larger of itself and stable's share in the same seconds, and while stable does not keep it either "
        "nothing passes.",
    )

    @model_validator(mode="after")
    def _absolute_has_a_limit(self) -> Self:
        if self.absolute and not self.slo:
            refuse_at((("absolute",), "must be set with slo, but is true without it"))
        return self

    @model_validator(mode="after")
    def _unacceptable_is_more(self) -> Self:
        refuse_at(*above("unacceptable", self.unacceptable, "tolerated", self.tolerated))
        return self


class Query(StrictModel):
    """A PromQL query whose value is compared with limits (max, min) or with stable's value in the same look
    (compare).

    canaryd fills in `$canary_pods` and `$stable_pods` (regular expressions), `$namespace` and `$window`. With
    `compare` the query is sent twice at the end of each look: as written, and with stable's pods in place of
    the canary's.
    """

    name: LabelName = Field(description="The query's name in verdicts.")
    promql: Text = Field(
        description="A query about this rollout that returns one number. Variables: $canary_pods, "
        "$stable_pods, $namespace, $window."
    )
    max: Number | None = Field(
        default=None, description="The highest value allowed; above it the canary is rolled back."
    )
    min: Number | None = Field(
        default=None, description="The lowest value allowed; below it the canary is rolled back."
    )
    for_: StrictInt = Field(
        default=3,
        ge=1,
        description="The number of looks in a row that must be beyond max or min before the canary is "
        "rolled back.",
    )
    compare: Literal["higher-is-worse", "lower-is-worse"] | None = Field(
        default=None,
        description="Also compares the value with stable's: the same query, with stable's pods in place of "
        "$canary_pods. For values that do not depend on how much traffic a version gets, such "
        "as CPU seconds per request.",
    )
    tolerated: Share = Field(
        default=0.10,
        description="With `compare`: a value that is worse than stable's by up to this share is tolerated.",
    )
    dry_run: StrictBool = Field(
        default=False, description="The query never decides; canaryd reports what it would have decided."
    )

    @field_validator("promql")
    @classmethod
    def _variables_are_known(cls, promql: str) -> str:
        for name in re.findall(r"\$(\w+|\{)", promql):
            if name not in QUERY_VARIABLES:
                raise refusal(
                    f"may have $ only in {', '.join('$' + name for name in QUERY_VARIABLES)}, but has ${name}"
                )
        return promql

    @model_validator(mode="after")
    def _decides_something(self) -> Self:
        if self.max is None and self.min is None and self.compare is None:
            raise refusal("must have at least one of max, min and compare, but has none")
        if self.max is not None and self.min is not None and self.min > self.max:
            refuse_at((("min",), f"must be at most max ({self.max:g}), but is {self.min:g}"))
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        if self.compare is None:
            if (
                "tolerated" in self.model_fields_set
                and self.tolerated != type(self).model_fields["tolerated"].default
            ):
                wrong.append(
                    (
                        ("tolerated",),
                        f"must be set only with compare, but is {format_share(self.tolerated)} without it",
                    )
                )
        else:
            if not _CANARY_PODS.search(self.promql):
                wrong.append(
                    (
                        ("promql",),
                        "must have $canary_pods, which is replaced by stable's pods for the comparison, "
                        "but does not have it",
                    )
                )
            if "$stable_pods" in self.promql:
                wrong.append(
                    (
                        ("promql",),
                        "must not have $stable_pods, which `compare` puts in place of $canary_pods, but "
                        "has it",
                    )
                )
            if self.compare == "lower-is-worse" and self.tolerated >= 1:
                wrong.append(
                    (
                        ("tolerated",),
                        f"must be below 100% where lower is worse, but is {format_share(self.tolerated)}",
                    )
                )
        refuse_at(*wrong)
        return self

    @property
    def of_stable(self) -> str:
        """The PromQL of stable's value; "" without `compare`."""
        return _CANARY_PODS.sub("$stable_pods", self.promql) if self.compare else ""

    @property
    def stable_name(self) -> str:
        """The name of stable's value among the values of a look; no query can have this name."""
        return f"{self.name} of stable"

    @property
    def asked(self) -> Mapping[str, str]:
        """The PromQL that is sent at the end of each look, by the name of its value."""
        return {self.name: self.promql, **({self.stable_name: self.of_stable} if self.compare else {})}


class Metric(StrictModel):
    """One metric: a map with one key, `errors`, `latency` or `query`. `errors:` without a value takes all
    defaults."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"errors", "latency"})
    errors: Errors | None = Field(default=None, description="Failed requests, compared with stable's.")
    latency: Latency | None = Field(default=None, description="Response times, compared with stable's.")
    query: Query | None = Field(
        default=None, description="A PromQL query of your own, compared with its max or min, or with stable."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) == 1:
            return {
                key: {} if value is None and key in cls.may_be_empty else value for key, value in data.items()
            }
        return data

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = sum(kind is not None for kind in (self.errors, self.latency, self.query))
        if given != 1:
            raise refusal(f"must have one key of errors, latency and query, but has {given}")
        return self

    @property
    def called(self) -> str:
        """The metric's name: `errors`, `latency`, or the query's name."""
        return self.query.name if self.query else "errors" if self.errors else "latency"

    @property
    def decides(self) -> bool:
        """Whether the metric may pass a stage or roll it back; a query with `dryRun` may not."""
        return self.query is None or not self.query.dry_run


def each_once(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """For validators: refuses a metric that is listed twice, and a list in which no metric decides. Raises a
    refusal (PydanticCustomError, ValidationError)."""
    twice = [
        position
        for position, metric in enumerate(metrics)
        if metric.called in [earlier.called for earlier in metrics[:position]]
    ]
    refuse_at(
        *(
            ((position,), f"must be listed only once, but {metrics[position].called} is listed twice")
            for position in twice
        )
    )
    if not any(metric.decides for metric in metrics):
        raise refusal("must have a metric that decides, but all have dryRun")
    return metrics
