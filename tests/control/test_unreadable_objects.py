"""What cannot be read of a service, be it for want of a right or of an answer: nothing advances, and harm
that is seen still ends it."""

from collections.abc import Callable

import pytest

from canaryd.domain.ports import KnownTemplates, Unavailable
from canaryd.domain.rollout import Held, Phase
from canaryd.domain.verdict import Answer
from tests.builders import a_destination
from tests.control.bracket_world import Bracket, Part
from tests.control.daemon_on_fakes import Daemon, always
from tests.fakes import FakeWorld

UNDECIDED = {"front-end": always(Answer.UNDECIDED), "carts": always(Answer.UNDECIDED)}
DENIED = "deployments.apps is forbidden"


def _may_not_list(world: FakeWorld) -> None:
    world.refuses["list"] = DENIED


def _may_not_read(world: FakeWorld) -> None:
    world.refuses["read"] = DENIED


def _gets_no_list(world: FakeWorld) -> None:
    world.down.add("deployments")


def _gets_no_route(world: FakeWorld) -> None:
    world.down.add("routes")


def mend(world: FakeWorld) -> None:
    world.refuses.clear()
    world.down.clear()


WAYS = [_may_not_list, _may_not_read, _gets_no_list, _gets_no_route]
Break = Callable[[FakeWorld], None]


def broken(part: Part, how: Break) -> str:
    """Breaks it; what is said of it then."""
    how(part)
    return {_may_not_list: DENIED, _may_not_read: DENIED, _gets_no_list: "deployments does not answer"}.get(
        how, "routes does not answer"
    )


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("bad", ["front-end", "carts"])
def test_harm_of_any_service_is_found_whatever_cannot_be_read_of_another(how: Break, bad: str) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    broken(daemon.parts["carts"], how)
    daemon.run(30)
    assert daemon.rollout.phase is Phase.PROGRESSING
    daemon.scripts[bad] = always(Answer.FAIL)
    daemon.run(30)
    assert daemon.rollout.reason.startswith(f"{bad}: the evidence says fail")
    assert daemon.weights()[0] == 0, "what can be written is"
    if how in (_may_not_read, _gets_no_route):
        assert daemon.rollout.phase is Phase.ROLLING_BACK
        assert "carts: it cannot be read: " in daemon.rollout.reason
        mend(daemon.parts["carts"])
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.weights("v1") == [100, 100]


@pytest.mark.parametrize("how", WAYS)
def test_nothing_advances_until_it_can_be_read_and_the_reason_names_the_service(how: Break) -> None:
    daemon = Bracket().begun()
    reason = daemon.rollout.reason
    said = broken(daemon.parts["carts"], how)
    daemon.run(300)
    assert (daemon.rollout.phase, daemon.weights()) == (Phase.PROGRESSING, [10, 10])
    assert daemon.rollout.reason == f"{reason}; nothing advances: carts: {said}"
    daemon.wish(promote=True, approved_stage=1)
    daemon.run(20)
    assert daemon.weights() == [10, 10]
    mend(daemon.parts["carts"])
    daemon.run(10)
    assert daemon.weights() == [100, 100]
    assert "nothing advances" not in daemon.rollout.reason


@pytest.mark.parametrize("how", WAYS)
def test_a_rollout_that_waits_for_its_versions_says_what_cannot_be_read(how: Break) -> None:
    daemon = Bracket().run()
    daemon.deploy(available=False)
    daemon.run(10)
    said = broken(daemon.parts["carts"], how)
    for service in ("front-end", "carts"):
        daemon.change_of(service, "v2", available=True)
    daemon.run(30)
    waits = "waiting until front-end-v2 and carts-v2 are available"
    assert (daemon.rollout.phase, daemon.rollout.reason) == (
        Phase.WAITING,
        f"{waits}; nothing advances: carts: {said}",
    )
    daemon.change_of("front-end", "v2", failed="its progress deadline is exceeded")
    daemon.ends_as(Phase.ROLLED_BACK)


