"""What people's own rights must let them do, command by command: `canaryd` on a terminal acts with the
caller's kubeconfig, never with the daemon's account."""

from collections.abc import Sequence
from dataclasses import replace

from canaryd.domain.check_facts import Right
from canaryd.domain.policy.policy import Policy

CANARYD, ISTIO, GATEWAY_API = "canaryd.dev", "networking.istio.io", "gateway.networking.k8s.io"
_COPIES = "deploy (copies of stable's autoscaler and disruption budget)"
_EXPOSED = "deploy (whether a route keeps requests from the new pods)"
_REFERENCES = "deploy (whether what pods name is there)"

Needs = Sequence[tuple[str, str, str, bool, str]]
"""Group, resource, verb, whether in all namespaces, and for what."""

EVERYONE: Needs = (
    (CANARYD, "canaryrollouts", "list", True, "status, explain, reset"),
    (CANARYD, "canaryrollouts", "patch", False, "hold, resume, approve, abort, promote, retry"),
    (CANARYD, "canaryrollouts", "create", False, "start"),
    (CANARYD, "canaryrollouts", "delete", False, "abort and start (earlier requests), reset"),
    ("", "configmaps", "list", True, "status, start, pause, reset"),
    ("", "configmaps", "patch", False, "pause, reset"),
    ("apps", "deployments", "list", False, "start, deploy, reset"),
    ("apps", "deployments", "create", False, "deploy, or applying a new version"),
    ("apps", "deployments", "patch", False, "applying a new version"),
    ("apps", "deployments", "get", False, "deploy --wait"),
    ("", "services", "list", False, "deploy, reset"),
    ("", "services", "create", False, "deploy (of a first version)"),
    ("autoscaling", "horizontalpodautoscalers", "list", False, _COPIES),
    ("autoscaling", "horizontalpodautoscalers", "create", False, _COPIES),
    ("policy", "poddisruptionbudgets", "list", False, _COPIES),
    ("policy", "poddisruptionbudgets", "create", False, _COPIES),
    ("", "configmaps", "get", False, _REFERENCES),
    ("", "secrets", "get", False, _REFERENCES),
    ("", "serviceaccounts", "get", False, _REFERENCES),
    ("", "persistentvolumeclaims", "get", False, _REFERENCES),
    ("", "configmaps", "create", False, "deploy --copy-config"),
)
BY_ISTIO: Needs = (
    (ISTIO, "virtualservices", "get", False, "check, reset"),
    (ISTIO, "destinationrules", "get", False, "check, reset"),
    (ISTIO, "virtualservices", "list", False, _EXPOSED),
    (ISTIO, "destinationrules", "list", False, f"{_EXPOSED}, reset"),
    (ISTIO, "virtualservices", "list", True, "reset"),
    (ISTIO, "virtualservices", "patch", False, "reset"),
    (ISTIO, "destinationrules", "patch", False, "reset"),
)
BY_GATEWAY_API: Needs = (
    (GATEWAY_API, "httproutes", "get", False, "check, reset"),
    (GATEWAY_API, "httproutes", "list", False, _EXPOSED),
    (GATEWAY_API, "httproutes", "list", True, "reset"),
    (GATEWAY_API, "httproutes", "patch", False, "reset"),
    ("", "services", "delete", False, "reset"),
)
BY_SPLIT: Needs = (
    ("", "services", "delete", False, "reset"),
    (ISTIO, "destinationrules", "delete", False, "reset"),
)
# In the namespace that versions are taken from.
SOURCE: Needs = (
    ("apps", "deployments", "list", False, "deploy"),
    ("", "services", "list", False, "deploy"),
    ("", "pods", "list", False, "deploy --pin-digest"),
    ("", "configmaps", "get", False, "deploy --copy-config"),
)


def of_people(policies: Sequence[Policy], source: str = "") -> list[Right]:
    """All that people need for every command: in each namespace with a policy, by the kinds of route that are
    steered there. source: where `canaryd deploy` takes versions from; "" where there is no such namespace."""
    found: dict[Right, list[str]] = {}
    for place in sorted({policy.service.namespace for policy in policies}) or [""]:
        here = [policy for policy in policies if policy.service.namespace == place]
        _add(found, EVERYONE, place)
        _add(
            found, BY_ISTIO if not here or any(policy.route.virtual_service for policy in here) else (), place
        )
        _add(found, BY_GATEWAY_API if any(policy.route.http_route for policy in here) else (), place)
        _add(
            found,
            BY_SPLIT if any(policy.fair_services and policy.route.virtual_service for policy in here) else (),
            place,
        )
    _add(found, SOURCE if source else (), source)
    return [replace(right, why=", ".join(dict.fromkeys(why))) for right, why in found.items()]


def _add(found: dict[Right, list[str]], needs: Needs, place: str) -> None:
    for group, resource, verb, everywhere, why in needs:
        found.setdefault(Right(group, resource, verb, "" if everywhere else place), []).append(why)
