"""What was made so that a version could be routed to goes at the end, once, whatever happens in between; and
what a gateway's controller says against the route stands in the record."""

from typing import Any

import pytest

from canaryd.control.supervisor import SETTLED
from canaryd.domain.rollout import Phase
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination, with_entrance
from tests.control.daemon_on_fakes import Daemon, Script, always, healthy
from tests.fakes import Crash

HTTP_ROUTE = {"httpRoute": "sockshop"}


def a_daemon(script: Script = healthy, **policy: Any) -> Daemon:
    """On an HTTPRoute, all traffic on v1, whose Service someone else made; v2 is here."""
    daemon = Daemon(script, route=HTTP_ROUTE, **policy).run()
    daemon.deploy()
    return daemon


def tidied(daemon: Daemon, within: float = 3600) -> None:
    """Beats until the last rollout is over and tidy; a crash starts a new process."""
    until = daemon.clock.at + within
    while not (daemon.rollouts.records and daemon.rollout.entrance.cleaned_up):
        try:
            daemon.run()
        except Crash:
            daemon.restart()
        assert daemon.clock.at < until, f"not tidy within {within} s: {daemon.rollouts.records}"


def test_after_a_rollback_the_canarys_goes_when_its_last_requests_are_answered(
    logs: list[dict[str, object]],
) -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.run(SETTLED - 10)
    assert (daemon.world.made, daemon.rollout.entrance.cleaned_up) == ({"v2"}, False)
    tidied(daemon)
    assert (daemon.world.made, daemon.world.subsets, daemon.world.lists) == (set(), {"v1": "v1"}, ORIGIN)
    assert [line["name"] for line in logs if line["event"] == "service.removed"] == ["v2"]


def test_after_a_success_the_new_one_stays_and_the_next_success_removes_it() -> None:
    daemon = a_daemon()
    tidied(daemon)
    assert (daemon.world.made, daemon.world.subsets.keys()) == ({"v2"}, {"v1", "v2"})
    daemon.deploy("v3")
    daemon.run_until(lambda rollout: rollout.entrance.canary == "v3")
    tidied(daemon)
    assert (daemon.world.made, daemon.world.subsets.keys()) == ({"v3"}, {"v1", "v3"}), (
        "v1's was someone else's"
    )
    assert daemon.world.lists == {"#0": (a_destination("v3"),)}


def test_a_version_that_gives_way_goes_and_the_one_under_way_stays() -> None:
    daemon = a_daemon(always(Answer.UNDECIDED))
    daemon.run_until(lambda rollout: rollout.weight == 10)
    daemon.deploy("v3")
    daemon.run_until(lambda rollout: rollout.entrance.canary == "v3" and rollout.weight == 10)
    daemon.run(SETTLED + 10)
    assert daemon.world.made == {"v3"}
    assert [record.rollout.entrance.cleaned_up for record in daemon.rollouts.records.values()] == [
        True,
        False,
    ]


def test_one_that_waits_for_its_pods_keeps_what_was_made_for_it() -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.world.refuses["subset"] = "it was made just now"
    daemon.world.made.add("v3")  # made by the one that waits, not yet routed to
    daemon.world.subsets["v3-new"] = "v3"
    daemon.deploy("v3")
    daemon.run(SETTLED + 20)
    assert daemon.rollout.entrance.canary == "v3"
    assert daemon.rollout.reason == "waiting: it was made just now"
    assert daemon.world.made == {"v3"}


def test_one_that_has_only_just_ended_keeps_its_own_while_an_earlier_one_is_tidied() -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.deploy("v3")
    daemon.run_until(lambda rollout: rollout.entrance.canary == "v3" and rollout.phase is Phase.ROLLED_BACK)
    earlier = next(
        name for name, record in daemon.rollouts.records.items() if record.rollout.entrance.canary == "v2"
    )
    record = daemon.rollouts.records[earlier]
    daemon.rollouts.records[earlier] = record.with_rollout(with_entrance(record.rollout, cleaned_up=False))
    daemon.run(2)
    assert [record.rollout.entrance.cleaned_up for record in daemon.rollouts.records.values()] == [
        True,
        False,
    ]
    assert daemon.world.made == {"v3"}, "its last requests are not answered yet"
    tidied(daemon)
    assert daemon.world.made == set()


