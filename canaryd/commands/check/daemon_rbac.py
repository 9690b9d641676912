"""Whether RBAC lets the daemon's account do what it must, and users what their commands need (user_rbac.py);
and whether the CRD is installed."""

from collections.abc import Iterable, Iterator, Sequence

from canaryd.commands.check.finding import Finding, as_yaml, ok, problem, some, unknown, warning
from canaryd.commands.check.user_rbac import CANARYD, GATEWAY_API, ISTIO
from canaryd.domain.check_facts import Facts, Object, Right, Rights, spec_of

VERSION = "v1alpha1"  # of CanaryRollout, as this canaryd writes it
WISHES = ("hold", "abort", "promote", "approvedStage")  # what the verbs write

BY_GATEWAY_API: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = (
    (GATEWAY_API, ("httproutes",), ("get", "list", "patch")),
    ("", ("services",), ("list", "create", "delete")),
)
BY_SPLIT: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = (
    (ISTIO, ("destinationrules",), ("create", "delete")),
    ("", ("services",), ("list", "create", "delete")),
)
# Exactly what charts/canaryd/templates/rbac.yaml grants; a test compares them.
DAEMON: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = (
    (CANARYD, ("canaryrollouts",), ("get", "list", "create", "delete")),
    (CANARYD, ("canaryrollouts/status",), ("update", "patch")),
    (ISTIO, ("virtualservices", "destinationrules"), ("get", "patch")),
    *BY_GATEWAY_API,
    *BY_SPLIT,
    ("apps", ("deployments",), ("get", "list")),
    ("apps", ("deployments/scale",), ("patch",)),
    ("", ("configmaps",), ("get", "create", "patch")),
    ("events.k8s.io", ("events",), ("create",)),
)


def of_daemon(namespaces: Iterable[str], http_routes: bool = False, split: bool = False) -> list[Right]:
    """All that the daemon's account needs, in each namespace with a policy; records are listed in all
    namespaces. http_routes: whether a policy steers one; split: whether one splits matched requests."""
    places = sorted(set(namespaces)) or [""]
    everywhere = [Right(CANARYD, "canaryrollouts", "list")]
    needed = [right for right in DAEMON if right not in (*BY_GATEWAY_API, *BY_SPLIT)]
    needed += [*(BY_GATEWAY_API if http_routes else ()), *(BY_SPLIT if split else ())]
    rights = [
        Right(group, resource, verb, place)
        for place in places
        for group, resources, verbs in needed
        for resource in resources
        for verb in verbs
    ]
    return everywhere + list(dict.fromkeys(rights))


def check(facts: Facts) -> Iterator[Finding]:
    """The findings on the CRD, the daemon's account and the caller's own permissions."""
    yield from _definition(facts)
    for rights in facts.rights:
        yield from _account(rights) if rights.who else _caller(rights)
    if not any(rights.who for rights in facts.rights):
        yield unknown(
            "rights.account",
            "canaryd's account",
            "there is no Deployment of canaryd that tells which account it has",
            "--as NAMESPACE/NAME of the ServiceAccount that it will have",
        )


def _definition(facts: Facts) -> Iterator[Finding]:
    about, versions = "CRD canaryrollouts.canaryd.dev", facts.groups.get(CANARYD)
    apply = "kubectl apply --server-side -f charts/canaryd/crds/"
    if versions is None:
        yield problem(
            "rights.crd",
            about,
            "it is not installed, so canaryd cannot store its records",
            f"{VERSION} of it",
            apply,
        )
    elif VERSION not in versions:
        yield problem(
            "rights.crd",
            about,
            f"it has {some(list(versions))}",
            f"{VERSION}, as this canaryd writes it",
            apply,
        )
    else:
        listing = facts.of("CustomResourceDefinition")
        missing = [name for crd in listing.items for name in _unknown_fields(crd)]
        if missing:
            yield problem(
                "rights.crd",
                about,
                f"it is of another canaryd: {some(missing)} would be dropped",
                "the CRD of this canaryd",
                apply,
            )
        else:
            yield ok("rights.crd", about, f"installed, {VERSION}")


