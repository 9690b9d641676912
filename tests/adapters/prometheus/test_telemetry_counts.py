"""The Prometheus adapter's counts, pod by pod, against the tally of the sandbox's application."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.domain.counts import Counts, Look, Target, total
from canaryd.domain.ports import Rejected, Unavailable
from canaryd_sandbox.kubernetes.resources import DESTINATIONRULES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Sample
from canaryd_sandbox.world import NAMESPACE, World


def split(world: World, canary: int) -> None:
    """Sends this per cent of the requests to v2."""
    rule = world.store.get(DESTINATIONRULES, NAMESPACE, "front-end")
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    world.store.replace(
        DESTINATIONRULES, NAMESPACE, "front-end", {**rule, "spec": {**rule["spec"], "subsets": subsets}}
    )
    service = world.virtualservice()
    host = service["spec"]["http"][0]["route"][0]["destination"]["host"]
    route = [
        {"destination": {"host": host, "subset": "v1"}, "weight": 100 - canary},
        {"destination": {"host": host, "subset": "v2"}, "weight": canary},
    ]
    world.store.replace(
        VIRTUALSERVICES,
        NAMESPACE,
        "sockshop",
        {**service, "spec": {**service["spec"], "http": [{"route": route}]}},
    )


@dataclass
class Played:
    """A rollout in the sandbox, played through: from when to when, and the truth by pod of what was served in
    between."""

    world: World
    start: int
    end: int
    truth: dict[str, tuple[int, int, tuple[int, ...]]]  # requests, failures, slower than each bound

    def telemetry(self) -> PrometheusTelemetry:
        return PrometheusTelemetry(
            PrometheusAccess(self.world.prometheus_url, scrape_interval=self.world.scrape, timeout=10)
        )

    def target(self, **fields: Any) -> Target:
        return Target(NAMESPACE, ("front-end-v1",), ("front-end-v2",), self.start, **fields)


def rest(world: World) -> int:
    """Lets all that was served be scraped; the whole second that follows."""
    rate, world.rate = world.rate, 0
    world.advance(math.ceil(world.now) + 3 * world.scrape)
    world.rate = rate
    return int(world.now)


@pytest.fixture(scope="module", params=["http", "grpc"])
def played(request: pytest.FixtureRequest) -> Iterator[Played]:
    """Births, first errors, restarts, a scale-up, a scale-down, a canary that comes and goes, and an outage
    of Prometheus."""
    with World(rate=200, replicas=3, seed=7, realtime=False, start=1_700_000_000.0) as world:
        world.set_behaviour("v1", errors=0.01, protocol=request.param)
        world.advance(world.now + 20)
        before_start = rest(world)
        before = world.tally()
        world.deploy("v2", replicas=2, errors=0.05, protocol=request.param)
        world.advance(world.now + 12)
        split(world, 25)
        world.advance(world.now + 15)
        world.restart(world.pods("v1")[0])
        world.restart(world.pods("v2")[0])
        world.advance(world.now + 14.3)
        world.scale("v1", 5)
        world.advance(world.now + 11.7)
        world.prometheus.faults.down = True
        world.advance(world.now + 9)
        world.prometheus.faults.down = False
        world.advance(world.now + 6)
        world.scale("v1", 2)
        world.scale("v2", 1)
        world.advance(world.now + 17)
        end = rest(world)
        truth = {}
        for pod, tally in world.tally().items():
            was = before.get(pod)
            slower = tuple(count - (was.slower[bound] if was else 0) for bound, count in tally.slower.items())
            truth[pod] = (
                tally.requests - (was.requests if was else 0),
                tally.failures - (was.failures if was else 0),
                slower,
            )
        yield Played(world, before_start, end + (before_start - end) % 60, truth)


def scraped_by_another_job_too(world: World) -> None:
    """From now on each counter is stored a second time, but in every fifth second."""
    append = world.prometheus.samples.append

    def both(now: float, samples: Iterable[Sample]) -> None:
        own = list(samples)
        copies = [
            (name, (*labels, ("job", "pods")), value)
            for name, labels, value in own
            if name != "up" and round(now) % 5
        ]
        append(now, [*own, *copies])

    world.prometheus.samples.append = both  # type: ignore[method-assign]


def test_counters_that_two_scrape_jobs_took_are_counted_once() -> None:
    with World(rate=100, replicas=2, seed=8, realtime=False, start=1_700_000_000.0) as world:
        scraped_by_another_job_too(world)
        world.advance(world.now + 10)
        start, before = rest(world), world.tally()
        world.advance(world.now + 12)
        world.restart(world.pods("v1")[0])
        world.advance(world.now + 12)
        end = rest(world)
        target = Target(NAMESPACE, ("front-end-v1",), (), start)
        telemetry = PrometheusTelemetry(
            PrometheusAccess(world.prometheus_url, scrape_interval=world.scrape, timeout=10)
        )
        counted = by_pod(list(telemetry.read([target], start, end, 1)[target]))
        served = {pod: tally.requests - before[pod].requests for pod, tally in world.tally().items()}
    assert {pod: requests for pod, (requests, _, _) in counted.items()} == served
    assert sum(served.values()) > 2000


def test_who_sent_the_requests_is_told_to_the_request_also_across_restarts() -> None:
    """The VirtualService is bound to a gateway alone: calls from inside the mesh go to the pods of both
    versions alike."""
    with World(rate=100, replicas=2, seed=9, realtime=False, start=1_700_000_000.0) as world:
        world.deploy("v2", replicas=2)
        world.mesh.inside = 40.0
        world.advance(world.now + 12)
        split(world, 10)
        world.advance(world.now + 5)
        inside, world.mesh.inside = world.mesh.inside, 0.0
        start, before = rest(world), world.tally()
        world.mesh.inside = inside
        world.advance(world.now + 15)
        world.restart(world.pods("v2")[0])
        world.advance(world.now + 15)
        world.mesh.inside = 0.0
        end = rest(world)
        served = {
            version: sum(
                tally.requests - before[pod].requests
                for pod, tally in world.tally().items()
                if tally.version == version
            )
            for version in ("v1", "v2")
        }
        target = Target(NAMESPACE, ("front-end-v1",), ("front-end-v2",), start)
        telemetry = PrometheusTelemetry(
            PrometheusAccess(world.prometheus_url, scrape_interval=world.scrape, timeout=10)
        )
        gateway, orders = telemetry.sources(target, start, end)
        assert telemetry.sources(target, end + 30, end + 60) == []
        assert telemetry.sources(replace(target, canary=()), start, end) == ()
    assert [(one.workload, one.namespace) for one in (gateway, orders)] == [
        ("istio-ingressgateway", "istio-system"),
        ("orders", NAMESPACE),
    ]
    assert {"v1": gateway.stable + orders.stable, "v2": gateway.canary + orders.canary} == served
    assert gateway.canary / (gateway.stable + gateway.canary) == pytest.approx(0.1, abs=0.02)
    # a pod less for some seconds
    assert orders.canary / (orders.stable + orders.canary) == pytest.approx(0.47, abs=0.06)


def by_pod(looks: list[Look]) -> dict[str, tuple[int, int, tuple[int, ...]]]:
    pods = {pod for look in looks for pod in (*look.stable, *look.canary)}
    counted = {
        pod: total(side[pod] for look in looks for side in (look.stable, look.canary) if pod in side)
        for pod in pods
    }
    return {pod: (counts.requests, counts.failures, counts.slower()) for pod, counts in counted.items()}


def sides(looks: list[Look]) -> tuple[int, int]:
    return (
        sum(counts.requests for look in looks for counts in look.stable.values()),
        sum(counts.requests for look in looks for counts in look.canary.values()),
    )


@pytest.mark.parametrize("step", [1, 2, 5, 10, 12, 60])
def test_counts_equal_the_applications_own_tally_pod_by_pod(played: Played, step: int) -> None:
    target = played.target(grpc_failures=("UNAVAILABLE",))
    looks = list(played.telemetry().read([target], played.start, played.end, step)[target])
    assert by_pod(looks) == played.truth
    assert sum(requests for requests, _, _ in played.truth.values()) > 10_000
    assert sum(failures for _, failures, _ in played.truth.values()) > 100
    assert all(
        counts.timed == counts.requests
        for look in looks
        for counts in (*look.stable.values(), *look.canary.values())
    )


def test_looks_read_live_equal_those_of_a_replay(played: Played) -> None:
    target, live, step = played.target(), played.telemetry(), 10
    seen: list[Look] = []
    for at in range(played.start, played.end - 30, step):
        seen += live.read([target], at, at + step, step)[target]
    # A second daemon: it reads in two spans, the second with what lies between them left out.
    replay = played.telemetry()
    first = replay.read([target], played.start, played.start + 40, step)[target]
    second = replay.read([target], played.start + 60, played.end - 30, step)[target]
    assert list(first) == seen[:4]
    assert list(second) == seen[6 : 6 + len(second)]


def test_a_failed_read_leaves_nothing_behind(played: Played) -> None:
    target, telemetry, step = played.target(grpc_failures=("UNAVAILABLE",)), played.telemetry(), 10
    looks: list[Look] = []
    for at in range(played.start, played.end, step):
        played.world.prometheus.faults.status(503, 1, lambda method, path: True)
        with pytest.raises(Unavailable):
            telemetry.read([target], at, at + step, step)
        looks += telemetry.read([target], at, at + step, step)[target]
    assert by_pod(looks) == played.truth


def test_an_outage_of_prometheus_leaves_looks_without_samples_and_loses_nothing(played: Played) -> None:
    target = played.target()
    looks = list(played.telemetry().read([target], played.start, played.end, 2)[target])
    dark = [look for look in looks[: len(looks) // 2 + 30] if not look.sampled]
    assert len(dark) >= 3
    assert all(look.stable == look.canary == {} for look in dark)


def test_by_the_source_workloads_are_counted_as_one_replica_each(played: Played) -> None:
    target = played.target(reporter="source")
    looks = list(played.telemetry().read([target], played.start, played.end, 10)[target])
    assert {pod for look in looks for pod in (*look.stable, *look.canary)} == {
        "front-end-v1 (all)",
        "front-end-v2 (all)",
    }
    canary = sum(
        requests for pod, (requests, _, _) in played.truth.items() if pod.startswith("front-end-v2-")
    )
    assert sides(looks) == (sum(requests for requests, _, _ in played.truth.values()) - canary, canary)


def test_pods_born_in_mid_rollout_are_first_seen_then_and_older_ones_before_it(played: Played) -> None:
    target = played.target()
    looks = list(played.telemetry().read([target], played.start, played.end, 5)[target])
    seen = {pod: at for look in looks for pod, at in look.first_seen.items()}
    older = set(looks[0].stable)
    assert (len(older), len(seen)) == (3, 7)
    assert {pod for pod, at in seen.items() if at <= played.start} == older
    # The two of the canary within three looks of its first requests, which came 12 s after the start.
    assert all(
        12 < at - played.start <= 12 + 15 for pod, at in seen.items() if pod.startswith("front-end-v2-")
    )


def test_a_partial_answer_of_the_sandbox_is_unavailable(played: Played) -> None:
    played.world.prometheus.faults.partial = True
    try:
        with pytest.raises(Unavailable, match="answered in part"):
            played.telemetry().read([played.target()], played.start, played.start + 10, 10)
    finally:
        played.world.prometheus.faults.partial = False


def test_the_sandboxes_cpu_can_be_measured(played: Played) -> None:
    values = played.telemetry().measure(
        played.target(), 'max(sandbox_cpu{pod=~"$stable_pods"})', played.start, played.start + 30, 10
    )
    assert len(values) == 3
    assert all(value is not None and 0.1 < value < 1 for value in values)


def test_a_query_that_is_refused_is_rejected(played: Played) -> None:
    with pytest.raises(Rejected, match="refused the query"):
        played.telemetry().measure(
            played.target(), "rate(sandbox_cpu[1m])", played.start, played.start + 30, 10
        )


def test_the_sandbox_can_be_checked(played: Played) -> None:
    assert played.telemetry().check()


def test_counts_have_no_traffic_where_there_is_none(played: Played) -> None:
    target = played.target()
    looks = played.telemetry().read([target], played.end - 30, played.end - 20, 10)[target]
    assert all(counts == Counts(within=(0,) * len(looks[0].bounds)) for counts in looks[0].stable.values())
