"""Every scenario of the demo, with the daemon as a process of its own, ends as it says; and tells what a
person needs to see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.cli import main
from canaryd.cli.group import Failure
from canaryd.commands.demo.live_view import Frame, deadline_text, picture, ruled_out
from canaryd.commands.demo.running_world import ProgressWatch, RunningWorld
from canaryd.commands.demo.served_traffic import Served, Speed, Speedometer, hurt_text
from canaryd.commands.demo.text import ending, explained_where
from canaryd.domain.formatting import lasting
from canaryd.domain.rollout import Phase, Rollout
from canaryd.domain.verdict import Answer, MetricFinding
from canaryd.report.findings import ALL_BOUNDS
from canaryd_sandbox.mesh.mesh import BOUNDS, Tally
from canaryd_sandbox.scenarios import SCENARIOS
from tests.builders import a_rollout, a_verdict
from tests.commands.conftest import Shell

AT_ONCE = 4  # a scenario mostly waits: two seconds of one core to start, some 5% of it after that

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[Done]]]:
    """Every scenario's run, piped. Those that take longest begin first."""
    longest_first = ("story", "outage", "good", "tail", "quiet", "errors", "slower", "crash-loop")
    assert {*longest_first, "none"} == set(SCENARIOS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, name) for name in longest_first}


