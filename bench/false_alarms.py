"""Healthy versions at full weight: how long it takes on average until a false alarm sends them back."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.results import Entry
from bench.rollouts import Outcome, Rolling, a_policy, breaks
from bench.tables import Table, missed
from bench.worlds import HEALTHY, Case
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer
from canaryd.judge.judge import Judge
from canaryd.simulation.simulated_service import SimulatedService
from canaryd.stats.e_detectors import RESTART

RUNS = 100
CASES = {case.name: case for case in HEALTHY if case.climbing}
BEFORE = ((0, 10), (1, 25), (2, 50))  # stages, each for its minimum
WATCHED = 720  # looks at full weight, two hours of looks of 10 s
SOON = 600  # s
RISK = 0.01  # the policy's falseRollbackRisk
PROMISED = 1 / RISK / RESTART  # looks


def run(case: Case, service: SimulatedService) -> Rolling:
    """A rollout that has passed each stage by its minimum, watched at full weight, where it begins again
    after each alarm."""
    policy = a_policy(case.world.interval, limit=case.limit)
    service = service.with_canary(case.before) if case.before else service
    history = service.history(case.past - case.since)
    service = service.with_canary(case.world) if case.before else service
    history += service.history(case.since)
    judge, outside = Judge(policy, history), breaks(service)
    for stage, weight in BEFORE:
        judge.open(Span(stage, weight, service.now))
        for _ in range(int(policy.stages[stage].minimum) // case.world.interval):
            yield judge, service.look(weight)
    judge.open(Span(3, 100, service.now))
    alarms, began = 0, service.now
    first: int | None = None
    for look in service.looks(100, WATCHED):
        assessment = yield judge, look
        if assessment.answer is Answer.ALARM:
            alarms += 1
            first = look.end - began if first is None else first
            judge.alarm.begin()
    return Outcome("watched", WATCHED, WATCHED * case.world.interval, 0, first, alarms, outside=outside)


def summary(case: Case, outcomes: Sequence[Outcome]) -> Entry:
    """looks: between two false alarms, on average, None where none came; inside: the same of the rollouts
    that keep to what the promise assumes."""
    inside = [outcome for outcome in outcomes if not outcome.outside]
    return {
        "alarms": sum(outcome.steps_back for outcome in outcomes),
        "watched": sum(outcome.looks for outcome in outcomes),
        "looks": _between(outcomes),
        "outside": len(outcomes) - len(inside),
        "inside": _between(inside),
        "within": float(np.mean([(outcome.stepped or np.inf) <= SOON for outcome in outcomes])),
    }


def _between(outcomes: Sequence[Outcome]) -> float | None:
    alarms = sum(outcome.steps_back for outcome in outcomes)
    return sum(outcome.looks for outcome in outcomes) / alarms if alarms else None


def reached(name: str, entry: Entry) -> bool:
    """Whether it takes at least as long as is promised, of the rollouts that keep to the assumptions."""
    return bool(entry["inside"] is None or entry["inside"] >= PROMISED)


def tables(entries: Mapping[str, Entry]) -> list[Table]:
    notes, rows = [], []
    for name, entry in entries.items():
        mark = ""
        if CASES[name].note:
            mark = f"[{len(notes) + 1}]"
            inside = entry["inside"]
            notes.append(
                f"{mark} {name}: {CASES[name].note}. In {entry['outside']:,} of {entry['runs']:,} rollouts "
                f"it is not so; in the others {f'{inside:,.0f} looks' if inside else 'no alarm'}."
            )
        between = f"over {entry['watched']:,}" if entry["looks"] is None else f"{entry['looks']:,.0f}"
        rows.append(
            (
                f"{name} {mark}".rstrip(),
                f"{entry['watched']:,}",
                f"{entry['alarms']:,}",
                missed(between, reached(name, entry)),
                f"{entry['within']:.1%}",
            )
        )
    heads = (
        "healthy versions at full weight",
        "looks watched",
        "false alarms",
        "looks between two, on average",
        "alarmed within 10 min",
    )
    title = (
        "Healthy versions at full weight, watched for two hours of looks of 10 s; to reach: at least "
        f"{PROMISED:,.0f} looks between two false alarms, on average"
    )
    return [Table(title, heads, rows, notes)]
