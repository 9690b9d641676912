"""What is gathered, at once and late; and replays."""

from dataclasses import replace

import numpy as np
import pytest

from canaryd.judge.comparisons import HARM, LUCKY, Comparisons, Unit, fold_all
from canaryd.judge.count_vectors import REQUESTS, SLOWER, TIMED, vectors
from canaryd.judge.leave_one_out import MOST_UNITS, Replays, block_for
from canaryd.judge.metric_evidence import excess, odds_of
from tests.judge.looks import BOUNDS, some_counts


def a_unit(
    stable_events: float = 5.0,
    canary_events: float = 6.0,
    canary_requests: float = 50.0,
    stable_requests: float = 450.0,
) -> Unit:
    return Unit(
        joined=np.array([True]),
        stable_events=np.array([stable_events]),
        stable_requests=stable_requests,
        canary_events=np.array([canary_events]),
        canary_requests=canary_requests,
        tolerated=np.array([1.1]),
        pseudo=np.array([0.0]),
        unacceptable=np.array([2.0]),
        unacceptable_pseudo=np.array([0.0]),
        log_luck=NO_LUCK,
        lucky=np.ones(1),
    )


NO_LUCK = np.log(np.maximum(np.eye(1, LUCKY), 1e-30)).astype(np.float32)
NO_PAST = np.zeros((1, HARM.cells), dtype=np.float32)


def comparisons() -> Comparisons:
    return Comparisons(np.zeros(1), NO_PAST, np.zeros(1))


def test_what_a_stage_shows_is_its_own_and_the_whole_remembers():
    gathered, later = comparisons(), comparisons()
    gathered.fold(a_unit(canary_events=0))
    assert gathered.stage is gathered.whole
    gathered.begin_stage()
    later.cap = gathered.cap
    for one in (gathered, later):
        one.fold(a_unit())
    assert gathered.stage.log_odds == pytest.approx(later.whole.log_odds)
    assert gathered.log_cleared == pytest.approx(later.log_cleared)
    assert gathered.whole.log_odds[0] < gathered.stage.log_odds[0]


def test_harm_that_begins_late_is_found_nearly_as_fast_as_harm_from_the_start():
    """100 good units first; 5% of requests fail then, where 1% did: at most two units later, and one if a
    stage begins there."""

    def units_until_found(good: int, stage: bool) -> int:
        gathered = comparisons()
        for _ in range(good):
            gathered.fold(a_unit(canary_events=0.5))
        if stage:
            gathered.begin_stage()
        count = 0
        while gathered.whole.log_odds[0] < np.log(100):
            gathered.fold(a_unit(canary_events=10, canary_requests=200))
            count += 1
        return count

    at_once = units_until_found(0, stage=False)
    assert units_until_found(100, stage=False) <= at_once + 3
    assert units_until_found(100, stage=True) <= at_once + 2


def test_units_without_requests_on_a_side_or_without_events_change_nothing():
    gathered = comparisons()
    gathered.fold(a_unit(canary_requests=0, canary_events=0))
    gathered.fold(a_unit(stable_events=0, canary_events=0))
    assert gathered.whole.log_odds[0] == 0


def test_many_at_once_are_as_each_alone():
    alone, together = [comparisons() for _ in range(3)], [comparisons() for _ in range(3)]
    for number in range(6):
        for place in (0, 1):
            if number == 3 + place:
                alone[place].begin_stage()
                together[place].begin_stage()
        units = [a_unit(canary_events=events) for events in (0, 3 + number, 12)]
        for one, unit in zip(alone, units, strict=True):
            one.fold(unit)
        fold_all(zip(together, units, strict=True))
    for one, other in zip(alone, together, strict=True):
        assert other.whole.log_odds == pytest.approx(one.whole.log_odds, abs=1e-5)
        assert other.stage.log_odds == pytest.approx(one.stage.log_odds, abs=1e-5)
        assert other.log_cleared == pytest.approx(one.log_cleared, abs=1e-5)


def test_what_luck_brings_is_not_held_against_the_canary():
    """A rate that is half higher for good: luck that reaches that far takes the evidence back, without hiding
    a threefold one."""
    lucky = np.log(np.array([[0.4, 0.2, 0.15, 0.1, 0.1, 0.04, 0.01]])).astype(np.float32)
    found = {}
    for name, luck, events in (("no luck", NO_LUCK, 0.75), ("luck", lucky, 0.75), ("plain", lucky, 1.5)):
        gathered = comparisons()
        for _ in range(200):
            gathered.fold(
                replace(
                    a_unit(canary_events=events),
                    log_luck=luck,
                    lucky=np.full(1, 1.0 if luck is NO_LUCK else 2.0),
                )
            )
        found[name] = gathered.whole.log_odds[0]
    assert found["luck"] < np.log(20)
    assert found["luck"] < found["no luck"] - 2
    assert found["plain"] > np.log(1000)


