"""What a rollout's telemetry says between its looks, in silence, and where histograms change."""

from itertools import pairwise

from canaryd.domain.counts import Counts, Look
from canaryd.domain.rollout import Held, Phase
from canaryd.domain.verdict import Answer
from tests.control.daemon_on_fakes import Daemon, always

SERVED = {"v1-a": Counts(900, 9)}, {"v2-a": Counts(100, 1)}


def test_silence_at_full_weight_is_no_data_and_lets_nothing_pass() -> None:
    daemon = Daemon(lambda end, span: Answer.UNDECIDED if span.weight == 100 else Answer.PASS).with_canary(
        100
    )
    silent_from = int(daemon.clock.at)
    daemon.telemetry.look = lambda start, end: Look(
        start, end, (), *(SERVED if start < silent_from else ({}, {"v2-a": Counts()}))
    )
    daemon.script = lambda end, span: Answer.NO_DATA if end > silent_from else Answer.UNDECIDED
    daemon.run(1800)
    assert (daemon.rollout.phase, daemon.rollout.held, daemon.rollout.weight) == (
        Phase.HELD,
        Held.NO_DATA,
        100,
    )


def test_the_deadline_waits_for_a_look_that_says_something() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary(10)
    stage = daemon.policy.stages[0]
    quiet = int(daemon.rollout.spans[0].start + stage.deadline)
    daemon.script = lambda end, span: Answer.NO_DATA if quiet - 20 <= end < quiet + 25 else Answer.UNDECIDED
    weights = {}
    while daemon.clock.at < quiet + 60:
        daemon.run()
        weights[int(daemon.clock.at)] = daemon.rollout.weight
    assert all(weight == 10 for at, weight in weights.items() if at < quiet + 25)
    assert daemon.rollout.weight == 25


def test_a_long_wait_before_the_first_look_is_read_in_looks_of_the_usual_length() -> None:
    daemon = Daemon().run()
    daemon.deploy(available=False, ready=0)
    daemon.run(3607)
    daemon.change("front-end-v2", available=True, ready=2)
    rollout = daemon.run_until(
        lambda r: r.counted_to is not None and bool(r.spans) and r.counted_to > r.spans[0].start
    )
    windows = [
        window for window in daemon.telemetry.reads if rollout.began <= window[0] < rollout.spans[0].start
    ]
    assert {step for *_, step in windows[:-1]} == {10}
    assert windows[-1][2] <= 10
    assert windows[-1][1] == rollout.spans[0].start
    assert all(one[1] == following[0] for one, following in pairwise(windows))


def test_a_histogram_with_fewer_bounds_in_mid_rollout_stops_no_verdict() -> None:
    daemon = Daemon(always(Answer.UNDECIDED)).with_canary()
    until = int(daemon.clock.at)

    def look(start: int, end: int) -> Look:
        wide = (Counts(900, 9, 900, (1, 2, 3)), Counts(100, 1, 100, (1, 2, 3)))
        narrow = (Counts(900, 9, 900, (1,)), Counts(100, 1, 100, (1,)))
        stable, canary = wide if end < until else narrow
        return Look(
            start, end, (1.0, 2.0, 3.0) if end < until else (1.0,), {"v1-a": stable}, {"v2-a": canary}
        )

    daemon.telemetry.look = look
    daemon.restart()
    before = daemon.run(100).rollout.entrance.counted["v2-a"].requests
    assert daemon.run(100).rollout.entrance.counted["v2-a"].requests == before + 1000
    assert daemon.meter.bugs == 0


def test_what_was_counted_before_an_outage_and_read_after_it_ends_no_hold() -> None:
    """The API server and telemetry are both away; back, the looks from before come first, then those without
    a sample."""
    daemon = Daemon(always(Answer.UNDECIDED), analysis={"interval": "10s", "noDataFor": "1m"}).with_canary()
    daemon.world.down.add("telemetry")
    daemon.run(200)
    assert daemon.rollout.held is Held.NO_DATA
    back = int(daemon.clock.at)
    daemon.telemetry.look = lambda start, end: (
        Look(start, end, (), *SERVED)
        if end < back - 100 or end > back + 60
        else Look(start, end, sampled=False)
    )
    daemon.world.down.clear()
    daemon.run(50)
    assert daemon.rollout.held is Held.NO_DATA
    daemon.run(60)
    assert daemon.rollout.phase is Phase.PROGRESSING
    told = [news.event for news in daemon.rollout.announcements if news.event in ("held", "resumed")]
    assert told == ["held", "resumed"]


def test_a_policy_that_can_never_act_is_told_about_before_a_version_comes() -> None:
    astray = Daemon()
    astray.world.route_problem = "there is no VirtualService sockshop"
    astray.run(20)
    assert astray.rollouts.templates.problem == "there is no VirtualService sockshop"
    empty = Daemon()
    empty.world.workloads.clear()
    empty.run(20)
    assert "app=front-end" in next(iter(empty.beat.supervisor.problems.values()))
