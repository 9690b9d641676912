"""Telemetry from Prometheus: Istio's cumulative counters, read so that every request is counted once.

Here are the queries and how their answers are read; how they are asked is `api.py`, how counters become
counts is `adapters/prometheus/counters.py`, and nobody else knows PromQL. No rate() and no increase(): they
extrapolate, and lose what a series was born with.

**Why looks are read at the scrape's resolution.** A look is a window (start, start + step], but the counters
are asked for at points no further apart than two scrapes, each with `last_over_time(...[resolution])`. An
instant vector at a look's end would lose what a pod served between the look's start and its end on the way
out (its series are stale by then), and a restart in mid-look. The windows tile time, so each scrape is in
one, whatever the looks' grid: the same requests are counted, live look by look or in a replay all at once.
`last_over_time` ignores staleness markers. Prometheus 2 takes a window's left edge in, Prometheus 3 does not:
as the last sample is taken, the edge's only shows where the window holds no other, and then it repeats the
point before, which is no growth. `scrape_interval` must not be longer than the real one: with two scrapes in
one window, a restart between them can be misread.

**Why reading begins before `since`.** Replicas are followed from 300 s earlier (Prometheus' own lookback),
and what is counted up to the first look is thrown away. So a scrape missed at `since` makes nobody a newborn,
and a pod that restarted shortly before is known by its new process. One wide window at `since` would mix both
processes' series; the first new error would then look like a drop, and the whole pod would be counted twice.
Pods that vanished in those 300 s are known too, which is harmless.

**What `reporter: source` and `reporter: waypoint` see.** The `pod` label is then the client's or the
waypoint's: resets and births are told by it, and a workload has one replica, "(all)". Requests that no
workload was found for are labelled `unknown` by Istio, and belong to neither version.

Two scrape jobs that both take a pod's counters, or a pair of Prometheus behind one address, store each
counter twice: see COPIES. Where copies differ in other labels, everything is counted twice.
"""

import math
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from canaryd.adapters.prometheus.api import Labels, PrometheusAccess, PrometheusApi, Series
from canaryd.adapters.prometheus.counters import Ledger, Point, Reading, Replica, Sample
from canaryd.domain.counts import Look, Source, Target
from canaryd.domain.ports import Presence, Rejected
from canaryd.domain.series_values import SeriesValues, labels_text

RUN_UP = 300  # s before `since` from which replicas are followed: Prometheus' default lookback
# scrape intervals for which a baseline stays open: pods are scraped at different moments, and one scrape may
# fail
SETTLE_SCRAPES = 2
# of one range query; Prometheus refuses 11,000 a series, and 500 of 300 series are 10 MB of JSON
MOST_POINTS = 500
# a ledger nobody asks for is dropped after this long, and built anew from Prometheus when someone does
KEEP_SECONDS = 900.0

# Labels that tell copies of one counter apart, which two scrape jobs, or the halves of a pair of Prometheus,
# have each taken of the same pod. The largest of the copies is the latest one, so each request is still
# counted once, and a job that misses a scrape is no restart.
COPIES = (
    "job",
    "instance",
    "endpoint",
    "container",
    "service",
    "prometheus",
    "prometheus_replica",
    "replica",
)

REQUESTS = "istio_requests_total"
# all that is counted of what Istio does not take for HTTP or gRPC
CONNECTIONS = "istio_tcp_connections_opened_total"

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")  # not $1, which label_replace needs
# what a Deployment appends to its name: the ReplicaSet's hash and the pod's own
_PODS = "-[a-z0-9]+-[a-z0-9]+"


