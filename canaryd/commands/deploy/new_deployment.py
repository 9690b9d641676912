"""The new Deployment: the template that runs where it comes from, with names, labels and size of where it
goes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from canaryd.domain.namespace_objects import DEPLOYED_FROM, CannotDeploy, Deployed, bare, images, owners
from canaryd.domain.pod_template import RESTARTED_AT

# Whether and by which istiod a sidecar is injected is a matter of the namespace that pods run in, not of the
# version.
_OF_THE_MESH = ("sidecar.istio.io/inject", "istio.io/rev", "istio.io/dataplane-mode")
_SIDECAR = "istio-proxy"


def needed_labels(
    selector: Mapping[str, str], label: str, version: str, service_selector: Mapping[str, str], service: str
) -> dict[str, str]:
    """The labels that pods must have for policy and Service to find them. Raises CannotDeploy where the two
    cannot both have it so."""
    wanted = {**selector, label: version}
    for key, value in service_selector.items():
        if wanted.get(key, value) == value:
            continue
        if key == label:
            raise CannotDeploy(
                f"Service {service} selects {label}={value} alone, so pods of {version} would never get a "
                f"request; take {label} out of its selector (Istio's subsets tell versions apart)"
            )
        raise CannotDeploy(
            f"Service {service} selects {key}={value}, and the policy's service.selector "
            f"{key}={wanted[key]}: no pod has both; make them agree"
        )
    return {**service_selector, **wanted}


def new_deployment(
    source: Deployed,
    *,
    namespace: str,
    name: str,
    needed: Mapping[str, str],
    label: str,
    stable: Deployed | None,
    replicas: int,
    digests: Mapping[str, str],
) -> tuple[dict[str, Any], list[str]]:
    """The Deployment, and notes on what was changed that a reader would not expect.

    needed: labels that its pods must have, with the version's; stable: whom it will stand beside; digests:
    container -> `sha256:...` to pin its image to.
    """
    notes: list[str] = []
    made = deepcopy(bare(source.manifest))
    spec, template = made["spec"], made["spec"]["template"]
    own = dict((template.get("metadata") or {}).get("labels") or {})
    labels = {**own, **needed}
    notes += [
        f"pods have the label {key}={labels[key]}, where {source.name} has {own[key]}"
        for key in needed
        if key in own and key != label and own[key] != labels[key]
    ]
    annotations = dict((template.get("metadata") or {}).get("annotations") or {})
    annotations.pop(RESTARTED_AT, None)
    if stable is not None:
        notes += _as_the_mesh_has_it(labels, annotations, stable)
    template["metadata"] = {"labels": labels} | ({"annotations": annotations} if annotations else {})
    keys = {*((spec.get("selector") or {}).get("matchLabels") or {}), *needed}
    spec["selector"] = {"matchLabels": {key: labels[key] for key in sorted(keys) if key in labels}}
    spec["replicas"] = replicas
    if spec.pop("paused", False):
        notes.append(f"{source.name} is paused; the new Deployment is not")
    if (before := own.get(label)) is not None and before != labels[label]:
        for part in ("affinity", "topologySpreadConstraints"):
            renamed(template["spec"].get(part), label, before, labels[label])
    exact = pinned(images(template), digests)
    for container in _containers(template["spec"]):
        if container["name"] in digests:
            container["image"] = exact[container["name"]]
    metadata = made["metadata"]
    metadata |= {"name": name, "namespace": namespace}
    metadata["labels"] = {**metadata.get("labels", {}), **needed}
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        DEPLOYED_FROM: f"{source.namespace}/{source.name}",
    }
    if marks := owners(source.manifest):
        notes.append(f"left out is what marks {source.name} as someone's: {', '.join(marks)}")
    return made, notes


def renamed(value: Any, label: str, before: str, after: str) -> None:
    """Puts another version into every label selector below a value, in place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "matchLabels" and isinstance(inner, dict) and inner.get(label) == before:
                inner[label] = after
            else:
                renamed(inner, label, before, after)
    elif isinstance(value, list):
        for item in value:
            renamed(item, label, before, after)


def beside_stable(new: Mapping[str, Any], stable: Deployed) -> list[str]:
    """What differs from stable so that pods might not be treated alike: labels others may select by, and a
    sidecar in the template."""
    warnings = []
    labels = new["spec"]["template"]["metadata"]["labels"]
    lost = [f"{key}={value}" for key, value in stable.labels.items() if key not in labels]
    if lost:
        warnings.append(
            f"pods of {stable.name} have the labels {', '.join(lost)}, which the new ones lack: does "
            "anything select by them (NetworkPolicy, AuthorizationPolicy, monitoring)?"
        )
    selector = (stable.manifest["spec"].get("selector") or {}).get("matchLabels") or {}
    if selector and selector.items() <= labels.items():
        shown = ",".join(f"{key}={value}" for key, value in selector.items())
        warnings.append(
            f"{stable.name} selects pods by {shown}, which the new ones have too: its autoscaler would "
            "measure both"
        )
    if marks := owners(stable.manifest):
        warnings.append(
            f"{stable.name} is kept by someone else's tool ({', '.join(marks)}), and the new one is in no "
            "repository: commit it there too (-o yaml prints it)"
        )
    if _has_sidecar(stable.template) and not _has_sidecar(new["spec"]["template"]):
        warnings.append(
            f"{stable.name} has its sidecar in its template (istioctl kube-inject), and the new one has "
            "none: without a sidecar there is no telemetry to judge it by"
        )
    return warnings


def without_sidecar(new: Mapping[str, Any]) -> str:
    """Why pods will not get a sidecar, by their own word; "" otherwise."""
    metadata = new["spec"]["template"]["metadata"]
    for part in ("labels", "annotations"):
        if str((metadata.get(part) or {}).get(_OF_THE_MESH[0])) == "false":
            return (
                f'pods have {_OF_THE_MESH[0]}: "false", so Istio gives them no sidecar, and there is no '
                "telemetry to judge them by"
            )
    return ""


def _as_the_mesh_has_it(labels: dict[str, str], annotations: dict[str, str], stable: Deployed) -> list[str]:
    """Takes over stable's own words about injection, in place; what was changed."""
    notes = []
    metadata = stable.template.get("metadata") or {}
    for mine, theirs in (
        (labels, metadata.get("labels") or {}),
        (annotations, metadata.get("annotations") or {}),
    ):
        for key in _OF_THE_MESH:
            before, wanted = mine.get(key), theirs.get(key)
            if before == wanted:
                continue
            if wanted is None:
                del mine[key]
                notes.append(f"{key}={before} is left out, since {stable.name} has none")
            else:
                mine[key] = wanted
                notes.append(f"{key}={wanted}, as {stable.name} has it")
    return notes


def pinned(found: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Container -> image, with the digest where one is told; tags stay, for readers."""
    return {
        name: f"{image.partition('@')[0]}@{digests[name]}" if name in digests else image
        for name, image in found.items()
    }


def _containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _has_sidecar(template: Mapping[str, Any]) -> bool:
    return any(container["name"] == _SIDECAR for container in _containers(template["spec"]))
