"""The composition root: builds the adapters and the control loop from the settings. It is the only module
that knows them all, and it decides nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from canaryd.adapters import health_and_metrics, logs, ticker
from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.deployments import KubeWorkloads
from canaryd.adapters.kube.events import KubeEvents
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.adapters.notify import alertmanager, delivery, gate_client, http_post, webhook
from canaryd.adapters.policies.policy_files import PolicyFiles
from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.control.loop import EVENTS, ControlLoop
from canaryd.control.reconciler import Reconciler
from canaryd.control.supervisor import Supervisor
from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Record, Rollout
from canaryd.settings import NotifierSettings, ServerSettings, Settings
from canaryd.version import version

log = logs.logger(logs.OWN)

TELEMETRY_CHECK = 15.0  # s between two checks whether Prometheus answers at all, for /readyz
# s for the look under way; the rest of the 5 s is for receivers and the interpreter, on a busy machine too
STOP = 3.0


class SystemClock:
    """The system's clock: implements the port `Clock`."""

    def now(self) -> float:
        """The present time in Unix seconds."""
        return time.time()


class MetricsMeter:
    """Records what the control loop does as metrics and health."""

    def __init__(self, metrics: health_and_metrics.Metrics, health: health_and_metrics.Health) -> None:
        self._metrics, self._health = metrics, health
        self._rollouts: dict[tuple[str, str], Rollout] = {}

    def beat(self, seconds: float, api_answers: bool) -> None:
        """Records the end of a beat. seconds: its duration; api_answers: whether the API server answered."""
        self._metrics.beats.inc()
        self._metrics.beat_seconds.observe(seconds)
        self._metrics.show(list(self._rollouts.values()))
        self._health.progressed()
        if api_answers:
            self._health.good("API server")
        else:
            self._metrics.query_failures.labels("kubernetes", "unavailable").inc()
            self._health.bad("API server", "does not answer, or refuses; see the log")

    def look(self, record: Record, seconds: float) -> None:
        """Records one look of a rollout. seconds: how long it took."""
        self._metrics.look_seconds.observe(seconds)
        self._rollouts[record.rollout.namespace, record.rollout.name] = record.rollout
        self._health.progressed()

    def telemetry(self, answers: bool) -> None:
        """Records whether telemetry answered."""
        if not answers:
            self._metrics.query_failures.labels("prometheus", "unavailable").inc()

    def ended(self, record: Record) -> None:
        """Records the end of a rollout, once."""
        rollout = record.rollout
        if self._rollouts.pop((rollout.namespace, rollout.name), None) is not None:
            self._metrics.ended.labels(rollout.namespace, rollout.entrance.name, rollout.phase.value).inc()

    def gone(self, record: Record) -> None:
        """Forgets a rollout whose record was deleted."""
        self._rollouts.pop((record.rollout.namespace, record.rollout.name), None)

    def delivered(self, notifier: str) -> None:
        """Records a delivered announcement."""
        self._metrics.delivered.labels(notifier).inc()

    def broken(self) -> None:
        """Records an unforeseen error in a beat."""
        self._metrics.beat_failures.inc()


@dataclass(frozen=True, slots=True)
class EventNotifier:
    """Kubernetes Events as a notifier. send: writes an announcement as an Event."""

    events: KubeEvents
    send: Callable[..., None]


