"""Looks of one version from a log of counts per replica: CSV, JSON lines, or a recording of `canaryd record`.

A row is what one replica served in one interval:

    time         Unix seconds at which the interval ended; the same for all replicas, evenly spaced
    replica      its name
    requests     whole number, at least 0
    failures     how many of them failed
    version      optional: of several versions one is taken
    le_50 ...    optional, CSV: how many took at most 50 ms; all rows have the same bounds
    within       optional, JSON lines: the same as {"50": 812, "100": 900}
    duration_ms  optional: the sum of their durations

A time that no row has is a look without data.
"""

import csv
import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from canaryd.adapters.recording_file import KIND, load
from canaryd.domain.counts import Counts, Look, Target, total

GZIP = b"\x1f\x8b"
BOUND = "le_"


class BadLog(Exception):
    """A log that cannot be used: which line, what was wanted, what came."""


@dataclass(frozen=True)
class Row:
    """One row of the log. within: bound in ms, as text, to how many took at most that long."""

    line: int
    time: int
    replica: str
    requests: int
    failures: int
    version: str
    within: Mapping[str, int]
    duration_ms: float


def read_looks(path: Path, version: str | None = None) -> list[Look]:
    """The looks of one version, each as stable's, in order and without a gap. version: None for the one with
    most requests. Raises BadLog, and Rejected for a recording that is damaged."""
    raw = path.read_bytes()
    if not raw.startswith(GZIP):
        return looks_of(list(rows(raw.decode().splitlines())), version)
    try:
        lines = gzip.decompress(raw).decode().splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise BadLog(f"wanted a whole gzip file, but {error}") from error
    if lines and KIND in lines[0]:
        return _recorded(path, version)
    return looks_of(list(rows(lines)), version)


def rows(lines: Iterable[str]) -> Iterator[Row]:
    """JSON lines, if the first one begins with a brace; else CSV with a head. Raises BadLog."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise BadLog("the log is empty: wanted CSV with a head, or JSON lines")
    if first[1].lstrip().startswith("{"):
        yield from (_json_row(number, line) for number, line in [first, *numbered])
        return
    head = [name.strip() for name in next(csv.reader([first[1]]))]
    for number, line in numbered:
        cells = next(csv.reader([line]))
        if len(cells) != len(head):
            raise BadLog(f"line {number}: wanted {len(head)} cells as in the head, but has {len(cells)}")
        given = dict(zip(head, (cell.strip() for cell in cells), strict=True))
        bounds = {name.removeprefix(BOUND): value for name, value in given.items() if name.startswith(BOUND)}
        yield _row(number, given, bounds)


def _json_row(number: int, line: str) -> Row:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise BadLog(
            f"line {number}: wanted a JSON object, but is {line.strip()[:60]!r} ({error})"
        ) from error
    if not isinstance(given, dict) or not isinstance(given.get("within", {}), dict):
        raise BadLog(
            f"line {number}: wanted a JSON object, and one as `within`, but is {line.strip()[:60]!r}"
        )
    return _row(number, given, given.get("within", {}))


def _row(number: int, given: Mapping[str, Any], within: Mapping[str, Any]) -> Row:
    def whole(name: str, value: Any) -> int:
        try:
            exact = float(value)
        except (TypeError, ValueError):
            exact = -1.0
        if not exact.is_integer() or exact < 0:
            raise BadLog(f"line {number}: {name} must be a whole number of at least 0, but is {value!r}")
        return int(exact)

    for name in ("time", "replica", "requests", "failures"):
        if given.get(name) in (None, ""):
            raise BadLog(f"line {number}: {name} is missing, wanted time, replica, requests and failures")
    requests, failures = (whole(name, given[name]) for name in ("requests", "failures"))
    if failures > requests:
        raise BadLog(f"line {number}: failures must be at most requests ({requests}), but are {failures}")
    try:
        bounds = sorted(within, key=float)
        duration = float(given.get("duration_ms") or 0)
    except ValueError as error:
        raise BadLog(f"line {number}: bounds and duration_ms must be numbers, but {error}") from error
    counts = [whole(f"{BOUND}{bound}", within[bound]) for bound in bounds]
    if any(before > after for before, after in pairwise([*counts, requests])) or not isfinite(duration):
        raise BadLog(
            f"line {number}: the counts of the bounds must rise, up to at most requests ({requests}), but "
            f"are {', '.join(map(str, counts))}"
        )
    return Row(
        number,
        whole("time", given["time"]),
        str(given["replica"]),
        requests,
        failures,
        str(given.get("version") or ""),
        dict(zip(bounds, counts, strict=True)),
        duration,
    )


def looks_of(found: list[Row], version: str | None = None) -> list[Look]:
    """The looks of one version's rows. Raises BadLog."""
    served: dict[str, int] = defaultdict(int)
    for row in found:
        served[row.version] += row.requests
    wanted = version if version is not None else max(served, key=lambda name: served[name], default="")
    mine = [row for row in found if row.version == wanted]
    if not mine:
        there = ", ".join(sorted(served)) or "none"
        raise BadLog(f"the log has no rows of the version {wanted!r}, but of: {there}")
    times = sorted({row.time for row in mine})
    interval = min((after - before for before, after in pairwise(times)), default=0)
    if interval <= 0:
        raise BadLog("the log must have at least two times, to tell how long an interval is, but has one")
    bounds = mine[0].within.keys()
    by_time: dict[int, dict[str, Counts]] = defaultdict(dict)
    for row in mine:
        if (row.time - times[0]) % interval:
            raise BadLog(
                f"line {row.line}: times must be evenly spaced, {interval} s from {times[0]} on, but is "
                f"{row.time}"
            )
        if row.within.keys() != bounds:
            raise BadLog(
                f"line {row.line}: all rows must have the same bounds ({', '.join(bounds) or 'none'}), but "
                f"has {', '.join(row.within) or 'none'}"
            )
        if row.replica in by_time[row.time]:
            raise BadLog(f"line {row.line}: {row.replica} has two rows at {row.time}, wanted one")
        timed = row.requests if bounds else 0
        by_time[row.time][row.replica] = Counts(
            row.requests, row.failures, timed, tuple(row.within.values()), row.duration_ms
        )
    in_ms = tuple(map(float, bounds))
    return [
        Look(time - interval, time, in_ms, by_time[time], sampled=True)
        if time in by_time
        else Look(time - interval, time, in_ms, sampled=False)
        for time in range(times[0], times[-1] + 1, interval)
    ]


def _recorded(path: Path, version: str | None) -> list[Look]:
    """By default stable's, from its first look with data on."""
    recording = load(path)
    past = recording.past
    if version not in (None, past.stable, past.canary):
        raise BadLog(f"{path} has no version {version!r}, but {past.stable} and {past.canary}")
    target = Target(
        past.namespace, (past.stable_workload,), (past.canary_workload,), past.since, past.reporter
    )
    end = past.since + (past.end - past.since) // past.interval * past.interval
    looks = recording.read([target], past.since, end, past.interval)[target]
    mine = [
        Look(
            look.start,
            look.end,
            look.bounds,
            look.canary if version == past.canary else look.stable,
            sampled=look.sampled,
        )
        for look in looks
    ]
    served = [place for place, look in enumerate(mine) if total(look.stable.values()).requests]
    if not served:
        raise BadLog(f"{path} has no requests of the version {version or past.stable}")
    return mine[served[0] : served[-1] + 1]
