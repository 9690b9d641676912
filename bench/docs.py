"""Writes what was measured into docs/benchmarks.md, and its six most important rows into the README: `python
-m bench.docs`, after `make bench`.

What stands outside of the markers is written by people. Exit code 1, and a list, when some of it was measured
on other code than there is now."""

import sys
from importlib import import_module
from pathlib import Path

from bench.results import MEASURED, ROOT, Entry, Results
from bench.tables import Table, how_many, minutes, seconds

README = ROOT / "README.md"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
BEGINS, ENDS = "<!-- measured: written by python -m bench.docs -->", "<!-- /measured -->"
# The parts in the order of the page: the heading, and the columns that it has room for (none: all).
SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "calibration": (
        "Healthy versions",
        (
            "healthy versions",
            "rollouts",
            "rolled back (exact 95% interval)",
            "full weight, median",
            "undecided",
        ),
    ),
    "pace": ("How fast a healthy version gets all traffic", ()),
    "power": (
        "Bad versions",
        (
            "bad versions",
            "median",
            "looks",
            "by 90%",
            "missed",
            "users hurt",
            "times that",
            "least mean time of a test that tolerates as much",
            "times that of a test that tolerates as much",
        ),
    ),
    "false_alarms": ("How rarely full weight alarms falsely", ()),
    "late": ("Faults that begin late", ()),
    "early": ("Versions that must not pass early", ()),
    "users": ("Users who stay on one version, and matched users", ()),
    "comparison": ("Compared with other rules", ()),
    "growthbook": ("Compared with GrowthBook's sequential test", ()),
}
PICTURES = {
    "odds.svg": "Odds against five versions over time",
    "delay.svg": "Canary requests until a worse version is rolled back, and the least of any test",
}


def measured(results: Results) -> str:
    """The part between the markers, in Markdown: of what is there."""
    blocks = []
    for part, (heading, heads) in SHOWN.items():
        module = import_module(f"bench.{part}")
        entries = {
            name: results.entries[part][name]
            for name in module.CASES
            if name in results.entries.get(part, {})
        }
        if entries:
            blocks += [f"## {heading}"]
            blocks += [
                (table.columns(*heads) if heads else table).markdown() for table in module.tables(entries)
            ]
    if rest := _rest(results.entries):
        blocks += [
            "## Speed, memory and delay",
            Table("On one machine", ("what", "measured"), rest).markdown(),
        ]
    # The pictures lie beside the results, and so does the page.
    there = {name: text for name, text in PICTURES.items() if (results.path.parent / name).exists()}
    if there:
        blocks += ["## Pictures", *(f"![{text}]({name})" for name, text in there.items())]
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


def promises(results: Results) -> str:
    """The README's table, in Markdown: a row for each promise, of what is there."""
    rows = []
    entries = results.entries

    def entry(part: str, name: str) -> Entry | None:
        return entries.get(part, {}).get(name)

    if result := entry("calibration", "independent errors"):
        rows.append(
            (
                "a healthy version is rolled back",
                "at most 1%",
                f"{how_many(result['rolled_back'], result)} of {result['runs']:,}",
            )
        )
    if result := entry("early", "errors 0.5% to 1%"):
        rows.append(
            (
                "a version with twice the errors passes a stage early",
                "at most 5%",
                f"{how_many(result['early'], result)} of {result['runs']:,}",
            )
        )
    if result := entry("pace", "50 requests/s, 0.5% errors"):
        rows.append(
            ("a healthy version has all traffic", "-", f"after {minutes(result['median'])} in the median")
        )
    if result := entry("power", "errors 1% to 3%"):
        rows.append(
            (
                "three times the errors (1% to 3%) at weight 10 is rolled back",
                "-",
                f"after {seconds(result['median'])} in the median, {result['hurt']:.0f} users hurt",
            )
        )
    if result := entry("late", "at weight 100"):
        rows.append(
            (
                "a fault at full weight (0.2% to 5% errors) is stepped back",
                "45 s",
                f"after {seconds(result['stepped_median'])} in the median, {seconds(result['stepped_most'])} "
                "at most",
            )
        )
    if result := entry("daemon", "delay"):
        rows.append(
            (
                "from the verdict to all traffic on stable",
                "-",
                f"{1000 * result['median']:.0f} ms in the median, {1000 * result['most']:.0f} ms at most",
            )
        )
    table = Table("", ("what", "promised", "measured"), rows).markdown()
    return table.partition("\n\n")[2]


def rewritten(page: str, block: str) -> str:
    """The page with this block between its markers. Raises ValueError where they are not there once each, in
    this order."""
    if page.count(BEGINS) != 1 or page.count(ENDS) != 1 or page.index(BEGINS) > page.index(ENDS):
        raise ValueError(f"the page must have {BEGINS} and then {ENDS}, once each")
    before, after = page.split(BEGINS)[0], page.split(ENDS)[1]
    return f"{before}{BEGINS}\n\n{block}\n\n{ENDS}{after}"


def main(benchmarks: Path = BENCHMARKS, readme: Path = README, path: Path = MEASURED) -> int:
    """Writes both. Exit code 0 where all was measured on the code that there is now."""
    if not path.exists():
        print(f"{path} is not there: make bench measures", file=sys.stderr)
        return 1
    results = Results(path)
    for page, block in ((benchmarks, measured(results)), (readme, promises(results))):
        page.write_text(rewritten(page.read_text(), block))
    stale = results.stale()
    if stale:
        print("measured on other code than there is now:", *stale, sep="\n  ", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
