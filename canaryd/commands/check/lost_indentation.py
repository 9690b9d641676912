"""Files whose indentation was lost, as when they are copied from a web page, and the document as it was
meant.

The lines are put together again by what Istio's and Kubernetes' keys may hold (`SHAPES`), not by their
indentation: `name` belongs to `metadata`, `hosts` to `spec`, `regex` to the header before it. Only for plain
YAML, a key or an item on each line; anything else is left as it is (None). Nothing is decided by this: it is
shown to the reader, and looked at instead of a document that cannot be read.
"""

import re
from dataclasses import dataclass, field
from typing import Any

Shape = Any
"""A dict: these keys, each with its shape. A list with one: items of this shape. ANY: any key (of shape
`ANY[key]`). VALUE: a scalar."""

VALUE: Shape = ""
ITEMS: Shape = [VALUE]


@dataclass(frozen=True)
class AnyKey:
    """A map whose keys are the author's own words."""

    of: Shape = VALUE


STRING_MATCH: Shape = {"exact": VALUE, "prefix": VALUE, "regex": VALUE}
DESTINATION: Shape = {"host": VALUE, "subset": VALUE, "port": {"number": VALUE}}
CHANGES: Shape = {"set": AnyKey(), "add": AnyKey(), "remove": ITEMS}
HEADERS: Shape = {"request": CHANGES, "response": CHANGES}
MATCH: Shape = {
    "name": VALUE,
    "uri": STRING_MATCH,
    "scheme": STRING_MATCH,
    "method": STRING_MATCH,
    "authority": STRING_MATCH,
    "headers": AnyKey(STRING_MATCH),
    "queryParams": AnyKey(STRING_MATCH),
    "withoutHeaders": AnyKey(STRING_MATCH),
    "port": VALUE,
    "sourceLabels": AnyKey(),
    "gateways": ITEMS,
    "ignoreUriCase": VALUE,
    "sourceNamespace": VALUE,
}
HTTP: Shape = {
    "name": VALUE,
    "match": [MATCH],
    "route": [{"destination": DESTINATION, "weight": VALUE, "headers": HEADERS}],
    "mirror": DESTINATION,
    "mirrorPercentage": {"value": VALUE},
    "timeout": VALUE,
    "headers": HEADERS,
    "retries": {"attempts": VALUE, "perTryTimeout": VALUE, "retryOn": VALUE},
    "rewrite": {"uri": VALUE, "authority": VALUE},
}
METADATA: Shape = {"name": VALUE, "namespace": VALUE, "labels": AnyKey(), "annotations": AnyKey()}
SHAPES: dict[str, Shape] = {
    "VirtualService": {"hosts": ITEMS, "gateways": ITEMS, "exportTo": ITEMS, "http": [HTTP]},
    "DestinationRule": {"host": VALUE, "exportTo": ITEMS, "subsets": [{"name": VALUE, "labels": AnyKey()}]},
    "Gateway": {
        "selector": AnyKey(),
        "servers": [
            {
                "port": {"number": VALUE, "name": VALUE, "protocol": VALUE},
                "hosts": ITEMS,
                "tls": {"mode": VALUE, "credentialName": VALUE, "httpsRedirect": VALUE},
            }
        ],
    },
}
_LINE = re.compile(r"(?P<key>[A-Za-z0-9_./\"'-]+):(?:\s+(?P<value>.*))?")


@dataclass(frozen=True)
class Line:
    """One line of a document. number: from 1, in the file; indent: columns before its first word; items:
    dashes that stand before it."""

    number: int
    indent: int
    items: int
    key: str
    value: str


@dataclass
class _Open:
    """A map or list that further lines may belong to. line: the one that opened it."""

    shape: Shape
    holds: Any
    line: Line | None
    keys: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Restored:
    """data: the document as it was meant, values as written. misplaced: (line, the line it belongs below),
    first to last."""

    kind: str
    data: dict[str, Any]
    misplaced: tuple[tuple[Line, Line], ...]


