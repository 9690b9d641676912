"""Whether traffic follows the weight: the canary's share of the requests, held against what was set while
looks come.

Envoy draws each request's version by the weight, by itself, so the share is as steady as counts are. Before
anything is said, two things must hold of the last looks:

- **It is off in practice**: by more than half of the smaller version's share in 6 looks (at 10%: below 5%,
  above 15%), or by more than a third of it in 24 (below 6.7%, above 13.3%).
- **It is off for certain**: still beyond that border by as many standard errors as a Student's t exceeds once
  in 10,000 times. The error is that of independent draws, times what the looks themselves show of requests
  going the same way together (one client's burst, retries, a replica that restarts): what comes in clusters
  is no proof of anything.

The distance to the border is what honest traffic needs. A canary that fails is asked again, and counted more
often than it was drawn; what a replica served after its last scrape is counted nowhere; pods that are scraped
at different moments lend each other a part of a look; what is slow is counted when it ends, so a span's first
look is left out. None of that is told as long as it changes either version's count by less than half over 6
looks. Where someone sends each client to one version for minutes, and clients are few, the share is off
indeed, and said to be.

Before so many looks have come, or while they are too uneven to be certain of, a share that is off on the face
of it lets no stage pass early.

Where users are drawn, and not requests, a share of the users is set and not one of the requests: what their
luck may bring is added to either distance, up to nine tenths of what there is, so that a version with next to
no request is told however few users there are.

Once off, it is off until it follows: until the share of the latest looks, as many as it takes to know, is
within the third.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice
from math import sqrt

from canaryd.domain.assessment import ServedShare, TrafficShare

SETTLE_LOOKS = 1  # of a span: slow requests have not ended yet
NEARLY_ALL = 0.9  # of a version's share: if so much of it is missing, that is no user's luck
# standard errors of independent draws that the third must be for a share to be taken as it is, or beyond it
# to be in doubt
SURE = 2.0


@dataclass(frozen=True, slots=True)
class SplitWindow:
    """A number of the last looks, put together into `blocks` of one size. apart: of the smaller version's
    share, by how much the canary's must differ; errors: standard errors beyond that border from which it is
    no chance."""

    looks: int
    apart: float
    blocks: int
    errors: float


# errors: scipy.special.stdtrit(blocks - 1, 1 - 1e-4)
SHORT, LONG = SplitWindow(6, 1 / 2, 6, 9.68), SplitWindow(24, 1 / 3, 12, 5.45)


class SampleRatio:
    """The looks of one span at one weight (per cent, above 0 and below 100), or with so many copies that the
    canary's share is as at that weight. observes: someone else splits the traffic, and canaryd does not. due:
    what was set, in words, where it is not the weight. luck: by how much (a share) users who were drawn may
    make it differ."""

    def __init__(self, weight: float, observes: bool = False, due: str = "", luck: float = 0.0) -> None:
        self.weight, self.observes, self._due, self._luck = weight, observes, due, luck
        self.off: ServedShare | None = None  # None: the traffic follows, or nothing is certain
        self._observed = 0
        self._looks: deque[tuple[float, float]] = deque(maxlen=LONG.looks)  # requests of the canary, of both

    def observe(self, canary: float, stable: float) -> None:
        """One look's requests."""
        self._observed += 1
        if self._observed <= SETTLE_LOOKS:
            return
        self._looks.append((canary, canary + stable))
        if self.off is None:
            self.off = next((found for window in (SHORT, LONG) if (found := self._found(window))), None)
            return
        latest = self._latest()
        further = latest.share - self.weight / 100 if latest.of else 0.0
        if latest.of and abs(further) <= tolerated(self.weight, luck=self._luck, more=further > 0):
            self._looks.clear()  # so that what was off is not found again in the longer window
            self.off = None
        elif latest.of:
            self.off = latest

    @property
    def traffic(self) -> TrafficShare:
        """Whether the traffic follows, as of the last look."""
        return TrafficShare(
            due=self.weight, due_by=self._due, observes=self.observes, off=self.off, doubtful=self._doubtful
        )

    @property
    def _doubtful(self) -> ServedShare | None:
        """The share of all looks that are kept, where it may not follow. It takes independent draws for
        granted, and so is no verdict."""
        if self.off is not None or not self._looks:
            return None
        last = self._last(len(self._looks))
        is_off = last.of and beyond(last.served, last.of, self.weight, LONG.apart, SURE, luck=self._luck)
        return last if is_off else None

    def _found(self, window: SplitWindow) -> ServedShare | None:
        if len(self._looks) < window.looks:
            return None
        last = self._last(window.looks)

        def is_beyond(clusters: float) -> bool:
            return last.of > 0 and beyond(
                last.served, last.of, self.weight, window.apart, window.errors, clusters, self._luck
            )

        return last if is_beyond(1.0) and is_beyond(self._clusters(window)) else None

    def _clusters(self, window: SplitWindow) -> float:
        """How many requests go the same way together, by how the window's blocks differ from each other; at
        least 1."""
        looks = list(self._looks)[-window.looks :]
        size = window.looks // window.blocks
        blocks = [
            (sum(look[0] for look in looks[at : at + size]), sum(look[1] for look in looks[at : at + size]))
            for at in range(0, window.looks, size)
        ]
        served, of = (sum(block[place] for block in blocks) for place in (0, 1))
        share = (served + 0.5) / (of + 1)
        strayed = [
            (canary - share * both) ** 2 / (both * share * (1 - share)) for canary, both in blocks if both
        ]
        return max(1.0, sum(strayed) / max(1, len(strayed) - 1))

    def _latest(self) -> ServedShare:
        """What was served in as many of the latest looks as it takes to tell the third, or in all there
        are."""
        looks = min(SHORT.looks, len(self._looks))
        while looks < len(self._looks) and not is_telling(self._last(looks).of, self.weight):
            looks += 1
        return self._last(looks)

    def _last(self, looks: int) -> ServedShare:
        some = list(islice(reversed(self._looks), looks))
        return ServedShare(int(sum(look[0] for look in some)), int(sum(look[1] for look in some)), len(some))


def tolerated(weight: float, apart: float = LONG.apart, luck: float = 0.0, more: bool = False) -> float:
    """The difference that a share (0 to 1) may have from a weight in per cent. Either version's counts alike:
    of 90% a third is 3.3 points as well. luck: by how much it may besides, as far as either version keeps a
    tenth of what is its own; more: the share is above the weight."""
    third = apart * min(weight, 100 - weight) / 100
    return min(third + luck, NEARLY_ALL * (100 - weight if more else weight) / 100) if luck else third


def beyond(
    canary: int, of: int, weight: float, apart: float, errors: float, clusters: float = 1.0, luck: float = 0.0
) -> bool:
    """Whether `canary` of so many requests (at least 1) are further from the weight than `apart` of the
    smaller share, by `errors` standard errors of draws at that border. clusters: requests that go the same
    way together."""
    side = 1 if canary / of > weight / 100 else -1
    border = weight / 100 + side * tolerated(weight, apart, luck, side > 0)
    further = side * (canary - border * of)
    return further > 0 and further >= errors * sqrt(clusters * of * border * (1 - border))


def is_telling(of: int, weight: float) -> bool:
    """Whether so many requests, each drawn by itself, are enough to see a share that is off by a third."""
    share = weight / 100
    return of * tolerated(weight) ** 2 >= SURE**2 * share * (1 - share)
