"""The command line teaches, answers at once, and imports no more than it needs."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from canaryd.cli import COMMANDS, main
from canaryd.cli.group import readable
from canaryd.domain.policy.validation import InvalidPolicy, Problem
from canaryd.domain.ports import Conflict, Missing, Rejected, Unavailable

ALL = [name for section in COMMANDS.values() for name in section]


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.mark.parametrize("command", ALL)
def test_every_command_has_a_help_with_an_example_of_itself(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert f"  canaryd {command}" in result.output.partition("Example")[2]


def test_the_list_of_commands_has_them_all_with_a_word_on_each() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    for section in COMMANDS.values():
        for name, (_, says) in section.items():
            assert f"  {name} " in shown
            assert says.split()[0] in shown


def test_every_command_is_found_in_its_module() -> None:
    with click.Context(main) as context:
        assert all(isinstance(main.get_command(context, name), click.Command) for name in ALL)


def test_help_answers_at_once() -> None:
    took = []
    for _ in range(
        3
    ):  # the least of three, in CPU seconds: other work on the machine is not what is measured
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "canaryd", "--help"], capture_output=True, check=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.4


def test_help_imports_none_of_the_heavy_libraries() -> None:
    heavy = python(
        "import sys, canaryd.cli; print([m for m in ('kubernetes', 'numpy', 'scipy', 'rich', 'pydantic') if "
        "m in sys.modules])"
    )
    assert heavy == "[]"


def test_the_daemon_carries_no_terminal_library_in_its_memory(tmp_path: object) -> None:
    code = (
        "import sys\nfrom canaryd.cli import main\ntry:\n    main(['run', '--config', "
        "'/nowhere/canaryd.yaml', '--policies', '/nowhere'])\nexcept SystemExit as end:\n    print(end.code, "
        "'canaryd.app' in sys.modules, 'rich.console' in sys.modules)"
    )
    assert python(code) == "1 True False"


def starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """`canaryd run` with a Prometheus and without any kubeconfig, which ends it as soon as its settings are
    read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return CliRunner().invoke(
        main, ["run", "--prometheus", "http://127.0.0.1:9", "--policies", str(tmp_path), *arguments]
    )


def test_a_settings_file_that_was_asked_for_and_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = starting(tmp_path, monkeypatch, "--config", "canary.yaml")
    assert result.exit_code == 1
    assert result.stderr == "canaryd: canary.yaml: cannot be read: No such file or directory\n"


def test_without_config_the_usual_file_may_be_missing_where_prometheus_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = starting(tmp_path, monkeypatch)
    assert "canaryd.yaml" not in result.stderr
    assert "kubeconfig" in result.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["promot"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("canaryd 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("no answer"), 3),
        (Rejected("no answer"), 1),
        (Conflict("no answer"), 1),
        (Missing("no answer"), 1),
        (InvalidPolicy([Problem((), "no answer")]), 1),
        (FileNotFoundError(2, "no answer", "file"), 1),
    ],
)
def test_what_is_expected_to_go_wrong_is_a_line_and_an_exit_code(error: Exception, code: int) -> None:
    failure = readable(error)
    assert failure is not None
    assert failure.exit_code == code
    assert "no answer" in failure.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, where every write fails")
@pytest.mark.parametrize("arguments", ["schema", "--help", "--version"])
def test_an_output_that_is_full_is_a_line_and_no_traceback(arguments: str) -> None:
    command = [sys.executable, "-m", "canaryd", *arguments.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.stderr == "canaryd: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_a_fault_of_canaryds_own_keeps_its_traceback() -> None:
    assert readable(KeyError("x")) is None
