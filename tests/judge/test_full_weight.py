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
    for requests, failures in looks:
        alarm.watch(failures, requests, 1.0)
        alarm.fold(a_look(requests, failures))
    return alarm.odds


def test_one_look_three_times_as_bad_as_the_worst_on_record_is_an_alarm_at_once():
    """27 or more where 9 are expected come once in half a million looks, by scipy's Poisson distribution;
    what comes less than once in 20,000 is an alarm by itself."""
    assert poisson.sf(26, 9) < 1 / 20_000
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
    """By number 3 of 500 are enough, but where one is expected as many come once in 12 times. More than 7
    come once in 98,000."""
    quiet = [(500, 0)] * 120
    assert poisson.sf(6, 1) > 1 / 20_000 > poisson.sf(7, 1)
    assert odds_after(an_alarm(past=quiet), (500, 7)) < BAR < odds_after(an_alarm(past=quiet), (500, 8))


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


def test_parts_of_a_look_alarm_before_it_is_over():
    """A twentieth fails where half a per cent did, in parts of a third of a look each: within the second
    look."""
    alarm, parts = an_alarm(), 0
    while alarm.odds < BAR:
        alarm.watch(8, 167, 1 / 3)
        parts += 1
        if parts % 3 == 0:
            alarm.fold(a_look(0, 0))
    assert parts <= 5
    whole = an_alarm()
    assert odds_after(whole, (500, 24)) < BAR


def test_a_burst_within_seconds_is_not_taken_for_plain():
    """20 of 100 requests in a fifth of a look are a rate far beyond the worst on record; of the whole look
    they are not."""
    alarm = an_alarm()
    alarm.watch(20, 100, 0.2)
    assert alarm.odds < BAR


def test_a_level_that_rose_for_both_versions_before_full_weight_is_no_alarm():
    """An hour at half a per cent, then 5% for both versions all through the rollout."""
    risen = an_alarm(*[(500, failures) for failures in (20, 25, 30) * 12])
    assert odds_after(risen, *[(500, failures) for failures in (25, 28, 22, 30) * 30]) < 3
    assert odds_after(an_alarm(), *[(500, 25)] * 4) > BAR


def test_a_few_unlucky_looks_of_the_rollout_make_no_room_for_a_bad_version():
    alarm = an_alarm(*[(500, 2)] * 33, (500, 8), (500, 8), (500, 8))
    assert alarm.limits[0] < 0.012


def test_trouble_that_lasts_is_bet_on_in_blocks():
    """Spells of six looks on record: the same once more is no alarm, where look by look it would be."""
    spell = [*[(500, 1)] * 30, *[(500, 30)] * 6] * 4
    past = np.array([a_look(*one) for one in spell])
    odds = []
    for block in (1, 18):
        alarm = Alarm(Errors(), None, (), past, blocks=(block, 1))
        alarm.begin()
        odds.append(
            max(odds_after(alarm, one) for one in (*[(500, 1)] * 6, *[(500, 75)] * 6, *[(500, 1)] * 24))
        )
    assert odds[1] < 3 < odds[0]
