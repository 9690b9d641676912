"""/livez, /readyz and /metrics, asked over HTTP."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from canaryd.adapters.health_and_metrics import Health, Metrics, Server, application
from canaryd.domain.policy.hooks import Hook
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected
from canaryd.domain.rollout import AskedGate, Phase, Rollout
from canaryd.domain.verdict import Answer
from tests import builders
from tests.adapters.notify.receivers import a_verdict


class Watch:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def health(watch: Watch) -> Health:
    return Health(beat=15, parts={"policies": None, "API server": 60, "Prometheus": 60}, clock=watch)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


@pytest.fixture
def server(health: Health, metrics: Metrics) -> Iterator[Server]:
    one = Server("127.0.0.1", 0, application(health, metrics))
    yield one
    one.close()


def ask(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def samples(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """Values of the family's samples of this very name, by the values of their labels in order of the labels'
    names."""
    status, text = ask(server, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {
        tuple(v for _, v in sorted(s.labels.items())): s.value
        for f in families
        for s in f.samples
        if s.name == name
    }


def a_rollout(**changed: object) -> Rollout:
    policy = Policy.model_validate(
        {
            "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
            "route": {"virtualService": "sockshop"},
            "stages": [{"weight": 10}, {"weight": 100}],
        }
    )
    values = {"name": "front-end-v2-abc12", "policy": policy, "began": 1_790_000_000.0}
    return builders.a_rollout(**{**values, **changed})


def test_alive_while_the_beat_progresses(server: Server, health: Health, watch: Watch) -> None:
    watch.now += 149
    assert ask(server, "/livez") == (200, "alive\n")
    watch.now += 2
    assert ask(server, "/livez") == (503, "the beat has made no progress for 151 s; 150 s are allowed\n")
    health.progressed()
    assert ask(server, "/livez")[0] == 200


def test_a_short_beat_is_still_given_a_minute() -> None:
    watch = Watch()
    health = Health(beat=0.5, parts={}, clock=watch)
    watch.now += 59
    assert health.dead() == ""
    watch.now += 2
    assert "60 s are allowed" in health.dead()


def test_not_ready_says_in_words_what_is_missing(server: Server, health: Health, watch: Watch) -> None:
    assert ask(server, "/readyz") == (
        503,
        "policies: not good yet\nAPI server: not good yet\nPrometheus: not good yet\n",
    )
    for part in ("policies", "API server", "Prometheus"):
        health.good(part)
    assert ask(server, "/readyz") == (200, "ready\n")
    watch.now += 20
    health.bad("Prometheus", "http://prometheus:9090:\nConnection refused")
    assert ask(server, "/readyz") == (
        503,
        "Prometheus: http://prometheus:9090: Connection refused (last good 20 s ago)\n",
    )
    health.good("Prometheus")
    assert ask(server, "/readyz")[0] == 200
    watch.now += 61
    assert ask(server, "/readyz")[1].splitlines() == [
        "API server: last good 81 s ago; 60 s are allowed",
        "Prometheus: last good 61 s ago; 60 s are allowed",
    ]


def test_a_part_nobody_knows_is_refused(health: Health) -> None:
    with pytest.raises(KeyError):
        health.good("etcd")


def test_a_rollout_is_shown_with_its_weight_phase_verdict_and_odds(server: Server, metrics: Metrics) -> None:
    metrics.show([a_rollout(verdict=a_verdict(answer=Answer.UNDECIDED, odds=3.5, looks=4))])
    labels = ("production", "front-end", "v2")
    assert samples(server, "canaryd_rollout_weight_percent") == {labels: 10}
    assert samples(server, "canaryd_rollout_odds") == {labels: 3.5}
    assert samples(server, "canaryd_rollout_odds_bar") == {labels: 100}
    phases = samples(server, "canaryd_rollout_phase")
    assert {key for key, value in phases.items() if value == 1} == {
        ("production", "Progressing", "front-end", "v2")
    }
    assert len(phases) == len(Phase)
    verdicts = samples(server, "canaryd_rollout_verdict")
    assert {key for key, value in verdicts.items() if value == 1} == {
        ("production", "front-end", "undecided", "v2")
    }


def test_series_of_ended_rollouts_vanish(server: Server, metrics: Metrics) -> None:
    metrics.show([a_rollout()])
    assert samples(server, "canaryd_rollout_weight_percent")
    metrics.show([a_rollout(phase=Phase.SUCCEEDED)])
    assert samples(server, "canaryd_rollout_weight_percent") == {}
    assert samples(server, "canaryd_rollout_phase") == {}


def test_what_the_daemon_does_is_counted(server: Server, metrics: Metrics) -> None:
    metrics.beats.inc()
    metrics.query_failures.labels("prometheus", "unavailable").inc(2)
    metrics.delivered.labels("oncall").inc()
    metrics.look_seconds.observe(0.02)
    metrics.policy_errors.set(1)
    assert samples(server, "canaryd_beats_total") == {(): 1}
    assert samples(server, "canaryd_query_failures_total") == {("prometheus", "unavailable"): 2}
    assert samples(server, "canaryd_announcements_delivered_total") == {("oncall",): 1}
    assert samples(server, "canaryd_look_duration_seconds_count") == {(): 1}
    assert samples(server, "canaryd_policy_files_refused") == {(): 1}
    assert samples(server, "canaryd_build_info") == {("1.2.3",): 1}
    assert samples(server, "process_resident_memory_bytes")[()] > 1e6


def test_two_sets_of_metrics_do_not_meet() -> None:
    first, second = Metrics("1"), Metrics("1")
    first.beats.inc()
    assert second.registry.get_sample_value("canaryd_beats_total") == 0


def test_other_paths_and_methods_are_told_what_there_is(server: Server) -> None:
    assert ask(server, "/") == (404, "there are /livez, /readyz and /metrics\n")
    assert ask(server, "/metrics", "POST")[0] == 405
    assert ask(server, "/livez", "HEAD")[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/"])
def test_head_is_answered_as_get_is_with_its_length_and_without_a_body(server: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        with client.makefile("rb") as reply:
            head, _, body = reply.read().partition(b"\r\n\r\n")
    status, text = ask(server, path)
    assert f" {status} ".encode() in head.splitlines()[0]
    assert body == b""
    told = int(
        next(line.split()[1] for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    )
    # A process tells its own seconds and bytes, which need not have as many digits a moment later.
    assert abs(told - len(text.encode())) < (100 if path == "/metrics" else 1)
    assert head.lower().count(b"content-length:") == 1


def test_a_port_in_use_is_said_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Rejected, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            Server("127.0.0.1", port, lambda environ, respond: [])


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(Rejected, match=r"127\.0\.0\.1:70000"):
        Server("127.0.0.1", 70000, lambda environ, respond: [])


def test_closing_takes_less_than_a_second_while_clients_idle(health: Health, metrics: Metrics) -> None:
    server = Server("127.0.0.1", 0, application(health, metrics))
    with (
        socket.create_connection(("127.0.0.1", server.port)),
        socket.create_connection(("127.0.0.1", server.port)) as half,
    ):
        half.sendall(b"GET /livez HT")
        assert ask(server, "/livez")[0] == 200  # an idle client holds nobody up
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_client_that_hangs_up_leaves_no_trace_on_stderr(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert ask(server, "/livez")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_gate_that_is_waited_for_is_shown_with_since_when_and_no_other_rollout_is(
    server: Server, metrics: Metrics
) -> None:
    policy = a_rollout().policy.model_copy(
        update={"hooks": (Hook(before=100, gate="https://tests.example/smoke?token=1"),)}
    )
    waiting = a_rollout(
        policy=policy, phase=Phase.AWAITING_GATE, gate_question=AskedGate(0, 1, 1_790_000_100.0)
    )
    metrics.show([waiting, a_rollout(service="cart", policy=policy)])
    shown = samples(server, "canaryd_rollout_gate_asked_seconds")
    assert shown == {("https://tests.example/smoke", "production", "front-end", "v2"): 1_790_000_100.0}
    metrics.gate_replies.labels("smoke", "closed").inc()
    assert samples(server, "canaryd_gate_replies_total") == {("smoke", "closed"): 1.0}
