"""What was had again of a rollout, in words and as plain data: where the numbers are from, the odds over
time, decision by decision.

Pure text; what is computed is in `recomputed.py`.
"""

from collections.abc import Mapping
from typing import Any

from canaryd.commands.explain.counterfactuals import span_of
from canaryd.commands.explain.recomputed import Recomputed, RecomputedDecision
from canaryd.domain.formatting import aligned, lasting, odds_text, time_text, wrapped
from canaryd.domain.lifecycle import Signal
from canaryd.domain.rollout import Decision, Rollout
from canaryd.domain.verdict import Answer, Verdict
from canaryd.report.attribution import Passing, lacked, part_text, shares, whole
from canaryd.report.explanation import Section, labelled, verdict_section
from canaryd.report.odds_chart import Series, looks_a_column, plot
from canaryd.report.phase_summary import stage_text
from canaryd.report.serialization import finite, plain

SOURCE = "Where the numbers are from"
ONWARD, BACK, HELD, ALARM, OTHER = ">", "<", "=", "!", "*"
MARKS = {
    Signal.PASS: ONWARD,
    Signal.LET_PASS: ONWARD,
    Signal.PROMOTE: ONWARD,
    Signal.APPROVE: ONWARD,
    Signal.HARM: BACK,
    Signal.TIMED_OUT: BACK,
    Signal.NOT_READY: BACK,
    Signal.BLIND: BACK,
    Signal.ABORT: BACK,
    Signal.NEWER: BACK,
    Signal.OVERDUE: BACK,
    Signal.ALARM: ALARM,
    Signal.STUCK: HELD,
    Signal.NO_DATA: HELD,
    Signal.DRIFT: HELD,
    Signal.HOLD: HELD,
    Signal.STABLE_DOWN: HELD,
}
UNMARKED = (Signal.AVAILABLE.value, Signal.ROUTED.value)  # where a stage begins is marked anyway
MEANING = {ONWARD: "onward", BACK: "back to stable", HELD: "held", ALARM: "alarm", OTHER: "other"}


# ---------------------------------------------------------------- in words


def sections(
    rollout: Rollout, found: Recomputed, width: int, ascii_only: bool = False
) -> tuple[Section, ...]:
    """What takes the place of the record's verdicts. width: columns there are for the plot."""
    decided = [_decision(rollout, decision) for decision in found.decisions]
    return (
        _source(rollout, found),
        *_odds(rollout, found, width, ascii_only),
        *decided,
        *_last(rollout, found),
    )


def stored(rollout: Rollout, why: str) -> tuple[Section, ...]:
    """The sections from the record alone, where nothing could be had again. why: in words, a sentence."""
    note = Section(SOURCE, tuple(wrapped(f"The record, as it was decided then: {why}")))
    decided = [
        _on_record(rollout, decision) for decision in rollout.decisions if decision.verdict is not None
    ]
    verdicts = [decision.verdict for decision in rollout.decisions]
    last = rollout.verdict
    return (
        note,
        *decided,
        *(
            [verdict_section(rollout, last, "The last verdict")]
            if last is not None and last not in verdicts
            else ()
        ),
    )


def hint(how: str) -> Section:
    """The note that all is from the record, and how to have more."""
    return Section(SOURCE, tuple(wrapped(f"The record, as it was decided then; {how}")))


def _source(rollout: Rollout, found: Recomputed) -> Section:
    looks, decided = len(found.transcript.compared), len(found.decisions)
    lines = wrapped(
        f"Recomputed from {found.source}: {looks:,} look{'s' * (looks != 1)} judged again. "
        f"{_agreement(found)}"
    )
    if found.unsampled:
        lines += wrapped(
            f"In {found.unsampled:,} of all {len(found.transcript.steps):,} looks it has no telemetry (any "
            "more)."
        )
    if decided and not found.same and found.requests is not None:
        before, now = found.requests
        lines += wrapped(_why_not(before, now))
    if rollout.is_bracket:
        lines += wrapped(
            "What would have decided otherwise is not asked where several services decide together."
        )
    if found.skipped:
        lines += wrapped(f"Left out, as it takes long (--full): {'; '.join(found.skipped)}.")
    return Section(SOURCE, tuple(lines))


