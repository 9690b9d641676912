"""Verbs write a rollout's `spec` and nothing else, and refuse what has no meaning in its phase."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from canaryd.adapters.kube.client import KubernetesApi
from canaryd.cli import main, output, wait
from canaryd.cli.cluster import connect
from canaryd.domain.lifecycle import TRANSITIONS, Signal
from canaryd.domain.ports import Conflict, Missing
from canaryd.domain.rollout import AskedGate, Held, Phase
from tests.builders import NOW, a_policy
from tests.commands.conftest import Shell

NAME = "front-end-v2-hash-v2"
SIGNALS = {"hold": Signal.HOLD, "abort": Signal.ABORT, "promote": Signal.PROMOTE}


def ended(phase: Phase) -> dict[str, Any]:
    return {"phase": phase, "weight": 0, "ended": NOW + 100}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("verb", list(SIGNALS))
def test_a_verb_is_taken_exactly_in_the_phases_where_transitions_give_it_a_meaning(
    shell: Shell, verb: str, phase: Phase
) -> None:
    held = Held.DRIFT if phase is Phase.HELD else None
    shell.store(phase=phase, held=held, ended=NOW + 9 if phase.ended else None)
    before = shell.spec()
    if (phase, SIGNALS[verb]) in TRANSITIONS:
        shell.fine(verb, "front-end")
        after = shell.spec()
        assert set(after.pop("requests")) == {verb}
        assert after == {**before, verb: True}
    else:
        assert phase.value in shell.refused(verb, "front-end")
        assert shell.spec() == before


@pytest.mark.parametrize("name", ["front-end", NAME])
def test_a_rollout_is_meant_by_its_name_or_by_its_services(shell: Shell, name: str) -> None:
    shell.store()
    shell.fine("hold", name)
    assert shell.spec()["hold"] is True


def test_a_service_means_its_rollout_under_way_and_not_a_later_one_that_has_ended(shell: Shell) -> None:
    shell.store()
    shell.store(name="front-end-v3-x", canary="v3", began=NOW + 50, **ended(Phase.ROLLED_BACK))
    shell.fine("abort", "front-end")
    assert shell.spec()["abort"] is True
    assert "abort" not in shell.spec("front-end-v3-x")


def test_a_verb_changes_nothing_but_its_own_wish(shell: Shell) -> None:
    shell.store()
    before = shell.rollouts.get("production", NAME)
    shell.fine("hold", "front-end")
    after = shell.rollouts.get("production", NAME)
    assert after["status"] == before["status"]
    assert after["spec"].pop("requests").keys() == {"hold"}
    assert after["spec"] == {**before["spec"], "hold": True}


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.HELD])
def test_holding_twice_is_no_error(shell: Shell, phase: Phase) -> None:
    shell.store(phase=phase, held=Held.PERSON if phase is Phase.HELD else None)
    assert shell.fine("hold", "front-end") == shell.fine("hold", "front-end")
    assert shell.spec()["hold"] is True


@pytest.mark.parametrize(
    ("arguments", "key", "phase"),
    [
        (("hold", "front-end"), "hold", Phase.PROGRESSING),
        (("resume", "front-end"), "resume", Phase.HELD),
        (("promote", "front-end"), "promote", Phase.PROGRESSING),
        (("abort", "front-end"), "abort", Phase.PROGRESSING),
        (("retry", NAME), "retry", Phase.ROLLED_BACK),
    ],
)
def test_the_record_keeps_who_asked_when_and_why(
    shell: Shell, arguments: tuple[str, ...], key: str, phase: Phase
) -> None:
    shell.store(phase=phase, held=Held.PERSON if phase is Phase.HELD else None)
    before = time.time()
    shell.fine(*arguments, "--reason", "the database is down")
    kept = shell.spec()["requests"][key]
    assert (kept["by"], kept["reason"]) == ("sandbox", "the database is down")
    assert before <= kept["at"] <= time.time()


def test_an_approval_keeps_who_asked_and_why(shell: Shell) -> None:
    shell.store(**asking(Phase.AWAITING_APPROVAL, stage=1, weight=50))
    shell.fine("approve", "front-end", "--reason", "looks fine")
    assert shell.spec()["requests"]["approve"]["reason"] == "looks fine"


def test_a_gate_opened_by_a_person_keeps_who_asked_and_why(shell: Shell) -> None:
    shell.store(**at_a_gate())
    shell.fine("approve", "front-end", "--gate", "--reason", "the load test is flaky")
    assert shell.spec()["requests"]["openGate"]["reason"] == "the load test is flaky"


def test_who_asks_is_the_login_where_the_server_does_not_say(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(api: KubernetesApi) -> str:
        raise Missing("404: this server is older than 1.28")

    monkeypatch.setattr(KubernetesApi, "user", refuse)
    monkeypatch.setenv("USER", "alice")
    shell.store()
    shell.fine("hold", "front-end")
    assert shell.spec()["requests"]["hold"]["by"] == "alice"
    assert "reason" not in shell.spec()["requests"]["hold"]


def test_resume_takes_the_hold_back_and_counts_up(shell: Shell) -> None:
    shell.store(phase=Phase.HELD, held=Held.PERSON, resumed=2)
    shell.rollouts.wish("production", NAME, hold=True, resumed=2)
    shell.fine("resume", "front-end")
    assert (shell.spec()["hold"], shell.spec()["resumed"]) == (False, 3)


def test_resume_of_a_drift_says_that_the_route_is_written_back_to_the_wanted_weight(shell: Shell) -> None:
    shell.store(phase=Phase.HELD, held=Held.DRIFT, weight=20)
    assert "the route is written back to 20%, and edits inside its route list are replaced" in shell.fine(
        "resume", "front-end"
    )


def test_resume_of_what_is_not_held_is_refused(shell: Shell) -> None:
    shell.store()
    assert "is not held" in shell.refused("resume", "front-end")


def asking(phase: Phase = Phase.PROGRESSING, **changes: Any) -> dict[str, Any]:
    stages = [{"weight": 10}, {"weight": 50, "approval": "required"}, {"weight": 100}]
    return {"policy": a_policy(stages=stages), "phase": phase, **changes}


def test_approve_names_the_present_stage(shell: Shell) -> None:
    shell.store(**asking(Phase.AWAITING_APPROVAL, stage=1, weight=50))
    shell.fine("approve", "front-end")
    assert shell.spec()["approvedStage"] == 1


def test_approval_before_its_stage_needs_the_stage_to_be_named(shell: Shell) -> None:
    shell.store(**asking())
    assert "canaryd approve front-end --stage 2" in shell.refused("approve", "front-end")
    shell.fine("approve", "front-end", "--stage", "2")
    assert shell.spec()["approvedStage"] == 1
    assert "approved already" in shell.refused("approve", "front-end", "--stage", "2")


def test_approval_that_nobody_asks_for_is_refused(shell: Shell) -> None:
    shell.store()
    assert "asks for no approval" in shell.refused("approve", "front-end")


def at_a_gate(**changes: Any) -> dict[str, Any]:
    policy = a_policy(
        hooks=[{"before": 25, "gate": "https://tests.example/smoke"}, {"before": "promotion", "gate": "load"}]
    )
    return {"policy": policy, "phase": Phase.AWAITING_GATE, "gate_question": AskedGate(0, 3, NOW), **changes}


@pytest.mark.parametrize("changes", [{}, {"phase": Phase.HELD, "held": Held.GATE}])
def test_a_person_opens_the_gate_that_is_waited_for(shell: Shell, changes: dict[str, Any]) -> None:
    shell.store(**at_a_gate(**changes))
    assert "goes on without the gate https://tests.example/smoke" in shell.fine(
        "approve", "front-end", "--gate"
    )
    assert shell.spec()["openedGate"] == 3


@pytest.mark.parametrize(
    "changes", [{"phase": Phase.PROGRESSING}, {"phase": Phase.HELD, "held": Held.PERSON}]
)
def test_a_gate_that_nobody_waits_for_is_not_opened(shell: Shell, changes: dict[str, Any]) -> None:
    shell.store(**at_a_gate(**changes))
    assert "it waits for no gate" in shell.refused("approve", "front-end", "--gate")


def test_whoever_tries_another_verb_on_a_closed_gate_is_told_the_right_one(shell: Shell) -> None:
    shell.store(**at_a_gate())
    for verb in ("resume", "approve"):
        assert "canaryd approve front-end-v2-hash-v2 --gate opens the gate" in shell.refused(
            verb, "front-end"
        )


def test_promoting_goes_round_no_gate_before_the_promotion(shell: Shell) -> None:
    shell.store(**at_a_gate(stage=3, weight=100, gate_question=AskedGate(1, 1, NOW)))
    refused = shell.refused("promote", "front-end")
    assert (
        "it is at full weight already; canaryd approve front-end-v2-hash-v2 --gate opens the gate" in refused
    )


def test_opening_a_gate_and_approving_a_stage_are_two_things(shell: Shell) -> None:
    shell.store(**at_a_gate())
    result = shell.run("approve", "front-end", "--gate", "--stage", "2")
    assert result.exit_code == 2
    assert "--stage has no meaning beside it" in result.stderr


def test_status_shows_the_gate_and_its_last_answer(shell: Shell) -> None:
    shell.store(
        **at_a_gate(
            reason="before 25%, the gate https://tests.example/smoke is closed: HTTP 503: 2 of 14 tests "
            "failed"
        )
    )
    told = shell.fine("status")
    assert "AwaitingGate" in told
    assert "the gate https://tests.example/smoke is closed: HTTP 503: 2 of 14 tests failed" in told


def test_approval_of_a_stage_that_is_not_there_is_refused(shell: Shell) -> None:
    shell.store(**asking())
    assert "3 stages" in shell.refused("approve", "front-end", "--stage", "4")


@pytest.mark.parametrize("phase", list(Phase))
def test_only_what_was_rolled_back_or_superseded_is_tried_again(shell: Shell, phase: Phase) -> None:
    shell.store(
        phase=phase, held=Held.PERSON if phase is Phase.HELD else None, ended=NOW + 9 if phase.ended else None
    )
    if phase in (Phase.ROLLED_BACK, Phase.SUPERSEDED):
        assert "attempt 2" in shell.fine("retry", "front-end")
        assert shell.spec()["attempt"] == 2
    else:
        assert "only what was rolled back or superseded" in shell.refused("retry", "front-end")


@pytest.mark.parametrize("name", [NAME, "front-end"])
def test_retry_after_a_second_attempt_has_ended_makes_the_third(shell: Shell, name: str) -> None:
    shell.store(**ended(Phase.ROLLED_BACK))
    shell.store(name=f"{NAME}-2", attempt=2, began=NOW + 200, **ended(Phase.ROLLED_BACK))
    shell.store(
        name="front-end-v2-other", template="other", attempt=7, began=NOW - 200, **ended(Phase.ROLLED_BACK)
    )
    assert "attempt 3" in shell.fine("retry", name)
    assert shell.spec(NAME if name == NAME else f"{NAME}-2")["attempt"] == 3


def test_retry_while_another_rollout_of_the_service_is_under_way_is_refused(shell: Shell) -> None:
    shell.store(**ended(Phase.ROLLED_BACK))
    shell.store(name="front-end-v3-x", canary="v3", began=NOW + 50)
    assert "front-end-v3-x is Progressing" in (said := shell.refused("retry", NAME))
    assert "abort it first, or wait until it has ended" in said
    assert "attempt" not in shell.spec()


@pytest.mark.parametrize(("phase", "held"), [(Phase.WAITING, None), (Phase.HELD, Held.PERSON)])
def test_promote_before_the_first_stage_is_refused(shell: Shell, phase: Phase, held: Held | None) -> None:
    shell.store(phase=phase, held=held, stage=-1, weight=0)
    assert "it has not begun to serve yet" in shell.refused("promote", "front-end")
    assert "promote" not in shell.spec()


def test_what_is_aborted_already_takes_no_other_wish(shell: Shell) -> None:
    shell.store()
    shell.fine("abort", "front-end")
    assert "aborted already" in shell.refused("promote", "front-end")


def test_an_unknown_name_is_refused_with_what_there_is(shell: Shell) -> None:
    shell.store()
    assert "there are rollouts of production/front-end" in shell.refused("hold", "frontend")


def test_a_service_of_two_namespaces_needs_one_to_be_named(shell: Shell) -> None:
    shell.store()
    shell.store(namespace="default")
    assert "default, production" in shell.refused("hold", "front-end")
    shell.fine("hold", "front-end", "--namespace", "production")
    assert shell.spec()["hold"] is True


def test_pause_writes_the_services_note_and_status_says_so(shell: Shell) -> None:
    assert "paused" in shell.fine("pause", "front-end")
    assert "production/front-end is paused" in shell.fine("status")
    assert json.loads(shell.fine("status", "-o", "json"))["services"][0]["paused"] is True
    assert "no longer paused" in shell.fine("pause", "--all", "--end")
    assert "is paused" not in shell.fine("status")


def test_a_pause_keeps_who_asked_and_why_and_status_says_so(shell: Shell) -> None:
    shell.fine("pause", "front-end", "--reason", "sale until Monday")
    assert "production/front-end is paused by sandbox: sale until Monday; nothing" in shell.fine("status")
    shell.fine("pause", "front-end", "--end")
    shell.fine("pause", "--all")
    assert "sale" not in shell.fine("status")


def test_pause_of_all_services_has_to_be_said(shell: Shell) -> None:
    result = shell.run("pause")
    assert result.exit_code == 2
    assert "give --all" in result.stderr
    assert shell.run("pause", "front-end", "--all").exit_code == 2
    assert "is paused" not in shell.fine("status")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_a_terminal_is_asked_whether_all_services_are_to_be_paused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(output, "is_asking", lambda: True)
    environment = {"KUBECONFIG": str(shell.world.kubeconfig)}
    result = CliRunner().invoke(main, ["pause"], env=environment, input=answer)
    assert "Pause all services (production/front-end)?" in result.stderr
    assert result.exit_code == code
    assert ("is paused" in shell.fine("status")) is (code == 0)


def test_pausing_a_service_nobody_knows_is_refused_with_what_there_is(shell: Shell) -> None:
    assert "production/front-end" in shell.refused("pause", "nope")


def test_start_asks_for_a_rollout_by_the_templates_own_name(shell: Shell) -> None:
    shell.world.deploy("v2")
    said = shell.fine("start", "front-end", "v2")
    shell.rollouts.list()
    (request,) = shell.rollouts.requests()
    assert (request.service, request.version) == ("front-end", "v2")
    assert request.name in said
    assert request.name.startswith("front-end-v2-")


def test_start_keeps_who_asked_and_why(shell: Shell) -> None:
    shell.world.deploy("v2")
    said = shell.fine("start", "front-end", "v2", "--reason", "was there before canaryd")
    kept = shell.spec(said.split()[0].removeprefix("production/"))["requests"]["start"]
    assert (kept["by"], kept["reason"]) == ("sandbox", "was there before canaryd")


def test_start_after_an_earlier_rollout_of_the_template_takes_the_next_name(shell: Shell) -> None:
    shell.world.deploy("v2")
    first = asked(shell)
    shell.store(name=first, **ended(Phase.ROLLED_BACK))
    assert f"{first}-2 " in shell.fine("start", "front-end", "v2")


def asked(shell: Shell) -> str:
    """Asks for v2; the request's name."""
    shell.world.deploy("v2")
    return shell.fine("start", "front-end", "v2").split()[0].removeprefix("production/")


