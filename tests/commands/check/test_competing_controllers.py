"""Who else writes the route."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from canaryd.commands.check.finding import Level
from canaryd.domain.check_facts import Listing
from tests.commands.check.facts import a_route, a_world, an_object, bad, only

Object = dict[str, Any]
TRACKED = {
    "annotations": {
        "argocd.argoproj.io/tracking-id": "shop:networking.istio.io/VirtualService:production/sockshop"
    }
}
IGNORED = {
    "ignoreDifferences": [
        {
            "group": "networking.istio.io",
            "kind": "VirtualService",
            "jqPathExpressions": [".spec.http[].route"],
        }
    ]
}


def a_tracked(**metadata: Any) -> Object:
    route = a_route()
    route["metadata"] |= metadata
    return route


def an_application(**spec: Any) -> Object:
    return an_object("Application", "shop", spec, "argocd")


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        ({"syncPolicy": {"automated": {"selfHeal": True}}}, Level.PROBLEM),
        ({"syncPolicy": {"automated": {}}}, Level.WARNING),
        ({"syncPolicy": {}}, Level.WARNING),
        (
            {
                **IGNORED,
                "syncPolicy": {
                    "automated": {"selfHeal": True},
                    "syncOptions": ["RespectIgnoreDifferences=true"],
                },
            },
            None,
        ),
        ({**IGNORED, "syncPolicy": {"automated": {"selfHeal": True}}}, Level.PROBLEM),
    ],
)
def test_argo_cd_fights_unless_it_ignores_the_routes_also_when_it_syncs(
    spec: Object, level: Level | None
) -> None:
    found = bad(a_world({"VirtualService": [a_tracked(**TRACKED)], "Application": [an_application(**spec)]}))
    assert [(one.check, one.level) for one in found] == ([("rivals.gitops", level)] if level else [])


def test_what_mends_argo_cd_is_taken_for_mended() -> None:
    world = {"VirtualService": [a_tracked(**TRACKED)]}
    found = only(
        a_world({**world, "Application": [an_application(syncPolicy={"automated": {"selfHeal": True}})]}),
        "rivals.gitops",
    )
    assert bad(a_world({**world, "Application": [an_application(**yaml.safe_load(found.mend))]})) == []


def test_argo_cd_s_label_counts_only_where_an_application_has_that_name() -> None:
    labelled = a_tracked(labels={"app.kubernetes.io/instance": "shop"})
    assert bad(a_world({"VirtualService": [labelled]})) == []
    assert (
        bad(
            a_world(
                {
                    "VirtualService": [labelled],
                    "Application": [an_object("Application", "other", {}, "argocd")],
                }
            )
        )
        == []
    )
    assert (
        only(
            a_world({"VirtualService": [labelled], "Application": [an_application()]}), "rivals.gitops"
        ).level
        is Level.WARNING
    )


def test_an_application_that_is_not_to_be_seen_is_said_so() -> None:
    assert (
        "which cannot be read from here"
        in only(a_world({"VirtualService": [a_tracked(**TRACKED)]}), "rivals.gitops").found
    )


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({}, True),
        ({"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}, False),
        ({"kustomize.toolkit.fluxcd.io/ssa": "Merge"}, True),
        ({"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}, False),
    ],
)
def test_flux_applies_what_it_made_unless_it_is_told_not_to(annotations: Object, told: bool) -> None:
    route = a_tracked(labels={"kustomize.toolkit.fluxcd.io/name": "apps"}, annotations=annotations)
    found = bad(a_world({"VirtualService": [route]}))
    assert [one.level for one in found] == ([Level.PROBLEM] if told else [])
    if told:
        assert yaml.safe_load(found[0].mend) == {
            "metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}}
        }


def test_helm_and_flux_helm_are_told_once_each() -> None:
    of_helm = a_tracked(annotations={"meta.helm.sh/release-name": "shop"})
    assert "Helm release shop" in only(a_world({"VirtualService": [of_helm]}), "rivals.gitops").found
    of_flux = a_tracked(
        labels={"helm.toolkit.fluxcd.io/name": "shop"}, annotations={"meta.helm.sh/release-name": "shop"}
    )
    assert "HelmRelease shop" in only(a_world({"VirtualService": [of_flux]}), "rivals.gitops").found


@pytest.mark.parametrize(
    ("manager", "told"),
    [
        ("canaryd", False),
        ("kubectl-client-side-apply", False),
        ("kubectl-edit", False),
        ("traffic-operator", True),
    ],
)
def test_another_writer_of_the_routes_is_told_by_its_name(manager: str, told: bool) -> None:
    fields = [
        {"manager": manager, "fieldsV1": {"f:spec": {"f:http": {}}}},
        {"manager": "labeller", "fieldsV1": {"f:metadata": {}}},
    ]
    found = bad(a_world({"VirtualService": [a_tracked(managedFields=fields)]}))
    assert [one.check for one in found] == (["rivals.managers"] if told else [])
    assert all("traffic-operator" in one.found for one in found)


def test_flagger_on_the_same_service_is_a_problem_and_on_another_it_is_not() -> None:
    def canary(target: str) -> Object:
        return an_object("Canary", "c", {"targetRef": {"kind": "Deployment", "name": target}})

    assert only(a_world({"Canary": [canary("front-end")]}), "rivals.flagger").level is Level.PROBLEM
    assert only(a_world({"Canary": [canary("front-end-v1")]}), "rivals.flagger").level is Level.PROBLEM
    assert bad(a_world({"Canary": [canary("carts")]})) == []


def test_argo_rollouts_on_the_same_virtualservice_is_a_problem() -> None:
    def rollout(name: str, kind: str = "virtualService") -> Object:
        return an_object(
            "Rollout",
            "r",
            {"strategy": {"canary": {"trafficRouting": {"istio": {kind: {"name": name}}}}}},
        )

    assert only(a_world({"Rollout": [rollout("sockshop")]}), "rivals.argoRollouts").level is Level.PROBLEM
    by_rule = only(a_world({"Rollout": [rollout("front-end", "destinationRule")]}), "rivals.argoRollouts")
    assert by_rule.found == "Argo Rollouts steers DestinationRule front-end too"
    assert bad(a_world({"Rollout": [rollout("carts")]})) == []
    assert bad(a_world({"Rollout": [an_object("Rollout", "r", {"strategy": {"blueGreen": {}}})]})) == []


def test_rivals_that_may_not_be_listed_are_not_known() -> None:
    kinds = {**a_world().kinds, "Canary": Listing(problem="403"), "Rollout": Listing(problem="403")}
    assert [(one.check, one.level) for one in bad(a_world(kinds=kinds))] == [
        ("rivals.flagger", Level.UNKNOWN),
        ("rivals.argoRollouts", Level.UNKNOWN),
    ]
