"""Announcements as alerts of an Alertmanager, which tells people, groups, silences and inhibits.

An alert stands until its `endsAt`, a little after now; while it fires it is sent again (`refresh`), and so
survives a restart of either side, and ends by itself when canaryd is gone. When to send what again is
`delivery.py`'s.
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

# s an alert stands after it was last sent: what Alertmanager's own `resolve_timeout` is by default
STANDS = 300.0
NAMES = {"rolled_back": "CanaryRolledBack", "held": "CanaryHeld", "approval_needed": "CanaryApprovalNeeded"}
# A person has to look at these; what else a hook may name is news. `labels` in the settings overrides it.
WARNINGS = frozenset({"rolled_back", "held", "approval_needed"})
IDENTITY = frozenset({"alertname", "namespace", "service", "version", "rollout"})
DESCRIPTION = 2000  # characters; pagers cut what is longer, and not where it makes sense


class Alertmanager:
    """One Alertmanager (each of a cluster of them is to be told, and is one of these)."""

    def __init__(
        self,
        url: str,
        labels: Mapping[str, str] | None = None,
        access: ReceiverAccess | None = None,
        clock: Callable[[], float] = time.time,
        stands: float = STANDS,
    ) -> None:
        """url: its root, as a browser has it (.../api/v2/alerts is added). labels: added to every alert.
        stands: s. Raises ValueError."""
        self._poster = Poster(url.rstrip("/") + "/api/v2/alerts", access)
        self._labels = _checked(labels or {})
        self._clock = clock
        if stands < 10:
            raise ValueError(
                "an alert must stand for at least 10 s, so that it can be sent again in time, but should for "
                f"{stands:g} s"
            )
        self.stands = stands

    def send(self, announcement: Announcement) -> None:
        """Fires it, once. Raises Unavailable; Rejected when Alertmanager finds fault with the alert
        itself."""
        self.refresh([announcement], self._clock())

    def refresh(self, firing: Sequence[Announcement], now: float) -> None:
        """Fires them all, in one request, until now + `stands`. Raises as `send` does."""
        if firing:
            self._post([self._alert(announcement, now + self.stands) for announcement in firing])

    def resolve(self, announcement: Announcement, now: float) -> None:
        """Ends it. Raises as `send` does."""
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
            # it refuses an end before the start, as a clock set back makes it
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
    """The alert's name: CanaryRolledBack for rolled_back."""
    return NAMES.get(event) or "Canary" + "".join(word.capitalize() for word in event.split("_"))


def summary(announcement: Announcement) -> str:
    """One line: `front-end in production: v3 fails 7.6% of its requests, v2 0.4%: rolled back after 12 s`;
    where it stood is in the description, with the reason."""
    if announcement.summary:
        return f"{announcement.services} in {announcement.namespace}: {announcement.summary}"
    return f"{announcement.canaries} {announcement.event.replace('_', ' ')} in {announcement.namespace}"


def description(announcement: Announcement) -> str:
    """Why, in numbers: the reason, the odds, and each comparison; those that decided come first."""
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
                f"labels: {name!r} is no name of a label; letters, digits and _ are wanted, with no digit "
                "first"
            )
        if name in IDENTITY:
            raise ValueError(f"labels: {name} is set by canaryd for each alert and cannot be replaced")
    return dict(labels)
