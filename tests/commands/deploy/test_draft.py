"""A version of staging beside production's: what is created, with which names and labels, and what is
refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from canaryd.commands.deploy.draft import DeployRequest, Draft, draft
from canaryd.domain.namespace_objects import (
    CannotDeploy,
    DeploymentSelector,
    NamespaceObjects,
    RecordedRollout,
)
from canaryd.domain.rollout import Phase
from tests.commands.deploy.two_namespaces import (
    IMAGE,
    a_budget,
    a_rule,
    a_service,
    a_virtual_service,
    an_autoscaler,
    an_http_route,
    empty,
    of_production,
    production,
    running,
    staging,
)


def drafted(
    source: NamespaceObjects | None = None,
    target: NamespaceObjects | None = None,
    digests: dict[str, str] | None = None,
    **wish: Any,
) -> Draft:
    return draft(
        DeployRequest("front-end", **wish), source or staging(), target or production(), digests or {}
    )


def refusal(
    source: NamespaceObjects | None = None, target: NamespaceObjects | None = None, **wish: Any
) -> str:
    with pytest.raises(CannotDeploy) as caught:
        drafted(source, target, **wish)
    return str(caught.value)


def made(found: Draft, kind: str = "Deployment") -> dict[str, Any]:
    (one,) = [dict(each.manifest) for each in found.made if each.manifest["kind"] == kind]
    return one


def on_record(phase: Phase | None = Phase.PROGRESSING, **changes: str) -> RecordedRollout:
    values = {
        "name": "front-end-v2-hash",
        "service": "front-end",
        "canary": "v2",
        "stable_workload": "front-end-v1",
        **changes,
    }
    return RecordedRollout(**values, phase=phase)


# ---------------------------------------------------------------- the new Deployment


def test_it_is_the_template_of_staging_with_the_names_labels_and_size_of_production() -> None:
    found = drafted()
    assert (found.version, found.name, found.stable and found.stable.name) == (
        "v2",
        "front-end-v2",
        "front-end-v1",
    )
    assert made(found) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "front-end-v2",
            "namespace": "production",
            "labels": {"app": "front-end", "version": "v2"},
            "annotations": {"canaryd.dev/deployed-from": "staging/front-end"},
        },
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "front-end", "version": "v2"}},
            "template": {
                "metadata": {"labels": {"app": "front-end", "version": "v2"}},
                "spec": {
                    "containers": [{"name": "front-end", "image": IMAGE, "ports": [{"containerPort": 8080}]}]
                },
            },
        },
    }
    assert [one.manifest["kind"] for one in found.made] == ["Deployment"]
    assert (found.notes, found.warnings) == ((), ())


def test_what_was_read_is_not_changed() -> None:
    source, target = staging(), production(autoscalers=[an_autoscaler()])
    before = deepcopy((source, target))
    drafted(source, target)
    assert (source, target) == before


def test_probes_resources_volumes_and_strategy_are_kept() -> None:
    container = {
        "name": "front-end",
        "image": IMAGE,
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}},
        "resources": {"limits": {"memory": "256Mi"}},
        "env": [{"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "strategy": {"type": "Recreate"},
        "progressDeadlineSeconds": 60,
        "minReadySeconds": 5,
        "revisionHistoryLimit": 2,
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 60,
    }
    own = running(spec=spec)
    own.manifest["spec"]["template"]["spec"] = pod
    kept = made(drafted(staging(own)))["spec"]
    assert kept["template"]["spec"] == pod
    assert {key: kept[key] for key in spec} == spec


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("annotations", "deployment.kubernetes.io/revision"),
        ("annotations", "kubectl.kubernetes.io/last-applied-configuration"),
        ("annotations", "argocd.argoproj.io/tracking-id"),
        ("annotations", "meta.helm.sh/release-name"),
        ("labels", "app.kubernetes.io/managed-by"),
        ("labels", "app.kubernetes.io/instance"),
        ("labels", "helm.sh/chart"),
        ("labels", "kustomize.toolkit.fluxcd.io/name"),
        ("annotations", "canaryd.dev/ignore"),
    ],
)
def test_what_server_and_owners_wrote_into_its_metadata_is_left_out(part: str, key: str) -> None:
    own = running(metadata={part: {key: "x", "team": "shop"}, "ownerReferences": [], "finalizers": ["f"]})
    metadata = made(drafted(staging(own)))["metadata"]
    assert key not in metadata[part]
    assert metadata[part]["team"] == "shop"
    assert metadata.keys() == {"name", "namespace", "labels", "annotations"}


def test_that_it_was_someone_s_is_noted() -> None:
    own = running(
        metadata={
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "ownerReferences": [{"kind": "Shop", "name": "one"}],
        }
    )
    assert drafted(staging(own)).notes == (
        "left out is what marks front-end as someone's: app.kubernetes.io/managed-by, Shop one",
    )


def test_a_restart_of_staging_is_not_part_of_the_version_but_other_annotations_of_pods_are() -> None:
    own = running()
    own.manifest["spec"]["template"]["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/restartedAt": "x",
        "prometheus.io/scrape": "true",
    }
    assert made(drafted(staging(own)))["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true"
    }


def test_labels_that_service_and_policy_need_are_added_and_a_different_value_is_noted() -> None:
    own = running(labels={"app": "frontend", "name": "front-end", "team": "shop"})
    source = staging(own, services=[a_service(namespace="staging", selector={"name": "front-end"})])
    target = production(
        of_production(labels={"app": "front-end", "version": "v1", "tier": "web", "team": "shop"}),
        services=[a_service(selector={"tier": "web"})],
    )
    found = drafted(source, target, finding=DeploymentSelector({"app": "front-end"}))
    labels = {"app": "front-end", "name": "front-end", "team": "shop", "tier": "web", "version": "v2"}
    assert made(found)["spec"]["template"]["metadata"]["labels"] == labels
    assert made(found)["spec"]["selector"]["matchLabels"] == labels
    assert "pods have the label app=front-end, where front-end has frontend" in found.notes


def test_a_version_label_of_another_name_is_used_where_the_policy_has_one() -> None:
    label = "app.kubernetes.io/version"
    target = production(
        of_production(labels={"app": "front-end", label: "v1"}),
        services=[a_service()],
        rules=[
            {**a_rule(), "spec": {"host": "front-end", "subsets": [{"name": "v1", "labels": {label: "v1"}}]}}
        ],
    )
    found = drafted(target=target, finding=DeploymentSelector({"app": "front-end"}, label))
    assert made(found)["spec"]["selector"]["matchLabels"] == {"app": "front-end", label: "v2"}


def test_rules_about_where_pods_run_are_about_the_new_version() -> None:
    selector = {"labelSelector": {"matchLabels": {"app": "front-end", "version": "v7"}}}
    other = {"labelSelector": {"matchLabels": {"app": "other", "version": "v1"}}}
    own = running(
        labels={"app": "front-end", "version": "v7"},
        topologySpreadConstraints=[selector],
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [selector, other]}},
    )
    spec = made(drafted(staging(own)))["spec"]["template"]["spec"]
    assert spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["version"] == "v2"
    rules = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [rule["labelSelector"]["matchLabels"]["version"] for rule in rules] == ["v2", "v1"]


@pytest.mark.parametrize(
    ("stable", "own", "wanted"),
    [
        ({}, {"sidecar.istio.io/inject": "false"}, None),
        ({"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}, "true"),
        ({"sidecar.istio.io/inject": "true"}, {}, "true"),
    ],
)
def test_whether_a_sidecar_is_injected_is_as_stable_has_it(
    stable: dict[str, str], own: dict[str, str], wanted: str | None
) -> None:
    source, target = running(), of_production()
    source.manifest["spec"]["template"]["metadata"]["annotations"] = own
    target.manifest["spec"]["template"]["metadata"]["annotations"] = stable
    found = drafted(staging(source), production(target))
    assert (
        made(found)["spec"]["template"]["metadata"].get("annotations", {}).get("sidecar.istio.io/inject")
        == wanted
    )
    assert any("sidecar.istio.io/inject" in note for note in found.notes)


def test_a_first_version_without_a_sidecar_is_warned_about() -> None:
    own = running()
    own.manifest["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    assert any("no telemetry" in line for line in drafted(staging(own), empty()).warnings)


def test_a_paused_deployment_is_not_paused_where_it_goes() -> None:
    found = drafted(staging(running(spec={"paused": True})))
    assert "paused" not in made(found)["spec"]
    assert found.notes == ("front-end is paused; the new Deployment is not",)


@pytest.mark.parametrize(("stable", "asked", "replicas"), [(5, None, 5), (0, None, 1), (5, 2, 2)])
def test_it_is_as_large_as_stable_unless_asked_otherwise(
    stable: int, asked: int | None, replicas: int
) -> None:
    target = production(of_production(replicas=stable))
    assert made(drafted(target=target, replicas=asked))["spec"]["replicas"] == replicas


def test_images_are_pinned_with_their_tags_kept() -> None:
    digest = f"sha256:{'a' * 64}"
    container = made(drafted(digests={"front-end": digest}))["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"{IMAGE}@{digest}"


# ---------------------------------------------------------------- the version's name


@pytest.mark.parametrize(
    ("versions", "recorded", "wanted"),
    [
        (["v1"], [], "v2"),
        (["v1", "v2"], [], "v3"),
        (["v9", "v10"], [], "v11"),
        (["v1"], ["v4"], "v5"),
        (["v1", "canary"], [], "v2"),
    ],
)
def test_the_next_version_is_above_all_that_are_there_or_on_record(
    versions: list[str], recorded: list[str], wanted: str
) -> None:
    stable, *others = (
        of_production(version, image=f"i:{version}", replicas=2 if version == versions[0] else 0)
        for version in versions
    )
    rollouts = [on_record(Phase.ROLLED_BACK, canary=one) for one in recorded]
    assert drafted(target=production(stable, *others, rollouts=rollouts)).version == wanted


def test_a_name_that_is_taken_by_something_else_is_not_the_next_one() -> None:
    other = running("front-end-v2", "production", labels={"app": "other"})
    assert drafted(target=production(of_production(), other)).version == "v3"


def test_versions_that_are_not_numbered_have_to_be_said() -> None:
    target = production(
        of_production("0.5.0"), virtual_services=[a_virtual_service(("0.5.0", 100))], rules=[a_rule("0.5.0")]
    )
    assert "are not numbered v1, v2 (0.5.0); for example: canaryd deploy front-end VERSION" in refusal(
        target=target
    )
    assert drafted(target=target, version="0.6.0").name == "front-end-0.6.0"


@pytest.mark.parametrize("version", ["V2", "v_2", "-v2", "v2-", "v" * 64, "v2 "])
def test_a_version_that_is_no_label_and_no_name_is_refused(version: str) -> None:
    assert "a version must be" in refusal(version=version)


def test_a_version_that_is_there_is_refused_with_what_it_runs() -> None:
    said = refusal(version="v1")
    assert (
        "Deployment front-end-v1 is there already in production, and runs "
        "registry.example/sockshop/front-end:0.5.0" in said
    )


def test_a_version_label_that_another_deployment_has_is_refused() -> None:
    other = running(
        "front-end-blue", "production", "i:1", replicas=0, labels={"app": "front-end", "version": "v2"}
    )
    assert "front-end-blue in production has version=v2 already" in refusal(
        target=production(of_production(), other), version="v2"
    )


def test_pods_without_a_version_label_are_refused_since_no_route_can_tell_them_apart() -> None:
    plain = running("front-end", "production", "i:1")
    target = production(plain, virtual_services=[], rules=[])
    assert "the pods of front-end in production have no label version" in refusal(target=target)


# ---------------------------------------------------------------- what runs in staging


def test_the_policy_s_selector_finds_it_else_canaryd_s_note_else_the_service() -> None:
    one, two = running("one", labels={"a": "1"}), running("two", labels={"b": "1"})
    source = staging(one, two, services=[])
    assert drafted(source, empty(), finding=DeploymentSelector({"a": "1"})).source.name == "one"
    assert drafted(source, empty(notes={"front-end": DeploymentSelector({"b": "1"})})).source.name == "two"
    assert drafted(replace(source, services=[a_service(selector={"b": "1"})]), empty()).source.name == "two"


def test_pods_that_are_labelled_otherwise_in_staging_are_found_by_its_own_service() -> None:
    source = staging(
        running(labels={"name": "fe"}), services=[a_service(namespace="staging", selector={"name": "fe"})]
    )
    assert made(drafted(source, finding=DeploymentSelector({"app": "front-end"})))["spec"]["template"][
        "metadata"
    ]["labels"] == {"name": "fe", "app": "front-end", "version": "v2"}


def test_a_service_that_is_nowhere_is_refused_with_what_there_is() -> None:
    source = staging(services=[a_service("carts", "staging")])
    said = refusal(source, empty())
    assert "there is no Service front-end in staging or production (in staging there are: carts)" in said


def test_a_service_without_deployments_is_refused() -> None:
    source = staging(running("carts", labels={"app": "carts"}))
    assert "no Deployment of front-end runs in staging" in refusal(source)


TWO = (
    running("front-end-v1", labels={"app": "front-end", "version": "v1"}, image="i:1"),
    running("front-end-v2", labels={"app": "front-end", "version": "v2"}),
)


@pytest.mark.parametrize(
    ("routes", "wanted"),
    [
        (
            {
                "virtual_services": [a_virtual_service(("v2", 100), namespace="staging")],
                "rules": [a_rule("v1", "v2", namespace="staging")],
            },
            "front-end-v2",
        ),
        (
            {
                "virtual_services": [a_virtual_service(("v1", 100), ("v2", 0), namespace="staging")],
                "rules": [a_rule("v1", "v2", namespace="staging")],
            },
            "front-end-v1",
        ),
        (
            {"services": [a_service(namespace="staging", selector={"app": "front-end", "version": "v2"})]},
            "front-end-v2",
        ),
    ],
)
def test_of_several_it_is_the_one_that_gets_the_requests(routes: dict[str, Any], wanted: str) -> None:
    assert drafted(staging(*TWO, **routes)).source.name == wanted


@pytest.mark.parametrize(
    "routes",
    [
        {},
        {
            "virtual_services": [a_virtual_service(("v1", 90), ("v2", 10), namespace="staging")],
            "rules": [a_rule("v1", "v2")],
        },
    ],
)
def test_of_several_that_get_requests_none_is_guessed(routes: dict[str, Any]) -> None:
    said = refusal(staging(*TWO, **routes))
    assert (
        "front-end-v1 (2 replicas, available); front-end-v2 (2 replicas, available); choose one with "
        "--deployment NAME" in said
    )
    assert drafted(staging(*TWO, **routes), deployment="front-end-v2").source.name == "front-end-v2"


def test_a_named_deployment_has_to_be_the_service_s() -> None:
    assert "these are: front-end-v1, front-end-v2" in refusal(staging(*TWO), deployment="carts")


def test_one_that_is_scaled_to_zero_is_passed_over() -> None:
    assert drafted(staging(running("old", replicas=0), running("new"))).source.name == "new"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            running(available=False),
            "is not available, or in the middle of a rolling update (0 of 2 replicas are ready)",
        ),
        (running(replicas=0), "is scaled to 0"),
    ],
)
def test_what_does_not_serve_in_staging_is_refused_unless_forced(source: Any, said: str) -> None:
    assert said in refusal(staging(source))
    assert drafted(staging(source), force=True).name == "front-end-v2"


def test_a_version_on_its_way_beside_one_that_serves_is_not_passed_over_in_silence() -> None:
    new = running("front-end-v2", labels={"app": "front-end", "version": "v2"}, available=False)
    assert "front-end-v2 (2 replicas, not available)" in refusal(staging(TWO[0], new))


# ---------------------------------------------------------------- what is there already


def test_the_same_image_is_nothing_to_do() -> None:
    found = drafted(target=production(of_production(image=IMAGE)))
    assert (found.made, found.nothing) == ((), f"front-end-v1 in production runs {IMAGE} already")
    assert found.notes == ()


def test_the_same_image_with_another_configuration_is_said_and_deployed_when_asked() -> None:
    own = running()
    own.manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "2"}]
    target = production(of_production(image=IMAGE))
    assert "its pods differ in more than the images" in drafted(staging(own), target).notes[0]
    assert drafted(staging(own), target, same_image=True).name == "front-end-v2"


def test_the_same_image_scaled_to_zero_is_refused_with_the_two_ways_on() -> None:
    gone = of_production("v2", image=IMAGE, replicas=0)
    assert "front-end-v2 in production has these images already, scaled to 0" in refusal(
        target=production(of_production(), gone)
    )


def test_the_same_image_that_was_rolled_back_is_told_with_the_way_to_try_it_again() -> None:
    target = production(
        of_production(), of_production("v2", image=IMAGE), rollouts=[on_record(Phase.ROLLED_BACK)]
    )
    assert "canaryd retry front-end-v2-hash tries it once more" in drafted(target=target).notes[0]


def test_a_tag_that_is_pinned_is_another_image_than_the_tag() -> None:
    target = production(of_production(image=IMAGE))
    assert drafted(target=target, digests={"front-end": f"sha256:{'a' * 64}"}).name == "front-end-v2"


def test_what_an_interrupted_deploy_left_out_is_made_up_for() -> None:
    half = of_production(
        "v2", image=IMAGE, metadata={"annotations": {"canaryd.dev/deployed-from": "staging/front-end"}}
    )
    target = production(of_production(), half, autoscalers=[an_autoscaler()])
    found = drafted(target=target)
    assert made(found, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "front-end-v2"
    assert len(found.made) == 1
    whole = replace(target, autoscalers=[an_autoscaler(), an_autoscaler("front-end-v2", "front-end-v2")])
    assert drafted(target=whole).nothing


def test_a_deployment_of_someone_else_s_gets_nothing() -> None:
    target = production(of_production(), of_production("v2", image=IMAGE), autoscalers=[an_autoscaler()])
    assert drafted(target=target).made == ()


@pytest.mark.parametrize("phase", [None, Phase.WAITING, Phase.PROGRESSING, Phase.HELD])
def test_while_a_rollout_is_under_way_nothing_is_deployed_unless_it_is_to_give_way(
    phase: Phase | None,
) -> None:
    target = production(of_production(), of_production("v2", image="i:2"), rollouts=[on_record(phase)])
    assert "front-end-v2-hash (v2) is under way" in refusal(target=target)
    assert drafted(target=target, supersede=True).name == "front-end-v3"


def test_rollouts_that_may_not_be_read_are_warned_about() -> None:
    target = production(unreadable={"CanaryRollout": "403"})
    assert "whether a rollout is under way is not known (403)" in drafted(target=target).warnings[0]


def test_a_rollout_of_another_service_or_one_that_has_ended_is_not_in_the_way() -> None:
    rollouts = [on_record(Phase.SUCCEEDED, canary="v1"), on_record(service="carts")]
    assert drafted(target=production(rollouts=rollouts)).name == "front-end-v2"


def test_stable_is_the_one_on_record_while_the_route_is_split() -> None:
    target = production(
        of_production(),
        of_production("v2", image="i:2", replicas=1),
        rollouts=[on_record()],
        virtual_services=[a_virtual_service(("v1", 75), ("v2", 25))],
        rules=[a_rule("v1", "v2")],
    )
    found = drafted(target=target, supersede=True)
    assert found.stable is not None
    assert (found.stable.name, made(found)["spec"]["replicas"]) == ("front-end-v1", 3)


def test_stable_that_cannot_be_told_is_refused() -> None:
    target = production(
        of_production(),
        of_production("v2", image="i:2"),
        virtual_services=[a_virtual_service(("v1", 75), ("v2", 25))],
        rules=[a_rule("v1", "v2")],
    )
    assert (
        "it is not clear which version of front-end is stable in production: front-end-v1, front-end-v2"
        in refusal(target=target)
    )


# ---------------------------------------------------------------- a canary begins without any requests


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({"virtual_services": []}, "no VirtualService and no HTTPRoute of production routes to front-end"),
        (
            {"virtual_services": [a_virtual_service(("", 100))]},
            "http route #0 sends to front-end without a subset",
        ),
        (
            {
                "rules": [
                    {
                        **a_rule(),
                        "spec": {
                            "host": "front-end",
                            "subsets": [{"name": "v1", "labels": {"app": "front-end"}}],
                        },
                    }
                ]
            },
            "sends 100% to subset v1, which selects the new pods already",
        ),
        (
            {
                "virtual_services": [
                    a_virtual_service(("v1", 100)),
                    a_virtual_service(("v2", 100), match=[{"uri": {"prefix": "/x"}}]),
                ],
                "rules": [a_rule("v1", "v2")],
            },
            "sends to subset v2, which selects the new pods already",
        ),
        ({"virtual_services": [], "unreadable": {"VirtualService": "403"}}, "new pods (403)"),
        ({"virtual_services": [], "unreadable": {"HTTPRoute": "403"}}, "new pods (403)"),
    ],
)
def test_where_no_route_keeps_requests_from_it_it_is_refused_unless_that_is_meant(
    routes: dict[str, Any], said: str
) -> None:
    assert said in refusal(target=production(**routes))
    assert drafted(target=production(**routes), expose=True).name == "front-end-v2"


def of_gateway_api(*weights: tuple[str, int]) -> dict[str, Any]:
    """An HTTPRoute of these Services and weights, in place of Istio's objects; each version has a Service."""
    versions = [
        a_service(f"front-end-{one}", selector={"app": "front-end", "version": one}) for one in ("v1", "v2")
    ]
    return {
        "virtual_services": [],
        "rules": [],
        "services": [a_service(), *versions],
        "http_routes": [an_http_route(*weights)],
    }


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            [("front-end", 1)],
            "HTTPRoute sockshop, rule #0 sends 100% to Service front-end, which selects the new pods already",
        ),
        (
            [("front-end-v1", 90), ("front-end-v2", 10)],
            "sends 10% to Service front-end-v2, which selects the new pods already",
        ),
        ([("carts", 1)], "no VirtualService and no HTTPRoute of production routes to front-end"),
    ],
)
def test_an_http_route_that_leads_to_the_new_pods_exposes_them(
    weights: list[tuple[str, int]], said: str
) -> None:
    assert said in refusal(target=production(**of_gateway_api(*weights)))


