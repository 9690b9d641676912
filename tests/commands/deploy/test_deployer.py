"""A draft is checked against what is there, created in order, and goes on where it was interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.deploy.deployer import Deployer, Prepared
from canaryd.commands.deploy.draft import DeployRequest
from canaryd.domain.namespace_objects import CannotDeploy
from canaryd.domain.ports import Rejected, Unavailable
from tests.commands.deploy.two_namespaces import (
    FakeObjects,
    an_autoscaler,
    empty,
    production,
    running,
    staging,
)

WISH = DeployRequest("front-end")
A, B = (f"sha256:{letter * 64}" for letter in "ab")


def deployer(env: list[dict[str, Any]] | None = None, **more: Any) -> Deployer:
    own = running()
    own.manifest["spec"]["template"]["spec"]["containers"][0]["env"] = env or []
    return Deployer(FakeObjects(staging(own)), FakeObjects(production(autoscalers=[an_autoscaler()])), **more)


def fakes(of: Deployer) -> tuple[FakeObjects, FakeObjects]:
    assert isinstance(of.source, FakeObjects)
    assert isinstance(of.target, FakeObjects)
    return of.source, of.target


def prepared(of: Deployer) -> Prepared:
    return of.prepare(WISH, of.read())


def refusal(of: Deployer) -> tuple[str, ...]:
    with pytest.raises(CannotDeploy) as caught:
        prepared(of)
    return caught.value.problems


def from_secret(key: str = "k", **more: Any) -> dict[str, Any]:
    return {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": key, **more}}}


def from_config(key: str = "k") -> dict[str, Any]:
    return {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": key}}}


def test_preparing_asks_the_server_about_each_object_and_creates_none() -> None:
    one = deployer()
    found = prepared(one)
    target = fakes(one)[1]
    assert [manifest["kind"] for manifest in target.tried] == ["Deployment", "HorizontalPodAutoscaler"]
    assert list(found.answers) == target.tried
    assert target.created == []


def test_it_is_created_in_the_order_of_the_draft() -> None:
    one = deployer()
    found = prepared(one)
    assert one.create(found) == ["Deployment front-end-v2", "HorizontalPodAutoscaler front-end-v2"]
    assert one.state(found).name == "front-end-v2"


def test_all_that_is_missing_is_told_at_once_with_what_to_do() -> None:
    problems = refusal(deployer([from_secret(), from_config()]))
    assert len(problems) == 2
    assert "there is no ConfigMap c in production, which pods need (env B of front-end)" in problems[0]
    assert "--copy-config" in problems[0]
    assert "there is no Secret s in production" in problems[1]
    assert "a Secret is never copied" in problems[1]


def test_a_key_that_is_missing_is_told() -> None:
    one = deployer([from_secret("pass"), from_config("url")])
    fakes(one)[1].holds = {("Secret", "s"): {"user": "x"}, ("ConfigMap", "c"): {"host": "x"}}
    assert refusal(one) == (
        "ConfigMap c in production lacks url (env B of front-end): add it there",
        "Secret s in production lacks pass (env A of front-end): add it there",
    )


def test_what_is_optional_may_be_missing_and_so_may_its_keys() -> None:
    one = deployer([from_secret(optional=True)])
    assert prepared(one).unchecked == ()
    fakes(one)[1].holds = {("Secret", "s"): {}}
    assert prepared(one).unchecked == ()


def test_what_this_user_may_not_read_is_not_refused_but_told() -> None:
    one = deployer([from_secret()])
    fakes(one)[1].hidden = {"Secret"}
    assert [reference.name for reference in prepared(one).unchecked] == ["s"]


def test_a_config_map_is_copied_when_asked_before_all_else_and_never_over_one_that_is_there() -> None:
    one = deployer([from_config("url")], copy_config=True)
    source, target = fakes(one)
    source.holds = {("ConfigMap", "c"): {"url": "http://api.staging"}}
    found = prepared(one)
    copied = found.draft.made[0].manifest
    assert copied == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "production"},
        "data": {"url": "http://api.staging"},
    }
    assert "mentions staging: ConfigMap c, url: http://api.staging" in found.draft.warnings
    target.holds = {("ConfigMap", "c"): {}}  # someone else's, since it was looked for
    assert one.create(found) == ["Deployment front-end-v2", "HorizontalPodAutoscaler front-end-v2"]


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ({}, "there is no ConfigMap c in staging either"),
        ({("ConfigMap", "c"): {"host": "x"}}, "ConfigMap c of staging lacks url too"),
    ],
)
def test_a_config_map_that_cannot_help_is_not_copied(holds: Any, said: str) -> None:
    one = deployer([from_config("url")], copy_config=True)
    fakes(one)[0].holds = holds
    assert said in refusal(one)[0]


def test_a_secret_is_not_copied_even_then() -> None:
    one = deployer([from_secret()], copy_config=True)
    fakes(one)[0].holds = {("Secret", "s"): {"k": "x"}}
    assert "there is no Secret s in production" in refusal(one)[0]


@pytest.mark.parametrize("error", [Rejected("422: no such metric"), Unavailable("no answer")])
def test_an_interruption_says_what_is_there_and_a_second_try_goes_on_from_it(error: Exception) -> None:
    one = deployer()
    found, target = prepared(one), fakes(one)[1]
    target.refuses = {"HorizontalPodAutoscaler": error}
    with pytest.raises(
        type(error), match="created before that: Deployment front-end-v2; run it again to go on from there"
    ):
        one.create(found)
    target.refuses = {}
    again = prepared(one)
    assert [each.manifest["kind"] for each in again.draft.made] == ["HorizontalPodAutoscaler"]
    assert one.create(again) == ["HorizontalPodAutoscaler front-end-v2"]


def test_a_first_refusal_is_told_as_it_is() -> None:
    one = deployer()
    found = prepared(one)
    fakes(one)[1].refuses = {"Deployment": Rejected("403: no")}
    with pytest.raises(Rejected, match=r"^403: no$"):
        one.create(found)


def test_a_refusal_of_the_dry_run_leaves_everything_as_it_is() -> None:
    one = deployer()
    target = fakes(one)[1]
    target.refuses = {"HorizontalPodAutoscaler": Rejected("422: no")}
    with pytest.raises(Rejected, match="422"):
        prepared(one)
    assert target.created == []


def test_images_are_pinned_to_the_digest_that_all_pods_run() -> None:
    one = deployer(pin=True)
    fakes(one)[0].told = {"front-end": frozenset([A])}
    assert (
        prepared(one)
        .draft.made[0]
        .manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        .endswith(f":0.6.0@{A}")
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"front-end": frozenset([A, B])}, "do not all run the same image"),
        ({}, "no pod of front-end says by which digest"),
    ],
)
def test_a_digest_that_is_not_one_is_refused(told: Any, said: str) -> None:
    one = deployer(pin=True)
    fakes(one)[0].told = told
    assert said in refusal(one)[0]


def test_where_there_is_nothing_to_do_the_server_is_not_asked() -> None:
    one = Deployer(FakeObjects(staging()), FakeObjects(empty()))
    one.create(prepared(one))
    tried = len(fakes(one)[1].tried)
    assert prepared(one).draft.nothing
    assert len(fakes(one)[1].tried) == tried
