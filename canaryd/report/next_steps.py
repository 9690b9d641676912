"""What a rollout waits for, and what happens then: the last section of an explanation."""

from canaryd.domain import gates
from canaryd.domain.formatting import lasting, odds_text, time_text
from canaryd.domain.lifecycle import DEADLINE_ODDS
from canaryd.domain.rollout import AskedGate, DesiredActions, Held, Phase, Rollout, Span


def ahead(rollout: Rollout, now: float, wishes: DesiredActions) -> list[str]:
    """What comes next, and on what it depends; a sentence each."""
    name, many, names = rollout.name, rollout.is_bracket, rollout.for_display
    unconfirmed = "the routes are not all confirmed yet" if many else "the route is not confirmed yet"
    if rollout.phase is Phase.PROGRESSING:
        sentences = _next_in_stage(rollout, now, many)
    elif rollout.phase is Phase.HELD:
        sentences = _next_held(rollout, wishes, many)
    else:
        sentences = {
            Phase.WAITING: [
                f"Stage 1 begins when the {'Deployments' if many else 'Deployment'} "
                f"{names.canary_workload} {'are' if many else 'is'} available; if "
                f"{'one' if many else 'it'} misses its progress deadline, the rollout ends as rolled back."
            ],
            Phase.AWAITING_APPROVAL: [
                f"It waits for a person: canaryd approve {name}. {_after_stage(rollout, many)} Until then "
                f"{_stays(rollout)}, and evidence of harm still rolls back."
            ],
            Phase.AWAITING_GATE: _next_at_gate(rollout, now),
            Phase.ROLLING_BACK: [f"All weight goes to {names.stable}; {unconfirmed}."],
            Phase.GIVING_WAY: [f"All weight goes to {names.stable}, then the newer version begins."],
            Phase.PROMOTING: [
                f"{_at_the_end(rollout, many)}; {unconfirmed if many else 'it is not confirmed yet'}."
            ],
            Phase.SUCCEEDED: _after_success(rollout),
            Phase.ROLLED_BACK: _after_rollback(rollout),
            Phase.SUPERSEDED: [
                "The next rollout takes along those of these versions that nothing newer replaces. After "
                f"that they are not tried again unless someone asks: canaryd retry {name}."
                if many
                else f"This version is not tried again unless someone asks: canaryd retry {name}."
            ],
        }[rollout.phase]
    if rollout.policy.mode == "observe":
        sentences.append(
            "It only observes: no route is changed, and what is said here of traffic is what canaryd would "
            "do."
        )
    limit = rollout.policy.schedule.deadline
    if limit is not None and not rollout.phase.ended:
        left = lasting(rollout.began + limit - now)
        sentences.append(
            f"The whole rollout has {left} left of its {lasting(limit)}; then it is rolled back."
        )
    return sentences


def _next_at_gate(rollout: Rollout, now: float) -> list[str]:
    gate, asking = gates.gate_of(rollout), rollout.gate_question
    if gate is None or asking is None:
        return []
    sentences = [
        f"Before {gate.place}, the gate {gate.name} is asked until it answers 2xx (not 202), "
        f"{lasting(gate.every)} after each other answer. {_last_reply(asking, now)}"
    ]
    if asking.since is not None:
        then = "it is held, and asked on" if gate.closed == "hold" else "it is rolled back"
        sentences.append(
            f"If it is still closed in {lasting(max(0.0, asking.since + gate.deadline - now))} (the gate's "
            f"deadline), {then}."
        )
    sentences.append(f"To go on without it: canaryd approve {rollout.name} --gate.")
    if rollout.stage >= 0:
        sentences.append(f"Until then {_stays(rollout)}, and evidence of harm still rolls back.")
    return sentences


def _last_reply(asking: AskedGate, now: float) -> str:
    if asking.since is None:
        return "It is not asked while the service is paused, or the route is someone else's."
    return (
        f"The last answer, {lasting(now - asking.at)} ago: {asking.says}."
        if asking.at is not None
        else "It has not answered yet."
    )


