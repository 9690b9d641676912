"""Plans the reset of a service: reads the cluster and decides what to write. Writes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from canaryd.adapters.kube.cleanup import KubeCleanup, ListedRollout, Patch
from canaryd.adapters.kube.deployments import KubeWorkloads
from canaryd.adapters.kube.service_notes import ServiceNote
from canaryd.cli.cluster import Cluster
from canaryd.cli.group import Failure
from canaryd.control.supervisor import key_of, to_scale
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Forbidden, Rejected, RouteView, Workload
from canaryd.routing import restored_routes, route_lists
from canaryd.routing.route_lists import Refusal

Name = tuple[str, str]
"""Namespace and service."""


@dataclass(frozen=True)
class ResetOptions:
    """to: the version asked for, or ""; everything: all marks and records go too, and what cannot be read is
    no reason to stop."""

    to: str = ""
    abort: bool = False
    keep_records: bool = False
    everything: bool = False


@dataclass(frozen=True)
class Reset:
    """One call of the command. aborted: rollouts (by uid) that were, each once, whichever of its services
    comes first."""

    cluster: Cluster
    cleanup: KubeCleanup
    policies: Sequence[Policy]
    options: ResetOptions
    aborted: set[str] = field(default_factory=set)


@dataclass
class ResetPlan:
    """The reset of one service. version: the one that keeps all traffic, "" where the routes stay as they
    are; patches: the writes, in their order; renewed: the service's note, and the templates that are not new
    from now on; under_way: rollouts to abort first; messages: sentences for the user."""

    namespace: str
    service: str
    version: str = ""
    patches: list[Patch] = field(default_factory=list)
    renewed: tuple[ServiceNote, frozenset[str]] | None = None
    under_way: list[ListedRollout] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`NAMESPACE/SERVICE`."""
        return f"{self.namespace}/{self.service}"

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.patches or self.renewed or self.under_way)

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        kinds = [patch.kind for patch in self.patches]
        records = kinds.count("CanaryRollout")
        done = (
            [f"all traffic on {self.version}"]
            if {"VirtualService", "HTTPRoute"} & {*kinds} and self.version
            else []
        )
        done += (
            ["subsets removed"]
            if any(patch.kind == "DestinationRule" and patch.operations for patch in self.patches)
            else []
        )
        done += ["Services removed"] if "Service" in kinds else []
        done += [f"{records} record{'s' * (records > 1)} removed"] if records else []
        done += ["what runs now is known"] if self.renewed else []
        return ", ".join(done) or "nothing to do"


def is_forbidden(error: Exception) -> bool:
    """Whether the API server refused for want of a right."""
    return ": 403: " in str(error)


def services(work: Reset, service: str | None) -> list[Name]:
    """The services that are meant. Raises Failure, naming what there is, for one that is not there."""
    cluster = work.cluster
    there = {(note.namespace, note.service) for note in cluster.notes()}
    there |= {
        key
        for record in work.cleanup.records()
        if record.service
        for key in record.keys
        if cluster.namespace in (None, key[0])
    }
    there |= {key for policy in work.policies for key in policy.keys if cluster.namespace in (None, key[0])}
    if service is None:
        return sorted(there)
    found = sorted(key for key in there if key[1] == service)
    if not found:
        known = ", ".join("/".join(key) for key in sorted(there)) or "none"
        raise Failure(
            f"canaryd has nothing of a service {service} (it has of: {known}); with --policies, its policy "
            "says where it is"
        )
    if len(found) > 1:
        raise Failure(
            f"{service} is in several namespaces ({', '.join(namespace for namespace, _ in found)}): say "
            "which with --namespace"
        )
    return found


def due(work: Reset, namespace: str, service: str, to: str = "", despite: bool = False) -> ResetPlan:
    """The plan of a reset, by what the cluster has now.

    to: overrides the option; despite: also while a rollout is under way, as if all were back on its stable.
    Raises Refusal and Rejected.
    """
    options = work.options
    # A bracket's record may be in another namespace, its first service's.
    mine = [record for record in work.cleanup.records() if (namespace, service) in record.keys]
    note = next((note for note in work.cluster.services.notes(namespace) if note.service == service), None)
    plan = ResetPlan(namespace, service, under_way=[record for record in mine if not record.finished])
    if plan.under_way and not despite:
        first = plan.under_way[0]
        raise Refusal(
            f"{first.name} is {first.phase or 'asked for'}; abort it with --abort, or wait until it has ended"
        )
    active = next((record for record in plan.under_way if record.phase), None)
    policy = _policy(work, (namespace, service), note, mine)
    with _continuing(plan, options, "its routes stay as they are"):
        if policy is None:
            raise Refusal(
                "canaryd has not noted where its routes are (an earlier release did not do so): give its "
                "policy with --policies"
            )
        _reroute(work, plan, policy, to or options.to, active)
    with _continuing(plan, options, "its subsets stay as they are"):
        if policy is not None:
            _unsubset(work, plan, policy)
            known = (policy, *(record.rollout.policy for record in mine if record.rollout is not None))
            _unsplit(work, plan, policy, any(known_policy.fair_services for known_policy in known))
    if not options.keep_records and not options.everything:  # with everything, they go with all else
        _forget(
            work,
            plan,
            note,
            policy,
            [record for record in mine if record.finished and record.keys[0] == (namespace, service)],
        )
    return plan


