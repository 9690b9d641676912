"""A stand: the sandbox's world, a webhook receiver, and `canaryd run` as a process of its own between them.

Tests look at the world (the VirtualService, the tally) and at what canaryd tells (its records, its log, its
pages), never inside.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from canaryd_sandbox.kubernetes.resources import RESOURCES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Behaviour
from canaryd_sandbox.receiver import Receiver
from canaryd_sandbox.world import HOST, World
from tests.real.daemon import WEBHOOK_SECRET, Canaryd, free_port

ROLLOUTS = next(one for one in RESOURCES if one.plural == "canaryrollouts")
LONG = 120.0  # s for what takes ten on an idle machine
LOOK = 0.1  # s between two looks of a waiting test

T = TypeVar("T")


def eventually(what: str, probe: Callable[[], T], seconds: float = LONG) -> T:
    """The first true answer; AssertionError naming what was waited for, and the last answer."""
    until = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}; last: {answer!r}"
        time.sleep(LOOK)


def a_policy(
    stages: tuple[int | Mapping[str, Any], ...] = (20, 100),
    *,
    deadline: str = "6s",
    name: str = "front-end",
    namespace: str = "production",
    **more: Any,
) -> dict[str, Any]:
    """Seconds where a service has minutes. A stage that has not passed is let pass at its deadline; harm is
    what it is by default.

    stages: weights, or whole stages. more: top-level keys, instead of these; keys of `analysis` are added to
    these.
    """
    analysis = {
        "interval": "1s",
        "warmup": "0s",
        "minimumRequests": 10,
        "metrics": [{"errors": {}}],
        **more.pop("analysis", {}),
    }
    whole = [
        {"weight": stage, "minimum": "3s", "deadline": deadline} if isinstance(stage, int) else stage
        for stage in stages
    ]
    return {
        "version": 1,
        "service": {"name": name, "namespace": namespace, "selector": {"app": name}},
        "route": {"virtualService": "sockshop"},
        "stages": whole,
        "analysis": analysis,
        **more,
    }


class Stand:
    """See the module. policy: of front-end, as policies/front-end.yaml."""

    def __init__(
        self,
        folder: Path,
        world: World,
        receiver: Receiver,
        policy: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> None:
        self.world, self.receiver = world, receiver
        config = {
            "prometheus": {"url": world.prometheus_url, "scrapeInterval": "1s", "timeout": "2s"},
            "kubernetes": {"timeout": "2s", "settle": "1s"},
            "http": {"port": free_port()},
            "beat": "1s",
            "log": {"format": "json", "level": "debug"},
            "notifiers": {
                "audit": {
                    "webhook": {"url": f"{receiver.url}/audit", "secret": WEBHOOK_SECRET, "timeout": "2s"}
                }
            },
            **more,
        }
        self.canaryd = Canaryd(folder, world.kubeconfig, config=config, policies={"front-end": policy})

    # ------------------------------------------------------------ what canaryd tells

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of /livez, /readyz or /metrics; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(self.canaryd.url + path, timeout=5) as reply:
                return int(reply.status), reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def failures(self) -> float:
        """Looks so far for which Prometheus gave nothing."""
        return self.metric("canaryd_query_failures_total", backend="prometheus", kind="unavailable")

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the series with these labels, 0 without any."""
        found = 0.0
        for line in self.page("/metrics")[1].splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                found += float(line.rsplit(" ", 1)[1])
        return found

    def records(self) -> list[dict[str, Any]]:
        return self.world.store.list(ROLLOUTS)

    def status(self, version: str, attempt: int = 1, namespace: str = "production") -> dict[str, Any]:
        """The status of a version's rollout, {} while there is none."""
        for record in self.records():
            status: dict[str, Any] = record.get("status") or {}
            if (status.get("canary"), status.get("attempt", 1), record["metadata"]["namespace"]) == (
                version,
                attempt,
                namespace,
            ):
                return {**status, "uid": record["metadata"]["uid"], "name": record["metadata"]["name"]}
        return {}

    def until(
        self, version: str, what: str, seconds: float = LONG, attempt: int = 1, **wanted: Any
    ) -> dict[str, Any]:
        """The rollout's status as soon as it has these values."""

        def probe() -> dict[str, Any]:
            status = self.status(version, attempt)
            return status if status and all(status.get(key) == value for key, value in wanted.items()) else {}

        try:
            return eventually(what, probe, seconds)
        except AssertionError as error:
            now = {
                key: self.status(version, attempt).get(key)
                for key in ("phase", "held", "stage", "weight", "reason")
            }
            raise AssertionError(
                f"{error}; wanted {wanted}, is {now}; log: {self.canaryd.log[-3000:]}"
            ) from None

    def until_looked(self, version: str, looks: int = 2) -> dict[str, Any]:
        """The rollout's status after so many further looks."""
        before = self.status(version).get("countedTo") or 0

        def probe() -> dict[str, Any]:
            status = self.status(version)
            return status if (status.get("countedTo") or 0) >= before + looks else {}

        return eventually(f"{looks} looks more of {version}", probe)

    def explained(self, name: str) -> Any:
        return json.loads(self.canaryd.cli("explain", name, "-o", "json"))

    def told(self, event: str, version: str) -> list[str]:
        """The ids of what the receiver was sent, each as often as it came."""
        return [
            d.headers["webhook-id"]
            for d in self.receiver.deliveries
            if d.json["data"]["event"] == event and d.json["data"]["versions"]["canary"] == version
        ]

    # ------------------------------------------------------------ what people and clusters do

    def deploy(self, version: str, errors: float = 0.0, replicas: int = 2) -> None:
        """Someone applies a Deployment. Without errors nothing can look like harm by chance."""
        self.world.deploy(version, replicas=replicas, errors=errors)

    def decorate(self) -> dict[str, Any]:
        """Gives the VirtualService what a real one has besides the default route; its spec."""
        spec = self.world.virtualservice()["spec"]
        cart = {
            "name": "carts",
            "match": [{"uri": {"prefix": "/carts"}}],
            "timeout": "3s",
            "route": [
                {
                    "destination": {"host": "carts"},
                    "weight": 100,
                    "headers": {"request": {"set": {"x-a": "b"}}},
                }
            ],
        }
        default = {**spec["http"][0], "timeout": "7s", "retries": {"attempts": 2, "retryOn": "5xx"}}
        return self.edit(lambda http: [cart, default])

    def edit(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> dict[str, Any]:
        """Someone edits spec.http by hand; the new spec."""
        with self.world.store.lock:
            found = deepcopy(self.world.virtualservice())
            found["spec"]["http"] = change(found["spec"]["http"])
            self.world.store.replace(VIRTUALSERVICES, "production", "sockshop", found)
        spec: dict[str, Any] = self.world.virtualservice()["spec"]
        return spec

    def others(self) -> dict[str, Any]:
        """The VirtualService's spec without the `route` list of its steered route."""
        spec = deepcopy(self.world.virtualservice()["spec"])
        for route in spec["http"]:
            if route.get("name") != "carts":
                del route["route"]
        return dict(spec)

    def weight(self, version: str) -> float:
        return self.world.weights().get(version, 0.0)

    def default_route(self) -> Any:
        return next(
            one["route"] for one in self.world.virtualservice()["spec"]["http"] if one.get("name") != "carts"
        )

    def begin(self) -> Stand:
        """Starts the daemon, and waits until it has seen the service: what comes from now on is new."""
        self.canaryd.start()
        self.canaryd.wait_for("service.first_seen", LONG)
        return self


@contextmanager
def a_stand(
    folder: Path, policy: Mapping[str, Any], *, rate: float = 100.0, replicas: int = 2, **settings: Any
) -> Iterator[Stand]:
    """A stand whose daemon has not been started."""
    with (
        World(rate=rate, replicas=replicas, folder=folder, stable=Behaviour(errors=0.0)) as world,
        Receiver() as receiver,
    ):
        stand = Stand(folder, world, receiver, policy, settings)
        try:
            yield stand
        finally:
            world.kubernetes.faults.clear()
            world.prometheus.faults.clear()
            stand.canaryd.close()


def all_to(version: str) -> list[dict[str, Any]]:
    """The route list that a person would have written."""
    return [{"destination": {"host": HOST, "subset": version}}]


def served(stand: Stand, version: str) -> int:
    return sum(one.requests for one in stand.world.tally().values() if one.version == version)


def share_of(stand: Stand, version: str, requests: int = 1000) -> float:
    """A version's share of the next requests, copies included."""
    before = {one: served(stand, one) for one in ("v1", version)}
    eventually(
        "requests enough", lambda: sum(served(stand, one) - was for one, was in before.items()) >= requests
    )
    grown = {one: served(stand, one) - was for one, was in before.items()}
    return grown[version] / sum(grown.values())