def _at_the_end(rollout: Rollout, many: bool) -> str:
    return (
        f"Each route becomes one destination: {rollout.for_display.canary}"
        if many
        else f"The route becomes one destination, {rollout.for_display.canary}"
    )


def _next_in_stage(rollout: Rollout, now: float, many: bool) -> list[str]:
    span, stage, analysis = rollout.span, rollout.policy.stages[rollout.stage], rollout.policy.analysis
    if span is None or span.end is not None:
        return [
            f"It waits for {'all routes' if many else 'the route'} to be confirmed {rollout.how}; looks "
            "begin then."
        ]
    if rollout.clock_from is None:
        awaited = "traffic that follows the weight" if _is_off_weight(rollout) else "telemetry"
        return [
            f"It waits for {awaited}; the stage's deadline stands still, and nothing advances without data. "
            f"After {lasting(analysis.no_data_for)} without any: {analysis.no_data}."
        ]
    sentences = [_minimum_text(span, stage.minimum, now) + f" {_after_stage(rollout, many)}"]
    if rollout.weight == 100:
        sentences.append(_at_an_alarm(rollout))
    left = stage.deadline - rollout.stage_clock(now)
    at_deadline = {
        "advance": f"it goes on if {analysis.minimum_requests} requests of "
        f"{rollout.for_display.canary}{' each' if many else ''} gave less than {odds_text(DEADLINE_ODDS)} "
        "against it, else it holds",
        "hold": "it is held until the evidence passes, or a person decides",
        "rollback": "it is rolled back",
    }[analysis.undecided]
    sentences.append(
        f"If it is still undecided in {lasting(left)} (the stage's deadline), {at_deadline}."
        if left > 0
        else f"The stage's deadline has passed: {at_deadline}."
    )
    return sentences


def _minimum_text(span: Span, minimum: float, now: float) -> str:
    if now < span.start:
        return (
            f"The first look of this stage begins at {time_text(span.start)}, when all that is scraped was "
            "served at the new weight."
        )
    left = span.start + minimum - now
    if left > 0:
        return f"The stage has {lasting(left)} left of its minimum of {lasting(minimum)}."
    return f"The stage's minimum of {lasting(minimum)} is over: it ends at the first look that passes."


def _at_an_alarm(rollout: Rollout) -> str:
    before = rollout.policy.leads_back_to(rollout.stage)
    if before is None:
        return (
            "Nothing is compared at the same time any more: an alarm against the record sends all back to "
            f"{rollout.for_display.stable} at once."
        )
    return (
        f"An alarm against the record steps back to {rollout.policy.stages[before].said}, where both "
        "versions are compared."
    )


def _after_stage(rollout: Rollout, many: bool) -> str:
    stages, stage, closed = rollout.policy.stages, rollout.stage, gates.closed(rollout)
    gate = f", once the gate {rollout.policy.gates[closed].name} is open" if closed is not None else ""
    if stage + 1 >= len(stages):
        end = _at_the_end(rollout, many)
        return f"Then {end[:1].lower()}{end[1:]}{gate}."
    asked = (
        ", once a person approves"
        if stages[stage].approval and rollout.approved < stage and rollout.phase is Phase.PROGRESSING
        else ""
    )
    return f"Then {stages[stage + 1].said}{asked}{gate}."


