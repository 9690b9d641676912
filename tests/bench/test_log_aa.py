"""A log of counts is read exactly, split into two parts of one version, and whoever rolls back is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bench import log_aa
from bench.log_aa import by_looks, by_replicas, ours, releases, table, theirs
from bench.logged_looks import BadLog, looks_of, read_looks, rows
from bench.rules import ROLLED_BACK
from canaryd.domain.counts import Counts, Look, total
from canaryd.simulation.simulated_service import Scenario, SimulatedService

CALM = Scenario(requests=100.0, errors=0.01, interval=15)


def simulated(world: Scenario = CALM, looks: int = 120, seed: int = 1) -> list[Look]:
    return SimulatedService(world, np.random.default_rng(seed)).history(looks)


def as_csv(looks: list[Look], version: str = "") -> str:
    bounds = looks[0].bounds
    lines = [f"time,replica,requests,failures,version,duration_ms,{','.join(f'le_{b:g}' for b in bounds)}"]
    lines += [
        f"{look.end},{name},{one.requests},{one.failures},{version},{one.duration_ms!r},"
        f"{','.join(map(str, one.within))}"
        for look in looks
        for name, one in look.stable.items()
    ]
    return "\n".join(lines) + "\n"


def as_json_lines(looks: list[Look]) -> str:
    return "\n".join(
        json.dumps(
            {
                "time": look.end,
                "replica": name,
                "requests": one.requests,
                "failures": one.failures,
                "duration_ms": one.duration_ms,
                "within": {f"{b:g}": count for b, count in zip(look.bounds, one.within, strict=True)},
            }
        )
        for look in looks
        for name, one in look.stable.items()
    )


# ---------------------------------------------------------------- reading


def test_csv_json_lines_and_their_gzip_are_read_back_exactly(tmp_path: Path) -> None:
    looks = simulated(looks=5)
    files = {"log.csv": as_csv(looks).encode(), "log.jsonl": as_json_lines(looks).encode()}
    files["log.csv.gz"] = gzip.compress(files["log.csv"])
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert read_looks(tmp_path / name) == looks


def test_a_log_without_latency_and_version_is_enough_and_a_gap_is_a_look_without_data() -> None:
    text = ["time,replica,requests,failures", "100,a,7,1", "110,a,8,0", "130,a,9,2"]
    found = looks_of(list(rows(text)))
    assert [(look.start, look.end, look.sampled) for look in found] == [
        (90, 100, True),
        (100, 110, True),
        (110, 120, False),
        (120, 130, True),
    ]
    assert found[3].stable == {"a": Counts(9, 2)}


def test_of_several_versions_the_busiest_is_taken_or_the_one_that_is_named() -> None:
    text = ["time,replica,requests,failures,version"]
    text += [f"{at},{v}-0,{n},0,{v}" for at in (10, 20) for v, n in (("v1", 90), ("v2", 10))]
    found = list(rows(text))
    assert list(looks_of(found)[0].stable) == ["v1-0"]
    assert list(looks_of(found, "v2")[0].stable) == ["v2-0"]
    with pytest.raises(BadLog, match="no rows of the version 'v3', but of: v1, v2"):
        looks_of(found, "v3")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "the log is empty"),
        (["time,replica,requests", "1,a,3"], "line 2: failures is missing"),
        (["time,replica,requests,failures", "1,a,3"], "line 2: wanted 4 cells as in the head, but has 3"),
        (["time,replica,requests,failures", "1,a,x,0"], "line 2: requests must be a whole number"),
        (["time,replica,requests,failures", "1,a,3,4"], "failures must be at most requests \\(3\\)"),
        (["time,replica,requests,failures,le_5,le_9", "1,a,3,0,2,1"], "the counts of the bounds must rise"),
        (["time,replica,requests,failures,le_x", "1,a,3,0,2"], "line 2: bounds and duration_ms must be"),
        (['{"time": 1'], "line 1: wanted a JSON object"),
        (['{"time": 1, "within": 3}'], "line 1: wanted a JSON object, and one as `within`"),
        (["time,replica,requests,failures", "10,a,3,0"], "at least two times"),
        (["time,replica,requests,failures", "10,a,3,0", "20,a,3,0", "25,a,1,0", "32,a,1,0"], "evenly spaced"),
        (["time,replica,requests,failures", "10,a,3,0", "20,a,3,0", "20,a,1,0"], "a has two rows at 20"),
    ],
)
def test_what_is_wrong_with_a_log_is_told_with_its_line(lines: list[str], words: str) -> None:
    with pytest.raises(BadLog, match=words):
        looks_of(list(rows(lines)))


# ---------------------------------------------------------------- splitting


def test_half_of_the_replicas_is_the_canary_and_nothing_is_lost() -> None:
    looks = simulated(looks=10)
    split = by_replicas(looks, np.random.default_rng(2))
    assert [{**look.stable, **look.canary} for look in split] == [dict(look.stable) for look in looks]
    assert {len(look.canary) for look in split} == {1}
    drawn = {next(iter(by_replicas(looks, np.random.default_rng(seed))[0].canary)) for seed in range(20)}
    assert len(drawn) == 3
    with pytest.raises(BadLog, match="--by looks"):
        by_replicas(simulated(Scenario(replicas=1), 10), np.random.default_rng(2))


def test_of_two_neighbouring_looks_one_is_the_canary_s() -> None:
    looks = simulated(looks=11)
    split = by_looks(looks, np.random.default_rng(2))
    assert len(split) == 5
    assert [(look.start, look.seconds) for look in split] == [(looks[0].start + 15 * i, 15) for i in range(5)]
    for pair, look in enumerate(split):
        arms = [total(look.stable.values()), total(look.canary.values())]
        both = [total(one.stable.values()) for one in looks[2 * pair : 2 * pair + 2]]
        assert arms in (both, both[::-1])
        assert not look.stable.keys() & look.canary.keys()


def test_releases_are_the_same_for_a_seed_and_have_their_past_before_them() -> None:
    looks = simulated(looks=100)
    found = list(releases(looks, "replicas", 5, 3))
    assert found == list(releases(looks, "replicas", 5, 3))
    assert found != list(releases(looks, "replicas", 5, 4))
    for release in found:
        assert len(release.past) == 50
        assert release.past[-1].end == release.looks[0].start
        assert release.weight == pytest.approx(33, abs=2)
    with pytest.raises(BadLog, match="at least 40 looks are needed, but there are 39"):
        list(releases(looks[:39], "replicas", 1, 1))


# ---------------------------------------------------------------- judging


def test_a_healthy_log_is_rolled_back_by_a_threshold_below_its_errors_and_not_by_canaryd() -> None:
    [release] = releases(simulated(Scenario(requests=100.0, errors=0.05, interval=15)), "replicas", 1, 1)
    assert ours(release) is None
    assert theirs(release, "success-rate threshold") == ROLLED_BACK


def test_a_part_that_is_worse_all_the_same_is_rolled_back_by_canaryd() -> None:
    """As a check that something would be: what was split off fails each request."""
    [release] = releases(simulated(), "replicas", 1, 1)
    for look in release.looks:
        for name, one in look.canary.items():
            look.canary[name] = Counts(one.requests, one.requests, one.timed, one.within, one.duration_ms)  # type: ignore[index]
    assert ours(release) == ROLLED_BACK


def test_the_table_counts_each_judge_s_rollbacks() -> None:
    found = list(releases(simulated(Scenario(requests=100.0, errors=0.05, interval=15), 80), "looks", 3, 1))
    lines = {row[0]: row[1:] for row in table(found, "log.csv").rows}
    assert lines["success-rate threshold"] == ("3", "3 (29.2% to 100.0%)", "0", "0")
    assert lines["canaryd"] == ("3", "0 (0.0% to 70.8%)", "0", "3")


def test_the_command_prints_what_the_log_has_and_refuses_a_bad_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(as_csv(simulated(looks=60)))
    assert log_aa.main([str(path), "--runs", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("60 looks of 15 s, 3 replicas, ")
    assert "split by replicas, each release 30 looks after a past of 30" in out
    assert "canaryd" in out
    path.write_text("time,replica\n")
    assert log_aa.main([str(path)]) == 2
    assert "log.csv" in capsys.readouterr().err
