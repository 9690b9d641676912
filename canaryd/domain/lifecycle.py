"""The life of a rollout: every phase, and every way from one phase to the next.

All transitions are in `TRANSITIONS`; a pair that is not there is refused by name. Nothing here reads a clock,
a cluster or a metric, so any rollout can be replayed from its recorded signals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from canaryd.domain import gates
from canaryd.domain.announcements import announced, events
from canaryd.domain.counts import Counts
from canaryd.domain.rollout import Decision, Held, Phase, Rollout, ServiceRollout, Span
from canaryd.domain.verdict import Answer, Verdict

MAX_STEP_BACKS = 2  # a version that alarms at 100 again is looked at by a person, not tried a third time
DEADLINE_ODDS = 3.0  # docs/concepts/evidence.md: at a deadline, advance only below 3 to 1 against the canary
KEPT_DECISIONS = 100  # bounds the record: a rollout has some ten; a flapping hold may make many


class Signal(StrEnum):
    """What happened. Named for the reader of a record, so each stands in `decisions` as it is."""

    AVAILABLE = "canary available"
    NOT_READY = "canary not ready"
    ROUTED = "route confirmed"
    PASS = "passed"
    LET_PASS = "deadline, let pass"
    STUCK = "deadline, undecided"
    TIMED_OUT = "deadline, rolled back"
    HARM = "harm"
    ALARM = "alarm at full weight"
    DATA_LOST = "data lost"
    DATA = "data"
    NO_DATA = "no data"
    BLIND = "no data, rolled back"
    DRIFT = "drift"
    DRIFT_OVER = "drift over"
    HOLD = "hold"
    RESUME = "resume"
    APPROVE = "approve"
    ABORT = "abort"
    PROMOTE = "promote"
    NEWER = "newer version"
    OVERDUE = "rollout overdue"
    STABLE_CHANGED = "stable changed"
    STABLE_DOWN = "stable not ready"
    STABLE_UP = "stable ready"
    GATE_OPEN = "gate open"
    GATE_STUCK = "gate closed at its deadline"
    GATE_LOST = "gate closed, rolled back"
    ALERT_FIRING = "alert firing"
    ALERT_RESOLVED = "alert resolved"


@dataclass(frozen=True, slots=True)
class Detail:
    """What a signal brings along.

    reason: why, in one sentence with numbers. services: as the signal leaves them, with their routes as
    confirmed or found, or with stable's new template (None: unchanged). start: of the look grid (whole Unix
    seconds), with ROUTED. stage: approved up to. resumed: the resume that is obeyed.
    """

    reason: str = ""
    verdict: Verdict | None = None
    services: tuple[ServiceRollout, ...] | None = None
    start: int = 0
    stage: int = -1
    resumed: int | None = None

    def services_of(self, rollout: Rollout) -> tuple[ServiceRollout, ...]:
        """The services after the signal."""
        return rollout.services if self.services is None else self.services


class RefusedSignal(ValueError):
    """A signal that has no meaning in this phase."""


Step = Callable[[Rollout, float, Detail], Rollout]


# ---------------------------------------------------------------- the clock of a stage


def _stop(rollout: Rollout, now: float) -> Rollout:
    return replace(rollout, clock=rollout.stage_clock(now), clock_from=None)


def _run(rollout: Rollout, now: float) -> Rollout:
    """The deadline's clock goes only while looks are being taken: from an open span on."""
    is_open = rollout.span is not None and rollout.span.end is None
    return replace(rollout, clock_from=now) if rollout.clock_from is None and is_open else rollout


def _close(rollout: Rollout) -> Rollout:
    """Ends the span at its last judged look, so that what follows is counted as served at a weight in
    change."""
    span = rollout.span
    if span is None or span.end is not None:
        return rollout
    judged = rollout.verdict.at if rollout.verdict is not None else span.start
    return replace(rollout, spans=(*rollout.spans[:-1], replace(span, end=max(span.start, judged))))


