"""How often a worse version is caught, by an approximation: near what rehearsed rollouts show, and as much
more as there are users or requests."""

from __future__ import annotations

import pytest

from canaryd.simulation.detection_power import (
    WANTED,
    Ladder,
    ServiceTraffic,
    ladder_of,
    power,
    rate_needed,
    times_caught,
    users_needed,
    with_users,
)
from tests.builders import a_policy

BUSY = ServiceTraffic(50.0, 0.005)


def a_ladder(users: int | None = None, **changes: object) -> Ladder:
    stages = [{"weight": weight, "minimum": "2m", "deadline": "15m"} for weight in (10, 25, 50, 100)]
    route = {"virtualService": "sockshop", **({"affinity": {"users": users}} if users else {})}
    ladder = ladder_of(
        a_policy(**{"stages": stages, "route": route, "analysis": {"interval": "10s"}, **changes})
    )
    assert ladder is not None
    return ladder


@pytest.mark.parametrize(
    ("users", "times", "rehearsed"),
    [
        # `bench users`, 60 rollouts each by the judge, rolled back within 900 s: 51, 19 and 1 of 60
        (10_000, 5.0, 51 / 60),
        (10_000, 3.0, 19 / 60),
        (1_000, 5.0, 1 / 60),
        # docs/guides/plan.md, 40 rollouts: below full weight 87% and 100%
        (None, 2.0, 0.87),
        (None, 3.0, 1.0),
    ],
)
def test_it_is_near_what_rehearsed_rollouts_show(users: int | None, times: float, rehearsed: float) -> None:
    """Both have chance: 60 rollouts and 400 draws leave 0.13."""
    assert power(a_ladder(users), BUSY, times, 400).caught == pytest.approx(rehearsed, abs=0.13)


def test_what_becomes_of_all_adds_up() -> None:
    found = power(a_ladder(1_000), BUSY, 2.0)
    assert found.caught + found.let_through + found.undecided == pytest.approx(1.0)
    assert found.let_through > 0.2  # `undecided: advance` lets pass what does not look bad
    held = power(a_ladder(1_000, analysis={"interval": "10s", "undecided": "hold"}), BUSY, 2.0)
    assert held.let_through < found.let_through


def test_the_users_needed_are_enough_and_half_of_them_are_not() -> None:
    few = a_ladder(1_000)
    needed = users_needed(few, BUSY, 5.0)
    assert needed is not None
    assert 5_000 < needed < 20_000
    assert power(with_users(few, needed), BUSY, 5.0).caught >= WANTED - 0.05  # the number is rounded
    assert power(with_users(few, needed / 2), BUSY, 5.0).caught < WANTED


def test_no_number_of_users_makes_up_for_too_few_requests() -> None:
    assert users_needed(a_ladder(1_000), ServiceTraffic(0.5, 0.005), 5.0) is None


def test_the_requests_needed_are_enough_and_more_for_less_harm() -> None:
    five, two = (rate_needed(a_ladder(), ServiceTraffic(0.5, 0.005), times) for times in (5.0, 2.0))
    assert five is not None
    assert two is not None
    assert 3 < five < 20 < two
    assert power(a_ladder(), ServiceTraffic(2.0, 0.005), 5.0).caught < 0.5


def test_the_fewer_users_the_plainer_harm_has_to_be() -> None:
    few, many = (times_caught(a_ladder(users), BUSY) for users in (300, 100_000))
    assert few is not None
    assert many is not None
    assert many < 5 < few


def test_nothing_is_known_where_errors_are_not_judged_or_nothing_is_compared() -> None:
    assert ladder_of(a_policy(analysis={"interval": "10s", "metrics": [{"latency": {}}]})) is None
    assert ladder_of(a_policy(stages=[{"weight": 100}])) is None


def test_the_same_question_has_the_same_answer() -> None:
    power.cache_clear()
    first = power(a_ladder(1_000), BUSY, 2.0)
    power.cache_clear()
    assert power(a_ladder(1_000), BUSY, 2.0) == first
