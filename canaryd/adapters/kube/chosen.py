"""The routes, or rules, that a policy names to be steered: one way of finding them for both kinds of object."""

from collections.abc import Sequence

from canaryd.adapters.kube.client import Json
from canaryd.domain.ports import Rejected


def places(about: str, noun: str, key: str, wanted: Sequence[str], there: Sequence[Json]) -> list[int]:
    """Where each of the names in `wanted` (the policy's `key`) stands in `there`. Raises Rejected for one that is not there just once."""
    names = [str(one.get("name") or "") for one in there]
    for name in wanted:
        if names.count(name) != 1:
            known = ", ".join(one for one in names if one) or "none with a name"
            number = "no" if name not in names else "more than one"
            raise Rejected(f"{about} has {number} {noun} {name!r}, which the policy's {key} names; it has: {known}")
    return [names.index(name) for name in wanted]
