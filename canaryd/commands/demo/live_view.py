"""What `canaryd demo` shows of a rollout: a picture that changes on a terminal, lines when piped.

Knows nothing of how the demo is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from textwrap import wrap
from types import TracebackType
from typing import Any, Protocol, Self

import click

from canaryd.cli.output import STYLES
from canaryd.commands.demo.served_traffic import Served, Speed, hurt_text
from canaryd.domain.formatting import lasting, odds_text, percent_text, short
from canaryd.domain.rollout import Phase, Rollout
from canaryd.report.attribution import whole
from canaryd.report.findings import ALL_BOUNDS
from canaryd.report.phase_summary import describe

EVERY = 3.0  # seconds between two lines of the plain view when nothing has happened
COLUMNS = 80  # of the picture, with its border
LABEL = 12  # columns of what stands before each line
CELLS = 24  # width of the bars
WHY_LINES = 2  # of the reason, so that the picture fits 24 lines
EVENTS = 4  # the latest webhooks shown


@dataclass(frozen=True)
class Frame:
    """One moment. waited: seconds since the version was applied; now: Unix seconds; events: what the webhook
    receiver has got of this release; served: by version, since the world began."""

    version: str
    rollout: Rollout | None
    speeds: Mapping[str, Speed]
    served: Mapping[str, Served]
    events: tuple[str, ...]
    waited: float
    now: float


class View(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, line: str) -> None:
        """A line that stays."""

    def show(self, frame: Frame) -> None: ...


class Plain:
    """Lines: each decision and each event as it comes, and now and then where things stand."""

    def __init__(self) -> None:
        self._decisions = self._events = 0
        self._shown, self._reason = 0.0, ""

    def __enter__(self) -> Self:
        self.__init__()  # type: ignore[misc]  # each release is shown from its beginning
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, line: str) -> None:
        click.echo(line)

    def show(self, frame: Frame) -> None:
        rollout = frame.rollout
        decisions = (
            [(decision, rollout.share_in(decision)) for decision in rollout.decisions[self._decisions :]]
            if rollout
            else []
        )
        for decision, share in decisions:
            why = f": {decision.reason}" if decision.reason != self._reason else ""
            self._reason = decision.reason
            self.say(f"{_clock(frame)}  {decision.phase.value} at {share}{why}")
        for event in frame.events[self._events :]:
            self.say(f"{_clock(frame)}  webhook: {event}")
        self._decisions, self._events = len(rollout.decisions) if rollout else 0, len(frame.events)
        if frame.waited - self._shown >= EVERY:
            self._shown = frame.waited
            where = describe(rollout) if rollout else "not noticed yet"
            self.say(f"{_clock(frame)}  {where}{_speeds(frame)}{_evidence(rollout)}")


class Terminal:
    """A picture in place."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console()
        self._live: Any = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def say(self, line: str) -> None:
        click.echo(line)

    def show(self, frame: Frame) -> None:
        self._live.update(picture(frame), refresh=True)


def picture(frame: Frame) -> Any:
    """The whole state as a rich renderable, 80 columns wide and at most 23 lines high."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    rollout = frame.rollout
    if rollout is None:
        return Panel(
            Text(f"{frame.version} is applied; canaryd has not noticed it yet"),
            title=_clock(frame),
            title_align="left",
            width=COLUMNS,
        )
    style = STYLES[rollout.phase.value]
    lines = [
        _line("phase", (describe(rollout), style)),
        _ladder(rollout),
        _line("deadline", deadline_text(rollout, frame.now)),
        Text(),
        *_speed_lines(frame, rollout),
        *_hurt_lines(frame, rollout),
        Text(),
        *_harm_lines(rollout),
        *_ruled_out_lines(rollout),
        Text(),
        *_why_lines(rollout),
        _line("webhook", _events_text(frame.events)),
    ]
    title = f"{rollout.entrance.name} {rollout.entrance.stable} → {rollout.entrance.canary}, {_clock(frame)}"
    return Panel(Group(*lines), title=title, title_align="left", border_style=style, width=COLUMNS)


def _line(label: str, *parts: str | tuple[str, str]) -> Any:
    from rich.text import Text

    return Text.assemble((f"{label:{LABEL}}", "dim"), *parts)


def _bar(share: float, colour: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """A bar of CELLS columns, filled by a share from 0 to 1."""
    filled = round(CELLS * min(1.0, max(0.0, share)))
    return ("█" * filled, colour), ("░" * (CELLS - filled), "dim")


def _ladder(rollout: Rollout) -> Any:
    stages = rollout.policy.stages
    parts: list[str | tuple[str, str]] = []
    for number, stage in enumerate(stages):
        here = number == rollout.stage and not rollout.phase.ended
        done = number < rollout.stage or rollout.phase is Phase.SUCCEEDED
        parts.append((f" {stage.short} ", "bold reverse" if here else "green" if done else "dim"))
        if number + 1 < len(stages):
            parts.append(("─", "dim"))
    now = 100 if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED) else rollout.weight
    return _line("ladder", *parts, "  ", *_bar(now / 100, "cyan"), f" {now}% on {rollout.entrance.canary}")


def deadline_text(rollout: Rollout, now: float) -> str:
    """How much of the stage's time is left. now: Unix seconds."""
    if rollout.phase.ended:
        return f"ended after {lasting((rollout.ended or now) - rollout.began)}"
    if rollout.phase is not Phase.PROGRESSING:
        return "the stage's clock stands still"
    stage = rollout.policy.stages[rollout.stage]
    left = max(0.0, stage.deadline - rollout.stage_clock(now))
    return (
        f"in {lasting(left)}, of {lasting(stage.deadline)} for this stage, which lasts "
        f"{lasting(stage.minimum)} at least"
    )


