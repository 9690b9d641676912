"""What an API server has that `canaryd check` looks at: objects of the namespaces that matter, API groups,
and who may do what.

Reads only (an access review is a question, though it is POSTed). What cannot be read is noted with the
server's words, and the rest is read all the same; only a server that does not answer at all is raised.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from canaryd.adapters.kube.client import Json, KubernetesApi, path_to
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.domain.check_facts import (
    CONTROL_PLANE,
    DAEMON,
    Listing,
    Right,
    Rights,
    name_of,
    namespace_of,
    spec_of,
)
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Missing, Rejected, Unavailable
from canaryd.domain.ports import RouteView as View

ROOT = "istio-system"
REVIEWS = "authorization.k8s.io/v1"
# Kind -> API version, plural; and of API groups, of which the preferred version is taken: whether all
# namespaces matter.
CORE: Mapping[str, tuple[str, str]] = {
    "Service": ("v1", "services"),
    "Deployment": ("apps/v1", "deployments"),
}
CUSTOM: Mapping[str, tuple[str, str, bool]] = {
    "VirtualService": ("networking.istio.io", "virtualservices", True),
    "DestinationRule": ("networking.istio.io", "destinationrules", True),
    "Gateway": ("networking.istio.io", "gateways", True),
    "CanaryRollout": ("canaryd.dev", "canaryrollouts", False),
    "Telemetry": ("telemetry.istio.io", "telemetries", False),
    "Application": ("argoproj.io", "applications", True),
    "Rollout": ("argoproj.io", "rollouts", False),
    "Canary": ("flagger.app", "canaries", False),
}
WEBHOOKS = path_to("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations")
AT_A_TIME = 8  # questions about rights
MOST_PODS = 200  # of one service or gateway: as many as show what they all are


class ClusterFacts:
    """Answers what a check asks. Every method but `groups` turns refusals into words; `groups` raises
    Unavailable and Rejected."""

    def __init__(self, api: KubernetesApi, domain: str) -> None:
        self._api, self._domain = api, domain

    def groups(self) -> dict[str, tuple[str, ...]]:
        """API group -> its served versions, the preferred one first."""
        found = self._api.request("GET", "/apis").get("groups") or []
        return {
            str(group["name"]): tuple(str(version["version"]) for version in group.get("versions") or [])
            for group in found
        }

    def clock(self) -> float | None:
        """The server's, by its last answer, in Unix seconds."""
        return self._api.clock()

    def kinds(
        self, groups: Mapping[str, Sequence[str]], namespaces: Sequence[str], everywhere: bool
    ) -> dict[str, Listing]:
        """Every kind that is looked at: of these namespaces, or of all of them."""
        found = {"Namespace": self._namespaces(namespaces, everywhere)}
        for kind, (version, plural) in CORE.items():
            found[kind] = self._list(version, plural, None if everywhere else namespaces)
        if namespaces:  # pods of no service in particular tell nothing
            found["Pod"] = self._list("v1", "pods", namespaces)
        found[CONTROL_PLANE] = self._deployments("app in (istiod,pilot)", ROOT)
        found[DAEMON] = self._deployments("app.kubernetes.io/name=canaryd", "canaryd")
        for kind, (group, plural, wide) in CUSTOM.items():
            if group in groups:
                places = [*namespaces, ROOT] if kind == "Telemetry" else namespaces
                found[kind] = self._custom(f"{group}/{groups[group][0]}", plural, places, wide or everywhere)
        found["MutatingWebhookConfiguration"] = self._get(WEBHOOKS, {"labelSelector": "app=sidecar-injector"})
        found["CustomResourceDefinition"] = self._one(
            path_to(
                "apiextensions.k8s.io/v1", "customresourcedefinitions", None, "canaryrollouts.canaryd.dev"
            )
        )
        return {kind: _of_kind(kind, listing) for kind, listing in found.items()}

    def pods_of(self, gateways: Iterable[Any]) -> dict[NamespacedName, Listing]:
        """The pods of each Gateway's selector, in all namespaces."""
        found = {}
        for gateway in gateways:
            selector = ",".join(
                f"{key}={value}" for key, value in (spec_of(gateway).get("selector") or {}).items()
            )
            found[namespace_of(gateway), name_of(gateway)] = self._get(
                "/api/v1/pods", {"labelSelector": selector, "limit": str(MOST_PODS)}
            )
        return found

    def route(self, policy: Policy) -> View | str | None:
        """As the daemon reads it, or what it would say instead; None where it may not be read."""
        try:
            return TrafficByKind(self._api, self._domain).read(policy)
        except Rejected as refusal:
            return None if _is_forbidden(refusal) else str(refusal)
        except Unavailable:
            return None

    def has_namespace(self, name: str) -> bool:
        """False also where it may not be looked for."""
        return bool(self._one(path_to("v1", "namespaces", None, name)).items)

    def caller(self, rights: Sequence[Right]) -> Rights:
        """What the kubeconfig's user may do."""
        return self._asked("", rights, self._of_self)

    def account(self, who: str, rights: Sequence[Right]) -> Rights:
        """What another user may do: by a SubjectAccessReview, else by impersonation, where the caller may do
        either."""
        by_review = self._asked(who, rights, lambda right: self._of_other(who, right))
        if not by_review.problem:
            return by_review
        impersonated = {"Impersonate-User": who}
        by_impersonation = self._asked(who, rights, lambda right: self._of_self(right, impersonated))
        return by_review if by_impersonation.problem else by_impersonation

    def _asked(self, who: str, rights: Sequence[Right], ask: Callable[[Right], Json]) -> Rights:
        """Several at a time, for they are many, and a server may be far away; but the first alone, since a
        refusal is one for all."""
        answers: list[Json] = []
        try:
            answers += [ask(right) for right in rights[:1]]
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                answers += pool.map(ask, rights[1:])
        except (Rejected, Unavailable) as error:
            return Rights(who, dict.fromkeys(rights, False), str(error))
        return Rights(
            who,
            {
                right: bool((answer.get("status") or {}).get("allowed"))
                for right, answer in zip(rights, answers, strict=True)
            },
        )

    def _of_self(self, right: Right, headers: Mapping[str, str] | None = None) -> Json:
        body = {
            "apiVersion": REVIEWS,
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _attributes(right)},
        }
        return self._api.request("POST", path_to(REVIEWS, "selfsubjectaccessreviews"), body, headers=headers)

    def _of_other(self, who: str, right: Right) -> Json:
        spec = {"user": who, "groups": groups_of(who), "resourceAttributes": _attributes(right)}
        body = {"apiVersion": REVIEWS, "kind": "SubjectAccessReview", "spec": spec}
        return self._api.request("POST", path_to(REVIEWS, "subjectaccessreviews"), body)

    def _deployments(self, selector: str, namespace: str) -> Listing:
        """Those with these labels in all namespaces, or where that is not allowed in their usual one."""
        query = {"labelSelector": selector}
        everywhere = self._get(path_to("apps/v1", "deployments"), query)
        if not everywhere.problem:
            return everywhere
        usual = self._get(path_to("apps/v1", "deployments", namespace), query)
        return usual if usual.items else Listing(problem=everywhere.problem)

    def _namespaces(self, names: Sequence[str], everywhere: bool) -> Listing:
        if everywhere:
            return self._get(path_to("v1", "namespaces"))
        return _joined(*(self._one(path_to("v1", "namespaces", None, name)) for name in dict.fromkeys(names)))

    def _list(self, version: str, plural: str, namespaces: Sequence[str] | None) -> Listing:
        if namespaces is None:
            return self._get(path_to(version, plural))
        return _joined(*(self._get(path_to(version, plural, name)) for name in dict.fromkeys(namespaces)))

    def _custom(self, version: str, plural: str, namespaces: Sequence[str], wide: bool) -> Listing:
        """In all namespaces where that matters and is allowed; else of these, with a word on what is not
        seen."""
        if not wide:
            return self._list(version, plural, namespaces)
        whole = self._get(path_to(version, plural))
        if not whole.problem:
            return whole
        return Listing(self._list(version, plural, namespaces).items, whole.problem)

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Listing:
        """The items of a list."""
        try:
            return Listing(tuple(self._api.request("GET", path, query=query).get("items") or ()))
        except Missing:
            return Listing(served=False)
        except (Rejected, Unavailable) as error:
            return Listing(problem=str(error))

    def _one(self, path: str) -> Listing:
        """A list of one object, or of none where it is not there."""
        try:
            return Listing((self._api.request("GET", path),))
        except Missing:
            return Listing()
        except (Rejected, Unavailable) as error:
            return Listing(problem=str(error))


