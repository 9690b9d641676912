"""Odds as a picture: as high as they are, as wide as there is room, in the letters that the terminal has."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log

import pytest

from canaryd.report.odds_chart import FEWEST_COLUMNS, ROWS, Series, looks_a_column, plot

LEFT = 11  # columns of labels and axis


def a_series(*odds: float | None, **changes: object) -> Series:
    values = {
        "odds": odds,
        "cleared": (None,) * len(odds),
        "stages": {0: ("1/4 10%", "10%", "1")},
        "marks": {},
        "low": 0.05,
        "bar": 100.0,
        **changes,
    }
    return Series(**values)  # type: ignore[arg-type]


def column(lines: list[str], at: int) -> str:
    """Of the picture, from the top."""
    return "".join(line.ljust(LEFT + at + 1)[LEFT + at] for line in lines[:ROWS])


def test_only_what_reached_the_bar_fills_the_topmost_cell() -> None:
    at_bar, below = (plot(a_series(*[odds] * 40), 60) for odds in (100.0, 99.9))
    assert column(at_bar, 0) == "█" * ROWS
    assert column(below, 0) != "█" * ROWS
    assert column(below, 0)[1:] == "█" * (ROWS - 1)


def test_more_odds_are_never_drawn_lower_and_even_steps_are_even_on_a_log_scale() -> None:
    steps = [exp(log(0.05) + at / 32 * log(2000)) for at in range(33)]
    lines = plot(a_series(*steps), 46)
    signs = " ▁▂▃▄▅▆▇█"
    heights = [sum(signs.index(sign) for sign in column(lines, at)) for at in range(33)]
    assert heights[0] == 1
    assert heights[-1] == 32
    assert all(0 <= after - before <= 2 for before, after in pairwise(heights))


def test_a_look_without_data_is_a_gap_and_no_odds() -> None:
    lines = plot(a_series(*[1.0] * 20, None, *[1.0] * 20), 60)
    assert column(lines, 20) == " " * (ROWS - 1) + "·"


def test_the_highest_of_several_looks_stands_for_them() -> None:
    odds = [1.0] * 1000
    odds[500] = 200.0
    lines = plot(a_series(*odds), 61)
    each = looks_a_column(a_series(*odds), 61)
    assert each == 20
    assert [at for at in range(50) if column(lines, at) == "█" * ROWS] == [500 // each]


@pytest.mark.parametrize("width", [0, 19, 21, 30, 40, 60, 80, 118, 200])
@pytest.mark.parametrize("looks", [1, 3, 50, 5000])
def test_it_is_never_wider_than_there_is_room(width: int, looks: int) -> None:
    stages = {
        0: ("1/4 10%", "10%", "1"),
        looks // 2: ("2/4 25%", "25%", "2"),
        looks - 1: ("3/4 50%", "50%", "3"),
    }
    lines = plot(a_series(*[1.0] * looks, stages=stages, marks={looks - 1: "<"}), width)
    assert max(map(len, lines)) <= max(width, LEFT + FEWEST_COLUMNS)
    assert lines[-1].endswith("<")


def test_stages_and_decisions_stand_under_their_looks() -> None:
    stages = {0: ("1/2 10%", "10%", "1"), 20: ("2/2 100%", "100%", "2")}
    lines = plot(a_series(*[1.0] * 40, stages=stages, marks={19: ">", 39: "<"}), 60)
    named, marked = lines[-2], lines[-1]
    assert named.index("1/2 10%") == LEFT
    assert named.index("2/2 100%") == LEFT + 20
    assert (marked.index(">"), marked.index("<")) == (LEFT + 19, LEFT + 39)


def test_a_short_stage_has_a_short_name() -> None:
    stages = {0: ("1/3 10%", "10%", "1"), 4: ("2/3 25%", "25%", "2"), 6: ("3/3 100%", "100%", "3")}
    lines = plot(a_series(*[1.0] * 50, stages=stages), 61)
    assert lines[-1].split() == ["stage", "10%", "2", "3/3", "100%"]


def test_ascii_is_all_there_is_where_nothing_else_can_be_said() -> None:
    lines = plot(a_series(0.1, 1.0, None, 150.0, marks={3: "<"}), 60, plain=True)
    assert all(line.isascii() for line in lines)
    assert [line.split()[0] for line in lines] == ["100", "15", "2.2", "1", "1", "ruled", "stage", "decided"]
    assert "#" in lines[0]


def test_what_is_ruled_out_fills_one_line_and_is_full_only_when_all_is() -> None:
    cleared = (*[1.0] * 10, *[4.5] * 10, *[19.9] * 10, *[20.0] * 10, *[None] * 10)
    (line,) = [
        one
        for one in plot(a_series(*[1.0] * 50, cleared=cleared), 61)
        if one.lstrip().startswith("ruled out")
    ]
    signs = line[LEFT:]
    assert signs == "▁" * 10 + "▄" * 10 + "▇" * 10 + "█" * 10


def test_a_long_label_takes_its_room_from_the_picture() -> None:
    lines = plot(a_series(*[1.0] * 500, bar=1000.0), 60)
    assert lines[0].startswith("1,000 to 1 ┤")
    assert len({line.index(sign) for line, sign in zip(lines[: ROWS + 1], "┤┤┤┤└", strict=True)}) == 1
    assert max(map(len, lines)) <= 60


def test_no_looks_are_no_picture() -> None:
    assert plot(a_series(), 80) == []
