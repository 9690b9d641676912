"""Announcements as Events: about both objects, once, and never too long."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import path_to
from canaryd.adapters.kube.events import KubeEvents, event_of
from canaryd.domain.policy.hooks import EVENTS
from canaryd.domain.rollout import Announcement as Told
from canaryd.domain.rollout import Record, Versions
from tests.adapters.kube.api_servers import Place
from tests.builders import a_bracket_rollout, a_rollout, of_carts

ABOUT = {
    "apiVersion": "canaryd.dev/v1alpha1",
    "kind": "CanaryRollout",
    "name": "r",
    "namespace": "ns",
    "uid": "1",
}


def an_announcement(
    namespace: str = "ns",
    event: str = "rolled_back",
    reason: str = "errors 2.1% against 0.5%",
    **changes: Any,
) -> Told:
    values: dict[str, Any] = {
        "id": f"r/{event}/1",
        "at": 1_800_000_000.25,
        "service": "front-end",
        "rollout": "front-end-v2-abc",
    }
    return Told(
        event=event,
        namespace=namespace,
        stable="v1",
        canary="v2",
        stage=0,
        weight=10,
        reason=reason,
        **{**values, **changes},
    )


def told(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.api.request(
        "GET", path_to("events.k8s.io/v1", "events", place.namespace)
    )["items"]
    ours = [one for one in found if one.get("reportingController") == "canaryd.dev/canaryd"]
    return sorted(ours, key=lambda one: str(one["regarding"]["kind"]))


def a_deployment(place: Place, app: str = "front-end") -> dict[str, Any]:
    labels = {"app": app, "version": "v2"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    made: dict[str, Any] = place.put(
        "apps/v1", "deployments", {"kind": "Deployment", "metadata": {"name": f"{app}-v2"}, "spec": spec}
    )
    return made


def a_canary(place: Place) -> tuple[Record, dict[str, Any]]:
    deployment = a_deployment(place)
    record = KubeRollouts(place.api).create(
        Record(a_rollout(name="front-end-v2-abc", namespace=place.namespace, policy=place.policy()))
    )
    return record, deployment


def test_both_objects_are_told_once_however_often_it_is_tried(place: Place) -> None:
    record, deployment = a_canary(place)
    for _ in range(3):
        KubeEvents(place.api).tell(an_announcement(place.namespace))
    rollout_event, deployment_event = told(place)
    assert rollout_event["regarding"]["uid"] == record.uid
    assert deployment_event["regarding"]["uid"] == deployment["metadata"]["uid"]
    for event in (rollout_event, deployment_event):
        assert (event["type"], event["reason"]) == ("Warning", "RolledBack")
        assert event["note"] == "front-end v1 to v2, weight 10%: errors 2.1% against 0.5%"
        assert event["eventTime"] == "2027-01-15T08:00:00.250000Z"


def test_the_deployments_of_all_services_of_a_bracket_are_told_once(place: Place) -> None:
    carts = of_carts(namespace=place.namespace, canary_workload="carts-v2")
    rollout = a_bracket_rollout(carts, name="front-end-v2-abc", namespace=place.namespace)
    KubeRollouts(place.api).create(Record(rollout))
    names = {a_deployment(place, app)["metadata"]["name"] for app in ("front-end", "carts")}
    bracket = (
        Versions(place.namespace, "front-end", "v1", "v2"),
        Versions(place.namespace, "carts", "v7", "v8"),
    )
    for _ in range(3):
        KubeEvents(place.api).tell(an_announcement(place.namespace, bracket=bracket))
    events = told(place)
    assert {event["regarding"]["name"] for event in events} == {"front-end-v2-abc", *names}
    assert len(events) == 3
    assert {event["note"].partition(",")[0] for event in events} == {"front-end v1 to v2 and carts v7 to v8"}


def test_a_deployment_that_is_gone_is_not_told_and_the_rollout_is(place: Place) -> None:
    a_canary(place)
    place.api.request("DELETE", path_to("apps/v1", "deployments", place.namespace, "front-end-v2"))
    KubeEvents(place.api).tell(an_announcement(place.namespace))
    assert [one["regarding"]["kind"] for one in told(place)] == ["CanaryRollout"]


def test_a_rollout_that_is_gone_has_no_one_to_tell(place: Place) -> None:
    KubeEvents(place.api).tell(an_announcement(place.namespace))
    assert told(place) == []


@pytest.mark.parametrize("event", EVENTS)
def test_every_kind_of_announcement_is_accepted_at_its_longest(place: Place, event: str) -> None:
    a_canary(place)
    KubeEvents(place.api).tell(an_announcement(place.namespace, event, reason="ü" * 2000))
    for one in told(place):
        assert len(one["note"].encode()) <= 1024
        assert one["note"].endswith("ü ...")


def test_two_announcements_have_two_names_and_one_has_always_the_same() -> None:
    names = [
        event_of(an_announcement(id=one), ABOUT, None, "host")["metadata"]["name"] for one in ("a", "a", "b")
    ]
    assert names[0] == names[1] != names[2]
