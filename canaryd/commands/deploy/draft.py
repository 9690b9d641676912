"""What a deploy would create, or why there is nothing to create, or why it is refused: decided from two
namespaces as read and one request. Pure."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from canaryd.commands.deploy import companions, version_selection
from canaryd.commands.deploy.new_deployment import (
    beside_stable,
    needed_labels,
    new_deployment,
    pinned,
    without_sidecar,
)
from canaryd.commands.deploy.template_references import mentions, references
from canaryd.domain.namespace_objects import (
    DEPLOYED_FROM,
    CannotDeploy,
    Deployed,
    DeploymentSelector,
    NamespaceObjects,
    NewObject,
    RecordedRollout,
    Reference,
    name_of,
)
from canaryd.domain.pod_template import template_hash
from canaryd.domain.rollout import Phase
from canaryd.routing.exposure import exposed

_VERSION = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"  # a label's value that a Deployment's name can end with
_LONG_NAME = 47  # longer ones are cut in the names of their pods


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """What someone asks to be deployed. version: "" for the next free one; deployment: which one, "" where
    only one is meant; finding: the policy's; replicas: None for as many as stable has.

    force: though it does not serve where it runs. supersede: though a rollout is under way. expose: though no
    route keeps requests from it. same_image: though these images run there already.
    """

    service: str
    version: str = ""
    deployment: str = ""
    finding: DeploymentSelector | None = None
    replicas: int | None = None
    force: bool = False
    supersede: bool = False
    expose: bool = False
    same_image: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """One service's deploy. made: in the order of creation; nothing: why there is none to create, or "";
    needs: what the pods name.

    source: the Deployment that it is of; name: the new one; stable: None where it is the first version.
    warnings: what may go wrong; notes: what was done that is not plain.
    """

    service: str
    version: str
    source: Deployed
    name: str
    stable: Deployed | None
    made: tuple[NewObject, ...] = ()
    needs: tuple[Reference, ...] = ()
    nothing: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """One wish with all that it is decided by. found: the service's Deployments in target; digests: container
    -> `sha256:...`."""

    wish: DeployRequest
    source: NamespaceObjects
    target: NamespaceObjects
    found_by: DeploymentSelector
    chosen: Deployed
    digests: Mapping[str, str]

    @property
    def label(self) -> str:
        return self.found_by.version_label

    @property
    def found(self) -> list[Deployed]:
        return self.target.selected(self.found_by.selector)

    @property
    def under_way(self) -> RecordedRollout | None:
        return next(
            (
                rollout
                for rollout in self.target.rollouts
                if rollout.service == self.wish.service and not rollout.ended
            ),
            None,
        )

    def stable(self) -> Deployed | None:
        return version_selection.stable(self.wish.service, self.target, self.found, self.under_way)


def source_of(wish: DeployRequest, source: NamespaceObjects, target: NamespaceObjects) -> Deployed:
    """The Deployment whose version is meant. Raises CannotDeploy."""
    return version_selection.running(
        wish.service, source, _found_by(wish, source, target), wish.deployment, wish.force
    )


def draft(
    wish: DeployRequest, source: NamespaceObjects, target: NamespaceObjects, digests: Mapping[str, str]
) -> Draft:
    """What would be created. digests: container -> `sha256:...` to pin images to. Raises CannotDeploy."""
    case = _Case(
        wish, source, target, _found_by(wish, source, target), source_of(wish, source, target), digests
    )
    same = None if wish.same_image else _same(case)
    return _new(case) if same is None else _there_already(case, same)


def with_copied(drafted: Draft, config_maps: list[dict[str, Any]], word: str) -> Draft:
    """The draft with ConfigMaps created before all else, and a word on where they mention the namespace they
    come from."""
    mentioned = [
        f"mentions {word}: ConfigMap {name_of(obj)}, {line}"
        for obj in config_maps
        for line in mentions(obj.get("data") or {}, word)
    ]
    return replace(
        drafted,
        made=(*(NewObject(obj) for obj in config_maps), *drafted.made),
        warnings=(*drafted.warnings, *mentioned),
    )


def _found_by(wish: DeployRequest, source: NamespaceObjects, target: NamespaceObjects) -> DeploymentSelector:
    return version_selection.deployment_selector(wish.service, source, target, wish.finding)


def _new(case: _Case) -> Draft:
    wish, target, stable = case.wish, case.target, case.stable()
    version = wish.version or version_selection.next_version(wish.service, target, case.found, case.label)
    name = f"{wish.service}-{version}"
    _check_name(case, version, name)
    _check_peace(case, version)
    needed = _needed(case, version)
    if stable is not None and not wish.expose and (why := exposed(target, wish.service, needed)):
        raise CannotDeploy(
            f"{why}: a canary must begin without traffic. Give {wish.service} a VirtualService and a "
            "DestinationRule with a subset for each version, or deploy it anyway with --expose"
        )
    made, notes = _deployment(case, name, needed, stable)
    objects = [NewObject(made, stable.manifest if stable else None)]
    if stable is not None:
        more, worries = _beside(stable, target, name, case.label, version)
        objects += more
    else:
        service, worries = companions.service(case.source, target, wish.service, needed, case.label)
        objects = [service, *objects] if service else objects
        notes.append(
            f"{target.namespace} has no version of {wish.service} yet: there is nothing to compare with, and "
            "nothing to roll out"
        )
    return Draft(
        wish.service,
        version,
        case.chosen,
        name,
        stable,
        tuple(objects),
        tuple(references(made["spec"]["template"])),
        "",
        tuple(notes),
        (*_warnings(case, made, stable), *worries),
    )


def _there_already(case: _Case, same: Deployed) -> Draft:
    """These images run there: nothing is to do, but for what an interrupted deploy left out."""
    wish, target, version = case.wish, case.target, same.labels.get(case.label, "")
    where = f"{same.name} in {target.namespace}"
    if same.state.desired == 0:
        raise CannotDeploy(
            f"{where} has these images already, scaled to 0: scale it up, or make a further version of them "
            "with --same-image"
        )
    stable = _stable_of_own(case, same)
    made, worries = (
        _beside(stable, target, same.name, case.label, version) if stable is not None else ([], [])
    )
    notes = [f"{same.name} was made by an earlier deploy that did not finish"] if made else []
    notes += [
        f"its rollout was rolled back: canaryd retry {rollout.name} tries it once more"
        for rollout in target.rollouts
        if (rollout.service, rollout.canary, rollout.phase) == (wish.service, version, Phase.ROLLED_BACK)
    ][-1:]
    again, _ = _deployment(case, same.name, same.labels, same)
    if template_hash(again["spec"]["template"]) != template_hash(same.template):
        notes.append(
            f"its pods differ in more than the images from {case.chosen.name} of {case.chosen.namespace}; "
            "--same-image makes a version of that"
        )
    nothing = "" if made else f"{where} runs {_images_of(case.chosen)} already"
    return Draft(
        wish.service,
        version,
        case.chosen,
        same.name,
        stable,
        tuple(made),
        (),
        nothing,
        tuple(notes),
        tuple(worries),
    )


def _stable_of_own(case: _Case, same: Deployed) -> Deployed | None:
    """Whom a Deployment that an earlier deploy made stands beside; None where another made it, or it is
    stable itself by now."""
    if DEPLOYED_FROM not in (same.manifest["metadata"].get("annotations") or {}):
        return None
    with suppress(CannotDeploy):
        stable = case.stable()
        return None if stable is same else stable
    return None


def _deployment(
    case: _Case, name: str, needed: Mapping[str, str], stable: Deployed | None
) -> tuple[dict[str, Any], list[str]]:
    # As many as stable has, since it has to carry all the traffic at the end.
    size = stable.state.desired if stable is not None else case.chosen.state.desired
    replicas = case.wish.replicas if case.wish.replicas is not None else max(1, size)
    return new_deployment(
        case.chosen,
        namespace=case.target.namespace,
        name=name,
        needed=needed,
        label=case.label,
        stable=stable,
        replicas=replicas,
        digests=case.digests,
    )


def _needed(case: _Case, version: str) -> Mapping[str, str]:
    own = case.target.service(case.wish.service)
    selector = ((own or {}).get("spec") or {}).get("selector") or {}
    return needed_labels(case.found_by.selector, case.label, version, selector, case.wish.service)


def _beside(
    stable: Deployed, target: NamespaceObjects, name: str, label: str, version: str
) -> tuple[list[NewObject], list[str]]:
    """Stable's companions, copied: after the Deployment, without which they do nothing."""
    objects: list[NewObject] = []
    worries: list[str] = []
    for copy in (companions.budget, companions.autoscaler):
        made, concerns = copy(target, stable, name, label, version)
        worries += concerns
        objects += [made] if made is not None else []
    return objects, worries


