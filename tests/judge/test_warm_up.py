"""What young replicas do is not compared, and hides no harm."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from canaryd.domain.counts import Counts, Look, joined
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.warm_up import STARTS, Warmth
from canaryd.simulation.simulated_service import Scenario, services
from tests.judge.looks import START, Sampled, a_ladder, a_look, last_verdict, some_counts, verdict_after

STABLE = {f"s{number}": some_counts(150, 1) for number in range(3)}


def a_judge(*metrics: dict[str, object], weight: int = 10, stage: int = 0, **analysis: object) -> Judge:
    judge = Judge(a_ladder(*metrics, **analysis), [])
    judge.open(Span(stage, weight, START))
    return judge


def canary(failures: int, requests: int = 17, names: Iterable[str] = ("c0", "c1", "c2")) -> dict[str, Counts]:
    return {name: some_counts(requests, failures) for name in names}


def born(look: Look, at: float | Mapping[str, float] = START) -> Look:
    """A look whose canary was first seen then, all of it or each replica."""
    seen = at if isinstance(at, Mapping) else dict.fromkeys(look.canary, float(at))
    return replace(look, first_seen=seen)


def errors_of(verdict: Verdict) -> tuple[int, int]:
    """The canary's compared failures and requests."""
    errors = next(finding for finding in verdict.findings if finding.what == "errors")
    return errors.canary_events, errors.canary_requests


# ---------------------------------------------------------------- healthy versions that start badly


@pytest.mark.parametrize(("seconds", "warmup"), [(60.0, "60s"), (120.0, "2m")])
def test_a_version_whose_pods_start_badly_is_not_rolled_back(seconds: float, warmup: str) -> None:
    """Without a warm-up more than half of these are: of 60 rollouts 24, and 57 of those of two minutes."""
    world = Scenario(cold_errors=0.05, cold_seconds=seconds)
    rolled_back = {"0s": 0, warmup: 0}
    for warm, service in ((warm, one) for warm in rolled_back for one in services(world, 12, 5)):
        judge = Judge(a_ladder({"errors": {}}, warmup=warm), service.history(120))
        judge.open(Span(0, 10, service.now))
        answers = [judge.observe(service.look(10)).answer for _ in range(30)]
        rolled_back[warm] += Answer.FAIL in answers
    assert rolled_back["0s"] >= 3
    assert rolled_back[warmup] == 0


def test_a_canary_that_scales_out_in_mid_stage_is_compared_by_its_older_replicas() -> None:
    judge = a_judge({"errors": {}})
    for number in range(20):
        new = canary(3, names=("c3", "c4", "c5")) if number >= 10 else {}
        seen = dict.fromkeys(("c0", "c1", "c2"), START - 600.0) | dict.fromkeys(new, START + 100.0)
        verdict = verdict_after(judge, born(a_look(number, STABLE, canary(0) | new), seen))
        compared = 3 if number < 16 else 6  # at 100 s they come, from 160 s on they are warm
        if number == 12:
            assert (
                "3 of 6 replicas of the new version are in the first 1m (`warmup`), and not compared yet"
                in (verdict.notes)
            )
    assert compared == 6
    assert errors_of(verdict) == (4 * 9, 17 * (16 * 3 + 4 * 6))


def test_stable_s_young_replicas_are_left_out_as_well() -> None:
    judge = a_judge({"errors": {}})
    for number in range(4):
        stable = {"s0": some_counts(150, 1), **({"s1": some_counts(150, 75)} if number else {})}
        verdict = verdict_after(
            judge, replace(a_look(number, stable, canary(0)), first_seen={"s1": START + 10.0})
        )
    errors = verdict.findings[0]
    assert (errors.stable_events, errors.stable_requests) == (4, 600)
    assert "1 of 2 replicas of the stable version is in the first 1m (`warmup`), and not compared yet" in (
        verdict.notes
    )


