"""What goes with a new Deployment: stable's autoscaler and disruption budget for its version, and the Service
of a first version."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from canaryd.commands.deploy.new_deployment import renamed
from canaryd.domain.namespace_objects import (
    CannotDeploy,
    Deployed,
    Manifest,
    NamespaceObjects,
    NewObject,
    bare,
    name_of,
)

_KEDA = "ScaledObject"
# Given by the cluster to the Service that has them; and what opens a door to the outside, which a person
# decides for each namespace.
_OF_ONE_SERVICE = (
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "healthCheckNodePort",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "loadBalancerClass",
    "allocateLoadBalancerNodePorts",
    "externalIPs",
    "externalTrafficPolicy",
    "type",
)


def autoscaler(
    place: NamespaceObjects, stable: Deployed, name: str, label: str, version: str
) -> tuple[NewObject | None, list[str]]:
    """A copy of stable's HorizontalPodAutoscaler that scales the Deployment `name`; None when there is
    nothing to copy, or it is there.

    Raises CannotDeploy when its name is taken by another's.
    """
    if (why := place.unreadable.get("HorizontalPodAutoscaler")) is not None:
        return None, [
            f"whether {stable.name} has an autoscaler is not known ({why}): if it has one, the new version "
            "needs its own"
        ]
    found = next((other for other in place.autoscalers if _scaled(other) == stable.name), None)
    if found is None or any(_scaled(other) == name for other in place.autoscalers):
        return None, []
    keda = next(
        (
            str(owner.get("name"))
            for owner in found["metadata"].get("ownerReferences") or []
            if owner.get("kind") == _KEDA
        ),
        None,
    )
    if keda is not None:
        return None, [
            f"{stable.name} is scaled by KEDA ({_KEDA} {keda}), which is not copied: make one for {name}"
        ]
    made = _copy(found, stable.name, name)
    _free(made, place.autoscalers, f"scales {name}")
    made["spec"]["scaleTargetRef"] = {**made["spec"]["scaleTargetRef"], "name": name}
    before = stable.labels.get(label, "")
    renamed(made["spec"].get("metrics"), label, before, version)
    notes = (
        [
            f"a metric of {made['kind']} {name_of(found)} is of {stable.name} by name: look whether it fits "
            f"{name}"
        ]
        if stable.name in str(made["spec"].get("metrics"))
        else []
    )
    return NewObject(made, found), notes


def budget(
    place: NamespaceObjects, stable: Deployed, name: str, label: str, version: str
) -> tuple[NewObject | None, list[str]]:
    """A copy of the PodDisruptionBudget that selects stable's version alone, for the new one; None where
    there is none, or one selects both. Raises CannotDeploy when its name is taken by another's."""
    if (why := place.unreadable.get("PodDisruptionBudget")) is not None:
        return None, [f"whether a PodDisruptionBudget is for {stable.name} alone is not known ({why})"]
    before = stable.labels.get(label)
    own = [
        other
        for other in place.budgets
        if before
        and _selected(other).get(label) == before
        and _selected(other).items() <= stable.labels.items()
    ]
    if not own or any(_selected(other) == {**_selected(own[0]), label: version} for other in place.budgets):
        return None, []
    made = _copy(own[0], stable.name, name)
    _free(made, place.budgets, f"selects {label}={version}")
    renamed(made["spec"], label, str(before), version)
    return NewObject(made, own[0]), []


def service(
    source: NamespaceObjects, target: NamespaceObjects, name: str, selector: Mapping[str, str], label: str
) -> tuple[NewObject | None, list[str]]:
    """The Service of a first version, as it is where it comes from, inside the cluster only; None where there
    is one, or none to copy."""
    if target.service(name) is not None:
        return None, []
    found = source.service(name)
    if found is None:
        return None, [
            f"there is no Service {name} in {source.namespace} to copy: without one in {target.namespace} "
            "nothing reaches it"
        ]
    made = deepcopy(bare(found))
    spec = made["spec"]
    notes = []
    if (kind := spec.get("type", "ClusterIP")) != "ClusterIP":
        notes.append(
            f"Service {name} is a {kind} in {source.namespace}, and is made a ClusterIP: what comes from "
            "outside has a gateway"
        )
    headless = spec.get("clusterIP") == "None"
    for key in _OF_ONE_SERVICE:
        spec.pop(key, None)
    if headless:
        spec["clusterIP"] = "None"
    for port in spec.get("ports") or []:
        port.pop("nodePort", None)
    spec["selector"] = {
        key: value for key, value in {**(spec.get("selector") or {}), **selector}.items() if key != label
    }
    made["metadata"].pop("annotations", None)  # of load balancers and DNS, as a rule: doors to the outside
    made["metadata"]["namespace"] = target.namespace
    return NewObject(made), notes


def _copy(found: Manifest, before: str, after: str) -> dict[str, Any]:
    """The object under another name: the team's own way to name it, where stable's name is part of that."""
    made = deepcopy(bare(found))
    old = name_of(found)
    made["metadata"]["name"] = old.replace(before, after) if before in old else after
    return made


def _free(made: Manifest, there: Any, purpose: str) -> None:
    if any(name_of(other) == name_of(made) for other in there):
        raise CannotDeploy(
            f"{made['kind']} {name_of(made)} is there already, and is not the one that {purpose}; rename or "
            "delete it"
        )


def _scaled(obj: Manifest) -> str:
    target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
    return str(target.get("name")) if target.get("kind") == "Deployment" else ""


def _selected(obj: Manifest) -> Mapping[str, str]:
    labels: Mapping[str, str] = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return labels
