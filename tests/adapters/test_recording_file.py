"""What is written is read back equal, and a file that cannot be used says why."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.adapters.recording_file import FORMAT, KIND, Recording, Writer, load, writing
from canaryd.domain.counts import Counts, Look, Target
from canaryd.domain.ports import Rejected
from canaryd.domain.recording import Past
from tests.builders import NOW, a_policy, a_rollout
from tests.earlier_records import without_later_keys

T = int(NOW)
QUERY = 'max(cpu{pod=~"$canary_pods"})'
PAST = Past(
    "production",
    "front-end",
    "v1",
    "v2",
    "front-end-v1",
    "front-end-v2",
    10,
    T - 20,
    T,
    T + 40,
    a_policy(),
    queries=(QUERY,),
)
TARGET = Target("production", ("front-end-v1",), ("front-end-v2",), since=0)


def a_look(at: int, **changes: object) -> Look:
    values = {
        "bounds": (5.0, 2.5e3),
        "stable": {"b": Counts(9, 1, 9, (4, 9), 0.1 + 0.2), "a": Counts(1)},
        "canary": {"c": Counts(1)},
        "first_seen": {"a": T - 100.0, "b": T - 300.0, "c": T + 1.0},
    }
    return Look(at, at + 10, **{**values, **changes})  # type: ignore[arg-type]


def written(path: Path, looks: Sequence[tuple[Look, Mapping[str, float | None]]], past: Past = PAST) -> Path:
    with writing(path, past, "canaryd test", force=True) as writer:
        for look, values in looks:
            writer.write(look, values)
    return path


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    looks = [a_look(at) for at in range(T - 20, T + 40, 10)]
    recording = load(written(tmp_path / "a.gz", [(look, {QUERY: 0.1}) for look in looks]))
    assert recording.past == PAST
    assert recording.read([TARGET], T - 20, T + 40, 10)[TARGET] == looks
    assert [*recording.read([TARGET], T, T + 10, 10)[TARGET][0].stable] == [
        "b",
        "a",
    ]  # their order too: sums of floats depend on it
    assert recording.measure(TARGET, QUERY, T, T + 20, 10) == [0.1, 0.1]


COUNTS = st.builds(
    Counts,
    st.integers(0, 10**12),
    st.integers(0, 10**6),
    st.integers(0, 10**12),
    st.just((1, 2)),
    st.floats(0, 1e300),
)
REPLICAS = st.dictionaries(st.text(min_size=1, max_size=8), COUNTS, max_size=3)


@given(
    stable=REPLICAS,
    canary=REPLICAS,
    sampled=st.booleans(),
    bounds=st.just((0.5, math.pi)),
    value=st.one_of(st.none(), st.floats(allow_nan=False)),
)
def test_any_look_survives(
    tmp_path_factory: pytest.TempPathFactory,
    stable: dict[str, Counts],
    canary: dict[str, Counts],
    sampled: bool,
    bounds: tuple[float, ...],
    value: float | None,
) -> None:
    look = Look(T, T + 10, bounds, stable, canary, sampled, dict.fromkeys([*stable, *canary], 0.25))
    recording = load(written(tmp_path_factory.mktemp("any") / "a.gz", [(look, {QUERY: value})]))
    assert recording.read([TARGET], T, T + 10, 10)[TARGET] == [look]
    assert recording.measure(TARGET, QUERY, T, T + 10, 10) == [value]


def test_a_look_without_samples_and_one_without_replicas_are_told_apart(tmp_path: Path) -> None:
    looks = [
        Look(T, T + 10, (5.0,), sampled=False),
        Look(T + 10, T + 20, (5.0,), {"a": Counts()}, {}, True, {"a": 1.0}),
        Look(T + 20, T + 30, (5.0,)),
    ]
    recording = load(written(tmp_path / "a.gz", [(look, {}) for look in looks]))
    assert recording.read([TARGET], T, T + 30, 10)[TARGET] == looks
    assert recording.measure(TARGET, QUERY, T, T + 10, 10) == [None]


def test_a_rollout_with_its_decisions_is_read_back_equal(tmp_path: Path) -> None:
    past = replace(PAST, rollout=a_rollout(origin={}))
    assert load(written(tmp_path / "a.gz", [(a_look(T), {})], past)).past == past


def test_a_rollout_recorded_by_an_earlier_release_is_written_back_as_it_was(tmp_path: Path) -> None:
    before = json.loads((Path(__file__).parent / "records" / "recorded_rollout.json").read_text("utf-8"))
    with gzip.open(tmp_path / "before.gz", "wt", encoding="utf-8") as out:
        header = {"kind": KIND, "format": FORMAT, "past": before}
        out.write(f"{json.dumps(header)}\n{json.dumps({'looks': 0})}\n")
    again = written(tmp_path / "again.gz", [], load(tmp_path / "before.gz").past)
    with gzip.open(again, "rt", encoding="utf-8") as lines:
        past = json.loads(next(lines))["past"]
        assert json.dumps(without_later_keys(past, before)) == json.dumps(before)


def test_longer_windows_are_made_up_of_the_recorded_looks(tmp_path: Path) -> None:
    recording = load(written(tmp_path / "a.gz", [(a_look(at), {}) for at in range(T, T + 40, 10)]))
    looks = recording.read([TARGET], T, T + 40, 20)[TARGET]
    assert [(look.start, look.end, look.stable["b"].requests) for look in looks] == [
        (T, T + 20, 18),
        (T + 20, T + 40, 18),
    ]


def test_a_window_is_made_up_of_looks_of_either_grid() -> None:
    recording = Recording(PAST)
    for start, end in ((T, T + 10), (T + 10, T + 20), (T + 3, T + 13), (T + 13, T + 23), (T - 4, T + 3)):
        recording.write(Look(start, end), {})
    assert recording.read([TARGET], T - 4, T + 23, 27)[TARGET] == [Look(T - 4, T + 23)]
    with pytest.raises(Rejected, match=f"none that make up {T + 3} to {T + 20}"):
        recording.read([TARGET], T + 3, T + 20, 17)


def test_before_and_after_the_recording_there_is_no_telemetry() -> None:
    recording = Recording(PAST)
    assert recording.read([TARGET], T - 100, T - 90, 10)[TARGET] == [Look(T - 100, T - 90, sampled=False)]
    assert recording.read([TARGET], T + 40, T + 50, 10)[TARGET] == [Look(T + 40, T + 50, sampled=False)]


def test_other_versions_and_unknown_queries_are_refused() -> None:
    recording = Recording(PAST)
    with pytest.raises(Rejected, match="front-end-v9 destination is wanted"):
        recording.read([replace(TARGET, canary=("front-end-v9",))], T, T + 10, 10)
    with pytest.raises(Rejected, match=r"has no values of the query up \(it has: max"):
        recording.measure(TARGET, "up", T, T + 10, 10)


# ---------------------------------------------------------------- files that cannot be used


def refusal(path: Path) -> str:
    with pytest.raises(Rejected) as refused:
        load(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("stages: []\n")
    assert "is not a recording: a file of `canaryd record` was wanted" in refusal(tmp_path / "a")
    (tmp_path / "b").write_bytes(gzip.compress(b'{"kind": "something else"}\n'))
    assert 'begins with \'{"kind": "something else"}' in refusal(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"")
    assert "is not a recording" in refusal(tmp_path / "c")
    (tmp_path / "d").write_bytes(gzip.compress(b"\xff\xfe\x00"))
    assert "damaged" in refusal(tmp_path / "d")


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.gz", [(a_look(at), {}) for at in range(T, T + 40, 10)]).read_bytes()
    cut = tmp_path / "cut.gz"
    for size in range(2, len(whole), 37):
        cut.write_bytes(whole[:size])
        assert (
            "cut short" in refusal(cut) or "damaged" in refusal(cut) or "is not a recording" in refusal(cut)
        )
    lines = gzip.decompress(whole).splitlines(keepends=True)
    cut.write_bytes(gzip.compress(b"".join(lines[:-1])))
    assert "its last line should say how many looks there are, and it ends after 4" in refusal(cut)
    cut.write_bytes(gzip.compress(b"".join([*lines[:5], lines[-1]])))
    assert "its last line says 4 looks, but it has 1" in refusal(cut)


def test_a_damaged_line_is_refused_with_the_look_it_belongs_to(tmp_path: Path) -> None:
    lines = gzip.decompress(
        written(tmp_path / "a.gz", [(a_look(T), {}), (a_look(T + 10), {})]).read_bytes()
    ).splitlines(keepends=True)
    lines[5] = b'{"start": "soon"}\n'
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"".join(lines)))
    assert "look 2 was wanted, but cannot be read" in refusal(tmp_path / "b.gz")


def test_a_newer_format_is_refused_with_who_wrote_it(tmp_path: Path) -> None:
    head = {"kind": "canaryd recording", "format": FORMAT + 1, "madeBy": "canaryd 9.0"}
    (tmp_path / "a.gz").write_bytes(gzip.compress(json.dumps(head).encode()))
    assert (
        f"of format {FORMAT + 1}, written by canaryd 9.0, and this canaryd reads format {FORMAT}"
        in refusal(tmp_path / "a.gz")
    )


def test_a_header_that_cannot_be_understood_is_refused(tmp_path: Path) -> None:
    head = {"kind": "canaryd recording", "format": FORMAT, "past": {"policy": {}}}
    (tmp_path / "a.gz").write_bytes(gzip.compress(json.dumps(head).encode()))
    assert "its header cannot be understood" in refusal(tmp_path / "a.gz")


# ---------------------------------------------------------------- writing


def test_a_file_that_is_there_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gz", [(a_look(T), {})])
    before = path.read_bytes()
    with pytest.raises(Rejected, match="exists already"), writing(path, PAST, "canaryd test"):
        pass
    assert path.read_bytes() == before
    written(path, [])
    assert path.read_bytes() != before


def test_a_writing_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing(writer: Writer) -> None:
        writer.write(a_look(T), {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), writing(tmp_path / "a.gz", PAST, "canaryd test") as writer:
        failing(writer)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_there_until_it_is_whole(tmp_path: Path) -> None:
    with writing(tmp_path / "a.gz", PAST, "canaryd test") as writer:
        writer.write(a_look(T), {})
        assert not (tmp_path / "a.gz").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


def test_a_directory_is_no_file_s_name(tmp_path: Path) -> None:
    with (
        pytest.raises(Rejected, match="must be a file's name, but is a directory"),
        writing(tmp_path, PAST, "canaryd test"),
    ):
        pass
    with (
        pytest.raises(Rejected, match="does not exist"),
        writing(tmp_path / "no" / "a.gz", PAST, "canaryd test"),
    ):
        pass
