"""A plan is the same for the same seed, whatever runs it; its numbers are counted right, and what does not
fit is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from canaryd.commands.plan import forecast as planning
from canaryd.commands.plan import text as plan_text
from canaryd.commands.plan.forecast import (
    Forecast,
    Job,
    Quantiles,
    Regression,
    Share,
    plan_of,
    regression_of,
    rehearsals,
    usual_regressions,
)
from canaryd.commands.plan.policy_warnings import is_unacceptable, notes, warnings
from canaryd.domain.lifecycle import Signal
from canaryd.domain.policy.policy import Policy
from canaryd.simulation.simulated_rollout import End, SimulatedOutcome, Visit
from canaryd.simulation.simulated_service import ISTIO_BOUNDS, Scenario, SimulatedService
from canaryd.simulation.traffic_profile import Given, TrafficProfile, as_given, measured
from tests.builders import a_policy

STAGES = [{"weight": weight, "minimum": "30s", "deadline": "2m"} for weight in (20, 100)]
BUSY = as_given(Given(rate=400.0, errors=0.01, median_ms=60.0, replicas=3))
THREE, SLOW = Regression("errors", 3.0), Regression("latency", 1.5)


def a_ladder(**changes: Any) -> Policy:
    analysis = {"interval": "10s", "warmup": "0s", **changes.pop("analysis", {})}
    return a_policy(**{"stages": STAGES, "analysis": analysis, **changes})


def reversing(
    function: Callable[[Job], tuple[SimulatedOutcome, ...]], jobs: Iterable[Job]
) -> Iterable[tuple[SimulatedOutcome, ...]]:
    """Runs the last job first, and answers in order, as a pool may."""
    return list(reversed([function(job) for job in reversed(list(jobs))]))


def an_outcome(
    *visits: tuple[int, Signal | None, int], end: End = End.PROMOTED, requests: int = 100, failures: int = 1
) -> SimulatedOutcome:
    """visits: stage, signal, seconds."""
    made = tuple(Visit(stage, signal, seconds, 3, requests) for stage, signal, seconds in visits)
    return SimulatedOutcome(
        end, made, sum(visit.seconds for visit in made), 3 * len(made), requests, failures
    )


def a_plan(
    policy: Policy | None = None,
    traffic: TrafficProfile = BUSY,
    healthy: list[SimulatedOutcome] | None = None,
    worse: dict[Regression, list[SimulatedOutcome]] | None = None,
) -> Forecast:
    good = healthy or [an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60))] * 10
    worse = worse or {}
    return plan_of(
        policy or a_ladder(), traffic, list(worse), 1, list(zip(good, *worse.values(), strict=True))
    )


# ---------------------------------------------------------------- rehearsals


def test_the_same_seed_is_the_same_plan_whatever_runs_it() -> None:
    """And more rollouts begin with the same ones."""
    policy = a_ladder()
    one, other = (
        rehearsals(policy, BUSY, [THREE], 5, rollouts, run=run)
        for rollouts, run in ((2, map), (3, reversing))
    )
    assert one == other[:2]
    assert one != rehearsals(policy, BUSY, [THREE], 6, 2)


def test_a_healthy_version_passes_and_a_worse_one_is_caught() -> None:
    results = rehearsals(a_ladder(), BUSY, [Regression("errors", 5.0), Regression("latency", 2.0)], 5, 2)
    assert [[one.end for one in result] for result in results] == [[End.PROMOTED, End.CAUGHT, End.CAUGHT]] * 2


def test_long_rollouts_are_begun_in_smaller_number_unless_a_number_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "LOOKS", 5)
    monkeypatch.setattr(planning, "ROUND", 2)

    def quick(
        function: Callable[[Job], tuple[SimulatedOutcome, ...]], jobs: Iterable[Job]
    ) -> Iterable[tuple[SimulatedOutcome, ...]]:
        return [(an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60)),) for _ in jobs]

    assert len(rehearsals(a_ladder(), BUSY, [], 5, run=quick)) == 2
    assert len(rehearsals(a_ladder(), BUSY, [], 5, 3, run=quick)) == 3


def test_progress_is_told_rollout_by_rollout() -> None:
    told: list[tuple[int, int]] = []
    rehearsals(a_ladder(), BUSY, [], 5, 2, done=lambda number, of: told.append((number, of)))
    assert told == [(1, 2), (2, 2)]


def test_a_callers_telemetry_has_one_replica() -> None:
    seen: list[Job] = []

    def noting(
        function: Callable[[Job], tuple[SimulatedOutcome, ...]], jobs: Iterable[Job]
    ) -> Iterable[tuple[SimulatedOutcome, ...]]:
        seen.extend(jobs)
        return [(an_outcome((0, Signal.PASS, 50)),)] * len(seen)

    rehearsals(a_ladder(analysis={"reporter": "source"}), BUSY, [], 5, 1, run=noting)
    assert seen[0].worlds[0].replicas == 1


# ---------------------------------------------------------------- regressions


@pytest.mark.parametrize(
    ("text", "regression"),
    [
        ("errors=3x", Regression("errors", 3.0)),
        ("errors=2%", Regression("errors", share=0.02)),
        ("latency=1.5x", Regression("latency", 1.5)),
    ],
)
def test_a_regression_is_read_as_people_write_it(text: str, regression: Regression) -> None:
    assert regression_of(text) == regression


@pytest.mark.parametrize(
    "text",
    [
        "",
        "errors",
        "errors=3",
        "errors=x",
        "latency=20%",
        "memory=2x",
        "errors=1x",
        "latency=0.5x",
        "errors=-2x",
        "errors=5000x",
        "errors=infx",
        "errors=two%",
    ],
)
def test_what_is_no_regression_is_refused_with_what_came(text: str) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        regression_of(text)
    assert repr(text) in str(refused.value) or text.partition("=")[2] in str(refused.value)


@pytest.mark.parametrize(
    ("regression", "traffic", "said"),
    [
        (Regression("errors", 200.0), BUSY, "at most 100%, but is 200%"),
        (Regression("errors", share=0.005), BUSY, "more than the 1.0% errors that stable has"),
        (Regression("errors", 2.0), as_given(Given(errors=0.0)), "say it as errors=1%"),
    ],
)
def test_a_regression_that_this_traffic_cannot_have_is_refused(
    regression: Regression, traffic: TrafficProfile, said: str
) -> None:
    with pytest.raises(ValueError, match="must be more") as refused:
        rehearsals(a_ladder(), traffic, [regression], 1, 1)
    assert said in str(refused.value)


def test_the_usual_regressions_are_of_what_the_policy_judges() -> None:
    assert [str(usual_regression) for usual_regression in usual_regressions(a_ladder(), BUSY)] == [
        "errors 1.5x",
        "errors 2x",
        "errors 3x",
        "errors 5x",
        "latency 1.25x",
        "latency 1.5x",
        "latency 2x",
    ]
    only = a_ladder(analysis={"metrics": [{"latency": {}}]})
    assert {usual_regression.metric for usual_regression in usual_regressions(only, BUSY)} == {"latency"}
    silent = usual_regressions(a_ladder(), as_given(Given(errors=0.0)))
    assert [str(one) for one in silent][:4] == ["errors 0.5%", "errors 1.0%", "errors 2.0%", "errors 5.0%"]


@pytest.mark.parametrize(
    ("regression", "unacceptable"),
    [
        (Regression("errors", 1.5), False),
        (Regression("errors", 2.0), True),
        (Regression("errors", share=0.019), False),
        (Regression("latency", 1.2), False),
        (Regression("latency", 1.25), True),
    ],
)
def test_unacceptable_is_what_the_policy_says(regression: Regression, unacceptable: bool) -> None:
    """By default twice stable's errors and half a percentage point more, whichever is looser; 25% slower."""
    assert is_unacceptable(a_ladder(), 0.01, regression) is unacceptable


