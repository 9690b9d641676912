"""Mean latency, the canary's against stable's in the same seconds: it sees what happens inside one wide
bucket.

A look's number is the log of the ratio of the two means over what is tolerated; bets on its being above 0 are
in `stats/sign_bets.py`. The same is gathered without each canary replica, since one slow pod is not a slow
version.
"""

import numpy as np

from canaryd.judge.count_vectors import DURATION, TIMED, Replicas
from canaryd.judge.replica_variation import MeanLuck, Siblings
from canaryd.judge.user_clusters import Drawn
from canaryd.stats.arrays import Array
from canaryd.stats.sign_bets import ScoreBets


class MeanEvidence:
    """tolerated: the ratio of the means that is no harm."""

    def __init__(self, tolerated: float) -> None:
        self._tolerated = tolerated
        self._bets = ScoreBets()  # all replicas together, then without each
        self._names: list[str] = []
        self._luck: MeanLuck | None = None

    def begin_stage(self) -> None:
        """A stage begins, with which the canary may well begin to be slower."""
        self._bets.new_stage()

    def fold(
        self,
        stable: Array,
        canary: Replicas,
        siblings: Siblings,
        stable_replicas: int,
        users: Drawn | None = None,
    ) -> None:
        """A look, or a closed block of looks."""
        if stable[TIMED] <= 0 or stable[DURATION] <= 0:
            return
        timed_replicas = sum(vector[TIMED] > 0 for vector in canary.values())
        luck = siblings.mean_luck(stable_replicas, timed_replicas)
        if users is not None:  # what was gathered of fewer users stays in the average
            luck = users.with_mean(luck)
            luck = self._luck if self._luck is not None and self._luck.scale > luck.scale else luck
        self._luck = luck
        for name in sorted(canary.keys() - set(self._names)):
            self._names.append(name)
            self._bets.split(0)
        none = np.zeros(2)
        timings = np.array(
            [none, *(canary[name][[TIMED, DURATION]] if name in canary else none for name in self._names)]
        )
        timed, spent = (timings.sum(axis=0) - timings).T
        usable = (timed > 0) & (spent > 0)
        mean = np.where(usable, spent, 1.0) / np.where(usable, timed, 1.0)
        self._bets.observe(
            np.where(usable, np.log(mean / (self._tolerated * stable[DURATION] / stable[TIMED])), np.nan)
        )

    @property
    def log_odds(self) -> float:
        """Against the canary."""
        return self._of(0)

    def without(self, replica: str) -> float:
        """The log odds against the canary without one of its replicas."""
        return self._of(1 + self._names.index(replica)) if replica in self._names else self.log_odds

    def _of(self, series: int) -> float:
        """Not more than replicas' luck leaves: a ratio that luck exceeds in one of so many draws is no more
        than so much evidence, however long it lasts."""
        if self._luck is None:
            return 0.0
        ratio = float(self._bets.averages[series]) + np.log(self._tolerated)
        return min(float(self._bets.log_odds[series]), -float(np.log(self._luck.beyond(ratio))))
