"""Gates in the life of a rollout: which is asked when, and what it opens."""

from dataclasses import replace
from typing import Any

import pytest

from canaryd.domain import gates
from canaryd.domain.gates import GateReply
from canaryd.domain.lifecycle import TRANSITIONS, Detail, Signal, advance
from canaryd.domain.policy.hooks import Gate
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.rollout import AskedGate, DesiredActions, Held, Phase, Rollout
from tests.builders import NOW, a_policy, a_rollout, a_service

SMOKE = "https://tests.example/smoke"


def gated(*befores: object, **more: Any) -> Policy:
    return a_policy(hooks=[{"before": before, "gate": SMOKE, **more} for before in befores])


def waiting(*befores: object) -> Rollout:
    return a_rollout(
        policy=gated(*befores),
        phase=Phase.WAITING,
        stage=-1,
        weight=0,
        spans=(),
        clock_from=None,
        last_data=None,
    )


def at_gate(rollout: Rollout) -> tuple[Phase, int, int | None]:
    return rollout.phase, rollout.weight, rollout.gate_question.gate if rollout.gate_question else None


# ---------------------------------------------------------------- what people write


def test_a_gate_is_a_url_or_a_name_with_every_default_written_out() -> None:
    policy = a_policy(
        hooks=[
            {"before": "start", "gate": SMOKE},
            {"before": "50", "gate": "load", "timeout": "2m", "closed": "rollback"},
            {"on": ["held"], "notify": "oncall"},
        ]
    )
    assert policy.gates == (
        Gate("start", SMOKE, 10.0, 15.0, 900.0, "hold"),
        Gate(50, "load", 120.0, 15.0, 900.0, "rollback"),
    )
    assert (policy.notifiers_of("held"), policy.notifiers_of("advanced"), policy.notifiers) == (
        ("oncall",),
        (),
        ("oncall",),
    )
    assert policy.dump()["hooks"][0] == {
        "before": "start",
        "gate": SMOKE,
        "timeout": "10s",
        "every": "15s",
        "deadline": "15m",
        "closed": "hold",
    }
    assert Policy.load(policy.dump()) == policy


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (
            {"before": "end", "gate": SMOKE},
            "hooks[0].before must be start, promotion or a weight of the ladder such as 50, but is 'end'",
        ),
        (
            {"before": True, "gate": SMOKE},
            "hooks[0].before must be start, promotion or a weight of the ladder such as 50, but is true",
        ),
        (
            {"before": 40, "gate": SMOKE},
            "hooks[0].before must be start, promotion or a weight of the ladder (10, 25, 50, 100), but is 40",
        ),
        ({"before": "start"}, "hooks[0] must have on and notify, or before and gate, but has before"),
        ({"gate": SMOKE}, "hooks[0] must have on and notify, or before and gate, but has gate"),
        (
            {"on": ["held"], "gate": SMOKE},
            "hooks[0] must have on and notify, or before and gate, but has on and gate",
        ),
        ({}, "hooks[0] must have on and notify, or before and gate, but has none of them"),
        (
            {"on": ["held"], "notify": "oncall", "timeout": "1s"},
            "hooks[0].timeout must be set only with a gate, but is set with notify",
        ),
        (
            {"before": "start", "gate": "Smoke Test"},
            "hooks[0].gate must be a URL such as https://tests.example/smoke, or a gate's name in "
            "config/canaryd.yaml, but is 'Smoke Test'",
        ),
        (
            {"before": "start", "gate": "ftp://tests.example"},
            "hooks[0].gate must be a URL such as https://tests.example/smoke, but is 'ftp://tests.example'",
        ),
        (
            {"before": "start", "gate": "https://me:secret@tests.example"},
            "hooks[0].gate must be without user and password: define a gate in "
            "config/canaryd.yaml, which may have basicAuth, but has them (not shown)",
        ),
        (
            {"before": "start", "gate": SMOKE, "timeout": "2m", "deadline": "1m"},
            "hooks[0].deadline must be at least the timeout of one answer (2m), but is 1m",
        ),
        (
            {"before": "start", "gate": SMOKE, "every": 5},
            "hooks[0].every must be a duration such as 90s, 10m or 1h30m, but is 5: write 5s if that is "
            "meant",
        ),
        (
            {"before": "start", "gate": SMOKE, "closed": "advance"},
            "hooks[0].closed must be 'hold' or 'rollback', but is 'advance'",
        ),
    ],
)
def test_a_wrong_gate_is_refused_with_what_was_wanted(hook: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidPolicy) as refused:
        a_policy(hooks=[hook])
    assert str(refused.value) == says


def test_what_follows_a_path_is_not_part_of_a_gate_s_name() -> None:
    assert Gate("start", f"{SMOKE}?token=abc#x", 1, 1, 1, "hold").name == SMOKE


# ---------------------------------------------------------------- when it is asked


