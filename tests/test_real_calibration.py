"""What `make bench-real` plans, and what it calls a broken promise. The releases themselves need the real
parts and their time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bench import real_releases
from bench.real_calibration import broken, main, table
from bench.real_releases import (
    FAULTS,
    STORIED,
    STORIES,
    WORLDS,
    Fault,
    Outcome,
    Releaser,
    Run,
    a_policy,
    deployment,
    objects,
    plan,
    planned,
)
from canaryd.domain.policy.policy import Policy

HEALTHY = Outcome(
    "steady", "v2", "", "promoted", 100.0, 100, "nothing against it", {"v1": (900, 4), "v2": (800, 4)}, {}
)
BAD = replace(HEALTHY, version="v3", fault="errors to 5%", end="rolled back", seconds=20.0, weight=10)


@pytest.mark.parametrize(
    ("services", "healthy", "bad"), [(4, 20, 20), (2, 2, 2), (1, 3, 3), (4, 5, 2), (3, 0, 7)]
)
def test_releases_are_dealt_out_evenly_and_none_is_lost(services: int, healthy: int, bad: int) -> None:
    releases = plan(list(WORLDS)[:services], healthy, bad)
    dealt = [one for release in releases.values() for one in release]
    assert (dealt.count(None), len(dealt)) == (healthy, healthy + bad)
    for is_bad in (False, True):
        shares = [sum(isinstance(one, Fault) is is_bad for one in release) for release in releases.values()]
        assert max(shares) - min(shares) <= 1


def test_every_fault_is_released_as_often_as_any_and_no_service_meets_one_twice_in_five() -> None:
    releases = plan(list(WORLDS), 20, 20)
    faults = [[one.name for one in release if one] for release in releases.values()]
    often = Counter(name for fault in faults for name in fault)
    assert often.keys() == {fault.name for fault in FAULTS}
    assert max(often.values()) - min(often.values()) <= 1
    assert all(len(set(fault)) == len(fault) == 5 for fault in faults)


def test_a_run_in_which_all_went_well_broke_nothing() -> None:
    assert broken([HEALTHY, BAD, replace(BAD, end="undecided")], 3, {}) == []


def test_what_is_broken_is_told_by_name() -> None:
    back = [replace(HEALTHY, end="rolled back", version=f"v{n}") for n in range(2)]
    told = broken(
        [
            *back,
            *[HEALTHY] * 18,
            replace(BAD, end="promoted"),
            replace(BAD, inexact={"pod": "canaryd 3, Prometheus 4"}),
        ],
        23,
        {"other": "served (3, 0), Prometheus None"},
    )
    assert told == [
        "2 of 20 healthy releases were rolled back: more than a risk of 1% allows",
        "steady v3 (errors to 5%) was promoted",
        "steady v3: pod: canaryd 3, Prometheus 4",
        "other: served (3, 0), Prometheus None",
        "1 of 23 releases were not made",
    ]


def test_one_rollback_among_twenty_healthy_releases_is_within_the_risk() -> None:
    assert broken([replace(HEALTHY, end="rolled back"), *[HEALTHY] * 19], 20, {}) == []


def test_the_table_has_a_row_for_what_was_released_and_sums() -> None:
    lines = table([HEALTHY, replace(HEALTHY, seconds=120.0), BAD, replace(BAD, end="promoted")]).splitlines()
    assert "| independent errors, 0.5% | 2 | 2 | 0 (0.0% to 84%) | 0 | 100 s | 120 s |" in lines
    assert "| errors to 5% | 2 | 1 | 1 (1.3% to 99%) | 0 | 20 s | 20 s |" in lines
    assert len(lines) == 2 * 4 + 1


def test_each_service_has_objects_and_a_policy_of_its_own() -> None:
    for service in (*WORLDS, STORIED):
        assert Policy.load(a_policy(service)).service.name == service
        kinds = {one["kind"]: one["metadata"]["name"] for one in objects(service)}
        assert kinds == {
            "Service": service,
            "DestinationRule": service,
            "VirtualService": service,
            "Deployment": f"{service}-v1",
        }
        assert "front-end" not in str(list(objects(service)))


def test_a_fault_whose_weight_never_came_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    late = next(one for one in FAULTS if one.since)
    made: list[Fault | None] = []

    def release(releaser: Releaser, fault: Fault | None) -> Outcome:
        made.append(fault)
        return HEALTHY if fault in (None, late) else replace(BAD, fault=fault.name)

    monkeypatch.setattr(Releaser, "__init__", lambda *_: None)
    monkeypatch.setattr(Releaser, "release", release)
    run = Run(None, None)  # type: ignore[arg-type]
    run.service("steady", [None, late, FAULTS[0]])
    assert made == [None, late, FAULTS[0], late]
    assert len(run.outcomes) == 4


# ---------------------------------------------------------------- stories


class NotedWorld:
    """Notes how versions and pods were told to behave."""

    kubeconfig = None

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def behaviour(self, name: str, **how: object) -> None:
        self.told.append((name, float(how.get("errors", 0.0))))  # type: ignore[arg-type]

    def replicas(self) -> dict[str, object]:
        return {f"{name.replace('/', '-')}-{number}": {} for name, _ in self.told for number in range(3)}


class NotedRun:
    """Notes what is waited for."""

    def __init__(self, world: NotedWorld) -> None:
        self.world = world

    def pause(self, seconds: float) -> None:
        self.world.told.append(("pause", seconds))


@pytest.fixture
def releaser(monkeypatch: pytest.MonkeyPatch) -> Releaser:
    """Of the storied service, whose releases end at once."""

    class Api:
        def __init__(self, *_: object) -> None: ...

        def request(self, *_: object) -> dict[str, object]:
            return {}

    record = {"status": {"phase": "RolledBack", "began": 1.0, "ended": 21.0, "decisions": [{"weight": 10}]}}
    monkeypatch.setattr(real_releases, "Api", Api)
    monkeypatch.setattr(Releaser, "follow", lambda *_: (record, None))
    monkeypatch.setattr(Releaser, "counts", lambda *_: ({}, {}))
    return Releaser(NotedRun(NotedWorld()), STORIED)  # type: ignore[arg-type]


def told(releaser: Releaser) -> list[tuple[str, float]]:
    return releaser.run.world.told  # type: ignore[attr-defined,no-any-return]


def test_the_stories_are_one_more_service_with_half_of_the_traffic_and_twice_the_time() -> None:
    names = list(WORLDS)[:2]
    assert STORIED not in planned(names, 2, 2, stories=False)
    assert planned(names, 2, 2, stories=True)[STORIED] == list(STORIES)
    assert planned(names, 2, 2, stories=True).keys() == {*names, STORIED}
    assert deployment(STORIED, "v1")["spec"]["replicas"] == 3
    usual, storied = (Policy.load(a_policy(service)).stages for service in (names[0], STORIED))
    assert [2 * stage.deadline for stage in usual[:-1]] == [stage.deadline for stage in storied[:-1]]


def test_a_dead_version_fails_everything_from_its_first_request_on(releaser: Releaser) -> None:
    outcome = releaser.release(STORIES[0])
    assert ("storied/v2", 1.0) in told(releaser)
    assert (outcome.fault, outcome.end, outcome.weight) == (STORIES[0].fault.name, "rolled back", 10)  # type: ignore[union-attr]


def test_of_three_replicas_one_fails_and_the_others_are_well(releaser: Releaser) -> None:
    releaser.release(STORIES[1])
    assert [name for name, errors in told(releaser) if errors == 1.0] == ["storied-v2-0"]
    assert ("storied/v2", 0.005) in told(releaser)


def test_an_incident_of_stable_is_over_when_the_bad_version_comes(releaser: Releaser) -> None:
    releaser.release(STORIES[2])
    assert told(releaser)[:6] == [
        ("storied/v1", 0.05),
        ("pause", 120.0),
        ("storied/v1", 0.005),
        ("pause", 60.0),
        ("storied/v1", 0.005),
        ("storied/v2", 0.05),
    ]


def test_where_both_rates_rose_the_healthy_version_has_stable_s_and_all_is_well_after_it(
    releaser: Releaser,
) -> None:
    outcome = releaser.release(STORIES[-1])
    assert outcome.fault == ""
    rose = [what for what in told(releaser) if what[0] != "pause"]
    assert rose[:3] == [("storied/v1", 0.05), ("storied/v1", 0.05), ("storied/v2", 0.05)]
    assert rose[-1] == ("storied/v1", 0.005)


def test_the_plan_names_every_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plan", "--healthy", "1", "--bad", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "steady (independent errors, 0.5%; 100 requests/s, 2 replicas)"
    assert "storied (stories: independent errors, 0.5%; 50 requests/s, 3 replicas)" in lines
    assert lines[-len(STORIES) :] == [f"  v{number}  {s.name}" for number, s in enumerate(STORIES, start=2)]


def test_stories_have_rows_of_their_own_in_the_table() -> None:
    dead = STORIES[0].fault
    assert dead is not None
    lines = table([replace(BAD, service=STORIED, fault=dead.name), replace(HEALTHY, service=STORIED)])
    assert f"| {dead.name} | 1 | 1 |" in lines
    assert "| stories: independent errors, 0.5% | 1 | 1 |" in lines
