"""`canaryd reset` of the services of a bracket, whose record is in the namespace of the first one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from canaryd.commands.reset import command
from canaryd.domain.ports import KnownTemplates
from canaryd.domain.rollout import Phase, Rollout
from tests.builders import NOW, a_bracket, a_bracket_rollout, a_member, a_service
from tests.commands.reset.test_command import Place, place
from tests.scenarios.test_two_services import NAME, NAMESPACE, carts

__all__ = ["place"]
POLICY = a_bracket(a_member(NAME, NAMESPACE, route={"virtualService": "sockshop"}))


def a_rollout_of_two(place: Place) -> Rollout:
    """carts is in a namespace of its own, and canaryd has noted it."""
    carts(place.world)
    place.world.advance(place.world.now + 30)
    place.services.remember(POLICY.among({(NAMESPACE, NAME)}), KnownTemplates(frozenset()))
    service = a_service(
        namespace=NAMESPACE, name=NAME, stable_workload=f"{NAME}-v1", canary_workload=f"{NAME}-v2"
    )
    rollout = a_bracket_rollout(service, policy=POLICY, weight=0)
    place.store(rollout)
    return rollout


def test_a_service_is_left_alone_while_its_bracket_is_under_way_whichever_namespace_is_looked_in(
    place: Place,
) -> None:
    rollout = a_rollout_of_two(place)
    for names in ((NAME,), (NAME, "--namespace", NAMESPACE), ("--all", "--namespace", NAMESPACE)):
        assert f"{rollout.name} is Progressing; abort it with --abort" in place.refused(
            "reset", *names, "--yes"
        )


def test_with_all_services_a_bracket_is_aborted_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = a_rollout_of_two(place)

    def a_daemon(seconds: float) -> None:
        for record in place.rollouts.list():
            if record.wishes.abort:
                place.rollouts.save(
                    record.with_rollout(replace(record.rollout, phase=Phase.ROLLED_BACK, ended=NOW + 50))
                )

    monkeypatch.setattr(command.time, "sleep", a_daemon)
    said = place.fine("reset", "--all", "--abort", "--yes")
    assert said.count(f"{rollout.name} goes back: all traffic to front-end v1 and carts v1") == 1
    assert place.records() == []
    assert [line.partition(":")[0] for line in said.splitlines()[-2:]] == [
        "production/front-end",
        f"{NAMESPACE}/{NAME}",
    ]


def test_what_no_daemon_takes_back_is_waited_for_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = a_rollout_of_two(place)
    monkeypatch.setattr(command, "ABORTED_WITHIN", 0.0)
    result = place.run("reset", "--everything", "--abort", "--yes")
    assert result.exit_code == 0, result.output
    assert result.output.count(f"{rollout.name} has not ended within 0 s") == 1
    assert place.records() == []
