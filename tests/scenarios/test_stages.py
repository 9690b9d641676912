"""The whole ladder with a daemon that runs: dark with a preview, logged-in users, copies, weights; and harm
that only some users meet."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest

from canaryd_sandbox.mesh.routing import Audience
from canaryd_sandbox.world import HOST
from tests.scenarios.testbed import Stand, a_policy, a_stand, share_of

pytestmark = [pytest.mark.xdist_group("scenarios-stages"), pytest.mark.timeout(480)]
TIMES = {"minimum": "4s", "deadline": "60s"}
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
STAGES = (
    {"weight": 0, "approval": "required", **TIMES},
    {"match": COOKIE, "approval": "required", **TIMES},
    {"mirror": "20%", "approval": "required", "minimum": "4s", "deadline": "6s"},
    10,
    50,
    100,
)
ROUTE = {"virtualService": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}
USERS = (
    Audience(0.7),
    Audience(0.28, {"cookie": "a=1; logged_in=abc"}),
    Audience(0.02, {"x-canary": "always"}),
)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(tmp_path_factory.mktemp("stages"), a_policy(STAGES, route=ROUTE), rate=200.0) as stand:
        stand.world.mesh.audiences = USERS
        stand.decorate()
        yield stand.begin()


def names(stand: Stand) -> list[str]:
    return [one.get("name", "") for one in stand.world.virtualservice()["spec"]["http"]]


def test_the_whole_ladder_ends_with_what_a_person_would_have_written(stand: Stand) -> None:
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v2")
    stand.until("v2", "dark, and passed", phase="AwaitingApproval", stage=0)
    assert names(stand) == ["carts", "canaryd-front-end-preview", ""]
    assert share_of(stand, "v2") == pytest.approx(0.02, abs=0.015), "previews alone"
    assert "dark, with " in stand.status("v2")["verdict"]["reason"]
    stand.canaryd.cli("approve", "front-end")

    stand.until("v2", "logged-in users, and passed", phase="AwaitingApproval", stage=1)
    assert names(stand) == ["carts", "canaryd-front-end-preview", "canaryd-front-end-match", ""]
    matched = stand.world.virtualservice()["spec"]["http"][2]
    assert matched == {
        "name": "canaryd-front-end-match",
        "match": [COOKIE],
        "timeout": "7s",
        "retries": {"attempts": 2, "retryOn": "5xx"},
        "route": [{"destination": {"host": HOST, "subset": "v2"}}],
    }
    assert share_of(stand, "v2") == pytest.approx(0.30, abs=0.05)
    assert "matched users are compared with all others" in stand.status("v2")["verdict"]["reason"]
    assert "match" in stand.canaryd.cli("status", "front-end")
    stand.canaryd.cli("approve", "front-end")

    stand.until("v2", "copies, and passed", phase="AwaitingApproval", stage=2)
    assert names(stand) == ["carts", "canaryd-front-end-preview", "canaryd-front-end-mirror", ""]
    copied = stand.world.mesh.copied
    assert share_of(stand, "v2") == pytest.approx(0.2 / 1.2, abs=0.05)
    assert stand.world.mesh.copied > copied
    assert stand.status("v2")["shown"]["weight"] == "20% mirrored"
    stand.canaryd.cli("approve", "front-end")

    stand.until("v2", "promoted", phase="Succeeded")
    after = deepcopy(before)
    after["http"][1]["route"] = [{"destination": {"host": HOST, "subset": "v2"}}]
    assert stand.world.virtualservice()["spec"] == after
    said = stand.canaryd.cli("explain", "front-end")
    assert "dark" in said
    assert "20% mirrored" in said


def test_harm_that_only_matched_users_meet_rolls_back(stand: Stand) -> None:
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v3", errors=0.3)
    stand.until("v3", "dark, and passed", phase="AwaitingApproval", stage=0)
    stand.canaryd.cli("approve", "front-end")
    status = stand.until("v3", "rolled back", phase="RolledBack")
    assert status["stage"] == 1, "already by logged-in users"
    assert "matched users are compared with all others" in status["reason"]
    assert stand.world.virtualservice()["spec"] == before
