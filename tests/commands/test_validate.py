"""`validate` tells every mistake at once, and `schema` what is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner, Result

from canaryd.cli import main
from docs_generator import ROOT

GOOD = """\
service: {name: NAME, namespace: production, selector: {app: NAME}}
route: {virtualService: sockshop}
stages: [{weight: 10}, {weight: 50, approval: required}, {weight: 100}]
"""


def a_policy_file(folder: Path, name: str, text: str = GOOD) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("NAME", name))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_good_policies_are_summed_up_and_end_with_0(policies: Path) -> None:
    path = a_policy_file(policies, "front-end")
    result = run("validate", policies)
    assert result.exit_code == 0
    assert (
        result.stdout
        == "ok: production/front-end: 10, 50 (approval), 100 on sockshop, judged by errors, latency "
        f"({path})\n"
    )
    assert result.stderr == ""


def test_every_mistake_of_every_file_is_told_at_once_with_its_line(policies: Path) -> None:
    a_policy_file(policies, "cart")
    bad = a_policy_file(policies, "front-end", GOOD.replace("weight: 50", "weight: 5") + "mode: gamble\n")
    worse = a_policy_file(policies, "orders", "stages: [")
    result = run("validate", policies)
    assert result.exit_code == 1
    assert "ok: production/cart" in result.stdout
    assert f"{bad}:3: stages[1].weight must be above the stage before it (10), but is 5" in result.stderr
    assert f"{bad}:4: mode must be" in result.stderr
    assert f"{worse}:1: is not YAML" in result.stderr
    assert "3 problems; 1 of the policies can be used" in result.stderr


def test_two_policies_of_a_service_in_two_places_are_refused(policies: Path, tmp_path: Path) -> None:
    a_policy_file(policies, "front-end")
    other = a_policy_file(tmp_path, "front-end")
    result = run("validate", policies, other)
    assert result.exit_code == 1
    assert "production/front-end" in result.stderr


def test_a_second_policy_of_a_service_is_told_once_with_its_line_key_and_the_first(policies: Path) -> None:
    first, second = (
        a_policy_file(policies, "a", GOOD.replace("NAME", "cart")),
        a_policy_file(policies, "b", GOOD.replace("NAME", "cart")),
    )
    expected = (
        f"{second}:1: service.name must be the only policy of production/cart, but {first}:1 is one too"
    )
    for paths in (
        [first, second],
        [first, second, policies],
        [policies, policies],
        [policies / ".." / "policies", second],
    ):
        result = run("validate", *paths)
        assert result.stderr.replace("policies/../", "").splitlines() == [
            expected,
            "1 problem; 1 of the policies can be used",
        ]
        assert result.stdout.count("ok: ") == 1


def test_a_mistake_of_a_file_named_beside_its_directory_is_told_once(policies: Path) -> None:
    bad = a_policy_file(policies, "front-end", GOOD + "mode: gamble\n")
    result = run("validate", policies, bad)
    assert result.stderr.count("mode must be") == 1


def test_a_path_that_is_not_there_does_not_hide_the_others(policies: Path, tmp_path: Path) -> None:
    good = a_policy_file(policies, "front-end")
    (tmp_path / "empty").mkdir()
    result = run("validate", tmp_path / "nowhere", tmp_path / "empty", good)
    assert "ok: production/front-end" in result.stdout
    assert f"{tmp_path / 'nowhere'}: cannot be read" in result.stderr
    assert f"{tmp_path / 'empty'}: must have policies (*.yaml), but has none" in result.stderr


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert run("validate", tmp_path / "nowhere").exit_code == 1


def test_with_settings_a_hook_must_name_a_notifier_of_theirs(policies: Path, tmp_path: Path) -> None:
    a_policy_file(policies, "front-end", GOOD + "hooks: [{on: [held], notify: oncall}]\n")
    config = tmp_path / "canaryd.yaml"
    config.write_text("prometheus: {url: 'http://prometheus:9090'}\n")
    assert run("validate", policies).exit_code == 0
    result = run("validate", policies, "--config", config)
    assert result.exit_code == 1
    assert "hooks[0].notify" in result.stderr


def test_with_settings_a_gate_must_be_a_url_or_one_of_theirs(policies: Path, tmp_path: Path) -> None:
    gates = (
        "hooks: [{before: start, gate: smoke}, {before: promotion, gate: "
        "'https://tests.example/load?token=1'}]\n"
    )
    path = a_policy_file(policies, "front-end", GOOD + gates)
    config = tmp_path / "canaryd.yaml"
    config.write_text("prometheus: {url: 'http://prometheus:9090'}\n")
    assert (
        "hooks[0].gate must be a URL or a gate of the settings (none is defined), but is 'smoke'"
        in run("validate", path, "--config", config).stderr
    )
    config.write_text(
        "prometheus: {url: 'http://prometheus:9090'}\ngates: {smoke: {url: 'https://tests.example/smoke'}}\n"
    )
    told = run("validate", path, "--config", config).stdout
    assert "asks smoke before the start, https://tests.example/load before the promotion" in told


def test_metrics_of_which_none_decides_are_told_with_their_line(policies: Path) -> None:
    watching = (
        "analysis:\n  metrics:\n    - query: {name: cpu, promql: 'max(x{namespace=\"$namespace\"})', max: 1, "
        "dryRun: true}\n"
    )
    bad = a_policy_file(policies, "cart", GOOD + watching)
    result = run("validate", bad)
    assert result.exit_code == 1
    assert (
        result.stderr.splitlines()[0]
        == f"{bad}:5: analysis.metrics must have a metric that decides, but all have dryRun"
    )
    a_policy_file(policies, "cart", GOOD + watching + "    - latency: {}\n")
    assert run("validate", bad).stdout.startswith(
        "ok: production/cart: 10, 50 (approval), 100 on sockshop, judged by "
    )


def test_no_path_at_all_is_wrong_usage() -> None:
    assert run("validate").exit_code == 2


def test_the_schema_is_json_and_names_the_keys_of_a_policy() -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert {"service", "route", "stages", "analysis"} <= set(json.loads(result.stdout)["properties"])


BY_USER = GOOD.replace("sockshop}", "sockshop, affinity: {users: USERS}}")


def test_what_so_few_users_cannot_show_is_told_with_how_many_could(policies: Path) -> None:
    path = a_policy_file(policies, "front-end", BY_USER.replace("USERS", "1000"))
    told = " ".join(run("validate", path).stdout.split())
    assert "at 50 requests/s a version that fails five times as many requests (0.5% to 2.5%)" in told
    assert "in hardly any rollout with 1,000 users" in told
    assert "nearly all rollouts with 100,000 users" in told
    assert re.search(r"; 90% take about [\d,]+ users", told)


def test_the_page_on_affinity_shows_what_is_printed(policies: Path) -> None:
    text = BY_USER.replace("USERS", "1000").replace(
        "{weight: 50, approval: required}", "{weight: 25}, {weight: 50}"
    )
    told = run("validate", a_policy_file(policies, "front-end", text)).stdout.partition("\n")[2]
    page = (ROOT / "docs" / "guides" / "affinity.md").read_text()
    assert " ".join(told.split()) in " ".join(page.split())


def test_the_number_of_users_the_rate_and_the_errors_may_be_said(policies: Path) -> None:
    path = a_policy_file(policies, "front-end", BY_USER.replace("USERS", "1000"))
    told = " ".join(
        run("validate", path, "--users", 100_000, "--rate", "20/s", "--errors", "1%").stdout.split()
    )
    assert "at 20 requests/s a version that fails five times as many requests (1.0% to 5.0%)" in told
    assert told.endswith("nearly all rollouts with 100,000 users")


def test_what_so_few_requests_cannot_show_is_told_where_the_rate_is_known(policies: Path) -> None:
    path = a_policy_file(policies, "front-end")
    told = " ".join(run("validate", path, "--rate", "1/s").stdout.split())
    assert "1.0 requests/s are few: a version that fails five times as many requests (0.5% to 2.5%)" in told
    assert re.search(r"90% take about [\d.,]+ requests/s", told)
    assert len(run("validate", path, "--rate", "500/s").stdout.splitlines()) == 1
    assert len(run("validate", path).stdout.splitlines()) == 1
