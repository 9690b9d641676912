"""Removes what canaryd left in a cluster: its changes to routes and subsets, records, and every mark of its
own.

Writes as everywhere: json-patches whose precondition is what was read, so that an edit in between is a
Conflict and is never overwritten. Every write can be tried on the server (`dry`), which then keeps nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canaryd.adapters.kube import httproute_cleanup, matched_user_services, version_services
from canaryd.adapters.kube.canaryrollout_object import API_VERSION, GROUP, MANAGED_BY, PLURAL, record_of
from canaryd.adapters.kube.client import JSON_PATCH, Json, KubernetesApi, path_to
from canaryd.adapters.kube.events import CONTROLLER
from canaryd.adapters.kube.httproute import GatewayApiTraffic
from canaryd.adapters.kube.virtualservice import GROUP as ISTIO
from canaryd.adapters.kube.virtualservice import SUBSETS, IstioTraffic, added_subsets, annotating
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Missing, RouteView
from canaryd.domain.rollout import Phase, Rollout
from canaryd.routing import restored_routes
from canaryd.routing.documents import GATEWAY_API
from canaryd.routing.route_lists import without_own_cookies

MARK = f"{GROUP}/"  # what canaryd's labels and annotations begin with
# Besides Istio's: objects that people or canaryd may have marked. ReplicaSets after Deployments, whose
# annotations they have copies of.
_MARKED = (
    ("Service", "v1", "services"),
    ("Deployment", "apps/v1", "deployments"),
    ("ReplicaSet", "apps/v1", "replicasets"),
)
_KEPT = (
    ("v1", "configmaps"),
    ("coordination.k8s.io/v1", "leases"),
)  # where canaryd keeps something, labelled as its own


@dataclass(frozen=True, slots=True)
class ListedRollout:
    """One CanaryRollout. phase: "" while it is asked for and not begun; rollout: None where it cannot be
    understood."""

    namespace: str
    name: str
    service: str
    phase: str
    refused: bool
    stable: str
    rollout: Rollout | None
    resource_version: str
    uid: str

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of each service that it is about."""
        return self.rollout.keys if self.rollout is not None else ((self.namespace, self.service),)

    @property
    def finished(self) -> bool:
        """Whether nothing of it is under way: it has ended, or was refused."""
        return self.refused or self.phase in {phase.value for phase in Phase if phase.ended}


