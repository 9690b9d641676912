"""What is told of a rollout of several services: all of their versions, whoever is told."""

from __future__ import annotations

from dataclasses import replace

from canaryd.adapters.notify import alertmanager, gate_client, webhook
from canaryd.domain import announcements, gates
from canaryd.domain.rollout import AskedGate, Phase
from tests.builders import NOW, a_bracket, a_bracket_rollout, a_rollout


def test_a_receiver_and_a_gate_are_told_all_versions_and_of_one_service_what_they_always_were() -> None:
    hooks = [{"before": "start", "gate": "https://tests.example/smoke"}]
    asked = replace(
        a_bracket_rollout(policy=a_bracket(hooks=hooks)),
        phase=Phase.AWAITING_GATE,
        gate_question=AskedGate(0, 1, NOW),
    )
    question = gates.question(asked)
    told = announcements.announced(asked, "held", NOW, "waits").announcements[-1]
    assert question is not None
    versions = [
        {"namespace": "production", "service": "front-end", "stable": "v1", "canary": "v2"},
        {"namespace": "production", "service": "carts", "stable": "v7", "canary": "v8"},
    ]
    assert webhook.payload(told)["bracket"] == gate_client.payload(question)["bracket"] == versions
    assert alertmanager.summary(told) == "front-end v2 and carts v8 held in production"
    alone = announcements.announced(a_rollout(), "held", NOW, "waits").announcements[-1]
    assert "bracket" not in webhook.payload(alone)
    assert alertmanager.summary(alone) == "front-end v2 held in production"