def test_an_http_route_that_keeps_to_stable_s_service_exposes_nothing() -> None:
    found = drafted(target=production(**of_gateway_api(("front-end-v1", 1), ("front-end-v2", 0))))
    assert found.stable is not None
    assert (found.stable.name, found.name) == ("front-end-v1", "front-end-v2")


def test_who_may_not_list_http_routes_needs_none_where_a_virtual_service_steers_the_service() -> None:
    assert drafted(target=production(unreadable={"HTTPRoute": "403"})).name == "front-end-v2"


def test_stable_is_the_one_that_the_http_route_leads_to() -> None:
    two = (of_production(), of_production("v2", image="i:2"))
    found = drafted(target=production(*two, **of_gateway_api(("front-end-v2", 1))))
    assert found.stable is not None
    assert (found.stable.name, found.name) == ("front-end-v2", "front-end-v3")


def test_a_subset_of_the_new_version_without_weight_exposes_nothing() -> None:
    target = production(
        virtual_services=[a_virtual_service(("v1", 100), ("v2", 0))], rules=[a_rule("v1", "v2")]
    )
    assert drafted(target=target).name == "front-end-v2"


def test_a_service_that_selects_one_version_alone_is_refused_since_the_new_one_would_get_nothing() -> None:
    said = refusal(target=production(services=[a_service(selector={"app": "front-end", "version": "v1"})]))
    assert "Service front-end selects version=v1 alone, so pods of v2 would never get a request" in said


