"""The http routes that canaryd adds to a VirtualService during a rollout: for previews, for matched requests,
for mirrored requests, and for users with a cookie. Pure. (In an HTTPRoute they are rules with the same names:
httproute_rules.py.)

Each is a whole route, just before the steered route whose requests it takes over, so that other people's
routes keep their order and precedence. Its name says which service it belongs to. It copies everything else
from the steered route (timeouts, retries, rewrites, CORS, faults), because the requests that it takes over
would have had that too. Mirroring is a route of its own, not a field of the steered route: what a person
wrote is never edited except for `route` lists, and the way back is to remove the routes with these names.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from canaryd.domain.policy.match_conditions import Match
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.route_reference import OWN
from canaryd.domain.policy.split_services import fair_services
from canaryd.domain.policy.stages import Stage
from canaryd.domain.rollout import RouteLists
from canaryd.routing import user_cookies
from canaryd.routing.documents import RouteEntry, other_service

HttpRoute = Mapping[str, Any]
KINDS = (
    "preview",
    "match",
    "mirror",
    user_cookies.CANARY,
    user_cookies.STABLE,
)  # in the order in which they stand before the steered route
FIRST = "#0"  # the key of the first route without a name, which most services have alone
_MERGED = ("headers", "withoutHeaders", "queryParams", "sourceLabels")


class Shape(NamedTuple):
    """How added routes are written in one kind of object.

    matched: makes a route from service, kind, key, the steered route, conditions and destinations. mirrored:
    makes one from service, key, the steered route, the share of requests to copy (0 to 1) and destinations.
    """

    matched: Callable[[str, str, str, HttpRoute, Sequence[Match], Sequence[Mapping[str, Any]]], HttpRoute]
    mirrored: Callable[[str, str, HttpRoute, float, Sequence[Mapping[str, Any]]], HttpRoute]


class CannotAdd(ValueError):
    """A route cannot be added before a steered route; the message says which, why, and what to do."""


def name_of(service: str, kind: str, key: str) -> str:
    """The name of the route of this kind before the steered route of this key: `canaryd-front-end-match`.

    No two services share one, whatever they are called: a service's name has no dot, and before it the kind
    ends the name.
    """
    return f"{OWN}{service}-{kind}" + ("" if key == FIRST else f".{key}")


def is_of(service: str, name: str) -> bool:
    """Whether a route has a name that canaryd gives to the routes of this service."""
    return name.partition(".")[0] in {name_of(service, kind, FIRST) for kind in KINDS}


def is_added(key: str) -> bool:
    """Whether a key of `RouteLists` is the name of an added route."""
    return key.startswith(OWN)


def steered(lists: RouteLists) -> RouteLists:
    """The `route` lists of the steered routes alone."""
    return {key: entries for key, entries in lists.items() if not is_added(key)}


def beside(key: str, lists: RouteLists) -> list[HttpRoute]:
    """The added routes in `lists` that belong to the steered route of this key, of whichever service."""
    return [
        route
        for name, (route, *_) in lists.items()
        if is_added(name) and (name.partition(".")[2] or FIRST) == key
    ]


def before(service: str, key: str, lists: RouteLists) -> list[HttpRoute]:
    """The routes in `lists` that belong before the steered route of this key, in the order in which they
    stand."""
    names = [name_of(service, kind, key) for kind in KINDS]
    return [lists[name][0] for name in names if name in lists]


def wanted(
    policy: Policy,
    stage: int,
    whole: Mapping[str, HttpRoute],
    to_canary: RouteLists,
    shape: Shape | None = None,
    mark: str = "",
) -> RouteLists:
    """The routes to add in a stage, by name, each alone in its list.

    stage: its position in the policy, from 0. whole: the steered routes as they stand, by key, with all
    traffic on stable. to_canary: their `route` lists with all traffic on the canary. shape: how routes are
    written, by default as in a VirtualService. mark: the rollout's name in cookies (`user_cookies.token`).
    Raises CannotAdd.
    """
    now, service, shape = policy.stages[stage], policy.service.name, shape or ISTIO
    found: dict[str, tuple[HttpRoute, ...]] = {}
    for key, route in whole.items():
        if policy.route.preview:
            previews = _previews(policy, now)
            found[name_of(service, "preview", key)] = (
                shape.matched(service, "preview", key, route, previews, to_canary[key]),
            )
        if now.match:
            to = _to(policy, now, route, to_canary[key])
            found[name_of(service, "match", key)] = (
                shape.matched(service, "match", key, route, now.match, to),
            )
        if wants := policy.by_user(stage):
            for kind, entries in (
                (user_cookies.CANARY, to_canary[key]),
                (user_cookies.STABLE, route["route"]),
            ):
                mine = user_cookies.condition(
                    now.weight, policy.weights, wants, mark, kind == user_cookies.CANARY
                )
                found[name_of(service, kind, key)] = (
                    _conditional(service, kind, key, route, [mine], entries),
                )
        if now.mirror is not None:
            found[name_of(service, "mirror", key)] = (
                shape.mirrored(service, key, route, now.mirror, to_canary[key]),
            )
    return found


def _previews(policy: Policy, stage: Stage) -> Sequence[Match]:
    """The conditions of preview requests. An HTTPRoute prefers the match with more conditions, whatever the
    order: there a preview request that a stage matches as well has the conditions of both, so that it always
    reaches the canary."""
    if not stage.split or not policy.route.http_route:
        return policy.route.preview
    both = [preview.merged(match) for preview in policy.route.preview for match in stage.match]
    return (*policy.route.preview, *(merged for merged in both if merged is not None))


def _to(
    policy: Policy, stage: Stage, route: HttpRoute, to_canary: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Where matched requests go in a stage."""
    if not stage.split:
        return to_canary
    stable = max(route["route"], key=lambda entry: int(entry.get("weight") or 0))
    return halves(policy.service.name, bool(policy.route.http_route), stable, to_canary[0])


