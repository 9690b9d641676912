"""Whether traffic follows the weight: told when it does not, in both directions; never of chance, nor of what
honest traffic does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.random import Generator
from scipy.special import stdtrit

from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.sample_ratio import LONG, SETTLE_LOOKS, SHORT, SampleRatio, is_telling, tolerated
from canaryd.report import traffic_share
from tests.judge.looks import START, Sampled, a_ladder, verdict_after

Looks = Callable[[int], tuple[int, int]]  # number of the look -> requests of the canary, of stable
FIRST = SETTLE_LOOKS + SHORT.looks  # looks until it can be told at all


def drawn(rng: Generator, share: float, requests: float) -> Looks:
    def look(number: int) -> tuple[int, int]:
        both = int(rng.poisson(requests))
        canary = int(rng.binomial(both, share))
        return canary, both - canary

    return look


def clustered(rng: Generator, share: float, requests: float, size: float) -> Looks:
    """Bursts of `size` requests in the mean (geometric), each to one version as a whole."""

    def look(number: int) -> tuple[int, int]:
        sizes = rng.geometric(1 / size, int(rng.poisson(requests / size)))
        canary = rng.random(len(sizes)) < share
        return int(sizes[canary].sum()), int(sizes[~canary].sum())

    return look


def sticky(rng: Generator, share: float, requests: float, clients: int, last: float) -> Looks:
    """Each client stays with one version, for `last` looks in the mean."""
    at = rng.random(clients) < share

    def look(number: int) -> tuple[int, int]:
        nonlocal at
        at = np.where(rng.random(clients) < 1 / last, rng.random(clients) < share, at)
        each = rng.multinomial(int(rng.poisson(requests)), np.full(clients, 1 / clients))
        return int(each[at].sum()), int(each[~at].sum())

    return look


def heard(look: Looks, weight: int, looks: int = 120) -> list[bool]:
    """After each look, whether the traffic is said not to follow."""
    split, said = SampleRatio(weight), []
    for number in range(looks):
        split.observe(*look(number))
        said.append(split.traffic.is_off)
    return said


def first(said: list[bool]) -> int | None:
    return said.index(True) + 1 if True in said else None


def changes(said: list[bool]) -> int:
    return sum(one != other for one, other in pairwise(said))


# ---------------------------------------------------------------- what is told


@pytest.mark.parametrize("weight", [1, 10, 50, 90, 99])
@pytest.mark.parametrize("factor", [0.25, 1.75])
def test_a_share_that_is_far_off_is_told_in_both_directions_and_stays_told(
    weight: int, factor: float
) -> None:
    share = weight / 100 + (factor - 1) * min(weight, 100 - weight) / 100
    said = heard(drawn(np.random.default_rng(weight), share, 6000), weight)
    assert (first(said) or 999) <= SETTLE_LOOKS + LONG.looks
    assert changes(said) == 1


def test_calls_from_inside_the_mesh_are_told_of_in_seven_looks() -> None:
    """Half of all requests are spread over as many pods of either version: 30% where 10% were due."""
    for seed in range(20):
        assert first(heard(drawn(np.random.default_rng(seed), 0.3, 500), 10)) == FIRST


def test_less_than_half_of_what_is_due_is_told_in_seven_looks_where_there_are_requests_enough() -> None:
    for seed in range(20):
        assert first(heard(drawn(np.random.default_rng(seed), 0.02, 5000), 10)) == FIRST


def test_it_is_told_with_its_numbers() -> None:
    split = SampleRatio(10)
    for _ in range(FIRST):
        split.observe(150, 350)
    assert (
        traffic_share.reason(split.traffic)
        == "traffic does not follow the weight: the canary served 900 of 3,000 requests (30%) in 6 looks "
        "where 10% were due"
    )


def test_the_bars_are_students_t_that_chance_exceeds_once_in_ten_thousand_times() -> None:
    for window in (SHORT, LONG):
        assert window.errors == pytest.approx(float(stdtrit(window.blocks - 1, 1 - 1e-4)), abs=0.01)


# ---------------------------------------------------------------- what is not


@pytest.mark.parametrize("weight", [1, 10, 50, 90])
@pytest.mark.parametrize("requests", [3, 15, 150, 15_000])
def test_honest_draws_are_never_told_of(weight: int, requests: float) -> None:
    rng = np.random.default_rng(100 * weight + int(requests))
    assert not any(any(heard(drawn(rng, weight / 100, requests), weight)) for _ in range(8))


def test_a_share_within_a_third_is_never_told_of_however_many_requests_there_are() -> None:
    for share in (0.07, 0.13):
        assert not any(heard(drawn(np.random.default_rng(1), share, 100_000), 10, 300))


def test_at_low_traffic_nothing_is_said() -> None:
    """Twice the weight at one request in 5 s: a person would not know either, in an hour of looks."""
    assert not any(heard(drawn(np.random.default_rng(2), 0.2, 2), 10, 240))


@pytest.mark.parametrize(("size", "most"), [(4, 0), (16, 1), (50, 6)])
def test_requests_in_bursts_are_proof_of_nothing(size: float, most: int) -> None:
    """Of 60 stretches of 120 looks, 750 requests each. Envoy draws each request by itself, retries apart:
    bursts of 50 to one version are far beyond it, and are told of in about 3% of the stretches (9 of 300)."""
    told = sum(any(heard(clustered(np.random.default_rng(seed), 0.1, 750, size), 10)) for seed in range(60))
    assert told <= most


def test_a_few_heavy_clients_that_are_drawn_anew_each_look_are_proof_of_nothing() -> None:
    told = sum(any(heard(sticky(np.random.default_rng(seed), 0.1, 750, 20, 1), 10)) for seed in range(30))
    assert told <= 1


def test_many_clients_that_stay_for_minutes_are_seldom_told_of() -> None:
    """400 at a time, 20 looks each; with a tenth of them the share is off indeed for minutes, and that is
    said."""
    told = sum(any(heard(sticky(np.random.default_rng(seed), 0.1, 750, 400, 20), 10)) for seed in range(30))
    assert told <= 1
    few = sum(any(heard(sticky(np.random.default_rng(seed), 0.1, 750, 40, 20), 10)) for seed in range(30))
    assert few > 10


@pytest.mark.parametrize("down", [1, 2, 3, 4])
def test_a_lone_replica_that_restarts_is_not_told_of(down: int) -> None:
    """For as many looks the canary has no requests, and what it served since its last scrape is lost."""
    for at in range(1, 40, 3):
        honest = drawn(np.random.default_rng(at), 0.1, 750)

        def look(number: int, at: int = at, honest: Looks = honest) -> tuple[int, int]:
            canary, stable = honest(number)
            return (0 if at <= number < at + down else canary // 2 if number == at + down else canary), stable

        assert not any(heard(look, 10, 60)), at


@pytest.mark.parametrize("late", [0.5, 1.0, 2.0, 3.5])
def test_a_canary_whose_requests_take_looks_to_end_is_not_told_of(late: float) -> None:
    """Requests are counted when they end: of the span's first ones nothing is counted for so many looks."""

    def look(number: int) -> tuple[int, int]:
        canary, stable = honest(number)
        return round(canary * min(1.0, max(0.0, number + 1 - late))), stable

    for seed in range(10):
        honest = drawn(np.random.default_rng(seed), 0.1, 1500)
        assert not any(heard(look, 10, 60))


