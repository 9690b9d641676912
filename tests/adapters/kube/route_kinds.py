"""The two kinds of object that canaryd steers, each as tests write, edit and read it, so that one contract is
asked of both."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

from canaryd.domain.policy.policy import Policy
from tests.adapters.kube.api_servers import GATEWAY_API, ISTIO, Place

Object = dict[str, Any]
PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]


class Router(Protocol):
    """routes are written as [(name, is it matched, service, {version: weight}), ...]; a weight of None is
    left out."""

    kind: str

    def policy(
        self,
        place: Place,
        may_add: bool = True,
        chosen: tuple[str, ...] = (),
        preview: Object | None = None,
        **more: Any,
    ) -> Policy: ...

    def put(self, place: Place, *routes: tuple[str, bool, str, Mapping[str, int | None]]) -> None:
        """The object with these routes, and v1 known as a version."""

    def get(self, place: Place) -> Object: ...

    def routes(self, spec: Object) -> list[Object]: ...

    def shares(self, route: Object) -> dict[str, int | None]:
        """Version -> weight as written."""

    def without_lists(self, spec: Object) -> Object:
        """The spec without where its routes lead."""

    def edit(self, place: Place, **more: Any) -> None:
        """Someone writes these keys into the last route."""

    def split(self, place: Place, weights: Mapping[str, int]) -> Object:
        """What someone writes who splits a route by hand."""

    def know(self, place: Place, name: str, labels: Mapping[str, str]) -> None:
        """Someone makes a subset, or a Service, with these labels beside the version's own."""

    def known(self, place: Place) -> dict[str, Mapping[str, str]]:
        """Name -> labels of all subsets, or of all Services of single versions."""

    def named(self, version: str) -> str:
        """The name by which canaryd calls a version's destination."""


