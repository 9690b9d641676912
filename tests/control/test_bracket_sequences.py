"""Any sequence of verdicts, verbs, crashes, outages, refusals and outside edits, of either service of a
bracket.

Harm of either ends with both at stable; a rollout that nothing is wrong with ends with both at the same
version.
"""

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from canaryd.domain.rollout import Phase
from canaryd.domain.verdict import Answer
from tests.builders import ORIGIN, a_destination
from tests.control.bracket_world import Bracket
from tests.control.daemon_on_fakes import always, healthy
from tests.control.test_sequences import beats

SERVICES = st.sampled_from(["front-end", "carts"])
ACTIONS = st.one_of(
    st.tuples(st.just("beats"), SERVICES, st.integers(1, 40)),
    st.tuples(st.just("verdicts"), SERVICES, st.sampled_from(["healthy", *Answer])),
    st.tuples(
        st.just("wish"),
        SERVICES,
        st.sampled_from([{"hold": True}, {"hold": False}, {"resumed": 1}, {"promote": True}]),
    ),
    st.tuples(st.just("edit"), SERVICES, st.integers(0, 100)),
    st.tuples(st.just("crash"), SERVICES, st.integers(1, 6)),
    st.tuples(st.just("restart"), SERVICES, st.none()),
    st.tuples(st.just("down"), SERVICES, st.sampled_from(["api", "telemetry"])),
    st.tuples(st.just("refuses"), SERVICES, st.sampled_from(["write", "subset"])),
    st.tuples(st.just("up"), SERVICES, st.none()),
    st.tuples(st.just("ready"), SERVICES, st.integers(0, 3)),
    st.tuples(st.just("stable ready"), SERVICES, st.integers(0, 3)),
    st.tuples(st.just("stable changes"), SERVICES, st.none()),
    st.tuples(st.just("newer"), SERVICES, st.none()),
)
POLICIES = st.sampled_from(
    [
        {},
        {"drift": "restore"},
        {"stages": [{"weight": 0, "minimum": "30s"}, {"weight": 100, "minimum": "30s"}]},
        {"analysis": {"interval": "10s", "undecided": "rollback", "noData": "rollback", "noDataFor": "1m"}},
    ]
)


def do(daemon: Bracket, action: str, service: str, value: Any, number: int) -> None:
    part = daemon.parts[service]
    match action:
        case "beats":
            beats(daemon, value)
        case "verdicts":
            daemon.scripts[service] = healthy if value == "healthy" else always(value)
        case "wish":
            daemon.wish(**value)
        case "edit":
            part.edit({"#0": (a_destination("v1", 100 - value), a_destination("v2", value))})
        case "crash":
            daemon.world.crash_after = len(daemon.world.steps) + value
        case "restart":
            daemon.restart()
        case "down":
            part.down.add(value)
        case "refuses":
            part.refuses[value] = "denied by policy"
        case "up":
            well(daemon)
        case "ready":
            daemon.change_of(service, "v2", ready=value, available=value > 0)
        case "stable ready":
            daemon.change_of(service, "v1", ready=value, available=value > 0)
        case "stable changes":
            daemon.change_of(service, "v1", template=f"stable-{number}")
        case "newer":
            daemon.deploy("v3", service)


def well(daemon: Bracket) -> None:
    """All that does not answer, refuses or is not ready does and is again."""
    daemon.world.crash_after = None
    for name, part in daemon.parts.items():
        part.down.clear()
        part.refuses.clear()
        for version in [workload.version for workload in part.workloads.values()]:
            daemon.change_of(name, version, ready=3, available=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICIES, SERVICES, st.lists(ACTIONS, max_size=12))
@example(
    {},
    "front-end",
    [
        ("beats", "front-end", 9),
        ("newer", "front-end", None),
        ("refuses", "front-end", "subset"),
        ("beats", "front-end", 40),
        ("edit", "carts", 40),
    ],
)
@example(
    {"stages": [{"weight": 0, "minimum": "30s"}, {"weight": 100, "minimum": "30s"}]},
    "front-end",
    [("beats", "front-end", 23), ("stable changes", "carts", None)],
)
def test_whatever_happens_harm_of_either_ends_with_both_at_stable(
    policy: dict[str, Any], bad: str, actions: list[tuple[str, str, Any]]
) -> None:
    daemon = Bracket(**policy).run()
    daemon.deploy()
    beats(daemon, 4)
    for number, (action, service, value) in enumerate(actions):
        do(daemon, action, service, value, number)
    well(daemon)
    was_ended = daemon.rollout.phase.ended
    daemon.scripts = {name: always(Answer.FAIL if name == bad else Answer.UNDECIDED) for name in daemon.parts}
    beats(daemon, 150)
    for record in daemon.rollouts.records.values():
        rollout = record.rollout
        # by a person, before it began: for a person
        waits = rollout.phase is Phase.WAITING and "is split" in rollout.reason
        # the other's alone, which began late (its old stable was changed), is not harmed
        spared = bad not in rollout.service_names
        assert rollout.phase.ended or rollout.phase is Phase.HELD or waits or spared, (
            rollout.phase,
            rollout.reason,
        )
        if not rollout.phase.ended:
            assert rollout.stage < 0 or bad not in rollout.service_names, (rollout.stage, rollout.reason)
    last = daemon.rollout
    if not was_ended and last.phase in (Phase.ROLLED_BACK, Phase.SUPERSEDED) and last.stage >= 0:
        for service in last.services:
            assert daemon.parts[service.name].lists == dict(service.route.origin)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    POLICIES,
    st.lists(ACTIONS.filter(lambda one: one[0] not in ("edit", "newer", "stable changes")), max_size=12),
)
def test_both_routes_end_as_they_began_or_both_with_the_new_version(
    policy: dict[str, Any], actions: list[tuple[str, str, Any]]
) -> None:
    daemon = Bracket(**policy).run()
    daemon.deploy()
    beats(daemon, 4)
    for number, (action, service, value) in enumerate(actions):
        do(daemon, action, service, value, number)
    well(daemon)
    daemon.scripts.clear()
    for _ in range(40):
        beats(daemon, 25)
        rollout = daemon.rollout
        if rollout.phase.ended:
            break
        wishes = daemon.rollouts.records[rollout.name].wishes
        daemon.wish(hold=False, resumed=wishes.resumed + 1)
    assert daemon.rollout.phase.ended, daemon.rollout
    assert len(daemon.rollouts.records) == 1
    ends = {"#0": (a_destination("v2"),)} if daemon.rollout.phase is Phase.SUCCEEDED else ORIGIN
    assert [daemon.parts[name].lists for name in ("front-end", "carts")] == [ends, ends]
