"""Istio's VirtualServices and DestinationRules and the Gateway API's routes, read as istiod reads them: which
Service a host is, and every destination that a document names.

Hosts are interpreted here alone, and destinations are walked here alone: daemon and commands say the same of
one document. Pure; tests/real/test_hosts.py holds it against istiod itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Self

from canaryd.domain.namespaced_name import NamespacedName

Document = Mapping[str, Any]
"""A Kubernetes object as JSON has it."""

RouteEntry = Mapping[str, Any]
"""One entry of an http route's `route` list: {"destination": {"host": ..., "subset": ...}, "weight": ...}."""

MESH = "mesh"  # Istio's name for all sidecars, among gateways; a VirtualService without any is bound to it
ANY_DOMAIN = ""  # the cluster's domain is not known: each is taken for it
GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_API_WEIGHT = 1  # of a backendRef that has none; the API server writes it into each

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # a name that Kubernetes takes, in lower case


@dataclass(frozen=True, slots=True)
class Host:
    """A host that a document names, resolved as istiod resolves it (`ResolveShortnameToFQDN`, Istio 1.31).

    A name without a dot is short: a Service in the namespace of the document. Everything else stands for
    itself: `*`, addresses, and each name with a dot. istiod then compares it letter by letter with the names
    of Services, which are NAME.NAMESPACE.svc.DOMAIN in lower case. So `front-end.production`,
    `front-end.production.svc.cluster.local.` (closing dot), `Front-End` and a host of another cluster domain
    are no Service, whatever DNS would make of them.

    written: as it stands in the document. name: in full. service: the Service that istiod takes it for, None
    for every other host. meant: the Service that a DNS lookup from the document's namespace would find, which
    is what the author may have meant; None where there is no such reading.
    """

    written: str
    name: str
    service: NamespacedName | None
    meant: NamespacedName | None

    @classmethod
    def parse(cls, written: str, namespace: str, domain: str = ANY_DOMAIN) -> Self:
        """Reads a host of a document in `namespace`.

        domain: the cluster's, such as `cluster.local`; with ANY_DOMAIN any domain is taken for the cluster's.
        """
        meant = _meant(written, namespace, domain)
        if not _is_short(written):
            return cls(written, written, _service(written, domain), meant)
        service = (namespace, written) if _LABEL.fullmatch(written) else None
        return cls(written, _full(namespace, written, domain), service, meant)

    @classmethod
    def of_service(cls, service: NamespacedName, domain: str) -> Self:
        """A Service's host in full."""
        full = _full(*service, domain)
        return cls(full, full, service, service)

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every name that ends as it does: `*`, `*.example.com`."""
        return self.name.startswith("*")

    def is_mistaken_for(self, service: NamespacedName) -> bool:
        """Whether its author may have meant this Service, and istiod does not take it for that one."""
        return self.meant == service and self.service != service

    def is_of_another_namespace(self, service: NamespacedName) -> bool:
        """Whether its author means the Service of the same name in another namespace. Of a name such as
        `front-end.example` that is not known, so it must have `.svc`, perhaps cut short after that."""
        namespace, name = self.meant or ("", "")
        return name == service[1] and namespace != service[0] and ".svc" in self.written.lower()

    def selects(self, service: NamespacedName, domain: str = ANY_DOMAIN) -> bool:
        """Whether the host of a DestinationRule applies to a Service: it is the Service's own, or a wildcard
        that the Service's host ends with."""
        return self.service == service or self._ends(service, domain)

    def serves(self, service: NamespacedName, domain: str = ANY_DOMAIN) -> bool:
        """Whether calls from inside the mesh to a Service follow a VirtualService with this host in its
        `spec.hosts`. istiod puts a host there in lower case first, but no wildcard."""
        served = self.meant if _is_short(self.written) else _service(self.name.lower(), domain)
        return served == service or self._ends(service, domain)

    def meets(self, other: "Host") -> bool:
        """Whether two hosts, either perhaps a wildcard, have a name in common, as those of a Gateway and of a
        VirtualService must."""
        if self.is_wildcard and other.is_wildcard:
            return self.name.endswith(other.name[1:]) or other.name.endswith(self.name[1:])
        if self.is_wildcard:
            return other.name.endswith(self.name[1:])
        return self.name.endswith(other.name[1:]) if other.is_wildcard else self.name == other.name

    def _ends(self, service: NamespacedName, domain: str) -> bool:
        ending = self.name[1:]
        known = domain or ending.rpartition(".svc.")[2].lstrip(".")
        return self.is_wildcard and Host.of_service(service, known).name.endswith(ending)


class Kind(StrEnum):
    """What a destination gets of its route's requests: a share of them, or copies."""

    SHARE = "share"
    COPIES = "copies"


