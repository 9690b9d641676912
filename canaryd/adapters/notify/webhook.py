"""Sends announcements as CloudEvents 1.0 over HTTP, signed by the rules of Standard Webhooks.

This module makes one try and decides what its reply means; `delivery.py` decides when to try again. The id of
the event and of the webhook is the announcement's id (with _ for each dot), so a receiver can ignore one that
it already has.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from canaryd.adapters.notify.cloudevents import SignedPoster, event, verdict_data
from canaryd.adapters.notify.http_post import ReceiverAccess, moment
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Announcement

TYPE = "dev.canaryd.rollout."  # followed by the event: dev.canaryd.rollout.rolled_back


class Webhook:
    """One receiver of webhooks: implements `Notifier`."""

    def __init__(
        self,
        url: str,
        secret: Callable[[], str | None] = lambda: None,
        access: ReceiverAccess | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """The parameters are those of `SignedPoster`. Raises ValueError for an invalid URL, timeout or
        secret."""
        self._signed = SignedPoster(url, secret, access, clock)

    def send(self, announcement: Announcement) -> None:
        """Sends an announcement once.

        Raises Unavailable for no reply and for every reply but 2xx and 410: people can repair a receiver that
        answers 401 or 404 while it is tried again, and Standard Webhooks too repeats after any reply but 2xx.
        Raises Rejected for 410 Gone, which means "never again".
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
    """An announcement's payload: all that is known of the moment, as plain JSON values; a number that cannot
    be estimated is null."""
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
