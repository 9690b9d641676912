"""Users with cookie jars, among whom a mesh's requests are spread: a few of them send many, most send few."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from canaryd_sandbox.mesh.routing import Share

SPREAD = 1.0  # sd of the log of how many requests a user sends


class Users:
    """So many users. seen: of each, the subsets that served him, one after another, each named once until it
    changes."""

    def __init__(self, count: int, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        busy = random.lognormal(0.0, SPREAD, count)
        self._busy = busy / busy.sum()
        self._jars: list[dict[str, str]] = [{} for _ in range(count)]
        self.seen: list[list[str]] = [[] for _ in range(count)]

    def arriving(
        self, requests: int, random: np.random.Generator
    ) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
        """Users whose Cookie header is the same, and how many of the requests each sends: the header, users,
        requests."""
        request_counts = random.multinomial(requests, self._busy)
        alike: dict[str, list[int]] = {}
        for user in np.flatnonzero(request_counts).tolist():
            alike.setdefault(
                "; ".join(f"{name}={value}" for name, value in self._jars[user].items()), []
            ).append(user)
        for header, users in alike.items():
            yield header, np.array(users), request_counts[users]

    def served(self, users: NDArray[np.int64], by: Share) -> None:
        """What they keep of the answers. A jar knows no ages: a rollout here lasts for minutes."""
        for user in users.tolist():
            if by.subset is not None and self.seen[user][-1:] != [by.subset]:
                self.seen[user].append(by.subset)
            if by.cookie:
                name, _, value = by.cookie.partition(";")[0].partition("=")
                self._jars[user][name] = value
