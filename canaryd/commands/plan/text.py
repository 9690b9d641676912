"""A plan as people read it, and as data for machines. Only words and layout; the numbers are made in
`forecast.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from canaryd.commands.plan.forecast import (
    Caught,
    CaughtIn,
    Forecast,
    HealthyStage,
    Quantiles,
    Regression,
    Share,
)
from canaryd.commands.plan.policy_warnings import notes, warnings
from canaryd.domain.formatting import lasting, percent_text, short
from canaryd.simulation.simulated_rollout import End

UNDECIDED = (End.HELD, End.GIVEN_UP, End.OVERDUE, End.RUNNING)


@dataclass(frozen=True)
class Part:
    """A title, an optional table (head first), and lines below it."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()


def parts(plan: Forecast) -> tuple[Part, ...]:
    """The whole plan."""
    found = [_head(plan), _healthy(plan)]
    if plan.regressions:
        found.append(_regressions(plan))
    minded = warnings(plan)
    if minded:
        found.append(Part("Mind", lines=minded))
    return (*found, Part("Assumed", lines=notes(plan)))


def traffic_text(plan: Forecast) -> str:
    """`50 requests/s, 0.5% errors, 60 ms in the median, 3 replicas`."""
    traffic = plan.traffic
    latency = f"{short(traffic.median_ms)} ms in the median" if traffic.bounds else "no latency histogram"
    bursts = f" in bursts of {traffic.burst}" if traffic.burst > 1 else ""
    replicas = f"{traffic.replicas} replica{'s' * (traffic.replicas > 1)}"
    return (
        f"{short(traffic.rate)} requests/s, {percent_text(traffic.errors)} errors{bursts}, {latency}, "
        f"{replicas}"
    )


