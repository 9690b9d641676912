"""The routes of a service by the Gateway API: the weights of an HTTPRoute's `backendRefs`, and a Service for
each version.

Reads both; writes nothing but the `backendRefs` of the steered rules, whole rules of its own just before
these, a missing Service for a new version if the policy lets it, and the end of such a Service. Every write
carries what was read as its precondition, so no one's edit is overwritten unseen, and all else stays as it
was. Conditions that the gateway's or mesh's controller writes are read, and told.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from canaryd.adapters.kube import managed_route_patch
from canaryd.adapters.kube import route_selection as by_name
from canaryd.adapters.kube import version_services as services_of
from canaryd.adapters.kube.client import JSON_PATCH, Json, KubernetesApi, path_to
from canaryd.adapters.kube.matched_user_services import SETTLE, MatchedUserServices, services_in
from canaryd.adapters.kube.version_services import Services
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Missing, Rejected, RouteView, TooNew
from canaryd.domain.rollout import RouteLists
from canaryd.routing import documents, httproute_weights
from canaryd.routing.documents import GATEWAY_API
from canaryd.routing.managed_routes import is_of, steered


class GatewayApiTraffic:
    """Implements the port `Traffic` on the API server, in whichever version of the Gateway API the server
    prefers.

    settle: see `MatchedUserServices`.
    """

    def __init__(self, api: KubernetesApi, settle: float = SETTLE) -> None:
        self._api, self._settle = api, settle
        self._fair = MatchedUserServices(api, settle)

    def read(self, policy: Policy) -> RouteView:
        """The steered rules and the Services of single versions. Besides the port's errors: Rejected for a
        rule that cannot be steered."""
        return _view(policy, self._route(policy), services_in(self._api, policy.service.namespace))

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        """The view after the write. What is as wanted is left alone; if all is, nothing is sent. Of the
        service's added rules those that `lists` has stand just before their steered rule after it, and no
        other is there.
        Raises Rejected where a steered rule is gone, Conflict where the route was edited since."""
        unknown = sorted(set(steered(lists)) - set(view.lists))
        if unknown:
            raise Rejected(
                f"{_named(policy)} has no steered rule {', '.join(unknown)} any more (it has "
                f"{', '.join(steered(view.lists)) or 'none'}); put it back, or abort the rollout"
            )
        route: Json = view.raw["route"]
        rules, places = route["spec"]["rules"], _places(policy, route, view.raw["services"])
        changed = {
            key: httproute_weights.refs(lists[key])
            for key in places
            if key in lists and httproute_weights.refs(lists[key]) != httproute_weights.refs(view.lists[key])
        }
        moves = managed_route_patch.moves("/spec/rules", policy.service.name, rules, places, lists)
        if not changed and not moves:
            return view
        patch = managed_route_patch.unedited(route)
        patch += [
            {"op": "test", "path": f"/spec/rules/{place}/backendRefs", "value": rules[place]["backendRefs"]}
            for place in places.values()
        ]
        patch += [
            {"op": "replace", "path": f"/spec/rules/{places[key]}/backendRefs", "value": refs}
            for key, refs in changed.items()
        ]
        patch += moves
        if any(move["op"] == "add" for move in moves):
            self._check_names(policy, patch, lists)
        return _view(
            policy,
            self._api.request("PATCH", self._path(policy), patch, content_type=JSON_PATCH),
            view.raw["services"],
        )

    def _check_names(self, policy: Policy, patch: Sequence[Json], lists: RouteLists) -> None:
        """Raises Rejected where the API server would drop the names of rules: canaryd would not know its own
        again."""
        tried = self._api.request(
            "PATCH", self._path(policy), patch, {"dryRun": "All"}, content_type=JSON_PATCH
        )
        names = {rule.get("name") for rule in tried["spec"]["rules"]}
        if not set(lists) - set(steered(lists)) <= names:
            raise Rejected(
                f"the rules that stages add to {_named(policy)} are known by rules[].name, which this "
                "cluster's HTTPRoute does not keep: install the Gateway API's CRDs of 1.4 or later (before, "
                "its experimental channel), or leave match, mirror and preview out"
            )

    def add_subset(self, policy: Policy, version: str) -> str:
        """The name of the Service of all of the version's pods, made like stable's if there was none.

        Raises Rejected, with what to apply, when the policy forbids it; TooNew; Conflict when someone else
        made one of this name meanwhile.
        """
        services = services_in(self._api, policy.service.namespace)
        view = _view(policy, self._route(policy), services)
        used = [
            entry["destination"]["subset"] for entries in steered(view.lists).values() for entry in entries
        ]
        name = services_of.of_version(policy, services, version) or self._make(
            policy, version, view, services, used
        )
        if name not in used and self._fair.is_new(name, services):
            raise TooNew(
                f"the Service {name} was made just now, and is routed to after {self._settle:g} s, when "
                "proxies know it"
            )
        if policy.fair_services and (like := _halves_like(view, name)):
            self._fair.prepare(policy, like, services_in(self._api, policy.service.namespace))
        return name

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        """See the port."""
        services: Services = view.raw["services"]
        if not policy.fair_services or not view.places:
            return ()
        like = _halves_like(view, services_of.of_version(policy, services, version))
        return self._fair.ensure(policy, like, services) if like else ()

    def _make(
        self, policy: Policy, version: str, view: RouteView, services: Services, used: Sequence[str]
    ) -> str:
        model = next((name for name in used if view.subsets.get(name, version) != version), None)
        if model is None:
            raise Rejected(
                f"{_named(policy)} leads to no Service of another version, after which one for {version} "
                "could be made"
            )
        name = services_of.name_for(policy, version, services)
        if not policy.route.add_service:
            wanted = services_of.as_yaml(services_of.like(policy, services[model], version, name, made=False))
            raise Rejected(
                f"there is no Service for all pods of version {version}, and route.addService is false; "
                f"apply:\n{wanted}"
            )
        made = services_of.like(policy, services[model], version, name)
        self._api.request("POST", path_to("v1", "services", policy.service.namespace), made)
        return name

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        """See the port. A Service that any HTTPRoute of the cluster refers to stays, and one whose selector
        or annotation was edited."""
        services = services_in(self._api, policy.service.namespace)
        idle = {
            name: version
            for name, service in services.items()
            if (version := services_of.made_for(policy, service)) and version not in keep
        }
        used = self._used(policy) if idle else frozenset()
        gone = [] if keep else self._fair.remove(policy, services)
        for name in sorted(set(idle) - used):
            if not self._api.delete_as_read(
                path_to("v1", "services", policy.service.namespace, name), services[name]
            ):
                continue
            gone.append(name)
        return gone

    def _used(self, policy: Policy) -> frozenset[str]:
        """The Services of the policy's namespace that an HTTPRoute of any namespace leads to, mirrors to, or
        is bound to."""
        found = set[str]()
        for route in self._api.request("GET", path_to(self._version(), "httproutes")).get("items") or []:
            found |= {
                *documents.services_in(documents.destinations(route), policy.service.namespace),
                *documents.parent_services(route, policy.service.namespace),
            }
        return frozenset(found)

    def _route(self, policy: Policy) -> Json:
        try:
            return self._api.request("GET", self._path(policy))
        except Missing as error:
            raise Missing(
                f"there is no {_named(policy)}, which routes the service's requests ({error})"
            ) from error

    def _path(self, policy: Policy) -> str:
        return path_to(self._version(), "httproutes", policy.service.namespace, policy.route.http_route)

    def _version(self) -> str:
        return f"{GATEWAY_API}/{self._api.preferred_version(GATEWAY_API)}"


def _view(policy: Policy, route: Json, services: Services) -> RouteView:
    spec, subsets = route.get("spec") or {}, services_of.versions(policy, services)
    rules, places = spec.get("rules") or [], _places(policy, route, services)
    lists = {
        key: httproute_weights.entries(rules[place]["backendRefs"], policy.service.name)
        for key, place in places.items()
    }
    used = {entry["destination"]["subset"] for entries in lists.values() for entry in entries}
    return RouteView(
        lists={**lists, **managed_route_patch.lists(policy.service.name, rules, places)},
        subsets=subsets,
        resource_version=route["metadata"]["resourceVersion"],
        raw={"route": route, "services": services},
        problems={name: _why_no_version(policy, name, services) for name in used if name not in subsets},
        elsewhere=frozenset(
            subsets[name]
            for name in documents.services_in(documents.destinations(route), policy.service.namespace)
            if name in subsets
        ),
        unsteered=httproute_weights.unsteered(policy.route.http_route, spec, policy.service.name),
        trouble=httproute_weights.parent_problem(route),
        chosen_by="route.rules",
        routes={key: rules[place] for key, place in places.items()},
        all_routes=rules,
        places=places,
        displaced=managed_route_patch.displaced(policy.service.name, rules, places),
    )


def _halves_like(view: RouteView, canary: str) -> tuple[str, ...]:
    """The Services that those of matched users are to be like, stable's and the canary's; none once nobody is
    split any more."""
    others = [
        entry
        for entries in steered(view.lists).values()
        for entry in entries
        if entry["destination"]["subset"] != canary
    ]
    return (
        (max(others, key=lambda entry: int(entry.get("weight", 1)))["destination"]["subset"], canary)
        if others
        else ()
    )


def _why_no_version(policy: Policy, name: str, services: Services) -> str:
    """Why a Service of a steered rule stands for no version, and what to do."""
    if name not in services:
        return (
            "there is no Service of this name; make it, with the version in its selector, or correct the "
            "route"
        )
    manifest = services_of.like(
        policy, services[name], "VERSION", f"{policy.service.name}-VERSION", made=False
    )
    return (
        "this Service selects the pods of every version, so a new one gets users as soon as its pods are "
        "ready, before any stage; wanted: a Service of the version that is stable now. Apply this with that "
        f"version for VERSION, and let the rule lead to it:\n{services_of.as_yaml(manifest)}"
    )


def _places(policy: Policy, route: Json, services: Services) -> dict[str, int]:
    """As `_steered`; none where none can be steered, and canaryd's own rules are left over."""
    try:
        return _steered(policy, route, services)
    except Rejected:
        if managed_route_patch.are_left(policy.service.name, (route.get("spec") or {}).get("rules") or []):
            return {}
        raise


