"""The command line teaches, answers at once, and imports no more than it needs."""

from __future__ import annotations

import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from canaryd.cli import COMMANDS, main
from canaryd.cli.lazy import readable
from canaryd.domain.ports import Conflict, Missing, Rejected, Unavailable
from canaryd.domain.problems import Problem, Refused

ALL = [name for section in COMMANDS.values() for name in section]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


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
    for _ in range(3):  # the least of three: other work on the machine is not what is measured
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "canaryd", "--help"], capture_output=True, check=True, timeout=60)
        took.append(time.monotonic() - began)
    assert min(took) < 0.5


def test_help_imports_none_of_the_heavy_libraries() -> None:
    heavy = python("import sys, canaryd.cli; print([m for m in ('kubernetes', 'numpy', 'scipy', 'rich', 'pydantic') if m in sys.modules])")
    assert heavy == "[]"


def test_the_daemon_carries_no_terminal_library_in_its_memory(tmp_path: object) -> None:
    code = ("import sys\nfrom canaryd.cli import main\n"
            "try:\n    main(['run', '--config', '/nowhere/canaryd.yaml', '--policies', '/nowhere'])\n"
            "except SystemExit as end:\n    print(end.code, 'canaryd.app' in sys.modules, 'rich.console' in sys.modules)")
    assert python(code) == "1 True False"


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["promot"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("canaryd 0.")


@pytest.mark.parametrize(("error", "code"), [
    (Unavailable("no answer"), 3), (Rejected("no answer"), 1), (Conflict("no answer"), 1), (Missing("no answer"), 1),
    (Refused([Problem((), "no answer")]), 1), (FileNotFoundError(2, "no answer", "file"), 1),
])
def test_what_is_expected_to_go_wrong_is_a_line_and_an_exit_code(error: Exception, code: int) -> None:
    failure = readable(error)
    assert failure is not None
    assert failure.exit_code == code
    assert "no answer" in failure.message


def test_a_fault_of_canaryds_own_keeps_its_traceback() -> None:
    assert readable(KeyError("x")) is None
