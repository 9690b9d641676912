"""A rollout whose policy looks at alerts, on fakes: live, after a restart, in an outage, explained and
recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from canaryd.adapters.kube.canaryrollout_object import record_of, spec_of, status_of
from canaryd.adapters.recording_file import Recording, load, writing
from canaryd.commands.backtest.backtest import unfit
from canaryd.commands.backtest.telemetry_reader import backtest, past_of, read_out
from canaryd.commands.explain.reread import reread
from canaryd.control.evidence_stream import EvidenceStream
from canaryd.domain.counts import Counts, Look
from canaryd.domain.rollout import Held, Phase, Record, Rollout
from canaryd.domain.series_values import SeriesValues, labels_text
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.judge.combined_verdict import verdict_of
from canaryd.report.reporting_judge import reporting_judge_of
from canaryd.report.summary import summary
from tests.builders import a_policy, a_verdict
from tests.control.daemon_on_fakes import Daemon

SLOW = labels_text({"alertname": "HighLatency", "severity": "page"})


class Alerted:
    """A daemon with the real judge, and an alert that fires in some stretches of time."""

    def __init__(self, **keys: Any) -> None:
        self.stretches: list[tuple[float, float]] = []
        self.daemon = Daemon(
            analysis={
                "interval": "10s",
                "metrics": [{"errors": {}}],
                "alerts": {"matching": 'severity="page"', **keys},
            }
        )
        self.daemon.telemetry.firing = self.firing
        self.daemon.telemetry.look = self.served
        self.restart()

    def firing(self, at: int) -> SeriesValues:
        return {SLOW: float(at)} if any(start < at <= end for start, end in self.stretches) else {}

    def served(self, start: int, end: int) -> Look:
        """1% of requests fail, and as many are the canary's as its weight of the time says."""
        spans = self.rollout.spans if self.daemon.rollouts.records else ()
        weight = max((span.weight for span in spans if span.start <= start), default=10)
        stable, canary = (Counts(60 * share, 60 * share // 100) for share in (100 - weight, weight))
        return Look(start, end, (), {"v1-a": stable} if weight < 100 else {}, {"v2-a": canary})

    def restart(self) -> Alerted:
        self.daemon.restart()
        self.daemon.beat.reconciler.evidence.judge_of = reporting_judge_of
        return self

    def fires(self, after: float = 0.0, until: float = 1e12) -> Alerted:
        """From so many seconds from now on."""
        self.stretches.append((self.daemon.clock.at + after, until))
        return self

    def resolves(self) -> Alerted:
        start, _ = self.stretches.pop()
        self.stretches.append((start, self.daemon.clock.at))
        return self

    @property
    def rollout(self) -> Rollout:
        return self.daemon.rollout


def test_an_alert_in_a_stage_takes_the_version_back_and_says_so() -> None:
    case = Alerted()
    case.daemon.with_canary(25)
    case.fires(20)
    rolled_back = case.daemon.run(120).rollout
    assert rolled_back.phase is Phase.ROLLED_BACK
    assert rolled_back.reason.startswith("alert HighLatency (severity=page) fires since ")
    assert "after weight 25%; it did not fire in the hour before: rolled back" in rolled_back.reason
    assert case.daemon.world.weight("v2") == 0
    assert "rolled_back" in case.daemon.postman.events("kubernetes")


def test_an_alert_that_fired_before_stops_nothing() -> None:
    case = Alerted().fires()
    case.daemon.with_canary(25)
    assert case.daemon.run(60).rollout.phase is Phase.PROGRESSING


def test_a_hold_lasts_as_long_as_the_alert_also_over_a_restart_and_then_goes_on_by_itself() -> None:
    case = Alerted(onFiring="hold")
    case.daemon.with_canary(25)
    case.fires()
    held = case.daemon.run(60).rollout
    assert (held.phase, held.held, held.weight) == (Phase.HELD, Held.ALERT, 25)
    assert held.reason.endswith("it did not fire in the hour before: held until it has resolved")
    case.restart()
    assert case.daemon.run(600).rollout.held is Held.ALERT
    case.resolves()
    resumed = case.daemon.run_until(lambda rollout: rollout.phase is Phase.PROGRESSING, 60)
    assert [news.event for news in resumed.announcements][-2:] == ["held", "resumed"]
    assert resumed.reason == "no alert fires any more"


def test_a_person_may_go_on_with_an_alert_that_fires() -> None:
    case = Alerted(onFiring="hold")
    case.daemon.with_canary(25)
    case.fires()
    case.daemon.run(60)
    case.daemon.rollouts.wish(case.rollout.name, resumed=1)
    assert case.daemon.run(60).rollout.phase is Phase.PROGRESSING
    case.daemon.run_until(lambda rollout: rollout.phase is Phase.SUCCEEDED, 3600)


def test_while_nobody_says_what_fires_nothing_passes() -> None:
    case = Alerted()
    case.daemon.with_canary(10)
    case.daemon.world.down.add("alerts")
    case.daemon.run(900)
    assert case.rollout.weight == 10
    assert case.rollout.held is Held.UNDECIDED
    assert "Prometheus did not say which alerts fire" in case.rollout.reason
    case.daemon.world.down.clear()
    case.daemon.run_until(lambda rollout: rollout.weight == 25, 120)


@pytest.mark.parametrize("on_firing", ["hold", "rollback"])
def test_a_restart_that_cannot_read_the_alerts_ends_no_hold_and_makes_no_old_alert_a_new_one(
    on_firing: str,
) -> None:
    case = Alerted(onFiring=on_firing)
    if on_firing == "rollback":
        case.fires()  # before the rollout
    case.daemon.with_canary(25)
    if on_firing == "hold":
        case.fires()
        assert case.daemon.run(60).rollout.held is Held.ALERT
    case.daemon.world.down.add("alerts")
    case.restart()
    case.daemon.run(60)
    case.daemon.world.down.clear()
    rollout = case.daemon.run(60).rollout
    assert rollout.held is (Held.ALERT if on_firing == "hold" else None)
    assert rollout.phase is (Phase.HELD if on_firing == "hold" else Phase.PROGRESSING)
    assert any("fires since" in finding.says for finding in findings(rollout)) is (on_firing == "hold")


def findings(rollout: Rollout) -> Any:
    assert rollout.verdict is not None
    return rollout.verdict.findings


# ---------------------------------------------------------------- the same verdict everywhere


def an_ended_one() -> tuple[Alerted, Rollout]:
    """The alert fires before, resolves in the first stage, and fires anew in the second."""
    case = Alerted().fires(until=0.0)
    case.stretches = [(case.daemon.clock.at - 700, case.daemon.clock.at + 60)]
    case.daemon.with_canary(25)
    case.fires(25)
    return case, case.daemon.run(120).rollout


def walked(case: Alerted, rollout: Rollout) -> list[Verdict]:
    stream = EvidenceStream(rollout, rollout.entrance, case.daemon.telemetry, 0.0)
    return [judged.verdict for judged in stream.next(rollout, case.daemon.clock.at) if judged.compared]


def test_the_verdict_is_the_same_live_explained_and_out_of_a_recording(tmp_path: Path) -> None:
    case, rollout = an_ended_one()
    assert rollout.phase is Phase.ROLLED_BACK
    assert "it had fired in the hour before, last at" in rollout.reason
    decided = next(
        decision.verdict for decision in reversed(rollout.decisions) if decision.verdict is not None
    )
    assert decided in walked(case, rollout)
    assert decided in reread(rollout, case.daemon.telemetry, case.daemon.clock.at).transcript.verdicts
    past = past_of(rollout, case.daemon.clock.at)
    with writing(tmp_path / "past.gz", past, "canaryd test") as writer:
        assert read_out(past, case.daemon.telemetry, writer.write) == {}
    recording = load(tmp_path / "past.gz")
    course = backtest(recording.past, recording.past.policy, recording)
    assert course.recorded
    assert course.differences == ()
    assert decided in course.verdicts


def test_another_policy_on_the_recording_meets_the_same_alerts() -> None:
    case, rollout = an_ended_one()
    recording = Recording(past_of(rollout, case.daemon.clock.at))
    read_out(recording.past, case.daemon.telemetry, recording.write)
    written = rollout.policy.dump()
    written["stages"] = [{"weight": 50, "minimum": "60s"}, {"weight": 100, "minimum": "60s"}]
    course = backtest(recording.past, type(rollout.policy).load(written), recording)
    assert not course.recorded
    assert course.rollout.phase is Phase.ROLLED_BACK
    assert Answer.FAIL in {verdict.answer for verdict in course.verdicts}
    assert "alert HighLatency (severity=page) fires since" in course.rollout.reason


def test_a_policy_with_alerts_that_were_not_recorded_is_refused() -> None:
    case, rollout = an_ended_one()
    past = past_of(rollout, case.daemon.clock.at)
    assert unfit(past, rollout.policy) == ()
    other = a_policy(
        analysis={"interval": "10s", "metrics": [{"errors": {}}], "alerts": {"matching": 'team="shop"'}}
    )
    assert "which of these fired was not recorded" in "; ".join(unfit(past, other))


def test_a_hold_for_an_alert_is_stored_and_had_again_whole() -> None:
    case = Alerted(onFiring="hold")
    case.daemon.with_canary(25)
    case.fires()
    held = case.daemon.run(60).rollout
    record = Record(held)
    written = {
        "metadata": {"namespace": held.namespace, "name": held.name, "resourceVersion": "1"},
        "spec": spec_of(record),
        "status": json.loads(json.dumps(status_of(held))),
    }
    assert record_of(written).rollout == held
    assert findings(held)[-1].since is not None


def test_in_a_bracket_an_alert_of_any_service_is_the_wholes() -> None:
    alert = MetricFinding("alerts", "alert Slow", Answer.UNDECIDED, since=7, says="alert Slow fires")
    whole = verdict_of(
        {"front-end": a_verdict(Answer.PASS), "carts": a_verdict(Answer.PASS, findings=(alert,))}
    )
    assert (whole.answer, whole.alert_since) == (Answer.PASS, 7)
    assert whole.findings[0].service == "carts"


def test_one_line_without_statistics_says_that_an_alert_fires() -> None:
    case = Alerted(onFiring="hold")
    case.daemon.with_canary(25)
    case.fires()
    held = case.daemon.run(60).rollout
    line = summary(held, case.daemon.clock.at)
    assert line.startswith("alert HighLatency fires while v2 is rolled out: held at 25% after ")
    assert ", since an alert fires" in line
