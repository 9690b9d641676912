"""`canaryd explain` recomputes from Prometheus or a recording, and falls back to the record, saying so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click import unstyle
from click.testing import CliRunner

from canaryd.adapters.recording_file import load, writing
from canaryd.cli import main
from canaryd.domain.rollout import Phase, Span
from tests.builders import a_verdict
from tests.commands.conftest import Desk, Shell
from tests.one_process import Released


@pytest.fixture(scope="module")
def recorded(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the bad version's rollout."""
    desk = Desk(released, tmp_path_factory.mktemp("recorded"))
    desk.run("record", desk.out, "--rollout", released.bad.name)
    return desk.out


def alone(*arguments: object, **options: Any) -> Any:
    """Someone without any cluster."""
    result = CliRunner(**options).invoke(
        main, ["explain", *map(str, arguments)], env={"KUBECONFIG": "/nowhere"}
    )
    assert result.exit_code == 0, result.output
    return result


def words(told: str) -> str:
    return " ".join(told.split())


# ---------------------------------------------------------------- recomputed


def test_each_look_and_each_verdict_is_had_again_from_prometheus(desk: Desk, released: Released) -> None:
    for rollout, said in ((released.bad, released.said_of_bad), (released.good, released.said_of_good)):
        told = json.loads(desk.run("explain", rollout.name, "-o", "json", "--brief").stdout)
        assert told["name"] == rollout.name
        found = told["recomputed"]
        assert (found["same"], found["problem"], found["looksWithoutTelemetry"]) == (True, None, 0)
        assert found["requests"]["counted"] == found["requests"]["recomputed"]
        assert [(look["at"], look["answer"], look["odds"], look["stageOdds"]) for look in found["looks"]] == [
            (one.at, one.answer.value, one.odds, one.stage_odds) for one in said
        ]
        decided = [decision for decision in rollout.decisions if decision.verdict is not None]
        assert [
            (decision["at"], decision["signal"], decision["stored"]["odds"])
            for decision in found["decisions"]
        ] == [(one.at, one.signal, one.verdict.odds) for one in decided if one.verdict]
        assert all(decision["whatIf"] == [] for decision in found["decisions"])


def test_the_text_has_the_odds_over_time_what_decided_and_what_would_have_otherwise(
    desk: Desk, released: Released
) -> None:
    told = desk.run("explain", released.bad.name).stdout
    parts = (
        "The verdict it was decided by is the stored one, to the digit.",
        "Odds over time, against v3",
        "decided by errors (",
        "Otherwise, on the same looks",
        "without errors",
        "without latency",
        "falseRollbackRisk 0.1%",
        "falseRollbackRisk 5%",
        "without front-end-v3-",
        "< back to stable",
        "Counted, request by request",
        "What happens next",
    )
    assert [part for part in parts if part not in words(told)] == []
    passed = words(desk.run("explain", released.good.name).stdout)
    parts = (
        "All 3 verdicts that were decided by are the stored ones, to the digit.",
        "What passed when",
        "badAdvanceRisk 10%",
        "> onward",
        "ruled out",
    )
    assert [part for part in parts if part not in passed] == []


def test_a_recording_alone_gives_the_same_without_any_cluster(
    desk: Desk, recorded: Path, released: Released
) -> None:
    of_file = json.loads(alone("--recorded", recorded, "-o", "json").stdout)
    of_prometheus = json.loads(desk.run("explain", released.bad.name, "-o", "json").stdout)
    assert of_file["recomputed"]["decisions"] == of_prometheus["recomputed"]["decisions"]
    assert of_file["recomputed"]["looks"] == of_prometheus["recomputed"]["looks"]
    assert of_file["counted"] == of_prometheus["counted"]
    assert len(of_file["recomputed"]["decisions"][0]["whatIf"]) >= 5


def test_a_recording_of_the_rollout_asked_for_is_taken_with_the_record_and_of_another_refused(
    desk: Desk, recorded: Path, released: Released
) -> None:
    environment = {"KUBECONFIG": str(released.world.kubeconfig)}
    told = CliRunner().invoke(
        main, ["explain", "--recorded", str(recorded), released.bad.name, "--brief"], env=environment
    )
    assert told.exit_code == 0, told.output
    assert "Who was told" in told.stdout  # is on the record alone
    other = CliRunner().invoke(
        main, ["explain", "--recorded", str(recorded), released.good.name], env=environment
    )
    assert other.exit_code == 1
    assert f"is of {released.bad.name}, and {released.good.name} was asked for" in other.stderr


