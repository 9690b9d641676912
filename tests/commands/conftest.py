"""The command line as a person has it: a kubeconfig, and an API server (the sandbox's) with records on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.cli import main, output
from canaryd.cli.cluster import Cluster
from canaryd.domain.ports import KnownTemplates
from canaryd.domain.rollout import Record, Rollout
from canaryd_sandbox.world import World
from tests.builders import a_policy, a_rollout
from tests.one_process import Released


@dataclass
class Shell:
    """A terminal with this world's kubeconfig. `world` stands still."""

    world: World
    rollouts: KubeRollouts

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            main, list(arguments), env={"KUBECONFIG": str(self.world.kubeconfig)}, prog_name="canaryd"
        )

    def fine(self, *arguments: str) -> str:
        """What it prints; AssertionError with its words if it fails."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """What it says on stderr; AssertionError unless it is refused with exit code 1."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        return result.stderr

    def store(self, rollout: Rollout | None = None, **changes: Any) -> Record:
        """Puts a rollout on record, as the daemon would."""
        return self.rollouts.create(Record(rollout or a_rollout(**changes)))

    def spec(self, name: str = "front-end-v2-hash-v2") -> dict[str, Any]:
        return dict(self.rollouts.get("production", name)["spec"])


@pytest.fixture(scope="session")
def still_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        realtime=False, start=1_800_000_000.0, folder=tmp_path_factory.mktemp("world"), replicas=1
    ) as world:
        yield world


@pytest.fixture
def shell(still_world: World) -> Iterator[Shell]:
    """Without any record; canaryd has seen the service front-end."""
    api = KubernetesApi(str(still_world.kubeconfig))
    rollouts, services = KubeRollouts(api), KubeServices(api)
    if not services.notes():
        services.remember(a_policy(), KnownTemplates(frozenset()))
    services.pause(False)
    yield Shell(still_world, rollouts)
    for record in rollouts.list():
        rollouts.delete(record)
    for request in Cluster(api, rollouts, services, None).start_requests():
        rollouts.delete(Record(a_rollout(name=request.name, namespace=request.namespace)))


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


# ---------------------------------------------------------------- the past


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class Desk:
    """Someone with the settings, the policy and a kubeconfig, in a directory of their own."""

    def __init__(self, released: Released, folder: Path) -> None:
        self.released, self.folder = released, folder
        self.config, self.policy, self.out = (
            folder / "canaryd.yaml",
            folder / "front-end.yaml",
            folder / "past.gz",
        )
        self.config.write_text(
            f"prometheus: {{url: '{released.world.prometheus_url}', scrapeInterval: 1s}}\n"
        )
        self.policy.write_text(yaml.safe_dump(released.live.policy.dump()))
        self.time = ("--from", at(released.bad.began), "--to", at(released.world.now - 1))

    def run(self, *arguments: object, code: int = 0) -> Result:
        environment = {"KUBECONFIG": str(self.released.world.kubeconfig)}
        result = CliRunner().invoke(
            main, [*map(str, arguments), "--config", str(self.config)], env=environment
        )
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def by_versions(self, *more: object, stable: str = "v2", canary: str = "v3", code: int = 0) -> Result:
        versions = ("--stable", stable, "--canary", canary)
        return self.run(
            "record", self.out, "--policies", self.policy, *versions, *(more or self.time), code=code
        )


@pytest.fixture
def desk(released: Released, tmp_path: Path) -> Desk:
    return Desk(released, tmp_path)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the output a terminal with so many columns."""

    def of(columns: int) -> None:
        monkeypatch.setattr(output, "is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of
