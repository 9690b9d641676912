"""A past read out of Prometheus, kept, and judged again: what was live is had again, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.adapters.recording_file import Recording, load, writing
from canaryd.commands.backtest.telemetry_reader import (
    backtest,
    looks_to_read,
    past_between,
    past_of,
    read_out,
)
from canaryd.domain.counts import Counts, Look, Target
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Phase, Rollout
from canaryd.domain.verdict import Answer, Verdict
from canaryd_sandbox.world import World
from tests.builders import NOW, a_policy, a_rollout
from tests.fakes import FakeTelemetry, FakeWorld
from tests.one_process import Live, Released, a_quick_policy


def telemetry_of(world: World) -> PrometheusTelemetry:
    """Another process' own: what the daemon knew of these counters is not known to it."""
    return PrometheusTelemetry(PrometheusAccess(world.prometheus_url, scrape_interval=1.0))


def recorded(rollout: Rollout, world: World, path: Path) -> Recording:
    """The rollout's past, read from Prometheus into a file and from there."""
    past = past_of(rollout, world.now - 1)
    with writing(path, past, "canaryd test") as writer:
        assert read_out(past, telemetry_of(world), writer.write) == {}
    return load(path)


def again(recording: Recording) -> tuple[Verdict, ...]:
    course = backtest(recording.past, recording.past.policy, recording)
    assert course.recorded
    assert course.differences == ()
    return course.verdicts


def by_look(said: Sequence[Verdict]) -> dict[int, Verdict]:
    return {verdict.at: verdict for verdict in said}


# ---------------------------------------------------------------- what was live


@pytest.mark.parametrize("name", ["good", "bad"])
def test_every_verdict_is_had_again_as_it_was_given_live(
    released: Released, name: str, tmp_path: Path
) -> None:
    rollout, said = (
        (released.good, released.said_of_good) if name == "good" else (released.bad, released.said_of_bad)
    )
    verdicts = again(recorded(rollout, released.world, tmp_path / "a.gz"))
    assert len(verdicts) == len(said) > 5
    for live, had in zip(said, verdicts, strict=True):
        assert (had.at, had.answer, had.odds, had.reason) == (live.at, live.answer, live.odds, live.reason)
        assert had == live


def test_the_course_of_a_rollout_on_record_has_its_decisions_counts_and_end(
    released: Released, tmp_path: Path
) -> None:
    recording = recorded(released.bad, released.world, tmp_path / "a.gz")
    course = backtest(recording.past, recording.past.policy, recording)
    told, was = course.rollout, released.bad
    assert (told.phase, told.ended, told.reason, told.spans) == (
        Phase.ROLLED_BACK,
        was.ended,
        was.reason,
        was.spans,
    )
    assert [(decision.at, decision.signal, decision.verdict) for decision in told.decisions] == [
        (decision.at, decision.signal, decision.verdict) for decision in was.decisions
    ]
    assert told.entrance.counted == was.entrance.counted


def test_a_rollout_that_was_held_met_an_outage_and_a_restart_and_a_new_stable_is_had_again(
    tmp_path: Path,
) -> None:
    policy = a_quick_policy(noDataFor="10s")
    policy = policy.model_copy(
        update={"stages": tuple(stage.model_copy(update={"minimum": 16.0}) for stage in policy.stages)}
    )
    with World(realtime=False, start=1.8e9, rate=100.0, folder=tmp_path) as world:
        live = Live(world, policy)
        live.run(20)
        world.deploy("v2", replicas=2)
        live.run(12)
        (record,) = live.rollouts.list()
        live.rollouts.wish("production", record.rollout.name, hold=True)
        live.run(10)
        live.rollouts.wish("production", record.rollout.name, hold=False, resumed=1)
        world.prometheus.faults.down = True
        live.run(18)
        world.prometheus.faults.clear()
        live.restart()
        live.run(10)
        world.deploy("v1", replicas=3, after="1s")  # another template of stable: evidence begins anew
        live.run(30)
        (record,) = live.rollouts.list()
        rollout = record.rollout
        verdicts = by_look(again(recorded(rollout, world, tmp_path / "a.gz")))
    assert {"hold", "no data", "resume"} <= {decision.signal for decision in rollout.decisions}, (
        rollout.decisions
    )
    assert any(span.fresh for span in rollout.spans)
    # What telemetry had not yet when it was live has come since; what was judged live is had again.
    said = {at: one for at, one in by_look(live.said).items() if at in verdicts}
    assert len(said) > 25
    assert {at: verdicts[at] for at in said} == said


