"""Everything a pod template names of its namespace is found, with the keys it needs and where it is used."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.commands.deploy.template_references import mentions, references
from canaryd.domain.namespace_objects import Reference


def found(**spec: Any) -> list[Reference]:
    return references({"spec": {"containers": [{"name": "web"}], **spec}})


def in_env(field: str, **ref: Any) -> dict[str, Any]:
    return {"containers": [{"name": "web", "env": [{"name": "A", "valueFrom": {field: ref}}]}]}


def in_env_from(field: str, **ref: Any) -> dict[str, Any]:
    return {"containers": [{"name": "web", "envFrom": [{field: ref}]}]}


def a_volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


@pytest.mark.parametrize(
    ("spec", "kind", "name", "keys", "used"),
    [
        (in_env("configMapKeyRef", name="c", key="k"), "ConfigMap", "c", {"k"}, "env A of web"),
        (in_env("secretKeyRef", name="s", key="k"), "Secret", "s", {"k"}, "env A of web"),
        (
            {"initContainers": in_env("secretKeyRef", name="s", key="k")["containers"]},
            "Secret",
            "s",
            {"k"},
            "env A of web",
        ),
        (in_env_from("configMapRef", name="c"), "ConfigMap", "c", set(), "envFrom of web"),
        (in_env_from("secretRef", name="s"), "Secret", "s", set(), "envFrom of web"),
        (
            a_volume(configMap={"name": "c", "items": [{"key": "k", "path": "p"}]}),
            "ConfigMap",
            "c",
            {"k"},
            "volume v",
        ),
        (a_volume(secret={"secretName": "s"}), "Secret", "s", set(), "volume v"),
        (a_volume(persistentVolumeClaim={"claimName": "p"}), "PersistentVolumeClaim", "p", set(), "volume v"),
        (
            a_volume(
                projected={"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]}
            ),
            "Secret",
            "s",
            {"k"},
            "volume v",
        ),
        (
            a_volume(projected={"sources": [{"configMap": {"name": "c"}}]}),
            "ConfigMap",
            "c",
            set(),
            "volume v",
        ),
        (
            a_volume(csi={"driver": "d", "nodePublishSecretRef": {"name": "s"}}),
            "Secret",
            "s",
            set(),
            "volume v",
        ),
        (a_volume(azureFile={"secretName": "s", "shareName": "x"}), "Secret", "s", set(), "volume v"),
        (a_volume(cephfs={"monitors": [], "secretRef": {"name": "s"}}), "Secret", "s", set(), "volume v"),
        ({"imagePullSecrets": [{"name": "s"}]}, "Secret", "s", set(), "imagePullSecrets"),
        ({"serviceAccountName": "a"}, "ServiceAccount", "a", set(), "serviceAccountName"),
        ({"priorityClassName": "p"}, "PriorityClass", "p", set(), "priorityClassName"),
        ({"runtimeClassName": "r"}, "RuntimeClass", "r", set(), "runtimeClassName"),
    ],
)
def test_each_way_to_name_an_object(
    spec: dict[str, Any], kind: str, name: str, keys: set[str], used: str
) -> None:
    assert found(**spec) == [Reference(kind, name, frozenset(keys), False, (used,))]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"serviceAccountName": "default"},
        {"priorityClassName": "system-node-critical"},
        a_volume(emptyDir={}),
        a_volume(csi={"driver": "d"}),
        a_volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        {
            "containers": [
                {
                    "name": "web",
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                }
            ]
        },
    ],
)
def test_what_is_in_every_namespace_or_in_none_is_no_reference(spec: dict[str, Any]) -> None:
    assert found(**spec) == []


def test_one_object_is_named_once_with_all_its_keys_and_uses() -> None:
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}
        for name, key in (("A", "a"), ("B", "b"), ("C", "a"))
    ]
    (one,) = found(containers=[{"name": "web", "env": env}])
    assert one == Reference(
        "Secret", "s", frozenset("ab"), False, ("env A of web", "env B of web", "env C of web")
    )


@pytest.mark.parametrize(
    ("first", "second", "optional", "keys"),
    [
        (True, True, True, {"a", "b"}),
        (True, False, False, {"b"}),
        (False, True, False, {"a"}),
        (False, False, False, {"a", "b"}),
    ],
)
def test_what_is_needed_once_is_needed_and_keys_only_where_they_are(
    first: bool, second: bool, optional: bool, keys: set[str]
) -> None:
    env = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": "s", "key": key, "optional": is_optional}}}
        for key, is_optional in (("a", first), ("b", second))
    ]
    (one,) = found(containers=[{"name": "web", "env": env}])
    assert (one.optional, one.keys) == (optional, keys)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("staging", True),
        ("STAGING", True),
        ("http://a.staging.svc:80/x", True),
        ("db-staging", True),
        ("staging_url", True),
        ("stagings", False),
        ("backstaging", False),
        ("production", False),
        ("", False),
    ],
)
def test_a_mention_is_the_word_by_itself(text: str, is_one: bool) -> None:
    assert bool(mentions({"a": text}, "staging")) is is_one


def test_mentions_are_told_by_path_and_line() -> None:
    value = {
        "data": {"app.conf": "a=1\n  url=http://x.staging\nb=2\n"},
        "list": [{"name": "one", "value": "staging"}, "staging"],
    }
    assert mentions(value, "staging") == [
        "data.app.conf: url=http://x.staging",
        "list[one].value: staging",
        "list[1]: staging",
    ]
