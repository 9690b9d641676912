"""The judge as control uses it: looks in, verdicts out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canaryd.domain.counts import Counts
from canaryd.domain.lifecycle import Signal, stage_signal
from canaryd.domain.rollout import Held, Phase, Span
from canaryd.domain.verdict import Answer
from canaryd.judge.judge import Judge, observe_all
from tests.builders import NOW, a_rollout
from tests.commands.explain.recorded_rollout import lived
from tests.judge.looks import (
    BOUNDS,
    START,
    Sampled,
    a_ladder,
    a_look,
    last_verdict,
    some_counts,
    verdict_after,
    with_newborn_canary,
    without_histogram,
)

ERRORS_ONLY = {"errors": {}}


def a_judge(*metrics, history=(), weight=10, stage=0, start=START, **analysis):
    judge = Judge(a_ladder(*metrics, **analysis), history)
    judge.open(Span(stage, weight, start))
    return judge


def judged(service, weight=10, stage=0, looks=60, history=120, policy=None):
    """The looks it took until a verdict of FAIL or PASS, and that verdict."""
    judge = Judge(policy or a_ladder(), service.history(history))
    judge.open(Span(stage, weight, service.now))
    heard = 0
    while heard < looks:
        verdict, heard = verdict_after(judge, service.look(weight)), heard + 1
        if verdict.answer is Answer.FAIL:
            break
    return heard, verdict


# ---------------------------------------------------------------- harm


def test_threefold_errors_are_rolled_back_with_their_numbers():
    looks, verdict = judged(Sampled(1, errors=0.01, more_errors=3.0), looks=90)
    assert verdict.answer is Answer.FAIL
    assert looks < 60
    assert verdict.odds >= verdict.bar == 100
    assert verdict.reason.startswith("errors ")
    assert verdict.reason.endswith("rolled back at 100")
    errors = verdict.findings[0]
    assert errors.low < errors.ratio < errors.high
    assert errors.tolerated == pytest.approx(1.1)


def test_slower_version_is_rolled_back_within_16_looks():
    looks, verdict = judged(Sampled(2, slower=1.5))
    assert verdict.answer is Answer.FAIL
    assert looks <= 16
    assert "slower than" in verdict.reason


def test_a_verdict_says_that_too_few_of_its_blocks_have_closed():
    past = Sampled(9).history(200)
    for number in range(0, 200, 20):  # spells of 8 looks: trouble that lasts makes long blocks
        for look in range(number, number + 8):
            sick = {
                name: replace(one, failures=one.requests // 10) for name, one in past[look].stable.items()
            }
            past[look] = replace(past[look], stable=sick)
    service = Sampled(9)
    judge = a_judge(history=past)
    few = [verdict_after(judge, service.look(10)).few_blocks for _ in range(3 * judge.errors.block)]
    assert judge.errors.block > 1
    assert few == [True] * (len(few) - 1) + [False]
    assert not a_judge(history=Sampled(9).history(200)).observe(service.look(10)).few_blocks


def test_the_reason_names_the_metric_that_decided_also_where_an_earlier_stage_gathered_it():
    service = Sampled(2, slower=1.5)
    judge = a_judge(history=service.history())
    while verdict_after(judge, service.look(10)).odds < 15:
        assert service.number < 200
    judge.open(Span(1, 25, service.now))
    while verdict_after(judge, service.look(25)).answer is not Answer.FAIL:
        assert service.number < 220
    assert last_verdict(judge).looks <= 2  # too few for this stage to have said it alone
    assert last_verdict(judge).reason.startswith(("latency over", "slower than"))


def test_a_second_mode_stable_never_had_is_found():
    """6% of the canary's requests take 2 s; stable's tail is empty there."""
    judge = a_judge(history=Sampled(1).history(60))
    for number in range(40):
        stable, canary = some_counts(150), some_counts(17, slow=1, slow_ms=2000)
        verdict_after(
            judge, a_look(number, {f"s{i}": stable for i in range(3)}, {f"c{i}": canary for i in range(3)})
        )
    assert last_verdict(judge).answer is Answer.FAIL


def test_a_fail_stays_whatever_follows():
    service = Sampled(3, errors=0.02, more_errors=10)
    judge = a_judge(history=service.history())
    while verdict_after(judge, service.look(10)).answer is not Answer.FAIL:
        assert service.number < 300
    after = verdict_after(judge, Sampled(4).look(10))
    assert after.answer is Answer.FAIL
    assert after.reason == last_verdict(judge).reason


def test_one_slow_pod_is_not_a_slow_version():
    looks, verdict = judged(Sampled(5, slower=6.0, only=1), looks=80)
    assert looks == 80
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.odds > verdict.bar  # it is the second look that saves it
    assert any("rest on one replica" in note for note in verdict.notes)
    _, all_of_them = judged(Sampled(5, slower=6.0), looks=80)
    assert all_of_them.answer is Answer.FAIL


def _with_a_spell(sick: tuple[int, int, int]):
    """60 looks; in the first 8 the canary's replicas fail as many of their 17 requests as `sick` says: the
    verdicts."""
    judge = a_judge(history=Sampled(6).history(120))
    stable = {f"s{i}": some_counts(150, failures=1) for i in range(3)}
    return [
        verdict_after(
            judge,
            a_look(
                number,
                stable,
                {f"c{i}": some_counts(17, failed if number < 8 else 0) for i, failed in enumerate(sick)},
            ),
        )
        for number in range(60)
    ]


def test_one_replica_s_bad_spell_is_not_a_bad_version():
    verdicts = _with_a_spell((0, 16, 0))
    assert max(verdict.odds for verdict in verdicts) > 100  # it is the second look that saves it
    assert all(verdict.answer is not Answer.FAIL for verdict in verdicts)


def test_the_same_failures_on_all_replicas_are_the_version_s():
    assert _with_a_spell((5, 6, 5))[-1].answer is Answer.FAIL


def test_a_fault_that_shows_only_at_a_later_weight_is_not_drowned_by_a_good_record():
    good, bad = Sampled(7, errors=0.01), Sampled(8, errors=0.01, more_errors=3)
    judge = a_judge(history=good.history())
    for _ in range(90):
        assert verdict_after(judge, good.look(10)).answer is not Answer.FAIL
    judge.open(Span(2, 50, good.now))
    answers = [verdict_after(judge, bad.look(50)).answer for _ in range(20)]
    assert Answer.FAIL in answers


# ---------------------------------------------------------------- no harm


def test_healthy_versions_are_not_rolled_back_and_pass():
    """30 seeded rollouts' first stages, every look counted: 0 failures; P(more than 2 | 1%) is 0.3%."""
    failed = passed = 0
    for seed in range(30):
        _, verdict = judged(Sampled(100 + seed), looks=40, history=60)
        failed += verdict.answer is Answer.FAIL
        passed += verdict.answer is Answer.PASS
    assert failed <= 2
    assert passed >= 24


