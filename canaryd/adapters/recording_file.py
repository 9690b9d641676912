"""Recordings: past counts in one compressed file, from which all counts are read back exactly.

The file is gzip of JSON lines. The first line has the kind, the format, and the services and times of its
looks (`domain/recording.py`). Then comes a line for each look, with its bounds and the queries' values, also
if nothing was sampled in it, followed by a line for each replica. The last line has the number of looks, so
that a truncated file is recognized. Within a format, keys are only added.

A recording is written under a temporary name beside the file and moved into place when it is complete, so no
reader gets half a recording. Nothing here judges or asks Prometheus.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from canaryd.domain.counts import Counts, Look, Source, Target, joined
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.ports import Presence, Rejected
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Rollout
from canaryd.domain.series_values import SeriesValues, series_name
from canaryd.domain.stored_rollout import StoredRollout, restored, stored

KIND = "canaryd recording"
FORMAT = 1  # raised when a reader of the old one would misunderstand
SAYS = "what was counted of two versions of a service; canaryd backtest tries policies on it"

Values = Mapping[str, float | None]
"""The values of a policy's queries at the end of a look, by their PromQL; None: no value. Of a query that
answers several series see `domain/series_values.py`."""

# Values and odds may be infinite, which JSON does not have: infinity is written as text.
_SHAPE = ConfigDict(alias_generator=to_camel, ser_json_inf_nan="strings")


@dataclass(frozen=True, slots=True)
class _Look:
    start: int
    end: int
    bounds: tuple[float, ...] = ()
    sampled: bool = True
    values: Mapping[str, float | None] = field(default_factory=dict)
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class _Replica:
    canary: bool
    name: str
    requests: int
    failures: int
    timed: int = 0
    within: tuple[int, ...] = ()
    duration_ms: float = 0.0
    first_seen: float | None = None


# Lists with one entry, since a TypeAdapter applies its config to plain dataclasses only within another type.
_PAST = TypeAdapter(list[Past], config=_SHAPE)
_ROLLOUT = TypeAdapter(list[StoredRollout], config=_SHAPE)
_LOOK = TypeAdapter(list[_Look], config=_SHAPE)
_REPLICA = TypeAdapter(list[_Replica], config=_SHAPE)


# ---------------------------------------------------------------- writing


class Writer:
    """Writes looks into an open file, after the header. made_by: the program and its version."""

    def __init__(self, out: TextIO, past: Past, made_by: str) -> None:
        self._out = out
        self.looks = 0
        self._line(
            json.dumps(
                {"kind": KIND, "format": FORMAT, "says": SAYS, "madeBy": made_by, "past": _plain_past(past)}
            )
        )

    def write(self, look: Look, values: Values) -> None:
        """Writes one look. If a look is written twice, the last one counts when it is read."""
        replicas = [(True, *replica) for replica in look.canary.items()] + [
            (False, *replica) for replica in look.stable.items()
        ]
        head = _Look(look.start, look.end, look.bounds, look.sampled, values, len(replicas))
        self._line(_only(_LOOK.dump_json([head], by_alias=True)))
        for canary, name, counts in replicas:
            replica = _Replica(canary, name, first_seen=look.first_seen.get(name), **asdict(counts))
            self._line(_only(_REPLICA.dump_json([replica], by_alias=True)))
        self.looks += 1

    def close(self) -> None:
        """Writes the last line, with the number of looks."""
        self._line(f'{{"looks":{self.looks}}}')

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")


def _only(listed: bytes) -> str:
    """The JSON of a list's only entry."""
    return listed.decode()[1:-1]


@contextmanager
def writing(path: Path, past: Past, made_by: str, force: bool = False) -> Iterator[Writer]:
    """A context with a writer; the file is put into place if the block ends without an error, and removed
    otherwise. force: overwrites an existing file. Raises Rejected if the file exists already or its directory
    does not."""
    refuse_existing(path, force)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as raw, gzip.GzipFile(path.name, "wb", fileobj=raw, mtime=past.end) as packed:
            out = TextIOWrapper(packed, encoding="utf-8")
            writer = Writer(out, past, made_by)
            yield writer
            writer.close()
            out.flush()
            out.detach()
        refuse_existing(path, force)  # reading takes minutes: the file may have been created meanwhile
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(path: Path, force: bool) -> None:
    """Checks that a file may be written. Raises Rejected for a file that exists, unless `force` is set, for a
    directory, and for a file whose directory does not exist."""
    if path.is_dir() or not path.parent.is_dir():
        wanted = (
            "must be a file's name, but is a directory"
            if path.is_dir()
            else f"the directory {path.parent} does not exist"
        )
        raise Rejected(f"{path}: {wanted}")
    if path.exists() and not force:
        raise Rejected(f"{path} exists already: choose another name, or use --force to overwrite it")


