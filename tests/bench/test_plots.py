"""The pictures are the same bytes for the same measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.curve import CASES
from bench.results import Results
from bench.rollouts import Outcome

pytest.importorskip("matplotlib")
from bench import plots  # where there is matplotlib


def test_pictures_are_the_same_each_time_and_hold_no_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tuple((10 * look, 10, 1.0 + look) for look in range(1, 120))
    monkeypatch.setattr(plots, "_watched", lambda world: Outcome("rolled back", 119, 1190, path=path))
    for folder in ("a", "b"):
        results = Results(tmp_path / folder / "measured.json")
        for number, name in enumerate(CASES, start=1):
            entry = {
                "median": 900.0 / number,
                "by_90": None if number == 1 else 1500.0 / number,
                "requests_mean": 5000.0 / number,
            }
            results.keep("curve", name, 1, repr(CASES[name]), entry)
        assert [path.name for path in plots.draw(results)] == ["odds.svg", "delay.svg"]
    for name in ("odds.svg", "delay.svg"):
        one, other = ((tmp_path / folder / name).read_text() for folder in ("a", "b"))
        assert one == other
        assert "dc:date" not in one
    assert "errors 1% to 3%" in (tmp_path / "a" / "odds.svg").read_text()


def test_without_the_curve_only_the_odds_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_watched", lambda world: Outcome("watched", 1, 10, path=((10, 10, 1.0),)))
    assert [path.name for path in plots.draw(Results(tmp_path / "measured.json"))] == ["odds.svg"]
