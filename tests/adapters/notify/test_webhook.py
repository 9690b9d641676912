"""Webhooks, received by a real HTTP server and checked with the libraries that receivers use."""

from __future__ import annotations

import base64
import json
import math
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import standardwebhooks
from cloudevents.http import from_http

from canaryd.adapters.notify.cloudevents import MOST_ODDS
from canaryd.adapters.notify.http_post import ReceiverAccess
from canaryd.adapters.notify.webhook import Webhook, payload
from canaryd.domain.policy.validation import InvalidPolicy, Problem
from canaryd.domain.ports import Rejected, Unavailable
from tests.adapters.notify.receivers import AT, Receiver, a_finding, a_verdict, an_announcement, receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def refuse_constants(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_a_webhook_is_a_cloudevent_with_the_numbers_of_the_moment(receiver: Receiver) -> None:
    Webhook(receiver.url + "/hook").send(an_announcement())
    post = receiver.next()
    assert post.path == "/hook"
    assert post.headers["content-type"] == "application/cloudevents+json"
    event = from_http(post.headers, post.body)
    assert (event["specversion"], event["type"], event["subject"]) == (
        "1.0",
        "dev.canaryd.rollout.rolled_back",
        "front-end-v3-abc12",
    )
    assert (event["id"], event["source"]) == (
        "front-end-v3-abc12-rolled-back-7",
        "/canaryd/production/front-end",
    )
    assert event["time"] == "2026-09-21T14:13:20.250Z"
    assert event.data["versions"] == {"stable": "v2", "canary": "v3"}
    verdict = event.data["verdict"]
    assert (verdict["answer"], verdict["odds"], verdict["bar"], verdict["looks"]) == (
        "fail",
        5231.0,
        100.0,
        14,
    )
    (finding,) = verdict["findings"]
    assert finding["canary"] == {"events": 51, "requests": 1000}
    assert finding["stable"] == {"events": 12, "requests": 9000}
    assert (finding["ratio"], finding["interval"]) == (38.25, {"low": 12.5, "high": 90.0})


def test_a_receiver_verifies_the_signature_with_the_standard_library_for_it(receiver: Receiver) -> None:
    Webhook(receiver.url, lambda: SECRET).send(an_announcement())
    post = receiver.next()
    assert post.headers["webhook-id"] == an_announcement().id
    data = standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    assert data["data"]["service"] == "front-end"
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(other).verify(post.body, post.headers)


def test_an_id_has_no_dots_in_header_and_envelope_alike_and_is_verified(receiver: Receiver) -> None:
    Webhook(receiver.url, lambda: SECRET).send(
        an_announcement(id="production.front-end-v3-abc12.1790000000.7")
    )
    post = receiver.next()
    assert post.headers["webhook-id"] == "production_front-end-v3-abc12_1790000000_7"
    assert from_http(post.headers, post.body)["id"] == post.headers["webhook-id"]
    standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)


@pytest.mark.parametrize(("size", "taken"), [(16, False), (23, False), (24, True), (64, True), (65, False)])
def test_a_secret_has_as_many_bytes_as_receivers_libraries_ask_for(size: int, taken: bool) -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(size))).decode()
    if taken:
        Webhook("http://127.0.0.1", lambda: secret)
    else:
        with pytest.raises(ValueError, match="24 to 64 random bytes"):
            Webhook("http://127.0.0.1", lambda: secret)


def test_a_later_try_has_the_same_id_and_body_and_a_time_of_its_own(receiver: Receiver) -> None:
    now = [time.time()]
    webhook = Webhook(receiver.url, lambda: SECRET, clock=lambda: now[0])
    webhook.send(an_announcement())
    now[0] -= 60
    webhook.send(an_announcement())
    first, second = receiver.next(), receiver.next()
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert int(first.headers["webhook-timestamp"]) - int(second.headers["webhook-timestamp"]) == 60
    standardwebhooks.Webhook(SECRET).verify(second.body, second.headers)


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    Webhook(receiver.url).send(an_announcement())
    assert "webhook-signature" not in receiver.next().headers


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_are_never_sent(receiver: Receiver, bad: float) -> None:
    finding = a_finding(
        ratio=bad, low=bad, high=bad, tolerated=bad, odds=bad, cleared=bad, value=bad, limit=bad
    )
    Webhook(receiver.url).send(an_announcement(verdict=a_verdict(finding, odds=bad, stage_odds=bad)))
    data = json.loads(receiver.next().body, parse_constant=refuse_constants)["data"]["verdict"]
    assert data["findings"][0]["interval"] == {"low": None, "high": None}


def test_infinite_odds_are_told_as_the_most_that_is_told() -> None:
    assert payload(an_announcement(verdict=a_verdict(odds=math.inf)))["verdict"]["odds"] == MOST_ODDS


