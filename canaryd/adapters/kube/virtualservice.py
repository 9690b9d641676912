"""The routes of a service in Istio: a VirtualService, and the subsets of a DestinationRule.

Reads both. Writes only the `route` lists of the steered http routes, whole routes that canaryd adds just
before them, and a missing subset where the policy allows that. Each write carries what was read as its
precondition, so nobody's edit is overwritten unseen. `tcp` and `tls` routes are not steered: they have no
requests to count.

A new subset is routed to only after a while. istiod sends a proxy the subset and the route to it together,
and the proxy applies the route before it has built the cluster: for that moment the proxy answers 503 by
itself, which the telemetry of no server counts.
"""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from canaryd.adapters.kube import managed_route_patch, route_selection
from canaryd.adapters.kube.client import JSON_PATCH, Json, KubernetesApi, path_to
from canaryd.adapters.kube.matched_user_services import SETTLE, MatchedUserServices, services_in
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Missing, Rejected, RouteView, TooNew
from canaryd.domain.rollout import RouteLists
from canaryd.routing import documents
from canaryd.routing.documents import Host
from canaryd.routing.managed_routes import is_of, steered

GROUP = "networking.istio.io"
# annotation of a DestinationRule: the subsets that canaryd added, by name, with commas between
SUBSETS = "canaryd.dev/subsets"
_NO_SPLIT = (
    "redirect",
    "directResponse",
    "delegate",
)  # a route that has one of these sends no requests to destinations


