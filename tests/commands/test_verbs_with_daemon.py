"""The verbs and the daemon together: what a person wishes happens, and the exit code says so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canaryd.cli import main
from canaryd.commands.demo.running_world import running_world
from canaryd_sandbox.mesh.mesh import Behaviour
from canaryd_sandbox.scenarios import Scenario
from canaryd_sandbox.world import World


class Person:
    """Someone with a terminal. Each test applies a version of its own and leaves no rollout under way, so
    their order does not matter."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._version = 1

    def deploys(self) -> str:
        """Applies a new version; its label."""
        self._version += 1
        self.world.deploy(f"v{self._version}", replicas=2)
        return f"v{self._version}"

    def applies(self) -> str:
        """The same, and waits until its rollout is in a stage."""
        version = self.deploys()
        self.until(lambda rollout: (rollout["canary"], rollout["phase"]) == (version, "Progressing"))
        return version

    def stable(self) -> str:
        """The version that has all traffic."""
        (version,) = (version for version, weight in self.world.weights().items() if weight == 100)
        return version

    def run(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "canaryd", *arguments, "--kubeconfig", str(self.world.kubeconfig)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rollout(self) -> dict[str, Any]:
        """By `canaryd status` in this process: another one each time takes a second, in which a rollout goes
        on."""
        done = CliRunner().invoke(main, ["status", "-o", "json", "--kubeconfig", str(self.world.kubeconfig)])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["rollouts"]
        return dict(found[-1]) if found else {}

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            rollout = self.rollout()
            if rollout and is_so(rollout):
                return rollout
            time.sleep(0.3)
        raise AssertionError(f"not within 40 s; the rollout is {rollout}")


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    nothing = Scenario("live", "what a person does", (), rate=100.0, stable=Behaviour())
    with running_world(nothing, tmp_path_factory.mktemp("live")) as running:
        yield Person(running.world)


@pytest.mark.xdist_group("live")
def test_a_held_rollout_stays_until_it_is_resumed(person: Person) -> None:
    person.applies()
    person.run("hold", "front-end")
    assert person.until(lambda rollout: rollout["phase"] == "Held")["held"] == "person"
    person.run("resume", "front-end")
    # By itself it may be through its last stage before anyone looks.
    person.until(lambda rollout: rollout["phase"] in ("Progressing", "Promoting", "Succeeded"))
    person.until(lambda rollout: rollout["phase"] == "Succeeded")


@pytest.mark.xdist_group("live")
def test_a_held_rollout_goes_to_full_weight_when_promoted(person: Person) -> None:
    version = person.applies()
    person.run("hold", "front-end", "--reason", "the database is down")
    person.until(lambda rollout: rollout["phase"] == "Held")
    told = person.run("promote", "front-end", "--wait")
    assert f"succeeded, all traffic on {version}" in told
    assert person.world.weights() == {version: 100.0}
    explained = " ".join(person.run("explain", "front-end").split())
    assert "held by sandbox: the database is down" in explained
    assert "promoted by sandbox" in explained


@pytest.mark.xdist_group("live")
def test_an_aborted_rollout_goes_back_and_a_retry_is_a_new_record(person: Person) -> None:
    stable, version = person.stable(), person.applies()
    assert f"rolled back, all traffic on {stable}" in person.run("abort", "front-end", "--wait")
    assert person.stable() == stable
    person.run("retry", "front-end")
    again = person.until(lambda rollout: (rollout["canary"], rollout["attempt"]) == (version, 2))
    assert again["name"].endswith("-2")
    person.run("abort", again["name"], "--wait")


@pytest.mark.xdist_group("live")
def test_a_version_that_was_judged_before_is_started_by_hand_and_the_stable_one_is_refused(
    person: Person,
) -> None:
    stable, version = person.stable(), person.applies()
    person.run("abort", "front-end", "--wait")
    assert "is the stable version already" in person.run("start", "front-end", stable, "--wait", code=1)
    person.run("start", "front-end", version)
    person.until(lambda rollout: (rollout["canary"], rollout["phase"]) == (version, "Progressing"))
    person.run("abort", "front-end", "--wait")


@pytest.mark.xdist_group("live")
def test_a_paused_service_begins_nothing_until_the_pause_ends(person: Person) -> None:
    person.run("pause", "front-end")
    version = person.deploys()
    time.sleep(4)  # a few beats
    assert person.rollout().get("canary") != version
    person.run("pause", "front-end", "--end")
    person.until(lambda rollout: (rollout["canary"], rollout["phase"]) == (version, "Progressing"))
    person.run("abort", "front-end", "--wait")


def test_a_daemon_that_cannot_read_its_settings_says_so_with_exit_code_1(tmp_path: Path) -> None:
    config = tmp_path / "canaryd.yaml"
    config.write_text("prometheus: {url: nowhere}\n")
    command = [sys.executable, "-m", "canaryd", "run", "--config", str(config), "--policies", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"canaryd: {config}:1: prometheus.url must be a URL")
