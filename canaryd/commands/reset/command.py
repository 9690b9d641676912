"""`reset`: takes back what canaryd left, with the caller's own kubeconfig. Shows everything first, and asks.

The questions and the order of writes are here; the plan of a service's reset is in steps.py.
"""

import time
from pathlib import Path

import click

from canaryd.adapters.kube.cleanup import Change, KubeCleanup, ListedRollout
from canaryd.adapters.kube.matched_user_services import SETTLE
from canaryd.cli import output
from canaryd.cli.cluster import Cluster, cluster_options
from canaryd.cli.group import Failure, examples
from canaryd.cli.policy_argument import policies_of
from canaryd.commands.reset.steps import Reset, ResetOptions, ResetPlan, due, is_forbidden, services
from canaryd.commands.reset.text import diff_of, shown, without_shown
from canaryd.domain.lifecycle import TRANSITIONS, Signal
from canaryd.domain.ports import Conflict, Rejected
from canaryd.domain.rollout import Phase
from canaryd.routing.route_lists import Refusal

TRIES = 5  # of a write that someone overtook; each on a fresh read
# seconds until a daemon that runs has given all traffic back to stable; its look is seconds
ABORTED_WITHIN = 60.0
EVERY = 1.0  # seconds between two readings
_RIGHTS = "what `canaryd reset` needs is in docs/guides/uninstall.md"


@click.command(
    epilog=examples(
        "canaryd reset front-end --dry-run",
        "canaryd reset front-end --to v1 --yes",
        "canaryd reset --all",
        "canaryd reset --everything --abort --yes   # after helm uninstall",
    )
)
@click.argument("service", required=False)
@click.option("--all", "all_", is_flag=True, help="Every service that canaryd has seen or has records of.")
@click.option(
    "--everything",
    is_flag=True,
    help="For uninstalling: reset all services, and remove every record, note, Event and mark of canaryd.",
)
@click.option(
    "--to",
    metavar="VERSION",
    default="",
    help="The version to give all traffic. Default: the version that has it now, or the stable one of "
    "a rollout under way.",
)
@click.option(
    "--abort",
    is_flag=True,
    help="Abort a rollout under way first, and wait until its traffic is back on stable.",
)
@click.option(
    "--keep-records", is_flag=True, help="Keep the CanaryRollouts and what canaryd has noted of the service."
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, as validated by the server, and change nothing."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--policies",
    type=click.Path(exists=True, path_type=Path),
    help="Policy file or directory, for services whose routes canaryd has not noted.",
)
@click.option(
    "--cluster-domain",
    default="cluster.local",
    show_default=True,
    help="The DNS domain of the cluster, which its hosts end with.",
)
@cluster_options
def reset(
    service: str | None,
    all_: bool,
    everything: bool,
    to: str,
    abort: bool,
    keep_records: bool,
    dry_run: bool,
    yes: bool,
    policies: Path | None,
    cluster_domain: str,
    cluster: Cluster,
) -> None:
    """Give all traffic of SERVICE to one version, and remove what canaryd added: subsets, routes and finished
    records.

    The routes are otherwise left as they are. No Deployment is deleted; those without traffic are named. The
    versions that run now are not rolled out afterwards: the next new one is.
    """
    _check_usage(service, all_, everything, to, keep_records)
    options = ResetOptions(to=to, abort=abort, keep_records=keep_records, everything=everything)
    work = Reset(
        cluster, KubeCleanup(cluster.api, cluster_domain), policies_of(policies) if policies else (), options
    )
    try:
        _reset(work, service, dry_run, yes)
    except Rejected as error:
        raise Failure(f"{error}; {_RIGHTS}" if is_forbidden(error) else str(error)) from error


def _check_usage(service: str | None, all_: bool, everything: bool, to: str, keep_records: bool) -> None:
    if sum((service is not None, all_, everything)) != 1:
        raise click.UsageError("give SERVICE, --all or --everything")
    if to and service is None:
        raise click.UsageError("--to needs a SERVICE")
    if keep_records and everything:
        raise click.UsageError("--everything removes all records: leave out --keep-records, or use --all")


def _reset(work: Reset, service: str | None, dry_run: bool, yes: bool) -> None:
    plans, tried = _tried_plans(work, service)
    for plan, changes in zip(plans, tried, strict=True):
        shown(plan, changes)
    swept = _sweep(work, dry=True) if work.options.everything else []
    for change in without_shown(swept, [change for changes in tried for change in changes]):
        click.echo(diff_of(change))
    if not swept and not any(plan.anything for plan in plans):
        if work.options.everything:
            click.echo(
                "nothing of canaryd is left in this cluster but its CRD: kubectl delete crd "
                "canaryrollouts.canaryd.dev"
            )
        return
    if dry_run:
        click.echo("dry run: nothing was changed")
        return
    _agree(yes)
    for plan in plans:
        if plan.anything:
            _do(work, plan)
    if work.options.everything:
        _sweep(work)
        click.echo(
            "everything of canaryd is removed but its CRD: kubectl delete crd canaryrollouts.canaryd.dev"
        )


