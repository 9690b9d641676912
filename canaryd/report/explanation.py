"""A rollout in words and numbers: what happened, on what evidence, and what it waits for.

All of it is from the record alone, so the answer is the one that was acted on, also when Prometheus has long
forgotten. Pure: a rollout and the present moment in, lines of text or plain data out. Nothing here judges,
colours, or asks anyone.
"""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from canaryd.domain import gates
from canaryd.domain.counts import Counts, total
from canaryd.domain.formatting import (
    aligned,
    lasting,
    odds_text,
    percent_text,
    points_text,
    share_text,
    short,
    time_text,
    wrapped,
)
from canaryd.domain.rollout import (
    ActionRequest,
    Decision,
    DesiredActions,
    Held,
    Phase,
    Rollout,
    ServiceRollout,
)
from canaryd.domain.stored_rollout import stored
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.attribution import decided_by
from canaryd.report.findings import ALL_BOUNDS, MEAN
from canaryd.report.next_steps import ahead
from canaryd.report.phase_summary import describe, stage_text, version_of
from canaryd.report.serialization import plain as as_plain
from canaryd.report.summary import summary

# The judge's rule for latency (see `LatencyEvidence.harmful_odds`), for a reader who sees the odds above the
# bar and no rollback.
ABOVE_AND_NOT_ROLLED_BACK = (
    "the odds are above the bar and it is not rolled back yet: latency has to convict the version with any "
    "one of its replicas left out, and by more than a single bound that the mean does not agree with"
)
UNEVEN = 2.0  # odds below which it means nothing which metric they are from
HOW_TO_READ = (
    "A look is one interval of counts. Odds say how many times likelier the counts are if the canary is "
    "worse than tolerated (what the policy takes for no harm); at the bar it is rolled back. Cleared, or "
    "ruled out, are the odds that nothing unacceptable is there (what a stage must rule out); at its bar the "
    "stage passes. More: docs/concepts/glossary.md."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines, already aligned."""

    title: str
    lines: tuple[str, ...]


def explain(
    rollout: Rollout,
    now: float,
    wishes: DesiredActions = DesiredActions(),  # noqa: B008 (frozen)
    evidence: tuple[Section, ...] | None = None,
) -> tuple[Section, ...]:
    """The whole explanation, sections without anything to say left out. now: Unix seconds, for ages and what
    remains. evidence: what is shown instead of the record's deciding and last verdict (see
    `recomputed.py`)."""
    sections = (
        _head(rollout, now),
        Section("What happened", timeline(rollout)),
        *(_last_verdict(rollout) if evidence is None else evidence),
        Section("Counted, request by request", _counted(rollout)),
        Section("To know", _notes(rollout)),
        Section("People", _people(rollout, wishes)),
        Section("Who was told", _told(rollout)),
        Section("What happens next", _lines(ahead(rollout, now, wishes))),
        Section("How to read this", _how_to_read(rollout)),
    )
    return tuple(section for section in sections if section.lines)


def text(sections: tuple[Section, ...]) -> str:
    """The explanation as plain text."""
    return (
        "\n\n".join(
            "\n".join((section.title, *(f"  {line}".rstrip() for line in section.lines)))
            for section in sections
        )
        + "\n"
    )


def data(rollout: Rollout) -> dict[str, Any]:
    """The whole record as JSON-able data: camelCase keys, times in Unix seconds, the policy as its file would
    have it.

    `counted` has for each replica its version, requests and failures.
    """
    plain: dict[str, Any] = as_plain(stored(rollout))
    for service, own in zip(rollout.services, (plain, *plain["others"]), strict=True):
        own["counted"] = {
            replica: {
                "version": version_of(service, replica),
                "requests": counts.requests,
                "failures": counts.failures,
            }
            for replica, counts in service.counted.items()
        }
    return plain


# ---------------------------------------------------------------- the sections


def _head(rollout: Rollout, now: float) -> Section:
    named = "; ".join(f"{service.name}, {service.stable} → {service.canary}" for service in rollout.services)
    title = f"{named}: {describe(rollout)}"
    ended = rollout.ended is not None
    took = (
        f"ended after {lasting((rollout.ended or now) - rollout.began)}"
        if ended
        else f"for {lasting(now - rollout.began)} now"
    )
    facts = [
        *labelled("summary", f"{summary(rollout, now)}."),
        f"rollout   {rollout.namespace}/{rollout.name}"
        + (f", attempt {rollout.attempt}" if rollout.attempt > 1 else ""),
        f"began     {time_text(rollout.began, day=True)}, {took}",
    ]
    if rollout.policy.mode == "observe":
        facts.append(
            "mode      observe: judged and told; the route was never touched, weights are what it would have "
            "been"
        )
    why = wrapped(rollout.reason, " " * 10) if rollout.reason else []
    return Section(title, (*facts, *([f"why       {why[0].strip()}", *why[1:]] if why else [])))


def timeline(rollout: Rollout) -> tuple[str, ...]:
    """Each decision: when, how long after the beginning, what, where to, at which odds; and why, below."""
    rows: list[tuple[str, ...]] = [("UTC", "after", "what happened", "then", "stage", "weight", "odds")]
    rows += [_decision_row(rollout, decision) for decision in rollout.decisions]
    if len(rows) == 1:
        return ()
    lines = aligned(rows)
    shown, before = [lines[0]], ""
    for line, decision in zip(lines[1:], rollout.decisions, strict=True):
        # The end has the reason of the decision that led there: once is enough.
        shown += (
            [line, *wrapped(decision.reason, " " * 10)] if decision.reason not in ("", before) else [line]
        )
        before = decision.reason
    return tuple(shown)


def _decision_row(rollout: Rollout, decision: Decision) -> tuple[str, ...]:
    odds = odds_text(decision.verdict.odds) if decision.verdict is not None else "-"
    return (
        time_text(decision.at),
        lasting(decision.at - rollout.began),
        decision.signal,
        decision.phase.value,
        stage_text(rollout, decision.stage),
        rollout.share_in(decision),
        odds,
    )


def _last_verdict(rollout: Rollout) -> tuple[Section, ...]:
    """The latest look's; and, where the decisive one was earlier, that one too."""
    decisive = next(
        (d for d in reversed(rollout.decisions) if d.verdict is not None and d.verdict.findings), None
    )
    found = []
    if decisive is not None and decisive.verdict is not None and decisive.verdict != rollout.verdict:
        found.append(
            verdict_section(rollout, decisive.verdict, f"The verdict that decided ({decisive.signal})")
        )
    if rollout.verdict is not None:
        found.append(verdict_section(rollout, rollout.verdict, "The last verdict"))
    return tuple(found)


