"""Gates and a blue/green release, with a daemon that runs and a test server that answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import standardwebhooks

from canaryd_sandbox.receiver import Receiver
from tests.scenarios.testbed import WEBHOOK_SECRET, Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-gates"), pytest.mark.timeout(480)]
MANY = 10_000


@dataclass
class Gated:
    stand: Stand
    tests: Receiver

    def closed(self) -> None:
        """From now on the tests fail."""
        self.tests.faults.status(503, MANY)

    def opened(self) -> None:
        self.tests.faults.clear()


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    hooks = [
        {"before": 100, "gate": "smoke", "every": "1s", "timeout": "2s"},
        {"on": ["rolled_back"], "notify": "audit"},
    ]
    stages = [
        {"weight": 0, "minimum": "3s", "deadline": "30s"},
        {"weight": 100, "minimum": "5s", "deadline": "60s"},
    ]
    policy = a_policy(strategy="blue-green", hooks=hooks, stages=stages)
    with Receiver() as tests:
        gates = {"smoke": {"url": f"{tests.url}/smoke", "secret": WEBHOOK_SECRET}}
        with a_stand(tmp_path_factory.mktemp("gates"), policy, gates=gates) as stand:
            yield Gated(stand.begin(), tests)


def test_a_version_stays_dark_while_its_tests_fail_and_gets_all_users_at_once_when_they_pass(
    gated: Gated,
) -> None:
    stand = gated.stand
    gated.closed()
    stand.deploy("v2")
    status = stand.until("v2", "the gate is closed", phase="AwaitingGate", weight=0)
    assert stand.weight("v2") == 0
    status = eventually(
        "its answer is on record", lambda: found if (found := stand.status("v2"))["asking"].get("at") else {}
    )
    assert status["reason"].startswith("before 100%, the gate smoke is closed: HTTP 503")
    assert "waits for the gate smoke" in stand.canaryd.cli("explain", "front-end")
    assert "the gate smoke is closed: HTTP 503" in stand.canaryd.cli("status")
    eventually(
        "its metric", lambda: stand.metric("canaryd_gate_replies_total", gate="smoke", reply="closed") > 1
    )
    assert stand.metric("canaryd_rollout_gate_asked_seconds", gate="smoke", version="v2") > 0

    stand.canaryd.kill9()
    gated.opened()
    stand.canaryd.start()
    stand.until("v2", "promoted", phase="Succeeded")
    [asked] = gated.tests.deliveries
    data = standardwebhooks.Webhook(WEBHOOK_SECRET).verify(asked.body.decode(), asked.headers)
    assert (data["type"], data["data"]["weight"], data["data"]["nextWeight"]) == (
        "dev.canaryd.gate.asked",
        0,
        100,
    )
    assert asked.headers["webhook-id"].endswith("_gate_1")  # the same question as before the daemon died
    assert stand.default_route() == all_to("v2")


def test_a_person_goes_round_a_gate(gated: Gated) -> None:
    gated.closed()
    gated.stand.deploy("v3")
    gated.stand.until("v3", "the gate is closed", phase="AwaitingGate", weight=0)
    gated.stand.canaryd.cli("approve", "front-end", "--gate")
    gated.stand.until("v3", "promoted", phase="Succeeded")
    gated.opened()


def test_a_version_that_fails_after_the_switch_is_taken_back_at_once_and_that_is_told(gated: Gated) -> None:
    stand = gated.stand
    stand.deploy("v4", errors=0.3)
    status = stand.until("v4", "rolled back", phase="RolledBack")
    assert [
        decision["weight"]
        for decision in status["decisions"]
        if decision["phase"] in ("RollingBack", "RolledBack")
    ] == [0, 0]
    assert stand.default_route() == all_to("v3")
    assert "rolled back" in status["reason"]
    eventually("it was told", lambda: stand.told("rolled_back", "v4"))