def test_a_version_that_a_compared_query_rolled_back_is_had_again_with_stable_s_values_and_their_past(
    tmp_path: Path,
) -> None:
    with World(realtime=False, start=1.8e9, rate=100.0, folder=tmp_path) as world:
        live = Live(world, a_quick_policy())
        live.run(150)  # long enough to know how far stable's value drifts by itself
        rollout = live.release("v2", cpu=0.6)  # within its limit, and twice stable's
        recording = recorded(rollout, world, tmp_path / "a.gz")
        verdicts = again(recording)
    assert rollout.phase is Phase.ROLLED_BACK
    assert rollout.reason.startswith("cpu 0.6")
    assert len(live.said) > 8
    assert list(verdicts) == live.said
    query = rollout.policy.analysis.queries[0]
    assert recording.past.queries == (query.promql, query.of_stable)
    target = Target(
        "production", (rollout.entrance.stable_workload,), (rollout.entrance.canary_workload,), since=0
    )
    before = recording.measure(target, query.of_stable, recording.past.start - 120, recording.past.start, 2)
    assert sum(value is not None for value in before) > 50


def test_another_tolerance_is_tried_on_the_recorded_values_and_another_comparison_is_not(
    released: Released, tmp_path: Path
) -> None:
    recording = recorded(released.good, released.world, tmp_path / "a.gz")

    def with_query(**changes: object) -> Policy:
        data = a_quick_policy().dump()
        data["analysis"]["metrics"][2]["query"].update(changes)
        return Policy.load(data)

    assert backtest(recording.past, with_query(tolerated="50%"), recording).verdicts
    with pytest.raises(Rejected, match="whose values were not recorded"):
        backtest(recording.past, with_query(promql='min(sandbox_cpu{pod=~"$canary_pods"})'), recording)


# ---------------------------------------------------------------- other policies


def test_another_policy_is_imagined_on_the_same_counts(released: Released, tmp_path: Path) -> None:
    recording = recorded(released.bad, released.world, tmp_path / "a.gz")
    data = a_quick_policy().dump()
    data["analysis"]["metrics"][0]["errors"]["max"] = "0.1%"
    data["stages"][0]["weight"] = 5
    strict = backtest(recording.past, Policy.load(data), recording)
    assert not strict.recorded
    assert strict.rollout.phase is Phase.ROLLED_BACK
    assert strict.rollout.ended is not None
    assert released.bad.ended is not None
    assert strict.rollout.ended <= released.bad.ended
    assert "where at most 0.1% is allowed" in strict.rollout.reason


def test_longer_looks_are_made_up_of_the_recorded_ones(released: Released, tmp_path: Path) -> None:
    recording = recorded(released.good, released.world, tmp_path / "a.gz")
    data = a_quick_policy().dump()
    data["analysis"]["interval"] = "6s"
    verdicts = backtest(recording.past, Policy.load(data), recording).verdicts
    assert {after.at - before.at for before, after in pairwise(verdicts)} == {6}
    assert verdicts[0].at == recording.past.start + 6


def test_the_same_past_read_by_versions_and_time_gives_the_same_counts(
    released: Released, tmp_path: Path
) -> None:
    recording = recorded(released.good, released.world, tmp_path / "a.gz")
    past = recording.past
    plain = Recording(
        past_between(past.policy, ("v1", "v2"), ("front-end-v1", "front-end-v2"), past.start, past.end)
    )
    read_out(plain.past, telemetry_of(released.world), plain.write)
    assert (plain.past.start, plain.past.end) == (past.start, past.end)
    target = Target("production", ("front-end-v1",), ("front-end-v2",), since=0)
    assert [(look.stable, look.canary) for look in plain.read([target], past.start, past.end, 2)[target]] == [
        (look.stable, look.canary) for look in recording.read([target], past.start, past.end, 2)[target]
    ]


# ---------------------------------------------------------------- on fakes


@dataclass
class Silent(FakeTelemetry):
    """Counts, and a query that fails. refuses: for good; else it does not answer."""

    refuses: bool = True

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        raise Rejected("two series") if self.refuses else Unavailable("no answer")


def a_query_policy() -> Policy:
    return a_policy(
        analysis={
            "interval": "10s",
            "metrics": [{"errors": {}}, {"query": {"name": "cpu", "promql": "cpu", "max": 1}}],
        }
    )


def a_past(policy: Policy | None = None, seconds: float = 600) -> Past:
    return past_between(
        policy or a_policy(), ("v1", "v2"), ("front-end-v1", "front-end-v2"), NOW, NOW + seconds
    )


