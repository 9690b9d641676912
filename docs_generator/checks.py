"""What a page says must be so: commands and options of canaryd, make targets, and links.

Links between pages of the site are checked by mkdocs itself (`strict`); here are those of README and
CONTRIBUTING, which are no pages of it, and those of pages to files of the repository."""

import re
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from canaryd.cli import COMMANDS
from docs_generator import DOCS, ROOT
from docs_generator.cli_page import command, context_of

NAMES = frozenset(name for section in COMMANDS.values() for name in section)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.M | re.S
)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(([^)\s]+)\)")
SHELLS = ("", "console", "sh", "shell", "bash", "text")
# Where a command begins: at the start of a line, behind another command, or below a folder.
CANARYD = re.compile(r"(?:^|[(;|&] *|/)(?:kubectl[ -])?canaryd +(?P<rest>[a-z-][^;|&>\n]*)")
MAKE = re.compile(r"(?:^|[(;|&] *)make +(?P<rest>[a-z][^;|&>\n]*)")


def markdown_files() -> list[Path]:
    """README, CONTRIBUTING, and all pages of the site."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def problems() -> list[str]:
    """What is said and is not so, each with its file and line."""
    targets = make_targets()
    found = []
    for path in markdown_files():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        found += [f"{name}:{line}: {why}" for line, why in said_wrongly(text, targets)]
        found += [f"{name}:{line}: {why}" for line, why in dead_links(path, text)]
    return found


def make_targets() -> frozenset[str]:
    """The targets of the Makefile."""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def said_wrongly(text: str, targets: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and problem of each command or make target that a page names and that is not there."""
    for line, commented in commands_in(text):
        code = re.sub(r"(?:^|\s)#.*", "", commented)
        for found in CANARYD.finditer(code):
            if why := _wrong_command(found["rest"]):
                yield line, why
        for found in MAKE.finditer(code):
            for word in _words(found["rest"]):
                if re.fullmatch(r"[a-z][a-z-]*", word) and word not in targets:
                    yield line, f"make {word}: the Makefile has no such target"


def commands_in(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of whatever is in a code font: fences of a shell, indented lines, and spans within a
    text. In a `console` fence only what is typed."""
    without = list(text)
    for fence in FENCE.finditer(text):
        for place in range(*fence.span()):
            if without[place] != "\n":
                without[place] = " "
        if fence["kind"] not in SHELLS:
            continue
        first = text.count("\n", 0, fence.start()) + 2
        lines = fence["text"].splitlines()
        for number, line in enumerate(lines):
            typed = (
                fence["kind"] != "console"
                or line.strip().startswith("$ ")
                or (number and lines[number - 1].endswith("\\"))
            )
            if typed:
                joined = line
                following = number
                while joined.endswith("\\") and following + 1 < len(lines):
                    following += 1
                    joined = joined[:-1] + " " + lines[following].strip()
                yield first + number, joined.strip().removeprefix("$ ")
    for number, line in enumerate("".join(without).splitlines(), start=1):
        if line.startswith("    ") and not line.lstrip().startswith(("-", "*", "|")):
            yield number, line.strip()
        for span in SPAN.finditer(line):
            yield number, span[1]


def _wrong_command(rest: str) -> str:
    """Why `canaryd REST` is none; empty where it is one, or only the name with something else behind it."""
    words = _words(rest)
    if not words or words[0].startswith("-"):
        return ""
    name = words[0].rstrip(".,:`")
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
        return ""
    if name not in NAMES:
        return f"canaryd {name}: there is no such command"
    known = {
        option
        for parameter in command(name).get_params(context_of(name))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in words[1:]:
        option = word.partition("=")[0].rstrip(".,:)`]").lstrip("[")
        if (
            re.fullmatch(r"--?[a-z][a-z-]*", option)
            and option not in known
            and not _short_ones(option, known)
        ):
            return f"canaryd {name} has no option {option}"
    return ""


def _words(command_line: str) -> list[str]:
    try:
        return shlex.split(command_line)
    except ValueError:  # an apostrophe, in what is no shell's
        return command_line.split()


def _short_ones(option: str, known: set[str]) -> bool:
    """Whether it is several short options together, such as -qy."""
    return not option.startswith("--") and all(f"-{letter}" in known for letter in option[1:])


def dead_links(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Line and problem of each link to a file of the repository that is not there, or to a heading that a
    page does not have. Links to the web are not followed."""
    blanked = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    blanked = SPAN.sub(lambda found: " " * len(found[0]) if "](" in found[0] else found[0], blanked)
    for link in LINK.finditer(blanked):
        target, _, anchor = link[1].partition("#")
        line = text.count("\n", 0, link.start()) + 1
        if re.match(r"[a-z]+:", target):
            continue
        to = (path.parent / target).resolve() if target else path
        if not to.exists():
            yield line, f"{link[1]} is not there"
        elif anchor and to.suffix == ".md" and anchor not in headings(to.read_text(encoding="utf-8")):
            yield line, f"{target or path.name} has no heading #{anchor}"


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as the site has them."""
    blanked = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    found: set[str] = set()
    for title in re.findall(r"^#+ +(.+?) *$", blanked, re.M):
        anchor = _slug(re.sub(r"[`*]|\[|\]\([^)]*\)", "", title))
        number, unique = 0, anchor
        while unique in found:
            number += 1
            unique = f"{anchor}_{number}"
        found.add(unique)
    return found


def _slug(title: str) -> str:
    """As Python-Markdown makes it, which is not there where the tests run."""
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
