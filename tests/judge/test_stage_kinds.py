"""How stages are judged whose canary has no weight: dark, for matched requests, and by copies."""

from __future__ import annotations

import pytest

from canaryd.domain.counts import Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from tests.builders import a_policy
from tests.judge.looks import BOUNDS, START, a_look, some_counts, verdict_after

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
TIMES = {"minimum": "2m", "deadline": "15m"}
DARK, MATCH, MIRROR, WEIGHT = range(4)
STAGES = [
    {"weight": 0, **TIMES},
    {"match": COOKIE, **TIMES},
    {"mirror": "25%", **TIMES},
    {"weight": 10, **TIMES},
    {"weight": 100, **TIMES},
]


def a_ladder(**analysis: object) -> Policy:
    return a_policy(
        stages=STAGES, analysis={"interval": "10s", "metrics": [{"errors": {"max": "20%"}}], **analysis}
    )


def look(number: int, stable: tuple[int, int] = (1000, 5), canary: tuple[int, int] = (0, 0)) -> Look:
    """requests and failures of each."""
    return a_look(number, {"v1-a": some_counts(*stable)}, {"v2-a": some_counts(*canary)} if canary[0] else {})


def judged(stage: int, count: int, canary: tuple[int, int] = (0, 0), **analysis: object) -> list[Verdict]:
    policy = a_ladder(**analysis)
    judge = Judge(policy)
    judge.open(Span(stage, policy.stages[stage].weight, START))
    return [verdict_after(judge, look(number, canary=canary)) for number in range(count)]


def test_a_dark_stage_passes_by_its_minimum_without_a_single_request() -> None:
    verdicts = judged(DARK, 12)
    assert [verdict.answer for verdict in verdicts] == [Answer.UNDECIDED] * 11 + [Answer.PASS]
    assert verdicts[-1].reason == "dark, with no request in 12 looks: it passes by its minimum"
    assert verdicts[-1].odds == 1.0


def test_failures_of_previews_alone_do_not_roll_back_below_the_guardrail_and_do_above_it() -> None:
    assert judged(DARK, 12, (10, 1))[-1].answer is Answer.PASS, (
        "1 in 10 of a handful of testers, where 20% is the limit"
    )
    assert judged(DARK, 12, (100, 90))[-1].answer is Answer.FAIL


def test_a_dark_stage_needs_telemetry_all_the_same() -> None:
    judge = Judge(a_ladder())
    judge.open(Span(DARK, 0, START))
    silent = Look(START, START + 10, BOUNDS, {}, {}, sampled=False)
    assert verdict_after(judge, silent).answer is Answer.NO_DATA


def test_a_match_stage_passes_by_time_and_requests_and_says_that_users_differ() -> None:
    verdicts = judged(MATCH, 12, (300, 2))
    assert [verdict.answer for verdict in verdicts] == [Answer.UNDECIDED] * 11 + [Answer.PASS]
    assert "matched users are compared with all others, who may differ anyway" in verdicts[-1].reason
    assert not any(verdict.off_weight for verdict in verdicts), "any share is fine"


def test_a_match_stage_that_few_have_met_does_not_pass() -> None:
    assert judged(MATCH, 20, (2, 0))[-1].answer is Answer.UNDECIDED, "40 requests, of 100"


def test_a_match_stage_does_not_wait_to_rule_anything_out() -> None:
    matched, mirrored = judged(MATCH, 12, (9, 0))[-1], judged(MIRROR, 12, (250, 0))[-1]
    assert matched.answer is Answer.PASS
    assert matched.findings[0].cleared < matched.findings[0].clear_bar
    assert mirrored.answer is (
        Answer.PASS if mirrored.findings[0].cleared >= mirrored.findings[0].clear_bar else Answer.UNDECIDED
    )


def test_harm_to_matched_users_is_harm() -> None:
    verdict = judged(MATCH, 12, (300, 30))[-1]
    assert verdict.answer is Answer.FAIL
    assert "matched users are compared with all others" in verdict.reason


@pytest.mark.parametrize("canary", [(300, 2), (300, 0)])
def test_what_matched_users_said_is_not_held_for_or_against_the_next_stage(canary: tuple[int, int]) -> None:
    policy = a_ladder()
    judge, untouched = Judge(policy), Judge(policy)
    judge.open(Span(MATCH, 0, START))
    for number in range(12):
        assert verdict_after(judge, look(number, canary=canary)).answer is not Answer.FAIL
    for one in (judge, untouched):
        one.open(Span(MIRROR, 0, START + 120))
    after, alone = (
        [verdict_after(one, look(number, canary=(250, 2))) for number in range(12, 24)]
        for one in (judge, untouched)
    )
    assert [one.odds for one in after] == [one.odds for one in alone]
    assert [one.answer for one in after] == [one.answer for one in alone]


def test_copies_are_compared_as_requests_are_and_their_evidence_is_kept() -> None:
    policy = a_ladder()
    judge = Judge(policy)
    judge.open(Span(MIRROR, 0, START))
    for number in range(6):
        odds = verdict_after(judge, look(number, canary=(250, 4))).odds
    judge.open(Span(WEIGHT, 10, START + 60))
    assert verdict_after(judge, look(6, (900, 5), (100, 1))).odds == pytest.approx(odds, rel=0.9)
    assert odds != 1.0


def test_harm_among_copies_rolls_back() -> None:
    assert judged(MIRROR, 12, (250, 25))[-1].answer is Answer.FAIL


def test_copies_that_come_as_set_are_no_news_and_too_few_are_no_data() -> None:
    assert not any(one.off_weight for one in judged(MIRROR, 30, (250, 2)))
    off = judged(MIRROR, 30, (50, 0))[-1]
    assert (off.answer, off.off_weight) == (Answer.NO_DATA, True)
    assert off.reason.startswith("copies do not come as they are mirrored: the canary served ")
    assert off.reason.endswith("where 20% were due (25% mirrored)")


def test_harm_among_copies_is_not_hidden_by_how_many_come() -> None:
    assert judged(MIRROR, 30, (50, 45))[-1].answer is Answer.FAIL


def test_what_a_stage_without_weight_must_rule_out_is_that_of_the_first_weight() -> None:
    policy = a_ladder()
    judge = Judge(policy)
    for stage in (DARK, MATCH, MIRROR):
        judge.open(Span(stage, 0, START))
        assert judge.next_weight == 10
    judge.open(Span(WEIGHT, 10, START))
    assert judge.next_weight == 100
