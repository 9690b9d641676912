"""Services whose versions belong together: what a policy says of each besides what all of them share.

A bracket is one rollout: one ladder, one verdict, one record. The policy's own service is at the entrance;
the others follow in the order in which requests reach them, for that is the order in which weights are safely
changed: see `control/route_sync.py`.
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
    """The Kubernetes Service, and how its Deployments are found and told apart."""

    name: LabelName = Field(description="The Kubernetes Service.")
    namespace: LabelName = Field(description="Its namespace.")
    selector: Mapping[LabelKey, LabelValue] = Field(
        min_length=1,
        description="Labels of the pod templates of this service's Deployments, such as {app: front-end}.",
    )
    version_label: LabelKey = Field(
        default="version", description="The pod template label that tells versions apart."
    )

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


def named_after(service: ServiceReference | None, route: RouteReference) -> RouteReference:
    """The route as it is meant: a DestinationRule that is not named has the service's name, and so has a
    cookie."""
    if service is None or route.http_route:
        return route
    named: dict[str, object] = {} if route.destination_rule else {"destination_rule": service.name}
    if route.affinity is not None and not route.affinity.cookie:
        named["affinity"] = route.affinity.model_copy(update={"cookie": f"{OWN}{service.name}"})
    return route.model_copy(update=named)


class MemberAnalysis(StrictModel):
    """What is judged otherwise than the policy says."""

    warmup: Seconds | None = Field(
        default=None, description="Default: the policy's.", json_schema_extra=without_default
    )
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1), AfterValidator(each_once)] | None = Field(
        default=None, description="Default: the policy's.", json_schema_extra=without_default
    )


class BracketMember(StrictModel):
    """One more service of a bracket."""

    service: ServiceReference = Field(description="The service, and how its Deployments are found.")
    route: RouteReference = Field(
        description="The route that is steered, of objects in the service's namespace."
    )
    analysis: MemberAnalysis = Field(
        default=MemberAnalysis(), description="How it is judged, where not as the policy says."
    )

    @field_validator("route")
    @classmethod
    def _is_named_after_the_service(cls, route: RouteReference, info: ValidationInfo) -> RouteReference:
        return named_after(info.data.get("service"), route)


class Bracket(StrictModel):
    """The services that are rolled out together with the policy's own."""

    gather: Seconds = Field(
        default=120.0,
        description="So long after a new version of one was seen, new versions of the others may come to be "
        "part of it.",
    )
    members: tuple[BracketMember, ...] = Field(
        min_length=1,
        max_length=MOST_MEMBERS,
        description="The services besides the policy's own: a caller before those that it calls.",
    )