def test_what_stable_s_replicas_did_when_they_were_young_is_no_part_of_its_past() -> None:
    looks = Sampled(3).history(60)
    young = [
        replace(
            look,
            stable={**look.stable, "new": some_counts(150, 75)},
            first_seen={"new": float(looks[30].start)},
        )
        if 30 <= number < 36
        else look
        for number, look in enumerate(looks)
    ]
    judges = [Judge(a_ladder(), history) for history in (looks, young)]
    assert judges[0].errors is not None
    assert judges[1].errors is not None
    assert judges[0].errors.burst == judges[1].errors.burst
    assert judges[0].alarm.usual.tolist() == judges[1].alarm.usual.tolist()


# ---------------------------------------------------------------- what it says


def test_a_canary_that_is_young_as_a_whole_says_what_it_waits_for_and_lacks_no_data() -> None:
    judge = a_judge()
    for number in range(6):
        verdict = verdict_after(judge, born(a_look(number, STABLE, canary(1))))
        assert verdict.answer is Answer.UNDECIDED
        assert verdict.looks == verdict.canary_requests == 0
        assert verdict.odds == 1.0
        assert verdict.reason.startswith(
            "errors are not compared yet: all 3 replicas of the new version are in the first 1m (`warmup`), "
            "where only limits and what is too plain to wait for count; no latency"
        )
    verdict = verdict_after(judge, born(a_look(6, STABLE, canary(1))))
    assert (verdict.looks, errors_of(verdict)) == (1, (3, 51))
    assert verdict.reason.startswith("errors 5.9% against 0.67%")


def test_a_stable_version_that_is_young_as_a_whole_is_waited_for_as_well() -> None:
    judge = a_judge({"errors": {}})
    verdict_after(judge, a_look(0, STABLE, canary(0)))
    judge.open(Span(0, 10, START + 10, fresh=True))
    seen = dict.fromkeys(("n0", "n1"), START + 10.0) | dict.fromkeys(("c0", "c1", "c2"), START - 900.0)
    for number in range(1, 3):
        look = born(a_look(number, {"n0": some_counts(150, 5), "n1": some_counts(150, 5)}, canary(1)), seen)
        verdict = verdict_after(judge, look)
    assert (verdict.answer, verdict.looks) == (Answer.UNDECIDED, 0)
    assert verdict.reason.startswith(
        "errors are not compared yet: all 2 replicas of the stable version are in the first 1m"
    )


@pytest.mark.parametrize(("age", "is_said"), [(60, True), (600, False)])
def test_a_rollback_names_the_age_of_young_replicas(age: int, is_said: bool) -> None:
    judge = a_judge({"errors": {}})
    for number in range(30):
        seen = {"c0": START - age - 10.0, "c1": START - age, "c2": START - age}
        verdict = verdict_after(judge, born(a_look(number, STABLE, canary(6)), seen))
        if verdict.answer is Answer.FAIL:
            break
    youngest = age + 10 * (number + 1)
    said = f"; its 3 replicas are {youngest} to {youngest + 10} s old"
    assert verdict.reason.endswith(f"rolled back at 100{said if is_said else ''}")


# ---------------------------------------------------------------- harm is not hidden


@pytest.mark.parametrize("replicas", [1, 3])
def test_what_no_cold_start_explains_is_compared_as_if_the_replicas_were_old(replicas: int) -> None:
    names = [f"c{number}" for number in range(replicas)]
    looks = [a_look(number, STABLE, canary(17, names=names)) for number in range(20)]

    def needed(seen: float | None) -> int:
        judge = a_judge({"errors": {"versionDown": False, "replicaDown": False}})
        answers = (verdict_after(judge, born(look, seen) if seen else look).answer for look in looks)
        return next(number for number, answer in enumerate(answers, start=1) if answer is Answer.FAIL)

    assert needed(float(START)) == needed(None)


def test_a_fifth_of_failing_requests_may_be_a_cold_start_and_a_quarter_is_none() -> None:
    for failures, is_plain in ((10, False), (13, True)):  # of 51
        warmth = Warmth(60.0)
        look = born(a_look(0, STABLE, canary(0) | {"c0": some_counts(17, failures)}))
        warmth.observe(look)
        assert warmth.is_harm_plain is is_plain
        assert warmth.cold_in_errors(look) == (set() if is_plain else {"c0", "c1", "c2"})
        assert warmth.cold(look) == {"c0", "c1", "c2"}  # latency is another matter


