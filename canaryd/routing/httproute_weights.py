"""The `backendRefs` of an HTTPRoute as `route` lists of a VirtualService, and back, without loss: the rest of
canaryd computes with one form.

A backend Service stands for a subset: an entry's `subset` is the Service's name. All else of a reference
(port, filters, group, kind) is kept beside it. Pure.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from canaryd.routing.documents import GATEWAY_API_WEIGHT, parents

Ref = Mapping[str, Any]
"""One of a rule's `backendRefs`: {"name": ..., "port": ..., "weight": ..., ...}."""

CONDITIONS = ("Accepted", "ResolvedRefs")  # what has to be true of a route at a parent


def entries(refs: Sequence[Ref], service: str) -> tuple[dict[str, Any], ...]:
    """The references as entries of a `route` list, each with `service` as its host.

    A single reference takes all requests, so the weight that the API server gave it is left out; among
    several each keeps its weight.
    """
    result = []
    for ref in refs:
        entry = {"destination": {"host": service, "subset": str(ref.get("name", ""))}}
        entry |= {key: deepcopy(value) for key, value in ref.items() if key not in ("name", "weight")}
        weight = ref.get("weight", GATEWAY_API_WEIGHT)
        takes_all = len(refs) == 1 and weight == GATEWAY_API_WEIGHT
        result.append(entry if takes_all else {**entry, "weight": weight})
    return tuple(result)


def refs(route: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of a `route` list as `backendRefs`; an entry without a weight gets the API's default."""
    return [
        {"name": entry["destination"]["subset"]}
        | {key: deepcopy(value) for key, value in entry.items() if key not in ("destination", "weight")}
        | {"weight": entry.get("weight", GATEWAY_API_WEIGHT)}
        for entry in route
    ]


def unsteered(name: str, spec: Mapping[str, Any], service: str) -> str:
    """Whose requests an HTTPRoute does not steer, judged by its parents, and how to change that; "" where it
    steers all. name, spec: the HTTPRoute's; service: the Service to add as a parent."""
    gateways, services = (
        [str(ref.get("name", "")) for ref in parents(spec, kind)] for kind in ("Gateway", "Service")
    )
    if gateways and not services:
        return (
            f"HTTPRoute {name} has Gateways alone as its parents ({', '.join(gateways)}): calls from inside "
            "the mesh go to where the Service leads that they call, whatever the weight; to steer them "
            f'too, add to its spec.parentRefs {{group: "", kind: Service, name: {service}}}'
        )
    if services and not gateways:
        return (
            f"HTTPRoute {name} has Services alone as its parents ({', '.join(services)}): requests that come "
            "through a gateway go to where the gateway's own route leads, whatever the weight; to steer them "
            "too, add the Gateway to its spec.parentRefs"
        )
    return (
        ""
        if gateways
        else f"HTTPRoute {name} has no Gateway and no Service as its parent, so it steers nothing; add one "
        "to its spec"
    )


def parent_problem(route: Mapping[str, Any]) -> str:
    """What a parent's condition says against the route as it stands now; "" where none says anything, or none
    has looked at the route since it changed."""
    generation = (route.get("metadata") or {}).get("generation")
    for parent in (route.get("status") or {}).get("parents") or []:
        ref = parent.get("parentRef") or {}
        for condition in parent.get("conditions") or []:
            is_current = condition.get("observedGeneration", generation) == generation
            if is_current and condition.get("status") == "False" and condition.get("type") in CONDITIONS:
                who = f"{ref.get('kind', 'Gateway')} {ref.get('name', '')}"
                return (
                    f"its parent {who} says {condition['type']}=False: {condition.get('reason', '')} "
                    f"({condition.get('message', '')})"
                )
    return ""
