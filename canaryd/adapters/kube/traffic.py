"""The port `Traffic` for every service: each call goes to the adapter for the kind of route that the policy
steers."""

from collections.abc import Collection, Sequence

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.httproute import GatewayApiTraffic
from canaryd.adapters.kube.matched_user_services import SETTLE
from canaryd.adapters.kube.virtualservice import IstioTraffic
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import RouteView, Traffic
from canaryd.domain.rollout import RouteLists


class TrafficByKind:
    """Implements the port `Traffic` by the two adapters that do. domain: see `IstioTraffic`; settle: see
    both."""

    def __init__(self, api: KubernetesApi, domain: str = "cluster.local", settle: float = SETTLE) -> None:
        self._istio, self._gateway_api = IstioTraffic(api, domain, settle), GatewayApiTraffic(api, settle)

    def read(self, policy: Policy) -> RouteView:
        """See `Traffic.read`."""
        return self._of(policy).read(policy)

    def write(self, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
        """See `Traffic.write`."""
        return self._of(policy).write(policy, view, lists)

    def add_subset(self, policy: Policy, version: str) -> str:
        """See `Traffic.add_subset`."""
        return self._of(policy).add_subset(policy, version)

    def restore(self, policy: Policy, view: RouteView, version: str) -> Sequence[str]:
        """See `Traffic.restore`."""
        return self._of(policy).restore(policy, view, version)

    def clean_up(self, policy: Policy, keep: Collection[str]) -> Sequence[str]:
        """See `Traffic.clean_up`."""
        return self._of(policy).clean_up(policy, keep)

    def _of(self, policy: Policy) -> Traffic:
        return self._gateway_api if policy.route.http_route else self._istio