def verdict_section(rollout: Rollout, verdict: Verdict, title: str) -> Section:
    """A verdict with all its numbers: what decided, and each finding."""
    canary, least = rollout.for_display.canary, " at least" if rollout.is_bracket else ""
    lines = [
        f"looks     {verdict.looks} compared in stage {stage_text(rollout, verdict.stage)} "
        f"{_how(rollout, verdict)}, the last one until {time_text(verdict.at)}; {verdict.canary_requests:,} "
        f"requests of {canary}{least}",
        f"odds      {odds_text(verdict.odds)} against {canary} over the whole rollout "
        f"({odds_text(verdict.stage_odds)} by this stage alone); it is rolled back at "
        f"{odds_text(verdict.bar)}",
    ]
    if (by := decided_by(verdict)) and (verdict.answer is Answer.FAIL or verdict.odds >= UNEVEN):
        lines += labelled(
            "decided" if verdict.answer is Answer.FAIL else "mostly",
            f"by {by}" if verdict.answer is Answer.FAIL else by,
        )
    for service in rollout.services if rollout.is_bracket and verdict == rollout.verdict else ():
        own = service.verdict
        if own is not None and own.at == verdict.at:
            lines.append(f"          {service.name}: {own.answer.value}, odds {odds_text(own.odds)}")
    if verdict.reason:
        lines += labelled("why", verdict.reason)
    if (
        verdict.odds >= verdict.bar
        and verdict.answer in (Answer.UNDECIDED, Answer.PASS)
        and verdict.weight < 100
    ):
        lines += labelled("but", ABOVE_AND_NOT_ROLLED_BACK)
    for finding in verdict.findings:
        lines += ["", *_finding(rollout, verdict, finding)]
    return Section(f"{title}: {verdict.answer.value}", tuple(lines))