def halves(
    service: str, by_gateway_api: bool, stable: RouteEntry, canary: RouteEntry
) -> list[dict[str, Any]]:
    """Where the matched requests go: half of them to stable, half to the canary. stable, canary: the
    destinations of all others."""
    names = fair_services(service, by_gateway_api)
    result = []
    for entry, name in zip((stable, canary), (names[0], names[-1]), strict=True):
        destination = dict(entry["destination"])
        if by_gateway_api:
            destination["subset"] = name
        else:
            destination["host"] = other_service(str(destination["host"]), name)
        result.append({**entry, "destination": destination, "weight": 50})
    return result


def _matched(
    service: str,
    kind: str,
    key: str,
    route: HttpRoute,
    matches: Sequence[Match],
    entries: Sequence[Mapping[str, Any]],
) -> HttpRoute:
    return _conditional(service, kind, key, route, [match.istio for match in matches], entries)


def _conditional(
    service: str,
    kind: str,
    key: str,
    route: HttpRoute,
    conditions: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
) -> HttpRoute:
    both = [_both(key, own, condition) for own in route.get("match") or [{}] for condition in conditions]
    return _instead(
        service, kind, key, route, {"match": both, "route": [deepcopy(dict(entry)) for entry in entries]}
    )


def _mirrored(
    service: str, key: str, route: HttpRoute, share: float, entries: Sequence[Mapping[str, Any]]
) -> HttpRoute:
    if any(route.get(name) for name in ("mirror", "mirrors")):
        raise CannotAdd(
            f"route {key} is mirrored already, and a route has one mirror: take it out, or leave mirror out "
            "of the stages"
        )
    copies = {
        "mirror": deepcopy(dict(entries[0]["destination"])),
        "mirrorPercentage": {"value": round(100 * share, 4)},
    }
    return _instead(service, "mirror", key, route, copies)


def _instead(service: str, kind: str, key: str, route: HttpRoute, changed: Mapping[str, Any]) -> HttpRoute:
    """The route with another name and what is changed; everything else as it is."""
    rest = {name: deepcopy(value) for name, value in route.items() if name != "name" and name not in changed}
    return {"name": name_of(service, kind, key), **changed, **rest}


def _both(key: str, own: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """One match of Istio's that holds where both hold. Istio takes one condition for each header, parameter
    and label. Raises CannotAdd where the two differ on one."""
    together = deepcopy(dict(own))
    for kind in _MERGED:
        theirs, ours = own.get(kind) or {}, further.get(kind) or {}
        twice = [name for name in ours if name in theirs and theirs[name] != ours[name]]
        if twice:
            raise CannotAdd(
                f"route {key} has a condition on {kind} {', '.join(twice)} of its own, and Istio takes one "
                "for each: match by something else, or leave this route out of the policy's route.http"
            )
        if ours:
            together[kind] = {**theirs, **deepcopy(dict(ours))}
    return together


ISTIO = Shape(_matched, _mirrored)
