"""Looks that are joined are the one longer look that they make up."""

from __future__ import annotations

import pytest

from canaryd.domain.counts import Counts, Look, joined


def test_joined_looks_add_up_replica_by_replica() -> None:
    first = Look(0, 10, (5.0,), {"a": Counts(10, 1, 10, (4,), 30.0)}, {}, True, {"a": 0.0})
    second = Look(
        10,
        20,
        (5.0,),
        {"a": Counts(5, 0, 5, (5,), 10.0), "b": Counts(1)},
        {"c": Counts(2, 2)},
        True,
        {"a": 0.0, "c": 12.0},
    )
    assert joined([first, second]) == Look(
        0,
        20,
        (5.0,),
        {"a": Counts(15, 1, 15, (9,), 40.0), "b": Counts(1)},
        {"c": Counts(2, 2)},
        True,
        {"a": 0.0, "c": 12.0},
    )


def test_bounds_of_joined_looks_are_the_last_ones() -> None:
    first = Look(0, 10, (5.0, 10.0), {"a": Counts(10, 0, 10, (4, 8), 30.0)})
    second = Look(10, 20, (10.0,), {"a": Counts(10, 0, 10, (7,), 30.0)})
    assert joined([first, second]).stable["a"] == Counts(20, 0, 20, (15,), 60.0)


def test_a_look_before_the_first_histogram_has_no_latency_to_add() -> None:
    first, second = (
        Look(0, 10, (), {"a": Counts(10)}),
        Look(10, 20, (5.0,), {"a": Counts(10, 0, 10, (7,), 30.0)}),
    )
    assert joined([first, second]).stable["a"] == Counts(20, 0, 10, (7,), 30.0)


def test_joined_looks_are_sampled_if_one_of_them_is() -> None:
    assert joined([Look(0, 10, sampled=False), Look(10, 20)]).sampled
    assert not joined([Look(0, 10, sampled=False), Look(10, 20, sampled=False)]).sampled


def test_looks_with_a_gap_between_them_are_refused() -> None:
    with pytest.raises(ValueError, match="ends at 10 and the next begins at 20"):
        joined([Look(0, 10), Look(20, 30)])
    with pytest.raises(ValueError, match="none came"):
        joined([])