def _finding(rollout: Rollout, verdict: Verdict, finding: MetricFinding) -> list[str]:
    if not rollout.policy.stages[verdict.stage].rules_out:
        finding = replace(finding, unacceptable=None)
    service = _whose(rollout, finding)
    name = finding.what if finding.metric in finding.what else f"{finding.metric}, {finding.what}"
    name = f"{finding.service}, {name}" if finding.service else name
    lines = [f"{name}: {finding.answer.value}" + (" (dry run: decides nothing)" if finding.dry_run else "")]
    if finding.says:
        lines += wrapped(finding.says, "  ")
    lines += _both_counts(service, finding)
    if finding.ratio is not None:
        lines.append(f"  ratio     {short(finding.ratio)}{_interval(finding)}{_held_against(finding)}")
    elif finding.tolerated is not None:
        estimate = (
            f"no estimate{_interval(finding)}" if finding.low is not None else "no estimate from these counts"
        )
        lines.append(f"  ratio     {estimate}{_held_against(finding)}")
    if finding.limit is not None:
        lines.append(
            f"  value     {_limited(finding, finding.value)}, limit {_limited(finding, finding.limit)}"
        )
    elif finding.value is not None:
        lines.append(f"  value     {_limited(finding, finding.value)}")
    # a query's limit gathers no odds
    if finding.stable_requests or finding.canary_requests or finding.odds != 1.0:
        lines.append(
            f"  harm      {odds_text(finding.odds)}; alone it rolls back at {odds_text(finding.bar)}"
        )
    if finding.unacceptable is not None:
        bar = odds_text(finding.clear_bar)
        lines.append(
            f"  cleared   {odds_text(finding.cleared)} that nothing unacceptable is there; the stage passes "
            f"at {bar}"
        )
    return lines


def _whose(rollout: Rollout, finding: MetricFinding) -> ServiceRollout:
    """The service that a finding is about."""
    return next(
        (service for service in rollout.services if finding.service in (service.name, "/".join(service.key))),
        rollout.entrance,
    )


def _both_counts(service: ServiceRollout, finding: MetricFinding) -> list[str]:
    """Events of requests on both sides; requests alone where a finding is about no one kind of event, as a
    mean is."""
    counts_events = finding.what not in (ALL_BOUNDS, MEAN)
    events = counts_events and (finding.tolerated is not None or finding.limit is not None)
    sides = (
        (service.stable, finding.stable_events, finding.stable_requests),
        (service.canary, finding.canary_events, finding.canary_requests),
    )
    shown = [
        f"{version} {share_text(happened, of) if events else f'{of:,} requests'}"
        for version, happened, of in sides
        if of
    ]
    return ["  counts    " + "; ".join(shown)] if shown else []


def _limited(finding: MetricFinding, number: float | None) -> str:
    """A guardrail's numbers are shares of requests; a query's are its own."""
    if number is None:
        return "none"
    return percent_text(number) if finding.metric in ("errors", "latency") else f"{number:.4g}"


def _interval(finding: MetricFinding) -> str:
    if finding.low is None:
        return ""
    high = short(finding.high) if finding.high is not None and isfinite(finding.high) else "any"
    return f" ({short(finding.low)} to {high})"


def _held_against(finding: MetricFinding) -> str:
    tolerated = ruled_out = ""
    if finding.tolerated is not None:
        increase = (
            f", or {points_text(finding.tolerated_increase)} more," if finding.tolerated_increase else ""
        )
        tolerated = f"; up to {finding.tolerated:.3g}{increase} is tolerated"
    if finding.unacceptable is not None:
        increase = ""
        if finding.unacceptable_increase:
            increase = f" (and {points_text(finding.unacceptable_increase)} more)"
        ruled_out = f"; this stage has to rule out {finding.unacceptable:.3g}{increase}"
    return tolerated + ruled_out


def _counted(rollout: Rollout) -> tuple[str, ...]:
    """Per replica and per version, since the rollout began, with the traffic served while a weight was in
    change."""
    if not any(service.counted for service in rollout.services):
        return ()
    rows: list[tuple[str, ...]] = [("version", "replica", "requests", "failures", "share")]
    for service in rollout.services:
        for version in (service.stable, service.canary):
            called = rollout.version_name(service, version)
            mine = {
                name: counts
                for name, counts in sorted(service.counted.items())
                if version_of(service, name) == version
            }
            rows += [_counted_row(called, name, counts) for name, counts in mine.items()]
            if len(mine) > 1:
                rows.append(_counted_row(called, "all", total(mine.values())))
    until = f", until {time_text(rollout.counted_to)}" if rollout.counted_to is not None else ""
    note = (
        f"Since {time_text(rollout.began)}{until}; what was served while a weight changed is counted, not "
        "compared."
    )
    return (*aligned(rows, right=(2, 3, 4)), note)


