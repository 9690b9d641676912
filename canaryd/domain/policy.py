"""What an SRE wants of one service's canary releases: the ladder of weights, what counts as harm, and what happens then.

Everything is frozen, and nonsense is refused here once, with key, what was wanted and what came; past `Policy` no one
checks again. Durations are seconds, shares are fractions (0.01 is 1%); in YAML they are written `90s` and `1%`. Nothing
here reads a file: `adapters/policy_files.py` does, and adds file and line.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from canaryd.domain.fields import (
    LabelKey,
    LabelName,
    LabelValue,
    Number,
    ObjectName,
    Part,
    PositiveSeconds,
    ResponseTime,
    Risk,
    Seconds,
    Share,
    Text,
    WholeSeconds,
    above,
    unique,
    without_default,
    without_nones,
)
from canaryd.domain.problems import Key, Written, refusal, refuse_at, shown
from canaryd.domain.units import format_duration, format_share

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html, without OK.
GRPC_STATUSES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
)  # fmt: skip
# The server's own fault, as 5xx is: UNKNOWN is an exception that escaped a handler, UNIMPLEMENTED a method the new version lost.
# Left out: what the caller caused (INVALID_ARGUMENT, NOT_FOUND, CANCELLED, ...), and DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED,
# where the caller's patience or quota decides; slowness is the latency metric's matter.
GRPC_FAILURES = ("UNKNOWN", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
EVENTS = ("started", "advanced", "approval_needed", "held", "resumed", "stepped_back", "rolled_back", "superseded", "succeeded")
Event = Literal["started", "advanced", "approval_needed", "held", "resumed", "stepped_back", "rolled_back", "superseded", "succeeded"]
QUERY_VARIABLES = ("canary_pods", "stable_pods", "namespace", "window")
_CANARY_PODS = re.compile(r"\$canary_pods\b")


def _approval(value: object, info: ValidationInfo) -> object:
    if value == "required":
        return True
    if info.context or not isinstance(value, bool):
        raise refusal(f"must be required, or left out, but is {shown(value)}")
    return value


class Service(Written):
    """The Kubernetes Service, and how its Deployments are found and told apart."""

    name: LabelName = Field(description="The Kubernetes Service.")
    namespace: LabelName = Field(description="Its namespace.")
    selector: Mapping[LabelKey, LabelValue] = Field(
        min_length=1, description="Labels of the pod templates of this service's Deployments, such as {app: front-end}."
    )
    version_label: LabelKey = Field(default="version", description="The pod template label that tells versions apart.")


class Route(Written):
    """The Istio objects that are steered."""

    later: ClassVar[Mapping[str, str]] = {"httpRoute": "routes of the Gateway API; steer an Istio VirtualService (virtualService)"}
    virtual_service: ObjectName = Field(description="The Istio VirtualService that routes to this service.")
    destination_rule: ObjectName = Field(
        default="", description="The Istio DestinationRule with a subset for each version. Default: the service's name.",
        json_schema_extra=without_default,
    )  # fmt: skip
    add_subset: StrictBool = Field(default=True, description="Whether a new version gets a subset in the DestinationRule when it has none.")
    http: Annotated[tuple[Text, ...], AfterValidator(unique)] = Field(
        default=(), description="Names of the http routes to steer. Empty: all to this host without a match."
    )


class Stage(Written):
    """One step of the ladder, held for at least `minimum`; undecided at `deadline`, `analysis.undecided` says what happens."""

    later: ClassVar[Mapping[str, str]] = {
        "match": "stages by request match; a stage has a weight",
        "mirror": "mirrored traffic; a stage has a weight",
        "mirrorPercentage": "mirrored traffic; a stage has a weight",
        "mirrorPercent": "mirrored traffic; a stage has a weight",
        "mirrors": "mirrored traffic; a stage has a weight",
    }
    weight: StrictInt = Field(ge=1, le=100, description="The canary's share of the traffic in per cent, 1 to 100.")
    minimum: Seconds = Field(default=120.0, description="A stage is never shorter.")
    deadline: Seconds = Field(default=900.0, description="Undecided at it, `analysis.undecided` says what happens.")
    approval: Annotated[
        bool,
        BeforeValidator(_approval),
        PlainSerializer(lambda asked: "required" if asked else None),
        WithJsonSchema({"const": "required"}),
    ] = Field(
        default=False, description="`required`: a person is asked after this stage has passed, before the next weight.",
        json_schema_extra=without_default,
    )  # fmt: skip


class Errors(Written):
    """Failed requests, the canary against stable; the looser of ratio and increase counts."""

    tolerated_ratio: Share = Field(default=0.10, description="So much more than stable is no harm: 10% is 1.1 times its rate.")
    tolerated_increase: Share = Field(default=0.001, description="So many percentage points more than stable are no harm.")
    unacceptable_ratio: Share = Field(default=1.0, description="So much more must be ruled out to pass early; 100%: twice the rate.")
    unacceptable_increase: Share = Field(default=0.005, description="The same in percentage points.")
    max: Part | None = Field(default=None, description="A canary that fails more is rolled back, whatever stable does.")
    grpc_failures: tuple[Annotated[str, Field(json_schema_extra={"enum": list(GRPC_STATUSES)})], ...] = Field(
        default=GRPC_FAILURES, description="gRPC statuses that are failures, besides every 5xx."
    )

    @field_validator("grpc_failures")
    @classmethod
    def _are_statuses(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [
            ((position,), f"must be a gRPC status other than OK ({', '.join(GRPC_STATUSES)}), but is {shown(name)}")
            for position, name in enumerate(names)
            if name not in GRPC_STATUSES
        ]
        refuse_at(*wrong)
        return unique(names)

    @model_validator(mode="after")
    def _unacceptable_is_more(self) -> Self:
        refuse_at(
            *above("unacceptableRatio", self.unacceptable_ratio, "toleratedRatio", self.tolerated_ratio),
            *above("unacceptableIncrease", self.unacceptable_increase, "toleratedIncrease", self.tolerated_increase),
        )
        return self


def _slo(slo: Mapping[str, float]) -> Mapping[str, float]:
    wrong = [name for name in slo if not re.fullmatch(r"p(0\.\d+|[1-9]\d?(\.\d+)?)", name)]
    refuse_at(*(((name,), f"must be named after a quantile such as p50, p99 or p99.9, but is {shown(name)}") for name in wrong))
    return slo


class Latency(Written):
    """Response times, the canary against stable, over every bound of the histogram."""

    tolerated: Share = Field(default=0.10, description="So much slower than stable is no harm.")
    unacceptable: Share = Field(default=0.25, description="So much slower must be ruled out to advance early.")
    slo: Annotated[Mapping[str, ResponseTime], AfterValidator(_slo)] = Field(
        default={}, description="Limits of the canary's own, whatever stable does: {p99: 500ms} means 99% of requests within 500 ms."
    )

    @model_validator(mode="after")
    def _unacceptable_is_more(self) -> Self:
        refuse_at(*above("unacceptable", self.unacceptable, "tolerated", self.tolerated))
        return self


class Query(Written):
    """A PromQL query, held against limits of its own (max, min) or against stable's value in the same look (compare).

    `$canary_pods`, `$stable_pods` (regular expressions), `$namespace`, `$window` are filled in. With `compare` it is asked twice at each
    look's end: as written, and with stable's pods in the place of the canary's.
    """

    name: LabelName = Field(description="What it is called in verdicts.")
    promql: Text = Field(
        description="A query about this rollout that answers one number. Variables: $canary_pods, $stable_pods, $namespace, $window."
    )
    max: Number | None = Field(default=None, description="Above it the canary is rolled back.")
    min: Number | None = Field(default=None, description="Below it the canary is rolled back.")
    for_: StrictInt = Field(default=3, ge=1, description="So many looks in a row out of max or min.")
    compare: Literal["higher-is-worse", "lower-is-worse"] | None = Field(
        default=None,
        description="Compared with stable's value as well: the same query, with stable's pods in the place of $canary_pods. For what does "
        "not depend on how much traffic a version has, such as CPU seconds per request.",
    )
    tolerated: Share = Field(default=0.10, description="With `compare`: so much worse than stable's value is no harm.")
    dry_run: StrictBool = Field(default=False, description="Watched and told with what it would have done; it never decides.")

    @field_validator("promql")
    @classmethod
    def _variables_are_known(cls, promql: str) -> str:
        for name in re.findall(r"\$(\w+|\{)", promql):
            if name not in QUERY_VARIABLES:
                raise refusal(f"must have no $ but in {', '.join('$' + one for one in QUERY_VARIABLES)}, but has ${name}")
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
            if "tolerated" in self.model_fields_set and self.tolerated != type(self).model_fields["tolerated"].default:
                wrong.append((("tolerated",), f"must come with compare, but is {format_share(self.tolerated)} alone"))
        else:
            if not _CANARY_PODS.search(self.promql):
                wrong.append((("promql",), "must have $canary_pods, in whose place stable's pods are put to compare, but has none"))
            if "$stable_pods" in self.promql:
                wrong.append((("promql",), "must not have $stable_pods, which compare puts in the place of $canary_pods, but has it"))
            if self.compare == "lower-is-worse" and self.tolerated >= 1:
                wrong.append((("tolerated",), f"must be below 100% where lower is worse, but is {format_share(self.tolerated)}"))
        refuse_at(*wrong)
        return self

    @property
    def of_stable(self) -> str:
        """The PromQL of stable's value; empty where nothing is compared."""
        return _CANARY_PODS.sub("$stable_pods", self.promql) if self.compare else ""

    @property
    def stable_name(self) -> str:
        """What stable's value is called among a look's; no query has this name."""
        return f"{self.name} of stable"

    @property
    def asked(self) -> Mapping[str, str]:
        """What is asked at each look's end: PromQL, by the name of its value."""
        return {self.name: self.promql, **({self.stable_name: self.of_stable} if self.compare else {})}


