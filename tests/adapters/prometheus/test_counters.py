"""The ledger against a generator's own tally, and one reference case for each rule."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canaryd.adapters.prometheus.counters import (
    ALL,
    Growth,
    Ledger,
    Point,
    Reading,
    Replica,
    Sample,
    failed,
    failing_codes,
    failing_statuses,
)
from canaryd.domain.counts import Counts, Look, Target, total
from canaryd.domain.policy.metrics import GRPC_FAILURES, GRPC_STATUSES, HTTP_FAILURES

OK, ERROR, CLIENT_GONE, GRPC_UNAVAILABLE = ("200", ""), ("503", ""), ("0", ""), ("200", "14")
STABLE_POD, CANARY_POD = ("front-end-v1", "front-end-v1-a"), ("front-end-v2", "front-end-v2-a")
TARGET = Target("production", ("front-end-v1",), ("front-end-v2",), since=0, grpc_failures=("UNAVAILABLE",))
BOUNDS = (10.0, 100.0)


def a_sample(ok: int = 0, errors: int = 0, timed: tuple[int, ...] = (), ms: float | None = None) -> Sample:
    """Cumulative values: requests under 200 and 503 (0: no series), and the histogram at 10 ms, 100 ms and
    +Inf."""
    codes = {code: count for code, count in ((OK, ok), (ERROR, errors)) if count}
    return Sample(codes, dict(zip((*BOUNDS, math.inf), timed, strict=False)), ms)


def growths(*samples: Sample | None, settle: float = 0, replica: Replica = CANARY_POD) -> list[Growth]:
    """Growth at each point (None: absent) of a replica whose sibling is there from the start, idle."""
    ledger = Ledger(settle)
    ledger.fold(0, {STABLE_POD: a_sample(1)})
    points = [{} if sample is None else {replica: sample} for sample in samples]
    return [ledger.fold(10 * (index + 1), point).get(replica, Growth()) for index, point in enumerate(points)]


def served(growth: Growth) -> dict[tuple[str, str], int]:
    return {code: count for code, count in growth.requests.items() if count}


def test_growth_is_the_difference_of_two_points() -> None:
    assert [served(growth) for growth in growths(a_sample(7), a_sample(12))] == [{OK: 7}, {OK: 5}]


def test_what_is_there_at_the_first_sight_is_the_baseline() -> None:
    ledger = Ledger(settle=0)
    assert ledger.fold(0, {STABLE_POD: a_sample(1_000_000, 3)})[STABLE_POD] == Growth()
    assert served(ledger.fold(10, {STABLE_POD: a_sample(1_000_004, 3)})[STABLE_POD]) == {OK: 4}


def test_replicas_scraped_a_moment_after_the_first_are_no_newborns() -> None:
    ledger = Ledger(settle=30)
    ledger.fold(0, {STABLE_POD: a_sample(50)})
    assert ledger.fold(30, {CANARY_POD: a_sample(60)})[CANARY_POD] == Growth()
    assert served(ledger.fold(31, {("front-end-v2", "b"): a_sample(8)})[("front-end-v2", "b")]) == {OK: 8}


def test_an_empty_point_does_not_open_the_baseline() -> None:
    ledger = Ledger(settle=0)
    ledger.fold(0, {})
    ledger.fold(10, {})
    assert ledger.fold(20, {STABLE_POD: a_sample(50)})[STABLE_POD] == Growth()


def test_a_newborn_replica_counts_from_zero() -> None:
    assert served(growths(a_sample(5, 2))[0]) == {OK: 5, ERROR: 2}


def test_the_first_error_of_a_known_replica_counts() -> None:
    assert served(growths(a_sample(5), a_sample(6, 1))[1]) == {OK: 1, ERROR: 1}


def test_a_replica_known_by_its_histogram_alone_is_known() -> None:
    ledger = Ledger(settle=0)
    ledger.fold(0, {STABLE_POD: a_sample(timed=(0, 0, 9))})
    assert served(ledger.fold(10, {STABLE_POD: a_sample(2, timed=(0, 0, 11))})[STABLE_POD]) == {OK: 2}


def test_a_gap_is_made_good_at_the_next_point() -> None:
    assert [served(growth) for growth in growths(a_sample(5), None, None, a_sample(25))] == [
        {OK: 5},
        {},
        {},
        {OK: 20},
    ]


def test_a_restart_begins_every_series_at_zero_even_one_that_looks_unchanged() -> None:
    # 2 errors before and 2 after: the drop of the other series tells that they are other errors.
    assert served(growths(a_sample(50, 2), a_sample(7, 2))[1]) == {OK: 7, ERROR: 2}


def test_a_restart_is_told_by_the_histogram_too() -> None:
    first, second = growths(a_sample(5, timed=(5, 5, 5)), a_sample(6, timed=(1, 1, 4)))
    assert (served(first), served(second)) == ({OK: 5}, {OK: 6})
    assert second.within == {10.0: 1, 100.0: 1, math.inf: 4}


def test_a_series_that_went_missing_over_a_restart_is_forgotten() -> None:
    assert [served(growth) for growth in growths(a_sample(50, 9), a_sample(3), a_sample(5, 1))][1:] == [
        {OK: 3},
        {OK: 2, ERROR: 1},
    ]


def test_a_series_reset_while_it_was_away_does_not_count_the_others_again() -> None:
    # Between the first two points the process outgrew its predecessor, which no counter tells; the error
    # comes back lower much later.
    third = growths(a_sample(5, 2), a_sample(7), a_sample(100_000, 1))[2]
    assert served(third) == {OK: 99_993, ERROR: 1}


def test_a_histogram_reset_while_it_was_away_does_not_count_requests_again() -> None:
    # Envoy flushes histograms later than counters, so a new process is seen without one first.
    third = growths(a_sample(5, timed=(5, 5, 5)), a_sample(7), a_sample(9, timed=(2, 3, 4)))[2]
    assert (served(third), third.within) == ({OK: 2}, {10.0: 2, 100.0: 3, math.inf: 4})


@pytest.mark.parametrize(
    "torn",
    [(30, 40), (30, 20, 40), (30,)],
    ids=["without +Inf", "more within 10 ms than within 100 ms", "one bound"],
)
def test_a_torn_histogram_is_a_gap_and_is_made_good_by_the_next_whole_one(torn: tuple[int, ...]) -> None:
    first, second, third = growths(
        a_sample(9, timed=(3, 6, 9)), a_sample(20, timed=torn), a_sample(40, timed=(20, 35, 40))
    )
    assert first.within[math.inf] == 9
    assert second.within == {}
    assert third.within == {10.0: 17, 100.0: 29, math.inf: 31}


def test_a_histogram_torn_in_the_baseline_does_not_count_a_lifetime_when_it_is_whole() -> None:
    ledger = Ledger(settle=0)
    ledger.fold(0, {STABLE_POD: a_sample(9, timed=(3, 6))})
    assert ledger.fold(10, {STABLE_POD: a_sample(9, timed=(3, 6, 9_000))})[STABLE_POD].within == {}
    assert ledger.fold(20, {STABLE_POD: a_sample(9, timed=(3, 7, 9_002))})[STABLE_POD].within == {
        10.0: 0,
        100.0: 1,
        math.inf: 2,
    }


def test_a_growth_no_process_can_make_is_not_counted_and_becomes_the_baseline() -> None:
    _, second, third = growths(
        a_sample(9, timed=(3, 6, 9)), a_sample(9, timed=(8, 8, 9)), a_sample(9, timed=(9, 9, 10))
    )
    assert second.within == {}
    assert third.within == {10.0: 1, 100.0: 1, math.inf: 1}


def test_a_wobbling_sum_is_neither_a_restart_nor_negative() -> None:
    _, second, third = growths(
        a_sample(9, timed=(9, 9, 9), ms=100.3),
        a_sample(9, timed=(9, 9, 9), ms=100.29999999999998),
        a_sample(10, timed=(9, 9, 10), ms=250.3),
    )
    assert (served(second), second.duration_ms) == ({}, 0.0)
    assert third.duration_ms == pytest.approx(150.0)


def test_a_sum_missed_once_is_made_good() -> None:
    _, second, third = growths(
        a_sample(1, timed=(1, 1, 1), ms=5.0),
        a_sample(2, timed=(2, 2, 2)),
        a_sample(3, timed=(3, 3, 3), ms=20.0),
    )
    assert (second.duration_ms, third.duration_ms) == (0.0, 15.0)


def test_time_that_does_not_rise_is_refused() -> None:
    ledger = Ledger(settle=0)
    ledger.fold(10, {})
    with pytest.raises(ValueError, match="a point at 10 cannot follow one at 10"):
        ledger.fold(10, {})


def test_a_copy_goes_its_own_way() -> None:
    ledger = Ledger(settle=0)
    ledger.fold(0, {STABLE_POD: a_sample(5)})
    twin = ledger.copy()
    assert served(ledger.fold(10, {STABLE_POD: a_sample(9)})[STABLE_POD]) == {OK: 4}
    assert served(twin.fold(20, {STABLE_POD: a_sample(11)})[STABLE_POD]) == {OK: 6}


@pytest.mark.parametrize(
    ("code", "is_failure"),
    [
        (("200", ""), False),
        (("404", ""), False),
        (("499", ""), False),
        (("500", ""), True),
        (("503", ""), True),
        (("599", ""), True),
        (("5000", ""), False),
        (("5xx", ""), False),
        (("0", ""), False),
        (("200", "14"), True),
        (("200", "UNAVAILABLE"), True),
        (("200", "13"), False),
        (("200", "0"), False),
        (("503", "14"), True),
        (("", ""), False),
    ],
)
def test_failures_are_5xx_and_the_targets_grpc_statuses(code: tuple[str, str], is_failure: bool) -> None:
    assert failed(code, failing_statuses(["unavailable"]), failing_codes(["5xx"])) is is_failure


@pytest.mark.parametrize(
    ("codes", "failures"),
    [
        (["5xx"], {"500", "503", "504"}),
        (["429"], {"429"}),
        (["4xx", "0"], {"404", "429", "499", "0"}),
        (["503", "0"], {"503", "0"}),
        (["5xx", "429"], {"500", "503", "504", "429"}),
    ],
)
def test_response_codes_that_are_failures_are_the_targets(codes: list[str], failures: set[str]) -> None:
    there = ("", "0", "100", "200", "304", "404", "429", "499", "500", "503", "504", "5000", "-")
    assert {code for code in there if failed((code, ""), frozenset(), failing_codes(codes))} == failures


def test_of_the_default_statuses_the_servers_faults_fail_by_number_and_by_name_whatever_the_http_code() -> (
    None
):
    statuses, codes = failing_statuses(GRPC_FAILURES), failing_codes(HTTP_FAILURES)
    numbers = {number for number in map(str, range(17)) if failed(("200", number), statuses, codes)}
    assert numbers == {"2", "4", "12", "13", "14", "15"}
    names = {name for name in ("OK", *GRPC_STATUSES) if failed(("200", name), statuses, codes)}
    assert names == set(GRPC_FAILURES)
    assert failed(("503", ""), statuses, codes)
    assert not failed(("200", ""), statuses, codes)


def test_where_the_reporter_is_a_caller_or_a_waypoint_a_version_is_one_replica() -> None:
    for reporter in ("source", "waypoint"):
        reading = Reading(replace(TARGET, reporter=reporter), Ledger(0.0), 10, 20, 10)
        for at, requests in ((5, 1), (10, 4), (20, 9)):
            reading.fold(
                at,
                {
                    ("front-end-v2", pod): Sample({("200", ""): requests})
                    for pod in ("waypoint-a", "waypoint-b")
                },
            )
        [look] = reading.looks()
        assert {name: one.requests for name, one in look.canary.items()} == {"front-end-v2 (all)": 10}


def test_grpc_statuses_have_the_numbers_of_the_grpc_specification() -> None:
    # https://grpc.github.io/grpc/core/md_doc_statuscodes.html, read off by hand.
    assert failing_statuses(["CANCELLED", "UNKNOWN", "INTERNAL", "UNAVAILABLE", "UNAUTHENTICATED"]) >= {
        "1",
        "2",
        "13",
        "14",
        "16",
    }


def test_an_unknown_grpc_status_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"gRPC status UNAVAILIBLE is not known; it is one of CANCELLED, "):
        failing_statuses(["UNAVAILIBLE"])


# Looks


def looks(
    points: Mapping[int, Point], start: int, end: int, step: int = 10, target: Target = TARGET
) -> list[Look]:
    reading = Reading(target, Ledger(settle=0), start, end, step)
    for at in sorted(points):
        reading.fold(at, points[at])
    return reading.looks()


def test_a_look_holds_what_was_served_up_to_its_end() -> None:
    values = {0: a_sample(100), 5: a_sample(103), 10: a_sample(110), 15: a_sample(111, 2)}
    points = {at: {STABLE_POD: sample} for at, sample in values.items()}
    first, second = looks(points, 0, 20)
    assert (first.start, first.end, second.start, second.end) == (0, 10, 10, 20)
    assert first.stable == {"front-end-v1-a": Counts(requests=10)}
    assert second.stable == {"front-end-v1-a": Counts(requests=3, failures=2)}


def test_a_request_counts_as_one_failure_however_it_failed() -> None:
    codes = {("503", "14"): 1, GRPC_UNAVAILABLE: 2, CLIENT_GONE: 4, OK: 8}
    (look,) = looks({0: {STABLE_POD: a_sample(1)}, 10: {CANARY_POD: Sample(codes)}}, 0, 10)
    assert look.canary == {"front-end-v2-a": Counts(requests=15, failures=3)}


def test_a_look_without_samples_says_so_and_one_without_traffic_does_not() -> None:
    idle = {STABLE_POD: a_sample(100)}
    without, silent, after = looks({0: idle, 20: idle}, 0, 30)
    assert (without.sampled, without.stable) == (False, {})
    assert (silent.sampled, silent.stable) == (True, {"front-end-v1-a": Counts()})
    assert not after.sampled


def test_samples_of_other_workloads_are_no_samples_of_the_target() -> None:
    other = ("basket-v1", "basket-v1-a")
    (look,) = looks({0: {STABLE_POD: a_sample(1)}, 10: {other: a_sample(9)}}, 0, 10)
    assert (look.sampled, look.stable, look.canary) == (False, {}, {})


def test_a_vanished_replica_leaves_the_looks_after() -> None:
    points = {
        0: {STABLE_POD: a_sample(1), CANARY_POD: a_sample(1)},
        10: {STABLE_POD: a_sample(2), CANARY_POD: a_sample(4)},
        20: {STABLE_POD: a_sample(3)},
    }
    first, second = looks(points, 0, 20)
    assert first.canary == {"front-end-v2-a": Counts(requests=3)}
    assert (second.canary, second.sampled) == ({}, True)


def test_first_seen_is_the_time_of_the_point_at_which_a_replica_was_first_seen() -> None:
    points = {-5: {STABLE_POD: a_sample(1)}, 15: {STABLE_POD: a_sample(2), CANARY_POD: a_sample(3)}}
    first, second = looks(points, 0, 20)
    assert first.first_seen == {}
    assert second.first_seen == {"front-end-v1-a": -5, "front-end-v2-a": 15}


def test_latency_is_counted_at_the_histograms_bounds() -> None:
    points = {
        0: {STABLE_POD: a_sample(9, timed=(3, 6, 9), ms=90.0)},
        10: {STABLE_POD: a_sample(19, timed=(5, 12, 19), ms=200.0)},
    }
    (look,) = looks(points, 0, 10)
    assert look.bounds == BOUNDS
    assert look.stable["front-end-v1-a"] == Counts(requests=10, timed=10, within=(2, 6), duration_ms=110.0)


def test_bounds_are_those_that_all_replicas_have_from_the_look_on_where_they_differ() -> None:
    fine = Sample({OK: 9}, {5.0: 1, 10.0: 3, 100.0: 6, math.inf: 9})
    coarse = Sample({OK: 4}, {10.0: 1, 1000.0: 4, math.inf: 4})
    first, second, third = looks(
        {0: {STABLE_POD: fine}, 10: {STABLE_POD: fine}, 20: {CANARY_POD: coarse}, 30: {STABLE_POD: fine}},
        0,
        30,
    )
    assert first.bounds == (5.0, 10.0, 100.0)
    assert second.bounds == third.bounds == (10.0,)
    assert second.canary["front-end-v2-a"] == Counts(requests=4, timed=4, within=(1,))


def test_a_replica_without_a_histogram_has_no_timed_requests() -> None:
    stable = {STABLE_POD: a_sample(9, timed=(3, 6, 9))}
    (look,) = looks({0: stable, 10: {**stable, CANARY_POD: a_sample(5)}}, 0, 10)
    assert look.canary["front-end-v2-a"] == Counts(requests=5, within=(0, 0))


def test_a_bound_that_a_histogram_gains_later_is_not_compared() -> None:
    points = {
        0: {STABLE_POD: Sample({}, {10.0: 3, math.inf: 9})},
        10: {STABLE_POD: Sample({}, {10.0: 4, 100.0: 8, math.inf: 11})},
    }
    (look,) = looks(points, 0, 10)
    assert (look.bounds, look.stable["front-end-v1-a"]) == ((10.0,), Counts(timed=2, within=(1,)))


def test_by_the_source_a_workload_is_one_replica_and_its_clients_restart_by_themselves() -> None:
    target = Target("production", ("front-end-v1",), ("front-end-v2",), since=0, reporter="source")
    one, other = ("front-end-v1", "gateway-a"), ("front-end-v1", "gateway-b")
    points = {0: {one: a_sample(100), other: a_sample(50)}, 5: {one: a_sample(104), other: a_sample(3)}}
    (look,) = looks(points, 0, 10, target=target)
    assert look.stable == {f"front-end-v1 {ALL}": Counts(requests=7)}
    assert look.first_seen == {f"front-end-v1 {ALL}": 0}


def test_stable_alone_can_be_read() -> None:
    target = Target("production", ("front-end-v1",), (), since=0)
    (look,) = looks(
        {0: {STABLE_POD: a_sample(1)}, 10: {STABLE_POD: a_sample(3), ("", "x"): a_sample(9)}},
        0,
        10,
        target=target,
    )
    assert (look.stable, look.canary) == ({"front-end-v1-a": Counts(requests=2)}, {})


def test_points_past_the_last_look_are_refused() -> None:
    reading = Reading(TARGET, Ledger(settle=0), 0, 25, 10)
    with pytest.raises(ValueError, match="a point at 21 lies past the last look, which ends at 20"):
        reading.fold(21, {})


@pytest.mark.parametrize(("end", "step"), [(10, 0), (-1, 10)])
def test_looks_that_cannot_be_are_refused(end: int, step: int) -> None:
    with pytest.raises(ValueError, match="looks need a step of at least 1 s"):
        Reading(TARGET, Ledger(settle=0), 0, end, step)


# Against a generator's tally

SCRAPE = 12  # s: has many divisors, so that a look can hold whole scrapes or a part of one
BEGIN = SCRAPE * 10  # where looks begin: after the baseline
SCRAPES = 40


@dataclass
class Served:
    """What a replica served between two scrapes that were kept, and when the second was."""

    at: float
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def counts(self) -> Counts:
        failures = sum(count for code, count in self.codes.items() if code in (ERROR, GRPC_UNAVAILABLE))
        within = tuple(sum(ms <= bound for ms in self.latencies) for bound in BOUNDS)
        return Counts(
            sum(self.codes.values()), failures, len(self.latencies), within, math.fsum(self.latencies)
        )


@dataclass
class Life:
    """One replica of the generator: what was scraped of it, and the truth."""

    replica: Replica
    samples: list[tuple[float, Sample]] = field(default_factory=list)
    truth: list[Served] = field(default_factory=list)


# In one scrape interval: requests by code, and whether the scrape is missed, comes late, or the process
# restarts (or ends) after it.
Event = tuple[dict[tuple[str, str], int], str]
EVENTS: st.SearchStrategy[Event] = st.tuples(
    st.dictionaries(
        st.sampled_from([OK, ERROR, CLIENT_GONE, GRPC_UNAVAILABLE]), st.integers(1, 9), max_size=4
    ),
    st.sampled_from(["", "", "", "", "missed", "late", "restart", "end"]),
)
# of each replica: canary?, its scrapes' offset, the interval it is born in, its events
Plan = list[tuple[bool, int, int, list[Event]]]
LIVES: st.SearchStrategy[Plan] = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, SCRAPE - 1), st.integers(0, 20), st.lists(EVENTS, max_size=SCRAPES)
    ),
    min_size=1,
    max_size=5,
)


def a_life(replica: Replica, offset: float, born: int, events: Sequence[Event]) -> Life:
    """Plays one replica. Its requests are drained (scraped) before it restarts or ends: what nobody scraped,
    nobody can count.

    A new process serves less than its predecessor until it is scraped: otherwise no counter tells the
    restart. The scrapes before and after a restart are not late: with two scrapes in one window the new
    process' first one would be hidden.
    """
    life = Life(replica)
    codes: Counter[tuple[str, str]] = Counter()
    latencies: list[float] = []
    served = Served(0)
    most: int | None = None
    for index, (requests, what) in enumerate(events, born):
        for code, count in requests.items():
            allowed = count if most is None else min(count, most - served.codes.total())
            if allowed > 0:
                codes[code] += allowed
                served.codes[code] += allowed
                fresh = [float((7 * count + 31 * position * index) % 150) for position in range(allowed)]
                latencies += fresh
                served.latencies += fresh
        if what == "missed" and index:
            continue
        at = offset + index * SCRAPE + (SCRAPE * 0.4 if what == "late" and index and most is None else 0.0)
        if codes:
            cumulative = {bound: sum(ms <= bound for ms in latencies) for bound in (*BOUNDS, math.inf)}
            life.samples.append((at, Sample(dict(codes), cumulative, math.fsum(latencies))))
            served.at = at
            life.truth.append(served)
            served, most = Served(0), None
            if what == "restart":
                most = codes.total() - 1
                codes, latencies = Counter(), []
        if what == "end":
            break
    return life


def lives_of(plan: Plan) -> list[Life]:
    """One stable replica with requests from the start, and those of the plan: born at once and with requests,
    or after the baseline."""
    lives = [a_life(STABLE_POD, 0.5, 0, [({OK: 5}, "")] * SCRAPES)]
    for number, (canary, offset, born, events) in enumerate(plan):
        name = "front-end-v2" if canary else "front-end-v1"
        began: list[Event] = [({OK: 3, ERROR: 2}, "")] if not born else []
        lives.append(
            a_life(
                (name, f"{name}-{number}"),
                offset + 0.25,
                born and born + 3,
                (began + events)[: SCRAPES - born - 3],
            )
        )
    return lives


def window(lives: Iterable[Life], low: float, high: float) -> Point:
    """Of each replica the last sample in (low, high]."""
    point = {}
    for life in lives:
        times = [at for at, _ in life.samples]
        index = bisect_right(times, high) - 1
        if index >= 0 and times[index] > low:
            point[life.replica] = life.samples[index][1]
    return point


def read(lives: list[Life], ledger: Ledger, start: int, end: int, step: int, every: int) -> list[Look]:
    """As an adapter does: from where the ledger stands to `start` scrape by scrape, then the looks with
    points `every` s."""
    reading = Reading(TARGET, ledger, start, end, step)
    for at in range(max(0, int(ledger.at) if math.isfinite(ledger.at) else 0) + SCRAPE, start + 1, SCRAPE):
        reading.fold(at, window(lives, at - SCRAPE, at))
    for at in range(start + every, end + 1, every):
        reading.fold(at, window(lives, at - every, at))
    return reading.looks()


def rounded(counts: Counts) -> tuple[int, int, int, tuple[int, ...], float]:
    # Sums of floats in another order differ in their last digits; everything else must be equal.
    return (
        counts.requests,
        counts.failures,
        counts.timed,
        counts.within or (0,) * len(BOUNDS),
        round(counts.duration_ms, 6),
    )


def expected(life: Life, start: float, end: float) -> Counts:
    return total(one.counts() for one in life.truth if start < one.at <= end)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    LIVES,
    st.sampled_from([(12, 12), (12, 6), (12, 4), (24, 12), (36, 12), (36, 9), (60, 12), (10, 10), (15, 5)]),
)
def test_every_look_equals_the_generators_tally_replica_by_replica(plan: Plan, grid: tuple[int, int]) -> None:
    step, every = grid
    lives = lives_of(plan)
    end = BEGIN + (SCRAPES * SCRAPE + 60 - BEGIN) // step * step
    for look in read(lives, Ledger(settle=2 * SCRAPE), BEGIN, end, step, every):
        shown = {**look.stable, **look.canary}
        for life in lives:
            counts = shown.get(life.replica[1])
            assert rounded(counts or Counts()) == rounded(expected(life, look.start, look.end)), (
                life.replica,
                look.start,
            )
            assert (counts is not None) == any(look.start < at <= look.end for at, _ in life.samples)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LIVES, st.integers(1, 9))
def test_a_stretch_read_in_two_gives_the_same_looks_as_read_at_once(plan: Plan, first: int) -> None:
    lives, step = lives_of(plan), 2 * SCRAPE
    middle, end = BEGIN + first * step, BEGIN + 12 * step
    at_once = read(lives, Ledger(settle=2 * SCRAPE), BEGIN, end, step, SCRAPE)
    ledger = Ledger(settle=2 * SCRAPE)
    before = read(lives, ledger, BEGIN, middle, step, SCRAPE)
    assert before + read(lives, ledger.copy(), middle, end, step, SCRAPE) == at_once


@pytest.mark.parametrize(
    "break_it",
    [
        lambda sample: Sample(
            {code: value + 1 for code, value in sample.requests.items()}, sample.within, sample.duration_ms
        ),
        lambda sample: Sample(
            sample.requests, {bound: value + 1 for bound, value in sample.within.items()}, sample.duration_ms
        ),
    ],
    ids=["a request too many", "a timed request too many"],
)
def test_the_tally_notices_a_single_request(break_it: Callable[[Sample], Sample]) -> None:
    (life,) = lives_of([])
    end = BEGIN + 60
    index = next(index for index, (at, _) in enumerate(life.samples) if at > BEGIN)
    samples = [
        (at, break_it(sample) if number >= index else sample)
        for number, (at, sample) in enumerate(life.samples)
    ]
    spoiled = Life(life.replica, samples)
    (look,) = read([spoiled], Ledger(settle=2 * SCRAPE), BEGIN, end, 60, SCRAPE)
    assert rounded(look.stable[life.replica[1]]) != rounded(expected(life, BEGIN, end))
