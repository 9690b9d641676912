"""The second look before a rollback: the same evidence without one replica, or in longer blocks.

Both can only save a canary: a rollback needs what was gathered *and* what is gathered so, hence no error rate
grows by them, however the data chose what to replay. Replays are kept and told only what they have not been
told, so asking again costs one unit.
"""

from dataclasses import dataclass, replace

import numpy as np

from canaryd.judge.comparisons import Comparisons, Unit
from canaryd.stats.arrays import Array, Single
from canaryd.stats.blocks import INDEPENDENT, LONGEST, sibling_correlation_time

BLOCKS = (5, 10, 20, LONGEST)  # lengths in looks that a replay may have: few, so that replays can be kept
REMEMBERED = 90  # units back that correlation between siblings is looked for in
MOST_UNITS = 360  # units kept


@dataclass(frozen=True)
class ReplicaRecord:
    """One step of the fold: a begun stage (no unit), or a unit with each canary replica's requests and
    events.

    replicas: name -> requests, then events of each comparison, shape (1 + comparisons,). alarmed: an alarm
    led back to the stage.
    """

    unit: Unit | None
    replicas: dict[str, Array]
    alarmed: bool = False


@dataclass
class Shadow:
    """Comparisons that a record is replayed to; replayed: records so far. pending: units of a block that is
    not closed."""

    comparisons: Comparisons
    replayed: int = 0
    pending: tuple[Unit, ...] = ()


class Replays:
    """The record of one metric's fold, and the shadows it has been replayed to. cap, log_past, usual: as the
    comparisons began with."""

    def __init__(self, cap: Array, log_past: Single, usual: Array) -> None:
        self._cap, self._log_past, self._usual = cap, log_past, usual
        self._records: list[ReplicaRecord] = []
        self._dropped = 0  # records that are kept no more
        self._shadows: dict[str | int, Shadow] = {}

    @property
    def units(self) -> int:
        """Units kept."""
        return sum(record.unit is not None for record in self._records)

    def begin_stage(self, alarmed: bool = False) -> None:
        """Records that a stage began. alarmed: an alarm led back to it."""
        self._records.append(ReplicaRecord(None, {}, alarmed))

    def add(self, unit: Unit, replicas: dict[str, Array]) -> None:
        """The oldest are dropped, so that neither memory nor the first replay grows with a rollout's length.
        A shadow that is begun later lacks them, and may so save a canary that it would not have saved."""
        self._records.append(ReplicaRecord(unit, replicas))
        if len(self._records) > 2 * MOST_UNITS:
            self._dropped += MOST_UNITS
            del self._records[:MOST_UNITS]

    def _shadow(self, key: str | int) -> Shadow:
        if key not in self._shadows:
            trust = 1 if isinstance(key, str) else 0
            self._shadows[key] = Shadow(
                Comparisons(self._cap, trust * self._log_past, trust * self._usual, clearing=False)
            )
        return self._shadows[key]

    def _not_replayed(self, shadow: Shadow) -> list[ReplicaRecord]:
        records = self._records[max(0, shadow.replayed - self._dropped) :]
        shadow.replayed = self._dropped + len(self._records)
        return records

    def without(self, replica: str) -> Comparisons:
        """The comparisons as they would be without one canary replica."""
        shadow = self._shadow(replica)
        for record in self._not_replayed(shadow):
            if record.unit is None:
                shadow.comparisons.begin_stage(record.alarmed)
                continue
            unit, left_out = record.unit, record.replicas.get(replica)
            if left_out is not None:
                requests, events = (
                    unit.canary_requests - float(left_out[0]),
                    unit.canary_events - left_out[1:],
                )
                unit = replace(unit, canary_requests=requests, canary_events=events)
            shadow.comparisons.fold(unit)
        return shadow.comparisons

    def in_blocks(self, units: int) -> Comparisons:
        """The comparisons as they would be with `units` units in a block, and without what the past says; a
        block that is not full waits, a new stage closes it."""
        shadow = self._shadow(units)
        for record in self._not_replayed(shadow):
            if record.unit is None:
                if shadow.pending:
                    shadow.comparisons.fold(_together(shadow.pending))
                shadow.pending = ()
                shadow.comparisons.begin_stage(record.alarmed)
                continue
            shadow.pending = (*shadow.pending, record.unit)
            if len(shadow.pending) >= units:
                shadow.comparisons.fold(_together(shadow.pending))
                shadow.pending = ()
        return shadow.comparisons

    def lasting_trouble(self, comparison: int) -> tuple[float, str]:
        """Correlation time, in units, of what single canary replicas do against their siblings; and the one
        with most of it."""
        recent = [record.replicas for record in self._records[-REMEMBERED:] if record.unit is not None]
        names = sorted({name for replicas in recent for name in replicas})
        if len(names) < 2:
            return 1.0, ""
        none = np.zeros(1 + len(self._cap))
        counts = np.array(
            [[replicas.get(name, none)[[0, 1 + comparison]] for name in names] for replicas in recent]
        )
        requests, events = counts[..., 0], counts[..., 1]
        share = events.sum(axis=1) / np.maximum(requests.sum(axis=1), 1.0)
        loudest = int((events - requests * share[:, None]).sum(axis=0).argmax())
        return sibling_correlation_time(events, requests), names[loudest]


def _together(units: tuple[Unit, ...]) -> Unit:
    """One block: the counts added up, the borders of the last."""
    return replace(
        units[-1],
        stable_events=np.sum([unit.stable_events for unit in units], axis=0),
        stable_requests=sum(unit.stable_requests for unit in units),
        canary_events=np.sum([unit.canary_events for unit in units], axis=0),
        canary_requests=sum(unit.canary_requests for unit in units),
    )


def block_for(tau: float, length: int) -> int:
    """Units in a block for a correlation time of tau units, each `length` looks; 1 if the units are long
    enough as they are."""
    if tau < INDEPENDENT:
        return 1
    wanted = 3.0 * tau * length
    looks = next((longer for longer in BLOCKS if longer >= wanted), LONGEST)
    return max(1, -(-looks // length))
