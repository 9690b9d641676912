"""Runs cases on all cores, with the same outcomes on any number of them, and keeps what is done.

A part is a module with CASES (by name), `run(case, service)`, which is one rollout under way, and
`summary(case, outcomes)`, which gives what is kept of them. Where they are there: `counts(case, outcome)`
says which outcomes are wanted, and more are run then, up to MOST times as many; `service(case, rng)` makes
another service than the world's own; `runs(case)` says how many rollouts of it are enough.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bench.results import SAMPLE, Entry, Results, definition_of, sample
from bench.rollouts import Outcome, roll_out
from canaryd.simulation.simulated_service import Scenario, SimulatedService

CHUNK = 10  # rollouts in a job
MOST = 3  # times the wanted rollouts, where only some count


def service(world: Scenario, name: str, index: int) -> SimulatedService:
    """The index-th service of a world: the same whatever else is run, and whoever judges it."""
    return SimulatedService(world, seeded(name, index))


def seeded(name: str, index: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), index])


def run_some(part: str, name: str, indices: Sequence[int]) -> list[Outcome]:
    """In a process of its own."""
    module = import_module(f"bench.{part}")
    case = module.CASES[name]
    if hasattr(module, "service"):
        return roll_out(module.run(case, module.service(case, seeded(case.name, index))) for index in indices)
    return roll_out(module.run(case, service(case.world, case.name, index)) for index in indices)


@dataclass
class Runner:
    """only: what is in the names of the cases that are run; all if it is empty."""

    results: Results
    cores: int
    only: str = ""

    def measure(self, part: str, most: int) -> Iterator[tuple[str, Entry]]:
        """Each case's entry, as soon as it is there."""
        module = import_module(f"bench.{part}")
        with ProcessPoolExecutor(max_workers=self.cores) as pool:
            for name, case in module.CASES.items():
                definition = definition_of(case)
                if self.only not in name:
                    continue
                runs = min(most, module.runs(case)) if hasattr(module, "runs") else most
                entry = self.results.kept(part, name, runs, definition)
                if entry is None or not self._still_so(pool, part, name, entry):
                    began = time.perf_counter()
                    outcomes = self._outcomes(pool, part, name, runs)
                    measured = {
                        **module.summary(case, outcomes),
                        "sample": sample(outcomes),
                        "took": time.perf_counter() - began,
                    }
                    entry = self.results.keep(part, name, runs, definition, measured)
                elif entry["tree"] != self.results.tree:
                    entry = self.results.keep(part, name, runs, definition, entry)
                yield name, entry

    def _still_so(self, pool: ProcessPoolExecutor, part: str, name: str, entry: Entry) -> bool:
        """Whether the code that there is now decides as that which the entry was measured on."""
        if entry["tree"] == self.results.tree:
            return True
        return bool(entry.get("sample")) and entry["sample"] == sample(
            self._in_chunks(pool, part, name, range(SAMPLE))
        )

    def _outcomes(self, pool: ProcessPoolExecutor, part: str, name: str, runs: int) -> list[Outcome]:
        module: Any = import_module(f"bench.{part}")
        if not hasattr(module, "counts"):
            return self._in_chunks(pool, part, name, range(runs))
        outcomes: list[Outcome] = []
        # The first `runs` that count are taken, and what is between them: which those are does not depend on
        # the cores.
        while (
            sum(module.counts(module.CASES[name], outcome) for outcome in outcomes) < runs
            and len(outcomes) < MOST * runs
        ):
            outcomes += self._in_chunks(pool, part, name, range(len(outcomes), len(outcomes) + runs // 2 + 1))
        return outcomes

    def _in_chunks(self, pool: ProcessPoolExecutor, part: str, name: str, indices: range) -> list[Outcome]:
        chunks = [indices[first : first + CHUNK] for first in range(0, len(indices), CHUNK)]
        parts = pool.map(run_some, [part] * len(chunks), [name] * len(chunks), chunks)
        return [outcome for outcomes in parts for outcome in outcomes]