def test_a_canary_exactly_at_what_is_tolerated_is_not_rolled_back():
    """1.1 times stable's errors, and 10% slower, at 2,000 requests/s for 100 looks, five times: the border is
    not beyond itself."""
    for seed in range(5):
        _, verdict = judged(
            Sampled(200 + seed, errors=0.05, more_errors=1.1, slower=1.1, requests=2000), looks=100
        )
        assert verdict.answer is not Answer.FAIL


def test_low_traffic_is_undecided():
    _, verdict = judged(Sampled(9, requests=1.0), looks=60)
    assert verdict.answer in (Answer.UNDECIDED, Answer.NO_DATA)


def test_a_service_without_errors_passes_by_what_it_has_served():
    _, verdict = judged(Sampled(10, errors=0.0), looks=30)
    assert verdict.answer is Answer.PASS
    assert verdict.findings[0].cleared >= 20


def test_latency_without_any_slow_request_passes():
    judge = a_judge(weight=50, stage=2)
    fast = some_counts(100, usual_ms=1.0)
    for number in range(30):
        verdict = verdict_after(judge, a_look(number, {"s0": fast, "s1": fast}, {"c0": fast, "c1": fast}))
    assert verdict.answer is Answer.PASS


def test_without_a_histogram_latency_is_no_data_and_nothing_passes():
    judge = a_judge()
    for number in range(40):
        stable, canary = {"s0": some_counts(450, timed=False)}, {"c0": some_counts(50, timed=False)}
        verdict = verdict_after(judge, a_look(number, stable, canary, bounds=()))
    assert verdict.answer is Answer.UNDECIDED
    assert [finding.answer for finding in verdict.findings] == [Answer.PASS, Answer.NO_DATA]


@pytest.mark.parametrize("metrics", [({"latency": {}},), ()])
def test_latency_that_was_never_seen_is_held_undecided_at_the_deadline(metrics):
    service = Sampled(43, slower=5.0)
    rollout, _ = lived(a_ladder(*metrics), lambda weight: without_histogram(service.look(weight)), 120)
    assert (rollout.phase, rollout.held, rollout.weight) == (Phase.HELD, Held.UNDECIDED, 10)
    assert "still undecided at the stage's deadline of 15m" in rollout.reason
    assert "no latency of both versions" in rollout.reason


def test_a_slow_version_whose_pods_are_replaced_all_the_time_is_rolled_back_all_the_same():
    service = Sampled(43, slower=5.0)
    rollout, _ = lived(a_ladder(), lambda weight: with_newborn_canary(service.look(weight)), 120)
    assert rollout.phase is Phase.ROLLED_BACK
    assert "slower than" in rollout.reason


@pytest.mark.parametrize("metrics", [({"latency": {}},), ()])
def test_a_healthy_version_whose_latency_is_seen_is_promoted(metrics):
    rollout, _ = lived(a_ladder(*metrics), Sampled(44).look)
    assert rollout.phase is Phase.SUCCEEDED
    assert Signal.LET_PASS not in {decision.signal for decision in rollout.decisions}


def test_a_later_stage_must_rule_out_more():
    wanted = []
    for stage, weight in ((0, 10), (1, 25), (2, 50)):
        judge = a_judge(stage=stage, weight=weight)
        verdict_after(judge, a_look(0, {"s0": some_counts(100, 1)}, {"c0": some_counts(100, 1)}))
        wanted.append(last_verdict(judge).findings[0].unacceptable)
    assert wanted == pytest.approx([5.0, 3.0, 2.0])


def test_what_a_stage_ruled_out_does_not_pass_the_next():
    service = Sampled(11)
    judge = a_judge(history=service.history())
    for _ in range(40):
        verdict = verdict_after(judge, service.look(10))
    assert verdict.answer is Answer.PASS
    judge.open(Span(1, 25, service.now))
    verdict = verdict_after(judge, service.look(25))
    assert verdict.answer is Answer.UNDECIDED
    assert (verdict.looks, verdict.stage, verdict.weight) == (1, 1, 25)


def test_the_same_weight_opened_again_goes_on_with_its_stage():
    service = Sampled(12)
    judge = a_judge(history=service.history())
    for _ in range(5):
        verdict_after(judge, service.look(10))
    judge.open(Span(0, 10, service.now))
    assert verdict_after(judge, service.look(10)).looks == 6


