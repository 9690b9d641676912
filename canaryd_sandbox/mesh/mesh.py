"""A service mesh without network: seeded requests by the VirtualService's weights, counted as Istio counts
them.

Requests arrive as a Poisson process, go where `routing.resolve` says at that moment, and are served by the
pods that are ready. Two counts are kept of each: Istio's counters, which a pod's restart resets and which
vanish with the pod; and the tally, which is the truth. Time is an argument: `advance(now)` serves everything
since the last one.
"""

import contextlib
import json
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from canaryd_sandbox.kubernetes.deployment_controller import HASH, is_ready
from canaryd_sandbox.kubernetes.resources import PODS, Object
from canaryd_sandbox.kubernetes.store import Store
from canaryd_sandbox.mesh.routing import EVERYONE, Audience, Share, Way, full_host, way
from canaryd_sandbox.mesh.users import Users

BEHAVIOUR = "canaryd.test/behaviour"  # annotation of pods: how their version answers, see `Behaviour.parse`

# The upper bounds in milliseconds of Istio's (Envoy's) latency histogram, and how they are written as `le`.
BOUNDS = (
    0.5,
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10000,
    30000,
    60000,
    300000,
    600000,
    1800000,
    3600000,
)
LE = (*(f"{bound:g}" if bound < 1e6 else str(int(bound)) for bound in BOUNDS), "+Inf")
_BOUNDS = np.array(BOUNDS, dtype=float)

INSIDE = {
    "source_workload": "orders",
    "source_workload_namespace": "production",
}  # whose sidecar calls from inside the mesh

Labels = tuple[tuple[str, str], ...]
"""The labels of a series with their values, sorted by name; the name of the metric is not among them."""
Sample = tuple[str, Labels, float]
"""Metric name, labels, value."""


@dataclass(frozen=True)
class Behaviour:
    """How one version answers.

    errors: share of requests that fail; burst: mean length of a run of failures (geometric; 1: independent);
    latency_ms and sigma: median and spread of lognormal latency; tail and tail_ms: share of requests that
    hang instead, and for how long; swing and swing_seconds: amplitude and period by which the share of
    failures swings (0.8: from 0.2 to 1.8 times); cpu: mean of `sandbox_cpu`; protocol: whether failures are
    HTTP (code) or gRPC (grpc_status, as Istio has it: its number); of tcp only connections are counted.
    """

    errors: float = 0.005
    burst: float = 1.0
    latency_ms: float = 20.0
    sigma: float = 0.5
    tail: float = 0.0
    tail_ms: float = 3000.0
    swing: float = 0.0
    swing_seconds: float = 3600.0
    cpu: float = 0.3
    protocol: Literal["http", "grpc", "tcp"] = "http"
    code: str = "503"
    grpc_status: str = "14"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("errors", 0, 1),
            ("burst", 1, math.inf),
            ("latency_ms", 0, math.inf),
            ("sigma", 0, math.inf),
            ("tail", 0, 1),
            ("tail_ms", 0, math.inf),
            ("swing", 0, 1),
            ("cpu", 0, math.inf),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"behaviour {name}: a number from {low} to {high} is wanted, but it is "
                    f"{getattr(self, name)!r}"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the JSON of a pod's annotation; unnamed fields at their default. Raises ValueError."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"behaviour {text}: {error}") from error

    def error_rate(self, now: float) -> float:
        return min(1.0, self.errors * (1 + self.swing * math.sin(2 * math.pi * now / self.swing_seconds)))


@dataclass
class Tally:
    """The truth about one pod, over all its restarts. slower: by bound in ms, how many requests took
    longer."""

    version: str
    requests: int = 0
    failures: int = 0
    slower: dict[float, int] = field(default_factory=lambda: dict.fromkeys(BOUNDS, 0))


