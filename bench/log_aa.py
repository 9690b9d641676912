"""Healthy releases out of a real log: how many are rolled back, by canaryd and by the rules of today.

    python -m bench.log_aa FILE [--version V] [--by replicas|looks] [--runs 100] [--seed 1]

Nothing was released in the log, or what was is left out (--version). So each run takes a stretch of it, and
at random calls a part of the one version "canary": half of its replicas, or one of each two neighbouring
looks. Both parts are one version, and whoever rolls back is wrong. The stretch before is stable's past. The
format of the log is in `bench/logged_looks.py`, and in docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.logged_looks import BadLog, read_looks
from bench.rollouts import KEPT
from bench.rules import PROMOTED, ROLLED_BACK, RULES
from bench.tables import Table, how_many
from canaryd.domain.counts import HISTORY_LOOKS, Counts, Look, joined, total
from canaryd.domain.lifecycle import Detail, Signal, advance, stage_signal
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected
from canaryd.judge.judge import Judge
from canaryd.simulation.monte_carlo_error import exact_interval
from canaryd.simulation.simulated_rollout import a_rollout

RUNS, LONGEST = 100, 360  # runs; looks of one
FEWEST = 20  # looks of a past, and of a release
MINUTE = 60  # s: how often the rules of today look
OURS = "canaryd"
BY = ("replicas", "looks")


@dataclass(frozen=True)
class Release:
    """A healthy release out of the log. past: stable's looks before; looks: of both parts; weight: the
    canary's share of the requests, in per cent."""

    past: Sequence[Look]
    looks: Sequence[Look]
    weight: int