class Istio:
    kind = "VirtualService"

    def policy(
        self,
        place: Place,
        may_add: bool = True,
        chosen: tuple[str, ...] = (),
        preview: Object | None = None,
        **more: Any,
    ) -> Policy:
        also = {"preview": preview} if preview else {}
        return place.policy(
            route={"virtualService": "sockshop", "addSubset": may_add, "http": list(chosen), **also}, **more
        )

    def put(self, place: Place, *routes: tuple[str, bool, str, Mapping[str, int | None]]) -> None:
        http = []
        for name, is_matched, service, weights in routes:
            route: Object = {
                "route": [self._to(service, version, weight) for version, weight in weights.items()],
                "timeout": "7s",
            }
            http.append(
                route
                | ({"name": name} if name else {})
                | ({"match": [{"uri": {"prefix": "/cart"}}]} if is_matched else {})
            )
        place.put(
            ISTIO,
            "virtualservices",
            {
                "kind": "VirtualService",
                "metadata": {"name": "sockshop"},
                "spec": {"hosts": ["*"], "http": http},
            },
        )
        spec = {"host": "front-end", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
        place.put(
            ISTIO,
            "destinationrules",
            {"kind": "DestinationRule", "metadata": {"name": "front-end"}, "spec": spec},
        )

    def get(self, place: Place) -> Object:
        return place.get(ISTIO, "virtualservices", "sockshop")

    def routes(self, spec: Object) -> list[Object]:
        return list(spec["http"])

    def shares(self, route: Object) -> dict[str, int | None]:
        return {one["destination"]["subset"]: one.get("weight") for one in route["route"]}

    def without_lists(self, spec: Object) -> Object:
        return {
            **spec,
            "http": [{key: value for key, value in one.items() if key != "route"} for one in spec["http"]],
        }

    def edit(self, place: Place, **more: Any) -> None:
        place.edit(ISTIO, "virtualservices", "sockshop", lambda obj: obj["spec"]["http"][-1].update(more))

    def split(self, place: Place, weights: Mapping[str, int]) -> Object:
        return {"route": [self._to("front-end", version, weight) for version, weight in weights.items()]}

    def know(self, place: Place, name: str, labels: Mapping[str, str]) -> None:
        def add(obj: Object) -> None:
            obj["spec"]["subsets"].append({"name": name, "labels": dict(labels)})

        place.edit(ISTIO, "destinationrules", "front-end", add)

    def known(self, place: Place) -> dict[str, Mapping[str, str]]:
        return {
            subset["name"]: subset["labels"]
            for subset in place.get(ISTIO, "destinationrules", "front-end")["spec"]["subsets"]
        }

    def named(self, version: str) -> str:
        return version

    def _to(self, service: str, version: str, weight: int | None) -> Object:
        return {"destination": {"host": service, "subset": version}} | (
            {} if weight is None else {"weight": weight}
        )


class GatewayApi:
    kind = "HTTPRoute"

    def policy(
        self,
        place: Place,
        may_add: bool = True,
        chosen: tuple[str, ...] = (),
        preview: Object | None = None,
        **more: Any,
    ) -> Policy:
        also = {"preview": preview} if preview else {}
        return place.policy(
            route={"httpRoute": "sockshop", "addService": may_add, "rules": list(chosen), **also}, **more
        )

    def put(self, place: Place, *routes: tuple[str, bool, str, Mapping[str, int | None]]) -> None:
        self.service(place, "front-end", {"app": "front-end"})
        self.service(place, "front-end-v1", {"app": "front-end", "version": "v1"})
        self.service(place, "carts-v1", {"app": "carts", "version": "v1"})
        rules = []
        for name, is_matched, service, weights in routes:
            refs = [self._to(service, version, weight) for version, weight in weights.items()]
            rule: Object = {"backendRefs": refs, "timeouts": {"request": "7s"}}
            match: Object = (
                {"matches": [{"path": {"type": "PathPrefix", "value": "/cart"}}]} if is_matched else {}
            )
            rules.append(rule | ({"name": name} if name else {}) | match)
        place.put(
            GATEWAY_API,
            "httproutes",
            {
                "kind": "HTTPRoute",
                "metadata": {"name": "sockshop"},
                "spec": {
                    "parentRefs": [{"group": "", "kind": "Service", "name": "front-end", "port": 80}],
                    "rules": rules,
                },
            },
        )

    def get(self, place: Place) -> Object:
        return place.get(GATEWAY_API, "httproutes", "sockshop")

    def routes(self, spec: Object) -> list[Object]:
        return list(spec["rules"])

    def shares(self, route: Object) -> dict[str, int | None]:
        refs = route["backendRefs"]
        return {
            ref["name"].rsplit("-", 1)[1]: None if len(refs) == 1 and ref["weight"] == 1 else ref["weight"]
            for ref in refs
        }

    def without_lists(self, spec: Object) -> Object:
        return {
            **spec,
            "rules": [
                {key: value for key, value in rule.items() if key != "backendRefs"} for rule in spec["rules"]
            ],
        }

    def edit(self, place: Place, **more: Any) -> None:
        changes = {key: value for key, value in more.items() if key != "timeout"}
        changes |= {"timeouts": {"request": more["timeout"]}} if "timeout" in more else {}
        place.edit(
            GATEWAY_API,
            "httproutes",
            "sockshop",
            lambda obj: obj["spec"]["rules"][-1].update(copy.deepcopy(changes)),
        )

    def split(self, place: Place, weights: Mapping[str, int]) -> Object:
        return {
            "backendRefs": [self._to("front-end", version, weight) for version, weight in weights.items()]
        }

    def know(self, place: Place, name: str, labels: Mapping[str, str]) -> None:
        self.service(place, name, {"app": "front-end", **labels})

    def known(self, place: Place) -> dict[str, Mapping[str, str]]:
        found = place.api.request("GET", f"/api/v1/namespaces/{place.namespace}/services")["items"]
        return {
            one["metadata"]["name"]: one["spec"]["selector"]
            for one in found
            if one["spec"]["selector"].get("app") == "front-end" and "version" in one["spec"]["selector"]
        }

    def named(self, version: str) -> str:
        return f"front-end-{version}"

    def service(self, place: Place, name: str, selector: Mapping[str, str], **metadata: Any) -> Object:
        return place.put(
            "v1",
            "services",
            {
                "kind": "Service",
                "metadata": {"name": name, **metadata},
                "spec": {"selector": dict(selector), "ports": PORTS},
            },
        )

    def _to(self, service: str, version: str, weight: int | None) -> Object:
        return {"name": f"{service}-{version}", "port": 80} | ({} if weight is None else {"weight": weight})


ROUTERS: tuple[Router, ...] = (Istio(), GatewayApi())
