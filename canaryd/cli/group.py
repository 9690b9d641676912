"""A group of commands that imports a command when it is run, and turns what is expected to go wrong into one
readable line."""

import errno
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

# Of a write to a file that click does not name, and so of the output: everything else that canaryd opens has
# a name.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Heading -> command -> (module that has it under its own name, what the list of commands says)."""


class Failure(click.ClickException):
    """What ends a command: one or more lines on stderr, and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance, and declares it for the class

    def show(self, file: Any = None) -> None:
        click.echo(f"canaryd: {self.message}", err=True)


def examples(*lines: str) -> str:
    """The epilog of a command: its examples, one a line."""
    return "\b\nExample" + ("s" if len(lines) > 1 else "") + ":\n" + "\n".join(f"  {line}" for line in lines)


class LazyGroup(click.Group):
    def __init__(self, name: str, commands: Sections, help: str, epilog: str) -> None:
        super().__init__(
            name,
            help=help,
            epilog=epilog,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        )
        self._sections = commands
        self._modules = {
            command: module for section in commands.values() for command, (module, _) in section.items()
        }
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_version,
                help="Print the version.",
            )
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        command = getattr(import_module(self._modules[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self._modules)
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), says) for name, (_, says) in commands.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with said_readably():  # --help and --version are answered here
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with said_readably():
            return super().invoke(ctx)


@contextmanager
def said_readably() -> Iterator[None]:
    """Raises a `Failure` for what is expected to go wrong within."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        known = readable(error)
        if known is None:
            raise  # a fault of canaryd's own: whoever mends it needs the traceback
        raise known from error


def readable(error: Exception) -> Failure | None:
    """The expected kinds of failure as a `Failure`; None for any other."""
    from canaryd.domain.policy.validation import InvalidPolicy
    from canaryd.domain.ports import Rejected, Unavailable

    if isinstance(error, Unavailable):
        return Failure(str(error), exit_code=3)
    if isinstance(error, Rejected):
        return Failure(str(error))
    if isinstance(error, InvalidPolicy):
        return Failure("\n".join(str(problem) for problem in error.problems))
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Failure(f"the output cannot be written: {error.strerror}")
    return None


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from canaryd.version import version

        click.echo(f"canaryd {version()}, Python {sys.version.split()[0]}")
        ctx.exit()
