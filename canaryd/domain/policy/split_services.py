"""The fair comparison of matched users: one half on the canary, the other on stable, told from stable's other
users by the Service called.

Istio's metrics name the workload that served a request and the Service that was called, and not the route
that it came by. So what is matched and split goes to Services of its own, which lead to the same pods: behind
a VirtualService one, with a subset for each version (a copy of the DestinationRule says what else is done on
the way); behind an HTTPRoute one for each half.
"""

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]
"""One destination of a `route` list, as `routes.py` has it."""


def fair_services(service: str, by_gateway_api: bool) -> tuple[str, ...]:
    """The names of the Services that matched users call in such a stage; by the Gateway API stable's and the
    canary's."""
    if by_gateway_api:
        return f"{service}-canaryd-stable", f"{service}-canaryd-canary"
    return (f"{service}-canaryd-match",)


def halves(service: str, by_gateway_api: bool, stable: Entry, canary: Entry) -> list[dict[str, Any]]:
    """Where the matched requests go: half of them to stable, half to the canary. stable, canary: the
    destinations of all others."""
    names = fair_services(service, by_gateway_api)
    result = []
    for entry, name in zip((stable, canary), (names[0], names[-1]), strict=True):
        destination = dict(entry["destination"])
        if by_gateway_api:
            destination["subset"] = name
        else:
            _, dot, rest = str(destination["host"]).partition(".")
            destination["host"] = f"{name}{dot}{rest}"
        result.append({**entry, "destination": destination, "weight": 50})
    return result
