"""A service's routes and subsets without canaryd: which routes canaryd added, which version keeps the
traffic, and which subsets may be removed.

Pure, on objects as they stand in the cluster; adapters/kube/cleanup.py reads and writes them.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.split_services import fair_services
from canaryd.domain.ports import RouteView
from canaryd.domain.rollout import RouteLists
from canaryd.routing import documents, user_cookies
from canaryd.routing.documents import Document, RouteEntry
from canaryd.routing.managed_routes import is_added, steered
from canaryd.routing.route_lists import Refusal, described, stable_version


def is_own(http_route: Document, service: NamespacedName, domain: str) -> bool:
    """Whether canaryd added an http route for a service: it is to be removed whole. http_route: of a
    VirtualService in the service's namespace; domain: the cluster's."""
    namespace, name = service
    services = {service, *((namespace, fair) for fair in fair_services(name, by_gateway_api=False))}
    return is_added(str(http_route.get("name") or "")) and any(
        to.host.service in services
        for to in documents.of_istio_route(http_route, "http", 0, namespace, domain)
    )


def kept_version(view: RouteView, to: str, stable: str) -> str:
    """The version that keeps all traffic: the one asked for (`to`), else the stable one of the rollout under
    way (`stable`), else the one that has it; "" for neither.

    Raises Refusal, naming the choices, where there is no such version or no subset for it.
    """
    there = sorted(set(view.subsets.values()))
    version = to or stable
    if version and version not in there:
        raise Refusal(
            f"no subset of the DestinationRule{', or Service,' if view.places else ''} is for version "
            f"{version} (there are: {', '.join(there) or 'none'}); add one, or choose another with --to"
        )
    if version:
        return version
    try:
        return stable_version(view)
    except Refusal as error:
        ways = " or ".join(f"--to {known}" for known in there)
        raise Refusal(
            f"it is not clear which version is to be left: {described(view.lists)}; choose with "
            f"{ways or '--to, once the DestinationRule has a subset for it'}"
        ) from error


def at_one(view: RouteView, version: str) -> RouteLists:
    """The steered routes with one destination each, that of the version. A route that has no other
    destination stays as it is; routes that canaryd added are left out."""
    subsets = [name for name, of in view.subsets.items() if of == version]
    return {key: _at_one(entries, subsets) for key, entries in steered(view.lists).items()}


def _at_one(entries: Sequence[RouteEntry], subsets: Sequence[str]) -> tuple[RouteEntry, ...]:
    entries = user_cookies.plain(entries)
    named = [entry for entry in entries if _subset(entry) in subsets]
    if named and len(entries) == 1:
        return tuple(entries)
    # One that is there is taken as it is; else the one with most of the traffic is the pattern.
    heaviest = max(entries, key=lambda entry: int(entry.get("weight") or 0))
    entry = deepcopy(dict(named[0] if named else heaviest))
    entry["destination"] = {**entry["destination"], "subset": _subset(entry) if named else subsets[0]}
    if len(entries) > 1:
        entry.pop("weight", None)
    return (entry,)


def uses(virtual_service: Document, service: NamespacedName, domain: str) -> dict[str, str]:
    """Subset of the service -> the first route of a VirtualService that names it, for people; routes with
    weight 0, mirrors, and routes for tcp and tls count too. domain: the cluster's."""
    metadata = virtual_service["metadata"]
    where = f"VirtualService {metadata['namespace']}/{metadata['name']}"
    found: dict[str, str] = {}
    for to in documents.destinations(virtual_service, domain):
        if to.host.service == service:
            found.setdefault(to.subset, f"{where}, {to.where}")
    return found


def removable(
    rule: Mapping[str, Any], added: Sequence[str], used: Mapping[str, str], version_label: str
) -> tuple[list[str], list[str]]:
    """The subsets of a DestinationRule to remove, and a sentence on each that stays.

    added: the subsets that canaryd noted as its own; used: subset -> the route that names it. A subset that
    someone has changed since is no longer canaryd's.
    """
    gone, kept = [], []
    for subset in (rule.get("spec") or {}).get("subsets") or []:
        name = str(subset.get("name"))
        is_plain = set(subset) == {"name", "labels"} and set(subset["labels"]) == {version_label}
        if name in used:
            if name in added:
                kept.append(f"subset {name} stays: {used[name]} sends to it")
        elif name not in added:
            kept.append(f"subset {name} stays: no route names it, but it is not noted as added by canaryd")
        elif not is_plain:
            kept.append(
                f"subset {name} stays: no route names it, but someone has changed it since canaryd added it"
            )
        else:
            gone.append(name)
    return gone, kept


def _subset(entry: RouteEntry) -> str:
    return str(entry.get("destination", {}).get("subset") or "")
