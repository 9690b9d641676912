"""`canaryd explain`: a rollout in words and numbers, recomputed from telemetry where that is at hand, else as
recorded. Reads only."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import click

from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.adapters.recording_file import load
from canaryd.app import telemetry_access
from canaryd.cli import output
from canaryd.cli.cluster import connect, connection_options
from canaryd.cli.group import Failure
from canaryd.cli.progress import progress
from canaryd.commands.explain import text as telling
from canaryd.commands.explain.counterfactuals import USUAL_LOOKS
from canaryd.commands.explain.recomputed import Recomputed, answered, completed, inquiry, recomputed
from canaryd.commands.explain.reread import looks_to_reread, reread
from canaryd.domain.formatting import wrapped
from canaryd.domain.ports import Rejected, Telemetry, Unavailable
from canaryd.domain.rollout import DesiredActions, Rollout
from canaryd.report import explanation as explaining
from canaryd.report.explanation import Section
from canaryd.settings import load_settings

EXAMPLE = """
\b
Examples:
  canaryd explain front-end
  canaryd explain front-end --prometheus http://127.0.0.1:9090
  canaryd explain --recorded front-end-v3.gz --looks
  canaryd explain front-end-v3-5d4f9c7b66 -o json | jq '.recomputed.decisions[].whatIf'
"""
QUIET = 1000  # looks, read or judged in some seconds
HINT = (
    "to have it recomputed from telemetry, with the odds over time and what would have decided otherwise: "
    "canaryd explain {name} --prometheus URL (or CANARYD_PROMETHEUS=URL, or --config FILE, or --recorded "
    "FILE of canaryd record)."
)
HINT_OF_SEVERAL = (
    "to have it recomputed from telemetry, with the odds over time: canaryd explain {name} --prometheus URL "
    "(or CANARYD_PROMETHEUS=URL, or --config FILE)."
)


@dataclass(frozen=True)
class ReadableTelemetry:
    """Telemetry to recompute from. now: until when there can be any (Unix seconds); delay: seconds after a
    look until its samples are there; close: when it has been read."""

    name: str
    telemetry: Telemetry
    now: float
    delay: float = 0.0
    close: Callable[[], None] = lambda: None


@click.command(epilog=EXAMPLE)
@click.argument("name", metavar="[SERVICE|ROLLOUT]", required=False)
@click.option(
    "--prometheus",
    metavar="URL",
    envvar="CANARYD_PROMETHEUS",
    show_envvar=True,
    help="Recompute from this Prometheus. Its scrape interval is 15s, unless --config says otherwise.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="CANARYD_CONFIG",
    show_envvar=True,
    help="The daemon's settings: recompute from its Prometheus.",
)
@click.option(
    "--recorded",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Recompute from a file of `canaryd record --rollout`. Without a name, all is from that file, and no "
    "cluster is asked.",
)
@click.option("--looks", "every_look", is_flag=True, help="Each look too, as a table.")
@click.option(
    "--brief",
    is_flag=True,
    help="Recompute, but leave out what would have decided otherwise, which takes longest.",
)
@click.option(
    "--full",
    is_flag=True,
    help=f"All that would have decided otherwise, also beyond {USUAL_LOOKS:,} looks to be judged again.",
)
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@connection_options
def explain(
    name: str | None,
    prometheus: str | None,
    config: Path | None,
    path: Path | None,
    every_look: bool,
    brief: bool,
    full: bool,
    form: str,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
) -> None:
    """Tell why a rollout is where it is: each decision with its numbers, what was counted, what comes next.

    Of a service, the rollout under way, else the latest. With --prometheus, --config or --recorded all looks
    are judged again, by the code that judged them live: told are the odds over time, which metric decided,
    whether each verdict equals the stored one, and what would have decided otherwise (another risk, a metric
    or a replica left out, more tolerated). Without, or where Prometheus does not answer or has forgotten, it
    is what was recorded as it was decided. -o json has the whole record, and what was recomputed.
    """
    if config is not None and not _is_on_the_line("prometheus"):
        prometheus = None  # what is asked for here goes before the environment
    _check(name, config, path, every_look, brief, full, prometheus)
    recording = load(path) if path is not None else None
    if recording is not None and recording.past.rollout is None:
        raise Failure(
            f"{path}: a file of `canaryd record --rollout` was wanted, but it was recorded without a rollout"
        )
    now, since = time.time(), list[str]()
    if name is not None:
        cluster = connect(kubeconfig, context, namespace)
        record = cluster.find(name)
        rollout, wishes = record.rollout, record.wishes
        if rollout.phase.ended:
            since = cluster.waiting(lambda note: (note.namespace, note.service) in rollout.keys, now)
    else:
        assert recording is not None
        assert recording.past.rollout is not None
        rollout, wishes = recording.past.rollout, DesiredActions()
    if recording is not None:
        own = recording.past.rollout
        if own is not None and (own.name, own.began) != (rollout.name, rollout.began):
            raise Failure(f"{path} is of {own.name}, and {rollout.name} was asked for")
        source: ReadableTelemetry | None = ReadableTelemetry(
            str(path), recording, float(recording.past.until)
        )
        # of one that was under way: what was next then
        now = now if name is not None else recording.past.until
    else:
        source = _prometheus(config, prometheus, now)
    found, problem = (
        (None, "") if source is None else _recomputed(rollout, source, brief, inf if full else USUAL_LOOKS)
    )
    if name is None and found is not None:
        rollout = completed(rollout, found)
    if form == "json":
        recomputed_data = None if source is None else telling.data(found, source.name, problem)
        output.as_json({**explaining.data(rollout), "recomputed": recomputed_data})
        return
    show(rollout, wishes, now, found, problem, every_look, since)


def _check(
    name: str | None,
    config: Path | None,
    path: Path | None,
    every_look: bool,
    brief: bool,
    full: bool,
    url: str | None,
) -> None:
    """Raises UsageError where options do not fit together."""
    if name is None and path is None:
        raise click.UsageError("wanted is a SERVICE or ROLLOUT, or --recorded FILE")
    if brief and full:
        raise click.UsageError("--brief leaves out what --full asks for: one of them is wanted")
    if path is not None:
        given = [f"--{option}" for option in ("prometheus", "config") if _is_on_the_line(option)]
        if given:
            raise click.UsageError(f"--recorded says where the looks are from: leave out {', '.join(given)}")
    elif every_look and config is None and url is None:
        raise click.UsageError("--looks are recomputed: they need --prometheus, --config or --recorded")


def _is_on_the_line(option: str) -> bool:
    """Whether an option was given here, and not by the environment, which is a default of one's own."""
    return click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE


def _prometheus(config: Path | None, url: str | None, now: float) -> ReadableTelemetry | None:
    """None: none is given. Raises Refused for settings that are not understood."""
    if config is None and url is None:
        return None
    settings = load_settings(config, url)
    telemetry = PrometheusTelemetry(telemetry_access(settings))
    return ReadableTelemetry(
        f"Prometheus at {settings.prometheus.url}",
        telemetry,
        now,
        settings.prometheus.ingestion_delay,
        telemetry.close,
    )


def _recomputed(
    rollout: Rollout, source: ReadableTelemetry, brief: bool, most: float
) -> tuple[Recomputed | None, str]:
    """What is had again; else None and why, in a sentence."""
    if not any(
        span.start + rollout.policy.analysis.interval <= source.now - source.delay for span in rollout.spans
    ):
        source.close()
        return None, "there is no look yet that could be read, so nothing was recomputed."
    what = (
        " and ".join(
            f"{service.stable_workload} and {service.canary_workload}" for service in rollout.services
        )
        + f" in {source.name}"
    )
    try:
        with told(looks_to_reread(rollout, source.now), what) as read:
            again = reread(rollout, source.telemetry, source.now, source.delay, read)
    except (Unavailable, Rejected) as error:
        return None, f"it could not be recomputed. {str(error).rstrip('.')}."
    finally:
        source.close()
    for promql, why in again.problems.items():
        click.echo(f"canaryd: a query has no value, and nothing passes without it: {promql}: {why}", err=True)
    found = recomputed(rollout, again.transcript, source.name)
    if found.forgotten:
        return None, f"{source.name} has no samples of that time (any more)."
    if brief or rollout.is_bracket:
        return found, ""
    asked = inquiry(rollout, found, most)
    with told(asked.looks, "what would have decided otherwise", "judging", "judged") as judged:
        return answered(found, asked, judged), ""


@contextmanager
def told(looks: int, *words: str) -> Iterator[Callable[[int], None]]:
    """Tells how far it is: on a terminal always, else where it takes more than some seconds."""
    if looks and (sys.stderr.isatty() or looks > QUIET):
        with progress(looks, *words) as callback:
            yield callback
    else:
        yield lambda looks: None


def show(
    rollout: Rollout,
    wishes: DesiredActions,
    now: float,
    found: Recomputed | None,
    problem: str,
    every_look: bool,
    since: Sequence[str],
) -> None:
    """since: what waits to follow it, as sentences."""
    with output.width_of_prose() as width:
        evidence: tuple[Section, ...] | None = None
        if found is not None:
            evidence = telling.sections(rollout, found, width, output.is_ascii())
        elif problem:
            evidence = telling.stored(rollout, problem)
        sections = explaining.explain(rollout, now, wishes, evidence)
        if since:
            sections = (
                *sections,
                Section("What came since", tuple(line for note in since for line in wrapped(note))),
            )
        if found is None and not problem:
            sections = (
                *sections,
                telling.hint((HINT_OF_SEVERAL if rollout.is_bracket else HINT).format(name=rollout.name)),
            )
    output.explanation(sections)
    if every_look and found is not None:
        click.echo("\nLook by look")
        output.table(telling.LOOKS, telling.looks(rollout, found))