class Metric(Written):
    """One metric: a map with one key, `errors`, `latency` or `query`. `errors:` alone is errors with all defaults."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"errors", "latency"})
    errors: Errors | None = Field(default=None, description="Failed requests, against stable.")
    latency: Latency | None = Field(default=None, description="Response times, against stable.")
    query: Query | None = Field(default=None, description="A PromQL query of one's own, against its max or min, or against stable.")

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) == 1:
            return {key: {} if value is None and key in cls.may_be_empty else value for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = sum(one is not None for one in (self.errors, self.latency, self.query))
        if given != 1:
            raise refusal(f"must have one key of errors, latency and query, but has {given}")
        return self


class Analysis(Written):
    """How the canary is judged."""

    interval: WholeSeconds = Field(default=15, description="The length of one look, in whole seconds.")
    reporter: Literal["destination", "source"] = Field(
        default="destination",
        description="Whose counts: the pods', or their callers' (who also see what never reached a pod; no replicas then).",
    )
    false_rollback_risk: Risk = Field(default=0.01, description="Of a healthy version, per rollout, whatever the number of looks.")
    bad_advance_risk: Risk = Field(default=0.05, description="Of passing a stage early with an unacceptable regression.")
    warmup: Seconds = Field(default=60.0, description="The first of each replica's time, left out of latency (not of errors).")
    metrics: tuple[Metric, ...] = Field(
        default=(Metric(errors=Errors()), Metric(latency=Latency())), min_length=1, description="What is compared or limited."
    )
    undecided: Literal["advance", "hold", "rollback"] = Field(
        default="advance",
        description="At a stage's deadline, without evidence of harm and without enough to pass. A hold ends when it passes later.",
    )
    minimum_requests: StrictInt = Field(default=100, ge=0, description="Of the canary in a stage; with fewer, `advance` holds.")
    no_data: Literal["hold", "rollback"] = Field(
        default="hold", description="After `noDataFor` without telemetry, or with traffic that does not follow the weight.")
    no_data_for: PositiveSeconds = Field(default=300.0, description="So long without telemetry is too long.")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        seen: set[str] = set()
        wrong: list[tuple[Key, str]] = []
        for position, metric in enumerate(metrics):
            name = metric.query.name if metric.query else "errors" if metric.errors else "latency"
            if name in seen:
                wrong.append(((position,), f"must not be there twice, but {name} is"))
            seen.add(name)
        refuse_at(*wrong)
        return metrics

    @property
    def errors(self) -> Errors | None:
        return next((metric.errors for metric in self.metrics if metric.errors), None)

    @property
    def latency(self) -> Latency | None:
        return next((metric.latency for metric in self.metrics if metric.latency), None)

    @property
    def queries(self) -> tuple[Query, ...]:
        return tuple(metric.query for metric in self.metrics if metric.query)

    @property
    def asked(self) -> tuple[str, ...]:
        """The PromQL of all queries, stable's values of compared ones included."""
        return tuple(dict.fromkeys(promql for query in self.queries for promql in query.asked.values()))

    @property
    def asked_before(self) -> tuple[str, ...]:
        """Those of them that are asked for the time before a rollout too: stable's values, which tell how it drifts by itself."""
        return tuple(dict.fromkeys(query.of_stable for query in self.queries if query.compare))