@dataclass(frozen=True, slots=True)
class Change:
    """One write. before, after: the object around it, after as the server would have it or has it; None where
    it is deleted."""

    kind: str
    namespace: str
    name: str
    before: Json
    after: Json | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A write that is due to one object: the operations of its json-patch, or None to delete it. http: a
    VirtualService's after it, or an HTTPRoute's rules."""

    kind: str
    path: str
    obj: Json
    operations: Sequence[Json] | None
    http: Sequence[Json] = ()


class KubeCleanup:
    """domain: the cluster's, of which short host names are part."""

    def __init__(self, api: KubernetesApi, domain: str = "cluster.local") -> None:
        self._api = api
        self._domain = domain
        self._traffic, self._gateway_api = IstioTraffic(api, domain), GatewayApiTraffic(api)

    # ------------------------------------------------------------ what is there

    def view(self, policy: Policy) -> RouteView:
        """As the port `Traffic` has it."""
        return self._gateway_api.read(policy) if policy.route.http_route else self._traffic.read(policy)

    def records(self, namespace: str | None = None) -> Sequence[ListedRollout]:
        """Every CanaryRollout, also such as cannot be understood; none where there is no such kind (any
        more)."""
        return [_kept(obj) for obj in self._list(API_VERSION, PLURAL, namespace)]

    # ------------------------------------------------------------ what is due

    def routes(self, policy: Policy, view: RouteView, version: str) -> list[Patch]:
        """The VirtualService, or HTTPRoute, with every steered route at one destination, the version's, and
        without canaryd's own routes.

        version: "" leaves the steered routes' weights as they are.
        """
        if policy.route.http_route:
            operations, after = httproute_cleanup.changes(policy, view, version)
            return [self._rules(dict(view.raw["route"]), operations, after)] if operations else []
        wanted = restored_routes.at_one(view, version) if version else without_own_cookies(view.lists)
        http: Sequence[Json] = view.raw["spec"]["http"]
        routed = [dict(route) for route in http]
        tests = [_at(view.raw)]
        replaced: list[Json] = []
        for key, place in self._traffic.places(policy, view).items():
            path = f"/spec/http/{place}/route"
            if list(wanted[key]) != list(view.lists[key]):
                tests.append({"op": "test", "path": path, "value": http[place]["route"]})
                routed[place]["route"] = [dict(entry) for entry in wanted[key]]
                replaced.append({"op": "replace", "path": path, "value": routed[place]["route"]})
        removed: list[Json] = []
        for place in reversed(range(len(http))):  # from the end, so that the places before stay what they are
            if restored_routes.is_own(http[place], policy.key, self._domain):
                tests.append({"op": "test", "path": f"/spec/http/{place}/name", "value": http[place]["name"]})
                removed.append({"op": "remove", "path": f"/spec/http/{place}"})
                del routed[place]
        if not replaced and not removed:
            return []
        return [
            self._patch(
                "VirtualService", "virtualservices", dict(view.raw), [*tests, *replaced, *removed], routed
            )
        ]

    def uses(self, policy: Policy, changed: Sequence[Patch]) -> dict[str, str]:
        """Subset of the service's host -> the route that names it, of all VirtualServices of the cluster,
        with these patches applied; behind an HTTPRoute Services, of all HTTPRoutes."""
        if policy.route.http_route:
            due = {_key(patch.obj): patch.http for patch in changed if patch.kind == "HTTPRoute"}
            services = matched_user_services.services_in(self._api, policy.service.namespace)
            of_all = [
                name for name, service in services.items() if version_services.serves_all(policy, service)
            ]
            return httproute_cleanup.uses(
                policy, self._list(self._gateway_version(), "httproutes", None), due, of_all
            )
        routed = [patch for patch in changed if patch.kind == "VirtualService"]
        after = {
            _key(patch.obj): {**patch.obj, "spec": {**patch.obj["spec"], "http": patch.http}}
            for patch in routed
        }
        found: dict[str, str] = {}
        for virtual_service in self._istio("virtualservices", None):
            current = after.get(_key(virtual_service), virtual_service)
            for subset, place in restored_routes.uses(current, policy.key, self._domain).items():
                found.setdefault(subset, place)
        return found

    def subsets(self, policy: Policy, used: Mapping[str, str]) -> tuple[list[Patch], list[str]]:
        """The DestinationRule without the subsets that canaryd added and no route names, and what to say of
        those that stay; behind an HTTPRoute the Services that it made."""
        if policy.route.http_route:
            idle, kept = httproute_cleanup.removable(
                policy, matched_user_services.services_in(self._api, policy.service.namespace), used
            )
            return [
                Patch(
                    "Service",
                    path_to("v1", "services", policy.service.namespace, service["metadata"]["name"]),
                    service,
                    None,
                )
                for service in idle
            ], kept
        rule = self._traffic.rule(policy)
        added = added_subsets(rule)
        gone, kept = restored_routes.removable(rule, added, used, policy.service.version_label)
        there: list[Json] = (rule.get("spec") or {}).get("subsets") or []
        operations: list[Json] = []
        for place in reversed(range(len(there))):
            if there[place]["name"] in gone:
                operations += [
                    {"op": "test", "path": f"/spec/subsets/{place}", "value": there[place]},
                    {"op": "remove", "path": f"/spec/subsets/{place}"},
                ]
        if gone and len(gone) == len(there):  # as it was before canaryd added the first one
            operations = [{"op": "remove", "path": "/spec/subsets"}]
        still = [
            name for name in added if name not in gone and any(subset["name"] == name for subset in there)
        ]
        if still != added:
            operations.append(annotating(rule, SUBSETS, ",".join(still)))
        if not operations:
            return [], kept
        return [self._patch("DestinationRule", "destinationrules", rule, [_at(rule), *operations])], kept

    def split(self, policy: Policy | None = None, namespace: str | None = None) -> list[Patch]:
        """What was made so that matched users could be split (`domain/policy/split_services.py`): a policy's,
        or every one."""
        where = policy.service.namespace if policy is not None else namespace
        listed = [
            (kind, version, plural, obj)
            for kind, version, plural in self._marked()
            if kind in ("DestinationRule", "Service")
            for obj in self._list(version, plural, where)
        ]
        return [
            Patch(
                kind,
                path_to(version, plural, obj["metadata"]["namespace"], obj["metadata"]["name"]),
                obj,
                None,
            )
            for kind, version, plural, obj in listed
            if (
                matched_user_services.is_own(policy, obj)
                if policy is not None
                else matched_user_services.is_made(obj)
            )
        ]

    def marks(self, namespace: str | None = None) -> list[Patch]:
        """The labels and annotations `canaryd.dev/...` of everything that is no object of canaryd's own."""
        listed = [
            (kind, path_to(version, plural, obj["metadata"]["namespace"], obj["metadata"]["name"]), obj)
            for kind, version, plural in self._marked()
            for obj in self._list(version, plural, namespace)
            if not matched_user_services.is_made(obj)
        ]
        return [
            Patch(kind, path, obj, [_at(obj), *taken])
            for kind, path, obj in listed
            if (taken := _unmarked(obj))
        ]

    def leftovers(self, namespace: str | None = None) -> list[Patch]:
        """Every object that is canaryd's own: records, what it keeps of services, what it made for split
        users, the Events it wrote."""
        label = {"labelSelector": ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())}
        found = [
            ("CanaryRollout", API_VERSION, PLURAL, obj) for obj in self._list(API_VERSION, PLURAL, namespace)
        ]
        for version, plural in _KEPT:
            kind = {"configmaps": "ConfigMap", "leases": "Lease"}[plural]
            found += [(kind, version, plural, obj) for obj in self._list(version, plural, namespace, label)]
        events = self._list("events.k8s.io/v1", "events", namespace)
        found += [("Event", "events.k8s.io/v1", "events", event) for event in events if _is_own_event(event)]
        return [
            Patch(
                kind,
                path_to(version, plural, obj["metadata"]["namespace"], obj["metadata"]["name"]),
                obj,
                None,
            )
            for kind, version, plural, obj in found
        ] + self.split(namespace=namespace)

    def record(self, kept: ListedRollout) -> Patch:
        """The deletion of a record, as it was read."""
        metadata = {
            "namespace": kept.namespace,
            "name": kept.name,
            "resourceVersion": kept.resource_version,
            "uid": kept.uid,
        }
        return Patch(
            "CanaryRollout",
            path_to(API_VERSION, PLURAL, kept.namespace, kept.name),
            {"metadata": metadata},
            None,
        )

    # ------------------------------------------------------------ doing

    def write(self, patch: Patch, dry: bool = False) -> Change:
        """Makes one change. What is to be deleted and is gone already is no error. Raises Conflict,
        Rejected."""
        metadata = patch.obj["metadata"]
        after: Json | None = None
        if patch.operations is None:
            self._api.delete_as_read(patch.path, patch.obj, dry)
        else:
            query = {"dryRun": "All"} if dry else None
            after = self._api.request("PATCH", patch.path, patch.operations, query, content_type=JSON_PATCH)
        return Change(patch.kind, metadata["namespace"], metadata["name"], patch.obj, after)

    # ------------------------------------------------------------ reading

    def _marked(self) -> Iterator[tuple[str, str, str]]:
        yield from _MARKED
        try:
            version = f"{ISTIO}/{self._api.preferred_version(ISTIO)}"
        except Missing:
            return
        yield "VirtualService", version, "virtualservices"
        yield "DestinationRule", version, "destinationrules"

    def _istio(self, plural: str, namespace: str | None) -> Sequence[Json]:
        return self._list(f"{ISTIO}/{self._api.preferred_version(ISTIO)}", plural, namespace)

    def _list(
        self, version: str, plural: str, namespace: str | None, query: Mapping[str, str] | None = None
    ) -> Sequence[Json]:
        try:
            return (
                self._api.request("GET", path_to(version, plural, namespace), query=query).get("items") or []
            )
        except Missing:
            return []

    def _gateway_version(self) -> str:
        return f"{GATEWAY_API}/{self._api.preferred_version(GATEWAY_API)}"

    def _rules(self, obj: Json, operations: Sequence[Json], after: Sequence[Json]) -> Patch:
        path = path_to(
            self._gateway_version(), "httproutes", obj["metadata"]["namespace"], obj["metadata"]["name"]
        )
        return Patch("HTTPRoute", path, obj, operations, after)

    def _patch(
        self, kind: str, plural: str, obj: Json, operations: Sequence[Json], http: Sequence[Json] = ()
    ) -> Patch:
        version = f"{ISTIO}/{self._api.preferred_version(ISTIO)}"
        return Patch(
            kind,
            path_to(version, plural, obj["metadata"]["namespace"], obj["metadata"]["name"]),
            obj,
            operations,
            http,
        )


