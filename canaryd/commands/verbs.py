"""The verbs: what people ask for, written into a CanaryRollout's `spec` with their own kubeconfig, so that
Kubernetes decides who may. Beside it stand who asked, when, and why (`--reason`).

canaryd acts at its next look. What has no meaning in the rollout's phase is refused here, by the same table
that the daemon goes by.
"""

from contextlib import suppress

import click

from canaryd.adapters.kube.deployments import KubeWorkloads
from canaryd.adapters.kube.service_notes import ServiceNote
from canaryd.cli import output
from canaryd.cli.cluster import Cluster, StartRequest, cluster_options
from canaryd.cli.group import Failure, examples
from canaryd.cli.wait import follow
from canaryd.domain import gates
from canaryd.domain.lifecycle import TRANSITIONS, Signal
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.ports import Conflict, Rejected, Request, Workload
from canaryd.domain.rollout import MOST_ATTEMPTS, NOBODY, Held, Phase, Record, Rollout, name_of
from canaryd.report.phase_summary import describe

WAIT = click.option(
    "--wait", is_flag=True, help="Wait until the rollout has ended; exit code 1 unless it ended as asked for."
)
NAME = click.argument("name", metavar="SERVICE|ROLLOUT")
REASON = click.option(
    "--reason",
    metavar="TEXT",
    default="",
    help="Why: kept on the record with your name, and part of the announcement.",
)


# ---------------------------------------------------------------- a rollout that is there


@click.command(epilog=examples("canaryd hold front-end"))
@NAME
@REASON
@cluster_options
def hold(name: str, reason: str, cluster: Cluster) -> None:
    """Keep the weight as it is until `canaryd resume`. The canary is still judged, and harm still rolls
    back."""
    record = in_phase_for(cluster, name, Signal.HOLD, "hold")
    request(cluster, record, "hold", reason, hold=True)
    confirm(record, f"holds {record.rollout.how}; canaryd resume {record.rollout.name} lets it go on")


@click.command(epilog=examples("canaryd resume front-end"))
@NAME
@REASON
@cluster_options
def resume(name: str, reason: str, cluster: Cluster) -> None:
    """Let a held rollout go on, whatever held it: a person, drift, missing data, an undecided deadline."""
    record = active(cluster, name, "resume")
    if record.rollout.phase is not Phase.HELD and not record.wishes.hold:
        raise Failure(f"{where(record)}: it is not held, so there is nothing to resume{gate_hint(record)}")
    resumed = max(record.rollout.resumed, record.wishes.resumed) + 1
    request(cluster, record, "resume", reason, hold=False, resumed=resumed)
    back = (
        f"; canaryd steers again: the route is written back to {record.rollout.share}, and edits inside its "
        "route list are replaced"
    )
    confirm(record, f"goes on{back if record.rollout.held is Held.DRIFT else ''}")


@click.command(
    epilog=examples(
        "canaryd approve front-end",
        "canaryd approve front-end --stage 3   # now, before that stage has passed",
        "canaryd approve front-end --gate      # past the gate that is closed",
    )
)
@NAME
@click.option(
    "--stage",
    type=click.IntRange(min=1),
    help="Approve up to this stage, counted from 1. Default: the present one.",
)
@click.option(
    "--gate",
    is_flag=True,
    help="Open the gate that it waits for, whatever that answers; once, and no other gate.",
)
@REASON
@cluster_options
def approve(name: str, stage: int | None, gate: bool, reason: str, cluster: Cluster) -> None:
    """Let a rollout go on after the stage whose policy has `approval: required`. An approval may be given
    ahead.

    With --gate: let it go on without the gate that keeps it waiting.
    """
    if gate:
        if stage is not None:
            raise click.UsageError(
                "--gate opens the gate that it waits for now, so --stage has no meaning beside it"
            )
        open_gate(cluster, name, reason)
        return
    record = in_phase_for(cluster, name, Signal.APPROVE, "approve")
    rollout = record.rollout
    stages = rollout.policy.stages
    asking = [number for number, policy_stage in enumerate(stages, start=1) if policy_stage.approval]
    if not asking:
        raise Failure(
            f"{rollout.name} asks for no approval: no stage of its policy has `approval: "
            f"required`{gate_hint(record)}"
        )
    index = (stage if stage is not None else rollout.stage + 1) - 1
    if index >= len(stages):
        raise Failure(f"{rollout.name} has {len(stages)} stages, so --stage {stage} is none of them")
    wanted = next(
        (number for number in asking if number > max(rollout.approved, record.wishes.approved_stage) + 1),
        None,
    )
    if wanted is None:
        raise Failure(
            f"{rollout.name} is approved already, up to stage "
            f"{max(rollout.approved, record.wishes.approved_stage) + 1}"
        )
    if index + 1 < wanted:
        ahead = f"to give it ahead: canaryd approve {name} --stage {wanted}"
        raise Failure(f"{where(record)}: it asks for approval after stage {wanted}; {ahead}")
    request(cluster, record, "approve", reason, approved_stage=index)
    confirm(record, f"is approved up to stage {index + 1} of {len(stages)}")


