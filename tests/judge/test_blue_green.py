"""A blue/green release as the judge sees it: dark, then all users, with stable's record to hold them against
and no way to step back."""

import re
from dataclasses import replace

import pytest

from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from tests.builders import a_policy
from tests.judge.looks import Sampled, verdict_after

STAGES = [
    {"weight": 0, "minimum": "60s", "deadline": "10m"},
    {"weight": 100, "minimum": "2m", "deadline": "10m"},
]


def switched(good: Sampled, after: Sampled, looks: int = 30) -> Verdict:
    """The first verdict that decides after the switch, of a version that serves as `after`."""
    judge = Judge(a_policy(strategy="blue-green", stages=STAGES), good.history())
    judge.open(Span(0, 0, good.now))
    for _ in range(12):
        assert verdict_after(judge, good.look(0)).answer in (Answer.UNDECIDED, Answer.PASS)
    judge.open(Span(1, 100, good.now))
    for _ in range(looks):
        verdict = verdict_after(judge, after.look(100))
        if verdict.answer is not Answer.UNDECIDED:
            return verdict
    return verdict


def test_a_version_as_good_as_stable_passes_after_the_switch_and_what_it_was_held_against_is_said() -> None:
    good = Sampled(20)
    verdict = switched(good, good)
    assert verdict.answer is Answer.PASS
    assert "at full weight against" in verdict.reason
    assert "in the rollout's record" in verdict.reason


def test_a_version_that_is_plainly_worse_alarms_within_a_minute_and_says_that_it_is_rolled_back() -> None:
    verdict = switched(Sampled(20), Sampled(21, more_errors=10), looks=6)
    assert verdict.answer is Answer.ALARM
    assert verdict.reason.endswith("rolled back, since no stage before it has users of both versions")


def test_without_a_past_what_stable_did_while_the_new_version_was_dark_is_the_record() -> None:
    good = Sampled(20)
    judge = Judge(a_policy(strategy="blue-green", stages=STAGES), ())
    verdict = after_the_switch(judge, good, Sampled(21, more_errors=10), stable_serves=True)
    assert verdict.answer is Answer.ALARM


@pytest.mark.parametrize("more_errors", [1, 10])
def test_where_stable_was_never_seen_nothing_passes_and_no_deadline_lets_it_pass(more_errors: float) -> None:
    judge = Judge(a_policy(strategy="blue-green", stages=STAGES), ())
    verdict = after_the_switch(judge, Sampled(20), Sampled(21, more_errors=more_errors), stable_serves=False)
    assert verdict.answer is Answer.UNDECIDED
    assert re.search(r"errors [\d.]+% at full weight, and no record to hold it against", verdict.reason)
    assert Answer.NO_DATA in {finding.answer for finding in verdict.findings}, (
        "of which the lifecycle lets none pass at a deadline"
    )


def after_the_switch(judge: Judge, before: Sampled, after: Sampled, stable_serves: bool) -> Verdict:
    judge.open(Span(0, 0, before.now))
    for _ in range(12):
        look = before.look(0)
        verdict_after(judge, look if stable_serves else replace(look, stable={}))
    judge.open(Span(1, 100, before.now))
    for _ in range(30):
        verdict = verdict_after(judge, after.look(100))
        if verdict.answer is not Answer.UNDECIDED:
            break
    return verdict


def test_users_who_were_compared_before_are_something_known_where_stable_has_no_past() -> None:
    stages = [
        {"match": {"headers": {"x-a": {"exact": "b"}}}, "split": "half", "minimum": "60s", "deadline": "10m"},
        STAGES[1],
    ]
    judge, served = Judge(a_policy(stages=stages, analysis={"reporter": "source"}), ()), Sampled(20)
    judge.open(Span(1, 100, served.now))
    answers = [verdict_after(judge, served.look(100)).answer for _ in range(30)]
    assert judge.alarm.blind
    assert answers[-1] is Answer.PASS
