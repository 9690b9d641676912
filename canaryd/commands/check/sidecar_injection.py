"""Is the service in the mesh: the namespace's labels, the revision they name, and what its pods really
have."""

from collections.abc import Iterator, Mapping

from canaryd.commands.check.control_plane import control_planes, revision
from canaryd.commands.check.finding import Finding, as_yaml, ok, problem, some, unknown, warning
from canaryd.domain.check_facts import Facts, Object, annotations_of, labels_of, name_of, spec_of, template_of
from canaryd.domain.policy.policy import Policy

INJECTION, REVISION, MODE, WAYPOINT = (
    "istio-injection",
    "istio.io/rev",
    "istio.io/dataplane-mode",
    "istio.io/use-waypoint",
)
PROXY, REDIRECTED, INJECT = "istio-proxy", "ambient.istio.io/redirection", "sidecar.istio.io/inject"
LOOK = "kubectl get mutatingwebhookconfigurations -l app=sidecar-injector --show-labels"


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on whether a service's pods are in the mesh, and whether new ones will be."""
    name = policy.service.namespace
    namespace = facts.find("Namespace", "", name)
    if namespace is None:
        why = facts.of("Namespace").problem
        yield (
            unknown("injection.namespace", f"namespace {name}", f"it cannot be read: {why}")
            if why
            else problem(
                "injection.namespace",
                f"namespace {name}",
                "it does not exist",
                "the namespace of the policy's service",
                f"kubectl create namespace {name}",
            )
        )
        if not why:
            return
    labels = labels_of(namespace) if namespace else {}
    if _is_ambient(labels):
        yield from _ambient(facts, policy, labels)
    elif namespace:
        yield from _labels(facts, name, labels)
    yield from _pods(facts, policy, labels)


def injects(labels: Mapping[str, str]) -> bool:
    """Whether a namespace with these labels gets sidecars; istio-injection goes before istio.io/rev."""
    return labels.get(INJECTION) == "enabled" or (INJECTION not in labels and bool(labels.get(REVISION)))


def _is_ambient(labels: Mapping[str, str]) -> bool:
    return labels.get(MODE) == "ambient"