def test_looks_are_listed_when_asked_for(recorded: Path, released: Released) -> None:
    told = (
        alone("--recorded", recorded, "--looks", "--brief").stdout.partition("Look by look\n")[2].splitlines()
    )
    assert told[0].split() == [
        "UTC",
        "STAGE",
        "WEIGHT",
        "ODDS",
        "IN",
        "STAGE",
        "RULED",
        "OUT",
        "ANSWER",
        "WHY",
    ]
    assert len(told) == 1 + len(released.said_of_bad)
    assert "fail" in told[-1]


def test_the_environment_names_the_prometheus_and_a_recording_goes_before_it(
    desk: Desk, recorded: Path, released: Released
) -> None:
    world = released.world
    environment = {"KUBECONFIG": str(world.kubeconfig), "CANARYD_PROMETHEUS": "http://127.0.0.1:9"}
    told = CliRunner().invoke(main, ["explain", released.bad.name], env=environment)
    assert "it could not be recomputed. Prometheus at http://127.0.0.1:9 cannot be reached" in words(
        told.stdout
    )
    told = CliRunner().invoke(main, ["explain", "--recorded", str(recorded), "--brief"], env=environment)
    assert f"Recomputed from {recorded}" in words(told.stdout)
    arguments = ["explain", released.bad.name, "--config", str(desk.config), "--brief"]
    told = CliRunner().invoke(main, arguments, env=environment)  # and so do settings that are asked for
    assert f"Recomputed from Prometheus at {world.prometheus_url}" in words(told.stdout)


def test_a_recording_of_a_rollout_that_was_under_way_ends_where_it_ends(
    recorded: Path, released: Released, tmp_path: Path
) -> None:
    recording = load(recorded)
    rollout = recording.past.rollout
    assert rollout is not None
    spans = (*rollout.spans[:-1], replace(rollout.spans[-1], end=None))
    under_way = replace(
        rollout,
        spans=spans,
        phase=Phase.PROGRESSING,
        weight=20,
        ended=None,
        decisions=rollout.decisions[:1],
        clock=0.0,
        clock_from=float(spans[-1].start),
    )
    until = released.said_of_bad[2].at
    path = tmp_path / "under-way.gz"
    with writing(path, replace(recording.past, end=until, rollout=under_way), "a test") as writer:
        for look in recording._looks.values():
            writer.write(look, dict.fromkeys(recording.past.queries, 0.1))
    told = json.loads(alone("--recorded", path, "-o", "json").stdout)
    assert [look["at"] for look in told["recomputed"]["looks"]] == [
        verdict.at for verdict in released.said_of_bad[:3]
    ]
    assert told["verdict"]["at"] == until
    text = alone("--recorded", path, "--brief").stdout
    assert "The last look: undecided" in text
    # as it was then, 6 s after the stage began, and not now
    assert "If it is still undecided in 24s (the stage's deadline)" in words(text)


# ---------------------------------------------------------------- falling back


def test_a_prometheus_that_is_down_leaves_the_stored_record_which_is_said(
    desk: Desk, released: Released
) -> None:
    released.world.prometheus.faults.down = True
    try:
        text, data = (
            desk.run("explain", released.bad.name),
            desk.run("explain", released.bad.name, "-o", "json"),
        )
    finally:
        released.world.prometheus.faults.clear()
    assert "The record, as it was decided then: it could not be recomputed. Prometheus at" in words(
        text.stdout
    )
    assert "harm: fail" in text.stdout
    assert released.bad.reason in words(text.stdout)
    found = json.loads(data.stdout)["recomputed"]
    assert (found["same"], found["looks"], found["decisions"]) == (None, [], [])
    assert "Prometheus at" in found["problem"]


def test_a_prometheus_that_has_forgotten_leaves_the_stored_record_which_is_said(shell: Shell) -> None:
    began = float(int(time.time()) - 3000)
    span = Span(0, 10, int(began), int(began) + 600)
    shell.store(
        began=began,
        spans=(span,),
        phase=Phase.ROLLED_BACK,
        ended=began + 610,
        verdict=a_verdict(at=int(began) + 600),
    )
    told = words(shell.fine("explain", "front-end", "--prometheus", shell.world.prometheus_url))
    assert f"Prometheus at {shell.world.prometheus_url} has no samples of that time (any more)." in told
    assert "The last verdict: undecided" in told


