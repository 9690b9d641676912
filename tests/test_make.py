"""`make test`, with a python that only notes what it was asked; and what it is asked, on a few tests of each kind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTHING_CHOSEN = 5  # pytest's exit code
WORKERS = 3


def make_test(folder: Path, *more: str, end: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """`make test` with these arguments, where python ends so. Its output is what python was asked."""
    if shutil.which("make") is None:
        pytest.skip("no make on the PATH")
    venv = folder / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / f"made-{sha256((ROOT / 'requirements' / 'dev.txt').read_bytes()).hexdigest()[:12]}").touch()
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$*"\n{end}\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "test", f"VENV={venv}", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_choice_of_tests_and_a_number_of_workers_reach_pytest(tmp_path: Path) -> None:
    assert make_test(tmp_path, "ARGS=-k held", "WORKERS=4").stdout == "-m pytest -n 4 --dist loadgroup -k held\n"


@pytest.mark.parametrize(("end", "good"), [(0, True), (1, False), (2, False), (NOTHING_CHOSEN, False)])
def test_a_failure_and_a_choice_of_no_test_fail(tmp_path: Path, end: int, good: bool) -> None:
    assert (make_test(tmp_path, end=f"exit {end}").returncode == 0) is good


SUITE = """
import os, pathlib, time, pytest
MET = pathlib.Path(__file__).parent / "met"

def both(one, other):
    (MET / one).touch()
    until = time.monotonic() + 60
    while not (MET / other).exists():
        assert time.monotonic() < until, f"{other} did not run beside {one}"
        time.sleep(0.02)

@pytest.mark.parametrize("number", range(8))
def test_other(number):
    (MET / f"worker-{os.environ['PYTEST_XDIST_WORKER']}").touch()
    both("other", "real")

@pytest.mark.real
@pytest.mark.xdist_group("real")
@pytest.mark.parametrize("number", range(4))
def test_real(number):
    (MET / f"real-{os.environ['PYTEST_XDIST_WORKER']}").touch()
    both("real", "other")
"""


def as_make_asks(folder: Path) -> list[str]:
    """Python's command line by `make test`, with this interpreter, and without this project's settings."""
    asked = make_test(folder / "make").stdout.split()
    return [sys.executable, *asked, "-q", "-c", "/dev/null", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder / "test_both.py")]


def test_those_on_real_parts_run_in_one_worker_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "test_both.py").write_text(SUITE)
    (tmp_path / "met").mkdir()
    done = subprocess.run(as_make_asks(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout
    found = sorted(one.name for one in (tmp_path / "met").iterdir())
    assert len([one for one in found if one.startswith("real-")]) == 1
    assert len([one for one in found if one.startswith("worker-")]) >= WORKERS - 1