def test_to_pass_so_many_events_count_as_one_as_if_they_were_divided_by_hand():
    """Units above and below what is usual, with an absolute tolerance; others are folded together with them
    and are not divided."""
    past, past_in_bursts = (
        -scale * np.linspace(0, 1, HARM.cells, dtype=np.float32)[None] for scale in (3, 1)
    )
    plain, in_bursts = (Comparisons(np.zeros(1), past, np.full(1, 24.0)) for _ in range(2))
    in_bursts.in_bursts(np.full(1, 4.0), past_in_bursts, np.full(1, 6.0))
    divided = Comparisons(np.zeros(1), past_in_bursts, np.full(1, 6.0))
    for number in range(40):
        if number == 20:
            for one in (plain, in_bursts, divided):
                one.begin_stage()
        unit = replace(
            a_unit((4.0, 28.0)[number % 2], (0.0, 4.0)[number % 2]), unacceptable_pseudo=np.full(1, 0.01)
        )
        by_hand = replace(
            a_unit(unit.stable_events[0] / 4, unit.canary_events[0] / 4),
            unacceptable_pseudo=np.full(1, 0.0025),
        )
        fold_all([(plain, unit), (in_bursts, unit), (divided, by_hand)])
    assert in_bursts.log_cleared == pytest.approx(divided.log_cleared, abs=1e-4)
    assert 0.1 < in_bursts.log_cleared[0] < plain.log_cleared[0] - 0.5


def test_that_events_come_in_bursts_changes_no_odds_of_harm():
    past = -np.linspace(0, 3, HARM.cells, dtype=np.float32)[None]
    plain, in_bursts = (Comparisons(np.zeros(1), past, np.full(1, 24.0)) for _ in range(2))
    in_bursts.in_bursts(np.full(1, 4.0), NO_PAST, np.zeros(1))
    for number in range(20):
        if number == 10:
            plain.begin_stage()
            in_bursts.begin_stage()
        fold_all((one, a_unit(canary_events=(1.0, 4.0)[number % 2])) for one in (plain, in_bursts))
    assert in_bursts.whole.log_odds == pytest.approx(plain.whole.log_odds)
    assert in_bursts.stage.log_odds == pytest.approx(plain.stage.log_odds)
    assert plain.whole.log_odds[0] > plain.stage.log_odds[0] > 1


def test_replays_keep_only_so_many_units_and_still_agree():
    replays, gathered = Replays(np.zeros(1), NO_PAST, np.zeros(1)), comparisons()
    for number in range(2 * MOST_UNITS + 300):
        if number % 200 == 0:
            replays.begin_stage()
            gathered.begin_stage()
        replays.add(a_unit(), {"a": np.array([50.0, 6.0])})
        gathered.fold(a_unit())
        if number == MOST_UNITS:
            shadow = replays.without("nobody")
    assert replays.units <= 2 * MOST_UNITS
    assert replays.without("nobody") is shadow
    assert shadow.whole.log_odds == pytest.approx(gathered.whole.log_odds, abs=1e-2)


def test_leaving_out_a_replica_is_as_if_it_had_never_served():
    replays, without = Replays(np.zeros(1), NO_PAST, np.zeros(1)), comparisons()
    for _ in range(4):
        replays.add(
            a_unit(canary_events=6, canary_requests=50),
            {"a": np.array([30.0, 5.0]), "b": np.array([20.0, 1.0])},
        )
        without.fold(a_unit(canary_events=1, canary_requests=20))
        assert replays.without("a").whole.log_odds == pytest.approx(without.whole.log_odds)


def test_blocks_are_the_sums_of_their_units_and_wait_until_they_are_full():
    replays, blocks = Replays(np.zeros(1), NO_PAST, np.zeros(1)), comparisons()
    for _ in range(7):
        replays.add(a_unit(), {})
    for _ in range(2):
        blocks.fold(a_unit(15, 18, 150, 1350.0))
    assert replays.in_blocks(3).whole.log_odds == pytest.approx(blocks.whole.log_odds)


@pytest.mark.parametrize(
    ("tau", "length", "units"),
    [(1.2, 1, 1), (2.0, 1, 10), (6.0, 1, 20), (50.0, 1, 30), (2.0, 6, 5), (50.0, 30, 1)],
)
def test_blocks_are_three_correlation_times_long_and_at_most_thirty_looks(tau, length, units):
    assert block_for(tau, length) == units


def test_what_a_stage_rules_out_hurts_as_many_users_as_the_unacceptable_at_full_weight():
    assert [excess(1.0, weight) for weight in (25, 50, 100)] == [4.0, 2.0, 1.0]


def test_odds_stay_a_number():
    assert np.isfinite(odds_of(5000.0))


def test_vectors_hold_what_was_slower_than_each_bound_and_leave_cold_latency_out():
    counts = {"a": some_counts(10, 1, slow=4), "b": some_counts(5)}
    warm, cold = vectors(counts, BOUNDS, BOUNDS)["a"], vectors(counts, BOUNDS, BOUNDS, cold={"a"})["a"]
    assert warm[REQUESTS] == cold[REQUESTS] == 10
    assert warm[SLOWER:].tolist() == [10, 4, 4, 0, 0, 0, 0]
    assert cold[TIMED] == cold[SLOWER:].sum() == 0
