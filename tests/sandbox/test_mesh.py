"""Requests, counters and the tally: what was served is what was counted, and behaves as it was told to."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from canaryd_sandbox.kubernetes.resources import DESTINATIONRULES, VIRTUALSERVICES
from canaryd_sandbox.mesh.mesh import BOUNDS, LE, Behaviour, Sample
from canaryd_sandbox.mesh.routing import Audience, takes_requests
from canaryd_sandbox.mesh.users import Users
from canaryd_sandbox.world import HOST, NAMESPACE, World


def route_to(world: World, *destinations: dict[str, Any], before: tuple[dict[str, Any], ...] = ()) -> None:
    """Points the VirtualService at destinations `{"subset": ..., "weight": ...}`, as a person or canaryd
    would."""
    old = world.virtualservice()
    routes = [
        {
            "destination": {
                "host": d.get("host", HOST),
                **({"subset": d["subset"]} if "subset" in d else {}),
            },
            **({"weight": d["weight"]} if "weight" in d else {}),
        }
        for d in destinations
    ]
    world.store.replace(
        VIRTUALSERVICES,
        NAMESPACE,
        "sockshop",
        {**old, "spec": {**old["spec"], "http": [*before, {"route": routes}]}},
    )


def add_subset(world: World, version: str) -> None:
    rule = world.store.get(DESTINATIONRULES, NAMESPACE, "front-end")
    subsets = [*rule["spec"]["subsets"], {"name": version, "labels": {"version": version}}]
    world.store.replace(
        DESTINATIONRULES, NAMESPACE, "front-end", {**rule, "spec": {**rule["spec"], "subsets": subsets}}
    )


def served(world: World) -> Counter[str]:
    counted: Counter[str] = Counter()
    for tally in world.tally().values():
        counted[tally.version] += tally.requests
    return counted


def exposed(world: World, metric: str, **labels: str) -> list[Sample]:
    return [
        (name, series, value)
        for name, series, value in world.mesh.samples()
        if name == metric and labels.items() <= dict(series).items()
    ]


def steps(world: World, seconds: float) -> None:
    world.advance(world.now + seconds)


def test_the_counters_agree_with_the_tally_to_the_request(world: World) -> None:
    world.set_behaviour("v1", errors=0.1, latency_ms=100, tail=0.05)
    steps(world, 20)
    for pod, tally in world.tally().items():
        requests = exposed(world, "istio_requests_total", pod=pod, reporter="destination")
        assert tally.requests == sum(value for _, _, value in requests) > 0
        assert (
            tally.failures
            == sum(value for _, labels, value in requests if dict(labels)["response_code"] == "503")
            > 0
        )
        for bound, le in zip(BOUNDS, LE, strict=False):
            faster = sum(
                value
                for _, _, value in exposed(
                    world, "istio_request_duration_milliseconds_bucket", pod=pod, le=le
                )
            )
            assert tally.requests - tally.slower[bound] == faster
        assert tally.slower[2500] > 0


def test_requests_arrive_at_the_rate_as_a_poisson_process(world: World) -> None:
    steps(world, 100)
    arrived = sum(served(world).values())
    assert arrived == pytest.approx(10_000, abs=5 * math.sqrt(10_000))


def test_the_same_seed_serves_the_same_requests() -> None:
    tallies = []
    for seed in (1, 1, 2):
        with World(realtime=False, start=0.0, seed=seed) as world:
            steps(world, 5)
            tallies.append(sorted((t.requests, t.failures) for t in world.tally().values()))
    assert tallies[0] == tallies[1] != tallies[2]


def test_weights_split_requests_and_pods_of_a_version_share_them(world: World) -> None:
    add_subset(world, "v2")
    world.deploy("v2", replicas=2)
    steps(world, 2)
    assert served(world)["v2"] == 0
    route_to(world, {"subset": "v1", "weight": 75}, {"subset": "v2", "weight": 25})
    assert world.weights() == {"v1": 75, "v2": 25}
    before = served(world)
    steps(world, 100)
    gained = served(world) - before
    assert gained["v2"] / (gained["v1"] + gained["v2"]) == pytest.approx(0.25, abs=0.025)
    mine = [t.requests for t in world.tally().values() if t.version == "v2"]
    assert min(mine) / sum(mine) == pytest.approx(0.5, abs=0.05)


def test_a_single_destination_takes_all_whatever_its_weight(world: World) -> None:
    route_to(world, {"subset": "v1"})
    assert world.weights() == {"v1": 100}
    route_to(world, {"subset": "v1", "weight": 10})
    assert world.weights() == {"v1": 100}


def test_among_several_destinations_a_missing_weight_is_none(world: World) -> None:
    route_to(world, {"subset": "v1", "weight": 100}, {"subset": "v2"})
    assert world.weights() == {"v1": 100, "v2": 0}


def test_a_short_host_and_a_route_with_a_match_are_read_as_istio_does(world: World) -> None:
    matching = {
        "match": [{"headers": {"cookie": {"regex": ".*logged_in.*"}}}],
        "route": [{"destination": {"host": HOST, "subset": "v2"}}],
    }
    route_to(world, {"host": "front-end", "subset": "v1"}, before=(matching,))
    assert world.weights() == {"v1": 100}


def test_requests_to_a_subset_that_nobody_defines_reach_no_pod(world: World) -> None:
    route_to(world, {"subset": "v9"})
    before = sum(served(world).values())
    steps(world, 2)
    assert sum(served(world).values()) == before
    lost = exposed(world, "istio_requests_total", reporter="source", response_flags="NC")
    assert world.mesh.unserved == sum(value for _, _, value in lost) > 100


def test_requests_to_a_version_without_ready_pods_fail_for_the_client_alone(world: World) -> None:
    add_subset(world, "v2")
    world.deploy("v2", pod="never-ready")
    route_to(world, {"subset": "v1", "weight": 50}, {"subset": "v2", "weight": 50})
    steps(world, 5)
    assert not exposed(world, "istio_requests_total", reporter="destination", destination_version="v2")
    (lost,) = exposed(world, "istio_requests_total", reporter="source", response_flags="UH")
    assert lost[2] == world.mesh.unserved == pytest.approx(250, abs=80)


def test_a_series_is_born_with_its_first_request(world: World) -> None:
    world.set_behaviour("v1", errors=0.0)
    steps(world, 3)
    assert not exposed(world, "istio_requests_total", response_code="503", reporter="destination")
    world.set_behaviour("v1", errors=0.5)
    steps(world, 1)
    assert exposed(world, "istio_requests_total", response_code="503", reporter="destination")
    assert not exposed(world, "istio_requests_total", grpc_response_status="")


def test_grpc_failures_are_a_status_with_code_200(world: World) -> None:
    world.set_behaviour("v1", errors=0.5, protocol="grpc")
    steps(world, 2)
    found = {
        dict(labels)["grpc_response_status"]
        for _, labels, _ in exposed(
            world, "istio_requests_total", request_protocol="grpc", response_code="200"
        )
    }
    assert found == {"0", "14"}


def test_a_drained_restart_resets_the_counters_and_loses_nothing(world: World) -> None:
    steps(world, 5)
    pod = world.pods("v1")[0]
    world.restart(pod)
    steps(world, 0.2)
    assert pod not in world.pods("v1")
    before = world.tally()[pod].requests
    steps(world, 2)
    assert (
        world.tally()[pod].requests
        == before
        == sum(
            value for _, _, value in exposed(world, "istio_requests_total", pod=pod, reporter="destination")
        )
    )
    steps(world, 3)
    after = sum(
        value for _, _, value in exposed(world, "istio_requests_total", pod=pod, reporter="destination")
    )
    assert 0 < after == world.tally()[pod].requests - before
    assert world.mesh.unserved == 0


def test_a_killed_pod_fails_requests_that_only_the_client_sees(world: World) -> None:
    steps(world, 5)
    pod = world.pods("v1")[0]
    world.restart(pod, drained=False)
    assert not exposed(world, "istio_requests_total", pod=pod)
    steps(world, 2)
    (lost,) = exposed(world, "istio_requests_total", reporter="source", response_flags="UF")
    assert lost[2] == world.mesh.unserved == pytest.approx(17, abs=16)
    assert world.tally()[pod].requests > 0


def test_restarting_what_is_not_there_names_what_is(world: World) -> None:
    with pytest.raises(ValueError, match="pod nobody is not in the mesh; there are front-end-v1-"):
        world.restart("nobody")


def test_a_pod_that_goes_keeps_nothing_but_its_tally(world: World) -> None:
    steps(world, 5)
    pods = world.pods("v1")
    world.scale("v1", 1)
    steps(world, 1)
    gone = set(pods) - set(world.pods("v1"))
    assert len(gone) == 2
    assert all(exposed(world, "istio_requests_total", pod=pod) for pod in gone)  # still draining
    steps(world, 3)
    assert not any(exposed(world, "istio_requests_total", pod=pod) for pod in gone)
    assert gone < world.tally().keys()
    assert world.mesh.unserved == 0


@pytest.mark.parametrize("burst", [1.0, 4.0, 16.0])
def test_failures_have_their_rate_and_come_in_runs_of_their_mean_length(burst: float) -> None:
    with World(realtime=False, start=0.0) as world:
        flags = np.concatenate(
            [world.mesh._failures("v1", 50, Behaviour(errors=0.02, burst=burst), 0.0) for _ in range(20_000)]
        )
    assert flags.mean() == pytest.approx(0.02, abs=6 * math.sqrt(0.02 * 2 * burst / len(flags)))
    runs = int((np.diff(flags.astype(int)) == 1).sum())
    # A run that follows another without a gap is counted as one: the mean is 1/(1-begins) times longer than
    # told.
    begins = 0.02 / (0.02 + burst * 0.98)
    expected = burst / (1 - begins) if burst > 1 else 1 / 0.98
    assert flags.sum() / runs == pytest.approx(expected, rel=0.06)


def test_latency_has_its_median_and_its_tail(world: World) -> None:
    world.set_behaviour("v1", errors=0.0, latency_ms=100, sigma=0.5, tail=0.03, tail_ms=3000)
    steps(world, 100)
    total = sum(t.requests for t in world.tally().values())
    slower = {bound: sum(t.slower[bound] for t in world.tally().values()) / total for bound in BOUNDS}
    assert slower[100] == pytest.approx(0.5 * 0.97 + 0.03, abs=0.025)
    assert slower[2500] == pytest.approx(0.03, abs=0.008)
    assert slower[5000] == 0


def test_the_error_rate_swings_with_its_period() -> None:
    behaviour = Behaviour(errors=0.01, swing=0.8, swing_seconds=3600)
    assert [behaviour.error_rate(t) for t in (0, 900, 2700)] == pytest.approx([0.01, 0.018, 0.002])


@pytest.mark.parametrize("wrong", [{"errors": 1.5}, {"burst": 0.5}, {"tail": -0.1}, {"latency_ms": -1}])
def test_a_behaviour_that_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"behaviour {name}: .* but it is {value}"):
        Behaviour(**wrong)  # type: ignore[arg-type]


def of_orders(world: World) -> Counter[str]:
    counted: Counter[str] = Counter()
    for _, labels, value in exposed(world, "istio_requests_total", source_workload="orders"):
        counted[dict(labels)["destination_version"]] += int(value)
    return counted


@pytest.mark.parametrize(
    ("gateways", "steered"), [(["sockshop-gateway"], False), (["sockshop-gateway", "mesh"], True), ([], True)]
)
def test_calls_from_inside_the_mesh_follow_a_virtualservice_that_is_bound_to_it(
    world: World, gateways: list[str], steered: bool
) -> None:
    world.deploy("v2", replicas=3)
    add_subset(world, "v2")
    steps(world, 5)
    route_to(world, {"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10})
    old = world.virtualservice()
    world.store.replace(
        VIRTUALSERVICES, NAMESPACE, "sockshop", {**old, "spec": {**old["spec"], "gateways": gateways}}
    )
    world.mesh.inside = 100.0
    before = served(world)
    steps(world, 20)
    orders = of_orders(world)
    assert orders["v2"] / orders.total() == pytest.approx(0.1 if steered else 0.5, abs=0.05)
    through_the_gateway = sum(
        value
        for _, labels, value in exposed(world, "istio_requests_total", reporter="destination")
        if dict(labels)["source_workload"] != "orders"
    )
    assert orders.total() + through_the_gateway == served(world).total() > before.total() + 1500


# ---------------------------------------------------------------- who asks

MATCHED = {
    "name": "m",
    "match": [{"headers": {"cookie": {"regex": ".*logged_in.*"}}}],
    "route": [{"destination": {"host": HOST, "subset": "v2"}}],
}


def two_versions(world: World, *before: dict[str, Any]) -> None:
    world.deploy("v2", replicas=2)
    steps(world, 3)
    add_subset(world, "v2")
    route_to(world, {"subset": "v1"}, before=before)
    world.mesh.audiences = (
        Audience(0.75),
        Audience(0.25, {"cookie": "a=1; logged_in=1"}, {"debug": "1"}, {"app": "orders"}),
    )


def test_a_match_sends_those_that_it_is_about_and_no_one_else(world: World) -> None:
    two_versions(world, MATCHED)
    before = served(world)
    steps(world, 60)
    grown = served(world) - before
    assert grown["v2"] / grown.total() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("match", "takes"),
    [
        (
            [
                {
                    "headers": {"cookie": {"prefix": "a=1"}},
                    "queryParams": {"debug": {"exact": "1"}},
                    "sourceLabels": {"app": "orders"},
                }
            ],
            True,
        ),
        ([{"headers": {"cookie": {"exact": "a=1"}}}], False),
        ([{"headers": {"cookie": {"regex": "logged_in"}}}], False),  # the whole value
        ([{"headers": {"x-none": {"regex": ".*"}}}], False),
        ([{"withoutHeaders": {"cookie": {"regex": ".*logged_in.*"}}}], False),
        ([{"sourceLabels": {"app": "carts"}}], False),
        ([{"uri": {"prefix": "/"}}], False),
        ([{"headers": {"x-none": {"exact": "1"}}}, {"name": "second", "queryParams": {"debug": {}}}], True),
        ([], True),
    ],
)
def test_a_route_takes_requests_by_istio_s_rules(match: list[dict[str, Any]], takes: bool) -> None:
    audience = Audience(1.0, {"cookie": "a=1; logged_in=1"}, {"debug": "1"}, {"app": "orders"})
    assert takes_requests({"match": match}, audience) is takes


def test_users_keep_the_cookies_that_destinations_set_and_go_where_routes_take_those_to(world: World) -> None:
    def setting(subset: str, weight: int, value: str) -> dict[str, Any]:
        headers = {"response": {"add": {"set-cookie": f"who={value}; Path=/"}}}
        return {"destination": {"host": HOST, "subset": subset}, "weight": weight, "headers": headers}

    two_versions(world)
    users = world.mesh.users = Users(200)
    drawing = {
        "name": "d",
        "match": [{"withoutHeaders": {"cookie": {"regex": "who=.*"}}}],
        "route": [setting("v1", 50, "a"), setting("v1", 20, "b"), setting("v2", 30, "c")],
    }
    of_c = {
        "name": "c",
        "match": [{"headers": {"cookie": {"exact": "who=c"}}}],
        "route": [{"destination": {"host": HOST, "subset": "v2"}}],
    }
    route_to(world, {"subset": "v1"}, before=(drawing, of_c))
    assert world.weights() == {"v1": pytest.approx(70), "v2": pytest.approx(30)}, "of who has no cookie"
    before = served(world)
    steps(world, 60)
    assert {tuple(one) for one in users.seen} <= {(), ("v1",), ("v2",)}, "each was drawn once"
    last = Counter(one[-1] for one in users.seen if one)
    assert last["v2"] / last.total() == pytest.approx(0.3, abs=0.12)
    assert (served(world) - before)["v2"] > 0
    route_to(world, {"subset": "v1"})
    steps(world, 30)
    assert {one[-1] for one in users.seen if one} == {"v1"}, "nobody asks for the cookie any more"


def test_copies_are_served_and_counted_at_the_pod_and_no_client_sees_them(world: World) -> None:
    mirrored = {
        "name": "c",
        "route": [{"destination": {"host": HOST, "subset": "v1"}}],
        "mirror": {"host": HOST, "subset": "v2"},
        "mirrorPercentage": {"value": 20.0},
    }
    two_versions(world, mirrored)
    world.set_behaviour("v2", errors=1.0)
    before, copied = served(world), world.mesh.copied
    steps(world, 60)
    grown = served(world) - before
    assert grown["v2"] == world.mesh.copied - copied
    assert grown["v2"] / grown["v1"] == pytest.approx(0.2, abs=0.03)
    assert not exposed(world, "istio_requests_total", reporter="source", destination_version="v2")


def test_one_audience_is_served_as_before_there_were_any(world: World) -> None:
    with World(realtime=False, start=0.0, seed=1) as one, World(realtime=False, start=0.0, seed=1) as other:
        other.mesh.audiences = (Audience(0.5),)
        for each in (one, other):
            steps(each, 5)
        assert [vars(tally) for tally in one.tally().values()] == [
            vars(tally) for tally in other.tally().values()
        ]