class Daemon:
    """The daemon, built and not yet running. `run` blocks until SIGTERM or SIGINT."""

    def __init__(
        self,
        settings: Settings,
        policies: PolicyFiles,
        telemetry: PrometheusTelemetry,
        beat: ControlLoop,
        deliver: delivery.Delivery,
        metrics: health_and_metrics.Metrics,
        health: health_and_metrics.Health,
    ) -> None:
        self._settings, self._policies, self._telemetry = settings, policies, telemetry
        self._beat, self._deliver, self._metrics, self._health = beat, deliver, metrics, health
        self._stopped = threading.Event()

    def run(self) -> int:
        """Runs until SIGTERM or SIGINT, and returns the exit code. Raises Rejected if its port is taken."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        server = health_and_metrics.Server(
            self._settings.http.listen,
            self._settings.http.port,
            health_and_metrics.application(self._health, self._metrics),
        )
        log.info(
            "daemon.started",
            version=version(),
            pid=os.getpid(),
            port=server.port,
            policies=len(self.refresh()),
        )
        every = ticker.Ticker(self._once, self._settings.beat, self._failed)
        every.start()
        threading.Thread(target=self._watch_telemetry, name="telemetry", daemon=True).start()
        self._stopped.wait()
        began = time.monotonic()
        finished = every.stop(STOP)
        delivered = self._deliver.close(0.5)
        server.close()
        log.info(
            "daemon.stopped",
            look_finished=finished,
            receivers_finished=delivered,
            seconds=round(time.monotonic() - began, 2),
        )
        return 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped.set()

    def _once(self) -> None:
        self._health.progressed()
        self.refresh()
        self._beat.run()

    def _failed(self, error: Exception) -> None:
        self._metrics.beat_failures.inc()
        log.error("beat.broken", exc_info=error)

    def refresh(self) -> tuple[Policy, ...]:
        """Reads the policy files again, logs what changed, and returns the policies in force in the daemon's
        namespaces."""
        changes = self._policies.refresh()
        for word, policies in (
            ("added", changes.added),
            ("changed", changes.changed),
            ("removed", changes.removed),
        ):
            for policy in policies:
                log.info(
                    f"policy.{word}",
                    service=policy.service.name,
                    namespace=policy.service.namespace,
                    note=""
                    if word != "changed"
                    else "a rollout under way goes on with the policy it began with",
                )
        for problem in changes.refused:
            log.error("policy.refused", problem=str(problem))
        for name in changes.kept:
            log.warning("policy.kept", file=name, note="its last good version stays in force")
        for name in changes.mended:
            log.info("policy.mended", file=name)
        namespaces = self._settings.kubernetes.namespaces
        in_force = in_namespaces(self._policies.policies, namespaces)
        for policy in (*changes.added, *changes.changed):
            if policy not in in_force:
                log.warning(
                    "policy.elsewhere",
                    service=policy.service.name,
                    namespace=policy.service.namespace,
                    namespaces=list(namespaces),
                    note="kubernetes.namespaces leaves out a namespace of it, so it does nothing",
                )
        problems = self._policies.problems
        self._metrics.policies.set(len(in_force))
        self._metrics.policy_errors.set(len(problems))
        if problems:
            self._health.bad("policies", "; ".join(str(problem) for problem in problems))
        elif not in_force:
            self._health.bad("policies", "there is none")
        else:
            self._health.good("policies")
        return in_force

    def _watch_telemetry(self) -> None:
        previous = ""
        while True:
            problem = ""
            try:
                self._telemetry.check()
                self._health.good("Prometheus")
            except (Unavailable, Rejected) as error:
                problem = str(error)
                self._health.bad("Prometheus", problem)
                self._metrics.query_failures.labels("prometheus", "check").inc()  # not of a look
            if problem and not previous:
                log.warning(
                    "prometheus.unavailable",
                    reason=problem,
                    note="rollouts wait for it; nothing advances meanwhile",
                )
            elif previous and not problem:
                log.info("prometheus.available", was=previous)
            previous = problem
            if self._stopped.wait(TELEMETRY_CHECK):
                return


def in_namespaces(policies: Sequence[Policy], namespaces: Sequence[str]) -> tuple[Policy, ...]:
    """The policies whose services are all in these namespaces; all policies if `namespaces` is empty."""
    return tuple(
        policy
        for policy in policies
        if not namespaces or {namespace for namespace, _ in policy.keys} <= {*namespaces}
    )


def build(settings: Settings, policies_path: Path) -> Daemon:
    """Builds the daemon from its settings. Nothing outside is asked yet, so it starts without API server and
    Prometheus.

    Raises Rejected (no kubeconfig, an invalid receiver), InvalidPolicy (a secret that cannot be read).
    """
    logs.setup(settings.log.level, settings.log.format)
    metrics = health_and_metrics.Metrics(version())
    health = health_and_metrics.Health(
        settings.beat,
        {"policies": None, "API server": 10 * settings.beat + 30, "Prometheus": 4 * TELEMETRY_CHECK},
    )
    api = KubernetesApi(
        _path(settings.kubernetes.kubeconfig),
        settings.kubernetes.context,
        read_seconds=settings.kubernetes.timeout,
    )
    telemetry = PrometheusTelemetry(telemetry_access(settings))
    traffic = TrafficByKind(api, settings.kubernetes.cluster_domain, settings.kubernetes.settle)
    rollouts = KubeRollouts(api, lambda name, why: log.error("record.unreadable", rollout=name, reason=why))
    files = PolicyFiles(policies_path, [*settings.notifiers], [*settings.gates])
    clock = SystemClock()
    deliver = delivery.Delivery(
        _notifiers(settings, api), clock, _delivery_failed(metrics), _patience(settings)
    )
    delay = settings.prometheus.ingestion_delay
    reconciler = Reconciler(
        telemetry,
        traffic,
        rollouts,
        _gates(settings, clock, metrics),
        ingestion_delay=settings.prometheus.scrape_interval if delay is None else delay,
        scrape_interval=settings.prometheus.scrape_interval,
        clock=clock,
    )
    supervisor = Supervisor(KubeWorkloads(api), traffic, rollouts, settings.history)
    namespaces = settings.kubernetes.namespaces

    beat = ControlLoop(
        lambda: in_namespaces(files.policies, namespaces),
        supervisor,
        reconciler,
        deliver,
        clock,
        MetricsMeter(metrics, health),
        frozenset(namespaces),
    )
    return Daemon(settings, files, telemetry, beat, deliver, metrics, health)


def telemetry_access(settings: Settings) -> PrometheusAccess:
    """How Prometheus is reached by these settings. Raises InvalidPolicy for a password file that cannot be
    read."""
    server = settings.prometheus
    username, password = server.basic() or (None, None)
    return PrometheusAccess(
        url=server.url,
        scrape_interval=server.scrape_interval,
        timeout=server.timeout,
        username=username,
        password=password,
        bearer_token_file=_path(server.bearer_token_file),
        ca_file=_path(server.ca_file),
        cert_file=_path(server.cert_file),
        key_file=_path(server.key_file),
        insecure_skip_verify=server.insecure_skip_verify,
        headers=server.plain_headers(),
    )


def _notifiers(settings: Settings, api: KubernetesApi) -> Mapping[str, delivery.Notifier]:
    if EVENTS in settings.notifiers:
        raise Rejected(
            f"a notifier must not be named {EVENTS}, which is canaryd's own notifier for Kubernetes Events"
        )
    events = KubeEvents(api)
    return {
        EVENTS: EventNotifier(events, events.tell),
        **{name: _notifier(name, notifier) for name, notifier in settings.notifiers.items()},
    }


def _notifier(name: str, notifier: NotifierSettings) -> delivery.Notifier:
    try:
        if notifier.webhook is not None:
            hook = notifier.webhook
            return webhook.Webhook(hook.url, hook.signing_secret, _access(hook, hook.timeout))
        if notifier.alertmanager is not None:
            alerts = notifier.alertmanager
            return alertmanager.Alertmanager(alerts.url, alerts.labels, _access(alerts, alerts.timeout))
    except ValueError as error:
        raise Rejected(f"notifier {name}: {error}") from error
    raise Rejected(f"notifier {name} is neither a webhook nor an alertmanager")


def _gates(
    settings: Settings, clock: SystemClock, metrics: health_and_metrics.Metrics
) -> gate_client.HttpGates:
    def tell(question: GateQuestion, reply: GateReply) -> None:
        metrics.gate_replies.labels(question.gate.name, "open" if reply.opens else "closed").inc()
        log.info(
            "gate.replied",
            gate=question.gate.name,
            service=question.service,
            namespace=question.namespace,
            rollout=question.rollout,
            question=question.id,
            opens=reply.opens,
            says=reply.says,
        )

    # The time limit is the question's own; this one is never used.
    known = {
        name: gate_client.Known(gate.url, gate.signing_secret, _access(gate, timeout=1.0))
        for name, gate in settings.gates.items()
    }
    try:
        return gate_client.HttpGates(known, clock, tell)
    except ValueError as error:
        raise Rejected(str(error)) from error


def _access(remote: ServerSettings, timeout: float) -> http_post.ReceiverAccess:
    return http_post.ReceiverAccess(
        remote.plain_headers(), remote.basic, remote.bearer_token, remote.verify, remote.certificate, timeout
    )


def _patience(settings: Settings) -> Mapping[str, delivery.Patience]:
    receivers = {
        name: notifier.webhook or notifier.alertmanager for name, notifier in settings.notifiers.items()
    }
    return {
        name: delivery.Patience(give_up_after=receiver.give_up_after)
        for name, receiver in receivers.items()
        if receiver is not None
    }


def _delivery_failed(metrics: health_and_metrics.Metrics) -> Callable[[delivery.DeliveryFailure], None]:
    def tell(failure: delivery.DeliveryFailure) -> None:
        metrics.delivery_failures.labels(failure.notifier).inc()
        if failure.next_try is None:
            metrics.given_up.labels(failure.notifier).inc()
        log.warning(
            "announcement.failed" if failure.next_try is not None else "announcement.given_up",
            notifier=failure.notifier,
            announcement=failure.announcement,
            reason=failure.reason,
            next_try_seconds=failure.next_try,
        )

    return tell


def _path(path: Path | None) -> str | None:
    return str(path) if path is not None else None