def the_daemon_refuses(shell: Shell, why: str) -> None:
    shell.rollouts.list()
    for request in shell.rollouts.requests():
        shell.rollouts.refuse(request, why)


def requests(shell: Shell) -> list[tuple[str, str | None]]:
    return [
        (request["name"], request["refused"])
        for request in json.loads(shell.fine("status", "-o", "json"))["requests"]
    ]


@pytest.mark.parametrize("arguments", [(), ("front-end",)])
def test_status_shows_what_was_asked_for_and_has_not_begun(shell: Shell, arguments: tuple[str, ...]) -> None:
    name = asked(shell)
    told = shell.fine("status", *arguments)
    assert f"production/{name} (v2) is asked for since" in told
    assert f"has not begun (canaryd abort {name} takes it back)" in told
    assert requests(shell) == [(name, None)]
    assert f"production/{name} (v2)" in shell.fine("status", name)


def test_status_shows_a_refusal_until_a_later_rollout_of_the_service_has_begun(shell: Shell) -> None:
    name = asked(shell)
    the_daemon_refuses(shell, "the route is split by hand")
    assert f"production/{name} (v2) was asked for and refused: the route is split by hand" in shell.fine(
        "status"
    )
    assert requests(shell) == [(name, "the route is split by hand")]
    shell.store(name="earlier", canary="v0", began=NOW - 1e6, phase=Phase.ROLLED_BACK, ended=NOW - 1e5)
    assert requests(shell) == [(name, "the route is split by hand")]
    shell.store(name="later", canary="v3", began=NOW + 1e6)
    assert requests(shell) == []
    assert "refused" not in shell.fine("status")


