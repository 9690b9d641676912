"""The rules that canaryd adds to an HTTPRoute during a rollout; managed_routes.py does the same for a
VirtualService. Pure.

For a request the Gateway API chooses the rule with the most specific match: an exact path first, then the
longest prefix, then a method, then more headers, then more query parameters; of equals the first in the list
(HTTPRouteRule in the API's reference). A rule that canaryd adds has all conditions of the steered rule and
further ones, so it wins over the steered rule wherever it stands. It must not win over rules of other people
that the steered rule does not win over; `check` looks into that before anything is added. A rule is written
as the API server returns it, defaults included, so that it can be compared with what is there.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from canaryd.domain.policy.match_conditions import Match
from canaryd.domain.rollout import RouteLists
from canaryd.routing.httproute_weights import entries, refs
from canaryd.routing.managed_routes import FIRST, CannotAdd, HttpRoute, Shape, is_of, name_of

Rule = Mapping[str, Any]
_ALL: Rule = {"path": {"type": "PathPrefix", "value": "/"}}  # of a rule that says nothing of it
_LISTS = {"headers": "headers", "queryParams": "query parameters"}
_RANKS = {"Exact": 3, "PathPrefix": 2, "RegularExpression": 1}
_RE2_SIGNS = r"\.+*?()|[]{}^$"


def _matched(
    service: str,
    kind: str,
    key: str,
    rule: HttpRoute,
    matches: Sequence[Match],
    to: Sequence[Mapping[str, Any]],
) -> HttpRoute:
    both = [_both(key, own, match) for own in rule.get("matches") or [_ALL] for match in matches]
    return _instead(service, kind, key, rule, {"matches": both, "backendRefs": refs(to)})


def _mirrored(
    service: str, key: str, rule: HttpRoute, share: float, to: Sequence[Mapping[str, Any]]
) -> HttpRoute:
    filters = [deepcopy(dict(filter_)) for filter_ in rule.get("filters") or []]
    if any(filter_.get("requestMirror") for filter_ in filters):
        raise CannotAdd(f"rule {key} is mirrored already: take that out, or leave mirror out of the stages")
    (ref,) = refs(to)
    copied = {"backendRef": {name: value for name, value in ref.items() if name not in ("weight", "filters")}}
    percent = round(100 * share, 4)
    much: Mapping[str, Any] = (
        {"percent": int(percent)}
        if percent == int(percent)
        else {"fraction": {"numerator": round(share * 1_000_000), "denominator": 1_000_000}}
    )
    mirror = {"type": "RequestMirror", "requestMirror": {**copied, **much}}
    return _instead(
        service, "mirror", key, rule, {"filters": [*filters, mirror], "backendRefs": refs(rule["route"])}
    )


SHAPE = Shape(_matched, _mirrored)


def _instead(service: str, kind: str, key: str, rule: HttpRoute, changed: Mapping[str, Any]) -> HttpRoute:
    rest = {name: deepcopy(value) for name, value in rule.items() if name not in ("name", "route", *changed)}
    return {"name": name_of(service, kind, key), **changed, **rest}


def _both(key: str, own: Rule, further: Match) -> dict[str, Any]:
    """The rule's own conditions and the policy's in one match. Of two conditions on one header the API takes
    only the first, so two that differ cannot be in one match. Raises CannotAdd for such."""
    together = deepcopy(dict(own))
    for kind, ours in _conditions(further).items():
        theirs = {_name(kind, condition): condition for condition in own.get(kind) or []}
        twice = [name for name, our in ours.items() if name in theirs and theirs[name] != our]
        if twice:
            raise CannotAdd(
                f"rule {key} has a condition on the {_LISTS[kind]} {', '.join(twice)} of its own, and the "
                "Gateway API takes one for each: match by something else, or leave this rule out of the "
                "policy's route.rules"
            )
        if ours:
            together[kind] = [
                *(own.get(kind) or []),
                *(our for name, our in ours.items() if name not in theirs),
            ]
    return together


def _conditions(match: Match) -> dict[str, dict[str, Rule]]:
    """A policy's match as the Gateway API has it: kind -> name -> condition."""
    wanted = match.istio
    return {
        kind: {
            name: {"name": name, **_how(condition)} for name, condition in (wanted.get(kind) or {}).items()
        }
        for kind in _LISTS
    }


def _how(condition: Mapping[str, str]) -> Mapping[str, str]:
    """A condition of a policy as the Gateway API has it. That has no `prefix`: an expression of the whole
    value says the same."""
    if "exact" in condition:
        return {"type": "Exact", "value": condition["exact"]}
    expression = condition["regex"] if "regex" in condition else quoted(condition["prefix"]) + ".*"
    return {"type": "RegularExpression", "value": expression}


