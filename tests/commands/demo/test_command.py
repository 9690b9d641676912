"""Every scenario of the demo, with the daemon as a process of its own, ends as it says; and tells what a
person needs to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from canaryd.cli import main
from canaryd.commands.demo.live_view import Frame, Speed, Speedometer, picture
from canaryd.domain.rollout import Phase
from canaryd_sandbox.mesh.mesh import Tally
from canaryd_sandbox.scenarios import SCENARIOS
from tests.builders import a_rollout, a_verdict

AT_ONCE = 4  # a scenario mostly waits: two seconds of one core to start, some 5% of it after that

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[Done]]]:
    """Every scenario's run, piped. Those that take longest begin first."""
    longest_first = ("story", "outage", "good", "tail", "quiet", "errors", "slower", "crash-loop")
    assert set(longest_first) == set(SCENARIOS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, name) for name in longest_first}


def play(name: str) -> Done:
    command = [sys.executable, "-m", "canaryd", "demo", "--scenario", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize(
    "name", ["crash-loop", "slower", "errors", "quiet", "tail", "good", "outage", "story"]
)
def test_a_scenario_ends_as_it_says_and_is_explained(played: dict[str, Future[Done]], name: str) -> None:
    done = played[name].result()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    for release in SCENARIOS[name].releases:
        assert f"as expected: {release.version} {release.ending}" in done.stdout
        assert f"webhook: {release.ending.replace(' ', '_')}" in done.stdout
    assert "What happened" in done.stdout
    assert "kind: VirtualService" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.xdist_group("demo")
def test_the_story_ends_with_one_destination_the_good_version(played: dict[str, Future[Done]]) -> None:
    route = played["story"].result().stdout.rpartition("The route now:")[2]
    assert route.count("destination:") == 1
    assert "subset: v2" in route
    assert "weight" not in route


@pytest.mark.xdist_group("demo")
def test_a_rollback_is_explained_in_the_numbers_it_was_decided_on(played: dict[str, Future[Done]]) -> None:
    told = played["errors"].result().stdout
    assert "rolled back, all traffic on v1" in told
    assert "errors: fail" in told
    assert "harm" in told.partition("What happened")[2]


def test_the_scenarios_are_listed() -> None:
    listed = CliRunner().invoke(main, ["demo", "--list"]).output
    assert all(name in listed for name in SCENARIOS)


def test_an_unknown_scenario_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["demo", "--scenario", "lucky"]).exit_code == 2


def test_rates_are_those_of_the_last_seconds() -> None:
    tally = {"a": Tally("v1"), "b": Tally("v2")}
    speedometer = Speedometer(lambda: tally)
    speedometer.read(0.0)
    tally["a"].requests, tally["a"].failures = 100, 2
    tally["a"].slower.update({1.0: 50, 5.0: 4})
    speeds = speedometer.read(2.0)
    assert speeds["v1"].rate == 50.0
    assert speeds["v1"].errors == 0.02
    assert speeds["v1"].p95 == 0.5  # nothing was slower than the first bound, by this tally
    assert speeds["v2"] == Speed(0.0, None, None)
    assert speedometer.read(60.0)["v1"].rate == 0.0


@pytest.mark.parametrize("phase", list(Phase))
def test_the_picture_can_be_drawn_in_every_phase(phase: Phase) -> None:
    console = Console(width=120, record=True, force_terminal=True, file=StringIO())
    rollout = a_rollout(phase=phase, verdict=a_verdict(odds=43.0))
    console.print(picture(Frame("v2", rollout, {"v1": Speed(180.0, 0.005, 50.0)}, ("started",), 3.0)))
    drawn = console.export_text()
    assert "43 to 1 against v2; rolled back at 100 to 1" in drawn
    assert "0.5%" in drawn
    assert "started" in drawn


def test_the_picture_before_anything_is_noticed_says_so() -> None:
    console = Console(width=120, record=True, file=StringIO())
    console.print(picture(Frame("v2", None, {}, (), 1.0)))
    assert "not noticed it yet" in console.export_text()
