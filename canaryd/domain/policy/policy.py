"""A policy: one service's ladder of stages, how its canaries are judged, and what happens then.

Everything is frozen. A wrong policy is refused here, once, with the key, what was wanted and what came; code
that gets a `Policy` does not check it again. Durations are seconds and shares are fractions (0.01 is 1%); in
YAML they are written `90s` and `1%`. `metrics.py` has what counts as harm. Nothing here reads a file:
`adapters/policies/policy_files.py` does, and adds file and line.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from canaryd.domain.policy.alerts import Alerts
from canaryd.domain.policy.fields import (
    PositiveSeconds,
    Risk,
    Seconds,
    WholeSeconds,
    without_default,
    without_nones,
)
from canaryd.domain.policy.hooks import Gate, Hook
from canaryd.domain.policy.match_conditions import Match
from canaryd.domain.policy.metrics import Errors, Latency, Metric, Query, each_once
from canaryd.domain.policy.release_bracket import (
    Bracket,
    BracketMember,
    MemberAnalysis,
    ServiceReference,
    named_after,
)
from canaryd.domain.policy.route_reference import RouteReference
from canaryd.domain.policy.session_affinity import Affinity
from canaryd.domain.policy.split_services import fair_services
from canaryd.domain.policy.stages import Stage
from canaryd.domain.policy.units import format_duration
from canaryd.domain.policy.validation import Key, StrictModel, refuse_at


class Analysis(StrictModel):
    """How the canary is judged."""

    interval: WholeSeconds = Field(default=15, description="The length of one look, in whole seconds.")
    reporter: Literal["destination", "source", "waypoint"] = Field(
        default="destination",
        description="Whose counts are used: those of the pods' sidecars (destination), of their callers "
        "(source), who also see requests that never reached a pod, or, in ambient mode, of the "
        "waypoints (waypoint). Only the pods' own counts distinguish replicas.",
    )
    false_rollback_risk: Risk = Field(
        default=0.01,
        description="The risk that a healthy version is rolled back, per rollout, whatever the number "
        "of looks.",
    )
    bad_advance_risk: Risk = Field(
        default=0.05,
        description="The risk that a version with an unacceptable regression passes a stage early.",
    )
    warmup: Seconds = Field(
        default=60.0,
        description="The first part of each replica's life, in which its errors and latency are held to "
        "limits, and not compared with stable's.",
    )
    metrics: Annotated[tuple[Metric, ...], AfterValidator(each_once)] = Field(
        default=(Metric(errors=Errors()), Metric(latency=Latency())),
        min_length=1,
        description="The metrics that are compared with stable or with limits.",
    )
    undecided: Literal["advance", "hold", "rollback"] = Field(
        default="advance",
        description="What happens at a stage's deadline without evidence of harm and without enough "
        "evidence to pass. A hold ends when the stage passes later.",
    )
    minimum_requests: StrictInt = Field(
        default=100,
        ge=0,
        description="How many requests the canary must have served in a stage; with fewer, `advance` holds.",
    )
    no_data: Literal["hold", "rollback"] = Field(
        default="hold",
        description="What happens after `noDataFor` without telemetry, or with traffic that does not "
        "follow the weight.",
    )
    no_data_for: PositiveSeconds = Field(
        default=300.0, description="How long telemetry may be missing before `noData` applies."
    )
    alerts: Alerts | None = Field(
        default=None,
        description="Alerts of Prometheus about the service; one that begins to fire after the rollout began "
        "ends or holds it.",
        json_schema_extra=without_default,
    )

    @property
    def errors(self) -> Errors | None:
        """How error rates are compared; None if they are not compared."""
        return next((metric.errors for metric in self.metrics if metric.errors), None)

    @property
    def latency(self) -> Latency | None:
        """How latencies are compared; None if they are not compared."""
        return next((metric.latency for metric in self.metrics if metric.latency), None)

    @property
    def queries(self) -> tuple[Query, ...]:
        """The policy's own PromQL queries."""
        return tuple(metric.query for metric in self.metrics if metric.query)

    @property
    def asked(self) -> tuple[str, ...]:
        """The PromQL of all queries, including the queries for stable's values."""
        return tuple(dict.fromkeys(promql for query in self.queries for promql in query.asked.values()))

    @property
    def asked_before(self) -> tuple[str, ...]:
        """The PromQL that is also sent for the time before a rollout: the queries for stable's values, which
        show how stable drifts by itself."""
        return tuple(dict.fromkeys(query.of_stable for query in self.queries if query.compare))

    @property
    def asked_of_alerts(self) -> tuple[str, ...]:
        """The PromQL of the alerts that fire, which is also sent for the time before a rollout; () without
        alerts."""
        return (self.alerts.promql,) if self.alerts is not None else ()


