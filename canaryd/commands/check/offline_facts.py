"""Manifests as objects: each document as it is, or as it was meant where its indentation was lost, and a word
on that."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from canaryd.commands.check.finding import as_yaml, some
from canaryd.commands.check.lost_indentation import SHAPES, Line, Restored, restored
from canaryd.commands.check.lost_match_indentation import is_misplaced
from canaryd.commands.check.policy_suggestions import shortest
from canaryd.commands.check.route_agreement import rule_host
from canaryd.domain.check_facts import (
    GROUPS,
    Facts,
    Listing,
    Manifest,
    ManifestMistake,
    Object,
    name_of,
    namespace_of,
    spec_of,
)
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.routing.documents import destinations

TOP = (
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "data",
    "stringData",
    "type",
    "items",
    "immutable",
    "rules",
    "subjects",
    "roleRef",
)


def facts_of(
    manifests: Sequence[Manifest], policies: Sequence[Policy], namespace: str | None, domain: str
) -> Facts:
    """What files alone say. policies: none, and they are those of the services that the VirtualServices route
    to.

    namespace: of objects that do not say theirs; None: the only policy's, or that of the host which a
    VirtualService names.
    """
    objects, flaws, lines = [], [], []
    for manifest in manifests:
        obj, flaw = understood(manifest)
        flaws += [flaw] if flaw else []
        for item in _each(obj):
            objects.append(item)
            lines.append((manifest.file, manifest.line))
    place = namespace or _usual(objects, policies, domain)
    placed = [
        {**obj, "metadata": {**(obj.get("metadata") or {}), "namespace": namespace_of(obj) or place}}
        for obj in objects
    ]
    kinds: dict[str, list[Object]] = {}
    for manifest_object in placed:
        kinds.setdefault(kind_of(manifest_object), []).append(manifest_object)
    places = {
        (kind_of(obj), namespace_of(obj), name_of(obj)): line for obj, line in zip(placed, lines, strict=True)
    }
    facts = Facts(
        tuple(policies),
        {kind: Listing(tuple(found)) for kind, found in kinds.items()},
        flaws=tuple(flaws),
        places=places,
        domain=domain,
    )
    if policies:
        return facts
    return replace(facts, policies=tuple(_policies(facts)), left_out=tuple(_left_out(facts)))


def kind_of(obj: Object) -> str:
    """The kind of an object; with the API group behind it where another group is meant by the kind alone."""
    kind, version = str(obj.get("kind")), str(obj.get("apiVersion") or "")
    group = version.rpartition("/")[0]
    return f"{kind}.{group}" if version and GROUPS.get(kind, group) != group else kind


def _left_out(facts: Facts) -> Iterator[tuple[Object, str]]:
    """The VirtualServices whose http routes lead to no Service of their own namespace, and why canaryd cannot
    steer them."""
    for route in facts.of("VirtualService").items:
        namespace = namespace_of(route)
        meant = list(dict.fromkeys(_services(route, facts.domain)))
        if any(place == namespace for place, _ in meant):
            continue
        if meant:
            services = some([f"{place}/{name}" for place, name in meant])
            why = f"its http routes lead to {services}, and it is in {namespace}"
            yield route, f"{why}: a policy steers routes of its service's own namespace"
        elif spec_of(route).get("http"):
            yield route, "its http routes lead to no Service of this cluster"
        else:
            yield route, "it has no http route, and canaryd counts and steers HTTP and gRPC requests alone"


def understood(manifest: Manifest) -> tuple[Any, ManifestMistake | None]:
    """The object of a document, and what was wrong with its indentation; the object is None where it cannot
    be told."""
    data = manifest.data
    if isinstance(data, dict) and not _looks_lost(data):
        return data, None
    meant = restored(manifest.text, manifest.line)
    if meant is not None and meant.misplaced:
        return meant.data, _mistake(manifest, meant)
    if manifest.error:
        return None, ManifestMistake(
            manifest.file, manifest.error_line, "YAML", f"is not YAML: {manifest.error}", ""
        )
    if isinstance(data, dict):
        return data, None
    return None, ManifestMistake(manifest.file, manifest.line, "YAML", "is no map of keys and values", "")


def _looks_lost(data: dict[str, Any]) -> bool:
    """Whether a document that can be read has the marks of lost indentation."""
    if data.get("kind") not in SHAPES:
        return False
    unknown = [key for key in data if key not in TOP]
    spec = data.get("spec")
    matches = [
        match
        for http in (spec.get("http") or [] if isinstance(spec, dict) else [])
        if isinstance(http, dict)
        for match in http.get("match") or []
        if isinstance(match, dict)
    ]
    return (
        bool(unknown)
        or "spec" not in data
        or not isinstance(spec, dict)
        or any(is_misplaced(match) for match in matches)
    )


def _mistake(manifest: Manifest, meant: Restored) -> ManifestMistake:
    about = f"{meant.kind} {(meant.data.get('metadata') or {}).get('name') or 'without a name'}"
    groups: dict[int, tuple[Line, list[str]]] = {}
    for line, above in meant.misplaced:
        if line.key:
            groups.setdefault(above.number, (above, []))[1].append(f"`{line.key}`")
    sentences = [
        f"{some(list(dict.fromkeys(keys)), 4)} {'does' if len(keys) == 1 else 'do'} not stand below "
        f"`{above.key}` (line {above.number})"
        for above, keys in groups.values()
        if above.key != "-"
    ] or ["keys do not stand below what they belong to"]
    lead = (
        "its indentation is lost"
        if not manifest.error
        else f"its indentation is lost, and it is not YAML ({manifest.error})"
    )
    return ManifestMistake(
        manifest.file,
        meant.misplaced[0][0].number,
        about,
        f"{lead}: {'; '.join(sentences)}",
        as_yaml(meant.data),
    )


def _each(obj: Any) -> Iterator[Object]:
    """The objects of a document: one, or those of a List."""
    if isinstance(obj, dict) and obj.get("kind") == "List":
        yield from (item for item in obj.get("items") or [] if isinstance(item, dict))
    elif isinstance(obj, dict):
        yield obj


def _usual(objects: Sequence[Object], policies: Sequence[Policy], domain: str) -> str:
    if policies:
        return policies[0].service.namespace
    for obj in objects:
        for namespace, _ in _services({**obj, "metadata": {}}, domain):
            if namespace:  # a short host does not say it
                return namespace
    return "default"


def _services(route: Object, domain: str) -> Iterator[NamespacedName]:
    """The Services that the author of a VirtualService means by the hosts that its http routes send to: what
    istiod takes them for is judged later. The namespace is "" where neither host nor object says it."""
    if kind_of(route) != "VirtualService":
        return
    for to in destinations(route, domain):
        if to.section == "http" and to.host.meant is not None:
            yield to.host.meant


def _policies(facts: Facts) -> Iterator[Policy]:
    done: set[NamespacedName] = set()
    for route in facts.of("VirtualService").items:
        for namespace, name in _services(route, facts.domain):
            if (namespace, name) in done or namespace != namespace_of(route):
                continue
            done.add((namespace, name))
            service = facts.find("Service", namespace, name)
            selector = dict(spec_of(service).get("selector") or {}) if service else {}
            try:
                yield Policy.load(
                    shortest(
                        namespace,
                        name,
                        selector or {"app": name},
                        name_of(route),
                        _rule(facts, name, namespace),
                    )
                )
            except InvalidPolicy:
                continue  # names that Kubernetes would not take: other checks say so


def _rule(facts: Facts, name: str, namespace: str) -> str:
    """The DestinationRule of a Service, also one whose host only its author takes for the Service's."""
    for rule in facts.within("DestinationRule", namespace):
        if rule_host(facts, rule).meant == (namespace, name):
            return name_of(rule)
    return name
