"""`deploy`: a version that runs in one namespace, beside the present one in another. Creates, and changes
nothing that is there."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.namespace_reader import KubeObjects
from canaryd.cli import output
from canaryd.cli.cluster import server_options
from canaryd.cli.group import Failure, readable
from canaryd.cli.policy_argument import policies_of
from canaryd.commands.deploy import text as deploy_text
from canaryd.commands.deploy.deployer import Deployer, Prepared
from canaryd.commands.deploy.draft import DeployRequest
from canaryd.commands.deploy.version_selection import services
from canaryd.domain.namespace_objects import (
    USUAL_SOURCE,
    USUAL_TARGET,
    CannotDeploy,
    DeploymentSelector,
    NamespaceObjects,
)
from canaryd.domain.policy.units import parse_duration
from canaryd.domain.ports import Rejected, Unavailable

ONLY_SHOWN = 4  # exit code
EVERY = 1.0  # seconds between two readings of `--wait`
EXAMPLE = """
\b
Examples:
  canaryd deploy front-end    # staging's version becomes production's next one; shows a diff and asks
  canaryd deploy front-end v2 --yes --wait
  canaryd deploy front-end --dry-run -o yaml > front-end-v2.yaml
  canaryd deploy --all --policies policies/
"""


@dataclass(frozen=True)
class PlannedDeploy:
    """One service's part: what was prepared for it, or why it cannot be."""

    service: str
    prepared: Prepared | None
    refused: Failure | None = None

    @property
    def creates(self) -> bool:
        """Whether there is anything to create."""
        return self.prepared is not None and not self.prepared.draft.nothing


@dataclass(frozen=True)
class OutputOptions:
    """The options about showing and doing, as given."""

    form: str
    diff: bool
    dry_run: bool
    yes: bool
    wait: float | None


def _seconds(ctx: click.Context, parameter: click.Parameter, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog=EXAMPLE)
@click.argument("service", required=False)
@click.argument("version", required=False)
@click.option("--all", "every", is_flag=True, help="Deploy every Service that has Deployments.")
@click.option(
    "--from",
    "source",
    default=USUAL_SOURCE,
    show_default=True,
    metavar="NAMESPACE",
    help="The namespace where the versions run.",
)
@click.option(
    "--to",
    "target",
    default=USUAL_TARGET,
    show_default=True,
    metavar="NAMESPACE",
    help="The namespace to deploy to.",
)
@click.option(
    "--from-context",
    metavar="CONTEXT",
    help="The kubeconfig context for --from, if that namespace is in another cluster.",
)
@click.option(
    "--deployment", default="", metavar="NAME", help="The Deployment in --from to deploy, if several run."
)
@click.option(
    "--policies",
    "--policy",
    "policies",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Policy file or directory that says which labels the service's Deployments have. Default: what "
    "canaryd has noted, or else the Service's selector.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    help="Replicas of the new Deployment. Default: as many as stable has.",
)
@click.option("--pin-digest", is_flag=True, help="Pin each image to the digest that runs in --from.")
@click.option(
    "--copy-config", is_flag=True, help="Copy missing ConfigMaps from --from. Secrets are never copied."
)
@click.option(
    "--same-image",
    is_flag=True,
    help="Deploy even if these images run there already, for example to change the configuration.",
)
@click.option(
    "--supersede", is_flag=True, help="Deploy even if a rollout is under way; the newer version replaces it."
)
@click.option("--expose", is_flag=True, help="Deploy even if new pods would receive traffic at once.")
@click.option("--force", is_flag=True, help="Deploy even if the version is not available in --from.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be created, as validated by the server, and create nothing.",
)
@click.option(
    "--diff/--no-diff",
    default=None,
    help="Show how each new object differs from stable's. Default: yes for one service, no with --all.",
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "yaml", "json"]),
    default="text",
    show_default=True,
    help="yaml and json print the objects, for kubectl or a repository.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--wait", is_flag=True, help="Wait until each new Deployment is available.")
