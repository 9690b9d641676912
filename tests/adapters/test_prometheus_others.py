"""Telemetry that is not a sidecar's HTTP: gRPC statuses, other response codes, waypoints, and connections that are no requests.

The labels are as Istio writes them: a gRPC status is its number, and a waypoint's `pod` is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.prometheus.api import Access
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry, points_of
from canaryd.analysis.absence import told
from canaryd.domain.counts import Counts, Look, Target, total
from canaryd.domain.metrics import GRPC_FAILURES, HTTP_FAILURES
from canaryd.domain.ports import Presence
from canaryd.sandbox.mesh import Behaviour
from canaryd.sandbox.world import NAMESPACE, World
from tests.adapters.test_prometheus_counts import rest, split

START = 1_700_000_000.0
TARGET = Target(NAMESPACE, "front-end-v1", "front-end-v2", int(START), grpc_failures=GRPC_FAILURES, http_failures=HTTP_FAILURES)


@contextmanager
def a_world(ambient: bool = False, **behaviour: Any) -> Iterator[tuple[World, PrometheusTelemetry]]:
    """v1 and v2 with half of 200 requests/s each, for half a minute, all scraped."""
    answers = Behaviour(**{"errors": 0.2, **behaviour})
    world = World(rate=0, replicas=2, seed=9, realtime=False, start=START, stable=answers)
    world.mesh.ambient = ambient
    with world:
        world.deploy("v2", replicas=2, **{"errors": 0.2, **behaviour})
        world.advance(world.now + 20)
        split(world, 50)
        world.rate = 200
        world.advance(world.now + 30)
        yield world, PrometheusTelemetry(Access(world.prometheus_url, scrape_interval=world.scrape, timeout=10))


def counted(world: World, telemetry: PrometheusTelemetry, target: Target = TARGET) -> list[Look]:
    end = rest(world)
    return list(telemetry.read([target], target.since, end, 1)[target])


def sums(looks: list[Look]) -> Counts:
    return total(counts for look in looks for side in (look.stable, look.canary) for counts in side.values())


def truth(world: World) -> tuple[int, int]:
    return sum(one.requests for one in world.tally().values()), sum(one.failures for one in world.tally().values())


@pytest.mark.parametrize(("status", "fails"), [("2", True), ("4", True), ("5", False), ("8", False), ("14", True)])
def test_grpc_statuses_fail_by_the_default_set_under_http_200(status: str, fails: bool) -> None:
    with a_world(protocol="grpc", grpc_status=status) as (world, telemetry):
        found = sums(counted(world, telemetry))
        requests, failures = truth(world)
    assert failures > 500
    assert (found.requests, found.failures) == (requests, failures if fails else 0)


@pytest.mark.parametrize(("code", "codes", "fails"), [
    ("503", ("5xx",), True), ("429", ("5xx",), False), ("429", ("5xx", "429"), True), ("404", ("4xx",), True), ("0", ("5xx",), False),
    ("0", ("5xx", "0"), True), ("499", ("5xx",), False), ("500", ("503",), False),
])
def test_response_codes_fail_by_the_policys_set(code: str, codes: tuple[str, ...], fails: bool) -> None:
    with a_world(code=code) as (world, telemetry):
        found = sums(counted(world, telemetry, replace(TARGET, http_failures=codes)))
        requests, failures = truth(world)
    assert failures > 500
    assert (found.requests, found.failures) == (requests, failures if fails else 0)


def test_series_as_istio_has_them_of_grpc_and_http_are_one_request_each() -> None:
    def series(code: str, status: str | None, value: str) -> tuple[dict[str, str], list[tuple[float, str]]]:
        labels = {"pod": "a", "destination_workload": "front-end-v2", "response_code": code}
        return {**labels, **({"grpc_response_status": status} if status is not None else {})}, [(10.0, value)]

    points = points_of([series("200", "0", "7"), series("200", "14", "3"), series("503", None, "2"), series("503", "14", "1")], [], [])
    [sample] = points[10].values()
    assert sample.requests == {("200", "0"): 7, ("200", "14"): 3, ("503", ""): 2, ("503", "14"): 1}


def test_a_waypoint_counts_every_request_and_has_no_replicas() -> None:
    with a_world(ambient=True) as (world, telemetry):
        looks = counted(world, telemetry, replace(TARGET, reporter="waypoint"))
        requests, failures = truth(world)
        found = sums(looks)
        assert (found.requests, found.failures) == (requests, failures)
        assert {name for look in looks for name in (*look.stable, *look.canary)} == {"front-end-v1 (all)", "front-end-v2 (all)"}
        assert not any(look.sampled for look in counted(world, telemetry))
        end = int(world.now)
        assert telemetry.presence(TARGET, end - 60, end) == Presence(frozenset({"waypoint"}))
        assert "analysis.reporter to waypoint" in told(telemetry.presence(TARGET, end - 60, end), "destination", "front-end")


def test_sidecars_and_their_callers_are_both_found() -> None:
    with a_world() as (world, telemetry):
        counted(world, telemetry)
        end = int(world.now)
        assert telemetry.presence(TARGET, end - 60, end) == Presence(frozenset({"destination", "source"}))
        assert telemetry.presence(replace(TARGET, stable="carts-v1", canary=""), end - 60, end) == Presence()
        assert telemetry.presence(replace(TARGET, namespace="other"), end - 60, end) == Presence()


def test_a_tcp_service_has_connections_and_no_looks() -> None:
    with a_world(protocol="tcp") as (world, telemetry):
        assert not any(look.sampled for look in counted(world, telemetry))
        end = int(world.now)
        assert telemetry.presence(TARGET, end - 60, end) == Presence(frozenset(), connections=True)