def test_a_second_start_is_refused_while_one_is_asked_for(shell: Shell) -> None:
    name = asked(shell)
    assert f"{name} (v2) is asked for already, and has not begun: canaryd abort {name}" in shell.refused(
        "start", "front-end", "v2"
    )
    assert requests(shell) == [(name, None)]


def test_a_start_after_a_refused_one_takes_its_place_and_its_name(shell: Shell) -> None:
    name = asked(shell)
    the_daemon_refuses(shell, "the route is split by hand")
    assert asked(shell) == name
    assert requests(shell) == [(name, None)]


@pytest.mark.parametrize("by_service", [True, False])
def test_abort_takes_back_what_was_asked_for_and_says_nothing_of_an_older_rollout(
    shell: Shell, by_service: bool
) -> None:
    shell.store(name="older", canary="v0", began=NOW - 1e6, phase=Phase.ROLLED_BACK, ended=NOW - 1e5)
    name = asked(shell)
    assert f"production/{name} is no longer asked for" in shell.fine(
        "abort", "front-end" if by_service else name
    )
    assert requests(shell) == []


def test_abort_of_a_refused_request_by_its_name_removes_it_and_by_its_service_does_not(shell: Shell) -> None:
    name = asked(shell)
    the_daemon_refuses(shell, "the route is split by hand")
    shell.refused("abort", "front-end")
    assert requests(shell) == [(name, "the route is split by hand")]
    shell.fine("abort", name)
    assert requests(shell) == []