def test_a_gate_before_the_start_is_asked_when_the_canary_is_available_and_nothing_is_served_meanwhile() -> (
    None
):
    asked = advance(waiting("start"), Signal.AVAILABLE, NOW)
    assert at_gate(asked) == (Phase.AWAITING_GATE, 0, 0)
    opened = advance(asked, Signal.GATE_OPEN, NOW)
    assert (opened.phase, opened.opened_gates) == (Phase.WAITING, (0,))
    begun = advance(opened, Signal.AVAILABLE, NOW)
    assert (begun.phase, begun.weight, begun.opened_gates) == (Phase.PROGRESSING, 10, ())


def test_a_gate_before_a_weight_is_asked_after_the_stage_below_it_has_passed_and_the_evidence_of_the_moment_lets_it_go_on() -> (  # noqa: E501
    None
):
    rollout = a_rollout(policy=gated(25))
    asked = advance(rollout, Signal.PASS, NOW)
    assert at_gate(asked) == (Phase.AWAITING_GATE, 10, 0)
    opened = advance(asked, Signal.GATE_OPEN, NOW)
    assert (opened.phase, opened.stage) == (Phase.PROGRESSING, 0)
    assert advance(opened, Signal.HARM, NOW).phase is Phase.ROLLING_BACK
    assert advance(opened, Signal.PASS, NOW).weight == 25


def test_a_gate_before_the_promotion_is_asked_at_full_weight() -> None:
    rollout = a_rollout(policy=gated("promotion"), stage=3, weight=100)
    asked = advance(rollout, Signal.PASS, NOW)
    assert at_gate(asked) == (Phase.AWAITING_GATE, 100, 0)
    assert advance(advance(asked, Signal.GATE_OPEN, NOW), Signal.PASS, NOW).phase is Phase.PROMOTING


def test_no_gate_is_asked_where_none_stands() -> None:
    assert advance(a_rollout(policy=gated("start", "promotion", 50)), Signal.PASS, NOW).weight == 25


def test_several_gates_at_one_place_are_asked_one_after_the_other_under_numbers_of_their_own() -> None:
    asked = advance(a_rollout(policy=gated(25, 25)), Signal.PASS, NOW)
    again = advance(advance(asked, Signal.GATE_OPEN, NOW), Signal.PASS, NOW)
    assert (at_gate(asked), at_gate(again)) == ((Phase.AWAITING_GATE, 10, 0), (Phase.AWAITING_GATE, 10, 1))
    assert (asked.gate_question, again.gate_question) == (AskedGate(0, 1), AskedGate(1, 2))
    assert advance(advance(again, Signal.GATE_OPEN, NOW), Signal.PASS, NOW).weight == 25


def test_a_gate_before_the_first_weight_and_one_before_the_start_are_both_asked() -> None:
    asked = advance(waiting(10, "start"), Signal.AVAILABLE, NOW)
    again = advance(advance(asked, Signal.GATE_OPEN, NOW), Signal.AVAILABLE, NOW)
    assert (at_gate(asked)[2], at_gate(again)[2]) == (0, 1)


def test_the_gate_is_asked_after_the_person() -> None:
    stages = [{"weight": 50, "minimum": "60s", "deadline": "10m", "approval": "required"}, {"weight": 100}]
    policy = a_policy(stages=stages, hooks=[{"before": 100, "gate": SMOKE}])
    passed = advance(a_rollout(policy=policy, weight=50), Signal.PASS, NOW)
    assert passed.phase is Phase.AWAITING_APPROVAL
    assert advance(passed, Signal.APPROVE, NOW, Detail(stage=0)).phase is Phase.AWAITING_GATE


def test_a_deadline_does_not_go_round_a_gate_nor_does_late_evidence() -> None:
    rollout = a_rollout(policy=gated(25))
    assert advance(rollout, Signal.LET_PASS, NOW).phase is Phase.AWAITING_GATE
    stuck = advance(rollout, Signal.STUCK, NOW)
    assert advance(stuck, Signal.PASS, NOW).phase is Phase.AWAITING_GATE


def test_an_open_gate_stays_open_over_a_hold_and_is_asked_again_after_a_step_back() -> None:
    rollout = a_rollout(policy=gated(100), stage=2, weight=50, opened_gates=(0,))
    resumed = advance(advance(rollout, Signal.HOLD, NOW), Signal.RESUME, NOW)
    full = advance(resumed, Signal.PASS, NOW)
    assert full.weight == 100
    back = advance(full, Signal.ALARM, NOW)
    assert (back.weight, advance(back, Signal.PASS, NOW).phase) == (50, Phase.AWAITING_GATE)


def test_promoting_goes_past_the_gates_between_and_asks_the_one_before_the_promotion() -> None:
    asked = advance(a_rollout(policy=gated(25, 100, "promotion")), Signal.PASS, NOW)
    full = advance(asked, Signal.PROMOTE, NOW)
    assert (full.phase, full.weight) == (Phase.PROGRESSING, 100)
    assert at_gate(advance(full, Signal.PASS, NOW)) == (Phase.AWAITING_GATE, 100, 2)


# ---------------------------------------------------------------- while it is asked


def test_a_gate_is_waited_for_as_a_person_is() -> None:
    for signal in Signal:
        if (Phase.AWAITING_APPROVAL, signal) in TRANSITIONS:
            assert TRANSITIONS[Phase.AWAITING_GATE, signal] is TRANSITIONS[Phase.AWAITING_APPROVAL, signal]


