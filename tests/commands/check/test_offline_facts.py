"""What manifests say without a cluster: each object is taken for what its API group makes it, and no
VirtualService is passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from canaryd.cli import main

MANIFESTS = Path(__file__).parent / "manifests"


def check(*names: str, code: int = 0, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The findings on manifests, by the command."""
    files = [word for name in names for word in ("-f", str(MANIFESTS / f"{name}.yaml"))]
    result = CliRunner().invoke(main, ["check", "-o", "json", *options, *files])
    assert result.exit_code == code, result.output
    return list(json.loads(result.stdout)["findings"])


def test_a_route_for_other_hosts_than_the_services_is_told_not_to_steer_the_mesh() -> None:
    (found,) = [one for one in check("mesh-without-the-service-host") if one["check"] == "routes.mesh"]
    assert "does not have orders among its spec.hosts" in found["found"]
    assert "- orders.shop.svc.cluster.local" in found["mend"]


def test_objects_of_another_api_group_are_not_taken_for_istios_or_the_core_s() -> None:
    found = {one["about"]: one for one in check("kubernetes-gateway")}
    assert found["Gateway shop/edge"]["level"] == "unknown"  # the Gateway API's is not the one that is named
    assert found["Service shop/orders"]["level"] == "unknown"  # nor is Knative's


def test_a_virtualservice_that_cannot_be_steered_is_named_with_the_reason() -> None:
    elsewhere, tcp = check("service-elsewhere", "tcp", options=("--strict",), code=1)
    assert elsewhere["about"] == "VirtualService edge/orders"
    assert "lead to shop/orders, and it is in edge" in elsewhere["found"]
    assert tcp["about"] == "VirtualService shop/feed"
    assert "it has no http route" in tcp["found"]
    assert {elsewhere["level"], tcp["level"]} == {"warning"}
    assert Path(tcp["file"]).name == "tcp.yaml"
