"""Is the service in the mesh."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.check.finding import Level
from canaryd.domain.check_facts import CONTROL_PLANE
from tests.builders import a_policy
from tests.commands.check.facts import a_namespace, a_pod, a_service, a_webhook, a_world, an_istiod, bad, only

ON, REV, AMBIENT = (
    {"istio-injection": "enabled"},
    {"istio.io/rev": "1-31"},
    {"istio.io/dataplane-mode": "ambient"},
)


@pytest.mark.parametrize(
    ("labels", "revisions", "level", "mend"),
    [
        (ON, ["default"], None, ""),
        (REV, ["1-31"], None, ""),
        (REV, ["default", "1-31"], None, ""),
        ({}, ["default"], Level.PROBLEM, "kubectl label namespace production istio-injection=enabled"),
        (
            {"istio-injection": "disabled"},
            ["default"],
            Level.PROBLEM,
            "kubectl label namespace production istio-injection=enabled --overwrite",
        ),
        (
            {**ON, **REV},
            ["1-31", "default"],
            Level.WARNING,
            "kubectl label namespace production istio-injection-",
        ),
        (REV, ["1-30"], Level.PROBLEM, "kubectl label namespace production istio.io/rev=1-30 --overwrite"),
        (ON, ["1-31"], Level.PROBLEM, "istioctl tag set default --revision 1-31"),
    ],
)
def test_the_namespace_s_label_has_to_name_what_injects(
    labels: dict[str, str], revisions: list[str], level: Level | None, mend: str
) -> None:
    world = a_world(
        {
            "Namespace": [a_namespace(**labels)],
            "MutatingWebhookConfiguration": [a_webhook(revision) for revision in revisions],
        }
    )
    found = [one for one in bad(world) if one.check == "injection.label"]
    assert [(one.level, one.mend) for one in found] == ([(level, mend)] if level else [])


@pytest.mark.parametrize(("labels", "rev"), [(ON, "1-31"), ({"istio.io/rev": "prod-stable"}, "default")])
def test_a_revision_that_may_be_a_tag_is_not_known_where_the_webhooks_are_not_seen(
    labels: dict[str, str], rev: str
) -> None:
    world = a_world(
        {"Namespace": [a_namespace(**labels)], CONTROL_PLANE: [an_istiod(rev=rev)]},
        unread={"MutatingWebhookConfiguration": "403"},
    )
    assert only(world, "injection.label").level is Level.UNKNOWN


def test_a_namespace_that_is_not_there_is_a_problem_and_one_that_cannot_be_read_is_not_known() -> None:
    assert only(a_world({"Namespace": []}), "injection.namespace").level is Level.PROBLEM
    assert only(a_world(unread={"Namespace": "403"}), "injection.namespace").level is Level.UNKNOWN


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(sidecar="containers"),
        a_pod(sidecar="initContainers"),
        a_pod(sidecar="", annotations={"ambient.istio.io/redirection": "enabled"}),
    ],
)
def test_a_sidecar_a_native_one_and_ambient_are_all_in_the_mesh(pod: dict[str, Any]) -> None:
    assert bad(a_world({"Pod": [pod]})) == []


def test_pods_from_before_the_injection_are_named_with_what_restarts_them() -> None:
    found = only(a_world({"Pod": [a_pod("old", sidecar=""), a_pod("new")]}), "injection.pods")
    assert found.level is Level.PROBLEM
    assert "1 of 2 have no sidecar: old (made before injection was switched on?)" in found.found
    assert found.mend == "kubectl -n production rollout restart deployment front-end-v1"


def test_where_injection_is_off_both_commands_are_given() -> None:
    found = bad(a_world({"Namespace": [a_namespace()], "Pod": [a_pod(sidecar="")]}))[-1]
    assert found.mend.splitlines() == [
        "kubectl label namespace production istio-injection=enabled",
        "kubectl -n production rollout restart deployment front-end-v1",
    ]


def test_a_pod_that_refuses_its_sidecar_is_told_as_that() -> None:
    found = only(
        a_world({"Pod": [a_pod(sidecar="", annotations={"sidecar.istio.io/inject": "false"})]}),
        "injection.pods",
    )
    assert "sidecar.istio.io/inject=false" in found.found
    assert "restart" not in found.mend


def test_a_pod_on_its_way_out_does_not_count() -> None:
    assert (
        bad(a_world({"Pod": [a_pod(), a_pod("going", sidecar="", deletionTimestamp="2026-01-01T00:00:00Z")]}))
        == []
    )


def test_without_pods_or_the_right_to_see_them_nothing_is_known() -> None:
    assert only(a_world({"Pod": []}), "injection.pods").level is Level.UNKNOWN
    assert only(a_world(unread={"Pod": "403"}), "injection.pods").level is Level.UNKNOWN


def test_ambient_without_a_waypoint_is_a_problem_and_with_one_it_is_told_whose_counts_there_are() -> None:
    bare = only(a_world({"Namespace": [a_namespace(**AMBIENT)]}), "injection.ambient")
    assert (bare.level, bare.mend) == (
        Level.PROBLEM,
        "istioctl waypoint apply -n production --enroll-namespace",
    )
    with_waypoint = a_namespace(**AMBIENT, **{"istio.io/use-waypoint": "waypoint"})
    found = only(a_world({"Namespace": [with_waypoint]}), "injection.ambient")
    assert (found.level, "reporter: waypoint" in found.mend) == (Level.WARNING, True)
    policy = a_policy(analysis={"reporter": "waypoint"})
    assert "injection.ambient" not in {
        one.check for one in bad(a_world({"Namespace": [with_waypoint]}, policy=policy))
    }
    service = a_service()
    service["metadata"]["labels"] = {"istio.io/use-waypoint": "own"}
    assert (
        "waypoint own"
        in only(
            a_world({"Namespace": [a_namespace(**AMBIENT)], "Service": [service]}), "injection.ambient"
        ).found
    )


def test_ambient_and_sidecars_in_one_namespace_are_told() -> None:
    found = bad(
        a_world({"Namespace": [a_namespace(**AMBIENT, **ON, **{"istio.io/use-waypoint": "waypoint"})]})
    )
    assert [one.check for one in found] == ["injection.label", "injection.ambient"]
