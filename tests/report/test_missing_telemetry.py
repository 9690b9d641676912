"""Why nothing is counted, in words."""

from __future__ import annotations

import pytest

from canaryd.domain.ports import Presence
from canaryd.report.missing_telemetry import describe


@pytest.mark.parametrize(
    ("reporters", "asked", "says"),
    [
        (
            {"source"},
            "destination",
            "there are requests with reporter=source, but the policy asks for destination: set its "
            "analysis.reporter to source (then without replicas), or have the pods' own sidecars count",
        ),
        ({"waypoint"}, "destination", "set its analysis.reporter to waypoint (the mesh is ambient there)"),
        (
            {"waypoint", "source"},
            "destination",
            "with reporter=waypoint and reporter=source, but the policy asks for destination: set its "
            "analysis.reporter to waypoint",
        ),
        ({"destination", "source"}, "waypoint", "set its analysis.reporter to destination"),
        ({"destination"}, "source", "set its analysis.reporter to destination"),
    ],
)
def test_another_reporter_that_counts_is_named(reporters: set[str], asked: str, says: str) -> None:
    assert says in describe(Presence(frozenset(reporters), connections=True), asked, "front-end")


def test_connections_alone_are_tcp_and_the_service_is_named() -> None:
    said = describe(Presence(connections=True), "destination", "front-end")
    assert "connections cannot be judged" in said
    assert "the Service front-end" in said


@pytest.mark.parametrize(
    "presence",
    [
        Presence(),
        Presence(frozenset({"destination"})),
        Presence(frozenset({"destination"}), True),
        Presence(frozenset({"ztunnel"})),
    ],
)
def test_quiet_is_no_absence_and_what_is_not_known_is_not_guessed(presence: Presence) -> None:
    assert describe(presence, "destination", "front-end") == ""
