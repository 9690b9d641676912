"""What canaryd's account and its users are allowed."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from canaryd.commands.check.daemon_rbac import DAEMON, WISHES, of_daemon
from canaryd.commands.check.finding import Level
from canaryd.commands.check.user_rbac import of_people
from canaryd.domain.check_facts import Listing, Right, Rights
from canaryd.domain.rollout import DesiredActions
from tests.builders import a_policy
from tests.commands.check.facts import ACCOUNT, a_world, bad, only

CHART = Path(__file__).parents[3] / "charts/canaryd"
ALL = Rights("", dict.fromkeys(of_people([a_policy()], "staging"), True))
FULL = Rights(ACCOUNT, dict.fromkeys(of_daemon(["production"]), True))


def test_the_rights_asked_for_are_those_that_the_chart_grants() -> None:
    text = (CHART / "templates/rbac.yaml").read_text().split("kind: ClusterRole\n")[1].split("\n---")[0]
    rules = yaml.safe_load("rules:" + text.split("rules:")[1])["rules"]
    granted = {one for rule in rules for one in product(rule["apiGroups"], rule["resources"], rule["verbs"])}
    assert granted == {
        (group, resource, verb)
        for group, resources, verbs in DAEMON
        for resource in resources
        for verb in verbs
    }
    asked = {
        (right.group, right.resource, right.verb)
        for right in of_daemon(["production"], http_routes=True, split=True)
    }
    assert asked == granted


def test_what_httproutes_take_is_asked_for_where_a_policy_steers_one() -> None:
    more = set(of_daemon(["production"], http_routes=True)) - set(of_daemon(["production"]))
    assert {one.resource for one in more} == {"httproutes", "services"}


def test_what_split_takes_is_asked_for_where_a_policy_has_it() -> None:
    more = set(of_daemon(["production"], split=True)) - set(of_daemon(["production"]))
    assert {(one.resource, one.verb) for one in more} == {
        ("destinationrules", "create"),
        ("destinationrules", "delete"),
        ("services", "list"),
        ("services", "create"),
        ("services", "delete"),
    }


def test_records_are_listed_everywhere_and_all_else_in_each_namespace() -> None:
    asked = of_daemon(["staging", "production", "production"])
    assert [one for one in asked if not one.namespace] == [Right("canaryd.dev", "canaryrollouts", "list")]
    assert {one.namespace for one in asked} == {"", "staging", "production"}
    assert len(asked) == len(set(asked))


def test_what_the_account_lacks_comes_with_the_role_that_adds_it() -> None:
    lacking = Right("networking.istio.io", "virtualservices", "patch", "production")
    scale = Right("apps", "deployments/scale", "patch", "production")
    account = Rights(ACCOUNT, {**FULL.may, lacking: False, scale: False})
    found = only(a_world(rights=[ALL, account]), "rights.account")
    assert found.level is Level.PROBLEM
    assert (
        "patch virtualservices.networking.istio.io in production, patch deployments.apps/scale in production"
        in found.found
    )
    command, _, role = found.mend.partition("\n")
    assert (
        command
        == f"# kubectl auth can-i patch virtualservices.networking.istio.io -n production --as {ACCOUNT}"
    )
    made, binding = yaml.safe_load_all(role)
    assert made["rules"] == [
        {"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]},
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "canaryd", "namespace": "canaryd"}]


def test_a_subresource_is_asked_for_as_kubectl_has_it() -> None:
    scale = Right("apps", "deployments/scale", "patch", "production")
    found = only(a_world(rights=[ALL, Rights("jane", {scale: False})]), "rights.account")
    assert found.mend.startswith(
        "# kubectl auth can-i patch deployments.apps --subresource scale -n production --as jane\n"
    )
    assert "kind: User" in found.mend


def test_what_the_caller_lacks_is_a_warning_with_what_it_is_for() -> None:
    lacking = Right("canaryd.dev", "canaryrollouts", "patch", "production")
    found = only(a_world(rights=[Rights("", {**ALL.may, lacking: False}), FULL]), "rights.caller")
    assert found.level is Level.WARNING
    assert found.wanted == "for: hold, resume, approve, abort, promote, retry"
    assert found.mend == "kubectl auth can-i patch canaryrollouts.canaryd.dev -n production"


def test_what_the_caller_lacks_is_told_by_what_it_is_for() -> None:
    lacking = [one for one in ALL.may if one.verb == "create" and "autoscaler" in one.why] + [
        Right("", "pods", "list", "staging")
    ]
    found = bad(a_world(rights=[Rights("", {**ALL.may, **dict.fromkeys(lacking, False)}), FULL]))
    assert [(one.found, one.wanted) for one in found] == [
        (
            "you may not create horizontalpodautoscalers.autoscaling in production, create "
            "poddisruptionbudgets.policy in production",
            "for: deploy (copies of stable's autoscaler and disruption budget)",
        ),
        ("you may not list pods in staging", "for: deploy --pin-digest"),
    ]
    assert found[0].mend.splitlines() == [
        "kubectl auth can-i create horizontalpodautoscalers.autoscaling -n production",
        "kubectl auth can-i create poddisruptionbudgets.policy -n production",
    ]


def test_people_are_asked_about_the_kind_of_route_that_is_steered_there() -> None:
    by_istio, by_gateway_api = a_policy(), a_policy(route={"httpRoute": "sockshop"})
    resources = [
        {right.resource for right in of_people(each)}
        for each in ([], [by_istio], [by_gateway_api], [by_istio, by_gateway_api])
    ]
    assert [("virtualservices" in resource, "httproutes" in resource) for resource in resources] == [
        (True, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_rights_that_cannot_be_asked_are_not_known() -> None:
    found = bad(
        a_world(rights=[Rights("", problem="503"), Rights(ACCOUNT, FULL.may, problem="403: forbidden")])
    )
    assert [(one.check, one.level) for one in found] == [
        ("rights.caller", Level.UNKNOWN),
        ("rights.account", Level.UNKNOWN),
    ]
    assert f"-n production --as {ACCOUNT}" in found[1].mend


def test_without_an_account_it_is_said_how_to_name_one() -> None:
    assert "--as NAMESPACE/NAME" in only(a_world(rights=[ALL]), "rights.account").wanted


def crd() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "crds/canaryrollouts.yaml").read_text()))


def test_the_crd_has_to_be_there_in_this_version() -> None:
    groups = a_world().groups
    without = {key: value for key, value in groups.items() if key != "canaryd.dev"}
    assert (
        only(a_world(groups=without), "rights.crd").mend
        == "kubectl apply --server-side -f charts/canaryd/crds/"
    )
    assert "v9" in only(a_world(groups={**groups, "canaryd.dev": ("v9",)}), "rights.crd").found
    assert bad(a_world({"CustomResourceDefinition": [crd()]})) == []


def test_a_crd_of_another_canaryd_that_would_drop_wishes_is_told() -> None:
    old = crd()
    del old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["hold"]
    found = only(
        a_world(kinds={**a_world().kinds, "CustomResourceDefinition": Listing((old,))}), "rights.crd"
    )
    assert "spec.hold would be dropped" in found.found


def test_the_wishes_looked_for_are_those_of_the_verbs() -> None:
    names = {
        re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in DesiredActions.__dataclass_fields__
    }
    assert set(WISHES) <= names