def test_a_past_of_which_most_is_forgotten_shows_the_stored_verdict_and_why(
    recorded: Path, released: Released, tmp_path: Path
) -> None:
    recording = load(recorded)
    past = recording.past
    span = released.bad.spans[0]
    late = released.said_of_bad[-1].at - (released.said_of_bad[-1].at - span.start) // 4
    partly = tmp_path / "partly.gz"
    with writing(partly, past, "a test") as writer:
        for look in recording._looks.values():
            kept = (
                look if look.start >= late else replace(look, stable={}, canary={}, sampled=False, bounds=())
            )
            writer.write(kept, dict.fromkeys(past.queries, 0.1))
    environment = {"KUBECONFIG": str(released.world.kubeconfig)}
    result = CliRunner().invoke(
        main, ["explain", "--recorded", str(partly), released.bad.name], env=environment
    )
    assert result.exit_code == 0, result.output
    told = words(result.stdout)
    assert "harm: fail (stored, and not had again)" in told
    assert "it has forgotten the others, or" in told
    assert "Otherwise" not in told
    assert released.bad.reason in told


def test_without_a_source_it_is_the_record_with_a_word_on_how_to_have_more(
    desk: Desk, released: Released
) -> None:
    environment = {"KUBECONFIG": str(released.world.kubeconfig)}
    told = CliRunner().invoke(main, ["explain", released.bad.name], env=environment)
    assert "The last verdict: fail" in told.stdout
    assert f"canaryd explain {released.bad.name} --prometheus URL" in words(told.stdout)
    data = CliRunner().invoke(main, ["explain", released.bad.name, "-o", "json"], env=environment)
    assert json.loads(data.stdout)["recomputed"] is None


def test_a_rollout_whose_looks_have_not_begun_says_so(shell: Shell) -> None:
    shell.store(phase=Phase.WAITING, spans=(), stage=-1, weight=0)
    told = words(shell.fine("explain", "front-end", "--prometheus", "http://127.0.0.1:9"))
    assert "there is no look yet that could be read, so nothing was recomputed." in told


# ---------------------------------------------------------------- how it looks


@pytest.mark.parametrize("columns", [32, 40, 60, 80, 200])
def test_it_is_as_wide_as_the_terminal_and_the_picture_is_whole(
    recorded: Path, terminal: Callable[[int], None], columns: int
) -> None:
    terminal(columns)
    lines = unstyle(alone("--recorded", recorded, "--brief").stdout).splitlines()
    long = [line for line in lines if len(line) > columns]
    # but for names, which are never broken, and the title
    assert all(" " not in line.strip() for line in long[1:])
    picture = [line for line in lines if "┤" in line]
    assert len(picture) == 4
    assert picture[0].endswith("█")
    assert all(line.startswith("  ") for line in picture)


def test_an_output_that_takes_only_ascii_gets_only_ascii(recorded: Path) -> None:
    told = alone("--recorded", recorded, "--brief", charset="ascii").stdout
    assert told.isascii()
    assert told.startswith("front-end, v2 -> v3: rolled back")
    assert " |" in told.partition("Odds over time")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "wanted is a SERVICE or ROLLOUT, or --recorded FILE"),
        (("front-end", "--looks"), "--looks are recomputed: they need --prometheus, --config or --recorded"),
        (
            ("front-end", "--brief", "--full", "--prometheus", "http://x:9090"),
            "--brief leaves out what --full asks for",
        ),
        (("--recorded", "a.gz", "--prometheus", "http://x:9090"), "leave out --prometheus"),
        (("--recorded", "a.gz", "--config", "a.yaml"), "leave out --config"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(main, ["explain", *arguments])
    assert result.exit_code == 2
    assert says in words(result.stderr)


def test_a_recording_without_a_rollout_is_refused(desk: Desk) -> None:
    desk.by_versions()
    result = CliRunner().invoke(main, ["explain", "--recorded", str(desk.out)])
    assert result.exit_code == 1
    assert (
        "a file of `canaryd record --rollout` was wanted, but it was recorded without a rollout"
        in result.stderr
    )
