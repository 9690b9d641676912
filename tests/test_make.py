"""`make test`, with a python that only notes what it was asked: which kinds of tests run, and with which end."""

from __future__ import annotations

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTHING_CHOSEN = 5  # pytest's exit code


def make_test(folder: Path, most: int, real: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`make test ARGS="-k held"` where pytest ends so for most tests and for the real ones; and what was run of both."""
    if shutil.which("make") is None:
        pytest.skip("no make on the PATH")
    venv = folder / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / f"made-{sha256((ROOT / 'requirements' / 'dev.txt').read_bytes()).hexdigest()[:12]}").touch()
    python, log = venv / "bin" / "python", folder / "log"
    python.write_text(f"""#!/bin/sh
case "$*" in
  "-m pytest -n 2 --dist loadgroup -m not real -k held") echo most >> {log}; exit {most};;
  "-m pytest -m real -k held") echo real >> {log}; exit {real};;
esac
exit 99
""")
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "test", f"VENV={venv}", "ARGS=-k held"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done, log.read_text().split()


@pytest.mark.parametrize(
    ("most", "real", "ran", "good"),
    [
        (0, 0, ["most", "real"], True),
        (0, NOTHING_CHOSEN, ["most", "real"], True),
        (NOTHING_CHOSEN, 0, ["most", "real"], True),
        (NOTHING_CHOSEN, NOTHING_CHOSEN, ["most", "real"], False),
        (1, 0, ["most"], False),
        (0, 1, ["most", "real"], False),
        (NOTHING_CHOSEN, 1, ["most", "real"], False),
    ],
)
def test_a_choice_of_tests_reaches_the_real_ones_and_fails_when_it_chooses_none(
    tmp_path: Path, most: int, real: int, ran: list[str], good: bool
) -> None:
    done, runs = make_test(tmp_path, most, real)
    assert runs == ran
    assert (done.returncode == 0) is good, done.stderr


def test_a_choice_of_no_test_at_all_is_said(tmp_path: Path) -> None:
    done, _ = make_test(tmp_path, NOTHING_CHOSEN, NOTHING_CHOSEN)
    assert "no test is chosen by these ARGS" in done.stderr
