"""What to mind in a plan: where policy and traffic do not fit together, each in one sentence with its
numbers; and what was assumed."""

from collections.abc import Iterator

import numpy as np

from canaryd.cli.detection_limits import of_requests, of_users_in_a_plan
from canaryd.commands.plan.forecast import Caught, Forecast, HealthyStage, Regression, Share
from canaryd.commands.plan.least_time import Troubles, least_at, ruled_out_at, troubles_of
from canaryd.domain.formatting import lasting, percent_text, short
from canaryd.domain.policy.policy import Policy
from canaryd.judge.count_vectors import SLOWER
from canaryd.judge.guardrails import limits_of
from canaryd.judge.judge import FEWEST_LOOKS, Judge
from canaryd.report.findings import unseen_limit
from canaryd.simulation.detection_power import ServiceTraffic
from canaryd.simulation.simulated_rollout import ASSUMED_MATCHING, LONGEST, End
from canaryd.stats.between_replicas import PRIOR_SD, ratio_by_luck

MANY_UNDECIDED = 0.2  # of healthy versions at a deadline: more than a person wants to be asked about
MANY_ALARMS = 0.1  # of healthy versions stepped back at full weight
MANY_MISSED = 0.1  # of rollouts with an unacceptable regression
TOO_OFTEN = 0.05  # of healthy versions that are taken back


def warnings(plan: Forecast) -> tuple[str, ...]:
    """The gravest first."""
    return (
        *_limits(plan),
        *_healthy(plan),
        *_stages(plan),
        *_blocks(plan),
        *_missed(plan),
        *_not_caught(plan),
        *_replicas(plan),
    )


def notes(plan: Forecast) -> tuple[str, ...]:
    """What the numbers rest on, that the world may do otherwise."""
    policy, traffic = plan.policy, plan.traffic
    sentences = [
        f"A look is acted on {plan.lag.late} s after its end, and a new weight settles for {plan.lag.settle} "
        "s: both are in the times."
    ]
    if any(stage.approval for stage in policy.stages):
        sentences.append("Approvals are taken to be given at once: a person's time comes on top.")
    if policy.gates:
        sentences.append("Gates are taken to be open: the time of what they ask comes on top.")
    if any(stage.match for stage in policy.stages):
        sentences.append(
            f"Of the requests {ASSUMED_MATCHING}% are taken to match, where a stage has a match, and to be "
            "as all others."
        )
    if policy.route.preview:
        sentences.append("Nobody is taken to ask for previews.")
    if policy.analysis.queries:
        names = ", ".join(query.name for query in policy.analysis.queries)
        sentences.append(
            f"Queries ({names}) are taken to keep their limits, and not to differ between the versions."
        )
    if policy.analysis.alerts is not None:
        sentences.append("No alert is taken to begin to fire.")
    if policy.mode == "observe":
        sentences.append("The policy only observes: the plan is of what it would do if it steered.")
    if traffic.bad:
        sentences.append(
            f"Stable's failures come in spells of about {traffic.spell} looks ({percent_text(traffic.bad)} "
            "of looks are bad): each version is taken to have its own."
        )
    if not traffic.slower:
        spread = f"lognormal with a median of {traffic.median_ms:g} ms"
        sentences.append(
            f"Latency is taken to be {spread}; measured from Prometheus it is the service's own "
            "(--prometheus)."
        )
    sentences.append(
        "Regressions are there from the first request on, on every replica, and are looked for by the "
        "policy's own metrics alone."
    )
    return tuple(sentences)


def _limits(plan: Forecast) -> Iterator[str]:
    """The policy's own limits, which stable itself does not keep."""
    traffic = plan.traffic
    limits, unseen = limits_of(plan.policy, traffic.bounds)
    slower = traffic.world(plan.policy.analysis.interval).share_slower(1.0)
    for limit in limits:
        share = traffic.errors if limit.metric == "errors" else float(slower[limit.events - SLOWER])
        if share > limit.share:
            what = "fail" if limit.bound_ms is None else f"are slower than {limit.bound_ms:g} ms"
            yield (
                f"{percent_text(share)} of stable's own requests {what}, and the policy's limit is "
                f"{percent_text(limit.share)}: every version would be rolled back"
            )
    yield from map(unseen_limit, unseen)
    if plan.policy.analysis.latency and not traffic.bounds:
        yield (
            "there is no latency histogram of this service, so latency rules nothing out and no stage passes "
            "before its deadline"
        )


