"""What every command that talks to a cluster shares: its options, and the connection with the caller's own
rights."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import update_wrapper
from typing import Any

import click

from canaryd.adapters.kube.canaryrollout_object import API_VERSION, PLURAL
from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import Json, KubernetesApi, path_to
from canaryd.adapters.kube.service_notes import KubeServices, ServiceNote
from canaryd.cli.group import Failure
from canaryd.domain.formatting import lasting
from canaryd.domain.ports import Missing, Rejected
from canaryd.domain.rollout import ActionRequest, Record
from canaryd.routing.route_lists import LEFT

LONGEST_NAME = 253  # of who asks, by the CustomResourceDefinition
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"  # of a list


@dataclass(frozen=True)
class StartRequest:
    """A rollout that someone asked for with `start` and that has not begun. since: Unix seconds; refused: why
    it never will, or ""."""

    namespace: str
    service: str
    version: str
    name: str
    since: float
    refused: str
    resource_version: str


@dataclass(frozen=True)
class Cluster:
    """The records and the services' notes in one cluster. namespace: where to look; None: everywhere."""

    api: KubernetesApi
    rollouts: KubeRollouts
    services: KubeServices
    namespace: str | None

    def records(self) -> Sequence[Record]:
        return [
            record
            for record in self.rollouts.list()
            if self.namespace is None or self.namespace in dict(record.rollout.keys)
        ]

    def notes(self) -> Sequence[ServiceNote]:
        return self.services.notes(self.namespace)

    def find(self, name: str) -> Record:
        """The rollout of that name, or the service's: the one under way, else its latest; of a bracket, by
        the name of any of its services. Raises Failure, naming what is there."""
        records = self.records()
        named = [record for record in records if name == record.rollout.name]
        found = named or [record for record in records if name in record.rollout.service_names]
        places = sorted(
            {record.rollout.namespace for record in named}
            or {
                place
                for record in found
                for place, service in record.rollout.keys
                if service == name and self.namespace in (None, place)
            }
        )
        where = f"in namespace {self.namespace}" if self.namespace else "in any namespace"
        if not found:
            self._never_began(name)
            there = ", ".join(sorted({"/".join(key) for record in records for key in record.rollout.keys}))
            known = f"; there are rollouts of {there}" if there else ", and none of anything else"
            raise Failure(f"there is no rollout {name}, and none of a service {name}, {where}{known}")
        if len(places) > 1:
            raise Failure(
                f"{name} is in several namespaces ({', '.join(places)}): say which with --namespace"
            )
        return max(found, key=lambda record: (not record.rollout.phase.ended, record.rollout.began))

    def start_requests(self) -> list[StartRequest]:
        """What was asked for and has not begun, with what was refused; oldest first."""
        begun = {(record.rollout.namespace, record.rollout.name) for record in self.rollouts.list()}
        # A record is tens of kilobytes, and has been read: only what is none is fetched.
        listed = self.api.request("GET", path_to(API_VERSION, PLURAL), accept=NAMES_ONLY).get("items") or []
        names = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in listed} - begun
        found = []
        for namespace, name in names:
            if self.namespace in (None, namespace):
                with suppress(Missing):
                    found.append(_asked(self.rollouts.get(namespace, name)))
        return sorted(
            (request for request in found if request is not None),
            key=lambda request: (request.since, request.name),
        )

    def withdraw(self, asked: StartRequest) -> None:
        """Deletes the request. Raises Conflict when it has begun, or was refused, meanwhile."""
        path = path_to(API_VERSION, PLURAL, asked.namespace, asked.name)
        self.api.request("DELETE", path, {"preconditions": {"resourceVersion": asked.resource_version}})

    def request(self, reason: str) -> ActionRequest:
        """Who asks for something, now, and why. The name is the one by which the API server knows the caller;
        of a server that does not say it, that of the login."""
        try:
            who = self.api.user()
        except Rejected:
            who = ""
        who = who or os.environ.get("USER", "")
        return ActionRequest(who[:LONGEST_NAME], time.time(), reason)

    def _never_began(self, name: str) -> None:
        """Raises Failure for what was asked for by `start`, or waits, and has no record."""
        for request in self.start_requests():
            if name == request.name or (name == request.service and not request.refused):
                raise Failure(
                    f"{request.namespace}/{request.name} was asked for and refused: {request.refused}"
                    if request.refused
                    else f"{request.namespace}/{request.name} is asked for and has not begun: does the "
                    "daemon run, and is the service paused?"
                )
        if why := self.waiting(lambda note: note.service == name, time.time()):
            raise Failure(f"no rollout of {name} has begun yet: {'; '.join(why)}")

    def waiting(self, is_meant: Callable[[ServiceNote], bool], now: float) -> list[str]:
        """Why nothing begins of these services; nothing where the notes cannot be read, since something else
        was asked for."""
        try:
            return waiting([note for note in self.notes() if is_meant(note)], now)
        except Rejected:
            return []


def waiting(notes: Iterable[ServiceNote], now: float) -> list[str]:
    """Why nothing begins, or not yet: a line for each reason, which several services may share."""
    found: dict[str, list[str]] = {}
    for note in notes:
        waits = note.gathering
        reasons = (
            [f"{waits.says}, for {lasting(max(0.0, now - waits.since))} now"]
            if waits is not None and waits.says
            else []
        )
        stuck = "" if note.problem.startswith(LEFT) else "no rollout can begin: "
        for reason in [f"{stuck}{note.problem}"] * bool(note.problem) + reasons:
            found.setdefault(reason, []).append(f"{note.namespace}/{note.service}")
    return [f"{', '.join(services)}: {reason}" for reason, services in found.items()]


def _asked(obj: Json) -> StartRequest | None:
    """The request that an object is; None for a record."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    refused = str(status.get("refused") or "")
    if (status and not refused) or not (spec.get("service") and spec.get("version")):
        return None
    since = datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()
    return StartRequest(
        metadata["namespace"],
        spec["service"],
        spec["version"],
        metadata["name"],
        since,
        refused,
        metadata["resourceVersion"],
    )


def connect(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """Raises Rejected when there is no usable kubeconfig. The server is not asked yet."""
    api = KubernetesApi(kubeconfig, context)
    return Cluster(api, KubeRollouts(api, _left_out), KubeServices(api), namespace)


def _left_out(name: str, why: str) -> None:
    click.echo(f"canaryd: the record {name} cannot be understood and is left out: {why}", err=True)


def cluster_options(function: Callable[..., None]) -> Callable[..., None]:
    """--namespace, --kubeconfig and --context, given to the command as one argument `cluster`."""

    def command(
        *args: Any, kubeconfig: str | None, context: str | None, namespace: str | None, **rest: Any
    ) -> None:
        function(*args, cluster=connect(kubeconfig, context, namespace), **rest)

    update_wrapper(command, function)  # with the options that click has noted on it
    return connection_options(command)


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options alone, for commands that need a cluster only at times; `connect` takes them."""
    return click.option("-n", "--namespace", help="Look in this namespace only. Default: all.")(
        server_options(command)
    )


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """--kubeconfig and --context, which say which API server, as whom."""
    for option in (
        click.option("--context", help="One of the kubeconfig's, other than its current one."),
        click.option(
            "--kubeconfig",
            type=click.Path(dir_okay=False),
            help="Default: $KUBECONFIG, ~/.kube/config, the pod's account.",
        ),
    ):
        command = option(command)
    return command
