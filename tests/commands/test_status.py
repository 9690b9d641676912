"""`status` and `explain` show what is on record: to people, and to machines by keys that stay."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click import unstyle
from click.testing import CliRunner

from canaryd.adapters.kube.canaryrollout_object import API_VERSION, KIND, PLURAL
from canaryd.adapters.kube.client import MERGE_PATCH, KubernetesApi, path_to
from canaryd.cli import main
from canaryd.domain.rollout import Held, Phase
from tests.builders import NOW, a_verdict
from tests.commands.conftest import Shell

KEYS = {
    "name",
    "namespace",
    "service",
    "stable",
    "canary",
    "attempt",
    "phase",
    "held",
    "stage",
    "stages",
    "weight",
    "share",
    "verdict",
    "odds",
    "bar",
    "reason",
    "verdictReason",
    "began",
    "ended",
    "lookedUntil",
    "mode",
    "bracket",
}


def test_a_service_without_rollouts_is_said_to_be_looked_after(shell: Shell) -> None:
    assert shell.fine("status") == "no rollouts; canaryd looks after production/front-end\n"


def test_the_table_has_a_line_for_a_rollout_with_its_versions_stage_weight_and_odds(shell: Shell) -> None:
    shell.store(verdict=a_verdict(odds=43.2, reason="errors 2% against 1%"))
    head, line = shell.fine("status").splitlines()
    assert head.split() == ["SERVICE", "VERSIONS", "PHASE", "STAGE", "WEIGHT", "ODDS", "AGE", "WHY"]
    for part in ("front-end", "v1 → v2", "Progressing", "1/4", "10%", "43 to 1", "errors 2% against 1%"):
        assert part in line


def test_a_long_reason_is_never_cut_when_piped(shell: Shell) -> None:
    shell.store(phase=Phase.HELD, held=Held.PERSON, reason="because " * 60 + "end")
    assert "because end" in shell.fine("status")


WHY = "errors 2.1% against 0.5% (ratio 4.2, 1.9 to 9.3; 10% tolerated), odds 140 to 1"


@pytest.mark.parametrize("columns", [30, 40, 60, 70, 80, 100, 120, 200])
def test_status_loses_nothing_on_a_terminal_however_narrow(
    shell: Shell, terminal: Callable[[int], None], columns: int
) -> None:
    terminal(columns)
    shell.store(verdict=a_verdict(odds=43.2, reason=WHY))
    lines = unstyle(shell.fine("status")).splitlines()
    assert max(map(len, lines)) <= columns
    for part in ("front-end", "v1 → v2", "Progressing", "1/4", "10%", "43 to 1"):
        assert any(part in line for line in lines), part
    words = WHY.split()
    assert [
        word
        for line in lines
        for word in line.split()
        if word in words and word not in ("10%", "43", "to", "1")
    ] == [word for word in words if word not in ("10%", "43", "to", "1")]


@pytest.mark.parametrize("columns", [40, 60, 80, 118, 200])
def test_explain_is_as_wide_as_the_terminal_and_breaks_no_word(
    shell: Shell, terminal: Callable[[int], None], columns: int
) -> None:
    shell.store(
        phase=Phase.HELD, held=Held.PERSON, reason=" ".join(["because"] * 60), verdict=a_verdict(reason=WHY)
    )
    piped = shell.fine("explain", "front-end")
    terminal(columns)
    lines = unstyle(shell.fine("explain", "front-end")).splitlines()
    assert max(map(len, lines[1:])) <= columns
    assert " ".join(lines).split() == piped.split()
    full = [line for line in lines if line.split()[:1] == ["because"]]
    assert max(map(len, full)) > min(columns, 118) - 12  # as wide as that, and not only as narrow


def test_status_shows_the_rollout_under_way_else_the_latest_and_all_when_asked(shell: Shell) -> None:
    shell.store(name="a", canary="v3", began=NOW, phase=Phase.ROLLED_BACK, ended=NOW + 5)
    shell.store(name="b", canary="v4", began=NOW + 10, phase=Phase.ROLLED_BACK, ended=NOW + 15)
    assert names(shell) == ["b"]
    shell.store(name="c", canary="v5", began=NOW + 5)
    assert names(shell) == ["c"]
    assert names(shell, "--all") == ["a", "c", "b"]
    assert names(shell, "a") == ["a"]


def names(shell: Shell, *arguments: str) -> list[str]:
    return [
        rollout["name"] for rollout in json.loads(shell.fine("status", "-o", "json", *arguments))["rollouts"]
    ]


def test_the_json_of_a_rollout_has_these_keys(shell: Shell) -> None:
    shell.store(verdict=a_verdict(odds=float("inf")))
    (rollout,) = json.loads(shell.fine("status", "-o", "json"))["rollouts"]
    assert set(rollout) == KEYS
    assert (rollout["phase"], rollout["stage"], rollout["stages"], rollout["weight"]) == (
        "Progressing",
        1,
        4,
        10,
    )
    assert rollout["odds"] > 1e300


def test_status_in_another_namespace_shows_nothing_of_this_one(shell: Shell) -> None:
    shell.store()
    assert "front-end" not in shell.fine("status", "-n", "default")


def test_status_of_an_unknown_name_is_refused(shell: Shell) -> None:
    assert "there is no rollout nope" in shell.refused("status", "nope")


def test_explain_tells_the_rollout_under_way_in_words(shell: Shell) -> None:
    shell.store(verdict=a_verdict())
    told = shell.fine("explain", "front-end")
    assert told.startswith("front-end, v1 → v2: in stage 1/4 at 10%\n")
    assert "the evidence says undecided" in told
    assert "\x1b" not in told


def test_explain_as_json_is_the_record(shell: Shell) -> None:
    record = shell.store(verdict=a_verdict())
    told = json.loads(shell.fine("explain", record.rollout.name, "-o", "json"))
    assert told["verdict"]["canaryRequests"] == 1000
    assert told["policy"] == record.rollout.policy.dump()


def test_a_record_that_cannot_be_understood_is_named_and_does_not_hide_the_others(shell: Shell) -> None:
    shell.store()
    spec = {"service": "front-end", "version": "v9"}
    broken = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "broken", "namespace": "production"},
        "spec": spec,
    }
    api = KubernetesApi(str(shell.world.kubeconfig))
    path = path_to(API_VERSION, PLURAL, "production")
    api.request("POST", path, broken)
    api.request("PATCH", f"{path}/broken/status", {"status": {"phase": "Dreaming"}}, content_type=MERGE_PATCH)
    try:
        result = shell.run("status")
    finally:
        api.request("DELETE", f"{path}/broken")
    assert result.exit_code == 0
    assert "production/broken cannot be understood" in result.stderr
    assert "v1 → v2" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("explain", "front-end"),
        ("hold", "front-end"),
        ("start", "front-end", "v2"),
        ("pause", "--all"),
    ],
)
def test_an_api_server_that_is_away_is_exit_code_3_in_one_line(
    shell: Shell, command: tuple[str, ...]
) -> None:
    shell.world.kubernetes.faults.down = True
    try:
        result = shell.run(*command)
    finally:
        shell.world.kubernetes.faults.clear()
    assert result.exit_code == 3
    assert "the API server at" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_kubeconfig_is_refused_with_what_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "--kubeconfig" in result.stderr
