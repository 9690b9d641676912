"""Matched users split between both versions, with a daemon that runs: they fail more often than others,
whichever version serves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from canaryd_sandbox.kubernetes.resources import DESTINATIONRULES, HTTPROUTES, SERVICES
from canaryd_sandbox.mesh import httproute
from canaryd_sandbox.mesh.routing import Audience
from tests.scenarios.testbed import Stand, a_policy, a_stand, eventually, share_of

pytestmark = [pytest.mark.xdist_group("scenarios-stages"), pytest.mark.timeout(480)]
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
# The second stage lasts until it has been explained, which takes seconds on a busy machine.
LASTING = {"weight": 20, "minimum": "20s", "deadline": "20s"}
STAGES = ({"match": COOKIE, "split": "half", "minimum": "4s", "deadline": "60s"}, LASTING, 100)
USERS = (
    Audience(0.7),
    Audience(0.3, {"cookie": "a=1; logged_in=abc"}, harder=20.0),
)  # 10% of these fail, of others 0.5%
OWN = "front-end-canaryd-match"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(
        tmp_path_factory.mktemp("split"), a_policy(STAGES, analysis={"reporter": "source"}), rate=300.0
    ) as stand:
        stand.world.mesh.audiences = USERS
        stand.world.set_behaviour("v1", errors=0.005)
        yield stand.begin()


def names(stand: Stand, resource: Any) -> set[str]:
    return {one["metadata"]["name"] for one in stand.world.store.list(resource, "production")}


def test_users_who_always_fare_worse_are_no_harm_where_half_of_them_stay_on_stable(stand: Stand) -> None:
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v2", errors=0.005)
    stand.until(
        "v2",
        "its Service is given time",
        phase="Waiting",
        reason=f"waiting: the Service {OWN} was made for its matched users "
        "just now, and is routed to after 1 s, when proxies know it",
    )
    stand.until("v2", "half of the logged-in users", stage=0, phase="Progressing")
    eventually(
        "the route is split",
        lambda: len(stand.world.virtualservice()["spec"]["http"]) == len(before["http"]) + 1,
    )
    assert {one["metadata"]["name"] for one in stand.world.store.list(DESTINATIONRULES, "production")} == {
        "front-end",
        OWN,
    }
    assert share_of(stand, "v2") == pytest.approx(0.15, abs=0.04)
    status = stand.until("v2", "the first weight", stage=1)
    said = stand.canaryd.cli("explain", "front-end", seconds=120)
    assert "half of cookie ~ .*logged_in.*" in said
    assert "matched users are compared with all others" not in said
    passed = next(decision for decision in reversed(status["decisions"]) if decision.get("verdict"))
    assert passed["signal"] == "passed"
    (errors,) = [finding for finding in passed["verdict"]["findings"] if finding["metric"] == "errors"]
    assert errors["stableEvents"] / errors["stableRequests"] == pytest.approx(0.1, abs=0.07), (
        "stable's matched users alone"
    )
    assert errors["stableRequests"] == pytest.approx(errors["canaryRequests"], rel=0.3)
    assert status["weight"] == 20
    stand.until("v2", "promoted", phase="Succeeded")
    eventually("nothing is left", lambda: OWN not in names(stand, SERVICES) | names(stand, DESTINATIONRULES))
    after = deepcopy(before)
    after["http"][-1]["route"][0]["destination"]["subset"] = "v2"
    assert stand.world.virtualservice()["spec"] == after
    assert stand.world.mesh.unserved == 0


def test_its_verdicts_are_had_again_from_telemetry_and_from_a_recording(stand: Stand, tmp_path: Path) -> None:
    name, config = stand.status("v2")["name"], str(stand.canaryd.config)
    stand.canaryd.cli(
        "record", str(tmp_path / "v2.jsonl"), "--rollout", name, "--config", config, seconds=120
    )
    for source in (("--config", config), ("--recorded", str(tmp_path / "v2.jsonl"))):
        told = json.loads(stand.canaryd.cli("explain", name, *source, "--brief", "-o", "json", seconds=120))
        assert told["recomputed"]["same"], [
            decision["differences"] for decision in told["recomputed"]["decisions"]
        ]


def test_harm_to_matched_users_is_found_against_the_other_half(stand: Stand) -> None:
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v3", errors=0.02)  # 40% of the matched fail
    status = stand.until("v3", "rolled back", phase="RolledBack")
    assert status["stage"] == 0
    assert "errors" in status["reason"]
    assert stand.world.virtualservice()["spec"] == before


def test_the_same_by_the_gateway_api(tmp_path_factory: pytest.TempPathFactory) -> None:
    stages = (
        {
            "match": {
                "headers": {"cookie": {"exact": "a=1; logged_in=abc"}},
                "queryParams": {"beta": {"prefix": "y"}},
            },
            "approval": "required",
            "minimum": "3s",
            "deadline": "60s",
        },
        *STAGES,
    )
    route = {"httpRoute": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}
    policy = a_policy(stages, route=route, analysis={"reporter": "source"})
    with a_stand(tmp_path_factory.mktemp("split-httproute"), policy, rate=300.0) as stand:
        httproute.take_over(stand.world.store, "front-end", "production")
        users = (
            Audience(0.6),
            Audience(0.28, USERS[1].headers),
            Audience(0.1, USERS[1].headers, {"beta": "yes"}),
            Audience(0.02, {"x-canary": "always"}),
        )
        stand.world.mesh.audiences = users
        stand.begin()

        def spec() -> dict[str, Any]:
            return deepcopy(stand.world.store.get(HTTPROUTES, "production", "sockshop")["spec"])

        before = spec()
        stand.deploy("v2")
        stand.until("v2", "those with both, and passed", phase="AwaitingApproval", stage=0)
        assert [rule.get("name", "") for rule in spec()["rules"]] == [
            "canaryd-front-end-preview",
            "canaryd-front-end-match",
            "",
        ]
        assert share_of(stand, "v2") == pytest.approx(0.12, abs=0.04)
        stand.canaryd.cli("approve", "front-end")
        stand.until("v2", "half of the logged-in users", stage=1)
        eventually("the rule is split", lambda: len(spec()["rules"][1]["backendRefs"]) == 2)
        assert share_of(stand, "v2") == pytest.approx(0.21, abs=0.05)
        stand.until("v2", "promoted", phase="Succeeded")
        by_hand = deepcopy(before)
        by_hand["rules"][0]["backendRefs"][0]["name"] = "front-end-v2"
        assert spec() == by_hand
        eventually(
            "nothing is left", lambda: names(stand, SERVICES) == {"front-end", "front-end-v1", "front-end-v2"}
        )
        assert stand.world.mesh.unserved == 0
