"""What a judged look, or the lack of one, means for a rollout: which signals, and why, in words.

The live loop and a backtest both ask here, so that they say and do the same of the same looks. Nothing here
reads a clock or a cluster; what a signal then does to a rollout is `lifecycle.advance`.
"""

from collections.abc import Sequence
from math import inf

from canaryd.domain.lifecycle import Detail, Signal
from canaryd.domain.policy.units import format_duration
from canaryd.domain.rollout import Held, Phase, Rollout
from canaryd.domain.verdict import Verdict


def reason_of(rollout: Rollout, signal: Signal, verdict: Verdict) -> str:
    """Why a verdict's signal is given, in one sentence with numbers."""
    deadline = format_duration(rollout.policy.stages[rollout.stage].deadline)
    if signal is Signal.STUCK:
        wanted = rollout.policy.analysis.minimum_requests
        few = f", of {wanted} that it takes" if verdict.canary_requests < wanted else ""
        requests = f"with {verdict.canary_requests:,} canary requests{few}"
        return f"still undecided at the stage's deadline of {deadline} {requests}: {verdict.reason}"
    if signal is Signal.TIMED_OUT:
        return (
            f"undecided at the stage's deadline of {deadline}, where the policy rolls back: {verdict.reason}"
        )
    if signal is Signal.ALERT_FIRING:
        alerts = [finding.says for finding in verdict.findings if finding.since is not None]
        return f"{'; '.join(alerts)}: held until it has resolved"
    if signal is Signal.ALERT_RESOLVED:
        return "no alert fires any more"
    if signal is Signal.LET_PASS:
        return f"no evidence of harm at the stage's deadline of {deadline}: {verdict.reason}"
    return verdict.reason


def overdue(rollout: Rollout, now: float) -> str:
    """Why the whole rollout has taken too long; empty if it has not."""
    deadline = rollout.policy.schedule.deadline
    if deadline is None or now - rollout.began < deadline:
        return ""
    return f"not finished within the {format_duration(deadline)} that the policy allows"


def waits_for_data(rollout: Rollout) -> bool:
    """Whether data, once they come, let something go on: a hold for want of them, or the stage's clock."""
    return rollout.held is Held.NO_DATA or (rollout.phase is Phase.PROGRESSING and rollout.clock_from is None)


def silence_is_late(rollout: Rollout, delay: float) -> float:
    """Seconds after the last data from which the next look is late. delay: s until a look can be read."""
    return 2 * rollout.policy.analysis.interval + delay


def silence(
    rollout: Rollout, now: float, delay: float, why: str, watched: float = inf
) -> Sequence[tuple[Signal, Detail]]:
    """What no data means, in order: the stage's deadline stands still, and after the policy's time without
    any, its `noData` says what happens. Nothing before looks are taken. watched: seconds for which data could
    have been noticed; an absence of one's own is none of telemetry's."""
    if rollout.last_data is None or rollout.span is None or rollout.span.end is not None:
        return ()
    silent, analysis = now - rollout.last_data, rollout.policy.analysis
    given = []
    if silent > silence_is_late(rollout, delay) and rollout.clock_from is not None:
        given.append((Signal.DATA_LOST, Detail(why)))
    if min(silent, watched) >= analysis.no_data_for:
        # Whose traffic someone else has to steer may be without any for long: that is no reason to say that
        # it would be rolled back.
        gives_up = analysis.no_data == "rollback" and rollout.policy.mode != "observe"
        given.append(
            (Signal.BLIND if gives_up else Signal.NO_DATA, Detail(f"no data for {silent:.0f} s: {why}"))
        )
    return given
