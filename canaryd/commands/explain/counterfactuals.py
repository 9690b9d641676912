"""What would have decided otherwise: the looks that a decision rests on, judged again by another policy or
without one replica.

Every answer is computed by the judge that decides, on the looks there were; nothing is extrapolated. What
other weights would have brought is not known, so a question is only ever asked up to the look of the
decision: "it would not have been rolled back by then".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from math import exp, log
from typing import Any

from canaryd.commands.explain.transcript import Transcript
from canaryd.domain.formatting import lasting, odds_text, percent_text, short, time_text
from canaryd.domain.lifecycle import Signal
from canaryd.domain.policy.metrics import Metric
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Decision, Rollout, Span
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.attribution import broken, shares, whole
from canaryd.report.findings import ALL_BOUNDS, REPLICA_DOWN, plainly_down

USUAL_LOOKS = 6_000  # judged again at most, unless asked for more: about half a minute on one slow core
MOST_REPLICAS = 8  # left out in turn, the loudest first: more are a page that nobody reads
LAXER, STRICTER = 5.0, 0.1  # times the policy's falseRollbackRisk
BOLDER = 2.0  # times its badAdvanceRisk
MOST_RISK = 0.5
HALVINGS, DOUBLINGS = 5, 4  # of the search for a tolerance: a tenth of the way on a log scale is near enough
Progress = Callable[[int], None]
BY_HARM = (Signal.HARM, Signal.ALARM)
BY_PASSING = (Signal.PASS, Signal.LET_PASS, Signal.STUCK, Signal.TIMED_OUT)


class CounterfactualOutcome(StrEnum):
    SAME = "same look"
    EARLIER = "earlier"
    NOT_BY_THEN = "not by then"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One change and what came of it.

    change: what is supposed, in words. at: end of the look that decides then (Unix seconds); None: none did
    up to the decision's look.
    odds: against the canary at that look, or at the decision's; bar: at which it is rolled back. says: the
    answer in words.
    """

    change: str
    outcome: CounterfactualOutcome
    at: int | None
    odds: float
    bar: float
    says: str


@dataclass
class Counterfactual:
    """looks: what answering costs at most; ask: answers, reporting how many looks were judged."""

    change: str
    looks: int
    ask: Callable[[Progress], Sequence[WhatIf]]


