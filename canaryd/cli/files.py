"""`validate` and `schema`: policy files, without any cluster."""

import json
from pathlib import Path

import click

from canaryd.adapters.policy_files import json_schema, load
from canaryd.domain.policy import Policy
from canaryd.domain.problems import Problem


@click.command(epilog="\b\nExamples:\n  canaryd validate policies/\n"
               "  canaryd validate policies/front-end.yaml --config config/canaryd.yaml")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Settings too: hooks must then name its notifiers.")
def validate(paths: tuple[Path, ...], config: Path | None) -> None:
    """Check policy files, or all *.yaml in directories.

    Every mistake is told at once, with file, line, key, what was wanted and what came. Exit code 1 if there is one.
    """
    notifiers = None
    if config is not None:
        from canaryd.settings import load_settings

        notifiers = tuple(load_settings(config).notifiers)
    policies: dict[tuple[str, str], Policy] = {}
    problems: list[Problem] = []
    for path in dict.fromkeys(paths):
        loaded = load(path, notifiers)
        problems += loaded.problems
        for policy in loaded.policies:
            if policy.key in policies:
                problems.append(Problem((), f"has a second policy of {'/'.join(policy.key)}, and a service has one", str(path)))
            policies.setdefault(policy.key, policy)
    for policy in policies.values():
        click.echo(f"ok: {summary(policy)}")
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        click.echo(f"{len(problems)} problem{'s' * (len(problems) > 1)}; {len(policies)} of the policies can be used", err=True)
        raise click.exceptions.Exit(1)


def summary(policy: Policy) -> str:
    """`production/front-end: 10, 25, 50 (approval), 100 on sockshop, judged by errors, latency`."""
    ladder = ", ".join(f"{stage.weight}{' (approval)' if stage.approval else ''}" for stage in policy.stages)
    metrics = [metric.query.name if metric.query else "errors" if metric.errors else "latency" for metric in policy.analysis.metrics]
    mode = "" if policy.mode == "steer" else f", mode {policy.mode}"
    return f"{'/'.join(policy.key)}: {ladder} on {policy.route.virtual_service}, judged by {', '.join(metrics)}{mode}"


@click.command(epilog="\b\nExample:\n  canaryd schema > policy.schema.json\n\n\b\nThen, as the first line of a policy:\n"
               "  # yaml-language-server: $schema=policy.schema.json")
def schema() -> None:
    """Print the JSON Schema of a policy, for editors that complete and check as one types."""
    click.echo(json.dumps(json_schema(), indent=2))
