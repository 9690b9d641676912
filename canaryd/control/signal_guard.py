"""Whether a signal is applied: what would advance a rollout stands still in a pause, and what would send
traffic back waits for a stable version that can take it."""

from dataclasses import replace

import structlog

from canaryd.control.look_context import LookContext
from canaryd.domain import lifecycle
from canaryd.domain.lifecycle import TRANSITIONS, Detail, Signal
from canaryd.domain.rollout import Rollout

log = structlog.get_logger()

ADVANCING = (
    Signal.AVAILABLE,
    Signal.PASS,
    Signal.LET_PASS,
    Signal.APPROVE,
    Signal.PROMOTE,
    Signal.GATE_OPEN,
)  # what a pause stops
# What sends traffic back to stable without a person's word. NOT_READY too, as long as the canary serves at
# all.
GIVING_BACK = (
    Signal.HARM,
    Signal.ALARM,
    Signal.TIMED_OUT,
    Signal.BLIND,
    Signal.OVERDUE,
    Signal.NEWER,
    Signal.NOT_READY,
    Signal.GATE_LOST,
)


def apply_signal(
    rollout: Rollout, signal: Signal, now: float, detail: Detail, context: LookContext | None = None
) -> Rollout:
    """The rollout after a signal; unchanged where the signal has no meaning in its phase.

    context: of the look; what would advance the rollout is stopped by a pause and while the route is someone
    else's, what would send traffic back waits until stable can take it. None: the signal is applied anyway.
    """
    if (rollout.phase, signal) not in TRANSITIONS:
        return rollout
    if context is not None and (context.paused or context.drifted) and signal in ADVANCING:
        return rollout
    if (
        context is not None
        and signal in GIVING_BACK
        and rollout.stage >= 0
        and (down := context.not_serving(rollout))
    ):
        return with_reason(
            rollout, f"{detail.reason}; but no replica of {down} is ready to take the traffic back"
        )
    return lifecycle.advance(rollout, signal, now, detail)


def with_reason(rollout: Rollout, reason: str) -> Rollout:
    """The rollout where it is, with another reason for that; a new one is logged."""
    if reason != rollout.reason:
        log.warning("rollout.waits", rollout=rollout.name, reason=reason)
    return replace(rollout, reason=reason)
