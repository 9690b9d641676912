"""What the sentences of one assessment are made of, beyond what the metrics say of themselves: the record at
full weight, what alarmed there, the luck of replicas and users, and who is warming up."""

from collections.abc import Iterator

import numpy as np

from canaryd.domain.assessment import AlarmedRate, DrawnUsers, RecordComparison, ReplicaLuck, WarmUp
from canaryd.domain.counts import Look
from canaryd.judge.count_vectors import FAILURES, REQUESTS, SLOWER, TIMED
from canaryd.judge.errors import ErrorEvidence
from canaryd.judge.full_weight import Alarm
from canaryd.judge.latency import TINY, LatencyEvidence
from canaryd.judge.metric_evidence import Excess
from canaryd.judge.replica_variation import Siblings
from canaryd.judge.user_clusters import Drawn
from canaryd.judge.warm_up import Warmth
from canaryd.stats.arrays import Array


def warm_up(look: Look, warmth: Warmth) -> WarmUp | None:
    """How old the canary's replicas are, and who is left out; None where no age is known."""
    serving, of_stable = (
        [name for name, counts in side.items() if counts.requests > 0] for side in (look.canary, look.stable)
    )
    ages = [look.end - look.first_seen[name] for name in serving if name in look.first_seen]
    cold = warmth.cold_in_errors(look)
    if not ages and not cold:
        return None
    return WarmUp(
        seconds=warmth.seconds,
        replicas=len(serving),
        cold=len(cold.intersection(serving)),
        youngest=min(ages, default=None),
        oldest=max(ages, default=None),
        stable_replicas=len(of_stable),
        stable_cold=len(cold.intersection(of_stable)),
    )


def records(
    alarm: Alarm,
    errors: ErrorEvidence | None,
    latency: LatencyEvidence | None,
    canary: Array,
    bar: float,
    blind: bool,
) -> Iterator[RecordComparison]:
    """What is held against the record at full weight: errors, and of latency the bound that speaks loudest.
    canary: its vector of this stage; blind: nothing is known to hold it against."""
    alarms = alarm.odds >= bar
    if errors is not None:
        yield alarm.assessed(0, None, float(canary[FAILURES]), float(canary[REQUESTS]), alarms, blind)
    if latency is None or not canary[TIMED]:
        return
    joined = np.flatnonzero(latency.joined | alarm.excess.places[1:])
    if len(joined):
        row = int(joined[alarm.each[1 + joined].argmax()])
        slower, timed = float(canary[SLOWER + row]), float(canary[TIMED])
        yield alarm.assessed(1 + row, float(latency.bounds[row]), slower, timed, alarms, blind)


def alarmed(
    alarm: Excess | None, errors: ErrorEvidence | None, latency: LatencyEvidence | None, clear_bar: float
) -> Iterator[AlarmedRate]:
    """What led back here from full weight (None: nothing did), and is not ruled out: errors, and the bound
    that was worst."""
    if alarm is None:
        return
    if errors is not None and alarm.places[0] and errors.cleared < clear_bar:
        yield AlarmedRate(None, float(alarm.shares[0]), float(alarm.usual[0]), errors.unacceptable)
    rows = np.flatnonzero(alarm.places[1:])
    if latency is not None and len(rows) and latency.cleared < clear_bar:
        row = int(rows[(alarm.shares[1 + rows] / (alarm.usual[1 + rows] + TINY)).argmax()])
        unacceptable = float(latency.borders(max(1, latency.replicas)).unacceptable[row])
        share, usual = float(alarm.shares[1 + row]), float(alarm.usual[1 + row])
        yield AlarmedRate(float(latency.bounds[row]), share, usual, unacceptable)


def replica_luck(
    errors: ErrorEvidence | None, latency: LatencyEvidence | None, siblings: Siblings, replicas: int
) -> Iterator[ReplicaLuck]:
    """What replicas' luck may bring to errors, and to latency at the bound where stable's replicas differ
    most. replicas: of the canary, at least 1."""
    if siblings.replicas_seen == 0:
        return
    if errors is not None:
        yield errors.replica_luck(siblings, 0, None, replicas)
    if latency is not None and latency.joined.any():
        joined = np.flatnonzero(latency.joined)
        row = int(joined[siblings.raw[1 + joined].argmax()])
        yield latency.replica_luck(siblings, 1 + row, float(latency.bounds[row]), replicas)


def drawn_users(users: Drawn | None, errors: ErrorEvidence | None, replicas: int) -> DrawnUsers | None:
    """Of how many users the comparison is, where they are drawn. replicas: of the canary, at least 1."""
    if users is None:
        return None
    ratio = errors.ratio_by_luck(replicas) if errors is not None else None
    return DrawnUsers(users.stable + users.canary, users.canary, ratio)
