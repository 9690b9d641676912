"""Two judges for one rollout: of the stages in which matched users are split between both versions, and of
all others.

Matched users fail, and wait, at rates of their own. What stable's past says of the rates of all users'
requests, and what the record for full weight is made of, is no measure for theirs, nor theirs for all users'.
So neither judge observes what the other gathers, and the one of the matched has no past. But how long trouble
on stable lasts, and how many failures come at once, is taken to hold for both, for it is the service's, and
to forget it would take one burst for many. Each has half of the risk, so that together they roll back no more
healthy versions than one would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from canaryd.domain.assessment import Assessment, Lacking, MissingData
from canaryd.domain.counts import Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer
from canaryd.judge.judge import Judge


def judge_of(
    policy: Policy, history: Sequence[Look] = (), by_weight: bool = True
) -> "Judge | SplitStageJudge":
    """The judge that a policy's rollout needs; see `Judge` for the arguments."""
    is_split = any(stage.split for stage in policy.stages)
    return SplitStageJudge(policy, history, by_weight) if is_split else Judge(policy, history, by_weight)


class SplitStageJudge:
    """What `Judge` is to whoever has looks to be judged in order: `remember`, `open`, `watch`, `observe`."""

    def __init__(self, policy: Policy, history: Sequence[Look] = (), by_weight: bool = True) -> None:
        risk = policy.analysis.false_rollback_risk / 2
        self._policy = policy.model_copy(
            update={"analysis": policy.analysis.model_copy(update={"false_rollback_risk": risk})}
        )
        self._by_weight = by_weight
        self._all, self._matched = Judge(self._policy, history, by_weight), self._without_past(history)
        # Alerts are the service's, whoever its users are, and each judge sees only the looks of its own
        # stages.
        self._matched.alerts = self._all.alerts
        self._now = self._all
        self._failed: Assessment | None = None

    def _without_past(self, history: Sequence[Look]) -> Judge:
        """A judge that knows of the past no more than which latency bounds there are."""
        bounds = next((look for look in reversed(history) if look.bounds), None)
        return Judge(
            self._policy,
            [replace(bounds, stable={}, canary={}, sampled=False)] if bounds else (),
            self._by_weight,
        )

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        """Queries are asked of pods, whoever they serve, so their past speaks for both."""
        self._all.remember(past)
        self._matched.remember(past)

    def open(self, span: Span) -> None:
        """A new stretch at one weight; the judge of its stage goes on from there."""
        before, self._now = self._now, self._matched if self._policy.stages[span.stage].split else self._all
        if before is not self._now:
            for metric in before.metrics:
                metric.close()
        if span.fresh:  # another stable: what was gathered of the old one, of whichever users, is void
            alerts = self._now.alerts
            if self._now is self._matched:
                self._all = Judge(self._policy, (), self._by_weight)
            else:
                self._matched = self._without_past(())
            self._all.alerts = self._matched.alerts = alerts
        self._now.open(span)

    def watch(self, look: Look, compared: bool = True) -> bool:
        """Whether there is plain harm, or an alarm, by the judge of the present stage; see `Judge.watch`."""
        return self._now.watch(look, compared)

    def observe(
        self, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True
    ) -> Assessment:
        """One look further, for the judge of the present stage; see `Judge`."""
        if self._now is self._matched:
            for mine, of_all in zip(self._matched.metrics, self._all.metrics, strict=True):
                mine.as_noisy_as(of_all)
        assessment = self._now.observe(look, values, compared)
        if not look.sampled and compared and self._now is self._matched:
            assessment = replace(
                assessment, missing=MissingData(Lacking.MATCHED_REQUESTS, look.seconds, look.end)
            )
        if self._failed is not None:
            return replace(self._failed, at=look.end)
        if assessment.answer is Answer.FAIL:
            self._failed = assessment
        return assessment
