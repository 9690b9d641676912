"""The control plane and its clocks."""

from __future__ import annotations

import pytest

from canaryd.commands.check.finding import Level
from canaryd.domain.check_facts import CONTROL_PLANE
from tests.builders import NOW
from tests.commands.check.facts import a_world, an_istiod, bad, only, telemetry


def test_a_world_in_which_canaryd_works_has_nothing_to_say_against_it() -> None:
    assert bad(a_world()) == []


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.31.0", Level.OK),
        ("1.22.3-distroless", Level.OK),
        ("1.40.0", Level.OK),
        ("1.21.9", Level.WARNING),
        ("1.9.0", Level.WARNING),
        ("1.4.2", Level.PROBLEM),
        ("", Level.UNKNOWN),
        ("latest", Level.UNKNOWN),
    ],
)
def test_a_version_is_held_against_what_was_tested(version: str, level: Level) -> None:
    found = [
        one for one in bad(a_world({CONTROL_PLANE: [an_istiod(version)]})) if one.check == "istio.istiod"
    ]
    assert [one.level for one in found] == ([] if level is Level.OK else [level])
    assert all("1.31" in one.wanted for one in found)


def test_an_istiod_without_a_ready_replica_is_a_problem_with_a_command() -> None:
    found = only(a_world({CONTROL_PLANE: [{**an_istiod(), "status": {}}]}), "istio.istiod")
    assert found.level is Level.PROBLEM
    assert found.mend == "kubectl -n istio-system describe deployment istiod"


def test_no_istiod_may_be_an_external_one_but_no_api_is_none_at_all() -> None:
    assert only(a_world({CONTROL_PLANE: []}), "istio.istiod").level is Level.WARNING
    found = bad(a_world({CONTROL_PLANE: []}, groups={"canaryd.dev": ("v1alpha1",)}))
    assert [(one.check, one.level) for one in found] == [("istio.crds", Level.PROBLEM)]


def test_what_may_not_be_listed_is_not_known() -> None:
    found = only(a_world(unread={CONTROL_PLANE: "403: forbidden"}), "istio.istiod")
    assert (found.level, "403: forbidden" in found.found) == (Level.UNKNOWN, True)


@pytest.mark.parametrize(
    ("off", "said"), [(90.0, "90 s ahead of this machine's"), (-12.0, "12 s behind this machine's")]
)
def test_clocks_that_disagree_are_told_with_by_how_much(off: float, said: str) -> None:
    assert said in only(a_world(server_clock=NOW + off), "istio.clock").found
    assert said in only(a_world(telemetry=telemetry(clock=NOW + off)), "telemetry.clock").found


def test_a_clock_that_is_a_little_off_is_fine_and_one_that_is_not_told_is_not_known() -> None:
    assert bad(a_world(server_clock=NOW + 4)) == []
    assert only(a_world(server_clock=None), "istio.clock").level is Level.UNKNOWN
