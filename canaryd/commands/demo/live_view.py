"""What `canaryd demo` shows: a picture that changes on a terminal, lines when piped. Knows nothing of how the
demo is run."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log10
from types import TracebackType
from typing import Any, Protocol, Self

import click

from canaryd.cli.output import STYLES
from canaryd.domain.formatting import lasting, odds_text, percent_text, short
from canaryd.domain.rollout import Phase, Rollout
from canaryd.report.phase_summary import describe

WINDOW = 5.0  # seconds over which rates are taken: a handful of looks
EVERY = 3.0  # seconds between two lines of the plain view when nothing has happened
CELLS = 40  # width of the bars


class Tallied(Protocol):
    """What one pod served, and how many of these were slower than each bound in ms."""

    version: str
    requests: int
    failures: int
    slower: dict[float, int]


@dataclass(frozen=True)
class Speed:
    """One version over the last seconds. rate: requests/s; errors: share; p95: the least histogram bound in
    ms that 95% kept to."""

    rate: float
    errors: float | None
    p95: float | None


class Speedometer:
    """Rates from the world's own tally: what really happened, not what canaryd counted."""

    def __init__(self, tally: Callable[[], Mapping[str, Tallied]]) -> None:
        self._tally = tally
        self._past: deque[tuple[float, dict[str, dict[float, int]]]] = deque()

    def read(self, now: float) -> dict[str, Speed]:
        """By version. now: monotonic seconds."""
        totals: dict[str, dict[float, int]] = {}
        for pod in self._tally().values():
            mine = totals.setdefault(pod.version, {})
            # -2 and -1 beside the bounds, which are positive: one dictionary is subtracted as a whole.
            for key, value in ((-2.0, pod.requests), (-1.0, pod.failures), *pod.slower.items()):
                mine[key] = mine.get(key, 0) + value
        self._past.append((now, totals))
        while self._past[0][0] < now - WINDOW:
            self._past.popleft()
        then, before = self._past[0]
        return {
            version: _speed(now - then, mine, before.get(version, {}))
            for version, mine in sorted(totals.items())
        }


def _speed(seconds: float, present: dict[float, int], before: dict[float, int]) -> Speed:
    more = {key: value - before.get(key, 0) for key, value in present.items()}
    requests = more[-2.0]
    if seconds <= 0 or not requests:
        return Speed(0.0, None, None)
    p95 = next(
        (bound for bound in sorted(key for key in more if key > 0) if more[bound] <= 0.05 * requests), None
    )
    return Speed(requests / seconds, more[-1.0] / requests, p95)


