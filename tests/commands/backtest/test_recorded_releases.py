"""Releases that were recorded on a real API server, istiod, Envoys and Prometheus, judged again: when harm is
told now. 50 requests/s, looks of 15 s, weight 10."""

from __future__ import annotations

from pathlib import Path

import pytest

from canaryd.adapters.recording_file import load
from canaryd.commands.backtest.telemetry_reader import backtest
from canaryd.domain.verdict import Answer, Verdict

RECORDINGS = Path(__file__).parent / "recordings"


def first_harm(name: str) -> tuple[Verdict, int, int]:
    """The first verdict that fails, seconds since the first weight, and failures of the canary until then."""
    recording = load(RECORDINGS / f"{name}.gz")
    past = recording.past
    assert past.rollout is not None
    course = backtest(past, past.policy, recording)
    harm = next(verdict for verdict in course.verdicts if verdict.answer is Answer.FAIL)
    errors = next(finding for finding in harm.findings if finding.what == "errors")
    return harm, harm.at - past.rollout.spans[0].start, errors.canary_events


def test_a_version_that_fails_everything_is_down_after_two_scrapes() -> None:
    """On record it took 6 looks and 426 users."""
    harm, seconds, hurt = first_harm("dead")
    assert harm.reason.startswith("all 3 replicas of the new version failed 148 of 148 requests for 43 s")
    assert (seconds, hurt) == (30, pytest.approx(150, abs=20))


def test_a_bad_version_after_an_incident_of_stable_is_told_within_four_minutes() -> None:
    """On record it was undecided after a quarter of an hour, 106 users hurt."""
    harm, seconds, hurt = first_harm("after-incident")
    assert "odds" in harm.reason
    assert seconds <= 240
    assert hurt <= 20