class Schedule(Written):
    """When, and for how long at most."""

    later: ClassVar[Mapping[str, str]] = {"freeze": "times in which no stage starts; use `canaryd pause` meanwhile"}
    deadline: PositiveSeconds | None = Field(default=None, description="Of the whole rollout; it never stands still.")


class Rollback(Written):
    """What happens to the canary after its traffic is gone. Without `scaleCanaryTo` nothing is scaled."""

    scale_canary_to: StrictInt | None = Field(
        default=None, ge=0, description="Replicas of the canary after a rollback; by default it is not scaled."
    )
    after: Seconds = Field(default=0.0, description="So long after the rollback, so that it can be looked at.")

    @model_validator(mode="after")
    def _pause_has_a_purpose(self) -> Self:
        if self.after and self.scale_canary_to is None:
            refuse_at((("after",), f"must come with scaleCanaryTo, but is {format_duration(self.after)} alone"))
        return self


class RetireStable(Written):
    """The old stable version after a promotion."""

    scale_to: StrictInt = Field(ge=0, description="Replicas of the old stable version after a promotion.")
    after: Seconds = Field(default=0.0, description="So long after the promotion, so that a way back stays warm.")


class Promotion(Written):
    """What happens after full traffic has gone to the new version."""

    retire_stable: RetireStable | None = Field(default=None, description="Scales the old stable version. Left out: it is not scaled.")