def releases(looks: Sequence[Look], by: str, runs: int, seed: int) -> Iterator[Release]:
    """Seeded. A past is at most half of the log and HISTORY_LOOKS, a release at most LONGEST looks. Raises
    BadLog where there are too few looks, or replicas."""
    before = min(HISTORY_LOOKS, len(looks) // 2)
    if before < FEWEST:
        raise BadLog(f"at least {2 * FEWEST} looks are needed, but there are {len(looks)}")
    long = min(LONGEST, len(looks) - before)
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        start = int(rng.integers(before, len(looks) - long + 1))
        stretch = looks[start : start + long]
        split = by_replicas(stretch, rng) if by == "replicas" else by_looks(stretch, rng)
        served = [
            sum(total(arm.values()).requests for arm in arms)
            for arms in ([look.stable for look in split], [look.canary for look in split])
        ]
        weight = round(100 * served[1] / max(sum(served), 1))
        yield Release(looks[start - before : start], split, min(max(weight, 1), 99))


def replicas_of(looks: Sequence[Look]) -> list[str]:
    """Those that serve."""
    return sorted({name for look in looks for name, counts in look.stable.items() if counts.requests})


def by_replicas(looks: Sequence[Look], rng: np.random.Generator) -> list[Look]:
    """A random half of the replicas is the canary. Raises BadLog where there is one."""
    names = replicas_of(looks)
    if len(names) < 2:
        raise BadLog(f"to split replicas at least 2 are needed, but there are {len(names)}: --by looks")
    drawn = set(rng.permutation(names)[: len(names) // 2].tolist())
    return [
        replace(
            look,
            stable={name: counts for name, counts in look.stable.items() if name not in drawn},
            canary={name: counts for name, counts in look.stable.items() if name in drawn},
        )
        for look in looks
    ]


def by_looks(looks: Sequence[Look], rng: np.random.Generator) -> list[Look]:
    """Of each two neighbouring looks a random one is the canary's: half as many looks, each as long as one,
    on end from the first one's start."""
    found = []
    for number, (first, second) in enumerate(zip(looks[::2], looks[1::2], strict=False)):
        stable, canary = (first, second) if rng.random() < 0.5 else (second, first)
        start = looks[0].start + number * first.seconds
        found.append(
            Look(
                start,
                start + first.seconds,
                first.bounds,
                stable.stable,
                {f"canary {name}": counts for name, counts in canary.stable.items()},
                sampled=first.sampled and second.sampled,
            )
        )
    return found


@cache
def _policy(weight: int, interval: int, has_latency: bool) -> Policy:
    """The default policy, kept at this weight."""
    stages = [{"weight": weight, "minimum": KEPT, "deadline": KEPT}, {"weight": 100}]
    metrics: list[dict[str, Any]] = [{"errors": {}}, *([{"latency": {}}] if has_latency else [])]
    return Policy.load(
        {
            "service": {"name": "log", "namespace": "log", "selector": {"app": "log"}},
            "route": {"virtualService": "log"},
            "stages": stages,
            "analysis": {
                "interval": f"{interval}s",
                "noDataFor": f"{max(60, 4 * interval)}s",
                "metrics": metrics,
            },
        }
    )


def ours(release: Release) -> str | None:
    """ROLLED_BACK, or None: it would still be watched."""
    first = release.looks[0]
    policy = _policy(release.weight, first.seconds, bool(first.bounds))
    # The split is the log's own and no route's, so that it need not follow a weight.
    judge = Judge(policy, release.past, by_weight=False)
    rollout = advance(a_rollout(policy, first.start), Signal.AVAILABLE, float(first.start))
    rollout = advance(rollout, Signal.ROUTED, float(first.start), Detail(start=first.start))
    assert rollout.span is not None
    judge.open(rollout.span)
    for look in release.looks:
        assessment = judge.observe(look)
        if stage_signal(rollout, assessment, float(assessment.at)) is Signal.HARM:
            return ROLLED_BACK
    return None


def theirs(release: Release, name: str) -> str | None:
    """ROLLED_BACK, PROMOTED, or None: it would still be watched. Its own weights change nothing in a log."""
    rule = RULES[name]()
    interval = release.looks[0].seconds
    together = max(1, MINUTE // interval)
    for first in range(0, len(release.looks) - together + 1, together):
        minute = joined(release.looks[first : first + together])
        end = rule.minute(_all(minute.stable), _all(minute.canary), minute.bounds)
        if end is not None:
            return end
    return None


def _all(replicas: Any) -> Counts:
    return total(replicas.values())


def table(found: Sequence[Release], path: str) -> Table:
    """What became of these releases, by each judge."""
    rows = []
    for name in (OURS, *RULES):
        ends = [ours(release) if name == OURS else theirs(release, name) for release in found]
        back = ends.count(ROLLED_BACK)
        low, high = exact_interval(back, len(ends))
        rows.append(
            (
                name,
                f"{len(ends):,}",
                how_many(back, {"low": low, "high": high}),
                f"{ends.count(PROMOTED):,}",
                f"{ends.count(None):,}",
            )
        )
    return Table(
        f"Healthy releases out of {path}",
        ("judged by", "releases", "rolled back (exact 95% interval)", "promoted", "watched to the end"),
        rows,
        (
            "canaryd is kept at one weight, so that it promotes nothing. Releases overlap where the log is "
            "short: the interval is then of this log alone, and too narrow.",
        ),
    )


def main(arguments: list[str]) -> int:
    """0, or 2 for a log that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.log_aa", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("path", metavar="FILE", type=Path, help="CSV, JSON lines, or a canaryd recording")
    parser.add_argument("--version", help="the version that is taken; default: the one with most requests")
    parser.add_argument("--by", choices=BY, help="what is split; default: replicas where there are two")
    parser.add_argument("--runs", type=int, default=RUNS, help="releases")
    parser.add_argument("--seed", type=int, default=1, help="of all chance")
    given = parser.parse_args(arguments)
    try:
        looks = read_looks(given.path, given.version)
        by = given.by or ("replicas" if len(replicas_of(looks)) > 1 else "looks")
        found = list(releases(looks, by, given.runs, given.seed))
    except (BadLog, Rejected, OSError) as error:
        print(f"{given.path}: {error}", file=sys.stderr)
        return 2
    all_counts = total(counts for look in looks for counts in look.stable.values())
    print(
        f"{len(looks):,} looks of {looks[0].seconds} s, {len(replicas_of(looks))} replicas, "
        f"{all_counts.requests:,} requests, {all_counts.failures:,} of them failed; split by {by}, each "
        f"release {len(found[0].looks)} looks after a past of {len(found[0].past)}"
    )
    print(table(found, given.path.name).text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
