"""Whether the policy's alerts can be seen: that Prometheus says which fire, and has a rule that they may come
from."""

import re
from collections.abc import Iterator, Mapping

from canaryd.commands.check.finding import Finding, many, ok, problem, some, warning
from canaryd.domain.check_facts import AlertFacts
from canaryd.domain.policy.alerts import Alerts, LabelMatcher, matchers_of

CHECK = "telemetry.alerts"
WANTED = "a rule that such alerts come from"


def check(alerts: Alerts, found: AlertFacts) -> Iterator[Finding]:
    """The findings on a policy's alerts."""
    about = f"alerts with {' or '.join(alerts.matching)}"
    if found.problem:
        yield problem(CHECK, about, found.problem, "which of them fire, or no stage would pass")
        return
    for alert in found.firing:
        says = f"alert {alert} fires now: in a rollout that begins now it would count only once it has"
        yield warning(CHECK, about, f"{says} resolved and fires anew", "none that fires")
    if found.rules is None:
        if not found.firing:
            yield ok(CHECK, about, "none fires; which rules there are is not told")
        return
    if not found.rules:
        yield warning(
            CHECK,
            about,
            "Prometheus evaluates no alerting rule, so none can ever fire (are they evaluated elsewhere, as "
            "by Thanos Ruler or Grafana? ALERTS has to be in this Prometheus)",
            WANTED,
        )
        return
    matching = [rule for rule in found.rules if any(_can_match(rule, text) for text in alerts.matching)]
    if not matching:
        yield warning(CHECK, about, _never(alerts, found.rules), WANTED)
    elif not found.firing:
        rules = some(sorted({rule.get("alertname", "") for rule in matching}))
        yield ok(CHECK, about, f"may come from {many(len(matching), 'rule')} ({rules}); none fires")


def _can_match(rule: Mapping[str, str], text: str) -> bool:
    return all(_holds(matcher, rule) for matcher in matchers_of(text))


def _holds(matcher: LabelMatcher, rule: Mapping[str, str]) -> bool:
    """Whether a matcher may hold for a rule's alerts: by the labels that the rule itself sets. Any other
    label may come from the series that it is about, and a template may become anything."""
    value = rule.get(matcher.label)
    if value is None or "{{" in value or "$" in matcher.value:
        return True
    if "~" not in matcher.operator:
        return (value == matcher.value) is (matcher.operator == "=")
    try:
        found = re.fullmatch(matcher.value, value) is not None
    except re.error:  # what RE2 has and Python has not
        return True
    return found is (matcher.operator == "=~")


def _never(alerts: Alerts, rules: tuple[Mapping[str, str], ...]) -> str:
    there = [
        f"{label} {some(values)}"
        for label in sorted(alerts.labels_asked)
        if (values := sorted({rule[label] for rule in rules if label in rule}))
    ]
    have = f" (the rules have {'; '.join(there)})" if there else ""
    return f"none of {many(len(rules), 'alerting rule')} can make such an alert{have}"