def _tried_plans(work: Reset, service: str | None) -> tuple[list[ResetPlan], list[list[Change]]]:
    """What is due, and what the server says to it; planned again where someone wrote in between."""
    for left in reversed(range(TRIES)):
        plans = _planned(work, service)
        try:
            return plans, [_tried(work, plan) for plan in plans]
        except Conflict as error:
            if not left:
                raise Failure(f"someone else wrote in between {TRIES} times; try again ({error})") from error
    return [], []


def _planned(work: Reset, service: str | None) -> list[ResetPlan]:
    """What is due to each service. Raises Failure with all refusals, before anything is done."""
    plans, refusals = [], []
    for namespace, name in services(work, service):
        try:
            plans.append(due(work, namespace, name, despite=work.options.abort))
        except (Refusal, Rejected) as error:
            refusals.append(f"{namespace}/{name}: {error}{f'; {_RIGHTS}' if is_forbidden(error) else ''}")
    if refusals:
        raise Failure("\ncanaryd: ".join(refusals))
    return plans


def _agree(yes: bool) -> None:
    if yes:
        return
    if not output.is_asking():
        raise Failure("nothing was changed: there is no terminal to ask on; confirm with --yes")
    click.confirm("Do this?", abort=True)


# ---------------------------------------------------------------- doing


def _tried(work: Reset, plan: ResetPlan) -> list[Change]:
    """All writes of a plan as the server answers them, which keeps nothing."""
    if plan.renewed is not None:
        work.cluster.services.renew(*plan.renewed, dry=True)
    return [work.cleanup.write(patch, dry=True) for patch in plan.patches]


def _do(work: Reset, plan: ResetPlan) -> None:
    """Does it; where someone wrote in between, plans again on what is there now, for the version that was
    agreed to."""
    moved = bool(plan.under_way)
    if moved:
        _abort(work, plan)
    for left in reversed(range(TRIES)):
        try:
            plan = due(
                work,
                plan.namespace,
                plan.service,
                plan.version,
                despite=work.options.everything and work.options.abort,
            )
            _write(work, plan, moved)
        except Refusal as error:
            raise Failure(f"{plan.name}: {error}") from error
        except Conflict as error:
            if not left:
                raise Failure(
                    f"{plan.name}: someone else wrote in between {TRIES} times; try again ({error})"
                ) from error
            moved = True  # perhaps
        else:
            click.echo(f"{plan.name}: {plan.summary}")
            return


def _write(work: Reset, plan: ResetPlan, moved: bool) -> None:
    """moved: whether requests were moved just now."""
    # Routes first: a subset may go only when nothing names it, and no proxy sends there. Records last: what
    # was done is then still told by them.
    for patch in plan.patches:
        if patch.kind in ("DestinationRule", "Service") and moved:
            time.sleep(SETTLE)
            moved = False
        if patch.kind != "CanaryRollout":
            work.cleanup.write(patch)
            moved |= patch.kind in ("VirtualService", "HTTPRoute")
    if plan.renewed is not None:
        work.cluster.services.renew(*plan.renewed)
    for patch in plan.patches:
        if patch.kind == "CanaryRollout":
            work.cleanup.write(patch)


def _sweep(work: Reset, dry: bool = False) -> list[Change]:
    """Takes every mark and object of canaryd's away that is left."""
    for left in reversed(range(TRIES)):
        patches = [
            *work.cleanup.marks(work.cluster.namespace),
            *work.cleanup.leftovers(work.cluster.namespace),
        ]
        try:
            return [work.cleanup.write(patch, dry) for patch in patches]
        except Conflict as error:
            if not left:
                raise Failure(
                    f"someone else wrote in between, {TRIES} times; does the daemon still run? ({error})"
                ) from error
    return []


def _abort(work: Reset, plan: ResetPlan) -> None:
    """Takes back what is asked for, aborts what is under way, and waits until it has ended."""
    for kept in plan.under_way:
        if kept.uid in work.aborted:
            continue  # with another service of its bracket
        work.aborted.add(kept.uid)
        if not kept.phase:
            work.cleanup.write(work.cleanup.record(kept))
            click.echo(f"{kept.namespace}/{kept.name} is no longer asked for; it had not begun")
            continue
        if kept.rollout is not None and (Phase(kept.phase), Signal.ABORT) in TRANSITIONS:
            work.cluster.rollouts.wish(kept.namespace, kept.name, abort=True)
        stable = kept.stable if kept.rollout is None else kept.rollout.for_display.stable
        click.echo(f"{kept.namespace}/{kept.name} goes back: all traffic to {stable}")
        _await_end(work, kept)


def _await_end(work: Reset, kept: ListedRollout) -> None:
    until = time.monotonic() + ABORTED_WITHIN
    while True:
        now = next(
            (record for record in work.cleanup.records(kept.namespace) if record.uid == kept.uid), None
        )
        if now is None or now.finished:
            return
        if time.monotonic() > until:
            break
        time.sleep(EVERY)
    why = now.rollout.reason if now.rollout is not None else "its record cannot be understood"
    limit = f"{ABORTED_WITHIN:.0f} s"
    message = f"{kept.name} has not ended within {limit}; it is {now.phase} ({why})"
    if not work.options.everything:
        raise Failure(
            f"{message}: does the daemon run? Where it is uninstalled, canaryd reset --everything --abort "
            "goes on without it"
        )
    click.echo(f"canaryd: {message}; as no daemon answers, its traffic is taken back here", err=True)
