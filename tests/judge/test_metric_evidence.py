"""What a rollback may rest on, where a single replica may be the whole of the trouble."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from canaryd.domain.policy.metrics import Errors
from canaryd.judge.comparisons import HARM, Comparisons, Unit, fold_all
from canaryd.judge.errors import ErrorEvidence
from canaryd.judge.metric_evidence import SIBLINGS_AGREE, TOLD_APART, odds_of, past_says
from canaryd.judge.replica_variation import Siblings
from canaryd.stats.betabinomial import BURSTIEST_LIMIT, log_past

NOW_AND_THEN = {2, 6, 10, 14, 18, 22, 26, 28, 29}  # looks
IN_A_SPELL = {4, 5, 6, 7, 8, 9, 10, 28, 29}


def a_version(requests: float, failures: float):
    return np.array([requests, failures, 0.0, 0.0])


@dataclass
class Heard:
    """Errors against a calm past; 2 or 3 of stable's 450 requests a look fail, now and then one of each
    sibling's 17."""

    evidence: ErrorEvidence = field(
        default_factory=lambda: ErrorEvidence(
            Errors(), 1.0, np.array([a_version(450, 2), a_version(450, 3)] * 180), Siblings(0)
        )
    )
    units: list[Unit] = field(default_factory=list)

    def observe(
        self, looks: int, failing: set[int], siblings: bool = True, sick: frozenset[int] = frozenset()
    ) -> "Heard":
        """failing: looks in which 2 of the first replica's requests fail; sick: those in which 1 of each
        sibling's does, too."""
        self.cap = self.evidence.comparisons.cap.copy()
        for look in range(looks):
            canary = {"c0": a_version(17, 2 * (look in failing))}
            if siblings:
                canary |= {f"c{i}": a_version(17, look % 12 == 6 * (i - 1) or look in sick) for i in (1, 2)}
            closed = self.evidence.observe(a_version(450, 2 + look % 2), canary)
            self.units += [unit for _, unit in closed]
            fold_all(closed)
            self.evidence.settle()
        return self

    def odds_in_blocks(self, length: int) -> float:
        """By hand: the counts of so many units added up, nothing known of the past."""
        zero = np.zeros_like(self.evidence.comparisons.log_past)
        blocks = Comparisons(self.cap, zero, np.zeros(2))
        for last in range(length, len(self.units) + 1, length):
            of = self.units[last - length : last]
            blocks.fold(
                replace(
                    of[-1],
                    stable_events=sum(one.stable_events for one in of),
                    stable_requests=sum(one.stable_requests for one in of),
                    canary_events=sum(one.canary_events for one in of),
                    canary_requests=sum(one.canary_requests for one in of),
                )
            )
        return odds_of(self.evidence.log_odds(blocks.whole))


def test_before_replicas_were_compared_for_long_enough_blocks_speak_though_nothing_lasts():
    """After a few looks nobody can know how long it lasts: one and a half looks, and blocks of three times
    that, or the next longer."""
    heard = Heard().observe(TOLD_APART - 1, NOW_AND_THEN)
    assert heard.evidence.harmful_odds() == pytest.approx(heard.odds_in_blocks(5), rel=1e-4)
    assert heard.evidence.odds > 2 * heard.evidence.harmful_odds()


def test_once_they_were_and_no_single_one_s_trouble_lasts_the_odds_are_as_they_are():
    heard = Heard().observe(TOLD_APART, NOW_AND_THEN)
    assert heard.evidence.harmful_odds() == heard.evidence.odds
    assert heard.evidence.odds > 1.5 * heard.odds_in_blocks(5)


@pytest.mark.parametrize("looks", [TOLD_APART, 2 * TOLD_APART])
def test_a_single_replica_s_trouble_that_lasts_is_heard_in_blocks_however_long_they_were_compared(looks):
    """It lasts about four looks, of which three times as many are more than 10 and at most 20."""
    heard = Heard().observe(looks, IN_A_SPELL | {look + TOLD_APART for look in IN_A_SPELL})
    assert heard.evidence.harmful_odds() == pytest.approx(heard.odds_in_blocks(20), rel=1e-4)
    assert heard.evidence.odds > 5 * heard.evidence.harmful_odds()


def test_where_the_siblings_speak_against_the_canary_too_the_odds_are_as_they_are():
    heard = Heard().observe(TOLD_APART - 1, IN_A_SPELL, sick=frozenset(range(1, TOLD_APART, 4)))
    assert heard.evidence.harmful_odds() == heard.evidence.odds
    assert heard.evidence.odds > 1.5 * min(heard.odds_in_blocks(length) for length in (5, 10, 20))


def test_a_canary_of_one_replica_has_no_siblings_to_differ_from():
    heard = Heard().observe(12, {10, 11}, siblings=False)
    assert heard.evidence.harmful_odds() == heard.evidence.odds
    assert SIBLINGS_AGREE > heard.evidence.odds > 1.5 * heard.odds_in_blocks(5)


def test_the_past_speaks_of_looks_and_not_of_blocks():
    """Blocks are few, and trouble that lasts is mixed anew in each; the interval and both odds start from all
    cells alike there."""
    failures, requests = np.tile([2.0, 3.0], 60)[:, None], np.full(120, 450.0)
    assert (past_says(failures, requests, 1) == log_past(HARM, failures, requests)).all()
    assert past_says(failures, requests, 1).min() == -BURSTIEST_LIMIT
    in_blocks = past_says(failures, requests, 9)
    assert (in_blocks.shape, in_blocks.any()) == ((1, HARM.cells), False)
