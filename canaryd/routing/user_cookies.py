"""Session affinity: each user is assigned once for a whole rollout, and a cookie remembers the assignment.
Pure.

A user is not assigned a version but the weight from which on the user gets the canary. With the stages 10,
25, 50, 100 that is one of `from-10` (10% of users), `from-25` (15%), `from-50` (25%) and `from-100` (50%). In
the stage at 25 users of the first two get the canary, the others stable. So the canary's share of users is
the weight, a user changes once, from stable to the canary, and no assignment changes when a stage begins.
Requests assigned one by one would build a page from both versions.

Istio makes the assignment: the steered route has a destination for each value, which sets the cookie. Two
routes before it take the users who have a cookie. The cookie's value names the rollout, so that no other
rollout honours it, and begins with `canaryd.`, which tells what canaryd added to a destination from what a
person wrote.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from json import dumps
from typing import Any

from canaryd.domain.policy.session_affinity import Affinity

Entry = Mapping[str, Any]
"""One destination of a route."""

CANARY, STABLE = "canary-users", "stable-users"  # kinds of the routes for users with a cookie
_SET = "set-cookie"
_OWN = re.compile(r"[^=;]+=canaryd\.")


class Unfit(ValueError):
    """No cookie can be set on a route; the message says why, and what to do."""


def token(template: str, attempt: int) -> str:
    """The name of a rollout in its cookies: `HASH-ATTEMPT`. template: the hash of the canary's pod template;
    attempt: from 1."""
    return f"{template}-{attempt}"


def bounds(weights: Sequence[int]) -> list[int]:
    """The weights from which on users may get the canary, rising and ending with 100. weights: of all stages,
    in per cent."""
    return [*sorted({weight for weight in weights if 0 < weight < 100}), 100]


def drawing(
    weight: int,
    weights: Sequence[int],
    canary_subset: str,
    entries: Sequence[Entry],
    wanted: Affinity,
    mark: str,
) -> list[Entry]:
    """The destinations of a steered route split at `weight` per cent: one for each assignment, which sets its
    cookie.

    weights: of all stages; entries: stable's and the canary's destination, once each, and idle ones; wanted:
    the policy's affinity; mark: the rollout's `token`.
    """
    drawn: list[Entry] = []
    ends = bounds(weights)
    for entry in entries:
        if not entry.get("weight"):
            drawn.append(entry)
            continue
        is_canary = (entry.get("destination") or {}).get("subset") == canary_subset
        for low, high in zip([0, *ends], ends, strict=False):
            if (high <= weight) is is_canary:
                drawn.append(_setting(entry, high - low, _cookie(wanted, mark, high)))
    return drawn


def condition(
    weight: int, weights: Sequence[int], wanted: Affinity, mark: str, canary: bool
) -> dict[str, Any]:
    """Istio's match for users whose cookie assigns them to the canary at `weight` per cent, or to stable. The
    expression is RE2, for the whole Cookie header."""
    mine = "|".join(str(bound) for bound in bounds(weights) if (bound <= weight) is canary)
    value = rf"{re.escape(wanted.cookie)}=canaryd\.{re.escape(mark)}\.from-({mine})"
    return {"headers": {"cookie": {"regex": rf"(.*;\s*)?{value}(\s*;.*)?"}}}


def audience(name: str) -> str:
    """The users that a route which canaryd added is for, by the route's name; "" for a route of another
    kind."""
    kind = name.partition(".")[0]
    if kind.endswith(f"-{CANARY}"):
        return "users of the canary"
    return "of stable" if kind.endswith(f"-{STABLE}") else ""


def check(route: Mapping[str, Any]) -> None:
    """Raises Unfit where a cookie that a destination sets would not reach the user, or would replace another:
    Istio takes one value for each header."""
    wrong = [
        f"it has headers.response.{how} for set-cookie" for how in _about_cookies(route, "set", "remove")
    ]
    for entry in plain(route.get("route") or []):
        wrong += [
            f"a destination has headers.response.{how} for set-cookie"
            for how in _about_cookies(entry, "add", "set")
        ]
    if wrong:
        raise Unfit(
            f"{' and '.join(wrong)}, and Istio takes one value for each header, so that canaryd's cookie "
            "would be lost; let the application set that cookie, or leave affinity out of the policy's route"
        )


def plain(entries: Sequence[Entry]) -> list[Entry]:
    """Destinations without canaryd's cookies. Those that differ in these alone become one again, with the sum
    of their weights."""
    found: list[Entry] = []
    places: dict[str, int] = {}
    for entry in entries:
        if not _is_own(entry):
            found.append(entry)
            continue
        bare = _without_cookie(entry)
        key = dumps({name: value for name, value in bare.items() if name != "weight"}, sort_keys=True)
        if key in places:
            before = found[places[key]]
            found[places[key]] = {
                **bare,
                "weight": int(before.get("weight") or 0) + int(bare.get("weight") or 0),
            }
        else:
            places[key] = len(found)
            found.append(bare)
    return found


def _cookie(wanted: Affinity, mark: str, high: int) -> str:
    return (
        f"{wanted.cookie}=canaryd.{mark}.from-{high}; Path=/; Max-Age={wanted.max_age}; HttpOnly; "
        "SameSite=Lax"
    )


def _setting(entry: Entry, weight: int, cookie: str) -> dict[str, Any]:
    changed = {**deepcopy(dict(entry)), "weight": weight}
    headers = changed.setdefault("headers", {})
    response = headers.setdefault("response", {})
    response["add"] = {**(response.get("add") or {}), _SET: cookie}
    return changed


def _is_own(entry: Entry) -> bool:
    return any(
        name.lower() == _SET and _OWN.match(str(value))
        for name, value in _inside(entry, "headers", "response", "add").items()
    )


def _without_cookie(entry: Entry) -> dict[str, Any]:
    """What held nothing else goes with it."""
    bare = deepcopy(dict(entry))
    headers = bare["headers"]
    response = headers["response"]
    response["add"] = {name: value for name, value in response["add"].items() if name.lower() != _SET}
    for holder, name in ((response, "add"), (headers, "response"), (bare, "headers")):
        if not holder[name]:
            del holder[name]
    return bare


def _about_cookies(holder: Mapping[str, Any], *hows: str) -> list[str]:
    response = _inside(holder, "headers", "response")
    return [how for how in hows if any(str(name).lower() == _SET for name in response.get(how) or ())]


def _inside(holder: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A map within maps, empty where it is not there."""
    for key in keys:
        inner = holder.get(key)
        holder = inner if isinstance(inner, Mapping) else {}
    return holder