def play(name: str) -> Done:
    command = [sys.executable, "-m", "canaryd", "demo", "--scenario", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize(
    "name", ["crash-loop", "slower", "errors", "quiet", "tail", "good", "outage", "story"]
)
def test_a_scenario_ends_as_it_says_in_three_lines_and_an_explanation(
    played: dict[str, Future[Done]], name: str
) -> None:
    done = played[name].result()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    for release in SCENARIOS[name].releases:
        ending, hurt, why = done.stdout.partition(f"\n{release.version}: ")[2].splitlines()[:3]
        assert ending.startswith(release.ending)
        assert ending.endswith(", as expected")
        assert hurt.startswith("users hurt: ")
        assert "What happened" in Path(why.split()[3]).read_text()
        assert f"webhook: {release.ending.replace(' ', '_')}" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.xdist_group("demo")
def test_a_rollback_is_explained_in_the_numbers_it_was_decided_on(played: dict[str, Future[Done]]) -> None:
    told = played["errors"].result().stdout
    assert "rolled back, all traffic on v1" in told
    explained = Path(told.partition("why, in numbers: ")[2].split()[0]).read_text()
    assert "errors: fail" in explained
    assert "harm" in explained.partition("What happened")[2]


@pytest.mark.xdist_group("demo")
def test_nobody_is_hurt_by_a_version_that_never_serves(played: dict[str, Future[Done]]) -> None:
    assert "users hurt: nobody, no request has met it" in played["crash-loop"].result().stdout


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
    assert speedometer.served["v1"] == Served(100, 2, dict.fromkeys(BOUNDS, 0) | {1.0: 50, 5.0: 4})
    assert speedometer.read(60.0)["v1"].rate == 0.0


def drawn(rollout: Rollout | None, served: dict[str, Served] | None = None, events: int = 1) -> list[str]:
    """The picture as it is on a terminal of 80 columns."""
    console = Console(width=80, record=True, force_terminal=True, file=StringIO())
    speeds = {"v1": Speed(180.0, 0.005, 50.0)}
    console.print(picture(Frame("v2", rollout, speeds, served or {}, ("started",) * events, 3.0, 1e9)))
    return console.export_text().splitlines()


@pytest.mark.parametrize("phase", list(Phase))
def test_the_picture_fits_80_columns_and_24_lines_in_every_phase(phase: Phase) -> None:
    reason = "errors 4.9% against 0.47% (ratio 10, 1.9 to any; 10% more tolerated), " * 9
    finding = MetricFinding("errors", "errors", Answer.UNDECIDED, unacceptable=2.0, cleared=1e9)
    verdict = a_verdict(odds=1e-9, reason=reason, findings=(finding, replace(finding, metric="latency")))
    shown = drawn(a_rollout(phase=phase, verdict=verdict, reason=reason), events=9)
    assert max(map(len, shown)) == 80
    assert all(line.endswith(("│", "╮", "╯")) for line in shown)
    assert len(shown) < 24


def test_the_picture_shows_harm_and_at_which_odds_it_rolls_back() -> None:
    shown = "\n".join(drawn(a_rollout(phase=Phase.PROGRESSING, verdict=a_verdict(odds=43.0))))
    assert "43 to 1 against v2" in shown
    assert "rolled back at 100 to 1" in shown
    assert "0.5%" in shown
    assert "started" in shown


def test_the_picture_shows_what_is_ruled_out_by_metric_and_what_is_not_yet() -> None:
    clear = MetricFinding("errors", "errors", Answer.PASS, unacceptable=2.0, cleared=90.0)
    half = MetricFinding("latency", ALL_BOUNDS, Answer.UNDECIDED, cleared=4.5)
    rollout = a_rollout(phase=Phase.PROGRESSING, verdict=a_verdict(findings=(clear, half)))
    shown = "\n".join(drawn(rollout))
    assert "errors: ruled out" in shown
    assert "latency: 4.5 to 1, passes at 20 to 1" in shown


def test_latency_is_ruled_out_by_all_bounds_together_as_the_stage_waits_for_them() -> None:
    as_a_whole = MetricFinding("latency", ALL_BOUNDS, Answer.UNDECIDED, cleared=18.0)
    bound = MetricFinding("latency", "slower than 50 ms", Answer.PASS, unacceptable=1.5, cleared=70.0)
    limit = MetricFinding("errors", "at most 5% errors", Answer.PASS, limit=0.05)
    rollout = a_rollout(phase=Phase.PROGRESSING, verdict=a_verdict(findings=(as_a_whole, bound, limit)))
    assert ruled_out(rollout) == {"latency": (18.0, 20.0)}


def test_a_release_ends_in_three_lines_that_fit_80_columns() -> None:
    served = {
        "v2": Served(9999, 55, {50.0: 9999, 100.0: 99, 250.0: 0}),
        "v3": Served(9999, 999, {50.0: 9999, 100.0: 99, 250.0: 0}),
    }
    stable, canary = served.values()
    hurt, usual = hurt_text(canary, stable)
    assert (hurt, usual) == ("999 of 9,999 requests failed, 99 over 100 ms", "55 and 99")
    service = replace(a_rollout().entrance, stable="v2", canary="v3")
    rolled_back = a_rollout(phase=Phase.ROLLED_BACK, services=(service,), began=0.0, ended=35.0)
    why = explained_where(rolled_back, Path("/tmp/canaryd-demo-z0jjr9da"), keep=False)
    lines = ending(rolled_back, 40.0, served, why, as_planned=True)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "canaryd explain" in lines[2]


def test_what_a_stage_before_ruled_out_is_not_shown_as_this_ones() -> None:
    clear = MetricFinding("errors", "errors", Answer.PASS, unacceptable=2.0, cleared=90.0)
    rollout = a_rollout(phase=Phase.PROGRESSING, stage=1, verdict=a_verdict(findings=(clear,)))
    assert "nothing yet in this stage" in "\n".join(drawn(rollout))


def test_the_picture_shows_the_time_to_the_deadline() -> None:
    rollout = a_rollout(phase=Phase.PROGRESSING)
    stage = rollout.policy.stages[rollout.stage]
    text = deadline_text(rollout, 0.0)
    assert text.startswith("in ")
    assert f"of {lasting(stage.deadline)} for this stage" in text
    assert "stands still" in deadline_text(replace(rollout, phase=Phase.HELD), 0.0)


def test_the_picture_shows_the_users_hurt_so_far_and_how_many_stable_had_hurt() -> None:
    served = {
        "v1": Served(1000, 10, {50.0: 100, 100.0: 5, 250.0: 0}),
        "v2": Served(400, 21, {50.0: 90, 100.0: 9, 250.0: 3}),
    }
    shown = "\n".join(drawn(a_rollout(phase=Phase.PROGRESSING), served))
    assert "21 of 400 requests failed, 9 over 100 ms" in shown
    assert "on v1 about 4 and 2" in shown


def test_the_picture_before_anything_is_noticed_says_so() -> None:
    assert "not noticed it yet" in "\n".join(drawn(None))


# ---------------------------------------------------------------- a world that is kept


@dataclass
class KeptWorld:
    """A `canaryd demo --keep`, and the environment of somebody who ran the exports that it prints."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait_for(self, line: str, seconds: float = 100) -> str:
        """The first line that begins so, after the clock of the plain view."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            for found in self.output.read_text().splitlines():
                if found.startswith(line) or found[7:].startswith(line):
                    return found
            time.sleep(0.1)
        raise AssertionError(f"no line {line!r} in:\n{self.output.read_text()}")

    @property
    def environment(self) -> dict[str, str]:
        exports = re.findall(r"(?m)^  export (\w+)=(\S+)$", self.output.read_text())
        return {**os.environ, **dict(exports)}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptWorld]:
    command = [sys.executable, "-u", "-m", "canaryd", "demo", "--scenario", "none", "--keep"]
    with (tmp_path / "output").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
    try:
        world = KeptWorld(process, tmp_path / "output")
        world.wait_for("The daemon's settings")
        yield world
    finally:
        process.terminate()
        process.wait(30)


