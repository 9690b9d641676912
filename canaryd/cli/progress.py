"""How far a long reading has come, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(
    total_looks: int, what: str, doing: str = "reading", done: str = "read"
) -> Iterator[Callable[[int], None]]:
    """Tells on stderr how many looks have been read: a bar on a terminal, a line for each quarter where it is
    piped."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(f"{doing} {what}", total=total_looks)
            yield lambda looks: bar.advance(task, looks)
        return
    so_far = 0

    def told(looks: int) -> None:
        nonlocal so_far
        before, so_far = so_far, so_far + looks
        if 4 * before // total_looks != 4 * so_far // total_looks and so_far <= total_looks:
            click.echo(f"{done} {so_far} of {total_looks} looks", err=True)

    click.echo(f"{doing} {total_looks} looks of {what}", err=True)
    yield told
