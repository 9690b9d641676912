"""What was measured, in a file: a world that is done is kept there, and not run again on the same code.

Each entry holds the hash of the code that decides (how a rollout is simulated, and all of canaryd that this
imports), its own definition, and how many rollouts it is from; another hash, definition or number of rollouts
is another measurement. But for one thing: an entry also has the hash of what became of its first SAMPLE
rollouts. Where other code makes of them the same to the last digit, it is taken to decide as the code before
did, and the entry becomes its own (`Runner.measure`). What changes fewer than one rollout in SAMPLE may go
unseen so; `--fresh` measures all anew.
"""

import ast
import json
import os
import re
from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "measured.json"
SIMULATING = ("bench.rollouts", "bench.unlike_users")
SAMPLE = 20
ADDED_LATER = (
    "since=0",
    "limit=None",
    "outages=0.0",
    "lag=None",
    "warmup=None",
    "is_new=False",
    "cold_errors=0.0",
    "cold_seconds=120.0",
    "scale_out=0.0",
    "falls_to=0.0",
    "falls_after=0.0",
)

Entry = dict[str, Any]


def tree() -> str:
    """The hash of the code that decides."""
    found: set[Path] = set()
    unread = [*SIMULATING]
    while unread:
        path = ROOT / f"{unread.pop().replace('.', '/')}.py"
        if path not in found and path.exists():
            found.add(path)
            unread += _imported(path)
    digest = sha256()
    for path in sorted(found):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _imported(path: Path) -> list[str]:
    """Modules of canaryd, and names in them, which may be modules too."""
    imports = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    )
    return [
        name
        for node in imports
        if str(node.module).startswith("canaryd")
        for name in (str(node.module), *(f"{node.module}.{name.name}" for name in node.names))
    ]


class Results:
    """Entries by part and name, read from a file and written back after each change. Numbers that are not
    finite are kept as null.

    fresh: what is in the file is not taken for done, and stays until it is measured again.
    """

    def __init__(self, path: Path, fresh: bool = False) -> None:
        self.path, self.tree = path, tree()
        self.entries: dict[str, dict[str, Entry]] = {}
        self._fresh = fresh
        if path.exists():
            self.entries = json.loads(path.read_text())["parts"]

    def kept(self, part: str, name: str, runs: int, definition: str) -> Entry | None:
        """What was measured of just this; of which code, stands in it."""
        entry = self.entries.get(part, {}).get(name)
        if entry is None or self._fresh or (entry["runs"], entry["definition"]) != (runs, _short(definition)):
            return None
        return entry

    def keep(self, part: str, name: str, runs: int, definition: str, measured: Entry) -> Entry:
        entry = {**_finite(measured), "tree": self.tree, "runs": runs, "definition": _short(definition)}
        self.entries.setdefault(part, {})[name] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps({"parts": self.entries}, indent=1) + "\n")
        os.replace(beside, self.path)
        return entry

    def stale(self) -> list[str]:
        """What was measured on other code than there is now, as "part: name"."""
        return [
            f"{part}: {name}"
            for part, entry in self.entries.items()
            for name, result in entry.items()
            if result["tree"] != self.tree
        ]


def definition_of(case: object) -> str:
    """All that defines a case, without the names of the classes that hold it, and without what cases could
    not have before and this one has not: neither makes it another measurement."""
    text = re.sub(r"\b[A-Z]\w*\(", "(", repr(case))
    for unused in ADDED_LATER:
        text = text.replace(f", {unused}", "")
    return text


def sample(outcomes: Sequence[object]) -> str:
    """The hash of the first SAMPLE of them; so many there must be, or else it says nothing and is empty."""
    return _short(repr(list(outcomes[:SAMPLE]))) if len(outcomes) >= SAMPLE else ""


def _short(definition: str) -> str:
    return sha256(definition.encode()).hexdigest()[:12]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return (value if value.is_integer() else float(f"{value:.6g}")) if isfinite(value) else None
    return value