# ---------------------------------------------------------------- the steps


def _away(phase: Phase) -> Step:
    """All traffic back to stable."""

    def step(rollout: Rollout, now: float, detail: Detail) -> Rollout:
        return replace(_close(_stop(rollout, now)), phase=phase, weight=0, held=None)

    return step


def _end(phase: Phase) -> Step:
    def step(rollout: Rollout, now: float, detail: Detail) -> Rollout:
        return replace(rollout, phase=phase, ended=now, services=detail.services_of(rollout))

    return step


def _enter(rollout: Rollout, now: float, stage: int) -> Rollout:
    """Wants the weight of a stage; its span opens when the route is confirmed."""
    weight = rollout.policy.stages[stage].weight
    return replace(
        _close(_stop(rollout, now)),
        phase=Phase.PROGRESSING,
        held=None,
        stage=stage,
        weight=weight,
        clock=0.0,
        stage_began=None,
        last_data=None,
        opened_gates=(),
    )


def _asked(rollout: Rollout, now: float) -> Rollout:
    """Waiting for a gate that is closed to open. The question is on record before it is asked: by the next
    look."""
    return replace(
        _stop(rollout, now), phase=Phase.AWAITING_GATE, held=None, gate_question=gates.next_question(rollout)
    )


def _opened(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """Back to where it was asked from: the evidence of the moment, or the canary's being available, lets it
    go on, and no old one does."""
    if rollout.gate_question is None or not gates.is_asking(rollout):
        return rollout
    rollout = replace(rollout, held=None, opened_gates=(*rollout.opened_gates, rollout.gate_question.gate))
    if rollout.stage < 0:
        return replace(rollout, phase=Phase.WAITING)
    return _run(replace(rollout, phase=Phase.PROGRESSING), now)


def _first_stage(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    return _enter(rollout, now, 0) if gates.closed(rollout) is None else _asked(rollout, now)


def _onward(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """The next stage; after the last one, promotion; where a person has to approve first, or a gate is
    closed, the question."""
    if rollout.policy.stages[rollout.stage].approval and rollout.approved < rollout.stage:
        return replace(_stop(rollout, now), phase=Phase.AWAITING_APPROVAL, held=None)
    if gates.closed(rollout) is not None:
        return _asked(rollout, now)
    if rollout.stage + 1 < len(rollout.policy.stages):
        return _enter(rollout, now, rollout.stage + 1)
    return replace(_close(_stop(rollout, now)), phase=Phase.PROMOTING, held=None)


def _routed(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """The route is as wanted: looks begin, unless they are being taken already."""
    rollout = replace(rollout, services=detail.services_of(rollout))
    if rollout.span is not None and rollout.span.end is None:
        return rollout
    span = Span(rollout.stage, rollout.weight, detail.start, fresh=rollout.evidence_void)
    began = rollout.stage_began if rollout.stage_began is not None else float(detail.start)
    rollout = replace(
        rollout,
        spans=(*rollout.spans, span),
        stage_began=began,
        last_data=float(detail.start),
        evidence_void=False,
    )
    return _run(rollout, float(detail.start)) if rollout.phase is Phase.PROGRESSING else rollout


def _hold(why: Held) -> Step:
    def step(rollout: Rollout, now: float, detail: Detail) -> Rollout:
        return replace(_stop(rollout, now), phase=Phase.HELD, held=why)

    return step


def _resume(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """Back to where it was held. A person's resume after a drift takes what is there as the base to steer
    from, and after an undecided deadline gives the stage another full one, also where it was held for
    something else since."""
    if rollout.stage < 0:
        return replace(
            rollout,
            phase=Phase.WAITING,
            held=None,
            resumed=rollout.resumed if detail.resumed is None else detail.resumed,
        )
    is_over = detail.resumed is not None and rollout.clock >= rollout.policy.stages[rollout.stage].deadline
    clock = 0.0 if rollout.held is Held.UNDECIDED or is_over else rollout.clock
    rollout = replace(
        rollout,
        phase=Phase.PROGRESSING,
        held=None,
        clock=clock,
        services=detail.services_of(rollout),
        last_data=now,
        resumed=rollout.resumed if detail.resumed is None else detail.resumed,
    )
    return _run(rollout, now)


def _resume_if(why: Held) -> Step:
    """Ends the hold that waited for exactly this, and no other."""

    def step(rollout: Rollout, now: float, detail: Detail) -> Rollout:
        return _resume(rollout, now, detail) if rollout.held is why else rollout

    return step


def _onward_if_undecided(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """The evidence that was waited for has come; other holds wait for something else."""
    return _onward(rollout, now, detail) if rollout.held is Held.UNDECIDED else rollout


def _data_lost(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    return _stop(rollout, now)


def _data(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    return replace(_run(rollout, now), last_data=now)


def _approve(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    rollout = replace(rollout, approved=max(rollout.approved, detail.stage))
    asked = rollout.phase is Phase.AWAITING_APPROVAL and rollout.approved >= rollout.stage
    return _onward(rollout, now, detail) if asked else rollout


def _promote(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """To full weight now; the last stage is still judged. Obeyed once, so that a step back from there is not
    undone by it."""
    if rollout.stage < 0:
        return rollout  # it does not serve yet; obeyed once it does
    last = len(rollout.policy.stages) - 1
    rollout = replace(rollout, promoted=True)
    if rollout.stage == last:
        return rollout
    return replace(_enter(rollout, now, last), approved=max(rollout.approved, last - 1))


def _step_back(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """From full weight to the one before, where both versions can be compared again; never to a stage that
    sends the canary no share of all users."""
    before = rollout.policy.leads_back_to(rollout.stage)
    if before is None:
        return _away(Phase.ROLLING_BACK)(rollout, now, detail)
    back = replace(_enter(rollout, now, before), step_backs=rollout.step_backs + 1)
    return replace(back, phase=Phase.HELD, held=Held.ALARMS) if back.step_backs >= MAX_STEP_BACKS else back


def _fresh(rollout: Rollout, now: float, detail: Detail) -> Rollout:
    """Stable is another one now: what was compared with the old one is void, and the stage begins anew with
    the next span."""
    fresh = replace(
        _close(_stop(rollout, now)),
        services=detail.services_of(rollout),
        clock=0.0,
        stage_began=None,
        evidence_void=bool(rollout.spans),
    )
    passed = fresh.phase in (Phase.AWAITING_APPROVAL, Phase.AWAITING_GATE) and fresh.stage >= 0
    return replace(fresh, phase=Phase.PROGRESSING) if passed else fresh


P, S = Phase, Signal
_roll_back = _away(Phase.ROLLING_BACK)

TRANSITIONS: dict[tuple[Phase, Signal], Step] = {
    (P.WAITING, S.AVAILABLE): _first_stage,
    (P.WAITING, S.NOT_READY): _roll_back,
    (P.WAITING, S.HOLD): _hold(Held.PERSON),
    (P.WAITING, S.ABORT): _roll_back,
    (P.WAITING, S.OVERDUE): _roll_back,
    (P.WAITING, S.NEWER): _away(Phase.GIVING_WAY),
    (P.WAITING, S.STABLE_CHANGED): _fresh,
    (P.WAITING, S.APPROVE): _approve,
    (P.PROGRESSING, S.ROUTED): _routed,
    (P.PROGRESSING, S.PASS): _onward,
    (P.PROGRESSING, S.LET_PASS): _onward,
    (P.PROGRESSING, S.STUCK): _hold(Held.UNDECIDED),
    (P.PROGRESSING, S.TIMED_OUT): _roll_back,
    (P.PROGRESSING, S.HARM): _roll_back,
    (P.PROGRESSING, S.ALARM): _step_back,
    (P.PROGRESSING, S.NOT_READY): _roll_back,
    (P.PROGRESSING, S.DATA_LOST): _data_lost,
    (P.PROGRESSING, S.DATA): _data,
    (P.PROGRESSING, S.NO_DATA): _hold(Held.NO_DATA),
    (P.PROGRESSING, S.BLIND): _roll_back,
    (P.PROGRESSING, S.DRIFT): _hold(Held.DRIFT),
    (P.PROGRESSING, S.HOLD): _hold(Held.PERSON),
    (P.PROGRESSING, S.APPROVE): _approve,
    (P.PROGRESSING, S.ABORT): _roll_back,
    (P.PROGRESSING, S.PROMOTE): _promote,
    (P.PROGRESSING, S.NEWER): _away(Phase.GIVING_WAY),
    (P.PROGRESSING, S.OVERDUE): _roll_back,
    (P.PROGRESSING, S.STABLE_CHANGED): _fresh,
    (P.PROGRESSING, S.STABLE_DOWN): _hold(Held.STABLE_NOT_READY),
    (P.PROGRESSING, S.ALERT_FIRING): _hold(Held.ALERT),
    (P.AWAITING_APPROVAL, S.ROUTED): _routed,
    (P.AWAITING_APPROVAL, S.APPROVE): _approve,
    # Its users are still served by it while people make up their minds, so harm still ends it.
    (P.AWAITING_APPROVAL, S.HARM): _roll_back,
    (P.AWAITING_APPROVAL, S.ALARM): _step_back,
    (P.AWAITING_APPROVAL, S.NOT_READY): _roll_back,
    (P.AWAITING_APPROVAL, S.DRIFT): _hold(Held.DRIFT),
    (P.AWAITING_APPROVAL, S.HOLD): _hold(Held.PERSON),
    (P.AWAITING_APPROVAL, S.ABORT): _roll_back,
    (P.AWAITING_APPROVAL, S.PROMOTE): _promote,
    (P.AWAITING_APPROVAL, S.NEWER): _away(Phase.GIVING_WAY),
    (P.AWAITING_APPROVAL, S.OVERDUE): _roll_back,
    (P.AWAITING_APPROVAL, S.BLIND): _roll_back,
    (P.AWAITING_APPROVAL, S.STABLE_CHANGED): _fresh,
    (P.AWAITING_APPROVAL, S.STABLE_DOWN): _hold(Held.STABLE_NOT_READY),
    # An approval was asked for before anyone was paged; it is asked for again once the alert has resolved.
    (P.AWAITING_APPROVAL, S.ALERT_FIRING): _hold(Held.ALERT),
    (P.HELD, S.ROUTED): _routed,
    (P.HELD, S.PASS): _onward_if_undecided,
    # A held canary still serves users, so harm still ends it.
    (P.HELD, S.HARM): _roll_back,
    (P.HELD, S.ALARM): _step_back,
    (P.HELD, S.NOT_READY): _roll_back,
    (P.HELD, S.BLIND): _roll_back,
    (P.HELD, S.DATA): _resume_if(Held.NO_DATA),
    (P.HELD, S.DRIFT_OVER): _resume_if(Held.DRIFT),
    (P.HELD, S.HOLD): _hold(Held.PERSON),
    (P.HELD, S.RESUME): _resume,
    (P.HELD, S.APPROVE): _approve,
    (P.HELD, S.ABORT): _roll_back,
    (P.HELD, S.PROMOTE): _promote,
    (P.HELD, S.NEWER): _away(Phase.GIVING_WAY),
    (P.HELD, S.OVERDUE): _roll_back,
    (P.HELD, S.STABLE_CHANGED): _fresh,
    (P.HELD, S.STABLE_UP): _resume_if(Held.STABLE_NOT_READY),
    (P.HELD, S.ALERT_RESOLVED): _resume_if(Held.ALERT),
    (P.ROLLING_BACK, S.ROUTED): _end(Phase.ROLLED_BACK),
    (P.GIVING_WAY, S.ROUTED): _end(Phase.SUPERSEDED),
    # The last word on harm is the judge's, until the final route stands.
    (P.PROMOTING, S.HARM): _roll_back,
    (P.PROMOTING, S.ABORT): _roll_back,
    (P.PROMOTING, S.NOT_READY): _roll_back,
    (P.PROMOTING, S.DRIFT): _hold(Held.DRIFT),
    (P.PROMOTING, S.ROUTED): _end(Phase.SUCCEEDED),
}
# While a gate is asked, the world goes on as while a person is.
TRANSITIONS |= {
    (P.AWAITING_GATE, signal): step
    for (phase, signal), step in TRANSITIONS.items()
    if phase is P.AWAITING_APPROVAL
}
TRANSITIONS |= {
    (P.AWAITING_GATE, S.GATE_OPEN): _opened,
    (P.AWAITING_GATE, S.GATE_STUCK): _hold(Held.GATE),
    (P.AWAITING_GATE, S.GATE_LOST): _roll_back,
    (P.HELD, S.GATE_OPEN): _opened,
}


def advance(rollout: Rollout, signal: Signal, now: float, detail: Detail = Detail()) -> Rollout:
    """The rollout after the signal, with the decision on record and what people are to be told.

    Raises RefusedSignal for a pair that `TRANSITIONS` does not have.
    """
    step = TRANSITIONS.get((rollout.phase, signal))
    if step is None:
        known = ", ".join(s.value for p, s in TRANSITIONS if p is rollout.phase) or "none, it has ended"
        raise RefusedSignal(
            f"{rollout.name} is {rollout.phase.value}: {signal.value!r} has no meaning there (what has: "
            f"{known})"
        )
    judged = rollout.with_verdict(detail.verdict) if detail.verdict is not None else rollout
    after = step(judged, now, detail)
    moved = (after.phase, after.stage, after.weight, after.held) != (
        rollout.phase,
        rollout.stage,
        rollout.weight,
        rollout.held,
    )
    if not moved:
        return after
    reason = (
        detail.reason or rollout.reason
        if after.phase.ended
        else detail.reason or _plain_reason(rollout, signal)
    )
    after = replace(
        after, reason=reason, phase_since=now if after.phase is not rollout.phase else rollout.phase_since
    )
    decision = Decision(now, signal.value, after.phase, after.stage, after.weight, reason, detail.verdict)
    after = replace(after, decisions=(*after.decisions, decision)[-KEPT_DECISIONS:])
    for event in events(rollout, after):
        after = announced(after, event, now, reason)
    return after


def _plain_reason(before: Rollout, signal: Signal) -> str:
    if signal is Signal.AVAILABLE:
        return f"{before.entrance.canary} is available"
    if signal is Signal.ROUTED:
        return before.reason
    return signal.value


def judged(
    rollout: Rollout,
    verdict: Verdict,
    of_services: Sequence[tuple[Verdict, Mapping[str, Counts]]],
    counted_to: int,
    had_data: bool,
) -> Rollout:
    """The rollout after a look that was judged: its latest numbers, and nothing decided.

    verdict: of all services together. of_services: of each service, in their order, its own verdict and what
    was counted by replica since the beginning. counted_to: end of the look (whole Unix seconds).
    """
    services = tuple(
        replace(service, verdict=own, counted=counted)
        for service, (own, counted) in zip(rollout.services, of_services, strict=True)
    )
    last_data = float(counted_to) if had_data else rollout.last_data
    return replace(rollout, services=services, counted_to=counted_to, last_data=last_data).with_verdict(
        verdict
    )


class Judged(Protocol):
    """What `stage_signal` asks of a judged look: a verdict says it, and so does an assessment."""

    @property
    def answer(self) -> Answer: ...
    @property
    def at(self) -> int: ...
    @property
    def canary_requests(self) -> int: ...
    @property
    def stage_odds(self) -> float: ...
    @property
    def few_blocks(self) -> bool: ...
    @property
    def lacks_data(self) -> bool: ...
    @property
    def looks_unacceptable(self) -> bool: ...
    @property
    def is_over_a_limit(self) -> bool: ...
    @property
    def alert_since(self) -> int | None: ...
    @property
    def lacks_alerts(self) -> bool: ...
    @property
    def contested(self) -> bool: ...
    @property
    def traffic_fell(self) -> bool: ...


def stage_signal(rollout: Rollout, verdict: Judged, now: float) -> Signal | None:
    """What a verdict means for a rollout in its stage, by its policy's minimum and deadline; None: go on
    looking.

    A deadline means something in PROGRESSING alone, a pass also to a hold that waits for evidence; harm and
    alarms do in every phase that serves users. While an alert fires that nobody has decided to go on with,
    nothing passes.
    """
    if verdict.answer is Answer.FAIL:
        return Signal.HARM
    if verdict.answer is Answer.ALARM:
        return Signal.ALARM
    is_alerted = verdict.alert_since is not None and not _is_accepted(rollout, verdict.alert_since, now)
    if is_alerted and rollout.phase is not Phase.HELD:
        return Signal.ALERT_FIRING
    if rollout.phase is Phase.HELD and rollout.held is Held.ALERT and not is_alerted:
        return None if verdict.lacks_alerts else Signal.ALERT_RESOLVED
    if is_alerted:
        return None
    is_late = rollout.phase is Phase.HELD and rollout.held is Held.UNDECIDED
    if (
        not (rollout.phase is Phase.PROGRESSING or is_late)
        or rollout.span is None
        or rollout.span.end is not None
    ):
        return None
    stage, analysis = rollout.policy.stages[rollout.stage], rollout.policy.analysis
    if verdict.at - rollout.span.start < stage.minimum:
        return None
    if verdict.answer is Answer.PASS:
        return Signal.PASS
    if is_late or rollout.stage_clock(now) < stage.deadline:
        return None
    if analysis.undecided == "rollback":
        return Signal.TIMED_OUT
    seen_enough = verdict.canary_requests >= analysis.minimum_requests and verdict.stage_odds < DEADLINE_ODDS
    # What was never seen is not known to be well.
    seen_enough = seen_enough and not verdict.lacks_data and not verdict.is_over_a_limit
    # What alarmed at full weight would alarm there again, and one bound that speaks for harm is some users'.
    seen_enough = seen_enough and not verdict.contested
    # Where blocks are long and too few of them have closed, the odds say nothing yet: that is no reason to
    # let a ninefold error rate pass.
    seen_enough = seen_enough and not (verdict.few_blocks and verdict.looks_unacceptable)
    # To go on undecided is to trust that harm would show at the next weight. Where traffic fell it would not,
    # whatever this stage saw before; where it always was as little, waiting brings no more of it, and
    # `minimumRequests` is its owner's word.
    seen_enough = seen_enough and not verdict.traffic_fell
    if analysis.undecided != "advance" or not seen_enough:
        return Signal.STUCK
    # A look without data lets nothing pass: the next one that says something does; where none comes, that is
    # told as what it is.
    return None if verdict.answer is Answer.NO_DATA else Signal.LET_PASS


def _is_accepted(rollout: Rollout, since: int, now: float) -> bool:
    """Whether a person has let the rollout go on, or sent it to full weight, while an alert fired: that is
    their word on it, until another one begins. since: when the alert began; now: decisions after it do not
    count, where a past is judged again."""
    return any(
        decision.signal in (Signal.RESUME, Signal.PROMOTE) and since <= decision.at <= now
        for decision in rollout.decisions
    )
