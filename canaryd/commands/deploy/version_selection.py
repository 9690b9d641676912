"""Which Deployment of a namespace is meant: the version that runs where it comes from, and the stable one
where it goes."""

import re
from collections.abc import Sequence

from canaryd.domain.namespace_objects import (
    CannotDeploy,
    Deployed,
    DeploymentSelector,
    NamespaceObjects,
    RecordedRollout,
    name_of,
)
from canaryd.domain.ports import Workload
from canaryd.routing.exposure import receivers


def deployment_selector(
    service: str, source: NamespaceObjects, target: NamespaceObjects, asked: DeploymentSelector | None
) -> DeploymentSelector:
    """How the service's Deployments are found: as the policy says (asked), as canaryd has noted, or as the
    Service selects. Raises CannotDeploy."""
    known = asked or target.notes.get(service)
    if known is not None:
        return known
    label = DeploymentSelector({}).version_label
    for place in (target, source):
        if (own := place.service(service)) is not None:
            selector = {
                key: value
                for key, value in ((own.get("spec") or {}).get("selector") or {}).items()
                if key != label
            }
            if selector:
                return DeploymentSelector(selector, label)
            raise CannotDeploy(
                f"Service {place.namespace}/{service} selects no pods by labels other than {label}: say in a "
                "policy (--policies) which labels its Deployments have"
            )
    there = ", ".join(name_of(known_service) for known_service in source.services) or "none"
    raise CannotDeploy(
        f"there is no Service {service} in {source.namespace} or {target.namespace} (in {source.namespace} "
        f"there are: {there}), and no policy that says which labels its Deployments have (--policies)"
    )


def running(
    service: str, place: NamespaceObjects, found_by: DeploymentSelector, named: str = "", force: bool = False
) -> Deployed:
    """The Deployment whose version runs in `place`. named: its name, where someone said it; force: also one
    that is not available.

    Raises CannotDeploy when there is none, when several are and no route tells which is meant, or when it
    does not serve.
    """
    found = _of_service(service, place, found_by)
    if named:
        chosen = _named(named, service, place, found)
    else:
        live = [deployment for deployment in found if deployment.state.desired > 0] or found
        chosen = _only(service, place, live)
    problem = not_serving(chosen.state)
    if problem and not force:
        raise CannotDeploy(
            f"{chosen.name} in {place.namespace} {problem}; wait until it serves, or deploy it anyway with "
            "--force"
        )
    return chosen


def _of_service(service: str, place: NamespaceObjects, found_by: DeploymentSelector) -> list[Deployed]:
    found = place.selected(found_by.selector)
    # its pods may be labelled otherwise than where they go
    if not found and (own := place.service(service)) is not None:
        found = place.selected((own.get("spec") or {}).get("selector") or {})
    if not found:
        labels = ",".join(f"{key}={value}" for key, value in found_by.selector.items())
        there = ", ".join(deployment.name for deployment in place.deployments) or "none"
        raise CannotDeploy(
            f"no Deployment of {service} runs in {place.namespace}: wanted one whose pods have {labels}, or "
            f"those that Service {service} selects; Deployments there: {there}"
        )
    return found


def _named(named: str, service: str, place: NamespaceObjects, found: Sequence[Deployed]) -> Deployed:
    chosen = next((deployment for deployment in found if deployment.name == named), None)
    if chosen is None:
        raise CannotDeploy(
            f"{named} is no Deployment of {service} in {place.namespace}; these are: "
            f"{', '.join(deployment.name for deployment in found)}"
        )
    return chosen


def _only(service: str, place: NamespaceObjects, live: list[Deployed]) -> Deployed:
    if len(live) == 1:
        return live[0]
    served = receivers(place, service, live)
    if len(served) == 1:
        return served[0]
    candidates = "; ".join(f"{deployment.name} ({standing(deployment.state)})" for deployment in live)
    raise CannotDeploy(
        f"{len(live)} Deployments of {service} run in {place.namespace}, and no route there sends all "
        f"requests to one of them: {candidates}; choose one with --deployment NAME"
    )


