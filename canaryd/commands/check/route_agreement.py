"""VirtualService and DestinationRule of one service: can canaryd steer them, do they agree, and does anyone
else route its requests.

What canaryd refuses is said in the words of the daemon: the facts hold them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from canaryd.commands.check.finding import Finding, as_yaml, ok, problem, some, unknown, warning
from canaryd.domain.check_facts import Facts, Object, labels_of, name_of, namespace_of, spec_of, template_of
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import RouteView
from canaryd.routing import documents
from canaryd.routing.documents import MESH, Destination, Host
from canaryd.routing.route_lists import Refusal, described, stable_version, unsteered
from canaryd.routing.route_lists import check as makes_all_stages

Json = Mapping[str, Any]
OWN_ROUTE = "canaryd-"  # how the names of routes begin that a rollout adds
ENDED = ("Succeeded", "RolledBack", "Superseded")


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on a service's VirtualService and DestinationRule, and on those of others for it."""
    yield from _steerable(facts, policy)
    route = virtual_service(facts, policy)
    if route is not None:
        yield from _hosts(facts, policy, route)
        yield from _order(policy, route)
        yield from _weights(policy, route)
        yield from _left_over(facts, policy, route)
        yield from _subsets(facts, policy, route)
    yield from _other_routes(facts, policy)
    yield from _other_rules(facts, policy)


def virtual_service(facts: Facts, policy: Policy) -> Object | None:
    """The VirtualService that the policy names; None where it does not exist."""
    return facts.find("VirtualService", policy.service.namespace, policy.route.virtual_service)


def host_of(facts: Facts, policy: Policy) -> str:
    """The service's host in full."""
    return Host.of_service(policy.key, facts.domain).name


def rule_host(facts: Facts, rule: Object) -> Host:
    """The host that a DestinationRule is for."""
    return Host.parse(str(spec_of(rule).get("host") or ""), namespace_of(rule), facts.domain)


def rules_for(facts: Facts, service: NamespacedName) -> list[Object]:
    """The DestinationRules of a service's own host, whatever their namespace."""
    return [rule for rule in facts.of("DestinationRule").items if rule_host(facts, rule).service == service]


def http_destinations(facts: Facts, obj: Object) -> list[Destination]:
    """Where the http routes of a VirtualService send requests, and copies of them."""
    return [to for to in documents.destinations(obj, facts.domain) if to.section == "http"]


def leads_to(facts: Facts, obj: Object, service: NamespacedName) -> bool:
    """Whether any http route of a VirtualService sends something to a service."""
    return any(to.host.service == service for to in http_destinations(facts, obj))


def named(obj: Object) -> str:
    """Kind, namespace and name of an object, for people."""
    return f"{obj.get('kind', 'VirtualService')} {namespace_of(obj)}/{name_of(obj)}"


def under_way(facts: Facts, policy: Policy) -> str:
    """The name of the service's rollout that has not ended, ""."""
    for record in facts.within("CanaryRollout", policy.service.namespace):
        phase = (record.get("status") or {}).get("phase")
        if spec_of(record).get("service") == policy.service.name and phase and phase not in ENDED:
            return name_of(record)
    return ""


# ---------------------------------------------------------------- what the daemon would say


def _steerable(facts: Facts, policy: Policy) -> Iterator[Finding]:
    about = f"VirtualService {policy.service.namespace}/{policy.route.virtual_service}"
    view = facts.routes.get(policy.key)
    wanted = "a route that canaryd can steer; the reason is the one that the daemon gives"
    if view is None:
        yield unknown(
            "routes.steerable",
            about,
            f"it cannot be read: {facts.of('VirtualService').problem or 'not looked at'}",
        )
    elif isinstance(view, str):
        yield problem("routes.steerable", about, view, wanted, _skeleton(facts, policy))
    elif name := under_way(facts, policy):
        yield ok("routes.steerable", about, f"{described(view.lists)}; the rollout {name} is under way")
    else:
        yield from _stable(policy, about, view, wanted)
    if isinstance(view, RouteView) and (why := unsteered(view)):
        spec, full = spec_of(view.raw), host_of(facts, policy)
        written = [full if host == "*" else host for host in spec.get("hosts") or []]
        is_host = any(host.serves(policy.key, facts.domain) for host in documents.hosts_of(view.raw))
        gateways = spec.get("gateways") or []
        mended = {
            "hosts": list(dict.fromkeys(written if is_host else [*written, full])),
            "gateways": list(dict.fromkeys([*gateways, MESH])),
        }
        mend = as_yaml(mended, "in its spec; with all names that clients use")
        yield warning(
            "routes.mesh",
            "calls inside the mesh",
            why,
            "calls from inside the mesh steered too, if there are any",
            mend,
        )


