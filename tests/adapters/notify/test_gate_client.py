"""Gates asked over real HTTP: what opens, what keeps closed and how that reads, when it is asked again, and
what never blocks."""

from __future__ import annotations

import base64
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import standardwebhooks
from cloudevents.http import from_http

from canaryd.adapters.notify import gate_client
from canaryd.adapters.notify.gate_client import HttpGates, Known
from canaryd.adapters.notify.http_post import ReceiverAccess
from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.policy.hooks import Gate
from canaryd.domain.policy.validation import InvalidPolicy, Problem
from tests.adapters.notify.receivers import AT, PATIENT, Receiver, a_verdict, receiving
from tests.fakes import FakeClock

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def a_question(
    target: str, name: str = "production.front-end-v3-abc12.1790000000.gate.1", **gate: float
) -> GateQuestion:
    asked = Gate(50, target, **{"timeout": 5.0, "every": 60.0, "deadline": 900.0, **gate}, closed="hold")
    return GateQuestion(
        id=name,
        gate=asked,
        since=AT,
        namespace="production",
        service="front-end",
        rollout="front-end-v3-abc12",
        stable="v2",
        canary="v3",
        mode="steer",
        stage=1,
        weight=25,
        next_weight=50,
        verdict=a_verdict(),
    )


class Desk:
    """Gates, and the replies as they came."""

    def __init__(self, known: dict[str, Known] | None = None, at: float = AT) -> None:
        self.replies: queue.Queue[GateReply] = queue.Queue()
        self.gates = HttpGates(known or {}, FakeClock(at), lambda question, reply: self.replies.put(reply))

    def answer(self, question: GateQuestion) -> GateReply:
        """The next reply, which the gates then hand out."""
        self.gates.ask(question)
        reply = self.replies.get(timeout=PATIENT)
        assert self.gates.ask(question) == reply
        return reply


def test_a_question_is_a_cloudevent_with_the_numbers_of_the_moment(receiver: Receiver) -> None:
    Desk().answer(a_question(receiver.url + "/smoke"))
    post = receiver.next()
    assert post.path == "/smoke"
    event = from_http(post.headers, post.body)
    assert (event["type"], event["subject"], event["source"]) == (
        "dev.canaryd.gate.asked",
        "front-end-v3-abc12",
        "/canaryd/production/front-end",
    )
    assert event["id"] == post.headers["webhook-id"] == "production_front-end-v3-abc12_1790000000_gate_1"
    assert event["time"] == "2026-09-21T14:13:20.250Z"
    said = {
        key: event.data[key]
        for key in ("before", "versions", "namespace", "service", "mode", "stage", "weight", "nextWeight")
    }
    assert said == {
        "before": 50,
        "versions": {"stable": "v2", "canary": "v3"},
        "namespace": "production",
        "service": "front-end",
        "mode": "steer",
        "stage": 1,
        "weight": 25,
        "nextWeight": 50,
    }
    assert event.data["verdict"]["odds"] == 5231.0


def test_a_named_gate_is_asked_where_the_settings_say_with_its_signature_and_headers(
    receiver: Receiver,
) -> None:
    known = {
        "smoke": Known(
            receiver.url, lambda: SECRET, ReceiverAccess(headers={"X-Team": "shop"}, bearer=lambda: "token")
        )
    }
    assert Desk(known, at=time.time()).answer(a_question("smoke")).opens
    post = receiver.next()
    standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    assert (post.headers["x-team"], post.headers["authorization"]) == ("shop", "Bearer token")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_opens(receiver: Receiver, status: int) -> None:
    receiver.then = status
    assert Desk().answer(a_question(receiver.url)).opens


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (202, "HTTP 202 (accepted, not done yet)"),
        (301, "HTTP 301 (redirects are not followed)"),
        (302, "HTTP 302 (redirects are not followed)"),
        (400, "HTTP 400"),
        (404, "HTTP 404"),
        (410, "HTTP 410"),
        (429, "HTTP 429"),
        (500, "HTTP 500"),
        (503, "HTTP 503"),
    ],
)
def test_everything_else_keeps_closed(receiver: Receiver, status: int, says: str) -> None:
    receiver.then = status
    receiver.headers = {"location": receiver.url + "/elsewhere"}
    assert Desk().answer(a_question(receiver.url)) == GateReply(False, says, AT)
    receiver.next()
    assert receiver.posts.empty()


