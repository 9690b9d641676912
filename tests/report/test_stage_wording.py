"""What people read of stages that are no weight: in status, explain, plan and events, and that a weight reads
as ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollout_object import record_of, spec_of, status_of
from canaryd.adapters.kube.events import event_of
from canaryd.adapters.notify.webhook import payload
from canaryd.commands.plan import text as plan_text
from canaryd.commands.plan.forecast import plan_of, rehearsals
from canaryd.commands.plan.policy_warnings import notes
from canaryd.domain.announcements import announced
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Decision, Held, Phase, Record, Rollout, Span
from canaryd.report.explanation import explain, text
from canaryd.report.phase_summary import describe
from canaryd.simulation.simulated_rollout import ASSUMED_MATCHING, End, served
from canaryd.simulation.traffic_profile import Given, as_given
from tests.builders import NOW, a_policy, a_rollout, a_verdict

COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
TIMES = {"minimum": "60s", "deadline": "10m"}
DARK, MATCH, MIRROR, WEIGHT = range(4)


def a_ladder(**changes: Any) -> Policy:
    kinds: list[dict[str, Any]] = [
        {"weight": 0},
        {"match": COOKIE},
        {"mirror": "20%"},
        {"weight": 10},
        {"weight": 100},
    ]
    stages = [{**kind, **TIMES} for kind in kinds]
    return a_policy(**{"stages": stages, **changes})


def in_stage(stage: int, **changes: Any) -> Rollout:
    policy = a_ladder()
    weight = policy.stages[stage].weight
    return a_rollout(
        **{
            "policy": policy,
            "stage": stage,
            "weight": weight,
            "spans": (Span(stage, weight, int(NOW)),),
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("stage", "share", "where", "held"),
    [
        (DARK, "dark", "in stage 1/5 dark", "held dark (drift)"),
        (
            MATCH,
            "match",
            "in stage 2/5 for cookie ~ .*logged_in.*",
            "held for cookie ~ .*logged_in.* (drift)",
        ),
        (MIRROR, "20% mirrored", "in stage 3/5 with 20% mirrored", "held with 20% mirrored (drift)"),
        (WEIGHT, "10%", "in stage 4/5 at 10%", "held at 10% (drift)"),
    ],
)
def test_where_a_rollout_stands_is_said_by_who_gets_the_canary(
    stage: int, share: str, where: str, held: str
) -> None:
    rollout = in_stage(stage)
    assert (rollout.share, describe(rollout)) == (share, where)
    assert describe(replace(rollout, phase=Phase.HELD, held=Held.DRIFT)) == held
    assert replace(rollout, phase=Phase.ROLLING_BACK, weight=0).share == "0%"


def test_an_explanation_says_who_got_the_canary_in_each_stage() -> None:
    decisions = [
        Decision(NOW + stage, "passed", Phase.PROGRESSING, stage, 0, "so") for stage in (DARK, MATCH, MIRROR)
    ]
    ended = Decision(NOW + 9, "harm", Phase.ROLLING_BACK, MIRROR, 0, "harm")
    rollout = in_stage(MIRROR, decisions=(*decisions, ended), verdict=a_verdict(stage=MIRROR, weight=0))
    said = text(explain(rollout, NOW + 20))
    assert [
        row for row in ("1/5    dark", "2/5    match", "3/5    20% mirrored", "3/5    0%") if row not in said
    ] == []
    assert "compared in stage 3/5 with 20% mirrored" in said
    assert "Then 10%." in said
    held = text(explain(in_stage(MATCH, phase=Phase.HELD, held=Held.PERSON), NOW + 20))
    assert "Meanwhile v2 stays for cookie ~ .*logged_in.*" in " ".join(held.split())


def test_a_record_of_such_a_stage_is_read_back_equal_and_shows_its_share() -> None:
    rollout = in_stage(MATCH)
    obj = {
        "metadata": {"namespace": rollout.namespace, "name": rollout.name, "resourceVersion": "1", "uid": ""},
        "spec": spec_of(Record(rollout)),
        "status": status_of(rollout),
    }
    assert obj["status"]["shown"]["weight"] == "match"
    assert record_of(obj).rollout == rollout


def test_a_record_from_before_there_were_such_stages_is_still_read() -> None:
    rollout = a_rollout()
    status = status_of(rollout)
    for stage in status["policy"]["stages"]:
        assert "match" not in stage
    del status["policy"]["route"]["http"]
    status["policy"]["route"].pop("preview", None)
    obj = {
        "metadata": {"namespace": rollout.namespace, "name": rollout.name, "resourceVersion": "1"},
        "spec": {},
        "status": status,
    }
    assert record_of(obj).rollout == rollout


def test_news_name_the_share_beside_the_weight() -> None:
    about = {
        "apiVersion": "canaryd.dev/v1alpha1",
        "kind": "CanaryRollout",
        "name": "r",
        "namespace": "ns",
        "uid": "1",
    }
    for stage, share, note in (
        (MATCH, "match", "front-end v1 to v2, match: so"),
        (WEIGHT, "10%", "front-end v1 to v2, weight 10%: so"),
    ):
        news = announced(in_stage(stage), "advanced", NOW, "so").announcements[-1]
        assert (payload(news)["share"], payload(news)["weight"]) == (share, 0 if stage == MATCH else 10)
        assert event_of(news, about, None, "canaryd-0")["note"] == note
        old = replace(news, share="")
        assert payload(old)["share"] == f"{old.weight}%", "of a record that an earlier release wrote"


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (DARK, (0, None)),
        (MATCH, (ASSUMED_MATCHING, None)),
        (MIRROR, (20, 100)),
        (WEIGHT, (10, None)),
    ],
)
def test_what_a_stage_serves_is_rehearsed(stage: int, parts: tuple[float, float | None]) -> None:
    assert served(a_ladder().stages[stage]) == pytest.approx(parts)


def test_a_plan_goes_up_the_whole_ladder_and_says_what_it_assumes() -> None:
    policy = a_ladder(
        analysis={"interval": "10s", "warmup": "0s"}, route={"virtualService": "sockshop", "preview": COOKIE}
    )
    traffic = as_given(Given(rate=400.0, errors=0.01, median_ms=60.0, replicas=3))
    results = list(rehearsals(policy, traffic, (), 1, 1))
    plan = plan_of(policy, traffic, (), 1, results)
    assert plan.healthy.ends[End.PROMOTED].events == 1
    head, healthy, *_ = plan_text.parts(plan)
    assert head.title == "front-end in production: dark, cookie ~ .*logged_in.*, 20% mirrored, 10%, 100%"
    assert [row[1:3] for row in healthy.rows[1:]] == [
        ("dark", "0/s"),
        ("match", "40/s"),
        ("20% mirrored", "80/s"),
        ("10%", "40/s"),
        ("100%", "400/s"),
    ]
    assert (
        "Of the requests 10% are taken to match, where a stage has a match, and to be as all others."
        in notes(plan)
    )
    assert "Nobody is taken to ask for previews." in notes(plan)