class PrometheusTelemetry:
    """The port `Telemetry` on one Prometheus.

    Ledgers are kept where they ended, so the next look costs what the first did; one that is not kept is
    built anew from `since`. Calls may come from any thread, one is served at a time.
    """

    def __init__(self, access: PrometheusAccess) -> None:
        self._api = PrometheusApi(access)
        self._scrape = access.scrape_interval
        self._lock = threading.Lock()
        # when last asked for; by where they stand
        self._kept: dict[Target, tuple[float, dict[int, Ledger]]] = {}

    def check(self) -> str:
        """Asks whether queries are answered; Prometheus' version, or "unknown" where the API has none. Raises
        as `read`."""
        try:
            return str(self._api.ask("GET", "/api/v1/status/buildinfo")["version"])
        except (Rejected, KeyError, TypeError):
            # Thanos, Mimir and others may not tell: then a query has to.
            self._api.ask("POST", "/api/v1/query", {"query": "vector(1)"})
            return "unknown"

    def close(self) -> None:
        """Closes the connections."""
        self._api.close()

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        """The looks (start, start + step], ..., as many as fit before `end`, for each target; `since` must
        not be after `start`.

        Three queries for each namespace and reporter (and Services called, if some are meant), however many
        targets; a target read before to this `start` costs nothing more, another one is followed from its
        `since` first. Raises Unavailable, Rejected; ValueError for looks that cannot be.
        """
        stop = start + (end - start) // max(step, 1) * step
        with self._lock:
            readings: list[Reading] = []
            behind: dict[int, list[Reading]] = {}
            for target in dict.fromkeys(targets):
                at, ledger = self._ledger(target, start)
                readings.append(Reading(target, ledger, start, end, step))
                behind.setdefault(at, []).append(readings[-1])
            for at, late in behind.items():
                self._follow(late, at, start, max(1, math.floor(self._scrape)))
            before = {reading.target: reading.ledger.copy() for reading in readings}
            self._follow(readings, start, stop, resolution(step, self._scrape))
            for reading in readings:
                # Where this call began is kept as well: a look is asked for again when it could not be saved.
                self._kept[reading.target] = (
                    time.monotonic(),
                    {start: before[reading.target], stop: reading.ledger},
                )
            self._drop()
        return {reading.target: reading.looks() for reading in readings}

    def workloads(
        self,
        namespace: str,
        service: str,
        reporter: str,
        at: int,
        past: int,
        has_version_services: bool = False,
    ) -> Sequence[str]:
        """Names of the workloads of a namespace that have counters in the `past` seconds before `at`; with a
        Kubernetes Service those behind it. has_version_services: versions may have Services of their own,
        SERVICE-VERSION. Raises as `read`."""
        which = f'reporter="{_name(reporter, "reporter")}", '
        which += f'destination_workload_namespace="{_name(namespace, "namespace")}"'
        if service:
            name = _name(service, "service")
            which += (
                f', destination_service_name=~"{name}(-.+)?"'
                if has_version_services
                else f', destination_service_name="{name}"'
            )
        query = f"sum by (destination_workload) (last_over_time({REQUESTS}{{{which}}}[{past}s]))"
        with self._lock:
            names = {
                labels.get("destination_workload", "")
                for labels, _ in self._api.range(query, range(at, at + 1))
            }
        return sorted(names - {"", "unknown"})  # what Istio calls those it cannot tell

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        """A policy's own query at the end of each look; None where it has no value (or NaN), infinities as
        they are.

        $canary_pods and $stable_pods become regular expressions of the Deployments' pod names, $namespace and
        $window (the step) what they say. Raises Rejected where more than one series has a value; Unavailable.
        """
        times = range(start + step, end + 1, step)
        query = fill(promql, target, step)
        if query is None:
            return [None] * len(times)
        values: dict[int, float] = {}
        for chunk in _chunks(times):
            found: dict[int, list[float]] = {}
            for _, points in self._api.range(query, chunk):
                for at, value in points:
                    found.setdefault(round(at), []).append(_float(value))
            # At one time, not over all: series that follow each other (a pod's successor) were each the only
            # one when read live.
            many = max((len(value) for value in found.values()), default=0)
            if many > 1:
                raise Rejected(
                    f"the query must answer one number, but answers {many} series: aggregate them, as in "
                    f"max(...): {query}"
                )
            values |= {at: look[0] for at, look in found.items()}
        return [None if math.isnan(values.get(at, math.nan)) else values[at] for at in times]

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues]:
        """A query that may answer any number of series, at the end of each look: each series' value by its
        labels' text. Variables as in `measure`, and $service. Raises Rejected, Unavailable."""
        times = range(start + step, end + 1, step)
        query = fill(promql, target, step)
        if query is None:
            raise Rejected(f"the query asks for something that this rollout has not: {promql}")
        values: dict[int, dict[str, float]] = {at: {} for at in times}
        for chunk in _chunks(times):
            for labels, points in self._api.range(query, chunk):
                name = labels_text(labels)
                for at, value in points:
                    number = _float(value)
                    if not math.isnan(number):
                        values[round(at)][name] = number
        return [values[at] for at in times]

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        """Who sent the requests of (start, end], most first: by counters' differences, pod by pod, as `read`
        has them.

        One query, of labels that `reporter: destination` has from the caller's sidecar or gateway. Raises
        Unavailable, Rejected.
        """
        if not target.canary or end <= start:
            return ()
        every = max(1, math.floor(self._scrape))
        ledger = Ledger(SETTLE_SCRAPES * self._scrape)
        begin = end - math.ceil((end - start) / every + 2 * SETTLE_SCRAPES) * every
        by = ", source_workload, source_workload_namespace"
        which = self._which(target.namespace, target.reporter, target.workloads, target.called)
        sent: dict[tuple[str, str], dict[str, int]] = {}
        with self._lock:
            for times in _chunks(range(begin, end + 1, every)):
                for at, point in sorted(_by_source(self._ask(REQUESTS, by, which, times)).items()):
                    for (workload, _), growth in ledger.fold(at, point).items():
                        for source, requests in growth.requests.items() if at > start else ():
                            versions = sent.setdefault(source, {})
                            versions[workload] = versions.get(workload, 0) + requests
        counted = [
            Source(name, namespace, _sum_of(versions, target.stable), _sum_of(versions, target.canary))
            for (name, namespace), versions in sent.items()
        ]
        return sorted(
            (counts for counts in counted if counts.stable + counts.canary),
            key=lambda sender: (-sender.stable - sender.canary, sender.workload),
        )

    def presence(self, target: Target, start: int, end: int) -> Presence:
        """Two queries, of whatever reporter. Raises Unavailable, Rejected."""
        workloads = self._workloads(target.namespace, target.workloads)
        with self._lock:
            requests, connections = (
                self._reporters(metric, workloads, max(1, end - start), end)
                for metric in (REQUESTS, CONNECTIONS)
            )
        return Presence(requests, bool(connections))

    def _reporters(self, metric: str, which: str, seconds: int, at: int) -> frozenset[str]:
        query = f"count by (reporter) (last_over_time({metric}{{{which}}}[{seconds}s]))"
        return frozenset(
            labels.get("reporter", "") for labels, _ in self._api.range(query, range(at, at + 1))
        )

    def _ledger(self, target: Target, start: int) -> tuple[int, Ledger]:
        """The ledger to take further to `start`, and where it stands."""
        if target.since > start:
            raise ValueError(
                f"looks from {start} cannot be read for {', '.join(target.workloads)}: followed "
                f"only since {target.since}"
            )
        _, ledgers = self._kept.get(target, (0.0, {}))
        at = max((at for at in ledgers if at <= start), default=None)
        if at is None:
            return target.since - RUN_UP, Ledger(SETTLE_SCRAPES * self._scrape)
        return at, ledgers[at].copy()

    def _drop(self) -> None:
        now = time.monotonic()
        for target in [target for target, (asked, _) in self._kept.items() if now - asked > KEEP_SECONDS]:
            del self._kept[target]

    def _follow(self, readings: Iterable[Reading], begin: int, end: int, every: int) -> None:
        """Takes readings from `begin` to `end`, with points `every` s, the last one at `end`."""
        groups: dict[tuple[str, str, tuple[str, ...]], list[Reading]] = {}
        for reading in readings:
            groups.setdefault(
                (reading.target.namespace, reading.target.reporter, reading.target.called), []
            ).append(reading)
        count = math.ceil((end - begin) / every)
        times = range(end - (count - 1) * every, end + 1, every)
        for (namespace, reporter, called), group in groups.items():
            workloads = sorted({name for reading in group for name in reading.target.workloads})
            for chunk in _chunks(times):
                points = self._points(self._which(namespace, reporter, workloads, called), chunk)
                for at in sorted(points):
                    for reading in group:
                        reading.fold(at, points[at])

    def _points(self, which: str, times: range) -> Mapping[int, Point]:
        return points_of(
            self._ask(REQUESTS, ", response_code, grpc_response_status", which, times),
            self._ask("istio_request_duration_milliseconds_bucket", ", le", which, times),
            self._ask("istio_request_duration_milliseconds_sum", "", which, times),
        )

    @classmethod
    def _which(
        cls, namespace: str, reporter: str, workloads: Sequence[str], called: Sequence[str] = ()
    ) -> str:
        which = f'reporter="{_name(reporter, "reporter")}", {cls._workloads(namespace, workloads)}'
        return which + (
            f', destination_service_name=~"{"|".join(_name(name, "service") for name in called)}"'
            if called
            else ""
        )

    @staticmethod
    def _workloads(namespace: str, workloads: Sequence[str]) -> str:
        return (
            f'destination_workload_namespace="{_name(namespace, "namespace")}", '
            f'destination_workload=~"{"|".join(workload_pattern(name) for name in workloads)}"'
        )

    def _ask(self, metric: str, by: str, which: str, times: range) -> list[Series]:
        """What was last scraped of each replica, and of what else is named, by these times."""
        scraped = f"last_over_time({metric}{{{which}}}[{times.step}s])"
        once = f"max without ({', '.join(COPIES)}) ({scraped})"
        return self._api.range(f"sum by (pod, destination_workload{by}) ({once})", times)


