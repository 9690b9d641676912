"""Sends requests at a steady mean rate (Poisson arrivals) and counts every answer.

    python -m tests.real.cluster.load http://127.0.0.1:17000 --rate 50 [--seconds 60] [--host front-end]
        [--header 'cookie: logged_in=1' --share 0.3]

Ends after --seconds, or with --until-stdin-ends when that does: then it sends no more, and waits for what is
under way, so that nothing is cut. Prints one JSON line at the end: {"sent": n, "status": {"200": n},
"version": {"v1": n}, "unanswered": n}; with --every N also one a period. `unanswered` counts connections
refused or cut: no request is ever sent twice.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import math
import os
import random
import sys
import time
from urllib.parse import urlsplit

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.url, self.random = options, urlsplit(options.url), random.Random(options.seed)
        self.status: collections.Counter[str] = collections.Counter()
        self.version: collections.Counter[str] = collections.Counter()
        self.idle: list[Connection] = []
        self.pending: set[asyncio.Task[None]] = set()
        self.sent = self.unanswered = 0
        self.stopped = asyncio.Event()

    async def one(self) -> None:
        o = self.options
        extra = f"{o.header}\r\n" if o.header and self.random.random() < o.share else ""
        head = f"GET {self.url.path or '/'} HTTP/1.1\r\nhost: {o.host or self.url.netloc}\r\n{extra}\r\n".encode()  # noqa: E501
        try:
            reader, writer = (
                self.idle.pop()
                if self.idle
                else await asyncio.open_connection(self.url.hostname, self.url.port)
            )
            writer.write(head)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in answer[1:] if ": " in line)
            await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError):
            self.unanswered += 1
            return
        self.status[answer[0].split(" ")[1]] += 1
        self.version[headers.get("x-version", "none")] += 1
        if headers.get("connection") == "close":
            writer.close()
        else:
            self.idle.append((reader, writer))

    def report(self) -> None:
        counts = {
            "sent": self.sent,
            "status": self.status,
            "version": self.version,
            "unanswered": self.unanswered,
        }
        try:
            print(json.dumps(counts), flush=True)
        except BrokenPipeError:
            os._exit(1)  # whoever wanted to know has gone

    async def watch_stdin(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        await reader.read()
        self.stopped.set()

    async def run(self) -> None:
        o = self.options
        watching = asyncio.create_task(self.watch_stdin()) if o.until_stdin_ends else None
        start = at = shown = time.monotonic()
        while not self.stopped.is_set() and at - start < o.seconds:
            at += self.random.expovariate(o.rate)
            if (ahead := at - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            task = asyncio.create_task(self.one())
            self.pending.add(task)
            task.add_done_callback(self.pending.discard)
            self.sent += 1
            if o.every and at - shown >= o.every:
                shown = at
                self.report()
        if self.pending:
            await asyncio.wait(self.pending, timeout=30)
        self.report()
        if watching:
            watching.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--until-stdin-ends", action="store_true", help="for a process that started this one")
    parser.add_argument("--host", default="")
    parser.add_argument("--header", default="")
    parser.add_argument(
        "--share", type=float, default=1.0, help="the share of requests that carry the header"
    )
    parser.add_argument("--every", type=float, default=0, help="seconds between reports")
    parser.add_argument("--seed", type=int, default=1)

    async def run() -> None:
        await Load(parser.parse_args()).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
