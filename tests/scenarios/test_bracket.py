"""Two services of two namespaces as one rollout: good versions go up together, and a bad one of either takes
both back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from canaryd_sandbox.kubernetes.resources import VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import Behaviour
from tests.scenarios.test_two_services import NAME, NAMESPACE, carts, deploy, seen
from tests.scenarios.testbed import Stand, a_policy, a_stand, all_to, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-bracket"), pytest.mark.timeout(480)]
HOOKS = [{"on": ["started", "advanced", "rolled_back", "succeeded"], "notify": "audit"}]


def a_bracket() -> dict[str, Any]:
    member = {
        "service": {"name": NAME, "namespace": NAMESPACE, "selector": {"app": NAME}},
        "route": {"virtualService": "sockshop"},
    }
    return a_policy((20, 100), bracket={"gather": "60s", "members": [member]}, hooks=HOOKS)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(tmp_path_factory.mktemp("bracket"), a_bracket()) as stand:
        behaviours = carts(stand.world).behaviours
        behaviours |= {"v1": Behaviour(errors=0.0), "v2": Behaviour(errors=0.0), "v3": Behaviour(errors=0.6)}
        eventually(
            "carts serves",
            lambda: any(labels["destination_workload"] == f"{NAME}-v1" for labels in seen(stand.world)),
        )
        stand.begin()
        eventually("both are known", lambda: len(stand.canaryd.logged("service.first_seen")) == 2)
        yield stand


def theirs(stand: Stand) -> Any:
    """The route of carts."""
    (http,) = stand.world.store.get(VIRTUALSERVICES, NAMESPACE, "sockshop")["spec"]["http"]
    return http["route"]


def of_carts(version: str) -> list[dict[str, Any]]:
    return [{"destination": {"host": NAME, "subset": version}}]


def writes(stand: Stand, rollout: str) -> list[tuple[str, int]]:
    return [
        (line["service"], line["weight"])
        for line in stand.canaryd.logged("route.written")
        if line["rollout"] == rollout
    ]


def test_good_versions_of_both_are_one_rollout_which_gives_to_the_called_service_first(stand: Stand) -> None:
    stand.deploy("v2")
    eventually("it waits for carts", lambda: stand.canaryd.logged("bracket.gathers"))
    says = "front-end-v2 waits up to 1m for new versions of carts"
    eventually(
        "both are said to wait",
        lambda: {service["waits"] for service in stand.canaryd.status()["services"]} == {says},
    )
    assert f"{says}, for " in stand.canaryd.cli("status")
    deploy(stand.world, "v2")
    done = stand.until("v2", "both promoted", phase="Succeeded")
    assert stand.default_route() == all_to("v2")
    assert theirs(stand) == of_carts("v2")
    assert writes(stand, done["name"]) == [
        (service, weight) for weight in (20, 100, 100) for service in (NAME, "front-end")
    ]
    assert len(stand.records()) == 1
    eventually("told", lambda: stand.told("succeeded", "v2"))
    data = [delivery.json["data"] for delivery in stand.receiver.deliveries]
    (told,) = [one for one in data if one["event"] == "succeeded"]
    assert len(set(stand.told("advanced", "v2"))) == 2
    assert told["bracket"] == [
        {"namespace": "production", "service": "front-end", "stable": "v1", "canary": "v2"},
        {"namespace": NAMESPACE, "service": NAME, "stable": "v1", "canary": "v2"},
    ]
    (shown,) = stand.canaryd.status(NAME)["rollouts"]
    assert (shown["name"], shown["bracket"]) == (done["name"], told["bracket"])
    assert stand.canaryd.cli("status").count("front-end") >= 1


def test_harm_of_the_called_service_takes_both_back_the_caller_first(stand: Stand) -> None:
    stand.deploy("v3")
    deploy(stand.world, "v3")
    done = stand.until("v3", "both rolled back", phase="RolledBack")
    assert done["reason"].startswith("carts: ")
    assert stand.default_route() == all_to("v2")
    assert theirs(stand) == of_carts("v2")
    assert writes(stand, done["name"]) == [(NAME, 20), ("front-end", 20), ("front-end", 0), (NAME, 0)]
    told = stand.canaryd.cli("explain", NAME, "--config", str(stand.canaryd.config))
    assert "front-end, v2 → v3; carts, v2 → v3: rolled back, all traffic on front-end v2 and carts v2" in told
    assert "carts, errors: fail" in told
    assert re.search(r"(are the stored ones|is the stored one), to the digit", " ".join(told.split()))
    assert "Odds over time, against front-end v3 and carts v3" in told
    counted = stand.explained(NAME)
    assert {pod.rsplit("-v", 1)[0] for one in (counted, *counted["others"]) for pod in one["counted"]} == {
        "front-end",
        NAME,
    }


def test_harm_is_found_and_undone_while_canaryd_may_not_list_the_deployments_of_one(stand: Stand) -> None:
    behaviours = stand.world.prometheus._mesh.meshes[1].behaviours  # type: ignore[attr-defined]
    behaviours["v5"] = Behaviour(errors=0.0)
    stand.deploy("v5")
    deploy(stand.world, "v5")
    stand.until("v5", "both serve", weight=20)
    place = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    stand.world.kubernetes.faults.status(
        403, 10_000, lambda method, path: method == "GET" and path.startswith(place)
    )
    eventually(
        "it says so",
        lambda: f"; nothing advances: {NAME}: GET {place}: " in stand.status("v5").get("reason", ""),
    )
    assert f"nothing advances: {NAME}: " in stand.canaryd.cli("status", NAME)
    stand.until_looked("v5", 8)
    assert stand.status("v5")["weight"] == 20, "beyond the stage's deadline"
    behaviours["v5"] = Behaviour(errors=0.6)
    done = stand.until("v5", "both rolled back", phase="RolledBack")
    stand.world.kubernetes.faults.clear()
    assert done["reason"].startswith(f"{NAME}: ")
    assert (stand.default_route(), theirs(stand)) == (all_to("v2"), of_carts("v2"))


def test_a_verb_finds_the_rollout_by_any_of_its_services(stand: Stand) -> None:
    stand.world.mesh.behaviours["v4"] = Behaviour(errors=0.0)
    stand.deploy("v4")
    deploy(stand.world, "v4")
    stand.until("v4", "both serve", weight=20)
    stand.canaryd.cli("abort", NAME, "--namespace", NAMESPACE)
    stand.until("v4", "both aborted", phase="RolledBack")
    assert (stand.default_route(), theirs(stand)) == (all_to("v2"), of_carts("v2"))
