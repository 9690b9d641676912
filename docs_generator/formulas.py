"""Formulas as MathML, which browsers draw by themselves: no script, no font, nothing from elsewhere.

A fence of the kind `math` is a formula of its own; `$a^2$` is one within a line.
"""

from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

# A dollar sign that opens a formula touches it, and so does the one that closes it: `$HOME and $PATH` is
# none.
INLINE = r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])"


def fence(source: str, language: str, css_class: str, options: Any, md: Any, **more: Any) -> str:
    """A formula of its own, as pymdownx.superfences asks for it: HTML. Raises ValueError for what is no
    LaTeX."""
    return f'<div class="{css_class}">{convert(source.strip(), display="block")}</div>'


class _Inline(InlineProcessor):
    def handleMatch(self, m: Any, data: str) -> tuple[str, int, int]:  # noqa: N802  (markdown's name)
        return self.md.htmlStash.store(convert(m.group(1))), m.start(0), m.end(0)


class Formulas(Extension):
    """The extension of Python-Markdown for formulas within a line."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  (markdown's name)
        md.inlinePatterns.register(_Inline(INLINE, md), "formula", 185)


def makeExtension(**options: Any) -> Formulas:  # noqa: N802  (markdown's name)
    """The extension, by the name that Python-Markdown looks for."""
    return Formulas(**options)