def _labels(facts: Facts, name: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    about, switch, rev = f"namespace {name}", labels.get(INJECTION), labels.get(REVISION)
    shown = ", ".join(f"{key}={labels[key]}" for key in (INJECTION, REVISION) if key in labels)
    wanted = f"{INJECTION}=enabled, or {REVISION} with a revision that is there"
    if switch and rev:
        yield warning(
            "injection.label",
            about,
            f"{shown}: {INJECTION} wins, {REVISION} is ignored",
            "one of the two",
            f"kubectl label namespace {name} {INJECTION}-",
        )
    elif switch == "enabled":
        yield from _default(facts, about, shown)
    elif switch:
        yield problem(
            "injection.label",
            about,
            f"{shown}: no pod gets a sidecar",
            wanted,
            f"kubectl label namespace {name} {INJECTION}=enabled --overwrite",
        )
    elif rev:
        yield from _revision(facts, name, rev)
    else:
        yield problem(
            "injection.label",
            about,
            "it has neither label",
            wanted,
            f"kubectl label namespace {name} {INJECTION}=enabled",
        )


def _known(facts: Facts) -> set[str]:
    """Revisions and tags that inject, by the webhooks, which are what injects."""
    hooks = facts.of("MutatingWebhookConfiguration").items
    found = {
        str(labels_of(hook)[key])
        for hook in hooks
        for key in (REVISION, "istio.io/tag")
        if labels_of(hook).get(key)
    }
    return found or {revision(control_plane) for control_plane in control_planes(facts)}


def _is_half_seen(facts: Facts) -> bool:
    """Whether there may be tags that are not seen: istiod's Deployments name revisions alone."""
    return bool(facts.of("MutatingWebhookConfiguration").problem)


def _default(facts: Facts, about: str, shown: str) -> Iterator[Finding]:
    known = _known(facts)
    if "default" not in known and _is_half_seen(facts):
        yield unknown(
            "injection.label",
            about,
            f"{shown}; whether a default revision or tag is there cannot be seen from here",
            "",
            LOOK,
        )
    elif known and "default" not in known:
        yield problem(
            "injection.label",
            about,
            f"{shown}, but no revision or tag is `default` (there: {some(sorted(known))})",
            f"a default tag, or the label {REVISION}",
            f"istioctl tag set default --revision {min(known)}",
        )
    else:
        yield ok("injection.label", about, shown)


def _revision(facts: Facts, name: str, rev: str) -> Iterator[Finding]:
    known, about = _known(facts), f"namespace {name}"
    if not known or (rev not in known and _is_half_seen(facts)):
        yield unknown(
            "injection.label",
            about,
            f"{REVISION}={rev}; which revisions and tags there are cannot be seen from here",
            "",
            LOOK,
        )
    elif rev not in known:
        yield problem(
            "injection.label",
            about,
            f"{REVISION}={rev}, which is no revision or tag here (there: {some(sorted(known))})",
            "one that is there",
            f"kubectl label namespace {name} {REVISION}={min(known)} --overwrite",
        )
    else:
        yield ok("injection.label", about, f"{REVISION}={rev}")


def _ambient(facts: Facts, policy: Policy, labels: Mapping[str, str]) -> Iterator[Finding]:
    service = facts.find("Service", policy.service.namespace, policy.service.name)
    waypoint = (labels_of(service) if service else {}).get(WAYPOINT) or labels.get(WAYPOINT)
    about, name = f"namespace {policy.service.namespace}", policy.service.namespace
    if injects(labels):
        yield warning(
            "injection.label",
            about,
            f"{MODE}=ambient and sidecars both: a pod with a sidecar keeps it",
            "one of the two",
            f"kubectl label namespace {name} {INJECTION}- {REVISION}-",
        )
    if not waypoint or waypoint == "none":
        yield problem(
            "injection.ambient",
            about,
            "ambient without a waypoint: ztunnel counts connections, not requests, and no "
            "VirtualService is applied",
            f"a waypoint (label {WAYPOINT}), or sidecars",
            f"istioctl waypoint apply -n {name} --enroll-namespace",
        )
    elif policy.analysis.reporter == "destination":
        yield warning(
            "injection.ambient",
            about,
            f"ambient, with the waypoint {waypoint}, and pods without a proxy count nothing",
            "the waypoint's counts, or those of callers with a proxy of their own (source); Istio calls "
            "VirtualServices at a waypoint alpha",
            as_yaml({"analysis": {"reporter": "waypoint"}}, "in the policy"),
        )
    else:
        yield ok(
            "injection.ambient",
            about,
            f"ambient, with the waypoint {waypoint}; the policy has reporter {policy.analysis.reporter}",
        )


def _pods(facts: Facts, policy: Policy, labels: Mapping[str, str]) -> Iterator[Finding]:
    pods, about = _of(facts, policy), f"pods of {policy.service.name}"
    if facts.of("Pod").problem:
        yield unknown("injection.pods", about, f"they cannot be listed: {facts.of('Pod').problem}")
        return
    bare = [pod for pod in pods if not in_mesh(pod)]
    if not pods:
        yield unknown(
            "injection.pods", about, "there are none now, so whether they get sidecars is not known"
        )
    elif not bare:
        by_hand = (
            ""
            if injects(labels) or _is_ambient(labels)
            else "; the namespace is not labelled, so each new version needs it too"
        )
        kinds = sorted({_kind(pod) for pod in pods})
        found = f"{'it has' if len(pods) == 1 else f'all {len(pods)} have'} {' or '.join(kinds)}{by_hand}"
        yield ok("injection.pods", about, found)
    else:
        yield from _bare(facts, policy, bare, len(pods), injects(labels) or _is_ambient(labels))


def _bare(facts: Facts, policy: Policy, bare: list[Object], of: int, switched_on: bool) -> Iterator[Finding]:
    about, namespace = f"pods of {policy.service.name}", policy.service.namespace
    refusing = [
        pod for pod in bare if (labels_of(pod).get(INJECT) or annotations_of(pod).get(INJECT)) == "false"
    ]
    found = f"{len(bare)} of {of} have no sidecar: {some([name_of(pod) for pod in bare])}"
    if refusing:
        yield problem(
            "injection.pods",
            about,
            f"{found} ({INJECT}=false)",
            "a sidecar in each, or Istio neither steers nor counts them",
            f"# take {INJECT} off the pod template of {some(_deployments(facts, policy, refusing))}",
        )
        return
    restart = [
        f"kubectl -n {namespace} rollout restart deployment {name}"
        for name in _deployments(facts, policy, bare)
    ]
    first = [] if switched_on else [f"kubectl label namespace {namespace} {INJECTION}=enabled"]
    why = " (made before injection was switched on?)" if switched_on else ""
    yield problem(
        "injection.pods",
        about,
        found + why,
        "a sidecar in each, or Istio neither steers nor counts them",
        "\n".join([*first, *restart]),
    )


def _of(facts: Facts, policy: Policy) -> list[Object]:
    selector = policy.service.selector.items()
    return [
        pod
        for pod in facts.within("Pod", policy.service.namespace)
        if selector <= dict(labels_of(pod)).items()
        and not (pod.get("metadata") or {}).get("deletionTimestamp")
    ]


def _deployments(facts: Facts, policy: Policy, pods: list[Object]) -> list[str]:
    """Names of the Deployments whose template these pods are of, by labels."""
    found = []
    for deployment in facts.within("Deployment", policy.service.namespace):
        wanted = dict(labels_of(template_of(deployment))).items()
        if wanted and any(wanted <= dict(labels_of(pod)).items() for pod in pods):
            found.append(name_of(deployment))
    return found or ["NAME"]


def in_mesh(pod: Object) -> bool:
    """A sidecar, as a container or a native one, or ztunnel's redirection."""
    return bool(_kind(pod))


def _kind(pod: Object) -> str:
    if annotations_of(pod).get(REDIRECTED) == "enabled":
        return "ztunnel (ambient)"
    spec = spec_of(pod)
    names = [
        container.get("name") for key in ("containers", "initContainers") for container in spec.get(key) or []
    ]
    return "a sidecar" if PROXY in names else ""