def open_gate(cluster: Cluster, name: str, reason: str) -> None:
    record = active(cluster, name, "approve")
    gate, asking = gates.gate_of(record.rollout), record.rollout.gate_question
    if gate is None or asking is None or not gates.is_asking(record.rollout):
        raise Failure(f"{where(record)}: it waits for no gate, so there is none to open")
    request(cluster, record, "openGate", reason, opened_gate=asking.number)
    confirm(record, f"goes on without the gate {gate.name}{pause_hint(cluster, record)}")


def gate_hint(record: Record) -> str:
    """How a person opens the gate that it waits for, if it does."""
    return (
        f"; canaryd approve {record.rollout.name} --gate opens the gate"
        if gates.is_asking(record.rollout)
        else ""
    )


@click.command(epilog=examples("canaryd abort front-end", "canaryd abort front-end-v3-5d4f9c7b66 --wait"))
@NAME
@WAIT
@REASON
@cluster_options
def abort(name: str, wait: bool, reason: str, cluster: Cluster) -> None:
    """Send all traffic back to stable now. The same template is not tried again until `canaryd retry`.

    A rollout that `canaryd start` asked for and that has not begun is withdrawn.
    """
    asked = not_begun(cluster, name)
    if asked is not None:
        cluster.withdraw(asked)
        click.echo(f"{asked.namespace}/{asked.name} is no longer asked for; it had not begun")
        return
    record = in_phase_for(cluster, name, Signal.ABORT, "abort")
    request(cluster, record, "abort", reason, abort=True)
    confirm(record, f"goes back: all traffic to {record.rollout.for_display.stable}")
    follow_if(wait, cluster, record, Phase.ROLLED_BACK)


@click.command(epilog=examples("canaryd promote front-end --wait"))
@NAME
@WAIT
@REASON
@cluster_options
def promote(name: str, wait: bool, reason: str, cluster: Cluster) -> None:
    """Send all traffic to the canary now, past the stages and gates between. The last stage is still judged,
    and may still roll back."""
    record = in_phase_for(cluster, name, Signal.PROMOTE, "promote")
    if record.wishes.promote:
        raise Failure(
            f"{record.rollout.name} was promoted already, which works once: see canaryd explain "
            f"{record.rollout.name}"
        )
    if gates.is_asking(record.rollout) and record.rollout.stage == len(record.rollout.policy.stages) - 1:
        raise Failure(f"{where(record)}: it is at full weight already{gate_hint(record)}")
    # A hold would stop it at full weight, which is not what was meant.
    released = {"hold": False} if record.wishes.hold else {}
    request(cluster, record, "promote", reason, promote=True, **released)
    confirm(record, f"goes to 100%{pause_hint(cluster, record)}")
    follow_if(wait, cluster, record, Phase.SUCCEEDED)


@click.command(epilog=examples("canaryd retry front-end", "canaryd retry front-end-v3-5d4f9c7b66"))
@NAME
@REASON
@cluster_options
def retry(name: str, reason: str, cluster: Cluster) -> None:
    """Try a version once more that was rolled back or superseded, from the first stage."""
    record = cluster.find(name)
    rollout = record.rollout
    if rollout.phase not in (Phase.ROLLED_BACK, Phase.SUPERSEDED):
        raise Failure(f"{where(record)}: only what was rolled back or superseded can be tried again")
    for namespace, service in rollout.keys:
        refuse_while_another(cluster, namespace, service)
    tried = (record.rollout for record in cluster.rollouts.list())
    attempt = 1 + max(earlier.attempt for earlier in tried if _canary(earlier) == _canary(rollout))
    request(cluster, record, "retry", reason, attempt=attempt)
    confirm(record, f"is tried again as attempt {attempt}")


def _canary(rollout: Rollout) -> tuple[NamespacedName, str, str]:
    """What attempts are counted of: the first service, its canary, and the hash of its template."""
    return rollout.entrance.key, rollout.entrance.canary, rollout.entrance.template