@dataclass(frozen=True)
class Frame:
    """One moment. waited: seconds since the version was applied; events: what the webhook receiver has heard
    of this release."""

    version: str
    rollout: Rollout | None
    speeds: Mapping[str, Speed]
    events: tuple[str, ...]
    waited: float


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
        self._told, self._reason = 0.0, ""

    def __enter__(self) -> Self:
        self.__init__()  # type: ignore[misc]  # each release is told from its beginning
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, line: str) -> None:
        click.echo(line)

    def show(self, frame: Frame) -> None:
        rollout = frame.rollout
        told = (
            [(decision, rollout.share_in(decision)) for decision in rollout.decisions[self._decisions :]]
            if rollout
            else []
        )
        for decision, share in told:
            why = f": {decision.reason}" if decision.reason != self._reason else ""
            self._reason = decision.reason
            self.say(f"{_clock(frame)}  {decision.phase.value} at {share}{why}")
        for event in frame.events[self._events :]:
            self.say(f"{_clock(frame)}  webhook: {event}")
        self._decisions, self._events = len(rollout.decisions) if rollout else 0, len(frame.events)
        if frame.waited - self._told >= EVERY:
            self._told = frame.waited
            odds = f"; odds {odds_text(rollout.verdict.odds)}" if rollout and rollout.verdict else ""
            self.say(
                f"{_clock(frame)}  "
                f"{describe(rollout) if rollout else 'not noticed yet'}{_speeds(frame)}{odds}"
            )


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
    """The whole state as a rich renderable."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    rollout = frame.rollout
    if rollout is None:
        return Panel(
            Text(f"{frame.version} is applied; canaryd has not noticed it yet"),
            title=_clock(frame),
            title_align="left",
        )
    style = STYLES[rollout.phase.value]
    lines = [
        Text.assemble(("phase    ", "dim"), (describe(rollout), style)),
        _ladder(rollout),
        Text(),
        *_speed_lines(frame, rollout),
        Text(),
        *_odds_lines(rollout),
        Text(),
        Text.assemble(
            ("why      ", "dim"),
            rollout.verdict.reason if rollout.verdict and not rollout.phase.ended else rollout.reason,
        ),
        Text.assemble(("webhook  ", "dim"), " → ".join(frame.events) or "nothing yet"),
    ]
    service = rollout.entrance
    title = f"{service.name} {service.stable} → {service.canary}, {_clock(frame)}"
    return Panel(Group(*lines), title=title, title_align="left", border_style=style)


def _ladder(rollout: Rollout) -> Any:
    from rich.text import Text

    text = Text.assemble(("ladder   ", "dim"))
    for number, stage in enumerate(rollout.policy.stages):
        here = number == rollout.stage and not rollout.phase.ended
        done = number < rollout.stage or rollout.phase is Phase.SUCCEEDED
        text.append(f" {stage.short} ", "bold reverse" if here else "green" if done else "dim")
        text.append("─" if number + 1 < len(rollout.policy.stages) else "", "dim")
    now = 100 if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED) else rollout.weight
    filled = round(CELLS * now / 100)
    text.append("   ")
    text.append("█" * filled, "cyan")
    text.append("░" * (CELLS - filled), "dim")
    text.append(f" {now}% on {rollout.entrance.canary}")
    return text


def _speed_lines(frame: Frame, rollout: Rollout) -> list[Any]:
    from rich.text import Text

    lines = [Text(f"{'':9}{'':10}{'requests/s':>12}{'errors':>10}{'p95 within':>14}", "dim")]
    for role, version in (("stable", rollout.entrance.stable), ("canary", rollout.entrance.canary)):
        speed = frame.speeds.get(version, Speed(0.0, None, None))
        errors = "-" if speed.errors is None else percent_text(speed.errors)
        p95 = "-" if speed.p95 is None else f"{speed.p95:g} ms"
        lines.append(
            Text.assemble((f"{role:9}", "dim"), f"{version:10}{short(speed.rate):>12}{errors:>10}{p95:>14}")
        )
    return lines


def _odds_lines(rollout: Rollout) -> list[Any]:
    """The odds on a scale of powers of ten, even in the middle and the bar at its end."""
    from rich.text import Text

    verdict = rollout.verdict
    if verdict is None:
        return [Text.assemble(("odds     ", "dim"), "no look yet")]
    reach = log10(max(verdict.bar, 10.0))
    place = min(1.0, max(-1.0, log10(max(verdict.odds, 1e-9)) / reach))
    cell = round((place + 1) / 2 * (CELLS - 1))
    colour = "red" if verdict.odds >= verdict.bar else "yellow" if verdict.odds > 3 else "green"
    text = Text.assemble(("odds     ", "dim"))
    text.append("─" * cell, "dim")
    text.append("●", colour)
    text.append("─" * (CELLS - 1 - cell), "dim")
    text.append("┤", "red")
    text.append(
        f" {odds_text(verdict.odds)} against {rollout.entrance.canary}; "
        f"rolled back at {odds_text(verdict.bar)}",
        colour,
    )
    return [text]


def _speeds(frame: Frame) -> str:
    shown = []
    for version, speed in frame.speeds.items():
        if not speed.rate:
            continue
        errors = f", {percent_text(speed.errors)} errors" if speed.errors is not None else ""
        p95 = f", p95 within {speed.p95:g} ms" if speed.p95 is not None else ""
        shown.append(f"; {version} {short(speed.rate)}/s{errors}{p95}")
    return "".join(shown)


def _clock(frame: Frame) -> str:
    return f"+{lasting(frame.waited):>4}"