def _warnings(case: _Case, made: Mapping[str, Any], stable: Deployed | None) -> list[str]:
    found = beside_stable(made, stable) if stable is not None else []
    if stable is not None and (why := case.target.unreadable.get("CanaryRollout")) is not None:
        found.append(
            f"whether a rollout is under way is not known ({why}): if one is, this version replaces it"
        )
    if why := without_sidecar(made):
        found.append(why)
    if (word := case.source.namespace) != case.target.namespace:
        found += [f"mentions {word}: {line}" for line in mentions(made["spec"]["template"]["spec"], word)]
    floating = [] if case.digests else [image for image in case.chosen.images.values() if _floats(image)]
    if floating:
        found.append(
            f"the image {', '.join(floating)} has a tag that may name another image tomorrow; "
            "--pin-digest pins the one that runs"
        )
    if len(name := name_of(made)) > _LONG_NAME:
        found.append(
            f"{name} is a long name: Kubernetes shortens the names of its pods, and $canary_pods of a "
            "policy's queries does not match them"
        )
    return found


def _floats(image: str) -> bool:
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "@" not in image and tag in ("", "latest")


def _same(case: _Case) -> Deployed | None:
    """The Deployment there that runs these very images, one with replicas first."""
    alike = [
        deployment
        for deployment in case.found
        if deployment.images == pinned(case.chosen.images, case.digests)
    ]
    return next(
        (deployment for deployment in alike if deployment.state.desired > 0), alike[0] if alike else None
    )


