"""`canaryd deploy`: shown first, asked for, created with the caller's own rights, and never over anything
that is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.cli import main
from canaryd.commands.check.user_rbac import of_people
from canaryd.commands.deploy import command
from canaryd.domain.check_facts import Right
from canaryd.domain.ports import KnownTemplates
from canaryd.domain.rollout import Record
from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, NAMESPACES, RESOURCES, ApiError, Object
from canaryd_sandbox.world import World
from tests.builders import a_policy, a_rollout
from tests.commands.audit import audited
from tests.commands.deploy.two_namespaces import a_budget, a_deployment, a_service, an_autoscaler

KIND = {one.kind: one for one in RESOURCES if not one.kept_as}
IMAGE = "sockshop/front-end:0.6.0"


@dataclass
class Shop:
    """The worked example with a namespace staging, whose front-end is to go to production. Time stands still
    but in `lives`."""

    world: World

    def put(self, obj: Any, namespace: str) -> None:
        resource = KIND[obj["kind"]]
        metadata = {
            key: value for key, value in obj["metadata"].items() if key in ("name", "labels", "annotations")
        }
        self.world.store.create(resource, namespace, {**obj, "metadata": metadata})

    def stages(self, image: str = IMAGE, service: str = "front-end", **more: Any) -> None:
        """Someone deploys to staging; it is available when this returns."""
        self.put(a_service(service, selector={"app": service}), "staging")
        self.put(a_deployment(service, image=image, replicas=1, labels={"app": service}, **more), "staging")
        self.lives()

    def edits(self, **spec: Any) -> None:
        """Someone edits front-end of staging."""
        made = self.get("Deployment", "front-end", "staging")
        self.world.store.replace(
            DEPLOYMENTS, "staging", "front-end", {**made, "spec": {**made["spec"], **spec}}
        )

    def lives(self, seconds: float = 3) -> None:
        self.world.advance(self.world.now + seconds)

    def get(self, kind: str, name: str, namespace: str = "production") -> Object:
        return self.world.store.get(KIND[kind], namespace, name)

    def has(self, kind: str, name: str, namespace: str = "production") -> bool:
        try:
            self.get(kind, name, namespace)
        except ApiError:
            return False
        return True

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        environment = {"KUBECONFIG": str(self.world.kubeconfig)}
        return CliRunner().invoke(
            main, ["deploy", *arguments], env=environment, input=answer, prog_name="canaryd"
        )

    def fine(self, *arguments: str) -> str:
        return self._ends(0, *arguments).stdout

    def shown(self, *arguments: str) -> Result:
        """What it shows where nobody says yes."""
        return self._ends(4, *arguments)

    def refused(self, *arguments: str) -> str:
        return self._ends(1, *arguments).stderr

    def _ends(self, code: int, *arguments: str) -> Result:
        result = self.run(*arguments)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result


@pytest.fixture(scope="module")
def shop_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        realtime=False, start=1_800_000_000.0, folder=tmp_path_factory.mktemp("shop"), replicas=2, rate=1.0
    ) as world:
        yield world


@pytest.fixture
def shop(shop_world: World) -> Iterator[Shop]:
    store = shop_world.store
    store.create(NAMESPACES, None, {"metadata": {"name": "staging"}})
    there = {(one.key, obj["metadata"]["name"]) for one in RESOURCES for obj in store.list(one, "production")}
    shop = Shop(shop_world)
    shop.stages()
    yield shop
    shop_world.kubernetes.faults.clear()
    store.delete(NAMESPACES, None, "staging")
    for resource in RESOURCES:
        for obj in store.list(resource, "production") if resource.namespaced else []:
            if (resource.key, obj["metadata"]["name"]) not in there and resource.plural != "pods":
                store.delete(resource, "production", obj["metadata"]["name"])
    shop.lives(1)


def knows(shop: Shop, paused: bool = False) -> None:
    """canaryd has seen the service front-end."""
    KubeServices(KubernetesApi(str(shop.world.kubeconfig))).remember(
        a_policy(), KnownTemplates(frozenset(), paused=paused)
    )


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.output, "is_asking", lambda: True)


# ---------------------------------------------------------------- showing


def test_without_a_terminal_and_without_a_yes_it_only_shows_with_an_exit_code_of_its_own(shop: Shop) -> None:
    result = shop.shown("front-end")
    assert "front-end: v2 to production, beside front-end-v1; from front-end of staging" in result.stdout
    assert f"image     {IMAGE} (stable: sockshop/front-end:v1)" in result.stdout
    assert "creates   Deployment front-end-v2" in result.stdout
    assert result.stderr == "canaryd: nothing was created: confirm with --yes\n"
    assert not shop.has("Deployment", "front-end-v2")


def test_the_diff_is_against_stable_and_of_the_server_s_own_answer(shop: Shop) -> None:
    shop.put(an_autoscaler(), "production")
    lines = shop.shown("front-end").stdout.splitlines()
    begin = lines.index("--- production/Deployment front-end-v1")
    assert lines[begin + 1] == "+++ production/Deployment front-end-v2"
    assert f"+      - image: {IMAGE}" in lines
    assert "-      - image: sockshop/front-end:v1" in lines
    assert "+    canaryd.dev/deployed-from: staging/front-end" in lines
    assert "+++ production/HorizontalPodAutoscaler front-end-v2" in lines
    assert not [line for line in lines if "uid" in line or "status" in line or "creationTimestamp" in line]
    assert not [
        line
        for line in shop.shown("front-end", "--no-diff").stdout.splitlines()
        if line.startswith(("+", "-", "@"))
    ]


def test_a_dry_run_shows_the_same_and_ends_well(shop: Shop) -> None:
    assert shop.fine("front-end", "--dry-run") == shop.shown("front-end").stdout
    assert shop.fine("front-end", "--dry-run", "--yes") == shop.shown("front-end").stdout
    assert not shop.has("Deployment", "front-end-v2")


def test_on_a_terminal_the_diff_has_colours(shop: Shop, terminal: Callable[[int], None]) -> None:
    terminal(100)
    environment = {"KUBECONFIG": str(shop.world.kubeconfig)}
    shown = CliRunner().invoke(main, ["deploy", "front-end"], env=environment, color=True).stdout
    assert f"\x1b[32m+      - image: {IMAGE}\x1b[0m" in shown
    assert "\x1b[31m-      - image: sockshop/front-end:v1\x1b[0m" in shown


@pytest.mark.parametrize(
    ("form", "read"),
    [("yaml", lambda text: list(yaml.safe_load_all(text))), ("json", lambda text: json.loads(text)["items"])],
)
def test_the_objects_can_be_had_alone_for_a_repository(
    shop: Shop, form: str, read: Callable[[str], list[Any]]
) -> None:
    shop.put(an_autoscaler(), "production")
    result = shop.run("front-end", "--dry-run", "-o", form)
    objects = read(result.stdout)
    assert [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in objects] == [
        ("apps/v1", "Deployment", "front-end-v2"),
        ("autoscaling/v2", "HorizontalPodAutoscaler", "front-end-v2"),
    ]
    assert "status" not in objects[0]
    for one in objects:
        shop.put(one, "production")  # as kubectl would


# ---------------------------------------------------------------- doing


def test_a_yes_creates_it_with_stable_s_size_and_autoscaler(shop: Shop) -> None:
    shop.put(an_autoscaler(), "production")
    said = shop.fine("front-end", "v7", "--yes")
    assert (
        "created Deployment front-end-v7 in production\ncreated HorizontalPodAutoscaler front-end-v7 in "
        "production\n" in said
    )
    made = shop.get("Deployment", "front-end-v7")
    assert made["spec"]["replicas"] == 2
    assert made["spec"]["selector"]["matchLabels"] == {"app": "front-end", "version": "v7"}
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert (
        shop.get("HorizontalPodAutoscaler", "front-end-v7")["spec"]["scaleTargetRef"]["name"]
        == "front-end-v7"
    )


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(("answer", "code", "done"), [("y\n", 0, True), ("n\n", 4, False), ("\n", 4, False)])
def test_a_person_is_asked(shop: Shop, answer: str, code: int, done: bool) -> None:
    result = shop.run("front-end", answer=answer)
    assert result.exit_code == code, result.output
    assert "Deploy front-end v2 to production? [y/N]" in result.stderr
    assert shop.has("Deployment", "front-end-v2") is done


@pytest.mark.usefixtures("person")
def test_nobody_is_asked_about_nothing(shop: Shop) -> None:
    shop.fine("front-end", "--yes")
    result = shop.run("front-end")
    assert result.exit_code == 0
    assert result.stdout == f"front-end: nothing to do: front-end-v2 in production runs {IMAGE} already\n"
    assert result.stderr == ""


def test_doing_it_twice_does_it_once(shop: Shop) -> None:
    shop.fine("front-end", "--yes")
    before = shop.get("Deployment", "front-end-v2")["metadata"]["uid"]
    assert "nothing to do" in shop.fine("front-end", "v2", "--yes")
    assert shop.get("Deployment", "front-end-v2")["metadata"]["uid"] == before
    assert not shop.has("Deployment", "front-end-v3")


def test_a_second_try_goes_on_where_the_first_was_interrupted(shop: Shop) -> None:
    shop.put(an_autoscaler(), "production")
    tries = iter([False, True])  # the dry run, then the creation
    shop.world.kubernetes.faults.status(
        500,
        match=lambda method, path: method == "POST" and "horizontalpodautoscalers" in path and next(tries),
    )
    result = shop.run("front-end", "--yes")
    assert result.exit_code == 3, result.output
    assert "created before that: Deployment front-end-v2; run it again to go on from there" in result.stderr
    assert shop.has("Deployment", "front-end-v2")
    assert "creates   HorizontalPodAutoscaler front-end-v2" in shop.fine("front-end", "--yes")
    assert shop.has("HorizontalPodAutoscaler", "front-end-v2")


@contextmanager
def moving(shop: Shop) -> Iterator[None]:
    """The world's time goes on within, faster than the real one."""
    stopped = threading.Event()

    def move() -> None:
        while not stopped.wait(0.1):
            shop.lives(0.5)

    mover = threading.Thread(target=move, daemon=True)
    mover.start()
    try:
        yield
    finally:
        stopped.set()
        mover.join()