def _healthy(plan: Forecast) -> Iterator[str]:
    healthy, policy = plan.healthy, plan.policy
    if healthy.ends[End.CAUGHT].value >= TOO_OFTEN:
        yield f"a healthy version is taken back in {_share(healthy.ends[End.CAUGHT])} of rollouts"
    if policy.schedule.deadline is not None and healthy.ends[End.OVERDUE].value >= TOO_OFTEN:
        limit = lasting(policy.schedule.deadline)
        yield (
            f"schedule.deadline of {limit} ends {_share(healthy.ends[End.OVERDUE])} of healthy rollouts "
            "before they are through"
        )
    if healthy.stepped_back.value >= MANY_ALARMS and policy.leads_back_to(len(policy.stages) - 1) is not None:
        yield (
            f"at full weight {_share(healthy.stepped_back)} of healthy versions step back on an alarm, and "
            "are compared again"
        )
    running = sum(
        ends[End.RUNNING].events
        for ends in (healthy.ends, *(regression.ends for regression in plan.regressions))
    )
    if running:
        yield f"{running} rollouts were still running after {LONGEST:,} looks, and are watched no further"


def _stages(plan: Forecast) -> Iterator[str]:
    analysis, count = plan.policy.analysis, len(plan.policy.stages)
    for number, (stage, found) in enumerate(
        zip(plan.policy.stages, plan.healthy.stages, strict=True), start=1
    ):
        if stage.kind == "dark":
            continue  # it asks for no traffic, and ends by its minimum
        where = f"stage {number}/{count} {stage.how}"
        expected = found.canary_rate * stage.deadline
        if expected < analysis.minimum_requests:
            yield (
                f"{where} serves about {short(expected)} canary requests until its deadline of "
                f"{lasting(stage.deadline)}, fewer than minimumRequests ({analysis.minimum_requests}): it "
                "goes on only by chance"
            )
        elif found.least > stage.deadline and (
            found.undecided.value >= MANY_UNDECIDED or not found.reached.events
        ):
            yield f"{where}: {_out_of_reach(plan, number - 1, found)}"
        elif found.undecided.value >= MANY_UNDECIDED:
            many = (
                f"{_share(found.undecided)} of healthy versions are undecided at its deadline of "
                f"{lasting(stage.deadline)}"
            )
            yield (
                f"{where}: {many}, and {_then(analysis.undecided, found)}: it needs a longer one, or more "
                "traffic"
            )
        if stage.minimum < FEWEST_LOOKS * analysis.interval:
            least = lasting(FEWEST_LOOKS * analysis.interval)
            yield (
                f"{where}: its minimum of {lasting(stage.minimum)} is shorter than the {FEWEST_LOOKS} looks "
                f"({least}) that a pass needs"
            )


def _out_of_reach(plan: Forecast, stage: int, found: HealthyStage) -> str:
    """That no test decides there in time, by how much, and what would help."""
    policy, traffic = plan.policy, plan.traffic
    errors, asked = policy.analysis.errors, policy.stages[stage]
    troubles = troubles_of(policy, traffic)
    excluded = ruled_out_at(policy, errors, stage).canary_rate(traffic.errors) if errors else 0.0
    in_bursts = f", and failures in bursts of about {short(troubles.burst)}" if troubles.burst > 1 else ""
    deadline, times = lasting(asked.deadline), short(found.least / asked.deadline)
    helps = [f"a deadline of {lasting(found.least)}", f"{times} times the traffic"]
    weight = _weight_in_time(plan, stage, troubles)
    if weight is not None:
        helps.append(f"a weight of {weight}%")
    if troubles.burst > 1:
        helps.append("more replicas, if it is single ones that fail in bursts")
    return (
        f"no test can be expected to pass a healthy version before the deadline of {deadline}: to rule out "
        f"that {percent_text(excluded)} of requests fail, where {percent_text(traffic.errors)} of stable's "
        f"do, any test needs {lasting(found.least)} on average with {short(found.canary_rate)} canary "
        f"requests/s{in_bursts}. What would help: {', '.join(helps[:-1])} or {helps[-1]}"
    )


