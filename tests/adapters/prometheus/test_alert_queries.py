"""Alerts asked of Prometheus: a query of any number of series, and what `canaryd check` wants to know of
rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry_facts import PrometheusFacts
from canaryd.domain.check_facts import AlertFacts
from canaryd.domain.policy.alerts import Alerts
from canaryd.domain.ports import Rejected
from canaryd.domain.series_values import labels_text
from tests.adapters.prometheus.test_telemetry import (
    EMPTY,
    NAMESPACE,
    TARGET,
    Asked,
    Stub,
    a_stub,
    a_telemetry,
)
from tests.builders import a_policy

SINCE = TARGET.since
FRONT_END = replace(TARGET, service="front-end")
SLOW = {"alertname": "HighLatency", "severity": "page"}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with a_stub() as one:
        yield one


def fires(values: Mapping[int, str], **labels: str) -> dict[str, Any]:
    return {"metric": {**SLOW, **labels}, "values": [[at, value] for at, value in values.items()]}


def answers(stub: Stub, *series: dict[str, Any]) -> None:
    stub.says(200, {"status": "success", "data": {"resultType": "matrix", "result": list(series)}})


def measured(stub: Stub, matching: str = 'severity="page"') -> list[Any]:
    promql = Alerts(matching=(matching,)).promql
    return list(a_telemetry(stub).measure_each(FRONT_END, promql, SINCE, SINCE + 30, 10))


def test_each_series_has_its_value_at_each_look_in_which_it_is_there(stub: Stub) -> None:
    answers(
        stub,
        fires({SINCE + 10: "1700000007", SINCE + 20: "1.700000017e+09"}),
        fires({SINCE + 30: "NaN"}, pod="a"),
    )
    assert measured(stub) == [{labels_text(SLOW): 1700000007.0}, {labels_text(SLOW): 1700000017.0}, {}]


def test_no_series_is_an_answer(stub: Stub) -> None:
    assert measured(stub) == [{}, {}, {}]


def test_variables_are_filled_in_and_nothing_else(stub: Stub) -> None:
    measured(stub, 'service="$service",pod=~"$canary_pods",summary=~"5\\\\$|\\"a\\""')
    (asked,) = stub.asked
    assert asked.form["query"] == (
        "max without (alertstate, prometheus_replica, replica) (timestamp(ALERTS{"
        'service="front-end",pod=~"front-end-v2-[a-z0-9]+-[a-z0-9]+",summary=~"5\\\\$|\\"a\\"",'
        'namespace="production",alertstate="firing"}))'
    )


def test_a_service_that_is_not_known_is_refused_and_not_taken_for_any(stub: Stub) -> None:
    promql = Alerts(matching=('service="$service"',)).promql
    with pytest.raises(Rejected, match="something that this rollout has not"):
        a_telemetry(stub).measure_each(TARGET, promql, SINCE, SINCE + 30, 10)


# ---------------------------------------------------------------- check


def found(stub: Stub, rules: Any) -> AlertFacts | None:
    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.path == "/api/v1/rules":
            return rules
        firing = "timestamp(ALERTS" in asked.form.get("query", "") and asked.path.endswith("query_range")
        at = int(float(asked.form["end"])) if firing else 0
        result = [fires({at: str(at - 3)}, namespace=NAMESPACE)] if firing else []
        return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}

    stub.answer = answer
    policy = a_policy(analysis={"interval": "10s", "alerts": {"matching": 'severity="page"'}})
    facts = PrometheusFacts(PrometheusAccess(stub.url, scrape_interval=5.0, timeout=5.0))
    look = facts.look([(policy, ["front-end-v1"])], 1_700_000_000.0)
    facts.close()
    return look.services[policy.key].alerts


def test_what_fires_and_which_rules_there_are(stub: Stub) -> None:
    rules = [
        {"type": "alerting", "name": "HighLatency", "labels": {"severity": "page"}},
        {"type": "recording", "name": "job:rate"},
        {"type": "alerting", "name": "Down"},
    ]
    said = found(stub, (200, {"status": "success", "data": {"groups": [{"rules": rules}]}}))
    assert said == AlertFacts(
        ("HighLatency (namespace=production, severity=page)",),
        ({"alertname": "HighLatency", "severity": "page"}, {"alertname": "Down"}),
    )


@pytest.mark.parametrize("rules", [(404, EMPTY), (200, EMPTY), (500, {})])
def test_a_store_without_rules_says_nothing_of_them(stub: Stub, rules: Any) -> None:
    said = found(stub, rules)
    assert said is not None
    assert said.rules is None
