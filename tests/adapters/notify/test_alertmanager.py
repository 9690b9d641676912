"""Alerts: what is posted, and what a real Alertmanager makes of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canaryd.adapters.notify.alertmanager import DESCRIPTION, Alertmanager, description
from canaryd.adapters.notify.http_post import ReceiverAccess
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.verdict import Answer
from tests.adapters.notify.receivers import AT, Receiver, a_finding, a_verdict, an_announcement, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def test_an_alert_says_who_what_and_why_in_numbers(receiver: Receiver) -> None:
    Alertmanager(receiver.url + "/am/", {"team": "shop"}, clock=lambda: AT + 5).send(an_announcement())
    post = receiver.next()
    assert post.path == "/am/api/v2/alerts"
    (alert,) = json.loads(post.body)
    assert alert["labels"] == {
        "alertname": "CanaryRolledBack",
        "severity": "warning",
        "namespace": "production",
        "service": "front-end",
        "version": "v3",
        "rollout": "front-end-v3-abc12",
        "team": "shop",
    }
    assert alert["annotations"]["summary"] == "front-end v3 rolled back in production"
    assert (
        "odds 5.23e+03 to 1 against the canary, rolled back at 100; 1000 canary requests"
        in alert["annotations"]["description"]
    )
    assert (
        "errors 5.1% against 0.13% (ratio 38, 12.5 to 90; 10% tolerated)"
        in alert["annotations"]["description"]
    )
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-09-21T14:13:20.250Z", "2026-09-21T14:18:25.250Z")


def test_all_that_fire_are_refreshed_in_one_request_and_one_is_resolved_by_itself(receiver: Receiver) -> None:
    alertmanager = Alertmanager(receiver.url)
    alertmanager.refresh([an_announcement(), an_announcement(event="held", rollout="other")], AT)
    assert [load["labels"]["alertname"] for load in json.loads(receiver.next().body)] == [
        "CanaryRolledBack",
        "CanaryHeld",
    ]
    alertmanager.refresh([], AT)
    alertmanager.resolve(an_announcement(), AT + 60)
    (alert,) = json.loads(receiver.next().body)
    assert alert["endsAt"] == "2026-09-21T14:14:20.250Z"
    assert receiver.posts.empty()


def test_an_alert_never_ends_before_it_starts(receiver: Receiver) -> None:
    Alertmanager(receiver.url).resolve(an_announcement(), AT - 3600)
    (alert,) = json.loads(receiver.next().body)
    assert alert["endsAt"] == alert["startsAt"]


def test_severity_can_be_chosen_and_identity_cannot(receiver: Receiver) -> None:
    Alertmanager(receiver.url, {"severity": "page"}).send(an_announcement())
    assert json.loads(receiver.next().body)[0]["labels"]["severity"] == "page"
    with pytest.raises(ValueError, match="service is set by canaryd"):
        Alertmanager(receiver.url, {"service": "x"})
    with pytest.raises(ValueError, match="'my-label' is not a label's name"):
        Alertmanager(receiver.url, {"my-label": "x"})
    with pytest.raises(ValueError, match="at least 10 s"):
        Alertmanager(receiver.url, stands=1)


def test_the_finding_that_decided_is_described_first_and_the_whole_is_bounded() -> None:
    passed = a_finding(answer=Answer.PASS, says="fine so far")
    said = description(an_announcement(verdict=a_verdict(passed, a_finding())))
    assert said.index("errors 5.1% against 0.13% (ratio 38, 12.5") < said.index("fine so far")
    assert len(description(an_announcement(reason="why " * 1000))) == DESCRIPTION
    unsaid = description(an_announcement(verdict=a_verdict(a_finding(says=""))))
    assert "errors: errors: fail, 51 of 1000 against 12 of 9000" in unsaid


def test_a_fault_in_the_alert_is_final_and_anything_else_is_tried_again(receiver: Receiver) -> None:
    receiver.replies, receiver.says = [400], b'"bad label"'
    with pytest.raises(Rejected, match="bad label"):
        Alertmanager(receiver.url).send(an_announcement())
    for status in (401, 404, 429, 500, 503):
        receiver.replies = [status]
        with pytest.raises(Unavailable, match=str(status)):
            Alertmanager(receiver.url).send(an_announcement())


def test_basic_auth_and_headers_are_sent(receiver: Receiver) -> None:
    Alertmanager(
        receiver.url, access=ReceiverAccess(basic=lambda: ("me", "pw"), headers={"X-Scope-OrgID": "shop"})
    ).send(an_announcement())
    headers = receiver.next().headers
    assert (headers["authorization"], headers["x-scope-orgid"]) == ("Basic bWU6cHc=", "shop")


@pytest.fixture
def real_alertmanager(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        reason = (
            "no Alertmanager: make parts, or apt-get install --no-install-recommends prometheus-alertmanager"
        )
        if os.environ.get("CANARYD_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    (tmp_path / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={tmp_path}/alertmanager.yml",
                f"--storage.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: ready(url), f"Alertmanager is ready; its log: {tmp_path}/log")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline, f"not within 15 s: {what}"
        time.sleep(0.05)


def alerts(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(url + "/api/v2/alerts", timeout=5) as reply:
        found: list[dict[str, Any]] = json.load(reply)
        return found


def test_a_real_alertmanager_takes_refreshes_and_resolves_one_alert(real_alertmanager: str) -> None:
    alertmanager = Alertmanager(real_alertmanager, {"team": "shop"})
    announcement = an_announcement(at=time.time() - 3600)
    alertmanager.send(announcement)
    until(lambda: len(alerts(real_alertmanager)) == 1, "it is there")
    (first,) = alerts(real_alertmanager)
    assert first["labels"]["alertname"] == "CanaryRolledBack"
    assert first["status"]["state"] in ("active", "unprocessed")
    alertmanager.refresh([announcement], time.time() + 60)
    until(lambda: alerts(real_alertmanager)[0]["endsAt"] > first["endsAt"], "it stands longer")
    assert alerts(real_alertmanager)[0]["fingerprint"] == first["fingerprint"]
    alertmanager.resolve(announcement, time.time())
    until(lambda: alerts(real_alertmanager) == [], "it is over")


def test_a_real_alertmanager_s_refusal_is_final_and_shown(real_alertmanager: str) -> None:
    with pytest.raises(Rejected, match="at least one label pair"):
        Alertmanager(real_alertmanager)._post([{"labels": {}}])
