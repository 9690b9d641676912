"""Services whose users are not alike: each keeps his lot, the crowd as a whole fails as often as its world
says, and the matched apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.unlike_users import Crowd, Matched, Mixed, People
from canaryd.domain.counts import Counts, Look, total
from canaryd.simulation.simulated_service import Scenario
from canaryd.stats.cluster_randomization import ALIKE, BUSY

KINDS = [People(), People(unlucky=0.5, often=0.1), People(unlucky=0.0, alike=0.05)]


def a_crowd(world: Scenario, people: People, seed: int = 1) -> Crowd:
    return Crowd(world, people, np.random.default_rng(seed))


def added(looks: list[Look]) -> tuple[Counts, Counts]:
    return total(one for look in looks for one in look.stable.values()), total(
        one for look in looks for one in look.canary.values()
    )


def rates(world: Scenario, people: People, seeds: int, weight: float) -> np.ndarray:
    """Stable's and the canary's true rates, of many draws of users."""
    busy = replace(world, requests=1e6)
    found = [
        [one.failures / one.requests for one in added(a_crowd(busy, people, seed).looks(weight, 1))]
        for seed in range(seeds)
    ]
    return np.array(found)


@pytest.mark.parametrize(("people", "errors"), [*zip(KINDS, (0.05, 0.005, 0.05), strict=True)])
def test_users_differ_by_a_twentieth_of_all_variance_as_the_judge_takes_it(
    people: People, errors: float
) -> None:
    """Of the rate of 500 users, by Kish: p (1 - p) times ALIKE times BUSY over their number. Few who send
    much make the most of it."""
    people = replace(people, count=1000)
    stable, canary = rates(Scenario(errors=errors), people, 600, 50).T
    for each in (stable, canary):
        assert each.mean() == pytest.approx(errors, rel=0.03)
        assert each.std() == pytest.approx(np.sqrt(errors * (1 - errors) * ALIKE * BUSY / 500), rel=0.15)
    assert abs(np.corrcoef(stable, canary)[0, 1]) < 0.2


@pytest.mark.parametrize("people", KINDS)
def test_a_canary_that_is_twice_as_bad_fails_twice_as_often_on_average(people: People) -> None:
    stable, canary = rates(Scenario(errors=0.05, canary_errors=2.0), replace(people, count=2000), 200, 50).T
    assert canary.mean() / stable.mean() == pytest.approx(2.0, rel=0.05)
    _, worse = rates(Scenario(errors=0.0, more_errors=0.3), replace(people, count=2000, alike=0.0), 5, 50).T
    assert worse.mean() == pytest.approx(0.3, rel=0.02)


def test_who_has_seen_the_canary_stays_there_and_requests_follow_the_weight() -> None:
    world = Scenario(errors=0.05)
    alone, ten, half, everyone = (
        [a_crowd(world, People(2000), 3).looks(weight, 60)] for weight in (0, 10, 50, 100)
    )
    served = [
        added(looks)[1].requests / sum(one.requests for one in added(looks))
        for [looks] in (alone, ten, half, everyone)
    ]
    assert served == pytest.approx([0, 0.1, 0.5, 1], abs=0.03)
    for seed in range(5):
        hermit = a_crowd(world, People(1), seed)
        looks = [hermit.look(weight) for weight in range(0, 101, 5)]
        assert all(bool(look.stable) is not bool(look.canary) for look in looks)
        assert [bool(look.canary) for look in looks] == sorted(bool(look.canary) for look in looks), (
            "a user changes once"
        )


def test_looks_follow_one_another_and_are_the_same_with_the_same_seed() -> None:
    one, other = a_crowd(Scenario(), People()), a_crowd(Scenario(), People())
    looks = [*one.history(3), *one.looks(10, 2), one.look(10, 7)]
    assert looks == [*other.history(3), *other.looks(10, 2), other.look(10, 7)]
    assert [(look.start - looks[0].start, look.seconds) for look in looks] == [
        *((10 * place, 10) for place in range(5)),
        (50, 7),
    ]
    assert looks[0].canary == {}
    assert sorted(looks[3].canary) == ["canary-0", "canary-1", "canary-2"]
    assert one.faulty(10, np.array([one.now]), 10) == [1.0]


def test_a_slow_canary_is_slow_for_each_of_its_users() -> None:
    stable, canary = added(a_crowd(Scenario(requests=5000, canary_latency=2.0), People(5000)).looks(50, 10))
    assert canary.duration_ms / canary.timed / (stable.duration_ms / stable.timed) == pytest.approx(
        2.0, rel=0.03
    )
    place = Scenario().bounds.index(100)
    slower = [1 - one.within[place] / one.timed for one in (stable, canary)]
    # By normal tails: medians of 60 and 120 ms times exp(-0.14**2 / 2), sd of the log sqrt(0.6**2 + 0.14**2).
    assert slower == pytest.approx([0.199, 0.610], abs=0.02)


def test_matched_users_are_served_where_stable_has_only_a_part_and_all_others_elsewhere() -> None:
    service = Mixed(
        Scenario(requests=2000.0, canary_errors=2.0),
        Matched(errors=10.0, latency=1.5),
        np.random.default_rng(1),
    )
    before = added(service.history(20))
    matched = service.looks(5, 20, stable_weight=5)
    after = service.looks(10, 20)
    assert matched[0].start == service.now - 400
    assert after[0].start == matched[-1].end, "one after the other"

    def shares(both: tuple[Counts, Counts]) -> list[float]:
        return [one.failures / one.requests for one in both if one.requests]

    assert shares(before) == pytest.approx([0.005], rel=0.1)
    assert shares(added(matched)) == pytest.approx([0.05, 0.1], rel=0.1)
    assert shares(added(after)) == pytest.approx([0.005, 0.01], rel=0.1)
    of_stable, of_canary = added(matched)
    assert of_stable.requests == pytest.approx(of_canary.requests, rel=0.03)
    assert of_stable.duration_ms / of_stable.timed == pytest.approx(
        1.5 * before[0].duration_ms / before[0].timed, rel=0.03
    )
    assert service.faulty(0, np.array([service.now]), 10) == [1.0], "the fault shows where it is at weight 0"
