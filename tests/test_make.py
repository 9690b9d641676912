"""`make test`, with a python that only notes what it was asked; and what it is asked, on a few tests of each
kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTHING_CHOSEN = 5  # pytest's exit code


def marker(name: str, *files: str) -> str:
    """The file that says that an environment has what these files ask for now."""
    content = b"".join((ROOT / file).read_bytes() for file in files)
    return f"{name}-{sha256(content).hexdigest()[:12]}"


RUNTIME = marker("runtime", "requirements/runtime.txt", "pyproject.toml")
DEVELOPMENT = marker("made", "requirements/runtime.txt", "requirements/dev.txt", "pyproject.toml")
OTHERS = marker("others", "requirements/bench.txt")


def make(
    folder: Path,
    target: str,
    *more: str,
    has: tuple[str, ...] = (RUNTIME, DEVELOPMENT, OTHERS),
    end: str = "exit 0",
) -> subprocess.CompletedProcess[str]:
    """`make TARGET` with these arguments, in an environment that has these markers, and where python, pip and
    canaryd end so. Its output is what these three were asked."""
    if shutil.which("make") is None:
        pytest.skip("no make on the PATH")
    venv = folder / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in has:
        (venv / name).touch()
    for name in ("python", "pip", "canaryd"):
        program = venv / "bin" / name
        asked = '"$*"' if name == "python" else f'"{name} $*"'
        program.write_text(f"#!/bin/sh\necho {asked}\n{end}\n")
        program.chmod(0o755)
    command = ["make", "--no-print-directory", target, f"VENV={venv}", *more]
    # What `make test ARGS=...` was asked is handed on in these, and would be asked here as well.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    return subprocess.run(
        command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60, check=False
    )


def make_test(folder: Path, *more: str, end: str = "exit 0") -> subprocess.CompletedProcess[str]:
    return make(folder, "test", *more, end=end)


def test_the_demo_wants_no_more_than_canaryd_itself_needs(tmp_path: Path) -> None:
    assert make(tmp_path, "demo", "ARGS=--plain", has=(RUNTIME,)).stdout == "canaryd demo --plain\n"


def test_the_tests_add_what_they_need_to_the_demos_environment(tmp_path: Path) -> None:
    done = make(tmp_path, "test", has=(RUNTIME,))
    assert done.stdout.splitlines()[0] == "requirements/install.py requirements/dev.txt"
    assert (tmp_path / "venv" / DEVELOPMENT).exists()


@pytest.mark.parametrize(("target", "then"), [("bench", "-m bench --quick"), ("test", "-m pytest")])
def test_the_benchmark_and_its_tests_have_growthbook_s_code_in_a_folder_of_its_own(
    tmp_path: Path, target: str, then: str
) -> None:
    """It asks for an older numpy than canaryd, which what is called of it does not need."""
    done = make(tmp_path, target, "ARGS=--quick", has=(RUNTIME, DEVELOPMENT))
    pip, python = done.stdout.splitlines()
    assert "--no-deps" in pip
    assert f"--target {tmp_path / 'venv' / OTHERS} -r requirements/bench.txt" in pip
    assert python.startswith(then)
    assert "pip" not in make(tmp_path / "again", target).stdout


def test_the_tests_requirements_are_the_demos_and_more() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line}

    assert pins("runtime.txt") < pins("dev.txt")


def test_a_choice_of_tests_and_a_number_of_workers_reach_pytest(tmp_path: Path) -> None:
    assert (
        make_test(tmp_path, "ARGS=-k held", "WORKERS=3").stdout
        == "-m pytest -n 3 --dist loadgroup --no-loadscope-reorder -k held\n"
    )


@pytest.mark.parametrize(("end", "good"), [(0, True), (1, False), (2, False), (NOTHING_CHOSEN, False)])
def test_a_failure_and_a_choice_of_no_test_fail(tmp_path: Path, end: int, good: bool) -> None:
    assert (make_test(tmp_path, end=f"exit {end}").returncode == 0) is good


SUITE = """
import os, pathlib, time, pytest
MET = pathlib.Path(__file__).parent / "met"
KINDS = ("real", "second", "other")

def meet(kind):
    (MET / f"{kind} in {os.environ['PYTEST_XDIST_WORKER']} at {os.nice(0)}").touch()
    until = time.monotonic() + 60
    while missing := [one for one in KINDS if not list(MET.glob(f"{one} *"))]:
        assert time.monotonic() < until, f"{kind} did not meet {missing}"
        time.sleep(0.02)

@pytest.mark.parametrize("number", range(20))
def test_other(number):
    meet("other")

@pytest.mark.real
@pytest.mark.xdist_group("real")
@pytest.mark.parametrize("number", range(4))
def test_real(number):
    meet("real")

@pytest.mark.real
@pytest.mark.xdist_group("real-second")
@pytest.mark.parametrize("number", range(4))
def test_second(number):
    meet("second")
"""


def test_both_groups_on_real_parts_run_in_a_worker_each_beside_the_others_which_give_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "met").mkdir()
    command = [
        sys.executable,
        *make_test(tmp_path / "make").stdout.split(),
        "-p",
        "tests.side_by_side",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        f"--rootdir={tmp_path}",
        str(tmp_path / "test_suite.py"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [one.name.split() for one in (tmp_path / "met").iterdir()]
    where = {
        kind: {(worker, int(nice)) for each, _, worker, _, nice in found if each == kind}
        for kind in ("real", "second", "other")
    }
    assert len(where["real"]) == len(where["second"]) == 1
    assert len({worker for worker, _ in where["real"] | where["second"]}) == 2
    own = os.nice(0)
    assert {nice for _, nice in where["real"] | where["second"]} == {own}
    assert {nice for _, nice in where["other"]} == {max(own, 5)}
