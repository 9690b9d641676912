"""An HTTP receiver whose replies are scripted, and announcements to send to it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from canaryd.domain.rollout import Announcement
from canaryd.domain.verdict import Answer, MetricFinding, Verdict

AT = 1_790_000_000.25  # 2026-09-21T14:13:20.250Z
PATIENT = 10.0  # s a test waits for what should come at once, before it fails


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Receiver:
    """replies: statuses of the next POSTs; when they are used up, `then`. A status of 0 hangs until `release`
    is set."""

    then: int = 200
    replies: list[int] = field(default_factory=list)
    says: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    posts: queue.Queue[Post] = field(default_factory=queue.Queue)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def next(self) -> Post:
        return self.posts.get(timeout=PATIENT)


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.posts.put(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status = receiver.replies.pop(0) if receiver.replies else receiver.then
            if status == 0:
                receiver.release.wait(PATIENT)
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.says)))
            self.end_headers()
            self.wfile.write(receiver.says)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def a_finding(**changed: Any) -> MetricFinding:
    return MetricFinding(
        **{
            "metric": "errors",
            "what": "errors",
            "answer": Answer.FAIL,
            "stable_events": 12,
            "stable_requests": 9000,
            "canary_events": 51,
            "canary_requests": 1000,
            "ratio": 38.25,
            "low": 12.5,
            "high": 90.0,
            "tolerated": 1.1,
            "unacceptable": 2.0,
            "odds": 5231.0,
            "says": "errors 5.1% against 0.13% (ratio 38, 12.5 to 90; 10% tolerated)",
        }
        | changed
    )


def a_verdict(*findings: MetricFinding, **changed: Any) -> Verdict:
    given = {
        "answer": Answer.FAIL,
        "at": int(AT),
        "stage": 0,
        "weight": 10,
        "looks": 14,
        "odds": 5231.0,
        "canary_requests": 1000,
    }
    return Verdict(
        **given | {"reason": "errors 5.1% against 0.13%", "findings": findings or (a_finding(),)} | changed
    )


def an_announcement(**changed: Any) -> Announcement:
    return Announcement(
        **{
            "id": "front-end-v3-abc12-rolled-back-7",
            "event": "rolled_back",
            "at": AT,
            "namespace": "production",
            "service": "front-end",
            "rollout": "front-end-v3-abc12",
            "stable": "v2",
            "canary": "v3",
            "stage": 0,
            "weight": 10,
            "reason": "errors 5.1% against 0.13% (ratio 38), odds 5231 to 1, rolled back at 100",
            "verdict": a_verdict(),
        }
        | changed
    )
