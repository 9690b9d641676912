"""`canaryd backtest`: what would have been decided when, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.conftest import Desk, at
from tests.one_process import Released


@pytest.fixture
def recorded(desk: Desk) -> Path:
    """A recording of the bad version's rollout."""
    desk.run("record", desk.out, "--rollout", desk.released.bad.name)
    return desk.out


def changed(desk: Desk, name: str, **analysis: Any) -> Path:
    """Another policy of the service."""
    data = desk.released.live.policy.dump()
    data["analysis"] |= analysis
    path = desk.folder / name
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_rollout_s_own_policy_gives_the_verdicts_that_were_given_live(
    desk: Desk, recorded: Path, released: Released
) -> None:
    result = json.loads(desk.run("backtest", recorded, "-o", "json", "--looks").stdout)
    (one,) = result["backtests"]
    assert (one["mode"], one["differences"], one["phase"]) == ("recorded", [], "RolledBack")
    assert [(look["at"], look["answer"], look["odds"], look["reason"]) for look in one["looks"]] == [
        (said.at, said.answer.value, said.odds, said.reason) for said in released.said_of_bad
    ]
    assert [decision["signal"] for decision in one["decisions"]] == [
        "canary available",
        "harm",
        "route confirmed",
    ]


def test_the_table_tells_each_decision_with_its_odds_and_reason(
    desk: Desk, recorded: Path, released: Released
) -> None:
    told = desk.run("backtest", recorded).stdout
    assert told.startswith("production/front-end, v2 → v3, 20")
    assert "the file's policy: on record rolled back, all traffic on v2, after " in told
    line = next(line for line in told.splitlines() if "harm" in line)
    assert line.split()[2:6] == ["harm", "RollingBack", "1/3", "0%"]
    assert "rolled back at 100" in told
    assert "each decision's verdict, had again from the counts, is the one that was acted on" in " ".join(
        told.split()
    )


def test_several_policies_are_shown_side_by_side_stage_by_stage(desk: Desk, recorded: Path) -> None:
    strict = changed(desk, "strict.yaml", metrics=[{"errors": {"max": "0.1%"}}])
    told = desk.run("backtest", recorded, "--policies", desk.policy, strict).stdout
    beside = told.partition("Side by side\n")[2].splitlines()
    assert beside[0].split() == ["front-end.yaml", "strict.yaml"]
    assert beside[1].split()[:2] == ["stage", "1"]
    assert beside[1].count("harm") == 2
    assert "would have rolled back to v2" in beside[4]
    assert "strict.yaml: would have rolled back to v2" in told
    assert "weights in the past were what they were" in told
    again = desk.run("backtest", "--policies", desk.policy, "--policies", strict, recorded).stdout
    assert again == told


def test_the_same_past_from_prometheus_gives_the_same_course(
    desk: Desk, recorded: Path, released: Released
) -> None:
    of_file, of_prometheus = (
        json.loads(desk.run("backtest", *where, "--policies", desk.policy, "-o", "json").stdout)
        for where in ((recorded,), ("--rollout", released.bad.name))
    )
    assert of_file["backtests"] == of_prometheus["backtests"]


def test_policies_of_other_looks_are_read_each_by_itself(desk: Desk) -> None:
    three = changed(desk, "three.yaml", interval="3s")
    result = desk.run(
        "backtest",
        "--policies",
        desk.policy,
        three,
        "--stable",
        "v2",
        "--canary",
        "v3",
        *desk.time,
        "-o",
        "json",
        "--looks",
    )
    two, other = json.loads(result.stdout)["backtests"]
    assert {two["mode"], other["mode"]} == {"imagined"}
    assert [one["looks"][1]["at"] - one["looks"][0]["at"] for one in (two, other)] == [2, 3]
    assert result.stderr.count("looks of front-end-v2 and front-end-v3 in") == 2


def test_a_rollout_s_policy_on_record_is_the_default(desk: Desk, released: Released) -> None:
    told = desk.run("backtest", "--rollout", released.good.name).stdout
    assert "the policy on record: on record succeeded, all traffic on v2" in told