class _Cell:
    """The series of one meter with one outcome: a request counter and a latency histogram, born with the
    first request."""

    def __init__(self, base: Mapping[str, str], outcome: Mapping[str, str]) -> None:
        self.buckets: NDArray[np.int64] = np.zeros(len(LE), dtype=np.int64)
        self.total_ms = 0.0
        labels = {**base, **outcome}
        self._labels: Labels = tuple(sorted(labels.items()))
        self._le: list[Labels] = [tuple(sorted({**labels, "le": le}.items())) for le in LE]

    def samples(self) -> Iterator[Sample]:
        cumulative = np.cumsum(self.buckets).tolist()
        yield "istio_requests_total", self._labels, float(cumulative[-1])
        for labels, count in zip(self._le, cumulative, strict=True):
            yield "istio_request_duration_milliseconds_bucket", labels, float(count)
        yield "istio_request_duration_milliseconds_sum", self._labels, self.total_ms
        yield "istio_request_duration_milliseconds_count", self._labels, float(cumulative[-1])


class _Meter:
    """Istio's counters at one place. Labels without a value are none, as in Prometheus."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self._cells: dict[tuple[str, str, str, str], _Cell] = {}
        self._connections = 0

    def count(
        self, buckets: NDArray[np.int64], total_ms: float, answers: Behaviour, failed: bool, flags: str = "-"
    ) -> None:
        protocol = answers.protocol
        if protocol == "tcp":
            self._connections += int(buckets.sum())
            return
        code, grpc = (answers.code, "") if failed else ("200", "")
        if protocol == "grpc":
            code, grpc = "200", answers.grpc_status if failed else "0"
        key = (protocol, code, grpc, flags)
        if key not in self._cells:
            outcome = {
                "request_protocol": protocol,
                "response_code": code,
                "grpc_response_status": grpc,
                "response_flags": flags,
            }
            self._cells[key] = _Cell(self.labels, {name: value for name, value in outcome.items() if value})
        cell = self._cells[key]
        cell.buckets += buckets
        cell.total_ms += total_ms

    def samples(self) -> Iterator[Sample]:
        for cell in self._cells.values():
            yield from cell.samples()
        if self._connections:
            labels = {**self.labels, "request_protocol": "tcp"}
            yield (
                "istio_tcp_connections_opened_total",
                tuple(sorted(labels.items())),
                float(self._connections),
            )

    def reset(self) -> None:
        self._connections = 0
        self._cells.clear()


@dataclass
class _Replica:
    """One pod in the mesh. It serves, or drains (`until`) and then goes or, if `returns`, begins anew."""

    version: str
    labels: Mapping[str, str]
    meter: _Meter  # of the gateway's requests
    inside: _Meter  # of those by sidecars
    draining: bool = False
    until: float = 0.0  # drained or dead until then
    returns: bool = False
    dead: bool = False  # in the routes, but nobody answers; nothing to scrape either

    @property
    def routed(self) -> bool:
        return not self.draining


class Mesh:
    """The requests to one service.

    rate: requests per second of all versions together, through the gateway; inside: more of them, by the
    sidecar of a workload `orders`; drain: seconds that a pod that goes in peace still shows its counters, so
    that they are scraped; seed: same seed and same times, same requests.
    """

    def __init__(
        self,
        store: Store,
        service: str = "front-end",
        namespace: str = "production",
        rate: float = 50.0,
        seed: int = 1,
        drain: float = 2.5,
    ) -> None:
        self.rate, self.service, self.namespace = rate, service, namespace
        self.inside = 0.0
        self.audiences: tuple[Audience, ...] = (
            EVERYONE,
        )  # who comes through the gateway, and how many of them
        self.users: Users | None = None  # who comes instead, with cookies
        self.copied = 0  # requests that were copies: a pod served them, and nobody saw the answers
        # no sidecars: a waypoint counts, and it alone; to be set before the first request
        self.ambient = False
        self.behaviours: dict[str, Behaviour] = {}
        self.unserved = 0  # requests that no pod answered: only the client saw them fail
        self.split_since: float | None = None  # when requests first went to two subsets
        self._store, self._drain = store, drain
        self._random = np.random.default_rng(seed)
        self._lock = threading.RLock()
        self._replicas: dict[str, _Replica] = {}
        self._tally: dict[str, Tally] = {}
        self._clients: dict[tuple[str, str], _Meter] = {}  # by workload, and the Service called
        self._failing: dict[str, int] = {}  # failures still to come of a version's present run
        self._now: float | None = None

    def advance(self, now: float) -> None:
        """Serves everything from the last call until now. The first call only sets the time."""
        with self._lock:
            elapsed = 0.0 if self._now is None else now - self._now
            self._now = now
            self._follow_pods(now)
            arrived = int(self._random.poisson(self.rate * elapsed)) if elapsed > 0 else 0
            if self.users is not None:
                self._serve_users(self.users, arrived, now)
                arrived = 0
            for audience, requests in self._drawn(arrived):
                self._split(self._way(audience, now), requests, now)
            if self.inside and elapsed > 0:
                called = int(self._random.poisson(self.inside * elapsed))
                self._split(
                    way(self._store, self.service, self.namespace, inside=True), called, now, inside=True
                )

    def _way(self, audience: Audience, now: float) -> Way:
        there = way(self._store, self.service, self.namespace, audience=audience)
        if self.split_since is None and sum(share.part > 0 for share in there.shares) > 1:
            self.split_since = now
        return there

    def _serve_users(self, users: Users, arrived: int, now: float) -> None:
        """A user whose way is drawn is drawn once, with the first request, and sends the cookie with the
        others."""
        for header, those, requests in users.arriving(arrived, self._random):
            there = self._way(Audience(headers={"cookie": header} if header else {}), now)
            if not any(share.cookie or share.part == 1 for share in there.shares):
                self._split(there, int(requests.sum()), now)
                continue
            drawn = self._random.choice(
                len(there.shares), len(those), p=[share.part for share in there.shares]
            )
            for place, share in enumerate(there.shares):
                if (mine := drawn == place).any():
                    self._send(share, int(requests[mine].sum()), now, inside=False)
                    users.served(those[mine], share)

    def _drawn(self, arrived: int) -> list[tuple[Audience, int]]:
        """How many of the requests each audience sends."""
        if len(self.audiences) == 1:
            return [(self.audiences[0], arrived)]
        parts = np.array([audience.part for audience in self.audiences])
        return list(
            zip(self.audiences, self._random.multinomial(arrived, parts / parts.sum()).tolist(), strict=True)
        )

    def _split(self, there: Way, arrived: int, now: float, inside: bool = False) -> None:
        if there.copies is not None and there.copies.labels is not None:
            copied = int(self._random.binomial(arrived, there.copies.part))
            self.copied += copied
            self._send(there.copies, copied, now, inside, copies=True)
        parts = np.array([share.part for share in there.shares])
        if parts.sum() <= 0:
            return
        for share, requests in zip(
            there.shares, self._random.multinomial(arrived, parts).tolist(), strict=True
        ):
            if requests:
                self._send(share, requests, now, inside)

    def samples(self) -> list[Sample]:
        """What a scrape of all pods and of the gateway gives now."""
        with self._lock:
            found: list[Sample] = []
            for name, replica in self._replicas.items():
                if replica.dead:
                    continue
                found += [] if self.ambient else [*replica.meter.samples(), *replica.inside.samples()]
                busy = self._behaviour(replica.version).cpu * float(self._random.lognormal(0.0, 0.05))
                found.append(
                    (
                        "sandbox_cpu",
                        (("namespace", self.namespace), ("pod", name), ("version", replica.version)),
                        busy,
                    )
                )
            for meter in self._clients.values():
                found += meter.samples()
            return found

    def tally(self) -> dict[str, Tally]:
        """The truth by pod, pods that are gone included."""
        with self._lock:
            return {
                name: Tally(t.version, t.requests, t.failures, dict(t.slower))
                for name, t in self._tally.items()
            }

    def replicas(self) -> dict[str, str]:
        """The version of each pod that gets requests now."""
        with self._lock:
            return {name: replica.version for name, replica in self._replicas.items() if replica.routed}

    def restart(self, pod: str, drained: bool = True) -> None:
        """A pod's counters begin again at zero; its name stays.

        drained: it leaves the routes first and everything served is scraped; otherwise it dies at once: half
        a second of failures that only the client sees, and what it served since the last scrape is lost to
        all but the tally.
        """
        with self._lock:
            replica = self._replicas.get(pod)
            if replica is None:
                raise ValueError(
                    f"pod {pod} is not in the mesh; there are {', '.join(sorted(self._replicas)) or 'none'}"
                )
            now = self._now or 0.0
            replica.returns = True
            if drained:
                replica.draining, replica.until = True, now + self._drain
            else:
                self._die(replica, now)

    def _die(self, replica: _Replica, now: float) -> None:
        replica.meter.reset()
        replica.inside.reset()
        replica.dead, replica.until = True, now + 0.5

    def _follow_pods(self, now: float) -> None:
        ready = {
            pod["metadata"]["name"]: pod for pod in self._store.list(PODS, self.namespace) if is_ready(pod)
        }
        for name, replica in list(self._replicas.items()):
            if name not in ready and not (replica.draining and not replica.returns):
                replica.draining, replica.returns, replica.until = True, False, now + self._drain
            if (replica.draining or replica.dead) and now >= replica.until:
                if not replica.returns:
                    del self._replicas[name]
                elif replica.dead:
                    replica.dead = replica.draining = replica.returns = False
                else:
                    self._die(replica, now)
        for name, pod in ready.items():
            if name not in self._replicas:
                self._replicas[name] = self._join(name, pod)

    def _join(self, name: str, pod: Object) -> _Replica:
        labels = pod["metadata"].get("labels") or {}
        version = labels.get("version", "none")
        if written := (pod["metadata"].get("annotations") or {}).get(BEHAVIOUR):
            with contextlib.suppress(ValueError):  # a typing mistake of somebody's must not stop the world
                self.behaviours[version] = Behaviour.parse(written)
        self._tally.setdefault(name, Tally(version))
        workload = (
            pod["metadata"]
            .get("ownerReferences", [{"name": name}])[0]["name"]
            .removesuffix(f"-{labels.get(HASH, '')}")
        )
        of_pod = {**self._destination(version, workload), "reporter": "destination", "pod": name}
        return _Replica(version, labels, _Meter(of_pod), _Meter({**of_pod, **INSIDE}))

    def _destination(self, version: str, workload: str) -> dict[str, str]:
        return {
            "job": "istio",
            "namespace": self.namespace,
            "source_workload": "istio-ingressgateway",
            "source_workload_namespace": "istio-system",
            "destination_workload": workload,
            "destination_workload_namespace": self.namespace,
            "destination_service": full_host(self.service, self.namespace),
            "destination_service_name": self.service,
            "destination_service_namespace": self.namespace,
            "destination_app": self.service,
            "destination_canonical_service": self.service,
            "destination_version": version,
            "destination_canonical_revision": version,
        }

    def _send(self, share: Share, requests: int, now: float, inside: bool, copies: bool = False) -> None:
        """Spreads one destination's requests over its pods and serves them. copies: no client waits for an
        answer, or counts one."""
        if share.labels is None:
            self._refuse(requests, "NC")
            return
        wanted = share.labels.items()
        pods = [(name, r) for name, r in self._replicas.items() if r.routed and wanted <= r.labels.items()]
        if not pods or not requests:
            if not copies:
                self._refuse(requests, "UH")
            return
        chosen = self._random.integers(0, len(pods), requests)
        for version in sorted({replica.version for _, replica in pods}):
            of_version = np.array([replica.version == version and not replica.dead for _, replica in pods])
            taken = chosen[of_version[chosen]]
            if len(taken):
                self._serve(version, [pods[i] for i in range(len(pods))], taken, now, inside, copies, share)
        dead = int(np.isin(chosen, [i for i, (_, replica) in enumerate(pods) if replica.dead]).sum())
        if dead and not copies:
            self._refuse(dead, "UF")

    def _serve(
        self,
        version: str,
        pods: list[tuple[str, _Replica]],
        chosen: NDArray[np.int64],
        now: float,
        inside: bool,
        copies: bool,
        share: Share,
    ) -> None:
        behaviour = self._behaviour(version)
        if share.harder != 1:
            behaviour = replace(behaviour, errors=min(1.0, share.harder * behaviour.errors))
        failed = self._failures(version, len(chosen), behaviour, now)
        latency = behaviour.latency_ms * np.exp(self._random.normal(0.0, behaviour.sigma, len(chosen)))
        if behaviour.tail:
            latency = np.where(self._random.random(len(chosen)) < behaviour.tail, behaviour.tail_ms, latency)
        places = np.searchsorted(_BOUNDS, latency, side="left")  # a bound holds what is at most as slow
        for index in np.unique(chosen).tolist():
            name, replica = pods[index]
            meter, client = (
                (replica.inside, None)
                if inside
                else (replica.meter, None if copies else self._client(replica, share.service))
            )
            for outcome in (False, True):
                mask = (chosen == index) & (failed == outcome)
                if not mask.any():
                    continue
                buckets = np.bincount(places[mask], minlength=len(LE)).astype(np.int64)
                total = float(latency[mask].sum())
                meter.count(buckets, total, behaviour, outcome)
                if client is not None:  # a sidecar's own count is not simulated
                    client.count(buckets, total, behaviour, outcome)
                self._note(self._tally[name], buckets, outcome)

    @staticmethod
    def _note(tally: Tally, buckets: NDArray[np.int64], failed: bool) -> None:
        count = int(buckets.sum())
        tally.requests += count
        tally.failures += count * failed
        faster = np.cumsum(buckets).tolist()
        for bound, at_most in zip(BOUNDS, faster, strict=False):
            tally.slower[bound] += count - at_most

    def _failures(self, version: str, requests: int, behaviour: Behaviour, now: float) -> NDArray[np.bool_]:
        """Which of a version's next requests fail: independently, or in runs that go on into the next
        tick."""
        rate = behaviour.error_rate(now)
        if behaviour.burst == 1 or rate in (0.0, 1.0):
            return self._random.random(requests) < rate
        failed = np.zeros(requests, dtype=np.bool_)
        # chance of a run's beginning that gives `rate` on the whole
        begins = rate / (rate + behaviour.burst * (1 - rate))
        at, left = 0, self._failing.get(version, 0)
        while at < requests:
            if not left:
                # a gap forgets how long it has lasted, so none is carried over
                at += int(self._random.geometric(begins)) - 1
                left = int(self._random.geometric(1 / behaviour.burst))
                if at >= requests:
                    left = 0
                    break
            end = min(at + left, requests)
            failed[at:end] = True
            at, left = end, left - (end - at)
        self._failing[version] = left
        return failed

    def _behaviour(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def _client(self, replica: _Replica, called: str) -> _Meter:
        """The gateway's own count of a workload's answers (reporter source), or the waypoint's: one for all
        its pods, and never reset."""
        return self._client_of(replica.version, replica.meter.labels["destination_workload"], called)

    def _client_of(self, version: str, workload: str, called: str = "") -> _Meter:
        key = workload, called or self.service
        if key not in self._clients:
            reporter, pod = (
                ("waypoint", "waypoint-7d9c6f5b8d")
                if self.ambient
                else ("source", "istio-ingressgateway-5c8f9c7d6b")
            )
            service = {
                "destination_service": full_host(key[1], self.namespace),
                "destination_service_name": key[1],
            }
            self._clients[key] = _Meter(
                {
                    **self._destination(version, workload),
                    **service,
                    "reporter": reporter,
                    "pod": f"{pod}-x2x4z",
                }
            )
        return self._clients[key]

    def _refuse(self, requests: int, flags: str) -> None:
        """Requests that reached no pod: the gateway answers 503 at once."""
        self.unserved += requests
        buckets = np.zeros(len(LE), dtype=np.int64)
        buckets[0] = requests
        self._client_of("unknown", "unknown").count(buckets, 0.0, Behaviour(), True, flags)