def test_waiting_ends_when_it_is_available(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "EVERY", 0.1)
    with moving(shop):
        said = shop.fine("front-end", "--yes", "--wait", "--timeout", "1m")
    assert "front-end-v2 is available\n" in said


def test_waiting_ends_with_the_reason_when_it_will_not_be(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "EVERY", 0.1)
    template = shop.get("Deployment", "front-end", "staging")["spec"]["template"]
    crashing = {**template, "metadata": {"labels": {"app": "front-end", "canaryd.test/pod": "crash-loop"}}}
    shop.edits(progressDeadlineSeconds=2, template=crashing)
    with moving(shop):
        said = shop.refused("front-end", "--yes", "--wait", "--force", "--timeout", "1m")
    assert "front-end-v2 does not become available" in said
    assert "timed out progressing" in said


def test_waiting_does_not_last_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "EVERY", 0.05)
    said = shop.refused("front-end", "--yes", "--wait", "--timeout", "200ms")
    assert "front-end-v2 is not available yet; nothing was taken back" in said
    assert shop.has("Deployment", "front-end-v2")


def test_what_happens_next_is_told(shop: Shop) -> None:
    assert "canaryd has seen no service front-end in production" in shop.fine("front-end", "--yes")


@pytest.mark.parametrize(
    ("paused", "said"),
    [
        (False, "canaryd begins its rollout automatically: canaryd status front-end --watch"),
        (True, "front-end is paused: its rollout begins after canaryd pause front-end --end"),
    ],
)
def test_what_canaryd_will_do_with_it_is_told(shop: Shop, paused: bool, said: str) -> None:
    knows(shop, paused)
    assert said in shop.fine("front-end", "--yes")