def test_a_fresh_span_voids_what_was_gathered():
    service = Sampled(13, errors=0.02, more_errors=4)
    judge = a_judge(history=service.history())
    while judge.odds < 20:
        verdict_after(judge, service.look(10))
    judge.open(Span(0, 10, service.now, fresh=True))
    assert judge.odds == pytest.approx(1)


# ---------------------------------------------------------------- no data


def test_a_look_without_samples_is_no_data_and_changes_no_evidence():
    service = Sampled(14)
    judge = a_judge(history=service.history())
    for _ in range(5):
        before = verdict_after(judge, service.look(10))
    verdict = verdict_after(judge, replace(service.look(10), stable={}, canary={}, sampled=False))
    assert verdict.answer is Answer.NO_DATA
    assert "no telemetry" in verdict.reason
    assert (verdict.odds, verdict.looks) == (before.odds, before.looks)


def test_stable_traffic_without_the_canary_s_is_no_data_and_says_so():
    service = Sampled(15)
    judge = a_judge(history=service.history())
    before = verdict_after(judge, service.look(10))
    verdict = verdict_after(judge, replace(service.look(10), canary={"c0": Counts()}))
    assert verdict.answer is Answer.NO_DATA
    assert "no request of the canary" in verdict.reason
    assert verdict.odds == before.odds


def test_traffic_that_does_not_follow_the_weight_is_no_data():
    service = Sampled(16)
    judge = a_judge(history=service.history(), weight=50, stage=2)
    for _ in range(8):
        verdict = verdict_after(judge, service.look(10))
    assert verdict.answer is Answer.NO_DATA
    assert "does not follow the weight" in verdict.reason


def test_looks_at_a_weight_in_change_are_not_compared():
    service = Sampled(17, errors=0.02, more_errors=10)
    judge = a_judge(history=service.history())
    for _ in range(30):
        verdict = verdict_after(judge, service.look(10), compared=False)
    assert (verdict.answer, verdict.looks, verdict.odds) == (Answer.UNDECIDED, 0, 1.0)


# ---------------------------------------------------------------- guardrails and queries


def test_a_broken_canary_meets_the_error_limit_within_four_looks_even_while_the_weight_changes():
    judge = a_judge({"errors": {"max": "5%"}})
    stable, canary = {"s0": some_counts(450)}, {"c0": some_counts(50, failures=50)}
    for number in range(4):
        verdict = verdict_after(judge, a_look(number, stable, canary), compared=False)
    assert verdict.answer is Answer.FAIL
    assert "at most 5.0% is allowed" in verdict.reason


def test_a_canary_below_its_limit_keeps_it_even_where_stable_is_perfect():
    judge = a_judge({"errors": {"max": "5%", "toleratedIncrease": "4%", "unacceptableIncrease": "5%"}})
    stable = {"s0": some_counts(450)}
    for number in range(100):
        verdict = verdict_after(
            judge, a_look(number, stable, {"c0": some_counts(50, failures=2 * (number % 2))})
        )
    assert verdict.answer is not Answer.FAIL


def test_a_latency_limit_holds_at_full_weight_too():
    judge = a_judge({"latency": {"slo": {"p99": "500ms"}}}, weight=100, stage=3)
    for number in range(10):
        verdict = verdict_after(judge, a_look(number, {}, {"c0": some_counts(500, slow=60, slow_ms=700.0)}))
    assert verdict.answer is Answer.FAIL
    assert "slower than 500 ms" in verdict.reason


@pytest.mark.parametrize("outage", [40, 120])
def test_a_limit_is_held_as_well_after_a_look_that_holds_an_outage_s_traffic(outage):
    judge = a_judge({"errors": {"max": "5%"}})
    verdict_after(
        judge, a_look(0, {"s0": some_counts(450 * outage)}, {"c0": some_counts(50 * outage)}), compared=False
    )
    for number in range(1, 11):
        verdict_after(judge, a_look(number, {"s0": some_counts(450)}, {"c0": some_counts(50)}))
    answers = [
        verdict_after(judge, a_look(number, {"s0": some_counts(450)}, {"c0": some_counts(50, 50)})).answer
        for number in range(11, 31)
    ]
    assert Answer.FAIL in answers[:12]


def test_a_latency_limit_beyond_the_histogram_is_said_to_be_blind():
    judge = a_judge({"latency": {"slo": {"p99": "10s"}}})
    verdict = verdict_after(judge, a_look(0, {"s0": some_counts(450)}, {"c0": some_counts(50)}))
    assert any("beyond the histogram's last bound" in note for note in verdict.notes)


CPU = {"query": {"name": "cpu", "promql": "sandbox_cpu", "max": 0.9, "for": 3}}


def test_a_query_fails_after_three_looks_in_a_row():
    service = Sampled(18)
    judge = a_judge(ERRORS_ONLY, CPU, history=service.history())
    answers = [
        verdict_after(judge, service.look(10), {"cpu": value}).answer
        for value in (0.95, 0.95, 0.5, 0.95, 0.95, 0.95)
    ]
    assert answers[:5] == [Answer.UNDECIDED] * 5
    assert answers[5] is Answer.FAIL
    assert "3 of 3 looks in a row" in last_verdict(judge).reason


def test_a_query_without_a_value_is_no_data_of_its_own_and_no_pass():
    service = Sampled(19)
    judge = a_judge(ERRORS_ONLY, CPU, history=service.history())
    for _ in range(40):
        verdict = verdict_after(judge, service.look(10), {"cpu": None})
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.findings[-1].answer is Answer.NO_DATA
    assert verdict_after(judge, service.look(10), {"cpu": 0.4}).answer is Answer.PASS


