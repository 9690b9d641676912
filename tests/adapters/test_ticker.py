"""The beat comes on time, whatever the last one did."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from canaryd.adapters.ticker import Ticker, _AtOnceThenEvery

PATIENT = 10.0


def never(error: Exception) -> None:
    raise AssertionError(error)


def test_the_first_beat_comes_at_once_and_the_next_ones_on_time() -> None:
    beats: queue.Queue[float] = queue.Queue()
    began = time.monotonic()
    beat = Ticker(lambda: beats.put(time.monotonic() - began), 0.5, never)
    beat.start()
    times = [beats.get(timeout=PATIENT) for _ in range(3)]
    assert beat.stop()
    assert times[0] < 0.5
    assert times[2] >= 0.95


def test_an_error_is_reported_and_the_schedule_goes_on() -> None:
    errors: queue.Queue[Exception] = queue.Queue()

    def fail() -> None:
        raise RuntimeError("broken look")

    beat = Ticker(fail, 0.02, errors.put)
    beat.start()
    assert {str(errors.get(timeout=PATIENT)) for _ in range(3)} == {"broken look"}
    assert beat.stop()


def test_a_fault_of_the_report_itself_does_not_end_the_schedule() -> None:
    beats: queue.Queue[int] = queue.Queue()

    def fail() -> None:
        beats.put(1)
        raise RuntimeError("broken look")

    beat = Ticker(fail, 0.02, never)
    beat.start()
    assert [beats.get(timeout=PATIENT) for _ in range(3)] == [1, 1, 1]
    assert beat.stop()


def test_a_slow_beat_is_never_overtaken() -> None:
    running, most, done = [0], [0], queue.Queue()

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        threading.Event().wait(0.1)
        running[0] -= 1
        done.put(threading.current_thread().name)

    beat = Ticker(slow, 0.02, never)
    beat.start()
    assert {done.get(timeout=PATIENT) for _ in range(3)} == {"beat"}
    assert beat.stop()
    assert most == [1]


def test_stop_waits_for_the_beat_under_way_and_begins_no_other() -> None:
    begun, go_on, ended = queue.Queue(), threading.Event(), []

    def call() -> None:
        begun.put(1)
        go_on.wait(PATIENT)
        ended.append(1)

    beat = Ticker(call, 0.01, never)
    beat.start()
    begun.get(timeout=PATIENT)
    assert beat.stop(0.05) is False
    go_on.set()
    assert beat.stop(PATIENT) is True
    assert ended == [1]
    assert begun.empty()


def test_stop_before_start_is_harmless() -> None:
    assert Ticker(lambda: None, 1, never).stop(0)


def test_a_beat_that_hangs_does_not_keep_the_process_from_ending() -> None:
    program = """
import threading
from canaryd.adapters.ticker import Ticker
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
beat = Ticker(hang, 1, print)
beat.start()
begun.wait(10)
print(beat.stop(0.1))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("frozen", ["2001-01-01", "2090-01-01"])
def test_the_first_beat_comes_at_once_on_a_frozen_clock(frozen: str) -> None:
    begun = threading.Event()
    with freeze_time(frozen):
        beat = Ticker(begun.set, 3600, never)
        beat.start()
        assert begun.wait(PATIENT)
        assert beat.stop()


def test_beats_missed_while_the_machine_slept_become_one_and_the_grid_stays() -> None:
    trigger, start = _AtOnceThenEvery(timedelta(seconds=15)), datetime(2026, 1, 1, tzinfo=UTC)
    assert trigger.get_next_fire_time(None, start) == start
    assert trigger.get_next_fire_time(start, start) == start + timedelta(seconds=15)
    later = start + timedelta(days=400, seconds=7)
    resumed = trigger.get_next_fire_time(start, later)
    assert resumed == later - timedelta(seconds=7)
    assert trigger.get_next_fire_time(resumed, later) == later + timedelta(seconds=8)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_beat_without_an_interval_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Ticker(lambda: None, seconds, never)
