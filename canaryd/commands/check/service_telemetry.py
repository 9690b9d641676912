"""What Prometheus has of a service: is it there, in whose counts, with the labels that canaryd counts by, and
how often."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from canaryd.commands.check import alert_rules
from canaryd.commands.check.control_plane import skew
from canaryd.commands.check.finding import Finding, as_yaml, many, ok, problem, some, unknown, warning
from canaryd.commands.check.workloads import of_service, protocol
from canaryd.domain.check_facts import (
    Facts,
    Object,
    ScrapedSeries,
    ServiceCounts,
    TelemetryFacts,
    name_of,
    namespace_of,
    spec_of,
)
from canaryd.domain.policy.policy import Policy

# Labels that two scrapes of one counter may differ in; as adapters/prometheus/telemetry.py merges them.
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
NEEDED = ("destination_workload", "destination_workload_namespace", "response_code", "reporter")
ROOT = "istio-system"  # where a Telemetry object is about the whole mesh


def check_all(facts: Facts) -> Iterator[Finding]:
    """Prometheus itself."""
    telemetry = facts.telemetry
    if telemetry is None:
        yield unknown(
            "telemetry.prometheus",
            "Prometheus",
            "not asked: its address is not known",
            "--config config/canaryd.yaml, or --prometheus URL",
        )
        return
    about = f"Prometheus at {telemetry.url}"
    if telemetry.problem:
        say = problem if telemetry.refused else unknown
        yield say(
            "telemetry.prometheus",
            about,
            telemetry.problem.removeprefix(f"{about} "),
            "an answer to a query",
            f"curl -i '{telemetry.url}/api/v1/query?query=up'",
        )
        return
    yield ok("telemetry.prometheus", about, f"answers, version {telemetry.version}")
    yield from skew("telemetry.clock", "Prometheus' clock", telemetry.clock, telemetry.asked)


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on what Prometheus has of a service."""
    yield from _switched_off(facts, policy)
    telemetry = facts.telemetry
    if telemetry is None or telemetry.problem:
        return
    counted = telemetry.services.get(policy.key)
    if counted is not None and counted.alerts is not None and policy.analysis.alerts is not None:
        yield from alert_rules.check(policy.analysis.alerts, counted.alerts)
    about = f"istio_requests_total of {policy.service.name}"
    if counted is None or counted.problem:
        yield unknown("telemetry.requests", about, counted.problem if counted else "it was not asked for")
        return
    if not _there(policy, counted):
        yield _nothing(policy, counted, telemetry, about)
        return
    yield ok(
        "telemetry.requests",
        about,
        f"reporter {policy.analysis.reporter} counts {some(_workloads(policy, counted))}",
    )
    yield from _labels(policy, counted, about)
    yield from _scrapes(counted, telemetry, about)
    yield from _histogram(policy, counted)
    yield from _grpc(facts, policy, counted)
    yield from _queries(counted)


def _there(policy: Policy, counted: ServiceCounts) -> bool:
    return any(reporter == policy.analysis.reporter for reporter, _ in counted.reporters)


def _workloads(policy: Policy, counted: ServiceCounts) -> list[str]:
    return sorted(
        workload for reporter, workload in counted.reporters if reporter == policy.analysis.reporter
    )


def _nothing(policy: Policy, counted: ServiceCounts, telemetry: TelemetryFacts, about: str) -> Finding:
    """Why there is nothing in the policy's counts: another's has it, another service has it, or nobody
    does."""
    wanted, reporters = policy.analysis.reporter, sorted({reporter for reporter, _ in counted.reporters})
    within = f"in the last {telemetry.window:.0f} s"
    if reporters:
        other = next(
            (reporter for reporter in ("waypoint", "source", "destination") if reporter in reporters),
            reporters[0],
        )
        return problem(
            "telemetry.reporter",
            about,
            f"reporter {wanted} counts nothing {within}, but {', '.join(reporters)} does"
            + (
                " (callers without a proxy?)"
                if other == "destination"
                else " (no sidecars at the pods: ambient?)"
            ),
            f"counts of {wanted}",
            as_yaml({"analysis": {"reporter": other}}, "in the policy"),
        )
    if counted.elsewhere:
        return problem(
            "telemetry.requests",
            about,
            f"nothing {within}; there are counts of {some(list(counted.elsewhere))}",
            "requests to a service in the mesh",
            "# send it a request through the gateway, and see that its pods have sidecars",
        )
    return problem(
        "telemetry.requests",
        about,
        f"Prometheus has no istio_requests_total at all {within}",
        "scrapes of the proxies: port 15020, path /stats/prometheus",
        "https://istio.io/latest/docs/ops/integrations/prometheus/",
    )


