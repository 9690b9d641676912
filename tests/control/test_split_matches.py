"""A rollout that begins with half of the matched users: whose requests are read, where they go, and what is
left of it."""

from __future__ import annotations

from typing import Any

from canaryd.control.supervisor import SETTLED
from canaryd.domain.rollout import Phase
from canaryd.domain.verdict import Answer
from tests.builders import HOST, ORIGIN, a_destination
from tests.control.daemon_on_fakes import Daemon, Script, always, healthy
from tests.control.test_stages import COOKIE, TIMES, in_stage

OWN = "front-end-canaryd-match"
STAGES = [
    {"weight": 0, **TIMES},
    {"match": COOKIE, "split": "half", **TIMES},
    {"weight": 10, **TIMES},
    {"weight": 100, **TIMES},
]


def a_daemon(script: Script = healthy, **policy: Any) -> Daemon:
    daemon = Daemon(script, **{"stages": STAGES, "analysis": {"reporter": "source"}, **policy}).run()
    daemon.deploy()
    return daemon


def halves() -> list[dict[str, Any]]:
    host = HOST.replace("front-end", OWN, 1)
    return [{"destination": {"host": host, "subset": version}, "weight": 50} for version in ("v1", "v2")]


def test_half_of_the_matched_go_to_each_version_and_at_the_end_nothing_is_left() -> None:
    daemon = in_stage(a_daemon(), 1)
    assert daemon.world.lists == {
        **ORIGIN,
        "canaryd-front-end-match": (
            {"name": "canaryd-front-end-match", "match": [COOKIE], "route": halves()},
        ),
    }
    assert daemon.rollout.share == "half of match"
    daemon.script = healthy
    daemon.ends_as(Phase.SUCCEEDED)
    assert daemon.world.lists == {"#0": (a_destination("v2"),)}
    assert daemon.world.fair == {OWN}, "its last requests are still answered"
    daemon.run(SETTLED + 10)
    assert (daemon.world.fair, daemon.rollout.entrance.cleaned_up) == (set(), True)


def test_in_such_a_stage_the_requests_to_its_service_are_read_and_in_no_other() -> None:
    daemon = a_daemon()
    daemon.ends_as(Phase.SUCCEEDED)
    spans = {span.stage: span for span in daemon.rollout.spans}
    assert spans.keys() == {0, 1, 2, 3}
    for (start, end), target in daemon.telemetry.targets.items():
        is_split = spans[1].start <= start and end <= (spans[1].end or end)
        assert target.called == ((OWN,) if is_split else ()), (start, end)
        if is_split:
            assert target.since == spans[1].start, "nothing was served by it before"


def test_harm_takes_the_halves_back_too() -> None:
    daemon = in_stage(a_daemon(), 1)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.lists == ORIGIN


def test_what_a_newer_rollout_may_use_stays_until_that_has_ended() -> None:
    daemon = in_stage(a_daemon(), 1)
    first = daemon.rollout.name
    daemon.deploy("v3")
    daemon.run_until(lambda rollout: rollout.entrance.canary == "v3" and rollout.stage == 1)
    daemon.run(SETTLED + 30)
    assert (daemon.world.fair, daemon.rollouts.records[first].rollout.entrance.cleaned_up) == ({OWN}, False)
    daemon.script = always(Answer.FAIL)
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(SETTLED + 20)
    assert (daemon.world.fair, daemon.rollouts.records[first].rollout.entrance.cleaned_up) == (set(), True)


def test_what_someone_deletes_in_mid_stage_is_made_again(logs: list[dict[str, object]]) -> None:
    daemon = in_stage(a_daemon(always(Answer.UNDECIDED)), 1)
    daemon.world.fair.clear()
    daemon.run()
    assert (daemon.world.fair, daemon.rollout.phase) == ({OWN}, Phase.PROGRESSING)
    assert [line["subset"] for line in logs if line["event"] == "subset.restored"] == [OWN]


def test_where_it_cannot_be_made_again_the_canary_is_taken_off() -> None:
    daemon = in_stage(a_daemon(always(Answer.UNDECIDED)), 1)
    daemon.world.fair.clear()
    daemon.world.refuses["fair"] = "403: canaryd cannot create services"
    rollout = daemon.ends_as(Phase.ROLLED_BACK)
    assert rollout.reason == "what matched users are split by is gone: 403: canaryd cannot create services"
    assert daemon.world.lists == ORIGIN


def test_a_subset_and_what_matched_users_call_are_both_put_back() -> None:
    """Both by one call, which says that what it made is new."""
    daemon = in_stage(a_daemon(always(Answer.UNDECIDED)), 1)
    daemon.world.fair.clear()
    del daemon.world.subsets["v2"]
    daemon.world.slow = True
    daemon.run()
    assert (daemon.world.fair, daemon.world.subsets["v2"], daemon.rollout.phase) == (
        {OWN},
        "v2",
        Phase.PROGRESSING,
    )
