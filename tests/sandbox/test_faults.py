"""What goes wrong on demand goes wrong as it does in life, and is over when it is taken back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from canaryd_sandbox.kubernetes.resources import NAMESPACES
from canaryd_sandbox.receiver import Receiver
from canaryd_sandbox.world import World

PODS = "/api/v1/namespaces/production/pods"
VIRTUALSERVICE = "/apis/networking.istio.io/v1/namespaces/production/virtualservices/sockshop"


@pytest.fixture
def url(world: World) -> str:
    return world.kubernetes.url


def test_what_is_down_cuts_open_connections_and_takes_none(world: World, url: str) -> None:
    with requests.Session() as session:
        assert session.get(url + PODS, timeout=2).ok
        watching = session.get(url + PODS, params={"watch": "1"}, stream=True, timeout=5)
        world.kubernetes.faults.down = True
        with pytest.raises(requests.exceptions.RequestException):
            for _ in watching.iter_lines():
                pass  # what was there when it began; then the cut
        for _ in range(2):
            with pytest.raises(requests.exceptions.ConnectionError):
                requests.get(url + PODS, timeout=2)
        world.kubernetes.faults.down = False
        assert requests.get(url + PODS, timeout=2).ok


def test_a_hang_lasts_until_it_is_taken_back(world: World, url: str) -> None:
    world.kubernetes.faults.hang = True
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url + PODS, timeout=0.3)
    threading.Timer(0.3, world.kubernetes.faults.clear).start()
    begun = time.monotonic()
    assert requests.get(url + PODS, timeout=5).ok
    assert time.monotonic() - begun > 0.25


def test_a_delay_delays(world: World, url: str) -> None:
    world.kubernetes.faults.delay(0.3)
    begun = time.monotonic()
    assert requests.get(url + PODS, timeout=5).ok
    assert time.monotonic() - begun > 0.28


def test_a_status_strikes_as_often_as_told_and_only_where_told(world: World, url: str) -> None:
    world.kubernetes.faults.status(503, times=2, match=lambda method, path: path == PODS)
    assert requests.get(url + VIRTUALSERVICE, timeout=2).status_code == 200
    assert [requests.get(url + PODS, timeout=2).status_code for _ in range(3)] == [503, 503, 200]


def test_a_conflict_on_demand_writes_nothing(world: World, url: str) -> None:
    world.kubernetes.faults.conflict_next(1)
    before = world.virtualservice()
    merge = {"Content-Type": "application/merge-patch+json"}

    def patched() -> requests.Response:
        return requests.patch(
            url + VIRTUALSERVICE, data=json.dumps({"spec": {"hosts": ["x"]}}), headers=merge, timeout=2
        )

    refused = patched()
    assert (refused.status_code, refused.json()["reason"], world.virtualservice()) == (
        409,
        "Conflict",
        before,
    )
    assert patched().status_code == 200


def lines(url: str, **query: str) -> Iterator[Any]:
    with requests.get(url, params={"watch": "1", **query}, stream=True, timeout=10) as response:
        assert response.status_code == 200
        yield from (json.loads(line) for line in response.iter_lines())


def test_a_watch_from_a_forgotten_version_is_told_410_and_ended(world: World, url: str) -> None:
    for number in range(3):
        world.store.create(NAMESPACES, None, {"metadata": {"name": f"more-{number}"}})
    world.store.forget_history()
    (event,) = lines(url + PODS, resourceVersion="2")
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_the_history_has_an_end(world: World) -> None:
    first = world.store.version
    for number in range(20_001):
        world.store._put(NAMESPACES, "MODIFIED", {"metadata": {"name": "production", "n": number}}, None)
    with pytest.raises(Exception, match="too old resource version"):
        world.store.subscribe(first, lambda change: None)
    world.store.subscribe(world.store.version - 9_000, lambda change: None)


def test_a_watch_that_asks_for_bookmarks_gets_them(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canaryd_sandbox.kubernetes.watch.BOOKMARK_EVERY", 0.3)
    version = str(world.store.version)
    seen = list(lines(url + PODS, resourceVersion=version, allowWatchBookmarks="true", timeoutSeconds="1"))
    assert seen
    assert {event["type"] for event in seen} == {"BOOKMARK"}
    assert seen[-1]["object"]["metadata"]["resourceVersion"] == version
    assert list(lines(url + PODS, resourceVersion=version, timeoutSeconds="1")) == []


def test_a_watch_list_marks_the_end_of_what_was_there(world: World, url: str) -> None:
    seen = list(
        lines(
            url + PODS,
            sendInitialEvents="true",
            allowWatchBookmarks="true",
            timeoutSeconds="1",
            resourceVersionMatch="NotOlderThan",
        )
    )
    assert [event["type"] for event in seen[:4]] == ["ADDED", "ADDED", "ADDED", "BOOKMARK"]
    assert seen[3]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_no_answer_waits_for_an_acknowledgement(world: World, url: str) -> None:
    """With Nagle's algorithm on, every single one would take 40 ms; a busy machine slows only some."""
    took = []
    with requests.Session() as session:
        for _ in range(20):
            begun = time.monotonic()
            session.get(url + VIRTUALSERVICE, timeout=2)
            took.append(time.monotonic() - begun)
    assert min(took) < 0.03


def test_a_receiver_keeps_what_was_posted() -> None:
    with Receiver() as receiver:
        requests.post(receiver.url + "/hook", json={"a": 1}, headers={"webhook-id": "x"}, timeout=2)
        (delivery,) = receiver.wait_for(lambda deliveries: len(deliveries) == 1)
        assert (delivery.path, delivery.json, delivery.headers["webhook-id"]) == ("/hook", {"a": 1}, "x")
        assert requests.get(receiver.url, timeout=2).status_code == 405


def test_a_receiver_can_be_dead_slow_and_unwilling() -> None:
    with Receiver() as receiver:
        receiver.faults.status(500)
        assert requests.post(receiver.url, json={}, timeout=2).status_code == 500
        receiver.faults.down = True
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.post(receiver.url, json={}, timeout=2)
        receiver.faults.clear()
        receiver.faults.delay(0.5)
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(receiver.url, json={}, timeout=0.2)
        with pytest.raises(TimeoutError, match="0 deliveries came"):
            receiver.wait_for(lambda deliveries: len(deliveries) == 7, timeout=0.05)