# ---------------------------------------------------------------- refusing


def test_what_pods_need_is_looked_for_and_all_that_is_missing_told(shop: Shop) -> None:
    template = shop.get("Deployment", "front-end", "staging")["spec"]["template"]
    needed = [{"secretRef": {"name": "keys"}}, {"configMapRef": {"name": "urls"}}]
    shop.edits(
        template={
            **template,
            "spec": {"containers": [{**template["spec"]["containers"][0], "envFrom": needed}]},
        }
    )
    shop.put(
        {"kind": "ConfigMap", "metadata": {"name": "urls"}, "data": {"API": "http://api.staging"}}, "staging"
    )
    shop.put({"kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": "of-staging"}}, "staging")
    shop.lives()
    said = shop.refused("front-end")
    assert said.count("front-end: there is no") == 2
    shop.put(
        {"kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": "of-production"}}, "production"
    )
    said = shop.fine("front-end", "--copy-config", "--yes")
    assert "needs     Secret keys: envFrom of front-end" in said
    assert "warning   mentions staging: ConfigMap urls, API: http://api.staging" in said
    assert "of-staging" not in said
    assert shop.get("ConfigMap", "urls")["data"] == {"API": "http://api.staging"}


def test_a_secret_that_may_not_be_read_is_said_not_to_be_checked(shop: Shop) -> None:
    template = shop.get("Deployment", "front-end", "staging")["spec"]["template"]
    shop.edits(
        template={**template, "spec": {**template["spec"], "imagePullSecrets": [{"name": "registry"}]}}
    )
    shop.lives()
    shop.world.kubernetes.faults.status(403, match=lambda method, path: "secrets" in path)
    assert (
        "Secret registry: imagePullSecrets, which this user may not read: not checked"
        in shop.shown("front-end").stdout
    )