class IstioTraffic:
    """Implements the port `Traffic` on the API server, in whichever version of Istio's API the server
    prefers.

    domain: the cluster's domain, of which short host names are part; settle: seconds until a new subset, or a
    Service that was made, is routed to.
    """

    def __init__(self, api: KubernetesApi, domain: str = "cluster.local", settle: float = SETTLE) -> None:
        self._api = api
        self._domain = domain
        self._fair = MatchedUserServices(api, settle)
        self._settle = settle
        # DestinationRule -> subset -> when it was first seen, monotonic
        self._since: dict[tuple[str, str], dict[str, float]] = {}

    def read(self, policy: Policy) -> RouteView:
        """The steered routes and the subsets. Besides the port's errors: Rejected for a route that cannot be
        steered, by its name."""
        found = self._get(
            policy, "virtualservices", policy.route.virtual_service, "routes the service's requests"
        )
        rule = self.rule(policy)
        self._note(rule)
        return self._view(policy, found, _versions(policy, rule))

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        """The view after the write, which is one patch. What is as wanted is left alone; if all is, nothing
               is sent.

        Of the service's added routes those that `lists` has stand just before their steered route after it,
        and no other is there. Raises Rejected where a steered route is gone, Conflict where someone edited it
        meanwhile."""
        unknown = sorted(set(steered(lists)) - set(view.lists))
        if unknown:
            raise Rejected(
                f"{_named(policy)} has no steered route {', '.join(unknown)} any more (it has "
                f"{', '.join(steered(view.lists)) or 'none'}); put it back, or abort the rollout"
            )
        places = _places(policy, view.raw, self._domain)
        changed = {
            key: place
            for key, place in places.items()
            if key in lists and _listed(lists[key]) != _listed(view.lists[key])
        }
        moves = managed_route_patch.moves(
            "/spec/http", policy.service.name, view.raw["spec"]["http"], places, lists
        )
        if not changed and not moves:
            return view
        patch: list[Json] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": view.resource_version}
        ]
        for key, place in places.items():
            patch.append(
                {"op": "test", "path": f"/spec/http/{place}/route", "value": _listed(view.lists[key])}
            )
        for key, place in changed.items():
            patch.append({"op": "replace", "path": f"/spec/http/{place}/route", "value": _listed(lists[key])})
        path = self._path(policy, "virtualservices", policy.route.virtual_service)
        return self._view(
            policy, self._api.request("PATCH", path, patch + moves, content_type=JSON_PATCH), view.subsets
        )

    def places(self, policy: Policy, view: RouteView) -> Mapping[str, int]:
        """Where in `spec.http` each steered route stands, by its key; none where they were taken out and
        canaryd's own are left."""
        return _places(policy, view.raw, self._domain)

    def add_subset(self, policy: Policy, version: str) -> str:
        """The name of the subset of all of the version's pods, added if it was missing.

        Raises Rejected, with what to add, when the policy forbids it; TooNew.
        """
        name, rule = self._add_subset(policy, version)
        since = self._note(rule)[name]
        if policy.fair_services:
            self._fair.prepare(
                policy, (policy.service.name,), services_in(self._api, policy.service.namespace), rule
            )
        if time.monotonic() - since < self._settle:
            raise TooNew(
                f"the subset {name} of the DestinationRule {policy.route.destination_rule} is new, and is "
                f"routed to after {self._settle:g} s, when proxies know it"
            )
        return name

    def _note(self, rule: Json) -> Mapping[str, float]:
        """When each subset was first seen. A new process begins anew: what it finds at its start is old
        before a version is available."""
        place, now = (rule["metadata"]["namespace"], rule["metadata"]["name"]), time.monotonic()
        known = self._since.get(place, {})
        self._since[place] = {
            name: known.get(name, now) for name in (str(subset.get("name")) for subset in _subsets(rule))
        }
        return self._since[place]

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        """See the port."""
        if not policy.fair_services:
            return ()
        return self._fair.ensure(
            policy,
            (policy.service.name,),
            services_in(self._api, policy.service.namespace),
            self.rule(policy),
        )

    def _add_subset(self, policy: Policy, version: str) -> tuple[str, Json]:
        """Its name, and the DestinationRule with it."""
        rule = self.rule(policy)
        subsets, whole = _subsets(rule), set(policy.service.selector) | {policy.service.version_label}
        for name, known in _versions(policy, rule).items():
            labels = next(subset["labels"] for subset in subsets if subset["name"] == name)
            # a further label selects some of its pods only, or none
            if known == version and set(labels) <= whole:
                return name, rule
        name = subset_name(version, {str(subset.get("name")) for subset in subsets})
        label = policy.service.version_label
        rule_name = policy.route.destination_rule
        if not policy.route.add_subset:
            raise Rejected(
                f"DestinationRule {policy.service.namespace}/{rule_name} has no subset for all pods of "
                f"version {version}, and route.addSubset is false; add to its spec.subsets:\n- name: "
                f"{name}\n  labels:\n    {label}: {version}"
            )
        subset = {"name": name, "labels": {label: version}}
        patch: list[Json] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": rule["metadata"]["resourceVersion"]}
        ]
        at_end: Json = {"op": "add", "path": "/spec/subsets/-", "value": subset}
        patch.append(at_end if subsets else {"op": "add", "path": "/spec/subsets", "value": [subset]})
        patch.append(
            annotating(
                rule,
                SUBSETS,
                ",".join(
                    [*(added_subset for added_subset in added_subsets(rule) if added_subset != name), name]
                ),
            )
        )
        rule = self._api.request(
            "PATCH", self._path(policy, "destinationrules", rule_name), patch, content_type=JSON_PATCH
        )
        return name, rule

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        """What was made for stages with `split`. Subsets stay where they are: an idle one leads nobody
        anywhere."""
        if keep:
            return ()
        return self._fair.remove(
            policy,
            services_in(self._api, policy.service.namespace),
            f"{GROUP}/{self._api.preferred_version(GROUP)}",
        )

    def rule(self, policy: Policy) -> Json:
        """The DestinationRule; Rejected when it is another host's."""
        rule = self._get(
            policy, "destinationrules", policy.route.destination_rule, "has a subset for each version"
        )
        _check_rule(policy, rule, self._domain)
        return rule

    def _get(self, policy: Policy, plural: str, name: str, purpose: str) -> Json:
        try:
            return self._api.request("GET", self._path(policy, plural, name))
        except Missing as error:
            kind = {"virtualservices": "VirtualService", "destinationrules": "DestinationRule"}[plural]
            raise Missing(
                f"there is no {kind} {policy.service.namespace}/{name}, which {purpose} ({error})"
            ) from error

    def _path(self, policy: Policy, plural: str, name: str) -> str:
        return path_to(
            f"{GROUP}/{self._api.preferred_version(GROUP)}", plural, policy.service.namespace, name
        )

    def _view(self, policy: Policy, found: Json, subsets: Mapping[str, str]) -> RouteView:
        return _view(policy, found, subsets, self._domain)


