"""What every command that talks to a cluster shares: its options, and the connection with the caller's own rights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import click

from canaryd.adapters.kube.client import Api
from canaryd.adapters.kube.rollouts import KubeRollouts
from canaryd.adapters.kube.services import KubeServices, ServiceNote
from canaryd.cli.lazy import Failure
from canaryd.domain.ports import Missing, Request
from canaryd.domain.rollout import Record


@dataclass(frozen=True)
class Cluster:
    """The records and the services' notes in one cluster. namespace: where to look; None: everywhere."""

    api: Api
    rollouts: KubeRollouts
    services: KubeServices
    namespace: str | None

    def records(self) -> Sequence[Record]:
        return [record for record in self.rollouts.list() if self.namespace in (None, record.rollout.namespace)]

    def notes(self) -> Sequence[ServiceNote]:
        return self.services.notes(self.namespace)

    def find(self, name: str) -> Record:
        """The rollout of that name, or the service's: the one under way, else its latest. Raises Failure, naming what is there."""
        records = self.records()
        found = [one for one in records if name == one.rollout.name] or [one for one in records if name == one.rollout.service]
        places = sorted({one.rollout.namespace for one in found})
        where = f"in namespace {self.namespace}" if self.namespace else "in any namespace"
        if not found:
            self._never_began(name)
            there = ", ".join(sorted({f"{one.rollout.namespace}/{one.rollout.service}" for one in records}))
            known = f"; there are rollouts of {there}" if there else ", and none of anything else"
            raise Failure(f"there is no rollout {name}, and none of a service {name}, {where}{known}")
        if len(places) > 1:
            raise Failure(f"{name} is in several namespaces ({', '.join(places)}): say which with --namespace")
        return max(found, key=lambda one: (not one.rollout.phase.ended, one.rollout.began))

    def requests(self) -> list[Request]:
        """What was asked for and has not begun, as of the last `records`."""
        return [one for one in self.rollouts.requests() if self.namespace in (None, one.namespace)]

    def _never_began(self, name: str) -> None:
        """Raises Failure for what was asked for by `start` and has no record."""
        for request in self.requests():
            if name in (request.name, request.service):
                asked = f"{request.namespace}/{request.name} is asked for and has not begun"
                raise Failure(f"{asked}: does the daemon run, and is the service paused?")
        for namespace in {self.namespace} if self.namespace else {one.namespace for one in self.notes()}:
            try:
                status = self.rollouts.get(namespace, name).get("status") or {}
            except Missing:
                continue
            if status.get("refused"):
                raise Failure(f"{namespace}/{name} was asked for and refused: {status['refused']}")


def connect(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """Raises Rejected when there is no usable kubeconfig. The server is not asked yet."""
    api = Api(kubeconfig, context)
    return Cluster(api, KubeRollouts(api, _left_out), KubeServices(api), namespace)


def _left_out(name: str, why: str) -> None:
    click.echo(f"canaryd: the record {name} cannot be understood and is left out: {why}", err=True)


def cluster_options(function: Callable[..., None]) -> Callable[..., None]:
    """--namespace, --kubeconfig and --context, given to the command as one argument `cluster`."""

    def command(*args: Any, kubeconfig: str | None, context: str | None, namespace: str | None, **rest: Any) -> None:
        function(*args, cluster=connect(kubeconfig, context, namespace), **rest)

    update_wrapper(command, function)  # with the options that click has noted on it
    for option in (
        click.option("--context", help="One of the kubeconfig's, other than its current one."),
        click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Default: $KUBECONFIG, ~/.kube/config, the pod's account."),
        click.option("-n", "--namespace", help="Look in this namespace only. Default: all."),
    ):
        command = option(command)
    return command
