"""Gates and blue/green on real parts: a smoke test that, when it is asked, sends requests through the real
gateway to the dark version."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.real.daemon import WEBHOOK_SECRET, Canaryd, settings
from tests.real.test_releases import (
    BY_ERRORS,
    HEALTHY,
    RATE,
    a_policy,
    ends_as,
    explained,
    phase_of,
    rollout_of,
)
from tests.real.world import World, eventually

FLAWLESS = {**HEALTHY, "errors": 0.0}  # so that each request of a test says which version served it
PREVIEW = {"headers": {"x-canary": {"exact": "always"}}}
STAGES = [
    {"weight": 0, "minimum": "3s", "deadline": "60s"},
    {"weight": 100, "minimum": "8s", "deadline": "60s"},
]


@dataclass
class SmokeTest:
    """Answers a gate's question by what the version that is asked about answers to a preview. is_ready:
    False: 202, not done yet."""

    world: World
    is_ready: threading.Event = field(default_factory=threading.Event)
    questions: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        Webhook(WEBHOOK_SECRET).verify(body.decode(), headers)
        question = json.loads(body)["data"]
        self.questions.append(question)
        self.ids.add(headers["webhook-id"])
        if not self.is_ready.is_set():
            return 202, "running"
        wanted = question["versions"]["canary"]
        found = {self.world.version_for(x_canary="always") for _ in range(10)}
        return (
            (200, "10 of 10 previews")
            if found == {wanted}
            else (503, f"previews were answered by {sorted(found)}, not {wanted}")
        )


@contextmanager
def serving(smoke: SmokeTest) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, says = smoke.answer({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("content-length", str(len(says)))
            self.end_headers()
            self.wfile.write(says.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: the questions are what tests read."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/smoke"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def a_release(
    world: World, canaryd: Callable[..., Canaryd], preview: dict[str, Any] = PREVIEW, **gate: Any
) -> Iterator[tuple[Canaryd, SmokeTest]]:
    """A blue/green release of v2 under load, behind a smoke test that is signed and named in the settings."""
    smoke = SmokeTest(world)
    for version in ("v1", "v2"):
        world.behaviour(version, **FLAWLESS)
    with serving(smoke) as url, world.load(RATE):
        hook = {"before": 100, "gate": "smoke", "every": "1s", "timeout": "20s", "deadline": "5m", **gate}
        route = {"virtualService": "sockshop", "preview": preview}
        policy = a_policy(strategy="blue-green", stages=STAGES, hooks=[hook], route=route, analysis=BY_ERRORS)
        config = settings(
            world,
            log={"format": "json", "level": "debug"},
            gates={"smoke": {"url": url, "secret": WEBHOOK_SECRET}},
        )
        daemon = canaryd(config=config, policies={"front-end": policy}).start()
        daemon.wait_for("service.first_seen")
        world.deploy("v2")
        yield daemon, smoke


def spec(world: World) -> dict[str, Any]:
    return dict(world.get("virtualservice", "sockshop")["spec"])


def users_on(world: World) -> set[str]:
    return {world.version_for() for _ in range(20)}


def until_asked(world: World, daemon: Canaryd, smoke: SmokeTest) -> None:
    try:
        eventually("the gate is asked, and asked again", lambda: len(smoke.questions) >= 2, 120)
    except AssertionError as late:
        late.add_note(explained(daemon, "v2"))
        raise


@pytest.mark.timeout(600)
def test_a_version_is_tested_in_the_dark_gets_all_users_at_once_and_leaves_the_route_as_a_person_would_have_written_it(  # noqa: E501
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    before = spec(world)
    with a_release(world, canaryd) as (daemon, smoke):
        until_asked(world, daemon, smoke)
        assert phase_of(world, "v2") == "AwaitingGate"
        assert users_on(world) == {"v1"}
        told = " ".join(explained(daemon, "v2").split())
        assert "waits for the gate smoke" in told
        assert "HTTP 202: running (accepted, not done yet)" in told
        assert "AwaitingGate" in world.kubectl("get", "cro", "-n", "production", "-o", "wide")
        smoke.is_ready.set()
        eventually("all users are on v2", lambda: users_on(world) == {"v2"}, 120)
        ends_as(world, daemon, "v2", "Succeeded")
        assert "the gate smoke is open: HTTP 200: 10 of 10 previews" in " ".join(
            explained(daemon, "v2").split()
        )
    assert len(smoke.ids) == 1, "one question, whatever how often it was asked"
    assert {
        (question["weight"], question["nextWeight"], question["versions"]["stable"])
        for question in smoke.questions
    } == {(0, 100, "v1")}
    by_hand = deepcopy(before)
    by_hand["http"][0]["route"][0]["destination"]["subset"] = "v2"
    assert spec(world) == by_hand


def served_by_v2(world: World) -> int:
    return sum(pod["requests"] for pod in world.tally().values() if pod["version"] == "v2")


@pytest.mark.timeout(600)
def test_a_version_that_its_tests_cannot_reach_is_given_up_at_the_gate_s_deadline_and_no_user_has_seen_it(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    before, elsewhere = spec(world), {"headers": {"x-canary": {"exact": "sometimes"}}}
    served = served_by_v2(world)  # in earlier tests
    with a_release(world, canaryd, elsewhere, timeout="8s", deadline="8s", closed="rollback") as (
        daemon,
        smoke,
    ):
        smoke.is_ready.set()
        ends_as(world, daemon, "v2", "RolledBack")
        assert "previews were answered by ['v1'], not v2" in " ".join(explained(daemon, "v2").split())
        assert served_by_v2(world) == served
    assert spec(world) == before


@pytest.mark.timeout(600)
def test_a_version_that_fails_once_all_users_are_on_it_is_taken_back_in_one_write(
    world: World, canaryd: Callable[..., Canaryd]
) -> None:
    before = spec(world)
    with a_release(world, canaryd) as (daemon, smoke):
        smoke.is_ready.set()
        eventually("all users are on v2", lambda: users_on(world) == {"v2"}, 120)
        world.behaviour("v2", errors=0.3)
        ends_as(world, daemon, "v2", "RolledBack")
        eventually("all users are on v1", lambda: users_on(world) == {"v1"})
        weights = [decision["weight"] for decision in rollout_of(daemon, "v2")["decisions"]]
        assert weights[-3:] == [100, 0, 0], "from all to none"
    assert spec(world) == before
