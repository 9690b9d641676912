"""How an HTTPRoute, and the Services that canaryd made for it, are reset. Nothing here asks the API
server."""

from collections.abc import Mapping, Sequence

from canaryd.adapters.kube import managed_route_patch, matched_user_services
from canaryd.adapters.kube import version_services as services_of
from canaryd.adapters.kube.client import Json
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import RouteView
from canaryd.routing import documents, httproute_weights, restored_routes
from canaryd.routing.managed_routes import is_of, steered


def changes(policy: Policy, view: RouteView, version: str) -> tuple[list[Json], list[Json]]:
    """The patch that leaves the version's Service alone in each steered rule and none of canaryd's own rules,
    and the rules after it; both empty where it is so. version: "" leaves the steered rules as they are."""
    route, wanted = (
        view.raw["route"],
        restored_routes.at_one(view, version) if version else steered(view.lists),
    )
    after: list[Json] = [dict(rule) for rule in route["spec"]["rules"]]
    operations: list[Json] = []
    for key, place in view.places.items():
        refs = httproute_weights.refs(wanted[key])
        if refs != httproute_weights.refs(view.lists[key]):
            path = f"/spec/rules/{place}/backendRefs"
            operations.append({"op": "test", "path": path, "value": after[place]["backendRefs"]})
            operations.append({"op": "replace", "path": path, "value": refs})
            after[place]["backendRefs"] = refs
    operations += managed_route_patch.moves(
        "/spec/rules", policy.service.name, route["spec"]["rules"], view.places, wanted
    )
    if not operations:
        return [], []
    return [*managed_route_patch.unedited(route), *operations], [
        rule for rule in after if not is_of(policy.service.name, str(rule.get("name") or ""))
    ]


Rules = Mapping[tuple[str, str], Sequence[Json]]
"""By namespace and name of an HTTPRoute."""


def uses(policy: Policy, routes: Sequence[Json], after: Rules, all_versions: Sequence[str]) -> dict[str, str]:
    """Service of the policy's namespace -> the HTTPRoute that names it; "" -> one that leads to a Service of
    all versions. after: rules that routes are to have."""
    found: dict[str, str] = {}
    for route in routes:
        spec, key = route.get("spec") or {}, (route["metadata"]["namespace"], route["metadata"]["name"])
        changed = {**route, "spec": {**spec, "rules": after.get(key, spec.get("rules"))}}
        where = f"HTTPRoute {key[0]}/{key[1]}"
        for name in documents.services_in(documents.destinations(changed), policy.service.namespace):
            found.setdefault("" if name in all_versions else name, where)
        for name in documents.parent_services(route, policy.service.namespace):
            found.setdefault(name, where)
    return found


def removable(
    policy: Policy, services: Mapping[str, Json], used: Mapping[str, str]
) -> tuple[list[Json], list[str]]:
    """The Services that canaryd made and no route names, and what to say of those that stay."""
    made = {
        name: service
        for name, service in services.items()
        if services_of.made_for(policy, service) or matched_user_services.is_own(policy, service)
    }
    kept = [f"Service {name} stays: {used[name]} leads to it" for name in made if name in used]
    return [service for name, service in made.items() if name not in used], kept
