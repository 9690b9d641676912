"""canaryd in shells: completion, and as a plugin of kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from canaryd.cli import main

ROOT = Path(__file__).parents[2]
CANARYD = "from canaryd.cli import {0}; {0}({1})"


def an_executable(folder: Path, name: str, function: str, arguments: str = "") -> dict[str, str]:
    """The environment with an executable of this name on the PATH, as pip makes it."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{CANARYD.format(function, arguments)}\n")
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    printed = CliRunner().invoke(main, ["completion", shell], prog_name="canaryd").output
    assert "_CANARYD_COMPLETE" in printed
    assert f"{shell}_complete" in printed


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("canaryd exp", {"explain"}),
        ("canaryd hold --rea", {"--reason"}),
        ("canaryd p", {"plan", "pause", "promote"}),
    ],
)
def test_bash_completes_commands_and_options(tmp_path: Path, words: str, completed: set[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on the PATH")
    line = words.split()
    script = (
        f"source <(canaryd completion bash)\nCOMP_WORDS=({words})\nCOMP_CWORD={len(line) - 1}\n"
        f"_canaryd_completion canaryd {line[-1]} {line[-2]}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    done = subprocess.run(
        [bash, "-c", script],
        env=an_executable(tmp_path, "canaryd", "main"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert set(done.stdout.split()) == completed, done.stderr


def test_kubectl_runs_it_as_a_plugin(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on the PATH")
    environment = an_executable(tmp_path, "kubectl-canaryd", "kubectl_plugin")

    def run(*arguments: str) -> str:
        command = [kubectl, "canaryd", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert run("--version").startswith("canaryd ")
    assert run("hold", "--help").startswith("Usage: kubectl canaryd hold ")