def active(cluster: Cluster, name: str, verb: str) -> Record:
    """The rollout that is meant. Raises Failure when it has ended."""
    record = cluster.find(name)
    if record.rollout.phase.ended:
        again = (
            f"; canaryd retry {record.rollout.name} tries it again"
            if record.rollout.phase is not Phase.SUCCEEDED
            else ""
        )
        raise Failure(f"{where(record)}: it has ended, so there is nothing to {verb}{again}")
    return record


def in_phase_for(cluster: Cluster, name: str, signal: Signal, verb: str) -> Record:
    """The rollout that is meant, in a phase where the signal has a meaning. Raises Failure where it has
    none."""
    record = active(cluster, name, verb)
    if signal is Signal.PROMOTE and record.rollout.stage < 0:
        raise Failure(f"{where(record)}: it has not begun to serve yet, so there is nothing to {verb}")
    if (record.rollout.phase, signal) not in TRANSITIONS:
        phases = [phase.value for phase in Phase if (phase, signal) in TRANSITIONS]
        raise Failure(
            f"{where(record)}: {verb} has no meaning there, only when it is {', '.join(phases[:-1])} or "
            f"{phases[-1]}"
        )
    if record.wishes.abort:
        raise Failure(
            f"{where(record)}: it is aborted already, and goes back to {record.rollout.for_display.stable}"
        )
    return record


def not_begun(cluster: Cluster, name: str) -> StartRequest | None:
    """The request that is meant, by its name, or by its service's where no rollout of it is under way. Raises
    Failure for several."""
    under_way = {
        service
        for record in cluster.records()
        if not record.rollout.phase.ended
        for service in record.rollout.service_names
    }
    asked = cluster.start_requests()
    found = [pending for pending in asked if pending.name == name] or [
        pending
        for pending in asked
        if pending.service == name and not pending.refused and name not in under_way
    ]
    if len(found) > 1:
        raise Failure(
            f"{name} is asked for several times: "
            f"{', '.join(f'{pending.namespace}/{pending.name}' for pending in found)}"
        )
    return found[0] if found else None


def refuse_while_another(cluster: Cluster, namespace: str, service: str) -> None:
    """Raises Failure while a rollout of the service is under way, or is asked for: one at a time."""
    for record in cluster.rollouts.list():
        if not record.rollout.phase.ended and (namespace, service) in record.rollout.keys:
            raise Failure(f"{where(record)}: abort it first, or wait until it has ended")
    for asked in cluster.start_requests():
        if not asked.refused and (asked.namespace, asked.service) == (namespace, service):
            back = f"canaryd abort {asked.name} takes it back"
            raise Failure(f"{asked.name} ({asked.version}) is asked for already, and has not begun: {back}")


def request(cluster: Cluster, record: Record, verb: str, reason: str, **wishes: bool | int) -> None:
    """Writes what is asked for, by whom and why. Not with the version that was read: the daemon writes the
    status at every look, and takes nothing away from what people ask for."""
    rollout, asked = record.rollout, cluster.request(reason)
    cluster.rollouts.wish(
        rollout.namespace, rollout.name, resource_version="", requests={verb: asked}, **wishes
    )


def where(record: Record) -> str:
    return f"{record.rollout.name} is {record.rollout.phase.value} ({describe(record.rollout)})"


def confirm(record: Record, what: str) -> None:
    click.echo(f"{record.rollout.namespace}/{record.rollout.name} {what}")


def follow_if(wait: bool, cluster: Cluster, record: Record, wished: Phase) -> None:
    if wait:
        follow(cluster, record.rollout.namespace, record.rollout.name, wished)


def pause_hint(cluster: Cluster, record: Record) -> str:
    """What it waits for, where a service of it is paused; "" where none is."""
    paused = [
        service
        for namespace, service in record.rollout.keys
        for note in cluster.services.notes(namespace)
        if note.service == service and note.paused
    ]
    return (
        f"; once it is no longer paused ({', '.join(f'canaryd pause {service} --end' for service in paused)})"
        if paused
        else ""
    )


# ---------------------------------------------------------------- a service


@click.command(
    epilog=examples("canaryd start front-end v2", "canaryd start front-end v2 --namespace production --wait")
)
@click.argument("service")
@click.argument("version")
@WAIT
@REASON
@cluster_options
def start(service: str, version: str, wait: bool, reason: str, cluster: Cluster) -> None:
    """Begin a rollout of a version that does not begin by itself: one that was there before canaryd, or was
    rolled out before.

    VERSION is the version label of a Deployment of SERVICE.
    """
    note = note_of(cluster, service)
    refuse_while_another(cluster, note.namespace, service)
    canary = deployment_of(cluster, note, version)
    forget_refused(cluster, note)
    name = request_start(cluster, note, canary, reason)
    click.echo(f"{note.namespace}/{name} is asked for: {canary.name} ({version})")
    if note.paused:
        click.echo(f"{service} is paused: it begins after canaryd pause {service} --end")
    if wait:
        follow(cluster, note.namespace, name, Phase.SUCCEEDED)