def lines_of(text: str, first: int = 1) -> list[Line] | None:
    """The lines of a document without comments and blanks; None for what is no plain YAML. first: the number
    of its first line."""
    found = []
    for number, raw in enumerate(text.splitlines(), start=first):
        stripped = raw.strip()
        if not stripped or stripped.startswith(("#", "---", "...")):
            continue
        items, rest = 0, stripped
        while rest == "-" or rest.startswith("- "):
            items, rest = items + 1, rest[1:].lstrip()
        match = _LINE.fullmatch(rest)
        value = _uncommented((match["value"] if match else rest) or "")
        if "\t" in raw or (value[:1] in ("|", ">", "&", "*", "{", "[") and value not in ("{}", "[]")):
            return None
        key = match["key"].strip("\"'") if match else ""
        if not match and not items:
            return None
        found.append(Line(number, len(raw) - len(raw.lstrip()), items, key, value))
    return found


def _uncommented(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[: end + 1] if end > 0 else value
    return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


def restored(text: str, first: int = 1) -> Restored | None:
    """A document put together by what its keys mean; None where that cannot be told. first: as in
    `lines_of`."""
    lines = lines_of(text, first)
    kind = next((line.value for line in lines or () if line.key == "kind"), "")
    if not lines or kind not in SHAPES:
        return None
    data: dict[str, Any] = {}
    shape = {"apiVersion": VALUE, "kind": VALUE, "metadata": METADATA, "spec": SHAPES[kind]}
    stack = [_Open(shape, data, None)]
    misplaced: list[tuple[Line, Line]] = []
    for line in lines:
        place = _place(stack, line)
        if place is None:
            return None
        above = _put(stack, place, line)
        if above is not None and not _is_below(line, above):
            misplaced.append((line, above))
    return Restored(kind, data, tuple(misplaced))


def _is_below(line: Line, above: Line) -> bool:
    """Whether the indentation says that a line belongs to another. An item may stand at the column of the key
    that holds the list."""
    start = above.indent + 2 * above.items
    return line.indent > start or (line.indent == start and line.items > 0)


def _place(stack: list[_Open], line: Line) -> int | None:
    """The innermost of what is open that may hold this line. A map of free words comes last: a known key is
    no header's name."""
    free = None
    for depth in range(len(stack) - 1, -1, -1):
        shape = stack[depth].shape
        if isinstance(shape, AnyKey):
            free = depth if free is None and line.key and not line.items else free
        elif isinstance(shape, list):
            if line.items and _fits(shape[0], line):
                return depth
        elif not line.items and line.key in shape:
            if line.key in stack[depth].holds and depth:
                continue  # it has one already: this is another's
            return free if free is not None and _is_word(stack[free], stack[depth], line) else depth
    return free


def _is_word(free: _Open, known: _Open, line: Line) -> bool:
    """Whether a key that `known` has a place for is a word of `free` all the same, since the indentation says
    so: a header called `uri`."""
    below = free.line is not None and line.indent > free.line.indent + 2 * free.line.items
    return below and not any(key.indent + 2 * key.items >= line.indent for key in known.keys)


def _fits(item: Shape, line: Line) -> bool:
    return line.key in item if isinstance(item, dict) else not line.key


def _put(stack: list[_Open], place: int, line: Line) -> Line | None:
    """Adds a line where it belongs, and opens what it begins; the line that it stands below."""
    del stack[place + 1 :]
    here = stack[place]
    above = here.line
    if isinstance(here.shape, list):
        item: Any = {} if line.key else _scalar(line.value)
        here.holds.append(item)
        if not line.key:
            return above
        here = _Open(here.shape[0], item, Line(line.number, line.indent, 0, "-", ""))
        stack.append(here)
    shape = here.shape.of if isinstance(here.shape, AnyKey) else here.shape[line.key]
    here.keys.append(line)
    if line.value and line.value not in ("{}", "[]"):
        here.holds[line.key] = _scalar(line.value)
        return above
    inside: Any = [] if isinstance(shape, list) else {}
    here.holds[line.key] = inside
    if not isinstance(shape, str):
        stack.append(_Open(shape, inside, line))
    return above


def _scalar(text: str) -> Any:
    """A plain scalar as YAML has it: quotes off, whole numbers and booleans as what they are."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        return inner.replace('\\"', '"').replace("\\\\", "\\") if text[0] == '"' else inner.replace("''", "'")
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text
