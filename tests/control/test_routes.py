"""What people and tools do to the route, the subset and the right to write them, in the middle of a
rollout."""

from typing import Any

import pytest

from canaryd.domain.rollout import Held, Phase, Record
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination
from tests.control.daemon_on_fakes import Daemon, always, healthy
from tests.fakes import Crash

V1, V2 = (a_destination("v1"),), (a_destination("v2"),)
ALL_BACK = (a_destination("v1", 100),)  # of a route that canaryd has not seen as it began


def undecided(*keys: str, **policy: Any) -> Daemon:
    """At 10% on steered routes of these names, and staying there."""
    daemon = Daemon(always(Answer.UNDECIDED), **policy)
    daemon.world.edit(dict.fromkeys(keys or ("#0",), V1))
    return daemon.with_canary()


# ---------------------------------------------------------------- the way back, whatever became of the routes


def test_a_rollback_finds_a_route_that_was_given_a_name_meanwhile() -> None:
    daemon = undecided("#0")
    daemon.world.edit({"main": daemon.world.lists["#0"]})
    daemon.run(10)
    assert "the routes to steer are main, and canaryd had left #0" in daemon.rollout.reason
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == {"main": ALL_BACK}


def test_an_abort_brings_back_the_routes_that_are_left() -> None:
    daemon = undecided("a", "b")
    daemon.world.edit({"a": daemon.world.lists["a"]})
    daemon.run(10)
    daemon.wish(abort=True)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == {"a": V1}


def test_a_route_inserted_before_a_nameless_one_does_not_hide_it_from_a_rollback() -> None:
    daemon = undecided("#0")
    daemon.world.edit({"#0": V1, "#1": daemon.world.lists["#0"]})
    daemon.run(10)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == {"#0": V1, "#1": ALL_BACK}


def test_a_rollback_also_ends_what_was_edited_to_a_third_version() -> None:
    daemon = undecided()
    daemon.world.edit({"#0": (a_destination("v1", 97), a_destination("v0", 3))})
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN


def test_a_resume_takes_in_a_route_that_was_added() -> None:
    daemon = undecided("a")
    daemon.world.edit({**daemon.world.lists, "b": V1})
    daemon.run(10)
    assert daemon.rollout.held is Held.DRIFT
    daemon.wish(resumed=1)
    daemon.run(30)
    assert daemon.rollout.phase is Phase.PROGRESSING
    assert (
        daemon.world.lists["a"]
        == daemon.world.lists["b"]
        == (a_destination("v1", 90), a_destination("v2", 10))
    )
    daemon.script = healthy
    daemon.ends_as(Phase.SUCCEEDED)
    assert daemon.world.lists == {"a": V2, "b": V2}


def test_a_resume_with_a_new_route_that_cannot_be_steered_is_refused_in_words() -> None:
    daemon = undecided("a")
    daemon.world.edit({**daemon.world.lists, "b": (a_destination("v1", 50), a_destination("v0", 50))})
    daemon.run(10)
    daemon.wish(resumed=1)
    daemon.run(10)
    assert daemon.rollout.held is Held.DRIFT
    assert "cannot be resumed: route b is split (v1 50%, v0 50%)" in daemon.rollout.reason
    assert daemon.meter.bugs == 0


def test_where_there_are_other_routes_than_before_nothing_is_restored_behind_a_person_s_back() -> None:
    daemon = undecided("a", drift="restore")
    daemon.world.edit({**daemon.world.lists, "b": V1})
    daemon.run(10)
    assert daemon.rollout.held is Held.DRIFT


def test_an_edit_between_the_last_verdict_and_the_final_route_holds_and_is_not_overwritten() -> None:
    daemon = Daemon(healthy).with_canary()
    save = daemon.rollouts.save

    def dies_after(record: Record) -> Record:
        saved = save(record)
        if record.rollout.phase is Phase.PROMOTING:
            raise Crash("right after the verdict")
        return saved

    daemon.rollouts.save = dies_after  # type: ignore[method-assign]
    with pytest.raises(Crash):
        daemon.to_end()
    daemon.rollouts.save = save  # type: ignore[method-assign]
    daemon.restart()
    left = daemon.world.lists
    daemon.world.edit(dict(ORIGIN))  # someone sends all traffic back
    daemon.run(60)
    assert (daemon.rollout.held, daemon.world.lists) == (Held.DRIFT, ORIGIN)
    daemon.world.edit(left)
    daemon.ends_as(Phase.SUCCEEDED)


# ---------------------------------------------------------------- the subset


def test_a_subset_that_a_tool_takes_out_again_is_put_back() -> None:
    daemon = undecided()
    del daemon.world.subsets["v2"]
    daemon.run()
    assert daemon.world.subsets["v2"] == "v2"
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_a_canary_whose_subset_is_gone_for_good_is_rolled_back_as_that() -> None:
    daemon = undecided()
    del daemon.world.subsets["v2"]
    daemon.world.refuses["subset"] = "route.addSubset is false"
    rollout = daemon.ends_as(Phase.ROLLED_BACK)
    assert rollout.reason == "the subset v2 of v2 is gone: route.addSubset is false"
    assert daemon.world.lists == ORIGIN


def test_a_subset_that_was_just_added_is_not_taken_for_a_lost_one(logs: list[dict[str, object]]) -> None:
    undecided()
    assert "subset.restored" not in [line["event"] for line in logs]


# ---------------------------------------------------------------- the right to write


def test_a_refused_write_stands_in_the_record_until_it_is_allowed() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).run()
    daemon.world.refuses["write"] = "403: canaryd cannot patch virtualservices"
    daemon.deploy()
    daemon.run(60)
    assert (
        "the route should be v1 90%, v2 10%, but 403: canaryd cannot patch virtualservices"
        in daemon.rollout.reason
    )
    saved = daemon.world.steps.count("save record")
    daemon.run(60)
    assert daemon.world.steps.count("save record") == saved, "said once"
    del daemon.world.refuses["write"]
    daemon.run(30)
    assert (daemon.world.weight("v2"), daemon.rollout.reason) == (10, "front-end-v2 is available")


def test_a_rollback_whose_write_is_refused_says_so_and_ends_when_it_is_allowed() -> None:
    daemon = undecided()
    daemon.world.refuses["write"] = "403"
    daemon.script = always(Answer.FAIL)
    daemon.run(60)
    assert daemon.rollout.phase is Phase.ROLLING_BACK
    assert "but 403" in daemon.rollout.reason
    daemon.world.refuses.clear()
    assert daemon.ends_as(Phase.ROLLED_BACK).reason == "the evidence says fail"
