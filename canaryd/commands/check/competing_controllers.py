"""Who else writes the route: GitOps tools that set it back, and other controllers of canaries."""

from collections.abc import Iterator

from canaryd.commands.check.finding import Finding, as_yaml, ok, problem, some, unknown, warning
from canaryd.commands.check.route_agreement import virtual_service
from canaryd.commands.check.workloads import of_service
from canaryd.domain.check_facts import (
    Facts,
    Object,
    annotations_of,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
)
from canaryd.domain.policy.policy import Policy

ARGO_ID, ARGO_LABEL = "argocd.argoproj.io/tracking-id", "app.kubernetes.io/instance"
FLUX = "kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"
HELM = "meta.helm.sh/release-name"
OWN = "canaryd"  # the API server takes a manager's name from the user agent, as far as the first slash
BY_HAND = ("kubectl", "Mozilla", "curl", "istioctl")


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on who else writes a service's routes."""
    route = virtual_service(facts, policy)
    if route is not None:
        found = [
            *_argo(facts, policy, route),
            *_flux(policy, route),
            *_helm(policy, route),
            *_managers(policy, route),
        ]
        yield from found or [ok("rivals.gitops", _about(route), "no sign of a tool that would set it back")]
    yield from _flagger(facts, policy)
    yield from _rollouts(facts, policy)


def _about(route: Object) -> str:
    return f"VirtualService {namespace_of(route)}/{name_of(route)}"


def _argo(facts: Facts, policy: Policy, route: Object) -> Iterator[Finding]:
    listing = facts.of("Application")
    applications = {name_of(application): application for application in listing.items}
    label, identity = labels_of(route).get(ARGO_LABEL, ""), annotations_of(route).get(ARGO_ID, "")
    # The label alone is Helm's too: it is Argo CD's where an application has this name, or may have.
    name = identity.partition(":")[0] or (label if label in applications or listing.problem else "")
    if not name:
        return
    # an application of another namespace is tracked as namespace_name
    application = applications.get(name.rpartition("_")[2])
    spec = spec_of(application) if application else {}
    if _ignores(spec, policy):
        yield ok(
            "rivals.gitops", _about(route), f"Argo CD's application {name} tracks it, and ignores its weights"
        )
        return
    ignore = as_yaml(
        {
            "ignoreDifferences": [
                {
                    "group": "networking.istio.io",
                    "kind": "VirtualService",
                    "name": name_of(route),
                    "jqPathExpressions": [".spec.http[].route"],
                },
                {
                    "group": "networking.istio.io",
                    "kind": "DestinationRule",
                    "name": policy.route.destination_rule,
                    "jqPathExpressions": [".spec.subsets"],
                },
            ],
            "syncPolicy": {"syncOptions": ["RespectIgnoreDifferences=true"]},
        },
        f"in spec of the Argo CD Application {name}",
    )
    automated = (spec.get("syncPolicy") or {}).get("automated")
    heals = isinstance(automated, dict) and automated.get("selfHeal")
    if heals:
        yield problem(
            "rivals.gitops",
            _about(route),
            f"Argo CD's application {name} heals itself: it would set canaryd's weights back",
            "weights that Argo CD leaves alone, also when it syncs",
            ignore,
        )
    else:
        how = "which cannot be read from here"
        if application:
            how = (
                "which syncs automatically on each commit"
                if isinstance(automated, dict)
                else "which syncs on request"
            )
        yield warning(
            "rivals.gitops",
            _about(route),
            f"Argo CD's application {name}, {how}, tracks it: a sync in mid-rollout sets the weights back",
            "weights that Argo CD leaves alone",
            ignore,
        )


def _ignores(spec: Object, policy: Policy) -> bool:
    """Whether an Application leaves the http routes of the VirtualService alone, in comparing and in
    syncing."""
    options = (spec.get("syncPolicy") or {}).get("syncOptions") or []
    for difference in spec.get("ignoreDifferences") or []:
        paths = [*(difference.get("jqPathExpressions") or []), *(difference.get("jsonPointers") or [])]
        if (
            difference.get("kind") in ("VirtualService", "*")
            and difference.get("name") in (None, policy.route.virtual_service)
            and any(str(path).startswith((".spec.http", "/spec/http")) for path in paths)
        ):
            return "RespectIgnoreDifferences=true" in options
    return False


