"""The Service and its Deployments: are there requests to count, are versions told apart, and are there
replicas to compare."""

from collections.abc import Iterator, Mapping
from typing import Any

from canaryd.commands.check.finding import Finding, as_yaml, ok, problem, some, unknown, warning
from canaryd.domain.check_facts import Facts, Object, annotations_of, labels_of, name_of, spec_of, template_of
from canaryd.domain.policy.policy import Policy

COUNTED = ("http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss")
UNCOUNTED = ("tcp", "tls", "https", "mongo", "mysql", "redis", "udp")
IGNORE = "canaryd.dev/ignore"
NAMES_OF_APP = (
    "service.istio.io/canonical-name",
    "app.kubernetes.io/name",
    "app",
)  # as Istio looks for the canonical service


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on a policy's Service and Deployments."""
    yield from _service(facts, policy)
    yield from _deployments(facts, policy)


def protocol(port: Mapping[str, Any]) -> str:
    """What Istio takes a Service's port for: appProtocol, else the name up to its first dash; "" where it has
    to guess."""
    written = str(port.get("appProtocol") or "").lower()
    if written:
        return written
    name = str(port.get("name") or "").lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return "grpc-web"
    prefix = name.partition("-")[0]
    return prefix if prefix in (*COUNTED, *UNCOUNTED) else "udp" if str(port.get("protocol")) == "UDP" else ""


def of_service(facts: Facts, policy: Policy) -> list[Object]:
    """The Deployments with the policy's selector on their template, with a version label or not."""
    selector = policy.service.selector.items()
    return [
        deployment
        for deployment in facts.within("Deployment", policy.service.namespace)
        if selector <= dict(labels_of(template_of(deployment))).items()
    ]


# ---------------------------------------------------------------- the Service


def _service(facts: Facts, policy: Policy) -> Iterator[Finding]:
    name, namespace = policy.service.name, policy.service.namespace
    about, listing = f"Service {namespace}/{name}", facts.of("Service")
    service = facts.find("Service", namespace, name)
    if service is None:
        if listing.problem or facts.offline:
            yield unknown("workloads.service", about, listing.problem or "it is not among the files")
            return
        there = sorted(name_of(service) for service in facts.within("Service", namespace))
        yield problem(
            "workloads.service",
            about,
            f"it does not exist (in {namespace}: {some(there)})",
            "the Service that the policy names",
            as_yaml(
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {
                        "selector": dict(policy.service.selector),
                        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                    },
                }
            ),
        )
        return
    yield from _ports(service, about)
    yield from _selector(facts, policy, service, about)


def _ports(service: Object, about: str) -> Iterator[Finding]:
    ports = spec_of(service).get("ports") or []
    kinds = {str(port.get("name") or port.get("port")): protocol(port) for port in ports}
    counted = [f"{port} ({kind})" for port, kind in kinds.items() if kind in COUNTED]
    guessed = [port for port, kind in kinds.items() if kind not in (*COUNTED, *UNCOUNTED)]
    others = [f"{port} ({kind})" for port, kind in kinds.items() if kind in UNCOUNTED]
    first = ports[0] if ports else {"port": 80}
    named = as_yaml(
        {
            "ports": [
                {
                    "name": "http",
                    **{key: value for key, value in first.items() if key not in ("name", "nodePort")},
                    "appProtocol": "http",
                }
            ]
        },
        f"in spec of Service {name_of(service)}, if it does speak HTTP",
    )
    if counted:
        yield ok("workloads.protocol", about, f"speaks HTTP or gRPC on {some(counted)}")
    elif guessed:
        yield warning(
            "workloads.protocol",
            about,
            f"port {some(guessed)} names no protocol, so Istio guesses it from the first bytes",
            "a name such as http, http-web or grpc, or appProtocol",
            named,
        )
    else:
        yield problem(
            "workloads.protocol",
            about,
            f"{some(others)}: Istio counts connections there, not requests, so canaryd has nothing to "
            "compare and cannot judge this service",
            "a port that Istio knows to be HTTP or gRPC",
            named,
        )


def _selector(facts: Facts, policy: Policy, service: Object, about: str) -> Iterator[Finding]:
    selector = dict(spec_of(service).get("selector") or {})
    label = policy.service.version_label
    if label in selector:
        yield problem(
            "workloads.selector",
            about,
            f"its selector has {label}={selector[label]}: pods of another version get no request",
            f"a selector without {label}; subsets distinguish versions",
            f"kubectl -n {policy.service.namespace} patch service {name_of(service)} --type json "
            f'-p \'[{{"op": "remove", "path": "/spec/selector/{label}"}}]\'',
        )
        return
    outside = [
        name_of(deployment)
        for deployment in of_service(facts, policy)
        if not selector.items() <= dict(labels_of(template_of(deployment))).items()
    ]
    if outside:
        shown = ", ".join(f"{key}={value}" for key, value in selector.items())
        yield problem(
            "workloads.selector",
            about,
            f"its selector ({shown}) leaves out the pods of {some(outside)}",
            "a selector that takes the pods of all versions",
            as_yaml({"selector": dict(policy.service.selector)}, f"in spec of Service {name_of(service)}"),
        )


