"""`plan`: what a policy means for a service's traffic, before any rollout. Reads a policy, and a Prometheus
if asked; acts on nothing."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from math import floor
from pathlib import Path

import click

from canaryd.adapters.policies.policy_files import load
from canaryd.adapters.prometheus.telemetry import PrometheusTelemetry
from canaryd.app import telemetry_access
from canaryd.cli import output
from canaryd.cli.group import Failure
from canaryd.cli.options import DURATION, RATE, SHARE, Said
from canaryd.commands.plan import text
from canaryd.commands.plan.forecast import (
    ROLLOUTS,
    Regression,
    Run,
    plan_of,
    regression_of,
    rehearsals,
    usual_regressions,
)
from canaryd.domain.counts import Target
from canaryd.domain.formatting import lasting, wrapped
from canaryd.domain.policy.metrics import Errors
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.settings import Settings, load_settings
from canaryd.simulation.simulated_rollout import USUAL_LAG, Lag
from canaryd.simulation.traffic_profile import (
    FEWEST,
    Given,
    TrafficProfile,
    as_given,
    busiest,
    changed,
    measured,
    workload_of,
)

MOST_CORES = 8  # processes: more are done before they have imported everything
LONGEST_PAST = 86_400  # seconds: looks of a day are read in about a minute
EXAMPLE = """
\b
Examples:
  canaryd plan policies/front-end.yaml --rate 50/s --errors 0.5% --latency 60ms --replicas 3
  canaryd plan policies/front-end.yaml --prometheus http://127.0.0.1:9090 --stable v1 --past 6h
  canaryd plan policies/front-end.yaml --rate 2/s --regression errors=4x --regression latency=1.3x
  canaryd plan policies/front-end.yaml -o json | jq '.healthy.fullWeight'
