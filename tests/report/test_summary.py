"""A rollout in one line: how both versions do, what became of it, whom it hurt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.kube.events import event_of
from canaryd.adapters.notify import alertmanager, webhook
from canaryd.domain.counts import Counts
from canaryd.domain.rollout import Announcement, Held, Phase, Rollout
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.serialization import plain
from canaryd.report.summary import announced, summarized, summary
from tests.builders import NOW, a_policy, a_rollout

FAILING = MetricFinding("errors", "errors", Answer.FAIL, 8, 2000, 11, 145, odds=900.0)
WELL = MetricFinding("errors", "errors", Answer.PASS, 10, 2000, 1, 222, odds=0.2)
SLOW = MetricFinding("latency", "slower than 250 ms", Answer.FAIL, 20, 2000, 30, 200, odds=500.0)
SLOWER = MetricFinding("latency", "all bounds", Answer.FAIL, 0, 2000, 0, 200, ratio=1.8, odds=500.0)
COUNTED = {"front-end-v2-a": Counts(145, 11), "front-end-v1-a": Counts(2000, 8)}


def a_verdict(*findings: MetricFinding, answer: Answer = Answer.FAIL) -> Verdict:
    return Verdict(answer, int(NOW) + 12, 0, 10, looks=2, odds=900.0, findings=findings)


def an_announcement(event: str, at: float, verdict: Verdict) -> Announcement:
    named = {"namespace": "production", "service": "front-end", "rollout": "front-end-v2"}
    return Announcement(
        id="1",
        event=event,
        at=at,
        **named,
        stable="v1",
        canary="v2",
        stage=0,
        weight=10,
        reason="",
        verdict=verdict,
    )


def ended(phase: Phase, *findings: MetricFinding, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "phase": phase,
        "stage": 0,
        "weight": 0,
        "began": NOW,
        "ended": NOW + 12,
        "verdict": a_verdict(*findings),
        "counted": COUNTED,
    }
    return a_rollout(**{**values, **changes})


def test_a_rollback_tells_both_shares_the_time_and_the_users_that_saw_an_error() -> None:
    told = summary(ended(Phase.ROLLED_BACK, FAILING), NOW + 900)
    assert told == (
        "v2 fails 7.6% of its requests, v1 0.4%: rolled back after 12 s; about 11 users saw an error"
    )


@pytest.mark.parametrize(
    ("findings", "says"),
    [
        ([SLOWER, SLOW], "v2 answers 15% of its requests slower than 250 ms, v1 1.0%"),
        ([SLOWER], "v2 takes 1.8 times as long as v1"),
        ([replace(SLOWER, ratio=None)], "v2 is slower than v1"),
        (
            [
                MetricFinding(
                    "errors", "at most 5% errors", Answer.FAIL, 0, 0, 11, 145, value=0.076, limit=0.05
                )
            ],
            "v2 fails 7.6% of its requests (at most 5.0% is allowed)",
        ),
        (
            [
                MetricFinding(
                    "latency",
                    "at most 5% slower than 250 ms",
                    Answer.FAIL,
                    0,
                    0,
                    11,
                    145,
                    value=0.07,
                    limit=0.05,
                )
            ],
            "v2 answers 7.6% of its requests slower than 250 ms (at most 5.0% is allowed)",
        ),
        (
            [MetricFinding("heap", "at most 2", Answer.FAIL, value=2.5, limit=2.0)],
            "v2 has heap at 2.5 (at most 2 is allowed)",
        ),
        (
            [MetricFinding("cost", "compared with stable", Answer.FAIL, ratio=2.0, odds=300.0, value=2.1)],
            "v2 has 2.0 times the cost of v1",
        ),
        (
            [
                MetricFinding(
                    "errors",
                    "errors, against the record",
                    Answer.ALARM,
                    0,
                    0,
                    11,
                    145,
                    value=0.07,
                    limit=0.02,
                )
            ],
            "v2 fails 7.6% of its requests at full weight, up to 2.0% is usual",
        ),
    ],
)
def test_each_kind_of_harm_is_told_by_what_people_know(findings: list[MetricFinding], says: str) -> None:
    told = summary(ended(Phase.ROLLED_BACK, *findings, counted={}), NOW)
    assert told == f"{says}: rolled back after 12 s"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("version down", "v2 fails 100% of its requests, v1 0%: rolled back after 12 s"),
        ("replica down", "a replica of v2 fails 100% of its requests, v1 0%: rolled back after 12 s"),
    ],
)
def test_plain_harm_is_told_first_whatever_the_odds_say(what: str, says: str) -> None:
    down = MetricFinding("errors", what, Answer.FAIL, 0, 470, 52, 52)
    verdict = a_verdict(down, FAILING)
    rollout = a_rollout(phase=Phase.ROLLED_BACK, began=NOW, ended=NOW + 12).with_verdict(verdict)
    assert summary(rollout, NOW + 12) == says


def test_a_broken_limit_has_stables_share_beside_it() -> None:
    limit = MetricFinding("errors", "at most 5% errors", Answer.FAIL, 0, 0, 11, 145, value=0.076, limit=0.05)
    told = summary(ended(Phase.ROLLED_BACK, FAILING, limit, counted={}), NOW)
    assert told.startswith("v2 fails 7.6% of its requests, v1 0.4% (at most 5.0% is allowed): rolled back")


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Phase.SUCCEEDED, "promoted after 12 s"),
        (Phase.PROMOTING, "promoted after 12 s"),
        (Phase.SUPERSEDED, "replaced by a newer version after 12 s"),
        (Phase.AWAITING_APPROVAL, "through stage 1 of 4, and waits for approval"),
        (Phase.PROGRESSING, "in stage 1 of 4 at 10% after 12 s"),
    ],
)
def test_a_version_that_is_well_is_told_with_both_shares_and_where_it_is(phase: Phase, says: str) -> None:
    told = summary(ended(phase, WELL, weight=10, counted={}), NOW)
    assert told == f"v2 fails 0.45% of its requests, v1 0.5%: {says}"


@pytest.mark.parametrize("held", Held)
def test_a_hold_says_why(held: Held) -> None:
    told = summary(ended(Phase.HELD, WELL, weight=10, counted={}, held=held), NOW)
    assert ": held at 10% after 12 s, " in told


def test_every_phase_has_a_line_without_a_verdict() -> None:
    for phase in Phase:
        told = summary(a_rollout(phase=phase, stage=0, began=NOW, counted={}), NOW + 150)
        assert told.startswith("v2 is "), phase
        assert "\n" not in told


def test_one_user_is_one() -> None:
    counted = {"front-end-v2-a": Counts(10, 1)}
    assert summary(ended(Phase.ROLLED_BACK, FAILING, counted=counted), NOW).endswith(
        "; about 1 user saw an error"
    )


def test_where_users_get_no_answer_of_the_canary_requests_are_told() -> None:
    policy = a_policy(stages=[{"mirror": "20%", "minimum": "1m"}, {"weight": 100}])
    told = summary(ended(Phase.ROLLED_BACK, FAILING, policy=policy), NOW)
    assert told.endswith("; 11 of its requests failed, copies and previews included")


def test_a_rollout_that_only_observes_is_told_as_what_would_be() -> None:
    told = summary(ended(Phase.ROLLED_BACK, FAILING, policy=a_policy(mode="observe"), counted={}), NOW)
    assert told.endswith(": only observed, and would be rolled back after 12 s")


def test_an_announcement_has_the_numbers_of_its_own_moment() -> None:
    rollout = ended(Phase.ROLLED_BACK, FAILING)
    moment = an_announcement(event="advanced", at=NOW + 5, verdict=a_verdict(WELL, answer=Answer.PASS))
    assert announced(rollout, moment).startswith("v2 fails 0.45% of its requests, v1 0.5%: in stage 1 of 4")
    last = an_announcement(event="rolled_back", at=NOW + 12, verdict=a_verdict(FAILING))
    assert announced(rollout, last) == summary(rollout, NOW)


def test_whoever_is_told_reads_the_summary_first_and_then_the_numbers() -> None:
    rollout = ended(Phase.ROLLED_BACK, FAILING)
    stored = an_announcement(event="rolled_back", at=NOW + 12, verdict=a_verdict(FAILING))
    told = summarized(rollout, replace(stored, reason="errors 7.6% against 0.4%, odds 900 to 1"))
    line = summary(rollout, NOW)
    about = {"apiVersion": "v1", "kind": "x", "metadata": {"namespace": "n", "name": "x", "uid": "1"}}
    note = event_of(told, {**about, "namespace": "n"}, None, "canaryd-0")["note"]
    assert note == f"{line}. front-end v1 to v2, weight 10%: errors 7.6% against 0.4%, odds 900 to 1"
    assert alertmanager.summary(told) == f"front-end in production: {line}"
    assert alertmanager.description(told).startswith("errors 7.6% against 0.4%, odds 900 to 1")
    assert webhook.payload(told)["summary"] == line


def test_a_record_keeps_announcements_without_a_summary() -> None:
    stored = an_announcement(event="rolled_back", at=NOW + 12, verdict=a_verdict(FAILING))
    assert stored.summary == ""
    assert "summary" not in plain(stored)
