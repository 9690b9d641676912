"""The command line with a rollout of several services: any of their names means it, and all of them are
shown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from canaryd.adapters.kube.client import KubernetesApi, path_to
from canaryd.adapters.kube.service_notes import KubeServices
from canaryd.cli import main
from canaryd.control import route_sync
from canaryd.domain.counts import Counts
from canaryd.domain.ports import Gathering, KnownTemplates
from canaryd.domain.rollout import Held, Phase
from canaryd.domain.verdict import Answer, MetricFinding
from canaryd.report.explanation import explain, text
from tests.builders import (
    NOW,
    a_bracket,
    a_bracket_rollout,
    a_member,
    a_policy,
    a_rollout,
    a_verdict,
    of_carts,
    with_entrance,
)
from tests.commands.conftest import Shell

NAME = "front-end-v2-hash-v2"


@pytest.mark.parametrize("name", ["front-end", "carts", NAME])
def test_a_verb_means_it_by_the_name_of_any_of_its_services(shell: Shell, name: str) -> None:
    shell.store(a_bracket_rollout())
    assert (
        shell.fine("abort", name)
        == f"production/{NAME} goes back: all traffic to front-end v1 and carts v7\n"
    )
    assert shell.spec()["abort"] is True


def test_a_promotion_that_a_pause_keeps_waiting_says_which_service_is_paused(shell: Shell) -> None:
    shell.store(a_bracket_rollout())
    api = KubernetesApi(str(shell.world.kubeconfig))
    KubeServices(api).remember(
        a_bracket().among({("production", "carts")}), KnownTemplates(frozenset(), paused=True)
    )
    said = shell.fine("promote", "front-end")
    api.request("DELETE", path_to("v1", "configmaps", "production", "canaryd-carts"))
    assert (
        said == f"production/{NAME} goes to 100%; once it is no longer paused (canaryd pause carts --end)\n"
    )


def test_a_service_means_the_rollout_under_way_be_it_its_own_or_a_bracket_s(shell: Shell) -> None:
    shell.store(
        a_rollout(
            name="carts-v8",
            service="carts",
            canary="v8",
            phase=Phase.ROLLED_BACK,
            ended=NOW + 5,
            began=NOW + 50,
        )
    )
    shell.store(a_bracket_rollout())
    shell.fine("hold", "carts")
    assert shell.spec()["hold"] is True


def test_status_has_one_line_for_it_with_all_versions(shell: Shell) -> None:
    shell.store(
        a_rollout(
            name="carts-v6",
            service="carts",
            canary="v6",
            phase=Phase.SUCCEEDED,
            ended=NOW + 5,
            began=NOW - 50,
        )
    )
    shell.store(a_bracket_rollout())
    [_, line, *rest] = shell.fine("status").splitlines()
    assert line.startswith("front-end, carts  v1 → v2, v7 → v8  Progressing")
    assert [other for other in rest if "→" in other] == [], "the latest of carts is the bracket's"
    [shown] = json.loads(shell.fine("status", "carts", "-o", "json"))["rollouts"][-1:]
    assert shown["bracket"] == [
        {"namespace": "production", "service": "front-end", "stable": "v1", "canary": "v2"},
        {"namespace": "production", "service": "carts", "stable": "v7", "canary": "v8"},
    ]


def test_status_says_what_keeps_it_from_advancing_rather_than_the_last_verdict(shell: Shell) -> None:
    reason = route_sync.unread("both are available", "carts: GET deployments: 403")
    shell.store(a_bracket_rollout(verdict=a_verdict(), reason=reason))
    assert (
        shell.fine("status")
        .splitlines()[1]
        .endswith("  both are available; nothing advances: carts: GET deployments: 403")
    )


@pytest.fixture
def gathers(shell: Shell) -> Iterator[str]:
    """front-end-v3 waits for carts, for 2 h; what is said of it."""
    api = KubernetesApi(str(shell.world.kubeconfig))
    services = KubeServices(api)
    says = "front-end-v3 waits up to 2m for new versions of carts"
    waits = Gathering(frozenset({"production/front-end v3/hash-v3"}), time.time() - 7200.0, says)
    for policy in (a_bracket().among({("production", "carts")}), a_policy()):
        services.remember(policy, replace(services.known(policy), gathering=waits))
    yield says
    services.remember(policy, replace(services.known(a_policy()), gathering=None))
    api.request("DELETE", path_to("v1", "configmaps", "production", "canaryd-carts"))


def test_status_says_of_what_gathers_that_it_waits_once_and_by_any_name(shell: Shell, gathers: str) -> None:
    for names in (
        ("production/carts, production/front-end",),
        ("production/front-end", "front-end"),
        ("production/carts", "carts"),
    ):
        assert shell.fine("status", *names[1:]).splitlines()[1:] == [f"{names[0]}: {gathers}, for 2h now"]
    data = json.loads(shell.fine("status", "carts", "-o", "json"))
    assert [(service["service"], service["problem"], service["waits"]) for service in data["services"]] == [
        ("carts", "", gathers)
    ]


@pytest.mark.parametrize("verb", ["explain", "abort", "hold", "promote"])
@pytest.mark.parametrize("name", ["front-end", "carts"])
def test_of_what_gathers_a_verb_says_that_no_rollout_has_begun_yet(
    shell: Shell, gathers: str, verb: str, name: str
) -> None:
    assert (
        shell.refused(verb, name)
        == f"canaryd: no rollout of {name} has begun yet: production/{name}: {gathers}, for 2h now\n"
    )


@pytest.mark.parametrize("name", ["front-end", "carts", NAME])
def test_an_explanation_of_what_has_ended_says_what_came_since(shell: Shell, gathers: str, name: str) -> None:
    record = shell.store(a_bracket_rollout())
    assert "What came since" not in shell.fine("explain", name)
    shell.rollouts.save(record.with_rollout(replace(record.rollout, phase=Phase.SUCCEEDED, ended=NOW + 5)))
    told = " ".join(shell.fine("explain", name).split())
    assert (
        f"What came since production/carts, production/front-end: {gathers}, for 2h now Where the numbers "
        "are from" in told
    )
    assert "what would have decided otherwise" not in told


PHASES = {
    Phase.WAITING: (
        {"stage": -1, "weight": 0},
        "begins when the Deployments front-end-v2 and carts-v8 are available; if one misses its",
    ),
    Phase.AWAITING_APPROVAL: (
        {"stage": 3},
        "Then each route becomes one destination: front-end v2 and carts v8.",
    ),
    Phase.ROLLING_BACK: (
        {"weight": 0},
        "All weight goes to front-end v1 and carts v7; the routes are not all confirmed yet.",
    ),
    Phase.PROMOTING: (
        {"weight": 100},
        "Each route becomes one destination: front-end v2 and carts v8; the routes are not all confirmed",
    ),
    Phase.SUPERSEDED: (
        {"weight": 0},
        "The next rollout takes along those of these versions that nothing newer replaces. After that they",
    ),
    Held.STABLE_NOT_READY: (
        {},
        "It goes on by itself when each of front-end-v1 and carts-v7 has a ready replica again.",
    ),
    Held.DRIFT: (
        {},
        "when all routes are again as canaryd left them. Or canaryd resume front-end-v2-hash-v2: canaryd "
        "steers again, writes the routes back to 10%, and replaces edits inside the route lists.",
    ),
}


@pytest.mark.parametrize("phase", list(PHASES))
def test_an_explanation_says_what_comes_next_of_all_services(phase: Phase | Held) -> None:
    changes, said = PHASES[phase]
    held = phase if isinstance(phase, Held) else None
    rollout = a_bracket_rollout(phase=phase if isinstance(phase, Phase) else Phase.HELD, held=held, **changes)
    assert said in " ".join(text(explain(rollout, NOW)).split())


def test_nothing_else_of_its_services_is_tried_while_it_is_under_way(shell: Shell) -> None:
    shell.store(
        a_rollout(
            name="carts-v6",
            service="carts",
            canary="v6",
            phase=Phase.ROLLED_BACK,
            ended=NOW + 5,
            began=NOW - 50,
        )
    )
    shell.store(a_bracket_rollout())
    assert f"{NAME} is Progressing" in shell.refused("retry", "carts-v6")


def test_an_explanation_has_each_service_s_verdict_counts_and_findings() -> None:
    findings = tuple(
        MetricFinding(
            "errors", "errors", answer, 5, 900, 9, 100, 2.0, tolerated=1.1, service=service, says="errors"
        )
        for service, answer in (("front-end", Answer.UNDECIDED), ("carts", Answer.FAIL))
    )
    whole = a_verdict(Answer.FAIL, reason="carts: errors", findings=findings)
    carts = of_carts(
        verdict=a_verdict(Answer.FAIL, odds=300.0),
        counted={"carts-v8-a": Counts(7, 2)},
        off_weight_callers="someone sends",
    )
    rollout = a_bracket_rollout(carts, verdict=whole, counted={"front-end-v2-a": Counts(100, 1)})
    rollout = with_entrance(rollout, verdict=a_verdict(odds=3.0))
    said = text(explain(rollout, NOW))
    assert said.startswith("front-end, v1 → v2; carts, v7 → v8: in stage 1/4 at 10%\n")
    assert "front-end: undecided, odds 3.0 to 1" in said
    assert "carts: fail, odds 300 to 1" in said
    assert "carts, errors: fail" in said
    assert "counts    v7 5 of 900" in said
    assert "front-end v2  front-end-v2-a" in said
    assert "carts v8      carts-v8-a" in said
    assert "carts: someone sends" in said
    assert "requests of front-end v2 and carts v8" in said


def test_a_reset_of_any_of_its_services_waits_for_its_end(shell: Shell) -> None:
    shell.store(a_bracket_rollout())
    for service in ("front-end", "carts"):
        assert f"{NAME} is Progressing; abort it with --abort" in shell.refused("reset", service, "--dry-run")


def test_a_plan_is_of_one_service(tmp_path: Path) -> None:
    path = tmp_path / "bracket.yaml"
    path.write_text(
        yaml.safe_dump(
            a_bracket(a_member(), stages=[{"weight": 100, "minimum": "60s", "deadline": "2m"}]).dump()
        )
    )
    refused = CliRunner().invoke(main, ["plan", str(path)])
    assert (refused.exit_code, "say which with --service (front-end, carts)" in refused.output) == (1, True)
    unknown = CliRunner().invoke(main, ["plan", str(path), "--service", "stock"])
    assert "is no policy of stock, but of front-end, carts" in unknown.output
    small = ("--rollouts", "1", "--regression", "errors=9x", "--cores", "1")
    made = CliRunner().invoke(main, ["plan", str(path), "--service", "carts", *small])
    assert made.exit_code == 0, made.output
    assert made.output.startswith("carts in production: 100%")


def test_a_past_is_of_one_service(shell: Shell, tmp_path: Path) -> None:
    shell.store(a_bracket_rollout())
    said = shell.refused(
        "record", str(tmp_path / "past.gz"), "--rollout", "carts", "--prometheus", "http://127.0.0.1:9"
    )
    assert f"{NAME} is of front-end and carts, and a past is of one service" in said
