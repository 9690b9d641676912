"""The Services that matched users call while they are split between both versions
(`domain/policy/split_services.py`), and their DestinationRule.

Each leads to the pods that others of the same users would reach, by the same ports and policies: a copy of
what there is, under a name of canaryd's own, annotated `canaryd.dev/made-for: SERVICE/(match)`, there from a
rollout's beginning until its last requests are answered.
"""

import time
from collections.abc import Sequence
from copy import deepcopy

from canaryd.adapters.kube import version_services
from canaryd.adapters.kube.canaryrollout_object import MANAGED_BY
from canaryd.adapters.kube.client import JSON_PATCH, Json, KubernetesApi, path_to
from canaryd.adapters.kube.version_services import MADE_FOR, Services
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.split_services import fair_services
from canaryd.domain.ports import Missing, Rejected, TooNew
from canaryd.routing.documents import other_service

SETTLE = 5.0  # seconds; EndpointSlices take one and pushes to proxies another, more in a busy cluster
FOR = "(match)"  # where a version's Service has the version


def services_in(api: KubernetesApi, namespace: str) -> Services:
    """The Services of a namespace."""
    found = api.request("GET", path_to("v1", "services", namespace)).get("items") or []
    return {service["metadata"]["name"]: service for service in found}


class MatchedUserServices:
    """settle: seconds until what was made is routed to: before the proxies know its pods, requests sent there
    would fail. They are counted from the object's own creation, so that a restart in between does not cut
    them short."""

    def __init__(self, api: KubernetesApi, settle: float) -> None:
        self._api, self._settle = api, settle
        # uid of a Service of an earlier rollout's -> when it was first seen as that, monotonic
        self._outdated: dict[str, float] = {}

    def ensure(
        self, policy: Policy, like: Sequence[str], services: Services, rule: Json | None = None
    ) -> list[str]:
        """Makes what is missing, and what follows another: the copy of the DestinationRule. Names of what was
        made.

        like: the Services that the policy's own ones are to be like; services: those that are there; rule:
        the DestinationRule. Raises Rejected where someone else's object has the name, or the one to be like
        is not there; Conflict.
        """
        made = []
        for name, other in zip(policy.fair_services, like, strict=True):
            found = services.get(name)
            if found is not None and not is_own(policy, found):
                raise _taken(policy, "Service", name)
            if found is None:
                if other not in services:
                    raise Rejected(
                        f"there is no Service {policy.service.namespace}/{other}, after which one could be "
                        "made for the policy's `split`; leave split out, or make it"
                    )
                self._api.request(
                    "POST",
                    path_to("v1", "services", policy.service.namespace),
                    _service(policy, services[other], name),
                )
                made.append(name)
        if rule is not None and self._follow(policy, rule):
            made.append(f"DestinationRule {policy.fair_services[0]}")
        return made

    def prepare(
        self, policy: Policy, like: Sequence[str], services: Services, rule: Json | None = None
    ) -> None:
        """Before any matched user is split: as `ensure`; and what leads to the pods of an earlier rollout's
        versions, which ended only just now, is made anew, once no proxy sends there. Raises TooNew too."""
        there, now = dict(services), time.monotonic()
        pairs = [
            (name, there.get(name), there.get(other))
            for name, other in zip(policy.fair_services, like, strict=True)
        ]
        outdated = {
            name: found
            for name, found, model in pairs
            if found
            and model
            and is_own(policy, found)
            and version_services.selector(found) != version_services.selector(model)
        }
        since = [self._outdated.setdefault(service["metadata"]["uid"], now) for service in outdated.values()]
        if since and now - max(since) < self._settle:
            raise TooNew(
                f"what matched users were split by in the last rollout ({', '.join(outdated)}) is made anew "
                f"after {self._settle:g} s, when no proxy sends there"
            )
        for name in outdated:
            self._api.delete_as_read(path_to("v1", "services", policy.service.namespace, name), there[name])
            self._outdated.pop(there.pop(name)["metadata"]["uid"])
        self.ensure(policy, like, there, rule)
        if any(self.is_new(name, there) for name in policy.fair_services):
            raise TooNew(
                f"the Service {policy.fair_services[0]} was made for its matched users just now, and is "
                f"routed to after {self._settle:g} s, when proxies know it"
            )

    def is_new(self, name: str, services: Services) -> bool:
        """Whether a Service is too new to be routed to. services: those that were there; one that is not
        among them was made since."""
        return (self._api.age(services[name]) if name in services else 0.0) < self._settle

    def _follow(self, policy: Policy, rule: Json) -> bool:
        """The copy of the DestinationRule, made or brought to what this says now; whether it was made."""
        wanted = _rule(policy, rule)
        path = path_to(rule["apiVersion"], "destinationrules", policy.service.namespace)
        name = wanted["metadata"]["name"]
        try:
            found = self._api.request("GET", f"{path}/{name}")
        except Missing:
            self._api.request("POST", path, wanted)
            return True
        if not is_own(policy, found):
            raise _taken(policy, "DestinationRule", name)
        if found["spec"] != wanted["spec"]:
            patch: list[Json] = [
                {
                    "op": "test",
                    "path": "/metadata/resourceVersion",
                    "value": found["metadata"]["resourceVersion"],
                },
                {"op": "replace", "path": "/spec", "value": wanted["spec"]},
            ]
            self._api.request("PATCH", f"{path}/{name}", patch, content_type=JSON_PATCH)
        return False

    def remove(self, policy: Policy, services: Services, rules_version: str = "") -> list[str]:
        """Takes away what was made and bears its mark still. rules_version: of Istio's API, where there is a
        DestinationRule too."""
        namespace, gone = policy.service.namespace, list[str]()
        for name in fair_services(policy.service.name, bool(policy.route.http_route)):
            if rules_version:
                path = path_to(rules_version, "destinationrules", namespace, name)
                try:
                    found = self._api.request("GET", path)
                except Missing:
                    found = {}
                if found and is_own(policy, found):
                    self._api.delete_as_read(path, found)
            if name in services and is_own(policy, services[name]):
                self._api.delete_as_read(path_to("v1", "services", namespace, name), services[name])
                gone.append(name)
        return gone


