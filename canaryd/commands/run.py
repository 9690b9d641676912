"""`canaryd run`: the daemon itself, with its settings. Imports no terminal library: the daemon's memory is
counted."""

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from canaryd.cli.group import Failure

EXAMPLE = """
\b
Examples:
  canaryd run --config config/canaryd.yaml --policies policies/
  canaryd run --config config/canaryd.yaml --policies policies/ --context staging --prometheus http://127.0.0.1:9090
"""


@click.command(epilog=EXAMPLE)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="config/canaryd.yaml",
    show_default=True,
    help="The daemon's settings. With --prometheus the default file need not be there.",
)
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    help="Directory of policy files, read again when they change. Default: the settings' `policies`.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    help="Default: $KUBECONFIG, ~/.kube/config, the pod's own account.",
)
@click.option("--context", help="One of the kubeconfig's, other than its current one.")
@click.option("--prometheus", metavar="URL", help="Instead of the settings' prometheus.url.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    help="Instead of the settings'. auto: console on a terminal, else JSON.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of the settings'."
)
def run(
    config: Path,
    policies: Path | None,
    kubeconfig: str | None,
    context: str | None,
    prometheus: str | None,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT; it finishes the look it is in.

    It starts also when Prometheus or the API server is away, waits for them, and logs that it does. A policy
    with a mistake is reported in the log; the others take effect.
    """
    from canaryd.app import build
    from canaryd.settings import load_settings

    # The default file may be missing; a file that was asked for may not.
    if (
        click.get_current_context().get_parameter_source("config") is not ParameterSource.DEFAULT
        and not config.exists()
    ):
        raise Failure(f"{config}: cannot be read: No such file or directory")
    settings = load_settings(config, prometheus, kubeconfig)
    kubernetes = settings.kubernetes.model_copy(update={"context": context} if context else {})
    log = settings.log.model_copy(
        update={key: value for key, value in (("format", log_format), ("level", log_level)) if value}
    )
    daemon = build(
        settings.model_copy(update={"kubernetes": kubernetes, "log": log}),
        policies or Path(settings.policies),
    )
    sys.exit(daemon.run())
