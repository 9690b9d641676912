"""A tutorial as its reader follows it: files are saved as it says, commands typed into one shell, and what it
shows must come back.

In the Markdown a fenced `yaml` block that begins with `# PATH` is a file to save; in a fenced `console` block
a line that begins with `$ ` is a command (a closing backslash goes on with the next line), and the lines
below it are what the reader sees: each must be in the answer, in this order. Numbers, times, ids and the
widths of columns are other ones each time, and not compared; a line `...` stands for lines left out.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
END = "=end of answer="


@dataclass(frozen=True)
class Save:
    """A file that the reader writes; line: where it stands in the tutorial."""

    line: int
    path: str
    text: str


@dataclass(frozen=True)
class Type:
    """A command that the reader types, and the lines that they are shown."""

    line: int
    command: str
    shown: tuple[str, ...]


def steps(markdown: str) -> list[Save | Type]:
    """In the order of the text."""
    found: list[Save | Type] = []
    for block in FENCE.finditer(markdown):
        line = markdown.count("\n", 0, block.start()) + 2
        if block["kind"] == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block["text"])):
            found.append(Save(line, name[1], block["text"]))
        elif block["kind"] == "console":
            found += _typed(block["text"], line)
    return found


def _typed(text: str, first: int) -> list[Type]:
    found: list[Type] = []
    for line, part in enumerate(text.splitlines(), start=first):
        if part.startswith("$ "):
            found.append(Type(line, part[2:], ()))
        elif found and not found[-1].shown and found[-1].command.endswith("\\"):
            found[-1] = Type(found[-1].line, f"{found[-1].command}\n{part}", ())
        else:
            assert found, f"line {line} of the tutorial shows an answer to no command: {part}"
            found[-1] = Type(found[-1].line, found[-1].command, (*found[-1].shown, part))
    return found


def plain(line: str) -> str:
    """Without what is another one each time."""
    return re.sub(r"\s+", " ", re.sub(r"\b[a-z]*\d[\w.,]*\b", "#", line)).strip()


class Shell:
    """One bash in `folder`, for all commands: what they export and start in the background stays."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=dict(env),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        os.killpg(self._process.pid, signal.SIGTERM)  # what it started in the background, too
        self._process.stdin.close()
        self._process.wait(20)

    def answer(self, command: str) -> tuple[int, list[str]]:
        """Its exit code, and the lines of both its streams."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{command}\nprintf '\\n%s %s\\n' '{END}' $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(END):
                return int(line.split()[-1]), lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended with {command}: {lines}")


def follow(tutorial: Path, folder: Path, env: Mapping[str, str]) -> list[str]:
    """Everything that the tutorial says, in `folder`; how long each command took. AssertionError at the first
    command that fails or answers something else, with its line."""
    took: list[str] = []
    with Shell(folder, env) as shell:
        for step in steps(tutorial.read_text()):
            if isinstance(step, Save):
                path = folder / step.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.text)
                continue
            began = time.monotonic()
            code, lines = shell.answer(step.command)
            print(step.command, *lines, sep="\n")  # pytest shows it where it fails
            took.append(f"{time.monotonic() - began:6.1f} s  {step.command}")
            where = f"{tutorial.name}:{step.line}: $ {step.command}"
            assert code == 0, f"{where} ended with {code}:\n" + "\n".join(lines)
            rest = iter([plain(line) for line in lines])
            for shown in step.shown:
                wanted = plain(shown)
                assert wanted in ("", "...") or wanted in rest, (
                    f"{where} does not show\n  {shown}\nbut\n" + "\n".join(lines)
                )
    return took


__all__ = ["Save", "Shell", "Type", "follow", "plain", "steps"]
