"""The alarm at full weight: one look against the worst on record."""

import numpy as np
import pytest
from scipy.stats import poisson

from canaryd.domain.policy.metrics import Errors
from canaryd.judge.full_weight import Alarm

BAR = 100.0
PAST = [(500, failures) for failures in (2, 3) * 60]
WORST = (500, 8)  # nine failures are expected of a look as bad


def a_look(requests: int, failures: int):
    return np.array([requests, failures, 0.0, 0.0])


def an_alarm(*record: tuple[int, int], past=(*PAST, WORST), begun=True) -> Alarm:
    """past, record: requests and failures of each look, before the rollout and below full weight."""
    alarm = Alarm(Errors(), None, (), np.array([a_look(*one) for one in past]).reshape(len(past), 4))
    for one in record:
        alarm.record(a_look(*one))
    if begun:
        alarm.begin()
    return alarm


def odds_after(alarm: Alarm, *looks: tuple[int, int]) -> float:
    for look in looks:
        alarm.fold(a_look(*look))
    return alarm.odds


def test_one_look_three_times_as_bad_as_the_worst_on_record_is_an_alarm_at_once():
    """The odds are one in the chance of 27 or more where 9 are expected, by scipy's Poisson distribution."""
    assert odds_after(an_alarm(), (500, 27)) == pytest.approx(1 / poisson.sf(26, 9), rel=1e-6)
    assert odds_after(an_alarm(), (500, 27)) > BAR


def test_one_look_just_below_three_times_the_worst_on_record_is_none():
    assert odds_after(an_alarm(), (500, 26)) < BAR


def test_the_worst_below_full_weight_is_on_record_as_well():
    assert odds_after(an_alarm((500, 9)), (500, 29)) < BAR < odds_after(an_alarm((500, 9)), (500, 30))


def test_what_may_be_chance_is_no_alarm_however_many_times_the_worst_it_is():
    """3 of 20 requests are eight times the worst rate, of which as many come once in 170 looks."""
    assert odds_after(an_alarm(), (20, 3)) < BAR
    assert odds_after(an_alarm(), (20, 8)) > BAR


def test_a_record_without_a_failure_has_one_in_its_worst_look():
    """By number 3 of 500 are enough, but where one is expected as many come once in 12 times. More than 6
    come once in 12,000."""
    quiet = [(500, 0)] * 120
    assert odds_after(an_alarm(past=quiet), (500, 6)) < BAR
    assert odds_after(an_alarm(past=quiet), (500, 7)) == pytest.approx(1 / poisson.sf(6, 1), rel=1e-6)


@pytest.mark.parametrize("where", ["past", "record"])
def test_the_worst_on_record_is_none_of_the_looks_with_hardly_any_traffic(where):
    """6 of 10 requests failed: nothing would ever be three times as bad."""
    small = (10, 6)
    alarm = an_alarm(past=(*PAST, small, WORST)) if where == "past" else an_alarm(*[(500, 2)] * 20, small)
    assert odds_after(alarm, (500, 32)) > BAR


def test_a_look_of_usual_size_with_as_many_failures_is_on_record():
    assert odds_after(an_alarm(past=(*PAST, (500, 60))), (500, 150)) < BAR


def test_what_is_plain_from_one_look_is_over_with_the_next_good_one():
    assert odds_after(an_alarm(), (500, 27), (500, 2)) < BAR


def test_what_another_one_remembers_is_the_worst_for_this_one_too():
    """Looks that the other one has not added up yet included; what this one thought the worst is the other's
    matter."""
    other = an_alarm((500, 20), past=PAST, begun=False)
    calm, nervous = an_alarm(past=PAST, begun=False), an_alarm(past=(*PAST, (500, 100)), begun=False)
    assert odds_after(an_alarm(past=PAST), (500, 27)) > BAR
    for one in (calm, nervous):
        one.remember(other)
        for failures, alarming in ((62, False), (63, True)):
            one.begin()
            assert (odds_after(one, (500, failures)) > BAR) is alarming


def test_full_weight_that_begins_again_forgets_what_was_plain():
    alarm = an_alarm()
    assert odds_after(alarm, (500, 27)) > BAR
    alarm.begin()
    assert alarm.odds == 1


def test_without_a_record_nothing_is_worse_than_it():
    assert odds_after(an_alarm(past=()), (500, 400)) == 1


def test_errors_that_the_policy_does_not_ask_for_are_no_alarm():
    alarm = Alarm(None, None, (), np.array([a_look(*one) for one in PAST]))
    alarm.begin()
    assert odds_after(alarm, (500, 400)) == 1
