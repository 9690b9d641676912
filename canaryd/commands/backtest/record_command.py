"""`canaryd record`: what Prometheus has of two versions, into one file that outlives it."""

from pathlib import Path

import click

from canaryd.adapters.recording_file import refuse_existing, writing
from canaryd.cli.group import Failure
from canaryd.cli.policy_argument import policies_of
from canaryd.commands.backtest.past_options import PastQuery, past_asked, past_options, source
from canaryd.domain.formatting import lasting, time_text
from canaryd.domain.policy.policy import Policy
from canaryd.version import version

EXAMPLE = """
\b
Examples:
  canaryd record front-end-v3.gz --rollout front-end-v3-5d4f9c7b66
  canaryd record evening.gz --policies policies/front-end.yaml --stable v1 --canary v2 --from 2h
  canaryd record night.gz --policies policies/front-end.yaml --stable v1 --canary v2 --from 2026-11-23T22:00
"""


@click.command(epilog=EXAMPLE)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    help="The service's policy: namespace, look, reporter, failures and queries. With --rollout, the one on "
    "record.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@past_options
def record(path: Path, policies: Path | None, force: bool, asked: PastQuery) -> None:
    """Write what was counted of two versions into FILE, for `canaryd backtest`.

    Read from Prometheus, look by look and replica by replica: the time between --from and --to, or that of a
    rollout, and up to 360 looks before it, stable's history. With --rollout the looks are also kept as they
    were read live, with its stages and decisions, so that each verdict can be had again. FILE is compressed
    JSON lines, and is there only once it is whole.
    """
    refuse_existing(path, force)
    rollout = asked.found()
    if rollout is not None and policies is not None:
        raise click.UsageError("--rollout has its policy on record: leave out --policies")
    prometheus = source(asked)
    past = past_asked(asked, _one(policies) if policies else None, rollout, prometheus.readable)
    with writing(path, past, f"canaryd {version()}", force) as writer:
        prometheus.read(past, writer.write)
    spans = (
        f", with {len(past.rollout.spans)} stretches of {past.rollout.name}"
        if past.rollout is not None
        else ""
    )
    click.echo(
        f"{path}: {past.stable} and {past.canary} of {past.namespace}/{past.service}, "
        f"{lasting(past.end - past.start)} from {time_text(past.start, day=True)}, {writer.looks} "
        f"looks{spans}"
    )


def _one(path: Path) -> Policy:
    """The policy of a file, or of a directory that has one alone."""
    found = [part for policy in policies_of(path) for part in policy.parts]
    if len(found) > 1:
        raise Failure(
            f"{path}: the policy of one service was wanted, but there are "
            f"{', '.join('/'.join(part.key) for part in found)}: name the file of one"
        )
    return found[0]