def _counted_row(version: str, name: str, counts: Counts) -> tuple[str, ...]:
    share = percent_text(counts.failures / counts.requests) if counts.requests else "-"
    return version, name, f"{counts.requests:,}", f"{counts.failures:,}", share


def _notes(rollout: Rollout) -> tuple[str, ...]:
    """What the judge wants a reader to know, and what is void, each once."""
    fresh = [
        f"stable changed at {time_text(span.start)}: what was compared before is void"
        for span in rollout.spans
        if span.fresh
    ]
    # Who does not follow the weight is told with why that is.
    routed = [
        f"{rollout.prefix(service)}{why}"
        for service in rollout.services
        if (why := service.off_weight_callers or service.route.unrouted_reason)
    ]
    notes = dict.fromkeys((*routed, *(rollout.verdict.notes if rollout.verdict else ()), *fresh))
    return tuple(("- " if first else "  ") + line for note in notes for first, line in _marked(wrapped(note)))


def _people(rollout: Rollout, wishes: DesiredActions) -> tuple[str, ...]:
    """What people did, as the record shows it, and who last asked for each and why, as far as they said. Who
    it really was is in the API server's audit log."""
    deeds = []
    if wishes.hold:
        deeds.append("asked to hold (canaryd resume ends it)")
    elif rollout.held is Held.PERSON:
        deeds.append("held it")
    if rollout.approved >= 0:
        deeds.append(f"approved up to stage {stage_text(rollout, rollout.approved)}")
    if wishes.approved_stage > rollout.approved:
        deeds.append(f"approved up to stage {wishes.approved_stage + 1}, not obeyed yet")
    if rollout.promoted:
        deeds.append("promoted it to full weight")
    elif wishes.promote:
        deeds.append("asked to promote, not obeyed yet")
    if gate := gates.opened_by(wishes, rollout):
        deeds.append(f"opened the gate {gate}, not obeyed yet")
    if wishes.abort:
        deeds.append("aborted it")
    if rollout.resumed:
        deeds.append(f"resumed it {rollout.resumed} time{'s' * (rollout.resumed != 1)}")
    if wishes.attempt > rollout.attempt:
        deeds.append(f"asked for attempt {wishes.attempt}")
    done = (f"A person {', '.join(deeds)}.",) if deeds else ()
    asked = tuple(
        line for verb, request in wishes.requests.items() for line in wrapped(_request_text(verb, request))
    )
    return (*done, *asked)


def _request_text(verb: str, request: ActionRequest) -> str:
    """`hold asked for by alice at 09:30:00: the database is down`."""
    when = f" at {time_text(request.at)}" if request.at is not None else ""
    reason = " ".join(request.reason.split())
    return f"{verb} asked for by {request.by or 'a person'}{when}{f': {reason}' if reason else ''}"


def _told(rollout: Rollout) -> tuple[str, ...]:
    """Each announcement, with the notifiers that confirmed it; what is neither delivered nor given up is
    still tried."""
    rows: list[tuple[str, ...]] = [("UTC", "event", "delivered to", "given up")]
    for announcement in rollout.announcements:
        rows.append(
            (
                time_text(announcement.at),
                announcement.event,
                ", ".join(announcement.delivered) or "nobody yet",
                ", ".join(announcement.given_up),
            )
        )
    return tuple(aligned(rows)) if len(rows) > 1 else ()


def _how_to_read(rollout: Rollout) -> tuple[str, ...]:
    """The terms, where a verdict uses them."""
    judged = rollout.verdict is not None or any(decision.verdict for decision in rollout.decisions)
    return _lines([HOW_TO_READ]) if judged else ()


# ---------------------------------------------------------------- small things


def _how(rollout: Rollout, verdict: Verdict) -> str:
    return replace(rollout, phase=Phase.PROGRESSING, stage=verdict.stage, weight=verdict.weight).how


def _lines(sentences: list[str]) -> tuple[str, ...]:
    return tuple(line for sentence in sentences for line in wrapped(sentence))


def _marked(lines: list[str]) -> list[tuple[bool, str]]:
    """Each line with whether it is the first."""
    return [(position == 0, line) for position, line in enumerate(lines)]


def labelled(label: str, sentence: str) -> list[str]:
    """A fact as a verdict's section has it, its name before it."""
    lines = wrapped(sentence, " " * 10)
    return [f"{label:<10}{lines[0].strip()}", *lines[1:]]