def test_the_stage_s_clock_stands_still_while_a_gate_is_asked() -> None:
    asked = advance(a_rollout(policy=gated(25)), Signal.PASS, NOW + 100)
    assert asked.stage_clock(NOW + 5000) == 100
    opened = advance(asked, Signal.GATE_OPEN, NOW + 5000)
    assert opened.stage_clock(NOW + 5010) == 110


def test_a_stable_version_that_changes_before_the_start_ends_no_gate() -> None:
    asked = advance(waiting("start"), Signal.AVAILABLE, NOW)
    assert (
        advance(
            asked, Signal.STABLE_CHANGED, NOW, Detail(services=(a_service(stable_template="other"),))
        ).phase
        is Phase.AWAITING_GATE
    )
    later = advance(a_rollout(policy=gated(25)), Signal.PASS, NOW)
    assert (
        advance(
            later, Signal.STABLE_CHANGED, NOW, Detail(services=(a_service(stable_template="other"),))
        ).phase
        is Phase.PROGRESSING
    )


def test_a_hold_for_a_closed_gate_is_told_and_ends_when_the_gate_opens() -> None:
    held = advance(
        advance(a_rollout(policy=gated(25)), Signal.PASS, NOW), Signal.GATE_STUCK, NOW, Detail("closed")
    )
    assert (held.phase, held.held, held.announcements[-1].event) == (Phase.HELD, Held.GATE, "held")
    opened = advance(held, Signal.GATE_OPEN, NOW)
    assert (opened.phase, opened.held, opened.announcements[-1].event) == (Phase.PROGRESSING, None, "resumed")


@pytest.mark.parametrize("held", [one for one in Held if one is not Held.GATE])
def test_an_open_gate_ends_no_other_hold(held: Held) -> None:
    rollout = a_rollout(policy=gated(25), phase=Phase.HELD, held=held, gate_question=AskedGate(0, 1, NOW))
    assert advance(rollout, Signal.GATE_OPEN, NOW) == rollout


def test_resuming_a_hold_for_a_closed_gate_asks_anew() -> None:
    held = advance(advance(a_rollout(policy=gated(25)), Signal.PASS, NOW), Signal.GATE_STUCK, NOW)
    asked = advance(advance(held, Signal.RESUME, NOW), Signal.PASS, NOW)
    assert asked.gate_question == AskedGate(0, 2)
    before = advance(advance(waiting("start"), Signal.AVAILABLE, NOW), Signal.GATE_STUCK, NOW)
    assert advance(advance(before, Signal.RESUME, NOW), Signal.AVAILABLE, NOW).gate_question == AskedGate(
        0, 2
    )


def test_a_gate_that_rolls_back_at_its_deadline_does() -> None:
    asked = advance(a_rollout(policy=gated(25, closed="rollback")), Signal.PASS, NOW)
    assert (advance(asked, Signal.GATE_LOST, NOW).phase, advance(asked, Signal.GATE_LOST, NOW).weight) == (
        Phase.ROLLING_BACK,
        0,
    )


# ---------------------------------------------------------------- the question


def asked_at(now: float = NOW, **changes: Any) -> Rollout:
    return gates.begun(advance(a_rollout(policy=gated(25), **changes), Signal.PASS, NOW), now)


def test_a_question_is_the_same_each_time_and_another_one_after_a_pause() -> None:
    first = gates.question(asked_at())
    heard = gates.question(gates.with_reply(asked_at(), GateReply(False, "HTTP 503", NOW + 5)))
    assert first
    assert heard
    assert first.id == heard.id
    put_off = gates.put_off(asked_at())
    assert gates.question(put_off) is None
    assert gates.put_off(put_off) == put_off
    again = gates.question(gates.begun(put_off, NOW + 60))
    assert again
    assert again.id != first.id
    assert (first.weight, first.next_weight, first.since, again.since) == (10, 25, NOW, NOW + 60)


def test_nothing_is_asked_before_the_question_is_on_record_or_after_the_wait_is_over() -> None:
    assert gates.question(advance(a_rollout(policy=gated(25)), Signal.PASS, NOW)) is None
    over = advance(asked_at(), Signal.HARM, NOW)
    assert gates.question(over) is None


def test_a_gate_is_late_at_its_deadline_and_no_more_once_it_is_held_for_that() -> None:
    assert not gates.is_late(asked_at(), NOW + 899)
    assert gates.is_late(asked_at(), NOW + 900)
    assert not gates.is_late(advance(asked_at(), Signal.GATE_STUCK, NOW + 900), NOW + 5000)


def test_only_the_question_that_a_person_saw_is_opened_by_a_person() -> None:
    assert gates.opened_by(DesiredActions(opened_gate=1), asked_at()) == SMOKE
    assert (
        gates.opened_by(
            DesiredActions(opened_gate=1), replace(asked_at(), gate_question=AskedGate(0, 2, NOW))
        )
        == ""
    )
    assert gates.opened_by(DesiredActions(), asked_at()) == ""
