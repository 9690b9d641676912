"""Matched users split between both versions are compared with each other; nothing of theirs is mixed with
what all users show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.rollouts import DEADLINE
from bench.running import run_some
from canaryd.domain.counts import Counts, Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import SplitStageJudge, judge_of
from tests.builders import a_policy
from tests.judge.looks import START, Sampled, a_ladder, a_look, some_counts, verdict_after

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
TIMES = {"minimum": "2m", "deadline": "15m"}
SPLIT, WEIGHT, FULL = range(3)
STAGES = [{"match": COOKIE, "split": "half", **TIMES}, {"weight": 10, **TIMES}, {"weight": 100, **TIMES}]


def a_split_ladder(**analysis: Any) -> Policy:
    return a_policy(
        stages=STAGES,
        analysis={"interval": "10s", "reporter": "source", "metrics": [{"errors": {}}], **analysis},
    )


def callers(look: Look) -> Look:
    """As callers count: one replica for each version."""

    def one(side: dict[str, Counts], name: str) -> dict[str, Counts]:
        return {name: sum(side.values(), Counts())} if side else {}

    return replace(
        look,
        stable=one(dict(look.stable), "v1 (all)"),
        canary=one(dict(look.canary), "v2 (all)"),
        first_seen={},
    )


def heard(
    judge: Judge | SplitStageJudge,
    stage: int,
    weight: int,
    service: Sampled,
    looks: int,
    share: float | None = None,
) -> list[Verdict]:
    judge.open(Span(stage, weight, service.now))
    return [
        verdict_after(judge, callers(service.look(share if share is not None else weight)))
        for _ in range(looks)
    ]


def test_a_policy_without_split_has_the_judge_that_it_always_had() -> None:
    policy = a_ladder()
    one, other = judge_of(policy, (), True), Judge(policy)
    assert type(one) is Judge
    service, twin = Sampled(1), Sampled(1)
    one.open(Span(0, 10, START))
    other.open(Span(0, 10, START))
    assert [one.observe(service.look(10)) for _ in range(40)] == [
        other.observe(twin.look(10)) for _ in range(40)
    ]


def test_users_who_always_fare_worse_pass_by_the_evidence_of_their_halves() -> None:
    """8% of the matched fail, of all users 0.5%."""
    policy = a_split_ladder()
    judge = judge_of(policy, [callers(one) for one in Sampled(1).history()])
    verdicts = heard(judge, SPLIT, 0, Sampled(2, errors=0.08, requests=30), 60, 50)
    assert Answer.FAIL not in {verdict.answer for verdict in verdicts}
    passed = next(verdict for verdict in verdicts if verdict.answer is Answer.PASS)
    assert "half of the matched requests go to stable" in " ".join(passed.notes)
    assert "matched users are compared with all others" not in passed.reason
    assert passed.bar == 200, "half of the risk is the other judge's"


def test_harm_to_the_matched_is_found_against_their_own_half() -> None:
    judge = judge_of(a_split_ladder(), [callers(one) for one in Sampled(1).history()])
    verdicts = heard(judge, SPLIT, 0, Sampled(2, errors=0.08, more_errors=4.0, requests=30), 30, 50)
    assert verdicts[-1].answer is Answer.FAIL
    assert (
        verdict_after(judge, a_look(99, {"v1": some_counts(100)}, {"v2": some_counts(100)})).answer
        is Answer.FAIL
    ), "once and for all"


def test_what_the_matched_showed_is_not_held_against_the_next_stage_nor_for_it() -> None:
    """All users' judge hears the same, whatever the matched were like before."""
    found = []
    for errors in (0.0, 0.08):
        judge = judge_of(a_split_ladder(), [callers(one) for one in Sampled(1).history()])
        heard(judge, SPLIT, 0, Sampled(2, errors=errors, requests=30), 20, 50)
        found.append(
            [(one.answer, one.odds, one.findings) for one in heard(judge, WEIGHT, 10, Sampled(3), 40)]
        )
    assert found[0] == found[1]