def _stable(policy: Policy, about: str, view: RouteView, wanted: str) -> Iterator[Finding]:
    try:
        yield ok("routes.steerable", about, f"all traffic on {stable_version(view)}")
        yield from _stages(policy, about, view)
    except Refusal as refusal:
        split = next((entries for entries in view.lists.values() if len(entries) > 1), ())
        most = max(split, key=lambda entry: entry.get("weight") or 0, default=None)
        where = f"the http route of {policy.route.virtual_service}, if this version is to be stable"
        mend = as_yaml({"route": [{"destination": dict(most["destination"])}]}, where) if most else ""
        yield problem("routes.steerable", about, str(refusal), wanted, mend)


def _stages(policy: Policy, about: str, view: RouteView) -> Iterator[Finding]:
    try:
        makes_all_stages(policy, view, "of the next version")
    except Refusal as refusal:
        yield problem(
            "routes.stages", about, str(refusal), "routes of which every stage of the policy can be made"
        )


def _skeleton(facts: Facts, policy: Policy) -> str:
    """As little as canaryd needs, where one of the two objects is missing."""
    host, namespace = host_of(facts, policy), policy.service.namespace
    version = next(iter(sorted(_versions(facts, policy))), "v1")
    made = []
    if virtual_service(facts, policy) is None and not facts.of("VirtualService").problem:
        made.append(
            as_yaml(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "VirtualService",
                    "metadata": {"name": policy.route.virtual_service, "namespace": namespace},
                    "spec": {
                        "hosts": [host],
                        "http": [{"route": [{"destination": {"host": host, "subset": version}}]}],
                    },
                }
            )
        )
    rule = facts.find("DestinationRule", namespace, policy.route.destination_rule)
    if rule is None and not facts.of("DestinationRule").problem:
        label = policy.service.version_label
        made.append(
            as_yaml(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "DestinationRule",
                    "metadata": {"name": policy.route.destination_rule, "namespace": namespace},
                    "spec": {"host": host, "subsets": [{"name": version, "labels": {label: version}}]},
                }
            )
        )
    return "\n---\n".join(made)


