"""Every policy, and part of one, that the documentation shows is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from canaryd.cli import main
from docs_generator import DOCS, ROOT

WHOLE = (ROOT / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
EXAMPLE = (ROOT / "policies" / "front-end.yaml").read_text()
HOOK = "hooks:\n  - {on: [held, stepped_back, rolled_back], notify: oncall}\n"


def shown(page: str, begins: str) -> str:
    """The one YAML block of a page that begins so."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    [found] = [block for block in blocks if block.startswith(begins)]
    return found


def validated(folder: Path, policy: str) -> str:
    path = folder / "front-end.yaml"
    path.write_text(policy)
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    return result.output


def test_stages_before_the_first_weight(tmp_path: Path) -> None:
    said = validated(tmp_path, WHOLE.partition("route:")[0] + shown("guides/stages.md", "route:"))
    assert "dark, cookie ~ .*logged_in.*, 10% mirrored, 10, 100 on sockshop" in said


def test_matched_users_of_whom_half_stay(tmp_path: Path) -> None:
    split = shown("guides/stages.md", "stages:")
    assert "cookie ~ .*logged_in.*" in validated(tmp_path, WHOLE.partition("stages:")[0] + split)


def test_affinity(tmp_path: Path) -> None:
    said = validated(
        tmp_path, WHOLE.replace("route: {virtualService: sockshop}\n", shown("guides/affinity.md", "route:"))
    )
    assert "10, 25, 50, 100 by user on sockshop" in said


def test_gates_and_blue_green(tmp_path: Path) -> None:
    said = validated(
        tmp_path, WHOLE.partition("route:")[0] + shown("guides/gates-and-blue-green.md", "strategy:")
    )
    assert "blue-green (dark, 100) on sockshop" in said
    assert "asks https://tests.example/smoke before 100%, load before the promotion" in said


def test_a_bracket_and_that_of_the_worked_example(tmp_path: Path) -> None:
    commented = re.sub(
        r"(?m)^# (bracket:|  gather:|  members:|    - service: |      route: )", r"\1", EXAMPLE
    )
    for policy in (shown("guides/brackets.md", "service:"), commented):
        assert "together with production/carts" in validated(tmp_path, policy)


def test_queries_and_those_of_the_worked_example(tmp_path: Path) -> None:
    commented = "".join(
        line.replace("    # ", "    ", 1) for line in re.findall(r"(?m)^    # (?:- query:|    ).*\n", EXAMPLE)
    )
    assert "compare:" in commented
    for query in (shown("guides/custom-metrics.md", "    - query:"), commented):
        assert "cpu-per-request" in validated(tmp_path, WHOLE + query)


def test_alerts_and_those_of_the_worked_example(tmp_path: Path) -> None:
    commented = re.sub(r"(?m)^  # (alerts:|  matching:|  onFiring:|  watchAfterPromotion:)", r"  \1", EXAMPLE)
    alerts = shown("guides/alerts.md", "  alerts:")
    whole = re.sub(r"(?m)^  metrics:", lambda found: alerts + found[0], WHOLE, count=1)
    for policy in (commented, whole):
        assert policy.count("onFiring: rollback") == 1
        validated(tmp_path, policy)


def test_hooks(tmp_path: Path) -> None:
    assert shown("reference/events.md", "hooks:") == HOOK
    validated(tmp_path, WHOLE + HOOK)


@pytest.mark.parametrize("path", ["policies", "canaryd_sandbox/demo-policy.yaml"])
def test_the_policies_that_come_along(path: str) -> None:
    result = CliRunner().invoke(main, ["validate", str(ROOT / path)])
    assert result.exit_code == 0, result.output
