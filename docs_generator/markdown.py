"""Markdown in small pieces, which every generated page is made of."""

from collections.abc import Iterable, Sequence

WRITTEN = (
    "<!-- Written by python -m docs_generator: a change goes into the code that this page is made from. -->"
)


def page(title: str, *blocks: str) -> str:
    """A page with its title, and the note that it is not written by hand."""
    return (
        "\n\n".join([f"# {title}", WRITTEN, *(block.strip("\n") for block in blocks if block.strip())]) + "\n"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a pipe or a line break within a cell is kept from ending it."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (heads, *rows)]
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([shown[0], "|" + "---|" * len(heads), *shown[1:]])


def code(text: str) -> str:
    """In a code font; nothing where there is nothing."""
    return f"`{text}`" if text else ""


def plain(text: str) -> str:
    """A text that is not Markdown: what could be read as a tag, a formula or emphasis is none."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("$", "\\$").replace("_", "\\_")