def test_a_user_who_may_not_create_is_told_before_anything_is(shop: Shop) -> None:
    shop.put(an_autoscaler(), "production")
    shop.world.kubernetes.faults.status(
        403, match=lambda method, path: method == "POST" and "horizontalpodautoscalers" in path
    )
    assert "this user may not create horizontalpodautoscalers in production" in shop.refused(
        "front-end", "--yes"
    )
    assert not shop.has("Deployment", "front-end-v2")


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_namespace_that_is_not_there_is_named(shop: Shop, option: str) -> None:
    assert "there is no namespace nowhere" in shop.refused("front-end", option, "nowhere")


def test_a_rollout_under_way_is_named_and_gives_way_when_asked(shop: Shop) -> None:
    KubeRollouts(KubernetesApi(str(shop.world.kubeconfig))).create(Record(a_rollout()))
    assert "front-end-v2-hash-v2 (v2) is under way" in shop.refused("front-end", "--yes")
    # v2 is on record
    assert "created Deployment front-end-v3" in shop.fine("front-end", "--yes", "--supersede")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["front-end", "--all"],
        ["--all", "--deployment", "x"],
        ["front-end", "--from", "production"],
        ["front-end", "--timeout", "10"],
        ["front-end", "--replicas", "0"],
    ],
)
def test_contradictions_are_wrong_usage(shop: Shop, arguments: list[str]) -> None:
    assert shop.run(*arguments).exit_code == 2


def test_a_server_that_is_away_is_exit_code_3(shop: Shop) -> None:
    shop.world.kubernetes.faults.down = True
    assert shop.run("front-end").exit_code == 3


