"""Blue/green in the daemon: dark until the tests have passed, then all users at once, and back at once."""

from typing import Any

import pytest

from canaryd.domain.gates import GateReply
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Phase, Span
from canaryd.domain.verdict import Answer
from tests.builders import a_policy
from tests.control.daemon_on_fakes import Daemon, Script, healthy

OPEN, CLOSED = GateReply(True, "HTTP 200: ok", 0.0), GateReply(False, "HTTP 503: 2 of 14 tests failed", 0.0)


def blue_green(**changes: Any) -> Policy:
    stages = [
        {"weight": 0, "minimum": "60s", "deadline": "10m"},
        {"weight": 100, "minimum": "5m", "deadline": "10m"},
    ]
    return a_policy(
        strategy="blue-green",
        stages=stages,
        hooks=[{"before": 100, "gate": "https://tests.example/smoke"}],
        **changes,
    )


def a_daemon(script: Script = healthy, reply: GateReply = OPEN, **changes: Any) -> Daemon:
    daemon = Daemon(script, blue_green(**changes))
    daemon.gates.script = lambda question: reply
    daemon.run()
    daemon.deploy()
    return daemon


def shares(daemon: Daemon) -> list[int]:
    """What v2 got, each change of it."""
    found = [0]
    for lists in daemon.world.history:
        share = sum(
            one.get("weight", 100 if len(lists["#0"]) == 1 else 0)
            for one in lists["#0"]
            if one["destination"]["subset"] == "v2"
        )
        found += [share] if share != found[-1] else []
    return found


def test_a_good_version_gets_all_users_in_one_step_after_the_gate_was_asked_in_the_dark() -> None:
    daemon = a_daemon()
    daemon.ends_as(Phase.SUCCEEDED)
    assert shares(daemon) == [0, 100]
    assert {(question.weight, question.next_weight) for question in daemon.gates.asked} == {(0, 100)}


def test_no_user_sees_a_version_whose_gate_stays_closed() -> None:
    daemon = a_daemon(reply=CLOSED)
    daemon.run_until(lambda r: r.phase is Phase.AWAITING_GATE)
    daemon.run(2000)
    assert (daemon.rollout.phase, shares(daemon)) == (Phase.HELD, [0])


@pytest.mark.parametrize("answer", [Answer.ALARM, Answer.FAIL])
def test_whatever_is_wrong_after_the_switch_sends_all_back_in_one_write(answer: Answer) -> None:
    def bad(end: int, span: Span) -> Answer:
        return answer if span.weight == 100 and end - span.start >= 100 else healthy(end, span)

    daemon = a_daemon(bad)
    rolled_back = daemon.ends_as(Phase.ROLLED_BACK)
    assert shares(daemon) == [0, 100, 0]
    assert [news.event for news in rolled_back.announcements] == [
        "started",
        "advanced",
        "advanced",
        "rolled_back",
    ]


def test_the_old_version_keeps_its_replicas_until_the_policy_retires_it_after_the_promotion() -> None:
    daemon = a_daemon(promotion={"retireStable": {"scaleTo": 0, "after": "10m"}})
    daemon.run_until(lambda r: r.weight == 100)
    daemon.to_end()
    daemon.run(300)
    assert daemon.world.workloads["front-end-v1"].desired == 3
    daemon.run(600)
    assert daemon.world.workloads["front-end-v1"].desired == 0
