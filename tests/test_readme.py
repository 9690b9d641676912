"""What the README shows can be done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from canaryd.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_its_policy_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "front-end.yaml"
    path.write_text(README.partition("```yaml\n")[2].partition("```")[0])
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "10, 25, 50, 100 on sockshop" in result.output


def test_its_routes_and_its_ladder_of_stages_before_the_first_weight_are_accepted(tmp_path: Path) -> None:
    policy = README.partition("```yaml\n")[2].partition("```")[0]
    [ladder, affinity] = [
        one.partition("```")[0] for one in README.split("```yaml\n")[1:] if one.startswith("route:")
    ]
    path = tmp_path / "front-end.yaml"
    path.write_text(policy.partition("route:")[0] + ladder)
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "dark, cookie ~ .*logged_in.*, 10% mirrored, 10, 100 on sockshop" in result.output
    path.write_text(policy.replace("route: {virtualService: sockshop}\n", affinity))
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "10, 25, 50, 100 by user on sockshop" in result.output


def test_its_gates_and_its_blue_green_release_are_accepted(tmp_path: Path) -> None:
    policy = README.partition("```yaml\n")[2].partition("```")[0]
    [release] = [
        one.partition("```")[0] for one in README.split("```yaml\n")[1:] if one.startswith("strategy:")
    ]
    path = tmp_path / "front-end.yaml"
    path.write_text(policy.partition("route:")[0] + release)
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "blue-green (dark, 100) on sockshop" in result.output
    assert "asks https://tests.example/smoke before 100%, load before the promotion" in result.output


def test_its_bracket_is_accepted_and_so_is_that_of_the_worked_example(tmp_path: Path) -> None:
    [bracket] = [
        one.partition("```")[0]
        for one in README.split("```yaml\n")[1:]
        if "bracket:" in one.partition("```")[0]
    ]
    example = (ROOT / "policies" / "front-end.yaml").read_text()
    commented = re.sub(
        r"(?m)^# (bracket:|  gather:|  members:|    - service: |      route: )", r"\1", example
    )
    for number, policy in enumerate((bracket, commented)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(policy)
        result = CliRunner().invoke(main, ["validate", str(path)])
        assert result.exit_code == 0, result.output
        assert "together with production/carts" in result.output


def test_its_query_is_accepted_and_so_are_those_of_the_worked_example(tmp_path: Path) -> None:
    policy = README.partition("```yaml\n")[2].partition("```")[0]
    queries = [
        one.partition("```")[0] for one in README.split("```yaml\n")[1:] if one.startswith("    - query:")
    ]
    example = (ROOT / "policies" / "front-end.yaml").read_text()
    queries.append(
        "".join(
            line.replace("    # ", "    ", 1)
            for line in re.findall(r"(?m)^    # (?:- query:|    ).*\n", example)
        )
    )
    assert queries[0].count("query:") == 1
    assert "compare:" in queries[1]
    for number, query in enumerate(queries):
        path = tmp_path / f"{number}.yaml"
        path.write_text(policy + query)
        result = CliRunner().invoke(main, ["validate", str(path)])
        assert result.exit_code == 0, result.output
        assert "cpu-per-request" in result.output


@pytest.mark.parametrize("path", ["policies", "canaryd_sandbox/demo-policy.yaml"])
def test_the_policies_that_come_along_are_accepted(path: str) -> None:
    result = CliRunner().invoke(main, ["validate", str(ROOT / path)])
    assert result.exit_code == 0, result.output


def test_every_command_it_names_is_there() -> None:
    named = set(re.findall(r"(?:^    |`|\| )canaryd ([a-z]+)", README, re.MULTILINE))
    assert (
        {"run", "explain", "validate"} <= named <= {name for section in COMMANDS.values() for name in section}
    )


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
