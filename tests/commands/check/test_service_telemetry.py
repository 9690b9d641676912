"""What Prometheus has of the service."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.check.finding import Level
from canaryd.commands.check.service_telemetry import COPIES, copies, interval
from canaryd.domain.check_facts import ServiceCounts
from tests.builders import a_policy
from tests.commands.check.facts import (
    KEY,
    a_service,
    a_world,
    an_object,
    bad,
    counted,
    only,
    scraped,
    telemetry,
)


def world(count: ServiceCounts, **changes: Any) -> Any:
    return a_world(telemetry=telemetry(count), **changes)


def test_a_prometheus_that_does_not_answer_is_not_known_and_one_that_refuses_is_a_problem() -> None:
    silent = only(a_world(telemetry=telemetry(problem="no answer", services={})), "telemetry.prometheus")
    assert silent.level is Level.UNKNOWN
    refusing = only(
        a_world(telemetry=telemetry(problem="HTTP 401", refused=True, services={})), "telemetry.prometheus"
    )
    assert refusing.level is Level.PROBLEM
    assert only(a_world(telemetry=None), "telemetry.prometheus").level is Level.UNKNOWN


def test_a_query_that_failed_leaves_the_service_not_known() -> None:
    assert only(world(ServiceCounts(problem="timeout")), "telemetry.requests").level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("count", "check", "says"),
    [
        (ServiceCounts(), "telemetry.requests", "no istio_requests_total at all"),
        (
            ServiceCounts(elsewhere=("staging/carts",)),
            "telemetry.requests",
            "there are counts of staging/carts",
        ),
        (
            ServiceCounts({("source", "front-end-v1"): 9.0}),
            "telemetry.reporter",
            "reporter destination counts nothing in the last 120 s, but source does",
        ),
        (
            ServiceCounts({("waypoint", "front-end-v1"): 9.0}),
            "telemetry.reporter",
            "but waypoint does (no sidecars",
        ),
        (
            ServiceCounts({("waypoint", "x"): 9.0, ("source", "x"): 9.0}),
            "telemetry.reporter",
            "but source, waypoint does",
        ),
    ],
)
def test_counts_that_are_not_there_are_told_with_whose_are(
    count: ServiceCounts, check: str, says: str
) -> None:
    found = only(world(count), check)
    assert found.level is Level.PROBLEM
    assert says in found.found


def test_counts_of_callers_alone_come_with_the_key_of_the_policy() -> None:
    found = only(world(ServiceCounts({("source", "front-end-v1"): 9.0})), "telemetry.reporter")
    assert found.mend.splitlines()[1:] == ["analysis:", "  reporter: source"]
    policy = a_policy(analysis={"reporter": "source"})
    own = counted(reporters={("source", "front-end-v1"): 9.0}, series=(scraped(reporter="source"),))
    assert bad(world(own, policy=policy)) == []


@pytest.mark.parametrize(
    "label", ["destination_workload", "destination_workload_namespace", "response_code", "reporter", "pod"]
)
def test_a_label_that_is_missing_is_named(label: str) -> None:
    found = only(world(counted(series=(scraped(), scraped(**{label: ""})))), "telemetry.labels")
    assert (found.level, label in found.found) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("every", "level"),
    [(15.0, None), (14.0, None), (20.0, None), (30.0, Level.WARNING), (5.0, Level.PROBLEM)],
)
def test_the_scrape_interval_is_measured_against_the_settings(every: float, level: Level | None) -> None:
    found = bad(world(counted(series=(scraped(every),))))
    assert [(one.check, one.level) for one in found] == ([("telemetry.interval", level)] if level else [])
    assert all(f"scrapeInterval: {every:.0f}s" in one.mend for one in found)


def test_of_less_than_three_scrapes_the_interval_is_not_known() -> None:
    assert only(world(counted(series=(scraped(number=2),))), "telemetry.interval").level is Level.UNKNOWN
    assert interval(()) is None


def test_a_counter_that_is_there_twice_is_told_and_one_after_the_other_is_not() -> None:
    found = only(world(counted(series=(scraped(), scraped(job="pods")))), "telemetry.copies")
    assert "stored 2 times, by job istio, job pods" in found.found
    assert copies((scraped(), scraped(response_code="500"))) == 0
    ended = scraped(instance="10.0.0.9:15020")
    before = type(ended)(ended.labels, tuple(at - 300 for at in ended.times))
    assert copies((scraped(), before)) == 0


def test_copies_differ_in_the_labels_that_the_daemon_merges() -> None:
    from canaryd.adapters.prometheus import telemetry as adapter

    assert COPIES == adapter.COPIES


def test_latency_that_is_asked_for_needs_a_histogram() -> None:
    found = only(world(counted(bounds=frozenset())), "telemetry.histogram")
    assert found.level is Level.PROBLEM
    errors = a_policy(analysis={"metrics": [{"errors": {}}]})
    assert bad(world(counted(bounds=frozenset(), sums=False), policy=errors)) == []
    assert only(world(counted(sums=False)), "telemetry.histogram").level is Level.WARNING


def test_grpc_needs_its_status() -> None:
    grpc = scraped(request_protocol="grpc")
    assert only(world(counted(series=(grpc,))), "telemetry.grpc").level is Level.PROBLEM
    assert bad(world(counted(series=(scraped(request_protocol="grpc", grpc_response_status="0"),)))) == []
    said = a_world({"Service": [a_service({"name": "grpc", "port": 80})]})
    assert only(said, "telemetry.grpc").level is Level.WARNING


def test_a_policy_s_queries_have_to_answer() -> None:
    found = bad(
        world(
            counted(
                queries={
                    "cpu": "",
                    "depth": "no value",
                    "heap": "the query must answer one number, but answers 3 series",
                }
            )
        )
    )
    assert [(one.about, one.level) for one in found] == [
        ("query depth", Level.WARNING),
        ("query heap", Level.PROBLEM),
    ]


def off(metric: str, disabled: Any = True, namespace: str = "production", **spec: Any) -> dict[str, Any]:
    override = {"match": {"metric": metric}, "disabled": disabled}
    return an_object("Telemetry", "quiet", {"metrics": [{"overrides": [override]}], **spec}, namespace)


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([off("REQUEST_COUNT")], True),
        ([off("ALL_METRICS", namespace="istio-system")], True),
        ([off("REQUEST_DURATION", {"value": True})], True),
        ([off("REQUEST_SIZE")], False),
        ([off("REQUEST_COUNT", False)], False),
        ([off("REQUEST_COUNT", namespace="other")], False),
        ([off("REQUEST_COUNT", selector={"matchLabels": {"app": "carts"}})], False),
        ([off("REQUEST_COUNT", selector={"matchLabels": {"app": "front-end"}})], True),
    ],
)
def test_metrics_that_istio_was_told_to_leave_out_are_told(objects: list[dict[str, Any]], told: bool) -> None:
    assert [one.check for one in bad(a_world({"Telemetry": objects}))] == (
        ["telemetry.disabled"] if told else []
    )


def test_what_was_not_asked_for_is_not_known() -> None:
    assert only(a_world(telemetry=telemetry(services={})), "telemetry.requests").level is Level.UNKNOWN
    assert KEY == ("production", "front-end")
