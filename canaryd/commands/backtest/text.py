"""A policy's way through a past in words, as a table beside others, and as plain data. Pure: nothing here
judges, colours or asks."""

from collections.abc import Mapping
from typing import Any

from canaryd.commands.backtest.backtest import Course
from canaryd.domain.formatting import aligned, lasting, odds_text, time_text, wrapped
from canaryd.domain.lifecycle import Signal
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Decision, Span
from canaryd.domain.verdict import Verdict
from canaryd.report.explanation import Section, timeline
from canaryd.report.phase_summary import describe, stage_text, would_be
from canaryd.report.serialization import plain

Courses = Mapping[str, Course]
"""By the name of the policy, as people know it."""

IMAGINED = (
    "Imagined: weights in the past were what they were, so each stage is judged on the split there really "
    "was; what more load would have brought does not show, and nobody was asked. A stage begins where the "
    "one before ended, and each look is read at its end."
)
SAME = (
    "By the record's own stages: each decision's verdict, had again from the counts, is the one that was "
    "acted on."
)


def title(past: Past, source: str) -> str:
    """Which past, in one line."""
    looks, span = (
        (past.end - past.start) // past.interval,
        f"{time_text(past.start, day=True)} to {time_text(past.end, day=True)}",
    )
    return (
        f"{past.namespace}/{past.service}, {past.stable} → {past.canary}, {span}: {looks} looks of "
        f"{past.interval} s from {source}"
    )


def outcome(course: Course) -> str:
    """How it went, in half a sentence."""
    if course.recorded:
        return f"on record {describe(course.rollout)}"
    return would_be(course.rollout) + ("" if course.rollout.phase.ended else " when the past ends")


def sections(courses: Courses, past: Past) -> tuple[Section, ...]:
    """Each policy's decisions with their reasons; before them, where there are several, all of them stage by
    stage."""
    beside = (Section("Side by side", tuple(aligned(table(courses, past)))),) if len(courses) > 1 else ()
    return (*beside, *(_section(name, course, past) for name, course in courses.items()))


def _section(name: str, course: Course, past: Past) -> Section:
    lines = [*timeline(course.rollout)]
    last = course.verdicts[-1] if course.verdicts else None
    if last is not None and not course.rollout.phase.ended:
        lines += [
            "",
            f"The last look, until {time_text(last.at)}: {last.answer.value}, odds {odds_text(last.odds)}",
        ]
        lines += wrapped(last.reason, "          ")
    lines += ["", *_remarks(course)]
    return Section(f"{name}: {outcome(course)}, after {lasting(_took(course, past))}", tuple(lines))


def _remarks(course: Course) -> list[str]:
    if not course.recorded:
        return wrapped(IMAGINED)
    if not course.differences:
        return wrapped(SAME)
    lines = ["By the record's own stages, and not as it was on record:"]
    return lines + [line for difference in course.differences for line in wrapped(f"- {difference}", "  ")]


def _took(course: Course, past: Past) -> float:
    rollout = course.rollout
    return (rollout.ended if rollout.ended is not None else past.until) - rollout.began


def table(courses: Courses, past: Past) -> list[tuple[str, ...]]:
    """A row for each stage, a column for each policy: at which weight, for how long, and what it ended
    with."""
    stages = max(len(course.policy.stages) for course in courses.values())
    rows = [("", *courses)]
    for stage in range(stages):
        rows.append((f"stage {stage + 1}", *(_cell(course, stage, past) for course in courses.values())))
    ends = (f"{outcome(course)}, after {lasting(_took(course, past))}" for course in courses.values())
    return [*rows, ("end", *ends)]


def _cell(course: Course, stage: int, past: Past) -> str:
    spans = [span for span in course.rollout.spans if span.stage == stage]
    if not spans:
        return "-"
    seconds = sum((past.until if span.end is None else span.end) - span.start for span in spans)
    left = _left_by(course, spans[-1])
    return f"{course.policy.stages[stage].short} for {lasting(seconds)}" + (
        f", {left.signal}" if left is not None else ""
    )


def _left_by(course: Course, span: Span) -> Decision | None:
    """The decision that ended a stretch."""
    if span.end is None:
        return None
    after = [
        decision
        for decision in course.rollout.decisions
        if decision.at >= span.end and decision.signal != Signal.ROUTED.value
    ]
    return next(
        (decision for decision in after if decision.verdict is not None and decision.verdict.at == span.end),
        after[0] if after else None,
    )


def looks(course: Course) -> list[tuple[str, ...]]:
    """A row for each look that was compared."""
    rollout = course.rollout
    return [
        (
            time_text(verdict.at),
            verdict.answer.value,
            stage_text(rollout, verdict.stage),
            rollout.share_in(verdict),
            odds_text(verdict.odds),
            verdict.reason,
        )
        for verdict in course.verdicts
    ]


def data(name: str, course: Course, every_look: bool) -> dict[str, Any]:
    """JSON-able: camelCase keys, times in Unix seconds, stage 1 the first. Keys are only ever added."""
    rollout = course.rollout
    decisions = [
        {
            **_of(decision.verdict),
            "at": decision.at,
            "after": decision.at - rollout.began,
            "signal": decision.signal,
            "phase": decision.phase.value,
            "stage": decision.stage + 1,
            "weight": decision.weight,
            "reason": decision.reason,
        }
        for decision in rollout.decisions
    ]
    found = {
        "policy": name,
        "mode": "recorded" if course.recorded else "imagined",
        "outcome": outcome(course),
        "began": rollout.began,
        "ended": rollout.ended,
        "phase": rollout.phase.value,
        "held": rollout.held.value if rollout.held else None,
        "stage": rollout.stage + 1,
        "stages": len(course.policy.stages),
        "weight": rollout.weight,
        "reason": rollout.reason,
        "compared": len(course.verdicts),
        "differences": list(course.differences),
        "decisions": decisions,
        "last": plain(course.verdicts[-1]) if course.verdicts else None,
    }
    shown = [
        {
            **_of(verdict),
            "at": verdict.at,
            "stage": verdict.stage + 1,
            "weight": verdict.weight,
            "reason": verdict.reason,
        }
        for verdict in course.verdicts
    ]
    return {**found, "looks": shown} if every_look else found


def _of(verdict: Verdict | None) -> dict[str, Any]:
    """A verdict's numbers; null where nothing was judged."""
    if verdict is None:
        return {"answer": None, "odds": None}
    return {"answer": verdict.answer.value, "odds": plain(verdict.odds)}
