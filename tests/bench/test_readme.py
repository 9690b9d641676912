"""The README's tables are what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import readme
from bench.calibration import CASES, summary
from bench.results import MEASURED, Results
from bench.rollouts import Outcome
from bench.tables import Table, share


def some_results(path: Path) -> Results:
    results = Results(path)
    name = "independent errors"
    outcomes = [Outcome("succeeded", 60, 600, full=450)] * 99 + [Outcome("watched", 180, 1800)]
    results.keep("calibration", name, 100, repr(CASES[name]), summary(CASES[name], outcomes))
    results.keep("daemon", "memory", 10, "", {"highest": 101.4})
    return results


def test_between_its_markers_it_has_the_tables_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    some_results(tmp_path / "measured.json")
    (tmp_path / "odds.svg").write_text("<svg/>")
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGINS}\nold\n{readme.ENDS}\nafter\n")
    assert readme.main(path, tmp_path / "measured.json") == 0
    text = path.read_text()
    assert text.startswith(f"before\n{readme.BEGINS}\n")
    assert text.endswith(f"{readme.ENDS}\nafter\n")
    assert "old" not in text
    assert "| independent errors | 100 | 0 (0.0% to 3.6%) | 7.5 min | 1.0% |" in text
    assert "| daemon memory with 10 rollouts under way, at most | 101 MB |" in text
    assert "odds.svg)" in text
    assert readme.main(path, tmp_path / "measured.json") == 0
    assert path.read_text() == text  # writing it twice changes nothing


def test_what_was_measured_on_other_code_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, measured = tmp_path / "README.md", tmp_path / "measured.json"
    path.write_text(f"{readme.BEGINS}\n{readme.ENDS}")
    some_results(measured)
    measured.write_text(measured.read_text().replace(Results(measured).tree, "0" * 12, 1))
    assert readme.main(path, measured) == 1
    assert "calibration: independent errors" in capsys.readouterr().err


def test_a_readme_without_markers_and_a_missing_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="once each"):
        readme.rewritten(f"{readme.ENDS} {readme.BEGINS}", "")
    assert readme.main(tmp_path / "README.md", tmp_path / "none.json") == 1
    assert "make bench" in capsys.readouterr().err


def test_the_readme_there_is_has_its_markers() -> None:
    assert "new" in readme.rewritten(readme.README.read_text(), "new")


def test_the_readme_there_is_says_what_was_measured() -> None:
    text = readme.README.read_text()
    assert readme.rewritten(text, readme.measured(Results(MEASURED))) == text, (
        "python -m bench.readme writes it"
    )


def test_numbers_that_are_not_finite_are_kept_as_nothing(tmp_path: Path) -> None:
    results = Results(tmp_path / "measured.json")
    results.keep("power", "x", 1, "", {"median": float("inf"), "each": [1.5, float("nan")], "exact": 1 / 3})
    kept = json.loads((tmp_path / "measured.json").read_text())["parts"]["power"]["x"]
    assert (kept["median"], kept["each"], kept["exact"]) == (None, [1.5, None], 0.333333)


def test_tables_are_aligned_and_shares_are_never_rounded_to_all_or_nothing() -> None:
    table = Table("what", ("name", "n"), [("a", "1,000"), ("long | name", "1")])
    assert table.text().splitlines()[1:] == ["name             n", "a            1,000", "long | name      1"]
    assert "| long \\| name | 1 |" in table.markdown()
    assert table.columns("n").rows == [["1,000"], ["1"]]
    assert [share(one) for one in (0.0, 0.0002, 0.5, 0.9998, 1.0)] == [
        "0.0%",
        "0.02%",
        "50.0%",
        "99.98%",
        "100.0%",
    ]
