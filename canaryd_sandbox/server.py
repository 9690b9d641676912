"""One HTTP server in a thread on 127.0.0.1, and the faults it can have on demand.

Shared by the sandbox's Kubernetes API, its Prometheus API and its webhook receiver. Nothing here knows what
is served.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Match = Callable[[str, str], bool]
"""Tells by (method, path) whether a fault strikes this request."""

STARTED_WITHIN = 60.0  # seconds until a server serves; milliseconds, but on a machine that is overloaded
POLL = 0.02  # seconds between looks at whether a hang is over: short against any client's time limit


class Faults:
    """What goes wrong, until it is taken back. Safe to change from any thread while requests are served.

    `down`: connections are cut at once, and those that are open break, as with a process that died.
    `hang`: requests are taken and never answered until it is set back, as with a black hole.
    `seconds`: every answer comes this much later (see `delay`).
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.hang = False
        self._lock = threading.Lock()
        self._down = False
        self._failures: list[tuple[int, Match]] = []
        self._on_down: list[Callable[[], None]] = []

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        self._down = value
        if value:
            for cut in self._on_down:
                cut()

    def delay(self, seconds: float) -> None:
        """Answer every request `seconds` late; 0 takes it back."""
        self.seconds = seconds

    def status(self, code: int, times: int = 1, match: Match | None = None) -> None:
        """Answer the next `times` requests that `match` takes (default: all) with HTTP `code`, undone and
        unexplained."""
        with self._lock:
            self._failures += [(code, match or (lambda method, path: True))] * times

    def conflict_next(self, times: int = 1) -> None:
        """Answer the next `times` writes of existing objects with 409 Conflict."""
        self.status(409, times, lambda method, path: method in ("PUT", "PATCH"))

    def clear(self) -> None:
        """Take every fault back."""
        with self._lock:
            self._failures.clear()
        self.seconds, self.hang, self.down = 0.0, False, False

    def take(self, method: str, path: str) -> int | None:
        """The status that this request shall fail with, used up by the asking; None when it shall be
        served."""
        with self._lock:
            for index, (code, match) in enumerate(self._failures):
                if match(method, path):
                    del self._failures[index]
                    return code
        return None

    def on_down(self, cut: Callable[[], None]) -> None:
        self._on_down.append(cut)


REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Server:
    """Serves `app` on 127.0.0.1 at a free port in a thread of its own, between `with` and its end."""

    def __init__(self, app: App, faults: Faults, name: str) -> None:
        self.faults = faults
        self._app, self._name = app, name
        self._loop: asyncio.AbstractEventLoop | None = None
        # With the protocol named, since asyncio switches Nagle's algorithm off only then, and each answer
        # would come 40 ms late.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        faults.on_down(self._cut)

        class Protocol(H11Protocol):
            """HTTP/1.1 that hangs up at once while the fault `down` lasts."""

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                if faults.down:
                    transport.abort()

        self._server = uvicorn.Server(
            uvicorn.Config(
                self._serve,
                http=Protocol,
                interface="asgi3",
                ws="none",
                lifespan="off",
                proxy_headers=False,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
                timeout_keep_alive=3600,
            )
        )  # uvicorn's 5 s would cut a client's pooled connection just as it is used again
        self._thread = threading.Thread(target=self._run, name=f"sandbox-{name}", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + STARTED_WITHIN
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError(
                    f"the sandbox's {self._name} server did not start on 127.0.0.1:{self.port} within "
                    f"{STARTED_WITHIN:.0f} s"
                )
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cut()  # watches would otherwise be waited for
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])

    def _cut(self) -> None:
        """Break every open connection."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return

        def abort() -> None:
            for connection in list(self._server.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()

        # the loop closed between the check and the call: nothing is open any more
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(abort)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        code = self.faults.take(scope["method"], scope["path"])
        if self.faults.seconds:
            await asyncio.sleep(self.faults.seconds)
        while self.faults.hang:
            await asyncio.sleep(POLL)
        if code is None:
            await self._app(scope, receive, send)
        else:
            await refuse(code, send)


async def refuse(code: int, send: Send) -> None:
    """Answer with a failure on demand, in the shape of Kubernetes' Status, which any other client may
    ignore."""
    body = json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": REASONS.get(code, "Unknown"),
            "message": f"the sandbox was told to fail with {code}",
        }
    ).encode()
    await send(
        {
            "type": "http.response.start",
            "status": code,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