class Schedule(StrictModel):
    """How long a rollout may take."""

    later: ClassVar[Mapping[str, str]] = {
        "freeze": "times in which no stage starts; use `canaryd pause` meanwhile"
    }
    deadline: PositiveSeconds | None = Field(
        default=None, description="The longest time that the whole rollout may take; its clock never stops."
    )


class Rollback(StrictModel):
    """What happens to the canary's replicas after a rollback. Without `scaleCanaryTo` nothing is scaled."""

    scale_canary_to: StrictInt | None = Field(
        default=None,
        ge=0,
        description="Replicas of the canary after a rollback; by default it is not scaled.",
    )
    after: Seconds = Field(
        default=0.0,
        description="How long after the rollback the canary is scaled, so that it can be inspected until "
        "then; at least 15s, for requests under way.",
    )

    @model_validator(mode="after")
    def _pause_has_a_purpose(self) -> Self:
        if self.after and self.scale_canary_to is None:
            refuse_at(
                (
                    ("after",),
                    f"must be set only with scaleCanaryTo, but is {format_duration(self.after)} without it",
                )
            )
        return self


class RetireStable(StrictModel):
    """What happens to the old stable version after a promotion."""

    scale_to: StrictInt = Field(ge=0, description="Replicas of the old stable version after a promotion.")
    after: Seconds = Field(
        default=0.0,
        description="How long after the promotion the old version is scaled, so that it can take over "
        "again until then; at least 15s, for requests under way.",
    )


class Promotion(StrictModel):
    """What happens after the new version has all traffic and the rollout has succeeded."""

    retire_stable: RetireStable | None = Field(
        default=None, description="Scales the old stable version. By default it is not scaled."
    )


# Of a blue/green release without stages of its own: dark until its gates are open, then all users, with the
# old version warm beside it.
_BLUE_GREEN: tuple[Mapping[str, Any], ...] = ({"weight": 0}, {"weight": 100, "minimum": "10m"})


_SPLIT_NEEDS_CALLERS = (
    "must be set only with analysis.reporter: source. Stable's matched users are distinguished from its "
    "other users by the Service that they called, and only callers report it (a pod's sidecar and a "
    "waypoint report the same Service for all), but the reporter is"
)


def _unknown_to_gateways(matches: Sequence[Match]) -> str:
    """The reason why conditions cannot be written in an HTTPRoute; "" if they can."""
    found = [
        kind for kind in ("withoutHeaders", "sourceLabels") if any(kind in match.istio for match in matches)
    ]
    if not found:
        return ""
    return (
        f"must be without {' and '.join(found)} where route.httpRoute is set, since the Gateway API has no "
        "such condition, but has it"
    )


def _stages_may_be_left_out(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name != "stages"]
    schema["anyOf"] = [
        {"required": ["stages"]},
        {"properties": {"strategy": {"const": "blue-green"}}, "required": ["strategy"]},
    ]