def view_of(policy: Policy, virtual_service: Json, rule: Json, domain: str = "cluster.local") -> RouteView:
    """The view of two objects that were read before, or are in files. Raises Rejected, in the same words as
    `IstioTraffic.read`."""
    _check_rule(policy, rule, domain)
    return _view(policy, virtual_service, _versions(policy, rule), domain)


def _view(policy: Policy, found: Json, subsets: Mapping[str, str], domain: str) -> RouteView:
    http, places = (found.get("spec") or {}).get("http") or [], _places(policy, found, domain)
    lists = {key: tuple(http[place]["route"]) for key, place in places.items()}
    lists |= managed_route_patch.lists(policy.service.name, http, places)
    whole = {key: http[place] for key, place in places.items()}
    version = found["metadata"].get("resourceVersion", "")  # of a file there is none
    return RouteView(
        lists=lists,
        subsets=subsets,
        resource_version=version,
        raw=found,
        routes=whole,
        displaced=managed_route_patch.displaced(policy.service.name, http, places),
        domain=domain,
    )


def _check_rule(policy: Policy, rule: Json, domain: str) -> None:
    """Raises Rejected when a DestinationRule is another host's."""
    written = str((rule.get("spec") or {}).get("host") or "")
    if Host.parse(written, policy.service.namespace, domain).service != policy.key:
        raise Rejected(
            f"DestinationRule {policy.service.namespace}/{policy.route.destination_rule} must be for host "
            f"{host_of(policy, domain)}, but is for {written!r}; name the right one in the policy's "
            "route.destinationRule"
        )


def added_subsets(rule: Json) -> list[str]:
    """The subsets of a DestinationRule that canaryd added, as its annotation has them."""
    noted = (rule["metadata"].get("annotations") or {}).get(SUBSETS, "")
    return [name for name in (name.strip() for name in noted.split(",")) if name]


def annotating(obj: Json, key: str, value: str) -> Json:
    """The operation of a json-patch that sets an annotation; with the value "", that removes one that is
    there."""
    annotations = obj["metadata"].get("annotations")
    path = f"/metadata/annotations/{key.replace('~', '~0').replace('/', '~1')}"
    if not value:
        return {"op": "remove", "path": path if len(annotations) > 1 else "/metadata/annotations"}
    if not annotations:
        return {"op": "add", "path": "/metadata/annotations", "value": {key: value}}
    return {"op": "add", "path": path, "value": value}


def subset_name(version: str, taken: set[str]) -> str:
    """A subset's name for a version label: a DNS label (Istio refuses others), the version itself where that
    is one."""
    plain = re.sub(r"[^a-z0-9-]", "-", version.lower()).strip("-")[:60].strip("-") or "canary"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name


def _places(policy: Policy, virtualservice: Mapping[str, Any], domain: str) -> dict[str, int]:
    """As `_steered`; none where none can be steered, and canaryd's own routes are left over."""
    try:
        return _steered(policy, virtualservice, domain)
    except Rejected:
        if managed_route_patch.are_left(
            policy.service.name, (virtualservice.get("spec") or {}).get("http") or []
        ):
            return {}
        raise


