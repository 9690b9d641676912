"""Whether a policy's alerts can be seen at all."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.check.alert_rules import check
from canaryd.commands.check.finding import Finding, Level
from canaryd.domain.check_facts import AlertFacts
from canaryd.domain.policy.alerts import Alerts
from tests.builders import a_policy
from tests.commands.check.facts import a_world, counted, only, telemetry

RULES = (
    {"alertname": "HighLatency", "severity": "critical", "team": "{{ $labels.team }}"},
    {"alertname": "Down", "severity": "warning"},
)


def said(*matching: str, **found: Any) -> list[Finding]:
    return list(check(Alerts(matching=matching or ('severity="critical"',)), AlertFacts(**found)))


@pytest.mark.parametrize(
    ("matching", "can"),
    [
        ('severity="critical"', True),
        ('severity="page"', False),
        ('severity=~"crit.*|page"', True),
        ('severity!~"critical|warning"', False),
        ('severity!="warning",alertname="HighLatency"', True),
        ('alertname="HighLatency",severity="warning"', False),
        ('team="shop",severity="critical"', True),  # a template, and a label of the series
        ('job="front-end"', True),
        ('severity=~"$service-page"', True),
    ],
)
def test_a_rule_has_to_be_there_that_such_an_alert_may_come_from(matching: str, can: bool) -> None:
    (finding,) = said(matching, rules=RULES)
    assert finding.level is (Level.OK if can else Level.WARNING)


def test_of_several_texts_one_is_enough() -> None:
    assert said('severity="page"', 'severity="warning"', rules=RULES)[0].level is Level.OK


def test_what_no_rule_has_is_said_beside_what_they_have() -> None:
    (finding,) = said('severity="page"', rules=RULES)
    assert (
        "none of 2 alerting rules can make such an alert (the rules have severity critical" in finding.found
    )


def test_without_any_rule_none_can_fire_and_where_rules_are_not_told_nothing_is_wrong() -> None:
    (none,), (unknown,) = said(rules=()), said(rules=None)
    assert (none.level, unknown.level) == (Level.WARNING, Level.OK)
    assert "Thanos Ruler or Grafana" in none.found


def test_what_fires_now_is_said_and_a_refused_query_is_a_problem() -> None:
    (fires,) = said(firing=("HighLatency (severity=critical)",), rules=RULES)
    assert fires.level is Level.WARNING
    assert "only once it has resolved and fires anew" in fires.found
    (refused,) = said(problem="HTTP 422")
    assert refused.level is Level.PROBLEM


def test_the_check_of_a_service_has_it() -> None:
    policy = a_policy(analysis={"interval": "10s", "alerts": {"matching": 'severity="page"'}})
    world = a_world(policy=policy, telemetry=telemetry(counted(alerts=AlertFacts(rules=RULES))))
    assert only(world, "telemetry.alerts").level is Level.WARNING
