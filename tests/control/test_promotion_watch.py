"""What begins to fire after a promotion is told once, whatever happens in between, and sends nothing back."""

from __future__ import annotations

from typing import Any

from canaryd.control.promotion_watch import GRACE, UNKNOWN
from canaryd.domain.rollout import Phase
from canaryd.domain.series_values import SeriesValues, labels_text
from tests.control.daemon_on_fakes import Daemon

SLOW = labels_text({"alertname": "HighLatency", "severity": "page"})
WATCHED = 600.0


class Promoted:
    """v2 has all traffic since `at`, and alerts are watched for 10 minutes."""

    def __init__(self, watched: str | None = "10m", **policy: Any) -> None:
        self.since = 1e12
        alerts = {"matching": 'severity="page"', **({"watchAfterPromotion": watched} if watched else {})}
        self.daemon = Daemon(analysis={"interval": "10s", "alerts": alerts}, **policy)
        self.daemon.telemetry.firing = self.firing
        self.daemon.run()
        self.daemon.deploy()
        self.daemon.run_until(lambda rollout: rollout.phase is Phase.SUCCEEDED)
        self.at = self.daemon.clock.at

    def firing(self, at: int) -> SeriesValues:
        return {SLOW: float(at)} if at > self.since else {}

    def fires(self, after: float) -> Promoted:
        self.since = self.at + after
        return self

    def run(self, seconds: float) -> Promoted:
        self.daemon.run(seconds)
        return self

    @property
    def told(self) -> list[str]:
        return [
            news.reason for news in self.daemon.rollout.announcements if news.event == "alert_after_promotion"
        ]


def test_an_alert_after_a_promotion_is_told_once_and_nothing_is_sent_back() -> None:
    case = Promoted().fires(90).run(200)
    (reason,) = case.told
    assert reason.startswith("alert HighLatency (severity=page) fires since ")
    assert (
        "s after the promotion; it did not fire in the hour before: the rollout is over and nothing was"
        in reason
    )
    assert reason.endswith("to go back: canaryd start front-end v1, and canaryd promote")
    assert case.daemon.rollout.phase is Phase.SUCCEEDED
    assert "alert HighLatency (severity=page) fires since" in case.daemon.rollout.reason
    assert case.daemon.world.weight("v2") == 100
    case.daemon.restart()
    case.run(WATCHED)
    assert len(case.told) == 1
    assert case.daemon.postman.events("kubernetes").count("alert_after_promotion") == 1


def test_hooks_may_name_it() -> None:
    case = Promoted(hooks=[{"on": ["alert_after_promotion"], "notify": "oncall"}]).fires(90).run(200)
    assert case.daemon.postman.events("oncall") == ["alert_after_promotion"]


def test_an_alert_after_the_watch_or_without_one_is_nothing() -> None:
    assert Promoted().fires(WATCHED + 30).run(WATCHED + 300).told == []
    assert Promoted(watched=None).fires(30).run(300).told == []


def test_an_alert_that_fired_when_the_version_was_promoted_is_nothing_new() -> None:
    case = Promoted()
    case.since = case.at - 300
    assert case.run(300).told == []


def test_an_alert_that_began_after_the_last_look_and_before_the_promotion_is_not_lost() -> None:
    case = Promoted()
    rollout = case.daemon.rollout
    assert rollout.counted_to is not None
    assert rollout.ended is not None
    assert rollout.counted_to < rollout.ended
    case.since = rollout.counted_to
    (reason,) = case.run(60).told
    assert reason.startswith("alert HighLatency (severity=page) fires since ")


def test_what_could_not_be_read_is_read_later_and_told_then() -> None:
    case = Promoted().fires(90)
    case.daemon.world.down.add("alerts")
    assert case.run(300).told == []
    case.daemon.world.down.clear()
    assert len(case.run(30).told) == 1


def test_not_to_know_what_fired_is_told_as_that() -> None:
    case = Promoted()
    case.daemon.world.down.add("alerts")
    assert case.run(WATCHED + GRACE + 60).told == [
        f"{UNKNOWN} 10m after the promotion is not known: alerts does not answer"
    ]
    case.daemon.restart()
    assert len(case.run(300).told) == 1


def test_a_newer_version_ends_the_watch() -> None:
    case = Promoted()
    first = case.daemon.rollout.name
    case.daemon.deploy("v3")
    case.run(60)
    assert case.daemon.rollout.name != first
    case.since = case.daemon.clock.at
    case.run(300)
    assert "alert_after_promotion" not in case.daemon.postman.events("kubernetes")


def test_stable_is_kept_while_its_successor_is_watched_and_also_after_an_alert() -> None:
    promotion = {"retireStable": {"scaleTo": 0, "after": "1m"}}
    case = Promoted(promotion=promotion).run(WATCHED - 30)
    assert "scale front-end-v1 0" not in case.daemon.world.steps
    assert "scale front-end-v1 0" in case.run(180).daemon.world.steps
    alerted = Promoted(promotion=promotion).fires(300).run(2 * WATCHED)
    assert "scale front-end-v1 0" not in alerted.daemon.world.steps
