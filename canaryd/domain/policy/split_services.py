"""The fair comparison of matched users: one half on the canary, the other on stable, told from stable's other
users by the Service called.

Istio's metrics name the workload that served a request and the Service that was called, and not the route
that it came by. So what is matched and split goes to Services of its own, which lead to the same pods: behind
a VirtualService one, with a subset for each version (a copy of the DestinationRule says what else is done on
the way); behind an HTTPRoute one for each half.
"""


def fair_services(service: str, by_gateway_api: bool) -> tuple[str, ...]:
    """The names of the Services that matched users call in such a stage; by the Gateway API stable's and the
    canary's."""
    if by_gateway_api:
        return f"{service}-canaryd-stable", f"{service}-canaryd-canary"
    return (f"{service}-canaryd-match",)