# ---------------------------------------------------------------- what is counted


def test_a_stage_s_time_is_until_it_goes_on_and_never_for_what_is_held() -> None:
    went = [an_outcome((0, Signal.PASS, seconds), (1, Signal.PASS, 60)) for seconds in (50, 60, 70)]
    held = [an_outcome((0, Signal.STUCK, 130), end=End.HELD)]
    healthy = a_plan(healthy=went + held).healthy
    first, last = healthy.stages
    assert (first.time.median, first.time.most) == (60, inf)
    assert (first.undecided, first.held, first.reached) == (Share(1, 4), Share(1, 4), Share(4, 4))
    assert (last.reached, last.time.median) == (Share(3, 4), 60)
    assert (healthy.full.median, healthy.promoted.median) == (60, 120)
    assert (healthy.ends[End.PROMOTED], healthy.ends[End.HELD]) == (Share(3, 4), Share(1, 4))


def test_a_deadline_that_lets_pass_is_undecided_and_goes_on() -> None:
    stage = a_plan(healthy=[an_outcome((0, Signal.LET_PASS, 130), (1, Signal.PASS, 60))]).healthy.stages[0]
    assert (stage.undecided, stage.held, stage.time.median) == (Share(1, 1), Share(0, 1), 130)


def test_what_a_stage_catches_is_by_its_own_looks() -> None:
    """The last one is alarmed about at full weight, and rolled back after the step back: it is the last stage
    that told."""
    caught = [
        an_outcome((0, Signal.HARM, 40), end=End.CAUGHT, requests=500),
        an_outcome(
            (0, Signal.PASS, 50), (1, Signal.ALARM, 30), (0, Signal.HARM, 45), end=End.CAUGHT, requests=900
        ),
        an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60)),
    ]
    [found] = a_plan(
        healthy=[an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60))] * 3, worse={THREE: caught}
    ).regressions
    assert [stage.chance for stage in found.stages] == [Share(1, 3), Share(1, 3)]
    assert [stage.time.median for stage in found.stages] == [40, 30]
    assert (found.requests.count, found.requests.median, found.requests.most) == (2, 500, 900)
    assert (found.seconds.median, found.seconds.most) == (40, 125)


