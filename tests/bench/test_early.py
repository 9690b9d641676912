"""Unacceptable versions that pass early: when one does, how many may, and how it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import early
from bench.rollouts import Outcome, roll_out
from bench.running import service
from canaryd.simulation.simulated_service import Scenario

CAUGHT, KEPT = Outcome("rolled back", 30, 300), Outcome("watched", 90, 900)
PASSED = Outcome("watched", 90, 900, full=450)


def test_early_is_before_the_stage_s_deadline_and_what_passed_counts_also_if_it_was_rolled_back_then() -> (
    None
):
    """10 of 100 are 4.9% to 17.6% (Clopper and Pearson's table)."""
    at_the_deadline, back_from_full = replace(PASSED, full=900), replace(CAUGHT, full=120)
    entry = early.summary(
        early.UNACCEPTABLE[0],
        [*[PASSED] * 9, back_from_full, *[at_the_deadline] * 20, *[KEPT] * 30, *[CAUGHT] * 40],
    )
    assert entry["early"] == 10
    assert (entry["low"], entry["high"]) == pytest.approx((0.049, 0.176), abs=5e-4)
    assert entry["caught"] == pytest.approx(0.41)


@pytest.mark.parametrize(
    ("passed", "shown"),
    [(10, "10 (4.9% to 17.6%)"), (11, "11 (5.6% to 18.8%) (missed)"), (0, "0 (0.0% to 3.6%)")],
)
def test_five_per_cent_may_pass_and_what_is_more_for_sure_is_marked(passed: int, shown: str) -> None:
    """Clopper and Pearson's table for 100 rollouts; 1 - 0.025^(1/100) is 3.6%."""
    name = "errors 0.5% to 1%"
    entry = early.summary(early.CASES[name], [*[PASSED] * passed, *[CAUGHT] * (100 - passed)])
    assert early.reached(name, entry) is ("missed" not in shown)
    [table] = early.tables({name: {**entry, "runs": 100}})
    assert table.rows == [(name, "100", shown, f"{100 - passed}.0%" if passed else "100.0%")]
    assert "deadline of 15 minutes; to reach: at most 5%" in table.title
    assert len(table.heads) == len(table.rows[0])


def test_from_half_of_the_traffic_the_next_weight_is_all_of_it_and_it_is_watched_until_the_deadline() -> None:
    """A good version of a busy service passes; of one with a request in ten seconds nothing is known in a
    quarter of an hour."""
    busy, idle = (
        replace(early.UNACCEPTABLE[0], world=Scenario(requests=requests)) for requests in (2000.0, 0.1)
    )
    [passed, unknown] = roll_out(early.run(case, service(case.world, "early", 0)) for case in (busy, idle))
    assert passed.full is not None
    assert 120 <= passed.full < 300
    assert (unknown.full, unknown.seconds) == (None, 900)
    _, look = next(early.run(busy, service(busy.world, "early", 0)))
    served = [sum(one.requests for one in version.values()) for version in (look.stable, look.canary)]
    assert served == pytest.approx([10_000, 10_000], rel=0.05)
