"""Receivers that are dead or hang delay no rollback, and hear of each one once they are back, under one
id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import standardwebhooks

from canaryd_sandbox.receiver import Delivery, Receiver
from tests.real.daemon import ENDS_WITHIN, WEBHOOK_SECRET
from tests.scenarios.testbed import Stand, a_policy, a_stand, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-receivers"), pytest.mark.timeout(480)]
NOTIFIERS = ("audit", "dead", "hanging")


@dataclass
class Three:
    stand: Stand
    receivers: dict[str, Receiver]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    hooks = [{"on": ["rolled_back"], "notify": name} for name in NOTIFIERS]
    with Receiver() as audit, Receiver() as dead, Receiver() as hanging:
        receivers = dict(zip(NOTIFIERS, (audit, dead, hanging), strict=True))
        dead.faults.down = hanging.faults.hang = True
        hook = {"secret": WEBHOOK_SECRET, "timeout": "2s"}
        notifiers = {
            name: {"webhook": {"url": f"{receiver.url}/hook", **hook}} for name, receiver in receivers.items()
        }
        folder = tmp_path_factory.mktemp("receivers")
        with a_stand(folder, a_policy((20, 100), hooks=hooks), notifiers=notifiers) as stand:
            yield Three(stand.begin(), receivers)


def rolled_back(receiver: Receiver) -> list[Delivery]:
    return [
        delivery
        for delivery in receiver.deliveries
        if delivery.json["type"] == "dev.canaryd.rollout.rolled_back"
    ]


def verified(delivery: Delivery) -> Any:
    """The event, as a receiver's own library has checked it. Raises WebhookVerificationError."""
    return standardwebhooks.Webhook(WEBHOOK_SECRET).verify(delivery.body.decode(), delivery.headers)


def test_a_rollback_waits_for_no_receiver(three: Three) -> None:
    for version in ("v2", "v3"):  # the second finds the receivers' queues as the first has left them
        three.stand.deploy(version, errors=0.6)
        status = three.stand.until(version, "rolled back", phase="RolledBack")
        decided, done = (decision["at"] for decision in status["decisions"][-2:])
        assert done - decided < 2, f"{done - decided:.1f} s from the verdict to all traffic on stable"
        assert three.stand.weight("v1") == 100
    eventually("who listens has heard", lambda: len(rolled_back(three.receivers["audit"])) >= 2)
    assert not rolled_back(three.receivers["dead"])
    assert not rolled_back(three.receivers["hanging"])
    assert three.stand.metric("canaryd_delivery_failures_total", notifier="dead") > 0


def test_the_signature_is_good_and_the_event_has_the_numbers(three: Three) -> None:
    event = verified(rolled_back(three.receivers["audit"])[0])
    assert event["data"]["versions"] == {"stable": "v1", "canary": "v2"}
    found = next(finding for finding in event["data"]["verdict"]["findings"] if finding["canary"]["events"])
    assert found["canary"]["events"] <= found["canary"]["requests"]
    forged = rolled_back(three.receivers["audit"])[0].body.replace(b'"v1"', b'"v9"')
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        standardwebhooks.Webhook(WEBHOOK_SECRET).verify(
            forged.decode(), rolled_back(three.receivers["audit"])[0].headers
        )


def test_a_new_process_tells_those_who_did_not_hear_and_each_reader_sees_one_rollback_each(
    three: Three,
) -> None:
    took = three.stand.canaryd.term()
    assert took < ENDS_WITHIN, f"{took:.1f} s with a receiver that hangs"
    three.receivers["dead"].faults.clear()
    three.receivers["hanging"].faults.clear()
    three.stand.canaryd.start()
    ids = [
        status["announcements"][-1]["id"].replace(".", "_")
        for status in map(three.stand.status, ("v2", "v3"))
    ]
    for name, receiver in three.receivers.items():
        eventually(
            f"{name} has heard of both",
            lambda one=receiver: len({d.headers["webhook-id"] for d in rolled_back(one)}) >= 2,
        )
        seen = {
            verified(delivery)["data"]["versions"]["canary"]: delivery.headers["webhook-id"]
            for delivery in rolled_back(receiver)
        }
        assert seen == dict(zip(("v2", "v3"), ids, strict=True))
        assert {delivery.headers["webhook-id"] for delivery in rolled_back(receiver)} == set(ids)
    eventually(
        "noted as told",
        lambda: set(three.stand.status("v3")["announcements"][-1].get("delivered", [])) >= set(NOTIFIERS),
    )
