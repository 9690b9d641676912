"""Decisions had again stand beside those on record, and say where they differ and why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from canaryd.commands.explain.counterfactuals import CounterfactualOutcome
from canaryd.commands.explain.recomputed import Recomputed, answered, completed, inquiry, recomputed
from canaryd.commands.explain.text import cleared_of, data, looks, sections, stored
from canaryd.commands.explain.transcript import Transcript
from canaryd.domain.lifecycle import Signal
from canaryd.domain.rollout import Phase, Rollout
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.attribution import decided_by, shares
from canaryd.report.explanation import Section, explain, text
from tests.builders import a_policy, a_verdict, with_entrance
from tests.commands.explain.recorded_rollout import lived
from tests.judge.looks import Sampled, a_ladder

Lived = tuple[Rollout, Transcript]


@pytest.fixture(scope="module")
def failing() -> Lived:
    service = Sampled(2, errors=0.01, more_errors=4.0)
    return lived(a_ladder(), service.look)


@pytest.fixture(scope="module")
def good() -> Lived:
    service = Sampled(1)
    rollout, transcript = lived(a_ladder(), service.look)
    assert rollout.phase is Phase.SUCCEEDED
    return rollout, transcript


def found_of(one: Lived, otherwise: bool = False) -> Recomputed:
    rollout, transcript = one
    found = recomputed(rollout, transcript, "a test")
    return answered(found, inquiry(rollout, found)) if otherwise else found


def said(parts: tuple[Section, ...]) -> str:
    return " ".join(text(parts).split())


def with_other_odds(rollout: Rollout, signal: Signal) -> Rollout:
    """As if another verdict were on record for the decisions by this signal."""
    return replace(
        rollout,
        decisions=tuple(
            replace(decision, verdict=replace(decision.verdict, odds=decision.verdict.odds * 2))
            if decision.signal == signal.value and decision.verdict
            else decision
            for decision in rollout.decisions
        ),
    )


def test_every_decision_by_evidence_is_had_again_as_it_was_made(good: Lived, failing: Lived) -> None:
    for one, signals in ((good, ["passed"] * 4), (failing, ["harm"])):
        found = found_of(one)
        assert [had.decision.signal for had in found.decisions] == signals
        assert found.same
        assert all(had.verdict == had.decision.verdict for had in found.decisions)
        assert found.requests is not None
        assert found.requests[0] == found.requests[1] > 1000


def test_a_verdict_that_is_not_had_again_to_the_digit_is_shown_as_stored_beside_the_other(
    failing: Lived,
) -> None:
    rollout, transcript = failing
    changed = with_other_odds(rollout, Signal.HARM)
    found = found_of((changed, transcript), otherwise=True)
    assert (found.same, found.decisions[0].agrees) == (False, True)
    told = said(sections(changed, found, 100))
    assert "harm: fail (stored, and not had again)" in told
    assert "recomputed: " in told
    assert "Of 1 verdicts that were decided by, 1 is not had again to the digit" in told
    assert "so no sample is missing: another version of canaryd judged then" in told
    assert "Otherwise, on the looks that there are now" in told


def test_of_a_decision_whose_answer_is_another_now_nothing_more_is_asked(failing: Lived) -> None:
    rollout, transcript = failing
    undecided = replace(
        transcript, verdicts=[replace(verdict, answer=Answer.UNDECIDED) for verdict in transcript.verdicts]
    )
    found = found_of((rollout, undecided), otherwise=True)
    assert (found.same, found.decisions[0].agrees, found.decisions[0].what_ifs) == (False, False, ())
    assert "the same verdict means to go on looking now" in said(sections(rollout, found, 100))


def test_looks_that_telemetry_has_forgotten_are_counted_and_the_stored_verdict_stands(failing: Lived) -> None:
    rollout, transcript = failing
    gone = len(transcript.steps) // 2
    steps = [
        replace(step, look=replace(step.look, stable={}, canary={}, sampled=False)) if at < gone else step
        for at, step in enumerate(transcript.steps)
    ]
    partly = Transcript(transcript.history, steps)
    partly.verdicts = [verdict for _, verdict in partly.again(rollout.policy, steps[-1].look.end)]
    found = found_of((rollout, partly))
    told = said(sections(rollout, found, 100))
    assert (found.unsampled, found.same, found.forgotten) == (gone, False, False)
    assert f"In {gone} of all {len(steps)} looks it has no telemetry" in told
    assert "it has forgotten the others, or its scrape interval" in told
    # the stored reason, with its own odds
    assert f"odds 1{rollout.decisions[-2].reason.partition('odds 1')[2]}" in told


def test_nothing_left_at_all_is_known_as_forgotten(failing: Lived) -> None:
    rollout, transcript = failing
    steps = [
        replace(step, look=replace(step.look, stable={}, canary={}, sampled=False))
        for step in transcript.steps
    ]
    assert found_of((rollout, Transcript((), steps, transcript.verdicts))).forgotten
    told = said(explain(rollout, 0.0, evidence=stored(rollout, "it has no samples.")))
    assert "The record, as it was decided then: it has no samples." in told
    assert "harm: fail" in told


def test_the_share_of_the_odds_says_which_metric_decided(failing: Lived) -> None:
    verdict = found_of(failing).decisions[0].verdict
    assert verdict is not None
    by = shares(verdict)
    assert set(by) == {"errors", "latency"}
    assert sum(by.values()) == pytest.approx(1.0)
    assert by["errors"] > 0.5
    assert f"decided by {decided_by(verdict)}" in said(sections(failing[0], found_of(failing), 100))


@pytest.mark.parametrize(
    ("odds", "bars", "share"),
    [
        ((300.0, 100.0), (199.0, 199.0), 0.75),
        ((float("inf"), 100.0), (199.0, 199.0), 1.0),
        ((1.7e308, 1.7e308), (199.0, 199.0), 0.5),
        (
            (300.0, 100.0),
            (397.0, 133.0),
            0.5,
        ),  # weights of a quarter and three: each reaches 100 alone at these bars
    ],
)
def test_shares_are_by_odds_and_weight_however_large(
    odds: tuple[float, float], bars: tuple[float, float], share: float
) -> None:
    errors = MetricFinding("errors", "errors", Answer.FAIL, odds=odds[0], bar=bars[0])
    findings = (errors, MetricFinding("latency", "all bounds", Answer.PASS, odds=odds[1], bar=bars[1]))
    assert shares(a_verdict(Answer.FAIL, findings=findings))["errors"] == pytest.approx(share)


def test_a_broken_limit_is_what_decided() -> None:
    limit = MetricFinding("errors", "at most 5% errors", Answer.FAIL, limit=0.05, odds=120.0)
    assert (
        decided_by(a_verdict(Answer.FAIL, findings=(limit,)))
        == "the policy's own limit, errors: at most 5% errors"
    )
    assert decided_by(a_verdict()) == ""


def test_a_pass_tells_when_each_metric_passed_and_which_was_the_last(good: Lived) -> None:
    rollout, _ = good
    found = found_of(good)
    first = found.decisions[0]
    assert {passing.metric for passing in first.passing} == {"errors", "latency"}
    for passing in first.passing:
        assert passing.at is not None
        before = [verdict for verdict in found.transcript.compared if verdict.at < passing.at]
        assert all(
            finding.cleared < finding.clear_bar
            for verdict in before
            for finding in verdict.findings
            if finding.what == ("errors" if passing.metric == "errors" else "all bounds")
        )
    for had, span in zip(found.decisions, rollout.spans, strict=True):
        assert all(
            passing.at is not None and span.start < passing.at <= had.decision.at for passing in had.passing
        )
    told = said(sections(rollout, found, 100))
    assert (
        "What passed when errors ruled out after " in told
        or "What passed when latency ruled out after " in told
    )
    assert "It passed when the " in told


def test_a_deadline_tells_what_was_undecided() -> None:
    service = Sampled(6, requests=4)
    policy = a_policy(
        stages=[{"weight": 25, "minimum": "60s", "deadline": "2m"}, {"weight": 100}],
        analysis={"interval": "10s"},
    )
    one = lived(policy, service.look, 16)
    told = said(sections(one[0], found_of(one), 100))
    assert next(had.decision.signal for had in found_of(one).decisions).startswith("deadline")
    assert "Undecided, of what this stage must rule out: errors is at " in told
    assert " of 20 to 1" in told


def test_notes_of_an_earlier_verdict_are_told_with_its_decision(good: Lived) -> None:
    rollout, _ = good
    found = found_of(good)
    verdict = found.decisions[0].verdict
    assert verdict is not None
    noted = replace(found.decisions[0], verdict=replace(verdict, notes=("stable's replicas differ by 18%",)))
    parts = sections(rollout, replace(found, decisions=(noted, *found.decisions[1:])), 100)
    assert sum("stable's replicas differ by 18%" in " ".join(part.lines) for part in parts) == 1


def test_a_rollout_under_way_shows_its_last_look() -> None:
    service = Sampled(8)
    rollout, transcript = lived(a_ladder(), service.look, 5)
    parts = sections(rollout, found_of((rollout, transcript)), 100)
    assert [part.title for part in parts][-1] == "The last look: undecided"
    assert "No decision rests on evidence so far." in said(parts)


def test_the_data_have_every_look_and_each_decision_with_its_numbers(failing: Lived) -> None:
    found = found_of(failing, otherwise=True)
    told = json.loads(json.dumps(data(found, "a test", "")))
    assert set(told) == {
        "source",
        "problem",
        "same",
        "requests",
        "looksWithoutTelemetry",
        "looks",
        "decisions",
        "skipped",
    }
    assert len(told["looks"]) == len(found.transcript.compared)
    assert set(told["looks"][0]) == {"at", "stage", "weight", "answer", "odds", "stageOdds", "cleared"}
    (decision,) = told["decisions"]
    assert set(decision) == {
        "at",
        "signal",
        "phase",
        "stage",
        "weight",
        "reason",
        "same",
        "differences",
        "verdict",
        "stored",
        "shares",
        "passing",
        "whatIf",
    }
    assert {one["outcome"] for one in decision["whatIf"]} <= {one.value for one in CounterfactualOutcome}
    assert set(decision["whatIf"][0]) == {"change", "outcome", "at", "odds", "bar", "says"}
    assert decision["verdict"]["findings"][0]["ratio"] > 1
    assert set(data(None, "a test", "it is down")) <= set(told)


def test_what_is_ruled_out_is_that_of_the_metric_that_lacks_most(good: Lived) -> None:
    verdicts = found_of(good).transcript.compared
    least = [
        min(finding.cleared for finding in verdict.findings if finding.what in ("errors", "all bounds"))
        for verdict in verdicts[:5]
    ]
    assert [cleared_of(verdict) for verdict in verdicts[:5]] == least
    assert cleared_of(verdicts[-1]) is None  # at full weight
    rows = looks(good[0], found_of(good))
    assert len(rows) == len(verdicts)
    assert rows[-1][5] == "-"


def test_a_recording_s_rollout_gets_its_counts_and_its_last_verdict_back(failing: Lived) -> None:
    rollout, _ = failing
    bare = with_entrance(replace(rollout, counted_to=None), counted={}).with_verdict(None)
    again = completed(bare, found_of(failing))
    assert (again.entrance.counted, again.counted_to, again.verdict) == (
        rollout.entrance.counted,
        rollout.counted_to,
        rollout.verdict,
    )


def test_left_out_questions_are_named_with_how_to_have_them(failing: Lived) -> None:
    rollout, _ = failing
    found = found_of(failing)
    brief = answered(found, inquiry(rollout, found, most=0))
    assert brief.decisions[0].what_ifs == ()
    told = said(sections(rollout, brief, 100))
    assert "Left out, as it takes long (--full): " in told
    assert "without errors" in told


def test_no_verdict_has_no_shares() -> None:
    assert shares(Verdict(Answer.NO_DATA, 0, 0, 10)) == {}
