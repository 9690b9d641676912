"""Finds the routes of a VirtualService, or the rules of an HTTPRoute, that a policy steers, and gives each a
key."""

from collections.abc import Callable, Sequence

from canaryd.adapters.kube.client import Json
from canaryd.domain.policy.route_reference import OWN
from canaryd.domain.ports import Rejected
from canaryd.routing.managed_routes import is_added


def places(about: str, noun: str, key: str, wanted: Sequence[str], there: Sequence[Json]) -> list[int]:
    """Where each of the names in `wanted` (the policy's `key`) stands in `there`. Raises Rejected for one
    that is not there just once."""
    names = [str(route.get("name") or "") for route in there]
    for name in wanted:
        if names.count(name) != 1:
            known = ", ".join(name for name in names if name) or "none with a name"
            number = "no" if name not in names else "more than one"
            raise Rejected(
                f"{about} has {number} {noun} {name!r}, which the policy's {key} names; it has: {known}"
            )
    return [names.index(name) for name in wanted]


def keyed(
    about: str, noun: str, at: Sequence[int], there: Sequence[Json], check: Callable[[Json, str], None]
) -> dict[str, int]:
    """The places in `there`, each by its key: its name, or "#0", "#1", ... among them. check: raises for a
    route that cannot be steered, given it and where it is, in words. Raises Rejected for a name that two
    have, and for one as canaryd's own have."""
    keys: dict[str, int] = {}
    for position, place in enumerate(sorted(at)):
        key = str(there[place].get("name") or f"#{position}")
        if key in keys:
            raise Rejected(
                f"{about} has two {noun}s {key!r}; give each a name of its own, so that they can be told "
                "apart"
            )
        if is_added(key):
            plain = noun.rpartition(" ")[2]
            raise Rejected(
                f"{about}: {noun} {key} must have another name: {plain}s that canaryd adds begin with {OWN}"
            )
        check(there[place], f"{about}, {noun} {key}")
        keys[key] = place
    return keys