def _labels(policy: Policy, counted: ServiceCounts, about: str) -> Iterator[Finding]:
    missing = [label for label in NEEDED if any(not series.labels.get(label) for series in counted.series)]
    if missing:
        yield problem(
            "telemetry.labels",
            about,
            f"some series have no {some(missing)}",
            "the labels by which canaryd distinguishes requests",
            "kubectl get telemetries.telemetry.istio.io -A -o yaml   # a tagOverride that removes them?",
        )
    if any(not series.labels.get("pod") for series in counted.series):
        yield problem(
            "telemetry.labels",
            about,
            "series have no label pod, by which canaryd distinguishes replicas",
            "pod on each",
            as_yaml(
                [{"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}],
                "in relabel_configs of the scrape job",
            ),
        )
    elif not missing:
        yield ok(
            "telemetry.labels",
            about,
            f"has {', '.join((*NEEDED[:1], NEEDED[2], 'pod'))} on each of "
            f"{many(len(counted.series), 'series')}".replace("seriess", "series"),
        )
    workloads = {name for reporter, name in counted.reporters if reporter == policy.analysis.reporter}
    if workloads == {"unknown"}:
        yield problem(
            "telemetry.labels",
            about,
            "the workload is always `unknown`",
            "destination_workload with the Deployment's name",
        )


def _scrapes(counted: ServiceCounts, telemetry: TelemetryFacts, about: str) -> Iterator[Finding]:
    real, configured = interval(counted.series), telemetry.scrape_interval
    if real is None:
        yield unknown(
            "telemetry.interval",
            about,
            f"scraped less than three times in {telemetry.window:.0f} s, so the interval is not known",
            f"a scrape every {configured:g} s (the settings' prometheus.scrapeInterval)",
        )
    elif real < 0.9 * configured:
        yield problem(
            "telemetry.interval",
            about,
            f"scraped every {real:.3g} s, but prometheus.scrapeInterval is {configured:g}s: a restart "
            "between two scrapes in one window can be misread",
            "a scrapeInterval that is not longer than the real one",
            as_yaml(
                {"prometheus": {"scrapeInterval": f"{max(1, int(real + 0.1))}s"}}, "in config/canaryd.yaml"
            ),
        )
    elif real > 1.5 * configured:
        yield warning(
            "telemetry.interval",
            about,
            f"scraped every {real:.3g} s, but prometheus.scrapeInterval is {configured:g}s: looks wait less "
            "than a scrape takes to arrive",
            "the real one",
            as_yaml({"prometheus": {"scrapeInterval": f"{round(real)}s"}}, "in config/canaryd.yaml"),
        )
    else:
        yield ok(
            "telemetry.interval", about, f"scraped every {real:.3g} s, as prometheus.scrapeInterval says"
        )
    twice = copies(counted.series)
    if twice:
        yield warning(
            "telemetry.copies",
            about,
            f"each counter is stored {twice} times, by {some(_jobs(counted.series))}: canaryd counts it once",
            "one scrape job for the proxies",
        )


def interval(series: Sequence[ScrapedSeries]) -> float | None:
    """Median seconds between two samples of a series, by those with at least three; None where there are
    none."""
    gaps = [
        later - before
        for scraped in series
        if len(scraped.times) >= 3
        for before, later in zip(scraped.times, scraped.times[1:], strict=False)
    ]
    return median(gaps) if gaps else None


def copies(series: Sequence[ScrapedSeries]) -> int:
    """How often the same counter is there, where that is more than once; else 0. Series that follow each
    other are no copies."""
    alive = max((scraped.times[-1] for scraped in series if scraped.times), default=0.0)
    now = [
        scraped
        for scraped in series
        if scraped.times and scraped.times[-1] >= alive - 2 * (interval([scraped]) or 0.0)
    ]
    found = Counter(
        tuple(sorted((key, value) for key, value in scraped.labels.items() if key not in COPIES))
        for scraped in now
    )
    most = max(found.values(), default=1)
    return most if most > 1 else 0


def _jobs(series: Sequence[ScrapedSeries]) -> list[str]:
    by = "job" if len({scraped.labels.get("job") for scraped in series}) > 1 else "prometheus_replica"
    return sorted({f"{by} {scraped.labels.get(by)}" for scraped in series if scraped.labels.get(by)}) or [
        "labels such as instance"
    ]


def _histogram(policy: Policy, counted: ServiceCounts) -> Iterator[Finding]:
    about = "istio_request_duration_milliseconds"
    if policy.analysis.latency is None:
        return
    if not counted.bounds:
        yield problem(
            "telemetry.histogram",
            about,
            "there is no _bucket of it, and the policy compares latency: no stage would pass",
            "the histogram, or a policy without latency",
            "kubectl get telemetries.telemetry.istio.io -A -o yaml   # is REQUEST_DURATION disabled? or "
            "dropped when scraped?",
        )
    elif not counted.sums:
        yield warning(
            "telemetry.histogram",
            about,
            f"{len(counted.bounds)} buckets, but no _sum: means are not compared",
            "both",
        )
    else:
        yield ok("telemetry.histogram", about, f"{len(counted.bounds)} buckets and a sum")


def _grpc(facts: Facts, policy: Policy, counted: ServiceCounts) -> Iterator[Finding]:
    about = f"istio_requests_total of {policy.service.name}"
    grpc = [series for series in counted.series if series.labels.get("request_protocol") == "grpc"]
    service = facts.find("Service", policy.service.namespace, policy.service.name)
    if not grpc:
        if service and any(protocol(port).startswith("grpc") for port in spec_of(service).get("ports") or []):
            yield warning(
                "telemetry.grpc",
                about,
                "the Service says gRPC, and no request counted is gRPC",
                "request_protocol grpc",
            )
    elif any("grpc_response_status" not in scraped.labels for scraped in grpc):
        yield problem(
            "telemetry.grpc",
            about,
            "gRPC requests have no grpc_response_status: a gRPC failure has response_code 200, and would "
            "not be seen",
            "grpc_response_status on each",
            "kubectl get telemetries.telemetry.istio.io -A -o yaml   # a tagOverride that removes it?",
        )
    else:
        yield ok("telemetry.grpc", about, "gRPC requests have their grpc_response_status")


def _queries(counted: ServiceCounts) -> Iterator[Finding]:
    for name, why in counted.queries.items():
        if not why:
            yield ok("telemetry.queries", f"query {name}", "has a value")
        elif why == "no value":
            yield warning(
                "telemetry.queries",
                f"query {name}",
                "has no value now: no stage would pass without one",
                "a number",
            )
        else:
            yield problem("telemetry.queries", f"query {name}", why, "one number for each version")


def _switched_off(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """Istio's Telemetry API can take metrics away."""
    if facts.of("Telemetry").problem:
        yield unknown(
            "telemetry.disabled",
            "Istio's Telemetry objects",
            f"not all can be listed: {facts.of('Telemetry').problem}",
        )
    for telemetry in facts.of("Telemetry").items:
        if namespace_of(telemetry) not in (policy.service.namespace, ROOT):
            continue
        overrides = [
            override
            for metrics in spec_of(telemetry).get("metrics") or []
            for override in metrics.get("overrides") or []
        ]
        off = {
            str((override.get("match") or {}).get("metric") or "ALL_METRICS")
            for override in overrides
            if _is_off(override)
        }
        counts = sorted(off & {"ALL_METRICS", "REQUEST_COUNT", "REQUEST_DURATION"})
        if counts and _concerns(telemetry, facts, policy):
            yield problem(
                "telemetry.disabled",
                f"Telemetry {namespace_of(telemetry)}/{name_of(telemetry)}",
                f"it disables {', '.join(counts)}",
                "REQUEST_COUNT, and REQUEST_DURATION for latency",
                f"kubectl -n {namespace_of(telemetry)} edit telemetry {name_of(telemetry)}   # take "
                "`disabled: true` out",
            )


def _is_off(override: Object) -> bool:
    off = override.get("disabled")
    return off is True or (isinstance(off, dict) and off.get("value") is True)


def _concerns(telemetry: Object, facts: Facts, policy: Policy) -> bool:
    """Whether its selector takes pods of this service; without one it is about all."""
    selector = dict((spec_of(telemetry).get("selector") or {}).get("matchLabels") or {})
    if not selector:
        return True
    labels = [
        dict((spec_of(deployment).get("template") or {}).get("metadata", {}).get("labels") or {})
        for deployment in of_service(facts, policy)
    ]
    return any(selector.items() <= label.items() for label in labels)
