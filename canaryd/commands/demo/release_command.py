"""`canaryd demo release`: the next version, applied to a world that `canaryd demo --keep` keeps up."""

import re

import click

from canaryd.adapters.kube.client import KubernetesApi, path_to
from canaryd.cli.cluster import server_options
from canaryd.cli.group import Failure, examples
from canaryd_sandbox.scenarios import BY_HAND, release_by_hand
from canaryd_sandbox.world import NAMESPACE, SERVICE

SIMULATED = "-sandbox"  # the end of the simulated API server's version


@click.command(
    epilog=examples("canaryd demo release good", "canaryd demo release bad && canaryd status --watch")
)
@click.argument("kind", type=click.Choice(list(BY_HAND)), metavar="good|bad")
@server_options
def release(kind: str, kubeconfig: str | None, context: str | None) -> None:
    """Apply the next version in the world of a `canaryd demo --keep`, as `kubectl apply` would.

    The export of KUBECONFIG that the demo prints says which world. Any other cluster is refused.
    """
    api = KubernetesApi(kubeconfig, context)
    if not api.version().endswith(SIMULATED):
        raise Failure(
            f"{api.server} is not the world of a demo: run canaryd demo --keep, and the export of KUBECONFIG "
            "that it prints"
        )
    deployments = path_to("apps/v1", "deployments", NAMESPACE)
    names = [item["metadata"]["name"] for item in api.request("GET", deployments)["items"]]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(rf"{SERVICE}-v(\d+)", name))]
    made = release_by_hand(kind, f"v{max(numbers, default=0) + 1}")
    api.request("POST", deployments, made)
    click.echo(f"applied: {made['metadata']['name']}, a {kind} version; canaryd status --watch follows it")