@pytest.mark.parametrize(("slower", "answer"), [(1.0, Signal.LET_PASS), (3.0, Signal.STUCK)])
def test_at_a_deadline_within_the_first_block_plain_latency_decides_and_not_that_nothing_was_said(
    slower, answer
):
    usual, slow = Sampled(40), Sampled(41, slower=2.0)  # stable is slow in spells of 8 looks
    spells = [
        slow.look(100).canary if number // 8 % 3 == 0 else usual.look(0).stable for number in range(120)
    ]
    judge = a_judge(history=[a_look(number - 120, spell, {}) for number, spell in enumerate(spells)])
    service = Sampled(42, slower=slower)
    for _ in range(12):
        verdict = verdict_after(judge, service.look(10))
    assert judge.latency.block > 12
    rollout = a_rollout(
        policy=judge.policy, phase=Phase.PROGRESSING, stage=0, weight=10, spans=(judge.span,), clock=1000.0
    )
    assert stage_signal(rollout, replace(verdict, at=verdict.at + 900), NOW) is answer


# ---------------------------------------------------------------- full weight


def test_tenfold_errors_at_full_weight_alarm_within_a_minute():
    service, bad = Sampled(20), Sampled(21, more_errors=10)
    judge = a_judge(history=service.history(), weight=50, stage=2)
    for _ in range(20):
        verdict_after(judge, service.look(50))
    judge.open(Span(3, 100, service.now))
    for _ in range(6):
        verdict = verdict_after(judge, bad.look(100))
        if verdict.answer is Answer.ALARM:
            break
    assert verdict.answer is Answer.ALARM
    assert "errors" in verdict.reason


def test_one_look_far_worse_than_any_on_record_alarms_at_once():
    """A tenth fails where half a per cent did. A rollout of a service that fails so now and then has it on
    record."""
    service, bad, as_bad = Sampled(20), Sampled(21, more_errors=20), Sampled(22, errors=0.1)
    found = []
    for history in (service.history(), [*service.history(), as_bad.look(0)]):
        judge = a_judge(history=history, weight=50, stage=2)
        for _ in range(20):
            verdict_after(judge, service.look(50))
        judge.open(Span(3, 100, service.now))
        found.append(verdict_after(judge, bad.look(100)))
    assert [verdict.answer for verdict in found] == [Answer.ALARM, Answer.UNDECIDED]
    assert found[0].reason.startswith("errors ")


def _until_alarm(history, good, bad, looks):
    """Looks of `bad` at full weight until an alarm, after looks at 50 and an hour's sixth at 100, both of
    `good`."""
    judge = a_judge(history=history, weight=50, stage=2)
    for _ in range(20):
        verdict_after(judge, good.look(50))
    judge.open(Span(3, 100, good.now))
    assert all(verdict_after(judge, good.look(100)).answer is not Answer.ALARM for _ in range(60))
    return next(
        (
            heard
            for heard in range(1, looks + 1)
            if verdict_after(judge, bad.look(100)).answer is Answer.ALARM
        ),
        looks + 1,
    )


def test_tenfold_errors_that_begin_after_ten_good_minutes_at_full_weight_alarm_as_fast():
    service = Sampled(20)
    assert _until_alarm(service.history(), service, Sampled(21, more_errors=10), 20) <= 6


def test_tenfold_errors_of_a_version_with_one_request_a_second_alarm():
    service = Sampled(30, errors=0.01, requests=1.0)
    assert (
        _until_alarm(
            service.history(360), service, Sampled(31, errors=0.01, more_errors=10, requests=1.0), 60
        )
        <= 40
    )


def test_no_increase_tolerated_of_a_service_without_errors_is_a_limit_that_one_failure_breaks():
    service = Sampled(32, errors=0.0)
    judge = a_judge({"errors": {"toleratedIncrease": "0%"}}, history=service.history(), weight=100, stage=3)
    for _ in range(13):
        verdict = verdict_after(judge, service.look(100))
    assert (verdict.answer, verdict.odds) == (Answer.PASS, pytest.approx(1, abs=0.01))
    assert verdict_after(judge, Sampled(33, errors=0.01).look(100)).answer is Answer.ALARM


