"""How a tutorial is followed (tests/real/walkthrough.py), on tutorials of a few lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.walkthrough import Save, Type, follow, plain, steps
from tests.real.world import eventually

TUTORIAL = """\
Save this:

```yaml
# policies/one.yaml
service: {name: one}
```

```console
$ export WHO=you
$ cat policies/one.yaml
# policies/one.yaml
service: {name: one}
$ echo hello $WHO; \\
  echo 12 requests
hello you
9 requests
```

```yaml
not: {to: save}
```
"""


def followed(folder: Path, markdown: str) -> list[str]:
    tutorial = folder / "tutorial.md"
    tutorial.write_text(markdown)
    return follow(tutorial, folder, os.environ)


def console(*lines: str) -> str:
    return "\n".join(["# A title", "```console", *lines, "```", ""])


def test_files_are_saved_and_commands_typed_in_one_shell(tmp_path: Path) -> None:
    took = followed(tmp_path, TUTORIAL)
    assert (tmp_path / "policies" / "one.yaml").read_text() == "# policies/one.yaml\nservice: {name: one}\n"
    commands = ["export WHO=you", "cat policies/one.yaml", "echo hello $WHO; \\\n  echo 12 requests"]
    assert [line.split(" s  ")[1] for line in took] == commands


def test_steps_know_their_lines_and_what_is_shown() -> None:
    save, export, cat, echo = steps(TUTORIAL)
    assert save == Save(4, "policies/one.yaml", "# policies/one.yaml\nservice: {name: one}\n")
    typed = [step for step in (export, cat, echo) if isinstance(step, Type)]
    assert [step.shown for step in typed] == [
        (),
        ("# policies/one.yaml", "service: {name: one}"),
        ("hello you", "9 requests"),
    ]
    for step in typed:
        assert TUTORIAL.splitlines()[step.line - 1] == "$ " + step.command.splitlines()[0]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["$ echo hello", "goodbye"], "tutorial.md:3: $ echo hello does not show\n  goodbye"),
        (["$ printf 'b\\na\\n'", "a", "b"], "does not show\n  b"),  # in another order
        (["$ true", "$ echo gone; false"], "tutorial.md:4: $ echo gone; false ended with 1:\ngone"),
        (["$ echo to the error stream >&2; exit 3"], "the shell ended"),
        (["hello", "$ echo hello"], "line 3 of the tutorial shows an answer to no command: hello"),
    ],
)
def test_a_tutorial_that_is_wrong_fails_with_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(AssertionError) as error:
        followed(tmp_path, console(*lines))
    assert says in str(error.value)


def test_lines_may_be_left_out_and_both_streams_are_read(tmp_path: Path) -> None:
    followed(tmp_path, console("$ seq -f 'line %g' 9; echo end >&2", "line 1", "...", "end"))


def test_what_is_started_in_the_background_ends_with_the_tutorial(tmp_path: Path) -> None:
    followed(tmp_path, console("$ sleep 60 > log 2>&1 &", "$ echo $! > pid"))
    command = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/cmdline")
    # One that has ended and is not yet reaped has no command line.
    eventually("it has ended", lambda: not command.exists() or not command.read_text(), seconds=5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("front-end-v2-78a05bb520  12s  odds 221 to 1", "front-end-v2-1c9e01ab3f 9s odds 1.6 to 1"),
        ("front-end-v1-mxdk6f4qk4-65rtb   1,021", "front-end-v1-qqxkz6tkkf-6z4st 87"),
        ("  production/front-end   10%", "production/front-end 25%"),
    ],
)
def test_numbers_ids_and_widths_are_not_compared(one: str, other: str) -> None:
    assert plain(one) == plain(other)


def test_words_are() -> None:
    assert plain("rolled back at 100") != plain("promoted at 100")