def test_the_record_for_full_weight_is_of_all_users_alone() -> None:
    """A service whose matched users fail 16 times as often: their failures make no room for a bad version at
    100."""
    judge = judge_of(a_split_ladder(), [callers(one) for one in Sampled(1).history()])
    heard(judge, SPLIT, 0, Sampled(2, errors=0.08, requests=30), 60, 50)
    heard(judge, WEIGHT, 10, Sampled(3), 60)
    verdicts = heard(judge, FULL, 100, Sampled(4, more_errors=8.0), 60)
    assert Answer.ALARM in {verdict.answer for verdict in verdicts}


def test_a_share_of_the_matched_that_is_not_half_is_told() -> None:
    judge = judge_of(a_split_ladder())
    verdicts = heard(judge, SPLIT, 0, Sampled(2, requests=30), 40, 15)
    assert verdicts[-1].off_weight
    assert "where 50% were due" in verdicts[-1].reason


def test_without_a_matched_user_there_is_no_data_and_why_is_told() -> None:
    judge = judge_of(a_split_ladder())
    judge.open(Span(SPLIT, 0, START))
    verdict = verdict_after(judge, Look(START, START + 10, sampled=False))
    assert (verdict.answer, verdict.reason) == (
        Answer.NO_DATA,
        "no request of a matched user was counted yet, of neither version",
    )


def test_slower_matched_users_do_not_pass_early_because_callers_know_no_replicas() -> None:
    """A quarter slower, which has to be ruled out before all users get it. Where one replica's luck need not
    be, 18 of 20 passed."""
    outcomes = run_some("users", "latency 1.25 times, matched users", range(10))
    assert [outcome for outcome in outcomes if outcome.full is not None and outcome.full < DEADLINE] == []
    policy = a_split_ladder().dump()
    policy["analysis"]["metrics"] = [{"errors": {}}, {"latency": {}}]
    judge = judge_of(Policy.load(policy), [callers(one) for one in Sampled(1).history()])
    luck = (
        "counted by the callers, replicas are one: a slow node cannot be told from a slow version: luck may "
        "bring more"
    )
    [*_, last] = heard(judge, SPLIT, 0, Sampled(2, requests=30), 6, 50)
    assert luck in last.notes
    [*_, last] = heard(judge, WEIGHT, 10, Sampled(3), 6)
    assert f"{luck}, and less has to be ruled out" in last.notes


def test_trouble_that_lasts_on_stable_makes_blocks_of_the_matched_too() -> None:
    rng = np.random.default_rng(1)
    bad = np.repeat(rng.random(30) < 0.2, 6)
    history = [
        a_look(number, {"v1": some_counts(1000, 60 if is_bad else 3)}, {})
        for number, is_bad in enumerate(bad)
    ]
    judge = judge_of(a_split_ladder(), history)
    [*_, last] = heard(judge, SPLIT, 0, Sampled(2, requests=30), 6, 50)
    assert any("looks are judged in blocks of" in note for note in last.notes)


def test_another_stable_voids_what_was_gathered_of_both() -> None:
    judge = judge_of(a_split_ladder(), [callers(one) for one in Sampled(1).history()])
    heard(judge, SPLIT, 0, Sampled(2, errors=0.08, more_errors=1.6, requests=30), 8, 50)
    anew, look = judge_of(a_split_ladder()), callers(Sampled(5, requests=30).look(50))
    for one in (judge, anew):
        one.open(Span(SPLIT, 0, START, fresh=True))
    assert verdict_after(judge, look) == verdict_after(anew, look)


@pytest.mark.parametrize("errors", [0.005, 0.08])
def test_healthy_versions_of_matched_users_are_hardly_ever_rolled_back(errors: float) -> None:
    """60 looks of the matched and 60 of all users, 25 rollouts: none. Were the matched held against all
    others, at 8% all would be."""
    policy, failed = a_split_ladder(), 0
    for seed in range(25):
        judge = judge_of(policy, [callers(one) for one in Sampled(1000 + seed).history(60)])
        verdicts = heard(judge, SPLIT, 0, Sampled(seed, errors=errors, requests=20), 60, 50)
        verdicts += heard(judge, WEIGHT, 10, Sampled(500 + seed), 60)
        failed += any(verdict.answer is Answer.FAIL for verdict in verdicts)
    assert failed == 0
