"""Whether a signal is taken: what would advance a rollout stands still in a pause, and what would send
traffic back waits for a stable version that can take it."""

from dataclasses import replace

import structlog

from canaryd.control.rollout_state import LookContext
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


def take(
    rollout: Rollout, signal: Signal, now: float, detail: Detail, world: LookContext | None = None
) -> Rollout:
    """The rollout after a signal, if it means anything in its phase; what would advance it is stopped by a
    pause, and while the route is someone else's."""
    if (rollout.phase, signal) not in TRANSITIONS:
        return rollout
    if world is not None and (world.paused or world.drifted) and signal in ADVANCING:
        return rollout
    if (
        world is not None
        and signal in GIVING_BACK
        and rollout.stage >= 0
        and (down := world.not_serving(rollout))
    ):
        return because(
            rollout, f"{detail.reason}; but no replica of {down} is ready to take the traffic back"
        )
    return lifecycle.advance(rollout, signal, now, detail)


def because(rollout: Rollout, reason: str) -> Rollout:
    """Waits, for that reason."""
    if reason != rollout.reason:
        log.warning("rollout.waits", rollout=rollout.name, reason=reason)
    return replace(rollout, reason=reason)
