"""All checks together: their order, their names, and the exit code."""

from __future__ import annotations

import pytest

from canaryd.commands.check.all_checks import exit_code, findings
from canaryd.commands.check.finding import Finding, Level, many, some
from canaryd.commands.check.text import TITLES
from tests.commands.check.facts import a_deployment, a_route, a_service, a_world


@pytest.mark.parametrize(
    ("levels", "usual", "strict"),
    [
        ((), 0, 0),
        ((Level.OK,), 0, 0),
        ((Level.OK, Level.UNKNOWN), 0, 0),
        ((Level.WARNING, Level.OK), 0, 1),
        ((Level.PROBLEM,), 1, 1),
    ],
)
def test_problems_fail_and_warnings_do_where_it_is_strict(
    levels: tuple[Level, ...], usual: int, strict: int
) -> None:
    found = [Finding("a.b", level, "a", "b") for level in levels]
    assert (exit_code(found, strict=False), exit_code(found, strict=True)) == (usual, strict)


def test_every_finding_has_a_group_a_service_where_it_is_of_one_and_what_was_found() -> None:
    found = findings(a_world())
    assert {one.check.partition(".")[0] for one in found} <= TITLES.keys()
    assert all(one.about and one.found for one in found)
    of_all = {one.check.partition(".")[0] for one in found if not one.service}
    assert of_all == {"istio", "telemetry", "rights"}


def test_whatever_cannot_be_read_is_not_known_and_never_an_error() -> None:
    """Every kind forbidden, one at a time and all at once."""
    world = a_world()
    for kind in world.kinds:
        found = findings(a_world(unread={kind: "403: forbidden"}))
        if kind not in (
            "VirtualService",
            "DestinationRule",
        ):  # of these two the builder says that they are not there
            assert not [one for one in found if one.level is Level.PROBLEM]
    nothing = findings(
        a_world(unread=dict.fromkeys(world.kinds, "403: forbidden"), routes={}, telemetry=None, rights=())
    )
    assert {one.level for one in nothing} <= {Level.UNKNOWN, Level.OK}


def test_without_a_policy_services_that_could_have_one_are_listed_with_it() -> None:
    found = findings(a_world(policies=()))
    (one,) = [one for one in found if one.check == "candidates.service"]
    assert one.about == "production/front-end"
    assert "virtualService: sockshop" in one.found
    world = a_world({"Service": [a_service({"name": "tcp", "port": 1})]}, policies=())
    assert "none has HTTP" in next(
        finding.found for finding in findings(world) if finding.check == "candidates.service"
    )


def test_a_service_without_versions_or_route_is_no_candidate() -> None:
    for changed in (
        {"Deployment": [a_deployment(labels={"app": "front-end"})]},
        {"VirtualService": [a_route(http=[])]},
    ):
        found = [
            finding
            for finding in findings(a_world(changed, policies=()))
            if finding.check == "candidates.service"
        ]
        assert [one.about for one in found] == ["services"]


def test_names_are_listed_shortly() -> None:
    assert some([]) == "none"
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert (many(1, "pod"), many(2, "pod")) == ("1 pod", "2 pods")
