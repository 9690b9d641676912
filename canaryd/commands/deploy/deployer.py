"""Deploys a version of one namespace beside the present one in another: read, draft, check, and, when someone
has said yes, create.

The draft is made in draft.py. Here it is checked against what is really there, and created in an
order in which every half is harmless and a second try goes on: what pods need first, then the Deployment,
then what scales and guards it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canaryd.commands.deploy.draft import DeployRequest, Draft, draft, source_of, with_copied
from canaryd.commands.deploy.template_references import CONFIG_MAP, SECRET, WITH_KEYS
from canaryd.domain.namespace_objects import (
    CannotDeploy,
    Deployed,
    Manifest,
    NamespaceClient,
    NamespaceObjects,
    Reference,
    bare,
    title_of,
)
from canaryd.domain.ports import Conflict, Missing, Rejected, Unavailable, Workload


@dataclass(frozen=True, slots=True)
class Prepared:
    """A draft that was checked. answers: each object as the server would have it; unchecked: references that
    this user may not read."""

    draft: Draft
    answers: tuple[Manifest, ...]
    unchecked: tuple[Reference, ...]


@dataclass
class Deployer:
    """source, target: where versions run, and where they go. pin: images are pinned to what the pods really
    run; copy_config: ConfigMaps that are missing are taken along."""

    source: NamespaceClient
    target: NamespaceClient
    pin: bool = False
    copy_config: bool = False

    def read(self) -> tuple[NamespaceObjects, NamespaceObjects]:
        """Both namespaces as they are. Raises Missing, Unavailable, Rejected."""
        return self.source.read(), self.target.read()

    def prepare(self, wish: DeployRequest, places: tuple[NamespaceObjects, NamespaceObjects]) -> Prepared:
        """What would be created, checked by the server. Raises CannotDeploy with all that is missing,
        Unavailable, Rejected."""
        made = draft(wish, *places, self._digests(source_of(wish, *places)) if self.pin else {})
        if made.nothing:
            return Prepared(made, (), ())
        missing, unchecked, copied = self._look_for(made.needs)
        if missing:
            raise CannotDeploy(*missing)
        if copied:
            made = with_copied(made, copied, self.source.namespace)
        answers = tuple(self.target.create(new.manifest, dry_run=True) for new in made.made)
        return Prepared(made, answers, tuple(unchecked))

    def create(self, prepared: Prepared) -> Sequence[str]:
        """Creates all; what was created, by kind and name. Raises Rejected, Unavailable, with what was
        created before."""
        done: list[str] = []
        for new in prepared.draft.made:
            try:
                self.target.create(new.manifest)
            except (Rejected, Unavailable) as error:
                if isinstance(error, Conflict) and new.manifest["kind"] == CONFIG_MAP:
                    continue  # copied for another service meanwhile; what is there is never overwritten
                so_far = (
                    f"; created before that: {', '.join(done)}; run it again to go on from there"
                    if done
                    else ""
                )
                raise type(error)(f"{error}{so_far}") from error
            done.append(title_of(new.manifest))
        return done

    def state(self, prepared: Prepared) -> Workload:
        """How the new Deployment stands."""
        return self.target.state(prepared.draft.name)

    def _digests(self, chosen: Deployed) -> Mapping[str, str]:
        """Container -> the one digest that its pods run. Raises CannotDeploy for several, and for none."""
        found = self.source.digests(chosen)
        pinned = {name: next(iter(found[name])) for name in chosen.images if len(found.get(name, ())) == 1}
        several = [
            f"container {name} runs {' and '.join(sorted(found[name]))}"
            for name in chosen.images
            if len(found.get(name, ())) > 1
        ]
        if several:
            raise CannotDeploy(
                f"the pods of {chosen.name} do not all run the same image: {'; '.join(several)}; restart "
                "them, so that one is meant"
            )
        if untold := [name for name in chosen.images if name not in pinned]:
            raise CannotDeploy(
                f"no pod of {chosen.name} says by which digest it runs the image of {', '.join(untold)}: "
                "leave out --pin-digest, or wait until its pods run"
            )
        return pinned

    def _look_for(
        self, needs: Sequence[Reference]
    ) -> tuple[list[str], list[Reference], list[dict[str, object]]]:
        """What pods need: sentences on what is missing, what cannot be told, and ConfigMaps to copy."""
        missing: list[str] = []
        unchecked: list[Reference] = []
        copied: list[dict[str, object]] = []
        for need in needs:
            try:
                keys = self.target.keys(need.kind, need.name)
            except Missing:
                if need.optional:
                    continue
                if need.kind == CONFIG_MAP and self.copy_config:
                    copied.append(self._copy(need))
                else:
                    missing.append(self._lacking(need))
                continue
            if keys is None:
                unchecked.append(need)
            elif need.kind in WITH_KEYS and not need.optional and (lost := sorted(need.keys - keys)):
                missing.append(
                    f"{need.kind} {need.name} in {self.target.namespace} lacks {', '.join(lost)} "
                    f"({', '.join(need.used)}): add it there"
                )
        return missing, unchecked, copied

    def _lacking(self, need: Reference) -> str:
        text = (
            f"there is no {need.kind} {need.name} in {self.target.namespace}, which pods need "
            f"({', '.join(need.used)})"
        )
        if need.kind == CONFIG_MAP:
            return f"{text}: make one there, or copy that of {self.source.namespace} with --copy-config"
        if need.kind == SECRET:
            return f"{text}: make one there, with this namespace's own values (a Secret is never copied)"
        return f"{text}: make one there first"

    def _copy(self, need: Reference) -> dict[str, object]:
        try:
            copied = bare(self.source.config_map(need.name))
        except Missing as error:
            raise CannotDeploy(
                f"there is no ConfigMap {need.name} in {self.source.namespace} either "
                f"({', '.join(need.used)})"
            ) from error
        if lost := sorted(need.keys - {*(copied.get("data") or {}), *(copied.get("binaryData") or {})}):
            raise CannotDeploy(
                f"ConfigMap {need.name} of {self.source.namespace} lacks {', '.join(lost)} too "
                f"({', '.join(need.used)})"
            )
        copied["metadata"]["namespace"] = self.target.namespace
        return copied
