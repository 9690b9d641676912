"""A receiver of webhooks: keeps what was posted, and can be slow or dead on demand."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from canaryd_sandbox.server import Faults, Receive, Scope, Send, Server


@dataclass(frozen=True)
class Delivery:
    """One posted request: when it came (Unix seconds), where to, its headers (names in lower case), its raw
    body."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(Server):
    """Answers every POST with 204 and keeps it. `faults.down`, `.delay(seconds)`, `.status(code, times)` make
    it dead, slow, unwilling."""

    def __init__(self) -> None:
        self._deliveries: list[Delivery] = []
        self._arrived = threading.Condition()
        super().__init__(self._take, Faults(), "webhook receiver")

    @property
    def deliveries(self) -> list[Delivery]:
        """What was taken so far, in order. What was answered with a fault is not among it."""
        with self._arrived:
            return list(self._deliveries)

    def wait_for(self, wanted: Callable[[list[Delivery]], bool], timeout: float = 10.0) -> list[Delivery]:
        """The deliveries, as soon as they are as `wanted`; TimeoutError after `timeout` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: wanted(self._deliveries), timeout):
                raise TimeoutError(
                    f"not as wanted after {timeout} s; {len(self._deliveries)} deliveries came"
                )
            return list(self._deliveries)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = PlainTextResponse("", 204 if request.method == "POST" else 405)
        if request.method == "POST":
            delivery = Delivery(time.time(), request.url.path, dict(request.headers), await request.body())
            with self._arrived:
                self._deliveries.append(delivery)
                self._arrived.notify_all()
        await response(scope, receive, send)
