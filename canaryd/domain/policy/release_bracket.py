"""A policy's `bracket`: services whose versions belong together, and what the policy sets for each of them.

A bracket is one rollout: one ladder, one verdict, one record. The policy's own service is at the entrance.
The others follow in the order in which requests reach them, because weights are safely changed in that order:
see `control/route_sync.py`.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from canaryd.domain.policy.fields import LabelKey, LabelName, LabelValue, Seconds, without_default
from canaryd.domain.policy.metrics import Metric, each_once
from canaryd.domain.policy.route_reference import OWN, RouteReference
from canaryd.domain.policy.validation import StrictModel

MOST_MEMBERS = 20  # each costs three queries a look; what belongs together is a handful


class ServiceReference(StrictModel):
    """The Kubernetes Service, the labels of its Deployments, and the label that distinguishes its
    versions."""

    name: LabelName = Field(description="The Kubernetes Service.")
    namespace: LabelName = Field(description="Its namespace.")
    selector: Mapping[LabelKey, LabelValue] = Field(
        min_length=1,
        description="Labels of the pod templates of this service's Deployments, such as {app: front-end}.",
    )
    version_label: LabelKey = Field(
        default="version", description="The pod template label whose value is the version."
    )

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and the name of the Service."""
        return self.namespace, self.name


def named_after(service: ServiceReference | None, route: RouteReference) -> RouteReference:
    """The route with its names filled in: a DestinationRule without a name takes the service's name, and a
    cookie is named after the service."""
    if service is None or route.http_route:
        return route
    named: dict[str, object] = {} if route.destination_rule else {"destination_rule": service.name}
    if route.affinity is not None and not route.affinity.cookie:
        named["affinity"] = route.affinity.model_copy(update={"cookie": f"{OWN}{service.name}"})
    return route.model_copy(update=named)


class MemberAnalysis(StrictModel):
    """How this service is judged where it differs from the policy's `analysis`."""

    warmup: Seconds | None = Field(
        default=None,
        description="Replaces the policy's analysis.warmup for this service.",
        json_schema_extra=without_default,
    )
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1), AfterValidator(each_once)] | None = Field(
        default=None,
        description="Replaces the policy's analysis.metrics for this service.",
        json_schema_extra=without_default,
    )


class BracketMember(StrictModel):
    """A service of a bracket besides the policy's own."""

    service: ServiceReference = Field(description="The service and the labels of its Deployments.")
    route: RouteReference = Field(
        description="The route that canaryd steers; its objects are in the service's namespace."
    )
    analysis: MemberAnalysis = Field(
        default=MemberAnalysis(),
        description="How the service is judged where it differs from the policy's `analysis`.",
    )

    @field_validator("route")
    @classmethod
    def _is_named_after_the_service(cls, route: RouteReference, info: ValidationInfo) -> RouteReference:
        return named_after(info.data.get("service"), route)


class Bracket(StrictModel):
    """The services that are rolled out together with the policy's own."""

    gather: Seconds = Field(
        default=120.0,
        description="How long new versions of the other services may still join, after a new version of "
        "one service was seen.",
    )
    members: tuple[BracketMember, ...] = Field(
        min_length=1,
        max_length=MOST_MEMBERS,
        description="The services besides the policy's own, each caller before the services that it calls.",
    )