def test_a_query_that_is_refused_has_no_value_and_says_why_and_nothing_passes_without_it() -> None:
    recording = Recording(a_past(a_query_policy()))
    assert read_out(recording.past, Silent(FakeWorld()), recording.write) == {"cpu": "two series"}
    course = backtest(recording.past, recording.past.policy, recording)
    assert Answer.PASS not in {verdict.answer for verdict in course.verdicts}


def test_an_outage_in_mid_reading_ends_it() -> None:
    with pytest.raises(Unavailable):
        read_out(a_past(a_query_policy()), Silent(FakeWorld(), refuses=False), lambda look, values: None)
    with pytest.raises(Unavailable):
        read_out(a_past(), FakeTelemetry(FakeWorld(down={"telemetry"})), lambda look, values: None)


def test_all_looks_are_read_once_and_counted_as_they_are() -> None:
    for rollout in (None, a_rollout(phase=Phase.HELD)):
        past = a_past(seconds=4000) if rollout is None else past_of(rollout, NOW + 4000)
        taken: list[Look] = []
        told: list[int] = []
        read_out(
            past,
            FakeTelemetry(FakeWorld()),
            lambda look, values, taken=taken: taken.append(look),
            told.append,
        )
        assert len({(look.start, look.end) for look in taken}) == len(taken) == sum(told)
        assert sum(told) <= looks_to_read(past)
        assert (taken[0].start, max(look.end for look in taken)) == (past.since, past.end)
        assert past.since == past.start - 3600


def test_the_time_must_hold_a_whole_look() -> None:
    with pytest.raises(Rejected, match="at least one look of 10 s, but is 9 s long"):
        a_past(seconds=9)


def test_a_rollout_without_looks_has_no_past() -> None:
    with pytest.raises(
        Rejected, match=r"front-end-v2-hash-v2 has no looks yet: none of its stages has begun \(Waiting"
    ):
        past_of(a_rollout(spans=(), phase=Phase.WAITING, reason="waiting"), NOW + 600)


def test_a_policy_of_another_service_is_refused() -> None:
    other = a_policy(service={"name": "cart", "namespace": "production", "selector": {"app": "cart"}})
    with pytest.raises(
        Rejected, match="is the policy of production/cart, and the looks are of production/front-end"
    ):
        backtest(a_past(), other, FakeTelemetry(FakeWorld()))


def test_a_past_shorter_than_a_look_of_the_policy_is_refused() -> None:
    with pytest.raises(Rejected, match="holds no whole look of 60 s"):
        backtest(a_past(seconds=50), a_policy(analysis={"interval": "60s"}), FakeTelemetry(FakeWorld()))


def test_a_past_that_ends_before_the_stage_does_leaves_it_there() -> None:
    course = backtest(a_past(seconds=60), a_policy(), FakeTelemetry(FakeWorld()))
    assert (course.rollout.phase, len(course.verdicts)) == (Phase.PROGRESSING, 6)


def test_a_rollout_under_way_is_read_up_to_what_can_be_read() -> None:
    past = past_of(a_rollout(began=NOW - 3.5), NOW + 47)
    assert (past.start, past.end) == (int(NOW) + 6, int(NOW) + 46)
    assert past.rollout == a_rollout(began=NOW - 3.5, origin={})


def make_counts(start: int, end: int) -> Look:
    return Look(start, end, (), {"a": Counts(900, 9)}, {}, True, {})


def test_a_past_without_traffic_of_the_canary_holds_for_want_of_data() -> None:
    course = backtest(a_past(), a_policy(), FakeTelemetry(FakeWorld(), make_counts))
    assert {verdict.answer for verdict in course.verdicts} == {Answer.NO_DATA}
    assert course.rollout.phase is Phase.HELD


def test_a_version_that_is_down_is_had_again_by_the_parts_of_its_looks(tmp_path: Path) -> None:
    """Looks of 10 s are read in parts of 5 s, and the last one ended with the part that showed the harm. The
    policy's query keeps its values at the ends of whole looks, also where parts of other looks end there."""
    with World(realtime=False, start=1.8e9, rate=100.0, folder=tmp_path) as world:
        live = Live(world, a_quick_policy("20s", interval="10s"))
        live.run(40)
        rollout = live.release("v2", errors=1.0)
        assert rollout.phase is Phase.ROLLED_BACK
        assert rollout.harm_check_interval == 5
        assert "too plain to wait for odds" in rollout.reason
        recording = recorded(rollout, world, tmp_path / "a.gz")
    verdicts = again(recording)
    assert verdicts[-1].answer is Answer.FAIL
    assert verdicts == tuple(live.said)
    target = Target("production", ("front-end-v1",), ("front-end-v2",), since=recording.past.since)
    first = rollout.spans[0].start
    assert None not in recording.measure(target, recording.past.queries[0], first, first + 10, 10)