def steps(script: Script) -> int:
    daemon = a_daemon(script)
    tidied(daemon)
    return len(daemon.world.steps)


STEPS = {"good": steps(healthy), "bad": steps(always(Answer.FAIL))}


@pytest.mark.parametrize("step", range(2, STEPS["good"] + 1))
def test_whatever_step_of_a_good_one_the_process_died_after_nothing_is_left_over(step: int) -> None:
    daemon = a_daemon(healthy)
    daemon.world.crash_after = step
    tidied(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert (daemon.rollout.phase, daemon.world.made) == (Phase.SUCCEEDED, {"v2"})


@pytest.mark.parametrize("step", range(2, STEPS["bad"] + 1))
def test_whatever_step_of_a_bad_one_the_process_died_after_nothing_is_left_over(step: int) -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.world.crash_after = step
    tidied(daemon)
    assert daemon.world.crash_after is None, "the crash never came"
    assert (daemon.rollout.phase, daemon.world.made, daemon.world.lists) == (Phase.ROLLED_BACK, set(), ORIGIN)
    assert daemon.world.steps.count("remove v2") == 1


def test_an_outage_and_a_refusal_only_delay_it_and_are_told_once(logs: list[dict[str, object]]) -> None:
    daemon = a_daemon(always(Answer.FAIL))
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.world.down.add("api")
    daemon.run(60)
    daemon.world.down.clear()
    daemon.world.refuses["tidy"] = "403: canaryd cannot delete services"
    daemon.run(60)
    assert not daemon.rollout.entrance.cleaned_up
    assert [line["reason"] for line in logs if line["event"] == "tidying.failed"] == [
        "403: canaryd cannot delete services"
    ]
    daemon.world.refuses.clear()
    tidied(daemon)
    assert not daemon.world.made


def test_a_virtualservice_s_rollout_has_nothing_to_tidy() -> None:
    daemon = Daemon(always(Answer.FAIL)).with_canary()
    daemon.ends_as(Phase.ROLLED_BACK)
    daemon.world.refuses["tidy"] = "nobody should ask"
    daemon.run(SETTLED + 20)
    assert not daemon.rollout.entrance.cleaned_up
    assert daemon.beat.troubles == {}


def test_what_a_controller_says_against_the_route_stands_in_the_record_while_it_says_so() -> None:
    daemon = a_daemon(always(Answer.UNDECIDED))
    daemon.run_until(lambda rollout: rollout.weight == 10 and rollout.span is not None)
    before = daemon.rollout.reason
    daemon.world.route_trouble = (
        "its parent Service front-end says ResolvedRefs=False: BackendNotFound (none)"
    )
    daemon.run(30)
    assert (
        daemon.rollout.reason
        == f"{before}; the route should be v1 90%, v2 10%, but {daemon.world.route_trouble}"
    )
    assert daemon.rollout.phase is Phase.PROGRESSING
    spans, saved = daemon.rollout.spans, [step for step in daemon.world.steps if step == "write route"]
    daemon.world.route_trouble = ""
    daemon.run(30)
    assert (daemon.rollout.reason, daemon.rollout.spans) == (before, spans)
    assert [step for step in daemon.world.steps if step == "write route"] == saved


def test_a_canary_whose_service_is_gone_for_good_is_rolled_back_as_that() -> None:
    daemon = a_daemon(always(Answer.UNDECIDED))
    daemon.run_until(lambda rollout: rollout.weight == 10 and rollout.span is not None)
    del daemon.world.subsets["v2"]
    daemon.world.refuses["subset"] = "route.addService is false"
    assert (
        daemon.ends_as(Phase.ROLLED_BACK).reason == "the Service v2 of v2 is gone: route.addService is false"
    )
    assert daemon.world.lists == ORIGIN