def of_http_route(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """What the daemon would say of an HTTPRoute; its parents, and who else may write it, are not looked
    at."""
    about, view = (
        f"HTTPRoute {policy.service.namespace}/{policy.route.http_route}",
        facts.routes.get(policy.key),
    )
    wanted = "a route that canaryd can steer; the reason is the one that the daemon gives"
    if view is None:
        yield unknown(
            "routes.steerable",
            about,
            "it cannot be read" if not facts.offline else "files of HTTPRoutes are not looked at",
        )
        return
    if isinstance(view, str):
        yield problem("routes.steerable", about, view, wanted)
        return
    try:
        name = under_way(facts, policy)
        yield ok(
            "routes.steerable",
            about,
            f"the rollout {name} is under way" if name else f"all traffic on {stable_version(view)}",
        )
    except Refusal as refusal:
        yield problem("routes.steerable", about, str(refusal), wanted)
    if view.trouble:
        yield problem("routes.parents", about, view.trouble, "a route that its parents accept")
    if why := unsteered(view):
        yield warning("routes.mesh", about, why, "the calls of every caller steered, if there are others")


# ---------------------------------------------------------------- inside the VirtualService


def _hosts(facts: Facts, policy: Policy, route: Object) -> Iterator[Finding]:
    """Hosts that look like the service's and are not, to Istio: it takes a name with a dot as it is."""
    full = host_of(facts, policy)
    rule = facts.find("DestinationRule", policy.service.namespace, policy.route.destination_rule)
    hosts = [("spec.host", rule_host(facts, rule))] if rule else []
    hosts += [(to.path, to.host) for to in http_destinations(facts, route)]
    found = list(dict.fromkeys(hosts))
    wrong = [(where, host) for where, host in found if host.is_mistaken_for(policy.key)]
    if not leads_to(facts, route, policy.key):
        wrong += [(where, host) for where, host in found if host.is_of_another_namespace(policy.key)]
    for where, host in wrong:
        about = f"DestinationRule {policy.route.destination_rule}" if where == "spec.host" else named(route)
        what = (
            "the Service of another namespace"
            if host.is_of_another_namespace(policy.key)
            else "which Istio takes as it is: it is not a Service"
        )
        yield problem(
            "routes.host",
            about,
            f"{where} has the host {host.written!r}, {what}",
            f"{policy.service.name} or {full}",
            as_yaml({"host": full}, where),
        )
    if not wrong:
        yield ok("routes.host", named(route), f"its hosts of {policy.service.name} are the Service's")


def _order(policy: Policy, route: Object) -> Iterator[Finding]:
    """A route that takes everything leaves nothing for those after it."""
    http: Sequence[Json] = spec_of(route).get("http") or []
    for place, http_route in enumerate(http[:-1]):
        if takes_all(http_route):
            hidden = [_called(later, place + 1 + at) for at, later in enumerate(http[place + 1 :])]
            yield problem(
                "routes.order",
                named(route),
                f"http route {_called(http_route, place)} takes every request, so {some(hidden)} is never "
                "reached",
                "the route without a match at the end",
                f"kubectl -n {namespace_of(route)} edit virtualservice {name_of(route)}   # move it to the "
                "end of spec.http",
            )
            return
    if len(http) > 1:
        yield ok("routes.order", named(route), f"each of its {len(http)} http routes can be reached")


def takes_all(route: Json) -> bool:
    """No match, or one that any request meets."""
    matches = route.get("match")
    return not matches or any(_any(match) for match in matches)


def _any(match: Json) -> bool:
    conditions = {
        key: value for key, value in match.items() if key not in ("name", "ignoreUriCase", "statPrefix")
    }
    return not conditions or (conditions.keys() == {"uri"} and (conditions["uri"] or {}).get("prefix") == "/")


def _called(route: Json, place: int) -> str:
    return str(route.get("name") or f"number {place}")


def _weights(policy: Policy, route: Object) -> Iterator[Finding]:
    for place, http_route in enumerate(spec_of(route).get("http") or []):
        entries = http_route.get("route") or []
        total = sum(int(entry.get("weight") or 0) for entry in entries)
        if len(entries) > 1 and total != 100:
            yield warning(
                "routes.weights",
                named(route),
                f"the weights of http route {_called(http_route, place)} sum to {total}: to Istio they are "
                "proportions, not per cent",
                "a sum of 100",
                f"kubectl -n {namespace_of(route)} edit virtualservice {name_of(route)}",
            )


def _left_over(facts: Facts, policy: Policy, route: Object) -> Iterator[Finding]:
    """Routes that a rollout made, when there is none."""
    names = [
        str(http_route.get("name"))
        for http_route in spec_of(route).get("http") or []
        if str(http_route.get("name") or "").startswith(OWN_ROUTE)
    ]
    if names and not under_way(facts, policy):
        yield warning(
            "routes.leftover",
            named(route),
            f"http route {some(names)} looks like one of a rollout, but none is under way",
            "no routes of a rollout that has ended",
            f"kubectl -n {namespace_of(route)} edit virtualservice {name_of(route)}   # remove it",
        )


# ---------------------------------------------------------------- subsets


def _subsets(facts: Facts, policy: Policy, route: Object) -> Iterator[Finding]:
    host, listing = host_of(facts, policy), facts.of("DestinationRule")
    rules = rules_for(facts, policy.key)
    if not rules and (listing.problem or facts.offline):
        yield unknown(
            "routes.subsets",
            f"subsets of {policy.service.name}",
            listing.problem or f"no DestinationRule of {host} is among the files",
        )
        return
    defined = {
        str(subset.get("name")): subset for rule in rules for subset in spec_of(rule).get("subsets") or []
    }
    used = {to.subset for to in http_destinations(facts, route) if to.host.service == policy.key}
    about = f"DestinationRule {policy.service.namespace}/{policy.route.destination_rule}"
    missing = sorted(used - defined.keys() - {""})
    for name in missing:
        subset = {"name": name, "labels": {policy.service.version_label: name}}
        yield problem(
            "routes.subsets",
            about,
            f"{name_of(route)} sends to subset {name!r}, which no DestinationRule has: these requests "
            f"fail with 503 (subsets there: {some(sorted(defined))})",
            f"a subset {name!r}",
            as_yaml([subset], f"to spec.subsets of {policy.route.destination_rule}"),
        )
    yield from _selecting(facts, policy, defined, used, about)
    if not missing and used & defined.keys():
        yield ok(
            "routes.subsets",
            about,
            f"has the subsets that {name_of(route)} names: {some(sorted(used & defined.keys()))}",
        )


def _selecting(
    facts: Facts, policy: Policy, defined: Mapping[str, Json], used: set[str], about: str
) -> Iterator[Finding]:
    """Subsets that select no Deployment's pods: wrong where traffic is sent there, and left over where
    not."""
    deployments = [
        deployment
        for deployment in facts.within("Deployment", policy.service.namespace)
        if policy.service.selector.items() <= dict(labels_of(template_of(deployment))).items()
    ]
    if not deployments:
        return
    for name, subset in defined.items():
        labels: Mapping[str, str] = subset.get("labels") or {}
        if any(
            labels.items() <= dict(labels_of(template_of(deployment))).items() for deployment in deployments
        ):
            continue
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        found = f"subset {name} selects {shown}, and no Deployment of {policy.service.name} has such pods"
        versions = some(sorted(_versions(facts, policy)))
        if name in used:
            yield problem(
                "routes.subsetLabels",
                about,
                f"{found}, but requests are sent there",
                f"labels of a version (there: {versions})",
                as_yaml(
                    [
                        {
                            "name": name,
                            "labels": {
                                policy.service.version_label: min(_versions(facts, policy), default=name)
                            },
                        }
                    ],
                    f"in spec.subsets of {policy.route.destination_rule}",
                ),
            )
        else:
            yield warning(
                "routes.leftover",
                about,
                f"{found}: left over?",
                "subsets of versions that are there",
                f"kubectl -n {policy.service.namespace} edit destinationrule "
                f"{policy.route.destination_rule}   # remove {name}",
            )


def _versions(facts: Facts, policy: Policy) -> set[str]:
    label, selector = policy.service.version_label, policy.service.selector.items()
    found = [
        dict(labels_of(template_of(deployment)))
        for deployment in facts.within("Deployment", policy.service.namespace)
    ]
    return {labels[label] for labels in found if selector <= labels.items() and labels.get(label)}


# ---------------------------------------------------------------- others


def _other_routes(facts: Facts, policy: Policy) -> Iterator[Finding]:
    if facts.of("VirtualService").problem:
        yield unknown(
            "routes.others",
            "other VirtualServices",
            f"not all can be listed: {facts.of('VirtualService').problem}",
        )
        return
    own = virtual_service(facts, policy)
    for other in facts.of("VirtualService").items:
        if own is None or (namespace_of(other), name_of(other)) == (namespace_of(own), name_of(own)):
            continue
        shared = sorted(_places(facts, other) & _places(facts, own))
        if shared:
            gateway, at = shared[0]
            where = f"the host {at} {'in the mesh' if gateway == MESH else f'at gateway {gateway}'}"
            does = (
                "there Istio applies the older one alone"
                if gateway == MESH
                else "Istio merges both, in no order that it promises"
            )
            yield warning(
                "routes.others",
                named(other),
                f"it is for {where} as well as {name_of(own)}: {does}",
                "one VirtualService for a host",
                f"kubectl -n {namespace_of(other)} get virtualservice {name_of(other)} -o yaml",
            )
        elif leads_to(facts, other, policy.key):
            yield warning(
                "routes.others",
                named(other),
                f"it sends requests to {policy.service.name} too, which canaryd does not steer",
                f"all of them through {name_of(own)}",
                f"kubectl -n {namespace_of(other)} get virtualservice {name_of(other)} -o yaml",
            )


def _places(facts: Facts, route: Object) -> set[tuple[str, str]]:
    """(gateway, host) of a VirtualService, both in full; hosts in lower case, as istiod takes them here."""
    namespace = namespace_of(route)
    gateways = [gateway_key(str(name), namespace) for name in spec_of(route).get("gateways") or [MESH]]
    hosts = [host.name.lower() for host in documents.hosts_of(route, facts.domain)]
    return set(product(gateways, hosts))


def gateway_key(name: str, namespace: str) -> str:
    """`namespace/name` of a gateway as a VirtualService of `namespace` names it; `mesh` is itself."""
    return name if name == MESH or "/" in name else f"{namespace}/{name}"


def _other_rules(facts: Facts, policy: Policy) -> Iterator[Finding]:
    own = (policy.service.namespace, policy.route.destination_rule)
    if facts.of("DestinationRule").problem:
        yield unknown(
            "routes.otherRules",
            "other DestinationRules",
            f"not all can be listed: {facts.of('DestinationRule').problem}",
        )
    for other in rules_for(facts, policy.key):
        if (namespace_of(other), name_of(other)) != own:
            yield warning(
                "routes.otherRules",
                named({**other, "kind": "DestinationRule"}),
                f"it is for the host of {policy.service.name} too: "
                "which of them applies depends on namespaces and age",
                f"the subsets of all versions in {own[1]} alone",
                f"kubectl -n {namespace_of(other)} get destinationrule {name_of(other)} -o yaml",
            )
