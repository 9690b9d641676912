"""reference/cli.md, from click: what `canaryd COMMAND --help` prints."""

import inspect

import click

from canaryd.cli import COMMANDS, main
from docs_generator.markdown import code, page, plain, table

EXIT_CODES = (
    ("0", "done"),
    ("1", "refused or failed; `check`: problems were found"),
    ("2", "wrong usage"),
    ("3", "the API server, or another server, did not answer"),
    ("4", "`deploy`: only shown, since neither a person nor `--yes` said that it be done"),
)


def command(name: str) -> click.Command:
    """The command of this name, as `demo` or `demo release`. Raises KeyError where there is none."""
    return context_of(name).command


def context_of(name: str) -> click.Context:
    """The context in which click shows a command's help. Raises KeyError where there is no such command."""
    context = click.Context(main, info_name="canaryd", **main.context_settings)
    for word in name.split():
        group = context.command
        found = group.get_command(context, word) if isinstance(group, click.Group) else None
        if found is None:
            raise KeyError(name)
        context = click.Context(found, parent=context, info_name=word)
    return context


def cli_page() -> str:
    """The page, in Markdown."""
    blocks = [
        "`canaryd --help` lists the commands, and `canaryd COMMAND --help` prints what is here. Every verb "
        "uses the caller's own "
        "kubeconfig (`KUBECONFIG`, `--kubeconfig`, or inside a cluster the pod's own account), so RBAC "
        "decides who may do what.",
        table(("exit code", "meaning"), EXIT_CODES),
    ]
    for section, commands in COMMANDS.items():
        blocks.append(f"## {section}")
        for name in commands:
            blocks += _command(name)
    return page("The command line", *blocks)


def _command(name: str) -> list[str]:
    found = command(name)
    context = context_of(name)
    text = inspect.cleandoc(found.help or "").replace("\b\n", "")
    usage = " ".join(found.get_usage(context).removeprefix("Usage: ").split())
    blocks = [
        f"### {name}",
        f"    {usage}",
        "\n\n".join(plain(" ".join(part.split())) for part in text.split("\n\n")),
    ]
    options = [
        (code(", ".join(names)), plain(says))
        for parameter in found.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.hidden
        for names, says in [_option(parameter, context)]
    ]
    blocks.append(table(("option", "meaning"), options))
    if found.epilog:
        lines = [line for line in found.epilog.replace("\b\n", "").splitlines() if line.startswith(" ")]
        blocks.append("```sh\n" + "\n".join(line.strip() for line in lines) + "\n```")
    for below in found.list_commands(context) if isinstance(found, click.Group) else ():
        blocks += _command(f"{name} {below}")
    return blocks


def _option(option: click.Option, context: click.Context) -> tuple[list[str], str]:
    """Its names with what it takes, and its help with default and environment, as click shows them."""
    record = option.get_help_record(context)
    assert record is not None
    names, says = record
    return [names.replace("|", " | ") if "[" not in names else names], " ".join(says.split())
