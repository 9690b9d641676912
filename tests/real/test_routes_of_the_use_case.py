"""Every route of the use case on real parts, with real requests: a preview, logged-in users, Chrome users,
copies, weights.

istiod translates what canaryd adds, Envoy follows it, and the answers say which version served them. A person
approves each step, so that there is time to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest

from tests.real.daemon import Canaryd
from tests.real.test_releases import BY_ERRORS, HEALTHY, RATE, ends_as, explained, phase_of, start
from tests.real.world import World, eventually

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
WHO: dict[str, dict[str, str]] = {
    "nobody in particular": {},
    "logged in": {"cookie": "theme=dark; logged_in=1"},
    "Chrome": {"user_agent": CHROME},
    "preview": {"x_canary": "always"},
    "by a prefix": {"x_team": "shop-berlin"},
}
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
USER_AGENT = {"headers": {"user-agent": {"regex": ".*Chrome.*"}}}
EITHER = [
    {"headers": {"x-team": {"prefix": "shop"}}},
    {"headers": {"user-agent": {"regex": ".*Chrome.*"}, "x-canary": {"exact": "never"}}},
]
WAITS = {"approval": "required", "minimum": "4s", "deadline": "120s"}
STAGES = [
    {"weight": 0, **WAITS},
    {"match": COOKIE, **WAITS},
    {"match": USER_AGENT, **WAITS},
    {"match": EITHER, **WAITS},
    {"mirror": "50%", **WAITS, "deadline": "12s"},
    {"weight": 50, "minimum": "4s", "deadline": "12s"},
    {"weight": 100, "minimum": "4s", "deadline": "12s"},
]
ROUTE = {"virtualService": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}


@pytest.fixture
def rich(world: World) -> World:
    """A VirtualService as people have them: with a time limit and retries beside the destination."""
    world.kubectl(
        "patch",
        "virtualservice",
        "sockshop",
        "--type=json",
        "-p",
        '[{"op": "add", "path": "/spec/http/0/timeout", "value": "20s"},'
        ' {"op": "add", "path": "/spec/http/0/retries", "value": {"attempts": 0}}]',
    )
    world.behaviour("v1", **HEALTHY)
    world.behaviour("v2", **HEALTHY)
    return world


def spec(world: World) -> dict[str, Any]:
    return dict(world.get("virtualservice", "sockshop")["spec"])


def to_v2(world: World) -> set[str]:
    """Whose requests v2 answers, each asked five times; who is answered by both is named twice."""
    found = set()
    for who, headers in WHO.items():
        versions = {world.version_for(**headers) for _ in range(5)}
        found |= {who} if versions == {"v2"} else {f"{who}, at times"} if "v2" in versions else set()
    return found


@contextmanager
def a_rollout(world: World, canaryd: Callable[..., Canaryd], **changes: Any) -> Iterator[Canaryd]:
    """Of v2, with users of whom a part is logged in with Chrome, on a team, and all by the ingress."""
    daemon = start(world, canaryd, **{"stages": STAGES, "route": ROUTE, "analysis": BY_ERRORS, **changes})
    some = f"cookie: logged_in=1\r\nuser-agent: {CHROME}\r\nx-team: shop"
    with world.load(RATE, header=some, share=0.3):
        world.deploy("v2")
        yield daemon


def waits_in(world: World, daemon: Canaryd, stage: int) -> None:
    """Until the stage has passed, and a person is asked."""

    def probe() -> bool:
        status = world.get("canaryrollouts")["items"][-1].get("status", {})
        return (status.get("stage"), status.get("phase")) == (stage, "AwaitingApproval")

    try:
        eventually(f"stage {stage + 1} has passed", probe, 180, every=0.3)
    except AssertionError as late:
        late.add_note(explained(daemon, "v2"))
        raise


def approve(daemon: Canaryd) -> None:
    daemon.cli("approve", "front-end", "--namespace", "production")


def test_each_route_of_the_use_case_sends_whom_it_should_and_leaves_nothing_behind(
    rich: World, canaryd: Callable[..., Canaryd]
) -> None:
    world, before = rich, spec(rich)
    with a_rollout(world, canaryd) as daemon:
        waits_in(world, daemon, 0)
        assert to_v2(world) == {"preview"}, "dark"
        assert spec(world)["http"][-1] == before["http"][-1], "what a person wrote stands as it is"
        for stage, those in ((1, {"logged in"}), (2, {"Chrome"}), (3, {"by a prefix"})):
            approve(daemon)
            waits_in(world, daemon, stage)
            assert to_v2(world) == {"preview", *those}
            added = spec(world)["http"][1]
            assert (added["name"], added["timeout"]) == ("canaryd-front-end-match", "20s")
        approve(daemon)
        eventually("copies come", lambda: spec(world)["http"][1].get("mirror"))
        eventually("users get v1's answers", lambda: to_v2(world) == {"preview"})
        first = served(world)
        waits_in(world, daemon, 4)
        eventually("a thousand requests", lambda: served(world)["v1"] - first["v1"] >= 1000, 60)
        then = served(world)
        copied = (then["v2"] - first["v2"]) / (then["v1"] - first["v1"])
        assert copied == pytest.approx(0.5, abs=0.08), "v2 served half as many: the copies"
        assert to_v2(world) == {"preview"}, "users get v1's answers"
        approve(daemon)
        ends_as(world, daemon, "v2", "Succeeded")
        assert to_v2(world) == set(WHO)
    by_hand = deepcopy(before)
    by_hand["http"][0]["route"][0]["destination"]["subset"] = "v2"
    assert spec(world) == by_hand


def test_harm_to_logged_in_users_takes_them_all_back(rich: World, canaryd: Callable[..., Canaryd]) -> None:
    world, before = rich, spec(rich)
    world.behaviour("v2", errors=0.3)
    with a_rollout(world, canaryd) as daemon:
        waits_in(world, daemon, 0)
        approve(daemon)
        ends_as(world, daemon, "v2", "RolledBack")
        eventually("nobody is on v2", lambda: to_v2(world) == set())
        assert "matched users are compared with all others" in " ".join(explained(daemon, "v2").split())
    assert spec(world) == before


def test_an_added_route_that_someone_deletes_is_drift_and_an_abort_leaves_nothing(
    rich: World, canaryd: Callable[..., Canaryd]
) -> None:
    world, before = rich, spec(rich)
    with a_rollout(world, canaryd) as daemon:
        waits_in(world, daemon, 0)
        approve(daemon)
        eventually("logged-in users are on v2", lambda: "logged in" in to_v2(world))
        world.kubectl(
            "patch",
            "virtualservice",
            "sockshop",
            "--type=json",
            "-p",
            '[{"op": "remove", "path": "/spec/http/1"}]',
        )
        eventually("it is held", lambda: phase_of(world, "v2") == "Held")
        daemon.cli("abort", "front-end", "--namespace", "production")
        ends_as(world, daemon, "v2", "RolledBack")
    assert spec(world) == before


def served(world: World) -> dict[str, int]:
    counts = {"v1": 0, "v2": 0}
    for pod in world.tally().values():
        if pod["version"] in counts:  # earlier tests had others
            counts[pod["version"]] += pod["requests"]
    return counts
