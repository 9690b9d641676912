"""Walks over one grid in step: the same look of each, also where one was behind."""

from __future__ import annotations

from collections.abc import Iterator

from canaryd.control.evidence_stream import JudgedLook
from canaryd.control.evidence_streams import in_step
from canaryd.domain.counts import Look
from canaryd.domain.ports import Unavailable
from canaryd.domain.verdict import Answer
from tests.builders import a_verdict


def walk(*ends: int | None) -> Iterator[JudgedLook]:
    """Looks that end there; None: telemetry is away."""
    for end in ends:
        if end is None:
            raise Unavailable("away")
        yield JudgedLook(Look(end - 10, end), a_verdict(at=end), True, {}, True, False)


def steps(*walks: Iterator[JudgedLook]) -> list[tuple[int | None, ...]]:
    return [
        tuple(look.look.end if look is not None else None for look in step.looks) for step in in_step(walks)
    ]


def test_one_walk_goes_by_itself() -> None:
    assert steps(walk(10, 20)) == [(10,), (20,)]


def test_several_go_look_by_look_and_end_with_the_first_that_has_no_more() -> None:
    assert steps(walk(10, 20, 30), walk(10, 20)) == [(10, 10), (20, 20)]


def test_one_that_is_behind_catches_up_on_looks_that_the_others_have_on_record() -> None:
    assert steps(walk(30, 40), walk(10, 20, 30, 40)) == [(30, 30), (40, 40)]
    assert steps(walk(10, 20, 30), walk(20, 30), walk(30)) == [(30, 30, 30)]


def test_a_failure_comes_with_what_the_others_have_heard_and_is_the_last_step() -> None:
    found = list(in_step([walk(10, 20), walk(10, None)]))
    assert [step.failure is not None for step in found] == [False, True]
    assert [look.look.end if look else None for look in found[-1].looks] == [20, None]


def test_a_failure_is_told_also_where_another_walk_has_no_more() -> None:
    assert [step.failure is not None for step in in_step([walk(), walk(None)])] == [True]


def harmful(*ends: int) -> Iterator[JudgedLook]:
    """Looks that end there, the last one at once, by plain harm."""
    *before, last = ends
    yield from walk(*before)
    yield JudgedLook(Look(last - 5, last), a_verdict(Answer.FAIL, at=last), True, {}, True, True)


def test_plain_harm_that_ends_a_look_of_one_waits_for_no_other() -> None:
    for others in (walk(10, 20), walk(10)):
        found = list(in_step([harmful(10, 15), others]))
        assert [step.is_alone for step in found] == [False, True]
        first = found[-1].looks[0]
        assert first is not None
        assert first.look.end == 15


def test_harm_in_the_same_look_of_all_is_everyone_s() -> None:
    assert [step.is_alone for step in in_step([harmful(10, 15), harmful(10, 15)])] == [False, False]
