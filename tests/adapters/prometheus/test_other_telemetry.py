"""Telemetry that is not a sidecar's HTTP: gRPC statuses, other response codes, waypoints, and connections
that are no requests.

The labels are as Istio writes them: a gRPC status is its number, and a waypoint's `pod` is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry, points_of
from canaryd.domain.counts import Look, Target, total
from canaryd.domain.policy.metrics import GRPC_FAILURES, HTTP_FAILURES
from canaryd.domain.ports import Presence
from canaryd.report.missing_telemetry import describe
from canaryd_sandbox.mesh.mesh import Behaviour
from canaryd_sandbox.world import NAMESPACE, World
from tests.adapters.prometheus.test_telemetry_counts import rest, split

START = 1_700_000_000.0
TARGET = Target(
    NAMESPACE,
    ("front-end-v1",),
    ("front-end-v2",),
    int(START),
    grpc_failures=GRPC_FAILURES,
    http_failures=HTTP_FAILURES,
)


@contextmanager
def a_world(ambient: bool = False, **behaviour: Any) -> Iterator[Others]:
    """v1 and v2 with half of 200 requests/s each. What `served` and `looks_of` tell is of 15 s, after as many
    before, all scraped."""
    answers = Behaviour(**{"errors": 0.2, **behaviour})
    world = World(rate=200, replicas=1, seed=9, realtime=False, start=START, stable=answers)
    world.mesh.ambient = ambient
    with world:
        world.deploy("v2", replicas=1, **{"errors": 0.2, **behaviour})
        world.advance(world.now + 8)
        split(world, 50)
        world.advance(world.now + 8)
        start, before = rest(world), served(world)
        world.advance(world.now + 15)
        end, after = rest(world), served(world)
        telemetry = PrometheusTelemetry(
            PrometheusAccess(world.prometheus_url, scrape_interval=world.scrape, timeout=10)
        )
        yield Others(telemetry, start, end, (after[0] - before[0], after[1] - before[1]))


def served(world: World) -> tuple[int, int]:
    return sum(one.requests for one in world.tally().values()), sum(
        one.failures for one in world.tally().values()
    )


@dataclass
class Others:
    """A stretch of time, and the truth of it: requests and failures."""

    telemetry: PrometheusTelemetry
    start: int
    end: int
    truth: tuple[int, int]

    def looks_of(self, **fields: Any) -> list[Look]:
        target = replace(TARGET, since=self.start, **fields)
        return list(self.telemetry.read([target], self.start, self.end, 1)[target])

    def counted(self, **fields: Any) -> tuple[int, int]:
        looks = self.looks_of(**fields)
        found = total(
            counts for look in looks for side in (look.stable, look.canary) for counts in side.values()
        )
        return found.requests, found.failures

    def presence(self, **fields: Any) -> Presence:
        return self.telemetry.presence(replace(TARGET, since=self.start, **fields), self.start, self.end)


@pytest.mark.parametrize(("status", "fails"), [("4", True), ("5", False), ("14", True)])
def test_grpc_statuses_fail_by_the_default_set_under_http_200(status: str, fails: bool) -> None:
    with a_world(protocol="grpc", grpc_status=status) as world:
        requests, failures = world.truth
        assert failures > 200
        assert world.counted() == (requests, failures if fails else 0)
        assert world.counted(grpc_failures=("NOT_FOUND",)) == (requests, failures if status == "5" else 0)


@pytest.mark.parametrize(
    ("code", "sets"),
    [
        ("503", {("5xx",): True, ("500",): False, ("503", "4xx"): True}),
        ("429", {("5xx",): False, ("5xx", "429"): True, ("4xx",): True}),
        ("0", {("5xx",): False, ("5xx", "0"): True}),
    ],
)
def test_response_codes_fail_by_the_policys_set(code: str, sets: dict[tuple[str, ...], bool]) -> None:
    with a_world(code=code) as world:
        requests, failures = world.truth
        assert failures > 200
        assert {codes: world.counted(http_failures=codes) for codes in sets} == {
            codes: (requests, failures if fails else 0) for codes, fails in sets.items()
        }


def test_series_as_istio_has_them_of_grpc_and_http_are_one_request_each() -> None:
    def series(code: str, status: str | None, value: str) -> tuple[dict[str, str], list[tuple[float, str]]]:
        labels = {"pod": "a", "destination_workload": "front-end-v2", "response_code": code}
        return {**labels, **({"grpc_response_status": status} if status is not None else {})}, [(10.0, value)]

    points = points_of(
        [
            series("200", "0", "7"),
            series("200", "14", "3"),
            series("503", None, "2"),
            series("503", "14", "1"),
        ],
        [],
        [],
    )
    [sample] = points[10].values()
    assert sample.requests == {("200", "0"): 7, ("200", "14"): 3, ("503", ""): 2, ("503", "14"): 1}


def test_a_waypoint_counts_every_request_and_has_no_replicas() -> None:
    with a_world(ambient=True) as world:
        assert world.counted(reporter="waypoint") == world.truth
        names = {
            name for look in world.looks_of(reporter="waypoint") for name in (*look.stable, *look.canary)
        }
        assert names == {"front-end-v1 (all)", "front-end-v2 (all)"}
        assert not any(look.sampled for look in world.looks_of())
        assert world.presence() == Presence(frozenset({"waypoint"}))
        assert "analysis.reporter to waypoint" in describe(world.presence(), "destination", "front-end")


def test_sidecars_and_their_callers_are_both_found() -> None:
    with a_world() as world:
        assert world.presence() == Presence(frozenset({"destination", "source"}))
        assert world.presence(stable=("carts-v1",), canary=()) == Presence()
        assert world.presence(namespace="other") == Presence()


def test_a_tcp_service_has_connections_and_no_looks() -> None:
    with a_world(protocol="tcp") as world:
        assert not any(look.sampled for look in world.looks_of())
        assert world.presence() == Presence(connections=True)
