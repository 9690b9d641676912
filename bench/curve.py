"""Delay against the size of what is wrong: the same as `power`, over a range of error rates, for the
picture."""

from collections.abc import Mapping

from bench.power import limits_of
from bench.power import run as run
from bench.power import summary as summary
from bench.results import Entry
from bench.tables import Table, number
from bench.worlds import HOUR, Case
from canaryd.simulation.simulated_service import Scenario

RUNS = 100
RATIOS = (1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0)
CASES = {
    name: Case(name, Scenario(errors=0.01, canary_errors=ratio), climbing=False, longest=HOUR)
    for name, ratio in ((f"errors 1% to {ratio:g}%", ratio) for ratio in RATIOS)
}


def reached(name: str, entry: Entry) -> bool:
    """`power` has the goals."""
    return True


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    rows = [
        (name, number(entry["requests_mean"]), *map(number, limits_of(CASES[name])))
        for name, entry in entries.items()
    ]
    return [
        Table(
            "Canary requests at weight 10 until rolled back, by how much is wrong",
            ("effect", "mean", "least of any test", "least of a test that tolerates as much"),
            rows,
        )
    ]
