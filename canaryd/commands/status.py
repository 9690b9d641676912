"""`status`: what the records say, for people and for machines. Reads only."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import click

from canaryd.adapters.kube.service_notes import ServiceNote
from canaryd.cli import output
from canaryd.cli.cluster import Cluster, StartRequest, cluster_options, waiting
from canaryd.control import route_sync
from canaryd.domain import announcements
from canaryd.domain.formatting import lasting, odds_text
from canaryd.domain.ports import Unavailable
from canaryd.domain.rollout import NOBODY, Record
from canaryd.report.phase_summary import stage_text
from canaryd.report.serialization import finite

HEAD = ("SERVICE", "VERSIONS", "PHASE", "STAGE", "WEIGHT", "ODDS", "AGE", "WHY")
WATCH = 2.0  # seconds between two readings of `status --watch`: a look is rarely shorter


@click.command(
    epilog="\b\nExamples:\n  canaryd status\n  canaryd status front-end -n production --watch\n"
    "  canaryd status -o json | jq '.rollouts[] | {service, phase, weight}'"
)
@click.argument("name", required=False, metavar="[SERVICE|ROLLOUT]")
@click.option("--all", "every", is_flag=True, help="Earlier rollouts of each service too.")
@click.option("-w", "--watch", is_flag=True, help="Show it again as it changes, until Ctrl-C.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@cluster_options
def status(name: str | None, every: bool, watch: bool, form: str, cluster: Cluster) -> None:
    """Show each service's rollout: the one under way, else the latest.

    ODDS are those gathered against the canary: at the policy's bar (100 to 1 by default) it is rolled back.
    AGE is the time since the rollout began. Below the table stand paused services, what keeps a new version
    from beginning, and rollouts that `start` asked for and that have not begun.
    """
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(cluster, name, every, form)
        return
    view = read(cluster, name, every)
    if form == "json":
        output.as_json(as_data(view))
    else:
        _show(view)


@dataclass(frozen=True, slots=True)
class StatusView:
    """What `status` shows: rollouts by service and newest last, the notes of the services meant, what was
    asked for and did not begin."""

    records: Sequence[Record]
    notes: Sequence[ServiceNote]
    asked: Sequence[StartRequest]


def read(cluster: Cluster, name: str | None, every: bool) -> StatusView:
    """What there is to show. Raises Failure for an unknown name."""
    records, notes = list(cluster.records()), list(cluster.notes())
    asked = [request for request in cluster.start_requests() if not _outlived(request, records)]
    if name is not None:
        chosen = [
            record for record in records if name in (record.rollout.name, *record.rollout.service_names)
        ]
        asked = [request for request in asked if name in (request.name, request.service)]
        services = {key for record in chosen for key in record.rollout.keys}
        notes = [note for note in notes if note.service == name or (note.namespace, note.service) in services]
        if not chosen and not notes and not asked:
            cluster.find(name)  # says what there is
        records = chosen
    return StatusView(_chosen(records, name, every), notes, asked)


def _outlived(asked: StartRequest, records: Sequence[Record]) -> bool:
    """Whether a rollout of the service has begun since it was refused: then the refusal is no news."""
    began = (
        record.rollout.began for record in records if (asked.namespace, asked.service) in record.rollout.keys
    )
    return bool(asked.refused) and max(began, default=asked.since) > asked.since


def _chosen(records: Sequence[Record], name: str | None, every: bool) -> list[Record]:
    """Of each service the rollout under way, else the latest; all when asked for, or named."""
    latest = {(key, record.rollout.phase.ended): record for record in records for key in record.rollout.keys}
    of_services = [
        record for (key, ended), record in latest.items() if not ended or (key, False) not in latest
    ]
    shown = (
        records
        if every or any(record.rollout.name == name for record in records)
        else [record for record in records if record in of_services]
    )
    return sorted(
        shown,
        key=lambda record: (record.rollout.namespace, record.rollout.entrance.name, record.rollout.began),
    )


def as_data(view: StatusView) -> dict[str, Any]:
    """What `status -o json` prints. Keys are only ever added."""
    return {
        "rollouts": [entry(record) for record in view.records],
        "services": [
            {
                "namespace": note.namespace,
                "service": note.service,
                "paused": note.paused,
                "problem": note.problem,
                "waits": note.gathering.says if note.gathering else "",
            }
            for note in view.notes
        ],
        "requests": [
            {
                "name": request.name,
                "namespace": request.namespace,
                "service": request.service,
                "version": request.version,
                "since": request.since,
                "refused": request.refused or None,
            }
            for request in view.asked
        ],
    }


def entry(record: Record) -> dict[str, Any]:
    """One rollout, flat. stage: 1 is the first, 0 none yet. Times in Unix seconds. What is not there yet is
    null."""
    rollout = record.rollout
    verdict = rollout.verdict
    return {
        "name": rollout.name,
        "namespace": rollout.namespace,
        "service": rollout.entrance.name,
        "stable": rollout.entrance.stable,
        "canary": rollout.entrance.canary,
        "attempt": rollout.attempt,
        "phase": rollout.phase.value,
        "held": rollout.held.value if rollout.held else None,
        "stage": rollout.stage + 1,
        "stages": len(rollout.policy.stages),
        "weight": rollout.weight,
        "share": rollout.share,
        "verdict": verdict.answer.value if verdict else None,
        "odds": finite(verdict.odds) if verdict else None,
        "bar": finite(verdict.bar) if verdict else None,
        "reason": rollout.reason,
        "verdictReason": verdict.reason if verdict else None,
        "began": rollout.began,
        "ended": rollout.ended,
        "lookedUntil": verdict.at if verdict else None,
        "mode": rollout.policy.mode,
        "bracket": [asdict(version) for version in versions]
        if (versions := announcements.versions(rollout))
        else None,
    }


def rows(records: Sequence[Record], now: float) -> list[tuple[str, ...]]:
    several = len({namespace for record in records for namespace, _ in record.rollout.keys}) > 1
    return [_row(record, now, several) for record in records]


def _row(record: Record, now: float, several: bool) -> tuple[str, ...]:
    rollout = record.rollout
    service = ", ".join("/".join(key) if several else key[1] for key in rollout.keys)
    versions = ", ".join(f"{service.stable} → {service.canary}" for service in rollout.services)
    odds = odds_text(rollout.verdict.odds) if rollout.verdict else "-"
    stage = stage_text(rollout, rollout.stage)
    is_judged = rollout.phase.value == "Progressing" and not route_sync.is_troubled(rollout)
    reason = rollout.verdict.reason if rollout.verdict and is_judged else rollout.reason
    return (
        service,
        versions,
        rollout.phase.value,
        stage,
        rollout.share,
        odds,
        lasting(now - rollout.began),
        reason,
    )


def remarks(view: StatusView, now: float) -> list[str]:
    """What the table of rollouts cannot say: paused services, services where nothing can begin, and what has
    not begun."""
    notes = view.notes
    paused = [
        f"{note.namespace}/{note.service} is {_paused(note)} nothing begins or advances, rollbacks happen "
        f"(canaryd pause {note.service} --end)"
        for note in notes
        if note.paused
    ]
    return paused + waiting(notes, now) + [_remark(request, now) for request in view.asked]


def _paused(note: ServiceNote) -> str:
    """`paused:`, or by whom and why where that is known."""
    request = note.pause_request
    return "paused:" if request == NOBODY else f"{request.sentence('paused')};"


def _remark(asked: StartRequest, now: float) -> str:
    name = f"{asked.namespace}/{asked.name} ({asked.version})"
    if asked.refused:
        return f"{name} was asked for and refused: {asked.refused}"
    return (
        f"{name} is asked for since {lasting(now - asked.since)} and has not begun (canaryd abort "
        f"{asked.name} takes it back)"
    )


def _show(view: StatusView) -> None:
    now = time.time()
    if view.records:
        output.table(HEAD, rows(view.records, now))
    else:
        services = ", ".join(f"{note.namespace}/{note.service}" for note in view.notes)
        known = f"; canaryd looks after {services}" if services else ", and canaryd has seen no service yet"
        click.echo(f"no rollouts{known}")
    for line in remarks(view, now):
        click.echo(line)


def _watch(cluster: Cluster, name: str | None, every: bool, form: str) -> None:
    """On a terminal in place; piped, again whenever something has changed. Waits for an API server that is
    away."""
    before: Any = None
    while True:  # Ctrl-C ends it
        try:
            view = read(cluster, name, every)
        except Unavailable as error:
            click.echo(f"canaryd: {error}", err=True)
        else:
            present = as_data(view)
            if form == "json" and present != before:
                output.as_line(present)
            elif form == "table" and (present != before or output.is_terminal()):
                if output.is_terminal():
                    click.clear()
                _show(view)
            before = present
        time.sleep(WATCH)
