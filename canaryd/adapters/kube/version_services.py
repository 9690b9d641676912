"""The Services of single versions, which stand for Istio's subsets in the Gateway API: finds them, and makes
one like another.

A Service that canaryd made has the annotation `canaryd.dev/made-for: SERVICE/VERSION`. Nothing here asks the
API server.
"""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from canaryd.adapters.kube.canaryrollout_object import MANAGED_BY
from canaryd.adapters.kube.client import Json
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.split_services import fair_services

MADE_FOR = "canaryd.dev/made-for"
Services = Mapping[str, Json]
"""The Services of a namespace, by name."""

# Of a Service's spec, what its copy has too. What the cluster gives (addresses, node ports, a load balancer)
# is each Service's own. With what the API server fills in by itself, None where nothing.
_KEPT = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": None,
    "ipFamilyPolicy": "SingleStack",
    "publishNotReadyAddresses": None,
    "sessionAffinity": "None",
    "sessionAffinityConfig": None,
    "trafficDistribution": None,
}
_WORDS = (
    "true",
    "false",
    "null",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
)  # what YAML reads as something else than text
# By these labels other tools know what is theirs, and would remove a copy as one too many.
_OF_TOOLS = re.compile(
    r"app\.kubernetes\.io/(instance|managed-by)|helm\.sh/.*|argocd\.argoproj\.io/.*|[a-z.]*toolkit\.fluxcd\.io/.*"
)


def versions(policy: Policy, services: Services) -> dict[str, str]:
    """Service -> version, for the Services that select this service's pods of one version; those with fewest
    labels come first."""
    label, found = policy.service.version_label, []
    for name, service in services.items():
        chosen = selector(service)
        if name in fair_services(policy.service.name, by_gateway_api=True):
            continue  # of matched users alone
        if chosen.get(label) and all(
            chosen.get(key) == value for key, value in policy.service.selector.items()
        ):
            found.append((len(chosen), name, chosen[label]))
    return {name: version for _, name, version in sorted(found)}


def of_version(policy: Policy, services: Services, version: str) -> str:
    """The Service of all of a version's pods; "" where there is none."""
    whole = set(policy.service.selector) | {policy.service.version_label}
    return next(
        (
            name
            for name, known in versions(policy, services).items()
            if known == version and set(selector(services[name])) <= whole
        ),
        "",
    )


def serves_all(policy: Policy, service: Json) -> bool:
    """Whether a Service selects this service's pods of every version."""
    chosen, own = selector(service), policy.service.selector
    return bool(chosen) and all(own.get(key) == value for key, value in chosen.items())


def selector(service: Json) -> Mapping[str, str]:
    """The labels by which a Service selects pods; none for one without a selector."""
    return (service.get("spec") or {}).get("selector") or {}


def selects(policy: Policy, version: str) -> dict[str, str]:
    """The selector of a version's own Service."""
    return {**policy.service.selector, policy.service.version_label: version}


def like(policy: Policy, other: Json, version: str, name: str, made: bool = True) -> Json:
    """A Service for a version, like that of another: its ports and whatever says how traffic gets there,
    inside the cluster only.

    made: with the annotation by which canaryd knows it as its own.
    """
    spec, metadata = other.get("spec") or {}, other["metadata"]
    ports = [
        {key: deepcopy(value) for key, value in port.items() if key != "nodePort"}
        for port in spec.get("ports") or []
    ]
    label, before = policy.service.version_label, selector(other).get(policy.service.version_label)
    labels = {
        key: version if before and value == before and key in (label, "app.kubernetes.io/version") else value
        for key, value in (metadata.get("labels") or {}).items()
        if not _OF_TOOLS.fullmatch(key)
    }
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith("networking.istio.io/")
    }
    if made:
        labels |= MANAGED_BY
        annotations[MADE_FOR] = mark(policy, version)
    about: Json = {"name": name, "namespace": policy.service.namespace}
    about |= ({"labels": labels} if labels else {}) | ({"annotations": annotations} if annotations else {})
    kept = {key: deepcopy(spec[key]) for key, usual in _KEPT.items() if spec.get(key, usual) != usual}
    kept |= {"clusterIP": "None"} if spec.get("clusterIP") == "None" else {}
    made_spec = {"selector": selects(policy, version), "ports": ports, **kept}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": made_spec}


def mark(policy: Policy, version: str) -> str:
    """The annotation's value."""
    return f"{policy.service.name}/{version}"


def made_for(policy: Policy, service: Json) -> str:
    """The version that canaryd made this Service for; "" for one that it did not make, and for one that was
    edited since."""
    found = str((service["metadata"].get("annotations") or {}).get(MADE_FOR, ""))
    name, _, version = found.partition("/")
    return version if name == policy.service.name and selector(service) == selects(policy, version) else ""


def name_for(policy: Policy, version: str, taken: Services) -> str:
    """A free name, `front-end-v2`: a DNS label that begins with a letter, as Services' names must be."""
    plain = re.sub(r"[^a-z0-9-]", "-", version.lower()).strip("-")[:40].strip("-") or "canary"
    stem = f"{policy.service.name[: 60 - len(plain)].rstrip('-')}-{plain}"
    return next(
        candidate
        for candidate in (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
        if candidate not in taken
    )


def as_yaml(value: Any, depth: int = 0) -> str:
    """Plain data as a person would write it in YAML, each line ending in a line break."""
    pad, lines = "  " * depth, ""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            is_nested = isinstance(inner, Mapping | list) and inner
            lines += (
                f"{pad}{key}:\n{as_yaml(inner, depth + isinstance(inner, Mapping))}"
                if is_nested
                else f"{pad}{key}: {_scalar(inner)}\n"
            )
    elif isinstance(value, list):
        for item in value:
            text = as_yaml(item, depth + 1).strip(" ") if isinstance(item, Mapping) else f"{_scalar(item)}\n"
            lines += f"{pad}- {text}"
    return lines


def _scalar(value: Any) -> str:
    """JSON is YAML; text that can be read as nothing else needs no quotes."""
    is_plain = (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z][A-Za-z0-9./-]*", value)
        and value.lower() not in _WORDS
    )
    return str(value) if is_plain else json.dumps(value)