def _plain_past(past: Past) -> Any:
    [plain] = json.loads(_PAST.dump_json([past], by_alias=True, exclude={0: {"policy", "rollout"}}))
    # With every value, as in a policy's file, so that its meaning does not change with later defaults.
    return {**plain, "rollout": _plain_rollout(past.rollout), "policy": past.policy.dump()}


def _plain_rollout(rollout: Rollout | None) -> Any:
    """The stored form of a rollout, without the policy, which is part of the past."""
    if rollout is None:
        return None
    return json.loads(_ROLLOUT.dump_json([stored(rollout)], by_alias=True, exclude={0: {"policy"}}))[0]


# ---------------------------------------------------------------- reading


class Recording:
    """A past with its looks: implements the port `Telemetry`.

    A window is answered by the look that was recorded for it, or else by the recorded looks that make it up
    exactly. Before the first look and after the last there is no telemetry, as if Prometheus had deleted it.
    """

    def __init__(self, past: Past) -> None:
        self.past = past
        self._looks: dict[tuple[int, int], Look] = {}
        self._ends: dict[
            int, list[int]
        ] = {}  # by start: the ends of the looks that begin there, longest first
        self._values: dict[tuple[str, int], float | None] = {}
        self._names: dict[str, None] = {}  # of the values, in the order in which they were first seen

    def write(self, look: Look, values: Values) -> None:
        """Adds a look, as `Writer.write`: looks from Prometheus may be kept in memory instead of in a
        file."""
        if (look.start, look.end) not in self._looks:
            self._ends[look.start] = sorted([*self._ends.get(look.start, []), look.end], reverse=True)
        self._looks[look.start, look.end] = look
        self._values |= {(promql, look.end): value for promql, value in values.items()}
        self._names |= dict.fromkeys(values)

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        """The looks (start, start + step], ... up to end, in Unix seconds. Raises Rejected for versions that
        are not recorded, and if the recorded looks do not make up a window."""
        for target in targets:
            self._check(target)
        looks = [self._look(at, at + step) for at in range(start, end - step + 1, step)]
        return dict.fromkeys(targets, looks)

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        """A query's recorded value at the end of each look (start, start + step], ... up to end; None if
        there is none. Raises Rejected for a query that is not recorded."""
        if promql not in self.past.queries:
            known = "; ".join(self.past.queries) or "none"
            raise Rejected(
                f"the recording has no values of the query {promql} (it has: {known}): record again with a "
                "policy that has this query"
            )
        return [self._values.get((promql, at)) for at in range(start + step, end + 1, step)]

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues | None]:
        """The recorded value of each series of a query at the end of each look; None where it was not
        answered. Raises Rejected for a query that is not recorded."""
        counted = self.measure(target, promql, start, end, step)
        prefix = series_name(promql, "")
        names = [name for name in self._names if name.startswith(prefix)]
        return [
            None
            if count is None
            else {
                name.removeprefix(prefix): value
                for name in names
                if (value := self._values.get((name, at))) is not None
            }
            for at, count in zip(range(start + step, end + 1, step), counted, strict=True)
        ]

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        """Returns no sources, since the senders of requests are not recorded."""
        return ()

    def presence(self, target: Target, start: int, end: int) -> Presence:
        """Returns nothing, since the reason for missing data is not recorded."""
        return Presence()

    def _check(self, target: Target) -> None:
        past = self.past
        recorded = (past.namespace, past.stable_workload, past.canary_workload, past.reporter)
        asked = (target.namespace, *target.workloads, target.reporter)
        if asked != recorded:
            raise Rejected(f"the recording is of {' '.join(recorded)}, but {' '.join(asked)} is wanted")

    def _look(self, start: int, end: int) -> Look:
        if (start, end) in self._looks:
            return self._looks[start, end]
        if start < self.past.since or end > self.past.until:
            return Look(start, end, sampled=False)
        parts = self._parts(start, end)
        if not parts:
            raise Rejected(
                f"the recording has looks of {self.past.interval} s from {self.past.since} on, but none that "
                f"make up {start} to {end}"
            )
        return joined(parts)

    def _parts(self, start: int, end: int) -> list[Look]:
        """Looks from start to end without a gap, found from the left; [] if there are none. There are few
        ways, since looks lie on at most two grids."""
        ways: list[list[Look]] = [[]]
        dead: set[int] = set()
        while ways:
            way = ways.pop()
            at = way[-1].end if way else start
            if at == end:
                return way
            if at in dead:
                continue
            dead.add(at)  # visited once: what follows from here does not depend on the way
            ways += [
                [*way, self._looks[at, until]] for until in reversed(self._ends.get(at, [])) if until <= end
            ]
        return []


