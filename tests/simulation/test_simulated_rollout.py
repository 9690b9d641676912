"""A rehearsed rollout ends as the real rules end it, with its times and requests counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from canaryd.domain.lifecycle import Signal
from canaryd.judge.judge import Judge
from canaryd.simulation.simulated_rollout import USUAL_LAG, End, Lag, SimulatedOutcome, rehearse
from canaryd.simulation.simulated_service import Scenario, SimulatedService
from tests.builders import a_policy

LAG = Lag(late=5, settle=7)
LADDER = [{"weight": weight, "minimum": "30s", "deadline": "2m"} for weight in (20, 50, 100)]


def rehearsed(longest: int = 2000, world: Scenario | None = None, **policy: Any) -> SimulatedOutcome:
    """Of a busy service, where everything is decided soon. policy: keys of its YAML."""
    made = a_policy(**{"stages": LADDER, "analysis": {"interval": "10s", "warmup": "0s"}, **policy})
    service = SimulatedService(world or Scenario(requests=400.0, errors=0.01), np.random.default_rng(3))
    history = service.history(40)
    return rehearse(made, Judge(made, history), service, LAG, longest)


def test_a_healthy_version_is_promoted_stage_by_stage() -> None:
    outcome = rehearsed()
    assert outcome.end is End.PROMOTED
    assert [visit.stage for visit in outcome.visits] == [0, 1, 2]
    assert {visit.signal for visit in outcome.visits} <= {Signal.PASS, Signal.LET_PASS}
    assert outcome.caught_in is None


def test_times_are_the_looks_with_what_settles_before_and_what_is_late_after() -> None:
    outcome = rehearsed()
    for visit in outcome.visits:
        assert visit.seconds == LAG.settle + 10 * visit.looks + LAG.late
        assert visit.looks >= 3
    assert outcome.seconds == sum(visit.seconds for visit in outcome.visits)
    assert outcome.looks == sum(visit.looks for visit in outcome.visits)


def test_requests_are_all_that_the_canary_served() -> None:
    """400 requests/s at the stage's weight, the settling and the late seconds included."""
    outcome = rehearsed()
    expected = sum(
        400 * weight / 100 * visit.seconds
        for weight, visit in zip((20, 50, 100), outcome.visits, strict=True)
    )
    assert outcome.canary_requests == pytest.approx(expected, rel=0.03)
    assert outcome.canary_failures == pytest.approx(0.01 * expected, rel=0.3)
    assert sum(visit.canary_requests for visit in outcome.visits) == outcome.canary_requests


def test_plain_harm_is_caught_in_the_first_stage() -> None:
    outcome = rehearsed(world=Scenario(requests=400.0, errors=0.01, canary_errors=10.0))
    assert (outcome.end, outcome.caught_in) == (End.CAUGHT, 0)
    assert [visit.signal for visit in outcome.visits] == [Signal.HARM]


@pytest.mark.parametrize(
    ("undecided", "end", "signal"),
    [
        ("hold", End.HELD, Signal.STUCK),
        ("rollback", End.GIVEN_UP, Signal.TIMED_OUT),
        ("advance", End.HELD, Signal.STUCK),
    ],
)
def test_a_quiet_service_ends_at_the_deadline_as_the_policy_says(
    undecided: str, end: End, signal: Signal
) -> None:
    """One request in five seconds is too few for anything, for `advance` too."""
    outcome = rehearsed(world=Scenario(requests=0.2), analysis={"interval": "10s", "undecided": undecided})
    assert outcome.end is end
    assert [visit.signal for visit in outcome.visits] == [signal]
    assert outcome.visits[0].seconds >= 120


def test_the_deadline_of_the_whole_rollout_ends_it() -> None:
    assert rehearsed(schedule={"deadline": "100s"}).end is End.OVERDUE


def test_approvals_are_given_at_once_and_queries_are_kept() -> None:
    stages = [{**LADDER[0], "approval": "required"}, *LADDER[1:]]
    metrics = [
        {"errors": {}},
        {"query": {"name": "cpu", "promql": "vector(1)", "max": 0.9}},
        {"query": {"name": "hits", "promql": "vector(1)", "min": 5.0}},
    ]
    assert rehearsed(stages=stages, analysis={"interval": "10s", "metrics": metrics}).end is End.PROMOTED


def test_a_version_that_is_worse_at_full_weight_alone_steps_back() -> None:
    """With nothing but full weight there is nothing to step back to."""
    stages = [{"weight": 100, "minimum": "30s"}]
    outcome = rehearsed(stages=stages, world=Scenario(requests=400.0, errors=0.01, canary_errors=10.0))
    assert (outcome.end, outcome.caught_in) == (End.CAUGHT, 0)
    assert outcome.visits[0].signal is Signal.ALARM


def test_what_takes_too_long_is_watched_no_further() -> None:
    outcome = rehearsed(longest=5)
    assert (outcome.end, outcome.looks) == (End.RUNNING, 5)
    assert outcome.visits[-1].signal is None


def test_the_lag_is_that_of_the_daemons_settings() -> None:
    assert Lag.of(scrape_interval=5.0, ingestion_delay=7.0, beat=2.0) == Lag(late=8, settle=6)
    assert Lag(late=18, settle=16) == USUAL_LAG


def test_no_alert_begins_to_fire() -> None:
    analysis = {"interval": "10s", "warmup": "0s", "alerts": {"matching": 'severity="page"'}}
    assert rehearsed(analysis=analysis).end is End.PROMOTED
