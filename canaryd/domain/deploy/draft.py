"""What a deploy would create, or why there is nothing to do, or why it cannot be done: from two namespaces as read and one wish."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from canaryd.domain.deploy import choosing, companions
from canaryd.domain.deploy.objects import DEPLOYED_FROM, CannotDeploy, Deployed, Finding, Made, OnRecord, Place, Reference, name_of
from canaryd.domain.deploy.references import mentions, references
from canaryd.domain.deploy.routing import exposed
from canaryd.domain.deploy.template import beside_stable, needed_labels, new_deployment, without_sidecar
from canaryd.domain.rollout import Phase
from canaryd.domain.templates import template_hash

_VERSION = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"  # a label's value that a Deployment's name can end with
_LONG_NAME = 47  # longer ones are cut in the names of their pods


@dataclass(frozen=True, slots=True)
class Wish:
    """What someone asks to be deployed. version: "" for the next free one; deployment: which one, "" where only one is meant;
    finding: the policy's; replicas: None for as many as stable has.

    force: though it does not serve where it runs. supersede: though a rollout is under way. expose: though no route keeps requests from
    it. same_image: though these images run there already.
    """

    service: str
    version: str = ""
    deployment: str = ""
    finding: Finding | None = None
    replicas: int | None = None
    force: bool = False
    supersede: bool = False
    expose: bool = False
    same_image: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """One service's deploy. made: in the order of creation; nothing: why there is none to create, or ""; needs: what the pods name.

    source: the Deployment that it is of; name: the new one; stable: None where it is the first version. warnings: what may go wrong;
    notes: what was done that is not plain.
    """

    service: str
    version: str
    source: Deployed
    name: str
    stable: Deployed | None
    made: tuple[Made, ...] = ()
    needs: tuple[Reference, ...] = ()
    nothing: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def source_of(wish: Wish, source: Place, target: Place) -> Deployed:
    """The Deployment whose version is meant. Raises CannotDeploy."""
    found_by = choosing.finding(wish.service, source, target, wish.finding)
    return choosing.running(wish.service, source, found_by, wish.deployment, wish.force)


def draft(wish: Wish, source: Place, target: Place, digests: Mapping[str, str]) -> Draft:
    """What would be created. digests: container -> `sha256:...` to pin images to. Raises CannotDeploy."""
    found_by = choosing.finding(wish.service, source, target, wish.finding)
    chosen = source_of(wish, source, target)
    found = target.selected(found_by.selector)
    under_way = next((one for one in target.rollouts if one.service == wish.service and not one.ended), None)
    stable = choosing.stable(wish.service, target, found, under_way)
    same = None if wish.same_image else _same(chosen, found, digests)
    if same is not None:
        return _there_already(wish, chosen, same, stable, target, found_by.version_label, digests)
    version = wish.version or choosing.next_version(wish.service, target, found, found_by.version_label)
    name = f"{wish.service}-{version}"
    _check_name(wish, version, name, found, target, found_by.version_label)
    _check_peace(wish, under_way, version)
    needed = _needed(wish.service, target, found_by, version)
    if stable is not None and not wish.expose and (why := exposed(target, wish.service, needed)):
        raise CannotDeploy(f"{why}: a canary has to begin without any. Give {wish.service} a VirtualService and a DestinationRule with a "
                           f"subset for each version, or deploy it all the same with --expose")
    made, notes = _deployment(wish, chosen, target, name, needed, found_by.version_label, stable, digests)
    objects = [Made(made, stable.manifest if stable else None)]
    warnings = _warnings(made, chosen, source, target, stable)
    if stable is not None:
        more, worries = _beside(stable, target, name, found_by.version_label, version)
        objects += more
    else:
        service, worries = companions.service(source, target, wish.service, needed, found_by.version_label)
        objects = [*([service] if service else []), *objects]
        notes.append(f"{target.namespace} has no version of {wish.service} yet: there is nothing to compare with, and nothing to roll out")
    template = made["spec"]["template"]
    return Draft(wish.service, version, chosen, name, stable, tuple(objects), tuple(references(template)), "", tuple(notes),
                 (*warnings, *worries))


def with_copied(one: Draft, config_maps: list[dict[str, Any]], word: str) -> Draft:
    """The draft with ConfigMaps created before all else, and a word on where they mention the namespace they come from."""
    told = [f"ConfigMap {name_of(obj)}, {line}" for obj in config_maps for line in mentions(obj.get("data") or {}, word)]
    return replace(one, made=(*(Made(obj) for obj in config_maps), *one.made),
                   warnings=(*one.warnings, *(f"mentions {word}: {line}" for line in told)))


def _deployment(
    wish: Wish, chosen: Deployed, target: Place, name: str, needed: Mapping[str, str], label: str, stable: Deployed | None,
    digests: Mapping[str, str],
) -> tuple[dict[str, Any], list[str]]:
    replicas = wish.replicas
    if replicas is None:  # the canary has to carry all the traffic at the end
        replicas = stable.state.desired if stable is not None else max(1, chosen.state.desired)
    return new_deployment(chosen, namespace=target.namespace, name=name, needed=needed, label=label, stable=stable,
                          replicas=max(replicas, 1) if wish.replicas is None else replicas, digests=digests)


def _needed(service: str, target: Place, found_by: Finding, version: str) -> Mapping[str, str]:
    own = target.service(service)
    selector = ((own or {}).get("spec") or {}).get("selector") or {}
    return needed_labels(found_by.selector, found_by.version_label, version, selector, service)


def _beside(stable: Deployed, target: Place, name: str, label: str, version: str) -> tuple[list[Made], list[str]]:
    """Stable's companions, copied: after the Deployment, without which they do nothing."""
    objects: list[Made] = []
    worries: list[str] = []
    for copy in (companions.budget, companions.autoscaler):
        made, told = copy(target, stable, name, label, version)
        worries += told
        objects += [made] if made is not None else []
    return objects, worries


