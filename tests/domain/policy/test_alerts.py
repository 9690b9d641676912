"""A policy's alerts: which matchers are taken, how they are narrowed, and that no text becomes another
query."""

from __future__ import annotations

from typing import Any

import promql_parser as ast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain.policy.alerts import Alerts, LabelMatcher, matchers_of
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from tests.builders import a_policy


def alerts(matching: object = 'severity="page"', **more: Any) -> Alerts:
    found = a_policy(analysis={"interval": "10s", "alerts": {"matching": matching, **more}}).analysis.alerts
    assert found is not None
    return found


def why(**keys: Any) -> str:
    with pytest.raises(InvalidPolicy) as refused:
        a_policy(analysis={"interval": "10s", "alerts": keys})
    return str(refused.value)


def test_without_the_key_no_alert_is_looked_at() -> None:
    assert a_policy().analysis.alerts is None


def test_an_alert_rolls_back_unless_the_policy_says_hold_and_nothing_is_watched_after_a_promotion() -> None:
    assert (alerts().on_firing, alerts().watch_after_promotion) == ("rollback", None)
    asked = alerts(onFiring="hold", watchAfterPromotion="10m")
    assert (asked.on_firing, asked.watch_after_promotion) == ("hold", 600.0)


def test_matchers_are_read_as_promql_has_them() -> None:
    found = matchers_of("""severity="page", team!='shop' ,alertname=~"High.*|Slow", pod!~`a\\d+`,""")
    assert found == (
        LabelMatcher("severity", "=", "page"),
        LabelMatcher("team", "!=", "shop"),
        LabelMatcher("alertname", "=~", "High.*|Slow"),
        LabelMatcher("pod", "!~", "a\\d+"),
    )


def test_the_query_is_narrowed_to_the_namespace_and_leaves_out_alerts_about_stables_pods() -> None:
    assert alerts().promql == (
        "max without (alertstate, prometheus_replica, replica) (timestamp(ALERTS{"
        'severity="page",namespace="$namespace",pod!~"$stable_pods",alertstate="firing"}))'
    )


@pytest.mark.parametrize("own", ['namespace=~"shop.*"', 'exported_namespace="$namespace"', 'namespace=""'])
def test_a_matcher_of_ones_own_on_a_namespace_replaces_the_added_one(own: str) -> None:
    assert 'namespace="$namespace",pod' not in alerts(f'severity="page",{own}').promql.replace(
        'exported_namespace="$namespace",pod', ""
    )


def test_a_matcher_of_ones_own_on_pod_replaces_the_added_one() -> None:
    assert alerts('pod=~"$canary_pods"').promql.count("pod") == len(["pod", "canary_pods"])


def test_of_several_texts_one_must_hold() -> None:
    query = alerts(['severity="page"', 'team="shop",severity="warning"']).promql
    assert query.count("timestamp(ALERTS{") == 2
    assert ' or timestamp(ALERTS{team="shop",severity="warning",namespace="$namespace"' in query


def test_what_is_written_out_is_read_as_the_same() -> None:
    policy = a_policy(analysis={"interval": "10s", "alerts": {"matching": 'severity="page"'}})
    assert Policy.load(policy.dump()) == policy
    assert policy.dump()["analysis"]["alerts"] == {"matching": ['severity="page"'], "onFiring": "rollback"}


@pytest.mark.parametrize(
    ("matching", "wanted", "came"),
    [
        ("", "must be label matchers as in PromQL", "empty"),
        ([], "must have at least 1 entry", "0"),
        ("severity=page", "its value needs quotes", "severity=page"),
        ('ALERTS{severity="page"}', "without ALERTS and braces", "ALERTS{"),
        ('{severity="page"}', "without ALERTS and braces", "{severity"),
        ('severity="page" team="shop"', "separated by commas", "team="),
        ('severity="page"} or up{a="b"', "separated by commas", "or up"),
        ('severity="pa\nge"', "must be label matchers", "ge"),
        ('severity=="page"', "must be label matchers", "severity=="),
        ('alertstate="pending"', "must be without alertstate", 'alertstate="pending"'),
        ('__name__="up"', "must be without __name__", '__name__="up"'),
        ('team="$squad"', "may have $ only in $service, $namespace", "$squad"),
        ('pod="$canary_pods"', "after =~ or !~", 'pod="$canary_pods"'),
        ('alertname=~"High("', "a regular expression of RE2", "High("),
        ('alertname=~"(?=a)"', "a regular expression of RE2", "lookaround"),
        ('alertname=~"\\d+"', "doubled", "\\d"),
        (['severity="page"', "nonsense"], "must be label matchers", "nonsense"),
    ],
)
def test_what_is_no_matcher_is_refused_with_what_was_wanted_and_what_came(
    matching: object, wanted: str, came: str
) -> None:
    said = why(matching=matching)
    assert said.startswith("analysis.alerts.matching")
    assert wanted in said
    assert came in said


def test_a_wrong_entry_of_a_list_is_named_by_its_place() -> None:
    assert why(matching=['severity="page"', "nonsense"]).startswith("analysis.alerts.matching[1] must be")


def test_other_keys_are_refused() -> None:
    assert "must be 'rollback' or 'hold'" in why(matching='a="b"', onFiring="page")
    assert "is not known here" in why(matching='a="b"', severity="page")
    assert "analysis.alerts.matching is missing" in why(onFiring="hold")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$"), max_size=20)


@given(TEXT)
def test_no_value_becomes_another_part_of_the_query(value: str) -> None:
    """promql_parser is another reader of PromQL than the one that wrote the text."""
    selector = LabelMatcher("team", "=", value).promql
    tree = ast.parse(f'ALERTS{{{selector},alertstate="firing"}}')
    assert isinstance(tree, ast.VectorSelector)
    assert [(each.name, each.value) for each in tree.matchers.matchers] == [
        ("team", value),
        ("alertstate", "firing"),
    ]


@given(st.text(st.sampled_from("ab=~!\"'`\\,{}() \n$x"), max_size=24))
def test_whatever_is_taken_is_one_selector_of_alerts_that_fire(text: str) -> None:
    try:
        found = Alerts(matching=(text,))
    except ValueError:
        return
    tree = ast.parse(found.promql.replace("$namespace", "n").replace("$stable_pods", "s"))
    assert isinstance(tree, ast.AggregateExpr)
    (selector,) = _selectors(tree)
    assert (selector.name, selector.matchers.matchers[-1].value) == ("ALERTS", "firing")


def _selectors(tree: ast.Expr) -> list[ast.VectorSelector]:
    found: list[ast.Expr] = []
    ast.walk(tree, found.append)
    return [node for node in found if isinstance(node, ast.VectorSelector)]
