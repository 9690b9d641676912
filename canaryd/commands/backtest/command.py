"""`canaryd backtest`: policies tried on a past, from a recording or from Prometheus. Decides nothing: it
reads, asks, and shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import click

from canaryd.adapters.recording_file import Recording, load
from canaryd.cli import output
from canaryd.cli.group import Failure
from canaryd.cli.policy_argument import policies_of
from canaryd.commands.backtest import text as telling
from canaryd.commands.backtest.backtest import Course, unfit
from canaryd.commands.backtest.past_options import PastQuery, past_asked, past_options, source
from canaryd.commands.backtest.telemetry_reader import backtest as tried
from canaryd.commands.backtest.telemetry_reader import past_between
from canaryd.domain.formatting import time_text
from canaryd.domain.policy.policy import Policy
from canaryd.domain.recording import Past

EXAMPLE = """
\b
Examples:
  canaryd backtest front-end-v3.gz
  canaryd backtest front-end-v3.gz --policies policies/front-end.yaml stricter.yaml
  canaryd backtest --policies policies/front-end.yaml --stable v1 --canary v2 --from 6h --prometheus http://127.0.0.1:9090
  canaryd backtest front-end-v3.gz -o json | jq '.backtests[] | {policy, outcome}'
"""
OF_FILE = "the file's policy"
OF_RECORD = "the policy on record"
LOOKS = ("UTC", "ANSWER", "STAGE", "WEIGHT", "ODDS", "WHY")


class SeveralPolicies(click.Command):
    """Takes `--policies a.yaml b.yaml` as well as `--policies a.yaml --policies b.yaml`: a shell's `*.yaml`
    is several words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        arguments: list[str] = []
        open_list = False
        for word in args:
            first = bool(arguments) and arguments[-1] == "--policies"
            if open_list and not first and (word.endswith((".yaml", ".yml")) or Path(word).is_dir()):
                arguments.append("--policies")
            elif not first:
                open_list = word == "--policies" or word.startswith("--policies=")
            arguments.append(word)
        return super().parse_args(ctx, arguments)