def _warnings(made: Mapping[str, Any], chosen: Deployed, source: Place, target: Place, stable: Deployed | None) -> list[str]:
    told = beside_stable(made, stable) if stable is not None else []
    if why := without_sidecar(made):
        told.append(why)
    if source.namespace != target.namespace:
        told += [f"mentions {source.namespace}: {line}" for line in mentions(made["spec"]["template"]["spec"], source.namespace)]
    floating = [image for image in chosen.images.values() if _floats(image)]
    if floating:
        told.append(f"the image {', '.join(floating)} says by its tag nothing about what is in it, and may be another one tomorrow; "
                    "--pin-digest pins what runs")
    if len(name := name_of(made)) > _LONG_NAME:
        told.append(f"{name} is a long name: those of its pods are cut, and $canary_pods of a policy's queries does not match them")
    return told


def _floats(image: str) -> bool:
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "@" not in image and tag in ("", "latest")


def _same(chosen: Deployed, found: list[Deployed], digests: Mapping[str, str]) -> Deployed | None:
    """The Deployment that runs these very images, one with replicas first."""
    wanted = {name: f"{image.partition('@')[0]}@{digests[name]}" if name in digests else image for name, image in chosen.images.items()}
    alike = [one for one in found if one.images == wanted]
    return next((one for one in alike if one.state.desired > 0), alike[0] if alike else None)


def _there_already(
    wish: Wish, chosen: Deployed, same: Deployed, stable: Deployed | None, target: Place, label: str, digests: Mapping[str, str]
) -> Draft:
    """These images run there: nothing is to do, but for what an interrupted deploy left out."""
    version = same.labels.get(label, "")
    where = f"{same.name} in {target.namespace}"
    if same.state.desired == 0:
        raise CannotDeploy(f"{where} has these images already, scaled to 0: scale it up, or make a further version of them with "
                           "--same-image")
    own_work = DEPLOYED_FROM in (same.manifest["metadata"].get("annotations") or {})
    made, worries = list[Made](), list[str]()
    if own_work and stable is not None and stable is not same:
        made, worries = _beside(stable, target, same.name, label, version)
    told = "" if made else f"{where} runs {_said(chosen)} already"
    again, _ = _deployment(wish, chosen, target, same.name, same.labels, label, same, digests)
    notes = [f"{same.name} was made by an earlier deploy, which did not end"] if made else []
    notes += [f"its rollout was rolled back: canaryd retry {one.name} tries it once more" for one in target.rollouts
              if (one.service, one.canary, one.phase) == (wish.service, version, Phase.ROLLED_BACK)][-1:]
    if template_hash(again["spec"]["template"]) != template_hash(same.template):
        notes.append(f"beyond the images its pods differ from {chosen.name} of {chosen.namespace}; --same-image makes a version of that")
    return Draft(wish.service, version, chosen, same.name, stable, tuple(made), (), told, tuple(notes), tuple(worries))


def _check_name(wish: Wish, version: str, name: str, found: list[Deployed], target: Place, label: str) -> None:
    if not re.fullmatch(_VERSION, version):
        raise CannotDeploy(f"a version must be lower-case letters, digits, - and . (at most 63: it is a label and part of a name), but is "
                           f"{version!r}")
    if len(name) > 253:
        raise CannotDeploy(f"the name {name} has {len(name)} characters, and may have 253")
    if (taken := target.deployment(name)) is not None:
        raise CannotDeploy(f"Deployment {name} is there already in {target.namespace}, and runs {_said(taken)}; give the new one another "
                           f"version: canaryd deploy {wish.service} VERSION")
    if (other := next((one for one in found if one.labels.get(label) == version), None)) is not None:
        raise CannotDeploy(f"{other.name} in {target.namespace} has {label}={version} already: a version is one Deployment")
    unnamed = [one.name for one in found if not one.labels.get(label) and one.state.desired > 0]
    if unnamed:
        raise CannotDeploy(f"the pods of {', '.join(unnamed)} in {target.namespace} have no label {label}, so no route can tell them from "
                           f"a new version; give them one, such as {label}=v1, and a subset, first")


def _check_peace(wish: Wish, under_way: OnRecord | None, version: str) -> None:
    if under_way is not None and not wish.supersede:
        raise CannotDeploy(f"{under_way.name} ({under_way.canary}) is under way, and gives way to a newer version: its traffic goes back "
                           f"first. Wait until it has ended (canaryd status {wish.service}), or deploy {version} over it with --supersede")


def _said(one: Deployed) -> str:
    return ", ".join(one.images.values())
