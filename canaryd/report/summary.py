"""A rollout in one line without statistics: how both versions do, what became of it, and whom it hurt.

From the record alone, for whoever has no time for more: `explain` shows it first, and announcements begin
with it. A failed request is taken for one user; where users get no answer of the canary (a dark or a mirrored
stage), requests are told instead. Of a rollout of several services, each version has its service's name.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

from canaryd.domain.formatting import lasting, percent_text, short
from canaryd.domain.rollout import Announcement, Held, Phase, Rollout, SummarizedAnnouncement
from canaryd.domain.verdict import ALERTS_METRIC, Answer, MetricFinding, Verdict
from canaryd.report import alert_findings
from canaryd.report.findings import ALL_BOUNDS, REPLICA_DOWN, VERSION_DOWN, loudest, plainly_down
from canaryd.report.phase_summary import version_of
from canaryd.report.query_findings import COMPARED

SILENT_KINDS = ("dark", "mirror")  # kinds of stages in which no user gets an answer of the canary
UNEVEN = 2.0  # odds from which a difference is worth a word before anything is decided


def summary(rollout: Rollout, now: float) -> str:
    """The rollout as it stands. now: Unix seconds."""
    ended = rollout.ended if rollout.ended is not None else now
    return _with_users(rollout, _summary(rollout, _event(rollout), _deciding(rollout), ended))


def announced(rollout: Rollout, announcement: Announcement) -> str:
    """What an announcement of the rollout says, by the numbers of its own moment."""
    is_held = announcement.event == "held" and rollout.phase is Phase.HELD
    then = replace(
        rollout,
        phase=Phase.HELD if is_held else Phase.PROGRESSING,
        held=rollout.held if is_held else None,
        stage=announcement.stage,
        weight=announcement.weight,
    )
    line = _summary(then, announcement.event, announcement.verdict, announcement.at)
    return _with_users(rollout, line) if announcement.event == "rolled_back" else line


def summarized(rollout: Rollout, announcement: Announcement) -> SummarizedAnnouncement:
    """An announcement of the rollout as it is handed over."""
    stored = {field.name: getattr(announcement, field.name) for field in fields(Announcement)}
    return SummarizedAnnouncement(**stored, summary=announced(rollout, announcement))


def _event(rollout: Rollout) -> str:
    """The name of the announcement that says where a rollout stands."""
    return {
        Phase.WAITING: "started",
        Phase.PROGRESSING: "advanced",
        Phase.AWAITING_APPROVAL: "approval_needed",
        Phase.AWAITING_GATE: "gate_asked",
        Phase.HELD: "held",
        Phase.ROLLING_BACK: "rolled_back",
        Phase.ROLLED_BACK: "rolled_back",
        Phase.GIVING_WAY: "superseded",
        Phase.SUPERSEDED: "superseded",
        Phase.PROMOTING: "succeeded",
        Phase.SUCCEEDED: "succeeded",
    }[rollout.phase]


def _deciding(rollout: Rollout) -> Verdict | None:
    """The verdict that a rollout's end rests on, or the last one."""
    decided = (decision.verdict for decision in reversed(rollout.decisions) if decision.verdict is not None)
    last = rollout.verdict
    return next((verdict for verdict in decided if verdict.findings), last) if rollout.phase.ended else last


def _summary(rollout: Rollout, event: str, verdict: Verdict | None, at: float) -> str:
    observation = _observation(rollout, verdict) if verdict is not None else ""
    outcome = _outcome(rollout, event, at)
    return f"{observation}: {outcome}" if observation else f"{rollout.for_display.canary} is {outcome}"


def _outcome(rollout: Rollout, event: str, at: float) -> str:
    """What became of it, as it follows on "v3 is": `rolled back after 12 s`."""
    after = _after(at - rollout.began)
    stage = f"stage {rollout.stage + 1} of {len(rollout.policy.stages)}"
    would = "only observed, and would be " if rollout.policy.mode == "observe" else ""
    return would + {
        "started": f"new, beside {rollout.for_display.stable}",
        "advanced": f"in {stage} {rollout.how} after {after}",
        "approval_needed": f"through {stage}, and waits for approval",
        "gate_asked": f"through {stage}, and waits for a gate",
        "held": f"held {rollout.how} after {after}{_why_held(rollout)}",
        "resumed": f"going on {rollout.how} after {after}",
        "stepped_back": f"back {rollout.how} after {after}, to be compared again",
        "rolled_back": f"rolled back after {after}",
        "superseded": f"replaced by a newer version after {after}",
        "succeeded": f"promoted after {after}",
        "alert_after_promotion": "promoted, and an alert began to fire after that",
    }.get(event, f"{event.replace('_', ' ')} after {after}")


def _why_held(rollout: Rollout) -> str:
    return {
        Held.PERSON: ", as a person asked",
        Held.DRIFT: ", since the route was changed by someone else",
        Held.NO_DATA: ", for want of telemetry",
        Held.UNDECIDED: ", undecided at its deadline",
        Held.ALARMS: ", after several alarms at full weight",
        Held.STABLE_NOT_READY: ", since the stable version is not ready",
        Held.GATE: ", since its gate did not open",
        Held.ALERT: ", since an alert fires",
        None: "",
    }[rollout.held]


def _after(seconds: float) -> str:
    """`12 s` below two minutes, `14m`, `2h5m`."""
    return f"{max(0.0, seconds):.0f} s" if seconds < 120 else lasting(60 * round(seconds / 60))


# ---------------------------------------------------------------- how both versions do


