"""`validate` and `schema`: policy files, without any cluster."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import click

from canaryd.adapters.policies.policy_files import json_schema, load
from canaryd.cli.options import RATE, SHARE
from canaryd.domain.formatting import wrapped
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.session_affinity import FEWEST_USERS

USUAL_RATE, USUAL_ERRORS, USUAL_REPLICAS = 50.0, 0.005, 3  # as `plan` assumes where nothing is given


@click.command(
    epilog="\b\nExamples:\n  canaryd validate policies/\n"
    "  canaryd validate policies/front-end.yaml --config config/canaryd.yaml\n"
    "  canaryd validate policies/front-end.yaml --rate 2/s --errors 1%"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings too: hooks must then name its notifiers and gates.",
)
@click.option(
    "--rate",
    type=RATE,
    help="Requests of all versions, such as 50/s: tell what so few cannot show. For users: 50/s.",
)
@click.option("--errors", type=SHARE, help="Stable's share of failed requests, for the same. Default: 0.5%.")
@click.option(
    "--users",
    type=click.IntRange(min=FEWEST_USERS),
    help="How many users come in an hour, instead of what route.affinity says.",
)
def validate(
    paths: tuple[Path, ...], config: Path | None, rate: float | None, errors: float | None, users: int | None
) -> None:
    """Check policy files, or all *.yaml in directories.

    All mistakes are reported at once, with file, line, key, what was expected and what was found. Exit code 1
    if there is any. Of a policy that keeps users on their version it is told what so many users cannot show,
    and with --rate what so few requests cannot.
    """
    names: tuple[Collection[str], ...] = ()
    if config is not None:
        from canaryd.settings import load_settings

        settings = load_settings(config)
        names = settings.notifiers, settings.gates
    loaded = load(paths, *names)
    for file, policy in zip(loaded.files, loaded.policies, strict=True):
        click.echo(f"ok: {summary(policy)} ({file})")
        for sentence in not_caught(policy, rate, USUAL_ERRORS if errors is None else errors, users):
            for line in wrapped(sentence, "    "):
                click.echo(line)
    for problem in loaded.problems:
        click.echo(str(problem), err=True)
    if loaded.problems:
        count = len(loaded.problems)
        click.echo(
            f"{count} problem{'s' * (count > 1)}; {len(loaded.policies)} of the policies can be used",
            err=True,
        )
        raise click.exceptions.Exit(1)


def not_caught(policy: Policy, rate: float | None, errors: float, users: int | None) -> Iterator[str]:
    """What the policy cannot catch, of each service. rate: requests/s, None: not known; users: instead of the
    policy's."""
    for part in policy.parts:
        if part.route.affinity is None and rate is None:
            continue
        # after the files are read: numpy takes longer than they do
        from canaryd.cli.detection_limits import of_requests, of_users
        from canaryd.simulation.detection_power import ServiceTraffic

        traffic = ServiceTraffic(USUAL_RATE if rate is None else rate, errors, USUAL_REPLICAS)
        name = f"{part.service.name}: " if len(policy.parts) > 1 else ""
        for sentence in (*of_users(part, traffic, users), *of_requests(part, traffic)):
            yield name + sentence


def summary(policy: Policy) -> str:
    """`production/front-end: 10, 25, 50 (approval), 100 on sockshop, judged by errors, latency`."""
    steps = (
        (stage.weight if stage.kind == "weight" else stage.said, " (approval)" if stage.approval else "")
        for stage in policy.stages
    )
    ladder = ", ".join(f"{step}{asked}" for step, asked in steps)
    metrics = [metric.called for metric in policy.analysis.metrics]
    others = ", ".join("/".join(key) for key in policy.keys[1:])
    together = f", together with {others}" if others else ""
    mode = "" if policy.mode == "steer" else f", mode {policy.mode}"
    ladder = ladder if policy.strategy == "canary" else f"{policy.strategy} ({ladder})"
    by_user = " by user" if policy.route.affinity else ""
    gates = ", ".join(f"{gate.name} before {gate.place}" for gate in policy.gates)
    asks = f", asks {gates}" if gates else ""
    return (
        f"{'/'.join(policy.key)}: {ladder}{by_user} on {policy.route.name}, judged by "
        f"{', '.join(metrics)}{asks}{mode}{together}"
    )


@click.command(
    epilog="\b\nExample:\n  canaryd schema > policy.schema.json\n\n\b\nThen, as the first line of a policy:\n"
    "  # yaml-language-server: $schema=policy.schema.json"
)
def schema() -> None:
    """Print the JSON Schema of a policy, for editors that complete and check while you type."""
    click.echo(json.dumps(json_schema(), indent=2))
