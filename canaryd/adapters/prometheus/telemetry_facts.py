"""What Prometheus has of services, for `canaryd check`: in whose counts, with which labels, how often, and
with which buckets.

No counting here: that is `telemetry.py`'s.
"""

import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

from canaryd.adapters.prometheus.api import PrometheusAccess, PrometheusApi
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry, workload_pattern
from canaryd.domain.check_facts import AlertFacts, ScrapedSeries, ServiceCounts, TelemetryFacts
from canaryd.domain.counts import Target
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.series_values import labels_of

REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"
LEAST_WINDOW = 60.0  # s: in less, a service of one request in half a minute looks dead
DATE = 2.0  # s between two clocks that may be rounding
SCRAPES = 8  # so many make a median
MOST_SAMPLES = 50_000  # of one answer: beyond it, fewer scrapes are looked at


class PrometheusFacts:
    """Asks one Prometheus. Refusals and silence become words; nothing is raised."""

    def __init__(self, access: PrometheusAccess) -> None:
        self._api, self._access = PrometheusApi(access), access
        self._telemetry = PrometheusTelemetry(access)
        self._window = max(LEAST_WINDOW, SCRAPES * access.scrape_interval)

    def close(self) -> None:
        """Closes the connection to Prometheus."""
        self._api.close()
        self._telemetry.close()

    def look(self, policies: Sequence[tuple[Policy, Sequence[str]]], now: float) -> TelemetryFacts:
        """All of it: Prometheus itself, and of each policy what it has. policies: each with its Deployments;
        now: Unix seconds."""
        interval, window, began = self._access.scrape_interval, self._window, time.monotonic()
        try:
            version = self._telemetry.check()
            self._api.instant("vector(1)", now) if version == "unknown" else self._api.ask(
                "GET", "/api/v1/status/buildinfo"
            )
        except (Unavailable, Rejected) as error:
            return TelemetryFacts(
                self._api.shown,
                scrape_interval=interval,
                window=window,
                problem=str(error),
                refused=isinstance(error, Rejected),
            )
        clock = parsedate_to_datetime(self._api.said_at).timestamp() if self._api.said_at else None
        # The moment of the exchange that is nearest to what the server says: an answer takes its time, and
        # HTTP dates are whole seconds.
        asked = now if clock is None else min(max(clock, now - 1), now + time.monotonic() - began)
        if clock is not None and abs(clock - asked) > DATE:  # it stamps samples by its own clock
            now = clock
        services: dict[NamespacedName, ServiceCounts] = {}
        for policy, workloads in policies:
            try:
                services[policy.key] = self._of(policy, workloads, now)
            except (Unavailable, Rejected) as error:
                services[policy.key] = ServiceCounts(problem=str(error))
        return TelemetryFacts(self._api.shown, version, interval, window, clock, asked, services)

    def _of(self, policy: Policy, workloads: Sequence[str], now: float) -> ServiceCounts:
        window = f"{self._window:.0f}s"
        which = f'destination_workload_namespace="{policy.service.namespace}"'
        which += (
            f', destination_workload=~"{"|".join(map(workload_pattern, workloads))}"'
            if workloads
            else f', destination_service_name="{policy.service.name}"'
        )
        found = self._api.instant(
            f"sum by (reporter, destination_workload) (last_over_time({REQUESTS}{{{which}}}[{window}]))", now
        )
        reporters = {
            (labels.get("reporter", ""), labels.get("destination_workload", "")): float(points[-1][1])
            for labels, points in found
        }
        if not reporters:
            return ServiceCounts(
                elsewhere=self._elsewhere(window, now),
                queries=self._queries(policy, workloads, now),
                alerts=self._alerts(policy, workloads, now),
            )
        own = f'{which}, reporter="{policy.analysis.reporter}"'
        buckets = self._api.instant(
            f"count by (le) (last_over_time({DURATION}_bucket{{{own}}}[{window}]))", now
        )
        sums = self._api.instant(f"count(last_over_time({DURATION}_sum{{{own}}}[{window}]))", now)
        return ServiceCounts(
            reporters,
            self._series(own, now),
            frozenset(labels.get("le", "") for labels, _ in buckets),
            bool(sums),
            queries=self._queries(policy, workloads, now),
            alerts=self._alerts(policy, workloads, now),
        )

    def _series(self, which: str, now: float) -> list[ScrapedSeries]:
        """The raw series, with so many of their scrapes as fit an answer."""
        number = self._api.instant(f"count(last_over_time({REQUESTS}{{{which}}}[{self._window:.0f}s]))", now)
        series = max(1.0, float(number[0][1][-1][1]) if number else 1.0)
        scrapes = max(3.0, min(self._window / self._access.scrape_interval, MOST_SAMPLES / series))
        seconds = max(
            3 * self._access.scrape_interval, min(self._window, scrapes * self._access.scrape_interval)
        )
        raw = self._api.instant(f"{REQUESTS}{{{which}}}[{seconds:.0f}s]", now)
        return [ScrapedSeries(dict(labels), tuple(at for at, _ in points)) for labels, points in raw]

    def _elsewhere(self, window: str, now: float) -> list[str]:
        found = self._api.instant(
            f"count by (destination_workload_namespace, destination_workload) "
            f"(last_over_time({REQUESTS}[{window}]))",
            now,
        )
        named = {
            f"{labels.get('destination_workload_namespace', '')}/{labels.get('destination_workload', '')}"
            for labels, _ in found
        }
        return sorted(named)

    def _queries(self, policy: Policy, workloads: Sequence[str], now: float) -> dict[str, str]:
        """Name of each query of the policy -> "" where it has a value now. Before there is a canary, stable
        is asked in its place."""
        answers: dict[str, str] = {}
        if not workloads:
            return answers
        step = policy.analysis.interval
        end = int(now)
        target = Target(
            policy.service.namespace,
            (workloads[0],),
            (workloads[-1],),
            end - 2 * step,
            policy.analysis.reporter,
        )
        for query in policy.analysis.queries:
            for promql in query.asked.values():
                try:
                    values = self._telemetry.measure(target, promql, end - 2 * step, end, step)
                    answer = "" if any(value is not None for value in values) else "no value"
                except (Unavailable, Rejected) as error:
                    answer = str(error)
                answers[query.name] = answers.get(query.name) or answer
        return answers

    def _alerts(self, policy: Policy, workloads: Sequence[str], now: float) -> AlertFacts | None:
        """The policy's alerts that fire now, and the rules that alerts may come from."""
        alerts, end = policy.analysis.alerts, int(now)
        if alerts is None or not workloads:
            return None
        target = Target(
            policy.service.namespace,
            (workloads[0],),
            (workloads[-1],),
            end,
            policy.analysis.reporter,
            policy.service.name,
        )
        try:
            [firing] = self._telemetry.measure_each(target, alerts.promql, end - 1, end, 1)
        except (Unavailable, Rejected) as error:
            return AlertFacts(problem=str(error))
        return AlertFacts(tuple(_named(labels_of(labels)) for labels in sorted(firing)), self._rules())

    def _rules(self) -> tuple[Mapping[str, str], ...] | None:
        """The labels that each alerting rule sets; None where that is not told, as by most stores that are
        not Prometheus itself."""
        try:
            groups = self._api.ask("GET", "/api/v1/rules")["groups"]
            return tuple(
                {**(rule.get("labels") or {}), "alertname": rule["name"]}
                for group in groups
                for rule in group["rules"]
                if rule.get("type") == "alerting"
            )
        except (Unavailable, Rejected, KeyError, TypeError, AttributeError):
            return None


def _named(labels: Mapping[str, str]) -> str:
    """`HighLatency (namespace=production, severity=page)`."""
    others = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "alertname")
    return f"{labels.get('alertname', 'without a name')} ({others})"
