"""`canaryd reset` takes back what canaryd left, shows it first, and touches nothing of anybody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from canaryd.adapters.kube.canaryrollouts import KubeRollouts
from canaryd.adapters.kube.client import KubernetesApi, path_to
from canaryd.adapters.kube.deployments import KubeWorkloads
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.adapters.kube.traffic import TrafficByKind
from canaryd.adapters.kube.virtualservice import IstioTraffic
from canaryd.cli import main, output
from canaryd.commands.check.user_rbac import of_people
from canaryd.commands.reset import command
from canaryd.control.supervisor import key_of
from canaryd.domain.check_facts import Right
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, KnownTemplates, Missing, Rejected, Request
from canaryd.domain.rollout import Phase
from canaryd.routing import route_lists
from canaryd.routing.route_lists import split
from canaryd_sandbox.mesh import httproute
from canaryd_sandbox.world import World
from tests.builders import HOST, NOW, a_policy
from tests.commands.audit import audited
from tests.commands.conftest import Shell
from tests.one_process import Live, a_quick_policy

ISTIO = "networking.istio.io/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
V1, V2, V3 = ({"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3"))
CRD_NAME = "canaryrollouts.canaryd.dev"


class Place(Shell):
    """A shell with hands on the cluster."""

    def __init__(self, world: World) -> None:
        self.api = KubernetesApi(str(world.kubeconfig))
        super().__init__(world, KubeRollouts(self.api))
        self.services, self.traffic = KubeServices(self.api), IstioTraffic(self.api, settle=0.0)

    def get(self, plural: str, name: str, version: str = ISTIO) -> dict[str, Any]:
        return self.api.request("GET", path_to(version, plural, "production", name))

    def edit(
        self, plural: str, name: str, change: Callable[[dict[str, Any]], object], version: str = ISTIO
    ) -> None:
        obj = self.get(plural, name, version)
        change(obj)
        self.api.request("PUT", path_to(version, plural, "production", name), obj)

    def http(self) -> list[dict[str, Any]]:
        return list(self.get("virtualservices", "sockshop")["spec"]["http"])

    def subsets(self) -> list[str]:
        return [
            subset["name"]
            for subset in self.get("destinationrules", "front-end")["spec"].get("subsets") or []
        ]

    def annotations(self) -> dict[str, str]:
        return dict(self.get("destinationrules", "front-end")["metadata"].get("annotations") or {})

    def note(self, *known: str, policy: Policy | None = None, paused: bool = False) -> None:
        policy = policy or a_policy()
        there = self.services.known(policy)
        self.services.remember(
            policy, KnownTemplates(frozenset(known), paused, resource_version=there.resource_version)
        )

    def known(self) -> frozenset[str]:
        return self.services.known(a_policy()).templates

    def running(self) -> frozenset[str]:
        return frozenset(key_of(one) for one in KubeWorkloads(self.api).list(a_policy()))

    def records(self) -> list[str]:
        return [
            item["metadata"]["name"]
            for item in self.api.request("GET", path_to("canaryd.dev/v1alpha1", "canaryrollouts"))["items"]
        ]

    def weigh(self, canary: str, weight: int) -> None:
        """As canaryd steers: a subset of its own, and a weight."""
        subset = self.traffic.add_subset(a_policy(), canary)
        view = self.traffic.read(a_policy())
        self.traffic.write(a_policy(), view, split(view.lists, subset, weight))

    def everything(self) -> dict[str, Any]:
        """All objects of the cluster, but for Pods, which live on."""
        kept = self.world.store._objects
        return {
            f"{kind}/{name}": obj
            for kind, objects in kept.items()
            if kind[1] != "pods"
            for name, obj in objects.items()
        }


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox has no proxies that must first follow."""
    monkeypatch.setattr("canaryd.commands.reset.command.SETTLE", 0.0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A service with v1 (all traffic, 2 pods) and v2 (2 pods, known), of which canaryd has a note and no
    record."""
    with World(realtime=False, start=NOW, folder=tmp_path, replicas=2) as world:
        world.deploy("v2", replicas=2)
        world.advance(NOW + 30)
        made = Place(world)
        made.note(*made.running())
        yield made


def to(subset: str, **more: Any) -> dict[str, Any]:
    return {"destination": {"host": HOST, "subset": subset}, **more}


# ---------------------------------------------------------------- the whole story


def test_after_a_promotion_and_a_rollback_a_reset_leaves_what_a_person_would_have_written(
    tmp_path: Path,
) -> None:
    with World(rate=100.0, realtime=False, start=NOW, folder=tmp_path, replicas=2) as world:
        live = Live(world, a_quick_policy())
        live.run(20)
        live.release("v2")
        live.release("v3", errors=0.3)
        place = Place(world)
        assert place.subsets() == ["v1", "v2", "v3"]
        assert place.annotations() == {"canaryd.dev/subsets": "v2,v3"}
        assert len(place.records()) == 2

        said = place.fine("reset", "front-end", "--yes")

        assert "production/front-end: all traffic to v2" in said
        assert "kubectl -n production delete deployment front-end-v1" in said
        assert "kubectl -n production delete deployment front-end-v3" in said
        assert place.http() == [{"route": [to("v2")]}]
        assert place.subsets() == ["v1", "v2"]
        assert place.annotations() == {"canaryd.dev/subsets": "v2"}
        assert place.records() == []
        assert place.known() == place.running()
        assert "production/front-end: nothing to do" in place.fine("reset", "front-end", "--yes")

        live.run(20)
        assert place.records() == [], "what runs now is not new"
        assert "production/front-end: nothing to do" in place.fine("reset", "front-end", "--yes")
        assert live.release("v4").phase is Phase.SUCCEEDED, "the next version is"


# ---------------------------------------------------------------- routes


def test_the_version_that_serves_is_left_and_another_on_request(place: Place) -> None:
    place.weigh("v2", 100)
    place.fine("reset", "front-end", "--yes")
    assert place.http() == [{"route": [to("v2")]}]
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [{"route": [to("v1")]}]
    assert place.subsets() == ["v1"]
    assert place.annotations() == {}


def test_a_route_that_is_split_by_hand_is_refused_with_the_choice(place: Place) -> None:
    place.weigh("v2", 50)
    said = place.refused("reset", "front-end", "--yes")
    assert "v1 50%, v2 50%" in said
    assert "--to v1 or --to v2" in said
    assert place.http() == [{"route": [to("v1", weight=50), to("v2", weight=50)]}]
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [{"route": [to("v1")]}]


def test_a_version_without_a_subset_and_one_without_a_replica_are_refused(place: Place) -> None:
    said = place.refused("reset", "front-end", "--to", "v2", "--yes")
    assert "no subset of the DestinationRule is for version v2 (there are: v1)" in said
    place.weigh("v2", 10)
    place.world.scale("v2", 0)
    place.world.advance(place.world.now + 30)
    said = place.refused("reset", "front-end", "--to", "v2", "--yes")
    assert "v2 cannot take the traffic: it has no ready replica (front-end-v2)" in said
    assert place.http() == [{"route": [to("v1", weight=90), to("v2", weight=10)]}]


def test_routes_of_canaryds_own_go_and_those_of_others_stay_as_they_are(place: Place) -> None:
    beta = {"name": "beta", "match": [{"uri": {"prefix": "/beta"}}], "route": [to("v1")], "timeout": "3s"}
    carts = {
        "name": "canaryd-carts",
        "match": [{"uri": {"prefix": "/c"}}],
        "route": [{"destination": {"host": "carts"}}],
    }
    own = {
        "name": "canaryd-users",
        "match": [{"headers": {"cookie": {"regex": ".*logged_in.*"}}}],
        "route": [to("v2")],
    }
    mirror = {
        "name": "canaryd-mirror",
        "match": [{"uri": {"prefix": "/m"}}],
        "route": [{"destination": {"host": "other"}}],
        "mirrors": [to("v2", percentage={"value": 5})],
    }
    main = {"route": [to("v1", weight=90), to("v2", weight=10)], "retries": {"attempts": 2}}
    place.traffic.add_subset(a_policy(), "v2")
    place.edit(
        "virtualservices", "sockshop", lambda vs: vs["spec"].update(http=[own, beta, mirror, carts, main])
    )
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [beta, carts, {"route": [to("v1")], "retries": {"attempts": 2}}]
    assert place.subsets() == ["v1"]


def a_second(place: Place, **spec: Any) -> None:
    metadata = {"name": "second", "namespace": "default"}
    place.api.request(
        "POST",
        path_to("v1", "services", "default"),
        {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}},
    )
    place.api.request(
        "POST",
        path_to(ISTIO, "virtualservices", "default"),
        {
            "apiVersion": ISTIO,
            "kind": "VirtualService",
            "metadata": metadata,
            "spec": {"hosts": ["x"], **spec},
        },
    )


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        (
            {"http": [{"name": "main", "route": [to("v1", weight=100), to("v2", weight=0)]}]},
            "default/second, http route main",
        ),
        (
            {"http": [{"route": [to("v1")], "mirror": {"host": HOST, "subset": "v2"}}]},
            "default/second, mirror of http route #0",
        ),
        ({"tcp": [{"route": [to("v2")]}]}, "default/second, tcp route #0"),
    ],
)
def test_a_subset_that_any_route_of_the_cluster_names_is_never_removed(
    place: Place, spec: dict[str, Any], where: str
) -> None:
    place.traffic.add_subset(a_policy(), "v2")
    a_second(place, **spec)
    said = place.fine("reset", "front-end", "--yes")
    assert f"subset v2 stays: VirtualService {where} sends to it" in said
    assert place.subsets() == ["v1", "v2"]


def test_a_match_route_of_a_person_keeps_its_subset_and_its_version_is_not_called_idle(place: Place) -> None:
    place.traffic.add_subset(a_policy(), "v2")
    beta = {"match": [{"headers": {"user-agent": {"regex": ".*Chrome.*"}}}], "route": [to("v2")]}
    place.edit("virtualservices", "sockshop", lambda vs: vs["spec"]["http"].insert(0, beta))
    said = place.fine("reset", "front-end", "--yes")
    assert "subset v2 stays: VirtualService production/sockshop, http route #0 sends to it" in said
    assert "delete deployment" not in said
    assert place.http()[0] == beta


def test_a_subset_that_canaryd_did_not_add_or_someone_has_changed_stays_and_is_named(place: Place) -> None:
    place.edit("destinationrules", "front-end", lambda rule: rule["spec"]["subsets"].append(V3))
    place.traffic.add_subset(a_policy(), "v2")
    place.edit(
        "destinationrules",
        "front-end",
        lambda rule: rule["spec"]["subsets"][2].update(trafficPolicy={"tls": {"mode": "DISABLE"}}),
    )
    said = place.fine("reset", "front-end", "--yes")
    assert "subset v3 stays: no route names it, but it is not noted as added by canaryd" in said
    assert "subset v2 stays: no route names it, but someone has changed it since canaryd added it" in said
    assert place.subsets() == ["v1", "v3", "v2"]


def test_a_rule_to_which_canaryd_added_the_only_subset_and_annotation_ends_as_it_began(place: Place) -> None:
    place.edit("virtualservices", "sockshop", lambda vs: vs["spec"]["http"][0].update(name="main"))
    place.edit("destinationrules", "front-end", lambda rule: rule["spec"].pop("subsets"))
    rule = place.get("destinationrules", "front-end")
    for version in ("v1", "v2"):
        place.traffic.add_subset(a_policy(), version)
    place.edit("virtualservices", "sockshop", lambda vs: vs["spec"].update(http=[]))
    assert place.subsets() == ["v1", "v2"]
    place.run("reset", "--everything", "--yes")
    after = place.get("destinationrules", "front-end")
    assert (after["spec"], after["metadata"].get("annotations")) == (rule["spec"], None)


def test_of_a_policy_that_only_observes_the_routes_stay(place: Place) -> None:
    place.note(*place.running(), policy=a_policy(mode="observe"))
    place.weigh("v2", 50)
    assert "its routes stay as they are: its policy only observes" in place.fine(
        "reset", "front-end", "--yes"
    )
    assert place.http() == [{"route": [to("v1", weight=50), to("v2", weight=50)]}]
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [{"route": [to("v1")]}]


# ---------------------------------------------------------------- records and notes


def test_finished_records_and_refused_requests_go_and_what_runs_is_known(place: Place) -> None:
    place.note("v1/old", "v9/gone", "v9/gone#2", paused=True)
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    place.store(name="front-end-v7-x", canary="v7", phase=Phase.SUCCEEDED, weight=100, ended=NOW + 9)
    place.rollouts.ask(Request("production", "front-end", "v9", "front-end-v9-y"))
    place.rollouts.list()
    for request in place.rollouts.requests():
        place.rollouts.refuse(request, "the route is split by hand")
    said = place.fine("reset", "front-end", "--yes")
    assert said.count("delete CanaryRollout production/front-end-v") == 3
    assert "front-end-v2 is not new any more; to roll it out: canaryd start front-end v2" in said
    assert place.records() == []
    assert place.known() == place.running()
    assert place.services.known(a_policy()).paused, "a pause is a person's"


def test_a_scaling_that_was_still_to_come_goes_with_its_record_and_is_named(place: Place) -> None:
    policy = a_policy(promotion={"retireStable": {"scaleTo": 0, "after": "1h"}})
    place.store(policy=policy, phase=Phase.SUCCEEDED, weight=100, ended=NOW + 9)
    said = place.fine("reset", "front-end", "--yes")
    assert (
        "with the record front-end-v2-hash-v2 is lost that front-end-v1 was still to be scaled to 0" in said
    )


def test_records_are_kept_on_request_and_another_services_always(place: Place) -> None:
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    place.store(name="carts-v2", service="carts", phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    place.weigh("v2", 20)
    place.fine("reset", "front-end", "--to", "v1", "--keep-records", "--yes")
    assert place.records() == ["carts-v2", "front-end-v2-hash-v2"]
    assert place.http() == [{"route": [to("v1")]}]
    place.fine("reset", "front-end", "--yes")
    assert place.records() == ["carts-v2"]


def test_a_record_that_cannot_be_understood_is_removed_with_the_others(place: Place) -> None:
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    path = path_to("canaryd.dev/v1alpha1", "canaryrollouts", "production", "front-end-v2-hash-v2")
    obj = place.api.request("GET", path)
    obj["status"].pop("policy")
    place.api.request("PUT", f"{path}/status", obj)
    place.fine("reset", "front-end", "--yes")
    assert place.records() == []


def test_a_note_of_an_earlier_release_has_no_routes_so_that_its_policy_or_a_record_has_to_say(
    place: Place, tmp_path: Path
) -> None:
    path = path_to("v1", "configmaps", "production", "canaryd-front-end")
    note = place.api.request("GET", path)
    note["data"] = {key: note["data"][key] for key in ("known", "paused", "problem", "service")}
    place.api.request("PUT", path, note)
    assert place.services.known(a_policy()).outdated, "the daemon notes it at its next beat"
    assert "give its policy with --policies" in place.refused("reset", "front-end", "--yes")
    file = tmp_path / "front-end.yaml"
    file.write_text(yaml.safe_dump(a_policy().dump()))
    place.fine("reset", "front-end", "--policies", str(file), "--dry-run")
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    place.fine("reset", "front-end", "--yes")
    assert place.records() == []


# ---------------------------------------------------------------- a rollout under way


def test_a_rollout_under_way_is_refused_and_nothing_is_done(place: Place) -> None:
    place.weigh("v2", 10)
    place.store()
    before = place.everything()
    assert "front-end-v2-hash-v2 is Progressing; abort it with --abort" in place.refused(
        "reset", "front-end", "--yes"
    )
    assert place.everything() == before


def obeys(place: Place, phase: Phase = Phase.ROLLED_BACK) -> Callable[[float], None]:
    def a_daemon(seconds: float) -> None:
        for record in place.rollouts.list():
            if record.wishes.abort and not record.rollout.phase.ended:
                view = place.traffic.read(a_policy())
                place.traffic.write(a_policy(), view, {"#0": (to("v1"),)})
                place.rollouts.save(
                    record.with_rollout(replace(record.rollout, phase=phase, weight=0, ended=NOW + 50))
                )

    return a_daemon


def test_abort_waits_until_the_daemon_has_taken_it_back_and_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.weigh("v2", 10)
    place.store()
    monkeypatch.setattr(command.time, "sleep", obeys(place))
    said = place.fine("reset", "front-end", "--abort", "--yes")
    assert "abort front-end-v2-hash-v2 first" in said
    assert "production/front-end-v2-hash-v2 goes back: all traffic to v1" in said
    assert (place.http(), place.subsets(), place.records()) == ([{"route": [to("v1")]}], ["v1"], [])


def test_abort_that_no_daemon_obeys_is_told_and_nothing_is_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.weigh("v2", 10)
    place.store()
    monkeypatch.setattr(command, "ABORTED_WITHIN", 0.0)
    monkeypatch.setattr(command, "EVERY", 0.0)
    said = place.refused("reset", "front-end", "--abort", "--yes")
    assert "has not ended within" in said
    assert "does the daemon run?" in said
    assert place.http() == [{"route": [to("v1", weight=90), to("v2", weight=10)]}]
    assert place.records() == ["front-end-v2-hash-v2"]


def test_what_was_asked_for_and_has_not_begun_is_refused_and_taken_back_with_abort(place: Place) -> None:
    place.rollouts.ask(Request("production", "front-end", "v2", "front-end-v2-y"))
    assert "front-end-v2-y is asked for; abort it" in place.refused("reset", "front-end", "--yes")
    assert "no longer asked for" in place.fine("reset", "front-end", "--abort", "--yes")
    assert place.records() == []


# ---------------------------------------------------------------- asking, trying, rights


def test_a_dry_run_shows_the_difference_and_changes_nothing(place: Place) -> None:
    place.weigh("v2", 10)
    place.store()
    before = place.everything()
    said = place.fine("reset", "front-end", "--abort", "--dry-run")
    assert "abort front-end-v2-hash-v2 first" in said
    assert "-      weight: 10" in said
    assert "-  - labels:" in said
    assert "-    canaryd.dev/subsets: v2" in said
    assert said.endswith("dry run: nothing was changed\n")
    assert place.everything() == before


def test_without_a_terminal_nothing_is_done_unless_yes_is_said(place: Place) -> None:
    place.weigh("v2", 100)
    before = place.everything()
    assert "there is no terminal to ask on; confirm with --yes" in place.refused(
        "reset", "front-end", "--to", "v1"
    )
    assert place.everything() == before


@pytest.mark.parametrize(("answer", "version"), [("y\n", "v1"), ("n\n", "v2")])
def test_on_a_terminal_it_asks(
    place: Place, monkeypatch: pytest.MonkeyPatch, answer: str, version: str
) -> None:
    place.weigh("v2", 100)
    place.fine("reset", "front-end", "--yes")
    monkeypatch.setattr(output, "is_asking", lambda: True)
    done = CliRunner().invoke(
        main,
        ["reset", "front-end", "--to", "v1"],
        input=answer,
        env={"KUBECONFIG": str(place.world.kubeconfig)},
    )
    assert done.exit_code == (0 if version == "v1" else 1)
    assert "Do this? [y/N]" in done.output
    assert place.world.weights() == {version: 100.0}


class Overtaken:
    """Someone edits the VirtualService just before each of canaryd's writes, so many times."""

    def __init__(self, place: Place, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.left = place, times
        real = KubernetesApi.request

        def request(api: KubernetesApi, method: str, path: str, *args: Any, **more: Any) -> Any:
            query = args[1] if len(args) > 1 else None
            if method == "PATCH" and "virtualservices" in path and not query and self.left:
                self.left -= 1
                place.edit(
                    "virtualservices",
                    "sockshop",
                    lambda vs: vs["spec"]["http"][0].update(timeout=f"{self.left + 3}s"),
                )
            return real(api, method, path, *args, **more)

        monkeypatch.setattr(KubernetesApi, "request", request)


def test_a_write_that_someone_overtook_is_made_anew_on_what_is_there_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.weigh("v2", 50)
    Overtaken(place, 2, monkeypatch)
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [{"route": [to("v1")], "timeout": "3s"}]


def test_someone_who_always_overtakes_is_told_and_not_overwritten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.weigh("v2", 50)
    Overtaken(place, 99, monkeypatch)
    assert "someone else wrote in between 5 times; try again" in place.refused(
        "reset", "front-end", "--to", "v1", "--yes"
    )
    assert place.http()[0]["route"] == [to("v1", weight=50), to("v2", weight=50)]


def test_a_missing_right_is_named_with_where_they_are_listed_and_nothing_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.weigh("v2", 50)
    real = KubernetesApi.request

    def request(api: KubernetesApi, method: str, path: str, *args: Any, **more: Any) -> Any:
        if method == "PATCH" and "destinationrules" in path:
            raise Rejected(
                f'{method} {path}: 403: destinationrules "front-end" is forbidden: User "dev" cannot patch resource'  # noqa: E501
            )
        return real(api, method, path, *args, **more)

    monkeypatch.setattr(KubernetesApi, "request", request)
    before = place.everything()
    said = place.refused("reset", "front-end", "--to", "v1", "--yes")
    assert 'User "dev" cannot patch resource' in said
    assert "docs/guides/uninstall.md" in said
    assert place.everything() == before


def test_everything_stops_before_anything_is_done_where_routes_may_not_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    real = KubernetesApi.request

    def request(api: KubernetesApi, method: str, path: str, *args: Any, **more: Any) -> Any:
        if path.endswith("/virtualservices"):
            raise Rejected(
                f'{method} {path}: 403: virtualservices is forbidden: User "dev" cannot list resource at the cluster scope'  # noqa: E501
            )
        return real(api, method, path, *args, **more)

    monkeypatch.setattr(KubernetesApi, "request", request)
    before = place.everything()
    said = place.refused("reset", "--everything", "--yes")
    assert (
        "cannot list resource at the cluster scope; what `canaryd reset` needs is in docs/guides/uninstall.md"
        in said
    )
    assert place.everything() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give SERVICE, --all or --everything"),
        (["front-end", "--all"], "give SERVICE, --all or --everything"),
        (["--all", "--to", "v1"], "--to needs a SERVICE"),
        (["--everything", "--keep-records"], "--everything removes all records"),
    ],
)
def test_a_call_that_is_not_clear_is_wrong_usage(place: Place, arguments: list[str], says: str) -> None:
    result = place.run("reset", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_an_unknown_service_is_refused_with_what_there_is(place: Place) -> None:
    assert "nothing of a service nope (it has of: production/front-end)" in place.refused("reset", "nope")


# ---------------------------------------------------------------- all, and everything


def test_all_resets_every_service_or_none_where_one_is_not_clear(place: Place) -> None:
    place.weigh("v2", 100)
    place.store(phase=Phase.SUCCEEDED, weight=100, ended=NOW + 9)
    place.store(name="carts-v2", service="carts", phase=Phase.PROGRESSING)
    said = place.refused("reset", "--all", "--yes")
    assert "production/carts: carts-v2 is Progressing" in said
    assert place.records() == ["carts-v2", "front-end-v2-hash-v2"]
    place.api.request("DELETE", path_to("canaryd.dev/v1alpha1", "canaryrollouts", "production", "carts-v2"))
    assert "production/front-end: all traffic to v2" in place.fine("reset", "--all", "--yes")
    assert place.records() == []


def mentions(place: Place) -> list[str]:
    return [
        name
        for name, obj in place.everything().items()
        if "canaryd.dev" in json.dumps(obj) and obj["metadata"]["name"] != CRD_NAME
    ]


def test_everything_leaves_nothing_that_mentions_canaryd_but_the_crd(tmp_path: Path) -> None:
    with World(rate=100.0, realtime=False, start=NOW, folder=tmp_path, replicas=2) as world:
        live = Live(world, a_quick_policy())
        live.run(20)
        live.release("v2")
        place = Place(world)
        world.deploy("v3", replicas=2)
        live.run(15)
        assert set(world.weights()) == {"v2", "v3"}
        place.edit(
            "deployments",
            "front-end-v1",
            lambda obj: obj["metadata"].update(annotations={"canaryd.dev/ignore": "true"}),
            "apps/v1",
        )
        event = {
            "metadata": {"name": "front-end.1"},
            "eventTime": "2027-01-15T08:00:00.000000Z",
            "reportingController": "canaryd.dev/canaryd",
            "reportingInstance": "x",
            "action": "Start",
            "reason": "RolloutStarted",
            "type": "Normal",
            "regarding": {
                "apiVersion": "canaryd.dev/v1alpha1",
                "kind": "CanaryRollout",
                "name": "x",
                "namespace": "production",
            },
        }
        place.api.request("POST", path_to("events.k8s.io/v1", "events", "production"), event)
        lease = {
            "metadata": {"name": "canaryd", "labels": {"app.kubernetes.io/managed-by": "canaryd"}},
            "spec": {},
        }
        place.api.request("POST", path_to("coordination.k8s.io/v1", "leases", "production"), lease)
        assert "is Progressing; abort it" in place.refused("reset", "--everything", "--yes")
        assert len(mentions(place)) > 3
        before = place.everything()
        place.fine("reset", "--everything", "--abort", "--dry-run")
        assert place.everything() == before

        patch = pytest.MonkeyPatch()
        with patch.context() as no_daemon:
            no_daemon.setattr(command, "ABORTED_WITHIN", 0.0)
            no_daemon.setattr(command, "EVERY", 0.0)
            said = place.run("reset", "--everything", "--abort", "--yes")
        assert said.exit_code == 0, said.output
        assert "as no daemon answers, its traffic is taken back here" in said.stderr
        assert "kubectl delete crd canaryrollouts.canaryd.dev" in said.stdout
        assert mentions(place) == []
        assert place.http() == [{"route": [to("v2")]}]
        assert place.subsets() == ["v1", "v2"]
        assert [
            obj["metadata"]["name"]
            for name, obj in place.everything().items()
            if "leases" in name or "configmaps" in name
        ] == []
        again = place.fine("reset", "--everything", "--yes")
        assert (
            again == "nothing of canaryd is left in this cluster but its CRD: kubectl delete crd "
            "canaryrollouts.canaryd.dev\n"
        )


def test_everything_goes_on_where_routes_cannot_be_read_and_says_so(place: Place) -> None:
    place.api.request("DELETE", path_to(ISTIO, "virtualservices", "production", "sockshop"))
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    assert "there is no VirtualService production/sockshop" in place.refused("reset", "front-end", "--yes")
    assert "its routes stay as they are: there is no VirtualService" in place.fine(
        "reset", "--everything", "--yes"
    )
    assert (place.records(), place.services.notes()) == ([], [])


@pytest.mark.parametrize("dry", [True, False])
def test_a_daemon_that_writes_a_record_in_between_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, dry: bool
) -> None:
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9)
    real, times = KubernetesApi.request, [1]

    def request(
        api: KubernetesApi, method: str, path: str, body: Any = None, query: Any = None, **more: Any
    ) -> Any:
        if method == "DELETE" and times[0] and ("dryRun" in body) is dry:
            times[0] -= 1
            raise Conflict(f"{method} {path}: 409")
        return real(api, method, path, body, query, **more)

    monkeypatch.setattr(KubernetesApi, "request", request)
    place.fine("reset", "front-end", "--yes")
    assert place.records() == []