def _agreement(found: Recomputed) -> str:
    decided, other = len(found.decisions), sum(not decision.same for decision in found.decisions)
    if not decided:
        return "No decision rests on evidence so far."
    if other == 0:
        return (
            "The verdict it was decided by is the stored one, to the digit."
            if decided == 1
            else (f"All {decided} verdicts that were decided by are the stored ones, to the digit.")
        )
    is_are = "is" if other == 1 else "are"
    return (
        f"Of {decided} verdicts that were decided by, {other} {is_are} not had again to the digit; the "
        "stored one is shown."
    )


def _why_not(before: int, now: int) -> str:
    if now < before:
        return (
            f"Of {before:,} requests that were counted then, it has {now:,}: it has forgotten the others, or "
            "its scrape interval is not the one of the daemon's settings (--config). The stored verdicts are "
            "those that were acted on."
        )
    if now > before:
        return (
            f"Of {before:,} requests that were counted then, it has {now:,}: samples came late, or its "
            "scrape interval is not the one of the daemon's settings (--config)."
        )
    return (
        f"It has as many requests as were counted then ({now:,}), so no sample is missing: another version "
        "of canaryd judged then, queries have other values now, or the scrape interval is not the one of the "
        "daemon's settings (--config)."
    )


def _odds(rollout: Rollout, found: Recomputed, width: int, ascii_only: bool) -> tuple[Section, ...]:
    verdicts = found.transcript.compared
    if not verdicts:
        return ()
    series = series_of(rollout, verdicts)
    lines = plot(series, width, ascii_only)
    looks_per_column, interval = looks_a_column(series, width), rollout.policy.analysis.interval
    column = (
        f"a look of {interval} s"
        if looks_per_column == 1
        else f"the highest of {looks_per_column} looks of {interval} s"
    )
    marks = ", ".join(f"{sign} {MEANING[sign]}" for sign in MEANING if sign in series.marks.values())
    lines += [
        "",
        *wrapped(
            f"A column is {column}, from {time_text(verdicts[0].at - interval)} to "
            f"{time_text(verdicts[-1].at)} UTC. {_highest(rollout, verdicts)}"
        ),
    ]
    lines += wrapped(
        f"ruled out: of what the stage must rule out to pass (full: {odds_text(1 / series.low)})"
        f"{f'; decided: {marks}' if marks else ''}"
    )
    return (Section(f"Odds over time, against {rollout.for_display.canary}", tuple(lines)),)


def _highest(rollout: Rollout, verdicts: list[Verdict]) -> str:
    """The odds nearest to a rollback."""
    judged = [verdict for verdict in verdicts if verdict.answer is not Answer.NO_DATA]
    if not judged:
        return "No look had data of both versions."
    top = max(judged, key=lambda verdict: verdict.odds)
    full = (
        "; at 100% they are the alarm's, against the rollout's own record" if judged[-1].weight >= 100 else ""
    )
    return (
        f"The highest odds were {odds_text(top.odds)}, at {time_text(top.at)} in stage "
        f"{stage_text(rollout, top.stage)}; it is rolled back at {odds_text(top.bar)}{full}."
    )


def series_of(rollout: Rollout, verdicts: list[Verdict]) -> Series:
    """The looks that were compared, as they are drawn."""
    stages: dict[int, tuple[str, ...]] = {}
    for place, (verdict, before) in enumerate(zip(verdicts, [None, *verdicts], strict=False)):
        if before is None or (before.stage, before.weight) != (verdict.stage, verdict.weight):
            share = rollout.share_in(verdict)
            stages[place] = (f"{stage_text(rollout, verdict.stage)} {share}", share, str(verdict.stage + 1))
    marks: dict[int, str] = {}
    for decision in rollout.decisions:
        at = decision.verdict.at if decision.verdict is not None else decision.at
        place = sum(look.at <= at for look in verdicts) - 1
        if decision.signal not in UNMARKED and place >= 0:
            marks[place] = sign_of(decision)
    odds = tuple(None if verdict.answer is Answer.NO_DATA else verdict.odds for verdict in verdicts)
    analysis = rollout.policy.analysis
    # each service of a bracket has its share of the risk
    bar = len(rollout.keys) / analysis.false_rollback_risk
    return Series(odds, tuple(map(cleared_of, verdicts)), stages, marks, analysis.bad_advance_risk, bar)


