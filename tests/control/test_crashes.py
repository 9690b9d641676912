"""The process dies after any step that changed something: the next one goes on from the record."""

from typing import Any

import pytest

from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, KnownTemplates
from canaryd.domain.rollout import Phase, Span
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination
from tests.control.daemon_on_fakes import Daemon, Script, always, healthy
from tests.fakes import Crash

HOOKS = [{"on": ["started", "advanced", "rolled_back", "succeeded"], "notify": "oncall"}]


def run_to_end(daemon: Daemon) -> int:
    """Beats until the rollout has ended and everyone knows; a crash starts a new process. Returns the steps
    that changed something."""
    for _ in range(400):
        try:
            daemon.run()
        except Crash:
            daemon.restart()
        records = daemon.rollouts.records
        if (
            records
            and daemon.rollout.phase.ended
            and all("oncall" in news.delivered for news in daemon.rollout.announcements)
        ):
            return len(daemon.world.steps)
    raise AssertionError("the rollout did not end")


def a_daemon(script: Script, **policy: Any) -> Daemon:
    daemon = Daemon(script, hooks=HOOKS, **policy).run()
    daemon.deploy()
    return daemon


STEPS = {"good": run_to_end(a_daemon(healthy)), "bad": run_to_end(a_daemon(always(Answer.FAIL)))}


@pytest.mark.parametrize("step", range(2, STEPS["good"] + 1))
def test_a_good_version_is_promoted_whatever_step_the_process_died_after(step: int) -> None:
    daemon = a_daemon(healthy)
    daemon.world.crash_after = step
    run_to_end(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert daemon.rollout.phase is Phase.SUCCEEDED
    assert daemon.world.lists == {"#0": (a_destination("v2"),)}
    assert len(daemon.rollouts.records) == 1
    told = {news.id: news.event for notifier, news in daemon.postman.got if notifier == "oncall"}
    assert sorted(told.values()) == ["advanced"] * 4 + ["started", "succeeded"]


@pytest.mark.parametrize("step", range(2, STEPS["bad"] + 1))
def test_a_bad_version_is_rolled_back_and_told_once_whatever_step_the_process_died_after(step: int) -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.world.crash_after = step
    run_to_end(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert daemon.rollout.phase is Phase.ROLLED_BACK
    assert daemon.world.lists == ORIGIN
    told = {news.id: news.event for notifier, news in daemon.postman.got if notifier == "oncall"}
    assert sorted(told.values()) == ["advanced", "rolled_back", "started"]


@pytest.mark.parametrize("step", range(2, STEPS["good"] + 1))
@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_users_who_were_kept_leave_neither_routes_nor_cookies_whatever_step_the_process_died_after(
    good: bool, step: int
) -> None:
    def harm_at_25(end: int, span: Span) -> Answer:
        return Answer.FAIL if span.weight == 25 else healthy(end, span)

    daemon = a_daemon(healthy if good else harm_at_25, route={"virtualService": "sockshop", "affinity": {}})
    daemon.world.crash_after = step
    run_to_end(daemon)
    assert daemon.rollout.phase is (Phase.SUCCEEDED if good else Phase.ROLLED_BACK)
    assert daemon.world.lists == ({"#0": (a_destination("v2"),)} if good else ORIGIN)


def test_cookies_of_a_rollout_whose_record_was_deleted_go_with_the_next_one_s_first_write() -> None:
    daemon = a_daemon(always(Answer.UNDECIDED), route={"virtualService": "sockshop", "affinity": {}})
    daemon.run(60)
    assert "canaryd-front-end-stable-users" in daemon.world.lists
    [stable, *_] = daemon.world.lists["#0"]
    # a person sends all traffic back, and leaves the header
    daemon.world.edit({**daemon.world.lists, "#0": (stable,)})
    daemon.rollouts.records.clear()
    daemon.script = healthy
    daemon.deploy("v3")
    daemon.ends_as(Phase.SUCCEEDED)
    assert "canaryd" not in str(daemon.world.lists)
    assert [entry["destination"]["subset"] for entry in daemon.world.lists["#0"]] == ["v3"]


def beats_through_a_crash(daemon: Daemon, after_steps: int) -> Daemon:
    """The process dies after so many further steps, and another one goes on."""
    daemon.world.crash_after = len(daemon.world.steps) + after_steps
    with pytest.raises(Crash):
        daemon.run(60)
    daemon.restart()
    return daemon


def test_a_version_whose_beginning_ended_in_a_crash_does_not_begin_again_when_its_record_is_deleted() -> None:
    daemon = beats_through_a_crash(a_daemon(always(Answer.FAIL)), after_steps=1)
    assert daemon.world.steps[-1] == "create record"
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.rollouts.records.clear()
    daemon.run(60)
    assert not daemon.rollouts.records


def test_a_version_whose_beginning_met_someone_else_s_write_is_remembered_as_well() -> None:
    daemon = a_daemon(always(Answer.FAIL))
    remember, refused = daemon.rollouts.remember, []

    def refuses_once(policy: Policy, known: KnownTemplates) -> KnownTemplates:
        if not refused:
            refused.append(known)
            raise Conflict("paused in between")
        return remember(policy, known)

    daemon.rollouts.remember = refuses_once  # type: ignore[method-assign]
    daemon.ends_as(Phase.ROLLED_BACK)
    assert refused
    assert {"v2/hash-v2", "v2/hash-v2#1"} <= daemon.rollouts.templates.templates


@pytest.mark.parametrize("after_steps", [1, 2, 3])
def test_an_overtaken_version_does_not_supersede_the_newer_one_after_a_crash(after_steps: int) -> None:
    daemon = a_daemon(healthy)
    daemon.deploy("v3", created=daemon.clock.at + 1)
    beats_through_a_crash(daemon, after_steps)
    daemon.to_end()
    daemon.run(60)
    assert [r.rollout.entrance.canary for r in daemon.rollouts.records.values()] == ["v3"]
    assert daemon.rollout.phase is Phase.SUCCEEDED


def looks_of(reads: list[tuple[int, int, int]]) -> set[tuple[int, int]]:
    return {(at, at + step) for start, end, step in reads for at in range(start, end, step)}


def test_a_restart_in_mid_stage_reads_the_very_windows_that_were_read_live() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary().run(100)
    live, verdict = looks_of(daemon.telemetry.reads), daemon.rollout.verdict
    daemon.telemetry.reads.clear()
    daemon.restart()
    daemon.clock.at -= 5.0  # no time for another look
    daemon.run()
    assert looks_of(daemon.telemetry.reads) == live
    assert daemon.rollout.verdict == verdict
