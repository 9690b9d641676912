"""`plan` as a person has it: given or measured, for people and for machines, and what it refuses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from canaryd.cli import main, output
from canaryd.commands.plan import command
from canaryd_sandbox.world import World

POLICY = """\
service: {name: NAME, namespace: production, selector: {app: NAME}}
route: {virtualService: sockshop}
stages: [{weight: 20, minimum: 30s, deadline: 2m}, {weight: 100, minimum: 30s}]
analysis: {interval: 10s, warmup: 0s}
"""
QUICK = ("--rate", "400/s", "--errors", "1%", "--regression", "errors=5x", "--rollouts", "2", "--cores", "1")


@pytest.fixture
def policy(policies: Path) -> Path:
    return a_file(policies, "front-end")


def a_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(POLICY.replace("NAME", name))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def fine(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object, exit_code: int = 1) -> str:
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def test_a_plan_in_lines_when_piped(policy: Path) -> None:
    shown = fine(policy, *QUICK)
    assert "front-end in production: 20%, 100%" in shown
    assert (
        "400 requests/s, 1.0% errors, 60 ms in the median, 3 replicas (as given, the rest assumed)" in shown
    )
    assert "2 rollouts of each of 2 versions" in shown
    assert "seed 1" in shown
    head, *stages = shown.partition("A healthy version\n")[2].splitlines()[:3]
    assert head.split("  ")[0] == "STAGE"
    assert [stage.split()[:2] for stage in stages] == [["1/2", "20%"], ["2/2", "100%"]]
    assert "errors 5x (5.0%)" in shown
    assert "\x1b" not in shown


def test_the_same_seed_is_the_same_plan_over_processes_too(policy: Path) -> None:
    alone = fine(policy, *QUICK, "-o", "json")
    assert alone == fine(policy, *QUICK[:-1], "2", "-o", "json")
    data = json.loads(alone)
    assert data["healthy"]["ends"]["promoted"] == {
        "events": 2,
        "runs": 2,
        "share": 1.0,
        "low": pytest.approx(0.158, abs=1e-3),
        "high": 1.0,
    }
    assert data["regressions"][0]["ends"]["caught"]["events"] == 2
    assert data["regressions"][0]["requestsAtRisk"]["median"] > 1000


def test_a_directory_with_one_policy_is_that_policy(policies: Path, policy: Path) -> None:
    assert "front-end in production" in fine(policies, *QUICK)


def test_several_policies_are_refused_by_name(policies: Path, policy: Path) -> None:
    a_file(policies, "cart")
    assert (
        "one policy is wanted, but 2 are there (production/cart, production/front-end): name its file"
        in refused(policies, *QUICK)
    )


def test_a_broken_policy_is_refused_with_its_line(policy: Path) -> None:
    policy.write_text(policy.read_text().replace("weight: 20", "weight: 101"))
    assert f"{policy}:3: stages[0].weight must be" in refused(policy)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "0/s"), "the rate must be above 0"),
        (("--errors", "100%"), "the share of errors must be at least 0% and below 100%, but is 100%"),
        (("--replicas", "0"), "each version must have 1 to 1000 replicas, but has 0"),
        (("--latency", "100ms", "--p99", "50ms"), "must be above the median (100 ms), but is 50 ms"),
        (
            ("--errors", "1%", "--regression", "errors=0.5%"),
            "errors 0.5% must be more than the 1.0% errors that stable has",
        ),
        (
            ("--prometheus", "http://127.0.0.1:1", "--past", "2m"),
            "--past must be at least 20 looks (3m20s) and at most 24h, but is 2m",
        ),
        (("--prometheus", "ftp://here"), "must be a URL such as"),
    ],
)
def test_what_cannot_be_is_refused_by_name(policy: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused(policy, *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--rate", "50"),
            "must be a rate such as 50/s, 3000/m or 200/h, but is '50': write 50/s if that is meant",
        ),
        (("--rate", "50/day"), "must be a rate"),
        (("--errors", "0.5"), "must be a share such as 0.1% or 25%"),
        (("--latency", "60 parsecs"), "must be a duration"),
        (
            ("--regression", "errors=3"),
            "must be errors=3x, errors=2% (the canary's own share) or latency=1.5x",
        ),
        (("--rollouts", "0"), "0 is not in the range"),
        (("--stable", "v1"), "--stable names what is measured"),
    ],
)
def test_what_is_not_written_as_it_should_be_is_wrong_usage(
    policy: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in " ".join(refused(policy, *options, exit_code=2).split())


def test_a_prometheus_that_does_not_answer_is_exit_code_3(policy: Path) -> None:
    assert "cannot be reached" in refused(policy, "--prometheus", "http://127.0.0.1:1", exit_code=3)


# ---------------------------------------------------------------- measured


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    """A service that has served for the last two minutes."""
    now = time.time()
    with World(rate=20, replicas=2, seed=7, realtime=False, start=now - 120) as world:
        world.set_behaviour("v1", errors=0.1)
        world.advance(now + 45)  # the tests that follow take a while
        yield world


@pytest.fixture
def short(policy: Path) -> Path:
    """With looks so short that a minute holds enough of them."""
    policy.write_text(policy.read_text().replace("interval: 10s", "interval: 3s"))
    return policy


def test_traffic_is_measured_from_prometheus(short: Path, served: World) -> None:
    options = (
        "--prometheus",
        served.prometheus_url,
        "--past",
        "1m",
        "--rollouts",
        "1",
        "--cores",
        "1",
        "--regression",
        "errors=5x",
    )
    data: dict[str, Any] = json.loads(fine(short, *options, "--stable", "v1", "-o", "json"))
    traffic = data["traffic"]
    assert traffic["source"] == "measured on front-end-v1 over 1m"
    assert traffic["rate"] == pytest.approx(20, rel=0.12)  # four standard deviations
    assert traffic["errors"] == pytest.approx(0.1, rel=0.4)
    assert traffic["replicas"] == 2
    assert traffic["medianMs"] > 0
    shown = " ".join(fine(short, *options, "--rate", "400/s").split())
    assert "400 requests/s" in shown
    assert "2 replicas (measured on front-end-v1 over 1m, but for what is given)" in shown


def test_a_version_that_prometheus_does_not_have_is_refused_with_those_it_has(
    short: Path, served: World
) -> None:
    said = refused(short, "--prometheus", served.prometheus_url, "--past", "1m", "--stable", "v9")
    assert "named v9, or ending in -v9, is needed, but none is there (there: front-end-v1)" in said


def test_a_service_that_prometheus_does_not_have_is_refused_by_name(short: Path, served: World) -> None:
    short.write_text(short.read_text().replace("front-end", "cart"))
    said = refused(short, "--prometheus", served.prometheus_url, "--past", "1m")
    assert (
        "has no istio_requests_total of the service cart in production in the last 1m (reporter destination)"
        in said
    )


def test_the_settings_say_where_and_how_late(short: Path, served: World, tmp_path: Path) -> None:
    config = tmp_path / "canaryd.yaml"
    config.write_text(f"prometheus: {{url: '{served.prometheus_url}', scrapeInterval: 5s}}\nbeat: 2s\n")
    shown = fine(
        short,
        "--config",
        config,
        "--past",
        "1m",
        "--rollouts",
        "1",
        "--cores",
        "1",
        "--regression",
        "errors=5x",
    )
    assert "A look is acted on 6 s after its end, and a new weight settles for 6 s" in shown


# ---------------------------------------------------------------- on a terminal


def test_on_a_terminal_there_are_tables_and_a_bar(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("canaryd.cli.output.is_terminal", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [str(policy), *QUICK]
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments], prog_name="canaryd")
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert "UNDECIDED AT DEADLINE" in shown.out
    assert "errors 5x (5.0%)" in shown.out
    assert "simulating" in shown.err


def test_a_row_of_numbers_that_has_no_room_has_its_cells_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("canaryd.cli.output.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "24")
    output.table(("STAGE", "MEDIAN TIME", "BY 90%"), [("1/4", "2m49s", "4m4s")], prose=False)
    assert capsys.readouterr().out == "STAGE 1/4\n  MEDIAN TIME 2m49s\n  BY 90% 4m4s\n"


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with command.progress() as done:
        done(1, 2)
    assert capsys.readouterr().err == ""


def test_what_few_users_cannot_show_is_told_beside_the_rehearsals(policies: Path) -> None:
    path = a_file(policies, "front-end")
    path.write_text(path.read_text().replace("sockshop}", "sockshop, affinity: {users: 500}}"))
    mind = " ".join(fine(path, *QUICK).partition("Mind\n")[2].split())
    assert "each user stays on one version: at 400 requests/s a version that fails five times" in mind
    assert "with 500 users" in mind
    assert re.search(r"90% (take about|are caught from about) [\d,.]+", mind)


def test_what_few_requests_cannot_show_is_told(policy: Path) -> None:
    few = ("--rate", "1/s", "--errors", "1%", "--regression", "errors=5x", "--rollouts", "1", "--cores", "1")
    mind = " ".join(fine(policy, *few).partition("Mind\n")[2].split())
    assert "1.0 requests/s are few: a version that fails five times as many requests (1.0% to 5.0%)" in mind
