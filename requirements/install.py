"""`python install.py FILE`: installs a file of pinned requirements for this Python, and shows its progress.

Packages are not compiled here: Python compiles each module when it is first imported, and most never are.
Ends with pip's own exit code. Imports the standard library alone, since the environment is empty.
"""

import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

EVERY = 0.2  # seconds between two counts of what is unpacked
STEP = 10  # packages between two lines where the output is no terminal


class Progress:
    """One line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._shown = total, ("", 0)

    def show(self, doing: str, count: int) -> None:
        count = min(count, self._total)
        if (doing, count) <= self._shown:
            return
        line = f"{doing} {count} of {self._total} packages"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif doing != self._shown[0] or count == self._total or count >= self._shown[1] + STEP:
            print(line, flush=True)
        else:
            return
        self._shown = (doing, count)

    def close(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)


def installed() -> int:
    """How many packages are in the environment."""
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


def install(requirements: str) -> int:
    """Installs the file's packages; pip's exit code."""
    total = sum("==" in line for line in Path(requirements).read_text().splitlines())
    options = ("--disable-pip-version-check", "--no-compile", "--progress-bar", "off", "--require-hashes")
    command = [sys.executable, "-m", "pip", "install", *options, "-r", requirements]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert pip.stdout is not None
    began, progress, collected = time.monotonic(), Progress(total), 0
    before = installed()
    for line in pip.stdout:
        if line.startswith(("Collecting ", "Requirement already satisfied")):
            collected += 1
            progress.show("downloading", collected)
        elif line.startswith("Installing collected packages"):
            here = total - line.count(",") - 1  # those that were there already
            threading.Thread(target=_count, args=(pip, progress, before - here), daemon=True).start()
    code = pip.wait()
    progress.close()
    if code == 0:
        print(
            f"installed the {total} packages of {requirements} in {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return code


def _count(pip: "subprocess.Popen[str]", progress: Progress, before: int) -> None:
    while pip.poll() is None:
        progress.show("unpacking", installed() - before)
        time.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(install(sys.argv[1]))
