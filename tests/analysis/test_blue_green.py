"""A blue/green release as the judge sees it: dark, then all users, with stable's record to hold them against and no way to step back."""

from canaryd.analysis.judge import Judge
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer, Verdict
from tests.analysis.looks import Sampled
from tests.builders import a_policy

STAGES = [{"weight": 0, "minimum": "60s", "deadline": "10m"}, {"weight": 100, "minimum": "2m", "deadline": "10m"}]


def switched(good: Sampled, after: Sampled, looks: int = 30) -> Verdict:
    """The first verdict that decides after the switch, of a version that serves as `after`."""
    judge = Judge(a_policy(strategy="blue-green", stages=STAGES), good.history())
    judge.open(Span(0, 0, good.now))
    for _ in range(12):
        assert judge.hear(good.look(0)).answer in (Answer.UNDECIDED, Answer.PASS)
    judge.open(Span(1, 100, good.now))
    for _ in range(looks):
        verdict = judge.hear(after.look(100))
        if verdict.answer is not Answer.UNDECIDED:
            return verdict
    return verdict


def test_a_version_as_good_as_stable_passes_after_the_switch_and_what_it_was_held_against_is_said() -> None:
    good = Sampled(20)
    verdict = switched(good, good)
    assert verdict.answer is Answer.PASS
    assert "at full weight against" in verdict.reason
    assert "in the rollout's record" in verdict.reason


def test_a_version_that_is_plainly_worse_alarms_within_a_minute_and_says_that_it_is_rolled_back() -> None:
    verdict = switched(Sampled(20), Sampled(21, more_errors=10), looks=6)
    assert verdict.answer is Answer.ALARM
    assert verdict.reason.endswith("rolled back, since no stage before it has users of both versions")
