"""Processes, their weights, and replays."""

import numpy as np
import pytest

from canaryd.analysis.comparisons import GATHERING, Comparisons, Unit
from canaryd.analysis.counting import REQUESTS, SLOWER, TIMED, Warmth, vectors
from canaryd.analysis.evidence import excess, odds_of, weighted
from canaryd.analysis.replay import Replays, block_for
from tests.analysis.looks import BOUNDS, START, a_look, some_counts


def a_unit(stable_events: float = 5.0, canary_events: float = 6.0, canary_requests: float = 50.0) -> Unit:
    return Unit(
        joined=np.array([True]), stable_events=np.array([stable_events]), stable_requests=450.0, canary_events=np.array([canary_events]),
        canary_requests=canary_requests, tolerated=np.array([1.1]), pseudo=np.array([0.0]),
    )  # fmt: skip


def comparisons() -> Comparisons:
    return Comparisons(1, cap=np.zeros(1))


def _log_odds(process):
    return float(process.log_odds[0])


def test_process_weights_with_what_has_not_begun_sum_to_one():
    gathered = comparisons()
    for number in range(1, 9):
        gathered.begin(new_stage=True)
        assert weighted(gathered, _log_odds) + 1 / (number + 1) == pytest.approx(1)  # nothing heard: every process stands at 1


def test_a_later_process_knows_only_what_came_after_it_began():
    gathered, later = comparisons(), comparisons()
    gathered.begin(new_stage=True)
    gathered.fold(a_unit(canary_events=0))
    gathered.begin(new_stage=True)
    later.begin(new_stage=True)
    later.cap = gathered.cap
    for one in (gathered, later):
        one.fold(a_unit())
    assert gathered.processes[1].log_odds == pytest.approx(later.processes[0].log_odds)
    assert gathered.processes[0].log_odds[0] < gathered.processes[1].log_odds[0]


def test_old_processes_stop_gathering_keep_their_odds_and_the_stage_s_own_never_stops():
    gathered = comparisons()
    gathered.begin(new_stage=False)
    gathered.fold(a_unit())
    kept = gathered.processes[0].log_odds.copy()
    gathered.begin(new_stage=True)
    for _ in range(GATHERING + 2):
        gathered.begin(new_stage=False)
    gathered.fold(a_unit())
    assert len(gathered.gathering) == GATHERING
    assert gathered.stage is gathered.processes[1]
    assert gathered.processes[0].log_odds == pytest.approx(kept)
    assert gathered.stage.log_odds == pytest.approx(gathered.processes[-1].log_odds)


def test_units_without_requests_on_a_side_or_without_events_change_nothing():
    gathered = comparisons()
    gathered.begin(new_stage=True)
    gathered.fold(a_unit(canary_requests=0, canary_events=0))
    gathered.fold(a_unit(stable_events=0, canary_events=0))
    assert gathered.processes[0].log_odds[0] == 0


def test_replays_keep_only_what_processes_that_gather_have_heard_and_still_agree_with_them():
    cap = np.zeros(1)
    replays, gathered = Replays(1, cap), Comparisons(1, cap=cap)
    for number in range(12):
        replays.begin(new_stage=number == 0)
        gathered.begin(new_stage=number == 0)
        for _ in range(30):
            replays.add(a_unit(), {"a": np.array([50.0, 6.0])})
            gathered.fold(a_unit())
        shadow = replays.without("nobody") if number > 5 else None
    assert shadow is not None
    assert replays.length <= 12 + 30 * GATHERING
    newest = [process.log_odds[0] for process in gathered.processes[-3:]]
    assert [process.log_odds[0] for process in shadow.processes[-3:]] == pytest.approx(newest)


def test_leaving_out_a_replica_is_as_if_it_had_never_served():
    cap = np.zeros(1)
    replays, without = Replays(1, cap), comparisons()
    without.begin(new_stage=True)
    replays.begin(new_stage=True)
    for _ in range(4):
        replays.add(a_unit(canary_events=6, canary_requests=50), {"a": np.array([30.0, 5.0]), "b": np.array([20.0, 1.0])})
        without.fold(a_unit(canary_events=1, canary_requests=20))
        assert replays.without("a").processes[0].log_odds == pytest.approx(without.processes[0].log_odds)


def test_blocks_are_the_sums_of_their_units_and_wait_until_they_are_full():
    replays, blocks = Replays(1, np.zeros(1)), comparisons()
    blocks.begin(new_stage=True)
    replays.begin(new_stage=True)
    for _ in range(7):
        replays.add(a_unit(), {})
    for _ in range(2):
        unit = a_unit(15, 18, 150)
        blocks.fold(Unit(unit.joined, unit.stable_events, 1350.0, unit.canary_events, 150.0, unit.tolerated, unit.pseudo))
    assert replays.in_blocks(3).processes[0].log_odds == pytest.approx(blocks.processes[0].log_odds)


@pytest.mark.parametrize(("tau", "length", "units"), [(1.2, 1, 1), (2.0, 1, 10), (6.0, 1, 20), (50.0, 1, 30), (2.0, 6, 5), (50.0, 30, 1)])
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


def test_stable_s_replicas_of_the_first_look_are_not_newborn_and_later_ones_are():
    warmth = Warmth(60.0)
    seen = {"s0": START - 1.0, "c0": START - 1.0}
    assert warmth.cold(a_look(0, {"s0": some_counts(1)}, {"c0": some_counts(1)}, first_seen=seen)) == {"c0"}
    later = a_look(3, {"s0": some_counts(1), "s1": some_counts(1)}, {"c0": some_counts(1)}, first_seen={**seen, "s1": START + 25.0})
    assert warmth.cold(later) == {"c0", "s1"}
    assert warmth.cold(a_look(10, {}, {}, first_seen={**seen, "s1": START + 25.0})) == set()
