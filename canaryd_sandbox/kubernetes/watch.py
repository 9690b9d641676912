"""A watch: the changes of one resource as a stream of JSON lines, from a version on, as Kubernetes sends
them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

from canaryd_sandbox.kubernetes.patch import Selector
from canaryd_sandbox.kubernetes.resources import ApiError, Object, Target, shown
from canaryd_sandbox.kubernetes.store import Change, Store

LONGEST = 1800.0  # seconds, when the client asks for no other: the lower end of what an API server draws
BOOKMARK_EVERY = 5.0  # seconds; a real server takes about a minute, here tests want to see one


def _line(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _bookmark(target: Target, version: int, initial: bool = False) -> bytes:
    metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    resource = target.resource
    return _line(
        "BOOKMARK",
        {"kind": resource.kind, "apiVersion": resource.api_version(target.version), "metadata": metadata},
    )


def _seen(change: Change, target: Target, selects: Selector) -> bytes | None:
    """The change as this watcher sees it: an object that leaves the selection is DELETED to it, one that
    enters is ADDED."""
    namespace = change.obj["metadata"].get("namespace")
    if change.key != target.resource.key or (target.namespace is not None and namespace != target.namespace):
        return None
    now = change.kind != "DELETED" and selects(change.obj)
    before = change.before is not None and selects(change.before)
    if not now and not before:
        return None
    kind = "MODIFIED" if now and before else "ADDED" if now else "DELETED"
    return _line(kind, shown(change.obj, target.resource, target.version))


async def watch(
    store: Store, target: Target, query: Mapping[str, str], selects: Selector
) -> AsyncIterator[bytes]:
    """The lines of one watch. Ends after `timeoutSeconds`; a version too old is an ERROR line with a 410, and
    the end."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Change] = asyncio.Queue()

    def hear(change: Change) -> None:
        if not loop.is_closed():  # a server that has stopped tells nobody
            loop.call_soon_threadsafe(queue.put_nowait, change)

    since, everything = query.get("resourceVersion", ""), query.get("sendInitialEvents") == "true"
    fresh = since in ("", "0") or everything
    try:
        with store.lock:
            first = store.list(target.resource, target.namespace) if fresh else []
            last_version = store.version if fresh else int(since)
            missed = store.subscribe(last_version, hear)
    except ApiError as error:
        yield _line("ERROR", error.status())
        return
    try:
        for obj in filter(selects, first):
            yield _line("ADDED", shown(obj, target.resource, target.version))
        if everything:
            yield _bookmark(target, last_version, initial=True)
        for change in missed:
            last_version = change.version
            if line := _seen(change, target, selects):
                yield line
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        async for line in _follow(
            queue, target, selects, last_version, float(query.get("timeoutSeconds") or LONGEST), bookmarks
        ):
            yield line
    finally:
        store.unsubscribe(hear)


async def _follow(
    queue: asyncio.Queue[Change],
    target: Target,
    selects: Selector,
    last_version: int,
    seconds: float,
    bookmarks: bool,
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    end, next_bookmark = loop.time() + seconds, loop.time() + BOOKMARK_EVERY
    while loop.time() < end:
        try:
            change = await asyncio.wait_for(queue.get(), max(0.0, min(end, next_bookmark) - loop.time()))
        except TimeoutError:
            if bookmarks:
                yield _bookmark(target, last_version)
            next_bookmark = loop.time() + BOOKMARK_EVERY
            continue
        last_version = change.version
        if line := _seen(change, target, selects):
            yield line