@dataclass(frozen=True, slots=True)
class Destination:
    """One place that a document sends requests to.

    section: the list that its route is in: `http`, `tls` or `tcp` of a VirtualService, `rules` of a route of
    the Gateway API. route: that route's name, or `#` and its position from 0. path: where the route stands,
    `spec.http[0]`. subset: "" for none, as in the whole Gateway API. weight: its share among the route's
    destinations as written, 100 for the only one, 0 for copies. by_default: the route has no match.
    """

    section: str
    route: str
    path: str
    host: Host
    subset: str
    weight: int
    kind: Kind
    by_default: bool

    @property
    def where(self) -> str:
        """Its route, for people: `http route web`, `mirror of http route #0`, `rule #1`."""
        of = "mirror of " if self.kind is Kind.COPIES else ""
        noun = "rule" if self.section == "rules" else f"{self.section} route"
        return f"{of}{noun} {self.route}"


def destinations(document: Document, domain: str = ANY_DOMAIN) -> Iterator[Destination]:
    """Every destination of a VirtualService or of a route of the Gateway API, also those with weight 0, and
    mirrors, in their order.

    A route that delegates has none of its own: the VirtualService that it delegates to has, and short hosts
    there are of that one's namespace. What is not as the API has it is left out. domain: the cluster's.
    """
    namespace = str((document.get("metadata") or {}).get("namespace") or "")
    spec = document.get("spec") or {}
    for section in ("http", "tls", "tcp"):
        for at, route in _numbered(spec.get(section)):
            yield from of_istio_route(route, section, at, namespace, domain)
    for at, rule in _numbered(spec.get("rules")):
        yield from _of_rule(rule, at, namespace, domain)


def of_istio_route(
    route: Document, section: str, at: int, namespace: str, domain: str = ANY_DOMAIN
) -> Iterator[Destination]:
    """The destinations of one route of a VirtualService in `namespace`. section, at: where it stands."""
    entries = _maps(route.get("route"))
    for entry in entries:
        weight = 100 if len(entries) == 1 else int(entry.get("weight") or 0)
        yield _of_istio(route, section, at, entry.get("destination"), namespace, domain, weight)
    mirrors = [entry.get("destination") for entry in _maps(route.get("mirrors"))]
    for mirrored in [*mirrors, route.get("mirror")]:
        if mirrored:
            yield _of_istio(route, section, at, mirrored, namespace, domain)


def hosts_of(virtual_service: Document, domain: str = ANY_DOMAIN) -> list[Host]:
    """The hosts whose requests a VirtualService routes: its `spec.hosts`. domain: the cluster's."""
    written = (virtual_service.get("spec") or {}).get("hosts") or []
    return [Host.parse(str(host), _namespace_of(virtual_service), domain) for host in written]


def services_in(found: Iterable[Destination], namespace: str) -> list[str]:
    """The names of the Services of a namespace among destinations, in their order, each once."""
    services = [to.host.service for to in found if to.host.service and to.host.service[0] == namespace]
    return list(dict.fromkeys(name for _, name in services))


def parent_services(document: Document, namespace: str) -> list[str]:
    """The names of the Services of a namespace that a route of the Gateway API is bound to."""
    own = _namespace_of(document)
    return [
        str(ref.get("name"))
        for ref in parents(document.get("spec") or {}, "Service")
        if (ref.get("namespace") or own) == namespace
    ]


def subsets_of(
    rules: Sequence[Document], service: NamespacedName, domain: str = ANY_DOMAIN
) -> dict[str, Mapping[str, str]]:
    """The subsets of a Service by name, each with its labels: those of the DestinationRules for its host, or
    where there is none, of those for the longest wildcard that applies to it."""
    hosts = [(Host.parse(_host_of(rule), _namespace_of(rule), domain), rule) for rule in rules]
    lengths = [len(host.name) for host, _ in hosts if host.is_wildcard and host.selects(service, domain)]
    applying = [rule for host, rule in hosts if host.service == service] or [
        rule
        for host, rule in hosts
        if host.is_wildcard and host.selects(service, domain) and len(host.name) == max(lengths)
    ]
    return {
        str(subset.get("name")): subset.get("labels") or {}
        for rule in applying
        for subset in _maps((rule.get("spec") or {}).get("subsets"))
    }


def other_service(written: str, name: str) -> str:
    """The host of another Service of the same namespace, written the same way: a short host stays short."""
    _, dot, rest = written.partition(".")
    return f"{name}{dot}{rest}"


def _of_istio(
    route: Document,
    section: str,
    at: int,
    destination: Any,
    namespace: str,
    domain: str,
    weight: int | None = None,
) -> Destination:
    """weight: None for a mirror."""
    found = destination if isinstance(destination, Mapping) else {}
    return Destination(
        section=section,
        route=str(route.get("name") or f"#{at}"),
        path=f"spec.{section}[{at}]",
        host=Host.parse(str(found.get("host") or ""), namespace, domain),
        subset=str(found.get("subset") or ""),
        weight=weight or 0,
        kind=Kind.COPIES if weight is None else Kind.SHARE,
        by_default=not route.get("match"),
    )


