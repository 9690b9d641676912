"""Two services in two namespaces at once, one with a good version and one with a bad: each gets what it
deserves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canaryd_sandbox.kubernetes.resources import (
    DEPLOYMENTS,
    DESTINATIONRULES,
    NAMESPACES,
    SERVICES,
    VIRTUALSERVICES,
)
from canaryd_sandbox.mesh.mesh import Behaviour, Mesh
from canaryd_sandbox.world import World
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-receivers"), pytest.mark.timeout(480)]
NAME, NAMESPACE = "carts", "staging"


class Both:
    """The samples of two meshes, for one Prometheus."""

    def __init__(self, *meshes: Mesh) -> None:
        self.meshes = meshes

    def samples(self) -> list[Any]:
        return [sample for mesh in self.meshes for sample in mesh.samples()]


def deploy(world: World, version: str, namespace: str = NAMESPACE) -> None:
    labels = {"app": NAME, "version": version}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": NAME, "image": f"{NAME}:{version}"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    world.store.create(DEPLOYMENTS, namespace, {"metadata": {"name": f"{NAME}-{version}"}, "spec": spec})


def carts(world: World, namespace: str = NAMESPACE, virtual_service: str = "sockshop") -> Mesh:
    """The second service: named by short hosts, under the same names of Istio objects in another
    namespace."""
    if namespace == NAMESPACE:
        world.store.create(NAMESPACES, None, {"metadata": {"name": NAMESPACE}})
    route = {"route": [{"destination": {"host": NAME, "subset": "v1"}}]}
    for resource, name, spec in (
        (SERVICES, NAME, {"selector": {"app": NAME}, "ports": [{"port": 80}]}),
        (DESTINATIONRULES, NAME, {"host": NAME, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
        (VIRTUALSERVICES, virtual_service, {"hosts": [NAME], "http": [route]}),
    ):
        world.store.create(resource, namespace, {"metadata": {"name": name}, "spec": spec})
    deploy(world, "v1", namespace)
    mesh = Mesh(world.store, NAME, namespace, rate=100.0, seed=2, drain=2.5)
    world.prometheus._mesh = Both(world.mesh, mesh)  # type: ignore[assignment]
    world.disturb = lambda world, now: mesh.advance(now)
    return mesh


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(tmp_path_factory.mktemp("two"), a_policy((20, 100))) as stand:
        stand.canaryd.policy(NAME, a_policy((20, 100), name=NAME, namespace=NAMESPACE))
        behaviours = carts(stand.world).behaviours
        behaviours |= {"v1": Behaviour(errors=0.0), "v2": Behaviour(errors=0.6), "v3": Behaviour(errors=0.0)}
        eventually(
            "carts serves",
            lambda: any(labels["destination_workload"] == f"{NAME}-v1" for labels in seen(stand.world)),
        )
        stand.begin()
        eventually("both are known", lambda: len(stand.canaryd.logged("service.first_seen")) == 2)
        yield stand


def seen(world: World) -> list[dict[str, str]]:
    return [
        dict(labels) for name, labels, _ in world.prometheus._mesh.samples() if name == "istio_requests_total"
    ]


def test_the_good_one_is_promoted_while_the_bad_one_is_rolled_back(stand: Stand) -> None:
    stand.deploy("v2")
    deploy(stand.world, "v2")
    bad = eventually(
        "carts rolled back",
        lambda: (lambda s: s if s.get("phase") == "RolledBack" else {})(stand.status("v2", 1, NAMESPACE)),
    )
    good = stand.until("v2", "front-end promoted", phase="Succeeded")
    assert (good["service"], bad["service"]) == ("front-end", NAME)
    assert stand.default_route() == all_to("v2")
    theirs = stand.world.store.get(VIRTUALSERVICES, NAMESPACE, "sockshop")["spec"]["http"]
    assert theirs == [{"route": [{"destination": {"host": NAME, "subset": "v1"}}]}]
    shown = stand.canaryd.status("--all")["rollouts"]
    assert {(one["namespace"], one["service"], one["phase"]) for one in shown} == {
        ("production", "front-end", "Succeeded"),
        (NAMESPACE, NAME, "RolledBack"),
    }
    assert not {pod for pod in stand.explained(f"{bad['name']}")["counted"] if pod.startswith("front-end")}


def test_a_query_that_one_service_gets_wrong_leaves_the_other_its_eyes(stand: Stand) -> None:
    # beyond this Prometheus
    wrong = {"query": {"name": "cpu", "promql": 'max(rate(sandbox_cpu{pod=~"$canary_pods"}[1m]))', "max": 1}}
    analysis = {"metrics": [{"errors": {}}, wrong], "noDataFor": "4s"}
    stand.canaryd.policy(NAME, a_policy((20, 100), name=NAME, namespace=NAMESPACE, analysis=analysis))
    eventually("the new policy", lambda: stand.canaryd.logged("policy.changed"))
    deploy(stand.world, "v3")
    eventually("the query is told", lambda: stand.canaryd.logged("query.failed"))
    stand.deploy("v3")
    stand.until("v3", "front-end promoted meanwhile", phase="Succeeded")
    assert stand.status("v3", 1, NAMESPACE)["weight"] == 20
    assert "does not answer the function rate" in stand.canaryd.logged("query.failed")[0]["reason"]
