"""canaryd and the sequential test of GrowthBook, by GrowthBook's own code (`gbstats`), on equal terms: the
same looks of the same seeded services at weight 10, the same tolerance, the same odds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bench.power import INCREASE, TOLERATED
from bench.results import Entry
from bench.rollouts import LADDER, Outcome, Rolling, excess, rolling
from bench.tables import Table, how_many, number, seconds, share
from bench.worlds import HOUR
from canaryd.domain.counts import HISTORY_LOOKS, total
from canaryd.simulation.monte_carlo_error import exact_interval, quantile
from canaryd.simulation.simulated_service import Scenario, SimulatedService

RUNS = 100
ODDS = (
    142.0  # to 1: where errors alone roll back by the default policy, latency having its share of the total
)
TUNING = 5000.0  # GrowthBook's own default: the number of requests at which its test is sharpest
AT_ONCE = 30  # looks that are drawn together
OURS, THEIRS = "canaryd", "GrowthBook"

HEALTHY = {
    "independent errors": Scenario(),
    "errors in bursts of 4": Scenario(burst=4),
    "errors in bursts of 16": Scenario(burst=16),
}
BAD = {
    "errors 0.5% to 3%": Scenario(canary_errors=6.0),
    "errors 0.5% to 3%, in bursts of 4": Scenario(canary_errors=6.0, burst=4),
    "errors 5% to 7%": Scenario(errors=0.05, canary_errors=1.4),
    "errors 0.5% to 1%": Scenario(canary_errors=2.0),
}


@dataclass(frozen=True)
class Match:
    """A world, and who judges it. name: the world's, by which seeds go."""

    name: str
    world: Scenario
    judged_by: str


CASES = {
    f"{name} | {judge}": Match(name, world, judge)
    for name, world in (HEALTHY | BAD).items()
    for judge in (OURS, THEIRS)
}


def missing() -> str:
    """Why this part cannot run here; empty if it can."""
    return "" if find_spec("gbstats") else "gbstats is not there: make bench installs it"


@dataclass
class GrowthBook:
    """Its sequential test of two proportions (`SequentialTwoSidedTTest`), over all requests so far.

    odds: what the test has to reach, as 1 / p; GrowthBook's p value is 1 over an e-value, so that its odds
    may be looked at at every look, as canaryd's. Tolerated is the looser of a ratio and of an increase, so
    both have to be rejected: relative to `TOLERATED`, and by difference to `INCREASE`.
    """

    odds: float = ODDS
    stable_requests: int = 0
    stable_failures: int = 0
    canary_requests: int = 0
    canary_failures: int = 0

    def look(self, stable: tuple[int, int], canary: tuple[int, int]) -> bool:
        """One more look, requests and failures of each version: whether it is rolled back."""
        self.stable_requests += stable[0]
        self.stable_failures += stable[1]
        self.canary_requests += canary[0]
        self.canary_failures += canary[1]
        return self._rejects("relative", TOLERATED - 1.0) and self._rejects("absolute", INCREASE)

    def _rejects(self, difference: str, tolerated: float) -> bool:
        from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
        from gbstats.models.statistics import ProportionStatistic

        if not self.stable_requests or not self.canary_requests:
            return False
        config = SequentialConfig(
            difference_type=difference,
            alpha=1 / self.odds,
            test_value=tolerated,
            sequential_tuning_parameter=TUNING,
        )
        result = SequentialTwoSidedTTest(
            ProportionStatistic(n=self.stable_requests, sum=self.stable_failures),
            ProportionStatistic(n=self.canary_requests, sum=self.canary_failures),
            config,
        ).compute_result()
        return bool(result.expected > tolerated and result.p_value <= 1 / self.odds)


def run(match: Match, service: SimulatedService) -> Rolling:
    """At weight 10 for an hour, or until it is rolled back."""
    if match.judged_by == OURS:
        return (yield from rolling(service, climbing=False, longest=HOUR))
    return _theirs(match, service)


def _theirs(match: Match, service: SimulatedService) -> Outcome:
    service.history(HISTORY_LOOKS)
    test, began, served, hurt = GrowthBook(), service.now, 0, 0.0
    for first in range(0, HOUR, AT_ONCE):
        for place, look in enumerate(service.looks(LADDER[0], AT_ONCE), start=first + 1):
            stable, canary = total(look.stable.values()), total(look.canary.values())
            served += canary.requests
            hurt += canary.requests * excess(match.world)
            if test.look((stable.requests, stable.failures), (canary.requests, canary.failures)):
                return Outcome(
                    "rolled back", place, look.end - began, fault=0, canary_requests=served, hurt=hurt
                )
    return Outcome("watched", HOUR, service.now - began, fault=0, canary_requests=served, hurt=hurt)


def summary(match: Match, outcomes: Sequence[Outcome]) -> Entry:
    """Delays in seconds, of all: those that were missed count as never."""
    delays = [outcome.delay for outcome in outcomes]
    back = sum(outcome.rolled_back for outcome in outcomes)
    low, high = exact_interval(back, len(outcomes))
    return {
        "rolled_back": back,
        "low": low,
        "high": high,
        "median": quantile(delays, 0.5),
        "by_90": quantile(delays, 0.9),
        "hurt": float(np.mean([outcome.hurt for outcome in outcomes])),
    }


def reached(name: str, entry: Entry) -> bool:
    """Nothing is promised here; what canaryd promises is in the other tables."""
    return True


NOTES = (
    f"Both look every 10 s for an hour at weight 10, tolerate {TOLERATED - 1:.0%} and {100 * INCREASE:g} "
    f"percentage points more, the looser of both, and roll back at {ODDS:g} to 1.",
    "GrowthBook's test (gbstats 0.8.0, SequentialTwoSidedTTest, tuning parameter 5,000) assumes that each "
    "request fails independently of every other, and that there are enough of them for a normal "
    "approximation. Of stable's past it needs nothing.",
    "canaryd assumes that failures come in no larger bursts, and hang together no longer, than stable's past "
    "shows; it also judges latency, which has its share of the total odds.",
)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    """Healthy worlds and bad ones: a row for each world, with what each test did there."""
    found = []
    for worlds, what, title, cell in (
        (
            HEALTHY,
            "healthy versions",
            "canaryd and GrowthBook's own code on equal terms: healthy versions that are rolled back within "
            "an hour (exact 95% interval)",
            lambda entry: f"{how_many(entry['rolled_back'], entry)} of {entry['runs']:,}",
        ),
        (
            BAD,
            "bad versions",
            "canaryd and GrowthBook's own code on equal terms: bad versions that are caught within an hour, "
            "after how long (median; 90%), and how many users are hurt",
            lambda entry: (
                f"{share(entry['rolled_back'] / entry['runs'])}, {seconds(entry['median'])}; "
                f"{seconds(entry['by_90'])}, {number(entry['hurt'])} hurt"
            ),
        ),
    ):
        rows = [
            (
                name,
                *(
                    cell(entries[key]) if (key := f"{name} | {judge}") in entries else "-"
                    for judge in (OURS, THEIRS)
                ),
            )
            for name in worlds
            if any(f"{name} | {judge}" in entries for judge in (OURS, THEIRS))
        ]
        if rows:
            found.append(Table(title, (what, OURS, THEIRS), rows, NOTES if worlds is BAD else ()))
    return found