def test_a_share_says_what_the_simulation_leaves_open() -> None:
    assert Share(0, 100).interval[1] == pytest.approx(0.0362, abs=1e-4)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_a_spread_of_nothing_is_nothing() -> None:
    assert Quantiles.of([]).count == 0


# ---------------------------------------------------------------- what is told


def said(plan: Forecast) -> str:
    return "\n".join(warnings(plan))


def test_a_plan_where_all_fits_has_no_warning() -> None:
    assert warnings(a_plan()) == ()


@pytest.mark.parametrize(
    ("changes", "traffic", "words"),
    [
        (
            {"stages": [{"weight": 20, "minimum": "10s"}, STAGES[1]]},
            BUSY,
            "at 20%: its minimum of 10s is shorter than the 3 looks (30s)",
        ),
        (
            {},
            as_given(Given(rate=0.5)),
            "about 12 canary requests until its deadline of 2m, fewer than minimumRequests (100)",
        ),
        (
            {},
            as_given(Given(replicas=1)),
            "with 1 replica, so a slow node cannot be told from a slow version",
        ),
        ({"analysis": {"reporter": "source"}}, BUSY, "reporter: source has no replicas"),
        (
            {"analysis": {"metrics": [{"errors": {"max": "0.5%"}}]}},
            BUSY,
            "1.0% of stable's own requests fail, and the policy's limit is 0.5%",
        ),
        (
            {"analysis": {"metrics": [{"latency": {"slo": {"p99": "100ms"}}}]}},
            BUSY,
            "of stable's own requests are slower than 100 ms",
        ),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], traffic: TrafficProfile, words: str) -> None:
    assert words in said(a_plan(a_ladder(**changes), traffic))


def test_a_stage_that_cannot_decide_in_time_is_told_with_what_the_simulation_leaves_open() -> None:
    outcomes = [
        an_outcome((0, signal, 130), (1, Signal.PASS, 60)) for signal in (Signal.LET_PASS, Signal.PASS)
    ]
    words = said(a_plan(healthy=outcomes * 5))
    assert (
        "stage 1/2 at 20%: 50% (19% to 81%) of healthy versions are undecided at its deadline of 2m" in words
    )
    assert "stage 2/2" not in words


HELD = [an_outcome((0, Signal.STUCK, 130), end=End.HELD)] * 10


def test_where_no_test_could_decide_in_time_the_least_time_is_told_and_what_would_help() -> None:
    """At 20% of 40 requests/s with 1% errors, which leads to 100%: ruling out 2% errors takes nearly three
    minutes, and the next stage, which no version reached, has nothing to rule out."""
    words = said(a_plan(traffic=as_given(Given(rate=40.0, errors=0.01)), healthy=HELD))
    assert "stage 1/2 at 20%: no test can be expected to pass a healthy version before the" in words
    assert "to rule out that 2.0% of requests fail, where 1.0% of stable's do, any test needs" in words
    assert "on average with 8.0 canary requests/s. What would help: a deadline of" in words
    assert "times the traffic" in words
    assert "replicas" not in words.split("What would help")[1]
    assert "undecided at its deadline" not in words


def test_more_weight_helps_where_a_higher_one_would_do_and_more_replicas_where_failures_come_in_bursts() -> (
    None
):
    stages = [{"weight": weight, "minimum": "30s", "deadline": "4m"} for weight in (5, 100)]
    traffic = as_given(Given(rate=40.0, errors=0.01))
    assert re.search(
        r"times the traffic or a weight of \d+%", said(a_plan(a_ladder(stages=stages), traffic, HELD))
    )
    words = said(a_plan(traffic=replace(traffic, burst=16), healthy=HELD))
    assert "8.0 canary requests/s, and failures in bursts of about 16. What would help" in words
    assert "or more replicas, if it is single ones that fail in bursts" in words


