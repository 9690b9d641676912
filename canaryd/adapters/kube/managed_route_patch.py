"""The positions of the routes that canaryd adds to a VirtualService's `spec.http`, or of the rules in an
HTTPRoute's `spec.rules`, and the patch that adds or removes them. Nothing here asks the API server."""

from collections.abc import Mapping, Sequence

from canaryd.adapters.kube.client import Json
from canaryd.domain.rollout import RouteLists
from canaryd.routing.managed_routes import KINDS, before, is_of, name_of


def lists(service: str, there: Sequence[Json], places: Mapping[str, int]) -> dict[str, tuple[Json, ...]]:
    """The added routes, by name, each alone in its list: those that stand where they should. Where no route
    is steered (they were taken out), all of them: they go on sending requests, and have to be seen to be
    removed."""
    if not places:
        return {
            str(route.get("name")): (route,)
            for route in there
            if is_of(service, str(route.get("name") or ""))
        }
    return {
        route["name"]: (route,)
        for key, place in places.items()
        for route in _before(service, there, key, place)
    }


def displaced(service: str, there: Sequence[Json], places: Mapping[str, int]) -> tuple[str, ...]:
    """The added routes, by name, that stand where they take nobody's requests, or other ones than they
    should: someone moved them, or put a route in between. None where no route is steered: see `lists`."""
    standing = {
        at
        for key, place in places.items()
        for at in range(place - len(_before(service, there, key, place)), place)
    }
    names = {at: str(route.get("name") or "") for at, route in enumerate(there)}
    return tuple(name for at, name in names.items() if places and at not in standing and is_of(service, name))


def unedited(route: Json) -> list[Json]:
    """The tests of an HTTPRoute's patch. Not resourceVersion: controllers write the status whenever they
    like, which is no one's edit."""
    return [
        {"op": "test", "path": f"/metadata/{key}", "value": route["metadata"][key]}
        for key in ("uid", "generation")
    ]


def are_left(service: str, there: Sequence[Json]) -> bool:
    """Whether routes that canaryd added for a service are there."""
    return any(is_of(service, str(route.get("name") or "")) for route in there)


def moves(
    path: str, service: str, there: Sequence[Json], places: Mapping[str, int], wanted: RouteLists
) -> list[Json]:
    """The patch of the list at `path` that takes out, and puts in, the service's added routes: those that
    stay have no part in it.

    From the last place to the first, so that no step moves what a later one is about.
    """
    found: list[Json] = []
    keys, staying = {place: key for key, place in places.items()}, set[int]()
    for place in range(len(there) - 1, -1, -1):
        name = str(there[place].get("name") or "")
        if place in keys:
            due, now = before(service, keys[place], wanted), _before(service, there, keys[place], place)
            if due == now:
                staying |= set(range(place - len(now), place))
            else:
                found += [
                    {"op": "add", "path": f"{path}/{place}", "value": dict(route)} for route in reversed(due)
                ]
        elif is_of(service, name) and place not in staying:
            found.append({"op": "test", "path": f"{path}/{place}/name", "value": name})
            found.append({"op": "remove", "path": f"{path}/{place}"})
    return found


def _before(service: str, there: Sequence[Json], key: str, place: int) -> list[Json]:
    """The added routes of a steered one that stand where they should: just before it, in their order, each
    once."""
    names, found = [name_of(service, kind, key) for kind in KINDS], list[Json]()
    while place and names and (name := str(there[place - 1].get("name") or "")) in names:
        found.insert(0, there[place - 1])
        names, place = names[: names.index(name)], place - 1
    return found
