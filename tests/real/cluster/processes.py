"""Child processes with a name, a log and a way to be stopped and started again; no one of them outlives the
parent.

Used by up.py and mesh.py. What starts here ends here: on `stop_all`, and by the kernel's parent-death signal
when the parent is killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Ready = Callable[[], bool]


class NotReady(Exception):
    """A part ended, or was not ready in time; the message names it and its log."""


@dataclass(frozen=True)
class Recipe:
    """How a process is started, kept so that it can be started again."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    ready: Ready | None


class Processes:
    """grace: seconds between asking a process to end and killing it."""

    def __init__(self, folder: Path, grace: float = 10) -> None:
        self.folder, self.grace = folder, grace
        self.recipes: dict[str, Recipe] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.running.items()}

    def start(
        self, name: str, *args: object, env: Mapping[str, str] | None = None, ready: Ready | None = None
    ) -> None:
        """Starts it, with FOLDER/name.log; does not wait."""
        self.recipes[name] = Recipe(tuple(str(a) for a in args), env or {}, ready)
        self._spawn(name)

    def _spawn(self, name: str) -> None:
        recipe = self.recipes[name]
        # A parent that is killed cannot clean up; the kernel can.
        guard = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*guard, *recipe.args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **recipe.env},
                process_group=0,
            )

    def wait(self, what: str, ready: Ready, seconds: float = 60) -> None:
        """Until `ready()`; NotReady if any process ends meanwhile, or after `seconds`. An OSError of `ready`
        is "not yet"."""
        until, last = time.monotonic() + seconds, "it said no"
        while time.monotonic() < until:
            self.check()
            try:
                if ready():
                    return
            except OSError as error:  # urllib's errors are OSErrors too
                last = str(error)
            time.sleep(0.05)
        raise NotReady(f"{what} was not ready after {seconds:.0f} s ({last}): see {self.folder}/*.log")

    def check(self) -> None:
        for name, process in self.running.items():
            if process.poll() is not None:
                tail = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-3:]
                raise NotReady(
                    f"{name} ended with {process.returncode}: see {self.folder / name}.log: "
                    f"{' / '.join(tail)}"
                )

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(self.grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_again(self, name: str) -> None:
        """As it was started first, with whatever data it kept; waits until it is ready."""
        self._spawn(name)
        if ready := self.recipes[name].ready:
            self.wait(name, ready)

    def stop_all(self) -> None:
        for process in self.running.values():
            process.terminate()
        for name in reversed(list(self.running)):
            self.stop(name)

    def obey(self, line: str) -> str:
        """One command (`stop NAME`, `start NAME`, `freeze NAME`, `thaw NAME`), answered with one line of
        JSON."""
        verb, _, name = line.strip().partition(" ")
        try:
            if verb not in ("stop", "start", "freeze", "thaw"):
                raise ValueError(f"wanted stop, start, freeze or thaw and a name, but got {line.strip()!r}")
            if name not in self.recipes:
                raise ValueError(f"wanted one of {', '.join(self.recipes)}, but got {name!r}")
            if (verb == "start") == (name in self.running):
                raise ValueError(f"{name} is {'running already' if verb == 'start' else 'not running'}")
            if verb == "stop":
                self.stop(name)
            elif verb == "start":
                self.start_again(name)
            else:
                self.running[name].send_signal(signal.SIGSTOP if verb == "freeze" else signal.SIGCONT)
        except (ValueError, NotReady) as error:
            return json.dumps({"error": str(error)})
        return json.dumps({"done": line.strip(), "pids": self.pids})
