"""Where a rollout stands, in half a sentence: what `explain`, `status` and the verbs' refusals say alike."""

from canaryd.domain import gates
from canaryd.domain.rollout import Phase, Rollout, ServiceRollout


def describe(rollout: Rollout) -> str:
    """Where a rollout is, in half a sentence; of one that only observes, where it would be."""
    names = rollout.for_display
    if rollout.policy.mode == "observe" and rollout.phase is not Phase.WAITING:
        return f"observing: {would_be(rollout)}"
    where = {
        Phase.WAITING: f"waiting for {names.canary_workload} to be available",
        Phase.PROGRESSING: f"in stage {stage_text(rollout, rollout.stage)} {rollout.how}",
        Phase.AWAITING_APPROVAL: f"stage {stage_text(rollout, rollout.stage)} {rollout.how} has passed, and "
        "waits for approval",
        Phase.AWAITING_GATE: _at_gate(rollout, f"{rollout.how} has passed, and waits"),
        Phase.HELD: f"held {rollout.how} ({rollout.held.value if rollout.held else 'unknown'})",
        Phase.ROLLING_BACK: f"rolling back to {names.stable}",
        Phase.GIVING_WAY: "giving way to a newer version",
        Phase.PROMOTING: f"promoting {names.canary}",
        Phase.SUCCEEDED: f"succeeded, all traffic on {names.canary}",
        Phase.ROLLED_BACK: f"rolled back, all traffic on {names.stable}",
        Phase.SUPERSEDED: f"superseded by a newer version, all traffic on {names.stable}",
    }
    return where[rollout.phase]


def would_be(rollout: Rollout) -> str:
    """Where a rollout would be that moves no traffic, or moved none, in half a sentence."""
    stage, names = stage_text(rollout, rollout.stage), rollout.for_display
    return {
        Phase.WAITING: "",  # it says the same in both modes
        Phase.PROGRESSING: f"in stage {stage}, would be at {rollout.weight}%",
        Phase.AWAITING_APPROVAL: f"stage {stage} has passed, would be at {rollout.weight}% and wait for "
        "approval",
        Phase.AWAITING_GATE: _at_gate(rollout, f"has passed, would be at {rollout.weight}% and wait"),
        Phase.HELD: f"would be held at {rollout.weight}% "
        f"({rollout.held.value if rollout.held else 'unknown'})",
        Phase.ROLLING_BACK: f"would roll back to {names.stable}",
        Phase.GIVING_WAY: "would give way to a newer version",
        Phase.PROMOTING: f"would promote {names.canary}",
        Phase.SUCCEEDED: f"would have succeeded, with all traffic on {names.canary}",
        Phase.ROLLED_BACK: f"would have rolled back to {names.stable}",
        Phase.SUPERSEDED: "superseded by a newer version",
    }[rollout.phase]


def _at_gate(rollout: Rollout, waits: str) -> str:
    gate = gates.gate_of(rollout)
    name = gate.name if gate is not None else "unknown"
    return (
        f"stage {stage_text(rollout, rollout.stage)} {waits} for the gate {name}"
        if rollout.stage >= 0
        else f"waits for the gate {name}"
    )


def stage_text(rollout: Rollout, stage: int) -> str:
    """`2/4`: of the policy's stages; `-` before the first."""
    return f"{stage + 1}/{len(rollout.policy.stages)}" if stage >= 0 else "-"


def version_of(service: ServiceRollout, replica: str) -> str:
    """The version that a replica is of; empty where none fits. Pods are named after their Deployment; of two
    that fit (`web` and `web-v2`) the longer name says more."""
    sides = ((service.stable_workload, service.stable), (service.canary_workload, service.canary))
    fits = [
        (len(workload), version)
        for workload, version in sides
        if replica.startswith((f"{workload}-", f"{workload} "))
    ]
    return max(fits)[1] if fits else ""
