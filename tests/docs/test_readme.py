"""The README fits in three screens, and what it shows can be done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from canaryd.cli import main
from docs_generator import ROOT

LINES = (ROOT / "README.md").read_text().splitlines()
README = "\n".join(LINES)


def test_it_has_at_most_200_lines_and_says_how_to_install_by_line_60() -> None:
    assert len(LINES) <= 200
    assert "helm install canaryd" in "\n".join(LINES[:60])


def test_its_policy_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "front-end.yaml"
    path.write_text(README.partition("```yaml\n")[2].partition("```")[0])
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "10, 25, 50, 100 on sockshop" in result.output


def test_each_reason_for_it_has_a_number_that_the_benchmarks_have() -> None:
    reasons = README.partition("## Why")[2].partition("\n## ")[0].split("\n- ")[1:]
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    assert len(reasons) == 5
    for reason in reasons:
        # The thresholds of the other rules, in per cent and in ms, are those of bench/rules.py.
        numbers = re.findall(r"\d[\d,.]*\d|\d+(?=%| minutes| ms| users)", reason)
        assert numbers, reason
        assert [
            number for number in numbers if number not in measured and number not in ("99", "500")
        ] == [], reason