def test_a_directory_s_policy_of_the_service_is_taken(desk: Desk, recorded: Path) -> None:
    folder = desk.folder / "policies"
    folder.mkdir()
    data = desk.released.live.policy.dump()
    (folder / "front-end.yaml").write_text(yaml.safe_dump(data))
    data["service"]["name"] = "cart"
    (folder / "cart.yaml").write_text(yaml.safe_dump(data))
    told = desk.run("backtest", recorded, "--policies", folder).stdout
    assert "policies/front-end: on record" in told
    (folder / "front-end.yaml").unlink()
    assert (
        "a policy of production/front-end was wanted, but there is none"
        in desk.run("backtest", recorded, "--policies", folder, code=1).stderr
    )


def test_a_part_of_a_recording_is_imagined_in(desk: Desk, recorded: Path, released: Released) -> None:
    first = released.bad.spans[0].start + 5
    (one,) = json.loads(desk.run("backtest", recorded, "--from", at(first), "-o", "json").stdout)["backtests"]
    assert one["mode"] == "imagined"
    assert first <= one["began"] < first + 2
    told = desk.run("backtest", recorded, "--from", "2001-01-01", code=1).stderr
    assert "must lie within the recording" in told


def test_looks_are_listed_when_asked_for(desk: Desk, recorded: Path, released: Released) -> None:
    told = desk.run("backtest", recorded, "--looks").stdout.partition("look by look\n")[2].splitlines()
    assert told[0].split() == ["UTC", "ANSWER", "STAGE", "WEIGHT", "ODDS", "WHY"]
    assert len(told) == 1 + len(released.said_of_bad)


# ---------------------------------------------------------------- what cannot be done


def test_policies_that_do_not_fit_are_all_named_with_what_was_wanted(desk: Desk, recorded: Path) -> None:
    other = yaml.safe_load(desk.policy.read_text())
    other["service"]["name"] = "cart"
    cart = desk.folder / "cart.yaml"
    cart.write_text(yaml.safe_dump(other))
    told = desk.run(
        "backtest", recorded, "--policies", cart, changed(desk, "odd.yaml", interval="3s"), code=1
    ).stderr.splitlines()
    assert (
        told[0]
        == "canaryd: cart.yaml: is the policy of production/cart, and the looks are of production/front-end"
    )
    assert "odd.yaml: wants looks of 3 s (analysis.interval), which looks of 2 s do not make up" in told[1]


def test_policies_of_two_services_and_of_another_than_the_rollout_s_are_refused(
    desk: Desk, released: Released
) -> None:
    other = yaml.safe_load(desk.policy.read_text())
    other["service"]["name"] = "cart"
    cart = desk.folder / "cart.yaml"
    cart.write_text(yaml.safe_dump(other))
    versions = ("--stable", "v2", "--canary", "v3", *desk.time)
    assert (
        "they are of production/cart, production/front-end"
        in desk.run("backtest", "--policies", desk.policy, cart, *versions, code=1).stderr
    )
    assert (
        "is the policy of production/cart, and"
        in desk.run("backtest", "--policies", cart, "--rollout", released.bad.name, code=1).stderr
    )


def test_a_file_that_is_no_recording_or_not_there_is_refused(desk: Desk) -> None:
    assert "is not a recording" in desk.run("backtest", desk.config, code=1).stderr
    assert "nothing.gz: No such file" in desk.run("backtest", desk.folder / "nothing.gz", code=1).stderr


def test_a_version_that_never_served_is_refused_with_those_that_did(desk: Desk) -> None:
    told = desk.run(
        "backtest", "--policies", desk.policy, "--stable", "v2", "--canary", "v9", *desk.time, code=1
    )
    assert "no request of front-end-v9" in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "wanted is a FILE of `canaryd record`, or --policies, or --rollout"),
        (("{file}", "--stable", "v1", "--prometheus", "http://x:9090"), "leave out --prometheus, --stable"),
        (("--policies", "{policy}"), "missing: --stable, --canary, --from"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(
    desk: Desk, recorded: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = desk.run(
        "backtest", *(argument.format(file=recorded, policy=desk.policy) for argument in arguments), code=2
    )
    assert says in " ".join(result.stderr.split())
