"""How soon any test could give a healthy version all traffic: as computed by another program, and beside what
canaryd needs."""

from __future__ import annotations

import pytest

from bench import pace, power
from bench.least_pace import least_minutes, told_test
from bench.worlds import PACE, Case
from canaryd.simulation.simulated_rollout import USUAL_LAG
from canaryd.simulation.simulated_service import Scenario

CASES = {case.name: case for case in PACE}
BURSTS_OF_4 = CASES["50 requests/s, 0.5% errors in bursts of 4"]


@pytest.mark.parametrize(
    ("name", "median"),
    [
        ("50 requests/s, 0.5% errors", 6.5),
        ("50 requests/s, 0.5% errors in bursts of 4", 11.7),
        ("50 requests/s, 0.5% errors in bursts of 16", 34.7),
        ("1,000 requests/s, 0.5% errors in bursts of 16", 6.5),
        ("20 requests/s, 0.5% errors", 8.5),
    ],
)
def test_the_test_that_is_told_all_is_as_fast_as_in_an_independent_simulation(
    name: str, median: float
) -> None:
    """Medians of 4,000 ladders by a prototype that drew looks of all requests and settled once a stage."""
    assert told_test(CASES[name]).median == pytest.approx(median, rel=0.06)


def test_bursts_of_64_are_decided_by_no_test_before_a_deadline() -> None:
    told = told_test(CASES["50 requests/s, 0.5% errors in bursts of 64"])
    assert told.in_time == 0.0
    assert told.median == pytest.approx(45 + 20 / 60)  # three deadlines, and two looks at weights in change


def test_the_same_name_is_the_same_number() -> None:
    assert told_test(BURSTS_OF_4) == told_test(BURSTS_OF_4)


def test_the_least_mean_holds_minimums_and_settling_where_there_is_traffic_enough() -> None:
    rich = Case("rich", Scenario(requests=1e6), minimum="30s")
    assert least_minutes(rich) == pytest.approx((3 * 30 + 2 * 10) / 60)
    assert told_test(rich).in_time == 1.0
    assert least_minutes(BURSTS_OF_4) == pytest.approx(14.5, abs=0.1)
    assert least_minutes(Case("no errors", Scenario(requests=20.0, errors=0.0))) == pytest.approx(380 / 60)


def test_as_live_the_told_test_is_as_late_as_canaryd() -> None:
    late = 3 * (USUAL_LAG.settle + USUAL_LAG.late) - 2 * 10  # s, in place of a look after each change
    at_once, live = (Case("one", Scenario(), lag=lag) for lag in (None, USUAL_LAG))
    assert told_test(live).median - told_test(at_once).median == pytest.approx(late / 60)
    assert least_minutes(live) - least_minutes(at_once) == pytest.approx(late / 60)


def test_the_table_has_both_beside_what_canaryd_needs() -> None:
    entry = {"runs": 200, "median": 15.0, "by_90": 22.0}
    [table] = pace.tables({BURSTS_OF_4.name: entry, "50 requests/s, 0.5% errors in bursts of 64": entry})
    row, no_goal = table.rows
    assert row[:5] == (BURSTS_OF_4.name, "200", "15.0 min", "20.0 min", "22.0 min")
    assert float(row[7]) == pytest.approx(15.0 / told_test(BURSTS_OF_4).median, abs=0.005)
    assert no_goal[3] == "-"
    assert {len(line) for line in table.rows} == {len(table.heads)}
    never = pace.tables({BURSTS_OF_4.name: {"runs": 200, "median": None, "by_90": None}})[0].rows[0]
    assert never[7] == "-"


def test_harm_in_bursts_takes_any_test_as_many_times_as_long() -> None:
    alone = Case("alone", Scenario(canary_errors=6.0), climbing=False)
    bursts = Case("bursts", Scenario(canary_errors=6.0, burst=4), climbing=False)
    limits = [power.limit_of(case, power.TOLERATED, power.INCREASE) for case in (alone, bursts)]
    assert limits[1] == pytest.approx(4 * limits[0])
    entry = dict.fromkeys(("median", "mean", "by_90", "most", "hurt", "requests_mean"), 100.0)
    name = "errors 0.5% to 3%, in bursts of 4"
    [table] = power.tables({name: {**entry, "missed": 0.0, "runs": 100}})
    least = dict(zip(table.heads, table.rows[0], strict=True))
    assert least["least mean time of a test that tolerates as much"] == f"{limits[1] / 5:,.0f} s"
    slow = power.tables({name: {**entry, "requests_mean": 1e6, "missed": 0.0, "runs": 100}})
    assert "missed" not in slow[0].rows[0][-3], "what is promised is promised of independent failures"