class Policy(StrictModel):
    """One service's canary releases: the service, its route, the ladder of stages, and how canaries are
    judged."""

    model_config = ConfigDict(json_schema_extra=_stages_may_be_left_out)
    version: Literal[1] = Field(default=1, description="The version of the policy format.")
    service: ServiceReference = Field(description="The service and the labels of its Deployments.")
    route: RouteReference = Field(description="The route that canaryd steers.")
    strategy: Literal["canary", "blue-green"] = Field(
        default="canary",
        description="`canary`: users move to the new version in steps. `blue-green`: all users move at "
        "once, after stages in which the new version answers no user; if anything is wrong "
        "then, all of them move back at once.",
    )
    stages: tuple[Stage, ...] = Field(
        min_length=1,
        description="The ladder: first stages without a weight, then stages with rising weights, up to 100.",
    )
    mode: Literal["steer", "observe"] = Field(
        default="steer", description="`observe` judges and announces, and never changes a route."
    )
    analysis: Analysis = Field(default=Analysis(), description="How the canary is judged.")
    schedule: Schedule = Field(default=Schedule(), description="How long a rollout may take.")
    rollback: Rollback = Field(
        default=Rollback(), description="What happens to the canary's replicas after a rollback."
    )
    promotion: Promotion = Field(
        default=Promotion(), description="What happens to the old version's replicas after a promotion."
    )
    drift: Literal["hold", "restore"] = Field(
        default="hold", description="What happens when someone else changed the weights."
    )
    bracket: Bracket | None = Field(
        default=None,
        description="Services whose versions belong together with this service's: one rollout takes all of "
        "them up the same stages, and harm in any of them sends all of them back.",
        json_schema_extra=without_default,
    )
    hooks: tuple[Hook, ...] = Field(
        default=(),
        description="Which notifiers announce which events, and which gates are asked before which stages.",
    )

    @model_validator(mode="before")
    @classmethod
    def _blue_green_has_a_ladder(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("strategy") == "blue-green" and "stages" not in data:
            return {
                **data,
                "stages": list(_BLUE_GREEN if data.get("mode") != "observe" else _BLUE_GREEN[-1:]),
            }
        return data

    @field_validator("route")
    @classmethod
    def _is_named_after_the_service(cls, route: RouteReference, info: ValidationInfo) -> RouteReference:
        return named_after(info.data.get("service"), route)

    @field_validator("stages")
    @classmethod
    def _ladder_rises(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        wrong: list[tuple[Key, str]] = []
        for position, (before, stage) in enumerate(pairwise(stages), start=1):
            if not stage.weight and not before.weight:
                alike = [
                    at
                    for at, earlier in enumerate(stages[:position])
                    if (earlier.match, earlier.mirror, earlier.split)
                    == (stage.match, stage.mirror, stage.split)
                ]
                if alike:
                    wrong.append(
                        (
                            (position,),
                            f"must differ from the stages before it, but equals stages[{alike[0]}] "
                            f"({stage.said})",
                        )
                    )
            elif stage.weight <= before.weight:
                first = "" if stage.weight else ": stages without a weight come first"
                wrong.append(
                    (
                        (position, "weight"),
                        f"must be above the stage before it ({before.weight}), but is {stage.weight}{first}",
                    )
                )
        last = len(stages) - 1
        if stages[last].weight != 100 and not wrong:
            wrong.append(
                (
                    (last, "weight"),
                    f"must be 100, since a ladder ends with all traffic, but is {stages[last].weight}",
                )
            )
        if stages[last].weight == 100 and stages[last].approval:
            wrong.append(
                (
                    (last, "approval"),
                    "must be left out at weight 100, after which no weight comes, but is required",
                )
            )
        for position, stage in enumerate(stages):
            if stage.deadline < stage.minimum:
                default = "" if "deadline" in stage.model_fields_set else " (the default)"
                minimum, deadline = format_duration(stage.minimum), format_duration(stage.deadline)
                wrong.append(
                    (
                        (position, "deadline"),
                        f"must be at least the stage's minimum ({minimum}), but is {deadline}{default}",
                    )
                )
        refuse_at(*wrong)
        return stages

    @model_validator(mode="after")
    def _blue_green_switches_at_once(self) -> Self:
        between = [(position, stage) for position, stage in enumerate(self.stages) if 0 < stage.weight < 100]
        if self.strategy == "blue-green":
            wanted = "must be 0 or 100 with strategy: blue-green, which switches all users at once"
            refuse_at(
                *(
                    (("stages", position, "weight"), f"{wanted}, but is {stage.weight}")
                    for position, stage in between
                )
            )
        return self

    @model_validator(mode="after")
    def _times_agree(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        look = format_duration(self.analysis.interval)
        for position, stage in enumerate(self.stages):
            if stage.minimum < self.analysis.interval:
                message = (
                    f"must be at least one look (analysis.interval, {look}), but is "
                    f"{format_duration(stage.minimum)}"
                )
                wrong.append((("stages", position, "minimum"), message))
        if self.analysis.no_data_for < self.analysis.interval:
            message = (
                f"must be at least one look (interval, {look}), but is "
                f"{format_duration(self.analysis.no_data_for)}"
            )
            wrong.append((("analysis", "noDataFor"), message))
        least = sum(stage.minimum for stage in self.stages)
        if self.schedule.deadline is not None and self.schedule.deadline < least:
            message = f"must be at least the sum of the stages' minimums ({format_duration(least)})"
            wrong.append(
                (("schedule", "deadline"), f"{message}, but is {format_duration(self.schedule.deadline)}")
            )
        refuse_at(*wrong)
        return self

    @model_validator(mode="after")
    def _gates_stand_on_the_ladder(self) -> Self:
        weights = [stage.weight for stage in self.stages]
        wanted = f"must be start, promotion or a weight of the ladder ({', '.join(map(str, weights))})"
        refuse_at(
            *(
                (("hooks", position, "before"), f"{wanted}, but is {hook.before}")
                for position, hook in enumerate(self.hooks)
                if isinstance(hook.before, int) and hook.before not in weights
            )
        )
        return self

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates in the order of the policy, in which gates before the same place are asked."""
        return tuple(gate for hook in self.hooks if (gate := hook.asks) is not None)

    def leads_back_to(self, stage: int) -> int | None:
        """The index of the stage to which an alarm steps back, in which both versions serve a share of all
        users; None if there is none, so that the rollout is rolled back. stage: the index of the present
        stage."""
        return stage - 1 if stage > 0 and self.stages[stage - 1].weight else None

    def called(self, stage: int) -> tuple[str, ...]:
        """The Services that the compared requests of a stage call, if only some requests are compared; ()
        otherwise. See `split_services.py`. stage: its index."""
        return (
            fair_services(self.service.name, bool(self.route.http_route)) if self.stages[stage].split else ()
        )

    @property
    def fair_services(self) -> tuple[str, ...]:
        """The names of the Services that canaryd creates for stages with `split`, for as long as a rollout
        lasts."""
        return next((self.called(at) for at, stage in enumerate(self.stages) if stage.split), ())

    def without_hooks(self) -> Self:
        """A copy of the policy that announces nothing and asks no gate."""
        return self.model_copy(update={"hooks": ()})

    @property
    def notifiers(self) -> tuple[str, ...]:
        """The names of all notifiers of the hooks, without repeats."""
        return tuple(dict.fromkeys(hook.notify for hook in self.hooks if hook.notify is not None))

    def notifiers_of(self, event: str) -> tuple[str, ...]:
        """The names of the notifiers that announce this event, without repeats."""
        return tuple(
            dict.fromkeys(
                hook.notify for hook in self.hooks if hook.notify is not None and event in (hook.on or ())
            )
        )

    @model_validator(mode="after")
    def _can_be_steered_and_seen(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        observed = "must be left out with mode: observe, where canaryd adds no route, but is set"
        dark = "must be above 0 with mode: observe, where canaryd keeps no version dark, but is 0"
        copied = (
            "must be left out with analysis.reporter: source, since callers do not count copies, but is set"
        )
        for position, stage in enumerate(self.stages):
            if self.mode == "observe" and stage.kind == "dark":
                wrong.append((("stages", position, "weight"), dark))
            elif self.mode == "observe" and stage.kind != "weight":
                wrong.append((("stages", position, "match" if stage.match else stage.kind), observed))
            elif self.route.http_route and (unknown := _unknown_to_gateways(stage.match)):
                wrong.append((("stages", position, "match"), unknown))
            elif stage.split and self.analysis.reporter != "source":
                wrong.append(
                    (("stages", position, "split"), f"{_SPLIT_NEEDS_CALLERS} {self.analysis.reporter}")
                )
            elif (
                stage.split
                and (longest := max(map(len, fair_services(self.service.name, bool(self.route.http_route)))))
                > 63
            ):
                wrong.append(
                    (
                        ("stages", position, "split"),
                        "must be left out for a service with such a long name: canaryd adds Services that "
                        "are named after it, and a name may have 63 characters, but one would have "
                        f"{longest}",
                    )
                )
            elif stage.mirror is not None and self.analysis.reporter == "source":
                wrong.append((("stages", position, "mirror"), copied))
        if self.mode == "observe" and self.route.preview:
            wrong.append((("route", "preview"), observed))
        elif self.route.http_route and (unknown := _unknown_to_gateways(self.route.preview)):
            wrong.append((("route", "preview"), unknown))
        refuse_at(*wrong)
        return self

    @model_validator(mode="after")
    def _users_can_stay(self) -> Self:
        affinity, key = self.route.affinity, ("route", "affinity")
        if affinity is None:
            return self
        wrong: list[tuple[Key, str]] = []
        if self.mode == "observe":
            wrong.append(
                (key, "must be left out with mode: observe, where canaryd sets no cookie, but is set")
            )
        elif not any(0 < stage.weight < 100 for stage in self.stages):
            wrong.append(
                (
                    key,
                    "must be left out where no stage has a weight between 0 and 100, since no users are "
                    "drawn, but is set",
                )
            )
        matched = (
            "must be left out where route.affinity is set, since users who saw the canary would stay on "
            "it, and later stages compare users who were drawn at random, but is set"
        )
        wrong += [
            (("stages", position, "match"), matched)
            for position, stage in enumerate(self.stages)
            if stage.match
        ]
        if self.schedule.deadline is not None and affinity.max_age < self.schedule.deadline:
            message = (
                f"must be at least schedule.deadline ({format_duration(self.schedule.deadline)}), or users "
                "are drawn anew meanwhile"
            )
            wrong.append(((*key, "maxAge"), f"{message}, but is {format_duration(affinity.max_age)}"))
        refuse_at(*wrong)
        return self

    @model_validator(mode="after")
    def _bracket_can_be_steered(self) -> Self:
        if self.bracket is None:
            return self
        wrong: list[tuple[Key, str]] = []
        for position, stage in enumerate(self.stages):
            if stage.match or stage.mirror is not None:
                why = (
                    "must be left out in a bracket, since the services behind the entrance do not know "
                    "which requests were chosen there"
                )
                wrong.append(
                    (("stages", position, "match" if stage.match else "mirror"), f"{why}, but is set")
                )
        for position, member in enumerate(self.bracket.members):
            if member.service.key in self.keys[: position + 1]:
                once = f"must be listed only once, but {'/'.join(member.service.key)} is listed twice"
                wrong.append((("bracket", "members", position, "service", "name"), once))
            if self.mode == "observe" and member.route.preview:
                there = "must be left out with mode: observe, where canaryd adds no route, but is set"
                wrong.append((("bracket", "members", position, "route", "preview"), there))
            elif member.route.http_route and (unknown := _unknown_to_gateways(member.route.preview)):
                wrong.append((("bracket", "members", position, "route", "preview"), unknown))
            if member.route.affinity is not None:
                alone = (
                    "must be left out behind the entrance, since requests between services carry no user's "
                    "cookie, but is set"
                )
                wrong.append((("bracket", "members", position, "route", "affinity"), alone))
        refuse_at(*wrong)
        return self

    @property
    def weights(self) -> tuple[int, ...]:
        """The weights of the stages in per cent, in their order."""
        return tuple(stage.weight for stage in self.stages)

    def by_user(self, stage: int) -> Affinity | None:
        """How users are drawn in a stage; None if requests are drawn, or nothing is. stage: its index; -1
        before the first."""
        return (
            self.route.affinity
            if 0 <= stage < len(self.stages) and 0 < self.stages[stage].weight < 100
            else None
        )

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """The namespace and name of every service of the policy, callers first."""
        return self.key, *(member.service.key for member in (self.bracket.members if self.bracket else ()))

    @property
    def parts(self) -> tuple[Self, ...]:
        """A policy for each service, by which the service is judged and steered; without the hooks, which
        belong to the whole.

        The risk of a false rollback is divided among the services (Bonferroni), so that the policy's risk
        holds for the whole. The mean of the services' odds would be equally valid evidence, and faster if
        several services are harmed at once. But then a verdict could not be recomputed from one service's
        telemetry, and a guardrail's odds would need a bar of their own. Dividing costs log n of evidence. The
        bracket passes when every service passes, each by the whole `badAdvanceRisk`: it is less likely that
        all of them pass by error than that one does.
        """
        if self.bracket is None:
            return (self,)
        risk = self.analysis.false_rollback_risk / len(self.keys)
        shared = {"false_rollback_risk": risk}
        return tuple(
            policy.model_copy(update={"analysis": policy.analysis.model_copy(update=shared)})
            for policy in self._each_alone()
        )

    def among(self, services: Collection[tuple[str, str]]) -> Self:
        """The policy restricted to some of its services; for one service, its plain policy without a bracket.
        The first of them becomes the policy's own service. services: namespaces and names, at least one of
        the policy's."""
        found = [policy for policy in self._each_alone() if policy.key in services]
        if len(found) == len(self.keys) or self.bracket is None:
            return self
        first, *rest = found
        members = tuple(
            BracketMember(
                service=policy.service,
                route=policy.route,
                analysis=MemberAnalysis(warmup=policy.analysis.warmup, metrics=policy.analysis.metrics),
            )
            for policy in rest
        )
        bracket = self.bracket.model_copy(update={"members": members}) if rest else None
        return first.model_copy(update={"hooks": self.hooks, "bracket": bracket})

    def _each_alone(self) -> tuple[Self, ...]:
        plain = self.model_copy(update={"hooks": (), "bracket": None})
        found = [plain]
        for member in self.bracket.members if self.bracket else ():
            own = {
                name: value
                for name in ("warmup", "metrics")
                if (value := getattr(member.analysis, name)) is not None
            }
            analysis = self.analysis.model_copy(update=own)
            found.append(
                plain.model_copy(
                    update={"service": member.service, "route": member.route, "analysis": analysis}
                )
            )
        return tuple(found)

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and name of the policy's own service, for which there is only one policy."""
        return self.service.key

    @classmethod
    def load(cls, data: object) -> Self:
        """Reads a policy from plain data, as a file or `dump` gives it. Raises InvalidPolicy with all
        problems."""
        return cls.read(data)

    def dump(self) -> dict[str, Any]:
        """The policy as JSON-able data with every value written out, including defaults, so that its meaning
        does not change with later defaults."""
        dumped: dict[str, Any] = without_nones(self.model_dump(mode="json", by_alias=True))
        return dumped
