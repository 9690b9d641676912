"""Any sequence of verdicts, verbs, crashes, outages and outside edits: what must hold after every beat, and
at the end.

Weights sum to 100 (the fake route refuses others), a rollback leaves the route as it began, a success one
destination, and harm always ends at stable.
"""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canaryd.domain.rollout import Phase
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination, a_policy
from tests.control.daemon_on_fakes import Daemon, always, healthy
from tests.fakes import Crash

ACTIONS = st.one_of(
    st.tuples(st.just("beats"), st.integers(1, 40)),
    st.tuples(st.just("verdicts"), st.sampled_from(["healthy", *Answer])),
    st.tuples(
        st.just("wish"),
        st.sampled_from(
            [
                {"hold": True},
                {"hold": False},
                {"resumed": 1},
                {"resumed": 2},
                {"promote": True},
                {"approved_stage": 1},
                {"approved_stage": 3},
            ]
        ),
    ),
    st.tuples(st.just("edit"), st.integers(0, 100)),
    st.tuples(st.just("crash"), st.integers(1, 4)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("down"), st.sampled_from(["api", "telemetry"])),
    st.tuples(st.just("up"), st.none()),
    st.tuples(st.just("ready"), st.integers(0, 3)),
    st.tuples(st.just("stable changes"), st.none()),
    st.tuples(st.just("newer"), st.none()),
)
POLICIES = st.sampled_from(
    [
        {},
        {"drift": "restore"},
        {
            "stages": [
                {"weight": 20, "minimum": "30s", "approval": "required"},
                {"weight": 100, "minimum": "30s"},
            ]
        },
        {"analysis": {"interval": "10s", "undecided": "rollback", "noData": "rollback", "noDataFor": "1m"}},
        {"stages": [{"weight": 100, "minimum": "30s"}]},
        {"route": {"virtualService": "sockshop", "affinity": {}}, "drift": "restore"},
    ]
)


def do(daemon: Daemon, action: str, value: Any, number: int) -> None:
    match action:
        case "beats":
            beats(daemon, value)
        case "verdicts":
            daemon.script = healthy if value == "healthy" else always(value)
        case "wish":
            daemon.wish(**value)
        case "edit":
            daemon.world.edit({"#0": (a_destination("v1", 100 - value), a_destination("v2", value))})
        case "crash":
            daemon.world.crash_after = len(daemon.world.steps) + value
        case "restart":
            daemon.restart()
        case "down":
            daemon.world.down.add(value)
        case "up":
            daemon.world.down.clear()
        case "ready":
            daemon.change("front-end-v2", ready=value, available=value > 0)
        case "stable changes":
            daemon.change("front-end-v1", template=f"stable-{number}")
        case "newer":
            daemon.deploy("v3")


def beats(daemon: Daemon, count: int) -> None:
    for _ in range(count):
        ended = {name: r.rollout for name, r in daemon.rollouts.records.items() if r.rollout.phase.ended}
        try:
            daemon.run()
        except Crash:
            daemon.restart()
        for name, before in ended.items():
            after = daemon.rollouts.records[name].rollout
            assert (after.phase, after.weight) == (before.phase, before.weight), "an ended rollout moved"
        assert daemon.meter.bugs == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICIES, st.lists(ACTIONS, max_size=12))
def test_whatever_happens_harm_ends_at_stable(policy: dict[str, Any], actions: list[tuple[str, Any]]) -> None:
    daemon = Daemon(policy=a_policy(**policy)).run()
    daemon.deploy()
    beats(daemon, 4)
    for number, (action, value) in enumerate(actions):
        do(daemon, action, value, number)
    daemon.world.down.clear()
    daemon.world.crash_after = None
    was_ended = daemon.rollout.phase.ended
    for name in daemon.world.workloads:
        # traffic is not given back to a stable version without a replica
        daemon.change(name, ready=3, available=True)
    daemon.script = always(Answer.FAIL)
    beats(daemon, 200)
    for record in daemon.rollouts.records.values():
        rollout = record.rollout
        assert rollout.phase.ended or (rollout.phase is Phase.HELD and rollout.stage < 0), (
            rollout.phase,
            rollout.reason,
        )
    if not was_ended and daemon.rollout.phase.ended and daemon.rollout.stage >= 0:
        assert daemon.world.lists == dict(daemon.rollout.entrance.route.origin)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    POLICIES, st.lists(ACTIONS.filter(lambda a: a[0] not in ("edit", "newer", "stable changes")), max_size=12)
)
def test_the_route_ends_as_it_began_or_with_one_destination(
    policy: dict[str, Any], actions: list[tuple[str, Any]]
) -> None:
    daemon = Daemon(policy=a_policy(**policy)).run()
    daemon.deploy()
    beats(daemon, 4)
    for number, (action, value) in enumerate(actions):
        do(daemon, action, value, number)
    daemon.world.down.clear()
    daemon.world.crash_after = None
    daemon.change("front-end-v2", ready=3, available=True)
    daemon.script = healthy
    for _ in range(40):
        beats(daemon, 25)
        rollout = daemon.rollout
        if rollout.phase.ended:
            break
        wishes = daemon.rollouts.records[rollout.name].wishes
        daemon.wish(hold=False, resumed=wishes.resumed + 1, approved_stage=9)
    assert daemon.rollout.phase.ended, daemon.rollout
    succeeded = daemon.rollout.phase is Phase.SUCCEEDED
    assert daemon.world.lists == ({"#0": (a_destination("v2"),)} if succeeded else ORIGIN)
