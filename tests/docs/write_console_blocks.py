"""`python -m tests.docs.write_console_blocks`: writes what commands print now into the blocks that show a
plan or an explanation.

For a change of these texts. What is kept of each is a list of paragraphs, by how their first lines begin; a
block of another command is shortened by hand."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from docs_generator import ROOT
from tests.docs import shown_worlds
from tests.docs.shown_worlds import printed
from tests.docs.test_console_blocks import EXPLAIN, PLAN, RECOMPUTED

# None: all of it.
KEPT: dict[tuple[str, str], Sequence[str] | None] = {
    ("README.md", EXPLAIN): ("front-end, v2", "What happened"),
    ("docs/operations/explain.md", EXPLAIN): (
        "front-end, v2",
        "What happened",
        "The last verdict",
        "  errors: fail",
        "Counted, request by request",
        "Who was told",
        "What happens next",
        "How to read this",
    ),
    ("docs/operations/explain.md", RECOMPUTED): (
        "Where the numbers are from",
        "Odds over time",
        "00:",
        "  Otherwise, on the same looks",
    ),
    ("docs/guides/plan.md", PLAN): None,
}
DIFFERS = "http://127.0.0.1:"  # a port; paragraphs with one are the same every time only without it


def shortened(lines: Sequence[str], kept: Sequence[str] | None) -> str:
    """The kept paragraphs, and `...` for one or more that are left out."""
    if kept is None:
        return "\n".join(lines).rstrip()
    shown: list[str] = []
    for paragraph in "\n".join(lines).strip().split("\n\n"):
        if paragraph.startswith(tuple(kept)) and DIFFERS not in paragraph:
            shown += ["", paragraph] if shown else [paragraph]
        elif not shown or shown[-1] != "...":
            shown.append("...")
    return "\n".join(shown)


def main() -> None:
    """Writes them."""
    with tempfile.TemporaryDirectory() as folder:
        world = shown_worlds.a_rolled_back_release(Path(folder))
        shown_worlds.settings_file(world, Path(folder))
        for (page, command), kept in KEPT.items():
            os.chdir(ROOT if command == PLAN else folder)
            lines = printed(None if command == PLAN else world, shlex.split(command)[1:])
            path = ROOT / page
            before, _, rest = path.read_text(encoding="utf-8").partition(f"```console\n$ {command}\n")
            after = rest.partition("\n```")[2]
            path.write_text(
                f"{before}```console\n$ {command}\n{shortened(lines, kept)}\n```{after}", encoding="utf-8"
            )
        world.__exit__(None, None, None)


if __name__ == "__main__":
    main()
