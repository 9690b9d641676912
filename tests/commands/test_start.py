"""What people run many times a day starts at once, since it imports only what it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from canaryd.domain.rollout import Held, Phase
from tests.commands.conftest import Shell

# Most cost a tenth of a second or more. kubernetes and pydantic, which are needed, cost a quarter together.
HEAVY = (
    "numpy",
    "scipy",
    "rich",
    "ruamel",
    "structlog",
    "prometheus_client",
    "prometheus_api_client",
    "promql_parser",
    "cloudevents",
    "apscheduler",
    "starlette",
    "canaryd.judge",
    "canaryd.app",
)
NAME = "front-end-v2-hash-v2"
CODE = (
    "import sys\nfrom canaryd.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
    f"    print('exit', end.code or 0, *(m for m in {HEAVY} if m in sys.modules))"
)


def imported(shell: Shell, *arguments: str) -> list[str]:
    """The heavy modules that a command has imported when it has done its work on this world."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env={**os.environ, "KUBECONFIG": str(shell.world.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    words = done.stdout.splitlines()[-1].split() if done.stdout else []
    assert words[:2] == ["exit", "0"], done.stdout + done.stderr
    return words[2:]


@pytest.mark.parametrize(
    ("arguments", "phase"),
    [
        (("status",), Phase.PROGRESSING),
        (("status", "-o", "json"), Phase.PROGRESSING),
        (("hold", NAME), Phase.PROGRESSING),
        (("resume", NAME), Phase.HELD),
        (("abort", NAME), Phase.PROGRESSING),
        (("promote", NAME), Phase.PROGRESSING),
        (("retry", NAME), Phase.ROLLED_BACK),
        (("pause", "front-end"), Phase.PROGRESSING),
        (("start", "front-end", "v1"), Phase.SUCCEEDED),
        (("crd",), Phase.PROGRESSING),
    ],
)
def test_status_and_verbs_import_no_numbers_and_no_terminal(
    shell: Shell, arguments: tuple[str, ...], phase: Phase
) -> None:
    shell.store(phase=phase, held=Held.PERSON if phase is Phase.HELD else None)
    assert imported(shell, *arguments) == []