def test_pods_scraped_at_different_moments_are_not_told_of() -> None:
    """Looks as long as the scrape interval: of the canary's part each lends the next one up to the whole of
    it."""
    for seed in range(10):
        rng, lent = np.random.default_rng(seed), 0.0
        said, split = [], SampleRatio(10)
        for _ in range(100):
            both = rng.poisson(750)
            canary = rng.binomial(both, 0.1)
            keeps = canary * rng.random()
            split.observe(round(canary - keeps + lent), int(both - canary))
            lent = keeps
            said.append(split.traffic.is_off)
        assert not any(said)


def test_a_failing_canary_that_is_asked_again_is_not_told_of() -> None:
    """A fifth of its requests fail and are tried twice more: 24% more than were drawn."""
    assert not any(heard(drawn(np.random.default_rng(3), 0.124 / 1.024, 3000), 10, 200))


# ---------------------------------------------------------------- and again


@pytest.mark.parametrize("requests", [150, 1500])
def test_traffic_that_follows_again_is_said_to_and_it_does_not_flap(requests: float) -> None:
    for seed in range(10):
        off, on = (
            drawn(np.random.default_rng(seed + place), share, requests)
            for place, share in ((0, 0.4), (100, 0.1))
        )

        def look(number: int, off: Looks = off, on: Looks = on) -> tuple[int, int]:
            return off(number) if number < 40 else on(number)

        said = heard(look, 10, 120)
        assert changes(said) == 2
        assert said[39]
        assert not said[40 + LONG.looks]
    assert requests < 1000 or said.index(False, 40) <= 40 + SHORT.looks


