"""Recordings: a past in one compressed file, from which everything that was counted is read back equal.

The file is gzip of JSON lines. The first says what it is, of which format, and whose looks are in it
(`domain/recording.py`). Then comes a line for each look, with its bounds and the queries' values, also when
nothing was sampled in it, followed by a line for each replica. The last line says how many looks there were,
so that a file cut short is known as such. Keys are only ever added within a format.

Writing is to a temporary name beside the file, moved into place when it is whole: no reader ever meets half a
recording. Nothing here judges, and nothing here asks Prometheus.
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
from canaryd.domain.stored_rollout import StoredRollout, restored, stored

KIND = "canaryd recording"
FORMAT = 1  # raised when a reader of the old one would misunderstand
SAYS = "what was counted of two versions of a service; canaryd backtest tries policies on it"

Values = Mapping[str, float | None]
"""Of a policy's queries, by their PromQL."""

# Values and odds may be infinite, which JSON cannot say: it travels as text.
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


# Lists of one, since a TypeAdapter takes a shape for plain dataclasses only where they are part of something.
_PAST = TypeAdapter(list[Past], config=_SHAPE)
_ROLLOUT = TypeAdapter(list[StoredRollout], config=_SHAPE)
_LOOK = TypeAdapter(list[_Look], config=_SHAPE)
_REPLICA = TypeAdapter(list[_Replica], config=_SHAPE)


# ---------------------------------------------------------------- writing


class Writer:
    """Writes looks into an open file, after the header."""

    def __init__(self, out: TextIO, past: Past, made_by: str) -> None:
        self._out = out
        self.looks = 0
        self._line(
            json.dumps(
                {"kind": KIND, "format": FORMAT, "says": SAYS, "madeBy": made_by, "past": _plain_past(past)}
            )
        )

    def write(self, look: Look, values: Values) -> None:
        """One look. A look that comes twice is read as it came last."""
        replicas = [(True, *one) for one in look.canary.items()] + [
            (False, *one) for one in look.stable.items()
        ]
        head = _Look(look.start, look.end, look.bounds, look.sampled, values, len(replicas))
        self._line(_one(_LOOK.dump_json([head], by_alias=True)))
        for canary, name, counts in replicas:
            one = _Replica(canary, name, first_seen=look.first_seen.get(name), **asdict(counts))
            self._line(_one(_REPLICA.dump_json([one], by_alias=True)))
        self.looks += 1

    def close(self) -> None:
        self._line(f'{{"looks":{self.looks}}}')

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")


def _one(listed: bytes) -> str:
    """The one object of a list in JSON."""
    return listed.decode()[1:-1]


@contextmanager
def writing(path: Path, past: Past, made_by: str, force: bool = False) -> Iterator[Writer]:
    """A writer whose file is in place once the block has ended well, and nowhere if it has not. Raises
    Rejected if there is one already."""
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
        refuse_existing(path, force)  # reading takes minutes: someone else may have been faster
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(path: Path, force: bool) -> None:
    """Raises Rejected for a file that is there and is not to be overwritten, and for a directory that is
    not."""
    if path.is_dir() or not path.parent.is_dir():
        wanted = (
            "a file's name was wanted, but it is a directory"
            if path.is_dir()
            else f"the directory {path.parent} is not there"
        )
        raise Rejected(f"{path}: {wanted}")
    if path.exists() and not force:
        raise Rejected(f"{path} is there already: choose another name, or --force to overwrite it")


def _plain_past(past: Past) -> Any:
    [plain] = json.loads(_PAST.dump_json([past], by_alias=True, exclude={0: {"policy", "rollout"}}))
    # As its file would have it, so that it means the same whatever later defaults are.
    return {**plain, "rollout": _plain_rollout(past.rollout), "policy": past.policy.dump()}


def _plain_rollout(rollout: Rollout | None) -> Any:
    """The stored form without the policy, which is the past's."""
    if rollout is None:
        return None
    return json.loads(_ROLLOUT.dump_json([stored(rollout)], by_alias=True, exclude={0: {"policy"}}))[0]


# ---------------------------------------------------------------- reading


