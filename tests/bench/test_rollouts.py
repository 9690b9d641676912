"""Simulated rollouts: the same on any number of cores, and counted as they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import calibration, comparison, late, power
from bench.results import SAMPLE, Results
from bench.rollouts import Outcome, a_policy, breaks, excess, roll_out, rolling
from bench.running import Runner, run_some, service
from bench.worlds import BAD, HEALTHY, LATE, PACE, UNACCEPTABLE
from canaryd.simulation.simulated_rollout import Lag
from canaryd.simulation.simulated_service import Scenario

FAILING = "every request fails, 10 requests/s, looks of 5 s"  # the shortest rollouts there are


def test_the_worlds_are_as_many_as_promised_and_have_names_of_their_own() -> None:
    for cases in (HEALTHY, BAD, LATE, PACE, UNACCEPTABLE):
        assert len({case.name for case in cases}) == len(cases)
    assert len(HEALTHY) >= 14
    assert len(BAD) >= 12


def test_outcomes_depend_on_neither_chunks_nor_cores(tmp_path: Path) -> None:
    together = run_some("power", FAILING, [0, 1, 2])
    assert together == [outcome for index in range(3) for outcome in run_some("power", FAILING, [index])]
    assert len({one.canary_requests for one in together}) > 1
    entries = []
    for cores in (1, 2):
        runner = Runner(Results(tmp_path / f"{cores}.json"), cores, FAILING)
        entries.append({name: {**entry, "took": 0} for name, entry in runner.measure("power", 11)})
    assert entries[0] == entries[1]
    assert list(entries[0]) == [FAILING]


def test_what_is_kept_is_not_run_again_but_for_other_numbers_of_rollouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "measured.json"
    first = dict(Runner(Results(path), 1, FAILING).measure("power", 2))
    monkeypatch.setattr("bench.running.Runner._outcomes", lambda *_: pytest.fail("it ran again"))
    assert dict(Runner(Results(path), 1, FAILING).measure("power", 2)) == first
    with pytest.raises(pytest.fail.Exception, match="ran again"):
        list(Runner(Results(path), 1, FAILING).measure("power", 3))
    with pytest.raises(pytest.fail.Exception, match="ran again"):
        list(Runner(Results(path, fresh=True), 1, FAILING).measure("power", 2))
    assert Results(path, fresh=True).entries["power"] == first  # until it is measured again


def of_other_code(path: Path) -> None:
    """As if it had been measured before the code was changed."""
    path.write_text(path.read_text().replace(Results(path).tree, "0" * 12))
    assert Results(path).stale() == [f"power: {FAILING}"]


def test_other_code_that_decides_alike_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    first = dict(Runner(Results(path), 1, FAILING).measure("power", SAMPLE + 1))
    of_other_code(path)
    again = dict(Runner(Results(path), 1, FAILING).measure("power", SAMPLE + 1))
    assert again == first  # with how long it took
    assert Results(path).stale() == []


def test_other_code_that_decides_otherwise_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "measured.json"
    first = dict(Runner(Results(path), 1, FAILING).measure("power", SAMPLE + 1))
    of_other_code(path)
    monkeypatch.setattr(
        "bench.running.Runner._in_chunks", lambda *_: [Outcome("rolled back", 1, 7)] * (SAMPLE + 1)
    )
    again = dict(Runner(Results(path), 1, FAILING).measure("power", SAMPLE + 1))
    assert (again[FAILING]["tree"], again[FAILING]["runs"]) == (first[FAILING]["tree"], SAMPLE + 1)
    assert again[FAILING]["sample"] != first[FAILING]["sample"]


def test_too_few_rollouts_say_nothing_of_other_code(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    first = dict(Runner(Results(path), 1, FAILING).measure("power", 2))
    assert first[FAILING]["sample"] == ""
    of_other_code(path)
    assert (
        dict(Runner(Results(path), 1, FAILING).measure("power", 2))[FAILING]["took"] != first[FAILING]["took"]
    )


def test_full_weight_is_counted_from_the_moment_it_is_set() -> None:
    """Three minimums and two looks at weights in change."""
    world = Scenario(requests=2000.0)
    outcome = roll_out(
        [rolling(service(world, "quick", 0), policy=a_policy(world.interval, "30s"), longest=20)]
    )[0]
    assert outcome.full is not None
    assert outcome.full >= 3 * 30 + 2 * 10
    assert outcome.full % 10 == 0


def test_the_past_may_be_of_another_world_than_the_rollout() -> None:
    """Every fifth request failed before, and none does now; and the other way round."""
    calm, failing = Scenario(errors=0.0), Scenario(errors=0.2)
    for now, before in ((calm, failing), (failing, calm), (failing, None)):
        one = service(now, "changed", 0)
        judge, look = next(rolling(one, before=before, past=60))
        assert judge.alarm.usual[0] == pytest.approx((before or now).errors, abs=0.01)
        served = [*look.stable.values(), *look.canary.values()]
        assert sum(counts.failures for counts in served) / sum(
            counts.requests for counts in served
        ) == pytest.approx(now.errors, abs=0.06)
        assert look.start == 1_700_000_000 + 60 * now.interval


def test_healthy_versions_whose_past_was_another_are_judged_by_that_past() -> None:
    """Bursts of 16 now, of which the past had none: the judge takes failures for independent ones, and all
    that fail are 16 at once."""
    case = calibration.CASES["errors in bursts of 16, independent ones before"]
    one = calibration.run(case, service(case.world, case.name, 0))
    judge, look = next(one)
    assert judge.errors is not None
    assert judge.errors.comparisons.burst == pytest.approx([1.0, 1.0])
    failures = []
    for _ in range(40):
        failures += [counts.failures for counts in look.stable.values()]
        _, look = one.send(judge.observe(look))
    assert set(failures) == {0, 16}
    same = next(calibration.run(replace(case, before=None), service(case.world, case.name, 0)))[0]
    assert same.errors is not None
    assert same.errors.comparisons.burst[0] > 10


def test_users_are_hurt_only_while_the_fault_shows() -> None:
    world = Scenario(requests=200.0, errors=0.0, more_errors=0.5, fault_begins=30.0)
    outcome = roll_out([rolling(service(world, "late", 0), climbing=False, longest=20)])[0]
    assert outcome.rolled_back
    assert outcome.fault == 30
    assert outcome.delay == outcome.seconds - 30
    served = outcome.canary_requests * outcome.delay / outcome.seconds
    assert outcome.hurt == pytest.approx(0.5 * served, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "hurt"),
    [
        ({"canary_errors": 3.0}, 0.01),
        ({"more_errors": 2.0}, 0.995),
        ({"broken": 1}, 0.995 / 3),
        ({"stuck": 0.03}, 0.03),
        ({}, 0.0),
        ({"canary_latency": 2.0}, 0.4364),  # two normals log(2)/0.6 apart: 2 Phi(log(2)/1.2) - 1
    ],
)
def test_the_share_of_requests_that_are_worse_is_the_difference_of_the_versions(
    changes: dict, hurt: float
) -> None:
    assert excess(Scenario(**changes)) == pytest.approx(hurt, abs=2e-3)


def test_a_past_without_spells_is_outside_of_the_promise_and_replicas_that_differ_are_not() -> None:
    calm = service(Scenario(bad=1e-9, spell=6), "calm", 0)
    calm.history(10)
    assert breaks(calm, 60.0)
    shown = service(Scenario(bad=0.5, spell=6), "shown", 0)
    shown.history(100)
    assert not breaks(shown, 60.0)
    noisy = service(Scenario(errors=0.02, noise=0.3), "noisy", 0)
    noisy.stable.error_rates, noisy.canary.error_rates = np.ones(3), np.full(3, 1.09)
    assert not breaks(noisy, 60.0)
    noisy.canary.error_rates = np.full(3, 1.2)
    assert not breaks(noisy, 60.0)
    assert not breaks(service(Scenario(), "usual", 0), 60.0)
    cold = service(Scenario(cold_errors=0.05, cold_seconds=120.0), "cold", 0)
    assert [breaks(cold, warmup) for warmup in (60.0, 120.0)] == [True, False]


def test_rollbacks_outside_of_the_promise_are_told_apart() -> None:
    case = calibration.CASES["replicas' error rates differ, sd 30%"]
    good, inside = Outcome("succeeded", 60, 600, full=480), Outcome("rolled back", 9, 90)
    outside = replace(inside, outside=True)
    entry = calibration.summary(case, [*[good] * 96, inside, *[outside] * 3])
    assert (entry["rolled_back"], entry["outside"], entry["outside_rolled_back"]) == (4, 3, 3)
    assert entry["full"] == 8.0
    assert calibration.reached(case.name, entry)  # 1 of 97
    bad = calibration.summary(case, [*[good] * 90, *[inside] * 10])
    assert not calibration.reached(case.name, bad)
    text = calibration.tables({case.name: {**bad, "runs": 100}})[0].text()
    assert "10 (4.9% to 17.6%) (missed)" in text  # Clopper and Pearson's table


def test_delays_count_from_the_fault_and_missed_ones_as_never() -> None:
    case = power.CASES["errors 1% to 3% from weight 50 on"]
    caught = Outcome("rolled back", 50, 530, fault=350, fault_weight=50, canary_requests=4000, hurt=90.0)
    entry = power.summary(case, [caught, caught, Outcome("succeeded", 60, 600, canary_requests=4000)])
    assert (entry["median"], entry["mean"], entry["by_90"]) == (180, 180.0, np.inf)
    assert entry["missed"] == pytest.approx(1 / 3)
    assert power.limit_of(case) is None  # it is about a canary that is bad from the beginning
    assert power.limit_of(power.CASES["errors 1% to 2%"]) == pytest.approx(1345, abs=1)


def test_late_faults_count_where_the_rollout_was_at_the_weight_meant() -> None:
    case = late.CASES["at weight 100"]
    there = Outcome("rolled back", 48, 700, full=500, stepped=640, fault=600, fault_weight=100)
    slow = replace(there, stepped=660)
    entry = late.summary(case, [there, slow, replace(there, fault_weight=50)])
    assert (
        entry["there"],
        entry["of"],
        entry["stepped_most"],
        entry["in_time"],
        entry["stepped_in_time"],
    ) == (2, 3, 60, 1.0, 0.5)
    assert not late.reached(case.name, entry)


def test_a_promoted_bad_version_goes_on_hurting_until_the_horizon() -> None:
    match = comparison.CASES["errors 1% to 2% | expression"]
    [outcome] = roll_out([comparison.run(match, service(match.world, match.name, 0))])
    assert (outcome.end, outcome.full) == ("succeeded", 2400)
    # Ten minutes each at 20, 40, 60 and 80% and twenty at 100: 4,000 of the hour's seconds less 1,600 at full
    # weight, one in a hundred.
    seconds_at_full_weight = 600 * (0.2 + 0.4 + 0.6 + 0.8) + 1200
    assert outcome.hurt == pytest.approx(50 * seconds_at_full_weight * 0.01, rel=0.03)


def test_the_rules_see_the_same_service_as_canaryd() -> None:
    ours, theirs = (
        comparison.CASES[f"replicas' error rates differ, sd 30% | {rule}"]
        for rule in ("canaryd", "Mann-Whitney")
    )
    one, other = (service(match.world, match.name, 5) for match in (ours, theirs))
    assert one.history(3) == other.history(3)
    assert one.canary.error_rates.tolist() == other.canary.error_rates.tolist()


def test_as_live_a_version_is_full_later_by_the_lag_of_each_stage() -> None:
    """Three minimums, each after a settling and acted on late, where at once there are two looks between
    them."""
    world, lag = Scenario(requests=2000.0), Lag(late=18, settle=16)
    at_once, live, young = (
        roll_out([rolling(service(world, "live", 0), policy=policy, longest=40, lag=given)])[0]
        for policy, given in (
            (a_policy(10, "60s", warmup="0s"), None),
            (a_policy(10, "60s", warmup="0s"), lag),
            (a_policy(10, "60s"), lag),
        )
    )
    assert at_once.full == 3 * 60 + 2 * 10
    assert live.full == 3 * (lag.settle + 60 + lag.late)
    # The first look of warm replicas begins 50 s after the first stage, and it takes three.
    assert young.full == live.full + 20


def test_as_live_a_rollback_is_later_and_hurts_until_it_is_acted_on() -> None:
    world = Scenario(requests=2000.0, more_errors=0.2)
    lag = Lag(late=18, settle=16)
    at_once, live = (
        roll_out([rolling(service(world, "bad", 0), climbing=False, longest=20, lag=given)])[0]
        for given in (None, lag)
    )
    assert at_once.rolled_back
    assert live.rolled_back
    assert live.seconds == lag.settle + 10 * live.looks + lag.late
    assert live.hurt == pytest.approx(0.2 * 0.1 * 2000 * live.seconds, rel=0.05)
    assert live.hurt > at_once.hurt


def test_as_live_the_canary_s_replicas_warm_up() -> None:
    """The policy leaves the first half minute of each out of latency."""
    one = service(Scenario(), "warm", 0)
    _, look = next(rolling(one, past=60, lag=Lag(late=18, settle=16)))
    assert set(look.first_seen) == set(look.canary)
    assert set(look.first_seen.values()) == {look.start - 16.0}
    assert next(rolling(service(Scenario(), "warm", 0), past=60))[1].first_seen == {}
