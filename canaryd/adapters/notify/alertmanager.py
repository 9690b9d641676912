"""Sends announcements as alerts to an Alertmanager, which notifies people, groups, silences and inhibits.

An alert stands until its `endsAt`, a little after now. While it fires it is sent again (`refresh`), so it
survives a restart of either side and ends by itself when canaryd is gone. `delivery.py` decides when it is
sent again.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from canaryd.adapters.notify.http_post import Poster, ReceiverAccess, moment
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Announcement
from canaryd.domain.verdict import Answer

# s for which an alert stands after it was last sent: the default of Alertmanager's `resolve_timeout`
STANDS = 300.0
NAMES = {"rolled_back": "CanaryRolledBack", "held": "CanaryHeld", "approval_needed": "CanaryApprovalNeeded"}
# A person has to look at these; what else a hook may name is news. `labels` in the settings overrides it.
WARNINGS = frozenset({"rolled_back", "held", "approval_needed", "alert_after_promotion"})
IDENTITY = frozenset({"alertname", "namespace", "service", "version", "rollout"})
DESCRIPTION = 2000  # characters; pagers cut what is longer, and not where it makes sense


class Alertmanager:
    """One Alertmanager. Each member of an Alertmanager cluster has to get every alert, and is a notifier of
    its own."""

    def __init__(
        self,
        url: str,
        labels: Mapping[str, str] | None = None,
        access: ReceiverAccess | None = None,
        clock: Callable[[], float] = time.time,
        stands: float = STANDS,
    ) -> None:
        """url: the root URL, as in a browser (/api/v2/alerts is added). labels: added to every alert. clock:
        Unix seconds. stands: seconds for which an alert stands after it was sent, at least 10. Raises
        ValueError for an invalid URL, label or time."""
        self._poster = Poster(url.rstrip("/") + "/api/v2/alerts", access)
        self._labels = _checked(labels or {})
        self._clock = clock
        if stands < 10:
            raise ValueError(
                "an alert must stand for at least 10 s, so that it can be sent again in time, but stands is "
                f"{stands:g} s"
            )
        self.stands = stands

    def send(self, announcement: Announcement) -> None:
        """Fires the alert of an announcement, once. Raises Unavailable (try again), Rejected (Alertmanager
        refuses the alert itself)."""
        self.refresh([announcement], self._clock())

    def refresh(self, firing: Sequence[Announcement], now: float) -> None:
        """Fires the alerts of several announcements in one request, until now + `stands`. now: Unix seconds.
        Raises Unavailable and Rejected, as `send`."""
        if firing:
            self._post([self._alert(announcement, now + self.stands) for announcement in firing])

    def resolve(self, announcement: Announcement, now: float) -> None:
        """Ends the alert of an announcement. now: Unix seconds. Raises Unavailable and Rejected, as
        `send`."""
        self._post([self._alert(announcement, now)])

    def _alert(self, announcement: Announcement, ends: float) -> dict[str, Any]:
        return {
            "labels": {
                "severity": "warning" if announcement.event in WARNINGS else "info",
                **self._labels,
                "alertname": name_of(announcement.event),
                "namespace": announcement.namespace,
                "service": announcement.service,
                "version": announcement.canary,
                "rollout": announcement.rollout,
            },
            "annotations": {"summary": summary(announcement), "description": description(announcement)},
            "startsAt": moment(announcement.at),
            # Alertmanager refuses an end before the start, which a clock that was set back would give.
            "endsAt": moment(max(ends, announcement.at)),
        }

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        reply = self._poster.post(json.dumps(alerts).encode(), {"Content-Type": "application/json"})
        if reply.status in (
            400,
            422,
        ):  # about the alerts themselves; anything else people can mend while it is tried again
            raise Rejected(f"{self._poster.shown} refused the alert: {reply}")
        if not reply.ok:
            raise Unavailable(f"{self._poster.shown} answered {reply}")


def name_of(event: str) -> str:
    """The name of an event's alert: CanaryRolledBack for rolled_back."""
    return NAMES.get(event) or "Canary" + "".join(word.capitalize() for word in event.split("_"))


def summary(announcement: Announcement) -> str:
    """The alert's summary in one line: `front-end in production: v3 fails 7.6% of its requests, v2 0.4%:
    rolled back after 12 s`. The stage and the reason are in the description."""
    if announcement.summary:
        return f"{announcement.services} in {announcement.namespace}: {announcement.summary}"
    return f"{announcement.canaries} {announcement.event.replace('_', ' ')} in {announcement.namespace}"


def description(announcement: Announcement) -> str:
    """The alert's description: the reason, the odds, and every comparison, of which those that decided come
    first. At most DESCRIPTION characters."""
    lines = [announcement.reason]
    if announcement.verdict is not None:
        verdict = announcement.verdict
        odds = f"odds {verdict.odds:.3g} to 1 against the canary, rolled back at {verdict.bar:.3g}"
        lines.append(f"{odds}; {verdict.canary_requests} canary requests")
        grave = (Answer.FAIL, Answer.ALARM)
        for finding in sorted(verdict.findings, key=lambda finding: finding.answer not in grave):
            counts = (
                f"{finding.canary_events} of {finding.canary_requests} against {finding.stable_events} of "
                f"{finding.stable_requests}"
            )
            lines.append(
                f"{finding.named}: " + (finding.says or f"{finding.what}: {finding.answer.value}, {counts}")
            )
    text = "\n".join(line for line in lines if line)
    return text if len(text) <= DESCRIPTION else text[: DESCRIPTION - 2] + " …"


def _checked(labels: Mapping[str, str]) -> dict[str, str]:
    for name in labels:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise ValueError(
                f"labels: {name!r} is not a label's name, which has letters, digits and _, and no digit first"
            )
        if name in IDENTITY:
            raise ValueError(f"labels: {name} is set by canaryd for each alert and cannot be replaced")
    return dict(labels)
