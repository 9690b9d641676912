"""All checks, in the order in which they are read: what everything rests on first, then each service."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from canaryd.commands.check import (
    competing_controllers,
    control_plane,
    daemon_rbac,
    gateways,
    lost_match_indentation,
    policy_suggestions,
    route_agreement,
    service_telemetry,
    sidecar_injection,
    workloads,
)
from canaryd.commands.check.finding import Finding, Level, problem, warning
from canaryd.domain.check_facts import Facts
from canaryd.domain.policy.policy import Policy


def findings(facts: Facts) -> Sequence[Finding]:
    """Whatever there is to say of these facts."""
    found = [*_of_files(facts)]
    if not facts.offline:
        found += [*control_plane.check(facts), *service_telemetry.check_all(facts), *daemon_rbac.check(facts)]
    for policy in facts.policies:
        found += [replace(finding, service="/".join(policy.key)) for finding in of_service(facts, policy)]
    if not facts.policies and not facts.offline:
        found += policy_suggestions.check(facts)
    return [_placed(facts, finding) for finding in dict.fromkeys(found)]


def of_service(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on one service, by its policy."""
    if not facts.offline:
        yield from sidecar_injection.check(facts, policy)
    if policy.route.http_route:
        yield from route_agreement.of_http_route(facts, policy)
    else:
        yield from route_agreement.check(facts, policy)
        yield from lost_match_indentation.check(facts, policy)
        yield from gateways.check(facts, policy)
    yield from workloads.check(facts, policy)
    if not facts.offline:
        yield from service_telemetry.check(facts, policy)
        if not policy.route.http_route:
            yield from competing_controllers.check(facts, policy)


def _of_files(facts: Facts) -> Iterator[Finding]:
    for flaw in facts.flaws:
        wanted = "each key below the one that it belongs to" if flaw.mended else "YAML that can be read"
        yield replace(
            problem("files.indent", flaw.about, flaw.found, wanted, flaw.mended),
            file=flaw.file,
            line=flaw.line,
        )
    for route, why in facts.left_out:
        yield warning(
            "routes.steerable",
            route_agreement.named(route),
            f"canaryd cannot steer it: {why}",
            "a VirtualService with an http route to a Service of its own namespace",
        )


def _placed(facts: Facts, finding: Finding) -> Finding:
    """With the file that the object it is about is from, where there is one."""
    kind, _, name = finding.about.partition(" ")
    namespace, _, plain = name.rpartition("/")
    place = next(
        (
            place
            for (of, where, called), place in facts.places.items()
            if (of, called) == (kind, plain) and namespace in ("", where)
        ),
        None,
    )
    return replace(finding, file=place[0], line=place[1]) if place and not finding.file else finding


def exit_code(found: Sequence[Finding], strict: bool) -> int:
    """0 where nothing is worse than a warning; with `strict`, where nothing is worse than unknown."""
    bad = (Level.PROBLEM, Level.WARNING) if strict else (Level.PROBLEM,)
    return 1 if any(finding.level in bad for finding in found) else 0
