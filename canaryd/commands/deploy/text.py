"""A deploy as sentences, tables, YAML and diffs. Pure."""

import io
from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from ruamel.yaml import YAML

from canaryd.commands.deploy.deployer import Prepared
from canaryd.commands.deploy.draft import Draft
from canaryd.domain.namespace_objects import (
    Manifest,
    NamespaceObjects,
    Reference,
    bare,
    images,
    name_of,
    title_of,
)


def described(prepared: Prepared, places: tuple[NamespaceObjects, NamespaceObjects]) -> list[str]:
    """What will happen to one service, for a person."""
    draft, (source, target) = prepared.draft, places
    if draft.nothing:
        return [f"{draft.service}: nothing to do: {draft.nothing}", *(f"  {line}" for line in remarks(draft))]
    beside = f"beside {draft.stable.name}" if draft.stable is not None else "its first version there"
    lines = [
        f"{draft.service}: {draft.version} to {target.namespace}, {beside}; from {draft.source.name} of "
        f"{source.namespace}"
    ]
    made = next((new.manifest for new in draft.made if new.manifest["kind"] == "Deployment"), None)
    if made is not None:
        lines.append(f"  image     {', '.join(images(made['spec']['template']).values())}{_before(draft)}")
        lines.append(f"  replicas  {made['spec']['replicas']}")
    lines.append(f"  creates   {', '.join(title_of(new.manifest) for new in draft.made)}")
    unchecked = {(reference.kind, reference.name) for reference in prepared.unchecked}
    unread = ", which this user may not read: not checked"
    lines += [
        f"  needs     {_needed(need)}{unread if (need.kind, need.name) in unchecked else ''}"
        for need in draft.needs
    ]
    return [*lines, *(f"  {line}" for line in remarks(draft))]


def remarks(draft: Draft) -> list[str]:
    """The notes and warnings of a draft, a line each."""
    return [*(f"note      {line}" for line in draft.notes), *(f"warning   {line}" for line in draft.warnings)]


def _before(draft: Draft) -> str:
    return f" (stable: {', '.join(draft.stable.images.values())})" if draft.stable is not None else ""


def _needed(reference: Reference) -> str:
    keys = f" ({', '.join(sorted(reference.keys))})" if reference.keys else ""
    optional = ", optional" if reference.optional else ""
    return f"{reference.kind} {reference.name}{keys}{optional}: {', '.join(reference.used)}"


def head(places: tuple[NamespaceObjects, NamespaceObjects]) -> tuple[str, ...]:
    """The headings of the table of `deploy --all`."""
    return ("SERVICE", places[0].namespace.upper(), places[1].namespace.upper(), "NEW", "WHAT HAPPENS")


def row(
    service: str, prepared: Prepared | None, refused: str, places: tuple[NamespaceObjects, NamespaceObjects]
) -> tuple[str, ...]:
    """One service's line in the table of all."""
    if prepared is None:
        return (service, "-", "-", "-", f"refused: {refused.partition(': ')[2].splitlines()[0]}")
    draft = prepared.draft
    if draft.nothing:
        return (
            service,
            _short(draft.source.images),
            f"{draft.name} {_short(draft.source.images)}",
            "-",
            "nothing: it runs there already",
        )
    stable = f"{draft.stable.name} {_short(draft.stable.images)}" if draft.stable is not None else "-"
    beside = (
        f"is deployed beside {draft.stable.name}"
        if draft.stable is not None
        else "is deployed, the first version there"
    )
    return (service, _short(draft.source.images), stable, draft.name, beside)


def _short(found: Mapping[str, str]) -> str:
    """The images without their registries."""
    return ", ".join(image.rsplit("/", 1)[-1] for image in found.values())


def what_follows(draft: Draft, target: NamespaceObjects) -> list[str]:
    """What happens next to a version that was deployed."""
    if draft.stable is None:
        return []
    if draft.service not in target.notes:
        return [
            f"canaryd has seen no service {draft.service} in {target.namespace} (has it a policy, and does "
            "the daemon run?): until then traffic stays as it is"
        ]
    if draft.service in target.paused:
        return [f"{draft.service} is paused: its rollout begins after canaryd pause {draft.service} --end"]
    return [f"canaryd begins its rollout automatically: canaryd status {draft.service} --watch"]


def diff(prepared: Prepared) -> Iterator[str]:
    """Of each object as the server would have it, against stable's where there is one: unified, the whole of
    what is new."""
    for made, answer in zip(prepared.draft.made, prepared.answers, strict=True):
        namespace = made.manifest["metadata"]["namespace"]
        before = as_yaml(bare(made.beside)).splitlines() if made.beside is not None else []
        old = (
            f"{namespace}/{made.beside['kind']} {name_of(made.beside)}"
            if made.beside is not None
            else "/dev/null"
        )
        new = as_yaml(_shown(answer)).splitlines()
        yield from unified_diff(before, new, old, f"{namespace}/{title_of(made.manifest)}", lineterm="")


def _shown(answer: Manifest) -> dict[str, Any]:
    """As the server answered, without what it alone writes, but with canaryd's own word on where it is
    from."""
    shown = bare(answer)
    own = {
        key: value
        for key, value in (answer["metadata"].get("annotations") or {}).items()
        if key.startswith("canaryd.dev/")
    }
    return shown | (
        {
            "metadata": {
                **shown["metadata"],
                "annotations": {**shown["metadata"].get("annotations", {}), **own},
            }
        }
        if own
        else {}
    )


def as_yaml(obj: Mapping[str, Any]) -> str:
    """With keys in the order of the alphabet, as kubectl prints them, so that two objects can be compared
    line by line."""
    yaml = YAML()
    yaml.width = 4096  # a long value is one line
    yaml.indent(mapping=2, sequence=2, offset=0)
    text = io.StringIO()
    yaml.dump(_sorted(obj), text)
    return text.getvalue()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return (
        [_sorted(item) for item in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )
