"""Looks that are read in parts, in which plain harm is looked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from canaryd.control.evidence_stream import EvidenceStream, JudgedLook
from canaryd.domain.counts import Counts, Look, Target, seconds_of_parts
from canaryd.domain.ports import Unavailable
from canaryd.domain.rollout import Phase, Rollout, Span
from canaryd.domain.verdict import Answer
from tests.builders import NOW, a_policy, a_rollout
from tests.fakes import FakeTelemetry, FakeWorld

BEGAN = int(NOW)
FIRST = BEGAN + 8  # of the first span: a look of what is left before it is shorter than others


class Served(FakeTelemetry):
    """Counts second by second, so that they are the same however long the looks are that are read. dead_from:
    from when every request of the canary fails."""

    def __init__(self, dead_from: int, seed: int = 1) -> None:
        super().__init__(FakeWorld())
        rng = np.random.default_rng(seed)
        self.dead_from, self.failed = dead_from, rng.binomial(15, 0.01, size=(3, 600))
        self.look = self._look

    def _look(self, start: int, end: int) -> Look:
        stable: dict[str, Counts] = {}
        canary: dict[str, Counts] = {}
        for replica in range(3):
            failed = int(self.failed[replica, np.arange(start, end) % 600].sum())
            stable[f"v1-{replica}"] = Counts((end - start) * 15, failed)
            served = 2 * max(0, end - max(start, FIRST - 5))
            dead = 2 * max(0, end - max(start, self.dead_from))
            canary[f"v2-{replica}"] = Counts(served, min(served, dead))
        return Look(start, end, (), stable, canary if end > BEGAN else {})


def a_walk(part: int | None, telemetry: FakeTelemetry, until: int, every: int) -> Iterator[JudgedLook]:
    """The looks that a rollout under way is judged by, asked for each `every` seconds."""
    rollout = under_way(part)
    stream = EvidenceStream(rollout, rollout.entrance, telemetry, 0.0)
    for now in range(BEGAN + 1, until + 1, every):
        for judged in stream.next(rollout, now):
            yield judged
            rollout = replace(rollout, counted_to=judged.look.end)


def under_way(part: int | None, spans: Sequence[Span] = (Span(0, 10, FIRST),)) -> Rollout:
    policy = a_policy(analysis={"interval": "15s", "metrics": [{"errors": {}}]})
    rollout = a_rollout(policy=policy, phase=Phase.PROGRESSING, stage=0, weight=10, began=NOW)
    return replace(rollout, spans=tuple(spans), harm_check_interval=part)


@pytest.mark.parametrize(
    ("interval", "shortest", "part"),
    [(15, 5, 5), (15, 15, 15), (15, 1, 1), (10, 4, 5), (10, 15, 10), (7, 5, 7)],
)
def test_parts_are_no_shorter_than_a_scrape_and_make_a_look(
    interval: int, shortest: float, part: int
) -> None:
    assert seconds_of_parts(interval, shortest) == part


def test_a_dead_version_is_told_after_two_parts_and_its_look_ends() -> None:
    dead_from = FIRST + 45
    *healthy, last = a_walk(5, Served(dead_from), dead_from + 11, every=1)
    assert Answer.FAIL not in {judged.verdict.answer for judged in healthy}
    assert (last.verdict.answer, last.look.end, last.look.seconds) == (Answer.FAIL, dead_from + 10, 10)
    assert last.latest
    assert last.counted["v2-0"].failures == 20


def test_in_whole_looks_it_takes_two_looks() -> None:
    dead_from = FIRST + 45
    looks = list(a_walk(None, Served(dead_from), dead_from + 120, every=1))
    first = next(judged for judged in looks if judged.verdict.answer is Answer.FAIL)
    assert first.look.end == dead_from + 30


@pytest.mark.parametrize("seed", range(5))
def test_live_after_a_restart_and_read_again_the_looks_are_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dead_from = FIRST + int(rng.integers(10, 150))

    def told(looks: Iterator[JudgedLook]) -> list[tuple[int, int, Answer, Mapping[str, Counts]]]:
        found = []
        for judged in looks:
            found.append((judged.look.start, judged.look.end, judged.verdict.answer, judged.counted))
            if judged.verdict.answer is Answer.FAIL:
                break
        return found

    each_second = told(a_walk(5, Served(dead_from, seed), BEGAN + 240, every=1))
    assert each_second[-1][2] is Answer.FAIL
    assert told(a_walk(5, Served(dead_from, seed), BEGAN + 240, every=7)) == each_second
    assert told(a_walk(5, Served(dead_from, seed), BEGAN + 240, every=239)) == each_second


def test_what_was_read_in_parts_before_a_weight_changed_is_read_no_other_way_later() -> None:
    """Live, parts of a look are read when its stage ends; later only what lies before the next stage."""
    telemetry, rollout = Served(10**10), under_way(5)
    later = under_way(5, [Span(0, 10, FIRST, FIRST + 32), Span(1, 25, FIRST + 50)])
    stream = EvidenceStream(rollout, rollout.entrance, telemetry, 0.0)
    looks = []
    for now in range(BEGAN + 1, FIRST + 38):
        for judged in stream.next(rollout, now):
            looks.append(judged)
            rollout = replace(rollout, counted_to=judged.look.end)
    looks += stream.next(replace(later, counted_to=rollout.counted_to), FIRST + 65)
    again = EvidenceStream(later, later.entrance, telemetry, 0.0).next(later, FIRST + 65)
    assert [(judged.look, judged.compared) for judged in again] == [
        (judged.look, judged.compared) for judged in looks
    ]
    assert looks[-1].look.end == FIRST + 65


def test_the_look_that_rolled_back_is_read_again_once_its_stage_is_over() -> None:
    """Live it ended with the part that showed the harm; the span on record ends there too."""
    telemetry = Served(FIRST + 45)
    *_, last = a_walk(5, telemetry, FIRST + 57, every=1)
    assert last.verdict.answer is Answer.FAIL
    over = under_way(5, [Span(0, 10, FIRST, last.look.end)])
    *_, again = EvidenceStream(over, over.entrance, telemetry, 0.0).next(over, FIRST + 600)
    assert (again.look, again.verdict, again.compared) == (last.look, last.verdict, True)


def test_parts_before_a_stage_s_end_off_the_grid_are_watched_as_they_were_live() -> None:
    """Someone ends the stage in mid-look: the parts read until then show harm in the next one."""
    telemetry, dead_from = Served(FIRST + 50), FIRST + 50
    spans = [Span(0, 10, FIRST, FIRST + 58), Span(1, 25, FIRST + 66)]
    rollout, looks = under_way(5), []
    stream = EvidenceStream(rollout, rollout.entrance, telemetry, 0.0)
    for now in range(BEGAN + 1, FIRST + 100):
        rollout = under_way(5, spans) if now >= FIRST + 58 else rollout
        for judged in stream.next(replace(rollout, counted_to=looks[-1].look.end if looks else None), now):
            looks.append(judged)
        if looks and looks[-1].verdict.answer is Answer.FAIL:
            break
    over = under_way(5, spans)
    again = list(EvidenceStream(over, over.entrance, telemetry, 0.0).next(over, FIRST + 100))
    assert [(judged.look, judged.compared) for judged in again[: len(looks)]] == [
        (judged.look, judged.compared) for judged in looks
    ]
    assert looks[-1].look.end <= dead_from + 15


def test_an_outage_in_mid_look_loses_no_part() -> None:
    telemetry = Served(FIRST + 45)
    stream, rollout = EvidenceStream(under_way(5), under_way(5).entrance, telemetry, 0.0), under_way(5)
    answers = []
    for now in range(BEGAN + 1, FIRST + 70):
        telemetry.world.down = {"telemetry"} if now % 3 else set()
        with suppress(Unavailable):
            answers += [(judged.look.end, judged.verdict.answer) for judged in stream.next(rollout, now)]
    assert (FIRST + 55, Answer.FAIL) in answers


def test_the_read_windows_lie_side_by_side() -> None:
    telemetry = Served(10**10)
    list(a_walk(5, telemetry, FIRST + 100, every=4))
    reads = [window for window in telemetry.reads if window[0] >= BEGAN]
    assert all(end == start for (_, end, _), (start, _, _) in pairwise(reads))
    assert {step for *_, step in reads} == {5, 3}


def test_a_target_is_read_in_parts_of_the_same_target() -> None:
    telemetry = Served(10**10)
    list(a_walk(5, telemetry, FIRST + 40, every=5))
    assert len({target for target in telemetry.targets.values() if isinstance(target, Target)}) == 1