def load(path: Path) -> Recording:
    """Reads a whole recording. Raises Rejected for a file that is not a recording, is damaged, was truncated,
    or has a newer format."""
    with path.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            raise Rejected(
                f"{path} is not a recording: a file of `canaryd record` was wanted, which is compressed with "
                "gzip, and this file is not"
            )
        raw.seek(0)
        return _read(path, raw)


def _read(path: Path, raw: BinaryIO) -> Recording:
    looks = 0
    try:
        with gzip.open(raw, "rt", encoding="utf-8") as lines:
            recording = Recording(_header(path, lines.readline()))
            for line in lines:
                if line.startswith('{"looks":'):
                    # up to the checksum
                    return _ended(path, json.loads(line)["looks"], looks, recording, rest=lines.read())
                head = _LOOK.validate_json(f"[{line}]")[0]
                replicas = [_REPLICA.validate_json(f"[{lines.readline()}]")[0] for _ in range(head.replicas)]
                recording.write(_look_of(head, replicas), head.values)
                looks += 1
    except EOFError as error:
        raise Rejected(
            f"{path} was cut short: it ends in mid-stream after {looks} looks; record it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise Rejected(f"{path} is damaged after {looks} looks: {error}") from error
    except ValueError as error:
        why = (
            "; ".join(problem["msg"] for problem in error.errors())
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise Rejected(
            f"{path} is damaged: look {looks + 1} was wanted, but cannot be read: {why}"
        ) from error
    raise Rejected(
        f"{path} was cut short: its last line should say how many looks there are, and it ends after "
        f"{looks}; record it again"
    )


def _header(path: Path, line: str) -> Past:
    wanted = f"the first line should be that of a {KIND}"
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("kind") != KIND:
        raise Rejected(f"{path} is not a recording: {wanted}, but begins with {line[:60]!r}")
    if head.get("format") != FORMAT:
        made_by = head.get("madeBy") or "an unknown program"
        raise Rejected(
            f"{path} is of format {head.get('format')}, written by {made_by}, and this canaryd reads format "
            f"{FORMAT}: update canaryd, or record it again"
        )
    try:
        written = dict(head["past"])
        policy = Policy.load(written.pop("policy"))
        if written.get("rollout"):
            [form] = _ROLLOUT.validate_python([{**written["rollout"], "policy": policy}])
            written["rollout"] = restored(form)
        past: Past = _PAST.validate_python([{**written, "policy": policy}])[0]
    except (KeyError, TypeError, ValidationError, InvalidPolicy) as error:
        raise Rejected(f"{path} is damaged: its header cannot be understood: {error}") from error
    return past


def _ended(path: Path, promised: object, came: int, recording: Recording, rest: str) -> Recording:
    if rest:
        raise Rejected(
            f"{path} is damaged: its last line was wanted after {came} looks, and {len(rest)} characters "
            "follow it"
        )
    if promised != came:
        raise Rejected(f"{path} is damaged: its last line says {promised} looks, but it has {came}")
    return recording


def _look_of(head: _Look, replicas: Sequence[_Replica]) -> Look:
    sides: dict[bool, dict[str, Counts]] = {True: {}, False: {}}
    for replica in replicas:
        sides[replica.canary][replica.name] = Counts(
            replica.requests, replica.failures, replica.timed, replica.within, replica.duration_ms
        )
    first_seen = {replica.name: replica.first_seen for replica in replicas if replica.first_seen is not None}
    return Look(head.start, head.end, head.bounds, sides[False], sides[True], head.sampled, first_seen)


__all__ = ["FORMAT", "KIND", "Recording", "Values", "Writer", "load", "refuse_existing", "writing"]