def _check_name(case: _Case, version: str, name: str) -> None:
    where = case.target.namespace
    if not re.fullmatch(_VERSION, version):
        raise CannotDeploy(
            "a version must be lower-case letters, digits, - and . (at most 63: it is a label and part of a "
            f"name), but is {version!r}"
        )
    if len(name) > 253:
        raise CannotDeploy(f"the name {name} has {len(name)} characters, and may have 253")
    if (taken := case.target.deployment(name)) is not None:
        raise CannotDeploy(
            f"Deployment {name} is there already in {where}, and runs {_images_of(taken)}; give the new one "
            f"another version: canaryd deploy {case.wish.service} VERSION"
        )
    if (
        other := next(
            (deployment for deployment in case.found if deployment.labels.get(case.label) == version), None
        )
    ) is not None:
        raise CannotDeploy(
            f"{other.name} in {where} has {case.label}={version} already: a version is one Deployment"
        )
    unnamed = [
        deployment.name
        for deployment in case.found
        if not deployment.labels.get(case.label) and deployment.state.desired > 0
    ]
    if unnamed:
        raise CannotDeploy(
            f"the pods of {', '.join(unnamed)} in {where} have no label {case.label}, so no route can tell "
            f"them from a new version; give them one, such as {case.label}=v1, and a subset, first"
        )


def _check_peace(case: _Case, version: str) -> None:
    if case.under_way is not None and not case.wish.supersede:
        raise CannotDeploy(
            f"{case.under_way.name} ({case.under_way.canary}) is under way, and a newer version "
            "replaces it: its traffic goes back to stable first. Wait until it has ended (canaryd status "
            f"{case.wish.service}), or deploy {version} over it with --supersede"
        )


def _images_of(deployment: Deployed) -> str:
    return ", ".join(deployment.images.values())