# ---------------------------------------------------------------- users who stay, users who are split

BY_USER: dict[str, Any] = {
    "stages": [{"weight": 10}, {"weight": 25}, {"weight": 100}],
    "route": {"virtualService": "sockshop", "affinity": {"users": 500}},
}
BY_MATCH: dict[str, Any] = {
    "stages": [
        {"match": {"headers": {"cookie": {"exact": "x"}}}, "split": "half", "weight": 5},
        {"weight": 100},
    ],
    "analysis": {"reporter": "source"},
}


def staged_at(place: Place, policy: Policy) -> None:
    """As in the first stage of v2's rollout, of which the service's note knows."""
    place.note(*place.running(), policy=policy)
    traffic = IstioTraffic(place.api, settle=0.0)
    subset = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, route_lists.staged(policy, 0, view, view.lists, subset, "abc-1"))


def left_of(place: Place) -> list[str]:
    kinds = (("v1", "services"), (ISTIO, "destinationrules"))
    return [
        item["metadata"]["name"]
        for version, plural in kinds
        for item in place.api.request("GET", path_to(version, plural, "production"))["items"]
        if "canaryd" in item["metadata"]["name"]
    ]


def test_users_who_stayed_are_let_go_where_a_note_alone_says_where_routes_are(place: Place) -> None:
    staged_at(place, a_policy(**BY_USER))
    assert len(place.http()) == 3
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert place.http() == [{"route": [to("v1")]}]


