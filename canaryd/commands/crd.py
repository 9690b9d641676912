"""`canaryd crd`: the CustomResourceDefinition, for clusters where canaryd is not installed by Helm."""

import click

from canaryd.adapters.kube.crd_manifest import crd_manifest
from canaryd.cli.group import examples


@click.command(epilog=examples("canaryd crd | kubectl apply -f -"))
def crd() -> None:
    """Print the CustomResourceDefinition of CanaryRollout, in which canaryd keeps its records.

    The Helm chart installs it by itself. Helm never updates it: apply it again after an upgrade of canaryd.
    """
    click.echo(crd_manifest(), nl=False)