def resolution(step: int, scrape_interval: float) -> int:
    """Whole seconds between two points: the longest that divides the step and is not longer than a scrape
    interval, at least 1."""
    return max(
        size for size in range(1, step + 1) if step % size == 0 and (size == 1 or size <= scrape_interval)
    )


def points_of(
    requests_total: Iterable[Series], buckets: Iterable[Series], sums: Iterable[Series]
) -> dict[int, dict[Replica, Sample]]:
    """The answers to the three queries, joined: what was scraped of each replica, by time. Raises Rejected
    for what is no count."""
    codes: dict[tuple[int, Replica], dict[tuple[str, str], int]] = {}
    within: dict[tuple[int, Replica], dict[float, int]] = {}
    durations: dict[tuple[int, Replica], float] = {}
    for labels, values in requests_total:
        replica, code = (
            _replica(labels),
            (labels.get("response_code", ""), labels.get("grpc_response_status", "")),
        )
        for at, value in values:
            codes.setdefault((round(at), replica), {})[code] = count_of(value, labels)
    for labels, values in buckets:
        replica, bound = _replica(labels), _bound(labels)
        for at, value in values:
            here = within.setdefault((round(at), replica), {})
            # Prometheus 3 writes le="10.0" where 2 wrote "10": for one window after an upgrade there are
            # both, the larger is the later.
            here[bound] = max(count_of(value, labels), here.get(bound, 0))
    for labels, values in sums:
        replica = _replica(labels)
        durations |= {(round(at), replica): _float(value) for at, value in values}
    points: dict[int, dict[Replica, Sample]] = {}
    for key in codes.keys() | within.keys():
        duration = durations.get(key)
        known = None if duration is None or not math.isfinite(duration) else duration
        points.setdefault(key[0], {})[key[1]] = Sample(codes.get(key, {}), within.get(key, {}), known)
    return points


