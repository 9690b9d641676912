"""Looks for the judge: exact ones by counts, and seeded ones of a simple service."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from canaryd.domain.counts import Counts, Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.verdict import Verdict
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import SplitStageJudge
from canaryd.report.findings import verdict_from
from tests.builders import a_policy

START = 1_700_000_000
BOUNDS = (25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


def a_ladder(*metrics: dict[str, Any], **analysis: Any) -> Policy:
    """The builders' policy with a minimum of 2 min; metrics: in the YAML's words, the default ones if none is
    given."""
    stages = [{"weight": weight, "minimum": "2m", "deadline": "15m"} for weight in (10, 25, 50, 100)]
    chosen = {"metrics": list(metrics)} if metrics else {}
    return a_policy(stages=stages, analysis={"interval": "10s", **chosen, **analysis})


def some_counts(
    requests: int,
    failures: int = 0,
    slow: int = 0,
    slow_ms: float = 200.0,
    usual_ms: float = 40.0,
    timed: bool = True,
) -> Counts:
    """slow of the requests take slow_ms, the others usual_ms."""
    if not timed:
        return Counts(requests, failures)
    within = tuple((requests - slow) * (usual_ms <= bound) + slow * (slow_ms <= bound) for bound in BOUNDS)
    return Counts(requests, failures, requests, within, (requests - slow) * usual_ms + slow * slow_ms)


def a_look(number: int, stable: dict[str, Counts], canary: dict[str, Counts], **changes: Any) -> Look:
    start = START + 10 * number
    return Look(
        **{"start": start, "end": start + 10, "bounds": BOUNDS, "stable": stable, "canary": canary, **changes}
    )


def without_histogram(look: Look) -> Look:
    """As a mesh that has no latency histogram counts it."""
    stable, canary = (
        {name: Counts(one.requests, one.failures) for name, one in side.items()}
        for side in (look.stable, look.canary)
    )
    return replace(look, bounds=(), stable=stable, canary=canary)


def with_newborn_canary(look: Look) -> Look:
    """No replica of the canary is older than 50 s, as where each is soon replaced by another."""
    born = look.start - (look.start - START) % 50
    canary = {f"{name}-{born}": one for name, one in look.canary.items()}
    return replace(look, canary=canary, first_seen=dict.fromkeys(canary, float(born)))


class Sampled:
    """A seeded service: `requests` a second; failures alone; lognormal latency of median 60 ms. factors: the
    canary's over stable's.

    only: the one canary replica that has the factors; None: all.
    """

    def __init__(
        self,
        seed: int,
        errors: float = 0.005,
        more_errors: float = 1.0,
        slower: float = 1.0,
        requests: float = 50.0,
        replicas: int = 3,
        only: int | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.number = 0
        self.errors, self.more_errors, self.slower = errors, more_errors, slower
        self.requests, self.replicas, self.only = requests, replicas, only

    @property
    def now(self) -> int:
        return START + 10 * self.number

    def look(self, weight: float, **changes: Any) -> Look:
        served = self.requests * 10
        stable = {
            f"s{i}": self._counts(served * (1 - weight / 100) / self.replicas, 1.0, 1.0)
            for i in range(self.replicas)
        }
        canary = {}
        for i in range(self.replicas if weight else 0):
            sick = self.only is None or self.only == i
            factors = (self.more_errors, self.slower) if sick else (1.0, 1.0)
            canary[f"c{i}"] = self._counts(served * weight / 100 / self.replicas, *factors)
        self.number += 1
        return a_look(self.number - 1, stable if weight < 100 else {}, canary, **changes)

    def _counts(self, expected: float, more_errors: float, slower: float) -> Counts:
        requests = int(self.rng.poisson(expected))
        survival = ndtr(np.log(60.0 * slower / np.array(BOUNDS)) / 0.6)
        shares = -np.diff(np.concatenate(([1.0], survival, [0.0])))
        within = np.cumsum(self.rng.multinomial(requests, shares)[:-1])
        failures = int(self.rng.binomial(requests, self.errors * more_errors))
        return Counts(requests, failures, requests, tuple(within.tolist()), requests * 60.0 * slower * 1.2)

    def history(self, looks: int = 120) -> list[Look]:
        return [self.look(0) for _ in range(looks)]


def verdict_after(
    judge: Judge | SplitStageJudge, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True
) -> Verdict:
    """The verdict after one look more, in sentences."""
    return verdict_from(judge.observe(look, values, compared))


def last_verdict(judge: Judge) -> Verdict:
    """The latest verdict, in sentences."""
    return verdict_from(judge.assessment)
