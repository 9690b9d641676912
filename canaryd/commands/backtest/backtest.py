"""A policy on a past: what would have been decided when. The same judge, the same lifecycle and the same
words as live; pure.

Of a rollout on record, by its own policy, the stretches at one weight are those of the record, and each
verdict is the one that was given live (`as_recorded`, `retold`). By any other policy, or where there was no
rollout, one is imagined (`imagined`, `step`):

- **Weights in the past were what they were.** An imagined stage at 25% is judged on the traffic there really
  was, be it 10% or 50%: shares of failures are compared, so the verdict holds; how fast evidence comes is
  that of the real traffic. Whether traffic follows the weight is therefore not asked, and faults that more
  load would have brought do not show.
- **Who was matched, or copied, is not known.** Such a stage is judged on the traffic there was, as if that
  were it.
- **A look without traffic of the canary is no data**, since nothing is known of how much was due; so is one
  without stable's, below 100.
- **A stage begins where the one before ended.** Live, a few seconds pass while the route changes, and a look
  is read one scrape late.
- **Nobody is asked.** Approvals are given at once, and nothing is known of crash loops, drift, pauses or
  newer versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from canaryd.domain import lifecycle, signals
from canaryd.domain.counts import Counts
from canaryd.domain.formatting import odds_text, time_text
from canaryd.domain.lifecycle import TRANSITIONS, Detail, Signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Phase, Rollout, ServiceRollout
from canaryd.domain.verdict import Answer, Verdict
from canaryd.report.decision_differences import differences_of

LOOKING = (Phase.PROGRESSING, Phase.HELD)  # where an imagined rollout can be between two looks
APPROVED = "the policy asks a person here; nobody can be asked about the past, so it is taken as approved"


@dataclass(frozen=True, slots=True)
class Course:
    """A policy's way through a past.

    rollout: as it ended, or as it was when the past ended, with each decision. verdicts: of each look that
    was compared, in order.
    recorded: whether it went by the record of the rollout; differences: where the verdicts had again are not
    those on record.
    """

    policy: Policy
    rollout: Rollout
    verdicts: tuple[Verdict, ...]
    recorded: bool
    differences: tuple[str, ...] = ()


def is_own(past: Past, policy: Policy) -> bool:
    """Whether this is the policy that the past's rollout was judged by: who is told of it, and what is
    scaled, are not asked."""
    if past.rollout is None:
        return False
    own = past.rollout.policy
    return (policy.key, policy.stages, policy.analysis, policy.schedule) == (
        own.key,
        own.stages,
        own.analysis,
        own.schedule,
    )


def unfit(past: Past, policy: Policy) -> tuple[str, ...]:
    """Why a policy cannot be tried on a past: each with what was wanted and what came. Empty: it can."""
    if policy.key != (past.namespace, past.service):
        return (
            f"is the policy of {'/'.join(policy.key)}, and the looks are of {past.namespace}/{past.service}",
        )
    analysis, why = policy.analysis, []
    if analysis.interval % past.interval:
        wanted = f"looks of {analysis.interval} s (analysis.interval)"
        why.append(
            f"wants {wanted}, which looks of {past.interval} s do not make up: a multiple of {past.interval} "
            "s was wanted"
        )
    if analysis.reporter != past.reporter:
        why.append(
            f"wants counts of the {analysis.reporter} (analysis.reporter), and the looks are the "
            f"{past.reporter}'s"
        )
    if analysis.errors is not None and set(analysis.errors.grpc_failures) != set(past.grpc_failures):
        wanted, counted = (
            ", ".join(names) or "no gRPC status"
            for names in (analysis.errors.grpc_failures, past.grpc_failures)
        )
        why.append(f"counts {wanted} as failures (errors.grpcFailures), and in the looks it is {counted}")
    if analysis.errors is not None and set(analysis.errors.http_failures) != set(past.http_failures):
        wanted, counted = (", ".join(codes) for codes in (analysis.errors.http_failures, past.http_failures))
        why.append(f"counts {wanted} as failures (errors.httpFailures), and in the looks it is {counted}")
    for query in analysis.queries:
        unknown = [promql for promql in query.asked.values() if promql not in past.queries]
        if unknown:
            why.append(f"asks the query {query.name} ({unknown[0]}), whose values were not recorded")
        elif "$window" in query.promql and analysis.interval != past.interval:
            why.append(
                f"asks the query {query.name} over a $window of {analysis.interval} s, and its values are of "
                f"{past.interval} s"
            )
    if any(promql not in past.queries for promql in analysis.asked_of_alerts):
        why.append("looks at alerts (analysis.alerts), and which of these fired was not recorded")
    return tuple(why)


# ---------------------------------------------------------------- imagined


def imagined(past: Past, policy: Policy) -> Rollout:
    """A rollout of this policy that begins where the past does, its first stage's looks begun. Its gates are
    taken as open."""
    waiting = Rollout(
        name=f"{past.service}-{past.canary}",
        policy=policy.without_hooks(),
        services=(
            ServiceRollout(
                namespace=past.namespace,
                name=past.service,
                stable=past.stable,
                canary=past.canary,
                stable_workload=past.stable_workload,
                canary_workload=past.canary_workload,
                template="",
                stable_template="",
            ),
        ),
        began=float(past.start),
        phase_since=float(past.start),
    )
    begun = lifecycle.advance(waiting, Signal.AVAILABLE, float(past.start), Detail("imagined to begin here"))
    return _routed(begun, past.start)


def step(rollout: Rollout, verdict: Verdict, counted: Mapping[str, Counts], sampled: bool) -> Rollout:
    """The imagined rollout after one look: what the reconciler does with it, but for the cluster and the
    people."""
    at = float(verdict.at)
    has_data = sampled and verdict.answer is not Answer.NO_DATA
    rollout = lifecycle.judged(rollout, verdict, [(verdict, counted)], verdict.at, has_data)
    if reason := signals.overdue(rollout, at):
        rollout = _take(rollout, Signal.OVERDUE, at, Detail(reason))
    if not has_data:
        for signal, detail in signals.silence(rollout, at, 0.0, verdict.reason):
            rollout = _take(rollout, signal, at, detail)
    elif signals.waits_for_data(rollout):
        rollout = _take(rollout, Signal.DATA, at, Detail("telemetry is back"))
    given = lifecycle.stage_signal(rollout, verdict, at) if rollout.phase in LOOKING else None
    if given is not None:
        rollout = _take(rollout, given, at, Detail(signals.reason_of(rollout, given, verdict), verdict))
    return _routed(rollout, verdict.at)


def _take(rollout: Rollout, signal: Signal, at: float, detail: Detail) -> Rollout:
    return (
        lifecycle.advance(rollout, signal, at, detail) if (rollout.phase, signal) in TRANSITIONS else rollout
    )


def _routed(rollout: Rollout, at: int) -> Rollout:
    """The route follows at once, and so do approvals."""
    if rollout.phase is Phase.AWAITING_APPROVAL:
        rollout = lifecycle.advance(rollout, Signal.APPROVE, float(at), Detail(APPROVED, stage=rollout.stage))
    is_looking = rollout.span is not None and rollout.span.end is None
    if rollout.phase.ended or (rollout.phase in LOOKING and is_looking):
        return rollout
    return lifecycle.advance(rollout, Signal.ROUTED, float(at), Detail(rollout.reason, start=at))


# ---------------------------------------------------------------- on record


def as_recorded(past: Past) -> Rollout:
    """The past's rollout, for its looks to be judged again over the very stretches it had. ValueError where
    there is none."""
    if past.rollout is None:
        raise ValueError("the past has no rollout on record")
    uncounted = past.rollout.with_service(replace(past.rollout.entrance, counted={}))
    return replace(uncounted, counted_to=None)


def retold(past: Past, verdicts: Sequence[Verdict], counted: Mapping[str, Counts]) -> Course:
    """The rollout on record, with each decision's verdict as it is had again from the counts, and where that
    differs."""
    rollout = as_recorded(past)
    by_look = {verdict.at: verdict for verdict in verdicts}
    differences: list[str] = []
    decisions = []
    for decision, before in zip(rollout.decisions, (None, *rollout.decisions), strict=False):
        verdict = by_look.get(decision.verdict.at) if decision.verdict is not None else None
        differences += differences_of(rollout, decision, before, verdict)
        decisions.append(replace(decision, verdict=verdict))
    differences += _unheeded(rollout, verdicts)
    last = verdicts[-1] if verdicts else None
    again = replace(rollout, decisions=tuple(decisions), counted_to=last.at if last else None)
    again = again.with_service(replace(again.entrance, counted=counted)).with_verdict(last)
    return Course(rollout.policy, again, tuple(verdicts), True, tuple(differences))


def _unheeded(rollout: Rollout, verdicts: Sequence[Verdict]) -> list[str]:
    """Harm or an alarm that the looks show and no decision was made on: live, stable had no replica to give
    the traffic back to."""
    judged = {decision.verdict.at for decision in rollout.decisions if decision.verdict is not None}
    loud = next((verdict for verdict in verdicts if verdict.answer in (Answer.FAIL, Answer.ALARM)), None)
    if loud is None or loud.at in judged:
        return []
    found = f"{loud.answer.value} at {odds_text(loud.odds)} now"
    return [f"{time_text(loud.at)} UTC: {found}, and nothing was decided on it then ({loud.reason})"]