def test_abort_by_service_means_the_rollout_under_way_before_what_is_asked_for(shell: Shell) -> None:
    name = asked(shell)
    shell.store(name="front-end-v3-x", canary="v3")
    shell.fine("abort", "front-end")
    assert shell.spec("front-end-v3-x")["abort"] is True
    assert requests(shell) == [(name, None)]


def test_a_request_that_begins_while_it_is_taken_back_is_not_deleted(shell: Shell) -> None:
    name = asked(shell)
    cluster = connect(str(shell.world.kubeconfig), None, None)
    (request,) = cluster.start_requests()
    shell.store(name=name)
    with pytest.raises(Conflict):
        cluster.withdraw(request)
    assert shell.rollouts.get("production", name)["status"]["phase"] == "Progressing"


def test_start_of_a_version_without_a_deployment_names_the_versions_there(shell: Shell) -> None:
    assert "versions there: v1" in shell.refused("start", "front-end", "v77")


def test_start_while_a_rollout_is_under_way_is_refused(shell: Shell) -> None:
    shell.world.deploy("v2")
    shell.store()
    assert f"{NAME} is Progressing" in shell.refused("start", "front-end", "v2")


def test_start_of_a_service_without_policy_is_refused(shell: Shell) -> None:
    assert "production/front-end" in shell.refused("start", "cart", "v2")