def _by_source(series: Iterable[Series]) -> dict[int, dict[Replica, Sample]]:
    """What was scraped of each replica by time, its requests by caller (workload, namespace) where the ledger
    has them by code."""
    counts: dict[int, dict[Replica, dict[tuple[str, str], int]]] = {}
    for labels, values in series:
        source = labels.get("source_workload", ""), labels.get("source_workload_namespace", "")
        for at, value in values:
            counts.setdefault(round(at), {}).setdefault(_replica(labels), {})[source] = count_of(
                value, labels
            )
    return {
        at: {replica: Sample(requests) for replica, requests in count.items()} for at, count in counts.items()
    }


def count_of(text: str, labels: Labels) -> int:
    """A counter's value as an exact integer, also from "1.23e+06". Raises Rejected for NaN, infinity, a
    fraction or less than 0."""
    if text.isdecimal():
        return int(text)
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0 or value != value.to_integral_value():
        raise Rejected(
            f"a counter of pod {labels.get('pod')} must be a whole number, but Prometheus has {text!r} for "
            f"{dict(labels)}"
        )
    return int(value)


def fill(promql: str, target: Target, step: int) -> str | None:
    """A policy's query with its variables filled in; None when it asks for pods of a canary that there is
    none of, or for a service that is not known. Raises Rejected."""
    values = {
        "canary_pods": _any_of(target.canary) + _PODS if target.canary else None,
        "stable_pods": _any_of(target.stable) + _PODS,
        "namespace": _name(target.namespace, "namespace"),
        "service": _name(target.service, "service") if target.service else None,
        "window": f"{step}s",
    }
    names = [first or second for first, second in _VARIABLE.findall(promql)]
    if unknown := [name for name in names if name not in values]:
        raise Rejected(f"the query's variables are ${', $'.join(values)}, but it has ${unknown[0]}: {promql}")
    if any(values[name] is None for name in names):
        return None
    return _VARIABLE.sub(lambda found: str(values[found[1] or found[2]]), promql)


