"""The tables of the benchmarks' page and of the README are what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import docs
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


PAGE = f"before\n{docs.BEGINS}\nold\n{docs.ENDS}\nafter\n"


def test_between_their_markers_the_pages_have_the_tables_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    some_results(tmp_path / "measured.json")
    (tmp_path / "odds.svg").write_text("<svg/>")
    page, readme = tmp_path / "benchmarks.md", tmp_path / "README.md"
    for path in (page, readme):
        path.write_text(PAGE)
    assert docs.main(page, readme, tmp_path / "measured.json") == 0
    texts = [path.read_text() for path in (page, readme)]
    for text in texts:
        assert text.startswith(f"before\n{docs.BEGINS}\n")
        assert text.endswith(f"{docs.ENDS}\nafter\n")
        assert "old" not in text
    assert "| independent errors | 100 | 0 (0.0% to 3.6%) | 7.5 min | 1.0% |" in texts[0]
    assert "| daemon memory with 10 rollouts under way, at most | 101 MB |" in texts[0]
    assert "(odds.svg)" in texts[0]
    assert "| a healthy version is rolled back | at most 1% | 0 (0.0% to 3.6%) of 100 |" in texts[1]
    assert docs.main(page, readme, tmp_path / "measured.json") == 0
    assert [path.read_text() for path in (page, readme)] == texts  # writing them twice changes nothing


def test_what_was_measured_on_other_code_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, readme, measured = tmp_path / "benchmarks.md", tmp_path / "README.md", tmp_path / "measured.json"
    for path in (page, readme):
        path.write_text(f"{docs.BEGINS}\n{docs.ENDS}")
    some_results(measured)
    measured.write_text(measured.read_text().replace(Results(measured).tree, "0" * 12, 1))
    assert docs.main(page, readme, measured) == 1
    assert "calibration: independent errors" in capsys.readouterr().err


def test_a_page_without_markers_and_a_missing_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="once each"):
        docs.rewritten(f"{docs.ENDS} {docs.BEGINS}", "")
    assert docs.main(tmp_path / "page.md", tmp_path / "README.md", tmp_path / "none.json") == 1
    assert "make bench" in capsys.readouterr().err


def test_the_pages_there_are_say_what_was_measured() -> None:
    results = Results(MEASURED)
    for path, block in ((docs.BENCHMARKS, docs.measured(results)), (docs.README, docs.promises(results))):
        text = path.read_text()
        assert docs.rewritten(text, block) == text, "python -m bench.docs writes it"


def test_the_readme_has_a_row_for_each_of_its_six_promises() -> None:
    rows = docs.promises(Results(MEASURED)).splitlines()
    assert len(rows) == 2 + 6


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