def test_a_stage_that_versions_pass_in_time_is_not_called_out_of_reach() -> None:
    """The bound is a mean: what passes all the same is no reason to warn."""
    assert "no test" not in said(a_plan(traffic=as_given(Given(rate=40.0, errors=0.01))))


def test_healthy_versions_that_are_taken_back_are_told() -> None:
    good = [an_outcome((0, Signal.HARM, 50), end=End.CAUGHT)] + [
        an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60))
    ] * 9
    assert "a healthy version is taken back in 10%" in said(a_plan(healthy=good))


def test_an_overdue_rollout_is_told() -> None:
    good = [an_outcome((0, Signal.OVERDUE, 50), end=End.OVERDUE)] * 10
    assert "schedule.deadline of 1h ends 100%" in said(
        a_plan(a_ladder(schedule={"deadline": "1h"}), healthy=good)
    )


def test_an_unacceptable_regression_that_is_promoted_is_told() -> None:
    missed = [an_outcome((0, Signal.PASS, 50), (1, Signal.PASS, 60))] * 10
    words = said(a_plan(worse={THREE: missed}))
    assert (
        "errors 3x is unacceptable by the policy, and 100% (69% to 100%) of such versions are promoted"
        in words
    )
    assert "promoted" not in said(a_plan(worse={Regression("errors", 1.5): missed}))


def test_without_a_histogram_latency_is_told_to_be_blind() -> None:
    plan = a_plan(traffic=TrafficProfile(50.0, 0.01, 3, 0.0, 0.0, bounds=()))
    assert "no latency histogram" in said(plan)
    assert "no latency histogram" in plan_text.traffic_text(plan)


def test_blocks_of_a_measured_past_are_told() -> None:
    """A past with spells of six looks is judged in blocks of minutes, longer than a minimum of 30 s."""
    looks = SimulatedService(
        Scenario(requests=200.0, errors=0.01, bad=0.05, spell=6), np.random.default_rng(4)
    ).history(300)
    words = said(a_plan(traffic=measured({"v1": looks}, "v1", "measured")))
    assert "errors: stable's trouble lasts over looks, so they are judged in blocks of" in words


def test_what_is_assumed_is_told() -> None:
    stages = [{**STAGES[0], "approval": "required"}, STAGES[1]]
    metrics = [{"errors": {}}, {"query": {"name": "cpu", "promql": "vector(1)", "max": 0.9}}]
    words = "\n".join(notes(a_plan(a_ladder(stages=stages, mode="observe", analysis={"metrics": metrics}))))
    assert all(
        word in words
        for word in (
            "Approvals",
            "Queries (cpu)",
            "only observes",
            "lognormal with a median of 60 ms",
            "18 s",
        )
    )


def test_the_text_has_every_stage_and_every_regression() -> None:
    caught = [an_outcome((0, Signal.HARM, 40), end=End.CAUGHT, requests=1500)] * 10
    parts = {part.title: part for part in plan_text.parts(a_plan(worse={THREE: caught}))}
    title = "A worse version: how often each stage catches it, and how long after the stage began (median)"
    assert parts["A healthy version"].rows[1] == (
        "1/2",
        "20%",
        "80/s",
        "50s",
        "50s to 50s",
        "50s",
        "0% of 10 at 2m",
    )
    assert parts[title].rows[1] == (
        "errors 3x (3.0%)",
        "100% in 40s",
        "-",
        "100%",
        "0%",
        "0%",
        "40s",
        "1,500",
        "1,500",
    )
    assert "taken back wrongly: 0 of 10 (at most 31%)" in parts["A healthy version"].lines[1]


def test_the_data_is_json_and_says_null_for_never() -> None:
    held = [an_outcome((0, Signal.STUCK, 130), end=End.HELD)] * 10
    data = json.loads(
        json.dumps(plan_text.as_data(a_plan(healthy=held, worse={SLOW: held})), allow_nan=False)
    )
    assert data["healthy"]["stages"][0]["seconds"] == {
        "of": 10,
        "median": None,
        "low": None,
        "high": None,
        "by90": None,
    }
    assert data["healthy"]["stages"][0]["leastSeconds"] == pytest.approx(16.92, abs=0.01)
    assert data["healthy"]["stages"][1]["leastSeconds"] == 0.0
    assert data["healthy"]["stages"][1]["reached"]["share"] == 0.0
    assert data["healthy"]["stages"][1]["undecided"]["share"] is None
    assert data["regressions"][0]["ends"]["held"]["events"] == 10
    assert data["regressions"][0]["times"] == 1.5
    assert data["traffic"]["bounds"] == list(ISTIO_BOUNDS)
