"""A rollout by stages without a weight: dark, for matched requests, with copies, and with previews all the
way."""

from typing import Any

import pytest

from canaryd.domain.counts import Counts, Look
from canaryd.domain.rollout import Held, Phase, RouteLists
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination
from tests.control.daemon_on_fakes import Daemon, Script, always, healthy
from tests.control.test_crashes import HOOKS, run_to_end
from tests.fakes import Crash

TIMES = {"minimum": "60s", "deadline": "10m"}
COOKIE = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
STAGES = [
    {"weight": 0, **TIMES},
    {"match": COOKIE, **TIMES},
    {"mirror": "20%", **TIMES},
    {"weight": 10, **TIMES},
    {"weight": 100, **TIMES},
]
PREVIEW = {"virtualService": "sockshop", "preview": {"headers": {"x-canary": {"exact": "always"}}}}
V2 = a_destination("v2")
BY_PREVIEW = {
    "name": "canaryd-front-end-preview",
    "match": [{"headers": {"x-canary": {"exact": "always"}}}],
    "route": [V2],
}
BY_MATCH = {"name": "canaryd-front-end-match", "match": [COOKIE], "route": [V2]}
COPIES = {"mirror": V2["destination"], "mirrorPercentage": {"value": 20.0}}
BY_MIRROR = {"name": "canaryd-front-end-mirror", **COPIES, "route": [a_destination("v1")]}
MATCHED: RouteLists = {**ORIGIN, "canaryd-front-end-match": (BY_MATCH,)}


def a_daemon(script: Script = healthy, **policy: Any) -> Daemon:
    daemon = Daemon(script, **{"stages": STAGES, **policy}).run()
    daemon.deploy()
    return daemon


def in_stage(daemon: Daemon, stage: int) -> Daemon:
    """Its looks begun there; and there it stays."""
    daemon.run_until(
        lambda r: r.stage == stage and r.span is not None and r.span.end is None and r.span.stage == stage
    )
    daemon.script = always(Answer.UNDECIDED)
    return daemon


def test_the_ladder_goes_from_dark_by_matched_requests_and_copies_to_all_traffic_and_leaves_nothing_behind() -> (  # noqa: E501
    None
):
    daemon = a_daemon(route=PREVIEW, hooks=HOOKS)
    seen: dict[int, RouteLists] = {}
    while not (daemon.rollouts.records and daemon.rollout.phase.ended):
        daemon.run()
        seen[daemon.rollout.stage] = seen.get(daemon.rollout.stage, daemon.world.lists)
    preview = {"canaryd-front-end-preview": (BY_PREVIEW,)}
    assert seen[0] == {**ORIGIN, **preview}
    assert seen[1] == {**MATCHED, **preview}
    assert seen[2] == {**ORIGIN, **preview, "canaryd-front-end-mirror": (BY_MIRROR,)}
    assert seen[3] == {"#0": (a_destination("v1", 90), a_destination("v2", 10)), **preview}
    assert daemon.rollout.phase is Phase.SUCCEEDED
    assert daemon.world.lists == {"#0": (V2,)}
    told = [
        announcement.share
        for announcement in daemon.rollout.announcements
        if announcement.event == "advanced"
    ]
    assert told == ["dark", "match", "20% mirrored", "10%", "100%"]


def test_a_dark_stage_without_a_preview_writes_no_route() -> None:
    daemon = in_stage(a_daemon(), 0)
    daemon.run(60)
    assert (daemon.world.lists, daemon.world.history) == (ORIGIN, [])
    assert daemon.rollout.entrance.route.confirmed == ORIGIN


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_harm_in_any_of_these_stages_takes_the_added_routes_out(stage: int) -> None:
    daemon = in_stage(a_daemon(route=PREVIEW), stage)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN


@pytest.mark.parametrize("wish", ["abort", "newer"])
def test_an_abort_and_a_newer_version_take_the_added_routes_out(wish: str) -> None:
    daemon = in_stage(a_daemon(route=PREVIEW), 1)
    if wish == "abort":
        daemon.wish(abort=True)
        daemon.ends_as(Phase.ROLLED_BACK)
    else:
        first = daemon.rollout.name
        daemon.deploy("v3")
        daemon.run_until(lambda r: daemon.rollouts.records[first].rollout.phase is Phase.SUPERSEDED)
        assert daemon.world.lists in (
            ORIGIN,
            {**ORIGIN, "canaryd-front-end-preview": ({**BY_PREVIEW, "route": [a_destination("v3")]},)},
        )
        return
    assert daemon.world.lists == ORIGIN