def _next_held(rollout: Rollout, wishes: DesiredActions, many: bool) -> list[str]:
    resume = f"canaryd resume {rollout.name}"
    comes = "the traffic follows the weight" if _is_off_weight(rollout) else "telemetry is back"
    route, is_as_left = ("routes", "all routes are") if many else ("route", "the route is")
    stable = (
        f"each of {rollout.for_display.stable_workload} has a ready replica"
        if many
        else f"a replica of {rollout.for_display.stable_workload} is ready"
    )
    waits = {
        Held.PERSON: f"It is held until a person lets it go: {resume}.",
        Held.DRIFT: f"It goes on by itself when {is_as_left} again as canaryd left "
        f"{'them' if many else 'it'}. Or {resume}: canaryd steers again, writes the {route} back "
        f"to {rollout.share}, and replaces edits inside the route list{'s' * many}.",
        Held.NO_DATA: f"It goes on by itself when {comes}; or now: {resume}.",
        Held.STABLE_NOT_READY: f"It goes on by itself when {stable} again. To send the traffic back "
        f"regardless: canaryd abort {rollout.name}.",
        Held.UNDECIDED: "The stage did not decide in time. It goes on by itself when the evidence passes. "
        f"Another deadline: {resume}; or canaryd promote, canaryd abort.",
        Held.GATE: "The gate did not open in time. It is asked on, and the rollout goes on by itself when it "
        f"opens. Without it: canaryd approve {rollout.name} --gate. With another deadline: "
        f"{resume}.",
        Held.ALERT: "An alert fires. It goes on by itself when the alert has resolved. To go on although it "
        f"fires: {resume}; back: canaryd abort {rollout.name}.",
        Held.ALARMS: "It alarmed at full weight, passed side by side, and alarmed there again: look at what "
        f"the reason names. On: {resume}; back: canaryd abort {rollout.name}.",
    }
    if rollout.held is None:
        return [f"It is held: {resume}."]
    ask = (
        [f"A person asked to hold too, so both have to end: {resume}."]
        if wishes.hold and rollout.held is not Held.PERSON
        else []
    )
    harm = (
        "a rollback waits for stable too"
        if rollout.held is Held.STABLE_NOT_READY
        else "evidence of harm still rolls back"
    )
    if rollout.stage < 0:
        return [waits[rollout.held], *ask]
    meanwhile = f"Meanwhile {_stays(rollout)}, the stage's deadline stands still, and {harm}."
    return [waits[rollout.held], *ask, meanwhile]


def _stays(rollout: Rollout) -> str:
    kind = rollout.policy.stages[rollout.stage].kind if rollout.stage >= 0 else "weight"
    return (
        f"{rollout.share} stay on {rollout.for_display.canary}"
        if kind == "weight"
        else f"{rollout.for_display.canary} stays {rollout.how}"
    )


def _is_off_weight(rollout: Rollout) -> bool:
    return rollout.verdict is not None and rollout.verdict.off_weight


def _after_success(rollout: Rollout) -> list[str]:
    retire = rollout.policy.promotion.retire_stable
    if retire is None:
        return [
            f"Nothing: {_keep(rollout.for_display.stable_workload, rollout)} (the policy has no "
            "promotion.retireStable)."
        ]
    return [
        line
        for service in rollout.services
        for line in _scaling(rollout, service.scaled, service.stable_workload, retire.scale_to, retire.after)
    ]


def _after_rollback(rollout: Rollout) -> list[str]:
    this = "These templates are" if rollout.is_bracket else "This template is"
    again = f"{this} not tried again unless someone asks: canaryd retry {rollout.name}."
    to = rollout.policy.rollback.scale_canary_to
    if to is None:
        kept = _keep(rollout.for_display.canary_workload, rollout)
        return [f"{kept}, without traffic (the policy has no rollback.scaleCanaryTo).", again]
    after = rollout.policy.rollback.after
    return [
        *(
            line
            for service in rollout.services
            for line in _scaling(rollout, service.scaled, service.canary_workload, to, after)
        ),
        again,
    ]


def _keep(workloads: str, rollout: Rollout) -> str:
    return f"{workloads} {'keep their' if rollout.is_bracket else 'keeps its'} replicas"


def _scaling(rollout: Rollout, is_done: bool, workload: str, to: int, after: float) -> list[str]:
    if rollout.policy.mode == "observe":
        return [f"{workload} is not scaled: the rollout only observes."]
    if is_done:
        return [f"Scaling is done: {workload} was set to {to}, unless it still got traffic or was gone."]
    return [f"{workload} is scaled to {to} at {time_text((rollout.ended or 0.0) + after)}."]