def _chunks(times: range) -> Iterable[range]:
    return (times[first : first + MOST_POINTS] for first in range(0, len(times), MOST_POINTS))


def _name(text: str, what: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise Rejected(f"a {what} must be a Kubernetes name (letters, digits, - and .), but is {text!r}")
    return text


def workload_pattern(name: str) -> str:
    """A workload's name as a regular expression that matches it alone. Raises Rejected for what is no
    name."""
    # [.] rather than \\.: it means the same in each kind of PromQL's quotes.
    return _name(name, "workload").replace(".", "[.]")


def _any_of(workloads: Sequence[str]) -> str:
    """A regular expression that matches each of these workloads' names and no other."""
    patterns = [workload_pattern(name) for name in workloads]
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def _sum_of(requests: Mapping[str, int], workloads: Sequence[str]) -> int:
    return sum(requests.get(name, 0) for name in workloads)


def _replica(labels: Labels) -> Replica:
    if not labels.get("pod"):
        raise Rejected(
            "Istio's metrics must have a label pod, by which canaryd distinguishes replicas, and here they "
            "have none: add it to Prometheus' scrape configuration (target_label: pod from "
            "__meta_kubernetes_pod_name)"
        )
    return labels.get("destination_workload", ""), labels["pod"]


def _bound(labels: Labels) -> float:
    try:
        return float(labels["le"])
    except (KeyError, ValueError) as error:
        raise Rejected(
            f"a bucket's le must be a number of milliseconds or +Inf, but the labels are {dict(labels)}"
        ) from error


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Rejected(f"a value must be a number, but Prometheus has {text!r}") from error
