"""Counts as arrays: one vector for each replica and look.

A vector holds requests, failures, timed requests, their total duration in ms, and then for each latency bound
the requests slower than it. Vectors add up: over replicas to a version, over looks to a block.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from canaryd.domain.counts import Counts, Look
from canaryd.stats.arrays import Array

REQUESTS, FAILURES, TIMED, DURATION, SLOWER = (
    0,
    1,
    2,
    3,
    4,
)  # places in a vector; from SLOWER on, one for each bound

Replicas = Mapping[str, Array]


def vectors(
    replicas: Mapping[str, Counts],
    own_bounds: Sequence[float],
    bounds: Sequence[float],
    cold: Iterable[str] = (),
) -> dict[str, Array]:
    """Each replica's vector over `bounds`; had: those of the look. The latency of replicas in `cold` is left
    out, and so is that of a look without some of `bounds`."""
    if not replicas:
        return {}
    warm = [name not in cold for name in replicas] if cold else None
    return dict(zip(replicas, _matrix(list(replicas.values()), own_bounds, bounds, warm), strict=True))


def _matrix(
    rows: Sequence[Counts],
    own_bounds: Sequence[float],
    bounds: Sequence[float],
    warm: Sequence[bool] | None = None,
) -> Array:
    """A row for each."""
    width, places = len(bounds), [own_bounds.index(bound) for bound in bounds if bound in own_bounds]
    matrix = np.zeros((len(rows), SLOWER + width))
    matrix[:, REQUESTS], matrix[:, FAILURES] = (
        [counts.requests for counts in rows],
        [counts.failures for counts in rows],
    )
    if 0 < width == len(places):
        timed = [
            i
            for i, counts in enumerate(rows)
            if counts.timed and len(counts.within) == len(own_bounds) and (warm is None or warm[i])
        ]
        if timed:
            within = np.array([rows[i].within for i in timed], dtype=np.float64)
            matrix[timed, TIMED], matrix[timed, DURATION] = (
                [rows[i].timed for i in timed],
                [rows[i].duration_ms for i in timed],
            )
            matrix[timed, SLOWER:] = matrix[timed, TIMED][:, None] - within[:, places]
    return matrix


def past_vectors(looks: Sequence[Look], bounds: Sequence[float]) -> list[dict[str, Array]]:
    """Stable's vectors of many looks, each as `vectors` has them; all looks with the same bounds at once."""
    result: list[dict[str, Array]] = [{} for _ in looks]
    for own_bounds in {look.bounds for look in looks}:
        rows = [
            (place, name, counts)
            for place, look in enumerate(looks)
            if look.bounds == own_bounds
            for name, counts in look.stable.items()
        ]
        if rows:
            for (place, name, _), vector in zip(
                rows, _matrix([row for _, _, row in rows], own_bounds, bounds), strict=True
            ):
                result[place][name] = vector
    return result


def summed(replicas: Replicas, bounds: int) -> Array:
    """A version's vector."""
    return np.sum(list(replicas.values()), axis=0) if replicas else np.zeros(SLOWER + bounds)
