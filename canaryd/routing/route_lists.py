"""The arithmetic of routes: where a `route` list sends requests, and what it becomes at a weight, at success
and at rollback.

Pure, on the lists as they stand in a VirtualService. Destinations are copied whole (port, headers, what Istio
may add later); only `subset` and `weight` are ever set. Nothing is normalized: weight 0 gives the list as it
was at the start. The routes that canaryd adds beside them are made in managed_routes.py; they are known by
their names, and a rollback leaves none of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.match_conditions import described as in_words
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.session_affinity import Affinity
from canaryd.domain.ports import RouteView
from canaryd.domain.rollout import RouteLists
from canaryd.routing import documents, httproute_rules, user_cookies
from canaryd.routing.documents import MESH, Host, RouteEntry
from canaryd.routing.managed_routes import CannotAdd, beside, steered
from canaryd.routing.managed_routes import wanted as added

LEFT = "a rollout's routes are left"  # how the one problem begins that keeps no other rollout from beginning


class Refusal(ValueError):
    """Routes are not as a rollout needs them; the message says which, what was wanted, and what to do."""


def stable_version(view: RouteView) -> str:
    """The version that every steered route sends all its traffic to.

    Raises Refusal when a route is split, names a subset that the DestinationRule does not map to a version,
    or when routes disagree.
    """
    lists = steered(view.lists)
    if not lists:
        raise Refusal("there is no route to steer")
    found: dict[str, str] = {}
    for key, entries in lists.items():
        at = _carrier(entries)
        if at is None:
            raise Refusal(
                f"route {key} is split ({described({key: entries})}) and no rollout is on record: wanted all "
                "traffic on one subset; set one weight to 100 and the others to 0, or leave one destination"
            )
        subset = str(entries[at].get("destination", {}).get("subset") or "")
        if subset in view.problems and subset not in view.subsets:
            raise Refusal(f"route {key} sends all traffic to {subset}: {view.problems[subset]}")
        if subset not in view.subsets:
            known = ", ".join(sorted(view.subsets)) or "none"
            raise Refusal(
                f"route {key} sends all traffic to subset {subset!r}, which the DestinationRule does not map "
                f"to a version (subsets that it does: {known}); add it there, with the version label, or "
                "correct the route"
            )
        found[key] = view.subsets[subset]
    if len(set(found.values())) > 1:
        targets = ", ".join(f"{key} to {version}" for key, version in found.items())
        raise Refusal(
            f"the routes send traffic to different versions ({targets}): wanted one version; make them "
            f"agree, or name the ones to steer in the policy's {view.chosen_by}"
        )
    return next(iter(found.values()))


def leftover_problem(view: RouteView, service: str) -> str:
    """What is wrong with routes that no rollout steers: a rollout's record was deleted while its routes were
    there, or a person has split them. "" where nothing is wrong."""
    if view.displaced or not same(without_own_cookies(view.lists), view.lists):
        there = "; ".join((described(view.lists), *view.displaced))
        return (
            f"{LEFT} ({there}), and its record is gone: canaryd reset {service} --to VERSION takes them back"
        )
    try:
        stable_version(view)
    except Refusal as error:
        return str(error)
    return ""


def versions(view: RouteView) -> frozenset[str]:
    """Every version that the whole VirtualService may send something to: also by routes that are not steered,
    by mirrors, and by destinations whose weight is 0, which a person may raise at any time."""
    named = {_subset(entry) for entries in steered(view.lists).values() for entry in entries}
    services, found = steered_services(view), documents.destinations(view.raw, view.domain)
    named |= {to.subset for to in found if to.host.service in services}
    return view.elsewhere.union(view.subsets[subset] for subset in named if subset in view.subsets)


def steered_services(view: RouteView) -> set[NamespacedName]:
    """The Services that the steered routes of a VirtualService lead to, which is one for every policy."""
    namespace = str((view.raw.get("metadata") or {}).get("namespace") or "")
    hosts = {_host(entry) for entries in steered(view.lists).values() for entry in entries}
    return {service for host in hosts if (service := Host.parse(host, namespace, view.domain).service)}


def unsteered(view: RouteView) -> str:
    """Why calls from inside the mesh do not follow the weight, and how to change that; "" where they follow
    it."""
    if view.unsteered:
        return view.unsteered
    spec = view.raw.get("spec") or {}
    name = str((view.raw.get("metadata") or {}).get("name", ""))
    gateways = [str(gateway) for gateway in spec.get("gateways") or [MESH]]
    unserved = _unserved(view)
    if MESH not in gateways and spec:
        why, wanted = f"is bound to {', '.join(gateways)} alone", [f"`{MESH}` to its spec.gateways"]
    elif unserved:
        why, wanted = f"does not have {unserved} among its spec.hosts", []
    else:
        return ""
    # Istio refuses the host `*` of a VirtualService that is bound to the mesh.
    hosts = " (and name its hosts, for the mesh takes no `*`)" if "*" in (spec.get("hosts") or []) else ""
    wanted += [f"`{unserved}` to its spec.hosts"] if unserved else []
    return (
        f"VirtualService {name} {why}: calls from inside the mesh go to the pods of all versions alike, "
        f"whatever the weight; to steer them too, add {' and '.join(wanted)}{hosts}"
    )


def _unserved(view: RouteView) -> str:
    """The Service that calls inside the mesh name and that is not among the hosts of the VirtualService. ""
    where it is, and where there are no hosts, as with one that another delegates to."""
    hosts = documents.hosts_of(view.raw, view.domain)
    unserved = {
        name
        for namespace, name in steered_services(view)
        if not any(host.serves((namespace, name), view.domain) for host in hosts)
    }
    return min(unserved) if hosts and unserved else ""


def split(origin: RouteLists, canary_subset: str, weight: int) -> RouteLists:
    """The lists with `weight` per cent (0 to 100) on the canary's subset and the rest where all was; 0 is the
    origin itself.

    The canary's destination is a copy of the one that carries the traffic, but for its subset; one that is
    already there, idle, is used as it is. Raises ValueError for another weight, or an origin that is split.
    """
    if not 0 <= weight <= 100:
        raise ValueError(f"a weight is 0 to 100 per cent, but is {weight}")
    return {
        key: _split(key, entries, canary_subset, weight) if weight else tuple(entries)
        for key, entries in origin.items()
    }


def staged(
    policy: Policy, stage: int, view: RouteView | None, origin: RouteLists, canary_subset: str, mark: str = ""
) -> RouteLists:
    """The routes of a stage: the lists at its weight, and the routes that canaryd adds for it.

    stage: its position in the policy, from 0. Added routes copy the steered ones as they stand now, so that
    an edited timeout is in both. mark: the rollout's name in cookies (`user_cookies.token`). Raises Refusal
    where a route cannot be added.
    """
    there = view.routes if view is not None else {}
    whole = {
        key: {**there.get(key, {}), "route": [deepcopy(dict(entry)) for entry in entries]}
        for key, entries in origin.items()
    }
    try:
        more = added(
            policy,
            stage,
            whole,
            only(origin, canary_subset),
            httproute_rules.SHAPE if policy.route.http_route else None,
            mark,
        )
        if view is not None and policy.route.http_route:
            httproute_rules.check(policy.service.name, view.all_routes, view.places, more)
    except CannotAdd as error:
        raise Refusal(str(error)) from error
    if (
        any(match.get("sourceLabels") for (route,) in more.values() for match in route.get("match") or [])
        and view
        and unsteered(view)
    ):
        raise Refusal(f"sourceLabels match callers inside the mesh, and {unsteered(view)}")
    lists = split(origin, canary_subset, policy.stages[stage].weight)
    if wants := policy.by_user(stage):
        lists = {
            key: _by_user(policy, stage, key, entries, whole[key], canary_subset, wants, mark)
            for key, entries in lists.items()
        }
    return {**lists, **more}


def _by_user(
    policy: Policy,
    stage: int,
    key: str,
    entries: Sequence[RouteEntry],
    route: Mapping[str, Any],
    canary_subset: str,
    wants: Affinity,
    mark: str,
) -> tuple[RouteEntry, ...]:
    try:
        user_cookies.check(route)
    except user_cookies.Unfit as error:
        raise Refusal(f"users of route {key} cannot be kept on one version: {error}") from error
    return tuple(
        user_cookies.drawing(policy.stages[stage].weight, policy.weights, canary_subset, entries, wants, mark)
    )


def check(policy: Policy, view: RouteView, canary_subset: str) -> None:
    """Raises Refusal where a later stage of the policy cannot be made of these routes, before the rollout
    gets there."""
    for stage in range(len(policy.stages)):
        staged(policy, stage, view, steered(view.lists), canary_subset)


def only(origin: RouteLists, canary_subset: str) -> RouteLists:
    """The lists after a success: the canary's destination alone, with a weight only where the origin had
    one."""
    finished: dict[str, tuple[RouteEntry, ...]] = {}
    for key, entries in origin.items():
        carrier = _carrier_of(key, entries)
        present = _find(entries, canary_subset)
        entry = (
            _copy(entries[carrier], canary_subset) if present is None else deepcopy(dict(entries[present]))
        )
        if "weight" in entries[carrier]:
            entry["weight"] = 100
        else:
            entry.pop("weight", None)
        finished[key] = (entry,)
    return finished


def without(found: RouteLists, origin: RouteLists, canary_subset: str) -> RouteLists:
    """The lists on the way back: the origin, whatever was edited inside them; where they are others than
    before, as found without the canary.

    Then a list that only has other weights than one of canaryd's becomes the origin's again. Of any other
    (renamed, or added since) the canary's destination is dropped and its weight given to stable's. A list
    that does not name the canary stays. Of routes that canaryd added there is none.
    """
    found = steered(found)
    if found.keys() == origin.keys():
        return origin
    return {
        key: _without(entries, origin.get(key, ()), origin, canary_subset) for key, entries in found.items()
    }


def adopted(found: RouteLists, origin: RouteLists, canary_subset: str) -> RouteLists:
    """The origin to steer from after a person changed the routes: where they are others than before, each as
    it is without the canary. Where they are the same, it stays what it was, and edits inside them are
    replaced.

    Raises Refusal for a route that sends its traffic to several destinations even without the canary.
    """
    if steered(found).keys() == origin.keys():
        return origin
    plain = without(found, origin, canary_subset)
    for key, entries in plain.items():
        if _carrier(entries) is None:
            raise Refusal(
                f"route {key} is split ({described({key: entries})}): wanted all traffic on one subset; set "
                "the others to 0"
            )
    return plain


def without_own_cookies(found: RouteLists) -> RouteLists:
    """The steered routes without the cookies that canaryd adds to their destinations: what a rollout begins
    from, also where the last one's record was deleted under way."""
    return {key: tuple(user_cookies.plain(entries)) for key, entries in steered(found).items()}


