"""Objects for tests, whole by default, so that a test names only the detail it is about."""

from dataclasses import fields, replace
from typing import Any

from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Workload
from canaryd.domain.rollout import Phase, Rollout, RouteState, ServiceRollout, Span
from canaryd.domain.verdict import Answer, Verdict

HOST = "front-end.production.svc.cluster.local"
NOW = 1_800_000_000.0


def a_policy(**changes: Any) -> Policy:
    """The worked example's, with a look of 10 s. changes: top-level keys of the YAML."""
    data: dict[str, Any] = {
        "version": 1,
        "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
        "route": {"virtualService": "sockshop", "destinationRule": "front-end"},
        "stages": [{"weight": w, "minimum": "60s", "deadline": "10m"} for w in (10, 25, 50, 100)],
        "analysis": {"interval": "10s"},
    }
    return Policy.load({**data, **changes})


def a_destination(subset: str, weight: int | None = None) -> dict[str, Any]:
    destination: dict[str, Any] = {"destination": {"host": HOST, "subset": subset}}
    return destination if weight is None else {**destination, "weight": weight}


ORIGIN = {"#0": (a_destination("v1"),)}


def a_workload(version: str = "v2", **changes: Any) -> Workload:
    values: dict[str, Any] = {
        "name": f"front-end-{version}",
        "version": version,
        "template": f"hash-{version}",
        "desired": 3,
        "ready": 3,
        "available": True,
        "created": float(version.removeprefix("v") or 0),
    }
    return Workload(**{**values, **changes})


OF_SERVICE = {field.name for field in fields(ServiceRollout)} - {"name", "verdict"} | {"service"}
OF_ROUTE = {field.name for field in fields(RouteState)}


def a_service(**changes: Any) -> ServiceRollout:
    """front-end, from v1 to v2. changes: its fields, or those of its route."""
    route = {name: changes.pop(name) for name in OF_ROUTE & changes.keys()}
    values: dict[str, Any] = {
        "namespace": "production",
        "name": "front-end",
        "stable": "v1",
        "canary": "v2",
        "stable_workload": "front-end-v1",
        "canary_workload": "front-end-v2",
        "template": "hash-v2",
        "stable_template": "hash-v1",
        "routes": (RouteState(**{"origin": ORIGIN, "canary_subset": "v2", **route}),),
    }
    return ServiceRollout(**{**values, **changes})


def of_carts(**changes: Any) -> ServiceRollout:
    """carts, from v7 to v8. changes: as of `a_service`."""
    values: dict[str, Any] = {
        "name": "carts",
        "stable": "v7",
        "canary": "v8",
        "stable_workload": "carts-v7",
        "canary_workload": "carts-v8",
        "template": "hash-v8",
        "stable_template": "hash-v7",
        "canary_subset": "v8",
        "origin": {"carts": (a_destination("v7"),)},
    }
    return a_service(**{**values, **changes})


def a_rollout(**changes: Any) -> Rollout:
    """In its first stage, at weight 10, judged so far without a verdict. changes: its fields, or those of its
    first service and of that service's route; `service` is that service's name."""
    own = {name: changes.pop(name) for name in (OF_SERVICE | OF_ROUTE) & changes.keys()}
    if "service" in own:
        own["name"] = own.pop("service")
    values: dict[str, Any] = {
        "name": "front-end-v2-hash-v2",
        "policy": a_policy(),
        "services": (a_service(**own),),
        "began": NOW,
        "phase": Phase.PROGRESSING,
        "stage": 0,
        "weight": 10,
        "spans": (Span(0, 10, int(NOW)),),
        "stage_began": NOW,
        "clock_from": NOW,
        "last_data": NOW,
    }
    rollout = Rollout(**{**values, **changes})
    return rollout.with_verdict(rollout.verdict)


def with_entrance(rollout: Rollout, **changes: Any) -> Rollout:
    """The rollout with these fields of its first service, or of that service's route, changed."""
    route = {name: changes.pop(name) for name in OF_ROUTE & changes.keys()}
    first = replace(rollout.entrance.with_route(**route), **changes)
    return replace(rollout, services=(first, *rollout.services[1:]))


def a_bracket(*members: dict[str, Any], **changes: Any) -> Policy:
    """The worked example's with carts, which front-end calls, or with these members."""
    return a_policy(**{"bracket": {"members": list(members or (a_member(),))}, **changes})


def a_member(name: str = "carts", namespace: str = "production", **more: Any) -> dict[str, Any]:
    service = {"name": name, "namespace": namespace, "selector": {"app": name}}
    return {"service": service, "route": {"virtualService": "sockshop", "http": [name]}, **more}


def a_bracket_rollout(carts: ServiceRollout | None = None, **changes: Any) -> Rollout:
    """As `a_rollout`, of front-end and of carts, from v7 to v8. changes: as of `a_rollout`."""
    alone = a_rollout(**{"policy": a_bracket(), **changes})
    return replace(alone, services=(replace(alone.entrance, verdict=None), carts or of_carts()))


def a_verdict(answer: Answer = Answer.UNDECIDED, **changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "answer": answer,
        "at": int(NOW) + 300,
        "stage": 0,
        "weight": 10,
        "looks": 30,
        "canary_requests": 1000,
        "reason": f"the evidence says {answer.value}",
    }
    return Verdict(**{**values, **changes})
