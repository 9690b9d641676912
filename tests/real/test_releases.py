"""The use case on real parts, canaryd as a process of its own: versions are applied, nothing else is touched
by hand.

Policies count in seconds, so that these tests take minutes; the chances of a decision are the same, over
fewer looks.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.real.daemon import ENDS_WITHIN, WEBHOOK_SECRET, Canaryd, settings
from tests.real.world import Outage, World, eventually

RATE = 100.0  # requests/s through the ingress
HEALTHY: dict[str, Any] = {"errors": 0.01, "latency_ms": 20, "sigma": 0.4}
ENDED = ("Succeeded", "RolledBack", "Superseded")
# s in which a rollout must end: a minute as a rule, minutes where a busy machine makes blocks of looks long
# and chance holds it once.
ENDS = 420
# s: longer than that test's deadline of a stage, at which nothing may advance either, and than noDataFor
OUTAGE = 12


_OWN = '{reporter="destination", namespace="$namespace", pod=~"$canary_pods"}'
MEAN_LATENCY = {
    "name": "mean-latency",
    "compare": "higher-is-worse",
    "tolerated": "50%",
    "promql": f"sum(rate(istio_request_duration_milliseconds_sum{_OWN}[5s])) "
    f"/ sum(rate(istio_request_duration_milliseconds_count{_OWN}[5s]))",
}


ANALYSIS = {"interval": "1s", "warmup": "2s", "minimumRequests": 30, "noDataFor": "10s"}
BY_ERRORS = {
    **ANALYSIS,
    "metrics": [{"errors": {}}],
}  # where latency is not the point, which is also how busy this machine is


def a_policy(**changes: Any) -> dict[str, Any]:
    return {
        "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
        "route": {"virtualService": "sockshop"},
        "stages": [{"weight": w, "minimum": "4s", "deadline": "12s"} for w in (10, 25, 50, 100)],
        "analysis": ANALYSIS,
        "hooks": [
            {"on": ["rolled_back"], "notify": "oncall"},
            {"on": ["started", "rolled_back", "succeeded"], "notify": "audit"},
        ],
        **changes,
    }


class Route:
    """What the VirtualService says over time, read from the API server a few times a second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[dict[str, Any]] = []  # each spec that differs from the one before
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stopped.wait(0.2):
            try:
                spec = self.world.get("virtualservice", "sockshop")["spec"]
            except Outage:
                continue  # stopped by the test
            if not self.seen or self.seen[-1] != spec:
                self.seen.append(spec)

    def weights(self, subset: str) -> list[int]:
        """The subset's share, each change of it."""
        shares: list[int] = []
        for spec in self.seen:
            route = spec["http"][-1]["route"]
            by_subset = {
                one["destination"]["subset"]: one.get("weight", 100 if len(route) == 1 else 0)
                for one in route
            }
            share = by_subset.get(subset, 0)
            if not shares or shares[-1] != share:
                shares.append(share)
        return shares

    def rest(self) -> list[Any]:
        """Every spec without the steered `route` list."""
        return [
            {**spec, "http": [{k: v for k, v in http.items() if k != "route"} for http in spec["http"]]}
            for spec in self.seen
        ]


@contextmanager
def watching(world: World) -> Iterator[Route]:
    route = Route(world)
    route.thread.start()
    try:
        yield route
    finally:
        route.stopped.set()
        route.thread.join()


def rollout_of(daemon: Canaryd, version: str) -> dict[str, Any]:
    """`canaryd explain -o json` of the version's rollout."""
    return dict(
        json.loads(daemon.cli("explain", name_of(daemon, version), "--namespace", "production", "-o", "json"))
    )


def name_of(daemon: Canaryd, version: str) -> str:
    found = [rollout["name"] for rollout in daemon.status()["rollouts"] if rollout["canary"] == version]
    if not found:
        raise LookupError(f"no rollout of {version} yet")
    return str(found[-1])