def _steered(policy: Policy, virtualservice: Mapping[str, Any], domain: str) -> dict[str, int]:
    """The steered http routes: key -> position in spec.http. Raises Rejected for none, and for one that
    cannot be steered."""
    http: Sequence[Json] = (virtualservice.get("spec") or {}).get("http") or []
    if policy.route.http:
        places = route_selection.places(_named(policy), "http route", "route.http", policy.route.http, http)
    else:
        places = [
            at
            for at, http_route in enumerate(http)
            if not http_route.get("match") and _leads_to(policy, http_route, domain)
        ]
        places = [at for at in places if not is_of(policy.service.name, str(http[at].get("name") or ""))]
    if not places:
        raise Rejected(
            f"{_named(policy)} has no http route without a match to {host_of(policy, domain)}; add one, or "
            "name the routes to steer in the policy's route.http (those to this host: "
            f"{_candidates(policy, http, domain)})"
        )
    return route_selection.keyed(
        _named(policy),
        "http route",
        places,
        http,
        lambda route, where: _check(policy, route, where, domain),
    )


def _check(policy: Policy, route: Json, where: str, domain: str) -> None:
    """Raises Rejected when a route does anything but send requests to subsets of the one host."""
    host = host_of(policy, domain)
    wanted = f"wanted destinations with host {host} and a subset"
    for kind in _NO_SPLIT:
        if route.get(kind):
            raise Rejected(
                f"{where}: {wanted}, but it has `{kind}`; leave this route out of the policy's route.http"
            )
    if not route.get("route"):
        raise Rejected(
            f"{where}: {wanted}, but it has no destination; leave this route out of the policy's route.http"
        )
    for to in _shares(policy, route, domain):
        if to.host.service != policy.key:
            hint = ""
            if to.host.is_mistaken_for(policy.key):
                taken = "a name with a dot" if "." in to.host.written else "upper case"
                hint = f" (Istio takes {taken} as it is: write {policy.service.name} or {host})"
            raise Rejected(
                f"{where}: {wanted}, but one has host {to.host.written!r}{hint}; split the routes, and name "
                "those to steer in route.http"
            )
        if not to.subset:
            raise Rejected(
                f"{where}: {wanted}, but one has no subset; add the subset of the version that is stable now"
            )


def _shares(policy: Policy, route: Json, domain: str) -> list[documents.Destination]:
    """The destinations of an http route that get a share of its requests."""
    found = documents.of_istio_route(route, "http", 0, policy.service.namespace, domain)
    return [to for to in found if to.kind is documents.Kind.SHARE]


def _leads_to(policy: Policy, route: Json, domain: str) -> bool:
    return any(to.host.service == policy.key for to in _shares(policy, route, domain))


def _candidates(policy: Policy, http: Sequence[Json], domain: str) -> str:
    found = [
        route.get("name") or f"number {at}, without a name"
        for at, route in enumerate(http)
        if _leads_to(policy, route, domain)
    ]
    return ", ".join(found) or "none"


def _versions(policy: Policy, rule: Json) -> dict[str, str]:
    """Subset name -> version, for the subsets that select this service's pods of one version.

    A subset with further labels of its own selects fewer pods, so those with fewest labels come first: they
    are found first.
    """
    label, selector = policy.service.version_label, policy.service.selector
    found = []
    for subset in _subsets(rule):
        labels: Mapping[str, str] = subset.get("labels") or {}
        if labels.get(label) and all(labels.get(key, value) == value for key, value in selector.items()):
            found.append((len(labels), str(subset["name"]), labels[label]))
    return {name: version for _, name, version in sorted(found, key=lambda found_subset: found_subset[0])}


def _subsets(rule: Json) -> list[Json]:
    return (rule.get("spec") or {}).get("subsets") or []


def _listed(entries: Sequence[Mapping[str, Any]]) -> list[Json]:
    return [dict(entry) for entry in entries]


def _named(policy: Policy) -> str:
    return f"VirtualService {policy.service.namespace}/{policy.route.virtual_service}"


def host_of(policy: Policy, domain: str) -> str:
    """The service's full host."""
    return Host.of_service(policy.key, domain).name
