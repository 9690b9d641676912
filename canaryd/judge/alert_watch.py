"""Prometheus' alerts as limits: which of them began to fire after the rollout did.

An alert counts from the moment when it is seen to fire and was not seen to just before. What fired already
when the rollout began does not, until it has resolved and fires anew. A look in which Prometheus did not say
what fires changes nothing of what is known: neither has an alert resolved in it, nor is there none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canaryd.domain.assessment import AlertPlace, AlertsAssessment, FiringAlert
from canaryd.domain.counts import Look
from canaryd.domain.policy.alerts import ALERTS, Alerts
from canaryd.domain.policy.stages import Stage
from canaryd.domain.rollout import Span
from canaryd.domain.series_values import SeriesValues, labels_of, looks_of, series_of
from canaryd.domain.verdict import Answer

REMEMBERED = 3600  # seconds before an alert fires in which it is worth a word that it had fired
# Labels that say which alert it is where the policy's matchers leave it open.
TELLING = ("pod", "instance")


@dataclass(frozen=True, slots=True)
class _Firing:
    """Since when an alert fires (Unix seconds), whether that is after the rollout began, and what was known
    then: when it had last fired before (None: not within REMEMBERED), and how many seconds before are
    known."""

    since: int
    counts: bool
    place: AlertPlace | None = None
    fired_before: int | None = None
    known_seconds: int = 0


class AlertWatch:
    """The alerts of a policy, look by look. stages: of the policy, for where an alert began; interval:
    seconds of a look before the rollout."""

    def __init__(self, alerts: Alerts, stages: Sequence[Stage], interval: int) -> None:
        self.alerts = alerts
        self._stages, self._interval = stages, interval
        self.answered = False  # whether the last look has which alerts fire
        self._firing: dict[str, _Firing] = {}  # by labels
        self._last: dict[str, int] = {}  # when each alert was last seen to fire
        self._is_known = False  # whether what fires was known at any time
        self._known_from: int | None = None  # from when on it is, without a look that was not answered
        self._past_looks = 0  # looks before the first one, to its start, in which it was
        self._spans: list[Span] = []

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        """What fired before the rollout began. past: values by their names, look by look up to its
        beginning."""
        self._firing, self._past_looks = {}, 0
        for firing in looks_of(ALERTS, past):
            self._past_looks = 0 if firing is None else self._past_looks + 1
            if firing is not None:
                self._see(firing, is_past=True)

    def open(self, span: Span) -> None:
        """A new stretch at one weight."""
        self._spans.append(span)

    def observe(self, look: Look, values: Mapping[str, float | None]) -> None:
        """One look further. values: at the look's end."""
        firing = series_of(ALERTS, values)
        self.answered = firing is not None
        if self._past_looks:
            self._known_from, self._past_looks = look.start - self._past_looks * self._interval, 0
        if firing is None:
            self._known_from = None
            return
        self._see(firing, is_past=False)
        if self._known_from is None:
            self._known_from = look.end

    def _see(self, firing: SeriesValues, is_past: bool) -> None:
        """What fires at one moment; is_past: before the rollout began."""
        before, self._firing = self._firing, {}
        for labels, evaluated in firing.items():
            since = int(evaluated)
            known = before.get(labels)
            self._firing[labels] = known if known is not None else self._begun(labels, since, is_past)
            self._last[labels] = since
        self._is_known = True

    def _begun(self, labels: str, since: int, is_past: bool) -> _Firing:
        if is_past or not self._is_known:
            return _Firing(since, counts=False)
        last = self._last.get(labels)
        return _Firing(
            since,
            counts=True,
            place=self._place(since),
            fired_before=last if last is not None and since - last <= REMEMBERED else None,
            known_seconds=0
            if self._known_from is None
            else min(REMEMBERED, max(0, since - self._known_from)),
        )

    def _place(self, since: int) -> AlertPlace | None:
        """The stage's looks in which an alert began, or before which."""
        if not self._spans:
            return None
        span = next((span for span in reversed(self._spans) if span.start <= since), self._spans[0])
        stage = self._stages[span.stage]
        return AlertPlace(stage.kind, stage.said, since - span.start)

    @property
    def broken(self) -> bool:
        """Whether the canary is rolled back for an alert."""
        counts = any(firing.counts for firing in self._firing.values())
        return counts and self.alerts.on_firing == "rollback"

    def assessed(self) -> AlertsAssessment:
        """What fires, the alert that began last first."""
        shown = self.alerts.labels_asked - {"alertname"}
        found = []
        for text, firing in sorted(self._firing.items(), key=lambda entry: (-entry[1].since, entry[0])):
            labels = labels_of(text)
            told = [(name, labels[name]) for name in sorted(shown) if name in labels]
            told += [(name, labels[name]) for name in TELLING if name in labels and name not in shown]
            found.append(
                FiringAlert(
                    name=labels.get("alertname", "without a name"),
                    labels=tuple(told),
                    since=firing.since,
                    counts=firing.counts,
                    place=firing.place,
                    fired_before=firing.fired_before,
                    known_seconds=firing.known_seconds,
                    answer=self._answer(firing),
                )
            )
        return AlertsAssessment(self.answered, tuple(found))

    def _answer(self, firing: _Firing) -> Answer:
        if not firing.counts:
            return Answer.PASS
        return Answer.FAIL if self.alerts.on_firing == "rollback" else Answer.UNDECIDED