def _observation(rollout: Rollout, verdict: Verdict) -> str:
    """What both versions did, of the part that decides; empty where nothing was counted."""
    deciding = [finding for finding in verdict.findings if not finding.dry_run]
    found = _worth_telling(verdict, deciding)
    if found is None:
        return ""
    if found.metric == ALERTS_METRIC:
        canary, stable = _versions(rollout, found)
        return f"{found.what} fires while {canary} is rolled out"
    canary, stable = _versions(rollout, found)
    if found.what == REPLICA_DOWN:
        canary = f"a replica of {canary}"
    if found.what in ("errors", VERSION_DOWN, REPLICA_DOWN) and found.canary_requests:
        return f"{canary} fails {_share(found)} of its requests, {stable} {_stable_share(found)}"
    if found.what == ALL_BOUNDS:
        return f"{canary} {_times_as_slow(found)} {stable}"
    if found.what.startswith("slower than") and found.stable_requests:
        return (
            f"{canary} answers {_share(found)} of its requests {found.what}, {stable} {_stable_share(found)}"
        )
    if found.what == COMPARED:
        return f"{canary} has {_times(found)} {stable}"
    return _beyond_its_own(canary, stable, found, deciding) if found.value is not None else ""


def _worth_telling(verdict: Verdict, findings: Sequence[MetricFinding]) -> MetricFinding | None:
    """The finding that decided; where none did, the one that stands out, or errors."""
    down = plainly_down(findings)
    if down is not None:
        return down
    alerts = alert_findings.begun(findings)
    if alerts and verdict.answer in (Answer.FAIL, Answer.UNDECIDED, Answer.PASS):
        return alerts[0]
    grave = [finding for finding in findings if finding.answer in (Answer.FAIL, Answer.ALARM)]
    broken = next((finding for finding in grave if finding.limit is not None), None)
    if broken is not None:
        return max(grave, key=lambda finding: finding.odds) if verdict.answer is Answer.ALARM else broken
    compared = loudest(findings)
    if compared is not None and compared.odds >= UNEVEN:
        return compared
    errors = (finding for finding in findings if finding.what == "errors" and finding.canary_requests)
    return next(errors, compared if compared is not None and compared.canary_requests else None)


def _beyond_its_own(canary: str, stable: str, found: MetricFinding, findings: Sequence[MetricFinding]) -> str:
    """The canary's value beside what a limit allows, or what is usual by full weight's record."""
    limit = f"{found.limit:g}" if found.limit is not None else ""
    if found.what.endswith("against the record"):
        usual = f"up to {percent_text(found.limit or 0.0)} is usual"
        if found.metric == "errors":
            return f"{canary} fails {_share(found)} of its requests at full weight, {usual}"
        slow = found.what.partition(",")[0]
        return f"{canary} answers {_share(found)} of its requests {slow} at full weight, {usual}"
    if found.metric == "errors" and found.canary_requests:
        beside = next(
            (
                finding
                for finding in findings
                if finding.what == "errors" and finding.service == found.service
            ),
            None,
        )
        of_stable = f", {stable} {_stable_share(beside)}" if beside is not None else ""
        allowed = f"at most {percent_text(found.limit or 0.0)} is allowed"
        return f"{canary} fails {_share(found)} of its requests{of_stable} ({allowed})"
    if found.metric == "latency" and found.canary_requests:
        slow = "slower than" + found.what.partition("slower than")[2]
        allowed = f"at most {percent_text(found.limit or 0.0)} is allowed"
        return f"{canary} answers {_share(found)} of its requests {slow} ({allowed})"
    return f"{canary} has {found.metric} at {found.value:g} ({found.what or limit} is allowed)"


def _versions(rollout: Rollout, finding: MetricFinding) -> tuple[str, str]:
    """Canary and stable as a line names them: of several services, the canary with its service's name."""
    for service in rollout.services:
        if finding.service in (service.name, "/".join(service.key)):
            return f"{finding.service} {service.canary}", service.stable
    return rollout.for_display.canary, rollout.for_display.stable


def _share(finding: MetricFinding) -> str:
    return percent_text(finding.canary_events / finding.canary_requests)


def _stable_share(finding: MetricFinding) -> str:
    if not finding.stable_requests:
        return "served none"
    return percent_text(finding.stable_events / finding.stable_requests)


def _times_as_slow(finding: MetricFinding) -> str:
    """`takes 1.8 times as long as`: by the mean, where that tells it."""
    ratio = finding.ratio
    if ratio is None or (finding.odds >= UNEVEN and ratio <= 1.0):
        return "is slower than" if finding.odds >= UNEVEN else "is as fast as"
    return f"takes {short(ratio)} times as long as"


def _times(finding: MetricFinding) -> str:
    if finding.ratio is None:
        return f"{finding.metric} worse than"
    return f"{short(finding.ratio)} times the {finding.metric} of"


# ---------------------------------------------------------------- whom it hurt


def _with_users(rollout: Rollout, line: str) -> str:
    """The line, and how many users saw an error of the canary; nothing where none failed."""
    failed = sum(
        counts.failures
        for service in rollout.services
        for replica, counts in service.counted.items()
        if version_of(service, replica) == service.canary
    )
    if not failed or rollout.phase is Phase.SUCCEEDED:
        return line
    stages = rollout.policy.stages[: max(rollout.stage, *(d.stage for d in rollout.decisions), 0) + 1]
    if any(stage.kind in SILENT_KINDS for stage in stages):
        return f"{line}; {failed:,} of its requests failed, copies and previews included"
    users = "user" if failed == 1 else "users"
    return f"{line}; about {failed:,} {users} saw an error"