def _unknown_fields(crd: Object) -> list[str]:
    """What a record must hold and this definition would not keep."""
    for version in spec_of(crd).get("versions") or []:
        if version.get("name") == VERSION:
            properties = ((version.get("schema") or {}).get("openAPIV3Schema") or {}).get("properties") or {}
            wishes = (properties.get("spec") or {}).get("properties") or {}
            lacking = [f"spec.{name}" for name in WISHES if name not in wishes]
            return lacking + (
                [] if "status" in (version.get("subresources") or {}) else ["the status subresource"]
            )
    return []


def _caller(rights: Rights) -> Iterator[Finding]:
    about = "your rights"
    if rights.problem:
        yield unknown(
            "rights.caller", about, f"they cannot be asked: {rights.problem}", "", "kubectl auth can-i --list"
        )
        return
    lacking: dict[str, list[Right]] = {}
    for right, may in rights.may.items():
        if not may:
            lacking.setdefault(right.why, []).append(right)
    for purpose, refused in lacking.items():
        yield warning(
            "rights.caller",
            about,
            f"you may not {some([_described(right) for right in refused], 4)}",
            f"for: {purpose}",
            "\n".join(_can_i(right) for right in refused),
        )
    if not lacking:
        yield ok("rights.caller", about, "all permissions that the commands need")


def _account(rights: Rights) -> Iterator[Finding]:
    about = f"account {rights.who}"
    if rights.problem:
        yield unknown(
            "rights.account",
            about,
            f"its permissions cannot be asked: {rights.problem}",
            "an answer to this, for each right",
            _can_i(Right(ISTIO, "virtualservices", "patch", _place(rights)), rights.who),
        )
        return
    lacking = [right for right, may in rights.may.items() if not may]
    if not lacking:
        yield ok("rights.account", about, f"has all {len(rights.may)} rights that the chart grants")
        return
    yield problem(
        "rights.account",
        about,
        f"it may not {some([_described(right) for right in lacking], 4)}",
        "what the chart's ClusterRole grants",
        f"# {_can_i(lacking[0], rights.who)}\n{_role(rights.who, lacking)}",
    )


def _place(rights: Rights) -> str:
    return next((right.namespace for right in rights.may if right.namespace), "")


def _described(right: Right) -> str:
    return f"{right.verb} {_qualified(right)}" + (
        f" in {right.namespace}" if right.namespace else " in all namespaces"
    )


def _qualified(right: Right) -> str:
    resource, _, part = right.resource.partition("/")
    return (f"{resource}.{right.group}" if right.group else resource) + (f"/{part}" if part else "")


def _can_i(right: Right, who: str = "") -> str:
    where = f"-n {right.namespace}" if right.namespace else "-A"
    resource, _, part = right.resource.partition("/")
    return (
        f"kubectl auth can-i {right.verb} {resource}{'.' + right.group if right.group else ''}"
        + (f" --subresource {part}" if part else "")
        + f" {where}"
        + (f" --as {who}" if who else "")
    )


def _role(who: str, lacking: Sequence[Right]) -> str:
    """A ClusterRole and its binding that add what is lacking."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in lacking:
        found = verbs.setdefault((right.group, right.resource), [])
        found += [right.verb] if right.verb not in found else []
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": verb}
        for (group, resource), verb in verbs.items()
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "canaryd-lacking"},
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "canaryd-lacking"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "canaryd-lacking",
        },
        "subjects": [_subject(who)],
    }
    return f"{as_yaml(role)}\n---\n{as_yaml(binding)}"


def _subject(who: str) -> dict[str, str]:
    parts = who.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return {"kind": "ServiceAccount", "name": parts[3], "namespace": parts[2]}
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": who}
