"""A webhook receiver in the test's own process: what Alertmanager, and canaryd itself, tell the outside."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Notification:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # Unix seconds

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Answers every POST with `status`, and keeps those it accepted in `notifications` and the others in
    `refused`."""

    def __init__(self) -> None:
        self.status = 200
        self.notifications: list[Notification] = []
        self.refused: list[Notification] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                note = Notification(
                    self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time()
                )
                (receiver.notifications if receiver.status < 300 else receiver.refused).append(note)
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the notifications are what tests read."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def at(self, path: str) -> list[Notification]:
        return [note for note in self.notifications if note.path == path]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that Alertmanager told of, in order; one told of twice (firing, then resolved) is there
        twice."""
        return [alert for note in self.at("/alertmanager") for alert in note.json["alerts"]]

    def clear(self) -> None:
        self.status = 200
        self.notifications.clear()
        self.refused.clear()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