@pytest.mark.parametrize("option", ["--policies", "--policy"])
def test_a_policy_says_which_labels_its_deployments_have(shop: Shop, tmp_path: Path, option: str) -> None:
    service = {
        "name": "front-end",
        "namespace": "production",
        "selector": {"app": "front-end", "tier": "web"},
    }
    path = tmp_path / "front-end.yaml"
    path.write_text(yaml.safe_dump(a_policy(service=service).dump()))
    shop.fine("front-end", "v9", option, str(path), "--yes")
    labels = shop.get("Deployment", "front-end-v9")["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app": "front-end", "tier": "web", "version": "v9"}


def test_a_broken_policy_is_refused_with_its_line(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "front-end.yaml").write_text("service: 1\n")
    assert "front-end.yaml:1: service" in shop.refused("front-end", "--policies", str(tmp_path))


def test_images_are_pinned_to_what_runs(shop: Shop) -> None:
    shop.fine("front-end", "--pin-digest", "--yes")
    image = shop.get("Deployment", "front-end-v2")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith(f"{IMAGE}@sha256:")


def test_staging_may_be_another_cluster(shop: Shop, tmp_path: Path) -> None:
    with World(realtime=False, start=1_800_000_000.0, folder=tmp_path, replicas=1, rate=1.0) as other:
        elsewhere = Shop(other)
        elsewhere.world.store.create(NAMESPACES, None, {"metadata": {"name": "staging"}})
        elsewhere.stages(image="sockshop/front-end:0.9.0")
        here, there = (json.loads(world.kubeconfig.read_text()) for world in (shop.world, other))
        for part in ("clusters", "users", "contexts"):
            here[part].append({**there[part][0], "name": "other"})
        here["contexts"][-1]["context"] |= {"cluster": "other", "user": "other"}
        both = tmp_path / "both"
        both.write_text(json.dumps(here))
        said = shop.fine("front-end", "--from-context", "other", "--yes", "--kubeconfig", str(both))
    assert "image     sockshop/front-end:0.9.0" in said
    assert shop.has("Deployment", "front-end-v2")


# ---------------------------------------------------------------- all


@pytest.fixture
def whole(shop: Shop) -> Shop:
    """front-end has a version in production, carts none yet, and rabbitmq no Deployment."""
    shop.stages("sockshop/carts:0.6.0", "carts")
    shop.put(a_service("rabbitmq", selector={"app": "rabbitmq"}), "staging")
    return shop


def test_all_is_one_table_of_what_will_happen(whole: Shop) -> None:
    result = whole.shown("--all")
    lines = result.stdout.splitlines()
    assert [line.split()[:1] for line in lines[:3]] == [["SERVICE"], ["carts"], ["front-end"]]
    assert lines[1].endswith("carts-v1      is deployed, the first version there")
    assert lines[2].endswith(
        "front-end:0.6.0  front-end-v1 front-end:v1  front-end-v2  is deployed beside front-end-v1"
    )
    assert "left out: rabbitmq has no Deployment" in lines
    assert not [line for line in lines if line.startswith("+++")]
    assert "+++ production/Deployment front-end-v2" in whole.shown("--all", "--diff").stdout


@pytest.mark.usefixtures("person")
def test_all_is_asked_once_and_done_for_each(whole: Shop) -> None:
    result = whole.run("--all", answer="y\n")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Deploy carts v1, front-end v2 to production?") == 1
    assert whole.has("Service", "carts")
    assert whole.has("Deployment", "carts-v1")
    assert whole.has("Deployment", "front-end-v2")


def test_all_again_is_nothing_to_do(whole: Shop) -> None:
    whole.fine("--all", "--yes")
    said = whole.fine("--all")
    assert said.count("nothing: it runs there already") == 2


def test_a_failure_of_one_does_not_hide_the_others(whole: Shop) -> None:
    whole.put(
        a_deployment("front-end-v2", labels={"app": "front-end", "version": "v2"}, image="someone/else:1"),
        "production",
    )
    result = whole.run("--all", "v2", "--yes")
    assert result.exit_code == 2  # a version of all would be meant
    KubeRollouts(KubernetesApi(str(whole.world.kubeconfig))).create(Record(a_rollout()))
    said = whole.refused("--all", "--yes")
    assert "front-end: front-end-v2-hash-v2 (v2) is under way" in said
    assert whole.has("Deployment", "carts-v1")


