"""`check`: gathers facts of a cluster or of manifests, and prints what the checks find in them. Changes
nothing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from canaryd.adapters import manifest_files
from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.cluster_facts import ClusterFacts
from canaryd.adapters.kube.virtualservice import view_of
from canaryd.adapters.policies.policy_files import load
from canaryd.adapters.prometheus.telemetry_facts import PrometheusFacts
from canaryd.app import telemetry_access
from canaryd.cli import output
from canaryd.cli.cluster import connection_options
from canaryd.cli.group import Failure
from canaryd.commands.check import gateways
from canaryd.commands.check.all_checks import exit_code, findings
from canaryd.commands.check.daemon_rbac import of_daemon
from canaryd.commands.check.offline_facts import facts_of
from canaryd.commands.check.text import as_data, show
from canaryd.commands.check.user_rbac import of_people
from canaryd.commands.check.workloads import of_service
from canaryd.domain.check_facts import (
    DAEMON,
    Facts,
    Listing,
    Rights,
    TelemetryFacts,
    name_of,
    namespace_of,
    spec_of,
    template_of,
)
from canaryd.domain.namespace_objects import USUAL_SOURCE
from canaryd.domain.namespaced_name import NamespacedName
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.ports import Rejected, RouteView
from canaryd.settings import Settings, load_settings

USUAL_CONFIG = Path("config/canaryd.yaml")
EXAMPLE = """
\b
Examples:
  canaryd check front-end --policies policies/ --prometheus http://127.0.0.1:9090
  canaryd check --strict -o json            # in CI: warnings count as problems
  canaryd check --as canaryd/canaryd -q     # the permissions of the daemon's account; only what is not ok
  canaryd check -f istio/*.yaml             # manifest files, without a cluster
"""


@click.command(epilog=EXAMPLE)
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE...",
    help="Manifest files, or directories of them, to check without a cluster.",
)
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    help="A policy file, or a directory of them. Default: `policies` of the settings.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="CANARYD_CONFIG",
    show_envvar=True,
    help="The daemon's settings. Default: config/canaryd.yaml, if it exists.",
)
@click.option(
    "--prometheus",
    metavar="URL",
    envvar="CANARYD_PROMETHEUS",
    show_envvar=True,
    help="The address of Prometheus. Default: prometheus.url of the settings.",
)
@click.option(
    "--as",
    "account",
    metavar="ACCOUNT",
    help="The daemon's service account, as NAMESPACE/NAME. Default: that of its Deployment.",
)
@click.option(
    "--deploy-from",
    metavar="NAMESPACE",
    help="The namespace that `canaryd deploy` takes versions from; your rights there are checked. "
    f"Default: {USUAL_SOURCE}, if it exists.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 also on warnings.")
@click.option("-q", "--quiet", is_flag=True, help="Show only what is not ok.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@connection_options
def check(
    services: tuple[str, ...],
    files: tuple[Path, ...],
    policies: Path | None,
    config: Path | None,
    prometheus: str | None,
    account: str | None,
    deploy_from: str | None,
    strict: bool,
    quiet: bool,
    form: str,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Check whether canaryd will work here: before the first release, and in CI before each release.

    Looks at Istio and its version, sidecars, VirtualService, DestinationRule and Gateway, Deployments, the
    request counts in Prometheus, permissions, and other tools that write the route's weights. Each problem is
    reported with the command or the YAML that fixes it. Changes nothing.

    Exit codes: 0 no problem; 1 a problem (with --strict also a warning); 2 wrong usage; 3 the API server did
    not answer.
    """
    if files:
        facts = of_files(services, files, policies, namespace)
    else:
        settings = settings_of(config, prometheus)
        chosen = chosen_policies(policies, settings, services, namespace)
        facts = of_cluster(chosen, settings, account, deploy_from, kubeconfig, context)
    found = findings(facts)
    code = exit_code(found, strict)
    if form == "json":
        output.as_json(as_data(facts, found, code))
    else:
        show(facts, found, quiet)
    if code:
        raise click.exceptions.Exit(code)


# ---------------------------------------------------------------- what is meant


def settings_of(config: Path | None, prometheus: str | None) -> Settings | None:
    """The daemon's settings; None where there are none, and then Prometheus is not asked.
    Raises Failure where the file given does not exist."""
    if config is not None and not config.exists():
        raise Failure(f"{config}: cannot be read: No such file or directory")
    path = config or (USUAL_CONFIG if USUAL_CONFIG.exists() else None)
    return load_settings(path, prometheus) if path or prometheus else None


def chosen_policies(
    path: Path | None, settings: Settings | None, services: Sequence[str], namespace: str | None
) -> list[Policy]:
    """The policies of the services; of all services where none is named, and none where there is no directory
    of policies. Raises InvalidPolicy with all mistakes, Failure for an unknown service."""
    usual = Path(settings.policies) if settings else Path("policies")
    if path is None and not usual.is_dir():
        if services:
            raise Failure(
                f"{', '.join(services)}: a policy was wanted, but there is no directory {usual}; say where "
                "with --policies"
            )
        return []
    loaded = load(path or usual)
    if loaded.problems:
        raise InvalidPolicy(loaded.problems)
    found = [policy for policy in loaded.policies if namespace is None or namespace in dict(policy.keys)]
    known = [name for policy in found for _, name in policy.keys]
    if unknown := [name for name in services if name not in known]:
        raise Failure(
            f"no policy is of the service {', '.join(unknown)} (there are policies of: "
            f"{', '.join(known) or 'none'})"
        )
    # Of a bracket each service alone, and with one of them all: they are rolled out together.
    return [
        policy.among({key})
        for policy in found
        if not services or {name for _, name in policy.keys} & {*services}
        for key in policy.keys
    ]


# ---------------------------------------------------------------- files


def of_files(
    services: Sequence[str], files: Sequence[Path], policies: Path | None, namespace: str | None
) -> Facts:
    """What files say. A shell gives `-f *.yaml` as one file of the option and more arguments, so these may be
    files too."""
    more = [
        Path(service)
        for service in services
        if Path(service).is_file() and Path(service).suffix in (".yaml", ".yml")
    ]
    names = [service for service in services if Path(service) not in more]
    chosen = chosen_policies(policies, None, names, namespace) if policies else []
    facts = facts_of(manifest_files.read([*files, *more]), chosen, namespace, "cluster.local")
    wanted = {*names, *(policy.service.name for policy in chosen if names)}
    meant = [policy for policy in facts.policies if not names or policy.service.name in wanted]
    views = {policy.key: view for policy in meant if (view := offline_view(facts, policy)) is not None}
    left_out = () if names else facts.left_out
    return replace(facts, policies=tuple(meant), routes=views, left_out=left_out)


def offline_view(facts: Facts, policy: Policy) -> RouteView | str | None:
    """As the daemon would read these objects; None where one of them is not among the files."""
    if policy.route.http_route:
        return None
    place = policy.service.namespace
    route = facts.find("VirtualService", place, policy.route.virtual_service)
    rule = facts.find("DestinationRule", place, policy.route.destination_rule)
    if route is None or rule is None:
        return None
    try:
        return view_of(policy, dict(route), dict(rule), facts.domain)
    except Rejected as refusal:
        return str(refusal)


# ---------------------------------------------------------------- a cluster


def of_cluster(
    policies: Sequence[Policy],
    settings: Settings | None,
    account: str | None,
    deploy_from: str | None,
    kubeconfig: str | None,
    context: str | None,
) -> Facts:
    """All that is asked of an API server and of Prometheus. Raises Unavailable where the former does not
    answer."""
    known = settings.kubernetes if settings else None
    path = kubeconfig or (str(known.kubeconfig) if known and known.kubeconfig else None)
    domain = known.cluster_domain if known else "cluster.local"
    api = KubernetesApi(path, context or (known.context if known else None))
    survey = ClusterFacts(api, domain)
    before = time.time()
    version, server_clock, after = api.version(), survey.clock(), time.time()
    # The moment of the exchange that is nearest to what the server says: an answer takes its time, and HTTP
    # dates are whole seconds.
    here = after if server_clock is None else min(max(server_clock, before - 1), after)
    groups = survey.groups()
    places = list(dict.fromkeys(policy.service.namespace for policy in policies))
    routes = {policy.key: view for policy in policies if (view := survey.route(policy)) is not None}
    of_istio = {
        policy.key: routes[policy.key]
        for policy in policies
        if policy.route.virtual_service and policy.key in routes
    }
    kinds = with_routes(survey.kinds(groups, places, everywhere=not policies), of_istio)
    facts = Facts(
        tuple(policies),
        kinds,
        groups,
        routes,
        domain=domain,
        server=api.server,
        server_version=version,
        here=here,
        server_clock=server_clock,
    )
    named = {key for policy in policies for key in gateways.names(facts, policy)}
    proxies = survey.pods_of(
        gateway for gateway in facts.of("Gateway").items if (namespace_of(gateway), name_of(gateway)) in named
    )
    return replace(
        facts,
        pods_of_gateways=proxies,
        rights=rights_of(survey, facts, account, deploy_from, api.namespace),
        telemetry=telemetry_of(facts, settings),
    )


def with_routes(
    kinds: dict[str, Listing], routes: Mapping[NamespacedName, RouteView | str]
) -> dict[str, Listing]:
    """With the VirtualServices that may be read one by one where they may not be listed, as with the daemon's
    own rights."""
    listing = kinds.get("VirtualService", Listing())
    there = {(namespace_of(obj), name_of(obj)) for obj in listing.items}
    found = [
        {**view.raw, "kind": "VirtualService"} for view in routes.values() if isinstance(view, RouteView)
    ]
    more = [route for route in found if (namespace_of(route), name_of(route)) not in there]
    return {**kinds, "VirtualService": replace(listing, items=(*listing.items, *more))} if more else kinds


def rights_of(
    survey: ClusterFacts, facts: Facts, account: str | None, deploy_from: str | None, namespace: str
) -> list[Rights]:
    """The permissions of the caller, and those of the daemon's account where that is known.

    account: the daemon's as given; deploy_from: the namespace that `canaryd deploy` takes versions from;
    namespace: the one that an account without a namespace is in.
    """
    source = deploy_from or (USUAL_SOURCE if survey.has_namespace(USUAL_SOURCE) else "")
    found = [survey.caller(of_people(facts.policies, source))]
    who = full_account(account, namespace) if account else deployed_account(facts)
    if not who:
        return found
    by_gateway_api, split = (
        any(answers)
        for answers in (
            [policy.route.http_route for policy in facts.policies],
            [policy.fair_services for policy in facts.policies],
        )
    )
    places = [policy.service.namespace for policy in facts.policies]
    return [*found, survey.account(who, of_daemon(places, by_gateway_api, split))]


def full_account(account: str, namespace: str) -> str:
    """`canaryd/canaryd` as RBAC names it; what has a colon is a name of RBAC's already."""
    if ":" in account:
        return account
    place, _, name = account.rpartition("/")
    return f"system:serviceaccount:{place or namespace}:{name}"


def deployed_account(facts: Facts) -> str:
    """Of the Deployment that the chart makes; "" where there is none."""
    for deployment in facts.of(DAEMON).items:
        name = spec_of(template_of(deployment)).get("serviceAccountName") or "default"
        return f"system:serviceaccount:{namespace_of(deployment)}:{name}"
    return ""


def telemetry_of(facts: Facts, settings: Settings | None) -> TelemetryFacts | None:
    """What Prometheus has of the services; None where its address is not known."""
    if settings is None:
        return None
    survey = PrometheusFacts(telemetry_access(settings))
    try:
        with_workloads = [
            (policy, [name_of(deployment) for deployment in of_service(facts, policy)])
            for policy in facts.policies
        ]
        return survey.look(with_workloads, time.time())
    finally:
        survey.close()
