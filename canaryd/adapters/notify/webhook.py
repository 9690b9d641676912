"""Announcements as CloudEvents 1.0 over HTTP, signed as Standard Webhooks has it.

One try is made here, and what its reply means is said here; when to try again is `delivery.py`'s. The id of
the event and of the webhook is the announcement's own (with _ for each dot), so a receiver that has seen it
knows what it may ignore.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from canaryd.adapters.notify.cloudevents import SignedPoster, event, verdict_data
from canaryd.adapters.notify.http_post import ReceiverAccess, moment
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Announcement

TYPE = "dev.canaryd.rollout."  # before the event: dev.canaryd.rollout.rolled_back


class Webhook:
    """One receiver of webhooks."""

    def __init__(
        self,
        url: str,
        secret: Callable[[], str | None] = lambda: None,
        access: ReceiverAccess | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """See `SignedPoster`. Raises ValueError."""
        self._signed = SignedPoster(url, secret, access, clock)

    def send(self, announcement: Announcement) -> None:
        """Tries once.

        Raises Unavailable for every refusal but one: a receiver that answers 401 or 404 is mended by people
        while it is tried again, and Standard Webhooks too counts all but 2xx as a failure to repeat. 410 Gone
        says "never again": Rejected.
        """
        about = announcement.namespace, announcement.service, announcement.rollout
        reply = self._signed.post(
            event(TYPE + announcement.event, announcement.id, about, announcement.at, payload(announcement))
        )
        if reply.status == 410:
            raise Rejected(f"{self._signed.shown} is gone for good ({reply})")
        if not reply.ok:
            raise Unavailable(f"{self._signed.shown} answered {reply}")


def payload(announcement: Announcement) -> dict[str, Any]:
    """Everything that is known of the moment, in numbers, as plain JSON values; what cannot be estimated is
    null."""
    return {
        "event": announcement.event,
        "namespace": announcement.namespace,
        "service": announcement.service,
        "rollout": announcement.rollout,
        "versions": {"stable": announcement.stable, "canary": announcement.canary},
        "stage": int(announcement.stage),
        "weight": int(announcement.weight),
        "share": announcement.share or f"{announcement.weight}%",
        "summary": announcement.summary,
        "reason": announcement.reason,
        "at": moment(announcement.at),
        "verdict": verdict_data(announcement.verdict),
        **(
            {"bracket": [asdict(versions) for versions in announcement.bracket]}
            if announcement.bracket
            else {}
        ),
    }
