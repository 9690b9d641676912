"""What is too plain to wait for: a version that is down, and a replica that is; and what is neither."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from canaryd.domain.assessment import PlainHarm
from canaryd.domain.counts import Counts, Look
from canaryd.judge.plain_harm import PlainHarmWatch

STEP = 5
Replicas = Mapping[str, tuple[int, int]]  # requests, failures
STABLE: Replicas = {f"s{number}": (75, 0) for number in range(3)}
GOOD: Replicas = {f"c{number}": (8, 0) for number in range(3)}
DEAD: Replicas = {f"c{number}": (8, 8) for number in range(3)}


def looks(*each: tuple[Replicas, Replicas], start: int = 1000, step: int = STEP) -> Iterator[Look]:
    """Looks on end, from stable's and the canary's counts."""
    for place, (stable, canary) in enumerate(each):
        sides = ({name: Counts(*counts) for name, counts in side.items()} for side in (stable, canary))
        yield Look(start + place * step, start + (place + 1) * step, (), *sides)


def history(count: int = 360, bad: Mapping[int, Replicas] = {}, step: int = 15) -> list[Look]:
    """Stable's looks before the rollout. bad: its counts in some of them, by their place."""
    return list(
        looks(*((bad.get(place, STABLE), {}) for place in range(count)), start=1000 - count * step, step=step)
    )


def watch(
    *each: tuple[Replicas, Replicas],
    past: Sequence[Look] = (),
    young: frozenset[str] = frozenset(),
    drawn_alike: bool = True,
    has_replicas: bool = True,
) -> tuple[PlainHarm | None, int]:
    """What is found, and after how many looks."""
    watched = PlainHarmWatch(version=True, replica=True, history=past, has_replicas=has_replicas)
    for place, look in enumerate(looks(*each), start=1):
        watched.observe(look, young, drawn_alike)
        if watched.found is not None:
            return watched.found, place
    return None, len(each)


@pytest.mark.parametrize("past", [history(), history(4), []], ids=["an hour", "a minute", "no past"])
def test_a_version_that_fails_everything_is_down_after_two_looks(past: list[Look]) -> None:
    found, after = watch(*[(STABLE, DEAD)] * 10, past=past)
    assert after == 2
    assert found == PlainHarm(True, "", 10, 48, 48, 3, 3, 0, 3, 0, 225, 15 * len(past) + 10)


def test_half_of_the_requests_failing_on_every_replica_takes_as_many_failures() -> None:
    found, after = watch(*[(STABLE, dict.fromkeys(GOOD, (8, 4)))] * 10, past=history())
    assert found is not None
    assert (found.failures, after) == (48, 4)


@pytest.mark.parametrize(
    "canary",
    [
        pytest.param({"c0": (24, 24)}, id="one replica, which may only hang"),
        pytest.param({"c0": (8, 8), "c1": (8, 0), "c2": (8, 0)}, id="one of three"),
        pytest.param(dict.fromkeys(GOOD, (20, 7)), id="a third of the requests"),
        pytest.param(dict.fromkeys(GOOD, (1, 1)), id="too few requests to say"),
    ],
)
def test_what_is_no_version_that_is_down(canary: Replicas) -> None:
    found, _ = watch(*[(STABLE, canary)] * 11, past=history())
    assert found is None


def test_what_strikes_both_versions_is_none_s_fault() -> None:
    both = dict.fromkeys(STABLE, (75, 75))
    assert watch(*[(both, DEAD)] * 200, past=history()) == (None, 200)
    one_of_three = {**STABLE, "s0": (75, 75)}
    assert watch(*[(one_of_three, DEAD)] * 20, past=history()) == (None, 20)


def test_without_stable_s_requests_nothing_is_plain() -> None:
    idle = dict.fromkeys(STABLE, (0, 0))
    assert watch(*[(idle, DEAD)] * 100, past=history()) == (None, 100)


def test_longer_than_three_times_what_stable_s_record_shows() -> None:
    outage = dict.fromkeys(STABLE, (75, 60))
    found, after = watch(*[(STABLE, DEAD)] * 100, past=history(bad={10: outage, 11: outage}))
    assert found is not None
    assert (found.seconds, after) == (90, 18)


def test_more_failures_than_stable_ever_had_at_once() -> None:
    burst = {**STABLE, "s0": (75, 70), "s1": (75, 15)}
    found, _ = watch(*[(STABLE, DEAD)] * 100, past=history(bad={10: burst}))
    assert found is not None
    assert 89 <= found.failures <= 110


def test_replicas_that_warm_up_have_half_a_minute_unless_nearly_everything_fails() -> None:
    half, young = dict.fromkeys(GOOD, (12, 6)), frozenset(GOOD)
    found, after = watch(*[(STABLE, half)] * 20, past=history(), young=young)
    assert found is not None
    assert after == 6
    assert watch(*[(STABLE, DEAD)] * 20, past=history(), young=young)[1] == 2


def test_users_who_were_not_drawn_by_request_may_be_unlike() -> None:
    half = dict.fromkeys(GOOD, (12, 6))
    assert watch(*[(STABLE, half)] * 50, drawn_alike=False) == (None, 50)
    assert watch(*[(STABLE, DEAD)] * 50, drawn_alike=False)[1] == 2