def test_an_alarm_within_a_look_ends_it_and_is_the_verdict_of_the_whole_look_too():
    """Live the parts come one by one, and the look ends with the one that alarms; a replay has them all at
    once. At a weight in change nothing is heard."""
    service, bad = Sampled(20), Sampled(21, more_errors=20)
    live, replayed = (a_judge(history=Sampled(20).history(), weight=50, stage=2) for _ in range(2))
    service.number = bad.number = 120
    for _ in range(20):
        look = service.look(50)
        verdict_after(live, look)
        verdict_after(replayed, look)
    bad.number = service.number
    for judge in (live, replayed):
        judge.open(Span(3, 100, service.now))
    whole = bad.look(100)
    middle = whole.start + 5
    half = {name: Counts(one.requests // 2, one.failures) for name, one in whole.canary.items()}
    part = replace(whole, end=middle, canary=half)
    assert not live.watch(part, compared=False)
    assert live.watch(part)
    assert not live.watch(part)
    ended = replace(part, parts=(part,))
    assert verdict_after(live, ended) == verdict_after(replayed, ended)
    assert last_verdict(live).answer is Answer.ALARM


def test_an_alarm_is_over_once_both_versions_can_be_compared_again():
    service, bad = Sampled(22), Sampled(23, more_errors=20)
    judge = a_judge(history=service.history(), weight=100, stage=3)
    while verdict_after(judge, bad.look(100)).answer is not Answer.ALARM:
        assert bad.number < 20
    judge.open(Span(2, 50, service.now))
    assert verdict_after(judge, service.look(50)).answer is Answer.UNDECIDED


def test_full_weight_passes_after_its_minimum_with_traffic_and_without_alarm():
    service = Sampled(24)
    judge = a_judge(history=service.history(), weight=50, stage=2)
    for _ in range(20):
        verdict_after(judge, service.look(50))
    judge.open(Span(3, 100, service.now))
    answers = [verdict_after(judge, service.look(100)).answer for _ in range(12)]
    assert answers[:11] == [Answer.UNDECIDED] * 11
    assert answers[11] is Answer.PASS


@pytest.mark.parametrize("metrics", [({"latency": {}},), ()])
def test_full_weight_does_not_pass_before_latency_was_seen(metrics):
    service = Sampled(45)
    judge = a_judge(*metrics, history=service.history(), weight=100, stage=3, start=service.now)
    for _ in range(40):
        verdict = verdict_after(judge, without_histogram(service.look(100)))
        assert verdict.answer is Answer.UNDECIDED
        # so no deadline lets it pass
        assert [finding.metric for finding in verdict.findings if finding.answer is Answer.NO_DATA] == [
            "latency"
        ]
    assert verdict_after(judge, service.look(100)).answer is Answer.PASS


@pytest.mark.parametrize(("errors", "looks", "answer"), [(0.5, 1, Answer.ALARM), (0.005, 12, Answer.PASS)])
def test_where_stable_changes_at_full_weight_the_new_version_is_still_held_against_its_own_record(
    errors, looks, answer
):
    service = Sampled(46)
    judge = a_judge(history=service.history(), weight=50, stage=2)
    for _ in range(30):
        verdict_after(judge, service.look(50))
    judge.open(Span(3, 100, service.now))
    for _ in range(3):
        verdict_after(judge, service.look(100))
    usual = judge.alarm.usual.tolist()
    judge.open(Span(3, 100, service.now, fresh=True))
    assert judge.alarm.usual.tolist() == usual
    service.errors = errors
    answers = [verdict_after(judge, service.look(100)).answer for _ in range(looks)]
    assert answers == [Answer.UNDECIDED] * (looks - 1) + [answer]


# ---------------------------------------------------------------- someone else steers


OBSERVED = a_ladder(ERRORS_ONLY).model_copy(update={"mode": "observe"})


def _in_spells(service, number, weight):
    """The look; 10 of each 30 are a bad spell of both versions, in which whoever steers sends 80% to the
    canary if it has any."""
    is_bad = number // 10 % 3 == 1
    service.errors = 0.05 if is_bad else 0.002
    return service.look(80 if is_bad and weight else weight)


def _an_observing_judge(service):
    """Its blocks are longer than ten looks."""
    judge = Judge(OBSERVED, [_in_spells(service, number, 0) for number in range(240)])
    judge.open(Span(0, 10, service.now))
    assert judge.errors.block > 10
    return judge


@pytest.mark.parametrize("seed", [0, 4, 6])
def test_a_spell_bad_for_both_in_which_someone_else_sends_more_to_the_canary_is_no_harm(seed):
    """Added up over one block the canary would have most of the bad spell, and stable most of the good
    looks."""
    service = Sampled(seed)
    judge = _an_observing_judge(service)
    for number in range(120):
        verdict = verdict_after(judge, _in_spells(service, number, 10))
        assert verdict.answer is not Answer.FAIL
        assert verdict.odds < 10


def test_a_block_ends_where_someone_else_changes_the_weight():
    judge = _an_observing_judge(Sampled(1))
    closed = []
    for number, share in enumerate([0.1] * 5 + [0.3] * 5 + [0.1]):
        canary = int(500 * share)
        verdict_after(
            judge, a_look(240 + number, {"s0": some_counts(500 - canary)}, {"c0": some_counts(canary)})
        )
        closed.append(judge.errors.closed)
    assert closed == [0] * 5 + [1] * 5 + [2]


@pytest.mark.parametrize("requests", [5.0, 50.0, 1000.0])
def test_a_block_goes_on_where_the_weight_only_seems_to_change_by_chance(requests):
    service = Sampled(47, errors=0.002, requests=requests)
    judge = _an_observing_judge(service)
    heard = 0
    for _ in range(200):
        heard += verdict_after(judge, service.look(10)).answer is not Answer.NO_DATA
        assert judge.errors.closed == heard // judge.errors.block
    assert heard > 150


# ---------------------------------------------------------------- warm-up


def test_a_canary_replica_s_first_minute_is_left_out_of_what_is_compared():
    judge = a_judge()
    slow = some_counts(50, failures=1, slow=50, slow_ms=900.0)
    stable = {"s0": some_counts(450, failures=9)}
    for number in range(6):
        verdict = verdict_after(
            judge, a_look(number, stable, {"c0": slow}, first_seen={"c0": START + 5.0, "s0": START + 5.0})
        )
    latency = next(finding for finding in verdict.findings if finding.metric == "latency")
    assert (latency.answer, latency.canary_requests) == (Answer.NO_DATA, 0)
    assert verdict.findings[0].canary_events == 0
    for number in range(7, 10):
        verdict = verdict_after(judge, a_look(number, stable, {"c0": slow}, first_seen={"c0": START + 5.0}))
    assert next(finding for finding in verdict.findings if finding.metric == "latency").canary_requests == 150
    assert verdict.findings[0].canary_events == 3


# ---------------------------------------------------------------- what must not matter


def _narrowed(look, kept):
    """The look as it is once a replica without some of the bounds has come."""
    places = [BOUNDS.index(bound) for bound in kept]
    sides = (
        {
            name: replace(counts, within=tuple(counts.within[place] for place in places))
            for name, counts in side.items()
        }
        for side in (look.stable, look.canary)
    )
    return replace(look, bounds=kept, stable=next(sides), canary=next(sides))


@pytest.mark.parametrize("before", [0, 30])
def test_latency_is_judged_over_the_bounds_that_all_have_from_the_history_or_from_the_middle_on(before):
    kept = (50.0, 100.0, 500.0, 1000.0)
    service = Sampled(34, slower=3.0)
    judge = a_judge(
        history=[
            *Sampled(35).history(60),
            *(_narrowed(look, kept) for look in Sampled(36).history(60 if not before else 0)),
        ]
    )
    good = Sampled(37)
    for _ in range(before):
        verdict_after(judge, good.look(10))
    answers = [verdict_after(judge, _narrowed(service.look(10), kept)).answer for _ in range(30)]
    assert Answer.FAIL in answers
    assert "slower" in last_verdict(judge).reason
    assert any("25, 250, 2500 ms" in note for note in last_verdict(judge).notes) == bool(before)


def test_the_record_of_errors_outlives_a_change_of_bounds():
    service, kept = Sampled(38), (50.0, 100.0)
    judge = a_judge(history=service.history(), weight=50, stage=2)
    for _ in range(20):
        verdict_after(judge, service.look(50))
    usual = judge.alarm.usual[0]
    verdict_after(judge, _narrowed(service.look(50), kept))
    assert judge.alarm.usual[0] == pytest.approx(usual, rel=0.2)
    assert len(judge.alarm.usual) == 3


def test_the_same_looks_give_the_same_verdicts():
    def verdicts():
        service = Sampled(25, errors=0.01, more_errors=2)
        judge = a_judge(history=service.history())
        return [verdict_after(judge, service.look(10)) for _ in range(20)]

    assert verdicts() == verdicts()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 10)), min_size=1, max_size=5),
    st.permutations([0, 1, 2]),
)
def test_names_of_replicas_change_nothing_in_the_pooled_evidence(looks, order):
    one, other = a_judge(), a_judge()
    for number, (failed_stable, failed, slow) in enumerate(looks):
        stable = {"s0": some_counts(300, failed_stable, slow=3 * slow), "s1": some_counts(100)}
        parts = [some_counts(20, failed), some_counts(30, slow=slow), some_counts(7)]
        one.observe(a_look(number, stable, {f"c{i}": part for i, part in enumerate(parts)}))
        other.observe(a_look(number, stable, {f"x{i}": parts[i] for i in order}))
    assert other.odds == pytest.approx(one.odds, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(100, 600)), min_size=3, max_size=12
    )
)
def test_a_canary_with_no_failure_and_no_slow_request_is_never_rolled_back(looks):
    judge = a_judge()
    for number, (failures, slow, requests) in enumerate(looks):
        stable = {
            f"s{i}": some_counts(requests, min(failures, requests), slow=min(slow, requests))
            for i in range(2)
        }
        assert (
            verdict_after(
                judge, a_look(number, stable, {"c0": some_counts(50), "c1": some_counts(60)})
            ).answer
            is not Answer.FAIL
        )


