"""The form in which a rollout is stored and printed: flat, the first service's fields beside the shared ones.

`CanaryRollout` objects, recordings and `explain -o json` have this form, and records of earlier releases are
in it, so field names and their order stay. `Rollout` may change: what it has is translated here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from canaryd.domain.counts import Counts
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import (
    Announcement,
    AskedGate,
    Decision,
    Held,
    Phase,
    Rollout,
    RouteLists,
    RouteState,
    ServiceRollout,
    Span,
)
from canaryd.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class StoredService:
    """A further service of a rollout, with the fields of a `ServiceRollout` and of its one route."""

    namespace: str
    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    template: str
    stable_template: str
    canary_subset: str = ""
    origin: RouteLists = field(default_factory=dict)
    confirmed: RouteLists | None = None
    verdict: Verdict | None = None
    unready_since: float | None = None
    counted: Mapping[str, Counts] = field(default_factory=dict)
    scaled: bool = False
    tidied: bool = False
    unsteered: str = ""
    senders: str = ""


@dataclass(frozen=True, slots=True)
class StoredRollout:
    """A rollout with the first service's fields among its own, and the further services in `others`.

    verdict: of all services; own_verdict: the first one's where there are others, None where it is alone.
    stale: `Rollout.evidence_void`; asking, opened: its `gate_question` and `opened_gates`. unsteered:
    `RouteState.unrouted_reason`; senders, tidied: `ServiceRollout.off_weight_callers` and `cleaned_up`.
    """

    name: str
    namespace: str
    service: str
    stable: str
    canary: str
    stable_workload: str
    canary_workload: str
    template: str
    stable_template: str
    policy: Policy
    began: float
    attempt: int = 1
    phase: Phase = Phase.WAITING
    phase_since: float = 0.0
    stage: int = -1
    weight: int = 0
    held: Held | None = None
    reason: str = ""
    canary_subset: str = ""
    origin: RouteLists = field(default_factory=dict)
    confirmed: RouteLists | None = None
    spans: tuple[Span, ...] = ()
    stage_began: float | None = None
    clock: float = 0.0
    clock_from: float | None = None
    resumed: int = 0
    approved: int = -1
    promoted: bool = False
    step_backs: int = 0
    verdict: Verdict | None = None
    last_data: float | None = None
    unready_since: float | None = None
    stale: bool = False
    decisions: tuple[Decision, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    counted: Mapping[str, Counts] = field(default_factory=dict)
    counted_to: int | None = None
    ended: float | None = None
    scaled: bool = False
    tidied: bool = False
    unsteered: str = ""
    senders: str = ""
    asking: AskedGate | None = None
    opened: tuple[int, ...] = ()
    retries: str = ""
    others: tuple[StoredService, ...] = ()
    own_verdict: Verdict | None = None
    harm_check_interval: int | None = None


# Fields that a rollout and its stored form have under one name.
_SHARED = (
    "name",
    "policy",
    "began",
    "attempt",
    "phase",
    "phase_since",
    "stage",
    "weight",
    "held",
    "reason",
    "spans",
    "stage_began",
    "clock",
    "clock_from",
    "resumed",
    "approved",
    "promoted",
    "step_backs",
    "verdict",
    "last_data",
    "decisions",
    "announcements",
    "counted_to",
    "ended",
    "retries",
    "harm_check_interval",
)
# The same of a service.
_OF_SERVICE = (
    "namespace",
    "stable",
    "canary",
    "stable_workload",
    "canary_workload",
    "template",
    "stable_template",
    "unready_since",
    "counted",
    "scaled",
)


def stored(rollout: Rollout) -> StoredRollout:
    """The stored form of a rollout."""
    entrance, *further = rollout.services
    shared = {name: getattr(rollout, name) for name in _SHARED}
    first = {name: value for name, value in _service_fields(entrance).items() if name != "verdict"}
    return StoredRollout(
        **shared,
        **first,
        stale=rollout.evidence_void,
        asking=rollout.gate_question,
        opened=rollout.opened_gates,
        others=tuple(StoredService(**_service_fields(service)) for service in further),
        own_verdict=entrance.verdict if further else None,
    )


def restored(form: StoredRollout) -> Rollout:
    """The rollout that a stored form is of."""
    return Rollout(
        **{name: getattr(form, name) for name in _SHARED},
        services=(
            _service(form, form.own_verdict if form.others else form.verdict),
            *(_service(service, service.verdict) for service in form.others),
        ),
        evidence_void=form.stale,
        gate_question=form.asking,
        opened_gates=form.opened,
    )


def _service_fields(service: ServiceRollout) -> dict[str, Any]:
    route = service.route
    return {
        **{name: getattr(service, name) for name in _OF_SERVICE},
        "service": service.name,
        "verdict": service.verdict,
        "tidied": service.cleaned_up,
        "senders": service.off_weight_callers,
        "canary_subset": route.canary_subset,
        "origin": route.origin,
        "confirmed": route.confirmed,
        "unsteered": route.unrouted_reason,
    }


def _service(form: StoredRollout | StoredService, verdict: Verdict | None) -> ServiceRollout:
    route = RouteState(form.origin, form.confirmed, form.canary_subset, form.unsteered)
    return ServiceRollout(
        **{name: getattr(form, name) for name in _OF_SERVICE},
        name=form.service,
        routes=(route,),
        verdict=verdict,
        cleaned_up=form.tidied,
        off_weight_callers=form.senders,
    )
