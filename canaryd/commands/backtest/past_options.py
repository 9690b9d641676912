"""What `record` and `backtest` share: the options that say which past is meant, and reading it out of
Prometheus."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.app import telemetry_access
from canaryd.cli.cluster import connect, connection_options
from canaryd.cli.group import Failure
from canaryd.cli.progress import progress
from canaryd.commands.backtest.telemetry_reader import looks_to_read, past_between, past_of, read_out
from canaryd.domain.counts import Look, total
from canaryd.domain.formatting import time_text
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.units import parse_duration
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Rollout
from canaryd.settings import Settings, load_settings

Take = Callable[[Look, Mapping[str, float | None]], None]


def moment(text: str) -> float:
    """`2026-11-23T20:15`, in UTC where it names no zone; `2h`, so long ago; `now`. Unix seconds. Raises
    BadParameter."""
    if text == "now":
        return time.time()
    with suppress(ValueError):
        return time.time() - parse_duration(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"a time such as 2026-11-23T20:15 (UTC) or 2h (ago) was wanted, but {text!r} came"
        ) from error
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True)
class PastQuery:
    """The options as given. start, end: Unix seconds."""

    config: Path
    prometheus: str | None
    stable: str | None
    canary: str | None
    stable_workload: str | None
    canary_workload: str | None
    rollout: str | None
    start: float | None
    end: float | None
    namespace: str | None
    kubeconfig: str | None
    context: str | None

    @property
    def of_prometheus(self) -> list[str]:
        """Options given that only mean something where Prometheus is read."""
        return self._given("prometheus", "stable", "canary", "stable_workload", "canary_workload", "rollout")

    def _given(self, *names: str) -> list[str]:
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]

    def found(self) -> Rollout | None:
        """The rollout that is asked for. Raises UsageError where it and other options contradict."""
        if self.rollout is None:
            return None
        others = self._given("stable", "canary", "stable_workload", "canary_workload")
        others += [name for name, given in (("--from", self.start), ("--to", self.end)) if given is not None]
        if others:
            raise click.UsageError(
                f"--rollout says which versions and which time are meant: leave out {', '.join(others)}"
            )
        return connect(self.kubeconfig, self.context, self.namespace).find(self.rollout).rollout

    def past(self, policy: Policy, readable: float) -> Past:
        """What is asked for without a rollout. Raises UsageError, Failure, Rejected."""
        if self.stable is None or self.canary is None or self.start is None:
            wanted = {"--stable": self.stable, "--canary": self.canary, "--from": self.start}
            raise click.UsageError(
                f"wanted are --rollout, or --stable, --canary and --from; missing: "
                f"{', '.join(name for name, given in wanted.items() if given is None)}"
            )
        if self.stable == self.canary:
            raise click.UsageError(f"--stable and --canary must be two versions, but both are {self.stable}")
        now = time.time()
        if self.end is not None and self.end > now:
            raise Failure(
                f"--to must not be after now ({time_text(now, day=True)}), but is "
                f"{time_text(self.end, day=True)}"
            )
        end = min(readable, self.end if self.end is not None else readable)
        if self.start >= (self.end if self.end is not None else end):
            raise Failure(
                f"--from must be before --to, but is {time_text(self.start, day=True)}, and --to "
                f"{time_text(end, day=True)}"
            )
        service = policy.service.name
        workloads = (
            self.stable_workload or f"{service}-{self.stable}",
            self.canary_workload or f"{service}-{self.canary}",
        )
        return past_between(policy, (self.stable, self.canary), workloads, self.start, end)


def past_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which past is meant, given to the command as one argument `asked`."""

    def command(*args: Any, **given: Any) -> None:
        names = list(PastQuery.__dataclass_fields__)
        asked = PastQuery(**{name: given.pop(name) for name in names})
        function(*args, asked=asked, **given)

    update_wrapper(command, function)
    command = connection_options(command)
    for option in (
        click.option("--to", "end", type=moment, metavar="TIME", help="Until when. Default: now."),
        click.option(
            "--from", "start", type=moment, metavar="TIME", help="2026-11-23T20:15 (UTC), or 2h: so long ago."
        ),
        click.option("--canary-workload", metavar="DEPLOYMENT", help="Default: SERVICE-CANARY."),
        click.option("--stable-workload", metavar="DEPLOYMENT", help="Default: SERVICE-STABLE."),
        click.option("--canary", metavar="VERSION", help="The version label of the version that is judged."),
        click.option("--stable", metavar="VERSION", help="The version label of the one it is compared with."),
        click.option(
            "--rollout",
            metavar="ROLLOUT|SERVICE",
            help="A rollout on record: its versions, its time and its stages.",
        ),
        click.option(
            "--prometheus",
            metavar="URL",
            help="Instead of the settings' prometheus.url; the scrape interval is theirs (15s).",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            default="config/canaryd.yaml",
            show_default=True,
            envvar="CANARYD_CONFIG",
            show_envvar=True,
            help="The daemon's settings, for Prometheus. With --prometheus it need not be there.",
        ),
    ):
        command = option(command)
    return command


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class LookSource:
    """A Prometheus, and up to when its samples are in (Unix seconds)."""

    url: str
    telemetry: PrometheusTelemetry
    readable: float

    def read(self, past: Past, take: Take) -> None:
        """Reads a past, telling how far it is. Raises Failure when there was nothing of a version,
        Unavailable, Rejected."""
        served = {"stable": 0, "canary": 0}

        def taking(look: Look, values: Mapping[str, float | None]) -> None:
            if look.start >= past.start:
                for side in served:
                    served[side] += total(getattr(look, side).values()).requests
            take(look, values)

        with progress(
            looks_to_read(past), f"{past.stable_workload} and {past.canary_workload} in {self.url}"
        ) as read:
            problems = read_out(past, self.telemetry, taking, read)
        missing = [
            name
            for side, name in (("stable", past.stable_workload), ("canary", past.canary_workload))
            if not served[side]
        ]
        if missing:
            raise self._nothing(past, missing)
        for promql, why in problems.items():
            click.echo(
                f"canaryd: a query has no value, and nothing passes without it: {promql}: {why}", err=True
            )

    def _nothing(self, past: Past, missing: Sequence[str]) -> Failure:
        there = self.telemetry.workloads(past.namespace, "", past.reporter, past.end, past.end - past.start)
        known = (
            f"there were samples of {', '.join(there)}"
            if there
            else (
                f"nor of anything else in {past.namespace}: is it kept for so long, and are these Istio's "
                "metrics?"
            )
        )
        span = f"between {time_text(past.start, day=True)} and {time_text(past.end, day=True)}"
        nothing = f"no request of {' and none of '.join(missing)} {span} (reporter {past.reporter})"
        return Failure(f"Prometheus at {self.url} has {nothing}; {known}")


def source(asked: PastQuery) -> LookSource:
    """The Prometheus of the settings. Raises Refused."""
    settings: Settings = load_settings(asked.config, asked.prometheus)
    telemetry = PrometheusTelemetry(telemetry_access(settings))
    return LookSource(settings.prometheus.url, telemetry, time.time() - settings.prometheus.ingestion_delay)


def past_asked(asked: PastQuery, policy: Policy | None, rollout: Rollout | None, readable: float) -> Past:
    """The one past that is meant, of a rollout or by versions and time."""
    if rollout is not None:
        return past_of(rollout, readable)
    if policy is None:
        raise click.UsageError("wanted is --policies, or --rollout, whose policy is on record")
    return asked.past(policy, readable)
