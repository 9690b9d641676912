"""The Prometheus API's own manners: who is let in, partial answers, outages, and how values are written."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
import requests

from canaryd_sandbox.prometheus.api import moment, seconds, written
from canaryd_sandbox.world import World

REQUESTS = 'sum by (pod, response_code) (last_over_time(istio_requests_total{reporter="destination"}[1s]))'


def ask(world: World, query: str = "up", **headers: str) -> requests.Response:
    return requests.get(
        f"{world.prometheus_url}/api/v1/query", params={"query": query}, headers=headers, timeout=2
    )


def test_a_query_without_a_time_is_answered_for_the_worlds_present(world: World) -> None:
    assert ask(world).json()["data"]["result"][0]["value"] == [round(world.now, 3), "1"]


def test_basic_auth_a_bearer_token_and_a_tenant_can_be_asked_for(world: World) -> None:
    faults = world.prometheus.faults
    faults.basic = ("me", "secret")
    assert ask(world).status_code == 401
    assert requests.get(
        f"{world.prometheus_url}/api/v1/query", params={"query": "up"}, auth=("me", "secret"), timeout=2
    ).ok
    faults.clear()
    faults.bearer = "token"
    assert ask(world, Authorization="Bearer other").status_code == 401
    assert ask(world, Authorization="Bearer token").ok
    faults.tenant = "shop"
    assert ask(world, Authorization="Bearer token").status_code == 401
    assert ask(world, Authorization="Bearer token", **{"X-Scope-OrgID": "shop"}).ok
    faults.clear()
    assert ask(world).ok


def test_a_partial_answer_carries_warnings(world: World) -> None:
    assert "warnings" not in ask(world).json()
    world.prometheus.faults.partial = True
    answer = ask(world).json()
    assert (answer["status"], len(answer["warnings"])) == ("success", 1)


def test_an_unsupported_query_is_told_what_is_supported(world: World) -> None:
    answer = ask(world, "rate(istio_requests_total[5m])")
    assert (answer.status_code, answer.json()["status"]) == (422, "error")
    assert "the function rate; it answers METRIC{matchers}" in answer.json()["error"]


def test_readiness_can_be_asked_and_an_unknown_page_is_not_there(world: World) -> None:
    assert requests.get(world.prometheus_url + "/-/ready", timeout=2).ok
    assert requests.get(world.prometheus_url + "/api/v1/series", timeout=2).status_code == 404


def test_an_outage_leaves_a_gap_and_no_stale_mark(world: World) -> None:
    world.prometheus.faults.down = True
    world.advance(world.now + 30)
    gone = world.pods("v1")[0]
    world.scale("v1", 2)
    world.advance(world.now + 10)
    world.prometheus.faults.down = False
    world.advance(world.now + 5)
    times = [t for t, _ in ask(world, "up[60s]").json()["data"]["result"][0]["values"]]
    assert max(later - earlier for earlier, later in pairwise(times)) >= 39
    assert gone  # the pod that went while nobody looked still has its last value for five minutes
    assert len(ask(world, 'count by (pod) (sandbox_cpu{version="v1"})').json()["data"]["result"]) == 3


def test_the_custom_query_follows_the_behaviour(world: World) -> None:
    world.set_behaviour("v1", cpu=0.9)
    world.advance(world.now + 2)
    pods = "|".join(world.pods("v1"))
    value = float(ask(world, f'max(sandbox_cpu{{pod=~"{pods}"}})').json()["data"]["result"][0]["value"][1])
    assert value == pytest.approx(0.9, abs=0.25)


def test_differences_of_the_scraped_counters_add_up_to_the_tally(world: World) -> None:
    """Births, a drained restart and a scale-down in the window; per series, a fall is a reset and everything
    before it was counted."""
    world.set_behaviour("v1", errors=0.05)
    start = world.now
    world.advance(start + 5)
    world.scale("v1", 4)
    world.advance(start + 10)
    world.restart(world.pods("v1")[0])
    world.advance(start + 20)
    world.scale("v1", 2)
    world.advance(start + 30)
    world.rate = 0.0
    world.advance(start + 32)
    answer = requests.get(
        f"{world.prometheus_url}/api/v1/query_range",
        params={"query": REQUESTS, "start": start, "end": world.now, "step": 1},
        timeout=5,
    ).json()
    counted: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in answer["data"]["result"]:
        before = 0.0
        for _, text in row["values"]:
            value = float(text)
            gained = value - before if value >= before else value
            counted[row["metric"]["pod"]][0] += gained
            counted[row["metric"]["pod"]][1] += gained * (row["metric"]["response_code"] == "503")
            before = value
    truth: dict[str, Any] = {pod: [t.requests, t.failures] for pod, t in world.tally().items()}
    assert counted == truth
    assert len(truth) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (0.1 + 0.2, "0.30000000000000004"),
        (-2.0, "-2"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_values_are_written_as_prometheus_writes_them(value: float, text: str) -> None:
    assert written(value) == text


def test_times_and_steps_are_read_as_prometheus_reads_them() -> None:
    assert moment("1700000000.1234", "time") == 1700000000.123
    assert moment("2023-11-14T22:13:20Z", "time") == 1700000000
    assert (seconds("15"), seconds("1m30s"), seconds("500ms")) == (15, 90, 0.5)
