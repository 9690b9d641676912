"""The explanation says what the record holds, in words and as data, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from canaryd.domain.counts import Counts
from canaryd.domain.formatting import aligned, lasting, odds_text, percent_text, share_text
from canaryd.domain.lifecycle import Detail, Signal, advance
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import AskedGate, DesiredActions, Held, Phase, Rollout, RouteState
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.explanation import Section, data, explain, text
from canaryd.report.phase_summary import describe
from canaryd.report.serialization import finite
from tests.builders import OF_SERVICE, a_service, with_entrance

BEGAN = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


def a_policy(**more: Any) -> Policy:
    return Policy.load(
        {
            "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
            "route": {"virtualService": "sockshop"},
            "stages": [{"weight": 10}, {"weight": 50, "approval": "required"}, {"weight": 100}],
            **more,
        }
    )


def a_rollout(**changes: Any) -> Rollout:
    """Not begun yet. changes: its fields, or those of its first service."""
    own = {name: changes.pop(name) for name in OF_SERVICE & changes.keys()}
    service = a_service(**{"template": "abc", "stable_template": "x", "routes": (RouteState(),), **own})
    rollout = Rollout(name="front-end-v2-abc", policy=a_policy(), services=(service,), began=BEGAN)
    return replace(rollout, **changes).with_verdict(changes.get("verdict"))


def a_rollout_in_its_first_stage() -> Rollout:
    rollout = advance(a_rollout(), Signal.AVAILABLE, BEGAN + 5, Detail("front-end-v2 is available"))
    return advance(rollout, Signal.ROUTED, BEGAN + 6, Detail(start=int(BEGAN) + 8))


def at_a_gate(**asking: Any) -> Rollout:
    """Its first stage has passed; before the next one a gate is asked."""
    policy = a_policy(
        hooks=[{"before": 50, "gate": "https://tests.example/smoke?token=1", "deadline": "10m"}]
    )
    asked = AskedGate(0, 1, **{"since": BEGAN + 200, **asking})
    return replace(
        a_rollout_in_its_first_stage(), policy=policy, phase=Phase.AWAITING_GATE, gate_question=asked
    )


def a_verdict(**changes: Any) -> Verdict:
    errors = MetricFinding(
        "errors",
        "errors",
        Answer.FAIL,
        12,
        2300,
        24,
        250,
        ratio=18.4,
        low=4.2,
        high=60.0,
        tolerated=1.1,
        unacceptable=2.0,
        odds=140.0,
        cleared=0.01,
        says="errors 9.6% against 0.52%",
    )
    guard = MetricFinding(
        "errors",
        "at most 5% errors",
        Answer.FAIL,
        canary_events=24,
        canary_requests=250,
        value=0.096,
        limit=0.05,
        odds=7.0,
    )
    verdict = Verdict(
        Answer.FAIL,
        int(BEGAN) + 68,
        0,
        10,
        looks=4,
        odds=140.0,
        stage_odds=150.0,
        canary_requests=250,
        reason="errors 9.6% against 0.52%, odds 140 to 1",
        findings=(errors, guard),
        notes=("stable's replicas differ by 18%",),
    )
    return replace(verdict, **changes)


def a_rollout_rolled_back() -> Rollout:
    verdict = a_verdict()
    counted = {
        "front-end-v1-a": Counts(1200, 7),
        "front-end-v1-b": Counts(1100, 5),
        "front-end-v2-c": Counts(250, 24),
    }
    looked = with_entrance(replace(a_rollout_in_its_first_stage(), counted_to=verdict.at), counted=counted)
    harmed = advance(looked, Signal.HARM, BEGAN + 70, Detail(verdict.reason, verdict))
    return advance(harmed, Signal.ROUTED, BEGAN + 71, Detail(verdict.reason))


def said(rollout: Rollout, now: float = BEGAN + 60, wishes: DesiredActions = DesiredActions()) -> str:  # noqa: B008 (frozen)
    """The whole text on one line, so that wrapping does not matter."""
    return " ".join(text(explain(rollout, now, wishes)).split())


def test_a_rollback_is_explained_with_both_sides_counts_the_ratio_its_interval_and_the_bar() -> None:
    told = said(a_rollout_rolled_back())
    parts = (
        "rolled back, all traffic on v1",
        "v1 12 of 2,300 (0.52%)",
        "v2 24 of 250 (9.6%)",
        "18 (4.2 to 60)",
        "up to 1.1 is tolerated",
        "this stage has to rule out 2",
        "harm 140 to 1; alone it rolls back at 100 to 1",
        "cleared 1 to 100",
        "the stage passes at 20 to 1",
        "value 9.6%, limit 5.0%",
        "stable's replicas differ by 18%",
    )
    assert [part for part in parts if part not in told] == []


def test_every_decision_stands_in_the_timeline_with_its_time_weight_and_reason() -> None:
    rollout = a_rollout_rolled_back()
    timeline = next(section for section in explain(rollout, BEGAN + 100) if section.title == "What happened")
    rows = [line for line in timeline.lines if line.startswith("22:1")]
    assert len(rows) == len(rollout.decisions) == 3
    assert rows[0].split()[:2] == ["22:13:25", "5s"]
    assert "10%" in rows[0]
    assert "harm" in rows[1]
    assert "0%" in rows[1]
    assert "140 to 1" in rows[1]
    assert "errors 9.6% against 0.52%, odds 140 to 1" in " ".join(timeline.lines)


def test_a_verdict_that_decided_is_shown_beside_a_later_one() -> None:
    later = a_verdict(at=int(BEGAN) + 90, answer=Answer.UNDECIDED)
    titles = [
        section.title for section in explain(replace(a_rollout_rolled_back(), verdict=later), BEGAN + 100)
    ]
    assert [title for title in titles if "verdict" in title] == [
        "The verdict that decided (harm): fail",
        "The last verdict: undecided",
    ]


def test_what_was_counted_is_told_per_replica_and_adds_up_per_version() -> None:
    counted = next(
        section
        for section in explain(a_rollout_rolled_back(), BEGAN + 100)
        if section.title.startswith("Counted")
    )
    rows = [line.split() for line in counted.lines]
    assert ["v1", "front-end-v1-a", "1,200", "7", "0.58%"] in rows
    assert ["v1", "all", "2,300", "12", "0.52%"] in rows
    assert ["v2", "front-end-v2-c", "250", "24", "9.6%"] in rows


def test_replicas_belong_to_the_longer_of_two_names_that_both_fit() -> None:
    rollout = a_rollout(
        stable_workload="web", canary_workload="web-v2", counted={"web-v2-x": Counts(5), "web-y": Counts(7)}
    )
    assert {name: one["version"] for name, one in data(rollout)["counted"].items()} == {
        "web-v2-x": "v2",
        "web-y": "v1",
    }
    by_callers = a_rollout(
        stable_workload="web",
        canary_workload="web-v2",
        counted={"web-v2 (all)": Counts(5), "web (all)": Counts(7)},
    )
    assert {name: one["version"] for name, one in data(by_callers)["counted"].items()} == {
        "web-v2 (all)": "v2",
        "web (all)": "v1",
    }


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_says_where_the_rollout_is_and_what_comes_next(phase: Phase) -> None:
    held = Held.PERSON if phase is Phase.HELD else None
    rollout = replace(at_a_gate(), phase=phase, held=held, ended=BEGAN + 50 if phase.ended else None)
    assert describe(rollout) in said(rollout)
    assert "What happens next" in said(rollout)


def test_a_hold_for_stable_s_sake_says_that_a_rollback_waits_too() -> None:
    rollout = replace(a_rollout_in_its_first_stage(), phase=Phase.HELD, held=Held.STABLE_NOT_READY)
    assert "a rollback waits for stable too" in said(rollout)
    assert "canaryd abort front-end-v2-abc" in said(rollout)


@pytest.mark.parametrize("held", [one for one in Held if one is not Held.STABLE_NOT_READY])
def test_every_hold_says_how_it_ends(held: Held) -> None:
    rollout = replace(a_rollout_in_its_first_stage(), phase=Phase.HELD, held=held)
    assert "canaryd resume front-end-v2-abc" in said(rollout)
    assert "harm still rolls back" in said(rollout)


def test_a_hold_by_drift_says_what_a_resume_does_to_the_route() -> None:
    told = said(replace(a_rollout_in_its_first_stage(), phase=Phase.HELD, held=Held.DRIFT, weight=20))
    assert (
        "canaryd steers again, writes the route back to 20%, and replaces edits inside the route list" in told
    )


@pytest.mark.parametrize(
    ("phase", "where"),
    [
        (Phase.PROGRESSING, "observing: in stage 1/3, would be at 10%"),
        (Phase.HELD, "observing: would be held at 10%"),
        (Phase.ROLLED_BACK, "observing: would have rolled back to v1"),
        (Phase.SUCCEEDED, "observing: would have succeeded, with all traffic on v2"),
    ],
)
def test_a_rollout_that_only_observes_does_not_claim_that_traffic_moved(phase: Phase, where: str) -> None:
    policy = a_policy(mode="observe", rollback={"scaleCanaryTo": 0, "after": "5m"})
    held = Held.PERSON if phase is Phase.HELD else None
    rollout = replace(
        a_rollout_in_its_first_stage(),
        policy=policy,
        phase=phase,
        held=held,
        ended=BEGAN + 50 if phase.ended else None,
    )
    assert describe(rollout).startswith(where)
    assert "no route is changed" in said(rollout)
    assert "front-end-v2 is scaled to" not in said(rollout)


def test_a_stage_under_way_says_what_remains_of_its_minimum_and_of_its_deadline() -> None:
    rollout = a_rollout_in_its_first_stage()
    assert "1m8s left of its minimum of 2m" in said(rollout, BEGAN + 60)
    assert "still undecided in 14m8s" in said(rollout, BEGAN + 60)
    assert "minimum of 2m is over" in said(rollout, BEGAN + 200)


def test_a_stage_without_data_says_that_its_deadline_stands_still() -> None:
    assert "deadline stands still" in said(
        advance(a_rollout_in_its_first_stage(), Signal.DATA_LOST, BEGAN + 30, Detail("gone"))
    )


def test_a_stage_that_asks_for_approval_says_so_before_it_has_passed() -> None:
    rollout = replace(a_rollout_in_its_first_stage(), stage=1, weight=50)
    assert "Then 100%, once a person approves" in said(rollout)
    assert "once a person approves" not in said(replace(rollout, approved=1))


def test_a_stage_before_a_gate_names_it_until_it_has_opened() -> None:
    rollout = replace(at_a_gate(), phase=Phase.PROGRESSING)
    assert "Then 50%, once the gate https://tests.example/smoke is open." in said(rollout)
    assert "is open" not in said(replace(rollout, opened_gates=(0,)))


def test_at_full_weight_it_says_what_an_alarm_does() -> None:
    full = replace(a_rollout_in_its_first_stage(), stage=2, weight=100)
    assert "An alarm against the record steps back to 50%, where both versions are compared." in said(full)
    policy = a_policy(strategy="blue-green", stages=[{"weight": 0}, {"weight": 100}])
    assert "an alarm against the record sends all back to v1 at once" in said(
        replace(full, policy=policy, stage=1)
    )
    assert "alarm" not in said(a_rollout_in_its_first_stage())


def test_a_gate_is_told_with_its_last_answer_what_its_deadline_does_and_how_to_go_round_it() -> None:
    told = said(at_a_gate(at=BEGAN + 240, says="HTTP 503: 2 of 14 tests failed"), BEGAN + 260)
    assert "stage 1/3 at 10% has passed, and waits for the gate https://tests.example/smoke" in told
    assert (
        "Before 50%, the gate https://tests.example/smoke is asked until it answers 2xx (not 202), 15s after "
        "each other answer." in told
    )
    assert "The last answer, 20s ago: HTTP 503: 2 of 14 tests failed." in told
    assert "If it is still closed in 9m (the gate's deadline), it is held, and asked on." in told
    assert "canaryd approve front-end-v2-abc --gate" in told
    assert "evidence of harm still rolls back" in told
    assert "token" not in told


def test_a_gate_that_is_not_asked_in_a_pause_says_so() -> None:
    assert "It is not asked while the service is paused" in said(at_a_gate(since=None))


def test_a_gate_before_the_start_does_not_speak_of_users() -> None:
    rollout = replace(at_a_gate(), stage=-1, weight=0)
    assert "waits for the gate" in said(rollout)
    assert "stay on" not in said(rollout)
    held = replace(rollout, phase=Phase.HELD, held=Held.GATE)
    assert "It is asked on" in said(held)
    assert "stay on" not in said(held)


def test_a_gate_that_a_person_opened_and_is_not_open_yet_is_told() -> None:
    assert "opened the gate https://tests.example/smoke, not obeyed yet" in said(
        at_a_gate(), wishes=DesiredActions(opened_gate=1)
    )
    assert "not obeyed yet" not in said(at_a_gate(), wishes=DesiredActions(opened_gate=2))


def test_the_whole_rollouts_deadline_is_told_until_it_has_ended() -> None:
    rollout = replace(a_rollout_in_its_first_stage(), policy=a_policy(schedule={"deadline": "1h"}))
    assert "59m left of its 1h" in said(rollout, BEGAN + 60)
    assert "left of its 1h" not in said(replace(rollout, phase=Phase.SUCCEEDED, ended=BEGAN + 60))


def test_people_are_named_by_what_they_did_and_by_what_they_asked_for() -> None:
    rollout = replace(a_rollout_in_its_first_stage(), approved=1, resumed=2)
    assert "approved up to stage 2/3, resumed it 2 times" in said(rollout)
    assert "asked to promote, not obeyed yet" in said(rollout, wishes=DesiredActions(promote=True))
    assert "People" not in said(a_rollout_in_its_first_stage())


def test_who_was_told_is_named_with_what_was_given_up() -> None:
    rollout = a_rollout_rolled_back()
    *others, last = rollout.announcements
    told = said(
        replace(rollout, announcements=(*others, replace(last, delivered=("oncall",), given_up=("audit",))))
    )
    assert "22:14:31 rolled_back oncall audit" in told
    assert "advanced nobody yet" in told


def test_evidence_made_void_by_a_changed_stable_is_told() -> None:
    rollout = a_rollout_in_its_first_stage()
    (span,) = rollout.spans
    assert "stable changed at 22:13:28: what was compared before is void" in said(
        replace(rollout, spans=(replace(span, fresh=True),))
    )
    assert "stable changed" not in said(rollout)


def test_scaling_after_the_end_is_told_before_and_after_it_is_done() -> None:
    rollout = replace(a_rollout_rolled_back(), policy=a_policy(rollback={"scaleCanaryTo": 0, "after": "5m"}))
    assert "front-end-v2 is scaled to 0 at 22:19:31" in said(rollout)
    assert "Scaling is done: front-end-v2 was set to 0, unless it still got traffic or was gone." in said(
        with_entrance(rollout, scaled=True)
    )


def test_the_data_hold_the_whole_record_and_are_json() -> None:
    rollout = a_rollout_rolled_back()
    back = json.loads(json.dumps(data(rollout), allow_nan=False))
    assert set(back) >= {
        "name",
        "stableWorkload",
        "decisions",
        "announcements",
        "spans",
        "policy",
        "counted",
        "countedTo",
    }
    assert back["phase"] == "RolledBack"
    assert back["policy"] == rollout.policy.dump()
    assert back["decisions"][1]["verdict"]["findings"][0]["stableRequests"] == 2300
    assert back["counted"]["front-end-v2-c"] == {"version": "v2", "requests": 250, "failures": 24}


def test_infinite_odds_stay_comparable_in_json() -> None:
    back = json.loads(
        json.dumps(data(replace(a_rollout(), verdict=a_verdict(odds=math.inf))), allow_nan=False)
    )
    assert back["verdict"]["odds"] > 1e300
    assert finite(math.nan) is None
    assert finite(-math.inf) == -finite(math.inf)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("odds", "shown"),
    [
        (140.2, "140 to 1"),
        (3.04, "3.0 to 1"),
        (1.0, "1.0 to 1"),
        (0.2, "1 to 5.0"),
        (0.98, "1.0 to 1"),
        (0.96, "1.0 to 1"),
        (0.0, "less than 1 to 1,000,000"),
        (math.inf, "more than 1,000,000 to 1"),
        (12345.6, "12,346 to 1"),
    ],
)
def test_odds_read_as_people_say_them(odds: float, shown: str) -> None:
    assert odds_text(odds) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0%"),
        (0.00005, "<0.01%"),
        (0.0052, "0.52%"),
        (0.00996, "1.0%"),
        (0.051, "5.1%"),
        (0.0996, "10%"),
        (1.0, "100%"),
    ],
)
def test_shares_read_as_two_digits_and_never_as_an_exponent(share: float, shown: str) -> None:
    assert percent_text(share) == shown


def test_shares_of_nothing_have_no_percentage() -> None:
    assert share_text(0, 0) == "0 of 0"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3.0, "0s"), (0.4, "0s"), (99.6, "1m40s"), (3661.0, "1h1m"), (200_000.0, "56h")]
)
def test_ages_are_as_fine_as_their_length_needs(seconds: float, shown: str) -> None:
    assert lasting(seconds) == shown


def test_tables_are_aligned_and_have_no_trailing_blanks() -> None:
    assert aligned([("a", "b", "c"), ("longer", "12", "x")], right=(1,)) == ["a        b  c", "longer  12  x"]


def test_odds_above_the_bar_without_a_rollback_are_explained() -> None:
    assert "above the bar" in said(
        replace(a_rollout_in_its_first_stage(), verdict=a_verdict(answer=Answer.UNDECIDED))
    )
    assert "above the bar" not in said(a_rollout_rolled_back())


def test_a_ratio_without_an_estimate_still_shows_its_interval() -> None:
    finding = replace(a_verdict().findings[0], ratio=None, low=26.0, high=math.inf)
    assert "no estimate (26 to any)" in said(
        replace(a_rollout_in_its_first_stage(), verdict=a_verdict(findings=(finding,)))
    )


def test_a_section_without_anything_to_say_is_left_out() -> None:
    sections = explain(a_rollout(), BEGAN)
    assert all(section.lines for section in sections)
    assert {"What happened", "Counted, request by request"}.isdisjoint(section.title for section in sections)
    assert text((Section("A", ("b",)),)) == "A\n  b\n"


def test_what_the_route_does_not_steer_is_told_and_whose_requests_are_off_in_its_place() -> None:
    def to_know(rollout: Rollout) -> str:
        return " ".join(
            line.strip()
            for one in explain(rollout, BEGAN + 30)
            if one.title == "To know"
            for line in one.lines
        )

    noted = with_entrance(a_rollout_in_its_first_stage(), unrouted_reason="bound to shop alone")
    assert to_know(noted) == "- bound to shop alone"
    assert (
        to_know(with_entrance(noted, off_weight_callers="those of orders do not. bound to shop alone"))
        == "- those of orders do not. bound to shop alone"
    )


def test_a_hold_for_the_split_and_a_stage_that_stands_for_it_say_what_they_wait_for() -> None:
    off = a_verdict(answer=Answer.NO_DATA, off_weight=True)
    standing = replace(a_rollout_in_its_first_stage(), verdict=off, clock_from=None)
    assert "It waits for traffic that follows the weight" in text(explain(standing, BEGAN + 30))
    held = replace(standing, phase=Phase.HELD, held=Held.NO_DATA)
    assert "goes on by itself when the traffic follows the weight" in text(explain(held, BEGAN + 30))
    assert "goes on by itself when telemetry is back" in text(
        explain(replace(held, verdict=None), BEGAN + 30)
    )


def test_a_compared_query_has_a_value_and_no_counts_and_a_dry_run_is_called_one() -> None:
    compared = MetricFinding(
        "cost",
        "compared with stable",
        Answer.UNDECIDED,
        ratio=2.0,
        tolerated=1.1,
        odds=600.0,
        bar=496.0,
        value=2.1,
        says="cost 2.1 against 1.05: would roll back (dry run)",
        dry_run=True,
    )
    rollout = replace(
        a_rollout_in_its_first_stage(), verdict=a_verdict(answer=Answer.UNDECIDED, findings=(compared,))
    )
    said = text(explain(rollout, BEGAN + 70))
    assert "cost, compared with stable: undecided (dry run: decides nothing)" in said
    assert "  value     2.1\n" in said
    assert "  ratio     2.0; up to 1.1 is tolerated\n" in said
    assert "600 to 1; alone it rolls back at 496 to 1" in said
    assert "counts" not in said.partition("cost, compared")[2].partition("\n\n")[0]
