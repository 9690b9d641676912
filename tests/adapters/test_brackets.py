"""What is told of a rollout of several services: all of their versions, whoever is told."""

from __future__ import annotations

from dataclasses import replace

from canaryd.adapters import alertmanager, gates, webhooks
from canaryd.domain import gating, news
from canaryd.domain.rollout import Asking, Phase
from tests.builders import NOW, a_bracket, a_bracket_rollout, a_rollout


def test_a_receiver_and_a_gate_are_told_all_versions_and_of_one_service_what_they_always_were() -> None:
    hooks = [{"before": "start", "gate": "https://tests.example/smoke"}]
    asked = replace(a_bracket_rollout(policy=a_bracket(hooks=hooks)), phase=Phase.AWAITING_GATE, asking=Asking(0, 1, NOW))
    question = gating.question(asked)
    told = news.announced(asked, "held", NOW, "waits").announcements[-1]
    assert question is not None
    versions = [{"namespace": "production", "service": "front-end", "stable": "v1", "canary": "v2"},
                {"namespace": "production", "service": "carts", "stable": "v7", "canary": "v8"}]
    assert webhooks.payload(told)["bracket"] == gates.payload(question)["bracket"] == versions
    assert alertmanager.summary(told) == "front-end v2 and carts v8 held in production"
    alone = news.announced(a_rollout(), "held", NOW, "waits").announcements[-1]
    assert "bracket" not in webhooks.payload(alone)
    assert alertmanager.summary(alone) == "front-end v2 held in production"