def in_another_terminal(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "canaryd", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.xdist_group("demo")
def test_in_a_world_that_is_kept_versions_are_released_from_another_terminal(kept: KeptWorld) -> None:
    there = kept.environment
    assert {"KUBECONFIG", "CANARYD_CONFIG"} <= set(there)
    assert "front-end-v2, a bad version" in in_another_terminal(there, "demo", "release", "bad")
    assert kept.wait_for("v2: ").startswith("v2: rolled back, all traffic on v1, after ")
    assert "RolledBack" in in_another_terminal(there, "status")
    assert "Recomputed from Prometheus" in in_another_terminal(there, "explain", "front-end", "--brief")
    assert "front-end-v3, a good version" in in_another_terminal(there, "demo", "release", "good")
    kept.wait_for("Progressing at 10%: front-end-v3 is available")
    assert "goes to 100%" in in_another_terminal(there, "promote", "front-end")
    assert kept.wait_for("v3: ").startswith("v3: succeeded, all traffic on v3, after ")
    kept.process.send_signal(signal.SIGINT)
    assert kept.process.wait(30) == 0
    assert kept.output.read_text().endswith("the world ends\n")


def test_versions_are_released_in_simulated_worlds_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KubernetesApi, "version", lambda api: "v1.36.3")
    assert "is not the world of a demo" in shell.refused("demo", "release", "bad")


def test_what_makes_progress_is_waited_for_and_what_does_not_is_given_up(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    running = RunningWorld(None, None, None, process, tmp_path)  # type: ignore[arg-type]
    try:
        patience = ProgressWatch("it has not begun", running, seconds=0.2)
        for step in range(8):
            patience.observe(step)
            time.sleep(0.05)
        patience.observe("the same")
        time.sleep(0.3)
        with pytest.raises(Failure, match=r"it has not begun, and nothing has moved for 0 s"):
            patience.observe("the same")
    finally:
        process.communicate(b"\n")


def test_a_daemon_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    running = RunningWorld(None, None, None, process, tmp_path)  # type: ignore[arg-type]
    running.log.write_text("its last words")
    with pytest.raises(Failure, match=r"(?s)exit code 3.*its last words"):
        ProgressWatch("it has not begun", running).observe(0)
