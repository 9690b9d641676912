"""Evidence by betting: a bettor stakes on arm 2 having more events than its share; her gain is evidence
against "no more".

Each process starts at 1 and, if the null holds, has expectation at most 1 at any stopping time (Ville's
inequality: it exceeds 1/alpha with chance at most alpha, ever). Stakes are fixed before the looks, and what
they gain is averaged over a small grid (Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", JRSS-B 2024).

A look counts by its size against a cap known before it. That makes the gain linear in the counts: only
expected rates matter, and events may come in any burst within a look. Unweighted, one hanging replica would
make a share of 1.

The bettor keeps a purse back and stakes a part of it at each look, since harm may begin at any
(`changepoint.py` has the shares).
"""

import numpy as np

from canaryd.stats.arrays import Array
from canaryd.stats.changepoint import AT_ONCE

# small ones for small harm that lasts, large ones for the plain kind
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95])
CAP_KEPT, CAP_GROWTH = 0.95, 2.0  # of the measure of a full look, from one look to the next


def log_gains_on_share(
    events1: Array, events2: Array, requests1: Array, requests2: Array, ratio: Array, cap: Array
) -> Array:
    """Log gain of each stake in one look, against "arm 2's rate is at most ratio times arm 1's"; shape
    (comparisons, stakes).

    cap: the largest number of events of a look before this one, shape (comparisons,); where it is 0 nothing
    is staked. All counts of shape (comparisons,), requests > 0. A look without events changes nothing.
    """
    events = events1 + events2
    expected_share = requests2 * ratio / (requests1 + requests2 * ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where((cap > 0) & (events > 0), np.minimum(events, cap) / cap, 0.0)
        surplus = np.where(events > 0, events2 / events / expected_share - 1.0, 0.0)
    return np.asarray(np.log1p(STAKES * (size * surplus)[:, None]))


def log_gains_on_rate(events: Array, requests: Array, limit: Array, cap: Array) -> Array:
    """Log gain of each stake in one look, against "the rate is at most limit"; shape (comparisons, stakes).

    limit: in (0, 1); cap: the largest number of requests of a look before this one, shape (comparisons,);
    where it is 0 the look itself is the first measure. A look without requests changes nothing.
    """
    base = np.where(cap > 0, cap, np.maximum(requests, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        surplus = np.where(requests > 0, events / requests / limit - 1.0, 0.0)
    return np.asarray(np.log1p(STAKES * (np.minimum(requests, base) / base * surplus)[:, None]))


def full_look(before: Array, requests: Array) -> Array:
    """The requests of a full look, the measure of the next one; 0 where none was seen yet.

    before: what was held to be one, shape (count,); requests: of a look, the same shape. The largest ever
    would not do: the first look after an outage may hold an hour's requests, and every usual look after it
    would weigh next to nothing. So the measure at most doubles from one look to the next, and fades.
    """
    grown = np.minimum(np.maximum(CAP_KEPT * before, requests), CAP_GROWTH * before)
    return np.where(requests > 0, np.where(before > 0, grown, requests), before)


def purse(count: int) -> Array:
    """Log of what is kept back, and of what each stake has, before the first look; shape (count, 1 +
    stakes)."""
    shares = np.concatenate(([1.0 - AT_ONCE], np.full(len(STAKES), AT_ONCE / len(STAKES))))
    return np.tile(np.log(shares), (count, 1))


def staked(log_wealth: Array, log_gains: Array, turning: Array) -> Array:
    """The purse a look later; shapes (count, 1 + stakes) and (count, stakes). turning: of what is kept back,
    the share that is staked now, shape (count,)."""
    kept = log_wealth[:, :1]
    onto = np.logaddexp(log_wealth[:, 1:], kept + np.log(turning / len(STAKES))[:, None]) + log_gains
    return np.concatenate((kept + np.log1p(-turning)[:, None], onto), axis=1)


def log_total(log_wealth: Array) -> Array:
    """Log of all that is in it: the evidence; shape (count,)."""
    largest = log_wealth.max(axis=-1)
    return np.asarray(np.log(np.exp(log_wealth - largest[..., None]).sum(axis=-1)) + largest)
