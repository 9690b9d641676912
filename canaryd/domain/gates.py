"""Gates: which one is asked when, what it is asked, and what its reply means. Nothing here asks anyone, or
reads a clock.

A gate stands before a place of the ladder. What it opens is the way on from the present stage, once: a
rollout that was stepped back asks again.
"""

from dataclasses import dataclass, replace

from canaryd.domain.announcements import versions
from canaryd.domain.policy.hooks import Gate
from canaryd.domain.policy.units import format_duration
from canaryd.domain.rollout import AskedGate, DesiredActions, Held, Phase, Rollout, Versions
from canaryd.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class GateQuestion:
    """What a gate is asked, with the numbers of the moment. id: the idempotency key, the same each time it is
    asked. since: Unix seconds. weight: the canary's now; next_weight: what it would be. bracket: as an
    announcement has it."""

    id: str
    gate: Gate
    since: float
    namespace: str
    service: str
    rollout: str
    stable: str
    canary: str
    mode: str
    stage: int
    weight: int
    next_weight: int
    verdict: Verdict | None = None
    bracket: tuple[Versions, ...] | None = None


@dataclass(frozen=True, slots=True)
class GateReply:
    """at: when it came (Unix seconds); says: in words, as a person may read it."""

    opens: bool
    says: str
    at: float


def closed(rollout: Rollout) -> int | None:
    """The first gate, by its place among the policy's, that has not opened and stands before what comes next;
    None where there is none."""
    stages, following = rollout.policy.stages, rollout.stage + 1
    places: set[str | int] = {"start"} if following == 0 else set()
    if following == len(stages):
        places.add("promotion")
    elif stages[following].weight not in [stage.weight for stage in stages[:following]]:
        places.add(stages[following].weight)
    waits = (
        place
        for place, gate in enumerate(rollout.policy.gates)
        if gate.before in places and place not in rollout.opened_gates
    )
    return next(waits, None)


def next_question(rollout: Rollout) -> AskedGate | None:
    """The question to the gate that is closed, not asked yet."""
    gate = closed(rollout)
    return rollout.gate_question if gate is None else AskedGate(gate, _number(rollout) + 1)


def is_asking(rollout: Rollout) -> bool:
    """Whether an open gate would let it go on now."""
    waits = rollout.phase is Phase.AWAITING_GATE or (
        rollout.phase is Phase.HELD and rollout.held is Held.GATE
    )
    return waits and rollout.gate_question is not None


def gate_of(rollout: Rollout) -> Gate | None:
    """The gate that was asked last."""
    return rollout.policy.gates[rollout.gate_question.gate] if rollout.gate_question is not None else None


def put_off(rollout: Rollout) -> Rollout:
    """Not asked for now: what it would say may no longer be so when its answer counts."""
    if rollout.gate_question is None or rollout.gate_question.since is None:
        return rollout
    return replace(
        rollout,
        gate_question=replace(rollout.gate_question, since=None, number=rollout.gate_question.number + 1),
    )


def begun(rollout: Rollout, now: float) -> Rollout:
    """Asked from now on, unless it is already."""
    if rollout.gate_question is None or rollout.gate_question.since is not None:
        return rollout
    return replace(rollout, gate_question=replace(rollout.gate_question, since=now))


def opened_by(wishes: DesiredActions, rollout: Rollout) -> str:
    """The name of the gate, where a person wishes the one that is waited for now to open."""
    gate, asking = gate_of(rollout), rollout.gate_question
    is_meant = asking is not None and wishes.opened_gate == asking.number and is_asking(rollout)
    return gate.name if gate is not None and is_meant else ""


def keeps_closed(rollout: Rollout, now: float) -> str:
    """Why it waits, in one sentence."""
    gate, asking = gate_of(rollout), rollout.gate_question
    if gate is None or asking is None:
        return ""
    late = (
        f", {format_duration(gate.deadline)} after it was first asked"
        if is_late(rollout, now) or rollout.held is Held.GATE
        else ""
    )
    return f"before {gate.place}, the gate {gate.name} is closed{late}: {asking.says}"


def with_reply(rollout: Rollout, reply: GateReply) -> Rollout:
    """The rollout with the reply on record."""
    return (
        rollout
        if rollout.gate_question is None
        else replace(rollout, gate_question=replace(rollout.gate_question, at=reply.at, says=reply.says))
    )


def is_late(rollout: Rollout, now: float) -> bool:
    """Whether the gate has been closed for as long as it may, and nothing has been made of it yet."""
    gate, asking = gate_of(rollout), rollout.gate_question
    if rollout.phase is not Phase.AWAITING_GATE or gate is None or asking is None or asking.since is None:
        return False
    return now - asking.since >= gate.deadline


def question(rollout: Rollout) -> GateQuestion | None:
    """The question that is asked now; None where none is."""
    gate, asking = gate_of(rollout), rollout.gate_question
    if gate is None or asking is None or asking.since is None or not is_asking(rollout):
        return None
    stages, following = rollout.policy.stages, rollout.stage + 1
    return GateQuestion(
        id=f"{rollout.namespace}.{rollout.name}.{int(rollout.began)}.gate.{asking.number}",
        gate=gate,
        since=asking.since,
        namespace=rollout.namespace,
        service=rollout.entrance.name,
        rollout=rollout.name,
        stable=rollout.entrance.stable,
        canary=rollout.entrance.canary,
        mode=rollout.policy.mode,
        stage=rollout.stage,
        weight=rollout.weight,
        next_weight=stages[following].weight if following < len(stages) else 100,
        verdict=rollout.verdict,
        bracket=versions(rollout),
    )


def _number(rollout: Rollout) -> int:
    return rollout.gate_question.number if rollout.gate_question is not None else 0
