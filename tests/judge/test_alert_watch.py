"""Alerts as limits: which count, what is known of them, and what they let pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from canaryd.domain.formatting import time_text
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.series_values import columns, labels_text, looks_of, series_of
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import judge_of
from canaryd.report.reporting_judge import ReportingJudge
from tests.judge.looks import START, a_ladder, a_look
from tests.judge.looks import Sampled as Service
from tests.judge.test_matched_users import a_split_ladder

SLOW = labels_text({"alertname": "HighLatency", "severity": "page", "namespace": "production"})
DOWN = labels_text({"alertname": "Down", "severity": "page", "pod": "front-end-v2-6c-x"})
PAST = 360  # looks of 10 s: an hour


def a_case(**keys: Any) -> Policy:
    return a_ladder(alerts={"matching": 'severity="page"', **keys})


class Case:
    """A judge, and looks of a healthy service, in which alerts fire as a test says."""

    def __init__(
        self,
        policy: Policy | None = None,
        past: Sequence[Mapping[str, float] | None] = ({},) * PAST,
        seed: int = 1,
    ) -> None:
        policy = policy or a_case()
        self.service = Service(seed)
        self.judge = ReportingJudge(judge_of(policy, self.service.history()))
        self.judge.remember(columns("ALERTS", past))
        self.policy, self.weight = policy, 0

    def at(self, weight: int) -> Case:
        stage = self.policy.weights.index(weight)
        self.judge.open(Span(stage, weight, self.service.now))
        self.weight = weight
        return self

    def look(self, *firing: str, compared: bool = True, answered: bool = True, late: int = 0) -> Verdict:
        """late: seconds before the look's end at which the rules were last evaluated."""
        evaluated = float(self.service.now + 10 - late)
        values = columns("ALERTS", [dict.fromkeys(firing, evaluated) if answered else None])
        look = self.service.look(self.weight)
        return self.judge.observe(look, {name: value for name, (value,) in values.items()}, compared)

    def looks(self, count: int, *firing: str, **how: Any) -> Verdict:
        return [self.look(*firing, **how) for _ in range(count)][-1]


# ---------------------------------------------------------------- values of a look


def test_series_stand_among_the_values_of_a_look_and_are_had_again() -> None:
    looks = [{SLOW: 10.0}, None, {}, {SLOW: 30.0, DOWN: 30.0}]
    found = columns("ALERTS", looks)
    assert found["ALERTS"] == [1.0, None, 0.0, 2.0]
    assert list(looks_of("ALERTS", {**found, "cpu": [1.0, 1.0, 1.0, 1.0]})) == looks
    assert series_of("ALERTS", {"cpu": 1.0}) is None
    assert list(looks_of("ALERTS", {"cpu": [1.0]})) == []


# ---------------------------------------------------------------- which count


def test_an_alert_that_begins_to_fire_in_the_rollout_is_rolled_back_and_says_since_when() -> None:
    case = Case().at(10)
    assert case.looks(3).answer is not Answer.FAIL
    verdict = case.look(SLOW, late=3)
    assert verdict.answer is Answer.FAIL
    assert verdict.reason == (
        f"alert HighLatency (severity=page) fires since {clock(37 + 1200)} UTC, 37 s after weight 10%; it "
        "did not fire in the hour before: rolled back"
    )
    (finding,) = [finding for finding in verdict.findings if finding.metric == "alerts"]
    assert (finding.what, finding.since) == ("alert HighLatency", START + 1237)


def clock(seconds: int) -> str:
    return time_text(START + seconds)


def test_an_alert_that_fired_when_the_rollout_began_counts_only_once_it_has_resolved_and_fires_anew() -> None:
    case = Case(past=[*[{}] * (PAST - 1), {SLOW: float(START + 1195)}]).at(10)
    verdict = case.looks(5, SLOW)
    assert verdict.answer is not Answer.FAIL
    assert any("fired already when the rollout began" in note for note in verdict.notes)
    assert case.look().answer is not Answer.FAIL
    verdict = case.look(SLOW)
    assert verdict.answer is Answer.FAIL
    assert f"it had fired in the hour before, last at {clock(1250)}: rolled back" in verdict.reason


def test_two_alerts_of_one_name_are_two() -> None:
    other = labels_text({"alertname": "Down", "severity": "page", "pod": "front-end-v2-6c-y"})
    case = Case(past=[{DOWN: float(START)}] * PAST).at(10)
    assert case.look(DOWN).answer is not Answer.FAIL
    verdict = case.look(DOWN, other)
    assert verdict.answer is Answer.FAIL
    assert "alert Down (severity=page, pod=front-end-v2-6c-y) fires since" in verdict.reason