def test_an_announcement_without_a_verdict_says_so(receiver: Receiver) -> None:
    Webhook(receiver.url).send(an_announcement(event="started", verdict=None))
    assert json.loads(receiver.next().body)["data"]["verdict"] is None


@pytest.mark.parametrize("status", [400, 401, 404, 408, 425, 429, 500, 502, 503])
def test_a_refusal_that_people_can_mend_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.then, receiver.says = status, b"no\nsuch\thook"
    with pytest.raises(Unavailable, match=f"HTTP {status}: no such hook"):
        Webhook(receiver.url).send(an_announcement())


def test_gone_is_never_tried_again(receiver: Receiver) -> None:
    receiver.then = 410
    with pytest.raises(Rejected, match="410"):
        Webhook(receiver.url).send(an_announcement())


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.then, receiver.headers = 307, {"location": receiver.url + "/elsewhere"}
    with pytest.raises(Unavailable, match="307"):
        Webhook(receiver.url).send(an_announcement())
    receiver.next()
    assert receiver.posts.empty()


def test_a_hanging_receiver_is_left_after_the_time_limit(receiver: Receiver) -> None:
    receiver.then = 0
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no reply within 0\.2 s"):
        Webhook(receiver.url, access=ReceiverAccess(timeout=0.2)).send(an_announcement())
    assert time.monotonic() - began < 5


def test_an_endless_reply_is_read_only_as_far_as_it_is_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent = threading.Event()

        def pour() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 9999999999\r\n\r\n")
                    while True:
                        connection.sendall(b"x" * 65536)
                except OSError:
                    sent.set()

        threading.Thread(target=pour, daemon=True).start()
        with pytest.raises(Unavailable) as caught:
            Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}").send(an_announcement())
        assert sent.wait(5), "the connection is closed on a receiver that will not end"
        assert len(str(caught.value)) < 500


def test_an_error_names_the_host_and_the_cause_but_not_the_path_with_its_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        Webhook(f"http://user:hunter2@127.0.0.1:{port}/services/T0KEN").send(an_announcement())
    assert str(caught.value) == f"http://127.0.0.1:{port}: Connection refused"


def test_headers_of_the_settings_are_sent_and_cannot_replace_the_signature(receiver: Receiver) -> None:
    access = ReceiverAccess(headers={"Authorization": "Bearer t", "webhook-id": "forged"})
    Webhook(receiver.url, lambda: SECRET, access).send(an_announcement())
    headers = receiver.next().headers
    assert (headers["authorization"], headers["webhook-id"]) == ("Bearer t", an_announcement().id)


def test_the_environment_does_not_choose_a_proxy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    Webhook(receiver.url).send(an_announcement())
    assert receiver.next().path == "/"


@pytest.mark.parametrize(
    "secret",
    ["", "password", "whsec_", "whsec_short", "whsec_not base64 at all, but long enough", SECRET[6:]],
)
def test_a_secret_in_another_form_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as caught:
        Webhook("http://127.0.0.1", lambda: secret)
    assert "password" not in str(caught.value)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://host/", "http:///path"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must be http"):
        Webhook(url)


def test_secrets_do_not_appear_in_the_settings_representation() -> None:
    assert "hunter2" not in repr(
        ReceiverAccess(headers={"Authorization": "hunter2"}, bearer=lambda: "hunter2")
    )


def test_a_rotated_token_and_a_rotated_secret_are_picked_up(receiver: Receiver) -> None:
    now = {"token": "first", "secret": SECRET}
    webhook = Webhook(receiver.url, lambda: now["secret"], ReceiverAccess(bearer=lambda: now["token"]))
    for token, secret in [("old", SECRET), ("new", "whsec_" + base64.b64encode(bytes(32)).decode())]:
        now.update(token=token, secret=secret)
        webhook.send(an_announcement())
        post = receiver.next()
        assert post.headers["authorization"] == f"Bearer {token}"
        standardwebhooks.Webhook(secret).verify(post.body, post.headers)


def test_a_secret_that_cannot_be_read_for_a_while_is_tried_again(receiver: Receiver) -> None:
    def unreadable() -> str:
        raise InvalidPolicy([Problem((), "cannot be read: FileNotFoundError", "/etc/canaryd/token")])

    with pytest.raises(Unavailable, match="/etc/canaryd/token"):
        Webhook(receiver.url, access=ReceiverAccess(bearer=unreadable)).send(an_announcement())
    answers = iter([SECRET, "half a fi"])
    webhook = Webhook(receiver.url, lambda: next(answers))
    with pytest.raises(Unavailable, match="whsec_"):
        webhook.send(an_announcement())
    assert receiver.posts.empty()


def test_an_alert_says_since_when_it_fires_and_no_other_finding_does() -> None:
    findings = (a_finding(), a_finding(metric="alerts", what="alert HighLatency", since=int(AT)))
    errors, alert = payload(an_announcement(verdict=a_verdict(findings=findings)))["verdict"]["findings"]
    assert "since" not in errors
    assert alert["since"].endswith("Z")
