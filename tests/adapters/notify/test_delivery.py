"""Delivery in the background: at least once, never in anybody's way. Waits are for events; none is a guess of
how long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from canaryd.adapters.notify.delivery import Delivery, DeliveryFailure, Notifier, Patience, StandingNotifier
from canaryd.adapters.notify.http_post import ReceiverAccess
from canaryd.adapters.notify.webhook import Webhook
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Announcement
from tests.adapters.notify.receivers import AT, PATIENT, Receiver, an_announcement, receiving

QUICK = Patience(first=0.01, longest=0.02)


@dataclass
class FixedClock:
    at: float = AT

    def now(self) -> float:
        return self.at


@dataclass
class Told:
    """A notifier that raises what it is given to raise, by the announcement's id, and notes what it was
    asked."""

    raises: dict[str, list[Exception]] = field(default_factory=dict)
    tries: queue.Queue[str] = field(default_factory=queue.Queue)

    def send(self, announcement: Announcement) -> None:
        self.tries.put(announcement.id)
        if self.raises.get(announcement.id):
            raise self.raises[announcement.id].pop(0)

    def next(self) -> str:
        return self.tries.get(timeout=PATIENT)


@dataclass
class Standing(Told):
    stands: float = 60.0
    unreachable: threading.Event = field(default_factory=threading.Event)

    def refresh(self, firing: Sequence[Announcement], now: float) -> None:
        self.tries.put("refresh " + " ".join(announcement.id for announcement in firing))
        if self.unreachable.is_set():
            raise Unavailable("down")

    def resolve(self, announcement: Announcement, now: float) -> None:
        self.tries.put("resolve " + announcement.id)
        if self.unreachable.is_set():
            raise Unavailable("down")


Making = Callable[..., Delivery]


@pytest.fixture
def delivering() -> Iterator[Making]:
    made: list[Delivery] = []

    def make(
        notifiers: Mapping[str, Notifier],
        on_failure: Callable[[DeliveryFailure], None] = lambda _: None,
        patience: Patience = QUICK,
    ) -> Delivery:
        made.append(Delivery(notifiers, FixedClock(), on_failure, dict.fromkeys(notifiers, patience)))
        return made[-1]

    yield make
    for one in made:
        one.close(0)


def outcomes(delivery: Delivery, count: int) -> list[tuple[str, str, bool]]:
    """Collects until so many have ended."""
    until, ended = time.monotonic() + PATIENT, []
    while len(ended) < count and time.monotonic() < until:
        ended += delivery.collect()
        threading.Event().wait(0.002)
    return ended


def test_an_announcement_is_delivered_and_collected_once(delivering: Making) -> None:
    delivery = delivering({"oncall": Told()})
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", True)]
    assert delivery.collect() == []


def test_a_failed_try_is_repeated_until_it_is_delivered(delivering: Making) -> None:
    told, failures = Told({"a": [Unavailable("503"), Unavailable("503")]}), []
    delivery = delivering({"oncall": told}, failures.append)
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", True)]
    assert [told.next() for _ in range(3)] == ["a", "a", "a"]
    assert [(failure.reason, failure.next_try is not None) for failure in failures] == [
        ("503", True),
        ("503", True),
    ]


def test_over_http_every_try_carries_the_same_id(delivering: Making) -> None:
    with receiving(Receiver(replies=[500, 429, 302])) as receiver:
        delivery = delivering({"oncall": Webhook(receiver.url)})
        delivery.offer(an_announcement(), ["oncall"])
        assert outcomes(delivery, 1) == [(an_announcement().id, "oncall", True)]
        assert {receiver.next().headers["webhook-id"] for _ in range(4)} == {an_announcement().id}
        assert receiver.posts.empty()


def test_what_is_under_way_is_not_handed_over_twice(delivering: Making) -> None:
    told = Told({"a": [Unavailable("no")]})
    delivery = delivering({"oncall": told}, patience=Patience(first=3600))
    for _ in range(20):
        delivery.offer(an_announcement(id="a"), ["oncall"])
    delivery.offer(an_announcement(id="b"), ["oncall"])
    assert [told.next(), told.next()] == ["a", "b"]
    assert told.tries.empty()


def test_an_outcome_that_was_not_noted_is_told_again_without_a_second_delivery(delivering: Making) -> None:
    told = Told()
    delivery = delivering({"oncall": told})
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", True)]
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert delivery.collect() == [("a", "oncall", True)]
    assert told.tries.qsize() == 1


def test_a_retry_waits_aside_while_later_announcements_pass(delivering: Making) -> None:
    told = Told({"a": [Unavailable("no")]})
    delivery = delivering({"oncall": told}, patience=Patience(first=3600, longest=3600))
    for name in "abc":
        delivery.offer(an_announcement(id=name), ["oncall"])
    assert outcomes(delivery, 2) == [("b", "oncall", True), ("c", "oncall", True)]


def test_a_hanging_receiver_delays_neither_the_caller_nor_another_notifier(delivering: Making) -> None:
    with receiving(Receiver(then=0)) as hanging, receiving(Receiver()) as healthy:
        delivery = delivering(
            {
                "dead": Webhook(hanging.url, access=ReceiverAccess(timeout=PATIENT)),
                "oncall": Webhook(healthy.url),
            }
        )
        delivery.offer(an_announcement(id="first"), ["dead"])
        # from here on it hangs, until `release` is set
        assert hanging.next().headers["webhook-id"] == "first"
        began = time.monotonic()
        for number in range(100):
            delivery.offer(an_announcement(id=f"n{number}"), ["dead", "oncall"])
        handed_over = time.monotonic() - began
        assert {healthy.next().headers["webhook-id"] for _ in range(100)} == {
            f"n{number}" for number in range(100)
        }
        assert not hanging.release.is_set()
        assert hanging.posts.empty()
        assert handed_over < PATIENT / 2
        assert {name for _, name, _ in outcomes(delivery, 100)} == {"oncall"}
        began = time.monotonic()
        assert delivery.close(0.2) is False
        assert time.monotonic() - began < PATIENT / 2


def test_a_rejected_announcement_is_given_up_at_once(delivering: Making) -> None:
    failures: list[DeliveryFailure] = []
    delivery = delivering({"oncall": Told({"a": [Rejected("gone")]})}, failures.append)
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", False)]
    delivery.close(PATIENT)
    assert failures == [DeliveryFailure("oncall", "a", "gone", None)]


def test_what_is_too_old_is_tried_once_and_then_given_up(delivering: Making) -> None:
    told = Told({"a": [Unavailable("no")] * 5})
    delivery = delivering({"oncall": told}, patience=Patience(first=0.01, give_up_after=60))
    delivery.offer(an_announcement(id="a", at=AT - 3600), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", False)]
    assert told.tries.qsize() == 1


def test_an_unknown_notifier_is_given_up_at_once_and_told_once(delivering: Making) -> None:
    failures: list[DeliveryFailure] = []
    delivery = delivering({"oncall": Told()}, failures.append)
    for _ in range(2):
        delivery.offer(an_announcement(id="a"), ["onkall"])
        assert delivery.collect() == [("a", "onkall", False)]
    assert [failure.reason for failure in failures] == [
        "no notifier is named onkall; the settings define oncall"
    ]


def test_a_fault_of_a_notifier_s_own_ends_neither_it_nor_the_announcement(delivering: Making) -> None:
    failures: list[DeliveryFailure] = []
    delivery = delivering({"oncall": Told({"a": [KeyError("x")]})}, failures.append)
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", True)]
    assert failures[0].reason == "KeyError: 'x'"


def test_a_fault_in_the_report_of_a_failure_does_not_end_deliveries(delivering: Making) -> None:
    def broken(failure: DeliveryFailure) -> None:
        raise RuntimeError("report")

    delivery = delivering({"oncall": Told({"a": [Unavailable("no")]})}, broken)
    delivery.offer(an_announcement(id="a"), ["oncall"])
    assert outcomes(delivery, 1) == [("a", "oncall", True)]


def test_waits_double_up_to_the_longest_and_differ() -> None:
    patience = Patience()
    for failures, full in [(1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (5000, 300)]:
        waits = [patience.wait(failures) for _ in range(50)]
        assert full / 2 <= min(waits) < max(waits) <= full


def test_close_ends_idle_and_retrying_lanes_at_once(delivering: Making) -> None:
    told = Told({"a": [Unavailable("no")]})
    delivery = delivering({"idle": Told(), "retrying": told}, patience=Patience(first=3600, longest=3600))
    delivery.offer(an_announcement(id="a"), ["retrying"])
    told.next()
    began = time.monotonic()
    assert delivery.close(PATIENT) is True
    assert time.monotonic() - began < 1


def test_what_fires_is_sent_at_once_after_a_restart_and_resolved_once_when_it_is_over(
    delivering: Making,
) -> None:
    standing = Standing()
    assert isinstance(standing, StandingNotifier)
    delivery = delivering({"alerts": standing, "oncall": Told()})
    other = an_announcement(id="b", rollout="carts-v3-abc12", service="carts")
    for _ in range(5):
        delivery.keep_firing("alerts", [an_announcement(id="a"), other])
    assert standing.next() == "refresh a b"
    for _ in range(5):
        delivery.keep_firing("alerts", [other])
    assert standing.next() == "resolve a"
    delivery.keep_firing("oncall", [an_announcement(id="a")])
    delivery.keep_firing("nobody", [an_announcement(id="a")])
    delivery.close(PATIENT)
    assert standing.tries.empty()


def test_what_fires_is_sent_again_at_half_of_its_life(delivering: Making) -> None:
    standing = Standing(stands=0.1)
    delivery = delivering({"alerts": standing})
    delivery.offer(an_announcement(id="a"), ["alerts"])
    assert standing.next() == "a"
    delivery.keep_firing("alerts", [an_announcement(id="a")])
    sent = time.monotonic()
    assert [standing.next() for _ in range(3)] == ["refresh a"] * 3
    # the first within half a life of being sent; two whole ones follow
    assert time.monotonic() - sent >= 2.5 * 0.05


def test_an_alertmanager_that_is_down_is_asked_again_and_then_told_what_is_over(delivering: Making) -> None:
    standing = Standing()
    standing.unreachable.set()
    failures: queue.Queue[DeliveryFailure] = queue.Queue()
    delivery = delivering({"alerts": standing}, failures.put)
    delivery.keep_firing("alerts", [an_announcement(id="a")])
    assert [standing.next(), standing.next()] == ["refresh a"] * 2
    delivery.keep_firing("alerts", [])
    standing.unreachable.clear()
    seen = [standing.next()]
    while seen[-1] != "resolve a":
        seen.append(standing.next())
    assert failures.get(timeout=PATIENT).reason == "down"


def test_what_is_over_before_it_could_be_told_is_not_told_afterwards(delivering: Making) -> None:
    standing = Standing({"a": [Unavailable("down")]})
    delivery = delivering({"alerts": standing}, patience=Patience(first=3600, longest=3600))
    delivery.offer(an_announcement(id="a"), ["alerts"])
    assert standing.next() == "a"
    delivery.keep_firing("alerts", [an_announcement(id="a")])
    assert standing.next() == "refresh a"
    delivery.keep_firing("alerts", [])
    assert standing.next() == "resolve a"
    assert outcomes(delivery, 1) == [("a", "alerts", False)]


def held(identity: str) -> Announcement:
    return an_announcement(id=identity, event="held")


def seen_until(standing: Standing, last: str) -> list[str]:
    """What was tried, up to and with `last`."""
    seen = [standing.next()]
    while seen[-1] != last:
        seen.append(standing.next())
    return seen


@pytest.mark.parametrize("told_first", [True, False], ids=["offered", "after a restart"])
def test_a_resolve_that_comes_late_does_not_end_the_alert_of_a_second_hold(
    delivering: Making, told_first: bool
) -> None:
    standing = Standing(stands=0.2)
    standing.unreachable.set()
    delivery = delivering({"alerts": standing})
    delivery.keep_firing("alerts", [held("1")])
    delivery.keep_firing("alerts", [])
    seen_until(standing, "resolve 1")
    if told_first:  # as the beat does: news first, then all that stands
        delivery.offer(held("2"), ["alerts"])
        seen_until(standing, "2")
    delivery.keep_firing("alerts", [held("2")])
    seen_until(standing, "refresh 2")
    standing.unreachable.clear()
    assert {standing.next() for _ in range(3)} == {"refresh 2"}


def test_a_resolve_that_comes_late_still_ends_the_alert_of_another_rollout(delivering: Making) -> None:
    standing = Standing()
    standing.unreachable.set()
    delivery = delivering({"alerts": standing})
    delivery.keep_firing("alerts", [held("1")])
    delivery.keep_firing("alerts", [an_announcement(id="2", event="held", rollout="front-end-v4-abc12")])
    seen_until(standing, "resolve 1")
    standing.unreachable.clear()
    seen_until(standing, "resolve 1")