class Hook(Written):
    """Who is told of what."""

    later: ClassVar[Mapping[str, str]] = {"before": "gates; ask a person with a stage's `approval: required`", "gate": "gates"}
    on: tuple[Event, ...] = Field(min_length=1, description="Events that are told.")
    notify: LabelName = Field(description="A notifier of config/canaryd.yaml.")

    @field_validator("on")
    @classmethod
    def _each_once(cls, events: tuple[Event, ...]) -> tuple[Event, ...]:
        return unique(events)


class Policy(Written):
    """One service's canary releases. See the module."""

    later: ClassVar[Mapping[str, str]] = {
        "strategy": "other strategies than a canary by weights",
        "bracket": "releases of several services together",
    }
    version: Literal[1] = Field(default=1, description="Of this format.")
    service: Service = Field(description="The service, and how its Deployments are found.")
    route: Route = Field(description="The Istio objects that are steered.")
    stages: tuple[Stage, ...] = Field(min_length=1, description="The ladder of weights, rising, up to 100.")
    mode: Literal["steer", "observe"] = Field(default="steer", description="`observe` judges and tells, and never touches a route.")
    analysis: Analysis = Field(default=Analysis(), description="How the canary is judged.")
    schedule: Schedule = Field(default=Schedule(), description="When, and for how long at most.")
    rollback: Rollback = Field(default=Rollback(), description="What happens to the canary's replicas after a rollback.")
    promotion: Promotion = Field(default=Promotion(), description="What happens to the old version's replicas after a promotion.")
    drift: Literal["hold", "restore"] = Field(default="hold", description="When someone else changed the weights.")
    hooks: tuple[Hook, ...] = Field(default=(), description="Who is told of what.")

    @field_validator("route")
    @classmethod
    def _destination_rule_is_the_service_s(cls, route: Route, info: ValidationInfo) -> Route:
        service = info.data.get("service")
        return route.model_copy(update={"destination_rule": service.name}) if service and not route.destination_rule else route

    @field_validator("stages")
    @classmethod
    def _ladder_rises(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        wrong: list[tuple[Key, str]] = []
        for position, (before, stage) in enumerate(pairwise(stages), start=1):
            if stage.weight <= before.weight:
                wrong.append(((position, "weight"), f"must be above the stage before it ({before.weight}), but is {stage.weight}"))
        last = len(stages) - 1
        if stages[last].weight != 100 and not wrong:
            wrong.append(((last, "weight"), f"must be 100: a ladder ends with all traffic, but is {stages[last].weight}"))
        if stages[last].weight == 100 and stages[last].approval:
            wrong.append(((last, "approval"), "must be left out at weight 100: no weight comes after it, but is required"))
        for position, stage in enumerate(stages):
            if stage.deadline < stage.minimum:
                default = "" if "deadline" in stage.model_fields_set else " (the default)"
                minimum, deadline = format_duration(stage.minimum), format_duration(stage.deadline)
                wrong.append(((position, "deadline"), f"must be at least the stage's minimum ({minimum}), but is {deadline}{default}"))
        refuse_at(*wrong)
        return stages

    @model_validator(mode="after")
    def _times_agree(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        look = format_duration(self.analysis.interval)
        for position, stage in enumerate(self.stages):
            if stage.minimum < self.analysis.interval:
                message = f"must be at least one look (analysis.interval, {look}), but is {format_duration(stage.minimum)}"
                wrong.append((("stages", position, "minimum"), message))
        if self.analysis.no_data_for < self.analysis.interval:
            message = f"must be at least one look (interval, {look}), but is {format_duration(self.analysis.no_data_for)}"
            wrong.append((("analysis", "noDataFor"), message))
        least = sum(stage.minimum for stage in self.stages)
        if self.schedule.deadline is not None and self.schedule.deadline < least:
            message = f"must be at least the sum of the stages' minimums ({format_duration(least)})"
            wrong.append((("schedule", "deadline"), f"{message}, but is {format_duration(self.schedule.deadline)}"))
        refuse_at(*wrong)
        return self

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the service: one policy each."""
        return self.service.namespace, self.service.name

    @classmethod
    def load(cls, data: object) -> Self:
        """From plain data, as a file or a `dump` has it. Raises Refused with all problems."""
        return cls.read(data)

    def dump(self) -> dict[str, Any]:
        """As JSON-able data with every value written out, defaults included, so that it means the same whatever later defaults are."""
        dumped: dict[str, Any] = without_nones(self.model_dump(mode="json", by_alias=True))
        return dumped
