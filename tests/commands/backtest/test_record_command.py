"""`canaryd record`: a file that holds what was meant, or a line that says why there is none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
import yaml

from canaryd.adapters.recording_file import load
from canaryd.commands.backtest.past_options import moment
from tests.commands.conftest import Desk
from tests.one_process import Released


def test_versions_and_time_make_a_recording_and_one_line_on_it(desk: Desk) -> None:
    result = desk.by_versions()
    assert result.stdout.startswith(f"{desk.out}: v2 and v3 of production/front-end, ")
    past = load(desk.out).past
    assert (past.stable_workload, past.canary_workload, past.interval) == ("front-end-v2", "front-end-v3", 2)
    assert past.rollout is None
    assert past.since == past.start - 720
    assert "looks of front-end-v2 and front-end-v3 in http://127.0.0.1" in result.stderr.splitlines()[0]
    assert [path.name for path in desk.folder.glob("*past*")] == ["past.gz"]


def test_a_rollout_makes_a_recording_with_its_stretches_and_its_own_policy(
    desk: Desk, released: Released
) -> None:
    result = desk.run("record", desk.out, "--rollout", released.good.name)
    assert f"with 3 stretches of {released.good.name}" in result.stdout
    past = load(desk.out).past
    assert past.rollout is not None
    assert past.rollout.spans == released.good.spans
    assert past.policy == released.live.policy


def test_deployments_with_other_names_are_named(desk: Desk) -> None:
    desk.by_versions(
        "--stable-workload",
        "front-end-v2",
        "--canary-workload",
        "front-end-v3",
        *desk.time,
        stable="old",
        canary="new",
    )
    assert (load(desk.out).past.stable, load(desk.out).past.canary_workload) == ("old", "front-end-v3")


def test_a_file_that_is_there_stays_unless_forced(desk: Desk) -> None:
    desk.out.write_text("mine")
    assert "exists already: choose another name, or use --force" in desk.by_versions(code=1).stderr
    assert desk.out.read_text() == "mine"
    desk.by_versions("--force", *desk.time)
    load(desk.out)


@pytest.mark.parametrize(
    ("canary", "more", "says"),
    [
        ("v9", (), "has no request of front-end-v9 between"),
        ("v9", (), "there were samples of front-end-v1, front-end-v2, front-end-v3"),
        (
            "v3",
            ("--from", "2001-01-01T00:00", "--to", "2001-01-01T00:10"),
            "nor of anything else in production: is it kept for so long",
        ),
        ("v3", ("--from", "10s", "--to", "1h"), "--from must be before --to, but is 20"),
        ("v3", ("--from", "1h", "--to", "2999-01-01"), "--to must not be after now (20"),
        (
            "v3",
            ("--from", "2001-01-01T00:00", "--to", "2001-01-01T00:00:01"),
            "at least one look of 2 s, but is 1 s long",
        ),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_words_and_leaves_nothing(
    desk: Desk, canary: str, more: tuple[str, ...], says: str
) -> None:
    assert says in desk.by_versions(*more, canary=canary, code=1).stderr
    assert not list(desk.folder.glob("*past*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--policies", "{policy}", "--stable", "v1"), "missing: --canary, --from"),
        ((), "wanted is --policies, or --rollout"),
        (("--rollout", "front-end", "--stable", "v1", "--from", "2h"), "leave out --stable, --from"),
        (("--rollout", "front-end", "--policies", "{policy}"), "leave out --policies"),
        (
            ("--policies", "{policy}", "--stable", "v1", "--canary", "v1", "--from", "2h"),
            "two versions, but both are v1",
        ),
        (
            ("--policies", "{policy}", "--stable", "v1", "--canary", "v2", "--from", "yesterday"),
            "or 2h (ago) was wanted, but 'yesterday' came",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(
    desk: Desk, arguments: tuple[str, ...], says: str
) -> None:
    result = desk.run(
        "record", desk.out, *(argument.format(policy=desk.policy) for argument in arguments), code=2
    )
    assert says in " ".join(result.stderr.split())


def test_an_unknown_rollout_a_broken_policy_and_a_directory_of_many_are_refused(desk: Desk) -> None:
    assert "there is no rollout nope" in desk.run("record", desk.out, "--rollout", "nope", code=1).stderr
    other = yaml.safe_load(desk.policy.read_text())
    other["service"]["name"] = "cart"
    (desk.folder / "p").mkdir()
    for name, data in (("cart", other), ("front-end", yaml.safe_load(desk.policy.read_text()))):
        (desk.folder / "p" / f"{name}.yaml").write_text(yaml.safe_dump(data))
    versions = ("--stable", "v2", "--canary", "v3", *desk.time)
    told = desk.run("record", desk.out, "--policies", desk.folder / "p", *versions, code=1).stderr
    assert "but there are production/cart, production/front-end" in told
    desk.policy.write_text("stages: 7\n")
    assert "front-end.yaml:1: stages must be a list" in desk.by_versions(code=1).stderr


def test_a_prometheus_that_is_away_is_exit_code_3_and_leaves_nothing(desk: Desk) -> None:
    desk.config.write_text("prometheus: {url: 'http://127.0.0.1:9', scrapeInterval: 1s}\n")
    assert "Prometheus at http://127.0.0.1:9 cannot be reached" in desk.by_versions(code=3).stderr
    assert not list(desk.folder.glob("*past*"))


def test_on_a_terminal_there_is_a_bar(desk: Desk) -> None:
    leader, follower = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "canaryd",
        "record",
        str(desk.out),
        "--policies",
        str(desk.policy),
        "--stable",
        "v2",
        "--canary",
        "v3",
        *desk.time,
        "--config",
        str(desk.config),
    ]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=follower, timeout=60, env=environment, check=False
    )
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 0, shown
    assert "━" in shown
    assert "\x1b" not in done.stdout.decode()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T20:15", 1795464900),
        ("2026-11-23T20:15:00Z", 1795464900),
        ("2026-11-23T21:15+01:00", 1795464900),
        ("2026-11-23", 1795392000),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, seconds: float) -> None:
    assert moment(text) == seconds
