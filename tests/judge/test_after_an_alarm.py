"""The stage that an alarm at full weight leads back to: it has to rule out what alarmed, where it did."""

from dataclasses import replace

import numpy as np
import pytest

from canaryd.domain.counts import Look
from canaryd.domain.lifecycle import Signal, stage_signal
from canaryd.domain.rollout import Phase, Span
from canaryd.domain.verdict import Answer, Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.metric_evidence import Excess
from canaryd.report.findings import verdict_from
from tests.builders import NOW, a_rollout
from tests.judge.looks import START, a_ladder, a_look, some_counts, verdict_after

SLOW = 0.10  # of stable's requests, which take 200 ms; the others take 40


class Mixture:
    """A service of hits and misses: looks of 1,500 requests, with exact shares but for chance."""

    def __init__(self, seed: int = 1) -> None:
        self._rng, self.number = np.random.default_rng(seed), 0

    @property
    def now(self) -> int:
        return START + 10 * self.number

    def look(self, weight: float, slow: float = SLOW, usual_ms: float = 40.0, errors: float = 0.002) -> Look:
        """slow: share of the canary's requests that take 200 ms; usual_ms: of the others; errors: of the
        canary's that fail."""
        self.number += 1

        def version(name: str, share: float, failing: float, usual: float, percent: float):
            served = round(1500 * percent / 100 / 3)
            return {
                f"{name}{i}": some_counts(
                    served,
                    int(self._rng.binomial(served, failing)),
                    int(self._rng.binomial(served, share)),
                    usual_ms=usual,
                )
                for i in range(3)
                if served
            }

        return a_look(
            self.number - 1,
            version("s", SLOW, 0.002, 40.0, 100 - weight),
            version("c", slow, errors, usual_ms, weight),
        )


def stepped_back(service: Mixture, **fault: float) -> Judge:
    """Four minutes at 50, full weight until it alarms, and back at 50."""
    judge = Judge(a_ladder(), [service.look(0) for _ in range(120)])
    judge.open(Span(2, 50, service.now))
    for _ in range(24):
        verdict_after(judge, service.look(50))
    judge.open(Span(3, 100, service.now))
    for _ in range(40):
        if verdict_after(judge, service.look(100, **fault)).answer is Answer.ALARM:
            judge.open(Span(2, 50, service.now))
            return judge
    pytest.fail("no alarm came")


def answers(judge: Judge, looks: list[Look]) -> list[Answer]:
    return [verdict_after(judge, look).answer for look in looks]


TAIL = {"slow": 0.20, "usual_ms": 20.0}


def test_a_faster_body_does_not_outvote_the_tail_that_alarmed():
    service = Mixture()
    judge = stepped_back(service, **TAIL)
    looks = [service.look(50, slow=0.125, usual_ms=20.0) for _ in range(60)]
    assert Answer.PASS not in answers(judge, looks)


def test_a_false_alarm_is_ruled_out_side_by_side_and_passes():
    service = Mixture()
    judge = stepped_back(service, **TAIL)
    assert Answer.PASS in answers(judge, [service.look(50) for _ in range(60)])


def test_without_an_alarm_the_same_stage_asks_for_less():
    """A quarter more of what alarmed is to be ruled out, and no less where the policy asks for less."""
    service = Mixture()
    judge = Judge(a_ladder(), [service.look(0) for _ in range(120)])
    judge.open(Span(2, 50, service.now))
    verdict_after(judge, service.look(50))
    before = judge.latency.borders(3)
    back = stepped_back(Mixture(), **TAIL)
    verdict_after(back, service.look(50))
    after = back.latency.borders(3)
    places = back.latency.alarm.places[1:]
    assert places.any()
    assert not places.all()
    assert (after.unacceptable[places] >= 1.25 * after.tolerated[places] - 1e-9).all()
    assert (after.unacceptable[places] > before.unacceptable[places]).all()
    assert after.unacceptable[~places] == pytest.approx(before.unacceptable[~places], rel=0.2)


def at_the_deadline(judge: Judge, verdict: Verdict) -> Signal | None:
    rollout = a_rollout(
        policy=judge.policy, phase=Phase.PROGRESSING, stage=2, weight=50, spans=(judge.span,), clock=1000.0
    )
    return stage_signal(rollout, replace(verdict, at=verdict.at + 900), NOW)


def test_at_the_deadline_what_alarmed_holds_and_the_hold_says_what_to_look_at():
    service = Mixture()
    judge = stepped_back(service, **TAIL)
    for _ in range(6):
        judge.observe(service.look(50, slow=0.125))
    assessment = judge.observe(service.look(50, slow=0.125))
    verdict = verdict_from(assessment)
    assert verdict.contested
    assert verdict.odds < 3
    assert at_the_deadline(judge, verdict) is Signal.STUCK
    assert at_the_deadline(judge, replace(verdict, contested=False)) is Signal.LET_PASS
    assert "at full weight slower than" in verdict.reason
    assert "on record: look at that" in verdict.reason


def test_one_bound_that_speaks_for_harm_stops_a_pass():
    """No alarm came before; the body is twice as fast."""
    service = Mixture()
    judge = Judge(a_ladder(), [service.look(0) for _ in range(120)])
    judge.open(Span(0, 10, service.now))
    heard = [verdict_after(judge, service.look(10, slow=0.17, usual_ms=20.0)) for _ in range(40)]
    speaking = [verdict for verdict in heard if verdict.contested]
    assert speaking
    assert Answer.PASS not in {verdict.answer for verdict in speaking}


@pytest.mark.parametrize(("seen", "unacceptable"), [(0.0024, 1.375), (0.005, 2.5**0.5), (0.02, 2.0)])
def test_errors_that_alarmed_are_to_be_ruled_out_halfway_to_what_was_seen(seen, unacceptable):
    """Of 0.2% on record: at least a quarter more than the tenth that is tolerated, and at most twice as much,
    which the stage has to rule out anyway."""
    judge = Judge(a_ladder(), [Mixture().look(0) for _ in range(120)])
    places = np.arange(8) == 0
    judge.errors.begin_stage(100, Excess(places, np.full(8, seen), np.full(8, 0.002)))
    assert judge.errors.unacceptable == pytest.approx(unacceptable)
    judge.errors.begin_stage(100)
    assert judge.errors.unacceptable == pytest.approx(2.0)


def test_the_fault_that_alarmed_is_rolled_back_within_a_few_looks_side_by_side():
    """A twentieth fails: what the good record before has cost is given back with the alarm."""
    service = Mixture()
    judge = stepped_back(service, errors=0.05)
    found = answers(judge, [service.look(50, errors=0.05) for _ in range(4)])
    assert Answer.FAIL in found[:3]


def test_evidence_gathered_before_the_alarm_is_kept_where_it_spoke_for_harm():
    service = Mixture()
    judge = Judge(a_ladder(), [service.look(0) for _ in range(120)])
    judge.open(Span(2, 50, service.now))
    while judge.errors.odds < 5:
        verdict_after(judge, service.look(50, errors=0.012))
    odds = judge.errors.odds
    judge.open(Span(3, 100, service.now))
    verdict_after(judge, service.look(100, errors=0.1))
    judge.open(Span(2, 50, service.now))
    assert judge.errors.odds == pytest.approx(odds, rel=1e-6)
