"""Alerts that begin to fire after a promotion, for as long as the policy has them watched: they are told, and
nothing is sent back.

The rollout is over then. Its route is what a person would have written, stable may have been scaled down or
removed by whoever deployed it, and a newer version may come at any moment: to send all users to what may not
be there, for an alert that names no version, is a person's decision. What canaryd can do is to tell it loudly
(an Event, hooks, the record's reason), and to leave what leads back as it is while it watches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import floor

import structlog

from canaryd.control.evidence_stream import target_of
from canaryd.domain import announcements
from canaryd.domain.assessment import FiringAlert
from canaryd.domain.counts import Look
from canaryd.domain.formatting import lasting
from canaryd.domain.policy.alerts import ALERTS
from canaryd.domain.policy.hooks import ALERT_AFTER_PROMOTION
from canaryd.domain.ports import Rejected, Rollouts, Telemetry, Unavailable
from canaryd.domain.rollout import Phase, Record, Rollout, ServiceRollout
from canaryd.domain.series_values import columns
from canaryd.judge.alert_watch import REMEMBERED, AlertWatch
from canaryd.report import alert_findings

log = structlog.get_logger()

GRACE = 60.0  # seconds after the watch in which what could not be read may still be
LATE = 3600.0  # seconds after the watch from which nobody is told any more: after a long absence of canaryd
UNKNOWN = "which alerts fired in the"


@dataclass
class PromotionWatch:
    """Watches promoted versions. ingestion_delay: seconds after a look's end until its samples can be
    read."""

    telemetry: Telemetry
    rollouts: Rollouts
    ingestion_delay: float
    # by the rollout's namespace, name and beginning: up to where it was read, and when it was last asked
    _read_to: dict[tuple[str, str, float], int] = field(default_factory=dict)
    _asked: dict[tuple[str, str, float], float] = field(default_factory=dict)

    def look(self, record: Record, now: float) -> Record:
        """Tells what has begun to fire since a promotion, once, and that it could not be known. Raises
        Conflict (someone wrote in between), Unavailable, Rejected, from the record's store."""
        rollout = record.rollout
        seconds = watched_seconds(rollout)
        life, interval = (rollout.namespace, rollout.name, rollout.began), rollout.policy.analysis.interval
        if not seconds or rollout.ended is None or now > rollout.ended + seconds + LATE:
            self._read_to.pop(life, None)
            self._asked.pop(life, None)
            return record
        # From the last look that was judged on: what began between it and the end is nobody's otherwise.
        first = min(floor(rollout.ended), rollout.counted_to or floor(rollout.ended))
        readable = min(now - self.ingestion_delay, rollout.ended + seconds)
        until = first + floor(readable - first) // interval * interval
        if until <= self._read_to.get(life, first) or now - self._asked.get(life, 0.0) < interval:
            return record
        self._asked[life] = now
        try:
            begun = [
                f"{rollout.prefix(service)}{alert_findings.after_promotion(alert, rollout.ended)}"
                for service in rollout.services
                for alert in self._begun(rollout, service, first, until)
            ]
        except (Unavailable, Rejected) as error:
            if now < rollout.ended + seconds + GRACE:
                return record
            begun = [f"{UNKNOWN} {lasting(seconds)} after the promotion is not known: {error}"]
        else:
            self._read_to[life] = until
        return self._told(record, begun, now)

    def _begun(
        self, rollout: Rollout, service: ServiceRollout, first: int, until: int
    ) -> Iterator[FiringAlert]:
        """The alerts that began to fire in (first, until], each once, the earliest first."""
        policy = rollout.policy_of(service)
        alerts, interval = policy.analysis.alerts, policy.analysis.interval
        if alerts is None:
            return
        past = REMEMBERED // interval
        since = first - past * interval
        looks = self.telemetry.measure_each(
            target_of(service, policy, since), alerts.promql, since, until, interval
        )
        watch = AlertWatch(alerts, policy.stages, interval)
        watch.remember(columns(ALERTS, looks[:past]))
        told: set[tuple[str, tuple[tuple[str, str], ...], int]] = set()
        for number, firing in enumerate(looks[past:]):
            start = first + number * interval
            values = {name: value for name, (value,) in columns(ALERTS, [firing]).items()}
            watch.observe(Look(start, start + interval), values)
            for alert in reversed(watch.assessed().firing):
                if alert.counts and (key := (alert.name, alert.labels, alert.since)) not in told:
                    told.add(key)
                    yield alert

    def _told(self, record: Record, sentences: list[str], now: float) -> Record:
        """What was told before is not told again, also by another process."""
        rollout = record.rollout
        before = [news.reason for news in rollout.announcements if news.event == ALERT_AFTER_PROMOTION]
        new = [
            sentence
            for sentence in sentences
            if not any(sentence in reason for reason in before)
            and not (sentence.startswith(UNKNOWN) and any(reason.startswith(UNKNOWN) for reason in before))
        ]
        if not new:
            return record
        reason = "; ".join(new)
        if not reason.startswith(UNKNOWN):
            reason = f"{reason}: the rollout is over and nothing was sent back; {_way_back(rollout)}"
        after = announcements.announced(rollout, ALERT_AFTER_PROMOTION, now, reason)
        after = replace(after, reason=f"{rollout.reason}; {'; '.join(new)}")
        log.warning(
            f"rollout.{ALERT_AFTER_PROMOTION}",
            service=rollout.entrance.name,
            namespace=rollout.namespace,
            rollout=rollout.name,
            reason=reason,
        )
        return self.rollouts.save(record.with_rollout(after))


def watched_seconds(rollout: Rollout) -> float:
    """How long a rollout's alerts are watched after its end; 0: not at all."""
    alerts = rollout.policy.analysis.alerts
    if rollout.phase is not Phase.SUCCEEDED or alerts is None:
        return 0.0
    return alerts.watch_after_promotion or 0.0


def is_alerted(rollout: Rollout) -> bool:
    """Whether an alert began to fire while the promoted version was watched."""
    return any(
        news.event == ALERT_AFTER_PROMOTION and not news.reason.startswith(UNKNOWN)
        for news in rollout.announcements
    )


def _way_back(rollout: Rollout) -> str:
    """How a person goes back to what was stable."""
    if rollout.is_bracket:
        return "to go back, begin the old versions as new ones: canaryd start --help"
    entrance = rollout.entrance
    return f"to go back: canaryd start {entrance.name} {entrance.stable}, and canaryd promote"
