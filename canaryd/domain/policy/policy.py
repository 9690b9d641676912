"""What an SRE wants of one service's canary releases: the ladder of weights, how they are judged, and what
happens then.

Everything is frozen, and nonsense is refused here once, with key, what was wanted and what came; past
`Policy` no one checks again. Durations are seconds, shares are fractions (0.01 is 1%); in YAML they are
written `90s` and `1%`. What counts as harm is `metrics.py`'s. Nothing here reads a file:
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
        description="Whose counts: the pods' sidecars, their callers' (who also see what never reached a "
        "pod), or, in ambient mode, the waypoints'; only the pods' own tell replicas apart.",
    )
    false_rollback_risk: Risk = Field(
        default=0.01, description="Of a healthy version, per rollout, whatever the number of looks."
    )
    bad_advance_risk: Risk = Field(
        default=0.05, description="Of passing a stage early with an unacceptable regression."
    )
    warmup: Seconds = Field(
        default=60.0, description="The first of each replica's time, left out of latency (not of errors)."
    )
    metrics: Annotated[tuple[Metric, ...], AfterValidator(each_once)] = Field(
        default=(Metric(errors=Errors()), Metric(latency=Latency())),
        min_length=1,
        description="What is compared or limited.",
    )
    undecided: Literal["advance", "hold", "rollback"] = Field(
        default="advance",
        description="At a stage's deadline, without evidence of harm and without enough to pass. A hold ends "
        "when it passes later.",
    )
    minimum_requests: StrictInt = Field(
        default=100, ge=0, description="Of the canary in a stage; with fewer, `advance` holds."
    )
    no_data: Literal["hold", "rollback"] = Field(
        default="hold",
        description="After `noDataFor` without telemetry, or with traffic that does not follow the weight.",
    )
    no_data_for: PositiveSeconds = Field(default=300.0, description="So long without telemetry is too long.")

    @property
    def errors(self) -> Errors | None:
        """How error rates are compared; None where they are not."""
        return next((metric.errors for metric in self.metrics if metric.errors), None)

    @property
    def latency(self) -> Latency | None:
        """How latencies are compared; None where they are not."""
        return next((metric.latency for metric in self.metrics if metric.latency), None)

    @property
    def queries(self) -> tuple[Query, ...]:
        """The policy's own PromQL queries."""
        return tuple(metric.query for metric in self.metrics if metric.query)

    @property
    def asked(self) -> tuple[str, ...]:
        """The PromQL of all queries, stable's values of compared ones included."""
        return tuple(dict.fromkeys(promql for query in self.queries for promql in query.asked.values()))

    @property
    def asked_before(self) -> tuple[str, ...]:
        """Those of them that are asked for the time before a rollout too: stable's values, which tell how it
        drifts by itself."""
        return tuple(dict.fromkeys(query.of_stable for query in self.queries if query.compare))


class Schedule(StrictModel):
    """When, and for how long at most."""

    later: ClassVar[Mapping[str, str]] = {
        "freeze": "times in which no stage starts; use `canaryd pause` meanwhile"
    }
    deadline: PositiveSeconds | None = Field(
        default=None, description="Of the whole rollout; it never stands still."
    )


class Rollback(StrictModel):
    """What happens to the canary after its traffic is gone. Without `scaleCanaryTo` nothing is scaled."""

    scale_canary_to: StrictInt | None = Field(
        default=None,
        ge=0,
        description="Replicas of the canary after a rollback; by default it is not scaled.",
    )
    after: Seconds = Field(
        default=0.0,
        description="So long after the rollback, so that it can be looked at; at least 15s, for requests "
        "under way.",
    )

    @model_validator(mode="after")
    def _pause_has_a_purpose(self) -> Self:
        if self.after and self.scale_canary_to is None:
            refuse_at(
                (("after",), f"must come with scaleCanaryTo, but is {format_duration(self.after)} alone")
            )
        return self


class RetireStable(StrictModel):
    """The old stable version after a promotion."""

    scale_to: StrictInt = Field(ge=0, description="Replicas of the old stable version after a promotion.")
    after: Seconds = Field(
        default=0.0,
        description="So long after the promotion, so that a way back stays warm; at least 15s, for requests "
        "under way.",
    )


class Promotion(StrictModel):
    """What happens after full traffic has gone to the new version."""

    retire_stable: RetireStable | None = Field(
        default=None, description="Scales the old stable version. Left out: it is not scaled."
    )


# Of a blue/green release without stages of its own: dark until its gates are open, then all users, with the
# old version warm beside it.
_BLUE_GREEN: tuple[Mapping[str, Any], ...] = ({"weight": 0}, {"weight": 100, "minimum": "10m"})