def _of_rule(rule: Document, at: int, namespace: str, domain: str) -> Iterator[Destination]:
    refs = _maps(rule.get("backendRefs"))
    for ref in refs:
        weight = int(ref.get("weight", GATEWAY_API_WEIGHT))
        weight = 100 if weight and len(refs) == 1 else weight
        yield _of_ref(rule, at, ref, namespace, domain, weight)
    for holder in (rule, *refs):
        for filter_ in _maps(holder.get("filters")):
            mirror = filter_.get("requestMirror") or {}
            if mirrored := mirror.get("backendRef"):
                yield _of_ref(rule, at, mirrored, namespace, domain)


def _of_ref(
    rule: Document, at: int, ref: Document, namespace: str, domain: str, weight: int | None = None
) -> Destination:
    """weight: None for a mirror."""
    return Destination(
        section="rules",
        route=str(rule.get("name") or f"#{at}"),
        path=f"spec.rules[{at}]",
        host=backend(ref, namespace, domain),
        subset="",
        weight=weight or 0,
        kind=Kind.COPIES if weight is None else Kind.SHARE,
        by_default=takes_every_request(rule),
    )


def backend(ref: Document, namespace: str, domain: str = ANY_DOMAIN) -> Host:
    """The host that a backendRef of the Gateway API leads to: a Service's, where it has no group and no other
    kind. namespace: the route's, which a reference without a namespace means."""
    name, where = str(ref.get("name") or ""), str(ref.get("namespace") or namespace)
    if ref.get("group") or (ref.get("kind") or "Service") != "Service":
        return Host(name, name, None, None)
    return Host(name, _full(where, name, domain), (where, name), (where, name))


def parents(spec: Document, kind: str) -> list[Document]:
    """References to the parents of a route of the Gateway API that are of a kind: `Gateway`, or `Service`
    (whose callers' sidecars follow the route). spec: the route's."""
    group = GATEWAY_API if kind == "Gateway" else ""
    return [
        ref
        for ref in _maps(spec.get("parentRefs"))
        if (ref.get("group", GATEWAY_API), ref.get("kind", "Gateway")) == (group, kind)
    ]


def takes_every_request(rule: Document) -> bool:
    """Whether a rule of the Gateway API has no match that leaves a request out. The API server writes `/` as
    a prefix into one that says nothing."""
    matches = _maps(rule.get("matches"))
    return not matches or any(_matches_all(match) for match in matches)


def _matches_all(match: Document) -> bool:
    path = match.get("path") or {}
    is_root = path.get("type", "PathPrefix") == "PathPrefix" and path.get("value", "/") == "/"
    return is_root and not any(match.get(key) for key in ("headers", "queryParams", "method"))


def _full(namespace: str, name: str, domain: str) -> str:
    return f"{name}.{namespace}.svc" + (f".{domain}" if domain else "")


def _is_short(host: str) -> bool:
    return bool(host) and "." not in host and host != "*" and not _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _service(name: str, domain: str) -> NamespacedName | None:
    """The Service whose host in full is `name`."""
    service, _, rest = name.partition(".")
    namespace, _, rest = rest.partition(".")
    of_cluster = rest == f"svc.{domain}" if domain else rest.startswith("svc.") and _is_domain(rest)
    is_named = _LABEL.fullmatch(service) and _LABEL.fullmatch(namespace)
    return (namespace, service) if of_cluster and is_named else None


def _is_domain(name: str) -> bool:
    return all(_LABEL.fullmatch(label) for label in name.split("."))


def _meant(written: str, namespace: str, domain: str) -> NamespacedName | None:
    """By DNS a name may have any case, a closing dot, and may be cut short after any of its labels."""
    plain = written.lower().removesuffix(".")
    if not plain or _is_address(plain):
        return None
    service, *rest = plain.split(".")
    where, *ending = rest or [namespace]
    whole = ["svc", *(domain or ".".join(ending[1:])).split(".")]
    is_named = all(_LABEL.fullmatch(label) for label in (service, where) if label)
    return (where, service) if is_named and service and ending == whole[: len(ending)] else None


def _namespace_of(document: Document) -> str:
    return str((document.get("metadata") or {}).get("namespace") or "")


def _host_of(rule: Document) -> str:
    return str((rule.get("spec") or {}).get("host") or "")


def _maps(value: Any) -> list[Document]:
    """The maps of a list; what a person may have written instead is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _numbered(value: Any) -> Iterator[tuple[int, Document]]:
    """As `_maps`, each with its position in the list."""
    for at, item in enumerate(value if isinstance(value, list | tuple) else ()):
        if isinstance(item, Mapping):
            yield at, item