def test_the_reply_of_a_success_is_heard_too(receiver: Receiver) -> None:
    receiver.says = b"14 of 14\ntests passed"
    assert Desk().answer(a_question(receiver.url)).says == "HTTP 200: 14 of 14 tests passed"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"2 of 14 tests failed:\n\tcheckout, login\n", "HTTP 503: 2 of 14 tests failed: checkout, login"),
        (
            "f\N{LATIN SMALL LETTER U WITH DIAERESIS}r".encode(),
            "HTTP 503: f\N{LATIN SMALL LETTER U WITH DIAERESIS}r",
        ),
        (bytes(range(256)) * 40, "HTTP 503: (a body that is not text)"),
        (b"", "HTTP 503"),
    ],
)
def test_a_reply_is_cut_to_what_a_person_can_read(receiver: Receiver, body: bytes, says: str) -> None:
    receiver.then, receiver.says = 503, body
    assert Desk().answer(a_question(receiver.url)).says == says


def test_a_long_reply_is_shown_by_its_beginning(receiver: Receiver) -> None:
    receiver.then, receiver.says = 503, b"failed " * 1_000_000
    said = Desk().answer(a_question(receiver.url)).says
    assert said.startswith("HTTP 503: failed failed")
    assert len(said) < 350


# ---------------------------------------------------------------- no answer


def test_a_gate_that_does_not_answer_in_time_is_closed_with_that(receiver: Receiver) -> None:
    receiver.then = 0
    assert Desk().answer(a_question(receiver.url, timeout=0.1)).says == "no reply within 0.1 s"
    receiver.release.set()


def test_a_gate_that_is_not_there_is_closed_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert Desk().answer(a_question(nobody)) == GateReply(False, "Connection refused", AT)


def test_a_host_without_an_address_is_closed_with_the_reason() -> None:
    said = Desk().answer(a_question("http://nobody.invalid/smoke")).says
    assert "name" in said.lower() or "resol" in said.lower(), said


def test_a_server_that_speaks_no_tls_is_closed_with_the_reason(receiver: Receiver) -> None:
    said = Desk().answer(a_question(receiver.url.replace("http://", "https://"))).says
    assert "SSL" in said.upper(), said


def test_a_gate_that_the_settings_do_not_have_is_closed_and_says_which_there_are(receiver: Receiver) -> None:
    known = {"load": Known(receiver.url, lambda: None, ReceiverAccess())}
    assert Desk(known).answer(a_question("smoke")).says == "no gate has this name; the settings define load"
    assert Desk().answer(a_question("smoke")).says == "no gate has this name; the settings define no gate"


def test_a_secret_that_cannot_be_read_now_keeps_closed_and_opens_once_it_can(receiver: Receiver) -> None:
    secrets: list[str | None] = []

    def secret() -> str | None:
        if secrets and secrets[0] is None:
            raise InvalidPolicy([Problem((), "cannot be read: FileNotFoundError", "/etc/secret")])
        return SECRET

    desk = Desk({"smoke": Known(receiver.url, secret, ReceiverAccess())})
    secrets.append(None)
    assert "cannot be read" in desk.answer(a_question("smoke")).says
    secrets.clear()
    assert desk.answer(a_question("smoke", name="another")).opens


def test_a_gate_of_the_settings_that_cannot_be_one_is_refused_when_the_daemon_starts() -> None:
    with pytest.raises(ValueError, match="gate smoke: secret must be whsec_"):
        HttpGates(
            {"smoke": Known("http://tests.example", lambda: "passphrase", ReceiverAccess())}, FakeClock(AT)
        )


# ---------------------------------------------------------------- again


def asked_until(
    desk: Desk, question: GateQuestion, what: Callable[[GateReply | None], bool]
) -> GateReply | None:
    until = time.monotonic() + PATIENT
    while not what(reply := desk.gates.ask(question)):
        assert time.monotonic() < until, reply
        time.sleep(0.01)
    return reply