def same(lists: RouteLists, other: RouteLists) -> bool:
    """Whether two sets of lists are equal, entry by entry; lists and tuples, 1 and 1.0 are the same here, as
    they are in JSON."""
    return bool(_plain(lists) == _plain(other))


def described(lists: RouteLists) -> str:
    """The lists in one line, for people: `v1 90%, v2 10%`; each route by its key where they differ; added
    routes before what is left for the others: `cookie ~ .*logged_in.* to v2; else all to v1`."""
    texts = {key: _all_described(key, entries, lists) for key, entries in steered(lists).items()}
    if not texts:
        return "not there"
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{key}: {text}" for key, text in texts.items())


def _all_described(key: str, entries: Sequence[RouteEntry], lists: RouteLists) -> str:
    mine = [
        httproute_rules.as_route(route) if "backendRefs" in route else route for route in beside(key, lists)
    ]
    to = [f"{_who(route)} to {_where(route['route'])}" for route in mine if "mirror" not in route]
    rest = f"else {_described(entries)}" if to else _described(entries)
    copied = [
        f"{route['mirrorPercentage']['value']:g}% mirrored to {route['mirror'].get('subset')}"
        for route in mine
        if "mirror" in route
    ]
    return "; ".join((*to, ", ".join((rest, *copied))))


