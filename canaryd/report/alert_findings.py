"""Findings and notes of Prometheus' alerts, in sentences. Nothing here decides."""

from collections.abc import Iterator, Sequence

from canaryd.domain.assessment import AlertPlace, AlertsAssessment, FiringAlert
from canaryd.domain.formatting import lasting, time_text
from canaryd.domain.verdict import ALERTS_METRIC, Answer, MetricFinding

KNOWN = 60  # seconds from which it is worth a word that an alert did not fire in them
HOUR = 3600


def findings(alerts: AlertsAssessment) -> Iterator[MetricFinding]:
    """Of each alert that counts; where none does, that none does, or that nobody said so."""
    counting = [alert for alert in alerts.firing if alert.counts]
    for alert in counting:
        yield MetricFinding(
            ALERTS_METRIC, f"alert {alert.name}", alert.answer, since=alert.since, says=sentence(alert)
        )
    if not alerts.is_answered:
        says = "Prometheus did not say which alerts fire, and without that nothing passes"
        yield MetricFinding(ALERTS_METRIC, "alerts that fire", Answer.NO_DATA, says=says)
    elif not counting:
        says = "no alert has begun to fire"
        yield MetricFinding(ALERTS_METRIC, "alerts that fire", Answer.PASS, says=says)


def notes(alerts: AlertsAssessment) -> Iterator[str]:
    """What fired before the rollout began."""
    for alert in alerts.firing:
        if not alert.counts:
            yield (
                f"{named(alert)} fired already when the rollout began: it counts only once it has resolved "
                "and fires anew"
            )


def named(alert: FiringAlert) -> str:
    """`alert HighLatency (severity=page)`."""
    labels = ", ".join(f"{name}={value}" for name, value in alert.labels)
    return f"alert {alert.name} ({labels})" if labels else f"alert {alert.name}"


def sentence(alert: FiringAlert) -> str:
    """`alert HighLatency (severity=page) fires since 12:03:10 UTC, 40 s after weight 25%; it did not fire in
    the hour before`."""
    where = _place(alert.place) if alert.place is not None else "before the canary had any traffic"
    return _fires(alert, where)


def after_promotion(alert: FiringAlert, promoted: float) -> str:
    """`alert HighLatency (severity=page) fires since 12:03:10 UTC, 95 s after the promotion; it did not fire
    in the hour before`. promoted: when the rollout ended (Unix seconds)."""
    seconds = round(alert.since - promoted)
    return _fires(alert, f"{_seconds(abs(seconds))} {'after' if seconds >= 0 else 'before'} the promotion")


def _fires(alert: FiringAlert, where: str) -> str:
    return f"{named(alert)} fires since {time_text(alert.since)} UTC, {where}; {_before(alert)}"


def _place(place: AlertPlace) -> str:
    stage = f"weight {place.said}" if place.kind == "weight" else f"the stage began ({place.said})"
    if place.seconds < 0:
        return f"before {stage}"
    return f"{_seconds(place.seconds)} after {stage}"


def _seconds(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else lasting(seconds)


def _before(alert: FiringAlert) -> str:
    if alert.fired_before is not None:
        return f"it had fired in the hour before, last at {time_text(alert.fired_before)}"
    if alert.known_seconds < KNOWN:
        return "whether it fired before is not known"
    known = "hour" if alert.known_seconds >= HOUR else lasting(alert.known_seconds)
    return f"it did not fire in the {known} before"


def begun(findings: Sequence[MetricFinding]) -> list[MetricFinding]:
    """Those of alerts that began to fire after the rollout did, the latest first."""
    return [finding for finding in findings if finding.since is not None]
