"""Without a policy: which services could have one, and what the shortest would be."""

from collections.abc import Iterator
from typing import Any

from canaryd.commands.check.finding import Finding, as_yaml, ok, some
from canaryd.commands.check.route_agreement import leads_to, rules_for
from canaryd.commands.check.workloads import COUNTED, protocol
from canaryd.domain.check_facts import Facts, Object, labels_of, name_of, namespace_of, spec_of, template_of

LABEL = "version"


def check(facts: Facts) -> Iterator[Finding]:
    """The findings on the cluster's services, with the shortest policy of each that could have one."""
    found = [finding for service in facts.of("Service").items if (finding := _candidate(facts, service))]
    yield from found
    if not found:
        yield ok(
            "candidates.service",
            "services",
            "none has HTTP or gRPC ports, a VirtualService, and Deployments with a version label",
        )


def _candidate(facts: Facts, service: Object) -> Finding | None:
    selector = dict(spec_of(service).get("selector") or {})
    namespace, name = namespace_of(service), name_of(service)
    templates = [
        dict(labels_of(template_of(deployment))) for deployment in facts.within("Deployment", namespace)
    ]
    versions = sorted(
        {
            labels[LABEL]
            for labels in templates
            if selector and selector.items() <= labels.items() and labels.get(LABEL)
        }
    )
    if not versions or not any(protocol(port) in COUNTED for port in spec_of(service).get("ports") or []):
        return None
    service_key = (namespace, name)
    routes = [
        name_of(route)
        for route in facts.within("VirtualService", namespace)
        if leads_to(facts, route, service_key)
    ]
    if not routes:
        return None
    rules = [name_of(rule) for rule in rules_for(facts, service_key) if namespace_of(rule) == namespace]
    return ok(
        "candidates.service",
        f"{namespace}/{name}",
        f"could have a policy: versions {some(versions)}, by VirtualService {routes[0]}\n"
        + as_yaml(shortest(namespace, name, selector, routes[0], rules[0] if rules else name)),
    )


def shortest(
    namespace: str, name: str, selector: dict[str, str], virtual_service: str, destination_rule: str
) -> dict[str, Any]:
    """The shortest policy of a service, as its file has it."""
    route = {
        "virtualService": virtual_service,
        **({"destinationRule": destination_rule} if destination_rule != name else {}),
    }
    return {
        "service": {"name": name, "namespace": namespace, "selector": selector},
        "route": route,
        "stages": [{"weight": weight} for weight in (10, 25, 50, 100)],
    }
