"""What people are told of a rollout, and under which id: news is what changes for them, not every change of a
phase."""

from dataclasses import replace

from canaryd.domain.rollout import Announcement, Phase, Rollout, Versions

_OF_PHASE = {
    Phase.AWAITING_APPROVAL: "approval_needed",
    Phase.HELD: "held",
    Phase.ROLLED_BACK: "rolled_back",
    Phase.SUPERSEDED: "superseded",
    Phase.SUCCEEDED: "succeeded",
}


def events(before: Rollout, after: Rollout) -> tuple[str, ...]:
    """The news of one change. Of a step back that ends in a hold both, in this order: who waits for holds
    hears of it."""
    is_back = 0 <= after.stage < before.stage and after.phase in (Phase.PROGRESSING, Phase.HELD)
    if is_back and after.phase is Phase.HELD:
        return "stepped_back", "held"
    if is_back:
        return ("stepped_back",)
    if after.phase is Phase.PROGRESSING and after.stage > before.stage:
        return ("advanced",)
    if after.phase is before.phase and after.held is before.held:
        return ()
    if before.phase is Phase.HELD and after.phase in (Phase.PROGRESSING, Phase.WAITING):
        return ("resumed",)
    return (_OF_PHASE[after.phase],) if after.phase in _OF_PHASE else ()


def announced(rollout: Rollout, event: str, now: float, reason: str) -> Rollout:
    """The rollout with one more announcement on record, not yet delivered to anyone."""
    # After the last one's, not their number: the oldest of very many are not kept, and an id must never come
    # twice.
    number = int(rollout.announcements[-1].id.rpartition(".")[2]) + 1 if rollout.announcements else 1
    verdict = rollout.verdict if event not in ("started", "advanced") or rollout.stage > 0 else None
    news = Announcement(
        id=f"{rollout.namespace}.{rollout.name}.{int(rollout.began)}.{number}",
        event=event,
        at=now,
        namespace=rollout.namespace,
        service=rollout.entrance.name,
        rollout=rollout.name,
        stable=rollout.entrance.stable,
        canary=rollout.entrance.canary,
        stage=rollout.stage,
        weight=rollout.weight,
        reason=reason,
        verdict=verdict,
        share=rollout.share,
        bracket=versions(rollout),
    )
    return replace(rollout, announcements=(*rollout.announcements, news))


def versions(rollout: Rollout) -> tuple[Versions, ...] | None:
    """Of every service of a bracket; None for a rollout of one."""
    if not rollout.is_bracket:
        return None
    return tuple(
        Versions(service.namespace, service.name, service.stable, service.canary)
        for service in rollout.services
    )