def quoted(text: str) -> str:
    """A regular expression (RE2) that matches this text alone. Python's own quoting has escapes that RE2
    refuses."""
    return "".join(f"\\{sign}" if sign in _RE2_SIGNS else sign for sign in text)


def _name(kind: str, condition: Rule) -> str:
    name = str(condition.get("name", ""))
    return name.lower() if kind == "headers" else name


# ---------------------------------------------------------------- other people's rules


def check(service: str, there: Sequence[Rule], steered: Mapping[str, int], added: RouteLists) -> None:
    """Raises CannotAdd where a rule to add would take requests of another person's rule that the steered rule
    leaves to it.

    there: the HTTPRoute's rules as they stand; steered: the position of each steered rule in `there`, by its
    key; added: the rules to add.
    """
    for key, place in steered.items():
        own = [
            added_rule
            for name in added
            for added_rule in added[name]
            if (name.partition(".")[2] or FIRST) == key
        ]
        for at, other in enumerate(there):
            if at in steered.values() or is_of(service, str(other.get("name") or "")):
                continue
            for rule in own:
                if _overtakes(rule, other, there[place], is_before=at < place):
                    called = other.get("name") or f"number {at}, without a name"
                    raise CannotAdd(
                        f"{rule['name']}, added for rule {key}, would take requests from the rule {called}: "
                        "the Gateway API prefers the match with more conditions, and of equals the first; "
                        "put that rule before this one in spec.rules, give it as many conditions as the "
                        "policy's match has, or match by fewer"
                    )


def _overtakes(ours: Rule, other: Rule, steered: Rule, is_before: bool) -> bool:
    """Whether requests that went by the other rule, and not by the steered one, would go by ours. is_before:
    the other stands before both."""
    for theirs in other.get("matches") or [_ALL]:
        won = any(
            (_rank(theirs), is_before) > (_rank(match), False) for match in steered.get("matches") or [_ALL]
        )
        if won and any(
            _overlap(match, theirs) and (_rank(match), not is_before) > (_rank(theirs), False)
            for match in ours["matches"]
        ):
            return True
    return False


def _rank(match: Rule) -> tuple[int, int, bool, int, int]:
    """The greater, the earlier the match is taken."""
    path = match.get("path") or _ALL["path"]
    return (
        _RANKS.get(path.get("type", "PathPrefix"), 0),
        len(path.get("value", "/")),
        bool(match.get("method")),
        len(match.get("headers") or []),
        len(match.get("queryParams") or []),
    )


def _overlap(ours: Rule, theirs: Rule) -> bool:
    """Whether a request may fit both matches, as far as exact values tell."""
    if ours.get("method") and theirs.get("method") and ours["method"] != theirs["method"]:
        return False
    for kind in _LISTS:
        there = {_name(kind, condition): condition for condition in theirs.get(kind) or []}
        for condition in ours.get(kind) or []:
            twin = there.get(_name(kind, condition))
            if (
                twin
                and {condition.get("type", "Exact"), twin.get("type", "Exact")} == {"Exact"}
                and condition["value"] != twin["value"]
            ):
                return False
    return _paths_overlap(ours.get("path") or _ALL["path"], theirs.get("path") or _ALL["path"])


def _paths_overlap(ours: Rule, theirs: Rule) -> bool:
    kinds = ours.get("type", "PathPrefix"), theirs.get("type", "PathPrefix")
    if "RegularExpression" in kinds:
        return True
    short, long = sorted(
        (str(ours.get("value", "/")).rstrip("/"), str(theirs.get("value", "/")).rstrip("/")), key=len
    )
    if kinds == ("Exact", "Exact"):
        return short == long
    return long == short or long.startswith(f"{short}/")


# ---------------------------------------------------------------- in words


def as_route(rule: Rule) -> HttpRoute:
    """An added rule as the route of a VirtualService that says the same, so that both kinds are described
    alike."""
    match = [
        {kind: dict(_istio_conditions(match.get(kind) or [])) for kind in _LISTS if match.get(kind)}
        for match in rule.get("matches") or []
    ]
    route: dict[str, Any] = {"match": match, "route": list(entries(rule.get("backendRefs") or [], ""))}
    if str(rule.get("name")).partition(".")[0].endswith("-mirror"):
        for mirror in (
            filter_["requestMirror"] for filter_ in rule.get("filters") or [] if filter_.get("requestMirror")
        ):
            part = mirror.get("fraction") or {"numerator": mirror.get("percent", 100)}
            share = 100 * part["numerator"] / part.get("denominator", 100)
            route |= {
                "mirror": {"subset": mirror["backendRef"].get("name")},
                "mirrorPercentage": {"value": share},
            }
    return route


def _istio_conditions(conditions: Sequence[Rule]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for condition in conditions:
        how = "regex" if condition.get("type") == "RegularExpression" else "exact"
        yield str(condition.get("name")), {how: str(condition.get("value"))}