def _who(route: Mapping[str, Any]) -> str:
    return user_cookies.audience(str(route.get("name"))) or in_words(route.get("match") or [])


def _where(entries: Sequence[RouteEntry]) -> str:
    at = _carrier(entries)
    return _described(entries) if at is None else _subset(entries[at])


def _split(
    key: str, entries: Sequence[RouteEntry], canary_subset: str, weight: int
) -> tuple[RouteEntry, ...]:
    carrier = _carrier_of(key, entries)
    if _subset(entries[carrier]) == canary_subset:
        raise ValueError(f"route {key} already sends all traffic to subset {canary_subset}")
    result = [deepcopy(dict(entry)) for entry in entries]
    result[carrier]["weight"] = 100 - weight
    present = _find(entries, canary_subset)
    if present is None:
        result.append(_copy(entries[carrier], canary_subset))
        present = len(result) - 1
    result[present]["weight"] = weight
    return tuple(result)


def _without(
    entries: Sequence[RouteEntry], own: Sequence[RouteEntry], origin: RouteLists, canary_subset: str
) -> tuple[RouteEntry, ...]:
    entries = user_cookies.plain(entries)
    at = _find(entries, canary_subset)
    if at is None:
        return tuple(entries)
    if own and any(
        _plain(_weightless(entries)) == _plain(_weightless(own_list))
        for own_list in _own_lists(own, canary_subset)
    ):
        return tuple(own)
    before = own or next(iter(origin.values()))
    stable = _subset(before[_carrier_of("", before)])
    left = [deepcopy(dict(entry)) for entry in entries if _subset(entry) != canary_subset]
    freed = sum(
        weight
        for weight, entry in zip(_weights(entries), entries, strict=True)
        if _subset(entry) == canary_subset
    )
    heir = _find(left, stable)
    if heir is None:
        left.append(_copy(entries[at], stable) | ({"weight": freed} if len(entries) > 1 else {}))
    elif len(left) > 1 or "weight" in left[heir]:
        left[heir]["weight"] = freed + int(left[heir].get("weight") or 0)
    return tuple(left)


