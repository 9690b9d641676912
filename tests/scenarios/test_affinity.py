"""Users with cookies and a daemon that runs: nobody goes back, everyone does at a rollback, and hands in
between leave nothing."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest

from canaryd_sandbox.mesh.users import Users
from tests.scenarios.testbed import Stand, a_policy, a_stand, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-stages"), pytest.mark.timeout(480)]
ROUTE = {"virtualService": "sockshop", "affinity": {"users": 400}}
NAMES = ["carts", "canaryd-front-end-canary-users", "canaryd-front-end-stable-users", ""]
ASKS = {"minimum": "3s", "deadline": "60s", "approval": "required"}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    policy = a_policy(({"weight": 20, **ASKS}, {"weight": 60, **ASKS}, 100), route=ROUTE)
    with a_stand(tmp_path_factory.mktemp("affinity"), policy, rate=300.0) as stand:
        stand.decorate()
        yield stand.begin()


def http(stand: Stand) -> list[dict[str, object]]:
    return list(stand.world.virtualservice()["spec"]["http"])


def on(stand: Stand, subset: str) -> float:
    """The share of the users whose last answer was from this subset."""
    last = [one[-1] for one in stand.world.mesh.users.seen if one] if stand.world.mesh.users else []
    return last.count(subset) / max(1, len(last))


def test_users_go_to_the_new_version_once_each_and_the_route_ends_as_a_person_would_have_written_it(
    stand: Stand,
) -> None:
    users = stand.world.mesh.users = Users(400)
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v2")
    stand.until("v2", "a fifth of the users, and passed", phase="AwaitingApproval", stage=0)
    assert [one.get("name", "") for one in http(stand)] == NAMES
    eventually("a fifth of them", lambda: 0.12 < on(stand, "v2") < 0.28)
    assert "20% of users" in stand.canaryd.cli("status", "front-end")
    first = {user for user, seen in enumerate(users.seen) if seen[-1:] == ["v2"]}
    stand.canaryd.cli("approve", "front-end")
    stand.until("v2", "three fifths, and passed", phase="AwaitingApproval", stage=1)
    eventually("three fifths of them", lambda: 0.5 < on(stand, "v2") < 0.7)
    assert all(users.seen[user][-1] == "v2" for user in first), "who saw it stays"
    said = " ".join(stand.canaryd.cli("explain", "front-end").split())
    assert "users were drawn, and not requests" in said
    stand.canaryd.cli("approve", "front-end")
    stand.until("v2", "promoted", phase="Succeeded")
    assert {tuple(seen) for seen in users.seen} <= {(), ("v1",), ("v2",), ("v1", "v2")}
    after = deepcopy(before)
    after["http"][1]["route"][0]["destination"]["subset"] = "v2"
    assert stand.world.virtualservice()["spec"] == after


def test_an_edit_under_way_is_drift_and_a_rollback_leaves_neither_routes_nor_cookies(stand: Stand) -> None:
    users = stand.world.mesh.users = Users(400)
    before = deepcopy(stand.world.virtualservice()["spec"])
    stand.deploy("v3")
    stand.until("v3", "a fifth of the users, and passed", phase="AwaitingApproval", stage=0)

    # Renamed, and not taken out: without it all would be drawn anew until it is back, and how many that moves
    # is a matter of seconds.
    stand.edit(lambda http: [one | ({"name": "stay"} if one.get("name") == NAMES[2] else {}) for one in http])
    status = stand.until("v3", "held", phase="Held", held="drift")
    # since "stay" is between
    assert f"{NAMES[1]}, which canaryd added, stands no longer just before the route" in status["reason"]
    stand.canaryd.cli("resume", "front-end")
    eventually("canaryd steers again", lambda: {*NAMES} <= {one.get("name", "") for one in http(stand)})
    stand.until("v3", "on again", phase="AwaitingApproval")
    # Before the next edit, which has all drawn anew until it is taken back.
    assert all(len(seen) <= 2 for seen in users.seen), "and each went there once"

    stand.edit(
        lambda http: [*(one for one in http[:-1] if one.get("name") != "stay"), {"name": "all", **http[-1]}]
    )
    stand.until("v3", "held", phase="Held", held="drift")
    stand.canaryd.cli("abort", "front-end")
    stand.until("v3", "rolled back", phase="RolledBack")
    eventually("they are back", lambda: on(stand, "v3") < 0.02)  # some ask once in a minute
    left = deepcopy(before)
    left["http"][1] = {
        "name": "all",
        **left["http"][1],
        "route": [{**left["http"][1]["route"][0], "weight": 100}],
    }
    assert stand.world.virtualservice()["spec"] == left