def test_a_closed_gate_is_asked_again_with_the_same_id_until_it_opens_and_then_no_more(
    receiver: Receiver,
) -> None:
    receiver.replies = [503, 202, 500]
    desk, question = (
        Desk({"smoke": Known(receiver.url, lambda: SECRET, ReceiverAccess())}),
        a_question("smoke", every=0.01),
    )
    asked_until(desk, question, lambda reply: reply is not None and reply.opens)
    ids = {receiver.next().headers["webhook-id"] for _ in range(4)}
    assert ids == {"production_front-end-v3-abc12_1790000000_gate_1"}
    for _ in range(20):
        assert desk.gates.ask(question) == GateReply(True, "HTTP 200", AT)
        time.sleep(0.01)
    assert receiver.posts.empty()


def test_a_closed_gate_is_not_asked_again_before_its_time(receiver: Receiver) -> None:
    receiver.then = 503
    desk, question = Desk(), a_question(receiver.url, every=60.0)
    desk.answer(question)
    for _ in range(20):
        desk.gates.ask(question)
        time.sleep(0.01)
    receiver.next()
    assert receiver.posts.empty()


def test_the_last_reply_stands_while_it_is_asked_again(receiver: Receiver) -> None:
    receiver.replies = [503, 0]
    desk, question = Desk(), a_question(receiver.url, every=0.01)
    desk.answer(question)
    receiver.next()
    time.sleep(0.02)
    desk.gates.ask(question)
    receiver.next()
    assert desk.gates.ask(question) == GateReply(False, "HTTP 503", AT)
    receiver.release.set()


def test_asking_never_blocks_and_is_not_doubled_while_a_gate_hangs(receiver: Receiver) -> None:
    receiver.then = 0
    desk, question = Desk(), a_question(receiver.url)
    began = time.monotonic()
    for _ in range(50):
        assert desk.gates.ask(question) is None
    assert time.monotonic() - began < 1.0
    receiver.next()
    assert receiver.posts.empty()
    receiver.release.set()


def test_a_gate_that_hangs_does_not_keep_another_rollout_waiting(receiver: Receiver) -> None:
    receiver.replies = [0]
    desk = Desk()
    desk.gates.ask(a_question(receiver.url, name="hangs"))
    receiver.next()
    assert desk.answer(a_question(receiver.url, name="answers")).opens
    receiver.release.set()


def test_an_answer_that_trickles_in_for_ever_is_closed_and_not_asked_a_second_time() -> None:
    stop = threading.Event()
    connections: queue.Queue[socket.socket] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            connections.put(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"X-A: b\r\n")
            connection.close()

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        desk, question = (
            Desk(),
            a_question(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.2, every=0.01),
        )
        reply = asked_until(desk, question, lambda reply: reply is not None)
        stop.set()
        assert reply is not None
        assert (reply.opens, reply.says[:25], connections.qsize()) == (False, "no complete reply within ", 1)
        thread.join(PATIENT)


def test_a_question_that_nobody_waits_for_any_more_is_forgotten(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, question = Desk(), a_question(receiver.url)
    desk.answer(question)
    receiver.next()
    monkeypatch.setattr(gate_client, "FORGOTTEN", 0.0)
    assert desk.gates.ask(question) is None
    receiver.next()


def test_a_fault_of_canaryd_s_own_keeps_closed_and_is_told(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(question: GateQuestion) -> None:
        raise RuntimeError("of its own")

    monkeypatch.setattr(gate_client, "payload", broken)
    assert Desk().answer(a_question(receiver.url)) == GateReply(False, "RuntimeError: of its own", AT)


def test_no_reply_shows_what_follows_the_host(receiver: Receiver) -> None:
    question = a_question("http://127.0.0.1:1/hook/s3cr3t?token=s3cr3t")
    assert "s3cr3t" not in Desk().answer(question).says


def test_certificates_to_trust_that_are_gone_keep_closed(tmp_path: Path) -> None:
    desk = Desk(
        {
            "smoke": Known(
                "https://127.0.0.1:1", lambda: None, ReceiverAccess(verify=str(tmp_path / "gone.pem"))
            )
        }
    )
    assert not desk.answer(a_question("smoke")).opens
