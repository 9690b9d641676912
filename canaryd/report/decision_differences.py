"""A decision on record beside the same one made again: where they differ, in sentences."""

from dataclasses import replace

from canaryd.domain import lifecycle
from canaryd.domain.formatting import odds_text, time_text
from canaryd.domain.lifecycle import Signal
from canaryd.domain.rollout import Decision, Held, Phase, Rollout
from canaryd.domain.verdict import Verdict

BY_EVIDENCE = (
    Signal.PASS,
    Signal.LET_PASS,
    Signal.STUCK,
    Signal.TIMED_OUT,
    Signal.HARM,
    Signal.ALARM,
    Signal.ALERT_FIRING,
    Signal.ALERT_RESOLVED,
)
AT_DEADLINE = (Signal.LET_PASS, Signal.STUCK, Signal.TIMED_OUT)


def differences_of(
    rollout: Rollout, decision: Decision, before: Decision | None, again: Verdict | None
) -> list[str]:
    """The differences of a decision by evidence from the same one made again, in sentences; [] where it would
    be made again on the same numbers."""
    recorded = decision.verdict
    if recorded is None or decision.signal not in BY_EVIDENCE:
        return []
    when = f"{time_text(decision.at)} UTC, {decision.signal}"
    if again is None:
        return [
            f"{when}: its look, until {time_text(recorded.at)} UTC, is not among those that were read again"
        ]
    found = []
    if (again.answer, again.odds, again.reason) != (recorded.answer, recorded.odds, recorded.reason):
        found.append(
            f"{when}: {again.answer.value} at {odds_text(again.odds)} now, and {recorded.answer.value} at "
            f"{odds_text(recorded.odds)} on record ({recorded.reason})"
        )
    signal = _signal_again(rollout, decision, before, again)
    if signal is None or signal.value != decision.signal:
        found.append(f"{when}: the same verdict means {signal.value if signal else 'to go on looking'} now")
    return found


def _signal_again(
    rollout: Rollout, decision: Decision, before: Decision | None, verdict: Verdict
) -> Signal | None:
    """What a verdict means where the rollout was then. When it was read, and for how long the deadline's
    clock had stood still, is not on record; that the deadline had come is, by the decision."""
    span = next(
        (
            past
            for past in rollout.spans
            if past.start < verdict.at and (past.end is None or verdict.at <= past.end)
        ),
        None,
    )
    held = before is not None and before.phase is Phase.HELD
    clock = rollout.policy.stages[verdict.stage].deadline if decision.signal in AT_DEADLINE else 0.0
    there = replace(
        rollout,
        phase=Phase.HELD if held else Phase.PROGRESSING,
        held=(Held.ALERT if decision.signal == Signal.ALERT_RESOLVED else Held.UNDECIDED) if held else None,
        stage=verdict.stage,
        weight=verdict.weight,
        spans=(replace(span, end=None),) if span else (),
        clock=clock,
        clock_from=None,
    )
    return lifecycle.stage_signal(there, verdict, decision.at)