def test_a_service_and_a_policy_that_no_pod_can_satisfy_together_are_refused() -> None:
    target = production(services=[a_service(selector={"app": "web"})])
    assert "Service front-end selects app=web, and the policy's service.selector app=front-end" in refusal(
        target=target, finding=DeploymentSelector({"app": "front-end"})
    )


# ---------------------------------------------------------------- what goes with it


def test_stable_s_autoscaler_is_copied_for_the_new_version_by_the_team_s_own_way_to_name_it() -> None:
    metric = {
        "type": "External",
        "external": {"metric": {"name": "rps", "selector": {"matchLabels": {"version": "v1"}}}},
    }
    found = drafted(
        target=production(
            autoscalers=[an_autoscaler("hpa-front-end-v1", metrics=[metric]), an_autoscaler("x", "carts-v1")]
        )
    )
    copy = made(found, "HorizontalPodAutoscaler")
    assert copy["metadata"] == {"name": "hpa-front-end-v2", "namespace": "production"}
    assert copy["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "front-end-v2",
    }
    assert copy["spec"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"] == {"version": "v2"}
    assert "status" not in copy
    assert [one.manifest["kind"] for one in found.made] == [
        "Deployment",
        "HorizontalPodAutoscaler",
    ]  # the Deployment first
    assert found.made[1].beside is not None


def test_a_metric_that_names_stable_is_warned_about() -> None:
    metric = {"type": "Object", "object": {"describedObject": {"kind": "Deployment", "name": "front-end-v1"}}}
    warnings = drafted(target=production(autoscalers=[an_autoscaler(metrics=[metric])])).warnings
    assert "a metric of HorizontalPodAutoscaler front-end-v1 is of front-end-v1 by name" in warnings[-1]


def test_an_autoscaler_of_keda_is_not_copied_but_told() -> None:
    owned = an_autoscaler()
    owned["metadata"]["ownerReferences"] = [{"kind": "ScaledObject", "name": "front-end"}]  # type: ignore[index]
    found = drafted(target=production(autoscalers=[owned]))
    assert len(found.made) == 1
    assert (
        "front-end-v1 is scaled by KEDA (ScaledObject front-end), which is not copied" in found.warnings[-1]
    )


def test_an_autoscaler_s_name_that_is_taken_is_refused() -> None:
    target = production(autoscalers=[an_autoscaler(), an_autoscaler("front-end-v2", "carts-v1")])
    assert (
        "HorizontalPodAutoscaler front-end-v2 is there already, and is not the one that scales front-end-v2"
        in refusal(target=target)
    )


def test_autoscalers_and_budgets_that_may_not_be_read_are_warned_about() -> None:
    unreadable = {"HorizontalPodAutoscaler": "403", "PodDisruptionBudget": "403"}
    assert len(drafted(target=production(unreadable=unreadable)).warnings) == 2


@pytest.mark.parametrize(
    ("labels", "copied"), [({"version": "v1"}, True), ({}, False), ({"version": "v0"}, False)]
)
def test_a_disruption_budget_of_stable_s_version_is_copied_and_one_of_both_is_not(
    labels: dict[str, str], copied: bool
) -> None:
    found = drafted(target=production(budgets=[a_budget("pdb", **labels)]))
    kinds = [one.manifest["kind"] for one in found.made]
    assert kinds == (["Deployment", "PodDisruptionBudget"] if copied else ["Deployment"])
    if copied:
        copy = made(found, "PodDisruptionBudget")
        assert (copy["metadata"]["name"], copy["spec"]) == (
            "front-end-v2",
            {"minAvailable": 1, "selector": {"matchLabels": {"app": "front-end", "version": "v2"}}},
        )


# ---------------------------------------------------------------- the first version


def test_a_first_version_is_v1_with_its_service_and_as_large_as_in_staging() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 31481}]
    own = {
        **a_service(
            namespace="staging",
            type="LoadBalancer",
            clusterIP="10.0.0.1",
            clusterIPs=["10.0.0.1"],
            ports=ports,
        )
    }
    found = drafted(staging(services=[own]), empty())
    assert [one.manifest["kind"] for one in found.made] == ["Service", "Deployment"]
    assert made(found, "Service")["spec"] == {
        "selector": {"app": "front-end"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    assert (found.version, made(found)["spec"]["replicas"], found.stable) == ("v1", 2, None)
    assert "there is nothing to compare with" in found.notes[-1]
    assert "is a LoadBalancer in staging, and is made a ClusterIP" in found.warnings[-1]


def test_a_headless_service_stays_headless() -> None:
    own = a_service(namespace="staging", clusterIP="None")
    assert made(drafted(staging(services=[own]), empty()), "Service")["spec"]["clusterIP"] == "None"


def test_a_service_that_is_there_is_not_touched() -> None:
    assert [one.manifest["kind"] for one in drafted(target=empty(services=[a_service()])).made] == [
        "Deployment"
    ]


def test_no_route_is_wanted_of_a_first_version() -> None:
    assert drafted(target=empty()).name == "front-end-v1"


# ---------------------------------------------------------------- warnings


def test_every_place_that_mentions_staging_is_told_by_line() -> None:
    env = [
        {"name": "API", "value": "http://api.staging.svc"},
        {"name": "STAGE", "value": "STAGING"},
        {"name": "X", "value": "stagingly"},
    ]
    own = running()
    own.manifest["spec"]["template"]["spec"]["containers"][0] |= {"env": env, "args": ["--peer=a.staging:1"]}
    assert drafted(staging(own)).warnings == (
        "mentions staging: containers[front-end].env[API].value: http://api.staging.svc",
        "mentions staging: containers[front-end].env[STAGE].value: STAGING",
        "mentions staging: containers[front-end].args[0]: --peer=a.staging:1",
    )


@pytest.mark.parametrize(
    ("image", "floats"),
    [
        ("front-end", True),
        ("registry:5000/front-end", True),
        ("front-end:latest", True),
        ("front-end:0.6.0", False),
        ("registry:5000/front-end:1", False),
        (f"front-end:latest@sha256:{'a' * 64}", False),
    ],
)
def test_a_tag_that_says_nothing_is_warned_about(image: str, floats: bool) -> None:
    assert bool(drafted(staging(running(image=image))).warnings) is floats


def test_labels_of_stable_that_the_new_pods_lack_are_warned_about() -> None:
    target = production(of_production(labels={"app": "front-end", "version": "v1", "team": "shop"}))
    assert (
        "pods of front-end-v1 have the labels team=shop, which the new ones lack"
        in drafted(target=target).warnings[0]
    )


def test_a_stable_selector_that_takes_in_the_new_pods_is_warned_about() -> None:
    stable = of_production(spec={"selector": {"matchLabels": {"app": "front-end"}}})
    assert (
        "front-end-v1 selects pods by app=front-end, which the new ones have too"
        in drafted(target=production(stable)).warnings[0]
    )


def test_that_stable_is_kept_in_a_repository_is_warned_about() -> None:
    stable = of_production(metadata={"annotations": {"argocd.argoproj.io/tracking-id": "shop"}})
    assert "the new one is in no repository" in drafted(target=production(stable)).warnings[0]


def test_a_sidecar_in_stable_s_template_is_missed_in_the_new_one() -> None:
    stable = of_production()
    stable.manifest["spec"]["template"]["spec"]["containers"].append(
        {"name": "istio-proxy", "image": "proxy"}
    )
    assert "istioctl kube-inject" in drafted(target=production(stable)).warnings[0]


def test_a_long_name_is_warned_about() -> None:
    assert "is a long name" in drafted(version="v" * 50).warnings[0]
