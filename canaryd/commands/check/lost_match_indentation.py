"""Conditions of http routes that lost their indentation: `cookie:` and `regex:` on one level, where `regex`
belonged below `cookie`.

Then `cookie` is empty (Istio: any request that has the header at all) and `regex` is taken for a header's
name. Works on an object as a file has it, and on what an API server made of it.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from canaryd.commands.check.finding import Finding, as_yaml, problem, warning
from canaryd.commands.check.route_agreement import leads_to, named
from canaryd.domain.check_facts import Facts, Object, spec_of
from canaryd.domain.policy.policy import Policy

KINDS = ("exact", "prefix", "regex")  # of Istio's StringMatch
BY_NAME = ("headers", "queryParams", "withoutHeaders")
WHOLE = ("uri", "scheme", "method", "authority")


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on the conditions of a service's VirtualServices."""
    for route in facts.within("VirtualService", policy.service.namespace):
        if leads_to(facts, route, policy.key):
            yield from of(route)


def of(route: Object) -> Iterator[Finding]:
    """The findings of one VirtualService."""
    for place, http in enumerate(spec_of(route).get("http") or []):
        for number, match in enumerate(http.get("match") or []):
            where = f"spec.http[{place}].match[{number}]"
            mended = repaired(match)
            if mended != match:
                yield problem(
                    "matches.indent",
                    named(route),
                    f"{where}: {_explained(match)}",
                    "the condition below the name that it is about",
                    as_yaml({"match": [mended]}, f"{where}, as it was meant"),
                )
            else:
                yield from _empty(route, where, match)


def is_misplaced(match: Mapping[str, Any]) -> bool:
    """Whether a condition stands beside the name that it belongs to, instead of below it."""
    return repaired(match) != match


def repaired(match: Mapping[str, Any]) -> dict[str, Any]:
    """A match with each condition that stands beside the name it belongs to put below it; as it is where
    there is none."""
    mended = deepcopy(dict(match))
    beside = {kind: mended[kind] for kind in KINDS if isinstance(mended.get(kind), str)}
    empty = [key for key in mended if mended[key] in (None, {})]
    if beside and empty:  # all of it on one level: headers, cookie, regex
        for kind in beside:
            del mended[kind]
        names = [key for key in empty if key not in (*BY_NAME, *WHOLE)]
        group = next((key for key in empty if key in BY_NAME), "headers")
        for name in names:
            del mended[name]
            mended[group] = {**(mended.get(group) or {}), name: beside}
        for key in empty if not names else ():
            if key in WHOLE:
                mended[key] = beside
    for group in BY_NAME:
        if isinstance(mended.get(group), dict):
            mended[group] = _below(mended[group])
    return mended


def _below(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """`{cookie: null, regex: X}` as `{cookie: {regex: X}}`; each condition goes to the empty name before
    it."""
    found: dict[str, Any] = {}
    last = ""
    for name, value in conditions.items():
        if name in KINDS and isinstance(value, str) and last:
            found[last] = {**(found[last] or {}), name: value}
            continue
        found[name] = value
        last = name if value in (None, {}) else ""
    return found


def _explained(match: Mapping[str, Any]) -> str:
    for group in BY_NAME:
        inside = match.get(group)
        if isinstance(inside, dict):
            kinds = [name for name in inside if name in KINDS and isinstance(inside[name], str)]
            names = [name for name, value in inside.items() if value in (None, {})]
            if kinds and names:
                what = "parameter" if group == "queryParams" else "header"
                return (
                    f"{group} has `{names[0]}` without a value and `{kinds[0]}` beside it: Istio reads any "
                    f"request with {names[0]}, and a {what} called {kinds[0]}"
                )
    kinds = [name for name in match if name in KINDS]
    return f"`{kinds[0] if kinds else 'a condition'}` stands in the match itself, beside what it is about"


def _empty(route: Object, where: str, match: Mapping[str, Any]) -> Iterator[Finding]:
    """What may be left after an API server dropped what it does not know."""
    for group in BY_NAME:
        inside = match.get(group)
        for name, value in inside.items() if isinstance(inside, dict) else ():
            if value in (None, {}):
                kind = "parameter" if group == "queryParams" else "header"
                yield warning(
                    "matches.empty",
                    named(route),
                    f"{where}: {group}.{name} has no condition: Istio takes every request that has "
                    f"the {kind} at all (what is left when a condition on the wrong level is dropped)",
                    'exact, prefix or regex below it, or `regex: ".+"` where any value is meant',
                    as_yaml({group: {name: {"regex": ".*logged_in.*" if name == "cookie" else ".+"}}}, where),
                )