def _speed_lines(frame: Frame, rollout: Rollout) -> list[Any]:
    from rich.text import Text

    lines = [Text(f"{'':{LABEL}}{'':10}{'requests/s':>12}{'errors':>10}{'p95 within':>14}", "dim")]
    for role, version in (("stable", rollout.entrance.stable), ("canary", rollout.entrance.canary)):
        speed = frame.speeds.get(version, Speed(0.0, None, None))
        errors = "-" if speed.errors is None else percent_text(speed.errors)
        p95 = "-" if speed.p95 is None else f"{speed.p95:g} ms"
        lines.append(_line(role, f"{version:10}{short(speed.rate):>12}{errors:>10}{p95:>14}"))
    return lines


def _hurt_lines(frame: Frame, rollout: Rollout) -> list[Any]:
    canary, stable = (
        frame.served.get(version, Served()) for version in (rollout.entrance.canary, rollout.entrance.stable)
    )
    hurt, usual = hurt_text(canary, stable)
    return [_line("users hurt", hurt), _line("", (f"on {rollout.entrance.stable} about {usual}", "dim"))]


def _harm_lines(rollout: Rollout) -> list[Any]:
    """The odds on a scale of powers of ten, even in the middle and the bar at its end."""
    from rich.text import Text

    verdict = rollout.verdict
    if verdict is None:
        return [_line("harm", "no look yet")]
    reach = log10(max(verdict.bar, 10.0))
    place = min(1.0, max(-1.0, log10(max(verdict.odds, 1e-9)) / reach))
    cell = round((place + 1) / 2 * (CELLS - 1))
    colour = "red" if verdict.odds >= verdict.bar else "yellow" if verdict.odds > 3 else "green"
    odds = f" {odds_text(verdict.odds)} against {rollout.entrance.canary}"
    scale = (("─" * cell, "dim"), ("●", colour), ("─" * (CELLS - 1 - cell), "dim"), ("┤", "red"))
    return [
        _line("harm", *scale, (odds, colour)),
        Text(f"{'':{LABEL}}{'':{CELLS}}└ rolled back at {odds_text(verdict.bar)}", "dim"),
    ]


def ruled_out(rollout: Rollout) -> dict[str, tuple[float, float]]:
    """Of each metric that the stage has to clear: the odds gathered that nothing unacceptable is there, and
    the odds at which the stage passes. Of latency they are those of all bounds together, which the stage
    waits for."""
    verdict = rollout.verdict
    if verdict is None or not rollout.policy.stages[verdict.stage].rules_out:
        return {}
    if verdict.stage != rollout.stage and not rollout.phase.ended:
        return {}  # of the stage before
    return {
        finding.named: (finding.cleared, finding.clear_bar)
        for finding in whole(verdict)
        if finding.unacceptable is not None or finding.what == ALL_BOUNDS
    }


def _ruled_out_lines(rollout: Rollout) -> list[Any]:
    """How near the stage is to passing, by metric."""
    lines = []
    for number, (metric, (odds, bar)) in enumerate(ruled_out(rollout).items()):
        share = log10(max(odds, 1.0)) / log10(max(bar, 1.1))
        colour = "green" if odds >= bar else "cyan"
        progress = f"{odds_text(odds)}, passes at {odds_text(bar)}"
        text = f" {metric}: {'ruled out' if odds >= bar else progress}"
        lines.append(_line("ruled out" if number == 0 else "", *_bar(share, colour), (text, colour)))
    return lines or [_line("ruled out", "nothing yet in this stage")]


def _why_lines(rollout: Rollout) -> list[Any]:
    why = rollout.verdict.reason if rollout.verdict and not rollout.phase.ended else rollout.reason
    lines = wrap(
        why or "-", COLUMNS - 4 - LABEL, break_on_hyphens=False, max_lines=WHY_LINES, placeholder=" ..."
    )
    lines += [""] * (WHY_LINES - len(lines))
    return [_line("why" if number == 0 else "", line) for number, line in enumerate(lines)]


def _events_text(events: tuple[str, ...]) -> str:
    return ("... → " if len(events) > EVENTS else "") + (" → ".join(events[-EVENTS:]) or "nothing yet")


def _speeds(frame: Frame) -> str:
    shown = []
    for version, speed in frame.speeds.items():
        if not speed.rate:
            continue
        errors = f", {percent_text(speed.errors)} errors" if speed.errors is not None else ""
        p95 = f", p95 within {speed.p95:g} ms" if speed.p95 is not None else ""
        shown.append(f"; {version} {short(speed.rate)}/s{errors}{p95}")
    return "".join(shown)


def _evidence(rollout: Rollout | None) -> str:
    """Progress towards a rollback, and towards passing the stage."""
    if rollout is None or rollout.verdict is None:
        return ""
    verdict, metrics = rollout.verdict, ruled_out(rollout)
    evidence = f"; harm {odds_text(verdict.odds)} (rolled back at {short(verdict.bar)})"
    if metrics:
        cleared = ", ".join(f"{metric} {odds_text(odds)}" for metric, (odds, _) in metrics.items())
        evidence += f"; ruled out: {cleared} (passes at {short(max(bar for _, bar in metrics.values()))})"
    return evidence


def _clock(frame: Frame) -> str:
    return f"+{lasting(frame.waited):>4}"