@dataclass
class Inquiry:
    """The questions of a rollout's decisions, and what is answered of them within `most` looks. skipped: what
    is not, in words."""

    most: float = USUAL_LOOKS
    asked: list[tuple[int, Counterfactual]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    looks: int = 0  # to be judged, at most

    def add(self, number: int, decision: Decision, questions: Iterable[Counterfactual]) -> None:
        """number: the decision's place among the rollout's."""
        for question in questions:
            if self.looks + question.looks > self.most:
                self.skipped.append(
                    f"{time_text(decision.at)} {decision.signal}: {question.change} "
                    f"({question.looks:,} looks)"
                )
                continue
            self.looks += question.looks
            self.asked.append((number, question))

    def answers(self, progress: Progress = lambda looks: None) -> dict[int, tuple[WhatIf, ...]]:
        """The answers by the decision's place. progress: called with how many looks were judged since it was
        called last."""
        found: dict[int, tuple[WhatIf, ...]] = {}
        for number, question in self.asked:
            found[number] = (*found.get(number, ()), *question.ask(progress))
        return found


# ---------------------------------------------------------------- which questions


def questions(
    rollout: Rollout, transcript: Transcript, decision: Decision, verdict: Verdict
) -> list[Counterfactual]:
    """The questions about a decision by evidence, the most telling first. verdict: the one had again at its
    look."""
    if decision.signal in BY_HARM:
        return _of_harm(rollout.policy, transcript, decision, verdict)
    if decision.signal in BY_PASSING and rollout.policy.stages[verdict.stage].rules_out:
        return _of_passing(rollout, transcript, verdict)
    return []


def _of_harm(
    policy: Policy, transcript: Transcript, decision: Decision, verdict: Verdict
) -> list[Counterfactual]:
    case = _Harm(policy, transcript, verdict)
    looks = transcript.until(verdict.at)
    found = []
    limit, down = broken(verdict), plainly_down(verdict.findings)
    if down is not None:
        key = "replica_down" if down.what == REPLICA_DOWN else "version_down"
        change = f"without the rule on a {down.what.replace(' ', ' that is ')}"
        lenient = with_metric(policy, "errors", **{key: False})
        found.append(Counterfactual(change, looks, partial(case.changed, change, lenient)))
    if limit is not None and (variant := without_limit(policy, limit)) is not None:
        change = f"without the limit ({limit.what})"
        found.append(Counterfactual(change, looks, partial(case.changed, change, variant)))
    metrics = [metric.called for metric in policy.analysis.metrics if metric.decides]
    for name in metrics if len(metrics) > 1 else ():
        found.append(
            Counterfactual(
                f"without {name}",
                looks,
                partial(case.changed, f"without {name}", without_metric(policy, name)),
            )
        )
    risk = policy.analysis.false_rollback_risk
    for other in (risk * STRICTER, min(MOST_RISK, risk * LAXER)):
        change = f"falseRollbackRisk {risk_text(other)}"
        found.append(
            Counterfactual(
                change, looks, partial(case.changed, change, with_analysis(policy, false_rollback_risk=other))
            )
        )
    names = case.loudest_replicas()
    if len(names) > 1:
        found.append(
            Counterfactual(
                "each canary replica left out",
                looks * min(len(names), MOST_REPLICAS),
                partial(case.replicas, names),
            )
        )
    if limit is None and down is None and verdict.answer is Answer.FAIL:
        by = shares(verdict)
        loudest = max(by, key=lambda name: by[name], default="")
        if loudest in ("errors", "latency"):
            cost = looks * (1 + DOUBLINGS + HALVINGS)
            found.append(Counterfactual(f"more {loudest} tolerated", cost, partial(case.tolerated, loudest)))
    return found


def _of_passing(rollout: Rollout, transcript: Transcript, verdict: Verdict) -> list[Counterfactual]:
    policy, span, looks = rollout.policy, span_of(rollout, verdict), transcript.until(verdict.at)
    if span is None:
        return []
    risk = min(MOST_RISK, BOLDER * policy.analysis.bad_advance_risk)
    others = {f"badAdvanceRisk {risk_text(risk)}": with_analysis(policy, bad_advance_risk=risk)}
    last = min(whole(verdict), key=lambda finding: finding.cleared, default=None)
    # what the stage waited for, or waits for
    if last is not None and sum(metric.decides for metric in policy.analysis.metrics) > 1:
        others[f"without {last.metric}"] = without_metric(policy, last.metric)
    return [
        Counterfactual(change, looks, partial(_passed, policy, transcript, verdict, span, change, other))
        for change, other in others.items()
    ]


def span_of(rollout: Rollout, verdict: Verdict) -> Span | None:
    """The stretch at one weight in which a look lies."""
    return next(
        (
            span
            for span in rollout.spans
            if span.start < verdict.at and (span.end is None or verdict.at <= span.end)
        ),
        None,
    )


# ---------------------------------------------------------------- answers


class _Harm:
    """The looks up to a rollback, or a step back, and the questions about it."""

    def __init__(self, policy: Policy, transcript: Transcript, verdict: Verdict) -> None:
        self._policy, self._transcript, self._verdict = policy, transcript, verdict
        # An alarm is this stretch's; what was harm once is harm for good, wherever it came.
        self._since = 0
        for step in transcript.steps:
            if step.opened and step.look.start < verdict.at and verdict.answer is Answer.ALARM:
                self._since = step.look.start

    def _judged_again(
        self, policy: Policy, progress: Progress, without: str = ""
    ) -> tuple[Verdict | None, Verdict]:
        """The verdict that decides, if one does, and the last that was judged."""
        last = self._verdict
        wanted = (Answer.FAIL, Answer.ALARM) if self._verdict.answer is Answer.ALARM else (Answer.FAIL,)
        for step, last in self._transcript.again(policy, self._verdict.at, without):
            progress(1)
            if last.answer in wanted and step.look.end > self._since:
                return last, last
        return None, last

    def _answer(self, change: str, found: Verdict | None, last: Verdict, more: str = "") -> WhatIf:
        back = "stepped back" if self._verdict.answer is Answer.ALARM else "rolled back"
        if found is None:
            over = ", which rest on one replica or on one bound" if last.odds >= last.bar else ""
            says = f"not {back} by then: odds {odds_text(last.odds)}{over} (it takes {short(last.bar)}){more}"
            return WhatIf(change, CounterfactualOutcome.NOT_BY_THEN, None, last.odds, last.bar, says)
        rule = plainly_down(found.findings) or broken(found)
        why = (
            f"by {rule.metric}: {rule.what}"
            if rule is not None
            else f"odds {odds_text(found.odds)} (it takes {short(found.bar)})"
        )
        earlier = self._verdict.at - found.at
        if earlier <= 0:
            return WhatIf(
                change,
                CounterfactualOutcome.SAME,
                found.at,
                found.odds,
                found.bar,
                f"{back} at the same look: {why}{more}",
            )
        says = f"{back} {lasting(earlier)} earlier, at {time_text(found.at)}: {why}{more}"
        return WhatIf(change, CounterfactualOutcome.EARLIER, found.at, found.odds, found.bar, says)

    def changed(self, change: str, policy: Policy, progress: Progress) -> Sequence[WhatIf]:
        return (self._answer(change, *self._judged_again(policy, progress)),)

    def loudest_replicas(self) -> list[str]:
        """The canary's, those first whose counts weigh most in what decided."""
        by = shares(self._verdict)
        errors = max(by, key=lambda name: by[name], default="errors") == "errors"
        weigh: dict[str, float] = {}
        for step in self._transcript.steps:
            for name, counts in step.look.canary.items() if step.look.end <= self._verdict.at else ():
                weigh[name] = weigh.get(name, 0.0) + (counts.failures if errors else counts.duration_ms)
        return sorted(weigh, key=lambda name: (-weigh[name], name))

    def replicas(self, names: Sequence[str], progress: Progress) -> Sequence[WhatIf]:
        """Each left out in turn; the one that carries the evidence is named where it is one alone. Of two,
        either has half of the evidence, so that says nothing."""
        answers = {name: self._judged_again(self._policy, progress, name) for name in names[:MOST_REPLICAS]}
        saved = [name for name, (found, _) in answers.items() if found is None]
        carries = "; the evidence rests on it" if len(saved) == 1 and len(names) > 2 else ""
        return [
            self._answer(f"without {name}", *look, carries if name in saved else "")
            for name, look in answers.items()
        ]

    def tolerated(self, metric: str, progress: Progress) -> Sequence[WhatIf]:
        """The least tolerance, near enough, that would have let it go on; () where none does, as another
        metric convicts it too."""
        tolerance = _Tolerance(self._policy, metric, self._verdict)
        low, high = tolerance.own, tolerance.first
        found, last = self._judged_again(tolerance.policy(high), progress)
        for _ in range(DOUBLINGS):
            if found is None:
                break
            low, high = high, 2.0 * high
            found, last = self._judged_again(tolerance.policy(high), progress)
        if found is not None:
            return ()
        for _ in range(HALVINGS):
            middle = exp((log(low) + log(high)) / 2)
            found, again = self._judged_again(tolerance.policy(middle), progress)
            if found is None:
                high, last = middle, again
            else:
                low = middle
        return (self._answer(tolerance.words(high), None, last),)


class _Tolerance:
    """What is searched: a factor on stable's rate, or, where stable had no failure, percentage points."""

    def __init__(self, policy: Policy, metric: str, verdict: Verdict) -> None:
        self._policy, self._metric = policy, metric
        finding = next(
            found
            for found in verdict.findings
            if found.metric == metric and found.what in (metric, ALL_BOUNDS)
        )
        errors, latency = policy.analysis.errors, policy.analysis.latency
        share = finding.canary_events / finding.canary_requests if finding.canary_requests else 0.0
        self._points = metric == "errors" and finding.ratio is None and share > 0
        if self._points and errors is not None:
            self.own, self.first = max(errors.tolerated_increase, 1e-6), share
        else:
            if metric == "errors" and errors:
                self.own = 1.0 + errors.tolerated_ratio
            else:
                self.own = 1.0 + (latency.tolerated if latency else 0.0)
            self.first = finding.ratio or 0.0
        self.first = max(self.first, 1.5 * self.own)

    def policy(self, value: float) -> Policy:
        errors, latency = self._policy.analysis.errors, self._policy.analysis.latency
        if self._metric == "latency" and latency is not None:
            return with_metric(
                self._policy,
                "latency",
                tolerated=value - 1.0,
                unacceptable=max(latency.unacceptable, 1.1 * value - 1.0),
            )
        if errors is None:
            return self._policy
        if self._points:
            unacceptable = max(errors.unacceptable_increase, 1.1 * value)
            return with_metric(
                self._policy, "errors", tolerated_increase=value, unacceptable_increase=unacceptable
            )
        unacceptable = max(errors.unacceptable_ratio, 1.1 * value - 1.0)
        return with_metric(
            self._policy, "errors", tolerated_ratio=value - 1.0, unacceptable_ratio=unacceptable
        )

    def words(self, value: float) -> str:
        if self._points:
            return f"{percent_text(value)} more errors tolerated, not {percent_text(self.own)}"
        return f"{self._metric} of {times(value)} stable's tolerated, not {times(self.own)}"


def times(value: float) -> str:
    """A factor in words, fine enough to be tried in a policy."""
    return f"{value:.2f} times" if value < 9.95 else f"{short(value)} times"


def risk_text(risk: float) -> str:
    """A risk as a policy has it: `5%`, `0.1%`."""
    return f"{100 * risk:.3g}%"


def _passed(
    policy: Policy,
    transcript: Transcript,
    verdict: Verdict,
    span: Span,
    change: str,
    other: Policy,
    progress: Progress,
) -> Sequence[WhatIf]:
    """When the stage would have passed by another policy, on the looks there were."""
    minimum, last = policy.stages[verdict.stage].minimum, verdict
    for step, last in transcript.again(other, verdict.at):
        progress(1)
        if (
            step.compared
            and step.look.end - span.start >= minimum
            and step.look.start >= span.start
            and last.answer is Answer.PASS
        ):
            earlier = verdict.at - last.at
            if earlier <= 0:
                return (
                    WhatIf(
                        change,
                        CounterfactualOutcome.SAME,
                        last.at,
                        last.odds,
                        last.bar,
                        "passed at the same look",
                    ),
                )
            says = f"passed {lasting(earlier)} earlier, at {time_text(last.at)}"
            return (WhatIf(change, CounterfactualOutcome.EARLIER, last.at, last.odds, last.bar, says),)
    return (
        WhatIf(
            change, CounterfactualOutcome.NOT_BY_THEN, None, last.odds, last.bar, "not passed by then either"
        ),
    )


# ---------------------------------------------------------------- other policies


def with_analysis(policy: Policy, **changes: Any) -> Policy:
    return policy.model_copy(update={"analysis": policy.analysis.model_copy(update=changes)})


def with_metric(policy: Policy, metric: str, **changes: Any) -> Policy:
    """The policy with keys of one metric changed: `errors` or `latency`."""

    def changed(metric_entry: Metric) -> Metric:
        own = getattr(metric_entry, metric)
        return (
            metric_entry
            if own is None
            else metric_entry.model_copy(update={metric: own.model_copy(update=changes)})
        )

    return with_analysis(policy, metrics=tuple(map(changed, policy.analysis.metrics)))


def without_metric(policy: Policy, metric: str) -> Policy:
    return with_analysis(
        policy, metrics=tuple(other for other in policy.analysis.metrics if other.called != metric)
    )


def without_limit(policy: Policy, limit: MetricFinding) -> Policy | None:
    """The policy without one limit of its own; None where nothing would be left to judge by."""
    if limit.metric == "errors":
        return with_metric(policy, "errors", max=None)
    if limit.metric == "latency":
        return with_metric(policy, "latency", slo={})
    without = without_metric(policy, limit.metric)
    return without if any(metric.decides for metric in without.analysis.metrics) else None
