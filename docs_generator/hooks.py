"""What mkdocs asks while it builds the site (`hooks` in mkdocs.yml).

A page that is stale, or that names a command, an option, a make target or a file that is not there, ends the
build. Links to files of the repository outside of docs/ are checked, and shown in the site as their text: the
site is whole without the repository."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

from docs_generator import DOCS
from docs_generator.checks import LINK, problems
from docs_generator.pages import stale


def on_pre_build(config: Any) -> None:
    """Raises PluginError, with everything that is wrong."""
    found = [f"docs/{path} is stale: python -m docs_generator writes it" for path in stale()] + problems()
    if found:
        raise PluginError("\n  ".join(["the documentation says what is not so:", *found]))


def on_page_markdown(markdown: str, page: Any, **more: Any) -> str:
    """The page without links that lead out of the site."""
    folder = Path(page.file.abs_src_path).parent

    def without(found: re.Match[str]) -> str:
        target = found[1].partition("#")[0]
        if not target or re.match(r"[a-z]+:", target) or found[0].startswith("!"):
            return found[0]
        inside = (folder / target).resolve().is_relative_to(DOCS.resolve())
        return found[0] if inside else found[0][1 : found[0].rindex("](")]

    return LINK.sub(without, markdown)