# ---------------------------------------------------------------- other hands

DELETED: RouteLists = ORIGIN
EDITED: RouteLists = {
    **ORIGIN,
    "canaryd-front-end-match": ({**BY_MATCH, "match": [{"headers": {"cookie": {"exact": "x"}}}]},),
}
LEFT_ALONE: RouteLists = {**MATCHED, "canaryd-front-end-preview": (BY_PREVIEW,)}


@pytest.mark.parametrize("found", [DELETED, EDITED, LEFT_ALONE], ids=["deleted", "edited", "one more"])
def test_an_edit_of_an_added_route_is_drift_and_held(found: RouteLists) -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.edit(dict(found))
    daemon.run(10)
    assert (daemon.rollout.phase, daemon.rollout.held) == (Phase.HELD, Held.DRIFT)
    assert "someone else changed the route" in daemon.rollout.reason
    assert daemon.world.lists == found, "a hold keeps hands off"
    daemon.world.edit(dict(MATCHED))
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING


def test_what_was_taken_out_is_said_in_words() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.edit(dict(ORIGIN))
    daemon.run(10)
    assert daemon.rollout.reason == (
        "someone else changed the route: the route is all to v1, and canaryd had left it "
        "cookie ~ .*logged_in.* to v2; else all to v1"
    )


@pytest.mark.parametrize("found", [DELETED, EDITED, LEFT_ALONE], ids=["deleted", "edited", "one more"])
def test_where_the_policy_restores_an_added_route_is_put_back(found: RouteLists) -> None:
    daemon = in_stage(a_daemon(drift="restore"), 1)
    daemon.world.edit(dict(found))
    daemon.run(10)
    assert (daemon.rollout.phase, daemon.world.lists) == (Phase.PROGRESSING, MATCHED)


def test_a_resume_after_drift_puts_the_added_route_back() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.edit(dict(ORIGIN))
    daemon.run(10)
    daemon.wish(resumed=1)
    daemon.run(10)
    assert (daemon.rollout.phase, daemon.world.lists) == (Phase.PROGRESSING, MATCHED)


def test_a_rollback_finds_added_routes_also_where_the_steered_one_has_another_name() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.edit({"main": ORIGIN["#0"], "canaryd-front-end-match": (BY_MATCH,)})
    daemon.run(10)
    assert "the routes to steer are main, and canaryd had left #0" in daemon.rollout.reason
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == {"main": ORIGIN["#0"]}


def test_routes_that_a_deleted_record_left_are_no_edit_and_go_with_the_next_rollout() -> None:
    daemon = Daemon(healthy, stages=STAGES).run()
    daemon.world.edit({**ORIGIN, "canaryd-front-end-match": ({**BY_MATCH, "route": [a_destination("v0")]},)})
    daemon.deploy()
    in_stage(daemon, 0)
    assert daemon.world.lists == ORIGIN
    assert not [decision for decision in daemon.rollout.decisions if decision.signal == "drift"]


# ---------------------------------------------------------------- crashes

STEPS = run_to_end(a_daemon(route=PREVIEW, hooks=HOOKS))


