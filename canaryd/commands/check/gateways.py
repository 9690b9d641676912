"""The Gateways that a VirtualService names: are they there, do they take its hosts, and does a proxy serve
them."""

from collections.abc import Iterator, Sequence

from canaryd.commands.check.finding import Finding, as_yaml, many, ok, problem, some, unknown, warning
from canaryd.commands.check.route_agreement import gateway_key, named, virtual_service
from canaryd.domain.check_facts import Facts, Listing, Object, name_of, namespace_of, spec_of
from canaryd.domain.policy.policy import Policy
from canaryd.routing.documents import MESH, Host, hosts_of


def check(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """The findings on the Gateways of a service's VirtualService."""
    route = virtual_service(facts, policy)
    if route is None:
        return
    for name in spec_of(route).get("gateways") or []:
        if name == MESH:
            continue
        namespace, _, plain = gateway_key(str(name), namespace_of(route)).partition("/")
        yield from _gateway(facts, route, str(name), (namespace, plain))


def names(facts: Facts, policy: Policy) -> set[tuple[str, str]]:
    """(namespace, name) of the Gateways of a service's VirtualService."""
    route = virtual_service(facts, policy)
    found = (
        [gateway_key(str(gateway), namespace_of(route)) for gateway in spec_of(route).get("gateways") or []]
        if route
        else []
    )
    return {(gateway.partition("/")[0], gateway.partition("/")[2]) for gateway in found if gateway != MESH}


def _gateway(facts: Facts, route: Object, name: str, key: tuple[str, str]) -> Iterator[Finding]:
    about = f"Gateway {'/'.join(key)}"
    gateway = facts.find("Gateway", *key)
    if gateway is None:
        listing = facts.of("Gateway")
        if listing.problem or facts.offline:
            yield unknown("gateways.there", about, listing.problem or "it is not among the files")
            return
        there = sorted(
            f"{namespace_of(other_gateway)}/{name_of(other_gateway)}" for other_gateway in listing.items
        )
        yield problem(
            "gateways.there",
            about,
            f"{name_of(route)} names it, but it does not exist (Gateways: {some(there)}): its requests "
            "are answered with 404",
            "a Gateway that exists, as NAMESPACE/NAME if it is in another namespace",
            as_yaml({"gateways": [there[0]]}, f"in spec of {named(route)}") if there else "",
        )
        return
    hosts = hosts_of(route, facts.domain)
    taken = [
        server
        for server in spec_of(gateway).get("servers") or []
        if _takes(server, hosts, namespace_of(route), key[0])
    ]
    if not taken:
        offered = sorted(
            {
                str(host)
                for server in spec_of(gateway).get("servers") or []
                for host in server.get("hosts") or []
            }
        )
        wanted = [str(host) for host in spec_of(route).get("hosts") or []]
        yield problem(
            "gateways.hosts",
            about,
            f"it takes {some(offered)}, and {name_of(route)} is for {some(wanted)}",
            "hosts of both",
            as_yaml({"hosts": wanted}, f"in spec.servers of Gateway {key[1]}"),
        )
        return
    protocols = {str((server.get("port") or {}).get("protocol") or "").upper() for server in taken}
    if not protocols & {"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"}:
        yield problem(
            "gateways.hosts",
            about,
            f"its protocol is {some(sorted(protocols))}: http routes are not used",
            "HTTP, HTTP2, HTTPS or GRPC",
        )
        return
    yield from _proxy(facts.pods_of_gateways.get(key), gateway, about)


def _takes(server: Object, hosts: Sequence[Host], of_route: str, of_gateway: str) -> bool:
    """Whether a server of a Gateway and a VirtualService have a host in common; `namespace/host` limits whose
    VirtualServices a server takes. of_route, of_gateway: the namespaces of both."""
    for offered in server.get("hosts") or []:
        allowed, _, written = str(offered).rpartition("/")
        is_allowed = allowed in ("", "*", of_route) or (allowed == "." and of_gateway == of_route)
        # istiod takes the hosts of a Gateway as they are, short ones too.
        taken = Host(written, written, None, None)
        if is_allowed and any(taken.meets(host) for host in hosts):
            return True
    return False


def _proxy(pods: Listing | None, gateway: Object, about: str) -> Iterator[Finding]:
    selector = {str(key): str(value) for key, value in (spec_of(gateway).get("selector") or {}).items()}
    shown = ",".join(f"{key}={value}" for key, value in selector.items())
    if pods is None:
        return
    if pods.problem:
        yield unknown(
            "gateways.proxy", about, f"the pods of its selector {shown} cannot be listed: {pods.problem}"
        )
    elif not pods.items:
        yield warning(
            "gateways.proxy",
            about,
            f"no pod in this cluster has the labels of its selector ({shown}): nothing serves it",
            "the labels of an ingress gateway's pods",
            f"kubectl get pods -A -l {shown}",
        )
    else:
        yield ok(
            "gateways.proxy",
            about,
            f"takes the hosts, and {many(len(pods.items), 'pod')} of {shown} serve it",
        )