def _flux(policy: Policy, route: Object) -> Iterator[Finding]:
    for key in FLUX:
        name = labels_of(route).get(key)
        if not name:
            continue
        kind = "Kustomization" if key.startswith("kustomize") else "HelmRelease"
        annotations = {**annotations_of(route)}
        if kind == "Kustomization":
            if annotations.get("kustomize.toolkit.fluxcd.io/reconcile") == "disabled" or annotations.get(
                "kustomize.toolkit.fluxcd.io/ssa"
            ) in ("IfNotPresent", "Ignore"):
                yield ok(
                    "rivals.gitops", _about(route), f"Flux' Kustomization {name} made it, and leaves it alone"
                )
            else:
                yield problem(
                    "rivals.gitops",
                    _about(route),
                    f"Flux' Kustomization {name} applies it again at each reconciliation, "
                    "including its weights",
                    "an object that Flux makes once and then leaves alone",
                    as_yaml(
                        {"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}}},
                        f"in the manifest of {_about(route)} in Git",
                    ),
                )
        else:
            yield warning(
                "rivals.gitops",
                _about(route),
                f"Flux' HelmRelease {name} made it: an upgrade, or drift detection where it is enabled, "
                "sets the weights back",
                "weights that Flux leaves alone",
                as_yaml(
                    {
                        "driftDetection": {
                            "ignore": [
                                {
                                    "paths": ["/spec/http"],
                                    "target": {"kind": "VirtualService", "name": name_of(route)},
                                }
                            ]
                        }
                    },
                    f"in spec of the HelmRelease {name}, where it has driftDetection; no upgrade in "
                    "mid-rollout",
                ),
            )


def _helm(policy: Policy, route: Object) -> Iterator[Finding]:
    release = annotations_of(route).get(HELM)
    if release and not any(labels_of(route).get(key) for key in FLUX):
        yield warning(
            "rivals.gitops",
            _about(route),
            f"it is of the Helm release {release}: an upgrade of it may set the weights back",
            "no upgrade of it in mid-rollout, or the VirtualService outside the release",
            as_yaml(
                {"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}},
                "on the VirtualService, before it is taken out of the release",
            ),
        )


def _managers(policy: Policy, route: Object) -> Iterator[Finding]:
    """Who wrote the http routes, by the API server's own book."""
    managers = sorted(
        {
            str(entry.get("manager"))
            for entry in (route.get("metadata") or {}).get("managedFields") or []
            if "f:http" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        }
    )
    others = [manager for manager in managers if manager != OWN and not manager.startswith(BY_HAND)]
    if (
        others
        and not any(annotations_of(route).get(key) for key in (ARGO_ID, HELM))
        and not any(labels_of(route).get(key) for key in FLUX)
    ):
        yield warning(
            "rivals.managers",
            _about(route),
            f"its routes were written by {some(others)}: a controller that writes them again?",
            "canaryd alone on spec.http",
            f"kubectl -n {namespace_of(route)} get virtualservice {name_of(route)} -o yaml "
            "--show-managed-fields",
        )


def _flagger(facts: Facts, policy: Policy) -> Iterator[Finding]:
    names = {policy.service.name, *(name_of(deployment) for deployment in of_service(facts, policy))}
    for canary in facts.within("Canary", policy.service.namespace):
        target = str((spec_of(canary).get("targetRef") or {}).get("name") or "")
        service = str((spec_of(canary).get("service") or {}).get("name") or target)
        if service in names or target in names:
            yield problem(
                "rivals.flagger",
                f"Canary {namespace_of(canary)}/{name_of(canary)}",
                f"Flagger steers {service} too",
                "one of the two",
                f"kubectl -n {namespace_of(canary)} delete canary {name_of(canary)}   # it restores nothing, "
                "but with revertOnDeletion",
            )
    if facts.of("Canary").problem:
        yield unknown("rivals.flagger", "Flagger", facts.of("Canary").problem)


def _rollouts(facts: Facts, policy: Policy) -> Iterator[Finding]:
    for rollout in facts.within("Rollout", policy.service.namespace):
        routing = ((spec_of(rollout).get("strategy") or {}).get("canary") or {}).get("trafficRouting") or {}
        istio = routing.get("istio") or {}
        named = [istio.get("virtualService") or {}, *(istio.get("virtualServices") or [])]
        routes = {str(route.get("name") or "") for route in named}
        steered = ""
        if policy.route.virtual_service in routes:
            steered = f"VirtualService {policy.route.virtual_service}"
        elif policy.route.destination_rule == (istio.get("destinationRule") or {}).get("name"):
            steered = f"DestinationRule {policy.route.destination_rule}"
        if steered:
            yield problem(
                "rivals.argoRollouts",
                f"Rollout {namespace_of(rollout)}/{name_of(rollout)}",
                f"Argo Rollouts steers {steered} too",
                "one of the two",
                f"kubectl -n {namespace_of(rollout)} edit rollout {name_of(rollout)}   # take "
                "strategy.canary.trafficRouting out",
            )
    if facts.of("Rollout").problem:
        yield unknown("rivals.argoRollouts", "Argo Rollouts", facts.of("Rollout").problem)