def groups_of(who: str) -> list[str]:
    """The groups that the API server puts a user in: RBAC may grant to those too."""
    parts = who.split(":")
    service_account = parts[:2] == ["system", "serviceaccount"] and len(parts) == 4
    own = ["system:serviceaccounts", f"system:serviceaccounts:{parts[2]}"] if service_account else []
    return [*own, "system:authenticated"]


def _attributes(right: Right) -> Json:
    resource, _, part = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "verb": right.verb}
    return (
        attributes
        | ({"subresource": part} if part else {})
        | ({"namespace": right.namespace} if right.namespace else {})
    )


def _joined(*listings: Listing) -> Listing:
    """All of them as one, each object once. The first problem is the problem."""
    items = {(namespace_of(obj), name_of(obj)): obj for listing in listings for obj in listing.items}
    problem = next((listing.problem for listing in listings if listing.problem), "")
    return Listing(
        tuple(items.values()), problem, all(listing.served for listing in listings) if listings else True
    )


def _of_kind(kind: str, listing: Listing) -> Listing:
    """With the kind in each object: a list's items do not say theirs."""
    return Listing(tuple({**obj, "kind": kind} for obj in listing.items), listing.problem, listing.served)


def _is_forbidden(refusal: Rejected) -> bool:
    return " 403: " in str(refusal) or " 401: " in str(refusal)
