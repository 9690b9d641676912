"""A rollout of a simulated service, whole, with all that its judge heard: what `explain` has again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from canaryd.commands.backtest.backtest import imagined, step
from canaryd.commands.explain.transcript import TranscribingJudge, Transcript
from canaryd.domain.counts import Counts, Look
from canaryd.domain.policy.policy import Policy
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Rollout
from tests.judge.looks import START


def lived(
    policy: Policy,
    look: Callable[[int], Look],
    looks: int = 300,
    values: Callable[[int], Mapping[str, float | None]] = lambda number: {},
    before: Mapping[str, Sequence[float | None]] = {},
) -> tuple[Rollout, Transcript]:
    """look: the next one at the weight that is asked for; it begins at START. Until the rollout has ended, or
    so many looks were taken.

    values: the policy's queries by name, by the look's number; before: stable's of the compared ones, before
    the rollout.
    """
    past = Past(
        "production",
        "front-end",
        "v1",
        "v2",
        "front-end-v1",
        "front-end-v2",
        10,
        START,
        START,
        START + 10 * looks,
        policy,
    )
    rollout, transcript, opened = imagined(past, policy), Transcript(), 0
    scribe = TranscribingJudge(transcript, policy, ())
    scribe.remember(before)
    counted: dict[str, Counts] = {}
    for number in range(looks):
        if rollout.phase.ended:
            break
        for span in rollout.spans[opened:]:
            scribe.open(span)
        opened = len(rollout.spans)
        heard = look(rollout.weight)
        for name, one in (*heard.stable.items(), *heard.canary.items()):
            counted[name] = counted.get(name, Counts()) + Counts(one.requests, one.failures)
        verdict = scribe.observe(heard, values(number), True)
        rollout = step(rollout, verdict, dict(counted), heard.sampled)
    return rollout, transcript
