"""concepts/lifecycle.md and its diagram, drawn from `canaryd.domain.lifecycle.TRANSITIONS`.

Where a signal leads depends on the rollout (the last stage leads to promotion, another one to the next
stage), so each transition is tried on rollouts that differ in what matters, and what became of them is what
is shown."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import hypot

from canaryd.domain.lifecycle import TRANSITIONS, Detail, Signal, advance
from canaryd.domain.rollout import Held, Phase, Rollout
from docs_generator import ROOT
from docs_generator.markdown import page, plain, table
from tests.builders import NOW, a_policy, a_rollout

Transitions = dict[tuple[Phase, Phase], list[Signal]]

SIGNALS = {
    Signal.AVAILABLE: "the canary's Deployment is available",
    Signal.NOT_READY: "the canary's Deployment is not ready: crash loops, a deadline of Kubernetes' own",
    Signal.ROUTED: "the route is as wanted, read back from the API server",
    Signal.PASS: "the stage's evidence and its minimum time are there",
    Signal.LET_PASS: "undecided at the stage's deadline, and `undecided: advance` lets it pass",
    Signal.STUCK: "undecided at the stage's deadline, and held",
    Signal.TIMED_OUT: "undecided at the stage's deadline, and `undecided: rollback`",
    Signal.HARM: "the odds have reached the bar, or a limit of the policy is broken",
    Signal.ALARM: "at full weight the new version is worse than the record",
    Signal.DATA_LOST: "looks have no data any more: the stage's clock stands still",
    Signal.DATA: "looks have data again",
    Signal.NO_DATA: "no data for `noDataFor`, and `noData: hold`",
    Signal.BLIND: "no data for `noDataFor`, and `noData: rollback`",
    Signal.DRIFT: "someone else changed the route",
    Signal.DRIFT_OVER: "the route is again as canaryd had set it",
    Signal.HOLD: "a person said `canaryd hold`",
    Signal.RESUME: "a person said `canaryd resume`",
    Signal.APPROVE: "a person said `canaryd approve`",
    Signal.ABORT: "a person said `canaryd abort`",
    Signal.PROMOTE: "a person said `canaryd promote`",
    Signal.NEWER: "a newer version of the service is there",
    Signal.OVERDUE: "the rollout's own deadline (`schedule.deadline`) has passed",
    Signal.STABLE_CHANGED: "the stable version's pod template was changed: what was compared is void",
    Signal.STABLE_DOWN: "the stable version's Deployment is not ready",
    Signal.STABLE_UP: "the stable version's Deployment is ready again",
    Signal.GATE_OPEN: "the gate that is asked has opened",
    Signal.GATE_STUCK: "the gate was closed for its deadline, and `closed: hold`",
    Signal.GATE_LOST: "the gate was closed for its deadline, and `closed: rollback`",
    Signal.ALERT_FIRING: "an alert of the policy has begun to fire, and `onFiring: hold`",
    Signal.ALERT_RESOLVED: "the alert has resolved",
}

# Where each phase stands in the diagram: the middle of its box.
PLACES = {
    Phase.WAITING: (90, 190),
    Phase.AWAITING_GATE: (180, 75),
    Phase.AWAITING_APPROVAL: (560, 110),
    Phase.PROGRESSING: (330, 190),
    Phase.HELD: (200, 310),
    Phase.PROMOTING: (745, 190),
    Phase.GIVING_WAY: (150, 430),
    Phase.ROLLING_BACK: (560, 430),
    Phase.SUCCEEDED: (920, 190),
    Phase.ROLLED_BACK: (920, 430),
    Phase.SUPERSEDED: (150, 510),
}
WIDTH, HEIGHT = 146, 38  # of a box
# What leads out of every one of these is drawn once, from their frame.
FRAMED = (Phase.WAITING, Phase.AWAITING_GATE, Phase.AWAITING_APPROVAL, Phase.PROGRESSING, Phase.HELD)
FRAME = (6, 40, 642, 345)  # left, top, right, bottom


def transitions() -> Transitions:
    """From each phase to each other one: the signals that lead there."""
    found: Transitions = defaultdict(list)
    for phase, signal in TRANSITIONS:
        ends = {advance(rollout, signal, NOW + 60, detail).phase for rollout, detail in _tried(phase, signal)}
        for end in sorted(ends - {phase}):
            found[phase, end].append(signal)
    return dict(found)


def _tried(phase: Phase, signal: Signal) -> Iterator[tuple[Rollout, Detail]]:
    """Rollouts in this phase that differ in what a signal may depend on."""
    ladder = [{"weight": 10}, {"weight": 100}]
    asking = [{"weight": 10, "approval": "required"}, {"weight": 100}]
    gates = [{"before": place, "gate": "https://tests.example"} for place in ("start", 100)]
    for policy in (a_policy(stages=ladder), a_policy(stages=asking), a_policy(stages=ladder, hooks=gates)):
        waiting = a_rollout(
            policy=policy, phase=Phase.WAITING, stage=-1, weight=0, spans=(), stage_began=None
        )
        if phase in (Phase.WAITING, Phase.HELD):
            yield replace(waiting, phase=phase, held=Held.PERSON if phase is Phase.HELD else None), Detail()
        if policy.gates and phase in (Phase.AWAITING_GATE, Phase.HELD):
            passing = a_rollout(policy=policy)
            for asked in (advance(waiting, Signal.AVAILABLE, NOW), advance(passing, Signal.PASS, NOW)):
                yield (
                    (asked if phase is Phase.AWAITING_GATE else advance(asked, Signal.GATE_STUCK, NOW)),
                    Detail(),
                )
        if phase is Phase.WAITING:
            continue
        for stage, weight in ((0, 10), (1, 100)):
            for step_backs in (0, 2):
                for held in Held if phase is Phase.HELD else (None,):
                    rollout = a_rollout(
                        policy=policy, phase=phase, stage=stage, weight=weight, step_backs=step_backs
                    )
                    yield replace(rollout, held=held), Detail(stage=stage)


def diagram() -> str:
    """The phases and the ways between them, as SVG."""
    found = transitions()
    shared = {end for end in Phase if end not in FRAMED and all((begin, end) in found for begin in FRAMED)}
    left, top, right, bottom = FRAME
    parts = [
        f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10"/>'
    ]
    parts += [
        _arrow(begin, end, signals, (end, begin) in found)
        for (begin, end), signals in sorted(found.items())
        if not (begin in FRAMED and end in shared)
    ]
    parts += [
        _line(
            _kind_of(FRAMED[0], end),
            "from any of these",
            (PLACES[end][0], bottom),
            (PLACES[end][0], PLACES[end][1] - HEIGHT / 2),
        )
        for end in sorted(shared)
    ]
    parts += [_box(phase, *place) for phase, place in PLACES.items()]
    style = (
        "text{font:13px sans-serif;text-anchor:middle;fill:#111}"
        "rect{fill:#e0f2f1;stroke:#00796b}.frame{fill:#fafafa;stroke:#b0bec5;stroke-dasharray:5 4}.end "
        "rect{fill:#eee;stroke:#555}"
        "line{stroke:#607d8b;stroke-width:1.4}.back line{stroke:#c62828}.on "
        "line{stroke:#00796b;stroke-width:2}"
    )
    marks = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for name, colour in (("plain", "#607d8b"), ("back", "#c62828"), ("on", "#00796b"))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 540" role="img" '
        'aria-label="The phases of a rollout">'
        f"<style>{style}</style><defs>{marks}</defs>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _box(phase: Phase, x: int, y: int) -> str:
    kind = ' class="end"' if phase.ended else ""
    return (
        f'<g{kind}><rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x}" y="{y + 5}">{phase.value}</text></g>'
    )


def _kind_of(begin: Phase, end: Phase) -> str:
    if end in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return "back"
    way = (Phase.WAITING, Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED)
    return "on" if (begin, end) in pairwise(way) else "plain"


def _arrow(begin: Phase, end: Phase, signals: list[Signal], both_ways: bool) -> str:
    (x1, y1), (x2, y2) = PLACES[begin], PLACES[end]
    across = (6 if both_ways else 0) / hypot(
        x2 - x1, y2 - y1
    )  # two arrows between the same boxes stand side by side
    dx, dy = (y1 - y2) * across, (x2 - x1) * across
    (x1, y1), (x2, y2) = (
        _edge(x1 + dx, y1 + dy, x2 + dx, y2 + dy, begin),
        _edge(x2 + dx, y2 + dy, x1 + dx, y1 + dy, end),
    )
    says = f"{begin.value} to {end.value}: {', '.join(signal.value for signal in signals)}"
    return _line(_kind_of(begin, end), says, (x1, y1), (x2, y2))


def _line(kind: str, says: str, begin: tuple[float, float], end: tuple[float, float]) -> str:
    return (
        f'<g class="{kind}"><title>{says}</title><line x1="{begin[0]:.0f}" y1="{begin[1]:.0f}" '
        f'x2="{end[0]:.0f}" y2="{end[1]:.0f}" marker-end="url(#{kind})"/></g>'
    )


def _edge(x: float, y: float, to_x: float, to_y: float, box: Phase) -> tuple[float, float]:
    """Where a line that begins at (x, y), within the box, leaves it."""
    (middle_x, middle_y), dx, dy = PLACES[box], to_x - x, to_y - y
    sides = (
        middle_x + (WIDTH / 2 if dx > 0 else -WIDTH / 2) - x,
        middle_y + (HEIGHT / 2 if dy > 0 else -HEIGHT / 2) - y,
    )
    part = min(side / way if way else 9.0 for side, way in zip(sides, (dx, dy), strict=True))
    return x + dx * part, y + dy * part


def lifecycle_page() -> str:
    """The page, in Markdown."""
    ways: dict[tuple[Phase, Signal], list[Phase]] = defaultdict(list)
    for (begin, end), signals in transitions().items():
        for signal in signals:
            ways[begin, signal].append(end)
    order, signals_in_order = list(Phase), list(Signal)
    rows = [
        (begin.value, signal.value, " or ".join(end.value for end in ends))
        for (begin, signal), ends in sorted(
            ways.items(), key=lambda way: (order.index(way[0][0]), signals_in_order.index(way[0][1]))
        )
    ]
    kept = defaultdict(list)
    for begin, signal in TRANSITIONS:
        if (begin, signal) not in ways:
            kept[begin].append(signal.value)
    return page(
        "The life of a rollout",
        "A rollout is in one phase at a time. All transitions are in one table, `TRANSITIONS` in "
        "`canaryd/domain/lifecycle.py`; "
        "this page is drawn from it. A signal that the table does not have for a phase is refused.",
        "![The phases of a rollout, and the ways between them](../images/lifecycle.svg)",
        "Green is the way to full traffic, red the way back; an arrow from the frame stands for one from "
        "each phase in it. Every phase that serves users has a way back, also while a person, a gate or a "
        "hold keeps the rollout waiting: harm always rolls back.",
        _RULES,
        "## Signals",
        table(("signal", "what has happened"), [(signal.value, SIGNALS[signal]) for signal in Signal]),
        "## Every change of phase",
        table(("from", "signal", "to"), rows),
        "## Signals that change no phase",
        "They change the stage, the clock or the record.",
        table(
            ("in", "signals"), [(plain(phase.value), ", ".join(signals)) for phase, signals in kept.items()]
        ),
    )


_RULES = (ROOT / "docs_generator" / "texts" / "lifecycle_rules.md").read_text(encoding="utf-8")
