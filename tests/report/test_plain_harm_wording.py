"""What is said of a version, or a replica, that is down."""

from __future__ import annotations

import pytest

from canaryd.domain.assessment import Assessment, Details, PlainHarm
from canaryd.domain.verdict import Answer
from canaryd.report.findings import verdict_from


def reason(**changes: object) -> str:
    values: dict[str, object] = {
        "is_version": True,
        "replica": "",
        "seconds": 10,
        "failures": 52,
        "requests": 52,
        "failing_replicas": 3,
        "replicas": 3,
        "stable_failing": 0,
        "stable_replicas": 3,
        "stable_failures": 1,
        "stable_requests": 470,
        "record_seconds": 3600,
    }
    harm = PlainHarm(**{**values, **changes})  # type: ignore[arg-type]
    details = Details("weight", False, 20.0, "destination", False, False, False, plain_harm=harm)
    verdict = verdict_from(Assessment(Answer.FAIL, 1000, 0, 10, 100.0, details=details))
    assert verdict.findings[0].answer is Answer.FAIL
    return verdict.reason


WHY = "too plain to wait for odds, rolled back"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {},
            "all 3 replicas of the new version failed 52 of 52 requests for 10 s; none of stable's 3 did, "
            "nor for so long in the 1h known of it",
        ),
        (
            {"failing_replicas": 2, "requests": 80, "seconds": 20},
            "2 of 3 replicas of the new version failed 52 of 80 requests for 20 s; none of stable's 3 did, "
            "nor for so long in the 1h known of it",
        ),
        (
            {
                "is_version": False,
                "replica": "front-end-v2-abc",
                "failing_replicas": 1,
                "seconds": 120,
                "stable_replicas": 1,
            },
            "replica front-end-v2-abc of the new version failed 52 of 52 requests for 120 s; stable's one "
            "replica did not, nor for so long in the 1h known of it",
        ),
        (
            {"is_version": False, "replicas": 1, "failing_replicas": 1, "seconds": 120, "record_seconds": 10},
            "the new version failed 52 of 52 requests for 120 s; none of stable's 3 did",
        ),
        (
            {"stable_failing": 1, "stable_replicas": 9, "stable_failures": 47},
            "all 3 replicas of the new version failed 52 of 52 requests for 10 s; stable failed 10% of its "
            "requests then, and was never like it for so long in the 1h known of it",
        ),
    ],
)
def test_the_reason_counts_what_failed_and_what_stable_did(changes: dict[str, object], says: str) -> None:
    assert reason(**changes) == f"{says}: {WHY}"