def _own_lists(origin: Sequence[RouteEntry], canary_subset: str) -> Iterator[Sequence[RouteEntry]]:
    """What canaryd makes of a list, but for weights: the origin, a split, and what stands after a success."""
    yield origin
    yield _split("", origin, canary_subset, 1)
    yield only({"": tuple(origin)}, canary_subset)[""]


def _weightless(entries: Sequence[RouteEntry]) -> list[RouteEntry]:
    return [{name: value for name, value in entry.items() if name != "weight"} for entry in entries]


def _copy(entry: RouteEntry, subset: str) -> dict[str, Any]:
    copied = deepcopy(dict(entry))
    copied["destination"] = {**copied["destination"], "subset": subset}
    return copied


def _carrier_of(key: str, entries: Sequence[RouteEntry]) -> int:
    at = _carrier(entries)
    if at is None:
        raise ValueError(
            f"route {key} must send all its traffic to one destination, but is {_described(entries)}"
        )
    return at


def _carrier(entries: Sequence[RouteEntry]) -> int | None:
    """The position of the destination with all the traffic, None when there is none."""
    weighty = [at for at, weight in enumerate(_weights(entries)) if weight]
    return weighty[0] if len(weighty) == 1 else None


def _weights(entries: Sequence[RouteEntry]) -> list[int]:
    # A destination alone takes all, whatever weight it has or has not; among several a missing weight is 0.
    return [100] if len(entries) == 1 else [int(entry.get("weight") or 0) for entry in entries]


def _find(entries: Sequence[RouteEntry], subset: str) -> int | None:
    return next((at for at, entry in enumerate(entries) if _subset(entry) == subset), None)


def _subset(entry: RouteEntry) -> str:
    return str(entry.get("destination", {}).get("subset") or "")


def _host(entry: RouteEntry) -> str:
    return str(entry.get("destination", {}).get("host") or "")


def _described(entries: Sequence[RouteEntry]) -> str:
    entries = user_cookies.plain(entries)
    if len(entries) == 1:
        return f"all to {_subset(entries[0]) or 'no subset'}"
    weights = _weights(entries)
    total = sum(weights) or 100  # weights are relative, and as a rule of a hundred
    return ", ".join(
        f"{_subset(entry) or 'no subset'} {100 * weight / total:.3g}%"
        for entry, weight in zip(entries, weights, strict=True)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):  # a record keeps no null, and to the API server it is no value
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