def sign_of(decision: Decision) -> str:
    return next((sign for signal, sign in MARKS.items() if signal.value == decision.signal), OTHER)


def _decision(rollout: Rollout, recomputed: RecomputedDecision) -> Section:
    if not recomputed.same or recomputed.verdict is None:
        shown = _on_record(rollout, recomputed.decision)
        differences = [
            line
            for difference in recomputed.differences
            for line in wrapped(f"recomputed: {difference}", "  ")
        ]
        return Section(
            f"{shown.title} (stored, and not had again)",
            (*differences, "", *shown.lines, *_what_ifs(recomputed)),
        )
    shown = verdict_section(rollout, recomputed.verdict, _title(recomputed.decision))
    return Section(
        shown.title,
        (
            *shown.lines,
            *_own_notes(rollout, recomputed.verdict),
            *_passing_lines(rollout, recomputed),
            *_what_ifs(recomputed),
        ),
    )


def _title(decision: Decision) -> str:
    return f"{time_text(decision.at)} {decision.signal}"


def _on_record(rollout: Rollout, decision: Decision) -> Section:
    assert decision.verdict is not None
    shown = verdict_section(rollout, decision.verdict, _title(decision))
    return Section(shown.title, (*shown.lines, *_own_notes(rollout, decision.verdict)))


def _own_notes(rollout: Rollout, verdict: Verdict) -> list[str]:
    """What was to be known then, where it is not what is to be known of the last look."""
    last = rollout.verdict.notes if rollout.verdict is not None else ()
    noted = [line for note in verdict.notes if note not in last for line in labelled("to know", note)]
    return ["", *noted] if noted else []


def _passing_lines(rollout: Rollout, recomputed: RecomputedDecision) -> list[str]:
    verdict = recomputed.verdict
    span = span_of(rollout, verdict) if verdict is not None else None
    if (
        verdict is None
        or span is None
        or recomputed.decision.signal == Signal.HARM.value
        or not rollout.policy.stages[verdict.stage].rules_out
    ):
        return []
    if recomputed.decision.signal != Signal.PASS.value:
        missing = lacked(verdict)
        return (
            ["", *wrapped(f"Undecided, of what this stage must rule out: {'; '.join(missing)}.")]
            if missing
            else []
        )
    minimum = rollout.policy.stages[verdict.stage].minimum
    lines = ["", "What passed when"]
    rows = [
        (metric.metric, _passed_text(metric, span.start))
        for metric in sorted(recomputed.passing, key=lambda metric: metric.at or verdict.at)
    ]
    lines += [
        f"  {line}"
        for line in aligned(
            [*rows, ("minimum", f"over after {lasting(minimum)}, at {time_text(span.start + minimum)}")]
        )
    ]
    interval = rollout.policy.analysis.interval
    return lines + wrapped(_last_to_pass(recomputed.passing, verdict, span.start, minimum, interval), "  ")


def _passed_text(passing: Passing, start: int) -> str:
    if passing.at is None:
        return f"at {part_text(passing.cleared, passing.bar)}"
    return f"ruled out after {lasting(passing.at - start)}, at {time_text(passing.at)}"


def _last_to_pass(
    passing: tuple[Passing, ...], verdict: Verdict, start: int, minimum: float, interval: int
) -> str:
    """What the moment of a pass was decided by."""
    last = max(
        (metric for metric in passing if metric.at is not None),
        key=lambda metric: metric.at or 0,
        default=None,
    )
    at_minimum = verdict.at - interval < start + minimum  # the first look that it allows to pass
    if last is not None and last.at == verdict.at and not at_minimum:
        before = (
            f": when the minimum was over it was at {part_text(last.at_minimum, last.bar)}"
            if last.at_minimum
            else ""
        )
        return f"It passed when the last of them did, {last.metric}{before}."
    if at_minimum:
        ruled_out = (
            "all that the stage must rule out was ruled out by then"
            if last is not None
            else "no metric is compared"
        )
        return f"It passed when the minimum was over: {ruled_out}."
    return (
        "All was ruled out before; it passed once no metric was under suspicion (odds of 3 to 1 in this "
        "stage), every query had a value within its limits, and there were 3 looks."
    )


