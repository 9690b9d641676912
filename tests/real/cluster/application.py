"""Every replica's application in one process: the answers, their faults, and the tally of both.

The tally is the truth that the telemetry must agree with; nothing here knows of Envoy, Kubernetes or
Prometheus.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

PARTS = {"tail": ("share", "ms"), "hang": ("every", "seconds")}  # of a behaviour: what is given together
HANG_MS = 3000.0  # before a hanging replica fails a request, as in simulated services
HANG_SHARE = 0.5  # of its requests


@dataclass(frozen=True)
class Behaviour:
    """How a version answers.

    errors: share answered with 503. burst: how many requests in a row a bad spell lasts on average (1:
    independent failures).
    latency_ms, sigma: median and log-standard-deviation of the time before an answer. tail_share, tail_ms:
    this share of the requests takes tail_ms on top. hang_every, hang_seconds: about so often (mean,
    exponential) each replica hangs for so long: half of its requests then fail, after HANG_MS.
    """

    errors: float = 0.0
    burst: float = 1.0
    latency_ms: float = 0.0
    sigma: float = 0.4
    tail_share: float = 0.0
    tail_ms: float = 0.0
    hang_every: float = 0.0
    hang_seconds: float = 0.0

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Behaviour:
        """From {"errors": 0.05, "burst": 4, "latency_ms": 20, "sigma": 0.5, "tail": {"share": 0.02, "ms":
        400}, "hang": {"every": 60, "seconds": 2}}, every key optional."""
        values = {key: value for key, value in given.items() if key not in PARTS}
        for part, keys in PARTS.items():
            inner = given.get(part, {})
            wanted = ", ".join(f'"{key}": ...' for key in keys)
            if not isinstance(inner, Mapping) or not inner.keys() <= set(keys):
                raise ValueError(f"{part}: wanted {{{wanted}}}, but got {inner!r}")
            values |= {f"{part}_{key}": value for key, value in inner.items()}
        if unknown := values.keys() - cls.__dataclass_fields__.keys():
            raise ValueError(
                f"unknown: {', '.join(sorted(unknown))}; wanted errors, burst, latency_ms, sigma, tail or "
                "hang"
            )
        numbers: dict[str, float] = {}
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{key}: wanted a number of at least 0, but got {value!r}")
            numbers[key] = float(value)
        for key in ("errors", "tail_share"):
            if numbers.get(key, 0) > 1:
                raise ValueError(f"{key}: wanted a share from 0 to 1, but got {numbers[key]}")
        return cls(**numbers)


@dataclass
class Tally:
    """What one pod served, over all its restarts."""

    version: str
    requests: int = 0
    failures: int = 0
    in_flight: int = 0
    answered_at: float = -math.inf  # of the last answer, by the monotonic clock

    def as_json(self) -> dict[str, object]:
        return {"version": self.version, "requests": self.requests, "failures": self.failures}


@dataclass
class Application:
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    tally: dict[str, Tally] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(1))
    _spell: dict[str, float] = field(default_factory=dict)
    # pod: when it hangs next, until when (monotonic clock)
    _hangs: dict[str, tuple[float, float]] = field(default_factory=dict)
    _servers: dict[str, asyncio.Server] = field(default_factory=dict)

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """name: a version of every app ("v2"), of one ("front-end/v2"), which counts more, or a pod, which
        counts most."""
        self.behaviours[name] = behaviour
        self._spell.pop(name, None)  # a spell of the behaviour before must not outlive it

    def hangs(self, pod: str, behaviour: Behaviour, now: float) -> bool:
        """Whether this pod does at `now` (monotonic seconds, not falling): for hang_seconds, hang_every after
        the last time on average."""
        if not behaviour.hang_every:
            return False
        begins, ends = self._hangs.get(pod, (0.0, 0.0))
        if now >= ends:  # the next one is drawn from now on: a pod without requests hangs for nobody
            begins = now + self.random.expovariate(1 / behaviour.hang_every)
            ends = begins + behaviour.hang_seconds
            self._hangs[pod] = begins, ends
        return begins <= now

    def fails(self, version: str, behaviour: Behaviour) -> bool:
        """Whether this request does: each by itself, or in spells of geometric length with mean `burst`."""
        rate, burst = behaviour.errors, max(1.0, behaviour.burst)
        if burst == 1 or rate in (0, 1):
            return self.random.random() < rate
        left = self._spell.get(version, 0)
        if left > 0:
            self._spell[version] = left - 1
            return True
        if self.random.random() < rate / (rate + burst * (1 - rate)):
            # mean burst - 1, this one is the first
            self._spell[version] = math.log(1 - self.random.random()) // math.log(1 - 1 / burst)
            return True
        return False

    def delay(self, behaviour: Behaviour) -> float:
        """Seconds before the answer."""
        milliseconds = (
            behaviour.latency_ms * math.exp(self.random.gauss(0, behaviour.sigma))
            if behaviour.latency_ms
            else 0.0
        )
        if behaviour.tail_share and self.random.random() < behaviour.tail_share:
            milliseconds += behaviour.tail_ms
        return milliseconds / 1e3

    async def serve(self, pod: str, version: str, app: str = "") -> int:
        """Begins to answer for this pod, and says at which port. A pod that comes back goes on with its
        tally."""
        of_app = f"{app}/{version}"
        tally = self.tally.setdefault(pod, Tally(version))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    tally.in_flight += 1
                    try:
                        name = next((key for key in (pod, of_app) if key in self.behaviours), version)
                        await self._answer(writer, pod, name, tally)
                    finally:
                        tally.in_flight -= 1
            except (asyncio.IncompleteReadError, ConnectionError):
                return  # the other side is done with this connection
            finally:
                writer.close()

        server = self._servers[pod] = await asyncio.start_server(answer, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _answer(self, writer: asyncio.StreamWriter, pod: str, name: str, tally: Tally) -> None:
        behaviour = self.behaviours.get(name, Behaviour())
        hung = self.hangs(pod, behaviour, time.monotonic()) and self.random.random() < HANG_SHARE
        if (delay := self.delay(behaviour) + (HANG_MS / 1e3 if hung else 0.0)) > 0:
            await asyncio.sleep(delay)
        failed = hung or self.fails(name, behaviour)
        if writer.is_closing():
            return  # whoever asked has gone: no proxy counts this either
        tally.requests += 1
        tally.failures += failed
        status, body = "503 Service Unavailable" if failed else "200 OK", tally.version
        head = (
            f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nx-version: {tally.version}\r\nx-pod: "
            f"{pod}\r\n\r\n"
        )
        writer.write((head + body).encode())
        await writer.drain()
        tally.answered_at = time.monotonic()

    def leave(self, pod: str) -> None:
        """Takes no more connections for this pod; its tally stays."""
        self._servers.pop(pod).close()