def _policy(
    work: Reset, name: Name, note: ServiceNote | None, mine: Sequence[ListedRollout]
) -> Policy | None:
    """What says where the routes are: a rollout's under way, a file's, what is noted, or the latest
    record's."""
    rollouts = sorted(
        (record.rollout for record in mine if record.rollout is not None),
        key=lambda rollout: (not rollout.phase.ended, rollout.began),
    )
    if rollouts and not rollouts[-1].phase.ended:
        return rollouts[-1].policy.among({name})
    of_file = next((policy.among({name}) for policy in work.policies if name in policy.keys), None)
    noted = note.policy() if note is not None else None
    return of_file or noted or (rollouts[-1].policy.among({name}) if rollouts else None)


@contextmanager
def _continuing(plan: ResetPlan, options: ResetOptions, what: str) -> Iterator[None]:
    """With `everything`, says what cannot be done within and why, and goes on; a right that is missing stops
    it all the same."""
    try:
        yield
    except (Refusal, Rejected) as error:
        if not options.everything or is_forbidden(error):
            raise
        plan.messages.append(f"{what}: {error}")


def _reroute(work: Reset, plan: ResetPlan, policy: Policy, to: str, active: ListedRollout | None) -> None:
    """Routes to one version, and none of canaryd's own."""
    view = work.cleanup.view(policy)
    if policy.mode == "observe" and not to:
        plan.messages.append(
            "its routes stay as they are: its policy only observes (mode); --to changes them anyway"
        )
    else:
        stable = ""
        if active is not None:
            stable = active.stable if active.rollout is None else active.rollout.service_of(policy.key).stable
        try:
            plan.version = restored_routes.kept_version(view, to, stable)
        except Refusal as error:
            if not work.options.everything:
                raise
            plan.messages.append(f"its weights stay as they are: {error}")
    patches = work.cleanup.routes(policy, view, plan.version)
    workloads = KubeWorkloads(work.cluster.api).list(policy)
    if patches and plan.version:
        _check_serves(policy, workloads, plan.version)
    plan.patches += patches
    plan.messages += _idle(policy, view, workloads, work.cleanup.uses(policy, patches))


def _unsubset(work: Reset, plan: ResetPlan, policy: Policy) -> None:
    """Without the subsets that canaryd added, or the Services that it made, and no route names after that."""
    patches, sentences = work.cleanup.subsets(policy, work.cleanup.uses(policy, plan.patches))
    plan.patches += patches
    plan.messages += sentences


def _unsplit(work: Reset, plan: ResetPlan, policy: Policy, is_known: bool) -> None:
    """Without what was made for matched users, found by its mark: with the record may have gone all that says
    there was any, for a note knows no stages. is_known: that a policy of the service splits them; else
    whoever may not look is told so, and nothing more."""
    if policy.route.http_route:
        return  # there they are among the Services that no route names
    try:
        plan.patches += work.cleanup.split(policy)
    except Forbidden as error:
        if is_known:
            raise
        plan.messages.append(
            "what an earlier policy with `split` may have left (a Service, a DestinationRule) is not looked "
            f"for: {error}"
        )


def _check_serves(policy: Policy, workloads: Sequence[Workload], version: str) -> None:
    """Raises Refusal where the version could not take the traffic."""
    found = [workload for workload in workloads if workload.version == version]
    if not any(workload.ready for workload in found):
        named = (
            " and ".join(workload.name for workload in found)
            or f"no Deployment with the pod label {policy.service.version_label}={version}"
        )
        raise Refusal(
            f"{version} cannot take the traffic: it has no ready replica ({named}); scale it up, or choose "
            "another with --to"
        )


def _idle(policy: Policy, view: RouteView, workloads: Sequence[Workload], used: dict[str, str]) -> list[str]:
    """The Deployments that no route names any more, and how to delete them."""
    if "" in used:  # a route without a subset goes to the pods of all versions
        return []
    reached = {view.subsets[subset] for subset in used if subset in view.subsets}
    idle = [workload for workload in workloads if workload.version not in reached]
    sentences = [
        f"no route sends anything to {workload.name} ({workload.version}, {workload.desired} "
        f"replica{'s' * (workload.desired != 1)}); to delete it: kubectl -n {policy.service.namespace} "
        f"delete deployment {workload.name}"
        for workload in idle
    ]
    unsteered = route_lists.unsteered(view)
    return [*sentences, *([unsteered] if idle and unsteered else [])]


def _forget(
    work: Reset,
    plan: ResetPlan,
    note: ServiceNote | None,
    policy: Policy | None,
    finished: Sequence[ListedRollout],
) -> None:
    """Finished records, and what is kept of the service: what runs now is known from now on, and nothing
    else."""
    for kept in finished:
        plan.patches.append(work.cleanup.record(kept))
        due_to_scale = (
            to_scale(kept.rollout, service)
            for service in (kept.rollout.services if kept.rollout is not None else ())
            if kept.rollout is not None and not service.scaled
        )
        for name, replicas in ((name, replicas) for name, _, replicas, _ in due_to_scale if name):
            plan.messages.append(
                f"with the record {kept.name} is lost that {name} was still to be scaled to {replicas}"
            )
    if note is None or policy is None:
        return
    there = KubeWorkloads(work.cluster.api).list(policy)
    templates = frozenset(key_of(workload) for workload in there)
    if templates == note.known:
        return
    plan.renewed = note, templates
    plan.messages += [
        f"{workload.name} is not new any more; to roll it out: canaryd start {plan.service} "
        f"{workload.version}"
        for workload in there
        if key_of(workload) not in note.known and workload.version != plan.version and not workload.ignored
    ]
