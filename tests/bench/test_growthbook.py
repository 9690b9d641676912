"""GrowthBook's own test beside canaryd: what it is told, when it rejects, and what the tables say of both."""

from __future__ import annotations

from math import exp, log, sqrt
from pathlib import Path

import pytest

from bench import evidence, growthbook
from bench.growthbook import BAD, HEALTHY, ODDS, OURS, THEIRS, GrowthBook
from bench.results import Results
from bench.rollouts import Outcome, a_policy, roll_out
from bench.running import Runner, service
from canaryd.judge.judge import ERRORS_SHARE, Judge
from canaryd.judge.metric_evidence import bar_alone

needs_gbstats = pytest.mark.skipif(bool(growthbook.missing()), reason=growthbook.missing())


def test_both_roll_back_at_the_same_odds_and_tolerate_the_same() -> None:
    policy = a_policy()
    assert bar_alone(Judge(policy).bar, ERRORS_SHARE) == pytest.approx(ODDS, abs=0.5)
    errors = policy.analysis.errors
    assert errors is not None
    assert (1 + errors.tolerated_ratio, errors.tolerated_increase) == (
        growthbook.TOLERATED,
        growthbook.INCREASE,
    )


def odds_by_hand(n1: int, k1: int, n2: int, k2: int, tolerated: float, relative: bool) -> float:
    """The e-value of Waudby-Smith et al. (arXiv 2103.06476, equation 155), by the delta method; tuned as
    equation 161 has it."""
    p1, p2, n = k1 / n1, k2 / n2, n1 + n2
    v1, v2 = p1 * (1 - p1), p2 * (1 - p2)
    effect = (p2 - p1) / p1 if relative else p2 - p1
    variance = v2 / (p1**2 * n2) + v1 * p2**2 / (p1**4 * n1) if relative else v2 / n2 + v1 / n1
    rho2 = (2 * log(ODDS) + log(2 * log(ODDS) + 1)) / growthbook.TUNING
    return exp(rho2 * (effect - tolerated) ** 2 * n / variance / (2 * (n * rho2 + 1))) / sqrt(n * rho2 + 1)


@needs_gbstats
@pytest.mark.parametrize("tolerated", [("relative", 0.1), ("absolute", 0.001)])
def test_it_rejects_where_its_paper_s_odds_are_reached(tolerated: tuple[str, float]) -> None:
    def rejects(canary_failures: int) -> bool:
        test = GrowthBook(ODDS, 45_000, 225, 5_000, canary_failures)
        return test._rejects(*tolerated)

    first = next(failures for failures in range(25, 500) if rejects(failures))
    by_hand = [
        odds_by_hand(45_000, 225, 5_000, failures, tolerated[1], tolerated[0] == "relative")
        for failures in (first - 1, first)
    ]
    assert by_hand[0] < ODDS <= by_hand[1]
    assert not rejects(0), "better is no harm"


@needs_gbstats
def test_it_tolerates_the_looser_of_both_and_says_nothing_without_requests() -> None:
    assert not GrowthBook().look((0, 0), (0, 0))
    assert not GrowthBook().look((900, 0), (100, 0))
    rare = GrowthBook(ODDS, 9_000_000, 90, 1_000_000, 500)
    assert rare._rejects("relative", 0.1)
    assert not rare._rejects("absolute", 0.001), "50 times as much is still less than 0.1 points more"
    assert not rare.look((900, 0), (100, 0))


@needs_gbstats
def test_it_sees_what_canaryd_sees_and_is_timed_alike() -> None:
    """Everything fails: both are through within looks, by the same seconds and requests."""
    match = growthbook.CASES[f"errors 0.5% to 3% | {THEIRS}"]
    [outcome] = roll_out([growthbook.run(match, service(match.world, match.name, 0))])
    assert outcome.rolled_back
    assert outcome.seconds == outcome.looks * 10 == outcome.delay
    assert outcome.canary_requests == pytest.approx(5 * outcome.seconds, rel=0.2)
    assert outcome.hurt == pytest.approx(0.025 * outcome.canary_requests)


def test_the_tables_have_both_in_a_row_and_say_what_each_assumes() -> None:
    back, stayed = Outcome("rolled back", 6, 60, fault=0, hurt=8.0), Outcome("watched", 360, 3600, fault=0)
    entries = {}
    for name, judge, outcomes in (
        ("errors in bursts of 16", OURS, [stayed] * 100),
        ("errors in bursts of 16", THEIRS, [stayed] * 60 + [back] * 40),
        ("errors 5% to 7%", OURS, [back] * 100),
    ):
        key = f"{name} | {judge}"
        entries[key] = {**growthbook.summary(growthbook.CASES[key], outcomes), "runs": 100}
    healthy, bad = growthbook.tables(entries)
    assert healthy.rows == [
        ("errors in bursts of 16", "0 (0.0% to 3.6%) of 100", "40 (30.3% to 50.3%) of 100")
    ]
    assert bad.rows == [("errors 5% to 7%", "100.0%, 60 s; 60 s, 8 hurt", "-")]
    assert any("independently" in note for note in bad.notes)
    assert any("canaryd assumes" in note for note in bad.notes)
    assert not set(HEALTHY) & set(BAD)


def test_without_it_the_part_is_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growthbook, "missing", lambda: "gbstats is not there: make bench installs it")
    runner = Runner(Results(tmp_path / "measured.json"), 1)
    assert evidence.measure_part(runner, "growthbook", 1)
    assert capsys.readouterr().out == (
        "growthbook: left out, since gbstats is not there: make bench installs it\n\n"
    )
