"""A policy's `route`: the route that canaryd steers, an Istio VirtualService or a Gateway API HTTPRoute, each
with its own keys."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    model_serializer,
    model_validator,
)

from canaryd.domain.policy.fields import ObjectName, Text, unique, without_default
from canaryd.domain.policy.match_conditions import Matches
from canaryd.domain.policy.session_affinity import Affinity
from canaryd.domain.policy.validation import Key, StrictModel, refuse_at, shown

_OF_ISTIO = {
    "destination_rule": "destinationRule",
    "add_subset": "addSubset",
    "http": "http",
    "affinity": "affinity",
}
_OF_GATEWAY_API = {"add_service": "addService", "rules": "rules"}
OWN = "canaryd-"  # begins the names of http routes that canaryd adds


def _not_own(names: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [(position, name) for position, name in enumerate(names) if name.startswith(OWN)]
    refuse_at(
        *(
            ((position,), f"must not begin with {OWN}, as the routes that canaryd adds do, but is {name}")
            for position, name in wrong
        )
    )
    return names


def _either(schema: dict[str, Any]) -> None:
    """For editors: one of the two routes, with its own keys only."""
    schema["oneOf"] = [
        {
            "required": ["virtualService"],
            "properties": dict.fromkeys(("httpRoute", *_OF_GATEWAY_API.values()), False),
        },
        {
            "required": ["httpRoute"],
            "properties": dict.fromkeys(("virtualService", *_OF_ISTIO.values()), False),
        },
    ]


class RouteReference(StrictModel):
    """The route that canaryd steers: a VirtualService with its DestinationRule, or an HTTPRoute with a
    Service for each version."""

    model_config = ConfigDict(json_schema_extra=_either)
    virtual_service: ObjectName = Field(
        default="",
        description="The Istio VirtualService that routes to this service.",
        json_schema_extra=without_default,
    )
    destination_rule: ObjectName = Field(
        default="",
        description="The Istio DestinationRule with a subset for each version. Default: the service's name.",
        json_schema_extra=without_default,
    )
    add_subset: StrictBool = Field(
        default=True,
        description="Whether canaryd adds a subset to the DestinationRule for a new version that has none.",
    )
    http: Annotated[tuple[Text, ...], AfterValidator(unique), AfterValidator(_not_own)] = Field(
        default=(),
        description="Names of the http routes to steer. Empty: every route to this host that has no match.",
    )
    preview: Matches = Field(
        default=(),
        description="Requests that always go to the canary, from the first stage to the end of the "
        "rollout, such as {headers: {x-canary: {exact: always}}}.",
        json_schema_extra=without_default,
    )
    affinity: Affinity | None = Field(
        default=None,
        description="Draws users instead of requests: a user who saw the new version stays on it while the "
        "rollout lasts. {} takes all defaults.",
        json_schema_extra=without_default,
    )
    http_route: ObjectName = Field(
        default="",
        description="The Gateway API HTTPRoute that routes to this service, instead of virtualService.",
        json_schema_extra=without_default,
    )
    add_service: StrictBool = Field(
        default=True,
        description="With httpRoute: whether canaryd adds a Service for a new version that has none, for "
        "as long as it is used.",
    )
    rules: Annotated[tuple[Text, ...], AfterValidator(unique), AfterValidator(_not_own)] = Field(
        default=(),
        description="With httpRoute: names of the rules to steer. Empty: every rule to this service that "
        "has no match.",
    )

    @property
    def name(self) -> str:
        """The name of the VirtualService or HTTPRoute."""
        return self.http_route or self.virtual_service

    @model_validator(mode="after")
    def _one_router(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        if self.virtual_service and self.http_route:
            wrong.append(
                (
                    ("httpRoute",),
                    "must be left out where virtualService is set: a policy steers one of them, but is "
                    f"{self.http_route}",
                )
            )
        elif not self.name:
            wrong.append(
                (
                    ("virtualService",),
                    "is missing, wanted: the Istio VirtualService that routes to this service "
                    "(or httpRoute: the HTTPRoute that does)",
                )
            )
        else:
            kind, others = (
                ("httpRoute", _OF_ISTIO) if self.http_route else ("virtualService", _OF_GATEWAY_API)
            )
            wrong += [
                (
                    (key,),
                    f"must be left out where {kind} is set, which does not use it, but is "
                    f"{shown(getattr(self, field))}",
                )
                for field, key in others.items()
                if field in self.model_fields_set
            ]
        refuse_at(*wrong)
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the keys of the other kind of route, which would be refused when the policy is read
        back."""
        others = ("virtual_service", *_OF_ISTIO) if self.http_route else ("http_route", *_OF_GATEWAY_API)
        written = {
            "virtual_service": "virtualService",
            "http_route": "httpRoute",
            **_OF_ISTIO,
            **_OF_GATEWAY_API,
        }
        left_out = {*others, *(written[field] for field in others)}
        return {key: value for key, value in handler(self).items() if key not in left_out}