def _kept(obj: Json) -> ListedRollout:
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    rollout = None
    if status.get("phase"):
        try:
            rollout = record_of(obj).rollout
        except (ValueError, KeyError, TypeError):
            # a record of another release, or one that someone edited: it is still there to be deleted
            rollout = None
    return ListedRollout(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service=str(spec.get("service") or ""),
        phase=str(status.get("phase") or ""),
        refused=bool(status.get("refused")),
        stable=str(status.get("stable") or ""),
        rollout=rollout,
        resource_version=metadata["resourceVersion"],
        uid=metadata["uid"],
    )


def _unmarked(obj: Json) -> list[Json]:
    """The operations that take canaryd's marks off an object."""
    operations: list[Json] = []
    for kind in ("annotations", "labels"):
        marks: Mapping[str, Any] = obj["metadata"].get(kind) or {}
        own = [key for key in marks if key.startswith(MARK)]
        if own and len(own) == len(marks):
            operations.append({"op": "remove", "path": f"/metadata/{kind}"})
        else:
            operations += [
                {"op": "remove", "path": f"/metadata/{kind}/{key.replace('/', '~1')}"} for key in own
            ]
    return operations


def _is_own_event(event: Json) -> bool:
    about = event.get("regarding") or {}
    return event.get("reportingController") == CONTROLLER or str(about.get("apiVersion") or "").startswith(
        MARK
    )


def _at(obj: Mapping[str, Any]) -> Json:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": obj["metadata"]["resourceVersion"]}


def _key(obj: Json) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
