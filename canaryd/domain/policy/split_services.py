"""Names of the extra Services that make the comparison of matched users fair: one half of them is on the
canary, the other half on stable, and the Service that was called tells that half from stable's other users.

Istio's metrics name the workload that served a request and the Service that was called, but not the route
that the request took. So matched and split requests go to Services of their own, which lead to the same pods.
Behind a VirtualService there is one such Service, with a subset for each version (a copy of the
DestinationRule keeps its other rules in force). Behind an HTTPRoute there is one for each half.
"""


def fair_services(service: str, by_gateway_api: bool) -> tuple[str, ...]:
    """The names of the Services that matched users call in a stage with `split`; with the Gateway API,
    stable's and then the canary's."""
    if by_gateway_api:
        return f"{service}-canaryd-stable", f"{service}-canaryd-canary"
    return (f"{service}-canaryd-match",)