def test_an_alert_that_begins_before_the_first_stage_or_while_the_weight_changes_counts() -> None:
    case = Case()
    case.look(SLOW, compared=False)
    verdict = case.at(10).look(SLOW)
    assert verdict.answer is Answer.FAIL
    assert "before the canary had any traffic; it did not fire in the hour before" in verdict.reason
    case = Case().at(10)
    case.looks(3)
    assert case.look(SLOW, compared=False).answer is Answer.FAIL


@pytest.mark.parametrize("looks", [0, 3, 12])
def test_what_is_known_of_the_time_before_is_what_is_said(looks: int) -> None:
    case = Case(past=[None] * PAST).at(10)
    case.looks(looks + 1)
    reason = case.look(SLOW).reason
    said = {
        0: "whether it fired before is not known",
        3: "whether",
        12: "it did not fire in the 2m10s before",
    }
    assert said[looks] in reason


def test_without_a_past_what_fires_in_the_first_look_is_taken_to_have_fired_before() -> None:
    case = Case(past=[None] * PAST).at(10)
    assert case.look(SLOW).answer is not Answer.FAIL


# ---------------------------------------------------------------- what is not known


def test_not_to_know_what_fires_lets_nothing_pass() -> None:
    known, unknown = Case().at(10), Case().at(10)
    assert known.looks(60).answer is Answer.PASS
    verdict = unknown.looks(60, answered=False)
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.lacks_data
    assert "Prometheus did not say which alerts fire" in verdict.reason


def test_not_to_know_is_neither_that_an_alert_has_resolved_nor_that_it_is_new() -> None:
    case = Case(past=[{SLOW: float(START)}] * PAST).at(10)
    case.look(SLOW)
    case.looks(3, answered=False)
    assert case.look(SLOW).answer is not Answer.FAIL
    case = Case(a_case(onFiring="hold")).at(10)
    case.looks(2)
    began = case.look(SLOW).alert_since
    assert began is not None
    assert case.looks(3, answered=False).alert_since == began


def test_an_alert_that_began_while_nobody_said_what_fires_counts() -> None:
    case = Case().at(10)
    case.looks(2)
    case.looks(3, answered=False)
    assert case.look(SLOW).answer is Answer.FAIL


def test_a_dark_stage_does_not_pass_without_knowing_either() -> None:
    policy = a_ladder(alerts={"matching": 'severity="page"'})
    stages = ({"weight": 0, "minimum": "60s"}, {"weight": 100, "minimum": "60s"})
    dark = Policy.load({**policy.dump(), "stages": list(stages)})
    known, unknown = Case(dark).at(0), Case(dark).at(0)
    assert known.looks(8).answer is Answer.PASS
    assert unknown.looks(8, answered=False).answer is Answer.UNDECIDED


# ---------------------------------------------------------------- hold, and other judges


def test_with_hold_an_alert_is_no_harm_and_says_since_when_it_fires() -> None:
    case = Case(a_case(onFiring="hold")).at(10)
    case.looks(2)
    verdict = case.looks(20, SLOW)
    assert verdict.answer in (Answer.UNDECIDED, Answer.PASS)
    assert verdict.alert_since == START + 1230
    assert case.look().alert_since is None


def test_both_judges_of_matched_users_know_the_same_alerts() -> None:
    """The alert fires before the rollout, resolves in the stage of the one and fires anew in that of the
    other."""
    policy = a_split_ladder(alerts={"matching": 'severity="page"'})
    case = Case(policy, past=[{SLOW: float(START)}] * PAST)
    case.judge.open(Span(0, 0, case.service.now))
    case.look(SLOW)
    case.look()
    case.judge.open(Span(1, 10, case.service.now))
    assert case.look(SLOW).answer is Answer.FAIL


def test_the_same_looks_give_the_same_verdicts() -> None:
    def verdicts() -> list[Verdict]:
        case = Case(a_case(onFiring="hold"), seed=5).at(10)
        return [case.look(*firing) for firing in ((), (SLOW,), (SLOW, DOWN), (), (DOWN,))]

    assert verdicts() == verdicts()


def test_without_the_key_alerts_among_the_values_are_nothing() -> None:
    assert Judge(a_ladder()).alerts is None
    look = a_look(0, {}, {})
    assert Judge(a_ladder()).observe(look, {"ALERTS": 1.0, f"ALERTS of {SLOW}": 1.0}).details is not None
