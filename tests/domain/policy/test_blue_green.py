"""`strategy: blue-green`: what people may write, and what it makes of an alarm."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from canaryd.adapters.policies.policy_files import json_schema
from canaryd.domain.lifecycle import Signal, advance
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.rollout import Phase, Rollout, Span
from tests.builders import NOW, a_policy, a_rollout


def written(**changes: Any) -> dict[str, Any]:
    return {
        "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
        "route": {"virtualService": "sockshop"},
        "strategy": "blue-green",
        **changes,
    }


def weights(policy: Policy) -> list[tuple[int, float]]:
    return [(stage.weight, stage.minimum) for stage in policy.stages]


def test_without_stages_it_is_dark_and_then_all_users_are_switched_and_watched_for_a_while() -> None:
    policy = Policy.load(written())
    assert weights(policy) == [(0, 120), (100, 600)]
    assert Policy.load(policy.dump()) == policy
    assert weights(Policy.load(written(mode="observe"))) == [(100, 600)]


def test_its_stages_may_be_written_and_their_weights_are_0_and_100() -> None:
    stages = [
        {"weight": 0, "minimum": "5m"},
        {"mirror": "20%"},
        {"weight": 100, "minimum": "1h", "deadline": "2h"},
    ]
    assert weights(Policy.load(written(stages=stages))) == [(0, 300), (0, 120), (100, 3600)]
    assert weights(Policy.load(written(stages=[{"weight": 100}]))) == [(100, 120)]
    with pytest.raises(InvalidPolicy) as refused:
        Policy.load(written(stages=[{"weight": 10}, {"weight": 100}]))
    assert (
        str(refused.value)
        == "stages[0].weight must be 0 or 100 with strategy: blue-green, which switches all users at once, "
        "but is 10"
    )


def test_without_it_stages_are_still_wanted_and_another_strategy_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="stages is missing"):
        Policy.load({**written(), "strategy": "canary"})
    with pytest.raises(InvalidPolicy, match="strategy must be 'canary' or 'blue-green', but is 'rolling'"):
        Policy.load(written(strategy="rolling"))


def test_editors_know_that_stages_may_be_left_out_then_alone() -> None:
    schema = Draft202012Validator(json_schema())
    assert schema.is_valid(written())
    assert schema.is_valid(written(strategy="canary", stages=[{"weight": 100}]))
    assert not schema.is_valid({**written(), "strategy": "canary"})
    assert not schema.is_valid({key: value for key, value in written().items() if key != "strategy"})


def switched() -> Rollout:
    policy = a_policy(strategy="blue-green", stages=[{"weight": 0}, {"weight": 100}])
    return a_rollout(policy=policy, stage=1, weight=100, spans=(Span(1, 100, int(NOW)),))


def test_an_alarm_after_the_switch_sends_all_back_in_one_step() -> None:
    back = advance(switched(), Signal.ALARM, NOW)
    assert (back.phase, back.weight, back.step_backs) == (Phase.ROLLING_BACK, 0, 0)


@pytest.mark.parametrize(
    ("ladder", "stage", "to"),
    [((0, 100), 1, None), ((100,), 0, None), ((50, 100), 1, 0), ((0, 50, 100), 2, 1)],
)
def test_an_alarm_leads_back_to_where_both_versions_have_users(
    ladder: tuple[int, ...], stage: int, to: int | None
) -> None:
    assert a_policy(stages=[{"weight": weight} for weight in ladder]).leads_back_to(stage) == to
