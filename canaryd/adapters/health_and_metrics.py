"""Serves /livez, /readyz and /metrics: whether the daemon is alive, whether it is ready, and what it does.

The daemon reports to `Health` and `Metrics`, and the HTTP server reads them; both may be used from any
thread. Nothing here decides.
"""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from canaryd.domain import gates
from canaryd.domain.ports import Rejected
from canaryd.domain.rollout import Phase, Rollout
from canaryd.domain.verdict import Answer

# beats that may be missed before the daemon counts as dead, since a look may wait for several time limits
BEATS = 10
LEAST = 60.0  # s, even if the beat is short: a restart does not help a daemon that waits out an outage
SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)  # bounds of the duration histograms, s


@dataclass(slots=True)
class _Part:
    stays_good: float | None  # s after the last good report; None: until a bad report
    last_good: float | None = None  # when it was last reported good, monotonic s
    problem: str = ""


class Health:
    """Whether the daemon is alive and ready.

    beat: seconds between two beats. parts: what readiness needs, by a name for people ("Prometheus"), with
    the seconds for which a good report counts; None: until a bad report. clock: monotonic seconds.
    """

    def __init__(
        self, beat: float, parts: Mapping[str, float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = max(BEATS * beat, LEAST)
        self._parts = {name: _Part(stays_good) for name, stays_good in parts.items()}
        self._clock = clock
        self._progress = clock()
        self._lock = threading.Lock()

    def progressed(self) -> None:
        """Reports progress of the beat's thread; called at the start and end of a beat, and between its
        rollouts."""
        self._progress = self._clock()

    def good(self, part: str) -> None:
        """Reports that a part is good now. Raises KeyError for an unknown part."""
        with self._lock:
            self._parts[part].last_good, self._parts[part].problem = self._clock(), ""

    def bad(self, part: str, problem: str) -> None:
        """Reports that a part is bad, and why. Raises KeyError for an unknown part."""
        with self._lock:
            self._parts[part].problem = " ".join(problem.split())

    def dead(self) -> str:
        """The reason why the daemon should be restarted; "" if it is alive."""
        silent = self._clock() - self._progress
        return (
            f"the beat has made no progress for {silent:.0f} s; {self._patience:.0f} s are allowed"
            if silent > self._patience
            else ""
        )

    def missing(self) -> list[str]:
        """The parts that are not good, one sentence for each; []: the daemon is ready."""
        now = self._clock()
        with self._lock:
            return [f"{name}: {why}" for name, part in self._parts.items() if (why := _lacking(part, now))]


def _lacking(part: _Part, now: float) -> str:
    since = "not good yet" if part.last_good is None else f"last good {now - part.last_good:.0f} s ago"
    if part.problem:
        return f"{part.problem} ({since})"
    if part.last_good is None:
        return since
    return (
        f"{since}; {part.stays_good:g} s are allowed"
        if part.stays_good is not None and now - part.last_good > part.stays_good
        else ""
    )


class Metrics:
    """canaryd's own metrics for Prometheus, in a registry of their own.

    Counters are public: `metrics.beats.inc()`. Rollouts are exposed as last given to `show`, so rollouts that
    have ended disappear.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.beats = self._counter("beats", "Beats begun.")
        self.beat_failures = self._counter("beat_failures", "Beats ended by an unforeseen error.")
        self.beat_seconds = self._histogram(
            "beat_duration_seconds", "How long a beat took, telemetry and all rollouts."
        )
        self.look_seconds = self._histogram("look_duration_seconds", "How long one look of one rollout took.")
        self.query_failures = self._counter(
            "query_failures", "Calls that failed, by whom they went to and how.", "backend", "kind"
        )
        self.ended = self._counter(
            "rollouts_ended", "Rollouts that ended, by how.", "namespace", "service", "phase"
        )
        self.delivered = self._counter(
            "announcements_delivered", "Announcements a notifier confirmed.", "notifier"
        )
        self.given_up = self._counter(
            "announcements_given_up", "Announcements a notifier never took.", "notifier"
        )
        self.delivery_failures = self._counter(
            "delivery_failures", "Tries to deliver that failed.", "notifier"
        )
        self.gate_replies = self._counter(
            "gate_replies", "Replies of gates, by whether they let a rollout go on.", "gate", "reply"
        )
        self.policies = Gauge("canaryd_policies", "Policies in force.", registry=self.registry)
        self.policy_errors = Gauge(
            "canaryd_policy_files_refused", "Policy files refused as they now stand.", registry=self.registry
        )
        Gauge(
            "canaryd_build_info", "Always 1; the version is its label.", ["version"], registry=self.registry
        ).labels(version).set(1)
        self._rollouts = _Rollouts()
        self.registry.register(self._rollouts)

    def show(self, rollouts: Iterable[Rollout]) -> None:
        """Sets the rollouts to expose; those that have ended are left out."""
        self._rollouts.present = tuple(rollout for rollout in rollouts if not rollout.phase.ended)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"canaryd_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(f"canaryd_{name}", help, buckets=SECONDS, registry=self.registry)


class _Rollouts(Collector):
    """Makes the gauges of the rollouts at each scrape."""

    LABELS = ("namespace", "service", "version")

    def __init__(self) -> None:
        self.present: tuple[Rollout, ...] = ()

    def collect(self) -> Iterator[Metric]:
        present = {(*rollout.entrance.key, rollout.entrance.canary): rollout for rollout in self.present}
        judged = {
            labels: rollout.verdict for labels, rollout in present.items() if rollout.verdict is not None
        }
        yield self._gauge(
            "weight_percent",
            "The canary's share of the traffic, as wanted.",
            {k: rollout.weight for k, rollout in present.items()},
        )
        yield self._gauge(
            "stage",
            "Index of the stage; -1 before the first.",
            {k: rollout.stage for k, rollout in present.items()},
        )
        yield self._gauge(
            "began_seconds",
            "When the rollout began, Unix time.",
            {k: rollout.began for k, rollout in present.items()},
        )
        yield self._states(
            "phase", "1 for the phase it is in.", Phase, {k: rollout.phase for k, rollout in present.items()}
        )
        yield self._states(
            "verdict",
            "1 for the answer of the last look.",
            Answer,
            {k: verdict.answer for k, verdict in judged.items()},
        )
        yield self._gauge(
            "odds",
            "Odds gathered against the canary, to 1.",
            {k: verdict.odds for k, verdict in judged.items()},
        )
        yield self._gauge(
            "odds_bar",
            "Odds at which it is rolled back, to 1.",
            {k: verdict.bar for k, verdict in judged.items()},
        )
        yield self._waiting(present)
        yield self._gauge(
            "looks", "Looks compared in this stage.", {k: verdict.looks for k, verdict in judged.items()}
        )

    def _gauge(self, name: str, help: str, values: Mapping[tuple[str, str, str], float]) -> Metric:
        family = GaugeMetricFamily(f"canaryd_rollout_{name}", help, labels=self.LABELS)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family

    def _waiting(self, rollouts: Mapping[tuple[str, str, str], Rollout]) -> Metric:
        family = GaugeMetricFamily(
            "canaryd_rollout_gate_asked_seconds",
            "Since when the gate that it waits for is asked, Unix time.",
            labels=(*self.LABELS, "gate"),
        )
        for labels, rollout in rollouts.items():
            if (question := gates.question(rollout)) is not None:
                family.add_metric((*labels, question.gate.name), question.since)
        return family

    def _states(
        self, name: str, help: str, states: Iterable[str], values: Mapping[tuple[str, str, str], str]
    ) -> Metric:
        family = GaugeMetricFamily(f"canaryd_rollout_{name}", help, labels=(*self.LABELS, name))
        every = list(states)
        for labels, value in values.items():
            for state in every:
                family.add_metric((*labels, str(state)), float(state == value))
        return family


def application(health: Health, metrics: Metrics) -> WSGIApplication:
    """The WSGI application with the three pages."""
    exposition = make_wsgi_app(metrics.registry)

    def pages(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if environ["REQUEST_METHOD"] == "HEAD":
            return _head_of(pages, environ, respond)
        if environ["REQUEST_METHOD"] != "GET":
            return _page(respond, "405 Method Not Allowed", "only GET and HEAD are answered here")
        if path == "/metrics":
            body: Iterable[bytes] = exposition(environ, respond)
            return body
        if path == "/livez":
            dead = health.dead()
            return _page(respond, "503 Service Unavailable" if dead else "200 OK", dead or "alive")
        if path == "/readyz":
            missing = health.missing()
            return _page(
                respond, "503 Service Unavailable" if missing else "200 OK", "\n".join(missing) or "ready"
            )
        return _page(respond, "404 Not Found", "there are /livez, /readyz and /metrics")

    return pages


def _head_of(pages: WSGIApplication, environ: WSGIEnvironment, respond: StartResponse) -> list[bytes]:
    """Answers as a GET, with the length and without the body."""
    replies: list[tuple[str, list[tuple[str, str]]]] = []

    def note(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        replies.append((status, headers))
        return lambda data: None

    length = sum(map(len, pages({**environ, "REQUEST_METHOD": "GET"}, note)))
    status, headers = replies[0]
    respond(
        status,
        [
            *((name, value) for name, value in headers if name.lower() != "content-length"),
            ("Content-Length", str(length)),
        ],
    )
    return []


def _page(respond: StartResponse, status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    respond(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ],
    )
    return [body]


class Server:
    """Serves a WSGI application on one address until `close`, with a thread for each request."""

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        """Listens at once. port: 0 is any free port. Raises Rejected if it cannot listen there."""
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise Rejected(f"cannot serve /livez, /readyz and /metrics on {host}:{port}: {why}") from error
        self._server.set_app(app)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops listening in well under a second, without waiting for requests under way."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # HTTPServer's method asks DNS for the host's name, which takes seconds without DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that hang up, since stderr is for the logs."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # s for which a client may be silent before its thread ends

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: no news."""
