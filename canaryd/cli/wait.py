"""`--wait`: follows one rollout to its end, telling each decision as it is made."""

import time

import click

from canaryd.cli.cluster import Cluster
from canaryd.cli.group import Failure
from canaryd.domain.formatting import time_text
from canaryd.domain.ports import Unavailable
from canaryd.domain.rollout import Phase, Record
from canaryd.report.phase_summary import describe

EVERY = 1.0  # seconds between two readings
BEGINS_WITHIN = 60.0  # seconds until a daemon that runs has answered a request; its beat is seconds


def follow(cluster: Cluster, namespace: str, name: str, wished: Phase) -> None:
    """Returns when the rollout has ended as wished. Raises Failure when it ended otherwise, was refused, or
    does not begin."""
    decision_count = -1  # decisions told; those from before this began are not news
    asked = time.monotonic()
    while True:
        try:
            record = next(
                (
                    found
                    for found in cluster.rollouts.list()
                    if (found.rollout.namespace, found.rollout.name) == (namespace, name)
                ),
                None,
            )
            refused = (
                ""
                if record
                else (cluster.rollouts.get(namespace, name).get("status") or {}).get("refused", "")
            )
        except Unavailable as error:
            click.echo(f"canaryd: {error}; waiting on", err=True)
            time.sleep(EVERY)
            continue
        if refused:
            raise Failure(f"{name} was refused: {refused}")
        if record is None and time.monotonic() - asked > BEGINS_WITHIN:
            raise Failure(
                f"{name} has not begun within {BEGINS_WITHIN:.0f} s: does the daemon run, and is the service "
                "paused?"
            )
        if record is not None:
            decision_count = _tell(record, decision_count if decision_count >= 0 else 0)
            if record.rollout.phase.ended:
                _judge(record, wished)
                return
        time.sleep(EVERY)


def _tell(record: Record, decision_count: int) -> int:
    for decision in record.rollout.decisions[decision_count:]:
        click.echo(
            f"{time_text(decision.at)}  {decision.phase.value}  {record.rollout.share_in(decision)}  "
            f"{decision.reason}"
        )
    return len(record.rollout.decisions)


def _judge(record: Record, wished: Phase) -> None:
    rollout = record.rollout
    if rollout.phase is not wished:
        raise Failure(
            f"{rollout.name}: {describe(rollout)}, where {wished.value} was wished: {rollout.reason}"
        )
    click.echo(f"{rollout.name}: {describe(rollout)}")
