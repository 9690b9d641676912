"""People at the command line, at the VirtualService and at the policy files, with a daemon that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from canaryd_sandbox.world import HOST
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-people"), pytest.mark.timeout(480)]
STAGES = ({"weight": 20, "minimum": "3s", "deadline": "6s", "approval": "required"}, 100)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(tmp_path_factory.mktemp("people"), a_policy(STAGES)) as stand:
        stand.decorate()
        yield stand.begin()


def test_hold_resume_approve_and_nothing_but_the_steered_route_is_touched(stand: Stand) -> None:
    before = stand.others()
    stand.deploy("v2")
    stand.until("v2", "the first stage", weight=20)
    stand.canaryd.cli("hold", "front-end")
    stand.until("v2", "held", phase="Held", held="person")
    stand.until_looked("v2", 5)
    assert stand.status("v2")["phase"] == "Held"
    stand.canaryd.cli("resume", "front-end")
    stand.until("v2", "asked", phase="AwaitingApproval", weight=20)
    assert stand.others() == before
    stand.canaryd.cli("approve", "front-end")
    stand.until("v2", "promoted", phase="Succeeded")
    assert stand.default_route() == all_to("v2")
    assert stand.others() == before


def test_its_own_metrics_tell_weights_phases_verdicts_odds_and_how_long_looks_take(stand: Stand) -> None:
    stand.deploy("v3")
    stand.until("v3", "the first stage", weight=20)
    stand.until_looked("v3", 2)
    labels = {"service": "front-end", "namespace": "production", "version": "v3"}
    eventually("its weight", lambda: stand.metric("canaryd_rollout_weight_percent", **labels) == 20)
    status, page = stand.page("/metrics")
    assert status == 200
    series = (
        "rollout_phase",
        "rollout_verdict",
        "rollout_odds",
        "rollout_odds_bar",
        "look_duration_seconds_count",
        "beats_total",
        "policies",
    )
    assert [name for name in series if f"\ncanaryd_{name}" not in page] == []
    assert stand.metric("canaryd_rollout_phase", **labels) == 1
    assert stand.metric("canaryd_rollout_odds", **labels) > 0
    assert stand.metric("canaryd_rollout_odds_bar", **labels) == 100
    assert stand.metric("canaryd_look_duration_seconds_count") > 0
    assert stand.metric("canaryd_announcements_delivered_total", notifier="kubernetes") > 0


def test_abort_takes_it_back_and_retry_tries_it_again(stand: Stand) -> None:
    stand.canaryd.cli("abort", "front-end")
    status = stand.until("v3", "rolled back", phase="RolledBack")
    assert status["reason"] == "aborted by sandbox"
    assert stand.default_route() == all_to("v2")
    eventually("its metrics end with it", lambda: stand.metric("canaryd_rollout_phase", version="v3") == 0)
    assert stand.metric("canaryd_rollouts_ended_total", phase="RolledBack") == 1
    stand.canaryd.cli("retry", "front-end")
    again = stand.until("v3", "the second attempt", attempt=2, weight=20)
    assert again["name"] == f"{status['name']}-2"


def test_promote_skips_the_ladder_and_start_begins_what_is_known(stand: Stand) -> None:
    stand.canaryd.cli("promote", "front-end")
    stand.until("v3", "promoted", attempt=2, phase="Succeeded")
    assert stand.default_route() == all_to("v3")
    stand.canaryd.cli("start", "front-end", "v1")
    stand.until("v1", "begun by hand", weight=20)
    stand.canaryd.cli("abort", "front-end", "--wait")
    assert stand.status("v1")["phase"] == "RolledBack"
    refused = stand.canaryd.run("hold", "front-end")
    assert refused.returncode == 1
    assert "has ended" in refused.stderr


def test_a_pause_stops_beginnings_and_its_end_lets_them_begin(stand: Stand) -> None:
    stand.canaryd.cli("pause", "front-end")
    stand.deploy("v4")
    beats = stand.metric("canaryd_beats_total")
    eventually("some beats", lambda: stand.metric("canaryd_beats_total") >= beats + 4)
    assert not stand.status("v4")
    assert stand.canaryd.status()["services"][0]["paused"] is True
    stand.canaryd.cli("pause", "front-end", "--end")
    stand.until("v4", "the first stage", weight=20)


def test_a_hand_edit_holds_is_left_alone_and_resume_goes_on_from_it(stand: Stand) -> None:
    before = stand.others()

    def edited(http: list[dict[str, object]]) -> list[dict[str, object]]:
        split = [
            {"destination": {"host": HOST, "subset": subset}, "weight": weight}
            for subset, weight in (("v3", 60), ("v4", 40))
        ]
        return [one if one.get("name") == "carts" else {**one, "route": split} for one in http]

    stand.edit(edited)
    status = stand.until("v4", "held", phase="Held", held="drift")
    assert "v3 60%, v4 40%" in status["reason"]
    stand.until_looked("v4", 3)
    assert stand.weight("v4") == 40
    stand.canaryd.cli("resume", "front-end")
    stand.until("v4", "asked", phase="AwaitingApproval", weight=20)
    assert stand.weight("v4") == 20
    stand.canaryd.cli("approve", "front-end")
    stand.until("v4", "promoted", phase="Succeeded")
    assert stand.default_route() == all_to("v4")
    assert stand.others() == before


def test_a_broken_edit_of_a_policy_keeps_the_last_good_one_and_says_so(stand: Stand) -> None:
    broken = {**a_policy(STAGES), "stages": [{"weight": 20}, {"weight": 10}]}
    stand.canaryd.policy("front-end", json.dumps(broken, indent=1))
    eventually("readiness tells", lambda: "stages[1].weight must be above" in stand.page("/readyz")[1])
    assert stand.page("/readyz")[0] == 503
    assert "front-end.yaml:" in stand.canaryd.logged("policy.refused")[-1]["problem"]
    assert stand.canaryd.logged("policy.kept")
    stand.deploy("v5", errors=0.6)
    stand.until("v5", "begun by the last good one, and rolled back", phase="RolledBack")
    assert [stage["weight"] for stage in stand.status("v5")["policy"]["stages"]] == [20, 100]
    stand.canaryd.policy("front-end", a_policy((30, 100)))
    eventually("mended", lambda: stand.page("/readyz") == (200, "ready\n"))
    stand.deploy("v6")
    stand.until("v6", "by the new policy", weight=30)