@click.command(epilog=EXAMPLE, cls=SeveralPolicies)
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--policies",
    "paths",
    multiple=True,
    metavar="FILE...",
    type=click.Path(path_type=Path),
    help="One, or several to be compared. Default: the one that the recording, or the rollout, has.",
)
@click.option("--looks", "every_look", is_flag=True, help="Each look too, and not the decisions alone.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@past_options
def backtest(path: Path | None, paths: Sequence[Path], every_look: bool, form: str, asked: PastQuery) -> None:
    """Show what policies would have decided on what was counted, stage by stage: when, at which odds, and
    why.

    The past is FILE, of `canaryd record`, or is read from Prometheus. It is judged by the same code as live.
    A rollout's own policy goes by the stages it had, and each verdict is the one given live; any other
    policy's rollout is imagined to begin where the past does, and its stages are judged on the split of
    traffic that there really was. --from and --to choose a part of FILE.
    """
    if path is not None:
        if given := asked.of_prometheus:
            raise click.UsageError(f"{path} says where the looks are from: leave out {', '.join(given)}")
        recording = load(path)
        policies = named(paths, recording.past, OF_FILE)
        found = on(part_of(recording, asked), policies)
        show(found, recording.past, str(path), every_look, form)
        return
    show_from_prometheus(paths, every_look, form, asked)


def named(paths: Sequence[Path], past: Past | None, default: str) -> dict[str, Policy]:
    """The policies by the names they are shown under, as short as tells them apart; of a directory, those of
    the past's service."""
    policies: dict[str, Policy] = {}
    given = list(dict.fromkeys(paths))
    short = len({path.name for path in given}) == len(given)
    for path in given:
        # of a bracket each service's own, with its share of the risk
        found = [part for policy in policies_of(path) for part in policy.parts]
        for policy in found:
            if (path.is_dir() or len(found) > 1) and past is not None and policy.key != past.policy.key:
                continue
            name = path.name if short else str(path)
            policies[f"{name}/{policy.service.name}" if path.is_dir() or len(found) > 1 else name] = policy
    if not policies and paths and past is not None:
        raise Failure(
            f"{', '.join(map(str, paths))}: a policy of {'/'.join(past.policy.key)} was wanted, but there is "
            "none"
        )
    return policies or ({default: past.policy} if past is not None else {})


def part_of(recording: Recording, asked: PastQuery) -> Recording:
    """The recording, or the part between --from and --to; of a part there is no rollout on record."""
    past = recording.past
    if asked.start is None and asked.end is None:
        return recording
    start, end = (
        (past.start if asked.start is None else asked.start),
        (past.end if asked.end is None else asked.end),
    )
    if start >= end:
        raise Failure(
            f"--from must be before --to, but is {time_text(start, day=True)}, and --to "
            f"{time_text(end, day=True)}"
        )
    if start < past.start or end > past.end:
        raise Failure(
            f"--from and --to must lie within the recording, {time_text(past.start, day=True)} to "
            f"{time_text(past.end, day=True)}, but are {time_text(start, day=True)} and "
            f"{time_text(end, day=True)}"
        )
    # on the recording's grid, not before --from
    first = past.start - (past.start - ceil(start)) // past.interval * past.interval
    recording.past = replace(
        past, start=first, end=first + int(end - first) // past.interval * past.interval, rollout=None
    )
    return recording


def on(recording: Recording, policies: Mapping[str, Policy]) -> dict[str, Course]:
    """Each policy's way through one past. Raises Failure, naming all that do not fit it."""
    wrong = [f"{name}: {why}" for name, policy in policies.items() for why in unfit(recording.past, policy)]
    if wrong:
        raise Failure("\n".join(wrong))
    return {name: tried(recording.past, policy, recording) for name, policy in policies.items()}


def show_from_prometheus(paths: Sequence[Path], every_look: bool, form: str, asked: PastQuery) -> None:
    rollout = asked.found()
    policies = named(paths, None, "")
    if not policies and rollout is not None:
        policies = {OF_RECORD: rollout.policy}
    if not policies:
        raise click.UsageError(
            "wanted is a FILE of `canaryd record`, or --policies, or --rollout, whose policy is on record"
        )
    services = sorted({"/".join(policy.key) for policy in policies.values()})
    if len(services) > 1:
        raise Failure(f"policies of one service were wanted, but they are of {', '.join(services)}")
    prometheus = source(asked)
    first = past_asked(asked, next(iter(policies.values())), rollout, prometheus.readable)
    if rollout is not None and (
        other := [name for name, policy in policies.items() if policy.key != rollout.policy.key]
    ):
        raise Failure(
            f"{other[0]}: is the policy of {services[0]}, and {rollout.name} is of "
            f"{'/'.join(rollout.policy.key)}"
        )
    courses: dict[str, Course] = {}
    for past, names in reads(first, policies):
        recording = Recording(past)
        prometheus.read(past, recording.write)
        courses |= on(recording, {name: policies[name] for name in names})
    show(
        {name: courses[name] for name in policies}, first, f"Prometheus at {prometheus.url}", every_look, form
    )


def reads(first: Past, policies: Mapping[str, Policy]) -> list[tuple[Past, list[str]]]:
    """What has to be read for these policies, each past with the policies that fit it: those of other looks,
    reporters or queries are other pasts of the same time."""
    wanted: list[tuple[Past, list[str]]] = [(first, [])]
    for name, policy in policies.items():
        fitting = next((names for past, names in wanted if not unfit(past, policy)), None)
        if fitting is not None:
            fitting.append(name)
            continue
        versions, workloads = (first.stable, first.canary), (first.stable_workload, first.canary_workload)
        wanted.append((past_between(policy, versions, workloads, first.start, first.end), [name]))
    return [(past, names) for past, names in wanted if names]


def show(courses: Mapping[str, Course], past: Past, origin: str, every_look: bool, form: str) -> None:
    if form == "json":
        about = {
            "namespace": past.namespace,
            "service": past.service,
            "stable": past.stable,
            "canary": past.canary,
            "from": past.start,
            "to": past.end,
            "source": origin,
            "note": telling.IMAGINED,
        }
        output.as_json(
            {
                **about,
                "backtests": [telling.data(name, course, every_look) for name, course in courses.items()],
            }
        )
        return
    click.echo(f"{telling.title(past, origin)}\n")
    output.explanation(telling.sections(courses, past))
    for name, course in courses.items() if every_look else ():
        click.echo(f"\n{name}, look by look")
        output.table(LOOKS, telling.looks(course))
