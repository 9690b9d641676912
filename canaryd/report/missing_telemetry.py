"""Why nothing is counted of a rollout's workloads, and what to do about it: in words, from what telemetry has
at all. Nothing here decides.

Who counts requests depends on the mesh: each pod's sidecar (`destination`), its callers' sidecars and
gateways (`source`), in ambient mode the waypoint; ztunnels count connections alone, and so do all of them
where Istio takes a port for TCP.
"""

from canaryd.domain.ports import Presence

REPORTERS = ("destination", "waypoint", "source")  # the best to change to first
_INSTEAD = {
    "destination": "",
    "waypoint": " (the mesh is ambient there)",
    "source": " (then without replicas), or have the pods' own sidecars count: is one injected, and does "
    "Prometheus scrape it?",
}


def describe(presence: Presence, reporter: str, service: str) -> str:
    """One sentence or two; empty where nothing is known, or the reporter that is asked for has counted
    requests."""
    if reporter in presence.reporters:
        return ""
    others = [name for name in REPORTERS if name in presence.reporters]
    if others:
        there = " and ".join(f"reporter={other}" for other in others)
        return (
            f"there are requests with {there}, but the policy asks for {reporter}: set its analysis.reporter "
            f"to {others[0]}{_INSTEAD[others[0]]}"
        )
    if presence.connections:
        return (
            "Istio counts TCP connections to these workloads and no requests, and connections cannot be "
            f"judged. If they carry HTTP or gRPC, say so in the Service {service}: a port named http-... or "
            "grpc-..., or with appProtocol: http, http2 or grpc; in ambient mode only a waypoint counts "
            "requests (analysis.reporter: waypoint). If they do not, abort: canaryd is not for it"
        )
    return ""