def test_few_failures_are_plain_once_there_are_enough_of_them() -> None:
    warmth = Warmth(60.0)
    for number in range(5):
        assert not warmth.is_harm_plain
        warmth.observe(born(a_look(number, STABLE, {"c0": some_counts(1, 1)})))
    assert warmth.is_harm_plain


def test_what_strikes_stable_as_well_is_no_matter_of_starts() -> None:
    warmth = Warmth(60.0)
    warmth.observe(born(a_look(0, {"s0": some_counts(150, 80)}, canary(9))))
    assert not warmth.is_harm_plain


def test_limits_are_held_from_the_first_look_on() -> None:
    judge = a_judge({"errors": {"max": "5%", "versionDown": False}})
    answers = [verdict_after(judge, born(a_look(number, STABLE, canary(4)))).answer for number in range(6)]
    assert Answer.FAIL in answers
    assert "where at most 5.0% is allowed" in last_verdict(judge).reason


# ---------------------------------------------------------------- pods that start all the time


def test_a_container_that_is_started_again_in_its_pod_is_no_young_replica() -> None:
    """A pod's replica is known by its name, and first seen once."""
    warmth = Warmth(60.0)
    for number in range(20):
        look = born(a_look(number, STABLE, canary(1)))
        warmth.observe(look)
        assert bool(warmth.cold(look)) is (number < 6)


def test_a_version_whose_pods_are_replaced_again_and_again_is_judged() -> None:
    """No replica gets older than 50 s: two starts of each place are left out, and what follows counts."""
    judge = a_judge({"errors": {}})
    looks = 0
    for number in range(90):
        start = number - number % 5
        names = [f"c{place}-{start}" for place in range(3)]
        look = born(a_look(number, STABLE, canary(2, names=names)), START + 10.0 * start)
        verdict = verdict_after(judge, look)
        looks += 1
        if number < 5 * STARTS:
            assert (verdict.looks, verdict.odds) == (0, 1.0)
        if verdict.answer is Answer.FAIL:
            break
    assert 5 * STARTS < looks < 30


def test_a_version_that_served_for_an_hour_may_replace_one_replica_more() -> None:
    warmth, births = Warmth(60.0), (0, 30, 60, 390)  # looks
    cold = []
    for number in range(400):
        born_at = max(birth for birth in births if birth <= number)
        look = born(a_look(number, STABLE, canary(0, names=[f"c-{born_at}"])), START + 10.0 * born_at)
        warmth.observe(look)
        if number in births:
            cold.append(bool(warmth.cold(look)))
    assert cold == [True, True, False, True]


def test_parts_of_a_look_change_nothing_that_the_whole_look_does_not() -> None:
    parts = [
        replace(
            born(a_look(number, STABLE, canary(number))), start=START + 5 * number, end=START + 5 * number + 5
        )
        for number in range(8)
    ]
    whole = [joined(parts[first : first + 2]) for first in range(0, 8, 2)]
    in_parts = [
        replace(look, parts=tuple(parts[2 * number : 2 * number + 2])) for number, look in enumerate(whole)
    ]
    found = []
    for looks, watched in ((whole, False), (in_parts, False), (in_parts, True)):
        judge = a_judge({"errors": {}})
        verdicts = []
        for look in looks:
            if watched:
                for part in look.parts:
                    judge.watch(part)
            verdicts.append(verdict_after(judge, look))
        found.append(verdicts)
    assert found[0] == found[1] == found[2]


def test_stable_s_replicas_of_the_first_look_are_not_newborn_and_later_ones_are() -> None:
    warmth = Warmth(60.0)

    def cold(look: Look) -> set[str]:
        warmth.observe(look)
        return warmth.cold(look)

    seen = {"s0": START - 1.0, "c0": START - 1.0}
    assert cold(a_look(0, {"s0": some_counts(1)}, {"c0": some_counts(1)}, first_seen=seen)) == {"c0"}
    stable = {"s0": some_counts(1), "s1": some_counts(1)}
    later = a_look(3, stable, {"c0": some_counts(1)}, first_seen={**seen, "s1": START + 25.0})
    assert cold(later) == {"c0", "s1"}
    assert cold(a_look(10, stable, {}, first_seen={**seen, "s1": START + 25.0})) == set()