def test_looks_are_judged_in_blocks_where_stable_s_trouble_lasts():
    service = Sampled(26)
    history = service.history(300)
    for start in range(10, 290, 40):
        for number in range(start, start + 6):
            look = history[number]
            history[number] = replace(
                look,
                stable={name: replace(one, failures=one.failures + 20) for name, one in look.stable.items()},
            )
    judge = a_judge(history=history)
    assert judge.errors.block > 10
    assert judge.latency.block == 1
    verdict = verdict_after(judge, service.look(10))
    assert any("blocks of" in note for note in verdict.notes)
    assert judge.errors.comparisons.stage.log_odds.tolist() == [0.0, 0.0]  # the block is not closed


def test_a_single_canary_replica_is_told_and_more_is_tolerated_of_it():
    one, three = Sampled(27, replicas=1), Sampled(27)
    borders = []
    for service in (one, three):
        judge = a_judge(history=service.history())
        verdict = verdict_after(judge, service.look(10))
        borders.append(judge.latency.borders(judge.latency.replicas))
        assert any("of one canary replica" in note for note in verdict.notes) == (service is one)
    # chances of more than a quarter over the border
    lucky = [np.exp(border.luck.log_chances)[:, 2:].sum(axis=1) for border in borders]
    assert (lucky[0] > 2 * lucky[1]).all()
    assert borders[0].unacceptable[BOUNDS.index(50.0)] > borders[1].unacceptable[BOUNDS.index(50.0)]


def test_a_mean_that_replicas_luck_explains_is_not_held_against_the_canary_however_long_it_lasts():
    """Stable's replicas differ by a fifth in latency; the canary's mean is a fifth above theirs, at each of
    300 looks."""

    def counts(factor: float) -> Counts:
        return some_counts(400, usual_ms=30.0 * factor)

    stable = {"s0": counts(0.8), "s1": counts(1.0), "s2": counts(1.2)}
    judge = a_judge({"latency": {}}, history=[a_look(-100 + number, stable, {}) for number in range(100)])
    for number in range(300):
        wobble = 1.0 + 0.01 * (number % 3)
        verdict = verdict_after(
            judge, a_look(number, stable, {"c0": counts(1.2 * wobble), "c1": counts(1.2)})
        )
        assert verdict.answer is not Answer.FAIL
    assert judge.latency.mean.log_odds < np.log(100)