def test_what_an_aborted_rollout_made_for_split_users_goes_with_its_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would have tidied later, by the record."""
    policy = a_policy(**BY_MATCH)
    staged_at(place, policy)
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9, policy=policy)
    assert left_of(place) == ["front-end-canaryd-match"] * 2
    place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert (place.http(), left_of(place), place.records()) == ([{"route": [to("v1")]}], [], [])


def test_what_was_made_for_split_users_goes_also_where_its_record_was_deleted(place: Place) -> None:
    staged_at(place, a_policy(**BY_MATCH))
    assert left_of(place) == ["front-end-canaryd-match"] * 2
    said = place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert "delete Service production/front-end-canaryd-match" in said
    assert "delete DestinationRule production/front-end-canaryd-match" in said
    assert "all traffic on v1, subsets removed, Services removed" in said
    assert (place.http(), left_of(place)) == ([{"route": [to("v1")]}], [])
    assert "production/front-end: nothing to do" in place.fine("reset", "front-end", "--yes")


def test_what_others_made_under_such_a_name_or_for_another_service_stays(place: Place) -> None:
    for name, mark in (
        ("front-end-canaryd-match", {}),
        ("carts-canaryd-match", {"canaryd.dev/made-for": "carts/(match)"}),
    ):
        made = {
            "metadata": {"name": name, "annotations": mark},
            "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]},
        }
        place.api.request("POST", path_to("v1", "services", "production"), {"kind": "Service", **made})
    place.fine("reset", "front-end", "--yes")
    assert left_of(place) == ["carts-canaryd-match", "front-end-canaryd-match"]


@pytest.mark.parametrize("policy", [{}, BY_MATCH], ids=["weights", "split"])
def test_who_may_not_look_for_it_is_told_so_and_stopped_only_where_there_was_a_split(
    place: Place, policy: dict[str, Any]
) -> None:
    staged_at(place, a_policy(**{"stages": [{"weight": 5}, {"weight": 100}], **policy}))
    place.world.kubernetes.faults.status(
        403, 99, lambda method, path: method == "GET" and path.endswith("/production/services")
    )
    file = place.world.folder / "front-end.yaml"
    file.write_text(yaml.safe_dump(a_policy(**policy).dump()))
    arguments = ("reset", "front-end", "--to", "v1", "--yes", "--policies", str(file))
    if policy:
        assert "403" in place.refused(*arguments)
        assert len(place.http()) == 2, "nothing is done by halves"
    else:
        said = place.fine(*arguments)
        assert (
            "what an earlier policy with `split` may have left (a Service, a DestinationRule) is not looked "
            "for: GET" in said
        )
        assert place.http() == [{"route": [to("v1")]}]


def test_check_asks_for_every_right_that_a_reset_uses(place: Place) -> None:
    policy = a_policy(**BY_MATCH)
    staged_at(place, policy)
    place.store(phase=Phase.ROLLED_BACK, weight=0, ended=NOW + 9, policy=policy)
    with audited(place.world) as used:
        place.fine("reset", "front-end", "--to", "v1", "--yes")
    assert Right("", "services", "delete", "production") in used
    asked = {*of_people([policy])}
    assert (
        used - asked - {replace(one, namespace="production") for one in asked if not one.namespace} == set()
    )


def test_each_change_is_shown_once(place: Place) -> None:
    staged_at(place, a_policy(**BY_MATCH))
    place.store(policy=a_policy(**BY_MATCH))
    said = place.fine("reset", "--everything", "--abort", "--dry-run")
    for line in (
        "delete Service production/front-end-canaryd-match",
        "delete DestinationRule production/front-end-canaryd-match",
        "+++ DestinationRule production/front-end",
        "+++ VirtualService production/sockshop",
    ):
        assert said.splitlines().count(f"  {line}") == 1, said
    assert "delete CanaryRollout production/front-end-v2-hash-v2" in said


def test_a_cookie_is_one_line_of_the_difference(place: Place) -> None:
    staged_at(place, a_policy(**BY_USER))
    said = place.fine("reset", "front-end", "--to", "v1", "--dry-run")
    assert (
        "set-cookie: canaryd-front-end=canaryd.abc-1.from-25; Path=/; Max-Age=604800; HttpOnly; "
        "SameSite=Lax\n" in said
    )


@pytest.mark.parametrize("policy", [BY_USER, BY_MATCH], ids=["affinity", "split"])
def test_everything_takes_canaryds_own_out_of_routes_whose_weights_no_one_can_tell_and_leaves_these(
    place: Place, policy: dict[str, Any]
) -> None:
    """Requests would go to Services that are no more, and users would get cookies for ever."""
    staged_at(place, a_policy(**policy))
    weight = policy["stages"][0]["weight"]
    said = place.fine("reset", "--everything", "--yes")
    assert "its weights stay as they are: it is not clear which version is to be left" in said
    assert place.http() == [{"route": [to("v1", weight=100 - weight), to("v2", weight=weight)]}]
    assert (mentions(place), left_of(place)) == ([], [])


# ---------------------------------------------------------------- by the Gateway API


def test_an_httproute_goes_back_to_one_service_and_the_one_that_was_made_is_removed(place: Place) -> None:
    httproute.take_over(place.world.store, "front-end", "production")
    policy = a_policy(route={"httpRoute": "sockshop"})
    place.note(*place.running(), policy=policy)
    before = place.get("httproutes", "sockshop", GATEWAY_API)["spec"]
    traffic = TrafficByKind(place.api, settle=0.0)
    subset = traffic.add_subset(policy, "v2")
    view = traffic.read(policy)
    traffic.write(policy, view, split(view.lists, subset, 10))

    assert "it is not clear which version is to be left" in place.refused("reset", "front-end", "--yes")
    said = place.fine("reset", "front-end", "--to", "v1", "--yes")

    assert "production/front-end: all traffic on v1, Services removed" in said
    assert "kubectl -n production delete deployment front-end-v2" in said
    assert place.get("httproutes", "sockshop", GATEWAY_API)["spec"] == before
    with pytest.raises(Missing):
        place.get("services", "front-end-v2", "v1")
    assert "production/front-end: nothing to do" in place.fine("reset", "front-end", "--dry-run")