def note_of(cluster: Cluster, service: str) -> ServiceNote:
    """What canaryd has noted of a service. Raises Failure, naming what there is."""
    notes = cluster.notes()
    found = [note for note in notes if note.service == service]
    if not found:
        there = ", ".join(f"{note.namespace}/{note.service}" for note in notes) or "none"
        raise Failure(
            f"canaryd has seen no service {service} (it has seen: {there}): does it have a policy, and does "
            "the daemon run?"
        )
    if len(found) > 1:
        raise Failure(
            f"{service} is in several namespaces ({', '.join(note.namespace for note in found)}): say which "
            "with --namespace"
        )
    return found[0]


def deployment_of(cluster: Cluster, note: ServiceNote, version: str) -> Workload:
    """The one Deployment of that version. Raises Failure, naming what there is."""
    there = KubeWorkloads(cluster.api).select(note.namespace, note.selector, note.version_label)
    found = [workload for workload in there if workload.version == version]
    if len(found) == 1:
        return found[0]
    label = f"{note.version_label}={version}"
    if found:
        names = " and ".join(workload.name for workload in found)
        raise Failure(f"{names} both have the pod label {label}: a version is one Deployment")
    known = ", ".join(workload.version for workload in there) or "none"
    raise Failure(
        f"no Deployment of {note.service} in {note.namespace} has the pod label {label} (versions there: "
        f"{known})"
    )


def forget_refused(cluster: Cluster, note: ServiceNote) -> None:
    """Deletes the service's refused requests: their answer was read, and their names are wanted again."""
    for pending in cluster.start_requests():
        if pending.refused and (pending.namespace, pending.service) == (
            note.namespace,
            note.service,
        ):
            # the right to create does not come with the right to delete; the next free name does as well
            with suppress(Rejected):
                cluster.withdraw(pending)


def request_start(cluster: Cluster, note: ServiceNote, canary: Workload, reason: str) -> str:
    """Writes the request, under the first name of this template that is free; the name."""
    asked = cluster.request(reason)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        name = name_of(note.service, canary.version, canary.template, attempt)
        wanted = Request(note.namespace, note.service, canary.version, name, asked=asked)
        try:
            cluster.rollouts.ask(wanted, attempt)
        except Conflict:
            continue
        return name
    raise Failure(
        f"{canary.version} of {note.service} was asked for {MOST_ATTEMPTS} times: delete some of its "
        "CanaryRollouts"
    )


@click.command(
    epilog=examples(
        'canaryd pause front-end --reason "sale until Monday"',
        "canaryd pause front-end --end",
        "canaryd pause --all --namespace production",
    )
)
@click.argument("service", required=False)
@click.option("--all", "every", is_flag=True, help="All services that canaryd has seen.")
@click.option("--end", is_flag=True, help="End the pause.")
@REASON
@cluster_options
def pause(service: str | None, every: bool, end: bool, reason: str, cluster: Cluster) -> None:
    """Stop all beginnings and advances of a service, or with --all of all services. Rollbacks are never
    stopped.

    Unlike `hold`, a pause is about the service, and outlives the rollout. Without SERVICE and --all, a
    terminal is asked whether all are meant.
    """
    if service is not None and every:
        raise click.UsageError("SERVICE and --all exclude each other")
    if service is None and not every:
        confirm_all(cluster, end)
    asked = NOBODY if end else cluster.request(reason)
    for note in cluster.services.pause(not end, service, cluster.namespace, asked):
        state = "paused: nothing begins or advances" if note.paused else "no longer paused"
        click.echo(f"{note.namespace}/{note.service} is {state}")


def confirm_all(cluster: Cluster, end: bool) -> None:
    """Asks whether all services are meant. Raises UsageError where nobody can be asked, Abort at a no."""
    if not output.is_asking():
        raise click.UsageError("which service? Name it, or give --all for all services")
    names = ", ".join(f"{note.namespace}/{note.service}" for note in cluster.notes()) or "none yet"
    what = "End the pause of" if end else "Pause"
    click.confirm(f"{what} all services ({names})?", abort=True, err=True)
