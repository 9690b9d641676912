"""`canaryd completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from canaryd.cli.group import examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "source <(canaryd completion bash)          # in ~/.bashrc",
        "source <(canaryd completion zsh)           # in ~/.zshrc, after compinit",
        "canaryd completion fish > ~/.config/fish/completions/canaryd.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes canaryd's commands and options.

    The script asks canaryd at each completion, so it stays right over upgrades. bash has to be 4.4 or newer.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "canaryd", "_CANARYD_COMPLETE").source())
