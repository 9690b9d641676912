"""Writes what was measured into the README, between two markers: `python -m bench.readme`, after `make
bench`.

Exit code 1, and a list, when some of it was measured on other code than there is now.
"""

import sys
from importlib import import_module
from pathlib import Path

from bench.results import MEASURED, ROOT, Entry, Results
from bench.tables import Table

README = ROOT / "README.md"
BEGINS, ENDS = "<!-- measured: written by python -m bench.readme -->", "<!-- /measured -->"
# The parts in the order of the README, and the columns that it has room for.
SHOWN = {
    "calibration": (
        "healthy versions",
        "rollouts",
        "rolled back (exact 95% interval)",
        "full weight, median",
        "undecided",
    ),
    "pace": ("pace", "rollouts", "median", "to reach"),
    "power": (
        "bad versions",
        "median",
        "looks",
        "by 90%",
        "missed",
        "users hurt",
        "times that",
        "times that of a test that tolerates as much",
    ),
    "late": (),
    "early": (),
    "users": (),
    "comparison": (),
}
PICTURES = {
    "odds.svg": "Odds against five versions over time",
    "delay.svg": "Canary requests until a worse version is rolled back, and the least of any test",
}


def measured(results: Results) -> str:
    """The part between the markers, in Markdown: of what is there."""
    blocks = []
    for part, heads in SHOWN.items():
        module = import_module(f"bench.{part}")
        entries = {
            name: results.entries[part][name]
            for name in module.CASES
            if name in results.entries.get(part, {})
        }
        if entries:
            blocks += [
                (table.columns(*heads) if heads else table).markdown() for table in module.tables(entries)
            ]
    if rest := _rest(results.entries):
        blocks.append(Table("The rest", ("what", "measured"), rest).markdown())
    # Beside the results, which lie beside the README or below it.
    folder = results.path.parent
    pictures = [(words, folder / name) for name, words in PICTURES.items() if (folder / name).exists()]
    blocks += [
        f"![{words}]({path.relative_to(README.parent) if path.is_relative_to(README.parent) else path})"
        for words, path in pictures
    ]
    return "\n\n".join(blocks)


def _rest(parts: dict[str, dict[str, Entry]]) -> list[tuple[str, str]]:
    rows = []
    if speed := parts.get("speed", {}).get("one core"):
        looks = f"{speed['looks_per_second']:,.0f} looks/s, on {speed['machine']}"
        rows.append((f"judging, errors and {speed['joined']} latency bounds, one core", looks))
    if memory := parts.get("daemon", {}).get("memory"):
        rows.append(
            (
                f"daemon memory with {memory['runs']} rollouts under way, at most",
                f"{memory['highest']:.0f} MB",
            )
        )
    for part, name, where in (
        ("daemon", "delay", "the sandbox's API server"),
        ("real", "api", "a real API server"),
        ("real", "envoy", "a real Envoy, by istiod"),
    ):
        if delay := parts.get(part, {}).get(name):
            numbers = f"{1000 * delay['median']:.0f} ms in the median, {1000 * delay['most']:.0f} ms at most"
            rows.append(
                (f"from verdict to all weight on stable in {where}, {delay['runs']} rollbacks", numbers)
            )
    return rows


def rewritten(readme: str, block: str) -> str:
    """The README with this block between its markers. ValueError where they are not there once each, in this
    order."""
    if readme.count(BEGINS) != 1 or readme.count(ENDS) != 1 or readme.index(BEGINS) > readme.index(ENDS):
        raise ValueError(f"the README must have {BEGINS} and then {ENDS}, once each")
    before, after = readme.split(BEGINS)[0], readme.split(ENDS)[1]
    return f"{before}{BEGINS}\n\n{block}\n\n{ENDS}{after}"


def main(readme: Path = README, path: Path = MEASURED) -> int:
    if not path.exists():
        print(f"{path} is not there: make bench measures", file=sys.stderr)
        return 1
    results = Results(path)
    readme.write_text(rewritten(readme.read_text(), measured(results)))
    stale = results.stale()
    if stale:
        print("measured on other code than there is now:", *stale, sep="\n  ", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
