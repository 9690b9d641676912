"""`kill -9` and a new start: the same rollout, the same verdicts; and counts that are the application's own,
to the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canaryd_sandbox.mesh.mesh import Tally
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-crashes"), pytest.mark.timeout(480)]
JUDGED = ("answer", "odds", "stage", "looks", "reason")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    hooks = [{"on": ["rolled_back", "succeeded"], "notify": "audit"}]
    policy = a_policy(
        (20, 50, 100), deadline="10m", hooks=hooks, analysis={"metrics": [{"errors": {}}, {"latency": {}}]}
    )
    with a_stand(tmp_path_factory.mktemp("crashes"), policy) as stand:
        stand.world.set_behaviour("v1", errors=0.01)
        yield stand.begin()


def judged(stand: Stand) -> dict[int, list[dict[str, Any]]]:
    """By the end of a look, what was said of it by each life of the daemon."""
    found: dict[int, list[dict[str, Any]]] = {}
    for line in stand.canaryd.logged("look.judged"):
        found.setdefault(line["at"], []).append({key: line[key] for key in JUDGED})
    return found


def settled(stand: Stand, version: str) -> dict[str, Any]:
    """What canaryd has counted, after traffic has stopped and all of it was scraped."""
    before = stand.world.tally()
    stand.until_looked(version, 6)
    assert stand.world.tally() == before, "traffic did not stop"
    counted: dict[str, Any] = stand.explained(stand.status(version)["name"])["counted"]
    return counted


def served(stand: Stand, before: dict[str, Tally]) -> dict[str, tuple[int, int]]:
    """Requests and failures of each pod since then, pods without any left out."""
    now = stand.world.tally()
    since = {
        pod: (t.requests - before[pod].requests, t.failures - before[pod].failures)
        if pod in before
        else (t.requests, t.failures)
        for pod, t in now.items()
    }
    return {pod: counts for pod, counts in since.items() if counts[0]}


def test_each_request_is_counted_once_across_restarts_scaling_and_kills(stand: Stand) -> None:
    world = stand.world
    world.rate = 0.0
    seen: dict[str, Tally] = {}

    def quiet() -> bool:
        nonlocal seen
        before, seen = seen, world.tally()
        return before == seen

    eventually("no traffic", quiet)
    before = world.tally()
    scraped = world.now
    eventually("its last was scraped", lambda: world.now > scraped + 2.5)
    stand.deploy("v2", errors=0.01)
    stand.until("v2", "the first stage", weight=20)
    stand.canaryd.cli("hold", "front-end")
    stand.until("v2", "held", held="person")
    world.rate = 200.0
    stand.until_looked("v2", 3)
    one, other = world.pods("v1")
    world.restart(one)
    world.scale("v2", 3)
    eventually("a third pod", lambda: len(world.pods("v2")) == 3)
    stand.until_looked("v2", 3)
    eventually("the restarted pod serves again", lambda: one in world.pods("v1"))
    stand.canaryd.kill9()
    world.scale("v2", 1)  # two pods go while nobody looks
    world.restart(other)
    eventually("one pod", lambda: len(world.pods("v2")) == 1)
    stand.canaryd.start()
    stand.until_looked("v2", 3)
    world.rate = 0.0
    eventually("no traffic", quiet)
    counted = settled(stand, "v2")
    wanted = served(stand, before)
    assert len(wanted) == 5
    assert {
        pod: (one["requests"], one["failures"]) for pod, one in counted.items() if one["requests"]
    } == wanted
    stand.canaryd.kill9()
    stand.canaryd.start()
    assert settled(stand, "v2") == counted, "counted anew by another process"


def test_a_new_process_comes_to_the_very_verdicts_of_the_killed_one(stand: Stand) -> None:
    stand.world.rate = 100.0
    before = stand.explained("front-end")
    stand.until_looked("v2", 3)
    stand.canaryd.kill9()
    first = judged(stand)
    stand.canaryd.start()
    stand.until_looked("v2", 3)
    both = {at: said for at, said in judged(stand).items() if at in first and len(said) > len(first[at])}
    assert len(both) >= 10
    assert all(one == said[0] for said in both.values() for one in said), (
        "a look was judged otherwise by another process"
    )
    after = stand.explained("front-end")
    assert (after["name"], after["began"]) == (before["name"], before["began"])
    assert after["decisions"] == before["decisions"]
    assert after["spans"] == before["spans"]
    assert len(stand.records()) == 1


def test_after_all_that_a_rollout_is_promoted_by_hand_and_judged_at_full_weight(stand: Stand) -> None:
    uid = stand.status("v2")["uid"]
    stand.world.set_behaviour("v2", errors=0.0)
    stand.canaryd.cli("promote", "front-end")
    stand.until("v2", "full weight", weight=100)
    stand.canaryd.kill9()
    stand.canaryd.start()
    status = stand.until("v2", "promoted", phase="Succeeded")
    assert status["uid"] == uid
    assert stand.default_route() == all_to("v2")


def test_harm_found_while_the_daemon_was_dead_rolls_back_and_is_told_once(stand: Stand) -> None:
    stand.deploy("v3", errors=0.0)
    stand.until("v3", "the first stage", weight=20)
    stand.until_looked("v3", 1)
    stand.canaryd.kill9()
    stand.world.set_behaviour("v3", errors=0.5)
    dead = stand.world.now
    eventually("harm was scraped", lambda: stand.world.now > dead + 6)
    stand.canaryd.start()
    status = stand.until("v3", "rolled back", phase="RolledBack")
    assert [decision["phase"] for decision in status["decisions"]][-2:] == ["RollingBack", "RolledBack"]
    assert stand.default_route() == all_to("v2")
    eventually("told", lambda: stand.told("rolled_back", "v3"))
    stand.canaryd.kill9()
    stand.canaryd.start()
    eventually("a few beats more", lambda: stand.metric("canaryd_beats_total") >= 3)
    assert len(set(stand.told("rolled_back", "v3"))) == 1, (
        "told again under another id: a reader would see two rollbacks"
    )