def _steered(policy: Policy, route: Json, services: Services) -> dict[str, int]:
    """The steered rules: key -> position in spec.rules. Raises Rejected for none, and for one that cannot be
    steered."""
    rules: Sequence[Json] = (route.get("spec") or {}).get("rules") or []
    mine = [
        at
        for at, candidate in enumerate(rules)
        if any(_is_own(policy, ref, services) for ref in candidate.get("backendRefs") or [])
    ]
    if policy.route.rules:
        places = by_name.places(_named(policy), "rule", "route.rules", policy.route.rules, rules)
    else:
        places = [at for at in mine if documents.takes_every_request(rules[at])]
        places = [at for at in places if not is_of(policy.service.name, str(rules[at].get("name") or ""))]
    if not places:
        there = (
            ", ".join(str(rules[at].get("name") or f"number {at}, without a name") for at in mine) or "none"
        )
        raise Rejected(
            f"{_named(policy)} has no rule without a match to a Service of {policy.service.name}; add one, "
            f"or name the rules to steer in the policy's route.rules (those to this service: {there})"
        )
    return by_name.keyed(
        _named(policy), "rule", places, rules, lambda rule, where: _check(policy, rule, where, services)
    )


def _check(policy: Policy, rule: Json, where: str, services: Services) -> None:
    """Raises Rejected when a rule does anything but send requests to Services of this service's versions."""
    wanted = f"wanted backendRefs to Services of {policy.service.name}'s versions"
    refs = rule.get("backendRefs")
    if not refs:
        raise Rejected(f"{where}: {wanted}, but it has none; leave this rule out of the policy's route.rules")
    for ref in refs:
        kind, name, namespace = (
            _kind(ref),
            str(ref.get("name")),
            ref.get("namespace", policy.service.namespace),
        )
        if kind != "Service":
            raise Rejected(
                f"{where}: {wanted}, but one is the {kind} {name}; lead it to Services, or leave this rule "
                "out"
            )
        if namespace != policy.service.namespace:
            raise Rejected(
                f"{where}: {wanted}, in {policy.service.namespace}, but {name} is in {namespace}: over there "
                "a ReferenceGrant decides what may be led to, which canaryd does not look into; use a "
                "Service of the route's own namespace"
            )
        if name in services and not _is_own(policy, ref, services):
            chosen = (
                ", ".join(f"{key}={value}" for key, value in services_of.selector(services[name]).items())
                or "nothing"
            )
            raise Rejected(
                f"{where}: {wanted}, but {name} selects {chosen}; split the rules, and name those to steer "
                "in route.rules"
            )
    if len(refs) == 1 and refs[0].get("weight") == 0:
        raise Rejected(
            f"{where}: {wanted}, but its only one, {refs[0].get('name')}, has the weight 0, so it answers "
            "nobody; leave it out"
        )


def _is_own(policy: Policy, ref: Mapping[str, Any], services: Services) -> bool:
    """Whether a reference leads to this service's pods, of one version or of all."""
    namespace, name = documents.backend(ref, policy.service.namespace).service or ("", "")
    service = services.get(name)
    if service is None or namespace != policy.service.namespace:
        return False
    return services_of.serves_all(policy, service) or bool(services_of.versions(policy, {"": service}))


def _kind(ref: Mapping[str, Any]) -> str:
    return str(ref.get("kind") or "Service") + (f".{ref['group']}" if ref.get("group") else "")


def _named(policy: Policy) -> str:
    return f"HTTPRoute {policy.service.namespace}/{policy.route.http_route}"