def is_own(policy: Policy, obj: Json) -> bool:
    """Whether canaryd made a Service, or DestinationRule, for this service's matched users."""
    return _mark(obj) == version_services.mark(policy, FOR)


def is_made(obj: Json) -> bool:
    """The same of whichever service."""
    return _mark(obj).endswith(f"/{FOR}")


def _mark(obj: Json) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(MADE_FOR, ""))


def _taken(policy: Policy, kind: str, name: str) -> Rejected:
    return Rejected(
        f"there is a {kind} {policy.service.namespace}/{name} that canaryd did not make, whose name it needs "
        "for the policy's `split`; rename it, or leave split out"
    )


def _service(policy: Policy, other: Json, name: str) -> Json:
    chosen = version_services.selector(other)
    made = version_services.like(policy, other, chosen.get(policy.service.version_label, ""), name)
    made["metadata"]["annotations"][MADE_FOR] = version_services.mark(policy, FOR)
    made["spec"]["selector"] = dict(chosen)
    return made


def _rule(policy: Policy, rule: Json) -> Json:
    """The DestinationRule of the own Service's host: all that the service's says, which subsets there are
    among it."""
    (name,) = fair_services(policy.service.name, by_gateway_api=False)
    about = {
        "name": name,
        "namespace": policy.service.namespace,
        "labels": dict(MANAGED_BY),
        "annotations": {MADE_FOR: version_services.mark(policy, FOR)},
    }
    return {
        "apiVersion": rule["apiVersion"],
        "kind": "DestinationRule",
        "metadata": about,
        "spec": {**deepcopy(rule["spec"]), "host": other_service(str(rule["spec"]["host"]), name)},
    }
