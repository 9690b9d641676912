"""Delivers announcements in the background: each notifier has a thread, so that a dead receiver delays
nothing else.

Delivery is at least once: a failed try is repeated, with the same id, until the announcement is delivered,
refused for good, or too old. The order is not kept: later announcements overtake one that waits for a retry.
Nothing is stored here; a restarted daemon offers again what its records do not show as ended.
"""

import heapq
import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from canaryd.domain.ports import Clock, Rejected, Unavailable
from canaryd.domain.rollout import Announcement

FIRST = 1.0  # s before the first retry; each further retry waits twice as long
LONGEST = 300.0  # s between two retries at most: a receiver that is back gets it within 5 minutes
GIVE_UP_AFTER = 86_400.0  # s since the announcement: a receiver that was down over night still gets it
REMEMBERED = 4096  # outcomes kept for each notifier, so that nothing that has ended is delivered again


class Notifier(Protocol):
    """A receiver of announcements."""

    def send(self, announcement: Announcement) -> None:
        """Sends an announcement once. Raises Unavailable (try again), Rejected (never again)."""


@runtime_checkable
class StandingNotifier(Protocol):
    """A notifier whose announcements stand until they are resolved, and lapse after `stands` seconds unless
    they are refreshed."""

    @property
    def stands(self) -> float: ...

    def send(self, announcement: Announcement) -> None: ...

    def refresh(self, firing: Sequence[Announcement], now: float) -> None: ...

    def resolve(self, announcement: Announcement, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """A failed try. announcement: its id; "" for a refresh of firing ones. next_try: seconds until the next
    try; None: given up."""

    notifier: str
    announcement: str
    reason: str
    next_try: float | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long deliveries are tried. first: seconds before the first retry. longest: the most seconds between
    two tries. give_up_after: seconds since the announcement's time."""

    first: float = FIRST
    longest: float = LONGEST
    give_up_after: float = GIVE_UP_AFTER

    def wait(self, failures: int) -> float:
        """Seconds before the next try: doubled with each failure, and reduced by up to half at random, so
        that many daemons do not retry in step. failures: tries that failed, at least 1."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * random.uniform(0.5, 1.0)


class Delivery:
    """Delivers announcements to notifiers: implements the port `Postman`. No method raises, and only `close`
    blocks.

    notifiers: by name. on_failure: called with every failed try, from the notifiers' threads. patience: by
    notifier, if it differs from the default.
    """

    def __init__(
        self,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        on_failure: Callable[[DeliveryFailure], None] = lambda failure: None,
        patience: Mapping[str, Patience] | None = None,
    ) -> None:
        chosen = patience or {}
        self._on_failure = on_failure
        self._lanes = {
            name: _Lane(name, notifier, clock, on_failure, chosen.get(name, Patience()))
            for name, notifier in notifiers.items()
        }
        self._unknown: list[tuple[str, str, bool]] = []
        self._reported: set[tuple[str, str]] = set()  # of `_unknown`: announcement, notifier

    def offer(self, announcement: Announcement, notifiers: Sequence[str]) -> None:
        """Queues an announcement for these notifiers. One that has ended already is not sent again; `collect`
        returns its outcome again, since the caller has not noted it."""
        for name in notifiers:
            if name in self._lanes:
                self._lanes[name].offer(announcement)
                continue
            self._unknown.append((announcement.id, name, False))
            if (announcement.id, name) not in self._reported:
                self._reported.add((announcement.id, name))
                known = ", ".join(sorted(self._lanes)) or "no notifier"
                self._on_failure(
                    DeliveryFailure(
                        name,
                        announcement.id,
                        f"no notifier is named {name}; the settings define {known}",
                        None,
                    )
                )

    def collect(self) -> Sequence[tuple[str, str, bool]]:
        """What has ended since the last call: (announcement id, notifier, True if delivered or False if given
        up)."""
        unknown, self._unknown = self._unknown, []
        return unknown + [outcome for lane in self._lanes.values() for outcome in lane.collect()]

    def keep_firing(self, notifier: str, announcements: Sequence[Announcement]) -> None:
        """Sets all announcements that stand at a notifier now; called on every beat. They are refreshed in
        time, and those that are missing are resolved once.

        Does nothing for a notifier that is unknown or whose announcements do not stand.
        """
        lane = self._lanes.get(notifier)
        if lane is not None:
            lane.keep_firing(announcements)

    def close(self, timeout: float = 2.0) -> bool:
        """Starts no further try, and waits up to `timeout` s in all for the tries under way. Returns whether
        all have ended."""
        for lane in self._lanes.values():
            lane.stop()
        until = time.monotonic() + timeout
        for lane in self._lanes.values():
            lane.thread.join(max(0.0, until - time.monotonic()))
        return not any(lane.thread.is_alive() for lane in self._lanes.values())


class _Lane:
    """One notifier's queue and thread. All tries are made by this thread, so firing and resolving keep their
    order."""

    def __init__(
        self,
        name: str,
        notifier: Notifier,
        clock: Clock,
        on_failure: Callable[[DeliveryFailure], None],
        patience: Patience,
    ) -> None:
        self.name, self.notifier, self.clock, self.on_failure, self.patience = (
            name,
            notifier,
            clock,
            on_failure,
            patience,
        )
        self.changed = threading.Condition()
        self.stopped = False
        self.pending: dict[str, Announcement] = {}  # offered and not ended
        self.failures: dict[str, int] = {}
        self.due: list[tuple[float, int, str]] = []  # heap: (monotonic time, order of arrival, id)
        self.arrivals = 0
        self.ended: OrderedDict[str, bool] = OrderedDict()
        self.outcomes: list[tuple[str, str, bool]] = []
        self.standing = _Standing(notifier) if isinstance(notifier, StandingNotifier) else None
        self.thread = threading.Thread(target=self._run, name=f"notifier-{name}", daemon=True)
        self.thread.start()

    def offer(self, announcement: Announcement) -> None:
        with self.changed:
            if announcement.id in self.ended:
                self.outcomes.append((announcement.id, self.name, self.ended[announcement.id]))
            elif announcement.id not in self.pending:
                if self.standing is not None:
                    self.standing.supersede([announcement])
                self.pending[announcement.id] = announcement
                self._queue(announcement.id, time.monotonic())

    def collect(self) -> list[tuple[str, str, bool]]:
        with self.changed:
            outcomes, self.outcomes = self.outcomes, []
        return list(dict.fromkeys(outcomes))

    def keep_firing(self, announcements: Sequence[Announcement]) -> None:
        if self.standing is None:
            return
        with self.changed:
            for gone in self.standing.want(announcements, time.monotonic()):
                if gone in self.pending:  # sent later, it would fire an alert again that is over
                    self._end(gone, delivered=False)
            self.changed.notify()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify()

    def _queue(self, identity: str, at: float) -> None:
        self.arrivals += 1
        heapq.heappush(self.due, (at, self.arrivals, identity))
        self.changed.notify()

    def _end(self, identity: str, delivered: bool) -> None:
        self.pending.pop(identity, None)
        self.failures.pop(identity, None)
        self.ended[identity] = delivered
        while len(self.ended) > REMEMBERED:
            self.ended.popitem(last=False)
        self.outcomes.append((identity, self.name, delivered))

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:
                # This is an error of `on_failure`, since `_tried` raises none: it must not end this
                # notifier's deliveries.
                logging.getLogger(__name__).exception("delivery.report_failed")

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next task that is due; None when stopped."""
        with self.changed:
            while not self.stopped:
                now = time.monotonic()
                if self.standing is not None and self.standing.due_at() <= now:
                    return self._stand
                while self.due and self.due[0][2] not in self.pending:
                    heapq.heappop(self.due)
                if self.due and self.due[0][0] <= now:
                    announcement = self.pending[heapq.heappop(self.due)[2]]
                    return lambda: self._send(announcement)
                moments = [self.due[0][0]] if self.due else []
                if self.standing is not None:
                    moments.append(self.standing.due_at())
                pause = min(moments, default=float("inf")) - now
                self.changed.wait(pause if pause < threading.TIMEOUT_MAX else None)
        return None

    def _send(self, announcement: Announcement) -> None:
        reason, final = _tried(lambda: self.notifier.send(announcement))
        with self.changed:
            # The announcement was over while this try was under way, and is resolved next.
            if announcement.id not in self.pending:
                return
            if not reason:
                self._end(announcement.id, delivered=True)
                if self.standing is not None:
                    self.standing.sent([announcement.id], time.monotonic())
                return
            failures = self.failures[announcement.id] = self.failures.get(announcement.id, 0) + 1
            wait = self.patience.wait(failures)
            # Judged after a try, not before: what is old when the daemon starts is still tried once.
            if final or self.clock.now() + wait - announcement.at > self.patience.give_up_after:
                self._end(announcement.id, delivered=False)
                failure = DeliveryFailure(self.name, announcement.id, reason, None)
            else:
                self._queue(announcement.id, time.monotonic() + wait)
                failure = DeliveryFailure(self.name, announcement.id, reason, wait)
        self.on_failure(failure)

    def _stand(self) -> None:
        """Refreshes the announcements that are due, or resolves one that is over."""
        standing = self.standing
        assert standing is not None  # only asked for when there is one
        with self.changed:
            over, firing = standing.choose(time.monotonic())
        if over is not None:
            reason, final = _tried(lambda: standing.notifier.resolve(over, self.clock.now()))
        else:
            reason, final = _tried(lambda: standing.notifier.refresh(firing, self.clock.now()))
        identity = "" if over is None else over.id
        with self.changed:
            now = time.monotonic()
            if not reason:
                standing.failed = 0
            else:
                standing.failed += 1
                standing.not_before = now + min(
                    self.patience.wait(standing.failed), standing.notifier.stands / 4
                )
            given_up = False
            if over is not None:
                given_up = bool(reason) and (final or now > standing.lapses.get(identity, 0.0))
                if not reason or given_up:  # an alert that could not be resolved lapses by itself
                    standing.forget(identity)
            elif not reason:
                standing.sent([announcement.id for announcement in firing], now)
            wait = None if given_up else max(0.0, standing.not_before - now)
        if reason:
            self.on_failure(DeliveryFailure(self.name, identity, reason, wait))


class _Standing:
    """Which announcements stand at a notifier, and when each was last sent (monotonic seconds). Guarded by
    its lane's lock."""

    def __init__(self, notifier: StandingNotifier) -> None:
        self.notifier = notifier
        self.firing: dict[str, Announcement] = {}
        self.over: dict[str, Announcement] = {}  # to be resolved
        self.lapses: dict[str, float] = {}  # when those lapse by themselves
        self.last: dict[str, float] = {}
        self.failed = 0
        self.not_before = 0.0
        self.resolved_last = False

    def want(self, announcements: Sequence[Announcement], now: float) -> list[str]:
        """Sets all announcements that stand. Returns the ids of those that are over since the last call. now:
        monotonic seconds."""
        wanted = {announcement.id: announcement for announcement in announcements}
        gone = [identity for identity in self.firing if identity not in wanted]
        for identity in gone:
            self.over[identity] = self.firing[identity]
            self.lapses[identity] = now + self.notifier.stands
            self.last.pop(identity, None)
        self.supersede(announcements)
        self.firing = wanted
        self.last = {
            identity: at
            for identity, at in self.last.items()
            if identity in wanted or at > now - self.notifier.stands
        }
        return gone

    def supersede(self, announcements: Sequence[Announcement]) -> None:
        """Forgets alerts that were still to be resolved and fire again, also by a later announcement."""
        # A rollout that is held a second time is the same alert to its receiver: a late resolve of the first
        # hold would end it.
        again = {_alert(announcement) for announcement in announcements}
        for identity in [identity for identity, over in self.over.items() if _alert(over) in again]:
            self.forget(identity)

    def forget(self, identity: str) -> None:
        self.over.pop(identity, None)
        self.lapses.pop(identity, None)

    def sent(self, identities: Sequence[str], now: float) -> None:
        self.last.update({identity: now for identity in identities if identity not in self.over})

    def choose(self, now: float) -> tuple[Announcement | None, list[Announcement]]:
        """The announcement to resolve, or else those to refresh; in turns, so that a failing resolve does not
        starve the refreshes, nor the other way round."""
        due = [
            announcement for identity, announcement in self.firing.items() if self._again_at(identity) <= now
        ]
        over = next(iter(self.over.values()), None)
        if due and self.resolved_last:
            over = None
        self.resolved_last = over is not None
        return over, due

    def due_at(self) -> float:
        """When something is to be done, in monotonic seconds; infinity: never."""
        if self.over:
            return self.not_before
        return max(self.not_before, min(map(self._again_at, self.firing), default=float("inf")))

    def _again_at(self, identity: str) -> float:
        """When an announcement is sent again: at once if it was never sent, else after half of its life,
        which leaves the other half for retries."""
        last = self.last.get(identity)
        return 0.0 if last is None else last + self.notifier.stands / 2


def _alert(announcement: Announcement) -> tuple[str, str, str]:
    """The fields by which a receiver distinguishes alerts."""
    return announcement.namespace, announcement.rollout, announcement.event


def _tried(call: Callable[[], None]) -> tuple[str, bool]:
    """Makes one try: ("", False) when it worked, else the reason and whether it is final."""
    try:
        call()
    except Unavailable as error:
        return str(error) or "unavailable", False
    except Rejected as error:
        return str(error) or "rejected", True
    except Exception as error:
        # An unforeseen error of a notifier must end neither its thread nor the announcement: it is reported,
        # and the announcement is tried again.
        return f"{type(error).__name__}: {error}", False
    return "", False