"""


REGRESSION = Said("regression", regression_of)


@click.command(epilog=EXAMPLE)
@click.argument("path", metavar="POLICY", type=click.Path(path_type=Path))
@click.option("--service", metavar="NAME", help="Of a bracket: whose traffic and stages are meant.")
@click.option(
    "--rate",
    type=RATE,
    help="Requests of all versions, such as 50/s or 200/m. Default: 50/s, or as measured.",
)
@click.option(
    "--errors", type=SHARE, help="Stable's share of failed requests. Default: 0.5%, or as measured."
)
@click.option(
    "--latency", type=DURATION, help="Stable's median. Default: 60ms, or stable's own histogram as measured."
)
@click.option(
    "--p99", type=DURATION, help="What 99% of stable's requests keep to. Default: four times the median."
)
@click.option("--replicas", type=int, help="Of each version. Default: 3, or as measured.")
@click.option(
    "--prometheus", metavar="URL", help="Measure the traffic there, instead of the settings' prometheus.url."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The daemon's settings: measure by its Prometheus and its credentials.",
)
@click.option(
    "--stable",
    metavar="VERSION",
    help="The workload to measure, or how its name ends. Default: the busiest of the service.",
)
@click.option("--past", type=DURATION, default="1h", show_default=True, help="So long up to now is measured.")
@click.option(
    "--regression",
    "wanted",
    type=REGRESSION,
    multiple=True,
    metavar="WHAT=SIZE",
    help="errors=3x, errors=2% or latency=1.5x; may be repeated. Default: a series of both.",
)
@click.option(
    "--rollouts",
    type=click.IntRange(1, 10_000),
    help=f"Of each version. Default: {ROLLOUTS}, fewer where they are long.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of all chance: the same one, the same plan.",
)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    help="Processes. Default: as many as there are cores. It changes no number.",
)
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def plan(
    path: Path,
    service: str | None,
    rate: float | None,
    errors: float | None,
    latency: float | None,
    p99: float | None,
    replicas: int | None,
    prometheus: str | None,
    config: Path | None,
    stable: str | None,
    past: float,
    wanted: tuple[Regression, ...],
    rollouts: int | None,
    seed: int,
    cores: int | None,
    form: str,
) -> None:
    """Foresee what a policy does with a service's traffic, before any rollout.

    Simulated rollouts run through the same judge and the same rules as real ones. Told are: how long a
    healthy version takes in each stage and how often a deadline comes before a decision; how often, how soon
    and at what cost in requests each stage catches a worse version; and where policy and traffic do not fit
    together. Traffic is given by options, or measured (--prometheus, --config); an option given as well
    replaces what was measured.
    """
    policy = one_policy(path, service)
    given = Given(rate, errors, _ms(latency), _ms(p99), replicas)
    if stable and not (prometheus or config):
        raise click.UsageError("--stable names what is measured, so it needs --prometheus or --config")
    settings = load_settings(config, prometheus) if prometheus or config else None
    try:
        traffic = changed(measure(policy, settings, stable, past), given) if settings else as_given(given)
        lag = lag_of(settings) if settings else USUAL_LAG
        regressions = wanted or usual_regressions(policy, traffic)
        with workers(cores or min(MOST_CORES, os.cpu_count() or 1)) as run, progress() as done:
            results = rehearsals(policy, traffic, regressions, seed, rollouts, lag, run, done)
    except ValueError as error:
        if isinstance(error, InvalidPolicy):
            raise
        raise Failure(str(error)) from error
    made = plan_of(policy, traffic, regressions, seed, results, lag)
    if form == "json":
        output.as_json(text.as_data(made))
    else:
        show(text.parts(made))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def one_policy(path: Path, service: str | None) -> Policy:
    """The only policy there, or that of one service of a bracket. Raises Refused with every problem of it,
    Failure where there are several or none."""
    loaded = load(path)
    if loaded.problems:
        raise InvalidPolicy(loaded.problems)
    if len(loaded.policies) != 1:
        there = ", ".join("/".join(policy.key) for policy in loaded.policies)
        found = f"{len(loaded.policies)} are there ({there}): name its file" if there else "none is there"
        raise Failure(f"{path}: one policy is wanted, but {found}")
    parts = {part.service.name: part for part in loaded.policies[0].parts}
    if service is None and len(parts) > 1:
        raise Failure(
            f"{path}: is a bracket's, and a plan is of one service: say which with --service "
            f"({', '.join(parts)})"
        )
    if service is not None and service not in parts:
        raise Failure(f"{path}: is no policy of {service}, but of {', '.join(parts)}")
    return parts[service] if service is not None else loaded.policies[0]


def lag_of(settings: Settings) -> Lag:
    return Lag.of(settings.prometheus.scrape_interval, settings.prometheus.ingestion_delay, settings.beat)


def measure(policy: Policy, settings: Settings, stable: str | None, past: float) -> TrafficProfile:
    """The service's traffic up to now. Raises Failure and ValueError where there is too little of it,
    Refused, Unavailable, Rejected."""
    step, service, prometheus = policy.analysis.interval, policy.service, settings.prometheus
    if not FEWEST * step <= past <= LONGEST_PAST:
        least, most = lasting(FEWEST * step), lasting(LONGEST_PAST)
        raise Failure(
            f"--past must be at least {FEWEST} looks ({least}) and at most {most}, but is {lasting(past)}"
        )
    telemetry = PrometheusTelemetry(telemetry_access(settings))
    end = floor(time.time() - prometheus.ingestion_delay)
    start = end - floor(past) // step * step
    try:
        has_version_services = bool(policy.route.http_route)
        names = telemetry.workloads(
            service.namespace, service.name, policy.analysis.reporter, end, end - start, has_version_services
        )
        if not names:
            raise Failure(
                f"Prometheus at {prometheus.url} has no istio_requests_total of the service {service.name} "
                f"in {service.namespace} in the last {lasting(past)} (reporter {policy.analysis.reporter}): "
                "is it in the mesh, and does it get requests?"
            )
        chosen = workload_of(names, stable) if stable else ""
        errors = policy.analysis.errors or Errors()
        targets = [
            Target(
                service.namespace,
                (name,),
                (),
                start,
                policy.analysis.reporter,
                service.name,
                errors.grpc_failures,
                errors.http_failures,
            )
            for name in names
        ]
        read = telemetry.read(targets, start, end, step)
    finally:
        telemetry.close()
    looks = {target.stable[0]: found for target, found in read.items()}
    chosen = chosen or busiest(looks)
    return measured(looks, chosen, f"measured on {chosen} over {lasting(end - start)}")


@contextmanager
def workers(cores: int) -> Iterator[Run]:
    """`map`, over so many processes."""
    if cores == 1:
        yield map
        return
    pool = ProcessPoolExecutor(cores, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr; nothing when piped."""
    if not sys.stderr.isatty():
        yield lambda number, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Without a thread that redraws: the workers are forked from here.
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rollouts"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=None)
        yield lambda number, of: bar.update(task, completed=number, total=of, refresh=True)


def show(parts: Sequence[text.Part]) -> None:
    for number, part in enumerate(parts):
        click.secho(f"{chr(10) if number else ''}{part.title}", bold=True)
        if part.rows:
            output.table(part.rows[0], part.rows[1:], prose=False)
        for line in part.lines:
            for wrapped_line in wrapped(line, "  "):
                click.echo(wrapped_line)