def phase_of(world: World, version: str) -> str:
    found = [item for item in world.get("canaryrollouts")["items"] if item["spec"]["version"] == version]
    if not found:
        raise LookupError(f"no rollout of {version} yet")
    return str(found[-1].get("status", {}).get("phase", ""))


def not_ready(daemon: Canaryd) -> bool:
    try:
        urllib.request.urlopen(f"{daemon.url}/readyz", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 503
    return False


def ends_as(world: World, daemon: Canaryd, version: str, phase: str, seconds: float = ENDS) -> None:
    try:
        eventually(f"{version} ends", lambda: phase_of(world, version) in ENDED, seconds, every=0.3)
    except AssertionError as late:
        late.add_note(explained(daemon, version))
        raise
    assert phase_of(world, version) == phase, explained(daemon, version)


def explained(daemon: Canaryd, version: str) -> str:
    return daemon.cli("explain", name_of(daemon, version), "--namespace", "production")


def start(world: World, canaryd: Callable[..., Canaryd], **changes: Any) -> Canaryd:
    config = settings(world, log={"format": "json", "level": "debug"})  # debug: every look with its odds
    daemon = canaryd(config=config, policies={"front-end": a_policy(**changes)}).start()
    daemon.wait_for("service.first_seen")
    return daemon


def heard(world: World, event: str) -> list[dict[str, Any]]:
    """CloudEvents of this type that the webhook receiver got, each signed, and not long before it came."""
    events = []
    for delivery in world.receiver.at("/audit"):
        headers = delivery.headers
        # Not the library's `verify`: it measures a signature's age now, and what came minutes ago is still to
        # be counted.
        signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        signature = Webhook(WEBHOOK_SECRET).sign(headers["webhook-id"], signed_at, delivery.body.decode())
        assert signature in headers["webhook-signature"].split()
        assert abs(signed_at.timestamp() - delivery.at) < 60
        body = json.loads(delivery.body)
        if body["type"] == f"dev.canaryd.rollout.{event}":
            events.append(body)
    return events


@pytest.mark.timeout(1800)
def test_the_use_case(world: World, canaryd: Callable[..., Canaryd]) -> None:
    """A good version to full weight; then bad ones back to 0, each heard of once; then one whose errors come
    in bursts, promoted."""
    world.behaviour("v1", **HEALTHY)
    before = world.get("virtualservice", "sockshop")["spec"]
    daemon = start(world, canaryd)
    with world.load(RATE) as requests:
        time.sleep(5)
        with watching(world) as route:
            world.behaviour("v2", **HEALTHY)
            world.deploy("v2", replicas=2)
            ends_as(world, daemon, "v2", "Succeeded")
        assert route.weights("v2") == [0, 10, 25, 50, 100]
        assert all(rest == route.rest()[0] for rest in route.rest())
        final = world.route()
        assert final == [{"destination": {**before["http"][0]["route"][0]["destination"], "subset": "v2"}}]

        bad = {  # by so much that three blocks of looks tell, which a busy machine makes long
            "v3": ({**HEALTHY, "errors": 0.2}, "", "errors"),
            "v4": ({**HEALTHY, "latency_ms": 150}, "", "slower than|latency over"),
            "v5": (HEALTHY, "crash-loop", "not become available"),
        }
        for version, (behaviour, pod, why) in bad.items():
            world.behaviour(version, **behaviour)
            world.deploy(version, replicas=2, pod=pod, deadline=4)
            ends_as(world, daemon, version, "RolledBack")
            assert world.route() == final, "a rollback leaves the route as it began"
            told_once(world, daemon, version, why)
            if version == "v3":
                had_again(daemon, version)

        # At 10% a burst is most of what there is, and one at a deadline holds the stage for minutes.
        daemon.policy(
            "front-end",
            a_policy(stages=[{"weight": w, "minimum": "4s", "deadline": "12s"} for w in (50, 100)]),
        )
        daemon.wait_for("policy.changed")
        world.behaviour("v6", **HEALTHY, burst=4)
        world.deploy("v6", replicas=2)
        ends_as(world, daemon, "v6", "Succeeded")
    assert world.weights() == {"v6": 100}
    assert requests.result["unanswered"] == 0
    assert "none" not in requests.result["version"], "an Envoy answered in a version's place"
    assert {event["data"]["versions"]["canary"] for event in heard(world, "rolled_back")} == {
        "v3",
        "v4",
        "v5",
    }


def had_again(daemon: Canaryd, version: str) -> None:
    """`canaryd explain` recomputes from the real Prometheus what was decided, to the digit."""
    told = json.loads(
        daemon.cli(
            "explain",
            name_of(daemon, version),
            "--config",
            str(daemon.config),
            "--brief",
            "-o",
            "json",
            seconds=180,
        )
    )
    found = told["recomputed"]
    assert found["problem"] is None
    assert [decision["signal"] for decision in found["decisions"]][-1] == "harm"
    assert found["same"], [decision["differences"] for decision in found["decisions"]]
    assert found["requests"]["recomputed"] == found["requests"]["counted"]


def told_once(world: World, daemon: Canaryd, version: str, why: str) -> None:
    """Alertmanager, the webhook, the Events and `canaryd explain` say the same, each once."""

    def of_version() -> list[dict[str, Any]]:
        return [
            event for event in heard(world, "rolled_back") if event["data"]["versions"]["canary"] == version
        ]

    eventually(f"the webhook heard of {version}", of_version)
    told = of_version()
    assert len({event["id"] for event in told}) == 1
    reason = told[0]["data"]["reason"]
    assert re.search(why, reason)
    eventually(
        f"Alertmanager's receiver heard of {version}",
        lambda: [
            a for a in world.receiver.alerts if a["labels"]["version"] == version and a["status"] == "firing"
        ],
    )
    alerts = [
        a for a in world.receiver.alerts if a["labels"]["version"] == version and a["status"] == "firing"
    ]
    assert len({a["fingerprint"] for a in alerts}) == 1
    assert reason in alerts[0]["annotations"]["description"]
    assert reason in " ".join(explained(daemon, version).split())
    events = [
        e
        for e in world.get("events.events.k8s.io")["items"]
        if e["reason"] == "RolledBack"
        and e["regarding"]["kind"] == "CanaryRollout"
        and version in e["regarding"]["name"]
    ]
    assert len(events) == 1
    assert reason[:200] in events[0]["note"]


@pytest.mark.timeout(400)
def test_the_counts_decided_on_equal_the_application_s_tally_pod_by_pod(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    """Across a drained restart of a pod, a scale-up and a scale-down in mid-rollout."""
    for version in ("v1", "v2"):
        world.behaviour(version, **{**HEALTHY, "errors": 0.03})
    daemon = start(
        world, canaryd, stages=[{"weight": 30, "minimum": "200s", "deadline": "300s"}, {"weight": 100}]
    )
    world.deploy("v2", replicas=2)
    eventually("v2 is noticed", lambda: phase_of(world, "v2"))
    before = world.tally()
    with world.load(RATE):
        eventually("30% on v2", lambda: world.weights().get("v2") == 30)
        time.sleep(4)
        world.restart_pod(world.serving()["v2"][0])
        world.kubectl("scale", "deployment/front-end-v2", "--replicas=3")
        eventually("three of v2 serve", lambda: len(world.serving()["v2"]) == 3)
        time.sleep(4)
        world.kubectl("scale", "deployment/front-end-v1", "--replicas=2")
        world.kubectl("scale", "deployment/front-end-v2", "--replicas=1")
        eventually("one of v2 serves", lambda: len(world.serving()["v2"]) == 1)
        time.sleep(3)
    told = {
        pod: (
            one["requests"] - before.get(pod, {}).get("requests", 0),
            one["failures"] - before.get(pod, {}).get("failures", 0),
        )
        for pod, one in world.tally().items()
        if one["version"] in ("v1", "v2")
    }
    served = {pod: counts for pod, counts in told.items() if counts[0]}
    assert len(served) >= 5

    def counted() -> dict[str, tuple[int, int]]:
        pods = rollout_of(daemon, "v2")["counted"]
        return {pod: (one["requests"], one["failures"]) for pod, one in pods.items() if one["requests"]}

    eventually("canaryd has read the last look", lambda: counted() == served, 20)


@pytest.mark.timeout(400)
def test_a_kill_in_mid_stage_leaves_the_same_rollout_and_the_same_verdicts(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2"):
        world.behaviour(version, **HEALTHY)
    stages = [{"weight": 20, "minimum": "200s", "deadline": "300s"}, {"weight": 100}]
    metrics = [{"errors": {}}, {"latency": {}}, {"query": MEAN_LATENCY}]
    daemon = start(world, canaryd, stages=stages, analysis={**ANALYSIS, "metrics": metrics})
    with world.load(RATE):
        world.deploy("v2", replicas=2)
        eventually("20% on v2", lambda: world.weights().get("v2") == 20)
        eventually("ten looks", lambda: len(daemon.logged("look.judged")) >= 10, 60)
        before = rollout_of(daemon, "v2")
        uid = world.get("canaryrollout", before["name"])["metadata"]["uid"]
        daemon.kill9()
        killed = rollout_of(daemon, "v2")
        daemon.start()
        last = killed["verdict"]["at"]
        eventually(
            "it goes on", lambda: any(one["at"] > last + 3 for one in daemon.logged("look.judged")), 60
        )

        def mean_latency() -> Any:  # without a value where a busy Prometheus answers too late
            (found,) = (
                finding
                for finding in rollout_of(daemon, "v2")["verdict"]["findings"]
                if finding["metric"] == "mean-latency"
            )
            return found if found["value"] is not None else None

        compared = eventually("the query has a value", mean_latency, 60)
        after = rollout_of(daemon, "v2")
    assert world.get("canaryrollout", before["name"])["metadata"]["uid"] == uid
    assert (after["name"], after["began"], after["spans"][0]["start"]) == (
        before["name"],
        before["began"],
        before["spans"][0]["start"],
    )
    judged: dict[int, set[tuple[float, str]]] = {}
    for entry in daemon.logged("look.judged"):
        judged.setdefault(entry["at"], set()).add((entry["odds"], entry["reason"]))
    twice = [at for at in judged if at <= killed["verdict"]["at"]]
    assert len(twice) >= 10
    assert all(len(judged[at]) == 1 for at in twice), "a look was judged otherwise after the restart"
    assert (killed["verdict"]["odds"], killed["verdict"]["reason"]) in judged[killed["verdict"]["at"]]
    assert compared["what"] == "compared with stable"
    assert 10 < compared["value"] < 100  # ms
    assert 0.5 < compared["ratio"] < 2.0


@pytest.mark.timeout(1200)
def test_outages_of_the_api_server_and_of_prometheus_hold_the_weight_and_the_rollout_goes_on(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    for version in ("v1", "v2"):
        world.behaviour(version, **HEALTHY)
    daemon = start(
        world,
        canaryd,
        stages=[{"weight": w, "minimum": "3s", "deadline": "10s"} for w in (20, 50, 100)],
        analysis={**BY_ERRORS, "noDataFor": "6s"},
    )
    with world.load(RATE):
        world.deploy("v2", replicas=2)
        eventually("20% on v2", lambda: world.weights().get("v2") == 20)
        with world.without_api():
            held = world.envoy_weights()
            time.sleep(OUTAGE)
            assert world.envoy_weights() == held == {"v1": 80, "v2": 20}
            assert daemon.alive
        eventually("50% on v2", lambda: world.weights().get("v2") == 50, ENDS)
        with world.without_prometheus():
            time.sleep(OUTAGE)
            assert world.weights() == {"v1": 50, "v2": 50}
            eventually("held for want of data", lambda: phase_of(world, "v2") == "Held")
            eventually("not ready", lambda: not_ready(daemon))  # Prometheus is asked for this every 15 s
        ends_as(world, daemon, "v2", "Succeeded")
    assert daemon.term() < ENDS_WITHIN