def test_a_second_mode_inside_one_bucket_is_seen_by_the_mean():
    """Everything lies between two bounds; the canary takes twice as long. No bound sees it."""
    stable = {f"s{i}": some_counts(400, usual_ms=260.0) for i in range(3)}
    judge = a_judge({"latency": {}}, history=[a_look(-100 + number, stable, {}) for number in range(100)])
    for number in range(60):
        canary = {f"c{i}": some_counts(40, usual_ms=470.0 + number % 5) for i in range(3)}
        verdict = verdict_after(judge, a_look(number, stable, canary))
    assert verdict.answer is Answer.FAIL
    assert any(finding.what == "mean latency" for finding in verdict.findings)


def test_fewer_bounds_in_mid_rollout_forget_neither_limits_nor_what_replicas_differ_by():
    service = Sampled(61)
    judge = a_judge({"errors": {"max": "2%"}}, {"latency": {}}, history=service.history())
    for _ in range(12):
        verdict_after(judge, service.look(10))
    seen, odds, counted = (
        judge.siblings.replicas_seen,
        judge.guardrails.odds.copy(),
        judge.guardrails.counted.copy(),
    )
    look = service.look(10)
    fewer = {name: replace(one, within=one.within[1:]) for name, one in look.stable.items()}
    less = {name: replace(one, within=one.within[1:]) for name, one in look.canary.items()}
    verdict_after(judge, replace(look, bounds=BOUNDS[1:], stable=fewer, canary=less))
    assert judge.siblings.replicas_seen == seen == 3
    assert judge.guardrails.counted[1, 0] > counted[1, 0] > 0
    assert judge.guardrails.odds[0] == pytest.approx(odds[0], rel=0.5)


def test_assessments_without_details_are_the_same_assessments():
    """Also where looks are judged in blocks, and the lifecycle asks for findings at a deadline."""
    told, silent = (a_judge(history=Sampled(62).history()) for _ in range(2))
    service = Sampled(63, errors=0.02, more_errors=1.6)
    for _ in range(40):
        look = service.look(25)
        one, [other] = told.observe(look), observe_all([(silent, look)])
        assert (other.answer, other.odds, other.few_blocks) == (one.answer, one.odds, one.few_blocks)


def test_assessments_without_details_tell_too_that_latency_was_never_seen():
    judge, service = a_judge({"latency": {}}), Sampled(65)
    for _ in range(12):
        (verdict,) = observe_all([(judge, without_histogram(service.look(10)))])
    rollout = a_rollout(
        policy=judge.policy, phase=Phase.PROGRESSING, stage=0, weight=10, spans=(judge.span,), clock=1000.0
    )
    assert stage_signal(rollout, replace(verdict, at=verdict.at + 900), NOW) is Signal.STUCK


@pytest.mark.parametrize(
    ("replicas", "known"),
    [
        (
            1,
            "how far replicas differ in their {} is not known from one of stable, 7% is assumed; a ratio of "
            "up to ",
        ),
        (3, "3 replicas of stable differ by "),
    ],
)
def test_what_replicas_differ_by_is_assumed_where_stable_has_one(replicas, known):
    service = Sampled(64, replicas=replicas)
    judge = a_judge(history=service.history())
    notes = verdict_after(judge, service.look(10)).notes
    for metric, what in (("errors", "error rates"), ("latency", "shares slower than 100 ms")):
        (note,) = [note for note in notes if note.startswith(f"{metric}: ") and "luck of the draw" in note]
        assert note.startswith(f"{metric}: {known.format(what)}")
        assert (
            f"the luck of the draw of {replicas} and {replicas}, and is not held against the canary" in note
        )


def test_the_thousandth_look_costs_what_the_first_did():
    """Process time of 100 looks late against 100 looks early; three times would already be growth."""
    from time import process_time

    service = Sampled(28)
    judge = a_judge(history=service.history())
    spent = []
    for _ in range(10):
        looks = [service.look(10) for _ in range(100)]
        began = process_time()
        for look in looks:
            verdict_after(judge, look)
        spent.append(process_time() - began)
    assert spent[9] < 3 * min(spent[:3]) + 0.05


# ---------------------------------------------------------------- compared queries


COMPARED = {"query": {"name": "cost", "promql": 'sum(x{pod=~"$canary_pods"})', "compare": "higher-is-worse"}}
DRY = {"query": {**COMPARED["query"], "dryRun": True}}
PAST = {"cost of stable": [1.0, 1.05, 0.95] * 40}


def costs(number, factor=1.0):
    """The canary's and stable's, as they are asked in one look."""
    return {"cost": factor * (1 + 0.05 * (number % 3)), "cost of stable": 1 + 0.05 * ((number + 1) % 3)}


def a_comparing_judge(service, *metrics, **rest):
    """With a past of stable's values, and its first span open."""
    judge = Judge(a_ladder(*metrics), service.history())
    judge.remember(PAST)
    judge.open(Span(rest.get("stage", 0), rest.get("weight", 10), START))
    return judge


def test_a_compared_query_that_is_worse_is_rolled_back_with_its_numbers():
    service = Sampled(50)
    judge = a_comparing_judge(service, {"errors": {}}, {"latency": {}}, COMPARED)
    while verdict_after(judge, service.look(10), costs(service.number, 2.0)).answer is not Answer.FAIL:
        assert service.number < 150
    assert service.number - 120 <= 18
    assert last_verdict(judge).reason.startswith(
        "cost 2.11 against 1.05 in the mean of 14 looks (ratio 2.0; "
    )
    assert "10% more tolerated" in last_verdict(judge).reason
    assert last_verdict(judge).reason.endswith("rolled back at 100")
    finding = last_verdict(judge).findings[-1]
    assert (finding.metric, finding.what, finding.answer) == ("cost", "compared with stable", Answer.FAIL)
    assert finding.ratio == pytest.approx(2.0, rel=0.05)
    assert finding.odds >= finding.bar