def not_serving(state: Workload) -> str:
    """Why a Deployment is not a version that runs, as the end of a sentence; "" when it is."""
    if state.available:
        return ""
    if not state.desired:
        return "is scaled to 0"
    if state.failed:
        return f"does not become available: {state.failed}"
    return (
        f"is not available, or in the middle of a rolling update ({state.ready} of {state.desired} replicas "
        "are ready)"
    )


def standing(state: Workload) -> str:
    """`3 replicas, available`."""
    return (
        f"{state.desired} replica{'s' * (state.desired != 1)}, "
        f"{'available' if state.available else 'not available'}"
    )


def stable(
    service: str, place: NamespaceObjects, found: Sequence[Deployed], under_way: RecordedRollout | None
) -> Deployed | None:
    """The Deployment that a new version stands beside; None when there is none. Raises CannotDeploy when it
    cannot be told."""
    if not found:
        return None
    if under_way is not None and under_way.stable_workload:
        recorded = next(
            (deployment for deployment in found if deployment.name == under_way.stable_workload), None
        )
        if recorded is not None:
            return recorded
    live = [deployment for deployment in found if deployment.state.desired > 0]
    if len(live) <= 1:
        return live[0] if live else max(found, key=lambda idle: idle.state.created)
    served = receivers(place, service, live)
    if len(served) == 1:
        return served[0]
    raise CannotDeploy(
        f"it is not clear which version of {service} is stable in {place.namespace}: "
        f"{', '.join(deployment.name for deployment in live)} all have replicas, and no route sends all "
        "requests to one of them; route to one, or scale the others to 0"
    )


def next_version(service: str, place: NamespaceObjects, found: Sequence[Deployed], label: str) -> str:
    """The next free `vN`: after those of its Deployments, of names SERVICE-vN, and of the rollouts on record,
    whose names telemetry knows. Raises CannotDeploy when versions there are not numbered so."""
    labelled = {deployment.labels.get(label, "") for deployment in found} - {""}
    named = {
        deployment.name.removeprefix(f"{service}-")
        for deployment in place.deployments
        if deployment.name.startswith(f"{service}-")
    }
    recorded = {rollout.canary for rollout in place.rollouts if rollout.service == service}
    numbers = [
        int(match[1]) for known in labelled | named | recorded if (match := re.fullmatch(r"v(\d+)", known))
    ]
    if labelled and not any(re.fullmatch(r"v\d+", known) for known in labelled):
        raise CannotDeploy(
            f"name the version: those of {service} in {place.namespace} are not numbered v1, v2 "
            f"({', '.join(sorted(labelled))}); for example: canaryd deploy {service} VERSION"
        )
    return f"v{max(numbers, default=0) + 1}"


def services(place: NamespaceObjects) -> tuple[list[str], list[str]]:
    """The Services of a namespace that have Deployments, by name; and, in words, those that are left out.

    A Deployment that several Services select is of the one whose name its own begins with, so that a headless
    twin, or a Service over many, is no service of its own.
    """
    selected = {
        name_of(service): place.selected((service.get("spec") or {}).get("selector") or {})
        for service in place.services
    }
    owners = {
        deployment.name: _owner(
            deployment.name, [name for name, found in selected.items() if deployment in found]
        )
        for deployment in place.deployments
    }
    taken = [name for name in sorted(selected) if name in owners.values()]
    left_out = []
    for name in sorted(selected.keys() - set(taken)):
        others = sorted({owners[deployment.name] for deployment in selected[name]})
        left_out.append(
            f"{name} selects the Deployments of {', '.join(others)}"
            if others
            else f"{name} has no Deployment"
        )
    return taken, left_out


def _owner(deployment: str, candidates: Sequence[str]) -> str:
    """ "" for none."""
    named = [name for name in candidates if deployment == name or deployment.startswith(f"{name}-")]
    return max(named, key=len) if named else min(candidates, default="")
