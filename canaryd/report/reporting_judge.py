"""A judge whose assessments are put into sentences look by look: for the loop, which saves each verdict, and
for whoever shows them all."""

from collections.abc import Mapping, Sequence

from canaryd.domain.counts import Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import SplitStageJudge, judge_of
from canaryd.report.findings import verdict_from


class ReportingJudge:
    """What `Judge` is, with verdicts in place of assessments."""

    def __init__(self, judge: Judge | SplitStageJudge) -> None:
        self.judge = judge

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        """Stable's values of the compared queries before the rollout, by their names."""
        self.judge.remember(past)

    def open(self, span: Span) -> None:
        """A new stretch at one weight begins."""
        self.judge.open(span)

    def watch(self, look: Look, compared: bool = True) -> bool:
        """Whether there is plain harm, or an alarm, in a part of a look; see `Judge.watch`."""
        return self.judge.watch(look, compared)

    def observe(self, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True) -> Verdict:
        """The verdict after one look more; see `Judge.observe`."""
        return verdict_from(self.judge.observe(look, values, compared))


def reporting_judge_of(
    policy: Policy, history: Sequence[Look] = (), by_weight: bool = True
) -> ReportingJudge:
    """The judge that a policy's rollout needs, in sentences; see `Judge` for the arguments."""
    return ReportingJudge(judge_of(policy, history, by_weight))
