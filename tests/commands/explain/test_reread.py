"""A rollout on record is read again by the walk of a live one: the same windows, the same verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from canaryd.commands.explain.reread import looks_to_reread, reread
from canaryd.control.evidence_stream import EvidenceStream
from canaryd.domain.counts import HISTORY_LOOKS, Target
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.rollout import Phase, Rollout, Span
from tests.builders import NOW, a_policy, a_rollout
from tests.fakes import FakeTelemetry, FakeWorld

START = int(NOW)


@dataclass
class Silent(FakeTelemetry):
    """Counts, and a query that fails. refuses: for good; else it does not answer."""

    refuses: bool = True

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        raise Rejected("two series") if self.refuses else Unavailable("no answer")


def ended(**changes: object) -> Rollout:
    """Two stages of 20 looks, the route in change for 13 s between them."""
    spans = (Span(0, 10, START + 5, START + 205), Span(1, 25, START + 218, START + 418))
    return a_rollout(**{"spans": spans, "phase": Phase.ROLLED_BACK, "ended": NOW + 420, **changes})


def test_what_is_heard_is_what_a_live_walk_hears_with_its_stretches_and_all_that_was_counted() -> None:
    rollout = ended()
    live = list(
        EvidenceStream(rollout, rollout.entrance, FakeTelemetry(FakeWorld()), 0.0).next(rollout, NOW + 1000)
    )
    again = reread(rollout, FakeTelemetry(FakeWorld()), NOW + 1000)
    assert again.transcript.verdicts == [heard.verdict for heard in live]
    assert [(step.look, step.compared) for step in again.transcript.steps] == [
        (heard.look, heard.compared) for heard in live
    ]
    assert [(step.look.start, step.opened) for step in again.transcript.steps if step.opened] == [
        (span.start, (span,)) for span in rollout.spans
    ]
    assert (again.counted, again.counted_to) == (live[-1].counted, START + 418)
    assert len(again.transcript.compared) == 40
    assert len(again.transcript.history) == HISTORY_LOOKS


def test_what_was_counted_and_saved_before_is_no_reason_to_leave_it_out() -> None:
    """A live walk hands out only what the record lacks."""
    assert (
        len(reread(ended(counted_to=START + 418), FakeTelemetry(FakeWorld()), NOW + 1000).transcript.compared)
        == 40
    )


def test_looks_whose_samples_are_not_in_yet_are_not_read() -> None:
    under_way = ended(spans=(Span(0, 10, START),), phase=Phase.PROGRESSING, ended=None)
    again = reread(under_way, FakeTelemetry(FakeWorld()), NOW + 100, delay=15)
    assert [verdict.at for verdict in again.transcript.compared][-1] == START + 80


def test_it_is_told_how_many_looks_are_read() -> None:
    told: list[int] = []
    reread(ended(), FakeTelemetry(FakeWorld()), NOW + 1000, read=told.append)
    # those of other lengths, where the weight was in change
    assert abs(sum(told) - looks_to_reread(ended(), NOW + 1000)) <= 3


def test_a_refused_query_has_no_value_and_an_outage_ends_the_reading() -> None:
    policy = a_policy(
        analysis={
            "interval": "10s",
            "metrics": [{"errors": {}}, {"query": {"name": "cpu", "promql": "cpu", "max": 1}}],
        }
    )
    again = reread(ended(policy=policy), Silent(FakeWorld()), NOW + 1000)
    assert again.problems == {"cpu": "two series"}
    assert {step.values["cpu"] for step in again.transcript.steps if step.compared} == {None}
    with pytest.raises(Unavailable):
        reread(ended(policy=policy), Silent(FakeWorld(), refuses=False), NOW + 1000)
    with pytest.raises(Unavailable):
        reread(ended(), FakeTelemetry(FakeWorld(down={"telemetry"})), NOW + 1000)