_APART = (
    "needs analysis.reporter: source. The matched users on stable are told from its others by the Service "
    "that they called, which callers know; a pod's own sidecar names one and the same for all, and so does a "
    "waypoint"
)


def _unknown_to_gateways(matches: Sequence[Match]) -> str:
    """Why conditions cannot be written in an HTTPRoute; empty where they can."""
    found = [
        kind for kind in ("withoutHeaders", "sourceLabels") if any(kind in match.istio for match in matches)
    ]
    if not found:
        return ""
    return (
        f"must be without {' and '.join(found)} with route.httpRoute, since the Gateway API has no such "
        "condition, but has it"
    )


def _stages_may_be_left_out(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name != "stages"]
    schema["anyOf"] = [
        {"required": ["stages"]},
        {"properties": {"strategy": {"const": "blue-green"}}, "required": ["strategy"]},
    ]


class Policy(StrictModel):
    """One service's canary releases. See the module."""

    model_config = ConfigDict(json_schema_extra=_stages_may_be_left_out)
    version: Literal[1] = Field(default=1, description="Of this format.")
    service: ServiceReference = Field(description="The service, and how its Deployments are found.")
    route: RouteReference = Field(description="The route that is steered.")
    strategy: Literal["canary", "blue-green"] = Field(
        default="canary",
        description="`canary`: users come in steps. `blue-green`: all at once, after stages that no user's "
        "answer comes from; whatever is wrong then sends all back at once.",
    )
    stages: tuple[Stage, ...] = Field(
        min_length=1, description="The ladder: stages without a weight, then weights, rising, up to 100."
    )
    mode: Literal["steer", "observe"] = Field(
        default="steer", description="`observe` judges and tells, and never touches a route."
    )
    analysis: Analysis = Field(default=Analysis(), description="How the canary is judged.")
    schedule: Schedule = Field(default=Schedule(), description="When, and for how long at most.")
    rollback: Rollback = Field(
        default=Rollback(), description="What happens to the canary's replicas after a rollback."
    )
    promotion: Promotion = Field(
        default=Promotion(), description="What happens to the old version's replicas after a promotion."
    )
    drift: Literal["hold", "restore"] = Field(
        default="hold", description="When someone else changed the weights."
    )
    bracket: Bracket | None = Field(
        default=None,
        description="Services whose versions belong together with this one's: one rollout for "
        "all, up the same stages; harm of any sends all of them back.",
        json_schema_extra=without_default,
    )
    hooks: tuple[Hook, ...] = Field(
        default=(), description="Who is told of what, and which gates are asked before what."
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
                    for at, one in enumerate(stages[:position])
                    if (one.match, one.mirror, one.split) == (stage.match, stage.mirror, stage.split)
                ]
                if alike:
                    wrong.append(
                        (
                            (position,),
                            f"must differ from the stages before it, but is as stages[{alike[0]}] "
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
                    f"must be 100: a ladder ends with all traffic, but is {stages[last].weight}",
                )
            )
        if stages[last].weight == 100 and stages[last].approval:
            wrong.append(
                (
                    (last, "approval"),
                    "must be left out at weight 100: no weight comes after it, but is required",
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
        """In the order in which they are written, and asked where several stand at one place."""
        return tuple(gate for hook in self.hooks if (gate := hook.asks) is not None)

    def leads_back_to(self, stage: int) -> int | None:
        """The stage that an alarm leads back to, where both versions serve a share of all users; None: there
        is none, so that it is rolled back."""
        return stage - 1 if stage > 0 and self.stages[stage - 1].weight else None

    def called(self, stage: int) -> tuple[str, ...]:
        """The Services that the requests which are compared in a stage call, where they are not all: see
        `split_services.py`."""
        return (
            fair_services(self.service.name, bool(self.route.http_route)) if self.stages[stage].split else ()
        )

    @property
    def fair_services(self) -> tuple[str, ...]:
        """The Services that canaryd makes for stages with `split`, for as long as a rollout lasts."""
        return next((self.called(at) for at, stage in enumerate(self.stages) if stage.split), ())

    def without_hooks(self) -> Self:
        """The same ladder and the same judge, telling and asking nobody."""
        return self.model_copy(update={"hooks": ()})

    @property
    def notifiers(self) -> tuple[str, ...]:
        """Whom the hooks tell of anything, each once."""
        return tuple(dict.fromkeys(hook.notify for hook in self.hooks if hook.notify is not None))

    def notifiers_of(self, event: str) -> tuple[str, ...]:
        """The notifiers that an announcement of this event goes to, each once."""
        return tuple(
            dict.fromkeys(
                hook.notify for hook in self.hooks if hook.notify is not None and event in (hook.on or ())
            )
        )

    @model_validator(mode="after")
    def _can_be_steered_and_seen(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        observed = "must be left out with mode: observe, where canaryd adds no route, but is there"
        dark = "must be above 0 with mode: observe, where canaryd keeps nothing dark, but is 0"
        copied = (
            "must be left out with analysis.reporter: source, since callers count no copies, but is there"
        )
        for position, stage in enumerate(self.stages):
            if self.mode == "observe" and stage.kind == "dark":
                wrong.append((("stages", position, "weight"), dark))
            elif self.mode == "observe" and stage.kind != "weight":
                wrong.append((("stages", position, "match" if stage.match else stage.kind), observed))
            elif self.route.http_route and (unknown := _unknown_to_gateways(stage.match)):
                wrong.append((("stages", position, "match"), unknown))
            elif stage.split and self.analysis.reporter != "source":
                wrong.append((("stages", position, "split"), _APART + f", but is {self.analysis.reporter}"))
            elif (
                stage.split
                and (longest := max(map(len, fair_services(self.service.name, bool(self.route.http_route)))))
                > 63
            ):
                wrong.append(
                    (
                        ("stages", position, "split"),
                        "must be left out for a service of so long a name: canaryd makes Services of its own "
                        f"for it, whose names have at most 63 characters, but one would have {longest}",
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
                (key, "must be left out with mode: observe, where canaryd sets no cookie, but is there")
            )
        elif not any(0 < stage.weight < 100 for stage in self.stages):
            wrong.append(
                (
                    key,
                    "must be left out where no stage has a weight between 0 and 100, since no user is drawn, "
                    "but is there",
                )
            )
        matched = (
            "must be left out beside route.affinity, since users who saw the canary would stay on it, and "
            "stages after this one compare users who were drawn, but is there"
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
                    "must be left out in a bracket: who is chosen at the entrance is not known to the "
                    "services behind it"
                )
                wrong.append(
                    (("stages", position, "match" if stage.match else "mirror"), f"{why}, but is there")
                )
        for position, member in enumerate(self.bracket.members):
            if member.service.key in self.keys[: position + 1]:
                once = f"must be each service once, but {'/'.join(member.service.key)} is there twice"
                wrong.append((("bracket", "members", position, "service", "name"), once))
            if self.mode == "observe" and member.route.preview:
                there = "must be left out with mode: observe, where canaryd adds no route, but is there"
                wrong.append((("bracket", "members", position, "route", "preview"), there))
            elif member.route.http_route and (unknown := _unknown_to_gateways(member.route.preview)):
                wrong.append((("bracket", "members", position, "route", "preview"), unknown))
            if member.route.affinity is not None:
                alone = (
                    "must be left out behind the entrance, since what services ask of each other carries no "
                    "user's cookie, but is there"
                )
                wrong.append((("bracket", "members", position, "route", "affinity"), alone))
        refuse_at(*wrong)
        return self

    @property
    def weights(self) -> tuple[int, ...]:
        """Of the stages, in their order."""
        return tuple(stage.weight for stage in self.stages)

    def by_user(self, stage: int) -> Affinity | None:
        """How users are drawn in this stage; None where requests are, or nothing is."""
        return (
            self.route.affinity
            if 0 <= stage < len(self.stages) and 0 < self.stages[stage].weight < 100
            else None
        )

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Of every service that the policy is about, callers first."""
        return self.key, *(member.service.key for member in (self.bracket.members if self.bracket else ()))

    @property
    def parts(self) -> tuple[Self, ...]:
        """Of each service by itself, as it is judged and steered; hooks are the whole's.

        The risk of a false rollback is divided among them (Bonferroni), so that what the policy allows holds
        for the whole. The mean of their odds would be evidence just as valid, and sooner where several are
        harmed at once; but then no verdict could be had again from one service's telemetry, and a guardrail's
        odds would need a bar of their own. Dividing costs log n of evidence. To pass, every part has to, each
        by the whole `badAdvanceRisk`: that all of them pass by error is less likely than that one does.
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
        """The policy as if these services of it were all; of one, the plain policy that it would have alone.
        Its first is then the policy's own service. services: at least one."""
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
        """Namespace and name of the service: one policy each."""
        return self.service.key

    @classmethod
    def load(cls, data: object) -> Self:
        """From plain data, as a file or a `dump` has it. Raises InvalidPolicy with all problems."""
        return cls.read(data)

    def dump(self) -> dict[str, Any]:
        """As JSON-able data with every value written out, defaults included, so that it means the same
        whatever later defaults are."""
        dumped: dict[str, Any] = without_nones(self.model_dump(mode="json", by_alias=True))
        return dumped