@pytest.mark.parametrize("step", range(2, STEPS + 1))
def test_a_good_version_climbs_it_whatever_step_the_process_died_after(step: int) -> None:
    daemon = a_daemon(route=PREVIEW, hooks=HOOKS)
    daemon.world.crash_after = step
    run_to_end(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert (daemon.rollout.phase, daemon.world.lists) == (Phase.SUCCEEDED, {"#0": (V2,)})
    assert not [decision for decision in daemon.rollout.decisions if decision.signal == "drift"], (
        "a crash is taken for no one's edit"
    )


def test_a_record_saved_and_not_acted_on_is_acted_on_by_the_next_process() -> None:
    daemon = a_daemon()
    daemon.run_until(lambda r: r.stage == 0 and r.span is not None)
    while daemon.rollout.stage == 0:
        daemon.world.crash_after = len(daemon.world.steps) + 1
        with pytest.raises(Crash):
            daemon.run(60)
        daemon.restart()
    assert (daemon.rollout.stage, daemon.world.lists) == (1, ORIGIN), "saved, and died before the write"
    daemon.run()
    assert daemon.world.lists == MATCHED


# ---------------------------------------------------------------- ways


def test_an_alarm_at_full_weight_goes_back_to_the_last_stage_with_a_weight() -> None:
    daemon = in_stage(a_daemon(), 4)
    daemon.script = lambda end, span: Answer.ALARM if span.weight == 100 else Answer.UNDECIDED
    daemon.run_until(lambda r: r.weight == 10)
    assert daemon.rollout.stage == 3


def test_an_alarm_at_full_weight_rolls_back_where_no_stage_before_has_a_weight() -> None:
    daemon = in_stage(a_daemon(stages=[STAGES[1], STAGES[4]]), 1)
    daemon.script = always(Answer.ALARM)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN


def test_what_cannot_be_made_of_the_route_keeps_a_rollout_from_beginning_and_says_so() -> None:
    daemon = Daemon(healthy, stages=STAGES).run()
    daemon.world.whole = {"#0": {"route": [a_destination("v1")], "mirror": {"host": "elsewhere"}}}
    daemon.deploy()
    daemon.run(30)
    assert daemon.rollout.phase is Phase.WAITING
    assert daemon.rollout.reason == (
        "waiting: route #0 is mirrored already, and a route has one mirror: take it out, or leave mirror out "
        "of the stages"
    )


def test_a_match_stage_that_nobody_matched_is_held_at_its_deadline_and_not_for_want_of_data() -> None:
    daemon = in_stage(a_daemon(analysis={"interval": "10s", "minimumRequests": 5000}), 1)
    daemon.telemetry.look = lambda start, end: Look(start, end, (), {"v1-a": Counts(1000, 9)}, {}, True, {})
    daemon.script = lambda end, span: Answer.NO_DATA
    daemon.run(540)
    assert daemon.rollout.phase is Phase.PROGRESSING, "no share is promised, so its absence is no outage"
    daemon.run_until(lambda r: r.held is Held.UNDECIDED)


def test_copies_that_do_not_come_are_no_data() -> None:
    daemon = in_stage(a_daemon(), 2)
    daemon.telemetry.look = lambda start, end: Look(start, end, (), {"v1-a": Counts(1000, 9)}, {}, True, {})
    daemon.script = lambda end, span: Answer.NO_DATA
    daemon.run_until(lambda r: r.held is Held.NO_DATA)


def test_a_dark_canary_that_is_no_longer_ready_is_rolled_back() -> None:
    daemon = in_stage(a_daemon(), 0)
    daemon.change("front-end-v2", ready=0, available=False)
    daemon.ends_as(Phase.ROLLED_BACK)


def test_a_stage_waits_for_stable_also_while_the_canary_is_dark() -> None:
    daemon = in_stage(a_daemon(), 0)
    daemon.change("front-end-v1", ready=0)
    daemon.run(10)
    assert daemon.rollout.held is Held.STABLE_NOT_READY


def test_the_subset_is_put_back_also_where_there_is_no_weight() -> None:
    daemon = in_stage(a_daemon(), 1)
    del daemon.world.subsets["v2"]
    daemon.run(10)
    assert daemon.world.subsets["v2"] == "v2"


def test_promote_takes_added_routes_out_and_goes_to_full_weight() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.wish(promote=True)
    daemon.run(10)
    assert daemon.rollout.weight == 100
    assert not [key for key in daemon.world.lists if key.startswith("canaryd-")]


def test_an_edit_of_the_steered_route_reaches_its_copy_and_is_no_drift() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.whole = {"#0": {"route": [a_destination("v1")], "timeout": "3s"}}
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING
    assert daemon.world.lists["canaryd-front-end-match"] == ({**BY_MATCH, "timeout": "3s"},)


def test_what_an_edit_makes_impossible_is_said_and_harm_still_rolls_back() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.world.whole = {
        "#0": {"route": [a_destination("v1")], "match": [{"headers": {"cookie": {"exact": "x"}}}]}
    }
    daemon.run(10)
    assert "has a condition on headers cookie of its own" in daemon.rollout.reason
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN
