"""What was tested together in staging goes to production together: one `canaryd deploy --all`, one rollout of
all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, NAMESPACES, SERVICES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Behaviour
from tests.commands.deploy.two_namespaces import a_deployment, a_service
from tests.scenarios.test_two_services import NAME, carts, seen
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-bracket"), pytest.mark.timeout(480)]
PLACE = "production"
MEMBER = {
    "service": {"name": NAME, "namespace": PLACE, "selector": {"app": NAME}},
    "route": {"virtualService": NAME},
}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    policy = a_policy((20, 100), bracket={"gather": "10m", "members": [MEMBER]})
    with a_stand(tmp_path_factory.mktemp("bracket"), policy) as stand:
        versions = {version: Behaviour(errors=0.0) for version in ("v1", "v2")}
        carts(stand.world, PLACE, NAME).behaviours |= versions
        stand.world.mesh.behaviours |= versions
        stand.world.store.create(NAMESPACES, None, {"metadata": {"name": "staging"}})
        for service in ("front-end", NAME):
            labels = {"app": service}
            made = a_deployment(service, image=f"sockshop/{service}:0.6.0", replicas=1, labels=labels)
            for resource, obj in ((SERVICES, a_service(service, "staging", labels)), (DEPLOYMENTS, made)):
                stand.world.store.create(
                    resource, "staging", {"metadata": {"name": service}, "spec": obj["spec"]}
                )
        eventually(
            "carts serves",
            lambda: any(labels["destination_workload"] == f"{NAME}-v1" for labels in seen(stand.world)),
        )
        stand.begin()
        eventually("both are known", lambda: len(stand.canaryd.logged("service.first_seen")) == 2)
        yield stand


def test_all_of_staging_is_deployed_and_goes_up_as_one_rollout(stand: Stand) -> None:
    all_of_it = ("deploy", "--all", "--policies", str(stand.canaryd.policies))
    eventually(
        "it runs in staging",
        lambda: "not available" not in stand.canaryd.cli(*all_of_it, "--dry-run", check=False),
    )
    said = stand.canaryd.cli(*all_of_it, "--yes", "--wait")
    for service in ("front-end", NAME):
        assert f"created Deployment {service}-v2 in {PLACE}" in said
        assert f"{service}-v2 is available" in said
    done = stand.until("v2", "both promoted", phase="Succeeded")
    assert [(one["service"], one["canary"]) for one in (done, *done["others"])] == [
        ("front-end", "v2"),
        (NAME, "v2"),
    ]
    assert len(stand.records()) == 1
    assert stand.default_route() == all_to("v2")
    (http,) = stand.world.store.get(VIRTUALSERVICES, PLACE, NAME)["spec"]["http"]
    assert http["route"] == [{"destination": {"host": NAME, "subset": "v2"}}]
    assert stand.canaryd.cli(*all_of_it).count("nothing: it runs there already") == 2
