"""The real parts do what the other tests here rely on."""

from __future__ import annotations

import time
import urllib.request

import pytest

from tests.real.world import Outage, World, eventually

TOLERANCE = 0.06  # of a share, with about 400 requests: four standard deviations of 10%


def condition(world: World, deployment: str, kind: str) -> dict[str, str]:
    found = world.get("deployment", deployment).get("status", {}).get("conditions", [])
    return next((dict(c) for c in found if c["type"] == kind), {})


def served(world: World) -> int:
    return sum(pod["requests"] for pod in world.tally().values())


def split(world: World, v1: int, v2: int) -> None:
    """By hand: the subset first, the weights once Envoy has its endpoints.

    After an outage of the API server istiod may hear of the route before it hears of the pods, and a subset
    without pods answers 503.
    """
    rule = world.get("destinationrule", "front-end")
    rule["spec"]["subsets"] = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    world.apply(rule)
    eventually("Envoy has v2's endpoints", lambda: world.envoy_endpoints("v2"), every=0.02)
    host = "front-end.production.svc.cluster.local"
    service = world.get("virtualservice", "sockshop")
    service["spec"]["http"][0]["route"] = [
        {"destination": {"host": host, "subset": s}, "weight": w} for s, w in (("v1", v1), ("v2", v2))
    ]
    world.apply(service)


def test_a_deployment_becomes_available_and_its_pod_serves(world: World) -> None:
    world.deploy("v2", replicas=3)
    eventually(
        "front-end-v2 is available",
        lambda: condition(world, "front-end-v2", "Available").get("status") == "True",
    )
    eventually("three of v2 serve", lambda: len(world.serving().get("v2", [])) == 3)
    assert world.weights() == {"v1": 100}
    assert len(world.route()) == 1
    assert "weight" not in world.route()[0]


def test_a_crash_loop_misses_its_progress_deadline(world: World) -> None:
    world.deploy("v2", pod="crash-loop", deadline=2)
    eventually(
        "progress ends", lambda: condition(world, "front-end-v2", "Progressing").get("status") == "False"
    )
    assert condition(world, "front-end-v2", "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert condition(world, "front-end-v2", "Available")["status"] == "False"
    assert "v2" not in world.serving()


def test_a_weight_written_is_in_envoy_within_a_second_and_splits_the_requests(world: World) -> None:
    world.deploy("v2")
    eventually("v2 serves", lambda: "v2" in world.serving())
    split(world, 90, 10)
    eventually(
        "Envoy has 90/10", lambda: world.envoy_weights() == {"v1": 90, "v2": 10}, seconds=1.5, every=0.02
    )
    with world.load(100) as requests:
        time.sleep(4)
    answers = requests.result["version"]
    assert answers["v2"] / requests.result["sent"] == pytest.approx(0.1, abs=TOLERANCE)
    assert requests.result["status"] == {"200": requests.result["sent"]}


def test_prometheus_equals_the_tally_to_the_request_over_a_restart_and_scaling(world: World) -> None:
    world.deploy("v2", replicas=2)
    eventually("two of v2 serve", lambda: len(world.serving().get("v2", [])) == 2)
    split(world, 50, 50)
    eventually("Envoy has 50/50", lambda: world.envoy_weights() == {"v1": 50, "v2": 50})
    world.behaviour("v2", errors=0.1, burst=3, latency_ms=5, tail={"share": 0.02, "ms": 200})
    pods, before = world.serving(), served(world)
    with world.load(80) as requests:
        time.sleep(2)
        world.restart_pod(pods["v2"][0])
        world.kubectl("scale", "deployment/front-end-v1", "--replicas=2")
        eventually("two of v1 serve", lambda: len(world.serving()["v1"]) == 2)
        world.kubectl("scale", "deployment/front-end-v2", "--replicas=1")
        eventually(
            "one of v2 serves", lambda: {v: len(p) for v, p in world.serving().items()} == {"v1": 2, "v2": 1}
        )
        time.sleep(2)
    assert requests.result["unanswered"] == 0
    assert served(world) - before == requests.result["sent"]
    lived = {pod for serving in (pods, world.serving()) for each in serving.values() for pod in each}
    wanted = {
        pod: {"requests": t["requests"], "failures": t["failures"]}
        for pod, t in world.tally().items()
        if pod in lived
    }
    eventually(
        "the counters agree with the tally",
        lambda: {p: c for p, c in world.counted().items() if p in wanted} == wanted,
        seconds=8,
    )
    assert sum(t["failures"] for t in wanted.values()) == requests.result["status"]["503"] > 0


def test_requests_go_on_while_the_api_server_is_away_and_the_controllers_come_back_with_it(
    world: World,
) -> None:
    with world.load(50) as requests:
        with world.without_api():
            with pytest.raises(Outage, match="refused"):
                world.kubectl("get", "pods")
            time.sleep(2)
        assert world.weights() == {"v1": 100}
        world.deploy("v2")
        eventually("v2 serves after the outage", lambda: "v2" in world.serving(), seconds=60)
        split(world, 0, 100)
        eventually("Envoy follows after the outage", lambda: world.envoy_weights() == {"v2": 100})
    assert requests.result["status"] == {"200": requests.result["sent"]}


def test_prometheus_comes_back_with_what_it_knew(world: World) -> None:
    with world.load(50):
        time.sleep(2.5)
        with world.without_prometheus(), pytest.raises(OSError, match="refused"):
            world.query("up")
    tally = {
        pod: {"requests": world.tally()[pod]["requests"], "failures": 0} for pod in world.serving()["v1"]
    }
    eventually(
        "the counters agree with the tally",
        lambda: {p: c for p, c in world.counted().items() if p in tally} == tally,
        seconds=8,
    )


def test_alertmanager_tells_the_receiver_of_each_alert_once(world: World) -> None:
    alert = b'[{"labels": {"alertname": "CanaryRolledBack", "service": "front-end"}, "annotations": {"summary": "errors"}}]'  # noqa: E501
    for _ in range(3):
        request = urllib.request.Request(
            world.alertmanager + "/api/v2/alerts", data=alert, headers={"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=5).read()
    eventually("the receiver heard", lambda: world.receiver.alerts)
    time.sleep(2)  # two group intervals: it would have told again by now
    assert [a["labels"]["alertname"] for a in world.receiver.alerts] == ["CanaryRolledBack"]


def test_a_behaviour_that_no_one_knows_is_refused_by_name(real_cluster: World) -> None:
    with pytest.raises(Outage, match="v2: unknown: error_rate; wanted errors, burst"):
        real_cluster.behaviour("v2", error_rate=0.5)
