"""What a look does about the gate that its rollout waits for: has it asked, and makes of the reply what it
means."""

from canaryd.domain import gates as gate_rules
from canaryd.domain.lifecycle import Signal
from canaryd.domain.ports import Gates
from canaryd.domain.rollout import Rollout


def check(rollout: Rollout, gates: Gates, now: float, is_stopped: bool) -> tuple[Rollout, Signal | None, str]:
    """The rollout with the reply on record, the signal that it gives, if any, and why.

    is_stopped: by a pause, or since the route is someone else's. An open gate opens nothing then, and would
    be old when it does: it is not asked.
    """
    if not gate_rules.is_asking(rollout):
        return rollout, None, rollout.reason
    if is_stopped:
        return gate_rules.put_off(rollout), None, rollout.reason
    rollout = gate_rules.begun(rollout, now)
    question = gate_rules.question(rollout)
    reply = gates.ask(question) if question is not None else None
    if question is None or reply is None:
        return rollout, None, rollout.reason
    rollout = gate_rules.with_reply(rollout, reply)
    if reply.opens:
        return rollout, Signal.GATE_OPEN, f"the gate {question.gate.name} is open: {reply.says}"
    signal = Signal.GATE_STUCK if question.gate.closed == "hold" else Signal.GATE_LOST
    return (
        rollout,
        signal if gate_rules.is_late(rollout, now) else None,
        gate_rules.keeps_closed(rollout, now),
    )