def test_a_compared_query_s_weight_is_fixed_and_the_total_begins_even():
    judge = a_comparing_judge(Sampled(51), {"errors": {}}, {"latency": {}}, COMPARED)
    assert [metric.weight for metric in judge.metrics] == [pytest.approx(0.56), pytest.approx(0.24)]
    assert (judge.odds, judge.stage_odds) == (pytest.approx(1.0), pytest.approx(1.0))
    assert [metric.weight for metric in a_judge().metrics] == [pytest.approx(0.7), pytest.approx(0.3)]


def test_queries_alone_decide_with_all_of_the_weight():
    service = Sampled(52)
    judge = a_comparing_judge(service, COMPARED)
    assert judge.odds == pytest.approx(1.0)
    while verdict_after(judge, service.look(10), costs(service.number, 2.0)).answer is not Answer.FAIL:
        assert service.number < 140


def test_equal_costs_pass_once_both_are_known_and_not_under_suspicion():
    service = Sampled(53)
    judge = a_comparing_judge(service, ERRORS_ONLY, COMPARED)
    for _ in range(40):
        verdict = verdict_after(judge, service.look(10), {**costs(service.number), "cost of stable": None})
    assert verdict.answer is Answer.UNDECIDED
    assert "cost has no value of stable in this look to compare" in verdict.reason
    assert verdict_after(judge, service.look(10), costs(service.number)).answer is Answer.PASS
    for _ in range(8):
        verdict = verdict_after(judge, service.look(10), costs(service.number, 2.0))
    assert judge.compared.all[0].stage_odds >= 3
    assert verdict.answer is Answer.UNDECIDED


@pytest.mark.parametrize(("factor", "answer"), [(1.0, Answer.PASS), (1.3, Answer.UNDECIDED)])
def test_a_compared_query_that_is_worse_in_the_mean_does_not_pass_while_its_odds_are_small(factor, answer):
    """Without a past of stable's values the odds take longer than the stage's minimum to say so."""
    service = Sampled(58)
    judge = a_judge(ERRORS_ONLY, COMPARED, history=service.history())
    for _ in range(18):
        verdict = verdict_after(judge, service.look(10), costs(service.number, factor))
    assert verdict.findings[0].answer is Answer.PASS  # it is not for errors that it waits
    assert judge.compared.all[0].stage_odds < 3
    assert verdict.answer is answer


def test_a_dry_run_is_told_and_decides_nothing():
    service = Sampled(54)
    limited = {"query": {"name": "heap", "promql": 'max(y{pod=~"$canary_pods"})', "max": 1, "dryRun": True}}
    judge = a_comparing_judge(service, ERRORS_ONLY, DRY, limited)
    twin = a_judge(ERRORS_ONLY, history=Sampled(54).history())
    other = Sampled(54)
    other.history()
    for number in range(40):
        verdict = verdict_after(
            judge, service.look(10), {**costs(service.number, 2.0), "heap": 5.0 if number > 5 else None}
        )
        without = verdict_after(twin, other.look(10))
        assert (verdict.answer, verdict.odds, verdict.stage_odds) == (
            without.answer,
            without.odds,
            without.stage_odds,
        )
    assert verdict.answer is Answer.PASS
    compared, limits = verdict.findings[-2:]
    assert compared.dry_run
    assert limits.dry_run
    assert Answer.FAIL not in (compared.answer, limits.answer)
    assert compared.says.endswith("would roll back (dry run)")
    assert limits.says.endswith(", 34 of 3 looks in a row: would roll back (dry run)")
    told = [note for note in verdict.notes if "it is a dry run and decides nothing" in note]
    assert [note.split()[0] for note in told] == ["cost", "heap"]


def test_a_dry_run_without_a_value_holds_nothing_at_a_deadline():
    service = Sampled(55)
    judge = a_comparing_judge(service, ERRORS_ONLY, DRY)
    for _ in range(3):
        verdict = verdict_after(judge, service.look(10), {})
    assert verdict.findings[-1].answer is Answer.NO_DATA
    rollout = a_rollout(
        policy=judge.policy, phase=Phase.PROGRESSING, stage=0, weight=10, spans=(judge.span,), clock=1000.0
    )
    assert stage_signal(rollout, replace(verdict, at=verdict.at + 900), NOW) is Signal.LET_PASS


def test_nothing_is_compared_while_the_canary_warms_up_nor_at_full_weight():
    service = Sampled(56)
    judge = a_comparing_judge(service, ERRORS_ONLY, COMPARED)
    for _ in range(6):
        look = service.look(10)
        verdict_after(
            judge,
            replace(look, first_seen=dict.fromkeys(look.canary, float(service.now - 10))),
            costs(service.number, 2.0),
        )
    assert judge.compared.all[0].looks == 0
    judge.open(Span(3, 100, service.now))
    for _ in range(30):
        verdict = verdict_after(judge, service.look(100), {"cost": 2.0, "cost of stable": None})
    assert judge.compared.all[0].looks == 0
    assert all(finding.metric != "cost" for finding in verdict.findings)
    assert Answer.PASS is verdict_after(judge, replace(service.look(100), end=service.now + 900), {}).answer


def test_another_stable_version_begins_the_comparison_anew():
    service = Sampled(57)
    judge = a_comparing_judge(service, ERRORS_ONLY, COMPARED)
    for _ in range(8):
        verdict_after(judge, service.look(10), costs(service.number, 2.0))
    judge.open(Span(0, 10, service.now, fresh=True))
    assert judge.odds == pytest.approx(1.0)
    assert judge.compared.all[0].spread is None
    assert "too few values of stable before the rollout" in " ".join(
        verdict_after(judge, service.look(10), costs(service.number)).notes
    )