@pytest.mark.parametrize(("phase", "code"), [(Phase.ROLLED_BACK, 0), (Phase.SUCCEEDED, 1)])
def test_wait_ends_with_the_rollout_and_tells_whether_it_ended_as_wished(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
    code: int,
) -> None:
    record = shell.store()

    def a_daemon_that_obeys(seconds: float) -> None:
        present = next(one for one in shell.rollouts.list() if one.rollout.name == record.rollout.name)
        shell.rollouts.save(
            present.with_rollout(replace(present.rollout, phase=phase, reason="as it was", ended=NOW + 10))
        )

    monkeypatch.setattr(wait.time, "sleep", a_daemon_that_obeys)
    result = shell.run("abort", "front-end", "--wait")
    assert result.exit_code == code, result.output


def test_wait_for_a_start_that_is_refused_says_why(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.world.deploy("v2")

    def a_daemon_that_refuses(seconds: float) -> None:
        shell.rollouts.list()
        for request in shell.rollouts.requests():
            shell.rollouts.refuse(request, "the route is split by hand")

    monkeypatch.setattr(wait.time, "sleep", a_daemon_that_refuses)
    result = shell.run("start", "front-end", "v2", "--wait")
    assert result.exit_code == 1
    assert "the route is split by hand" in result.output


def test_what_was_asked_for_and_has_not_begun_is_said_to_be_so(shell: Shell) -> None:
    shell.world.deploy("v2")
    name = shell.fine("start", "front-end", "v2").split()[0].removeprefix("production/")
    assert "has not begun" in shell.refused("explain", name)
    shell.rollouts.list()
    (request,) = shell.rollouts.requests()
    shell.rollouts.refuse(request, "the route is split by hand")
    assert "refused: the route is split by hand" in shell.refused("explain", name)
