"""The daemon on the Gateway API: an HTTPRoute, and Services that come and go with the versions that are
routed to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canaryd_sandbox.kubernetes.resources import HTTPROUTES, SERVICES
from canaryd_sandbox.mesh import httproute
from tests.scenarios.testbed import Stand, a_policy, a_stand, eventually

pytestmark = [pytest.mark.xdist_group("scenarios-people"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with a_stand(tmp_path_factory.mktemp("httproute"), a_policy(route={"httpRoute": "sockshop"})) as stand:
        httproute.take_over(stand.world.store, "front-end", "production")
        yield stand.begin()


def spec_of(stand: Stand) -> dict[str, Any]:
    return dict(stand.world.store.get(HTTPROUTES, "production", "sockshop")["spec"])


def services(stand: Stand) -> set[str]:
    return {one["metadata"]["name"] for one in stand.world.store.list(SERVICES, "production")}


def leading_to(spec: dict[str, Any], name: str) -> dict[str, Any]:
    (rule,) = spec["rules"]
    (ref,) = rule["backendRefs"]
    return {**spec, "rules": [{**rule, "backendRefs": [{**ref, "name": name}]}]}


def test_a_good_version_gets_a_service_and_all_traffic(stand: Stand) -> None:
    before = spec_of(stand)
    stand.deploy("v2")
    stand.until(
        "v2",
        "its Service is given time",
        phase="Waiting",
        reason="waiting: the Service front-end-v2 was made just now, and is routed to after 1 s, when "
        "proxies know it",
    )
    assert spec_of(stand) == before
    stand.until("v2", "the first stage", weight=20)
    eventually(
        "a fifth of the traffic",
        lambda: stand.world.weights() == {"front-end-v1": 80.0, "front-end-v2": 20.0},
    )
    stand.until("v2", "promoted", phase="Succeeded")
    assert spec_of(stand) == leading_to(before, "front-end-v2")
    assert stand.world.mesh.unserved == 0


def test_a_bad_one_leaves_nothing_even_where_the_daemon_dies_before_it_has_tidied(stand: Stand) -> None:
    before = spec_of(stand)
    stand.deploy("v3", errors=0.6)
    stand.until("v3", "rolled back", phase="RolledBack")
    assert spec_of(stand) == before
    assert "front-end-v3" in services(stand)
    stand.canaryd.kill9()
    stand.canaryd.start()
    stand.until("v3", "tidied", tidied=True)
    assert services(stand) == {"front-end", "front-end-v1", "front-end-v2"}
    assert stand.world.mesh.unserved == 0


def test_the_commands_show_it_as_they_show_any_other(stand: Stand) -> None:
    name = stand.status("v3")["name"]
    assert "rolled back, all traffic on v2" in stand.canaryd.cli("explain", name, seconds=120)
    told = stand.canaryd.cli("explain", name, "--config", str(stand.canaryd.config), "--brief", seconds=120)
    assert "harm: fail" in told
    assert stand.canaryd.status()["services"][0]["service"] == "front-end"
    assert "on sockshop, judged by errors" in stand.canaryd.cli("validate", str(stand.canaryd.policies))
    arguments = [
        "--rollouts",
        "2",
        "--rate",
        "50/s",
        "--errors",
        "0.5%",
        "--latency",
        "60ms",
        "--replicas",
        "2",
    ]
    assert "A healthy version" in stand.canaryd.cli(
        "plan", str(stand.canaryd.policies), *arguments, seconds=120
    )


def test_start_makes_the_service_of_a_version_again_and_its_abort_ends_it(stand: Stand) -> None:
    stand.world.set_behaviour("v3", errors=0.0)
    stand.canaryd.cli("start", "front-end", "v3", seconds=120)
    stand.until("v3", "begun again", attempt=2, weight=20)
    eventually("its Service is there again", lambda: "front-end-v3" in services(stand))
    stand.canaryd.cli("abort", "front-end", "--wait", seconds=120)
    stand.until("v3", "tidied again", attempt=2, tidied=True)
    assert services(stand) == {"front-end", "front-end-v1", "front-end-v2"}