# ---------------------------------------------------------------- the Deployments


def _deployments(facts: Facts, policy: Policy) -> Iterator[Finding]:
    namespace, label = policy.service.namespace, policy.service.version_label
    about, listing = f"Deployments of {policy.service.name}", facts.of("Deployment")
    found = of_service(facts, policy)
    shown = ",".join(f"{key}={value}" for key, value in policy.service.selector.items())
    if listing.problem:
        yield unknown("workloads.versions", about, f"they cannot be listed: {listing.problem}")
        return
    if not found:
        if facts.offline:
            yield unknown("workloads.versions", about, "none is among the files")
            return
        there = sorted(name_of(deployment) for deployment in facts.within("Deployment", namespace))
        yield problem(
            "workloads.versions",
            about,
            f"no pod template in {namespace} has the policy's selector {shown} (there: {some(there)})",
            "a Deployment for each version",
            f"kubectl -n {namespace} get deployments -o wide",
        )
        return
    yield from _versions(policy, found, label)
    for deployment in found:
        yield from _deployment(facts, policy, deployment)


def _versions(policy: Policy, found: list[Object], label: str) -> Iterator[Finding]:
    about = f"Deployments of {policy.service.name}"
    of: dict[str, list[str]] = {}
    for deployment in found:
        of.setdefault(labels_of(template_of(deployment)).get(label, ""), []).append(name_of(deployment))
    for name in of.pop("", []):
        yield problem(
            "workloads.versions",
            f"Deployment {name}",
            f"its pod template has no label {label}: canaryd does not see it, and no subset can select it",
            f"{label}: a word for this version, such as v2",
            as_yaml(
                {"template": {"metadata": {"labels": {label: _guess(name)}}}}, f"in spec of Deployment {name}"
            ),
        )
    doubled = {version: names for version, names in of.items() if len(names) > 1}
    for version, names in doubled.items():
        yield problem(
            "workloads.versions",
            about,
            f"{' and '.join(names)} both have {label}={version}",
            "one Deployment for each version",
            as_yaml(
                {"template": {"metadata": {"labels": {label: _guess(names[-1])}}}},
                f"in spec of Deployment {names[-1]}",
            ),
        )
    if of and not doubled:
        shown = [f"{version} ({names[0]})" for version, names in sorted(of.items())]
        yield ok("workloads.versions", about, some(shown))


def _guess(name: str) -> str:
    """The version that a Deployment's name ends with; v1 where it has no dash."""
    return name.rpartition("-")[2] if "-" in name else "v1"


def _deployment(facts: Facts, policy: Policy, deployment: Object) -> Iterator[Finding]:
    name, template = name_of(deployment), template_of(deployment)
    about, namespace = f"Deployment {name}", policy.service.namespace
    if annotations_of(deployment).get(IGNORE) == "true":
        yield ok("workloads.ignored", about, f"{IGNORE}: canaryd leaves it alone")
        return
    replicas = spec_of(deployment).get("replicas", 1)
    if replicas == 1:
        yield warning(
            "workloads.replicas",
            about,
            "1 replica: a slow node cannot be told from a slow version, so a larger difference is put down "
            "to chance",
            "2 or more",
            f"kubectl -n {namespace} scale deployment {name} --replicas=2",
        )
    containers = [
        container
        for container in spec_of(template).get("containers") or []
        if container.get("name") != "istio-proxy"
    ]
    unprobed = [str(container.get("name")) for container in containers if not container.get("readinessProbe")]
    if unprobed:
        yield warning(
            "workloads.probes",
            about,
            f"container {some(unprobed)} has no readinessProbe: it is available as soon as it runs",
            "a probe, so that no request goes to a pod that cannot answer",
            as_yaml(
                {
                    "readinessProbe": {
                        "httpGet": {"path": "/", "port": _port(containers[0])},
                        "periodSeconds": 5,
                    }
                },
                f"in container {unprobed[0]} of Deployment {name}",
            ),
        )
    unmeasured = [
        str(container.get("name"))
        for container in containers
        if not (container.get("resources") or {}).get("requests")
    ]
    if unmeasured:
        yield warning(
            "workloads.resources",
            about,
            f"container {some(unmeasured)} requests no resources: versions may differ by their neighbours",
            "requests of cpu and memory, the same for each version",
            as_yaml(
                {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
                f"in container {unmeasured[0]} of Deployment {name}; as much as it needs",
            ),
        )
    if not any(labels_of(template).get(label) for label in NAMES_OF_APP):
        yield warning(
            "workloads.app",
            about,
            "its pod template has none of the labels app, app.kubernetes.io/name, "
            "service.istio.io/canonical-name",
            "one of them: Istio names the service in its telemetry by it",
            as_yaml(
                {"template": {"metadata": {"labels": {"app": policy.service.name}}}},
                f"in spec of Deployment {name}",
            ),
        )


def _port(container: Mapping[str, Any]) -> int:
    return int(
        next(
            (port["containerPort"] for port in container.get("ports") or [] if "containerPort" in port), 8080
        )
    )