def _what_ifs(recomputed: RecomputedDecision) -> list[str]:
    if not recomputed.what_ifs:
        return []
    heading = (
        "Otherwise, on the same looks" if recomputed.same else "Otherwise, on the looks that there are now"
    )
    return [
        "",
        heading,
        *(
            f"  {line}"
            for line in aligned([(what_if.change, what_if.says) for what_if in recomputed.what_ifs])
        ),
    ]


def _last(rollout: Rollout, found: Recomputed) -> tuple[Section, ...]:
    """The latest look's, where no decision rests on it: as had again, or as stored where it is not the
    same."""
    shown = {
        decision.decision.verdict.at for decision in found.decisions if decision.decision.verdict is not None
    }
    again = found.transcript.compared[-1] if found.transcript.compared else None
    recorded = rollout.verdict
    if recorded is not None and (
        again is None or recorded.at > again.at or (recorded.at == again.at and recorded.odds != again.odds)
    ):
        return (
            (verdict_section(rollout, recorded, "The last verdict, stored"),)
            if recorded.at not in shown
            else ()
        )
    if again is None or again.at in shown:
        return ()
    return (verdict_section(rollout, again, "The last look"),)


def looks(rollout: Rollout, found: Recomputed) -> list[tuple[str, ...]]:
    """A row for each look that was compared."""
    return [
        (
            time_text(verdict.at),
            stage_text(rollout, verdict.stage),
            rollout.share_in(verdict),
            odds_text(verdict.odds),
            odds_text(verdict.stage_odds),
            odds_text(cleared) if (cleared := cleared_of(verdict)) is not None else "-",
            verdict.answer.value,
            verdict.reason,
        )
        for verdict in found.transcript.compared
    ]


LOOKS = ("UTC", "STAGE", "WEIGHT", "ODDS", "IN STAGE", "RULED OUT", "ANSWER", "WHY")


def cleared_of(verdict: Verdict) -> float | None:
    """The odds of the metric that has ruled out least; None at full weight, where nothing is ruled out."""
    return (
        min((finding.cleared for finding in whole(verdict)), default=None) if verdict.weight < 100 else None
    )


# ---------------------------------------------------------------- as data


def data(found: Recomputed | None, source: str, problem: str) -> dict[str, Any]:
    """JSON-able: camelCase keys, times in Unix seconds, stage 1 the first. Keys are only ever added."""
    if found is None:
        return {"source": source, "problem": problem, "same": None, "looks": [], "decisions": []}
    requests = (
        {"counted": found.requests[0], "recomputed": found.requests[1]}
        if found.requests is not None
        else None
    )
    return {
        "source": source,
        "problem": problem or None,
        "same": found.same,
        "requests": requests,
        "looksWithoutTelemetry": found.unsampled,
        "looks": [_look_data(verdict) for verdict in found.transcript.compared],
        "decisions": [_decision_data(decision) for decision in found.decisions],
        "skipped": list(found.skipped),
    }


def _look_data(verdict: Verdict) -> dict[str, Any]:
    cleared = cleared_of(verdict)
    return {
        "at": verdict.at,
        "stage": verdict.stage + 1,
        "weight": verdict.weight,
        "answer": verdict.answer.value,
        "odds": finite(verdict.odds),
        "stageOdds": finite(verdict.stage_odds),
        "cleared": None if cleared is None else finite(cleared),
    }


def _decision_data(recomputed: RecomputedDecision) -> dict[str, Any]:
    decision, recorded = recomputed.decision, recomputed.decision.verdict
    by: Mapping[str, float] = shares(recomputed.verdict) if recomputed.verdict is not None else {}
    return {
        "at": decision.at,
        "signal": decision.signal,
        "phase": decision.phase.value,
        "stage": decision.stage + 1,
        "weight": decision.weight,
        "reason": decision.reason,
        "same": recomputed.same,
        "differences": list(recomputed.differences),
        "verdict": plain(recomputed.verdict),
        "stored": None
        if recorded is None
        else {
            "at": recorded.at,
            "answer": recorded.answer.value,
            "odds": finite(recorded.odds),
            "reason": recorded.reason,
        },
        "shares": by,
        "passing": [plain(metric) for metric in recomputed.passing],
        "whatIf": [plain(what_if) for what_if in recomputed.what_ifs],
    }