@click.option(
    "--timeout",
    default="10m",
    show_default=True,
    metavar="DURATION",
    callback=_seconds,
    help="How long --wait waits.",
)
@server_options
def deploy(
    service: str | None,
    version: str | None,
    every: bool,
    source: str,
    target: str,
    from_context: str | None,
    deployment: str,
    policies: Path | None,
    replicas: int | None,
    pin_digest: bool,
    copy_config: bool,
    same_image: bool,
    supersede: bool,
    expose: bool,
    force: bool,
    dry_run: bool,
    diff: bool | None,
    form: str,
    yes: bool,
    wait: bool,
    timeout: float,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Deploy the version of SERVICE that runs in staging to production, beside the version that runs there.

    The new Deployment has the pod template of staging with the names, labels and size of production. The
    stable version's autoscaler and disruption budget are copied for it. Routes are not changed: canaryd sees
    the new version and begins its rollout. VERSION is the next free number (v2 after v1) by default.

    All objects are shown before they are created, as validated by the server. Exit code 4: nothing was
    created, because nobody could be asked and --yes was not given.
    """
    if every == (service is not None):
        raise click.UsageError("give either a SERVICE or --all")
    if every and deployment:
        raise click.UsageError(
            "--deployment names the Deployment of one service: it cannot be used with --all"
        )
    if source == target and from_context is None:
        raise click.UsageError(f"--from and --to must be two namespaces, but both are {source}")
    api = KubernetesApi(kubeconfig, context)
    deployer = Deployer(
        KubeObjects(api if from_context is None else KubernetesApi(kubeconfig, from_context), source),
        KubeObjects(api, target),
        pin=pin_digest,
        copy_config=copy_config,
    )
    known = _findings(policies, target)
    places = deployer.read()
    names, left_out = services(places[0]) if every else ([service or ""], [])
    plans = [
        _plan(
            deployer,
            places,
            DeployRequest(
                name,
                version or "",
                deployment,
                known.get(name),
                replicas,
                force=force,
                supersede=supersede,
                expose=expose,
                same_image=same_image,
            ),
        )
        for name in names
    ]
    how = OutputOptions(form, (not every) if diff is None else diff, dry_run, yes, timeout if wait else None)
    if every:
        _show_all(plans, left_out, places, how)
    else:
        _show_one(plans[0], places, how)
    _finish(deployer, plans, places[1], how)


def _findings(policies: Path | None, target: str) -> Mapping[str, DeploymentSelector]:
    found = (
        [part.service for policy in policies_of(policies) for part in policy.parts]
        if policies is not None
        else []
    )
    return {
        note.name: DeploymentSelector(note.selector, note.version_label)
        for note in found
        if note.namespace == target
    }


def _plan(
    deployer: Deployer, places: tuple[NamespaceObjects, NamespaceObjects], wish: DeployRequest
) -> PlannedDeploy:
    try:
        return PlannedDeploy(wish.service, deployer.prepare(wish, places))
    except CannotDeploy as error:
        return PlannedDeploy(
            wish.service, None, Failure("\n".join(f"{wish.service}: {problem}" for problem in error.problems))
        )
    except Rejected as error:
        return PlannedDeploy(wish.service, None, Failure(f"{wish.service}: {error}"))


# ---------------------------------------------------------------- showing


def _show_one(
    plan: PlannedDeploy, places: tuple[NamespaceObjects, NamespaceObjects], how: OutputOptions
) -> None:
    """Raises the Failure of a service that cannot be deployed."""
    if plan.prepared is None:
        raise plan.refused or Failure(plan.service)
    if how.form != "text":
        _objects([plan], how.form)
        return
    for line in deploy_text.described(plan.prepared, places):
        click.echo(line)
    if how.diff:
        _diff(plan.prepared)


def _show_all(
    plans: Sequence[PlannedDeploy],
    left_out: Sequence[str],
    places: tuple[NamespaceObjects, NamespaceObjects],
    how: OutputOptions,
) -> None:
    if how.form != "text":
        _objects(plans, how.form)
    elif plans:
        rows = [
            deploy_text.row(plan.service, plan.prepared, plan.refused.message if plan.refused else "", places)
            for plan in plans
        ]
        output.table(deploy_text.head(places), rows)
    else:
        click.echo(f"no Service in {places[0].namespace} has a Deployment")
    for line in left_out:
        click.echo(f"left out: {line}", err=how.form != "text")
    for plan in plans:
        if plan.creates and plan.prepared is not None:
            for line in deploy_text.remarks(plan.prepared.draft):
                click.echo(f"{plan.service}: {line}", err=how.form != "text")
            if how.diff and how.form == "text":
                _diff(plan.prepared)


def _objects(plans: Sequence[PlannedDeploy], form: str) -> None:
    """On stdout the objects alone; what there is to say of them on stderr."""
    prepared = [plan.prepared for plan in plans if plan.prepared is not None]
    objects = [made.manifest for new in prepared for made in new.draft.made]
    if form == "json":
        output.as_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        click.echo("---\n".join(map(deploy_text.as_yaml, objects)), nl=False)
    for new in prepared:
        for line in [new.draft.nothing, *deploy_text.remarks(new.draft)]:
            if line:
                click.echo(f"{new.draft.service}: {line}", err=True)


def _diff(prepared: Prepared) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"} if output.is_terminal() else {}
    for line in deploy_text.diff(prepared):
        click.secho(line, fg=colours.get(line[:1]))


# ---------------------------------------------------------------- doing


def _finish(
    deployer: Deployer, plans: Sequence[PlannedDeploy], target: NamespaceObjects, how: OutputOptions
) -> None:
    """Asks, creates, waits. Raises Failure, with all that failed, and Exit when there was no yes."""
    failures = [plan.refused for plan in plans if plan.refused is not None]
    wanted = [plan for plan in plans if plan.creates]
    answered = how.yes or not wanted or how.dry_run or _confirmed(wanted, target)
    if answered and not how.dry_run:
        failures += _create_all(deployer, wanted, target, how)
    if failures:
        raise Failure(
            "\n".join(failure.message for failure in failures), max(failure.exit_code for failure in failures)
        )
    if not answered:
        click.echo("canaryd: nothing was created: confirm with --yes", err=True)
        raise click.exceptions.Exit(ONLY_SHOWN)


def _confirmed(wanted: Sequence[PlannedDeploy], target: NamespaceObjects) -> bool:
    if not output.is_asking():
        return False
    what = ", ".join(
        f"{plan.service} {plan.prepared.draft.version}" for plan in wanted if plan.prepared is not None
    )
    return click.confirm(f"Deploy {what} to {target.namespace}?", err=True)


def _create_all(
    deployer: Deployer, wanted: Sequence[PlannedDeploy], target: NamespaceObjects, how: OutputOptions
) -> list[Failure]:
    """Each, whatever became of the others; what failed."""
    failures, created = [], []
    for plan in wanted:
        assert plan.prepared is not None
        try:
            for title in deployer.create(plan.prepared):
                click.echo(f"created {title} in {target.namespace}", err=how.form != "text")
            created.append(plan.prepared)
        except (Rejected, Unavailable) as error:
            failures.append(_failure(plan.service, error))
    for prepared in created:
        try:
            if how.wait is not None:
                _wait(deployer, prepared, how)
            for line in deploy_text.what_follows(prepared.draft, target):
                click.echo(line, err=how.form != "text")
        except (Failure, Rejected) as error:
            failures.append(_failure(prepared.draft.service, error))
    return failures


def _failure(service: str, error: Exception) -> Failure:
    known = error if isinstance(error, Failure) else readable(error)
    assert known is not None
    return Failure(f"{service}: {known.message}", known.exit_code)


def _wait(deployer: Deployer, prepared: Prepared, how: OutputOptions) -> None:
    """Until the Deployment is available. Raises Failure when it will not be, or not in time."""
    name, until = prepared.draft.name, time.monotonic() + (how.wait or 0.0)
    shown: Any = None
    while True:
        try:
            state = deployer.state(prepared)
        except Unavailable as error:
            click.echo(f"canaryd: {error}; waiting on", err=True)
        else:
            if state.available:
                click.echo(f"{name} is available", err=how.form != "text")
                return
            if state.failed:
                raise Failure(f"{name} does not become available: {state.failed}")
            if (state.ready, state.desired) != shown:
                shown = state.ready, state.desired
                click.echo(
                    f"{name}: {state.ready} of {state.desired} replicas are ready", err=how.form != "text"
                )
        if time.monotonic() >= until:
            raise Failure(
                f"{name} is not available yet; nothing was taken back: kubectl describe deployment {name} "
                "says why"
            )
        time.sleep(EVERY)