def test_how_many_requests_it_takes_to_see_a_third() -> None:
    assert tolerated(10) == tolerated(90) == pytest.approx(1 / 30)
    assert (is_telling(323, 10), is_telling(325, 10)) == (False, True)  # 4 * 0.1 * 0.9 / (1/30)^2 = 324


# ---------------------------------------------------------------- in the judge


def judged(
    weight: int, shares: list[float], mode: str = "steer", by_weight: bool = True, **service: float
) -> list[Verdict]:
    sampled = Sampled(5, **service)
    policy = a_ladder().model_copy(update={"mode": mode})
    judge = Judge(policy, sampled.history(), by_weight)
    judge.open(Span(0, weight, START))
    return [verdict_after(judge, sampled.look(share)) for share in shares]


def test_too_much_traffic_is_no_data_and_nothing_passes() -> None:
    verdicts = judged(10, [40.0] * 20)
    assert {verdict.answer for verdict in verdicts[FIRST:]} == {Answer.NO_DATA}
    assert verdicts[-1].off_weight
    assert "traffic does not follow the weight" in verdicts[-1].reason
    assert Answer.PASS in {one.answer for one in judged(10, [10.0] * 60)}


def test_no_stage_passes_on_looks_that_are_too_few_to_be_certain_of_the_split() -> None:
    sampled = Sampled(5, errors=0.0)
    judge = Judge(a_ladder(), sampled.history())
    judge.open(Span(0, 10, sampled.now))
    verdicts = [verdict_after(judge, sampled.look(15)) for _ in range(SETTLE_LOOKS + LONG.looks + 6)]
    doubted = [verdict for verdict in verdicts if "which some looks more must bear out" in verdict.reason]
    assert {one.answer for one in doubted} == {Answer.UNDECIDED}
    assert Answer.PASS not in {verdict.answer for verdict in verdicts[1:]}
    assert verdicts[-1].answer is Answer.NO_DATA


def test_honest_draws_are_seldom_in_doubt() -> None:
    doubted = 0
    for seed in range(40):
        split, look = SampleRatio(10), drawn(np.random.default_rng(seed), 0.1, 60)
        for number in range(40):
            split.observe(*look(number))
            doubted += split.traffic.is_in_doubt
    assert doubted <= 2  # of 1,600


def test_harm_is_still_harm_while_the_traffic_is_off() -> None:
    verdicts = judged(10, [40.0] * 60, errors=0.01, more_errors=1.8)
    assert verdicts[-1].answer is Answer.FAIL
    assert verdicts[-1].off_weight


def test_an_imagined_weight_and_full_weight_ask_nothing_of_the_traffic() -> None:
    assert not any(one.off_weight for one in judged(10, [50.0] * 20, by_weight=False))
    assert not any(one.off_weight for one in judged(100, [50.0] * 20))


def test_another_weight_begins_anew() -> None:
    sampled = Sampled(6)
    judge = Judge(a_ladder(), sampled.history())
    for weight in (10, 25):
        judge.open(Span(0 if weight == 10 else 1, weight, sampled.now))
        verdicts = [verdict_after(judge, sampled.look(10)) for _ in range(30)]
        assert any(verdict.off_weight for verdict in verdicts) is (weight == 25)
        assert not verdicts[FIRST - 2].off_weight


def test_who_only_observes_is_told_of_too_little_and_of_too_much_by_a_note_alone() -> None:
    little = judged(25, [2.0] * 20, mode="observe")[-1]
    assert little.answer is Answer.NO_DATA
    assert "whoever steers this service has to send that share" in little.reason
    much = judged(25, [50.0] * 20, mode="observe")[-1]
    assert (much.answer is Answer.NO_DATA, much.off_weight) == (False, False)
    assert "compared as it comes" in " ".join(much.notes)
