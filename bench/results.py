"""What was measured, in a file: a world that is done is kept there, and not run again on the same code.

Each entry holds the hash of the code that decides (canaryd's domain, stats and analysis, and how a rollout is simulated), its own
definition, and how many rollouts it is from; another hash, definition or number of rollouts is another measurement.
"""

import json
import os
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "measured.json"
DECIDES = ("canaryd/domain", "canaryd/stats", "canaryd/analysis", "bench/rollouts.py")

Entry = dict[str, Any]


def tree() -> str:
    """The hash of the code that decides."""
    files = [path for part in DECIDES for path in ([ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py")))]
    digest = sha256()
    for path in files:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Results:
    """Entries by part and name, read from a file and written back after each change. Numbers that are not finite are kept as null.

    fresh: what is in the file is not taken for done, and stays until it is measured again."""

    def __init__(self, path: Path, fresh: bool = False) -> None:
        self.path, self.tree = path, tree()
        self.entries: dict[str, dict[str, Entry]] = {}
        self._fresh = fresh
        if path.exists():
            self.entries = json.loads(path.read_text())["parts"]

    def kept(self, part: str, name: str, runs: int, definition: str) -> Entry | None:
        entry = self.entries.get(part, {}).get(name)
        if entry is None or self._fresh:
            return None
        wanted = self.tree, runs, _short(definition)
        return entry if (entry["tree"], entry["runs"], entry["definition"]) == wanted else None

    def keep(self, part: str, name: str, runs: int, definition: str, measured: Entry) -> Entry:
        entry = {"tree": self.tree, "runs": runs, "definition": _short(definition), **_finite(measured)}
        self.entries.setdefault(part, {})[name] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps({"parts": self.entries}, indent=1) + "\n")
        os.replace(beside, self.path)
        return entry

    def stale(self) -> list[str]:
        """What was measured on other code than there is now, as "part: name"."""
        return [f"{part}: {name}" for part, each in self.entries.items() for name, one in each.items() if one["tree"] != self.tree]


def _short(definition: str) -> str:
    return sha256(definition.encode()).hexdigest()[:12]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return (value if value.is_integer() else float(f"{value:.6g}")) if isfinite(value) else None
    return value