def _weight_in_time(plan: Forecast, stage: int, troubles: Troubles) -> int | None:
    """The lowest weight of the stage at which some test may pass it in time; None: there is none below the
    next stage's."""
    stages = plan.policy.stages
    if stages[stage].kind != "weight":
        return None
    for weight in range(stages[stage].weight + 1, min(stages[stage + 1].weight, 51)):
        changed = stages[stage].model_copy(update={"weight": weight})
        ladder = (*stages[:stage], changed, *stages[stage + 1 :])
        policy = plan.policy.model_copy(update={"stages": ladder})
        if least_at(policy, plan.traffic, troubles, stage) <= stages[stage].deadline:
            return weight
    return None


def _then(undecided: str, found: HealthyStage) -> str:
    """What becomes of those."""
    if undecided == "rollback":
        return "are rolled back"
    if not found.held.events:
        return "go on without evidence"
    return (
        "are held"
        if found.held == found.undecided
        else f"are held ({percent_text(found.held.value)}) or go on without evidence"
    )


def _blocks(plan: Forecast) -> Iterator[str]:
    """Where stable's measured past makes blocks of looks the unit."""
    interval, stages = plan.policy.analysis.interval, plan.policy.stages
    for metric in Judge(plan.policy, plan.traffic.history).metrics if plan.traffic.history else ():
        if metric.block == 1:
            continue
        length = metric.block * interval
        unit = (
            f"{metric.name}: stable's trouble lasts over looks, so they are judged in blocks of "
            f"{metric.block} ({lasting(length)})"
        )
        compared = [stage for stage in stages[:-1] if stage.rules_out]
        short_ones = [stage.short for stage in compared if stage.minimum < length]
        late = [stage.short for stage in compared if stage.deadline < length]
        if late:
            yield (
                f"{unit}, which is longer than the deadline of {', '.join(late)}: nothing can be decided "
                "there"
            )
        elif short_ones:
            yield (
                f"{unit}, which is longer than the minimum of {', '.join(short_ones)}: no pass comes before "
                "a block has closed"
            )


def _missed(plan: Forecast) -> Iterator[str]:
    for regression in plan.regressions:
        missed = regression.ends[End.PROMOTED]
        if (
            is_unacceptable(plan.policy, plan.traffic.errors, regression.regression)
            and missed.value >= MANY_MISSED
        ):
            yield (
                f"{regression.regression} is unacceptable by the policy, and {_share(missed)} of such "
                f"versions are promoted{_why(regression)}"
            )


def _not_caught(plan: Forecast) -> Iterator[str]:
    """What so few users, or requests, cannot show: by an approximation that knows users, which the simulated
    ones do not. Of failures that come in bursts or spells it says too much, and the rehearsals enough."""
    traffic = plan.traffic
    known = ServiceTraffic(traffic.rate, traffic.errors, traffic.replicas)
    yield from of_users_in_a_plan(plan.policy, known)
    if traffic.burst == 1 and not traffic.bad:
        yield from of_requests(plan.policy, known)


def _why(caught: Caught) -> str:
    return (
        ""
        if caught.ends[End.CAUGHT].events
        else ": this traffic does not show it in the time that the stages give"
    )


def is_unacceptable(policy: Policy, errors: float, regression: Regression) -> bool:
    """Whether the policy wants it ruled out before full weight; errors: stable's share."""
    analysis = policy.analysis
    if regression.metric == "latency":
        return analysis.latency is not None and regression.times >= 1 + analysis.latency.unacceptable
    share = errors * regression.times if regression.share is None else regression.share
    wanted = analysis.errors
    return wanted is not None and share >= max(
        errors * (1 + wanted.unacceptable_ratio), errors + wanted.unacceptable_increase
    )


def _replicas(plan: Forecast) -> Iterator[str]:
    analysis = plan.policy.analysis
    if analysis.latency is None or (analysis.reporter == "destination" and plan.traffic.replicas > 1):
        return
    floor = float(ratio_by_luck(np.array(PRIOR_SD), 1, 1, 1, analysis.false_rollback_risk / 2))
    alone = f"reporter: {analysis.reporter} has no replicas to tell apart"
    who = alone if analysis.reporter != "destination" else "with 1 replica"
    yield (
        f"{who}, so a slow node cannot be told from a slow version: a ratio of slow requests up to "
        f"{floor:.1f} may be luck, and need not be ruled out; 2 or more replicas lift that"
    )


def _share(share: Share) -> str:
    """`38% (27% to 50%)`: with what the simulation leaves open."""
    low, high = share.interval
    return f"{percent_text(share.value)} ({percent_text(low)} to {percent_text(high)})"