class Recording:
    """A past with its looks: implements the port `Telemetry`.

    A window is answered by the look that was recorded for it, else by the recorded looks that make it up
    exactly. Before the first look and after the last there is no telemetry, as if it had been forgotten.
    """

    def __init__(self, past: Past) -> None:
        self.past = past
        self._looks: dict[tuple[int, int], Look] = {}
        self._ends: dict[int, list[int]] = {}  # by start: of the looks that begin there, longest first
        self._values: dict[tuple[str, int], float | None] = {}

    def write(self, look: Look, values: Values) -> None:
        """One look more, as `Writer` takes it: what is read from Prometheus may go into memory instead of
        into a file."""
        if (look.start, look.end) not in self._looks:
            self._ends[look.start] = sorted([*self._ends.get(look.start, []), look.end], reverse=True)
        self._looks[look.start, look.end] = look
        self._values |= {(promql, look.end): value for promql, value in values.items()}

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        """The looks (start, start + step], ... up to end. Raises Rejected for other versions than the
        recorded ones, and where the recorded looks do not make up a window."""
        for target in targets:
            self._check(target)
        looks = [self._look(at, at + step) for at in range(start, end - step + 1, step)]
        return dict.fromkeys(targets, looks)

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        """A query's recorded value at the end of each of those looks; None where there is none. Raises
        Rejected for an unknown query."""
        if promql not in self.past.queries:
            known = "; ".join(self.past.queries) or "none"
            raise Rejected(
                f"the recording has no values of the query {promql} (it has: {known}): record it with a "
                "policy that asks it"
            )
        return [self._values.get((promql, at)) for at in range(start + step, end + 1, step)]

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        """None: who sent the requests is not recorded."""
        return ()

    def presence(self, target: Target, start: int, end: int) -> Presence:
        """Nothing: why there was no data then is not known."""
        return Presence()

    def _check(self, target: Target) -> None:
        past = self.past
        recorded = (past.namespace, past.stable_workload, past.canary_workload, past.reporter)
        asked = (target.namespace, *target.workloads, target.reporter)
        if asked != recorded:
            raise Rejected(f"the recording is of {' '.join(recorded)}, but {' '.join(asked)} was asked for")

    def _look(self, start: int, end: int) -> Look:
        if (start, end) in self._looks:
            return self._looks[start, end]
        if start < self.past.since or end > self.past.until:
            return Look(start, end, sampled=False)
        parts = self._parts(start, end)
        if not parts:
            raise Rejected(
                f"the recording has looks of {self.past.interval} s from {self.past.since} on, and none that "
                f"make up {start} to {end}"
            )
        return joined(parts)

    def _parts(self, start: int, end: int) -> list[Look]:
        """Looks from start to end without a gap, found from the left; [] if there are none. Two grids are few
        ways."""
        ways: list[list[Look]] = [[]]
        dead: set[int] = set()
        while ways:
            way = ways.pop()
            at = way[-1].end if way else start
            if at == end:
                return way
            if at in dead:
                continue
            dead.add(at)  # reached once: what follows from there is the same whichever way came
            ways += [
                [*way, self._looks[at, until]] for until in reversed(self._ends.get(at, [])) if until <= end
            ]
        return []


def load(path: Path) -> Recording:
    """A whole recording. Raises Rejected for a file that is none, is damaged, was cut short, or is of a newer
    format."""
    with path.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            raise Rejected(
                f"{path} is no recording: a file of `canaryd record` was wanted, which is compressed with "
                "gzip, and this is not"
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
                    # to where the checksum is
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
    wanted = f"the first line should say that it is a {KIND}"
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("kind") != KIND:
        raise Rejected(f"{path} is no recording: {wanted}, but begins with {line[:60]!r}")
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


def _ended(path: Path, said: object, came: int, recording: Recording, rest: str) -> Recording:
    if rest:
        raise Rejected(
            f"{path} is damaged: its last line was wanted after {came} looks, and {len(rest)} characters "
            "follow it"
        )
    if said != came:
        raise Rejected(f"{path} is damaged: its last line says {said} looks, and {came} came")
    return recording


def _look_of(head: _Look, replicas: Sequence[_Replica]) -> Look:
    sides: dict[bool, dict[str, Counts]] = {True: {}, False: {}}
    for replica in replicas:
        sides[replica.canary][replica.name] = Counts(
            replica.requests, replica.failures, replica.timed, replica.within, replica.duration_ms
        )
    seen = {replica.name: replica.first_seen for replica in replicas if replica.first_seen is not None}
    return Look(head.start, head.end, head.bounds, sides[False], sides[True], head.sampled, seen)


__all__ = ["FORMAT", "KIND", "Recording", "Values", "Writer", "load", "refuse_existing", "writing"]