def _head(plan: Forecast) -> Part:
    worst = Share(plan.rollouts // 2, plan.rollouts).interval[1] - 0.5
    service, interval = plan.policy.service, plan.policy.analysis.interval
    versions = 1 + len(plan.regressions)
    return Part(
        f"{service.name} in {service.namespace}: {', '.join(stage.said for stage in plan.policy.stages)}",
        lines=(
            f"traffic    {traffic_text(plan)} ({plan.traffic.source})",
            f"simulated  {plan.rollouts} rollouts of each of {versions} version{'s' * (versions > 1)}, "
            f"{plan.looks:,} looks of {interval} s, seed {plan.seed}",
            f"error      shares are known to {100 * worst:.0f} points at worst, medians as their 95% "
            "intervals say",
        ),
    )


def _healthy(plan: Forecast) -> Part:
    healthy, stages = plan.healthy, plan.policy.stages
    head = ("STAGE", "WEIGHT", "CANARY", "MEDIAN TIME", "95% INTERVAL", "BY 90%", "UNDECIDED AT DEADLINE")
    rows = [
        (
            f"{number}/{len(stages)}",
            stage.short,
            f"{short(healthy_stage.canary_rate)}/s",
            *_times(healthy_stage.time),
            _undecided(healthy_stage, stage.deadline),
        )
        for number, (healthy_stage, stage) in enumerate(zip(healthy.stages, stages, strict=True), start=1)
    ]
    ends = ", ".join(
        f"{percent_text(share.value)} {end.value}" for end, share in healthy.ends.items() if share.events
    )
    caught = healthy.ends[End.CAUGHT]
    wrongly = (
        f"; taken back wrongly: {caught.events} of {caught.runs} (at most {percent_text(caught.interval[1])})"
    )
    return Part(
        "A healthy version",
        (head, *rows),
        (
            f"until full weight: {_both(healthy.full)}; until promoted: {_both(healthy.promoted)}",
            f"ends: {ends}{wrongly}",
        ),
    )


def _undecided(stage: HealthyStage, deadline: float) -> str:
    if not stage.reached.events:
        return "never reached"
    held = f", {percent_text(stage.held.value)} held" if stage.held.events else ""
    return f"{percent_text(stage.undecided.value)} of {stage.undecided.runs} at {lasting(deadline)}{held}"


def _regressions(plan: Forecast) -> Part:
    weights = [
        f"AT {stage.weight}%" if stage.kind == "weight" else stage.short.upper()
        for stage in plan.policy.stages
    ]
    head = (
        "REGRESSION",
        *weights,
        "CAUGHT",
        "UNDECIDED",
        "PROMOTED",
        "CAUGHT AFTER",
        "REQUESTS AT RISK",
        "BY 90%",
    )
    rows = [_row(plan, regression) for regression in plan.regressions]
    return Part(
        "A worse version: how often each stage catches it, and how long after the stage began (median)",
        (head, *rows),
        (
            "requests at risk: the canary's until all traffic is back, where it is caught; undecided ones "
            "wait for a person, or end as the policy says",
        ),
    )


def _row(plan: Forecast, regression: Caught) -> tuple[str, ...]:
    undecided = sum(regression.ends[end].events for end in UNDECIDED) / plan.rollouts
    caught, promoted = (percent_text(regression.ends[end].value) for end in (End.CAUGHT, End.PROMOTED))
    requests = [
        f"{number:,.0f}" if regression.requests.count else "-"
        for number in (regression.requests.median, regression.requests.most)
    ]
    return (
        regression_text(plan, regression.regression),
        *(_cell(stage) for stage in regression.stages),
        caught,
        percent_text(undecided),
        promoted,
        _times(regression.seconds)[0],
        *requests,
    )


def regression_text(plan: Forecast, regression: Regression) -> str:
    """`errors 3x (1.5%)`."""
    return (
        f"{regression} ({percent_text(regression.times * plan.traffic.errors)})"
        if regression.metric == "errors" and regression.share is None
        else str(regression)
    )


def _cell(stage: CaughtIn) -> str:
    return (
        f"{percent_text(stage.chance.value)} in {lasting(stage.time.median)}" if stage.chance.events else "-"
    )


def _times(spread: Quantiles) -> tuple[str, str, str]:
    """Median, its interval, and 90%."""
    if not spread.count:
        return "-", "-", "-"
    low, high = spread.interval
    return _time(spread.median), f"{_time(max(low, 0.0))} to {_time(high)}", _time(spread.most)


def _time(seconds: float) -> str:
    return lasting(seconds) if isfinite(seconds) else "never"


def _both(spread: Quantiles) -> str:
    middle, interval, most = _times(spread)
    return f"{middle} in the median ({interval}), {most} by 90%"


# ---------------------------------------------------------------- for machines


def as_data(plan: Forecast) -> dict[str, Any]:
    """What `plan -o json` prints. Keys are only ever added. Times in seconds, latencies in ms; null: not
    reached, or none."""
    traffic, healthy = plan.traffic, plan.healthy
    return {
        "service": plan.policy.service.name,
        "namespace": plan.policy.service.namespace,
        "seed": plan.seed,
        "rollouts": plan.rollouts,
        "looks": plan.looks,
        "interval": plan.policy.analysis.interval,
        "traffic": {
            "source": traffic.source,
            "rate": traffic.rate,
            "errors": traffic.errors,
            "replicas": traffic.replicas,
            "burst": traffic.burst,
            "badLooks": traffic.bad,
            "spellLooks": traffic.spell,
            "medianMs": traffic.median_ms if traffic.bounds else None,
            "bounds": list(traffic.bounds),
            "slower": list(traffic.slower) or None,
        },
        "healthy": {
            "stages": [_stage_data(number, stage) for number, stage in enumerate(healthy.stages, start=1)],
            "fullWeight": _spread_data(healthy.full),
            "promoted": _spread_data(healthy.promoted),
            "ends": _ends_data(healthy.ends),
            "steppedBack": _share_data(healthy.stepped_back),
        },
        "regressions": [_regression_data(plan, regression) for regression in plan.regressions],
        "warnings": list(warnings(plan)),
        "assumed": list(notes(plan)),
    }


def _stage_data(number: int, stage: HealthyStage) -> dict[str, Any]:
    return {
        "stage": number,
        "weight": stage.weight,
        "canaryRate": stage.canary_rate,
        "reached": _share_data(stage.reached),
        "seconds": _spread_data(stage.time),
        "undecided": _share_data(stage.undecided),
        "held": _share_data(stage.held),
        "leastSeconds": stage.least if isfinite(stage.least) else None,
    }


def _regression_data(plan: Forecast, caught: Caught) -> dict[str, Any]:
    regression = caught.regression
    return {
        "metric": regression.metric,
        "times": regression.times if regression.share is None else None,
        "share": regression.share,
        "stages": [
            {
                "stage": number,
                "weight": plan.policy.stages[number - 1].weight,
                "caught": _share_data(stage.chance),
                "seconds": _spread_data(stage.time),
            }
            for number, stage in enumerate(caught.stages, start=1)
        ],
        "ends": _ends_data(caught.ends),
        "caughtAfter": _spread_data(caught.seconds),
        "requestsAtRisk": _spread_data(caught.requests),
        "failuresAtRisk": _spread_data(caught.failures),
    }


def _ends_data(ends: Mapping[End, Share]) -> dict[str, Any]:
    return {end.name.lower(): _share_data(share) for end, share in ends.items()}


def _share_data(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {
        "events": share.events,
        "runs": share.runs,
        "share": share.value if share.runs else None,
        "low": low,
        "high": high,
    }


def _spread_data(spread: Quantiles) -> dict[str, Any]:
    low, high = spread.interval
    numbers = {"median": spread.median, "low": low, "high": high, "by90": spread.most}
    return {
        "of": spread.count,
        **{name: value if isfinite(value) else None for name, value in numbers.items()},
    }