@pytest.mark.parametrize("how", WAYS)
def test_a_service_that_cannot_be_read_keeps_the_next_rollout_from_beginning(how: Break) -> None:
    daemon = Bracket().run()
    said = broken(daemon.parts["carts"], how)
    daemon.deploy("v2", "front-end")
    daemon.run(120)
    assert not daemon.rollouts.records
    assert daemon.rollouts.notes["front-end"].problem == f"carts: {said}"
    mend(daemon.parts["carts"])
    daemon.run_until(lambda r: r.weight == 10)
    assert not daemon.rollouts.notes["front-end"].problem


@pytest.mark.parametrize("how", WAYS)
def test_a_newer_version_supersedes_nothing_while_it_could_not_begin(how: Break) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    broken(daemon.parts["carts"], how)
    daemon.deploy("v3", "front-end")
    daemon.run(30)
    assert daemon.weights() == [10, 10]
    mend(daemon.parts["carts"])
    daemon.run_until(lambda r: r.entrance.canary == "v3")


def test_a_stable_version_that_is_down_is_not_taken_for_ready_when_it_is_not_known() -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.change_of("carts", "v1", ready=0)
    daemon.run(10)
    broken(daemon.parts["carts"], _may_not_list)
    daemon.run(30)
    assert daemon.rollout.held is Held.STABLE_NOT_READY
    daemon.scripts["front-end"] = always(Answer.FAIL)
    daemon.run(30)
    assert "but no replica of carts-v1 is ready to take the traffic back" in daemon.rollout.reason
    daemon.change_of("carts", "v1", ready=3)
    mend(daemon.parts["carts"])
    daemon.ends_as(Phase.ROLLED_BACK)


@pytest.mark.parametrize("how", [_may_not_read, _gets_no_route])
def test_an_edit_is_not_taken_for_undone_nor_a_resume_for_obeyed_while_the_route_is_not_known(
    how: Break,
) -> None:
    daemon = Bracket(scripts=UNDECIDED).begun()
    daemon.parts["carts"].edit({"web": (a_destination("v1", 90), a_destination("v2", 10))})
    daemon.run(10)
    broken(daemon.parts["carts"], how)
    daemon.run(10)
    daemon.wish(resumed=1)
    daemon.run(20)
    assert daemon.rollout.held is Held.DRIFT
    mend(daemon.parts["carts"])
    daemon.run(10)
    assert daemon.rollout.phase is Phase.PROGRESSING


@pytest.mark.parametrize("how", WAYS)
def test_a_step_back_at_full_weight_is_made_as_far_as_it_can_be(how: Break) -> None:
    daemon = Bracket().begun()
    daemon.run_until(lambda r: r.weight == 100 and r.span is not None and r.span.weight == 100)
    broken(daemon.parts["carts"], how)
    daemon.scripts["front-end"] = always(Answer.ALARM)
    daemon.run_until(lambda r: r.weight == 50)
    daemon.scripts |= UNDECIDED
    daemon.run(10)
    assert daemon.weights()[0] == 50
    mend(daemon.parts["carts"])
    daemon.run(10)
    assert daemon.weights() == [50, 50]


@pytest.mark.parametrize("how", WAYS)
def test_a_service_by_itself_is_watched_over_as_well(how: Break) -> None:
    daemon = Daemon().with_canary()
    how(daemon.world)
    daemon.run(300)
    assert daemon.world.weight("v2") == 10
    assert "; nothing advances: " in daemon.rollout.reason
    daemon.script = always(Answer.FAIL)
    daemon.run(20)
    assert daemon.rollout.reason.startswith("the evidence says fail")
    mend(daemon.world)
    daemon.ends_as(Phase.ROLLED_BACK)
    assert daemon.world.weight("v2") == 0


def test_what_is_kept_of_a_service_and_cannot_be_had_is_said_too(logs: list[dict[str, object]]) -> None:
    daemon = Bracket().begun()

    def away(policy: object) -> KnownTemplates:
        raise Unavailable("the ConfigMap cannot be had")

    daemon.rollouts.known = away  # type: ignore[method-assign]
    daemon.run(200)
    assert daemon.weights() == [10, 10]
    assert (
        "nothing advances: front-end: the ConfigMap cannot be had; carts: the ConfigMap cannot be had"
        in daemon.rollout.reason
    )
    told = [line for line in logs if line["event"] == "bracket.unreadable"]
    assert len(told) == 1