def test_a_creation_that_fails_does_not_hide_the_others(whole: Shop) -> None:
    tries = iter([False, True])  # the dry run of carts, and its creation
    whole.world.kubernetes.faults.status(
        422, match=lambda method, path: method == "POST" and path.endswith("/services") and next(tries)
    )
    said = whole.refused("--all", "--yes")
    assert said.startswith("canaryd: carts: ")
    assert not whole.has("Deployment", "carts-v1")
    assert whole.has("Deployment", "front-end-v2")


def test_a_namespace_without_deployments_has_nothing_to_deploy(shop: Shop) -> None:
    shop.world.store.create(NAMESPACES, None, {"metadata": {"name": "bare"}})
    assert shop.fine("--all", "--from", "bare") == "no Service in bare has a Deployment\n"
    shop.world.store.delete(NAMESPACES, None, "bare")


def test_all_as_objects_is_one_stream_with_the_words_beside_it(whole: Shop) -> None:
    result = whole.run("--all", "--dry-run", "-o", "yaml")
    assert [f"{one['kind']} {one['metadata']['name']}" for one in yaml.safe_load_all(result.stdout)] == [
        "Service carts",
        "Deployment carts-v1",
        "Deployment front-end-v2",
    ]
    assert "left out: rabbitmq has no Deployment" in result.stderr


# ---------------------------------------------------------------- rights


def test_check_asks_for_every_right_that_a_deploy_uses(shop: Shop) -> None:
    """Its own parts are many, and whoever adds one may forget to have it checked."""
    settings = {"envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "session"}}]}
    container = {"name": "front-end", "image": IMAGE, **settings}
    for kind, namespace in (("ConfigMap", "staging"), ("Secret", "production")):
        shop.put(
            {
                "kind": kind,
                "metadata": {"name": {"ConfigMap": "settings", "Secret": "session"}[kind]},
                "data": {},
            },
            namespace,
        )
    for kind, name in (("ServiceAccount", "shop"), ("PersistentVolumeClaim", "disk")):
        shop.put({"kind": kind, "metadata": {"name": name}}, "production")
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
    shop.edits(
        template={
            "metadata": {"labels": {"app": "front-end"}},
            "spec": {"containers": [container], "serviceAccountName": "shop", "volumes": volumes},
        }
    )
    shop.lives()
    shop.put(an_autoscaler(), "production")
    shop.put(a_budget(version="v1"), "production")
    with audited(shop.world) as used:
        shop.fine("front-end", "--copy-config", "--dry-run")
        shop.run("front-end", "--copy-config", "--pin-digest", "--dry-run")
        shop.run("front-end", "--copy-config", "--yes", "--wait", "--timeout", "1s")
    assert shop.has("Deployment", "front-end-v2")
    asked = set(of_people([a_policy()], "staging"))
    lacking = {one for one in used - asked if Right(one.group, one.resource, one.verb) not in asked}
    # What staging routes and scales, and HTTPRoutes beside a VirtualService, are read where they may be: a
    # deploy does without.
    assert {one for one in lacking if one.namespace == "production" and one.resource != "httproutes"} == set()
    assert {one.verb for one in lacking} == {"list"}
    needed = {
        one
        for one in asked
        if one.namespace and one.why.startswith("deploy") and "first version" not in one.why
    }
    assert needed - used == set(), "asked for, and used by no deploy"


def test_what_a_first_version_takes_besides_is_asked_for_too(shop: Shop) -> None:
    shop.stages("sockshop/orders:1", "orders")
    with audited(shop.world) as used:
        shop.fine("orders", "v1", "--expose", "--yes")
    assert Right("", "services", "create", "production") in used & set(of_people([a_policy()], "staging"))
