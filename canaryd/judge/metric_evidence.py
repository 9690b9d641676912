"""What one metric has gathered: in blocks as long as its failures hang together, against harm and for
passing.

`errors.py` and `latency.py` say what is compared; this file holds what they share.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from canaryd.domain.assessment import ReplicaLuck
from canaryd.domain.verdict import Answer
from canaryd.judge.comparisons import HARM, Comparisons, Gathered, Unit, fold_all
from canaryd.judge.count_vectors import Replicas
from canaryd.judge.leave_one_out import Replays, block_for
from canaryd.judge.replica_variation import Siblings
from canaryd.judge.user_clusters import Drawn
from canaryd.stats.arrays import Array, Rows, Single
from canaryd.stats.betabinomial import log_past
from canaryd.stats.between_replicas import PRIOR_REPLICAS, PRIOR_SD, RARE, ratio_by_luck
from canaryd.stats.blocks import INDEPENDENT, LASTING, block_length

SIBLINGS_AGREE = 4.0  # odds against the canary without its loudest replica
# units from which on a single replica's trouble that lasts shows in how it and its siblings compare
TOLD_APART = 30
# times what is tolerated, that has to be ruled out at least where an alarm at full weight spoke
LEAST_AFTER_ALARM = 1.25
LARGEST_LOG = 690.0  # exp of it is still a float


def odds_of(log_odds: float) -> float:
    """exp(log_odds), and the largest that is still a float beyond it."""
    return exp(min(log_odds, LARGEST_LOG))


def bar_alone(total: float, weight: float) -> float:
    """The odds at which a part with this weight (a share of the total) brings the total to its bar alone, the
    others being neutral."""
    return (total - (1.0 - weight)) / weight


def answer_by(odds: float, bar: float, cleared: float, clear_bar: float, is_beyond: bool = False) -> Answer:
    """What one comparison says of itself: harm at its bar, or that what a stage must rule out is ruled out.
    is_beyond: whether a plain estimate lies beyond that, whatever was ruled out before."""
    if odds >= bar:
        return Answer.FAIL
    return Answer.PASS if cleared >= clear_bar and not is_beyond else Answer.UNDECIDED


def excess(unacceptable: float, next_weight: int) -> float:
    """What must be ruled out before the weight goes to next_weight per cent: what would hurt as many users
    there as the unacceptable excess hurts at 100."""
    return unacceptable * 100.0 / next_weight


@dataclass(frozen=True, slots=True)
class Excess:
    """What was worse at full weight than the record: errors first, then each bound; shape (1 + bounds,).

    places: which speak for an alarm. shares: the canary's, in the looks that do; usual: the record's.
    """

    places: Rows
    shares: Array
    usual: Array

    def at(self, places: Sequence[int]) -> "Excess":
        """The same, of some places alone."""
        chosen = list(places)
        return Excess(self.places[chosen], self.shares[chosen], self.usual[chosen])


class MetricEvidence(ABC):
    """One metric's evidence. weight: its fixed share in the total; past: stable's vectors before the rollout,
    look by look, shape (looks, width). block: looks that make one unit."""

    name: str
    tau: float  # how long trouble on stable lasts, in looks

    def __init__(self, weight: float, past: Array) -> None:
        self.weight = weight
        self.tau, self._cautious_tau = self.trouble(past), self.trouble(past, proven=True)
        self.block = block_length(self.tau)
        # Stable's looks, past ones included, until a young rise of its rate has lasted.
        self._rise: list[Array] | None = list(past) if self.cautious_block > self.block else None
        self._looks = 0  # of the rollout, while a rise is young
        self.closed = 0  # blocks of this stage
        self._open_looks = 0
        self._unsettled = False  # a block was closed, and what it showed is not gathered yet
        self._open_stable: Array | None = None
        self._open_canary: dict[str, Array] = {}
        self.next_weight = 100
        # of the rollout and of the stage, as of the last block
        self._known_odds: tuple[float, float] | None = None
        self._earlier: list[float] = []  # odds of earlier stages, where users are drawn
        self.stable_replicas = 1  # that served in the last look
        self.users: Drawn | None = None  # of each version in the last look, where users are drawn
        self.split = False  # whether what is compared are halves of matched requests
        self.cleared = 1.0
        self.alarm: Excess | None = None  # what led back to the present stage, from full weight

    @property
    @abstractmethod
    def comparisons(self) -> Comparisons: ...

    @property
    @abstractmethod
    def replays(self) -> Replays: ...

    @abstractmethod
    def trouble(self, stable: Array, proven: bool = False) -> float:
        """For how many looks trouble on stable lasts, from its vectors, shape (looks, width). proven: see
        `lasting_changes`."""

    @property
    def cautious_block(self) -> int:
        """Looks in a block if a rise of stable's rate just before the rollout was a spell."""
        return block_length(self._cautious_tau)

    @abstractmethod
    def unit(self, stable: Array, canary: Replicas) -> Unit | None:
        """One closed block: stable's vector, and each canary replica's; None if it has nothing to compare."""

    @abstractmethod
    def log_odds(self, gathered: Gathered) -> float:
        """The metric's log evidence, over its comparisons."""

    @abstractmethod
    def clearing(self) -> float:
        """The odds gathered in this stage that what it must rule out is not there."""

    def begin_stage(self, next_weight: int, alarm: Excess | None = None) -> None:
        """What was cleared is cleared no more, since a fault may show only under this stage's load. alarm:
        what led back to it; the stage has to rule that out, where it was."""
        self.next_weight, self.alarm = next_weight, alarm
        if self.users is not None and self.comparisons.has_evidence:
            self._earlier.append(self.stage_odds)
        self.comparisons.begin_stage(alarm is not None)
        self.cleared = 1.0
        self.closed = 0
        self._known_odds = None

    def as_noisy_as(self, other: "MetricEvidence") -> None:
        """Takes over how long trouble lasts and how much comes at once, from the same metric of other
        requests; no rates."""
        self.block, self.tau, self._cautious_tau = other.block, other.tau, other._cautious_tau
        if self.comparisons.burst.shape == other.comparisons.burst.shape:
            self.comparisons.burst = other.comparisons.burst

    def observe(self, stable: Array, canary: Replicas) -> list[tuple[Comparisons, Unit]]:
        """Adds a look to the open block. What that closed has to be folded by the caller, together with
        others' (`fold_all`), and then `settle` be called."""
        if self._rise is not None:
            self._see_whether_it_lasts(self._rise, stable)
        self._open_stable = stable if self._open_stable is None else self._open_stable + stable
        for name, vector in canary.items():
            before = self._open_canary.get(name)
            self._open_canary[name] = vector if before is None else before + vector
        self._open_looks += 1
        return self._closed() if self._open_looks >= self.block else []

    def _see_whether_it_lasts(self, rise: list[Array], stable: Array) -> None:
        """One look of stable more. A rise just before the rollout is a lasting change, which strikes the
        canary as well, or a spell of stable's that is not over, and the next one may be the canary's alone:
        only time tells them apart."""
        rise.append(stable)
        self._looks += 1
        if self._looks >= LASTING:
            self._cautious_tau = self.trouble(np.array(rise))
            self._rise = None

    def cautious_odds(self) -> float:
        """The less of the odds as they are, and in the blocks that there would be if a young rise of stable's
        rate was a spell. Those who are well don't wait for it: it is asked before a rollback alone."""
        if self.cautious_block <= self.block:
            return self.odds
        return self._less_in_blocks(self._cautious_tau / self.block)

    def _less_in_blocks(self, tau: float) -> float:
        """The less of the odds as they are, and in blocks for trouble that lasts for tau units."""
        units = block_for(tau, self.block)
        return min(self.odds, odds_of(self.replayed(self.replays.in_blocks(units))))

    def _closed(self) -> list[tuple[Comparisons, Unit]]:
        if self._open_stable is None:
            return []
        unit = self.unit(self._open_stable, self._open_canary)
        self._open_looks, self._open_stable, self._open_canary = 0, None, {}
        self.closed += 1
        self._unsettled = True
        return [(self.comparisons, unit)] if unit is not None else []

    def settle(self) -> None:
        """What a block showed has been gathered."""
        if not self._unsettled:
            return
        self._unsettled = False
        # Evidence is valid whenever one looks, so what was ruled out once stays ruled out; later harm is the
        # other side's matter.
        self.cleared = max(self.cleared, self.clearing())
        self._known_odds = None

    def close(self) -> None:
        """Closes the open block, full or not."""
        fold_all(self._closed())
        self.settle()

    @property
    def odds(self) -> float:
        """Against the canary over the rollout."""
        return self._both_odds()[0]

    def _both_odds(self) -> tuple[float, float]:
        if self._known_odds is None:
            whole, *stage = (odds_of(self.log_odds(gathered)) for gathered in self.comparisons.gathering)
            of_stage = stage[0] if stage else whole
            self._known_odds = (
                whole if self.users is None else self.users.together(self._earlier, of_stage),
                of_stage,
            )
        return self._known_odds

    @abstractmethod
    def harmful_odds(self) -> float:
        """The odds that a rollback may rest on: what a single replica's bad spell shows is not taken for the
        version's doing."""

    def lasting_odds(self, comparison: int) -> float:
        """The less of the odds as they are, and in blocks as long as a single replica's trouble lasts, with
        no trust in the past.

        Stable's past may well have been too short to show a spell that the canary is having now. Where the
        siblings speak against the canary too, it is no single replica's trouble, however replicas differ:
        with much traffic they always do, and lastingly. Nor is it where replicas were compared for long
        enough and no single one's trouble lasted.
        """
        replays = self.replays
        tau, loudest = replays.lasting_trouble(comparison)
        if not loudest or odds_of(self.replayed(replays.without(loudest), loudest)) >= SIBLINGS_AGREE:
            return self.odds
        if tau < INDEPENDENT and replays.units >= TOLD_APART:
            return self.odds
        return self._less_in_blocks(max(tau, INDEPENDENT))

    def replayed(self, comparisons: Comparisons, without: str = "") -> float:
        """`log_odds` of a replay; without: the replica that was left out of it."""
        return self.log_odds(comparisons.whole)

    def replica_luck(
        self, siblings: Siblings, place: int, bound_ms: float | None, canary_replicas: int
    ) -> ReplicaLuck:
        """What the draw of replicas may bring to the comparison at `place` of the siblings' differences."""
        stable_replicas = max(1, self.stable_replicas)
        sd = np.array(float(siblings.sd[place]))
        return ReplicaLuck(
            metric=self.name,
            bound_ms=bound_ms,
            replicas_seen=siblings.replicas_seen,
            raw_sd=float(siblings.raw[place]),
            stable_replicas=stable_replicas,
            canary_replicas=canary_replicas,
            ratio=float(ratio_by_luck(sd, siblings.replicas_seen, stable_replicas, canary_replicas, RARE)),
            assumed_sd=PRIOR_SD,
            assumed_replicas=PRIOR_REPLICAS,
        )

    @property
    def stage_odds(self) -> float:
        """Against the canary from this stage's own looks."""
        return self._both_odds()[1]

    @property
    def loudest(self) -> float:
        """Against the canary from this stage's own looks, by the comparison that speaks most."""
        return self.stage_odds

    @staticmethod
    def _summed(canary: Replicas) -> Array:
        return np.asarray(np.sum(list(canary.values()), axis=0))


def past_says(events: Array, requests: Array, block: int) -> Single:
    """What stable's past says (`log_past`) of units of `block` looks; nothing where these are blocks. events:
    shape (units, comparisons); requests: shape (units,).

    An hour holds few of them, and in each trouble that lasts is mixed anew: of 1,000 good versions in bad
    spells of 3 looks 11 were rolled back with a past that spoke with at most 3 nats, and 3 without; in spells
    of 18 looks that stable's past had shown 10 and 5 of 868. As many were promoted.
    """
    return (
        log_past(HARM, events, requests)
        if block == 1
        else np.zeros((events.shape[1], HARM.cells), dtype=np.float32)
    )


def past_units(past: Array, block: int) -> Array:
    """Looks of the past added up to blocks, as the rollout's will be; shape (units, width)."""
    return np.add.reduceat(past, np.arange(0, len(past), block)) if len(past) else past