def test_little_traffic_adds_looks_up() -> None:
    few = dict.fromkeys(GOOD, (2, 2))
    found, after = watch(*[(STABLE, few)] * 20, past=history())
    assert found is not None
    assert (found.failures, after) == (54, 9)


def without_telemetry(look: Look) -> Look:
    return Look(look.start, look.end, sampled=False)


def test_a_minute_without_telemetry_ends_what_was_on_end() -> None:
    watched = PlainHarmWatch(version=True, replica=True, history=(), has_replicas=True)
    first, *blind, last = looks(*[(STABLE, DEAD)] * 14)
    for look in (first, *map(without_telemetry, blind), last):
        watched.observe(look)
    assert watched.found is None


def test_looks_in_between_that_no_scrape_fell_into_end_nothing() -> None:
    watched = PlainHarmWatch(version=True, replica=True, history=(), has_replicas=True)
    for place, look in enumerate(looks(*[(STABLE, DEAD)] * 4)):
        watched.observe(without_telemetry(look) if place % 2 else look)
    assert watched.found is not None
    assert watched.found.seconds == 10


def test_a_replica_that_fails_everything_is_down_after_two_minutes() -> None:
    one = {**GOOD, "c1": (8, 8)}
    found, after = watch(*[(STABLE, one)] * 50, past=history())
    assert found is not None
    assert (found.replica, found.seconds, after) == ("c1", 120, 24)
    assert (found.failing_replicas, found.replicas) == (1, 3)


def test_a_single_replica_is_told_so_too_and_without_a_name_where_replicas_are_not_told_apart() -> None:
    alone: Replicas = {"c0": (24, 24)}
    found, after = watch(*[(STABLE, alone)] * 50, past=history())
    assert found is not None
    assert (found.replica, after) == ("c0", 24)
    found, after = watch(*[(STABLE, alone)] * 50, past=history(), has_replicas=False)
    assert found is not None
    assert (found.replica, after) == ("", 24)


def test_a_replica_has_to_be_down_longer_than_stable_s_ever_were() -> None:
    hang = {**STABLE, "s0": (75, 75)}
    one = {**GOOD, "c1": (8, 8)}
    past = history(bad=dict.fromkeys(range(100, 104), hang))  # for a minute
    found, after = watch(*[(STABLE, one)] * 50, past=past)
    assert found is not None
    assert (found.seconds, after) == (180, 36)


def test_a_replica_that_hangs_for_a_minute_now_and_then_is_nothing_plain() -> None:
    one = {**GOOD, "c1": (8, 8)}
    minute, rest = [(STABLE, one)] * 12, [(STABLE, GOOD)] * 5
    assert watch(*(minute + rest) * 5, past=history())[0] is None


def test_rules_can_be_switched_off() -> None:
    watched = PlainHarmWatch(version=False, replica=False, history=(), has_replicas=True)
    for look in looks(*[(STABLE, DEAD)] * 60):
        watched.observe(look)
    assert watched.found is None


def test_bursts_over_all_replicas_of_a_healthy_version_are_nothing_plain() -> None:
    """0.5% errors in bursts of 16 that hit every replica, 5 requests/s for the canary: 100 rollouts."""
    rng, down = np.random.default_rng(12), 0
    for _ in range(100):
        each = []
        for _ in range(360):
            bursts = rng.poisson(0.005 * 25 / 16)
            canary = dict.fromkeys(GOOD, (8, min(8, int(bursts * 16) // 3)))
            each.append((STABLE, canary))
        down += watch(*each, past=history())[0] is not None
    assert down == 0


def test_of_half_the_requests_failing_chance_ends_no_run() -> None:
    """25 requests a look, of which fewer than 40% fail in every ninth: one look in which a version that
    fails half of all does not seem down."""
    half, fewer = (dict.fromkeys(GOOD, (8, failed)) for failed in (4, 3))
    good = dict.fromkeys(GOOD, (8, 1))
    run = [(STABLE, half)] * 3
    assert watch(*run, (STABLE, fewer), (STABLE, half), past=history())[1] == 5
    for other in [(STABLE, good), (dict.fromkeys(STABLE, (75, 30)), fewer)]:
        assert watch(*run, other, *run, past=history())[0] is None


@pytest.mark.parametrize("requests", [5, 50])
@pytest.mark.parametrize("linear", [True, False])
def test_half_of_cold_requests_failing_and_fewer_soon_is_nothing_plain(requests: int, linear: bool) -> None:
    """The share of failures falls off within a minute. requests: of the canary, each second."""
    rng, down = np.random.default_rng(13), 0
    for _ in range(100):
        each = []
        for at in np.arange(STEP / 2, 120, STEP):
            share = 0.5 * (max(0.0, 1 - at / 60) if linear else np.exp(-at / 60))
            served = rng.poisson(requests * STEP / 3, 3)
            failed = rng.binomial(served, share)
            each.append((STABLE, {f"c{i}": (int(served[i]), int(failed[i])) for i in range(3)}))
        down += watch(*each, young=frozenset(GOOD))[0] is not None
    assert down <= 1
